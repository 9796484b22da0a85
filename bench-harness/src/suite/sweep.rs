//! What a suite measures, as a file says it.

use clap::ValueEnum;
use serde::Deserialize;

use super::axis::{Value, Vary, Written};
use crate::{
    cli::{PARTITIONS_MAX, QUEUES_MAX, RATE_MAX as RATE_WHOLE_MAX, TURN_MAX},
    environment, memory,
    plan::{Plan, Wishes},
    scenario::Scenario,
    scenarios,
    target::BATCH_MAX,
    targets::{FifoTargetName, TargetName},
};

/// The quick suite's file.
pub const QUICK: &str = include_str!("quick.toml");
/// The full suite's file.
pub const FULL: &str = include_str!("full.toml");

const RATE_MAX: f64 = RATE_WHOLE_MAX as f64;

/// A file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    name: String,
    #[serde(default = "three")]
    passes: u16,
    #[serde(default = "fifth")]
    seconds: f64,
    curve: Vec<FileCurve>,
}

/// A curve in a file; what it does not say is as in `epoq-bench run`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileCurve {
    id: Option<String>,
    vary: Vary,
    values: Option<Vec<Written>>,
    targets: Vec<String>,
    scenario: Option<String>,
    passes: Option<u16>,
    seconds: Option<f64>,
    threads: Option<Written>,
    batch: Option<usize>,
    body: Option<Written>,
    backlog: Option<Written>,
    in_flight: Option<Written>,
    turn: Option<usize>,
    queues: Option<usize>,
    rate: Option<f64>,
    partitions: Option<usize>,
}

const fn three() -> u16 {
    3
}

const fn fifth() -> f64 {
    0.2
}

/// What to measure, complete and checked.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// For the page's title.
    pub name: String,
    /// In the order they are measured.
    pub curves: Vec<CurvePlan>,
}

/// One curve to be measured.
#[derive(Clone, Debug)]
pub struct CurvePlan {
    /// Names it in results; no other has it.
    pub id: String,
    /// What it varies.
    pub vary: Vary,
    /// In ascending order, as far as they have one.
    pub values: Vec<Value>,
    /// What the file says and this machine's memory is too small for.
    pub left_out: Vec<Value>,
    /// Its lines.
    pub targets: Targets,
    /// What the threads do; of FIFO queues always life cycles.
    pub scenario: Scenario,
    /// All settings that stay.
    pub wishes: Wishes,
    /// How often each point is measured.
    pub passes: usize,
    /// How long each pass measures.
    pub seconds: f64,
}

/// The lines of a curve.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// Queues.
    Standard(Vec<TargetName>),
    /// FIFO queues.
    Fifo(Vec<FifoTargetName>),
}

impl Targets {
    /// How many lines.
    pub fn count(&self) -> usize {
        match self {
            Self::Standard(targets) => targets.len(),
            Self::Fifo(targets) => targets.len(),
        }
    }
}

impl Sweep {
    /// Reads a file; `pace` stretches the time of each pass. The error is for the user.
    pub fn read(text: &str, pace: f64, seed: u64) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut curves: Vec<CurvePlan> = Vec::new();
        for curve in &file.curve {
            let curve = curve
                .complete(&file, pace, seed)
                .map_err(|error| format!("curve {}: {error}", curve.name()))?;
            if curves.iter().any(|other| other.id == curve.id) {
                return Err(format!("two curves are called {:?}: give one an id", curve.id));
            }
            curves.push(curve);
        }
        if curves.is_empty() {
            return Err("there is no [[curve]]".into());
        }
        Ok(Self {
            name: file.name,
            curves,
        })
    }

    /// Keeps only these curves; the error is for the user.
    pub fn keep(&mut self, ids: &[String]) -> Result<(), String> {
        let known: Vec<String> = self.curves.iter().map(|curve| curve.id.clone()).collect();
        if let Some(unknown) = ids.iter().find(|id| !known.contains(id)) {
            return Err(format!(
                "there is no curve {unknown:?}, only {}",
                known.join(", ")
            ));
        }
        if !ids.is_empty() {
            self.curves.retain(|curve| ids.contains(&curve.id));
        }
        Ok(())
    }

    /// Points, all lines of a curve counted as one.
    pub fn points(&self) -> usize {
        self.curves.iter().map(|curve| curve.values.len()).sum()
    }

    /// About how long it takes.
    pub fn seconds(&self) -> f64 {
        let of_curve = |curve: &CurvePlan| {
            curve
                .values
                .iter()
                .map(|value| curve.seconds_of(value))
                .sum::<f64>()
                + curve.seconds_beside()
        };
        self.curves.iter().map(of_curve).sum()
    }
}

