//! Receives that can be repeated: within five minutes, by the id of the attempt, a receive whose answer was lost gives the same
//! messages with the same handles again (SQS's `ReceiveRequestAttemptId`).

use std::time::Duration;

use super::{
    places::Places,
    recent::{Entering, Fingerprint, Recent},
};
use crate::{
    attribute,
    budget::Budget,
    clock::Millis,
    config::{ATTEMPTS_MAX, BATCH_MAX, DEDUPLICATION_INTERVAL},
    error::ReceiveError,
    ledger::{lease::Claim, state::Refusal},
    message::Message,
    queue::{Queue, era::Era},
    receipt::ReceiptHandle,
    sync::{Arc, Mutex},
    turn::Turn,
};

/// Bytes that an attempt is reckoned to take, with the handles of ten messages.
const BYTES: u64 = 160 + (BATCH_MAX * size_of::<(ReceiptHandle, Millis)>()) as u64;

/// Attempts of the last five minutes. They are counted in the budget, but not refused for it: receives go on when memory is used up.
#[derive(Debug)]
pub(super) struct Attempts {
    recent: Recent<Arc<Mutex<Attempt>>>,
    key: [u64; 2],
}

/// What one attempt received.
#[derive(Debug, Default)]
struct Attempt {
    /// With the end that the lease has been given.
    leases: Vec<(ReceiptHandle, Millis)>,
}

/// How a message of an attempt stands.
enum Standing<'t> {
    /// As the attempt left it.
    Leased(Claim<'t>),
    /// Its lease is over.
    Over,
    /// Deleted, or its lease was changed.
    Touched,
}

impl Attempts {
    pub(super) fn new(key: [u64; 2], budget: Arc<Budget>) -> Self {
        Self {
            recent: Recent::new(
                DEDUPLICATION_INTERVAL.as_millis() as u32,
                Places::new(budget, BYTES, true),
            ),
            key,
        }
    }

    pub(super) fn forget_all(&self, now: Millis) {
        self.recent.forget_all(now);
    }
}

impl Queue {
    /// As [`Queue::receive`], but it can be repeated: with the same `attempt` id (1 to 128 characters, as of message groups) within
    /// five minutes it gives the same messages under the same handles, whose leases begin anew, and `max` counts for nothing. Once
    /// their leases are over it is a receive like any other. On a standard queue the id is ignored (SQS).
    ///
    /// While one is under way another one under its id gets nothing.
    ///
    /// Whoever does not know whether a receive came to an end, because an answer was lost on its way, asks again:
    ///
    /// ```
    /// use epoq::{Broker, FifoConfig, Outgoing, QueueConfig};
    /// let fifo = QueueConfig { fifo: Some(FifoConfig::default()), ..QueueConfig::default() };
    /// let orders = Broker::new().create_queue("orders.fifo", fifo)?;
    /// orders.send_message(&Outgoing::new(b"paid").message_group("order-7").deduplication_id("1"))?;
    /// let lost = orders.receive_attempt("try-1", 10, None)?;
    /// let again = orders.receive_attempt("try-1", 10, None)?;
    /// assert_eq!(again[0].receipt_handle(), lost[0].receipt_handle());
    /// // Another attempt finds the group taken.
    /// assert!(orders.receive_attempt("try-2", 10, None)?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReceiveError`]; [`ReceiveError::AttemptNotValid`] if one of the messages has been deleted, or its lease changed, since.
    pub fn receive_attempt(
        &self,
        attempt: &str,
        max: usize,
        visibility_timeout: impl Into<Option<Duration>>,
    ) -> Result<Vec<Message>, ReceiveError> {
        let visibility_timeout = visibility_timeout.into();
        if !attribute::check_group(attempt) {
            return Err(ReceiveError::AttemptId);
        }
        if !self.is_fifo() {
            return self.receive(max, visibility_timeout);
        }
        self.in_turn(|turn| {
            let era = self.admit(turn, ReceiveError::QueueDeleted, ReceiveError::ForeignTurn)?;
            // All that can be refused, before it is entered.
            Self::check_max(max)?;
            let visibility_ms = self.visibility_ms(visibility_timeout)?;
            let fifo = era.fifo(turn.pin()).ok_or(ReceiveError::QueueDeleted)?;
            let key = Fingerprint::of(fifo.attempts.key, &[attempt]);
            let hint = turn.worker().number as usize;
            let fresh = Arc::new(Mutex::new(Attempt::default()));
            // Nobody else has it yet, and so it is ours at once.
            let Ok(mut mine) = fresh.try_lock() else {
                return Ok(Vec::new());
            };
            let recent = &fifo.attempts.recent;
            let known = match recent.place(hint, ATTEMPTS_MAX as u64, turn.now()) {
                Ok(place) => {
                    match recent.enter(key, turn.now(), place, || (Arc::clone(&fresh), ()), Arc::clone) {
                        Entering::Entered(()) => None,
                        Entering::Known(before) => Some(before),
                    }
                }
                Err(_) => {
                    let full = ReceiveError::TooManyAttempts { limit: ATTEMPTS_MAX };
                    Some(recent.read(key, turn.now(), Arc::clone).ok_or(full)?)
                }
            };
            if let Some(before) = known {
                drop(mine);
                // Taken: that receive is under way.
                let Ok(mut before) = before.try_lock() else {
                    return Ok(Vec::new());
                };
                match self.repeat(era, turn, &mut before, visibility_ms)? {
                    Some(again) => Ok(again),
                    // Over: it begins anew, under the same id, and can be repeated for as long again.
                    None => {
                        fifo.attempts.recent.renew(key, turn.now());
                        self.attempt(turn, &mut before, max, visibility_timeout)
                    }
                }
            } else {
                self.attempt(turn, &mut mine, max, visibility_timeout)
            }
        })
    }

