//! Experiments: one plan, one or more targets, several passes – interleaved, so that a machine that changes its mood between
//! passes does so to all targets alike.

use std::collections::HashMap;

pub use crate::ratio::Ratio;
use crate::{
    noise::Noise,
    overhead,
    placement::{self, Placed},
    plan::Plan,
    progress::Progress,
    run::Pass,
    targets::TargetName,
};

/// A plan for some targets.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// What every pass does.
    pub plan: Plan,
    /// On what; ratios are of the first over each other.
    pub targets: Vec<TargetName>,
    /// How often.
    pub passes: usize,
}

/// All passes of one target.
#[derive(Clone, Debug)]
pub struct Series {
    /// Which target.
    pub target: TargetName,
    /// Arrivals per second, where each target has its own; otherwise they are the plan's.
    pub rate: Option<f64>,
    /// In the order they were made.
    pub passes: Vec<Pass>,
}

/// What came of an experiment.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What every pass did.
    pub plan: Plan,
    /// By target, in the order they were named.
    pub series: Vec<Series>,
    /// What of each message's time is the harness's, on one thread: see [`overhead`].
    pub harness_ns: f64,
    /// Rounds that were made anew, see [`Experiment::round`].
    pub repeated: usize,
}

/// Harness overheads already measured, by what they depend on.
#[derive(Debug, Default)]
pub struct Overheads(HashMap<(usize, usize, Option<usize>), f64>);

impl Overheads {
    fn of(&mut self, plan: &Plan) -> anyhow::Result<f64> {
        let key = (plan.batch, plan.body_bytes, plan.turn);
        if let Some(&known) = self.0.get(&key) {
            return Ok(known);
        }
        let measured = overhead::harness_ns(plan)?;
        self.0.insert(key, measured);
        Ok(measured)
    }
}

impl Experiment {
    /// Runs all passes, or as many as were made when it was stopped.
    pub fn execute(&self, overheads: &mut Overheads, progress: &dyn Progress) -> anyhow::Result<Outcome> {
        let mut outcome = self.begin(overheads, progress)?;
        self.rounds(&mut outcome, progress)?;
        Ok(outcome)
    }

    /// All rounds, or as many as were made when it was stopped. Where something breaks, `outcome` has those before.
    pub fn rounds(&self, outcome: &mut Outcome, progress: &dyn Progress) -> anyhow::Result<()> {
        (0..self.passes).try_for_each(|round| self.round(round, outcome, progress))
    }

    /// An outcome that has no passes yet.
    pub fn begin(&self, overheads: &mut Overheads, progress: &dyn Progress) -> anyhow::Result<Outcome> {
        progress.begin("measuring the harness itself");
        let series = |&target| Series {
            target,
            rate: None,
            passes: Vec::new(),
        };
        Ok(Outcome {
            plan: self.plan.clone(),
            series: self.targets.iter().map(series).collect(),
            harness_ns: overheads.of(&self.plan)?,
            repeated: 0,
        })
    }

    /// One more pass of each target, unless it is stopped. Every second round goes through the targets backwards, so that none is
    /// always after the same other.
    ///
    /// With two or more threads, a round in which the hypervisor has moved the cores compares near ones with far ones: it is made
    /// anew, but no more of them than there are passes in all. A pass that could not be verified is never thrown away.
    pub fn round(&self, round: usize, outcome: &mut Outcome, progress: &dyn Progress) -> anyhow::Result<()> {
        self.once(round, outcome, progress)?;
        while outcome.repeated < self.passes && outcome.is_unlike(round) {
            let before: Vec<_> = outcome
                .series
                .iter_mut()
                .map(|series| series.passes.pop())
                .collect();
            let again = self.once(round, outcome, progress);
            if again.is_err() || progress.is_stopped() && outcome.verified() {
                // Not made to its end: the one before is better than none.
                for (series, before) in outcome.series.iter_mut().zip(before) {
                    series.passes.truncate(round);
                    series.passes.extend(before);
                }
                return again;
            }
            outcome.repeated += 1;
        }
        Ok(())
    }

