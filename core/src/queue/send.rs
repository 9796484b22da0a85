//! Sending: one message or ten, plain bodies on the straight way and all else beside it.

use super::{Queue, era::Era};
use crate::{
    attribute,
    batch::Batch,
    config::{BATCH_MAX, BODY_MAX},
    error::{BatchError, SendError},
    extras::{Carried, ExtrasDraft},
    ledger::{
        partition::{Draft, Entrance, Full, Partition, Reserved},
        segment::Segment,
        traffic::SAMPLE_EVERY,
    },
    message::{Outgoing, Sent},
    turn::Turn,
};

impl Queue {
    #[inline(always)]
    pub(crate) fn send_in<'q>(&'q self, turn: &Turn<'_>, body: &[u8]) -> Result<Sent<'q>, SendError> {
        let era = self.admit(turn, SendError::QueueDeleted, SendError::ForeignTurn)?;
        if (1..=self.inner.hot.settings.plain_max()).contains(&body.len())
            && let Ok(home) = self.home(era, turn)
            && let Ok((segment, slot)) = home.append_one(body, turn.now(), turn.pin())
        {
            if let Some(stripe) = Self::stripe(era, turn)
                && stripe.sent.next().is_multiple_of(SAMPLE_EVERY)
            {
                self.look_at_traffic(era, turn);
            }
            self.wake(1);
            return Ok(Sent::new(self, segment, slot));
        }
        self.send_any(era, turn, &Outgoing::new(body))
    }

