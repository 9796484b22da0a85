//! Whether a queue keeps its promises, told from what its users saw.
//!
//! Users enter what they did and got; a promise that was broken is told at once, as [`Broken`]. [`Books`] follow each message from
//! its sending to its end; [`Groups`] look at the order of a FIFO queue's message groups. Nothing here depends on the ledger.
//!
//! What it does that `epoq-history` does not: it judges while the queue runs, in memory that grows with the messages
//! that are there and not with those there ever were. A soak of 10^9 messages leaves no history to be kept, and a promise that is broken
//! after ten minutes is to stop it then; an exploration of a schedule ends at the step that broke it. For that it knows fewer rules,
//! and each delivery has to be entered with bounds that hold whatever the scheduler did. Histories that fit into memory, of any queue and
//! by all rules, are the other one's.

mod books;
mod groups;

use std::fmt;

pub use books::{Books, Id, Lease, Totals};
pub use groups::{Delivery, Groups};

/// A promise of the queue that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A moment: by the broker's clock, and by something that goes on while that stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds of the broker's clock.
    pub ms: u64,
    /// Nanoseconds of the machine's clock, or steps of an exploration.
    pub tick: u64,
}
