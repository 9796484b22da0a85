//! A message group's word and its transitions, without atomics: who is next, and whether anybody has the baton.
//!
//! ```text
//!  63            32 31      23 22    21   20     19        10 9          0
//! ┌────────────────┬──────────┬──────┬────┬──────┬───────────┬────────────┐
//! │ arrivals    32 │        9 │ ling │ out│ more │ flight 10 │ waiting 10 │
//! └────────────────┴──────────┴──────┴────┴──────┴───────────┴────────────┘
//! ```
//!
//! The *window* are those of the group's messages that have been received and are not gone: ten at most, because a receive
//! takes ten at most, from the front, and none while one of them is in flight. Each has a place, in their order: it is
//! `waiting` to be received again, or in `flight`. Behind the window come those never received; `more` says that there may be
//! some.
//!
//! SQS's rule: a message can be received if it is not in flight and nothing before it in its group is. So the group has
//! something to deliver if the first of the window is waiting, or if the window is empty and there is more.
//!
//! The *baton* is `out` while it lies somewhere to be picked up, or is in somebody's hand. Whatever makes the group
//! deliverable while it is not out puts it into the hand of whoever did that.

use std::fmt;

use crate::config::BATCH_MAX;

/// Messages of a group that have been received and are not gone.
pub const WINDOW: usize = BATCH_MAX;

const PLACES: u64 = (1 << WINDOW) - 1;
const FLIGHT_SHIFT: u32 = 10;
const MORE: u64 = 1 << 20;
const OUT: u64 = 1 << 21;
const LINGERS: u64 = 1 << 22;
const ARRIVAL: u64 = 1 << 32;

// The two sets of places fit below the marks.
const _: () = assert!(WINDOW as u32 <= FLIGHT_SHIFT);

/// Places of a window, as a set.
pub type Places = u32;

/// A group's word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct GroupWord(u64);

/// What whoever changed a group's word has to do now.
#[must_use = "a baton forgotten strands its group"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Nothing.
    None,
    /// The baton is in the caller's hand: the group has something to deliver.
    Baton,
    /// The group has become empty: the caller sees to it that somebody comes to close it.
    Closing,
}

/// What the holder of the baton did to the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Some of those waiting were leased, some are gone.
    Within {
        /// Now in flight.
        leased: Places,
        /// Gone.
        gone: Places,
    },
    /// All there were are leased or gone, and others have come in: the window is these many now, in flight.
    Leased(usize),
    /// The same, waiting: they were received without a lease.
    Shown(usize),
}

impl GroupWord {
    /// A word as stored.
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The word as stored.
    #[inline]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// Those to be received again.
    #[inline]
    pub const fn waiting(self) -> Places {
        (self.0 & PLACES) as Places
    }

    /// Those in flight.
    #[inline]
    pub const fn in_flight(self) -> Places {
        (self.0 >> FLIGHT_SHIFT & PLACES) as Places
    }

    /// Whether there may be messages never received.
    #[inline]
    pub const fn has_more(self) -> bool {
        self.0 & MORE != 0
    }

    /// Whether the baton lies somewhere or is in a hand.
    #[inline]
    pub const fn is_out(self) -> bool {
        self.0 & OUT != 0
    }

    /// Whether somebody is going to come to close the group.
    pub const fn lingers(self) -> bool {
        self.0 & LINGERS != 0
    }

    /// Whether there is nothing in it.
    pub const fn is_empty(self) -> bool {
        self.0 & (PLACES | PLACES << FLIGHT_SHIFT | MORE) == 0
    }

    /// Whether it has something to deliver.
    #[inline]
    pub const fn is_deliverable(self) -> bool {
        let (waiting, present) = (self.waiting(), self.waiting() | self.in_flight());
        if present == 0 {
            self.has_more()
        } else {
            waiting & present & present.wrapping_neg() != 0
        }
    }

    /// Something has changed that may have made it deliverable, or empty.
    #[inline]
    pub const fn settle(self) -> (Self, Duty) {
        if self.is_out() {
            (self, Duty::None)
        } else if self.is_deliverable() {
            (Self(self.0 | OUT), Duty::Baton)
        } else if self.is_empty() && !self.lingers() {
            (Self(self.0 | LINGERS), Duty::Closing)
        } else {
            (self, Duty::None)
        }
    }

    /// A message has been sent. Each arrival makes it another word, so that a holder of the baton who has looked for messages
    /// before, and found none, does not hand the baton back on the strength of that.
    #[inline]
    pub const fn arrive(self) -> (Self, Duty) {
        Self((self.0 | MORE).wrapping_add(ARRIVAL)).settle()
    }

    /// Messages in flight have come back.
    #[inline]
    pub const fn come_back(self, places: Places) -> (Self, Duty) {
        debug_assert!(self.in_flight() & places == places);
        Self(self.0 & !((places as u64) << FLIGHT_SHIFT) | places as u64).settle()
    }

