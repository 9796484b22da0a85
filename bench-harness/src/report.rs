//! Reports: tables for people, JSON for programs, both from the same figures.

use std::time::Duration;

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    compare::{Outcome, Ratio, Series, title},
    counters,
    environment::{self, Machine},
    latency::Latency,
    noise::Noise,
    overhead,
    plan::Plan,
    progress::human,
    run::Pass,
    scenario::Scenario,
    suite::results::Spread,
    targets::TargetName,
    workload::Integrity,
};

/// The number of the schema of what comparisons, standard runs and the ledger's own scenarios write as JSON, which is documented in the
/// README of this package.
pub const SCHEMA: u32 = 1;

/// What is written beside targets without leases.
pub const HAND_OVER_ONLY: &str = "hand-over only, no lease";

/// One target's figures: the pass in the middle, and what all passes have in common.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    scenario: &'static str,
    target: &'static str,
    threads: usize,
    batch: usize,
    body_bytes: usize,
    messages: u64,
    seconds: f64,
    messages_per_second: f64,
    ns_per_message_per_thread: f64,
    verified: bool,
    latency_ns: Value,
    machine: Machine,
    commit: String,
    seed: u64,
    latency_of: &'static str,
    latency_samples: u64,
    harness_overhead_ns: f64,
    clock_overhead_ns: u64,
    leases: bool,
    producers: usize,
    consumers: usize,
    partitions: Option<usize>,
    turn: Option<usize>,
    share: Option<f64>,
    queues: usize,
    rate: Option<f64>,
    backlog: u64,
    in_flight: u64,
    visibility_seconds: f64,
    sent: u64,
    deleted: u64,
    left_when_stopped: u64,
    refused_sends: u64,
    empty_receives: u64,
    withheld: u64,
    returned: u64,
    fill_seconds: f64,
    drain_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_message_beyond_body: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resident_bytes: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_bytes: Option<Value>,
    /// Messages per second of every pass, in order.
    passes_messages_per_second: Vec<f64>,
    /// What else went on, of every pass, in order.
    passes_noise: Vec<Noise>,
    /// Rounds of all targets that were thrown away and made anew, because the cores were moved in them.
    repeated_rounds: usize,
    warm_up_seconds: f64,
    steady_after_warm_up: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    hardware_per_message: Option<Value>,
    findings: Vec<String>,
    notes: Vec<String>,
}

impl RunReport {
    /// The report of one target's passes.
    pub fn new(outcome: &Outcome, series: &Series, machine: &Machine, commit: &str) -> Self {
        let plan = &outcome.plan;
        let pass = series.median_pass();
        let threads = plan.topology.threads();
        let memory_counts =
            matches!(plan.scenario, Scenario::Backlog | Scenario::Flood) && plan.in_flight == 0;
        Self {
            scenario: plan.scenario.name(),
            target: pass.target,
            threads,
            batch: plan.batch,
            body_bytes: plan.body_bytes,
            messages: pass.messages,
            seconds: pass.seconds,
            messages_per_second: pass.messages_per_second(),
            ns_per_message_per_thread: ns_per_message_per_thread(plan, pass),
            verified: series.verified(),
            latency_ns: pass.latency.to_json(),
            machine: machine.clone(),
            commit: commit.to_owned(),
            seed: plan.seed,
            latency_of: pass.measures.describe(),
            latency_samples: pass.latency.samples(),
            harness_overhead_ns: outcome.harness_ns,
            clock_overhead_ns: overhead::clock_cost_ns(),
            leases: pass.leases,
            producers: plan.topology.senders(),
            consumers: plan.topology.receivers(),
            partitions: pass.partitions,
            turn: plan.turn,
            share: plan.share,
            queues: plan.queues,
            rate: plan.rate,
            backlog: plan.backlog,
            in_flight: plan.in_flight,
            visibility_seconds: plan.visibility.as_secs_f64(),
            sent: pass.settlement.sent,
            deleted: pass.settlement.deleted,
            left_when_stopped: pass.drained,
            refused_sends: pass.settlement.refusals,
            empty_receives: pass.empty_receives,
            withheld: pass.settlement.withheld,
            returned: pass.settlement.returned,
            fill_seconds: pass.fill_seconds,
            drain_seconds: pass.drain_seconds,
            bytes_per_message_beyond_body: memory_counts.then(|| bytes_per_message(plan, series)).flatten(),
            resident_bytes: memory_counts.then(|| {
                let resident = series.passes[0].resident;
                json!({"before": resident.before_bytes, "full": resident.full_bytes, "after": resident.after_bytes})
            }),
            target_bytes: pass.target_bytes.map(|(full, after)| json!({"full": full, "after": after})),
            passes_messages_per_second: series.passes.iter().map(Pass::messages_per_second).collect(),
            passes_noise: series.passes.iter().map(|pass| pass.noise).collect(),
            repeated_rounds: outcome.repeated,
            warm_up_seconds: pass.warm_up_seconds,
            steady_after_warm_up: pass.steady,
            hardware_per_message: pass.counts.map(|counts| {
                let each = |count: u64| count as f64 / pass.messages as f64;
                json!({"cycles": each(counts.cycles), "instructions": each(counts.instructions),
                    "cache_misses": each(counts.cache_misses)})
            }),
            findings: series.passes.iter().flat_map(|pass| pass.settlement.findings.lines()).collect(),
            notes: notes(plan, series),
        }
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("a report has no maps with other keys than strings")
    }
}

