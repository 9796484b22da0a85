//! A queue: its policy over its partitions, callable from any thread.

mod standard;
mod stats;
mod steal;

use std::{fmt, time::Duration};

pub use stats::Counts;

use crate::{
    batch::Batch,
    broker::Shared,
    clock::Millis,
    config::{BODY_MAX, QueueConfig},
    error::{BatchError, ChangeVisibilityError, DeleteError, HandleError, ReceiveError, SendError},
    ledger::{
        once::Once,
        partition::{Full, Partition},
    },
    message::{Message, Sent},
    receipt::{HandleText, MessageId, QueueId, ReceiptHandle},
    sync::{Arc, AtomicBool, Ordering},
    turn::Turn,
    worker::WorkerCore,
};

/// What a delete did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Deletion {
    /// The message is gone; nobody will receive it again.
    Deleted,
    /// It was gone before (SQS: not an error).
    Gone,
    /// It was not deleted: its lease was over, and it has been received again, or is in another hand at this moment
    /// (being received, on its way back, or being deleted by this very handle elsewhere). The newest handle can.
    ReceivedAgain,
}

/// What a change of visibility did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VisibilityChange {
    /// The lease ends at the new moment; with a timeout of zero it has ended.
    Changed,
    /// Nothing: the lease was over before (SQS: not an error).
    LeaseOver,
}

/// A message queue. Cheap to clone; clones are the same queue. Any thread may call it.
///
/// Every call here is a turn of one operation; see [`Worker::turn`](crate::Worker::turn) for many at once and for
/// receiving without a copy. None of them takes a lock or waits for another thread, except a thread's first call to a
/// broker, which registers it.
#[derive(Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

struct Inner {
    id: QueueId,
    name: Box<str>,
    config: QueueConfig,
    shared: Arc<Shared>,
    /// Keeps the broker's workers from being taken for leftovers.
    _user: Arc<()>,
    /// Made when first sent to.
    partitions: Box<[Once<Arc<Partition>>]>,
    stats: stats::Stats,
    deleted: AtomicBool,
}

impl Queue {
    pub(crate) fn new(id: QueueId, name: &str, config: QueueConfig, shared: &Arc<Shared>) -> Self {
        Self {
            inner: Arc::new(Inner {
                id,
                name: name.into(),
                config,
                _user: Arc::clone(&shared.users),
                partitions: (0..shared.partitions).map(|_| Once::new()).collect(),
                stats: stats::Stats::new(),
                deleted: AtomicBool::new(false),
                shared: Arc::clone(shared),
            }),
        }
    }

    /// The queue's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The queue's configuration.
    #[must_use]
    pub fn config(&self) -> &QueueConfig {
        &self.inner.config
    }

    #[inline]
    pub(crate) fn id(&self) -> QueueId {
        self.inner.id
    }

    pub(crate) fn message_id(&self, partition: u32, serial: u64, slot: u32) -> MessageId {
        self.inner
            .shared
            .seal
            .message_id(self.inner.id, partition, serial, slot)
    }

