//! One noisy tenant has a large backlog of messages that take long to process; several quiet tenants send one now and then. How long do
//! the quiet ones' messages wait, with message groups (by which the ledger can tell the tenants apart) and without?
//!
//! The same traffic in turns without and with, of the same seed. Consumers receive one message at a time and sleep for as long as it takes to process: they stand
//! for workers that wait for something else, so there may be more of them than cores.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::{
    Sheet, Stage, Trial,
    desk::{Course, Desk, Job, LONG, Post, crew, settle, unlimited},
    register::Register,
    scaled,
    sheet::Unit,
};
use crate::{
    compare::there_and_back,
    latency::{Latency, Recorder},
    target::BATCH_MAX,
};

/// `epoq-bench fair`
#[derive(Clone, Debug, Args, Serialize)]
pub struct Fair {
    /// The noisy tenant's backlog
    #[arg(long, value_name = "N", default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub backlog: u64,
    /// How long one of its messages takes
    #[arg(long, value_name = "US", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(0..=10_000_000))]
    pub noisy_us: u64,
    /// Quiet tenants
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = crate::cli::count::<1000>)]
    pub quiet: usize,
    /// Messages of each quiet tenant per second
    #[arg(long, value_name = "OPS", allow_negative_numbers = true, default_value_t = 50.0, value_parser = crate::cli::positive::<1_000_000>)]
    pub rate: f64,
    /// How long one of theirs takes
    #[arg(long, value_name = "US", default_value_t = 200, value_parser = clap::value_parser!(u64).range(0..=10_000_000))]
    pub quiet_us: u64,
    /// Consumers
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = crate::cli::count::<256>)]
    pub consumers: usize,
    /// How often to measure without groups and with, in turns
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: u16,
}

/// What one round came to.
struct Round {
    quiet: Latency,
    noisy: Latency,
    /// Of the noisy tenant's backlog, when the quiet ones had sent all.
    left: f64,
}

impl Trial for Fair {
    const NAME: &'static str = "fair";

    fn scale(&mut self, pace: f64) {
        self.backlog = scaled(self.backlog, pace);
    }

    fn perform(&self, stage: &Stage<'_>) -> anyhow::Result<Sheet> {
        let mut sheet = Sheet::default();
        let mut kinds: [Vec<Round>; 2] = Default::default();
        for number in 0..self.rounds {
            for kind in there_and_back(kinds.len(), number.into()) {
                kinds[kind].push(self.round(stage, kind == 1, &mut sheet)?);
            }
        }
        let [without, with] = &kinds;
        for (word, quantile) in [("p50", 0.5), ("p99", 0.99)] {
            let of = |round: &Round| round.quiet.quantile_ns(quantile).unwrap_or(0).max(1) as f64;
            let each = without.iter().zip(with);
            let each = each.map(|(without, with)| of(without) / of(with)).collect();
            sheet
                .figure_of(
                    format!("quiet {word} without groups over with"),
                    each,
                    Unit::Ratio,
                )
                .in_short();
        }
        for (word, rounds) in [("without", without), ("with groups", with)] {
            let name = format!("noisy backlog left when the quiet ones had sent all, {word}");
            let left = rounds.iter().map(|round| round.left).collect();
            sheet.figure_of(name, left, Unit::Count);
        }
        let [without, with] = kinds.map(|rounds| {
            let (quiet, noisy): (Vec<_>, Vec<_>) =
                rounds.into_iter().map(|round| (round.quiet, round.noisy)).unzip();
            [quiet, noisy].map(Latency::sum)
        });
        let ([quiet_without, noisy_without], [quiet_with, noisy_with]) = (without, with);
        sheet
            .spread("quiet tenants' dwell, with groups", quiet_with)
            .in_short();
        sheet
            .spread("quiet tenants' dwell, without", quiet_without)
            .in_short();
        sheet.spread("noisy tenant's dwell, without", noisy_without);
        sheet.spread("noisy tenant's dwell, with groups", noisy_with);
        sheet.notes.push(
            "dwell: from when a message should have been sent to its receipt; a ledger that does not tell tenants apart gives a ratio of 1"
                .into(),
        );
        Ok(sheet)
    }
}

