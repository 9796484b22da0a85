//! How many partitions a queue uses: one at first, twice as many where workers meet, half as many where they have long not.
//!
//! Only routing changes, never where a message is. *Widening* raises the span, below which receives look, in the same word
//! and step as the mask by which senders choose: nobody sends to where nobody looks. *Narrowing* goes in two steps. The mask is
//! lowered; the partitions beyond it drain, for receives still look at them. Once every thread pinned at that time has
//! unpinned, no sender that saw the old mask is left, and what is then found empty stays empty: such a partition is taken away,
//! the span lowered first. While that lasts (two steps of one thread) the queue cannot widen; else a sender could be sent to the
//! partition about to go.

use std::time::Duration;

use super::{Queue, era::Era};
use crate::{
    clock::Millis,
    ledger::traffic::Window,
    sync::{Arc, AtomicU64, Ordering},
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

/// Where senders send and receivers look: `version:31 | closing:1 | span:16 | mask:16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route(u64);

const SPAN_SHIFT: u32 = 16;
const FIELD: u64 = (1 << 16) - 1;
const CLOSING: u64 = 1 << 32;
const VERSION: u64 = 1 << 33;

// Every partition's number fits the fields.
const _: () = assert!(crate::config::PARTITIONS_MAX as u64 <= FIELD);

impl Route {
    fn new(width: usize, span: usize) -> Self {
        Self((span as u64) << SPAN_SHIFT | (width as u64 - 1))
    }

    /// A worker sends to the partition of its home's number under this mask.
    #[inline(always)]
    pub(crate) fn mask(self) -> usize {
        (self.0 & FIELD) as usize
    }

    /// All partitions that may have something in them have numbers below this.
    #[inline(always)]
    pub(crate) fn span(self) -> usize {
        (self.0 >> SPAN_SHIFT & FIELD) as usize
    }

    fn is_closing(self) -> bool {
        self.0 & CLOSING != 0
    }

    /// Another route, later than this one.
    fn then(self, width: usize, span: usize, closing: bool) -> Self {
        let version = (self.0 & !(VERSION - 1)).wrapping_add(VERSION);
        Self(version | if closing { CLOSING } else { 0 } | Self::new(width, span).0)
    }
}

/// A queue's width, and what decides about it.
#[derive(Debug)]
pub(crate) struct Width {
    route: AtomicU64,
    least: usize,
    most: usize,
    changed: AtomicU64,
    checked: AtomicU64,
    sent_then: AtomicU64,
    busy_last: AtomicU64,
    /// The route with the lowered mask that every sender has seen.
    settled: Arc<AtomicU64>,
    /// How often the queue was widened and narrowed.
    widened: AtomicU64,
    narrowed: AtomicU64,
}

impl Width {
    /// Starts at `least` partitions, a power of two or `most`.
    pub(crate) fn new(least: usize, most: usize) -> Self {
        let least = least.clamp(1, most).next_power_of_two();
        Self {
            route: AtomicU64::new(Route::new(least, least.min(most)).0),
            least,
            most,
            changed: AtomicU64::new(0),
            checked: AtomicU64::new(0),
            sent_then: AtomicU64::new(0),
            busy_last: AtomicU64::new(0),
            settled: Arc::new(AtomicU64::new(0)),
            widened: AtomicU64::new(0),
            narrowed: AtomicU64::new(0),
        }
    }

    #[inline(always)]
    pub(crate) fn route(&self) -> Route {
        // Acquire: who sends by this mask has the span raised before; pairs with the Release of `change`.
        Route(self.route.load(Ordering::Acquire))
    }

    fn change(&self, from: Route, to: Route, now: Millis) -> bool {
        // SeqCst: a waiter that has not seen the span raised will be seen by whoever sends by it, see `wait.rs`; Release: see
        // `route`. A failure means that somebody else has changed it.
        let changed = self
            .route
            .compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok();
        if changed {
            // Relaxed: only paces the changes.
            self.changed.store(now.0, Ordering::Relaxed);
        }
        changed
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
        if width >= self.most
            || !window.is_shared()
            || window.rate() < WIDEN_RATE
            || pause < WIDEN_PAUSE_MS
            || route.is_closing()
        {
            return;
        }
        self.widen(route, now);
    }

    fn widen(&self, route: Route, now: Millis) {
        let width = 2 * (route.mask() + 1);
        let span = width.min(self.most).max(route.span());
        if self.change(route, route.then(width, span, false), now) {
            // Relaxed: a counter.
            self.widened.fetch_add(1, Ordering::Relaxed);
        }
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
        let route = width.route();
        if ms < CHECK_EVERY_MS || (route.mask() < width.least && route.span() <= width.least) {
            return;
        }
        if width
            .checked
            .compare_exchange(checked, now.0, Ordering::Relaxed, Ordering::Relaxed)
            .is_err()
        {
            return;
        }
        let sent = era.stats.sum(|counters| &counters.sent);
        let before = width.sent_then.swap(sent, Ordering::Relaxed);
        // After a purge the counters begin anew.
        let rate = sent.checked_sub(before).unwrap_or(sent) * 1000 / ms.max(1);
        if rate >= NARROW_RATE * width.now() as u64 {
            width.busy_last.store(now.0, Ordering::Relaxed);
        }
        self.close_one(era, turn, route);
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
        if route.mask() < width.least || route.is_closing() {
            return;
        }
        let narrower = route.then(route.mask().div_ceil(2), route.span(), false);
        if width.change(route, narrower, now) {
            // Relaxed: a counter.
            width.narrowed.fetch_add(1, Ordering::Relaxed);
            let settled = Arc::clone(&width.settled);
            // Once nobody is left who may have seen the old mask. Release: see `close_one`.
            turn.pin()
                .defer(0, move || settled.store(narrower.0, Ordering::Release));
            turn.pin().flush();
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
            let Some(era) = self.era(turn.pin()) else { return };
            let (width, now) = (&self.inner.hot.width, turn.now());
            let route = width.route();
            self.close_one(era, turn, route);
            if route.mask() + 1 < width.most && !route.is_closing() && turn.worker().random_below(2) == 0 {
                width.widen(route, now);
            } else {
                self.narrow(turn, now);
            }
        });
    }

    /// Takes the last partition beyond the mask away, if it is empty and will stay so.
    fn close_one(&self, era: &Era, turn: &Turn<'_>, route: Route) {
        let width = &self.inner.hot.width;
        let last = route.span().saturating_sub(1);
        // Acquire: every sender that saw the old mask has finished, and what it did is seen here; pairs with the closure's
        // Release.
        if last <= route.mask() || route.is_closing() || width.settled.load(Ordering::Acquire) != route.0 {
            return;
        }
        let Some(place) = era.partitions.get(last) else {
            return;
        };
        if place
            .get(turn.pin())
            .is_some_and(|partition| !partition.is_drained(turn.pin()))
        {
            return;
        }
        let closing = route.then(route.mask() + 1, last, true);
        let now = turn.now();
        // The time of the last change stays: this is none of the width.
        let changed = width.changed.load(Ordering::Relaxed);
        if !width.change(route, closing, now) {
            return;
        }
        // Receives that still look there find an empty partition; handles of its messages find none, which means "gone".
        place.replace(None, turn.pin(), drop);
        let closed = closing.then(closing.mask() + 1, last, false);
        // The settled mask is the same one.
        width.settled.store(closed.0, Ordering::Release);
        width.change(closing, closed, now);
        width.changed.store(changed, Ordering::Relaxed);
    }
}
