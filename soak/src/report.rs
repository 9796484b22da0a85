//! What a soak has come to: one sheet of JSON, and the same to be read.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};
use epoq::Counts;
use epoq_bench::environment::Machine;
use epoq_judge::Totals;
use serde::Serialize;

use crate::stage::Stage;

/// Memory is flat if the median of the last quarter is at most so much times that of the second one …
const FLAT_RATIO: f64 = 1.1;
/// … and so many bytes more.
const FLAT_SLACK: u64 = 32 << 20;

/// One second's figures.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) second: u64,
    pub(crate) resident: u64,
    /// By the broker's budget.
    pub(crate) used: u64,
    pub(crate) limbo: u64,
    pub(crate) leases: u64,
    pub(crate) visible: u64,
    pub(crate) in_flight: u64,
    pub(crate) delayed: u64,
}

/// Resident memory over the run.
#[derive(Debug, Serialize)]
pub(crate) struct Resident {
    min: u64,
    median: u64,
    max: u64,
    second_quarter_median: u64,
    last_quarter_median: u64,
    is_flat: bool,
}

#[derive(Debug, Serialize)]
struct QueueSheet {
    name: String,
    sent: u64,
    received: u64,
    deleted: u64,
    expired: u64,
    released: u64,
    moved_out: u64,
    moved_in: u64,
    purged: u64,
    left: u64,
}

/// The whole sheet.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    verdict: &'static str,
    broken: Vec<String>,
    machine: Machine,
    commit: String,
    stalls: bool,
    seed: u64,
    threads: usize,
    minutes: f64,
    /// Messages accepted, whose lives were followed one by one.
    messages: u64,
    deliveries: u64,
    messages_per_second: u64,
    purged_queue_messages: u64,
    events: serde_json::Value,
    queues: Vec<QueueSheet>,
    resident: Option<Resident>,
    /// Every tenth second.
    samples: Vec<Sample>,
}

impl Resident {
    /// Of what was sampled while all were at work.
    fn of(samples: &[Sample]) -> Option<Self> {
        let median = |samples: &[Sample]| {
            let mut resident: Vec<_> = samples.iter().map(|sample| sample.resident).collect();
            resident.sort_unstable();
            resident.get(resident.len() / 2).copied()
        };
        let quarter = samples.len() / 4;
        let second = median(samples.get(quarter..2 * quarter)?)?;
        let last = median(samples.get(samples.len() - quarter..)?)?;
        Some(Self {
            min: samples.iter().map(|sample| sample.resident).min()?,
            median: median(samples)?,
            max: samples.iter().map(|sample| sample.resident).max()?,
            second_quarter_median: second,
            last_quarter_median: last,
            is_flat: last as f64 <= second as f64 * FLAT_RATIO + FLAT_SLACK as f64,
        })
    }
}

/// What a soak was asked to be.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// Of the source tree when it began.
    pub(crate) commit: String,
    pub(crate) seed: u64,
    pub(crate) threads: usize,
}

impl Report {
    /// Of a stage on which all is over. `counts` are those of its queues, by name.
    pub(crate) fn new(
        stage: &Stage,
        terms: Terms,
        totals: Totals,
        counts: &[(String, Counts)],
        samples: &[Sample],
        mut broken: Vec<String>,
    ) -> Self {
        let resident = Resident::of(samples);
        if let Some(resident) = &resident
            && !resident.is_flat
        {
            broken.push(format!("memory is not flat: {resident:?}"));
        }
        let seconds = samples.last().map_or(0, |sample| sample.second);
        let load = |count: &std::sync::atomic::AtomicU64| count.load(std::sync::atomic::Ordering::Relaxed);
        let events = &stage.events;
        Self {
            verdict: if broken.is_empty() { "verified" } else { "BROKEN" },
            broken,
            machine: Machine::detect(),
            commit: terms.commit,
            stalls: cfg!(stalls),
            seed: terms.seed,
            threads: terms.threads,
            minutes: (seconds as f64 / 6.0).round() / 10.0,
            messages: totals.accepted,
            deliveries: totals.leases,
            messages_per_second: totals.accepted / seconds.max(1),
            purged_queue_messages: load(&stage.side_accepted),
            events: serde_json::json!({
                "sends_refused_for_memory": load(&events.refused),
                "sends_refused_for_ids": load(&events.ids_full),
                "leases_found_over": load(&events.expired),
                "leases_extended": load(&events.extended),
                "threads_parked_with_leases": load(&events.parked),
                "threads_parked_in_a_turn": load(&events.parked_in_turn),
                "threads_died_and_replaced": load(&events.died),
                "waits": load(&events.waited),
                "waits_cancelled": load(&events.cancelled),
                "purges": load(&events.purges),
            }),
            queues: counts
                .iter()
                .map(|(name, counts)| QueueSheet {
                    name: name.clone(),
                    sent: counts.sent,
                    received: counts.received,
                    deleted: counts.deleted,
                    expired: counts.expired,
                    released: counts.released,
                    moved_out: counts.moved_out,
                    moved_in: counts.moved_in,
                    purged: counts.purged,
                    left: counts.visible + counts.in_flight + counts.delayed,
                })
                .collect(),
            resident,
            samples: samples.iter().step_by(10).copied().collect(),
        }
    }

