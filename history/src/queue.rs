//! What a queue must be able to do to be driven.

use std::time::Duration;

use crate::event::{Answer, Outcome};

/// A queue, or a connection to one: in this process or at the other end of a wire.
///
/// A call that fails without telling whether it took effect, because of a timeout for example, says so with
/// [`Answer::Unknown`], [`Outcome::Unknown`] or, of a receive, `None`. It must not be repeated within the call, unless the queue
/// recognises the repetition: two messages of one send would be two messages of one token.
pub trait Queue: Sync {
    /// What a receive gives to delete the message by.
    type Handle: Clone + Send;

    /// Sends a message.
    fn send(&self, message: &Outgoing<'_>) -> Answer;

    /// Receives at most `max` messages into `into`, which is empty, and leases them for `visibility`. True if this is all that
    /// was received; false if more may have been, as there was no answer.
    fn receive(&self, max: usize, visibility: Duration, into: &mut Vec<Delivery<Self::Handle>>) -> bool;

    /// Deletes a message.
    fn delete(&self, handle: &Self::Handle) -> Outcome;

    /// Changes a lease, so that it ends `visibility` from now.
    fn change_visibility(&self, handle: &Self::Handle, visibility: Duration) -> Outcome;

    /// Empties the queue.
    fn purge(&self) -> Outcome {
        Outcome::Refused
    }

    /// Bytes in use and bytes that may be, if it can tell.
    fn memory(&self) -> Option<(u64, u64)> {
        None
    }
}

/// A message to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// A text; see [`body_of`](crate::body_of).
    pub body: &'a str,
    /// Not to be received before that is over.
    pub delay: Duration,
    /// The message group, of a FIFO queue.
    pub group: Option<&'a str>,
    /// The deduplication id, of a FIFO queue.
    pub deduplication: Option<&'a str>,
}

/// A message received.
#[derive(Debug, Clone)]
pub struct Delivery<H> {
    /// What it is deleted by.
    pub handle: H,
    /// The body.
    pub body: Vec<u8>,
    /// The message's id; [`id_of`](crate::id_of) makes one of a text.
    pub id: u128,
    /// How often it has been received with this time, if the queue tells.
    pub receives: Option<u32>,
    /// The message group, if it has one.
    pub group: Option<String>,
    /// The sequence number, if it has one.
    pub sequence: Option<u128>,
    /// 0 if it comes from the queue, 1 if from its dead-letter queue.
    pub lane: u8,
}
