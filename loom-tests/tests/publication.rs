//! What one thread makes and another one finds: segments by `next`, tail, head and index, nodes, numbers. (I6, H3)
//!
//! loom knows when an atomic was made, and that looking at it before that is a race: so each finder looks into what it found.
#![cfg(loom)]

mod stage;

use epoq::{
    clock::Millis,
    config::SLOTS,
    extras::ExtrasDraft,
    ledger::{
        chunks::Chunks,
        group::laid::Laid,
        partition::{Draft, Entrance},
        segment::Segment,
    },
    sync::{Arc, AtomicU64, Ordering},
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Held, LATER, NOW, SENT, Stage, fifo::Fifo};

/// A segment whose slots are all taken.
fn sealed(stage: &Stage) -> Held {
    let hand = stage.hand();
    let segment = hand.first();
    let pin = hand.pin();
    for _ in 0..SLOTS {
        let reserved = hand
            .partition
            .reserve_one(Draft::Inline(&[0]), &entrance(), NOW, &pin);
        hand.partition.abandon_reserved(reserved.expect("room"), &pin);
    }
    segment
}

fn entrance() -> Entrance {
    Entrance {
        sent: SENT,
        delayed_until: None,
        receives: 0,
        first_received: None,
        is_grouped: false,
    }
}

/// Looks into a segment, as whoever found it does first.
fn look_into(segment: &Segment) {
    assert!(segment.reserved() <= SLOTS);
    assert_eq!(segment.tally.live.load(Ordering::Relaxed) as usize, SLOTS + 1);
    assert!(segment.header.next.load(Ordering::Relaxed).is_null());
}

/// How a sender takes a place at the tail.
type Append = fn(&Hand);

/// One installs the next segment and swings the tail; another one sends.
fn tail_swung(is_linked: bool, append: Append) {
    let stage = Stage::of(is_linked);
    let segment = sealed(&stage);
    let other = thread::spawn({
        let hand = stage.hand();
        move || {
            hand.partition
                .grow(&segment, 0, SENT, &hand.begin())
                .expect("room");
        }
    });
    append(&stage.hand());
    other.join().unwrap();
}

/// One installs the next segment, one moves the head there, one looks at the head.
fn head_moved(look: fn(&Hand) -> Held) {
    let stage = Stage::new();
    let segment = sealed(&stage);
    let grower = thread::spawn({
        let hand = stage.hand();
        move || {
            hand.partition
                .grow(&segment, 0, SENT, &hand.begin())
                .expect("room");
        }
    });
    let passer = thread::spawn({
        let hand = stage.hand();
        move || {
            let pin = hand.begin();
            let _ = hand.partition.pass(&segment, &pin);
        }
    });
    let found = look(&stage.hand());
    if !found.is(segment.as_ptr()) {
        look_into(&found);
    }
    grower.join().unwrap();
    passer.join().unwrap();
}

const LOOK: fn(&Hand) -> Held = |hand| {
    let pin = hand.begin();
    Held::of(std::ptr::from_ref(hand.partition.first(&pin)).cast_mut())
};

/// One enters a segment in the index, another one finds it there.
fn entered(find: fn(&Hand, u32) -> Option<Held>) -> &'static str {
    let stage = Stage::new();
    let first = sealed(&stage);
    let other = thread::spawn({
        let hand = stage.hand();
        move || {
            let fresh = hand.partition.fresh(&first, 0, SENT, &hand.begin());
            fresh.expect("room");
        }
    });
    let found = find(&stage.hand(), first.number() + 1);
    if let Some(found) = found {
        look_into(&found);
    }
    other.join().unwrap();
    if found.is_some() { "found" } else { "not yet" }
}

/// A number is given back, and taken for another segment.
fn number_given_back(give: fn(&Hand, u32)) -> &'static str {
    let stage = Stage::new();
    let segment = stage.hand().first();
    let number = segment.number();
    let giver = thread::spawn({
        let hand = stage.hand();
        move || {
            let _pin = hand.begin();
            give(&hand, number);
        }
    });
    let hand = stage.hand();
    let pin = hand.begin();
    let taken = hand.partition.index.take_number(&hand.partition.budget);
    if taken == Some(number) {
        hand.partition.index.enter(segment.as_ptr(), number);
    }
    giver.join().unwrap();
    if taken == Some(number) {
        let found = hand.partition.index.find(number, &pin);
        assert!(found.is_some(), "an entry was lost");
        "the same number"
    } else {
        hand.partition.index.enter(segment.as_ptr(), number);
        "another number"
    }
}

