#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod body;
mod check;
pub mod drive;
mod event;
mod history;
mod queue;
mod recorder;
mod rules;
mod time;
mod verdict;

pub use body::{body_of, id_of, token_of};
pub use check::check;
pub use event::{Action, Answer, Event, Lease, Outcome, Received, Sent};
pub use history::{End, History, MergeError};
pub use queue::{Delivery, Outgoing, Queue};
pub use recorder::Recorder;
pub use rules::{Rule, Rules};
pub use time::{ManualTime, RealTime, Time};
pub use verdict::{Finding, Seen, Verdict};
