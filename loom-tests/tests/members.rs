//! Messages of a group whose leases end: deleted, handed in or over. (I1, I2, I3, I5, I8)
//!
//! Whoever ends a lease does it by a compare-and-swap on the slot's state, and tells the group then, once.
#![cfg(loom)]

mod stage;

use epoq::ledger::{
    group::{baton::Run, lease::Ended, word::GroupWord},
    state::Refusal,
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{
    Hand, Held, LATER, Lease, NOW,
    fifo::{Fifo, HAND_BACK, HandBack, HeldGroup},
};

/// Ends the lease of message 0 by its handle. Whether it did.
type End = fn(&Hand, HeldGroup, &Lease) -> bool;
/// A sweep of the first segment at `LATER`. How many leases it ended.
type Sweep = fn(&Hand, HeldGroup, Held) -> u32;

fn has_ended(result: Result<(), Refusal>) -> bool {
    match result {
        Ok(()) => true,
        Err(Refusal::Visible | Refusal::ReceivedAgain) => false,
        Err(refusal) => panic!("refused as {refusal:?}"),
    }
}

const DELETE: End = |hand, _, lease| has_ended(hand.delete_fifo(lease));
const HAND_IN: End = |hand, _, lease| has_ended(hand.hand_in(lease));
const SWEEP: Sweep = |hand, _, segment| hand.sweep_fifo(segment, LATER);

/// The only message's lease is ended by its handle; a sweep finds it over.
fn end_and_sweep(end: End, deletes: bool) -> &'static str {
    let mut fifo = Fifo::new();
    let group = fifo.group(0);
    let hand = fifo.hand();
    let segment = hand.send_to(group, 0).segment;
    let lease = hand.receive_fifo(1)[0];
    let sweeper = thread::spawn({
        let hand = fifo.hand();
        move || hand.sweep_fifo(segment, LATER)
    });
    let ended = end(&hand, group, &lease);
    let swept = sweeper.join().unwrap();
    assert_eq!(u32::from(ended) + swept, 1, "ended once");
    fifo.assert_left(&[group], LATER, if ended && deletes { &[] } else { &[0] });
    if ended { "by the handle" } else { "by the sweep" }
}

/// The same, with a receiver.
fn delete_sweep_and_receive(sweep: Sweep) -> &'static str {
    let mut fifo = Fifo::new();
    let group = fifo.group(0);
    let hand = fifo.hand();
    let segment = hand.send_to(group, 0).segment;
    let lease = hand.receive_fifo(1)[0];
    let sweeper = thread::spawn({
        let hand = fifo.hand();
        move || sweep(&hand, group, segment)
    });
    let deleter = thread::spawn({
        let hand = fifo.hand();
        move || DELETE(&hand, group, &lease)
    });
    let receiver = fifo.hand_at(LATER);
    let again = receiver.receive_fifo(1);
    let swept = sweeper.join().unwrap();
    let deleted = deleter.join().unwrap();
    assert_eq!(u32::from(deleted) + swept, 1, "ended once");
    assert!(!deleted || again.is_empty(), "deleted, and received");
    for lease in &again {
        assert_eq!(lease.receives, 2);
        receiver.delete_fifo(lease).expect("leased");
    }
    let rest: &[u8] = if deleted || !again.is_empty() { &[] } else { &[0] };
    fifo.assert_left(&[group], LATER, rest);
    match (deleted, again.is_empty()) {
        (true, _) => "deleted",
        (_, true) => "fell back",
        (..) => "received again",
    }
}

/// Two messages in flight, of which the first one is deleted; a sweep for which both are over; a third one is sent.
fn delete_sweep_and_send(delete: End) -> &'static str {
    let mut fifo = Fifo::new();
    let group = fifo.group(0);
    let hand = fifo.hand();
    let segment = hand.send_to(group, 0).segment;
    hand.send_to(group, 1);
    let third = hand.write(2);
    let leases = hand.receive_fifo(2);
    let sweeper = thread::spawn({
        let hand = fifo.hand();
        move || hand.sweep_fifo(segment, LATER)
    });
    let deleter = thread::spawn({
        let (hand, lease) = (fifo.hand(), leases[0]);
        move || delete(&hand, group, &lease)
    });
    assert_eq!(hand.join(group, third), Ok(3), "its number");
    let swept = sweeper.join().unwrap();
    let deleted = deleter.join().unwrap();
    assert_eq!(u32::from(deleted) + swept, 2, "each ended once");
    fifo.assert_left(&[group], LATER, if deleted { &[1, 2] } else { &[0, 1, 2] });
    // The head is past it.
    assert!(hand.is_retired(segment), "kept for ever");
    if deleted { "deleted" } else { "fell back" }
}

