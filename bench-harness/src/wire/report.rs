//! What a run came to, for people and for programs.

use std::{fmt::Write as _, time::Duration};

use comfy_table::{Attribute, Cell};
use serde_json::{Map, Value, json};

use super::{
    command::{Rate, Wire, operation_names},
    pass::{Pass, Sizes},
};
use crate::{
    aim::{Aim, Met},
    compare::Ratio,
    environment::Machine,
    progress::human,
    report::{right, table},
};

/// All passes of one server under one load.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) target: &'static str,
    /// Somebody else's server, measured for comparison: where it is wrong, that is said and not counted.
    pub(super) is_rival: bool,
    pub(super) passes: Vec<Pass>,
}

impl Series {
    pub(super) fn new(target: &'static str) -> Self {
        Self {
            target,
            is_rival: false,
            passes: Vec::new(),
        }
    }

    /// Of a figure that each pass has, the one in the middle.
    pub(super) fn median(&self, figure: impl Fn(&Pass) -> f64) -> Option<f64> {
        self.median_of(|pass| Some(figure(pass)))
    }

    /// All passes, or a rival's right ones.
    fn counted(&self) -> impl Iterator<Item = &Pass> {
        self.passes
            .iter()
            .filter(|pass| pass.verified() || !self.is_rival)
    }

    fn median_of(&self, figure: impl Fn(&Pass) -> Option<f64>) -> Option<f64> {
        let each: Option<Vec<f64>> = self.counted().map(figure).collect();
        let each = each.filter(|each| !each.is_empty())?;
        Some(Ratio::new(String::new(), each).median)
    }

    /// This one's figure over another's, pass by pass.
    fn ratio(&self, other: &Self, what: &str, figure: impl Fn(&Pass) -> Option<f64>) -> Option<Ratio> {
        let pairs = self.passes.iter().zip(&other.passes);
        let each: Option<Vec<f64>> = pairs
            .filter(|(_, pass)| pass.verified() || !other.is_rival)
            .map(|(one, other)| Some(figure(one)? / figure(other).filter(|&other| other > 0.0)?))
            .collect();
        let each = each.filter(|each| !each.is_empty() && each.iter().all(|ratio| *ratio > 0.0))?;
        Some(Ratio::new(
            format!("{}/{}: {what}", self.target, other.target),
            each,
        ))
    }

    /// Nothing is wrong in what is counted.
    fn verified(&self) -> bool {
        self.counted().all(Pass::verified)
    }

    fn to_json(&self) -> Value {
        let figure = |value: Option<f64>| json!(value);
        json!({
            "requests_per_second": figure(self.median(Pass::requests_per_second)),
            "messages_per_second": figure(self.median(|pass| pass.messages as f64 / pass.seconds)),
            "server_cpu_us_per_request": figure(self.median_of(Pass::server_us)),
            "client_cpu_us_per_request": figure(self.median_of(Pass::client_us)),
            "p50_ns": figure(self.median_of(|pass| quantile(pass, 0.5))),
            "p99_ns": figure(self.median_of(|pass| quantile(pass, 0.99))),
            "verified": self.verified(),
            "passes": self.passes.iter().map(pass_json).collect::<Vec<_>>(),
        })
    }
}

fn quantile(pass: &Pass, quantile: f64) -> Option<f64> {
    pass.latency.quantile_ns(quantile).map(|ns| ns as f64)
}

fn pass_json(pass: &Pass) -> Value {
    let books = &pass.books;
    let requests: Map<String, Value> = operation_names()
        .into_iter()
        .zip(pass.requests)
        .map(|(name, requests)| (name.to_owned(), requests.into()))
        .collect();
    json!({
        "requests": requests,
        "messages": pass.messages,
        "seconds": pass.seconds,
        "latency_ns": pass.latency.to_json(),
        "server_cpu_seconds": pass.server_cpu.map(|time| time.as_secs_f64()),
        "client_cpu_seconds": pass.client_cpu.map(|time| time.as_secs_f64()),
        "other_work": pass.other_work,
        "books": {
            "sent": books.sent, "received": books.received, "deleted": books.deleted, "of_these_drained": books.drained,
            "remaining": books.remaining, "unanswered": books.unanswered, "events_judged": books.events,
        },
        "unserved": pass.unserved,
        "reconnects": pass.reconnects,
        "findings": pass.findings,
    })
}

