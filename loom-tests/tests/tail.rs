//! The list of segments: a sender installs the next one and swings the tail while the head goes by, and two senders
//! install at once. (H6; I1, I6)
//!
//! Nobody moves the head past a segment before the tail has gone on from it, so that no root leads to a segment that may be
//! retired. Of two installers one wins the CAS on `next`; the other's segment, which the index has shown, goes through the
//! epoch.
#![cfg(loom)]

mod stage;

use epoq::{
    config::{SLOTS, WORDS},
    ledger::{partition::Passing, reclaim::Pin},
    sync::Ordering,
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Held, LATER, Lease, Stage, assert_received};

/// How a receiver gets at the next segment, and how a sender does; the broken twins replace one of them.
type Receive = fn(&Hand) -> Option<Lease>;
type Send = fn(&Hand, u8);

/// A full segment whose messages are all dead: its life hangs on the list's hold.
fn used_up(stage: &Stage) -> Held {
    let hand = stage.hand();
    let segment = hand.first();
    for _ in 0..SLOTS {
        hand.send(0);
        let lease = hand.receive().expect("just sent");
        hand.delete(&lease).expect("deleted");
    }
    assert_eq!(segment.live(), 1);
    segment
}

/// Senders that have to grow the list, and a receiver that follows.
fn growing<const SENDERS: usize>(receive: Receive) -> &'static str {
    let stage = Stage::new();
    let segment = used_up(&stage);
    let bodies: [u8; SENDERS] = std::array::from_fn(|at| at as u8 + 1);
    let senders = bodies.map(|body| {
        let hand = stage.hand();
        thread::spawn(move || {
            hand.is_retired(segment);
            hand.send(body);
            hand.is_retired(segment);
        })
    });
    let hand = stage.hand();
    let mut leases = Vec::from_iter(receive(&hand));
    let passed = hand.is_retired(segment);
    let received = !leases.is_empty();
    for sender in senders {
        sender.join().unwrap();
    }

    leases.extend(stage.drain());
    assert_received(&leases, &bodies);
    assert!(hand.is_retired(segment));
    // All that was made can be reached or was retired.
    let made = stage.partition.index.numbers() as usize;
    let mut reachable = 1;
    let mut last = hand.first();
    while !last.header.next.load(Ordering::Acquire).is_null() {
        last = hand.next(last);
        reachable += 1;
    }
    assert!(last.is(stage.partition.tail.load(Ordering::Acquire)), "tail");
    assert_eq!(stage.segments_retired(), made - reachable, "segments retired");
    match (passed, received, made - 2) {
        (false, _, 0) => "received later",
        (true, false, 0) => "passed meanwhile",
        (true, true, 0) => "received meanwhile",
        (.., 1) => "one made in vain",
        (.., made) => panic!("{made} segments made"),
    }
}

/// Two senders install the next segment at the same time.
fn installing(send: Send) -> &'static str {
    let stage = Stage::new();
    let segment = used_up(&stage);
    let other = thread::spawn({
        let hand = stage.hand();
        move || send(&hand, 1)
    });
    let hand = stage.hand();
    send(&hand, 2);
    other.join().unwrap();

    assert_received(&stage.drain(), &[1, 2]);
    assert!(hand.is_retired(segment));
    match (stage.partition.index.numbers(), stage.segments_retired()) {
        (2, 1) => "one made",
        (3, 2) => "two made",
        (made, retired) => panic!("{made} made, {retired} retired"),
    }
}

/// The head's segment has a message that came back. One receiver leaves it and goes on to the next segment for a message
/// never received, while another claims, deletes and passes.
fn beyond_the_head(receive: fn(&Hand, Held) -> Option<Lease>) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    hand.send(1);
    hand.send(2);
    let leases = [(); 2].map(|()| hand.receive().expect("just sent"));
    hand.delete(&leases[1]).expect("deleted");
    hand.sweep(segment, LATER);
    hand.send(3);
    let next = hand.next(segment);
    let other = thread::spawn({
        let hand = stage.hand();
        move || {
            let lease = receive(&hand, next);
            hand.is_retired(segment);
            lease
        }
    });
    let mut leases = Vec::from_iter(hand.receive_head());
    for lease in &leases {
        hand.delete(lease).expect("deleted");
    }
    let here = leases.len();
    leases.extend(hand.receive_head());
    hand.is_retired(segment);
    let there = other.join().unwrap();

    leases.extend(there);
    for lease in &leases[here..] {
        hand.delete(lease).expect("deleted");
    }
    let rest = stage.drain();
    for lease in &rest {
        hand.delete(lease).expect("deleted");
    }
    leases.extend(&rest);
    assert_received(&leases, &[1, 3]);
    // Its last message may have gone through `returned` or past a name there: what is left of it goes with the names.
    assert!(stage.drain().is_empty());
    hand.partition.tidy_returned(2, &hand.pin());
    assert!(hand.is_retired(segment));
    match (there, rest.is_empty()) {
        (Some(_), true) => "the new one there",
        (Some(_), false) => "the new one there, the old one on `returned`",
        (None, _) => "both here",
    }
}

