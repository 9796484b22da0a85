//! How many partitions a queue uses: one at first, twice as many where workers meet, half as many where they have long not.
//!
//! Only routing changes, never where a message is. How it changes stands in `route.rs`; here is when.

use std::time::Duration;

use super::{
    Queue,
    era::Era,
    route::{Route, Routes},
};
use crate::{
    clock::Millis,
    ledger::traffic::Window,
    sync::{AtomicU64, Ordering},
    turn::Turn,
};

/// Messages a second and partition above which workers that meet there are worth a partition more.
const WIDEN_RATE: u64 = 200_000;
/// Time between two widenings in milliseconds.
const WIDEN_PAUSE_MS: u64 = 20;
/// Messages a second and partition below which a queue may be narrowed: a tenth of what widens it.
const NARROW_RATE: u64 = 20_000;
/// For how long it must have been below.
const NARROW_AFTER: Duration = Duration::from_secs(5);
/// Time between two looks at the rate, in milliseconds.
const CHECK_EVERY_MS: u64 = 1_000;

/// A queue's width, and what decides about it.
#[derive(Debug)]
pub(crate) struct Width {
    routes: Routes,
    least: usize,
    most: usize,
    changed: AtomicU64,
    checked: AtomicU64,
    sent_then: AtomicU64,
    busy_last: AtomicU64,
    /// How often the queue was widened and narrowed.
    widened: AtomicU64,
    narrowed: AtomicU64,
}

impl Width {
    /// Starts at `least` partitions, a power of two or `most`.
    pub(crate) fn new(least: usize, most: usize) -> Self {
        let least = least.clamp(1, most).next_power_of_two();
        Self {
            routes: Routes::new(least, least.min(most)),
            least,
            most,
            changed: AtomicU64::new(0),
            checked: AtomicU64::new(0),
            sent_then: AtomicU64::new(0),
            busy_last: AtomicU64::new(0),
            widened: AtomicU64::new(0),
            narrowed: AtomicU64::new(0),
        }
    }

    #[inline(always)]
    pub(crate) fn route(&self) -> Route {
        self.routes.now()
    }

    /// How many partitions senders use.
    pub(crate) fn now(&self) -> usize {
        (self.route().mask() + 1).min(self.most)
    }

    /// How often the queue was widened, and narrowed.
    pub(crate) fn changes(&self) -> (u64, u64) {
        // Relaxed, both: counters.
        (
            self.widened.load(Ordering::Relaxed),
            self.narrowed.load(Ordering::Relaxed),
        )
    }

    /// Judges a partition's traffic.
    fn judge(&self, window: Window, now: Millis) {
        let route = self.route();
        let width = route.mask() + 1;
        // Relaxed: only paces the changes.
        let pause = now.0.saturating_sub(self.changed.load(Ordering::Relaxed));
        if width >= self.most || !window.is_shared() || window.rate() < WIDEN_RATE || pause < WIDEN_PAUSE_MS {
            return;
        }
        self.widen(route, now);
    }

    fn widen(&self, route: Route, now: Millis) {
        if self.routes.widen(route, self.most) {
            self.note(&self.widened, now);
        }
    }

    /// Notes a change of the mask.
    fn note(&self, counter: &AtomicU64, now: Millis) {
        // Relaxed, both: a counter, and what paces the changes.
        counter.fetch_add(1, Ordering::Relaxed);
        self.changed.store(now.0, Ordering::Relaxed);
    }
}

impl Queue {
    /// Notes that a worker sends here, with every so many messages.
    #[cold]
    #[inline(never)]
    pub(crate) fn look_at_traffic(&self, era: &Era, turn: &Turn<'_>) {
        let number = turn.worker().home & self.inner.hot.width.route().mask();
        let now = turn.now();
        if let Some(partition) = era.partition(number, turn.pin())
            && let Some(window) = partition.traffic.look(turn.worker().number, now)
        {
            self.inner.hot.width.judge(window, now);
            self.check_width(era, turn, now);
        }
    }

    /// Narrows the queue if it has had little to do for a while, and takes partitions away that are of no use any more.
    pub(crate) fn check_width(&self, era: &Era, turn: &Turn<'_>, now: Millis) {
        let width = &self.inner.hot.width;
        // Relaxed, throughout: only paces the looks and the changes.
        let checked = width.checked.load(Ordering::Relaxed);
        let ms = now.0.saturating_sub(checked);
        if ms < CHECK_EVERY_MS {
            return;
        }
        if width
            .checked
            .compare_exchange(checked, now.0, Ordering::Relaxed, Ordering::Relaxed)
            .is_err()
        {
            return;
        }
        // What waits for a grace period, that of the mask among it, in domains where nothing happens; for all queues.
        if self.inner.shared.is_settling_due(now) {
            // One step: in a turn there are no more, and in a second it is due again.
            turn.pin().settle();
        }
        let route = width.route();
        if route.mask() < width.least && route.span() <= width.least {
            return;
        }
        let sent = era.stats.sum(|counters| &counters.sent);
        let before = width.sent_then.swap(sent, Ordering::Relaxed);
        // After a purge the counters begin anew.
        let rate = sent.checked_sub(before).unwrap_or(sent) * 1000 / ms.max(1);
        if rate >= NARROW_RATE * width.now() as u64 {
            width.busy_last.store(now.0, Ordering::Relaxed);
        }
        self.close_one(turn, route);
        let idle = now.since(Millis(
            width
                .busy_last
                .load(Ordering::Relaxed)
                .max(width.changed.load(Ordering::Relaxed)),
        ));
        if idle >= NARROW_AFTER {
            self.narrow(turn, now);
        }
    }

    fn narrow(&self, turn: &Turn<'_>, now: Millis) {
        let width = &self.inner.hot.width;
        let route = width.route();
        if route.mask() < width.least {
            return;
        }
        if let Some(settling) = width.routes.narrow(route) {
            width.note(&width.narrowed, now);
            // Once nobody is left who may have seen the old mask, this turn included: the next look sees it settled.
            turn.pin().defer_everywhere(0, move || settling.settle());
            turn.pin().settle();
        }
    }

    /// How often the queue was widened, and narrowed.
    #[doc(hidden)]
    #[must_use]
    pub fn width_changes(&self) -> (u64, u64) {
        self.inner.hot.width.changes()
    }

    /// Widens or narrows the queue, or takes a partition away, whatever the traffic. For tests.
    #[doc(hidden)]
    pub fn shake_width(&self) {
        self.in_passing(|turn| {
            let (width, now) = (&self.inner.hot.width, turn.now());
            let route = width.route();
            self.close_one(turn, route);
            if route.mask() + 1 < width.most && turn.worker().random_below(2) == 0 {
                width.widen(route, now);
            } else {
                self.narrow(turn, now);
            }
        });
    }

    /// Takes the last partition beyond the mask away, if it is empty and will stay so.
    fn close_one(&self, turn: &Turn<'_>, route: Route) {
        let pin = turn.pin();
        let drained = |last: usize| {
            // Read only now, and not the caller's: a sender that saw the old mask may have seen a newer era than that.
            let era = self.era(pin)?;
            let place = era.partitions.get(last)?;
            era.partition(last, pin)
                .is_none_or(|partition| partition.is_drained(pin))
                .then_some(place)
        };
        // Receives that still look there find an empty partition; handles of its messages find none, which means "gone".
        let is_closed = self.inner.hot.width.routes.close_last(route, drained, |place| {
            place.replace(None, pin, drop);
        });
        if is_closed {
            // It may be large, and there may be no next look.
            pin.settle();
        }
    }
}
