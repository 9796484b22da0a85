//! What a curve varies, and the values it takes.

use serde::{Deserialize, Serialize};

use crate::{environment, plan::Wishes, scenarios::THREADS_MAX};

/// The setting that a curve varies; all others stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vary {
    /// Threads, from one to more than there are cores.
    Threads,
    /// Producers to consumers, as `1:2`.
    Ratio,
    /// Messages per call.
    Batch,
    /// Life cycles in one turn.
    Turn,
    /// Bytes per body.
    Body,
    /// Messages queued before the clock starts.
    Backlog,
    /// Messages in flight before the clock starts.
    InFlight,
    /// Of a hundred messages, how many one core sends.
    Share,
    /// Queues that each thread goes round.
    Queues,
    /// Message groups of a FIFO queue.
    Groups,
    /// Arrivals, in percent of what the target can take.
    Load,
    /// Time: what a long run keeps in memory.
    Time,
}

/// How an axis is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// Equal distances, equal differences.
    Linear,
    /// Equal distances, equal ratios; a 0 is drawn apart.
    Log,
    /// Values beside each other.
    Category,
}

/// A value of a setting as it is written in a sweep: a number, or words like `10M`, `256KiB`, `1:4`, `cores`, `2*cores`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Written {
    /// `10`
    Number(f64),
    /// `"10M"`
    Words(String),
}

/// A value of a setting, understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// All but ratios.
    Number(f64),
    /// Producers and consumers.
    Ratio(usize, usize),
}

impl Vary {
    /// All of them, in the order of a report.
    pub const ALL: [Self; 12] = [
        Self::Threads,
        Self::Ratio,
        Self::Batch,
        Self::Turn,
        Self::Body,
        Self::Backlog,
        Self::InFlight,
        Self::Share,
        Self::Queues,
        Self::Groups,
        Self::Load,
        Self::Time,
    ];

