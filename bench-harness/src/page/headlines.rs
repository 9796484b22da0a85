//! The figures that have an aim, as far as a suite measured them.

use super::words;
use crate::{
    compare::Ratio,
    suite::results::{Curve, Point, Results, Spread},
};

/// A figure with an aim.
#[derive(Clone, Debug)]
pub struct Headline {
    /// What it is of.
    pub what: String,
    /// Over what; nothing, of a figure that stands for itself.
    pub over: String,
    /// How much.
    pub figure: Spread,
    /// Where a ratio lies with 95 % confidence.
    pub interval: Option<(f64, f64)>,
    /// Why it cannot be stated, if it cannot.
    pub unstated: Option<&'static str>,
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
    /// Whether it is as it should be: the median, if that can be stated. A ratio that is too noisy for that is judged if all of its
    /// passes say the same; one of fewer than three passes never is.
    pub fn is_met(&self) -> Option<bool> {
        let meets = |figure: f64| match self.aim {
            Aim::AtLeast(least) => figure >= least,
            Aim::AtMost(most) => figure <= most,
        };
        if self.unstated.is_none() {
            return Some(meets(self.figure.median));
        }
        let (of_least, of_most) = (meets(self.figure.min), meets(self.figure.max));
        (self.interval.is_some() && of_least == of_most).then_some(of_least)
    }

    /// Whether it is as it should be, in a word.
    pub fn met_words(&self) -> &'static str {
        match self.is_met() {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        }
    }

    /// The median in words; why not, if it cannot be stated.
    pub fn median_words(&self) -> String {
        self.unstated
            .map_or_else(|| self.words(self.figure.median), str::to_owned)
    }

    /// The passes' range in words, if there is one.
    pub fn range_words(&self) -> Option<String> {
        (self.figure.min < self.figure.max).then(|| words::range(self.figure, |figure| self.words(figure)))
    }

    /// The interval in words, if there is one.
    pub fn interval_words(&self) -> Option<String> {
        let (min, max) = self.interval?;
        let ends = Spread {
            min,
            max,
            ..self.figure
        };
        Some(words::range(ends, |figure| self.words(figure)))
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
    let command = own.command.clone();
    Some(of_ratio(
        rivalry.what,
        rivalry.rival,
        &own.over(rival)?,
        rivalry.aim,
        command,
    ))
}

fn of_ratio(what: &str, over: &str, ratio: &Ratio, aim: f64, command: String) -> Headline {
    Headline {
        what: what.into(),
        over: over.into(),
        figure: words::spread_of(ratio),
        interval: ratio.interval,
        unstated: ratio.unstated(),
        aim: Aim::AtLeast(aim),
        unit: Unit::Ratio,
        command,
    }
}

/// Pass by pass, for a curve's points are measured in turn.
fn over_itself(curve: &Curve, &(_, first, second, what, over, aim): &OwnRatio) -> Option<Headline> {
    let line = curve.line(LEDGER)?;
    let (first, second) = (comparable(line.at(first)?)?, line.at(second)?);
    let command = format!("{}; {}", first.command, second.command);
    Some(of_ratio(what, over, &first.over(second)?, aim, command))
}

fn bytes(curve: &Curve) -> Option<Headline> {
    let point = curve.line(LEDGER)?.at(1e7)?;
    Some(Headline {
        what: "bytes per queued message beyond its body, 10 M queued".into(),
        over: String::new(),
        figure: Spread::of(point.bytes_per_message())?,
        interval: None,
        unstated: None,
        aim: Aim::AtMost(64.0),
        unit: Unit::Bytes,
        command: point.command.clone(),
    })
}

/// How many are met, and how many cannot be stated, in a sentence.
pub fn tally(headlines: &[Headline]) -> String {
    let met = headlines
        .iter()
        .filter(|headline| headline.is_met() == Some(true))
        .count();
    let unstated = headlines
        .iter()
        .filter(|headline| headline.unstated.is_some())
        .count();
    let rest = match unstated {
        0 => String::new(),
        n => format!(
            " {n} cannot be stated, because there are fewer than three passes or the 95 % interval spans more than a factor of {}; \
             one that is too noisy still counts as met, or as not met, where every pass says so.",
            Ratio::SPREAD_MAX
        ),
    };
    format!("{met} of {} aims are met.{rest}", headlines.len())
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
        let results = Results::sample();
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

    #[test]
    fn what_is_too_noisy_is_judged_if_all_passes_agree() {
        let headline = |each: &[f64]| {
            let ratio = Ratio::new(String::new(), each.to_vec());
            of_ratio("a", "b", &ratio, 1.0, String::new())
        };
        let words = |each: &[f64]| {
            let headline = headline(each);
            (headline.median_words(), headline.met_words())
        };
        assert_eq!(words(&[1.9, 2.0, 2.1]), ("2.00×".into(), "yes"));
        assert_eq!(words(&[1.9, 3.0, 9.0]), ("too noisy".into(), "yes"));
        assert_eq!(words(&[0.1, 0.3, 0.9]), ("too noisy".into(), "no"));
        assert_eq!(words(&[0.1, 0.9, 2.0]), ("too noisy".into(), "?"));
        // A range of one or two passes is none.
        assert_eq!(words(&[2.0]), ("one pass: no ratio".into(), "?"));
        assert_eq!(words(&[2.0, 2.1]), ("two passes: no ratio".into(), "?"));
        let tally = tally(&[headline(&[1.9, 3.0, 9.0]), headline(&[2.0]), headline(&[2.0; 3])]);
        assert!(
            tally.starts_with("2 of 3 aims are met. 2 cannot be stated"),
            "{tally}"
        );
    }

    #[test]
    fn a_point_of_one_pass_has_no_headline_figure() {
        let mut results = Results::sample();
        for point in results
            .curves
            .iter_mut()
            .flat_map(|curve| &mut curve.lines)
            .flat_map(|line| &mut line.points)
        {
            point.passes.truncate(1);
        }
        let headlines = of(&results);
        assert!(!headlines.is_empty());
        for headline in headlines.iter().filter(|headline| headline.unit == Unit::Ratio) {
            assert_eq!(
                (headline.median_words().as_str(), headline.is_met()),
                ("one pass: no ratio", None)
            );
        }
    }
}
