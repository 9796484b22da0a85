//! One run against another: what became slower than a threshold and beyond noise.
//!
//! A point counts as slower if its median is worse by more than the threshold and by more than the noise of both runs, *and* its best
//! pass is worse than the baseline's worst one, *and* all that still holds when what became of the rivals in the meantime is taken off: a
//! machine that is slower today is slower for all. Bytes per message go by the same rule, but for two things: no machine makes them fewer,
//! so nothing is taken off, and their noise is that of bytes. Only the ledger's own lines are judged, and only points of several passes
//! that have the figure: one alone says nothing about noise. A curve that was measured with other settings is not judged at all.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    axis::Vary,
    results::{Curve, Line, PassRecord, Point, Results, Spread},
};

/// The target whose lines are judged.
pub const JUDGED: &str = "epoq";

/// One point, before and after.
#[derive(Clone, Debug)]
pub struct Change {
    /// The curve.
    pub curve: String,
    /// The target.
    pub target: String,
    /// The value of the setting in words.
    pub label: String,
    /// What is compared.
    pub measure: Measure,
    /// Of the baseline.
    pub before: Spread,
    /// Of the run that is judged.
    pub after: Spread,
    /// How much better: 0.1 is a tenth faster (or less of what should be little), -0.1 a tenth slower.
    pub gain: f64,
    /// Passes that have the figure, of the side that has fewer.
    pub passes: usize,
    /// What is thought of it.
    pub judgement: Judgement,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Messages per second.
    Throughput,
    /// Arrivals per second that a target can take: what the loads of a curve are parts of.
    Capacity,
    /// The median of latency, in nanoseconds.
    Latency,
    /// Bytes for each queued message.
    Bytes,
}

/// What is thought of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Worse than the threshold allows, and not by noise.
    Worse,
    /// Better by as much, and not by noise.
    Better,
    /// Neither, or it cannot be told from noise.
    Same,
    /// A rival: it says what became of the machine.
    NotJudged,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// How much worse is too much, as a part.
    pub threshold: f64,
    /// The middle of what became of all rivals: 0.1 says that the machine was a tenth faster.
    pub drift: f64,
    /// How many points of rivals that is from.
    pub drift_points: usize,
    /// How far passes of a point lie to either side, as a part of its median: the middle of all points of the ledger, before and after.
    pub noise: f64,
    /// In the order of the curves.
    pub changes: Vec<Change>,
    /// Points of the baseline that the run has not.
    pub missing: usize,
    /// Why the runs do not amount to a verdict that nothing became worse, if they do not.
    pub incomplete: Option<String>,
    /// What makes the runs hard to compare.
    pub warnings: Vec<String>,
}

impl Measure {
    /// What stands over its figures.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Capacity => "capacity",
            Self::Latency => "latency p50",
            Self::Bytes => "bytes per message",
        }
    }

    /// Each pass's figure, of those that have one.
    fn each(self, point: &Point) -> Vec<f64> {
        let of = |pass: &PassRecord| match self {
            Self::Throughput => Some(pass.rate()),
            // Of a line, not of a point.
            Self::Capacity => None,
            Self::Latency => pass.latency.as_ref().map(|latency| latency.p50 as f64),
            Self::Bytes => pass.bytes(),
        };
        point.passes.iter().filter_map(of).collect()
    }

    /// `None` where there is no ratio.
    fn gain(self, before: Spread, after: Spread) -> Option<f64> {
        let ratio = after.median / before.median;
        let gain = if self.more_is_better() { ratio } else { 1.0 / ratio } - 1.0;
        gain.is_finite().then_some(gain)
    }

    const fn more_is_better(self) -> bool {
        matches!(self, Self::Throughput | Self::Capacity)
    }
}