#[test]
fn claim_beyond_the_head() {
    let outcomes = Outcomes::new(
        &[
            "the new one there",
            "the new one there, the old one on `returned`",
            "both here",
        ],
        &[],
    );
    model("claim_beyond_the_head", 10134, {
        let outcomes = outcomes.clone();
        move || outcomes.record(beyond_the_head(|hand, _| hand.receive_new()))
    });
    outcomes.assert_complete("claim_beyond_the_head");
}

#[test]
fn growing_and_passing() {
    let outcomes = Outcomes::new(&["received later", "passed meanwhile", "received meanwhile"], &[]);
    model("growing_and_passing", 21, {
        let outcomes = outcomes.clone();
        move || outcomes.record(growing::<1>(Hand::receive_head))
    });
    outcomes.assert_complete("growing_and_passing");
}

#[test]
fn two_growing_and_passing() {
    let outcomes = Outcomes::new(
        &[
            "received later",
            "passed meanwhile",
            "received meanwhile",
            "one made in vain",
        ],
        &[],
    );
    model("two_growing_and_passing", 4566, {
        let outcomes = outcomes.clone();
        move || outcomes.record(growing::<2>(Hand::receive_head))
    });
    outcomes.assert_complete("two_growing_and_passing");
}

#[test]
fn two_installers() {
    let outcomes = Outcomes::new(&["one made", "two made"], &[]);
    model("two_installers", 393, {
        let outcomes = outcomes.clone();
        move || outcomes.record(installing(Hand::send))
    });
    outcomes.assert_complete("two_installers");
}

fn pass_without_helping(hand: &Hand, segment: Held, pin: &Pin<'_>) -> Passing {
    if segment.header.next.load(Ordering::Acquire).is_null() {
        return Passing::End;
    }
    for word in 0..WORDS {
        if segment.pass(word) != 0 {
            return Passing::Blocked;
        }
    }
    hand.move_head(segment, pin)
}

fn pass_then_help(hand: &Hand, segment: Held, pin: &Pin<'_>) -> Passing {
    let passing = pass_without_helping(hand, segment, pin);
    if passing == Passing::Gone {
        let next = segment.header.next.load(Ordering::Acquire);
        hand.partition.help_tail(&segment, next);
    }
    passing
}

/// Installs the next segment by a load and a store.
fn install_by_store(hand: &Hand, body: u8) {
    let pin = hand.begin();
    let sealed = Held::of(hand.partition.tail.load(Ordering::Acquire));
    if sealed.is_sealed() && sealed.header.next.load(Ordering::Acquire).is_null() {
        let fresh = hand.partition.fresh(&sealed, 0, stage::SENT, &pin).expect("room");
        sealed.header.next.store(fresh.as_ptr(), Ordering::Release);
        hand.partition.help_tail(&sealed, fresh.as_ptr());
    }
    hand.send(body);
}

/// Keeps the segment that lost the race.
fn install_and_forget(hand: &Hand, body: u8) {
    let pin = hand.begin();
    let sealed = Held::of(hand.partition.tail.load(Ordering::Acquire));
    if sealed.is_sealed() && sealed.header.next.load(Ordering::Acquire).is_null() {
        let fresh = hand.partition.fresh(&sealed, 0, stage::SENT, &pin).expect("room");
        let _ = sealed.header.next.compare_exchange(
            std::ptr::null_mut(),
            fresh.as_ptr(),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
    }
    hand.send(body);
}

#[test]
fn the_head_passes_without_helping_the_tail() {
    twin(
        "the_head_passes_without_helping_the_tail",
        "retired while reachable from tail",
        || {
            growing::<1>(|hand| hand.receive_passing_by(pass_without_helping));
        },
    );
}

#[test]
fn the_head_passes_before_helping_the_tail() {
    twin(
        "the_head_passes_before_helping_the_tail",
        "retired while reachable from tail",
        || {
            growing::<2>(|hand| hand.receive_passing_by(pass_then_help));
        },
    );
}

#[test]
fn the_next_segment_is_installed_by_a_store() {
    // One of the two is neither in the list nor retired, with or without a message in it.
    twin(
        "the_next_segment_is_installed_by_a_store",
        "3 made, 1 retired",
        || {
            installing(install_by_store);
        },
    );
}

#[test]
fn the_losing_segment_is_forgotten() {
    twin("the_losing_segment_is_forgotten", "3 made, 1 retired", || {
        installing(install_and_forget);
    });
}

/// Takes the token by a load and a store.
fn take_by_store(hand: &Hand, segment: Held) -> Option<Lease> {
    let _pin = hand.begin();
    if segment.tokens(0) == 0 {
        return None;
    }
    segment.ready[0].store(0, Ordering::Release);
    let slot = segment.slot(0);
    let next = slot.state_in_hand().claim(Some(LATER)).ok()?.next;
    slot.store(next);
    Some(Lease {
        place: segment.place(0),
        receives: 1,
        body: 3,
    })
}

#[test]
fn a_token_is_taken_by_a_store() {
    twin("a_token_is_taken_by_a_store", "deleted: Dead", || {
        beyond_the_head(take_by_store);
    });
}
