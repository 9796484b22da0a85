//! What a queue looks like inside, and its figures: for whoever watches over it.

use super::Queue;
use crate::{
    broker::Broker,
    budget::MemoryUse,
    clock::Millis,
    ledger::{look::Glance, partition::Partition, reclaim::Pin, state::Phase},
    queue::Counts,
    sync::Ordering,
};

/// Nodes of returned messages that a snapshot counts at most in one partition.
const RETURNED_COUNTED_MAX: usize = 1 << 20;

/// A queue's insides at about one moment; see [`Queue::snapshot`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct QueueSnapshot {
    /// The partitions there are, by number: each is made by the first send to it.
    pub partitions: Vec<PartitionSnapshot>,
}

/// One partition's insides.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionSnapshot {
    /// Its number.
    pub number: u32,
    /// The segments in use, the oldest first.
    pub segments: Vec<SegmentSnapshot>,
    /// Spare segments, kept for reuse.
    pub pooled: u32,
    /// Nodes that lead back to messages behind the head, up to 1,048,576.
    pub returned: usize,
    /// About when the oldest message to be received was sent, by the hint that receives go by; `None` if one found nothing, in a later
    /// millisecond than the last one was sent.
    pub oldest_hint: Option<Millis>,
    /// When a receive will look for leases and delays that are over, by the hint it goes by; `None` for never.
    pub sweep_hint: Option<Millis>,
}

/// One segment: 252 messages' places, and their bodies of up to 16 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentSnapshot {
    /// Its number in its partition, which another segment may have had before.
    pub number: u32,
    /// Its serial, which no other segment of the queue has or had.
    pub serial: u64,
    /// When it was put to use.
    pub opened_at: Millis,
    /// Its slots by the state of their messages.
    pub slots: SlotCounts,
    /// Slots not dead, and what else keeps it: one for its place in the list, one for each node that leads back to it. At zero it
    /// is retired.
    pub live: u32,
    /// Bytes of its allocation; bodies larger than 16 KiB are apart.
    pub bytes: usize,
    /// Messages to be received that nobody has in hand.
    pub tokens: u32,
    /// Whether nothing more is sent here.
    pub is_sealed: bool,
    /// Whether the receivers' head has gone by: what becomes visible here is found by a node.
    pub is_passed: bool,
    /// When a lease or delay here may be over, by the hint that sweeps go by; `None` for never.
    pub due_hint: Option<Millis>,
}

/// A segment's slots by the state of their messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SlotCounts {
    /// Not reserved yet, or being written.
    pub empty: u32,
    /// Not to be received yet.
    pub delayed: u32,
    /// To be received.
    pub visible: u32,
    /// To be received when their tenant's turn has come; in a FIFO queue, all that are to be received.
    pub in_line: u32,
    /// No messages, but what tells receivers that a message group has something for them (FIFO queues).
    pub batons: u32,
    /// Leased.
    pub in_flight: u32,
    /// Gone. Of the segment's life before, if the slot is being written.
    pub dead: u32,
}

/// A queue's figures; see [`Queue::metrics`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueMetrics {
    /// Messages by state, and what has happened to them so far.
    pub counts: Counts,
    /// The memory of its messages.
    pub memory: MemoryUse,
    /// Dead letters that stayed for a second because their queue had no room, since the last purge.
    pub put_off: u64,
    /// Messages moved out of nearly empty segments since the last purge.
    pub evacuated: u64,
    /// Looks at another partition since the last purge, because the one that a receive began at had too little.
    pub steals: u64,
    /// Partitions that sends are spread over.
    pub width: usize,
    /// How often the queue was widened so far.
    pub widened: u64,
    /// How often it was narrowed so far.
    pub narrowed: u64,
    /// Partitions there are.
    pub partitions_open: usize,
    /// Tenants that take more than their share at the moment (CloudWatch's `ApproximateNumberOfNoisyGroups`); see
    /// [`Queue::tenants`] for more about each.
    pub noisy_groups: usize,
}

/// A broker's figures; see [`Broker::metrics`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerMetrics {
    /// Queues there are.
    pub queues: usize,
    /// The sums of their counts. What happened in queues that have been deleted is not in them.
    pub counts: Counts,
    /// The memory of all messages.
    pub memory: MemoryUse,
    /// Threads registered at the moment.
    pub workers: usize,
    /// The most partitions that a queue can have.
    pub partitions: usize,
    /// Message move tasks running.
    pub moves_running: usize,
}

fn hint(moment: Millis) -> Option<Millis> {
    (moment != Millis::NEVER).then_some(moment)
}

