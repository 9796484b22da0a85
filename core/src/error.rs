//! One small enum per operation; each says what was wrong and where the limit is.

use std::{error::Error, fmt, time::Duration};

use crate::attribute::AttributeError;

const MESSAGE_GROUP: &str =
    "a message group id has 1 to 128 letters, digits and punctuation characters of ASCII";
const DEDUPLICATION_ID: &str =
    "a message deduplication id has 1 to 128 letters, digits and punctuation characters of ASCII";
const HANDLE_EXPIRED: &str = "the receipt handle has expired";
const DELETED: &str = "the queue has been deleted";
const FOREIGN_TURN: &str = "the queue is of another broker than the turn's worker";

macro_rules! errors {
    ($($name:ident: $format:expr;)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let format: fn(&Self, &mut fmt::Formatter<'_>) -> fmt::Result = $format;
                format(self, f)
            }
        }
        impl Error for $name {}
    )*};
}

/// Why a broker could not be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// Partitions must be 1..=`limit`.
    Partitions {
        /// What was asked for.
        given: usize,
        /// The most there can be.
        limit: usize,
    },
}

/// Why a queue could not be created.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CreateQueueError {
    /// A name has 1..=80 characters of `A-Z a-z 0-9 _ -`, and `.fifo` behind them, counted in, if and only if it is a FIFO queue's (SQS).
    InvalidName,
    /// A queue of that name exists with another configuration.
    Exists,
    /// The configuration is not valid.
    Config(ConfigError),
}

impl From<ConfigError> for CreateQueueError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// What is wrong with a configuration. Nothing has been changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// `max_message_bytes` must be 1..=`limit`.
    MaxMessageBytes {
        /// What was asked for.
        given: usize,
        /// The most there can be.
        limit: usize,
    },
    /// A duration must be `least`..=`limit`.
    OutOfRange {
        /// Which one.
        field: Setting,
        /// What was asked for.
        given: Duration,
        /// The shortest it can be.
        least: Duration,
        /// The longest it can be.
        limit: Duration,
    },
    /// `redrive.max_receives` must be 1..=`limit`.
    MaxReceives {
        /// What was asked for.
        given: u32,
        /// The most there can be.
        limit: u32,
    },
    /// `redrive_allow` names 1..=`limit` queues.
    RedriveSources {
        /// How many it named.
        given: usize,
        /// The most there can be.
        limit: usize,
    },
    /// There is no queue of the name that `redrive` gives.
    NoSuchTarget,
    /// A queue cannot be its own dead-letter queue (ours; AWS leaves it open).
    OwnTarget,
    /// The dead-letter queue's `redrive_allow` does not let this queue name it.
    TargetRefuses,
    /// A queue and its dead-letter queue are both FIFO queues or both standard queues (SQS).
    TargetType,
    /// A queue is a FIFO queue for life, or is not (SQS).
    TypeFixed,
    /// The queue has been deleted.
    QueueDeleted,
}

/// A field of a configuration that is a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Setting {
    /// `delay`.
    Delay,
    /// `visibility_timeout`.
    VisibilityTimeout,
    /// `wait`.
    Wait,
    /// `retention`.
    Retention,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delay => "delay",
            Self::VisibilityTimeout => "visibility timeout",
            Self::Wait => "wait",
            Self::Retention => "retention",
        })
    }
}

/// There is no queue of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSuchQueue;

/// Why a worker could not be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerError {
    /// Home partitions are 0..`partitions`.
    NoSuchPartition {
        /// What was asked for.
        given: usize,
        /// How many partitions the broker's queues have.
        partitions: usize,
    },
}

