//! Received messages, borrowed from the ledger.

use std::fmt;

use crate::{
    attribute::Attribute,
    clock::Millis,
    extras::Extras,
    ledger::{
        lease::{Claim, Claims, Place},
        slot::Entry,
    },
    message::{Message, SequenceNumber},
    queue::Queue,
    receipt::{MessageId, ReceiptHandle},
};

/// What one receive brought: 0 to 10 deliveries, borrowed from the ledger for as long as the turn lasts.
#[must_use = "these messages are leased: nobody else receives them until the lease is over"]
#[derive(Debug)]
pub struct Received<'t> {
    claims: Claims<'t>,
    queue: &'t Queue,
}

impl<'t> Received<'t> {
    #[inline]
    pub(crate) fn new(queue: &'t Queue) -> Self {
        Self {
            claims: Claims::new(),
            queue,
        }
    }

    /// Where to put what is claimed.
    #[inline]
    pub(crate) fn claims(&mut self) -> &mut Claims<'t> {
        &mut self.claims
    }

    /// How many.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.claims.len()
    }

    /// Whether there was nothing to receive.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// The delivery at `at`.
    #[inline]
    #[must_use]
    pub fn get(&self, at: usize) -> Option<Delivery<'t>> {
        self.claims.get(at).map(|&claim| Delivery {
            claim,
            queue: self.queue,
        })
    }

    /// The deliveries.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Delivery<'t>> + '_ {
        self.claims.iter().map(|&claim| Delivery {
            claim,
            queue: self.queue,
        })
    }
}

/// A received message, borrowed from the ledger: nothing is copied before you ask.
///
/// It gives access to the message's content until the turn ends, also after the lease is over or the message was
/// deleted. The right to act on the message is the [receipt handle](Delivery::receipt_handle), which outlives the turn.
#[derive(Clone, Copy)]
pub struct Delivery<'t> {
    claim: Claim<'t>,
    queue: &'t Queue,
}

impl<'t> Delivery<'t> {
    #[inline]
    pub(crate) fn new(claim: Claim<'t>, queue: &'t Queue) -> Self {
        Self { claim, queue }
    }

    #[inline]
    fn entry(&self) -> Entry {
        // SAFETY: this receive held the slot's token, and the turn it borrows from is still pinned.
        unsafe { self.claim.place().entry() }
    }

    /// The body.
    #[inline]
    #[must_use]
    pub fn body(&self) -> &'t [u8] {
        // SAFETY: read as above; 't ends with the turn's pin.
        unsafe { self.entry().body() }
    }

    fn extras(&self) -> Option<Extras<'t>> {
        // SAFETY: read as above; 't ends with the turn's pin.
        unsafe { self.entry().extras() }.map(Extras::new)
    }

    /// The message attributes, in the order they were given; see [`AttributeFilter`](crate::AttributeFilter) for choosing
    /// among them by name as SQS does.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'t>> + Clone + use<'t> {
        self.extras().into_iter().flat_map(|extras| extras.attributes())
    }

    /// The message group, if it was sent with one.
    #[must_use]
    pub fn message_group(&self) -> Option<&'t str> {
        self.extras()?.group()
    }

    /// The message deduplication id, in a FIFO queue: the one it was sent with, or the SHA-256 of its body in hexadecimal digits.
    /// Of a dead letter, the id it had as a message.
    #[must_use]
    pub fn deduplication_id(&self) -> Option<&'t str> {
        self.extras()?.deduplication()
    }

    /// The message's number in its group's order, in a FIFO queue.
    #[must_use]
    pub fn sequence_number(&self) -> Option<SequenceNumber> {
        SequenceNumber::new(self.claim.segment.link(self.claim.slot)?.sequence())
    }

    /// The system attribute `AWSTraceHeader`, if it was sent with one.
    #[must_use]
    pub fn trace_header(&self) -> Option<&'t str> {
        self.extras()?.trace_header()
    }

    /// The name of the queue that moved the message here because it had been received too often (SQS's
    /// `DeadLetterQueueSourceArn`).
    #[must_use]
    pub fn dead_letter_source(&self) -> Option<&'t str> {
        self.extras()?.moved()?.dead_letter_source()
    }

    /// The right to delete the message, or to extend or release its lease.
    #[inline]
    #[must_use]
    pub fn receipt_handle(&self) -> ReceiptHandle {
        let fixed = self.claim.segment.fixed();
        let place = Place {
            number: self.claim.segment.number(),
            serial: fixed.serial,
            slot: self.claim.slot,
        };
        ReceiptHandle::new(self.queue.id(), fixed.partition, place, self.claim.receives)
    }

    /// The message's id, the same on every redelivery, and in a dead-letter queue; computed when asked for (about 20 ns).
    #[must_use]
    pub fn message_id(&self) -> MessageId {
        let fixed = self.claim.segment.fixed();
        self.queue
            .message_id(self.extras(), fixed.partition, fixed.serial, self.claim.slot)
    }

    /// How often the message has been received, this time included: SQS's `ApproximateReceiveCount`, here exact.
    #[inline]
    #[must_use]
    pub fn receive_count(&self) -> u32 {
        self.claim.receives
    }

    /// When the message was sent; see [`Broker::unix_millis`](crate::Broker::unix_millis) for SQS's `SentTimestamp`.
    #[inline]
    #[must_use]
    pub fn sent_at(&self) -> Millis {
        self.entry().sent()
    }

    /// When the message was first received.
    #[must_use]
    pub fn first_received_at(&self) -> Millis {
        let sent = self.sent_at();
        self.claim.place().received().first(sent).unwrap_or(sent)
    }

    /// When the lease ends.
    #[cfg(not(loom))]
    pub(crate) fn due(&self) -> Millis {
        self.claim.place().state().due()
    }

    /// A copy that outlives the turn.
    #[must_use]
    pub fn to_message(&self) -> Message {
        let entry = self.entry();
        Message {
            // SAFETY: as in `body`.
            bytes: unsafe { entry.body_and_extras() }.into(),
            body: entry.length(),
            id: self.message_id(),
            handle: self.receipt_handle(),
            receives: self.receive_count(),
            sent: self.sent_at(),
            first_received: self.first_received_at(),
            sequence: self.sequence_number(),
        }
    }
}

impl fmt::Debug for Delivery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("message_id", &self.message_id())
            .field("receives", &self.receive_count())
            .field("bytes", &self.body().len())
            .finish()
    }
}