/// Two messages are received; a sweep, called by a hint of before, finds their leases over as soon as they are there.
fn lease_and_sweep(hand_back: HandBack) -> &'static str {
    let mut fifo = Fifo::new();
    let group = fifo.group(0);
    let hand = fifo.hand();
    let segment = hand.send_to(group, 0).segment;
    hand.send_to(group, 1);
    segment.hint().lower(LATER);
    let sweeper = thread::spawn({
        let hand = fifo.hand();
        move || hand.sweep_fifo(segment, LATER)
    });
    hand.receive_fifo_by(2, hand_back);
    let during = sweeper.join().unwrap() as usize;
    fifo.assert_batons(&[group]);
    assert_eq!(
        hand.sweep_fifo(segment, LATER) as usize,
        2 - during,
        "the deadline was lost"
    );
    fifo.assert_left(&[group], LATER, &[0, 1]);
    ["none", "one", "both"][during]
}

/// Two messages were in flight, and the first has come back; the second is handed in, while what is there is received without
/// leases: whose states are looked at before the baton goes back.
fn hand_in_and_glimpse(is_late: bool) -> &'static str {
    let mut fifo = Fifo::new();
    let group = fifo.group(0);
    let hand = fifo.hand();
    hand.send_to(group, 0);
    hand.send_to(group, 1);
    let leases = hand.receive_fifo(2);
    hand.hand_in(&leases[0]).expect("leased");
    let other = thread::spawn({
        let (hand, lease) = (fifo.hand(), leases[1]);
        move || hand.hand_in(&lease).expect("leased")
    });
    let glimpsed = {
        let pin = hand.begin();
        let (segment, at) = hand.partition.take_token(false, &pin).expect("the baton");
        let Some(baton) = hand.partition.find_out(segment, at, &pin) else {
            panic!("the baton");
        };
        let mut serving = baton.serve();
        while let Some(next) = serving.next() {
            serving.take(next);
        }
        let look = |run: &Run<'_>| {
            for &member in run {
                let claim = hand.partition.lease_member(member, None, NOW);
                assert_eq!(claim.map(|claim| claim.receives), Some(2), "receives");
            }
        };
        if !is_late {
            look(serving.run());
        }
        let (after, run) = serving.hand_back(is_late, &pin);
        if is_late {
            look(&run);
        }
        hand.follow(after, &pin);
        run.len()
    };
    other.join().unwrap();
    fifo.assert_left(&[group], NOW, &[0, 1]);
    ["none", "one", "both"][glimpsed]
}

#[test]
fn a_delete_and_an_expiry_of_a_member() {
    let outcomes = Outcomes::new(&["by the handle", "by the sweep"], &[]);
    model("a_delete_and_an_expiry_of_a_member", 47, {
        let outcomes = outcomes.clone();
        move || outcomes.record(end_and_sweep(DELETE, true))
    });
    outcomes.assert_complete("a_delete_and_an_expiry_of_a_member");
}

#[test]
fn a_release_and_an_expiry_of_a_member() {
    let outcomes = Outcomes::new(&["by the handle", "by the sweep"], &[]);
    model("a_release_and_an_expiry_of_a_member", 39, {
        let outcomes = outcomes.clone();
        move || outcomes.record(end_and_sweep(HAND_IN, false))
    });
    outcomes.assert_complete("a_release_and_an_expiry_of_a_member");
}

#[test]
fn a_delete_an_expiry_and_a_receiver_of_a_member() {
    let outcomes = Outcomes::new(&["deleted", "fell back", "received again"], &[]);
    model("a_delete_an_expiry_and_a_receiver_of_a_member", 255, {
        let outcomes = outcomes.clone();
        move || outcomes.record(delete_sweep_and_receive(SWEEP))
    });
    outcomes.assert_complete("a_delete_an_expiry_and_a_receiver_of_a_member");
}

#[test]
fn a_delete_an_expiry_and_a_send_of_one_group() {
    let outcomes = Outcomes::new(&["deleted", "fell back"], &[]);
    model("a_delete_an_expiry_and_a_send_of_one_group", 453, {
        let outcomes = outcomes.clone();
        move || outcomes.record(delete_sweep_and_send(DELETE))
    });
    outcomes.assert_complete("a_delete_an_expiry_and_a_send_of_one_group");
}

#[test]
fn a_lease_and_an_expiry_of_a_run() {
    let outcomes = Outcomes::new(&["none", "one", "both"], &[]);
    model("a_lease_and_an_expiry_of_a_run", 27, {
        let outcomes = outcomes.clone();
        move || outcomes.record(lease_and_sweep(HAND_BACK))
    });
    outcomes.assert_complete("a_lease_and_an_expiry_of_a_run");
}

#[test]
fn a_release_and_a_glimpse_of_a_run() {
    let outcomes = Outcomes::new(&["one", "both"], &[]);
    model("a_release_and_a_glimpse_of_a_run", 14, {
        let outcomes = outcomes.clone();
        move || outcomes.record(hand_in_and_glimpse(false))
    });
    outcomes.assert_complete("a_release_and_a_glimpse_of_a_run");
}

