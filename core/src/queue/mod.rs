//! A queue: its policy over its partitions, callable from any thread.

mod configure;
mod dead_letter;
mod era;
mod fair;
#[cfg(not(loom))]
mod fifo;
#[cfg(not(loom))]
mod guard;
mod handle;
mod peek;
mod receive;
mod relocate;
#[cfg(not(loom))]
mod room;
#[cfg(loom)]
pub mod round;
#[cfg(not(loom))]
mod round;
#[cfg(loom)]
pub mod route;
#[cfg(not(loom))]
mod route;
mod send;
mod snapshot;
#[cfg(loom)]
pub mod stats;
#[cfg(not(loom))]
mod stats;
mod steal;
#[cfg(not(loom))]
mod wait;
mod width;

use std::{fmt, time::Duration};

use crossbeam_utils::CachePadded;
pub use fair::{TenantConfig, TenantMetrics};
#[cfg(not(loom))]
pub use fifo::FifoMetrics;
#[cfg(not(loom))]
pub use guard::{Beat, Heartbeat, KeepError, Lease, LostLease};
pub use peek::{MessageState, PeekFilter, Peeked};
pub(crate) use relocate::{Relocated, Stop};
pub use snapshot::{
    BrokerMetrics, PartitionSnapshot, QueueMetrics, QueueSnapshot, SegmentSnapshot, SlotCounts,
};
pub use stats::Counts;

use crate::{
    batch::Batch,
    broker::Shared,
    budget::{Budget, MemoryUse},
    clock::Millis,
    config::{BODY_MAX, QueueConfig},
    error::{
        BatchError, ChangeVisibilityError, DeleteError, HandleError, NoSuchQueue, ReceiveError, SendError,
    },
    extras::Extras,
    ledger::{
        partition::{Full, Partition, Serials},
        published::Published,
        reclaim::{Domain, Pin, Spread},
    },
    message::{Message, Outgoing, Sent},
    queue::{
        configure::Settings,
        dead_letter::DeadLetters,
        era::Era,
        fair::TenantConfigs,
        stats::{Past, Stripe},
        width::Width,
    },
    receipt::{HandleText, MessageId, QueueId, ReceiptHandle},
    sync::{Arc, Mutex, Weak},
    turn::Turn,
    wait::Waiters,
    worker::WorkerCore,
};

/// Bites that the collector is asked to take of each domain where something is to be cleared away.
const FLUSHES_MAX: usize = 1024;
/// Bites without a gain after which it is left for later: somebody is pinned, or what is oldest is the collector's own, which has a
/// node to free for every 64 things that it has freed.
const FLUSHES_IN_VAIN: usize = 16;

/// What a delete did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Deletion {
    /// The message is gone; nobody will receive it again.
    Deleted,
    /// It was gone before (SQS: not an error). Or the handle is of more than 12 hours ago, which makes it void: then the message may
    /// be there still.
    Gone,
    /// It was not deleted: its lease was over, and it has been received again, or is in another hand at this moment
    /// (being received, on its way back, or being deleted by this very handle elsewhere). The newest handle can.
    ReceivedAgain,
}

impl Deletion {
    /// Whether the message is gone, by this delete or before it; what [`Deletion::Gone`] says of handles older than 12 hours holds
    /// here too.
    ///
    /// A worker that was too slow learns here that somebody else has the message now:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use epoq::{Broker, QueueConfig};
    /// # let queue = Broker::new().create_queue("q", QueueConfig::default())?;
    /// queue.send(b"hello")?;
    /// let slow = &queue.receive(1, Duration::ZERO)?[0];
    /// let quick = &queue.receive(1, Duration::from_secs(30))?[0];
    /// assert!(!queue.delete(&slow.receipt_handle())?.is_gone());
    /// assert!(queue.delete(&quick.receipt_handle())?.is_gone());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn is_gone(self) -> bool {
        match self {
            Self::Deleted | Self::Gone => true,
            Self::ReceivedAgain => false,
        }
    }
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
/// receiving without a copy. Sends, receives, deletes and changes of visibility take no lock and wait for no other thread. The
/// exceptions are short: a thread's first call to a broker, which registers it; waking a sleeper; and in a
/// FIFO queue sends, and receives by attempt id, which meet others that enter, find or remove an id in the same of 64 shards. What
/// configures, counts, purges or shows something takes locks that those never meet.
#[derive(Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    /// What every operation reads, and hardly any writes.
    hot: CachePadded<Hot>,
    id: QueueId,
    name: Box<str>,
    /// Control plane: taken to change and to show the configuration.
    config: Mutex<QueueConfig>,
    dead_letters: Published<DeadLetters>,
    /// What tenants are to be treated otherwise; changed under the lock of `config`.
    tenant_configs: Published<TenantConfigs>,
    shared: Arc<Shared>,
    budget: Arc<Budget>,
    serials: Arc<Serials>,
    past: Past,
    created: Millis,
    is_fifo: bool,
    #[cfg(not(loom))]
    fifo_settings: fifo::FifoSettings,
    /// Keeps the broker's workers from being taken for leftovers.
    _user: Arc<()>,
}

