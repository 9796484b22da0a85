//! How many values may be remembered.
//!
//! A place is taken for each before anything else is done for it. Each list of what is remembered has some to give out, which it
//! gets many at a time: senders on several cores meet, and the budget is asked, once for many.

use crossbeam_utils::CachePadded;

use super::recent::LISTS;
use crate::{
    budget::Budget,
    sync::{Arc, AtomicU64, Ordering},
};

/// Places that a list gets at a time.
const CHUNK: u64 = if crate::config::TINY { 4 } else { 64 };

/// Places for values, taken or to be taken.
#[derive(Debug)]
pub(super) struct Places {
    /// Those of all lists, taken or not; counted in the budget.
    given: CachePadded<AtomicU64>,
    /// By list: those that are not taken.
    free: [CachePadded<AtomicU64>; LISTS],
    budget: Arc<Budget>,
    /// What a value is reckoned to take.
    bytes: u64,
    /// What the budget has no room for is not refused, only counted.
    forced: bool,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// As many as may be are taken.
    Full,
    /// There is no memory for more.
    OverBudget,
}

/// A place that was taken; unless it is filled it is given back.
#[derive(Debug)]
#[must_use = "it is given back at once"]
pub(super) struct Place<'p> {
    places: &'p Places,
    list: usize,
}

impl Place<'_> {
    /// Which list it is of.
    pub(super) fn list(&self) -> usize {
        self.list
    }

    /// It is used, until [`Places::give_back`].
    pub(super) fn fill(self) {
        std::mem::forget(self);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.places.give_back(self.list, 1);
    }
}

// Relaxed, throughout: counts, by which no memory is handed over. All are changed by read-modify-writes, so that no place is lost
// or given twice.
impl Places {
    pub(super) fn new(budget: Arc<Budget>, bytes: u64, forced: bool) -> Self {
        Self {
            given: CachePadded::new(AtomicU64::new(0)),
            free: std::array::from_fn(|_| CachePadded::new(AtomicU64::new(0))),
            budget,
            bytes,
            forced,
        }
    }

    /// How many are taken. Exact when nothing runs; while places are being given it may say too few.
    pub(super) fn taken(&self) -> u64 {
        let free: u64 = self.free.iter().map(|free| free.load(Ordering::Relaxed)).sum();
        self.given.load(Ordering::Relaxed).saturating_sub(free)
    }

    /// Takes a place, so that no more than `most` are taken then.
    pub(super) fn take(&self, hint: usize, most: u64) -> Result<Place<'_>, NoPlace> {
        let list = hint % LISTS;
        // More than there may be now were given only if that has been lowered.
        let is_within = self.given.load(Ordering::Relaxed) <= most;
        if !(is_within && self.take_free(list)) {
            self.grow(list, most).or_else(|_| {
                // Other lists may have some.
                self.reclaim();
                self.grow(list, most)
            })?;
        }
        Ok(Place { places: self, list })
    }

    fn take_free(&self, list: usize) -> bool {
        let one_less = |free: u64| free.checked_sub(1);
        self.free[list]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
    }

    /// Gives a list some more, of which one is taken at once.
    fn grow(&self, list: usize, most: u64) -> Result<(), NoPlace> {
        let mut more = 0;
        let given = self
            .given
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |given| {
                more = most.saturating_sub(given).min(CHUNK);
                (more > 0).then_some(given + more)
            });
        given.map_err(|_| NoPlace::Full)?;
        let bytes = (more * self.bytes) as usize;
        if self.forced {
            self.budget.force(bytes);
        } else if !self.budget.take(bytes) {
            self.given.fetch_sub(more, Ordering::Relaxed);
            return Err(NoPlace::OverBudget);
        }
        self.free[list].fetch_add(more - 1, Ordering::Relaxed);
        Ok(())
    }

    /// So many are free again.
    pub(super) fn give_back(&self, list: usize, places: u64) {
        self.free[list % LISTS].fetch_add(places, Ordering::Relaxed);
    }

    /// Takes back what is free, with its share of the budget.
    pub(super) fn reclaim(&self) {
        let free: u64 = self.free.iter().map(|free| free.swap(0, Ordering::Relaxed)).sum();
        if free > 0 {
            self.given.fetch_sub(free, Ordering::Relaxed);
            self.budget.give_back((free * self.bytes) as usize);
        }
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        let given = self.given.load(Ordering::Relaxed);
        self.budget.give_back((given * self.bytes) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(limit: u64) -> Places {
        Places::new(Arc::new(Budget::new(limit)), 10, false)
    }

    #[test]
    fn as_many_as_may_be_and_no_more() {
        let places = places(u64::MAX);
        for n in 0..100 {
            assert_eq!(places.taken(), n);
            places.take(n as usize, 100).unwrap().fill();
        }
        assert_eq!(places.take(0, 100).unwrap_err(), NoPlace::Full);
        places.give_back(5, 1);
        assert_eq!(places.taken(), 99);
        // Of another list than the one that has it.
        places.take(2, 100).unwrap().fill();
        assert_eq!(places.take(5, 100).unwrap_err(), NoPlace::Full);
    }

    #[test]
    fn lowered_it_holds_at_once() {
        let places = places(u64::MAX);
        for _ in 0..10 {
            places.take(0, 1000).unwrap().fill();
        }
        assert_eq!(places.take(0, 10).unwrap_err(), NoPlace::Full);
        assert_eq!(places.take(1, 5).unwrap_err(), NoPlace::Full);
        places.take(1, 11).unwrap().fill();
        assert_eq!(places.taken(), 11);
    }

    #[test]
    fn one_not_filled_is_given_back() {
        let places = places(u64::MAX);
        drop(places.take(0, 1).unwrap());
        assert_eq!(places.taken(), 0);
        places.take(3, 1).unwrap().fill();
    }

    #[test]
    fn what_is_given_is_counted_in_the_budget() {
        let places = places(CHUNK * 10 + 9);
        for _ in 0..CHUNK {
            places.take(0, u64::MAX).unwrap().fill();
        }
        assert_eq!(places.budget.read().used, CHUNK * 10);
        assert_eq!(places.take(0, u64::MAX).unwrap_err(), NoPlace::OverBudget);
        assert_eq!(places.taken(), CHUNK);
        places.give_back(0, CHUNK - 1);
        places.reclaim();
        assert_eq!(places.budget.read().used, 10);
        let budget = Arc::clone(&places.budget);
        drop(places);
        assert_eq!(budget.read().used, 0);
    }

    #[test]
    fn forced_it_is_counted_beyond_the_limit() {
        let places = Places::new(Arc::new(Budget::new(1)), 10, true);
        places.take(0, 3).unwrap().fill();
        assert_eq!((places.taken(), places.budget.read().used), (1, 30));
    }
}
