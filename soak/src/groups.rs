//! Whether the message groups of a FIFO queue are delivered in order: nothing comes while it, or what is before it in its group, is
//! certainly in flight, and nothing comes for the first time after what is behind it.
//!
//! As in the books, deliveries are entered late at times: a pair of them is judged when the second one is entered, whichever that is.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use crate::books::{Broken, Id};

/// Deliveries that a group remembers: more than can be under way at a time.
const REMEMBERED: usize = 256;

/// One delivery of a message of a group, in milliseconds of the broker's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) id: Id,
    pub(crate) sequence: u128,
    pub(crate) receives: u32,
    /// The receive it is of.
    pub(crate) call: u64,
    pub(crate) before: u64,
    pub(crate) after: u64,
    /// Its lease does not end before this.
    pub(crate) end: u64,
}

/// The groups of one queue, by number.
#[derive(Debug)]
pub(crate) struct Groups(Vec<Mutex<VecDeque<Delivery>>>);

impl Groups {
    pub(crate) fn new(groups: usize) -> Self {
        Self((0..groups).map(|_| Mutex::default()).collect())
    }

    /// Enters a delivery; those of one answer in the order in which they stand there.
    pub(crate) fn enter(&self, group: usize, delivery: Delivery) -> Result<(), Broken> {
        let mut deliveries = self.0[group].lock().unwrap_or_else(PoisonError::into_inner);
        for other in &*deliveries {
            delivery.judge(other)?;
        }
        if deliveries.len() == REMEMBERED {
            deliveries.pop_front();
        }
        deliveries.push_back(delivery);
        Ok(())
    }

    /// Its holder is about to end a lease, at `now`.
    pub(crate) fn give_up(&self, group: usize, id: Id, receives: u32, now: u64) {
        let mut deliveries = self.0[group].lock().unwrap_or_else(PoisonError::into_inner);
        for delivery in deliveries.iter_mut().rev() {
            if delivery.id == id && delivery.receives == receives {
                delivery.end = delivery.end.min(now);
                return;
            }
        }
    }
}

impl Delivery {
    /// Judges a pair; `other` was entered before.
    fn judge(&self, other: &Self) -> Result<(), Broken> {
        let broken = |why: &str| Err(Broken(format!("{why}: {self:?}, {other:?}")));
        if self.call == other.call {
            return if self.sequence > other.sequence {
                Ok(())
            } else {
                broken("one answer out of order")
            };
        }
        if self.came_during(other) || other.came_during(self) {
            return broken("came while what is before it was in flight");
        }
        if self.was_overtaken_by(other) || other.was_overtaken_by(self) {
            return broken("overtaken");
        }
        Ok(())
    }

    fn came_during(&self, lease: &Self) -> bool {
        lease.sequence <= self.sequence && lease.after < self.before && self.after < lease.end
    }

    fn was_overtaken_by(&self, later: &Self) -> bool {
        self.receives == 1 && self.sequence < later.sequence && later.after < self.before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(sequence: u128, receives: u32, call: u64, before: u64, end: u64) -> Delivery {
        Delivery {
            id: Id(sequence as u64),
            sequence,
            receives,
            call,
            before,
            after: before + 1,
            end,
        }
    }

    fn judge(deliveries: &[Delivery]) -> Result<(), Broken> {
        let groups = Groups::new(1);
        deliveries
            .iter()
            .try_for_each(|&delivery| groups.enter(0, delivery))
    }

    #[test]
    fn order_is_judged_whatever_is_entered_first() {
        let good = [
            delivery(1, 1, 1, 10, 20),
            delivery(2, 1, 1, 10, 30),
            delivery(1, 2, 2, 20, 40),
            delivery(2, 2, 3, 39, 50),
        ];
        assert_eq!(judge(&good), Ok(()));
        for (why, pair) in [
            (
                "in flight",
                [delivery(1, 1, 1, 10, 20), delivery(2, 1, 2, 12, 30)],
            ),
            (
                "in flight",
                [delivery(1, 1, 1, 10, 20), delivery(1, 2, 2, 12, 30)],
            ),
            (
                "overtaken",
                [delivery(2, 1, 1, 10, 20), delivery(1, 1, 2, 30, 40)],
            ),
            (
                "out of order",
                [delivery(2, 1, 1, 10, 20), delivery(1, 1, 1, 10, 20)],
            ),
        ] {
            let sees = |pair: &[Delivery]| judge(pair).is_err_and(|Broken(broken)| broken.contains(why));
            assert!(sees(&pair), "{pair:?}");
            if pair[0].call != pair[1].call {
                assert!(sees(&[pair[1], pair[0]]), "{pair:?}");
            }
        }
    }

    #[test]
    fn a_lease_given_up_is_over() {
        let groups = Groups::new(1);
        groups.enter(0, delivery(1, 1, 1, 10, 100)).unwrap();
        groups.give_up(0, Id(1), 1, 12);
        assert_eq!(groups.enter(0, delivery(2, 1, 2, 12, 30)), Ok(()));
    }
}
