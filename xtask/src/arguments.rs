//! The command line.

use std::env;

use anyhow::{Context, Result, bail, ensure};

use crate::endurance::Length;
use crate::figures::{Effort, Place};
use crate::sanitize::{Sanitizer, Tests};
use crate::{fuzz, mutants};

pub(crate) const USAGE: &str = "\
cargo xtask COMMAND

  test [--bound N] [--no-fail-fast]   all tests: unit, integration, documentation, clients of the server, loom models with their twins
  clients [--rust]                    only SQS's clients against the server: boto3, the aws CLI, kombu, the SDK for JavaScript,
                                      sqs-consumer; skipped without Python or Node; with --rust the SDK for Rust, whose crates
                                      take a minute or two to build, so that of the other commands only ci and verify run it
  loom [FILTER] [--bound N] [--no-fail-fast] [--table]
                                      only the models and twins, or those whose name contains FILTER; with --table their
                                      figures go into loom-tests/README.md
  mutate-orderings [OPTIONS]          weakens each memory ordering of the ledger in turn, which a model has to notice;
                                      --help lists the options
  ci [--no-fail-fast]                 format, clippy, also of the loom build, documentation, a sample of the ordering mutants, the SDK for
                                      Rust, and short runs of each harness scenario, which must verify, of the sanitizers and the
                                      fuzzers; quickest after test, which has built what it needs
  sanitize [address|thread] [FILTER]  the ledger's tests under AddressSanitizer and ThreadSanitizer, or those whose name contains
                                      FILTER; skipped where the toolchain has no runtime for them
  fuzz [TARGET] [--seconds N]         libFuzzer on receipt handles, on operations beside the naive models, and on the server's parsers;
                                      TARGET is handle, standard, fifo, json or query
  mutants [NAME] [--shard K/N]        cargo-mutants on the ledger's state machines; NAME is state, receipt, expiry, deduplication
                                      or group
  explore [--seeds N] [--seconds S] [--from SEED] [--replay SEED]
                                      the whole broker under shuttle: schedules of 60 seconds unless told, or that of one seed
  explore-faults                      the same with steps of the ledger done wrong, one at a time, each of which has to be found
  soak [--minutes N] [--seed S] [--messages N] [--threads N] [--out DIR] [--stalls]
                                      a long stress with more threads than cores, which writes results/soak.md; with --stalls
                                      threads are held up between atomic steps
  verify [--full] [--mutants]         everything there is, and one table of what ran, how long and how much, also in
                                      results/verify.md; about an hour; with --full explorations, soaks and fuzzers go on for
                                      long; with --mutants cargo-mutants too: some hours more
  figures [--seconds S] [--passes N] [--to DIR]
                                      measures the README's table of figures and writes it there and to results/, or, of another
                                      machine, to figures.json and figures.md in DIR, below the workspace; some minutes, on a machine
                                      with nothing else to do; with --render it writes what figures.json has
  lines                               counts the cache lines that an operation shares with other workers, with up to 64 simulated
                                      ones, and writes results/lines.json and results/lines.md; some minutes
  wire [OPTIONS]                      the server over HTTP beside a bare echo and moto's server, which is installed beside the build where
                                      there is Python; writes results/wire.json and results/wire.md; five minutes, on a machine with
                                      nothing else to do; options are those of `epoq-bench wire`
  help                                this text

  --bound N         preemptions loom explores per execution; otherwise LOOM_MAX_PREEMPTIONS, otherwise 2
  --no-fail-fast    carry on after a failure
  EPOQ_SWEEP=1      in the environment: clients --rust, ci and verify remove builds that no later step needs, as long as nothing has
                    failed: for a machine with little room on its disk";

/// Preemptions that are always explored; 3 after touching an ordering.
const DEFAULT_BOUND: &str = "2";

#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Test {
        bound: Option<usize>,
        no_fail_fast: bool,
    },
    Loom(LoomOptions),
    Ci {
        no_fail_fast: bool,
    },
    Sanitize {
        sanitizers: Vec<Sanitizer>,
        tests: Tests,
    },
    Fuzz(fuzz::Options),
    Mutants(mutants::Options),
    Verify {
        with_mutants: bool,
        length: Length,
    },
    Figures(Effort, Place),
    RenderFigures(Place),
    /// With its own options.
    MutateOrderings(Vec<String>),
    /// With the arguments of its own program.
    Explore(Vec<String>),
    ExploreFaults,
    /// The same.
    Soak(Vec<String>),
    Lines,
    /// With the harness's options.
    Wire(Vec<String>),
    Clients {
        /// The SDK for Rust, instead of the others.
        rust: bool,
    },
    Help,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LoomOptions {
    pub(crate) filter: Option<String>,
    pub(crate) bound: Option<usize>,
    pub(crate) no_fail_fast: bool,
    /// Whether the figures go into the README.
    pub(crate) table: bool,
}

