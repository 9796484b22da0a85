//! What the last whole run has left in `results/`: by models of which file each mutant was killed.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::mutant::Key;

/// A mutant, as its key is written in the report: file, function, site, ordering as written, change.
type Written = [String; 5];

/// The killers' files.
#[derive(Debug)]
pub(crate) struct Recorded(HashMap<Written, String>);

#[derive(Deserialize)]
struct Report {
    mutants: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    file: String,
    function: String,
    site: String,
    written: String,
    mutant: String,
    result: Ended,
}

#[derive(Deserialize)]
struct Ended {
    /// Of those that were killed.
    model_file: Option<String>,
}

impl Recorded {
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let path = root.join("results/ordering-mutations.json");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let report: Report = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let killed = report.mutants.into_iter().filter_map(|entry| {
            let key = [
                entry.file,
                entry.function,
                entry.site,
                entry.written,
                entry.mutant,
            ];
            Some((key, entry.result.model_file?))
        });
        Ok(Self(killed.collect()))
    }

    /// The file of the models that killed a mutant.
    pub(crate) fn killer(&self, key: &Key) -> Option<&str> {
        let written = [
            key.file.clone(),
            key.function.clone(),
            key.site.clone(),
            key.written.to_owned(),
            key.change.name().to_owned(),
        ];
        self.0.get(&written).map(String::as_str)
    }
}
