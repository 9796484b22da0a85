//! The textbook: one mutex around a deque of what is visible, a map of leases and an ordered map of their deadlines.
//!
//! Written as a careful engineer would write it with these structures: bodies are allocated and freed outside the lock and moved,
//! never copied, inside; a batch takes the lock once; due leases are returned on receive. One favour beyond the textbook: a
//! received body is looked at in place under the lock, where a real consumer would need a copy of it or a counted reference.
//! Both were tried: copies under the lock and `Arc` bodies cost 5 to 30 % of throughput, on one thread and on two.
//!
//! What it does not do: spare itself the hashing and the tree, as [`LockedSlab`](super::LockedSlab) does, stamp what is sent, bound its
//! memory, survive a panic of a holder with its books in order, or go on while a holder is preempted.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::target::{
    BATCH_MAX, Calls, Counts, Delivery, Done, Handles, Inspect, Refusal, Session, Target, TargetConfig,
};

/// The whole queue behind one mutex.
#[derive(Debug)]
pub struct Locked {
    state: Mutex<State>,
}

/// The queue, borrowed.
#[derive(Debug)]
pub struct LockedSession<'t>(&'t Locked);

#[derive(Debug, Default)]
pub(super) struct State {
    visible: VecDeque<Message>,
    leases: HashMap<u64, Lease>,
    /// By deadline, then by receipt, since deadlines may be equal.
    deadlines: BTreeMap<(Instant, u64), ()>,
    next_receipt: u64,
}

#[derive(Debug)]
struct Message {
    body: Box<[u8]>,
    receives: u32,
}

#[derive(Debug)]
struct Lease {
    message: Message,
    deadline: Instant,
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
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(entry) = self.deadlines.first_entry()
            && entry.key().0 <= now
        {
            let (_, receipt) = entry.remove_entry().0;
            if let Some(lease) = self.leases.remove(&receipt) {
                self.visible.push_back(lease.message);
            }
        }
    }

    /// Leases the oldest visible message, shows it, and has its receipt kept if it is to be deleted; false if there is none.
    #[inline]
    pub(super) fn receive<I: Inspect>(
        &mut self,
        now: Instant,
        visibility: Duration,
        keep: &mut impl FnMut(u64),
        inspector: &mut I,
    ) -> bool {
        let Some(mut message) = self.visible.pop_front() else {
            return false;
        };
        message.receives += 1;
        let receipt = self.next_receipt;
        self.next_receipt += 1;
        if inspector.inspect(&message) {
            keep(receipt);
        }
        let deadline = now + visibility;
        self.leases.insert(receipt, Lease { message, deadline });
        self.deadlines.insert((deadline, receipt), ());
        true
    }

    /// Answers the body, so that it can be freed outside the lock.
    pub(super) fn delete(&mut self, receipt: u64) -> Option<Box<[u8]>> {
        let lease = self.leases.remove(&receipt)?;
        self.deadlines.remove(&(lease.deadline, receipt));
        Some(lease.message.body)
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            visible: self.visible.len() as u64,
            in_flight: self.leases.len() as u64,
        }
    }
}

impl Locked {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target for Locked {
    const NAME: &'static str = "locked";
    const LEASES: bool = true;
    type Session<'t> = LockedSession<'t>;

    fn build(_: &TargetConfig) -> anyhow::Result<Self> {
        Ok(Self {
            state: Mutex::default(),
        })
    }

    fn session(&self, _: usize) -> anyhow::Result<LockedSession<'_>> {
        Ok(LockedSession(self))
    }

    fn counts(&self) -> Counts {
        self.lock().counts()
    }
}

impl Calls for LockedSession<'_> {
    type Handle = u64;

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
        handles: &mut Handles<u64>,
        inspector: &mut I,
    ) -> Result<usize, Refusal> {
        let mut state = self.0.lock();
        // Read under the lock: before it, a wait for the lock would shorten the lease.
        let now = Instant::now();
        state.expire(now);
        Ok((0..max)
            .take_while(|_| state.receive(now, visibility, &mut |receipt| handles.push(receipt), inspector))
            .count())
    }

    fn delete(&mut self, receipt: u64) -> bool {
        // The guard goes first, then the body: a temporary of the statement, and a local of the function.
        let body = self.0.lock().delete(receipt);
        body.is_some()
    }

    fn delete_batch(&mut self, handles: &mut Handles<u64>) -> Done {
        let mut bodies: [Option<Box<[u8]>>; BATCH_MAX] = Default::default();
        let mut state = self.0.lock();
        for (body, receipt) in bodies.iter_mut().zip(handles.drain(..)) {
            *body = state.delete(receipt);
        }
        drop(state);
        bodies.iter().map(Option::is_some).collect()
    }
}

impl Session for LockedSession<'_> {
    type Turn<'s>
        = &'s mut Self
    where
        Self: 's;

    fn turn(&mut self) -> &mut Self {
        self
    }
}