    pub(crate) fn is_verified(&self) -> bool {
        self.broken.is_empty()
    }

    /// Writes `soak.json` and `soak.md` to a directory.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory).context("no directory for the report")?;
        fs::write(
            directory.join("soak.json"),
            serde_json::to_string_pretty(self)? + "\n",
        )?;
        fs::write(directory.join("soak.md"), self.text())?;
        Ok(())
    }

    /// The sheet, to be read.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from(
            "# Soak\n\nWritten by `cargo xtask soak`; a sample of every tenth second is in [soak.json](soak.json).\n\n",
        );
        let mut row = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {name} | {value} |");
        };
        row("", String::new());
        row("---", "---".to_owned());
        row("verdict", self.verdict.to_owned());
        for broken in &self.broken {
            row("broken", broken.replace('|', "/"));
        }
        row("machine", self.machine.line());
        row("build", self.machine.build_line());
        row("commit", self.commit.clone());
        row(
            "stalls between atomic steps",
            if self.stalls { "yes" } else { "no" }.to_owned(),
        );
        row("seed", self.seed.to_string());
        row("threads", self.threads.to_string());
        row("minutes", format!("{:.1}", self.minutes));
        row("messages, each followed to its end", grouped(self.messages));
        row("deliveries, each judged", grouped(self.deliveries));
        row("messages a second", grouped(self.messages_per_second));
        row(
            "messages of the queue that is purged",
            grouped(self.purged_queue_messages),
        );
        if let Some(resident) = &self.resident {
            let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
            let (min, median, max) = (mib(resident.min), mib(resident.median), mib(resident.max));
            row(
                "resident memory: least / median / most",
                format!("{min} / {median} / {max}"),
            );
            row(
                "median of the second / the last quarter",
                format!(
                    "{} / {} ({})",
                    mib(resident.second_quarter_median),
                    mib(resident.last_quarter_median),
                    if resident.is_flat { "flat" } else { "NOT flat" }
                ),
            );
        }
        if let Some(events) = self.events.as_object() {
            for (name, count) in events {
                row(&name.replace('_', " "), grouped(count.as_u64().unwrap_or(0)));
            }
        }
        text.push_str("\n| Queue | sent | received | deleted | expired | released | moved out | moved in | purged | left |\n");
        text.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
        for queue in &self.queues {
            let counts = [
                queue.sent,
                queue.received,
                queue.deleted,
                queue.expired,
                queue.released,
                queue.moved_out,
                queue.moved_in,
                queue.purged,
                queue.left,
            ];
            let counts = counts.map(grouped).join(" | ");
            let _ = writeln!(text, "| {} | {counts} |", queue.name);
        }
        text
    }
}

/// A number in groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(resident: impl Iterator<Item = u64>) -> Vec<Sample> {
        resident
            .enumerate()
            .map(|(second, resident)| Sample {
                second: second as u64,
                resident,
                used: 0,
                limbo: 0,
                leases: 0,
                visible: 0,
                in_flight: 0,
                delayed: 0,
            })
            .collect()
    }

    #[test]
    fn memory_that_grows_is_not_flat() {
        let flat = Resident::of(&samples((0..100).map(|second| (100 << 20) + second % 7))).unwrap();
        assert!(flat.is_flat, "{flat:?}");
        let growing =
            Resident::of(&samples((0..100).map(|second| (100 << 20) + second * (1 << 20)))).unwrap();
        assert!(!growing.is_flat, "{growing:?}");
        assert!(Resident::of(&[]).is_none());
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
