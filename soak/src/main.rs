//! `epoq-soak`: a long stress of the whole broker, and a judge of all that its threads see.
//!
//! ```text
//!   overseer ── SIGSTOP, SIGCONT ──▶ the soak: one process, four threads per core
//!                                      senders ──▶ queues ──▶ receivers      each thread lives for seconds, some are parked
//!                                         │                       │
//!                                         ▼                       ▼
//!                                      books: every message's life;  groups: every FIFO group's order
//! ```
//!
//! Standard and FIFO queues with dead letters and delays, with little memory, so that senders are refused all the time; one
//! queue is purged again and again. Every delivery is judged when it is entered: no two leases at a time, receive counts without
//! gaps, no delivery after a delete, groups in order. In the end all is drained: sent = deleted, by message and by the queues' own
//! counts; nothing is left, and no memory.

mod crew;
mod overseer;
mod receivers;
mod report;
mod senders;
mod stage;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Parser;
use epoq::{Counts, Queue, QueueConfig};
use epoq_bench::{environment, memory};
use epoq_judge::Broken;

use crate::{
    report::{Report, Sample, Terms},
    stage::Stage,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long all that was sent may take to be received and deleted: many times what it takes.
const DRAIN_MAX: Duration = Duration::from_secs(180);

/// A long stress of the whole broker: threads that die, are parked and replaced, a process that is stopped; nothing may be lost.
#[derive(Debug, Parser)]
struct Options {
    /// How long messages are sent, in minutes; 0.05 to 100,000.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true, value_parser = minutes)]
    minutes: f64,
    /// Goes on until so many messages have been sent, if that takes longer.
    #[arg(long, default_value_t = 0)]
    messages: u64,
    /// What random choices begin with.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads, 1 to 1,024; four per core unless told, and as many as there are roles at least.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Where the report goes, as soak.json and soak.md.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Without a process above that stops this one now and then.
    #[arg(long)]
    alone: bool,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.05..=100_000.0).contains(&minutes) {
        Ok(minutes)
    } else {
        Err("must be 0.05 to 100,000".to_owned())
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let duration = Duration::from_secs_f64(options.minutes * 60.0);
    let result = if options.alone {
        overseer::end_with_it().and_then(|()| soak(&options, duration))
    } else {
        overseer::run(options.seed, duration)
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(3)
        }
    }
}

/// Says whether all promises were kept.
fn soak(options: &Options, duration: Duration) -> Result<bool> {
    let asked = options.threads.map_or(4 * environment::cores(), usize::from);
    // One book for each thread, though only some of them send.
    let stage = Stage::new(asked.max(64), options.seed)?;
    let roles = crew::roles(&stage, asked);
    println!(
        "{} threads, {:.1} minutes, seed {}",
        roles.len(),
        duration.as_secs_f64() / 60.0,
        options.seed
    );
    let terms = Terms {
        commit: environment::commit(),
        seed: options.seed,
        threads: roles.len(),
    };
    let samples = thread::scope(|scope| {
        scope.spawn(|| crew::run(&stage, &roles, options.seed));
        let samples = watch(&stage, duration, options.messages);
        stage.is_closing.store(true, Relaxed);
        drain(&stage);
        stage.is_over.store(true, Relaxed);
        samples
    });
    let report = settle(stage, terms, &samples);
    println!("{}", report.text());
    if let Some(directory) = &options.out {
        report.write(directory)?;
    }
    Ok(report.is_verified())
}

/// Takes a sample each second.
fn watch(stage: &Stage, duration: Duration, messages: u64) -> Vec<Sample> {
    let mut samples: Vec<Sample> = Vec::new();
    let goes_on = || stage.elapsed() < duration || stage.books.totals().accepted < messages;
    while goes_on() && !stage.is_closing() {
        thread::sleep(Duration::from_secs(1));
        let counts: Vec<_> = stage.queues().map(Queue::counts).collect();
        let sum = |of: fn(&Counts) -> u64| counts.iter().map(of).sum();
        let memory = stage.broker.memory();
        let sample = Sample {
            second: stage.elapsed().as_secs(),
            resident: memory::resident_bytes().unwrap_or(0),
            used: memory.used,
            limbo: memory.limbo,
            leases: stage.books.totals().leases,
            visible: sum(|counts| counts.visible),
            in_flight: sum(|counts| counts.in_flight),
            delayed: sum(|counts| counts.delayed),
        };
        if samples.len().is_multiple_of(10) {
            println!(
                "{:6} s  {:>13} deliveries  {:5} MiB resident  {:>7} visible {:>6} in flight {:>6} delayed  {} refused",
                sample.second,
                sample.leases,
                sample.resident >> 20,
                sample.visible,
                sample.in_flight,
                sample.delayed,
                stage.events.refused.load(Relaxed),
            );
        }
        samples.push(sample);
    }
    samples
}

