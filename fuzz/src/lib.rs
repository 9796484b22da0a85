//! What the targets do with their bytes: the scripts and models are those of the ledger's own tests.
//!
//! Each choice of a script takes a few bytes. So libFuzzer, which looks for bytes that reach code not reached before, looks for
//! such scripts.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests drive the ledger from outside"
)]

#[path = "../../core/tests/common/mod.rs"]
mod common;
#[path = "../../core/tests/models/mod.rs"]
mod models;

macro_rules! targets {
    ($($(#[$doc:meta])* $target:ident by $model:ident;)*) => {$(
        $(#[$doc])*
        pub fn $target(bytes: &[u8]) {
            if let Ok(script) = models::$model::from_bytes(bytes) {
                models::$model::play(&script);
            }
        }
    )*};
}

targets! {
    /// Texts that pretend to be receipt handles, at each of several queues.
    handle by handles;
    /// Operations on a standard queue and its dead-letter queue, beside a naive model.
    standard by standard;
    /// Operations on a FIFO queue and its dead-letter queue, beside a naive model.
    fifo by fifo;
}
