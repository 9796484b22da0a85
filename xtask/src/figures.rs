//! The table of figures: measured by the harness, written to `results/` and into the README.

use std::path::{Component, Path, PathBuf};
use std::{fmt, fs};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::aim::{Aim, Met};
use crate::cargo::Workspace;
use crate::harness::Build;
use crate::placement::by_distance;
use crate::ratio::{Ratio, median};
use crate::steps::Outcome;

/// The number of the schema of `figures.json`, which is documented in the harness's README.
const SCHEMA: u32 = 1;
/// Where the README's figures are.
const RESULTS: &str = "results";

/// How long and how often each target is run for a ratio.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Effort {
    pub(crate) seconds: String,
    pub(crate) passes: usize,
}

/// Where figures are kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Place {
    /// `results/figures.json`, and the README's table.
    #[default]
    Readme,
    /// A directory below the workspace: figures of another machine, which are not the README's.
    Apart(PathBuf),
}

impl Place {
    /// The directory, unless the README's own figures are in it.
    pub(crate) fn apart(folder: &str) -> Result<Self> {
        ensure!(
            !folder.is_empty() && !folder.starts_with('-'),
            "--to needs a directory, not {folder:?}"
        );
        let folder = PathBuf::from(folder);
        let names: PathBuf = folder
            .components()
            .filter(|part| *part != Component::CurDir)
            .collect();
        ensure!(
            names.iter().all(|name| name != "..") && names.is_relative() && names != Path::new(""),
            "--to wants a directory below the workspace"
        );
        ensure!(
            names != Path::new(RESULTS),
            "{RESULTS} has the README's figures; --to is for those of another machine"
        );
        Ok(Self::Apart(names))
    }

    fn folder(&self, workspace: &Workspace) -> PathBuf {
        workspace.root().join(match self {
            Self::Readme => Path::new(RESULTS),
            Self::Apart(folder) => folder,
        })
    }

    /// The file as the table's reader finds it, and what made it.
    fn words(&self) -> (&str, String) {
        match self {
            Self::Readme => ("results/figures.json", "cargo xtask figures".to_owned()),
            Self::Apart(folder) => (
                "figures.json",
                format!("cargo xtask figures --to {}", folder.display()),
            ),
        }
    }
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            seconds: "1".to_owned(),
            passes: 7,
        }
    }
}

/// Ratios of targets within one comparison.
struct Comparison {
    what: &'static str,
    arguments: &'static [&'static str],
    /// Of each ratio: its name in the report, and the aim if there is one.
    aims: &'static [(&'static str, Option<f64>)],
}

