//! A curve as a section of a report: what it shows, where the ledger loses, a plot, a table, the commands.

use serde_json::Value;

use super::{
    axes::Axis,
    plot::{Plot, PlotLine, PlotPoint, Stroke, Zone},
    words::{self, Cell, Row, Table},
};
use crate::{
    compare::Ratio,
    suite::{
        axis::{Vary, bytes, many, short},
        results::{Curve, LatencyRecord, Line, Point, Results, Spread},
    },
};

/// The target that is spoken of.
const LEDGER: &str = "epoq";

/// A section.
#[derive(Clone, Debug)]
pub struct Section {
    /// For links.
    pub id: String,
    /// Over it.
    pub title: String,
    /// Under the title: what stays.
    pub settings: String,
    /// What it shows, what was found, where the ledger loses.
    pub sentences: Vec<String>,
    /// One after the other.
    pub plots: Vec<Plot>,
    /// Under them.
    pub table: Table,
    /// What measures each point alone.
    pub commands: Vec<(String, String)>,
}

/// Which colour and marker a target has, the same on every plot.
pub fn colour(target: &str) -> usize {
    match target {
        "epoq" => 0,
        "locked" | "locked-fifo" => 1,
        "crossbeam-channel" => 2,
        "seg-queue" => 3,
        "locked-sharded" => 4,
        "locked-slab" => 5,
        "flume" => 6,
        "kanal" => 7,
        // From here on the colours come again, with other markers.
        "concurrent-queue" => 9,
        "async-channel" => 10,
        "crossfire" => 11,
        "rapidfire" => 14,
        "disruptor" => 15,
        other => 8 + other.bytes().map(usize::from).sum::<usize>() % 8,
    }
}

/// A section of a curve.
pub fn section(curve: &Curve, results: &Results) -> Section {
    let (plots, table, findings) = match curve.vary {
        Vary::Load => (
            vec![latency_plot(curve)],
            latency_table(curve),
            latency_findings(curve),
        ),
        Vary::Time => (memory_plots(curve), memory_table(curve), memory_findings(curve)),
        _ => {
            let mut findings = throughput_findings(curve);
            findings.extend(bytes_finding(curve));
            (vec![throughput_plot(curve)], throughput_table(curve), findings)
        }
    };
    let mut sentences = vec![shows(curve, results)];
    sentences.extend(curve.left_out.as_ref().map(|left_out| format!("{left_out}.")));
    sentences.extend(findings);
    Section {
        id: curve.id.clone(),
        title: title(curve),
        settings: settings(curve),
        sentences,
        plots,
        table,
        commands: commands(curve),
    }
}

fn title(curve: &Curve) -> String {
    let batch = curve.setting("batch").unwrap_or(1.0);
    let batches = if batch > 1.0 {
        format!(", batches of {batch}")
    } else {
        String::new()
    };
    match curve.vary {
        Vary::Threads => format!("Threads{batches}"),
        Vary::Ratio if curve.scenario == "steal" => format!("Nothing at home{batches}"),
        Vary::Ratio => format!("Producers and consumers{batches}"),
        Vary::Batch if curve.scenario == "pipeline" => "Batch size, from thread to thread".into(),
        Vary::Batch => "Batch size".into(),
        Vary::Turn => "Turns".into(),
        Vary::Body => "Body size".into(),
        Vary::Backlog => format!("Backlog{batches}"),
        Vary::InFlight => format!("Messages in flight{batches}"),
        Vary::Share => format!("Imbalance{batches}"),
        Vary::Queues => format!("Number of queues{batches}"),
        Vary::Groups => format!("FIFO: message groups{batches}"),
        Vary::Load => format!("Latency under load{batches}"),
        Vary::Time => format!("Memory over time{batches}"),
    }
}

