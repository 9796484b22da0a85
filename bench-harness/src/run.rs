//! One pass: threads are made, pinned and filled before the clock; two barrier crossings bracket what is measured; then
//! everything is drained and the books are settled.
//!
//! ```text
//! threads      pin, session ┃        ┃ fill ┃        ┃ warm up ─ measure ─ stop ┃        ┃ drain ┃ release held leases ─ books
//! coordinator               ┃ memory ┃      ┃ memory ┃  sleeps                  ┃ memory ┃       ┃ counts, memory, settlement
//!                           ┃ = barrier
//! ```

use std::{
    ops::Range,
    process,
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};

use crate::{
    check::{Settlement, Withheld, Wrong, settle},
    cores::Cores,
    counters::HardwareCounts,
    distance,
    hand::{Hand, Record, Window},
    latency::{Latency, Measures},
    memory::{self, Resident},
    noise::{MachineReading, Noise},
    overhead,
    plan::Plan,
    progress::Progress,
    roles,
    scenario::Scenario,
    shared::{Phase, Shared},
    suite::stop,
    target::{Counts, Target, TargetConfig},
    topology::{Role, Seat},
};

/// What one pass measured and found.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The target's name.
    pub target: &'static str,
    /// Whether it leases; otherwise it is hand-over only.
    pub leases: bool,
    /// Its partitions, if it has them.
    pub partitions: Option<usize>,
    /// Messages deleted while measuring.
    pub messages: u64,
    /// From the first thread's start to the last one's end.
    pub seconds: f64,
    /// Messages that should have arrived in that time, with a schedule.
    pub due: Option<f64>,
    /// Whether as many were deleted, but for a hundredth and for what was in hand.
    pub kept_schedule: Option<bool>,
    /// What the books say.
    pub settlement: Settlement,
    /// Latency of samples.
    pub latency: Latency,
    /// What that latency is.
    pub measures: Measures,
    /// Resident memory around the fill; meaningful in `backlog` and `flood`.
    pub resident: Resident,
    /// What the target itself counts as used, before the drain and after everything was deleted.
    pub target_bytes: Option<(u64, u64)>,
    /// Receives that found nothing.
    pub empty_receives: u64,
    /// Messages that were left when the senders stopped, all received and deleted afterwards.
    pub drained: u64,
    /// How long the fill took.
    pub fill_seconds: f64,
    /// How long the drain took.
    pub drain_seconds: f64,
    /// How long it ran before it was measured.
    pub warm_up_seconds: f64,
    /// Whether its speed had become steady by then.
    pub steady: bool,
    /// What else went on.
    pub noise: Noise,
    /// What the hardware counted while measuring, all threads together, if it does.
    pub counts: Option<HardwareCounts>,
}

impl Pass {
    /// Of what is due, so much is deleted in time where a schedule is kept.
    const KEPT: f64 = 0.99;

    /// Messages per second, all threads together.
    pub fn messages_per_second(&self) -> f64 {
        self.messages as f64 / self.seconds
    }

    /// Whether Ctrl-C ended it before half of its time, or before it was filled: it says little about a rate. A flood is as long as it takes.
    pub fn is_cut_short(&self, plan: &Plan) -> bool {
        !plan.is_filled_by(self.settlement.sent)
            || plan.scenario != Scenario::Flood && self.seconds < plan.duration.as_secs_f64() / 2.0
    }

    /// Nothing was found wrong.
    pub fn verified(&self) -> bool {
        self.settlement.findings.is_empty()
    }
}

/// What the coordinator reads between barriers, while no thread does anything.
#[derive(Default)]
struct Readings {
    resident: Resident,
    target_bytes: Option<u64>,
    warm_up: WarmUp,
    machine: [MachineReading; 2],
}

/// How a pass came to speed.
#[derive(Clone, Copy, Default)]
struct WarmUp {
    seconds: f64,
    steady: bool,
}

