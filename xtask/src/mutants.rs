//! Mutation testing with cargo-mutants: each file with the tests that are meant to notice.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::cargo::{Workspace, run};
use crate::steps::Outcome;

/// Files, and the tests that judge them.
struct Judged {
    name: &'static str,
    files: &'static [&'static str],
    /// Test targets beside the unit tests.
    targets: &'static [&'static str],
    /// Of the tests, those whose name contains one of these.
    filters: &'static [&'static str],
}

const JUDGED: &[Judged] = &[
    Judged {
        name: "state",
        files: &["core/src/ledger/state.rs"],
        targets: &[],
        filters: &["state::"],
    },
    Judged {
        name: "receipt",
        files: &["core/src/receipt.rs"],
        targets: &[],
        filters: &["receipt::"],
    },
    Judged {
        name: "expiry",
        files: &["core/src/ledger/expiry.rs"],
        targets: &["rules"],
        filters: &[
            "semantics::",
            "delay::",
            "counts::",
            "retention::",
            "housekeeping::",
            "fifo_life::",
        ],
    },
    Judged {
        name: "deduplication",
        files: &[
            "core/src/queue/fifo/recent.rs",
            "core/src/queue/fifo/deduplication.rs",
        ],
        targets: &["rules"],
        filters: &[
            "fifo_deduplication::",
            "fifo_sending::",
            "fifo_attempts::",
            "recent::",
        ],
    },
    Judged {
        name: "group",
        files: &["core/src/ledger/group/*.rs"],
        targets: &["rules"],
        filters: &["fifo_", "group::"],
    },
];

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// One of the names; all of them if there is none.
    pub(crate) name: Option<String>,
    /// `k/n`: only that part of the mutants.
    pub(crate) shard: Option<String>,
}

/// Tests that take seconds each, of what no file here decides alone.
const SLOW: [&str; 1] = ["memory_returns_after_a_million"];

/// Mutates, and lists what no test noticed. Survivors are no failure of the step: they are to be read, and
/// `results/mutants.md` says what was read in them.
pub(crate) fn mutants(workspace: &Workspace, options: &Options) -> Result<Outcome> {
    let version = workspace
        .cargo(&["mutants", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !version.is_ok_and(|status| status.success()) {
        return Ok(Outcome::Skipped(
            "cargo-mutants is not installed (cargo install cargo-mutants --locked)".to_owned(),
        ));
    }
    let asked = |judged: &&Judged| options.name.as_deref().is_none_or(|name| name == judged.name);
    let (mut caught, mut missed) = (0, 0);
    let mut any = false;
    for judged in JUDGED.iter().filter(asked) {
        any = true;
        let folder = workspace.target().join("mutants").join(judged.name);
        fs::create_dir_all(&folder)?;
        let mut cargo = workspace.cargo(&["mutants", "--package", "epoq", "--no-shuffle", "--output"]);
        cargo.arg(&folder);
        cargo.args(judged.files.iter().flat_map(|file| ["--file", file]));
        cargo.args(options.shard.iter().flat_map(|shard| ["--shard", shard]));
        // To cargo build and cargo test alike: the other tests are not even built.
        cargo.arg("--cargo-arg=--lib");
        cargo.args(
            judged
                .targets
                .iter()
                .map(|target| format!("--cargo-arg=--test={target}")),
        );
        // The first pair of dashes is cargo-mutants', the second cargo's.
        cargo.args(["--", "--"]).args(judged.filters);
        cargo.args(SLOW.iter().flat_map(|slow| ["--skip", slow]));
        // It fails when a mutant survives; whether it came to an end is told by what it wrote.
        let status = run(&mut cargo);
        let count = |file: &str| {
            let path = folder.join("mutants.out").join(file);
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string());
            text.map(|text| text.lines().count())
        };
        let (found, left) = (count("caught.txt")? + count("timeout.txt")?, count("missed.txt")?);
        if found + left == 0 {
            status?;
        }
        println!("    {}: {found} caught, {left} survived", judged.name);
        caught += found;
        missed += left;
    }
    if !any {
        let names: Vec<_> = JUDGED.iter().map(|judged| judged.name).collect();
        bail!(
            "no files are called {:?}; there are {}",
            options.name,
            names.join(", ")
        );
    }
    Ok(Outcome::Did(format!(
        "{caught} mutants caught, {missed} survived"
    )))
}
