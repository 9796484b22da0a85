//! Steps of the ledger that are done wrong are found within so many seeds: what an exploration does not see in them it would not
//! see in the ledger either.
//!
//! Each in a process of its own: what goes wrong may be memory that is freed too early.
#![cfg(shuttle)]

use std::process::Command;

use epoq::fault::Fault;

/// Demands that one of so many seeds fails.
fn is_found(fault: Fault, seeds: u32) {
    let explorer = env!("CARGO_BIN_EXE_epoq-exploration");
    let mut command = Command::new(explorer);
    command.args(["--fault", &format!("{fault:?}"), "--seeds", &seeds.to_string()]);
    let output = command.output().expect("the explorer starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_ne!(
        output.status.code(),
        Some(0),
        "{fault:?} was not found in {seeds} seeds"
    );
    assert_ne!(output.status.code(), Some(2), "{text}");
    let found = text.lines().rfind(|line| line.contains("FAILED"));
    println!("{fault:?}: {}", found.unwrap_or("a crash"));
}

#[test]
fn a_token_forgotten_after_a_release() {
    is_found(Fault::TokenForgotten, 20);
}

#[test]
fn a_due_hint_taken_late() {
    is_found(Fault::HintTakenLate, 4_000);
}

#[test]
fn passed_looked_for_by_a_load() {
    is_found(Fault::PassedByLoad, 3_000);
}

#[test]
fn a_hold_dropped_twice() {
    is_found(Fault::HoldDroppedTwice, 20);
}

#[test]
fn a_wake_not_passed_on() {
    is_found(Fault::WakeKept, 2_000);
}

#[test]
fn a_waiter_that_listens_late() {
    is_found(Fault::ListensLate, 3_000);
}

#[test]
fn an_inbox_not_looked_into() {
    is_found(Fault::InboxIgnored, 100);
}

#[test]
fn a_body_not_given_back_to_the_budget() {
    is_found(Fault::BudgetForgotten, 20);
}

#[test]
fn a_seed_goes_the_same_way_twice() {
    for seed in 0..40 {
        let [one, two] = [(), ()].map(|()| epoq_exploration::explore(seed, None).expect("nothing is wrong"));
        assert_eq!(
            (one.steps, one.operations),
            (two.steps, two.operations),
            "seed {seed}"
        );
    }
}
