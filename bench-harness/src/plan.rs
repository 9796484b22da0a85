//! A run's settings, complete and checked.

use std::{num::NonZero, thread, time::Duration};

use crate::{
    check::Rule,
    memory,
    scenario::Scenario,
    target::BATCH_MAX,
    topology::{Seat, Topology},
    workload::Integrity,
};

/// Everything that decides what a run does.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What the threads do.
    pub scenario: Scenario,
    /// Who sits where.
    pub topology: Topology,
    /// Messages per call, 1 to 10.
    pub batch: usize,
    /// Bytes per body, at least 1.
    pub body_bytes: usize,
    /// How long to measure.
    pub duration: Duration,
    /// How long to run before measuring.
    pub warm_up: Duration,
    /// Queued before the clock starts; in `pipeline` and `steal` the most that may be outstanding.
    pub backlog: u64,
    /// Received and kept before the clock starts.
    pub in_flight: u64,
    /// Partitions of the target; `None` leaves it to the target.
    pub partitions: Option<usize>,
    /// Life cycles in one turn; `None`: each call is a turn of its own.
    pub turn: Option<usize>,
    /// Of a hundred messages, so many are sent by the first thread; `None`: each thread sends as many as it receives.
    pub share: Option<f64>,
    /// Queues, which each thread goes round.
    pub queues: usize,
    /// Messages arriving per second on average, all senders together, at random (each sender's a Poisson process); `None`: as fast as
    /// it goes.
    pub rate: Option<f64>,
    /// For bodies and whatever is random in the target.
    pub seed: u64,
    /// Which of several passes it is, from 0: arrivals at random come otherwise in each.
    pub round: usize,
    /// How long a lease lasts.
    pub visibility: Duration,
}

/// What the command line says; `None` where it is silent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    /// `--threads`
    pub threads: Option<usize>,
    /// `--producers`
    pub producers: Option<usize>,
    /// `--consumers`
    pub consumers: Option<usize>,
    /// `--batch`
    pub batch: Option<usize>,
    /// `--body`
    pub body_bytes: Option<usize>,
    /// `--seconds`
    pub seconds: Option<f64>,
    /// `--backlog`
    pub backlog: Option<u64>,
    /// `--in-flight`
    pub in_flight: Option<u64>,
    /// `--partitions`
    pub partitions: Option<usize>,
    /// `--turn`
    pub turn: Option<usize>,
    /// `--share`
    pub share: Option<f64>,
    /// `--queues`
    pub queues: Option<usize>,
    /// `--rate`
    pub rate: Option<f64>,
    /// `--seed`
    pub seed: Option<u64>,
    /// `--visibility-ms`
    pub visibility_ms: Option<u64>,
}

impl Plan {
    /// What a run lasts unless it is told otherwise.
    pub const SECONDS: f64 = 2.0;
    /// Messages queued or in flight where the scenario is about that.
    pub const MANY: u64 = 1_000_000;
    /// Messages outstanding at most between producers and consumers.
    pub const OUTSTANDING: u64 = 100_000;
    /// In `redelivery`, one message in this many is withheld.
    pub const WITHHELD_ONE_IN: u64 = 10;
    /// What the bodies of a batch may have together, as in SQS.
    const BATCH_BYTES_MAX: usize = 1 << 20;
    /// A lease that outlasts every run: the longest that SQS allows.
    const LONG: Duration = Duration::from_secs(12 * 3600);
    /// Leases that began before the clock did are good until all has been drained: that gets as long again, and ten minutes.
    const DURATION_MAX: Duration = Duration::from_secs((12 * 3600 - 600) / 2);
    const SHORT: Duration = Duration::from_millis(100);
    /// What a message may take beyond its body, for the question whether the machine can hold a fill at all.
    const ROUGH_OVERHEAD_BYTES: u64 = 256;

    /// Completes and checks what was asked for; the error is for the user.
    pub fn new(scenario: Scenario, wishes: Wishes) -> Result<Self, String> {
        let duration = Duration::from_secs_f64(wishes.seconds.unwrap_or(Self::SECONDS));
        let plan = Self {
            round: 0,
            scenario,
            topology: topology(scenario, wishes)?,
            batch: wishes.batch.unwrap_or(1),
            body_bytes: wishes.body_bytes.unwrap_or(64),
            duration,
            warm_up: (duration / 5).min(Duration::from_millis(200)),
            backlog: wishes.backlog.unwrap_or(match scenario {
                Scenario::Backlog | Scenario::Flood => Self::MANY,
                Scenario::Pipeline | Scenario::Steal => Self::OUTSTANDING,
                _ => 0,
            }),
            in_flight: wishes.in_flight.unwrap_or(if scenario == Scenario::Inflight {
                Self::MANY
            } else {
                0
            }),
            partitions: wishes.partitions,
            turn: wishes.turn,
            share: wishes.share,
            queues: wishes.queues.unwrap_or(1),
            rate: wishes.rate,
            seed: wishes.seed.unwrap_or(1),
            visibility: match (wishes.visibility_ms, scenario) {
                (Some(ms), _) => Duration::from_millis(ms),
                (None, Scenario::Redelivery) => Self::SHORT,
                (None, _) => Self::LONG,
            },
        };
        plan.check(wishes)?;
        Ok(plan)
    }