const COMPARED: &[Comparison] = &[
    Comparison {
        what: "life cycle, 1 thread",
        arguments: &["lifecycle", "--threads", "1", "--batch", "1"],
        aims: &[
            ("epoq/crossbeam-channel", Some(0.6)),
            ("epoq/locked", Some(1.8)),
            ("epoq/locked-slab", None),
            ("epoq/locked-sharded", None),
        ],
    },
    Comparison {
        what: "life cycle, 1 thread, turns of 64",
        arguments: &["lifecycle", "--threads", "1", "--batch", "1", "--turn", "64"],
        aims: &[
            ("epoq/crossbeam-channel", Some(1.0)),
            ("epoq/locked", Some(3.0)),
            ("epoq/locked-slab", None),
            ("epoq/locked-sharded", None),
        ],
    },
    Comparison {
        what: "life cycle, 1 thread, batches of 10",
        arguments: &["lifecycle", "--threads", "1", "--batch", "10"],
        aims: &[
            ("epoq/crossbeam-channel", Some(2.5)),
            ("epoq/locked", Some(5.0)),
            ("epoq/locked-slab", None),
            ("epoq/locked-sharded", None),
        ],
    },
    Comparison {
        what: "life cycle, 2 threads",
        arguments: &["lifecycle", "--threads", "2", "--batch", "1"],
        aims: &[
            ("epoq/locked", Some(4.5)),
            ("epoq/locked-slab", None),
            ("epoq/locked-sharded", None),
        ],
    },
    Comparison {
        what: "life cycle, 2 threads, turns of 64",
        arguments: &["lifecycle", "--threads", "2", "--batch", "1", "--turn", "64"],
        aims: &[
            ("epoq/locked", Some(8.0)),
            ("epoq/locked-slab", None),
            ("epoq/locked-sharded", None),
        ],
    },
    Comparison {
        what: "life cycle, 2 threads, batches of 10",
        arguments: &["lifecycle", "--threads", "2", "--batch", "10"],
        aims: &[
            ("epoq/locked", Some(10.0)),
            ("epoq/locked-slab", None),
            ("epoq/locked-sharded", None),
        ],
    },
    Comparison {
        what: "1 M in flight, 1 thread",
        arguments: &[
            "inflight",
            "--threads",
            "1",
            "--in-flight",
            "1000000",
            "--batch",
            "1",
        ],
        aims: &[
            ("epoq/locked", Some(12.0)),
            ("epoq/locked-slab", None),
            ("epoq/locked-sharded", None),
        ],
    },
    Comparison {
        what: "1 M in flight, 1 thread, batches of 10",
        arguments: &[
            "inflight",
            "--threads",
            "1",
            "--in-flight",
            "1000000",
            "--batch",
            "10",
        ],
        aims: &[
            ("epoq/locked", Some(20.0)),
            ("epoq/locked-slab", None),
            ("epoq/locked-sharded", None),
        ],
    },
    Comparison {
        what: "1 M in flight, 1 thread, turns of 64",
        arguments: &[
            "inflight",
            "--threads",
            "1",
            "--in-flight",
            "1000000",
            "--batch",
            "1",
            "--turn",
            "64",
        ],
        aims: &[
            ("epoq/locked", Some(20.0)),
            ("epoq/locked-slab", None),
            ("epoq/locked-sharded", None),
        ],
    },
    Comparison {
        what: "pipeline, 2 threads",
        arguments: &["pipeline", "--batch", "1"],
        aims: &[
            ("epoq/crossbeam-channel", Some(1.0)),
            ("epoq/locked", Some(5.0)),
            ("epoq/locked-slab", None),
            ("epoq/locked-sharded", None),
        ],
    },
    Comparison {
        what: "pipeline, 2 threads, batches of 10",
        arguments: &["pipeline", "--batch", "10"],
        aims: &[
            ("epoq/crossbeam-channel", Some(1.0)),
            ("epoq/locked", Some(5.0)),
            ("epoq/locked-slab", None),
            ("epoq/locked-sharded", None),
        ],
    },
    Comparison {
        what: "steal, 2 threads",
        arguments: &["steal", "--batch", "1"],
        aims: &[
            ("epoq/crossbeam-channel", Some(1.0)),
            ("epoq/locked", Some(5.0)),
            ("epoq/locked-slab", None),
            ("epoq/locked-sharded", None),
        ],
    },
    Comparison {
        what: "steal, 2 threads, batches of 10",
        arguments: &["steal", "--batch", "10"],
        aims: &[
            ("epoq/crossbeam-channel", Some(1.0)),
            ("epoq/locked", Some(5.0)),
            ("epoq/locked-slab", None),
            ("epoq/locked-sharded", None),
        ],
    },
];

/// Ratios of two runs of epoq, taken in turn: the first over the second.
const PAIRED: &[(&str, &[&str], &[&str], f64)] = &[
    (
        "2 threads over 1, batches of 10",
        &["lifecycle", "--threads", "2", "--batch", "10"],
        &["lifecycle", "--threads", "1", "--batch", "10"],
        1.95,
    ),
    (
        "10 M queued over none, batches of 10",
        &[
            "backlog",
            "--threads",
            "1",
            "--backlog",
            "10000000",
            "--batch",
            "10",
        ],
        &["lifecycle", "--threads", "1", "--batch", "10"],
        0.83,
    ),
    (
        "1 M in flight over none, batches of 10",
        &[
            "inflight",
            "--threads",
            "1",
            "--in-flight",
            "1000000",
            "--batch",
            "10",
        ],
        &["lifecycle", "--threads", "1", "--batch", "10"],
        0.83,
    ),
];