impl Comparison {
    /// Compares all points that both have.
    pub fn of(baseline: &Results, run: &Results, threshold: f64) -> Self {
        let mut changes = Vec::new();
        let mut warnings = warnings(baseline, run);
        let mut missing: BTreeMap<&str, usize> = BTreeMap::new();
        for curve in &baseline.curves {
            let other = run.curve(&curve.id);
            let differences = other.map_or_else(Vec::new, |other| differences(curve, other));
            if !differences.is_empty() {
                warnings.push(format!(
                    "curve {} is not judged: {}",
                    curve.id,
                    differences.join("; ")
                ));
                continue;
            }
            if let Some(other) = other
                && curve.lines.iter().any(|line| is_defined_otherwise(line, other))
            {
                warnings.push(format!(
                    "curve {}: capacity and latency were measured in another way, and are not judged",
                    curve.id
                ));
            }
            for line in &curve.lines {
                let other_line = other.and_then(|curve| curve.line(&line.target));
                changes.extend(
                    other
                        .zip(other_line)
                        .and_then(|(other, after)| capacity(curve, other, line, after)),
                );
                for point in &line.points {
                    let Some(after) = other_line.and_then(|line| line.like(point)) else {
                        *missing.entry(&curve.id).or_default() += 1;
                        continue;
                    };
                    for measure in measures(curve) {
                        changes.extend(change(curve, line, point, after, measure));
                    }
                }
            }
        }
        if !missing.is_empty() {
            let each: Vec<String> = missing
                .iter()
                .map(|(id, count)| format!("{count} of {id}"))
                .collect();
            warnings.push(format!(
                "points of the baseline that were not measured, of all lines: {}",
                each.join(", ")
            ));
        }
        let missing = missing.values().sum();
        let rivals: Vec<f64> = changes
            .iter()
            .filter(|change| {
                change.target != JUDGED && matches!(change.measure, Measure::Throughput | Measure::Capacity)
            })
            .map(|change| change.gain)
            .collect();
        let drift_points = rivals.len();
        let drift = Spread::of(rivals).map_or(0.0, |gains| gains.median);
        let noise = noise_of(&changes, Measure::Throughput);
        let noise_of_bytes = noise_of(&changes, Measure::Bytes);
        for change in &mut changes {
            // What slows a machine down does not make its messages larger.
            let (noise, drift) = match change.measure {
                Measure::Bytes => (noise_of_bytes, 0.0),
                _ => (noise, drift),
            };
            change.judge(threshold.max(noise), drift);
        }
        let incomplete = if changes
            .iter()
            .all(|change| change.judgement == Judgement::NotJudged)
        {
            Some("nothing was judged: the runs have no point in common that was measured alike and more than once".to_owned())
        } else if run.is_unfinished() && missing > 0 {
            Some(format!(
                "the run was interrupted: {} of its {} points were measured, and {missing} of all lines of the baseline are not among them",
                run.points(),
                run.points_planned
            ))
        } else {
            None
        };
        Self {
            threshold,
            drift,
            drift_points,
            noise,
            changes,
            missing,
            incomplete,
            warnings,
        }
    }

    /// What became worse, the worst first.
    pub fn regressions(&self) -> Vec<&Change> {
        self.judged(Judgement::Worse)
    }

    /// What became better, the best last.
    pub fn improvements(&self) -> Vec<&Change> {
        self.judged(Judgement::Better)
    }

    fn judged(&self, judgement: Judgement) -> Vec<&Change> {
        let mut changes: Vec<_> = self
            .changes
            .iter()
            .filter(|change| change.judgement == judgement)
            .collect();
        changes.sort_by(|a, b| a.gain.total_cmp(&b.gain));
        changes
    }
}

/// In what two curves of one name were measured differently. How many passes there were is no matter: all that come of it are judged.
fn differences(before: &Curve, after: &Curve) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |name: &str, before: Option<&Value>, after: Option<&Value>| {
        // 2 and 2.0 are the same setting.
        let numbers = before.and_then(Value::as_f64).zip(after.and_then(Value::as_f64));
        if numbers.map_or(before != after, |(before, after)| before != after) {
            let words = |value: Option<&Value>| match value {
                Some(Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
                None => "none".to_owned(),
            };
            differences.push(format!("{name} {} before, {} now", words(before), words(after)));
        }
    };
    let text = |text: &str| Value::String(text.to_owned());
    compare(
        "varies",
        Some(&text(before.vary.name())),
        Some(&text(after.vary.name())),
    );
    compare(
        "scenario",
        Some(&text(&before.scenario)),
        Some(&text(&after.scenario)),
    );
    let only_after = after
        .settings
        .keys()
        .filter(|name| !before.settings.contains_key(*name));
    for name in before.settings.keys().chain(only_after) {
        if name != "passes" {
            let name_words = if name == "seconds" {
                "seconds per pass"
            } else {
                name
            };
            compare(name_words, before.settings.get(name), after.settings.get(name));
        }
    }
    differences
}

