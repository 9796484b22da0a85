//! Messages that leave a FIFO queue for another one: dead letters, and those a move task takes.

use super::Held;
use crate::{
    clock::Millis,
    config::BATCH_MAX,
    extras::{Extras, ExtrasDraft, Moved},
    ledger::{
        group::{
            baton::{After, Baton},
            link::Member,
        },
        look::Seen,
        partition::{Entrance, Full},
    },
    queue::{
        Queue,
        dead_letter::Fate,
        era::Era,
        relocate::{Relocated, Stop},
    },
    turn::Turn,
};

impl Queue {
    /// Moves a message whose group's baton is in hand to the dead-letter queue. It is published there, and the caller then kills
    /// it here: at no instant is it in neither queue, and at none can it be received from both. (I1, I2)
    pub(super) fn bury_fifo_letter(&self, member: &Member<'_>, turn: &Turn<'_>) -> Fate {
        let Some(target) = self.dead_letter_target(turn.pin()) else {
            return Fate::Stays;
        };
        let Some(seen) = member.look() else {
            debug_assert!(false, "a message at the front of its group that is none");
            return Fate::Stays;
        };
        let (partition, place) = seen.place();
        let extras = seen.extras().map(Extras::new);
        let id = self.message_id(extras, partition, place.serial, place.slot);
        let text = id.to_string();
        let draft = ExtrasDraft {
            // It may have been sent there under its own id lately; under this one certainly not. (SQS)
            deduplication: Some(&text),
            moved: Some(Moved {
                id: *id.as_bytes(),
                source: self.name(),
                at: turn.now(),
            }),
            ..extras.map_or_else(ExtrasDraft::default, |extras| extras.draft())
        };
        // The time of sending begins anew, in FIFO queues (SQS).
        match target.join_from(turn, &seen, draft, seen.state().receives(), turn.now()) {
            Ok(()) => Fate::Moved,
            Err(Stop::Full) => Fate::PutOff,
            Err(_) => Fate::Stays,
        }
    }

    /// Accepts a copy of another queue's message. It is not looked whether one of its id has been accepted lately.
    fn join_from(
        &self,
        turn: &Turn<'_>,
        seen: &Seen<'_>,
        draft: ExtrasDraft<'_>,
        receives: u32,
        sent: Millis,
    ) -> Result<(), Stop> {
        let era = self.era(turn.pin()).ok_or(Stop::NoTarget)?;
        let fifo = era.fifo(turn.pin()).ok_or(Stop::NoTarget)?;
        let group = draft.group.ok_or(Stop::NoSource)?;
        let draft = ExtrasDraft {
            moved_here: true,
            ..draft
        };
        let entrance = Entrance {
            sent,
            delayed_until: None,
            receives,
            first_received: (receives > 0).then(|| seen.first_received()).flatten(),
            is_grouped: false,
        };
        let (_, reserved) = self
            .reserve_at_home(era, turn, seen.body(), draft, &entrance)
            .map_err(|Full| Stop::Full)?;
        let group = fifo
            .groups
            .enter(group, true, turn.pin())
            .map_err(|Full| Stop::Full)?;
        let (group, sequence) = Self::join(fifo, group, reserved, receives, turn.pin());
        self.has_joined(era, turn, group, sequence);
        if let Some(stripe) = Self::stripe(era, turn) {
            stripe.moved_in.add(1);
        }
        Ok(())
    }

    /// As [`Queue::relocate`], of a FIFO queue: group by group, in the order in which they would be received.
    pub(in crate::queue) fn relocate_fifo(
        &self,
        era: &Era,
        turn: &Turn<'_>,
        most: usize,
        route: &mut impl FnMut(Option<&str>) -> Result<Self, Stop>,
    ) -> Relocated {
        let mut batch = Relocated { moved: 0, stop: None };
        let mut held = Held::new();
        // Progress: each turn takes a baton; one that brings nothing is put off, or its group has become empty.
        while batch.moved < most.min(BATCH_MAX) as u64 && batch.stop.is_none() {
            let Some(baton) = self.take_any_baton(era, turn) else {
                batch.stop = Some(Stop::Empty);
                break;
            };
            self.relocate_group(era, turn, most, baton, route, &mut batch, &mut held);
        }
        self.put_back(era, turn, held);
        batch
    }

    fn take_any_baton<'t>(&'t self, era: &'t Era, turn: &'t Turn<'_>) -> Option<Baton<'t>> {
        let (pin, now) = (turn.pin(), turn.now());
        // First of all: the baton of a group in which a lease has ended need not come up in that partition, and not even in one
        // that there was.
        for partition in era.all(pin) {
            // Bounded: what becomes due later is after `now`.
            while partition.is_sweep_due(now) && self.sweep(turn, era, partition, now, u32::MAX) > 0 {}
        }
        let mut partitions: Vec<_> = era.all(pin).map(|at| (at.oldest(), at)).collect();
        // By a hint; all of them are looked at before the answer is "nothing".
        partitions.sort_by_key(|&(oldest, _)| oldest);
        partitions.into_iter().find_map(|(_, partition)| {
            let (segment, at) = partition.take_token(true, pin)?;
            partition.find_out(segment, at, pin)
        })
    }

    #[expect(clippy::too_many_arguments, reason = "what a batch needs, and what it brings")]
    fn relocate_group<'t>(
        &'t self,
        era: &'t Era,
        turn: &'t Turn<'_>,
        most: usize,
        baton: Baton<'t>,
        route: &mut impl FnMut(Option<&str>) -> Result<Self, Stop>,
        batch: &mut Relocated,
        held: &mut Held<'t>,
    ) {
        let mut serving = baton.serve();
        while batch.moved < most.min(BATCH_MAX) as u64
            && let Some(next) = serving.next()
            && let Some(seen) = next.member.look()
        {
            let delay_ms = self.inner.hot.settings.delay_ms();
            if let Some(due) = self.delayed_until(&seen, turn.now()) {
                // It stays, and what is behind it.
                return self.put_off(era, turn, serving.keep(), due, delay_ms, held);
            }
            let stripe = Self::stripe(era, turn);
            if self.has_lapsed(seen.sent(), turn.now()) {
                self.discard(era, turn, &mut serving, next);
                if let Some(stripe) = stripe {
                    stripe.lapsed_visible.add(1);
                }
                continue;
            }
            let mut place_anew = || {
                let target = route(seen.dead_lettered().map(|(source, _)| source))?;
                let extras = seen.extras().map(Extras::new);
                let draft = extras.map_or_else(ExtrasDraft::default, |extras| extras.draft());
                target.join_from(turn, &seen, ExtrasDraft { moved: None, ..draft }, 0, turn.now())
            };
            match place_anew() {
                Ok(()) => {
                    self.discard(era, turn, &mut serving, next);
                    if let Some(stripe) = stripe {
                        stripe.moved_out.add(1);
                    }
                    batch.moved += 1;
                }
                Err(stop) => {
                    batch.stop = Some(stop);
                    break;
                }
            }
        }
        self.follow(era, turn, After::Baton(serving.keep()));
    }
}
