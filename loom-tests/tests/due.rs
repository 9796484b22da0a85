//! The due hint: a lease is stored and the hint lowered, while a sweep takes the hint and reads the slots. (H4; I5)
//!
//! Both change the hint by read-modify-writes. If the sweep's comes first, the claimer's lowering stays; if the
//! claimer's comes first, the sweep has acquired its lease.
#![cfg(loom)]

mod stage;

use epoq::{
    clock::Millis,
    ledger::segment::Segment,
    ledger::state::{Phase, Refusal, Transition, Word},
    sync::Ordering,
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Held, LATER, NOW, Stage, assert_received};
use std::ptr::NonNull;

/// How a claimer sets the alarm, and how a sweep goes over a segment; the broken twins replace one each.
#[derive(Clone, Copy)]
struct Steps {
    claim: fn(&Hand, Held),
    sweep: fn(&Hand, Held),
}

const SOUND: Steps = Steps {
    claim: |hand, _| {
        hand.receive().expect("the message");
    },
    sweep: |hand, segment| {
        hand.sweep(segment, NOW);
    },
};

fn hint(hand: &Hand, segment: Held) -> Millis {
    hand.partition
        .index
        .hint(segment.number())
        .expect("a hint")
        .look()
}

fn lower(hand: &Hand, segment: Held, due: Millis) {
    hand.partition
        .index
        .hint(segment.number())
        .expect("a hint")
        .lower(due);
}

/// The lease that is running is found when it is over.
fn assert_found_when_due(stage: &Stage, segment: Held) {
    let hand = stage.hand_at(LATER);
    assert_eq!(segment.phase(0), Phase::InFlight);
    assert!(hint(&hand, segment) <= LATER, "the deadline was lost");
    assert_eq!(hand.sweep(segment, LATER).expired, 1);
    assert_received(&stage.drain(), &[1]);
}

/// A message is leased until `LATER` while the segment is swept at `NOW`, because of a hint that was low already.
fn lease_and_sweep(steps: Steps) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    hand.send(1);
    lower(&hand, segment, NOW);
    let claimer = thread::spawn({
        let hand = stage.hand();
        move || (steps.claim)(&hand, segment)
    });
    (steps.sweep)(&hand, segment);
    let seen = hint(&hand, segment) == LATER;
    claimer.join().unwrap();

    assert_found_when_due(&stage, segment);
    if seen { "hint seen" } else { "hint not seen" }
}

/// The same while the partition as a whole is swept: when to look next may lag, but not by more than a period.
fn lease_and_sweep_of_the_partition(claim: fn(&Hand, Held)) {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    hand.send(1);
    lower(&hand, segment, NOW);
    let claimer = thread::spawn({
        let hand = stage.hand();
        move || claim(&hand, segment)
    });
    stage.partition.sweep(NOW, 1, &hand.begin(), &mut |_| ());
    claimer.join().unwrap();

    let next = stage.partition.sweep_at.load(Ordering::Relaxed);
    assert!(
        next <= NOW.as_millis() + epoq::config::SWEEP_PERIOD_MS,
        "the next look is too late: {next}"
    );
    assert_found_when_due(&stage, segment);
}

/// A retired segment comes to use again under its number, with a lease, while the number is swept because of a hint from
/// its life before.
fn number_taken_over(steps: Steps) {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    let number = segment.number();
    lower(&hand, segment, NOW);
    hand.partition.index.leave(number);
    let claimer = thread::spawn({
        let hand = stage.hand();
        move || {
            let segment = NonNull::new(segment.as_ptr()).expect("a segment");
            // SAFETY: not in the index, and nobody looks at the list meanwhile.
            unsafe { Segment::open(segment, 1, NOW, 0) };
            hand.partition.index.enter(segment.as_ptr(), number);
            hand.send(1);
            hand.receive().expect("the message");
        }
    });
    (steps.sweep)(&hand, segment);
    claimer.join().unwrap();
    assert_found_when_due(&stage, segment);
}

