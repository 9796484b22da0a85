//! Messages as their senders and owners hold them.

use std::{fmt, time::Duration};

use crate::{
    attribute::Attribute,
    clock::Millis,
    extras::Extras,
    ledger::segment::Segment,
    queue::Queue,
    receipt::{MessageId, ReceiptHandle},
};

/// A message to be sent that is more than a body: with a delay of its own, attributes, a message group.
///
/// ```
/// use std::time::Duration;
/// use epoq::{Attribute, Broker, Outgoing, QueueConfig};
/// let queue = Broker::new().create_queue("q", QueueConfig::default())?;
/// let attributes = [Attribute::string("kind", "fruit"), Attribute::number("weight", "1.5")];
/// let message = Outgoing::new(b"apples").attributes(&attributes).message_group("tenant-7");
/// queue.send_message(&message)?;
/// queue.send_message(&message.delay(Duration::from_secs(60)))?;
/// let received = queue.receive(10, None)?;
/// assert_eq!(received.len(), 1); // the other one is delayed
/// assert_eq!(received[0].message_group(), Some("tenant-7"));
/// assert_eq!(received[0].attributes().next(), Some(attributes[0]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) delay: Option<Duration>,
    pub(crate) attributes: &'a [Attribute<'a>],
    pub(crate) group: Option<&'a str>,
    pub(crate) trace_header: Option<&'a str>,
}

impl<'a> Outgoing<'a> {
    /// A message of this body, which has at least one byte.
    #[must_use]
    pub const fn new(body: &'a [u8]) -> Self {
        Self {
            body,
            delay: None,
            attributes: &[],
            group: None,
            trace_header: None,
        }
    }

    /// Not to be received before `delay` is over: 0..=900 s, or 14 days in queues that allow it. Takes the place of the queue's
    /// delay, also if it is zero (SQS's `DelaySeconds`).
    #[must_use]
    pub const fn delay(self, delay: Duration) -> Self {
        Self {
            delay: Some(delay),
            ..self
        }
    }

    /// Message attributes, at most 10. Their names, types and values count as part of the message's size (SQS).
    #[must_use]
    pub const fn attributes(self, attributes: &'a [Attribute<'a>]) -> Self {
        Self { attributes, ..self }
    }

    /// The message group: on a standard queue the tenant that the message is for (SQS's fair queues). 1 to 128 characters.
    #[must_use]
    pub const fn message_group(self, group: &'a str) -> Self {
        Self {
            group: Some(group),
            ..self
        }
    }

    /// The system attribute `AWSTraceHeader`, which does not count as part of the message's size (SQS); at most
    /// 1 MiB.
    #[must_use]
    pub const fn trace_header(self, header: &'a str) -> Self {
        Self {
            trace_header: Some(header),
            ..self
        }
    }

    /// Whether there is nothing but a body.
    pub(crate) const fn is_plain(&self) -> bool {
        self.delay.is_none()
            && self.attributes.is_empty()
            && self.group.is_none()
            && self.trace_header.is_none()
    }

    /// Its size as SQS reckons it.
    pub(crate) fn size(&self) -> usize {
        self.attributes.iter().fold(self.body.len(), |sum, attribute| {
            sum.saturating_add(attribute.size())
        })
    }
}

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
        self.queue
            .message_id(None, self.partition, self.serial, self.slot)
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
    /// The body, and extras behind it if there are any.
    pub(crate) bytes: Box<[u8]>,
    pub(crate) body: usize,
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
        self.bytes.get(..self.body).unwrap_or_default()
    }

    /// The body, taken out.
    #[must_use]
    pub fn into_body(self) -> Box<[u8]> {
        let mut bytes = self.bytes.into_vec();
        bytes.truncate(self.body);
        bytes.into_boxed_slice()
    }

    fn extras(&self) -> Option<Extras<'_>> {
        self.bytes
            .get(self.body..)
            .filter(|extras| !extras.is_empty())
            .map(Extras::new)
    }

    /// The message attributes, in the order they were given.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'_>> + Clone {
        self.extras().into_iter().flat_map(|extras| extras.attributes())
    }

    /// The message group, if it was sent with one.
    #[must_use]
    pub fn message_group(&self) -> Option<&str> {
        self.extras()?.group()
    }

    /// The system attribute `AWSTraceHeader`, if it was sent with one.
    #[must_use]
    pub fn trace_header(&self) -> Option<&str> {
        self.extras()?.trace_header()
    }

    /// The name of the queue that moved the message here because it had been received too often (SQS's
    /// `DeadLetterQueueSourceArn`).
    #[must_use]
    pub fn dead_letter_source(&self) -> Option<&str> {
        self.extras()?.moved()?.dead_letter_source()
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
