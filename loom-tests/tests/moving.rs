//! Messages that change their place: survivors of a segment that move to the tail, and dead letters that move to another
//! partition. (I1, I2, I3, I5, H2)
//!
//! A visible message is held by its token from before the copy is published until it is dead where it was. A delayed one, which
//! has no token, is killed first, by compare-and-swap; its copy is published then.
#![cfg(loom)]

mod stage;

use epoq::{
    clock::Millis,
    ledger::{
        lease::{Aside, One, Special, Terms},
        partition::{Draft, Entrance, Reserved},
        reclaim::Pin,
        state::Phase,
        tend::Chores,
    },
    sync::stop,
};
use epoq_loom::{Outcomes, model, stops, stops_twin, twin};
use loom::thread;
use stage::{Hand, Held, LATER, Lease, NOW, RETENTION_MS, SENT, Stage, assert_received};

const CHORES: Chores<'static> = Chores {
    retention_ms: RETENTION_MS,
    id: &|_, _, _| [1; 16],
};

/// How one message moves out of its segment's first slot. Whether it did.
type Move = fn(&Hand, Held) -> bool;

/// As `Partition::evacuate` does it, whatever the age of the last receive.
const MOVE_VISIBLE: Move = |hand, segment| {
    let pin = hand.begin();
    if !segment.take_one(0) {
        return false;
    }
    let state = segment.slot(0).state_in_hand();
    let moved = hand
        .partition
        .move_visible(&segment, 0, state, &CHORES, NOW, &pin);
    assert!(moved, "there is room");
    true
};

const MOVE_DELAYED: Move = |hand, segment| {
    let pin = hand.begin();
    hand.partition
        .move_delayed(&segment, 0, &CHORES, NOW, &pin)
        .expect("there is room")
};

/// Reserves a slot for a copy of message 1.
fn reserve_copy<'p>(hand: &Hand, entrance: &Entrance, pin: &'p Pin<'_>) -> Reserved<'p> {
    hand.partition
        .reserve_one(Draft::Inline(&[1]), entrance, NOW, pin)
        .unwrap_or_else(|_| panic!("there is room"))
}

fn entrance(receives: u32, delayed_until: Option<Millis>) -> Entrance {
    Entrance {
        sent: SENT,
        delayed_until,
        receives,
        first_received: (receives > 0).then_some(NOW),
        is_grouped: false,
    }
}

/// The first segment, sealed, with message 1 in its first slot, visible again after a lease whose handle is out; another
/// segment follows it.
fn visible_again(stage: &Stage) -> (Held, Lease) {
    let hand = stage.hand();
    let segment = hand.first();
    hand.send(1);
    hand.send(2);
    let leases = [(); 2].map(|()| hand.receive().expect("just sent"));
    hand.delete(&leases[1]).expect("deleted");
    hand.grow(segment);
    hand.release(&leases[0]);
    (segment, leases[0])
}

/// Message 1 moves, is deleted by its old handle, and is received, by a thread each.
fn move_delete_and_claim(step: Move) -> &'static str {
    let stage = Stage::new();
    let (segment, lease) = visible_again(&stage);
    let hand = stage.hand();
    let mover = thread::spawn({
        let hand = stage.hand();
        move || {
            let moved = step(&hand, segment);
            hand.is_retired(segment);
            moved
        }
    });
    let deleter = thread::spawn({
        let hand = stage.hand();
        move || hand.delete(&lease).is_ok()
    });
    let here = hand.receive();
    hand.is_retired(segment);
    let moved = mover.join().unwrap();
    let deleted = deleter.join().unwrap();

    let rest = stage.drain();
    let all: Vec<Lease> = here.iter().chain(&rest).copied().collect();
    assert_received(&all, if deleted { &[] } else { &[1] });
    if let Some(last) = all.first() {
        assert_eq!(last.receives, 2, "the copy keeps the count");
        hand.delete(last).expect("deleted");
    }
    assert_eq!(segment.phase(0), Phase::Dead);
    assert_eq!(hand.receive(), None);
    assert!(hand.is_retired(segment));
    assert!(
        !(moved && deleted),
        "moved, and deleted by a handle of the old place"
    );
    match (moved, deleted, here.is_some()) {
        (true, _, true) => "moved, received there",
        (true, _, false) => "moved, received later",
        (_, true, _) => "deleted",
        (_, _, true) => "received",
        (..) => "missed",
    }
}

