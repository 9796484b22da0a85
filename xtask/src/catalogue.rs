//! The catalogue of models: what the tests of `loom-tests` explore, and what its README says of that.
//!
//! The README's figures come from the runner's own lines. That each model and twin is in the README, and nothing else, is
//! read from the sources, so that it can be checked without running anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::cargo::Workspace;

/// What the table of models begins with, and the one derived from it.
const MODELS: &str = "| Model |";
const INVARIANTS: &str = "| Invariant | Models |";
/// Columns of the table of models.
const COLUMNS: [&str; 8] = [
    "Model",
    "Race",
    "Invariant",
    "Hazard",
    "Twins",
    "bound 2",
    "bound 3",
    "ms",
];
const NAME: usize = 0;
const INVARIANT: usize = 2;
const HAZARD: usize = 3;
const TWINS: usize = 4;
const BOUND_2: usize = 5;
const BOUND_3: usize = 6;
const MS: usize = 7;
/// What a model explores at bound 2 is at most so many times its minimum.
const MINIMUM_SHARE: usize = 2;

/// The tests, as they are written.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Catalogue {
    /// Models with the least executions that they accept.
    models: BTreeMap<String, usize>,
    twins: BTreeSet<String>,
    /// Test binaries that are built with the collector itself.
    pub(crate) with_collector: Vec<String>,
}

/// What the runner has printed of a model.
#[derive(Debug, PartialEq)]
pub(crate) struct Explored {
    name: String,
    executions: usize,
    bound: usize,
    ms: usize,
}

impl Catalogue {
    pub(crate) fn read(workspace: &Workspace) -> Result<Self> {
        let tests = workspace.root().join("loom-tests").join("tests");
        let mut files: Vec<PathBuf> = fs::read_dir(&tests)
            .with_context(|| tests.display().to_string())?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        files.sort();
        let mut catalogue = Self::default();
        for file in files {
            let name = file
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            // The runner's own tests are no models of the ledger.
            if file.extension().is_none_or(|extension| extension != "rs") || name == "runner" {
                continue;
            }
            let source = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            catalogue
                .add(&source)
                .with_context(|| file.display().to_string())?;
            if source.contains("#![cfg(all(loom, crossbeam_loom))]") {
                catalogue.with_collector.push(name);
            }
        }
        Ok(catalogue)
    }

    fn add(&mut self, source: &str) -> Result<()> {
        for runner in ["model", "stops"] {
            for (name, rest) in calls(source, runner) {
                let minimum: String = rest
                    .trim_start_matches([',', ' ', '\n'])
                    .chars()
                    .take_while(|&digit| digit.is_ascii_digit() || digit == '_')
                    .filter(|&digit| digit != '_')
                    .collect();
                let minimum = minimum
                    .parse()
                    .with_context(|| format!("model {name} has no minimum"))?;
                let is_new = self.models.insert(name.to_owned(), minimum).is_none();
                ensure!(is_new, "two models are called {name}");
            }
        }
        for runner in ["twin", "stops_twin"] {
            for (name, _) in calls(source, runner) {
                ensure!(self.twins.insert(name.to_owned()), "two twins are called {name}");
            }
        }
        Ok(())
    }

