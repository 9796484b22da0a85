//! The head passes over messages that came back, and nodes of `returned` go to its back: a message that is visible is
//! named at every moment. (H1, H2, H6; I2, I4, I6, I7)
//!
//! Every passer names the tokens it finds before it moves the head, also when another passer has set the mark: that one
//! may not get to its own names for a long time. A node that goes to the back is there before it leaves the front.
#![cfg(loom)]

mod stage;

use epoq::{
    config::{SLOTS, WORDS},
    ledger::{partition::Passing, reclaim::Pin, segment::TOKENS, state::Phase},
    sync::Ordering,
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Held, LATER, Lease, Stage, assert_received};

type PassOver = fn(&Hand, Held, &Pin<'_>) -> Passing;
type Turn = fn(&Hand);

const PASS_OVER: PassOver = |hand, segment, pin| hand.partition.pass_over(&segment, pin);
/// As `turn_returned`, whether or not one of the nodes is done.
const TURN: Turn = |hand| {
    let pin = hand.begin();
    hand.partition
        .turn_front(hand.partition.returned.count(2, &pin), &pin);
};

/// A sealed segment with another one behind it. Message 1 has come back to it; message 2 is in flight.
fn one_came_back(stage: &Stage) -> (Held, Lease) {
    let hand = stage.hand();
    let segment = hand.first();
    hand.send(1);
    hand.send(2);
    let leases = [(); 2].map(|()| hand.receive().expect("just sent"));
    hand.grow(segment);
    hand.release(&leases[0]);
    let [_, second] = leases;
    (segment, second)
}

fn delete(hand: &Hand, leases: &[Lease]) {
    for lease in leases {
        hand.delete(lease).expect("deleted");
    }
}

/// Demands that the segment, in which nothing is alive any more, was retired once.
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

/// Two threads pass over the segment, and a receiver that finds the head beyond it looks on `returned`.
fn two_passers_and_a_receiver(pass_over: PassOver) -> &'static str {
    let stage = Stage::new();
    let (segment, second) = one_came_back(&stage);
    let passer = thread::spawn({
        let hand = stage.hand();
        move || pass_over(&hand, segment, &hand.begin())
    });
    let receiver = thread::spawn({
        let hand = stage.hand();
        move || {
            let passed = !segment.is(hand.first().as_ptr());
            passed.then(|| {
                hand.receive_returned()
                    .expect("message 1 is hidden: nothing names it, and the head has passed")
            })
        }
    });
    let hand = stage.hand();
    let passing = pass_over(&hand, segment, &hand.begin());
    assert_eq!((passing, passer.join().unwrap()), (Passing::Gone, Passing::Gone));
    let received = receiver.join().unwrap();
    let hand = stage.hand();
    let outcome = match received {
        Some(lease) => {
            assert_received(&stage.drain(), &[]);
            hand.delete(&lease).expect("deleted");
            "passed before"
        }
        None => {
            let rest = stage.drain();
            assert_received(&rest, &[1]);
            hand.delete(&rest[0]).expect("deleted");
            "passed after"
        }
    };
    hand.delete(&second).expect("deleted");
    assert_over(&stage, segment);
    outcome
}

/// A thread passes over the segment, while message 2 comes back to it and message 1 is deleted by its next lease.
fn passing_release_and_claim(pass_over: PassOver) -> &'static str {
    let stage = Stage::new();
    let (segment, second) = one_came_back(&stage);
    let releaser = thread::spawn({
        let hand = stage.hand();
        move || hand.release(&second)
    });
    let receiver = thread::spawn({
        let hand = stage.hand();
        move || {
            let lease = hand.receive_head();
            if let Some(lease) = &lease {
                hand.delete(lease).expect("deleted");
            }
            lease.map(|lease| lease.body)
        }
    });
    let hand = stage.hand();
    let passing = pass_over(&hand, segment, &hand.begin());
    assert_eq!(passing, Passing::Gone);
    releaser.join().unwrap();
    let received = receiver.join().unwrap();
    let rest = stage.drain();
    let outcome = match received {
        Some(body) => {
            assert_eq!(body, 1, "the head's first");
            assert_received(&rest, &[2]);
            "first received"
        }
        None => {
            assert_received(&rest, &[1, 2]);
            "none received"
        }
    };
    let hand = stage.hand();
    delete(&hand, &rest);
    assert_over(&stage, segment);
    outcome
}

/// `returned` has a node of message 1 and is turned by one thread, while another receives: it has to find the message.
fn turning_and_a_receiver(turn: Turn) {
    let stage = Stage::new();
    let (segment, second) = one_came_back(&stage);
    let hand = stage.hand();
    assert_eq!(PASS_OVER(&hand, segment, &hand.begin()), Passing::Gone);
    // A node to turn to.
    hand.release(&second);
    let receiver = thread::spawn({
        let hand = stage.hand();
        move || {
            let leases = [(); 2].map(|()| {
                hand.receive_returned()
                    .expect("a message is hidden: it is visible, and no node names it")
            });
            delete(&hand, &leases);
        }
    });
    turn(&hand);
    receiver.join().unwrap();
    assert_received(&stage.drain(), &[]);
    assert_over(&stage, segment);
}

/// Two threads turn `returned`, which has a node of each message.
fn two_turn(turn: Turn) {
    let stage = Stage::new();
    let (segment, second) = one_came_back(&stage);
    let hand = stage.hand();
    assert_eq!(PASS_OVER(&hand, segment, &hand.begin()), Passing::Gone);
    hand.release(&second);
    let other = thread::spawn({
        let hand = stage.hand();
        move || turn(&hand)
    });
    turn(&hand);
    other.join().unwrap();
    let rest = stage.drain();
    assert_received(&rest, &[1, 2]);
    delete(&hand, &rest);
    assert_over(&stage, segment);
}

