//! The slot's word and its transitions: the truth about one message, without atomics.
//!
//! ```text
//!  63       61 60                41 40                                        0
//! ┌───────────┬────────────────────┬───────────────────────────────────────────┐
//! │ phase   3 │ receives        20 │ due_ms                                 41 │
//! └───────────┴────────────────────┴───────────────────────────────────────────┘
//!
//!                publish                claim (token)
//!      Empty ──────────────▶ Visible ───────────────────▶ InFlight
//!        │                    ▲   │  ◀─────────────────── │  ▲  │
//!        │ publish(due)       │   │    due, release       └──┘  │
//!        ▼   due, put off     │   │    (owes the token)  extend │
//!      Delayed ◀──────────────┘   ▼                             ▼
//!        └───────────────────▶   Dead   ◀───────────────────────┘
//!        delete, discard     delete, discard       delete, discard
//!
//!      Visible ──line up (token)──▶ InLine ──call up──▶ Visible; delete, discard ──▶ Dead
//!
//!      FIFO:   queue up                 lease (baton)
//!      Empty ──────────▶ InLine ─────────────────────▶ InFlight ──delete, discard──▶ Dead
//!                        │   ▲ ◀──────── fall back, hand in ─────────┘
//!                        └───┘ receive without lease; discard (baton) ──▶ Dead
//!
//!      Empty ──lay──▶ Baton ──pick up (token)──▶ Dead; lay(due) ──▶ BatonLater ──due──▶ Baton, or ──remind──▶ Dead
//! ```
//!
//! In a FIFO queue a message is received only through its group, whose *baton* stands for the right to deliver its messages;
//! see `group/`. A baton lies in the ready bit of a message, or in a slot of its own.
//!
//! Every event is a function from the present word to the next one, with what its caller owes afterwards, or the
//! reason why not. Who may write the answer is part of it: by compare-and-swap, or as holder of the slot's token.

use std::fmt;

use crate::clock::Millis;

const DUE_BITS: u32 = 41;
const RECEIVES_BITS: u32 = 20;
const PHASE_BITS: u32 = 3;
const RECEIVES_SHIFT: u32 = DUE_BITS;
const PHASE_SHIFT: u32 = DUE_BITS + RECEIVES_BITS;
const DUE_MASK: u64 = (1 << DUE_BITS) - 1;

// The three fields fill the word, and a lease begun at the clock's last moment still fits.
const _: () = assert!(DUE_BITS + RECEIVES_BITS + PHASE_BITS == 64);
const _: () =
    assert!(Millis::MAX.as_millis() + (crate::config::VISIBILITY_MAX.as_millis() as u64) < DUE_MASK);

/// Largest receive count a word can hold. The count stops there (it would take a million receives of one message),
/// and handles of receives beyond it cannot be told apart: each acts on a message its holder did receive.
pub const RECEIVES_MAX: u32 = (1 << RECEIVES_BITS) - 1;

/// Where a message is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Phase {
    /// No message has been published here.
    Empty = 0,
    /// Published, not to be received before its due moment.
    Delayed = 1,
    /// To be received by whoever takes its token.
    Visible = 2,
    /// Leased until its due moment.
    InFlight = 3,
    /// Gone for good.
    Dead = 4,
    /// To be received, but only through the line of its message group's tenant (fair queues), or through its message
    /// group (FIFO queues).
    InLine = 5,
    /// No message: a group's baton, to be picked up by whoever takes its token.
    Baton = 6,
    /// No message: a group's baton, not to be picked up before its due moment; or a reminder.
    BatonLater = 7,
}

/// A slot's state word: phase, receive count, due moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Word(u64);

/// What an allowed event leads to.
#[must_use = "the next word has to be written, and what is owed has to be done"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The word to write.
    pub next: Word,
    /// Who may write it.
    pub by: By,
    /// What the writer must do afterwards.
    pub owed: Owed,
}

/// Who may write a transition's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The sender that reserved the slot, before it publishes: a plain store.
    Reservation,
    /// The holder of the slot's token, who won its ready bit: a plain store.
    Token,
    /// The holder of the baton of the message's group: a plain store.
    Baton,
    /// Anybody, by compare-and-swap from the word that was judged.
    Cas,
}

