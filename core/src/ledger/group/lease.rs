//! How leases of a FIFO queue's messages end: deleted, handed in or over, the message's group has to hear of it.

use super::{
    Group,
    baton::{Next, Serving},
    laid::Laid,
    link::Member,
    word::Places,
};
use crate::{
    clock::Millis,
    config::BITS,
    ledger::{
        lease::{Claim, Graves, Place},
        partition::Partition,
        reclaim::Pin,
        segment::Segment,
        slot::Slot,
        state::{Phase, Refusal, Transition, Word},
    },
};

/// Messages of one group whose leases have ended, which the group has not heard of yet.
#[must_use = "a group that does not hear of it stays blocked"]
#[derive(Debug, Clone, Copy)]
pub struct Ended<'p> {
    /// The group.
    pub group: &'p Group,
    /// Their places in its window.
    pub places: Places,
}

impl<'p> Ended<'p> {
    /// # Safety
    /// The caller has ended the lease of the message in the slot, by a compare-and-swap from a state that it loaded under this
    /// pin: until the group hears of it, it counts as in flight, and keeps the group from being closed.
    unsafe fn of(segment: &'p Segment, slot: u32) -> Option<Self> {
        let link = segment.link(slot);
        debug_assert!(link.is_some(), "a segment without links in a FIFO queue");
        let link = link?;
        Some(Self {
            // SAFETY: as promised by the caller.
            group: unsafe { link.group() },
            places: 1 << link.place(),
        })
    }

    /// Both, if they are of one group.
    #[must_use]
    pub fn with(self, other: Self) -> Option<Self> {
        std::ptr::eq(self.group, other.group).then_some(Self {
            places: self.places | other.places,
            ..self
        })
    }
}