    /// The name in a sweep and in results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Ratio => "ratio",
            Self::Batch => "batch",
            Self::Turn => "turn",
            Self::Body => "body",
            Self::Backlog => "backlog",
            Self::InFlight => "in-flight",
            Self::Share => "share",
            Self::Queues => "queues",
            Self::Groups => "groups",
            Self::Load => "load",
            Self::Time => "time",
        }
    }

    /// What stands under the axis.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Ratio => "producers : consumers",
            Self::Batch => "messages per call",
            Self::Turn => "life cycles per turn",
            Self::Body => "body size",
            Self::Backlog => "messages queued",
            Self::InFlight => "messages in flight",
            Self::Share => "share of messages sent on one core (%)",
            Self::Queues => "queues",
            Self::Groups => "message groups",
            Self::Load => "arrivals, % of capacity",
            Self::Time => "time (s)",
        }
    }

    /// How the axis is drawn.
    pub const fn scale(self) -> Scale {
        match self {
            Self::Ratio => Scale::Category,
            Self::Batch | Self::Share | Self::Load | Self::Time => Scale::Linear,
            _ => Scale::Log,
        }
    }

    /// What is measured where nothing is said.
    pub fn default_values(self) -> Vec<Value> {
        let cores = environment::cores();
        let numbers = |numbers: &[f64]| numbers.iter().copied().map(Value::Number).collect();
        match self {
            Self::Threads => thread_counts(cores)
                .into_iter()
                .map(|count| Value::Number(count as f64))
                .collect(),
            Self::Ratio => {
                let half = (cores / 2).max(1);
                let mut ratios = vec![(1, 1), (1, 2), (1, 4), (2, 1), (4, 1), (2, 2)];
                if half > 2 {
                    let (half, others) = (half.min(THREADS_MAX), (cores - 1).min(THREADS_MAX));
                    ratios.extend([(half, half), (1, others), (others, 1)]);
                }
                ratios
                    .into_iter()
                    .map(|(producers, consumers)| Value::Ratio(producers, consumers))
                    .collect()
            }
            Self::Batch => numbers(&[1.0, 2.0, 3.0, 5.0, 10.0]),
            Self::Turn => numbers(&[1.0, 4.0, 16.0, 64.0, 256.0]),
            Self::Body => numbers(&[16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0]),
            Self::Backlog => numbers(&[0.0, 1e3, 1e4, 1e5, 1e6, 1e7]),
            Self::InFlight => numbers(&[0.0, 1e3, 1e4, 1e5, 1e6]),
            Self::Share => {
                let even = 100.0 / cores.max(2) as f64;
                let steps = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
                steps
                    .iter()
                    .map(|step| Value::Number((even + step * (100.0 - even)).round()))
                    .collect()
            }
            Self::Queues => numbers(&[1.0, 10.0, 100.0, 1000.0, 10_000.0]),
            Self::Groups => numbers(&[1.0, 10.0, 100.0, 1e3, 1e4, 1e5]),
            Self::Load => numbers(&[10.0, 25.0, 50.0, 75.0, 90.0, 95.0]),
            Self::Time => numbers(&[10.0]),
        }
    }

    /// Understands a value; the error is for the user.
    pub fn understand(self, written: &Written) -> Result<Value, String> {
        let wrong = |text: &str| format!("{text:?} is no value of {}", self.name());
        let text = match written {
            Written::Number(number) if self != Self::Ratio => return self.checked(*number),
            Written::Number(number) => return Err(wrong(&number.to_string())),
            Written::Words(text) => text.trim(),
        };
        if self == Self::Ratio {
            let (producers, consumers) = text.split_once(':').ok_or_else(|| wrong(text))?;
            let part = |part: &str| {
                quantity(part).filter(|&n| (1.0..=THREADS_MAX as f64).contains(&n) && n.fract() == 0.0)
            };
            return match (part(producers), part(consumers)) {
                (Some(producers), Some(consumers)) => {
                    Ok(Value::Ratio(producers as usize, consumers as usize))
                }
                _ => Err(wrong(text)),
            };
        }
        self.checked(quantity(text).ok_or_else(|| wrong(text))?)
    }

    fn checked(self, number: f64) -> Result<Value, String> {
        let (least, most, whole) = match self {
            Self::Ratio => return Err("a ratio is written as \"1:2\"".into()),
            Self::Threads => (1.0, THREADS_MAX as f64, true),
            Self::Batch => (1.0, 10.0, true),
            Self::Turn => (1.0, 100_000.0, true),
            Self::Body => (1.0, f64::from(1 << 20), true),
            Self::Backlog | Self::InFlight => (0.0, 1e9, true),
            Self::Share => (0.0, 100.0, false),
            Self::Queues => (1.0, 100_000.0, true),
            Self::Groups => (1.0, 1e7, true),
            Self::Load => (0.1, 150.0, false),
            Self::Time => (0.001, 86_400.0, false),
        };
        if number.is_finite() && (least..=most).contains(&number) && (!whole || number.fract() == 0.0) {
            Ok(Value::Number(number))
        } else {
            Err(format!(
                "{number} is no value of {}: {least} to {most}{}",
                self.name(),
                if whole { ", whole" } else { "" }
            ))
        }
    }

    /// Sets it; what a plan does not know (groups, loads) is left to the measurer.
    pub fn apply(self, value: &Value, wishes: &mut Wishes) {
        match (self, value) {
            (Self::Ratio, &Value::Ratio(producers, consumers)) => {
                wishes.threads = None;
                wishes.producers = Some(producers);
                wishes.consumers = Some(consumers);
            }
            (Self::Threads, &Value::Number(n)) => wishes.threads = Some(n as usize),
            (Self::Batch, &Value::Number(n)) => wishes.batch = Some(n as usize),
            (Self::Turn, &Value::Number(n)) => wishes.turn = Some(n as usize),
            (Self::Body, &Value::Number(n)) => wishes.body_bytes = Some(n as usize),
            (Self::Backlog, &Value::Number(n)) => wishes.backlog = Some(n as u64),
            (Self::InFlight, &Value::Number(n)) => wishes.in_flight = Some(n as u64),
            (Self::Share, &Value::Number(n)) => wishes.share = Some(n),
            (Self::Queues, &Value::Number(n)) => wishes.queues = Some(n as usize),
            (Self::Time, &Value::Number(n)) => wishes.seconds = Some(n),
            (Self::Groups | Self::Load, _) | (_, Value::Ratio(..)) | (Self::Ratio, _) => {}
        }
    }
}

impl Value {
    /// Where it is on the axis; a ratio by its producers' part.
    pub fn position(&self) -> f64 {
        match *self {
            Self::Number(number) => number,
            Self::Ratio(producers, consumers) => producers as f64 / (producers + consumers) as f64,
        }
    }

    /// In a few words, with the unit of its setting.
    pub fn words(&self, vary: Vary) -> String {
        match *self {
            Self::Ratio(producers, consumers) => format!("{producers}:{consumers}"),
            Self::Number(number) => match vary {
                Vary::Body => bytes(number),
                Vary::Share | Vary::Load => format!("{number} %"),
                Vary::Time => format!("{number} s"),
                _ => many(number),
            },
        }
    }
}

/// Every count up to eight cores, then by ever larger steps; and some more threads than cores, as far as may be asked for.
fn thread_counts(cores: usize) -> Vec<usize> {
    let mut counts: Vec<usize> = (1..=cores.min(8)).collect();
    let mut next = 12;
    while next < cores {
        counts.push(next);
        next += next / 3;
    }
    counts.extend([cores, cores + cores.div_ceil(2), 2 * cores, 4 * cores]);
    counts.retain(|&count| count <= THREADS_MAX);
    counts.sort_unstable();
    counts.dedup();
    counts
}

