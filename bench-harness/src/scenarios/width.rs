//! All threads at once on one queue, and then hardly anything: over how many partitions does the ledger spread the messages, and in what order
//! do they come when there is little traffic?
//!
//! After the rush each thread sends a message now and then, all on one schedule, and a receiver empties the queue every few
//! milliseconds: what it gets was sent by several threads, in an order that the schedule knows. A queue as narrow as
//! its traffic keeps that order nearly; one that stays wide mixes it up. The ledger takes its time to become narrow (five seconds
//! for each halving): the order counts once it is, and is shown for the time before as well.

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
    burst::Order,
    desk::{Course, Desk, Job, LONG, Post, crew, settle, unlimited},
    fits,
    register::Register,
    scaled,
    sheet::{Aim, Timeline, Unit},
};
use crate::{
    environment,
    latency::{Latency, Recorder},
    target::BATCH_MAX,
};

/// `epoq-bench width`
#[derive(Clone, Debug, Args, Serialize)]
pub struct Width {
    /// Messages of the rush, all threads together, each of which sends, receives and deletes
    #[arg(long, value_name = "N", default_value_t = 8_000_000, value_parser = clap::value_parser!(u64).range(1..=super::MANY))]
    pub messages: u64,
    /// Threads; default: one for each core, but two
    #[arg(long, value_name = "N", default_value_t = super::each_of(environment::cores()).max(2), value_parser = crate::cli::count::<{ super::THREADS_MAX }>)]
    pub threads: usize,
    /// Afterwards, messages per second, all threads together
    #[arg(long, value_name = "OPS", allow_negative_numbers = true, default_value_t = 2000.0, value_parser = crate::cli::positive::<1_000_000>)]
    pub rate: f64,
    /// How long to wait, with little traffic, for the queue to become narrow; --pace leaves it alone, for the ledger takes its time
    #[arg(long, value_name = "S", allow_negative_numbers = true, default_value_t = 20.0, value_parser = crate::cli::positive::<3600>)]
    pub patience_s: f64,
    /// How long there is little traffic from then on; in this time the order counts
    #[arg(long, value_name = "S", allow_negative_numbers = true, default_value_t = 2.0, value_parser = crate::cli::positive::<3600>)]
    pub seconds: f64,
    /// How often the queue is emptied then
    #[arg(long, value_name = "MS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub every_ms: u64,
}

impl Trial for Width {
    const NAME: &'static str = "width";

    fn scale(&mut self, pace: f64) {
        self.messages = scaled(self.messages, pace);
        self.seconds *= pace;
    }

    fn check(&self) -> Result<(), String> {
        let calm = self.rate * (self.patience_s + self.seconds);
        fits(self.messages.saturating_add(calm as u64))
    }

