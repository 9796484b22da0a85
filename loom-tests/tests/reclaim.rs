//! Reclamation with the epoch crate itself: a look-up, and a segment that is retired, recycled and used again. (H7; I3, I6)
//!
//! These models are built with `--cfg crossbeam_loom` besides `--cfg loom`: the collector is the one that ships. Whoever uses a
//! recycled segment writes the entries of its slots, which loom tracks: a look that outlasts its grace period meets that write.
#![cfg(all(loom, crossbeam_loom))]

mod stage;

use std::ptr::NonNull;

use epoq::{
    ledger::{pool::Pool, reclaim::Pin, segment::Life, slot::Entry},
    sync::{Arc, AtomicU64, Ordering, UnsafeCell},
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Held, Lease, NOW, SENT, Stage};

/// Looks at the message of a lease, which may be gone; its body.
type Look = fn(&Hand, &Lease) -> Option<u8>;
/// Deletes the last message of a segment that the head has passed, and uses the segment again if it can.
type Reuse = fn(&Hand, &Lease);

/// As `Queue::peek` does.
const LOOK: Look = |hand, lease| {
    let pin = hand.pin();
    let segment = hand
        .partition
        .glance(&pin)
        .find(|glance| glance.number() == lease.place.number)?;
    let seen = segment.messages().next()?;
    Some(seen.body()[0])
};

const REUSE: Reuse = |hand, lease| {
    hand.delete(lease).expect("its lease is running");
    hand.flush();
    // Fills the tail's segment, and goes on to another one: the one from the pool, if it is there.
    hand.send(4);
    hand.send(5);
};

/// A segment that the head has passed, with one message left, which is leased.
fn nearly_empty(hand: &Hand) -> (Held, Lease) {
    let segment = hand.first();
    for body in 1..=3 {
        hand.send(body);
    }
    let leases: Vec<Lease> = (0..3).map(|_| hand.receive().expect("a message")).collect();
    hand.delete(&leases[1]).expect("its lease is running");
    assert!(!segment.is(hand.first().as_ptr()), "passed");
    assert_eq!(segment.live(), 1, "the message alone");
    (segment, leases[0])
}

/// The last message of a passed segment is deleted, and the segment retired and used again; somebody looks it up meanwhile.
fn look_up_and_retire(look: Look, reuse: Reuse) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let (segment, lease) = nearly_empty(&hand);
    let serial = lease.place.serial;
    let looker = thread::spawn({
        let hand = stage.hand();
        move || look(&hand, &lease)
    });
    reuse(&hand, &lease);
    let seen = looker.join().unwrap();
    let reused = segment.fixed().serial != serial;
    match (seen, reused) {
        (Some(1), true) => "seen, used again",
        (Some(1), false) => "seen, kept from use",
        (None, true) => "gone, used again",
        (None, false) => "gone, kept from use",
        // The segment is in its next life already.
        (Some(5), true) => "the next one seen",
        (seen, _) => panic!("saw {seen:?}"),
    }
}

/// A handle's lease is deleted twice, and its segment used again meanwhile, with a message of the same slot received as often.
fn delete_and_reuse(delete: fn(&Hand, &Lease) -> bool) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let (segment, lease) = nearly_empty(&hand);
    let other = thread::spawn({
        let hand = stage.hand();
        move || delete(&hand, &lease)
    });
    let here = hand.delete(&lease).is_ok();
    hand.flush();
    hand.send(4);
    hand.send(5);
    let leases = [(); 2].map(|()| hand.receive().expect("just sent"));
    let there = other.join().unwrap();
    for later in &leases {
        let deleted = hand.delete(later);
        assert!(deleted.is_ok(), "a handle deleted a message of a later life");
    }
    assert!(
        here != there,
        "deleted {} times",
        u32::from(here) + u32::from(there)
    );
    let again = leases[1].place.number == lease.place.number && leases[1].place.serial != lease.place.serial;
    assert!(
        !again || leases[1].receives == lease.receives,
        "the serial alone tells them apart"
    );
    assert!(!again || segment.fixed().serial == leases[1].place.serial);
    match (here, again) {
        (true, true) => "here, used again",
        (true, false) => "here, kept from use",
        (false, _) => "there",
    }
}

/// Puts a segment back that was taken from a pool.
type PutBack = fn(&Hand, &Arc<Pool>, Held);

fn put(pool: &Pool, spare: Held) {
    let segment = NonNull::new(spare.as_ptr()).expect("a segment");
    // SAFETY: none, where it has not come through the epoch; else nobody looks at it.
    let put = unsafe { pool.put(segment) };
    assert!(put.is_ok(), "there is room for two");
}