    fn once(&self, round: usize, outcome: &mut Outcome, progress: &dyn Progress) -> anyhow::Result<()> {
        for index in there_and_back(outcome.series.len(), round) {
            if progress.is_stopped() {
                break;
            }
            let of_passes = if self.passes > 1 {
                format!(" {}/{}", round + 1, self.passes)
            } else {
                String::new()
            };
            let series = &mut outcome.series[index];
            let plan = Plan {
                round,
                ..series.plan(&self.plan)
            };
            progress.begin(&format!("{}: {}{of_passes}", title(&plan), series.target.name()));
            series.passes.push(series.target.pass(&plan, progress)?);
        }
        Ok(())
    }
}

impl Series {
    /// What its passes do, of what all do.
    pub fn plan(&self, of_all: &Plan) -> Plan {
        Plan {
            rate: self.rate.or(of_all.rate),
            ..of_all.clone()
        }
    }

    /// The pass whose throughput is in the middle.
    pub fn median_pass(&self) -> &Pass {
        let mut by_rate: Vec<&Pass> = self.passes.iter().collect();
        by_rate.sort_by(|a, b| a.messages_per_second().total_cmp(&b.messages_per_second()));
        by_rate[(by_rate.len() - 1) / 2]
    }

    /// Every pass was verified.
    pub fn verified(&self) -> bool {
        self.passes.iter().all(Pass::verified)
    }
}

impl Outcome {
    /// Passes that Ctrl-C ended before half of their time say little about a rate; what they found wrong stays.
    pub fn drop_cut_short(&mut self) {
        let plan = &self.plan;
        for series in &mut self.series {
            series
                .passes
                .retain(|pass| !pass.verified() || !pass.is_cut_short(plan));
        }
    }

    /// Every pass of every target was verified.
    pub fn verified(&self) -> bool {
        self.series.iter().all(Series::verified)
    }

    /// Whether a whole, verified round compares cores near each other with cores far apart.
    fn is_unlike(&self, round: usize) -> bool {
        let is_whole = |series: &Series| series.passes.len() == round + 1;
        self.series.len() > 1
            && self.plan.topology.threads() > 1
            && self.verified()
            && self.series.iter().all(is_whole)
            && self.noise_of(round).has_moved()
    }

    /// The worst of what went on in a round.
    fn noise_of(&self, round: usize) -> Noise {
        let passes = self.series.iter().filter_map(|series| series.passes.get(round));
        passes.map(|pass| pass.noise).fold(Noise::default(), Noise::worst)
    }

    /// The first target over each other.
    pub fn ratios(&self) -> Vec<Ratio> {
        let Some((first, others)) = self.series.split_first() else {
            return Vec::new();
        };
        let ratio = |other: &Series| {
            let pairs = first.passes.iter().zip(&other.passes);
            let each = pairs
                .map(|(first, other)| first.messages_per_second() / other.messages_per_second())
                .collect();
            Ratio::new(format!("{}/{}", first.target.name(), other.target.name()), each)
        };
        others.iter().map(ratio).collect()
    }

    /// The same of the rounds in which the cores were near each other, and of those in which they were far apart, where both were.
    pub fn placed(&self, ratio: &Ratio) -> Vec<Placed> {
        let looks: Vec<_> = (0..ratio.each.len())
            .map(|round| self.noise_of(round).apart_ns)
            .collect();
        placement::by_distance(&ratio.name, &ratio.each, &looks)
    }
}

/// So many in order, in every second round backwards.
pub(crate) fn there_and_back(count: usize, round: usize) -> Vec<usize> {
    let order = 0..count;
    if round % 2 == 1 {
        order.rev().collect()
    } else {
        order.collect()
    }
}

