//! The models: built once, and run without a mutant to learn what each reaches and how long it takes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One test that explores models.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    /// The file in `loom-tests/tests`, without its ending.
    pub(crate) file: String,
    pub(crate) name: String,
    binary: PathBuf,
    /// Sites that it reaches.
    pub(crate) reached: BTreeSet<usize>,
    /// How long it takes without a mutant.
    pub(crate) time: Duration,
}

/// What a run without a mutant has told, or that the test explores no model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Sites that it reaches, and how long it takes in seconds.
    explored: Option<(BTreeSet<usize>, f64)>,
}

/// What became of one run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Passed,
    /// The first panic, or how the process died.
    Failed(String),
    /// No verdict: out of time, or loom gave up.
    NoEnd(String),
}

/// What the runner says when a model explored too little. No error of the ledger's: a weaker fence may leave loom with fewer
/// executions to try.
const EXPLORED_LESS: &[&str] = &["fewer than the expected", "legal outcomes never seen"];
/// What it says of a model that passed.
const EXPLORED: &str = " executions, bound ";
/// What loom says when an execution does not end.
const ENDLESS: &str = "Model exceeded maximum number of branches";
/// The tests of the runner itself, which are not about the ledger.
const RUNNER: &str = "runner";
const POLL_INTERVAL: Duration = Duration::from_millis(3);

/// Which of the two builds of the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    /// The one of most: what is retired stays until the model is over, and a ready word has one token.
    Graveyard,
    /// With the epoch crate itself, and words of two tokens: of those files that are empty otherwise.
    Collector,
}

impl Build {
    /// The directory below `target` where `cargo xtask loom` builds it too, for the sake of the dependencies.
    fn directory(self) -> &'static str {
        match self {
            Self::Graveyard => "loom",
            Self::Collector => "loom-epoch",
        }
    }

    fn flags(self) -> &'static str {
        match self {
            Self::Graveyard => "--cfg loom --cap-lints warn -A warnings",
            Self::Collector => "--cfg loom --cfg crossbeam_loom --cap-lints warn -A warnings",
        }
    }
}

/// What opens a file of models that is empty but for the build with the collector.
const WITH_COLLECTOR: &str = "#![cfg(all(loom, crossbeam_loom))]";

/// The files of models of a build.
fn files(copy: &Path, build: Build) -> Result<Vec<String>> {
    let tests = copy.join("loom-tests/tests");
    let mut files = Vec::new();
    for entry in fs::read_dir(&tests).with_context(|| tests.display().to_string())? {
        let path = entry.with_context(|| tests.display().to_string())?.path();
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else {
            continue;
        };
        if path.extension().is_none_or(|extension| extension != "rs") || name == RUNNER {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        if text.contains(WITH_COLLECTOR) == (build == Build::Collector) {
            files.push(name.to_owned());
        }
    }
    files.sort();
    Ok(files)
}

/// Cargo, for a loom build of the copy: as `cargo xtask loom` builds the models.
fn cargo(copy: &Path, target: &Path, build: Build, files: &[String]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["test", "--package", "epoq-loom", "--no-run", "--release"])
        .args(["--config", "profile.release.debug-assertions=true"])
        .args(["--config", "profile.release.debug=false"])
        .args(["--config", "profile.release.opt-level=1"])
        .args(["--config", "profile.release.package.\"*\".opt-level=3"])
        .args(["--message-format", "json-render-diagnostics"])
        .args(files.iter().flat_map(|file| ["--test", file]))
        .arg("--target-dir")
        .arg(target.join(build.directory()))
        .env("RUSTFLAGS", build.flags())
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(copy);
    cargo
}

/// Builds the copy both ways, or only some files of models, and lists its tests.
pub(crate) fn build(copy: &Path, target: &Path, only: Option<&[&str]>) -> Result<Vec<Model>> {
    let mut models = Vec::new();
    for build in [Build::Graveyard, Build::Collector] {
        let mut files = files(copy, build)?;
        files.retain(|file| only.is_none_or(|only| only.contains(&file.as_str())));
        if !files.is_empty() {
            models.extend(build_one(copy, target, build, &files)?);
        }
    }
    Ok(models)
}