/// A table grows while somebody goes through it.
fn table_walked(walk: fn(&Chunks<AtomicU64>) -> u64) {
    let table = Arc::new(Chunks::<AtomicU64>::new());
    // As a hand counts its operations, so that they are tried in both orders.
    let operations = Arc::new(AtomicU64::new(0));
    let other = thread::spawn({
        let (table, operations) = (Arc::clone(&table), Arc::clone(&operations));
        move || {
            operations.fetch_add(1, Ordering::Relaxed);
            table.get_or_grow(2, |_| ()).expect("room");
        }
    });
    operations.fetch_add(1, Ordering::Relaxed);
    assert_eq!(walk(&table), 0);
    other.join().unwrap();
}

/// A lease is noted in its segment's hint and then in the partition's; whoever is called by the second sees the first.
fn called_by_the_partition(note: fn(&Hand, Held)) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    hand.send(1);
    hand.receive().expect("just sent");
    // As a sweep leaves both that has found nothing.
    segment.hint().take();
    stage
        .partition
        .sweep_at
        .store(LATER.as_millis() + 1, Ordering::Relaxed);
    let lessee = thread::spawn({
        let hand = stage.hand();
        move || {
            let _pin = hand.begin();
            note(&hand, segment);
        }
    });
    let pin = hand.begin();
    let called = stage.partition.is_sweep_due(LATER);
    let swept = stage.partition.sweep(LATER, 1, &pin, &mut |_| ());
    lessee.join().unwrap();
    if called {
        assert_eq!(swept.expired, 1, "called in vain");
        "called"
    } else {
        "not called"
    }
}

#[test]
fn tail_swung_and_a_batch() {
    model("tail_swung_and_a_batch", 168, || {
        tail_swung(false, |hand| hand.send_batch(1, &[1]))
    });
}

#[test]
fn tail_swung_and_a_send_with_extras() {
    model("tail_swung_and_a_send_with_extras", 168, || {
        tail_swung(false, |hand| {
            let pin = hand.begin();
            let reserved = hand
                .partition
                .reserve_extended(&[1], &ExtrasDraft::default(), SENT, &pin);
            hand.partition.abandon_reserved(reserved.expect("room"), &pin);
        })
    });
}

#[test]
fn tail_swung_and_a_message_that_moves_in() {
    model("tail_swung_and_a_message_that_moves_in", 168, || {
        tail_swung(false, |hand| {
            let pin = hand.begin();
            let reserved = hand
                .partition
                .reserve_one(Draft::Inline(&[1]), &entrance(), NOW, &pin);
            hand.partition.abandon_reserved(reserved.expect("room"), &pin);
        })
    });
}

#[test]
fn tail_swung_and_a_baton_laid_down() {
    model("tail_swung_and_a_baton_laid_down", 168, || {
        let mut fifo = Fifo::new();
        let group = fifo.group(0);
        let segment = sealed(&fifo);
        let other = thread::spawn({
            let hand = fifo.hand();
            move || {
                hand.partition
                    .grow(&segment, 0, SENT, &hand.begin())
                    .expect("room");
            }
        });
        let hand = fifo.hand();
        let due = Some(Millis::new(LATER.as_millis()));
        hand.partition
            .lay(&group, Laid::Closing, due, NOW, &hand.begin())
            .expect("room");
        other.join().unwrap();
    });
}

#[test]
fn two_grow_and_one_sends_on() {
    model("two_grow_and_one_sends_on", 140, || {
        tail_swung(false, |hand| {
            let pin = hand.begin();
            let segment = hand.first();
            hand.partition.grow(&segment, 0, SENT, &pin).expect("room");
            // Acquire: as a send does.
            let tail = Held::of(hand.partition.tail.load(Ordering::Acquire));
            look_into(&tail);
        })
    });
}

/// One that came too late to install its segment hands the other one's on, by the tail, before it does anything else: so it has to have
/// acquired it. A third one finds it there.
fn handed_on(grow: fn(&Hand, &Segment)) -> &'static str {
    let stage = Stage::of(false);
    let segment = sealed(&stage);
    let growers = [0, 1].map(|_| {
        let hand = stage.hand();
        thread::spawn(move || grow(&hand, &segment))
    });
    let hand = stage.hand();
    let pin = hand.begin();
    // Acquire: as a send does.
    let tail = Held::of(hand.partition.tail.load(Ordering::Acquire));
    let is_old = tail.is(&raw const *segment);
    if !is_old {
        look_into(&tail);
    }
    drop(pin);
    growers.into_iter().for_each(|grower| grower.join().unwrap());
    if is_old { "too early" } else { "found the next one" }
}

