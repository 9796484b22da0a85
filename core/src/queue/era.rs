//! What a queue's messages live in, from its creation or last purge to the next purge or its deletion.
//!
//! A purge puts another era in the place of this one. That is one atomic step: whatever was accepted before it is gone in
//! all states and all partitions at that instant, and nothing accepted after it is. Handles of the old era find nothing in
//! the new one, for serials go on.

use std::convert::Infallible;

#[cfg(not(loom))]
use super::fifo::Fifo;
use super::stats::Stats;
use crate::{
    ledger::{
        graveyard::Graveyard,
        partition::Partition,
        published::Published,
        reclaim::{Domain, Pin, Spread},
        tenants::Tenants,
    },
    sync::Arc,
};

/// Partitions and counters of one era.
#[derive(Debug)]
pub(crate) struct Era {
    /// By number; each is made by the first send to it.
    pub(crate) partitions: Box<[Published<Partition>]>,
    /// Shared with the queue's memory of the past, which sums the counters up when the era is over.
    pub(crate) stats: Arc<Stats>,
    /// Made by the first send with a message group; see [`Era::tenants`].
    tenants: Published<Tenants>,
    /// Which domains the partitions are in.
    spread: Spread,
    /// What a FIFO queue has besides.
    #[cfg(not(loom))]
    fifo: Option<Box<Fifo>>,
}

impl Era {
    pub(crate) fn new(partitions: usize) -> Self {
        Self {
            partitions: (0..partitions).map(|_| Published::empty()).collect(),
            stats: Arc::new(Stats::new()),
            tenants: Published::empty(),
            spread: Spread::APART,
            #[cfg(not(loom))]
            fifo: None,
        }
    }

    #[cfg(not(loom))]
    pub(crate) fn with_fifo(self, fifo: Option<Box<Fifo>>) -> Self {
        let spread = Spread::of(fifo.is_some());
        Self { fifo, spread, ..self }
    }

    /// What a FIFO queue has besides.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn fifo(&self, pin: &Pin<'_>) -> Option<&Fifo> {
        let fifo = self.fifo.as_deref()?;
        // All that it has is there, its partitions too.
        pin.enter(Domain::SHARED);
        Some(fifo)
    }

    /// A partition, to be operated on: its domain is entered.
    #[inline(always)]
    pub(crate) fn partition<'t>(&'t self, number: usize, pin: &'t Pin<'_>) -> Option<&'t Partition> {
        // There being none, a worker that only steals need not pin its home's domain.
        let partition = self.glance(number, pin)?;
        pin.enter(self.domain(number));
        Some(partition)
    }

    /// Where a partition is.
    #[inline(always)]
    pub(crate) fn domain(&self, number: usize) -> Domain {
        self.spread.domain(number as u32)
    }

    /// A partition of which only the hints are to be read: those that no memory stands behind.
    #[inline(always)]
    pub(crate) fn glance<'t>(&'t self, number: usize, pin: &'t Pin<'_>) -> Option<&'t Partition> {
        self.partitions.get(number)?.get(pin)
    }

    /// The partitions there are, each to be operated on. The domains of those that have been looked at are entered.
    pub(crate) fn all<'t>(&'t self, pin: &'t Pin<'_>) -> impl Iterator<Item = &'t Partition> {
        (0..self.partitions.len()).filter_map(|number| self.partition(number, pin))
    }

    /// As [`Era::glance`], of all.
    pub(crate) fn glances<'t>(&'t self, pin: &'t Pin<'_>) -> impl Iterator<Item = &'t Partition> {
        self.partitions.iter().filter_map(|place| place.get(pin))
    }

    /// The tenants, if there are any: their lines are in the shared domain, which is entered.
    pub(crate) fn tenants<'t>(&'t self, pin: &'t Pin<'_>) -> Option<&'t Tenants> {
        let tenants = self.tenants.get(pin)?;
        pin.enter_besides(Domain::SHARED);
        Some(tenants)
    }

    /// Whether messages of message groups have been sent in it.
    #[inline(always)]
    pub(crate) fn is_fair(&self) -> bool {
        self.tenants.is_some()
    }

    /// As [`Era::tenants`], made now if there are none.
    pub(crate) fn tenants_or<'t>(
        &'t self,
        pin: &'t Pin<'_>,
        make: impl FnOnce() -> Arc<Tenants>,
    ) -> &'t Tenants {
        pin.enter_besides(Domain::SHARED);
        let Ok(tenants) = self.tenants.get_or_try(pin, || Ok::<_, Infallible>(make()));
        tenants
    }

    /// A share in the tenants.
    pub(crate) fn share_tenants(&self, pin: &Pin<'_>) -> Option<Arc<Tenants>> {
        self.tenants.share(pin)
    }

    /// Gives the partitions of an era that nobody can be using any more to the graveyard. O(partitions).
    pub(crate) fn bury(mut self, graveyard: &Graveyard) {
        self.partitions
            .iter_mut()
            .filter_map(Published::take)
            .for_each(|partition| graveyard.put(partition));
        #[cfg(not(loom))]
        if let Some(fifo) = self.fifo.take() {
            graveyard.put_besides(fifo);
        }
    }
}
