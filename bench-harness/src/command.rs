//! What the commands do: plan, execute, print.

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::{
    cli::{Cli, Command, Compare, List, Run, Standard},
    compare::{Experiment, Outcome, Overheads},
    cores::Cores,
    environment::{self, Machine},
    overhead,
    plan::Plan,
    progress::{Bar, Progress},
    report::{self, RunReport},
    scenario::Scenario,
    scenarios::{self, Act, Common, Play, Sheet, Stage, short_table},
    standard,
    suite::{command as suite, stop},
    targets::{FifoTargetName, TargetName},
    wire,
};

/// How a command ended, if it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything that was run was verified.
    Verified,
    /// Something was found wrong; it was printed.
    Failed,
    /// Verified, but slower than the baseline.
    Regressed,
    /// Verified as far as it went when Ctrl-C ended it.
    Interrupted,
}

/// Why a command did not end.
#[derive(Debug)]
pub enum Error {
    /// What was asked for makes no sense.
    Usage(String),
    /// Something broke.
    Broken(anyhow::Error),
}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.into())
    }
}

/// Does what the command line says.
pub fn execute(cli: Cli) -> Result<Verdict, Error> {
    match cli.command {
        None => standard_run(Standard::default()),
        Some(Command::Standard(options)) => standard_run(options),
        Some(Command::List(options)) => list(&options),
        Some(Command::Run(options)) => run(&options),
        Some(Command::Compare(options)) => compare(&options),
        #[cfg(lines)]
        Some(Command::Lines(options)) => {
            crate::lines::count(&options)?;
            Ok(Verdict::Verified)
        }
        Some(Command::Queue(options)) => all_acts(options.common),
        Some(Command::Act(act)) => act_out(act),
        Some(Command::Suite(options)) => suite::suite(&options),
        Some(Command::Report(options)) => suite::report(&options),
        Some(Command::Wire(options)) => wire::wire(&options),
        Some(Command::WireServe(options)) => {
            wire::serve(options)?;
            Ok(Verdict::Verified)
        }
        Some(Command::Completions(options)) => suite::completions(options),
    }
}

fn list(options: &List) -> Result<Verdict, Error> {
    let mut out = io::stdout().lock();
    if options.json {
        let entry = |name: &str, describe: String| serde_json::json!({"name": name, "description": describe});
        let runs = Scenario::value_variants()
            .iter()
            .map(|s| entry(s.name(), s.describe()));
        // How to run them shortly, for those that have other options than a run.
        let acts = scenarios::list().into_iter().map(|(name, about)| {
            let mut entry = entry(&name, about);
            entry["short"] = json!(["--pace", scenarios::SHORT_PACE]);
            entry
        });
        let scenarios = runs.chain(acts);
        let targets = TargetName::value_variants()
            .iter()
            .map(|t| entry(t.name(), t.describe().to_string()));
        let fifo_targets = FifoTargetName::value_variants()
            .iter()
            .map(|t| entry(t.name(), t.describe()));
        let list = serde_json::json!({
            "scenarios": scenarios.collect::<Vec<_>>(),
            "targets": targets.collect::<Vec<_>>(),
            "fifo_targets": fifo_targets.collect::<Vec<_>>(),
        });
        writeln!(out, "{list}")?;
        return Ok(Verdict::Verified);
    }
    writeln!(out, "Scenarios")?;
    for &scenario in Scenario::value_variants() {
        writeln!(out, "  {:<18} {}", scenario.name(), scenario.describe())?;
    }
    writeln!(out, "\nScenarios of the ledger alone")?;
    for (name, about) in scenarios::list() {
        writeln!(out, "  {name:<18} {about}")?;
    }
    writeln!(out, "\nTargets")?;
    for &target in TargetName::value_variants() {
        writeln!(out, "  {:<18} {}", target.name(), target.describe())?;
    }
    writeln!(out, "\nTargets of the FIFO scenarios")?;
    for &target in FifoTargetName::value_variants() {
        writeln!(out, "  {:<18} {}", target.name(), target.describe())?;
    }
    Ok(Verdict::Verified)
}

fn run(options: &Run) -> Result<Verdict, Error> {
    let experiment = Experiment {
        plan: Plan::new(options.scenario, options.options.wishes()).map_err(Error::Usage)?,
        targets: vec![options.target],
        passes: options.passes.into(),
    };
    measure(
        vec![experiment],
        options.options.json,
        |outcomes, machine, commit| {
            RunReport::new(&outcomes[0], &outcomes[0].series[0], machine, commit).to_json()
        },
    )
}