fn measures(curve: &Curve) -> Vec<Measure> {
    match curve.vary {
        // Arrivals are given there, as a part of what the line can take: see `capacity`.
        Vary::Load => vec![Measure::Latency],
        Vary::Backlog => vec![Measure::Throughput, Measure::Bytes],
        _ => vec![Measure::Throughput],
    }
}

fn change(curve: &Curve, line: &Line, before: &Point, after: &Point, measure: Measure) -> Option<Change> {
    // What latency is of, and how arrivals come, was another thing in old results.
    let of = |point: &Point| Some(point.passes.first()?.latency.as_ref()?.of.clone());
    if measure == Measure::Latency && of(before) != of(after) {
        return None;
    }
    // Old results have what the process grew by.
    if measure == Measure::Bytes && before.has_allocated_bytes() != after.has_allocated_bytes() {
        return None;
    }
    let (each_before, each_after) = (measure.each(before), measure.each(after));
    let passes = each_before.len().min(each_after.len());
    let (before_spread, after_spread) = (Spread::of(each_before)?, Spread::of(each_after)?);
    Some(Change {
        curve: curve.id.clone(),
        target: line.target.clone(),
        label: before.label.clone(),
        measure,
        before: before_spread,
        after: after_spread,
        gain: measure.gain(before_spread, after_spread)?,
        passes,
        judgement: Judgement::NotJudged,
    })
}

/// Whether what a load curve's line says is not what it said.
fn is_defined_otherwise(line: &Line, other: &Curve) -> bool {
    let of = |line: &Line| Some(line.points.first()?.passes.first()?.latency.as_ref()?.of.clone());
    other.vary == Vary::Load
        && other.line(&line.target).is_some_and(|other| {
            line.capacity_range.is_some() != other.capacity_range.is_some() || of(line) != of(other)
        })
}

/// What became of the capacity of a load curve's line. Latency there is measured at parts of it, each run's own: a ledger half as fast is
/// asked for half as much, and answers as quickly as before.
fn capacity(before: &Curve, after: &Curve, line: &Line, after_line: &Line) -> Option<Change> {
    let measure = Measure::Capacity;
    // Without a range, as in old results, it is the slowest pass, which is not to be held against a median.
    if line.capacity_range.is_some() != after_line.capacity_range.is_some() {
        return None;
    }
    let spread = |line: &Line| {
        let median = line.capacity?;
        let [min, max] = line.capacity_range.unwrap_or([median; 2]);
        Some(Spread { median, min, max })
    };
    let (before_spread, after_spread) = (spread(line)?, spread(after_line)?);
    let passes = |curve: &Curve| curve.setting("passes").map_or(1, |passes| passes as usize);
    Some(Change {
        curve: before.id.clone(),
        target: line.target.clone(),
        label: "full speed".into(),
        measure,
        before: before_spread,
        after: after_spread,
        gain: measure.gain(before_spread, after_spread)?,
        passes: passes(before).min(passes(after)),
        judgement: Judgement::NotJudged,
    })
}

impl Change {
    /// In one line.
    pub fn words(&self) -> String {
        use crate::page::words::{gain, range, rate, time};
        let words = match self.measure {
            Measure::Throughput | Measure::Capacity => rate,
            Measure::Latency => time,
            Measure::Bytes => super::axis::short,
        };
        format!(
            "{} at {}: {} {} ({}), was {} ({}): {}",
            self.curve,
            self.label,
            self.measure.words(),
            words(self.after.median),
            range(self.after, words),
            words(self.before.median),
            range(self.before, words),
            gain(self.gain)
        )
    }

    fn judge(&mut self, threshold: f64, drift: f64) {
        if self.target != JUDGED || self.passes < 2 {
            return;
        }
        let (raw, freed) = (self.verdict(threshold, 0.0), self.verdict(threshold, drift));
        self.judgement = if raw == freed { raw } else { Judgement::Same };
    }