/// What the writer of a transition owes afterwards.
#[must_use = "an obligation forgotten strands a message or leaks a segment"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owed {
    /// Set the slot's ready bit: the message has become visible.
    Token,
    /// Lower the segment's due hint to this moment.
    Alarm(Millis),
    /// Count the slot dead in its segment.
    Burial,
    /// Name the slot in its tenant's line, or tell its group.
    Line,
}

/// Why an event is not allowed on a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No message was ever published in the slot.
    Empty,
    /// The slot already holds a message.
    Occupied,
    /// The message is dead.
    Dead,
    /// The message is delayed.
    Delayed,
    /// The message is in flight.
    InFlight,
    /// The message is visible: its lease is over, or it never had one.
    Visible,
    /// The message is in its tenant's line, or waits in its group.
    InLine,
    /// There is no message but a group's baton.
    Baton,
    /// The lease of this handle is over although nobody has swept it up yet.
    LeaseOver,
    /// The message has been received again since: the handle is of an older lease.
    ReceivedAgain,
    /// The handle is of a receive that has not happened.
    Unknown,
    /// The due moment has not come.
    NotDue(Millis),
    /// The lease would last longer than leases may in all: until after this moment.
    TooLong(Millis),
}

impl Word {
    /// The word of a slot without a message.
    pub const EMPTY: Self = Self(0);
    /// The word of a slot whose message is gone.
    pub const DEAD: Self = Self((Phase::Dead as u64) << PHASE_SHIFT);

    const fn new(phase: Phase, receives: u32, due: Millis) -> Self {
        debug_assert!(receives <= RECEIVES_MAX);
        debug_assert!(due.0 <= DUE_MASK);
        Self((phase as u64) << PHASE_SHIFT | (receives as u64) << RECEIVES_SHIFT | due.0)
    }

    /// The word as stored.
    #[inline]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// A stored word.
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Where the message is in its life.
    #[inline]
    pub const fn phase(self) -> Phase {
        match self.0 >> PHASE_SHIFT {
            0 => Phase::Empty,
            1 => Phase::Delayed,
            2 => Phase::Visible,
            3 => Phase::InFlight,
            5 => Phase::InLine,
            6 => Phase::Baton,
            7 => Phase::BatonLater,
            _ => Phase::Dead,
        }
    }

    /// Whether the message is there, without decoding the rest.
    #[inline]
    pub const fn is(self, phase: Phase) -> bool {
        self.0 >> PHASE_SHIFT == phase as u64
    }

    /// How often the message has been received.
    #[inline]
    pub const fn receives(self) -> u32 {
        (self.0 >> RECEIVES_SHIFT) as u32 & RECEIVES_MAX
    }

    /// When the lease or the delay ends; zero in the other phases.
    #[inline]
    pub const fn due(self) -> Millis {
        Millis(self.0 & DUE_MASK)
    }

    /// A sender publishes a message, at once or from `delayed_until` on.
    #[inline]
    pub fn publish(self, delayed_until: Option<Millis>) -> Result<Transition, Refusal> {
        self.is_free()?;
        let (next, owed) = match delayed_until {
            None => (Self::new(Phase::Visible, 0, Millis(0)), Owed::Token),
            Some(due) => (Self::new(Phase::Delayed, 0, due), Owed::Alarm(due)),
        };
        Ok(Transition {
            next,
            by: By::Reservation,
            owed,
        })
    }

    /// A sender of a FIFO queue writes a message that has been received `receives` times where it was before, and will tell
    /// its group.
    #[inline]
    pub fn queue_up(self, receives: u32) -> Result<Transition, Refusal> {
        self.is_free()?;
        Ok(Transition {
            next: Self::new(Phase::InLine, receives.min(RECEIVES_MAX), Millis(0)),
            by: By::Reservation,
            owed: Owed::Line,
        })
    }

