//! Coherence traffic per message, counted: `epoq-bench lines`, in the build with `--cfg lines`.
//!
//! One thread plays all workers, one operation each in turn, so that a run is the same every time and sixty-four workers fit on
//! any machine. What is counted is what `epoq::lines` says: reads and writes of cache lines that another worker touched last.
//! The clock is moved by hand, as if each worker made half a million life cycles a second.
//!
//! ```text
//! step     0        1        2        3        4
//! worker 0 send     receive  delete   send     receive
//! worker 1 –        send     receive  delete   send       each begins one operation later than the one before,
//! worker 2 –        –        send     receive  delete     so that all kinds of operations alternate
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use epoq::{
    Broker, ManualClock, Queue, QueueConfig, ReceiptHandle, Turn, Worker,
    lines::{self, Tally},
};
use serde::Serialize;

use crate::{
    environment,
    page::{
        axes::Axis,
        plot::{Plot, PlotLine, PlotPoint, Stroke},
    },
    suite::axis::Scale,
    topology::{Role, Seat, Topology},
};

/// `epoq-bench lines`
#[derive(Clone, Debug, Args)]
pub struct Lines {
    /// Workers to simulate, 2 to 64
    #[arg(long, value_delimiter = ',', default_values_t = [2_usize, 4, 8, 16, 32, 64], value_name = "N,N,…")]
    pub workers: Vec<usize>,
    /// Life cycles of each worker that are counted, after half as many that are not
    #[arg(long, default_value_t = 4_000, value_name = "N")]
    pub cycles: u64,
    /// Write lines.json, lines.md and a plot, lines.svg, there, besides printing the table
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
}

/// Who sends and who receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Shape {
    Lifecycle,
    Pipeline,
    /// As `Pipeline`, with receivers who are never behind.
    Follow,
    Steal,
}

/// How calls are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Style {
    Single,
    #[serde(rename = "turns-of-64")]
    TurnsOf64,
    #[serde(rename = "batches-of-10")]
    BatchesOf10,
}

const SCENARIOS: &[(Shape, Style)] = &[
    (Shape::Lifecycle, Style::Single),
    (Shape::Lifecycle, Style::TurnsOf64),
    (Shape::Lifecycle, Style::BatchesOf10),
    (Shape::Pipeline, Style::Single),
    (Shape::Pipeline, Style::BatchesOf10),
    (Shape::Follow, Style::Single),
    (Shape::Follow, Style::BatchesOf10),
    (Shape::Steal, Style::Single),
    (Shape::Steal, Style::BatchesOf10),
];

const SEND: &str = "send";
const RECEIVE: &str = "receive";
const DELETE: &str = "delete";
/// Beginning and ending turns: the pin, and what the collector runs in it.
const TURN: &str = "turn";
const OPERATIONS: &[&str] = &[SEND, RECEIVE, DELETE, TURN];

/// Operations of each worker to a millisecond.
const STEPS_PER_MS: u64 = 1_500;
/// Messages per sender that wait when the counting begins, where senders and receivers are different workers.
const BACKLOG: u64 = 1_000;
/// Places shown of each scenario.
const PLACES: usize = 6;
const BODY: [u8; 64] = [7; 64];
const VISIBILITY: Duration = Duration::from_secs(3600);

/// Remote accesses per message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Rate {
    reads: f64,
    writes: f64,
}

/// One place in the ledger's source, and what was remote there.
#[derive(Clone, Debug, Serialize)]
struct Place {
    operation: &'static str,
    place: String,
    code: String,
    #[serde(flatten)]
    rate: Rate,
}

/// What came of one scenario with so many workers.
#[derive(Clone, Debug, Serialize)]
struct Figure {
    scenario: Shape,
    calls: Style,
    workers: usize,
    messages: u64,
    /// Receives that found nothing.
    empty_receives: u64,
    /// Remote accesses to the ledger's lines per message, all operations together.
    ledger: Rate,
    /// The same by operation.
    by_operation: BTreeMap<&'static str, Rate>,
    /// Remote accesses to the epoch crate's lines per message, as its stand-in has them.
    collector: Rate,
    /// Accesses noted per message, remote or not.
    accesses: f64,
    places: Vec<Place>,
}

