//! What else went on while something was measured: time stolen by the hypervisor, threads that waited for their core or lost it.

use std::fs;

use serde::Serialize;

/// What the kernel has counted of the calling thread so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadReading {
    ran_ns: u64,
    waited_ns: u64,
    preemptions: u64,
}

/// What the kernel has counted of the whole machine so far, in its ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineReading {
    stolen: u64,
    all: u64,
}

/// The noise of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Noise {
    /// Of the time its threads wanted to run, the share in which they waited for a core.
    pub waited: f64,
    /// How often a thread lost its core to another one (involuntary context switches).
    pub preemptions: u64,
    /// Of the machine's time, the share that the hypervisor gave to others.
    pub stolen: f64,
    /// Nanoseconds that a cache line took from a sender's core to a receiver's and back, of some pairs the farthest (where all send and
    /// receive, from the first thread to the last): the least and the most of the looks before and after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apart_ns: Option<[f64; 2]>,
}

impl ThreadReading {
    /// Now; zeroes where the kernel does not tell.
    pub fn now() -> Self {
        let schedule = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        Self::parse(&schedule, &status)
    }

    fn parse(schedule: &str, status: &str) -> Self {
        let mut numbers = schedule.split_whitespace().map(|word| word.parse().unwrap_or(0));
        let preemptions = status
            .lines()
            .find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
        Self {
            ran_ns: numbers.next().unwrap_or(0),
            waited_ns: numbers.next().unwrap_or(0),
            preemptions: preemptions
                .and_then(|count| count.trim().parse().ok())
                .unwrap_or(0),
        }
    }

    /// What has come since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            ran_ns: self.ran_ns.saturating_sub(earlier.ran_ns),
            waited_ns: self.waited_ns.saturating_sub(earlier.waited_ns),
            preemptions: self.preemptions.saturating_sub(earlier.preemptions),
        }
    }
}

impl MachineReading {
    /// Now; zeroes where the kernel does not tell.
    pub fn now() -> Self {
        Self::parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn parse(stat: &str) -> Self {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "));
        // user nice system idle iowait irq softirq steal; what follows is contained in the first two.
        let ticks: Vec<u64> = line
            .unwrap_or_default()
            .split_whitespace()
            .take(8)
            .map(|word| word.parse().unwrap_or(0))
            .collect();
        Self {
            stolen: ticks.get(7).copied().unwrap_or(0),
            all: ticks.iter().sum(),
        }
    }
}

impl Noise {
    /// Waiting or stealing above this share of the time is said aloud.
    const LOUD: f64 = 0.02;
    /// Cores that are by so much further from each other than before have been moved.
    pub const MOVED: f64 = 2.0;

    /// Of the threads' windows, and of the machine in about the same time.
    pub fn of(
        threads: impl Iterator<Item = ThreadReading>,
        before: MachineReading,
        after: MachineReading,
    ) -> Self {
        let (mut ran, mut waited, mut preemptions) = (0, 0, 0);
        for thread in threads {
            ran += thread.ran_ns;
            waited += thread.waited_ns;
            preemptions += thread.preemptions;
        }
        let share = |part: u64, whole: u64| {
            if whole == 0 {
                0.0
            } else {
                part as f64 / whole as f64
            }
        };
        Self {
            waited: share(waited, ran + waited),
            preemptions,
            stolen: share(
                after.stolen.saturating_sub(before.stolen),
                after.all.saturating_sub(before.all),
            ),
            apart_ns: None,
        }
    }

    /// With the distance of the cores as it was before and after.
    #[must_use]
    pub fn with_distances(self, before: Option<f64>, after: Option<f64>) -> Self {
        let apart_ns = before
            .zip(after)
            .map(|(before, after)| [before.min(after), before.max(after)]);
        Self { apart_ns, ..self }
    }

    /// Whether the cores were near in one of the passes it is of and far apart in another.
    pub fn has_moved(&self) -> bool {
        self.apart_ns.is_some_and(|[near, far]| far > near * Self::MOVED)
    }

    /// Whether figures made in it have to be doubted.
    pub fn is_loud(&self) -> bool {
        self.waited > Self::LOUD || self.stolen > Self::LOUD
    }

    /// The worse of both, in each respect.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        Self {
            waited: self.waited.max(other.waited),
            preemptions: self.preemptions.max(other.preemptions),
            stolen: self.stolen.max(other.stolen),
            apart_ns: match (self.apart_ns, other.apart_ns) {
                (Some([near, far]), Some([a, b])) => Some([near.min(a), far.max(b)]),
                (one, other) => one.or(other),
            },
        }
    }

    /// In words.
    pub fn describe(&self) -> String {
        format!(
            "threads waited {:.1} % of their time for a core, were put off it {} times, and the hypervisor took {:.1} % of the machine",
            self.waited * 100.0,
            self.preemptions,
            self.stolen * 100.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_understood() {
        let before = MachineReading::parse("cpu  100 0 50 800 0 0 0 50 0 0\ncpu0 1 2 3\n");
        assert_eq!(
            before,
            MachineReading {
                stolen: 50,
                all: 1000
            }
        );
        let after = MachineReading {
            stolen: 150,
            all: 2000,
        };
        let status = "voluntary_ctxt_switches:\t9\nnonvoluntary_ctxt_switches:\t7\n";
        let first = ThreadReading::parse("100 50 3", status);
        let then = ThreadReading {
            ran_ns: 400,
            waited_ns: 150,
            preemptions: 9,
        };
        let noise = Noise::of([then.since(first)].into_iter(), before, after);
        assert_eq!(
            noise,
            Noise {
                waited: 0.25,
                preemptions: 2,
                stolen: 0.1,
                apart_ns: None
            }
        );
        assert!(noise.is_loud() && !Noise::default().is_loud());
    }

    #[test]
    fn cores_that_were_moved_are_told_from_cores_that_were_not() {
        let apart = |before, after| Noise::default().with_distances(Some(before), Some(after));
        assert!(!apart(53.0, 60.0).has_moved() && apart(330.0, 53.0).has_moved());
        assert!(!Noise::default().with_distances(Some(53.0), None).has_moved());
        let worst = apart(53.0, 60.0)
            .worst(Noise::default())
            .worst(apart(320.0, 330.0));
        assert_eq!(worst.apart_ns, Some([53.0, 330.0]));
        assert!(worst.has_moved());
    }

    #[test]
    fn nothing_told_is_no_noise() {
        let nothing = MachineReading::parse("");
        assert_eq!(
            Noise::of([ThreadReading::parse("", "")].into_iter(), nothing, nothing),
            Noise::default()
        );
    }
}
