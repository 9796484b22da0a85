//! A dead-letter storm: some messages are never deleted but given up each time, until they have been received too often and move
//! to the dead-letter queue. All of them must end there, exactly once and with the right count; and what does it cost the others?
//!
//! Two kinds of round in turn, `clean` and `storm`, each on a fresh broker: the same good messages, without and with poison among them.
//! What is compared is the good messages' throughput from the first send to the last good delete.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
};

use clap::Args;
use epoq::{QueueConfig, Redrive};
use serde::Serialize;

use super::{
    Sheet, Stage, Trial,
    desk::{Books, Course, Desk, Got, Gots, Job, LONG, crew, lose_letters, settle, unlimited},
    fits,
    register::Register,
    scaled,
    sheet::Unit,
};
use crate::{check::Wrong, compare::there_and_back, environment, target::BATCH_MAX};

/// `epoq-bench poison`
#[derive(Clone, Debug, Args, Serialize)]
pub struct Poison {
    /// Good messages in each round
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=super::MANY))]
    pub messages: u64,
    /// With poison, one message in this many is poison
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..))]
    pub one_in: u64,
    /// Receives before a message moves
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_receives: u32,
    /// Threads, each of which sends, receives and deletes; default: one for each core
    #[arg(long, value_name = "N", default_value_t = super::each_of(environment::cores()), value_parser = crate::cli::count::<{ super::THREADS_MAX }>)]
    pub threads: usize,
    /// Rounds of each kind
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub rounds: u64,
}

/// What one round came to.
struct Round {
    books: Books,
    /// Good messages.
    good: u64,
    seconds: f64,
    letters: u64,
    extra_deliveries: u64,
}

impl Trial for Poison {
    const NAME: &'static str = "poison";

    fn scale(&mut self, pace: f64) {
        self.messages = scaled(self.messages, pace);
        self.rounds = scaled(self.rounds, pace.min(1.0));
    }

    fn check(&self) -> Result<(), String> {
        // Poison comes on top: as many again at most.
        fits(self.messages * 2)
    }

