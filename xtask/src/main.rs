//! The checks of the workspace: `cargo xtask help`.
//!
//! Needs a stable Rust toolchain and nothing else. Children print to the terminal themselves, nothing is captured but the
//! report of the harness.

mod arguments;
mod cargo;
mod figures;
mod harness;
mod steps;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use arguments::{Command, LoomOptions, USAGE};
use cargo::{Workspace, run};
use steps::{Outcome, Steps};

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
        Command::Figures(effort) => {
            let mut steps = Steps::new(true);
            steps.run("figures", || figures::measure(&workspace, &effort));
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

/// All tests: unit, integration and documentation, then the models with their twins.
fn test(workspace: &Workspace, steps: &mut Steps, bound: Option<usize>, no_fail_fast: bool) {
    steps.run("tests: unit, integration, documentation", || {
        let mut cargo = workspace.cargo(&["test", "--workspace", "--exclude", "epoq-loom"]);
        if no_fail_fast {
            cargo.arg("--no-fail-fast");
        }
        run(&mut cargo)
    });
    let options = LoomOptions {
        filter: None,
        bound,
        no_fail_fast,
    };
    steps.run(&options.title(), || models(workspace, &options));
}

/// The loom models, optimised and with debug assertions.
fn models(workspace: &Workspace, options: &LoomOptions) -> Result<Outcome> {
    let cargo = || {
        let mut cargo = workspace.cargo_loom(&["test", "--package", "epoq-loom"]);
        // Release, but with the assertions on, which are half of what a model checks; and without link-time optimisation,
        // which each of the many test binaries would pay for anew.
        cargo.args(["--release", "--config", "profile.release.debug-assertions=true"]);
        cargo.args([
            "--config",
            "profile.release.lto=\"off\"",
            "--config",
            "profile.release.codegen-units=16",
        ]);
        cargo.env("LOOM_MAX_PREEMPTIONS", options.bound_in_force());
        cargo.args(options.no_fail_fast.then_some("--no-fail-fast"));
        cargo.args(&options.filter);
        cargo
    };
    if let Some(filter) = &options.filter {
        // Without this, a misspelt name runs nothing and passes.
        let list = cargo()
            .args(["--", "--list"])
            .stderr(std::process::Stdio::inherit())
            .output();
        let list = list.context("cargo does not start")?;
        ensure!(list.status.success(), "the models do not build: {}", list.status);
        let matching = String::from_utf8_lossy(&list.stdout)
            .lines()
            .filter(|line| line.ends_with(": test"))
            .count();
        ensure!(matching > 0, "no model or twin is called {filter:?}");
    }
    run(&mut cargo())
}

/// Everything that is not a test: form, lints of both builds, documentation, and a short run of the harness.
fn ci(workspace: &Workspace, steps: &mut Steps) {
    steps.run("format", || {
        if let Some(skipped) = workspace.without_component("fmt", "rustfmt") {
            return Ok(skipped);
        }
        run(&mut workspace.cargo(&["fmt", "--all", "--", "--check"]))
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
    steps.run("clippy, lines build: the ledger and the harness", || {
        if let Some(skipped) = workspace.without_component("clippy", "clippy") {
            return Ok(skipped);
        }
        let targets = ["--package", "epoq", "--package", "epoq-bench", "--lib"];
        run(workspace
            .cargo_lines(&["clippy"])
            .args(targets)
            .args(["--", "-D", "warnings"]))
    });
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
    steps.run("harness: build", || run(&mut workspace.cargo(harness::BUILD)));
    steps.run("harness: each scenario, verified", || {
        harness::verify_scenarios(workspace)
    });
}