/// A plan in a few words.
pub fn title(plan: &Plan) -> String {
    use std::fmt::Write;
    let mut title = format!(
        "{}, {} thread{}",
        plan.scenario.name(),
        plan.topology.threads(),
        plural(plan.topology.threads())
    );
    if plan.topology.is_split() {
        let _ = write!(
            title,
            " ({}→{})",
            plan.topology.senders(),
            plan.topology.receivers()
        );
    }
    let _ = write!(title, ", batch {}", plan.batch);
    if let Some(turn) = plan.turn {
        let _ = write!(title, ", turn {turn}");
    }
    if let Some(share) = plan.share {
        let _ = write!(title, ", {share} % sent by one");
    }
    if plan.queues > 1 {
        let _ = write!(title, ", {} queues", thousands(plan.queues as u64));
    }
    if plan.in_flight > 0 {
        let _ = write!(title, ", {} in flight", thousands(plan.in_flight));
    }
    if plan.backlog > 0 && !plan.topology.is_split() {
        let _ = write!(title, ", {} queued", thousands(plan.backlog));
    }
    if let Some(rate) = plan.rate {
        let _ = write!(title, ", {}/s arriving", thousands(rate as u64));
    }
    if plan.body_bytes != 64 {
        let _ = write!(title, ", {} bytes", plan.body_bytes);
    }
    title
}

pub(crate) const fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

/// `1000000` as `1 M`, `120000` as `120 k`.
pub(crate) fn thousands(n: u64) -> String {
    match n {
        0 => "0".into(),
        n if n.is_multiple_of(1_000_000) => format!("{} M", n / 1_000_000),
        n if n.is_multiple_of(1_000) => format!("{} k", n / 1_000),
        n => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan::Wishes, progress::Quiet, scenario::Scenario};

    #[test]
    fn passes_are_made_for_every_target() {
        let wishes = Wishes {
            threads: Some(2),
            seconds: Some(0.02),
            ..Wishes::default()
        };
        let plan = Plan::new(Scenario::Lifecycle, wishes).unwrap();
        let targets = vec![TargetName::SegQueue, TargetName::Locked];
        let outcome = Experiment {
            plan,
            targets,
            passes: 3,
        }
        .execute(&mut Overheads::default(), &Quiet)
        .unwrap();
        assert!(outcome.verified());
        assert!(outcome.series.iter().all(|series| series.passes.len() == 3));
        let ratios = outcome.ratios();
        assert_eq!(ratios.len(), 1);
        assert_eq!(ratios[0].name, "seg-queue/locked");
        assert!(ratios[0].min <= ratios[0].median && ratios[0].median <= ratios[0].max);
    }

    #[test]
    fn a_round_of_two_threads_whose_cores_were_moved_is_found() {
        let outcome = |threads, targets: &[TargetName]| {
            let wishes = Wishes {
                threads: Some(threads),
                seconds: Some(0.01),
                ..Wishes::default()
            };
            let experiment = Experiment {
                plan: Plan::new(Scenario::Lifecycle, wishes).unwrap(),
                targets: targets.to_vec(),
                passes: 1,
            };
            let mut overheads = Overheads::default();
            let mut outcome = experiment.begin(&mut overheads, &Quiet).unwrap();
            experiment.once(0, &mut outcome, &Quiet).unwrap();
            for (series, apart) in outcome.series.iter_mut().zip([53.0, 330.0]) {
                series.passes[0].noise.apart_ns = Some([apart, apart]);
            }
            outcome
        };
        let both = [TargetName::SegQueue, TargetName::Locked];
        let mut moved = outcome(2, &both);
        assert!(moved.is_unlike(0));
        assert!(!moved.is_unlike(1), "there is no such round yet");
        moved.series[0].passes[0].noise.apart_ns = Some([300.0, 330.0]);
        assert!(!moved.is_unlike(0), "far apart for both alike");
        assert!(!outcome(1, &both).is_unlike(0) && !outcome(2, &both[..1]).is_unlike(0));
    }

    #[test]
    fn titles_say_what_differs() {
        let wishes = Wishes {
            threads: Some(1),
            turn: Some(64),
            in_flight: Some(1_000_000),
            body_bytes: Some(100),
            ..Wishes::default()
        };
        let plan = Plan::new(Scenario::Inflight, wishes).unwrap();
        assert_eq!(
            title(&plan),
            "inflight, 1 thread, batch 1, turn 64, 1 M in flight, 100 bytes"
        );
    }
}
