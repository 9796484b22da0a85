//! `epoq-bench wire`.

use std::{fs, io, io::Write as _, path::PathBuf, str::FromStr, time::Duration};

use anyhow::Context as _;
use clap::Args;

use super::{
    child::{self, Kind, Started},
    client::Address,
    dialect::Operation,
    pace,
    pass::{Coordinator, Pass, Plan, Subject},
    report::{Load, Part, Report, Series},
};
use crate::{
    command::{Error, Verdict},
    environment::{self, Machine},
    progress::{Bar, Progress, human},
    suite::{results::write_whole, stop},
};

/// How long connections work before they are counted.
const WARM_UP: Duration = Duration::from_millis(300);
/// Connections to moto, as long as there are no more threads: enough to keep one Python process busy.
pub(super) const RIVAL_CONNECTIONS: usize = 4;

/// Examples for `--help`.
pub const EXAMPLES: &str = "\
Examples:
  epoq-bench wire                                            epoq-server and the echo, each in a process of its own, in turn
  epoq-bench wire --batch 10 --rate none --passes 3          a quick look at batches of ten
  epoq-bench wire --rate 80% --connections 256               latency at four fifths of what each can do
  epoq-bench wire --endpoint http://127.0.0.1:9324           a server that runs already; any that speaks SQS's JSON protocol
  epoq-bench wire --moto auto --out results                  moto's server too; wire.json and wire.md
  cargo xtask wire                                           the same, after installing moto beside the build
Client and servers share the machine's cores: read ratios and processor time per request, not requests per second.";

/// `epoq-bench wire`
#[derive(Clone, Debug, Args)]
pub struct Wire {
    /// A server that runs already; without it epoq-server is started, in a process of its own
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Connections, each with one request under way; to moto no more than four
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = crate::cli::count::<10_000>)]
    pub connections: usize,
    /// Threads of the client; default: one for each core
    #[arg(long, value_name = "N", value_parser = crate::cli::count::<1024>)]
    pub threads: Option<usize>,
    /// Threads of epoq-server and of the echo; default: one for each core
    #[arg(long, value_name = "N", value_parser = crate::cli::count::<1024>)]
    pub server_threads: Option<usize>,
    /// Messages per call, 1 to 10
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [10, 1], value_parser = crate::cli::count::<10>)]
    pub batch: Vec<usize>,
    /// Body size in bytes, 16 to 65,536
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub body: u32,
    /// How long to measure each pass
    #[arg(long, value_name = "S", allow_negative_numbers = true, default_value_t = 1.5, value_parser = crate::cli::positive::<3600>)]
    pub seconds: f64,
    /// How often to measure each server, in turns
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub passes: u16,
    /// Open loop after the closed one: requests per second (`5000`), or a share of what each server has just done (`50%`), or `none`.
    /// Latency counts from when a request was due
    #[arg(long, value_name = "OPS|P%|none", default_value = "50%")]
    pub rate: Rate,
    /// Measure moto's server too: the path of `moto_server`, or `auto` for one that is installed
    #[arg(long, value_name = "PATH|auto")]
    pub moto: Option<PathBuf>,
    /// For bodies and arrivals
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Write wire.json and wire.md into this directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print one JSON object on stdout, everything else on stderr
    #[arg(long)]
    pub json: bool,
}

/// Arrivals of the open loop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// No open loop.
    None,
    /// Requests per second.
    PerSecond(f64),
    /// So much of the requests per second that a server answers in closed loop.
    Share(f64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        match text.strip_suffix('%') {
            Some(percent) => crate::cli::positive::<100>(percent).map(|percent| Self::Share(percent / 100.0)),
            None => crate::cli::positive::<10_000_000>(text).map(Self::PerSecond),
        }
    }
}

/// The servers of a run.
struct Servers {
    main: Server,
    moto: Option<Server>,
}

/// One of them.
struct Server {
    name: &'static str,
    subject: Subject,
    /// It ends with this.
    _started: Option<Started>,
}

impl Server {
    fn started(name: &'static str, started: Started, rote_url: Option<String>) -> Self {
        Self {
            name,
            subject: Subject {
                address: started.address.clone(),
                process: Some(started.process()),
                rote_url,
            },
            _started: Some(started),
        }
    }
}

