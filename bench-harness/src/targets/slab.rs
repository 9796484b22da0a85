//! What the textbook's queues are made of: messages, things in places, and the order in which leases end.

use std::time::Duration;

use super::guarded;
use crate::target::Delivery;

/// A message, and how often it was received.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) body: Box<[u8]>,
    pub(super) receives: u32,
}

impl Message {
    #[inline]
    pub(super) fn new(body: Box<[u8]>) -> Self {
        Self { body, receives: 0 }
    }
}

impl Delivery for Message {
    #[inline(always)]
    fn body(&self) -> &[u8] {
        &self.body
    }

    #[inline(always)]
    fn receives(&self) -> u32 {
        self.receives
    }
}

/// Things in places that stay theirs until they are taken out: a place finds its thing without a hash.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    #[inline]
    pub(super) fn insert(&mut self, thing: T) -> u32 {
        if let Some(place) = self.free.pop() {
            self.places[place as usize] = Some(thing);
            place
        } else {
            self.places.push(Some(thing));
            self.places.len() as u32 - 1
        }
    }

    #[inline]
    pub(super) fn get(&mut self, place: u32) -> Option<&mut T> {
        self.places.get_mut(place as usize)?.as_mut()
    }

    #[inline]
    pub(super) fn take(&mut self, place: u32) -> Option<T> {
        let thing = self.places.get_mut(place as usize)?.take()?;
        self.free.push(place);
        Some(thing)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

/// Places in the order in which their leases end: a list that is linked through the places, so nothing is searched to take one out.
///
/// Leases mostly end in the order in which they begin, so a new one looks for its place from the end on: where all are equally
/// long it is there already. One that is much shorter than others goes past all of those.
#[derive(Debug)]
pub(super) struct Deadlines {
    nodes: Vec<Node>,
    first: u32,
    last: u32,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// [`OUT`] if it is not in the list.
    end_ns: u64,
    before: u32,
    after: u32,
}

/// No place.
const NONE: u32 = u32::MAX;
/// No deadline.
const OUT: u64 = u64::MAX;

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            first: NONE,
            last: NONE,
            len: 0,
        }
    }
}

impl Deadlines {
    /// Puts a place in that is not in yet.
    #[inline]
    pub(super) fn insert(&mut self, place: u32, end_ns: u64) {
        let at = place as usize;
        if at >= self.nodes.len() {
            let node = Node {
                end_ns: OUT,
                before: NONE,
                after: NONE,
            };
            self.nodes.resize(at + 1, node);
        }
        let mut before = self.last;
        while before != NONE && self.nodes[before as usize].end_ns > end_ns {
            before = self.nodes[before as usize].before;
        }
        let after = match before {
            NONE => self.first,
            before => self.nodes[before as usize].after,
        };
        self.nodes[at] = Node {
            // The last moment there is would say that it is not in.
            end_ns: end_ns.min(OUT - 1),
            before,
            after,
        };
        self.tie(before, place);
        self.tie(place, after);
        self.len += 1;
    }

    /// Takes a place out, if it is in.
    #[inline]
    pub(super) fn remove(&mut self, place: u32) -> bool {
        let Some(node) = self.nodes.get_mut(place as usize) else {
            return false;
        };
        if node.end_ns == OUT {
            return false;
        }
        node.end_ns = OUT;
        let (before, after) = (node.before, node.after);
        match before {
            NONE => self.first = after,
            before => self.nodes[before as usize].after = after,
        }
        match after {
            NONE => self.last = before,
            after => self.nodes[after as usize].before = before,
        }
        self.len -= 1;
        true
    }

    /// Takes out the first place, if its end has come.
    #[inline]
    pub(super) fn pop_due(&mut self, now_ns: u64) -> Option<u32> {
        let first = self.first;
        let is_due = first != NONE && self.nodes[first as usize].end_ns <= now_ns;
        is_due.then(|| {
            self.remove(first);
            first
        })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Makes neighbours of two places, one of which may be none: the list's end.
    #[inline]
    fn tie(&mut self, one: u32, next: u32) {
        match one {
            NONE => self.first = next,
            one => self.nodes[one as usize].after = next,
        }
        match next {
            NONE => self.last = one,
            next => self.nodes[next as usize].before = one,
        }
    }
}

/// The ledger's own clock: the processor's time-stamp counter, where that will do. `Instant` takes twice as long.
#[derive(Debug)]
pub struct Ticks {
    clock: quanta::Clock,
    began: u64,
}

impl Default for Ticks {
    fn default() -> Self {
        let clock = quanta::Clock::new();
        let began = clock.raw();
        Self { clock, began }
    }
}

impl Ticks {
    /// Nanoseconds since it was made.
    #[inline]
    pub(super) fn now_ns(&self) -> u64 {
        self.clock.delta_as_nanos(self.began, self.clock.raw())
    }
}

impl guarded::Clock for Ticks {
    type Time = u64;

    #[inline]
    fn now(&self) -> u64 {
        self.now_ns()
    }
}

/// When a lease ends that begins now.
#[inline]
pub(super) fn end_ns(now_ns: u64, visibility: Duration) -> u64 {
    now_ns.saturating_add(visibility.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again() {
        let mut slab = Slab::default();
        let (a, b) = (slab.insert('a'), slab.insert('b'));
        assert_eq!(
            (slab.take(a), slab.take(a), slab.get(b)),
            (Some('a'), None, Some(&mut 'b'))
        );
        assert_eq!((slab.insert('c'), slab.len()), (a, 2));
        assert_eq!(slab.take(7), None);
    }

    #[test]
    fn what_ends_first_is_due_first() {
        let mut deadlines = Deadlines::default();
        for (place, end_ns) in [(3, 30), (0, 10), (5, 30), (1, 20), (2, 10), (4, u64::MAX)] {
            deadlines.insert(place, end_ns);
        }
        assert!(deadlines.remove(1) && !deadlines.remove(1) && !deadlines.remove(99));
        assert_eq!(deadlines.len(), 5);
        assert_eq!(deadlines.pop_due(9), None);
        let due: Vec<_> = std::iter::from_fn(|| deadlines.pop_due(30)).collect();
        assert_eq!(due, [0, 2, 3, 5], "equal ones in the order of their beginning");
        assert!(deadlines.remove(4) && deadlines.len() == 0);
        deadlines.insert(4, 1);
        assert_eq!(deadlines.pop_due(1), Some(4));
    }

    /// Against a set that is ordered by itself.
    #[test]
    fn no_order_of_inserts_and_removes_confuses_it() {
        let (mut deadlines, mut model) = (Deadlines::default(), std::collections::BTreeSet::new());
        let (mut ends, mut x) = ([None; 16], 7_u64);
        for _ in 0..20_000 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let (place, end) = ((x % 16) as usize, x >> 32 & 0xff);
            match ends[place].take() {
                Some(end) => {
                    assert!(deadlines.remove(place as u32) && model.remove(&(end, place)));
                }
                None => {
                    deadlines.insert(place as u32, end);
                    model.insert((end, place));
                    ends[place] = Some(end);
                }
            }
            if x.is_multiple_of(31) {
                while let Some(place) = deadlines.pop_due(100) {
                    let end = ends[place as usize].take().unwrap();
                    assert_eq!(model.first().map(|first| first.0), Some(end));
                    model.remove(&(end, place as usize));
                }
                assert!(model.first().is_none_or(|first| first.0 > 100));
            }
            assert_eq!(deadlines.len(), model.len());
        }
    }
}
