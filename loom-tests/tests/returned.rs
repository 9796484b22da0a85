//! The queue of returned words by itself: pushers and poppers. (H6; I4, I6)
//!
//! A Michael-Scott queue: a node is linked behind the last one by a CAS on its `next`, the tail follows and is helped. Its
//! front stays in place as the new dummy, the old dummy is retired once head and tail are past it.
#![cfg(loom)]

mod stage;

use epoq::{
    ledger::{
        reclaim::Pin,
        returned::{Node, Returned},
    },
    sync::Ordering,
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Held, Stage};

type Pop = fn(&Returned, &Node, &Pin<'_>) -> bool;
type Push = fn(&Returned, Held, u64, &Pin<'_>);

const POP: Pop = |returned, front, pin| returned.pop(front, pin);
const PUSH: Push = |returned, segment, tokens, pin| returned.push(&segment, 0, tokens, pin);

/// Takes the front node off, if there is one, and tells its tokens, which name it.
fn take(hand: &Hand, pop: Pop) -> Option<u64> {
    let pin = hand.begin();
    let returned = &hand.partition.returned;
    let dummy = returned.head.load(Ordering::Acquire);
    let front = returned.peek(&pin)?;
    let tokens = front.tokens.load(Ordering::Acquire);
    let popped = pop(returned, front, &pin);
    if popped {
        // The old dummy is retired; no root leads to it any more. (A stale look cannot be: we moved the head past it.)
        let tail = returned.tail.load(Ordering::Acquire);
        assert!(tail != dummy, "retired while reachable from the tail of returned");
    }
    popped.then_some(tokens)
}

fn put(hand: &Hand, segment: Held, tokens: u64, push: Push) {
    let pin = hand.begin();
    push(&hand.partition.returned, segment, tokens, &pin);
}

/// What is left, taken one by one, with what was taken before: each node once.
fn assert_each_once(stage: &Stage, mut taken: Vec<u64>, expected: &[u64]) {
    let hand = stage.hand();
    while let Some(tokens) = take(&hand, POP) {
        taken.push(tokens);
    }
    taken.sort_unstable();
    for node in expected {
        let times = taken.iter().filter(|&other| other == node).count();
        assert!(times > 0, "node {node} was lost");
        assert!(times == 1, "node {node} was taken {times} times");
    }
    let returned = &stage.partition.returned;
    let (head, tail) = (
        returned.head.load(Ordering::Acquire),
        returned.tail.load(Ordering::Acquire),
    );
    assert_eq!(head, tail, "empty, but the tail is elsewhere");
}

/// Two pushers and a popper.
fn two_pushers(push: Push, pop: Pop) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    let pushers = [1, 2].map(|tokens| {
        let hand = stage.hand();
        thread::spawn(move || put(&hand, segment, tokens, push))
    });
    let mut taken = Vec::new();
    for _ in 0..2 {
        taken.extend(take(&hand, pop));
    }
    for pusher in pushers {
        pusher.join().unwrap();
    }
    let during = taken.len();
    assert_each_once(&stage, taken, &[1, 2]);
    ["none", "one", "both"][during]
}

/// Two poppers at one node, and a pusher of another.
fn two_poppers(pop: Pop) {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    put(&hand, segment, 1, PUSH);
    let pusher = thread::spawn({
        let hand = stage.hand();
        move || put(&hand, segment, 2, PUSH)
    });
    let popper = thread::spawn({
        let hand = stage.hand();
        move || take(&hand, pop)
    });
    let here = take(&hand, pop);
    let there = popper.join().unwrap();
    pusher.join().unwrap();
    assert_each_once(&stage, here.into_iter().chain(there).collect(), &[1, 2]);
}

#[test]
fn two_pushers_and_a_popper() {
    let outcomes = Outcomes::new(&["none", "one", "both"], &[]);
    model("two_pushers_and_a_popper", 729, {
        let outcomes = outcomes.clone();
        move || outcomes.record(two_pushers(PUSH, POP))
    });
    outcomes.assert_complete("two_pushers_and_a_popper");
}

#[test]
fn two_poppers_and_a_pusher() {
    model("two_poppers_and_a_pusher", 741, || two_poppers(POP));
}

/// The head moves while the tail may still be behind.
fn pop_without_helping(returned: &Returned, front: &Node, _: &Pin<'_>) -> bool {
    let head = returned.head.load(Ordering::Acquire);
    let front = std::ptr::from_ref(front).cast_mut();
    // SAFETY: the graveyard frees nothing before the model is over.
    if unsafe { (*head).next.load(Ordering::Acquire) } != front {
        return false;
    }
    let moved = returned
        .head
        .compare_exchange(head, front, Ordering::Release, Ordering::Relaxed);
    moved.is_ok()
}

/// The head moves by a store.
fn pop_by_store(returned: &Returned, front: &Node, _: &Pin<'_>) -> bool {
    let head = returned.head.load(Ordering::Acquire);
    let front = std::ptr::from_ref(front).cast_mut();
    // SAFETY: as above.
    if unsafe { (*head).next.load(Ordering::Acquire) } != front {
        return false;
    }
    let _ = returned
        .tail
        .compare_exchange(head, front, Ordering::Release, Ordering::Relaxed);
    returned.head.store(front, Ordering::Release);
    true
}

/// The node is linked by a store.
fn push_by_store(returned: &Returned, segment: Held, tokens: u64, pin: &Pin<'_>) {
    let spare = Returned::new(
        epoq::ledger::reclaim::Domain::SHARED,
        epoq::sync::Arc::new(epoq::budget::Budget::new(1 << 20)),
    );
    spare.push(&segment, 0, tokens, pin);
    // SAFETY: no more than a way to make a node.
    let node = unsafe {
        (*spare.head.load(Ordering::Relaxed))
            .next
            .swap(std::ptr::null_mut(), Ordering::Relaxed)
    };
    loop {
        let tail = returned.tail.load(Ordering::Acquire);
        // SAFETY: the graveyard frees nothing before the model is over.
        let next = unsafe { &(*tail).next };
        let linked = next.load(Ordering::Acquire);
        if linked.is_null() {
            next.store(node, Ordering::Release);
            let _ = returned
                .tail
                .compare_exchange(tail, node, Ordering::Release, Ordering::Relaxed);
            return;
        }
        let _ = returned
            .tail
            .compare_exchange(tail, linked, Ordering::Release, Ordering::Relaxed);
    }
}

#[test]
fn a_node_is_popped_without_helping_the_tail() {
    twin(
        "a_node_is_popped_without_helping_the_tail",
        "retired while reachable from the tail of returned",
        || {
            two_pushers(PUSH, pop_without_helping);
        },
    );
}

#[test]
fn a_node_is_popped_by_a_store() {
    twin("a_node_is_popped_by_a_store", "was taken 2 times", || {
        two_poppers(pop_by_store)
    });
}

#[test]
fn a_node_is_linked_by_a_store() {
    twin("a_node_is_linked_by_a_store", "was lost", || {
        two_pushers(push_by_store, POP);
    });
}
