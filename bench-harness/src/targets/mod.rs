//! The queues under test, one to a file; what several are made of stands in `hand_over`, `one_mutex`, `guarded` and `slab`.

mod async_channel;
mod concurrent_queue;
mod crossbeam_channel;
mod crossfire;
mod disruptor;
mod epoq;
mod epoq_fifo;
mod epoq_queues;
mod flume;
mod guarded;
mod hand_over;
mod kanal;
mod locked;
mod locked_fifo;
mod locked_sharded;
mod locked_slab;
mod one_mutex;
mod rapidfire;
mod seg_queue;
mod slab;

use clap::ValueEnum;
use serde::Serialize;

pub use self::{
    async_channel::AsyncChannel, concurrent_queue::ConcurrentQueue, crossbeam_channel::CrossbeamChannel,
    crossfire::Crossfire, disruptor::Disruptor, epoq::Epoq, epoq_fifo::EpoqFifo, epoq_queues::EpoqQueues,
    flume::Flume, hand_over::HandOver, kanal::Kanal, locked::Locked, locked_fifo::LockedFifo,
    locked_sharded::LockedSharded, locked_slab::LockedSlab, rapidfire::Rapidfire, seg_queue::SegQueue,
};
use crate::{
    fifo::{
        FifoTarget,
        pass::{self as fifo_pass, FifoPass, FifoPlan},
    },
    plan::Plan,
    progress::Progress,
    run::{Pass, pass},
    target::Target,
};

/// A target by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TargetName {
    /// The ledger: lock-free, partitioned, epoch-reclaimed
    Epoq,
    /// The textbook: one mutex around a VecDeque, a HashMap of leases, a BTreeMap of deadlines
    Locked,
    /// The textbook made fast: one mutex around a VecDeque, a slab of leases, a list of them as they end
    LockedSlab,
    /// The obvious improvement: one such queue with a mutex per core; home first, then a random other
    LockedSharded,
    /// crossbeam_channel::unbounded; hand-over only, no lease
    CrossbeamChannel,
    /// crossbeam_queue::SegQueue; hand-over only, no lease
    SegQueue,
    /// flume::unbounded; hand-over only, no lease
    Flume,
    /// kanal::unbounded; hand-over only, no lease
    Kanal,
    /// concurrent_queue::ConcurrentQueue, unbounded; hand-over only, no lease
    ConcurrentQueue,
    /// async_channel::unbounded, without waiting; hand-over only, no lease
    AsyncChannel,
    /// crossfire::mpmc::unbounded_blocking; hand-over only, no lease
    Crossfire,
    /// rapidfire, unbounded, without waiting, its channel for one receiver where there is one; hand-over only, no lease
    Rapidfire,
    /// disruptor: a bounded ring with one consumer, which receivers take turns at; hand-over only, no lease
    Disruptor,
}