const PUT_BACK: PutBack = |hand, pool, spare| {
    let pool = Arc::clone(pool);
    hand.pin()
        .defer_segment(&[hand.partition.domain], 1, move || put(&pool, spare));
    hand.flush();
};

/// A pool of two. One thread takes one; another takes what there is, and puts the first of them back.
fn take_and_put_back(put_back: PutBack) -> &'static str {
    let stage = Stage::new();
    let pool = Arc::new(Pool::new());
    let hand = stage.hand();
    let spares = [(); 2].map(|()| {
        let fresh = hand.partition.fresh(&hand.first(), 0, SENT, &hand.pin());
        Held::of(fresh.expect("room").as_ptr())
    });
    spares.iter().for_each(|&spare| put(&pool, spare));
    let take = |pool: &Pool, hand: &Hand| pool.take(&hand.begin()).map(|segment| Held::of(segment.as_ptr()));
    let taker = thread::spawn({
        let (pool, hand) = (Arc::clone(&pool), stage.hand());
        move || take(&pool, &hand)
    });
    let mine: Vec<Held> = (0..2).filter_map(|_| take(&pool, &hand)).collect();
    put_back(&hand, &pool, mine[0]);
    let there = taker.join().unwrap();
    // What was retired a moment ago, by nobody pinned any more.
    (0..3).for_each(|_| hand.flush());

    let mut found: Vec<Held> = mine[1..].iter().copied().chain(there).collect();
    found.extend(std::iter::from_fn(|| take(&pool, &hand)).take(4));
    for spare in &spares {
        let times = found.iter().filter(|other| other.is(spare.as_ptr())).count();
        assert_eq!(times, 1, "a spare segment was taken {times} times");
    }
    match (mine.len(), there) {
        (1, _) => "one taken by each",
        (_, Some(_)) => "taken once more",
        (_, None) => "nothing left",
    }
}

#[test]
fn a_look_and_the_retirement_of_a_segment() {
    let outcomes = Outcomes::new(
        &[
            "seen, used again",
            "seen, kept from use",
            "gone, used again",
            "gone, kept from use",
            "the next one seen",
        ],
        &[],
    );
    model("a_look_and_the_retirement_of_a_segment", 3986, {
        let outcomes = outcomes.clone();
        move || outcomes.record(look_up_and_retire(LOOK, REUSE))
    });
    outcomes.assert_complete("a_look_and_the_retirement_of_a_segment");
}

#[test]
fn a_delete_by_a_handle_of_the_life_before() {
    let outcomes = Outcomes::new(&["here, used again", "here, kept from use", "there"], &[]);
    model("a_delete_by_a_handle_of_the_life_before", 2836, {
        let outcomes = outcomes.clone();
        move || outcomes.record(delete_and_reuse(|hand, lease| hand.delete(lease).is_ok()))
    });
    outcomes.assert_complete("a_delete_by_a_handle_of_the_life_before");
}

#[test]
fn a_spare_segment_comes_back_through_the_epoch() {
    let outcomes = Outcomes::new(&["one taken by each", "taken once more", "nothing left"], &[]);
    model("a_spare_segment_comes_back_through_the_epoch", 4680, {
        let outcomes = outcomes.clone();
        move || outcomes.record(take_and_put_back(PUT_BACK))
    });
    outcomes.assert_complete("a_spare_segment_comes_back_through_the_epoch");
}

/// The first half of `Partition::delete`, of the last message of a segment, up to where the segment is retired.
fn bury_last(hand: &Hand, lease: &Lease, pin: &Pin<'_>) -> Held {
    let segment = hand.partition.index.find(lease.place.number, pin).expect("there");
    let slot = segment.slot(lease.place.slot);
    let state = slot.state();
    let dead = state.delete(lease.receives).expect("its lease is running").next;
    slot.swap_state(state, dead).expect("nobody else ends it");
    assert_eq!(segment.bury(1), Life::Over);
    Held::of(std::ptr::from_ref(segment).cast_mut())
}

/// What stands for a segment's memory, and how it is read and written.
struct Memory {
    /// Counts, so that a look is tried before and after a use; Relaxed, it orders nothing.
    accesses: AtomicU64,
    cell: UnsafeCell<()>,
}

// SAFETY: loom watches the cell, and there is nothing in it.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn look(&self) {
        self.accesses.fetch_add(1, Ordering::Relaxed);
        self.cell.with(|_| ());
    }

    fn use_again(&self) {
        self.accesses.fetch_add(1, Ordering::Relaxed);
        self.cell.with_mut(|_| ());
    }
}

