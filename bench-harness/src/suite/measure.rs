//! Measuring a sweep: curve by curve, in rounds through all of a curve's points and all targets of a point, until the end or until
//! Ctrl-C. So a machine that changes its speed in between changes it for a whole curve alike, and not for some of its points.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value as Json, json};

use super::{
    axis::{Value, Vary},
    results::{Circumstances, Curve, Hardware, LatencyRecord, Line, PassRecord, Point, Reading, Spread},
    stop,
    sweep::{CurvePlan, Sweep, Targets},
};
use crate::{
    compare::{Experiment, Outcome, Overheads, Series, there_and_back},
    environment,
    fifo::pass::{FifoPass, FifoPlan},
    id_set,
    latency::Latency,
    memory::{self, Kept},
    plan::Plan,
    progress::Progress,
    run::Pass,
    scenario::Scenario,
    scenarios::fifo,
    targets::{FifoTargetName, TargetName},
};

/// Shows how a sweep goes and how long it still takes, and takes memory readings of long runs.
#[derive(Debug)]
pub struct Watch {
    bar: ProgressBar,
    begin: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Seconds by the sweep's own reckoning: of all, and of what is done.
    planned: f64,
    done: f64,
    /// Of the point being measured.
    point: f64,
    /// What part of that is done.
    part: f64,
    /// Passes of the point, all targets, and how many were begun.
    passes: usize,
    begun: usize,
    title: String,
    readings: Option<Readings>,
    /// Every pass that was begun, by the title of its point.
    #[cfg(test)]
    order: Vec<String>,
}

/// Readings of a long run, and what has been counted for them since it began.
#[derive(Debug)]
struct Readings {
    taken: Vec<Reading>,
    meter: Option<memory::Meter>,
    /// The harness's own at the beginning.
    books_bytes: usize,
}

impl Readings {
    /// Allocated since the beginning, but for the harness's books; both as it was asked for.
    fn allocated_bytes(&self) -> Option<u64> {
        let all = self.meter.as_ref()?.bytes();
        let books = id_set::all_bytes() as i64 - self.books_bytes as i64;
        Some((all - books).max(0).cast_unsigned())
    }
}

impl Watch {
    /// For a sweep that takes about so many seconds.
    pub fn new(planned: f64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr_with_hz(10));
        let style =
            ProgressStyle::with_template("{spinner} [{bar:24}] {percent:>3} %  {prefix:>10}  {wide_msg}");
        bar.set_style(
            style
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("━╸ "),
        );
        Self {
            bar,
            begin: Instant::now(),
            state: Mutex::new(State {
                planned,
                done: 0.0,
                point: 0.0,
                part: 0.0,
                passes: 1,
                begun: 0,
                title: String::new(),
                readings: None,
                #[cfg(test)]
                order: Vec::new(),
            }),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn point(&self, title: String, seconds: f64, passes: usize) {
        self.with(|state| {
            state.title = title;
            state.point = seconds;
            state.part = 0.0;
            state.passes = passes.max(1);
            state.begun = 0;
        });
        self.show("");
    }

    /// The next pass of the point begins.
    fn pass(&self) {
        self.with(|state| {
            state.begun += 1;
            #[cfg(test)]
            state.order.push(state.title.clone());
            state.at(0.0);
        });
    }

    fn point_done(&self) {
        self.with(|state| {
            state.done += state.point;
            state.point = 0.0;
            state.part = 0.0;
        });
    }

    fn show(&self, words: &str) {
        let (share, title) = self.with(|state| {
            (
                state.seconds_done() / state.planned.max(1e-9),
                state.title.clone(),
            )
        });
        self.bar.set_position((share * 1000.0).min(1000.0) as u64);
        self.bar.set_prefix(format!("{} left", clock(self.left())));
        self.bar.set_message(format!("{title}  {words}"));
        self.bar.tick();
    }

    /// What is left, by the reckoning and by how it held so far.
    pub fn left(&self) -> Duration {
        let (planned, done) = self.with(|state| (state.planned, state.seconds_done()));
        let elapsed = self.begin.elapsed().as_secs_f64();
        // The reckoning counts as if a part of it had been kept: so the first points do not throw it about.
        const TRUST: f64 = 5.0;
        let pace = (elapsed + TRUST) / (done + TRUST);
        Duration::from_secs_f64(((planned - done) * pace.max(0.1)).max(0.0))
    }

    fn begin_readings(&self) {
        self.with(|state| {
            state.readings = Some(Readings {
                taken: Vec::new(),
                meter: memory::is_counting().then(memory::Meter::begin),
                books_bytes: id_set::all_bytes(),
            });
        });
    }

    fn end_readings(&self) -> Vec<Reading> {
        self.with(|state| state.readings.take())
            .map(|readings| readings.taken)
            .unwrap_or_default()
    }
}

impl State {
    /// So much of the pass that was begun last is over.
    fn at(&mut self, part: f64) {
        self.part = ((self.begun.saturating_sub(1) as f64 + part) / self.passes as f64).clamp(self.part, 1.0);
    }

