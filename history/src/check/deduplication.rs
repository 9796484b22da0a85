//! The rules about deduplication.

use std::collections::BTreeMap;

use foldhash::{HashMap, HashMapExt as _};

use super::index::Index;
use crate::{
    event::Answer,
    rules::{Fifo, Rule},
    verdict::Findings,
};

/// One id that was told for a deduplication id.
#[derive(Debug, Clone, Copy)]
struct Told {
    id: u128,
    /// The message was accepted after the first of its sends began …
    from: u64,
    /// … and before the first of them returned.
    to: u64,
    first: usize,
}

pub(super) fn check(index: &Index<'_>, fifo: &Fifo, tolerance: u64, findings: &mut Findings<'_>) {
    let mut keys: BTreeMap<(u64, Option<u32>), Vec<usize>> = BTreeMap::new();
    for &at in index.tokens.values() {
        if let Some(send) = index.send(at)
            && let Some(key) = send.deduplication
        {
            let group = send.group.filter(|_| fifo.per_group);
            keys.entry((key, group)).or_default().push(at);
        }
    }
    for sends in keys.values_mut() {
        if sends.len() > 1 {
            sends.sort_unstable_by_key(|&at| (index.events[at].back, at));
            check_key(index, sends, fifo.window, tolerance, findings);
        }
    }
}

/// `sends` of one deduplication id, by their return.
fn check_key(index: &Index<'_>, sends: &[usize], window: u64, tolerance: u64, findings: &mut Findings<'_>) {
    let mut told: HashMap<u128, Told> = HashMap::new();
    let mut order = Vec::new();
    // A send without an answer may have been the first of any of the messages.
    let mut unanswered = u64::MAX;
    for &at in sends {
        let (invoke, back) = (index.events[at].invoke, index.events[at].back);
        match index.send(at).map(|send| send.answer) {
            Some(Answer::Accepted(id)) => {
                let known = told.entry(id).or_insert_with(|| {
                    order.push(id);
                    Told {
                        id,
                        from: invoke,
                        to: back,
                        first: at,
                    }
                });
                known.from = known.from.min(invoke);
                let forgotten = known.to.saturating_add(window).saturating_add(tolerance);
                if invoke > forgotten {
                    let what = "taken for a duplicate of one that was sent too long ago";
                    findings.add(Rule::Forgotten, Some(id), what, &[known.first, at]);
                }
            }
            Some(Answer::Unknown) => unanswered = unanswered.min(invoke),
            _ => {}
        }
    }
    // Of those that were told first, the one that began last.
    let mut latest: Option<Told> = None;
    for id in order {
        let known = told[&id];
        let from = known.from.min(unanswered);
        if let Some(latest) = latest
            && known.to.saturating_sub(latest.from.min(unanswered)) < window.saturating_sub(tolerance)
            && latest.to.saturating_sub(from) < window.saturating_sub(tolerance)
            && !index.may_be_purged(latest.from.min(from), known.to.max(latest.to))
        {
            let what = "accepted a second time within the window";
            findings.add(
                Rule::Deduplicated,
                Some(known.id),
                what,
                &[latest.first, known.first],
            );
        }
        if latest.is_none_or(|latest| latest.from < known.from) {
            latest = Some(known);
        }
    }
}
