//! `epoq-bench suite`, `report` and `completions`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Instant, SystemTime},
};

use anyhow::Context;
use clap::{Args, CommandFactory, ValueEnum};
use serde_json::{Map, Value};

use super::{
    measure::{Measurer, clock},
    regression::Comparison,
    results::{FILE_NAME, Results, SCHEMA, write_whole},
    stop,
    sweep::{self, Sweep},
    usage::Meter,
};
use crate::{
    cli::Cli,
    command::{Error, Verdict},
    cores::Cores,
    environment::{self, Machine},
    page::{comparison, html, markdown},
    progress::Progress,
};

/// The page's name in a directory of results.
const PAGE_NAME: &str = "index.html";
/// The summary's.
const SUMMARY_NAME: &str = "summary.md";
/// The page of several runs.
const COMPARISON_NAME: &str = "comparison.html";

/// Which suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// About two minutes on two cores
    Quick,
    /// More points, longer and more often: more than an hour on two cores
    Full,
}

impl Kind {
    const fn text(self) -> &'static str {
        match self {
            Self::Quick => sweep::QUICK,
            Self::Full => sweep::FULL,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }
}

/// `epoq-bench suite`
#[derive(Clone, Debug, Args)]
pub struct Suite {
    /// Which suite
    #[arg(default_value = "quick")]
    pub kind: Kind,
    /// A sweep of your own, in TOML, instead; `--print-config` shows one to begin with
    #[arg(long, value_name = "FILE", conflicts_with = "kind")]
    pub config: Option<PathBuf>,
    /// Where to write results.json, index.html and summary.md; default: epoq-bench-results/NAME-TIME
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Measure only these curves
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Stretch the time of each pass by this
    #[arg(long, allow_negative_numbers = true, default_value_t = 1.0, value_parser = crate::cli::positive::<100>)]
    pub pace: f64,
    /// For bodies and everything random
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Print the suite's file and measure nothing
    #[arg(long)]
    pub print_config: bool,
    /// Print the curves, their points and the time they take, and measure nothing
    #[arg(long)]
    pub list: bool,
}

/// `epoq-bench report`
#[derive(Clone, Debug, Args)]
pub struct Report {
    /// Directories of results; one is rendered anew, several are compared with the first
    #[arg(required = true, value_name = "DIR")]
    pub runs: Vec<PathBuf>,
    /// Judge each run against this one; exit with 4 if the ledger is slower somewhere, beyond the threshold and beyond noise, and with 3 if
    /// nothing could be judged or an interrupted run left points out
    #[arg(long, value_name = "DIR")]
    pub baseline: Option<PathBuf>,
    /// How much slower is too much
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = threshold)]
    pub threshold: f64,
    /// Where to write the comparison of several runs; default: the last run's directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// `epoq-bench completions`
#[derive(Clone, Copy, Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Examples under `suite --help`.
pub const SUITE_EXAMPLES: &str = "\
Examples:
  epoq-bench suite                                   about two minutes; prints where the page is
  epoq-bench suite full --out results/full           the long one, to be kept
  epoq-bench suite --only threads,batch --pace 3     two curves, measured three times as long
  epoq-bench suite --print-config > mine.toml        a file to change, and then
  epoq-bench suite --config mine.toml                a sweep of your own
Ctrl-C ends the measuring; what was measured until then is written and rendered.";

/// Examples under `report --help`.
pub const REPORT_EXAMPLES: &str = "\
Examples:
  epoq-bench report results/suite                                makes page and summary anew
  epoq-bench report before after                                 one page with both, what changed in a table
  epoq-bench report after --baseline before --threshold 10%      exits with 4 where the ledger became slower by more, with 3 if nothing was judged
A change counts only beyond noise: the best pass is worse than the baseline's worst, also when what became of the rivals is taken off.";

/// Examples under `completions --help`.
pub const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  epoq-bench completions bash > ~/.local/share/bash-completion/completions/epoq-bench
  epoq-bench completions zsh > ~/.zfunc/_epoq-bench
  epoq-bench completions fish > ~/.config/fish/completions/epoq-bench.fish";