    /// The holder of a group's baton lays it down in a slot of its own, to be picked up at once or from `due` on.
    #[inline]
    pub fn lay(self, due: Option<Millis>) -> Result<Transition, Refusal> {
        self.is_free()?;
        let (next, owed) = match due {
            None => (Self::new(Phase::Baton, 0, Millis(0)), Owed::Token),
            Some(due) => (Self::new(Phase::BatonLater, 0, due), Owed::Alarm(due)),
        };
        Ok(Transition {
            next,
            by: By::Reservation,
            owed,
        })
    }

    /// The holder of the slot's token picks the baton up that lies there.
    #[inline]
    pub fn pick_up(self) -> Result<Transition, Refusal> {
        if !self.is(Phase::Baton) {
            return Err(Refusal::of(self.phase()));
        }
        Ok(Transition {
            next: Self::DEAD,
            by: By::Token,
            owed: Owed::Burial,
        })
    }

    /// Time has come to `now`: what was laid to remind of something at a moment has done so.
    #[inline]
    pub fn remind(self, now: Millis) -> Result<Transition, Refusal> {
        if !self.is(Phase::BatonLater) {
            return Err(Refusal::of(self.phase()));
        }
        if self.due() > now {
            return Err(Refusal::NotDue(self.due()));
        }
        Ok(Transition {
            next: Self::DEAD,
            by: By::Cas,
            owed: Owed::Burial,
        })
    }

    /// The holder of the group's baton leases the message until `due`, or with `None` receives it and leaves it where it is.
    #[inline]
    pub fn lease_in_line(self, due: Option<Millis>) -> Result<Transition, Refusal> {
        if !self.is(Phase::InLine) {
            return Err(Refusal::of(self.phase()));
        }
        let receives = self.receives_more();
        let (next, owed) = match due {
            Some(due) => (Self::new(Phase::InFlight, receives, due), Owed::Alarm(due)),
            None => (Self::new(Phase::InLine, receives, Millis(0)), Owed::Line),
        };
        Ok(Transition {
            next,
            by: By::Baton,
            owed,
        })
    }

    /// The holder of the group's baton throws the message away.
    pub fn discard_in_line(self) -> Result<Transition, Refusal> {
        if !self.is(Phase::InLine) {
            return Err(Refusal::of(self.phase()));
        }
        Ok(Transition {
            next: Self::DEAD,
            by: By::Baton,
            owed: Owed::Burial,
        })
    }

    /// Time has come to `now`: a lease that ends then sends the message back to its group.
    #[inline]
    pub fn fall_back(self, now: Millis) -> Result<Transition, Refusal> {
        if !self.is(Phase::InFlight) {
            return Err(Refusal::of(self.phase()));
        }
        if self.due() > now {
            return Err(Refusal::NotDue(self.due()));
        }
        Ok(self.back_in_line())
    }

    /// The holder of the lease gives it up: the message is back in its group at once.
    pub fn hand_in(self, receives: u32, now: Millis) -> Result<Transition, Refusal> {
        self.is_leased(receives, now)?;
        Ok(self.back_in_line())
    }

    /// The holder of the lease deletes the message; not once the lease is over (FIFO queues).
    #[inline]
    pub fn delete_leased(self, receives: u32, now: Millis) -> Result<Transition, Refusal> {
        self.is_leased(receives, now)?;
        Ok(Transition {
            next: Self::DEAD,
            by: By::Cas,
            owed: Owed::Burial,
        })
    }

    /// A message enters that has been received `receives` times where it was before.
    pub fn admit(self, receives: u32, delayed_until: Option<Millis>) -> Result<Transition, Refusal> {
        let fresh = self.publish(delayed_until)?;
        Ok(Transition {
            next: Self::new(fresh.next.phase(), receives.min(RECEIVES_MAX), fresh.next.due()),
            ..fresh
        })
    }

    /// The holder of the token keeps the message from being received until `due`.
    pub fn put_off(self, due: Millis) -> Result<Transition, Refusal> {
        if !self.is(Phase::Visible) {
            return Err(Refusal::of(self.phase()));
        }
        Ok(Transition {
            next: Self::new(Phase::Delayed, self.receives(), due),
            by: By::Token,
            owed: Owed::Alarm(due),
        })
    }

