//! What a suite found, as it is written: `results.json`. This is the whole of what reports are made from.
//!
//! The schema is documented in the README of this package. It grows by optional members; a change that an old reader would
//! misunderstand gets a new number.

use std::{fs, path::Path};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    axis::{Scale, Vary},
    usage::OtherWork,
};
use crate::compare::Ratio;

/// The number of the schema.
pub const SCHEMA: u32 = 1;

/// The name of the file.
pub const FILE_NAME: &str = "results.json";

/// A whole suite.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// [`SCHEMA`]
    pub schema: u32,
    /// `quick`, `full`, or what the file says.
    pub name: String,
    /// The command that made it.
    pub command: String,
    /// When it began, by RFC 3339.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// What follows is not all that was planned: Ctrl-C or an error ended it, or it is not over yet.
    pub interrupted: bool,
    /// Points that were planned, all lines of a curve counted as one.
    pub points_planned: usize,
    /// Nothing was lost, altered, or leased twice at a time, anywhere.
    pub verified: bool,
    /// Of the source.
    pub commit: String,
    /// For bodies and whatever is random.
    pub seed: u64,
    /// As [`Machine`](crate::environment::Machine) has it.
    pub machine: Map<String, Value>,
    /// Who else used the processors, where the system tells.
    pub other_work: Option<OtherWork>,
    /// In the order they were measured.
    pub curves: Vec<Curve>,
}

/// One curve: what a setting does to each of its lines.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Curve {
    /// Names it; the same in every run of the same sweep.
    pub id: String,
    /// What it varies.
    pub vary: Vary,
    /// What stands under its axis.
    pub axis: String,
    /// How its axis is drawn.
    pub scale: Scale,
    /// What the threads do.
    pub scenario: String,
    /// The settings that stay, by the names of the command line.
    pub settings: Map<String, Value>,
    /// What was to be measured and was not, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
    /// One for each target, in the order they were named.
    pub lines: Vec<Line>,
}

/// One target's points.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// The target.
    pub target: String,
    /// Whether it leases; otherwise it is hand-over only.
    pub leases: bool,
    /// Of a load curve: arrivals per second that it took in the pass in the middle of those at full speed.
    pub capacity: Option<f64>,
    /// What it took in the slowest of those and in the fastest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_range: Option<[f64; 2]>,
    /// In the order of the axis.
    pub points: Vec<Point>,
    /// Of a load curve: at the rate that all lines have here, and that the slowest can take; `x` is in percent of its capacity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_same_rate: Option<Point>,
}

/// One value of the setting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Point {
    /// Where it is on the axis.
    pub x: f64,
    /// The value in words.
    pub label: String,
    /// Threads.
    pub threads: usize,
    /// There were more threads than cores.
    pub oversubscribed: bool,
    /// The books of every pass were in order.
    pub verified: bool,
    /// Measures this point alone, with all its lines.
    pub command: String,
    /// What of each message's time is the harness's, in nanoseconds.
    pub harness_ns: Option<f64>,
    /// In the order they were made; those of the same place in other lines were made in turn with it.
    pub passes: Vec<PassRecord>,
    /// Rounds of all lines that were thrown away and made anew, because the hypervisor moved the cores in them.
    #[serde(default)]
    pub repeated: usize,
    /// Passes that deleted less than 99 % of what was due by their schedule: their latency grew as long as they lasted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub behind: usize,
    /// What was wrong.
    pub findings: Vec<String>,
}

/// One pass.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PassRecord {
    /// Messages deleted while measuring.
    pub messages: u64,
    /// How long that took.
    pub seconds: f64,
    /// Messages sent in the whole pass, fill and drain included.
    pub sent: u64,
    /// Messages deleted in the whole pass: as many.
    pub deleted: u64,
    /// With a schedule: messages per second that were due by it while measuring; those achieved are `messages` over `seconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<f64>,
    /// Quantiles in nanoseconds, and what they are of.
    pub latency: Option<LatencyRecord>,
    /// What the process grew by for each queued message beyond its body, of a backlog only: in old results, and where allocations are
    /// not counted.
    pub bytes_per_message: Option<f64>,
    /// The same of the blocks that were allocated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocated_bytes_per_message: Option<f64>,
    /// Nanoseconds from a sender's core to a receiver's and back: the least and the most of the looks before and after.
    #[serde(default)]
    pub apart_ns: Option<[f64; 2]>,
    /// How memory went, of a long run.
    #[serde(default)]
    pub readings: Vec<Reading>,
    /// What went on besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circumstances: Option<Circumstances>,
}

