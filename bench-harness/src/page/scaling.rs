//! The Universal Scalability Law on a page: its coefficients, what it predicts beyond the machine, and how little that is worth.

use super::{
    axes::Axis,
    curves::{Section, colour},
    plot::{Plot, PlotLine, PlotPoint, Stroke, Zone},
    words::{self, Cell, Row, Table},
};
use crate::suite::{
    axis::{Scale, Vary, many},
    results::{Curve, Line, PassRecord, Results, Spread},
    usl::{Count, Fit, Law, Uncertainty},
};

/// Counts of threads that are predicted.
const PREDICTED: [f64; 6] = [4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// One target's law, and what it is from.
struct Fitted<'r> {
    line: &'r Line,
    counts: Vec<Count>,
    fit: Fit,
    /// `None` where there are too few passes.
    uncertainty: Option<Uncertainty>,
}

impl<'r> Fitted<'r> {
    fn of(line: &'r Line, cores: usize) -> Option<Self> {
        let counts = measured(line, cores);
        let points: Vec<(f64, f64)> = counts
            .iter()
            .flat_map(|(threads, rates)| rates.iter().map(move |&rate| (*threads, rate)))
            .collect();
        Some(Self {
            line,
            fit: Fit::of(&points)?,
            uncertainty: Uncertainty::of(&counts),
            counts,
        })
    }

    /// What is predicted for so many threads: by the law, and where that lies by the noise of the passes.
    fn at(&self, threads: f64) -> ((f64, f64), Option<(f64, f64)>) {
        let interval = self
            .uncertainty
            .as_ref()
            .and_then(|uncertainty| uncertainty.interval(|fit| fit.range_at(threads)));
        (self.fit.range_at(threads), interval)
    }
}

/// A section of a curve over threads; `None` where there is nothing to fit.
pub fn section(curve: &Curve, results: &Results) -> Option<Section> {
    if curve.vary != Vary::Threads {
        return None;
    }
    let physical = results
        .machine_number("physical_cores")
        .map(|cores| cores as usize);
    let fits: Vec<Fitted<'_>> = curve
        .lines
        .iter()
        .filter_map(|line| Fitted::of(line, physical.unwrap_or(usize::MAX)))
        .collect();
    if fits.is_empty() {
        return None;
    }
    let mut counts: Vec<f64> = fits
        .iter()
        .flat_map(|it| it.counts.iter().map(|count| count.0))
        .collect();
    counts.sort_by(f64::total_cmp);
    counts.dedup();
    let cores = counts.last().copied().unwrap_or(1.0);
    let mut predicted: Vec<f64> = PREDICTED.iter().copied().filter(|&count| count > cores).collect();
    if predicted.is_empty() {
        predicted = vec![2.0 * cores];
    }
    let batch = curve.setting("batch").unwrap_or(1.0);
    let batches = if batch > 1.0 {
        format!(", batches of {batch}")
    } else {
        String::new()
    };
    let mut sentences = vec![
        format!(
            "X(N) = λN / (1 + σ(N − 1) + κN(N − 1)) life cycles per second of N threads, where λ is what one thread does alone, σ the part that only one can do at a time \
             (contention), and κ what each pair of threads costs one another (coherence). It is fitted by least squares of relative errors, with \
             σ and κ not below 0. Everything to the right of {cores} threads is a prediction and was not measured."
        ),
        points_used(&fits, &counts, physical),
    ];
    sentences.push(if fits.iter().all(|it| it.uncertainty.is_some()) {
        "The 95 % intervals and the bands are what the noise of the passes leaves open: the law is fitted again to rounds of passes drawn \
         anew with replacement, 400 times. Few passes give intervals that are rather too narrow, and none of them says whether the law \
         holds beyond what was measured."
            .into()
    } else {
        "Fewer than three passes of a point say nothing of their own noise: where that is so, there is no interval.".into()
    });
    if fits.iter().any(|it| matches!(it.fit, Fit::Determined(_))) {
        sentences.push(
            "The residual is how far the measured medians are from the law, as a root mean square; with three counts of threads, as many as \
             there are coefficients, a small one is no merit."
                .into(),
        );
    }
    if fits.iter().any(|it| matches!(it.fit, Fit::Between(..))) {
        sentences.push(
            "Two counts of threads do not determine three coefficients: every pair of σ and κ on a line fits equally well. The band goes \
             from one end of it (all loss is coherence, σ = 0) to the other (all loss is contention, κ = 0). That band is what two counts can say about \
             more, and it leaves out sockets, caches and memory channels that a larger machine has."
                .into(),
        );
    }
    let linear: Vec<String> = fits
        .iter()
        .filter(|it| it.fit.range_of(|law| law.sigma.max(law.kappa)) == (0.0, 0.0))
        .map(|it| it.line.target.clone())
        .collect();
    if !linear.is_empty() {
        sentences.push(format!(
            "No loss was measured for {}, so the law says that it grows for ever; no queue does.",
            words::list(&linear)
        ));
    }
    Some(Section {
        id: format!("{}-law", curve.id),
        title: format!("Universal Scalability Law{batches}"),
        settings: format!("from the curve {}", curve.id),
        sentences,
        plots: vec![plot(&fits, cores, &predicted)],
        table: table(&fits, &predicted),
        commands: Vec::new(),
    })
}

