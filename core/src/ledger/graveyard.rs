//! Partitions of purged and deleted queues, to be freed a few segments at a time by whoever comes by.
//!
//! To free ten million messages takes some ten milliseconds; no single operation shall pay that.

use std::any::Any;

use crate::{
    ledger::partition::Partition,
    sync::{Arc, AtomicU64, Mutex, Ordering},
};

/// Partitions that nobody can reach any more.
#[derive(Debug, Default)]
pub struct Graveyard {
    /// How many there are: looked at before the lock. May lag; whoever comes next sees it.
    count: AtomicU64,
    /// Taken for a push or a pop, which moves a pointer; only ever tried by whoever comes by.
    waiting: Mutex<Vec<Arc<Partition>>>,
    /// What FIFO queues had besides; dropped as a whole, by those who have come to free much.
    besides: Mutex<Vec<Besides>>,
}

/// Anything, to be dropped.
type Besides = Box<dyn Any + Send>;

/// Segments that one has come to free who frees what is besides too.
const MUCH: usize = 1024;

impl Graveyard {
    /// Adds a partition that nobody operates on any more, and nobody ever will: the era it was of is over, and so is the
    /// grace period of whoever was in it.
    pub fn put(&self, partition: Arc<Partition>) {
        self.lock().push(partition);
        // Relaxed: a count that says whether to look.
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds something else that nobody can reach any more, and that takes long to drop.
    pub fn put_besides(&self, besides: Besides) {
        lock(&self.besides).push(besides);
        // Relaxed: see `put`.
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Frees up to `segments` segments. Says whether there is more to do.
    pub fn work(&self, segments: usize) -> bool {
        // Relaxed: see `put`.
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let Ok(mut waiting) = self.waiting.try_lock() else {
            return true;
        };
        let Some(partition) = waiting.pop() else {
            drop(waiting);
            if segments < MUCH {
                return false;
            }
            // Taken out first: it takes long to drop, and closures that wait for the epoch come here too.
            let besides = lock(&self.besides).pop();
            if besides.is_some() {
                drop(besides);
                // Relaxed, both: see `put`.
                self.count.fetch_sub(1, Ordering::Relaxed);
                return self.count.load(Ordering::Relaxed) > 0;
            }
            return false;
        };
        // Worked on outside the lock, and put back if it is not done.
        drop(waiting);
        // SAFETY: nobody operates on what comes here, see `put`; a closure that still brings a segment back from the epoch
        // puts it into the pool.
        if unsafe { partition.free_some(segments) } {
            drop(partition);
            self.count.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.lock().push(partition);
        }
        // Relaxed: as above.
        self.count.load(Ordering::Relaxed) > 0
    }

    fn lock(&self) -> crate::sync::MutexGuard<'_, Vec<Arc<Partition>>> {
        lock(&self.waiting)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> crate::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
