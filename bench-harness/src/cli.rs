//! The command line.

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    plan::Wishes,
    scenario::Scenario,
    scenarios::{Act, Common, THREADS_MAX},
    suite::command::{COMPLETIONS_EXAMPLES, Completions, REPORT_EXAMPLES, Report, SUITE_EXAMPLES, Suite},
    targets::TargetName,
    wire::{EXAMPLES as WIRE_EXAMPLES, Serve, Wire},
};

/// The harness of epoq: drives a message queue at full speed, and proves in the same run that nothing was lost.
///
/// Without a command it makes the standard run: four minutes of scenarios and comparisons, every one of them checked.
#[derive(Debug, Parser)]
#[command(name = "epoq-bench", version, max_term_width = 110, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do; the standard run if nothing is said
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Name scenarios and targets
    #[command(after_help = LIST_EXAMPLES)]
    List(List),
    /// Measure one target in one scenario
    #[command(after_help = RUN_EXAMPLES)]
    Run(Run),
    /// Measure several targets in one scenario, pass by pass in turns, and report throughput ratios
    #[command(after_help = COMPARE_EXAMPLES)]
    Compare(Compare),
    /// The standard run
    #[command(after_help = STANDARD_EXAMPLES)]
    Standard(Standard),
    /// Sweep one setting at a time, and make a page of plots, a summary and a file of results
    #[command(after_help = SUITE_EXAMPLES)]
    Suite(Suite),
    /// Render results anew, compare runs, or judge them against a baseline
    #[command(after_help = REPORT_EXAMPLES)]
    Report(Report),
    /// Drive an SQS server over HTTP, beside a bare echo of the same bytes
    ///
    /// Send, receive and delete, in closed loop and in open loop, on epoq-server or any other server. Each pass is judged: nothing lost,
    /// altered, or leased twice at a time.
    #[command(after_help = WIRE_EXAMPLES)]
    Wire(Wire),
    /// Be a server under test, until standard input ends
    #[command(hide = true)]
    WireServe(Serve),
    /// Print completions for a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(Completions),
    /// Count remote cache lines per message, with simulated workers
    #[cfg(lines)]
    Lines(crate::lines::Lines),
    /// All scenarios that only the ledger can do, one after the other, and a short table of them
    #[command(after_help = QUEUE_EXAMPLES)]
    Queue(Queue),
    /// One of the scenarios that only the ledger can do
    #[command(flatten)]
    Act(Act),
}

const EXAMPLES: &str = "\
Examples:
  epoq-bench suite                                           two minutes, and a page of plots to share
  epoq-bench                                                 the standard run: scenarios and rivals in tables
  epoq-bench compare lifecycle --targets epoq,locked         throughput of one over the other, pass by pass
  epoq-bench run pipeline --producers 1 --consumers 3        one target, one scenario
  epoq-bench wire                                            an SQS server over HTTP, beside a bare echo
  epoq-bench list                                            all scenarios and targets
Exit codes: 0 all verified, 1 something was wrong, 2 usage, 3 broken, 4 slower than the baseline, 130 interrupted.";

const LIST_EXAMPLES: &str = "\
Examples:
  epoq-bench list                                            scenarios and targets, a line about each
  epoq-bench list --json                                     the same for a program";

const RUN_EXAMPLES: &str = "\
Examples:
  epoq-bench run lifecycle --threads 4 --batch 10            send, receive and delete, ten messages a call
  epoq-bench run inflight --in-flight 5000000                the same beside five million leases
  epoq-bench run pipeline --producers 1 --consumers 3        who sends does not receive
  epoq-bench run pipeline --rate 500000 --seconds 10         latency at half a million messages a second, open loop
  epoq-bench run lifecycle --target crossbeam-channel        a rival; 'epoq-bench list' names them";

const COMPARE_EXAMPLES: &str = "\
Examples:
  epoq-bench compare lifecycle --targets epoq,locked                     the ledger over one mutex
  epoq-bench compare steal --targets epoq,locked,crossbeam-channel       one side sends, the other has to come and get it
  epoq-bench compare lifecycle --targets epoq,locked --turn 64 --passes 9 --json > turns.json";

const STANDARD_EXAMPLES: &str = "\
Examples:
  epoq-bench standard                                        what 'epoq-bench' does without a command
  epoq-bench standard --pace 0.1                             a quick look
  epoq-bench standard --json > standard.json                 every pass of it, for a program";

const QUEUE_EXAMPLES: &str = "\
Examples:
  epoq-bench queue                                           all of it, some minutes
  epoq-bench queue --pace 0.2 --json > queue.json            a short one, for a program
  epoq-bench delay --help                                    one scenario has more to set";

