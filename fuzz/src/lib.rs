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
// The server's parsers alone: the rest of it would bring an async runtime and TLS along.
#[allow(dead_code, reason = "what the server does with it is not fuzzed")]
#[path = "../../server/src/error.rs"]
mod error;
#[allow(dead_code, reason = "what the server does with it is not fuzzed")]
#[path = "../../server/src/protocol/mod.rs"]
mod protocol;

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

/// A request in the JSON protocol: the first byte says which operation, the others are the body.
pub fn json(bytes: &[u8]) {
    use protocol::{Action, Answer, Protocol};

    let Some((&first, body)) = bytes.split_first() else {
        return;
    };
    let action = Action::ALL[usize::from(first) % Action::ALL.len()];
    match protocol::json::parse(action, body) {
        Ok(input) => {
            assert_eq!(input.action(), action);
            kept_in_bounds(&input);
        }
        Err(error) => drop(Answer::error(Protocol::Json, &error, "id")),
    }
}

/// A request in the Query protocol, with what is before the first line feed for its query string and the rest for its form.
pub fn query(bytes: &[u8]) {
    use protocol::{Answer, Head, Protocol};

    let at = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(bytes.len());
    let (query, form) = (&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
    let query = String::from_utf8_lossy(query);
    for path in ["/", "/000000000000/q"] {
        let head = Head {
            path,
            query: &query,
            ..Head::default()
        };
        match protocol::parse(&head, form) {
            Ok((action, input)) => {
                assert_eq!(input.action(), action);
                kept_in_bounds(&input);
            }
            Err(error) => {
                let answer = Answer::error(Protocol::Query, &error, "id");
                // What XML cannot carry is not in it.
                let text = String::from_utf8(answer).expect("UTF-8");
                assert!(
                    text.chars()
                        .all(|c| c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}') || c == '\n' || c == '\t')
                );
            }
        }
    }
}

/// Lists keep no more than they are for.
fn kept_in_bounds(input: &protocol::Input<'_>) {
    use protocol::Input;

    match input {
        Input::SendMessageBatch(batch) => {
            if let Some(list) = &batch.entries {
                assert!(list.items.len() <= protocol::input::ENTRIES && list.items.len() <= list.total);
            }
        }
        Input::DeleteMessageBatch(batch) | Input::ChangeMessageVisibilityBatch(batch) => {
            if let Some(list) = &batch.entries {
                assert!(list.items.len() <= protocol::input::ENTRIES && list.items.len() <= list.total);
            }
        }
        Input::ReceiveMessage(receive) => {
            for list in receive
                .attribute_names
                .iter()
                .chain(&receive.message_attribute_names)
            {
                assert!(list.items.len() <= protocol::input::NAMES && list.items.len() <= list.total);
            }
        }
        _ => {}
    }
}
