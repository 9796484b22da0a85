//! Publish against the head passing by. (H1; I1, I4)
//!
//! Two parties change one ready word by read-modify-writes: the publisher sets its token and learns whether `PASSED` was
//! there, the passer sets `PASSED` and learns whether a token was there. Each order is some order of the two, so either
//! the token stops the head or the publisher brings its word back.
#![cfg(loom)]

mod stage;

use epoq::{
    config::WORDS,
    ledger::{partition::Passing, reclaim::Pin, segment::PASSED},
    sync::Ordering,
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Held, Lease, Stage, assert_received};

/// How the publisher's token gets into the ready word, and how the head gets past it; the broken twins replace one each.
#[derive(Clone, Copy)]
struct Steps {
    publish: fn(&Hand, Held, usize),
    receive: fn(&Hand) -> Option<Lease>,
}

const SOUND: Steps = Steps {
    publish: Hand::publish,
    receive: Hand::receive_head,
};

/// A message is reserved in a segment that is sealed and followed by another one, and published while the head goes by.
/// Returns which way it was received.
fn late_publisher(steps: Steps) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    let late = hand.reserve(segment, 1);
    // The neighbour is dead already: the segment's life hangs on the late message and the list's hold.
    let neighbour = hand.reserve(segment, 2);
    hand.publish(segment, neighbour);
    hand.grow(segment);
    let lease = hand.receive().expect("the neighbour");
    hand.delete(&lease).expect("deleted");

    let publisher = thread::spawn({
        let hand = stage.hand();
        move || {
            (steps.publish)(&hand, segment, late);
            // Until its message is received and deleted nobody may retire the segment.
            hand.is_retired(segment)
        }
    });
    let mut leases = Vec::from_iter((steps.receive)(&hand));
    let by_head = !leases.is_empty();
    let deleted = leases.iter().all(|lease| hand.delete(lease).is_ok());
    hand.is_retired(segment);
    let retired = publisher.join().unwrap();

    assert!(deleted);
    assert!(by_head || !retired, "retired with a message alive in it");
    leases.extend(stage.drain());
    assert_received(&leases, &[1]);
    if !by_head {
        hand.delete(&leases[0]).expect("deleted");
        // A node for a message that was received through the head may be left.
        assert!(stage.drain().is_empty());
    }
    assert!(hand.is_retired(segment));
    assert_eq!(stage.segments_retired(), 1, "segments retired");
    if by_head { "head" } else { "returned" }
}

/// Two late publishers, and a receiver that deletes what it gets while they still publish.
fn two_late_publishers(steps: Steps) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    let slots = [hand.reserve(segment, 1), hand.reserve(segment, 2)];
    hand.grow(segment);

    let publishers = slots.map(|slot| {
        let hand = stage.hand();
        thread::spawn(move || {
            (steps.publish)(&hand, segment, slot);
        })
    });
    let mut leases = Vec::new();
    for receive in [steps.receive, Hand::receive] {
        if let Some(lease) = receive(&hand) {
            hand.delete(&lease).expect("deleted");
            leases.push(lease);
        }
    }
    hand.is_retired(segment);
    for publisher in publishers {
        publisher.join().unwrap();
    }

    let during = leases.len();
    while let Some(lease) = hand.receive() {
        hand.delete(&lease).expect("deleted");
        leases.push(lease);
    }
    assert_received(&leases, &[1, 2]);
    assert!(stage.partition.returned.peek(&hand.pin()).is_none());
    assert!(hand.is_retired(segment));
    assert_eq!(stage.segments_retired(), 1, "segments retired");
    ["none during", "one during", "two during"][during]
}

#[test]
fn late_publisher_and_passing() {
    let outcomes = Outcomes::new(&["head", "returned"], &[]);
    model("late_publisher_and_passing", 22, {
        let outcomes = outcomes.clone();
        move || outcomes.record(late_publisher(SOUND))
    });
    outcomes.assert_complete("late_publisher_and_passing");
}

#[test]
fn two_late_publishers_and_passing() {
    let outcomes = Outcomes::new(&["none during", "one during", "two during"], &[]);
    model("two_late_publishers_and_passing", 4447, {
        let outcomes = outcomes.clone();
        move || outcomes.record(two_late_publishers(SOUND))
    });
    outcomes.assert_complete("two_late_publishers_and_passing");
}

/// Whether the head has passed is looked up before the token is set, not by the same read-modify-write.
fn publish_after_a_look(hand: &Hand, segment: Held, slot: usize) {
    let pin = hand.begin();
    let (word, token) = (slot, 1);
    let passed = segment.ready[word].load(Ordering::Acquire) & PASSED != 0;
    let _ = segment.publish(word, token);
    if passed {
        hand.partition.bring_back(&segment, word, token, &pin);
    }
}

fn head_before_mark(hand: &Hand, segment: Held, pin: &Pin<'_>) -> Passing {
    if segment.has_tokens() {
        return Passing::Blocked;
    }
    let next = segment.header.next.load(Ordering::Acquire);
    hand.partition.help_tail(&segment, next);
    let passing = hand.move_head(segment, pin);
    for word in 0..WORDS {
        let _ = segment.pass(word);
    }
    passing
}

fn mark_without_reading(hand: &Hand, segment: Held, pin: &Pin<'_>) -> Passing {
    if segment.has_tokens() {
        return Passing::Blocked;
    }
    for word in 0..WORDS {
        // The tokens that were there are what decides.
        let _ = segment.pass(word);
    }
    let next = segment.header.next.load(Ordering::Acquire);
    hand.partition.help_tail(&segment, next);
    hand.move_head(segment, pin)
}

#[test]
fn passed_is_looked_up_before_the_token_is_set() {
    twin(
        "passed_is_looked_up_before_the_token_is_set",
        "message 1 was lost",
        || {
            late_publisher(Steps {
                publish: publish_after_a_look,
                ..SOUND
            });
        },
    );
}

#[test]
fn head_moves_before_passed_is_set() {
    twin("head_moves_before_passed_is_set", "message 1 was lost", || {
        late_publisher(Steps {
            receive: |hand| hand.receive_passing_by(head_before_mark),
            ..SOUND
        });
    });
}

#[test]
fn passed_is_set_without_reading_the_tokens() {
    twin(
        "passed_is_set_without_reading_the_tokens",
        "message 1 was lost",
        || {
            late_publisher(Steps {
                receive: |hand| hand.receive_passing_by(mark_without_reading),
                ..SOUND
            });
        },
    );
}

#[test]
fn two_publishers_look_before_they_set_the_token() {
    twin(
        "two_publishers_look_before_they_set_the_token",
        "was lost",
        || {
            two_late_publishers(Steps {
                publish: publish_after_a_look,
                ..SOUND
            });
        },
    );
}
