//! Housekeeping, a few segments at a time: what has lapsed is done away with, in whatever state it is, and the survivors of
//! nearly empty segments move out, so that they no longer keep 24 KiB each; spare segments nobody needed go back.
//!
//! A *survivor* is moved by putting a copy of it, under its own id and with its counts, at the tail, and killing it where it was.
//! A visible one is held by its token meanwhile. A delayed one is killed first, by compare-and-swap, and its copy, reserved and
//! written before, is published then: so it is never there twice. Messages in flight are not moved, for their handles are out;
//! nor are messages received within the last 12 hours, for a handle whose lease is over still deletes its message; older handles
//! are void (SQS), and find nothing once the message has moved.

use crate::{
    clock::Millis,
    config::{BITS, SLOTS, VISIBILITY_MAX},
    extras::{Carried, Extras, ExtrasDraft, Moved},
    ledger::{
        group::{Heard, laid::Laid},
        partition::{Draft, Entrance, Partition, Reserved},
        reclaim::Pin,
        segment::Segment,
        slot::{Entry, Slot},
        state::{Phase, Transition, Word},
    },
    sync::{AtomicU32, AtomicU64, Ordering},
};

/// Time between two rounds through all segments, in milliseconds.
const ROUND_MS: u64 = 1_000;
/// Age from which a segment may be evacuated, in milliseconds.
const EVACUATE_AGE_MS: u64 = 60_000;
/// Share of its slots that may be alive in a segment to be evacuated.
const EVACUATE_SHARE: usize = 8;
/// How long ago a message must have been received last to be moved, in milliseconds: SQS's handles are good for no longer.
const HANDLE_GRACE_MS: u64 = VISIBILITY_MAX.as_millis() as u64;

/// How far housekeeping has come.
#[derive(Debug, Default)]
pub struct Tending {
    /// The next segment number of this round.
    cursor: AtomicU32,
    /// When the next round, or what is left of this one, is due.
    at: AtomicU64,
    /// The serial of the segment opened last before the last round.
    serial: AtomicU64,
}

/// What housekeeping did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tended {
    /// Visible messages whose retention was over.
    pub lapsed_visible: u64,
    /// Messages in flight whose retention was over.
    pub lapsed_in_flight: u64,
    /// Delayed messages whose retention was over.
    pub lapsed_delayed: u64,
    /// Survivors moved.
    pub evacuated: u64,
    /// Survivors that were in hand for a moment and stayed: somebody may have looked in vain meanwhile.
    pub stayed: u64,
    /// Whether the round is over.
    pub done: bool,
}

/// Names the message in a slot.
pub type NameOf<'c> = dyn Fn(&Segment, u32, Option<Extras<'_>>) -> [u8; 16] + 'c;

/// What is asked of whoever keeps house.
pub struct Chores<'c> {
    /// Messages sent so long ago are done away with.
    pub retention_ms: u64,
    /// The id of the message in a slot.
    pub id: &'c NameOf<'c>,
}

impl std::fmt::Debug for Chores<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chores")
            .field("retention_ms", &self.retention_ms)
            .finish_non_exhaustive()
    }
}

impl Partition {
    /// Whether there is housekeeping to do.
    #[inline]
    pub fn is_tending_due(&self, now: Millis) -> bool {
        // Relaxed: only paces the work.
        self.tend.at.load(Ordering::Relaxed) <= now.0
    }

