//! Messages as their senders and owners hold them.

use std::fmt;

use crate::{
    clock::Millis,
    ledger::segment::Segment,
    queue::Queue,
    receipt::{MessageId, ReceiptHandle},
};

/// A message that has been accepted. From now on it is received at least once before it is gone.
#[derive(Clone, Copy)]
pub struct Sent<'q> {
    queue: &'q Queue,
    partition: u32,
    serial: u64,
    slot: u32,
}

impl<'q> Sent<'q> {
    #[inline]
    pub(crate) fn new(queue: &'q Queue, segment: &Segment, slot: usize) -> Self {
        let header = &segment.header;
        Self {
            queue,
            partition: header.partition,
            serial: header.serial,
            slot: slot as u32,
        }
    }

    /// The message's id; computed when asked for (about 20 ns).
    #[must_use]
    pub fn message_id(&self) -> MessageId {
        self.queue.message_id(self.partition, self.serial, self.slot)
    }
}

impl fmt::Debug for Sent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sent({})", self.message_id())
    }
}

/// A received message with its body copied out: what [`Queue::receive`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub(crate) body: Box<[u8]>,
    pub(crate) id: MessageId,
    pub(crate) handle: ReceiptHandle,
    pub(crate) receives: u32,
    pub(crate) sent: Millis,
    pub(crate) first_received: Millis,
}

impl Message {
    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body, taken out.
    #[must_use]
    pub fn into_body(self) -> Box<[u8]> {
        self.body
    }

    /// The message's id, the same on every redelivery.
    #[must_use]
    pub fn message_id(&self) -> MessageId {
        self.id
    }

    /// The right to delete the message, or to extend or release its lease.
    #[must_use]
    pub fn receipt_handle(&self) -> ReceiptHandle {
        self.handle
    }

    /// How often the message has been received, this time included: SQS's `ApproximateReceiveCount`, here exact.
    #[must_use]
    pub fn receive_count(&self) -> u32 {
        self.receives
    }

    /// When the message was sent; see [`Broker::unix_millis`](crate::Broker::unix_millis) for SQS's `SentTimestamp`.
    #[must_use]
    pub fn sent_at(&self) -> Millis {
        self.sent
    }

    /// When the message was first received.
    #[must_use]
    pub fn first_received_at(&self) -> Millis {
        self.first_received
    }
}
