//! What travels with a token: the entry, the state, and the times of earlier receives. (H3; I3)
//!
//! A publisher writes them before its Release on the ready word, a claimer reads them after its Acquire. The ready words
//! are changed by read-modify-writes only, so that a release survives whoever changes the word in between. The entry is a
//! cell that loom tracks.
#![cfg(loom)]

mod stage;

use epoq::{
    clock::Millis,
    ledger::{
        segment::{PASSED, Segment},
        state::Transition,
    },
    sync::Ordering,
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Held, LATER, Lease, NOW, SENT, Stage, assert_received};

/// A whole send, up to the token.
type Send = fn(&Hand, Held, u8);

const SOUND: Send = |hand, _, body| hand.send(body);

/// Two senders into one segment, and a claimer that reads what it gets.
fn two_senders(send: Send) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    let senders = [1, 2].map(|body| {
        let hand = stage.hand();
        thread::spawn(move || send(&hand, segment, body))
    });
    let mut leases = Vec::new();
    for _ in 0..2 {
        if let Some(lease) = hand.receive() {
            let first = segment.first_received(lease.place.slot as usize);
            assert_eq!(first, Some(NOW), "first received");
            assert_eq!(lease.receives, 1);
            leases.push(lease);
        }
    }
    let during = leases.len();
    for sender in senders {
        sender.join().unwrap();
    }
    leases.extend(stage.drain());
    assert_received(&leases, &[1, 2]);
    ["none", "one", "both"][during]
}

/// A publisher, a passer that marks the word, and a claimer that reads the entry: the passer's read-modify-write keeps the
/// publisher's release alive.
fn entry(publish: fn(&Segment), mark: fn(&Segment)) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    let publisher = thread::spawn({
        let hand = stage.hand();
        move || {
            let _pin = hand.begin();
            // SAFETY: nobody else reserves here.
            unsafe { segment.write_inline(0, 0, &[1], SENT) };
            publish(&segment);
        }
    });
    let passer = thread::spawn({
        let hand = stage.hand();
        move || {
            let _pin = hand.begin();
            mark(&segment);
        }
    });
    let _pin = hand.begin();
    let taken = segment.take(0, u64::MAX, 1) != 0;
    if taken {
        // SAFETY: we have the token.
        assert_eq!(unsafe { segment.slots[0].entry() }.sent(), SENT);
    }
    publisher.join().unwrap();
    passer.join().unwrap();
    if taken { "taken" } else { "not yet" }
}

fn publish(segment: &Segment) {
    let _ = segment.publish(0, 1);
}

fn mark(segment: &Segment) {
    let _ = segment.pass(0);
}

/// A first receive, its expiry and a second one, each by another thread: the second knows when the first was.
fn receive_times(claim: fn(&Hand, Held)) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand_at(LATER);
    let segment = hand.first();
    hand.send(1);
    // Low already, so that the sweep may find the lease before the claimer's own alarm would order the two.
    segment.hint().lower(NOW);
    let claimer = thread::spawn({
        let hand = stage.hand();
        move || claim(&hand, segment)
    });
    let sweeper = thread::spawn({
        let hand = stage.hand();
        move || hand.sweep(segment, LATER).expired
    });
    let lease = hand.receive();
    if let Some(lease) = lease {
        let first = if lease.receives == 1 { LATER } else { NOW };
        assert_eq!(segment.first_received(0), Some(first), "first received");
    }
    let expired = sweeper.join().unwrap();
    claimer.join().unwrap();
    match (lease, expired) {
        (None, 0) => "received once",
        (None, _) => "expired",
        (Some(Lease { receives: 1, .. }), _) => "the first here",
        (Some(_), _) => "the second here",
    }
}

fn claim_or_not(hand: &Hand, _: Held) {
    hand.receive();
}

#[test]
fn two_senders_and_a_claimer() {
    let outcomes = Outcomes::new(&["none", "one", "both"], &[]);
    model("two_senders_and_a_claimer", 2698, {
        let outcomes = outcomes.clone();
        move || outcomes.record(two_senders(SOUND))
    });
    outcomes.assert_complete("two_senders_and_a_claimer");
}

#[test]
fn entry_behind_the_token() {
    let outcomes = Outcomes::new(&["taken", "not yet"], &[]);
    model("entry_behind_the_token", 104, {
        let outcomes = outcomes.clone();
        move || outcomes.record(entry(publish, mark))
    });
    outcomes.assert_complete("entry_behind_the_token");
}

#[test]
fn receive_times_of_two_receivers() {
    let outcomes = Outcomes::new(
        &["received once", "expired", "the first here", "the second here"],
        &[],
    );
    model("receive_times_of_two_receivers", 285, {
        let outcomes = outcomes.clone();
        move || outcomes.record(receive_times(claim_or_not))
    });
    outcomes.assert_complete("receive_times_of_two_receivers");
}

#[test]
fn the_token_is_set_relaxed() {
    twin("the_token_is_set_relaxed", "Causality violation", || {
        let publish = |segment: &Segment| {
            segment.ready[0].fetch_or(1, Ordering::Relaxed);
        };
        entry(publish, mark);
    });
}

/// The mark is set by a load and a store, which ends the release sequence that the publisher began.
#[test]
fn the_mark_is_set_by_a_store() {
    twin("the_mark_is_set_by_a_store", "Causality violation", || {
        let mark = |segment: &Segment| {
            let before = segment.ready[0].load(Ordering::Relaxed);
            segment.ready[0].store(before | PASSED, Ordering::Relaxed);
        };
        entry(publish, mark);
    });
}

#[test]
fn the_token_is_set_before_the_entry_is_written() {
    twin(
        "the_token_is_set_before_the_entry_is_written",
        "Causality violation",
        || {
            two_senders(|hand, segment, body| {
                let _pin = hand.begin();
                let first = segment.reserve(&[1]);
                let epoq::ledger::segment::Reservation::Taken { first, offset, .. } = first else {
                    panic!("no slot left");
                };
                let slot = &segment.slots[first];
                slot.store(slot.state_in_hand().publish(None).expect("an empty slot").next);
                let _ = segment.publish(first, 1);
                // SAFETY: none, on purpose: a claimer may be reading.
                unsafe { Segment::write_inline(&segment, first, offset, &[body], SENT) };
            });
        },
    );
}

/// The receive is noted only after the lease is stored.
fn note_after_lease(hand: &Hand, segment: Held) {
    let _pin = hand.begin();
    if segment.take(0, u64::MAX, 1) == 0 {
        return;
    }
    let slot = &segment.slots[0];
    let state = slot.state_in_hand();
    let due = Millis::new(LATER.as_millis());
    let Transition { next, .. } = state.claim(Some(due)).expect("visible");
    slot.store(next);
    let hint = hand.partition.index.hint(segment.number());
    hint.expect("a hint").lower(due);
    slot.set_received(state.receives(), SENT, NOW);
}

#[test]
fn the_receive_is_noted_after_the_lease_is_stored() {
    twin(
        "the_receive_is_noted_after_the_lease_is_stored",
        "first received",
        || {
            receive_times(note_after_lease);
        },
    );
}