    fn seconds_done(&self) -> f64 {
        self.done + self.point * self.part
    }
}

impl Progress for Watch {
    fn phase(&self, name: &str) {
        if name == "warming up" {
            self.pass();
        }
        self.show(name);
    }

    fn tick(&self, part: f64, messages_per_second: f64) {
        self.with(|state| state.at(part));
        self.show(&format!("{:.2} M/s", messages_per_second / 1e6));
    }

    fn reading(&self, elapsed: Duration, messages: u64, target_bytes: &dyn Fn() -> Option<u64>) {
        self.with(|state| {
            if let Some(readings) = &mut state.readings {
                let allocated_bytes = readings.allocated_bytes();
                readings.taken.push(Reading {
                    seconds: elapsed.as_secs_f64(),
                    messages,
                    resident_bytes: memory::resident_bytes(),
                    target_bytes: target_bytes(),
                    allocated_bytes,
                });
            }
        });
    }

    fn is_stopped(&self) -> bool {
        stop::is_asked_for()
    }

    fn line(&self, line: &str) {
        if self.bar.is_hidden() {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// `1:05`.
pub fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().round() as u64;
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

/// Measures curves, one after the other.
#[derive(Debug)]
pub struct Measurer<'s> {
    sweep: &'s Sweep,
    watch: Watch,
    overheads: Overheads,
}

impl<'s> Measurer<'s> {
    /// Ready to begin.
    pub fn new(sweep: &'s Sweep) -> Self {
        Self {
            sweep,
            watch: Watch::new(sweep.seconds()),
            overheads: Overheads::default(),
        }
    }

    /// How it goes.
    pub const fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Measures all curves, and shows each to `keep` when it is done, one that Ctrl-C or an error cut short as well.
    pub fn measure(&mut self, mut keep: impl FnMut(Curve) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let sweep = self.sweep;
        for plan in &sweep.curves {
            if stop::is_asked_for() {
                break;
            }
            let begin = Instant::now();
            let (curve, measured) = self.curve(plan);
            let points: usize = curve.lines.iter().map(|line| line.points.len()).sum();
            let verdict = if curve
                .lines
                .iter()
                .flat_map(Line::all_points)
                .all(|point| point.verified)
            {
                "verified"
            } else {
                "FAILED"
            };
            self.watch.line(&format!(
                "{:<18} {points:>3} points, {verdict}, {:.0} s; about {} left",
                curve.id,
                begin.elapsed().as_secs_f64(),
                clock(self.watch.left())
            ));
            let kept = if points > 0 { keep(curve) } else { Ok(()) };
            if let Err(error) = measured.and(kept) {
                self.watch.end();
                return Err(error.context(format!("curve {}", plan.id)));
            }
        }
        self.watch.end();
        Ok(())
    }

    /// A curve, and why there is no more of it, if something broke.
    fn curve(&mut self, plan: &CurvePlan) -> (Curve, anyhow::Result<()>) {
        let mut curve = Curve {
            id: plan.id.clone(),
            vary: plan.vary,
            axis: plan.vary.label().to_owned(),
            scale: plan.vary.scale(),
            scenario: match plan.targets {
                Targets::Standard(_) => plan.scenario.name(),
                Targets::Fifo(_) => "fifo",
            }
            .to_owned(),
            settings: settings(plan),
            left_out: plan.left_out_words(),
            lines: lines(&plan.targets),
        };
        let measured = match &plan.targets {
            Targets::Fifo(targets) => self.fifo(plan, targets, &mut curve),
            Targets::Standard(targets) if plan.vary == Vary::Load => self.load(plan, targets, &mut curve),
            Targets::Standard(targets) => self.standard(plan, targets, &mut curve, &|_, _| {}),
        };
        curve.lines.retain(|line| line.all_points().next().is_some());
        (curve, measured)
    }

    /// All points of a curve, or what there was of them; `prepare` has the last word on what the passes of a point are to be.
    fn standard(
        &mut self,
        plan: &CurvePlan,
        targets: &[TargetName],
        curve: &mut Curve,
        prepare: &dyn Fn(&Value, &mut Outcome),
    ) -> anyhow::Result<()> {
        let mut points = Vec::new();
        let measured = self.standard_points(plan, targets, prepare, &mut points);
        keep_points(plan, targets, points, curve);
        measured
    }

    /// The passes of all points, in rounds. Where something breaks, `points` has those that were made.
    fn standard_points(
        &mut self,
        plan: &CurvePlan,
        targets: &[TargetName],
        prepare: &dyn Fn(&Value, &mut Outcome),
        points: &mut Vec<Measured>,
    ) -> anyhow::Result<()> {
        let mut begin = |value| -> anyhow::Result<Measured> {
            let experiment = Experiment {
                plan: plan.plan(value).map_err(anyhow::Error::msg)?,
                targets: targets.to_vec(),
                passes: plan.passes_of(value),
            };
            let mut outcome = experiment.begin(&mut self.overheads, &self.watch)?;
            prepare(value, &mut outcome);
            Ok((experiment, outcome, Vec::new()))
        };
        for value in &plan.values {
            points.push(begin(value)?);
        }
        for (round, index) in rounds(plan) {
            let (value, (experiment, outcome, readings)) = (&plan.values[index], &mut points[index]);
            self.begin_pass(plan, value);
            if plan.vary == Vary::Time {
                self.watch.begin_readings();
            }
            experiment.round(round, outcome, &self.watch)?;
            readings.extend(self.watch.end_readings());
            self.watch.point_done();
            if stop::is_asked_for() {
                break;
            }
        }
        Ok(())
    }

    /// All targets of a point are next, once.
    fn begin_pass(&self, plan: &CurvePlan, value: &Value) {
        let seconds = plan.seconds_of(value) / plan.passes_of(value) as f64;
        self.watch
            .point(title(plan, value), seconds, plan.targets.count());
    }

    /// Arrivals as parts of what each target can take: all of one point in turn, each at a rate of its own.
    fn load(&mut self, plan: &CurvePlan, targets: &[TargetName], curve: &mut Curve) -> anyhow::Result<()> {
        let title_of_capacity = format!("{}: capacity", plan.id);
        self.watch.point(
            title_of_capacity,
            seconds_flat_out(plan),
            plan.passes * targets.len(),
        );
        // A schedule that nobody can keep: arrivals are never waited for, and all else is as it will be.
        let flat_out = Experiment {
            plan: plan.plan(&plan.values[0]).map_err(anyhow::Error::msg)?,
            targets: targets.to_vec(),
            passes: plan.passes,
        }
        .execute(&mut self.overheads, &self.watch)?;
        if !flat_out.verified() {
            // The finding is kept; there is nothing to take parts of.
            self.watch.point_done();
            let (plan_of_all, passes) = (flat_out.plan.clone(), plan.passes);
            for (line, series) in curve.lines.iter_mut().zip(&flat_out.series) {
                let command = command(&plan_of_all, targets, passes);
                line.points
                    .extend(point(&flat_out, plan.vary, &plan.values[0], series, command, &[]));
            }
            return Ok(());
        }
        for (line, series) in curve.lines.iter_mut().zip(&flat_out.series) {
            let passes = &series.passes;
            let rates = Spread::of(passes.iter().map(Pass::messages_per_second));
            line.capacity = rates.map(|rates| rates.median);
            line.capacity_range = rates.map(|rates| [rates.min, rates.max]);
        }
        self.watch.point_done();
        // Stopped before each had a pass: there is nothing to take parts of.
        if curve.lines.iter().any(|line| line.capacity.is_none()) {
            return Ok(());
        }
        let capacities: Vec<_> = curve.lines.iter().map(|line| line.capacity).collect();
        self.standard(plan, targets, curve, &|value, outcome| {
            for (series, capacity) in outcome.series.iter_mut().zip(&capacities) {
                series.rate = capacity.map(|capacity| (capacity * value.position() / 100.0).max(1.0).round());
            }
        })?;
        if targets.len() > 1 && !stop::is_asked_for() {
            self.load_at_same_rate(plan, targets, curve)?;
        }
        Ok(())
    }

    /// Latencies that can be compared: each target gets what the slowest can take with ease.
    fn load_at_same_rate(
        &mut self,
        plan: &CurvePlan,
        targets: &[TargetName],
        curve: &mut Curve,
    ) -> anyhow::Result<()> {
        const PERCENT: f64 = 50.0;
        let capacities = curve.lines.iter().filter_map(|line| line.capacity);
        let slowest = capacities.fold(f64::INFINITY, f64::min);
        let value = Value::Number(PERCENT);
        let mut all = plan.plan(&value).map_err(anyhow::Error::msg)?;
        all.rate = Some((slowest * PERCENT / 100.0).max(1.0).round());
        let title = format!("{}: all at one rate", plan.id);
        self.watch
            .point(title, seconds_flat_out(plan), plan.passes * targets.len());
        let experiment = Experiment {
            plan: all,
            targets: targets.to_vec(),
            passes: plan.passes,
        };
        let outcome = experiment.execute(&mut self.overheads, &self.watch)?;
        self.watch.point_done();
        for (line, series) in curve.lines.iter_mut().zip(&outcome.series) {
            let command = command(&experiment.plan, targets, experiment.passes);
            line.at_same_rate = point(&outcome, plan.vary, &value, series, command, &[]);
        }
        Ok(())
    }

    fn fifo(
        &mut self,
        plan: &CurvePlan,
        targets: &[FifoTargetName],
        curve: &mut Curve,
    ) -> anyhow::Result<()> {
        let kept = Kept::begin();
        let begin = |value: &Value| {
            let fifo_plan = FifoPlan {
                groups: value.position() as usize,
                threads: plan.fifo_threads(),
                batch: plan.wishes.batch.unwrap_or(1),
                turn: plan.wishes.turn,
                depth: 0,
                duplicates: 0,
                back: 1,
                duration: Duration::from_secs_f64(plan.seconds),
                warm_up: fifo::warm_up(plan.seconds),
                messages_max: fifo::messages_max(),
                seed: plan.wishes.seed.unwrap_or(1),
            };
            (fifo_plan, vec![Vec::<FifoPass>::new(); targets.len()])
        };
        let mut points: Vec<_> = plan.values.iter().map(begin).collect();
        let measured = self.fifo_passes(plan, targets, &mut points);
        for (value, (fifo_plan, passes)) in plan.values.iter().zip(&points) {
            for (line, passes) in curve.lines.iter_mut().zip(passes) {
                line.points
                    .extend(fifo_point(fifo_plan, value, passes, targets, plan.seconds));
            }
        }
        drop(kept);
        measured
    }

    /// The passes of all points, in rounds.
    fn fifo_passes(
        &self,
        plan: &CurvePlan,
        targets: &[FifoTargetName],
        points: &mut [(FifoPlan, Vec<Vec<FifoPass>>)],
    ) -> anyhow::Result<()> {
        for (round, index) in rounds(plan) {
            let (fifo_plan, passes) = &mut points[index];
            self.begin_pass(plan, &plan.values[index]);
            for index in there_and_back(targets.len(), round) {
                if !stop::is_asked_for() {
                    self.watch.pass();
                    self.watch.show(targets[index].name());
                    passes[index].push(targets[index].pass(fifo_plan)?);
                }
            }
            self.watch.point_done();
            if stop::is_asked_for() {
                break;
            }
        }
        Ok(())
    }
}

/// What the capacities of a load curve take, and as much the one rate for all.
fn seconds_flat_out(plan: &CurvePlan) -> f64 {
    plan.seconds_flat_out()
}

/// A point's passes, and what was read during them.
type Measured = (Experiment, Outcome, Vec<Reading>);

fn keep_points(plan: &CurvePlan, targets: &[TargetName], points: Vec<Measured>, curve: &mut Curve) {
    for (value, (experiment, outcome, readings)) in plan.values.iter().zip(&points) {
        for (line, series) in curve.lines.iter_mut().zip(&outcome.series) {
            // With a rate of its own, a target is measured by a command of its own.
            let targets = match series.rate {
                Some(_) => &[series.target],
                None => targets,
            };
            let command = command(&series.plan(&outcome.plan), targets, experiment.passes);
            line.points
                .extend(point(outcome, plan.vary, value, series, command, readings));
        }
    }
}

/// Round after round through the points of a curve, by index: back in every second one, and without those that have had their passes.
fn rounds(plan: &CurvePlan) -> Vec<(usize, usize)> {
    let passes: Vec<usize> = plan.values.iter().map(|value| plan.passes_of(value)).collect();
    let most = passes.iter().copied().max().unwrap_or(0);
    (0..most)
        .flat_map(|round| {
            there_and_back(passes.len(), round)
                .into_iter()
                .map(move |index| (round, index))
        })
        .filter(|&(round, index)| round < passes[index])
        .collect()
}

fn lines(targets: &Targets) -> Vec<Line> {
    let line = |target: &'static str, leases| Line {
        target: target.to_owned(),
        leases,
        capacity: None,
        capacity_range: None,
        points: Vec::new(),
        at_same_rate: None,
    };
    match targets {
        Targets::Standard(targets) => targets
            .iter()
            .map(|target| line(target.name(), target.leases()))
            .collect(),
        Targets::Fifo(targets) => targets.iter().map(|target| line(target.name(), true)).collect(),
    }
}

fn title(plan: &CurvePlan, value: &Value) -> String {
    format!("{}: {}", plan.id, value.words(plan.vary))
}

/// The settings that stay, completed where the plan completes them.
fn settings(plan: &CurvePlan) -> Map<String, Json> {
    let mut settings = Map::new();
    let mut set = |name: &str, varied: Vary, value: Json| {
        if plan.vary != varied && !value.is_null() {
            settings.insert(name.to_owned(), value);
        }
    };
    if let Targets::Fifo(_) = plan.targets {
        set("threads", Vary::Threads, json!(plan.fifo_threads()));
        set("batch", Vary::Batch, json!(plan.wishes.batch.unwrap_or(1)));
        set("turn", Vary::Turn, json!(plan.wishes.turn));
    } else if let Some(point) = plan.values.first().and_then(|value| plan.plan(value).ok()) {
        if plan.vary != Vary::Ratio {
            set("threads", Vary::Threads, json!(point.topology.threads()));
        }
        set("batch", Vary::Batch, json!(point.batch));
        set("body", Vary::Body, json!(point.body_bytes));
        set("backlog", Vary::Backlog, json!(point.backlog));
        set("in-flight", Vary::InFlight, json!(point.in_flight));
        set("turn", Vary::Turn, json!(point.turn));
        set("queues", Vary::Queues, json!(point.queues));
        if point.partitions.is_some() {
            set("partitions", Vary::Threads, json!(point.partitions));
        }
        if plan.vary != Vary::Load {
            set("rate", Vary::Load, json!(point.rate));
        }
    }
    if plan.vary != Vary::Time {
        set("seconds", Vary::Time, json!(plan.seconds));
    }
    set("passes", Vary::Time, json!(plan.passes));
    settings
}

/// `None` if not one pass of the point came to an end and none was wrong: what is wrong counts however short it was.
fn point(
    outcome: &Outcome,
    vary: Vary,
    value: &Value,
    series: &Series,
    command: String,
    readings: &[Reading],
) -> Option<Point> {
    let plan = &outcome.plan;
    // A pass that Ctrl-C cut short says little about a rate, but all about memory until then.
    let says_enough = |pass: &Pass| match vary {
        Vary::Time => plan.is_filled_by(pass.settlement.sent),
        _ => !pass.is_cut_short(plan),
    };
    let whole = series
        .passes
        .iter()
        .filter(|pass| !pass.verified() || says_enough(pass));
    let behind = |pass: &&Pass| pass.kept_schedule == Some(false);
    let behind = whole.clone().filter(behind).count();
    let passes: Vec<PassRecord> = whole.map(|pass| record(plan, pass, readings)).collect();
    let threads = plan.topology.threads();
    (!passes.is_empty()).then(|| Point {
        x: value.position(),
        label: value.words(vary),
        threads,
        oversubscribed: threads > environment::cores(),
        verified: series.verified(),
        command,
        harness_ns: Some(outcome.harness_ns),
        passes,
        repeated: outcome.repeated,
        behind,
        findings: series
            .passes
            .iter()
            .flat_map(|pass| pass.settlement.findings.lines())
            .collect(),
    })
}

fn record(plan: &Plan, pass: &Pass, readings: &[Reading]) -> PassRecord {
    let of_backlog = plan.scenario == Scenario::Backlog && plan.backlog >= 1_000_000 && plan.in_flight == 0;
    let bytes = of_backlog.then(|| {
        pass.resident
            .bytes_per_message_beyond_body(plan.backlog, plan.body_bytes)
    });
    let is_counted = pass.resident.allocated_bytes.is_some();
    PassRecord {
        messages: pass.messages,
        seconds: pass.seconds,
        sent: pass.settlement.sent,
        deleted: pass.settlement.deleted,
        asked: pass.due.map(|due| due / pass.seconds),
        latency: latency(&pass.latency, pass.measures.describe()),
        bytes_per_message: bytes.flatten().filter(|_| !is_counted),
        allocated_bytes_per_message: bytes.flatten().filter(|_| is_counted),
        apart_ns: pass.noise.apart_ns,
        readings: readings.to_vec(),
        circumstances: Some(circumstances(pass)),
    }
}

fn circumstances(pass: &Pass) -> Circumstances {
    let each = |count: u64| count as f64 / pass.messages as f64;
    Circumstances {
        warm_up_seconds: pass.warm_up_seconds,
        steady: pass.steady,
        waited: pass.noise.waited,
        preemptions: pass.noise.preemptions,
        stolen: pass.noise.stolen,
        hardware: pass.counts.filter(|_| pass.messages > 0).map(|counts| Hardware {
            cycles: each(counts.cycles),
            instructions: each(counts.instructions),
            cache_misses: each(counts.cache_misses),
        }),
    }
}

fn latency(latency: &Latency, of: &str) -> Option<LatencyRecord> {
    Some(LatencyRecord {
        of: of.to_owned(),
        samples: latency.samples(),
        p50: latency.quantile_ns(0.5)?,
        p90: latency.quantile_ns(0.9)?,
        p99: latency.quantile_ns(0.99)?,
        p999: latency.quantile_ns(0.999)?,
        max: latency.max_ns()?,
    })
}

fn fifo_point(
    plan: &FifoPlan,
    value: &Value,
    passes: &[FifoPass],
    targets: &[FifoTargetName],
    seconds: f64,
) -> Option<Point> {
    let passes: Vec<&FifoPass> = passes
        .iter()
        .filter(|pass| !pass.verified() || pass.is_measured())
        .collect();
    let names: Vec<_> = targets.iter().map(|target| target.name()).collect();
    let turn = plan.turn.map_or(String::new(), |turn| format!(" --turn {turn}"));
    (!passes.is_empty()).then(|| Point {
        x: value.position(),
        label: value.words(Vary::Groups),
        threads: plan.threads,
        oversubscribed: plan.threads > environment::cores(),
        verified: passes.iter().all(|pass| pass.verified()),
        command: format!(
            "epoq-bench fifo --groups {} --threads {} --batch {}{turn} --targets {} --passes {} --seconds {seconds} --seed {}",
            plan.groups,
            plan.threads,
            plan.batch,
            names.join(","),
            passes.len(),
            plan.seed
        ),
        harness_ns: None,
        passes: passes
            .iter()
            .map(|pass| PassRecord {
                messages: pass.messages,
                seconds: pass.seconds,
                sent: pass.settlement.sent,
                deleted: pass.settlement.deleted,
                asked: None,
                latency: None,
                bytes_per_message: None,
                allocated_bytes_per_message: None,
                apart_ns: pass.apart_ns,
                readings: Vec::new(),
                circumstances: None,
            })
            .collect(),
        repeated: 0,
        behind: 0,
        findings: passes
            .iter()
            .flat_map(|pass| pass.settlement.findings.lines())
            .collect(),
    })
}

/// The command that measures one point.
fn command(plan: &Plan, targets: &[TargetName], passes: usize) -> String {
    use std::fmt::Write;
    let names: Vec<_> = targets.iter().map(|target| target.name()).collect();
    let mut line = match names.as_slice() {
        [one] => format!("epoq-bench run {} --target {one}", plan.scenario.name()),
        all => format!(
            "epoq-bench compare {} --targets {}",
            plan.scenario.name(),
            all.join(",")
        ),
    };
    if plan.topology.is_split() {
        let _ = write!(
            line,
            " --producers {} --consumers {}",
            plan.topology.senders(),
            plan.topology.receivers()
        );
    } else {
        let _ = write!(line, " --threads {}", plan.topology.threads());
    }
    let _ = write!(line, " --batch {} --body {}", plan.batch, plan.body_bytes);
    let mut option = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(line, " --{name} {value}");
        }
    };
    let fills = matches!(plan.scenario, Scenario::Backlog | Scenario::Flood) || plan.topology.is_split();
    option(
        "backlog",
        (fills || plan.backlog > 0).then(|| plan.backlog.to_string()),
    );
    let holds = plan.scenario == Scenario::Inflight || plan.in_flight > 0;
    option("in-flight", holds.then(|| plan.in_flight.to_string()));
    option("partitions", plan.partitions.map(|n| n.to_string()));
    option("turn", plan.turn.map(|n| n.to_string()));
    option("share", plan.share.map(|n| n.to_string()));
    option("queues", (plan.queues > 1).then(|| plan.queues.to_string()));
    option("rate", plan.rate.map(|n| n.to_string()));
    option("seconds", Some(plan.duration.as_secs_f64().to_string()));
    option("passes", Some(passes.to_string()));
    option("seed", Some(plan.seed.to_string()));
    line
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{
        cli::{Cli, Command},
        progress::Quiet,
        suite::sweep::{QUICK, Sweep},
    };

