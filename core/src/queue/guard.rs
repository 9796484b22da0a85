//! Leases that end by themselves: a guard that releases its message when it is dropped, and heartbeats that keep leases
//! going while their guards live.
//!
//! The visibility timeout is the backstop throughout: what is not released because the process has died becomes visible
//! when it is over.

use std::{
    collections::HashMap,
    error::Error,
    fmt,
    future::{Future, poll_fn},
    ops::Deref,
    pin::pin,
    sync::OnceLock,
    task::Poll,
    time::Duration,
};

use super::{Deletion, Queue, VisibilityChange};
use crate::{
    clock::{self, Millis},
    config::VISIBILITY_MAX,
    error::{ChangeVisibilityError, DeleteError, ReceiveError},
    message::Message,
    receipt::{MessageId, ReceiptHandle},
    sync::{Arc, Weak},
};

/// A received message whose lease is given up when this is dropped, unless it was [deleted](Lease::delete) or
/// [taken over](Lease::into_message): when its consumer returns early, panics, or is a future that is cancelled. It is then
/// visible at once (SQS's `ChangeMessageVisibility` of 0).
///
/// ```
/// use std::time::Duration;
/// use epoq::{Broker, QueueConfig};
/// let queue = Broker::new().create_queue("q", QueueConfig::default())?;
/// queue.send(b"hello")?;
/// for lease in queue.receive_leases(10, Duration::from_secs(30))? {
///     assert_eq!(lease.body(), b"hello");
///     // An early return, a panic: visible again.
/// }
/// for lease in queue.receive_leases(10, Duration::from_secs(30))? {
///     assert_eq!(lease.receive_count(), 2);
///     lease.delete()?;
/// }
/// assert_eq!(queue.counts().deleted, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a lease that is dropped is given up"]
pub struct Lease {
    queue: Queue,
    message: Message,
    /// Whether the message is to be released when this is dropped.
    releases: bool,
    /// Lives as long as this does; made when the first heartbeat asks for it.
    alive: OnceLock<Arc<()>>,
}

/// Why a lease does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeepError {
    /// A lease is kept in steps of 1 ms..=`limit`.
    Timeout {
        /// What was asked for.
        given: Duration,
        /// The longest there is.
        limit: Duration,
    },
    /// It has been extended to `limit` in all, the longest that a lease lasts, and will end then.
    TotalReached {
        /// The longest there is.
        limit: Duration,
    },
    /// It is over.
    LeaseOver,
    /// The message has been deleted.
    Gone,
    /// The message has been received again since.
    ReceivedAgain,
    /// The queue has been deleted.
    QueueDeleted,
}

impl fmt::Display for KeepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { given, limit } => {
                write!(f, "a lease kept in steps of {given:?}: must be 1 ms to {limit:?}")
            }
            Self::TotalReached { limit } => {
                write!(
                    f,
                    "the lease has been extended to {limit:?}, the longest there is"
                )
            }
            Self::LeaseOver => f.write_str("the lease is over"),
            Self::Gone => f.write_str("the message has been deleted"),
            Self::ReceivedAgain => f.write_str("the message has been received again since"),
            Self::QueueDeleted => f.write_str("the queue has been deleted"),
        }
    }
}

impl Error for KeepError {}

impl Queue {
    /// As [`Queue::receive`], each message in a guard that gives its lease up when it is dropped.
    ///
    /// # Errors
    /// Those of [`Queue::receive`].
    pub fn receive_leases(
        &self,
        max: usize,
        visibility_timeout: impl Into<Option<Duration>>,
    ) -> Result<Vec<Lease>, ReceiveError> {
        Ok(self.guard(self.receive(max, visibility_timeout)?))
    }

    /// As [`Queue::receive_wait`], with guards.
    ///
    /// # Errors
    /// Those of [`Queue::receive_wait`].
    pub fn receive_leases_wait(
        &self,
        max: usize,
        visibility_timeout: impl Into<Option<Duration>>,
        wait: impl Into<Option<Duration>>,
    ) -> Result<Vec<Lease>, ReceiveError> {
        Ok(self.guard(self.receive_wait(max, visibility_timeout, wait)?))
    }