/// Which points a law is from, and whether each thread had a whole core.
fn points_used(fits: &[Fitted<'_>], counts: &[f64], physical: Option<usize>) -> String {
    let passes = || {
        fits.iter()
            .flat_map(|it| it.counts.iter().map(|(_, rates)| rates.len()))
    };
    let (least, most) = (passes().min().unwrap_or(0), passes().max().unwrap_or(0));
    let passes = if least == most {
        format!("{most} pass{}", if most == 1 { "" } else { "es" })
    } else {
        format!("{least} to {most} passes")
    };
    let numbers: Vec<String> = counts.iter().map(f64::to_string).collect();
    let cores = match physical {
        Some(physical) => format!(
            "These are the points with a physical core for each thread, of which the system tells that there {} {physical}",
            if physical == 1 { "is" } else { "are" }
        ),
        None => "These are the points with a core for each thread; whether some of those cores are two halves of one is not \
                 recorded in these results"
            .to_owned(),
    };
    format!(
        "Fitted to {} threads, {passes} of each target. {cores}.",
        words::list(&numbers)
    )
}

/// Every pass that had one of so many cores for each thread.
fn measured(line: &Line, cores: usize) -> Vec<Count> {
    line.points
        .iter()
        .filter(|point| !point.oversubscribed && point.threads <= cores)
        .map(|point| (point.x, point.passes.iter().map(PassRecord::rate).collect()))
        .collect()
}

fn plot(fits: &[Fitted<'_>], cores: f64, predicted: &[f64]) -> Plot {
    let last = predicted.last().copied().unwrap_or(64.0);
    let steps = 48;
    let counts: Vec<f64> = (0..=steps)
        .map(|step| last.powf(f64::from(step) / f64::from(steps)))
        .collect();
    let mut lines = Vec::new();
    for it in fits {
        let line = it.line;
        let band = counts
            .iter()
            .map(|&x| {
                let (range, interval) = it.at(x);
                let (low, high) = interval.map_or(range, |(low, high)| (low.min(range.0), high.max(range.1)));
                PlotPoint {
                    x,
                    y: (range.0 * range.1).sqrt(),
                    low,
                    high,
                    words: String::new(),
                }
            })
            .collect();
        lines.push(PlotLine {
            name: format!("{} (predicted)", line.target),
            colour: colour(&line.target),
            stroke: Stroke::Predicted,
            points: band,
        });
        let points = line
            .points
            .iter()
            .filter(|point| !point.oversubscribed && point.x <= cores);
        lines.push(PlotLine {
            name: String::new(),
            colour: colour(&line.target),
            stroke: Stroke::Solid,
            points: points
                .filter_map(|point| {
                    let rate = point.rate()?;
                    Some(PlotPoint {
                        x: point.x,
                        y: rate.median,
                        low: rate.min,
                        high: rate.max,
                        words: format!(
                            "{}, {} threads, measured: {}",
                            line.target,
                            point.x,
                            words::rate(rate.median)
                        ),
                    })
                })
                .collect(),
        });
    }
    let all = || lines.iter().flat_map(|line| &line.points);
    let most = all().map(|point| point.high).fold(0.0, f64::max);
    let least = all().map(|point| point.low).fold(f64::INFINITY, f64::min);
    let mut ticks: Vec<f64> = vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
    ticks.retain(|&tick| tick <= last);
    let ticks: Vec<(f64, String)> = ticks.into_iter().map(|tick| (tick, tick.to_string())).collect();
    Plot {
        about: "Throughput that the Universal Scalability Law predicts".into(),
        x: Axis {
            min: 1.0,
            max: last,
            ..Axis::along("threads, each on a core of its own", Scale::Log, &ticks)
        },
        y: Axis::of_values("life cycles per second", least, most, true, many),
        lines,
        zone: Some(Zone {
            from: cores,
            words: "prediction, not measured".into(),
        }),
    }
}

fn table(fits: &[Fitted<'_>], predicted: &[f64]) -> Table {
    // As many as fit on the page; the others can be read off the plot.
    let step = if predicted.len() > 4 { 2 } else { 1 };
    let predicted: Vec<f64> = predicted.iter().copied().step_by(step).collect();
    let has_residual = fits.iter().any(|it| matches!(it.fit, Fit::Determined(_)));
    let mut heads: Vec<String> = ["target", "λ", "σ", "κ", "peak at"].map(str::to_owned).to_vec();
    if has_residual {
        heads.push("residual".into());
    }
    heads.extend(predicted.iter().map(|count| format!("predicted at {count}")));
    let row = |it: &Fitted<'_>| {
        let coefficient = |value: f64| {
            if value == 0.0 {
                "0".to_owned()
            } else {
                format!("{value:.4}")
            }
        };
        let of = |figure: fn(&Law) -> f64, words: &dyn Fn(f64) -> String| {
            let interval = it
                .uncertainty
                .as_ref()
                .and_then(|uncertainty| uncertainty.interval(|fit| fit.range_of(figure)));
            cell(it.fit.range_of(figure), interval, words)
        };
        let mut cells = vec![
            Cell::new(it.line.target.clone()),
            of(|law| law.lambda, &words::rate),
            of(|law| law.sigma, &coefficient),
            of(|law| law.kappa, &coefficient),
            Cell {
                text: peaks(it.fit.peaks()),
                range: it
                    .uncertainty
                    .as_ref()
                    .and_then(Uncertainty::peaks)
                    .map(|ends| format!("95 %: {}", peaks(ends))),
            },
        ];
        if has_residual {
            let misfit = match it.fit {
                Fit::Determined(law) => law.misfit(&it.counts),
                Fit::Between(..) => None,
            };
            cells.push(Cell::new(
                misfit.map_or("–".into(), |part| format!("{:.1} %", part * 100.0)),
            ));
        }
        cells.extend(predicted.iter().map(|&count| {
            let (range, interval) = it.at(count);
            cell(range, interval, &words::rate)
        }));
        Row {
            cells,
            is_over: false,
        }
    };
    Table {
        heads,
        rows: fits.iter().map(row).collect(),
    }
}

/// From the earliest to the latest, which may be that there is none.
fn peaks(ends: (Option<f64>, Option<f64>)) -> String {
    let words = |peak: Option<f64>| peak.map_or_else(|| "none".to_owned(), |peak| format!("{peak:.0}"));
    let (early, late) = (words(ends.0), words(ends.1));
    match ends {
        _ if early == late => early,
        (_, None) => format!("{early} or none"),
        _ => format!("{early} to {late}"),
    }
}

/// What fits, and beneath where it lies by the noise of the passes.
fn cell((low, high): (f64, f64), interval: Option<(f64, f64)>, words: &dyn Fn(f64) -> String) -> Cell {
    let range = |(min, max): (f64, f64)| {
        let median = min;
        words::range(Spread { median, min, max }, words)
    };
    Cell {
        text: range((low, high)),
        range: interval.map(|ends| format!("95 %: {}", range(ends))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section_of(results: &Results) -> Option<Section> {
        section(results.curve("threads").unwrap(), results)
    }

    fn set_oversubscribed(results: &mut Results, oversubscribed: bool) {
        let curve = results.curve_mut("threads").unwrap();
        for point in curve.lines.iter_mut().flat_map(|line| &mut line.points) {
            point.oversubscribed = oversubscribed;
        }
    }

    #[test]
    fn a_prediction_says_that_it_is_one() {
        let section = section_of(&Results::sample()).unwrap();
        assert!(
            section.plots[0]
                .zone
                .as_ref()
                .unwrap()
                .words
                .contains("not measured")
        );
        assert!(section.sentences[0].contains("prediction"));
        assert!(section.table.heads.iter().any(|head| head == "predicted at 64"));
    }

    #[test]
    fn peaks_in_words() {
        assert_eq!(peaks((None, None)), "none");
        assert_eq!(peaks((Some(1.0), Some(1.3))), "1");
        assert_eq!(peaks((Some(2.0), Some(7.0))), "2 to 7");
        assert_eq!(peaks((Some(5.0), None)), "5 or none");
    }

    /// Of a mutex that two threads fight for, the first point is the peak: no law that fits says otherwise.
    #[test]
    fn what_falls_from_the_first_thread_has_its_peak_there() {
        let mut results = Results::parse(include_str!("../../tests/sample/results.json")).unwrap();
        let curve = results.curves.iter_mut().find(|curve| curve.id == "threads");
        for point in curve.unwrap().lines.iter_mut().flat_map(|line| &mut line.points) {
            for pass in &mut point.passes {
                (pass.messages, pass.seconds) = (1_000_000, if point.threads == 1 { 1.0 } else { 3.0 });
            }
        }
        let section = section(results.curve("threads").unwrap(), &results).unwrap();
        for row in &section.table.rows {
            let peak = &row.cells[4];
            assert_eq!((&*peak.text, peak.range.as_deref()), ("1", Some("95 %: 1")));
        }
    }

    #[test]
    fn the_noise_of_passes_is_printed() {
        let mut results = Results::sample();
        let has_intervals = |section: &Section| {
            section.table.rows.iter().all(|row| {
                let cells = [&row.cells[1], &row.cells[2], &row.cells[3], &row.cells[5]];
                cells.iter().all(|cell| {
                    cell.range
                        .as_ref()
                        .is_some_and(|range| range.starts_with("95 %: "))
                })
            })
        };
        let noisy = section_of(&results).unwrap();
        assert!(has_intervals(&noisy), "{:?}", noisy.table);
        assert!(noisy.sentences[1].starts_with("Fitted to 1 and 2 threads, 3 passes of each target."));
        for point in results
            .curves
            .iter_mut()
            .flat_map(|curve| &mut curve.lines)
            .flat_map(|line| &mut line.points)
        {
            point.passes.truncate(2);
        }
        let short = section_of(&results).unwrap();
        assert!(!has_intervals(&short));
        assert!(short.sentences.join(" ").contains("there is no interval"));
    }

    #[test]
    fn halves_of_a_core_are_not_fitted() {
        let mut results = Results::sample();
        // As on a machine of eight hardware threads, and three cores.
        set_oversubscribed(&mut results, false);
        let unknown = section_of(&results).unwrap();
        assert!(unknown.sentences[1].starts_with("Fitted to 1, 2, 3, 4 and 8 threads"));
        assert!(
            unknown.sentences[1].contains("not recorded"),
            "{:?}",
            unknown.sentences
        );
        results.machine.insert("physical_cores".into(), 3.into());
        let known = section_of(&results).unwrap();
        assert!(
            known.sentences[1].starts_with("Fitted to 1, 2 and 3 threads"),
            "{:?}",
            known.sentences
        );
        assert_eq!(known.plots[0].zone.as_ref().unwrap().from, 3.0);
        assert!(known.table.heads.iter().any(|head| head == "residual"));
        assert!(
            known
                .table
                .rows
                .iter()
                .all(|row| row.cells[5].text.ends_with(" %"))
        );
    }

    #[test]
    fn threads_that_take_turns_are_not_fitted() {
        let mut results = Results::sample();
        set_oversubscribed(&mut results, true);
        assert!(section_of(&results).is_none());
    }
}