fn ns_per_message_per_thread(plan: &Plan, pass: &Pass) -> f64 {
    plan.topology.threads() as f64 * pass.seconds * 1e9 / pass.messages as f64
}

/// Of the pass in the middle where allocations were counted, otherwise of the first: later ones may reuse memory that the allocator kept.
fn bytes_per_message(plan: &Plan, series: &Series) -> Option<f64> {
    let bytes = |pass: &Pass| {
        pass.resident
            .bytes_per_message_beyond_body(plan.backlog, plan.body_bytes)
    };
    let first = series.passes.first()?;
    if first.resident.allocated_bytes.is_none() {
        return bytes(first);
    }
    Spread::of(series.passes.iter().filter_map(bytes)).map(|spread| spread.median)
}

/// What a reader has to know besides the figures.
fn notes(plan: &Plan, series: &Series) -> Vec<String> {
    let mut notes = Vec::new();
    let pass = series.median_pass();
    let (threads, cores) = (plan.topology.threads(), environment::cores());
    if threads > cores {
        notes.push(format!(
            "only {cores} cores for {threads} threads: they take turns, which is not what more cores would do"
        ));
    }
    if !pass.leases {
        notes.push(format!("{} is {HAND_OVER_ONLY}", pass.target));
    }
    match Integrity::of(plan.body_bytes) {
        Integrity::Full => {}
        Integrity::ShortTag => {
            notes.push("bodies under 16 bytes: identity is checked, content only by a shortened tag".into())
        }
        Integrity::CountOnly => {
            notes.push("bodies under 8 bytes have no room for an id: messages were counted, double leases could not be seen".into());
        }
    }
    if plan.scenario == Scenario::Steal && pass.partitions == Some(1) {
        notes.push("with one partition there is nothing to steal".into());
    }
    let behind = series
        .passes
        .iter()
        .filter(|pass| pass.kept_schedule == Some(false))
        .count();
    if let Some(rate) = plan.rate
        && behind > 0
    {
        let passes = series.passes.len();
        notes.push(format!(
            "the schedule of {rate:.0}/s was not kept in {behind} of {passes} passes: latency grew as long as they lasted"
        ));
    }
    if pass.settlement.refusals > 0 {
        notes.push(format!("{} sends were refused", pass.settlement.refusals));
    }
    if plan.scenario == Scenario::Redelivery {
        let settlement = &pass.settlement;
        notes.push(format!(
            "{} withheld, {} came back after their lease",
            settlement.withheld, settlement.returned
        ));
        if settlement.expired + settlement.unjudged > 0 {
            notes.push(format!(
                "{} leases ran out while their thread was held up, {} returns could not be timed",
                settlement.expired, settlement.unjudged
            ));
        }
    }
    notes
}

fn ratio_json(ratio: &Ratio) -> Value {
    json!({"median": ratio.median, "min": ratio.min, "max": ratio.max, "each": ratio.each,
        "interval_95": ratio.interval, "meaningful": ratio.is_meaningful()})
}