/// One load of the open loop.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// `at 50 % of its own capacity`
    pub(super) title: String,
    /// Requests per second.
    pub(super) rate: f64,
    pub(super) series: Series,
}

/// All that was measured with one number of messages per call.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) batch: usize,
    pub(super) sizes: [Sizes; 3],
    /// The server under test, the echo, perhaps moto.
    pub(super) closed: Vec<Series>,
    pub(super) open: Vec<Load>,
}

/// A ratio, and what it should be.
struct Judged {
    ratio: Ratio,
    aim: Option<Aim>,
}

impl Judged {
    /// `None` without an aim.
    fn met(&self) -> Option<Met> {
        self.aim.map(|aim| self.ratio.judge(aim))
    }

    fn aim_words(&self) -> String {
        self.aim
            .map_or("–".to_owned(), |aim| aim.words(|limit| limit.to_string()))
    }

    fn met_words(&self) -> &'static str {
        self.met().map_or("–", Met::word)
    }

    fn median_words(&self) -> String {
        self.ratio
            .unstated()
            .map_or_else(|| format!("{:.2}", self.ratio.median), str::to_owned)
    }

    fn interval_words(&self) -> String {
        self.ratio
            .interval
            .map_or("–".to_owned(), |(low, high)| format!("{low:.2} – {high:.2}"))
    }
}

impl Part {
    /// Messages per call, in words.
    fn title(&self) -> String {
        match self.batch {
            1 => "single messages".to_owned(),
            batch => format!("batches of {batch}"),
        }
    }

    /// All ratios of passes in turn, with aims where the server under test is our own.
    fn ratios(&self, is_own: bool) -> Vec<Judged> {
        let mut judged = Vec::new();
        let mut add = |ratio: Option<Ratio>, aim: Option<Aim>| {
            judged.extend(ratio.map(|ratio| Judged {
                ratio,
                aim: aim.filter(|_| is_own),
            }));
        };
        let rate = |pass: &Pass| Some(pass.requests_per_second());
        let [main, others @ ..] = &self.closed[..] else {
            return judged;
        };
        for other in others {
            let aim = match (other.target, self.batch) {
                ("echo", 1) => Some(0.7),
                ("echo", 10) => Some(0.6),
                ("moto", _) => Some(20.0),
                _ => None,
            };
            add(main.ratio(other, "requests/s", rate), aim.map(Aim::AtLeast));
            if other.target == "moto" {
                let messages = |pass: &Pass| Some(pass.messages as f64 / pass.seconds);
                add(main.ratio(other, "messages/s", messages), None);
            }
            // Another one's processor time says nothing about ours.
            if other.target == "echo" {
                add(
                    main.ratio(other, "server's processor time per request", Pass::server_us),
                    None,
                );
            }
        }
        if let [main, others @ ..] = &self.open[..] {
            for other in others {
                let p99 = |pass: &Pass| quantile(pass, 0.99);
                let aim = (other.title == main.title).then_some(Aim::AtMost(2.0));
                let what = if other.title == main.title {
                    format!("p99 {}", main.title)
                } else {
                    format!("p99 at {:.0} requests/s both", main.rate)
                };
                add(main.series.ratio(&other.series, &what, p99), aim);
            }
        }
        judged
    }