/// Runs `plan` once on a new `T`.
pub fn pass<T: Target>(plan: &Plan, progress: &dyn Progress) -> anyhow::Result<Pass> {
    let clock_cost_ns = overhead::clock_cost_ns();
    let memory_limit_bytes = memory::total_bytes().unwrap_or(u64::MAX / 2);
    let config = TargetConfig {
        partitions: plan.partitions,
        queues: plan.queues,
        senders: plan.topology.senders(),
        receivers: plan.topology.receivers(),
        seed: plan.seed,
        memory_limit_bytes,
    };
    let target = T::build(&config).with_context(|| format!("{} could not be built", T::NAME))?;
    let seats = plan.topology.seats(target.partitions().unwrap_or(1));
    let shared = Shared::new(plan);
    let withheld = Withheld::new(if plan.scenario == Scenario::Redelivery {
        seats.len()
    } else {
        0
    });

    let distance = || {
        let pairs = plan.topology.neighbours().into_iter();
        let each = pairs.map(|(first, second)| distance::round_trip_ns(first, second));
        each.reduce(|one, other| Some(one?.max(other?))).flatten()
    };
    let before = distance();
    let (readings, records) = thread::scope(|scope| {
        let threads: Vec<_> = seats
            .iter()
            .map(|&seat| {
                let (target, shared, withheld) = (&target, &shared, &withheld);
                let body = move || {
                    occupy(
                        target,
                        Hand::new(plan, shared, withheld, seat, clock_cost_ns),
                        seat,
                    )
                };
                let name = format!("{:?} {}", seat.role, seat.index).to_lowercase();
                thread::Builder::new()
                    .name(name)
                    .spawn_scoped(scope, body)
                    .expect("the system has room for a thread")
            })
            .collect();
        let readings = coordinate(plan, &target, &shared, progress);
        let records: Vec<Record<'_>> = threads
            .into_iter()
            .filter_map(|thread| thread.join().expect("threads abort on panic"))
            .collect();
        (readings, records)
    });
    if let Some(failure) = shared.failure.get() {
        return Err(anyhow!("{}: {failure}", T::NAME));
    }
    let mut pass = report(plan, &target, readings, records)?;
    pass.noise = pass.noise.with_distances(before, distance());
    Ok(pass)
}

/// A thread's whole life. `None` when a thread could not begin; then all give up together.
fn occupy<'r, T: Target>(
    target: &'r T,
    mut hand: Hand<'r, <T::Session<'r> as crate::target::Calls>::Handle>,
    seat: Seat,
) -> Option<Record<'r>> {
    let _guard = AbortOnPanic;
    pin(seat.index);
    hand.open_counters();
    let shared = hand.shared;
    let session = target.session(seat.home);
    if let Err(error) = &session {
        // Losing the race to another failure is fine: one reason is enough.
        let _ = shared
            .failure
            .set(format!("thread {} could not register: {error:#}", seat.index));
    }
    shared.barrier.wait();
    if shared.failure.get().is_some() {
        return None;
    }
    let mut session = session.ok()?;
    shared.barrier.wait();
    let begin = Instant::now();
    in_parts(hand.plan.in_flight_of(&seat), |_, until| {
        hand.hold(&mut session, until);
        hand.book.is_wrong()
    });
    in_parts(hand.plan.backlog_of(&seat), |from, until| {
        hand.fill(&mut session, until - from);
        hand.book.is_wrong()
    });
    let fill = begin..Instant::now();
    shared.barrier.wait();
    shared.barrier.wait();
    if hand.plan.scenario != Scenario::Flood {
        match seat.role {
            Role::Cycler => roles::cycler::run(&mut hand, &mut session),
            Role::Producer => roles::producer::run(&mut hand, &mut session),
            Role::Consumer => roles::consumer::run(&mut hand, &mut session),
        }
    }
    hand.publish();
    shared.barrier.wait();
    shared.barrier.wait();
    let begin = Instant::now();
    hand.drain(&mut session);
    let drain = begin..Instant::now();
    shared.barrier.wait();
    hand.release(&mut session);
    Some(hand.into_record(fill, drain))
}

/// Does `count` of something part by part, from where to where, until a part answers that something is wrong: so Ctrl-C need not wait for
/// all of them.
fn in_parts(count: u64, mut act: impl FnMut(u64, u64) -> bool) {
    /// A part takes some milliseconds, and a look at a flag is nothing beside it.
    const PART: u64 = 65_536;
    let mut done = 0;
    while done < count && !stop::is_asked_for() {
        let until = count.min(done + PART);
        if act(done, until) {
            return;
        }
        done = until;
    }
}

