//! Capacities, bit widths and limits; tiny in models and explorations, so that the edges lie inside them.
#![cfg_attr(
    not(loom),
    allow(unreachable_pub, reason = "public to the models only, see lib.rs")
)]

use std::time::Duration;

use crate::error::{ConfigError, Setting};

/// Whether this is the build of the models or of the explorations.
pub(crate) const TINY: bool = cfg!(any(loom, shuttle));

/// Ready words of a segment. Models have two words of one token or, with the real collector, one word of two; explorations two of
/// two.
pub const WORDS: usize = if cfg!(crossbeam_loom) {
    1
} else if TINY {
    2
} else {
    4
};
/// Tokens in a ready word. The top bit of the word is the partition's `PASSED` mark, so at most 63.
pub const BITS: usize = if cfg!(any(crossbeam_loom, shuttle)) {
    2
} else if cfg!(loom) {
    1
} else {
    63
};
/// Domains of epochs that a broker's partitions are spread over. A partition for each core, up to so many, has its own; a thread that
/// has come to all of them takes 2 KiB for each.
pub const DOMAINS: usize = if TINY { 4 } else { 64 };
/// Slots of a segment.
pub const SLOTS: usize = WORDS * BITS;
/// Bodies up to this many bytes live in the segment's arena, larger ones in an allocation of their own.
pub const ARENA_BODY_MAX: usize = if cfg!(loom) {
    8
} else if cfg!(shuttle) {
    64
} else {
    16 * 1024
};
/// Smallest arena in bytes of a segment that follows another one.
pub const ARENA_MIN: usize = if cfg!(loom) {
    ARENA_BODY_MAX
} else if cfg!(shuttle) {
    16
} else {
    1024
};
/// Largest arena in bytes, however large the bodies: what one of the smallest bodies in it can keep from being reused. With its
/// segment, 256 KiB.
pub const ARENA_MAX: usize = if TINY {
    SLOTS * ARENA_BODY_MAX
} else {
    256 * 1024 - 8448 - SEGMENT_SPARED
};
/// Bodies up to this many bytes live in arenas where a queue's memory has such a limit: a segment must not be most of it.
pub(crate) fn arena_body_max(limit: u64) -> usize {
    if TINY {
        return ARENA_BODY_MAX;
    }
    usize::try_from(limit / 16)
        .unwrap_or(usize::MAX)
        .clamp(ARENA_MIN, ARENA_BODY_MAX)
}

/// How many times as large as the one before it an arena can be, if it is larger than two of the largest bodies.
pub const ARENA_STEP: usize = 8;
/// Granularity of a segment's allocation in bytes, header and arena together.
pub const SEGMENT_ROUND: usize = if TINY { 64 } else { 4096 };
/// Bytes by which an allocation stays below that. Allocators with classes of sizes, mimalloc among them, add the alignment to what is
/// asked for: of 24 KiB and its alignment they make 28.
pub const SEGMENT_SPARED: usize = if TINY { 0 } else { 128 };
/// Arena of a partition's first segment in bytes, before anything is known of its traffic.
pub const ARENA_FIRST: usize = if cfg!(loom) {
    16
} else if cfg!(shuttle) {
    128
} else {
    1024
};
/// Spare segments a partition keeps for reuse; what comes back beyond that goes to the system.
pub const POOL_MAX: u32 = if cfg!(crossbeam_loom) {
    2
} else if TINY {
    1
} else {
    16
};
/// The same in bytes, for large segments; one is kept whatever its size.
pub const POOL_BYTES: usize = if TINY { usize::MAX } else { 1024 * 1024 };
/// Nodes of the returned queue that a receive with something in hand looks at; one with empty hands goes on to the end.
pub const RETURNED_VISITS: usize = 32;
/// Nodes of the returned queue that a receive which took nothing through them clears away if they are done: more than the
/// one that each receive can bring about.
pub const TIDY_VISITS: usize = 2 * BATCH_MAX;
/// Nodes of the returned queue that a send looks through which found no memory: those that are not done go to the back.
pub const TURNED_VISITS: usize = 64;
/// Nodes among which it is looked whether there is one that is done, before any goes to the back.
pub const TURNED_LOOKS: usize = 1_024;
/// Segments that the head moves on past in one receive although messages in them can be received: they have been before,
/// and the receive looks for others.
pub const PASSED_OVER: usize = 8;
/// Longest time between two looks at a partition's deadlines while it is used, in milliseconds: how late a
/// redelivery may be when the hint of [`Partition::sweep_at`](crate::ledger::partition) lost a race.
pub const SWEEP_PERIOD_MS: u64 = 10;