fn compare(options: &Compare) -> Result<Verdict, Error> {
    let targets = &options.targets;
    if targets.len() < 2 {
        return Err(Error::Usage(
            "--targets needs at least two: the first is compared with each other".into(),
        ));
    }
    if let Some(twice) = targets
        .iter()
        .enumerate()
        .find_map(|(index, target)| targets[..index].contains(target).then_some(target))
    {
        return Err(Error::Usage(format!("--targets names {} twice", twice.name())));
    }
    let experiment = Experiment {
        plan: Plan::new(options.scenario, options.options.wishes()).map_err(Error::Usage)?,
        targets: targets.clone(),
        passes: options.passes.into(),
    };
    measure(
        vec![experiment],
        options.options.json,
        |outcomes, machine, commit| report::comparison_json(&outcomes[0], machine, commit),
    )
}

fn standard_run(options: Standard) -> Result<Verdict, Error> {
    let experiments = standard::experiments(options.pace).map_err(Error::Usage)?;
    let plays = scenarios::all(options.pace).map_err(Error::Usage)?;
    check(&experiments)?;
    stop::listen();
    let session = Session::begin(&experiments);
    let (outcomes, mut ended) = session.measure(&experiments);
    let seed = outcomes.first().map_or(1, |outcome| outcome.plan.seed);
    let mut sheets = Vec::new();
    if ended.is_ok() {
        (sheets, ended) = session.perform_all(&plays, seed);
    }
    session.bar.end();

    let (machine, commit) = (&session.machine, session.commit.as_str());
    let mut out = io::stdout().lock();
    if options.json {
        let experiments: Vec<Value> = outcomes
            .iter()
            .map(|outcome| report::comparison_json(outcome, machine, commit))
            .collect();
        let scenarios: Vec<Value> = sheets
            .iter()
            .map(|(play, sheet)| sheet.to_json(play.name(), &play.settings(), seed, machine, commit))
            .collect();
        let verified =
            outcomes.iter().all(Outcome::verified) && sheets.iter().all(|(_, sheet)| sheet.verified());
        let mut report = json!({"schema": report::SCHEMA, "experiments": experiments, "scenarios": scenarios, "verified": verified,
            "interrupted": false, "machine": machine, "commit": commit});
        mark(&mut report, &ended);
        writeln!(out, "{report}")?;
    } else {
        if !outcomes.is_empty() {
            print_tables(&mut out, &outcomes, machine, commit)?;
        }
        for (play, sheet) in &sheets {
            writeln!(out, "\n{}", sheet.to_text(play.name(), &play.settings()))?;
        }
        write_mark(&mut out, &ended)?;
    }
    let mut findings = report::finding_lines(&outcomes);
    findings.extend(sheets.iter().flat_map(|(play, sheet)| wrongs(*play, sheet)));
    verdict(&findings, ended)
}

fn act_out(act: Act) -> Result<Verdict, Error> {
    let (play, common) = act.open().map_err(Error::Usage)?;
    stop::listen();
    let session = Session::begin(&[]);
    let sheet = session.perform(play.as_ref(), common.seed)?;
    session.bar.end();
    let findings = wrongs(play.as_ref(), &sheet);
    if is_blank(&sheet) {
        eprintln!("nothing was measured");
        return verdict(&findings, Ok(()));
    }
    let mut out = io::stdout().lock();
    if common.json {
        let (machine, commit) = (&session.machine, session.commit.as_str());
        let mut report = sheet.to_json(play.name(), &play.settings(), common.seed, machine, commit);
        mark(&mut report, &Ok(()));
        writeln!(out, "{report}")?;
    } else {
        writeln!(out, "\n{}", sheet.to_text(play.name(), &play.settings()))?;
        write_mark(&mut out, &Ok(()))?;
    }
    verdict(&findings, Ok(()))
}