/// The other side of the barriers.
fn coordinate<T: Target>(plan: &Plan, target: &T, shared: &Shared, progress: &dyn Progress) -> Readings {
    let mut readings = Readings::default();
    shared.barrier.wait();
    if shared.failure.get().is_some() {
        return readings;
    }
    memory::purge();
    readings.resident.before_bytes = memory::resident_bytes().unwrap_or(0);
    // A flood's time is that of its fill, and counting would be part of it.
    let is_backlog_alone = plan.scenario == Scenario::Backlog && plan.in_flight == 0;
    let counts_fill = is_backlog_alone && plan.backlog > 0 && memory::is_counting();
    let meter = counts_fill.then(memory::Meter::begin);
    if plan.backlog + plan.in_flight > 0 && !plan.topology.is_split() {
        progress.phase("filling");
    }
    shared.barrier.wait();
    shared.barrier.wait();
    readings.resident.allocated_bytes = meter.map(|meter| meter.block_bytes());
    readings.resident.full_bytes = memory::resident_bytes().unwrap_or(0);
    shared.barrier.wait();
    if plan.scenario != Scenario::Flood {
        progress.phase("warming up");
        readings.warm_up = warm_up(plan, shared);
        progress.phase("measuring");
        readings.machine[0] = MachineReading::now();
        shared.set_phase(Phase::Measure);
        watch(plan.duration, target, shared, progress);
        shared.set_phase(Phase::Stop);
        readings.machine[1] = MachineReading::now();
        progress.phase("draining");
    }
    shared.barrier.wait();
    readings.target_bytes = target.memory_bytes();
    shared.barrier.wait();
    shared.barrier.wait();
    readings
}

/// Waits until the speed is steady: three spells in a row within a twentieth of each other, after the plan's time, and for four times
/// as long at most.
fn warm_up(plan: &Plan, shared: &Shared) -> WarmUp {
    const SPELLS: u32 = 4;
    let (begin, least) = (Instant::now(), plan.warm_up);
    let mut rates: Vec<f64> = Vec::new();
    let spell_seconds = (least / SPELLS).as_secs_f64();
    let steady = |rates: &[f64]| {
        let last = rates.last_chunk::<3>();
        last.is_some_and(|last| {
            is_steady(
                last,
                plan.rate.map(|rate| rate / plan.batch as f64 * spell_seconds),
            )
        })
    };
    while !stop::is_asked_for() && (begin.elapsed() < least || !steady(&rates) && begin.elapsed() < least * 4)
    {
        let (spell, before) = (Instant::now(), shared.sum(|seat| &seat.deleted));
        thread::sleep(least / SPELLS);
        let deleted = shared.sum(|seat| &seat.deleted).saturating_sub(before);
        rates.push(deleted as f64 / spell.elapsed().as_secs_f64());
    }
    WarmUp {
        seconds: begin.elapsed().as_secs_f64(),
        steady: steady(&rates),
    }
}

/// Whether three rates are those of a steady speed: within a twentieth of each other, and where so many messages arrive at random in
/// the time of each, within what chance does to their number.
fn is_steady(rates: &[f64; 3], arrivals: Option<f64>) -> bool {
    const STEADY: f64 = 1.05;
    // Of three such numbers, the farthest two are rarely further apart than four times the root.
    let chance = arrivals.map_or(0.0, |arrivals| 4.0 / arrivals.max(1.0).sqrt());
    let (low, high) = rates.iter().fold((f64::INFINITY, 0_f64), |(low, high), &rate| {
        (low.min(rate), high.max(rate))
    });
    low > 0.0 && high / low <= STEADY + chance
}

/// Sleeps through the measurement, showing how it goes.
fn watch<T: Target>(duration: Duration, target: &T, shared: &Shared, progress: &dyn Progress) {
    const TICK: Duration = Duration::from_millis(100);
    const PATIENCE: Duration = Duration::from_secs(5);
    // On a crowded machine a thread may take its time to notice; without it there would be nothing to measure.
    let noticed = Instant::now();
    while shared.measuring.load(Relaxed) < shared.seats.len() && noticed.elapsed() < PATIENCE {
        thread::sleep(Duration::from_micros(200));
    }
    let begin = Instant::now();
    let before = shared.sum(|seat| &seat.deleted);
    loop {
        let elapsed = begin.elapsed();
        let Some(rest) = duration.checked_sub(elapsed).filter(|rest| !rest.is_zero()) else {
            break;
        };
        if progress.is_stopped() {
            break;
        }
        let deleted = shared.sum(|seat| &seat.deleted).saturating_sub(before);
        progress.tick(
            elapsed.as_secs_f64() / duration.as_secs_f64(),
            deleted as f64 / elapsed.as_secs_f64().max(1e-3),
        );
        progress.reading(elapsed, deleted, &|| target.memory_bytes());
        thread::sleep(rest.min(TICK));
    }
}

