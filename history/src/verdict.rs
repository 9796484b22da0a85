//! What the check found.

use std::{collections::BTreeMap, fmt};

use crate::{
    event::{Event, Lease},
    history::History,
    rules::{Rule, Rules},
};

/// Findings of one rule that are kept whole; those beyond are counted.
const KEPT_MAX: u64 = 16;

/// A rule broken, and the events that prove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// The message that it is about, if it is about one.
    pub message: Option<u128>,
    /// What is wrong.
    pub what: String,
    /// The events that show it, each with its worker and its number there.
    pub events: Vec<(Lease, Event)>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)?;
        if let Some(id) = self.message {
            write!(f, " (message {id:x})")?;
        }
        for (name, event) in &self.events {
            write!(f, "\n    {name} {event}")?;
        }
        Ok(())
    }
}

/// What was judged, so that a test can tell whether it saw anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Seen {
    /// Sends that were accepted, duplicates included.
    pub accepted: u64,
    /// Sends that were accepted as duplicates.
    pub duplicates: u64,
    /// Messages received, counted each time.
    pub received: u64,
    /// Of these, those that were received before.
    pub redelivered: u64,
    /// Deletes that were done.
    pub deleted: u64,
    /// Deletes refused because the lease was over.
    pub stale: u64,
    /// Changes of visibility refused because the lease was over.
    pub stale_changes: u64,
    /// Messages received from dead-letter queues, counted each time.
    pub dead: u64,
    /// Operations without an answer.
    pub unanswered: u64,
}

/// The judgement on a history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    pub(crate) findings: Vec<Finding>,
    pub(crate) counts: BTreeMap<Rule, u64>,
    pub(crate) seen: Seen,
}

impl Verdict {
    /// Whether no rule was seen broken.
    #[must_use]
    pub fn is_acquitted(&self) -> bool {
        self.counts.is_empty()
    }

    /// How often this rule was seen broken.
    #[must_use]
    pub fn count(&self, rule: Rule) -> u64 {
        self.counts.get(&rule).copied().unwrap_or(0)
    }

    /// The findings: of each rule the first few.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What was judged.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_acquitted() {
            return write!(f, "nothing found: {:?}", self.seen);
        }
        for (rule, count) in &self.counts {
            writeln!(f, "{count} × {rule}")?;
        }
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        write!(f, "{:?}", self.seen)
    }
}

/// Where findings are put.
pub(crate) struct Findings<'h> {
    history: &'h History,
    off: &'h [Rule],
    pub(crate) verdict: Verdict,
}

impl<'h> Findings<'h> {
    pub(crate) fn new(history: &'h History, rules: &'h Rules) -> Self {
        Self {
            history,
            off: &rules.off,
            verdict: Verdict::default(),
        }
    }

    /// A rule broken; `events` by their place in the history.
    pub(crate) fn add(&mut self, rule: Rule, message: Option<u128>, what: &str, events: &[usize]) {
        if self.off.contains(&rule) {
            return;
        }
        let count = self.verdict.counts.entry(rule).or_insert(0);
        *count += 1;
        if *count > KEPT_MAX {
            return;
        }
        let events = events
            .iter()
            .map(|&at| (self.history.name(at), self.history.events[at].clone()))
            .collect();
        self.verdict.findings.push(Finding {
            rule,
            message,
            what: what.to_owned(),
            events,
        });
    }
}
