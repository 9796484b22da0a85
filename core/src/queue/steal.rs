//! Which partition a receive looks at: home, an older one, then everybody else's. A worker that finds nothing at home goes on
//! where it found something last, as if that were its home, until there is nothing left or one that is older.

use crate::{
    clock::Millis,
    config::WORDS,
    ledger::{partition::Partition, reclaim::Pin},
    queue::stats::{Counter, Stripe},
    sync::Ordering,
    worker::WorkerCore,
};

/// How much older another partition's oldest message must be before a receive goes there instead of home: below
/// that, going home is cheaper than it is unfair.
const OLDER_BY_MS: u64 = 5;
/// Single receives between two looks at another partition's age; batches look two times in three. Odd, as are the others, so that
/// the receives that go elsewhere are now those that look at `returned` first, now those that look at the head first.
const LOOK_EVERY: u32 = 7;
/// Batches that look at no other partition's age and begin where the worker is, one in so many, unless it is their turn to escape:
/// what is older elsewhere may be messages that come back again and again.
const BASE_EVERY: u32 = 3;
/// Receives between two visits to a partition that has something, while messages come back at home.
const ESCAPE_EVERY: u32 = 31;
/// The same of a worker that has gone elsewhere, to where there may be nothing but what comes back.
const ESCAPE_AWAY_EVERY: u32 = 3;
/// Receives between two that begin at home, of a worker that has gone elsewhere: should the hint be wrong that there is nothing.
const AWAY_MAX: u32 = 127;
/// Receives between two visits to a random partition whatever its hints say, should they be wrong. A visit takes messages
/// from under their own core's hands, whose next receive is then short, and so on: two cores at home are best left alone.
const VISIT_EVERY: u32 = 1021;

/// A worker that is about to receive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seeker<'s> {
    pub(crate) worker: &'s WorkerCore,
    /// Where it sends to.
    pub(crate) home: usize,
    /// See [`Stripe`]; without counters of its own it is always at home.
    pub(crate) stripe: Option<&'s Stripe>,
    pub(crate) partitions: usize,
    /// The receive's number.
    pub(crate) receive: u32,
}

