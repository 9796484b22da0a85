//! Lines of tenants: messages that left the ready words to be called up later. (H6; I1, I2, I3, I6)
//!
//! The message's state says that it is in line, a node names it, and a mark says that the line may have nodes. Who calls it up
//! takes it out of that state by compare-and-swap, and holds its token then.
#![cfg(loom)]

mod stage;

use epoq::{
    clock::{Clock, ManualClock},
    config::BITS,
    ledger::{
        lease::DeletedFrom,
        state::{Phase, Transition},
        tenants::Tenants,
    },
    sync::{Arc, Event, Ordering},
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Held, NOW, Stage};

/// The one tenant there is.
const TENANT: u32 = 1;

type CallUp = fn(&Hand, &Tenants) -> Option<usize>;
type LineUp = fn(&Hand, &Tenants, Held, usize);

fn tenants(stage: &Stage) -> Arc<Tenants> {
    let hand = stage.hand();
    let clock = Clock::from(&ManualClock::new());
    let tenants = Tenants::new(
        [1, 2],
        0,
        clock,
        Arc::new(Event::new()),
        Arc::clone(&hand.partition.budget),
    );
    let pin = hand.pin();
    // Under loom the table has two places; which one it is depends on the key.
    let number = tenants.enter("tenant", NOW, &pin, |_| ()).expect("a place");
    assert_eq!(number, TENANT, "another key gives another place");
    drop(pin);
    Arc::new(tenants)
}

/// Takes a token, as the receive does that puts its message in line.
fn take(segment: Held, slot: usize) {
    assert!(segment.take_one(slot));
}

const LINE_UP: LineUp = |hand, tenants, segment, slot| {
    let pin = hand.begin();
    assert!(tenants.line_up(TENANT, &segment, slot as u32, &pin));
};

const CALL_UP: CallUp = |hand, tenants| {
    let pin = hand.begin();
    let (segment, slot) = tenants.call_up(TENANT, &pin, |segment| {
        hand.partition.after(segment.bury(1), segment, &pin);
    })?;
    assert_eq!(segment.slot(slot).state_in_hand().phase(), Phase::Visible);
    Some(slot as usize)
};

/// Calls up what the marks lead to.
fn call_up_marked(hand: &Hand, tenants: &Tenants, call_up: CallUp) -> Option<usize> {
    tenants.lined().next().and_then(|_| call_up(hand, tenants))
}

/// One message in line, another one joins it; the line is served until it seems to be empty.
fn joins(line_up: LineUp, call_up: CallUp) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let tenants = tenants(&stage);
    hand.send(0);
    hand.send(1);
    let segment = hand.first();
    take(segment, 0);
    take(segment, 1);
    LINE_UP(&hand, &tenants, segment, 0);
    let joiner = thread::spawn({
        let (hand, tenants) = (stage.hand(), Arc::clone(&tenants));
        move || line_up(&hand, &tenants, segment, 1)
    });
    let mut called = Vec::new();
    for _ in 0..2 {
        called.extend(call_up_marked(&hand, &tenants, call_up));
    }
    joiner.join().unwrap();
    let during = called.len();
    while let Some(slot) = call_up_marked(&hand, &tenants, CALL_UP) {
        called.push(slot);
    }
    assert!(called.contains(&1), "a message is in a line that nobody serves");
    assert_eq!(called, [0, 1]);
    ["none", "one", "both"][during]
}

/// Two serve a line with one message in it.
fn two_serve(call_up: CallUp) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let tenants = tenants(&stage);
    hand.send(0);
    let segment = hand.first();
    take(segment, 0);
    LINE_UP(&hand, &tenants, segment, 0);
    let before = segment.live();
    let other = thread::spawn({
        let (hand, tenants) = (stage.hand(), Arc::clone(&tenants));
        move || call_up(&hand, &tenants)
    });
    let here = call_up(&hand, &tenants);
    let there = other.join().unwrap();
    assert!(here.is_none() || there.is_none(), "called up twice");
    assert!(here.is_some() || there.is_some(), "called up by nobody");
    assert_eq!(segment.live(), before - 1, "the node's hold is dropped once");
    if here.is_some() { "here" } else { "there" }
}

/// A message in line, and a delete by the handle of its last lease.
fn served_and_deleted(call_up: CallUp) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let tenants = tenants(&stage);
    hand.send(0);
    let segment = hand.first();
    let lease = hand.receive().expect("a message");
    hand.partition
        .change_visibility(lease.place, lease.receives, 0, &hand.reading(), &hand.pin())
        .expect("running");
    take(segment, 0);
    LINE_UP(&hand, &tenants, segment, 0);
    let deleter = thread::spawn({
        let hand = stage.hand();
        move || hand.delete(&lease)
    });
    let called = call_up(&hand, &tenants);
    let deleted = deleter.join().unwrap();
    assert!(called.is_none() || deleted.is_err(), "deleted, and called up");
    assert!(
        called.is_some() || deleted == Ok(DeletedFrom::Visible),
        "in neither hand"
    );
    // Nothing is left but the list's hold, and the message if it is there.
    let unused = 1;
    assert_eq!(segment.live(), 1 + unused + u32::from(called.is_some()));
    if called.is_some() { "served" } else { "deleted" }
}