const BYTES: &[&str] = &[
    "backlog",
    "--threads",
    "1",
    "--backlog",
    "10000000",
    "--batch",
    "10",
];
const BYTES_AIM: f64 = 64.0;

/// A pair fills a queue anew each time.
const PAIRS_MAX: usize = 5;
/// Passes that a ratio wants, in the harness too: fewer have no interval.
const PASSES_MIN: usize = 3;

/// What a reader of the table has to know of its intervals.
const PLACED: &str = "Intervals are Student's t on the logarithms of the ratios of passes, and hold for where the hypervisor had put the cores in that hour: what a cache \
    line took from core to core and back stands beside them, the middle of all looks and the range. With the cores nearer to each other or farther, another run may lie \
    beyond them. Where all rounds together say too little and the cores were moved between them, the rounds with near ones and with far ones stand apart below.";

const BEGIN: &str = "<!-- figures, written by `cargo xtask figures` -->";
const END: &str = "<!-- end of figures -->";

/// Measures everything and writes it down.
pub(crate) fn measure(workspace: &Workspace, effort: &Effort, place: &Place) -> Result<Outcome> {
    anyhow::ensure!(
        effort.passes >= PASSES_MIN,
        "--passes: a ratio wants {PASSES_MIN} at least"
    );
    // Before all the measuring, which a directory that cannot be made would lose.
    let folder = place.folder(workspace);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Build::Release.build(workspace)?;
    let mut records = Vec::new();
    let mut machine = Value::Null;

    // Memory first: the harness has the process to itself then, and it is the longest.
    let report = ask(workspace, "run", BYTES, &["--seconds", &effort.seconds])?;
    let bytes = number_of(&report, "bytes_per_message_beyond_body")?;
    records.push(memory_record(
        bytes,
        Aim::AtMost(BYTES_AIM).judge_exact(bytes),
        report,
    ));

    for Comparison {
        what,
        arguments,
        aims,
    } in COMPARED
    {
        let targets: Vec<&str> = aims
            .iter()
            .filter_map(|(ratio, _)| ratio.split('/').nth(1))
            .collect();
        let targets = format!("epoq,{}", targets.join(","));
        let passes = effort.passes.to_string();
        let options = [
            "--targets",
            &targets,
            "--seconds",
            &effort.seconds,
            "--passes",
            &passes,
        ];
        let report = ask(workspace, "compare", arguments, &options)?;
        machine = report["targets"]["epoq"]["machine"].clone();
        let command = json!(["compare", arguments, options]);
        let record = comparison_record(what, command, aims, report)?;
        show(&record)?;
        records.push(record);
    }

    let pairs = effort.passes.min(PAIRS_MAX);
    for (what, first, second, aim) in PAIRED {
        let mut each = Vec::new();
        let mut reports = Vec::new();
        for number in 0..pairs {
            let run = |arguments| ask(workspace, "run", arguments, &["--seconds", &effort.seconds]);
            // Every second time backwards, as the harness does: none is always after the other.
            let (of_first, of_second) = if number % 2 == 0 {
                let of_first = run(first)?;
                (of_first, run(second)?)
            } else {
                let of_second = run(second)?;
                (run(first)?, of_second)
            };
            let speed = |report| number_of(report, "messages_per_second");
            each.push(speed(&of_first)? / speed(&of_second)?);
            reports.push([of_first, of_second]);
        }
        let ratio = Ratio::new((*what).to_owned(), each);
        let record = pair_record(what, [first, second], *aim, &ratio, reports);
        show(&record)?;
        records.push(record);
    }

    let commit = records[1]["report"]["targets"]["epoq"]["commit"].clone();
    let figures = file(effort, &commit, &machine, records);
    fs::write(
        folder.join("figures.json"),
        serde_json::to_string_pretty(&figures)? + "\n",
    )?;
    render(workspace, place)
}

/// Writes what `figures.json` has into the README, or to `figures.md` beside it.
pub(crate) fn render(workspace: &Workspace, place: &Place) -> Result<Outcome> {
    let folder = place.folder(workspace);
    let path = folder.join("figures.json");
    let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let figures: Value =
        serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    let table = table(&figures, place)?;
    match place {
        Place::Readme => put_into(&workspace.root().join("README.md"), &table)?,
        Place::Apart(_) => fs::write(folder.join("figures.md"), format!("# Figures\n\n{table}\n"))?,
    }
    println!("\n{table}");
    Ok(Outcome::Passed)
}