impl Cli {
    /// Parses a command line. A scenario's name may stand with or without `run` before it.
    pub fn parse_line(arguments: impl IntoIterator<Item = OsString>) -> Self {
        Self::parse_from(unify(arguments.into_iter().collect()))
    }
}

/// `run delay` as `delay`, and `lifecycle` as `run lifecycle`.
fn unify(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let word = |at: usize| {
        arguments
            .get(at)
            .and_then(|word| word.to_str())
            .unwrap_or_default()
    };
    let is_act = |name: &str| Act::has_subcommand(name);
    if word(1) == "run" && is_act(word(2)) {
        arguments.remove(1);
    } else if Scenario::value_variants()
        .iter()
        .any(|scenario| scenario.name() == word(1))
    {
        arguments.insert(1, "run".into());
    }
    arguments
}

/// `epoq-bench list`
#[derive(Debug, Args)]
pub struct List {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `epoq-bench run`
#[derive(Debug, Args)]
pub struct Run {
    /// What the threads do
    pub scenario: Scenario,
    /// The queue under test
    #[arg(long, default_value = "epoq")]
    pub target: TargetName,
    /// How often to measure; the pass in the middle is reported
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub passes: u16,
    /// How to measure
    #[command(flatten)]
    pub options: Options,
}

/// `epoq-bench compare`
#[derive(Debug, Args)]
pub struct Compare {
    /// What the threads do
    pub scenario: Scenario,
    /// The queues under test; the first is compared with each other
    #[arg(long, value_delimiter = ',', required = true, value_name = "A,B,…")]
    pub targets: Vec<TargetName>,
    /// How often to measure each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub passes: u16,
    /// How to measure
    #[command(flatten)]
    pub options: Options,
}

/// `epoq-bench standard`
#[derive(Clone, Copy, Debug, Args)]
pub struct Standard {
    /// Stretch every measurement by this; 0.05 for a quick look, 5 for a long one
    #[arg(long, allow_negative_numbers = true, default_value_t = 1.0, value_parser = positive::<100>)]
    pub pace: f64,
    /// Print one JSON object on stdout, everything else on stderr
    #[arg(long)]
    pub json: bool,
}

impl Default for Standard {
    fn default() -> Self {
        Self {
            pace: 1.0,
            json: false,
        }
    }
}

/// `epoq-bench queue`
#[derive(Clone, Copy, Debug, Args)]
pub struct Queue {
    /// What all scenarios can be told.
    #[command(flatten)]
    pub common: Common,
}

/// How to measure.
#[derive(Clone, Copy, Debug, Args)]
pub struct Options {
    /// Threads, each pinned to a core; default: one for each core
    #[arg(long, value_name = "N", value_parser = count::<THREADS_MAX>)]
    pub threads: Option<usize>,
    /// Threads that send, in pipeline and steal
    #[arg(long, value_name = "N", value_parser = count::<THREADS_MAX>)]
    pub producers: Option<usize>,
    /// Threads that receive, in pipeline and steal
    #[arg(long, value_name = "N", value_parser = count::<THREADS_MAX>)]
    pub consumers: Option<usize>,
    /// Messages per call, 1 to 10; default: 1
    #[arg(long, value_name = "N", value_parser = count::<10>)]
    pub batch: Option<usize>,
    /// Body size, 1 byte to 1 MiB; default: 64
    #[arg(long, value_name = "BYTES", value_parser = count::<{ 1 << 20 }>)]
    pub body: Option<usize>,
    /// How long to measure each pass; default: 2
    #[arg(long, value_name = "S", allow_negative_numbers = true, value_parser = positive::<3600>)]
    pub seconds: Option<f64>,
    /// Messages queued before the clock starts (backlog, flood: 1 M); in pipeline and steal the most outstanding (100 k)
    #[arg(long, value_name = "N")]
    pub backlog: Option<u64>,
    /// Messages received and kept before the clock starts; default in inflight: 1 M
    #[arg(long, value_name = "N")]
    pub in_flight: Option<u64>,
    /// Partitions of the target, where it has them; default: the target's own choice
    #[arg(long, value_name = "N", value_parser = count::<PARTITIONS_MAX>)]
    pub partitions: Option<usize>,
    /// Life cycles in one turn (one pin, one clock reading), where the target has turns; default: each call its own
    #[arg(long, value_name = "N", value_parser = count::<TURN_MAX>)]
    pub turn: Option<usize>,
    /// Of a hundred messages, so many are sent by the first thread, in lifecycle; default: each sends what it receives
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true, value_parser = percent)]
    pub share: Option<f64>,
    /// Queues, which each thread goes round, where the target can have several; default: 1
    #[arg(long, value_name = "N", value_parser = count::<QUEUES_MAX>)]
    pub queues: Option<usize>,
    /// Open loop: messages arriving per second, at random (Poisson); latency counts from when each should have arrived
    #[arg(long, value_name = "OPS", allow_negative_numbers = true, value_parser = positive::<RATE_MAX>)]
    pub rate: Option<f64>,
    /// For bodies and whatever is random in the target; default: 1
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// How long a lease lasts, in redelivery; default: 100
    #[arg(long, value_name = "MS")]
    pub visibility_ms: Option<u64>,
    /// Print one JSON object on stdout, everything else on stderr
    #[arg(long)]
    pub json: bool,
}