impl Fair {
    fn round(&self, stage: &Stage<'_>, grouped: bool, sheet: &mut Sheet) -> anyhow::Result<Round> {
        let broker = stage.broker(u64::MAX / 2)?;
        let queue = broker.create_queue(Self::NAME, unlimited())?;
        let register = Register::new(self.quiet + 1);
        let course = Course::default();
        let groups: Vec<String> = (0..=self.quiet)
            .map(|tenant| format!("tenant-{tenant}"))
            .collect();
        let post = |tenant: usize, moment_ns: Option<u64>| Post {
            group: grouped.then(|| groups[tenant].as_str()),
            moment_ns,
            ..Post::default()
        };
        // Tenant 0 is the noisy one; each tenant has a desk of its own, for who sent a message is how its tenant is told.
        let mut noisy = Desk::new(stage, &register, &broker, 0)?;
        for _ in 0..self.backlog {
            let taken = noisy.send(&queue, post(0, None));
            course.sent.fetch_add(u64::from(taken), Relaxed);
        }
        let work_s = self.backlog as f64 * self.noisy_us as f64 / 1e6 / self.consumers as f64;
        let trickle = ((work_s * 0.8 * self.rate) as u64).max(5);
        let interval_ns = 1e9 / (self.rate * self.quiet as f64);
        let begin_ns = stage.now_ns();
        let noisy_left = AtomicU64::new(self.backlog);

        #[expect(clippy::type_complexity, reason = "a thread is a number and what it runs")]
        let mut jobs: Vec<(usize, Job<'_, (Vec<_>, Histogram<u64>, Histogram<u64>)>)> = Vec::new();
        jobs.push((
            0,
            Box::new(|| {
                let mut desks = (1..=self.quiet)
                    .map(|tenant| Desk::new(stage, &register, &broker, tenant as u16))
                    .collect::<anyhow::Result<Vec<_>>>()?;
                let mut random = stage.random(3);
                for number in 0..trickle * self.quiet as u64 {
                    let jitter = random.below(interval_ns as u64 + 1);
                    let moment_ns = begin_ns + (number as f64 * interval_ns) as u64 + jitter;
                    stage.wait_until(moment_ns);
                    let tenant = 1 + number as usize % self.quiet;
                    let taken = desks[tenant - 1].send(&queue, post(tenant, Some(moment_ns)));
                    course.sent.fetch_add(u64::from(taken), Relaxed);
                }
                course.all_sent.store(true, Relaxed);
                let none = || Recorder::new(0).into_histogram();
                Ok((desks.into_iter().map(Desk::close).collect(), none(), none()))
            }),
        ));
        for seat in 0..self.consumers {
            let (register, broker, queue, course, noisy_left) =
                (&register, &broker, &queue, &course, &noisy_left);
            let job: Job<'_, _> = Box::new(move || {
                let mut desk = Desk::new(stage, register, broker, seat as u16)?;
                let (mut quiet, mut noisy) = (Recorder::new(0), Recorder::new(0));
                course.pursue(stage, || {
                    let gots = desk.receive_wait(queue, 1, LONG, Duration::from_millis(50));
                    for got in &gots {
                        let is_quiet = got.id.producer() > 0;
                        let recorder = if is_quiet { &mut quiet } else { &mut noisy };
                        recorder.record(got.dwell_ns());
                        if !is_quiet {
                            noisy_left.fetch_sub(1, Relaxed);
                        }
                        let takes_us = if is_quiet { self.quiet_us } else { self.noisy_us };
                        std::thread::sleep(Duration::from_micros(takes_us));
                    }
                    let deleted = desk.delete(queue, &gots);
                    course.ended.fetch_add(deleted as u64, Relaxed);
                    !gots.is_empty()
                });
                Ok((vec![desk.close()], quiet.into_histogram(), noisy.into_histogram()))
            });
            jobs.push((seat, job));
        }
        let (records, left_when_sent) = crew(jobs, || {
            while !course.all_sent.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            noisy_left.load(Relaxed)
        })?;
        let (mut desks, mut quiet, mut noisy_dwells) = (vec![noisy.close()], Vec::new(), Vec::new());
        for (of_thread, of_quiet, of_noisy) in records {
            desks.extend(of_thread);
            quiet.push(of_quiet);
            noisy_dwells.push(of_noisy);
        }
        let books = settle(&register, desks, &[&queue]);
        sheet.messages += books.deleted;
        sheet.seconds += (stage.now_ns() - begin_ns) as f64 / 1e9;
        sheet.settle(books);
        Ok(Round {
            quiet: Latency::merge(quiet),
            noisy: Latency::merge(noisy_dwells),
            left: left_when_sent as f64,
        })
    }
}

// One message at a time is within a batch.
const _: () = assert!(BATCH_MAX >= 1);
