//! Where senders send and receivers look, and how that changes without a message being left behind.
//!
//! ```text
//!  sender (pinned)                 narrower                         closer
//!    route                           route: mask lowered   (CAS)      settled == route ?  (Acquire)
//!    send to home & mask             once all have unpinned           the last partition is drained ?
//!  unpin                               settled = route  (Release)     route: closing, span lowered  (CAS)
//!                                                                     take the partition away
//!                                                                     route: closed  (CAS)
//! ```
//!
//! *Widening* raises the span, below which receives look, in the same word and step as the mask by which senders choose: nobody
//! sends to where nobody looks. *Narrowing* lowers the mask; the partitions beyond it drain, for receives still look at them.
//! Once every thread pinned at that time has unpinned, no sender that saw the old mask is left, and what is then found empty
//! stays empty: such a partition is taken away, the span lowered first. While that lasts (two steps of one thread) the queue
//! cannot widen; else a sender could be sent to the partition about to go.

#![cfg_attr(
    not(loom),
    allow(unreachable_pub, reason = "public to the models only, see lib.rs")
)]

use crate::sync::{Arc, AtomicU64, Ordering};

/// Where senders send and receivers look: `version:31 | closing:1 | span:16 | mask:16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route(pub u64);

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
    pub fn mask(self) -> usize {
        (self.0 & FIELD) as usize
    }

    /// All partitions that may have something in them have numbers below this.
    #[inline(always)]
    pub fn span(self) -> usize {
        (self.0 >> SPAN_SHIFT & FIELD) as usize
    }

    /// Whether a partition is being taken away.
    pub fn is_closing(self) -> bool {
        self.0 & CLOSING != 0
    }

    /// Another route, later than this one.
    #[must_use]
    pub fn then(self, width: usize, span: usize, closing: bool) -> Self {
        let version = (self.0 & !(VERSION - 1)).wrapping_add(VERSION);
        Self(version | if closing { CLOSING } else { 0 } | Self::new(width, span).0)
    }
}

/// A queue's route, and what is known of those who still go by an older one.
#[derive(Debug)]
pub struct Routes {
    /// The present one.
    pub route: AtomicU64,
    /// The latest route whose mask every sender has seen.
    pub settled: Arc<AtomicU64>,
}

/// What is to be done once nobody is pinned any more who was when the mask was lowered.
#[must_use = "a route that is never settled keeps its partitions"]
#[derive(Debug)]
pub struct Settling {
    settled: Arc<AtomicU64>,
    route: Route,
}

impl Routes {
    /// Senders use `width` partitions, receivers look at `span`.
    pub fn new(width: usize, span: usize) -> Self {
        Self {
            route: AtomicU64::new(Route::new(width, span).0),
            settled: Arc::new(AtomicU64::new(0)),
        }
    }

    /// The present one.
    #[inline(always)]
    pub fn now(&self) -> Route {
        // Acquire: who sends by a mask that was raised again finds taken away what was before; pairs with the Release of
        // `change`.
        Route(self.route.load(Ordering::Acquire))
    }

    /// Puts `to` in the place of `from`; `false` if somebody else has changed it.
    pub fn change(&self, from: Route, to: Route) -> bool {
        // Release: see `now`. What was released before goes on through this read-modify-write.
        self.route
            .compare_exchange(from.0, to.0, Ordering::Release, Ordering::Relaxed)
            .is_ok()
    }

    /// Doubles the width, to `most` partitions at most.
    pub fn widen(&self, from: Route, most: usize) -> bool {
        let width = 2 * (from.mask() + 1);
        let span = width.min(most).max(from.span());
        !from.is_closing() && self.change(from, from.then(width, span, false))
    }

    /// Halves the width. What it returns is to be settled once every thread pinned now has unpinned.
    pub fn narrow(&self, from: Route) -> Option<Settling> {
        let narrower = from.then(from.mask().div_ceil(2), from.span(), false);
        let narrowed = from.mask() > 0 && !from.is_closing() && self.change(from, narrower);
        narrowed.then(|| Settling {
            settled: Arc::clone(&self.settled),
            route: narrower,
        })
    }

    /// Takes the last partition beyond the mask away, if it is drained and will stay so. `drained` is given its number and
    /// returns it if it is; `take_away` is given that.
    pub fn close_last<P>(
        &self,
        from: Route,
        drained: impl FnOnce(usize) -> Option<P>,
        take_away: impl FnOnce(P),
    ) -> bool {
        let last = from.span().saturating_sub(1);
        // Acquire: every sender that saw the old mask has finished, and what it did is seen by `drained`; pairs with the Release
        // of `settle`.
        if last <= from.mask() || from.is_closing() || self.settled.load(Ordering::Acquire) != from.0 {
            return false;
        }
        let Some(partition) = drained(last) else {
            return false;
        };
        let closing = from.then(from.mask() + 1, last, true);
        if !self.change(from, closing) {
            return false;
        }
        take_away(partition);
        let closed = closing.then(closing.mask() + 1, last, false);
        // The mask is the same one. Relaxed: an RMW, so the release of the `settle` that we have acquired goes on in it.
        self.settled.fetch_max(closed.0, Ordering::Relaxed);
        let is_closed = self.change(closing, closed);
        debug_assert!(
            is_closed,
            "somebody changed the route while a partition was taken away"
        );
        true
    }
}

impl Settling {
    /// Every sender has seen the mask.
    pub fn settle(self) {
        // Release: see `close_last`. The maximum, for the version is on top: an earlier one may come later, and would keep the
        // partitions from being taken away.
        self.settled.fetch_max(self.route.0, Ordering::Release);
    }
}