/// What every operation reads, and hardly any writes: one line.
#[derive(Debug)]
struct Hot {
    /// None once the queue has been deleted.
    era: Published<Era>,
    settings: Settings,
    width: Width,
    waiters: Waiters,
}

impl Queue {
    pub(crate) fn new(
        id: QueueId,
        name: &str,
        config: QueueConfig,
        target: Option<&Self>,
        shared: &Arc<Shared>,
    ) -> Self {
        let budget = Budget::of_queue(&shared.budget, config.memory_limit);
        let waiters = Waiters::default();
        shared.clock.tell(waiters.event());
        let settings = Settings::new(&config);
        settings.set_max_receives(
            target
                .and(config.redrive.as_ref())
                .map(|redrive| redrive.max_receives),
        );
        #[cfg(not(loom))]
        let fifo_settings = {
            let settings = fifo::FifoSettings::default();
            settings.set(&config);
            settings
        };
        let is_fifo = config.fifo.is_some();
        let queue = Self {
            inner: Arc::new(Inner {
                hot: CachePadded::new(Hot {
                    era: Published::empty(),
                    settings,
                    width: Width::new(shared.min_width, shared.partitions),
                    waiters,
                }),
                id,
                name: name.into(),
                config: Mutex::new(config),
                dead_letters: target.map_or_else(Published::empty, |target| {
                    Published::new(Arc::new(DeadLetters::to(target)))
                }),
                tenant_configs: Published::empty(),
                budget: Arc::new(budget),
                serials: Arc::new(Serials::default()),
                past: Past::default(),
                created: shared.clock.now(),
                is_fifo,
                #[cfg(not(loom))]
                fifo_settings,
                _user: Arc::clone(&shared.users),
                shared: Arc::clone(shared),
            }),
        };
        queue.begin();
        queue
    }

    /// Begins the first era.
    fn begin(&self) {
        self.in_passing(|turn| self.inner.hot.era.replace(Some(self.new_era()), turn.pin(), drop));
    }

    fn new_era(&self) -> Arc<Era> {
        let era = Era::new(self.inner.shared.partitions);
        #[cfg(not(loom))]
        let era = era.with_fifo(self.inner.fifo());
        Arc::new(era)
    }

