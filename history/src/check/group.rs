//! The rules about message groups.

use std::collections::BTreeMap;

use super::index::{Claim, Index};
use crate::{rules::Rule, verdict::Findings};

/// One message in one group of one lane.
#[derive(Debug)]
struct Member<'m, 'h> {
    id: u128,
    /// Begin and end of its send.
    sent: (u64, u64),
    /// Whose send that was, and which.
    by: Option<(u16, usize)>,
    claims: Vec<&'m Claim<'h>>,
    /// When it was received last: by which receive.
    last: &'m Claim<'h>,
    /// It is before another one if that one's `from` is greater than its `to`: moments of the sends, or both the sequence number.
    from: u128,
    to: u128,
}

/// What happened in each group.
pub(super) fn check(index: &Index<'_>, findings: &mut Findings<'_>) {
    let mut groups: BTreeMap<(u8, u32), Vec<Member<'_, '_>>> = BTreeMap::new();
    for (&id, message) in &index.messages {
        let mut by_group: BTreeMap<(u8, u32), Vec<&Claim<'_>>> = BTreeMap::new();
        for claim in &message.claims {
            if let Some(group) = claim.receive.group {
                by_group
                    .entry((claim.receive.lane, group))
                    .or_default()
                    .push(claim);
            }
        }
        // Of an altered message other rules tell.
        let sent = index.sent(message).unwrap_or((0, u64::MAX));
        for (place, claims) in by_group {
            let Some(&last) = claims.iter().max_by_key(|claim| claim.invoke) else {
                continue;
            };
            groups.entry(place).or_default().push(Member {
                id,
                sent,
                by: index.original_of(message).map(|at| (index.worker(at), at)),
                claims,
                last,
                from: u128::from(sent.0),
                to: u128::from(sent.1),
            });
        }
    }
    for ((lane, _), mut members) in groups {
        members.sort_by_key(|member| (member.sent, member.id));
        let is_told = sequence(&mut members, lane, findings);
        if !is_told && lane > 0 {
            // In what order they came there nobody knows.
            continue;
        }
        ordered_within(&members, findings);
        ordered(&members, findings);
        blocked(&members, findings);
    }
}

/// Takes the order from sequence numbers, if all have one and these are as they must be.
fn sequence(members: &mut [Member<'_, '_>], lane: u8, findings: &mut Findings<'_>) -> bool {
    let mut numbers = Vec::with_capacity(members.len());
    let mut is_good = true;
    for member in members.iter() {
        let first = member.claims[0];
        for claim in &member.claims[1..] {
            if claim.receive.sequence != first.receive.sequence {
                let events = [first.at, claim.at];
                findings.add(
                    Rule::Sequenced,
                    Some(member.id),
                    "another sequence number than before",
                    &events,
                );
                is_good = false;
            }
        }
        let Some(number) = first.receive.sequence else {
            return false;
        };
        numbers.push(number);
    }
    if !is_good {
        return false;
    }
    let mut order: Vec<_> = (0..members.len()).collect();
    order.sort_by_key(|&at| numbers[at]);
    // Of those with lower numbers, the one that was sent last.
    let mut latest: Option<usize> = None;
    for pair in order.windows(2) {
        if numbers[pair[0]] == numbers[pair[1]] {
            let events = [pair[0], pair[1]].map(|at| members[at].claims[0].at);
            findings.add(
                Rule::Sequenced,
                Some(members[pair[1]].id),
                "one sequence number twice",
                &events,
            );
            is_good = false;
        }
    }
    if lane == 0 {
        is_good &= follows_threads(members, &numbers, findings);
    }
    for &at in &order {
        if lane > 0 {
            break;
        }
        if let Some(latest) = latest
            && members[latest].sent.0 > members[at].sent.1
        {
            let events = [members[at].claims[0].at, members[latest].claims[0].at];
            let what = "sent earlier, with a higher sequence number";
            findings.add(Rule::Sequenced, Some(members[at].id), what, &events);
            is_good = false;
        }
        if latest.is_none_or(|latest| members[latest].sent.0 < members[at].sent.0) {
            latest = Some(at);
        }
    }
    if is_good {
        for (member, number) in members.iter_mut().zip(numbers) {
            (member.from, member.to) = (number, number);
        }
    }
    is_good
}

