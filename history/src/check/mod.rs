//! The judge.

mod deduplication;
mod group;
mod index;
mod message;

use crate::{
    event::{Action, Answer, Outcome},
    history::History,
    rules::{Rule, Rules},
    verdict::{Findings, Verdict},
};
use index::Index;

/// Judges a history by the rules.
///
/// Times are intervals: a call took effect somewhere between the reading of the clock before it and the one after it. A rule
/// counts as broken only where it is broken for every choice of these moments, so that a verdict of guilty is never wrong if the
/// history is true; what a rule cannot see for that reason, [`Rule`] says.
///
/// Takes n log n steps for n events, and memory for a few words per event. (The events that a finding quotes are looked for one
/// by one, in the few findings that are kept. Purges count as few.)
#[must_use]
pub fn check(history: &History, rules: &Rules) -> Verdict {
    let index = Index::new(history, rules);
    let mut findings = Findings::new(history, rules);
    let mut ids: Vec<_> = index.messages.keys().copied().collect();
    // Findings come in the same order each time.
    ids.sort_unstable();
    for &id in &ids {
        message::check(&index, id, rules, &mut findings);
    }
    message::check_end(&index, &ids, rules, history.end(), &mut findings);
    if let Some(fifo) = &rules.fifo {
        group::check(&index, &mut findings);
        deduplication::check(&index, fifo, rules.tolerance, &mut findings);
    }
    for (at, event) in history.events().iter().enumerate() {
        count(&event.action, &mut findings.verdict);
        if let Action::Memory { used, limit } = event.action
            && used > limit
        {
            findings.add(Rule::Bounded, None, "more memory than allowed", &[at]);
        }
    }
    for message in index.messages.values() {
        let seen = &mut findings.verdict.seen;
        seen.redelivered += (message.claims.len() as u64).saturating_sub(1);
        seen.duplicates += (message.sends.len() as u64).saturating_sub(1);
    }
    findings.verdict
}

fn count(action: &Action, verdict: &mut Verdict) {
    let seen = &mut verdict.seen;
    match action {
        Action::Send(send) => match send.answer {
            Answer::Accepted(_) => seen.accepted += 1,
            Answer::Refused => {}
            Answer::Unknown => seen.unanswered += 1,
        },
        Action::Receive(receive) => {
            seen.received += 1;
            seen.dead += u64::from(receive.lane > 0);
        }
        Action::LostReceive => seen.unanswered += 1,
        Action::Delete { outcome, .. } => match outcome {
            Outcome::Done => seen.deleted += 1,
            Outcome::Superseded | Outcome::Expired => seen.stale += 1,
            Outcome::Unknown => seen.unanswered += 1,
            Outcome::Gone | Outcome::Refused => {}
        },
        Action::Change { outcome, .. } => match outcome {
            Outcome::Superseded | Outcome::Expired => seen.stale_changes += 1,
            Outcome::Unknown => seen.unanswered += 1,
            _ => {}
        },
        Action::Purge { outcome } => seen.unanswered += u64::from(*outcome == Outcome::Unknown),
        Action::Memory { .. } => {}
    }
}