impl FileCurve {
    fn name(&self) -> &str {
        self.id.as_deref().unwrap_or(self.vary.name())
    }

    fn complete(&self, file: &File, pace: f64, seed: u64) -> Result<CurvePlan, String> {
        let passes = self.passes.unwrap_or(file.passes);
        let seconds = self.seconds.unwrap_or(file.seconds) * pace;
        if !(1..=1000).contains(&passes) {
            return Err("passes is 1 to 1000".into());
        }
        if !(0.001..=3600.0).contains(&seconds) {
            return Err(format!("seconds is 0.001 to 3600, with --pace, not {seconds}"));
        }
        self.check_numbers()?;
        let setting = |vary: Vary, written: &Option<Written>| {
            let understood = written
                .as_ref()
                .map(|written| vary.understand(written))
                .transpose()?;
            Ok::<_, String>(understood.map(|value| value.position()))
        };
        let scenario = match (&self.scenario, self.vary) {
            (Some(name), _) => {
                Scenario::from_str(name, false).map_err(|_| format!("there is no scenario {name:?}"))?
            }
            (None, Vary::Ratio) => Scenario::Pipeline,
            (None, Vary::Backlog) => Scenario::Backlog,
            (None, Vary::InFlight) => Scenario::Inflight,
            (None, _) => Scenario::Lifecycle,
        };
        let wishes = Wishes {
            threads: match setting(Vary::Threads, &self.threads)? {
                Some(threads) => Some(threads as usize),
                // Nobody can send more than another on one thread.
                None if self.vary == Vary::Share => Some(environment::cores().max(2)),
                None => None,
            },
            batch: self.batch,
            body_bytes: setting(Vary::Body, &self.body)?.map(|n| n as usize),
            backlog: setting(Vary::Backlog, &self.backlog)?.map(|n| n as u64),
            in_flight: setting(Vary::InFlight, &self.in_flight)?.map(|n| n as u64),
            turn: self.turn,
            queues: self.queues,
            rate: self.rate,
            partitions: self.partitions,
            seconds: Some(seconds),
            seed: Some(seed),
            ..Wishes::default()
        };
        let mut values = match &self.values {
            None => self.vary.default_values(),
            Some(written) => written
                .iter()
                .map(|written| self.vary.understand(written))
                .collect::<Result<_, _>>()?,
        };
        if values.is_empty() {
            return Err("values is empty".into());
        }
        if self.vary == Vary::Time {
            for value in &mut values {
                if let Value::Number(seconds) = value {
                    *seconds = (*seconds * pace).max(0.5);
                }
            }
        }
        if self.vary != Vary::Ratio {
            values.sort_by(|a, b| a.position().total_cmp(&b.position()));
        }
        values.dedup();
        let mut curve = CurvePlan {
            id: self.name().to_owned(),
            vary: self.vary,
            values,
            left_out: Vec::new(),
            targets: self.targets()?,
            scenario,
            wishes,
            passes: passes.into(),
            seconds,
        };
        if let Targets::Fifo(_) = &curve.targets {
            self.check_fifo(&curve)?;
        }
        curve.drop_what_does_not_fit(memory::available_bytes());
        if curve.values.is_empty() {
            return Err(format!("values: {}", curve.left_out_words().unwrap_or_default()));
        }
        curve.check()?;
        Ok(curve)
    }

    /// A FIFO queue is driven otherwise, and no plan checks it.
    fn check_fifo(&self, curve: &CurvePlan) -> Result<(), String> {
        /// As of `epoq-bench fifo`: longer, and ids would be forgotten meanwhile.
        const SECONDS_MAX: f64 = 240.0;
        for (key, is_said) in [
            ("scenario", self.scenario.is_some()),
            ("body", self.body.is_some()),
            ("backlog", self.backlog.is_some()),
            ("in-flight", self.in_flight.is_some()),
            ("queues", self.queues.is_some()),
            ("rate", self.rate.is_some()),
            ("partitions", self.partitions.is_some()),
        ] {
            if is_said {
                return Err(format!(
                    "a curve of FIFO queues has no {key}: it would change nothing"
                ));
            }
        }
        if curve.seconds > SECONDS_MAX {
            return Err(format!(
                "seconds of FIFO queues is at most {SECONDS_MAX}, with --pace, not {}",
                curve.seconds
            ));
        }
        Ok(())
    }