    fn small(curve: &str) -> Sweep {
        let text = format!("name = 'test'\npasses = 2\nseconds = 0.02\n[[curve]]\n{curve}");
        Sweep::read(&text, 1.0, 1).unwrap()
    }

    fn measured(curve: &str) -> Curve {
        let sweep = small(curve);
        let mut curves = Vec::new();
        Measurer::new(&sweep)
            .measure(|curve| {
                curves.push(curve);
                Ok(())
            })
            .unwrap();
        curves.remove(0)
    }

    #[test]
    fn every_kind_of_curve_conserves_its_messages() {
        for (curve, lines, points) in [
            (
                "vary = 'threads'\nvalues = [1, 3]\ntargets = ['epoq', 'locked']",
                2,
                2,
            ),
            (
                "vary = 'ratio'\nvalues = ['1:1', '2:1']\ntargets = ['epoq']",
                1,
                2,
            ),
            (
                "vary = 'share'\nvalues = [50, 75, 100]\nthreads = 2\ntargets = ['epoq', 'locked']",
                2,
                3,
            ),
            (
                "vary = 'share'\nvalues = [60, 100]\nthreads = 3\nbatch = 7\ntargets = ['epoq', 'seg-queue']",
                2,
                2,
            ),
            ("vary = 'queues'\nvalues = [1, 50]\ntargets = ['epoq']", 1, 2),
            (
                "vary = 'groups'\nvalues = [1, 100]\ntargets = ['epoq', 'locked-fifo']",
                2,
                2,
            ),
            ("vary = 'backlog'\nvalues = [0, 1000]\ntargets = ['epoq']", 1, 2),
            (
                "vary = 'in-flight'\nvalues = [0, 1000]\nbatch = 10\ntargets = ['epoq']",
                1,
                2,
            ),
        ] {
            let curve_text = curve;
            let curve = measured(curve_text);
            assert_eq!(curve.lines.len(), lines, "{curve_text}");
            for point in curve.lines.iter().flat_map(|line| &line.points) {
                assert!(point.verified, "{curve_text}: {:?}", point.findings);
                assert!(
                    point
                        .passes
                        .iter()
                        .all(|pass| pass.sent == pass.deleted && pass.messages > 0),
                    "{curve_text}"
                );
            }
            assert!(
                curve.lines.iter().all(|line| line.points.len() == points),
                "{curve_text}"
            );
            // What went on besides is written down with each pass; FIFO queues have passes of their own, which do not tell.
            let is_told = curve
                .lines
                .iter()
                .flat_map(|line| &line.points)
                .flat_map(|point| &point.passes)
                .all(|pass| pass.circumstances.is_some());
            assert_eq!(is_told, curve.vary != Vary::Groups, "{curve_text}");
        }
    }

