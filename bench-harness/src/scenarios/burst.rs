//! Arrivals triple for a while: 5,000 orders an hour become 15,000, scaled to what this machine can do. Consumers keep their capacity,
//! which lies between the two rates: the queue must absorb the rest, drain when the rush is over, and lose nothing.
//!
//! ```text
//! arrivals   ▁▁▁▁████████▁▁▁▁     base, three times that, base: an open loop, whatever the ledger does
//! capacity   ▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄     twice the base
//! backlog    ▁▁▁▁▂▃▄▅▆▇█▇▆▅▄▃▂▁   rises by a base rate and falls by a base rate
//! ```
//!
//! The base is a share of what this machine was just measured to carry from senders to receivers. Dwell counts from when a message
//! should have arrived to when the receive that brought it had returned.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

use clap::Args;
use serde::Serialize;

use super::{
    Sheet, Stage, Trial,
    desk::{Course, Desk, Job, LONG, Post, crew, settle, unlimited},
    register::Register,
    sheet::{Timeline, Unit},
};
use crate::{
    environment,
    latency::{Latency, Recorder},
    target::BATCH_MAX,
};

/// `epoq-bench burst`
#[derive(Clone, Debug, Args, Serialize)]
pub struct Burst {
    /// The base rate as a share of what senders and receivers were just measured to do
    #[arg(long, value_name = "PART", allow_negative_numbers = true, default_value_t = 0.1, value_parser = crate::cli::positive::<1>)]
    pub share: f64,
    /// The base rate in messages per second, instead of a share
    #[arg(long, value_name = "OPS", allow_negative_numbers = true, value_parser = crate::cli::positive::<1_000_000_000>)]
    pub rate: Option<f64>,
    /// What consumers can do, as a multiple of the base rate
    #[arg(long, value_name = "TIMES", allow_negative_numbers = true, default_value_t = 2.0, value_parser = crate::cli::positive::<1000>)]
    pub capacity: f64,
    /// What the rate becomes, as a multiple of the base rate
    #[arg(long, value_name = "TIMES", allow_negative_numbers = true, default_value_t = 3.0, value_parser = crate::cli::positive::<1000>)]
    pub surge: f64,
    /// How long the rush lasts; before it comes half of that at the base rate, after it as much again and a half
    #[arg(long, value_name = "S", allow_negative_numbers = true, default_value_t = 1.0, value_parser = crate::cli::positive::<3600>)]
    pub seconds: f64,
    /// Threads that send
    #[arg(long, value_name = "N", default_value_t = super::half_of(environment::cores()), value_parser = crate::cli::count::<{ super::THREADS_MAX }>)]
    pub producers: usize,
    /// Threads that receive
    #[arg(long, value_name = "N", default_value_t = super::half_of(environment::cores()), value_parser = crate::cli::count::<{ super::THREADS_MAX }>)]
    pub consumers: usize,
}

/// The rate of the case that this is a model of: orders per hour.
const ORDERS_PER_HOUR: f64 = 5000.0;

/// What the order of deliveries was like, to one consumer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Order {
    newest_ns: u64,
    /// Deliveries.
    pub(super) deliveries: u64,
    /// Deliveries of messages that should have arrived before one that had already been delivered.
    pub(super) inversions: u64,
    /// The most by which one was too late in line.
    pub(super) worst_ns: u64,
}

impl Order {
    /// A message that should have arrived then was delivered.
    pub(super) fn note(&mut self, moment_ns: u64) {
        self.deliveries += 1;
        if moment_ns < self.newest_ns {
            self.inversions += 1;
            self.worst_ns = self.worst_ns.max(self.newest_ns - moment_ns);
        }
        self.newest_ns = self.newest_ns.max(moment_ns);
    }

    /// Both.
    pub(super) fn with(self, other: Self) -> Self {
        Self {
            newest_ns: self.newest_ns.max(other.newest_ns),
            deliveries: self.deliveries + other.deliveries,
            inversions: self.inversions + other.inversions,
            worst_ns: self.worst_ns.max(other.worst_ns),
        }
    }

    /// As figures.
    pub(super) fn show(self, sheet: &mut Sheet) {
        let share = 1000.0 * self.inversions as f64 / self.deliveries.max(1) as f64;
        sheet.figure("inversions per thousand deliveries", share, Unit::Number);
        sheet.figure("worst inversion", self.worst_ns as f64 / 1e9, Unit::Seconds);
    }
}

impl Trial for Burst {
    const NAME: &'static str = "burst";

    fn scale(&mut self, pace: f64) {
        self.seconds *= pace;
    }

    fn check(&self) -> Result<(), String> {
        if self.capacity <= 1.0 || self.surge <= self.capacity {
            return Err(
                "--capacity must lie between 1 and --surge, or the queue neither fills nor drains".into(),
            );
        }
        Ok(())
    }

