//! The runner itself: what it must see, and what it must refuse.
#![cfg(loom)]

use std::time::Duration;

use epoq_loom::{Outcomes, model, twin, twin_within};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// Two increments, each a load and a store: one can be lost.
fn increment_twice_unsynchronised() -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let increment = |count: &AtomicUsize| count.store(count.load(Relaxed) + 1, Relaxed);
    let other = thread::spawn({
        let count = count.clone();
        move || increment(&count)
    });
    increment(&count);
    other.join().unwrap();
    count.load(Relaxed)
}

/// The canary: its count is known from loom itself. A smaller one means that loom or the bound has stopped exploring.
#[test]
fn load_and_cas_of_two_threads() {
    let outcomes = Outcomes::new(&["1", "2"], &["0"]);
    model("load_and_cas_of_two_threads", 7, {
        let outcomes = outcomes.clone();
        move || {
            let count = Arc::new(AtomicUsize::new(0));
            let attempt = |count: &AtomicUsize| {
                let seen = count.load(Relaxed);
                usize::from(count.compare_exchange(seen, seen + 1, Relaxed, Relaxed).is_ok())
            };
            let other = thread::spawn({
                let count = count.clone();
                move || attempt(&count)
            });
            let successes = attempt(&count) + other.join().unwrap();
            assert_eq!(count.load(Relaxed), successes);
            outcomes.record(successes);
        }
    });
    outcomes.assert_complete("load_and_cas_of_two_threads");
}

#[test]
#[should_panic(expected = "1 executions at bound")]
fn a_model_that_explores_too_little_is_refused() {
    model("a_model_that_explores_too_little_is_refused", 2, || {});
}

#[test]
#[should_panic(expected = "refuses nothing")]
fn a_minimum_of_none_is_refused() {
    model("a_minimum_of_none_is_refused", 0, || {});
}

#[test]
fn lost_update() {
    twin("lost_update", "an increment was lost", || {
        assert_eq!(increment_twice_unsynchronised(), 2, "an increment was lost");
    });
}

#[test]
fn unsynchronised_cell() {
    twin("unsynchronised_cell", "Causality violation", || {
        let cell = Arc::new(UnsafeCell::new(0));
        let other = thread::spawn({
            let cell = cell.clone();
            // SAFETY: none, on purpose; loom must see the race. There is no reference to the content beside the pointer.
            move || cell.with_mut(|value| unsafe { *value = 1 })
        });
        // SAFETY: as above.
        cell.with_mut(|value| unsafe { *value = 2 });
        other.join().unwrap();
    });
}

/// The failure that takes its process with it: unwinding drops a guard whose execution is gone.
#[test]
fn deadlock() {
    twin("deadlock", "deadlock", || {
        let locks = Arc::new((Mutex::new(()), Mutex::new(())));
        let other = thread::spawn({
            let locks = locks.clone();
            move || {
                let _second = locks.1.lock().unwrap();
                let _first = locks.0.lock().unwrap();
            }
        });
        {
            let _first = locks.0.lock().unwrap();
            let _second = locks.1.lock().unwrap();
        }
        other.join().unwrap();
    });
}

/// Not a hang: loom cannot preempt a thread that never lets go, but it counts its branches.
#[test]
fn spin_without_yield() {
    twin(
        "spin_without_yield",
        "exceeded maximum number of branches",
        || {
            let open = Arc::new(AtomicUsize::new(0));
            let other = thread::spawn({
                let open = open.clone();
                move || open.store(1, Relaxed)
            });
            while open.load(Relaxed) == 0 {}
            other.join().unwrap();
        },
    );
}

#[test]
fn a_forbidden_outcome_fails_a_twin() {
    let outcomes = Outcomes::new(&["2"], &["1"]);
    twin(
        "a_forbidden_outcome_fails_a_twin",
        "forbidden outcome: 1",
        move || {
            outcomes.record(increment_twice_unsynchronised());
        },
    );
}

#[test]
fn an_unforeseen_outcome_fails_a_twin() {
    let outcomes = Outcomes::new(&["2"], &["0"]);
    twin(
        "an_unforeseen_outcome_fails_a_twin",
        "unforeseen outcome: 1",
        move || {
            outcomes.record(increment_twice_unsynchronised());
        },
    );
}

#[test]
#[should_panic(expected = "legal outcomes never seen: 3")]
fn a_legal_outcome_must_come_up() {
    let outcomes = Outcomes::new(&["1", "2", "3"], &[]);
    model("a_legal_outcome_must_come_up", 2, {
        let outcomes = outcomes.clone();
        move || outcomes.record(increment_twice_unsynchronised())
    });
    outcomes.assert_complete("a_legal_outcome_must_come_up");
}

#[test]
fn two_twins_in_one_test() {
    twin("two_twins_in_one_test, first", "the first message", || {
        panic!("the first message")
    });
    twin("two_twins_in_one_test, second", "the second message", || {
        panic!("the second message")
    });
}

#[test]
#[should_panic(expected = "survived 1 executions")]
fn a_twin_that_survives_is_reported() {
    twin("a_twin_that_survives_is_reported", "any", || {});
}

#[test]
#[should_panic(expected = "failed otherwise than expected")]
fn a_twin_that_fails_otherwise_is_reported() {
    // The expected words occur in the output, in the name of the test, but not in the panic.
    twin(
        "a_twin_that_fails_otherwise_is_reported",
        "fails_otherwise",
        || panic!("something else"),
    );
}

#[test]
#[should_panic(expected = "ended without a panic")]
fn a_twin_that_ends_its_process_is_reported() {
    twin("a_twin_that_ends_its_process_is_reported", "any", || {
        std::process::exit(3)
    });
}

#[test]
#[should_panic(expected = "passed without running it")]
fn a_twin_that_did_not_run_is_reported() {
    // In the child, the test ends before it reaches the twin.
    if std::env::var_os("EPOQ_LOOM_TWIN").is_some() {
        std::process::exit(0);
    }
    twin("a_twin_that_did_not_run_is_reported", "any", || panic!("any"));
}

#[test]
#[should_panic(expected = "no verdict within 500ms")]
fn a_twin_that_hangs_is_reported() {
    twin_within(
        Duration::from_millis(500),
        "a_twin_that_hangs_is_reported",
        "any",
        || {
            std::thread::sleep(Duration::from_secs(20));
        },
    );
}