/// Delayed message 1 moves while its time comes: a sweep, and a receiver.
fn move_sweep_and_claim(step: Move) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    {
        let pin = hand.pin();
        let entrance = entrance(0, Some(LATER));
        let reserved = reserve_copy(&hand, &entrance, &pin);
        hand.partition.publish_reserved(reserved, &entrance, &pin);
    }
    hand.send(2);
    let other = hand.receive().expect("just sent");
    hand.delete(&other).expect("deleted");
    let next = hand.grow(segment);
    let mover = thread::spawn({
        let hand = stage.hand();
        move || {
            let moved = step(&hand, segment);
            hand.is_retired(segment);
            moved
        }
    });
    let sweeper = thread::spawn({
        let hand = stage.hand_at(LATER);
        move || hand.sweep(segment, LATER).ripe
    });
    let here = stage.hand_at(LATER).receive();
    let moved = mover.join().unwrap();
    let ripe = sweeper.join().unwrap();

    // Nobody has told the copy's time but its mover. (I5)
    hand.sweep(next, LATER);
    let mut all = Vec::from_iter(here);
    all.extend(stage.drain());
    assert_received(&all, &[1]);
    assert_eq!(all[0].receives, 1);
    assert_eq!(ripe, u32::from(!moved), "ripe in the old place, though moved");
    hand.delete(&all[0]).expect("deleted");
    assert_eq!(segment.phase(0), Phase::Dead);
    assert_eq!(hand.receive(), None);
    assert!(hand.is_retired(segment));
    match (moved, here.is_some()) {
        (true, false) => "moved",
        (false, true) => "ripe, received meanwhile",
        (false, false) => "ripe, received later",
        (true, true) => panic!("received before the copy's time"),
    }
}

#[test]
fn evacuation_delete_and_claim() {
    let outcomes = Outcomes::new(
        &[
            "moved, received there",
            "moved, received later",
            "deleted",
            "received",
        ],
        &[],
    );
    model("evacuation_delete_and_claim", 5372, {
        let outcomes = outcomes.clone();
        move || outcomes.record(move_delete_and_claim(MOVE_VISIBLE))
    });
    outcomes.assert_complete("evacuation_delete_and_claim");
}

#[test]
fn evacuation_of_a_delayed_message_and_its_time() {
    let outcomes = Outcomes::new(
        &["moved", "ripe, received meanwhile", "ripe, received later"],
        &[],
    );
    model("evacuation_of_a_delayed_message_and_its_time", 1524, {
        let outcomes = outcomes.clone();
        move || outcomes.record(move_sweep_and_claim(MOVE_DELAYED))
    });
    outcomes.assert_complete("evacuation_of_a_delayed_message_and_its_time");
}

#[test]
fn the_copy_is_published_before_the_token_is_taken() {
    twin(
        "the_copy_is_published_before_the_token_is_taken",
        "message 1 was received 2 times",
        || {
            move_delete_and_claim(|hand, segment| {
                let pin = hand.begin();
                let state = segment.slot(0).state();
                if !state.is(Phase::Visible) {
                    return false;
                }
                let entrance = entrance(state.receives(), None);
                let copy = reserve_copy(hand, &entrance, &pin);
                hand.partition.publish_reserved(copy, &entrance, &pin);
                if segment.take_one(0) {
                    let slot = segment.slot(0);
                    slot.store(slot.state_in_hand().discard().expect("visible").next);
                    hand.partition.after(segment.bury(1), &segment, &pin);
                }
                true
            });
        },
    );
}

