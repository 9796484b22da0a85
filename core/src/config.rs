//! Capacities, bit widths and limits; tiny under loom, so that the edges lie inside a model.
#![cfg_attr(
    not(loom),
    allow(unreachable_pub, reason = "public to the models only, see lib.rs")
)]

use std::time::Duration;

/// Ready words of a segment.
pub const WORDS: usize = if cfg!(loom) { 2 } else { 4 };
/// Tokens in a ready word. The top bit of the word is the partition's `PASSED` mark, so at most 63.
pub const BITS: usize = if cfg!(loom) { 1 } else { 63 };
/// Slots of a segment.
pub const SLOTS: usize = WORDS * BITS;
/// Bodies up to this many bytes live in the segment's arena, larger ones in an allocation of their own.
pub const ARENA_BODY_MAX: usize = if cfg!(loom) { 8 } else { 1024 };
/// Granularity of a segment's allocation in bytes, header and arena together.
pub const SEGMENT_ROUND: usize = if cfg!(loom) { 64 } else { 4096 };
/// Arena of a partition's first segment in bytes, before anything is known of its traffic.
pub const ARENA_FIRST: usize = if cfg!(loom) { 16 } else { 4096 };
/// Spare segments a partition keeps for reuse; what comes back beyond that goes to the system.
pub const POOL_MAX: u32 = if cfg!(loom) { 1 } else { 16 };
/// Nodes of the returned queue that a receive with something in hand looks at; one with empty hands goes on to the end.
pub const RETURNED_VISITS: usize = 32;
/// Nodes of the returned queue that a receive which took nothing through them clears away if they are done: more than the
/// one that each receive can bring about.
pub const TIDY_VISITS: usize = 2 * BATCH_MAX;
/// Segments from the head on in which a receive looks for messages never received before, when the head's has some that
/// have come back.
pub const NEW_SEGMENTS: usize = 8;
/// Longest time between two looks at a partition's deadlines while it is used, in milliseconds: how late a
/// redelivery may be when the hint of [`Partition::sweep_at`](crate::ledger::partition) lost a race.
pub const SWEEP_PERIOD_MS: u64 = 10;

/// Messages in one batch, and in one receive: SQS's limit.
pub const BATCH_MAX: usize = 10;
/// Bytes in one message, and in the bodies of one batch: SQS's limit.
pub const BODY_MAX: usize = 1 << 20;
/// Longest visibility timeout, and longest total of one lease: SQS's limit.
pub const VISIBILITY_MAX: Duration = Duration::from_secs(12 * 60 * 60);
/// Memory a broker may use unless told otherwise, in bytes.
pub const MEMORY_LIMIT_DEFAULT: u64 = 1 << 30;
/// Most partitions of a queue: what a receipt handle has room for.
pub const PARTITIONS_MAX: usize = 1 << PARTITION_BITS;
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
// Any body meant for the arena fits into an arena that is still empty, so a sealed segment always makes progress possible.
const _: () = assert!(ARENA_FIRST >= ARENA_BODY_MAX);
// Reservation counts bytes in 32 bits: a full arena plus what every thread may add on top stays far below that.
const _: () = assert!(SLOTS * ARENA_BODY_MAX < 1 << 24);
// A batch fits into an empty segment (except under loom, where every batch is one message).
const _: () = assert!(cfg!(loom) || BATCH_MAX <= SLOTS);

/// What a queue is configured with.
///
/// There is nothing here about partitions: they follow the machine and the traffic.
///
/// ```
/// use epoq::{Broker, QueueConfig};
/// let broker = Broker::new();
/// let config = QueueConfig { max_message_bytes: 64 * 1024, ..QueueConfig::default() };
/// let queue = broker.create_queue("small", config)?;
/// assert!(queue.send(&vec![b'x'; 64 * 1024 + 1]).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// Largest body in bytes, 1..=1,048,576 (SQS's `MaximumMessageSize`; the default is the maximum).
    pub max_message_bytes: usize,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            max_message_bytes: BODY_MAX,
        }
    }
}
