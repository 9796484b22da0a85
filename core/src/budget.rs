//! The memory budget of a broker: what is used, what waits for the epoch, and where it ends.
#![cfg_attr(
    not(loom),
    allow(unreachable_pub, reason = "public to the models only, see lib.rs")
)]

use crossbeam_utils::CachePadded;

use crate::{
    config::{TINY, arena_body_max},
    sync::{Arc, AtomicU64, Ordering},
    wait::Waiters,
};

/// Counts the bytes of every segment, large body and index chunk of a broker, wherever they are: in use, in a pool or
/// in limbo. Touched once per segment (some 252 messages) or large body, never per small message.
#[derive(Debug)]
pub struct Budget {
    /// `u64::MAX` for none of its own.
    limit: AtomicU64,
    /// What this one's bytes count in too.
    whole: Option<Arc<Self>>,
    /// Who waits for room; those who wait for a part of the whole wait with the whole.
    room: Waiters,
    used: CachePadded<AtomicU64>,
    /// By partition, so that cores that retire and reuse at home do not meet here.
    shards: Box<[CachePadded<Shard>]>,
}

/// Bytes left below which memory is tight, whatever the limit: what a few workers may keep to themselves.
const TIGHT_BYTES: u64 = 1 << 20;
/// Partitions whose numbers are equal modulo this share a shard: of a broker's budget, and of a queue's, of which there are many.
const SHARDS: usize = if TINY { 1 } else { 16 };
const QUEUE_SHARDS: usize = if TINY { 1 } else { 4 };

#[derive(Debug)]
struct Shard {
    limbo: AtomicU64,
    pooled: AtomicU64,
}

/// What a broker's memory amounts to at a moment, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUse {
    /// Sends that would need more than this are refused.
    pub limit: u64,
    /// All that is allocated for messages: in use, in limbo and pooled.
    pub used: u64,
    /// The part of `used` that is retired and waits for the epoch to pass: segments and large bodies.
    pub limbo: u64,
    /// The part of `used` that is kept for reuse.
    pub pooled: u64,
}

