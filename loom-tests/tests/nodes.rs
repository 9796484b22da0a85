//! Nodes of `returned` under those who walk along them, take them off late, or wait for one. (H6, H8; I4, I6)
//!
//! loom knows when an atomic was made, so a node that is looked at before it is seen as made is a race.
#![cfg(loom)]

mod stage;

use epoq::{
    ledger::{
        lease::{Aside, Special},
        returned::Returned,
    },
    sync::{Arc, Ordering},
    wait::Waiters,
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Held, LATER, Stage};

/// A stage with nodes of these tokens on `returned`. The segment's holds are not theirs: nothing is retired here.
fn with_nodes(tokens: &[u64]) -> (Stage, Hand, Held) {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    for &tokens in tokens {
        push(&hand, segment, tokens);
    }
    (stage, hand, segment)
}

fn push(hand: &Hand, segment: Held, tokens: u64) {
    hand.partition.returned.push(&segment, 0, tokens, &hand.begin());
}

/// Takes the front off, if it is still the front by then.
fn pop(hand: &Hand) -> Option<u64> {
    let pin = hand.begin();
    let front = hand.partition.returned.peek(&pin)?;
    let tokens = front.tokens.load(Ordering::Acquire);
    hand.partition.returned.pop(front, &pin).then_some(tokens)
}

/// Takes all off, and demands that the tail is where the head is then.
fn pop_all(hand: &Hand) -> usize {
    let count = std::iter::from_fn(|| pop(hand)).count();
    let returned = &hand.partition.returned;
    let (head, tail) = (
        returned.head.load(Ordering::Acquire),
        returned.tail.load(Ordering::Acquire),
    );
    assert_eq!(head, tail, "empty, but the tail is elsewhere");
    count
}

type Walk = fn(&Returned, &Hand) -> u64;

/// One node, another one is pushed, and somebody walks along.
fn walked(walk: Walk) -> &'static str {
    let (stage, hand, segment) = with_nodes(&[1]);
    let pusher = thread::spawn({
        let hand = stage.hand();
        move || push(&hand, segment, 2)
    });
    let tokens = walk(&hand.partition.returned, &hand);
    pusher.join().unwrap();
    match tokens {
        1 => "one",
        3 => "both",
        other => panic!("tokens {other}"),
    }
}

#[test]
fn a_walk_and_a_push() {
    let outcomes = Outcomes::new(&["one", "both"], &[]);
    model("a_walk_and_a_push", 10, {
        let outcomes = outcomes.clone();
        move || {
            outcomes.record(walked(|returned, hand| {
                let pin = hand.begin();
                let tokens = returned
                    .nodes(&pin)
                    .map(|node| node.tokens.load(Ordering::Relaxed));
                tokens.sum()
            }))
        }
    });
    outcomes.assert_complete("a_walk_and_a_push");
}

/// One takes the node off that another one sees at the front, and the one behind it too.
#[test]
fn a_pop_that_comes_late() {
    model("a_pop_that_comes_late", 63, || {
        let (stage, hand, segment) = with_nodes(&[1]);
        let other = thread::spawn({
            let hand = stage.hand();
            move || {
                push(&hand, segment, 2);
                usize::from(pop(&hand).is_some()) + usize::from(pop(&hand).is_some())
            }
        });
        let here = usize::from(pop(&hand).is_some());
        let there = other.join().unwrap();
        assert_eq!(here + there + pop_all(&hand), 2);
    });
}

#[test]
fn two_pops_of_two_nodes() {
    model("two_pops_of_two_nodes", 27, || {
        let (stage, hand, _) = with_nodes(&[1, 2]);
        let other = thread::spawn({
            let hand = stage.hand();
            move || usize::from(pop(&hand).is_some())
        });
        let here = usize::from(pop(&hand).is_some());
        let there = other.join().unwrap();
        assert_eq!(here + there + pop_all(&hand), 2);
    });
}

/// A tail that a helper has swung.
#[test]
fn three_pushes() {
    model("three_pushes", 914, || {
        let (stage, hand, segment) = with_nodes(&[]);
        let pushers = [1, 2].map(|tokens| {
            let hand = stage.hand();
            thread::spawn(move || push(&hand, segment, tokens))
        });
        push(&hand, segment, 4);
        for pusher in pushers {
            pusher.join().unwrap();
        }
        assert_eq!(pop_all(&hand), 3);
    });
}

/// A sealed segment that the head has passed, in which message 1 has come back. `returned` names it.
fn passed_with_one(stage: &Stage) -> Held {
    let hand = stage.hand();
    let segment = hand.first();
    hand.send(1);
    hand.send(2);
    let leases = [(); 2].map(|()| hand.receive().expect("just sent"));
    hand.grow(segment);
    hand.delete(&leases[1]).expect("deleted");
    assert_eq!(hand.receive(), None);
    assert!(!segment.is(hand.first().as_ptr()));
    hand.release(&leases[0]);
    segment
}

type TakeNamed = fn(&Hand) -> bool;

/// Takes what is named, as a receive from a FIFO queue does, and does away with the message.
const TAKE_NAMED: TakeNamed = |hand| {
    let pin = hand.begin();
    let Some((segment, slot)) = hand.partition.take_named(&pin) else {
        return false;
    };
    let aside = Aside {
        segment,
        slot,
        why: Special::Lapsed,
    };
    hand.partition.discard_aside(aside, &pin);
    true
};

fn assert_over(stage: &Stage, segment: Held) {
    let hand = stage.hand_at(LATER);
    hand.tidy(usize::MAX);
    assert!(stage.partition.returned.is_empty(&hand.pin()));
    assert_eq!(segment.live(), 0, "live");
    assert!(hand.is_retired(segment));
    assert_eq!(stage.segments_retired(), 1, "segments retired");
}