#[test]
fn a_survivor_is_killed_where_it_was_and_not_published() {
    twin(
        "a_survivor_is_killed_where_it_was_and_not_published",
        "message 1 was lost",
        || {
            move_delete_and_claim(|hand, segment| {
                let pin = hand.begin();
                let taken = segment.take_one(0);
                if taken {
                    let slot = segment.slot(0);
                    let copy = reserve_copy(hand, &entrance(1, None), &pin);
                    hand.partition.abandon_reserved(copy, &pin);
                    slot.store(slot.state_in_hand().discard().expect("visible").next);
                    hand.partition.after(segment.bury(1), &segment, &pin);
                }
                taken
            });
        },
    );
}

/// A delayed message's move written out: whether its copy is published before it is dead where it was, and whether its death is
/// a compare-and-swap.
fn move_delayed_by(hand: &Hand, segment: Held, copy_first: bool, by_store: bool) -> bool {
    let pin = hand.begin();
    let slot = segment.slot(0);
    let state = slot.state();
    if !state.is(Phase::Delayed) {
        return false;
    }
    let entrance = entrance(0, Some(state.due()));
    let copy = reserve_copy(hand, &entrance, &pin);
    if copy_first {
        hand.partition.publish_reserved(copy, &entrance, &pin);
    }
    let next = state.discard().expect("delayed").next;
    let killed = if by_store {
        slot.store(next);
        true
    } else {
        slot.swap_state(state, next).is_ok()
    };
    if killed {
        hand.partition.after(segment.bury(1), &segment, &pin);
        if !copy_first {
            hand.partition.publish_reserved(copy, &entrance, &pin);
        }
    } else if !copy_first {
        hand.partition.abandon_reserved(copy, &pin);
    }
    killed
}

/// The handwritten move that the twins share is itself sound.
#[test]
fn evacuation_step_by_step() {
    model("evacuation_step_by_step", 993, || {
        move_sweep_and_claim(|hand, segment| move_delayed_by(hand, segment, false, false));
    });
}

#[test]
fn the_copy_of_a_delayed_message_is_published_first() {
    twin(
        "the_copy_of_a_delayed_message_is_published_first",
        "message 1 was received 2 times",
        || {
            move_sweep_and_claim(|hand, segment| move_delayed_by(hand, segment, true, false));
        },
    );
}

#[test]
fn a_delayed_message_is_killed_by_a_store() {
    // A sweep has made it visible meanwhile, and somebody has received it.
    twin(
        "a_delayed_message_is_killed_by_a_store",
        "message 1 was received 2 times",
        || {
            move_sweep_and_claim(|hand, segment| move_delayed_by(hand, segment, false, true));
        },
    );
}

/// Receives a message that has been received as often as it may be, and decides about it.
fn receive_letter(hand: &Hand, decide: impl FnOnce(Aside<'_>, &Pin<'_>)) -> bool {
    let pin = hand.begin();
    let reading = hand.reading();
    let terms = Terms {
        max_receives: 1,
        ..hand.terms(&reading)
    };
    let mut one = One {
        claim: None,
        aside: None,
    };
    hand.partition.claim(1, &terms, &pin, &mut one);
    assert!(one.claim.is_none(), "delivered once too often");
    let Some(aside) = one.aside else { return false };
    assert_eq!(aside.why, Special::TooOften);
    decide(aside, &pin);
    true
}

/// How a dead letter moves from the one partition to the other: its hands in both, and the message, whose token it has.
type Bury = fn(&Hand, &Hand, Aside<'_>, &Pin<'_>);

/// As `Queue::bury_letter` does it.
const BURY: Bury = |source, target, aside, pin| {
    let entrance = entrance(aside.segment.slot(aside.slot).state_in_hand().receives(), None);
    let there = target.pin();
    let copy = reserve_copy(target, &entrance, &there);
    target.partition.publish_reserved(copy, &entrance, &there);
    source.partition.discard_aside(aside, pin);
};

