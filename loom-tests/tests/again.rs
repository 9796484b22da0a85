//! Messages that come back again and again: names struck off `returned` that went another way, and claims from the middle
//! of the head's segment. (H1, H2, H6; I1, I2, I4, I6, I7)
//!
//! A name may be struck once its token was seen clear by a look that came after the node was found: set again, the token
//! has a node of its own. Whoever takes the node off drops its hold, and nobody else. A claim from the middle is a claim
//! like any other, also in a segment that the head has left meanwhile: the token first, the state after it.
#![cfg(loom)]

mod stage;

use epoq::{
    config::SLOTS,
    ledger::{
        partition::Passing,
        reclaim::Pin,
        segment::{PASSED, TOKENS},
        state::Phase,
    },
    sync::Ordering,
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Held, LATER, Lease, NOW, Stage, assert_received};

/// Nodes looked at: those of one message, visible before the race and come back in it, and one more.
const VISITS: usize = 3;

type Tidy = fn(&Hand);
type ReceiveFrom = fn(&Hand, usize) -> Option<Lease>;
type Release = fn(&Hand, Held, &Lease);

const TIDY: Tidy = |hand| hand.tidy(VISITS);
const RECEIVE_FROM: ReceiveFrom = |hand, start| hand.receive_from(start);
const RELEASE: Release = |hand, _, lease| hand.release(lease);

/// A full segment with another one behind it, and both its messages, 1 and 2, in flight.
fn both_in_flight(stage: &Stage) -> (Held, [Lease; 2]) {
    let hand = stage.hand();
    let segment = hand.first();
    hand.send(1);
    hand.send(2);
    let leases = [(); 2].map(|()| hand.receive().expect("just sent"));
    hand.grow(segment);
    (segment, leases)
}

/// Takes the head past the segment, which then has no message any more, and demands that it was retired once.
fn assert_over(stage: &Stage, segment: Held) {
    let hand = stage.hand_at(LATER);
    assert_eq!(hand.receive(), None);
    hand.tidy(usize::MAX);
    assert!(!segment.is(hand.first().as_ptr()), "the head stays");
    assert!(stage.partition.returned.is_empty(&hand.pin()));
    assert!((0..SLOTS).all(|slot| segment.phase(slot) == Phase::Dead));
    assert_eq!(segment.live(), 0, "live");
    assert!(hand.is_retired(segment));
    assert_eq!(stage.segments_retired(), 1, "segments retired");
}

/// The head stands at a segment with a word marked as passed, because message 2 blocked the passing. Message 1, which came
/// back there, is received through the head and released, the head passes if it can, and a third thread tidies up.
fn token_set_again(tidy: Tidy) -> &'static str {
    let stage = Stage::new();
    let (segment, leases) = both_in_flight(&stage);
    let hand = stage.hand();
    // What a passing does that finds message 2 in the next word.
    assert_eq!(segment.pass(0), 0);
    hand.release(&leases[0]);
    let looper = thread::spawn({
        let hand = stage.hand();
        move || {
            let lease = hand.receive_from(0);
            if let Some(lease) = lease {
                hand.release(&lease);
            }
            lease.is_some()
        }
    });
    let passer = thread::spawn({
        let hand = stage.hand();
        move || {
            hand.delete(&leases[1]).expect("deleted");
            hand.partition.pass(&segment, &hand.begin())
        }
    });
    tidy(&hand);
    let looped = looper.join().unwrap();
    let passing = passer.join().unwrap();

    let rest = stage.drain();
    assert_received(&rest, &[1]);
    assert_eq!(rest[0].receives, 2 + u32::from(looped));
    hand.delete(&rest[0]).expect("deleted");
    assert_over(&stage, segment);
    match (passing, looped) {
        (Passing::Gone, true) => "came again, passed",
        (Passing::Blocked, true) => "came again, blocked",
        (passing, looped) => panic!("{passing:?}, came again: {looped}"),
    }
}

/// A passed segment with a stale node: its message was received through the head, before that passed. The lease is given up, a
/// receiver looks on `returned`, and a third thread tidies up.
fn stale_node_and_return(tidy: Tidy) -> &'static str {
    let stage = Stage::new();
    let (segment, leases) = both_in_flight(&stage);
    let hand = stage.hand();
    assert_eq!(segment.pass(0), 0);
    hand.release(&leases[0]);
    let lease = hand.receive_from(0).expect("just released");
    hand.delete(&leases[1]).expect("deleted");
    assert_eq!(hand.partition.pass(&segment, &hand.pin()), Passing::Gone);
    assert_eq!(segment.live(), 2, "live: the message and the node");
    let releaser = thread::spawn({
        let hand = stage.hand();
        move || hand.release(&lease)
    });
    let receiver = thread::spawn({
        let hand = stage.hand();
        move || hand.receive_returned()
    });
    tidy(&hand);
    releaser.join().unwrap();
    let there = receiver.join().unwrap();

    let mut leases = Vec::from_iter(there);
    leases.extend(stage.drain());
    assert_received(&leases, &[1]);
    assert_eq!(leases[0].receives, 3);
    hand.delete(&leases[0]).expect("deleted");
    assert_over(&stage, segment);
    if there.is_some() {
        "received meanwhile"
    } else {
        "received later"
    }
}