fn all_acts(common: Common) -> Result<Verdict, Error> {
    let plays = scenarios::all(common.pace).map_err(Error::Usage)?;
    stop::listen();
    let session = Session::begin(&[]);
    let (sheets, ended) = session.perform_all(&plays, common.seed);
    session.bar.end();

    let (machine, commit) = (&session.machine, session.commit.as_str());
    let mut out = io::stdout().lock();
    let rows = sheets
        .iter()
        .flat_map(|(play, sheet)| sheet.rows(play.name()))
        .collect();
    if common.json {
        let scenarios: Vec<Value> = sheets
            .iter()
            .map(|(play, sheet)| sheet.to_json(play.name(), &play.settings(), common.seed, machine, commit))
            .collect();
        let verified = sheets.iter().all(|(_, sheet)| sheet.verified());
        let mut report = json!({"schema": report::SCHEMA, "scenarios": scenarios, "verified": verified, "interrupted": false,
            "pace": common.pace, "seed": common.seed, "machine": machine, "commit": commit});
        mark(&mut report, &ended);
        writeln!(out, "{report}")?;
        // For people, who asked for a file.
        eprintln!("\n{}", short_table(rows));
    } else {
        for (play, sheet) in &sheets {
            writeln!(out, "\n{}", sheet.to_text(play.name(), &play.settings()))?;
        }
        writeln!(out, "\n{}", short_table(rows))?;
        write_mark(&mut out, &ended)?;
    }
    let findings: Vec<String> = sheets
        .iter()
        .flat_map(|(play, sheet)| wrongs(*play, sheet))
        .collect();
    verdict(&findings, ended)
}

fn wrongs(play: &dyn Play, sheet: &Sheet) -> Vec<String> {
    let lines = sheet.findings.lines();
    lines
        .iter()
        .map(|line| format!("{}: {line}", play.name()))
        .collect()
}

/// Why there is no more, if there is not: what was measured before is printed all the same.
type Ended = Result<(), Error>;

/// A report of a command that did not come to its end says so, and why if something broke.
fn mark(report: &mut Value, ended: &Ended) {
    if stop::is_asked_for() || ended.is_err() {
        report["interrupted"] = true.into();
    }
    if let Err(Error::Broken(error)) = ended {
        report["error"] = format!("{error:#}").into();
    }
}

/// As [`mark`], for people.
fn write_mark(out: &mut impl Write, ended: &Ended) -> io::Result<()> {
    if stop::is_asked_for() || ended.is_err() {
        writeln!(out, "\nInterrupted: this is not all that was asked for.")?;
    }
    Ok(())
}

fn verdict(findings: &[String], ended: Ended) -> Result<Verdict, Error> {
    for finding in findings {
        eprintln!("WRONG: {finding}");
    }
    ended?;
    Ok(if !findings.is_empty() {
        Verdict::Failed
    } else if stop::is_asked_for() {
        Verdict::Interrupted
    } else {
        Verdict::Verified
    })
}

/// Nothing was measured, and nothing found.
fn is_blank(sheet: &Sheet) -> bool {
    sheet.figures.is_empty() && sheet.spreads.is_empty() && sheet.verified()
}

fn check(experiments: &[Experiment]) -> Result<(), Error> {
    for experiment in experiments {
        for target in &experiment.targets {
            target.check(&experiment.plan).map_err(Error::Usage)?;
        }
    }
    Ok(())
}

/// One call of the harness: where it runs, and how it shows that it does.
struct Session {
    machine: Machine,
    commit: String,
    bar: Bar,
}

impl Session {
    fn begin(experiments: &[Experiment]) -> Self {
        let session = Self {
            machine: Machine::detect(),
            commit: environment::commit(),
            bar: Bar::new(),
        };
        for line in preface(experiments, &session.machine) {
            session.bar.line(&line);
        }
        session
    }

    /// All of them, or what there was of them when Ctrl-C was pressed or something broke.
    fn measure(&self, experiments: &[Experiment]) -> (Vec<Outcome>, Ended) {
        let mut overheads = Overheads::default();
        let mut outcomes = Vec::new();
        for experiment in experiments {
            if stop::is_asked_for() {
                break;
            }
            let mut outcome = match experiment.begin(&mut overheads, &self.bar) {
                Ok(outcome) => outcome,
                Err(error) => return (outcomes, Err(error.into())),
            };
            let ended = experiment.rounds(&mut outcome, &self.bar);
            if stop::is_asked_for() {
                outcome.drop_cut_short();
            }
            outcome.series.retain(|series| !series.passes.is_empty());
            if !outcome.series.is_empty() {
                self.bar.line(&report::outcome_line(&outcome));
                outcomes.push(outcome);
            }
            if let Err(error) = ended {
                return (outcomes, Err(error.into()));
            }
        }
        (outcomes, Ok(()))
    }