/// Messages in one batch, and in one receive: SQS's limit.
pub const BATCH_MAX: usize = 10;
/// Bytes in one message, and in the bodies of one batch: SQS's limit.
pub const BODY_MAX: usize = 1 << 20;
/// Attributes of one message: SQS's limit.
pub const ATTRIBUTES_MAX: usize = 10;
/// Longest visibility timeout, and longest total of one lease: SQS's limit.
pub const VISIBILITY_MAX: Duration = Duration::from_secs(12 * 60 * 60);
/// Longest delay: SQS's limit.
pub const DELAY_MAX: Duration = Duration::from_secs(900);
/// Longest delay of queues with `long_delays`: the longest retention.
pub const LONG_DELAY_MAX: Duration = RETENTION_MAX;
/// Shortest retention period: SQS's limit.
pub const RETENTION_MIN: Duration = Duration::from_secs(60);
/// Longest retention period: SQS's limit.
pub const RETENTION_MAX: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// Retention period unless told otherwise: SQS's.
pub const RETENTION_DEFAULT: Duration = Duration::from_secs(4 * 24 * 60 * 60);
/// Longest wait of a receive: SQS's limit.
pub const WAIT_MAX: Duration = Duration::from_secs(20);
/// Largest `max_receives` of a redrive policy: SQS's limit.
pub const MAX_RECEIVES_LIMIT: u32 = 1_000;
/// Most queues that a redrive allow policy can name: SQS's limit.
pub const REDRIVE_SOURCES_MAX: usize = 10;
/// Messages in flight unless told otherwise: SQS's limit.
pub const IN_FLIGHT_MAX_DEFAULT: u64 = 120_000;
/// How long a message stays put whose dead-letter queue had no room for it, in milliseconds.
pub const PUT_OFF_MS: u64 = 1_000;
/// Messages that one receive moves or throws away before it gives up looking for others; a few more in its last pass.
pub const DECISIONS_MAX: usize = if TINY { 16 } else { 128 };
/// Highest rate of a message move task in messages per second: SQS's limit.
pub const MOVE_RATE_MAX: u32 = 500;
/// Message move tasks of a broker that run at a time: SQS's limit.
pub const MOVES_MAX: usize = 100;
/// Longest run of a message move task: SQS's limit.
pub const MOVE_TIME_MAX: Duration = Duration::from_secs(36 * 60 * 60);
/// Message move tasks of a queue that are remembered and listed: SQS's limit of one list.
pub const MOVES_LISTED_MAX: usize = 10;
/// Messages that one step of a message move task moves at most.
pub const MOVE_STEP_MAX: usize = 100;
/// Tenants of a queue that are told apart, and tenants that can have limits of their own; those beyond count as quiet.
pub const TENANTS_MAX: usize = if TINY { 2 } else { 1_024 };
/// Places of the table that one tenant may have.
pub const TENANT_PROBES: usize = if TINY { 2 } else { 16 };
/// A tenant for whom nothing was sent for so long is not noisy: SQS's rule.
pub const TENANT_IDLE_MS: u64 = 5 * 60 * 1_000;
/// Highest weight of a tenant.
pub const TENANT_WEIGHT_MAX: u32 = 1_000;
/// Messages that one peek shows at most.
pub const PEEK_MAX: usize = 1_000;
/// Memory a broker may use unless told otherwise, in bytes.
pub const MEMORY_LIMIT_DEFAULT: u64 = 1 << 30;
/// Most partitions of a queue: what a receipt handle has room for.
pub const PARTITIONS_MAX: usize = 1 << PARTITION_BITS;
/// How long after a message was first sent another one of the same deduplication id is taken for the same: SQS's rule. As
/// long a receive can be repeated by its attempt id.
pub const DEDUPLICATION_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Memory that a FIFO queue's deduplication ids may use unless told otherwise, in bytes: some 2.8 million ids.
pub const DEDUPLICATION_MEMORY_DEFAULT: u64 = 256 << 20;
/// Receive attempt ids of a queue that are remembered at a time.
pub const ATTEMPTS_MAX: usize = 65_536;
/// How long an empty message group of a FIFO queue stays, in milliseconds.
pub const GROUP_LINGERS_MS: u64 = 1_000;
/// What the name of a FIFO queue ends in: SQS's rule.
pub const FIFO_SUFFIX: &str = ".fifo";
/// Longest name of a queue in characters: SQS's limit.
pub const NAME_MAX: usize = 80;