    /// A line for each server, while others are still being measured.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |series: &Series, load: &str| {
            let verified = if series.verified() { "verified" } else { "WRONG" };
            let rate = series.median(Pass::requests_per_second).unwrap_or(0.0);
            format!(
                "{verified}  {}, {}{load}: {rate:.0} requests/s",
                self.title(),
                series.target
            )
        };
        let closed = self.closed.iter().map(|series| line(series, ""));
        let open = self
            .open
            .iter()
            .map(|load| line(&load.series, &format!(" {}", load.title)));
        closed.chain(open).collect()
    }

    /// Whole rounds that were made, in closed loop and in open loop.
    fn rounds(&self) -> (usize, usize) {
        let least = |passes: Option<usize>| passes.unwrap_or(0);
        let closed = self.closed.iter().map(|series| series.passes.len()).min();
        let open = self.open.iter().map(|load| load.series.passes.len()).min();
        (least(closed), least(open))
    }

    fn all(&self) -> impl Iterator<Item = &Series> {
        self.closed
            .iter()
            .chain(self.open.iter().map(|load| &load.series))
    }
}

/// A run.
#[derive(Debug)]
pub(super) struct Report<'o> {
    /// What the server under test is called.
    pub(super) main: &'static str,
    pub(super) parts: Vec<Part>,
    pub(super) notes: Vec<String>,
    pub(super) machine: Machine,
    pub(super) commit: String,
    pub(super) options: &'o Wire,
    pub(super) threads: usize,
    pub(super) server_threads: usize,
    pub(super) warm_up: Duration,
    /// There should be more: Ctrl-C was pressed, or something broke.
    pub(super) is_interrupted: bool,
    /// What broke.
    pub(super) error: Option<String>,
}

/// A row of figures, the same in every form.
struct Row {
    calls: String,
    load: String,
    target: String,
    figures: [String; 6],
}

const HEADS: [&str; 9] = [
    "calls",
    "load",
    "server",
    "requests/s",
    "messages/s",
    "p50",
    "p99",
    "server µs/request",
    "client µs/request",
];

