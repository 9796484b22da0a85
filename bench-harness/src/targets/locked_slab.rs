//! The textbook made fast: one mutex around a deque of what is visible, a slab of leases and a list of them in the order in which they end.
//!
//! What [`Locked`](super::Locked) becomes if an engineer takes a week for it: a receipt is a place in the slab, so nothing is hashed or
//! searched; all leases of a run are equally long, so the list is in order without being sorted; time is read from the ledger's own clock.
//! All else is as there: bodies are allocated and freed outside the lock and moved, never copied, inside; a batch takes the lock once; due
//! leases are returned on receive; a received body is looked at in place under the lock, which is a favour.
//!
//! What it does not do: stamp what is sent, bound its memory, keep leases of very different lengths cheaply, survive a panic of a holder
//! with its books in order, or go on while a holder is preempted.

use std::{
    collections::VecDeque,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::slab::{Deadlines, Slab, Ticks, end_ns};
use crate::target::{
    BATCH_MAX, Calls, Counts, Delivery, Done, Handles, Inspect, Refusal, Session, Target, TargetConfig,
};

/// The whole queue behind one mutex.
#[derive(Debug)]
pub struct LockedSlab {
    state: Mutex<State>,
    ticks: Ticks,
}

/// The queue, borrowed.
#[derive(Debug)]
pub struct LockedSlabSession<'t>(&'t LockedSlab);

#[derive(Debug, Default)]
pub(super) struct State {
    visible: VecDeque<Message>,
    leases: Slab<Lease>,
    /// By place in `leases`.
    deadlines: Deadlines,
    next_receipt: u64,
}

/// A lease: its place, and a number that no other lease in that place has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    pub(super) place: u32,
    pub(super) number: u64,
}

#[derive(Debug)]
struct Message {
    body: Box<[u8]>,
    receives: u32,
}

#[derive(Debug)]
struct Lease {
    message: Message,
    receipt: u64,
}

impl Delivery for Message {
    #[inline(always)]
    fn body(&self) -> &[u8] {
        &self.body
    }

    #[inline(always)]
    fn receives(&self) -> u32 {
        self.receives
    }
}

impl State {
    pub(super) fn send(&mut self, body: Box<[u8]>) {
        self.visible.push_back(Message { body, receives: 0 });
    }

    /// Puts back what was received and not deleted in time.
    pub(super) fn expire(&mut self, now_ns: u64) {
        while let Some(place) = self.deadlines.pop_due(now_ns) {
            if let Some(lease) = self.leases.take(place) {
                self.visible.push_back(lease.message);
            }
        }
    }

    /// Leases the oldest visible message, shows it, and has its receipt kept if it is to be deleted; false if there is none.
    #[inline]
    pub(super) fn receive<I: Inspect>(
        &mut self,
        end_ns: u64,
        keep: &mut impl FnMut(Receipt),
        inspector: &mut I,
    ) -> bool {
        let Some(mut message) = self.visible.pop_front() else {
            return false;
        };
        message.receives += 1;
        let number = self.next_receipt;
        self.next_receipt += 1;
        let is_to_be_deleted = inspector.inspect(&message);
        let place = self.leases.insert(Lease {
            message,
            receipt: number,
        });
        self.deadlines.insert(place, end_ns);
        if is_to_be_deleted {
            keep(Receipt { place, number });
        }
        true
    }

    /// Answers the body, so that it can be freed outside the lock.
    #[inline]
    pub(super) fn delete(&mut self, receipt: Receipt) -> Option<Box<[u8]>> {
        let lease = self.leases.get(receipt.place)?;
        if lease.receipt != receipt.number {
            return None;
        }
        self.deadlines.remove(receipt.place);
        Some(self.leases.take(receipt.place)?.message.body)
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            visible: self.visible.len() as u64,
            in_flight: self.leases.len() as u64,
        }
    }
}

impl LockedSlab {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target for LockedSlab {
    const NAME: &'static str = "locked-slab";
    const LEASES: bool = true;
    type Session<'t> = LockedSlabSession<'t>;

