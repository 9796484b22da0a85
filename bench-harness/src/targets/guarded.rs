//! A queue behind a mutex, and what is done outside of its lock.
//!
//! Bodies are allocated and freed outside the lock and moved, never copied, inside; a batch takes the lock once; due leases are
//! returned on receive; a received body is looked at in place under the lock, which is a favour.

use std::{
    fmt, mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::target::{BATCH_MAX, Counts, Done, Handles, Inspect};

/// What tells a queue the time.
pub trait Clock: fmt::Debug + Default + Send + Sync {
    /// A moment.
    type Time: Copy;

    /// The present one.
    fn now(&self) -> Self::Time;
}

/// A queue with leases, for one thread at a time.
pub trait LeaseQueue: fmt::Debug + Default + Send {
    /// By what its leases end.
    type Clock: Clock;
    /// A message as it was received.
    type Receipt;
    /// What there is to free of a deleted message.
    type Remains;

    /// Puts back what was received and not deleted in time.
    fn expire(&mut self, now: Time<Self>);

    /// Leases up to `max` visible messages, shows each, and has its receipt kept if it is to be deleted; how many there were.
    fn receive<I: Inspect>(
        &mut self,
        max: usize,
        now: Time<Self>,
        visibility: Duration,
        keep: &mut impl FnMut(Self::Receipt),
        inspector: &mut I,
    ) -> usize;

    /// Answers what is left of the message, so that it can be freed outside the lock; none if the receipt no longer holds.
    fn delete(&mut self, receipt: Self::Receipt) -> Option<Self::Remains>;

    /// What it holds.
    fn counts(&self) -> Counts;
}

/// A moment of such a queue's clock.
pub(super) type Time<Q> = <<Q as LeaseQueue>::Clock as Clock>::Time;

/// One that is sent bodies, and no more.
pub trait StandardQueue: LeaseQueue<Remains = Box<[u8]>> {
    /// The name of the target that has it behind one mutex.
    const NAME: &'static str;

    /// Puts a body last.
    fn send(&mut self, body: Box<[u8]>);
}

/// Such a queue behind its mutex.
#[derive(Debug, Default)]
pub(super) struct Guarded<Q>(Mutex<Q>);

impl<Q> Guarded<Q> {
    #[inline(always)]
    pub(super) fn lock(&self) -> MutexGuard<'_, Q> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q: LeaseQueue> Guarded<Q> {
    #[inline(always)]
    pub(super) fn receive<I: Inspect>(
        &self,
        clock: &Q::Clock,
        max: usize,
        visibility: Duration,
        keep: &mut impl FnMut(Q::Receipt),
        inspector: &mut I,
    ) -> usize {
        let mut queue = self.lock();
        // Read under the lock: before it, a wait for the lock would shorten the lease.
        let now = clock.now();
        queue.expire(now);
        queue.receive(max, now, visibility, keep, inspector)
    }

    #[inline(always)]
    pub(super) fn delete(&self, receipt: Q::Receipt) -> bool {
        // The guard goes first, then what is left: a temporary of the statement, and a local of the function.
        let remains = self.lock().delete(receipt);
        remains.is_some()
    }
}

impl<Q: StandardQueue> Guarded<Q> {
    #[inline(always)]
    pub(super) fn send(&self, body: &[u8]) {
        let body = body.into();
        self.lock().send(body);
    }

    pub(super) fn send_batch(&self, bodies: &[Vec<u8>]) -> Done {
        let mut boxed: [Box<[u8]>; BATCH_MAX] = Default::default();
        for (place, body) in boxed.iter_mut().zip(bodies) {
            *place = body.as_slice().into();
        }
        let mut queue = self.lock();
        for body in &mut boxed[..bodies.len()] {
            queue.send(mem::take(body));
        }
        Done::all(bodies.len())
    }

    pub(super) fn delete_batch(&self, receipts: &mut Handles<Q::Receipt>) -> Done {
        let mut bodies: [Option<Box<[u8]>>; BATCH_MAX] = Default::default();
        let mut queue = self.lock();
        for (body, receipt) in bodies.iter_mut().zip(receipts.drain(..)) {
            *body = queue.delete(receipt);
        }
        drop(queue);
        bodies.iter().map(Option::is_some).collect()
    }
}
