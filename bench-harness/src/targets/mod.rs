//! The queues under test, one to a file.

mod crossbeam_channel;
mod epoq;
mod epoq_fifo;
mod epoq_queues;
mod hand_over;
mod locked;
mod locked_fifo;
mod seg_queue;

use clap::ValueEnum;
use serde::Serialize;

pub use self::{
    crossbeam_channel::CrossbeamChannel, epoq::Epoq, epoq_fifo::EpoqFifo, epoq_queues::EpoqQueues,
    locked::Locked, locked_fifo::LockedFifo, seg_queue::SegQueue,
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
    /// crossbeam_channel::unbounded; hand-over only, no lease
    CrossbeamChannel,
    /// crossbeam_queue::SegQueue; hand-over only, no lease
    SegQueue,
}

impl TargetName {
    /// The name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Epoq => Epoq::NAME,
            Self::Locked => Locked::NAME,
            Self::CrossbeamChannel => CrossbeamChannel::NAME,
            Self::SegQueue => SegQueue::NAME,
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
            Self::CrossbeamChannel => CrossbeamChannel::LEASES,
            Self::SegQueue => SegQueue::LEASES,
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
        Ok(())
    }

    /// One pass of this target: the one place where a name becomes a type.
    pub fn pass(self, plan: &Plan, progress: &dyn Progress) -> anyhow::Result<Pass> {
        match self {
            Self::Epoq if plan.queues > 1 => pass::<EpoqQueues>(plan, progress),
            Self::Epoq => pass::<Epoq>(plan, progress),
            Self::Locked => pass::<Locked>(plan, progress),
            Self::CrossbeamChannel => pass::<CrossbeamChannel>(plan, progress),
            Self::SegQueue => pass::<SegQueue>(plan, progress),
        }
    }
}

/// A target of the FIFO scenarios by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FifoTargetName {
    /// The ledger's FIFO queues
    Epoq,
    /// The textbook: one mutex around a HashMap of groups with a VecDeque each, a BTreeSet of deadlines, a HashMap of deduplication ids
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
