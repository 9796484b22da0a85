//! A share of all sends is of messages sent before, under the same deduplication id: is each accepted exactly once, what does that
//! cost, and what does an id that is remembered keep?
//!
//! What is sent again has another body, which says so: received, it convicts. And each message that was accepted must be
//! received once. An id is sent again at random among the sender's last ones.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::{
    Sheet, Stage, Trial,
    desk::Random,
    fifo::{Aims, Measured, fit, messages_max, no_target_twice, threads, warm_up},
    scaled,
    sheet::Unit,
};
use crate::{
    check::{Withheld, Wrong, settle},
    compare::{plural, thousands},
    fifo::{
        FifoSetup, FifoTarget,
        clerk::{BODY_BYTES, Clerk, Duty, Office},
        order::{Lanes, Order},
        parcels::Names,
        pass::FifoPlan,
    },
    memory::{self, Meter},
    target::BATCH_MAX,
    targets::{EpoqFifo, FifoTargetName, LockedFifo},
};

/// `epoq-bench fifo-dedup`
#[derive(Clone, Debug, Args, Serialize)]
pub struct FifoDedup {
    /// Of a hundred sends, so many are of messages sent before
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=95))]
    pub share: u64,
    /// How many of its own messages a sender goes back for one, at most
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=super::MANY))]
    pub back: u64,
    /// Message groups
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [100], value_parser = crate::cli::count::<10_000_000>)]
    pub groups: Vec<usize>,
    /// Threads, each of which sends, receives and deletes; default: 1, and one for each core, but two
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = threads(), value_parser = crate::cli::count::<{ super::THREADS_MAX }>)]
    pub threads: Vec<usize>,
    /// Messages per call
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 10], value_parser = crate::cli::count::<10>)]
    pub batch: Vec<usize>,
    /// Ids that are weighed
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=super::MANY))]
    pub ids: u64,
    /// The queues under test; the first is compared with each other
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_values = ["epoq", "locked-fifo"])]
    pub targets: Vec<FifoTargetName>,
    /// How often to measure each, in turns
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub passes: u16,
    /// How long to measure each pass
    #[arg(long, value_name = "S", allow_negative_numbers = true, default_value_t = 0.2, value_parser = crate::cli::positive::<240>)]
    pub seconds: f64,
}

impl Trial for FifoDedup {
    const NAME: &'static str = "fifo-dedup";

    fn scale(&mut self, pace: f64) {
        self.seconds *= pace;
        self.ids = scaled(self.ids, pace);
    }

    fn check(&self) -> Result<(), String> {
        no_target_twice(&self.targets)?;
        fit(self.ids, "--ids")
    }

    fn perform(&self, stage: &Stage<'_>) -> anyhow::Result<Sheet> {
        let mut measured = Measured::new(&self.targets, self.passes, "a send", |pass| {
            (pass.sends, pass.seconds)
        });
        for &groups in &self.groups {
            for &threads in &self.threads {
                for &batch in &self.batch {
                    let plan = FifoPlan {
                        groups,
                        threads,
                        batch,
                        turn: None,
                        depth: 0,
                        duplicates: self.share,
                        back: self.back,
                        duration: Duration::from_secs_f64(self.seconds),
                        warm_up: warm_up(self.seconds),
                        messages_max: messages_max(),
                        seed: stage.seed,
                    };
                    let title = format!(
                        "sends, {} group{}, {threads} thread{}, batch {batch}",
                        thousands(groups as u64),
                        plural(groups),
                        plural(threads)
                    );
                    measured.cell(&title, &plan, Aims::default(), stage)?;
                }
            }
        }
        let mut sheet = measured.into_sheet();
        let targets = self.targets.iter();
        for target in targets.take_while(|_| !stage.progress.is_stopped()) {
            stage.progress.begin(&format!("weighing ids: {}", target.name()));
            match target {
                FifoTargetName::Epoq => weigh::<EpoqFifo>(self.ids, stage, &mut sheet)?,
                FifoTargetName::LockedFifo => weigh::<LockedFifo>(self.ids, stage, &mut sheet)?,
            }
        }
        sheet.notes.push(format!(
            "{} of a hundred sends are of a message sent before; each sender receives and deletes what it sent the first time",
            self.share
        ));
        sheet.notes.push(
            if memory::is_counting() {
                "bytes: allocated, of a queue from which all messages are deleted, over one that was used a little"
            } else {
                "bytes: resident, since allocations are not counted here"
            }
            .into(),
        );
        Ok(sheet)
    }
}

/// What an id keeps whose message is gone.
fn weigh<T: FifoTarget>(ids: u64, stage: &Stage<'_>, sheet: &mut Sheet) -> anyhow::Result<()> {
    /// Of a little use, so that what a queue has anyhow is there.
    const LITTLE: u64 = 10_000;
    let setup = FifoSetup {
        seed: stage.seed,
        memory_limit_bytes: memory::total_bytes().unwrap_or(u64::MAX / 2),
    };
    let target = T::build(&setup)?;
    let lanes = Lanes::new(100, 1, stage.seed);
    let office = Office {
        names: Names::new(lanes.groups()),
        order: Order::new(lanes),
        withheld: Withheld::new(0),
        seed: stage.seed,
    };
    let duty = Duty {
        batch: BATCH_MAX,
        duplicates: 0,
        back: 1,
    };
    let mut session = target.session(0)?;
    let mut clerk = Clerk::new(&office, 0, duty, Random::new(stage.seed, 0));
    let mut until = |sent: u64| {
        while clerk.sent.count() < sent {
            clerk.cycle::<false, _>(&mut session);
        }
    };
    until(LITTLE);
    let before = (target.memory_bytes(), target.ids());
    let meter = Meter::begin();
    until(LITTLE + ids);
    let bytes = meter.bytes();
    drop(meter);
    let after = (target.memory_bytes(), target.ids());
    let entered = after.1.saturating_sub(before.1).max(1) as f64;
    let title = format!("bytes per live id of {}, {}", thousands(ids), T::NAME);
    sheet
        .figure(title, bytes as f64 / entered, Unit::Bytes)
        .in_short();
    if let (Some(before), Some(after)) = (before.0, after.0) {
        let title = format!("bytes of the budget per live id, {}", T::NAME);
        let grown = after as f64 - before as f64;
        sheet.figure(title, grown / entered, Unit::Bytes);
    }
    clerk.book.drain(&mut session);
    let closed = clerk.close();
    let settlement = settle(vec![closed.sent], vec![closed.received], BODY_BYTES);
    if target.ids() != settlement.sent {
        sheet.findings.add(
            Wrong::Miscounted,
            format_args!("{} ids sent, {} remembered", settlement.sent, target.ids()),
        );
    }
    sheet.findings.merge(settlement.findings);
    Ok(())
}
