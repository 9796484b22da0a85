//! The ledger against a naive sequential model: [`models::standard`].
#![cfg(not(loom))]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests drive the ledger from outside"
)]

mod common;
mod models;

use models::standard::{play, scripts, seen};

fn run(cases: u32) {
    models::run(cases, scripts, play, seen(), 20);
}

#[test]
fn the_ledger_does_what_the_model_says() {
    run(1_500);
}

#[test]
#[ignore = "some minutes; run it after a change of the ledger"]
fn the_ledger_does_what_the_model_says_for_long() {
    run(20_000);
}