/// Each thread's sends are in the order in which it noted them: those of one batch too, and where its clock stands still.
fn follows_threads(members: &[Member<'_, '_>], numbers: &[u128], findings: &mut Findings<'_>) -> bool {
    let mut sends: Vec<_> = (0..members.len())
        .filter_map(|at| Some((members[at].by?, at)))
        .collect();
    sends.sort_unstable();
    let mut is_good = true;
    for pair in sends.windows(2) {
        let [((worker, one_at), one), ((other, next_at), next)] = [pair[0], pair[1]];
        if worker == other && numbers[one] > numbers[next] {
            let what = "sent by one thread, with falling sequence numbers";
            findings.add(Rule::Sequenced, Some(members[next].id), what, &[one_at, next_at]);
            is_good = false;
        }
    }
    is_good
}

/// The members of each answer, in its order.
fn answers<'a, 'm, 'h>(members: &'a [Member<'m, 'h>]) -> Vec<(&'m Claim<'h>, &'a Member<'m, 'h>)> {
    let mut all: Vec<_> = members
        .iter()
        .flat_map(|member| member.claims.iter().map(move |&claim| (claim, member)))
        .collect();
    all.sort_by_key(|(claim, _)| (claim.worker, claim.receive.call, claim.receive.place));
    all
}

fn is_same_call(one: &Claim<'_>, other: &Claim<'_>) -> bool {
    one.worker == other.worker && one.receive.call == other.receive.call
}

