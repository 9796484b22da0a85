//! The command line.

use std::env;

use anyhow::{Context, Result, bail, ensure};

use crate::figures::Effort;

pub(crate) const USAGE: &str = "\
cargo xtask COMMAND

  test [--bound N] [--no-fail-fast]   all tests: unit, integration, documentation, loom models with their twins
  loom [FILTER] [--bound N] [--no-fail-fast]
                                      only the models and twins, or those whose name contains FILTER
  ci [--no-fail-fast]                 format, clippy of the normal and the loom build, documentation, and a short run of
                                      each harness scenario, which must verify
  figures [--seconds S] [--passes N]  measures the README's table of figures and writes it there and to results/;
                                      some minutes, on a machine with nothing else to do
  lines                               counts the cache lines that an operation shares with other workers, with up to 64 simulated
                                      ones, and writes results/lines.json and results/lines.md; some minutes
  help                                this text

  --bound N         preemptions loom explores per execution; otherwise LOOM_MAX_PREEMPTIONS, otherwise 2
  --no-fail-fast    carry on after a failure";

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
    Figures(Effort),
    Lines,
    Help,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LoomOptions {
    pub(crate) filter: Option<String>,
    pub(crate) bound: Option<usize>,
    pub(crate) no_fail_fast: bool,
}

impl Command {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut arguments = arguments.into_iter();
        let command = arguments.next().context("a command is missing")?;
        if matches!(command.as_str(), "help" | "--help" | "-h") {
            return Ok(Self::Help);
        }
        if command == "figures" {
            return Self::parse_figures(arguments);
        }
        let (takes_filter, takes_bound) = match command.as_str() {
            "test" => (false, true),
            "loom" => (true, true),
            "ci" | "lines" => (false, false),
            _ => bail!("no command {command:?}"),
        };

        let mut options = LoomOptions::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--help" | "-h" => return Ok(Self::Help),
                "--no-fail-fast" if command != "lines" => options.no_fail_fast = true,
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
            _ => Self::Ci { no_fail_fast },
        })
    }
}

impl Command {
    fn parse_figures(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut effort = Effort::default();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .with_context(|| format!("{argument} needs a number"))
            };
            match argument.as_str() {
                "--seconds" => effort.seconds = value()?,
                "--passes" => effort.passes = value()?.parse().context("--passes needs a whole number")?,
                "--help" | "-h" => return Ok(Self::Help),
                _ => bail!("figures does not take {argument:?}"),
            }
        }
        ensure!(effort.passes > 0, "--passes must be at least 1");
        Ok(Self::Figures(effort))
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
            parse("loom publish --bound=3").unwrap(),
            Command::Loom(LoomOptions {
                filter: Some("publish".to_owned()),
                bound: Some(3),
                no_fail_fast: false
            })
        );
        assert_eq!(parse("loom --help").unwrap(), Command::Help);
        assert_eq!(parse("lines").unwrap(), Command::Lines);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in [
            "",
            "tests",
            "test publish",
            "test --bound",
            "loom --bound many",
            "loom one two",
            "ci --bound 3",
            "lines --no-fail-fast",
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}
