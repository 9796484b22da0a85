//! From a send to the return of a `receive_wait` that slept: how long does it take to wake a waiter, and how much of that is the ledger's?
//!
//! Three kinds of waiter in turn, in one run: at the ledger; at a bare `event-listener`, which is what the ledger sleeps on; and at such an
//! event with a lock-free queue beside it that hands a message over. Messages come one at a time, each when the one before is done and
//! the waiters have had time to fall asleep; what wakes is measured from before the call that sends to after the call that waits.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    thread,
    time::Duration,
};

use clap::Args;
use crossbeam_queue::SegQueue;
use event_listener::{Event, Listener};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::{
    Sheet, Stage, Trial,
    desk::{Desk, Job, LONG, Post, Random, crew, settle, unlimited},
    register::Register,
    scaled,
    sheet::Unit,
};
use crate::{
    compare::there_and_back,
    environment,
    latency::{Latency, Recorder},
};

/// `epoq-bench longpoll`
#[derive(Clone, Debug, Args, Serialize)]
pub struct Longpoll {
    /// Messages for each kind and number of waiters
    #[arg(long, value_name = "N", default_value_t = 2400, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub messages: u64,
    /// Turns in which the kinds are measured
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub rounds: u64,
    /// Numbers of waiters
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', default_values_t = [1, 8], value_parser = crate::cli::count::<256>)]
    pub waiters: Vec<usize>,
    /// Shortest pause before a message, for the waiters to fall asleep; the longest is three times that
    #[arg(long, value_name = "US", default_value_t = 100, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub pause_us: u64,
}

/// What waiters share with the one who wakes them.
#[derive(Default)]
struct Bell {
    event: Event,
    messages: SegQueue<u64>,
    /// Of the bare kind: when it was rung.
    rung_ns: AtomicU64,
    /// Who is listening, or about to sleep.
    listening: AtomicUsize,
    answered: AtomicU64,
    over: AtomicBool,
}

/// Messages of each turn that are not measured: the waiters' first ones.
const WARM_UP: u64 = 10;

/// A message that ends the wait, instead of a moment.
const END: u64 = u64::MAX;

impl Trial for Longpoll {
    const NAME: &'static str = "longpoll";

    fn scale(&mut self, pace: f64) {
        self.messages = scaled(self.messages, pace).max(self.rounds);
    }

    fn perform(&self, stage: &Stage<'_>) -> anyhow::Result<Sheet> {
        let mut sheet = Sheet::default();
        for &waiters in &self.waiters {
            // Of each kind, of each round, what the waiters recorded.
            let mut kinds: [Vec<Latency>; 3] = Default::default();
            let mut random = stage.random(waiters as u64);
            for round in 0..self.rounds {
                for kind in there_and_back(kinds.len(), round as usize) {
                    let samples = match kind {
                        0 => self.at_the_ledger(stage, waiters, &mut random, &mut sheet)?,
                        1 => self.at_an_event(stage, waiters, &mut random)?,
                        _ => self.at_a_queue(stage, waiters, &mut random)?,
                    };
                    kinds[kind].push(Latency::merge(samples));
                }
            }
            let [ledger, event, queue] = &kinds;
            for (name, others) in [("a bare wake", event), ("a wake and hand-over", queue)] {
                for (word, quantile) in [("p50", 0.5), ("p99", 0.99)] {
                    let of = |latency: &Latency| latency.quantile_ns(quantile).unwrap_or(0).max(1) as f64;
                    let each = ledger.iter().zip(others);
                    let each = each.map(|(ledger, other)| of(ledger) / of(other)).collect();
                    sheet
                        .figure_of(
                            format!("{waiters} waiting, {word} over {name}"),
                            each,
                            Unit::Ratio,
                        )
                        .in_short = name == "a bare wake";
                }
            }
            let [ledger, event, queue] = kinds.map(Latency::sum);
            sheet
                .spread(format!("{waiters} waiting, send to receive_wait"), ledger)
                .in_short();
            sheet
                .spread(format!("{waiters} waiting, notify to wake"), event)
                .in_short();
            sheet.spread(format!("{waiters} waiting, push, notify and wake to pop"), queue);
        }
        sheet.notes.push(format!(
            "a wake-up of the system's is part of every kind; the ledger's sender runs on core 0, waiters on the other{}",
            if environment::cores() > 2 { "s" } else { "" }
        ));
        Ok(sheet)
    }
}

impl Longpoll {
    fn each(&self) -> u64 {
        WARM_UP + self.messages.div_ceil(self.rounds)
    }

    fn pause(&self, random: &mut Random) {
        let pause_us = self.pause_us + random.below(2 * self.pause_us + 1);
        thread::sleep(Duration::from_micros(pause_us));
    }