/// The last message of a passed segment, visible again: deleted by its old handle, received through its node and deleted,
/// and a third thread tidies up.
fn last_message(tidy: Tidy) -> &'static str {
    let stage = Stage::new();
    let (segment, leases) = both_in_flight(&stage);
    let hand = stage.hand_at(LATER);
    hand.delete(&leases[1]).expect("deleted");
    assert_eq!(hand.receive(), None);
    assert_eq!(hand.sweep(segment, LATER).expired, 1);
    assert_eq!(segment.live(), 2, "live: the message and the node");
    let deleter = thread::spawn({
        let hand = stage.hand_at(LATER);
        move || {
            let deleted = hand.delete(&leases[0]).is_ok();
            hand.is_retired(segment);
            deleted
        }
    });
    let receiver = thread::spawn({
        let hand = stage.hand_at(LATER);
        move || {
            let lease = hand.receive_returned();
            if let Some(lease) = &lease {
                hand.delete(lease).expect("deleted");
            }
            hand.is_retired(segment);
            lease.is_some()
        }
    });
    tidy(&hand);
    hand.is_retired(segment);
    let deleted = deleter.join().unwrap();
    let received = receiver.join().unwrap();

    assert!(
        deleted != received,
        "message 1 was lost, or received though deleted"
    );
    assert_received(&stage.drain(), &[]);
    assert_over(&stage, segment);
    if deleted { "deleted" } else { "received" }
}

/// Message 2, which came back to the head's segment: received from the middle; deleted by its old handle; and a receiver at the
/// head, which deletes what it gets and passes.
fn middle_head_and_old_handle(receive_from: ReceiveFrom) -> &'static str {
    let stage = Stage::new();
    let (segment, leases) = both_in_flight(&stage);
    let hand = stage.hand();
    hand.delete(&leases[0]).expect("deleted");
    hand.release(&leases[1]);
    let middle = thread::spawn({
        let hand = stage.hand();
        move || {
            let lease = receive_from(&hand, 1);
            hand.is_retired(segment);
            lease
        }
    });
    let deleter = thread::spawn({
        let hand = stage.hand();
        move || {
            let deleted = hand.delete(&leases[1]).is_ok();
            hand.is_retired(segment);
            deleted
        }
    });
    let here = hand.receive_head();
    if let Some(lease) = &here {
        hand.delete(lease).expect("deleted");
    }
    hand.is_retired(segment);
    let there = middle.join().unwrap();
    let deleted = deleter.join().unwrap();

    assert_received(&stage.drain(), &[]);
    let received = Vec::from_iter(here.into_iter().chain(there));
    assert_received(&received, if deleted { &[] } else { &[2] });
    if let Some(lease) = &there {
        hand.delete(lease).expect("deleted");
    }
    assert_over(&stage, segment);
    match (deleted, there) {
        (true, _) => "deleted",
        (false, Some(_)) => "received in the middle",
        (false, None) => "received at the head",
    }
}

/// Message 2 is received from the middle by one, at the head by the other, who releases it.
fn middle_and_release(receive_from: ReceiveFrom) -> &'static str {
    let stage = Stage::new();
    let (segment, leases) = both_in_flight(&stage);
    let hand = stage.hand();
    hand.delete(&leases[0]).expect("deleted");
    hand.release(&leases[1]);
    let middle = thread::spawn({
        let hand = stage.hand();
        move || receive_from(&hand, 1)
    });
    let here = hand.receive_head();
    if let Some(lease) = &here {
        hand.release(lease);
    }
    let there = middle.join().unwrap();

    let rest = stage.drain();
    let numbers: Vec<u32> = here
        .iter()
        .chain(&there)
        .chain(&rest)
        .map(|lease| lease.receives)
        .collect();
    let mut each_once = numbers.clone();
    each_once.sort_unstable();
    assert!(
        each_once.iter().copied().eq((2..).take(each_once.len())),
        "the leases are numbered {numbers:?}"
    );
    let last = rest.first().or(there.as_ref()).expect("message 2 was lost");
    hand.delete(last).expect("the newest handle deletes");
    assert_over(&stage, segment);
    match (here.is_some(), there) {
        (true, Some(Lease { receives: 3, .. })) => "head, then middle",
        (true, Some(_)) => panic!("{here:?} while it was leased to {there:?}"),
        (true, None) => "head",
        (false, Some(_)) => "middle",
        (false, None) => panic!("nobody received it"),
    }
}

