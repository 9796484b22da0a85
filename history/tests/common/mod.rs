//! A queue that is right, because it is simple; and all the ways in which it can be wrong.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
    time::Duration,
};

use epoq_history::{Answer, Delivery, ManualTime, Outcome, Outgoing, Queue, RealTime, Time};

/// How a queue can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    LostOnSend,
    LostOnExpiry,
    LostOnRelease,
    DoubleLease,
    ShortLease,
    ShortExtension,
    Resurrected,
    DeletedTwice,
    StaleHandleDeletes,
    StaleHandleChanges,
    GoodHandleRefused,
    GoodHandleGone,
    CountSkips,
    CountStuck,
    DelayIgnored,
    DelayShort,
    BodyAltered,
    BodySwapped,
    IdAltered,
    IdTwice,
    Invented,
    RefusedYetThere,
    PurgeLeaves,
    PurgeTakesLater,
    MemoryOverLimit,
    Overtaking,
    OvertakingInAnswer,
    RedeliveredLate,
    BehindInFlight,
    WrongGroup,
    SequenceTwice,
    SequenceBackwards,
    DuplicateMissed,
    DuplicateMissedByOthers,
    DuplicateDelivered,
    RememberedTooLong,
}

/// The clock of the queue under test.
pub(crate) trait Now: Sync {
    fn now(&self) -> u64;
}

impl Now for ManualTime {
    fn now(&self) -> u64 {
        self.peek()
    }
}

impl Now for RealTime {
    fn now(&self) -> u64 {
        Time::now(self)
    }
}

#[derive(Debug, Clone)]
struct Entry {
    id: u128,
    body: String,
    group: Option<String>,
    sequence: u128,
    /// Delayed, or in flight.
    due: u64,
    in_flight: bool,
    receives: u32,
    /// Number of the lease.
    lease: u64,
    is_there: bool,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    /// Deduplication ids: when, which message, and how many sends.
    known: HashMap<String, (u64, usize)>,
    leases: u64,
    /// Chances for the fault, and how often it has happened.
    chances: u64,
    purged_at: u64,
    refused: Vec<Entry>,
}

/// The queue. One mutex around all of it.
pub(crate) struct Reference<'t, N> {
    time: &'t N,
    state: Mutex<State>,
    fault: Option<Fault>,
    window: u64,
    tells_counts: bool,
    tells_sequences: bool,
    /// Places where the answers to deletes say no more than SQS does.
    tells_deletes: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Handle {
    at: usize,
    lease: u64,
}

/// Nanoseconds for which ids are known in the tests: long enough to meet duplicates, short enough to be over.
pub(crate) const WINDOW: u64 = 40_000_000;

impl<'t, N: Now> Reference<'t, N> {
    pub(crate) fn new(time: &'t N) -> Self {
        Self {
            time,
            state: Mutex::default(),
            fault: None,
            window: WINDOW,
            tells_counts: true,
            tells_sequences: true,
            tells_deletes: true,
        }
    }