    /// All of them, or those that were through when Ctrl-C was pressed or something broke: one that has begun goes to its end, unless it
    /// looks for itself.
    fn perform_all<'p>(&self, plays: &'p [Box<dyn Play>], seed: u64) -> (Vec<(&'p dyn Play, Sheet)>, Ended) {
        let mut sheets = Vec::new();
        for play in plays {
            if stop::is_asked_for() {
                break;
            }
            match self.perform(play.as_ref(), seed) {
                Ok(sheet) if is_blank(&sheet) => {}
                Ok(sheet) => sheets.push((play.as_ref(), sheet)),
                Err(error) => return (sheets, Err(error)),
            }
        }
        (sheets, Ok(()))
    }

    fn perform(&self, play: &dyn Play, seed: u64) -> Result<Sheet, Error> {
        self.bar.begin(play.name());
        let stage = Stage::new(seed, &self.bar);
        // On a thread of its own: one that a scenario pins to a core stays there, and so do all that it starts.
        let performed = std::thread::scope(|scope| scope.spawn(|| play.perform(&stage)).join());
        let mut sheet = performed.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        sheet.surroundings = stage.watch.read();
        if stop::is_asked_for() {
            // Of passes that Ctrl-C left out.
            sheet.figures.retain(|figure| figure.value.is_finite());
        }
        self.bar.line(&sheet.line(play.name()));
        if let Some(noise) = sheet
            .surroundings
            .describe()
            .filter(|_| sheet.surroundings.is_loud())
        {
            self.bar.line(&format!("{:<46} {noise}", ""));
        }
        Ok(sheet)
    }
}

/// Executes experiments and prints what came of them: JSON made by `to_json`, or tables.
fn measure(
    experiments: Vec<Experiment>,
    as_json: bool,
    to_json: impl FnOnce(&[Outcome], &Machine, &str) -> Value,
) -> Result<Verdict, Error> {
    check(&experiments)?;
    stop::listen();
    let session = Session::begin(&experiments);
    let (outcomes, ended) = session.measure(&experiments);
    session.bar.end();
    if outcomes.is_empty() {
        eprintln!("nothing was measured");
        return verdict(&[], ended);
    }

    let (machine, commit) = (&session.machine, session.commit.as_str());
    let mut out = io::stdout().lock();
    if as_json {
        let mut report = to_json(&outcomes, machine, commit);
        mark(&mut report, &ended);
        writeln!(out, "{report}")?;
    } else {
        print_tables(&mut out, &outcomes, machine, commit)?;
        write_mark(&mut out, &ended)?;
    }
    verdict(&report::finding_lines(&outcomes), ended)
}

/// What has to be said before anything is measured.
fn preface(experiments: &[Experiment], machine: &Machine) -> Vec<String> {
    let mut lines = vec![
        machine.line(),
        Cores::of_process().describe(),
        machine.build_line(),
    ];
    if cfg!(debug_assertions) {
        lines.push(
            "WARNING: built with debug assertions; build with --release for figures that mean something"
                .into(),
        );
    }
    let most_threads = experiments
        .iter()
        .map(|experiment| experiment.plan.topology.threads())
        .max()
        .unwrap_or(0);
    if most_threads > machine.cores {
        lines.push(format!(
            "WARNING: {} cores are fewer than {most_threads} threads; they will take turns",
            machine.cores
        ));
    }
    lines
}

fn print_tables(
    out: &mut impl Write,
    outcomes: &[Outcome],
    machine: &Machine,
    commit: &str,
) -> io::Result<()> {
    writeln!(out, "\n{}", machine.line())?;
    writeln!(out, "{}", machine.build_line())?;
    writeln!(
        out,
        "commit {commit}, seed {}",
        outcomes.first().map_or(0, |outcome| outcome.plan.seed)
    )?;
    writeln!(out, "\n{}", report::figures_table(outcomes))?;
    if outcomes.iter().any(|outcome| outcome.series.len() > 1) {
        writeln!(out, "\n{}", report::ratios_table(outcomes))?;
    }
    let mut lines = report::memory_lines(outcomes);
    lines.extend(report::note_lines(outcomes));
    lines.extend(report::circumstance_lines(outcomes));
    lines.extend(latency_lines(outcomes));
    lines.push(format!(
        "harness ns: of each message's time, what making, checking and accounting take, measured over a target that does next to \
         nothing; no figure has it taken off. A clock reading costs {} ns and is taken off timed cycles.",
        overhead::clock_cost_ns()
    ));
    lines.push(
        "verified: every message sent was received by one thread and deleted exactly once, none was leased twice at a time or altered"
            .into(),
    );
    writeln!(out)?;
    for line in lines {
        writeln!(out, "· {line}")?;
    }
    Ok(())
}

/// What the latency columns mean, where they mean something.
fn latency_lines(outcomes: &[Outcome]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for series in outcomes.iter().flat_map(|outcome| &outcome.series) {
        let pass = series.median_pass();
        if pass.latency.samples() > 0 {
            let line = format!("latency: {}", pass.measures.describe());
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    lines
}