fn shows(curve: &Curve, results: &Results) -> String {
    let cores = results.cores();
    match curve.vary {
        Vary::Threads => format!(
            "Life cycles (send, receive, delete) per second as threads are added, each pinned to a core. Beyond {cores} threads they take turns \
             on the cores: that part says how a queue bears preemption, not how it scales."
        ),
        Vary::Ratio => {
            "Senders and receivers are different threads, so that every message crosses from one to the other. Where there are more threads than \
             cores (*), they take turns on the cores."
                .into()
        }
        Vary::Batch => "What it saves to send, receive and delete several messages in one call.".into(),
        Vary::Turn => {
            "What the ledger must do around every call, it does once around a turn of many life cycles: it reads the clock, and it holds on to memory \
             that others may be about to free. Other queues have no turns; their lines should be level."
                .into()
        }
        Vary::Body => {
            "Every body is copied into the queue and looked at when it is received: the longer bodies are, the more the figures are about memory, and the \
             less about queues."
                .into()
        }
        Vary::Backlog => {
            "Life cycles at the two ends of a queue in which messages are waiting: the oldest are no longer in any cache when they are received."
                .into()
        }
        Vary::InFlight => {
            "Life cycles while other messages are in flight, that is, received and not yet deleted: what it costs to remember them.".into()
        }
        Vary::Share => {
            "One thread sends the given part of all messages, the others share the rest evenly, and all receive what they can get. At 100 % everything \
             that the others receive was sent by that one thread."
                .into()
        }
        Vary::Queues => {
            "Each thread goes round all queues of one broker, with a life cycle at each: when there are many, the queues themselves are no longer in the \
             caches."
                .into()
        }
        Vary::Groups => {
            "Life cycles through a FIFO queue. Its messages go round so many groups, and each has a deduplication id of its own, which the queue \
             remembers."
                .into()
        }
        Vary::Load if curve.lines.iter().all(|line| line.capacity_range.is_none()) => {
            "Messages arrive on a schedule, and latency counts from when each should have arrived: a stall is charged to all that fell into \
             it. Capacity is what the same loop does when it is always late, in its slowest pass."
                .into()
        }
        Vary::Load => {
            "Messages arrive at random (a Poisson process for each sender), and latency counts from when each should have arrived to its \
             deletion: a stall is charged to all that fell into it. Capacity is what the same loop does when it is always late, in the \
             pass in the middle."
                .into()
        }
        Vary::Time => {
            "What a long run keeps in memory: life cycles at full speed over a standing backlog, so that blocks of messages are made and freed all the \
             time. Memory that is counted wrong, or never given back, would show as a slope in what was asked of the allocator and not given back \
             since before the queue was filled, but for the harness's books. The ledger's own count is what its limit goes by. The line of the process \
             holds those books, which grow as long as the run lasts (each receiver keeps up to a bit for each message of each sender), and what the \
             allocator keeps."
                .into()
        }
    }
}

fn settings(curve: &Curve) -> String {
    let mut parts = vec![format!("scenario {}", curve.scenario)];
    for (name, value) in &curve.settings {
        let number = value.as_f64();
        match (name.as_str(), number) {
            ("queues" | "turn", Some(1.0)) | ("backlog" | "in-flight", Some(0.0)) => {}
            ("threads", Some(n)) => parts.push(format!("{n} thread{}", if n == 1.0 { "" } else { "s" })),
            ("batch", Some(1.0)) => parts.push("one message per call".into()),
            ("batch", Some(n)) => parts.push(format!("batches of {n}")),
            ("body", Some(n)) => parts.push(format!("{} bodies", bytes(n))),
            ("backlog", Some(n)) if matches!(&*curve.scenario, "pipeline" | "steal") => {
                parts.push(format!("at most {} outstanding", many(n)))
            }
            ("backlog", Some(n)) => parts.push(format!("{} queued", many(n))),
            ("seconds", Some(n)) => parts.push(format!("{} s per pass", short(n))),
            ("passes", Some(n)) => parts.push(format!("{n} pass{}", if n == 1.0 { "" } else { "es" })),
            (name, Some(n)) => parts.push(format!("{name} {}", many(n))),
            (name, None) => parts.push(format!(
                "{name} {}",
                value
                    .as_str()
                    .map_or_else(|| Value::to_string(value), str::to_owned)
            )),
        }
    }
    parts.join(" · ")
}

fn commands(curve: &Curve) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in &curve.lines {
        for point in line.all_points() {
            if commands.iter().all(|(_, command)| *command != point.command) {
                let of_line = if curve.vary == Vary::Load {
                    format!("{}, {}", point.label, line.target)
                } else {
                    point.label.clone()
                };
                commands.push((of_line, point.command.clone()));
            }
        }
    }
    commands
}

/// The points of all lines, in the order of the axis.
fn points(curve: &Curve) -> Vec<&Point> {
    let mut points: Vec<&Point> = Vec::new();
    for point in curve.lines.iter().flat_map(|line| &line.points) {
        if points
            .iter()
            .all(|other| other.x != point.x || other.label != point.label)
        {
            points.push(point);
        }
    }
    if curve.vary != Vary::Ratio {
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
    }
    points
}

