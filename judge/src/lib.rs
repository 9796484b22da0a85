//! Whether a queue keeps its promises, told from what its users saw.
//!
//! Users enter what they did and got; a promise that was broken is told at once, as [`Broken`]. [`Books`] follow each message from
//! its sending to its end; [`Groups`] look at the order of a FIFO queue's message groups. Nothing here depends on the ledger.

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
