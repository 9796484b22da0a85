//! Deliberately wrong FIFO targets: each has one fault, and each must be convicted of it – by a whole pass, not by the checker alone.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use epoq_bench::{
    check::Wrong,
    fifo::{
        FifoCalls, FifoSession, FifoSetup, FifoTarget, Parcel,
        pass::{FifoPass, FifoPlan, pass},
    },
    target::{Calls, Counts, Delivery, Done, Handles, Inspect, Refusal},
    targets::{EpoqFifo, LockedFifo},
};

/// What a target may do wrong. Each happens once, on the [`UNLUCKY`] occasion, except where it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Of two messages of a group that wait the second is delivered.
    Overtakes,
    /// A group from which something is in flight is delivered from, always.
    IgnoresFlight,
    /// A message that was sent before is accepted again.
    ForgetsId,
    /// A message that was never sent before is taken for one that was.
    MistakesId,
    /// A received message stays in its group as well.
    DeliversTwice,
}

const FAULTS: [Fault; 6] = [
    Fault::None,
    Fault::Overtakes,
    Fault::IgnoresFlight,
    Fault::ForgetsId,
    Fault::MistakesId,
    Fault::DeliversTwice,
];

const UNLUCKY: u64 = 100;

/// A FIFO queue as simple as can be, and a fault chosen at compile time so that it can be built like any target.
struct Faulty<const FAULT: usize> {
    state: Mutex<State>,
    occasions: AtomicU64,
}

#[derive(Default)]
struct State {
    groups: HashMap<String, VecDeque<Message>>,
    order: VecDeque<String>,
    in_flight: HashMap<String, usize>,
    leases: HashMap<usize, String>,
    ids: HashSet<String>,
    receipts: usize,
}

#[derive(Clone)]
struct Message {
    body: Vec<u8>,
    receives: u32,
}

impl Delivery for Message {
    fn body(&self) -> &[u8] {
        &self.body
    }
    fn receives(&self) -> u32 {
        self.receives
    }
}

struct FaultySession<'t, const FAULT: usize>(&'t Faulty<FAULT>);

impl<const FAULT: usize> Faulty<FAULT> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Whether this is the occasion that the fault happens on.
    fn strikes(&self, fault: Fault) -> bool {
        FAULTS[FAULT] == fault && self.occasions.fetch_add(1, Relaxed) == UNLUCKY
    }

    fn receive(&self, max: usize, show: &mut dyn FnMut(&Message) -> bool) -> Vec<usize> {
        let mut state = self.lock();
        let state = &mut *state;
        let mut receipts = Vec::new();
        let mut looked_at = state.order.len();
        let mut received = 0;
        let blocked_before: HashSet<String> = state.in_flight.keys().cloned().collect();
        while received < max && looked_at > 0 {
            let Some(name) = state.order.pop_front() else {
                break;
            };
            looked_at -= 1;
            if blocked_before.contains(&name) && FAULTS[FAULT] != Fault::IgnoresFlight {
                state.order.push_back(name);
                continue;
            }
            let group = state.groups.get_mut(&name).unwrap();
            while received < max && !group.is_empty() {
                let second = usize::from(group.len() > 1 && self.strikes(Fault::Overtakes));
                let mut message = group.remove(second).unwrap();
                message.receives += 1;
                if self.strikes(Fault::DeliversTwice) {
                    group.push_back(message.clone());
                }
                received += 1;
                state.receipts += 1;
                state.leases.insert(state.receipts, name.clone());
                *state.in_flight.entry(name.clone()).or_default() += 1;
                if show(&message) {
                    receipts.push(state.receipts);
                }
            }
            if !group.is_empty() {
                state.order.push_back(name);
            }
        }
        receipts
    }
}

impl<const FAULT: usize> FifoTarget for Faulty<FAULT> {
    const NAME: &'static str = "faulty";
    type Session<'t> = FaultySession<'t, FAULT>;

    fn build(_: &FifoSetup) -> anyhow::Result<Self> {
        Ok(Self {
            state: Mutex::default(),
            occasions: AtomicU64::new(0),
        })
    }

    fn session(&self, _: usize) -> anyhow::Result<FaultySession<'_, FAULT>> {
        Ok(FaultySession(self))
    }

    fn counts(&self) -> Counts {
        let state = self.lock();
        Counts {
            visible: state.groups.values().map(|group| group.len() as u64).sum(),
            in_flight: state.leases.len() as u64,
        }
    }

    fn ids(&self) -> u64 {
        self.lock().ids.len() as u64
    }
}

impl<const FAULT: usize> Calls for FaultySession<'_, FAULT> {
    type Handle = usize;

    fn send(&mut self, _: &[u8]) -> Result<(), Refusal> {
        Err(Refusal("a message needs a group"))
    }

    fn send_batch(&mut self, _: &[Vec<u8>]) -> Done {
        Done(0)
    }

    fn receive<I: Inspect>(
        &mut self,
        max: usize,
        _: Duration,
        handles: &mut Handles<usize>,
        inspector: &mut I,
    ) -> Result<usize, Refusal> {
        let mut received = 0;
        let receipts = self.0.receive(max, &mut |message| {
            received += 1;
            inspector.inspect(message)
        });
        handles.extend(receipts);
        Ok(received)
    }

    fn delete(&mut self, handle: usize) -> bool {
        let mut state = self.0.lock();
        let Some(name) = state.leases.remove(&handle) else {
            return false;
        };
        let in_flight = state.in_flight.get_mut(&name).unwrap();
        *in_flight -= 1;
        if *in_flight == 0 {
            state.in_flight.remove(&name);
        }
        true
    }

    fn delete_batch(&mut self, handles: &mut Handles<usize>) -> Done {
        let taken = handles.take();
        taken.into_iter().map(|handle| self.delete(handle)).collect()
    }
}

