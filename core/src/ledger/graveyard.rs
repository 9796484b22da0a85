//! Partitions of purged and deleted queues, to be freed a few segments at a time by whoever comes by.
//!
//! To free ten million messages takes some ten milliseconds; no single operation shall pay that.

use std::any::Any;

use super::pile::Pile;
use crate::{
    ledger::partition::Partition,
    sync::{Arc, AtomicU64, Ordering},
};

/// Partitions that nobody can reach any more.
#[derive(Debug, Default)]
pub struct Graveyard {
    /// How many things there are: looked at first, so that who finds nothing to do writes nothing. May lag; whoever comes next sees it.
    count: AtomicU64,
    waiting: Pile<Arc<Partition>>,
    /// What FIFO queues had besides; dropped as a whole, by those who have come to free much.
    besides: Pile<Besides>,
}

/// Anything, to be dropped.
type Besides = Box<dyn Any + Send>;

/// Segments that one has come to free who frees what is besides too.
const MUCH: usize = 1024;

impl Graveyard {
    /// Adds a partition that nobody operates on any more, and nobody ever will: the era it was of is over, and so is the
    /// grace period of whoever was in it.
    pub fn put(&self, partition: Arc<Partition>) {
        // Before it is there, so that whoever takes it has something to count down. Relaxed: a count that says whether to look.
        self.count.fetch_add(1, Ordering::Relaxed);
        self.waiting.put(partition);
    }

    /// Adds something else that nobody can reach any more, and that takes long to drop.
    pub fn put_besides(&self, besides: Besides) {
        // Relaxed: see `put`.
        self.count.fetch_add(1, Ordering::Relaxed);
        self.besides.put(besides);
    }

    /// Frees up to `segments` segments. Says whether there is more to do for the caller: not what others have in hand meanwhile.
    pub fn work(&self, segments: usize) -> bool {
        // Relaxed: see `put`.
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        if let Some(partition) = self.waiting.take() {
            // SAFETY: nobody operates on what comes here, see `put`; a closure that still brings a segment back from the epoch
            // puts it into the pool.
            if !unsafe { partition.free_some(segments) } {
                self.waiting.put(partition);
                return true;
            }
        } else if let Some(besides) = (segments >= MUCH).then(|| self.besides.take()).flatten() {
            drop(besides);
        } else {
            return false;
        }
        // Relaxed, both: see `put`.
        self.count.fetch_sub(1, Ordering::Relaxed) > 1
    }
}
