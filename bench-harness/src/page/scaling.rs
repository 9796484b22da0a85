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
    usl::{Fit, Law},
};

/// Counts of threads that are predicted.
const PREDICTED: [f64; 6] = [4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// A section of a curve over threads; `None` where there is nothing to fit.
pub fn section(curve: &Curve, results: &Results) -> Option<Section> {
    if curve.vary != Vary::Threads {
        return None;
    }
    let fits: Vec<(&Line, Fit)> = curve
        .lines
        .iter()
        .filter_map(|line| Some((line, Fit::of(&measured(line))?)))
        .collect();
    if fits.is_empty() {
        return None;
    }
    let cores = results.cores() as f64;
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
    let mut sentences = vec![format!(
        "X(N) = λN / (1 + σ(N − 1) + κN(N − 1)), fitted to the points that had a core for each thread by least squares of relative errors, \
         with σ and κ not below 0. Everything to the right of {cores} threads is a prediction and was not measured."
    )];
    if fits.iter().any(|(_, fit)| matches!(fit, Fit::Between(..))) {
        sentences.push(
            "Two counts of threads do not determine three coefficients: every pair of σ and κ on a line fits equally well. The band goes from \
             one end of it (all loss is coherence, σ = 0) to the other (all loss is contention, κ = 0). That band is what two cores can say about more, \
             and it leaves out sockets, caches and memory channels that a larger machine has."
                .into(),
        );
    }
    let is_linear = |fit: &Fit| {
        let (a, b) = ends(fit);
        a.sigma == 0.0 && a.kappa == 0.0 && b.sigma == 0.0 && b.kappa == 0.0
    };
    let linear: Vec<String> = fits
        .iter()
        .filter(|(_, fit)| is_linear(fit))
        .map(|(line, _)| line.target.clone())
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

/// Every pass that had a core for each thread.
fn measured(line: &Line) -> Vec<(f64, f64)> {
    line.points
        .iter()
        .filter(|point| !point.oversubscribed)
        .flat_map(|point| point.passes.iter().map(|pass| (point.x, PassRecord::rate(pass))))
        .collect()
}

fn ends(fit: &Fit) -> (Law, Law) {
    match *fit {
        Fit::Determined(law) => (law, law),
        Fit::Between(contention, coherence) => (contention, coherence),
    }
}

fn plot(fits: &[(&Line, Fit)], cores: f64, predicted: &[f64]) -> Plot {
    let last = predicted.last().copied().unwrap_or(64.0);
    let steps = 48;
    let counts: Vec<f64> = (0..=steps)
        .map(|step| last.powf(f64::from(step) / f64::from(steps)))
        .collect();
    let mut lines = Vec::new();
    for (line, fit) in fits {
        let band = counts
            .iter()
            .map(|&x| {
                let (low, high) = fit.range_at(x);
                PlotPoint {
                    x,
                    y: (low * high).sqrt(),
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
        let points = line.points.iter().filter(|point| !point.oversubscribed);
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

fn table(fits: &[(&Line, Fit)], predicted: &[f64]) -> Table {
    // As many as fit on the page; the others can be read off the plot.
    let step = if predicted.len() > 4 { 2 } else { 1 };
    let predicted: Vec<f64> = predicted.iter().copied().step_by(step).collect();
    let mut heads: Vec<String> = ["target", "λ", "σ", "κ", "peak at"].map(str::to_owned).to_vec();
    heads.extend(predicted.iter().map(|count| format!("predicted at {count}")));
    let rows = fits
        .iter()
        .map(|(line, fit)| {
            let (a, b) = ends(fit);
            let both = |a: f64, b: f64, words: &dyn Fn(f64) -> String| {
                let (a, b) = (words(a.min(b)), words(a.max(b)));
                Cell::new(if a == b { a } else { format!("{a} to {b}") })
            };
            let coefficient = |value: f64| {
                if value == 0.0 {
                    "0".to_owned()
                } else {
                    format!("{value:.4}")
                }
            };
            let peak = |law: Law| law.peak().map(|peak| format!("{peak:.0}"));
            let peaks = match (peak(a), peak(b)) {
                (None, None) => "none".to_owned(),
                (Some(a), Some(b)) if a == b => a,
                (Some(a), Some(b)) => format!("{a} to {b}"),
                (Some(one), None) | (None, Some(one)) => format!("{one} or none"),
            };
            let mut cells = vec![
                Cell::new(line.target.clone()),
                both(a.lambda, b.lambda, &words::rate),
                both(a.sigma, b.sigma, &coefficient),
                both(a.kappa, b.kappa, &coefficient),
                Cell::new(peaks),
            ];
            cells.extend(predicted.iter().map(|&count| {
                let (low, high) = fit.range_at(count);
                let spread = Spread {
                    median: low,
                    min: low,
                    max: high,
                };
                Cell::new(if high / low < 1.005 {
                    words::rate(low)
                } else {
                    words::range(spread, words::rate)
                })
            }));
            Row {
                cells,
                is_over: false,
            }
        })
        .collect();
    Table { heads, rows }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prediction_says_that_it_is_one() {
        let results = Results::parse(include_str!("../../tests/sample/results.json")).unwrap();
        let section = section(results.curve("threads").unwrap(), &results).unwrap();
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
    fn threads_that_take_turns_are_not_fitted() {
        let mut results = Results::parse(include_str!("../../tests/sample/results.json")).unwrap();
        let curve = results
            .curves
            .iter_mut()
            .find(|curve| curve.id == "threads")
            .unwrap();
        for point in curve.lines.iter_mut().flat_map(|line| &mut line.points) {
            point.oversubscribed = true;
        }
        assert!(section(results.curve("threads").unwrap(), &results).is_none());
    }
}
