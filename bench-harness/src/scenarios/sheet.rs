//! What a scenario has to say, as JSON and as text.

use std::time::Duration;

use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Map, Value, json};

use super::desk::Books;
use crate::{check::Findings, environment::Machine, latency::Latency, progress::human};

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// A number with a fraction.
    Number,
    /// Things each second.
    PerSecond,
    /// One figure over another.
    Ratio,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

/// One figure.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What it is; in JSON its words are joined by underscores.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: Unit,
    /// What it should be.
    pub aim: Option<Aim>,
    /// Whether the short table of all scenarios has it.
    pub in_short: bool,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// No more than this.
    AtMost(f64),
    /// Less than this.
    Below(f64),
    /// No less than this.
    AtLeast(f64),
}

/// How something is spread.
#[derive(Clone, Debug)]
pub struct Spread {
    /// What it is.
    pub name: String,
    /// Samples in nanoseconds.
    pub latency: Latency,
    /// What one of [`Latency::QUANTILES`] should be at most, in nanoseconds.
    pub aim: Option<(usize, u64)>,
    /// Whether the short table of all scenarios has it.
    pub in_short: bool,
}

/// How figures went over time.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// The first is milliseconds.
    pub columns: Vec<&'static str>,
    /// One for each reading; what the ledger does not tell is `None`.
    pub rows: Vec<Vec<Option<f64>>>,
}

/// What one performance of a scenario came to.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    /// Messages that went through the part that is measured.
    pub messages: u64,
    /// How long that took.
    pub seconds: f64,
    /// In the order they are shown.
    pub figures: Vec<Figure>,
    /// In the order they are shown.
    pub spreads: Vec<Spread>,
    /// If it has one.
    pub timeline: Option<Timeline>,
    /// What happened to the messages, by cause; all rounds together.
    pub books: Value,
    /// What is wrong; nothing, if all is well.
    pub findings: Findings,
    /// What a reader has to know.
    pub notes: Vec<String>,
}

impl Sheet {
    /// Nothing was found wrong.
    pub fn verified(&self) -> bool {
        self.findings.is_empty()
    }

    /// Adds a figure.
    pub fn figure(&mut self, name: impl Into<String>, value: f64, unit: Unit) -> &mut Figure {
        self.figures.push(Figure {
            name: name.into(),
            value,
            unit,
            aim: None,
            in_short: false,
        });
        self.figures.last_mut().expect("it was just added")
    }

    /// Adds a spread.
    pub fn spread(&mut self, name: impl Into<String>, latency: Latency) -> &mut Spread {
        self.spreads.push(Spread {
            name: name.into(),
            latency,
            aim: None,
            in_short: false,
        });
        self.spreads.last_mut().expect("it was just added")
    }

    /// Takes in settled books.
    pub fn settle(&mut self, books: Books) {
        add(&mut self.books, &books.json.into());
        self.findings.merge(books.findings);
    }

