//! A short run of each scenario of the harness, which must verify.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::cargo::{BUILD_TESTS, Workspace, run};
use crate::steps::Outcome;

/// How the harness is built, and the soak that is made of it: apart, with other features of what both need, it would be built twice.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Build {
    /// To measure with.
    Release,
    /// To be seen to verify, with assertions: as the tests of both have built it, which takes no time after them.
    Tested,
}

impl Build {
    pub(crate) fn build(self, workspace: &Workspace) -> Result<Outcome> {
        match self {
            Self::Release => run(workspace.cargo(&["build", "--release"]).args([
                "--package",
                "epoq-bench",
                "--package",
                "epoq-soak",
            ])),
            // All packages of the tests: each choice of packages has features of its own.
            Self::Tested => run(&mut workspace.cargo(BUILD_TESTS)),
        }
    }

    pub(crate) fn harness(self, workspace: &Workspace, arguments: &[&str]) -> Command {
        self.program(workspace, "epoq-bench", arguments)
    }

    pub(crate) fn soak(self, workspace: &Workspace) -> Command {
        self.program(workspace, "epoq-soak", &[])
    }

    /// What was built.
    fn program(self, workspace: &Workspace, name: &str, arguments: &[&str]) -> Command {
        let folder = match self {
            Self::Release => "release",
            Self::Tested => "debug",
        };
        let path = workspace.target().join(folder).join(name);
        let mut command = Command::new(path);
        command.current_dir(workspace.root()).args(arguments);
        command
    }
}

/// Small enough for a few seconds per scenario, large enough to fill and drain many segments.
const SETTINGS: &[&str] = &["--seconds", "0.5", "--threads", "2"];

/// The scenarios whose depth is chosen, and how deep.
const DEPTHS: &[(&str, &[&str])] = &[
    ("backlog", &["--backlog", "100000"]),
    ("flood", &["--backlog", "100000"]),
    ("inflight", &["--in-flight", "50000"]),
];

/// A run of half a second that takes longer than this hangs.
const RUN_TIME_MAX: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A scenario and the options of a short run, if the harness names them.
#[derive(Debug, PartialEq, Eq)]
struct Scenario {
    name: String,
    short: Option<Vec<String>>,
}

/// What is run when the harness does not list its scenarios as JSON.
const SCENARIOS: &[&str] = &[
    "lifecycle",
    "pipeline",
    "steal",
    "backlog",
    "inflight",
    "redelivery",
];

/// Runs all scenarios, also after one that fails.
pub(crate) fn verify_scenarios(workspace: &Workspace) -> Result<Outcome> {
    let scenarios = scenarios(workspace)?;
    let width = scenarios
        .iter()
        .map(|scenario| scenario.name.len())
        .max()
        .unwrap_or(0);
    let mut failed = Vec::new();
    for scenario in &scenarios {
        let name = &scenario.name;
        match verify(workspace, scenario) {
            Ok(report) => println!("    {name:width$}  verified  {report}"),
            Err(error) => {
                println!("    {name:width$}  FAILED    {error:#}");
                failed.push(name.as_str());
            }
        }
    }
    ensure!(failed.is_empty(), "not verified: {}", failed.join(", "));
    Ok(Outcome::Passed)
}

/// The scenarios, from the harness itself if it can tell them.
fn scenarios(workspace: &Workspace) -> Result<Vec<Scenario>> {
    let mut command = Build::Tested.harness(workspace, &["list", "--json"]);
    let output = command
        .stdin(Stdio::null())
        .output()
        .context("the harness does not start")?;
    let listed = if output.status.success() {
        listed(&output.stdout)
    } else {
        None
    };
    Ok(listed.unwrap_or_else(|| {
        println!("    epoq-bench has no list --json; the scenarios known here are run");
        let known = |&name: &&str| Scenario {
            name: name.to_owned(),
            short: None,
        };
        SCENARIOS.iter().map(known).collect()
    }))
}

/// What is in a list of names, or of objects with a name and perhaps the options of a short run; the list may be the member `scenarios`
/// of an object.
fn listed(json: &[u8]) -> Option<Vec<Scenario>> {
    let list: Value = serde_json::from_slice(json).ok()?;
    let list = list.get("scenarios").unwrap_or(&list).as_array()?;
    let scenario = |entry: &Value| {
        let name = entry.as_str().or_else(|| entry.get("name")?.as_str())?.to_owned();
        let words = |options: &Value| {
            let word = |word: &Value| word.as_str().map(str::to_owned);
            options.as_array()?.iter().map(word).collect()
        };
        let short = entry.get("short").and_then(words);
        Some(Scenario { name, short })
    };
    let scenarios: Vec<Scenario> = list.iter().map(scenario).collect::<Option<_>>()?;
    (!scenarios.is_empty()).then_some(scenarios)
}