    #[test]
    fn loads_are_parts_of_the_capacity() {
        let curve =
            measured("vary = 'load'\nvalues = [10, 50]\nthreads = 1\ntargets = ['locked', 'seg-queue']");
        let mut rates = Vec::new();
        for line in &curve.lines {
            let (capacity, [least, most]) = (line.capacity.unwrap(), line.capacity_range.unwrap());
            assert!(0.0 < least && least <= capacity && capacity <= most);
            assert_eq!(capacity, (least + most) / 2.0, "the median of two");
            assert_eq!(line.points.len(), 2);
            for point in &line.points {
                assert!(point.latency(|latency| latency.p99).is_some());
                let rate = (capacity * point.x / 100.0).round();
                let (one, its_rate) = (&line.target, format!(" --rate {rate} "));
                assert!(point.command.contains(&format!(" --target {one} ")));
                assert!(point.command.contains(&its_rate), "{}", point.command);
                let asked = point.asked().unwrap();
                assert!(
                    0.3 * rate < asked.median && asked.median < 3.0 * rate,
                    "{asked:?} of {rate}"
                );
            }
            let same = line.at_same_rate.as_ref().unwrap();
            assert!(same.verified && same.command.contains(" --targets locked,seg-queue "));
            rates.push(same.command.split_once("--rate").unwrap().1.to_owned());
        }
        assert_eq!(rates[0], rates[1]);
    }