/// A simulated worker.
struct Actor<'w> {
    worker: &'w Worker,
    seat: Seat,
    turn: Option<Turn<'w>>,
    handles: Vec<ReceiptHandle>,
    /// Steps to wait before it begins.
    waits: usize,
    steps: u64,
}

struct Play<'w> {
    queue: &'w Queue,
    style: Style,
    /// Calls that a sender makes in its step: as many as all receivers take in theirs.
    sends: u64,
    actors: Vec<Actor<'w>>,
    deleted: u64,
    empty: u64,
}

/// Counts all scenarios.
pub fn count(options: &Lines) -> anyhow::Result<()> {
    let mut figures = Vec::new();
    for &(shape, style) in SCENARIOS {
        for &workers in &options.workers {
            ensure!((2..=64).contains(&workers), "--workers are 2 to 64");
            let figure = simulate(shape, style, workers, options.cycles)?;
            eprintln!(
                "{shape:?}, {style:?}, {workers} workers: {:.3} reads, {:.3} writes; collector {:.3}, {:.3}",
                figure.ledger.reads, figure.ledger.writes, figure.collector.reads, figure.collector.writes
            );
            figures.push(figure);
        }
    }
    let commit = environment::commit();
    let text = markdown(&figures, &commit, options);
    print!("{text}");
    if let Some(folder) = &options.to {
        fs::create_dir_all(folder)?;
        let record = serde_json::json!({"command": COMMAND, "commit": commit, "cycles": options.cycles, "figures": figures});
        let record = serde_json::to_string_pretty(&record)? + "\n";
        let picture = plot(&figures).picture();
        for (name, content) in [("lines.json", record), ("lines.md", text), ("lines.svg", picture)] {
            let file = folder.join(name);
            fs::write(&file, content).with_context(|| file.display().to_string())?;
        }
    }
    Ok(())
}

const COMMAND: &str = "cargo xtask lines";

fn simulate(shape: Shape, style: Style, workers: usize, cycles: u64) -> anyhow::Result<Figure> {
    lines::forget();
    let clock = ManualClock::new();
    let broker = Broker::builder()
        .clock(&clock)
        .partitions(workers)
        .min_width(workers)
        .memory_limit(4 << 30)
        .seed(1)
        .build()
        .map_err(|error| anyhow!("{error:?}"))?;
    let config = QueueConfig {
        in_flight_max: None,
        ..QueueConfig::default()
    };
    let queue = broker
        .create_queue("lines", config)
        .map_err(|error| anyhow!("{error:?}"))?;
    let topology = match shape {
        Shape::Lifecycle => Topology::Alike { threads: workers },
        Shape::Pipeline | Shape::Follow => Topology::Pipeline {
            producers: workers / 2,
            consumers: workers - workers / 2,
        },
        Shape::Steal => Topology::Steal {
            producers: 1,
            consumers: workers - 1,
        },
    };
    let seats = topology.seats(workers);
    let registered = seats
        .iter()
        .map(|seat| broker.worker_at(seat.home))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| anyhow!("{error:?}"))?;
    let mut play = Play {
        queue: &queue,
        style,
        sends: (topology.receivers() / topology.senders()) as u64,
        actors: registered
            .iter()
            .zip(seats)
            .map(|(worker, seat)| Actor {
                worker,
                seat,
                turn: None,
                handles: Vec::new(),
                waits: seat.index % 3,
                steps: 0,
            })
            .collect(),
        deleted: 0,
        empty: 0,
    };
    if topology.is_split() && shape != Shape::Follow {
        for at in 0..topology.senders() {
            play.act(at, SEND, |actor, queue| {
                (0..BACKLOG).try_for_each(|_| actor.send(queue, 1))
            })?;
        }
    }
    // A life cycle is three operations.
    let steps = cycles * 3;
    for step in 0..steps / 2 + steps {
        if step == steps / 2 {
            lines::reset();
            (play.deleted, play.empty) = (0, 0);
        }
        for at in 0..workers {
            play.step(at)?;
        }
        if step % STEPS_PER_MS == 0 {
            lines::act_as(None);
            clock.advance(Duration::from_millis(1));
        }
    }
    let (messages, empty_receives) = (play.deleted, play.empty);
    for at in 0..workers {
        play.act(at, TURN, |actor, _| {
            actor.turn = None;
            Ok(())
        })?;
    }
    lines::act_as(None);
    ensure!(messages > 0, "nothing was received");
    Ok(figure(shape, style, workers, messages, empty_receives))
}

