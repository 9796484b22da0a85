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
    sync::Listener,
    wait::Waiting,
    worker::WorkerCore,
};

/// How long to sleep at first, and at most, while something waits for the epoch: nobody tells when a thread unpins.
const NAP_MS: u64 = 1;
const NAPS_MAX_MS: u64 = 16;

/// One send that waits.
struct Wait<'q> {
    queue: &'q Queue,
    deadline: Millis,
    nap_ms: u64,
    waiting: Option<Waiting<'q>>,
}

enum Try<'q> {
    Over(Result<Sent<'q>, SendError>),
    Sleep(Millis),
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
            let until = match attempt.attempt(message) {
                Try::Over(result) => return result,
                Try::Sleep(until) => until,
            };
            let Some(listener) = attempt.waiting.as_mut().and_then(Waiting::take_listener) else {
                continue;
            };
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
            let until = match attempt.attempt(message) {
                Try::Over(result) => return result,
                Try::Sleep(until) => until,
            };
            let Some(listener) = attempt.waiting.as_mut().and_then(Waiting::listener) else {
                continue;
            };
            let clock = &self.inner.shared.clock;
            if clock.is_manual() {
                listener.await;
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
            waiting: None,
        }
    }
}

impl<'q> Wait<'q> {
    fn attempt(&mut self, message: &Outgoing<'_>) -> Try<'q> {
        if let Some(waiting) = &mut self.waiting {
            waiting.listen();
            // What waits for the epoch may be ripe.
            WorkerCore::in_passing(&self.queue.inner.shared, WorkerCore::flush);
        }
        match self.queue.send_message(message) {
            Err(SendError::OverBudget { .. }) => {}
            result => return Try::Over(result),
        }
        let now = self.queue.inner.shared.clock.now();
        if now >= self.deadline {
            return Try::Over(self.queue.send_message(message));
        }
        if self.waiting.is_none() {
            self.waiting = Some(self.queue.inner.shared.budget.room().enter());
            return self.attempt(message);
        }
        if self.queue.inner.shared.budget.read().limbo == 0 {
            // Nothing is on its way: whoever frees or retires something will tell.
            return Try::Sleep(self.deadline);
        }
        let until = now.after(self.nap_ms);
        self.nap_ms = (2 * self.nap_ms).min(NAPS_MAX_MS);
        Try::Sleep(until.min(self.deadline))
    }
}
