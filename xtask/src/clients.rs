//! Clients of SQS, as their makers publish them, against the server: boto3, the aws CLI and kombu, the SDK for JavaScript and sqs-consumer;
//! and, for those who ask for it, the SDK for Rust.
//!
//! What they need is installed beside the build, once. Without Python or Node, or a registry to install from, they are skipped.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::cargo::{BUILD_TESTS, Workspace, run, run_counted, succeeds};
use crate::steps::{Outcome, Steps};

/// What npm and Node are given.
const NODE_FILES: &[&str] = &["package.json", "suite.mjs"];

/// The package of the SDK for Rust's suite.
pub(crate) const RUST: &str = "server/clients/rust/Cargo.toml";
/// Of the target directory.
pub(crate) const RUST_BUILD: &str = "clients/rust";

/// Which of the workspace's packages have been built for their tests before: the server is taken from the same build, for each choice of
/// packages has features of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Built {
    /// All that [`crate::test`] runs.
    Workspace,
    /// None, or the server's.
    Server,
}

/// The suites in Python and JavaScript.
pub(crate) fn clients(workspace: &Workspace, steps: &mut Steps, built: Built) {
    build(workspace, steps, built);
    steps.run("clients: boto3, the aws CLI, kombu, botocore's model", || {
        python(workspace)
    });
    steps.run("clients: SDK for JavaScript, sqs-consumer", || node(workspace));
}

/// The suite of the SDK for Rust, against a server that has been built. It is no part of [`clients`]: the SDK and what it needs are
/// more than a hundred crates, and take minutes to build.
pub(crate) fn rust(workspace: &Workspace, steps: &mut Steps) {
    steps.run("clients: SDK for Rust", || {
        let mut fetch = workspace.cargo(&["fetch", "--quiet", "--locked", "--manifest-path", RUST]);
        if !succeeds(&mut fetch)? {
            return Ok(Outcome::Skipped("cargo cannot fetch the SDK".to_owned()));
        }
        let mut suite = workspace.cargo(&["test", "--locked", "--manifest-path", RUST]);
        suite
            .arg("--target-dir")
            .arg(workspace.target().join(RUST_BUILD))
            .env("EPOQ_SERVER", server(workspace));
        Ok(Outcome::Did(run_counted(&mut suite)?.to_string()))
    });
}

/// The server for the suites.
pub(crate) fn build(workspace: &Workspace, steps: &mut Steps, built: Built) {
    steps.run("clients: the server", || {
        let build: &[&str] = match built {
            Built::Workspace => BUILD_TESTS,
            Built::Server => &["test", "--quiet", "--no-run", "--package", "epoq-server"],
        };
        run(&mut workspace.cargo(build))
    });
}

fn server(workspace: &Workspace) -> PathBuf {
    let name = format!("epoq-server{}", std::env::consts::EXE_SUFFIX);
    workspace.target().join("debug").join(name)
}

fn python(workspace: &Workspace) -> Result<Outcome> {
    let sources = workspace.root().join("server/clients");
    let programs = match installed(workspace, "python", &sources.join("requirements.txt"))? {
        Ok(programs) => programs,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    let mut suite = Command::new(programs.join("python"));
    suite
        .args(["-m", "unittest", "discover", "--start-directory"])
        .arg(&sources)
        .env("EPOQ_SERVER", server(workspace))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    ensure!(
        succeeds(&mut suite)?,
        "the suites in {} failed",
        sources.display()
    );
    Ok(Outcome::Passed)
}

/// moto's server, to compare with.
pub(crate) fn moto(workspace: &Workspace) -> Result<Outcome> {
    let requirements = workspace.root().join("server/clients/moto.txt");
    Ok(match installed(workspace, "moto", &requirements)? {
        Ok(_) => Outcome::Passed,
        Err(reason) => Outcome::Skipped(reason),
    })
}

/// The programs of a Python environment beside the build, made anew when its requirements have changed; or why there is none.
fn installed(
    workspace: &Workspace,
    name: &str,
    requirements: &Path,
) -> Result<std::result::Result<PathBuf, String>> {
    let Some(python) = ["python3", "python"].into_iter().find(|name| starts(name)) else {
        return Ok(Err("there is no Python".to_owned()));
    };
    let environment = workspace.target().join("clients").join(name);
    let programs = environment.join(if cfg!(windows) { "Scripts" } else { "bin" });
    let installed = environment.join("requirements.txt");
    if !same(requirements, &installed) {
        let mut venv = Command::new(python);
        venv.args(["-m", "venv", "--clear"]).arg(&environment);
        if !succeeds(&mut venv)? {
            return Ok(Err("Python makes no virtual environment (venv)".to_owned()));
        }
        let mut pip = Command::new(programs.join("python"));
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ])
        .arg(requirements);
        if !succeeds(&mut pip)? {
            return Ok(Err(format!(
                "pip cannot install what {} names",
                requirements.display()
            )));
        }
        fs::copy(requirements, &installed)?;
    }
    Ok(Ok(programs))
}

fn node(workspace: &Workspace) -> Result<Outcome> {
    if !starts("node") || !starts("npm") {
        return Ok(Outcome::Skipped("there is no Node, or no npm".to_owned()));
    }
    let sources = workspace.root().join("server/clients");
    let folder = workspace.target().join("clients").join("node");
    fs::create_dir_all(&folder)?;
    let is_installed = same(&sources.join("package.json"), &folder.join("package.json"))
        && folder.join("node_modules").is_dir();
    for file in NODE_FILES {
        fs::copy(sources.join(file), folder.join(file)).with_context(|| (*file).to_owned())?;
    }
    if !is_installed {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--silent"])
            .current_dir(&folder);
        if !succeeds(&mut npm)? {
            // So that the next run tries again.
            let _ = fs::remove_file(folder.join("package.json"));
            return Ok(Outcome::Skipped(
                "npm cannot install the SDK and sqs-consumer".to_owned(),
            ));
        }
    }
    let mut suite = Command::new("node");
    suite
        .args(["--test", "suite.mjs"])
        .current_dir(&folder)
        .env("EPOQ_SERVER", server(workspace));
    ensure!(
        succeeds(&mut suite)?,
        "{} failed",
        sources.join("suite.mjs").display()
    );
    Ok(Outcome::Passed)
}

/// Whether both are there and say the same.
fn same(one: &Path, other: &Path) -> bool {
    matches!((fs::read(one), fs::read(other)), (Ok(one), Ok(other)) if one == other)
}

fn starts(program: impl AsRef<OsStr>) -> bool {
    let version = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}
