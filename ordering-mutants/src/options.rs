//! The command line.

use std::num::NonZeroUsize;
use std::thread;

use anyhow::{Context, Result, bail};

pub(crate) const USAGE: &str = "\
cargo xtask mutate-orderings [OPTIONS]

Weakens each memory ordering of the ledger, one at a time, and demands that a loom model fails, or that
loom-tests/survivors.toml says why none can. What is known from a run before is not run again.

  --fresh             forget what is known
  --filter TEXT       only mutants whose file, function or site contains TEXT; writes no report
  --quick             a sample of those that few files of models have killed, a minute; writes no report
  --slow              let every mutant meet the slowest models too, which take most of the time
  --jobs N            so many models at a time; otherwise one per core
  --bound N           preemptions loom explores per execution; otherwise 2
  --list              print the mutants and run nothing";

#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) fresh: bool,
    pub(crate) filter: Option<String>,
    pub(crate) quick: bool,
    pub(crate) slow: bool,
    pub(crate) jobs: usize,
    pub(crate) bound: String,
    pub(crate) list: bool,
    pub(crate) help: bool,
}

impl Options {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            fresh: false,
            filter: None,
            quick: false,
            slow: false,
            jobs: thread::available_parallelism().map_or(1, NonZeroUsize::get),
            bound: "2".to_owned(),
            list: false,
            help: false,
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .with_context(|| format!("{argument} needs a value"))
            };
            let number = |text: String| {
                text.parse::<NonZeroUsize>()
                    .with_context(|| format!("{argument} needs a number, not {text:?}"))
            };
            match argument.as_str() {
                "--fresh" => options.fresh = true,
                "--quick" => options.quick = true,
                "--slow" => options.slow = true,
                "--list" => options.list = true,
                "--help" | "-h" => options.help = true,
                "--filter" => options.filter = Some(value()?),
                "--jobs" => options.jobs = number(value()?)?.get(),
                "--bound" => options.bound = number(value()?)?.to_string(),
                _ => bail!("mutate-orderings does not take {argument:?}"),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_understood_or_refused() {
        let options = parse("--filter slot.rs --jobs 3 --fresh --bound 3").expect("all are known");
        assert_eq!(options.filter.as_deref(), Some("slot.rs"));
        assert_eq!((options.jobs, options.bound.as_str()), (3, "3"));
        assert!(options.fresh && !options.quick);
        for line in ["slot.rs", "--jobs", "--jobs 0", "--bound many", "--all"] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}
