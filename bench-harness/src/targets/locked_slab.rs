//! The textbook made fast: one mutex around a deque of what is visible, a slab of leases and a list of them in the order in which they end.
//!
//! What [`Locked`](super::Locked) becomes if an engineer takes a week for it: a receipt is a place in the slab, so nothing is hashed or
//! searched; all leases of a run are equally long, so the list is in order without being sorted; time is read from the ledger's own clock.
//! All else is as there: bodies are allocated and freed outside the lock and moved, never copied, inside; a batch takes the lock once; due
//! leases are returned on receive; a received body is looked at in place under the lock, which is a favour.
//!
//! What it does not do: stamp what is sent, bound its memory, keep leases of very different lengths cheaply, survive a panic of a holder
//! with its books in order, or go on while a holder is preempted.

use std::{collections::VecDeque, time::Duration};

use super::{
    guarded::{LeaseQueue, StandardQueue},
    one_mutex::OneMutex,
    slab::{Deadlines, Message, Slab, Ticks, end_ns},
};
use crate::target::{Counts, Inspect};

/// The whole queue behind one mutex.
pub type LockedSlab = OneMutex<State>;

/// The queue.
#[derive(Debug, Default)]
pub struct State {
    visible: VecDeque<Message>,
    leases: Slab<Lease>,
    /// By place in `leases`.
    deadlines: Deadlines,
    next_receipt: u64,
}

/// A lease: its place, and a number that no other lease in that place has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    place: u32,
    number: u64,
}

#[derive(Debug)]
struct Lease {
    message: Message,
    receipt: u64,
}

impl State {
    /// Leases the oldest visible message, shows it, and has its receipt kept if it is to be deleted; false if there is none.
    #[inline]
    fn receive_one<I: Inspect>(
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
}

impl LeaseQueue for State {
    type Clock = Ticks;
    type Receipt = Receipt;
    type Remains = Box<[u8]>;

    #[inline(always)]
    fn expire(&mut self, now_ns: u64) {
        while let Some(place) = self.deadlines.pop_due(now_ns) {
            if let Some(lease) = self.leases.take(place) {
                self.visible.push_back(lease.message);
            }
        }
    }

    #[inline(always)]
    fn receive<I: Inspect>(
        &mut self,
        max: usize,
        now_ns: u64,
        visibility: Duration,
        keep: &mut impl FnMut(Receipt),
        inspector: &mut I,
    ) -> usize {
        let end_ns = end_ns(now_ns, visibility);
        (0..max)
            .take_while(|_| self.receive_one(end_ns, keep, inspector))
            .count()
    }

    #[inline(always)]
    fn delete(&mut self, receipt: Receipt) -> Option<Box<[u8]>> {
        let lease = self.leases.get(receipt.place)?;
        if lease.receipt != receipt.number {
            return None;
        }
        self.deadlines.remove(receipt.place);
        Some(self.leases.take(receipt.place)?.message.body)
    }

    fn counts(&self) -> Counts {
        Counts {
            visible: self.visible.len() as u64,
            in_flight: self.leases.len() as u64,
        }
    }
}

impl StandardQueue for State {
    const NAME: &'static str = "locked-slab";

    #[inline(always)]
    fn send(&mut self, body: Box<[u8]>) {
        self.visible.push_back(Message::new(body));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Bodies;

    fn receive(state: &mut State, now_ns: u64, visibility_ns: u64) -> Option<Receipt> {
        state.expire(now_ns);
        let mut kept = None;
        let visibility = Duration::from_nanos(visibility_ns);
        state.receive(
            1,
            now_ns,
            visibility,
            &mut |receipt| kept = Some(receipt),
            &mut Bodies::default(),
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