    /// With so much of a gain being the machine's.
    fn verdict(&self, threshold: f64, drift: f64) -> Judgement {
        let by_machine = if self.measure.more_is_better() {
            1.0 + drift
        } else {
            1.0 / (1.0 + drift)
        };
        let (before, after) = (self.before, self.after);
        let scale = |value: f64| value / by_machine;
        let gain = (1.0 + self.gain) / (1.0 + drift) - 1.0;
        let (lower, higher) = (scale(after.max) < before.min, scale(after.min) > before.max);
        let (worse, better) = if self.measure.more_is_better() {
            (lower, higher)
        } else {
            (higher, lower)
        };
        // A threshold of 5 % is one of what there was: half as fast is 50 % slower, whichever way it is counted.
        if gain < -threshold && worse {
            Judgement::Worse
        } else if gain > threshold && better {
            Judgement::Better
        } else {
            Judgement::Same
        }
    }
}

/// How far passes of a point lie to either side, as a part of its median: the middle of all points of the ledger, before and after.
fn noise_of(changes: &[Change], measure: Measure) -> f64 {
    let spreads = changes
        .iter()
        .filter(|change| change.target == JUDGED && change.passes > 1 && change.measure == measure)
        .flat_map(|change| [change.before, change.after]);
    let noise = Spread::of(spreads.map(|spread| (spread.max - spread.min) / 2.0 / spread.median));
    noise.map_or(0.0, |noise| noise.median)
}

