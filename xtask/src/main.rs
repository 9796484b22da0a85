//! The checks of the workspace: `cargo xtask help`.
//!
//! Needs a stable Rust toolchain and nothing else; what needs more is skipped without it, and says so. Children print to the
//! terminal themselves or what they print is passed on, but for the reports of the harness and of the fuzzers.

// The harness's rules for what passes say, without the harness: this is the first thing a fresh clone compiles.
#[allow(
    dead_code,
    unreachable_pub,
    reason = "what the harness does with it is more than figures need"
)]
#[path = "../../bench-harness/src/aim.rs"]
mod aim;
mod arguments;
mod cargo;
mod catalogue;
mod clients;
mod endurance;
mod faults;
mod figures;
mod fuzz;
mod harness;
mod mutants;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "what the harness does with it is more than figures need"
)]
#[path = "../../bench-harness/src/placement.rs"]
mod placement;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "what the harness does with it is more than figures need"
)]
#[path = "../../bench-harness/src/ratio.rs"]
mod ratio;
mod sanitize;
mod steps;

use std::fs;
use std::process::{self, ExitCode};

use anyhow::{Context, Result, ensure};

use arguments::{Command, LoomOptions, USAGE};
use cargo::{Workspace, run, run_counted};
use catalogue::{Catalogue, Explored};
use clients::Built;
use endurance::Length;
use sanitize::{Sanitizer, Tests};
use steps::{Outcome, Steps};

/// Of the models, and of the mutants that are shown to them.
const LOOM_BUILDS: &[&str] = &["loom", "loom-epoch"];
/// Of the explorations, and of their faults.
const EXPLORED_BUILDS: &[&str] = &["shuttle", "faults"];

