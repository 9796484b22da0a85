//! The table of figures: measured by the harness, written to `results/` and into the README.

use std::path::Path;
use std::{fmt, fs};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cargo::Workspace;
use crate::harness::RELEASE;
use crate::steps::Outcome;

/// How long and how often each target is run for a ratio.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Effort {
    pub(crate) seconds: String,
    pub(crate) passes: usize,
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

const BEGIN: &str = "<!-- figures, written by `cargo xtask figures` -->";
const END: &str = "<!-- end of figures -->";

/// Measures everything and writes it down.
pub(crate) fn measure(workspace: &Workspace, effort: &Effort) -> Result<Outcome> {
    anyhow::ensure!(
        effort.passes >= PASSES_MIN,
        "--passes: a ratio wants {PASSES_MIN} at least"
    );
    RELEASE.build(workspace)?;
    let mut rows = Vec::new();
    let mut tally = Tally::default();
    let mut records = Vec::new();
    let mut machine = Value::Null;

    // Memory first: the harness has the process to itself then, and it is the longest.
    let report = ask(workspace, "run", BYTES, &["--seconds", &effort.seconds])?;
    let bytes = number(&report, "bytes_per_message_beyond_body")?;
    records.push(
        json!({"what": "bytes per queued message", "measured": bytes, "aim": BYTES_AIM, "report": report}),
    );

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
        let ns = number(&report["targets"]["epoq"], "ns_per_message_per_thread")?;
        for (ratio, aim) in *aims {
            let found = &report["ratios"][*ratio];
            let (median, min, max) = (
                number(found, "median")?,
                number(found, "min")?,
                number(found, "max")?,
            );
            let against = ratio.trim_start_matches("epoq/");
            let median = (found["meaningful"] == true).then_some(median);
            let judged = tally.judge(median, (min, max), *aim);
            println!("    {what}, over {against}: {judged} {min:.2} to {max:.2}");
            rows.push(format!(
                "| {what} ({ns:.0} ns) | {against} | {judged} {min:.2} – {max:.2} |"
            ));
        }
        records.push(
            json!({"what": what, "command": ["compare", arguments, options], "aims": aims, "report": report}),
        );
    }

    for (what, first, second, aim) in PAIRED {
        let mut ratios = Vec::new();
        let mut reports = Vec::new();
        for _ in 0..effort.passes.min(PAIRS_MAX) {
            let speed = |arguments: &[&str]| -> Result<(f64, Value)> {
                let report = ask(workspace, "run", arguments, &["--seconds", &effort.seconds])?;
                Ok((number(&report, "messages_per_second")?, report))
            };
            let ((a, of_a), (b, of_b)) = (speed(first)?, speed(second)?);
            ratios.push(a / b);
            reports.push(json!([of_a, of_b]));
        }
        ratios.sort_by(f64::total_cmp);
        let (low, high) = (ratios[(ratios.len() - 1) / 2], ratios[ratios.len() / 2]);
        let (min, median, max) = (ratios[0], (low + high) / 2.0, ratios[ratios.len() - 1]);
        // By the range, which asks for more than an interval.
        let stated = (max / min <= SPREAD_MAX).then_some(median);
        let judged = tally.judge(stated, (min, max), Some(*aim));
        println!("    {what}: {judged} {min:.2} to {max:.2}");
        rows.push(format!("| {what} | epoq itself | {judged} {min:.2} – {max:.2} |"));
        records.push(json!({"what": what, "commands": [first, second], "aim": aim,
            "median": median, "min": min, "max": max, "reports": reports}));
    }

    let commit = records[1]["report"]["targets"]["epoq"]["commit"].clone();
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let table = format!(
        "{BEGIN}\n64-byte bodies. Over rivals: {} × {} s per target, in turn within one process; over itself: {} pairs of processes in turn; \
         memory: one run. Commit {}, {}, {} cores{}, {}, {}, seed 1. Every run verified itself. Full records: [results/figures.json](results/figures.json), made by `cargo xtask figures`.\n\n\
         A message queued costs {bytes:.1} bytes beyond its body with 10 M queued (aim: at most {BYTES_AIM}). {tally}\n\n\
         | epoq's throughput (time per message and thread) | over that of | median | aim | met | range |\n|---|---|---|---|---|---|\n{}\n{END}",
        effort.passes,
        effort.seconds,
        effort.passes.min(PAIRS_MAX),
        text(&commit),
        text(&machine["cpu"]),
        machine["cores"],
        if machine["virtual_machine"] == true {
            " of a virtual machine"
        } else {
            ""
        },
        text(&machine["kernel"]),
        text(&machine["rustc"]),
        rows.join("\n"),
    );
    let results = workspace.root().join("results");
    fs::create_dir_all(&results)?;
    let figures = json!({"effort": {"seconds": effort.seconds, "passes": effort.passes}, "machine": machine, "figures": records});
    fs::write(
        results.join("figures.json"),
        serde_json::to_string_pretty(&figures)? + "\n",
    )?;
    put_into(&workspace.root().join("README.md"), &table)?;
    println!("\n{table}");
    Ok(Outcome::Passed)
}

/// A ratio whose passes spread by more than this factor is not stated; the harness's own rule.
const SPREAD_MAX: f64 = 1.5;

/// How many aims are met.
#[derive(Default)]
struct Tally {
    aims: usize,
    met: usize,
    noisy: usize,
}

impl Tally {
    /// The cells of a ratio, which may be too noisy to be stated: median, aim, met. One that is, is met or not if all passes say so.
    fn judge(&mut self, median: Option<f64>, (min, max): (f64, f64), aim: Option<f64>) -> String {
        let stated = median.map_or("too noisy".to_owned(), |median| format!("**{median:.2}**"));
        let Some(aim) = aim else {
            return format!("{stated} | – | – |");
        };
        self.aims += 1;
        let is_met = match median {
            Some(median) => Some(median >= aim),
            None if min >= aim => Some(true),
            None if max < aim => Some(false),
            None => None,
        };
        self.met += usize::from(is_met == Some(true));
        self.noisy += usize::from(median.is_none());
        let met = match is_met {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        };
        format!("{stated} | ≥ {aim} | {met} |")
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} ratios reach what was aimed at before anything was built",
            self.met, self.aims
        )?;
        match self.noisy {
            0 => f.write_str("."),
            noisy => write!(
                f,
                "; {noisy} cannot be stated, because what their passes say for the middle spans more than a factor of {SPREAD_MAX} (95 % interval)."
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
    let mut harness = RELEASE.harness(workspace, &[command]);
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

fn number(report: &Value, name: &str) -> Result<f64> {
    report[name]
        .as_f64()
        .with_context(|| format!("the report has no {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_noisy_is_judged_if_all_passes_agree() {
        let mut tally = Tally::default();
        assert_eq!(
            tally.judge(Some(2.0), (1.9, 2.1), Some(1.0)),
            "**2.00** | ≥ 1 | yes |"
        );
        assert_eq!(
            tally.judge(None, (1.9, 9.0), Some(1.0)),
            "too noisy | ≥ 1 | yes |"
        );
        assert_eq!(tally.judge(None, (0.1, 0.9), Some(1.0)), "too noisy | ≥ 1 | no |");
        assert_eq!(tally.judge(None, (0.1, 1.0), Some(1.0)), "too noisy | ≥ 1 | ? |");
        assert_eq!(tally.judge(None, (0.1, 9.0), None), "too noisy | – | – |");
        assert!(tally.to_string().starts_with("2 of 4 ratios reach"), "{tally}");
    }
}