/// Message 1 is received once too often, deleted by its old handle, and received where it goes, by a thread each.
fn dead_letter(bury: Bury) -> &'static str {
    let (stage, target) = (Stage::new(), Stage::new());
    let (segment, lease) = visible_again(&stage);
    let receiver = thread::spawn({
        let (hand, there) = (stage.hand(), target.hand());
        move || {
            let moved = receive_letter(&hand, |aside, pin| bury(&hand, &there, aside, pin));
            hand.is_retired(segment);
            moved
        }
    });
    let deleter = thread::spawn({
        let hand = stage.hand();
        move || hand.delete(&lease).is_ok()
    });
    let there = target.hand().receive();
    let moved = receiver.join().unwrap();
    let deleted = deleter.join().unwrap();

    let mut all = Vec::from_iter(there);
    all.extend(target.drain());
    all.extend(stage.drain());
    assert_received(&all, if deleted { &[] } else { &[1] });
    assert_eq!(moved, !deleted);
    let hand = stage.hand();
    assert_eq!(hand.receive(), None);
    assert_eq!(segment.phase(0), Phase::Dead);
    assert!(hand.is_retired(segment));
    match (deleted, there) {
        (true, _) => "deleted",
        (false, Some(lease)) => {
            assert_eq!(lease.receives, 2);
            "moved, received meanwhile"
        }
        (false, None) => "moved",
    }
}

/// How a dead letter is put off that has nowhere to go.
type PutOff = fn(&Hand, Aside<'_>, &Pin<'_>);

const PUT_OFF: PutOff = |hand, aside, _| hand.partition.put_aside_off(aside, 0, &hand.reading());

/// The other partition has no room: message 1 is put off, while it is deleted by its old handle and a sweep comes by.
fn no_room(put_off: PutOff) -> &'static str {
    let stage = Stage::new();
    let (segment, lease) = visible_again(&stage);
    let receiver = thread::spawn({
        let hand = stage.hand();
        move || receive_letter(&hand, |aside, pin| put_off(&hand, aside, pin))
    });
    let deleter = thread::spawn({
        let hand = stage.hand();
        move || hand.delete(&lease).is_ok()
    });
    let hand = stage.hand_at(LATER);
    let ripe = hand.sweep(segment, LATER).ripe;
    let put = receiver.join().unwrap();
    let deleted = deleter.join().unwrap();

    // What the sweep has not met is due now, and the alarm says so. (I5)
    hand.sweep(segment, LATER);
    let rest = stage.drain();
    assert_received(&rest, if deleted { &[] } else { &[1] });
    assert!(put || deleted);
    if let Some(last) = rest.first() {
        assert_eq!(last.receives, 2);
        hand.delete(last).expect("deleted");
    }
    assert_eq!(hand.receive(), None);
    assert_eq!(segment.phase(0), Phase::Dead);
    assert!(hand.is_retired(segment));
    match (put, deleted, ripe) {
        (false, ..) => "deleted",
        (_, true, 0) => "put off, deleted",
        (_, true, _) => "put off, ripe, deleted",
        (_, false, 0) => "put off",
        (_, false, _) => "put off, ripe",
    }
}

#[test]
fn dead_letter_delete_and_claim() {
    let outcomes = Outcomes::new(&["deleted", "moved", "moved, received meanwhile"], &[]);
    model("dead_letter_delete_and_claim", 771, {
        let outcomes = outcomes.clone();
        move || outcomes.record(dead_letter(BURY))
    });
    outcomes.assert_complete("dead_letter_delete_and_claim");
}

#[test]
fn dead_letter_without_room() {
    let outcomes = Outcomes::new(
        &[
            "deleted",
            "put off",
            "put off, ripe",
            "put off, deleted",
            "put off, ripe, deleted",
        ],
        &[],
    );
    model("dead_letter_without_room", 585, {
        let outcomes = outcomes.clone();
        move || outcomes.record(no_room(PUT_OFF))
    });
    outcomes.assert_complete("dead_letter_without_room");
}