impl SegmentSnapshot {
    fn of(glance: &Glance<'_>) -> Self {
        let mut slots = SlotCounts::default();
        for state in glance.states() {
            let count = match state.phase() {
                Phase::Empty => &mut slots.empty,
                Phase::Delayed => &mut slots.delayed,
                Phase::Visible => &mut slots.visible,
                Phase::InLine => &mut slots.in_line,
                Phase::InFlight => &mut slots.in_flight,
                Phase::Dead => &mut slots.dead,
                Phase::Baton | Phase::BatonLater => &mut slots.batons,
            };
            *count += 1;
        }
        slots.empty += glance.unreserved();
        Self {
            number: glance.number(),
            serial: glance.serial(),
            opened_at: glance.opened(),
            slots,
            live: glance.live(),
            bytes: glance.bytes(),
            tokens: glance.tokens(),
            is_sealed: glance.is_sealed(),
            is_passed: glance.is_passed(),
            due_hint: hint(glance.due()),
        }
    }
}

impl PartitionSnapshot {
    fn of(partition: &Partition, pin: &Pin<'_>) -> Self {
        let mut segments: Vec<_> = partition
            .glance(pin)
            .map(|glance| SegmentSnapshot::of(&glance))
            .collect();
        segments.sort_unstable_by_key(|segment| segment.serial);
        Self {
            number: partition.number,
            segments,
            pooled: partition.spare(),
            returned: partition.returned.count(RETURNED_COUNTED_MAX, pin),
            oldest_hint: hint(Millis(partition.oldest())),
            // Relaxed: shown to somebody, nothing rests on it.
            sweep_hint: hint(Millis(partition.sweep_at.load(Ordering::Relaxed))),
        }
    }
}

impl Queue {
    /// What the queue looks like inside: for diagnosis, and for curiosity. Every slot is looked at once, so figures of different
    /// slots are of different moments if others operate meanwhile. Empty once the queue has been deleted.
    ///
    /// O(messages): some 0.1 ms for 100,000 of them, during which nothing retired by the broker can be freed.
    ///
    /// ```
    /// use epoq::{Broker, QueueConfig};
    /// let queue = Broker::new().create_queue("q", QueueConfig::default())?;
    /// queue.send(b"hello")?;
    /// let segment = queue.snapshot().partitions[0].segments[0];
    /// assert_eq!((segment.slots.visible, segment.tokens, segment.is_sealed), (1, 1, false));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> QueueSnapshot {
        self.in_passing(|turn| {
            let partitions = self.era(turn.pin()).map(|era| {
                era.all(turn.pin())
                    .map(|partition| PartitionSnapshot::of(partition, turn.pin()))
                    .collect()
            });
            QueueSnapshot {
                partitions: partitions.unwrap_or_default(),
            }
        })
    }

    /// The queue's figures: plain numbers, exact when nothing runs. O(workers + partitions).
    #[must_use]
    pub fn metrics(&self) -> QueueMetrics {
        let counts = self.counts();
        let memory = self.memory();
        let (widened, narrowed) = self.width_changes();
        self.in_passing(|turn| {
            let mut metrics = QueueMetrics {
                counts,
                memory,
                put_off: 0,
                evacuated: 0,
                steals: 0,
                width: self.width(),
                widened,
                narrowed,
                partitions_open: 0,
                noisy_groups: self.tenants().iter().filter(|tenant| tenant.is_noisy).count(),
            };
            if let Some(era) = self.era(turn.pin()) {
                metrics.put_off = era.stats.sum(|c| &c.put_off);
                metrics.evacuated = era.stats.sum(|c| &c.evacuated);
                metrics.steals = era.stats.sum(|c| &c.steals);
                metrics.partitions_open = era.glances(turn.pin()).count();
            }
            metrics
        })
    }
}

impl Broker {
    /// The broker's figures: plain numbers, exact when nothing runs. O(queues × workers).
    #[must_use]
    pub fn metrics(&self) -> BrokerMetrics {
        // Apart from their lock, so that nobody waits for it.
        let queues: Vec<_> = self.names().queues().values().cloned().collect();
        // First: the counting below may register this thread for its while.
        let workers = self.shared().workers() as usize;
        let counts = queues
            .iter()
            .fold(Counts::default(), |sum, queue| sum.plus(queue.counts()));
        BrokerMetrics {
            queues: queues.len(),
            counts,
            memory: self.memory(),
            workers,
            partitions: self.partitions(),
            moves_running: self.names().moves.running(),
        }
    }
}
