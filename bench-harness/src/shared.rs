//! What the threads of a run share: the phase, one line of counters each, and what sampled messages carry with them.

use std::{
    collections::HashMap,
    sync::{
        Barrier, Mutex, OnceLock, PoisonError,
        atomic::{
            AtomicU8, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
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
    /// By producer: when sampled messages were sent, or should have been; none in a closed loop of life cycles.
    pub stamps: Vec<Stamps>,
    /// Why a thread could not begin.
    pub failure: OnceLock<String>,
}

impl Shared {
    /// For the threads of `plan` and one coordinator.
    pub fn new(plan: &Plan) -> Self {
        let threads = plan.topology.threads();
        let has_stamps = plan.topology.is_split() || plan.rate.is_some();
        let stamps = if has_stamps { threads } else { 0 };
        let outstanding = plan.backlog / plan.topology.senders() as u64;
        Self {
            phase: CachePadded::new(AtomicU8::new(Phase::WarmUp as u8)),
            measuring: AtomicUsize::new(0),
            barrier: Barrier::new(threads + 1),
            seats: (0..threads).map(|_| CachePadded::default()).collect(),
            stamps: (0..stamps)
                .map(|_| Stamps::new(outstanding, plan.sample_mask()))
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

/// One producer's table of when its sampled messages were sent: a ring with room for more than are mostly outstanding.
#[derive(Debug)]
pub struct Stamps {
    cells: Box<[Stamp]>,
    sample_mask: u64,
    /// By owner: of messages that were still outstanding when their cell was needed again. They are the slowest of all, so not
    /// one of them may be forgotten.
    set_aside: Mutex<HashMap<u64, u64>>,
    set_aside_count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Stamp {
    /// The message's number plus 1; 0 when it is free.
    owner: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Stamps {
    fn new(outstanding: u64, sample_mask: u64) -> Self {
        let sampled = outstanding / (sample_mask + 1) + 1;
        let cells = (sampled * 2).next_power_of_two().max(1024);
        Self {
            cells: (0..cells).map(|_| Stamp::default()).collect(),
            sample_mask,
            set_aside: Mutex::default(),
            set_aside_count: AtomicUsize::new(0),
        }
    }

    /// Whether one of `n` messages from `first` on is sampled; if so, which.
    #[inline]
    pub fn sampled(&self, first: Id, n: usize) -> Option<Id> {
        let ahead = first.sequence().wrapping_neg() & self.sample_mask;
        (ahead < n as u64).then(|| Id::new(first.producer() as u16, first.sequence() + ahead))
    }

    #[inline]
    fn cell(&self, id: Id) -> &Stamp {
        let place = id.sequence() / (self.sample_mask + 1);
        &self.cells[place as usize & (self.cells.len() - 1)]
    }

    /// Notes the time of a sampled message, before it is sent; only for its producer.
    #[inline]
    pub fn put(&self, id: Id, nanoseconds: u64) {
        let cell = self.cell(id);
        // Acquire: whoever freed the cell has read the time.
        let owner = cell.owner.load(Acquire);
        if owner != 0 {
            self.set_aside(cell, owner);
        }
        cell.nanoseconds.store(nanoseconds, Relaxed);
        // Release: the time is there before its owner is.
        cell.owner.store(id.sequence() + 1, Release);
    }

    #[cold]
    fn set_aside(&self, cell: &Stamp, owner: u64) {
        let mut set_aside = self.set_aside.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the cell is freed, so that whoever finds it so looks here.
        self.set_aside_count.fetch_add(1, Relaxed);
        if cell.owner.compare_exchange(owner, 0, AcqRel, Acquire).is_ok() {
            set_aside.insert(owner, cell.nanoseconds.load(Relaxed));
        } else {
            self.set_aside_count.fetch_sub(1, Relaxed);
        }
    }

    /// The time of a message, once; `None` if it has none.
    #[inline]
    pub fn take(&self, id: Id) -> Option<u64> {
        let (cell, owner) = (self.cell(id), id.sequence() + 1);
        if cell.owner.load(Acquire) == owner {
            let nanoseconds = cell.nanoseconds.load(Relaxed);
            // Release: the time was read while the cell was still this message's.
            if cell.owner.compare_exchange(owner, 0, AcqRel, Acquire).is_ok() {
                return Some(nanoseconds);
            }
        }
        if self.set_aside_count.load(Relaxed) == 0 {
            return None;
        }
        let mut set_aside = self.set_aside.lock().unwrap_or_else(PoisonError::into_inner);
        let nanoseconds = set_aside.remove(&owner)?;
        self.set_aside_count.fetch_sub(1, Relaxed);
        Some(nanoseconds)
    }
}

/// When a thread looks at the counters of all seats. Each look reads a line of every other thread: with many threads they look less
/// often, so that a message does not pay for how many there are. What they allow themselves by it has room for a late look.
#[derive(Debug)]
pub(crate) struct Looks {
    every: usize,
    until_next: usize,
}

impl Looks {
    /// Up to so many threads look each time.
    const FEW: usize = 8;

    /// For one of so many threads.
    pub(crate) const fn new(threads: usize) -> Self {
        Self {
            every: threads.div_ceil(Self::FEW),
            until_next: 0,
        }
    }

    /// Whether to look this time.
    #[inline]
    pub(crate) fn is_due(&mut self) -> bool {
        if self.until_next == 0 {
            self.until_next = self.every;
        }
        self.until_next -= 1;
        self.until_next + 1 == self.every
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
    fn each_message_gets_its_own_time_once() {
        let stamps = Stamps::new(0, 0);
        let id = |sequence| Id::new(0, sequence);
        // More than there is room for: none may be given the time of another.
        let count = 3 * stamps.cells.len() as u64;
        (0..count).for_each(|sequence| stamps.put(id(sequence), 10 + sequence));
        for sequence in (0..count).rev() {
            assert_eq!(stamps.take(id(sequence)), Some(10 + sequence));
            assert_eq!(stamps.take(id(sequence)), None);
        }
        assert_eq!(stamps.take(id(count)), None);
        assert!(stamps.set_aside.lock().unwrap().is_empty());
        assert_eq!(stamps.set_aside_count.load(Relaxed), 0);
    }

    #[test]
    fn times_are_taken_while_others_are_put() {
        let stamps = Stamps::new(0, 0);
        let (send, receive) = std::sync::mpsc::channel();
        const COUNT: u64 = 20_000;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for sequence in 0..COUNT {
                    stamps.put(Id::new(0, sequence), 10 + sequence);
                    send.send(sequence).unwrap();
                }
                drop(send);
            });
            for sequence in receive {
                assert_eq!(stamps.take(Id::new(0, sequence)), Some(10 + sequence));
            }
        });
    }

    #[test]
    fn many_threads_do_not_read_more_lines_for_each_round() {
        const ROUNDS: usize = 4096;
        for threads in [1, 2, 8, 64, 512] {
            let mut looks = Looks::new(threads);
            assert!(looks.is_due(), "the first look comes first");
            let lines = (1..ROUNDS).filter(|_| looks.is_due()).count() * threads;
            let most = ROUNDS * threads.min(Looks::FEW);
            assert!(lines <= most && lines >= most / 2, "{threads}: {lines} lines");
        }
    }

    #[test]
    fn every_message_may_be_sampled() {
        let stamps = Stamps::new(1000, 0);
        assert_eq!(stamps.sampled(Id::new(2, 77), 1), Some(Id::new(2, 77)));
    }
}
