//! Dead letters: messages received too often move to another queue, on the receive that would have been one too many.

use super::{Inner, Queue, era::Era};
use crate::{
    config::PUT_OFF_MS,
    extras::{Extras, ExtrasDraft, Moved},
    ledger::{
        lease::Aside,
        partition::{Entrance, Full, Partition},
        reclaim::Pin,
    },
    sync::{Arc, Weak},
    turn::Turn,
};

/// Where a queue's dead letters go.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    /// Weak, so that queues which are each other's dead-letter queues can go.
    target: Weak<Inner>,
}

/// What became of a dead letter.
pub(crate) enum Fate {
    /// It is in the other queue now.
    Moved,
    /// The other queue has no room: it stays here, put off for a second.
    PutOff,
    /// There is no other queue any more: it goes on being delivered (SQS loses none either).
    Stays,
}

impl DeadLetters {
    pub(crate) fn to(target: &Queue) -> Self {
        Self {
            target: target.downgrade(),
        }
    }
}

impl Queue {
    pub(crate) fn set_dead_letters(&self, letters: Option<Arc<DeadLetters>>, pin: &Pin<'_>) {
        self.inner.dead_letters.replace(letters, pin, drop);
    }

    /// The dead-letter queue, if there is one.
    pub(crate) fn dead_letter_target(&self, pin: &Pin<'_>) -> Option<Self> {
        let letters = self.inner.dead_letters.get(pin)?;
        Self::upgrade(&letters.target)
    }

    /// Moves a message whose token is in hand to the dead-letter queue.
    ///
    /// First it is published there, then killed here, its token in our hand all the while: at no instant is it in neither
    /// queue, and at none can it be received from both. (I1, I2)
    pub(crate) fn bury_letter(
        &self,
        era: &Era,
        partition: &Partition,
        aside: Aside<'_>,
        turn: &Turn<'_>,
    ) -> Fate {
        let Some(target) = self.dead_letter_target(turn.pin()) else {
            return Fate::Stays;
        };
        match self.copy_to(&target, aside, turn) {
            Some(Ok(())) => {
                partition.discard_aside(aside, turn.pin());
                if let Some(stripe) = Self::stripe(era, turn) {
                    stripe.moved_out.add(1);
                }
                Fate::Moved
            }
            Some(Err(Full)) => {
                partition.put_aside_off(aside, PUT_OFF_MS, turn.reading());
                if let Some(stripe) = Self::stripe(era, turn) {
                    stripe.put_off.add(1);
                }
                self.wake_by(|| turn.now().after(PUT_OFF_MS + 1));
                Fate::PutOff
            }
            None => Fate::Stays,
        }
    }

    /// Publishes a copy of a message whose token is in hand in another queue, under its own id, with its counts and its time
    /// of sending, and where it comes from. `None` if that queue has been deleted.
    fn copy_to(&self, target: &Self, aside: Aside<'_>, turn: &Turn<'_>) -> Option<Result<(), Full>> {
        let pin = turn.pin();
        let era = target.era(pin)?;
        let slot = aside.segment.slot(aside.slot);
        // SAFETY: the token is in our hand, and we are pinned.
        let (body, extras, sent) = unsafe {
            let entry = slot.entry();
            (entry.body(), entry.extras().map(Extras::new), entry.sent())
        };
        let fixed = aside.segment.fixed();
        let id = self.message_id(extras, fixed.partition, fixed.serial, aside.slot);
        let carried = extras.map_or_else(ExtrasDraft::default, |extras| extras.draft());
        let draft = ExtrasDraft {
            tenant: 0,
            moved: Some(Moved {
                id: *id.as_bytes(),
                source: &self.inner.name,
                at: turn.now(),
            }),
            ..carried
        };
        let entrance = Entrance {
            sent,
            delayed_until: None,
            receives: slot.state_in_hand().receives(),
            first_received: slot.received().first(sent),
            is_grouped: carried.group.is_some(),
        };
        let (partition, reserved) = match target.reserve(era, turn, body, draft, &entrance) {
            Ok(reserved) => reserved,
            Err(Full) => return Some(Err(Full)),
        };
        partition.publish_reserved(reserved, &entrance, pin);
        if let Some(stripe) = Self::stripe(era, turn) {
            stripe.moved_in.add(1);
        }
        target.wake(1);
        Some(Ok(()))
    }
}