fn build_one(copy: &Path, target: &Path, build: Build, files: &[String]) -> Result<Vec<Model>> {
    let output = cargo(copy, target, build, files)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo does not start")?;
    ensure!(output.status.success(), "the mutated copy does not build");
    let mut models = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let is_test = message["profile"]["test"].as_bool() == Some(true);
        let (Some(binary), Some(file)) = (message["executable"].as_str(), message["target"]["name"].as_str())
        else {
            continue;
        };
        let is_file = message["target"]["kind"]
            .as_array()
            .is_some_and(|kinds| kinds.iter().any(|kind| kind == "test"));
        if !is_test || !is_file || file == RUNNER {
            continue;
        }
        let list = Command::new(binary)
            .args(["--list", "--format", "terse"])
            .output()
            .with_context(|| binary.to_owned())?;
        for test in String::from_utf8_lossy(&list.stdout).lines() {
            if let Some(name) = test.strip_suffix(": test") {
                models.push(Model {
                    file: file.to_owned(),
                    name: name.to_owned(),
                    binary: binary.into(),
                    reached: BTreeSet::new(),
                    time: Duration::ZERO,
                });
            }
        }
    }
    ensure!(!models.is_empty(), "no test was built");
    Ok(models)
}

impl Model {
    /// Runs the model without a mutant: what it reaches, and how long it takes.
    pub(crate) fn measure(&self, folder: &Path, bound: &str) -> Result<Measured> {
        let reached = folder.join(format!("{}-{}.reached", self.file, self.name));
        let log = folder.join(format!("{}-{}.log", self.file, self.name));
        if reached.exists() {
            fs::remove_file(&reached).with_context(|| reached.display().to_string())?;
        }
        let start = Instant::now();
        let mut child = self.start(&log, bound, &[("EPOQ_REACHED", reached.as_os_str().to_owned())])?;
        let status = child.wait().context("the model ends")?;
        let seconds = start.elapsed().as_secs_f64();
        let output = fs::read_to_string(&log).with_context(|| log.display().to_string())?;
        ensure!(
            status.success(),
            "{} fails without a mutant:\n{output}",
            self.name
        );
        if !output.contains(EXPLORED) {
            return Ok(Measured { explored: None });
        }
        let numbers = fs::read_to_string(&reached).unwrap_or_default();
        let reached = numbers.lines().map(str::parse).collect::<Result<_, _>>()?;
        Ok(Measured {
            explored: Some((reached, seconds)),
        })
    }

    /// The model with what was measured; `None` for a test that explores none, such as a twin.
    pub(crate) fn with(self, measured: Measured) -> Option<Self> {
        let (reached, seconds) = measured.explored?;
        Some(Self {
            reached,
            time: Duration::from_secs_f64(seconds),
            ..self
        })
    }

    /// Runs the model with a mutant.
    pub(crate) fn run(&self, mutant: &str, log: &Path, bound: &str, limit: Duration) -> Result<Ending> {
        let start = Instant::now();
        let mut child = self.start(log, bound, &[("EPOQ_MUTANT", mutant.into())])?;
        let status = loop {
            if let Some(status) = child.try_wait().context("the model ends")? {
                break status;
            }
            if start.elapsed() > limit {
                child.kill().context("the model can be killed")?;
                child.wait().context("the model ends")?;
                return Ok(Ending::NoEnd(format!("no end within {} s", limit.as_secs())));
            }
            thread::sleep(POLL_INTERVAL);
        };
        if status.success() {
            return Ok(Ending::Passed);
        }
        // What a wild pointer printed need not be text.
        let output = fs::read(log).with_context(|| log.display().to_string())?;
        Ok(judged(&String::from_utf8_lossy(&output), &status.to_string()))
    }