/// What a figure comes to, as soon as it has been measured.
fn show(record: &Value) -> Result<()> {
    for row in rows(record, &mut Tally::default())? {
        println!("    {row}");
    }
    Ok(())
}

/// All figures, for the README or a file of their own.
fn table(figures: &Value, place: &Place) -> Result<String> {
    let (file, command) = place.words();
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let records = figures["figures"].as_array().context("there are no figures")?;
    let (mut tally, mut all) = (Tally::default(), Vec::new());
    for record in records {
        all.extend(rows(record, &mut tally)?);
    }
    let machine = &figures["machine"];
    let memory = records.first().context("there are no figures")?;
    let bytes = number_of(memory, "measured")?;
    let pairs = records
        .last()
        .and_then(|record| record["each"].as_array())
        .map_or(0, Vec::len);
    Ok(format!(
        "{BEGIN}\n64-byte bodies. Over rivals: {} × {} s per target, in turn within one process; over itself: {pairs} pairs of processes in turn, every second one \
         backwards; memory: one run. Commit {}, {}, {} cores{}, {}, {}, seed {}. Every run verified itself. Full records: [{file}]({file}), made by `{command}`.\n\n\
         A message queued costs {bytes:.1} bytes beyond its body with 10 M queued (aim: at most {BYTES_AIM}; met: {}). {tally}\n\n\
         {PLACED}\n\n\
         | epoq's throughput (time per message and thread) | over that of | median | 95 % | range | cores apart, ns | aim | met |\n\
         |---|---|---|---|---|---|---|---|\n{}\n{END}",
        figures["effort"]["passes"],
        text(&figures["effort"]["seconds"]),
        text(&figures["commit"]),
        text(&machine["cpu"]),
        machine["cores"],
        if machine["virtual_machine"] == true {
            " of a virtual machine"
        } else {
            ""
        },
        text(&machine["kernel"]),
        text(&machine["rustc"]),
        memory["report"]["seed"],
        Aim::AtMost(BYTES_AIM).judge_exact(bytes).word(),
        all.join("\n"),
    ))
}

/// The rows of one figure: none of memory, one of each ratio, and one of each placement of the cores where all rounds together say too
/// little.
fn rows(record: &Value, tally: &mut Tally) -> Result<Vec<String>> {
    let what = record["what"].as_str().context("a figure has no name")?;
    let mut rows = Vec::new();
    if let Some(targets) = record["report"]["targets"].as_object() {
        let ns = number_of(&targets["epoq"], "ns_per_message_per_thread")?;
        let apart = Apart::of(targets.values());
        let aims = record["aims"].as_array().into_iter().flatten();
        for (name, aim) in aims.filter_map(|aim| Some((aim[0].as_str()?, aim[1].as_f64()))) {
            let ratio = Ratio::new(
                name.to_owned(),
                numbers(&record["report"]["ratios"][name], "each")?,
            );
            let against = name.trim_start_matches("epoq/");
            let row = tally.cells(&ratio, apart, aim);
            rows.push(format!("| {what} ({ns:.0} ns) | {against} | {row} |"));
            if ratio.is_meaningful() {
                continue;
            }
            for placed in by_distance(name, &ratio.each, &looks(targets.values(), ratio.each.len())) {
                let [near, far] = placed.apart_ns;
                let row = cells(&placed.ratio, &format!("{near:.0} – {far:.0}"), None);
                let (some, all) = (placed.ratio.each.len(), ratio.each.len());
                rows.push(format!("| … in {some} of {all} rounds | {against} | {row} |"));
            }
        }
    } else if let Some(reports) = record["reports"].as_array() {
        let ratio = Ratio::new(what.to_owned(), numbers(record, "each")?);
        let apart = Apart::of(reports.iter().filter_map(Value::as_array).flatten());
        let row = tally.cells(&ratio, apart, record["aim"].as_f64());
        rows.push(format!("| {what} | epoq itself | {row} |"));
    }
    Ok(rows)
}