fn figure(shape: Shape, style: Style, workers: usize, messages: u64, empty_receives: u64) -> Figure {
    let rate = |tally: Tally| Rate {
        reads: tally.remote_reads as f64 / messages as f64,
        writes: tally.remote_writes as f64 / messages as f64,
    };
    let plus = |a: Rate, b: Rate| Rate {
        reads: a.reads + b.reads,
        writes: a.writes + b.writes,
    };
    let rows = lines::rows();
    // What the model notes by itself is the stand-in's.
    let is_collector = |file: &str| file.ends_with("core/src/lines.rs");
    let (mut ledger, mut collector, mut accesses) = (Rate::default(), Rate::default(), 0);
    let mut by_operation: BTreeMap<_, _> = OPERATIONS
        .iter()
        .map(|&operation| (operation, Rate::default()))
        .collect();
    let mut places = Vec::new();
    for row in &rows {
        let here = rate(row.tally);
        if is_collector(row.file) {
            collector = plus(collector, here);
            continue;
        }
        accesses += row.tally.accesses;
        ledger = plus(ledger, here);
        let of_operation = by_operation.entry(row.operation).or_default();
        *of_operation = plus(*of_operation, here);
        if here != Rate::default() {
            places.push(Place {
                operation: row.operation,
                place: format!("{}:{}", row.file.trim_start_matches("core/src/"), row.line),
                code: code(row.file, row.line),
                rate: here,
            });
        }
    }
    let weight = |place: &Place| place.rate.reads + place.rate.writes;
    places.sort_by(|a, b| {
        weight(b)
            .total_cmp(&weight(a))
            .then_with(|| (a.operation, &a.place).cmp(&(b.operation, &b.place)))
    });
    places.truncate(PLACES);
    Figure {
        scenario: shape,
        calls: style,
        workers,
        messages,
        empty_receives,
        ledger,
        by_operation,
        collector,
        accesses: accesses as f64 / messages as f64,
        places,
    }
}

/// The source line of an access.
fn code(file: &str, line: u32) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join(file)).unwrap_or_default();
    let line = text.lines().nth(line as usize - 1).unwrap_or_default();
    line.trim().to_owned()
}

impl<'w> Play<'w> {
    /// One operation of one worker.
    fn step(&mut self, at: usize) -> anyhow::Result<()> {
        let (style, sends) = (self.style, self.sends);
        let many = if style == Style::BatchesOf10 { 10 } else { 1 };
        let actor = &mut self.actors[at];
        if actor.waits > 0 {
            actor.waits -= 1;
            return Ok(());
        }
        let step = actor.steps;
        actor.steps += 1;
        let operation = match actor.seat.role {
            Role::Cycler => [SEND, RECEIVE, DELETE][(step % 3) as usize],
            // As often as a receiver receives.
            Role::Producer => [SEND, TURN][(step % 2) as usize],
            Role::Consumer => [RECEIVE, DELETE][(step % 2) as usize],
        };
        self.act(at, operation, |actor, queue| match operation {
            SEND if actor.seat.role == Role::Cycler => actor.send(queue, many),
            SEND => (0..sends).try_for_each(|_| actor.send(queue, many)),
            RECEIVE => actor.receive(queue, many),
            DELETE => actor.delete(queue),
            _ => Ok(()),
        })?;
        let actor = &self.actors[at];
        match operation {
            RECEIVE if actor.handles.is_empty() => self.empty += 1,
            RECEIVE => self.deleted += actor.handles.len() as u64,
            _ => {}
        }
        Ok(())
    }