    /// What a plan would take as it is: on a command line, it is the parser that refuses it.
    fn check_numbers(&self) -> Result<(), String> {
        for (key, value, most) in [
            ("batch", self.batch, BATCH_MAX),
            ("turn", self.turn, TURN_MAX),
            ("queues", self.queues, QUEUES_MAX),
            ("partitions", self.partitions, PARTITIONS_MAX),
        ] {
            if let Some(value) = value.filter(|value| !(1..=most).contains(value)) {
                return Err(format!("{key} is 1 to {most}, not {value}"));
            }
        }
        if let Some(rate) = self.rate.filter(|&rate| !(rate > 0.0 && rate <= RATE_MAX)) {
            return Err(format!("rate is more than 0 and at most {RATE_MAX}, not {rate}"));
        }
        if self.rate.is_some() && self.vary == Vary::Load {
            return Err("a curve of loads sets the rate itself: no rate".into());
        }
        Ok(())
    }

    fn targets(&self) -> Result<Targets, String> {
        if self.targets.is_empty() {
            return Err("targets is empty".into());
        }
        if let Some(twice) =
            (1..self.targets.len()).find(|&at| self.targets[..at].contains(&self.targets[at]))
        {
            return Err(format!("targets names {} twice", self.targets[twice]));
        }
        let unknown = |name: &str| format!("there is no target {name:?} for {}", self.vary.name());
        if self.vary == Vary::Groups {
            let named = self.targets.iter();
            named
                .map(|name| FifoTargetName::from_str(name, false).map_err(|_| unknown(name)))
                .collect::<Result<_, _>>()
                .map(Targets::Fifo)
        } else {
            let named = self.targets.iter();
            named
                .map(|name| TargetName::from_str(name, false).map_err(|_| unknown(name)))
                .collect::<Result<_, _>>()
                .map(Targets::Standard)
        }
    }
}

impl CurvePlan {
    /// The plan of one point; the error is for the user.
    pub fn plan(&self, value: &Value) -> Result<Plan, String> {
        let mut wishes = self.wishes;
        self.vary.apply(value, &mut wishes);
        if self.vary == Vary::Load {
            // Set once the capacity is known.
            wishes.rate = Some(1e9);
        }
        Plan::new(self.scenario, wishes)
    }

    /// Threads of a FIFO curve.
    pub fn fifo_threads(&self) -> usize {
        self.wishes
            .threads
            .unwrap_or_else(|| scenarios::each_of(environment::cores()))
    }

    /// Messages that have to be there before the clock starts.
    fn fill_of(&self, value: &Value) -> u64 {
        match self.vary {
            Vary::Groups => 0,
            _ => self.plan(value).map_or(0, |plan| {
                if plan.topology.is_split() {
                    0
                } else {
                    plan.backlog + plan.in_flight
                }
            }),
        }
    }

    /// How often a point is measured: a long fill is not made as often as a short one.
    pub fn passes_of(&self, value: &Value) -> usize {
        const LONG_FILL: u64 = 3_000_000;
        if self.fill_of(value) >= LONG_FILL {
            self.passes.div_ceil(3).max(1)
        } else {
            self.passes
        }
    }

    /// Of a load curve: what measuring each target's capacity takes.
    pub fn seconds_flat_out(&self) -> f64 {
        self.values.first().map_or(0.0, |value| self.seconds_of(value))
    }

    /// What a curve takes that is none of its points.
    fn seconds_beside(&self) -> f64 {
        match (self.vary, self.targets.count()) {
            (Vary::Load, 1) => self.seconds_flat_out(),
            (Vary::Load, _) => 2.0 * self.seconds_flat_out(),
            _ => 0.0,
        }
    }

