//! The rules of queues, one noun a file, on a clock that stands still unless a file says otherwise. In one program, since each is linked and
//! optimised for itself; what takes a machine's time or its memory for itself is a program of its own beside this.
#![cfg(not(loom))]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests drive the ledger from outside"
)]

#[path = "../common/mod.rs"]
mod common;

mod attributes;
mod bad_input;
mod configure;
mod counts;
mod dead_letter;
mod delay;
mod fair_queues;
mod fairness;
mod fifo_attempts;
mod fifo_dead_letter;
mod fifo_deduplication;
mod fifo_handles;
mod fifo_life;
mod fifo_order;
mod fifo_sending;
mod guard;
mod housekeeping;
mod move_task;
mod overload;
mod peek;
mod purge;
mod retention;
mod semantics;
mod snapshot;
mod turns;
mod width;