impl Command {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut arguments = arguments.into_iter();
        let command = arguments.next().context("a command is missing")?;
        if matches!(command.as_str(), "help" | "--help" | "-h") {
            return Ok(Self::Help);
        }
        match command.as_str() {
            "figures" => return Self::parse_figures(arguments),
            "sanitize" => return Self::parse_sanitize(arguments),
            "fuzz" => return Self::parse_fuzz(arguments),
            "mutants" => return Self::parse_mutants(arguments),
            "verify" => return Self::parse_verify(arguments),
            "explore-faults" => {
                return match arguments.next().as_deref() {
                    None => Ok(Self::ExploreFaults),
                    Some("--help" | "-h") => Ok(Self::Help),
                    Some(other) => bail!("explore-faults does not take {other:?}"),
                };
            }
            "explore" => return Self::parse_handed_on("explore", EXPLORE, arguments, Self::Explore),
            "soak" => return Self::parse_handed_on("soak", SOAK, arguments, Self::Soak),
            "wire" => return Ok(Self::Wire(arguments.collect())),
            _ => {}
        }
        if command == "mutate-orderings" {
            return Ok(Self::MutateOrderings(arguments.collect()));
        }
        let (takes_filter, takes_bound) = match command.as_str() {
            "test" => (false, true),
            "loom" => (true, true),
            "ci" | "lines" | "clients" => (false, false),
            _ => bail!("no command {command:?}"),
        };

        let mut options = LoomOptions::default();
        let mut rust = false;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--help" | "-h" => return Ok(Self::Help),
                "--no-fail-fast" if !matches!(command.as_str(), "lines" | "clients") => {
                    options.no_fail_fast = true
                }
                "--table" if takes_filter => options.table = true,
                "--rust" if command == "clients" => rust = true,
                "--bound" if takes_bound => {
                    let bound = arguments.next().context("--bound needs a number")?;
                    options.bound = Some(parse_bound(&bound)?);
                }
                bound if takes_bound && bound.starts_with("--bound=") => {
                    options.bound = Some(parse_bound(&bound["--bound=".len()..])?);
                }
                filter if takes_filter && options.filter.is_none() && !filter.starts_with('-') => {
                    options.filter = Some(filter.to_owned());
                }
                _ => bail!("{command} does not take {argument:?}"),
            }
        }

        let LoomOptions {
            bound, no_fail_fast, ..
        } = options;
        Ok(match command.as_str() {
            "test" => Self::Test { bound, no_fail_fast },
            "loom" => Self::Loom(options),
            "lines" => Self::Lines,
            "clients" => Self::Clients { rust },
            _ => Self::Ci { no_fail_fast },
        })
    }
}

/// What an option that is handed on to another program has behind it.
#[derive(Debug, Clone, Copy)]
enum Behind {
    Nothing,
    Whole,
    Number,
    Word,
}

const EXPLORE: &[(&str, Behind)] = &[
    ("--seeds", Behind::Whole),
    ("--seconds", Behind::Whole),
    ("--from", Behind::Whole),
    ("--replay", Behind::Whole),
];
const SOAK: &[(&str, Behind)] = &[
    ("--minutes", Behind::Number),
    ("--messages", Behind::Whole),
    ("--seed", Behind::Whole),
    ("--threads", Behind::Whole),
    ("--out", Behind::Word),
    ("--stalls", Behind::Nothing),
];

