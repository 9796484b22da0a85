//! A producer at full speed against a ledger that is full: memory must stay flat, refusals must be typed, consumers must go on as if nothing
//! were the matter, and nothing that was accepted may be lost.
//!
//! Two kinds of round in turn: with a ledger that has room for everything, and with one that was filled to its limit before the clock
//! starts. Consumers receive, work for a moment and delete in both; what they get done is compared. The work makes them slower than the
//! producers, so that the ledger stays full.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use clap::Args;
use epoq::{Broker, MemoryUse};
use serde::Serialize;

use super::{
    Sheet, Stage, Trial,
    desk::{Course, Desk, Job, LONG, crew, settle, unlimited},
    register::Register,
    sheet::{Aim, Timeline, Unit},
};
use crate::{check::Wrong, compare::there_and_back, environment, memory, target::BATCH_MAX};

/// `epoq-bench overload`
#[derive(Clone, Debug, Args, Serialize)]
pub struct Overload {
    /// What messages may take, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub memory_mib: u64,
    /// How long to measure each round
    #[arg(long, value_name = "S", allow_negative_numbers = true, default_value_t = 0.4, value_parser = crate::cli::positive::<60>)]
    pub seconds: f64,
    /// Threads that send
    #[arg(long, value_name = "N", default_value_t = super::half_of(environment::cores()), value_parser = crate::cli::count::<{ super::THREADS_MAX }>)]
    pub producers: usize,
    /// Threads that receive
    #[arg(long, value_name = "N", default_value_t = super::half_of(environment::cores()), value_parser = crate::cli::count::<{ super::THREADS_MAX }>)]
    pub consumers: usize,
    /// How long a consumer works on a message
    #[arg(long, value_name = "NS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(0..=1_000_000_000))]
    pub work_ns: u64,
    /// Rounds of each kind
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: u16,
}

/// What one round came to.
struct Round {
    deleted: u64,
    seconds: f64,
    refused: u64,
    most_used: u64,
    least_used: u64,
    timeline: Timeline,
}

impl Trial for Overload {
    const NAME: &'static str = "overload";

    fn scale(&mut self, pace: f64) {
        self.seconds *= pace;
    }

    fn perform(&self, stage: &Stage<'_>) -> anyhow::Result<Sheet> {
        let mut sheet = Sheet::default();
        let limit = self.memory_mib << 20;
        let room = memory::available_bytes().unwrap_or(8 << 30) / 4;
        let mut kinds: [Vec<Round>; 2] = Default::default();
        for number in 0..self.rounds {
            for kind in there_and_back(kinds.len(), number.into()) {
                let is_full = kind == 1;
                let limit = if is_full { limit } else { room };
                kinds[kind].push(self.round(stage, limit, is_full, &mut sheet)?);
            }
        }
        let [free, mut full] = kinds;
        let rates = |rounds: &[Round]| -> Vec<f64> {
            let rate = |round: &Round| round.deleted.max(1) as f64 / round.seconds;
            rounds.iter().map(rate).collect()
        };
        let sum = |figure: fn(&Round) -> u64| full.iter().map(figure).sum::<u64>();
        let (deleted, refused) = (sum(|round| round.deleted), sum(|round| round.refused));
        let most_used = full.iter().map(|round| round.most_used).max().unwrap_or(0);
        let least_used = full.iter().map(|round| round.least_used).min().unwrap_or(0);
        sheet.messages = deleted;
        sheet.seconds = full.iter().map(|round| round.seconds).sum();
        if most_used > limit {
            sheet
                .findings
                .add(Wrong::OverBudget, format_args!("{most_used} bytes of {limit}"));
        }
        let eager = full.iter().filter(|round| round.refused == 0).count();
        if eager > 0 {
            sheet.notes.push(format!(
                "in {eager} of {} rounds nothing was refused: the producers did not keep the ledger full",
                self.rounds
            ));
        }
        let (of_full, of_free) = (rates(&full), rates(&free));
        let each = of_full.iter().zip(&of_free);
        let each = each.map(|(full, free)| full / free).collect();
        sheet
            .figure_of("consumers, full over unconstrained", each, Unit::Ratio)
            .aim(Aim::AtLeast(0.9));
        sheet.figure_of("consumers, full", of_full, Unit::PerSecond);
        sheet.figure_of("consumers, unconstrained", of_free, Unit::PerSecond);
        sheet
            .figure("most memory used", most_used as f64, Unit::Bytes)
            .aim(Aim::AtMost(limit as f64));
        sheet.figure("least memory used", least_used as f64, Unit::Bytes);
        sheet.figure("limit", limit as f64, Unit::Bytes);
        sheet.figure("refusals", refused as f64, Unit::Count);
        sheet.figure(
            "refusals per accepted message",
            refused as f64 / deleted.max(1) as f64,
            Unit::Number,
        );
        sheet.timeline = full.pop().map(|round| round.timeline);
        let most_backlog = free.iter().map(|round| round.most_used).max().unwrap_or(0);
        sheet.notes.push(format!(
            "rounds in turn, every second time with the full ledger first; the timeline is of the last full one, memory of all of them, as the budget has \
             it, read every 5 ms (a send that is being refused counts for a moment); unconstrained, the backlog grows to {:.0} MiB",
            most_backlog as f64 / f64::from(1 << 20)
        ));
        Ok(sheet)
    }
}

