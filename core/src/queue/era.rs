//! What a queue's messages live in, from its creation or last purge to the next purge or its deletion.
//!
//! A purge puts another era in the place of this one. That is one atomic step: whatever was accepted before it is gone in
//! all states and all partitions at that instant, and nothing accepted after it is. Handles of the old era find nothing in
//! the new one, for serials go on.

#[cfg(not(loom))]
use super::fifo::Fifo;
use super::stats::Stats;
use crate::{
    ledger::{
        graveyard::Graveyard, partition::Partition, published::Published, reclaim::Pin, tenants::Tenants,
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
    /// Made by the first send with a message group.
    pub(crate) tenants: Published<Tenants>,
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
            #[cfg(not(loom))]
            fifo: None,
        }
    }

    #[cfg(not(loom))]
    pub(crate) fn with_fifo(self, fifo: Option<Box<Fifo>>) -> Self {
        Self { fifo, ..self }
    }

    /// What a FIFO queue has besides.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn fifo(&self) -> Option<&Fifo> {
        self.fifo.as_deref()
    }

    #[inline(always)]
    pub(crate) fn partition<'t>(&'t self, number: usize, pin: &'t Pin<'_>) -> Option<&'t Partition> {
        self.partitions.get(number)?.get(pin)
    }

    /// The partitions there are.
    pub(crate) fn all<'t>(&'t self, pin: &'t Pin<'_>) -> impl Iterator<Item = &'t Partition> {
        self.partitions.iter().filter_map(|place| place.get(pin))
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