/// Why a message was not accepted. The body was borrowed: the caller still has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// A body has at least one byte (SQS).
    Empty,
    /// The message is longer than the queue allows, or its trace header than any may be.
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The queue's limit in bytes.
        limit: usize,
    },
    /// The delay is 0..=`limit`.
    Delay {
        /// What was asked for.
        given: Duration,
        /// The longest there is.
        limit: Duration,
    },
    /// A message attribute is not valid.
    Attribute(AttributeError),
    /// A message group id has 1 to 128 letters, digits and punctuation characters of ASCII (SQS).
    MessageGroup,
    /// A message of a FIFO queue has a message group (SQS).
    MissingMessageGroup,
    /// A message deduplication id has 1 to 128 letters, digits and punctuation characters of ASCII (SQS).
    DeduplicationId,
    /// A message of a FIFO queue without content-based deduplication has a deduplication id (SQS).
    MissingDeduplicationId,
    /// Messages of standard queues have no deduplication id (SQS).
    DeduplicationNotAllowed,
    /// Messages of FIFO queues have no delay of their own (SQS): only the queue has one.
    DelayNotAllowed,
    /// The ids of messages sent to the queue in the last five minutes use all the memory they may: none is forgotten early. Try again
    /// later, or raise [`FifoConfig::deduplication_memory`](crate::FifoConfig::deduplication_memory).
    DeduplicationFull {
        /// How many bytes they may use.
        limit: u64,
    },
    /// The memory budget of the broker, or the queue's own, is used up. Receives and deletes go on; try again when they have made room. What a turn
    /// itself has made room for counts only after it has ended or been refreshed.
    OverBudget {
        /// Bytes in use, those waiting for the epoch included.
        used: u64,
        /// The budget in bytes.
        limit: u64,
    },
    /// The queue has been deleted.
    QueueDeleted,
    /// The queue is of another broker than the worker whose turn it is.
    ForeignTurn,
}

/// Why a tenant's configuration was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TenantError {
    /// A message group id has 1 to 128 letters, digits and punctuation characters of ASCII (SQS).
    MessageGroup,
    /// A weight is 1..=`limit`.
    Weight {
        /// What was asked for.
        given: u32,
        /// The highest there is.
        limit: u32,
    },
    /// At most `limit` tenants have a configuration of their own.
    TooMany {
        /// How many can have.
        limit: usize,
    },
    /// The queue has been deleted.
    QueueDeleted,
}

/// Why a whole batch was refused; nothing of it has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchError {
    /// A batch has at least one entry.
    Empty,
    /// A batch has at most `limit` entries.
    TooMany {
        /// How many it had.
        entries: usize,
        /// How many it may have.
        limit: usize,
    },
    /// The bodies of a batch have at most `limit` bytes together.
    TooLong {
        /// Their length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// An entry is not valid, which in a FIFO queue is the end of the whole batch (SQS).
    Entry {
        /// Which one, counted from 0.
        at: usize,
        /// What is wrong with it.
        error: SendError,
    },
    /// The queue has been deleted.
    QueueDeleted,
    /// The queue is of another broker than the worker whose turn it is.
    ForeignTurn,
}

/// Why nothing was received (other than that there was nothing).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiveError {
    /// A receive asks for 1..=`limit` messages.
    Max {
        /// How many were asked for.
        given: usize,
        /// The most one may ask for.
        limit: usize,
    },
    /// The visibility timeout is 0..=`limit`.
    VisibilityTimeout {
        /// What was asked for.
        given: Duration,
        /// The longest there is.
        limit: Duration,
    },
    /// A receive waits 0..=`limit`.
    Wait {
        /// What was asked for.
        given: Duration,
        /// The longest there is.
        limit: Duration,
    },
    /// A receive attempt id has 1 to 128 letters, digits and punctuation characters of ASCII (SQS).
    AttemptId,
    /// The receive cannot be repeated: a message of it has been deleted, or the end of its lease has been moved (SQS).
    AttemptNotValid,
    /// The receive attempt ids of the last five minutes are too many to remember another one.
    TooManyAttempts {
        /// How many there may be.
        limit: usize,
    },
    /// As many messages are in flight as there may be: delete some, or let their leases end (SQS's `OverLimit`). A receive
    /// that waits goes on waiting instead.
    TooManyInFlight {
        /// How many are in flight.
        in_flight: u64,
        /// How many may be.
        limit: u64,
    },
    /// The queue has been deleted.
    QueueDeleted,
    /// The queue is of another broker than the worker whose turn it is.
    ForeignTurn,
}

/// Why a text is not a receipt handle of this queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandleError {
    /// Not of a handle's length or alphabet.
    Malformed,
    /// Well-formed, but this broker did not make it.
    Forged,
    /// Of another queue.
    Foreign,
}