    /// The holder of the token puts the message in its tenant's line, which is then the only way to receive it.
    pub fn line_up(self) -> Result<Transition, Refusal> {
        if !self.is(Phase::Visible) {
            return Err(Refusal::of(self.phase()));
        }
        Ok(Transition {
            next: Self::new(Phase::InLine, self.receives(), Millis(0)),
            by: By::Token,
            owed: Owed::Line,
        })
    }

    /// Whoever serves the line makes the message one to be received by token again: it is the token's holder then.
    pub fn call_up(self) -> Result<Transition, Refusal> {
        if !self.is(Phase::InLine) {
            return Err(Refusal::of(self.phase()));
        }
        Ok(Transition {
            next: self.visible_again(),
            by: By::Cas,
            owed: Owed::Token,
        })
    }

    /// The holder of the token leases the message until `due`, or with `None` receives it and leaves it visible.
    #[inline(always)]
    pub fn claim(self, due: Option<Millis>) -> Result<Transition, Refusal> {
        if !self.is(Phase::Visible) {
            return Err(Refusal::of(self.phase()));
        }
        let receives = self.receives_more();
        let (next, owed) = match due {
            Some(due) => (Self::new(Phase::InFlight, receives, due), Owed::Alarm(due)),
            None => (Self::new(Phase::Visible, receives, Millis(0)), Owed::Token),
        };
        Ok(Transition {
            next,
            by: By::Token,
            owed,
        })
    }

    /// The holder of the handle of receive number `receives` deletes the message.
    ///
    /// Also after its lease is over, as long as nobody received the message again (standard queues), and while it is put
    /// off after that.
    #[inline(always)]
    pub fn delete(self, receives: u32) -> Result<Transition, Refusal> {
        let by = if self.is(Phase::InFlight) {
            By::Cas
        } else if self.is(Phase::Visible) {
            By::Token
        } else if self.is(Phase::Delayed) || self.is(Phase::InLine) {
            By::Cas
        } else {
            return Err(Refusal::of(self.phase()));
        };
        self.is_newest(receives)?;
        Ok(Transition {
            next: Self::DEAD,
            by,
            owed: Owed::Burial,
        })
    }

    /// The holder of the lease moves its end to `due`.
    #[inline]
    pub fn extend(self, receives: u32, due: Millis, now: Millis) -> Result<Transition, Refusal> {
        self.is_leased(receives, now)?;
        let next = Self::new(Phase::InFlight, self.receives(), due);
        Ok(Transition {
            next,
            by: By::Cas,
            owed: Owed::Alarm(due),
        })
    }

    /// The holder of the lease gives it up: the message becomes visible at once.
    #[inline]
    pub fn release(self, receives: u32, now: Millis) -> Result<Transition, Refusal> {
        self.is_leased(receives, now)?;
        Ok(Transition {
            next: self.visible_again(),
            by: By::Cas,
            owed: Owed::Token,
        })
    }

    /// Time has come to `now`: a lease or a delay that ends then makes the message visible.
    #[inline]
    pub fn due_at(self, now: Millis) -> Result<Transition, Refusal> {
        match self.phase() {
            Phase::InFlight | Phase::Delayed if self.due() <= now => Ok(Transition {
                next: self.visible_again(),
                by: By::Cas,
                owed: Owed::Token,
            }),
            Phase::BatonLater if self.due() <= now => Ok(Transition {
                next: Self::new(Phase::Baton, 0, Millis(0)),
                by: By::Cas,
                owed: Owed::Token,
            }),
            Phase::InFlight | Phase::Delayed | Phase::BatonLater => Err(Refusal::NotDue(self.due())),
            phase => Err(Refusal::of(phase)),
        }
    }

    /// The queue throws the message away (purge, retention, dead-lettered elsewhere).
    #[inline]
    pub fn discard(self) -> Result<Transition, Refusal> {
        let by = match self.phase() {
            Phase::Delayed | Phase::InFlight | Phase::InLine => By::Cas,
            Phase::Visible => By::Token,
            phase => return Err(Refusal::of(phase)),
        };
        Ok(Transition {
            next: Self::DEAD,
            by,
            owed: Owed::Burial,
        })
    }

