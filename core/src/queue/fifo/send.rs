//! Sending to a FIFO queue.

use arrayvec::{ArrayString, ArrayVec};
use sha2::{Digest, Sha256};

use super::{Fifo, recent::Entering};
use crate::{
    attribute,
    batch::Batch,
    config::BATCH_MAX,
    error::{BatchError, SendError},
    extras::{Carried, ExtrasDraft},
    ledger::{
        group::{Group, baton::After},
        partition::{Entrance, Full, Reserved},
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
    /// All that can be refused is done first: the slot is reserved and written, the group is there. Then the id is entered: that is
    /// the moment at which the message is accepted, or is found to have been. Of two that send under one id at a time one enters
    /// it, and the other gives its slot up. What comes after cannot fail.
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
        let full = SendError::DeduplicationFull {
            limit: settings.memory(),
        };
        // Asked before a slot is used up for nothing.
        if !fifo.deduplication.has_room(settings.memory(), now) {
            return Err(full);
        }
        let entrance = Entrance {
            sent: now,
            delayed_until: None,
            receives: 0,
            first_received: None,
            is_grouped: false,
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
        let (partition, reserved) =
            match self.reserve_at_home(era, turn, checked.message.body, extras, &entrance) {
                Ok(reserved) => reserved,
                Err(Full) => {
                    forgo();
                    return Err(self.over_budget());
                }
            };
        let place = SentPlace::new(reserved.segment, reserved.slot, 0);
        let hint = turn.worker().number as usize;
        let entering = fifo.deduplication.enter(id, place, now, settings.memory(), hint);
        if !matches!(entering, Ok(Entering::Entered)) {
            partition.abandon_reserved(reserved, pin);
            forgo();
        }
        match entering {
            Ok(Entering::Entered) => {}
            Ok(Entering::Known(original)) => return Ok(Sent::at(self, original)),
            Ok(Entering::Full) => return Err(full),
            Err(Full) => {
                // For the next one.
                self.make_room(era, turn);
                return Err(self.over_budget());
            }
        }
        let sequence = self.join(era, fifo, turn, group, reserved, 0);
        fifo.deduplication.number(id, sequence, now);
        if let Some(stripe) = Self::stripe(era, turn) {
            stripe.sent.next();
        }
        Ok(Sent::at(
            self,
            SentPlace::new(reserved.segment, reserved.slot, sequence),
        ))
    }

    /// Puts a message in its group. Cannot fail.
    pub(super) fn join<'t>(
        &'t self,
        era: &'t Era,
        fifo: &'t Fifo,
        turn: &'t Turn<'_>,
        group: &'t Group,
        reserved: Reserved<'t>,
        receives: u32,
    ) -> u64 {
        let pin = turn.pin();
        let mut group = group;
        // Progress: each turn more means that the group was closed, by somebody who takes it out, or we do.
        loop {
            let Ok(sequence) = group.push(&reserved, receives, pin) else {
                fifo.groups.leave(group, pin);
                if let Ok(another) = fifo.groups.enter(group.name(), true, pin) {
                    group = another;
                }
                continue;
            };
            self.follow(era, turn, group.arrive(pin));
            if group.is_unsorted(sequence)
                && let Some(baton) = group.borrow(pin)
            {
                self.follow(era, turn, baton.sort_and_hand_back(pin));
            }
            return sequence;
        }
    }
}