/// Runs one scenario and demands that it verified; the figures of the run in words.
fn verify(workspace: &Workspace, scenario: &Scenario) -> Result<String> {
    let name = scenario.name.as_str();
    let folder = workspace.target().join("xtask");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let report = folder.join(format!("{name}.json"));
    let log = folder.join(format!("{name}.log"));

    let mut command = Build::Tested.harness(workspace, &["run", name, "--json"]);
    match &scenario.short {
        Some(short) => command.args(short),
        None => {
            let depth = DEPTHS.iter().find(|(deep, _)| *deep == name);
            command
                .args(SETTINGS)
                .args(depth.map_or(&[][..], |(_, depth)| depth))
        }
    };
    command
        .stdin(Stdio::null())
        .stdout(File::create(&report)?)
        .stderr(File::create(&log)?);
    let figures = run_within(&mut command, RUN_TIME_MAX).and_then(|status| {
        ensure!(status.success(), "{status}");
        verified(&fs::read(&report)?)
    });
    figures.map_err(|error| anyhow!("{error:#}; {}", last_words(&log)))
}

/// The figures of a report that is exactly one JSON object and says that the run verified.
fn verified(report: &[u8]) -> Result<String> {
    let report: Value = serde_json::from_slice(report).context("the report is not one JSON value")?;
    ensure!(
        report.get("verified") == Some(&Value::Bool(true)),
        "the run did not verify"
    );
    let messages = report
        .get("messages")
        .and_then(Value::as_u64)
        .context("the report tells no number of messages")?;
    ensure!(messages > 0, "the run moved no message");
    let rate = report
        .get("messages_per_second")
        .and_then(Value::as_f64)
        .context("the report tells no rate")?;
    Ok(format!(
        "{messages} messages, {:.2} million per second",
        rate / 1e6
    ))
}

/// Runs a command, and kills it at the time limit.
fn run_within(command: &mut Command, limit: Duration) -> Result<ExitStatus> {
    let mut child = command.spawn().context("the harness does not start")?;
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(POLL_INTERVAL);
    }
    child.kill()?;
    child.wait()?;
    bail!("no end within {} s", limit.as_secs())
}

/// Where the log is, and how it ends.
fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(5)..].join("\n      ");
    format!("see {}, which ends:\n      {tail}", log.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_verified_report_passes() {
        let report = |text: &str| verified(text.as_bytes());
        assert!(report(r#"{"verified":true,"messages":7,"messages_per_second":1500000.0}"#).is_ok());
        for refused in [
            "",
            "{}",
            r#"{"verified":false,"messages":7,"messages_per_second":1500000.0}"#,
            r#"{"verified":"true","messages":7,"messages_per_second":1500000.0}"#,
            r#"{"verified":true,"messages":0,"messages_per_second":0.0}"#,
            r#"{"verified":true,"messages":7,"messages_per_second":1.0} and more"#,
        ] {
            assert!(report(refused).is_err(), "{refused}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_run_that_hangs_is_killed() {
        let start = Instant::now();
        assert!(run_within(Command::new("sleep").arg("60"), Duration::from_millis(100)).is_err());
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn scenarios_of_every_form_of_list() {
        for list in [
            r#"["a","b"]"#,
            r#"[{"name":"a"},{"name":"b"}]"#,
            r#"{"scenarios":["a","b"],"targets":[]}"#,
        ] {
            let names: Vec<_> = listed(list.as_bytes())
                .unwrap()
                .into_iter()
                .map(|scenario| scenario.name)
                .collect();
            assert_eq!(names, ["a", "b"], "{list}");
        }
        let list = r#"[{"name":"a","short":["--pace","0.2"]}]"#;
        let short = listed(list.as_bytes()).unwrap().remove(0).short;
        assert_eq!(short.unwrap(), ["--pace", "0.2"]);
        for refused in ["", "[]", "[1]", r#"{"targets":[]}"#] {
            assert!(listed(refused.as_bytes()).is_none(), "{refused}");
        }
    }
}
