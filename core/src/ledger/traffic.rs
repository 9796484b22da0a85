//! Who sends to a partition, and how often: looked at with every 64th message only.

use crate::{
    clock::Millis,
    sync::{AtomicU32, AtomicU64, Ordering},
};

/// Messages of one worker between two looks.
pub const SAMPLE_EVERY: u64 = if cfg!(shuttle) { 4 } else { 64 };
/// How long to look before judging, in milliseconds.
const WINDOW_MS: u64 = 10;

/// What the looks at one partition have brought since it was last judged.
///
/// Relaxed throughout: statistics, which only decide where messages are sent.
#[derive(Debug, Default)]
pub struct Traffic {
    /// The worker that looked last, plus one; 0 at first.
    last: AtomicU32,
    looks: AtomicU32,
    /// Looks that found that another worker had looked last.
    foreign: AtomicU32,
    since: AtomicU64,
}

/// A time that is long enough to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Looks in it.
    pub looks: u32,
    /// Those of them that found another worker's.
    pub foreign: u32,
    /// How long it was in milliseconds.
    pub ms: u64,
}

impl Traffic {
    /// A worker looks. If a window is over with it, its caller is the one to judge it.
    pub fn look(&self, worker: u32, now: Millis) -> Option<Window> {
        let me = worker.wrapping_add(1);
        let last = self.last.swap(me, Ordering::Relaxed);
        if last != me && last != 0 {
            self.foreign.fetch_add(1, Ordering::Relaxed);
        }
        self.looks.fetch_add(1, Ordering::Relaxed);
        let since = self.since.load(Ordering::Relaxed);
        let ms = now.0.saturating_sub(since);
        if ms < WINDOW_MS
            || self
                .since
                .compare_exchange(since, now.0, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return None;
        }
        Some(Window {
            looks: self.looks.swap(0, Ordering::Relaxed),
            foreign: self.foreign.swap(0, Ordering::Relaxed),
            ms,
        })
    }
}

impl Window {
    /// Messages sent to the partition a second.
    pub fn rate(self) -> u64 {
        u64::from(self.looks) * SAMPLE_EVERY * 1000 / self.ms.max(1)
    }

    /// Whether at least one look in twenty found another worker's.
    pub fn is_shared(self) -> bool {
        u64::from(self.foreign) * 20 >= u64::from(self.looks).max(1)
    }
}
