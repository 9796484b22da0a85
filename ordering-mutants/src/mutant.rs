//! One change at one site, with the key that stays the same when lines move.

use std::fmt;

use crate::site::{Change, Site};

#[derive(Debug, Clone)]
pub(crate) struct Mutant {
    pub(crate) site: usize,
    pub(crate) key: Key,
    pub(crate) line: usize,
    /// As the injected module reads it.
    pub(crate) orders: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) file: String,
    pub(crate) function: String,
    pub(crate) site: String,
    pub(crate) written: &'static str,
    pub(crate) change: Change,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            function,
            site,
            written,
            change,
        } = self;
        let file = file.strip_prefix("core/src/").unwrap_or(file);
        write!(f, "{file} {function} {site}: {written} → {}", change.name())
    }
}

/// All mutants, site by site.
pub(crate) fn all(sites: &[Site]) -> Vec<Mutant> {
    let mut mutants = Vec::new();
    for (number, site) in sites.iter().enumerate() {
        for &change in site.kind.changes() {
            mutants.push(Mutant {
                site: number,
                key: Key {
                    file: site.file.clone(),
                    function: site.function.clone(),
                    site: site.name.clone(),
                    written: site.kind.written(),
                    change,
                },
                line: site.line,
                orders: format!("{number}={}", change.order()),
            });
        }
    }
    mutants
}