    fn check(&self, wishes: Wishes) -> Result<(), String> {
        let name = self.scenario.name();
        if !(1..=BATCH_MAX).contains(&self.batch) {
            return Err(format!("--batch is 1 to {BATCH_MAX}"));
        }
        if self.body_bytes == 0 {
            return Err("--body is at least 1 byte".into());
        }
        if self.batch.saturating_mul(self.body_bytes) > Self::BATCH_BYTES_MAX {
            return Err(format!(
                "the bodies of a batch may have {} bytes together, as in SQS: --batch or --body is too large",
                Self::BATCH_BYTES_MAX
            ));
        }
        if self.duration.is_zero() {
            return Err("--seconds must be more than 0".into());
        }
        if wishes.in_flight.is_some()
            && !matches!(
                self.scenario,
                Scenario::Lifecycle | Scenario::Backlog | Scenario::Inflight
            )
        {
            return Err(format!(
                "--in-flight goes with lifecycle, backlog and inflight, not with {name}"
            ));
        }
        if self.scenario.is_split() && self.backlog < 1000 {
            return Err(format!(
                "--backlog bounds what is outstanding in {name}, and must be at least 1000"
            ));
        }
        if self.scenario == Scenario::Flood && (self.rate.is_some() || self.turn.is_some()) {
            return Err("flood sends and drains as fast as it goes: no --rate, no --turn".into());
        }
        if self.scenario == Scenario::Flood && self.backlog == 0 {
            return Err("flood needs a --backlog of at least 1".into());
        }
        if let Some(share) = self.share {
            let others = self.topology.threads().saturating_sub(1);
            if !(0.0..=100.0).contains(&share) || (others == 0 && share < 100.0) {
                return Err("--share is 0 to 100, and with one thread 100".into());
            }
            if self.scenario != Scenario::Lifecycle
                || self.rate.is_some()
                || self.turn.is_some()
                || (self.backlog, self.in_flight) != (0, 0)
            {
                return Err(
                    "--share goes with lifecycle, without --rate, --turn, --backlog and --in-flight".into(),
                );
            }
        }
        if self.queues == 0 {
            return Err("--queues is at least 1".into());
        }
        if self.rate.is_some() && self.turn.is_some() {
            return Err(
                "--rate and --turn exclude each other: a scheduled arrival is a turn of its own".into(),
            );
        }
        if self.scenario == Scenario::Redelivery && Integrity::of(self.body_bytes) == Integrity::CountOnly {
            return Err("redelivery tells messages apart by an id: --body is at least 8 there".into());
        }
        if self.scenario == Scenario::Redelivery && self.visibility.is_zero() {
            return Err("redelivery times leases: --visibility-ms is at least 1 there".into());
        }
        if self.scenario != Scenario::Redelivery && wishes.visibility_ms.is_some() {
            return Err(format!(
                "in {name} no lease may end before the run does: --visibility-ms is only for redelivery"
            ));
        }
        if self.scenario != Scenario::Redelivery && self.duration > Self::DURATION_MAX {
            return Err(format!(
                "a pass is too long: a lease is at most {} hours, and none may end before the pass does, so {} s are the most",
                Self::LONG.as_secs() / 3600,
                Self::DURATION_MAX.as_secs()
            ));
        }
        fits_into(
            memory::available_bytes(),
            self.backlog,
            self.in_flight,
            self.body_bytes,
        )
    }

    /// Messages per call where that is not what is measured: as many as a call may take.
    pub fn largest_batch(&self) -> usize {
        (Self::BATCH_BYTES_MAX / self.body_bytes).clamp(1, BATCH_MAX)
    }

    /// What leases do in this run.
    pub fn rule(&self) -> Rule {
        match self.scenario {
            Scenario::Redelivery => Rule::ComesBack {
                one_in: Self::WITHHELD_ONE_IN,
                visibility: self.visibility,
            },
            _ => Rule::Exclusive,
        }
    }

    /// Whether so many messages are all that are to be there before the clock starts; where producers go on, there need not be any.
    pub fn is_filled_by(&self, sent: u64) -> bool {
        self.topology.is_split() || sent >= self.backlog + self.in_flight
    }

