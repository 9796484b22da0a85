//! What is made on demand by whoever comes first, and the spare segments: one winner, nothing made twice or lost.
#![cfg(loom)]

mod stage;

use std::ptr::NonNull;

use epoq::{
    ledger::{chunks::Chunks, pool::Pool, published::Published, reclaim::Collector, segment::Segment},
    sync::{Arc, AtomicU64, Ordering},
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Held, SENT, Stage};

/// The first number of the table's second chunk under loom.
const NUMBER: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Address(usize);

/// Two threads ask for a value that is not there; `mark` is called by the one who made the lasting one.
fn one_value<T: Sync + Send + 'static>(table: T, ask: fn(&T, &AtomicU64) -> Address) {
    let table = Arc::new(table);
    let made = Arc::new(AtomicU64::new(0));
    let other = thread::spawn({
        let (table, made) = (Arc::clone(&table), Arc::clone(&made));
        move || ask(&table, &made)
    });
    let here = ask(&table, &made);
    let there = other.join().unwrap();
    assert_eq!(here, there, "two values where one should be");
    assert!(made.load(Ordering::Relaxed) <= 1, "counted twice");
}

fn ask_published(place: &Published<AtomicU64>, _: &AtomicU64) -> Address {
    let local = Collector::new().register();
    let pin = local.pin();
    let made = place.get_or_try(&pin, || Ok::<_, ()>(Arc::new(AtomicU64::new(7))));
    let value = made.expect("made");
    // Acquire of nothing in particular: that the value is seen as made is what the pointer's Release is for.
    assert_eq!(value.load(Ordering::Relaxed), 7);
    Address(std::ptr::from_ref(value).addr())
}

fn ask_chunks(chunks: &Chunks<AtomicU64>, made: &AtomicU64) -> Address {
    let value = chunks.get_or_grow(NUMBER, |_| {
        made.fetch_add(1, Ordering::Relaxed);
    });
    let value = value.expect("room");
    // As for `Published`.
    assert_eq!(value.load(Ordering::Relaxed), 0);
    Address(std::ptr::from_ref(value).addr())
}

type Take = fn(&Pool, &Hand) -> Option<*mut Segment>;

fn take_out(pool: &Pool, hand: &Hand) -> Option<*mut Segment> {
    pool.take(&hand.begin()).map(NonNull::as_ptr)
}

/// A pool with one spare segment, a segment put in, and two takers.
fn spare_segments(take: Take) -> &'static str {
    let stage = Stage::new();
    let pool = Arc::new(Pool::new());
    let hand = stage.hand();
    // In the index, and so the partition's to free; in no list.
    let spares = [(); 2].map(|()| {
        let fresh = hand.partition.fresh(&hand.first(), 0, SENT, &hand.pin());
        Held::of(fresh.expect("room").as_ptr())
    });
    let put = |pool: &Pool, spare: Held| {
        let segment = NonNull::new(spare.as_ptr()).expect("a segment");
        // SAFETY: reachable through the index only, where nobody looks.
        unsafe { pool.put(segment) }.is_ok()
    };
    assert!(put(&pool, spares[0]));
    let putter = thread::spawn({
        let pool = Arc::clone(&pool);
        // Refused if the pool is full.
        move || put(&pool, spares[1])
    });
    let taker = thread::spawn({
        let (pool, hand) = (Arc::clone(&pool), stage.hand());
        move || take(&pool, &hand).map(Held::of)
    });
    let here = take(&pool, &hand).map(Held::of);
    let there = taker.join().unwrap();
    let put = putter.join().unwrap();

    let mut found: Vec<Held> = here.into_iter().chain(there).collect();
    while let Some(segment) = take_out(&pool, &hand) {
        found.push(Held::of(segment));
    }
    let expected = &spares[..1 + usize::from(put)];
    for spare in expected {
        let times = found.iter().filter(|other| other.is(spare.as_ptr())).count();
        assert_eq!(times, 1, "a spare segment was taken {times} times");
    }
    assert_eq!(found.len(), expected.len());
    match (put, here.is_some(), there.is_some()) {
        (false, ..) => "pool full",
        (true, true, true) => "both taken",
        (true, false, false) => "none taken",
        (true, ..) => "one taken",
    }
}

#[test]
fn one_value_of_two_makers() {
    model("one_value_of_two_makers", 10, || {
        one_value(Published::empty(), ask_published)
    });
}

#[test]
fn one_chunk_of_two_makers() {
    model("one_chunk_of_two_makers", 11, || {
        one_value(Chunks::new(), ask_chunks)
    });
}

#[test]
fn spare_segment_put_and_taken() {
    let outcomes = Outcomes::new(&["pool full", "one taken", "both taken"], &["none taken"]);
    model("spare_segment_put_and_taken", 213, {
        let outcomes = outcomes.clone();
        move || outcomes.record(spare_segments(take_out))
    });
    outcomes.assert_complete("spare_segment_put_and_taken");
}

#[test]
fn a_value_is_set_by_a_store() {
    twin(
        "a_value_is_set_by_a_store",
        "two values where one should be",
        || {
            one_value(Published::empty(), |place: &Published<AtomicU64>, made| {
                let local = Collector::new().register();
                if place.get(&local.pin()).is_none() {
                    let value = Arc::into_raw(Arc::new(AtomicU64::new(7)));
                    place.0.store(value.cast_mut(), Ordering::Release);
                }
                ask_published(place, made)
            });
        },
    );
}

#[test]
fn a_chunk_is_set_by_a_store() {
    twin(
        "a_chunk_is_set_by_a_store",
        "two values where one should be",
        || {
            one_value(Chunks::new(), |chunks: &Chunks<AtomicU64>, made| {
                if chunks.get(NUMBER).is_none() {
                    let chunk: Box<[AtomicU64]> = (0..NUMBER).map(|_| AtomicU64::new(0)).collect();
                    let first = Box::into_raw(chunk).cast::<AtomicU64>();
                    chunks.chunks[1].store(first, Ordering::Release);
                }
                ask_chunks(chunks, made)
            });
        },
    );
}

#[test]
fn a_spare_segment_is_taken_by_a_store() {
    twin(
        "a_spare_segment_is_taken_by_a_store",
        "a spare segment was taken 2 times",
        || {
            spare_segments(|pool, hand| {
                let _pin = hand.begin();
                let top = NonNull::new(pool.top.load(Ordering::Acquire))?;
                // SAFETY: nothing is freed while the threads run.
                let next = unsafe { top.as_ref() }.tally.pooled_next.load(Ordering::Relaxed);
                pool.top.store(next, Ordering::Release);
                Some(top.as_ptr())
            });
        },
    );
}
