//! Life cycles through FIFO queues with few groups and many, against the textbook: what do order and deduplication cost?
//!
//! Each thread sends to its own groups one after the other, each time round in another order, and receives and deletes as many
//! messages as it sent; with fewer groups than threads all send to the same. Every message has a deduplication id of its own, made
//! before the call. Every pass is on a new queue, so that the ids of one, which are remembered for five minutes, do not weigh on the next.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    Sheet, Stage, Trial,
    sheet::{Aim, Unit},
};
use crate::{
    compare::{plural, there_and_back, thousands},
    environment,
    fifo::pass::{FifoPass, FifoPlan},
    memory::{self, Kept},
    targets::FifoTargetName,
};

/// `epoq-bench fifo`
#[derive(Clone, Debug, Args, Serialize)]
pub struct Fifo {
    /// Message groups
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 100, 10_000, 1_000_000], value_parser = crate::cli::count::<10_000_000>)]
    pub groups: Vec<usize>,
    /// Threads, each of which sends, receives and deletes; default: 1, and one for each core, but two
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = threads(), value_parser = crate::cli::count::<{ super::THREADS_MAX }>)]
    pub threads: Vec<usize>,
    /// Messages per call
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 10], value_parser = crate::cli::count::<10>)]
    pub batch: Vec<usize>,
    /// Life cycles in one turn (one pin, one clock reading), where the target has turns; default: each call its own
    #[arg(long, value_name = "N", value_parser = crate::cli::count::<100_000>)]
    pub turn: Option<usize>,
    /// Messages of each group that are queued before the clock starts
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub depth: u64,
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

/// One, and as many as there are cores.
pub(super) fn threads() -> [usize; 2] {
    [1, super::each_of(environment::cores()).max(2)]
}

impl Trial for Fifo {
    const NAME: &'static str = "fifo";

    fn scale(&mut self, pace: f64) {
        self.seconds *= pace;
    }

    fn check(&self) -> Result<(), String> {
        no_target_twice(&self.targets)?;
        let most = self.groups.iter().max().map_or(0, |&groups| groups as u64);
        fit(most.saturating_mul(self.depth), "--groups and --depth")
    }

    fn perform(&self, stage: &Stage<'_>) -> anyhow::Result<Sheet> {
        let mut measured = Measured::new(&self.targets, self.passes, "a life cycle", |pass| {
            (pass.messages, pass.seconds)
        });
        for &groups in &self.groups {
            for &threads in &self.threads {
                for &batch in &self.batch {
                    let plan = FifoPlan {
                        groups,
                        threads,
                        batch,
                        turn: self.turn,
                        depth: self.depth,
                        duplicates: 0,
                        back: 1,
                        duration: Duration::from_secs_f64(self.seconds),
                        warm_up: warm_up(self.seconds),
                        messages_max: messages_max(),
                        seed: stage.seed,
                    };
                    let ratio = match (groups, threads) {
                        (10_000, 1) => Some(3.0),
                        (10_000, 2) => Some(6.0),
                        _ => None,
                    };
                    let rate = ((groups, threads, batch) == (1, 1, 10)).then_some(1e6);
                    let title = format!(
                        "{} group{}, {threads} thread{}, batch {batch}",
                        thousands(groups as u64),
                        plural(groups),
                        plural(threads)
                    );
                    measured.cell(&title, &plan, Aims { ratio, rate }, stage)?;
                }
            }
        }
        Ok(measured.into_sheet())
    }
}

/// What a cell should be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Aims {
    /// The ledger over the textbook, at least.
    pub(super) ratio: Option<f64>,
    /// Per second, at least, by the ledger.
    pub(super) rate: Option<f64>,
}

/// So many messages and for so long.
type Rated = fn(&FifoPass) -> (u64, f64);

/// Cells of a table being measured: each is some passes of every target, in turns.
pub(super) struct Measured<'t> {
    targets: &'t [FifoTargetName],
    passes: u16,
    what: &'static str,
    rated: Rated,
    sheet: Sheet,
    sums: Vec<Sums>,
    most_ids: u64,
    is_cut_short: bool,
    _kept: Kept,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    sent: u64,
    again: u64,
    deleted: u64,
    empty_receives: u64,
}

impl<'t> Measured<'t> {
    pub(super) fn new(targets: &'t [FifoTargetName], passes: u16, what: &'static str, rated: Rated) -> Self {
        Self {
            targets,
            passes,
            what,
            rated,
            sheet: Sheet::default(),
            sums: vec![Sums::default(); targets.len()],
            most_ids: 0,
            is_cut_short: false,
            _kept: Kept::begin(),
        }
    }

