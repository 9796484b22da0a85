//! Spare segments of one partition, kept for reuse.
//!
//! A Treiber stack. Popping needs no tag against ABA: a segment comes here only through the epoch, so one that was
//! popped cannot be back on top before whoever still compares against it has unpinned.

use std::ptr::NonNull;

use crate::{
    config::{POOL_BYTES, POOL_MAX},
    ledger::{reclaim::Pin, segment::Segment},
    sync::{AtomicPtr, AtomicU32, Ordering},
};

/// Segments past their grace period that nobody can reach.
#[derive(Debug)]
pub struct Pool {
    /// The segment on top.
    pub top: AtomicPtr<Segment>,
    /// Segments in it; may lag on either side by as many threads as are busy with it.
    count: AtomicU32,
}

impl Pool {
    /// An empty pool.
    pub fn new() -> Self {
        Self {
            top: AtomicPtr::new(std::ptr::null_mut()),
            count: AtomicU32::new(0),
        }
    }

    /// About how many are in it.
    pub fn count(&self) -> u32 {
        // Relaxed: shown to somebody, nothing rests on it.
        self.count.load(Ordering::Relaxed)
    }

    /// Whether a segment of so many bytes would be kept.
    pub fn has_room(&self, bytes: usize) -> bool {
        let most = (POOL_BYTES / bytes).clamp(1, POOL_MAX as usize);
        // Relaxed: a bound that may be overshot by a few segments.
        (self.count.load(Ordering::Relaxed) as usize) < most
    }

    /// Puts a segment in, unless the pool is full: then it is handed back, to be freed.
    ///
    /// # Safety
    /// Nobody but the caller can reach the segment, and it came through the epoch.
    pub unsafe fn put(&self, segment: NonNull<Segment>) -> Result<(), NonNull<Segment>> {
        // SAFETY: the caller's alone. Segments in a pool are about the same size.
        if !self.has_room(unsafe { segment.as_ref() }.bytes()) {
            return Err(segment);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut top = self.top.load(Ordering::Relaxed);
        // Progress: a failed CAS means that another thread put or took one.
        loop {
            // SAFETY: ours alone until the CAS. Relaxed: published by the CAS.
            unsafe { segment.as_ref().tally.pooled_next.store(top, Ordering::Relaxed) };
            // Release: the taker sees the segment as we leave it. Relaxed: only retried.
            match self
                .top
                .compare_exchange_weak(top, segment.as_ptr(), Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(newer) => top = newer,
            }
        }
    }

    /// Takes a segment out; it is the caller's alone.
    pub fn take(&self, _pin: &Pin<'_>) -> Option<NonNull<Segment>> {
        // Acquire: see the segment as it was put; pairs with the Release in `put`.
        let mut top = self.top.load(Ordering::Acquire);
        // Progress: a failed CAS means that another thread put or took one.
        loop {
            let segment = NonNull::new(top)?;
            // SAFETY: it was on the stack while we were pinned in its partition's domain; taken and retired since, it still is not freed. Only
            // `tally` is looked at: a faster taker may be rewriting the header.
            let tally = unsafe { &(*segment.as_ptr()).tally };
            // Relaxed: written before the Release that we acquired.
            let next = tally.pooled_next.load(Ordering::Relaxed);
            // Relaxed: `top` was acquired by the load, and cannot have been put once more while we are pinned. What lies below
            // stays published to later takers, for `put`'s releases survive RMWs. Acquire: the failure's new top.
            match self
                .top
                .compare_exchange_weak(top, next, Ordering::Relaxed, Ordering::Acquire)
            {
                Ok(_) => {
                    self.count.fetch_sub(1, Ordering::Relaxed);
                    return Some(segment);
                }
                Err(newer) => top = newer,
            }
        }
    }

    /// Everything in it, for the owner who drops it.
    pub fn drain(&mut self) -> Vec<NonNull<Segment>> {
        let mut all = Vec::new();
        // Relaxed, both: `&mut self`, nobody else is here.
        let mut top = self.top.swap(std::ptr::null_mut(), Ordering::Relaxed);
        while let Some(segment) = NonNull::new(top) {
            all.push(segment);
            // SAFETY: the pool's own.
            top = unsafe { segment.as_ref().tally.pooled_next.load(Ordering::Relaxed) };
        }
        all
    }
}