/// Within one answer each message stands after those before it in its group.
fn ordered_within(members: &[Member<'_, '_>], findings: &mut Findings<'_>) {
    let all = answers(members);
    for answer in all.chunk_by(|(one, _), (other, _)| is_same_call(one, other)) {
        // Of those behind, the one that is before most others.
        let mut earliest: Option<(&Claim<'_>, &Member<'_, '_>)> = None;
        for &(claim, member) in answer.iter().rev() {
            if let Some((behind, other)) = earliest
                && other.to < member.from
            {
                let what = "it stands before an earlier one in one answer";
                findings.add(Rule::Ordered, Some(member.id), what, &[claim.at, behind.at]);
            }
            if earliest.is_none_or(|(_, other)| member.to < other.to) {
                earliest = Some((claim, member));
            }
        }
    }
}

/// Nothing is delivered while an earlier one is there that is not in the same answer.
///
/// One is there that is received later. So for each delivery the earlier members are counted that are received later, but for
/// those in the same answer: from the last delivery to the first, while members are entered by their last receive.
fn ordered(members: &[Member<'_, '_>], findings: &mut Findings<'_>) {
    let all = answers(members);
    let mut by_to: Vec<usize> = (0..members.len()).collect();
    by_to.sort_by_key(|&at| members[at].to);
    let mut rank = vec![0; members.len()];
    for (place, &at) in by_to.iter().enumerate() {
        rank[at] = place;
    }
    let mut by_last: Vec<usize> = (0..members.len()).collect();
    by_last.sort_by_key(|&at| members[at].last.invoke);
    let mut there = Sums::new(members.len());
    let mut deliveries: Vec<usize> = (0..all.len()).collect();
    deliveries.sort_by_key(|&at| std::cmp::Reverse(all[at].0.back));
    // Where each answer begins.
    let mut begin = vec![0; all.len()];
    for at in 1..all.len() {
        begin[at] = if is_same_call(all[at - 1].0, all[at].0) {
            begin[at - 1]
        } else {
            at
        };
    }
    for at in deliveries {
        let (claim, member) = all[at];
        while let Some(entered) = by_last.pop_if(|last| members[*last].last.invoke > claim.back) {
            there.add(rank[entered]);
        }
        let earlier = by_to.partition_point(|&other| members[other].to < member.from);
        let count = there.below(earlier);
        let in_answer = all[begin[at]..]
            .iter()
            .take_while(|(other, _)| is_same_call(other, claim))
            .filter(|(_, other)| other.to < member.from && other.last.invoke > claim.back)
            .count();
        if count > in_answer {
            let overtaken = by_to[..earlier]
                .iter()
                .map(|&other| &members[other])
                .find(|other| {
                    other.last.invoke > claim.back && !other.claims.iter().any(|one| is_same_call(one, claim))
                });
            let events: Vec<_> = [Some(claim.at), overtaken.map(|other| other.last.at)]
                .into_iter()
                .flatten()
                .collect();
            let what = "delivered while an earlier one was there, which was received later";
            findings.add(Rule::Ordered, Some(member.id), what, &events);
        }
    }
}

/// Nothing is delivered while an earlier one is certainly in flight.
fn blocked(members: &[Member<'_, '_>], findings: &mut Findings<'_>) {
    let mut by_to: Vec<&Member<'_, '_>> = members.iter().collect();
    by_to.sort_by_key(|member| member.to);
    let mut leases: Vec<(usize, &Claim<'_>)> = by_to
        .iter()
        .enumerate()
        .flat_map(|(rank, member)| member.claims.iter().map(move |&claim| (rank, claim)))
        .filter(|(_, claim)| claim.back < claim.end)
        .collect();
    leases.sort_by_key(|(_, lease)| lease.back);
    let mut deliveries: Vec<_> = members
        .iter()
        .flat_map(|member| member.claims.iter().map(move |&claim| (claim, member)))
        .collect();
    deliveries.sort_by_key(|(claim, _)| claim.invoke);
    let mut running = Longest::new(members.len());
    let mut next = leases.into_iter().peekable();
    for (claim, member) in deliveries {
        while let Some((rank, lease)) = next.next_if(|(_, lease)| lease.back < claim.invoke) {
            running.add(rank, lease);
        }
        let earlier = by_to.partition_point(|other| other.to < member.from);
        if let Some(lease) = running.below(earlier)
            && claim.back < lease.end
        {
            let what = "delivered while an earlier one was in flight";
            findings.add(Rule::Blocked, Some(member.id), what, &[lease.at, claim.at]);
        }
    }
}

/// Counts by rank, and their sums below a rank: a Fenwick tree.
struct Sums(Vec<usize>);

impl Sums {
    fn new(ranks: usize) -> Self {
        Self(vec![0; ranks + 1])
    }

    fn add(&mut self, rank: usize) {
        let mut at = rank + 1;
        while at < self.0.len() {
            self.0[at] += 1;
            at += at & at.wrapping_neg();
        }
    }

    fn below(&self, rank: usize) -> usize {
        let (mut at, mut sum) = (rank, 0);
        while at > 0 {
            sum += self.0[at];
            at &= at - 1;
        }
        sum
    }
}

/// Leases by rank, and the one that ends last below a rank: as above.
struct Longest<'m, 'h>(Vec<Option<&'m Claim<'h>>>);

impl<'m, 'h> Longest<'m, 'h> {
    fn new(ranks: usize) -> Self {
        Self(vec![None; ranks + 1])
    }

    fn add(&mut self, rank: usize, lease: &'m Claim<'h>) {
        let mut at = rank + 1;
        while at < self.0.len() {
            if self.0[at].is_none_or(|longest| longest.end < lease.end) {
                self.0[at] = Some(lease);
            }
            at += at & at.wrapping_neg();
        }
    }

    fn below(&self, rank: usize) -> Option<&'m Claim<'h>> {
        let (mut at, mut longest): (usize, Option<&Claim<'_>>) = (rank, None);
        while at > 0 {
            if let Some(lease) = self.0[at]
                && longest.is_none_or(|longest| longest.end < lease.end)
            {
                longest = Some(lease);
            }
            at &= at - 1;
        }
        longest
    }
}
