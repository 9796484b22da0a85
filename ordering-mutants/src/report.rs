//! What a run found: on the terminal, and for a whole run in `results/`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::account::Account;
use crate::campaign::Judged;
use crate::site::Site;
use crate::state::Verdict;

/// All that is told.
pub(crate) struct Report<'r> {
    pub(crate) sites: &'r [Site],
    pub(crate) judged: &'r [Judged],
    pub(crate) account: &'r Account,
    pub(crate) models: usize,
    pub(crate) bound: &'r str,
    pub(crate) jobs: usize,
    pub(crate) time: Duration,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    killed: usize,
    /// Models reach them, and pass.
    survived: usize,
    unreached: usize,
    timed_out: usize,
    /// Of those not killed.
    accounted: usize,
    /// Killed, although the account says that they survive.
    stale: usize,
}

impl Report<'_> {
    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for judged in self.judged {
            let is_accounted = self.account.reason(&judged.mutant.key).is_some();
            match judged.verdict {
                Verdict::Killed { .. } => {
                    counts.killed += 1;
                    counts.stale += usize::from(is_accounted);
                    continue;
                }
                Verdict::Survived { .. } => counts.survived += 1,
                Verdict::Unreached => counts.unreached += 1,
                Verdict::TimedOut { .. } => counts.timed_out += 1,
            }
            counts.accounted += usize::from(is_accounted);
        }
        counts
    }

    /// Prints it. Whether all is accounted for.
    pub(crate) fn print(&self) -> bool {
        let counts = self.counts();
        let open = self.judged.len() - counts.killed - counts.accounted;
        println!("\n==> by file");
        for line in self.table() {
            println!("    {line}");
        }
        let problems = self.problems();
        if !problems.is_empty() {
            println!("\n==> not accounted for");
            for problem in &problems {
                println!("    {problem}");
            }
        }
        println!("\n==> {}", self.summary());
        open == 0 && counts.stale == 0
    }

    fn summary(&self) -> String {
        let Counts {
            killed,
            survived,
            unreached,
            timed_out,
            accounted,
            stale,
        } = self.counts();
        let all = self.judged.len();
        let open = all - killed - accounted;
        format!(
            "{all} mutants: {killed} killed ({:.1} %), {survived} survived, {unreached} reached by no model, {timed_out} timed out; \
             {accounted} accounted for, {open} open, {stale} stale; {:.0} s with {} jobs, {:.0} s of models in this and earlier runs",
            percent(killed, all),
            self.time.as_secs_f64(),
            self.jobs,
            self.judged.iter().map(|judged| judged.seconds).sum::<f64>()
        )
    }

    /// Survivors that nothing accounts for, and accounts of what does not survive.
    fn problems(&self) -> Vec<String> {
        let problem = |judged: &Judged| {
            let Judged { mutant, verdict, .. } = judged;
            let place = format!("{}:{}  {}", mutant.key.file, mutant.line, mutant.key);
            match (verdict, self.account.reason(&mutant.key)) {
                (Verdict::Killed { model, .. }, Some(_)) => Some(format!("{place}: stale, {model} kills it")),
                (Verdict::Killed { .. }, None) | (_, Some(_)) => None,
                (verdict, None) => Some(format!("{place}: {}", word(verdict))),
            }
        };
        self.judged.iter().filter_map(problem).collect()
    }

    /// Counts by file.
    fn table(&self) -> Vec<String> {
        let mut files: Vec<&str> = self
            .judged
            .iter()
            .map(|judged| judged.mutant.key.file.as_str())
            .collect();
        files.dedup();
        let width = files.iter().map(|file| file.len()).max().unwrap_or(0);
        let mut lines = vec![format!("{:width$}  mutants  killed  survived  accounted", "")];
        for file in files {
            let of_file: Vec<&Judged> = self
                .judged
                .iter()
                .filter(|judged| judged.mutant.key.file == file)
                .collect();
            let killed = of_file
                .iter()
                .filter(|judged| matches!(judged.verdict, Verdict::Killed { .. }))
                .count();
            let accounted = of_file
                .iter()
                .filter(|judged| !matches!(judged.verdict, Verdict::Killed { .. }))
                .filter(|judged| self.account.reason(&judged.mutant.key).is_some())
                .count();
            let survived = of_file.len() - killed;
            lines.push(format!(
                "{file:width$}  {:7}  {killed:6}  {survived:8}  {accounted:9}",
                of_file.len()
            ));
        }
        lines
    }

    /// Writes `ordering-mutations.md` and `.json`.
    pub(crate) fn write(&self, root: &Path, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let environment = Environment::now(root);
        let markdown = folder.join("ordering-mutations.md");
        fs::write(&markdown, self.markdown(&environment)?).with_context(|| markdown.display().to_string())?;
        let json = folder.join("ordering-mutations.json");
        let text = serde_json::to_string_pretty(&self.json(&environment)).context("the report as JSON")?;
        fs::write(&json, text + "\n").with_context(|| json.display().to_string())?;
        println!("    written: {} and .json", markdown.display());
        Ok(())
    }

    fn not_compiled(&self) -> impl Iterator<Item = &Site> {
        self.sites
            .iter()
            .filter(|site| site.not_compiled.is_some() && !site.kind.changes().is_empty())
    }

    fn json(&self, environment: &Environment) -> serde_json::Value {
        let counts = self.counts();
        let mutants: Vec<_> = self
            .judged
            .iter()
            .map(|judged| {
                let key = &judged.mutant.key;
                let mut entry = json!({
                    "file": key.file,
                    "line": judged.mutant.line,
                    "function": key.function,
                    "site": key.site,
                    "written": key.written,
                    "mutant": key.change.name(),
                    "seconds": (judged.seconds * 10.0).round() / 10.0,
                    "result": judged.verdict,
                });
                if let Some(reason) = self.account.reason(key) {
                    entry["reason"] = json!(reason);
                }
                entry
            })
            .collect();
        let not_compiled: Vec<_> = self
            .not_compiled()
            .map(|site| {
                json!({
                    "file": site.file, "line": site.line, "function": site.function, "site": site.name,
                    "written": site.kind.written(), "why": site.not_compiled,
                })
            })
            .collect();
        json!({
            "commit": environment.commit,
            "compiler": environment.compiler,
            "machine": environment.machine,
            "bound": self.bound,
            "models": self.models,
            "seconds": self.time.as_secs_f64().round(),
            "jobs": self.jobs,
            "sites": self.sites.len(),
            "counts": {
                "mutants": self.judged.len(),
                "killed": counts.killed,
                "survived": counts.survived,
                "unreached": counts.unreached,
                "timed_out": counts.timed_out,
                "accounted": counts.accounted,
            },
            "mutants": mutants,
            "not_modelled": not_compiled,
        })
    }

    fn markdown(&self, environment: &Environment) -> Result<String> {
        let mut text = String::new();
        let relaxed = self
            .sites
            .iter()
            .filter(|site| site.kind.changes().is_empty())
            .count();
        let not_compiled = self.not_compiled().count();
        let mutated = self.sites.len() - relaxed - not_compiled;
        writeln!(text, "# Ordering mutations\n")?;
        writeln!(
            text,
            "Written by `cargo xtask mutate-orderings`; what it does: [loom-tests/README.md](../loom-tests/README.md#ordering-mutants). \
             Commit {}, {}, {}, bound {}, {} tests with models.\n",
            environment.commit, environment.compiler, environment.machine, self.bound, self.models
        )?;
        writeln!(
            text,
            "{} places in `core/src`: {relaxed} are Relaxed and have nothing to weaken, {not_compiled} are not compiled for loom, {mutated} \
             are mutated.\n",
            self.sites.len()
        )?;
        writeln!(text, "{}.\n", self.summary())?;
        writeln!(text, "```text")?;
        for line in self.table() {
            writeln!(text, "{}", line.trim_end())?;
        }
        writeln!(text, "```\n")?;

        writeln!(text, "## Survivors\n")?;
        let mut survivors = self
            .judged
            .iter()
            .filter(|judged| !matches!(judged.verdict, Verdict::Killed { .. }))
            .peekable();
        if survivors.peek().is_none() {
            writeln!(text, "None.\n")?;
        } else {
            writeln!(
                text,
                "| Where | Mutant | Result | Why it may |\n|---|---|---|---|"
            )?;
        }
        for judged in survivors {
            let key = &judged.mutant.key;
            let reason = self.account.reason(key).unwrap_or("**not accounted for**");
            writeln!(
                text,
                "| {}:{} | `{}` {}: {} → {} | {} | {} |",
                key.file,
                judged.mutant.line,
                key.function,
                key.site,
                key.written,
                key.change.name(),
                word(&judged.verdict),
                reason
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
                    .replace('|', "\\|")
            )?;
        }

        writeln!(text, "\n## Killed\n\n| Where | Mutant | By |\n|---|---|---|")?;
        for judged in self.judged {
            let key = &judged.mutant.key;
            if let Verdict::Killed {
                model_file, model, ..
            } = &judged.verdict
            {
                writeln!(
                    text,
                    "| {}:{} | `{}` {}: {} → {} | {model_file}: {model} |",
                    key.file,
                    judged.mutant.line,
                    key.function,
                    key.site,
                    key.written,
                    key.change.name()
                )?;
            }
        }

        writeln!(
            text,
            "\n## Not modelled\n\nNot compiled for loom, so no model can reach it.\n"
        )?;
        writeln!(text, "| Where | Site | Because of |\n|---|---|---|")?;
        for site in self.not_compiled() {
            writeln!(
                text,
                "| {}:{} | `{}` {}: {} | {} |",
                site.file,
                site.line,
                site.function,
                site.name,
                site.kind.written(),
                site.not_compiled.as_deref().unwrap_or_default()
            )?;
        }
        Ok(text)
    }
}

fn percent(part: usize, all: usize) -> f64 {
    if all == 0 {
        100.0
    } else {
        100.0 * part as f64 / all as f64
    }
}

fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Killed { model, .. } => format!("killed by {model}"),
        Verdict::Survived { models } => format!("survived {models} models"),
        Verdict::Unreached => "reached by no model".to_owned(),
        Verdict::TimedOut { model, message } => format!("no end in {model}: {message}"),
    }
}

/// Where a run was made.
struct Environment {
    commit: String,
    compiler: String,
    machine: String,
}

impl Environment {
    fn now(root: &Path) -> Self {
        let said = |program: &str, arguments: &[&str]| {
            let output = Command::new(program)
                .args(arguments)
                .current_dir(root)
                .output()
                .ok()?;
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            (output.status.success() && !text.is_empty()).then_some(text)
        };
        let cpu = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            commit: said("git", &["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned()),
            compiler: said("rustc", &["--version"]).unwrap_or_else(|| "an unknown compiler".to_owned()),
            machine: format!(
                "{}, {cores} cores",
                cpu.unwrap_or_else(|| "an unknown processor".to_owned())
            ),
        }
    }
}