impl Command {
    /// Of a command whose options another program reads, which takes minutes to build: what it would refuse is refused before.
    fn parse_handed_on(
        command: &str,
        options: &[(&str, Behind)],
        arguments: impl Iterator<Item = String>,
        of: impl FnOnce(Vec<String>) -> Self,
    ) -> Result<Self> {
        let mut handed_on = Vec::new();
        let mut arguments = arguments.flat_map(|argument| match argument.split_once('=') {
            Some((option, value)) if option.starts_with("--") => vec![option.to_owned(), value.to_owned()],
            _ => vec![argument],
        });
        while let Some(argument) = arguments.next() {
            if matches!(argument.as_str(), "--help" | "-h") {
                return Ok(Self::Help);
            }
            let Some((option, behind)) = options.iter().find(|(option, _)| *option == argument) else {
                bail!("{command} does not take {argument:?}");
            };
            handed_on.push(argument);
            if matches!(behind, Behind::Nothing) {
                continue;
            }
            let value = arguments.next().unwrap_or_default();
            let is_good = match behind {
                Behind::Whole => value.parse::<u64>().is_ok(),
                Behind::Number => value.parse::<f64>().is_ok_and(f64::is_finite),
                Behind::Word | Behind::Nothing => !value.is_empty(),
            };
            let wanted = if matches!(behind, Behind::Word) {
                "word"
            } else {
                "number"
            };
            ensure!(is_good, "{option} needs a {wanted}, not {value:?}");
            handed_on.push(value);
        }
        Ok(of(handed_on))
    }

    fn parse_sanitize(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let (mut sanitizers, mut tests) = (Sanitizer::ALL.to_vec(), Tests::All);
        for (at, argument) in arguments.enumerate() {
            match (Sanitizer::named(&argument), argument.as_str()) {
                (_, "--help" | "-h") => return Ok(Self::Help),
                (Some(sanitizer), _) if at == 0 => sanitizers = vec![sanitizer],
                (_, filter) if tests == Tests::All && !filter.starts_with('-') => {
                    tests = Tests::Named(argument);
                }
                _ => bail!("sanitize does not take {argument:?}"),
            }
        }
        Ok(Self::Sanitize { sanitizers, tests })
    }

    fn parse_fuzz(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = fuzz::Options {
            target: None,
            seconds: fuzz::SECONDS,
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--help" | "-h" => return Ok(Self::Help),
                "--seconds" => {
                    let seconds = arguments.next().context("--seconds needs a number")?;
                    options.seconds = seconds.parse().context("--seconds needs a whole number")?;
                }
                target if options.target.is_none() && fuzz::TARGETS.contains(&target) => {
                    options.target = Some(argument);
                }
                _ => bail!("fuzz does not take {argument:?}"),
            }
        }
        // libFuzzer takes 0 for no limit.
        ensure!(options.seconds > 0, "--seconds must be at least 1");
        Ok(Self::Fuzz(options))
    }

    fn parse_mutants(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = mutants::Options::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--help" | "-h" => return Ok(Self::Help),
                "--shard" => options.shard = Some(arguments.next().context("--shard needs K/N")?),
                name if options.name.is_none() && !name.starts_with('-') => options.name = Some(argument),
                _ => bail!("mutants does not take {argument:?}"),
            }
        }
        Ok(Self::Mutants(options))
    }

    fn parse_verify(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let (mut with_mutants, mut length) = (false, Length::Middle);
        for argument in arguments {
            match argument.as_str() {
                "--help" | "-h" => return Ok(Self::Help),
                "--mutants" => with_mutants = true,
                "--full" => length = Length::Full,
                _ => bail!("verify does not take {argument:?}"),
            }
        }
        Ok(Self::Verify { with_mutants, length })
    }

    fn parse_figures(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let (mut effort, mut place, mut renders) = (Effort::default(), Place::default(), false);
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let value = arguments.next();
                value.with_context(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "--seconds" => effort.seconds = value()?,
                "--passes" => effort.passes = value()?.parse().context("--passes needs a whole number")?,
                "--to" => place = Place::apart(&value()?)?,
                "--render" => renders = true,
                "--help" | "-h" => return Ok(Self::Help),
                _ => bail!("figures does not take {argument:?}"),
            }
        }
        ensure!(effort.passes > 0, "--passes must be at least 1");
        if renders {
            ensure!(effort == Effort::default(), "--render measures nothing");
            return Ok(Self::RenderFigures(place));
        }
        Ok(Self::Figures(effort, place))
    }
}

impl LoomOptions {
    /// The value for `LOOM_MAX_PREEMPTIONS`.
    pub(crate) fn bound_in_force(&self) -> String {
        let asked = self.bound.map(|bound| bound.to_string());
        asked
            .or_else(|| env::var("LOOM_MAX_PREEMPTIONS").ok())
            .unwrap_or_else(|| DEFAULT_BOUND.to_owned())
    }

