//! Very many leases that end within a while, and a driver that calls `Queue::advance` every 10 ms: how late do the messages come back?
//!
//! Every message is received first, with a lease that ends at a random moment of the window, and not deleted. Then the driver runs, and
//! receivers look for what has come back. A message is due when its lease as asked for is over, counted from before the call
//! that received it; none may come earlier. Lateness contains the driver's period where no receive sweeps by itself.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use clap::Args;
use serde::Serialize;

use super::{
    Sheet, Stage, Trial,
    desk::{Course, Desk, Job, LONG, crew, settle, unlimited},
    fits,
    register::Register,
    scaled,
    sheet::Unit,
};
use crate::{
    check::Wrong,
    environment,
    latency::{Latency, Recorder},
    target::BATCH_MAX,
};

/// `epoq-bench expiry`
#[derive(Clone, Debug, Args, Serialize)]
pub struct Expiry {
    /// Messages in flight
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=super::MANY))]
    pub messages: u64,
    /// Leases end within this time
    #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=21_000_000))]
    pub window_ms: u64,
    /// The first lease ends so long after the receiving began; longer than the receiving takes
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=21_000_000))]
    pub lead_ms: u64,
    /// How often the driver calls
    #[arg(long, value_name = "MS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub period_ms: u64,
    /// Threads that receive; default: one for each core
    #[arg(long, value_name = "N", default_value_t = super::each_of(environment::cores()), value_parser = crate::cli::count::<{ super::THREADS_MAX }>)]
    pub receivers: usize,
}

impl Trial for Expiry {
    const NAME: &'static str = "expiry";

    fn scale(&mut self, pace: f64) {
        self.messages = scaled(self.messages, pace);
        self.window_ms = scaled(self.window_ms, pace);
    }

    fn check(&self) -> Result<(), String> {
        if self.window_ms + self.lead_ms > 43_200_000 {
            return Err("--window-ms and --lead-ms together are at most 43200000, the longest lease".into());
        }
        fits(self.messages)
    }

    fn perform(&self, stage: &Stage<'_>) -> anyhow::Result<Sheet> {
        let broker = stage.broker(u64::MAX / 2)?;
        let queue = broker.create_queue(Self::NAME, unlimited())?;
        let register = Register::new(self.receivers);
        let each = self.messages.div_ceil(self.receivers as u64);
        (0..self.receivers).for_each(|seat| register.prepare(seat as u16, each));
        let course = Course::default();
        let (filled, leased) = (Barrier::new(self.receivers), Barrier::new(self.receivers + 1));
        let late = AtomicU64::new(0);
        let jobs = (0..self.receivers)
            .map(|seat| {
                let (register, broker, queue, course) = (&register, &broker, &queue, &course);
                let (filled, leased, late) = (&filled, &leased, &late);
                let job: Job<'_, _> = Box::new(move || {
                    let mut desk = Desk::new(stage, register, broker, seat as u16)?;
                    while desk.next_sequence() < each {
                        let n = (each - desk.next_sequence()).min(BATCH_MAX as u64) as usize;
                        course.sent.fetch_add(desk.send_batch(queue, n) as u64, Relaxed);
                    }
                    filled.wait();
                    course.all_sent.store(true, Relaxed);
                    let mut random = stage.random(seat as u64);
                    let first_end_ns = stage.now_ns() + self.lead_ms * 1_000_000;
                    loop {
                        let end_ns = first_end_ns + random.below(self.window_ms * 1_000_000 + 1);
                        let lease_ns = end_ns.saturating_sub(stage.now_ns());
                        late.fetch_add(u64::from(lease_ns == 0), Relaxed);
                        let lease = Duration::from_nanos(lease_ns.max(1_000_000));
                        let gots = desk.receive(queue, BATCH_MAX, lease);
                        // By now some leases may be over, when the machine is slow: those are not what is being received here.
                        if gots.iter().all(|got| got.receives > 1) {
                            desk.delete(queue, &gots);
                            course.ended.fetch_add(gots.len() as u64, Relaxed);
                            break;
                        }
                    }
                    leased.wait();
                    let (mut lateness, mut last_ns) = (Recorder::new(0), 0);
                    course.pursue(stage, || {
                        let gots = desk.receive(queue, BATCH_MAX, LONG);
                        for got in &gots {
                            lateness.record(got.lateness_ns());
                            last_ns = got.after_ns;
                        }
                        let deleted = desk.delete(queue, &gots);
                        course.ended.fetch_add(deleted as u64, Relaxed);
                        !gots.is_empty()
                    });
                    Ok((desk.close(), lateness.into_histogram(), last_ns))
                });
                (seat, job)
            })
            .collect();
        let (records, watched) = crew(jobs, || {
            leased.wait();
            let (in_flight, begin_ns) = (queue.counts().in_flight, stage.now_ns());
            let mut calls = Recorder::new(0);
            // The driver; it gives up with the receivers.
            let give_up_ns = begin_ns + (self.lead_ms + self.window_ms) * 1_000_000 + 3 * stage.patience_ns;
            while !course.is_over() && stage.now_ns() < give_up_ns {
                let start_ns = stage.now_ns();
                queue.advance(broker.now());
                calls.record(stage.now_ns() - start_ns);
                thread::sleep(Duration::from_millis(self.period_ms));
            }
            (in_flight, begin_ns, calls.into_histogram())
        })?;
        let (in_flight, begin_ns, calls) = watched;
        let (mut desks, mut samples, mut end_ns) = (Vec::new(), Vec::new(), begin_ns);
        for (desk, histogram, last_ns) in records {
            desks.push(desk);
            samples.push(histogram);
            end_ns = end_ns.max(last_ns);
        }
        let books = settle(&register, desks, &[&queue]);
        let expired = queue.counts().expired;
        let mut sheet = Sheet {
            messages: books.deleted,
            seconds: (end_ns - begin_ns).max(1) as f64 / 1e9,
            ..Sheet::default()
        };
        if expired < in_flight {
            sheet.findings.add(
                Wrong::Miscounted,
                format_args!("{in_flight} leases were live and all ran out, {expired} are counted"),
            );
        }
        sheet
            .figure("in flight when the driver began", in_flight as f64, Unit::Count)
            .in_short();
        sheet.figure(
            "came back",
            sheet.messages as f64 / sheet.seconds,
            Unit::PerSecond,
        );
        sheet
            .spread("lateness, end of lease to received", Latency::merge(samples))
            .at_most("p99", Duration::from_millis(10));
        sheet.spread("one call of advance", Latency::merge([calls]));
        sheet.notes.push(format!(
            "the driver sleeps {} ms between two calls of advance: so much of the lateness may be its own, but receivers that look all the time sweep, too; leases are whole milliseconds, \
             rounded up",
            self.period_ms
        ));
        if late.into_inner() > 0 {
            sheet.notes.push(
                "the receiving took longer than the lead: leases at its end were 1 ms long; try --lead-ms"
                    .into(),
            );
        }
        sheet.settle(books);
        Ok(sheet)
    }
}