/// Looks a segment up, and at its memory.
type LookAt = fn(&Hand, &Lease, &Memory) -> bool;
/// Retires a segment, whose memory is used again in the end.
type Retire = fn(&Hand, Held, &Pin<'_>, Arc<Memory>);

const LOOK_AT: LookAt = |hand, lease, memory| {
    let pin = hand.pin();
    let found = hand.partition.index.find(lease.place.number, &pin).is_some();
    if found {
        memory.look();
    }
    found
};

/// As `Partition::retire`.
const RETIRE: Retire = |hand, segment, pin, memory| {
    hand.partition.index.leave(segment.number());
    pin.defer_segment(&[hand.partition.domain], segment.bytes(), move || {
        memory.use_again()
    });
    pin.flush();
};

/// As [`look_up_and_retire`], with the retirement written out.
fn look_up_and_retire_by(look: LookAt, retire: Retire) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let (_, lease) = nearly_empty(&hand);
    let memory = Arc::new(Memory {
        accesses: AtomicU64::new(0),
        cell: UnsafeCell::new(()),
    });
    let looker = thread::spawn({
        let (hand, memory) = (stage.hand(), Arc::clone(&memory));
        move || look(&hand, &lease, &memory)
    });
    let pin = hand.pin();
    let segment = bury_last(&hand, &lease, &pin);
    retire(&hand, segment, &pin, memory);
    drop(pin);
    hand.flush();
    if looker.join().unwrap() { "found" } else { "gone" }
}

/// The handwritten retirement that the twins share is itself sound.
#[test]
fn a_retirement_step_by_step() {
    let outcomes = Outcomes::new(&["found", "gone"], &[]);
    model("a_retirement_step_by_step", 2470, {
        let outcomes = outcomes.clone();
        move || outcomes.record(look_up_and_retire_by(LOOK_AT, RETIRE))
    });
    outcomes.assert_complete("a_retirement_step_by_step");
}

#[test]
fn a_segment_is_used_again_at_once() {
    twin("a_segment_is_used_again_at_once", "Causality violation", || {
        look_up_and_retire_by(LOOK_AT, |hand, segment, _, memory| {
            hand.partition.index.leave(segment.number());
            memory.use_again();
        });
    });
}

#[test]
fn a_segment_leaves_the_index_once_it_is_retired() {
    twin(
        "a_segment_leaves_the_index_once_it_is_retired",
        "Causality violation",
        || {
            look_up_and_retire_by(LOOK_AT, |hand, segment, pin, memory| {
                pin.defer_segment(&[hand.partition.domain], segment.bytes(), move || {
                    memory.use_again()
                });
                pin.flush();
                hand.partition.index.leave(segment.number());
            });
        },
    );
}

#[test]
fn a_look_outlasts_its_pin() {
    twin("a_look_outlasts_its_pin", "Causality violation", || {
        look_up_and_retire_by(
            |hand, lease, memory| {
                let found = hand
                    .partition
                    .index
                    .find(lease.place.number, &hand.pin())
                    .is_some();
                if found {
                    memory.look();
                }
                found
            },
            RETIRE,
        );
    });
}

/// As [`REUSE`], with the segment opened anew by whoever has retired it.
#[test]
fn a_segment_is_opened_again_at_once() {
    twin("a_segment_is_opened_again_at_once", "Causality violation", || {
        look_up_and_retire(LOOK, |hand, lease| {
            let pin = hand.pin();
            let segment = bury_last(hand, lease, &pin);
            hand.partition.index.leave(segment.number());
            let nothing = NonNull::<u8>::dangling();
            // SAFETY: none: somebody may be looking.
            unsafe { segment.slots[0].write(Entry::new(nothing.as_ptr(), 0, false, NOW)) };
        });
    });
}

#[test]
fn a_handle_is_not_asked_for_its_serial() {
    twin(
        "a_handle_is_not_asked_for_its_serial",
        "a handle deleted a message of a later life",
        || {
            delete_and_reuse(|hand, lease| {
                let pin = hand.begin();
                let Some(segment) = hand.partition.index.find(lease.place.number, &pin) else {
                    return false;
                };
                let serial = segment.fixed().serial;
                drop(pin);
                let place = epoq::ledger::lease::Place {
                    serial,
                    ..lease.place
                };
                hand.delete(&Lease { place, ..*lease }).is_ok()
            });
        },
    );
}

#[test]
fn a_spare_segment_is_put_back_at_once() {
    twin(
        "a_spare_segment_is_put_back_at_once",
        "a spare segment was taken 2 times",
        || {
            take_and_put_back(|_, pool, spare| put(pool, spare));
        },
    );
}