/// `{"schema", "scenario", "targets", "ratios", "passes", …}`.
pub fn comparison_json(outcome: &Outcome, machine: &Machine, commit: &str) -> Value {
    let report = |series: &Series| {
        (
            series.target.name().to_owned(),
            RunReport::new(outcome, series, machine, commit).to_json(),
        )
    };
    let targets: Map<String, Value> = outcome.series.iter().map(report).collect();
    let ratios: Map<String, Value> = outcome
        .ratios()
        .into_iter()
        .map(|ratio| {
            let mut json = ratio_json(&ratio);
            let placed = outcome.placed(&ratio).into_iter().map(|placed| {
                let mut json = ratio_json(&placed.ratio);
                json["apart_ns"] = json!(placed.apart_ns);
                json
            });
            json["by_distance"] = placed.collect();
            (ratio.name, json)
        })
        .collect();
    let passes = outcome.series.first().map_or(0, |series| series.passes.len());
    json!({
        "schema": SCHEMA,
        "scenario": outcome.plan.scenario.name(),
        "targets": targets,
        "ratios": ratios,
        "passes": passes,
        "verified": outcome.verified(),
        "title": title(&outcome.plan),
    })
}

/// The figures of some outcomes as a table, one row for each target.
pub fn figures_table(outcomes: &[Outcome]) -> Table {
    let mut table = table(&[
        "what",
        "target",
        "M msg/s",
        "ns/msg·thread",
        "harness ns",
        "p50",
        "p99",
        "p99.9",
        "max",
        "check",
    ]);
    for outcome in outcomes {
        for (index, series) in outcome.series.iter().enumerate() {
            let pass = series.median_pass();
            let quantile = |quantile| latency_cell(pass.latency.quantile_ns(quantile));
            table.add_row([
                Cell::new(if index == 0 {
                    title(&outcome.plan)
                } else {
                    String::new()
                }),
                Cell::new(target_words(series.target)),
                right(format!("{:.2}", pass.messages_per_second() / 1e6)),
                right(format!("{:.1}", ns_per_message_per_thread(&outcome.plan, pass))),
                right(format!("{:.1}", outcome.harness_ns)),
                quantile(Latency::QUANTILES[0].1),
                quantile(Latency::QUANTILES[2].1),
                quantile(Latency::QUANTILES[3].1),
                latency_cell(pass.latency.max_ns()),
                verdict(series.verified()),
            ]);
        }
    }
    table
}

/// The ratios of some outcomes as a table. One of fewer than three passes is not stated, nor one whose interval spans more than a factor of
/// [`Ratio::SPREAD_MAX`](crate::compare::Ratio::SPREAD_MAX).
pub fn ratios_table(outcomes: &[Outcome]) -> Table {
    let mut table = table(&[
        "throughput",
        "of",
        "median",
        "95 % interval",
        "min",
        "max",
        "passes",
    ]);
    for outcome in outcomes {
        let mut heading = title(&outcome.plan);
        for (name, ratio) in outcome.ratios().into_iter().flat_map(|ratio| {
            let placed = outcome.placed(&ratio).into_iter().map(|placed| {
                let [near, far] = placed.apart_ns;
                (format!("  cores {near:.0} to {far:.0} ns apart"), placed.ratio)
            });
            let placed: Vec<_> = placed.collect();
            [(ratio.name.clone(), ratio)].into_iter().chain(placed)
        }) {
            table.add_row([
                Cell::new(std::mem::take(&mut heading)),
                Cell::new(name),
                right(
                    ratio
                        .unstated()
                        .map_or_else(|| format!("{:.2}×", ratio.median), str::to_owned),
                )
                .add_attribute(Attribute::Bold),
                right(
                    ratio
                        .interval
                        .map_or("–".to_owned(), |(low, high)| format!("{low:.2} – {high:.2}")),
                ),
                right(format!("{:.2}×", ratio.min)),
                right(format!("{:.2}×", ratio.max)),
                right(ratio.each.len().to_string()),
            ]);
        }
    }
    table
}