    pub(crate) fn title(&self) -> String {
        let bound = self.bound_in_force();
        match &self.filter {
            Some(filter) => format!("loom models with {filter:?}, bound {bound}"),
            None => format!("loom models, bound {bound}"),
        }
    }
}

fn parse_bound(text: &str) -> Result<usize> {
    text.parse()
        .with_context(|| format!("--bound needs a number, not {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command> {
        Command::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn commands_and_their_options() {
        assert_eq!(
            parse("test").unwrap(),
            Command::Test {
                bound: None,
                no_fail_fast: false
            }
        );
        assert_eq!(
            parse("test --bound 3 --no-fail-fast").unwrap(),
            Command::Test {
                bound: Some(3),
                no_fail_fast: true
            }
        );
        assert_eq!(
            parse("ci --no-fail-fast").unwrap(),
            Command::Ci { no_fail_fast: true }
        );
        assert_eq!(
            parse("loom publish --bound=3 --table").unwrap(),
            Command::Loom(LoomOptions {
                filter: Some("publish".to_owned()),
                bound: Some(3),
                no_fail_fast: false,
                table: true
            })
        );
        assert_eq!(parse("loom --help").unwrap(), Command::Help);
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        assert_eq!(
            parse("explore --replay 7").unwrap(),
            Command::Explore(words("--replay 7"))
        );
        assert_eq!(
            parse("soak --minutes=0.5 --stalls").unwrap(),
            Command::Soak(words("--minutes 0.5 --stalls"))
        );
        assert_eq!(parse("soak --help").unwrap(), Command::Help);
        assert_eq!(
            parse("sanitize").unwrap(),
            Command::Sanitize {
                sanitizers: vec![Sanitizer::Address, Sanitizer::Thread],
                tests: Tests::All
            }
        );
        assert_eq!(
            parse("sanitize thread conservation").unwrap(),
            Command::Sanitize {
                sanitizers: vec![Sanitizer::Thread],
                tests: Tests::Named("conservation".to_owned())
            }
        );
        assert_eq!(
            parse("fuzz fifo --seconds 600").unwrap(),
            Command::Fuzz(fuzz::Options {
                target: Some("fifo".to_owned()),
                seconds: 600
            })
        );
        assert_eq!(
            parse("mutants state --shard 0/4").unwrap(),
            Command::Mutants(mutants::Options {
                name: Some("state".to_owned()),
                shard: Some("0/4".to_owned())
            })
        );
        assert_eq!(
            parse("verify --mutants").unwrap(),
            Command::Verify {
                with_mutants: true,
                length: Length::Middle,
            }
        );
        assert_eq!(
            parse("mutate-orderings --quick").unwrap(),
            Command::MutateOrderings(vec!["--quick".to_owned()])
        );
        assert_eq!(parse("lines").unwrap(), Command::Lines);
        let apart = Place::Apart("results/other".into());
        assert_eq!(
            parse("figures --passes 5 --to results/other").unwrap(),
            Command::Figures(
                Effort {
                    passes: 5,
                    ..Effort::default()
                },
                apart.clone()
            )
        );
        for (line, place) in [
            ("figures --render", Place::Readme),
            ("figures --render --to results/other", apart),
        ] {
            assert_eq!(parse(line).unwrap(), Command::RenderFigures(place));
        }
        assert_eq!(
            parse("wire --batch 10").unwrap(),
            Command::Wire(words("--batch 10"))
        );
        for (line, rust) in [("clients", false), ("clients --rust", true)] {
            assert_eq!(parse(line).unwrap(), Command::Clients { rust });
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in [
            "",
            "tests",
            "test publish",
            "test --table",
            "test --bound",
            "loom --bound many",
            "loom one two",
            "ci --bound 3",
            "sanitize thread one two",
            "sanitize --quick",
            "fuzz handles",
            "fuzz --seconds 0",
            "fuzz --seconds",
            "mutants --shard",
            "verify everything",
            "lines --no-fail-fast",
            "explore 7",
            "explore --seeds",
            "explore --seeds many",
            "soak --minutes nan",
            "soak --out",
            "soak --seconds 5",
            "lines --rust",
            "figures --to",
            "figures --to --render",
            "figures --to results",
            "figures --to ./results/",
            "figures --to results/../results",
            "figures --to /tmp",
            "figures --to .",
            "figures --render --passes 5",
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}
