//! What the threads of a run share: the phase, one line of counters each, and what sampled messages carry with them.

use std::sync::{
    Barrier, OnceLock,
    atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use crossbeam_utils::CachePadded;

use crate::{plan::Plan, workload::Id};

/// Where a run is. Threads look at it every few dozen calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Running, not counting yet.
    WarmUp,
    /// Running and counting.
    Measure,
    /// Senders stop; then everything is drained.
    Stop,
}

/// Counters of one seat: written by its thread, read by the others and by the coordinator.
#[derive(Debug, Default)]
pub struct SeatCounters {
    /// Messages sent.
    pub sent: AtomicU64,
    /// Messages received.
    pub received: AtomicU64,
    /// Messages deleted.
    pub deleted: AtomicU64,
    /// When this seat's schedule began, in nanoseconds of the clock (`--rate`).
    pub origin_ns: AtomicU64,
}

/// Shared by all threads of a run.
#[derive(Debug)]
pub struct Shared {
    phase: CachePadded<AtomicU8>,
    /// How many threads have begun to count.
    pub measuring: AtomicUsize,
    /// Crossed by all threads and the coordinator between phases.
    pub barrier: Barrier,
    /// By seat.
    pub seats: Vec<CachePadded<SeatCounters>>,
    /// By producer: when sampled messages were sent.
    pub stamps: Vec<Stamps>,
    /// Why a thread could not begin.
    pub failure: OnceLock<String>,
}

impl Shared {
    /// For the threads of `plan` and one coordinator.
    pub fn new(plan: &Plan) -> Self {
        let threads = plan.topology.threads();
        let stamps = if plan.topology.is_split() { threads } else { 0 };
        Self {
            phase: CachePadded::new(AtomicU8::new(Phase::WarmUp as u8)),
            measuring: AtomicUsize::new(0),
            barrier: Barrier::new(threads + 1),
            seats: (0..threads).map(|_| CachePadded::default()).collect(),
            stamps: (0..stamps)
                .map(|_| Stamps::new(plan.backlog, plan.sample_mask()))
                .collect(),
            failure: OnceLock::new(),
        }
    }

    /// Where the run is.
    #[inline]
    pub fn phase(&self) -> Phase {
        // Relaxed: a thread that sees the change late runs a few calls more; the barriers order everything else.
        match self.phase.load(Relaxed) {
            0 => Phase::WarmUp,
            1 => Phase::Measure,
            _ => Phase::Stop,
        }
    }

    /// The coordinator's move.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    /// The sum of one counter over all seats. Relaxed: exact only after a barrier, near enough before.
    pub fn sum(&self, counter: impl Fn(&SeatCounters) -> &AtomicU64) -> u64 {
        self.seats.iter().map(|seat| counter(seat).load(Relaxed)).sum()
    }
}

/// One producer's table of when its sampled messages were sent: a ring with room for more than may be outstanding.
#[derive(Debug)]
pub struct Stamps {
    cells: Box<[AtomicU64]>,
    sample_mask: u64,
}

impl Stamps {
    fn new(outstanding: u64, sample_mask: u64) -> Self {
        let sampled = outstanding / (sample_mask + 1) + 1;
        let cells = (sampled * 4).next_power_of_two().max(1024);
        Self {
            cells: (0..cells).map(|_| AtomicU64::new(0)).collect(),
            sample_mask,
        }
    }

    /// Whether one of `n` messages from `first` on is sampled; if so, which.
    #[inline]
    pub fn sampled(&self, first: Id, n: usize) -> Option<Id> {
        let ahead = first.sequence().wrapping_neg() & self.sample_mask;
        (ahead < n as u64).then(|| Id::new(first.producer() as u16, first.sequence() + ahead))
    }

    /// The cell of a sampled message. Relaxed accesses do: the queue under test orders them by handing the message over.
    #[inline]
    pub fn cell(&self, id: Id) -> &AtomicU64 {
        let place = id.sequence() / (self.sample_mask + 1);
        &self.cells[place as usize & (self.cells.len() - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sampled_message_is_found_in_any_batch() {
        let stamps = Stamps::new(100_000, 255);
        let id = |sequence| Id::new(0, sequence);
        assert_eq!(stamps.sampled(id(0), 1), Some(id(0)));
        assert_eq!(stamps.sampled(id(1), 10), None);
        assert_eq!(stamps.sampled(id(250), 10), Some(id(256)));
        assert_eq!(stamps.sampled(id(246), 10), None);
        assert_eq!(stamps.sampled(id(247), 10), Some(id(256)));
        assert!(!std::ptr::eq(stamps.cell(id(0)), stamps.cell(id(256))));
    }

    #[test]
    fn every_message_may_be_sampled() {
        let stamps = Stamps::new(1000, 0);
        assert_eq!(stamps.sampled(Id::new(2, 77), 1), Some(Id::new(2, 77)));
    }
}
