//! Numbers of the partition's index: each is one segment object's at a time. (H7)
#![cfg(loom)]

use epoq::{
    budget::Budget,
    ledger::index::Index,
    sync::{Arc, Ordering},
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;

type Take = fn(&Index, &Budget) -> u32;
type GiveBack = fn(&Index, u32);

const TAKE: Take = |index, budget| index.take_number(budget).expect("a number");
const GIVE_BACK: GiveBack = |index, number| index.give_number_back(number);

/// Three numbers are in use, and one that was is free. One of the three is given back, and two take one each.
fn take_and_give_back(take: Take, give_back: GiveBack) -> &'static str {
    let budget = Arc::new(Budget::new(1 << 20));
    let index = Arc::new(Index::new());
    let numbers = [(); 4].map(|()| TAKE(&index, &budget));
    GIVE_BACK(&index, numbers[0]);
    let other = thread::spawn({
        let (index, budget) = (Arc::clone(&index), Arc::clone(&budget));
        move || {
            give_back(&index, 1);
            take(&index, &budget)
        }
    });
    let here = take(&index, &budget);
    let there = other.join().unwrap();
    assert_ne!(here, there, "two segments have one number");
    // What is free is found by whoever comes next.
    let mut all = vec![2, 3, here, there];
    let high = index.numbers().max(4);
    while all.len() < high as usize {
        all.push(TAKE(&index, &budget));
    }
    all.sort_unstable();
    let expected: Vec<u32> = (0..high).collect();
    assert_eq!(all, expected, "a number was lost");
    match (here, there) {
        (0, 1) => "its own",
        (1, 0) => "the other one",
        other => panic!("{other:?} while others are free"),
    }
}

#[test]
fn numbers_taken_and_given_back() {
    let outcomes = Outcomes::new(&["its own", "the other one"], &[]);
    model("numbers_taken_and_given_back", 69, {
        let outcomes = outcomes.clone();
        move || outcomes.record(take_and_give_back(TAKE, GIVE_BACK))
    });
    outcomes.assert_complete("numbers_taken_and_given_back");
}

/// As `Index::take_number`, of the first word.
fn take_by_a_store(index: &Index, budget: &Budget) -> u32 {
    let free = &index.free.get(0).expect("numbers have been taken").0;
    let present = free.load(Ordering::Acquire);
    if present == 0 {
        return TAKE(index, budget);
    }
    // A store in effect; loom would misplace one among read-modify-writes.
    free.swap(present & (present - 1), Ordering::AcqRel);
    present.trailing_zeros()
}

#[test]
fn a_number_is_taken_by_a_store() {
    twin(
        "a_number_is_taken_by_a_store",
        "two segments have one number",
        || {
            take_and_give_back(take_by_a_store, GIVE_BACK);
        },
    );
}

#[test]
fn a_number_is_given_back_by_a_store() {
    twin(
        "a_number_is_given_back_by_a_store",
        "two segments have one number",
        || {
            take_and_give_back(TAKE, |index, number| {
                let free = &index.free.get(0).expect("numbers have been taken").0;
                // As above.
                let present = free.load(Ordering::Acquire);
                free.swap(present | 1 << number, Ordering::AcqRel);
                index.give_number_back(number);
            });
        },
    );
}