    /// The value of a figure, by its name.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.figures
            .iter()
            .find(|figure| figure.name == name)
            .map(|figure| figure.value)
    }

    /// One JSON object, with the members that every run has.
    pub fn to_json(
        &self,
        scenario: &str,
        settings: &Value,
        seed: u64,
        machine: &Machine,
        commit: &str,
    ) -> Value {
        let figures: Map<String, Value> = self
            .figures
            .iter()
            .map(|figure| {
                let value = json!({
                    "value": figure.value, "unit": figure.unit.name(), "aim": figure.aim_words(), "met": figure.is_met(),
                });
                (key(&figure.name), value)
            })
            .collect();
        let spreads: Map<String, Value> = self
            .spreads
            .iter()
            .map(|spread| {
                let mut value = spread.latency.to_json();
                value["samples"] = spread.latency.samples().into();
                value["aim"] = spread.aim_words().into();
                value["met"] = spread.is_met().into();
                (key(&spread.name), value)
            })
            .collect();
        json!({
            "scenario": scenario,
            "target": "epoq",
            "settings": settings,
            "messages": self.messages,
            "seconds": self.seconds,
            "messages_per_second": self.messages as f64 / self.seconds,
            "verified": self.verified(),
            "figures": figures,
            "latency_ns": spreads,
            "timeline": self.timeline.as_ref().map(|timeline| json!({"columns": timeline.columns, "rows": timeline.rows})),
            "books": self.books,
            "findings": self.findings.lines(),
            "notes": self.notes,
            "machine": machine,
            "commit": commit,
            "seed": seed,
        })
    }

    /// Tables and lines for people.
    pub fn to_text(&self, scenario: &str, settings: &Value) -> String {
        let mut parts = vec![format!("{scenario}  {}", words(settings))];
        if !self.figures.is_empty() {
            let mut table = table(&["figure", "value", "aim"]);
            for figure in &self.figures {
                table.add_row([
                    Cell::new(&figure.name),
                    right(figure.unit.show(figure.value)),
                    Cell::new(judged(figure.aim_words(), figure.is_met())),
                ]);
            }
            parts.push(table.to_string());
        }
        if !self.spreads.is_empty() {
            let mut table = table(&["spread", "samples", "p50", "p90", "p99", "p99.9", "max", "aim"]);
            for spread in &self.spreads {
                let mut row = vec![
                    Cell::new(&spread.name),
                    right(spread.latency.samples().to_string()),
                ];
                let quantiles = Latency::QUANTILES[..4]
                    .iter()
                    .map(|&(_, quantile)| spread.latency.quantile_ns(quantile));
                row.extend(
                    quantiles
                        .chain([spread.latency.max_ns()])
                        .map(|ns| right(ns.map_or("–".to_owned(), |ns| human(Duration::from_nanos(ns))))),
                );
                row.push(Cell::new(judged(spread.aim_words(), spread.is_met())));
                table.add_row(row);
            }
            parts.push(table.to_string());
        }
        if let Some(timeline) = &self.timeline {
            parts.push(timeline.to_table().to_string());
        }
        let mut lines: Vec<String> = self.notes.iter().map(|note| format!("· {note}")).collect();
        lines.push(format!("· books: {}", words(&self.books)));
        parts.push(lines.join("\n"));
        parts.push(self.verdict().to_owned());
        parts.join("\n")
    }

    /// One line for a scenario that is done.
    pub fn line(&self, scenario: &str) -> String {
        let verdict = if self.verified() { "verified" } else { "FAILED" };
        let first = self.figures.first().map_or(String::new(), |figure| {
            format!("{} {}, ", figure.name, figure.unit.show(figure.value))
        });
        format!("{scenario:<46} {first}{verdict}")
    }

    /// Rows of the short table: scenario, figure, measured, aim, met.
    pub fn rows(&self, scenario: &str) -> Vec<[String; 5]> {
        let row = |name: &str, value: String, aim: Option<String>, met: Option<bool>| {
            let met = met.map_or("–", |met| if met { "yes" } else { "**no**" });
            let aim = aim.unwrap_or_else(|| "–".to_owned());
            [scenario.to_owned(), name.to_owned(), value, aim, met.to_owned()]
        };
        let figures = self.figures.iter().filter(|figure| figure.in_short);
        let figures = figures.map(|figure| {
            let value = figure.unit.show(figure.value);
            row(&figure.name, value, figure.aim_words(), figure.is_met())
        });
        let spreads = self.spreads.iter().filter(|spread| spread.in_short);
        let spreads = spreads.map(|spread| {
            row(
                &format!("{}: p50, p99, p99.9", spread.name),
                [0.5, 0.99, 0.999].map(|q| spread.show(q)).join(", "),
                spread.aim_words(),
                spread.is_met(),
            )
        });
        figures.chain(spreads).collect()
    }

    fn verdict(&self) -> &'static str {
        if self.verified() {
            "· verified: every message sent was received when it was due, under one lease at a time, and deleted exactly once"
        } else {
            "· FAILED"
        }
    }
}

impl Figure {
    /// What it should be; the short table has it.
    pub fn aim(&mut self, aim: Aim) -> &mut Self {
        self.aim = Some(aim);
        self.in_short()
    }

    /// The short table has it.
    pub fn in_short(&mut self) -> &mut Self {
        self.in_short = true;
        self
    }

    fn is_met(&self) -> Option<bool> {
        self.aim.map(|aim| match aim {
            Aim::AtMost(limit) => self.value <= limit,
            Aim::Below(limit) => self.value < limit,
            Aim::AtLeast(limit) => self.value >= limit,
        })
    }

    fn aim_words(&self) -> Option<String> {
        self.aim.map(|aim| match aim {
            Aim::AtMost(limit) => format!("≤ {}", self.unit.show(limit)),
            Aim::Below(limit) => format!("< {}", self.unit.show(limit)),
            Aim::AtLeast(limit) => format!("≥ {}", self.unit.show(limit)),
        })
    }
}

impl Spread {
    /// What the quantile of that name in [`Latency::QUANTILES`] should be at most; the short table has it.
    pub fn at_most(&mut self, quantile: &str, most: Duration) -> &mut Self {
        let at = Latency::QUANTILES.iter().position(|(name, _)| *name == quantile);
        self.aim = at.map(|at| (at, most.as_nanos() as u64));
        self.in_short()
    }

    /// The short table has it.
    pub fn in_short(&mut self) -> &mut Self {
        self.in_short = true;
        self
    }

    fn show(&self, quantile: f64) -> String {
        let ns = self.latency.quantile_ns(quantile);
        ns.map_or("–".to_owned(), |ns| human(Duration::from_nanos(ns)))
    }

    fn is_met(&self) -> Option<bool> {
        let (at, most_ns) = self.aim?;
        let ns = self.latency.quantile_ns(Latency::QUANTILES[at].1)?;
        Some(ns <= most_ns)
    }

    fn aim_words(&self) -> Option<String> {
        self.aim.map(|(at, most_ns)| {
            let most = human(Duration::from_nanos(most_ns));
            format!("{} ≤ {most}", Latency::QUANTILES[at].0)
        })
    }
}