    /// Demands that the README names what there is, with figures, and that no minimum is far below them.
    pub(crate) fn check(&self, readme: &str) -> Result<()> {
        let rows: Vec<Vec<&str>> = table(readme, MODELS)?;
        let mut told = BTreeSet::new();
        let mut told_twins = BTreeSet::new();
        let mut wrong = String::new();
        for row in rows.iter().filter(|row| !row[NAME].starts_with("**")) {
            told.insert(row[NAME]);
            told_twins.extend(twins_of(row));
            let figure = row[BOUND_2].replace(',', "").parse::<usize>().ok();
            match (self.models.get(row[NAME]), figure) {
                (Some(&minimum), Some(figure)) if minimum * MINIMUM_SHARE < figure => {
                    writeln!(
                        wrong,
                        "{} explores {figure} executions, and would pass with {minimum}",
                        row[NAME]
                    )?;
                }
                (_, None) => writeln!(wrong, "{} has no figure at bound 2", row[NAME])?,
                _ => {}
            }
        }
        let models: BTreeSet<&str> = self.models.keys().map(String::as_str).collect();
        let twins: BTreeSet<&str> = self.twins.iter().map(String::as_str).collect();
        for (what, there, told) in [("model", &models, &told), ("twin", &twins, &told_twins)] {
            for name in there.difference(told) {
                writeln!(wrong, "{what} {name} is not in the table")?;
            }
            for name in told.difference(there) {
                writeln!(wrong, "{what} {name} is in the table and nowhere else")?;
            }
        }
        let invariants = invariants(&rows);
        if !readme.contains(&invariants) {
            writeln!(
                wrong,
                "the table of invariants is another one: cargo xtask loom --table"
            )?;
        }
        ensure!(wrong.is_empty(), "loom-tests/README.md:\n{wrong}");
        Ok(())
    }
}

/// The calls of a function whose first argument is a string, with that and what follows it.
fn calls<'s>(source: &'s str, function: &str) -> Vec<(&'s str, &'s str)> {
    let opening = format!("{function}(");
    let mut calls = Vec::new();
    for (at, _) in source.match_indices(&opening) {
        let before = source[..at].chars().next_back();
        if before.is_some_and(|before| before.is_alphanumeric() || before == '_') {
            continue;
        }
        let arguments = source[at + opening.len()..].trim_start();
        if let Some((name, rest)) = arguments
            .strip_prefix('"')
            .and_then(|argument| argument.split_once('"'))
        {
            calls.push((name, rest));
        }
    }
    calls
}

/// The rows of a table, without its head.
fn table<'r>(readme: &'r str, head: &str) -> Result<Vec<Vec<&'r str>>> {
    let lines: Vec<&str> = readme.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.starts_with(head))
        .with_context(|| format!("no table {head}"))?;
    let names = cells(lines[at]);
    let rows: Vec<Vec<&str>> = lines[at + 2..]
        .iter()
        .take_while(|line| line.starts_with('|'))
        .map(|line| cells(line))
        .collect();
    if head == MODELS {
        ensure!(names == COLUMNS, "the columns of the models are {COLUMNS:?}");
    }
    for row in &rows {
        ensure!(row.len() == names.len(), "{row:?} does not fit the table");
    }
    Ok(rows)
}

fn cells(line: &str) -> Vec<&str> {
    let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
    inner.split('|').map(str::trim).collect()
}

fn twins_of<'r>(row: &[&'r str]) -> impl Iterator<Item = &'r str> {
    row[TWINS].split(", ").filter(|name| !matches!(*name, "" | "–"))
}

/// The second table: for each invariant and hazard the models that are about it.
fn invariants(rows: &[Vec<&str>]) -> String {
    let mut table = format!("{INVARIANTS}\n|---|---|\n");
    for (letter, most) in [('I', 10), ('H', 12)] {
        for number in 1..=most {
            let name = format!("{letter}{number}");
            let models: Vec<&str> = rows
                .iter()
                .filter(|row| {
                    let words = format!("{} {}", row[INVARIANT], row[HAZARD]);
                    words
                        .split(|letter: char| !letter.is_ascii_alphanumeric())
                        .any(|word| word == name)
                })
                .map(|row| row[NAME])
                .collect();
            if !models.is_empty() {
                // Formatting into a string does not fail.
                let _ = writeln!(table, "| {name} | {} |", models.join(", "));
            }
        }
    }
    table
}