/// `10M`, `256KiB`, `2*cores`, `12`.
fn quantity(text: &str) -> Option<f64> {
    let text = text.trim();
    if let Some((times, "cores")) = text.split_once('*').map(|(a, b)| (a.trim(), b.trim())) {
        return Some(times.parse::<f64>().ok()? * environment::cores() as f64);
    }
    if text == "cores" {
        return Some(environment::cores() as f64);
    }
    let digits = text
        .find(|letter: char| letter.is_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.trim().replace('_', "").parse().ok()?;
    let times = match unit {
        "" | "B" | "s" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "KiB" => 1024.0,
        "MiB" => f64::from(1 << 20),
        "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Some(number * times)
}

/// `16 B`, `256 KiB`.
pub fn bytes(number: f64) -> String {
    let (value, unit) = match number {
        n if n >= 1024.0 * 1024.0 * 1024.0 => (n / 1024.0 / 1024.0 / 1024.0, "GiB"),
        n if n >= 1024.0 * 1024.0 => (n / 1024.0 / 1024.0, "MiB"),
        n if n >= 1024.0 => (n / 1024.0, "KiB"),
        n => (n, "B"),
    };
    format!("{} {unit}", short(value))
}

/// `10 M`, `1.5 k`, `12`.
pub fn many(number: f64) -> String {
    match number.abs() {
        n if n >= 1e9 => format!("{} G", short(number / 1e9)),
        n if n >= 1e6 => format!("{} M", short(number / 1e6)),
        n if n >= 1e3 => format!("{} k", short(number / 1e3)),
        _ => short(number),
    }
}

/// Three digits or so, no trailing zeros.
pub fn short(number: f64) -> String {
    let digits = match number.abs() {
        n if n >= 100.0 || n == n.round() => 0,
        n if n >= 10.0 => 1,
        n if n >= 1.0 || n == 0.0 => 2,
        _ => 3,
    };
    let text = format!("{number:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_understood() {
        let words = |text: &str| Written::Words(text.into());
        let cores = environment::cores() as f64;
        for (vary, written, number) in [
            (Vary::Backlog, words("10M"), 1e7),
            (Vary::Body, words("256KiB"), 262_144.0),
            (Vary::Body, words("16 B"), 16.0),
            (Vary::Threads, words("cores"), cores),
            (Vary::Threads, words("2*cores"), 2.0 * cores),
            (Vary::Time, words("2min"), 120.0),
            (Vary::Load, Written::Number(97.5), 97.5),
        ] {
            assert_eq!(
                vary.understand(&written),
                Ok(Value::Number(number)),
                "{written:?}"
            );
        }
        assert_eq!(Vary::Ratio.understand(&words("1:4")), Ok(Value::Ratio(1, 4)));
    }

    #[test]
    fn nonsense_is_refused() {
        let words = |text: &str| Written::Words(text.into());
        for (vary, written) in [
            (Vary::Batch, Written::Number(11.0)),
            (Vary::Threads, Written::Number(1.5)),
            (Vary::Ratio, Written::Number(1.0)),
            (Vary::Ratio, words("1:0")),
            (Vary::Body, words("12 furlongs")),
            (Vary::Share, Written::Number(f64::NAN)),
            (Vary::Load, words("")),
        ] {
            assert!(vary.understand(&written).is_err(), "{vary:?} {written:?}");
        }
    }

    #[test]
    fn every_default_is_a_value() {
        for vary in Vary::ALL {
            for value in vary.default_values() {
                let written = Written::Words(value.words(vary).replace([' ', '%'], ""));
                assert_eq!(vary.understand(&written), Ok(value), "{vary:?} {written:?}");
            }
        }
    }

    #[test]
    fn threads_fit_the_machine_and_the_command_line() {
        assert_eq!(thread_counts(2), [1, 2, 3, 4, 8]);
        for cores in [1, 3, 16, 64, 192, 256, 500, 2000] {
            for count in thread_counts(cores) {
                let written = Written::Number(count as f64);
                assert!(Vary::Threads.understand(&written).is_ok(), "{cores}: {count}");
            }
        }
        assert!(thread_counts(192).contains(&768));
    }

    #[test]
    fn numbers_in_few_words() {
        assert_eq!(
            (many(1e7), many(1500.0), many(12.0)),
            ("10 M".into(), "1.5 k".into(), "12".into())
        );
        assert_eq!((bytes(16.0), bytes(262_144.0)), ("16 B".into(), "256 KiB".into()));
        assert_eq!(
            (short(0.123_4), short(12.34), short(123.4), short(2.0)),
            ("0.123".into(), "12.3".into(), "123".into(), "2".into())
        );
    }
}
