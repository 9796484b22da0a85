//! What a receipt handle is good for: deleting its message, and changing the end of its lease.

use std::time::Duration;

#[cfg(not(loom))]
use super::fifo::handle::{FifoRound, refuse_change};
use super::{Deletion, Queue, VisibilityChange, era::Era, round::Round};
use crate::{
    batch::Batch,
    clock,
    config::VISIBILITY_MAX,
    error::{BatchError, ChangeVisibilityError, DeleteError},
    ledger::{lease::DeletedFrom, partition::Partition, state::Refusal},
    receipt::ReceiptHandle,
    turn::Turn,
};

impl Queue {
    #[inline(always)]
    pub(crate) fn delete_in(&self, turn: &Turn<'_>, handle: &ReceiptHandle) -> Result<Deletion, DeleteError> {
        let era = self.admit(turn, DeleteError::QueueDeleted, DeleteError::ForeignTurn)?;
        #[cfg(not(loom))]
        if era.fifo(turn.pin()).is_some() {
            let mut round = FifoRound::new();
            let result = self.delete_fifo(era, turn, handle, &mut round);
            self.end_fifo_round(era, turn, round);
            return result;
        }
        let mut round = Round::new();
        let partition = era.partition(handle.partition(), turn.pin());
        let result = self.delete_one(era, turn, partition, handle, &mut round);
        self.end_round(era, turn, round);
        result
    }

    pub(crate) fn delete_batch_in(
        &self,
        turn: &Turn<'_>,
        handles: &[ReceiptHandle],
    ) -> Result<Batch<Result<Deletion, DeleteError>>, BatchError> {
        Batch::<()>::check(handles.len())?;
        let era = self.admit(turn, BatchError::QueueDeleted, BatchError::ForeignTurn)?;
        #[cfg(not(loom))]
        if era.fifo(turn.pin()).is_some() {
            let (mut results, mut round) = (Batch::new(), FifoRound::new());
            for handle in handles {
                results.push(self.delete_fifo(era, turn, handle, &mut round));
            }
            self.end_fifo_round(era, turn, round);
            return Ok(results);
        }
        let (mut results, mut round) = (Batch::new(), Round::new());
        // Most batches are of one partition.
        let mut found = None;
        for handle in handles {
            let number = handle.partition();
            let partition = match found {
                Some((same, partition)) if same == number => Some(partition),
                _ => era.partition(number, turn.pin()),
            };
            found = partition.map(|partition| (number, partition));
            results.push(self.delete_one(era, turn, partition, handle, &mut round));
        }
        self.end_round(era, turn, round);
        Ok(results)
    }

    #[inline(always)]
    fn delete_one<'t>(
        &'t self,
        era: &'t Era,
        turn: &'t Turn<'_>,
        partition: Option<&'t Partition>,
        handle: &ReceiptHandle,
        round: &mut Round<'t>,
    ) -> Result<Deletion, DeleteError> {
        if handle.queue != self.inner.id {
            return Err(DeleteError::Foreign);
        }
        let Some(partition) = partition else {
            // There was one; purged, or closed because nothing was left in it.
            return Ok(Deletion::Gone);
        };
        match partition.delete(handle.place(), handle.receives(), turn.pin(), &mut round.graves) {
            Ok(DeletedFrom::InFlight) => {
                round.in_flight += 1;
                Ok(Deletion::Deleted)
            }
            Ok(from) => {
                Self::count_late(era, turn, from);
                Ok(Deletion::Deleted)
            }
            Err(Refusal::Dead) => Ok(Deletion::Gone),
            Err(Refusal::ReceivedAgain) => {
                // It may have been in our hand for a moment, and somebody have looked in vain meanwhile.
                self.wake(1);
                Ok(Deletion::ReceivedAgain)
            }
            Err(_) => Err(DeleteError::Foreign),
        }
    }

    /// Counts a message that was deleted after its lease.
    #[cold]
    #[inline(never)]
    fn count_late(era: &Era, turn: &Turn<'_>, from: DeletedFrom) {
        if let Some(stripe) = Self::stripe(era, turn) {
            match from {
                DeletedFrom::InFlight => stripe.deleted_in_flight.add(1),
                DeletedFrom::Visible => stripe.deleted_visible.add(1),
                DeletedFrom::Delayed => stripe.deleted_delayed.add(1),
            }
        }
    }

    #[inline(always)]
    fn end_round<'t>(&'t self, era: &'t Era, turn: &'t Turn<'_>, round: Round<'t>) {
        round.end(|| Self::stripe(era, turn), &self.inner.hot.waiters, turn.pin());
    }

    pub(crate) fn change_visibility_in(
        &self,
        turn: &Turn<'_>,
        handle: &ReceiptHandle,
        visibility_timeout: Duration,
    ) -> Result<VisibilityChange, ChangeVisibilityError> {
        let limit = VISIBILITY_MAX;
        let Some(visibility_ms) =
            clock::ceil_ms(visibility_timeout).filter(|&ms| ms <= limit.as_millis() as u64)
        else {
            return Err(ChangeVisibilityError::VisibilityTimeout {
                given: visibility_timeout,
                limit,
            });
        };
        let era = self.admit(
            turn,
            ChangeVisibilityError::QueueDeleted,
            ChangeVisibilityError::ForeignTurn,
        )?;
        if handle.queue != self.inner.id {
            return Err(ChangeVisibilityError::Foreign);
        }
        #[cfg(not(loom))]
        if visibility_ms == 0 && era.fifo(turn.pin()).is_some() {
            return self.hand_in_fifo(era, turn, handle);
        }
        // There was one; purged, or closed because nothing was left in it.
        let partition = era
            .partition(handle.partition(), turn.pin())
            .ok_or(ChangeVisibilityError::Gone)?;
        match partition.change_visibility(
            handle.place(),
            handle.receives(),
            visibility_ms,
            turn.reading(),
            turn.pin(),
        ) {
            Ok(_) => {
                if visibility_ms == 0 {
                    if let Some(stripe) = Self::stripe(era, turn) {
                        stripe.released.add(1);
                    }
                    self.wake_counted(1);
                } else {
                    self.wake_by(|| turn.now().after(visibility_ms));
                }
                Ok(VisibilityChange::Changed)
            }
            #[cfg(not(loom))]
            Err(refusal) if self.is_fifo() => Err(refuse_change(refusal)),
            Err(Refusal::Visible | Refusal::LeaseOver) => Ok(VisibilityChange::LeaseOver),
            Err(Refusal::Dead) => Err(ChangeVisibilityError::Gone),
            Err(Refusal::ReceivedAgain) => Err(ChangeVisibilityError::ReceivedAgain),
            Err(Refusal::TooLong(_)) => Err(ChangeVisibilityError::TotalTooLong { limit }),
            Err(_) => Err(ChangeVisibilityError::Foreign),
        }
    }

    pub(crate) fn change_visibility_batch_in(
        &self,
        turn: &Turn<'_>,
        changes: &[(ReceiptHandle, Duration)],
    ) -> Result<Batch<Result<VisibilityChange, ChangeVisibilityError>>, BatchError> {
        Batch::<()>::check(changes.len())?;
        self.admit(turn, BatchError::QueueDeleted, BatchError::ForeignTurn)?;
        let mut results = Batch::new();
        for (handle, visibility_timeout) in changes {
            results.push(self.change_visibility_in(turn, handle, *visibility_timeout));
        }
        Ok(results)
    }
}