fn x_axis(curve: &Curve) -> Axis {
    let ticks: Vec<(f64, String)> = points(curve)
        .iter()
        .enumerate()
        .map(|(index, point)| (x_of(curve, point, index), point.label.clone()))
        .collect();
    Axis::along(curve.axis.clone(), curve.scale, &ticks)
}

/// Where names are the axis, their number is the place: 1:1 and 2:2 are the same part.
fn x_of(curve: &Curve, point: &Point, index: usize) -> f64 {
    if curve.vary == Vary::Ratio {
        index as f64
    } else {
        point.x
    }
}

/// A line of one figure of each point.
pub fn line(
    curve: &Curve,
    line: &Line,
    name: String,
    stroke: Stroke,
    figure: impl Fn(&Point) -> Option<Spread>,
    words: impl Fn(f64) -> String,
) -> PlotLine {
    let mut plotted = Vec::new();
    for (index, point) in points(curve).into_iter().enumerate() {
        let Some(spread) = line.like(point).and_then(&figure) else {
            continue;
        };
        plotted.push(PlotPoint {
            x: x_of(curve, point, index),
            y: spread.median,
            low: spread.min,
            high: spread.max,
            words: format!(
                "{name}, {}: {} ({})",
                point.label,
                words(spread.median),
                words::range(spread, &words)
            ),
        });
    }
    PlotLine {
        colour: colour(&line.target),
        name,
        stroke,
        points: plotted,
    }
}

/// The least and the most of all lines, and whether they are too far apart for equal distances.
pub fn extent(lines: &[PlotLine]) -> (f64, f64, bool) {
    let all = || lines.iter().flat_map(|line| &line.points);
    let most = all().map(|point| point.high).fold(0.0, f64::max);
    let least = all()
        .map(|point| point.low)
        .filter(|&low| low > 0.0)
        .fold(f64::INFINITY, f64::min);
    let least_median = all()
        .map(|point| point.y)
        .filter(|&y| y > 0.0)
        .fold(f64::INFINITY, f64::min);
    let most_median = all().map(|point| point.y).fold(0.0, f64::max);
    (least, most, most_median > 40.0 * least_median)
}

fn throughput_plot(curve: &Curve) -> Plot {
    let lines: Vec<PlotLine> = curve
        .lines
        .iter()
        .map(|it| {
            line(
                curve,
                it,
                it.target.clone(),
                Stroke::Solid,
                Point::rate,
                words::rate,
            )
        })
        .collect();
    let (least, most, is_log) = extent(&lines);
    Plot {
        about: format!("{}: life cycles per second by {}", title(curve), curve.axis),
        x: x_axis(curve),
        y: Axis::of_values("life cycles per second", least, most, is_log, many),
        zone: zone(curve),
        lines,
    }
}

/// From midway between the last point that has a core for each thread and the first that has not.
fn zone(curve: &Curve) -> Option<Zone> {
    if curve.vary != Vary::Threads {
        return None;
    }
    let points = points(curve);
    let first = points.iter().position(|point| point.oversubscribed)?;
    let before = points.get(first.checked_sub(1)?)?;
    Some(Zone {
        from: (before.x * points[first].x).sqrt(),
        words: "more threads than cores".into(),
    })
}

fn rivals(curve: &Curve) -> impl Iterator<Item = &Line> {
    curve.lines.iter().filter(|line| line.target != LEDGER)
}

fn throughput_table(curve: &Curve) -> Table {
    let ledger = curve.line(LEDGER);
    let has_bytes = curve.vary == Vary::Backlog;
    let mut heads = vec![curve.axis.clone()];
    heads.extend(curve.lines.iter().map(|line| line.target.clone()));
    if ledger.is_some() {
        heads.extend(rivals(curve).map(|rival| format!("epoq over {}", rival.target)));
    }
    if has_bytes {
        heads.extend(
            curve
                .lines
                .iter()
                .map(|line| format!("{}: bytes per message", line.target)),
        );
    }
    let row = |point: &&Point| {
        let mut cells = vec![Cell::new(point.label.clone())];
        cells.extend(
            curve
                .lines
                .iter()
                .map(|line| Cell::of(line.like(point).and_then(Point::rate), words::rate)),
        );
        if let Some(own) = ledger.map(|ledger| ledger.like(point)) {
            cells.extend(rivals(curve).map(|rival| {
                let over = own
                    .zip(rival.like(point))
                    .and_then(|(own, rival)| own.over(rival));
                Cell::of_ratio(over.as_ref())
            }));
        }
        if has_bytes {
            cells.extend(curve.lines.iter().map(|line| {
                let figure = line.like(point).and_then(Point::bytes_per_message);
                Cell::new(figure.map_or("–".into(), |bytes| format!("{bytes:.1}")))
            }));
        }
        Row {
            cells,
            is_over: point.oversubscribed,
        }
    };
    Table {
        heads,
        rows: points(curve).iter().map(row).collect(),
    }
}