/// The last message of a passed segment goes in line, and is deleted by an old handle.
fn lined_up_and_deleted(line_up: LineUp) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let tenants = tenants(&stage);
    for body in 0..3 {
        hand.send(body);
    }
    let segment = hand.first();
    let leases: Vec<_> = (0..3).map(|_| hand.receive().expect("a message")).collect();
    for gone in &leases[1..] {
        hand.delete(gone).expect("there");
    }
    assert!(!segment.is(hand.first().as_ptr()), "passed");
    hand.partition
        .change_visibility(
            leases[0].place,
            leases[0].receives,
            0,
            &hand.reading(),
            &hand.pin(),
        )
        .expect("running");
    take(segment, 0);
    hand.partition.tidy_returned(2, &hand.pin());
    assert_eq!(segment.live(), 1, "the message alone");
    let deleter = thread::spawn({
        let (hand, lease) = (stage.hand(), leases[0]);
        move || hand.delete(&lease)
    });
    line_up(&hand, &tenants, segment, 0);
    let deleted = deleter.join().unwrap();
    let called = call_up_marked(&hand, &tenants, CALL_UP);
    assert!(called.is_none() || deleted.is_err(), "deleted, and called up");
    assert!(called.is_some() || deleted.is_ok(), "in neither hand");
    assert_eq!(segment.live(), u32::from(called.is_some()));
    if called.is_some() { "in line" } else { "deleted" }
}

#[test]
fn a_message_joins_a_line_that_runs_dry() {
    let outcomes = Outcomes::new(&["one", "both"], &[]);
    model("a_message_joins_a_line_that_runs_dry", 143, {
        let outcomes = outcomes.clone();
        move || outcomes.record(joins(LINE_UP, CALL_UP))
    });
    outcomes.assert_complete("a_message_joins_a_line_that_runs_dry");
}

#[test]
fn two_serve_one_line() {
    let outcomes = Outcomes::new(&["here", "there"], &[]);
    model("two_serve_one_line", 75, {
        let outcomes = outcomes.clone();
        move || outcomes.record(two_serve(CALL_UP))
    });
    outcomes.assert_complete("two_serve_one_line");
}

#[test]
fn a_line_served_and_a_delete_by_the_old_handle() {
    let outcomes = Outcomes::new(&["served", "deleted"], &[]);
    model("a_line_served_and_a_delete_by_the_old_handle", 19, {
        let outcomes = outcomes.clone();
        move || outcomes.record(served_and_deleted(CALL_UP))
    });
    outcomes.assert_complete("a_line_served_and_a_delete_by_the_old_handle");
}

#[test]
fn the_last_of_a_segment_lined_up_and_deleted() {
    let outcomes = Outcomes::new(&["in line", "deleted"], &[]);
    model("the_last_of_a_segment_lined_up_and_deleted", 13, {
        let outcomes = outcomes.clone();
        move || outcomes.record(lined_up_and_deleted(LINE_UP))
    });
    outcomes.assert_complete("the_last_of_a_segment_lined_up_and_deleted");
}

/// As `Tenants::line_up`, with the mark set before the node is there.
#[test]
fn the_mark_before_the_node() {
    twin("the_mark_before_the_node", "a line that nobody serves", || {
        joins(
            |hand, tenants, segment, slot| {
                let pin = hand.begin();
                assert!(segment.hold());
                let state = &segment.slots[slot];
                state.store(state.state_in_hand().line_up().expect("visible").next);
                tenants.mark(TENANT, true);
                let tenant = tenants.get(TENANT, &pin).expect("there");
                // A word has one token.
                tenant.line.push(&segment, slot, 1, &pin);
            },
            CALL_UP,
        );
    });
}

/// As `Tenants::call_up`, without a second look once the mark is cleared.
#[test]
fn a_mark_cleared_blindly() {
    twin("a_mark_cleared_blindly", "a line that nobody serves", || {
        joins(LINE_UP, |hand, tenants| {
            let pin = hand.begin();
            let line = &tenants.get(TENANT, &pin).expect("there").line;
            if line.is_empty(&pin) {
                tenants.mark(TENANT, false);
                return None;
            }
            drop(pin);
            CALL_UP(hand, tenants)
        });
    });
}

/// As `Tenants::call_up`, by a store.
const CALL_UP_BY_STORE: CallUp = |hand, tenants| {
    let pin = hand.begin();
    let line = &tenants.get(TENANT, &pin).expect("there").line;
    let node = line.peek(&pin)?;
    let segment = node.segment(&pin);
    let at = node.word * BITS + node.tokens.load(Ordering::Relaxed).trailing_zeros() as usize;
    let slot = &segment.slots[at];
    let won = slot.state().call_up().is_ok_and(|Transition { next, .. }| {
        slot.store(next);
        true
    });
    if line.pop(node, &pin) {
        hand.partition.after(segment.bury(1), segment, &pin);
    }
    won.then_some(at)
};

#[test]
fn called_up_by_a_store() {
    twin("called_up_by_a_store", "called up twice", || {
        two_serve(CALL_UP_BY_STORE);
    });
}

#[test]
fn called_up_by_a_store_while_deleted() {
    twin(
        "called_up_by_a_store_while_deleted",
        "deleted, and called up",
        || {
            served_and_deleted(CALL_UP_BY_STORE);
        },
    );
}

/// As `Tenants::line_up`, with the hold taken after the state.
#[test]
fn the_hold_after_the_state() {
    twin("the_hold_after_the_state", "no hold to be had", || {
        lined_up_and_deleted(|hand, tenants, segment, slot| {
            let pin = hand.begin();
            let state = &segment.slots[slot];
            state.store(state.state_in_hand().line_up().expect("visible").next);
            assert!(segment.hold(), "no hold to be had");
            let tenant = tenants.get(TENANT, &pin).expect("there");
            // A word has one token.
            tenant.line.push(&segment, slot, 1, &pin);
            tenants.mark(TENANT, true);
        });
    });
}