    fn start(&self, log: &Path, bound: &str, variables: &[(&str, std::ffi::OsString)]) -> Result<Child> {
        let file = File::create(log).with_context(|| log.display().to_string())?;
        let mut command = Command::new(&self.binary);
        command
            .args([&self.name, "--exact", "--nocapture", "--test-threads=1"])
            .env_remove("EPOQ_MUTANT")
            .env("EPOQ_NO_TWINS", "1")
            .env("LOOM_MAX_PREEMPTIONS", bound)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("a second handle of the log")?)
            .stderr(file);
        for (name, value) in variables {
            command.env(name, value);
        }
        command.spawn().with_context(|| self.binary.display().to_string())
    }
}

/// What a failed run's output says.
fn judged(output: &str, status: &str) -> Ending {
    // Only the first panic counts: those after it come from unwinding out of a half finished execution.
    let Some((_, panicked)) = output.split_once("panicked at ") else {
        return Ending::Failed(format!("died: {status}"));
    };
    let mut lines = panicked.lines();
    let place = lines.next().unwrap_or_default();
    let message: Vec<&str> = lines
        .take(3)
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("note: run with"))
        .collect();
    let message = message.join(" ");
    if EXPLORED_LESS.iter().any(|less| message.contains(less)) {
        return Ending::Passed;
    }
    // Loom's own assertions about itself, as opposed to what it reports.
    let is_looms = place.contains("/loom-") && message.starts_with("assertion");
    if message.contains(ENDLESS) || is_looms {
        return Ending::NoEnd(message);
    }
    let place = place.trim_end_matches(':');
    let place = place.rsplit_once("/tests/").map_or(place, |(_, file)| file);
    // Where this machine keeps the sources of crates is nobody's concern.
    let place = place.rsplit_once("/loom-").map_or(place, |_| "loom");
    let mut shown = format!("{message} ({place})");
    if let Some((end, _)) = shown.char_indices().nth(200) {
        shown.truncate(end);
    }
    Ending::Failed(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_error_of_the_ledger_is_a_failure() {
        let failed = judged(
            "\nthread 'x' (7) panicked at tests/seal.rs:12:5:\nmessage 1 was lost\nnote: run\n",
            "exit status: 101",
        );
        let Ending::Failed(message) = failed else {
            panic!("not a failure")
        };
        assert!(message.starts_with("message 1 was lost"));
        let less = "thread 'x' panicked at src/lib.rs:1:1:\nmodel x: 3 executions at bound 2, fewer than the expected 5";
        assert_eq!(judged(less, ""), Ending::Passed);
        let endless = "thread 'x' panicked at /r/loom-0.7.2/src/rt/path.rs:1:1:\nModel exceeded maximum number of branches. This";
        assert!(matches!(judged(endless, ""), Ending::NoEnd(_)));
        let looms =
            "thread 'x' panicked at /r/loom-0.7.2/src/rt/atomic.rs:1:1:\nassertion `left != right` failed";
        assert!(matches!(judged(looms, ""), Ending::NoEnd(_)));
        let race = "thread 'x' panicked at /r/loom-0.7.2/src/rt/location.rs:1:1:\nCausality violation: Concurrent read";
        let Ending::Failed(message) = judged(race, "") else {
            panic!("not a failure")
        };
        assert_eq!(message, "Causality violation: Concurrent read (loom)");
        assert!(matches!(judged("nothing", "signal: 11"), Ending::Failed(_)));
    }

    #[test]
    fn the_runner_still_says_what_is_looked_for() {
        let runner = concat!(env!("CARGO_MANIFEST_DIR"), "/../loom-tests/src/lib.rs");
        let runner = fs::read_to_string(runner).expect("the runner");
        for text in EXPLORED_LESS {
            assert!(runner.contains(text), "{text:?}");
        }
        assert!(runner.contains(&format!("\"model {{name}}: {{executions}}{EXPLORED}")));
    }
}
