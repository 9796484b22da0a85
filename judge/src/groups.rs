//! Whether the message groups of a FIFO queue are delivered in order: nothing comes while it, or what is before it in its group, is
//! certainly in flight, and nothing comes for the first time after what is behind it.
//!
//! As in the books, deliveries are entered late at times: a pair of them is judged when the second one is entered, whichever that is.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use crate::{Broken, Id, Moment};

/// Deliveries that a group remembers: more than can be under way at a time.
const REMEMBERED: usize = 256;

/// One delivery of a message of a group.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// The message.
    pub id: Id,
    /// Its number in its group's order.
    pub sequence: u128,
    /// Its receive count.
    pub receives: u32,
    /// The receive it is of.
    pub call: u64,
    /// That began then.
    pub before: Moment,
    /// It had returned by then.
    pub after: Moment,
    /// Its lease does not end before this, by the broker's clock.
    pub end_ms: u64,
}

/// A delivery, and since when its lease may not be running because its holder began to end it.
#[derive(Clone, Copy, Debug)]
struct Entered {
    delivery: Delivery,
    given_up: u64,
}

/// The groups of one queue, by number.
#[derive(Debug)]
pub struct Groups(Vec<Mutex<VecDeque<Entered>>>);

impl Groups {
    /// So many groups, of which nothing has been delivered.
    #[must_use]
    pub fn new(groups: usize) -> Self {
        Self((0..groups).map(|_| Mutex::default()).collect())
    }

    /// Enters a delivery; those of one answer in the order in which they stand there.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn enter(&self, group: usize, delivery: Delivery) -> Result<(), Broken> {
        let mut deliveries = self.0[group].lock().unwrap_or_else(PoisonError::into_inner);
        let entered = Entered {
            delivery,
            given_up: u64::MAX,
        };
        for other in &*deliveries {
            entered.judge(other)?;
        }
        if deliveries.len() == REMEMBERED {
            deliveries.pop_front();
        }
        deliveries.push_back(entered);
        Ok(())
    }

    /// Its holder is about to end a lease, or to have it end at `end_ms` already.
    pub fn give_up(&self, group: usize, id: Id, receives: u32, now: Moment, end_ms: u64) {
        let mut deliveries = self.0[group].lock().unwrap_or_else(PoisonError::into_inner);
        for entered in deliveries.iter_mut().rev() {
            let delivery = &mut entered.delivery;
            if delivery.id == id && delivery.receives == receives {
                delivery.end_ms = delivery.end_ms.min(end_ms);
                if end_ms <= now.ms {
                    entered.given_up = entered.given_up.min(now.tick);
                }
                return;
            }
        }
    }
}

impl Entered {
    /// Judges a pair; `other` was entered before.
    fn judge(&self, other: &Self) -> Result<(), Broken> {
        let (one, two) = (&self.delivery, &other.delivery);
        let broken = |why: &str| Err(Broken(format!("{why}: {self:?}, {other:?}")));
        if one.call == two.call {
            return if one.sequence > two.sequence {
                Ok(())
            } else {
                broken("one answer out of order")
            };
        }
        if one.came_during(other) || two.came_during(self) {
            return broken("came while what is before it was in flight");
        }
        if one.was_overtaken_by(two) || two.was_overtaken_by(one) {
            return broken("overtaken");
        }
        Ok(())
    }
}

impl Delivery {
    fn came_during(&self, lease: &Entered) -> bool {
        let Entered {
            delivery: lease,
            given_up,
        } = *lease;
        lease.sequence <= self.sequence
            && lease.after.tick < self.before.tick
            && self.after.tick < given_up
            && self.after.ms < lease.end_ms
    }

    fn was_overtaken_by(&self, later: &Self) -> bool {
        self.receives == 1 && self.sequence < later.sequence && later.after.tick < self.before.tick
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment { ms, tick: ms * 10 }
    }

    fn delivery(sequence: u128, receives: u32, call: u64, before: u64, end: u64) -> Delivery {
        Delivery {
            id: Id(sequence as u64),
            sequence,
            receives,
            call,
            before: at(before),
            after: at(before + 1),
            end_ms: end,
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
        groups.give_up(0, Id(1), 1, at(12), 12);
        assert_eq!(groups.enter(0, delivery(2, 1, 2, 12, 30)), Ok(()));
        assert!(
            groups.enter(0, delivery(2, 2, 3, 20, 40)).is_err(),
            "of the second one"
        );
    }
}
