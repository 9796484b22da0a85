//! Steps with titles, and a summary with their times.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cargo::Workspace;

/// How a step ended, if not in an error.
#[derive(Debug)]
pub(crate) enum Outcome {
    Passed,
    /// Passed, and how much was done: tests, executions.
    Did(String),
    /// Could not be run here; the reason is shown in the summary.
    Skipped(String),
}

#[derive(Debug)]
enum Ending {
    Passed(String),
    Skipped(String),
    Failed,
    NotRun,
}

impl Ending {
    fn words(&self) -> (&str, &str) {
        match self {
            Self::Passed(what) => ("passed", what.as_str()),
            Self::Skipped(reason) => ("skipped", reason.as_str()),
            Self::Failed => ("FAILED", ""),
            Self::NotRun => ("not run", ""),
        }
    }
}

/// The steps of one command, in the order of running.
#[derive(Debug)]
pub(crate) struct Steps {
    fail_fast: bool,
    failed: bool,
    finished: Vec<(String, Ending, Duration)>,
}

impl Steps {
    /// With `fail_fast`, the steps after a failed one are not run.
    pub(crate) fn new(fail_fast: bool) -> Self {
        Self {
            fail_fast,
            failed: false,
            finished: Vec::new(),
        }
    }

    pub(crate) fn run(&mut self, title: &str, step: impl FnOnce() -> Result<Outcome>) {
        if self.failed && self.fail_fast {
            self.finished
                .push((title.to_owned(), Ending::NotRun, Duration::ZERO));
            return;
        }
        println!("\n==> {title}");
        let start = Instant::now();
        let ending = match step() {
            Ok(Outcome::Passed) => Ending::Passed(String::new()),
            Ok(Outcome::Did(what)) => Ending::Passed(what),
            Ok(Outcome::Skipped(reason)) => {
                println!("    skipped: {reason}");
                Ending::Skipped(reason)
            }
            Err(error) => {
                println!("    FAILED: {error:#}");
                self.failed = true;
                Ending::Failed
            }
        };
        self.finished.push((title.to_owned(), ending, start.elapsed()));
    }

    /// A build that has shown a failure is still wanted.
    pub(crate) fn done_with(&self, workspace: &Workspace, builds: &[&str]) {
        if !self.failed {
            builds.iter().for_each(|build| workspace.done_with(build));
        }
    }

    /// The summary as a Markdown table.
    pub(crate) fn table(&self) -> String {
        let mut table = String::from("| what | | seconds | how much |\n|---|---|---|---|\n");
        for (title, ending, time) in &self.finished {
            let (word, detail) = ending.words();
            let detail = detail.replace('|', "\\|");
            let seconds = time.as_secs_f64();
            let _ = writeln!(table, "| {title} | {word} | {seconds:.0} | {detail} |");
        }
        let total: Duration = self.finished.iter().map(|(_, _, time)| *time).sum();
        let verdict = if self.failed { "FAILED" } else { "passed" };
        let _ = writeln!(
            table,
            "| **all** | **{verdict}** | **{:.0}** | |",
            total.as_secs_f64()
        );
        table
    }

    /// Prints the summary, a table of what ran, how long and how much; whether no step failed.
    pub(crate) fn finish(self) -> bool {
        println!("\n==> summary");
        let width = self
            .finished
            .iter()
            .map(|(title, ..)| title.len())
            .max()
            .unwrap_or(0);
        for (title, ending, time) in &self.finished {
            let seconds = time.as_secs_f64();
            let (word, detail) = ending.words();
            let line = format!("    {title:width$}  {word:7}  {seconds:6.1} s  {detail}");
            println!("{}", line.trim_end());
        }
        let total: Duration = self.finished.iter().map(|(_, _, time)| *time).sum();
        let verdict = if self.failed { "FAILED" } else { "passed" };
        println!("    {verdict} in {:.1} s", total.as_secs_f64());
        !self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_what_ran_and_what_did_not() {
        let mut steps = Steps::new(true);
        steps.run("first", || Ok(Outcome::Did("7 tests".to_owned())));
        steps.run("second", || anyhow::bail!("wrong"));
        steps.run("third", || Ok(Outcome::Passed));
        let table = steps.table();
        assert!(table.contains("| first | passed | 0 | 7 tests |"), "{table}");
        assert!(table.contains("| second | FAILED | 0 |  |"), "{table}");
        assert!(table.contains("| third | not run | 0 |  |"), "{table}");
        assert!(table.contains("| **all** | **FAILED** | **0** | |"), "{table}");
        assert!(!steps.finish());
    }
}