    /// Looks after up to `most` segments, from where the last call stopped.
    ///
    /// In a FIFO queue what becomes of a group's messages is told to `hear`.
    pub fn tend<'p>(
        &'p self,
        most: u32,
        chores: &Chores<'_>,
        now: Millis,
        pin: &'p Pin<'_>,
        hear: &mut impl FnMut(Heard<'p>),
    ) -> Tended {
        let mut tended = Tended::default();
        self.pass_empty(pin);
        let end = self.index.numbers();
        // Relaxed, throughout: only divides the work; a segment looked at by two is handled slot by slot.
        let first = self.tend.cursor.fetch_add(most, Ordering::Relaxed);
        for number in first..first.saturating_add(most).min(end) {
            if let Some(segment) = self.index.find(number, pin) {
                if segment.is_linked() {
                    self.tend_linked(segment, chores, now, pin, &mut tended, hear);
                } else {
                    self.tend_segment(segment, chores, now, pin, &mut tended);
                }
            }
        }
        // The nodes of survivors that have moved name tokens that are gone.
        self.turn_returned(most as usize, pin);
        self.pass_empty(pin);
        if first.saturating_add(most) >= end {
            self.tend.at.store(now.after(ROUND_MS).0, Ordering::Relaxed);
            self.tend.cursor.store(0, Ordering::Relaxed);
            let serial = self.last_serial();
            if self.tend.serial.swap(serial, Ordering::Relaxed) == serial {
                // No segment was needed for a whole round: spare ones go back.
                self.empty_pool(pin);
            }
            tended.done = true;
        }
        tended
    }

    fn tend_segment(
        &self,
        segment: &Segment,
        chores: &Chores<'_>,
        now: Millis,
        pin: &Pin<'_>,
        tended: &mut Tended,
    ) {
        if segment.ready.oldest().0.saturating_add(chores.retention_ms) <= now.0 {
            self.clear_lapsed(segment, chores, now, pin, tended);
        }
        if segment.is_sealed() && segment.header.opened.0.saturating_add(EVACUATE_AGE_MS) <= now.0 {
            self.evacuate(segment, chores, now, pin, tended);
        }
    }

    /// Looks after a segment of a FIFO queue: messages in flight that have lapsed are done away with here. What waits in its
    /// group only the baton's holder can touch; of those found at the front, and of batons laid down for such, the token is
    /// taken.
    fn tend_linked<'p>(
        &'p self,
        segment: &'p Segment,
        chores: &Chores<'_>,
        now: Millis,
        pin: &'p Pin<'_>,
        tended: &mut Tended,
        hear: &mut impl FnMut(Heard<'p>),
    ) {
        let mut dead = 0;
        for (at, slot) in segment.slots.iter().enumerate().take(segment.reserved()) {
            let state = slot.state();
            let at = at as u32;
            if state.is(Phase::Baton) {
                // Only once what it leads to has lapsed: a token taken and given back behind the head leaves a node.
                // SAFETY: `state`, which says that something was laid, was read with Acquire.
                let laid = unsafe { slot.entry() };
                // SAFETY: as above.
                let front = Laid::front(unsafe { laid.laid() }.1, laid.sent());
                if front.0.saturating_add(chores.retention_ms) <= now.0 && segment.take_one(at as usize) {
                    hear(Heard::Token(segment, at));
                }
                continue;
            }
            // SAFETY: `state` was read with Acquire.
            let Some(entry) = (unsafe { look(slot, state, pin) }) else {
                continue;
            };
            if entry.sent().0.saturating_add(chores.retention_ms) > now.0 {
                continue;
            }
            if state.is(Phase::InLine) {
                if segment.take_one(at as usize) {
                    hear(Heard::Token(segment, at));
                }
            } else if let Some(ended) = Self::end_lapsed(segment, at, state, pin) {
                tended.lapsed_in_flight += 1;
                self.free_body(entry, pin);
                dead += 1;
                hear(Heard::Went(ended));
            }
        }
        if dead > 0 {
            self.after(segment.bury(dead), segment, pin);
        }
    }

    /// Does away with what has lapsed in one segment.
    fn clear_lapsed(
        &self,
        segment: &Segment,
        chores: &Chores<'_>,
        now: Millis,
        pin: &Pin<'_>,
        tended: &mut Tended,
    ) {
        let mut dead = 0;
        for (at, slot) in segment.slots.iter().enumerate().take(segment.reserved()) {
            let state = slot.state();
            // SAFETY: `state` was read with Acquire.
            let Some(entry) = (unsafe { look(slot, state, pin) }) else {
                continue;
            };
            if entry.sent().0.saturating_add(chores.retention_ms) > now.0 {
                continue;
            }
            let Some(from) = Self::kill(segment, at, state) else {
                continue;
            };
            match from {
                Phase::InFlight => tended.lapsed_in_flight += 1,
                Phase::Delayed => tended.lapsed_delayed += 1,
                Phase::Visible | Phase::InLine => tended.lapsed_visible += 1,
                // Neither is killed.
                Phase::Empty | Phase::Dead | Phase::Baton | Phase::BatonLater => {}
            }
            self.take_leave(entry, slot, from == Phase::InFlight, pin);
            self.free_body(entry, pin);
            dead += 1;
        }
        if dead > 0 {
            self.after(segment.bury(dead), segment, pin);
        }
    }

