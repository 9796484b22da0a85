//! The rules about single messages.

use std::cell::LazyCell;

use foldhash::{HashSet, HashSetExt as _};

use super::index::{Claim, Index, Message, Purge, Use, end_of_lease};
use crate::{
    event::{Answer, Outcome},
    history::End,
    rules::{Rule, Rules},
    verdict::Findings,
};

/// What one message went through.
pub(super) fn check(index: &Index<'_>, id: u128, rules: &Rules, findings: &mut Findings<'_>) {
    let message = &index.messages[&id];
    authentic(index, id, message, rules, findings);
    delayed(index, id, message, rules, findings);
    // By count where counts tell an order, otherwise by time.
    let mut claims: Vec<_> = message.claims.iter().collect();
    claims.sort_by_key(|claim| (claim.receive.receives, claim.back));
    let is_told = claims.iter().all(|claim| claim.receive.receives.is_some());
    if is_told {
        counted(index, id, &claims, findings);
    }
    if is_told && claims.is_sorted_by(|one, next| one.receive.receives < next.receive.receives) {
        exclusive_in_order(id, &claims, findings);
        moved_in_order(id, &claims, findings);
    } else {
        claims.sort_by_key(|claim| claim.back);
        exclusive(id, &mut claims.clone(), findings);
        moved(id, &claims, findings);
    }
    let order = Order::new(&message.claims);
    stale(id, message, &order, rules, findings);
    finally(index, id, message, &order, rules, findings);
    honoured(index, id, message, &order, rules, findings);
}

fn authentic(index: &Index<'_>, id: u128, message: &Message<'_>, rules: &Rules, findings: &mut Findings<'_>) {
    let mut add = |what: &str, events: &[usize]| findings.add(Rule::Authentic, Some(id), what, events);
    for pair in message.sends.windows(2) {
        let keys = [pair[0], pair[1]].map(|at| {
            index.send(at).map(|send| {
                let per_group = rules.fifo.as_ref().is_some_and(|fifo| fifo.per_group);
                (send.deduplication, per_group.then_some(send.group))
            })
        });
        let is_duplicate = rules.fifo.is_some()
            && keys[0] == keys[1]
            && keys[0].is_some_and(|(deduplication, _)| deduplication.is_some());
        if !is_duplicate {
            add("two messages have one id", pair);
        }
    }
    for claim in &message.claims {
        let Some(token) = claim.receive.token else {
            add("a damaged body", &[claim.at]);
            continue;
        };
        let Some(&at) = index.tokens.get(&token) else {
            add("received, and never sent", &[claim.at]);
            continue;
        };
        let Some(send) = index.send(at) else { continue };
        if index.events[at].invoke > claim.back {
            add("received before it was sent", &[at, claim.at]);
        }
        match send.answer {
            Answer::Refused => add("received although it had been refused", &[at, claim.at]),
            Answer::Accepted(told) if told != id => add("another id than at sending", &[at, claim.at]),
            _ => {}
        }
        if send.group != claim.receive.group {
            add("another group than at sending", &[at, claim.at]);
        }
        if let Some(original) = message.original
            && original != at
        {
            add("two bodies of one id", &[original, at, claim.at]);
        }
    }
}

fn delayed(index: &Index<'_>, id: u128, message: &Message<'_>, rules: &Rules, findings: &mut Findings<'_>) {
    let Some((at, send)) = message.original.and_then(|at| Some((at, index.send(at)?))) else {
        return;
    };
    if send.delay == 0 {
        return;
    }
    let due = index.events[at].invoke.saturating_add(send.delay);
    for claim in &message.claims {
        if claim.back.saturating_add(rules.tolerance) < due {
            findings.add(Rule::Delayed, Some(id), "received too early", &[at, claim.at]);
        }
    }
}