/// Width of a partition's number in a receipt handle.
pub const PARTITION_BITS: u32 = 12;
/// Width of a segment's index number in a receipt handle: 16 Mi segments, 4 G messages a partition.
pub const INDEX_BITS: u32 = 24;
/// Width of a segment's serial: 39,000 segments/s (10 M messages/s) wrap it after 228 years.
pub const SERIAL_BITS: u32 = 48;
/// Width of a slot's number in a receipt handle.
pub const SLOT_BITS: u32 = 8;

// A ready word has a bit to spare for PASSED.
const _: () = assert!(BITS < 64);
// Every slot has a number in a handle.
const _: () = assert!(SLOTS <= 1 << SLOT_BITS);
// Any body meant for the arena fits into the arena that its own sender has made.
const _: () = assert!(ARENA_BODY_MAX <= ARENA_MAX && ARENA_MIN <= ARENA_BODY_MAX);
// Reservation counts bytes in 32 bits: a full arena plus what every thread may add on top stays far below that.
const _: () = assert!(SLOTS * ARENA_BODY_MAX < 1 << 24);
// A batch fits into an empty segment (except where segments are tiny).
const _: () = assert!(TINY || BATCH_MAX <= SLOTS);

/// What a queue is configured with: SQS's queue attributes, and a few limits of our own.
///
/// There is nothing here about partitions: they follow the machine and the traffic. All of it can be changed later with
/// [`Broker::configure`](crate::Broker::configure).
///
/// ```
/// use epoq::{Broker, QueueConfig, Redrive};
/// let broker = Broker::new();
/// broker.create_queue("orders-failed", QueueConfig::default())?;
/// let config = QueueConfig {
///     max_message_bytes: 64 * 1024,
///     redrive: Some(Redrive::new("orders-failed", 5)),
///     ..QueueConfig::default()
/// };
/// let queue = broker.create_queue("orders", config)?;
/// assert!(queue.send(&vec![b'x'; 64 * 1024 + 1]).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// Largest message in bytes, 1..=1,048,576: body and message attributes (SQS's `MaximumMessageSize`; the default is the
    /// maximum).
    pub max_message_bytes: usize,
    /// How long a message sent without a delay of its own is kept from being received: 0..=900 s (SQS's `DelaySeconds`;
    /// default 0). Messages already sent keep theirs; in a FIFO queue, where no message has one of its own, a change is for all that
    /// have not been received yet (SQS).
    pub delay: Duration,
    /// Allows delays of up to 14 days (ours; default no).
    pub long_delays: bool,
    /// The visibility timeout of receives that name none: 0..=12 h (SQS's `VisibilityTimeout`; default 30 s).
    pub visibility_timeout: Duration,
    /// How long a receive that may wait does so, unless it says: 0..=20 s (SQS's `ReceiveMessageWaitTimeSeconds`; default
    /// 0).
    pub wait: Duration,
    /// How long after it was sent a message is removed, in whatever state: 60 s..=14 days (SQS's
    /// `MessageRetentionPeriod`; default 4 days). Applies at once to messages already there.
    pub retention: Duration,
    /// Where messages go that were received too often (SQS's `RedrivePolicy`; default nowhere).
    pub redrive: Option<Redrive>,
    /// Which queues may name this one in their `redrive` (SQS's `RedriveAllowPolicy`; default all).
    pub redrive_allow: RedriveAllow,
    /// Most messages in flight at a time; `None` for no limit (SQS: about 120,000, the default). Exact for one thread;
    /// threads that receive at the same time may exceed it by what they take in that moment.
    pub in_flight_max: Option<u64>,
    /// Bytes of the broker's memory budget that this queue may use; `None` for no limit of its own (ours; default `None`).
    pub memory_limit: Option<u64>,
    /// Makes it a FIFO queue, whose name ends in `.fifo` (SQS's `FifoQueue`; default no). Cannot be changed later; what is in it
    /// can.
    pub fifo: Option<FifoConfig>,
}

