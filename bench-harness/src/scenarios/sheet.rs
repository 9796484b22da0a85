//! What a scenario has to say, as JSON and as text.

use std::time::Duration;

use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Map, Value, json};

use super::{desk::Books, surroundings::Surroundings};
pub use crate::aim::Aim;
use crate::{
    aim::Met, check::Findings, environment::Machine, latency::Latency, page::words, progress::human,
    ratio::Ratio, suite::results,
};

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
    /// How much; of several passes, the median.
    pub value: f64,
    /// Of what.
    pub unit: Unit,
    /// The passes, where it is of several that were made in turn.
    pub passes: Option<Ratio>,
    /// What it should be.
    pub aim: Option<Aim>,
    /// Whether the short table of all scenarios has it.
    pub in_short: bool,
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
    /// What else went on.
    pub surroundings: Surroundings,
}

impl Sheet {
    /// Nothing was found wrong.
    pub fn verified(&self) -> bool {
        self.findings.is_empty()
    }

    /// Adds a figure that was found once: a count, or what cannot be otherwise.
    pub fn figure(&mut self, name: impl Into<String>, value: f64, unit: Unit) -> &mut Figure {
        self.push(name.into(), value, unit, None)
    }

    /// Adds a figure of passes in the order they were made. A ratio of them is stated, and an aim judged, by where the passes say it lies.
    pub fn figure_of(&mut self, name: impl Into<String>, each: Vec<f64>, unit: Unit) -> &mut Figure {
        let name = name.into();
        let passes = Ratio::new(name.clone(), each);
        self.push(name, passes.median, unit, Some(passes))
    }