    /// What seat `index` has to queue before the clock starts: its part of the whole.
    pub fn backlog_of(&self, seat: &Seat) -> u64 {
        if self.scenario.is_split() {
            0
        } else {
            self.share(self.backlog, seat)
        }
    }

    /// What seat `index` has to receive and keep before the clock starts: its part of the whole.
    pub fn in_flight_of(&self, seat: &Seat) -> u64 {
        self.share(self.in_flight, seat)
    }

    fn share(&self, whole: u64, seat: &Seat) -> u64 {
        let threads = self.topology.threads() as u64;
        whole / threads + u64::from((seat.index as u64) < whole % threads)
    }

    /// In a split topology or an open loop, messages whose number has none of these bits are sampled for latency: one in 256 when senders go as
    /// fast as they can, one in 16 when they follow a schedule, so that all loads pay the same for it, and all where that would be few.
    pub fn sample_mask(&self) -> u64 {
        match self.rate {
            None => 255,
            Some(rate) if rate / self.topology.receivers() as f64 > 2e4 => 15,
            Some(_) => 0,
        }
    }

    /// With a `--share`: the part of all messages that seat `index` sends.
    pub fn share_of(&self, seat: &Seat) -> Option<f64> {
        let first = self.share? / 100.0;
        let others = self.topology.threads().saturating_sub(1).max(1) as f64;
        Some(if seat.index == 0 {
            first
        } else {
            (1.0 - first) / others
        })
    }

    /// With an open loop: nanoseconds on average between two arrivals (of a batch each) at one sender.
    pub fn interval_ns(&self) -> Option<f64> {
        let per_call = (self.batch * self.topology.senders()) as f64;
        self.rate.map(|rate| per_call * 1e9 / rate)
    }
}

/// Whether the messages that a plan keeps fit into nine tenths of `available` bytes; where the system does not tell how many there are,
/// all that can be counted do. A sum that wrapped would be a small one.
fn fits_into(available: Option<u64>, backlog: u64, in_flight: u64, body_bytes: usize) -> Result<(), String> {
    let each = (body_bytes as u64).saturating_add(Plan::ROUGH_OVERHEAD_BYTES);
    let messages = backlog.checked_add(in_flight);
    let Some((messages, needed)) = messages.and_then(|all| Some((all, all.checked_mul(each)?))) else {
        return Err(format!(
            "{backlog} messages queued and {in_flight} in flight, of {body_bytes} bytes, need more MiB than can be counted"
        ));
    };
    match available {
        Some(available) if needed > available / 10 * 9 => Err(format!(
            "{messages} messages of {body_bytes} bytes may need {} MiB, and only {} MiB are available",
            needed >> 20,
            available >> 20
        )),
        _ => Ok(()),
    }
}

