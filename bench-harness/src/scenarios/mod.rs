//! Scenarios of the ledger's own: delays, dead letters, long polls, bursts, and what they cost. No rival has these (but of FIFO queues, which
//! have a textbook of their own, [`FifoTarget`](crate::fifo::FifoTarget)), so they are not run on a [`Target`](crate::target::Target) but on the ledger directly, through a [`Desk`](desk::Desk) that keeps the books.
//!
//! Each is verified like a run: what was sent was received and deleted exactly once, by cause (delivered, moved, left), never
//! before its time, never under somebody else's lease, and the queues' own counts agree. A wrong answer is a failure however fast.
//!
//! To add one: a file with the settings (command line and report are made from them) and a [`Trial`], and a line in [`Act`].

pub mod burst;
pub mod delay;
pub mod desk;
pub mod expiry;
pub mod fair;
pub mod fifo;
pub mod fifo_blocked;
pub mod fifo_dedup;
pub mod idle_queues;
pub mod longpoll;
pub mod overload;
pub mod poison;
pub mod register;
pub mod sheet;
pub mod straggler;
pub mod surroundings;
pub mod width;

use clap::{Args, Command, Subcommand};
use serde::Serialize;
use serde_json::Value;

use crate::memory;

pub use self::{
    desk::{Fault, Stage},
    sheet::{Sheet, short_table},
};

/// One of these scenarios with its settings.
pub trait Trial: Sync + Settings {
    /// Its name on the command line and in reports.
    const NAME: &'static str;

    /// Makes everything that can be larger or longer so by `pace`.
    fn scale(&mut self, pace: f64);

    /// Whether the settings make sense; the error is for the user.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Does it.
    fn perform(&self, stage: &Stage<'_>) -> anyhow::Result<Sheet>;
}

/// What settings can do by being settings.
pub trait Settings: Args + Serialize + Clone {
    /// As the command line has it when it is silent.
    fn defaults() -> Self {
        let matches = Self::augment_args(Command::new("defaults")).get_matches_from(["defaults"]);
        Self::from_arg_matches(&matches).expect("every setting has a default")
    }
}

impl<T: Args + Serialize + Clone> Settings for T {}

/// What all of them can be told.
#[derive(Clone, Copy, Debug, Args)]
pub struct Common {
    /// Multiply times and numbers of messages by this; 0.1 for a quick look
    #[arg(long, allow_negative_numbers = true, default_value_t = 1.0, value_parser = crate::cli::positive::<100>)]
    pub pace: f64,
    /// For bodies and everything random
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Print one JSON object on stdout, everything else on stderr
    #[arg(long)]
    pub json: bool,
}

/// A scenario as the command line has it.
#[derive(Clone, Debug, Args)]
pub struct Staged<T: Args> {
    /// What is its own.
    #[command(flatten)]
    pub settings: T,
    /// What all have.
    #[command(flatten)]
    pub common: Common,
}

/// A scenario ready to be performed.
pub trait Play: Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Its settings, for the report.
    fn settings(&self) -> Value;
    /// Does it.
    fn perform(&self, stage: &Stage<'_>) -> anyhow::Result<Sheet>;
}

impl<T: Trial> Play for T {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn settings(&self) -> Value {
        serde_json::to_value(self).expect("settings are plain")
    }