    /// Messages in flight are gone for good.
    #[inline]
    pub const fn go(self, places: Places) -> (Self, Duty) {
        debug_assert!(self.in_flight() & places == places);
        Self(self.0 & !((places as u64) << FLIGHT_SHIFT)).settle()
    }

    /// The holder of the baton hands it back, having done this; `more` says whether there is something behind the window. If
    /// the group is still deliverable the baton stays in its hand.
    #[inline]
    pub const fn hand_back(self, done: Done, more: bool) -> (Self, Duty) {
        debug_assert!(self.is_out());
        let after = self.keep(done, more);
        Self(after.0 & !OUT).settle()
    }

    /// As [`GroupWord::hand_back`], but the baton stays in hand whatever there is.
    #[inline]
    pub const fn keep(self, done: Done, more: bool) -> Self {
        let rest = self.0 & !(PLACES | PLACES << FLIGHT_SHIFT | MORE);
        let (waiting, flight) = match done {
            Done::Within { leased, gone } => (
                (self.waiting() & !(leased | gone)) as u64,
                (self.in_flight() | leased) as u64,
            ),
            Done::Leased(count) => (0, (1 << count) - 1),
            Done::Shown(count) => ((1 << count) - 1, 0),
        };
        Self(rest | waiting | flight << FLIGHT_SHIFT | if more { MORE } else { 0 })
    }

    /// Takes the baton of a group that has nothing to deliver, if it is not out.
    pub const fn borrow(self) -> Option<Self> {
        if self.is_out() {
            None
        } else {
            Some(Self(self.0 | OUT))
        }
    }

    /// Somebody has come to close the group: takes the baton if there is nothing in it. If there is, whoever empties it next
    /// sees to it that somebody comes again.
    pub const fn come_to_close(self) -> (Self, bool) {
        let here = Self(self.0 & !LINGERS);
        if here.is_empty() && !here.is_out() {
            (Self(here.0 | OUT), true)
        } else {
            (here, false)
        }
    }
}