impl Options {
    /// What they ask for.
    pub fn wishes(&self) -> Wishes {
        Wishes {
            threads: self.threads,
            producers: self.producers,
            consumers: self.consumers,
            batch: self.batch,
            body_bytes: self.body,
            seconds: self.seconds,
            backlog: self.backlog,
            in_flight: self.in_flight,
            partitions: self.partitions,
            turn: self.turn,
            share: self.share,
            queues: self.queues,
            rate: self.rate,
            seed: self.seed,
            visibility_ms: self.visibility_ms,
        }
    }
}

/// The most partitions that can be asked for.
pub(crate) const PARTITIONS_MAX: usize = 1024;
/// The most life cycles in a turn.
pub(crate) const TURN_MAX: usize = 100_000;
/// The most queues.
pub(crate) const QUEUES_MAX: usize = 100_000;
/// The most arrivals per second.
pub(crate) const RATE_MAX: u64 = 1_000_000_000;

/// 1 to `MAX`.
pub(crate) fn count<const MAX: usize>(text: &str) -> Result<usize, String> {
    let n: usize = text.parse().map_err(|_| "not a whole number".to_owned())?;
    if (1..=MAX).contains(&n) {
        Ok(n)
    } else {
        Err(format!("must be 1 to {MAX}"))
    }
}

/// More than 0, at most `MAX`.
pub(crate) fn positive<const MAX: u64>(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if value > 0.0 && value <= MAX as f64 {
        Ok(value)
    } else {
        Err(format!("must be more than 0 and at most {MAX}"))
    }
}

/// 0 to 100.
fn percent(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=100.0).contains(&value) {
        Ok(value)
    } else {
        Err("must be 0 to 100".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// Whoever copies one of them is not to be told that it is wrong.
    #[test]
    fn the_examples_are_accepted() {
        let mut examples = 0;
        let texts = [
            EXAMPLES,
            LIST_EXAMPLES,
            RUN_EXAMPLES,
            COMPARE_EXAMPLES,
            STANDARD_EXAMPLES,
            QUEUE_EXAMPLES,
        ];
        for line in texts.iter().flat_map(|text| text.lines()) {
            let Some(command) = line.strip_prefix("  epoq-bench") else {
                continue;
            };
            let command = command.split("  ").next().unwrap_or_default();
            let command = command.split(" > ").next().unwrap_or_default();
            if command.ends_with("--help") {
                continue;
            }
            let words = ["epoq-bench"].into_iter().chain(command.split_whitespace());
            let parsed = Cli::try_parse_from(unify(words.map(OsString::from).collect()));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            examples += 1;
        }
        assert!(examples > 15, "{examples}");
    }

    #[test]
    fn run_may_be_said_or_not() {
        let unified = |line: &str| {
            let words = unify(line.split(' ').map(OsString::from).collect());
            let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
            words.join(" ")
        };
        assert_eq!(unified("bench run delay --pace 2"), "bench delay --pace 2");
        assert_eq!(unified("bench delay --pace 2"), "bench delay --pace 2");
        assert_eq!(
            unified("bench lifecycle --batch 2"),
            "bench run lifecycle --batch 2"
        );
        assert_eq!(unified("bench run lifecycle"), "bench run lifecycle");
        assert_eq!(unified("bench standard"), "bench standard");
        assert_eq!(unified("bench"), "bench");
    }

    #[test]
    fn ranges_are_kept() {
        assert_eq!(count::<10>("10"), Ok(10));
        assert!(count::<10>("11").is_err() && count::<10>("0").is_err() && count::<10>("-1").is_err());
        assert_eq!(positive::<10>("0.5"), Ok(0.5));
        assert!(
            positive::<10>("0").is_err() && positive::<10>("NaN").is_err() && positive::<10>("inf").is_err()
        );
    }
}
