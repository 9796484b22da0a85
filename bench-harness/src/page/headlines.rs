//! The figures that have an aim, as far as a suite measured them.

use super::words;
use crate::suite::results::{Curve, Point, Results, Spread};

/// A figure with an aim.
#[derive(Clone, Debug)]
pub struct Headline {
    /// What it is of.
    pub what: String,
    /// Over what; nothing, of a figure that stands for itself.
    pub over: String,
    /// How much.
    pub figure: Spread,
    /// What it should be.
    pub aim: Aim,
    /// What it is counted in.
    pub unit: Unit,
    /// The command that measures it alone.
    pub command: String,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
}

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// One over another.
    Ratio,
    /// Bytes.
    Bytes,
}

impl Headline {
    /// Whether the median is as it should be; unknown where the passes say nothing.
    pub fn is_met(&self) -> Option<bool> {
        if self.unit == Unit::Ratio && !self.figure.is_meaningful() {
            return None;
        }
        Some(match self.aim {
            Aim::AtLeast(least) => self.figure.median >= least,
            Aim::AtMost(most) => self.figure.median <= most,
        })
    }

    /// The median in words, if it can be stated.
    pub fn median_words(&self) -> String {
        if self.is_met().is_some() {
            self.words(self.figure.median)
        } else {
            "too noisy".into()
        }
    }

    /// The aim in words.
    pub fn aim_words(&self) -> String {
        match self.aim {
            Aim::AtLeast(least) => format!("≥ {}", self.words(least)),
            Aim::AtMost(most) => format!("≤ {}", self.words(most)),
        }
    }

    /// A figure of its kind in words.
    pub fn words(&self, figure: f64) -> String {
        match self.unit {
            Unit::Ratio => words::ratio(figure),
            Unit::Bytes => format!("{figure:.1} B"),
        }
    }
}