#[test]
fn a_letter_is_given_back_before_it_is_killed() {
    // The old handle deletes what has moved already.
    twin(
        "a_letter_is_given_back_before_it_is_killed",
        "received [1]",
        || {
            dead_letter(|source, target, aside, pin| {
                let entrance = entrance(1, None);
                let there = target.pin();
                let copy = reserve_copy(target, &entrance, &there);
                target.partition.publish_reserved(copy, &entrance, &there);
                source.partition.give_aside_back(aside, pin);
                if aside.segment.take_one(aside.slot as usize) {
                    source.partition.discard_aside(aside, pin);
                }
            });
        },
    );
}

#[test]
fn a_letter_is_killed_without_a_copy() {
    twin("a_letter_is_killed_without_a_copy", "message 1 was lost", || {
        dead_letter(|source, target, aside, pin| {
            let there = target.pin();
            let copy = reserve_copy(target, &entrance(1, None), &there);
            source.partition.discard_aside(aside, pin);
            target.partition.abandon_reserved(copy, &there);
        });
    });
}

#[test]
fn a_letter_is_put_off_without_an_alarm() {
    twin(
        "a_letter_is_put_off_without_an_alarm",
        "message 1 was lost",
        || {
            no_room(|_, aside, _| {
                let slot = aside.segment.slot(aside.slot);
                slot.store(slot.state_in_hand().put_off(LATER).expect("visible").next);
            });
        },
    );
}

#[test]
fn a_letter_is_put_off_after_the_alarm() {
    twin(
        "a_letter_is_put_off_after_the_alarm",
        "message 1 was lost",
        || {
            no_room(|hand, aside, _| {
                let slot = aside.segment.slot(aside.slot);
                let state = slot.state_in_hand();
                hand.partition.set_alarm(aside.segment, LATER);
                slot.store(state.put_off(LATER).expect("visible").next);
            });
        },
    );
}

#[test]
fn a_letter_is_put_off_with_its_token_given_back() {
    // The old handle deletes it in between, and what was deleted comes back.
    twin(
        "a_letter_is_put_off_with_its_token_given_back",
        "received [1]",
        || {
            no_room(|hand, aside, pin| {
                hand.partition.give_aside_back(aside, pin);
                hand.partition.put_aside_off(aside, 0, &hand.reading());
            });
        },
    );
}

/// Message 1 is moved by a thread that stops, and somebody looks at what there is, as `peek` does: it is to be seen here or there.
/// Whether the thread was stopped.
fn moved_and_looked_at(accesses: usize, step: Move) -> bool {
    let stage = Stage::new();
    let (segment, _) = visible_again(&stage);
    let hand = stage.hand();
    let next = hand.next(segment);
    let mover = thread::spawn({
        let hand = stage.hand();
        move || stop::after(accesses, || step(&hand, segment)).is_none()
    });
    let stopped = mover.join().unwrap();
    let is_there = |held: Held| (0..held.slots.len()).any(|slot| held.phase(slot) == Phase::Visible);
    assert!(is_there(segment) || is_there(next), "the message is nowhere");
    stopped
}

#[test]
fn whoever_moves_a_message_stops() {
    stops("whoever_moves_a_message_stops", 20, |accesses| {
        moved_and_looked_at(accesses, MOVE_VISIBLE)
    });
}

/// First the death, as of a delayed message, which nobody sees.
#[test]
fn a_visible_message_dies_before_its_copy_is_there() {
    stops_twin(
        "a_visible_message_dies_before_its_copy_is_there",
        "the message is nowhere",
        |accesses| {
            moved_and_looked_at(accesses, |hand, segment| {
                let pin = hand.begin();
                assert!(segment.take_one(0));
                let slot = segment.slot(0);
                let state = slot.state_in_hand();
                let entrance = entrance(state.receives(), None);
                let reserved = reserve_copy(hand, &entrance, &pin);
                slot.store(state.discard().expect("visible").next);
                hand.partition.publish_reserved(reserved, &entrance, &pin);
                hand.partition.after(segment.bury(1), &segment, &pin);
                true
            })
        },
    );
}
