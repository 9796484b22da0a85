//! Explorations under shuttle, and the soak.

use anyhow::Result;

use crate::{
    cargo::{Workspace, run},
    steps::{Outcome, Steps},
};

const SHUTTLE_FLAGS: &[&str] = &["--cfg", "shuttle"];
const STALLS_FLAGS: &[&str] = &["--cfg", "stalls"];
/// Optimised, but with the assertions on, and without what takes a build long; a panic is what ends a schedule that fails.
const SHUTTLE_PROFILE: &[&str] = &[
    "--release",
    "--config",
    "profile.release.debug-assertions=true",
    "--config",
    "profile.release.lto=\"off\"",
    "--config",
    "profile.release.codegen-units=16",
    "--config",
    "profile.release.panic=\"unwind\"",
];

/// Explores with the arguments of `epoq-exploration`.
pub(crate) fn explore(workspace: &Workspace, arguments: &[String]) -> Result<Outcome> {
    let mut cargo = workspace.cargo_with(
        SHUTTLE_FLAGS,
        "shuttle",
        &["run", "--package", "epoq-exploration"],
    );
    cargo.args(SHUTTLE_PROFILE).arg("--").args(arguments);
    if arguments.is_empty() {
        cargo.args(["--seconds", "60"]);
    }
    run(&mut cargo)
}

/// Soaks with the arguments of `epoq-soak`; the report goes to `results` unless they name another directory.
pub(crate) fn soak(workspace: &Workspace, arguments: &[String]) -> Result<Outcome> {
    let (stalls, arguments): (Vec<_>, Vec<_>) =
        arguments.iter().partition(|argument| *argument == "--stalls");
    let build = ["run", "--release", "--package", "epoq-soak"];
    let mut cargo = if stalls.is_empty() {
        workspace.cargo(&build)
    } else {
        let mut cargo = workspace.cargo_with(STALLS_FLAGS, "stalls", &build);
        // Its speed says nothing.
        cargo.args([
            "--config",
            "profile.release.lto=\"off\"",
            "--config",
            "profile.release.codegen-units=16",
        ]);
        cargo
    };
    cargo.arg("--").args(&arguments);
    if !arguments.iter().any(|argument| argument.starts_with("--out")) {
        cargo.arg("--out").arg(workspace.root().join("results"));
    }
    run(&mut cargo)
}

/// What automation runs: the faults that explorations have to find, some new schedules, and short soaks.
pub(crate) fn check(workspace: &Workspace, steps: &mut Steps) {
    steps.run("explorations: steps done wrong are found", || {
        let mut cargo = workspace.cargo_with(
            SHUTTLE_FLAGS,
            "shuttle",
            &["test", "--package", "epoq-exploration"],
        );
        run(cargo.args(SHUTTLE_PROFILE))
    });
    steps.run("explorations: 20 seconds", || {
        explore(workspace, &["--seconds", "20"].map(str::to_owned))
    });
    for (title, stalls) in [
        ("soak: 20 seconds", None),
        ("soak: 20 seconds, with stalls", Some("--stalls")),
    ] {
        steps.run(title, || {
            let out = workspace.target().join("soak").display().to_string();
            let mut arguments = ["--minutes", "0.34", "--out", &out].map(str::to_owned).to_vec();
            arguments.extend(stalls.map(str::to_owned));
            soak(workspace, &arguments)
        });
    }
}

/// Lints of the builds that only explorations and stalls have.
pub(crate) fn lint(workspace: &Workspace, steps: &mut Steps) {
    for (title, directory, flags, targets) in [
        (
            "clippy, shuttle build: the ledger",
            "shuttle",
            SHUTTLE_FLAGS,
            ["--package", "epoq", "--lib"],
        ),
        (
            "clippy, shuttle build: the explorations",
            "shuttle",
            SHUTTLE_FLAGS,
            ["--package", "epoq-exploration", "--all-targets"],
        ),
        (
            "clippy, build with stalls",
            "stalls",
            STALLS_FLAGS,
            ["--package", "epoq", "--lib"],
        ),
    ] {
        steps.run(title, || {
            if let Some(skipped) = workspace.without_component("clippy", "clippy") {
                return Ok(skipped);
            }
            let mut cargo = workspace.cargo_with(flags, directory, &["clippy"]);
            run(cargo.args(targets).args(["--", "-D", "warnings"]))
        });
    }
}