/// `claims` by count.
fn counted(index: &Index<'_>, id: u128, claims: &[&Claim<'_>], findings: &mut Findings<'_>) {
    let mut add = |what: &str, events: &[usize]| findings.add(Rule::Counted, Some(id), what, events);
    let mut missing = 0;
    let mut before: Option<&Claim<'_>> = None;
    // The latest beginning of those with lower counts.
    let mut latest: Option<&Claim<'_>> = None;
    for &claim in claims {
        let count = claim.receive.receives.unwrap_or(0);
        let last = before.map_or(0, |before| before.receive.receives.unwrap_or(0));
        if count == last {
            match before {
                Some(before) => add("one count twice", &[before.at, claim.at]),
                None => add("received with a count of zero", &[claim.at]),
            }
        } else {
            missing += u64::from(count - last - 1);
            let unanswered = index
                .lost_receives
                .partition_point(|&invoke| invoke <= claim.back);
            if missing > unanswered as u64 {
                match before {
                    Some(before) => add("counts between are missing", &[before.at, claim.at]),
                    None => add("counts before are missing", &[claim.at]),
                }
                // Told once.
                missing = 0;
            }
            if let Some(latest) = latest
                && latest.invoke > claim.back
            {
                add("a higher count before a lower one", &[claim.at, latest.at]);
            }
        }
        if latest.is_none_or(|latest| latest.invoke < claim.invoke) {
            latest = Some(claim);
        }
        before = Some(claim);
    }
}

