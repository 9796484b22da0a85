//! A turn: many operations under one pin and one reading of the clock.

use std::time::Duration;

use crate::{
    batch::Batch,
    clock::{Millis, Reading},
    delivery::{Delivery, Received},
    error::{BatchError, ChangeVisibilityError, DeleteError, ReceiveError, SendError},
    ledger::reclaim::Pin,
    message::{Outgoing, Sent},
    queue::{Deletion, Queue, VisibilityChange},
    receipt::ReceiptHandle,
    worker::WorkerCore,
};

/// Many operations under one pin and one reading of the clock; see [`Worker::turn`](crate::Worker::turn).
///
/// Sends, receives, deletes and changes of visibility are here too, with the queue as first argument; what they return may borrow
/// message bodies from the ledger for as long as the turn lasts. The queue must be of the worker's own broker. A turn stays on its
/// thread: in a future, use the methods of [`Queue`].
#[derive(Debug)]
pub struct Turn<'w> {
    pin: Pin<'w>,
    reading: Reading<'w>,
    worker: &'w WorkerCore,
}

impl<'w> Turn<'w> {
    #[inline]
    pub(crate) fn new(pin: Pin<'w>, reading: Reading<'w>, worker: &'w WorkerCore) -> Self {
        Self { pin, reading, worker }
    }

    #[inline]
    pub(crate) fn pin(&self) -> &Pin<'w> {
        &self.pin
    }

    #[inline]
    pub(crate) fn reading(&self) -> &Reading<'w> {
        &self.reading
    }

    #[inline]
    pub(crate) fn worker(&self) -> &'w WorkerCore {
        self.worker
    }

    /// The turn's moment: the clock as last read in this turn.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Millis {
        self.reading.now()
    }

    /// Begins the turn anew: lets go of the pin and takes it again, and forgets the clock's reading.
    ///
    /// Deliveries borrowed from the turn must be gone, which the compiler sees to.
    pub fn refresh(&mut self) {
        self.reading.forget();
        self.pin.repin();
    }

    /// As [`Queue::send`].
    ///
    /// # Errors
    /// Those of [`Queue::send`].
    #[inline]
    pub fn send<'t>(&self, queue: &'t Queue, body: &[u8]) -> Result<Sent<'t>, SendError> {
        queue.send_in(self, body)
    }

    /// As [`Queue::send_message`].
    ///
    /// # Errors
    /// Those of [`Queue::send_message`].
    pub fn send_message<'t>(&self, queue: &'t Queue, message: &Outgoing<'_>) -> Result<Sent<'t>, SendError> {
        queue.send_message_in(self, message)
    }

    /// As [`Queue::send_messages`].
    ///
    /// # Errors
    /// Those of [`Queue::send_messages`].
    pub fn send_messages<'t>(
        &self,
        queue: &'t Queue,
        messages: &[Outgoing<'_>],
    ) -> Result<Batch<Result<Sent<'t>, SendError>>, BatchError> {
        queue.send_messages_in(self, messages)
    }

    /// As [`Queue::send_batch`].
    ///
    /// # Errors
    /// Those of [`Queue::send_batch`].
    #[inline]
    pub fn send_batch<'t, B: AsRef<[u8]>>(
        &self,
        queue: &'t Queue,
        bodies: &[B],
    ) -> Result<Batch<Result<Sent<'t>, SendError>>, BatchError> {
        queue.send_batch_in(self, bodies)
    }

    /// As [`Queue::receive`], without copying: bodies are borrowed from the ledger for as long as the turn lasts.
    ///
    /// # Errors
    /// Those of [`Queue::receive`].
    #[inline]
    pub fn receive<'t>(
        &'t self,
        queue: &'t Queue,
        max: usize,
        visibility_timeout: impl Into<Option<Duration>>,
    ) -> Result<Received<'t>, ReceiveError> {
        queue.receive_in(self, max, visibility_timeout.into())
    }

    /// As [`Turn::receive`] of one message: the fastest way to get a single one.
    ///
    /// # Errors
    /// Those of [`Queue::receive`].
    #[inline]
    pub fn receive_one<'t>(
        &'t self,
        queue: &'t Queue,
        visibility_timeout: impl Into<Option<Duration>>,
    ) -> Result<Option<Delivery<'t>>, ReceiveError> {
        queue.receive_one_in(self, visibility_timeout.into())
    }

    /// As [`Queue::delete`].
    ///
    /// # Errors
    /// Those of [`Queue::delete`].
    #[inline]
    pub fn delete(&self, queue: &Queue, handle: &ReceiptHandle) -> Result<Deletion, DeleteError> {
        queue.delete_in(self, handle)
    }

    /// As [`Queue::delete_batch`].
    ///
    /// # Errors
    /// Those of [`Queue::delete_batch`].
    #[inline]
    pub fn delete_batch(
        &self,
        queue: &Queue,
        handles: &[ReceiptHandle],
    ) -> Result<Batch<Result<Deletion, DeleteError>>, BatchError> {
        queue.delete_batch_in(self, handles)
    }

    /// As [`Queue::change_visibility`].
    ///
    /// # Errors
    /// Those of [`Queue::change_visibility`].
    #[inline]
    pub fn change_visibility(
        &self,
        queue: &Queue,
        handle: &ReceiptHandle,
        visibility_timeout: Duration,
    ) -> Result<VisibilityChange, ChangeVisibilityError> {
        queue.change_visibility_in(self, handle, visibility_timeout)
    }

    /// As [`Queue::change_visibility_batch`].
    ///
    /// # Errors
    /// Those of [`Queue::change_visibility_batch`].
    #[inline]
    pub fn change_visibility_batch(
        &self,
        queue: &Queue,
        changes: &[(ReceiptHandle, Duration)],
    ) -> Result<Batch<Result<VisibilityChange, ChangeVisibilityError>>, BatchError> {
        queue.change_visibility_batch_in(self, changes)
    }
}