    fn perform(&self, stage: &Stage<'_>) -> anyhow::Result<Sheet> {
        let mut sheet = Sheet::default();
        let (mut clean, mut storm, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let (mut letters, mut extra, mut good) = (0, 0, 0);
        for number in 0..self.rounds {
            let mut rates = [0.0; 2];
            for kind in there_and_back(2, number as usize) {
                let storms = kind == 1;
                let round = self.round(stage, storms)?;
                rates[kind] = round.good as f64 / round.seconds;
                if storms {
                    sheet.messages += round.books.deleted;
                    sheet.seconds += round.seconds;
                    letters += round.letters;
                    extra += round.extra_deliveries;
                    good += round.good;
                }
                sheet.settle(round.books);
            }
            let [of_clean, of_storm] = rates;
            clean.push(of_clean);
            storm.push(of_storm);
            ratios.push(of_storm / of_clean);
        }
        sheet
            .figure_of("good messages in the storm over without", ratios, Unit::Ratio)
            .in_short();
        sheet.figure_of("good messages in the storm", storm, Unit::PerSecond);
        sheet.figure_of("good messages without", clean, Unit::PerSecond);
        sheet.figure("dead letters", letters as f64, Unit::Count);
        sheet
            .figure(
                "deliveries of poison per good message",
                extra as f64 / good.max(1) as f64,
                Unit::Number,
            )
            .in_short();
        sheet.notes.push(format!(
            "each poison message was delivered {} times, given up each time, and came out of the dead-letter queue once, as delivery {}",
            self.max_receives,
            self.max_receives + 1
        ));
        sheet
            .notes
            .push("medians of rounds in turn, every second one with the storm first; the harness's own checks are part of both sides".into());
        Ok(sheet)
    }
}

impl Poison {
    fn round(&self, stage: &Stage<'_>, storms: bool) -> anyhow::Result<Round> {
        let broker = stage.broker(u64::MAX / 2)?;
        let letters = broker.create_queue("dead-letters", unlimited())?;
        let config = QueueConfig {
            redrive: Some(Redrive::new("dead-letters", self.max_receives)),
            ..unlimited()
        };
        let queue = broker.create_queue(Self::NAME, config)?;
        let register = Register::new(self.threads);
        let is_poison = |got: &Got| storms && got.id.sequence().is_multiple_of(self.one_in);
        // Of each sender.
        let good = self.messages.div_ceil(self.threads as u64);
        let all = if storms {
            good * self.one_in / (self.one_in - 1)
        } else {
            good
        };
        let poison = if storms { all.div_ceil(self.one_in) } else { 0 };
        let course = Course::default();
        let (deliveries, senders) = (AtomicU64::new(0), AtomicU64::new(self.threads as u64));
        let begin_ns = stage.now_ns();
        let jobs = (0..self.threads)
            .map(|seat| {
                register.prepare(seat as u16, all);
                let (register, broker, queue, course) = (&register, &broker, &queue, &course);
                let (deliveries, senders) = (&deliveries, &senders);
                let job: Job<'_, _> = Box::new(move || {
                    let mut desk = Desk::new(stage, register, broker, seat as u16)?;
                    let (mut given_up, mut ended_ns) = (0, 0);
                    let mut cycle = |desk: &mut Desk<'_>| {
                        let gots = desk.receive(queue, BATCH_MAX, LONG);
                        let mut fine = Gots::new();
                        for got in &gots {
                            if is_poison(got) {
                                given_up += 1;
                                desk.release(queue, got);
                            } else {
                                fine.push(*got);
                            }
                        }
                        let deleted = desk.delete(queue, &fine) as u64;
                        if deleted > 0 {
                            course.ended.fetch_add(deleted, Relaxed);
                            ended_ns = stage.now_ns();
                        }
                        !gots.is_empty()
                    };
                    while desk.next_sequence() < all {
                        let n = (all - desk.next_sequence()).min(BATCH_MAX as u64);
                        let first = desk.next_sequence();
                        let taken = desk.send_batch(queue, n as usize) as u64;
                        let poison = (first..first + n)
                            .filter(|sequence| storms && sequence.is_multiple_of(self.one_in))
                            .count() as u64;
                        course.sent.fetch_add(taken - poison.min(taken), Relaxed);
                        cycle(&mut desk);
                    }
                    if senders.fetch_sub(1, Relaxed) == 1 {
                        course.all_sent.store(true, Relaxed);
                    }
                    course.pursue(stage, || cycle(&mut desk));
                    // The good ones are through; what is left of the poison is given up until it has moved.
                    let mut last_ns = stage.now_ns();
                    while stage.now_ns() < last_ns + stage.patience_ns {
                        let counts = queue.counts();
                        if counts.visible + counts.in_flight == 0 {
                            break;
                        }
                        if cycle(&mut desk) {
                            last_ns = stage.now_ns();
                        } else {
                            thread::yield_now();
                        }
                    }
                    deliveries.fetch_add(given_up, Relaxed);
                    Ok((desk.close(), ended_ns))
                });
                (seat, job)
            })
            .collect();
        let (records, ()) = crew(jobs, || ())?;
        let last_ns = records
            .iter()
            .map(|(_, last_ns)| *last_ns)
            .max()
            .unwrap_or(begin_ns);

        let mut desk = Desk::new(stage, &register, &broker, 0)?;
        let mut found = 0;
        loop {
            let mut gots = desk.receive(&letters, BATCH_MAX, LONG);
            if gots.is_empty() {
                break;
            }
            lose_letters(stage, &mut gots);
            for got in &gots {
                found += 1;
                let full = u64::from(self.max_receives);
                if !is_poison(got) {
                    desk.findings.add(
                        Wrong::Misplaced,
                        format_args!("{:?} is no poison and became a dead letter", got.id),
                    );
                } else if (got.seen_before, u64::from(got.receives)) != (full, full + 1) {
                    desk.findings.add(
                        Wrong::WrongCount,
                        format_args!(
                            "{:?} became a dead letter after {} deliveries, and came as delivery {}; {full} were allowed",
                            got.id, got.seen_before, got.receives
                        ),
                    );
                }
            }
            desk.delete(&letters, &gots);
        }
        // Whatever has not moved although nobody received it any more.
        let stayed = desk.drain(&queue);
        if found != poison * self.threads as u64 || stayed > 0 {
            desk.findings.add(
                Wrong::Misplaced,
                format_args!(
                    "{} messages were poison, {found} became dead letters, {stayed} stayed",
                    poison * self.threads as u64
                ),
            );
        }
        let mut desks: Vec<_> = records.into_iter().map(|(desk, _)| desk).collect();
        desks.push(desk.close());
        Ok(Round {
            books: settle(&register, desks, &[&queue, &letters]),
            good: (all - poison) * self.threads as u64,
            seconds: last_ns.saturating_sub(begin_ns).max(1) as f64 / 1e9,
            letters: found,
            extra_deliveries: deliveries.into_inner(),
        })
    }
}