    pub(crate) fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.inner)
    }

    pub(crate) fn upgrade(inner: &Weak<Inner>) -> Option<Self> {
        inner.upgrade().map(|inner| Self { inner })
    }

    /// The queue's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// When the queue was created.
    #[must_use]
    pub fn created_at(&self) -> Millis {
        self.inner.created
    }

    #[inline]
    pub(crate) fn id(&self) -> QueueId {
        self.inner.id
    }

    /// The id of the message in a slot: the one it brought from elsewhere, or one computed from its place.
    pub(crate) fn message_id(
        &self,
        extras: Option<Extras<'_>>,
        partition: u32,
        serial: u64,
        slot: u32,
    ) -> MessageId {
        match extras.and_then(|extras| extras.moved()) {
            Some(moved) => MessageId::from_bytes(moved.id),
            None => self
                .inner
                .shared
                .seal
                .message_id(self.inner.id, partition, serial, slot),
        }
    }

    /// Accepts a message. From then on it is received at least once before it is gone.
    ///
    /// The body is copied: up to 16 KiB into the segment at hand, more into an allocation of its own. O(body).
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

    /// Accepts a message that is more than a body: with a delay of its own, attributes, a message group. See [`Outgoing`].
    ///
    /// # Errors
    /// [`SendError`]; the message was not accepted.
    pub fn send_message(&self, message: &Outgoing<'_>) -> Result<Sent<'_>, SendError> {
        self.in_turn(|turn| self.send_message_in(turn, message))
    }

    /// As [`Queue::send_batch`], of messages that are more than bodies.
    ///
    /// # Errors
    /// Those of [`Queue::send_batch`].
    pub fn send_messages(
        &self,
        messages: &[Outgoing<'_>],
    ) -> Result<Batch<Result<Sent<'_>, SendError>>, BatchError> {
        self.in_turn(|turn| self.send_messages_in(turn, messages))
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
    /// and never shorter than asked for; `None` for the queue's own) and copied out. Fewer may come than there are, but none
    /// only if every partition was looked at and nothing was visible, or if the receive has moved more than a hundred
    /// messages to the dead-letter queue.
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
    pub fn receive(
        &self,
        max: usize,
        visibility_timeout: impl Into<Option<Duration>>,
    ) -> Result<Vec<Message>, ReceiveError> {
        let visibility_timeout = visibility_timeout.into();
        self.in_turn(|turn| {
            let received = self.receive_in(turn, max, visibility_timeout)?;
            Ok(received.iter().map(|delivery| delivery.to_message()).collect())
        })
    }

    /// Deletes a message for good. Idempotent. Works after the lease is over too, as long as nobody has received the
    /// message again (SQS standard queues): that is no error, but the message stays; see [`Deletion`]. O(1).
    ///
    /// # Errors
    /// [`DeleteError`]; nothing was deleted.
    pub fn delete(&self, handle: &ReceiptHandle) -> Result<Deletion, DeleteError> {
        self.in_turn_for(Some(handle), |turn| self.delete_in(turn, handle))
    }

    /// Deletes up to 10 messages; each entry has a result of its own.
    ///
    /// # Errors
    /// [`BatchError`] if the batch as a whole is refused.
    pub fn delete_batch(
        &self,
        handles: &[ReceiptHandle],
    ) -> Result<Batch<Result<Deletion, DeleteError>>, BatchError> {
        self.in_turn_for(handles.first(), |turn| self.delete_batch_in(turn, handles))
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
        self.in_turn_for(Some(handle), |turn| {
            self.change_visibility_in(turn, handle, visibility_timeout)
        })
    }

    /// Changes up to 10 leases; each entry has a result of its own.
    ///
    /// # Errors
    /// [`BatchError`] if the batch as a whole is refused.
    pub fn change_visibility_batch(
        &self,
        changes: &[(ReceiptHandle, Duration)],
    ) -> Result<Batch<Result<VisibilityChange, ChangeVisibilityError>>, BatchError> {
        let first = changes.first().map(|(handle, _)| handle);
        self.in_turn_for(first, |turn| self.change_visibility_batch_in(turn, changes))
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

    /// How many messages there are, by state, and what happened so far. O(workers); in a FIFO queue with a delay O(messages).
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.in_passing(|turn| {
            if self.inner.is_fifo {
                // Now, and not under the lock.
                turn.pin().enter_besides(Domain::SHARED);
            }
            self.inner.past.with(|| {
                self.era(turn.pin()).map_or_else(Counts::default, |era| {
                    let counts = era.stats.read();
                    #[cfg(not(loom))]
                    if era.fifo(turn.pin()).is_some() {
                        return counts.delaying(self.count_delayed(era, turn));
                    }
                    counts
                })
            })
        })
    }

    /// How many partitions senders use at the moment: one at first, up to [`Broker::partitions`](crate::Broker::partitions) where
    /// workers meet, fewer again where they have long not.
    #[must_use]
    pub fn width(&self) -> usize {
        self.inner.hot.width.now()
    }

    /// The memory that this queue's messages take at the moment; its limit is the queue's own, if it has one.
    #[must_use]
    pub fn memory(&self) -> MemoryUse {
        self.inner.budget.read()
    }

    /// When a lease or delay ends next: not later than the true moment, except while another thread is sweeping or has
    /// only just received. `None` if nothing is due ever. Ask again now and then. O(segments): some 40 µs with 10 million messages in flight.
    #[must_use]
    pub fn next_due(&self) -> Option<Millis> {
        self.in_passing(|turn| {
            self.era(turn.pin())?
                .glances(turn.pin())
                .filter_map(Partition::next_due)
                .min()
        })
    }

    /// Makes visible what is due at `now`, and returns [`Queue::next_due`].
    ///
    /// Receives do this by themselves; it is for an embedder that wants it done when nobody receives. A `now` that the
    /// broker's clock has not reached counts as the clock's: no lease is ended early.
    pub fn advance(&self, now: Millis) -> Option<Millis> {
        self.in_turn(|turn| {
            let now = now.min(turn.now());
            let Some(era) = self.era(turn.pin()) else { return };
            for partition in era.glances(turn.pin()) {
                // Now, whenever it was to be looked at next.
                partition.look_by(Millis::new(0));
                // Bounded: what becomes due later is after `now`.
                while partition.is_sweep_due(now) && self.sweep(turn, era, partition, now, u32::MAX) > 0 {}
                if partition.is_tending_due(now) {
                    self.tend(era, partition, turn, now, u32::MAX);
                }
            }
            self.check_width(era, turn, now);
            #[cfg(not(loom))]
            self.forget(era, turn);
        });
        // All that it takes once a second; in between, housekeepers would be in the way of those who retire.
        let is_due = self.inner.shared.is_clearing_due();
        let waits = || self.inner.shared.budget.read().limbo > 0;
        self.clear_away(if is_due {
            FLUSHES_IN_VAIN
        } else {
            usize::from(waits())
        });
        self.next_due()
    }

    /// Who waits for messages. For models, which sleep as a long poll does.
    #[cfg(loom)]
    pub fn waiters(&self) -> &Waiters {
        &self.inner.hot.waiters
    }

    /// Counts messages by looking at every one: (visible, in flight, delayed). For tests of [`Queue::counts`].
    #[doc(hidden)]
    #[must_use]
    pub fn census(&self) -> (u64, u64, u64) {
        use crate::ledger::state::Phase;
        let mut census = (0, 0, 0);
        self.in_passing(|turn| {
            for partition in self
                .era(turn.pin())
                .into_iter()
                .flat_map(|era| era.all(turn.pin()))
            {
                partition.census(turn.pin(), |word| match word.phase() {
                    Phase::Visible | Phase::InLine => census.0 += 1,
                    Phase::InFlight => census.1 += 1,
                    Phase::Delayed => census.2 += 1,
                    Phase::Empty | Phase::Dead | Phase::Baton | Phase::BatonLater => {}
                });
            }
        });
        census
    }

    /// Removes all messages, in whatever state, at one instant: those accepted before it are gone, their handles are
    /// answered as those of deleted messages, and nothing accepted after it is touched. Returns how many it removed. (SQS
    /// takes up to a minute, and allows one purge a minute; that is the server's to say.)
    ///
    /// The step itself is O(partitions). The caller then frees their memory (some 40 ns a message); what other threads may still be
    /// looking at is left to the operations that follow.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use epoq::{Broker, Deletion, QueueConfig};
    /// # let queue = Broker::new().create_queue("q", QueueConfig::default())?;
    /// queue.send(b"one")?;
    /// let handle = queue.receive(1, None)?[0].receipt_handle();
    /// assert_eq!(queue.purge()?, 1);
    /// queue.send(b"two")?;
    /// assert_eq!(queue.delete(&handle)?, Deletion::Gone);
    /// assert_eq!((queue.counts().visible, queue.counts().purged), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`NoSuchQueue`] if the queue has been deleted.
    pub fn purge(&self) -> Result<u64, NoSuchQueue> {
        self.in_passing(|turn| self.replace_era(Some(self.new_era()), turn).ok_or(NoSuchQueue))
            .inspect(|_| self.clear_away(FLUSHES_IN_VAIN))
    }

    /// Refuses every later call, and does away with the messages.
    pub(crate) fn end(&self) {
        self.in_passing(|turn| {
            self.replace_era(None, turn);
            self.set_dead_letters(None, turn.pin());
        });
        // Whoever waits shall hear of it, for messages or for room.
        self.inner.hot.waiters.wake_all();
        self.inner.shared.budget.room().wake_all();
        self.clear_away(FLUSHES_IN_VAIN);
    }

    /// Puts another era in the place of the present one; says how many messages that had. `None` if the queue has been
    /// deleted, and stays so.
    fn replace_era(&self, era: Option<Arc<Era>>, turn: &Turn<'_>) -> Option<u64> {
        let graveyard = Arc::clone(&self.inner.shared.graveyard);
        // Before the lock is taken under which an era is retired.
        turn.pin().enter_everywhere();
        let stats = self.inner.past.add(|| {
            let stats = Arc::clone(&self.era(turn.pin())?.stats);
            self.inner.hot.era.replace(era, turn.pin(), move |era| {
                // The only share there is: eras are only borrowed.
                if let Some(era) = Arc::into_inner(era) {
                    era.bury(&graveyard);
                }
            });
            Some(stats)
        })?;
        Some(stats.read().present())
    }

    /// What the queue's messages live in; none once it has been deleted.
    #[inline(always)]
    pub(crate) fn era<'t>(&'t self, pin: &'t Pin<'_>) -> Option<&'t Era> {
        self.inner.hot.era.get(pin)
    }

    #[inline(always)]
    fn stripe<'t>(era: &'t Era, turn: &Turn<'_>) -> Option<&'t Stripe> {
        era.stats.of(turn.worker().number)
    }

    /// Whether it is a FIFO queue.
    #[must_use]
    pub fn is_fifo(&self) -> bool {
        self.inner.is_fifo
    }

    /// Runs `f` in a turn, without registering the calling thread for good.
    fn in_passing<R>(&self, f: impl FnOnce(&Turn<'_>) -> R) -> R {
        WorkerCore::in_passing(&self.inner.shared, |worker| f(&worker.begin()))
    }

    /// Frees what an era that is over has left, as far as nobody can be looking at it any more; tries so often in vain.
    fn clear_away(&self, most_in_vain: usize) {
        let budget = &self.inner.shared.budget;
        WorkerCore::in_passing(&self.inner.shared, |worker| {
            let (mut used, mut in_vain) = (budget.read().used, 0);
            // The collector takes a bounded bite each time, of the oldest; bounded here too, should other threads retire all the while.
            for _ in 0..FLUSHES_MAX {
                if in_vain == most_in_vain {
                    return;
                }
                worker.flush();
                let left = budget.read();
                in_vain = if left.used < used { 0 } else { in_vain + 1 };
                if left.limbo == 0 {
                    return;
                }
                used = left.used;
            }
        });
        // Bounded by what there is.
        while self.inner.shared.graveyard.work(1024) {}
    }

    /// Runs `f` in a turn of the calling thread's worker.
    #[inline]
    fn in_turn<R>(&self, f: impl FnOnce(&Turn<'_>) -> R) -> R {
        WorkerCore::of_thread(&self.inner.shared, |worker| f(&worker.begin()))
    }

    /// As `in_turn`, for something to be done with a message: its domain is the one pinned.
    #[inline]
    fn in_turn_for<R>(&self, handle: Option<&ReceiptHandle>, f: impl FnOnce(&Turn<'_>) -> R) -> R {
        WorkerCore::of_thread(&self.inner.shared, |worker| {
            // Another broker's is going to be refused, and not to make a domain in this one.
            if let Some(handle) = handle.filter(|handle| handle.queue == self.inner.id) {
                worker.expect(Spread::of(self.inner.is_fifo).domain(handle.partition() as u32));
            }
            f(&worker.begin())
        })
    }

    /// Messages have been made visible.
    #[inline(always)]
    pub(crate) fn wake(&self, messages: usize) {
        self.inner.hot.waiters.wake(messages);
    }

    /// As `wake`, where the messages were counted after they had been made visible.
    pub(crate) fn wake_counted(&self, messages: usize) {
        self.inner.hot.waiters.wake_counted(messages);
    }

    /// A lease or a delay has begun that ends at `due`.
    #[inline(always)]
    pub(crate) fn wake_by(&self, due: impl FnOnce() -> Millis) {
        self.inner.hot.waiters.wake_by(due);
    }

    /// The partition a worker sends to.
    #[inline(always)]
    fn home<'t>(&'t self, era: &'t Era, turn: &'t Turn<'_>) -> Result<&'t Partition, Full> {
        let number = turn.worker().home & self.inner.hot.width.route().mask();
        match era.partition(number, turn.pin()) {
            Some(partition) => Ok(partition),
            None => self.open_partition(era, number, turn),
        }
    }

    #[cold]
    #[inline(never)]
    fn open_partition<'t>(
        &'t self,
        era: &'t Era,
        number: usize,
        turn: &'t Turn<'_>,
    ) -> Result<&'t Partition, Full> {
        let inner = &self.inner;
        let place = era.partitions.get(number).ok_or(Full)?;
        let partition = place.get_or_try(turn.pin(), || {
            Partition::new(
                number as u32,
                Arc::clone(&inner.budget),
                Arc::clone(&inner.serials),
                inner.is_fifo,
                turn.now(),
            )
        })?;
        turn.pin().enter(partition.domain);
        Ok(partition)
    }

    /// Gives back what it does not need, because memory has run short.
    #[cold]
    pub(crate) fn trim(&self, pin: &Pin<'_>) {
        if let Some(era) = self.era(pin) {
            era.all(pin).for_each(|partition| partition.trim(pin));
        }
    }
}

/// Its name only: whatever else there is takes a look at all workers, or at all messages.
impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("name", &self.inner.name)
            .finish_non_exhaustive()
    }
}

// Limits that the signatures rely on.
const _: () = assert!(BODY_MAX <= u32::MAX as usize);