impl Timeline {
    /// Readings that are shown; JSON has them all.
    const SHOWN: usize = 24;

    fn to_table(&self) -> Table {
        let mut table = table(&self.columns);
        let step = self.rows.len().div_ceil(Self::SHOWN).max(1);
        for row in self.rows.iter().step_by(step) {
            table.add_row(
                row.iter()
                    .map(|value| right(value.map_or("–".to_owned(), |value| format!("{value:.0}")))),
            );
        }
        table
    }
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::Count | Self::Number => "",
            Self::PerSecond => "1/s",
            Self::Ratio => "ratio",
            Self::Bytes => "B",
            Self::Seconds => "s",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Count => format!("{value:.0}"),
            Self::Number => format!("{value:.2}"),
            Self::PerSecond if value >= 1e6 => format!("{:.2} M/s", value / 1e6),
            Self::PerSecond if value >= 1e4 => format!("{:.1} k/s", value / 1e3),
            Self::PerSecond => format!("{value:.0} /s"),
            Self::Ratio => format!("{value:.3}×"),
            Self::Bytes if value >= 1e7 => format!("{:.1} MiB", value / f64::from(1 << 20)),
            Self::Bytes => format!("{value:.0} B"),
            Self::Seconds => human(Duration::from_secs_f64(value.max(0.0))),
        }
    }
}

/// `bytes per survivor` as `bytes_per_survivor`.
fn key(name: &str) -> String {
    name.replace([' ', ','], "_").replace("__", "_")
}

/// Adds up the numbers of two objects of the same kind.
fn add(sum: &mut Value, more: &Value) {
    match (sum, more) {
        (Value::Object(sum), Value::Object(more)) => {
            for (name, value) in more {
                add(sum.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (sum @ Value::Null, more) => *sum = more.clone(),
        (sum, more) => {
            if let (Some(a), Some(b)) = (sum.as_u64(), more.as_u64()) {
                *sum = (a + b).into();
            }
        }
    }
}

/// The members of an object in a row: `a 1, b 2`.
fn words(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let words: Vec<_> = map
                .iter()
                .filter(|(_, value)| **value != json!(0) && !value.is_null())
                .map(|(name, value)| match value {
                    Value::Object(_) => format!("{name}: ({})", words(value)),
                    value => format!("{} {}", name.replace('_', " "), words(value)),
                })
                .collect();
            words.join(", ")
        }
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

fn judged(aim: Option<String>, met: Option<bool>) -> String {
    match (aim, met) {
        (Some(aim), Some(true)) => format!("{aim}: met"),
        (Some(aim), Some(false)) => format!("{aim}: NOT MET"),
        (aim, _) => aim.unwrap_or_default(),
    }
}

/// What [`Sheet::rows`] has of all scenarios, as Markdown, so that it can stand in a document as it is.
pub fn short_table(rows: Vec<[String; 5]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["scenario", "figure", "measured", "aim", "met"]);
    rows.into_iter().for_each(|row| {
        table.add_row(row);
    });
    table.to_string()
}

fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
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

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Wrong;

    #[test]
    fn a_sheet_shows_what_it_has() {
        let mut sheet = Sheet {
            messages: 10,
            seconds: 2.0,
            notes: vec!["a note".into()],
            ..Sheet::default()
        };
        sheet
            .figure("bytes each", 12.0, Unit::Bytes)
            .aim(Aim::Below(16.0));
        sheet
            .figure("bytes at most", 17.0, Unit::Bytes)
            .aim(Aim::AtMost(16.0));
        sheet.spread("lateness", Latency::merge([])).in_short();
        sheet.timeline = Some(Timeline {
            columns: vec!["ms", "width"],
            rows: vec![vec![Some(1.0), None]],
        });
        let settings = json!({"messages": 10});
        let text = sheet.to_text("demo", &settings);
        for words in [
            "demo",
            "messages 10",
            "bytes each",
            "12 B",
            "< 16 B: met",
            "≤ 16 B: NOT MET",
            "lateness",
            "a note",
            "verified",
        ] {
            assert!(text.contains(words), "{words}:\n{text}");
        }
        let json = sheet.to_json("demo", &settings, 1, &Machine::detect(), "unknown");
        assert_eq!(json["figures"]["bytes_each"]["value"], 12.0);
        assert_eq!(json["figures"]["bytes_each"]["met"], true);
        assert_eq!(json["figures"]["bytes_at_most"]["met"], false);
        assert_eq!(json["latency_ns"]["lateness"]["met"], Value::Null);
        let short = short_table(sheet.rows("demo"));
        assert!(
            short.starts_with("| scenario") && short.contains("**no**"),
            "{short}"
        );
        assert_eq!(json["messages_per_second"], 5.0);
        assert_eq!(json["verified"], true);
        sheet.findings.add(Wrong::Lost, "0:1");
        assert!(sheet.to_text("demo", &settings).contains("FAILED"));
    }
}