/// Of each round, the least and the most that the cores were apart in any target's pass.
fn looks<'r>(reports: impl Iterator<Item = &'r Value> + Clone, rounds: usize) -> Vec<Option<[f64; 2]>> {
    let of_round = |round: usize| {
        let passes = reports
            .clone()
            .map(move |report| &report["passes_noise"][round]["apart_ns"]);
        passes
            .filter_map(|looks| Some([looks[0].as_f64()?, looks[1].as_f64()?]))
            .reduce(|[near, far], [a, b]| [near.min(a), far.max(b)])
    };
    (0..rounds).map(of_round).collect()
}

/// `figures.json`
fn file(effort: &Effort, commit: &Value, machine: &Value, records: Vec<Value>) -> Value {
    json!({"schema": SCHEMA, "effort": {"seconds": effort.seconds, "passes": effort.passes}, "commit": commit,
        "machine": machine, "figures": records})
}

fn memory_record(bytes: f64, met: Met, report: Value) -> Value {
    json!({"what": "bytes per queued message", "measured": bytes, "aim": BYTES_AIM, "met": met.known(), "report": report})
}

fn comparison_record(
    what: &str,
    command: Value,
    aims: &[(&str, Option<f64>)],
    report: Value,
) -> Result<Value> {
    let targets = report["targets"].as_object().map(Map::values);
    let apart = Apart::of(targets.into_iter().flatten());
    let mut met = Map::new();
    for (name, aim) in aims {
        let ratio = Ratio::new((*name).to_owned(), numbers(&report["ratios"][*name], "each")?);
        met.insert(
            (*name).to_owned(),
            judge(&ratio, *aim).and_then(Met::known).into(),
        );
    }
    Ok(
        json!({"what": what, "command": command, "aims": aims, "met": met, "apart_ns": apart.map(Apart::to_json),
        "report": report}),
    )
}

fn pair_record(
    what: &str,
    commands: [&[&str]; 2],
    aim: f64,
    ratio: &Ratio,
    reports: Vec<[Value; 2]>,
) -> Value {
    let apart = Apart::of(reports.iter().flatten());
    json!({"what": what, "commands": commands, "aim": aim, "met": judge(ratio, Some(aim)).and_then(Met::known),
        "each": ratio.each, "median": ratio.median, "min": ratio.min, "max": ratio.max, "interval_95": ratio.interval,
        "meaningful": ratio.is_meaningful(), "apart_ns": apart.map(Apart::to_json), "reports": reports})
}

/// How far the cores were apart while something was measured: of all looks around its passes, in nanoseconds there and back.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Apart {
    median: f64,
    near: f64,
    far: f64,
}

impl Apart {
    /// Of what runs report; `None` of single threads, and where it was not measured.
    fn of<'r>(reports: impl IntoIterator<Item = &'r Value>) -> Option<Self> {
        let passes = reports
            .into_iter()
            .filter_map(|report| report["passes_noise"].as_array())
            .flatten();
        let looks: Vec<f64> = passes
            .filter_map(|noise| noise["apart_ns"].as_array())
            .flatten()
            .filter_map(Value::as_f64)
            .collect();
        (!looks.is_empty()).then(|| Self {
            median: median(&looks),
            near: looks.iter().copied().fold(f64::INFINITY, f64::min),
            far: looks.iter().copied().fold(0.0, f64::max),
        })
    }

    fn to_json(self) -> Value {
        json!({"median": self.median, "min": self.near, "max": self.far})
    }
}

impl fmt::Display for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} ({:.0} – {:.0})", self.median, self.near, self.far)
    }
}

/// Ratios are aimed at from below.
fn judge(ratio: &Ratio, aim: Option<f64>) -> Option<Met> {
    aim.map(|aim| ratio.judge(Aim::AtLeast(aim)))
}

/// How many aims are met.
#[derive(Default)]
struct Tally {
    aims: usize,
    met: usize,
    missed: usize,
    noisy: usize,
}