    /// Accepts a message. From then on it is received at least once before it is gone.
    ///
    /// The body is copied: up to 1 KiB into the segment at hand, more into an allocation of its own. O(body).
    ///
    /// ```
    /// # use epoq::{Broker, QueueConfig, SendError};
    /// # let queue = Broker::new().create_queue("q", QueueConfig::default())?;
    /// let sent = queue.send(b"hello")?;
    /// println!("accepted as {}", sent.message_id());
    /// assert_eq!(queue.send(b"").unwrap_err(), SendError::Empty);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SendError`]; the message was not accepted.
    pub fn send(&self, body: &[u8]) -> Result<Sent<'_>, SendError> {
        self.in_turn(|turn| self.send_in(turn, body))
    }

    /// Accepts up to 10 messages, in the order given; each entry has a result of its own (SQS).
    ///
    /// # Errors
    /// [`BatchError`] if the batch as a whole is refused: no entries, more than 10, or more than 1 MiB together.
    pub fn send_batch<B: AsRef<[u8]>>(
        &self,
        bodies: &[B],
    ) -> Result<Batch<Result<Sent<'_>, SendError>>, BatchError> {
        self.in_turn(|turn| self.send_batch_in(turn, bodies))
    }

    /// Receives up to `max` (1..=10) messages, each leased for `visibility_timeout` (0..=12 h, counted in milliseconds
    /// and never shorter than asked for) and copied out. Fewer may come than there are, but none only if every
    /// partition was looked at and nothing was visible.
    ///
    /// A timeout of zero receives without leasing: the message has been counted as received and is visible again.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use epoq::{Broker, QueueConfig};
    /// # let queue = Broker::new().create_queue("q", QueueConfig::default())?;
    /// queue.send(b"hello")?;
    /// for message in queue.receive(10, Duration::from_secs(30))? {
    ///     assert_eq!((message.body(), message.receive_count()), (&b"hello"[..], 1));
    ///     queue.delete(&message.receipt_handle())?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReceiveError`]; nothing was received.
    pub fn receive(&self, max: usize, visibility_timeout: Duration) -> Result<Vec<Message>, ReceiveError> {
        self.in_turn(|turn| {
            let received = self.receive_in(turn, max, visibility_timeout)?;
            Ok(received.iter().map(|delivery| delivery.to_message()).collect())
        })
    }

    /// Deletes a message for good. Idempotent. Works after the lease is over too, as long as nobody has received the
    /// message again (SQS standard queues). O(1).
    ///
    /// # Errors
    /// [`DeleteError`]; nothing was deleted.
    pub fn delete(&self, handle: &ReceiptHandle) -> Result<Deletion, DeleteError> {
        self.in_turn(|turn| self.delete_in(turn, handle))
    }

    /// Deletes up to 10 messages; each entry has a result of its own.
    ///
    /// # Errors
    /// [`BatchError`] if the batch as a whole is refused.
    pub fn delete_batch(
        &self,
        handles: &[ReceiptHandle],
    ) -> Result<Batch<Result<Deletion, DeleteError>>, BatchError> {
        self.in_turn(|turn| self.delete_batch_in(turn, handles))
    }

    /// Moves the end of a lease to `visibility_timeout` (0..=12 h) from now; zero gives the lease up and makes the
    /// message visible at once. A lease lasts at most 12 hours in all, counted from its receive (SQS). O(1).
    ///
    /// # Errors
    /// [`ChangeVisibilityError`]; the lease is as it was.
    pub fn change_visibility(
        &self,
        handle: &ReceiptHandle,
        visibility_timeout: Duration,
    ) -> Result<VisibilityChange, ChangeVisibilityError> {
        self.in_turn(|turn| self.change_visibility_in(turn, handle, visibility_timeout))
    }

    /// Changes up to 10 leases; each entry has a result of its own.
    ///
    /// # Errors
    /// [`BatchError`] if the batch as a whole is refused.
    pub fn change_visibility_batch(
        &self,
        changes: &[(ReceiptHandle, Duration)],
    ) -> Result<Batch<Result<VisibilityChange, ChangeVisibilityError>>, BatchError> {
        self.in_turn(|turn| self.change_visibility_batch_in(turn, changes))
    }

    /// A receipt handle as opaque text, to be given to somebody outside the process.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use epoq::{Broker, HandleError, QueueConfig};
    /// # let queue = Broker::new().create_queue("q", QueueConfig::default())?;
    /// queue.send(b"hello")?;
    /// let handle = queue.receive(1, Duration::from_secs(30))?[0].receipt_handle();
    /// let text = queue.encode_handle(&handle).to_string();
    /// assert_eq!(queue.decode_handle(&text)?, handle);
    /// assert_eq!(queue.decode_handle("garbage"), Err(HandleError::Malformed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn encode_handle(&self, handle: &ReceiptHandle) -> HandleText {
        self.inner.shared.seal.encode(handle)
    }

    /// The receipt handle of a text made by [`Queue::encode_handle`].
    ///
    /// # Errors
    /// [`HandleError`] if the text is no handle, was not made by this broker, or is of another queue.
    pub fn decode_handle(&self, text: &str) -> Result<ReceiptHandle, HandleError> {
        self.inner.shared.seal.decode(self.inner.id, text)
    }

    /// How many messages there are, by state, and what happened so far. O(workers).
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.inner.stats.read()
    }

    /// When a lease or delay ends next: not later than the true moment, except while another thread is sweeping or has
    /// only just received. `None` if nothing is due ever. Ask again now and then. O(segments): some 40 µs with 10 million messages in flight.
    #[must_use]
    pub fn next_due(&self) -> Option<Millis> {
        self.partitions()
            .filter_map(|partition| partition.next_due())
            .min()
    }

    /// Makes visible what is due at `now`, and returns [`Queue::next_due`].
    ///
    /// Receives do this by themselves; it is for an embedder that wants it done when nobody receives. A `now` that the
    /// broker's clock has not reached counts as the clock's: no lease is ended early.
    pub fn advance(&self, now: Millis) -> Option<Millis> {
        self.in_turn(|turn| {
            let now = now.min(turn.now());
            for partition in self.partitions() {
                // Bounded: what becomes due later is after `now`.
                // Now, whenever it was to be looked at next.
                partition.look_by(Millis::new(0));
                while partition.is_sweep_due(now) && self.sweep(turn, partition, now, u32::MAX) > 0 {}
            }
        });
        self.next_due()
    }

    /// Counts messages by looking at every one: (visible, in flight, delayed). For tests of [`Queue::counts`].
    #[doc(hidden)]
    #[must_use]
    pub fn census(&self) -> (u64, u64, u64) {
        use crate::ledger::state::Phase;
        let mut census = (0, 0, 0);
        self.in_turn(|turn| {
            for partition in self.partitions() {
                partition.census(turn.pin(), |word| match word.phase() {
                    Phase::Visible => census.0 += 1,
                    Phase::InFlight => census.1 += 1,
                    Phase::Delayed => census.2 += 1,
                    Phase::Empty | Phase::Dead => {}
                });
            }
        });
        census
    }

    /// Marks the queue deleted: every later call is refused. Its memory goes with its last handle.
    pub(crate) fn mark_deleted(&self) {
        // Release: what the deleter did before is before what a refused caller does after; pairs with `is_deleted`.
        self.inner.deleted.store(true, Ordering::Release);
    }

    #[inline]
    pub(crate) fn is_deleted(&self) -> bool {
        // Acquire: see `mark_deleted`.
        self.inner.deleted.load(Ordering::Acquire)
    }

    /// Runs `f` in a turn of the calling thread's worker.
    #[inline]
    fn in_turn<R>(&self, f: impl FnOnce(&Turn<'_>) -> R) -> R {
        WorkerCore::of_thread(&self.inner.shared, |worker| f(&worker.begin()))
    }

    #[inline]
    fn partition(&self, number: usize) -> Option<&Arc<Partition>> {
        self.inner.partitions.get(number)?.get()
    }

    fn partitions(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.inner.partitions.iter().filter_map(Once::get)
    }

    /// The partition a worker sends to.
    #[inline]
    fn home(&self, turn: &Turn<'_>) -> Result<&Arc<Partition>, Full> {
        let home = turn.worker().home;
        match self.partition(home) {
            Some(partition) => Ok(partition),
            None => self.open_partition(home, turn),
        }
    }

    #[cold]
    #[inline(never)]
    fn open_partition(&self, number: usize, turn: &Turn<'_>) -> Result<&Arc<Partition>, Full> {
        let shared = &self.inner.shared;
        let partition = self.inner.partitions[number].get_or_try(|| {
            Partition::new(number as u32, Arc::clone(&shared.budget), turn.now()).map(Arc::new)
        })?;
        shared.list(partition);
        Ok(partition)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("name", &self.inner.name)
            .field("counts", &self.counts())
            .finish()
    }
}

// Limits that the signatures rely on.
const _: () = assert!(BODY_MAX <= u32::MAX as usize);