    fn push(&mut self, name: String, value: f64, unit: Unit, passes: Option<Ratio>) -> &mut Figure {
        self.figures.push(Figure {
            name,
            value,
            unit,
            passes,
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
            .map(|figure| (key(&figure.name), figure.to_json()))
            .collect();
        let spreads: Map<String, Value> = self
            .spreads
            .iter()
            .map(|spread| {
                let mut value = spread.latency.to_json();
                value["samples"] = spread.latency.samples().into();
                value["aim"] = spread.aim_words().into();
                value["met"] = spread.met().and_then(Met::known).into();
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
            "other_work": self.surroundings.other_work,
            "apart_ns": self.surroundings.apart_ns,
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
                    right(figure.shown()),
                    Cell::new(judged(figure.aim_words(), figure.met())),
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
                row.push(Cell::new(judged(spread.aim_words(), spread.met())));
                table.add_row(row);
            }
            parts.push(table.to_string());
        }
        if let Some(timeline) = &self.timeline {
            parts.push(timeline.to_table().to_string());
        }
        let mut lines: Vec<String> = self.notes.iter().map(|note| format!("· {note}")).collect();
        lines.extend(self.surroundings.describe().map(|words| format!("· {words}")));
        lines.push(format!("· books: {}", words(&self.books)));
        parts.push(lines.join("\n"));
        parts.push(self.verdict().to_owned());
        parts.join("\n")
    }

    /// One line for a scenario that is done.
    pub fn line(&self, scenario: &str) -> String {
        let verdict = if self.verified() { "verified" } else { "FAILED" };
        let first = self.figures.first().map_or(String::new(), |figure| {
            format!("{} {}, ", figure.name, figure.shown())
        });
        format!("{scenario:<46} {first}{verdict}")
    }

    /// Rows of the short table: scenario, figure, measured, aim, met.
    pub fn rows(&self, scenario: &str) -> Vec<[String; 5]> {
        let row = |name: &str, value: String, aim: Option<String>, met: Option<Met>| {
            let met = match met {
                None => "–",
                Some(Met::No) => "**no**",
                Some(met) => met.word(),
            };
            let aim = aim.unwrap_or_else(|| "–".to_owned());
            [scenario.to_owned(), name.to_owned(), value, aim, met.to_owned()]
        };
        let figures = self.figures.iter().filter(|figure| figure.in_short);
        let figures =
            figures.map(|figure| row(&figure.name, figure.shown(), figure.aim_words(), figure.met()));
        let spreads = self.spreads.iter().filter(|spread| spread.in_short);
        let spreads = spreads.map(|spread| {
            row(
                &format!("{}: p50, p99, p99.9", spread.name),
                [0.5, 0.99, 0.999].map(|q| spread.show(q)).join(", "),
                spread.aim_words(),
                spread.met(),
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

    /// The value; of passes with their interval, and where a ratio cannot be stated, why.
    fn shown(&self) -> String {
        let show = |value| self.unit.show(value);
        let Some(passes) = &self.passes else {
            return show(self.value);
        };
        let stated = match passes.unstated() {
            Some(why) if self.unit == Unit::Ratio => why.to_owned(),
            _ => show(self.value),
        };
        let interval = passes.interval.map_or(String::new(), |(min, max)| {
            let ends = results::Spread {
                median: self.value,
                min,
                max,
            };
            format!(" ({})", words::range(ends, show))
        });
        stated + &interval
    }

    /// `None` without an aim.
    fn met(&self) -> Option<Met> {
        self.aim.map(|aim| match &self.passes {
            Some(passes) => passes.judge(aim),
            None => aim.judge_exact(self.value),
        })
    }

    fn aim_words(&self) -> Option<String> {
        self.aim.map(|aim| aim.words(|limit| self.unit.show(limit)))
    }

    fn to_json(&self) -> Value {
        let met = self.met().and_then(Met::known);
        let mut json = json!({
            "value": self.value, "unit": self.unit.name(), "aim": self.aim_words(), "met": met,
        });
        if let Some(passes) = &self.passes {
            json["each"] = json!(passes.each);
            json["min"] = passes.min.into();
            json["max"] = passes.max.into();
            json["interval_95"] = json!(passes.interval);
            if self.unit == Unit::Ratio {
                json["meaningful"] = passes.is_meaningful().into();
            }
        }
        json
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

    fn met(&self) -> Option<Met> {
        let (at, most_ns) = self.aim?;
        let ns = self.latency.quantile_ns(Latency::QUANTILES[at].1)?;
        Some(Aim::AtMost(most_ns as f64).judge_exact(ns as f64))
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

fn judged(aim: Option<String>, met: Option<Met>) -> String {
    match (aim, met) {
        (Some(aim), Some(Met::Yes)) => format!("{aim}: met"),
        (Some(aim), Some(Met::No)) => format!("{aim}: NOT MET"),
        (Some(aim), Some(met)) => format!("{aim}: {}", met.word()),
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

    #[test]
    fn members_of_a_scenario_are_documented() {
        let mut sheet = Sheet::default();
        sheet.figure_of("a", vec![1.0, 1.1, 1.2], Unit::Ratio);
        sheet.spread("b", Latency::merge([]));
        sheet.timeline = Some(Timeline::default());
        let json = sheet.to_json("demo", &json!({}), 1, &Machine::detect(), "unknown");
        let readme = include_str!("../../README.md");
        let (_, readme) = readme.split_once("### queue.json").unwrap();
        let members = [
            &json,
            &json["figures"]["a"],
            &json["latency_ns"]["b"],
            &json["timeline"],
        ];
        for name in members
            .into_iter()
            .flat_map(|member| member.as_object().unwrap().keys())
        {
            assert!(readme.contains(&format!("`{name}`")), "{name} is not documented");
        }
    }

    #[test]
    fn figures_of_passes_go_by_their_interval() {
        let mut sheet = Sheet {
            seconds: 1.0,
            ..Sheet::default()
        };
        for (name, each) in [
            ("steady", vec![0.95, 0.96, 0.97]),
            ("at the aim", vec![0.89, 0.91, 0.92]),
            ("wild", vec![0.7, 0.95, 1.4]),
            ("once", vec![2.0]),
        ] {
            sheet.figure_of(name, each, Unit::Ratio).aim(Aim::AtLeast(0.9));
        }
        let each = vec![1e6, 1.5e6, 3e6];
        sheet
            .figure_of("rate", each, Unit::PerSecond)
            .aim(Aim::AtLeast(1e6));
        let rows = sheet.rows("demo");
        let cells: Vec<_> = rows
            .iter()
            .map(|[_, _, value, _, met]| (value.as_str(), met.as_str()))
            .collect();
        assert_eq!(
            cells,
            [
                ("0.960× (0.935–0.985×)", "yes"),
                ("0.910× (0.869–0.945×)", "not clear"),
                ("too noisy (0.412–2.315×)", "not clear"),
                ("one pass: no ratio", "not clear"),
                // Only ratios are refused.
                ("1.50 M/s (415.3 k/s–6.56 M/s)", "not clear"),
            ]
        );
        assert!(sheet.to_text("demo", &json!({})).contains("≥ 0.900×: not clear"));
        let json = sheet.to_json("demo", &json!({}), 1, &Machine::detect(), "unknown");
        let wild = &json["figures"]["wild"];
        assert_eq!(wild["each"], json!([0.7, 0.95, 1.4]));
        assert_eq!((&wild["meaningful"], &wild["met"]), (&json!(false), &Value::Null));
        assert_eq!(json["figures"]["steady"]["met"], true);
        assert_eq!(json["figures"]["once"]["interval_95"], Value::Null);
        assert_eq!(json["figures"]["rate"]["meaningful"], Value::Null);
    }
}
