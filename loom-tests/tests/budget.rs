//! The memory budget: never beyond its limit, nothing given back is lost, and whoever waits for room hears of it. (H8)
#![cfg(loom)]

use epoq::{
    budget::{Budget, steps},
    sync::{Arc, Ordering},
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;

/// What a broker has room for, and what each of two queues takes.
const LIMIT: u64 = 3;
const BYTES: usize = 2;

/// Takes from a queue's share of the whole.
type Take = fn(&Budget, &Budget) -> bool;
type GiveBack = fn(&Budget);

const TAKE: Take = |queue, _| steps::take(queue, BYTES);
const GIVE_BACK: GiveBack = |whole| steps::give_back(whole, BYTES);

fn look(whole: &Budget) {
    let used = whole.read().used;
    assert!(used <= LIMIT, "{used} of {LIMIT} are used: over the limit");
}

/// Two queues take what the whole has room for once, and give it back; one of them looks at the whole.
fn two_takers(take: Take) -> &'static str {
    let whole = Arc::new(Budget::new(LIMIT));
    let queues = [None, Some(LIMIT)].map(|limit| Arc::new(steps::of_queue(&whole, limit)));
    let run = move |queue: &Budget, whole: &Budget| {
        look(whole);
        let took = take(queue, whole);
        look(whole);
        if took {
            steps::give_back(queue, BYTES);
        }
        took
    };
    let other = thread::spawn({
        let (queue, whole) = (Arc::clone(&queues[1]), Arc::clone(&whole));
        move || run(&queue, &whole)
    });
    let here = run(&queues[0], &whole);
    let there = other.join().unwrap();
    for budget in queues.iter().chain([&whole]) {
        let used = budget.read().used;
        assert_eq!(used, 0, "what was given back is used still");
    }
    // All of it can be taken again.
    assert!(steps::take(&whole, LIMIT as usize), "a refund was lost");
    match (here, there) {
        (true, true) => "one after the other",
        (true, false) => "here",
        (false, true) => "there",
        (false, false) => "neither",
    }
}

/// The whole is used up, and somebody waits for room, which is given back.
fn room_for_a_waiter(give_back: GiveBack, looks_first: bool) -> &'static str {
    let whole = Arc::new(Budget::new(LIMIT));
    assert!(steps::take(&whole, BYTES));
    let waiter = thread::spawn({
        let whole = Arc::clone(&whole);
        move || {
            let mut waiting = steps::room(&whole).enter();
            if looks_first {
                if steps::take(&whole, BYTES) {
                    return "at once";
                }
                waiting.listen();
                waiting.take_listener().expect("listening").wait();
            }
            let mut answer = "at once";
            // Progress: each turn but the last sleeps until it is woken.
            loop {
                waiting.listen();
                if steps::take(&whole, BYTES) {
                    return answer;
                }
                answer = "slept";
                waiting.take_listener().expect("listening").wait();
            }
        }
    });
    give_back(&whole);
    let answer = waiter.join().unwrap();
    assert_eq!(whole.read().used, BYTES as u64);
    answer
}

/// All is used up, and some of it goes into limbo: whoever waits knows that there will be room soon.
fn limbo_and_a_waiter(enter: GiveBack) -> &'static str {
    let whole = Arc::new(Budget::new(LIMIT));
    assert!(steps::take(&whole, BYTES));
    let waiter = thread::spawn({
        let whole = Arc::clone(&whole);
        move || {
            let mut waiting = steps::room(&whole).enter();
            let mut answer = "at once";
            // Progress: each turn but the last sleeps until it is woken.
            loop {
                waiting.listen();
                if whole.read().limbo != 0 {
                    return answer;
                }
                answer = "slept";
                waiting.take_listener().expect("listening").wait();
            }
        }
    });
    enter(&whole);
    waiter.join().unwrap()
}