#[test]
fn lease_and_sweep_of_a_segment() {
    let outcomes = Outcomes::new(&["hint seen", "hint not seen"], &[]);
    model("lease_and_sweep_of_a_segment", 15, {
        let outcomes = outcomes.clone();
        move || outcomes.record(lease_and_sweep(SOUND))
    });
    outcomes.assert_complete("lease_and_sweep_of_a_segment");
}

#[test]
fn lease_and_sweep_of_a_partition() {
    model("lease_and_sweep_of_a_partition", 60, || {
        lease_and_sweep_of_the_partition(SOUND.claim)
    });
}

#[test]
fn sweep_of_a_number_taken_over() {
    model("sweep_of_a_number_taken_over", 59, || number_taken_over(SOUND));
}

/// Takes the token and stores the lease, without the alarm.
fn lease(hand: &Hand, segment: Held) {
    let _pin = hand.begin();
    let tokens = segment.take(0, u64::MAX, 1);
    assert_eq!(tokens, 1);
    let slot = &segment.slots[0];
    let Transition { next, .. } = slot.state_in_hand().claim(Some(LATER)).expect("visible");
    slot.set_received(0, stage::SENT, hand.reading().now());
    slot.store(next);
}

fn claim_and_skip_if_lower(hand: &Hand, segment: Held) {
    lease(hand, segment);
    if hint(hand, segment) > LATER {
        lower(hand, segment, LATER);
    }
}

fn claim_after_the_alarm(hand: &Hand, segment: Held) {
    lower(hand, segment, LATER);
    lease(hand, segment);
}

/// What is due next among the slots.
fn scan(segment: Held) -> Millis {
    let due = |slot: &epoq::ledger::slot::Slot| match Word::due_at(slot.state(), NOW) {
        Err(Refusal::NotDue(due)) => due,
        _ => Millis::NEVER,
    };
    segment.slots.iter().map(due).min().unwrap_or(Millis::NEVER)
}

fn sweep_slots_first(hand: &Hand, segment: Held) {
    let _pin = hand.begin();
    let next = scan(segment);
    let number = segment.number();
    hand.partition.index.hint(number).expect("a hint").take();
    lower(hand, segment, next);
}

fn sweep_segment_first(hand: &Hand, segment: Held) {
    let pin = hand.begin();
    let number = segment.number();
    let found = hand.partition.index.find(number, &pin).is_some();
    hand.partition.index.hint(number).expect("a hint").take();
    if found {
        lower(hand, segment, scan(segment));
    }
}

#[test]
fn the_hint_is_not_lowered_if_it_looks_low_enough() {
    twin(
        "the_hint_is_not_lowered_if_it_looks_low_enough",
        "the deadline was lost",
        || {
            lease_and_sweep(Steps {
                claim: claim_and_skip_if_lower,
                ..SOUND
            });
        },
    );
}

#[test]
fn the_hint_is_lowered_before_the_lease_is_stored() {
    twin(
        "the_hint_is_lowered_before_the_lease_is_stored",
        "the deadline was lost",
        || {
            lease_and_sweep(Steps {
                claim: claim_after_the_alarm,
                ..SOUND
            });
        },
    );
}

#[test]
fn the_slots_are_read_before_the_hint_is_taken() {
    twin(
        "the_slots_are_read_before_the_hint_is_taken",
        "the deadline was lost",
        || {
            lease_and_sweep(Steps {
                sweep: sweep_slots_first,
                ..SOUND
            });
        },
    );
}

#[test]
fn the_segment_is_looked_up_before_the_hint_is_taken() {
    twin(
        "the_segment_is_looked_up_before_the_hint_is_taken",
        "the deadline was lost",
        || {
            number_taken_over(Steps {
                sweep: sweep_segment_first,
                ..SOUND
            });
        },
    );
}

#[test]
fn the_hint_is_not_lowered_while_the_partition_is_swept() {
    twin(
        "the_hint_is_not_lowered_while_the_partition_is_swept",
        "the deadline was lost",
        || lease_and_sweep_of_the_partition(claim_and_skip_if_lower),
    );
}