fn warnings(baseline: &Results, run: &Results) -> Vec<String> {
    let mut warnings = Vec::new();
    for name in ["cpu", "cores", "rustc", "kernel", "allocator", "flags"] {
        let (before, after) = (baseline.machine.get(name), run.machine.get(name));
        if before != after {
            let words = |value: Option<&Value>| value.map_or("unknown".into(), ToString::to_string);
            warnings.push(format!("{name}: {} before, {} now", words(before), words(after)));
        }
    }
    for (which, results) in [("the baseline", baseline), ("the run", run)] {
        if results.is_unfinished() {
            warnings.push(format!("{which} was interrupted"));
        }
        if !results.verified {
            warnings.push(format!("{which} was not verified"));
        }
        if let Some(work) = results.other_work
            && work.is_loud()
        {
            warnings.push(format!(
                "other work took {:.1} cores while {which} was measured",
                work.cores_used_by_others + work.cores_stolen
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pass of `target` takes `times` as long.
    fn slower(results: &Results, target: Option<&str>, times: f64) -> Results {
        let mut results = results.clone();
        for line in results.curves.iter_mut().flat_map(|curve| &mut curve.lines) {
            if target.is_none_or(|target| target == line.target) {
                for pass in line.points.iter_mut().flat_map(|point| &mut point.passes) {
                    pass.seconds *= times;
                }
            }
        }
        results
    }

    #[test]
    fn a_run_is_as_fast_as_itself() {
        let results = Results::sample();
        let comparison = Comparison::of(&results, &results, 0.05);
        assert!(comparison.regressions().is_empty() && comparison.improvements().is_empty());
        assert_eq!((comparison.missing, comparison.drift), (0, 0.0));
        assert!(comparison.changes.iter().all(|change| change.gain == 0.0));
    }

    #[test]
    fn a_slower_ledger_is_found() {
        let results = Results::sample();
        let comparison = Comparison::of(&results, &slower(&results, Some(JUDGED), 100.0), 0.05);
        let found = comparison.regressions();
        assert!(!found.is_empty());
        assert!(
            found
                .iter()
                .all(|change| change.target == JUDGED && change.gain < -0.98),
            "{found:?}"
        );
        let comparison = Comparison::of(&slower(&results, Some(JUDGED), 100.0), &results, 0.05);
        assert!(comparison.regressions().is_empty() && !comparison.improvements().is_empty());
    }

    #[test]
    fn a_slower_machine_is_not_a_slower_ledger() {
        let results = Results::sample();
        let comparison = Comparison::of(&results, &slower(&results, None, 3.0), 0.05);
        assert!(
            comparison.regressions().is_empty(),
            "{:?}",
            comparison.regressions()
        );
        assert!((comparison.drift + 2.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_judged_is_no_verdict() {
        let results = Results::sample();
        assert_eq!(Comparison::of(&results, &results, 0.05).incomplete, None);
        let mut other = Results::sample();
        for curve in &mut other.curves {
            curve.id.push_str("-else");
        }
        let comparison = Comparison::of(&results, &other, 0.05);
        assert!(comparison.incomplete.unwrap().starts_with("nothing was judged"));
        assert!(comparison.missing > 0);
        // Single passes are not judged either.
        let mut single = Results::sample();
        for point in single
            .curves
            .iter_mut()
            .flat_map(|curve| &mut curve.lines)
            .flat_map(|line| &mut line.points)
        {
            point.passes.truncate(1);
        }
        single.curves.retain(|curve| curve.vary != Vary::Load);
        let comparison = Comparison::of(&results, &single, 0.05);
        assert!(comparison.incomplete.is_some(), "{comparison:?}");
    }

    #[test]
    fn what_an_interrupted_run_has_not_is_no_verdict() {
        let results = Results::sample();
        let mut cut = Results::sample();
        cut.curves.truncate(2);
        cut.points_planned = cut.points();
        // By choice, it is only said.
        let comparison = Comparison::of(&results, &cut, 0.05);
        assert_eq!(comparison.incomplete, None);
        let warning = comparison
            .warnings
            .iter()
            .find(|warning| warning.contains("not measured"));
        assert!(
            warning.is_some_and(|warning| warning.contains("of turn")),
            "{:?}",
            comparison.warnings
        );
        cut.interrupted = true;
        let comparison = Comparison::of(&results, &cut, 0.05);
        assert!(comparison.incomplete.unwrap().contains("interrupted"));
        // What was killed had no time to say so, but has not what it planned.
        (cut.interrupted, cut.points_planned) = (false, results.points_planned);
        let comparison = Comparison::of(&results, &cut, 0.05);
        assert!(comparison.incomplete.unwrap().contains(" of its 30 points"));
        assert!(
            comparison
                .warnings
                .iter()
                .any(|warning| warning == "the run was interrupted")
        );
    }

    /// The sample, with so many bytes in the passes of each point of a backlog of the ledger.
    fn weighed(bytes: &[f64]) -> Results {
        let mut results = Results::sample();
        let curves = results.curves.iter_mut();
        for line in curves
            .filter(|curve| curve.vary == Vary::Backlog)
            .flat_map(|curve| &mut curve.lines)
        {
            for point in &mut line.points {
                let pass = point.passes[0].clone();
                point.passes = bytes
                    .iter()
                    .map(|&bytes| PassRecord {
                        bytes_per_message: Some(bytes),
                        ..pass.clone()
                    })
                    .collect();
            }
        }
        results
    }

    #[test]
    fn bytes_of_old_results_are_another_thing() {
        let mut after = weighed(&[34.0, 34.0]);
        let passes = after.curves.iter_mut().flat_map(|curve| &mut curve.lines);
        for pass in passes
            .flat_map(|line| &mut line.points)
            .flat_map(|point| &mut point.passes)
        {
            pass.allocated_bytes_per_message = pass.bytes_per_message.take();
        }
        let comparison = Comparison::of(&weighed(&[52.0, 52.0]), &after, 0.05);
        assert!(
            comparison
                .changes
                .iter()
                .all(|change| change.measure != Measure::Bytes)
        );
        let comparison = Comparison::of(&after, &after, 0.05);
        assert!(
            comparison
                .changes
                .iter()
                .any(|change| change.measure == Measure::Bytes)
        );
    }

    fn of_bytes(before: &[f64], after: &[f64]) -> Vec<Judgement> {
        let comparison = Comparison::of(&weighed(before), &weighed(after), 0.05);
        let changes = comparison.changes.into_iter();
        let judgements: Vec<_> = changes
            .filter(|change| change.measure == Measure::Bytes && change.target == JUDGED)
            .map(|change| change.judgement)
            .collect();
        assert!(!judgements.is_empty());
        judgements
    }

    #[test]
    fn bytes_go_by_the_rule_of_all_figures() {
        let all = |judgements: Vec<Judgement>, expected| judgements.iter().all(|&one| one == expected);
        // A single pass says nothing about noise, however large the change.
        assert!(all(of_bytes(&[50.0], &[500.0]), Judgement::NotJudged));
        assert!(all(of_bytes(&[50.0, 51.0], &[500.0]), Judgement::NotJudged));
        assert!(all(
            of_bytes(&[50.0, 51.0, 52.0], &[58.0, 59.0, 57.0]),
            Judgement::Worse
        ));
        assert!(all(
            of_bytes(&[58.0, 59.0, 57.0], &[50.0, 51.0, 52.0]),
            Judgement::Better
        ));
        // Within the threshold; and beyond it where passes overlap.
        assert!(all(of_bytes(&[50.0, 50.1], &[52.0, 52.1]), Judgement::Same));
        assert!(all(
            of_bytes(&[50.0, 51.0, 60.0], &[58.0, 59.0, 61.0]),
            Judgement::Same
        ));
    }

    #[test]
    fn a_curve_of_other_settings_is_not_judged() {
        let results = Results::sample();
        let slow = slower(&results, Some(JUDGED), 100.0);
        type Change = fn(&mut Curve);
        let changes: [(&str, Change); 3] = [
            ("seconds per pass 0.05 before, 2 now", |curve| {
                curve.settings.insert("seconds".into(), 2.into());
            }),
            ("turn none before, 64 now", |curve| {
                curve.settings.insert("turn".into(), 64.into());
            }),
            ("scenario lifecycle before, steal now", |curve| {
                curve.scenario = "steal".into();
            }),
        ];
        for (words, change) in changes {
            let mut slow = slow.clone();
            let curve = slow.curve_mut("threads");
            change(curve.unwrap());
            let comparison = Comparison::of(&results, &slow, 0.05);
            assert!(comparison.changes.iter().all(|change| change.curve != "threads"));
            assert!(
                comparison
                    .warnings
                    .iter()
                    .any(|warning| warning.starts_with("curve threads is not judged")
                        && warning.contains(words)),
                "{:?}",
                comparison.warnings
            );
            assert!(!comparison.regressions().is_empty());
        }
        // More passes of the same are no other curve.
        let mut more = results.clone();
        more.curves[0].settings.insert("passes".into(), 9.into());
        more.curves[0].settings.insert("batch".into(), 10.0.into());
        let comparison = Comparison::of(&results, &more, 0.05);
        assert!(
            comparison
                .changes
                .iter()
                .any(|change| change.curve == results.curves[0].id)
        );
    }

    #[test]
    fn a_lower_capacity_is_found() {
        let results = Results::sample();
        let mut slow = Results::sample();
        for line in slow.curves.iter_mut().flat_map(|curve| &mut curve.lines) {
            if line.target == JUDGED {
                line.capacity = line.capacity.map(|capacity| capacity / 3.0);
            }
        }
        let comparison = Comparison::of(&results, &slow, 0.05);
        let found = comparison.regressions();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].measure, &*found[0].curve), (Measure::Capacity, "load"));
        assert!(
            found[0].words().starts_with("load at full speed: capacity "),
            "{}",
            found[0].words()
        );
        assert!(Comparison::of(&results, &results, 0.05).regressions().is_empty());
    }

    #[test]
    fn other_definitions_are_not_held_against_each_other() {
        let results = Results::sample();
        let mut other = slower(&results, Some(JUDGED), 10.0);
        for line in other.curves.iter_mut().flat_map(|curve| &mut curve.lines) {
            line.capacity = line.capacity.map(|capacity| capacity / 10.0);
            line.capacity_range = match line.capacity_range {
                None => line.capacity.map(|capacity| [capacity; 2]),
                Some(_) => None,
            };
            for pass in line.points.iter_mut().flat_map(|point| &mut point.passes) {
                if let Some(latency) = &mut pass.latency {
                    latency.of.push_str(" of old");
                }
            }
        }
        let comparison = Comparison::of(&results, &other, 0.05);
        assert!(
            comparison
                .warnings
                .iter()
                .any(|warning| warning.contains("in another way"))
        );
        assert!(!comparison.changes.is_empty());
        assert!(
            comparison
                .changes
                .iter()
                .all(|change| !matches!(change.measure, Measure::Capacity | Measure::Latency)),
        );
    }

    #[test]
    fn noise_is_no_news() {
        let results = Results::sample();
        let comparison = Comparison::of(&results, &slower(&results, Some(JUDGED), 1.02), 0.05);
        assert!(comparison.regressions().is_empty());
    }
}
