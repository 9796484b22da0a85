//! Long polls: receives that wait for a message, blocking or as a future.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use super::{Queue, room::yield_once};
use crate::{
    clock::{self, Millis},
    config::WAIT_MAX,
    error::ReceiveError,
    message::Message,
    sync::Listener,
    wait::{Crowded, Waiting},
};

/// How a look for messages ended.
enum Look {
    Over(Result<Vec<Message>, ReceiveError>),
    /// Nothing: sleep at most until then.
    Sleep(Millis),
}

/// One long poll.
struct LongPoll<'q> {
    queue: &'q Queue,
    /// Under which id it can be repeated, if under any.
    attempt: Option<&'q str>,
    max: usize,
    visibility_timeout: Option<Duration>,
    deadline: Millis,
    /// Whether it is one at all: without time to wait it is a receive like any other.
    waits: bool,
    /// None before the first look.
    waiting: Option<Waiting<'q>>,
    /// While too many messages are in flight.
    crowded: Option<Crowded<'q>>,
}

impl Queue {
    /// As [`Queue::receive`], but if there is nothing, waits up to `wait` (0..=20 s; `None` for the queue's own) for a message to
    /// be sent, released or moved here, or for a lease or a delay to end. Blocks the calling thread, which sleeps.
    ///
    /// It returns as soon as there is something, and does not wait for `max` of them (SQS). Those who wait are served in
    /// the order they came. While as many messages are in flight as may be, it goes on waiting (SQS).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use epoq::{Broker, QueueConfig};
    /// let queue = Broker::new().create_queue("q", QueueConfig::default())?;
    /// std::thread::scope(|scope| {
    ///     let waiter = scope.spawn(|| queue.receive_wait(10, None, Duration::from_secs(20)));
    ///     queue.send(b"hello").expect("room");
    ///     assert_eq!(waiter.join().expect("no panic").expect("a queue")[0].body(), b"hello");
    /// });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReceiveError`]; nothing was received. A queue deleted while somebody waits answers
    /// [`ReceiveError::QueueDeleted`] at once.
    pub fn receive_wait(
        &self,
        max: usize,
        visibility_timeout: impl Into<Option<Duration>>,
        wait: impl Into<Option<Duration>>,
    ) -> Result<Vec<Message>, ReceiveError> {
        let mut poll = self.poll(max, visibility_timeout.into(), wait.into())?;
        loop {
            let until = match poll.look() {
                Look::Over(result) => return result,
                Look::Sleep(until) => until,
            };
            let Some(listener) = poll.waiting.as_mut().and_then(Waiting::take_listener) else {
                continue;
            };
            // With a clock that moves by hand, moving it wakes.
            match self.inner.shared.clock.instant(until) {
                Some(until) => drop(listener.wait_deadline(until)),
                None => listener.wait(),
            }
        }
    }

    /// As [`Queue::receive_wait`], as a future. Any executor will do: `sleep` is how it sleeps, such as
    /// `tokio::time::sleep`.
    ///
    /// Dropped before it is ready, the future has taken no message.
    ///
    /// # Errors
    /// As [`Queue::receive_wait`].
    pub async fn receive_async<S: Future<Output = ()>>(
        &self,
        max: usize,
        visibility_timeout: impl Into<Option<Duration>>,
        wait: impl Into<Option<Duration>>,
        sleep: impl Fn(Duration) -> S,
    ) -> Result<Vec<Message>, ReceiveError> {
        self.poll(max, visibility_timeout.into(), wait.into())?
            .sleeping_by(sleep)
            .await
    }

    /// As [`Queue::receive_attempt`], but if there is nothing, waits as [`Queue::receive_async`] does.
    ///
    /// # Errors
    /// As [`Queue::receive_attempt`] and [`Queue::receive_wait`].
    pub async fn receive_attempt_async<S: Future<Output = ()>>(
        &self,
        attempt: &str,
        max: usize,
        visibility_timeout: impl Into<Option<Duration>>,
        wait: impl Into<Option<Duration>>,
        sleep: impl Fn(Duration) -> S,
    ) -> Result<Vec<Message>, ReceiveError> {
        let poll = self.poll(max, visibility_timeout.into(), wait.into())?;
        LongPoll {
            attempt: Some(attempt),
            ..poll
        }
        .sleeping_by(sleep)
        .await
    }

    fn poll(
        &self,
        max: usize,
        visibility_timeout: Option<Duration>,
        wait: Option<Duration>,
    ) -> Result<LongPoll<'_>, ReceiveError> {
        let wait = wait.unwrap_or_else(|| self.inner.hot.settings.wait());
        let wait_ms = clock::ceil_ms(wait)
            .filter(|&ms| ms <= WAIT_MAX.as_millis() as u64)
            .ok_or(ReceiveError::Wait {
                given: wait,
                limit: WAIT_MAX,
            })?;
        Ok(LongPoll {
            queue: self,
            attempt: None,
            max,
            visibility_timeout,
            deadline: self.inner.shared.clock.in_ms(wait_ms),
            waits: wait_ms > 0,
            waiting: None,
            crowded: None,
        })
    }
}

impl<'q> LongPoll<'q> {
    async fn sleeping_by<S: Future<Output = ()>>(
        mut self,
        sleep: impl Fn(Duration) -> S,
    ) -> Result<Vec<Message>, ReceiveError> {
        let clock = &self.queue.inner.shared.clock;
        loop {
            let until = match self.look() {
                Look::Over(result) => return result,
                Look::Sleep(until) => until,
            };
            let Some(listener) = self.waiting.as_mut().and_then(Waiting::listener) else {
                continue;
            };
            if clock.is_manual() {
                listener.await;
                continue;
            }
            // One millisecond more: the moment is to have come when it is over.
            let mut timer = pin!(sleep(until.since(clock.now()) + Duration::from_millis(1)));
            let is_woken = poll_fn(|context| match Pin::new(&mut *listener).poll(context) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending => timer.as_mut().poll(context).map(|()| false),
            })
            .await;
            if !is_woken {
                // Should `sleep` not sleep, no poll of ours goes on for ever.
                yield_once().await;
            }
        }
    }

    fn look(&mut self) -> Look {
        // The first look as a receive that does not wait. Whoever sleeps listens before each look.
        if let Some(waiting) = &mut self.waiting {
            waiting.listen();
        }
        let received = match self.attempt {
            None => self.queue.receive(self.max, self.visibility_timeout),
            Some(attempt) => self
                .queue
                .receive_attempt(attempt, self.max, self.visibility_timeout),
        };
        let is_crowded = match received {
            // A FIFO queue says nothing of it.
            Ok(messages) if messages.is_empty() => self.queue.is_fifo() && self.queue.is_at_limit(),
            Err(ReceiveError::TooManyInFlight { .. }) if self.waits => true,
            received => return Look::Over(received),
        };
        let now = self.queue.inner.shared.clock.now();
        if now >= self.deadline {
            return Look::Over(Ok(Vec::new()));
        }
        // Whoever has just made itself known looks again, for what was done before.
        let is_known = self.waiting.is_some() && (self.crowded.is_some() || !is_crowded);
        if is_crowded != self.crowded.is_some() {
            self.crowded = is_crowded.then(|| self.queue.inner.hot.waiters.join_crowd());
        }
        let waiting = self
            .waiting
            .get_or_insert_with(|| self.queue.inner.hot.waiters.enter());
        if !is_known {
            return self.look();
        }
        let due = waiting.keep_time(|| self.queue.next_due());
        Look::Sleep(due.map_or(self.deadline, |due| due.min(self.deadline)))
    }
}
