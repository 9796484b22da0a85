//! Explorations under shuttle, and the soak.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::{
    cargo::{Workspace, run, run_read},
    faults, harness,
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
    "profile.release.debug=false",
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
    let mut explored = String::new();
    run_read(&mut cargo, |line| {
        if let Some((counts, _)) = line.split_once(": nothing found") {
            counts.trim().clone_into(&mut explored);
        }
    })?;
    Ok(Outcome::Did(explored))
}

/// Builds the explorer from a copy of the workspace, in which steps are done wrong. Says where it is.
pub(crate) fn build_explorer(workspace: &Workspace, copy: &Path) -> Result<PathBuf> {
    let directory = "faults/build";
    let mut cargo = workspace.cargo_with(
        SHUTTLE_FLAGS,
        directory,
        &["build", "--package", "epoq-exploration"],
    );
    run(cargo.args(SHUTTLE_PROFILE).current_dir(copy))?;
    Ok(workspace
        .target()
        .join(directory)
        .join("release/epoq-exploration"))
}

/// Soaks with the arguments of `epoq-soak`; the report goes to `results` unless they name another directory.
pub(crate) fn soak(workspace: &Workspace, build: harness::Build, arguments: &[String]) -> Result<Outcome> {
    let (stalls, arguments): (Vec<_>, Vec<_>) =
        arguments.iter().partition(|argument| *argument == "--stalls");
    let mut soak = if stalls.is_empty() {
        build.build(workspace)?;
        build.soak(workspace)
    } else {
        let mut cargo = workspace.cargo_with(
            STALLS_FLAGS,
            "stalls",
            &["run", "--release", "--package", "epoq-soak"],
        );
        cargo.arg("--");
        cargo
    };
    soak.args(&arguments);
    if !arguments.iter().any(|argument| argument.starts_with("--out")) {
        soak.arg("--out").arg(workspace.root().join("results"));
    }
    let mut deliveries = String::new();
    run_read(&mut soak, |line| {
        if let Some((_, count)) = line.split_once("deliveries, each judged | ") {
            deliveries = format!("{} deliveries, each judged", count.trim_end_matches(['|', ' ']));
        }
    })?;
    Ok(Outcome::Did(deliveries))
}

/// How long explorations and soaks go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// As automation runs them.
    Short,
    /// Some minutes.
    Middle,
    /// A quarter of an hour of schedules, half an hour of soak, and some minutes with stalls.
    Full,
}

/// The faults that explorations have to find, some new schedules, and soaks.
pub(crate) fn check(workspace: &Workspace, steps: &mut Steps, length: Length) {
    steps.run("explorations: steps done wrong are found", || {
        faults::find(workspace, matches!(length, Length::Short))
    });
    steps.run("explorations: a seed goes the same way twice", || {
        let mut cargo = workspace.cargo_with(
            SHUTTLE_FLAGS,
            "shuttle",
            &["test", "--package", "epoq-exploration"],
        );
        run(cargo.args(SHUTTLE_PROFILE))
    });
    let (seconds, soaked, build) = match length {
        Length::Short => (10, 20, harness::Build::Tested),
        Length::Middle => (120, 120, harness::Build::Release),
        Length::Full => (900, 1_800, harness::Build::Release),
    };
    steps.run(&format!("explorations: {seconds} seconds"), || {
        explore(workspace, &["--seconds".to_owned(), seconds.to_string()])
    });
    // The ledger that yields between any two steps is a build of its own, too much for a short run.
    let with_stalls = (length == Length::Full).then_some((300, Some("--stalls")));
    for (seconds, stalls) in [(soaked, None)].into_iter().chain(with_stalls) {
        let with = stalls.map_or("", |_| ", with stalls");
        let title = format!("soak: {seconds} seconds{with}");
        steps.run(&title, || {
            let out = workspace.target().join("soak").display().to_string();
            let minutes = format!("{:.2}", f64::from(seconds) / 60.0);
            let mut arguments = ["--minutes", &minutes, "--out", &out].map(str::to_owned).to_vec();
            arguments.extend(stalls.map(str::to_owned));
            soak(workspace, build, &arguments)
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
