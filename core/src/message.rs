//! Messages as their senders and owners hold them.

use std::{fmt, num::NonZeroU64, time::Duration};

use crate::{
    attribute::Attribute,
    clock::Millis,
    config::{PARTITION_BITS, SERIAL_BITS, SLOT_BITS},
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
    pub(crate) deduplication: Option<&'a str>,
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
            deduplication: None,
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

    /// The message group. On a FIFO queue, where every message has one, messages of a group are received in the order they were
    /// sent; on a standard queue it names the tenant that the message is for (SQS's fair queues). 1 to 128 characters.
    #[must_use]
    pub const fn message_group(self, group: &'a str) -> Self {
        Self {
            group: Some(group),
            ..self
        }
    }

    /// The message deduplication id (FIFO queues): a message sent within five minutes after another one of the same id is taken
    /// for the same message, and not accepted a second time. 1 to 128 characters; on a queue with content-based deduplication
    /// the SHA-256 of the body takes its place if there is none.
    #[must_use]
    pub const fn deduplication_id(self, id: &'a str) -> Self {
        Self {
            deduplication: Some(id),
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
            && self.deduplication.is_none()
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
    place: SentPlace,
}

/// Where a message was put, and its number in its group: two words.
///
/// ```text
/// serial:48 │ slot:8 │ partition's low bits:8        partition's high bits:4 │ sequence:60
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SentPlace(pub(crate) [u64; 2]);

const LOW_BITS: u32 = 8;
const SEQUENCE_BITS: u32 = 60;
const LOW: u64 = (1 << LOW_BITS) - 1;
/// A sequence number's bits in the second word.
pub(crate) const SEQUENCE: u64 = (1 << SEQUENCE_BITS) - 1;

// The fields fill their words.
const _: () = assert!(SERIAL_BITS + SLOT_BITS + LOW_BITS == 64);
const _: () = assert!(PARTITION_BITS - LOW_BITS + SEQUENCE_BITS == 64);

impl SentPlace {
    #[inline]
    pub(crate) fn new(segment: &Segment, slot: usize, sequence: u64) -> Self {
        let fixed = segment.fixed();
        let partition = u64::from(fixed.partition);
        Self([
            fixed.serial << (SLOT_BITS + LOW_BITS) | (slot as u64) << LOW_BITS | partition & LOW,
            partition >> LOW_BITS << SEQUENCE_BITS | sequence,
        ])
    }

    pub(crate) fn partition(self) -> u32 {
        (self.0[0] & LOW | self.0[1] >> SEQUENCE_BITS << LOW_BITS) as u32
    }

    pub(crate) fn serial(self) -> u64 {
        self.0[0] >> (SLOT_BITS + LOW_BITS)
    }

    pub(crate) fn slot(self) -> u32 {
        (self.0[0] >> LOW_BITS) as u32 & ((1 << SLOT_BITS) - 1)
    }

    pub(crate) fn sequence(self) -> Option<SequenceNumber> {
        SequenceNumber::new(self.0[1] & SEQUENCE)
    }
}

/// A message's number in a FIFO queue: within a message group it grows in the order of delivery, and nothing is said about
/// messages of different groups. Displayed as SQS does, in 20 digits.
///
/// ```
/// use epoq::{Broker, FifoConfig, Outgoing, QueueConfig};
/// let queue = Broker::new().create_queue("q.fifo", QueueConfig { fifo: Some(FifoConfig::default()), ..QueueConfig::default() })?;
/// let of_a = Outgoing::new(b"1").message_group("a");
/// let first = queue.send_message(&of_a.deduplication_id("1"))?.sequence_number();
/// let second = queue.send_message(&of_a.deduplication_id("2"))?.sequence_number();
/// assert!(first < second);
/// assert_eq!(first.expect("a FIFO queue").to_string().len(), 20);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceNumber(NonZeroU64);

/// What the text of sequence number 0 would be, and how far apart those of neighbours are: as AWS's look.
const SEQUENCE_BASE: u128 = 18_849_496_460_467_696_128;
const SEQUENCE_STEP: u128 = 256;

impl SequenceNumber {
    pub(crate) fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// The number that SQS's text stands for.
    #[must_use]
    pub fn to_u128(self) -> u128 {
        SEQUENCE_BASE + SEQUENCE_STEP * u128::from(self.0.get())
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}", self.to_u128())
    }
}

impl<'q> Sent<'q> {
    #[inline]
    pub(crate) fn new(queue: &'q Queue, segment: &Segment, slot: usize) -> Self {
        Self::at(queue, SentPlace::new(segment, slot, 0))
    }

    #[inline]
    pub(crate) fn at(queue: &'q Queue, place: SentPlace) -> Self {
        Self { queue, place }
    }

    /// The message's id; computed when asked for (about 20 ns).
    #[must_use]
    pub fn message_id(&self) -> MessageId {
        let place = self.place;
        self.queue
            .message_id(None, place.partition(), place.serial(), place.slot())
    }

    /// The message's number in its group's order, in a FIFO queue. A message sent again within the deduplication interval has
    /// that of the first time.
    #[must_use]
    pub fn sequence_number(&self) -> Option<SequenceNumber> {
        self.place.sequence()
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
    pub(crate) sequence: Option<SequenceNumber>,
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

    /// The message deduplication id, in a FIFO queue: the one it was sent with, or the SHA-256 of its body in hexadecimal digits.
    /// Of a dead letter, the id it had as a message.
    #[must_use]
    pub fn deduplication_id(&self) -> Option<&str> {
        self.extras()?.deduplication()
    }

    /// The message's number in its group's order, in a FIFO queue.
    #[must_use]
    pub fn sequence_number(&self) -> Option<SequenceNumber> {
        self.sequence
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

    /// When the message was first received. Of a dead letter in a FIFO queue, whose time of sending is that of the move, that moment.
    #[must_use]
    pub fn first_received_at(&self) -> Millis {
        self.first_received
    }
}