    /// A slot of a reused segment still says Dead of the message before.
    #[inline(always)]
    fn is_free(self) -> Result<(), Refusal> {
        if self.is(Phase::Empty) || self.is(Phase::Dead) {
            Ok(())
        } else {
            Err(Refusal::Occupied)
        }
    }

    #[inline(always)]
    const fn receives_more(self) -> u32 {
        if self.receives() < RECEIVES_MAX {
            self.receives() + 1
        } else {
            RECEIVES_MAX
        }
    }

    const fn back_in_line(self) -> Transition {
        Transition {
            next: Self::new(Phase::InLine, self.receives(), Millis(0)),
            by: By::Cas,
            owed: Owed::Line,
        }
    }

    const fn visible_again(self) -> Self {
        Self::new(Phase::Visible, self.receives(), Millis(0))
    }

    #[inline(always)]
    fn is_newest(self, receives: u32) -> Result<(), Refusal> {
        if self.receives() == receives && receives > 0 {
            Ok(())
        } else if self.receives() > receives && receives > 0 {
            Err(Refusal::ReceivedAgain)
        } else {
            Err(Refusal::Unknown)
        }
    }

    fn is_leased(self, receives: u32, now: Millis) -> Result<(), Refusal> {
        match self.phase() {
            Phase::InFlight => {
                self.is_newest(receives)?;
                if self.due() <= now {
                    Err(Refusal::LeaseOver)
                } else {
                    Ok(())
                }
            }
            Phase::Visible | Phase::Delayed | Phase::InLine => {
                self.is_newest(receives)?;
                Err(Refusal::Visible)
            }
            phase => Err(Refusal::of(phase)),
        }
    }
}

impl Refusal {
    const fn of(phase: Phase) -> Self {
        match phase {
            Phase::Empty => Self::Empty,
            Phase::Delayed => Self::Delayed,
            Phase::Visible => Self::Visible,
            Phase::InFlight => Self::InFlight,
            Phase::Dead => Self::Dead,
            Phase::InLine => Self::InLine,
            Phase::Baton | Phase::BatonLater => Self::Baton,
        }
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.phase())?;
        match self.phase() {
            Phase::Empty | Phase::Dead | Phase::Baton => Ok(()),
            Phase::BatonLater => write!(f, "(due {})", self.due()),
            Phase::Visible | Phase::InLine => write!(f, "(receives {})", self.receives()),
            Phase::Delayed | Phase::InFlight => {
                write!(f, "(receives {}, due {})", self.receives(), self.due())
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_000);
    const LATER: Millis = Millis(2_000);

    /// All phases, with the receive counts and due moments at which something changes.
    fn words() -> Vec<Word> {
        let mut words = vec![Word::EMPTY, Word::DEAD, Word::new(Phase::Baton, 0, Millis(0))];
        words.extend([NOW, LATER].map(|due| Word::new(Phase::BatonLater, 0, due)));
        for receives in [0, 1, 2, RECEIVES_MAX - 1, RECEIVES_MAX] {
            words.push(Word::new(Phase::Visible, receives, Millis(0)));
            words.push(Word::new(Phase::InLine, receives, Millis(0)));
            for due in [
                Millis(0),
                Millis(NOW.0 - 1),
                NOW,
                Millis(NOW.0 + 1),
                LATER,
                Millis::MAX,
            ] {
                words.push(Word::new(Phase::Delayed, receives, due));
                words.push(Word::new(Phase::InFlight, receives, due));
            }
        }
        words
    }

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Publish(Option<Millis>),
        Claim(Option<Millis>),
        Delete(u32),
        Extend(u32, Millis),
        Release(u32),
        Due,
        Discard,
        Admit(u32, Option<Millis>),
        PutOff(Millis),
        LineUp,
        CallUp,
        QueueUp(u32),
        Lay(Option<Millis>),
        PickUp,
        LeaseInLine(Option<Millis>),
        DiscardInLine,
        FallBack,
        HandIn(u32),
        DeleteLeased(u32),
        Remind,
    }