impl Partition {
    /// Deletes a message by the handle of its receive number `receives`, while that lease is running.
    #[inline]
    pub fn delete_leased<'p>(
        &'p self,
        place: Place,
        receives: u32,
        now: Millis,
        pin: &'p Pin<'_>,
        graves: &mut Graves<'p>,
    ) -> Result<Option<Ended<'p>>, Refusal> {
        let segment = graves.find(self, place, pin).ok_or(Refusal::Dead)?;
        let slot = segment.slots.get(place.slot as usize).ok_or(Refusal::Dead)?;
        change(slot, |state| state.delete_leased(receives, now))?;
        // SAFETY: seen in flight with Acquire, pinned, and not buried yet.
        let entry = unsafe { slot.entry() };
        // SAFETY: ended just now.
        let ended = unsafe { Ended::of(segment, place.slot) };
        // SAFETY: as above; it is dead.
        if let Some(body) = unsafe { entry.own_allocation() } {
            self.retire_body(body, pin);
        }
        graves.dig(self, segment, pin);
        Ok(ended)
    }

    /// Gives a running lease up.
    pub fn hand_in<'p>(
        &'p self,
        place: Place,
        receives: u32,
        now: Millis,
        pin: &'p Pin<'_>,
    ) -> Result<Option<Ended<'p>>, Refusal> {
        let segment = self.find(place, pin).ok_or(Refusal::Dead)?;
        let slot = segment.slots.get(place.slot as usize).ok_or(Refusal::Dead)?;
        change(slot, |state| state.hand_in(receives, now))?;
        // SAFETY: ended just now.
        Ok(unsafe { Ended::of(segment, place.slot) })
    }

    /// The message of a handle, and when its lease ends if it is in flight. `None` if it is gone.
    pub fn leased<'p>(&'p self, place: Place, pin: &'p Pin<'_>) -> Option<(Claim<'p>, Option<Millis>)> {
        let segment = self.find(place, pin)?;
        let state = segment.slots.get(place.slot as usize)?.state();
        let ends = match state.phase() {
            Phase::InFlight => Some(state.due()),
            Phase::InLine => None,
            _ => return None,
        };
        let claim = Claim {
            segment,
            slot: place.slot,
            receives: state.receives(),
        };
        Some((claim, ends))
    }

    /// Leases a message that its group's word says is in flight, until `due`; the caller sets the alarm. Without `due`, by the
    /// holder of the baton: it has been received, and waits where it is.
    #[inline]
    pub fn lease_member<'p>(
        &self,
        member: Member<'p>,
        due: Option<Millis>,
        now: Millis,
    ) -> Option<Claim<'p>> {
        let slot = member.place();
        let state = slot.state_in_hand();
        let Ok(Transition { next, .. }) = state.lease_in_line(due) else {
            debug_assert!(false, "a group delivers a message that is {state:?}");
            return None;
        };
        slot.set_received(state.receives(), member.sent(), now);
        slot.store(next);
        Some(Claim {
            segment: member.segment,
            slot: member.slot,
            receives: next.receives(),
        })
    }

    /// Does away with a group's next message. The caller counts it.
    pub fn discard_next<'p>(&'p self, serving: &mut Serving<'p>, next: Next<'p>, pin: &'p Pin<'_>) {
        let member = next.member;
        let slot = member.place();
        let Ok(Transition { next: dead, .. }) = slot.state_in_hand().discard_in_line() else {
            debug_assert!(false, "a message at the front of its group that does not wait");
            return;
        };
        // SAFETY: alive, and ours by the baton.
        let entry = unsafe { slot.entry() };
        // Out of the group before the slot is dead: its link is part of the segment.
        serving.drop_next(next);
        slot.store(dead);
        self.bury_one(member.segment, entry, pin);
    }

    /// Gives back a token that was taken to look at what it stands for.
    pub fn give_token_back(&self, segment: &Segment, at: u32, pin: &Pin<'_>) {
        self.publish_again(segment, at as usize / BITS, 1 << (at as usize % BITS), pin);
    }

    /// Brings all batons that were put off to be looked at now. O(messages).
    pub fn recall(&self, pin: &Pin<'_>) {
        for number in 0..self.index.numbers() {
            let Some(segment) = self.index.find(number, pin) else {
                continue;
            };
            for (at, slot) in segment.slots.iter().enumerate().take(segment.reserved()) {
                let state = slot.state();
                // A failure means that a sweep has just done it.
                if state.is(Phase::BatonLater)
                    && !Self::is_reminder(slot)
                    && let Ok(Transition { next, .. }) = state.due_at(state.due())
                    && slot.swap_state(state, next).is_ok()
                {
                    self.publish_again(segment, at / BITS, 1 << (at % BITS), pin);
                }
            }
        }
    }

    fn is_reminder(slot: &Slot) -> bool {
        // SAFETY: the caller has read a state with Acquire that says that something was laid.
        Laid::is_reminder(unsafe { slot.entry().laid() }.1)
    }

    /// Ends a lease that was found to be over.
    pub(in crate::ledger) fn fall_back<'p>(
        segment: &'p Segment,
        at: u32,
        state: Word,
        now: Millis,
        _pin: &'p Pin<'_>,
    ) -> Result<Option<Ended<'p>>, Refusal> {
        let slot = segment.slot(at);
        let Transition { next, .. } = state.fall_back(now)?;
        if slot.swap_state(state, next).is_err() {
            // Extended, deleted or handed in meanwhile; or swept by somebody else.
            return Ok(None);
        }
        // SAFETY: ended just now.
        Ok(unsafe { Ended::of(segment, at) })
    }

    /// Does away with a message in flight whose retention is over. The caller frees its body and counts it.
    pub(in crate::ledger) fn end_lapsed<'p>(
        segment: &'p Segment,
        at: u32,
        state: Word,
        _pin: &'p Pin<'_>,
    ) -> Option<Ended<'p>> {
        let Transition { next, .. } = state.discard().ok()?;
        segment.slot(at).swap_state(state, next).ok()?;
        // SAFETY: ended just now.
        unsafe { Ended::of(segment, at) }
    }
}

/// Changes a slot's state by compare-and-swap.
#[inline]
fn change(slot: &Slot, judge: impl Fn(Word) -> Result<Transition, Refusal>) -> Result<(), Refusal> {
    let mut state = slot.state();
    // Progress: each turn more means that another thread changed the message's state.
    loop {
        let Transition { next, .. } = judge(state)?;
        match slot.swap_state(state, next) {
            Ok(()) => return Ok(()),
            Err(newer) => state = newer,
        }
    }
}