    /// Measures one cell. Every second round goes through the targets backwards, so that none is always after the same other.
    pub(super) fn cell(
        &mut self,
        title: &str,
        plan: &FifoPlan,
        aims: Aims,
        stage: &Stage<'_>,
    ) -> anyhow::Result<()> {
        let mut rates = vec![Vec::new(); self.targets.len()];
        for round in 0..self.passes {
            for index in there_and_back(self.targets.len(), round.into()) {
                let target = self.targets[index];
                stage.progress.begin(&format!("{title}: {}", target.name()));
                let pass = target.pass(plan)?;
                let (messages, seconds) = (self.rated)(&pass);
                rates[index].push(messages as f64 / seconds);
                stage.watch.take_in(plan.threads - 1, pass.apart_ns);
                self.note(index, title, pass);
            }
        }
        for (target, rates) in self.targets.iter().zip(&rates) {
            let name = format!("{title}, {}", target.name());
            let figure = self.sheet.figure_of(name, rates.clone(), Unit::PerSecond);
            if let Some(rate) = aims.rate.filter(|_| *target == FifoTargetName::Epoq) {
                figure.aim(Aim::AtLeast(rate));
            }
        }
        let (first, others) = (self.targets[0], &self.targets[1..]);
        for (other, their_rates) in others.iter().zip(&rates[1..]) {
            let name = format!("{title}, {} over {}", first.name(), other.name());
            let each = rates[0].iter().zip(their_rates);
            let each = each.map(|(ours, theirs)| ours / theirs).collect();
            let figure = self.sheet.figure_of(name, each, Unit::Ratio).in_short();
            if let Some(aim) = aims.ratio
                && (first, *other) == (FifoTargetName::Epoq, FifoTargetName::LockedFifo)
            {
                figure.aim(Aim::AtLeast(aim));
            }
        }
        Ok(())
    }

    fn note(&mut self, index: usize, title: &str, pass: FifoPass) {
        if index == 0 {
            self.sheet.messages += pass.messages;
            self.sheet.seconds += pass.seconds;
        }
        let sums = &mut self.sums[index];
        sums.sent += pass.settlement.sent;
        sums.again += pass.again;
        sums.deleted += pass.settlement.deleted;
        sums.empty_receives += pass.empty_receives;
        self.most_ids = self.most_ids.max(pass.ids);
        self.is_cut_short |= pass.is_cut_short;
        if !pass.verified() {
            let place = format!("{}, {title}", pass.target);
            self.sheet.findings.merge_with(pass.settlement.findings, &place);
        }
    }

    pub(super) fn into_sheet(self) -> Sheet {
        let mut sheet = self.sheet;
        sheet.notes.push(format!(
            "{} and a share of the harness: names, ids and bodies are made before the calls, the books are kept after them, for all targets alike",
            self.what
        ));
        sheet.notes.push(format!(
            "each pass is on a new queue, in memory that the last one gave back: an id is remembered for five minutes, {} of them at most at a time here{}",
            self.most_ids,
            if self.is_cut_short {
                "; passes were cut short for want of memory for more"
            } else {
                ""
            }
        ));
        sheet.notes.push(
            "checked: of a group no message after a later one, and none while another thread had one in hand; no message accepted twice"
                .into(),
        );
        let books: Map<String, Value> = self
            .targets
            .iter()
            .zip(&self.sums)
            .map(|(target, sums)| {
                let books = json!({
                    "sent": sums.sent, "sent_again": sums.again, "deleted": sums.deleted, "empty_receives": sums.empty_receives,
                });
                (target.name().to_owned(), books)
            })
            .collect();
        sheet.books = books.into();
        sheet
    }
}

/// How long to run before measuring `seconds`.
pub(crate) fn warm_up(seconds: f64) -> Duration {
    Duration::from_secs_f64((seconds / 5.0).min(0.1))
}

/// How many messages a pass may send: their ids have to fit into half of what is there.
pub(crate) fn messages_max() -> u64 {
    memory::available_bytes().map_or(100_000_000, |available| {
        available / 2 / FifoPlan::ROUGH_BYTES_PER_ID
    })
}

/// Whether so many messages at a time fit into memory; the error is for the user.
pub(super) fn fit(messages: u64, options: &str) -> Result<(), String> {
    let most = messages_max();
    if messages > most {
        Err(format!(
            "{options}: {messages} messages, with their ids, are more than fit into half of the memory ({most})"
        ))
    } else {
        Ok(())
    }
}

pub(super) fn no_target_twice(targets: &[FifoTargetName]) -> Result<(), String> {
    let twice = targets
        .iter()
        .enumerate()
        .find(|(index, target)| targets[..*index].contains(target));
    twice.map_or(Ok(()), |(_, target)| {
        Err(format!("--targets names {} twice", target.name()))
    })
}
