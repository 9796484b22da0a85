//! Sending to a FIFO queue.

use arrayvec::{ArrayString, ArrayVec};
use sha2::{Digest, Sha256};

use super::{Fifo, places::NoPlace, recent::Entering};
use crate::{
    attribute,
    batch::Batch,
    config::BATCH_MAX,
    error::{BatchError, SendError},
    extras::{Carried, ExtrasDraft},
    ledger::{
        group::{Group, baton::After},
        partition::{Entrance, Full, Partition, Reserved},
        reclaim::Pin,
    },
    message::{Outgoing, Sent, SentPlace},
    queue::{Queue, era::Era},
    turn::Turn,
};

/// A SHA-256 in hexadecimal digits.
type Hex = ArrayString<64>;

/// A message that has been found valid.
struct Checked<'m> {
    message: Outgoing<'m>,
    group: &'m str,
    /// The hash of the body, if it takes the id's place.
    hash: Option<Hex>,
}

impl Checked<'_> {
    fn id(&self) -> &str {
        match (&self.message.deduplication, &self.hash) {
            (Some(id), _) => id,
            (None, Some(hash)) => hash,
            (None, None) => "",
        }
    }
}

fn hash(body: &[u8]) -> Hex {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = Hex::new();
    for byte in Sha256::digest(body) {
        for half in [byte >> 4, byte & 15] {
            hex.push(char::from(DIGITS[usize::from(half)]));
        }
    }
    hex
}

