//! Messages with delays of their own, spread over a while: how late are they delivered against the moment they are due?
//!
//! Senders keep to a schedule, receivers look for messages all the time. A message is due its delay after the *call* that sent it
//! began; the ledger counts in whole milliseconds and rounds up, which is part of the lateness. None may come early.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use clap::Args;
use serde::Serialize;

use super::{
    Sheet, Stage, Trial,
    desk::{Course, Desk, Job, LONG, Post, crew, settle, unlimited},
    fits,
    register::Register,
    scaled,
    sheet::Unit,
};
use crate::{
    latency::{Latency, Recorder},
    target::BATCH_MAX,
};

/// `epoq-bench delay`
#[derive(Clone, Debug, Args, Serialize)]
pub struct Delay {
    /// Messages, all together
    #[arg(long, value_name = "N", default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1..=super::MANY))]
    pub messages: u64,
    /// Delays are between nothing and this
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub spread_ms: u64,
    /// Messages sent per second, on a schedule
    #[arg(long, value_name = "OPS", allow_negative_numbers = true, default_value_t = 200_000.0, value_parser = crate::cli::positive::<1_000_000_000>)]
    pub rate: f64,
    /// Threads that receive
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = crate::cli::count::<{ super::THREADS_MAX }>)]
    pub receivers: usize,
}

impl Trial for Delay {
    const NAME: &'static str = "delay";

    fn scale(&mut self, pace: f64) {
        self.messages = scaled(self.messages, pace);
    }

    fn check(&self) -> Result<(), String> {
        if self.spread_ms > 900_000 {
            return Err("--spread-ms is at most 900000, the longest delay".into());
        }
        fits(self.messages)
    }

    fn perform(&self, stage: &Stage<'_>) -> anyhow::Result<Sheet> {
        let broker = stage.broker(u64::MAX / 2)?;
        let queue = broker.create_queue(Self::NAME, unlimited())?;
        let register = Register::new(1);
        register.prepare(0, self.messages);
        let course = Course::default();
        let begin_ns = stage.now_ns();

        let mut jobs: Vec<(usize, Job<'_, _>)> = Vec::new();
        jobs.push((
            0,
            Box::new(|| {
                let mut desk = Desk::new(stage, &register, &broker, 0)?;
                let mut random = stage.random(1);
                let begin_ns = stage.now_ns();
                for number in 0..self.messages {
                    stage.wait_until(begin_ns + (number as f64 * 1e9 / self.rate) as u64);
                    let delay = Duration::from_micros(random.below(self.spread_ms * 1000 + 1));
                    let post = Post {
                        delay: Some(delay),
                        ..Post::default()
                    };
                    course.sent.fetch_add(u64::from(desk.send(&queue, post)), Relaxed);
                }
                course.all_sent.store(true, Relaxed);
                Ok((desk.close(), Recorder::new(0).into_histogram(), 0))
            }),
        ));
        for seat in 1..=self.receivers {
            let (register, broker, queue, course) = (&register, &broker, &queue, &course);
            jobs.push((
                seat,
                Box::new(move || {
                    let mut desk = Desk::new(stage, register, broker, seat as u16)?;
                    let mut lateness = Recorder::new(0);
                    let mut last_ns = 0;
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
                }),
            ));
        }
        let (records, ()) = crew(jobs, || ())?;

        let (mut desks, mut samples, mut end_ns) = (Vec::new(), Vec::new(), 0);
        for (desk, histogram, last_ns) in records {
            desks.push(desk);
            samples.push(histogram);
            end_ns = last_ns.max(end_ns);
        }
        let books = settle(&register, desks, &[&queue]);
        let mut sheet = Sheet {
            messages: books.deleted,
            seconds: end_ns.saturating_sub(begin_ns).max(1) as f64 / 1e9,
            ..Sheet::default()
        };
        sheet.figure(
            "delivered",
            sheet.messages as f64 / sheet.seconds,
            Unit::PerSecond,
        );
        sheet
            .spread("lateness, due to received", Latency::merge(samples))
            .in_short();
        sheet.notes.push(
            "due: the delay after the call to send began, and none came early; the ledger counts in whole milliseconds and rounds up".into(),
        );
        sheet.settle(books);
        Ok(sheet)
    }
}