    fn perform(&self, stage: &Stage<'_>) -> anyhow::Result<Sheet> {
        Trial::perform(self, stage)
    }
}

macro_rules! acts {
    ($($(#[$about:meta])* $variant:ident($settings:ty)),* $(,)?) => {
        /// The scenarios, as commands.
        #[derive(Clone, Debug, Subcommand)]
        pub enum Act {
            $($(#[$about])* $variant(Staged<$settings>)),*
        }

        impl Act {
            /// The scenario, checked, and what all have.
            pub fn open(self) -> Result<(Box<dyn Play>, Common), String> {
                match self {
                    $(Self::$variant(staged) => open(staged.settings, staged.common.pace).map(|play| (play, staged.common))),*
                }
            }
        }

        /// All of them as the standard run has them.
        pub fn all(pace: f64) -> Result<Vec<Box<dyn Play>>, String> {
            Ok(vec![$(open(<$settings>::defaults(), pace)?),*])
        }
    };
}

acts! {
    /// Messages with delays of their own: how late are they delivered?
    ///
    /// Shows the lateness of deliveries against the moment each was due. None may come early: that fails the run.
    Delay(delay::Delay),
    /// A dead-letter storm: some messages are never deleted; what does it cost the others?
    ///
    /// Shows the good messages' throughput over that of a run without poison, in turns. Each poison message must end in the dead-letter
    /// queue exactly once, after exactly as many deliveries as are allowed.
    Poison(poison::Poison),
    /// From a send to the return of a receive that waits, against a bare wake-up
    ///
    /// Shows p50 and p99 of the wake with one waiter and with several, and both over those of a bare event-listener in the same run.
    Longpoll(longpoll::Longpoll),
    /// Arrivals triple for a while: the queue absorbs it, and drains
    ///
    /// Shows the peak of the backlog and the time to drain, beside what the rates let expect, and the backlog over time. Nothing may be
    /// lost.
    Burst(burst::Burst),
    /// All but one message in so many deleted: what does a survivor keep?
    ///
    /// Shows bytes per survivor before and after evacuation, for survivors that are delayed, visible and leased. The clock is set by hand:
    /// segments are evacuated when a minute old, messages once received only after twelve hours, leased ones never.
    Straggler(straggler::Straggler),
    /// A million leases end within a while: how late do the messages come back?
    ///
    /// Shows the lateness of redeliveries, to be at most 10 ms at p99 with a driver that calls every 10 ms. None may come early.
    Expiry(expiry::Expiry),
    /// A thousand queues with nothing in them: bytes for each
    ///
    /// Shows bytes allocated per queue, to be below 16 KiB: of queues that never had a message, and of those that had one.
    IdleQueues(idle_queues::IdleQueues),
    /// One noisy tenant and several quiet ones, with message groups and without
    ///
    /// Shows how long the quiet tenants' messages wait while the noisy one's backlog is worked off, without groups over with groups.
    Fair(fair::Fair),
    /// Producers at full speed against a full ledger
    ///
    /// Shows what consumers get done against a ledger with room, and the memory in use, which must never be beyond the limit.
    Overload(overload::Overload),
    /// All threads at once, then little traffic: width and order
    ///
    /// Shows over how many partitions the queue spreads after a rush, when it is narrow again, and how far from the order of sending the
    /// deliveries are, before and then. Takes five seconds for each halving.
    Width(width::Width),
    /// FIFO queues: life cycles through few groups and many, against the textbook
    ///
    /// Shows life cycles per second by groups, threads and batch, and the ledger's over those of one mutex around a map of groups
    /// (locked-fifo). A message that overtakes another one of its group, or is received while one of its group is in another thread's hand,
    /// fails the run.
    #[command(after_help = FIFO_EXAMPLES)]
    Fifo(fifo::Fifo),
    /// FIFO queues: half of all sends are of messages sent before
    ///
    /// Shows sends per second, the ledger's over the textbook's, and bytes for each deduplication id that is remembered. A message accepted
    /// twice fails the run.
    #[command(after_help = FIFO_DEDUP_EXAMPLES)]
    FifoDedup(fifo_dedup::FifoDedup),
    /// FIFO queues: a million groups are blocked; what does it cost the others?
    ///
    /// Shows the time of a life cycle with more and more blocked groups over that without any, to be at most 1.3, and bytes for each of
    /// them.
    #[command(after_help = FIFO_BLOCKED_EXAMPLES)]
    FifoBlocked(fifo_blocked::FifoBlocked),
}

const FIFO_EXAMPLES: &str = "\
Examples:
  epoq-bench fifo                                            all of it, a minute
  epoq-bench fifo --groups 10000 --passes 9 --seconds 1      the aims against locked-fifo
  epoq-bench fifo --groups 1 --threads 1 --batch 10 --turn 8 a single group, eight life cycles in a turn
  epoq-bench fifo --groups 1000000 --depth 1                 a million groups that all have a message";

const FIFO_DEDUP_EXAMPLES: &str = "\
Examples:
  epoq-bench fifo-dedup                                      every second send is of a message sent before
  epoq-bench fifo-dedup --share 90 --back 1000000            nine in ten, of long ago
  epoq-bench fifo-dedup --targets epoq --ids 5000000         the ledger alone, five million ids weighed";

const FIFO_BLOCKED_EXAMPLES: &str = "\
Examples:
  epoq-bench fifo-blocked                                    up to a million blocked groups
  epoq-bench fifo-blocked --targets epoq --rounds 25         the ledger alone, more exactly
  epoq-bench fifo-blocked --blocked 3000000 --batch 10       three million";

fn open<T: Trial + 'static>(mut settings: T, pace: f64) -> Result<Box<dyn Play>, String> {
    settings.scale(pace);
    settings.check()?;
    Ok(Box::new(settings))
}

/// The pace of a run that shall be over in a second or two.
pub const SHORT_PACE: &str = "0.2";

/// Their names, with a line about each.
pub fn list() -> Vec<(String, String)> {
    let commands = Act::augment_subcommands(Command::new("acts"));
    commands
        .get_subcommands()
        .map(|command| {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            (command.get_name().to_owned(), about)
        })
        .collect()
}

/// The most threads of a kind that a scenario can be asked for, as of a run.
pub(crate) const THREADS_MAX: usize = 1024;

/// A thread for each core; a default has to be one that may be asked for, however large the machine.
pub(crate) fn each_of(cores: usize) -> usize {
    cores.clamp(1, THREADS_MAX)
}

/// A thread for every second core.
pub(crate) fn half_of(cores: usize) -> usize {
    each_of(cores / 2)
}

/// The most messages, or milliseconds, that a scenario can be asked for.
pub(crate) const MANY: u64 = 100_000_000;

/// What a message may take, with its entry in the register.
const MESSAGE_BYTES: u64 = 200;

/// Whether so many messages at a time fit into memory; the error is for the user.
pub(crate) fn fits(messages: u64) -> Result<(), String> {
    const MIB: u64 = 1 << 20;
    let (needed, available) = (messages * MESSAGE_BYTES, memory::available_bytes());
    match available.filter(|&available| needed > available / 4 * 3) {
        Some(available) => Err(format!(
            "--messages {messages} would take some {} MiB, of which {} MiB are available",
            needed / MIB,
            available / MIB
        )),
        None => Ok(()),
    }
}

/// `n` times `pace`, but some.
pub(crate) fn scaled(n: u64, pace: f64) -> u64 {
    ((n as f64 * pace) as u64).clamp(1, MANY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(fits(1000), Ok(()));
        if memory::available_bytes().is_some() {
            assert!(fits(u64::MAX / MESSAGE_BYTES).unwrap_err().contains("MiB"));
        }
    }

    /// A default is parsed like what is typed: one out of range would end a command to which nothing was said.
    #[test]
    fn defaults_may_be_asked_for_on_any_machine() {
        for cores in [1, 2, 3, 64, 65, 129, 256, 1024, 5000] {
            for threads in [each_of(cores), half_of(cores), each_of(cores).max(2)] {
                let parsed = crate::cli::count::<THREADS_MAX>(&threads.to_string());
                assert_eq!(parsed, Ok(threads), "{cores} cores");
            }
        }
        assert_eq!((each_of(256), half_of(256), half_of(1)), (256, 128, 1));
    }

    #[test]
    fn as_many_threads_as_a_large_machine_has_are_accepted() {
        for line in [
            "fifo --threads 1,256",
            "fifo-dedup --threads 1,256",
            "poison --threads 256",
            "expiry --receivers 256",
            "width --threads 256",
            "delay --receivers 256",
            "burst --producers 256 --consumers 256",
            "overload --producers 256 --consumers 256",
        ] {
            let acts = Act::augment_subcommands(Command::new("acts"));
            let words = ["acts"].into_iter().chain(line.split(' '));
            let parsed = acts.try_get_matches_from(words);
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        let names: Vec<_> = all(1.0).unwrap().iter().map(|play| play.name()).collect();
        let listed: Vec<_> = list()
            .into_iter()
            .map(|(name, about)| {
                assert!(!about.is_empty(), "{name}");
                name
            })
            .collect();
        assert_eq!(names, listed);
    }
}