    #[test]
    fn a_schedule_that_cannot_be_kept_is_recorded() {
        let sweep = small("vary = 'load'\nthreads = 1\ntargets = ['locked']");
        let value = Value::Number(150.0);
        let flat_out = Experiment {
            plan: sweep.curves[0].plan(&value).unwrap(),
            targets: vec![TargetName::Locked],
            passes: 2,
        };
        let outcome = flat_out.execute(&mut Overheads::default(), &Quiet).unwrap();
        let point = point(
            &outcome,
            Vary::Load,
            &value,
            &outcome.series[0],
            String::new(),
            &[],
        )
        .unwrap();
        assert_eq!(point.behind, 2);
        assert!(point.asked().unwrap().median > point.rate().unwrap().median);
        let json = serde_json::to_value(&point).unwrap();
        assert_eq!(json["behind"], 2);
        assert!(json["passes"][0]["asked"].as_f64() > Some(0.0));
    }

    #[test]
    fn a_wrong_pass_is_a_point_however_short() {
        let sweep = small("vary = 'batch'\nvalues = [1]\nthreads = 1\ntargets = ['locked', 'seg-queue']");
        let value = Value::Number(1.0);
        let experiment = Experiment {
            plan: sweep.curves[0].plan(&value).unwrap(),
            targets: vec![TargetName::Locked, TargetName::SegQueue],
            passes: 1,
        };
        let mut outcome = experiment.execute(&mut Overheads::default(), &Quiet).unwrap();
        for series in &mut outcome.series {
            series.passes[0].seconds = 0.001;
        }
        let wrongs = &mut outcome.series[0].passes[0].settlement.findings;
        wrongs.add(crate::check::Wrong::Lost, "one of them");
        let of = |series| point(&outcome, Vary::Batch, &value, series, String::new(), &[]);
        let wrong = of(&outcome.series[0]).unwrap();
        assert!(!wrong.verified && wrong.findings[0].contains("one of them"));
        assert!(of(&outcome.series[1]).is_none(), "short, and nothing else to say");
    }

