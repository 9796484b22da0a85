//! Looking at messages without taking them: no token, no lease, no read-modify-write.
//!
//! What is seen is true of each message at the moment it was looked at, and of no single moment for several.

use crate::{
    clock::Millis,
    config::{SLOTS, WORDS},
    extras::Extras,
    ledger::{
        lease::{Aside, Place},
        partition::Partition,
        reclaim::Pin,
        segment::{PASSED, Segment},
        slot::Entry,
        state::{Phase, Word},
    },
    sync::Ordering,
};

/// A segment found under a pin.
#[derive(Debug, Clone, Copy)]
pub struct Glance<'p> {
    segment: &'p Segment,
}

/// A message seen under a pin: its state as it was, and what never changes about it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'p> {
    segment: &'p Segment,
    slot: u32,
    state: Word,
    entry: Entry,
}

impl Partition {
    /// The segments entered at the moment. O(numbers in use).
    pub fn glance<'p>(&'p self, pin: &'p Pin<'_>) -> impl Iterator<Item = Glance<'p>> + 'p {
        debug_assert!(pin.is_in(self.domain));
        (0..self.index.numbers())
            .filter_map(move |number| self.index.find(number, pin).map(|segment| Glance { segment }))
    }

    /// When the lease of receive number `receives` began and when it ends, if it is running at `now`.
    pub fn lease_of(
        &self,
        place: Place,
        receives: u32,
        now: Millis,
        pin: &Pin<'_>,
    ) -> Option<(Millis, Millis)> {
        debug_assert!(pin.is_in(self.domain));
        let segment = self.index.find(place.number, pin)?;
        if segment.fixed().serial != place.serial {
            return None;
        }
        let slot = segment.slots.get(place.slot as usize)?;
        let runs =
            |state: Word| state.is(Phase::InFlight) && state.receives() == receives && state.due() > now;
        let state = slot.state();
        let began = slot.received().last(now);
        // Once more: received again in between, the times would be the later lease's.
        (runs(state) && runs(slot.state())).then_some((began, state.due()))
    }
}

impl<'p> Glance<'p> {
    /// No message in it was sent earlier.
    pub fn oldest(&self) -> Millis {
        self.segment.ready.oldest()
    }

    /// Its number in the partition's index.
    pub fn number(&self) -> u32 {
        self.segment.number()
    }

    /// Its serial, never reused.
    pub fn serial(&self) -> u64 {
        self.segment.fixed().serial
    }

    /// When it was put to use.
    pub fn opened(&self) -> Millis {
        self.segment.header.opened
    }

    /// Slots not dead, plus holds.
    pub fn live(&self) -> u32 {
        // Relaxed: shown to somebody, nothing rests on it.
        self.segment.tally.live.load(Ordering::Relaxed)
    }

    /// Bytes of the whole allocation.
    pub fn bytes(&self) -> usize {
        self.segment.bytes()
    }

    /// Whether no sender can reserve here any more.
    pub fn is_sealed(&self) -> bool {
        self.segment.is_sealed()
    }

    /// Whether the partition's head has gone by, or is about to.
    pub fn is_passed(&self) -> bool {
        // Relaxed: as in `live`.
        self.segment
            .ready
            .iter()
            .all(|word| word.load(Ordering::Relaxed) & PASSED != 0)
    }

    /// Messages to be received that nobody has in hand.
    pub fn tokens(&self) -> u32 {
        (0..WORDS)
            .map(|word| self.segment.tokens(word).count_ones())
            .sum()
    }

    /// When something in it may be due.
    pub fn due(&self) -> Millis {
        self.segment.hint().look()
    }

    /// The states of the slots reserved so far.
    pub fn states(&self) -> impl Iterator<Item = Word> + use<'p> {
        let slots = self.segment.reserved();
        self.segment.slots.iter().take(slots).map(|slot| slot.state())
    }

    /// Slots that nobody has reserved yet.
    pub fn unreserved(&self) -> u32 {
        (SLOTS - self.segment.reserved()) as u32
    }

    /// The messages in it.
    pub fn messages(self) -> impl Iterator<Item = Seen<'p>> {
        let segment = self.segment;
        (0..segment.reserved()).filter_map(move |slot| Seen::at(segment, slot as u32))
    }
}

impl<'p> Aside<'p> {
    /// The message that was set aside. `None` only if its token has been used up.
    pub fn look(&self) -> Option<Seen<'p>> {
        Seen::at(self.segment, self.slot)
    }
}

impl<'p> Seen<'p> {
    /// The message in a slot of a segment that was reached under a pin which lasts for `'p`: all segments in this crate
    /// that are borrowed for as long as a pin are.
    fn at(segment: &'p Segment, number: u32) -> Option<Self> {
        let slot = segment.slots.get(number as usize)?;
        let state = slot.state();
        if matches!(
            state.phase(),
            Phase::Empty | Phase::Dead | Phase::Baton | Phase::BatonLater
        ) {
            return None;
        }
        // SAFETY: rule 2 of `Slot`, third case. The state was loaded with Acquire, and it is of the segment's present life:
        // all states of its lives before were Dead or Empty when it was entered in the index or linked in the list, and
        // whoever reached it has acquired that. In this life the entry is written once, before the first state that is
        // neither. Whoever stored that state (Release), or one that followed from it by token (the publisher's RMW is
        // Release, the taker's Acquire), comes after the write, and we come after them: a compare-and-swap in between (Relaxed)
        // continues the release sequence of the store before it.
        // It is not written again before the segment is reused, for which the grace period of our pin must have passed.
        let entry = unsafe { slot.entry() };
        Some(Self {
            segment,
            slot: number,
            state,
            entry,
        })
    }

    /// Its state when it was looked at; that of a message which is there.
    pub fn state(&self) -> Word {
        self.state
    }

    /// The partition, and where in it.
    pub fn place(&self) -> (u32, Place) {
        let fixed = self.segment.fixed();
        (
            fixed.partition,
            Place {
                number: self.segment.number(),
                serial: fixed.serial,
                slot: self.slot,
            },
        )
    }

    /// Whether it waits to be received for the first time, in a queue where messages wait in line.
    pub fn is_waiting_new(&self) -> bool {
        self.state.is(Phase::InLine) && self.state.receives() == 0
    }

    /// Whether it came from another queue, so that this one's delay is not for it.
    pub fn has_moved_here(&self) -> bool {
        self.extras()
            .is_some_and(|extras| Extras::new(extras).has_moved_here())
    }

    /// When it was sent.
    pub fn sent(&self) -> Millis {
        self.entry.sent()
    }

    /// When it was first received.
    pub fn first_received(&self) -> Option<Millis> {
        let slot = self.segment.slots.get(self.slot as usize)?;
        slot.received().first(self.sent())
    }

    /// The body.
    pub fn body(&self) -> &'p [u8] {
        // SAFETY: read under rule 2 by `at`. A body in the arena lives as long as the segment. One of its own is retired
        // by whoever has made its message dead, afterwards: either our pin is older than that, and it is kept, or we
        // would have seen the message dead.
        unsafe { self.entry.body() }
    }

    /// The block of extras, if there is one.
    pub fn extras(&self) -> Option<&'p [u8]> {
        // SAFETY: as in `body`.
        unsafe { self.entry.extras() }
    }

    /// The name of the queue it was dead-lettered from, and when; `None` for a message that was sent here.
    pub fn dead_lettered(&self) -> Option<(&'p str, Millis)> {
        let moved = Extras::new(self.extras()?).moved()?;
        Some((moved.dead_letter_source()?, moved.at))
    }
}