    /// As [`Queue::receive_async`], with guards.
    ///
    /// # Errors
    /// Those of [`Queue::receive_async`].
    pub async fn receive_leases_async<S: Future<Output = ()>>(
        &self,
        max: usize,
        visibility_timeout: impl Into<Option<Duration>>,
        wait: impl Into<Option<Duration>>,
        sleep: impl Fn(Duration) -> S,
    ) -> Result<Vec<Lease>, ReceiveError> {
        let messages = self.receive_async(max, visibility_timeout, wait, sleep).await?;
        Ok(self.guard(messages))
    }

    fn guard(&self, messages: Vec<Message>) -> Vec<Lease> {
        let guard = |message| Lease {
            queue: self.clone(),
            message,
            releases: true,
            alive: OnceLock::new(),
        };
        messages.into_iter().map(guard).collect()
    }

    /// When the lease of a handle began and when it ends, if it is running at `now`.
    fn lease_of(&self, handle: &ReceiptHandle, now: Millis) -> Option<(Millis, Millis)> {
        self.in_turn(|turn| {
            let era = self.era(turn.pin())?;
            let partition = era.partition(handle.partition(), turn.pin())?;
            partition.lease_of(handle.place(), handle.receives(), now, turn.pin())
        })
    }

    /// Has a lease last for `timeout_ms` from now on, or for as long as leases may in all; says when it ends. One that lasts
    /// longer already is left alone.
    fn keep(&self, handle: &ReceiptHandle, timeout_ms: u64) -> Result<Millis, KeepError> {
        let limit = VISIBILITY_MAX;
        // Again if so much time has passed between two readings of the clock that the lease would become too long.
        for _ in 0..KEEP_TRIES {
            let now = self.clock_now();
            let running = self.lease_of(handle, now);
            let wish = match running {
                Some((began, due)) => {
                    let last = began.after(limit.as_millis() as u64);
                    let wish = timeout_ms.min(last.since(now).as_millis() as u64);
                    if now.after(wish + 1) <= due {
                        // As long as it can be, or as somebody else wanted it.
                        return if wish < timeout_ms {
                            Err(KeepError::TotalReached { limit })
                        } else {
                            Ok(due)
                        };
                    }
                    wish
                }
                // The ledger knows best why not.
                None => timeout_ms,
            };
            let changed = self.change_visibility(handle, Duration::from_millis(wish));
            return match changed {
                Ok(VisibilityChange::Changed) => Ok(now.after(wish + 1)),
                Ok(VisibilityChange::LeaseOver) => Err(KeepError::LeaseOver),
                Err(ChangeVisibilityError::TotalTooLong { .. }) => continue,
                Err(ChangeVisibilityError::ReceivedAgain) => Err(KeepError::ReceivedAgain),
                Err(ChangeVisibilityError::QueueDeleted) => Err(KeepError::QueueDeleted),
                Err(_) => Err(KeepError::Gone),
            };
        }
        Err(KeepError::TotalReached { limit })
    }
}

/// Readings of the clock until a lease is taken for one that cannot be extended any more.
const KEEP_TRIES: usize = 3;

/// A step of a heartbeat in milliseconds.
fn step_ms(timeout: Duration) -> Result<u64, KeepError> {
    clock::ceil_ms(timeout)
        .filter(|ms| (1..=VISIBILITY_MAX.as_millis() as u64).contains(ms))
        .ok_or(KeepError::Timeout {
            given: timeout,
            limit: VISIBILITY_MAX,
        })
}

/// When a lease that ends at `due` is to be extended: when half a step is left.
fn beat_at(due: Millis, timeout_ms: u64) -> Millis {
    Millis::new(due.as_millis().saturating_sub(timeout_ms.div_ceil(2)))
}

impl Lease {
    /// The queue that the message is of.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// When the lease ends; `None` if it is over, or the message gone. O(1).
    #[must_use]
    pub fn ends_at(&self) -> Option<Millis> {
        let running = self.queue.lease_of(&self.message.handle, self.queue.clock_now());
        running.map(|(_, due)| due)
    }

    /// Deletes the message, and ends the guard. O(1).
    ///
    /// # Errors
    /// Those of [`Queue::delete`]; there is nothing to give up any more either.
    pub fn delete(mut self) -> Result<Deletion, DeleteError> {
        self.releases = false;
        self.queue.delete(&self.message.handle)
    }

