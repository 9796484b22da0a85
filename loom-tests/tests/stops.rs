//! A thread that stops for good, after any number of steps of what it does: it hides at most what it has itself reserved or
//! claimed, and keeps nobody from going on. (I10)
//!
//! Each model is explored anew for each access to an atomic after which the thread may stop. Another thread sends and receives
//! beside it; what is there is received when all leases are over.
#![cfg(loom)]

mod stage;

use epoq::{
    budget::steps,
    ledger::{
        returned::{Node, Returned},
        segment::TOKENS,
        tend::Chores,
    },
    sync::{AtomicPtr, AtomicU64, Ordering, stop},
};
use epoq_loom::{stops, stops_twin};
use loom::thread;
use stage::{
    Hand, Held, LAST, LATER, Lease, NOW, RETENTION_MS, Stage,
    fifo::Fifo,
};

/// The message that the other thread sends.
const OTHERS: u8 = 9;

/// What is there before, and what the thread that stops does.
#[derive(Clone, Copy)]
struct Act {
    /// Sends and receives what has to be there.
    prepare: fn(&Hand) -> Vec<Lease>,
    /// What the thread does that stops.
    act: fn(&Hand, &[Lease]),
    /// What the other one does besides sending and receiving.
    others: fn(&Hand, &[Lease]),
    /// The messages there are.
    messages: &'static [u8],
    /// How many of them are the thread's to hide: those it reserves, claims or ends.
    hides: usize,
}

const NOTHING: Act = Act {
    prepare: |_| Vec::new(),
    act: |_, _| (),
    others: |_, _| (),
    messages: &[],
    hides: 0,
};

/// Runs the act up to so many accesses, and receives all that is to be received. Whether the thread was stopped.
fn stop_after(accesses: usize, act: Act) -> bool {
    let stage = Stage::new();
    let hand = stage.hand();
    let leases = (act.prepare)(&hand);
    let stopping = thread::spawn({
        let (hand, leases) = (stage.hand(), leases.clone());
        move || stop::after(accesses, || (act.act)(&hand, &leases)).is_none()
    });
    let mut bodies = Vec::new();
    hand.send(OTHERS);
    (act.others)(&hand, &leases);
    let here = hand.receive().expect("there is a message in nobody's hand");
    hand.delete(&here).expect("its lease is running");
    bodies.push(here.body);
    let stopped = stopping.join().unwrap();

    let hand = stage.hand_at(LAST);
    // The hints of what is due are there, or the one who took them has stopped.
    for number in 0..stage.partition.index.numbers() {
        let mut swept = Default::default();
        stage
            .partition
            .sweep_segment(number, LAST, &mut swept, &hand.pin(), &mut |_| ());
    }
    while let Some(lease) = hand.receive() {
        bodies.push(lease.body);
        hand.delete(&lease).expect("its lease is running");
    }
    let hidden: Vec<u8> = act
        .messages
        .iter()
        .chain(&[OTHERS])
        .copied()
        .filter(|body| !bodies.contains(body))
        .collect();
    assert!(
        hidden.len() <= act.hides,
        "hidden by a thread that has stopped: {hidden:?}"
    );
    bodies.sort_unstable();
    let received = bodies.len();
    bodies.dedup();
    assert_eq!(bodies.len(), received, "received twice");
    stopped
}

fn send_three(hand: &Hand) {
    for body in 1..=3 {
        hand.send(body);
    }
}

/// Messages 1 and 2 are leased until `LATER`, in a segment that the head has passed; 3 is visible in the next one.
fn two_leased_behind_the_head(hand: &Hand) -> Vec<Lease> {
    send_three(hand);
    let mut leases: Vec<Lease> = (0..3).map(|_| hand.receive().expect("just sent")).collect();
    let third = leases.pop().expect("three");
    hand.release(&third);
    leases
}

#[test]
fn a_sender_stops() {
    stops("a_sender_stops", 10, |accesses| {
        let act = Act {
            act: |hand, _| hand.send(1),
            hides: 1,
            messages: &[1],
            ..NOTHING
        };
        stop_after(accesses, act)
    });
}

/// It goes on to the next segment, which it installs.
#[test]
fn a_sender_of_a_batch_stops() {
    stops("a_sender_of_a_batch_stops", 10, |accesses| {
        let act = Act {
            prepare: |hand| {
                hand.send(3);
                Vec::new()
            },
            act: |hand, _| hand.send_bodies(&[1, 2]),
            hides: 2,
            messages: &[1, 2, 3],
            ..NOTHING
        };
        stop_after(accesses, act)
    });
}