    /// About how long a point takes, all targets and passes.
    pub fn seconds_of(&self, value: &Value) -> f64 {
        const SECONDS_PER_FILLED: f64 = 0.6e-6;
        const SECONDS_BESIDE: f64 = 0.03;
        let measured = match (self.vary, value) {
            (Vary::Time, Value::Number(seconds)) => *seconds,
            _ => self.seconds + (self.seconds / 5.0).min(0.2),
        };
        let each = measured + SECONDS_BESIDE + self.fill_of(value) as f64 * SECONDS_PER_FILLED;
        each * (self.targets.count() * self.passes_of(value)) as f64
    }

    /// A smaller machine gets shorter curves instead of an error.
    fn drop_what_does_not_fit(&mut self, available: Option<u64>) {
        let Some(available) = available else {
            return;
        };
        // A queue's half of what is there; what a message takes beyond its body is known to be less than this.
        const PER_MESSAGE: u64 = 400;
        if matches!(self.vary, Vary::Backlog | Vary::InFlight) {
            let body = self.wishes.body_bytes.unwrap_or(64) as u64;
            let most = available / 2 / (PER_MESSAGE + body);
            let fits = |value: &Value| value.position() as u64 <= most;
            let (kept, left_out) = self.values.drain(..).partition(fits);
            (self.values, self.left_out) = (kept, left_out);
        }
    }

    /// That points were left out and why, if some were.
    pub fn left_out_words(&self) -> Option<String> {
        let words: Vec<String> = self.left_out.iter().map(|value| value.words(self.vary)).collect();
        (!words.is_empty()).then(|| {
            format!(
                "{} left out: more {} than fit into half of the available memory",
                words.join(", "),
                self.vary.label()
            )
        })
    }