fn topology(scenario: Scenario, wishes: Wishes) -> Result<Topology, String> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    if !scenario.is_split() {
        if wishes.producers.is_some() || wishes.consumers.is_some() {
            return Err(format!(
                "--producers and --consumers go with pipeline and steal, not with {}",
                scenario.name()
            ));
        }
        return Ok(Topology::Alike {
            threads: wishes.threads.unwrap_or(cores),
        });
    }
    let threads = wishes.threads;
    let (producers, consumers) = match (wishes.producers, wishes.consumers) {
        (Some(producers), Some(consumers)) => (producers, consumers),
        (Some(producers), None) => (
            producers,
            threads.map_or(cores.saturating_sub(producers).max(1), |all| {
                all.saturating_sub(producers)
            }),
        ),
        (None, Some(consumers)) => (threads.map_or(1, |all| all.saturating_sub(consumers)), consumers),
        (None, None) => {
            let all = threads.unwrap_or(cores.max(2));
            let producers = if scenario == Scenario::Steal { 1 } else { all / 2 };
            (producers, all.saturating_sub(producers))
        }
    };
    if producers == 0 || consumers == 0 {
        return Err(format!(
            "{} needs at least 2 threads: a producer and a consumer",
            scenario.name()
        ));
    }
    if threads.is_some_and(|all| producers.checked_add(consumers) != Some(all)) {
        return Err(format!(
            "--threads is not --producers + --consumers ({producers} + {consumers})"
        ));
    }
    Ok(if scenario == Scenario::Steal {
        Topology::Steal { producers, consumers }
    } else {
        Topology::Pipeline { producers, consumers }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(scenario: Scenario, wishes: Wishes) -> Result<Plan, String> {
        Plan::new(scenario, wishes)
    }

    #[test]
    fn defaults_follow_the_scenario() {
        let lifecycle = plan(Scenario::Lifecycle, Wishes::default()).unwrap();
        assert_eq!(
            (
                lifecycle.backlog,
                lifecycle.in_flight,
                lifecycle.batch,
                lifecycle.body_bytes
            ),
            (0, 0, 1, 64)
        );
        assert_eq!(
            plan(Scenario::Backlog, Wishes::default()).unwrap().backlog,
            Plan::MANY
        );
        assert_eq!(
            plan(Scenario::Inflight, Wishes::default()).unwrap().in_flight,
            Plan::MANY
        );
        assert_eq!(
            plan(Scenario::Redelivery, Wishes::default()).unwrap().visibility,
            Plan::SHORT
        );
        assert!(
            plan(Scenario::Pipeline, Wishes::default())
                .unwrap()
                .topology
                .threads()
                >= 2
        );
    }

    #[test]
    fn producers_and_consumers_add_up() {
        let with = |threads, producers, consumers| {
            plan(
                Scenario::Pipeline,
                Wishes {
                    threads,
                    producers,
                    consumers,
                    ..Wishes::default()
                },
            )
            .map(|plan| plan.topology)
        };
        assert_eq!(
            with(Some(4), None, None),
            Ok(Topology::Pipeline {
                producers: 2,
                consumers: 2
            })
        );
        assert_eq!(
            with(Some(4), Some(1), None),
            Ok(Topology::Pipeline {
                producers: 1,
                consumers: 3
            })
        );
        assert_eq!(
            with(None, Some(3), Some(1)),
            Ok(Topology::Pipeline {
                producers: 3,
                consumers: 1
            })
        );
        assert!(with(Some(4), Some(1), Some(1)).is_err());
        assert!(with(Some(1), None, None).is_err());
        assert!(with(Some(2), Some(2), None).is_err());
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        let wishes = Wishes::default();
        for (scenario, wishes, word) in [
            (
                Scenario::Lifecycle,
                Wishes {
                    batch: Some(11),
                    ..wishes
                },
                "--batch",
            ),
            (
                Scenario::Lifecycle,
                Wishes {
                    body_bytes: Some(0),
                    ..wishes
                },
                "--body",
            ),
            (
                Scenario::Lifecycle,
                Wishes {
                    batch: Some(10),
                    body_bytes: Some(1 << 20),
                    ..wishes
                },
                "together",
            ),
            (
                Scenario::Lifecycle,
                Wishes {
                    producers: Some(1),
                    ..wishes
                },
                "--producers",
            ),
            (
                Scenario::Pipeline,
                Wishes {
                    in_flight: Some(1),
                    ..wishes
                },
                "--in-flight",
            ),
            (
                Scenario::Lifecycle,
                Wishes {
                    rate: Some(1.0),
                    turn: Some(2),
                    ..wishes
                },
                "--rate",
            ),
            (
                Scenario::Redelivery,
                Wishes {
                    body_bytes: Some(4),
                    ..wishes
                },
                "--body",
            ),
            (
                Scenario::Lifecycle,
                Wishes {
                    visibility_ms: Some(100),
                    ..wishes
                },
                "--visibility-ms",
            ),
            (
                Scenario::Backlog,
                Wishes {
                    backlog: Some(1 << 40),
                    ..wishes
                },
                "MiB",
            ),
        ] {
            let error = plan(scenario, wishes).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_fill_that_wraps_is_not_taken_for_a_small_one() {
        // 320 bytes each: once round the 64 bits, 64 bytes are left.
        for (backlog, in_flight) in [
            (57_646_075_230_342_349, 0),
            (u64::MAX, 1),
            (0, u64::MAX),
            (1 << 63, 1 << 63),
        ] {
            for available in [None, Some(1 << 40)] {
                let error = fits_into(available, backlog, in_flight, 64).unwrap_err();
                assert!(error.contains("MiB"), "{error}");
            }
            let wishes = Wishes {
                backlog: Some(backlog),
                in_flight: Some(in_flight),
                ..Wishes::default()
            };
            assert!(plan(Scenario::Backlog, wishes).unwrap_err().contains("MiB"));
        }
        assert_eq!(fits_into(Some(1 << 20), 2949, 0, 64), Ok(()));
        assert!(fits_into(Some(1 << 20), 2949, 1, 64).is_err());
        assert_eq!(fits_into(None, 1 << 40, 0, 64), Ok(()));
    }

    #[test]
    fn a_fill_is_shared_out_completely() {
        let wishes = Wishes {
            threads: Some(3),
            backlog: Some(1001),
            ..Wishes::default()
        };
        let plan = plan(Scenario::Backlog, wishes).unwrap();
        let parts: Vec<_> = plan
            .topology
            .seats(2)
            .iter()
            .map(|seat| plan.backlog_of(seat))
            .collect();
        assert_eq!(parts, [334, 334, 333]);
    }
}
