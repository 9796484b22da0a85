//! The server's program, in a process of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// A process that is killed if it is still there at the end.
pub(crate) struct Process {
    child: Child,
    address: SocketAddr,
    log: Option<JoinHandle<String>>,
}

impl Process {
    /// On a free port, after what the shell is told `before`, in an environment with `variables`.
    pub(crate) fn start(before: &str, variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new("sh")
            .args([
                "-c",
                &format!("{before}\nexec \"$0\" --listen 127.0.0.1:0 --threads 2"),
            ])
            .arg(env!("CARGO_BIN_EXE_epoq-server"))
            .envs(variables.iter().copied())
            .env("EPOQ_LOG", "warn")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut errors = child.stderr.take().expect("it is piped");
        let log = thread::spawn(move || {
            let mut log = String::new();
            errors.read_to_string(&mut log).expect("text");
            log
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped"))
            .read_line(&mut line)
            .expect("a line");
        let address = line.trim().rsplit('/').next().and_then(|text| text.parse().ok());
        Self {
            address: address.unwrap_or_else(|| panic!("no address: {line:?}")),
            child,
            log: Some(log),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Memory that it takes, in MiB, where the system says so.
    pub(crate) fn resident_mib(&self) -> Option<u64> {
        self.status_mib("VmRSS:")
    }

    /// The most that it ever took.
    pub(crate) fn resident_most_mib(&self) -> Option<u64> {
        self.status_mib("VmHWM:")
    }

    fn status_mib(&self, name: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with(name))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib >> 10)
    }

    /// Asks it to end, as an operator would.
    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
    }

    /// Waits for its end: the exit code, and what it has logged.
    pub(crate) fn wait(mut self, most: Duration) -> (Option<i32>, String) {
        let until = Instant::now() + most;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a process") {
                break status;
            }
            assert!(Instant::now() < until, "it still runs after {most:?}");
            thread::sleep(Duration::from_millis(10));
        };
        let log = self.log.take().map(|log| log.join().expect("no panic"));
        (status.code(), log.unwrap_or_default())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
