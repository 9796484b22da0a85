//! Sends that wait for room: what to do about a full ledger is the caller's choice, call by call.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use super::Queue;
use crate::{
    clock::{self, Millis},
    error::SendError,
    message::{Outgoing, Sent},
    sync::{Event, Listener},
    wait::Waiting,
    worker::WorkerCore,
};

/// How long to wait at first, and at most, between two tries: while something waits for the epoch, for nobody tells when a
/// thread unpins; and in any case, for a try stirs things up, and may wake those who wait, this one among them.
const NAP_MS: u64 = 1;
const NAPS_MAX_MS: u64 = 16;
/// After so long without a try the next one that is in vain counts as the first.
const CALM_MS: u64 = 100;
/// How long to wait at most: another's try that was in vain may have had the room for a moment, and nobody tells.
const LOOK_AGAIN_MS: u64 = 1_000;

/// One send that waits.
struct Wait<'q> {
    queue: &'q Queue,
    deadline: Millis,
    nap_ms: u64,
    /// No try before then.
    not_before: Millis,
    waiting: Option<Waiting<'q>>,
}

enum Try<'q> {
    Over(Result<Sent<'q>, SendError>),
    /// In vain: not again before then, unless somebody tells.
    Sleep(Millis),
    /// Too early: not before then, whoever tells.
    Nap(Millis),
}

impl Queue {
    /// As [`Queue::send_message`], but if the memory budget is used up, waits up to `wait` for room. Blocks the calling thread,
    /// which sleeps. ([`Queue::send`] and [`Queue::send_message`] refuse at once.)
    ///
    /// ```
    /// # use std::time::Duration;
    /// use epoq::{Broker, Outgoing, QueueConfig, SendError};
    /// let config = QueueConfig { memory_limit: Some(64 * 1024), ..QueueConfig::default() };
    /// let queue = Broker::new().create_queue("small", config)?;
    /// while queue.send(&[7; 1000]).is_ok() {}
    /// let message = Outgoing::new(b"one more");
    /// let refused = queue.send_wait(&message, Duration::from_millis(10)).map(drop);
    /// assert!(matches!(refused, Err(SendError::OverBudget { .. })));
    /// std::thread::scope(|scope| {
    ///     let sender = scope.spawn(|| queue.send_wait(&message, Duration::from_secs(10)).map(drop));
    ///     while let Some(first) = queue.receive(1, None).expect("a queue").first() {
    ///         queue.delete(&first.receipt_handle()).expect("a queue");
    ///     }
    ///     assert_eq!(sender.join().expect("no panic"), Ok(()));
    /// });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SendError`]; the message was not accepted. [`SendError::OverBudget`] after the wait.
    pub fn send_wait(&self, message: &Outgoing<'_>, wait: Duration) -> Result<Sent<'_>, SendError> {
        let mut attempt = self.wait_for_room(wait);
        loop {
            let (until, listener) = match attempt.attempt(message) {
                Try::Over(result) => return result,
                Try::Sleep(until) => (until, attempt.waiting.as_mut().and_then(Waiting::take_listener)),
                Try::Nap(until) => (until, Some(Event::new().listen())),
            };
            let Some(listener) = listener else { continue };
            match self.inner.shared.clock.instant(until) {
                Some(until) => drop(listener.wait_deadline(until)),
                None => listener.wait(),
            }
        }
    }

    /// As [`Queue::send_wait`], as a future; `sleep` is how its executor sleeps, as in [`Queue::receive_async`].
    ///
    /// Dropped before it is ready, the future has sent nothing.
    ///
    /// # Errors
    /// As [`Queue::send_wait`].
    pub async fn send_async<S: Future<Output = ()>>(
        &self,
        message: &Outgoing<'_>,
        wait: Duration,
        sleep: impl Fn(Duration) -> S,
    ) -> Result<Sent<'_>, SendError> {
        let mut attempt = self.wait_for_room(wait);
        loop {
            let clock = &self.inner.shared.clock;
            let until = match attempt.attempt(message) {
                Try::Over(result) => return result,
                Try::Sleep(until) => until,
                Try::Nap(until) => {
                    yield_once().await;
                    sleep(until.since(clock.now()) + Duration::from_millis(1)).await;
                    continue;
                }
            };
            let Some(listener) = attempt.waiting.as_mut().and_then(Waiting::listener) else {
                continue;
            };
            if clock.is_manual() {
                listener.await;
                yield_once().await;
                continue;
            }
            let mut timer = pin!(sleep(until.since(clock.now()) + Duration::from_millis(1)));
            poll_fn(|context| match Pin::new(&mut *listener).poll(context) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => timer.as_mut().poll(context),
            })
            .await;
        }
    }

    fn wait_for_room(&self, wait: Duration) -> Wait<'_> {
        let wait_ms = clock::ceil_ms(wait)
            .unwrap_or(u64::MAX)
            .min(u64::from(u32::MAX) - 1);
        Wait {
            queue: self,
            deadline: self.inner.shared.clock.in_ms(wait_ms),
            nap_ms: NAP_MS,
            not_before: Millis::new(0),
            waiting: None,
        }
    }
}

impl<'q> Wait<'q> {
    fn attempt(&mut self, message: &Outgoing<'_>) -> Try<'q> {
        let clock = &self.queue.inner.shared.clock;
        if let Some(waiting) = &mut self.waiting {
            let earliest = self.not_before.min(self.deadline);
            if !clock.is_manual() && clock.now() < earliest {
                return Try::Nap(earliest);
            }
            waiting.listen();
            // What waits for the epoch may be ripe.
            WorkerCore::in_passing(&self.queue.inner.shared, WorkerCore::flush);
        }
        match self.queue.send_message(message) {
            Err(SendError::OverBudget { .. }) => {}
            result => return Try::Over(result),
        }
        let now = clock.now();
        if now >= self.deadline {
            return Try::Over(self.queue.send_message(message));
        }
        if self.waiting.is_none() {
            self.waiting = Some(self.queue.inner.shared.budget.room().enter());
            return self.attempt(message);
        }
        self.nap_ms = if now < self.not_before.after(CALM_MS) {
            (2 * self.nap_ms).min(NAPS_MAX_MS)
        } else {
            NAP_MS
        };
        self.not_before = now.after(self.nap_ms);
        let until = if self.queue.inner.shared.budget.read().limbo == 0 {
            // Nothing is on its way: whoever frees or retires something will tell.
            now.after(LOOK_AGAIN_MS)
        } else {
            self.not_before
        };
        Try::Sleep(until.min(self.deadline))
    }
}

/// Lets the executor's other tasks go on: whatever wakes us, or `sleep` does, no poll of ours goes on for ever.
pub(super) async fn yield_once() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