/// `claims` in the order in which they certainly were.
fn exclusive_in_order(id: u128, claims: &[&Claim<'_>], findings: &mut Findings<'_>) {
    let mut longest: Option<&Claim<'_>> = None;
    for &claim in claims {
        if let Some(longest) = longest
            && claim.back < longest.end
        {
            findings.add(
                Rule::Exclusive,
                Some(id),
                "received during a lease",
                &events(&[longest, claim]),
            );
        }
        if longest.is_none_or(|longest| longest.end < claim.end) {
            longest = Some(claim);
        }
    }
}

/// Two receives of which neither can have been the first.
///
/// One can have been before the other if its lease can have ended before the other returned. So both orders are impossible if
/// each returned before the other's lease ended: for `a` returning first, if `a.back < b.end` and `b.back < a.end`.
fn exclusive(id: u128, claims: &mut [&Claim<'_>], findings: &mut Findings<'_>) {
    claims.sort_by_key(|claim| claim.back);
    // Of those that returned up to here, the one with the latest end.
    let mut longest: Vec<&Claim<'_>> = Vec::with_capacity(claims.len());
    for (at, &claim) in claims.iter().enumerate() {
        let before = claims[..at].partition_point(|other| other.back < claim.end);
        if let Some(&other) = before.checked_sub(1).and_then(|at| longest.get(at))
            && claim.back < other.end
        {
            findings.add(
                Rule::Exclusive,
                Some(id),
                "two leases at a time, whichever was first",
                &events(&[other, claim]),
            );
        }
        let best = longest.last().filter(|best| best.end >= claim.end);
        longest.push(best.copied().unwrap_or(claim));
    }
}

fn moved_in_order(id: u128, claims: &[&Claim<'_>], findings: &mut Findings<'_>) {
    for pair in claims.windows(2) {
        if pair[0].receive.lane > pair[1].receive.lane {
            findings.add(Rule::Moved, Some(id), "back from the dead", &events(pair));
        }
    }
}

/// `claims` by their return.
fn moved(id: u128, claims: &[&Claim<'_>], findings: &mut Findings<'_>) {
    let mut by_begin = claims.to_vec();
    by_begin.sort_by_key(|claim| claim.invoke);
    let mut returned = claims.iter().peekable();
    let mut highest: Option<&Claim<'_>> = None;
    for &claim in &by_begin {
        while let Some(other) = returned.next_if(|other| other.back < claim.invoke) {
            if highest.is_none_or(|highest| highest.receive.lane < other.receive.lane) {
                highest = Some(other);
            }
        }
        if let Some(highest) = highest
            && highest.receive.lane > claim.receive.lane
        {
            findings.add(
                Rule::Moved,
                Some(id),
                "back from the dead",
                &events(&[highest, claim]),
            );
        }
    }
}

/// The receives of a message, so that those after a moment are found at once.
struct Order<'m, 'h> {
    /// By their beginning.
    by_begin: Vec<&'m Claim<'h>>,
    /// For each place, of those from there on the one that returned first.
    first_back: Vec<&'m Claim<'h>>,
    /// By count, if all counts are told and none twice.
    by_count: Vec<&'m Claim<'h>>,
    /// For each place, of those from there on the one that returned first.
    first_back_by_count: Vec<&'m Claim<'h>>,
    /// For each place by count, when the first of those from there on began.
    first_begin_by_count: Vec<u64>,
    /// For each place by beginning, of those up to there the two that returned last.
    last_backs: Vec<[Option<&'m Claim<'h>>; 2]>,
    /// The highest lane that it was received in.
    highest: u8,
}

fn first_backs<'m, 'h>(claims: &[&'m Claim<'h>]) -> Vec<&'m Claim<'h>> {
    let mut first: Vec<&Claim<'_>> = Vec::with_capacity(claims.len());
    for &claim in claims.iter().rev() {
        let best = first.last().filter(|best| best.back <= claim.back);
        first.push(best.copied().unwrap_or(claim));
    }
    first.reverse();
    first
}

impl<'m, 'h> Order<'m, 'h> {
    fn new(claims: &'m [Claim<'h>]) -> Self {
        let mut by_begin: Vec<_> = claims.iter().collect();
        by_begin.sort_by_key(|claim| claim.invoke);
        let mut by_count = by_begin.clone();
        by_count.sort_by_key(|claim| claim.receive.receives);
        let is_told = by_count
            .first()
            .is_some_and(|first| first.receive.receives.is_some());
        if !is_told || !by_count.is_sorted_by(|one, next| one.receive.receives < next.receive.receives) {
            by_count.clear();
        }
        let mut first = u64::MAX;
        let mut first_begin_by_count: Vec<_> = by_count
            .iter()
            .rev()
            .map(|claim| {
                first = first.min(claim.invoke);
                first
            })
            .collect();
        first_begin_by_count.reverse();
        let mut last: [Option<&Claim<'_>>; 2] = [None; 2];
        let last_backs = by_begin
            .iter()
            .map(|&claim| {
                if last[0].is_none_or(|last| last.back < claim.back) {
                    last = [Some(claim), last[0]];
                } else if last[1].is_none_or(|last| last.back < claim.back) {
                    last[1] = Some(claim);
                }
                last
            })
            .collect();
        Self {
            first_begin_by_count,
            last_backs,
            highest: claims.iter().map(|claim| claim.receive.lane).max().unwrap_or(0),
            first_back: first_backs(&by_begin),
            first_back_by_count: first_backs(&by_count),
            by_begin,
            by_count,
        }
    }

    /// Of the receives that certainly took the message after `claim` did, the one that returned first.
    fn first_after(&self, claim: &Claim<'h>) -> Option<&'m Claim<'h>> {
        if self.by_count.is_empty() {
            let from = self.by_begin.partition_point(|other| other.invoke <= claim.back);
            return self.first_back.get(from).copied();
        }
        let from = self
            .by_count
            .partition_point(|other| other.receive.receives <= claim.receive.receives);
        self.first_back_by_count.get(from).copied()
    }

    /// Whether some other receive may have taken the message after `claim` did, and had begun by then.
    fn may_be_superseded(&self, claim: &Claim<'h>, by: u64) -> bool {
        if self.by_count.is_empty() {
            let until = self.by_begin.partition_point(|other| other.invoke <= by);
            let Some(last) = until.checked_sub(1).map(|at| self.last_backs[at]) else {
                return false;
            };
            let mut others = last.into_iter().flatten().filter(|other| other.at != claim.at);
            return others.any(|other| other.back >= claim.invoke);
        }
        let from = self
            .by_count
            .partition_point(|other| other.receive.receives <= claim.receive.receives);
        self.first_begin_by_count
            .get(from)
            .is_some_and(|&first| first <= by)
    }

    /// The receive that began last.
    fn last(&self) -> Option<&'m Claim<'h>> {
        self.by_begin.last().copied()
    }
}

/// What was done by a handle after a later receive.
fn stale(id: u128, message: &Message<'_>, order: &Order<'_, '_>, rules: &Rules, findings: &mut Findings<'_>) {
    if rules.stale_handles_act {
        return;
    }
    for claim in &message.claims {
        let Some(next) = order.first_after(claim) else {
            continue;
        };
        for one in claim.uses.iter().filter(|one| one.outcome == Outcome::Done) {
            if one.visibility.is_none() && !rules.exact {
                continue;
            }
            if next.back < one.invoke {
                findings.add(
                    Rule::Stale,
                    Some(id),
                    "done by an old handle",
                    &[claim.at, next.at, one.at],
                );
            }
        }
    }
}

/// Whether a delete was certainly the end of the message.
fn is_end(one: &Use, claim: &Claim<'_>, order: &Order<'_, '_>, rules: &Rules) -> bool {
    match one.outcome {
        _ if one.visibility.is_some() => false,
        Outcome::Done => rules.exact || rules.stale_handles_act || !order.may_be_superseded(claim, one.back),
        // It may be in the next lane.
        Outcome::Gone => rules.exact && order.highest == claim.receive.lane,
        _ => false,
    }
}

fn finally(
    index: &Index<'_>,
    id: u128,
    message: &Message<'_>,
    order: &Order<'_, '_>,
    rules: &Rules,
    findings: &mut Findings<'_>,
) {
    let mut first: Option<&Use> = None;
    let mut deleted: Option<&Use> = None;
    for claim in &message.claims {
        for one in &claim.uses {
            if !is_end(one, claim, order, rules) {
                continue;
            }
            if first.is_none_or(|first| one.back < first.back) {
                first = Some(one);
            }
            if one.outcome != Outcome::Done || !rules.exact {
                continue;
            }
            if let Some(deleted) = deleted {
                findings.add(Rule::Final, Some(id), "deleted twice", &[deleted.at, one.at]);
            }
            deleted = Some(one);
            // By count there was a later receive: before the delete, then it was by an old handle; or after it.
            if !rules.stale_handles_act
                && !order.by_count.is_empty()
                && let Some(next) = order.first_after(claim)
                && next.back >= one.invoke
            {
                findings.add(
                    Rule::Final,
                    Some(id),
                    "deleted by this handle, and yet received with a higher count",
                    &[claim.at, one.at, next.at],
                );
            }
        }
    }
    let Some(last) = order.last() else { return };
    if let Some(end) = first
        && last.invoke > end.back
    {
        findings.add(
            Rule::Final,
            Some(id),
            "received after its delete",
            &[end.at, last.at],
        );
    }
    let purged =
        |purge: &&Purge| purge.is_certain && index.sent(message).is_some_and(|(_, back)| back < purge.invoke);
    if last.receive.lane == 0
        && let Some(purge) = index
            .purges
            .iter()
            .filter(purged)
            .find(|purge| purge.back < last.invoke)
    {
        findings.add(
            Rule::Final,
            Some(id),
            "received after its purge",
            &[purge.at, last.at],
        );
    }
}

/// Handles that were refused although they were good.
fn honoured(
    index: &Index<'_>,
    id: u128,
    message: &Message<'_>,
    order: &Order<'_, '_>,
    rules: &Rules,
    findings: &mut Findings<'_>,
) {
    if message.claims.iter().all(|claim| claim.uses.is_empty()) {
        return;
    }
    // What may have made the message go: when the first of it began.
    let mut gone = u64::MAX;
    for one in message.claims.iter().flat_map(|claim| &claim.uses) {
        if one.visibility.is_none() && matches!(one.outcome, Outcome::Done | Outcome::Unknown) {
            gone = gone.min(one.invoke);
        }
    }
    let sent = index.sent(message).map_or(0, |(invoke, _)| invoke);
    if let Some(purge) = index
        .purges
        .iter()
        .filter(|purge| purge.back >= sent)
        .min_by_key(|purge| purge.invoke)
    {
        gone = gone.min(purge.invoke);
    }
    if let Some(retention) = rules.retention {
        gone = gone.min(sent.saturating_add(retention).saturating_sub(rules.tolerance));
    }
    for claim in &message.claims {
        for (place, one) in claim.uses.iter().enumerate() {
            let before = claim.uses[..place].iter().max_by_key(|one| one.back);
            let next = claim.uses.get(place + 1);
            let is_alone = before.is_none_or(|before| before.is_before(one))
                && next.is_none_or(|next| one.is_before(next));
            if !matches!(
                one.outcome,
                Outcome::Superseded | Outcome::Expired | Outcome::Gone
            ) {
                continue;
            }
            let is_moved = order.highest > claim.receive.lane;
            let by_lost = !index.lost_receives.is_empty();
            let mut add = |what: &str| findings.add(Rule::Honoured, Some(id), what, &[claim.at, one.at]);
            match one.outcome {
                Outcome::Gone if gone > one.back && !is_moved => {
                    add("said to be gone, and nobody deleted it");
                }
                // It may have been on its way when that was said.
                Outcome::Superseded
                    if gone > one.back
                        && !is_moved
                        && !by_lost
                        && !order.may_be_superseded(claim, u64::MAX) =>
                {
                    add("said to be received again, and was not");
                }
                _ => {}
            }
            let purge = index
                .purges
                .iter()
                .any(|purge| purge.invoke <= one.back && purge.back >= claim.invoke);
            if is_alone && !purge && gone > one.back {
                let end = end_of_lease(
                    claim.invoke.saturating_add(claim.receive.visibility),
                    &claim.uses[..place],
                );
                if one.back.saturating_add(rules.tolerance) < end {
                    add("refused while the lease ran");
                }
            }
        }
    }
}

/// What became of all messages.
pub(super) fn check_end(
    index: &Index<'_>,
    ids: &[u128],
    rules: &Rules,
    end: &End,
    findings: &mut Findings<'_>,
) {
    let holds: HashSet<u128> = match end {
        End::Unknown => return,
        End::Empty | End::HoldsSome(_) => HashSet::new(),
        End::Holds(ids) => ids.iter().copied().collect(),
    };
    // Those sends without an answer of which no receive tells that they made a message.
    let known: HashSet<usize> = index
        .messages
        .values()
        .filter_map(|message| message.original)
        .collect();
    let is_unanswered = |at| index.send(at).is_some_and(|send| send.answer == Answer::Unknown);
    let unanswered = index.tokens.values();
    let mut may_be_more = unanswered
        .filter(|&&at| is_unanswered(at) && !known.contains(&at))
        .count() as u64;
    let (mut must_be, mut may_be) = (0, 0);
    for &id in ids {
        let message = &index.messages[&id];
        let order = LazyCell::new(|| Order::new(&message.claims));
        let uses = || {
            message
                .claims
                .iter()
                .flat_map(|claim| claim.uses.iter().map(move |one| (claim, one)))
        };
        let ended = uses().find(|(claim, one)| {
            one.visibility.is_none()
                && one.outcome == Outcome::Done
                && (rules.exact || is_end(one, claim, &order, rules))
        });
        let may_have_ended = uses().any(|(_, one)| {
            one.visibility.is_none() && matches!(one.outcome, Outcome::Done | Outcome::Unknown)
        });
        let sent = index.sent(message).map_or(0, |(invoke, _)| invoke);
        let may_have_lapsed = rules.retention.is_some_and(|retention| {
            sent.saturating_add(retention) <= index.last.saturating_add(rules.tolerance)
        });
        let may_be_gone = may_have_ended || may_have_lapsed || index.may_be_purged(sent, u64::MAX);
        let mut events = message.sends.clone();
        events.extend(message.claims.iter().rev().take(2).map(|claim| claim.at));
        if holds.contains(&id) {
            if let Some((_, one)) = ended {
                events.push(one.at);
                findings.add(Rule::Final, Some(id), "still there after its delete", &events);
            }
        } else if matches!(end, End::HoldsSome(_)) {
            must_be += u64::from(!may_be_gone);
            may_be += u64::from(ended.is_none());
        } else if !may_be_gone {
            findings.add(Rule::Kept, Some(id), "lost", &events);
        }
    }
    match end {
        &End::HoldsSome(count) => {
            may_be_more += may_be;
            if count < must_be {
                let what = format!("{count} messages are left where {must_be} must be");
                findings.add(Rule::Kept, None, &what, &[]);
            }
            if count > may_be_more {
                let what = format!("{count} messages are left where {may_be_more} can be");
                findings.add(Rule::Final, None, &what, &[]);
            }
        }
        _ => {
            let mut strangers: Vec<_> = holds
                .iter()
                .filter(|id| !index.messages.contains_key(id))
                .copied()
                .collect();
            strangers.sort_unstable();
            for id in strangers.into_iter().skip(may_be_more as usize) {
                findings.add(Rule::Authentic, Some(id), "it is there, and was never sent", &[]);
            }
        }
    }
}

fn events(claims: &[&Claim<'_>]) -> Vec<usize> {
    claims.iter().map(|claim| claim.at).collect()
}
