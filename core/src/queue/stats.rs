//! Counters of a queue: written by one worker each, summed when read.

use crossbeam_utils::CachePadded;

use crate::{
    ledger::chunks::Chunks,
    sync::{AtomicU64, Ordering},
};

/// What a worker did to a queue, and how often. One line per worker, so nobody else writes here.
#[derive(Debug, Default)]
pub(crate) struct Stripe(CachePadded<Counters>);

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sent: Counter,
    /// Visible to in flight.
    pub(crate) leased: Counter,
    /// Received without a lease (visibility timeout zero).
    pub(crate) glimpsed: Counter,
    /// In flight to visible, by the lease's end.
    pub(crate) expired: Counter,
    /// In flight to visible, by the lease's holder.
    pub(crate) released: Counter,
    /// Delayed to visible.
    pub(crate) ripened: Counter,
    pub(crate) deleted_in_flight: Counter,
    pub(crate) deleted_visible: Counter,
    /// Receives asked for, to take turns by.
    pub(crate) rounds: Counter,
}

/// A counter with a single writer.
#[derive(Debug)]
pub(crate) struct Counter(AtomicU64);

impl Default for Counter {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Counter {
    /// Adds to it. By the one worker it belongs to: hence no RMW.
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        // Relaxed, both: a lone counter; readers at rest are ordered by whatever told them that all is at rest.
        self.0
            .store(self.0.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    /// Adds one, and returns what it has come to.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        self.add(1);
        self.read()
    }

    #[inline]
    fn read(&self) -> u64 {
        // Relaxed: see `add`.
        self.0.load(Ordering::Relaxed)
    }
}

impl std::ops::Deref for Stripe {
    type Target = Counters;
    #[inline]
    fn deref(&self) -> &Counters {
        &self.0
    }
}

/// How many messages a queue has, by state, and what has happened to them so far.
///
/// Exact when nothing runs: sent = visible + in flight + delayed + deleted. While operations run each figure may lag
/// behind by those operations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Messages to be received now.
    pub visible: u64,
    /// Messages leased. A lease whose end has come counts here until a receive or sweep notices.
    pub in_flight: u64,
    /// Messages not to be received yet.
    pub delayed: u64,
    /// Messages accepted so far.
    pub sent: u64,
    /// Deliveries made so far.
    pub received: u64,
    /// Leases that ended by themselves so far.
    pub expired: u64,
    /// Leases given up by their holders so far.
    pub released: u64,
    /// Messages deleted so far.
    pub deleted: u64,
}

/// A queue's stripes, by worker number.
#[derive(Debug)]
pub(crate) struct Stats(Chunks<Stripe>);

impl Stats {
    pub(crate) fn new() -> Self {
        Self(Chunks::new())
    }

    /// The counters of one worker, which is the caller.
    #[inline]
    pub(crate) fn of(&self, worker: u32) -> Option<&Stripe> {
        self.0.get_or_grow(worker as usize, |_| ())
    }

    pub(crate) fn read(&self) -> Counts {
        let sum = |counter: fn(&Counters) -> &Counter| -> u64 {
            self.0
                .chunks()
                .flat_map(|(_, stripes)| stripes)
                .map(|stripe| counter(stripe).read())
                .sum()
        };
        let (sent, leased, glimpsed) = (sum(|c| &c.sent), sum(|c| &c.leased), sum(|c| &c.glimpsed));
        let (expired, released) = (sum(|c| &c.expired), sum(|c| &c.released));
        let (deleted_in_flight, deleted_visible) =
            (sum(|c| &c.deleted_in_flight), sum(|c| &c.deleted_visible));
        Counts {
            visible: (sent + expired + released).saturating_sub(leased + deleted_visible),
            in_flight: leased.saturating_sub(expired + released + deleted_in_flight),
            delayed: 0,
            sent,
            received: leased + glimpsed,
            expired,
            released,
            deleted: deleted_in_flight + deleted_visible,
        }
    }
}