impl TargetName {
    /// The name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Epoq => Epoq::NAME,
            Self::Locked => Locked::NAME,
            Self::LockedSlab => LockedSlab::NAME,
            Self::LockedSharded => LockedSharded::NAME,
            Self::CrossbeamChannel => HandOver::<CrossbeamChannel>::NAME,
            Self::SegQueue => HandOver::<SegQueue>::NAME,
            Self::Flume => HandOver::<Flume>::NAME,
            Self::Kanal => HandOver::<Kanal>::NAME,
            Self::ConcurrentQueue => HandOver::<ConcurrentQueue>::NAME,
            Self::AsyncChannel => HandOver::<AsyncChannel>::NAME,
            Self::Crossfire => HandOver::<Crossfire>::NAME,
            Self::Rapidfire => Rapidfire::NAME,
            Self::Disruptor => Disruptor::NAME,
        }
    }

    /// What it is, in one line.
    pub fn describe(self) -> String {
        let value = self.to_possible_value();
        value
            .and_then(|value| value.get_help().map(ToString::to_string))
            .unwrap_or_default()
    }

    /// Whether it leases.
    pub const fn leases(self) -> bool {
        match self {
            Self::Epoq => Epoq::LEASES,
            Self::Locked => Locked::LEASES,
            Self::LockedSlab => LockedSlab::LEASES,
            Self::LockedSharded => LockedSharded::LEASES,
            Self::Disruptor => Disruptor::LEASES,
            // Bare queues, all of them.
            Self::CrossbeamChannel
            | Self::SegQueue
            | Self::Flume
            | Self::Kanal
            | Self::ConcurrentQueue
            | Self::AsyncChannel
            | Self::Crossfire
            | Self::Rapidfire => false,
        }
    }

    /// Whether it can do what the plan asks; the error is for the user.
    pub fn check(self, plan: &Plan) -> Result<(), String> {
        if !self.leases() && (plan.scenario.needs_leases() || plan.in_flight > 0) {
            let (name, scenario) = (self.name(), plan.scenario.name());
            return Err(format!(
                "{name} cannot do {scenario}: it is hand-over only and has no lease, so nothing is in flight or comes back"
            ));
        }
        if plan.queues > 1 && self != Self::Epoq {
            return Err(format!("{} has one queue: --queues is for epoq", self.name()));
        }
        if self == Self::Disruptor && plan.backlog > Disruptor::QUEUED_MAX as u64 {
            return Err(format!(
                "disruptor is a ring of {} places, of which {} are for what is queued: a --backlog of {} does not fit",
                Disruptor::CAPACITY,
                Disruptor::QUEUED_MAX,
                plan.backlog
            ));
        }
        Ok(())
    }

    /// One pass of this target: the one place where a name becomes a type.
    pub fn pass(self, plan: &Plan, progress: &dyn Progress) -> anyhow::Result<Pass> {
        match self {
            Self::Epoq if plan.queues > 1 => pass::<EpoqQueues>(plan, progress),
            Self::Epoq => pass::<Epoq>(plan, progress),
            Self::Locked => pass::<Locked>(plan, progress),
            Self::LockedSlab => pass::<LockedSlab>(plan, progress),
            Self::LockedSharded => pass::<LockedSharded>(plan, progress),
            Self::CrossbeamChannel => pass::<HandOver<CrossbeamChannel>>(plan, progress),
            Self::SegQueue => pass::<HandOver<SegQueue>>(plan, progress),
            Self::Flume => pass::<HandOver<Flume>>(plan, progress),
            Self::Kanal => pass::<HandOver<Kanal>>(plan, progress),
            Self::ConcurrentQueue => pass::<HandOver<ConcurrentQueue>>(plan, progress),
            Self::AsyncChannel => pass::<HandOver<AsyncChannel>>(plan, progress),
            Self::Crossfire => pass::<HandOver<Crossfire>>(plan, progress),
            Self::Rapidfire => pass::<Rapidfire>(plan, progress),
            Self::Disruptor => pass::<Disruptor>(plan, progress),
        }
    }
}

/// A target of the FIFO scenarios by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FifoTargetName {
    /// The ledger's FIFO queues
    Epoq,
    /// The textbook: one mutex around a HashMap of groups with a VecDeque each, a list of leases as they end, a HashMap of deduplication ids
    LockedFifo,
}

impl FifoTargetName {
    /// The name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Epoq => EpoqFifo::NAME,
            Self::LockedFifo => LockedFifo::NAME,
        }
    }

    /// What it is, in one line.
    pub fn describe(self) -> String {
        let value = self.to_possible_value();
        value
            .and_then(|value| value.get_help().map(ToString::to_string))
            .unwrap_or_default()
    }

    /// One pass of this target.
    pub fn pass(self, plan: &FifoPlan) -> anyhow::Result<FifoPass> {
        match self {
            Self::Epoq => fifo_pass::pass::<EpoqFifo>(plan),
            Self::LockedFifo => fifo_pass::pass::<LockedFifo>(plan),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for &target in TargetName::value_variants() {
            assert_eq!(target.to_possible_value().unwrap().get_name(), target.name());
            assert_eq!(target.describe().contains("no lease"), !target.leases());
        }
        for &target in FifoTargetName::value_variants() {
            assert_eq!(target.to_possible_value().unwrap().get_name(), target.name());
        }
    }
}
