//! Cargo calls, with the flags and the target directory each build needs.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{self, Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fmt, fs};

use anyhow::{Context, Result, ensure};

use crate::steps::Outcome;

/// What builds all that `cargo xtask test` runs but the models, and the programs those tests call.
pub(crate) const BUILD_TESTS: &[&str] = &[
    "test",
    "--quiet",
    "--no-run",
    "--workspace",
    "--exclude",
    "epoq-loom",
];

/// Flags of the loom build.
const LOOM_FLAGS: &[&str] = &["--cfg", "loom"];
/// Flags of the loom build with the collector itself. They turn on crossbeam-epoch's `loom` feature in the ledger's manifest.
const COLLECTOR_FLAGS: &[&str] = &["--cfg", "loom", "--cfg", "crossbeam_loom"];

/// In the environment, for a machine that runs the checks once and has little room on its disk.
const SWEEP: &str = "EPOQ_SWEEP";

/// Flags of the build that counts cache lines.
const LINES_FLAGS: &[&str] = &["--cfg", "lines"];

#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    /// Whether a build goes when the last step with it is over.
    sweeps: bool,
}

impl Workspace {
    /// The workspace this program belongs to.
    pub(crate) fn find() -> Result<Self> {
        // Cargo sets it for what it runs; the compiled-in one is for calling the binary directly.
        let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest)
            .parent()
            .context("xtask/ lies in the workspace root")?
            .to_owned();
        ensure!(
            root.join("Cargo.toml").is_file(),
            "no workspace in {}",
            root.display()
        );
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(target) => path::absolute(target).context("CARGO_TARGET_DIR")?,
            None => root.join("target"),
        };
        let sweeps = env::var_os(SWEEP).is_some_and(|value| value == "1");
        Ok(Self { root, target, sweeps })
    }

    /// No later step of this command needs the build in this directory of the target directory.
    pub(crate) fn done_with(&self, directory: &str) {
        let build = self.target.join(directory);
        if !self.sweeps || !build.is_dir() {
            return;
        }
        match fs::remove_dir_all(&build) {
            Ok(()) => println!("    removed {}", build.display()),
            // Only room was to be won.
            Err(error) => println!("    not removed: {}: {error}", build.display()),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Cargo, in the workspace root.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(arguments)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target);
        cargo
    }

    /// Cargo for the loom build.
    pub(crate) fn cargo_loom(&self, arguments: &[&str]) -> Command {
        self.cargo_with(LOOM_FLAGS, "loom", arguments)
    }

    /// The same for the models that run the collector itself.
    pub(crate) fn cargo_collector(&self, arguments: &[&str]) -> Command {
        self.cargo_with(COLLECTOR_FLAGS, "loom-epoch", arguments)
    }

    /// Cargo for a build with flags of its own, and a target directory of its own so that the builds do not undo each other.
    pub(crate) fn cargo_with(&self, flags: &[&str], target: &str, arguments: &[&str]) -> Command {
        let mut cargo = self.cargo(arguments);
        cargo.arg("--target-dir").arg(self.target.join(target));
        append_flags(&mut cargo, "RUSTFLAGS", flags);
        // Else the examples in the documentation of the runner would not be seen.
        append_flags(&mut cargo, "RUSTDOCFLAGS", flags);
        cargo
    }

    /// Cargo for the build that counts cache lines, as [`Self::cargo_loom`] for the models; its speed is not what is measured.
    pub(crate) fn cargo_lines(&self, arguments: &[&str]) -> Command {
        let mut cargo = self.cargo(arguments);
        cargo.arg("--target-dir").arg(self.target.join("lines"));
        cargo.args(["--config", "profile.release.opt-level=2"]);
        append_flags(&mut cargo, "RUSTFLAGS", LINES_FLAGS);
        cargo
    }

    /// Why to skip a step whose toolchain component is not installed.
    pub(crate) fn without_component(&self, subcommand: &str, component: &str) -> Option<Outcome> {
        let version = self
            .cargo(&[subcommand, "--version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let installed = version.is_ok_and(|status| status.success());
        let hint = || format!("{component} is not installed (rustup component add {component})");
        (!installed).then(|| Outcome::Skipped(hint()))
    }
}

/// Appends to the flags that the command has in `variable`, or the caller's environment in its encoded form, which cargo
/// prefers.
pub(crate) fn append_flags(cargo: &mut Command, variable: &str, flags: &[&str]) {
    let encoded = format!("CARGO_ENCODED_{variable}");
    let (variable, separator) = match env::var_os(&encoded) {
        Some(_) => (encoded.as_str(), "\x1f"),
        None => (variable, " "),
    };
    let appended = cargo
        .get_envs()
        .find(|(name, _)| *name == variable)
        .and_then(|(_, value)| value?.to_str());
    let mut all = appended.map_or_else(|| env::var(variable).unwrap_or_default(), str::to_owned);
    for flag in flags {
        if !all.is_empty() {
            all.push_str(separator);
        }
        all.push_str(flag);
    }
    cargo.env(variable, all);
}

/// Prints a command, runs it with the terminal as its own, and demands that it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<Outcome> {
    println!("    {}", shown(command));
    let status = command.status().context("cargo does not start")?;
    ensure!(status.success(), "cargo {status}");
    Ok(Outcome::Passed)
}