    /// Gives the lease up now, as dropping the guard does, and says what that did. O(1).
    ///
    /// # Errors
    /// Those of [`Queue::change_visibility`]; there is nothing to give up any more.
    pub fn release(mut self) -> Result<VisibilityChange, ChangeVisibilityError> {
        self.releases = false;
        self.queue.change_visibility(&self.message.handle, Duration::ZERO)
    }

    /// Moves the lease's end to `visibility_timeout` from now, see [`Queue::change_visibility`]. O(1).
    ///
    /// # Errors
    /// Those of [`Queue::change_visibility`]; the lease is as it was.
    pub fn extend(&self, visibility_timeout: Duration) -> Result<VisibilityChange, ChangeVisibilityError> {
        self.queue
            .change_visibility(&self.message.handle, visibility_timeout)
    }

    /// The message without its guard: the lease ends with its timeout. Heartbeats stop.
    #[must_use]
    pub fn into_message(mut self) -> Message {
        self.releases = false;
        Message {
            bytes: std::mem::take(&mut self.message.bytes),
            ..self.message
        }
    }

    /// Runs `work` to its end and keeps the lease going meanwhile, in steps of `timeout` (1 ms..=12 h), each begun when half
    /// of the one before is over. Returns what `work` came to, and whether the lease was kept all the time: if not, `work` has
    /// been run to its end all the same. `sleep` is how it sleeps, such as `tokio::time::sleep`.
    ///
    /// Dropped, the future stops keeping the lease; the guard releases it when it is dropped itself.
    ///
    /// ```
    /// use std::{future, time::Duration};
    /// use epoq::{Broker, QueueConfig};
    /// let queue = Broker::new().create_queue("q", QueueConfig::default())?;
    /// queue.send(b"hello")?;
    /// async fn consume(queue: epoq::Queue) -> Result<(), Box<dyn std::error::Error>> {
    ///     for lease in queue.receive_leases(10, None)? {
    ///         let work = async { lease.body().len() };
    ///         let sleep = |_| future::pending(); // tokio::time::sleep
    ///         let (length, kept) = lease.while_extending(Duration::from_secs(30), work, sleep).await;
    ///         assert_eq!((length, kept), (5, Ok(())));
    ///         lease.delete()?;
    ///     }
    ///     Ok(())
    /// }
    /// # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    /// # assert!(std::pin::pin!(consume(queue.clone())).as_mut().poll(&mut context).is_ready());
    /// # assert_eq!(queue.counts().deleted, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn while_extending<F: Future, S: Future<Output = ()>>(
        &self,
        timeout: Duration,
        work: F,
        sleep: impl Fn(Duration) -> S,
    ) -> (F::Output, Result<(), KeepError>) {
        let mut work = pin!(work);
        let mut next = self.first_beat(timeout);
        loop {
            let (ms, at) = match next {
                Ok(next) => next,
                Err(lost) => return (work.await, Err(lost)),
            };
            // One millisecond more: the moment is to have come when it is over.
            let pause = at.since(self.queue.clock_now()) + Duration::from_millis(1);
            let mut timer = pin!(sleep(pause));
            let mut has_yielded = false;
            let done = poll_fn(|context| {
                if let Poll::Ready(output) = work.as_mut().poll(context) {
                    return Poll::Ready(Some(output));
                }
                if !has_yielded {
                    if timer.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    // Whatever `sleep` does, no poll of ours goes on for ever.
                    has_yielded = true;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(None)
            })
            .await;
            if let Some(output) = done {
                return (output, Ok(()));
            }
            next = if self.queue.clock_now() < at {
                Ok((ms, at))
            } else {
                let due = self.queue.keep(&self.message.handle, ms);
                due.map(|due| (ms, beat_at(due, ms)))
            };
        }
    }

    /// A heartbeat's step in milliseconds, and when its first one is to be made.
    fn first_beat(&self, timeout: Duration) -> Result<(u64, Millis), KeepError> {
        let ms = step_ms(timeout)?;
        let due = match self.ends_at() {
            Some(due) => due,
            // Says why it is over.
            None => self.queue.keep(&self.message.handle, ms)?,
        };
        Ok((ms, beat_at(due, ms)))
    }
}

