//! The scenarios: what the threads of a run do.

use clap::ValueEnum;

/// A way of using a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Each thread sends, receives and deletes at home
    Lifecycle,
    /// Producers and consumers are different threads
    Pipeline,
    /// All messages are sent on one core and received on the others
    Steal,
    /// Life cycles over N queued messages; measures bytes per queued message
    Backlog,
    /// Life cycles while N messages are in flight
    Inflight,
    /// One message in ten is not deleted when first received and comes back when its lease is over
    Redelivery,
    /// N messages at once, then none: does the memory return?
    Flood,
}

impl Scenario {
    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle",
            Self::Pipeline => "pipeline",
            Self::Steal => "steal",
            Self::Backlog => "backlog",
            Self::Inflight => "inflight",
            Self::Redelivery => "redelivery",
            Self::Flood => "flood",
        }
    }

    /// What it does, in one line.
    pub fn describe(self) -> String {
        let value = self.to_possible_value();
        value
            .and_then(|value| value.get_help().map(ToString::to_string))
            .unwrap_or_default()
    }

    /// Whether senders and receivers are different threads.
    pub const fn is_split(self) -> bool {
        matches!(self, Self::Pipeline | Self::Steal)
    }

    /// Whether it makes sense only with leases.
    pub const fn needs_leases(self) -> bool {
        matches!(self, Self::Inflight | Self::Redelivery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for &scenario in Scenario::value_variants() {
            assert_eq!(scenario.to_possible_value().unwrap().get_name(), scenario.name());
            assert!(!scenario.describe().is_empty());
        }
    }
}