impl PassRecord {
    /// For each queued message beyond its body: allocated, or if that is not known, what the process grew by.
    pub fn bytes(&self) -> Option<f64> {
        self.allocated_bytes_per_message.or(self.bytes_per_message)
    }
}

/// What went on besides, in one pass.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Circumstances {
    /// How long threads ran before the clock did.
    pub warm_up_seconds: f64,
    /// Their speed was steady at the end of that.
    pub steady: bool,
    /// Of the time the threads wanted to run, the share in which they waited for a core.
    pub waited: f64,
    /// How often a thread lost its core to another one.
    pub preemptions: u64,
    /// Of the machine's time, the share that the hypervisor gave to others.
    pub stolen: f64,
    /// What the cores counted for each message; null where they are not asked or do not tell.
    pub hardware: Option<Hardware>,
}

/// What the cores counted for each message, user mode only.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hardware {
    /// Processor cycles.
    pub cycles: f64,
    /// Instructions retired.
    pub instructions: f64,
    /// Misses of the last level of cache.
    pub cache_misses: f64,
}

const fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Quantiles in nanoseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LatencyRecord {
    /// What was measured.
    pub of: String,
    /// How many samples.
    pub samples: u64,
    /// Half were no longer.
    pub p50: u64,
    /// Nine in ten.
    pub p90: u64,
    /// 99 of a hundred.
    pub p99: u64,
    /// 999 of a thousand.
    pub p999: u64,
    /// All.
    pub max: u64,
}

/// Memory at one moment of a long run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Reading {
    /// Since the measuring began.
    pub seconds: f64,
    /// Messages deleted since then.
    pub messages: u64,
    /// Of the process, the harness's books included.
    pub resident_bytes: Option<u64>,
    /// By the target's own count.
    pub target_bytes: Option<u64>,
    /// Asked of the allocator since before the target was filled and not given back, without the harness's books.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocated_bytes: Option<u64>,
}

/// A figure of several passes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The one in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            *values.get(middle)?
        } else {
            (values.get(middle.checked_sub(1)?)? + values.get(middle)?) / 2.0
        };
        Some(Self {
            median,
            min: *values.first()?,
            max: *values.last()?,
        })
    }
}

impl PassRecord {
    /// Messages per second.
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.seconds
    }
}

impl Point {
    /// Messages per second.
    pub fn rate(&self) -> Option<Spread> {
        Spread::of(self.passes.iter().map(PassRecord::rate))
    }

    /// What was due, in messages per second, where arrivals follow a schedule.
    pub fn asked(&self) -> Option<Spread> {
        Spread::of(self.passes.iter().filter_map(|pass| pass.asked))
    }

    /// A quantile of latency, in nanoseconds.
    pub fn latency(&self, quantile: impl Fn(&LatencyRecord) -> u64) -> Option<Spread> {
        let each = self.passes.iter().filter_map(|pass| pass.latency.as_ref());
        Spread::of(each.map(|latency| quantile(latency) as f64))
    }

    /// Bytes for each queued message beyond its body, of the pass in the middle.
    pub fn bytes_per_message(&self) -> Option<f64> {
        Spread::of(self.passes.iter().filter_map(PassRecord::bytes)).map(|bytes| bytes.median)
    }

    /// Whether those are of what was allocated.
    pub fn has_allocated_bytes(&self) -> bool {
        self.passes
            .iter()
            .any(|pass| pass.allocated_bytes_per_message.is_some())
    }

    /// This one's throughput over another's, pass by pass.
    pub fn over(&self, other: &Self) -> Option<Ratio> {
        let pairs = self.passes.iter().zip(&other.passes);
        let each: Vec<f64> = pairs
            .map(|(own, other)| own.rate() / other.rate())
            .filter(|ratio| ratio.is_finite())
            .collect();
        (!each.is_empty()).then(|| Ratio::new(String::new(), each))
    }
}

impl Line {
    /// Its points, and what was measured beside.
    pub fn all_points(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().chain(&self.at_same_rate)
    }

    /// The point of the same value as another line's; two ratios may be at one place of the axis, but never of one name.
    pub fn like(&self, other: &Point) -> Option<&Point> {
        self.points
            .iter()
            .find(|point| point.x == other.x && point.label == other.label)
    }

    /// The point at `x`.
    pub fn at(&self, x: f64) -> Option<&Point> {
        self.points.iter().find(|point| point.x == x)
    }
}

impl Curve {
    /// The line of a target.
    pub fn line(&self, target: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.target == target)
    }

    /// A setting that stays, as a number.
    pub fn setting(&self, name: &str) -> Option<f64> {
        self.settings.get(name)?.as_f64()
    }
}