impl Seeker<'_> {
    /// Where it begins if it looks at nothing else: at home, or while there is nothing, where it found something last.
    ///
    /// Those that consume only have nothing at home. Each would go from one random partition to the next, and share all lines with
    /// all others; like this it shares one partition's, mostly with who sends there.
    #[inline(always)]
    pub(crate) fn base<'q>(&self, find: impl Fn(usize) -> Option<&'q Partition>) -> usize {
        match self.elsewhere() {
            Some(there) if !self.comes_home() => match find(self.home) {
                Some(home) if has_something(home) || home.is_sweep_due(self.worker.last_seen()) => self.home,
                _ => there,
            },
            _ => self.home,
        }
    }

    /// Where it found something last that is not its home, or seemed to.
    #[inline(always)]
    fn elsewhere(&self) -> Option<usize> {
        self.place(&self.stripe?.elsewhere)
    }

    /// A partition that is noted in its counters, if that is still in use.
    #[inline(always)]
    fn place(&self, counter: &Counter) -> Option<usize> {
        let there = counter.read().checked_sub(1)? as usize;
        (there < self.partitions).then_some(there)
    }

    /// Whether this receive looks at home whatever the hints say.
    #[inline(always)]
    const fn comes_home(&self) -> bool {
        self.receive.is_multiple_of(AWAY_MAX)
    }

    /// Where it goes on that has looked at `first` in vain: where it would have begun had something else not seemed better, or where it
    /// was before that.
    #[cold]
    pub(crate) fn back<'q>(
        &self,
        first: usize,
        find: impl Fn(usize) -> Option<&'q Partition>,
    ) -> Option<usize> {
        let stripe = self.stripe?;
        [
            Some(self.base(find)),
            self.elsewhere(),
            self.place(&stripe.before),
        ]
        .into_iter()
        .flatten()
        .find(|&there| there != first)
    }

    /// The partition to look at first.
    #[inline(always)]
    pub(crate) fn first<'q>(
        &self,
        max: usize,
        pin: &Pin<'_>,
        find: impl Fn(usize) -> Option<&'q Partition>,
    ) -> usize {
        if self.partitions == 1 {
            return self.home;
        }
        let mut base = self.home;
        if let Some(there) = self.elsewhere() {
            let home = find(base);
            if home.is_some_and(has_something) {
                self.stays_at_home();
            } else if self.comes_home() {
                return base;
            // What is due at home is not left to others.
            } else if !home.is_some_and(|home| home.is_sweep_due(self.worker.last_seen())) {
                base = there;
            }
        }
        self.first_from(base, max, pin, find)
    }

    #[inline]
    fn first_from<'q>(
        &self,
        base: usize,
        max: usize,
        pin: &Pin<'_>,
        find: impl Fn(usize) -> Option<&'q Partition>,
    ) -> usize {
        let (worker, receive) = (self.worker, self.receive);
        if receive.is_multiple_of(VISIT_EVERY) {
            return other_than(base, worker, self.partitions);
        }
        let is_away = base != self.home;
        let looks = if max == 1 {
            // Who has nothing at home may be all that some partitions have: if its receives are few, each one looks.
            receive.is_multiple_of(LOOK_EVERY) || is_away && self.is_another_ms()
        } else {
            !receive.is_multiple_of(BASE_EVERY)
        };
        let sees_returns = || find(base).is_some_and(|here| here.sees_returns(pin));
        let escapes = if is_away {
            // First, for those lines are at hand.
            receive.is_multiple_of(ESCAPE_AWAY_EVERY) && sees_returns()
        } else {
            receive.is_multiple_of(ESCAPE_EVERY)
        };
        if !looks && !escapes {
            return base;
        }
        let other = other_than(base, worker, self.partitions);
        let Some(there) = find(other) else { return base };
        let here = find(base);
        // Older messages, or any if there is only what comes back here.
        let is_better = there.oldest().saturating_add(OLDER_BY_MS)
            < here.map_or(Millis::NEVER.0, Partition::oldest)
            || escapes
                && there.oldest() != Millis::NEVER.0
                // Last, for it may have to look at all that has come back.
                && if is_away { !here.is_some_and(|here| here.sees_new(pin)) } else { sees_returns() };
        if is_better {
            // The place to go on, too, while nothing is at home.
            self.goes_on_at(other);
            other
        // Or leases whose end nobody there has noticed.
        } else if there.is_sweep_due(worker.last_seen()) {
            other
        } else {
            base
        }
    }

    /// Whether a millisecond has gone by, by the worker's receives, since this was asked last.
    #[inline]
    fn is_another_ms(&self) -> bool {
        let now = self.worker.last_seen().0;
        self.stripe.is_some_and(|stripe| {
            let is_another = stripe.looked_at.read() != now;
            if is_another {
                stripe.looked_at.set(now);
            }
            is_another
        })
    }

    /// There is something at home again, so that is its place. Who sends there too, and was early or late once, must not look for its own
    /// message always at the same other one's home, whose worker then looks at the next one's, and so on in a ring for ever: at random, all
    /// come to the partition that has one too many.
    #[cold]
    fn stays_at_home(&self) {
        if let Some(stripe) = self.stripe {
            stripe.elsewhere.set(0);
            stripe.before.set(0);
        }
    }

    /// It found something in this partition, or goes there to.
    #[cold]
    pub(crate) fn goes_on_at(&self, partition: usize) {
        let Some(stripe) = self.stripe else { return };
        let before = stripe.elsewhere.read();
        if partition != self.home && before != partition as u64 + 1 {
            stripe.before.set(before);
            stripe.elsewhere.set(partition as u64 + 1);
        }
    }
}

/// Whether a partition's hint says that messages are there to be received.
#[inline(always)]
fn has_something(partition: &Partition) -> bool {
    partition.oldest() != Millis::NEVER.0
}

/// A random partition that is not `this` one; there are at least two.
#[inline]
pub(crate) fn other_than(this: usize, worker: &WorkerCore, partitions: usize) -> usize {
    let other = worker.random_below(partitions - 1);
    if other < this { other } else { other + 1 }
}