impl Deref for Lease {
    type Target = Message;
    fn deref(&self) -> &Message {
        &self.message
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.releases {
            // Refused if the lease is over or the message gone: then there is nothing to give up.
            let _ = self.queue.change_visibility(&self.message.handle, Duration::ZERO);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("queue", &self.queue.name())
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

/// Keeps leases going for as long as their guards live: plain state, driven by whoever calls [`Heartbeat::beat`].
///
/// A lease can be kept for 12 hours in all (SQS). Then the heartbeat says that it cannot go on, half a step before the lease
/// ends.
///
/// ```
/// use std::time::Duration;
/// use epoq::{Broker, Heartbeat, ManualClock, QueueConfig};
/// let time = ManualClock::new();
/// let broker = Broker::builder().clock(&time).build()?;
/// let queue = broker.create_queue("q", QueueConfig::default())?;
/// queue.send(b"hello")?;
/// let lease = queue.receive_leases(1, Duration::from_secs(30))?.remove(0);
///
/// let mut heartbeat = Heartbeat::new();
/// heartbeat.keep(&lease, Duration::from_secs(30))?;
/// for _ in 0..10 {
///     time.advance(Duration::from_secs(15)); // until heartbeat.next_due()
///     assert!(heartbeat.beat(broker.now()).lost.is_empty());
/// }
/// assert_eq!(queue.counts().in_flight, 1);
/// drop(lease);
/// assert_eq!(queue.counts().visible, 1);
/// assert_eq!(heartbeat.next_due(), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Heartbeat {
    kept: HashMap<ReceiptHandle, Kept>,
}

#[derive(Debug)]
struct Kept {
    queue: Queue,
    message_id: MessageId,
    timeout_ms: u64,
    alive: Weak<()>,
    at: Millis,
}

/// What a beat has done.
#[must_use = "it tells which leases are lost"]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Beat {
    /// Leases extended.
    pub extended: usize,
    /// Leases that are not kept any more although their guards live.
    pub lost: Vec<LostLease>,
}

/// A lease that a heartbeat cannot keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostLease {
    /// Its message.
    pub message_id: MessageId,
    /// Its handle.
    pub handle: ReceiptHandle,
    /// Why not.
    pub why: KeepError,
}

impl Heartbeat {
    /// Keeps nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps a lease from now on, in steps of `timeout` (1 ms..=12 h), each to be made when half of the one before is over. For
    /// a lease that is kept already, sets the step. O(1).
    ///
    /// # Errors
    /// [`KeepError`] if the timeout is out of range or the lease is over; it is not kept then, or as before.
    pub fn keep(&mut self, lease: &Lease, timeout: Duration) -> Result<(), KeepError> {
        let (timeout_ms, at) = lease.first_beat(timeout)?;
        let kept = Kept {
            queue: lease.queue.clone(),
            message_id: lease.message.id,
            timeout_ms,
            alive: Arc::downgrade(lease.alive.get_or_init(Arc::default)),
            at,
        };
        self.kept.insert(lease.message.handle, kept);
        Ok(())
    }

    /// Leases kept whose guards live. O(leases).
    #[must_use]
    pub fn len(&self) -> usize {
        self.living().count()
    }

    /// Whether there is nothing to keep. O(leases).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.living().next().is_none()
    }

    /// When to call [`Heartbeat::beat`] next; `None` if there is nothing to keep. O(leases).
    #[must_use]
    pub fn next_due(&self) -> Option<Millis> {
        self.living().map(|kept| kept.at).min()
    }

    /// Extends the leases whose time has come at `now`, and forgets those whose guards are gone. A `now` that the broker's clock
    /// has not reached counts as the clock's. Called after half a step more than it asked for, it comes too late: the lease is
    /// over then, and reported as lost. O(leases).
    pub fn beat(&mut self, now: Millis) -> Beat {
        let mut beat = Beat::default();
        self.kept.retain(|&handle, kept| {
            if kept.alive.strong_count() == 0 {
                return false;
            }
            if now.min(kept.queue.clock_now()) < kept.at {
                return true;
            }
            match kept.queue.keep(&handle, kept.timeout_ms) {
                Ok(due) => {
                    kept.at = beat_at(due, kept.timeout_ms);
                    beat.extended += 1;
                    true
                }
                Err(why) => {
                    beat.lost.push(LostLease {
                        message_id: kept.message_id,
                        handle,
                        why,
                    });
                    false
                }
            }
        });
        beat
    }

    fn living(&self) -> impl Iterator<Item = &Kept> {
        self.kept.values().filter(|kept| kept.alive.strong_count() > 0)
    }
}
