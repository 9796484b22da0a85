//! Hand-overs whose halves can change places, written down by hand in `hand-overs.toml`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::site::{Kind, Site};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    hand_over: Vec<HandOver>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HandOver {
    file: String,
    function: String,
    name: String,
    /// As it stands in the function, but for white space; exactly once.
    written: String,
    /// The same the other way round.
    swapped: String,
    /// What the text binds for what follows it.
    binds: Option<String>,
}

/// The hand-overs as sites. `known` are the other sites, which say where a function is.
pub(crate) fn sites(root: &Path, table: &Path) -> Result<Vec<Site>> {
    let shown = table.display();
    let text = fs::read_to_string(table).with_context(|| shown.to_string())?;
    let table: Table = toml::from_str(&text).with_context(|| shown.to_string())?;
    let sites: Vec<Site> = table
        .hand_over
        .into_iter()
        .map(|hand_over| {
            let context = format!("{shown}: {} in {}", hand_over.name, hand_over.file);
            hand_over.site(root).context(context)
        })
        .collect::<Result<_>>()?;
    for (at, one) in sites.iter().enumerate() {
        let crossed = sites[..at]
            .iter()
            .find(|other| other.file == one.file && cross(&other.span, &one.span));
        if let Some(other) = crossed {
            bail!("{shown}: {} and {} overlap in {}", other.name, one.name, one.file);
        }
    }
    Ok(sites)
}

/// Whether two stretches overlap, and neither has the other inside.
fn cross(one: &std::ops::Range<usize>, other: &std::ops::Range<usize>) -> bool {
    let (first, second) = if (one.start, other.end) <= (other.start, one.end) {
        (one, other)
    } else {
        (other, one)
    };
    second.start < first.end && second.end > first.end
}

impl HandOver {
    fn site(self, root: &Path) -> Result<Site> {
        let text = fs::read_to_string(root.join(&self.file))?;
        let function = crate::parse::function(&text, &self.function)
            .with_context(|| format!("no function {}", self.function))?;
        let places = find(&text[function.clone()], &self.written);
        ensure!(
            places.len() == 1,
            "the text as written stands there {} times, not once",
            places.len()
        );
        let span = places[0].start + function.start..places[0].end + function.start;
        Ok(Site {
            line: text[..span.start].matches('\n').count() + 1,
            file: self.file,
            function: self.function,
            name: self.name,
            kind: Kind::HandOver {
                swapped: self.swapped,
                binds: self.binds,
            },
            function_text: text[function].to_owned(),
            not_compiled: None,
            span,
        })
    }
}

/// Where `pattern` stands in `text`, whatever white space there is between its words.
fn find(text: &str, pattern: &str) -> Vec<std::ops::Range<usize>> {
    let words: Vec<&str> = pattern.split_whitespace().collect();
    let Some((first, rest)) = words.split_first() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (start, _) in text.match_indices(first) {
        let mut end = start + first.len();
        let matches = rest.iter().all(|word| {
            let behind = &text[end..];
            let space = behind.len() - behind.trim_start().len();
            let is_next = behind.trim_start().starts_with(word);
            end += space + word.len();
            is_next
        });
        if matches {
            found.push(start..end);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_may_lie_in_each_other_but_not_across() {
        for (one, other, crosses) in [
            (0..5, 5..9, false),
            (0..9, 3..9, false),
            (0..9, 0..4, false),
            (0..5, 3..9, true),
        ] {
            assert_eq!(cross(&one, &other), crosses, "{one:?} {other:?}");
            assert_eq!(cross(&other, &one), crosses, "{other:?} {one:?}");
        }
    }

    #[test]
    fn white_space_does_not_matter_and_words_do() {
        let text = "f();\n    a(\n  1);\n  b();";
        let places = find(text, "a( 1); b();");
        assert_eq!(places.len(), 1);
        assert!(text[places[0].clone()].starts_with("a(") && text[places[0].clone()].ends_with("b();"));
        assert!(find(text, "b(); a( 1);").is_empty());
        assert_eq!(find("x; x;", "x;").len(), 2);
    }
}
