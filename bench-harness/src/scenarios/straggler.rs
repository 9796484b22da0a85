//! A queue is filled, and all but one message in so many is deleted: what does each survivor keep in memory, and what is left of that when
//! the ledger has had time to evacuate?
//!
//! Segments hold 252 messages and go when the last one goes: one survivor in 252 may keep them all. Survivors are either visible (received
//! and given up) or still leased; the handles of leased ones must be good for a delete afterwards, wherever their messages are by then.

use std::{sync::atomic::Ordering::Relaxed, thread, time::Duration};

use clap::Args;
use epoq::{Broker, Queue};
use serde::Serialize;

use super::{
    Sheet, Stage, Trial,
    desk::{Course, Desk, Got, LONG, settle, unlimited},
    register::Register,
    scaled,
    sheet::Unit,
};
use crate::{check::Wrong, memory, target::BATCH_MAX};

/// `epoq-bench straggler`
#[derive(Clone, Debug, Args, Serialize)]
pub struct Straggler {
    /// Messages to fill the queue with
    #[arg(long, value_name = "N", default_value_t = 500_000)]
    pub messages: u64,
    /// One message in this many survives
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', default_values_t = [252, 2000], value_parser = clap::value_parser!(u64).range(1..))]
    pub one_in: Vec<u64>,
    /// How long the ledger is given to evacuate, its time being driven every 10 ms
    #[arg(long, value_name = "MS", default_value_t = 300)]
    pub settle_ms: u64,
}

impl Trial for Straggler {
    const NAME: &'static str = "straggler";

    fn scale(&mut self, pace: f64) {
        self.messages = scaled(self.messages, pace).max(10_000);
        self.settle_ms = scaled(self.settle_ms, pace);
    }

    fn perform(&self, stage: &Stage<'_>) -> anyhow::Result<Sheet> {
        let mut sheet = Sheet::default();
        for &one_in in &self.one_in {
            for leased in [false, true] {
                self.round(stage, one_in, leased, &mut sheet)?;
            }
        }
        sheet.notes.push(
            "bytes: the budget's, all that is allocated for the queue's messages; of that, what is pooled for reuse or waits for the \
             epoch is said apart"
                .into(),
        );
        Ok(sheet)
    }
}

impl Straggler {
    fn round(&self, stage: &Stage<'_>, one_in: u64, leased: bool, sheet: &mut Sheet) -> anyhow::Result<()> {
        let broker = stage.broker(u64::MAX / 2)?;
        let queue = broker.create_queue(Self::NAME, unlimited())?;
        let register = Register::new(1);
        register.prepare(0, self.messages);
        let mut desk = Desk::new(stage, &register, &broker, 0)?;
        let course = Course::default();
        let begin_ns = stage.now_ns();
        while desk.next_sequence() < self.messages {
            let n = (self.messages - desk.next_sequence()).min(BATCH_MAX as u64) as usize;
            course.sent.fetch_add(desk.send_batch(&queue, n) as u64, Relaxed);
        }
        course.all_sent.store(true, Relaxed);
        let mut survivors: Vec<Got> = Vec::new();
        course.pursue(stage, || {
            let gots = desk.receive(&queue, BATCH_MAX, LONG);
            let (survive, die): (Vec<Got>, Vec<Got>) = gots
                .iter()
                .partition(|got| got.id.sequence() % one_in == one_in / 2);
            desk.delete(&queue, &die);
            course.ended.fetch_add(gots.len() as u64, Relaxed);
            survivors.extend(survive);
            !gots.is_empty()
        });
        if !leased {
            survivors.iter().for_each(|got| desk.release(&queue, got));
        }
        let seconds = (stage.now_ns() - begin_ns) as f64 / 1e9;
        let state = if leased { "leased" } else { "visible" };
        let many = survivors.len().max(1) as f64;
        let show = |when: &str, sheet: &mut Sheet| {
            let used = broker.memory();
            let name = format!("bytes per {state} survivor of {one_in}, {when}");
            sheet.figure(name, used.used as f64 / many, Unit::Bytes);
            let idle = used.limbo + used.pooled;
            let name = format!("of them pooled or waiting for the epoch, {state} of {one_in}, {when}");
            sheet.figure(name, idle as f64 / many, Unit::Bytes);
        };
        show("before", sheet);
        self.let_settle(stage, &broker, &queue);
        show("after", sheet);
        memory::purge();
        let expected = survivors.len() as u64;
        let found = if leased {
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
                format_args!("{expected} survived, {found} were found again, {state}"),
            );
        }
        let books = settle(&register, vec![desk.close()], &[&queue]);
        sheet.messages += books.deleted;
        sheet.seconds += seconds;
        sheet.settle(books);
        Ok(())
    }

    /// Drives the ledger's time. Another thread does, as an embedder's would: what this one has retired goes with the epoch.
    fn let_settle(&self, stage: &Stage<'_>, broker: &Broker, queue: &Queue) {
        thread::scope(|scope| {
            scope.spawn(|| {
                let end_ns = stage.now_ns() + self.settle_ms * 1_000_000;
                while stage.now_ns() < end_ns {
                    queue.advance(broker.now());
                    thread::sleep(Duration::from_millis(10));
                }
            });
        });
    }
}
