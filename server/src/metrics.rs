//! What the server counts, and how Prometheus reads it. Each serving thread has counters of its own, which are summed when read.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::{protocol::Action, service::Service};

/// Upper bounds of latency's buckets, in seconds. Long polls take up to 20.
const BOUNDS: [f64; 12] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 20.5,
];

/// One operation's counters on one thread.
#[derive(Debug, Default)]
struct Call {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

/// One thread's counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    calls: [Call; Action::ALL.len()],
    /// Requests that were none of an operation, or could not be read.
    unread: AtomicU64,
}

/// What all threads share.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    pub(crate) open: AtomicUsize,
    /// Of those that are too many, the ones that are being told so.
    pub(crate) turned_away: AtomicUsize,
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
}

// Relaxed throughout: counters that nothing rests on.
impl Counters {
    /// Counts a request by its HTTP status.
    pub(crate) fn count(&self, action: Option<Action>, status: u16, took: Duration) {
        let Some(call) = action.and_then(|action| self.calls.get(action as usize)) else {
            self.unread.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = call.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        call.nanos.fetch_add(nanos, Ordering::Relaxed);
        match status {
            400..500 => call.refused.fetch_add(1, Ordering::Relaxed),
            500.. => call.failed.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }
}

/// Everything there is to read.
pub(crate) struct Metrics {
    pub(crate) service: Arc<Service>,
    pub(crate) threads: Vec<Arc<Counters>>,
    pub(crate) connections: Arc<Connections>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// The registry that [`render`] reads.
pub(crate) fn registry(metrics: Metrics) -> Registry {
    let mut registry = Registry::with_prefix("epoq");
    registry.register_collector(Box::new(metrics));
    registry
}

/// The text that Prometheus reads.
pub(crate) fn render(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a text does not fail.
    let _ = text::encode(&mut text, registry);
    text
}

/// The content type of that text.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Metrics {
    fn sum(&self, read: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.threads
            .iter()
            .map(|thread| read(thread).load(Ordering::Relaxed))
            .sum()
    }

    fn encode_calls(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "request_duration_seconds",
            "Time from a request's head to its answer, by operation",
            None,
            MetricType::Histogram,
        )?;
        for &action in Action::ALL {
            let at = action as usize;
            let mut all = 0;
            let mut buckets = Vec::with_capacity(BOUNDS.len() + 1);
            for (number, bound) in BOUNDS.iter().copied().chain([f64::MAX]).enumerate() {
                let count = self.sum(|thread| &thread.calls[at].buckets[number]);
                all += count;
                buckets.push((bound, count));
            }
            if all > 0 {
                let seconds = self.sum(|thread| &thread.calls[at].nanos) as f64 / 1e9;
                family
                    .encode_family(&[("operation", action.name())])?
                    .encode_histogram::<[(&str, &str); 0]>(seconds, all, &buckets, None)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "request_errors",
            "Requests refused (the client's fault) and failed (the server's), by operation",
            None,
            MetricType::Counter,
        )?;
        for &action in Action::ALL {
            let at = action as usize;
            let refused = self.sum(|thread| &thread.calls[at].refused);
            let failed = self.sum(|thread| &thread.calls[at].failed);
            for (fault, count) in [("client", refused), ("server", failed)] {
                if count > 0 {
                    let labels = [("operation", action.name()), ("fault", fault)];
                    ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }

    fn encode_totals(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (name, help, value) in [
            (
                "requests_unread",
                "Requests that were none of an operation, or could not be read",
                self.sum(|thread| &thread.unread),
            ),
            (
                "connections_accepted",
                "Connections accepted",
                read(&self.connections.accepted),
            ),
            (
                "connections_refused",
                "Connections refused because there were too many",
                read(&self.connections.refused),
            ),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let memory = self.service.broker().memory();
        let open = self.connections.open.load(Ordering::Relaxed);
        for (name, help, value) in [
            ("connections_open", "Connections open", open as u64),
            ("memory_used_bytes", "Memory that messages take", memory.used),
            (
                "memory_limit_bytes",
                "Memory that messages may take",
                memory.limit,
            ),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }

    fn encode_queues(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut queues = self.service.queues();
        queues.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        let queues: Vec<_> = queues
            .iter()
            .map(|queue| (queue.name(), queue.counts()))
            .collect();
        type Read = fn(&epoq::Counts) -> u64;
        let gauges: [(&str, &str, Read); 3] = [
            ("queue_messages_visible", "Messages to be received", |counts| {
                counts.visible
            }),
            (
                "queue_messages_in_flight",
                "Messages received and not deleted",
                |counts| counts.in_flight,
            ),
            (
                "queue_messages_delayed",
                "Messages not to be received yet",
                |counts| counts.delayed,
            ),
        ];
        for (name, help, read) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (queue, counts) in &queues {
                let gauge = ConstGauge::new(i64::try_from(read(counts)).unwrap_or(i64::MAX));
                gauge.encode(family.encode_family(&[("queue", *queue)])?)?;
            }
        }
        let counters: [(&str, &str, Read); 6] = [
            ("queue_messages_sent", "Messages accepted", |counts| counts.sent),
            ("queue_messages_received", "Deliveries", |counts| counts.received),
            (
                "queue_messages_deleted",
                "Messages deleted by their handles",
                |counts| counts.deleted,
            ),
            (
                "queue_leases_expired",
                "Visibility timeouts that ended by themselves",
                |counts| counts.expired,
            ),
            (
                "queue_messages_lapsed",
                "Messages removed because their retention period was over",
                |counts| counts.lapsed,
            ),
            (
                "queue_messages_moved_out",
                "Messages moved to other queues: dead letters, and by move tasks",
                |counts| counts.moved_out,
            ),
        ];
        for (name, help, read) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (queue, counts) in &queues {
                ConstCounter::new(read(counts)).encode(family.encode_family(&[("queue", *queue)])?)?;
            }
        }
        Ok(())
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_calls(&mut encoder)?;
        self.encode_totals(&mut encoder)?;
        self.encode_queues(&mut encoder)
    }
}
