//! What is known from runs before, so that a run does only what has changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::{Measured, Model};
use crate::mutated::INJECTED;
use crate::site::Site;

/// What became of one mutant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub(crate) enum Verdict {
    /// A model failed.
    Killed {
        model_file: String,
        model: String,
        message: String,
    },
    /// All models that reach the site passed.
    Survived { models: usize },
    /// No model reaches the site.
    Unreached,
    /// None failed, and some came to no end.
    TimedOut { model: String, message: String },
}

/// A verdict, and what it is good for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Known {
    verdict: Verdict,
    /// Of the mutated function and the change.
    function: String,
    /// Of the models: of the killer's file, or of all.
    models: String,
    pub(crate) seconds: f64,
}

/// What runs without a mutant have told.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measures {
    /// By the hash of what the model is made of, and its name.
    known: BTreeMap<String, Measured>,
    #[serde(skip)]
    path: PathBuf,
    #[serde(skip)]
    by_file: BTreeMap<String, String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    known: BTreeMap<String, Known>,
    #[serde(skip)]
    path: PathBuf,
}

/// Hashes of what models are made of.
#[derive(Debug)]
pub(crate) struct Sources {
    by_file: BTreeMap<String, String>,
    all: String,
}

fn hash<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    hasher
        .finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Sources {
    pub(crate) fn read(root: &Path, bound: &str) -> Result<Self> {
        let mut shared = vec![bound.to_owned(), INJECTED.to_owned()];
        for file in ["src/lib.rs", "tests/stage/mod.rs", "tests/stage/fifo.rs"] {
            shared.push(read(&root.join("loom-tests").join(file))?);
        }
        let tests = root.join("loom-tests/tests");
        let mut by_file = BTreeMap::new();
        for entry in fs::read_dir(&tests).with_context(|| tests.display().to_string())? {
            let path = entry.context("loom-tests/tests")?.path();
            if let Some(name) = path.file_stem().and_then(|name| name.to_str())
                && path.is_file()
            {
                let text = read(&path)?;
                let texts = shared.iter().map(String::as_str).chain([text.as_str()]);
                by_file.insert(name.to_owned(), hash(texts));
            }
        }
        let all = hash(by_file.values().map(String::as_str));
        Ok(Self { by_file, all })
    }

    fn of(&self, verdict: &Verdict) -> &str {
        match verdict {
            Verdict::Killed { model_file, .. } => self.by_file.get(model_file).map_or("", String::as_str),
            _ => &self.all,
        }
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn hash_of(site: &Site, orders: &str) -> String {
    // The site's number may change with sites elsewhere; what is done there does not.
    let change = orders.split_once('=').map_or("", |(_, change)| change);
    let change = change.split(',').next().unwrap_or_default();
    hash([site.function_text.as_str(), &format!("{:?}", site.kind), change])
}

impl State {
    /// What an earlier run has left, or nothing.
    pub(crate) fn load(path: &Path, fresh: bool) -> Self {
        let read = || serde_json::from_str::<Self>(&fs::read_to_string(path).ok()?).ok();
        let mut state = if fresh { None } else { read() }.unwrap_or_default();
        state.path = path.to_owned();
        state
    }

    /// What is known of a mutant, if it is still true.
    pub(crate) fn known(
        &self,
        key: &str,
        site: &Site,
        orders: &str,
        sources: &Sources,
    ) -> Option<(Verdict, f64)> {
        let known = self.known.get(key)?;
        let is_true = known.function == hash_of(site, orders) && known.models == sources.of(&known.verdict);
        is_true.then(|| (known.verdict.clone(), known.seconds))
    }

    /// Notes a verdict, at once in the file too: a run that is broken off has lost nothing.
    pub(crate) fn note(
        &mut self,
        key: String,
        site: &Site,
        orders: &str,
        sources: &Sources,
        verdict: Verdict,
        seconds: f64,
    ) -> Result<()> {
        let known = Known {
            function: hash_of(site, orders),
            models: sources.of(&verdict).to_owned(),
            verdict,
            seconds,
        };
        self.known.insert(key, known);
        write(&self.path, self)
    }
}

impl Measures {
    /// What an earlier run has left, of models made of the same `sources` and a ledger whose sites are these.
    pub(crate) fn load(path: &Path, fresh: bool, sources: &Sources, sites: &[Site]) -> Self {
        let read = || serde_json::from_str::<Self>(&fs::read_to_string(path).ok()?).ok();
        let mut measures = if fresh { None } else { read() }.unwrap_or_default();
        measures.path = path.to_owned();
        let texts = sites
            .iter()
            .flat_map(|site| [site.function_text.as_str(), site.name.as_str()]);
        let ledger = hash(texts);
        measures.by_file = sources
            .by_file
            .iter()
            .map(|(file, of_file)| (file.clone(), hash([of_file.as_str(), ledger.as_str()])))
            .collect();
        measures
    }

    fn key(&self, model: &Model) -> String {
        let of_file = self.by_file.get(&model.file).map_or("", String::as_str);
        format!("{of_file} {} {}", model.file, model.name)
    }

    pub(crate) fn of(&self, model: &Model) -> Option<Measured> {
        self.known.get(&self.key(model)).cloned()
    }

    pub(crate) fn note(&mut self, model: &Model, measured: Measured) -> Result<()> {
        self.known.insert(self.key(model), measured);
        write(&self.path, self)
    }
}

/// Writes a file so that it is whole at any time.
fn write(path: &Path, content: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(content).context("as JSON")?;
    let new = path.with_extension("new");
    fs::write(&new, text).with_context(|| new.display().to_string())?;
    fs::rename(&new, path).with_context(|| path.display().to_string())
}