#[test]
fn two_grow_and_one_looks() {
    let outcomes = Outcomes::new(&["too early", "found the next one"], &[]);
    model("two_grow_and_one_looks", 775, {
        let outcomes = outcomes.clone();
        move || {
            outcomes.record(handed_on(|hand, segment| {
                hand.partition
                    .grow(segment, 0, SENT, &hand.begin())
                    .expect("room");
            }));
        }
    });
    outcomes.assert_complete("two_grow_and_one_looks");
}

#[test]
fn a_segment_is_handed_on_that_was_not_acquired() {
    twin(
        "a_segment_is_handed_on_that_was_not_acquired",
        "ausality violation",
        || {
            handed_on(|hand, segment| {
                let pin = hand.begin();
                let next = segment.header.next.load(Ordering::Acquire);
                let next = if next.is_null() {
                    let fresh = hand.partition.fresh(segment, 0, SENT, &pin).expect("room");
                    let installed = segment.header.next.compare_exchange(
                        std::ptr::null_mut(),
                        fresh.as_ptr(),
                        Ordering::Release,
                        Ordering::Relaxed,
                    );
                    installed.map_or_else(|winner| winner, |_| fresh.as_ptr())
                } else {
                    next
                };
                hand.partition.help_tail(segment, next);
            });
        },
    );
}

#[test]
fn head_moved_and_a_look() {
    model("head_moved_and_a_look", 90, || head_moved(LOOK));
}

#[test]
fn passed_and_looked_into() {
    model("passed_and_looked_into", 8, || {
        tail_swung(false, |hand| {
            let pin = hand.begin();
            let segment = hand.first();
            let _ = hand.partition.pass(&segment, &pin);
            let first = hand.partition.first(&pin);
            if !segment.is(first) {
                look_into(first);
            }
        })
    });
}

#[test]
fn entered_and_found() {
    let outcomes = Outcomes::new(&["found", "not yet"], &[]);
    model("entered_and_found", 10, {
        let outcomes = outcomes.clone();
        move || {
            outcomes.record(entered(|hand, number| {
                let pin = hand.begin();
                let found = hand.partition.index.find(number, &pin)?;
                Some(Held::of(std::ptr::from_ref(found).cast_mut()))
            }))
        }
    });
    outcomes.assert_complete("entered_and_found");
}

#[test]
fn a_number_given_back_and_taken() {
    let outcomes = Outcomes::new(&["the same number", "another number"], &[]);
    model("a_number_given_back_and_taken", 14, {
        let outcomes = outcomes.clone();
        move || {
            outcomes.record(number_given_back(|hand, number| {
                hand.partition.index.leave(number);
                hand.partition.index.give_number_back(number);
            }))
        }
    });
    outcomes.assert_complete("a_number_given_back_and_taken");
}

#[test]
fn a_table_that_grows_is_walked() {
    model("a_table_that_grows_is_walked", 6, || {
        table_walked(|table| {
            let of_chunk = |(_, elements): (usize, &[AtomicU64])| -> u64 {
                elements
                    .iter()
                    .map(|element| element.load(Ordering::Relaxed))
                    .sum()
            };
            table.chunks().map(of_chunk).sum()
        })
    });
}

#[test]
fn a_lease_calls_a_sweep() {
    let outcomes = Outcomes::new(&["called", "not called"], &[]);
    model("a_lease_calls_a_sweep", 8, {
        let outcomes = outcomes.clone();
        move || {
            outcomes.record(called_by_the_partition(|hand, segment| {
                hand.partition.set_alarm(&segment, LATER);
            }))
        }
    });
    outcomes.assert_complete("a_lease_calls_a_sweep");
}

/// Looks at the head without acquiring what moved it.
#[test]
fn a_head_is_found_relaxed() {
    twin("a_head_is_found_relaxed", "Causality violation", || {
        head_moved(|hand| {
            let _pin = hand.begin();
            Held::of(hand.partition.head.segment.load(Ordering::Relaxed))
        });
    });
}

/// The number first: another segment's entry is wiped out.
#[test]
fn a_number_is_given_back_before_it_is_free() {
    twin(
        "a_number_is_given_back_before_it_is_free",
        "an entry was lost",
        || {
            number_given_back(|hand, number| {
                hand.partition.index.give_number_back(number);
                hand.partition.index.leave(number);
            });
        },
    );
}

/// The partition's hint first.
#[test]
fn a_sweep_is_called_before_the_hint_is_there() {
    twin(
        "a_sweep_is_called_before_the_hint_is_there",
        "called in vain",
        || {
            called_by_the_partition(|hand, segment| {
                hand.partition
                    .sweep_at
                    .fetch_min(LATER.as_millis(), Ordering::Release);
                segment.hint().lower(LATER);
            });
        },
    );
}