/// Prints a command, runs it, and says whether it succeeded: for what may be missing.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    println!("    {}", shown(command));
    let status = command
        .stdin(Stdio::null())
        .status()
        .context("it does not start")?;
    Ok(status.success())
}

/// How many tests there were.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) passed: u64,
    ignored: u64,
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tests", self.passed)?;
        match self.ignored {
            0 => Ok(()),
            ignored => write!(f, ", {ignored} ignored"),
        }
    }
}

impl std::ops::AddAssign for Counted {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.ignored += other.ignored;
    }
}

impl Counted {
    /// Adds what a test binary says in its last line; other lines say nothing.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let number = |what: &str| {
            let (before, _) = result.split_once(what)?;
            before
                .rsplit([' ', '.'])
                .find(|word| !word.is_empty())?
                .parse::<u64>()
                .ok()
        };
        self.passed += number(" passed").unwrap_or(0);
        self.ignored += number(" ignored").unwrap_or(0);
    }
}

/// As [`run`], for `cargo test`: what it prints is passed on, and its tests are counted.
pub(crate) fn run_counted(command: &mut Command) -> Result<Counted> {
    run_read(command, |_| ())
}

/// As [`run_counted`], with each line shown to `read`.
pub(crate) fn run_read(command: &mut Command, mut read: impl FnMut(&str)) -> Result<Counted> {
    println!("    {}", shown(command));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo does not start")?;
    let mut counted = Counted::default();
    let output = child.stdout.take().context("cargo's output is piped")?;
    for line in BufReader::new(output).lines() {
        let line = line.context("cargo's output")?;
        // A closed terminal must not end the run.
        let _ = writeln!(std::io::stdout(), "{line}");
        counted.add(&line);
        read(&line);
    }
    let status = child.wait()?;
    ensure!(status.success(), "cargo {status}");
    Ok(counted)
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let quoted = |text: &OsStr| {
        let text = text.to_string_lossy();
        if text.contains([' ', '"']) {
            format!("'{text}'")
        } else {
            text.into_owned()
        }
    };
    let mut words: Vec<String> = command
        .get_envs()
        .filter(|(name, _)| *name != "CARGO_TARGET_DIR")
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_string_lossy(), quoted(value?))))
        .collect();
    let program = Path::new(command.get_program());
    words.push(
        program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    );
    words.extend(command.get_args().map(quoted));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_over_all_binaries() {
        let mut counted = Counted::default();
        for line in [
            "running 3 tests",
            "test result: ok. 59 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 6.34s",
            "test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.57s",
        ] {
            counted.add(line);
        }
        assert_eq!(
            counted,
            Counted {
                passed: 60,
                ignored: 2
            }
        );
        assert_eq!(counted.to_string(), "60 tests, 2 ignored");
    }

    #[test]
    fn only_a_sweeping_workspace_removes_a_build() {
        let target = env::temp_dir().join(format!("xtask-sweep-{}", std::process::id()));
        let build = target.join("clients/rust");
        fs::create_dir_all(build.join("debug")).unwrap();
        for sweeps in [false, true] {
            let workspace = Workspace {
                root: target.clone(),
                target: target.clone(),
                sweeps,
            };
            workspace.done_with("clients/rust");
            workspace.done_with("never built");
            assert_eq!(build.exists(), !sweeps);
            assert!(target.join("clients").exists());
        }
        fs::remove_dir_all(&target).unwrap();
    }

    #[test]
    fn flags_are_appended_and_not_replaced() {
        let mut cargo = Command::new("cargo");
        cargo.env("XTASK_TEST_FLAGS", "-C debuginfo=0");
        append_flags(&mut cargo, "XTASK_TEST_FLAGS", LOOM_FLAGS);
        append_flags(&mut cargo, "XTASK_TEST_FLAGS", &["-D", "warnings"]);
        let flags = cargo.get_envs().find_map(|(_, value)| value);
        assert_eq!(flags.unwrap(), "-C debuginfo=0 --cfg loom -D warnings");
    }
}