/// Puts figures into the table of models, and makes that of invariants anew.
pub(crate) fn with_figures(readme: &str, explored: &[Explored]) -> Result<String> {
    let at = readme
        .find(INVARIANTS)
        .with_context(|| format!("no table {INVARIANTS}"))?;
    let mut lines: Vec<String> = Vec::new();
    for line in readme[..at].lines() {
        let mut row: Vec<String> = cells(line).into_iter().map(str::to_owned).collect();
        let found = explored.iter().find(|found| row[NAME] == found.name);
        match found {
            Some(found) if line.starts_with('|') && row.len() == COLUMNS.len() => {
                let executions = grouped(found.executions);
                match found.bound {
                    2 => (row[BOUND_2], row[MS]) = (executions, grouped(found.ms)),
                    3 => row[BOUND_3] = executions,
                    _ => {}
                }
                lines.push(format!("| {} |", row.join(" | ")));
            }
            _ => lines.push(line.to_owned()),
        }
    }
    let before = lines.join("\n") + "\n";
    let behind: String = readme[at..]
        .split_inclusive('\n')
        .skip_while(|line| line.starts_with('|'))
        .collect();
    let rows = table(&before, MODELS)?;
    Ok(format!("{before}{}{behind}", invariants(&rows)))
}

/// A number with its thousands apart.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

impl Explored {
    /// A line such as `model NAME: 25 executions, bound 2, 8 ms`.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        // Another test may have begun a line.
        let (_, told) = line.split_once("model ")?;
        let (name, told) = told.split_once(": ")?;
        let (executions, told) = told.split_once(" executions, bound ")?;
        let (bound, told) = told.split_once(", ")?;
        Some(Self {
            name: name.to_owned(),
            executions: executions.parse().ok()?,
            bound: bound.parse().ok()?,
            ms: told.strip_suffix(" ms")?.parse().ok()?,
        })
    }
}

/// Where the table is.
pub(crate) fn readme(workspace: &Workspace) -> PathBuf {
    workspace.root().join("loom-tests").join("README.md")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
        model("first", 1_800, || ());
        remodel("not this", 1, || ());
        twin(
            "its_twin",
            "it fails", || ());
        stops("second", 10, |_| true);
        stops_twin("another", "it hangs", |_| true);
    "#;

    const README: &str = "\
Models.

| Model | Race | Invariant | Hazard | Twins | bound 2 | bound 3 | ms |
|---|---|---|---|---|---|---|---|
| **file.rs** | | | | | | | |
| first | two | the same: I1 | H1 | its_twin | 2,000 | – | 3 |
| second | three | I1 I10 | | another | 11 | – | 1 |

Invariants.

| Invariant | Models |
|---|---|
| I1 | first, second |
| I10 | second |
| H1 | first |

The end.
";

    fn catalogue() -> Catalogue {
        let mut catalogue = Catalogue::default();
        catalogue.add(SOURCE).unwrap();
        catalogue
    }

    #[test]
    fn what_there_is_is_told() {
        assert_eq!(catalogue().models["first"], 1800);
        assert_eq!(catalogue().models.len(), 2);
        catalogue().check(README).unwrap();
        for (there, other) in [
            ("| first |", "| fist |"),
            ("| its_twin |", "| – |"),
            ("| 11 |", "| 21 |"),
            ("| 2,000 |", "| – |"),
            ("| I10 | second |\n", ""),
        ] {
            let readme = README.replace(there, other);
            assert!(catalogue().check(&readme).is_err(), "{other}");
        }
    }

    #[test]
    fn names_are_not_used_twice() {
        assert!(catalogue().add(SOURCE).is_err());
    }

    #[test]
    fn figures_are_put_in() {
        let line = "test a ... model first: 1234567 executions, bound 2, 89 ms";
        let explored = vec![Explored::parse(line).unwrap()];
        let readme = with_figures(README, &explored).unwrap();
        let expected = README.replace("| 2,000 | – | 3 |", "| 1,234,567 | – | 89 |");
        assert_eq!(readme, expected);
        assert_eq!(Explored::parse("model first: outcomes: one × 7"), None);
    }
}
