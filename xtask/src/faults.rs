//! Steps of the ledger done wrong, which explorations have to find: what they do not see there they would not see in the ledger
//! either.
//!
//! Each is a patch in `exploration/faults`. All of them are applied to one copy of the ledger, where each asks whether it is the one in
//! force: one build serves all, and the ledger itself knows nothing of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{cargo::Workspace, endurance, steps::Outcome};

/// What is copied: what explorations are built from, and what the ledger's manifest names.
const FOLDERS: [&str; 4] = ["core", "history", "judge", "exploration"];
const FILES: [&str; 3] = ["Cargo.toml", "Cargo.lock", "README.md"];
const MEMBERS: &str = "members = [\"core\", \"history\", \"judge\", \"exploration\"]";

/// Characters of what went wrong that are shown.
const SHOWN: usize = 160;

/// A step done wrong.
#[derive(Debug, PartialEq)]
struct Fault {
    /// The patch's name, which the patch asks for.
    name: String,
    /// It has to be found in so many.
    seeds: u64,
    patch: PathBuf,
}

impl Fault {
    fn all(workspace: &Workspace) -> Result<Vec<Self>> {
        let folder = folder(workspace);
        let mut all = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let patch = entry.with_context(|| folder.display().to_string())?.path();
            if patch.extension().is_some_and(|extension| extension == "patch") {
                let text = fs::read_to_string(&patch).with_context(|| patch.display().to_string())?;
                all.push(Self::parse(&patch, &text).with_context(|| patch.display().to_string())?);
            }
        }
        ensure!(!all.is_empty(), "no patches in {}", folder.display());
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    fn parse(patch: &Path, text: &str) -> Result<Self> {
        let name = patch
            .file_stem()
            .and_then(|name| name.to_str())
            .context("a name")?;
        ensure!(
            text.contains(&format!("wrong::is(\"{name}\")")),
            "the patch does not ask for its own name"
        );
        let seeds = text
            .lines()
            .find_map(|line| line.strip_prefix("Seeds: "))
            .context("no line `Seeds: N`")?;
        Ok(Self {
            name: name.to_owned(),
            seeds: seeds.parse().context(seeds.to_owned())?,
            patch: patch.to_owned(),
        })
    }

    /// Demands that one of its seeds fails. In a process of its own: what goes wrong may be memory that is freed too early.
    fn is_found(&self, explorer: &Path) -> Result<()> {
        let output = Command::new(explorer)
            .args(["--seeds", &self.seeds.to_string()])
            .env("EPOQ_FAULT", &self.name)
            .output()
            .with_context(|| explorer.display().to_string())?;
        let text = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => bail!("{} was not found in {} seeds", self.name, self.seeds),
            Some(2) => bail!("{text}"),
            _ => {
                let found = text.lines().rfind(|line| line.contains("FAILED"));
                // What is left in the queues follows, at length.
                let found: String = found.unwrap_or("a crash").chars().take(SHOWN).collect();
                println!("    {}: {found}", self.name);
                Ok(())
            }
        }
    }
}

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.root().join("exploration").join("faults")
}

/// Faults that are found in so many seeds take seconds, the others minutes.
const SOON: u64 = 100;

/// Builds the copy, and has each fault found; or only those that are found soon.
pub(crate) fn find(workspace: &Workspace, soon: bool) -> Result<Outcome> {
    let mut faults = Fault::all(workspace)?;
    if Command::new("git").arg("--version").output().is_err() {
        return Ok(Outcome::Skipped("no git, which applies the patches".to_owned()));
    }
    let folder = workspace.target().join("faults");
    let copy = folder.join("workspace");
    write(workspace, &faults, &folder.join("fresh"), &copy)?;
    let explorer = endurance::build_explorer(workspace, &copy)?;
    // The copy has all of them, whichever are asked for: it need not be built twice.
    faults.retain(|fault| !soon || fault.seeds <= SOON);
    let mut missed = Vec::new();
    for fault in &faults {
        if let Err(error) = fault.is_found(&explorer) {
            missed.push(format!("{error:#}"));
        }
    }
    ensure!(missed.is_empty(), "{}", missed.join("\n"));
    Ok(Outcome::Did(format!("{} faults found", faults.len())))
}