/// What `lease` of the ledger says of a message of the first segment: its group, and its place there.
fn ended<'p>(group: &'p HeldGroup, lease: &Lease, segment: &Held) -> Ended<'p> {
    let link = segment.link(lease.place.slot).expect("links");
    Ended {
        group,
        places: 1 << link.place(),
    }
}

/// As `delete_leased`, with the state judged and then stored.
#[test]
fn a_members_lease_is_ended_by_a_store() {
    twin(
        "a_members_lease_is_ended_by_a_store",
        "self.in_flight() & places == places",
        || {
            end_and_sweep(
                |hand, group, lease| {
                    let pin = hand.begin();
                    let segment = hand.first();
                    let slot = segment.slot(lease.place.slot);
                    let Ok(dead) = slot.state().delete_leased(lease.receives, NOW) else {
                        return false;
                    };
                    // A store in effect; loom would misplace one among read-modify-writes.
                    while slot.swap_state(slot.state(), dead.next).is_err() {}
                    let ended = ended(&group, lease, &segment);
                    hand.follow(ended.group.go(ended.places, &pin), &pin);
                    hand.partition.after(segment.bury(1), &segment, &pin);
                    true
                },
                true,
            );
        },
    );
}

/// The group hears of it before it is so.
#[test]
fn a_group_is_told_before_the_state_is_swapped() {
    twin(
        "a_group_is_told_before_the_state_is_swapped",
        "self.in_flight() & places == places",
        || {
            delete_sweep_and_receive(|hand, group, segment| {
                let pin = hand.begin();
                let slot = segment.slot(0);
                let state = slot.state();
                let Ok(back) = state.fall_back(LATER) else {
                    return 0;
                };
                let link = segment.link(0).expect("links");
                hand.follow(group.come_back(1 << link.place(), &pin), &pin);
                u32::from(slot.swap_state(state, back.next).is_ok())
            });
        },
    );
}

/// As `GroupWord::come_back`, and nobody looks whether the group can be received from now.
#[test]
fn a_member_comes_back_and_nobody_looks() {
    twin("a_member_comes_back_and_nobody_looks", "stranded", || {
        end_and_sweep(
            |hand, group, lease| {
                let _pin = hand.begin();
                let segment = hand.first();
                let slot = segment.slot(lease.place.slot);
                let state = slot.state();
                let Ok(back) = state.hand_in(lease.receives, NOW) else {
                    return false;
                };
                if slot.swap_state(state, back.next).is_err() {
                    return false;
                }
                let places = u64::from(ended(&group, lease, &segment).places);
                group.change(|word| {
                    let bits = word.to_bits() & !(places << 10) | places;
                    (GroupWord::from_bits(bits), ())
                });
                true
            },
            false,
        );
    });
}

/// As `Queue::delete_fifo`, and the group hears nothing.
#[test]
fn a_group_does_not_hear_of_a_delete() {
    twin("a_group_does_not_hear_of_a_delete", "message 1 was lost", || {
        delete_sweep_and_send(|hand, _, lease| {
            let pin = hand.begin();
            let mut graves = epoq::ledger::lease::Graves::new();
            let deleted = hand
                .partition
                .delete_leased(lease.place, lease.receives, NOW, &pin, &mut graves);
            graves.fill(&pin);
            deleted.is_ok()
        });
    });
}

/// The states are stored first, and the window is in flight after that.
#[test]
fn a_state_is_stored_before_the_window_is_in_flight() {
    twin(
        "a_state_is_stored_before_the_window_is_in_flight",
        "self.in_flight() & places == places",
        || {
            lease_and_sweep(|hand, serving, pin| {
                let _places = serving.settle(true);
                hand.lease_all(serving.run().clone());
                (HAND_BACK(hand, serving, pin).0, Run::new())
            });
        },
    );
}

/// Places are written once the messages are in flight.
#[test]
fn a_place_is_written_late() {
    twin("a_place_is_written_late", "message 1 was lost", || {
        lease_and_sweep(|hand, serving, pin| {
            let done = serving.settle(true);
            let places: Vec<u32> = serving.run().iter().map(|member| member.link.place()).collect();
            for member in serving.run() {
                member.link.set_place(0);
            }
            let group = serving.group();
            let run = serving.run().clone();
            let after = group.after(group.change(|word| word.hand_back(done, false)), pin);
            hand.lease_all(run.clone());
            for (member, place) in run.iter().zip(places) {
                member.link.set_place(place);
            }
            (after, Run::new())
        });
    });
}

/// Received without leases, but handed back as if they were leased: nobody ends those.
#[test]
fn a_glimpse_is_handed_back_as_a_lease() {
    twin(
        "a_glimpse_is_handed_back_as_a_lease",
        "message 0 was lost",
        || {
            hand_in_and_glimpse(true);
        },
    );
}