// Relaxed throughout: counters on their own, no memory is handed over by them. Sums may lag on the high side only,
// because memory is counted before it is allocated and until after it is freed.
impl Budget {
    /// A budget of `limit` bytes, nothing used.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self::with_shards(limit, None, SHARDS)
    }

    /// A queue's share in its broker's budget, with a limit of its own or none.
    #[must_use]
    pub(crate) fn of_queue(whole: &Arc<Self>, limit: Option<u64>) -> Self {
        Self::with_shards(limit.unwrap_or(u64::MAX), Some(Arc::clone(whole)), QUEUE_SHARDS)
    }

    fn with_shards(limit: u64, whole: Option<Arc<Self>>, shards: usize) -> Self {
        let shard = |_| {
            CachePadded::new(Shard {
                limbo: AtomicU64::new(0),
                pooled: AtomicU64::new(0),
            })
        };
        Self {
            limit: AtomicU64::new(limit),
            whole,
            room: Waiters::default(),
            used: CachePadded::new(AtomicU64::new(0)),
            shards: (0..shards).map(shard).collect(),
        }
    }

    pub(crate) fn set_limit(&self, limit: Option<u64>) {
        self.limit.store(limit.unwrap_or(u64::MAX), Ordering::Relaxed);
        // There may be room.
        self.whole
            .as_ref()
            .map_or(&self.room, |whole| &whole.room)
            .wake_all();
    }

    /// Counts `bytes` as used, if they fit.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        // Not added first and taken back: whoever reads in between would see more than the limit. Progress: a failed CAS means
        // that another thread took or gave back.
        let fits = |used: u64| used.checked_add(bytes as u64).filter(|&sum| sum <= limit);
        if self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .is_err()
        {
            return false;
        }
        let took = self.whole.as_ref().is_none_or(|whole| whole.take(bytes));
        if !took {
            self.used.fetch_sub(bytes as u64, Ordering::Relaxed);
        }
        took
    }

    /// Bodies up to this many bytes live in arenas.
    pub(crate) fn arena_body_max(&self) -> usize {
        arena_body_max(self.limit.load(Ordering::Relaxed))
    }

    /// Whether `bytes` would fit at the moment.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        limit.saturating_sub(self.used.load(Ordering::Relaxed)) >= bytes as u64
            && self.whole.as_ref().is_none_or(|whole| whole.has_room(bytes))
    }

    /// Counts `bytes` as not used after all that were taken for something that failed. Nobody is told: there is no more room
    /// than before, and whoever waits would be woken by its own tries.
    pub(crate) fn undo(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes as u64, Ordering::Relaxed);
        debug_assert!(before >= bytes as u64, "more memory given back than taken");
        if let Some(whole) = &self.whole {
            whole.undo(bytes);
        }
    }

    /// Counts `bytes` as used even beyond the limit: for what must not fail (bringing a message back).
    pub(crate) fn force(&self, bytes: usize) {
        if let Some(whole) = &self.whole {
            whole.force(bytes);
        }
        self.used.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts `bytes` as no longer used.
    pub(crate) fn give_back(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes as u64, Ordering::Relaxed);
        debug_assert!(before >= bytes as u64, "more memory given back than taken");
        match &self.whole {
            Some(whole) => whole.give_back(bytes),
            None => self.tell(),
        }
    }

    /// Who waits for room.
    pub(crate) fn room(&self) -> &Waiters {
        &self.room
    }

    /// Whether what is retired has to be handed to the collector at once, for the thread that retired it may do nothing more
    /// for a long time: somebody waits for room, or there is little left.
    pub(crate) fn is_tight(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let left = limit.saturating_sub(self.used.load(Ordering::Relaxed));
        left < limit / 8
            || left < TIGHT_BYTES
            || self
                .whole
                .as_ref()
                .map_or_else(|| self.room.is_anyone(), |whole| whole.is_tight())
    }

    /// There is room, or soon will be, by a read-modify-write of the caller: for all who wait, for a segment has room for many messages, and the first to wait may be
    /// one of another queue, or want more.
    fn tell(&self) {
        self.room.wake(usize::MAX);
    }

    /// Counts `bytes` of the used ones as waiting for the epoch.
    pub(crate) fn enter_limbo(&self, partition: u32, bytes: usize) {
        self.shard(partition)
            .limbo
            .fetch_add(bytes as u64, Ordering::Relaxed);
        match &self.whole {
            Some(whole) => whole.enter_limbo(partition, bytes),
            // Counted before: whoever waits sleeps longer while nothing is in limbo.
            None => self.tell(),
        }
    }

    /// Counts `bytes` as through with waiting.
    pub(crate) fn leave_limbo(&self, partition: u32, bytes: usize) {
        if let Some(whole) = &self.whole {
            whole.leave_limbo(partition, bytes);
        }
        let before = self
            .shard(partition)
            .limbo
            .fetch_sub(bytes as u64, Ordering::Relaxed);
        debug_assert!(before >= bytes as u64, "more memory left limbo than entered");
    }

    /// Counts `bytes` of the used ones as pooled.
    pub(crate) fn enter_pool(&self, partition: u32, bytes: usize) {
        self.shard(partition)
            .pooled
            .fetch_add(bytes as u64, Ordering::Relaxed);
        match &self.whole {
            Some(whole) => whole.enter_pool(partition, bytes),
            None => self.tell(),
        }
    }

    /// Counts `bytes` as no longer pooled.
    pub(crate) fn leave_pool(&self, partition: u32, bytes: usize) {
        if let Some(whole) = &self.whole {
            whole.leave_pool(partition, bytes);
        }
        let before = self
            .shard(partition)
            .pooled
            .fetch_sub(bytes as u64, Ordering::Relaxed);
        debug_assert!(before >= bytes as u64, "more memory left the pool than entered");
    }

    fn shard(&self, partition: u32) -> &Shard {
        &self.shards[partition as usize % self.shards.len()]
    }

    /// What is used now of this budget or of the whole, whichever has less left.
    pub(crate) fn tightest(&self) -> MemoryUse {
        let own = self.read();
        let left = |memory: &MemoryUse| memory.limit.saturating_sub(memory.used);
        match self.whole.as_ref().map(|whole| whole.read()) {
            Some(whole) if left(&whole) < left(&own) => whole,
            _ => own,
        }
    }

    /// What is used now; exact when nothing runs.
    #[must_use]
    pub fn read(&self) -> MemoryUse {
        MemoryUse {
            limit: self.limit.load(Ordering::Relaxed),
            used: self.used.load(Ordering::Relaxed),
            limbo: self
                .shards
                .iter()
                .map(|shard| shard.limbo.load(Ordering::Relaxed))
                .sum(),
            pooled: self
                .shards
                .iter()
                .map(|shard| shard.pooled.load(Ordering::Relaxed))
                .sum(),
        }
    }
}

/// The budget's steps, for models: outside the crate a budget can only be read.
#[cfg(loom)]
pub mod steps {
    use super::Budget;
    use crate::{sync::Arc, wait::Waiters};

    /// `Budget::of_queue`.
    pub fn of_queue(whole: &Arc<Budget>, limit: Option<u64>) -> Budget {
        Budget::of_queue(whole, limit)
    }

    /// `Budget::take`.
    pub fn take(budget: &Budget, bytes: usize) -> bool {
        budget.take(bytes)
    }

    /// `Budget::give_back`.
    pub fn give_back(budget: &Budget, bytes: usize) {
        budget.give_back(bytes);
    }

    /// `Budget::enter_limbo`, of partition 0.
    pub fn enter_limbo(budget: &Budget, bytes: usize) {
        budget.enter_limbo(0, bytes);
    }

    /// `Budget::undo`.
    pub fn undo(budget: &Budget, bytes: usize) {
        budget.undo(bytes);
    }

    /// `Budget::room`.
    pub fn room(budget: &Budget) -> &Waiters {
        budget.room()
    }

    /// The word that counts what is in limbo.
    pub fn limbo(budget: &Budget) -> &crate::sync::AtomicU64 {
        &budget.shard(0).limbo
    }

    /// The word that counts what is used.
    pub fn used(budget: &Budget) -> &crate::sync::AtomicU64 {
        &budget.used
    }
}
