//! `epoq-server`: an SQS server in one process.

use std::{
    io::{self, IsTerminal as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::Parser;
use epoq_server::{
    Config, Server,
    config::{LogFormat, Tls},
};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An SQS server in one process: point any AWS SDK or the aws CLI at it with --endpoint-url.
#[derive(Debug, Parser)]
#[command(name = "epoq-server", version, about)]
struct Arguments {
    /// A configuration file in TOML; what stands here or in the environment goes before it
    #[arg(long, short, env = "EPOQ_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address to listen on [default: 127.0.0.1:9324]
    #[arg(long, short, env = "EPOQ_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Threads that serve connections [default: one per core]
    #[arg(long, env = "EPOQ_THREADS", value_name = "N")]
    threads: Option<usize>,
    /// The region of ARNs where a request's signature names none [default: us-east-1]
    #[arg(long, env = "EPOQ_REGION")]
    region: Option<String>,
    /// The account of all queues, twelve digits [default: 000000000000]
    #[arg(long, env = "EPOQ_ACCOUNT")]
    account: Option<String>,
    /// What queue URLs begin with [default: what the request's Host says]
    #[arg(long, env = "EPOQ_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,
    /// Keep SQS's rests of 60 seconds: between purges, and before a deleted queue's name is taken again
    #[arg(long, env = "EPOQ_COOLDOWNS", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    cooldowns: Option<bool>,
    /// Memory for messages, in MiB [default: 1024]
    #[arg(long, env = "EPOQ_MEMORY_MIB", value_name = "MIB")]
    memory_mib: Option<u64>,
    /// The certificate chain, in PEM; makes it HTTPS
    #[arg(long, env = "EPOQ_TLS_CERTIFICATE", value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The private key, in PEM
    #[arg(long, env = "EPOQ_TLS_KEY", value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or directives [default: info]
    #[arg(long, env = "EPOQ_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// How to log [default: text]
    #[arg(long, env = "EPOQ_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

impl Arguments {
    /// The file's configuration with what is given here in its place.
    fn config(self) -> Result<Config> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        fn set<T>(field: &mut T, given: Option<T>) {
            if let Some(given) = given {
                *field = given;
            }
        }
        set(&mut config.listen, self.listen);
        set(&mut config.region, self.region);
        set(&mut config.account, self.account);
        set(&mut config.cooldowns, self.cooldowns);
        set(&mut config.memory_mib, self.memory_mib);
        set(&mut config.log.filter, self.log);
        set(&mut config.log.format, self.log_format);
        config.threads = self.threads.or(config.threads);
        config.public_url = self.public_url.or(config.public_url);
        if let (Some(certificate), Some(key)) = (self.tls_certificate, self.tls_key) {
            config.tls = Some(Tls::new(certificate, key));
        }
        Ok(config)
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("epoq-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let config = arguments.config()?;
    log(&config)?;
    let is_open = config.is_open_to_all();
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    // Before anything is listened to, so that no signal is lost.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ending = runtime.block_on(async { Ending::new() })?;

    let running = Server::new(config).start()?;
    let address = running.address();
    if is_open {
        warn_that_it_is_open(address);
    }
    tracing::info!(%address, "listening");
    // For whoever started it, on standard output: logs go to standard error.
    let _ = writeln!(io::stdout(), "listening on {scheme}://{address}");
    let signal = runtime.block_on(ending.come());
    tracing::info!(signal, "ending");
    running.shutdown();
    tracing::info!("ended");
    Ok(())
}

fn log(config: &Config) -> Result<()> {
    let filter = EnvFilter::try_new(&config.log.filter)
        .with_context(|| format!("log filter {:?}", config.log.filter))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match config.log.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

/// Whoever can reach the address can read, send and delete everything: nobody should find that out by chance.
fn warn_that_it_is_open(address: SocketAddr) {
    tracing::warn!(
        %address,
        "OPEN TO ALL: everybody who can reach this address can read, send and delete all messages. \
         Listen on 127.0.0.1, or configure auth.keys."
    );
    eprintln!(
        "\n\
         ************************************************************************\n\
         *  WARNING: listening on {address} without any authentication.\n\
         *  Everybody who can reach this address can read, send and delete all\n\
         *  messages. Listen on 127.0.0.1, or configure keys under [auth.keys].\n\
         ************************************************************************\n"
    );
}

/// The signals that end a server.
#[cfg(unix)]
struct Ending {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Ending {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn come(mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The signals that end a server.
#[cfg(not(unix))]
struct Ending;

#[cfg(not(unix))]
impl Ending {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn come(self) -> &'static str {
        let _ = tokio::signal::ctrl_c().await;
        "Ctrl-C"
    }
}
