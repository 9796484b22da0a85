//! The pile of graves: whatever is put on comes off once, whole, and nothing is lost while others take and put back.
#![cfg(loom)]

use epoq::{
    ledger::pile::{Layer, Pile},
    sync::{Arc, Ordering},
};
use epoq_loom::{Outcomes, model, twin};
use loom::{cell::UnsafeCell, thread};

/// Written by whoever puts it on, and by whoever takes it off.
struct Thing(UnsafeCell<u32>);

const TAKEN: u32 = 100;

impl Thing {
    fn new(number: u32) -> Self {
        let thing = Self(UnsafeCell::new(0));
        // SAFETY: ours; loom looks.
        thing.0.with_mut(|cell| unsafe { *cell = number });
        thing
    }

    /// Its number; it is ours now, to be written.
    fn take(self) -> u32 {
        // SAFETY: ours; loom looks whether it is.
        self.0
            .with_mut(|cell| unsafe { std::mem::replace(&mut *cell, TAKEN) })
    }
}

type Put = fn(&Pile<Thing>, Thing);
type Take = fn(&Pile<Thing>) -> Option<Thing>;

/// Two things lie there; one thread puts a third on, and two come by and take one.
fn put_and_taken(put: Put, take: Take) -> &'static str {
    let pile = Arc::new(Pile::new());
    pile.put(Thing::new(0));
    pile.put(Thing::new(1));
    let putter = thread::spawn({
        let pile = Arc::clone(&pile);
        move || put(&pile, Thing::new(2))
    });
    let taker = thread::spawn({
        let pile = Arc::clone(&pile);
        move || take(&pile).map(Thing::take)
    });
    let here = take(&pile).map(Thing::take);
    let there = taker.join().unwrap();
    putter.join().unwrap();

    let mut off: Vec<u32> = here.into_iter().chain(there).collect();
    while let Some(thing) = pile.take() {
        off.push(thing.take());
    }
    off.sort_unstable();
    assert_eq!(off, [0, 1, 2], "not each of them once");
    match (here.is_some(), there.is_some()) {
        (true, true) => "both found one",
        (false, false) => "nobody found one",
        _ => "one came in vain",
    }
}

/// A thing is put on while one is taken and the rest put back.
fn put_beside_a_take(put: Put, take: Take) {
    let pile = Arc::new(Pile::new());
    pile.put(Thing::new(0));
    pile.put(Thing::new(1));
    let putter = thread::spawn({
        let pile = Arc::clone(&pile);
        move || put(&pile, Thing::new(2))
    });
    let here = take(&pile).map(Thing::take);
    putter.join().unwrap();
    let mut off: Vec<u32> = here.into_iter().collect();
    while let Some(thing) = pile.take() {
        off.push(thing.take());
    }
    off.sort_unstable();
    assert_eq!(off, [0, 1, 2], "not each of them once");
}

fn take(pile: &Pile<Thing>) -> Option<Thing> {
    pile.take()
}

#[test]
fn graves_put_and_taken_by_two() {
    let outcomes = Outcomes::new(&["both found one", "one came in vain"], &["nobody found one"]);
    model("graves_put_and_taken_by_two", 100, {
        let outcomes = outcomes.clone();
        move || outcomes.record(put_and_taken(Pile::put, take))
    });
    outcomes.assert_complete("graves_put_and_taken_by_two");
}

#[test]
fn grave_put_beside_a_take() {
    model("grave_put_beside_a_take", 12, || {
        put_beside_a_take(Pile::put, take)
    });
}

#[test]
fn the_rest_is_let_go_where_something_lies_by_then() {
    twin(
        "the_rest_is_let_go_where_something_lies_by_then",
        "not each of them once",
        || {
            put_and_taken(Pile::put, |pile| {
                let layers = pile.take_all();
                if layers.is_null() {
                    return None;
                }
                // SAFETY: taken.
                let (thing, rest) = unsafe { Layer::apart(layers) };
                let _ = pile.top.compare_exchange(
                    std::ptr::null_mut(),
                    rest,
                    Ordering::Release,
                    Ordering::Relaxed,
                );
                Some(thing)
            });
        },
    );
}

#[test]
fn a_thing_is_put_on_by_a_store() {
    twin("a_thing_is_put_on_by_a_store", "not each of them once", || {
        put_beside_a_take(
            |pile, thing| {
                let layer = Layer::alone(thing);
                let top = pile.take_all();
                pile.top.store(layer, Ordering::Release);
                // SAFETY: taken.
                unsafe { pile.put_back(top) };
            },
            take,
        );
    });
}

#[test]
fn the_rest_is_put_back_by_a_store() {
    twin("the_rest_is_put_back_by_a_store", "not each of them once", || {
        put_beside_a_take(Pile::put, |pile| {
            let layers = pile.take_all();
            if layers.is_null() {
                return None;
            }
            // SAFETY: taken.
            let (thing, rest) = unsafe { Layer::apart(layers) };
            pile.top.store(rest, Ordering::Release);
            Some(thing)
        });
    });
}
