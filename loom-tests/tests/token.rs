//! The token of a message whose lease is over: sweep against claim against delete with the old handle. (H2; I2, I3, I4)
//!
//! The ready bit is a token. A sweep makes the slot Visible by a CAS and then sets the bit; only the one who clears the
//! bit may leave Visible, and it looks at the state again once it has.
//!
//! On `state` plain stores (by the token's holder) meet CASes (by everybody else). loom can put such a store between the
//! two halves of a read-modify-write, which no machine does. It cannot show here: while a token is out the state is
//! Visible, from which nobody swaps, so that each CAS that meets such a store fails and is but a load.
#![cfg(loom)]

mod stage;

use epoq::ledger::{
    lease::DeletedFrom,
    state::{Phase, Refusal},
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Held, LAST, LATER, Lease, Stage, assert_received};

/// How what is due becomes visible, and how a handle deletes; the broken twins replace one each.
#[derive(Clone, Copy)]
struct Steps {
    expire: fn(&Hand, Held),
    delete: fn(&Hand, Held, &Lease) -> Result<DeletedFrom, Refusal>,
}

const SOUND: Steps = Steps {
    expire: |hand, segment| {
        hand.sweep(segment, LATER);
    },
    delete: |hand, _, lease| hand.delete(lease),
};

/// The lease of one message is over, nobody has swept it up yet.
fn expired(stage: &Stage) -> (Held, Lease) {
    let hand = stage.hand();
    hand.send(1);
    (hand.first(), hand.receive().expect("the message"))
}

fn outcome(deleted: Result<DeletedFrom, Refusal>) -> &'static str {
    match deleted {
        Ok(DeletedFrom::InFlight | DeletedFrom::Delayed) => "deleted in flight",
        Ok(DeletedFrom::Visible) => "deleted visible",
        Err(Refusal::ReceivedAgain) => "received again",
        Err(refusal) => panic!("refused as {refusal:?}"),
    }
}

/// One thread expires, receives again and lets that lease expire too, while another deletes by the first lease's handle.
fn second_life_and_old_handle(steps: Steps) -> &'static str {
    let stage = Stage::new();
    let (segment, lease) = expired(&stage);
    let receiver = thread::spawn({
        let hand = stage.hand_at(LATER);
        move || {
            (steps.expire)(&hand, segment);
            let again = hand.receive();
            hand.sweep(segment, LAST);
            again
        }
    });
    let hand = stage.hand_at(LATER);
    let deleted = (steps.delete)(&hand, segment, &lease);
    let again = receiver.join().unwrap();

    match deleted {
        Ok(_) => {
            assert_eq!(again, None, "a handle deleted a later lease's message");
            assert_received(&stage.drain(), &[]);
            assert_eq!(segment.phase(0), Phase::Dead);
            assert_eq!(segment.live(), 2, "live: the other slot and the list's hold");
        }
        Err(_) => {
            assert_eq!(again.map(|lease| lease.receives), Some(2));
            let third = stage.drain();
            assert_received(&third, &[1]);
            assert_eq!(third[0].receives, 3);
        }
    }
    outcome(deleted)
}

/// Expiry, claim and delete in a thread each.
fn expiry_claim_and_old_handle(steps: Steps) -> &'static str {
    let stage = Stage::new();
    let (segment, lease) = expired(&stage);
    let sweeper = thread::spawn({
        let hand = stage.hand_at(LATER);
        move || (steps.expire)(&hand, segment)
    });
    let receiver = thread::spawn({
        let hand = stage.hand_at(LATER);
        move || hand.receive()
    });
    let hand = stage.hand_at(LATER);
    let deleted = (steps.delete)(&hand, segment, &lease);
    sweeper.join().unwrap();
    let again = receiver.join().unwrap();

    if deleted.is_ok() {
        assert_eq!(again, None, "a handle deleted a later lease's message");
        assert_received(&stage.drain(), &[]);
        assert_eq!(segment.live(), 2, "live: the other slot and the list's hold");
        return outcome(deleted);
    }
    let mut leases = Vec::from_iter(again);
    leases.extend(stage.drain());
    assert_received(&leases, &[1]);
    assert_eq!(leases[0].receives, 2);
    assert_eq!(segment.live(), 3, "live: both slots and the list's hold");
    // Between the sweep's CAS and its publish the token is the sweep's: the delete is refused though nobody has
    // received the message yet.
    if again.is_some() {
        outcome(deleted)
    } else {
        "on its way"
    }
}

/// The same handle deletes twice while the message becomes visible.
fn one_handle_twice(steps: Steps) -> &'static str {
    let stage = Stage::new();
    let (segment, lease) = expired(&stage);
    let sweeper = thread::spawn({
        let hand = stage.hand_at(LATER);
        move || (steps.expire)(&hand, segment)
    });
    let deleter = thread::spawn({
        let hand = stage.hand_at(LATER);
        move || (steps.delete)(&hand, segment, &lease)
    });
    let hand = stage.hand_at(LATER);
    let here = (steps.delete)(&hand, segment, &lease);
    let there = deleter.join().unwrap();
    sweeper.join().unwrap();

    assert!(here.is_err() || there.is_err(), "deleted twice");
    let deleted = here.or(there);
    let expected: &[u8] = if deleted.is_ok() { &[] } else { &[1] };
    assert_received(&stage.drain(), expected);
    let live = if deleted.is_ok() { 2 } else { 3 };
    assert_eq!(segment.live(), live, "live");
    match deleted {
        // As above.
        Err(Refusal::ReceivedAgain) => "on its way",
        deleted => outcome(deleted),
    }
}