    fn perform(&self, stage: &Stage<'_>) -> anyhow::Result<Sheet> {
        let mut sheet = Sheet::default();
        stage.progress.phase("measuring capacity");
        let measured = self.measure(stage, &mut sheet)?;
        let base = self.rate.unwrap_or(self.share * measured);
        stage.progress.phase("base, surge, base");
        self.surge(stage, base, &mut sheet)?;
        sheet.figure("measured capacity", measured, Unit::PerSecond);
        sheet.figure(
            "times the case's rate",
            base * 3600.0 / ORDERS_PER_HOUR,
            Unit::Count,
        );
        sheet.notes.push(format!(
            "the case: {ORDERS_PER_HOUR} orders an hour, tripled; here {base:.0} a second, ×{}, with consumers that do ×{}",
            self.surge, self.capacity
        ));
        Ok(sheet)
    }
}

impl Burst {
    /// Messages per second from senders to receivers, both as fast as they can, one message at a time from each sender.
    fn measure(&self, stage: &Stage<'_>, sheet: &mut Sheet) -> anyhow::Result<f64> {
        const OUTSTANDING: u64 = 20_000;
        let broker = stage.broker(u64::MAX / 2)?;
        let queue = broker.create_queue("capacity", unlimited())?;
        let register = Register::new(self.producers);
        let course = Course::default();
        let senders = AtomicU64::new(self.producers as u64);
        let begin_ns = stage.now_ns();
        let spell_ns = (0.2e9 * self.seconds.min(1.0)) as u64;
        let mut jobs: Vec<(usize, Job<'_, _>)> = Vec::new();
        for seat in 0..self.producers + self.consumers {
            let (register, broker, queue, course, senders) = (&register, &broker, &queue, &course, &senders);
            let job: Job<'_, _> = Box::new(move || {
                let mut desk = Desk::new(stage, register, broker, seat as u16)?;
                if seat >= self.producers {
                    course.pursue(stage, || receive_some(&mut desk, queue, course, |_| {}) > 0);
                    return Ok(desk.close());
                }
                // Counted from here: on a busy machine a thread may start later than a short spell would have ended.
                let end_ns = stage.now_ns() + spell_ns;
                let mut sent_some = false;
                while stage.now_ns() < end_ns || !sent_some {
                    if course.sent.load(Relaxed) - course.ended.load(Relaxed).min(course.sent.load(Relaxed))
                        > OUTSTANDING
                    {
                        thread::yield_now();
                        continue;
                    }
                    let sent = desk.send(queue, Post::default());
                    sent_some |= sent;
                    course.sent.fetch_add(u64::from(sent), Relaxed);
                }
                if senders.fetch_sub(1, Relaxed) == 1 {
                    course.all_sent.store(true, Relaxed);
                }
                Ok(desk.close())
            });
            jobs.push((seat, job));
        }
        let (desks, ()) = crew(jobs, || ())?;
        let seconds = (stage.now_ns() - begin_ns) as f64 / 1e9;
        let books = settle(&register, desks, &[&queue]);
        let rate = books.deleted as f64 / seconds;
        sheet.settle(books);
        Ok(rate)
    }

    fn surge(&self, stage: &Stage<'_>, base: f64, sheet: &mut Sheet) -> anyhow::Result<()> {
        let broker = stage.broker(u64::MAX / 2)?;
        let queue = broker.create_queue(Self::NAME, unlimited())?;
        let register = Register::new(self.producers);
        let (before, rush, after) = (self.seconds / 2.0, self.seconds, self.seconds * 1.5);
        // Of each sender, with some to spare.
        let expected = base * (before + self.surge * rush + after) / self.producers as f64;
        (0..self.producers).for_each(|producer| register.prepare(producer as u16, expected as u64));
        let course = Course::default();
        let senders = AtomicU64::new(self.producers as u64);
        let begin_ns = stage.now_ns() + 5_000_000;
        let after_ns = |seconds: f64| begin_ns + (seconds * 1e9) as u64;
        let (rush_ns, over_ns, end_ns) = (
            after_ns(before),
            after_ns(before + rush),
            after_ns(before + rush + after),
        );
        let mut jobs: Vec<(usize, Job<'_, _>)> = Vec::new();
        for seat in 0..self.producers {
            let (register, broker, queue, course, senders) = (&register, &broker, &queue, &course, &senders);
            let job: Job<'_, _> = Box::new(move || {
                let mut desk = Desk::new(stage, register, broker, seat as u16)?;
                let interval_ns = 1e9 * self.producers as f64 / base;
                let mut moment_ns = begin_ns as f64 + interval_ns * seat as f64 / self.producers as f64;
                while moment_ns < end_ns as f64 {
                    stage.wait_until(moment_ns as u64);
                    let post = Post {
                        moment_ns: Some(moment_ns as u64),
                        ..Post::default()
                    };
                    course.sent.fetch_add(u64::from(desk.send(queue, post)), Relaxed);
                    let in_rush = (rush_ns as f64..over_ns as f64).contains(&moment_ns);
                    moment_ns += interval_ns / if in_rush { self.surge } else { 1.0 };
                }
                if senders.fetch_sub(1, Relaxed) == 1 {
                    course.all_sent.store(true, Relaxed);
                }
                Ok((desk.close(), None))
            });
            jobs.push((seat, job));
        }
        for seat in self.producers..self.producers + self.consumers {
            let (register, broker, queue, course) = (&register, &broker, &queue, &course);
            let job: Job<'_, _> = Box::new(move || {
                let mut desk = Desk::new(stage, register, broker, seat as u16)?;
                let (mut dwell, mut order) = (Recorder::new(0), Order::default());
                let service_ns = 1e9 * self.consumers as f64 / (base * self.capacity);
                let mut free_ns = 0.0_f64;
                course.pursue(stage, || {
                    stage.wait_until(free_ns as u64);
                    let started_ns = stage.now_ns() as f64;
                    let n = receive_some(&mut desk, queue, course, |got| {
                        dwell.record(got.dwell_ns());
                        order.note(got.moment_ns);
                    });
                    if n > 0 {
                        // As if each took its time. A consumer that is late catches up, but saves nothing up for later.
                        free_ns = free_ns.max(started_ns - 2e6) + n as f64 * service_ns;
                    }
                    n > 0
                });
                Ok((desk.close(), Some((dwell.into_histogram(), order))))
            });
            jobs.push((seat, job));
        }
        let (records, (timeline, drained_ns)) = crew(jobs, || {
            let mut timeline = Timeline {
                columns: vec!["ms", "sent", "through", "backlog", "width"],
                rows: Vec::new(),
            };
            let mut drained_ns = None;
            while !course.is_over() && stage.now_ns() < end_ns + 4 * stage.patience_ns {
                let (ended, sent) = (course.ended.load(Relaxed), course.sent.load(Relaxed));
                let (now_ns, backlog) = (stage.now_ns(), sent.saturating_sub(ended));
                let ms = now_ns.saturating_sub(begin_ns) as f64 / 1e6;
                timeline.rows.push(vec![
                    Some(ms),
                    Some(sent as f64),
                    Some(ended as f64),
                    Some(backlog as f64),
                    Some(queue.width() as f64),
                ]);
                // Drained: what is left is what comes in within a millisecond or two.
                if now_ns > over_ns
                    && drained_ns.is_none()
                    && (backlog as f64) < (base * 0.002).max(BATCH_MAX as f64)
                {
                    drained_ns = Some(now_ns);
                }
                thread::sleep(Duration::from_millis(2));
            }
            (timeline, drained_ns)
        })?;
        let (mut desks, mut dwells, mut order) = (Vec::new(), Vec::new(), Order::default());
        for (desk, consumer) in records {
            desks.push(desk);
            if let Some((dwell, of_one)) = consumer {
                dwells.push(dwell);
                order = order.with(of_one);
            }
        }
        let books = settle(&register, desks, &[&queue]);
        let peak = timeline.rows.iter().filter_map(|row| row[3]).fold(0.0, f64::max);
        let drain = drained_ns.map(|drained_ns| drained_ns.saturating_sub(over_ns) as f64 / 1e9);
        sheet.messages = books.deleted;
        sheet.seconds = before + rush + after;
        sheet.figure("peak backlog", peak, Unit::Count).in_short();
        sheet
            .figure(
                "peak reckoned from the rates",
                base * (self.surge - self.capacity) * rush,
                Unit::Count,
            )
            .in_short();
        match drain {
            Some(drain) => {
                sheet
                    .figure("time to drain after the rush", drain, Unit::Seconds)
                    .in_short();
            }
            None => sheet
                .notes
                .push("the backlog was not drained before the arrivals ended".into()),
        }
        let reckoned = (self.surge - self.capacity) * rush / (self.capacity - 1.0);
        sheet
            .figure("time reckoned from the rates", reckoned, Unit::Seconds)
            .in_short();
        sheet.figure("base rate", base, Unit::PerSecond);
        order.show(sheet);
        sheet.spread("dwell, intended arrival to received", Latency::merge(dwells));
        sheet.timeline = Some(timeline);
        sheet.settle(books);
        Ok(())
    }
}

/// Receives up to ten messages, shows them, and deletes them; says how many.
fn receive_some(
    desk: &mut Desk<'_>,
    queue: &epoq::Queue,
    course: &Course,
    mut show: impl FnMut(&super::desk::Got),
) -> usize {
    let gots = desk.receive(queue, BATCH_MAX, LONG);
    gots.iter().for_each(&mut show);
    let deleted = desk.delete(queue, &gots);
    course.ended.fetch_add(deleted as u64, Relaxed);
    gots.len()
}
