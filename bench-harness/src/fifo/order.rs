//! Which message belongs to which group, and whether groups are delivered in order.
//!
//! [`Lanes`] says it by arithmetic: each producer has groups of its own and goes round through them, each time in another order; or,
//! where there are fewer groups than producers, all go through all of them. A *lane* is what one producer sends to one group: its order
//! is that of sending. (Of several producers of one group nobody but the queue knows the order between them.)
//!
//! [`Order`] has two words for each: for a group who has messages of it in hand, for a lane the number of the next message. They
//! are read and written by whoever has the group in hand, and let go of *before* the delete: from then on another thread may
//! lawfully receive the group. Two threads that hold one group at a time may race here: then one of the two sees the other, or
//! the numbers are out of order later, or (once in a while) neither shows; a queue that does it at all does it again.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::{check::Wrong, workload::Id};

/// Which message belongs to which group.
#[derive(Clone, Debug)]
pub struct Lanes {
    /// Groups in all.
    groups: usize,
    producers: usize,
    /// Groups of one producer.
    each: u64,
    /// All producers send to all groups.
    is_shared: bool,
    /// By round (modulo their number): how far it is from one group to the next, in groups. Prime to `each`.
    strides: [u64; Self::STRIDES],
}

/// Where a message belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its group.
    pub group: u32,
    /// Its producer's lane to it.
    pub lane: u32,
    /// The how-manieth of its lane.
    pub number: u32,
}

impl Lanes {
    const STRIDES: usize = 8;

    /// For so many groups (rounded up to a multiple of the producers, if there are more of them) and producers.
    pub fn new(groups: usize, producers: usize, seed: u64) -> Self {
        let is_shared = groups < producers;
        let each = if is_shared {
            groups
        } else {
            groups.div_ceil(producers)
        } as u64;
        let mut state = seed;
        let strides = std::array::from_fn(|_| {
            // SplitMix64.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let first = (mixed >> 32) % each;
            // Some stride is prime to `each`: at the latest 1.
            (first..each).find(|&stride| gcd(stride, each) == 1).unwrap_or(1)
        });
        Self {
            groups: if is_shared {
                groups
            } else {
                each as usize * producers
            },
            producers,
            each,
            is_shared,
            strides,
        }
    }

    /// Groups in all.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Producers.
    pub fn producers(&self) -> usize {
        self.producers
    }

    /// Groups that one producer sends to.
    pub fn of_each(&self) -> u64 {
        self.each
    }

    /// Where a message belongs; nowhere, if there is no such producer.
    #[inline]
    pub fn place(&self, id: Id) -> Option<Place> {
        let producer = id.producer();
        if producer >= self.producers {
            return None;
        }
        let (round, step) = (id.sequence() / self.each, id.sequence() % self.each);
        let at = step * self.strides[round as usize % Self::STRIDES] % self.each;
        let own = (producer as u64 * self.each + at) as u32;
        let (group, lane) = if self.is_shared {
            (at as u32, self.groups as u32 + own)
        } else {
            (own, own)
        };
        Some(Place {
            group,
            lane,
            number: round as u32,
        })
    }

    fn cells(&self) -> usize {
        if self.is_shared {
            self.groups * (self.producers + 1)
        } else {
            self.groups
        }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[derive(Debug, Default)]
struct Cell {
    /// Of a group: who has messages of it in hand, plus one; 0: nobody.
    holder: AtomicU32,
    /// Of a lane: the least number that may come next.
    next: AtomicU32,
}

/// Whether groups are delivered in order, and by one thread at a time.
#[derive(Debug)]
pub struct Order {
    lanes: Lanes,
    cells: Box<[Cell]>,
}

impl Order {
    /// Nothing was delivered yet.
    pub fn new(lanes: Lanes) -> Self {
        let cells = (0..lanes.cells()).map(|_| Cell::default()).collect();
        Self { lanes, cells }
    }

    /// Which message belongs to which group.
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// `holder` has received a message, for the first time. Relaxed throughout: what the queue under test does between a delete
    /// and the next receive orders these.
    #[inline]
    pub fn received(&self, id: Id, holder: u16) -> Option<Wrong> {
        let place = self.lanes.place(id)?;
        let (group, lane) = (
            &self.cells[place.group as usize],
            &self.cells[place.lane as usize],
        );
        let me = u32::from(holder) + 1;
        let before = group.holder.load(Relaxed);
        group.holder.store(me, Relaxed);
        let next = lane.next.load(Relaxed);
        lane.next.store(place.number.wrapping_add(1), Relaxed);
        if before != 0 && before != me {
            Some(Wrong::GroupInFlight)
        } else if place.number < next {
            Some(Wrong::OutOfOrder)
        } else {
            None
        }
    }

    /// Whoever received the message is about to delete it: the group is not its own any more.
    #[inline]
    pub fn deleting(&self, id: Id) {
        if let Some(place) = self.lanes.place(id) {
            self.cells[place.group as usize].holder.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_goes_through_all_groups_of_a_producer() {
        for (groups, producers, each) in [(1, 1, 1), (1, 2, 1), (6, 2, 3), (100, 3, 34), (1000, 1, 1000)] {
            let lanes = Lanes::new(groups, producers, 7);
            assert_eq!(lanes.of_each(), each);
            for round in 0..10 {
                let mut seen = vec![false; lanes.groups()];
                for producer in 0..producers as u16 {
                    let mut own = Vec::new();
                    for step in 0..each {
                        let place = lanes.place(Id::new(producer, round * each + step)).unwrap();
                        assert_eq!(u64::from(place.number), round);
                        assert!((place.lane as usize) < lanes.cells());
                        own.push(place.group);
                        seen[place.group as usize] = true;
                    }
                    own.sort_unstable();
                    own.dedup();
                    assert_eq!(own.len() as u64, each);
                }
                assert!(
                    seen.iter().all(|&seen| seen),
                    "{groups} groups, {producers} producers"
                );
            }
        }
        assert_eq!(Lanes::new(4, 2, 1).place(Id::new(2, 0)), None);
    }

    #[test]
    fn order_and_overtaking() {
        let order = Order::new(Lanes::new(1, 1, 1));
        let id = |number| Id::new(0, number);
        assert_eq!(order.received(id(0), 0), None);
        assert_eq!(order.received(id(1), 0), None);
        order.deleting(id(0));
        assert_eq!(order.received(id(3), 1), None, "2 may have been refused");
        order.deleting(id(3));
        assert_eq!(order.received(id(2), 0), Some(Wrong::OutOfOrder));
    }

    #[test]
    fn two_holders_of_a_group() {
        let order = Order::new(Lanes::new(1, 2, 1));
        assert_eq!(order.received(Id::new(0, 0), 0), None);
        assert_eq!(order.received(Id::new(1, 0), 1), Some(Wrong::GroupInFlight));
        order.deleting(Id::new(1, 0));
        assert_eq!(order.received(Id::new(0, 1), 1), None);
    }
}