fn main() -> ExitCode {
    let command = match Command::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match execute(command) {
        Ok(passed) if passed => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all steps passed; an error where no step could begin.
fn execute(command: Command) -> Result<bool> {
    let workspace = Workspace::find()?;
    match command {
        Command::Help => {
            println!("{USAGE}");
            Ok(true)
        }
        Command::Test { bound, no_fail_fast } => {
            let mut steps = Steps::new(!no_fail_fast);
            test(&workspace, &mut steps, bound, no_fail_fast);
            Ok(steps.finish())
        }
        Command::Loom(options) => {
            let mut steps = Steps::new(true);
            steps.run(&options.title(), || models(&workspace, &options));
            Ok(steps.finish())
        }
        Command::Sanitize { sanitizers, tests } => {
            let mut steps = Steps::new(false);
            for sanitizer in sanitizers {
                steps.run(&sanitizer.title(&tests), || sanitizer.run(&workspace, &tests));
            }
            Ok(steps.finish())
        }
        Command::Fuzz(options) => {
            let mut steps = Steps::new(true);
            steps.run(&options.title(), || fuzz::fuzz(&workspace, &options));
            Ok(steps.finish())
        }
        Command::Mutants(options) => {
            let mut steps = Steps::new(true);
            steps.run("mutants", || mutants::mutants(&workspace, &options));
            Ok(steps.finish())
        }
        Command::Verify { with_mutants, length } => {
            let mut steps = Steps::new(false);
            // Before reports are written that are part of it.
            let commit = commit(&workspace);
            verify(&workspace, &mut steps, length);
            if with_mutants {
                let options = mutants::Options::default();
                steps.run("mutants", || mutants::mutants(&workspace, &options));
            }
            keep(&workspace, &steps, &commit, with_mutants, length)?;
            Ok(steps.finish())
        }
        Command::RenderFigures(place) => {
            let mut steps = Steps::new(true);
            steps.run("figures", || figures::render(&workspace, &place));
            Ok(steps.finish())
        }
        Command::Figures(effort, place) => {
            let mut steps = Steps::new(true);
            steps.run("figures", || figures::measure(&workspace, &effort, &place));
            Ok(steps.finish())
        }
        Command::MutateOrderings(options) => {
            let mut steps = Steps::new(true);
            steps.run("ordering mutants", || mutate_orderings(&workspace, &options));
            Ok(steps.finish())
        }
        Command::Explore(arguments) => {
            let mut steps = Steps::new(true);
            steps.run("explorations", || endurance::explore(&workspace, &arguments));
            Ok(steps.finish())
        }
        Command::ExploreFaults => {
            let mut steps = Steps::new(true);
            steps.run("explorations: steps done wrong are found", || {
                faults::find(&workspace, false)
            });
            Ok(steps.finish())
        }
        Command::Soak(arguments) => {
            let mut steps = Steps::new(true);
            steps.run("soak", || {
                endurance::soak(&workspace, harness::Build::Release, &arguments)
            });
            Ok(steps.finish())
        }
        Command::Clients { rust: false } => {
            let mut steps = Steps::new(false);
            clients::clients(&workspace, &mut steps, Built::Server);
            Ok(steps.finish())
        }
        Command::Clients { rust: true } => {
            let mut steps = Steps::new(false);
            clients::build(&workspace, &mut steps, Built::Server);
            clients::rust(&workspace, &mut steps);
            steps.done_with(&workspace, &[clients::RUST_BUILD]);
            Ok(steps.finish())
        }
        Command::Wire(options) => {
            let mut steps = Steps::new(true);
            steps.run("wire: moto's server", || clients::moto(&workspace));
            steps.run("wire", || {
                let out = workspace.root().join("results");
                harness::Build::Release.build(&workspace)?;
                let mut harness =
                    harness::Build::Release.harness(&workspace, &["wire", "--moto", "auto", "--out"]);
                run(harness.arg(out).args(&options))
            });
            Ok(steps.finish())
        }
        Command::Lines => {
            let mut steps = Steps::new(true);
            steps.run("lines: the model's own tests", || {
                run(&mut workspace.cargo_lines(&[
                    "test",
                    "--release",
                    "--package",
                    "epoq",
                    "--lib",
                    "lines::",
                ]))
            });
            steps.run("lines", || {
                let mut cargo = workspace.cargo_lines(&["run", "--release", "--package", "epoq-bench"]);
                run(cargo
                    .args(["--", "lines", "--to"])
                    .arg(workspace.root().join("results")))
            });
            Ok(steps.finish())
        }
        Command::Ci { no_fail_fast } => {
            let mut steps = Steps::new(!no_fail_fast);
            ci(&workspace, &mut steps);
            Ok(steps.finish())
        }
    }
}

/// What another program says, or nothing.
fn said(workspace: &Workspace, program: &str, arguments: &[&str]) -> String {
    let output = process::Command::new(program)
        .args(arguments)
        .current_dir(workspace.root())
        .output();
    let text = output.map_or_else(|_| Vec::new(), |output| output.stdout);
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// The commit, with `-dirty` when something was changed since that runs do not write down themselves.
fn commit(workspace: &Workspace) -> String {
    let commit = said(workspace, "git", &["rev-parse", "--short=12", "HEAD"]);
    let status = [
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ":/",
        ":(top,exclude)results",
        ":(top,exclude)README.md",
    ];
    if said(workspace, "git", &status).is_empty() {
        commit
    } else {
        commit + "-dirty"
    }
}

/// The table of a verification, to `results/verify.md`.
fn keep(
    workspace: &Workspace,
    steps: &Steps,
    commit: &str,
    with_mutants: bool,
    length: Length,
) -> Result<()> {
    let command = format!(
        "cargo xtask verify{}{}",
        if length == Length::Full { " --full" } else { "" },
        if with_mutants { " --mutants" } else { "" }
    );
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let text = format!(
        "# Verification\n\nMade by `{command}` at commit {commit}, {cores} cores, {}. What was there before need not be built again, and takes the less time.\n\n{}",
        said(workspace, "rustc", &["--version"]),
        steps.table()
    );
    let file = workspace.root().join("results").join("verify.md");
    fs::write(&file, text).with_context(|| file.display().to_string())
}

/// Everything there is.
fn verify(workspace: &Workspace, steps: &mut Steps, length: Length) {
    test(workspace, steps, None, true);
    clients::rust(workspace, steps);
    steps.done_with(workspace, &[clients::RUST_BUILD]);
    lints(workspace, steps);
    lints_of_rare_builds(workspace, steps);
    steps.run("ordering mutants: all", || mutate_orderings(workspace, &[]));
    steps.done_with(workspace, LOOM_BUILDS);
    scenarios(workspace, steps);
    endurance::check(workspace, steps, length);
    steps.done_with(workspace, EXPLORED_BUILDS);
    sanitizers(workspace, steps, &Tests::All);
    let fuzz_seconds = match length {
        Length::Short | Length::Middle => 60,
        Length::Full => 600,
    };
    fuzzers(workspace, steps, fuzz_seconds);
}

fn sanitizers(workspace: &Workspace, steps: &mut Steps, tests: &Tests) {
    for sanitizer in Sanitizer::ALL {
        steps.run(&sanitizer.title(tests), || sanitizer.run(workspace, tests));
        steps.done_with(workspace, &[sanitizer.name()]);
    }
}

fn fuzzers(workspace: &Workspace, steps: &mut Steps, seconds: u64) {
    for &target in fuzz::TARGETS {
        let options = fuzz::Options {
            target: Some(target.to_owned()),
            seconds,
        };
        steps.run(&options.title(), || fuzz::fuzz(workspace, &options));
    }
}

/// All tests: unit, integration and documentation, clients of the server, then the models with their twins.
fn test(workspace: &Workspace, steps: &mut Steps, bound: Option<usize>, no_fail_fast: bool) {
    steps.run("tests: unit, integration, documentation", || {
        let mut cargo = workspace.cargo(&["test", "--workspace", "--exclude", "epoq-loom"]);
        if no_fail_fast {
            cargo.arg("--no-fail-fast");
        }
        Ok(Outcome::Did(run_counted(&mut cargo)?.to_string()))
    });
    clients::clients(workspace, steps, Built::Workspace);
    let options = LoomOptions {
        filter: None,
        bound,
        no_fail_fast,
        table: false,
    };
    steps.run(&options.title(), || models(workspace, &options));
}

/// The loom models, optimised and with debug assertions: those with a stand-in for the collector, then those with it.
fn models(workspace: &Workspace, options: &LoomOptions) -> Result<Outcome> {
    let catalogue = Catalogue::read(workspace)?;
    let arguments = |mut cargo: process::Command| {
        // Release, but with the assertions on, which are half of what a model checks; and without what each of the many test
        // binaries would pay for anew.
        cargo.args(["--release", "--config", "profile.release.debug-assertions=true"]);
        cargo.args(["--config", "profile.release.debug=false"]);
        // loom itself is what takes a model's time.
        cargo.args(["--config", "profile.release.opt-level=1"]);
        cargo.args(["--config", "profile.release.package.\"*\".opt-level=3"]);
        cargo.env("LOOM_MAX_PREEMPTIONS", options.bound_in_force());
        cargo.args(options.no_fail_fast.then_some("--no-fail-fast"));
        cargo
    };
    let test = ["test", "--package", "epoq-loom"];
    let stand_in = || arguments(workspace.cargo_loom(&test));
    let collector = || {
        let mut cargo = arguments(workspace.cargo_collector(&test));
        for name in &catalogue.with_collector {
            cargo.args(["--test", name]);
        }
        cargo
    };
    let mut explored = Vec::new();
    let mut counted = cargo::Counted::default();
    let mut matching = 0;
    for build in [&stand_in as &dyn Fn() -> process::Command, &collector] {
        if let Some(filter) = &options.filter {
            // Without this, a misspelt name runs nothing and passes.
            let found = listed(&mut build(), filter)?;
            matching += found;
            if found == 0 {
                continue;
            }
        }
        let mut cargo = build();
        cargo.args(&options.filter);
        counted += cargo::run_read(&mut cargo, |line| explored.extend(Explored::parse(line)))?;
    }
    if let Some(filter) = &options.filter {
        ensure!(matching > 0, "no model or twin is called {filter:?}");
    }
    if options.table {
        let path = catalogue::readme(workspace);
        let readme = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        fs::write(&path, catalogue::with_figures(&readme, &explored)?)?;
        println!(
            "    figures of {} models are in {}",
            explored.len(),
            path.display()
        );
    }
    Ok(Outcome::Did(format!("{counted}: models and twins")))
}

/// The mutants of the ledger's orderings, by a program of its own.
fn mutate_orderings(workspace: &Workspace, options: &[String]) -> Result<Outcome> {
    let mut cargo = workspace.cargo(&["run", "--quiet", "--package", "ordering-mutants", "--"]);
    run(cargo.args(options))
}

/// How many tests of a build have `filter` in their names.
fn listed(cargo: &mut process::Command, filter: &str) -> Result<usize> {
    let list = cargo
        .args([filter, "--", "--list"])
        .stderr(process::Stdio::inherit())
        .output()
        .context("cargo does not start")?;
    ensure!(list.status.success(), "the models do not build: {}", list.status);
    let names = String::from_utf8_lossy(&list.stdout);
    Ok(names.lines().filter(|line| line.ends_with(": test")).count())
}

/// The README of the models names those that there are.
fn check_catalogue(workspace: &Workspace) -> Result<Outcome> {
    let path = catalogue::readme(workspace);
    let readme = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Catalogue::read(workspace)?.check(&readme)?;
    Ok(Outcome::Passed)
}

/// Everything that is not one of all tests: form, lints of both builds, documentation, the SDK for Rust, and short runs of the harness,
/// the sanitizers and the fuzzers.
fn ci(workspace: &Workspace, steps: &mut Steps) {
    lints(workspace, steps);
    steps.run("ordering mutants: a sample", || {
        mutate_orderings(workspace, &["--quick".to_owned()])
    });
    steps.done_with(workspace, LOOM_BUILDS);
    scenarios(workspace, steps);
    // With the server of that build.
    clients::rust(workspace, steps);
    steps.done_with(workspace, &[clients::RUST_BUILD]);
    endurance::check(workspace, steps, Length::Short);
    steps.done_with(workspace, EXPLORED_BUILDS);
    sanitizers(workspace, steps, &Tests::Quick);
    fuzzers(workspace, steps, fuzz::SECONDS);
}

fn lints(workspace: &Workspace, steps: &mut Steps) {
    steps.run("format", || {
        if let Some(skipped) = workspace.without_component("fmt", "rustfmt") {
            return Ok(skipped);
        }
        run(&mut workspace.cargo(&["fmt", "--all", "--", "--check"]))?;
        run(&mut workspace.cargo(&["fmt", "--manifest-path", clients::RUST, "--", "--check"]))
    });
    steps.run("clippy", || {
        if let Some(skipped) = workspace.without_component("clippy", "clippy") {
            return Ok(skipped);
        }
        let targets = ["--workspace", "--exclude", "epoq-loom", "--all-targets"];
        run(workspace
            .cargo(&["clippy"])
            .args(targets)
            .args(["--", "-D", "warnings"]))
    });
    steps.run("the table of models", || check_catalogue(workspace));
    // The ledger's own tests are not written for loom, so only its library is built for it.
    for (title, targets) in [
        ("clippy, loom build: the ledger", ["--package", "epoq", "--lib"]),
        (
            "clippy, loom build: the models",
            ["--package", "epoq-loom", "--all-targets"],
        ),
    ] {
        steps.run(title, || {
            if let Some(skipped) = workspace.without_component("clippy", "clippy") {
                return Ok(skipped);
            }
            run(workspace
                .cargo_loom(&["clippy"])
                .args(targets)
                .args(["--", "-D", "warnings"]))
        });
    }
    for (title, mut cargo) in [
        (
            "documentation",
            workspace.cargo(&["doc", "--workspace", "--no-deps"]),
        ),
        // The runner of the models exists in this build only.
        (
            "documentation, loom build",
            workspace.cargo_loom(&["doc", "--package", "epoq-loom", "--no-deps"]),
        ),
    ] {
        cargo::append_flags(&mut cargo, "RUSTDOCFLAGS", &["-D", "warnings"]);
        steps.run(title, || run(&mut cargo));
    }
}

/// Of builds that other checks make anyway, or that are for some figures only: too much for automation.
fn lints_of_rare_builds(workspace: &Workspace, steps: &mut Steps) {
    steps.run("clippy, loom build: the models of the collector", || {
        if let Some(skipped) = workspace.without_component("clippy", "clippy") {
            return Ok(skipped);
        }
        let mut cargo = workspace.cargo_collector(&["clippy", "--package", "epoq-loom"]);
        for name in Catalogue::read(workspace)?.with_collector {
            cargo.args(["--test", &name]);
        }
        run(cargo.args(["--", "-D", "warnings"]))
    });
    steps.run("clippy, lines build: the ledger", || {
        if let Some(skipped) = workspace.without_component("clippy", "clippy") {
            return Ok(skipped);
        }
        let targets = ["--package", "epoq", "--lib"];
        run(workspace
            .cargo_lines(&["clippy"])
            .args(targets)
            .args(["--", "-D", "warnings"]))
    });
    endurance::lint(workspace, steps);
}

fn scenarios(workspace: &Workspace, steps: &mut Steps) {
    steps.run("harness and soak, as their tests have them: build", || {
        harness::Build::Tested.build(workspace)
    });
    steps.run("harness: each scenario, verified", || {
        harness::verify_scenarios(workspace)
    });
}
