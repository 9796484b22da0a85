//! The textbook's FIFO queue: one mutex around groups with a deque each, a deque of the groups that have something to deliver, a list
//! of leases in the order in which they end, and a map of deduplication ids with a deque by which they leave after five minutes.
//!
//! Written as a careful engineer would write it who wants it fast. A receive takes groups from the front of the ready ones and
//! never looks at one that is blocked; messages lie in a slab, so that handles are places and nothing is hashed or searched on
//! receive and delete; a send hashes the id once and the group once, with keys, as the ledger does, since others choose them; time is read
//! from the ledger's own clock; bodies and ids are allocated, and bodies freed, outside the lock; a batch takes the lock once. Groups that
//! have become empty stay for a second, so that a busy group is not made anew for every message. The favour of
//! [`locked`](super::locked) is done here too: a received body is looked at in place, under the lock.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use arrayvec::ArrayVec;

use super::{
    guarded::{Guarded, LeaseQueue},
    slab::{Deadlines, Slab, Ticks, end_ns},
};
use crate::{
    fifo::{FifoCalls, FifoSession, FifoSetup, FifoTarget, Parcel},
    target::{BATCH_MAX, Calls, Counts, Delivery, Done, Handles, Inspect, Refusal},
};

/// How long a deduplication id is remembered: SQS's rule.
const REMEMBERED_NS: u64 = 5 * 60 * 1_000_000_000;
/// How often empty groups are thrown away.
const SWEEP_NS: u64 = 1_000_000_000;

/// The whole queue behind one mutex.
#[derive(Debug)]
pub struct LockedFifo {
    state: Guarded<State>,
    ticks: Ticks,
}

/// The queue, borrowed.
#[derive(Debug)]
pub struct LockedFifoSession<'t>(&'t LockedFifo);

/// A message as it was received: another receive makes another receipt.
#[derive(Clone, Copy, Debug)]
pub struct Receipt {
    slot: u32,
    receives: u32,
    sequence: u64,
}

#[derive(Debug, Default)]
struct State {
    names: HashMap<Box<str>, u32>,
    groups: Slab<Group>,
    /// Groups that have something to deliver and nothing in flight, in the order in which that became so.
    ready: VecDeque<u32>,
    messages: Slab<Message>,
    /// By place in `messages`: those that are in flight.
    deadlines: Deadlines,
    /// The sequence number that the message of that id has got.
    ids: HashMap<Arc<str>, u64>,
    ids_by_time: VecDeque<(u64, Arc<str>)>,
    last_sequence: u64,
    swept_ns: u64,
}

#[derive(Debug, Default)]
struct Group {
    waiting: VecDeque<u32>,
    in_flight: u32,
}

#[derive(Debug)]
struct Message {
    body: Box<[u8]>,
    sequence: u64,
    group: u32,
    receives: u32,
}

/// A message about to be sent, made outside the lock.
struct Draft<'p> {
    body: Box<[u8]>,
    id: Arc<str>,
    group: &'p str,
}

impl<'p> Draft<'p> {
    fn new(parcel: &Parcel<'p>) -> Self {
        Self {
            body: parcel.body.into(),
            id: parcel.id.into(),
            group: parcel.group,
        }
    }
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
    /// Forgets ids that are five minutes old, and groups that are empty.
    fn tidy(&mut self, now_ns: u64) {
        while let Some((entered_ns, id)) = self.ids_by_time.front()
            && entered_ns + REMEMBERED_NS <= now_ns
        {
            self.ids.remove(id);
            self.ids_by_time.pop_front();
        }
        if now_ns.saturating_sub(self.swept_ns) >= SWEEP_NS {
            self.swept_ns = now_ns;
            let groups = &mut self.groups;
            self.names.retain(|_, place| {
                let is_empty = groups
                    .get(*place)
                    .is_none_or(|group| group.waiting.is_empty() && group.in_flight == 0);
                if is_empty {
                    groups.take(*place);
                }
                !is_empty
            });
        }
    }

    /// Answers the message's sequence number; if it was sent before, that of the first time, and the body, to be freed outside the lock.
    fn send(&mut self, draft: Draft<'_>, now_ns: u64) -> (u64, Option<Box<[u8]>>) {
        let sequence = self.last_sequence + 1;
        match self.ids.entry(draft.id) {
            Entry::Occupied(before) => return (*before.get(), Some(draft.body)),
            Entry::Vacant(vacant) => {
                self.ids_by_time.push_back((now_ns, Arc::clone(vacant.key())));
                vacant.insert(sequence);
            }
        }
        self.last_sequence = sequence;
        let place = match self.names.get(draft.group) {
            Some(&place) => place,
            None => {
                let place = self.groups.insert(Group::default());
                self.names.insert(draft.group.into(), place);
                place
            }
        };
        let message = self.messages.insert(Message {
            body: draft.body,
            sequence,
            group: place,
            receives: 0,
        });
        if let Some(group) = self.groups.get(place) {
            if group.waiting.is_empty() && group.in_flight == 0 {
                self.ready.push_back(place);
            }
            group.waiting.push_back(message);
        }
        (sequence, None)
    }
}