/// Makes the copy with all patches. Files that are as they should be are left alone, so that cargo builds no more than it must.
fn write(workspace: &Workspace, faults: &[Fault], fresh: &Path, copy: &Path) -> Result<()> {
    if fresh.exists() {
        fs::remove_dir_all(fresh).with_context(|| fresh.display().to_string())?;
    }
    let mut files = BTreeMap::new();
    for folder in FOLDERS {
        collect(workspace.root(), Path::new(folder), &mut files)?;
    }
    for file in FILES {
        files.insert(PathBuf::from(file), read(&workspace.root().join(file))?);
    }
    let shim = Path::new("core/src/sync.rs");
    files
        .get_mut(shim)
        .context("core/src/sync.rs")?
        .extend_from_slice(b"\n#[cfg(shuttle)]\npub(crate) mod wrong;\n");
    files.insert(
        "core/src/sync/wrong.rs".into(),
        read(&folder(workspace).join("wrong.rs"))?,
    );
    let manifest = files.get_mut(Path::new("Cargo.toml")).context("Cargo.toml")?;
    *manifest = of_the_copy(&String::from_utf8_lossy(manifest)).into_bytes();
    for (file, text) in &files {
        put(&fresh.join(file), text)?;
    }
    for fault in faults {
        let output = Command::new("git")
            .args(["apply", "--whitespace=nowarn"])
            .arg(&fault.patch)
            .current_dir(fresh)
            // The copy lies in a directory that the workspace's repository ignores, and is none of its own.
            .env("GIT_CEILING_DIRECTORIES", fresh.parent().unwrap_or(fresh))
            .output()
            .context("git")?;
        ensure!(
            output.status.success(),
            "{} does not apply any more: {}",
            fault.patch.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let mut wanted = BTreeMap::new();
    collect(fresh, Path::new(""), &mut wanted)?;
    let mut present = BTreeMap::new();
    if copy.exists() {
        collect(copy, Path::new(""), &mut present)?;
    }
    for (file, text) in &wanted {
        if present.get(file) != Some(text) {
            put(&copy.join(file), text)?;
        }
    }
    for file in present.keys().filter(|file| !wanted.contains_key(*file)) {
        fs::remove_file(copy.join(file)).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// The workspace's manifest, with the copy's members.
fn of_the_copy(manifest: &str) -> String {
    let lines = manifest.lines().map(|line| match line {
        _ if line.starts_with("members = ") => MEMBERS,
        _ if line.starts_with("default-members = ") => "",
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    let shown = || root.join(folder).display().to_string();
    for entry in fs::read_dir(root.join(folder)).with_context(shown)? {
        let entry = entry.with_context(shown)?;
        let path = folder.join(entry.file_name());
        if entry.file_type().with_context(shown)?.is_dir() {
            collect(root, &path, files)?;
        } else {
            files.insert(path.clone(), read(&root.join(&path))?);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

fn put(path: &Path, text: &[u8]) -> Result<()> {
    let shown = || path.display().to_string();
    fs::create_dir_all(path.parent().with_context(shown)?).with_context(shown)?;
    fs::write(path, text).with_context(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_says_in_how_many_seeds_it_is_found() {
        let path = Path::new("faults/token-lost.patch");
        let text = "A token is lost.\n\nSeeds: 40\n\n+    if wrong::is(\"token-lost\") {\n";
        let fault = Fault::parse(path, text).expect("a fault");
        assert_eq!((fault.name.as_str(), fault.seeds), ("token-lost", 40));
        assert!(Fault::parse(path, "Seeds: 40\n").is_err(), "asks for nothing");
        assert!(
            Fault::parse(path, "wrong::is(\"token-lost\")").is_err(),
            "no seeds"
        );
    }

    #[test]
    fn the_copy_has_members_of_its_own() {
        let manifest = "[workspace]\nmembers = [\"core\", \"xtask\"]\ndefault-members = [\"core\"]\nx = 1\n";
        assert_eq!(of_the_copy(manifest), format!("[workspace]\n{MEMBERS}\n\nx = 1"));
    }
}