    fn events() -> Vec<Event> {
        let mut events = vec![
            Event::Publish(None),
            Event::Publish(Some(LATER)),
            Event::Claim(None),
            Event::Claim(Some(LATER)),
            Event::Due,
            Event::Discard,
            Event::Admit(0, None),
            Event::Admit(7, None),
            Event::Admit(7, Some(LATER)),
            Event::PutOff(LATER),
            Event::LineUp,
            Event::CallUp,
            Event::QueueUp(0),
            Event::QueueUp(7),
            Event::Lay(None),
            Event::Lay(Some(LATER)),
            Event::PickUp,
            Event::LeaseInLine(None),
            Event::LeaseInLine(Some(LATER)),
            Event::DiscardInLine,
            Event::FallBack,
            Event::Remind,
        ];
        for receives in [0, 1, 2, 3, RECEIVES_MAX - 1, RECEIVES_MAX] {
            events.push(Event::Delete(receives));
            events.push(Event::Release(receives));
            events.push(Event::HandIn(receives));
            events.push(Event::DeleteLeased(receives));
            events.extend([NOW, LATER, Millis::MAX].map(|due| Event::Extend(receives, due)));
        }
        events
    }

    fn apply(word: Word, event: Event) -> Result<Transition, Refusal> {
        match event {
            Event::Publish(due) => word.publish(due),
            Event::Claim(due) => word.claim(due),
            Event::Delete(receives) => word.delete(receives),
            Event::Extend(receives, due) => word.extend(receives, due, NOW),
            Event::Release(receives) => word.release(receives, NOW),
            Event::Due => word.due_at(NOW),
            Event::Discard => word.discard(),
            Event::Admit(receives, due) => word.admit(receives, due),
            Event::PutOff(due) => word.put_off(due),
            Event::LineUp => word.line_up(),
            Event::CallUp => word.call_up(),
            Event::QueueUp(receives) => word.queue_up(receives),
            Event::Lay(due) => word.lay(due),
            Event::PickUp => word.pick_up(),
            Event::LeaseInLine(due) => word.lease_in_line(due),
            Event::DiscardInLine => word.discard_in_line(),
            Event::FallBack => word.fall_back(NOW),
            Event::HandIn(receives) => word.hand_in(receives, NOW),
            Event::Remind => word.remind(NOW),
            Event::DeleteLeased(receives) => word.delete_leased(receives, NOW),
        }
    }