/// `5%` or `5` as 0.05.
fn threshold(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim();
    match number.parse::<f64>() {
        Ok(percent) if (0.0..100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("is a number of percent from 0 to below 100, as 5%".into()),
    }
}

/// Prints completions for a shell.
pub fn completions(options: Completions) -> Result<Verdict, Error> {
    clap_complete::generate(
        options.shell,
        &mut Cli::command(),
        "epoq-bench",
        &mut io::stdout(),
    );
    Ok(Verdict::Verified)
}

/// Measures a suite, and writes and renders what came of it.
pub fn suite(options: &Suite) -> Result<Verdict, Error> {
    if options.print_config {
        print!("{}", options.kind.text());
        return Ok(Verdict::Verified);
    }
    let mut sweep = read_sweep(options)?;
    sweep.keep(&options.only).map_err(Error::Usage)?;
    if options.list {
        for curve in &sweep.curves {
            let labels: Vec<String> = curve.values.iter().map(|value| value.words(curve.vary)).collect();
            println!("{:<18} {}", curve.id, labels.join(", "));
            if let Some(words) = curve.left_out_words() {
                println!("{:<18} {words}", "");
            }
        }
        println!("{} points, about {}", sweep.points(), clock_of(sweep.seconds()));
        return Ok(Verdict::Verified);
    }
    let started = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let directory = options.out.clone().unwrap_or_else(|| {
        let time: String = started
            .chars()
            .filter(|letter| letter.is_ascii_alphanumeric())
            .collect();
        PathBuf::from("epoq-bench-results").join(format!("{}-{time}", sweep.name))
    });
    // Now, not after the measuring: where nothing can be written, nothing is worth measuring.
    fs::create_dir_all(&directory).with_context(|| format!("{} cannot be made", directory.display()))?;
    stop::listen();

    let machine = Machine::detect();
    let mut results = Results {
        schema: SCHEMA,
        name: sweep.name.clone(),
        command: command_line(options),
        started,
        seconds: 0.0,
        // Until it is over: whoever ends the process leaves a file that says so.
        interrupted: true,
        points_planned: sweep.points(),
        verified: true,
        commit: environment::commit(),
        seed: options.seed,
        machine: as_map(&machine, &Cores::of_process().describe()),
        other_work: None,
        curves: Vec::new(),
    };
    let mut measurer = Measurer::new(&sweep);
    for line in [machine.line(), machine.build_line()] {
        measurer.watch().line(&line);
    }
    if cfg!(debug_assertions) {
        measurer.watch().line(
            "WARNING: built with debug assertions; build with --release for figures that mean something",
        );
    }
    measurer.watch().line(&format!(
        "{} curves, {} points, about {}; Ctrl-C keeps what was measured",
        sweep.curves.len(),
        sweep.points(),
        clock_of(sweep.seconds())
    ));
    for curve in &sweep.curves {
        if let Some(words) = curve.left_out_words() {
            measurer.watch().line(&format!("curve {}: {words}", curve.id));
        }
    }
    let (begin, meter) = (Instant::now(), Meter::begin());
    let write = |results: &mut Results| {
        results.seconds = begin.elapsed().as_secs_f64();
        results.other_work = meter.read();
        results.verified = results.findings().is_empty();
        results.write(&directory)?;
        // At once: no page of older results is to stand beside these.
        render(results, &directory)?;
        remove(&directory.join(COMPARISON_NAME))
    };
    // After each curve, so that not even a crash of the machine takes more than one.
    let measured = measurer.measure(|curve| {
        results.curves.push(curve);
        write(&mut results)
    });
    results.interrupted = stop::is_asked_for() || measured.is_err();
    if results.curves.is_empty() {
        measured?;
        // What may be there is better than nothing.
        eprintln!("nothing was measured");
        return Ok(Verdict::Interrupted);
    }
    let written = write(&mut results);
    for finding in results.findings() {
        eprintln!("WRONG: {finding}");
    }
    written?;
    println!(
        "{} points in {}: {}",
        results.points(),
        clock_of(results.seconds),
        directory.join(PAGE_NAME).display()
    );
    measured?;
    Ok(if !results.verified {
        Verdict::Failed
    } else if results.interrupted {
        Verdict::Interrupted
    } else {
        Verdict::Verified
    })
}

fn read_sweep(options: &Suite) -> Result<Sweep, Error> {
    let Some(path) = &options.config else {
        return Sweep::read(options.kind.text(), options.pace, options.seed).map_err(Error::Usage);
    };
    let text = fs::read_to_string(path)
        .map_err(|error| Error::Usage(format!("{} cannot be read: {error}", path.display())))?;
    Sweep::read(&text, options.pace, options.seed)
        .map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
}

/// The command that makes the same again, without where it was written.
fn command_line(options: &Suite) -> String {
    use std::fmt::Write;
    let mut line = match &options.config {
        Some(path) => format!("epoq-bench suite --config {}", path.display()),
        None => format!("epoq-bench suite {}", options.kind.name()),
    };
    if !options.only.is_empty() {
        let _ = write!(line, " --only {}", options.only.join(","));
    }
    if options.pace != 1.0 {
        let _ = write!(line, " --pace {}", options.pace);
    }
    if options.seed != 1 {
        let _ = write!(line, " --seed {}", options.seed);
    }
    line
}

fn clock_of(seconds: f64) -> String {
    clock(std::time::Duration::from_secs_f64(seconds.max(0.0)))
}

/// The machine as results have it: with where its cores are, as [`Cores::describe`] says it, and how many of them are whole.
fn as_map(machine: &Machine, topology: &str) -> Map<String, Value> {
    let mut map = match serde_json::to_value(machine) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    if let Some(physical) = topology
        .split_once(" physical cores")
        .and_then(|(count, _)| count.parse::<u64>().ok())
        .filter(|&count| count > 0)
    {
        map.insert("physical_cores".into(), physical.into());
        map.insert("topology".into(), topology.into());
    }
    map
}

/// Writes page and summary.
fn render(results: &Results, directory: &Path) -> anyhow::Result<()> {
    write_whole(&directory.join(PAGE_NAME), &html::page(results))?;
    write_whole(
        &directory.join(SUMMARY_NAME),
        &markdown::summary(results, PAGE_NAME),
    )
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

/// Renders one run anew, or lays several side by side.
pub fn report(options: &Report) -> Result<Verdict, Error> {
    let read = |path: &PathBuf| {
        Results::read(path)
            .map(|results| (name_of(path), results))
            .map_err(Error::Broken)
    };
    let runs: Vec<(String, Results)> = options.runs.iter().map(read).collect::<Result<_, _>>()?;
    for ((_, results), path) in runs.iter().zip(&options.runs) {
        let directory = directory_of(path);
        render(results, &directory)?;
        println!("{}", directory.join(PAGE_NAME).display());
    }
    let baseline = options.baseline.as_ref().map(read).transpose()?;
    let all: Vec<(String, &Results)> = baseline
        .iter()
        .chain(&runs)
        .map(|(name, results)| (name.clone(), results))
        .collect();
    let mut worse = 0;
    let mut incomplete = Vec::new();
    if all.len() > 1 {
        let (_, first) = &all[0];
        let comparisons: Vec<(String, Comparison)> = all[1..]
            .iter()
            .map(|(name, results)| (name.clone(), Comparison::of(first, results, options.threshold)))
            .collect();
        let directory = match (&options.out, options.runs.last()) {
            (Some(out), _) => out.clone(),
            (None, Some(last)) => directory_of(last),
            (None, None) => PathBuf::from("."),
        };
        fs::create_dir_all(&directory).with_context(|| format!("{} cannot be made", directory.display()))?;
        let page = directory.join(COMPARISON_NAME);
        write_whole(&page, &comparison::page(&all, &comparisons))?;
        for (name, comparison) in &comparisons {
            println!(
                "\n{name} against {}: {}",
                all[0].0,
                comparison::verdict(comparison)
            );
            for warning in &comparison.warnings {
                println!("  hard to compare: {warning}");
            }
            for change in comparison.improvements().iter().rev() {
                println!("  better: {}", change.words());
            }
            for change in comparison.regressions() {
                println!("  WORSE:  {}", change.words());
            }
            worse += comparison.regressions().len();
            incomplete.extend(comparison.incomplete.as_ref().map(|why| format!("{name}: {why}")));
        }
        println!("\n{}", page.display());
    }
    let is_verified = all.iter().all(|(_, results)| results.verified);
    Ok(if !is_verified {
        Verdict::Failed
    } else if options.baseline.is_some() && worse > 0 {
        Verdict::Regressed
    } else if options.baseline.is_some() && !incomplete.is_empty() {
        // A gate that judged nothing has not been passed.
        return Err(Error::Broken(anyhow::anyhow!(
            "no verdict: {}",
            incomplete.join("; ")
        )));
    } else {
        Verdict::Verified
    })
}

fn directory_of(path: &Path) -> PathBuf {
    if path.is_dir() {
        path.to_owned()
    } else {
        path.parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
    }
}

/// The directory's name; of a file that of its directory.
fn name_of(path: &Path) -> String {
    let directory = directory_of(path);
    let absolute = directory.canonicalize().unwrap_or(directory);
    absolute.file_name().map_or_else(
        || FILE_NAME.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes the sample, changed, into a new directory.
    fn written(name: &str, change: impl FnOnce(&mut Results)) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("epoq-bench-gate-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut results = Results::sample();
        change(&mut results);
        results.write(&directory).unwrap();
        directory
    }

    #[test]
    fn a_gate_that_judged_nothing_is_not_passed() {
        let before = written("before", |_| {});
        let cut = written("cut", |results| {
            results.interrupted = true;
            results.curves.truncate(2);
        });
        // As it was before curves that were written said that there are more to come.
        let killed = written("killed", |results| results.curves.truncate(2));
        let other = written("other", |results| {
            for curve in &mut results.curves {
                curve.settings.insert("seconds".into(), 9.into());
            }
        });
        let judge = |run: &Path, baseline: Option<&Path>| {
            report(&Report {
                runs: vec![before.clone(), run.to_owned()],
                baseline: baseline.map(Path::to_owned),
                threshold: 0.05,
                out: None,
            })
        };
        assert!(matches!(judge(&before, Some(&before)), Ok(Verdict::Verified)));
        for run in [&cut, &killed, &other] {
            let error = judge(run, Some(&before)).unwrap_err();
            assert!(
                matches!(&error, Error::Broken(why) if why.to_string().starts_with("no verdict: ")),
                "{error:?}"
            );
            // Looked at side by side, they may be.
            assert!(matches!(judge(run, None), Ok(Verdict::Verified)));
        }
        for directory in [before.clone(), cut, killed, other] {
            fs::remove_dir_all(directory).unwrap();
        }
    }

    #[test]
    fn thresholds_are_percent() {
        assert_eq!((threshold("5%"), threshold("12.5")), (Ok(0.05), Ok(0.125)));
        assert!(threshold("-1").is_err() && threshold("x").is_err() && threshold("100%").is_err());
    }

    #[test]
    fn results_know_the_cores_and_their_order() {
        let cores = Cores::of_process().describe();
        let map = as_map(&Machine::detect(), &cores);
        if Machine::detect().pinned {
            assert!(map["physical_cores"].as_u64().unwrap() >= 1, "{map:?}");
            assert!(
                map["topology"].as_str().unwrap().contains("in this order"),
                "{map:?}"
            );
        }
        assert!(!as_map(&Machine::detect(), "").contains_key("physical_cores"));
    }

    #[test]
    fn completions_are_made_for_every_shell() {
        for &shell in clap_complete::Shell::value_variants() {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "epoq-bench", &mut text);
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains("suite") && text.contains("baseline"), "{shell}");
        }
    }
}