    /// Does something as worker `at`, in a turn.
    fn act(
        &mut self,
        at: usize,
        operation: &'static str,
        f: impl FnOnce(&mut Actor<'w>, &'w Queue) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (queue, style) = (self.queue, self.style);
        let actor = &mut self.actors[at];
        lines::act_as(Some(actor.seat.index));
        lines::during(TURN);
        let ends = style != Style::TurnsOf64 || actor.steps.is_multiple_of(3 * 64);
        if actor.turn.is_none() && operation != TURN {
            actor.turn = Some(actor.worker.begin());
        }
        lines::during(operation);
        let done = f(actor, queue);
        lines::during(TURN);
        if ends {
            actor.turn = None;
        }
        done
    }
}

impl Actor<'_> {
    fn turn(&self) -> anyhow::Result<&Turn<'_>> {
        self.turn.as_ref().context("no turn")
    }

    fn send(&mut self, queue: &Queue, many: usize) -> anyhow::Result<()> {
        let turn = self.turn()?;
        if many == 1 {
            turn.send(queue, &BODY).map_err(|error| anyhow!("{error:?}"))?;
        } else {
            let bodies = [BODY; 10];
            let sent = turn
                .send_batch(queue, &bodies[..many])
                .map_err(|error| anyhow!("{error:?}"))?;
            ensure!(sent.iter().all(Result::is_ok), "a send was refused");
        }
        Ok(())
    }

    fn receive(&mut self, queue: &Queue, many: usize) -> anyhow::Result<()> {
        let turn = self.turn.as_ref().context("no turn")?;
        if many == 1 {
            let received = turn
                .receive_one(queue, VISIBILITY)
                .map_err(|error| anyhow!("{error:?}"))?;
            if let Some(delivery) = received {
                ensure!(delivery.body() == BODY, "a body was altered");
                self.handles.push(delivery.receipt_handle());
            }
        } else {
            let received = turn
                .receive(queue, many, VISIBILITY)
                .map_err(|error| anyhow!("{error:?}"))?;
            for delivery in received.iter() {
                ensure!(delivery.body() == BODY, "a body was altered");
                self.handles.push(delivery.receipt_handle());
            }
        }
        Ok(())
    }

    fn delete(&mut self, queue: &Queue) -> anyhow::Result<()> {
        let turn = self.turn.as_ref().context("no turn")?;
        match self.handles.as_slice() {
            [] => {}
            [one] => {
                turn.delete(queue, one).map_err(|error| anyhow!("{error:?}"))?;
            }
            many => {
                let deleted = turn
                    .delete_batch(queue, many)
                    .map_err(|error| anyhow!("{error:?}"))?;
                ensure!(deleted.iter().all(Result::is_ok), "{deleted:?}");
            }
        }
        self.handles.clear();
        Ok(())
    }
}