impl Overload {
    fn round(&self, stage: &Stage<'_>, limit: u64, fill: bool, sheet: &mut Sheet) -> anyhow::Result<Round> {
        stage.progress.phase(if fill { "full" } else { "unconstrained" });
        let broker = stage.broker(limit)?;
        let queue = broker.create_queue(Self::NAME, unlimited())?;
        let register = Register::new(self.producers);
        let course = Course::default();
        let (senders, refused) = (AtomicU64::new(self.producers as u64), AtomicU64::new(0));
        let (start, stop) = (
            Barrier::new(self.producers + self.consumers + 1),
            AtomicBool::new(false),
        );
        let mut jobs: Vec<(usize, Job<'_, _>)> = Vec::new();
        for seat in 0..self.producers + self.consumers {
            let (register, broker, queue, course) = (&register, &broker, &queue, &course);
            let (senders, refused, start, stop) = (&senders, &refused, &start, &stop);
            let job: Job<'_, _> = Box::new(move || {
                let mut desk = Desk::new(stage, register, broker, seat as u16)?;
                if seat < self.producers {
                    if fill {
                        while desk.tally.refused == 0 {
                            let taken = desk.send_batch(queue, BATCH_MAX) as u64;
                            course.sent.fetch_add(taken, Relaxed);
                        }
                    }
                    let before = desk.tally.refused;
                    start.wait();
                    while !stop.load(Relaxed) {
                        let taken = desk.send_batch(queue, BATCH_MAX);
                        course.sent.fetch_add(taken as u64, Relaxed);
                        if taken == 0 {
                            // Or the register would fill up with refusals.
                            desk.rewind(BATCH_MAX);
                        }
                    }
                    refused.fetch_add(desk.tally.refused - before, Relaxed);
                    if senders.fetch_sub(1, Relaxed) == 1 {
                        course.all_sent.store(true, Relaxed);
                    }
                    return Ok((desk.close(), 0));
                }
                start.wait();
                let mut measured = 0;
                course.pursue(stage, || {
                    let gots = desk.receive(queue, BATCH_MAX, LONG);
                    if !stop.load(Relaxed) {
                        let done_ns = stage.now_ns() + gots.len() as u64 * self.work_ns;
                        while stage.now_ns() < done_ns {
                            std::hint::spin_loop();
                        }
                    }
                    let deleted = desk.delete(queue, &gots) as u64;
                    course.ended.fetch_add(deleted, Relaxed);
                    if !stop.load(Relaxed) {
                        measured += deleted;
                    }
                    !gots.is_empty()
                });
                Ok((desk.close(), measured))
            });
            jobs.push((seat, job));
        }
        let (records, (timeline, most_used, least_used, seconds)) = crew(jobs, || {
            let mut timeline = Timeline {
                columns: vec!["ms", "used KiB", "limbo KiB", "pooled KiB", "through"],
                rows: Vec::new(),
            };
            let (mut most_used, mut least_used) = (0, u64::MAX);
            start.wait();
            let begin_ns = stage.now_ns();
            let end_ns = begin_ns + (self.seconds * 1e9) as u64;
            while stage.now_ns() < end_ns {
                let used = settled(&broker);
                most_used = most_used.max(used.used);
                least_used = least_used.min(used.used);
                let kib = |bytes: u64| Some(bytes as f64 / 1024.0);
                timeline.rows.push(vec![
                    Some((stage.now_ns() - begin_ns) as f64 / 1e6),
                    kib(used.used),
                    kib(used.limbo),
                    kib(used.pooled),
                    Some(course.ended.load(Relaxed) as f64),
                ]);
                thread::sleep(Duration::from_millis(5));
            }
            stop.store(true, Relaxed);
            (
                timeline,
                most_used,
                least_used,
                (stage.now_ns() - begin_ns) as f64 / 1e9,
            )
        })?;
        let deleted = records.iter().map(|(_, measured)| measured).sum();
        let books = settle(
            &register,
            records.into_iter().map(|(desk, _)| desk).collect(),
            &[&queue],
        );
        sheet.settle(books);
        Ok(Round {
            deleted,
            seconds,
            refused: refused.into_inner(),
            most_used,
            least_used,
            timeline,
        })
    }
}

/// The memory in use. A send counts its bytes before it knows that they do not fit, and takes them off again, which takes long if its
/// thread loses its core in between: what is beyond the limit only in some of many readings was never allocated.
fn settled(broker: &Broker) -> MemoryUse {
    let mut used = broker.memory();
    for attempt in 0..200 {
        if used.used <= used.limit {
            break;
        }
        if attempt >= 100 {
            thread::sleep(Duration::from_millis(1));
        }
        used = broker.memory();
    }
    used
}