impl LeaseQueue for State {
    type Clock = Ticks;
    type Receipt = Receipt;
    type Remains = Message;

    /// To where it was in its group.
    fn expire(&mut self, now_ns: u64) {
        while let Some(place) = self.deadlines.pop_due(now_ns) {
            let Some(message) = self.messages.get(place) else {
                continue;
            };
            let (sequence, group) = (message.sequence, message.group);
            let (messages, Some(group_state)) = (&mut self.messages, self.groups.get(group)) else {
                continue;
            };
            let at = group_state
                .waiting
                .partition_point(|&other| messages.get(other).is_some_and(|other| other.sequence < sequence));
            group_state.waiting.insert(at, place);
            group_state.in_flight -= 1;
            if group_state.in_flight == 0 {
                self.ready.push_back(group);
            }
        }
    }

    #[inline]
    fn receive<I: Inspect>(
        &mut self,
        max: usize,
        now_ns: u64,
        visibility: Duration,
        keep: &mut impl FnMut(Receipt),
        inspector: &mut I,
    ) -> usize {
        let end_ns = end_ns(now_ns, visibility);
        let mut received = 0;
        while received < max
            && let Some(group) = self.ready.pop_front()
        {
            let Some(group) = self.groups.get(group) else {
                continue;
            };
            while received < max
                && let Some(slot) = group.waiting.pop_front()
            {
                let Some(message) = self.messages.get(slot) else {
                    continue;
                };
                message.receives += 1;
                group.in_flight += 1;
                received += 1;
                self.deadlines.insert(slot, end_ns);
                if inspector.inspect(message) {
                    keep(Receipt {
                        slot,
                        receives: message.receives,
                        sequence: message.sequence,
                    });
                }
            }
        }
        received
    }

    fn delete(&mut self, receipt: Receipt) -> Option<Message> {
        let message = self.messages.get(receipt.slot)?;
        if message.sequence != receipt.sequence || message.receives != receipt.receives {
            return None;
        }
        if !self.deadlines.remove(receipt.slot) {
            return None;
        }
        let message = self.messages.take(receipt.slot)?;
        let group = self.groups.get(message.group)?;
        group.in_flight -= 1;
        if group.in_flight == 0 && !group.waiting.is_empty() {
            self.ready.push_back(message.group);
        }
        Some(message)
    }

    fn counts(&self) -> Counts {
        let in_flight = self.deadlines.len() as u64;
        Counts {
            visible: self.messages.len() as u64 - in_flight,
            in_flight,
        }
    }
}

impl FifoTarget for LockedFifo {
    const NAME: &'static str = "locked-fifo";
    type Session<'t> = LockedFifoSession<'t>;

    fn build(_: &FifoSetup) -> anyhow::Result<Self> {
        Ok(Self {
            state: Guarded::default(),
            ticks: Ticks::default(),
        })
    }

    fn session(&self, _: usize) -> anyhow::Result<LockedFifoSession<'_>> {
        Ok(LockedFifoSession(self))
    }

    fn counts(&self) -> Counts {
        self.state.lock().counts()
    }

    fn ids(&self) -> u64 {
        self.state.lock().ids.len() as u64
    }
}

impl Calls for LockedFifoSession<'_> {
    type Handle = Receipt;

    fn send(&mut self, _: &[u8]) -> Result<(), Refusal> {
        Err(Refusal("a message needs a group"))
    }

    fn send_batch(&mut self, _: &[Vec<u8>]) -> Done {
        Done(0)
    }

    fn receive<I: Inspect>(
        &mut self,
        max: usize,
        visibility: Duration,
        handles: &mut Handles<Receipt>,
        inspector: &mut I,
    ) -> Result<usize, Refusal> {
        let LockedFifo { state, ticks } = self.0;
        let mut keep = |receipt| handles.push(receipt);
        Ok(state.receive(ticks, max, visibility, &mut keep, inspector))
    }

    fn delete(&mut self, receipt: Receipt) -> bool {
        self.0.state.delete(receipt)
    }

    fn delete_batch(&mut self, handles: &mut Handles<Receipt>) -> Done {
        let mut state = self.0.state.lock();
        let messages: ArrayVec<_, BATCH_MAX> =
            handles.drain(..).map(|receipt| state.delete(receipt)).collect();
        drop(state);
        messages.iter().map(Option::is_some).collect()
    }
}