    /// The specification, written the other way round: a table of phase × event, not code per event.
    fn expected(word: Word, event: Event) -> Result<(Phase, u32, Option<Millis>, By, Owed), Refusal> {
        use Phase::{Baton, BatonLater, Dead, Delayed, Empty, InFlight, InLine, Visible};
        let (phase, count, due) = (word.phase(), word.receives(), word.due());
        let held = |handle: u32| match handle {
            0 => Err(Refusal::Unknown),
            h if h > count => Err(Refusal::Unknown),
            h if h < count => Err(Refusal::ReceivedAgain),
            _ => Ok(()),
        };
        Ok(match (phase, event) {
            (Empty | Dead, Event::Publish(None)) => (Visible, 0, None, By::Reservation, Owed::Token),
            (Empty | Dead, Event::Publish(Some(at))) => {
                (Delayed, 0, Some(at), By::Reservation, Owed::Alarm(at))
            }
            (Empty | Dead, Event::Admit(before, None)) => {
                (Visible, before, None, By::Reservation, Owed::Token)
            }
            (Empty | Dead, Event::Admit(before, Some(at))) => {
                (Delayed, before, Some(at), By::Reservation, Owed::Alarm(at))
            }
            (Empty | Dead, Event::QueueUp(before)) => (InLine, before, None, By::Reservation, Owed::Line),
            (Empty | Dead, Event::Lay(None)) => (Baton, 0, None, By::Reservation, Owed::Token),
            (Empty | Dead, Event::Lay(Some(at))) => {
                (BatonLater, 0, Some(at), By::Reservation, Owed::Alarm(at))
            }
            (_, Event::Publish(_) | Event::Admit(..) | Event::QueueUp(_) | Event::Lay(_)) => {
                return Err(Refusal::Occupied);
            }

            (Empty, _) => return Err(Refusal::Empty),
            (Dead, _) => return Err(Refusal::Dead),

            (Baton, Event::PickUp) => (Dead, 0, None, By::Token, Owed::Burial),
            (BatonLater, Event::Remind) if due <= NOW => (Dead, 0, None, By::Cas, Owed::Burial),
            (BatonLater, Event::Remind) => return Err(Refusal::NotDue(due)),
            (BatonLater, Event::Due) if due <= NOW => (Baton, 0, None, By::Cas, Owed::Token),
            (BatonLater, Event::Due) => return Err(Refusal::NotDue(due)),
            (Baton | BatonLater, _) => return Err(Refusal::Baton),
            (_, Event::PickUp | Event::Remind) => return Err(Refusal::of(phase)),

            (InLine, Event::LeaseInLine(Some(at))) => (
                InFlight,
                (count + 1).min(RECEIVES_MAX),
                Some(at),
                By::Baton,
                Owed::Alarm(at),
            ),
            (InLine, Event::LeaseInLine(None)) => {
                (InLine, (count + 1).min(RECEIVES_MAX), None, By::Baton, Owed::Line)
            }
            (InLine, Event::DiscardInLine) => (Dead, 0, None, By::Baton, Owed::Burial),
            (_, Event::LeaseInLine(_) | Event::DiscardInLine) => return Err(Refusal::of(phase)),
            (InFlight, Event::FallBack) if due <= NOW => (InLine, count, None, By::Cas, Owed::Line),
            (InFlight, Event::FallBack) => return Err(Refusal::NotDue(due)),
            (_, Event::FallBack) => return Err(Refusal::of(phase)),
            (_, Event::HandIn(handle) | Event::DeleteLeased(handle)) => {
                held(handle)?;
                match (phase, event) {
                    (InFlight, _) if due <= NOW => return Err(Refusal::LeaseOver),
                    (InFlight, Event::HandIn(_)) => (InLine, count, None, By::Cas, Owed::Line),
                    (InFlight, _) => (Dead, 0, None, By::Cas, Owed::Burial),
                    _ => return Err(Refusal::Visible),
                }
            }

            (Visible, Event::Claim(Some(at))) => (
                InFlight,
                (count + 1).min(RECEIVES_MAX),
                Some(at),
                By::Token,
                Owed::Alarm(at),
            ),
            (Visible, Event::Claim(None)) => (
                Visible,
                (count + 1).min(RECEIVES_MAX),
                None,
                By::Token,
                Owed::Token,
            ),
            (Visible, Event::Delete(handle)) => {
                held(handle)?;
                (Dead, 0, None, By::Token, Owed::Burial)
            }
            (Visible, Event::Extend(handle, _) | Event::Release(handle)) => {
                held(handle)?;
                return Err(Refusal::Visible);
            }
            (Visible, Event::PutOff(at)) => (Delayed, count, Some(at), By::Token, Owed::Alarm(at)),
            (Visible, Event::LineUp) => (InLine, count, None, By::Token, Owed::Line),
            (Visible, Event::CallUp) => return Err(Refusal::Visible),
            (InLine, Event::CallUp) => (Visible, count, None, By::Cas, Owed::Token),
            (InLine | Delayed, Event::Delete(handle)) => {
                held(handle)?;
                (Dead, 0, None, By::Cas, Owed::Burial)
            }
            (InLine | Delayed, Event::Extend(handle, _) | Event::Release(handle)) => {
                held(handle)?;
                return Err(Refusal::Visible);
            }
            (InLine, Event::Discard) => (Dead, 0, None, By::Cas, Owed::Burial),
            (InLine, Event::Claim(_) | Event::Due | Event::PutOff(_) | Event::LineUp) => {
                return Err(Refusal::InLine);
            }
            (Visible, Event::Due) => return Err(Refusal::Visible),
            (Visible, Event::Discard) => (Dead, 0, None, By::Token, Owed::Burial),

            (InFlight, Event::Claim(_) | Event::PutOff(_) | Event::LineUp | Event::CallUp) => {
                return Err(Refusal::InFlight);
            }
            (InFlight, Event::Delete(handle)) => {
                held(handle)?;
                (Dead, 0, None, By::Cas, Owed::Burial)
            }
            (InFlight, Event::Extend(handle, at)) => {
                held(handle)?;
                if due <= NOW {
                    return Err(Refusal::LeaseOver);
                }
                (InFlight, count, Some(at), By::Cas, Owed::Alarm(at))
            }
            (InFlight, Event::Release(handle)) => {
                held(handle)?;
                if due <= NOW {
                    return Err(Refusal::LeaseOver);
                }
                (Visible, count, None, By::Cas, Owed::Token)
            }
            (Delayed, Event::Claim(_) | Event::PutOff(_) | Event::LineUp | Event::CallUp) => {
                return Err(Refusal::Delayed);
            }
            (InFlight | Delayed, Event::Due) if due <= NOW => (Visible, count, None, By::Cas, Owed::Token),
            (InFlight | Delayed, Event::Due) => return Err(Refusal::NotDue(due)),
            (InFlight | Delayed, Event::Discard) => (Dead, 0, None, By::Cas, Owed::Burial),
        })
    }