    /// Makes a message dead that was in state `state`; says in which phase it was. `None` if somebody else has it in hand or has
    /// changed it. The caller frees its body and counts it.
    fn kill(segment: &Segment, at: usize, mut state: Word) -> Option<Phase> {
        if state.is(Phase::Visible) {
            if !segment.take_one(at) {
                return None;
            }
            let slot = segment.slots.get(at)?;
            // As in `delete`: it may have been claimed and have come back between our look and our win. It is as old as it was.
            state = slot.state_in_hand();
            let Ok(Transition { next, .. }) = state.discard() else {
                debug_assert!(false, "a token on a slot that is {state:?}");
                return None;
            };
            slot.store(next);
            return Some(Phase::Visible);
        }
        let Transition { next, .. } = state.discard().ok()?;
        segment.slots.get(at)?.swap_state(state, next).ok()?;
        Some(state.phase())
    }

    /// Moves the survivors of a nearly empty segment, if they can all be moved.
    fn evacuate(
        &self,
        segment: &Segment,
        chores: &Chores<'_>,
        now: Millis,
        pin: &Pin<'_>,
        tended: &mut Tended,
    ) {
        // Relaxed: an estimate; with holds counted in. Of those that were in it: large bodies fill a segment in which most slots
        // were never used. Two survivors with a hold each are few among sixteen.
        let few = (segment.reserved() / EVACUATE_SHARE).max(4.min(segment.reserved() / 4));
        if segment.tally.live.load(Ordering::Relaxed) as usize > few {
            return;
        }
        // All or none: one that stays keeps the segment anyway. The head's segment goes with the head.
        let movable = |slot: &Slot| match slot.state().phase() {
            Phase::Empty | Phase::Dead => true,
            Phase::Visible => slot.is_unhandled(now),
            Phase::Delayed => slot.state().receives() == 0 && slot.state().due() > now.after(1),
            Phase::InFlight | Phase::InLine | Phase::Baton | Phase::BatonLater => false,
        };
        if !segment.slots.iter().all(movable) {
            return;
        }
        for at in 0..SLOTS {
            let Some(slot) = segment.slots.get(at) else {
                continue;
            };
            match slot.state().phase() {
                Phase::Visible if segment.take_one(at) => {
                    let state = slot.state_in_hand();
                    if !slot.is_unhandled(now) || !self.move_visible(segment, at, state, chores, now, pin) {
                        self.publish_again(segment, at / BITS, 1 << (at % BITS), pin);
                        tended.stayed += 1;
                        return;
                    }
                    tended.evacuated += 1;
                }
                Phase::Delayed => match self.move_delayed(segment, at, chores, now, pin) {
                    Some(moved) => tended.evacuated += u64::from(moved),
                    None => return,
                },
                _ => {}
            }
        }
    }

    /// Moves a visible message whose token is in hand; `false` if there is no room.
    pub fn move_visible(
        &self,
        segment: &Segment,
        at: usize,
        state: Word,
        chores: &Chores<'_>,
        now: Millis,
        pin: &Pin<'_>,
    ) -> bool {
        let slot = segment.slot(at as u32);
        // SAFETY: we hold the token.
        let entry = unsafe { slot.entry() };
        let Some((reserved, entrance)) = self.copy(segment, at, entry, state, chores, now, pin) else {
            return false;
        };
        // First the copy, then the death here, the token in our hand all the while.
        self.publish_reserved(reserved, &entrance, pin);
        let Ok(Transition { next, .. }) = state.discard() else {
            debug_assert!(false, "a token on a slot that is {state:?}");
            return true;
        };
        slot.store(next);
        self.bury_one(segment, entry, pin);
        true
    }