fn markdown(figures: &[Figure], commit: &str, options: &Lines) -> String {
    let mut text = format!(
        "# Remote cache lines per message\n\n\
         Made by `{COMMAND}` at commit {commit}: {} life cycles of each worker counted, after half as many that were not, 64-byte bodies, \
         seed 1. One thread plays all workers, one operation each in turn, so the figures are the same on every machine to within a few thousandths: some work goes by elapsed milliseconds.\n\n\
         A *remote read* is a read of a 64-byte line that another worker wrote since; a *remote write* a write to a line that another \
         one held. Noted are all atomics and tracked cells of the ledger, bodies, segment headers, and the counts of shares taken per \
         segment. Not seen are the allocator, locks (off the path of these operations) and what a compare-and-swap that fails repeats: \
         operations do not overlap here. *Collector* is what crossbeam-epoch does with lines of its own, by a stand-in that repeats its \
         pins, advances and bags; advances always succeed in it. *Pipeline* and *steal* have a thousand messages waiting per sender; in \
         *follow*, a pipeline too, none wait: each is received in the step after it was sent.\n\n\
         ![Remote reads and writes per message, by workers](lines.svg)\n\n\
         | scenario | calls | workers | reads | writes | send r/w | receive r/w | delete r/w | turn r/w | collector r/w | empty receives per message |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
        options.cycles
    );
    let pair = |rate: Rate| format!("{:.3} / {:.3}", rate.reads, rate.writes);
    for figure in figures {
        let of = |operation| pair(figure.by_operation.get(operation).copied().unwrap_or_default());
        let _ = writeln!(
            text,
            "| {} | {} | {} | **{:.3}** | **{:.3}** | {} | {} | {} | {} | {} | {:.2} |",
            word(figure.scenario),
            word(figure.calls),
            figure.workers,
            figure.ledger.reads,
            figure.ledger.writes,
            of(SEND),
            of(RECEIVE),
            of(DELETE),
            of(TURN),
            pair(figure.collector),
            figure.empty_receives as f64 / figure.messages as f64,
        );
    }
    let most = options.workers.iter().copied().max();
    for figure in figures.iter().filter(|figure| Some(figure.workers) == most) {
        let _ = writeln!(
            text,
            "\n## Where: {}, {}, {} workers\n\n| operation | place in `core/src` | code | reads | writes |\n|---|---|---|---|---|",
            word(figure.scenario),
            word(figure.calls),
            figure.workers
        );
        for place in &figure.places {
            let _ = writeln!(
                text,
                "| {} | {} | `{}` | {:.4} | {:.4} |",
                place.operation,
                place.place,
                place.code.replace('|', "\\|"),
                place.rate.reads,
                place.rate.writes
            );
        }
    }
    text
}

/// Reads and writes together, by workers.
fn plot(figures: &[Figure]) -> Plot {
    let total = |figure: &Figure| figure.ledger.reads + figure.ledger.writes;
    // There are eight colours: who follows has those of the pipeline that it is.
    let coloured: Vec<_> = SCENARIOS
        .iter()
        .filter(|(shape, _)| *shape != Shape::Follow)
        .collect();
    let colour = |shape, style| {
        let of = if shape == Shape::Follow {
            Shape::Pipeline
        } else {
            shape
        };
        coloured
            .iter()
            .position(|&&found| found == (of, style))
            .unwrap_or(0)
    };
    let lines: Vec<PlotLine> = SCENARIOS
        .iter()
        .map(|&(shape, style)| PlotLine {
            name: format!("{}, {}", word(shape), word(style)),
            colour: colour(shape, style),
            stroke: if shape == Shape::Follow {
                Stroke::Dotted
            } else {
                Stroke::Solid
            },
            points: figures
                .iter()
                .filter(|figure| (figure.scenario, figure.calls) == (shape, style))
                .map(|figure| PlotPoint {
                    x: figure.workers as f64,
                    y: total(figure),
                    low: total(figure),
                    high: total(figure),
                    words: format!("{} workers: {:.3}", figure.workers, total(figure)),
                })
                .collect(),
        })
        .collect();
    let ys = || figures.iter().map(total);
    let workers: Vec<(f64, String)> = figures
        .iter()
        .map(|figure| figure.workers)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(|workers| (workers as f64, workers.to_string()))
        .collect();
    Plot {
        about: "Remote reads and writes of cache lines per message, by workers".into(),
        x: Axis::along("workers", Scale::Log, &workers),
        y: Axis::of_values(
            "remote cache lines per message",
            ys().fold(f64::INFINITY, f64::min),
            ys().fold(0.0, f64::max),
            true,
            |lines| format!("{lines}"),
        ),
        lines,
        zone: None,
    }
}

/// As in the JSON.
fn word(value: impl Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(|text| text.replace('-', " ")))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_the_same_every_time() {
        for &(shape, style) in SCENARIOS {
            let run = || {
                let figure = simulate(shape, style, 4, 1_000).unwrap();
                (figure.messages, figure.ledger, figure.collector)
            };
            assert_eq!(run(), run(), "{shape:?} {style:?}");
        }
    }

    #[test]
    fn a_stolen_message_has_remote_lines() {
        let figure = simulate(Shape::Steal, Style::Single, 2, 2_000).unwrap();
        assert!(figure.by_operation[RECEIVE].reads >= 1.0, "{figure:?}");
    }
}
