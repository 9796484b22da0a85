//! What is due: one sweep for leases and delays alike. No timer per message, nothing to cancel.
//!
//! `sweep_at` of a partition says when to look next. It is never later than the next due moment, except when a claimer
//! and a sweeper passed each other without seeing each other's writes (no fence is paid for that), and even then at
//! most [`SWEEP_PERIOD_MS`] later.

use crate::{
    clock::Millis,
    config::{BITS, SWEEP_PERIOD_MS, WORDS},
    ledger::{
        group::Heard,
        partition::Partition,
        reclaim::Pin,
        state::{Phase, Refusal, Transition},
    },
    sync::Ordering,
};

/// What a sweep brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Messages made visible whose lease was over.
    pub expired: u32,
    /// Messages made visible whose delay was over.
    pub ripe: u32,
    /// Batons of message groups that may be picked up now, and groups that may be closed (FIFO queues).
    pub batons: u32,
}

impl Swept {
    fn total(self) -> u32 {
        self.expired + self.ripe + self.batons
    }
}

impl Partition {
    /// Makes sure that somebody looks for due messages at `due`.
    #[inline]
    pub(crate) fn look_by(&self, due: Millis) {
        // Relaxed: see the module. The load comes first here because a lost race costs lateness, not the deadline:
        // that one is in the segment's hint.
        if self.sweep_at.load(Ordering::Relaxed) > due.0 {
            // Release: a sweep that was called by it sees the hint lowered before; pairs with its `swap`.
            self.sweep_at.fetch_min(due.0, Ordering::Release);
        }
    }

    /// Whether it is time to sweep.
    #[inline]
    pub fn is_sweep_due(&self, now: Millis) -> bool {
        // Relaxed: see the module.
        self.sweep_at.load(Ordering::Relaxed) <= now.0
    }

    /// Makes visible what is due at `now`, segment by segment, until at least `enough` messages were.
    ///
    /// A thread that stops in here delays what is due in one segment; others go on with the rest.
    ///
    /// In a FIFO queue a message comes back to its group, which `hear` is told of, as of groups that may be closed.
    pub fn sweep<'p>(
        &self,
        now: Millis,
        enough: u32,
        pin: &'p Pin<'_>,
        hear: &mut impl FnMut(Heard<'p>),
    ) -> Swept {
        let mut swept = Swept::default();
        if !self.is_sweep_due(now) {
            return swept;
        }
        // While we look, others may too from the next period on, should we be stopped.
        // Acquire: sees the hints lowered before `sweep_at` was. Nobody rests on what we did before.
        self.sweep_at
            .swap(now.after(SWEEP_PERIOD_MS).0, Ordering::Acquire);
        let mut next = Millis::NEVER;
        for (number, hint) in self.index.hints_from(0) {
            if hint.look() > now {
                next = next.min(hint.look());
            } else if swept.total() >= enough {
                next = now;
                break;
            } else {
                next = next.min(self.sweep_segment(number, now, &mut swept, pin, hear));
            }
        }
        // Relaxed: see the module.
        self.sweep_at.fetch_min(next.0, Ordering::Relaxed);
        swept
    }

    /// Makes visible what is due in one segment; returns when something is due there next.
    pub fn sweep_segment<'p>(
        &self,
        number: u32,
        now: Millis,
        swept: &mut Swept,
        pin: &'p Pin<'_>,
        hear: &mut impl FnMut(Heard<'p>),
    ) -> Millis {
        let Some(hint) = self.index.hint(number) else {
            return Millis::NEVER;
        };
        // The hint first, then the segment, then its slots: a claimer who comes later lowers it again, and a segment
        // that takes over the number brings its own. (H4)
        if hint.take() == Millis::NEVER {
            return Millis::NEVER;
        }
        let Some(segment) = self.index.find(number, pin) else {
            return Millis::NEVER;
        };
        let slots = segment.reserved();
        let mut tokens = [0; WORDS];
        let mut next = Millis::NEVER;
        for (at, slot) in segment.slots.iter().enumerate().take(slots) {
            let mut state = slot.state();
            // Progress: each turn more means that another thread changed the message's state.
            loop {
                if segment.is_linked() && state.is(Phase::InFlight) {
                    match Self::fall_back(segment, at as u32, state, now, pin) {
                        Ok(Some(ended)) => {
                            swept.expired += 1;
                            hear(Heard::CameBack(ended));
                        }
                        Ok(None) => {
                            state = slot.state();
                            continue;
                        }
                        Err(Refusal::NotDue(due)) => next = next.min(due),
                        Err(_) => {}
                    }
                    break;
                }
                if state.is(Phase::BatonLater)
                    && let Some(group) = self.take_reminder(segment, at as u32, state, now, pin)
                {
                    swept.batons += 1;
                    hear(Heard::Closing(group));
                    break;
                }
                match state.due_at(now) {
                    Ok(Transition { next: visible, .. }) => match slot.swap_state(state, visible) {
                        Ok(()) => {
                            tokens[at / BITS] |= 1 << (at % BITS);
                            if state.phase() == Phase::InFlight {
                                swept.expired += 1;
                                if segment.ready.has_groups() {
                                    // SAFETY: rule 2: seen with Acquire, if perhaps in an earlier state, and we are pinned.
                                    self.end_lease(unsafe { slot.entry() }, slot, pin);
                                }
                            } else if state.phase() == Phase::Delayed {
                                swept.ripe += 1;
                            } else {
                                swept.batons += 1;
                            }
                            break;
                        }
                        Err(newer) => state = newer,
                    },
                    Err(Refusal::NotDue(due)) => {
                        next = next.min(due);
                        break;
                    }
                    Err(_) => break,
                }
            }
        }
        if next != Millis::NEVER {
            hint.lower(next);
        }
        for (word, &tokens) in tokens.iter().enumerate() {
            if tokens != 0 {
                self.publish_again(segment, word, tokens, pin);
            }
        }
        next
    }

    /// When something may be due next. O(segments).
    pub fn next_due(&self) -> Option<Millis> {
        self.index
            .hints_from(0)
            .map(|(_, hint)| hint.look())
            .min()
            .filter(|&due| due != Millis::NEVER)
    }
}