    #[test]
    fn a_wrong_fifo_pass_is_a_point_however_short() {
        let plan = FifoPlan {
            groups: 1,
            threads: 1,
            batch: 1,
            turn: None,
            depth: 0,
            duplicates: 0,
            back: 1,
            duration: Duration::from_millis(20),
            warm_up: Duration::ZERO,
            messages_max: 1_000_000,
            seed: 1,
        };
        let targets = [FifoTargetName::LockedFifo];
        let mut pass = targets[0].pass(&plan).unwrap();
        let of = |pass: &FifoPass| {
            fifo_point(
                &plan,
                &Value::Number(1.0),
                std::slice::from_ref(pass),
                &targets,
                0.02,
            )
        };
        assert!(of(&pass).is_some());
        (pass.messages, pass.seconds) = (0, 0.0);
        assert!(of(&pass).is_none());
        pass.settlement
            .findings
            .add(crate::check::Wrong::Lost, "one of them");
        assert!(!of(&pass).unwrap().verified);
    }

    #[test]
    fn loads_are_measured_in_rounds() {
        let sweep = small("vary = 'load'\nvalues = [10, 50]\nthreads = 1\ntargets = ['locked', 'seg-queue']");
        let mut measurer = Measurer::new(&sweep);
        measurer.measure(|_| Ok(())).unwrap();
        let (order, done, planned) = measurer
            .watch()
            .with(|state| (state.order.clone(), state.done, state.planned));
        assert!(
            (done - planned).abs() < 1e-6,
            "{done} of {planned} s are reckoned"
        );
        let passes = |title: &str, count| vec![format!("load: {title}"); count];
        let label = |percent| Value::Number(percent).words(Vary::Load);
        let expected = [
            passes("capacity", 4),
            passes(&label(10.0), 2),
            passes(&label(50.0), 4),
            passes(&label(10.0), 2),
            passes("all at one rate", 4),
        ];
        assert_eq!(order, expected.concat());
    }