    fn check(&self) -> Result<(), String> {
        let Targets::Standard(targets) = &self.targets else {
            return Ok(());
        };
        for value in &self.values {
            let at = |error: String| format!("{} {}: {error}", self.vary.name(), value.words(self.vary));
            let plan = self.plan(value).map_err(at)?;
            for target in targets {
                target.check(&plan).map_err(at)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suites_own_files_are_sound() {
        let quick = Sweep::read(QUICK, 1.0, 1).unwrap();
        let full = Sweep::read(FULL, 1.0, 1).unwrap();
        for vary in Vary::ALL {
            for sweep in [&quick, &full] {
                assert!(
                    sweep.curves.iter().any(|curve| curve.vary == vary),
                    "{} has no {vary:?}",
                    sweep.name
                );
            }
        }
        assert!(full.seconds() > 3.0 * quick.seconds());
        let on_two_cores = environment::cores() == 2;
        assert!(
            !on_two_cores || (60.0..=135.0).contains(&quick.seconds()),
            "{} s",
            quick.seconds()
        );
    }

    /// A rival that is in no curve is one that nobody sees lose, or win.
    #[test]
    fn every_rival_is_measured() {
        let full = Sweep::read(FULL, 1.0, 1).unwrap();
        let quick = Sweep::read(QUICK, 1.0, 1).unwrap();
        let measures = |curve: &CurvePlan, target| matches!(&curve.targets, Targets::Standard(targets) if targets.contains(&target));
        for &target in TargetName::value_variants() {
            assert!(
                full.curves.iter().any(|curve| measures(curve, target)),
                "{target:?}"
            );
        }
        for curve in &full.curves {
            assert!(
                !measures(curve, TargetName::Locked) || measures(curve, TargetName::LockedSharded),
                "{}",
                curve.id
            );
        }
        for id in ["threads", "threads-batch-10", "ratio", "ratio-single", "share"] {
            let curve = quick.curves.iter().find(|curve| curve.id == id).unwrap();
            assert!(measures(curve, TargetName::LockedSharded), "{id}");
        }
        let colours = [
            "epoq",
            "locked",
            "locked-slab",
            "locked-sharded",
            "crossbeam-channel",
            "seg-queue",
        ]
        .map(crate::page::curves::colour);
        assert!(
            (1..colours.len()).all(|at| !colours[..at].contains(&colours[at])),
            "{colours:?}"
        );
        let scenarios = full.curves.iter().map(|curve| curve.scenario);
        assert!(scenarios.clone().any(|scenario| scenario == Scenario::Steal));
    }

    #[test]
    fn mistakes_are_named() {
        let head = "name = 'x'\n[[curve]]\n";
        for (text, word) in [
            ("name = 'x'\ncurve = []", "[[curve]]"),
            (&format!("{head}vary = 'colour'\ntargets = ['epoq']"), "colour"),
            (&format!("{head}vary = 'batch'\ntargets = ['kafka']"), "kafka"),
            (
                &format!("{head}vary = 'batch'\ntargets = ['epoq', 'epoq']"),
                "twice",
            ),
            (
                &format!("{head}vary = 'batch'\nvalues = [11]\ntargets = ['epoq']"),
                "11",
            ),
            (
                &format!("{head}vary = 'batch'\ntargets = ['epoq']\nbacth = 3"),
                "bacth",
            ),
            (
                &format!("{head}vary = 'batch'\ntargets = ['epoq']\nturn = 0"),
                "turn is 1 to 100000",
            ),
            (
                &format!("{head}vary = 'threads'\ntargets = ['locked-sharded']\npartitions = 0"),
                "curve threads: partitions is 1 to 1024",
            ),
            (
                &format!("{head}vary = 'threads'\ntargets = ['epoq']\nrate = 0"),
                "rate is more than 0",
            ),
            (
                &format!("{head}vary = 'threads'\ntargets = ['epoq']\nrate = -5.0"),
                "rate is more than 0",
            ),
            (
                &format!("{head}vary = 'threads'\ntargets = ['epoq']\nrate = nan"),
                "rate is more than 0",
            ),
            (
                &format!("{head}vary = 'load'\ntargets = ['epoq']\nrate = 5"),
                "no rate",
            ),
            (
                &format!("{head}vary = 'groups'\ntargets = ['epoq']\nbatch = 50"),
                "curve groups: batch is 1 to 10, not 50",
            ),
            (
                &format!("{head}vary = 'groups'\ntargets = ['epoq']\nbody = 100"),
                "no body",
            ),
            (
                &format!("{head}vary = 'groups'\ntargets = ['epoq']\nseconds = 241"),
                "at most 240",
            ),
            (
                &format!("{head}vary = 'threads'\ntargets = ['epoq']\nseconds = 3601"),
                "seconds is 0.001 to 3600",
            ),
            (
                &format!("{head}vary = 'time'\nvalues = ['12h']\ntargets = ['epoq']"),
                "time 43200 s: a pass is too long",
            ),
            (
                &format!("{head}vary = 'in-flight'\nvalues = ['1000M']\nbody = '1MiB'\ntargets = ['epoq']"),
                "values: 1 G left out",
            ),
            (
                &format!("{head}vary = 'queues'\ntargets = ['locked']"),
                "--queues",
            ),
            (
                &format!("{head}vary = 'in-flight'\ntargets = ['seg-queue']"),
                "lease",
            ),
            (
                &format!(
                    "{head}vary = 'batch'\ntargets = ['epoq']\n[[curve]]\nvary = 'batch'\ntargets = ['epoq']"
                ),
                "id",
            ),
        ] {
            let error = Sweep::read(text, 1.0, 1).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_pass_may_take_hours_and_a_suite_its_time() {
        let text = "name = 'x'\n[[curve]]\nvary = 'time'\nvalues = ['2h']\ntargets = ['epoq']";
        assert_eq!(
            Sweep::read(text, 1.0, 1).unwrap().curves[0].values,
            [Value::Number(7200.0)]
        );
        assert!(Sweep::read(FULL, 8.0, 1).is_ok());
    }

    #[test]
    fn what_is_left_out_is_said() {
        let mut sweep = Sweep::read(QUICK, 1.0, 1).unwrap();
        let backlog = sweep
            .curves
            .iter_mut()
            .find(|curve| curve.vary == Vary::Backlog)
            .unwrap();
        backlog.drop_what_does_not_fit(Some(1 << 50));
        assert_eq!(backlog.left_out_words(), None);
        backlog.values = Vary::Backlog.default_values();
        backlog.drop_what_does_not_fit(Some(2 << 30));
        assert_eq!(backlog.values.len(), 5);
        let words = backlog.left_out_words().unwrap();
        assert!(
            words.starts_with("10 M left out: more messages queued"),
            "{words}"
        );
    }

    #[test]
    fn some_curves_may_be_kept() {
        let mut sweep = Sweep::read(QUICK, 1.0, 1).unwrap();
        assert!(sweep.keep(&["colour".into()]).is_err());
        sweep.keep(&["batch".into()]).unwrap();
        assert_eq!(sweep.curves.len(), 1);
    }
}
