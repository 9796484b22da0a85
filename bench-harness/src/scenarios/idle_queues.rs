//! A thousand queues in which nothing is: what does each keep? Of queues that never had a message, and of those that had one each, which
//! was deleted.
//!
//! Bytes are counted twice: by the allocator of this program, which counts what is asked of it while this scenario runs (where the program
//! has that allocator; resident memory otherwise, which is coarse), and by the broker's budget, which counts what messages take.

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use epoq::Queue;
use serde::Serialize;

use super::{
    Sheet, Stage, Trial,
    desk::{Desk, LONG, Post, settle, unlimited},
    register::Register,
    scaled,
    sheet::{Aim, Unit},
};
use crate::{check::Wrong, memory};

/// Longer than spare memory stays if nobody needs it.
const PAUSE: Duration = Duration::from_secs(2);

/// `epoq-bench idle-queues`
#[derive(Clone, Debug, Args, Serialize)]
pub struct IdleQueues {
    /// Queues of each kind
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub queues: u64,
}

impl Trial for IdleQueues {
    const NAME: &'static str = "idle-queues";

    fn scale(&mut self, pace: f64) {
        self.queues = scaled(self.queues, pace).min(100_000);
    }

    fn perform(&self, stage: &Stage<'_>) -> anyhow::Result<Sheet> {
        let mut sheet = Sheet::default();
        let begin = Instant::now();
        self.round(stage, false, &mut sheet)?;
        self.round(stage, true, &mut sheet)?;
        sheet.seconds = begin.elapsed().as_secs_f64();
        sheet.notes.push(if memory::is_counting() {
            "allocated: bytes asked of the allocator and not given back, counted by the allocator; the budget counts messages' memory only"
                .into()
        } else {
            "allocated: growth of resident memory, for this program's allocator does not count; the budget counts messages' memory only".into()
        });
        Ok(sheet)
    }
}

impl IdleQueues {
    fn round(&self, stage: &Stage<'_>, used: bool, sheet: &mut Sheet) -> anyhow::Result<()> {
        let (broker, clock) = stage.broker_by_hand()?;
        let register = Register::new(1);
        register.prepare(0, self.queues + 1);
        let mut desk = Desk::new(stage, &register, &broker, 0)?;
        // Whatever a thread or a broker takes when it is first used is not the queues'.
        let first = broker.create_queue("first", unlimited())?;
        desk.send(&first, Post::default());
        desk.drain(&first);
        first.advance(broker.now());
        let mut queues: Vec<Queue> = Vec::with_capacity(self.queues as usize);
        let many = self.queues as f64;

        let (meter, budget) = (memory::Meter::begin(), broker.memory().used);
        for number in 0..self.queues {
            let name = format!("tenant-{number}");
            queues.push(broker.create_queue(&name, unlimited()).context(name)?);
        }
        let kind = if used { "drained" } else { "never used" };
        if used {
            for queue in &queues {
                desk.send(queue, Post::default());
                let gots = desk.receive(queue, 1, LONG);
                if gots.len() != 1 {
                    desk.findings.add(
                        Wrong::Lost,
                        format_args!("{}: {} received", queue.name(), gots.len()),
                    );
                }
                desk.delete(queue, &gots);
            }
        }
        let show = |when: &str, sheet: &mut Sheet| {
            let grown = broker.memory().used.saturating_sub(budget) as f64;
            let name = format!("bytes allocated per queue {kind}{when}");
            sheet
                .figure(name, meter.bytes() as f64 / many, Unit::Bytes)
                .aim(Aim::Below(16_384.0));
            let name = format!("bytes of the budget per queue {kind}{when}");
            sheet.figure(name, grown / many, Unit::Bytes);
        };
        show("", sheet);
        if used {
            // Often: what one round retires goes with the epoch.
            for _ in 0..4 {
                stage.skip(&clock, PAUSE);
                for queue in &queues {
                    queue.advance(broker.now());
                }
            }
            show(", after advance", sheet);
        }
        drop(meter);
        queues.push(first);
        let books = settle(&register, vec![desk.close()], &queues.iter().collect::<Vec<_>>());
        sheet.messages += books.deleted;
        sheet.settle(books);
        Ok(())
    }
}