    fn build(_: &TargetConfig) -> anyhow::Result<Self> {
        Ok(Self {
            state: Mutex::default(),
            ticks: Ticks::default(),
        })
    }

    fn session(&self, _: usize) -> anyhow::Result<LockedSlabSession<'_>> {
        Ok(LockedSlabSession(self))
    }

    fn counts(&self) -> Counts {
        self.lock().counts()
    }
}

impl Calls for LockedSlabSession<'_> {
    type Handle = Receipt;

    fn send(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let body = body.into();
        self.0.lock().send(body);
        Ok(())
    }

    fn send_batch(&mut self, bodies: &[Vec<u8>]) -> Done {
        let mut boxed: [Box<[u8]>; BATCH_MAX] = Default::default();
        for (place, body) in boxed.iter_mut().zip(bodies) {
            *place = body.as_slice().into();
        }
        let mut state = self.0.lock();
        for body in &mut boxed[..bodies.len()] {
            state.send(mem::take(body));
        }
        Done::all(bodies.len())
    }

    fn receive<I: Inspect>(
        &mut self,
        max: usize,
        visibility: Duration,
        handles: &mut Handles<Receipt>,
        inspector: &mut I,
    ) -> Result<usize, Refusal> {
        let mut state = self.0.lock();
        // Read under the lock: before it, a wait for the lock would shorten the lease.
        let now_ns = self.0.ticks.now_ns();
        state.expire(now_ns);
        let end_ns = end_ns(now_ns, visibility);
        Ok((0..max)
            .take_while(|_| state.receive(end_ns, &mut |receipt| handles.push(receipt), inspector))
            .count())
    }

    fn delete(&mut self, receipt: Receipt) -> bool {
        // The guard goes first, then the body: a temporary of the statement, and a local of the function.
        let body = self.0.lock().delete(receipt);
        body.is_some()
    }

    fn delete_batch(&mut self, handles: &mut Handles<Receipt>) -> Done {
        let mut bodies: [Option<Box<[u8]>>; BATCH_MAX] = Default::default();
        let mut state = self.0.lock();
        for (body, receipt) in bodies.iter_mut().zip(handles.drain(..)) {
            *body = state.delete(receipt);
        }
        drop(state);
        bodies.iter().map(Option::is_some).collect()
    }
}

impl Session for LockedSlabSession<'_> {
    type Turn<'s>
        = &'s mut Self
    where
        Self: 's;

    fn turn(&mut self) -> &mut Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct All;

    impl Inspect for All {
        fn inspect<D: Delivery>(&mut self, _: &D) -> bool {
            true
        }
    }

    fn receive(state: &mut State, now_ns: u64, visibility_ns: u64) -> Option<Receipt> {
        state.expire(now_ns);
        let mut kept = None;
        state.receive(
            now_ns + visibility_ns,
            &mut |receipt| kept = Some(receipt),
            &mut All,
        );
        kept
    }

    #[test]
    fn a_lease_ends_and_its_receipt_with_it() {
        let mut state = State::default();
        state.send((*b"one").into());
        let first = receive(&mut state, 0, 100).unwrap();
        assert_eq!(receive(&mut state, 99, 100), None);
        assert_eq!(
            state.counts(),
            Counts {
                visible: 0,
                in_flight: 1
            }
        );
        let second = receive(&mut state, 100, 100).unwrap();
        assert_eq!(
            first.place, second.place,
            "nothing is hashed: a receipt is a place"
        );
        assert!(state.delete(first).is_none(), "received again since");
        assert_eq!(state.delete(second).as_deref(), Some(&b"one"[..]));
        assert!(state.delete(second).is_none());
        assert_eq!(state.counts(), Counts::default());
    }

    #[test]
    fn what_is_deleted_leaves_nothing_behind() {
        let mut state = State::default();
        for _ in 0..1000 {
            state.send((*b"one").into());
            let receipt = receive(&mut state, 0, u64::MAX / 2).unwrap();
            assert_eq!(receipt.place, 0);
            assert!(state.delete(receipt).is_some());
        }
        assert_eq!((state.leases.len(), state.deadlines.len()), (0, 0));
    }
}
