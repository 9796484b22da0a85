//! Moving messages out of a queue as new messages of other queues: the queue's part of a message move task.

use super::{Queue, era::Era};
use crate::{
    clock::Millis,
    config::BATCH_MAX,
    extras::{Extras, ExtrasDraft},
    ledger::{
        lease::{Aside, Asides, Claim, Hand, Special, Terms},
        look::Seen,
        partition::{Entrance, Full, Partition},
        reclaim::Pin,
    },
    turn::Turn,
};

/// What one batch came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Relocated {
    pub(crate) moved: u64,
    /// Why it goes no further; `None` if there may be more.
    pub(crate) stop: Option<Stop>,
}

/// Why a batch went no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nothing here is visible.
    Empty,
    /// The destination has no room: the message stays here.
    Full,
    /// Nobody knows where the message came from: it stays here.
    NoSource,
    /// The destination has been deleted: the message stays here.
    NoTarget,
    /// This queue has been deleted.
    Deleted,
}

/// Takes tokens only: nothing is leased, and the order of the tokens is kept.
struct Taken<'p>(Asides<'p>);

impl<'p> Hand<'p> for Taken<'p> {
    fn room(&self, want: usize) -> usize {
        want.min(BATCH_MAX).saturating_sub(self.0.len())
    }

    fn put(&mut self, _claim: Claim<'p>) {
        debug_assert!(false, "everything is set aside");
    }

    fn set_aside(&mut self, aside: Aside<'p>) {
        let full = self.0.try_push(aside).is_err();
        debug_assert!(!full, "claimed more than was asked for");
    }

    fn take_aside(&mut self) -> Option<Aside<'p>> {
        self.0.pop_at(0)
    }

    #[inline(always)]
    fn sets_all_aside(&self) -> bool {
        true
    }

    fn claimed(&self) -> usize {
        0
    }

    fn each(&self, _show: impl FnMut(&Claim<'p>)) {}
}

impl Queue {
    /// The broker's clock.
    pub(crate) fn clock_now(&self) -> Millis {
        self.inner.shared.clock.now()
    }

    /// Moves up to `most` (1..=10) of the visible messages that look oldest, each to where `route` says, given the name of
    /// the queue it was dead-lettered from. They are new messages there.
    ///
    /// Each is first published there and then killed here, its token in our hand all the while: at no instant is it in neither
    /// queue, and at none can it be received from both. (I1, I2) What does not go is visible again when this returns.
    pub(crate) fn relocate(
        &self,
        most: usize,
        mut route: impl FnMut(Option<&str>) -> Result<Self, Stop>,
    ) -> Relocated {
        self.in_turn(|turn| {
            let mut batch = Relocated { moved: 0, stop: None };
            let Some(era) = self.era(turn.pin()) else {
                batch.stop = Some(Stop::Deleted);
                return batch;
            };
            #[cfg(not(loom))]
            if era.fifo(turn.pin()).is_some() {
                return self.relocate_fifo(era, turn, most, &mut route);
            }
            let Some((partition, taken)) = self.take_oldest(era, most, turn) else {
                batch.stop = Some(Stop::Empty);
                return batch;
            };
            let (mut lapsed, mut left) = (0, 0);
            for aside in taken {
                if batch.stop.is_some() {
                    // The rest goes back.
                    partition.give_aside_back(aside, turn.pin());
                    left += 1;
                    continue;
                }
                if aside.why == Special::Lapsed {
                    partition.discard_aside(aside, turn.pin());
                    lapsed += 1;
                    continue;
                }
                match Self::place_anew(aside, turn, &mut route) {
                    Ok(()) => {
                        partition.discard_aside(aside, turn.pin());
                        batch.moved += 1;
                    }
                    Err(stop) => {
                        partition.give_aside_back(aside, turn.pin());
                        left += 1;
                        batch.stop = Some(stop);
                    }
                }
            }
            if let Some(stripe) = Self::stripe(era, turn) {
                stripe.moved_out.add(batch.moved);
                stripe.lapsed_visible.add(lapsed);
            }
            if left > 0 {
                // Somebody may have looked in vain while their tokens were in our hand.
                self.wake(left);
            }
            batch
        })
    }

    /// Whether anything is to be received at this moment. O(segments) if nothing is.
    pub(crate) fn has_visible(&self) -> bool {
        self.in_turn(|turn| {
            self.era(turn.pin()).is_some_and(|era| {
                era.all(turn.pin())
                    .any(|partition| partition.glance(turn.pin()).any(|segment| segment.tokens() > 0))
                    || era
                        .tenants(turn.pin())
                        .is_some_and(|tenants| tenants.is_anyone_in_line(turn.pin()))
            })
        })
    }

    /// Takes the tokens of up to `most` messages of one partition: of that whose oldest one looks oldest. `None` if nothing was
    /// visible in any.
    fn take_oldest<'t>(
        &'t self,
        era: &'t Era,
        most: usize,
        turn: &'t Turn<'_>,
    ) -> Option<(&'t Partition, Asides<'t>)> {
        let pin = turn.pin();
        let mut partitions: Vec<_> = era.glances(pin).map(|at| (at.oldest(), at)).collect();
        // By a hint; all of them are looked at before the answer is "nothing".
        partitions.sort_by_key(|&(oldest, _)| oldest);
        for (_, partition) in partitions {
            pin.enter(partition.domain);
            let now = turn.now();
            if partition.is_sweep_due(now) {
                self.sweep(turn, era, partition, now, BATCH_MAX as u32);
            }
            let taken = self.take_from(partition, most, turn);
            if let Some(newest) = taken.last().and_then(Aside::look) {
                partition.note_oldest(newest.sent());
            }
            if !taken.is_empty() {
                return Some((partition, taken));
            }
            if partition.note_empty(now) {
                let taken = self.take_from(partition, most, turn);
                if !taken.is_empty() {
                    return Some((partition, taken));
                }
            }
        }
        let (partition, mut aside) = self.take_from_line(era, turn)?;
        let retention_ms = self.inner.hot.settings.retention_ms();
        if aside
            .look()
            .is_some_and(|seen| seen.sent().after(retention_ms) <= turn.now())
        {
            aside.why = Special::Lapsed;
        }
        Some((partition, std::iter::once(aside).collect()))
    }

    fn take_from<'t>(&self, partition: &'t Partition, most: usize, turn: &'t Turn<'_>) -> Asides<'t> {
        // The reading may be of before the messages here were sent.
        turn.reading().forget();
        let terms = Terms {
            visibility_ms: 0,
            retention_ms: self.inner.hot.settings.retention_ms(),
            max_receives: 0,
            // Odd: what came back first, which is older than what the head has.
            round: 1,
            reading: turn.reading(),
        };
        let mut taken = Taken(Asides::new());
        partition.claim(most.min(BATCH_MAX), &terms, turn.pin(), &mut taken);
        taken.0
    }

    /// Publishes a copy of a message whose token is in hand where `route` says: with its body, attributes, group and trace
    /// header, and nothing of its past.
    fn place_anew(
        aside: Aside<'_>,
        turn: &Turn<'_>,
        route: &mut impl FnMut(Option<&str>) -> Result<Self, Stop>,
    ) -> Result<(), Stop> {
        let Some(seen) = aside.look() else {
            debug_assert!(false, "a token on a slot without a message");
            return Err(Stop::NoSource);
        };
        let target = route(seen.dead_lettered().map(|(source, _)| source))?;
        target.take_in(&seen, turn)
    }

    /// Publishes a copy of another queue's message as a new one of this queue. Its delay and its limit of a message's size
    /// do not apply.
    fn take_in(&self, seen: &Seen<'_>, turn: &Turn<'_>) -> Result<(), Stop> {
        let pin: &Pin<'_> = turn.pin();
        let era = self.era(pin).ok_or(Stop::NoTarget)?;
        let carried = seen
            .extras()
            .map_or_else(ExtrasDraft::default, |extras| Extras::new(extras).draft());
        let draft = ExtrasDraft {
            tenant: 0,
            moved: None,
            ..carried
        };
        let entrance = Entrance {
            sent: turn.now(),
            delayed_until: None,
            receives: 0,
            first_received: None,
            is_grouped: carried.group.is_some(),
        };
        let (partition, reserved) = self
            .reserve(era, turn, seen.body(), draft, &entrance)
            .map_err(|Full| Stop::Full)?;
        partition.publish_reserved(reserved, &entrance, pin);
        if let Some(stripe) = Self::stripe(era, turn) {
            stripe.moved_in.add(1);
        }
        self.wake(1);
        Ok(())
    }
}