    pub(crate) fn with(time: &'t N, fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..Self::new(time)
        }
    }

    /// Counts and sequence numbers are not told.
    pub(crate) fn silent(mut self) -> Self {
        self.tells_counts = false;
        self.tells_sequences = false;
        self
    }

    /// A delete is always done, and has no effect if its handle is too old.
    pub(crate) fn vague(mut self) -> Self {
        self.tells_deletes = false;
        self
    }

    /// Whether the fault happens here: once in so many chances.
    fn errs(&self, state: &mut State, fault: Fault, once_in: u64) -> bool {
        if self.fault != Some(fault) {
            return false;
        }
        state.chances += 1;
        state.chances.is_multiple_of(once_in)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// What is due becomes visible.
    fn expire(&self, state: &mut State) {
        let now = self.time.now();
        for at in 0..state.entries.len() {
            let entry = &mut state.entries[at];
            if entry.is_there && entry.in_flight && entry.due <= now {
                entry.in_flight = false;
                if self.errs(state, Fault::LostOnExpiry, 5) {
                    state.entries[at].is_there = false;
                }
            }
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

impl<N: Now> Queue for Reference<'_, N> {
    type Handle = Handle;

    fn send(&self, message: &Outgoing<'_>) -> Answer {
        let mut guard = self.state();
        let state = &mut *guard;
        let now = self.time.now();
        if let Some(id) = message.deduplication
            && let Some(&(since, at)) = state.known.get(id)
        {
            let is_known = now < since + self.window;
            let is_late = !is_known && self.errs(state, Fault::RememberedTooLong, 3);
            let group_differs = state.entries[at].group.as_deref() != message.group;
            if is_late
                || is_known
                    && !self.errs(state, Fault::DuplicateMissed, 5)
                    && !(group_differs && self.errs(state, Fault::DuplicateMissedByOthers, 1))
            {
                if is_known && self.errs(state, Fault::DuplicateDelivered, 4) {
                    state.entries[at].body = message.body.to_owned();
                }
                return Answer::Accepted(state.entries[at].id);
            }
        }
        let at = state.entries.len();
        let mut delay = nanos(message.delay);
        if self.errs(state, Fault::DelayIgnored, 5) {
            delay = 0;
        }
        if self.errs(state, Fault::DelayShort, 2) {
            delay = delay / 10 * 8;
        }
        let mut id = (at as u128 + 1) << 64 | 0xabcd;
        if at > 0 && self.errs(state, Fault::IdTwice, 20) {
            id = state.entries[at - 1].id;
        }
        let mut sequence = at as u128 + 1;
        if at > 0 && self.errs(state, Fault::SequenceTwice, 10) {
            let group = message.group.map(str::to_owned);
            if let Some(other) = state.entries.iter().rev().find(|entry| entry.group == group) {
                sequence = other.sequence;
            }
        }
        if self.errs(state, Fault::SequenceBackwards, 10) {
            sequence = sequence.saturating_sub(20);
        }
        let entry = Entry {
            id,
            body: message.body.to_owned(),
            group: message.group.map(str::to_owned),
            sequence,
            due: now + delay,
            in_flight: false,
            receives: 0,
            lease: 0,
            is_there: true,
        };
        if let Some(id) = message.deduplication {
            state.known.insert(id.to_owned(), (now, at));
        }
        state.entries.push(entry);
        if self.errs(state, Fault::LostOnSend, 50)
            || state.purged_at > 0
                && now < state.purged_at + 300_000
                && self.errs(state, Fault::PurgeTakesLater, 1)
        {
            state.entries[at].is_there = false;
        }
        if self.errs(state, Fault::RefusedYetThere, 50) {
            return Answer::Refused;
        }
        Answer::Accepted(id)
    }

    fn receive(&self, max: usize, visibility: Duration, into: &mut Vec<Delivery<Handle>>) -> bool {
        let mut guard = self.state();
        let state = &mut *guard;
        self.expire(state);
        let now = self.time.now();
        let mut blocked = HashSet::new();
        let mut order: Vec<usize> = (0..state.entries.len())
            .filter(|&at| state.entries[at].is_there)
            .collect();
        if self.errs(state, Fault::Overtaking, 20) {
            order.reverse();
        }
        let mut taken = HashSet::new();
        for at in order {
            if into.len() == max {
                break;
            }
            let group = state.entries[at].group.clone();
            if group.as_ref().is_some_and(|group| blocked.contains(group)) {
                continue;
            }
            let (mut is_ready, in_flight) = (state.entries[at].due <= now, state.entries[at].in_flight);
            if state.entries[at].receives == 0 && !is_ready && self.errs(state, Fault::DelayIgnored, 1) {
                is_ready = true;
            }
            if in_flight && !taken.contains(&at) && self.errs(state, Fault::DoubleLease, 40) {
                is_ready = true;
            }
            if is_ready && state.entries[at].receives > 0 && self.errs(state, Fault::RedeliveredLate, 4) {
                // It is looked at later, and those behind it now.
                continue;
            }
            if !is_ready {
                if let Some(group) = group
                    && !self.errs(state, Fault::BehindInFlight, 10)
                {
                    blocked.insert(group);
                }
                continue;
            }
            taken.insert(at);
            let skips = self.errs(state, Fault::CountSkips, 30);
            let stuck = state.entries[at].receives > 0 && self.errs(state, Fault::CountStuck, 5);
            let short = self.errs(state, Fault::ShortLease, 5);
            state.leases += 1;
            let lease = state.leases;
            let previous = at.checked_sub(1).map(|at| state.entries[at].body.clone());
            let entry = &mut state.entries[at];
            entry.receives += 1 + u32::from(skips) - u32::from(stuck);
            entry.in_flight = true;
            entry.lease = lease;
            entry.due = now
                + if short {
                    nanos(visibility) / 2
                } else {
                    nanos(visibility)
                };
            let mut delivery = Delivery {
                handle: Handle { at, lease },
                body: entry.body.clone().into_bytes(),
                id: entry.id,
                receives: self.tells_counts.then_some(entry.receives),
                group: entry.group.clone(),
                sequence: self
                    .tells_sequences
                    .then_some(entry.sequence)
                    .filter(|_| group.is_some()),
                lane: 0,
            };
            if self.errs(state, Fault::BodyAltered, 30) {
                delivery.body[3] ^= 1;
            }
            if self.errs(state, Fault::BodySwapped, 30)
                && let Some(previous) = previous
            {
                delivery.body = previous.into_bytes();
            }
            if self.errs(state, Fault::IdAltered, 30) {
                delivery.id ^= 1;
            }
            if self.errs(state, Fault::WrongGroup, 30) {
                delivery.group = Some("group-77".to_owned());
            }
            if self.errs(state, Fault::Invented, 30) {
                delivery.body = epoq_history::body_of(1 << 60, 30).into_bytes();
                delivery.id = 1 << 120;
                delivery.receives = None;
            }
            into.push(delivery);
        }
        if into.len() > 1 && self.errs(state, Fault::OvertakingInAnswer, 5) {
            into.reverse();
        }
        true
    }

    fn delete(&self, handle: &Handle) -> Outcome {
        let mut guard = self.state();
        let state = &mut *guard;
        self.expire(state);
        let entry = state.entries[handle.at].clone();
        let vague = |outcome| {
            if self.tells_deletes {
                outcome
            } else {
                Outcome::Done
            }
        };
        if !entry.is_there {
            if self.errs(state, Fault::DeletedTwice, 3) {
                return Outcome::Done;
            }
            return vague(Outcome::Gone);
        }
        if entry.lease != handle.lease {
            if self.errs(state, Fault::StaleHandleDeletes, 1) {
                state.entries[handle.at].is_there = false;
                return Outcome::Done;
            }
            return vague(Outcome::Superseded);
        }
        if self.errs(state, Fault::GoodHandleRefused, 30) {
            return Outcome::Superseded;
        }
        if self.errs(state, Fault::GoodHandleGone, 30) {
            return Outcome::Gone;
        }
        if !self.errs(state, Fault::Resurrected, 30) {
            state.entries[handle.at].is_there = false;
        }
        Outcome::Done
    }

    fn change_visibility(&self, handle: &Handle, visibility: Duration) -> Outcome {
        let mut guard = self.state();
        let state = &mut *guard;
        self.expire(state);
        let now = self.time.now();
        let entry = state.entries[handle.at].clone();
        if !entry.is_there {
            return Outcome::Gone;
        }
        if entry.lease != handle.lease && !self.errs(state, Fault::StaleHandleChanges, 1) {
            return Outcome::Superseded;
        }
        if !entry.in_flight {
            return Outcome::Expired;
        }
        let short = self.errs(state, Fault::ShortExtension, 1);
        let entry = &mut state.entries[handle.at];
        if visibility.is_zero() {
            entry.in_flight = false;
            entry.due = now;
            if self.errs(state, Fault::LostOnRelease, 5) {
                state.entries[handle.at].is_there = false;
            }
        } else if !short {
            entry.due = now + nanos(visibility);
        }
        Outcome::Done
    }

    fn purge(&self) -> Outcome {
        let mut guard = self.state();
        let state = &mut *guard;
        state.purged_at = self.time.now();
        state.known.clear();
        for at in 0..state.entries.len() {
            if state.entries[at].is_there && !self.errs(state, Fault::PurgeLeaves, 3) {
                state.entries[at].is_there = false;
            }
        }
        Outcome::Done
    }

    fn memory(&self) -> Option<(u64, u64)> {
        let mut guard = self.state();
        let over = self.errs(&mut guard, Fault::MemoryOverLimit, 20);
        Some((if over { 1_001 } else { 1_000 }, 1_000))
    }
}

/// A queue at the other end of a wire that loses requests and answers, and delivers some requests late.
pub(crate) struct Unreliable<Q: Queue> {
    queue: Q,
    state: Mutex<(u64, Vec<Late<Q::Handle>>)>,
}

enum Late<H> {
    Send(String, Option<String>, Option<String>),
    Delete(H),
    Change(H, Duration),
}

impl<Q: Queue> Unreliable<Q> {
    pub(crate) fn new(queue: Q, seed: u64) -> Self {
        Self {
            queue,
            state: Mutex::new((seed, Vec::new())),
        }
    }

    /// 0 to 19.
    fn dice(&self) -> u64 {
        let mut state = self.state.lock().expect("no panic");
        state.0 = state
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state.0 >> 33) % 20
    }

    fn later(&self, late: Late<Q::Handle>) {
        self.state.lock().expect("no panic").1.push(late);
    }

    /// Something that is late arrives.
    fn arrive(&self) {
        if self.dice() > 4 {
            return;
        }
        let late = self.state.lock().expect("no panic").1.pop();
        match late {
            Some(Late::Send(body, group, id)) => {
                let delay = Duration::ZERO;
                self.queue.send(&Outgoing {
                    body: &body,
                    delay,
                    group: group.as_deref(),
                    deduplication: id.as_deref(),
                });
            }
            Some(Late::Delete(handle)) => {
                self.queue.delete(&handle);
            }
            Some(Late::Change(handle, visibility)) => {
                self.queue.change_visibility(&handle, visibility);
            }
            None => {}
        }
    }
}

impl<Q: Queue> Queue for Unreliable<Q> {
    type Handle = Q::Handle;

    fn send(&self, message: &Outgoing<'_>) -> Answer {
        self.arrive();
        match self.dice() {
            0 => Answer::Refused,
            1 => Answer::Unknown,
            2 => {
                self.queue.send(message);
                Answer::Unknown
            }
            3 if message.delay.is_zero() => {
                let own = |text: &str| text.to_owned();
                self.later(Late::Send(
                    own(message.body),
                    message.group.map(own),
                    message.deduplication.map(own),
                ));
                Answer::Unknown
            }
            _ => self.queue.send(message),
        }
    }

    fn receive(&self, max: usize, visibility: Duration, into: &mut Vec<Delivery<Q::Handle>>) -> bool {
        self.arrive();
        match self.dice() {
            0 => false,
            1 => {
                self.queue.receive(max, visibility, into);
                into.clear();
                false
            }
            _ => self.queue.receive(max, visibility, into),
        }
    }

    fn delete(&self, handle: &Q::Handle) -> Outcome {
        self.arrive();
        match self.dice() {
            0 => Outcome::Unknown,
            1 => {
                self.queue.delete(handle);
                Outcome::Unknown
            }
            2 => {
                self.later(Late::Delete(handle.clone()));
                Outcome::Unknown
            }
            3 => Outcome::Refused,
            _ => self.queue.delete(handle),
        }
    }

    fn change_visibility(&self, handle: &Q::Handle, visibility: Duration) -> Outcome {
        self.arrive();
        match self.dice() {
            0 => Outcome::Unknown,
            1 => {
                self.queue.change_visibility(handle, visibility);
                Outcome::Unknown
            }
            2 => {
                self.later(Late::Change(handle.clone(), visibility));
                Outcome::Unknown
            }
            _ => self.queue.change_visibility(handle, visibility),
        }
    }

    fn purge(&self) -> Outcome {
        self.queue.purge()
    }
}