/// A ratio of two targets at one point.
struct Rivalry {
    curve: &'static str,
    x: f64,
    what: &'static str,
    rival: &'static str,
    aim: f64,
    /// A curve of the same name with other settings is not meant.
    setting: Option<(&'static str, f64)>,
}

const RIVALRIES: &[Rivalry] = &[
    rivalry("threads", 1.0, "life cycle, 1 thread", "crossbeam-channel", 0.6),
    rivalry("threads", 1.0, "life cycle, 1 thread", "locked", 1.8),
    rivalry(
        "turn",
        64.0,
        "life cycle, 1 thread, turns of 64",
        "crossbeam-channel",
        1.0,
    ),
    rivalry("turn", 64.0, "life cycle, 1 thread, turns of 64", "locked", 3.0),
    rivalry(
        "batch",
        10.0,
        "life cycle, 1 thread, batches of 10",
        "crossbeam-channel",
        2.5,
    ),
    rivalry(
        "batch",
        10.0,
        "life cycle, 1 thread, batches of 10",
        "locked",
        5.0,
    ),
    rivalry("threads", 2.0, "life cycle, 2 threads", "locked", 4.5),
    rivalry(
        "threads-batch-10",
        2.0,
        "life cycle, 2 threads, batches of 10",
        "locked",
        10.0,
    ),
    rivalry(
        "in-flight",
        1e6,
        "1 M in flight, 1 thread, batches of 10",
        "locked",
        20.0,
    ),
    // One sender and one receiver: the first point of that share.
    Rivalry {
        setting: Some(("batch", 10.0)),
        ..rivalry(
            "ratio",
            0.5,
            "from core to core, batches of 10",
            "crossbeam-channel",
            1.0,
        )
    },
    Rivalry {
        setting: Some(("batch", 10.0)),
        ..rivalry("ratio", 0.5, "from core to core, batches of 10", "locked", 5.0)
    },
    Rivalry {
        setting: Some(("threads", 2.0)),
        ..rivalry(
            "groups",
            1e4,
            "FIFO, 10,000 groups, 2 threads, batches of 10",
            "locked-fifo",
            6.0,
        )
    },
];

const fn rivalry(curve: &'static str, x: f64, what: &'static str, rival: &'static str, aim: f64) -> Rivalry {
    Rivalry {
        curve,
        x,
        what,
        rival,
        aim,
        setting: None,
    }
}

/// Two points of the ledger's own: curve, first, second, what, over what, aim.
type OwnRatio = (&'static str, f64, f64, &'static str, &'static str, f64);

const OWN: &[OwnRatio] = &[
    (
        "threads-batch-10",
        2.0,
        1.0,
        "2 threads, batches of 10",
        "epoq on 1 thread",
        1.95,
    ),
    (
        "backlog",
        1e7,
        0.0,
        "10 M queued, batches of 10",
        "epoq with none queued",
        0.83,
    ),
    (
        "in-flight",
        1e6,
        0.0,
        "1 M in flight, batches of 10",
        "epoq with none in flight",
        0.83,
    ),
];

const LEDGER: &str = "epoq";

/// All that a suite has measured.
pub fn of(results: &Results) -> Vec<Headline> {
    let mut headlines = Vec::new();
    for rivalry in RIVALRIES {
        headlines.extend(
            results
                .curve(rivalry.curve)
                .and_then(|curve| over_rival(curve, rivalry)),
        );
    }
    for own in OWN {
        headlines.extend(results.curve(own.0).and_then(|curve| over_itself(curve, own)));
    }
    headlines.extend(results.curve("backlog").and_then(bytes));
    headlines
}

fn over_rival(curve: &Curve, rivalry: &Rivalry) -> Option<Headline> {
    if let Some((name, value)) = rivalry.setting
        && curve.setting(name) != Some(value)
    {
        return None;
    }
    let own = comparable(curve.line(LEDGER)?.at(rivalry.x)?)?;
    let rival = curve.line(rivalry.rival)?.at(rivalry.x)?;
    Some(Headline {
        what: rivalry.what.into(),
        over: rivalry.rival.into(),
        figure: own.over(rival)?,
        aim: Aim::AtLeast(rivalry.aim),
        unit: Unit::Ratio,
        command: own.command.clone(),
    })
}

/// Pass by pass, for a curve's points are measured in turn; where one has a single pass, which says nothing of how it varies, the range
/// is that of the worst case and the best.
fn over_itself(curve: &Curve, &(_, first, second, what, over, aim): &OwnRatio) -> Option<Headline> {
    let line = curve.line(LEDGER)?;
    let (first, second) = (comparable(line.at(first)?)?, line.at(second)?);
    let figure = if first.passes.len().min(second.passes.len()) > 1 {
        first.over(second)?
    } else {
        let (above, below) = (first.rate()?, second.rate()?);
        Spread {
            median: above.median / below.median,
            min: above.min / below.max,
            max: above.max / below.min,
        }
    };
    Some(Headline {
        what: what.into(),
        over: over.into(),
        figure,
        aim: Aim::AtLeast(aim),
        unit: Unit::Ratio,
        command: format!("{}; {}", first.command, second.command),
    })
}

fn bytes(curve: &Curve) -> Option<Headline> {
    let point = curve.line(LEDGER)?.at(1e7)?;
    Some(Headline {
        what: "bytes per queued message beyond its body, 10 M queued".into(),
        over: String::new(),
        figure: Spread::of(point.bytes_per_message())?,
        aim: Aim::AtMost(64.0),
        unit: Unit::Bytes,
        command: point.command.clone(),
    })
}

/// Threads that take turns on a core are not what an aim is about.
fn comparable(point: &Point) -> Option<&Point> {
    (!point.oversubscribed).then_some(point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_aims_are_found() {
        let results = Results::parse(include_str!("../../tests/sample/results.json")).unwrap();
        let headlines = of(&results);
        assert!(
            headlines.iter().any(|headline| headline.over == "locked"),
            "{headlines:?}"
        );
        for headline in &headlines {
            assert!(
                headline.figure.min <= headline.figure.median
                    && headline.figure.median <= headline.figure.max
            );
            assert!(headline.command.starts_with("epoq-bench "));
        }
    }
}
