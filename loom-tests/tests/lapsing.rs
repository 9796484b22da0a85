//! Messages whose retention is over, done away with in whatever state they are, while others receive and delete them. (H2; I1, I2,
//! I3, I6)
#![cfg(loom)]

mod stage;

use epoq::ledger::{
    state::Phase,
    tend::{Chores, Tended},
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Held, LATER, NOW, Stage};

/// Over for what was sent at `SENT`.
const CHORES: Chores<'static> = Chores {
    retention_ms: 5,
    id: &|_, _, _| [1; 16],
};

/// Looks after the segment: whether its message was done away with.
type Tend = fn(&Hand, Held) -> bool;

const TEND: Tend = |hand, _| {
    let Tended {
        lapsed_visible,
        lapsed_in_flight,
        ..
    } = hand
        .partition
        .tend(u32::MAX, &CHORES, NOW, &hand.begin(), &mut |_| ());
    lapsed_visible + lapsed_in_flight > 0
};

/// A message that came back is done away with, deleted by its old handle, and received, by a thread each.
fn lapse_delete_and_claim(tend: Tend) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    hand.send(1);
    let lease = hand.receive().expect("just sent");
    hand.release(&lease);
    let keeper = thread::spawn({
        let hand = stage.hand();
        move || tend(&hand, segment)
    });
    let deleter = thread::spawn({
        let hand = stage.hand();
        move || hand.delete(&lease).is_ok()
    });
    let received = hand.receive();
    let lapsed = keeper.join().unwrap();
    let deleted = deleter.join().unwrap();
    assert!(!(lapsed && deleted), "done away with twice");
    let gone = lapsed || deleted;
    assert_eq!(segment.live(), 3 - u32::from(gone), "its slot is buried once");
    if !gone {
        let lease = received.expect("in nobody else's hand");
        assert_eq!(segment.phase(0), Phase::InFlight);
        hand.delete(&lease).expect("its lease is running");
        return "received";
    }
    assert_eq!(segment.phase(0), Phase::Dead, "done away with, and there");
    match (received, lapsed) {
        (None, true) => "lapsed",
        (None, false) => "deleted",
        (Some(_), true) => "received, and lapsed in flight",
        (Some(_), false) => panic!("deleted by the handle of the lease before"),
    }
}

/// A message in flight is done away with; its lease is over for a sweep, and its handle deletes it.
fn lapse_delete_and_expiry(tend: Tend) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    hand.send(1);
    let lease = hand.receive().expect("just sent");
    let keeper = thread::spawn({
        let hand = stage.hand();
        move || tend(&hand, segment)
    });
    let deleter = thread::spawn({
        let hand = stage.hand();
        move || hand.delete(&lease).is_ok()
    });
    let expired = hand.sweep(segment, LATER).expired;
    let lapsed = keeper.join().unwrap();
    let deleted = deleter.join().unwrap();
    assert!(!(lapsed && deleted), "done away with twice");
    let gone = lapsed || deleted;
    assert_eq!(segment.live(), 3 - u32::from(gone), "its slot is buried once");
    let left = stage.drain().len();
    assert_eq!(
        left,
        usize::from(!gone),
        "there exactly if nobody has done away with it"
    );
    match (lapsed, deleted, expired) {
        (true, _, 0) => "lapsed in flight",
        (true, ..) => "lapsed when it was over",
        (_, true, 0) => "deleted in flight",
        (_, true, _) => "deleted when it was over",
        _ => "left to the next round",
    }
}

#[test]
fn lapsing_delete_and_claim() {
    let outcomes = Outcomes::new(
        &["received", "lapsed", "deleted", "received, and lapsed in flight"],
        &[],
    );
    model("lapsing_delete_and_claim", 1866, {
        let outcomes = outcomes.clone();
        move || outcomes.record(lapse_delete_and_claim(TEND))
    });
    outcomes.assert_complete("lapsing_delete_and_claim");
}

#[test]
fn lapsing_delete_and_expiry() {
    let outcomes = Outcomes::new(
        &[
            "lapsed in flight",
            "lapsed when it was over",
            "deleted in flight",
            "deleted when it was over",
            "left to the next round",
        ],
        &[],
    );
    model("lapsing_delete_and_expiry", 1142, {
        let outcomes = outcomes.clone();
        move || outcomes.record(lapse_delete_and_expiry(TEND))
    });
    outcomes.assert_complete("lapsing_delete_and_expiry");
}

/// Does away with a visible message without its token.
#[test]
fn a_visible_message_lapses_by_cas() {
    twin(
        "a_visible_message_lapses_by_cas",
        "done away with, and there",
        || {
            lapse_delete_and_claim(|hand, segment| {
                let pin = hand.begin();
                let slot = segment.slot(0);
                let state = slot.state();
                let killed = state.is(Phase::Visible)
                    && slot
                        .swap_state(state, state.discard().expect("visible").next)
                        .is_ok();
                if killed {
                    hand.partition.after(segment.bury(1), &segment, &pin);
                }
                killed
            });
        },
    );
}

#[test]
fn a_message_in_flight_lapses_by_a_store() {
    twin(
        "a_message_in_flight_lapses_by_a_store",
        "a token on a slot that is Dead",
        || {
            lapse_delete_and_expiry(|hand, segment| {
                let pin = hand.begin();
                let slot = segment.slot(0);
                let state = slot.state();
                if !state.is(Phase::InFlight) {
                    return false;
                }
                let next = state.discard().expect("in flight").next;
                // A store in effect; loom would misplace one among read-modify-writes.
                while slot.swap_state(slot.state(), next).is_err() {}
                hand.partition.after(segment.bury(1), &segment, &pin);
                true
            });
        },
    );
}