/// Every partition once, from a random one on, in steps of a random length: one after the other, whichever follows some that are
/// empty would be found by the receives that begin at any of them.
pub(crate) fn all(worker: &WorkerCore, partitions: usize) -> impl Iterator<Item = usize> + use<> {
    // Odd steps come to each number below a power of two, and at most half of those are no partition's.
    let numbers = partitions.next_power_of_two();
    let start = worker.random_below(numbers);
    let step = worker.random_below(numbers) | 1;
    (0..numbers)
        .map(move |nth| start.wrapping_add(nth.wrapping_mul(step)) & (numbers - 1))
        .filter(move |&number| number < partitions)
}

impl Partition {
    /// About when the oldest message to be received was sent; `NEVER` if a receiver found none.
    #[inline]
    pub(crate) fn oldest(&self) -> u64 {
        // Relaxed: a hint; see `Head::oldest`.
        self.head.oldest.load(Ordering::Relaxed)
    }

    /// Whether messages come back here: on `returned`, or in the segment at the head.
    fn sees_returns(&self, pin: &Pin<'_>) -> bool {
        pin.enter(self.domain);
        !self.returned.is_empty(pin) || self.first(pin).ready.has_returned()
    }

    /// Whether there are messages that nobody has received yet: in the segment at the head, or in further ones.
    #[cold]
    fn sees_new(&self, pin: &Pin<'_>) -> bool {
        pin.enter(self.domain);
        let first = self.first(pin);
        // Relaxed: a hint. Last, for that is the sender's line.
        (0..WORDS).any(|word| first.has_new_token(word))
            || !first.header.next.load(Ordering::Relaxed).is_null()
    }

    /// Notes that a receiver found nothing at `now`, unless there was a message in the same millisecond. Returns whether that is
    /// news: then a message may have come between the look and the note, and its sender have found the hint still set; the
    /// caller looks once more.
    #[inline]
    pub(crate) fn note_empty(&self, now: Millis) -> bool {
        // Relaxed: a hint; that a lost race leaves a message behind a wrong one is what VISIT_EVERY is for.
        let oldest = self.oldest();
        oldest != Millis::NEVER.0
            && oldest < now.0
            && self.head.oldest.swap(Millis::NEVER.0, Ordering::Relaxed) != Millis::NEVER.0
    }
}

#[cfg(all(test, not(any(loom, shuttle, stalls))))]
mod tests {
    use std::time::Duration;

    use super::{AWAY_MAX, all};
    use crate::{Broker, QueueConfig, clock::Millis, sync::Ordering};

    /// A race leaves a message behind a hint that says no; who has gone elsewhere finds it nevertheless, while there is enough where it is.
    #[test]
    fn a_wrong_hint_at_home_is_found_out() {
        for max in [1, 10] {
            let broker = Broker::builder().partitions(2).min_width(2).build().unwrap();
            let queue = broker.create_queue("q", QueueConfig::default()).unwrap();
            let send = |home, body: &[u8]| {
                let worker = broker.worker_at(home).unwrap();
                worker.turn(|turn| turn.send(&queue, body).unwrap());
            };
            for _ in 0..40 * AWAY_MAX {
                send(0, b"there");
            }
            let consumer = broker.worker_at(1).unwrap();
            let receive = || queue.receive(max, Duration::from_secs(30)).unwrap();
            assert!(receive().iter().all(|message| message.body() == b"there"));
            send(1, b"home");
            queue.in_turn(|turn| {
                let era = queue.era(turn.pin()).unwrap();
                let home = era.glance(1, turn.pin()).unwrap();
                home.head.oldest.store(Millis::NEVER.0, Ordering::Relaxed);
            });
            let found =
                (0..4 * AWAY_MAX).position(|_| receive().iter().any(|message| message.body() == b"home"));
            assert!(
                found.is_some_and(|found| found <= AWAY_MAX as usize),
                "{found:?}, {max} at a time"
            );
            drop(consumer);
        }
    }

    #[test]
    fn every_partition_is_looked_at_once() {
        let broker = Broker::new();
        let queue = broker.create_queue("q", QueueConfig::default()).unwrap();
        queue.in_turn(|turn| {
            for partitions in (1..70).chain([1000, 1024]) {
                for _ in 0..50 {
                    let mut numbers: Vec<_> = all(turn.worker(), partitions).collect();
                    numbers.sort_unstable();
                    assert!(numbers.into_iter().eq(0..partitions), "of {partitions}");
                }
            }
        });
    }
}
