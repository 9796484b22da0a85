//! Figures in words, and tables that HTML and Markdown share.

use crate::{
    compare::Ratio,
    progress::human,
    suite::{
        axis::{many, short},
        results::Spread,
    },
};

/// A table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Over the columns.
    pub heads: Vec<String>,
    /// Each as long as the heads.
    pub rows: Vec<Row>,
}

/// A row.
#[derive(Clone, Debug)]
pub struct Row {
    /// From left to right.
    pub cells: Vec<Cell>,
    /// Of more threads than cores: marked.
    pub is_over: bool,
}

/// A cell.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// What is in it.
    pub text: String,
    /// From which to which.
    pub range: Option<String>,
}

impl Cell {
    /// Without a range.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            range: None,
        }
    }

    /// A figure of passes; a dash where there is none.
    pub fn of(spread: Option<Spread>, words: impl Fn(f64) -> String) -> Self {
        let Some(spread) = spread else {
            return Self::new("–");
        };
        Self {
            text: words(spread.median),
            range: (spread.min < spread.max).then(|| range(spread, words)),
        }
    }

    /// A ratio of passes; where they say nothing, why.
    pub fn of_ratio(over: Option<&Ratio>) -> Self {
        let mut cell = Self::of(over.map(spread_of), ratio);
        if let Some(why) = over.and_then(Ratio::unstated) {
            cell.text = why.into();
        }
        cell
    }
}

/// The passes' range of a ratio.
pub fn spread_of(ratio: &Ratio) -> Spread {
    Spread {
        median: ratio.median,
        min: ratio.min,
        max: ratio.max,
    }
}

/// `9.1–12.4`
pub fn range(spread: Spread, words: impl Fn(f64) -> String) -> String {
    let (low, high) = (words(spread.min), words(spread.max));
    if low == high {
        return low;
    }
    if let (Some(low), true) = (low.strip_suffix('×'), high.ends_with('×')) {
        return format!("{low}–{high}");
    }
    // A unit that both have is said once.
    match (low.split_once(' '), high.split_once(' ')) {
        (Some((number, unit)), Some((_, other))) if unit == other => format!("{number}–{high}"),
        _ => format!("{low}–{high}"),
    }
}

/// Messages per second: `12.3 M/s`.
pub fn rate(per_second: f64) -> String {
    let words = many(three_digits(per_second));
    if words.contains(' ') {
        words + "/s"
    } else {
        words + " /s"
    }
}

/// One over another: `1.27`.
pub fn ratio(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 99.5 => format!("{ratio:.0}×"),
        ratio if ratio >= 9.95 => format!("{ratio:.1}×"),
        ratio if ratio < 0.095 => format!("{ratio:.3}×"),
        ratio => format!("{ratio:.2}×"),
    }
}

/// Nanoseconds: `1.5 µs`.
pub fn time(nanoseconds: f64) -> String {
    let words = human(std::time::Duration::from_nanos(
        three_digits(nanoseconds).max(0.0) as u64,
    ));
    match words.split_once(' ') {
        Some((number, unit)) => match number.parse() {
            Ok(number) => format!("{} {unit}", short(number)),
            Err(_) => words,
        },
        None => words,
    }
}

/// How long something took: `27 s`, `2 min 5 s`, `1 h 5 min`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match (hours, minutes) {
        (0, 0) => format!("{seconds} s"),
        (0, _) => format!("{minutes} min {} s", seconds % 60),
        _ => format!("{hours} h {} min", minutes % 60),
    }
}

/// A part: `12 %`.
pub fn percent(part: f64) -> String {
    format!("{} %", short(part * 100.0))
}

/// A gain: `+12 %`.
pub fn gain(part: f64) -> String {
    format!("{:+.1} %", part * 100.0).replace('-', "−")
}

/// As many digits as a figure of a noisy machine deserves.
pub fn three_digits(number: f64) -> f64 {
    if number == 0.0 || !number.is_finite() {
        return number;
    }
    let power = 10_f64.powf(2.0 - number.abs().log10().floor());
    (number * power).round() / power
}

/// `a`, `a and b`, `a, b and c`.
pub fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_of_too_few_passes_is_not_stated() {
        let cell = |each: &[f64]| Cell::of_ratio(Some(&Ratio::new(String::new(), each.to_vec())));
        assert_eq!(cell(&[2.0]).text, "one pass: no ratio");
        assert_eq!(cell(&[2.0, 2.1]).text, "two passes: no ratio");
        assert_eq!(cell(&[1.0, 2.0, 4.0]).text, "too noisy");
        let stated = cell(&[2.0, 2.1, 2.2]);
        assert_eq!(
            (stated.text.as_str(), stated.range.as_deref()),
            ("2.10×", Some("2.00–2.20×"))
        );
        assert_eq!(Cell::of_ratio(None).text, "–");
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(
            (
                duration(26.9),
                duration(119.4),
                duration(2437.6),
                duration(3902.0)
            ),
            (
                "27 s".into(),
                "1 min 59 s".into(),
                "40 min 38 s".into(),
                "1 h 5 min".into()
            )
        );
    }

    #[test]
    fn figures_in_words() {
        assert_eq!(
            (rate(12_345_678.0), rate(1e4), rate(12.0)),
            ("12.3 M/s".into(), "10 k/s".into(), "12 /s".into())
        );
        assert_eq!(
            (ratio(0.413), ratio(12.345), ratio(123.0)),
            ("0.41×".into(), "12.3×".into(), "123×".into())
        );
        assert_eq!(
            (time(12.0), time(1_500.0), time(2.34e6)),
            ("12 ns".into(), "1.5 µs".into(), "2.34 ms".into())
        );
        assert_eq!((gain(0.051), gain(-0.2)), ("+5.1 %".into(), "−20.0 %".into()));
        let spread = Spread {
            median: 2e6,
            min: 1e6,
            max: 3e6,
        };
        assert_eq!(range(spread, rate), "1–3 M/s");
        let spread = Spread {
            median: 1.2,
            min: 1.1,
            max: 1.3,
        };
        assert_eq!(range(spread, ratio), "1.10–1.30×");
        assert_eq!(list(&["a".into(), "b".into(), "c".into()]), "a, b and c");
    }
}
