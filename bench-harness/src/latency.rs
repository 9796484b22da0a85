//! Latency: a histogram of samples, taken seldom enough not to dominate what is measured.
//!
//! In a closed loop (no `--rate`) a slow call delays the next one, so the figures speak of calls, not of what arrivals would have
//! suffered. With `--rate` arrivals follow a schedule (at random, a Poisson process for each sender), and latency counts from when
//! *that* message should have arrived to its deletion, whoever receives it: a stall is charged to every arrival that fell into it,
//! which is what corrects for coordinated omission. What is still there at the end counts with its age then.

use hdrhistogram::Histogram;
use quanta::Clock;
use serde_json::{Map, Value};

/// What a latency figure measures; printed with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measures {
    /// The calls of one life cycle (send, receive and delete of one batch), one after the other.
    CycleCalls,
    /// From before the send call to after the receive call of another thread.
    SendToReceive,
    /// From when the message should have arrived, by the schedule, to after its deletion.
    IntendedToDeleted,
    /// Nothing was sampled.
    Nothing,
}

impl Measures {
    /// The words for it.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::CycleCalls => "send + receive + delete calls of one batch, closed loop",
            Self::SendToReceive => {
                "before send to after receive on another thread, closed loop (includes queueing)"
            }
            Self::IntendedToDeleted => {
                "each message, intended arrival to deletion, open loop at random (corrected for coordinated omission)"
            }
            Self::Nothing => "nothing",
        }
    }
}

/// One thread's samples.
#[derive(Debug)]
pub struct Recorder {
    clock: Clock,
    clock_cost_ns: u64,
    histogram: Histogram<u64>,
}

impl Recorder {
    const MAX_NS: u64 = 3_600_000_000_000;

    /// An empty recorder that takes off what a pair of clock readings costs by itself.
    pub fn new(clock_cost_ns: u64) -> Self {
        Self {
            clock: Clock::new(),
            clock_cost_ns,
            histogram: empty(),
        }
    }

    /// The clock's own unit, for [`record_since`](Self::record_since).
    #[inline]
    pub fn start(&self) -> u64 {
        self.clock.raw()
    }

    /// Now, in nanoseconds.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.clock.delta_as_nanos(0, self.clock.raw())
    }

    /// Records the time since `start`.
    #[inline]
    pub fn record_since(&mut self, start: u64) {
        let elapsed = self.clock.delta_as_nanos(start, self.clock.raw());
        self.record(elapsed.saturating_sub(self.clock_cost_ns));
    }

    /// Records a latency.
    #[inline]
    pub fn record(&mut self, nanoseconds: u64) {
        self.histogram.saturating_record(nanoseconds.max(1));
    }

    /// Forgets what was recorded so far: the warm-up is over.
    pub fn reset(&mut self) {
        self.histogram.reset();
    }

    /// The samples.
    pub fn into_histogram(self) -> Histogram<u64> {
        self.histogram
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, Recorder::MAX_NS, 3).expect("valid bounds")
}

/// All threads' samples together.
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Histogram<u64>,
}

impl Latency {
    /// The quantiles that are reported, by the names they have in JSON.
    pub const QUANTILES: [(&'static str, f64); 5] = [
        ("p50", 0.5),
        ("p90", 0.9),
        ("p99", 0.99),
        ("p99.9", 0.999),
        ("p99.99", 0.9999),
    ];

    /// Adds up the threads.
    pub fn merge(parts: impl IntoIterator<Item = Histogram<u64>>) -> Self {
        let mut histogram = empty();
        for part in parts {
            histogram.add(part).expect("all recorders have the same bounds");
        }
        Self { histogram }
    }

    /// Adds up passes.
    pub fn sum(passes: impl IntoIterator<Item = Self>) -> Self {
        Self::merge(passes.into_iter().map(|pass| pass.histogram))
    }

    /// How many samples.
    pub fn samples(&self) -> u64 {
        self.histogram.len()
    }

    /// A quantile in nanoseconds; `None` without samples.
    pub fn quantile_ns(&self, quantile: f64) -> Option<u64> {
        (!self.histogram.is_empty()).then(|| self.histogram.value_at_quantile(quantile))
    }

    /// The largest sample in nanoseconds.
    pub fn max_ns(&self) -> Option<u64> {
        (!self.histogram.is_empty()).then(|| self.histogram.max())
    }

    /// `{"p50": …, "p90": …, "p99": …, "p99.9": …, "p99.99": …, "max": …}` in nanoseconds, null without samples.
    pub fn to_json(&self) -> Value {
        let quantiles = Self::QUANTILES
            .iter()
            .map(|&(name, quantile)| (name.to_owned(), self.quantile_ns(quantile).into()));
        let mut map: Map<String, Value> = quantiles.collect();
        map.insert("max".into(), self.max_ns().into());
        Value::Object(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_known_samples() {
        let mut recorders = [Recorder::new(0), Recorder::new(0)];
        for nanoseconds in 1..=1000 {
            recorders[nanoseconds as usize % 2].record(nanoseconds);
        }
        let latency = Latency::merge(recorders.map(Recorder::into_histogram));
        assert_eq!(latency.samples(), 1000);
        assert_eq!(latency.quantile_ns(0.5), Some(500));
        assert_eq!(latency.max_ns(), Some(1000));
        let json = latency.to_json();
        let names: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(names, ["p50", "p90", "p99", "p99.9", "p99.99", "max"]);
    }

    #[test]
    fn no_samples_no_figures() {
        let latency = Latency::merge([]);
        assert_eq!(latency.quantile_ns(0.5), None);
        assert!(latency.to_json()["max"].is_null());
    }

    #[test]
    fn a_pause_is_seen() {
        let mut recorder = Recorder::new(0);
        let start = recorder.start();
        std::thread::sleep(std::time::Duration::from_millis(5));
        recorder.record_since(start);
        let latency = Latency::merge([recorder.into_histogram()]);
        assert!(latency.max_ns() >= Some(4_900_000));
    }
}