    #[test]
    fn every_phase_meets_every_event() {
        let mut checked = 0;
        for word in words() {
            for event in events() {
                let got = apply(word, event)
                    .map(|t| (t.next.phase(), t.next.receives(), t.next.due(), t.by, t.owed));
                let want =
                    expected(word, event).map(|(p, r, d, by, owed)| (p, r, d.unwrap_or(Millis(0)), by, owed));
                assert_eq!(got, want, "{word:?} meets {event:?}");
                checked += 1;
            }
        }
        assert_eq!(checked, words().len() * events().len());
        assert!(checked > 2_000, "{checked}");
    }

    #[test]
    fn receives_never_falls_and_grows_by_one_per_claim_only() {
        for word in words() {
            for event in events() {
                let Ok(t) = apply(word, event) else { continue };
                if matches!(t.next.phase(), Phase::Dead)
                    || matches!(
                        event,
                        Event::Publish(_) | Event::Admit(..) | Event::QueueUp(_) | Event::Lay(_)
                    )
                {
                    continue;
                }
                let grown = u32::from(
                    matches!(event, Event::Claim(_) | Event::LeaseInLine(_))
                        && word.receives() < RECEIVES_MAX,
                );
                assert_eq!(
                    t.next.receives(),
                    word.receives() + grown,
                    "{word:?} meets {event:?}"
                );
            }
        }
    }

    #[test]
    fn whatever_becomes_visible_owes_its_token() {
        for word in words() {
            for event in events() {
                let Ok(t) = apply(word, event) else { continue };
                assert_eq!(
                    matches!(t.next.phase(), Phase::Visible | Phase::Baton),
                    t.owed == Owed::Token,
                    "{word:?} meets {event:?}"
                );
                assert_eq!(
                    t.next.phase() == Phase::Dead,
                    t.owed == Owed::Burial,
                    "{word:?} meets {event:?}"
                );
            }
        }
    }

    #[test]
    fn words_are_shown_by_name() {
        let shown = |word: Word| format!("{word:?}");
        let word = |phase| Word::new(phase, 0, LATER);
        assert_eq!(shown(Word::EMPTY), "Empty");
        assert_eq!(shown(Word::DEAD), "Dead");
        assert_eq!(shown(word(Phase::Baton)), "Baton");
        assert_eq!(shown(word(Phase::BatonLater)), format!("BatonLater(due {LATER})"));
        assert_eq!(shown(word(Phase::Visible)), "Visible(receives 0)");
        assert_eq!(shown(word(Phase::InLine)), "InLine(receives 0)");
        let leased = Word::new(Phase::InFlight, 2, LATER);
        assert_eq!(shown(leased), format!("InFlight(receives 2, due {LATER})"));
        let delayed = Word::new(Phase::Delayed, 1, NOW);
        assert_eq!(shown(delayed), format!("Delayed(receives 1, due {NOW})"));
    }

    #[test]
    fn fields_round_trip() {
        for word in words() {
            assert_eq!(
                Word::new(word.phase(), word.receives(), word.due()),
                match word.phase() {
                    Phase::Dead => Word::DEAD,
                    _ => word,
                }
            );
            assert_eq!(Word::from_bits(word.to_bits()), word);
        }
    }
}
