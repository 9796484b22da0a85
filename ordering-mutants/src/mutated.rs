//! The mutated copy of the workspace: each site asks the injected module, so that one build serves all mutants.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::site::{Kind, Site};

/// What is copied: what the models are built from.
const FOLDERS: &[&str] = &["core", "history", "loom-tests"];
pub(crate) const INJECTED: &str = include_str!("injected/mutant.rs");
const TWIN: &str = "fn twin_within<F>";

/// Writes the copy. Files that are as they should be are left alone, so that cargo builds no more than it must.
pub(crate) fn write(root: &Path, copy: &Path, sites: &[Site]) -> Result<()> {
    let mut files: BTreeMap<String, Vec<(usize, &Site)>> = BTreeMap::new();
    for (number, site) in sites.iter().enumerate() {
        files.entry(site.file.clone()).or_default().push((number, site));
    }
    let mut wanted = BTreeMap::new();
    for folder in FOLDERS {
        collect(root, Path::new(folder), &mut wanted)?;
    }
    // `core/src/lib.rs` takes the README's examples in.
    for file in ["Cargo.toml", "Cargo.lock", "README.md"] {
        wanted.insert(
            file.to_owned(),
            fs::read_to_string(root.join(file)).context(file)?,
        );
    }
    for (file, sites) in files {
        let text = wanted.get_mut(&file).with_context(|| file.clone())?;
        *text = edited(text, &sites);
    }
    inject(&mut wanted, sites.len())?;
    for (file, text) in &wanted {
        let path = copy.join(file);
        if fs::read_to_string(&path).is_ok_and(|present| present == *text) {
            continue;
        }
        fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    // What has been renamed or removed would be built all the same.
    let mut present = BTreeMap::new();
    for folder in FOLDERS {
        collect(copy, Path::new(folder), &mut present)?;
    }
    for file in present.keys().filter(|file| !wanted.contains_key(*file)) {
        fs::remove_file(copy.join(file)).with_context(|| file.clone())?;
    }
    Ok(())
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) -> Result<()> {
    let shown = || folder.display().to_string();
    for entry in fs::read_dir(root.join(folder)).with_context(shown)? {
        let entry = entry.with_context(shown)?;
        let path = folder.join(entry.file_name());
        if entry.file_type().with_context(shown)?.is_dir() {
            collect(root, &path, files)?;
        } else {
            let text = fs::read_to_string(root.join(&path)).with_context(|| path.display().to_string())?;
            files.insert(path.display().to_string(), text);
        }
    }
    Ok(())
}

/// Something new in the place of `start..end`.
struct Edit {
    start: usize,
    end: usize,
    /// Which comes first of those with one start.
    rank: (u8, isize),
    new: String,
}

impl Edit {
    fn replace(start: usize, end: usize, new: String) -> Self {
        Self {
            start,
            end,
            rank: (2, 0),
            new,
        }
    }
}

/// The text with all its sites asking. Lines stay where they are.
fn edited(text: &str, sites: &[(usize, &Site)]) -> String {
    let mut edits: Vec<Edit> = Vec::new();
    for (number, site) in sites {
        let (start, end) = (site.span.start, site.span.end);
        let written = &text[start..end];
        match &site.kind {
            Kind::Access(..) => {
                let new = format!("crate::sync::mutant::ordering({number}, {written})");
                edits.push(Edit::replace(start, end, new));
            }
            Kind::Fence(_) => {
                let order = &written[written.find('(').map_or(0, |at| at + 1)..];
                let new = format!("crate::sync::mutant::fence({number}, {order}");
                edits.push(Edit::replace(start, end, new));
            }
            Kind::Call(name) => {
                let new = format!("crate::sync::mutant::{name}({number})");
                edits.push(Edit::replace(start, end, new));
            }
            Kind::HandOver { swapped, binds } => {
                let swapped = swapped.split_whitespace().collect::<Vec<_>>().join(" ");
                let (before, value, after) = match binds {
                    // The value is what the pattern takes, less what only a pattern has.
                    Some(binds) => (format!("let {binds} = "), binds.replace("mut ", ""), ";"),
                    None => (String::new(), String::new(), ""),
                };
                let open =
                    format!("{before}if crate::sync::mutant::is_swapped({number}) {{ {swapped} }} else {{ ");
                let length = end as isize - start as isize;
                // Of those that begin or end together, the longer is outside.
                edits.push(Edit {
                    start,
                    end: start,
                    rank: (1, -length),
                    new: open,
                });
                edits.push(Edit {
                    start: end,
                    end,
                    rank: (0, length),
                    new: format!(" {value} }}{after}"),
                });
            }
        }
    }
    edits.sort_by_key(|edit| (edit.start, edit.rank));
    let (mut result, mut at) = (String::with_capacity(text.len() * 2), 0);
    for edit in edits {
        result.push_str(&text[at..edit.start]);
        result.push_str(&edit.new);
        at = edit.end;
    }
    result.push_str(&text[at..]);
    result
}

/// Puts the module in, leaves everything but ledger and models out of the workspace, and the twins out of the runs.
fn inject(files: &mut BTreeMap<String, String>, sites: usize) -> Result<()> {
    let count = "const SITES: usize = 0;";
    ensure!(
        INJECTED.contains(count),
        "the injected module has no count of sites"
    );
    let module = INJECTED.replace(count, &format!("const SITES: usize = {sites};"));
    files.insert("core/src/sync/mutant.rs".to_owned(), module);
    let shim = files.get_mut("core/src/sync.rs").context("core/src/sync.rs")?;
    shim.push_str("\n#[cfg(loom)]\npub mod mutant;\n");

    let runner = files
        .get_mut("loom-tests/src/lib.rs")
        .context("loom-tests/src/lib.rs")?;
    let twin = runner.find(TWIN).context("the runner has no twin_within")?;
    let body = runner[twin..].find("{\n").context("twin_within has no body")? + twin + 1;
    runner.insert_str(body, " if env::var_os(\"EPOQ_NO_TWINS\").is_some() { return; }");

    let manifest = files.get_mut("Cargo.toml").context("Cargo.toml")?;
    let lines = manifest.lines().map(|line| {
        if line.starts_with("members = ") {
            "members = [\"core\", \"history\", \"loom-tests\"]"
        } else if line.starts_with("default-members = ") {
            ""
        } else {
            line
        }
    });
    *manifest = lines.collect::<Vec<_>>().join("\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::{Access, Order};

    #[test]
    fn each_site_asks_and_lines_stay() {
        let text = "a.load(Ordering::Acquire);\nfence(Ordering::SeqCst);\nsync::fence_behind_rmw();\n";
        let site = |kind, written: &str| {
            let start = text.find(written).expect("it is there");
            Site {
                file: String::new(),
                function: String::new(),
                name: String::new(),
                line: 0,
                kind,
                function_text: String::new(),
                not_compiled: None,
                span: start..start + written.len(),
            }
        };
        let load = site(Kind::Access(Access::Load, Order::Acquire), "Ordering::Acquire");
        let fence = site(Kind::Fence(Order::SeqCst), "fence(Ordering::SeqCst)");
        let call = site(
            Kind::Call("fence_behind_rmw".to_owned()),
            "sync::fence_behind_rmw()",
        );
        let swap = site(
            Kind::HandOver {
                swapped: "b();\n a();".to_owned(),
                binds: Some("(mut c, d)".to_owned()),
            },
            "a.load(Ordering::Acquire);\nfence(Ordering::SeqCst);",
        );
        let result = edited(text, &[(0, &load), (1, &fence), (2, &call), (3, &swap)]);
        assert_eq!(
            result,
            "let (mut c, d) = if crate::sync::mutant::is_swapped(3) { b(); a(); } else { \
             a.load(crate::sync::mutant::ordering(0, Ordering::Acquire));\n\
             crate::sync::mutant::fence(1, Ordering::SeqCst); (c, d) };\n\
             crate::sync::mutant::fence_behind_rmw(2);\n"
        );
    }
}