#[test]
fn memory_goes_into_limbo_and_a_waiter() {
    let outcomes = Outcomes::new(&["at once", "slept"], &[]);
    model("memory_goes_into_limbo_and_a_waiter", 25, {
        let outcomes = outcomes.clone();
        move || outcomes.record(limbo_and_a_waiter(|whole| steps::enter_limbo(whole, BYTES)))
    });
    outcomes.assert_complete("memory_goes_into_limbo_and_a_waiter");
}

/// Whoever waits is told first.
#[test]
fn limbo_is_told_of_before_it_is_counted() {
    twin("limbo_is_told_of_before_it_is_counted", "deadlock", || {
        limbo_and_a_waiter(|whole| {
            steps::room(whole).wake(usize::MAX);
            steps::limbo(whole).fetch_add(BYTES as u64, Ordering::Relaxed);
        });
    });
}

#[test]
fn two_take_the_last_of_the_budget() {
    let outcomes = Outcomes::new(&["one after the other", "here", "there"], &["neither"]);
    model("two_take_the_last_of_the_budget", 65, {
        let outcomes = outcomes.clone();
        move || outcomes.record(two_takers(TAKE))
    });
    outcomes.assert_complete("two_take_the_last_of_the_budget");
}

#[test]
fn memory_is_given_back_and_a_waiter() {
    let outcomes = Outcomes::new(&["at once", "slept"], &[]);
    model("memory_is_given_back_and_a_waiter", 18, {
        let outcomes = outcomes.clone();
        move || outcomes.record(room_for_a_waiter(GIVE_BACK, false))
    });
    outcomes.assert_complete("memory_is_given_back_and_a_waiter");
}

#[test]
fn memory_is_counted_and_then_compared() {
    twin("memory_is_counted_and_then_compared", "over the limit", || {
        two_takers(|queue, whole| {
            let before = steps::used(whole).fetch_add(BYTES as u64, Ordering::Relaxed);
            if before + BYTES as u64 > LIMIT {
                steps::undo(whole, BYTES);
                return false;
            }
            steps::used(queue).fetch_add(BYTES as u64, Ordering::Relaxed);
            true
        });
    });
}

#[test]
fn memory_is_compared_and_then_counted() {
    twin("memory_is_compared_and_then_counted", "over the limit", || {
        two_takers(|queue, whole| {
            if whole.read().used + BYTES as u64 > LIMIT {
                return false;
            }
            steps::used(whole).fetch_add(BYTES as u64, Ordering::Relaxed);
            steps::used(queue).fetch_add(BYTES as u64, Ordering::Relaxed);
            true
        });
    });
}

#[test]
fn memory_is_taken_by_a_store() {
    twin(
        "memory_is_taken_by_a_store",
        "more memory given back than taken",
        || {
            two_takers(|queue, whole| {
                let used = whole.read().used;
                if used + BYTES as u64 > LIMIT {
                    return false;
                }
                // A store in effect; loom would misplace one among read-modify-writes.
                steps::used(whole).swap(used + BYTES as u64, Ordering::Relaxed);
                steps::used(queue).fetch_add(BYTES as u64, Ordering::Relaxed);
                true
            });
        },
    );
}

/// As `Budget::take` of a queue, which keeps its own count where the whole has refused.
#[test]
fn a_refusal_is_not_undone() {
    twin("a_refusal_is_not_undone", "is used still", || {
        two_takers(|queue, whole| {
            steps::used(queue).fetch_add(BYTES as u64, Ordering::Relaxed);
            steps::take(whole, BYTES)
        });
    });
}

#[test]
fn a_giver_looks_before_it_gives_back() {
    twin("a_giver_looks_before_it_gives_back", "deadlock", || {
        room_for_a_waiter(
            |whole| {
                let is_anyone = steps::room(whole).is_anyone();
                steps::undo(whole, BYTES);
                if is_anyone {
                    steps::room(whole).wake_all();
                }
            },
            false,
        );
    });
}

#[test]
fn a_waiter_for_room_looks_before_it_listens() {
    twin("a_waiter_for_room_looks_before_it_listens", "deadlock", || {
        room_for_a_waiter(GIVE_BACK, true);
    });
}