    /// Moves a delayed message. `Some(false)` if it is not that any more, `None` if there is no room.
    pub fn move_delayed(
        &self,
        segment: &Segment,
        at: usize,
        chores: &Chores<'_>,
        now: Millis,
        pin: &Pin<'_>,
    ) -> Option<bool> {
        let slot = segment.slot(at as u32);
        let state = slot.state();
        if !state.is(Phase::Delayed) {
            return Some(false);
        }
        // SAFETY: `state` was read with Acquire.
        let Some(entry) = (unsafe { look(slot, state, pin) }) else {
            return Some(false);
        };
        let (reserved, mut entrance) = self.copy(segment, at, entry, state, chores, now, pin)?;
        entrance.delayed_until = Some(state.due());
        let killed = state
            .discard()
            .ok()
            .is_some_and(|Transition { next, .. }| slot.swap_state(state, next).is_ok());
        if killed {
            self.publish_reserved(reserved, &entrance, pin);
            self.bury_one(segment, entry, pin);
        } else {
            self.abandon_reserved(reserved, pin);
        }
        Some(killed)
    }

    /// Writes a copy of a message at the tail, to be published or abandoned.
    #[expect(
        clippy::too_many_arguments,
        reason = "a message is a segment, a place and a state"
    )]
    fn copy<'p>(
        &self,
        segment: &Segment,
        at: usize,
        entry: Entry,
        state: Word,
        chores: &Chores<'_>,
        now: Millis,
        pin: &'p Pin<'_>,
    ) -> Option<(Reserved<'p>, Entrance)> {
        let slot = segment.slot(at as u32);
        // SAFETY: the caller has read the entry by one of the rules of `Slot`, and is pinned.
        let (body, extras) = unsafe { (entry.body(), entry.extras().map(Extras::new)) };
        let carried = extras.map_or_else(ExtrasDraft::default, |extras| extras.draft());
        let moved = carried.moved.unwrap_or(Moved {
            id: (chores.id)(segment, at as u32, extras),
            source: "",
            at: entry.sent(),
        });
        let draft = ExtrasDraft {
            moved: Some(moved),
            ..carried
        };
        let entrance = Entrance {
            sent: entry.sent(),
            delayed_until: None,
            receives: state.receives(),
            first_received: slot.received().first(entry.sent()),
            is_grouped: carried.group.is_some(),
        };
        debug_assert!(matches!(
            draft.attributes,
            Carried::Encoded(_) | Carried::Given(&[])
        ));
        let draft = Draft::extended(body, draft, &self.budget)?;
        match self.reserve_one(draft, &entrance, now, pin) {
            Ok(reserved) => Some((reserved, entrance)),
            Err(draft) => {
                draft.give_up(&self.budget);
                None
            }
        }
    }

    fn free_body(&self, entry: Entry, pin: &Pin<'_>) {
        // SAFETY: the caller has made its message dead, having read the entry before; pinned.
        if let Some(body) = unsafe { entry.own_allocation() } {
            self.retire_body(body, pin);
        }
    }
}

impl Slot {
    /// Whether a visible message can be moved without a handle losing its message: never received, or long ago.
    fn is_unhandled(&self, now: Millis) -> bool {
        let state = self.state();
        state.is(Phase::Visible)
            && (state.receives() == 0 || self.received().last_within(now).0 + HANDLE_GRACE_MS <= now.0)
    }
}

/// The entry of a slot in a state that says that there is a message.
///
/// # Safety
/// `state` was read from the slot with Acquire under this pin.
pub unsafe fn look(slot: &Slot, state: Word, _pin: &Pin<'_>) -> Option<Entry> {
    if matches!(
        state.phase(),
        Phase::Empty | Phase::Dead | Phase::Baton | Phase::BatonLater
    ) {
        return None;
    }
    // SAFETY: the sender wrote the entry before it stored, with Release, the first of the states that lead to this one; every
    // later one was stored by Release too, by the token's holder, who had acquired the one before, or swapped in (Relaxed), which
    // continues the release sequence of such a store. The entry is not written again before the slot is dead and the segment reused, which takes a grace period.
    Some(unsafe { slot.entry() })
}
