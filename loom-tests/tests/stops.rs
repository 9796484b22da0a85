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
        state::Phase,
        tend::Chores,
    },
    sync::{AtomicPtr, AtomicU64, Ordering, stop},
};
use epoq_loom::{stops, stops_twin};
use loom::thread;
use stage::{
    Hand, Held, LAST, LATER, Lease, NOW, RETENTION_MS, Stage,
    fifo::{Fifo, HeldGroup},
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

/// Messages 1 and 2 have come back behind the head.
fn both_came_back(hand: &Hand) -> Vec<Lease> {
    let leases = two_leased_behind_the_head(hand);
    leases.iter().for_each(|lease| hand.release(lease));
    leases
}

#[test]
fn a_sender_stops() {
    stops("a_sender_stops", 69, |accesses| {
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
    stops("a_sender_of_a_batch_stops", 636, |accesses| {
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
    stops("a_receiver_stops", 122, |accesses| {
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
    stops("a_receiver_that_passes_stops", 6370, |accesses| {
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

/// By a handle whose message has come back: it takes the token for it.
#[test]
fn a_deleter_stops() {
    stops("a_deleter_stops", 47, |accesses| {
        let act = Act {
            prepare: both_came_back,
            act: |hand, leases| {
                let _deleted = hand.delete(&leases[0]);
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
    stops("a_releaser_stops", 903, |accesses| {
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
    stops("a_sweep_stops", 152, |accesses| {
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
    stops("a_passer_stops", 678, |accesses| {
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
    stops("a_turner_of_the_returned_stops", 1007, |accesses| {
        let act = Act {
            prepare: both_came_back,
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

/// Takes the tokens of these slots, and moves the first one's message.
fn evacuate(hand: &Hand, leases: &[Lease], slots: usize) {
    let chores = Chores {
        retention_ms: RETENTION_MS,
        id: &|_, _, _| [1; 16],
    };
    let pin = hand.begin();
    let segment = hand.partition.index.find(leases[0].place.number, &pin);
    let segment = segment.expect("there");
    let taken = [0, 1].map(|slot| slots & 1 << slot != 0 && segment.take_one(slot));
    if taken[0] {
        let state = segment.slot(0).state_in_hand();
        let moved = hand.partition.move_visible(segment, 0, state, &chores, NOW, &pin);
        assert!(moved, "there is room");
    }
    if taken[1] {
        hand.partition.publish_again(segment, 1, 1, &pin);
    }
}

#[test]
fn an_evacuation_stops() {
    stops("an_evacuation_stops", 1484, |accesses| {
        let act = Act {
            prepare: both_came_back,
            act: |hand, leases| evacuate(hand, leases, 0b01),
            hides: 1,
            messages: &[1, 2, 3],
            ..NOTHING
        };
        stop_after(accesses, act)
    });
}

/// What a thread does in one message group that stops; another group goes on.
fn stop_in_a_group(accesses: usize, act: fn(&Hand, HeldGroup), is_receiver: bool) -> bool {
    let mut fifo = Fifo::new();
    let groups = [fifo.group(0), fifo.group(0)];
    let hand = fifo.hand();
    hand.send_to(groups[0], 1);
    hand.send_to(groups[1], 2);
    let stopping = thread::spawn({
        let hand = fifo.hand();
        move || stop::after(accesses, || act(&hand, groups[0])).is_none()
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
    stops("a_sender_to_a_group_stops", 94, |accesses| {
        let act = |hand: &Hand, group| {
            hand.send_to(group, 3);
        };
        stop_in_a_group(accesses, act, false)
    });
}

#[test]
fn a_receiver_from_a_group_stops() {
    stops("a_receiver_from_a_group_stops", 99, |accesses| {
        let act = |hand: &Hand, _| {
            hand.receive_fifo(1);
        };
        stop_in_a_group(accesses, act, true)
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
    let segment = hand
        .partition
        .index
        .find(lease.place.number, &pin)
        .expect("there");
    let slot = segment.slot(lease.place.slot);
    let state = slot.state();
    let next = state
        .release(lease.receives, NOW)
        .expect("its lease is running")
        .next;
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

/// Sends once all that was sent before can be received: as one would who publishes by a counter.
fn send_in_turn(hand: &Hand, body: u8) {
    let segment = hand.first();
    let slot = hand.reserve(segment, body);
    while slot > 0 && segment.phase(slot - 1) == Phase::Empty {}
    hand.publish(segment, slot);
}

#[test]
fn a_sender_waits_for_the_one_before_it() {
    stops_twin(
        "a_sender_waits_for_the_one_before_it",
        "exceeded maximum number of branches",
        |accesses| {
            let stage = Stage::new();
            let hand = stage.hand();
            let stopping = thread::spawn({
                let hand = stage.hand();
                move || stop::after(accesses, || send_in_turn(&hand, 1)).is_none()
            });
            send_in_turn(&hand, OTHERS);
            let stopped = stopping.join().unwrap();
            assert!(stage.drain().iter().any(|lease| lease.body == OTHERS));
            stopped
        },
    );
}

/// Goes on from a sealed segment when whoever has installed the next one has moved the tail.
fn send_where_the_tail_is(hand: &Hand, body: u8) {
    let pin = hand.begin();
    let sealed = hand.first();
    let mine = hand.partition.fresh(&sealed, 0, NOW, &pin).expect("room");
    let next = &sealed.header.next;
    let installed = next.compare_exchange(
        std::ptr::null_mut(),
        mine.as_ptr(),
        Ordering::AcqRel,
        Ordering::Acquire,
    );
    match installed {
        Ok(_) => hand.partition.help_tail(&sealed, mine.as_ptr()),
        Err(_) => {
            // SAFETY: made just now, and in no list.
            hand.partition.retire(unsafe { mine.as_ref() }, &pin);
            while sealed.is(hand.partition.tail.load(Ordering::Acquire)) {}
        }
    }
    drop(pin);
    hand.send(body);
}

#[test]
fn the_tail_is_left_to_the_installer() {
    stops_twin(
        "the_tail_is_left_to_the_installer",
        "exceeded maximum number of branches",
        |accesses| {
            let stage = Stage::new();
            let hand = stage.hand();
            hand.send_bodies(&[3, 4]);
            let stopping = thread::spawn({
                let hand = stage.hand();
                move || stop::after(accesses, || send_where_the_tail_is(&hand, 1)).is_none()
            });
            send_where_the_tail_is(&hand, OTHERS);
            let stopped = stopping.join().unwrap();
            assert!(stage.drain().iter().any(|lease| lease.body == OTHERS));
            stopped
        },
    );
}

/// Takes all tokens of a segment, keeps the first one's message, and gives the others back.
fn take_more(hand: &Hand, segment: Held) {
    let pin = hand.begin();
    let taken = [0, 1].map(|word| segment.take(word, u64::MAX, 1) != 0);
    if let Some(mine) = taken.iter().position(|&taken| taken) {
        let slot = segment.slot(mine as u32);
        slot.store(slot.state_in_hand().claim(Some(LATER)).expect("visible").next);
        hand.partition.set_alarm(&segment, LATER);
        if mine == 0 && taken[1] {
            hand.partition.publish_again(&segment, 1, 1, &pin);
        }
    }
}

#[test]
fn a_receiver_takes_more_than_it_wants() {
    stops_twin(
        "a_receiver_takes_more_than_it_wants",
        "has stopped: [1, 2]",
        |accesses| {
            let act = Act {
                prepare: |hand| {
                    send_three(hand);
                    Vec::new()
                },
                act: |hand, _| take_more(hand, hand.first()),
                hides: 1,
                messages: &[1, 2, 3],
                ..NOTHING
            };
            stop_after(accesses, act)
        },
    );
}

#[test]
fn a_receiver_takes_from_two_segments_before_it_leases() {
    stops_twin(
        "a_receiver_takes_from_two_segments_before_it_leases",
        "hidden by a thread that has stopped",
        |accesses| {
            let act = Act {
                prepare: one_came_back,
                act: |hand, _| {
                    let tail = hand.partition.tail.load(Ordering::Acquire);
                    let segments = [hand.first(), Held::of(tail)];
                    let pin = hand.begin();
                    let taken = segments.map(|segment| segment.take(0, u64::MAX, 1) != 0);
                    for (segment, taken) in segments.into_iter().zip(taken) {
                        if taken {
                            hand.partition.publish_again(&segment, 0, 1, &pin);
                        }
                    }
                },
                hides: 1,
                messages: &[1, 2, 3],
                ..NOTHING
            };
            stop_after(accesses, act)
        },
    );
}

#[test]
fn a_delete_looks_through_all_tokens() {
    stops_twin(
        "a_delete_looks_through_all_tokens",
        "has stopped: [1, 2]",
        |accesses| {
            let act = Act {
                prepare: both_came_back,
                act: |hand, leases| {
                    let pin = hand.begin();
                    let segment = hand.partition.index.find(leases[0].place.number, &pin);
                    let segment = segment.expect("there");
                    let taken = [0, 1].map(|slot| segment.take_one(slot));
                    for (slot, taken) in taken.into_iter().enumerate() {
                        if taken {
                            hand.partition.publish_again(segment, slot, 1, &pin);
                        }
                    }
                },
                hides: 1,
                messages: &[1, 2, 3],
                ..NOTHING
            };
            stop_after(accesses, act)
        },
    );
}

/// As `Partition::sweep`, with all hints taken before the first segment is looked at.
#[test]
fn a_sweep_takes_all_hints_first() {
    stops_twin(
        "a_sweep_takes_all_hints_first",
        "has stopped: [1, 2, 3]",
        |accesses| {
            let act = Act {
                prepare: |hand| {
                    send_three(hand);
                    (0..3).map(|_| hand.receive().expect("just sent")).collect()
                },
                act: |hand, leases| {
                    let hints = [0, 2].map(|lease| {
                        let hint = hand.partition.index.hint(leases[lease].place.number);
                        hint.expect("a hint")
                    });
                    let taken = hints.map(|hint| hint.take());
                    hints.iter().zip(taken).for_each(|(hint, due)| hint.lower(due));
                },
                hides: 2,
                messages: &[1, 2, 3],
                ..NOTHING
            };
            stop_after(accesses, act)
        },
    );
}

#[test]
fn a_node_is_turned_off_the_front_first() {
    stops_twin(
        "a_node_is_turned_off_the_front_first",
        "hidden by a thread that has stopped",
        |accesses| {
            let act = Act {
                prepare: both_came_back,
                act: |hand, _| {
                    let pin = hand.begin();
                    let Some(node) = hand.partition.returned.peek(&pin) else {
                        return;
                    };
                    let segment = Held::of(node.segment.cast_mut());
                    let named = node.tokens.swap(0, Ordering::AcqRel);
                    if hand.partition.returned.pop(node, &pin) {
                        hand.partition.bring_back(&segment, node.word, named, &pin);
                        hand.partition.after(segment.bury(1), &segment, &pin);
                    }
                },
                messages: &[1, 2, 3],
                ..NOTHING
            };
            stop_after(accesses, act)
        },
    );
}

#[test]
fn an_evacuation_takes_all_survivors_first() {
    stops_twin(
        "an_evacuation_takes_all_survivors_first",
        "has stopped: [1, 2]",
        |accesses| {
            let act = Act {
                prepare: both_came_back,
                act: |hand, leases| evacuate(hand, leases, 0b11),
                hides: 1,
                messages: &[1, 2, 3],
                ..NOTHING
            };
            stop_after(accesses, act)
        },
    );
}

#[test]
fn a_sender_takes_its_groups_baton() {
    stops_twin(
        "a_sender_takes_its_groups_baton",
        "hidden by a thread that has stopped",
        |accesses| {
            let act = |hand: &Hand, group| {
                let pin = hand.begin();
                let baton = hand.partition.take_token(false, &pin);
                hand.send_to(group, 3);
                if let Some((segment, at)) = baton {
                    hand.partition.give_token_back(segment, at, &pin);
                }
            };
            stop_in_a_group(accesses, act, false)
        },
    );
}

#[test]
fn a_receiver_takes_two_batons() {
    stops_twin(
        "a_receiver_takes_two_batons",
        "hidden by a thread that has stopped",
        |accesses| {
            let act = |hand: &Hand, _| {
                let pin = hand.begin();
                let batons = [(); 2].map(|()| hand.partition.take_token(false, &pin));
                for (segment, at) in batons.into_iter().flatten() {
                    hand.partition.give_token_back(segment, at, &pin);
                }
            };
            stop_in_a_group(accesses, act, true)
        },
    );
}
