//! The last message of a passed segment: brought back by a sweep, deleted by an old handle, received again. (H6; I1, I6)
//!
//! `live` counts what keeps the segment: messages, and one hold per node on `returned`. A hold is taken only from a
//! count above zero, before the node is pushed; who brings the count to zero retires the segment, once.
#![cfg(loom)]

mod stage;

use epoq::{
    ledger::{reclaim::Pin, state::Phase},
    sync::Ordering,
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Held, LAST, LATER, Lease, Stage, assert_received};

/// How a word of a passed segment is brought back.
type BringBack = fn(&Hand, Held, usize, &Pin<'_>);

const SOUND: BringBack = |hand, segment, word, pin| hand.partition.bring_back(&segment, word, 1, pin);

/// A segment that the head has passed, with one message in flight in it whose lease is over.
fn passed(stage: &Stage) -> (Held, Lease) {
    let hand = stage.hand();
    let segment = hand.first();
    hand.send(1);
    hand.send(2);
    let leases = [
        hand.receive().expect("the first"),
        hand.receive().expect("the second"),
    ];
    hand.delete(&leases[1]).expect("deleted");
    hand.grow(segment);
    assert_eq!(hand.receive(), None);
    assert!(!segment.is(hand.first().as_ptr()));
    assert_eq!(segment.live(), 1);
    (segment, leases[0])
}

/// The sweep of the one message.
fn expire(hand: &Hand, segment: Held, bring_back: BringBack) {
    let pin = hand.begin();
    let slot = &segment.slots[0];
    let state = slot.state();
    if let Ok(transition) = state.due_at(LATER)
        && slot.swap_state(state, transition.next).is_ok()
        && segment.publish(0, 1)
    {
        bring_back(hand, segment, 0, &pin);
    }
    hand.is_retired(segment);
}

fn receive_and_delete(hand: &Hand, segment: Held) -> Option<Lease> {
    let lease = hand.receive_returned();
    if let Some(lease) = &lease {
        hand.delete(lease).expect("deleted");
    }
    hand.is_retired(segment);
    lease
}

/// A sweep, the old handle, and a receiver in a thread each.
fn last_message(bring_back: Option<BringBack>) -> &'static str {
    let stage = Stage::new();
    let (segment, lease) = passed(&stage);
    let sweeper = thread::spawn({
        let hand = stage.hand_at(LATER);
        move || match bring_back {
            Some(bring_back) => expire(&hand, segment, bring_back),
            None => {
                hand.sweep(segment, LATER);
                hand.is_retired(segment);
            }
        }
    });
    let deleter = thread::spawn({
        let hand = stage.hand_at(LATER);
        move || {
            let deleted = hand.delete(&lease);
            hand.is_retired(segment);
            deleted.is_ok()
        }
    });
    let hand = stage.hand_at(LATER);
    let mut again = receive_and_delete(&hand, segment);
    let during = again.is_some();
    sweeper.join().unwrap();
    let deleted = deleter.join().unwrap();

    if again.is_none() {
        again = receive_and_delete(&hand, segment);
    }
    assert_eq!(
        deleted,
        again.is_none(),
        "message 1 was lost, or received though deleted"
    );
    assert_received(&stage.drain(), &[]);
    assert!(stage.partition.returned.is_empty(&hand.pin()));
    assert_eq!(segment.phase(0), Phase::Dead);
    assert_eq!(segment.live(), 0, "live");
    assert!(hand.is_retired(segment));
    assert_eq!(stage.segments_retired(), 1, "segments retired");
    match (deleted, during) {
        (true, _) => "deleted",
        (false, true) => "received meanwhile",
        (false, false) => "received later",
    }
}

/// Two receivers meet at one node: one claims, one of them takes it off.
fn two_receivers(receive: fn(&Hand, Held) -> Option<Lease>) -> &'static str {
    let stage = Stage::new();
    let (segment, _) = passed(&stage);
    let hand = stage.hand_at(LATER);
    hand.sweep(segment, LATER);
    let other = thread::spawn({
        let hand = stage.hand_at(LATER);
        move || receive(&hand, segment)
    });
    let here = receive(&hand, segment);
    let there = other.join().unwrap();

    let leases = Vec::from_iter(here.into_iter().chain(there));
    assert_received(&leases, &[1]);
    assert!(stage.partition.returned.is_empty(&hand.pin()));
    assert!(hand.is_retired(segment));
    assert_eq!(stage.segments_retired(), 1, "segments retired");
    if here.is_some() { "here" } else { "there" }
}

#[test]
fn return_delete_and_claim_of_the_last_message() {
    let outcomes = Outcomes::new(&["deleted", "received meanwhile", "received later"], &[]);
    model("return_delete_and_claim_of_the_last_message", 556, {
        let outcomes = outcomes.clone();
        move || outcomes.record(last_message(None))
    });
    outcomes.assert_complete("return_delete_and_claim_of_the_last_message");
}

#[test]
fn two_receivers_at_one_node() {
    let outcomes = Outcomes::new(&["here", "there"], &[]);
    model("two_receivers_at_one_node", 347, {
        let outcomes = outcomes.clone();
        move || outcomes.record(two_receivers(receive_and_delete))
    });
    outcomes.assert_complete("two_receivers_at_one_node");
}

/// The handwritten sweep that the twins share is itself sound.
#[test]
fn return_step_by_step() {
    model("return_step_by_step", 523, || {
        last_message(Some(SOUND));
    });
}

#[test]
fn a_node_without_a_hold() {
    // The receiver drops a hold that nobody took.
    twin("a_node_without_a_hold", "a slot was buried twice", || {
        last_message(Some(|hand, segment, word, pin| {
            hand.partition.returned.push(&segment, word, 1, pin);
        }));
    });
}

#[test]
fn a_hold_taken_blindly() {
    twin("a_hold_taken_blindly", "segments retired", || {
        last_message(Some(|hand, segment, word, pin| {
            segment.tally.live.fetch_add(1, Ordering::Relaxed);
            hand.partition.returned.push(&segment, word, 1, pin);
        }));
    });
}

#[test]
fn a_hold_taken_after_the_push() {
    twin("a_hold_taken_after_the_push", "a slot was buried twice", || {
        last_message(Some(|hand, segment, word, pin| {
            hand.partition.returned.push(&segment, word, 1, pin);
            let _ = segment.hold();
        }));
    });
}

/// Drops the node's hold whether or not it was this receiver that took the node off.
fn receive_and_drop(hand: &Hand, segment: Held) -> Option<Lease> {
    let pin = hand.begin();
    let node = hand.partition.returned.peek(&pin)?;
    let taken = segment.take(node.word, 1, 1) != 0;
    if taken {
        let slot = segment.slot(0);
        slot.store(slot.state_in_hand().claim(Some(LAST)).expect("visible").next);
    }
    let _ = hand.partition.returned.pop(node, &pin);
    hand.partition.after(segment.bury(1), &segment, &pin);
    let lease = Lease {
        place: segment.place(0),
        receives: 2,
        body: 1,
    };
    taken.then(|| {
        hand.delete(&lease).expect("deleted");
        lease
    })
}

#[test]
fn a_hold_dropped_by_both_receivers() {
    twin(
        "a_hold_dropped_by_both_receivers",
        "a slot was buried twice",
        || {
            two_receivers(receive_and_drop);
        },
    );
}
