//! Servers in processes of their own: so that their time can be told from the harness's.

use std::{
    ffi::OsStr,
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use epoq_server::{Config, Server};

use super::{
    client::Address,
    echo::{self, Script},
};
use crate::suite::usage;

/// `epoq-bench wire-serve`: what this program is when it is a server under test.
#[derive(Clone, Copy, Debug, Args)]
pub struct Serve {
    /// Which server
    pub kind: Kind,
    /// Threads that serve connections
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = crate::cli::count::<1024>)]
    pub threads: usize,
}

/// A server that this program can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// epoq-server
    Epoq,
    /// The ceiling; its answers come as JSON on the first line of standard input
    Echo,
}

/// Serves until standard input ends: a parent that is gone takes its servers along.
pub(crate) fn serve(options: Serve) -> anyhow::Result<()> {
    let mut input = BufReader::new(io::stdin());
    let (address, running) = match options.kind {
        Kind::Epoq => {
            let mut config = Config::default();
            config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            config.threads = Some(options.threads);
            let running = Server::new(config).start()?;
            (running.address(), Some(running))
        }
        Kind::Echo => {
            let mut line = String::new();
            input.read_line(&mut line)?;
            let script: Script = serde_json::from_str(&line).context("the answers on standard input")?;
            (echo::start(script, options.threads)?, None)
        }
    };
    println!("http://{address}");
    io::copy(&mut input, &mut io::sink())?;
    if let Some(running) = running {
        running.shutdown();
    }
    Ok(())
}

/// A server that was started for a run; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Started {
    child: Child,
    pub(super) address: Address,
}

impl Started {
    /// This program as a server, with `input` as the first line that it reads.
    pub(super) fn own(kind: Kind, threads: usize, input: &str) -> anyhow::Result<Self> {
        let name = match kind {
            Kind::Epoq => "epoq",
            Kind::Echo => "echo",
        };
        let program = std::env::current_exe().context("this program does not know its own path")?;
        let mut child = apart(Command::new(program))
            .args(["wire-serve", name, "--threads", &threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("this program cannot be started again")?;
        let address = (|| {
            let stdin = child.stdin.as_mut().context("no standard input")?;
            writeln!(stdin, "{input}")?;
            let stdout = child.stdout.as_mut().context("no standard output")?;
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line)?;
            Address::parse(line.trim()).context("the server did not start")
        })();
        match address {
            Ok(address) => Ok(Self { child, address }),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    /// moto's server, by the path of its program.
    pub(super) fn moto(program: &Path) -> anyhow::Result<Self> {
        const START_MAX: Duration = Duration::from_secs(60);
        // Free now; it tells nobody which port it would have chosen by itself.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let child = apart(Command::new(program))
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| program.display().to_string())?;
        let mut started = Self {
            child,
            address: Address::parse(&format!("http://127.0.0.1:{port}"))?,
        };
        let since = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(status) = started.child.try_wait()? {
                bail!("{}: {status}", program.display());
            }
            if since.elapsed() > START_MAX {
                bail!("{}: does not listen", program.display());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(started)
    }

    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // The end of its input asks our own kind to end.
        drop(self.child.stdin.take());
        end(&mut self.child);
    }
}

/// Ctrl-C on a terminal is for this process alone: it ends its servers itself, after the pass that it is at.
fn apart(mut command: Command) -> Command {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
}

fn end(child: &mut Child) {
    // Nothing it has is worth waiting for. It is gone already if this fails.
    let _ = child.kill();
    let _ = child.wait();
}

/// Processor time that a process has taken so far, its threads that have ended included; `None` where the system does not tell.
pub(super) fn cpu_time(process: u32) -> Option<Duration> {
    parse_cpu_time(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

fn parse_cpu_time(stat: &str) -> Option<Duration> {
    /// The unit in `/proc`: a hundredth of a second on every architecture in use.
    const TICK_MS: u64 = 10;
    Some(Duration::from_millis(
        usage::own_ticks(stat)?.checked_mul(TICK_MS)?,
    ))
}

/// Where moto's server is: the given path, or for `auto` the one that `cargo xtask wire` installs, or that is on the path. The error says
/// in one line why there is none.
pub(super) fn find_moto(given: &Path) -> Result<PathBuf, String> {
    let name = format!("moto_server{}", std::env::consts::EXE_SUFFIX);
    if given != Path::new("auto") {
        return if given.is_file() {
            Ok(given.to_owned())
        } else {
            Err(format!("moto: skipped, there is no {}", given.display()))
        };
    }
    let beside = std::env::current_exe().ok().and_then(|program| {
        // target/release/epoq-bench
        let target = program.parent()?.parent()?;
        let folder = if cfg!(windows) { "Scripts" } else { "bin" };
        Some(target.join("clients/moto").join(folder))
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(OsStr::new(&name)))
        .find(|program| program.is_file())
        .ok_or_else(|| {
            "moto: skipped, its server is not installed; `cargo xtask wire` does that where there is Python"
                .to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_from_behind_the_name() {
        let stat = "12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        assert_eq!(parse_cpu_time(stat), Some(Duration::from_secs(2)));
        assert_eq!(parse_cpu_time("12 (a) S 1"), None);
        assert_eq!(parse_cpu_time(""), None);
    }

    #[test]
    fn moto_that_is_not_there_is_skipped_with_a_line() {
        let line = find_moto(Path::new("/nowhere/moto_server")).unwrap_err();
        assert!(
            line.starts_with("moto: skipped") && !line.contains('\n'),
            "{line}"
        );
    }
}