/// Why a message was not deleted (other than that it was gone, or received again).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeleteError {
    /// The handle is of another queue, or of a receive that never happened.
    Foreign,
    /// The lease is over, and in a FIFO queue the handle with it (SQS).
    Expired,
    /// The queue has been deleted.
    QueueDeleted,
    /// The queue is of another broker than the worker whose turn it is.
    ForeignTurn,
}

/// Why a visibility timeout was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeVisibilityError {
    /// The handle is of another queue, or of a receive that never happened.
    Foreign,
    /// The message has been deleted.
    Gone,
    /// The message has been received again since: the lease is not this handle's.
    ReceivedAgain,
    /// The lease is over, and in a FIFO queue the handle with it (SQS).
    Expired,
    /// The visibility timeout is 0..=`limit`.
    VisibilityTimeout {
        /// What was asked for.
        given: Duration,
        /// The longest there is.
        limit: Duration,
    },
    /// A lease lasts at most `limit` in all, however often it is extended.
    TotalTooLong {
        /// The longest there is.
        limit: Duration,
    },
    /// The queue has been deleted.
    QueueDeleted,
    /// The queue is of another broker than the worker whose turn it is.
    ForeignTurn,
}

errors! {
    BuildError: |error, f| match error {
        BuildError::Partitions { given, limit } => write!(f, "{given} partitions: must be 1 to {limit}"),
    };
    CreateQueueError: |error, f| match error {
        CreateQueueError::InvalidName => f.write_str("a queue's name has 1 to 80 letters, digits, hyphens and underscores, and ends in .fifo if it is a FIFO queue"),
        CreateQueueError::Exists => f.write_str("a queue of that name exists with another configuration"),
        CreateQueueError::Config(error) => error.fmt(f),
    };
    TenantError: |error, f| match error {
        TenantError::MessageGroup => f.write_str(MESSAGE_GROUP),
        TenantError::Weight { given, limit } => write!(f, "weight {given}: must be 1 to {limit}"),
        TenantError::TooMany { limit } => write!(f, "{limit} tenants have configurations of their own, and more cannot"),
        TenantError::QueueDeleted => f.write_str(DELETED),
    };
    ConfigError: |error, f| match error {
        ConfigError::MaxMessageBytes { given, limit } => {
            write!(f, "max_message_bytes {given}: must be 1 to {limit}")
        }
        ConfigError::OutOfRange { field, given, least, limit } => {
            write!(f, "{field} of {given:?}: must be {least:?} to {limit:?}")
        }
        ConfigError::MaxReceives { given, limit } => write!(f, "max_receives {given}: must be 1 to {limit}"),
        ConfigError::RedriveSources { given, limit } => {
            write!(f, "{given} queues in redrive_allow: must be 1 to {limit}")
        }
        ConfigError::NoSuchTarget => f.write_str("the dead-letter queue does not exist"),
        ConfigError::OwnTarget => f.write_str("a queue cannot be its own dead-letter queue"),
        ConfigError::TargetRefuses => f.write_str("the dead-letter queue does not accept this queue's messages"),
        ConfigError::TargetType => f.write_str("the dead-letter queue is not of the same type as the queue"),
        ConfigError::TypeFixed => f.write_str("a queue is a FIFO queue for life, or is not"),
        ConfigError::QueueDeleted => f.write_str(DELETED),
    };
    NoSuchQueue: |_, f| f.write_str("there is no queue of that name");
    WorkerError: |error, f| match error {
        WorkerError::NoSuchPartition { given, partitions } => {
            write!(f, "home partition {given}: there are {partitions}, counted from 0")
        }
    };
    SendError: |error, f| match error {
        SendError::Empty => f.write_str("a message body has at least 1 byte"),
        SendError::TooLong { length, limit } => write!(f, "a message of {length} bytes: the limit is {limit}"),
        SendError::Delay { given, limit } => write!(f, "delay of {given:?}: must be 0 to {limit:?}"),
        SendError::Attribute(error) => error.fmt(f),
        SendError::MessageGroup => {
            f.write_str(MESSAGE_GROUP)
        }
        SendError::MissingMessageGroup => f.write_str("a message of a FIFO queue has a message group"),
        SendError::DeduplicationId => f.write_str(DEDUPLICATION_ID),
        SendError::MissingDeduplicationId => {
            f.write_str("a message of a FIFO queue has a deduplication id, unless the queue takes it from the content")
        }
        SendError::DeduplicationNotAllowed => f.write_str("messages of standard queues have no deduplication id"),
        SendError::DelayNotAllowed => f.write_str("messages of FIFO queues have no delay of their own"),
        SendError::DeduplicationFull { limit } => {
            write!(f, "the deduplication ids of the last five minutes use all of their {limit} bytes")
        }
        SendError::OverBudget { used, limit } => write!(f, "memory budget used up: {used} of {limit} bytes"),
        SendError::QueueDeleted => f.write_str(DELETED),
        SendError::ForeignTurn => f.write_str(FOREIGN_TURN),
    };
    BatchError: |error, f| match error {
        BatchError::Empty => f.write_str("a batch has at least 1 entry"),
        BatchError::TooMany { entries, limit } => write!(f, "a batch of {entries} entries: the limit is {limit}"),
        BatchError::TooLong { length, limit } => write!(f, "a batch of {length} bytes: the limit is {limit}"),
        BatchError::Entry { at, error } => write!(f, "entry {at}: {error}"),
        BatchError::QueueDeleted => f.write_str(DELETED),
        BatchError::ForeignTurn => f.write_str(FOREIGN_TURN),
    };
    ReceiveError: |error, f| match error {
        ReceiveError::Max { given, limit } => write!(f, "max {given}: must be 1 to {limit}"),
        ReceiveError::VisibilityTimeout { given, limit } => {
            write!(f, "visibility timeout of {given:?}: must be 0 to {limit:?}")
        }
        ReceiveError::Wait { given, limit } => write!(f, "wait of {given:?}: must be 0 to {limit:?}"),
        ReceiveError::AttemptId => {
            f.write_str("a receive attempt id has 1 to 128 letters, digits and punctuation characters of ASCII")
        }
        ReceiveError::AttemptNotValid => f.write_str("the receive cannot be repeated any more"),
        ReceiveError::TooManyAttempts { limit } => {
            write!(f, "{limit} receive attempt ids are remembered, and no more can be")
        }
        ReceiveError::TooManyInFlight { in_flight, limit } => {
            write!(f, "{in_flight} messages in flight: the limit is {limit}")
        }
        ReceiveError::QueueDeleted => f.write_str(DELETED),
        ReceiveError::ForeignTurn => f.write_str(FOREIGN_TURN),
    };
    HandleError: |error, f| f.write_str(match error {
        HandleError::Malformed => "not a receipt handle",
        HandleError::Forged => "not a receipt handle of this broker",
        HandleError::Foreign => "a receipt handle of another queue",
    });
    DeleteError: |error, f| f.write_str(match error {
        DeleteError::Foreign => "a receipt handle of another queue",
        DeleteError::Expired => HANDLE_EXPIRED,
        DeleteError::QueueDeleted => DELETED,
        DeleteError::ForeignTurn => FOREIGN_TURN,
    });
    ChangeVisibilityError: |error, f| match error {
        ChangeVisibilityError::Foreign => f.write_str("a receipt handle of another queue"),
        ChangeVisibilityError::Gone => f.write_str("the message has been deleted"),
        ChangeVisibilityError::ReceivedAgain => f.write_str("the message has been received again since"),
        ChangeVisibilityError::Expired => f.write_str(HANDLE_EXPIRED),
        ChangeVisibilityError::VisibilityTimeout { given, limit } => {
            write!(f, "visibility timeout of {given:?}: must be 0 to {limit:?}")
        }
        ChangeVisibilityError::TotalTooLong { limit } => {
            write!(f, "the lease would last longer than {limit:?} in all")
        }
        ChangeVisibilityError::QueueDeleted => f.write_str(DELETED),
        ChangeVisibilityError::ForeignTurn => f.write_str(FOREIGN_TURN),
    };
}