impl FifoCalls for LockedFifoSession<'_> {
    fn send_to(&mut self, parcel: &Parcel<'_>) -> Result<(), Refusal> {
        let draft = Draft::new(parcel);
        let mut state = self.0.state.lock();
        let now_ns = self.0.ticks.now_ns();
        state.tidy(now_ns);
        let known = state.send(draft, now_ns);
        drop(state);
        drop(known);
        Ok(())
    }

    fn send_batch_to(&mut self, parcels: &[Parcel<'_>]) -> Done {
        let drafts: ArrayVec<_, BATCH_MAX> = parcels.iter().map(Draft::new).collect();
        let mut known: ArrayVec<_, BATCH_MAX> = ArrayVec::new();
        let mut state = self.0.state.lock();
        let now_ns = self.0.ticks.now_ns();
        state.tidy(now_ns);
        for draft in drafts {
            known.extend(state.send(draft, now_ns).1);
        }
        drop(state);
        Done::all(parcels.len())
    }
}

impl FifoSession for LockedFifoSession<'_> {
    type Turn<'s>
        = &'s mut Self
    where
        Self: 's;

    fn turn_to(&mut self) -> &mut Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    struct Bodies(Vec<String>);

    impl Inspect for Bodies {
        fn inspect<D: Delivery>(&mut self, delivery: &D) -> bool {
            let body = String::from_utf8_lossy(delivery.body()).into_owned();
            self.0.push(format!("{body}{}", delivery.receives()));
            true
        }
    }

    struct Case(State, u64);

    impl Case {
        fn new() -> Self {
            Self(State::default(), 0)
        }

        /// Group, then number: the body is both, and the id too.
        fn send(&mut self, group: &str, number: u32) -> u64 {
            let body = format!("{group}{number}:");
            let parcel = Parcel {
                body: body.as_bytes(),
                group,
                id: &body,
            };
            self.0.tidy(self.1);
            self.0.send(Draft::new(&parcel), self.1).0
        }

        fn receive(&mut self, max: usize) -> (Vec<String>, Handles<Receipt>) {
            let (mut bodies, mut handles) = (Bodies(Vec::new()), Handles::new());
            self.0.expire(self.1);
            let mut keep = |receipt| handles.push(receipt);
            self.0.receive(max, self.1, LEASE, &mut keep, &mut bodies);
            (bodies.0, handles)
        }
    }

    #[test]
    fn groups_in_order_and_blocked_while_in_flight() {
        let mut case = Case::new();
        for number in 1..=3 {
            case.send("a", number);
        }
        case.send("b", 1);
        let (bodies, of_a) = case.receive(2);
        assert_eq!(bodies, ["a1:1", "a2:1"]);
        let (bodies, _) = case.receive(10);
        assert_eq!(bodies, ["b1:1"], "a is in flight");
        assert!(case.0.delete(of_a[1]).is_some() && case.0.delete(of_a[1]).is_none());
        assert!(case.receive(10).0.is_empty());
        assert!(case.0.delete(of_a[0]).is_some());
        assert_eq!(case.receive(10).0, ["a3:1"]);
    }

    #[test]
    fn what_comes_back_is_in_its_place() {
        let mut case = Case::new();
        for number in 1..=3 {
            case.send("a", number);
        }
        let (_, handles) = case.receive(2);
        assert!(case.0.delete(handles[0]).is_some());
        case.1 += LEASE.as_nanos() as u64;
        let (bodies, again) = case.receive(10);
        assert_eq!(bodies, ["a2:2", "a3:1"]);
        assert!(case.0.delete(handles[1]).is_none(), "received again since");
        assert!(again.iter().all(|&receipt| case.0.delete(receipt).is_some()));
        assert_eq!(case.0.messages.len() + case.0.deadlines.len(), 0);
    }

    #[test]
    fn an_id_is_remembered_for_five_minutes_and_an_empty_group_for_a_second() {
        let mut case = Case::new();
        let first = case.send("a", 1);
        assert_eq!(case.send("a", 1), first);
        let (_, handles) = case.receive(10);
        assert_eq!(handles.len(), 1);
        case.0.delete(handles[0]);
        case.1 += REMEMBERED_NS - 1;
        assert_eq!(case.send("a", 1), first);
        assert_eq!((case.0.names.len(), case.0.groups.len()), (0, 0));
        case.1 += 1;
        assert_ne!(case.send("a", 1), first);
        assert_eq!((case.0.ids.len(), case.0.ids_by_time.len()), (1, 1));
    }
}