/// What the figures of some outcomes have to say about memory, if anything.
pub fn memory_lines(outcomes: &[Outcome]) -> Vec<String> {
    let mut lines = Vec::new();
    for outcome in outcomes
        .iter()
        .filter(|outcome| matches!(outcome.plan.scenario, Scenario::Backlog | Scenario::Flood))
    {
        for series in &outcome.series {
            let Some(bytes) = bytes_per_message(&outcome.plan, series) else {
                continue;
            };
            let resident = series.passes[0].resident;
            let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let mut line = format!(
                "{}: {}: {bytes:.1} bytes {} per queued message beyond its {} bytes; resident {:.0} MiB before, {:.0} full, {:.0} after",
                title(&outcome.plan),
                series.target.name(),
                if resident.allocated_bytes.is_some() {
                    "allocated"
                } else {
                    "resident"
                },
                outcome.plan.body_bytes,
                mebibytes(resident.before_bytes),
                mebibytes(resident.full_bytes),
                mebibytes(resident.after_bytes),
            );
            if let Some((full, after)) = series.passes[0].target_bytes {
                line += &format!(
                    "; by its own count {:.0} MiB when stopped, {:.0} after",
                    mebibytes(full),
                    mebibytes(after)
                );
            }
            lines.push(line);
        }
    }
    lines
}

