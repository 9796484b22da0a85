//! Mutation of the ledger's memory orderings: `cargo xtask mutate-orderings --help`.
//!
//! ```text
//!  core/src ── parse ──► sites ──► mutants ─────────────────────────────┐
//!     │                    │                                            ▼
//!     └── copy, in which each site asks which mutant is in force ──► one build ──► models × mutants ──► verdicts
//!                          ▲                                            ▲               │                  │
//!             hand-overs.toml: halves that change places     a run without a mutant     └── state.json     ▼
//!                                                            says which model            (kept)        survivors.toml
//!                                                            reaches which site                        results/
//! ```
//!
//! A mutant costs no build, only the run of the models that reach its site, up to the first that fails.

mod account;
mod campaign;
mod hand_over;
mod model;
mod mutant;
mod mutated;
mod options;
mod parse;
mod recorded;
mod report;
mod site;
mod state;

use std::fs;
use std::path::{self, Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use account::Account;
use campaign::Campaign;
use mutant::Mutant;
use options::{Options, USAGE};
use recorded::Recorded;
use report::Report;
use state::{Measures, Sources, State};

/// Mutants in a quick run.
const QUICK: usize = 12;
/// Files of models that a quick run builds and runs: most mutants are killed by these.
const QUICK_FILES: &[&str] = &["due", "growth", "nodes", "pile", "publication", "token"];

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error:#}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if options.help {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mutate-orderings: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all that was run is killed or accounted for.
fn run(options: &Options) -> Result<bool> {
    let start = Instant::now();
    let (root, target) = workspace()?;
    let mut sites = parse::sites(&root)?;
    sites.extend(hand_over::sites(&root, &root.join("loom-tests/hand-overs.toml"))?);
    let all = mutants(&sites);
    let account = Account::read(&root.join("loom-tests/survivors.toml"), &all)?;
    let recorded = if options.quick {
        Some(Recorded::read(&root)?)
    } else {
        None
    };
    let chosen = chosen(&all, &account, recorded.as_ref(), options);
    if options.list {
        for mutant in &chosen {
            println!("{}:{}  {}", mutant.key.file, mutant.line, mutant.key);
        }
        println!("{} mutants of {} sites", chosen.len(), sites.len());
        return Ok(true);
    }
    ensure!(!chosen.is_empty(), "no mutant is chosen");

    let folder = target.join("mutants");
    let (copy, logs) = (folder.join("workspace"), folder.join("logs"));
    fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
    println!("==> {} mutants of {} sites: build", chosen.len(), sites.len());
    mutated::write(&root, &copy, &sites)?;
    let tests = model::build(&copy, &target, options.quick.then_some(QUICK_FILES))?;
    println!("==> models without a mutant");
    // What a model reaches hardly depends on the bound: a sample does not wait minutes to be told.
    let (measured_at, file) = match options.quick {
        true => ("1", "models-quick.json"),
        false => (options.bound.as_str(), "models.json"),
    };
    let measures = Measures::load(
        &folder.join(file),
        options.fresh,
        &Sources::read(&root, measured_at)?,
        &sites,
    );
    let models = campaign::measure(tests, measures, measured_at, &logs, options.jobs)?;
    let together: Duration = models.iter().map(|model| model.time).sum();
    println!(
        "    {} tests with models, {:.1} s together",
        models.len(),
        together.as_secs_f64()
    );

    println!("==> models with mutants");
    let sources = Sources::read(&root, &options.bound)?;
    let state = State::load(&folder.join("state.json"), options.fresh);
    let campaign = Campaign {
        sites: &sites,
        models: &models,
        sources: &sources,
        bound: &options.bound,
        logs: &logs,
        jobs: options.jobs,
        // The few models of a quick run are too few to tell by one measurement which are slow.
        slow: options.slow || options.quick,
    };
    let mut judged = campaign.run(&chosen, state)?;
    // Hand-overs among the orderings of their file.
    judged.sort_by_key(|judged| (judged.mutant.key.file.clone(), judged.mutant.line));
    let report = Report {
        sites: &sites,
        judged: &judged,
        account: &account,
        models: models.len(),
        bound: &options.bound,
        jobs: options.jobs,
        time: start.elapsed(),
    };
    let passed = report.print();
    if !options.quick && options.filter.is_none() {
        report.write(&root, &root.join("results"))?;
    }
    Ok(passed)
}

/// The mutants of what is compiled for loom.
fn mutants(sites: &[site::Site]) -> Vec<Mutant> {
    let mut mutants = mutant::all(sites);
    mutants.retain(|mutant| sites[mutant.site].not_compiled.is_none());
    mutants
}

/// What the options ask for.
fn chosen(all: &[Mutant], account: &Account, recorded: Option<&Recorded>, options: &Options) -> Vec<Mutant> {
    let matches = |mutant: &&Mutant| {
        let filter = options.filter.as_deref().unwrap_or_default();
        mutant.key.to_string().contains(filter) || mutant.key.file.contains(filter)
    };
    let mut chosen: Vec<Mutant> = all.iter().filter(matches).cloned().collect();
    if let Some(recorded) = recorded {
        // The same ones every time, from all over: by the hash of their keys. Of those that models of these files have killed.
        chosen.retain(|mutant| {
            let killer = recorded.killer(&mutant.key);
            account.reason(&mutant.key).is_none() && killer.is_some_and(|file| QUICK_FILES.contains(&file))
        });
        chosen.sort_by_key(|mutant| Sha256::digest(mutant.key.to_string()).to_vec());
        chosen.truncate(QUICK);
        chosen.sort_by_key(|mutant| mutant.site);
    }
    chosen
}

/// The workspace this program belongs to, and its target directory.
fn workspace() -> Result<(PathBuf, PathBuf)> {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let root = Path::new(&manifest)
        .parent()
        .context("ordering-mutants/ lies in the workspace root")?
        .to_owned();
    ensure!(
        root.join("core/src/lib.rs").is_file(),
        "no ledger in {}",
        root.display()
    );
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => path::absolute(target).context("CARGO_TARGET_DIR")?,
        None => root.join("target"),
    };
    Ok((root, target))
}