impl Tally {
    /// The cells of a ratio, which counts.
    fn cells(&mut self, ratio: &Ratio, apart: Option<Apart>, aim: Option<f64>) -> String {
        if let Some(met) = judge(ratio, aim) {
            self.aims += 1;
            self.met += usize::from(met == Met::Yes);
            self.missed += usize::from(met == Met::No);
            self.noisy += usize::from(!ratio.is_meaningful());
        }
        let apart = apart.map_or("–".to_owned(), |apart| apart.to_string());
        cells(ratio, &apart, aim)
    }
}

/// The cells of a ratio: median, if it can be stated, interval, range, distance of the cores, aim, met.
fn cells(ratio: &Ratio, apart: &str, aim: Option<f64>) -> String {
    let stated = ratio
        .unstated()
        .map_or_else(|| format!("**{:.2}**", ratio.median), str::to_owned);
    let interval = ratio
        .interval
        .map_or("–".to_owned(), |(low, high)| format!("{low:.2} – {high:.2}"));
    let (min, max) = (ratio.min, ratio.max);
    let aimed = aim.map_or("–".to_owned(), |aim| format!("≥ {aim}"));
    let met = judge(ratio, aim).map_or("–", Met::word);
    format!("{stated} | {interval} | {min:.2} – {max:.2} | {apart} | {aimed} | {met}")
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "By all of their 95 % interval, {} of {} ratios reach what was aimed at before anything was built, and {} do not; {} are not clear",
            self.met,
            self.aims,
            self.missed,
            self.aims - self.met - self.missed
        )?;
        match self.noisy {
            0 => f.write_str("."),
            noisy => write!(
                f,
                ". {noisy} cannot be stated, because the interval spans more than a factor of {}.",
                Ratio::SPREAD_MAX
            ),
        }
    }
}

/// Replaces what stands between the marks.
fn put_into(file: &Path, table: &str) -> Result<()> {
    let text = fs::read_to_string(file)?;
    let (before, rest) = text
        .split_once(BEGIN)
        .context("the README has no place for figures")?;
    let (_, after) = rest.split_once(END).context("the README's figures have no end")?;
    Ok(fs::write(file, format!("{before}{table}{after}"))?)
}

