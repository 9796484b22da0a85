//! Deliberately wrong targets: each has one fault, and each must be convicted of it – by a whole run, not by the checker alone.

use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use epoq_bench::{
    check::Wrong,
    plan::{Plan, Wishes},
    progress::Quiet,
    run::{Pass, pass},
    scenario::Scenario,
    target::{Calls, Counts, Delivery, Done, Handles, Inspect, Refusal, Session, Target, TargetConfig},
};

/// What a target may do wrong. Each happens once, to the [`UNLUCKY`] call, except where it says otherwise.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// A message is taken and thrown away.
    LosesOne,
    /// A received message stays visible as well.
    DeliversTwice,
    /// The last byte changes under way.
    CorruptsTag,
    /// A byte in the middle of every message changes under way.
    CorruptsPatterns,
    /// A body is cut short.
    CutsShort,
    /// A deleted message becomes visible again.
    ResurrectsOne,
    /// A delete says that it did, and does nothing.
    ForgetsDelete,
    /// A delete under a live lease is refused.
    RefusesDelete,
    /// More messages are answered than shown.
    Miscounts,
    /// Leases end early, always.
    ExpiresEarly,
    /// What was not deleted never comes back.
    NeverExpires,
    /// Says that the send was refused, and keeps the message.
    RefusesButKeeps,
}

const UNLUCKY: u64 = 200;

/// A plain queue with leases, and a fault chosen at compile time so that it can be built like any target.
struct Faulty<const FAULT: usize> {
    state: Mutex<State>,
    calls: AtomicU64,
}

const FAULTS: [Fault; 13] = [
    Fault::None,
    Fault::LosesOne,
    Fault::DeliversTwice,
    Fault::CorruptsTag,
    Fault::CorruptsPatterns,
    Fault::CutsShort,
    Fault::ResurrectsOne,
    Fault::ForgetsDelete,
    Fault::RefusesDelete,
    Fault::Miscounts,
    Fault::ExpiresEarly,
    Fault::NeverExpires,
    Fault::RefusesButKeeps,
];

#[derive(Default)]
struct State {
    visible: std::collections::VecDeque<Message>,
    leases: Vec<Option<(Message, Instant)>>,
    /// No lease before this one is live.
    first_lease: usize,
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

    /// Whether this is the call that the fault happens in.
    fn strikes(&self, fault: Fault) -> bool {
        FAULTS[FAULT] == fault && self.calls.fetch_add(1, Relaxed) == UNLUCKY
    }
}

impl<const FAULT: usize> Target for Faulty<FAULT> {
    const NAME: &'static str = "faulty";
    const LEASES: bool = true;
    type Session<'t> = FaultySession<'t, FAULT>;

    fn build(_: &TargetConfig) -> anyhow::Result<Self> {
        Ok(Self {
            state: Mutex::default(),
            calls: AtomicU64::new(0),
        })
    }

    fn session(&self, _: usize) -> anyhow::Result<FaultySession<'_, FAULT>> {
        Ok(FaultySession(self))
    }

    fn counts(&self) -> Counts {
        let state = self.lock();
        let in_flight = state.leases.iter().flatten().count() as u64;
        Counts {
            visible: state.visible.len() as u64,
            in_flight,
        }
    }
}

impl<const FAULT: usize> FaultySession<'_, FAULT> {
    fn receive_one(&self, visibility: Duration) -> Option<(Message, usize)> {
        let fault = FAULTS[FAULT];
        let mut state = self.0.lock();
        let now = Instant::now();
        while let Some(None) = state.leases.get(state.first_lease) {
            state.first_lease += 1;
        }
        let (first, early) = (
            state.first_lease,
            if fault == Fault::ExpiresEarly {
                visibility / 2
            } else {
                Duration::ZERO
            },
        );
        // All leases are equally long here, so the first live one ends first.
        if let Some(Some((_, until))) = state.leases.get(first)
            && *until - early <= now
            && fault != Fault::NeverExpires
            && let Some((message, _)) = state.leases[first].take()
        {
            state.visible.push_back(message);
        }
        let mut message = state.visible.pop_front()?;
        message.receives += 1;
        if self.0.strikes(Fault::DeliversTwice) {
            state.visible.push_back(message.clone());
        }
        let receipt = state.leases.len();
        state.leases.push(Some((message.clone(), now + visibility)));
        drop(state);
        if self.0.strikes(Fault::CorruptsTag) {
            *message.body.last_mut().unwrap() ^= 1;
        }
        if fault == Fault::CorruptsPatterns {
            message.body[20] ^= 1;
        }
        if self.0.strikes(Fault::CutsShort) {
            message.body.pop();
        }
        Some((message, receipt))
    }
}

impl<const FAULT: usize> Calls for FaultySession<'_, FAULT> {
    type Handle = usize;

    fn send(&mut self, body: &[u8]) -> Result<(), Refusal> {
        if !self.0.strikes(Fault::LosesOne) {
            self.0.lock().visible.push_back(Message {
                body: body.to_vec(),
                receives: 0,
            });
        }
        if self.0.strikes(Fault::RefusesButKeeps) {
            Err(Refusal("no"))
        } else {
            Ok(())
        }
    }

    fn send_batch(&mut self, bodies: &[Vec<u8>]) -> Done {
        bodies.iter().map(|body| self.send(body).is_ok()).collect()
    }

    fn receive<I: Inspect>(
        &mut self,
        max: usize,
        visibility: Duration,
        handles: &mut Handles<usize>,
        inspector: &mut I,
    ) -> Result<usize, Refusal> {
        let mut received = 0;
        while received < max
            && let Some((message, receipt)) = self.receive_one(visibility)
        {
            received += 1;
            if inspector.inspect(&message) {
                handles.push(receipt);
            }
        }
        Ok(received + usize::from(self.0.strikes(Fault::Miscounts)))
    }

    fn delete(&mut self, handle: usize) -> bool {
        if self.0.strikes(Fault::RefusesDelete) {
            return false;
        }
        if self.0.strikes(Fault::ForgetsDelete) {
            return true;
        }
        let mut state = self.0.lock();
        let Some((message, _)) = state.leases[handle].take() else {
            return false;
        };
        if self.0.strikes(Fault::ResurrectsOne) {
            state.visible.push_back(message);
        }
        true
    }

    fn delete_batch(&mut self, handles: &mut Handles<usize>) -> Done {
        let taken = handles.take();
        taken.into_iter().map(|handle| self.delete(handle)).collect()
    }
}

