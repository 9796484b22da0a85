//! Several runs on one page: the ledger's lines of each run on common axes, and what changed since the first.

use maud::html;

use super::{
    axes::Axis,
    curves::{self, Section},
    html,
    plot::{Plot, PlotLine, Stroke},
    words::{self, Cell, Row, Table},
};
use crate::suite::{
    axis::{Vary, many},
    regression::{Change, Comparison, JUDGED, Judgement, Measure},
    results::{Curve, Point, Results},
};

/// A run and what it is called.
pub type Named<'r> = (String, &'r Results);

/// The page of some runs; the first is the baseline.
pub fn page(runs: &[Named<'_>], comparisons: &[(String, Comparison)]) -> String {
    let names: Vec<String> = runs.iter().map(|run| run.0.clone()).collect();
    let body = html! {
        header {
            h1 { "epoq: runs compared" }
            p.lead { (words::list(&names)) ". The first is the baseline." }
        }
        h2 { "Runs" }
        (html::table(&runs_table(runs)))
        @for (name, comparison) in comparisons {
            h2 { (name) " against " (names[0]) }
            p { (verdict(comparison)) }
            @if !comparison.warnings.is_empty() {
                div.note { p { "Hard to compare:" } ul { @for warning in &comparison.warnings { li { (warning) } } } }
            }
            (html::table(&changes_table(comparison)))
        }
        h2 { "Curves of the ledger" }
        @for section in sections(runs) { (html::render(&section)) }
    };
    html::document("epoq: runs compared", &body)
}

/// What came of a comparison, in a sentence or two.
pub fn verdict(comparison: &Comparison) -> String {
    let (worse, better) = (comparison.regressions().len(), comparison.improvements().len());
    let judged = comparison
        .changes
        .iter()
        .filter(|change| change.judgement != Judgement::NotJudged)
        .count();
    let incomplete = comparison
        .incomplete
        .as_ref()
        .map_or_else(String::new, |why| format!("No verdict: {why}. "));
    let missing = match comparison.missing {
        0 => String::new(),
        n => format!(" {n} points of the baseline were not measured."),
    };
    if judged == 0 {
        return format!("{}{missing}", incomplete.trim_end());
    }
    let drift = if comparison.drift_points == 0 {
        "No rival was measured, so nothing is known about the machine's own change.".to_owned()
    } else {
        format!(
            "The rivals changed by {} in the middle of {} points: that much is the machine's.",
            words::gain(comparison.drift),
            comparison.drift_points
        )
    };
    format!(
        "{incomplete}Of {judged} figures of the ledger {worse} are worse and {better} better by more than {} and beyond noise, which is {} of a median. {drift}{missing}",
        words::percent(comparison.threshold),
        words::percent(comparison.noise)
    )
}

/// What changed for the ledger, the worst first.
pub fn changes_table(comparison: &Comparison) -> Table {
    let mut changes: Vec<&Change> = comparison
        .changes
        .iter()
        .filter(|change| change.judgement != Judgement::NotJudged)
        .collect();
    changes.sort_by(|a, b| a.gain.total_cmp(&b.gain));
    let heads = ["curve", "at", "figure", "before", "after", "gain", "verdict"];
    let row = |change: &&Change| {
        let words = match change.measure {
            Measure::Throughput | Measure::Capacity => words::rate,
            Measure::Latency => words::time,
            Measure::Bytes => crate::suite::axis::short,
        };
        let verdict = match change.judgement {
            Judgement::Worse => "WORSE",
            Judgement::Better => "better",
            Judgement::Same | Judgement::NotJudged => "same",
        };
        Row {
            cells: vec![
                Cell::new(change.curve.clone()),
                Cell::new(change.label.clone()),
                Cell::new(change.measure.words()),
                Cell::of(Some(change.before), words),
                Cell::of(Some(change.after), words),
                Cell::new(words::gain(change.gain)),
                Cell::new(verdict),
            ],
            is_over: false,
        }
    };
    Table {
        heads: heads.map(str::to_owned).to_vec(),
        rows: changes.iter().map(row).collect(),
    }
}

fn runs_table(runs: &[Named<'_>]) -> Table {
    let heads = [
        "run",
        "suite",
        "commit",
        "began",
        "machine",
        "other work, cores",
        "verified",
    ];
    let row = |(name, results): &Named<'_>| {
        let other = results.other_work.map_or("–".into(), |work| {
            format!("{:.2}", work.cores_used_by_others + work.cores_stolen)
        });
        let machine = format!("{}, {} cores", results.machine_text("cpu"), results.cores());
        let verified = if results.verified { "yes" } else { "NO" };
        let cells = [
            name.as_str(),
            &results.name,
            &results.commit,
            &results.started,
            &machine,
            &other,
            verified,
        ];
        Row {
            cells: cells.into_iter().map(Cell::new).collect(),
            is_over: false,
        }
    };
    Table {
        heads: heads.map(str::to_owned).to_vec(),
        rows: runs.iter().map(row).collect(),
    }
}

/// Of each curve that the baseline has, the ledger's line in every run.
fn sections(runs: &[Named<'_>]) -> Vec<Section> {
    let Some((_, baseline)) = runs.first() else {
        return Vec::new();
    };
    baseline
        .curves
        .iter()
        .filter(|curve| curve.vary != Vary::Time)
        .filter_map(|curve| overlaid(curve, runs))
        .collect()
}

fn overlaid(curve: &Curve, runs: &[Named<'_>]) -> Option<Section> {
    let is_latency = curve.vary == Vary::Load;
    let figure = |point: &Point| {
        if is_latency {
            point.latency(|latency| latency.p99)
        } else {
            point.rate()
        }
    };
    let words = if is_latency { words::time } else { words::rate };
    let mut lines: Vec<PlotLine> = Vec::new();
    for (index, (name, results)) in runs.iter().enumerate() {
        let Some(own) = results.curve(&curve.id).and_then(|curve| curve.line(JUDGED)) else {
            continue;
        };
        let drawn = curves::line(curve, own, name.clone(), Stroke::Solid, figure, words);
        lines.push(PlotLine {
            colour: index % 8,
            ..drawn
        });
    }
    let (least, most, is_log) = curves::extent(&lines);
    let baseline = curves::section(curve, runs[0].1);
    let x = baseline.plots.into_iter().next()?.x;
    let label = if is_latency {
        "latency p99, intended arrival to deletion"
    } else {
        "life cycles per second"
    };
    let y = Axis::of_values(
        label,
        least,
        most,
        is_log || is_latency,
        if is_latency { words::time } else { many },
    );
    (!lines.is_empty()).then(|| Section {
        id: curve.id.clone(),
        title: baseline.title,
        settings: baseline.settings,
        sentences: Vec::new(),
        plots: vec![Plot {
            about: format!("{} of several runs", curve.id),
            x,
            y,
            lines,
            zone: None,
        }],
        table: Table::default(),
        commands: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_judged_is_said_first() {
        let results = Results::sample();
        let mut other = results.clone();
        other.curves.clear();
        let words = verdict(&Comparison::of(&results, &other, 0.05));
        assert!(
            words.starts_with("No verdict: nothing was judged") && !words.contains("worse"),
            "{words}"
        );
    }

    #[test]
    fn two_runs_stand_on_one_page() {
        let results = Results::sample();
        let runs = [("before".to_owned(), &results), ("after".to_owned(), &results)];
        let comparison = Comparison::of(&results, &results, 0.05);
        let page = page(&runs, &[("after".into(), comparison)]);
        assert!(
            page.contains("before") && page.contains("0 are worse") && !page.contains("NaN"),
            "{page}"
        );
    }
}
