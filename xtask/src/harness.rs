//! A short run of each scenario of the harness, which must verify.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::cargo::Workspace;
use crate::steps::Outcome;

pub(crate) const BUILD: &[&str] = &["build", "--release", "--package", "epoq-bench"];

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
    let width = scenarios.iter().map(String::len).max().unwrap_or(0);
    let mut failed = Vec::new();
    for scenario in &scenarios {
        match verify(workspace, scenario) {
            Ok(report) => println!("    {scenario:width$}  verified  {report}"),
            Err(error) => {
                println!("    {scenario:width$}  FAILED    {error:#}");
                failed.push(scenario.as_str());
            }
        }
    }
    ensure!(failed.is_empty(), "not verified: {}", failed.join(", "));
    Ok(Outcome::Passed)
}

/// The names of the scenarios, from the harness itself if it can tell them.
fn scenarios(workspace: &Workspace) -> Result<Vec<String>> {
    let mut command = harness(workspace, &["list", "--json"]);
    let output = command
        .stdin(Stdio::null())
        .output()
        .context("the harness does not start")?;
    let names = if output.status.success() {
        names(&output.stdout)
    } else {
        None
    };
    Ok(names.unwrap_or_else(|| {
        println!("    epoq-bench has no list --json; the scenarios known here are run");
        SCENARIOS.iter().map(|&name| name.to_owned()).collect()
    }))
}

/// The names in a list of names or of objects with a name, which may be the member `scenarios` of an object.
fn names(json: &[u8]) -> Option<Vec<String>> {
    let list: Value = serde_json::from_slice(json).ok()?;
    let list = list.get("scenarios").unwrap_or(&list).as_array()?;
    let name = |entry: &Value| Some(entry.as_str().or_else(|| entry.get("name")?.as_str())?.to_owned());
    let names: Vec<String> = list.iter().map(name).collect::<Option<_>>()?;
    (!names.is_empty()).then_some(names)
}

/// Runs one scenario and demands that it verified; the figures of the run in words.
fn verify(workspace: &Workspace, scenario: &str) -> Result<String> {
    let folder = workspace.target().join("xtask");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let report = folder.join(format!("{scenario}.json"));
    let log = folder.join(format!("{scenario}.log"));

    let mut command = harness(workspace, &["run", scenario]);
    command.args(SETTINGS).arg("--json");
    let depth = DEPTHS.iter().find(|(name, _)| *name == scenario);
    command.args(depth.map_or(&[][..], |(_, depth)| depth));
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

pub(crate) fn harness(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = workspace.cargo(&["run", "--quiet", "--release", "--package", "epoq-bench", "--"]);
    command.args(arguments);
    command
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
    fn names_of_every_form_of_list() {
        for list in [
            r#"["a","b"]"#,
            r#"[{"name":"a"},{"name":"b"}]"#,
            r#"{"scenarios":["a","b"],"targets":[]}"#,
        ] {
            assert_eq!(names(list.as_bytes()).unwrap(), ["a", "b"], "{list}");
        }
        for refused in ["", "[]", "[1]", r#"{"targets":[]}"#] {
            assert!(names(refused.as_bytes()).is_none(), "{refused}");
        }
    }
}