impl<const FAULT: usize> Session for FaultySession<'_, FAULT> {
    type Turn<'s>
        = &'s mut Self
    where
        Self: 's;

    fn turn(&mut self) -> &mut Self {
        self
    }
}

const fn number(fault: Fault) -> usize {
    fault as usize
}

fn run<const FAULT: usize>(scenario: Scenario, batch: usize) -> Pass {
    let visibility_ms = (scenario == Scenario::Redelivery).then_some(20);
    let wishes = Wishes {
        threads: Some(2),
        batch: Some(batch),
        seconds: Some(0.05),
        visibility_ms,
        ..Wishes::default()
    };
    let plan = Plan::new(scenario, wishes).unwrap();
    pass::<Faulty<FAULT>>(&plan, &Quiet).unwrap()
}

/// Every scenario given convicts the fault of one of the kinds given.
fn convicted<const FAULT: usize>(scenarios: &[Scenario], kinds: &[Wrong]) {
    for &scenario in scenarios {
        for batch in [1, 10] {
            let pass = run::<FAULT>(scenario, batch);
            assert!(!pass.verified(), "{scenario:?}, batch {batch}: acquitted");
            for &kind in kinds {
                let findings = &pass.settlement.findings;
                assert!(
                    findings.count(kind) > 0,
                    "{scenario:?}, batch {batch}: not of {kind}: {:?}",
                    findings.lines()
                );
            }
        }
    }
}

const ALIKE_AND_APART: [Scenario; 2] = [Scenario::Lifecycle, Scenario::Pipeline];

#[test]
fn the_faultless_one_is_acquitted() {
    for scenario in [
        Scenario::Lifecycle,
        Scenario::Pipeline,
        Scenario::Steal,
        Scenario::Redelivery,
    ] {
        for batch in [1, 3, 10] {
            let pass = run::<{ number(Fault::None) }>(scenario, batch);
            assert!(
                pass.verified(),
                "{scenario:?}, batch {batch}: {:?}",
                pass.settlement.findings.lines()
            );
            assert!(pass.messages > 0 && pass.settlement.sent >= pass.messages);
            assert_eq!(pass.settlement.sent, pass.settlement.deleted);
        }
    }
}

#[test]
fn a_lost_message() {
    convicted::<{ number(Fault::LosesOne) }>(&ALIKE_AND_APART, &[Wrong::Lost]);
    convicted::<{ number(Fault::LosesOne) }>(&[Scenario::Redelivery], &[Wrong::Lost]);
}

#[test]
fn a_message_delivered_twice() {
    convicted::<{ number(Fault::DeliversTwice) }>(&ALIKE_AND_APART, &[Wrong::DoubleLease]);
}

#[test]
fn a_corrupted_tag_and_a_short_body() {
    convicted::<{ number(Fault::CorruptsTag) }>(&ALIKE_AND_APART, &[Wrong::Corrupt]);
    convicted::<{ number(Fault::CutsShort) }>(&ALIKE_AND_APART, &[Wrong::Corrupt]);
}

#[test]
fn corrupted_patterns_show_in_the_sample() {
    convicted::<{ number(Fault::CorruptsPatterns) }>(&ALIKE_AND_APART, &[Wrong::Corrupt]);
}

#[test]
fn a_message_that_rises_from_the_dead() {
    convicted::<{ number(Fault::ResurrectsOne) }>(&ALIKE_AND_APART, &[Wrong::DoubleLease]);
    convicted::<{ number(Fault::ResurrectsOne) }>(&[Scenario::Redelivery], &[Wrong::DeletedTwice]);
}

#[test]
fn a_delete_that_does_nothing_or_is_refused() {
    convicted::<{ number(Fault::ForgetsDelete) }>(&ALIKE_AND_APART, &[Wrong::LeftOver]);
    convicted::<{ number(Fault::RefusesDelete) }>(&ALIKE_AND_APART, &[Wrong::DeleteRefused, Wrong::LeftOver]);
}

#[test]
fn an_answer_that_counts_wrong() {
    convicted::<{ number(Fault::Miscounts) }>(&ALIKE_AND_APART, &[Wrong::Miscounted]);
}

#[test]
fn a_lease_that_ends_early() {
    convicted::<{ number(Fault::ExpiresEarly) }>(&[Scenario::Redelivery], &[Wrong::Early]);
}

#[test]
fn a_lease_that_never_ends() {
    convicted::<{ number(Fault::NeverExpires) }>(&[Scenario::Redelivery], &[Wrong::Lost, Wrong::LeftOver]);
}

#[test]
fn a_send_that_is_refused_and_done() {
    convicted::<{ number(Fault::RefusesButKeeps) }>(&ALIKE_AND_APART, &[Wrong::Unknown]);
}