    fn attempt(
        &self,
        turn: &Turn<'_>,
        attempt: &mut Attempt,
        max: usize,
        visibility_timeout: Option<Duration>,
    ) -> Result<Vec<Message>, ReceiveError> {
        let received = self.receive_in(turn, max, visibility_timeout)?;
        attempt.leases = received
            .iter()
            .map(|delivery| (delivery.receipt_handle(), delivery.due()))
            .collect();
        Ok(received.iter().map(|delivery| delivery.to_message()).collect())
    }

    /// Begins the leases of an attempt anew. `None` if they are over, or there were none.
    fn repeat(
        &self,
        era: &Era,
        turn: &Turn<'_>,
        attempt: &mut Attempt,
        visibility_ms: u64,
    ) -> Result<Option<Vec<Message>>, ReceiveError> {
        let mut claims = arrayvec::ArrayVec::<Claim<'_>, BATCH_MAX>::new();
        let mut over = 0;
        for (handle, due) in &attempt.leases {
            match self.standing(era, turn, handle, *due) {
                Standing::Leased(claim) => claims.push(claim),
                Standing::Over => over += 1,
                Standing::Touched => return Err(ReceiveError::AttemptNotValid),
            }
        }
        if claims.is_empty() {
            return Ok(None);
        }
        if over > 0 {
            return Err(ReceiveError::AttemptNotValid);
        }
        let mut messages = Vec::with_capacity(claims.len());
        for (claim, (handle, due)) in claims.iter().zip(&mut attempt.leases) {
            if visibility_ms > 0 {
                let partition = era
                    .partition(handle.partition(), turn.pin())
                    .ok_or(ReceiveError::AttemptNotValid)?;
                let lease = |ms: u64| {
                    let (reading, pin) = (turn.reading(), turn.pin());
                    partition.change_visibility(handle.place(), handle.receives(), ms, reading, pin)
                };
                *due = match lease(visibility_ms) {
                    // What is left of its 12 hours.
                    Err(Refusal::TooLong(latest)) => {
                        lease(latest.as_millis().saturating_sub(turn.now().as_millis() + 1))
                    }
                    leased => leased,
                }
                .map_err(|_| ReceiveError::AttemptNotValid)?;
                self.wake_by(|| *due);
            }
            messages.push(crate::Delivery::new(*claim, self).to_message());
        }
        Ok(Some(messages))
    }

    fn standing<'t>(
        &'t self,
        era: &'t Era,
        turn: &'t Turn<'_>,
        handle: &ReceiptHandle,
        due: Millis,
    ) -> Standing<'t> {
        let found = era
            .partition(handle.partition(), turn.pin())
            .and_then(|partition| partition.leased(handle.place(), turn.pin()));
        let now = turn.now();
        match found {
            None => Standing::Touched,
            Some((claim, _)) if claim.receives != handle.receives() => Standing::Over,
            // One that is over counts as such whether anybody has noticed it or not.
            Some((claim, Some(ends))) if ends > now => {
                if ends == due {
                    Standing::Leased(claim)
                } else {
                    Standing::Touched
                }
            }
            // Before its time.
            Some(_) if due > now => Standing::Touched,
            Some(_) => Standing::Over,
        }
    }
}
