//! An in-memory message ledger with the semantics of Amazon SQS: lock-free, partitioned per core, made to be embedded.
//!
//! A queue of this kind does not store messages, it keeps a ledger of each message's *state and owner*: a producer
//! [sends](Queue::send); a consumer [receives](Queue::receive) up to 10 messages, which are then *in flight*, invisible
//! to everybody else, for a visibility timeout; with the receipt handle it [deletes](Queue::delete) them, or
//! [extends or gives up](Queue::change_visibility) the lease; if it does nothing, they become visible again.
//!
//! ```text
//! Broker           names -> queues, memory budget, clock
//! └─ Queue         policy: limits, where a receive looks
//!    └─ Partition  one at first, up to one per core: where a core sends, and first looks to receive
//!       └─ Segment 252 slots: four ready words, a live count, bodies; reclaimed by epochs
//!          └─ Slot one state word = the truth about one message; one entry, written once
//! ```
//!
//! # Guarantees
//!
//! * A message accepted is received at least once before it is gone, unless it is purged or its retention ends.
//! * At most one lease of a message is live at any time.
//! * A receipt handle acts only on the lease it was given for.
//! * Send, receive, delete and visibility changes take no lock and wait for no other thread; the few exceptions are named at
//!   [`Queue`].
//! * In a [FIFO queue](FifoConfig) messages of a group are received in the order they were sent, and none is accepted twice within five
//!   minutes.
//! * Memory stays within the broker's budget: a send beyond it gets a typed answer, nothing is dropped.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use epoq::{Broker, QueueConfig};
//!
//! let broker = Broker::new();
//! let queue = broker.create_queue("orders", QueueConfig::default())?;
//! queue.send(b"42 apples")?;
//!
//! for message in queue.receive(10, Duration::from_secs(30))? {
//!     println!("{}: {} bytes", message.message_id(), message.body().len());
//!     queue.delete(&message.receipt_handle())?;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Threads that do much should register a [`Worker`] and work in [turns](Worker::turn): one pin and one reading of the
//! clock for many operations, and bodies borrowed instead of copied.

#![cfg_attr(
    loom,
    allow(
        clippy::modulo_one,
        clippy::new_without_default,
        clippy::identity_op,
        clippy::should_implement_trait,
        reason = "words of one token, and insides made public for the models"
    )
)]

// The ledger's insides are public to the models of `epoq-loom`, and to nobody else.
mod attribute;
mod batch;
mod broker;
#[cfg(loom)]
pub mod budget;
#[cfg(not(loom))]
mod budget;
#[cfg(loom)]
pub mod clock;
#[cfg(not(loom))]
mod clock;
#[cfg(loom)]
pub mod config;
#[cfg(not(loom))]
mod config;
mod delivery;
mod error;
#[cfg(loom)]
pub mod extras;
#[cfg(not(loom))]
mod extras;
#[cfg(loom)]
pub mod ledger;
#[cfg(not(loom))]
mod ledger;
#[cfg(lines)]
pub mod lines;
mod message;
mod move_task;
#[cfg(loom)]
pub mod queue;
#[cfg(not(loom))]
mod queue;
mod receipt;
#[cfg(loom)]
pub mod sync;
#[cfg(not(loom))]
mod sync;
mod turn;
#[cfg(loom)]
pub mod wait;
#[cfg(not(loom))]
mod wait;
mod worker;

pub use attribute::{Attribute, AttributeError, AttributeFilter, AttributeValue};
pub use batch::Batch;
pub use broker::{Broker, Builder};
pub use budget::MemoryUse;
pub use clock::{Clock, ManualClock, Millis};
pub use config::{DeduplicationScope, FifoConfig, QueueConfig, Redrive, RedriveAllow};
pub use delivery::{Delivery, Received};
pub use error::{
    BatchError, BuildError, ChangeVisibilityError, ConfigError, CreateQueueError, DeleteError, HandleError,
    NoSuchQueue, ReceiveError, SendError, Setting, TenantError, WorkerError,
};
pub use message::{Message, Outgoing, Sent, SequenceNumber};
pub use move_task::{
    ListMovesError, MoveFailure, MoveId, MoveNotRunning, MoveReport, MoveStatus, MoveTask, StartMoveError,
};
#[cfg(not(loom))]
pub use queue::{Beat, FifoMetrics, Heartbeat, KeepError, Lease, LostLease};
pub use queue::{
    BrokerMetrics, Counts, Deletion, MessageState, PartitionSnapshot, PeekFilter, Peeked, Queue,
    QueueMetrics, QueueSnapshot, SegmentSnapshot, SlotCounts, TenantConfig, TenantMetrics, VisibilityChange,
};
pub use receipt::{HandleText, MessageId, ReceiptHandle};
/// Allocations that fail in explorations.
#[cfg(shuttle)]
pub use sync::fault;
pub use turn::Turn;
pub use worker::Worker;

/// The limits of messages, batches and leases.
pub mod limits {
    pub use crate::config::{
        ATTEMPTS_MAX, ATTRIBUTES_MAX, BATCH_MAX, BODY_MAX, DEDUPLICATION_INTERVAL,
        DEDUPLICATION_MEMORY_DEFAULT, DELAY_MAX, IN_FLIGHT_MAX_DEFAULT, LONG_DELAY_MAX, MAX_RECEIVES_LIMIT,
        MEMORY_LIMIT_DEFAULT, MOVE_RATE_MAX, MOVE_STEP_MAX, MOVE_TIME_MAX, MOVES_LISTED_MAX, MOVES_MAX,
        NAME_MAX, PARTITIONS_MAX, PEEK_MAX, REDRIVE_SOURCES_MAX, RETENTION_DEFAULT, RETENTION_MAX,
        RETENTION_MIN, TENANT_WEIGHT_MAX, TENANTS_MAX, VISIBILITY_MAX, WAIT_MAX,
    };
}

/// The examples of the README compile and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct ReadmeExamples;
