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
    config::{Auth, Limits, LogFormat, Tls},
};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An SQS server in one process: point any AWS SDK or the aws CLI at it with --endpoint-url.
// Not Debug: it has secrets.
#[derive(Parser)]
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
    /// Memory for messages, in MiB; all queues' tags and attributes may take a quarter as much besides [default: 1024]
    #[arg(long, env = "EPOQ_MEMORY_MIB", value_name = "MIB")]
    memory_mib: Option<u64>,
    /// Queues there may be [default: 100000]
    #[arg(long, env = "EPOQ_QUEUES_MAX", value_name = "N")]
    queues_max: Option<usize>,
    #[command(flatten)]
    limits: LimitArguments,
    /// Access keys that requests have to be signed with [default: none]. Better given by the environment: others on the machine can read
    /// command lines
    #[arg(
        long,
        env = "EPOQ_AUTH_KEYS",
        hide_env_values = true,
        value_name = "ID=SECRET,ID=SECRET,..."
    )]
    auth_keys: Option<String>,
    /// How far a signature's moment may be from now, in seconds [default: 900]
    #[arg(long, env = "EPOQ_AUTH_SKEW_S", value_name = "SECONDS")]
    auth_skew_s: Option<u64>,
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

/// What a client may ask of the server.
#[derive(clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArguments {
    /// Longest head of a request [default: 65536]
    #[arg(long, env = "EPOQ_LIMITS_HEAD_BYTES", value_name = "BYTES")]
    limits_head_bytes: Option<usize>,
    /// Longest body of a request [default: 8388608]
    #[arg(long, env = "EPOQ_LIMITS_BODY_BYTES", value_name = "BYTES")]
    limits_body_bytes: Option<usize>,
    /// Bodies and answers under way on all connections together, in MiB [default: 512]
    #[arg(long, env = "EPOQ_LIMITS_BODIES_MIB", value_name = "MIB")]
    limits_bodies_mib: Option<usize>,
    /// Connections at a time [default: 20000]
    #[arg(long, env = "EPOQ_LIMITS_CONNECTIONS", value_name = "N")]
    limits_connections: Option<usize>,
    /// For a complete head of a request to come [default: 60]
    #[arg(long, env = "EPOQ_LIMITS_IDLE_S", value_name = "SECONDS")]
    limits_idle_s: Option<u64>,
    /// For a request's body to come [default: 30]
    #[arg(long, env = "EPOQ_LIMITS_BODY_S", value_name = "SECONDS")]
    limits_body_s: Option<u64>,
    /// For a client to read on, and for all of an answer beyond what 64 KiB a second take [default: 30]
    #[arg(long, env = "EPOQ_LIMITS_STALL_S", value_name = "SECONDS")]
    limits_stall_s: Option<u64>,
    /// For open connections when the server ends [default: 10]
    #[arg(long, env = "EPOQ_LIMITS_SHUTDOWN_S", value_name = "SECONDS")]
    limits_shutdown_s: Option<u64>,
}

impl LimitArguments {
    fn set(self, limits: &mut Limits) {
        set(&mut limits.head_bytes, self.limits_head_bytes);
        set(&mut limits.body_bytes, self.limits_body_bytes);
        set(&mut limits.bodies_mib, self.limits_bodies_mib);
        set(&mut limits.connections, self.limits_connections);
        set(&mut limits.idle_s, self.limits_idle_s);
        set(&mut limits.body_s, self.limits_body_s);
        set(&mut limits.stall_s, self.limits_stall_s);
        set(&mut limits.shutdown_s, self.limits_shutdown_s);
    }
}

/// Puts what is given in a field's place.
fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *field = given;
    }
}

impl Arguments {
    /// The file's configuration with what is given here in its place.
    fn config(self) -> Result<Config> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        set(&mut config.listen, self.listen);
        set(&mut config.region, self.region);
        set(&mut config.account, self.account);
        set(&mut config.cooldowns, self.cooldowns);
        set(&mut config.memory_mib, self.memory_mib);
        set(&mut config.queues_max, self.queues_max);
        self.limits.set(&mut config.limits);
        set(&mut config.log.filter, self.log);
        set(&mut config.log.format, self.log_format);
        config.threads = self.threads.or(config.threads);
        config.public_url = self.public_url.or(config.public_url);
        if let (Some(certificate), Some(key)) = (self.tls_certificate, self.tls_key) {
            config.tls = Some(Tls::new(certificate, key));
        }
        if let Some(text) = self.auth_keys {
            let skew_s = config.auth.as_ref().map(|auth| auth.skew_s);
            let auth = config.auth.insert(Auth::parse(&text)?);
            set(&mut auth.skew_s, skew_s);
        }
        if let Some(skew_s) = self.auth_skew_s {
            let auth = config.auth.as_mut();
            auth.context("auth.skew-s: says nothing without auth.keys")?
                .skew_s = skew_s;
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

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::CommandFactory as _;

    use super::*;

    fn config(arguments: &[&str]) -> Result<Config> {
        let arguments = [&["epoq-server"][..], arguments].concat();
        Arguments::try_parse_from(arguments)?.config()
    }

    /// Scalars that a file can have, by their names there.
    const FIELDS: &[&str] = &[
        "queues-max",
        "limits.head-bytes",
        "limits.body-bytes",
        "limits.bodies-mib",
        "limits.connections",
        "limits.idle-s",
        "limits.body-s",
        "limits.stall-s",
        "limits.shutdown-s",
        "auth.keys",
        "auth.skew-s",
    ];

    #[test]
    fn what_a_file_can_have_the_environment_can_too() {
        let command = Arguments::command();
        for field in FIELDS {
            let long = field.replace('.', "-");
            let argument = command
                .get_arguments()
                .find(|argument| argument.get_long() == Some(long.as_str()));
            let argument = argument.unwrap_or_else(|| panic!("no --{long}"));
            let variable = format!("EPOQ_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(argument.get_env(), Some(variable.as_ref()));
        }
    }

    #[test]
    fn arguments_go_before_the_file() {
        let path = std::env::temp_dir().join(format!("epoq-arguments-{}.toml", std::process::id()));
        let text =
            "queues-max = 1\n[limits]\nidle-s = 1\nbody-s = 2\n[auth]\nskew-s = 3\nkeys = { A = \"s\" }";
        fs::write(&path, text).unwrap();
        let file = path.to_str().unwrap();
        let config = config(&[
            "--config",
            file,
            "--queues-max=5",
            "--limits-idle-s=6",
            "--auth-keys=B=t",
        ]);
        fs::remove_file(&path).unwrap();
        let config = config.unwrap();
        let auth = config.auth.unwrap();
        assert_eq!(
            (
                config.queues_max,
                config.limits.idle_s,
                config.limits.body_s,
                auth.skew_s
            ),
            (5, 6, 2, 3)
        );
        assert_eq!(auth.keys.keys().collect::<Vec<_>>(), ["B"]);
    }

    #[test]
    fn secrets_are_repeated_nowhere() {
        let error = config(&["--auth-keys=secret"]).unwrap_err();
        assert!(!format!("{error:#}").contains("secret"), "{error:#}");
        assert!(config(&["--auth-skew-s=1"]).is_err());
    }
}