    pub(crate) fn send_message_in<'q>(
        &'q self,
        turn: &Turn<'_>,
        message: &Outgoing<'_>,
    ) -> Result<Sent<'q>, SendError> {
        if message.is_plain() {
            return self.send_in(turn, message.body);
        }
        let era = self.admit(turn, SendError::QueueDeleted, SendError::ForeignTurn)?;
        self.send_any(era, turn, message)
    }

    pub(crate) fn send_batch_in<'q, B: AsRef<[u8]>>(
        &'q self,
        turn: &Turn<'_>,
        bodies: &[B],
    ) -> Result<Batch<Result<Sent<'q>, SendError>>, BatchError> {
        Batch::<()>::check(bodies.len())?;
        let era = self.admit(turn, BatchError::QueueDeleted, BatchError::ForeignTurn)?;
        // Asked once each, before anything is done: it is foreign code, which may panic, or answer differently next time.
        let bodies: Bodies<'_> = bodies.iter().take(BATCH_MAX).map(AsRef::as_ref).collect();
        self.send_bodies(era, turn, &bodies)
    }

    fn send_bodies<'q>(
        &'q self,
        era: &Era,
        turn: &Turn<'_>,
        bodies: &[&[u8]],
    ) -> Result<Batch<Result<Sent<'q>, SendError>>, BatchError> {
        let length = bodies
            .iter()
            .fold(0usize, |sum, body| sum.saturating_add(body.len()));
        check_total(length)?;
        let small = 1..=self.inner.hot.settings.plain_max();
        if bodies.iter().all(|body| small.contains(&body.len())) {
            return Ok(self.send_small(era, turn, bodies));
        }
        let messages = bodies.iter().map(|body| Outgoing::new(body));
        #[cfg(not(loom))]
        if let Some(fifo) = era.fifo(turn.pin()) {
            return self.send_fifo_batch(era, fifo, turn, messages);
        }
        Ok(self.send_each(era, turn, messages))
    }

    pub(crate) fn send_messages_in<'q>(
        &'q self,
        turn: &Turn<'_>,
        messages: &[Outgoing<'_>],
    ) -> Result<Batch<Result<Sent<'q>, SendError>>, BatchError> {
        Batch::<()>::check(messages.len())?;
        let era = self.admit(turn, BatchError::QueueDeleted, BatchError::ForeignTurn)?;
        if messages.iter().all(Outgoing::is_plain) {
            let bodies: Bodies<'_> = messages
                .iter()
                .take(BATCH_MAX)
                .map(|message| message.body)
                .collect();
            return self.send_bodies(era, turn, &bodies);
        }
        let length = messages
            .iter()
            .fold(0usize, |sum, message| sum.saturating_add(message.size()));
        check_total(length)?;
        #[cfg(not(loom))]
        if let Some(fifo) = era.fifo(turn.pin()) {
            return self.send_fifo_batch(era, fifo, turn, messages.iter().copied());
        }
        Ok(self.send_each(era, turn, messages.iter().copied()))
    }

    /// A batch whose bodies all go into the arena, and are all there is.
    #[inline]
    fn send_small<'q>(
        &'q self,
        era: &Era,
        turn: &Turn<'_>,
        bodies: &[&[u8]],
    ) -> Batch<Result<Sent<'q>, SendError>> {
        let mut lengths = [0; BATCH_MAX];
        for (length, body) in lengths.iter_mut().zip(bodies) {
            *length = body.len() as u32;
        }
        let lengths = &lengths[..bodies.len().min(BATCH_MAX)];
        let mut results = Batch::new();
        // What was not accepted, and why, shows below.
        let _ = self.home(era, turn).and_then(|home| {
            let placed = |segment: &Segment, slot: usize| results.push(Ok(Sent::new(self, segment, slot)));
            let draft = |at: usize| Draft::Inline(bodies[at]);
            home.append(lengths, draft, turn.now(), turn.pin(), placed)
        });
        if let Some(stripe) = Self::stripe(era, turn) {
            let before = stripe.sent.read();
            stripe.sent.add(results.len() as u64);
            if before / SAMPLE_EVERY != stripe.sent.read() / SAMPLE_EVERY {
                self.look_at_traffic(era, turn);
            }
        }
        self.wake(results.len());
        // Memory has run short: with the rest whatever can be freed is.
        let accepted = results.len();
        for body in bodies.iter().skip(accepted) {
            results.push(self.send_any(era, turn, &Outgoing::new(body)));
        }
        results
    }

    /// A batch with large bodies, special ones or bad ones: bad entries fail alone, the others go in order.
    #[cold]
    #[inline(never)]
    fn send_each<'q, 'm>(
        &'q self,
        era: &Era,
        turn: &Turn<'_>,
        messages: impl Iterator<Item = Outgoing<'m>>,
    ) -> Batch<Result<Sent<'q>, SendError>> {
        let mut results = Batch::new();
        for message in messages.take(BATCH_MAX) {
            results.push(self.send_any(era, turn, &message));
        }
        results
    }

    /// What holds of the messages of all queues.
    pub(super) fn check_content(&self, message: &Outgoing<'_>) -> Result<(), SendError> {
        if message.body.is_empty() {
            return Err(SendError::Empty);
        }
        let (length, limit) = (message.size(), self.inner.hot.settings.message_max());
        if length > limit {
            return Err(SendError::TooLong { length, limit });
        }
        // Not of the message's size, but not without bounds: a block of extras knows its length by 32 bits.
        let header = message.trace_header.map_or(0, str::len);
        if header > BODY_MAX {
            return Err(SendError::TooLong {
                length: header,
                limit: BODY_MAX,
            });
        }
        attribute::check(message.attributes).map_err(SendError::Attribute)?;
        if message.group.is_some_and(|group| !attribute::check_group(group)) {
            return Err(SendError::MessageGroup);
        }
        Ok(())
    }

    /// Sends one message of whatever kind.
    #[cold]
    #[inline(never)]
    fn send_any<'q>(
        &'q self,
        era: &Era,
        turn: &Turn<'_>,
        message: &Outgoing<'_>,
    ) -> Result<Sent<'q>, SendError> {
        #[cfg(not(loom))]
        if let Some(fifo) = era.fifo(turn.pin()) {
            return self.send_fifo(era, fifo, turn, message);
        }
        if message.deduplication.is_some() {
            return Err(SendError::DeduplicationNotAllowed);
        }
        self.check_content(message)?;
        let settings = &self.inner.hot.settings;
        let delay_ms = match message.delay {
            None => settings.delay_ms(),
            Some(given) => {
                let limit = settings.delay_max();
                if given > limit {
                    return Err(SendError::Delay { given, limit });
                }
                crate::clock::ceil_ms(given).unwrap_or(0)
            }
        };
        let now = turn.now();
        let entrance = Entrance {
            sent: now,
            // Rounded up as leases are.
            delayed_until: (delay_ms > 0).then(|| now.after(delay_ms + 1)),
            receives: 0,
            first_received: None,
            is_grouped: message.group.is_some(),
        };
        let extras = ExtrasDraft {
            attributes: Carried::Given(message.attributes),
            group: message.group,
            tenant: 0,
            deduplication: None,
            trace_header: message.trace_header,
            moved: None,
            moved_here: false,
        };
        let (partition, reserved) = self
            .reserve(era, turn, message.body, extras, &entrance)
            .map_err(|Full| self.over_budget())?;
        partition.publish_reserved(reserved, &entrance, turn.pin());
        if let Some(stripe) = Self::stripe(era, turn) {
            if delay_ms > 0 {
                stripe.sent_delayed.add(1);
            } else {
                stripe.sent.add(1);
            }
        }
        match entrance.delayed_until {
            Some(due) => self.wake_by(|| due),
            None => self.wake(1),
        }
        Ok(Sent::new(self, reserved.segment, reserved.slot))
    }

    /// Copies a message into a slot of its own at home, which is still to be published.
    pub(crate) fn reserve<'t>(
        &'t self,
        era: &'t Era,
        turn: &'t Turn<'_>,
        body: &[u8],
        mut extras: ExtrasDraft<'_>,
        entrance: &Entrance,
    ) -> Result<(&'t Partition, Reserved<'t>), Full> {
        if let Some(group) = extras.group {
            extras.tenant = self.enter_tenant(era, turn, group);
        }
        let tenant = extras.tenant;
        let reserved = self.reserve_at_home(era, turn, body, extras, entrance);
        if tenant != 0 {
            self.settle_tenant(era, turn, tenant, reserved.as_ref().ok().map(|&(home, _)| home));
        }
        reserved
    }

    pub(super) fn reserve_at_home<'t>(
        &'t self,
        era: &'t Era,
        turn: &'t Turn<'_>,
        body: &[u8],
        extras: ExtrasDraft<'_>,
        entrance: &Entrance,
    ) -> Result<(&'t Partition, Reserved<'t>), Full> {
        let draft = match Draft::extended(body, extras, &self.inner.budget) {
            Some(draft) => draft,
            None => {
                self.make_room(era, turn);
                Draft::extended(body, extras, &self.inner.budget).ok_or(Full)?
            }
        };
        let mut draft = draft;
        for again in [false, true] {
            if again {
                self.make_room(era, turn);
                // A segment for a large body may be too much where the body alone is not.
                draft = draft.apart(&self.inner.budget);
            }
            draft = match self.home(era, turn) {
                Ok(home) => match home.reserve_one(draft, entrance, turn.now(), turn.pin()) {
                    Ok(reserved) => return Ok((home, reserved)),
                    Err(draft) => draft,
                },
                Err(Full) => draft,
            };
        }
        draft.give_up(&self.inner.budget);
        Err(Full)
    }

    /// Memory has run short: frees what can be freed.
    #[cold]
    #[inline(never)]
    pub(super) fn make_room(&self, era: &Era, turn: &Turn<'_>) {
        let now = turn.now();
        #[cfg(not(loom))]
        self.forget(era, turn);
        for partition in era.glances(turn.pin()) {
            if partition.is_tending_due(now) {
                self.tend(era, partition, turn, now, u32::MAX);
            }
        }
        self.inner.shared.trim(turn.pin());
    }

    #[cold]
    pub(super) fn over_budget(&self) -> SendError {
        let memory = self.inner.budget.tightest();
        SendError::OverBudget {
            used: memory.used,
            limit: memory.limit,
        }
    }
}

fn check_total(length: usize) -> Result<(), BatchError> {
    if length > BODY_MAX {
        return Err(BatchError::TooLong {
            length,
            limit: BODY_MAX,
        });
    }
    Ok(())
}

/// The bodies of a batch.
type Bodies<'b> = arrayvec::ArrayVec<&'b [u8], BATCH_MAX>;