    fn at_the_ledger(
        &self,
        stage: &Stage<'_>,
        waiters: usize,
        random: &mut Random,
        sheet: &mut Sheet,
    ) -> anyhow::Result<Vec<Histogram<u64>>> {
        let broker = stage.broker(1 << 30)?;
        let queue = broker.create_queue(Self::NAME, unlimited())?;
        let register = Register::new(waiters + 1);
        let (answered, ready, each) = (AtomicU64::new(0), AtomicUsize::new(0), self.each());
        let begin_ns = stage.now_ns();
        let jobs = (1..=waiters)
            .map(|seat| {
                let (register, broker, queue) = (&register, &broker, &queue);
                let (answered, ready) = (&answered, &ready);
                let job: Job<'_, _> = Box::new(move || {
                    let mut desk = Desk::new(stage, register, broker, seat as u16)?;
                    let mut wakes = Recorder::new(0);
                    ready.fetch_add(1, SeqCst);
                    loop {
                        let gots = desk.receive_wait(queue, 1, LONG, Duration::from_secs(5));
                        for got in &gots {
                            if (WARM_UP..each).contains(&got.id.sequence()) {
                                wakes.record(got.dwell_ns());
                            }
                        }
                        desk.delete(queue, &gots);
                        answered.fetch_add(gots.len() as u64, SeqCst);
                        if gots.iter().any(|got| got.id.sequence() >= each)
                            || gots.is_empty() && answered.load(SeqCst) >= each
                        {
                            return Ok((desk.close(), wakes.into_histogram()));
                        }
                    }
                });
                (self.core(seat), job)
            })
            .collect();
        let mut desk = None;
        let (records, sent) = crew(jobs, || {
            on_core_0(|| {
                let mut mine = Desk::new(stage, &register, &broker, 0)?;
                while ready.load(SeqCst) < waiters {
                    thread::yield_now();
                }
                for number in 0..each + waiters as u64 {
                    self.pause(random);
                    let taken = mine.send(&queue, Post::default());
                    if number < each && taken {
                        let deadline_ns = stage.now_ns() + stage.patience_ns;
                        while answered.load(SeqCst) <= number && stage.now_ns() < deadline_ns {
                            thread::sleep(Duration::from_micros(20));
                        }
                    }
                }
                desk = Some(mine.close());
                anyhow::Ok(())
            })
        })?;
        sent?;
        sheet.messages += each - WARM_UP;
        sheet.seconds += (stage.now_ns() - begin_ns) as f64 / 1e9;
        let mut desks: Vec<_> = desk.into_iter().collect();
        let mut samples = Vec::new();
        for (desk, histogram) in records {
            desks.push(desk);
            samples.push(histogram);
        }
        sheet.settle(settle(&register, desks, &[&queue]));
        Ok(samples)
    }

    /// Nothing but a wake.
    fn at_an_event(
        &self,
        stage: &Stage<'_>,
        waiters: usize,
        random: &mut Random,
    ) -> anyhow::Result<Vec<Histogram<u64>>> {
        let bell = Bell::default();
        let jobs = (1..=waiters)
            .map(|seat| {
                let bell = &bell;
                let job: Job<'_, _> = Box::new(move || {
                    let mut wakes = Recorder::new(0);
                    loop {
                        let listener = bell.event.listen();
                        bell.listening.fetch_add(1, SeqCst);
                        if bell.over.load(SeqCst) {
                            return Ok(wakes.into_histogram());
                        }
                        listener.wait();
                        let now_ns = stage.now_ns();
                        bell.listening.fetch_sub(1, SeqCst);
                        if bell.over.load(SeqCst) {
                            return Ok(wakes.into_histogram());
                        }
                        if bell.answered.load(SeqCst) >= WARM_UP {
                            wakes.record(now_ns.saturating_sub(bell.rung_ns.load(SeqCst)));
                        }
                        bell.answered.fetch_add(1, SeqCst);
                    }
                });
                (self.core(seat), job)
            })
            .collect();
        let (samples, ()) = crew(jobs, || {
            on_core_0(|| {
                for number in 0..self.each() {
                    self.pause(random);
                    while bell.listening.load(SeqCst) < waiters {
                        thread::yield_now();
                    }
                    bell.rung_ns.store(stage.now_ns(), SeqCst);
                    bell.event.notify_additional(1);
                    while bell.answered.load(SeqCst) <= number {
                        thread::sleep(Duration::from_micros(20));
                    }
                }
                bell.over.store(true, SeqCst);
                bell.event.notify_additional(usize::MAX);
            })
        })?;
        Ok(samples)
    }

    /// A wake, and something to hand over.
    fn at_a_queue(
        &self,
        stage: &Stage<'_>,
        waiters: usize,
        random: &mut Random,
    ) -> anyhow::Result<Vec<Histogram<u64>>> {
        let bell = Bell::default();
        let jobs = (1..=waiters)
            .map(|seat| {
                let bell = &bell;
                let job: Job<'_, _> = Box::new(move || {
                    let mut wakes = Recorder::new(0);
                    loop {
                        let popped = bell.messages.pop().or_else(|| {
                            let listener = bell.event.listen();
                            bell.messages.pop().or_else(|| {
                                listener.wait();
                                bell.messages.pop()
                            })
                        });
                        match popped {
                            Some(END) => return Ok(wakes.into_histogram()),
                            Some(sent_ns) => {
                                let now_ns = stage.now_ns();
                                if bell.answered.load(SeqCst) >= WARM_UP {
                                    wakes.record(now_ns.saturating_sub(sent_ns));
                                }
                                bell.answered.fetch_add(1, SeqCst);
                            }
                            None => {}
                        }
                    }
                });
                (self.core(seat), job)
            })
            .collect();
        let (samples, ()) = crew(jobs, || {
            on_core_0(|| {
                for number in 0..self.each() {
                    self.pause(random);
                    bell.messages.push(stage.now_ns());
                    bell.event.notify_additional(1);
                    while bell.answered.load(SeqCst) <= number {
                        thread::sleep(Duration::from_micros(20));
                    }
                }
                (0..waiters).for_each(|_| bell.messages.push(END));
                bell.event.notify_additional(usize::MAX);
            })
        })?;
        Ok(samples)
    }

    /// Waiters on all cores but the first, if there are others.
    fn core(&self, seat: usize) -> usize {
        let others = environment::cores().saturating_sub(1).max(1);
        1 + (seat - 1) % others
    }
}

/// On a thread of its own: pinned, this one would leave its core to all that it begins later.
fn on_core_0<R: Send>(send: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            // The waiters would wait for ever.
            let _guard = crate::run::AbortOnPanic;
            crate::run::pin(0);
            send()
        });
        sender.join().expect("threads abort on panic")
    })
}
