//! One thread's notes.

use crate::event::{Action, Event, Lease, Outcome, Received, Sent};

/// What one thread writes down: a vector of its own, appended to. No lock, nothing shared; the clock is the caller's.
///
/// Read the clock right before the call and right after it, and record afterwards, so that recording is in no interval.
/// Readings that are equal say that two things may have happened in either order: a clock that stands still sees no order.
#[derive(Debug)]
pub struct Recorder {
    pub(crate) worker: u16,
    pub(crate) calls: u32,
    pub(crate) events: Vec<Event>,
}

impl Recorder {
    /// Notes of the worker of this number, which no other one of the history has, with room for so many events. Beyond that the
    /// vector grows, which costs more.
    #[must_use]
    pub fn new(worker: u16, capacity: usize) -> Self {
        let mut events = Vec::with_capacity(capacity);
        // Touched now, so that the first use of a page does not fall into a measurement.
        events.resize(
            capacity,
            Event {
                invoke: 0,
                back: 0,
                action: Action::LostReceive,
            },
        );
        events.clear();
        Self {
            worker,
            calls: 0,
            events,
        }
    }

    /// A number for the receive call that comes next.
    pub fn call(&mut self) -> u32 {
        self.calls += 1;
        self.calls
    }

    /// A message was sent.
    #[inline]
    pub fn send(&mut self, invoke: u64, back: u64, send: Sent) {
        self.push(invoke, back, Action::Send(send));
    }

    /// A message was received. The lease is how later deletes and changes name it.
    #[inline]
    pub fn receive(&mut self, invoke: u64, back: u64, receive: Received) -> Lease {
        let lease = Lease {
            worker: self.worker,
            at: self.events.len() as u32,
        };
        self.push(invoke, back, Action::Receive(receive));
        lease
    }

    /// A receive gave no answer.
    #[inline]
    pub fn lost_receive(&mut self, invoke: u64, back: u64) {
        self.push(invoke, back, Action::LostReceive);
    }

    /// A message was deleted, or not.
    #[inline]
    pub fn delete(&mut self, invoke: u64, back: u64, lease: Lease, outcome: Outcome) {
        self.push(invoke, back, Action::Delete { lease, outcome });
    }

    /// A lease was changed, or not, to last for `visibility` ticks from now.
    #[inline]
    pub fn change(&mut self, invoke: u64, back: u64, lease: Lease, visibility: u64, outcome: Outcome) {
        let action = Action::Change {
            lease,
            visibility,
            outcome,
        };
        self.push(invoke, back, action);
    }

    /// The queue was purged, or not.
    #[inline]
    pub fn purge(&mut self, invoke: u64, back: u64, outcome: Outcome) {
        self.push(invoke, back, Action::Purge { outcome });
    }

    /// Memory was looked at.
    #[inline]
    pub fn memory(&mut self, invoke: u64, back: u64, used: u64, limit: u64) {
        self.push(invoke, back, Action::Memory { used, limit });
    }

    #[inline]
    fn push(&mut self, invoke: u64, back: u64, action: Action) {
        self.events.push(Event { invoke, back, action });
    }

    /// Events so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}