/// Does what the command line says.
pub(crate) fn wire(options: &Wire) -> Result<Verdict, Error> {
    let endpoint = options
        .endpoint
        .as_deref()
        .map(Address::parse)
        .transpose()
        .map_err(|error| Error::Usage(format!("--endpoint: {error:#}")))?;
    let threads = options.threads.unwrap_or_else(environment::cores);
    if threads > options.connections {
        return Err(Error::Usage(format!(
            "--connections {} are fewer than {threads} threads",
            options.connections
        )));
    }
    let mut batches = options.batch.clone();
    batches.dedup();
    if batches.len() > 1
        && batches
            .iter()
            .any(|batch| batches.iter().filter(|other| *other == batch).count() > 1)
    {
        return Err(Error::Usage("--batch names a number twice".into()));
    }
    let bar = Bar::new();
    let machine = Machine::detect();
    bar.line(&machine.line());
    bar.line(&machine.build_line());
    if cfg!(debug_assertions) {
        bar.line(
            "WARNING: built with debug assertions; build with --release for figures that mean something",
        );
    }
    stop::listen();
    let mut session = Session {
        options,
        threads,
        server_threads: options.server_threads.unwrap_or_else(environment::cores),
        bar: &bar,
        coordinator: Coordinator::new()?,
        servers: Servers {
            main: start(options, endpoint)?,
            moto: None,
        },
        notes: Vec::new(),
    };
    session.start_moto();
    let mut parts = Vec::new();
    let mut ended = Ok(());
    for &batch in &batches {
        if stop::is_asked_for() || ended.is_err() {
            break;
        }
        let (part, measured) = session.measure(batch);
        ended = measured.with_context(|| format!("batch {batch}"));
        parts.extend(part);
    }
    ended = ended.and_then(|()| session.note_alarms());
    bar.end();
    let report = Report {
        main: session.servers.main.name,
        parts,
        notes: std::mem::take(&mut session.notes),
        machine,
        commit: environment::commit(),
        options,
        threads,
        server_threads: session.server_threads,
        warm_up: WARM_UP,
        is_interrupted: stop::is_asked_for() || ended.is_err(),
        error: ended.as_ref().err().map(|error| format!("{error:#}")),
    };
    drop(session);
    if report.parts.is_empty() {
        ended?;
        // Files of another run are not overwritten with nothing.
        eprintln!("nothing was measured");
        return Ok(Verdict::Interrupted);
    }
    publish(&report)?;
    let findings = report.findings();
    for finding in &findings {
        eprintln!("WRONG: {finding}");
    }
    ended?;
    Ok(if !findings.is_empty() {
        Verdict::Failed
    } else if report.is_interrupted {
        Verdict::Interrupted
    } else {
        Verdict::Verified
    })
}

fn start(options: &Wire, endpoint: Option<Address>) -> anyhow::Result<Server> {
    Ok(match endpoint {
        Some(address) => Server {
            name: "endpoint",
            subject: Subject {
                address,
                process: None,
                rote_url: None,
            },
            _started: None,
        },
        None => {
            let threads = options.server_threads.unwrap_or_else(environment::cores);
            Server::started("epoq", Started::own(Kind::Epoq, threads, "")?, None)
        }
    })
}

fn publish(report: &Report<'_>) -> anyhow::Result<()> {
    let json = report.to_json();
    if let Some(folder) = &report.options.out {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        for (name, text) in [
            ("wire.json", serde_json::to_string_pretty(&json)? + "\n"),
            ("wire.md", report.to_markdown()),
        ] {
            write_whole(&folder.join(name), &text)?;
        }
    }
    let mut out = io::stdout().lock();
    if report.options.json {
        writeln!(out, "{json}")?;
    } else {
        writeln!(out, "\n{}", report.to_text())?;
    }
    Ok(())
}

struct Session<'o> {
    options: &'o Wire,
    threads: usize,
    server_threads: usize,
    bar: &'o Bar,
    coordinator: Coordinator,
    servers: Servers,
    notes: Vec<String>,
}