/// Two take what one node names.
fn two_take(take: TakeNamed) -> &'static str {
    let stage = Stage::new();
    let segment = passed_with_one(&stage);
    let other = thread::spawn({
        let hand = stage.hand();
        move || take(&hand)
    });
    let here = take(&stage.hand());
    let there = other.join().unwrap();
    assert!(here != there, "taken by one of them");
    assert_over(&stage, segment);
    if here { "here" } else { "there" }
}

/// A node goes to the back while somebody takes what it names.
fn turned_and_taken(turn: fn(&Hand)) {
    let stage = Stage::new();
    let segment = passed_with_one(&stage);
    let taker = thread::spawn({
        let hand = stage.hand();
        move || TAKE_NAMED(&hand)
    });
    turn(&stage.hand());
    assert!(taker.join().unwrap(), "a message is hidden: no node names it");
    assert_over(&stage, segment);
}

#[test]
fn two_take_what_is_named() {
    let outcomes = Outcomes::new(&["here", "there"], &[]);
    model("two_take_what_is_named", 130, {
        let outcomes = outcomes.clone();
        move || outcomes.record(two_take(TAKE_NAMED))
    });
    outcomes.assert_complete("two_take_what_is_named");
}

#[test]
fn a_node_is_turned_and_its_message_taken() {
    model("a_node_is_turned_and_its_message_taken", 250, || {
        turned_and_taken(|hand| hand.partition.turn_front(1, &hand.begin()));
    });
}

/// As a tidying goes on: whoever finds the names of the first node struck looks at the next one.
#[test]
fn a_node_is_turned_and_the_front_tidied() {
    model("a_node_is_turned_and_the_front_tidied", 498, || {
        let stage = Stage::new();
        let segment = passed_with_one(&stage);
        let tidier = thread::spawn({
            let hand = stage.hand();
            move || {
                hand.tidy(2);
                TAKE_NAMED(&hand)
            }
        });
        let hand = stage.hand();
        hand.partition.turn_returned(1, &hand.begin());
        hand.partition.turn_front(1, &hand.begin());
        assert!(tidier.join().unwrap(), "a message is hidden: no node names it");
        assert_over(&stage, segment);
    });
}

/// A message is published in a segment that the head has passed, while somebody goes to sleep.
fn brought_back_and_a_waiter(publish: fn(&Hand, &Waiters, Held, usize)) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    let slot = hand.reserve(segment, 1);
    hand.send(2);
    let second = hand.receive().expect("just sent");
    hand.delete(&second).expect("deleted");
    hand.grow(segment);
    assert_eq!(hand.receive(), None);
    assert!(!segment.is(hand.first().as_ptr()));
    let waiters = Arc::new(Waiters::default());
    let waiter = thread::spawn({
        let (hand, waiters) = (stage.hand(), Arc::clone(&waiters));
        move || {
            let mut waiting = waiters.enter();
            let mut slept = false;
            // Progress: each turn but the last sleeps until it is woken, and one message comes.
            loop {
                waiting.listen();
                if hand.receive_returned().is_some() {
                    return slept;
                }
                slept = true;
                waiting.take_listener().expect("listening").wait();
            }
        }
    });
    publish(&hand, &waiters, segment, slot);
    if waiter.join().unwrap() {
        "slept"
    } else {
        "found at once"
    }
}

#[test]
fn a_word_brought_back_and_a_waiter() {
    let outcomes = Outcomes::new(&["slept", "found at once"], &[]);
    model("a_word_brought_back_and_a_waiter", 40, {
        let outcomes = outcomes.clone();
        move || {
            outcomes.record(brought_back_and_a_waiter(|hand, waiters, segment, slot| {
                hand.publish(segment, slot);
                waiters.wake(1);
            }))
        }
    });
    outcomes.assert_complete("a_word_brought_back_and_a_waiter");
}

/// Walks along links without acquiring what they lead to.
#[test]
fn links_are_followed_relaxed() {
    twin("links_are_followed_relaxed", "Causality violation", || {
        walked(|returned, hand| {
            let pin = hand.begin();
            let front = returned.peek(&pin).expect("a node");
            let next = front.next.load(Ordering::Relaxed);
            // SAFETY: nothing is freed while the threads run.
            let next = unsafe { next.as_ref() };
            1 + next.map_or(0, |next| next.tokens.load(Ordering::Relaxed))
        });
    });
}

/// Strikes the names first.
#[test]
fn a_turned_node_leaves_the_front_before_it_is_at_the_back() {
    twin(
        "a_turned_node_leaves_the_front_before_it_is_at_the_back",
        "a message is hidden",
        || {
            turned_and_taken(|hand| {
                let pin = hand.begin();
                let Some(node) = hand.partition.returned.peek(&pin) else {
                    return;
                };
                let segment = node.segment(&pin);
                let named = node.tokens.fetch_and(0, Ordering::AcqRel);
                if hand.partition.returned.pop(node, &pin) {
                    hand.partition.after(segment.bury(1), segment, &pin);
                }
                if named != 0 {
                    hand.partition.bring_back(segment, node.word, named, &pin);
                }
            });
        },
    );
}

/// Looks for waiters before the node is there.
#[test]
fn a_waiter_is_looked_for_before_the_node_is_there() {
    twin(
        "a_waiter_is_looked_for_before_the_node_is_there",
        "deadlock",
        || {
            brought_back_and_a_waiter(|hand, waiters, segment, slot| {
                let pin = hand.begin();
                let passed = segment.publish(slot, 1);
                waiters.wake(1);
                if passed {
                    hand.partition.bring_back(&segment, slot, 1, &pin);
                }
            });
        },
    );
}