/// Message 2 is published late, received from the middle and released there, while the head passes.
fn middle_publisher_and_passing(release: Release) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    hand.send(1);
    let slot = hand.reserve(segment, 2);
    let first = hand.receive().expect("just sent");
    hand.grow(segment);
    hand.delete(&first).expect("deleted");
    let publisher = thread::spawn({
        let hand = stage.hand();
        move || hand.publish(segment, slot)
    });
    let middle = thread::spawn({
        let hand = stage.hand();
        move || {
            let lease = hand.receive_from(slot);
            if let Some(lease) = &lease {
                release(&hand, segment, lease);
            }
            lease.is_some()
        }
    });
    let passing = hand.partition.pass(&segment, &hand.begin());
    publisher.join().unwrap();
    let received = middle.join().unwrap();

    if passing == Passing::Gone {
        let named = stage.partition.returned.peek(&hand.pin()).is_some();
        assert!(named, "message 2 was lost: no node names it");
    }
    let rest = stage.drain();
    assert_received(&rest, &[2]);
    hand.delete(&rest[0]).expect("deleted");
    assert_over(&stage, segment);
    match (passing, received) {
        (Passing::Gone, true) => "received, passed",
        (Passing::Gone, false) => "passed",
        (_, true) => "received, blocked",
        (_, false) => "blocked",
    }
}

#[test]
fn tidy_and_a_token_set_again() {
    let outcomes = Outcomes::new(&["came again, passed", "came again, blocked"], &[]);
    model("tidy_and_a_token_set_again", 484, {
        let outcomes = outcomes.clone();
        move || outcomes.record(token_set_again(TIDY))
    });
    outcomes.assert_complete("tidy_and_a_token_set_again");
}

#[test]
fn tidy_and_return_behind_a_stale_node() {
    let outcomes = Outcomes::new(&["received meanwhile", "received later"], &[]);
    model("tidy_and_return_behind_a_stale_node", 8623, {
        let outcomes = outcomes.clone();
        move || outcomes.record(stale_node_and_return(TIDY))
    });
    outcomes.assert_complete("tidy_and_return_behind_a_stale_node");
}

#[test]
fn tidy_delete_and_claim_of_the_last_message() {
    let outcomes = Outcomes::new(&["deleted", "received"], &[]);
    model("tidy_delete_and_claim_of_the_last_message", 3762, {
        let outcomes = outcomes.clone();
        move || outcomes.record(last_message(TIDY))
    });
    outcomes.assert_complete("tidy_delete_and_claim_of_the_last_message");
}

#[test]
fn claim_from_the_middle_and_the_head_and_delete() {
    let outcomes = Outcomes::new(
        &["deleted", "received in the middle", "received at the head"],
        &[],
    );
    model("claim_from_the_middle_and_the_head_and_delete", 3678, {
        let outcomes = outcomes.clone();
        move || outcomes.record(middle_head_and_old_handle(RECEIVE_FROM))
    });
    outcomes.assert_complete("claim_from_the_middle_and_the_head_and_delete");
}

#[test]
fn claim_from_the_middle_and_release() {
    let outcomes = Outcomes::new(&["head, then middle", "head", "middle"], &[]);
    model("claim_from_the_middle_and_release", 36, {
        let outcomes = outcomes.clone();
        move || outcomes.record(middle_and_release(RECEIVE_FROM))
    });
    outcomes.assert_complete("claim_from_the_middle_and_release");
}

#[test]
fn claim_from_the_middle_publisher_and_passing() {
    let outcomes = Outcomes::new(
        &["received, passed", "passed", "received, blocked", "blocked"],
        &[],
    );
    model("claim_from_the_middle_publisher_and_passing", 2718, {
        let outcomes = outcomes.clone();
        move || outcomes.record(middle_publisher_and_passing(RELEASE))
    });
    outcomes.assert_complete("claim_from_the_middle_publisher_and_passing");
}

