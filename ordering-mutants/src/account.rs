//! The survivors that are accounted for, in `loom-tests/survivors.toml`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::mutant::{Key, Mutant};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    survivor: Vec<Survivor>,
}

/// Some mutants of one site that no model kills, and why that is no hole.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Survivor {
    file: String,
    function: String,
    site: String,
    to: Vec<String>,
    pub(crate) reason: String,
}

#[derive(Debug)]
pub(crate) struct Account {
    survivors: Vec<Survivor>,
}

impl Account {
    /// Reads the file, and demands that every entry names mutants that there are, each named once.
    pub(crate) fn read(path: &Path, mutants: &[Mutant]) -> Result<Self> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| shown.to_string())?;
        let file: File = toml::from_str(&text).with_context(|| shown.to_string())?;
        let account = Self {
            survivors: file.survivor,
        };
        let mut named: Vec<&Key> = Vec::new();
        for survivor in &account.survivors {
            let entry = format!("{} {} {}", survivor.file, survivor.function, survivor.site);
            ensure!(
                !survivor.reason.trim().is_empty(),
                "{shown}: {entry} has no reason"
            );
            for to in &survivor.to {
                let mutant = mutants
                    .iter()
                    .find(|mutant| survivor.names(&mutant.key, to))
                    .with_context(|| format!("{shown}: there is no mutant {entry} → {to}"))?;
                ensure!(
                    !named.contains(&&mutant.key),
                    "{shown}: {} is named twice",
                    mutant.key
                );
                named.push(&mutant.key);
            }
        }
        Ok(account)
    }

    /// Why a mutant may survive.
    pub(crate) fn reason(&self, key: &Key) -> Option<&str> {
        let names = |survivor: &&Survivor| survivor.to.iter().any(|to| survivor.names(key, to));
        self.survivors
            .iter()
            .find(names)
            .map(|survivor| survivor.reason.trim())
    }
}

impl Survivor {
    fn names(&self, key: &Key, to: &str) -> bool {
        self.file == key.file
            && self.function == key.function
            && self.site == key.site
            && to == key.change.name()
    }
}