#[test]
fn a_receiver_stops() {
    stops("a_receiver_stops", 10, |accesses| {
        let act = Act {
            prepare: |hand| {
                send_three(hand);
                Vec::new()
            },
            act: |hand, _| {
                hand.receive();
            },
            hides: 1,
            messages: &[1, 2, 3],
            ..NOTHING
        };
        stop_after(accesses, act)
    });
}

/// The head's segment is used up: it moves the head, and claims in the next one.
#[test]
fn a_receiver_that_passes_stops() {
    stops("a_receiver_that_passes_stops", 10, |accesses| {
        let act = Act {
            prepare: |hand| {
                send_three(hand);
                (0..2).map(|_| hand.receive().expect("just sent")).collect()
            },
            act: |hand, _| {
                hand.receive();
            },
            hides: 1,
            messages: &[1, 2, 3],
            ..NOTHING
        };
        stop_after(accesses, act)
    });
}

#[test]
fn a_deleter_stops() {
    stops("a_deleter_stops", 10, |accesses| {
        let act = Act {
            prepare: two_leased_behind_the_head,
            act: |hand, leases| {
                hand.delete(&leases[0]).expect("its lease is running");
            },
            hides: 1,
            messages: &[1, 2, 3],
            ..NOTHING
        };
        stop_after(accesses, act)
    });
}

/// It brings its message back behind the head, and so does the other one.
#[test]
fn a_releaser_stops() {
    stops("a_releaser_stops", 10, |accesses| {
        let act = Act {
            prepare: two_leased_behind_the_head,
            act: |hand, leases| hand.release(&leases[0]),
            others: |hand, leases| hand.release(&leases[1]),
            hides: 1,
            messages: &[1, 2, 3],
        };
        stop_after(accesses, act)
    });
}

/// It has taken the hint of a segment: what is due there it has claimed.
#[test]
fn a_sweep_stops() {
    stops("a_sweep_stops", 10, |accesses| {
        let act = Act {
            prepare: two_leased_behind_the_head,
            act: |hand, leases| {
                let number = leases[0].place.number;
                let mut swept = Default::default();
                hand.partition
                    .sweep_segment(number, LATER, &mut swept, &hand.begin(), &mut |_| ());
            },
            hides: 2,
            messages: &[1, 2, 3],
            ..NOTHING
        };
        stop_after(accesses, act)
    });
}

/// Message 1 has come back to the head's segment, which is passed over.
fn one_came_back(hand: &Hand) -> Vec<Lease> {
    send_three(hand);
    let leases: Vec<Lease> = (0..2).map(|_| hand.receive().expect("just sent")).collect();
    hand.release(&leases[0]);
    leases
}

#[test]
fn a_passer_stops() {
    stops("a_passer_stops", 10, |accesses| {
        let act = Act {
            prepare: one_came_back,
            act: |hand, _| {
                let pin = hand.begin();
                let _passing = hand.partition.pass_over(&hand.first(), &pin);
            },
            others: |hand, _| {
                let pin = hand.begin();
                let _passing = hand.partition.pass_over(&hand.first(), &pin);
            },
            messages: &[1, 2, 3],
            hides: 0,
        };
        stop_after(accesses, act)
    });
}

#[test]
fn a_turner_of_the_returned_stops() {
    stops("a_turner_of_the_returned_stops", 10, |accesses| {
        let act = Act {
            prepare: |hand| {
                let leases = two_leased_behind_the_head(hand);
                leases.iter().for_each(|lease| hand.release(lease));
                leases
            },
            act: |hand, _| {
                let pin = hand.begin();
                hand.partition.turn_front(2, &pin);
            },
            messages: &[1, 2, 3],
            ..NOTHING
        };
        stop_after(accesses, act)
    });
}

#[test]
fn an_evacuation_stops() {
    stops("an_evacuation_stops", 10, |accesses| {
        let act = Act {
            prepare: |hand| {
                let leases = two_leased_behind_the_head(hand);
                leases.iter().for_each(|lease| hand.release(lease));
                leases
            },
            act: |hand, leases| {
                let chores = Chores {
                    retention_ms: RETENTION_MS,
                    id: &|_, _, _| [1; 16],
                };
                let pin = hand.begin();
                let segment = hand.partition.index.find(leases[0].place.number, &pin);
                let segment = segment.expect("there");
                if segment.take_one(0) {
                    let state = segment.slot(0).state_in_hand();
                    let moved = hand
                        .partition
                        .move_visible(segment, 0, state, &chores, NOW, &pin);
                    assert!(moved, "there is room");
                }
            },
            hides: 1,
            messages: &[1, 2, 3],
            ..NOTHING
        };
        stop_after(accesses, act)
    });
}

