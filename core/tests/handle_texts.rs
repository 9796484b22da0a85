//! Texts that pretend to be receipt handles: [`models::handles`].
#![cfg(not(loom))]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests drive the ledger from outside"
)]

mod common;
mod models;

use models::handles::{play, scripts};

#[test]
fn a_text_is_a_handle_only_where_a_receive_gave_it() {
    models::run(2_000, scripts, play, std::iter::empty(), 1);
}
