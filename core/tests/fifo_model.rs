//! FIFO queues against a naive sequential model: [`models::fifo`].
#![cfg(not(loom))]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests drive the ledger from outside"
)]

mod common;
mod models;

use models::fifo::{play, scripts, seen};

fn run(cases: u32) {
    models::run(cases, scripts, play, seen(), 200);
}

#[test]
fn fifo_queues_do_what_the_model_says() {
    run(2_000);
}

#[test]
#[ignore = "some minutes; run it after a change of FIFO queues"]
fn fifo_queues_do_what_the_model_says_for_long() {
    run(20_000);
}