/// What a thread does in one message group that stops; another group goes on.
fn stop_in_a_group(accesses: usize, is_receiver: bool) -> bool {
    let mut fifo = Fifo::new();
    let groups = [fifo.group(0), fifo.group(0)];
    let hand = fifo.hand();
    hand.send_to(groups[0], 1);
    hand.send_to(groups[1], 2);
    let stopping = thread::spawn({
        let hand = fifo.hand();
        move || {
            let act = || {
                if is_receiver {
                    hand.receive_fifo(1);
                } else {
                    hand.send_to(groups[0], 3);
                }
            };
            stop::after(accesses, act).is_none()
        }
    });
    let here = hand.receive_fifo(1);
    let stopped = stopping.join().unwrap();
    let mut bodies: Vec<u8> = here.iter().map(|lease| lease.body).collect();
    for lease in &here {
        hand.delete_fifo(lease).expect("its lease is running");
    }
    bodies.extend(fifo.drain_at(NOW));
    let there = [1, 2].iter().filter(|body| bodies.contains(body)).count();
    // A receiver hides the group whose turn it has, a sender its own message.
    let expected = if is_receiver { 1 } else { 2 };
    assert!(
        there >= expected,
        "hidden by a thread that has stopped: {bodies:?} alone is received"
    );
    stopped
}

#[test]
fn a_sender_to_a_group_stops() {
    stops("a_sender_to_a_group_stops", 10, |accesses| {
        stop_in_a_group(accesses, false)
    });
}

#[test]
fn a_receiver_from_a_group_stops() {
    stops("a_receiver_from_a_group_stops", 10, |accesses| {
        stop_in_a_group(accesses, true)
    });
}

/// As `Returned::push`, by somebody who does not help: it waits until the tail is the last one.
fn push_and_wait(returned: &Returned, segment: Held, word: usize, tokens: u64) {
    let node = Box::into_raw(Box::new(Node {
        segment: segment.as_ptr(),
        word,
        tokens: AtomicU64::new(tokens),
        next: AtomicPtr::new(std::ptr::null_mut()),
    }));
    loop {
        let tail = returned.tail.load(Ordering::Acquire);
        // SAFETY: nothing is freed before the model is over.
        let next = unsafe { &(*tail).next };
        let linked = next.compare_exchange(std::ptr::null_mut(), node, Ordering::AcqRel, Ordering::Acquire);
        if linked.is_ok() {
            returned.tail.store(node, Ordering::Release);
            return;
        }
    }
}

fn release_and_wait(hand: &Hand, lease: &Lease) {
    let pin = hand.begin();
    let segment = hand.partition.index.find(lease.place.number, &pin).expect("there");
    let slot = segment.slot(lease.place.slot);
    let state = slot.state();
    let next = state.release(lease.receives, NOW).expect("its lease is running").next;
    slot.swap_state(state, next).expect("nobody else ends it");
    let word = lease.place.slot as usize;
    if segment.publish(word, 1) && segment.hold() {
        assert!(steps::take(&hand.partition.budget, size_of::<Node>()));
        let segment = Held::of(std::ptr::from_ref(segment).cast_mut());
        push_and_wait(&hand.partition.returned, segment, word, 1);
    }
}

#[test]
fn a_node_is_pushed_without_help() {
    stops_twin(
        "a_node_is_pushed_without_help",
        "exceeded maximum number of branches",
        |accesses| {
            let act = Act {
                prepare: two_leased_behind_the_head,
                act: |hand, leases| release_and_wait(hand, &leases[0]),
                others: |hand, leases| release_and_wait(hand, &leases[1]),
                hides: 1,
                messages: &[1, 2, 3],
            };
            stop_after(accesses, act)
        },
    );
}

/// As `Partition::pass_over`, where tokens are the affair of whoever sets the mark.
fn pass_over_by_the_first(hand: &Hand) {
    let pin = hand.begin();
    let segment = hand.first();
    let next = segment.header.next.load(Ordering::Acquire);
    for word in 0..segment.ready.len() {
        let before = segment.ready[word].fetch_or(!TOKENS, Ordering::AcqRel);
        if before & !TOKENS == 0 && before != 0 {
            hand.partition.bring_back(&segment, word, before, &pin);
        }
    }
    hand.partition.help_tail(&segment, next);
    let _passing = hand.move_head(segment, &pin);
}

#[test]
fn tokens_are_the_affair_of_a_passer_that_stops() {
    stops_twin(
        "tokens_are_the_affair_of_a_passer_that_stops",
        "hidden by a thread that has stopped: [1]",
        |accesses| {
            let act = Act {
                prepare: one_came_back,
                act: |hand, _| pass_over_by_the_first(hand),
                others: |hand, _| pass_over_by_the_first(hand),
                messages: &[1, 2, 3],
                hides: 0,
            };
            stop_after(accesses, act)
        },
    );
}