#[test]
fn second_life_and_delete_by_the_old_handle() {
    let outcomes = Outcomes::new(&["deleted in flight", "deleted visible", "received again"], &[]);
    model("second_life_and_delete_by_the_old_handle", 75, {
        let outcomes = outcomes.clone();
        move || outcomes.record(second_life_and_old_handle(SOUND))
    });
    outcomes.assert_complete("second_life_and_delete_by_the_old_handle");
}

#[test]
fn expiry_claim_and_delete_by_the_old_handle() {
    let outcomes = Outcomes::new(
        &[
            "deleted in flight",
            "deleted visible",
            "received again",
            "on its way",
        ],
        &[],
    );
    model("expiry_claim_and_delete_by_the_old_handle", 1531, {
        let outcomes = outcomes.clone();
        move || outcomes.record(expiry_claim_and_old_handle(SOUND))
    });
    outcomes.assert_complete("expiry_claim_and_delete_by_the_old_handle");
}

#[test]
fn expiry_and_one_handle_twice() {
    let outcomes = Outcomes::new(&["deleted in flight", "deleted visible", "on its way"], &[]);
    model("expiry_and_one_handle_twice", 233, {
        let outcomes = outcomes.clone();
        move || outcomes.record(one_handle_twice(SOUND))
    });
    outcomes.assert_complete("expiry_and_one_handle_twice");
}

/// Sets the token first, then makes the slot visible.
fn token_before_visible(hand: &Hand, segment: Held) {
    let _pin = hand.begin();
    let slot = &segment.slots[0];
    let state = slot.state();
    if let Ok(transition) = state.due_at(LATER) {
        hand.publish(segment, 0);
        let _ = slot.swap_state(state, transition.next);
    }
}

/// Leaves Visible by a CAS, as if it were any other state.
fn delete_without_token(hand: &Hand, segment: Held, lease: &Lease) -> Result<DeletedFrom, Refusal> {
    let pin = hand.begin();
    let slot = &segment.slots[0];
    let mut state = slot.state();
    loop {
        let transition = state.delete(lease.receives)?;
        match slot.swap_state(state, transition.next) {
            Ok(()) => break,
            Err(newer) => state = newer,
        }
    }
    hand.partition.after(segment.bury(1), &segment, &pin);
    Ok(DeletedFrom::Visible)
}

/// Holds the token, and believes what it saw before it had it.
fn delete_without_a_second_look(hand: &Hand, segment: Held, lease: &Lease) -> Result<DeletedFrom, Refusal> {
    let pin = hand.begin();
    let slot = &segment.slots[0];
    let state = slot.state();
    if state.phase() != Phase::Visible {
        return hand.delete(lease);
    }
    let transition = state.delete(lease.receives)?;
    if !segment.take_one(0) {
        return Err(Refusal::ReceivedAgain);
    }
    slot.store(transition.next);
    hand.partition.after(segment.bury(1), &segment, &pin);
    Ok(DeletedFrom::Visible)
}

#[test]
fn the_token_is_set_before_the_slot_is_visible() {
    twin(
        "the_token_is_set_before_the_slot_is_visible",
        "a token on a slot that is",
        || {
            expiry_claim_and_old_handle(Steps {
                expire: token_before_visible,
                ..SOUND
            });
        },
    );
}

#[test]
fn visible_is_left_without_the_token() {
    twin(
        "visible_is_left_without_the_token",
        "a handle deleted a later lease's message",
        || {
            second_life_and_old_handle(Steps {
                delete: delete_without_token,
                ..SOUND
            });
        },
    );
}

#[test]
fn the_token_is_taken_without_a_second_look() {
    twin(
        "the_token_is_taken_without_a_second_look",
        "a handle deleted a later lease's message",
        || {
            second_life_and_old_handle(Steps {
                delete: delete_without_a_second_look,
                ..SOUND
            });
        },
    );
}

/// Judges the word, and stores over whatever is there by then.
fn delete_by_store(hand: &Hand, segment: Held, lease: &Lease) -> Result<DeletedFrom, Refusal> {
    let pin = hand.begin();
    let slot = &segment.slots[0];
    let transition = slot.state().delete(lease.receives)?;
    slot.store(transition.next);
    hand.partition.after(segment.bury(1), &segment, &pin);
    Ok(DeletedFrom::InFlight)
}

#[test]
fn a_message_is_deleted_by_a_store() {
    twin("a_message_is_deleted_by_a_store", "deleted twice", || {
        one_handle_twice(Steps {
            delete: delete_by_store,
            ..SOUND
        });
    });
}