fn throughput_findings(curve: &Curve) -> Vec<String> {
    let Some(ledger) = curve.line(LEDGER) else {
        return Vec::new();
    };
    let points = points(curve);
    let mut sentences = Vec::new();
    let on_cores: Vec<&Point> = points
        .iter()
        .copied()
        .filter(|point| !point.oversubscribed)
        .collect();
    if let (Some(first), Some(last)) = (on_cores.first(), on_cores.last())
        && first.label != last.label
        && curve.vary != Vary::Ratio
        && let (Some(first), Some(last)) = (ledger.like(first), ledger.like(last))
        && let (Some(from), Some(to)) = (first.rate(), last.rate())
    {
        // Pass by pass: a curve's points are measured in turn.
        let change = match last.over(first) {
            Some(change) if change.is_meaningful() => format!(": {}", words::ratio(change.median)),
            Some(change) if change.interval.is_none() => " (too few passes for a ratio)".to_owned(),
            _ => " (the passes differ too much for a ratio)".to_owned(),
        };
        sentences.push(format!(
            "The ledger goes from {} at {} to {} at {}{change}.",
            words::rate(from.median),
            first.label,
            words::rate(to.median),
            last.label,
        ));
    }
    let (mut wins, mut losses, mut silent) = (Vec::new(), Vec::new(), Vec::new());
    for rival in rivals(curve) {
        let ratios: Vec<(&str, Ratio)> = points
            .iter()
            .filter_map(|point| Some((&*point.label, ledger.like(point)?.over(rival.like(point)?)?)))
            .collect();
        let name = if rival.leases {
            rival.target.clone()
        } else {
            format!("{} (hand-over only, no lease)", rival.target)
        };
        match against(&ratios) {
            Against::Ahead(words) => wins.push(format!("{name} {words}")),
            Against::Behind(words) => losses.push(format!("{name} {words}")),
            Against::Nothing(why) => silent.push(format!("{name}, {why}")),
        }
    }
    if !wins.is_empty() {
        sentences.push(format!("The ledger is ahead of {}.", wins.join("; of ")));
    }
    if !losses.is_empty() {
        sentences.push(format!("The ledger loses to {}.", losses.join("; to ")));
    }
    if !silent.is_empty() {
        sentences.push(format!(
            "Nothing can be said against {}.",
            silent.join("; nor against ")
        ));
    }
    sentences
}

