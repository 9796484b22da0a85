//! What was done to a queue, and what it answered: the entries of a history.

use std::fmt;

/// One operation on one message: what was asked, what was answered, and between which readings of the clock.
///
/// A moment is a number of ticks of whatever clock the recording uses; all of one history must use the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The clock before the call.
    pub invoke: u64,
    /// The clock after it.
    pub back: u64,
    /// What was done.
    pub action: Action,
}

/// What was done, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A message was sent.
    Send(Sent),
    /// A message was received; a call that gave several is as many events of one [`Received::call`].
    Receive(Received),
    /// A receive was made whose answer is not known: it may have leased messages.
    LostReceive,
    /// A message was deleted by the handle of a lease.
    Delete {
        /// The receive that gave the handle.
        lease: Lease,
        /// What came of it.
        outcome: Outcome,
    },
    /// A lease was extended, shortened or, with a visibility of zero, given up.
    Change {
        /// The receive that gave the handle.
        lease: Lease,
        /// How long it was to last from now, in ticks.
        visibility: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// Lane 0 was emptied.
    Purge {
        /// What came of it.
        outcome: Outcome,
    },
    /// The queue's memory was looked at.
    Memory {
        /// Bytes in use: alive, in limbo and pooled.
        used: u64,
        /// Bytes that it may use.
        limit: u64,
    },
}

/// A send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// What the body tells: each send of a history has a token of its own, those of duplicates too.
    pub token: u64,
    /// What the queue said.
    pub answer: Answer,
    /// Not to be received within so many ticks.
    pub delay: u64,
    /// The message group, by a number.
    pub group: Option<u32>,
    /// The deduplication id, by a number.
    pub deduplication: Option<u64>,
}

/// What a queue says to a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The message is in the queue and has this id. In a FIFO queue that may be the id of an earlier one.
    Accepted(u128),
    /// The message is not in the queue and never will be.
    Refused,
    /// No answer, or one that says neither: it may be in the queue, or come into it later.
    Unknown,
}

/// One message of a receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// What the body tells; `None` if it is damaged.
    pub token: Option<u64>,
    /// The message's id.
    pub id: u128,
    /// How often it has been received with this time, if the queue tells.
    pub receives: Option<u32>,
    /// How long the lease was to last, in ticks.
    pub visibility: u64,
    /// The message group, by the number it was sent with.
    pub group: Option<u32>,
    /// Its place in the group, if the queue tells.
    pub sequence: Option<u128>,
    /// Which call of its recorder it was: [`Recorder::call`](crate::Recorder::call).
    pub call: u32,
    /// At which place in the answer.
    pub place: u16,
    /// 0 for the queue, 1 for its dead-letter queue, 2 for that one's …: a message goes up and never down.
    pub lane: u8,
}

/// One lease, named by the receive that began it: what a handle stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    pub(crate) worker: u16,
    pub(crate) at: u32,
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.worker, self.at)
    }
}

/// What came of an operation that needs a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was done.
    Done,
    /// Nothing: the message is not there any more.
    Gone,
    /// Nothing: the lease was over, and the message has been received again, or is on its way to that.
    Superseded,
    /// Nothing: the lease was over.
    Expired,
    /// Nothing, for a reason that says nothing about the lease: too many requests, a bad argument.
    Refused,
    /// No answer, or one that does not tell: it may have been done, or be done later.
    Unknown,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}] ", self.invoke, self.back)?;
        match &self.action {
            Action::Send(send) => {
                write!(f, "send {}", send.token)?;
                if let Some(group) = send.group {
                    write!(f, " to group {group}")?;
                }
                if let Some(key) = send.deduplication {
                    write!(f, " with deduplication id {key}")?;
                }
                if send.delay > 0 {
                    write!(f, " delayed by {}", send.delay)?;
                }
                match send.answer {
                    Answer::Accepted(id) => write!(f, ": accepted as {id:x}"),
                    Answer::Refused => f.write_str(": refused"),
                    Answer::Unknown => f.write_str(": no answer"),
                }
            }
            Action::Receive(receive) => {
                match receive.token {
                    Some(token) => write!(f, "receive {token}")?,
                    None => f.write_str("receive a damaged body")?,
                }
                write!(f, " of id {:x} for {}", receive.id, receive.visibility)?;
                if let Some(receives) = receive.receives {
                    write!(f, ", count {receives}")?;
                }
                if let Some(group) = receive.group {
                    write!(f, ", group {group}")?;
                }
                if let Some(sequence) = receive.sequence {
                    write!(f, ", sequence {sequence}")?;
                }
                if receive.lane > 0 {
                    write!(f, ", lane {}", receive.lane)?;
                }
                write!(f, ", call {} place {}", receive.call, receive.place)
            }
            Action::LostReceive => f.write_str("receive: no answer"),
            Action::Delete { lease, outcome } => write!(f, "delete by lease {lease}: {outcome:?}"),
            Action::Change {
                lease,
                visibility,
                outcome,
            } => write!(f, "change lease {lease} to {visibility}: {outcome:?}"),
            Action::Purge { outcome } => write!(f, "purge: {outcome:?}"),
            Action::Memory { used, limit } => write!(f, "memory: {used} of {limit} bytes"),
        }
    }
}
