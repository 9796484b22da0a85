//! What a FIFO queue's receipt handle is good for, while its lease is running.

use crate::{
    error::{ChangeVisibilityError, DeleteError},
    ledger::{group::lease::Ended, state::Refusal},
    queue::{Deletion, Queue, VisibilityChange, era::Era, round::Round},
    receipt::ReceiptHandle,
    turn::Turn,
};

/// The deletions of one call.
#[derive(Debug)]
pub(in crate::queue) struct FifoRound<'t> {
    round: Round<'t>,
    /// Of one group, which has not been told yet.
    ended: Option<Ended<'t>>,
}

impl<'t> FifoRound<'t> {
    pub(in crate::queue) const fn new() -> Self {
        Self {
            round: Round::new(),
            ended: None,
        }
    }
}

impl Queue {
    pub(in crate::queue) fn delete_fifo<'t>(
        &'t self,
        era: &'t Era,
        turn: &'t Turn<'_>,
        handle: &ReceiptHandle,
        round: &mut FifoRound<'t>,
    ) -> Result<Deletion, DeleteError> {
        if handle.queue != self.inner.id {
            return Err(DeleteError::Foreign);
        }
        let pin = turn.pin();
        let Some(partition) = era.partition(handle.partition(), pin) else {
            // There was one; purged, or closed because nothing was left in it.
            return Ok(Deletion::Gone);
        };
        let deleted = partition.delete_leased(
            handle.place(),
            handle.receives(),
            turn.now(),
            pin,
            &mut round.round.graves,
        );
        match deleted {
            Ok(ended) => {
                round.round.in_flight += 1;
                round.ended = match (round.ended, ended) {
                    (Some(before), Some(ended)) => before.with(ended).or_else(|| {
                        self.follow(era, turn, before.group.go(before.places, pin));
                        Some(ended)
                    }),
                    (before, ended) => ended.or(before),
                };
                Ok(Deletion::Deleted)
            }
            Err(Refusal::Dead) => Ok(Deletion::Gone),
            Err(Refusal::ReceivedAgain | Refusal::LeaseOver | Refusal::Visible) => Err(DeleteError::Expired),
            Err(_) => Err(DeleteError::Foreign),
        }
    }

    pub(in crate::queue) fn end_fifo_round<'t>(
        &'t self,
        era: &'t Era,
        turn: &'t Turn<'_>,
        round: FifoRound<'t>,
    ) {
        if let Some(ended) = round.ended {
            self.follow(era, turn, ended.group.go(ended.places, turn.pin()));
        }
        let stripe = || Self::stripe(era, turn);
        round.round.end(stripe, &self.inner.hot.waiters, turn.pin());
    }

    /// Gives a lease up.
    pub(in crate::queue) fn hand_in_fifo(
        &self,
        era: &Era,
        turn: &Turn<'_>,
        handle: &ReceiptHandle,
    ) -> Result<VisibilityChange, ChangeVisibilityError> {
        let pin = turn.pin();
        let partition = era
            .partition(handle.partition(), pin)
            .ok_or(ChangeVisibilityError::Gone)?;
        let ended = partition
            .hand_in(handle.place(), handle.receives(), turn.now(), pin)
            .map_err(refuse_change)?;
        if let Some(stripe) = Self::stripe(era, turn) {
            stripe.released.add(1);
        }
        if let Some(ended) = ended {
            self.follow(era, turn, ended.group.come_back(ended.places, pin));
        }
        self.wake_counted(1);
        Ok(VisibilityChange::Changed)
    }
}

/// What a refused change of a FIFO message's lease is answered with.
pub(in crate::queue) fn refuse_change(refusal: Refusal) -> ChangeVisibilityError {
    match refusal {
        Refusal::Dead => ChangeVisibilityError::Gone,
        Refusal::Visible | Refusal::LeaseOver | Refusal::ReceivedAgain => ChangeVisibilityError::Expired,
        Refusal::TooLong(_) => ChangeVisibilityError::TotalTooLong {
            limit: crate::config::VISIBILITY_MAX,
        },
        _ => ChangeVisibilityError::Foreign,
    }
}