impl Results {
    /// The curve of that name.
    pub fn curve(&self, id: &str) -> Option<&Curve> {
        self.curves.iter().find(|curve| curve.id == id)
    }

    /// Points that were measured, all lines of a curve counted as one.
    pub fn points(&self) -> usize {
        let of_curve = |curve: &Curve| curve.lines.iter().map(|line| line.points.len()).max();
        self.curves.iter().filter_map(of_curve).sum()
    }

    /// Whether there should be more, by its own word or by what it planned.
    pub fn is_unfinished(&self) -> bool {
        self.interrupted || self.points() < self.points_planned
    }

    /// A number the machine is described by.
    pub fn machine_number(&self, name: &str) -> Option<f64> {
        self.machine.get(name)?.as_f64()
    }

    /// A word the machine is described by.
    pub fn machine_text(&self, name: &str) -> &str {
        self.machine
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or("unknown")
    }

    /// Cores the suite might use.
    pub fn cores(&self) -> usize {
        self.machine_number("cores").map_or(1, |cores| cores as usize)
    }

    /// What was found wrong, anywhere.
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for curve in &self.curves {
            for line in &curve.lines {
                for point in line.all_points() {
                    let place = format!("{}, {} at {}", curve.id, line.target, point.label);
                    findings.extend(point.findings.iter().map(|finding| format!("{place}: {finding}")));
                }
            }
        }
        findings
    }

    /// Understands a file's text. A schema of another number is refused by that number, not by what follows from it.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
        }
        let head: Head = serde_json::from_str(text).context("it is not the JSON of a suite")?;
        if head.schema != SCHEMA {
            bail!("it has schema {}, and this program knows {SCHEMA}", head.schema);
        }
        serde_json::from_str(text).context("it does not follow the schema")
    }

    /// Reads `results.json` of a directory, or the file itself.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let file = if path.is_dir() {
            path.join(FILE_NAME)
        } else {
            path.to_owned()
        };
        let text = fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        Self::parse(&text).with_context(|| format!("{} cannot be used", file.display()))
    }

    /// Writes `results.json` into a directory: all of it or nothing.
    pub fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        write_whole(&directory.join(FILE_NAME), &text)
    }
}

/// Writes a file beside and puts it in place, so that whoever ends the process leaves the old one or the new.
pub fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    let beside = path.with_extension("part");
    fs::write(&beside, text).with_context(|| format!("{} cannot be written", beside.display()))?;
    fs::rename(&beside, path).with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
const SAMPLE: &str = include_str!("../../tests/sample/results.json");

#[cfg(test)]
impl Results {
    /// A small file of every kind of curve.
    pub(crate) fn sample() -> Self {
        Self::parse(SAMPLE).unwrap()
    }

    pub(crate) fn curve_mut(&mut self, id: &str) -> Option<&mut Curve> {
        self.curves.iter_mut().find(|curve| curve.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_sample_is_understood() {
        let results = Results::sample();
        assert!(results.verified && !results.curves.is_empty());
        // And nothing of it is forgotten.
        let ours: Value = serde_json::to_value(&results).unwrap();
        let theirs: Value = serde_json::from_str(SAMPLE).unwrap();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn what_older_files_do_not_have_may_be_missing() {
        let mut value: Value = serde_json::from_str(SAMPLE).unwrap();
        let mut strip = |pointer: &str, name: &str| {
            let members = value.pointer_mut(pointer).and_then(Value::as_object_mut);
            members.unwrap().remove(name);
        };
        strip("/curves/0/lines/0", "capacity_range");
        strip("/curves/0/lines/0/points/0", "behind");
        strip("/curves/0/lines/0/points/0/passes/0", "asked");
        let results: Results = serde_json::from_value(value).unwrap();
        let line = &results.curves[0].lines[0];
        assert_eq!((line.capacity_range, line.points[0].behind), (None, 0));
        assert_eq!(line.points[0].asked(), None);
    }

    #[test]
    fn other_schemas_are_refused_by_number() {
        let error = Results::parse(r#"{"schema": 2, "name": "x"}"#).unwrap_err();
        assert!(error.to_string().contains("schema 2"), "{error}");
        assert!(Results::parse("{}").is_err() && Results::parse(r#"{"schema": 1}"#).is_err());
    }

    #[test]
    fn spreads() {
        assert_eq!(Spread::of([]), None);
        let spread = Spread::of([3.0, 1.0, 2.0, 4.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (2.5, 1.0, 4.0));
        assert_eq!(Spread::of([7.0]).unwrap().median, 7.0);
    }
}