/// A tidying written out: what it takes a word's tokens to be, and what it does with a node in which nothing is left.
fn tidy_by(hand: &Hand, look: impl Fn(&Held, usize) -> u64, finish: impl Fn(&Held, bool, &Pin<'_>)) {
    let pin = hand.begin();
    let returned = &hand.partition.returned;
    for _ in 0..VISITS {
        let Some(node) = returned.peek(&pin) else { return };
        let segment = Held::of(node.segment.cast_mut());
        let named = node.tokens.load(Ordering::Acquire);
        let gone = named & !look(&segment, node.word);
        if named != 0 && node.tokens.fetch_and(!gone, Ordering::AcqRel) & !gone != 0 {
            return;
        }
        finish(&segment, returned.pop(node, &pin), &pin);
    }
}

fn drop_hold(hand: &Hand) -> impl Fn(&Held, bool, &Pin<'_>) {
    |segment, popped, pin| {
        if popped {
            hand.partition.after(segment.bury(1), segment, pin);
        }
    }
}

/// The handwritten tidying that the twins share is itself sound.
#[test]
fn tidy_step_by_step() {
    model("tidy_step_by_step", 8623, || {
        stale_node_and_return(|hand| tidy_by(hand, |segment, word| segment.tokens(word), drop_hold(hand)));
    });
}

#[test]
fn a_name_is_struck_by_an_older_look() {
    twin("a_name_is_struck_by_an_older_look", "message 1 was lost", || {
        stale_node_and_return(|hand| {
            let node = hand.partition.returned.peek(&hand.pin()).map(|node| node.segment);
            let older = node.map_or(0, |segment| Held::of(segment.cast_mut()).tokens(0));
            tidy_by(hand, |_, _| older, drop_hold(hand));
        });
    });
}

#[test]
fn a_node_is_taken_off_with_a_name_left() {
    twin(
        "a_node_is_taken_off_with_a_name_left",
        "message 1 was lost",
        || {
            stale_node_and_return(|hand| tidy_by(hand, |_, _| 0, drop_hold(hand)));
        },
    );
}

#[test]
fn a_hold_is_dropped_by_whoever_tidies() {
    twin(
        "a_hold_is_dropped_by_whoever_tidies",
        "a slot was buried twice",
        || {
            last_message(|hand| {
                tidy_by(
                    hand,
                    |segment, word| segment.tokens(word),
                    |segment, _, pin| hand.partition.after(segment.bury(1), segment, pin),
                );
            });
        },
    );
}

#[test]
fn a_hold_is_forgotten_by_whoever_tidies() {
    twin("a_hold_is_forgotten_by_whoever_tidies", "live", || {
        last_message(|hand| tidy_by(hand, |segment, word| segment.tokens(word), |_, _, _| ()));
    });
}

/// A claim of slot 1 written out: how its token is taken, and which state the lease is made of.
fn receive_by(hand: &Hand, take: fn(&Held) -> bool, judged_before: bool) -> Option<Lease> {
    let pin = hand.begin();
    let segment = hand.first();
    if segment.fixed().serial != 0 {
        return None;
    }
    let slot = segment.slot(1);
    let before = slot.state();
    if !take(&segment) {
        return None;
    }
    let state = if judged_before {
        before
    } else {
        slot.state_in_hand()
    };
    let next = state.claim(Some(LATER)).ok()?.next;
    slot.store(next);
    hand.partition.set_alarm(&segment, LATER);
    drop(pin);
    Some(Lease {
        place: segment.place(1),
        receives: next.receives(),
        body: 2,
    })
}

fn take(segment: &Held) -> bool {
    segment.take(1, TOKENS, 1) != 0
}

fn take_by_store(segment: &Held) -> bool {
    let word = &segment.ready[1];
    let present = word.load(Ordering::Acquire);
    if present & TOKENS == 0 {
        return false;
    }
    word.store(present & !TOKENS, Ordering::Release);
    true
}

/// The handwritten claim that the twins share is itself sound.
#[test]
fn claim_step_by_step() {
    model("claim_step_by_step", 99, || {
        middle_and_release(|hand, _| receive_by(hand, take, false));
    });
}

#[test]
fn a_token_in_the_middle_is_taken_by_a_store() {
    twin(
        "a_token_in_the_middle_is_taken_by_a_store",
        "message 2 was received 2 times",
        || {
            middle_head_and_old_handle(|hand, _| receive_by(hand, take_by_store, false));
        },
    );
}

#[test]
fn what_is_given_back_looks_for_the_mark_first() {
    twin(
        "what_is_given_back_looks_for_the_mark_first",
        "message 2 was lost",
        || {
            middle_publisher_and_passing(|hand, segment, lease| {
                let pin = hand.begin();
                let slot = segment.slot(1);
                let state = slot.state();
                let next = state.release(lease.receives, NOW).expect("leased").next;
                slot.swap_state(state, next).expect("nobody else has it");
                let passed = segment.ready[1].load(Ordering::Acquire) & PASSED != 0;
                let _ = segment.publish(1, 1);
                if passed {
                    hand.partition.bring_back(&segment, 1, 1, &pin);
                }
            });
        },
    );
}

#[test]
fn a_lease_is_made_of_an_older_state() {
    twin(
        "a_lease_is_made_of_an_older_state",
        "the leases are numbered",
        || {
            middle_and_release(|hand, _| receive_by(hand, take, true));
        },
    );
}

#[test]
fn a_token_is_set_again_and_a_hold_forgotten() {
    twin("a_token_is_set_again_and_a_hold_forgotten", "live", || {
        token_set_again(|hand| tidy_by(hand, |segment, word| segment.tokens(word), |_, _, _| ()));
    });
}