fn ask(workspace: &Workspace, command: &str, arguments: &[&str], options: &[&str]) -> Result<Value> {
    let mut harness = Build::Release.harness(workspace, &[command]);
    harness.args(arguments).args(options).arg("--json");
    let output = harness.output().context("the harness does not start")?;
    ensure!(
        output.status.success(),
        "{command} {} failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("the report is not one JSON value")
}

fn number_of(report: &Value, name: &str) -> Result<f64> {
    report[name]
        .as_f64()
        .with_context(|| format!("the report has no {name}"))
}

fn numbers(report: &Value, name: &str) -> Result<Vec<f64>> {
    let numbers = report[name]
        .as_array()
        .map(|each| each.iter().filter_map(Value::as_f64));
    let numbers: Vec<f64> = numbers.into_iter().flatten().collect();
    ensure!(!numbers.is_empty(), "the report has no {name}");
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aims_are_judged_by_all_of_the_interval() {
        let mut tally = Tally::default();
        let mut cells = |each: &[f64], aim| tally.cells(&Ratio::new(String::new(), each.to_vec()), None, aim);
        assert_eq!(
            cells(&[1.9, 2.0, 2.1], Some(1.0)),
            "**2.00** | 1.76 – 2.26 | 1.90 – 2.10 | – | ≥ 1 | yes"
        );
        assert_eq!(
            cells(&[1.9, 2.0, 2.1], Some(2.0)),
            "**2.00** | 1.76 – 2.26 | 1.90 – 2.10 | – | ≥ 2 | not clear"
        );
        assert_eq!(
            cells(&[0.1, 0.2, 0.3], Some(1.0)),
            "too noisy | 0.05 – 0.72 | 0.10 – 0.30 | – | ≥ 1 | no"
        );
        // All passes reach it, and say too little.
        assert!(cells(&[1.9, 3.0, 9.0], Some(1.0)).ends_with("≥ 1 | not clear"));
        assert!(cells(&[1.9, 3.0, 9.0], None).ends_with("| – | – | –"));
        assert_eq!(
            tally.to_string(),
            "By all of their 95 % interval, 1 of 4 ratios reach what was aimed at before anything was built, and 1 do not; 2 are not clear. \
             2 cannot be stated, because the interval spans more than a factor of 1.5."
        );
    }

    #[test]
    fn the_distance_of_the_cores_is_that_of_all_passes() {
        let run = |looks: &[[f64; 2]]| {
            let passes: Vec<Value> = looks.iter().map(|looks| json!({"apart_ns": looks})).collect();
            json!({"passes_noise": passes})
        };
        let (near, far) = (run(&[[50.0, 60.0]]), run(&[[300.0, 310.0], [320.0, 330.0]]));
        let apart = Apart::of([&near, &far]).unwrap();
        assert_eq!(apart.to_string(), "305 (50 – 330)");
        // Of a single thread, and in older reports.
        assert_eq!(
            Apart::of([&json!({"passes_noise": [{"waited": 0.0}]}), &json!({})]),
            None
        );
    }

    #[test]
    fn what_is_noisy_is_told_for_near_and_far_cores() {
        let (near, far) = ([50.0, 60.0], [300.0, 310.0]);
        let passes: Vec<Value> = [near, far, near, far, near, far]
            .iter()
            .map(|looks| json!({"apart_ns": looks}))
            .collect();
        let target = json!({"ns_per_message_per_thread": 70.4, "passes_noise": passes});
        let report = json!({"targets": {"epoq": target, "locked": target},
            "ratios": {"epoq/locked": {"each": [2.0, 9.0, 2.1, 9.1, 1.9, 9.2]}}});
        let record = comparison_record("x", json!([]), &[("epoq/locked", Some(1.5))], report).unwrap();
        let rows = rows(&record, &mut Tally::default()).unwrap();
        assert_eq!(
            rows,
            [
                "| x (70 ns) | locked | too noisy | 1.78 – 10.20 | 1.90 – 9.20 | 180 (50 – 310) | ≥ 1.5 | yes |",
                "| … in 3 of 6 rounds | locked | **2.00** | 1.76 – 2.26 | 1.90 – 2.10 | 50 – 60 | – | – |",
                "| … in 3 of 6 rounds | locked | **9.10** | 8.85 – 9.35 | 9.00 – 9.20 | 300 – 310 | – | – |"
            ]
        );
    }

    #[test]
    fn a_table_names_the_file_it_is_made_of() {
        let report = json!({"seed": 7});
        let figures = json!({"figures": [memory_record(60.0, Met::Yes, report)], "effort": {"passes": 7, "seconds": "1"}});
        let apart = Place::Apart("results/other".into());
        let table = |place| table(&figures, place).unwrap();
        assert!(
            table(&Place::Readme)
                .contains("[results/figures.json](results/figures.json), made by `cargo xtask figures`")
        );
        assert!(
            table(&apart)
                .contains("[figures.json](figures.json), made by `cargo xtask figures --to results/other`")
        );
        assert!(table(&apart).contains(", seed 7."));
    }

    #[test]
    fn members_of_the_file_are_documented() {
        let ratio = Ratio::new(String::new(), vec![1.9, 2.0, 2.1]);
        let report = json!({"passes_noise": [{"apart_ns": [50.0, 60.0]}]});
        let records = vec![
            memory_record(60.0, Met::Yes, Value::Null),
            comparison_record("", json!([]), &[], Value::Null).unwrap(),
            pair_record("", [&[], &[]], 1.0, &ratio, vec![[report, Value::Null]]),
        ];
        let file = file(&Effort::default(), &Value::Null, &Value::Null, records);
        assert_eq!(file["schema"], SCHEMA);
        let readme = include_str!("../../bench-harness/README.md");
        let (_, readme) = readme.split_once("### figures.json").unwrap();
        let objects = file["figures"].as_array().unwrap().iter().chain([&file]);
        for name in objects.flat_map(|object| object.as_object().unwrap().keys()) {
            assert!(readme.contains(&format!("`{name}`")), "{name} is not documented");
        }
    }
}