impl fmt::Debug for GroupWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = |is: bool, mark: &'static str| if is { mark } else { "" };
        write!(
            f,
            "Group(waiting {:b}, in flight {:b}{}{}{}, arrivals {})",
            self.waiting(),
            self.in_flight(),
            mark(self.has_more(), ", more"),
            mark(self.is_out(), ", baton out"),
            mark(self.lingers(), ", lingers"),
            self.0 >> 32
        )
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// All that a window of four can be, with all marks.
    fn words() -> impl Iterator<Item = GroupWord> {
        (0..3u64.pow(4)).flat_map(|mut code| {
            let mut bits = 0;
            for place in 0..4 {
                bits |= [0, 1 << place, 1 << (place + FLIGHT_SHIFT)][(code % 3) as usize];
                code /= 3;
            }
            (0..8).map(move |marks: u64| GroupWord(bits | marks << 20 | 7 << 32))
        })
    }

    /// The group's messages in their order: true for in flight.
    fn messages(word: GroupWord) -> Vec<bool> {
        let mut messages = Vec::new();
        for place in 0..WINDOW {
            if word.waiting() >> place & 1 == 1 {
                messages.push(false);
            }
            if word.in_flight() >> place & 1 == 1 {
                messages.push(true);
            }
        }
        if word.has_more() {
            messages.push(false);
        }
        messages
    }

    /// SQS's rule.
    fn rule(word: GroupWord) -> bool {
        messages(word).first().is_some_and(|&in_flight| !in_flight)
    }

    #[test]
    fn empty_is_what_has_no_messages() {
        for word in words() {
            assert_eq!(word.is_empty(), messages(word).is_empty(), "{word:?}");
        }
    }

    #[test]
    fn deliverable_is_what_the_prefix_rule_says() {
        assert_eq!(words().count(), 648);
        for word in words() {
            assert_eq!(word.is_deliverable(), rule(word), "{word:?}");
        }
    }

    /// Every change of a word by others than the baton's holder.
    fn changes(word: GroupWord) -> Vec<(GroupWord, Duty)> {
        let mut changes = vec![word.arrive()];
        for places in 1..1 << 4 {
            if word.in_flight() & places == places {
                changes.extend([word.come_back(places), word.go(places)]);
            }
        }
        changes
    }

    /// Words that can be: a deliverable group's baton is out.
    fn sound() -> impl Iterator<Item = GroupWord> {
        words().filter(|word| word.is_out() || !word.is_deliverable())
    }

    #[test]
    fn whoever_makes_it_deliverable_gets_the_baton_once() {
        for word in sound() {
            for (next, duty) in changes(word) {
                assert!(next.is_out() || !next.is_deliverable(), "{word:?} -> {next:?}");
                assert_eq!(
                    duty == Duty::Baton,
                    !word.is_out() && next.is_out(),
                    "{word:?} -> {next:?}"
                );
                assert_eq!(
                    duty == Duty::Closing,
                    !word.lingers() && next.lingers(),
                    "{word:?} -> {next:?}"
                );
                assert!(
                    next.is_out() || next.lingers() || !messages(next).is_empty(),
                    "{word:?} -> {next:?}"
                );
                assert!(!word.lingers() || next.lingers(), "{word:?} -> {next:?}");
            }
        }
    }

    /// Waiting, in flight, whether there is more, arrivals.
    fn parts(word: GroupWord) -> (Places, Places, bool, u64) {
        (
            word.waiting(),
            word.in_flight(),
            word.has_more(),
            word.to_bits() >> 32,
        )
    }

    #[test]
    fn changes_change_what_they_say_and_nothing_else() {
        for word in words() {
            let (waiting, in_flight, more, arrivals) = parts(word);
            assert_eq!(parts(word.arrive().0), (waiting, in_flight, true, arrivals + 1));
            for places in (1..1 << 4).filter(|places| in_flight & places == *places) {
                let left = in_flight & !places;
                let back = word.come_back(places).0;
                assert_eq!(parts(back), (waiting | places, left, more, arrivals));
                assert_eq!(parts(word.go(places).0), (waiting, left, more, arrivals));
            }
            for taken in (0..1 << 4).filter(|taken| waiting & taken == *taken) {
                for gone in (0..1 << 4).filter(|gone| taken & gone == *gone) {
                    let leased = taken & !gone;
                    let kept = word.keep(Done::Within { leased, gone }, !more);
                    let expected = (waiting & !taken, in_flight | leased, !more, arrivals);
                    assert_eq!(parts(kept), expected, "{word:?}, {leased:b}, {gone:b}");
                }
            }
        }
    }

    #[test]
    fn a_holder_keeps_the_baton_exactly_of_what_is_deliverable() {
        for word in sound().filter(|word| word.is_out()) {
            for more in [false, true] {
                let gone = word.waiting();
                for done in [
                    Done::Within { leased: 0, gone: 0 },
                    Done::Within { leased: 0, gone },
                    Done::Within {
                        leased: gone,
                        gone: 0,
                    },
                ] {
                    let (next, duty) = word.hand_back(done, more);
                    assert_eq!(next.has_more(), more);
                    assert_eq!(next.is_out(), next.is_deliverable(), "{word:?} -> {next:?}");
                    assert_eq!(duty == Duty::Baton, next.is_out());
                    assert!(word.keep(done, more).is_out());
                }
                let (leased, _) = word.hand_back(Done::Leased(3), more);
                assert_eq!((leased.waiting(), leased.in_flight()), (0, 0b111));
                assert!(!leased.is_out());
                let (shown, duty) = word.hand_back(Done::Shown(3), more);
                assert_eq!((shown.waiting(), shown.in_flight()), (0b111, 0));
                assert!(shown.is_out() && duty == Duty::Baton);
            }
        }
    }

    #[test]
    fn a_group_is_closed_by_one_and_only_when_it_is_empty() {
        for word in sound() {
            let (next, mine) = word.come_to_close();
            assert!(!next.lingers());
            assert_eq!(mine, word.is_empty() && !word.is_out());
            assert_eq!(next.is_out(), mine || word.is_out());
            assert!(!mine || !next.come_to_close().1);
        }
    }

    #[test]
    fn the_baton_is_lent_only_if_it_is_not_out() {
        for word in words() {
            let lent = word.borrow();
            assert_eq!(lent.is_none(), word.is_out());
            assert!(lent.is_none_or(|lent| lent == GroupWord(word.to_bits() | OUT)));
        }
    }

    #[test]
    fn a_word_is_stored_and_shown() {
        for word in words() {
            assert_eq!(GroupWord::from_bits(word.to_bits()), word);
        }
        let word = GroupWord(0b101 | 0b10 << FLIGHT_SHIFT | 7 << 32);
        assert_eq!(
            format!("{word:?}"),
            "Group(waiting 101, in flight 10, arrivals 7)"
        );
        let word = GroupWord(MORE | OUT | LINGERS);
        assert_eq!(
            format!("{word:?}"),
            "Group(waiting 0, in flight 0, more, baton out, lingers, arrivals 0)"
        );
    }

    #[test]
    fn an_arrival_always_changes_the_word() {
        let word = GroupWord(MORE | OUT);
        assert_ne!(word.arrive().0, word);
        let last = GroupWord(MORE | OUT | u64::MAX << 32);
        assert_eq!(last.arrive().0, GroupWord(MORE | OUT));
    }
}
