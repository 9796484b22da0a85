//! Any SQS server over HTTP, driven and judged: what its wire costs beside a bare echo of the same bytes.
//!
//! ```text
//!  this process                                          processes of their own
//! ┌──────────────────────────────────────────────┐     ┌────────────────────────────────────┐
//! │ thread 0, 1 …: a runtime each                │     │ epoq-server, or --endpoint         │
//! │   connections: send → receive → delete ──────┼──┬─▶│                                    │
//! │   notes of every message ─▶ history ─▶ judge │  │  ├────────────────────────────────────┤
//! │                                              │  ├─▶│ echo: the ceiling. Recorded answers│
//! │ coordinator: passes in turn, processor time, │  │  ├────────────────────────────────────┤
//! │   drain, counts                              │  └─▶│ moto, if it is there               │
//! └──────────────────────────────────────────────┘     └────────────────────────────────────┘
//! ```
//!
//! The client does the same for each server: makes requests from templates, reads answers, writes down every message
//! ([`epoq_history`]). What the echo answers is what the server under test answered once, with the same headers and bytes; its notes
//! are thrown away, all others are judged before a figure is printed.

mod bodies;
mod child;
mod client;
mod command;
mod dialect;
mod echo;
mod pace;
mod pass;
mod report;

pub use child::{Kind, Serve};
pub use command::{EXAMPLES, Rate, Wire};

pub(crate) use child::serve;
pub(crate) use command::wire;
