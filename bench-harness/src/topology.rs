//! Who sits where: threads, their cores and their home partitions.
//!
//! ```text
//! Alike                          Pipeline                       Steal
//! core 0      core 1             core 0        core 1           core 0         core 1
//! ┌────────┐  ┌────────┐         ┌──────────┐  ┌──────────┐     ┌──────────┐   ┌──────────┐
//! │ s r d  │  │ s r d  │         │ producer │  │ consumer │     │ producer │   │ consumer │
//! └─┬────▲─┘  └─┬────▲─┘         └────┬─────┘  └────▲─────┘     └────┬─────┘   └────▲─────┘
//!   ▼    │      ▼    │                ▼             │                ▼              │
//!  partition 0  partition 1         each at its own home            partition 0 ────┘  (home: any other)
//! ```

/// How the threads of a run are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Every thread sends, receives and deletes.
    Alike {
        /// How many.
        threads: usize,
    },
    /// Senders and receivers, each at a home of its own.
    Pipeline {
        /// Senders.
        producers: usize,
        /// Receivers.
        consumers: usize,
    },
    /// Senders all at partition 0, receivers all elsewhere.
    Steal {
        /// Senders.
        producers: usize,
        /// Receivers.
        consumers: usize,
    },
}

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Send, receive, delete.
    Cycler,
    /// Send only.
    Producer,
    /// Receive and delete.
    Consumer,
}

/// One thread's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Which thread, from 0; also which producer its messages say they are from.
    pub index: usize,
    /// What it does.
    pub role: Role,
    /// The partition it calls home.
    pub home: usize,
}

impl Topology {
    /// How many threads.
    pub const fn threads(self) -> usize {
        match self {
            Self::Alike { threads } => threads,
            Self::Pipeline { producers, consumers } | Self::Steal { producers, consumers } => {
                producers + consumers
            }
        }
    }

    /// Whether senders and receivers are different threads.
    pub const fn is_split(self) -> bool {
        !matches!(self, Self::Alike { .. })
    }

    /// How many of them send.
    pub const fn senders(self) -> usize {
        match self {
            Self::Alike { threads } => threads,
            Self::Pipeline { producers, .. } | Self::Steal { producers, .. } => producers,
        }
    }

    /// How many of them receive.
    pub const fn receivers(self) -> usize {
        match self {
            Self::Alike { threads } => threads,
            Self::Pipeline { consumers, .. } | Self::Steal { consumers, .. } => consumers,
        }
    }

    /// Threads that messages may go between, by index: senders and receivers, some of them, or the first and the last thread.
    pub fn neighbours(self) -> Vec<(usize, usize)> {
        const PAIRS: usize = 4;
        if !self.is_split() {
            return vec![(0, self.threads() - 1)];
        }
        let pairs = self.senders().min(self.receivers()).min(PAIRS);
        (0..pairs).map(|pair| (pair, self.senders() + pair)).collect()
    }

    /// The seats, for a target with so many partitions; producers come first.
    pub fn seats(self, partitions: usize) -> Vec<Seat> {
        let seat = |index| {
            let role = match self {
                Self::Alike { .. } => Role::Cycler,
                _ if index < self.senders() => Role::Producer,
                _ => Role::Consumer,
            };
            let home = match (self, role) {
                (Self::Steal { .. }, Role::Producer) => 0,
                (Self::Steal { producers, .. }, _) if partitions > 1 => {
                    1 + (index - producers) % (partitions - 1)
                }
                _ => index % partitions.max(1),
            };
            Seat { index, role, home }
        };
        (0..self.threads()).map(seat).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn homes(topology: Topology, partitions: usize) -> Vec<usize> {
        topology.seats(partitions).iter().map(|seat| seat.home).collect()
    }

    #[test]
    fn homes_are_spread() {
        assert_eq!(homes(Topology::Alike { threads: 3 }, 2), [0, 1, 0]);
        assert_eq!(
            homes(
                Topology::Pipeline {
                    producers: 1,
                    consumers: 1
                },
                2
            ),
            [0, 1]
        );
    }

    #[test]
    fn nobody_receives_at_home_what_is_stolen() {
        assert_eq!(
            homes(
                Topology::Steal {
                    producers: 2,
                    consumers: 3
                },
                3
            ),
            [0, 0, 1, 2, 1]
        );
        assert_eq!(
            homes(
                Topology::Steal {
                    producers: 1,
                    consumers: 1
                },
                1
            ),
            [0, 0]
        );
    }
}