/// Waits until all that was sent is gone.
fn drain(stage: &Stage) {
    let began = Instant::now();
    loop {
        let totals = stage.books.totals();
        if totals.left == 0 && totals.owed == 0 || stage.is_over() {
            return;
        }
        if began.elapsed() > DRAIN_MAX {
            stage.convict(Broken(format!(
                "lost, or stuck: {totals:?}, {}; {:?}",
                stage.books.some(5),
                stage.queues().collect::<Vec<_>>(),
            )));
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Lays the books and the queues' own counts side by side, and does away with all.
fn settle(stage: Stage, terms: Terms, samples: &[Sample]) -> Report {
    let totals = stage.books.totals();
    let mut broken: Vec<_> = stage.broken().iter().map(ToString::to_string).collect();
    let counts: Vec<_> = stage
        .queues()
        .map(|queue| (queue.name().to_owned(), queue.counts()))
        .collect();
    let side = stage.side.counts();
    let sum = |of: fn(&Counts) -> u64| counts.iter().map(|(_, counts)| of(counts)).sum::<u64>();
    let mut demand = |what: &str, is_so: bool| {
        if !is_so {
            broken.push(format!("{what}: {totals:?}, {counts:?}"));
        }
    };
    demand(
        "sent = deleted",
        totals.accepted == totals.deleted && totals.left == 0 && totals.owed == 0,
    );
    demand(
        "sent, by the queues",
        sum(|counts| counts.sent) - side.sent == totals.accepted,
    );
    demand(
        "deleted, by the queues",
        sum(|counts| counts.deleted) - side.deleted == totals.deleted,
    );
    demand(
        "deliveries, by the queues",
        sum(|counts| counts.received) - side.received == totals.leases,
    );
    demand(
        "moved out = moved in",
        sum(|counts| counts.moved_out) == sum(|counts| counts.moved_in),
    );
    demand("lapsed", sum(|counts| counts.lapsed) == 0);
    demand("purged: sent", side.sent == stage.side_accepted.load(Relaxed));
    demand(
        "purged: deleted",
        side.deleted == stage.side_deleted.load(Relaxed),
    );
    let left = side.visible + side.in_flight + side.delayed;
    demand(
        "purged: sent = deleted + purged + left",
        side.sent == side.deleted + side.purged + left,
    );
    for queue in stage.queues() {
        let counts = queue.counts();
        let counted = (counts.visible, counts.in_flight, counts.delayed);
        // What is due counts as in flight, or delayed, until somebody looks.
        demand(
            &format!("{}: counted one by one", queue.name()),
            queue.census() == counted,
        );
        let is_side = queue.name() == stage.side.name();
        demand(
            &format!("{}: nothing is left", queue.name()),
            is_side || counted == (0, 0, 0),
        );
    }
    // Without its queues a broker has no memory.
    for queue in stage.broker.queue_names() {
        if stage.broker.delete_queue(&queue).is_err() {
            broken.push(format!("{queue} cannot be deleted"));
        }
    }
    // A scope ends before its threads have: what they had retired is handed on as they go.
    let patience = Instant::now() + Duration::from_secs(20);
    let mut used = stage.broker.memory();
    while used.used != 0 && Instant::now() < patience {
        thread::sleep(Duration::from_millis(10));
        // Whoever deletes a queue has the epochs go on.
        let last = stage.broker.create_queue("last", QueueConfig::default());
        if last.is_err() || stage.broker.delete_queue("last").is_err() {
            broken.push("a queue cannot be made and deleted in the end".to_owned());
        }
        used = stage.broker.memory();
    }
    if used.used != 0 {
        broken.push(format!("memory is left: {used:?}"));
    }
    Report::new(&stage, terms, totals, &counts, samples, broken)
}