fn report<T: Target>(
    plan: &Plan,
    target: &T,
    mut readings: Readings,
    records: Vec<Record<'_>>,
) -> anyhow::Result<Pass> {
    let windows: Vec<Window> = records.iter().filter_map(|record| record.window).collect();
    // By the threads' own clocks: the coordinator may be late to notice on a crowded machine.
    let fill_seconds = span(records.iter().map(|record| &record.fill));
    let drain_seconds = span(records.iter().map(|record| &record.drain));
    let empty_receives = records.iter().map(|record| record.empty_receives).sum();
    let drained = records.iter().map(|record| record.drained).sum();
    let (mut senders, mut receivers, mut samples) = (Vec::new(), Vec::new(), Vec::new());
    for record in records {
        senders.push(record.sent);
        receivers.push(record.received);
        samples.push(record.samples);
    }
    let mut settlement = settle(senders, receivers, plan.body_bytes);
    let counts = target.counts();
    if counts != Counts::default() {
        let Counts { visible, in_flight } = counts;
        settlement.findings.add_many(
            Wrong::LeftOver,
            visible + in_flight,
            format_args!("{visible} visible, {in_flight} in flight"),
        );
    }
    memory::purge();
    readings.resident.after_bytes = memory::resident_bytes().unwrap_or(0);

    let (messages, seconds) = if plan.scenario == Scenario::Flood {
        (settlement.deleted, fill_seconds + drain_seconds)
    } else {
        let messages = windows.iter().map(|window| window.messages).sum();
        let start = windows.iter().map(|window| window.start).min();
        let end = windows.iter().map(|window| window.end).max();
        let (Some(start), Some(end)) = (start, end) else {
            return Err(anyhow!("no thread came to run within the measured time"));
        };
        (messages, end.duration_since(start).as_secs_f64())
    };
    let due = plan
        .rate
        .map(|_| windows.iter().filter_map(|window| window.due).sum::<f64>());
    let in_hand = 2 * plan.batch * plan.topology.threads();
    let kept_schedule = due.map(|due| (messages + in_hand as u64) as f64 >= Pass::KEPT * due);
    let [before, after] = readings.machine;
    let noise = Noise::of(windows.iter().map(|window| window.thread), before, after);
    let counts = windows
        .iter()
        .map(|window| window.counts)
        .reduce(|sum, counts| Some(sum?.plus(counts?)))
        .flatten();
    let latency = Latency::merge(samples);
    let measures = match (latency.samples(), plan.rate, plan.topology.is_split()) {
        (0, ..) => Measures::Nothing,
        (_, Some(_), _) => Measures::IntendedToDeleted,
        (_, None, true) => Measures::SendToReceive,
        (_, None, false) => Measures::CycleCalls,
    };
    Ok(Pass {
        target: T::NAME,
        leases: T::LEASES,
        partitions: target.partitions(),
        messages,
        seconds,
        due,
        kept_schedule,
        settlement,
        latency,
        measures,
        resident: readings.resident,
        target_bytes: readings.target_bytes.zip(target.memory_bytes()),
        empty_receives,
        drained,
        fill_seconds,
        drain_seconds,
        warm_up_seconds: readings.warm_up.seconds,
        steady: readings.warm_up.steady,
        noise,
        counts,
    })
}

/// From the first start to the last end.
fn span<'t>(times: impl Iterator<Item = &'t Range<Instant>> + Clone) -> f64 {
    let start = times.clone().map(|time| time.start).min();
    let end = times.map(|time| time.end).max();
    start
        .zip(end)
        .map_or(0.0, |(start, end)| end.duration_since(start).as_secs_f64())
}

/// Thread `index` to its core.
pub(crate) fn pin(index: usize) {
    Cores::of_process().pin(index);
}

/// The other threads would wait at a barrier for ever.
pub(crate) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("a thread of the run panicked; giving up");
            process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_not_taken_for_a_change_of_speed() {
        let few = [90.0, 100.0, 118.0];
        assert!(is_steady(&few, Some(100.0)) && !is_steady(&few, None));
        assert!(!is_steady(&few, Some(1e6)) && !is_steady(&[0.0; 3], Some(1.0)));
        assert!(is_steady(&[100.0, 104.0, 101.0], None));
    }
}