/// Notes and findings of some outcomes, without repetitions.
pub fn note_lines(outcomes: &[Outcome]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for outcome in outcomes {
        for series in &outcome.series {
            let general = outcome.plan.scenario != Scenario::Redelivery;
            for note in notes(&outcome.plan, series) {
                let line = if general {
                    note
                } else {
                    format!("{}: {}: {note}", title(&outcome.plan), series.target.name())
                };
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
    }
    lines
}

/// What went on besides, and what the hardware counted: one line for each experiment that has something to say.
pub fn circumstance_lines(outcomes: &[Outcome]) -> Vec<String> {
    let mut lines = Vec::new();
    for outcome in outcomes {
        let passes = || outcome.series.iter().flat_map(|series| &series.passes);
        let noise = passes()
            .map(|pass| pass.noise)
            .fold(Noise::default(), Noise::worst);
        if noise.is_loud() {
            lines.push(format!(
                "{}: NOISE: in the worst pass {}",
                title(&outcome.plan),
                noise.describe()
            ));
        }
        if outcome.plan.topology.threads() > 1
            && let Some([near, far]) = noise.apart_ns
        {
            let rounds = outcome.repeated;
            let again = match rounds {
                0 => String::new(),
                1 => "; 1 round in which that changed was made anew".to_owned(),
                _ => format!("; {rounds} rounds in which that changed were made anew"),
            };
            let title = title(&outcome.plan);
            if noise.has_moved() {
                lines.push(format!(
                    "{title}: NOISE: a cache line took {near:.0} ns from core to core and back in some passes and {far:.0} ns in others{again}"
                ));
            } else {
                lines.push(format!(
                    "{title}: a cache line took {near:.0} to {far:.0} ns from core to core and back{again}"
                ));
            }
        }
        let unsteady = passes().filter(|pass| !pass.steady).count();
        if unsteady > 0 && outcome.plan.scenario != Scenario::Flood {
            lines.push(format!(
                "{}: {unsteady} of {} passes had not come to a steady speed when they were measured",
                title(&outcome.plan),
                passes().count()
            ));
        }
        for series in &outcome.series {
            let pass = series.median_pass();
            if let Some(counts) = pass.counts {
                let each = |count: u64| count as f64 / pass.messages as f64;
                lines.push(format!(
                    "{}: {}: {:.0} cycles, {:.0} instructions, {:.2} cache misses per message",
                    title(&outcome.plan),
                    series.target.name(),
                    each(counts.cycles),
                    each(counts.instructions),
                    each(counts.cache_misses)
                ));
            }
        }
    }
    if let Some(why) = counters::missing() {
        lines.push(format!(
            "hardware counters: none here ({why}); cycles and misses are not reported"
        ));
    }
    lines
}

/// What is wrong, by target and pass.
pub fn finding_lines(outcomes: &[Outcome]) -> Vec<String> {
    let mut lines = Vec::new();
    for outcome in outcomes {
        for series in &outcome.series {
            for (number, pass) in series.passes.iter().enumerate() {
                for finding in pass.settlement.findings.lines() {
                    lines.push(format!(
                        "{}, {}, pass {}: {finding}",
                        title(&outcome.plan),
                        series.target.name(),
                        number + 1
                    ));
                }
            }
        }
    }
    lines
}

/// One line for one experiment that is done.
pub fn outcome_line(outcome: &Outcome) -> String {
    let rates: Vec<_> = outcome
        .series
        .iter()
        .map(|series| {
            format!(
                "{} {:.2}",
                series.target.name(),
                series.median_pass().messages_per_second() / 1e6
            )
        })
        .collect();
    let verdict = if outcome.verified() { "verified" } else { "FAILED" };
    format!("{:<46} {} M/s, {verdict}", title(&outcome.plan), rates.join(", "))
}

fn target_words(target: TargetName) -> String {
    if target.leases() {
        target.name().to_owned()
    } else {
        format!("{} ({HAND_OVER_ONLY})", target.name())
    }
}

pub(crate) fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    // On a narrow terminal cells are wrapped; in a file they are not.
    if table.is_tty() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table.set_header(
        heads
            .iter()
            .map(|head| Cell::new(head).add_attribute(Attribute::Bold)),
    );
    table
}

pub(crate) fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn latency_cell(nanoseconds: Option<u64>) -> Cell {
    right(nanoseconds.map_or("–".to_owned(), |ns| human(Duration::from_nanos(ns))))
}

fn verdict(verified: bool) -> Cell {
    if verified {
        Cell::new("verified").fg(Color::Green)
    } else {
        Cell::new("FAILED").fg(Color::Red)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compare::{Experiment, Overheads},
        plan::Wishes,
        progress::Quiet,
    };

    fn outcome(scenario: Scenario, wishes: Wishes, target: TargetName) -> Outcome {
        let plan = Plan::new(
            scenario,
            Wishes {
                seconds: Some(0.02),
                ..wishes
            },
        )
        .unwrap();
        Experiment {
            plan,
            targets: vec![target],
            passes: 1,
        }
        .execute(&mut Overheads::default(), &Quiet)
        .unwrap()
    }

    #[test]
    fn notes_say_what_a_reader_must_know() {
        let wishes = Wishes {
            threads: Some(65),
            body_bytes: Some(4),
            ..Wishes::default()
        };
        let notes = note_lines(&[outcome(Scenario::Lifecycle, wishes, TargetName::SegQueue)]).join("\n");
        for words in ["cores for 65 threads", HAND_OVER_ONLY, "no room for an id"] {
            assert!(notes.contains(words), "{notes}");
        }
    }

    #[test]
    fn a_backlog_reports_its_memory() {
        let wishes = Wishes {
            threads: Some(1),
            backlog: Some(50_000),
            ..Wishes::default()
        };
        let outcome = outcome(Scenario::Backlog, wishes, TargetName::Locked);
        let json = RunReport::new(&outcome, &outcome.series[0], &Machine::detect(), "unknown").to_json();
        assert!(json["bytes_per_message_beyond_body"].is_number(), "{json}");
        assert_eq!(memory_lines(&[outcome]).len(), 1);
    }

    #[test]
    fn members_of_a_comparison_are_documented() {
        let wishes = Wishes {
            threads: Some(1),
            backlog: Some(1000),
            ..Wishes::default()
        };
        let mut outcome = outcome(Scenario::Backlog, wishes, TargetName::Locked);
        outcome.series.extend(outcome.series.clone());
        let json = comparison_json(&outcome, &Machine::detect(), "unknown");
        assert_eq!(json["schema"], SCHEMA);
        let readme = include_str!("../README.md");
        let (_, readme) = readme.split_once("### Comparisons").unwrap();
        let ratios = json["ratios"].as_object().unwrap().values();
        let targets = json["targets"].as_object().unwrap().values();
        let objects = targets.chain(ratios).chain([&json]);
        for name in objects.flat_map(|object| object.as_object().unwrap().keys()) {
            assert!(readme.contains(&format!("`{name}`")), "{name} is not documented");
        }
    }

    #[test]
    fn tables_have_a_row_for_each_target() {
        let outcome = outcome(
            Scenario::Lifecycle,
            Wishes {
                threads: Some(1),
                ..Wishes::default()
            },
            TargetName::Locked,
        );
        let text = figures_table(&[outcome]).to_string();
        assert!(text.contains("locked") && text.contains("verified"), "{text}");
    }
}