    #[test]
    fn a_long_run_has_readings() {
        let curve = measured("vary = 'time'\nvalues = [0.5]\nbacklog = 1000\npasses = 1\ntargets = ['epoq']");
        let readings = &curve.lines[0].points[0].passes[0].readings;
        assert!(!readings.is_empty(), "{readings:?}");
        assert!(readings.iter().all(|reading| reading.target_bytes > Some(0)));
        assert!(readings.windows(2).all(|pair| pair[0].seconds < pair[1].seconds));
    }

    #[test]
    fn a_points_command_means_the_same_plan() {
        let sweep = Sweep::read(QUICK, 1.0, 7).unwrap();
        for curve in &sweep.curves {
            let Targets::Standard(targets) = &curve.targets else {
                continue;
            };
            for value in &curve.values {
                let plan = curve.plan(value).unwrap();
                let line = command(&plan, targets, 2);
                let (wishes, scenario) = match Cli::try_parse_from(line.split(' ')).unwrap().command {
                    Some(Command::Run(run)) => (run.options.wishes(), run.scenario),
                    Some(Command::Compare(compare)) => (compare.options.wishes(), compare.scenario),
                    other => panic!("{other:?}"),
                };
                assert_eq!(Plan::new(scenario, wishes).unwrap(), plan, "{line}");
            }
        }
    }

    #[test]
    fn the_remaining_time_falls() {
        let watch = Watch::new(100.0);
        watch.point("a".into(), 50.0, 2);
        let mut left = watch.left();
        assert!(
            left > Duration::from_secs(50) && left < Duration::from_secs(150),
            "{left:?}"
        );
        for _ in 0..2 {
            watch.phase("warming up");
            watch.tick(0.5, 1e6);
            assert!(watch.left() < left, "{left:?}");
            left = watch.left();
        }
        watch.point_done();
        assert!(watch.left() < left);
    }

    #[test]
    fn remaining_time_in_words() {
        assert_eq!(clock(Duration::from_secs(65)), "1:05");
        assert_eq!(clock(Duration::from_secs(3_725)), "1:02:05");
    }
}