impl Queue {
    /// Sends one message.
    pub(in crate::queue) fn send_fifo<'q>(
        &'q self,
        era: &Era,
        fifo: &Fifo,
        turn: &Turn<'_>,
        message: &Outgoing<'_>,
    ) -> Result<Sent<'q>, SendError> {
        let checked = self.check_fifo(message)?;
        self.accept(era, fifo, turn, &checked)
    }

    /// Sends a batch, in its order. One bad entry refuses it as a whole (SQS). Once there is no room for one entry, there is none
    /// for those after it either: none is to overtake another.
    pub(in crate::queue) fn send_fifo_batch<'q, 'm>(
        &'q self,
        era: &Era,
        fifo: &Fifo,
        turn: &Turn<'_>,
        messages: impl Iterator<Item = Outgoing<'m>>,
    ) -> Result<Batch<Result<Sent<'q>, SendError>>, BatchError> {
        let mut checked = ArrayVec::<_, BATCH_MAX>::new();
        for (at, message) in messages.take(BATCH_MAX).enumerate() {
            match self.check_fifo(&message) {
                Ok(message) => checked.push(message),
                Err(error) => return Err(BatchError::Entry { at, error }),
            }
        }
        fifo.groups
            .look_ahead(checked.iter().map(|message| message.group));
        let mut results = Batch::new();
        let mut refused = None;
        for message in &checked {
            let result = match refused {
                Some(error) => Err(error),
                None => self.accept(era, fifo, turn, message),
            };
            refused = result.as_ref().err().copied();
            results.push(result);
        }
        Ok(results)
    }

    fn check_fifo<'m>(&self, message: &Outgoing<'m>) -> Result<Checked<'m>, SendError> {
        self.check_content(message)?;
        let group = message.group.ok_or(SendError::MissingMessageGroup)?;
        if message.delay.is_some_and(|delay| !delay.is_zero()) {
            return Err(SendError::DelayNotAllowed);
        }
        let hash = match message.deduplication {
            Some(id) if attribute::check_group(id) => None,
            Some(_) => return Err(SendError::DeduplicationId),
            None if self.inner.fifo_settings.is_content_based() => Some(hash(message.body)),
            None => return Err(SendError::MissingDeduplicationId),
        };
        Ok(Checked {
            message: *message,
            group,
            hash,
        })
    }

    /// Accepts a message, unless it has been accepted before.
    ///
    /// All that can be refused is done first: the slot is reserved and written, the group is there. Then, where nobody else can
    /// enter the same id, the message joins its group, which cannot fail. Of two that send under one id at a time one does, and
    /// the other gives its slot up.
    fn accept<'q>(
        &'q self,
        era: &Era,
        fifo: &Fifo,
        turn: &Turn<'_>,
        checked: &Checked<'_>,
    ) -> Result<Sent<'q>, SendError> {
        let (pin, now) = (turn.pin(), turn.now());
        let settings = &self.inner.fifo_settings;
        let group_name = checked.group;
        let by_group = settings.is_by_group().then_some(group_name);
        let id = fifo.deduplication.fingerprint(checked.id(), by_group);
        if let Some(place) = fifo.deduplication.original(id, now) {
            return Ok(Sent::at(self, place));
        }
        // Asked before a slot is used up for nothing.
        let hint = turn.worker().number as usize;
        let place = match fifo.deduplication.place(hint, settings.memory(), now) {
            Ok(place) => place,
            Err(NoPlace::Full) => {
                return Err(SendError::DeduplicationFull {
                    limit: settings.memory(),
                });
            }
            Err(NoPlace::OverBudget) => {
                self.make_room(era, turn);
                fifo.deduplication
                    .place(hint, settings.memory(), now)
                    .map_err(|_| self.over_budget())?
            }
        };
        let extras = ExtrasDraft {
            attributes: Carried::Given(checked.message.attributes),
            group: Some(group_name),
            deduplication: Some(checked.id()),
            trace_header: checked.message.trace_header,
            ..ExtrasDraft::default()
        };
        let enter = || fifo.groups.enter(group_name, false, pin);
        let group = enter()
            .or_else(|Full| {
                self.make_room(era, turn);
                enter()
            })
            .map_err(|Full| self.over_budget())?;
        // It may have been made for this message: then it goes with it.
        let forgo = || match group.forgo(pin) {
            After::Closing(group) => self.close(era, turn, group),
            after => self.follow(era, turn, after),
        };
        let (partition, reserved) = self
            .reserve_fifo(era, turn, checked.message.body, extras)
            .map_err(|Full| {
                forgo();
                self.over_budget()
            })?;
        let entering = fifo.deduplication.enter(id, now, place, || {
            let (group, sequence) = Self::join(fifo, group, reserved, 0, pin);
            let sent = SentPlace::new(reserved.segment, reserved.slot, sequence);
            (sent, (sent, group, sequence))
        });
        let (sent, group, sequence) = match entering {
            Entering::Entered(joined) => joined,
            Entering::Known(original) => {
                partition.abandon_reserved(reserved, pin);
                forgo();
                return Ok(Sent::at(self, original));
            }
        };
        self.has_joined(era, turn, group, sequence);
        if let Some(stripe) = Self::stripe(era, turn) {
            stripe.sent.next();
        }
        Ok(Sent::at(self, sent))
    }

    /// Copies a message into a slot of its own at home.
    fn reserve_fifo<'t>(
        &'t self,
        era: &'t Era,
        turn: &'t Turn<'_>,
        body: &[u8],
        extras: ExtrasDraft<'_>,
    ) -> Result<(&'t Partition, Reserved<'t>), Full> {
        let now = turn.now();
        // Nearly always: it is small, and there is room.
        if body.len() + extras.encoded_len() <= self.inner.hot.settings.arena_max()
            && let Ok(home) = self.home(era, turn)
            && let Ok(reserved) = home.reserve_extended(body, &extras, now, turn.pin())
        {
            return Ok((home, reserved));
        }
        let entrance = Entrance {
            sent: now,
            delayed_until: None,
            receives: 0,
            first_received: None,
            is_grouped: false,
        };
        self.reserve_at_home(era, turn, body, extras, &entrance)
    }

    /// Puts a message in its group, or in another one of its name if that has been closed; returns its number there. Cannot fail.
    pub(super) fn join<'t>(
        fifo: &Fifo,
        group: &'t Group,
        reserved: Reserved<'_>,
        receives: u32,
        pin: &'t Pin<'_>,
    ) -> (&'t Group, u64) {
        let mut group = group;
        // Progress: each turn more means that the group was closed, by somebody who takes it out, or we do.
        loop {
            if let Ok(sequence) = group.push(&reserved, receives, || fifo.groups.last_closed(), pin) {
                return (group, sequence);
            }
            fifo.groups.leave(group, pin);
            if let Ok(another) = fifo.groups.enter(group.name(), true, pin) {
                group = another;
            }
        }
    }

    /// Tells a group of a message that has joined it.
    pub(super) fn has_joined(&self, era: &Era, turn: &Turn<'_>, group: &Group, sequence: u64) {
        let pin = turn.pin();
        self.follow(era, turn, group.arrive(pin));
        if group.is_unsorted(sequence)
            && let Some(baton) = group.borrow(pin)
        {
            self.follow(era, turn, baton.sort_and_hand_back(pin));
        }
    }
}