    fn perform(&self, stage: &Stage<'_>) -> anyhow::Result<Sheet> {
        let broker = stage.broker(u64::MAX / 2)?;
        let queue = broker.create_queue(Self::NAME, unlimited())?;
        let register = Register::new(self.threads);
        let each = self.messages.div_ceil(self.threads as u64);
        (0..self.threads).for_each(|seat| register.prepare(seat as u16, each));
        let (rush, calm) = (Course::default(), Course::default());
        let (senders, calm_senders) = (
            AtomicU64::new(self.threads as u64),
            AtomicU64::new(self.threads as u64),
        );
        let over = Barrier::new(self.threads);
        let (calm_begin_ns, calm_end_ns) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
        let begin_ns = stage.now_ns();
        let jobs = (0..self.threads)
            .map(|seat| {
                let (register, broker, queue, rush, calm) = (&register, &broker, &queue, &rush, &calm);
                let (senders, calm_senders, over) = (&senders, &calm_senders, &over);
                let (calm_begin_ns, calm_end_ns) = (&calm_begin_ns, &calm_end_ns);
                let job: Job<'_, _> = Box::new(move || {
                    let mut desk = Desk::new(stage, register, broker, seat as u16)?;
                    let take = |desk: &mut Desk<'_>, course: &Course| {
                        let gots = desk.receive(queue, BATCH_MAX, LONG);
                        let deleted = desk.delete(queue, &gots);
                        course.ended.fetch_add(deleted as u64, Relaxed);
                        gots
                    };
                    while desk.next_sequence() < each {
                        let n = (each - desk.next_sequence()).min(BATCH_MAX as u64) as usize;
                        let taken = desk.send_batch(queue, n) as u64;
                        rush.sent.fetch_add(taken, Relaxed);
                        take(&mut desk, rush);
                    }
                    if senders.fetch_sub(1, Relaxed) == 1 {
                        rush.all_sent.store(true, Relaxed);
                    }
                    rush.pursue(stage, || !take(&mut desk, rush).is_empty());
                    if over.wait().is_leader() {
                        calm_begin_ns.store(stage.now_ns() + 1_000_000, Relaxed);
                    }
                    over.wait();
                    // All senders on one schedule, in turn.
                    let origin_ns = calm_begin_ns.load(Relaxed);
                    for number in (seat as u64..).step_by(self.threads) {
                        let moment_ns = origin_ns + (number as f64 * 1e9 / self.rate) as u64;
                        stage.wait_until(moment_ns);
                        if moment_ns > calm_end_ns.load(Relaxed) {
                            break;
                        }
                        let post = Post {
                            moment_ns: Some(stage.now_ns()),
                            ..Post::default()
                        };
                        calm.sent.fetch_add(u64::from(desk.send(queue, post)), Relaxed);
                    }
                    if calm_senders.fetch_sub(1, Relaxed) == 1 {
                        calm.all_sent.store(true, Relaxed);
                    }
                    Ok(desk.close())
                });
                (seat, job)
            })
            .collect();
        let (desks, watched) = crew(jobs, || {
            let mut timeline = Timeline {
                columns: vec!["ms", "through", "width"],
                rows: Vec::new(),
            };
            let note = |timeline: &mut Timeline| {
                timeline.rows.push(vec![
                    Some((stage.now_ns() - begin_ns) as f64 / 1e6),
                    Some((rush.ended.load(Relaxed) + calm.ended.load(Relaxed)) as f64),
                    Some(queue.width() as f64),
                ]);
            };
            while calm_begin_ns.load(Relaxed) == 0 {
                note(&mut timeline);
                thread::sleep(Duration::from_millis(5));
            }
            let wide = queue.width();
            let give_up_ns = calm_begin_ns.load(Relaxed) + (self.patience_s * 1e9) as u64;
            let mut narrow_ns = u64::MAX;
            let mut desk = Desk::new(stage, &register, &broker, 0)?;
            let (mut early, mut late, mut dwell) = (Order::default(), Order::default(), Recorder::new(0));
            calm.pursue(stage, || {
                thread::sleep(Duration::from_millis(self.every_ms));
                queue.advance(broker.now());
                note(&mut timeline);
                if narrow_ns == u64::MAX && (queue.width() == 1 || stage.now_ns() > give_up_ns) {
                    narrow_ns = stage.now_ns();
                    calm_end_ns.store(narrow_ns + (self.seconds * 1e9) as u64, Relaxed);
                }
                let mut any = false;
                loop {
                    let gots = desk.receive(&queue, BATCH_MAX, LONG);
                    if gots.is_empty() {
                        return any;
                    }
                    any = true;
                    for got in &gots {
                        let order = if got.moment_ns < narrow_ns {
                            &mut early
                        } else {
                            &mut late
                        };
                        order.note(got.moment_ns);
                        dwell.record(got.dwell_ns());
                    }
                    let deleted = desk.delete(&queue, &gots);
                    calm.ended.fetch_add(deleted as u64, Relaxed);
                }
            });
            let narrowing = (wide, narrow_ns - calm_begin_ns.load(Relaxed), queue.width());
            anyhow::Ok((
                timeline,
                early,
                late,
                dwell.into_histogram(),
                narrowing,
                desk.close(),
            ))
        })?;
        let (timeline, early, late, dwell, (wide, narrowing_ns, width), desk) = watched?;
        let seconds = calm_begin_ns.into_inner().saturating_sub(begin_ns).max(1) as f64 / 1e9;
        let books = settle(&register, desks.into_iter().chain([desk]).collect(), &[&queue]);
        let mut sheet = Sheet {
            messages: rush.ended.into_inner(),
            seconds,
            ..Sheet::default()
        };
        late.show(&mut sheet);
        sheet.figures[0].aim(Aim::AtMost(10.0));
        sheet.figures[1].in_short();
        sheet
            .figure(
                "inversions per thousand before it was narrow",
                1000.0 * early.inversions as f64 / early.deliveries.max(1) as f64,
                Unit::Number,
            )
            .in_short();
        sheet
            .figure("partitions after the rush", wide as f64, Unit::Count)
            .in_short();
        sheet
            .figure("partitions in the end", width as f64, Unit::Count)
            .aim(Aim::AtMost(1.0));
        sheet.figure("time until then", narrowing_ns as f64 / 1e9, Unit::Seconds);
        sheet.figure(
            "partitions of the broker",
            broker.partitions() as f64,
            Unit::Count,
        );
        sheet.figure("the rush", sheet.messages as f64 / seconds, Unit::PerSecond);
        sheet.spread("dwell with little traffic", Latency::merge([dwell]));
        if wide == 1 {
            sheet.notes.push(
                "the rush did not widen the queue: nothing here speaks of narrowing; try more --messages"
                    .into(),
            );
        }
        sheet.notes.push(format!(
            "an inversion: a delivery of a message that was sent before one already delivered; the queue is emptied every {} ms",
            self.every_ms
        ));
        sheet.timeline = Some(timeline);
        sheet.settle(books);
        Ok(sheet)
    }
}
