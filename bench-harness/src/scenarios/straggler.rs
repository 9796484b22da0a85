//! A queue is filled, and all but one message in so many is deleted: what does each survivor keep in memory, and what is left of that when
//! the ledger has had time to evacuate?
//!
//! Segments hold 252 messages and go when the last one goes: one survivor in 252 may keep them all. Survivors are of three kinds:
//!
//! * *delayed*, never received: may be moved once their segment is a minute old;
//! * *visible*, received and given up: their handles are good for a delete for twelve hours, so they may be moved only then;
//! * *leased*: never moved; their handles must be good for a delete afterwards.
//!
//! The broker's clock is set by hand, for nobody sits through twelve hours.

use std::{
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use epoq::{Broker, ManualClock, Queue};
use serde::Serialize;

use super::{
    Sheet, Stage, Trial,
    desk::{Course, Desk, Got, LONG, Post, settle, unlimited},
    fits,
    register::Register,
    scaled,
    sheet::Unit,
};
use crate::{check::Wrong, memory, target::BATCH_MAX};

/// `epoq-bench straggler`
#[derive(Clone, Debug, Args, Serialize)]
pub struct Straggler {
    /// Messages to fill the queue with
    #[arg(long, value_name = "N", default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1..=super::MANY))]
    pub messages: u64,
    /// One message in this many survives
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', default_values_t = [252, 2000], value_parser = clap::value_parser!(u64).range(2..=super::MANY))]
    pub one_in: Vec<u64>,
}

/// What keeps a survivor from being received or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Delayed,
    Visible,
    Leased,
}

/// The age of segments that are evacuated, and some.
const MINUTE: Duration = Duration::from_secs(61);
/// How long handles are good for.
const HALF_DAY: Duration = Duration::from_secs(12 * 3600);
/// The longest delay.
const DELAY: Duration = Duration::from_secs(900);

impl Trial for Straggler {
    const NAME: &'static str = "straggler";

    fn scale(&mut self, pace: f64) {
        // Ten survivors remain.
        let least = self.most().saturating_mul(10).min(self.messages);
        self.messages = scaled(self.messages, pace).max(least);
    }

    fn check(&self) -> Result<(), String> {
        // Ten survivors at least, or a segment more or less decides.
        let most = self.most();
        if self.messages / 10 < most {
            return Err(format!(
                "--messages {} leaves fewer than ten survivors of --one-in {most}",
                self.messages
            ));
        }
        fits(self.messages)
    }

    fn perform(&self, stage: &Stage<'_>) -> anyhow::Result<Sheet> {
        let mut sheet = Sheet::default();
        for &one_in in &self.one_in {
            for kind in [Kind::Delayed, Kind::Visible, Kind::Leased] {
                self.round(stage, one_in, kind, &mut sheet)?;
            }
        }
        sheet.notes.push(
            "bytes: the budget's, all that is allocated for the queue's messages, less what is pooled for reuse or waits for the epoch".into(),
        );
        sheet.notes.push(
            "delayed ones were never received; visible ones were received and given up, and their handles delete them for 12 hours: they \
             move after that; leased ones never move"
                .into(),
        );
        Ok(sheet)
    }
}

impl Straggler {
    fn most(&self) -> u64 {
        self.one_in.iter().max().copied().unwrap_or(1)
    }

    fn round(&self, stage: &Stage<'_>, one_in: u64, kind: Kind, sheet: &mut Sheet) -> anyhow::Result<()> {
        let (broker, clock) = stage.broker_by_hand()?;
        let queue = broker.create_queue(Self::NAME, unlimited())?;
        let register = Register::new(1);
        register.prepare(0, self.messages);
        let mut desk = Desk::new(stage, &register, &broker, 0)?;
        let course = Course::default();
        let survives = |sequence: u64| sequence % one_in == one_in / 2;
        let begin = Instant::now();
        let mut delayed = 0;
        while desk.next_sequence() < self.messages {
            let first = desk.next_sequence();
            let last = (first + BATCH_MAX as u64).min(self.messages);
            let plain = match (first..last).find(|&sequence| kind == Kind::Delayed && survives(sequence)) {
                Some(survivor) => survivor - first,
                None => last - first,
            };
            if plain > 0 {
                course
                    .sent
                    .fetch_add(desk.send_batch(&queue, plain as usize) as u64, Relaxed);
            } else {
                let post = Post {
                    delay: Some(DELAY),
                    ..Post::default()
                };
                delayed += u64::from(desk.send(&queue, post));
            }
        }
        course.all_sent.store(true, Relaxed);
        let mut survivors: Vec<Got> = Vec::new();
        course.pursue(stage, || {
            let gots = desk.receive(&queue, BATCH_MAX, LONG);
            let (survive, die): (Vec<Got>, Vec<Got>) =
                gots.iter().partition(|got| survives(got.id.sequence()));
            desk.delete(&queue, &die);
            course.ended.fetch_add(gots.len() as u64, Relaxed);
            survivors.extend(survive);
            !gots.is_empty()
        });
        if kind == Kind::Visible {
            survivors.iter().for_each(|got| desk.release(&queue, got));
        }
        sheet.seconds += begin.elapsed().as_secs_f64();
        let expected = delayed + survivors.len() as u64;
        let show = |when: &str, sheet: &mut Sheet| {
            let used = broker.memory();
            let kept = used.used.saturating_sub(used.limbo + used.pooled);
            let name = format!("bytes per {} survivor of {one_in}, {when}", kind.word());
            sheet
                .figure(name, kept as f64 / expected.max(1) as f64, Unit::Bytes)
                .in_short();
        };
        show("before", sheet);
        pass(stage, &clock, MINUTE, &broker, &queue);
        show("after a minute", sheet);
        match kind {
            Kind::Delayed => stage.skip(&clock, DELAY),
            Kind::Visible => {
                pass(stage, &clock, HALF_DAY, &broker, &queue);
                show("after 12 hours", sheet);
            }
            Kind::Leased => {}
        }
        let evacuated = queue.metrics().evacuated;
        sheet.figure(
            format!("evacuated, {} of {one_in}", kind.word()),
            evacuated as f64,
            Unit::Count,
        );
        memory::purge();
        let found = if kind == Kind::Leased {
            survivors
                .chunks(BATCH_MAX)
                .map(|gots| desk.delete(&queue, gots) as u64)
                .sum()
        } else {
            desk.drain(&queue)
        };
        if found != expected {
            desk.findings.add(
                Wrong::Lost,
                format_args!("{expected} survived, {found} were found again, {}", kind.word()),
            );
        }
        let books = settle(&register, vec![desk.close()], &[&queue]);
        sheet.messages += books.deleted;
        sheet.settle(books);
        Ok(())
    }
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Delayed => "delayed",
            Self::Visible => "visible",
            Self::Leased => "leased",
        }
    }
}

/// Lets time pass, and drives the ledger meanwhile. Another thread does, as an embedder's would: what the scenario's own has retired
/// goes with the epoch.
fn pass(stage: &Stage<'_>, clock: &ManualClock, time: Duration, broker: &Broker, queue: &Queue) {
    stage.skip(clock, time);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                stage.skip(clock, Duration::from_millis(500));
                queue.advance(broker.now());
            }
        });
    });
}