impl Report<'_> {
    /// What is wrong in any pass.
    pub(super) fn findings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for part in &self.parts {
            for series in part.all().filter(|series| !series.is_rival) {
                for pass in &series.passes {
                    let found = pass.findings.iter();
                    lines.extend(
                        found.map(|finding| format!("{}, {}: {finding}", part.title(), series.target)),
                    );
                }
            }
        }
        lines
    }

    fn is_own(&self) -> bool {
        self.main == "epoq"
    }

    fn command(&self) -> String {
        let options = self.options;
        let mut command = String::from("epoq-bench wire");
        let batches: Vec<_> = options.batch.iter().map(ToString::to_string).collect();
        let rate = match options.rate {
            Rate::None => "none".to_owned(),
            Rate::PerSecond(rate) => rate.to_string(),
            Rate::Share(share) => format!("{}%", share * 100.0),
        };
        if let Some(endpoint) = &options.endpoint {
            let _ = write!(command, " --endpoint {endpoint}");
        }
        let _ = write!(
            command,
            " --connections {} --threads {} --server-threads {} --batch {} --body {} --seconds {} --passes {} --rate {rate} --seed {}",
            options.connections,
            self.threads,
            self.server_threads,
            batches.join(","),
            options.body,
            options.seconds,
            options.passes,
            options.seed
        );
        if options.moto.is_some() {
            command.push_str(" --moto auto");
        }
        command
    }

    /// What a reader has to know.
    fn caveats(&self) -> Vec<String> {
        let mut lines = vec![
            "client and servers share the machine's cores, and nothing is pinned: requests/s are those of both together. A ratio compares servers \
             under the same client with as many connections; the server's processor time per request is the client's no matter, and the less noisy figure"
                .to_owned(),
            "µs/request: processor time, user and system, of the server's process and of the client's, by the kernel's count; what the kernel \
             does for a socket counts for whoever called it"
                .to_owned(),
            "echo: a bare hyper server of the same shape that reads the same requests and answers the recorded bytes of one answer for each \
             operation; its receives are always full"
                .to_owned(),
            "latency: of single requests; closed loop from the call, open loop from when the request was due at random arrivals of that rate, \
             taken by whichever connection is idle"
                .to_owned(),
            "verified: all that was accepted was received unaltered, deleted, and by one connection at a time; sent = deleted + remaining, read by \
             draining the queue after each pass and asking for its counts"
                .to_owned(),
        ];
        if self
            .parts
            .iter()
            .flat_map(|part| &part.closed)
            .any(|series| series.is_rival)
        {
            lines.push(format!(
                "moto: no more than {} connections, or one for each thread of the client: one Python process is busy with those, and its latency \
                 is of so many",
                super::command::RIVAL_CONNECTIONS
            ));
        }
        for part in &self.parts {
            let sizes: Vec<_> = operation_names()
                .iter()
                .zip(&part.sizes)
                .map(|(name, sizes)| format!("{name} {} → {}", sizes.request, sizes.answer))
                .collect();
            lines.push(format!(
                "{}: bytes of request and answer without their heads: {}",
                part.title(),
                sizes.join(", ")
            ));
            for series in &part.closed {
                let sum = |figure: fn(&Pass) -> u64| series.passes.iter().map(figure).sum::<u64>();
                let (sent, judged) = (sum(|pass| pass.books.sent), sum(|pass| pass.books.events));
                let (received, receives) = (sum(|pass| pass.messages), sum(|pass| pass.requests[1]));
                // With few, those at the edges of the windows count too much.
                if sent > 0 && receives > 1_000 {
                    lines.push(format!(
                        "{}, {}: {sent} messages sent in closed loop, {judged} events judged; {:.2} messages per receive",
                        part.title(),
                        series.target,
                        received as f64 / receives as f64
                    ));
                }
            }
            for series in part.all().filter(|series| series.is_rival) {
                let wrong = series.passes.iter().filter(|pass| !pass.verified());
                if let Some(first) = wrong.clone().find_map(|pass| pass.findings.first()) {
                    lines.push(format!(
                        "{}, {}: WRONG in {} of {} passes, which are not counted (first: {first})",
                        part.title(),
                        series.target,
                        wrong.count(),
                        series.passes.len()
                    ));
                }
            }
            for series in part.all() {
                let sum = |figure: fn(&Pass) -> u64| series.passes.iter().map(figure).sum::<u64>();
                for (count, what) in [
                    (
                        sum(|pass| pass.unserved),
                        "arrivals were not served in time: more than it can take",
                    ),
                    (
                        sum(|pass| pass.books.unanswered),
                        "operations got no answer: their messages are not judged for loss",
                    ),
                    (
                        sum(|pass| pass.reconnects),
                        "times the server closed a connection",
                    ),
                ] {
                    if count > 0 {
                        lines.push(format!("{}, {}: {count} {what}", part.title(), series.target));
                    }
                }
            }
        }
        let work: Vec<_> = self
            .parts
            .iter()
            .flat_map(Part::all)
            .flat_map(|series| &series.passes)
            .filter_map(|pass| pass.other_work)
            .collect();
        if !work.is_empty() {
            let most = |figure: fn(&crate::suite::usage::OtherWork) -> f64| {
                work.iter().map(figure).fold(0.0, f64::max)
            };
            let mean = |figure: fn(&crate::suite::usage::OtherWork) -> f64| {
                work.iter().map(figure).sum::<f64>() / work.len() as f64
            };
            lines.push(format!(
                "other work, the system's own included: {:.2} cores on average, {:.2} in the worst pass; the hypervisor took {:.2} and {:.2}",
                mean(|work| work.cores_used_by_others),
                most(|work| work.cores_used_by_others),
                mean(|work| work.cores_stolen),
                most(|work| work.cores_stolen)
            ));
        }
        lines.extend(self.notes.iter().cloned());
        lines
    }

    fn rows(&self) -> Vec<Row> {
        let number = |value: Option<f64>, digits: usize| {
            value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
        };
        let time =
            |value: Option<f64>| value.map_or("–".to_owned(), |ns| human(Duration::from_nanos(ns as u64)));
        let row = |part: &Part, series: &Series, load: String| {
            let figures = if series.verified() {
                [
                    number(series.median(Pass::requests_per_second), 0),
                    number(series.median(|pass| pass.messages as f64 / pass.seconds), 0),
                    time(series.median_of(|pass| quantile(pass, 0.5))),
                    time(series.median_of(|pass| quantile(pass, 0.99))),
                    number(series.median_of(Pass::server_us), 1),
                    number(series.median_of(Pass::client_us), 1),
                ]
            } else {
                // What is wrong has no speed.
                let mut figures = [const { String::new() }; 6];
                "WRONG".clone_into(&mut figures[0]);
                figures
            };
            Row {
                calls: part.title(),
                load,
                target: series.target.to_owned(),
                figures,
            }
        };
        let mut rows = Vec::new();
        for part in &self.parts {
            rows.extend(
                part.closed
                    .iter()
                    .map(|series| row(part, series, "closed loop".to_owned())),
            );
            rows.extend(
                part.open
                    .iter()
                    .map(|load| row(part, &load.series, load.title.clone())),
            );
        }
        rows
    }

    fn judged(&self) -> Vec<(String, Judged)> {
        let verified = self.parts.iter().filter(|part| part.all().all(Series::verified));
        verified
            .flat_map(|part| {
                part.ratios(self.is_own())
                    .into_iter()
                    .map(|judged| (part.title(), judged))
            })
            .collect()
    }

    fn where_and_how(&self) -> String {
        format!(
            "commit {}, {}, {}, seed {}; {}{} × {} s per server and load, after {} of warm-up",
            self.commit,
            self.machine.line(),
            self.machine.build_line().replace(", threads pinned", ""),
            self.options.seed,
            if self.is_interrupted { "planned were " } else { "" },
            self.options.passes,
            self.options.seconds,
            human(self.warm_up),
        )
    }

    /// What there is of what was planned, if that is not all.
    fn interruption(&self) -> Option<String> {
        if !self.is_interrupted {
            return None;
        }
        let why = self
            .error
            .as_ref()
            .map_or(String::new(), |error| format!(" ({error})"));
        let each: Vec<_> = self
            .parts
            .iter()
            .map(|part| {
                let (closed, open) = part.rounds();
                format!(
                    "{closed} in closed loop and {open} in open loop with {}",
                    part.title()
                )
            })
            .collect();
        Some(format!(
            "Interrupted{why}: of {} rounds per load these were made: {}.",
            self.options.passes,
            each.join("; ")
        ))
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = self.where_and_how();
        if let Some(words) = self.interruption() {
            let _ = write!(text, "\n{words}");
        }
        let mut figures = table(&HEADS);
        for row in self.rows() {
            let mut cells = vec![Cell::new(row.calls), Cell::new(row.load), Cell::new(row.target)];
            cells.extend(row.figures.into_iter().map(right));
            figures.add_row(cells);
        }
        let _ = write!(text, "\n\n{figures}");
        let mut ratios = table(&["calls", "ratio", "median", "95 %", "min", "max", "aim", "met"]);
        for (calls, judged) in self.judged() {
            ratios.add_row([
                Cell::new(calls),
                Cell::new(&judged.ratio.name),
                right(judged.median_words()).add_attribute(Attribute::Bold),
                right(judged.interval_words()),
                right(format!("{:.2}", judged.ratio.min)),
                right(format!("{:.2}", judged.ratio.max)),
                right(judged.aim_words()),
                right(judged.met_words().to_owned()),
            ]);
        }
        let _ = write!(text, "\n\n{ratios}\n");
        for line in self.caveats() {
            let _ = write!(text, "\n· {line}");
        }
        text
    }

    pub(super) fn to_markdown(&self) -> String {
        let mut text = format!(
            "# SQS over the wire\n\nMade by `{}`, {}.\n\n",
            self.command(),
            self.where_and_how()
        );
        if let Some(words) = self.interruption() {
            let _ = writeln!(text, "**{words}**\n");
        }
        if !self.findings().is_empty() {
            text.push_str("**Something was wrong in this run: its figures mean nothing.**\n\n");
            for finding in self.findings() {
                let _ = writeln!(text, "* {finding}");
            }
            text.push('\n');
        }
        text.push_str("| Calls | Ratio, pass by pass | Median | 95 % | Range | Aim | Met |\n|---|---|---|---|---|---|---|\n");
        for (calls, judged) in self.judged() {
            let met = match judged.met_words() {
                "no" => "**no**",
                words => words,
            };
            let _ = writeln!(
                text,
                "| {calls} | {} | **{}** | {} | {:.2} – {:.2} | {} | {met} |",
                judged.ratio.name,
                judged.median_words(),
                judged.interval_words(),
                judged.ratio.min,
                judged.ratio.max,
                judged.aim_words()
            );
        }
        text.push_str("\nMedians of the passes:\n\n");
        let _ = writeln!(text, "| {} |\n|{}", HEADS.join(" | "), "---|".repeat(HEADS.len()));
        for row in self.rows() {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} |",
                row.calls,
                row.load,
                row.target,
                row.figures.join(" | ")
            );
        }
        text.push('\n');
        for line in self.caveats() {
            let _ = writeln!(text, "* {line}");
        }
        text
    }

    pub(super) fn to_json(&self) -> Value {
        let options = self.options;
        let parts: Vec<Value> = self
            .parts
            .iter()
            .map(|part| {
                let closed: Map<String, Value> = part
                    .closed
                    .iter()
                    .map(|series| (series.target.to_owned(), series.to_json()))
                    .collect();
                let open: Vec<Value> = part
                    .open
                    .iter()
                    .map(|load| {
                        json!({"target": load.series.target, "load": load.title, "rate": load.rate, "figures": load.series.to_json()})
                    })
                    .collect();
                let bytes: Map<String, Value> = operation_names()
                    .into_iter()
                    .zip(&part.sizes)
                    .map(|(name, sizes)| {
                        (name.to_owned(), json!({"request": sizes.request, "answer": sizes.answer}))
                    })
                    .collect();
                let (closed_rounds, open_rounds) = part.rounds();
                json!({"batch": part.batch, "rounds": {"closed_loop": closed_rounds, "open_loop": open_rounds}, "body_bytes_on_the_wire": bytes, "closed_loop": closed, "open_loop": open})
            })
            .collect();
        let ratios: Vec<Value> = self
            .judged()
            .into_iter()
            .map(|(calls, judged)| {
                let ratio = &judged.ratio;
                json!({"calls": calls, "ratio": ratio.name, "median": ratio.median, "min": ratio.min, "max": ratio.max,
                    "each": ratio.each, "interval_95": ratio.interval, "meaningful": ratio.is_meaningful(),
                    "aim": judged.aim.map(|_| judged.aim_words()), "met": judged.met().and_then(Met::known)})
            })
            .collect();
        json!({
            "schema": crate::report::SCHEMA,
            "scenario": "wire",
            "command": self.command(),
            "commit": self.commit,
            "machine": self.machine,
            "seed": options.seed,
            "settings": {"endpoint": options.endpoint, "connections": options.connections, "threads": self.threads,
                "server_threads": self.server_threads, "body_bytes": options.body, "seconds": options.seconds, "passes": options.passes},
            "verified": self.findings().is_empty(),
            "interrupted": self.is_interrupted,
            "error": self.error,
            "ratios": ratios,
            "parts": parts,
            "notes": self.caveats(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_is_judged_by_all_of_the_interval() {
        let met = |each: &[f64], aim| {
            let ratio = Ratio::new(String::new(), each.to_vec());
            Judged { ratio, aim }.met()
        };
        let steady = [0.7, 0.71, 0.69];
        assert_eq!(met(&steady, Some(Aim::AtLeast(0.6))), Some(Met::Yes));
        assert_eq!(met(&steady, Some(Aim::AtLeast(0.75))), Some(Met::No));
        assert_eq!(met(&steady, Some(Aim::AtLeast(0.7))), Some(Met::NotClear));
        assert_eq!(met(&steady, None), None);
        let noisy = [0.5, 1.0, 2.0];
        assert_eq!(met(&noisy, Some(Aim::AtMost(2.0))), Some(Met::NotClear));
        assert_eq!(met(&noisy, Some(Aim::AtMost(50.0))), Some(Met::Yes));
        assert_eq!(met(&noisy, Some(Aim::AtLeast(50.0))), Some(Met::No));
    }
}