impl<const FAULT: usize> FifoCalls for FaultySession<'_, FAULT> {
    fn send_to(&mut self, parcel: &Parcel<'_>) -> Result<(), Refusal> {
        let mut state = self.0.lock();
        let is_new = state.ids.insert(parcel.id.to_owned());
        let is_accepted = if is_new {
            !self.0.strikes(Fault::MistakesId)
        } else {
            self.0.strikes(Fault::ForgetsId)
        };
        if is_accepted {
            let group = state.groups.entry(parcel.group.to_owned()).or_default();
            let was_empty = group.is_empty();
            group.push_back(Message {
                body: parcel.body.to_vec(),
                receives: 0,
            });
            if was_empty {
                state.order.push_back(parcel.group.to_owned());
            }
        }
        Ok(())
    }

    fn send_batch_to(&mut self, parcels: &[Parcel<'_>]) -> Done {
        for parcel in parcels {
            self.send_to(parcel).unwrap();
        }
        Done::all(parcels.len())
    }
}

impl<const FAULT: usize> FifoSession for FaultySession<'_, FAULT> {
    type Turn<'s>
        = &'s mut Self
    where
        Self: 's;

    fn turn_to(&mut self) -> &mut Self {
        self
    }
}

const fn number(fault: Fault) -> usize {
    fault as usize
}

fn plan(groups: usize, threads: usize, batch: usize) -> FifoPlan {
    FifoPlan {
        groups,
        threads,
        batch,
        turn: None,
        depth: 3,
        duplicates: 0,
        back: 1000,
        duration: Duration::from_millis(50),
        warm_up: Duration::from_millis(5),
        messages_max: 1_000_000,
        seed: 7,
    }
}

fn acquitted(pass: &FifoPass, plan: &FifoPlan) {
    let lines = pass.settlement.findings.lines();
    assert!(pass.verified(), "{} in {plan:?}: {lines:?}", pass.target);
    assert!(pass.messages > 0 && pass.sends >= pass.messages / 2, "{pass:?}");
    assert_eq!(pass.settlement.sent, pass.settlement.deleted);
    assert_eq!(pass.again > 0, plan.duplicates > 0);
}

fn convicted<const FAULT: usize>(plan: &FifoPlan, wrong: Wrong) {
    let mut lines = Vec::new();
    // On a busy machine one thread may have had all the time of a pass.
    for _ in 0..40 {
        let pass = pass::<Faulty<FAULT>>(plan).unwrap();
        if pass.settlement.findings.count(wrong) > 0 {
            return;
        }
        lines = pass.settlement.findings.lines();
    }
    panic!("{:?} in {plan:?}: not {wrong}: {lines:?}", FAULTS[FAULT]);
}

#[test]
fn the_faultless_ones_are_acquitted() {
    for (groups, threads, batch) in [
        (1, 1, 10),
        (1, 2, 1),
        (1, 2, 10),
        (7, 2, 10),
        (1000, 3, 1),
        (1000, 2, 10),
    ] {
        for duplicates in [0, 50] {
            let plan = FifoPlan {
                duplicates,
                ..plan(groups, threads, batch)
            };
            acquitted(&pass::<Faulty<{ number(Fault::None) }>>(&plan).unwrap(), &plan);
            acquitted(&pass::<LockedFifo>(&plan).unwrap(), &plan);
            acquitted(&pass::<EpoqFifo>(&plan).unwrap(), &plan);
        }
    }
    let in_turns = FifoPlan {
        turn: Some(8),
        ..plan(100, 2, 10)
    };
    acquitted(&pass::<EpoqFifo>(&in_turns).unwrap(), &in_turns);
}

#[test]
fn the_measuring_ends_when_there_is_no_room_for_more_ids() {
    let few = FifoPlan {
        messages_max: 20_000,
        duration: Duration::from_secs(100),
        warm_up: Duration::ZERO,
        ..plan(100, 2, 10)
    };
    let pass = pass::<LockedFifo>(&few).unwrap();
    assert!(pass.is_cut_short && pass.verified(), "{pass:?}");
}

#[test]
fn a_message_that_overtakes_another() {
    for (groups, threads, batch) in [(1, 1, 10), (1, 2, 10), (100, 2, 1), (100, 1, 10)] {
        convicted::<{ number(Fault::Overtakes) }>(&plan(groups, threads, batch), Wrong::OutOfOrder);
    }
}

#[test]
fn a_group_in_two_hands() {
    for (groups, batch) in [(1, 1), (1, 10), (2, 10)] {
        let long = FifoPlan {
            duration: Duration::from_millis(300),
            ..plan(groups, 2, batch)
        };
        convicted::<{ number(Fault::IgnoresFlight) }>(&long, Wrong::GroupInFlight);
    }
}

#[test]
fn a_message_delivered_twice() {
    for threads in [1, 2] {
        convicted::<{ number(Fault::DeliversTwice) }>(&plan(100, threads, 10), Wrong::DoubleLease);
    }
}

#[test]
fn an_id_that_is_forgotten_or_mistaken() {
    for (groups, threads, batch) in [(1, 1, 1), (100, 2, 10)] {
        let again = FifoPlan {
            duplicates: 50,
            ..plan(groups, threads, batch)
        };
        convicted::<{ number(Fault::ForgetsId) }>(&again, Wrong::AcceptedTwice);
        convicted::<{ number(Fault::MistakesId) }>(&again, Wrong::Lost);
    }
}
