//! The figures that have an aim, as far as a suite measured them.

use super::words;
use crate::{
    aim::{Aim, Met},
    ratio::Ratio,
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
    /// Nanoseconds from core to core and back around its passes, where it is of several threads and they were measured.
    pub apart_ns: Option<Spread>,
    /// The command that measures it alone.
    pub command: String,
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
    /// Whether it is what it should be.
    pub fn met(&self) -> Met {
        match self.unit {
            Unit::Ratio => self.aim.judge(self.interval),
            Unit::Bytes => self.aim.judge_exact(self.figure.median),
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
        self.aim.words(|limit| self.words(limit))
    }

    /// How far the cores were apart, in words: the middle of all looks, and from which to which.
    pub fn apart_words(&self) -> Option<String> {
        let looks = self.apart_ns?;
        let range = words::range(looks, |ns| format!("{ns:.0}"));
        Some(format!("{:.0} ns ({range})", looks.median))
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
    let headline = of_ratio(
        rivalry.what,
        rivalry.rival,
        &own.over(rival)?,
        rivalry.aim,
        command,
    );
    Some(Headline {
        apart_ns: apart_ns(&[own, rival]),
        ..headline
    })
}

/// How far the cores were apart around the passes of these points, as far as they have several threads.
fn apart_ns(points: &[&Point]) -> Option<Spread> {
    let split = points.iter().filter(|point| point.threads > 1);
    let looks = split
        .flat_map(|point| &point.passes)
        .filter_map(|pass| pass.apart_ns);
    Spread::of(looks.flatten())
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
        apart_ns: None,
        command,
    }
}

/// Pass by pass, for a curve's points are measured in turn.
fn over_itself(curve: &Curve, &(_, first, second, what, over, aim): &OwnRatio) -> Option<Headline> {
    let line = curve.line(LEDGER)?;
    let (first, second) = (comparable(line.at(first)?)?, line.at(second)?);
    let command = format!("{}; {}", first.command, second.command);
    Some(Headline {
        apart_ns: apart_ns(&[first, second]),
        ..of_ratio(what, over, &first.over(second)?, aim, command)
    })
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
        apart_ns: None,
        command: point.command.clone(),
    })
}

/// How many are met, how many are not clear, and how many cannot be stated, in a sentence or two.
pub fn tally(headlines: &[Headline]) -> String {
    let count = |met| headlines.iter().filter(|headline| headline.met() == met).count();
    let unstated = headlines
        .iter()
        .filter(|headline| headline.unstated.is_some())
        .count();
    let rest = match unstated {
        0 => String::new(),
        n => format!(
            " {n} cannot be stated, because there are fewer than three passes or the 95 % interval spans more than a factor of {}.",
            Ratio::SPREAD_MAX
        ),
    };
    let placed = if headlines.iter().any(|headline| headline.apart_ns.is_some()) {
        " Intervals hold for where the hypervisor had put the cores in that hour, which stands beside them: what a cache line took from core to core and back."
    } else {
        ""
    };
    format!(
        "{} of {} aims are met and {} missed, by all of the 95 % interval; {} are not clear.{rest}{placed}",
        count(Met::Yes),
        headlines.len(),
        count(Met::No),
        count(Met::NotClear)
    )
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
    fn an_aim_is_judged_by_all_of_the_interval() {
        let headline = |each: &[f64]| {
            let ratio = Ratio::new(String::new(), each.to_vec());
            of_ratio("a", "b", &ratio, 1.0, String::new())
        };
        let words = |each: &[f64]| {
            let headline = headline(each);
            (headline.median_words(), headline.met().word())
        };
        assert_eq!(words(&[1.9, 2.0, 2.1]), ("2.00×".into(), "yes"));
        assert_eq!(words(&[0.7, 0.71, 0.69]), ("0.70×".into(), "no"));
        // Stated, and its middle is as it should be.
        assert_eq!(words(&[0.95, 1.05, 1.1]), ("1.05×".into(), "not clear"));
        assert_eq!(words(&[4.0, 6.0, 9.0]), ("too noisy".into(), "yes"));
        assert_eq!(words(&[0.1, 0.2, 0.3]), ("too noisy".into(), "no"));
        // All passes are as they should be, and too few to say so.
        assert_eq!(words(&[1.9, 3.0, 9.0]), ("too noisy".into(), "not clear"));
        // A range of one or two passes is none.
        assert_eq!(words(&[2.0]), ("one pass: no ratio".into(), "not clear"));
        assert_eq!(words(&[2.0, 2.1]), ("two passes: no ratio".into(), "not clear"));
        let tally = tally(&[headline(&[1.9, 3.0, 9.0]), headline(&[2.0]), headline(&[2.0; 3])]);
        assert!(
            tally.starts_with("1 of 3 aims are met and 0 missed, by all of the 95 % interval; 2 are not clear. 2 cannot be stated"),
            "{tally}"
        );
    }

    #[test]
    fn the_distance_of_the_cores_stands_beside_ratios_of_several_threads() {
        let mut results = Results::parse(include_str!("../../tests/sample/results.json")).unwrap();
        for curve in &mut results.curves {
            for point in curve.lines.iter_mut().flat_map(|line| &mut line.points) {
                for pass in &mut point.passes {
                    pass.apart_ns = Some([300.0, 330.0]);
                }
            }
        }
        let headlines = of(&results);
        let words = |of_several: bool| {
            let several = |headline: &&Headline| headline.what.contains("2 threads");
            let mut headlines = headlines
                .iter()
                .filter(|headline| several(headline) == of_several);
            headlines
                .find(|headline| headline.unit == Unit::Ratio)
                .map(Headline::apart_words)
        };
        assert_eq!(
            words(true),
            Some(Some("315 ns (300–330)".into())),
            "{headlines:?}"
        );
        assert_eq!(words(false), Some(None), "{headlines:?}");
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
                (headline.median_words().as_str(), headline.met()),
                ("one pass: no ratio", Met::NotClear)
            );
        }
    }
}