impl Session<'_> {
    fn start_moto(&mut self) {
        let Some(given) = &self.options.moto else { return };
        let started = child::find_moto(given).and_then(|program| {
            Started::moto(&program).map_err(|error| format!("moto: skipped, it does not start: {error:#}"))
        });
        match started {
            Ok(started) => self.servers.moto = Some(Server::started("moto", started, None)),
            Err(line) => {
                self.bar.line(&line);
                self.notes.push(line);
            }
        }
    }

    /// What alarms of the open loop add to each latency.
    fn note_alarms(&mut self) -> anyhow::Result<()> {
        if self.options.rate == Rate::None {
            return Ok(());
        }
        const ROUNDS: usize = 200;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let late = runtime.block_on(pace::lateness(ROUNDS))?;
        self.notes.push(format!(
            "open loop: alarms on an idle machine ring {} late at the median, which is part of each latency, the echo's too",
            human(late)
        ));
        self.notes.extend(pace::Alarm::caveat().map(str::to_owned));
        Ok(())
    }

    /// What there is of a part, and why there is no more of it, if something broke.
    fn measure(&mut self, batch: usize) -> (Option<Part>, anyhow::Result<()>) {
        let mut part = Part {
            batch,
            sizes: Default::default(),
            closed: Vec::new(),
            open: Vec::new(),
        };
        let measured = self.fill_in(&mut part);
        if part.closed.is_empty() {
            return (None, measured);
        }
        for line in part.lines() {
            self.bar.line(&line);
        }
        (Some(part), measured)
    }

    fn fill_in(&mut self, part: &mut Part) -> anyhow::Result<()> {
        let batch = part.batch;
        let plan = Plan {
            connections: self.options.connections,
            threads: self.threads,
            batch,
            body_bytes: self.options.body as usize,
            warm_up: WARM_UP,
            window: Duration::from_secs_f64(self.options.seconds),
            seed: self.options.seed,
        };
        self.bar.begin("recording answers");
        let address = &self.servers.main.subject.address;
        let (script, url);
        (script, part.sizes, url) = self.coordinator.record(address, &plan)?;
        let input = serde_json::to_string(&script)?;
        let echo = Started::own(Kind::Echo, self.server_threads, &input)?;
        let echo = Server::started("echo", echo, Some(url));

        let mut closed = [Some(&self.servers.main), Some(&echo), self.servers.moto.as_ref()]
            .into_iter()
            .flatten()
            .map(|server| Turn {
                series: Series {
                    is_rival: server.name == "moto",
                    ..Series::new(server.name)
                },
                subject: &server.subject,
                rate: None,
            })
            .collect::<Vec<_>>();
        let children: Vec<u32> = closed.iter().filter_map(|turn| turn.subject.process).collect();
        let measured = take_turns(
            &mut self.coordinator,
            &plan,
            &mut closed,
            &children,
            self.options.passes,
            self.bar,
        );
        let made = |turn: &Turn<'_>| !turn.series.passes.is_empty();
        part.closed = closed
            .iter()
            .filter(|turn| made(turn))
            .map(|turn| turn.series.clone())
            .collect();
        // Loads are parts of what all of them can do.
        if measured.is_err() || part.closed.len() < closed.len() {
            return measured;
        }

        let mut open = Vec::new();
        let capacity = |turn: &Turn<'_>| turn.series.median(Pass::requests_per_second);
        let mut add = |name, title: String, subject, rate: f64| {
            // A server that answered nothing has been found out already.
            if rate > 0.0 {
                open.push((
                    title,
                    Turn {
                        series: Series::new(name),
                        subject,
                        rate: Some(rate),
                    },
                ));
            }
        };
        match self.options.rate {
            Rate::None => {}
            Rate::PerSecond(rate) => {
                for turn in &closed[..2] {
                    add(
                        turn.series.target,
                        "at the given rate".to_owned(),
                        turn.subject,
                        rate,
                    );
                }
            }
            Rate::Share(share) => {
                let main = capacity(&closed[0]).unwrap_or(0.0) * share;
                let percent = format!("at {:.0} % of its own capacity", share * 100.0);
                for turn in &closed[..2] {
                    let rate = capacity(turn).unwrap_or(0.0) * share;
                    add(turn.series.target, percent.clone(), turn.subject, rate);
                }
                let at_that = format!("at the rate of {}", closed[0].series.target);
                add(closed[1].series.target, at_that, closed[1].subject, main);
            }
        }
        let (titles, mut turns): (Vec<_>, Vec<_>) = open.into_iter().unzip();
        let measured = take_turns(
            &mut self.coordinator,
            &plan,
            &mut turns,
            &children,
            self.options.passes,
            self.bar,
        );
        let loads = titles.into_iter().zip(turns).filter(|(_, turn)| made(turn));
        part.open = loads
            .map(|(title, turn)| Load {
                title,
                rate: turn.rate.unwrap_or_default(),
                series: turn.series,
            })
            .collect();
        measured
    }
}

/// A server and its passes so far.
struct Turn<'s> {
    series: Series,
    subject: &'s Subject,
    rate: Option<f64>,
}

/// All passes; every second round goes through the servers backwards, so that none is always after the same other.
fn take_turns(
    coordinator: &mut Coordinator,
    plan: &Plan,
    turns: &mut [Turn<'_>],
    children: &[u32],
    passes: u16,
    bar: &Bar,
) -> anyhow::Result<()> {
    for round in 0..passes {
        let mut order: Vec<usize> = (0..turns.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        // Rounds are whole: ratios are formed within them.
        if stop::is_asked_for() {
            break;
        }
        for at in order {
            let turn = &mut turns[at];
            let rate = turn.rate.map(|rate| format!(", {rate:.0}/s")).unwrap_or_default();
            bar.begin(&format!(
                "wire, batch {}: {}{rate} {}/{passes}",
                plan.batch,
                turn.series.target,
                round + 1
            ));
            let mut plan = *plan;
            // Other arrivals in each round, the same for all servers.
            plan.seed = plan
                .seed
                .wrapping_add(u64::from(round).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            if turn.series.is_rival {
                plan.connections = plan.connections.min(RIVAL_CONNECTIONS.max(plan.threads));
            }
            let pass = coordinator
                .pass(&plan, turn.subject, turn.rate, children)
                .with_context(|| turn.series.target.to_owned())?;
            turn.series.passes.push(pass);
        }
    }
    Ok(())
}

/// The names of a life cycle's operations, in the order of [`Pass::requests`].
pub(super) fn operation_names() -> [&'static str; 3] {
    Operation::ALL.map(Operation::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_numbers_or_shares() {
        assert_eq!("none".parse(), Ok(Rate::None));
        assert_eq!("50%".parse(), Ok(Rate::Share(0.5)));
        assert_eq!("5000".parse(), Ok(Rate::PerSecond(5000.0)));
        for text in ["", "0", "-1", "0%", "101%", "x", "NaN"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
