//! Which partition a receive looks at: home, an older one, then everybody else's.

use crate::{clock::Millis, ledger::partition::Partition, sync::Ordering, worker::WorkerCore};

/// How much older another partition's oldest message must be before a receive goes there instead of home: below
/// that, going home is cheaper than it is unfair.
const OLDER_BY_MS: u64 = 5;
/// Single receives between two looks at another partition's age; batches look every time. Odd, as is the next, so that
/// the receives that go elsewhere are now those that look at `returned` first, now those that look at the head first.
const LOOK_EVERY: u32 = 7;
/// Receives between two visits to a random partition whatever its hints say, should they be wrong. A visit takes messages
/// from under their own core's hands, whose next receive is then short, and so on: two cores at home are best left alone.
const VISIT_EVERY: u32 = 1021;

/// The partition to look at first.
#[inline]
pub(crate) fn first<'q>(
    worker: &WorkerCore,
    home: usize,
    partitions: usize,
    max: usize,
    receive: u32,
    find: impl Fn(usize) -> Option<&'q Partition>,
) -> usize {
    if partitions == 1 {
        return home;
    }
    if receive.is_multiple_of(VISIT_EVERY) {
        return other_than(home, worker, partitions);
    }
    if max == 1 && !receive.is_multiple_of(LOOK_EVERY) {
        return home;
    }
    let other = other_than(home, worker, partitions);
    let Some(there) = find(other) else { return home };
    let here = find(home).map_or(Millis::NEVER.0, Partition::oldest);
    // Older messages, or leases whose end nobody there has noticed.
    let goes = there.oldest().saturating_add(OLDER_BY_MS) < here || there.is_sweep_due(worker.last_seen());
    if goes { other } else { home }
}

/// A random partition that is not `this` one; there are at least two.
#[inline]
pub(crate) fn other_than(this: usize, worker: &WorkerCore, partitions: usize) -> usize {
    let other = worker.random_below(partitions - 1);
    if other < this { other } else { other + 1 }
}

/// Every partition once, from a random one on.
pub(crate) fn all(worker: &WorkerCore, partitions: usize) -> impl Iterator<Item = usize> {
    let start = worker.random_below(partitions);
    (start..partitions).chain(0..start)
}

impl Partition {
    /// About when the oldest message to be received was sent; `NEVER` if a receiver found none.
    #[inline]
    pub(crate) fn oldest(&self) -> u64 {
        // Relaxed: a hint; see `Head::oldest`.
        self.head.oldest.load(Ordering::Relaxed)
    }

    /// Notes that a receiver found nothing. Returns whether that is news: then a message may have come between the
    /// look and the note, and its sender have found the hint still set; the caller looks once more.
    #[inline]
    pub(crate) fn note_empty(&self) -> bool {
        // Relaxed: a hint; that a lost race leaves a message behind a wrong one is what VISIT_EVERY is for.
        self.oldest() != Millis::NEVER.0
            && self.head.oldest.swap(Millis::NEVER.0, Ordering::Relaxed) != Millis::NEVER.0
    }
}