#[test]
fn passing_over_and_a_receiver() {
    let outcomes = Outcomes::new(&["passed before", "passed after"], &[]);
    model("passing_over_and_a_receiver", 2500, {
        let outcomes = outcomes.clone();
        move || outcomes.record(two_passers_and_a_receiver(PASS_OVER))
    });
    outcomes.assert_complete("passing_over_and_a_receiver");
}

#[test]
fn passing_over_release_and_claim() {
    let outcomes = Outcomes::new(&["first received", "none received"], &[]);
    model("passing_over_release_and_claim", 3_100, {
        let outcomes = outcomes.clone();
        move || outcomes.record(passing_release_and_claim(PASS_OVER))
    });
    outcomes.assert_complete("passing_over_release_and_claim");
}

#[test]
fn turning_and_receiving() {
    model("turning_and_receiving", 4000, || turning_and_a_receiver(TURN));
}

#[test]
fn turning_and_turning() {
    model("turning_and_turning", 56418, || two_turn(TURN));
}

/// A passing written out: which of the tokens it finds it names, and whether it does so before it moves the head.
fn pass_by(hand: &Hand, segment: Held, pin: &Pin<'_>, names: fn(u64) -> u64, head_first: bool) -> Passing {
    let next = segment.header.next.load(Ordering::Acquire);
    let found: [u64; WORDS] = std::array::from_fn(|word| {
        let before = segment.ready[word].fetch_or(!TOKENS, Ordering::AcqRel);
        names(before) & TOKENS
    });
    let name = || {
        for (word, &tokens) in found.iter().enumerate() {
            if tokens != 0 {
                hand.partition.bring_back(&segment, word, tokens, pin);
            }
        }
    };
    if !head_first {
        name();
    }
    hand.partition.help_tail(&segment, next);
    let passing = hand.move_head(segment, pin);
    if head_first {
        name();
    }
    passing
}

/// The handwritten passing that the twins share is itself sound.
#[test]
fn passing_step_by_step() {
    model("passing_step_by_step", 2500, || {
        two_passers_and_a_receiver(|hand, segment, pin| pass_by(hand, segment, pin, |found| found, false));
    });
}

#[test]
fn tokens_are_left_to_the_passer_that_came_first() {
    twin(
        "tokens_are_left_to_the_passer_that_came_first",
        "message 1 is hidden",
        || {
            two_passers_and_a_receiver(|hand, segment, pin| {
                pass_by(
                    hand,
                    segment,
                    pin,
                    |found| if found & !TOKENS == 0 { found } else { 0 },
                    false,
                )
            });
        },
    );
}

#[test]
fn tokens_are_named_when_the_head_has_moved() {
    twin(
        "tokens_are_named_when_the_head_has_moved",
        "message 1 is hidden",
        || {
            two_passers_and_a_receiver(|hand, segment, pin| pass_by(hand, segment, pin, |found| found, true));
        },
    );
}

#[test]
fn tokens_found_are_not_named() {
    twin("tokens_found_are_not_named", "message 1 was lost", || {
        two_passers_and_a_receiver(|hand, segment, pin| pass_by(hand, segment, pin, |_| 0, false));
    });
}

/// A turn of `returned` written out: one node goes to the back.
fn turn_by(hand: &Hand, back_first: bool, drops: bool) {
    let pin = hand.begin();
    let returned = &hand.partition.returned;
    for _ in 0..2 {
        let Some(node) = returned.peek(&pin) else { return };
        let segment = Held::of(node.segment.cast_mut());
        let named = node.tokens.load(Ordering::Acquire) & segment.tokens(node.word);
        if back_first && named != 0 {
            hand.partition.bring_back(&segment, node.word, named, &pin);
        }
        node.tokens.fetch_and(0, Ordering::AcqRel);
        if returned.pop(node, &pin) && drops {
            hand.partition.after(segment.bury(1), &segment, &pin);
        }
        if !back_first && named != 0 {
            hand.partition.bring_back(&segment, node.word, named, &pin);
        }
    }
}

/// The handwritten turn that the twins share is itself sound.
#[test]
fn turning_step_by_step() {
    model("turning_step_by_step", 2000, || {
        turning_and_a_receiver(|hand| turn_by(hand, true, true));
    });
}

#[test]
fn a_node_leaves_the_front_before_it_is_at_the_back() {
    twin(
        "a_node_leaves_the_front_before_it_is_at_the_back",
        "a message is hidden",
        || turning_and_a_receiver(|hand| turn_by(hand, false, true)),
    );
}

#[test]
fn a_node_at_the_back_keeps_the_hold_of_the_front() {
    twin("a_node_at_the_back_keeps_the_hold_of_the_front", "live", || {
        turning_and_a_receiver(|hand| turn_by(hand, true, false))
    });
}

#[test]
fn tokens_found_are_not_named_while_another_comes_back() {
    twin(
        "tokens_found_are_not_named_while_another_comes_back",
        "message 1 was lost",
        || {
            passing_release_and_claim(|hand, segment, pin| pass_by(hand, segment, pin, |_| 0, false));
        },
    );
}

#[test]
fn two_turn_and_keep_the_holds_of_the_front() {
    twin("two_turn_and_keep_the_holds_of_the_front", "live", || {
        two_turn(|hand| turn_by(hand, true, false));
    });
}
