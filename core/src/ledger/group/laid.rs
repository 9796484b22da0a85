//! What lies in a slot of its own in a FIFO queue's partition: a group's baton, or a reminder to close a group. And tokens,
//! which lead to batons either way.

use super::{Group, baton::Baton};
use crate::{
    clock::Millis,
    config::BITS,
    ledger::{
        partition::{Full, Partition, Passing},
        reclaim::Pin,
        segment::{Reservation, Segment},
        slot::Entry,
        state::{Phase, Transition, Word},
    },
    sync::Ordering,
};

/// What lies in a slot of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Laid {
    /// The group's baton.
    Baton,
    /// A reminder to close the group, if it is empty.
    Closing,
}

/// Unit of the age that is noted with what is laid, in milliseconds; it takes what `what` leaves of a length.
const AGE_UNIT_MS: u64 = 2_000;
const AGE_MAX: u64 = (1 << 20) - 1;
// The longest retention fits.
const _: () = assert!(crate::config::RETENTION_MAX.as_millis() as u64 / AGE_UNIT_MS < AGE_MAX);

/// What is noted with the group: what it is, and how long ago `front` was, or longer.
fn note(what: Laid, front: Millis, now: Millis) -> usize {
    let age = now.as_millis().saturating_sub(front.as_millis());
    what as usize | (age.div_ceil(AGE_UNIT_MS).min(AGE_MAX) as usize) << 1
}

impl Laid {
    /// Whether it is a reminder, by the note.
    pub(in crate::ledger) const fn is_reminder(note: usize) -> bool {
        note & 1 == Self::Closing as usize
    }

    /// When the group's first message was sent, or up to two seconds before that, by the note and when it was laid.
    pub(in crate::ledger) const fn front(note: usize, laid: Millis) -> Millis {
        Millis::new(laid.as_millis().saturating_sub((note as u64 >> 1) * AGE_UNIT_MS))
    }
}

impl Partition {
    /// Lays a baton down in a slot of its own, at the tail, to be picked up at once or from `due` on; or a reminder to close
    /// the group.
    ///
    /// # Errors
    /// [`Full`]: it still is in the caller's hand.
    pub fn lay(
        &self,
        group: &Group,
        what: Laid,
        due: Option<Millis>,
        now: Millis,
        pin: &Pin<'_>,
    ) -> Result<(), Full> {
        self.lay_noting(group, what, now, due, now, pin)
    }

    /// The same of the baton of a group whose first message was sent at `front`: nobody has to look before that has lapsed.
    pub(super) fn lay_noting(
        &self,
        group: &Group,
        what: Laid,
        front: Millis,
        due: Option<Millis>,
        now: Millis,
        pin: &Pin<'_>,
    ) -> Result<(), Full> {
        // Progress: as in `append`.
        loop {
            // Acquire, SAFETY: as in `append`.
            let segment = unsafe { &*self.tail.load(Ordering::Acquire) };
            match segment.reserve(&[0]) {
                Reservation::Taken {
                    first: at, count: 1, ..
                } => {
                    let slot = &segment.slots[at];
                    let Ok(transition) = slot.state_in_hand().lay(due) else {
                        debug_assert!(false, "reserved a slot that is taken");
                        return Err(Full);
                    };
                    let address = std::ptr::from_ref(group).cast::<u8>();
                    // SAFETY: reserved by us, published below. It is no body: nobody reads it as one, for the state says
                    // that there is no message.
                    unsafe { slot.write(Entry::new(address, note(what, front, now), false, now)) };
                    slot.store(transition.next);
                    match due {
                        Some(due) => self.set_alarm(segment, due),
                        None => {
                            self.publish(segment, at / BITS, 1 << (at % BITS), pin);
                            self.note_sent(now);
                        }
                    }
                    return Ok(());
                }
                Reservation::Taken { unused, .. } => self.after(segment.bury(unused), segment, pin),
                Reservation::Sealed => self.grow(segment, 0, now, pin)?,
            }
        }
    }

    /// Takes any token there is: of a message at the front of its group, or of a slot in which something was laid.
    pub fn take_token<'p>(&self, returned_first: bool, pin: &'p Pin<'_>) -> Option<(&'p Segment, u32)> {
        if returned_first && let Some(token) = self.take_returned(pin) {
            return Some(token);
        }
        // Progress: each turn but the last moves the head on, or finds a token that another thread has just set.
        loop {
            let segment = self.first(pin);
            if let Some(at) = segment.take_any() {
                return Some((segment, at));
            }
            if self.pass(segment, pin) == Passing::End {
                break;
            }
        }
        if returned_first {
            None
        } else {
            self.take_returned(pin)
        }
    }

    #[inline]
    fn take_returned<'p>(&self, pin: &'p Pin<'_>) -> Option<(&'p Segment, u32)> {
        if self.returned.is_empty(pin) {
            return None;
        }
        self.take_named(pin)
    }

    /// The baton that was laid in a slot whose token is in hand; `None` if the token is a message's.
    pub fn laid<'p>(&self, segment: &'p Segment, at: u32, pin: &'p Pin<'_>) -> Option<Baton<'p>> {
        let slot = segment.slot(at);
        if !slot.state_in_hand().is(Phase::Baton) {
            return None;
        }
        // SAFETY: we hold the token, and what was laid here is a group (see `lay`), which lives: its baton is out, which keeps it
        // from being closed. The token is the baton.
        Some(unsafe { Baton::pick_up(&*slot.entry().laid().0, pin) })
    }

    /// The baton that a token in hand stands for. A slot in which it was laid is given up.
    pub fn find_out<'p>(&self, segment: &'p Segment, at: u32, pin: &'p Pin<'_>) -> Option<Baton<'p>> {
        let slot = segment.slot(at);
        let state = slot.state_in_hand();
        // SAFETY: we hold the token.
        self.note_oldest(unsafe { slot.entry() }.sent());
        if state.is(Phase::InLine) {
            let link = segment.link(at)?;
            // SAFETY: the token of a message at the front of its group is the group's baton: the message is alive.
            return Some(unsafe { Baton::pick_up(link.group(), pin) });
        }
        let baton = self.laid(segment, at, pin);
        let Ok(Transition { next, .. }) = state.pick_up() else {
            debug_assert!(false, "a token on a slot that is {state:?}");
            return None;
        };
        slot.store(next);
        self.after(segment.bury(1), segment, pin);
        baton
    }

    /// Takes a reminder out that is due; `None` if it is a baton that was laid in the slot, or somebody else has taken it.
    pub(in crate::ledger) fn take_reminder<'p>(
        &self,
        segment: &'p Segment,
        at: u32,
        state: Word,
        now: Millis,
        pin: &'p Pin<'_>,
    ) -> Option<&'p Group> {
        let slot = segment.slot(at);
        // SAFETY: the state, which says that something was laid, was read with Acquire.
        let (group, what) = unsafe { slot.entry().laid() };
        if !Laid::is_reminder(what) {
            return None;
        }
        let Transition { next, .. } = state.remind(now).ok()?;
        slot.swap_state(state, next).ok()?;
        self.after(segment.bury(1), segment, pin);
        // SAFETY: a group whose reminder lies somewhere is not closed by anybody but whoever takes it out; retired only after
        // that, it lives as long as our pin.
        Some(unsafe { &*group })
    }
}