/// What makes a queue a FIFO queue: messages of a group in order, and none accepted twice.
///
/// ```
/// use epoq::{Broker, FifoConfig, Outgoing, QueueConfig};
/// let config = QueueConfig { fifo: Some(FifoConfig::default()), ..QueueConfig::default() };
/// let queue = Broker::new().create_queue("orders.fifo", config)?;
/// for (number, body) in ["created", "paid", "shipped"].iter().enumerate() {
///     let id = format!("order-7-{number}");
///     queue.send_message(&Outgoing::new(body.as_bytes()).message_group("order-7").deduplication_id(&id))?;
/// }
/// let first = queue.receive(1, None)?;
/// assert_eq!(first[0].body(), b"created");
/// assert!(queue.receive(10, None)?.is_empty()); // the others wait until it is done with
/// queue.delete(&first[0].receipt_handle())?;
/// assert_eq!(queue.receive(10, None)?.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FifoConfig {
    /// Messages sent without a deduplication id have the SHA-256 of their body for one (SQS's `ContentBasedDeduplication`; default
    /// no: then a message without one is refused).
    pub content_based_deduplication: bool,
    /// Among which messages an id is unique (SQS's `DeduplicationScope`; default all of the queue). A change applies at once.
    pub deduplication_scope: DeduplicationScope,
    /// Bytes that the ids of the last five minutes may use (ours; default 256 MiB, some 2.8 million ids). They count against the
    /// queue's and the broker's memory too. When they are used up sends are refused; no id is forgotten early.
    pub deduplication_memory: u64,
}

impl Default for FifoConfig {
    fn default() -> Self {
        Self {
            content_based_deduplication: false,
            deduplication_scope: DeduplicationScope::Queue,
            deduplication_memory: DEDUPLICATION_MEMORY_DEFAULT,
        }
    }
}

/// Among which messages a deduplication id is unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeduplicationScope {
    /// Those of the queue.
    #[default]
    Queue,
    /// Those of the message's group.
    MessageGroup,
}

/// Where messages go that were received too often.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Redrive {
    /// The dead-letter queue's name.
    pub target: String,
    /// How often a message is delivered before the next receive moves it, 1..=1,000.
    pub max_receives: u32,
}

impl Redrive {
    /// A message that has been received `max_receives` times goes to the queue `target` next time.
    #[must_use]
    pub fn new(target: impl Into<String>, max_receives: u32) -> Self {
        Self {
            target: target.into(),
            max_receives,
        }
    }
}

/// Which queues may have a queue as their dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RedriveAllow {
    /// Any.
    #[default]
    All,
    /// None.
    Nobody,
    /// Those of these names, 1 to 10 of them.
    Queues(Vec<String>),
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            max_message_bytes: BODY_MAX,
            delay: Duration::ZERO,
            long_delays: false,
            visibility_timeout: Duration::from_secs(30),
            wait: Duration::ZERO,
            retention: RETENTION_DEFAULT,
            redrive: None,
            redrive_allow: RedriveAllow::All,
            in_flight_max: Some(IN_FLIGHT_MAX_DEFAULT),
            memory_limit: None,
            fifo: None,
        }
    }
}

impl QueueConfig {
    /// The limits of each field, without what needs other queues to be known.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let within = |given: Duration, least: Duration, limit: Duration, field: Setting| {
            if (least..=limit).contains(&given) {
                Ok(())
            } else {
                Err(ConfigError::OutOfRange {
                    field,
                    given,
                    least,
                    limit,
                })
            }
        };
        if !(1..=BODY_MAX).contains(&self.max_message_bytes) {
            return Err(ConfigError::MaxMessageBytes {
                given: self.max_message_bytes,
                limit: BODY_MAX,
            });
        }
        within(self.delay, Duration::ZERO, self.delay_max(), Setting::Delay)?;
        within(
            self.visibility_timeout,
            Duration::ZERO,
            VISIBILITY_MAX,
            Setting::VisibilityTimeout,
        )?;
        within(self.wait, Duration::ZERO, WAIT_MAX, Setting::Wait)?;
        within(self.retention, RETENTION_MIN, RETENTION_MAX, Setting::Retention)?;
        if let Some(redrive) = &self.redrive
            && !(1..=MAX_RECEIVES_LIMIT).contains(&redrive.max_receives)
        {
            return Err(ConfigError::MaxReceives {
                given: redrive.max_receives,
                limit: MAX_RECEIVES_LIMIT,
            });
        }
        if let RedriveAllow::Queues(names) = &self.redrive_allow
            && !(1..=REDRIVE_SOURCES_MAX).contains(&names.len())
        {
            return Err(ConfigError::RedriveSources {
                given: names.len(),
                limit: REDRIVE_SOURCES_MAX,
            });
        }
        Ok(())
    }

    /// The longest delay a message can have here.
    pub(crate) fn delay_max(&self) -> Duration {
        if self.long_delays {
            LONG_DELAY_MAX
        } else {
            DELAY_MAX
        }
    }
}
