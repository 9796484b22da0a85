//! What is owed at the end of a call that deletes.

#![cfg_attr(
    not(loom),
    allow(unreachable_pub, reason = "public to the models only, see lib.rs")
)]

use super::stats::Stripe;
use crate::{
    ledger::{lease::Graves, reclaim::Pin},
    wait::Waiters,
};

/// The deletions of one call.
#[derive(Debug)]
pub struct Round<'t> {
    /// Slots to be counted dead.
    pub graves: Graves<'t>,
    /// Messages that were in flight; each of them is in `graves`.
    pub in_flight: u64,
}

impl<'t> Round<'t> {
    /// None yet.
    #[inline]
    pub const fn new() -> Self {
        Self {
            graves: Graves::new(),
            in_flight: 0,
        }
    }

    /// Counts them, and wakes as many of those who wait because too many are in flight. `stripe` is the caller's own.
    #[inline(always)]
    pub fn end<'s>(mut self, stripe: impl FnOnce() -> Option<&'s Stripe>, waiters: &Waiters, pin: &Pin<'_>) {
        if self.in_flight == 0 {
            return self.graves.fill(pin);
        }
        if let Some(stripe) = stripe() {
            stripe.deleted_in_flight.add(self.in_flight);
        }
        debug_assert!(
            !self.graves.is_empty(),
            "the last of them has not been counted dead"
        );
        // Between the count and the look, for it is a read-modify-write: see `Waiters::wake_crowded`.
        self.graves.fill(pin);
        waiters.wake_crowded(self.in_flight);
    }
}