/// What the ratios over one rival say, and where.
#[derive(Debug, PartialEq)]
enum Against {
    /// At least as fast wherever a ratio can be stated.
    Ahead(String),
    /// Slower somewhere.
    Behind(String),
    /// No ratio can be stated, and why.
    Nothing(&'static str),
}

/// Of the ratios at the points of a curve. Those that cannot be stated are counted, too: a sentence about all points must not pass over
/// some in silence.
fn against(ratios: &[(&str, Ratio)]) -> Against {
    let stated: Vec<(&str, f64)> = ratios
        .iter()
        .filter(|(_, ratio)| ratio.is_meaningful())
        .map(|(label, ratio)| (*label, ratio.median))
        .collect();
    if stated.is_empty() {
        let is_short = ratios.iter().all(|(_, ratio)| ratio.interval.is_none());
        return Against::Nothing(if is_short {
            "for which there are too few passes"
        } else {
            "for its passes differ too much"
        });
    }
    let least = stated.iter().map(|(_, over)| *over).fold(f64::INFINITY, f64::min);
    let most = stated.iter().map(|(_, over)| *over).fold(0.0, f64::max);
    let all = ratios.len();
    let everywhere = match (stated.len(), all) {
        (1, 1) => "at the only point".to_owned(),
        (some, all) if some == all => format!("at all {all} points"),
        (1, all) => format!("at the one of {all} points that can be stated"),
        (some, all) => format!("at the {some} of {all} points that can be stated"),
    };
    let lost: Vec<String> = stated
        .iter()
        .filter(|(_, over)| *over < 1.0)
        .map(|(label, _)| (*label).to_owned())
        .collect();
    if lost.is_empty() {
        let (least, most) = (words::ratio(least), words::ratio(most));
        return Against::Ahead(if least == most {
            format!("{everywhere} ({least})")
        } else {
            format!("{everywhere} ({least} to {most})")
        });
    }
    let places = if lost.len() == stated.len() {
        everywhere
    } else {
        let unstated = match all - stated.len() {
            0 => String::new(),
            n => format!(" ({n} of {all} points cannot be stated)"),
        };
        format!("at {}{unstated}", words::list(&lost))
    };
    Against::Behind(format!("{places}, at worst {} as fast", words::ratio(least)))
}

fn bytes_finding(curve: &Curve) -> Option<String> {
    let of_line = |line: &Line| {
        let last = line
            .points
            .iter()
            .rev()
            .find_map(|point| Some((point, point.bytes_per_message()?)));
        last.map(|(point, bytes)| format!("{}: {bytes:.0} B with {} queued", line.target, point.label))
    };
    let each: Vec<String> = curve.lines.iter().filter_map(of_line).collect();
    (!each.is_empty()).then(|| {
        format!(
            "Memory allocated for each message beyond its body: {}.",
            each.join(", ")
        )
    })
}

/// Name, and how to find it.
type Quantile = (&'static str, fn(&LatencyRecord) -> u64);

const QUANTILES: [Quantile; 4] = [
    ("p50", |latency| latency.p50),
    ("p99", |latency| latency.p99),
    ("p99.9", |latency| latency.p999),
    ("max", |latency| latency.max),
];

fn latency_plot(curve: &Curve) -> Plot {
    let mut lines = Vec::new();
    for it in &curve.lines {
        for (stroke, (name, quantile)) in [Stroke::Dotted, Stroke::Solid].into_iter().zip(QUANTILES) {
            let name = format!("{} {name}", it.target);
            lines.push(line(
                curve,
                it,
                name,
                stroke,
                |point| point.latency(quantile),
                words::time,
            ));
        }
    }
    let (least, most, _) = extent(&lines);
    Plot {
        about: "Latency by arrivals in percent of capacity".into(),
        x: x_axis(curve),
        y: Axis::of_values(
            "latency from intended arrival to deletion",
            least,
            most,
            true,
            words::time,
        ),
        zone: None,
        lines,
    }
}

fn latency_table(curve: &Curve) -> Table {
    let mut heads = vec![curve.axis.clone()];
    for line in &curve.lines {
        heads.push(format!("{}: arrivals", line.target));
        heads.extend(
            QUANTILES
                .iter()
                .map(|(name, _)| format!("{} {name}", line.target)),
        );
    }
    let row = |point: &&Point| {
        let mut cells = vec![Cell::new(point.label.clone())];
        for line in &curve.lines {
            let own = line.like(point);
            cells.push(arrivals(line, own, point.x));
            for (_, quantile) in QUANTILES {
                cells.push(Cell::of(own.and_then(|own| own.latency(quantile)), words::time));
            }
        }
        Row {
            cells,
            is_over: point.oversubscribed,
        }
    };
    Table {
        heads,
        rows: points(curve).iter().map(row).collect(),
    }
}

/// What was due, and what came of it where a pass fell behind.
fn arrivals(line: &Line, own: Option<&Point>, percent: f64) -> Cell {
    let due = own
        .and_then(Point::asked)
        .map(|asked| asked.median)
        .or_else(|| line.capacity.map(|capacity| capacity * percent / 100.0));
    let Some(due) = due else {
        return Cell::new("–");
    };
    match own.filter(|own| own.behind > 0).and_then(Point::rate) {
        None => Cell::new(words::rate(due)),
        Some(done) => Cell::new(format!(
            "{} due, {} done",
            words::rate(due),
            words::rate(done.median)
        )),
    }
}

fn latency_findings(curve: &Curve) -> Vec<String> {
    let mut sentences = Vec::new();
    for line in &curve.lines {
        let (Some(capacity), Some(first), Some(last)) =
            (line.capacity, line.points.first(), line.points.last())
        else {
            continue;
        };
        let p99 = |point: &Point| {
            point
                .latency(|latency| latency.p99)
                .map_or("–".into(), |p99| words::time(p99.median))
        };
        let range = line.capacity_range.map_or(String::new(), |[min, max]| {
            let range = words::range(
                Spread {
                    median: capacity,
                    min,
                    max,
                },
                words::rate,
            );
            format!(" ({range})")
        });
        sentences.push(format!(
            "{} can take {}{range}; its p99 is {} at {} of that and {} at {}.",
            line.target,
            words::rate(capacity),
            p99(first),
            first.label,
            p99(last),
            last.label
        ));
        let behind = line.points.iter().filter(|point| point.behind > 0);
        let behind: Vec<String> = behind
            .map(|point| {
                format!(
                    "{} ({} of {} passes)",
                    point.label,
                    point.behind,
                    point.passes.len()
                )
            })
            .collect();
        if !behind.is_empty() {
            sentences.push(format!(
                "{} fell behind its schedule at {}: such a latency grows as long as the pass lasts.",
                line.target,
                words::list(&behind)
            ));
        }
    }
    sentences.extend(same_rate_finding(curve));
    let ledger = curve.line(LEDGER);
    for rival in rivals(curve) {
        let slower: Vec<String> = points(curve)
            .into_iter()
            .filter(|point| {
                let p99 = |line: &Line| {
                    line.like(point)?
                        .latency(|latency| latency.p99)
                        .map(|p99| p99.median)
                };
                ledger
                    .and_then(p99)
                    .zip(p99(rival))
                    .is_some_and(|(own, rival)| own > rival)
            })
            .map(|point| point.label.clone())
            .collect();
        if !slower.is_empty() {
            sentences.push(format!(
                "The ledger's p99 is above that of {} at {}, each at its own capacity.",
                rival.target,
                words::list(&slower)
            ));
        }
    }
    sentences
}

/// What can be compared between lines.
fn same_rate_finding(curve: &Curve) -> Option<String> {
    let points = || curve.lines.iter().filter_map(|line| line.at_same_rate.as_ref());
    let asked = Spread::of(points().filter_map(Point::asked).map(|asked| asked.median))?;
    let each: Vec<String> = curve
        .lines
        .iter()
        .filter_map(|line| {
            let point = line.at_same_rate.as_ref()?;
            let p99 = point.latency(|latency| latency.p99)?;
            let p50 = point.latency(|latency| latency.p50)?;
            let late = if point.behind > 0 {
                ", behind its schedule"
            } else {
                ""
            };
            Some(format!(
                "{}: {} and {} ({}){late}",
                line.target,
                words::time(p50.median),
                words::time(p99.median),
                words::range(p99, words::time)
            ))
        })
        .collect();
    Some(format!(
        "All at one rate, {}, {} of what the slowest can take, p50 and p99 are: {}.",
        words::rate(asked.median),
        points().next()?.label,
        each.join("; ")
    ))
}

/// A part of the readings that a plot has room for.
fn thinned(line: &Line) -> Vec<crate::suite::results::Reading> {
    const ROOM: usize = 240;
    let readings: Vec<_> = line
        .points
        .iter()
        .flat_map(|point| &point.passes)
        .max_by_key(|pass| pass.readings.len())
        .map(|pass| pass.readings.clone())
        .unwrap_or_default();
    let step = readings.len().div_ceil(ROOM).max(1);
    readings.into_iter().step_by(step).collect()
}

fn memory_plots(curve: &Curve) -> Vec<Plot> {
    let mut lines = Vec::new();
    let mut end: f64 = 0.0;
    for it in &curve.lines {
        let readings = thinned(it);
        end = end.max(readings.last().map_or(0.0, |reading| reading.seconds));
        let mut add = |name: String, colour, bytes_of: fn(&crate::suite::results::Reading) -> Option<u64>| {
            let points: Vec<PlotPoint> = readings
                .iter()
                .filter_map(|reading| {
                    let y = bytes_of(reading)? as f64 / f64::from(1 << 20);
                    Some(PlotPoint {
                        x: reading.seconds,
                        y,
                        low: y,
                        high: y,
                        words: String::new(),
                    })
                })
                .collect();
            if !points.is_empty() {
                lines.push(PlotLine {
                    name,
                    colour,
                    stroke: Stroke::Plain,
                    points,
                });
            }
        };
        add(
            format!("{}, own count", it.target),
            colour(&it.target),
            |reading| reading.target_bytes,
        );
        add(format!("{}, allocator's", it.target), 4, |reading| {
            reading.allocated_bytes
        });
        add(format!("{}: process", it.target), 6, |reading| {
            reading.resident_bytes
        });
    }
    if lines.is_empty() {
        return Vec::new();
    }
    let (least, most, _) = extent(&lines);
    let x = Axis::of_values(curve.axis.clone(), 0.0, end, false, short);
    let x = Axis {
        max: end.max(1e-3),
        ticks: x.ticks.into_iter().filter(|tick| tick.0 <= end * 1.001).collect(),
        ..x
    };
    vec![Plot {
        about: "Memory over time".into(),
        x,
        y: Axis::of_values("memory (MiB)", least, most, false, short),
        zone: None,
        lines,
    }]
}

fn memory_table(curve: &Curve) -> Table {
    let heads = [
        "target",
        "after",
        "messages",
        "own count",
        "allocator's",
        "process",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut rows = Vec::new();
    for line in &curve.lines {
        let readings = thinned(line);
        let last = readings.len().saturating_sub(1);
        for part in 0..=4_usize {
            let Some(reading) = readings.get(last * part / 4) else {
                continue;
            };
            let of =
                |figure: Option<u64>| Cell::new(figure.map_or("–".into(), |figure| bytes(figure as f64)));
            rows.push(Row {
                cells: vec![
                    Cell::new(line.target.clone()),
                    Cell::new(format!("{:.1} s", reading.seconds)),
                    Cell::new(many(words::three_digits(reading.messages as f64))),
                    of(reading.target_bytes),
                    of(reading.allocated_bytes),
                    of(reading.resident_bytes),
                ],
                is_over: false,
            });
        }
    }
    Table { heads, rows }
}

fn memory_findings(curve: &Curve) -> Vec<String> {
    let mut sentences = Vec::new();
    for line in &curve.lines {
        let readings = thinned(line);
        let Some(last) = readings.last() else { continue };
        let middle = |part: &[f64]| Spread::of(part.iter().copied()).map_or(0.0, |spread| spread.median);
        let trend = |what: &str, bytes_of: fn(&crate::suite::results::Reading) -> Option<u64>| {
            let all: Vec<f64> = readings
                .iter()
                .filter_map(|reading| bytes_of(reading).map(|bytes| bytes as f64))
                .collect();
            let quarter = all.len() / 4;
            // The first quarter is warming up: the second is what the last is held against.
            let (before, after) = (
                middle(all.get(quarter..2 * quarter)?),
                middle(all.get(all.len() - quarter..)?),
            );
            (quarter > 0).then(|| {
                format!(
                    "{what} was {} in the second quarter of the time and {} in the last ({})",
                    bytes(before),
                    bytes(after),
                    words::gain(after / before - 1.0)
                )
            })
        };
        let trends: Vec<String> = [
            trend("its own count", |reading| reading.target_bytes),
            trend("what was asked of the allocator", |reading| {
                reading.allocated_bytes
            }),
        ]
        .into_iter()
        .flatten()
        .collect();
        if trends.is_empty() {
            continue;
        }
        sentences.push(format!(
            "{}: {} messages in {:.0} s; {}.",
            line.target,
            many(words::three_digits(last.messages as f64)),
            last.seconds,
            trends.join("; ")
        ));
    }
    if sentences.is_empty() {
        sentences.push("This system tells nothing about memory.".into());
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curve_has_a_plot_a_table_and_a_sentence() {
        let results = Results::sample();
        for curve in &results.curves {
            let section = section(curve, &results);
            assert!(!section.plots.is_empty(), "{}", curve.id);
            assert!(
                section.sentences.len() >= 2,
                "{}: {:?}",
                curve.id,
                section.sentences
            );
            assert!(!section.table.rows.is_empty(), "{}", curve.id);
            let columns = section.table.heads.len();
            assert!(
                section.table.rows.iter().all(|row| row.cells.len() == columns),
                "{}",
                curve.id
            );
            assert!(
                section
                    .commands
                    .iter()
                    .all(|(_, command)| command.starts_with("epoq-bench "))
            );
        }
    }

    #[test]
    fn loads_show_their_range_and_what_was_behind() {
        let mut results = Results::sample();
        let curve = results
            .curves
            .iter_mut()
            .find(|curve| curve.vary == Vary::Load)
            .unwrap();
        let line = &mut curve.lines[0];
        line.capacity_range = Some([1e6, 3e6]);
        let point = line.points.last_mut().unwrap();
        point.passes.truncate(1);
        let mut slower = point.passes[0].clone();
        slower.latency.as_mut().unwrap().p99 *= 10;
        point.passes.push(slower);
        for pass in &mut point.passes {
            pass.asked = Some(2.0 * pass.rate());
        }
        point.behind = 1;
        line.at_same_rate = Some(point.clone());
        let target = line.target.clone();
        let curve = curve.clone();
        let text = section(&curve, &results).sentences.join(" ");
        for words in [
            "(1–3 M/s)",
            &format!("{target} fell behind its schedule at"),
            "(1 of 2 passes)",
            "All at one rate",
        ] {
            assert!(text.contains(words), "{words:?}: {text}");
        }
        let table = latency_table(&curve);
        let cells = &table.rows.last().unwrap().cells;
        assert!(cells[1].text.contains(" due, "), "{cells:?}");
        assert!(cells.iter().any(|cell| cell.range.is_some()), "{cells:?}");
    }

    #[test]
    fn what_was_left_out_is_said() {
        let mut results = Results::sample();
        results.curves[0].left_out = Some("10 M left out".to_owned());
        let sentences = section(&results.curves[0], &results).sentences;
        assert!(sentences.contains(&"10 M left out.".to_owned()), "{sentences:?}");
    }

    #[test]
    fn a_loss_is_said() {
        let mut results = Results::sample();
        let curve = results.curve_mut("batch").unwrap();
        for line in &mut curve.lines {
            let times = if line.target == LEDGER { 1000.0 } else { 1.0 };
            for pass in line.points.iter_mut().flat_map(|point| &mut point.passes) {
                (pass.messages, pass.seconds) = (1_000_000, times);
            }
        }
        let curve = results.curve("batch").unwrap();
        let sentences = section(curve, &results).sentences.join(" ");
        assert!(
            sentences.contains("The ledger loses to locked at all 2 points, at worst 0.001× as fast"),
            "{sentences}"
        );
    }

    #[test]
    fn the_books_are_not_made_smaller_than_they_are() {
        let results = Results::sample();
        let said = &section(results.curve("time").unwrap(), &results).sentences[0];
        assert!(
            said.contains("each receiver keeps up to a bit for each message of each sender"),
            "{said}"
        );
    }

    #[test]
    fn points_that_cannot_be_stated_are_not_passed_over() {
        let ratio = |each: [f64; 3]| Ratio::new(String::new(), each.to_vec());
        let (ahead, more, behind, noisy) = (
            ratio([2.0, 2.0, 2.0]),
            ratio([3.0, 3.0, 3.0]),
            ratio([0.5, 0.5, 0.5]),
            ratio([0.5, 1.0, 2.0]),
        );
        let words = |ratios: &[&Ratio]| {
            let labels = ["a", "b", "c", "d"];
            let ratios: Vec<_> = labels
                .into_iter()
                .zip(ratios.iter().map(|&ratio| ratio.clone()))
                .collect();
            match against(&ratios) {
                Against::Ahead(words) => format!("ahead {words}"),
                Against::Behind(words) => format!("behind {words}"),
                Against::Nothing(why) => why.to_owned(),
            }
        };
        assert_eq!(words(&[&ahead, &more]), "ahead at all 2 points (2.00× to 3.00×)");
        assert_eq!(words(&[&ahead, &ahead]), "ahead at all 2 points (2.00×)");
        assert_eq!(
            words(&[&ahead, &noisy, &more]),
            "ahead at the 2 of 3 points that can be stated (2.00× to 3.00×)"
        );
        assert_eq!(
            words(&[&noisy, &ahead]),
            "ahead at the one of 2 points that can be stated (2.00×)"
        );
        assert_eq!(
            words(&[&behind, &behind]),
            "behind at all 2 points, at worst 0.50× as fast"
        );
        assert_eq!(
            words(&[&behind, &noisy]),
            "behind at the one of 2 points that can be stated, at worst 0.50× as fast"
        );
        assert_eq!(
            words(&[&behind, &ahead, &noisy]),
            "behind at a (1 of 3 points cannot be stated), at worst 0.50× as fast"
        );
        assert_eq!(words(&[&noisy]), "for its passes differ too much");
        let single = Ratio::new(String::new(), vec![2.0]);
        assert_eq!(words(&[&single]), "for which there are too few passes");
    }
}
