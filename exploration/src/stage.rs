//! The queues of an episode, and what its workers know together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use epoq::{Broker, Counts, FifoConfig, ManualClock, Millis, Queue, QueueConfig, Redrive, fault, limits};
use epoq_judge::{Books, Broken, Delivery, Groups, Id, Lease, Moment};

use crate::random::Random;

/// Message groups of the FIFO queue.
pub(crate) const GROUPS: usize = 3;
/// Senders, and one more who clears up in the end.
pub(crate) const WORKERS: usize = 4;
/// Passes over all queues, half a minute apart, in which all has to be received that was sent.
const DRAINS: usize = 200;

/// What a worker may be at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Standard,
    Dead,
    Fifo,
    DeadFifo,
}

/// What all share.
pub(crate) struct Stage {
    pub(crate) broker: Broker,
    pub(crate) time: ManualClock,
    pub(crate) standard: Queue,
    pub(crate) dead: Queue,
    pub(crate) fifo: Queue,
    pub(crate) dead_fifo: Queue,
    /// One that is purged.
    pub(crate) side: Queue,
    pub(crate) side_sent: AtomicU64,
    pub(crate) side_deleted: AtomicU64,
    /// Purges of it that are over.
    pub(crate) side_purged: AtomicU64,
    pub(crate) books: Books,
    pub(crate) groups: Groups,
    pub(crate) operations: AtomicUsize,
    retention: Duration,
    /// Less than five minutes go by, until all workers are gone: what is sent again comes to nothing.
    pub(crate) is_brief: bool,
    /// Nothing is sent while so many messages are there: where there are few, all workers are at the same ones.
    pub(crate) messages_max: u64,
    calls: AtomicU64,
}

/// A message received.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) id: Id,
    pub(crate) receives: u32,
    pub(crate) handle: epoq::ReceiptHandle,
    pub(crate) sequence: u128,
    pub(crate) sent: Millis,
    pub(crate) group: usize,
    pub(crate) place: Place,
}

impl Stage {
    pub(crate) fn new(random: &mut Random) -> Arc<Self> {
        let time = ManualClock::new();
        let memory = random.of_these([1 << 30, 1 << 30, 64_000, 32_000]);
        let broker = Broker::builder()
            .clock(&time)
            .seed(random.next())
            .partitions(1 + random.below(3))
            .min_width(random.of_these([1, usize::MAX]))
            .memory_limit(memory)
            .build()
            .expect("valid");
        let retention = Duration::from_secs(if random.once_in(6) { 60 } else { 14 * 24 * 3_600 });
        let plain = || QueueConfig {
            in_flight_max: None,
            retention,
            ..QueueConfig::default()
        };
        let fifo = FifoConfig {
            content_based_deduplication: true,
            ..FifoConfig::default()
        };
        let ordered = || QueueConfig {
            fifo: Some(fifo),
            ..plain()
        };
        let create = |name: &str, config| broker.create_queue(name, config).expect("a valid queue");
        let dead = create("dead", plain());
        let dead_fifo = create("dead.fifo", ordered());
        let redrive = |random: &mut Random, target| random.once_in(2).then(|| Redrive::new(target, 2));
        let in_flight_max = |random: &mut Random| random.once_in(4).then_some(4);
        let standard = create(
            "standard",
            QueueConfig {
                redrive: redrive(random, "dead"),
                in_flight_max: in_flight_max(random),
                ..plain()
            },
        );
        let delay = random.of_these([0, 0, 0, 100]);
        let fifo = create(
            "ordered.fifo",
            QueueConfig {
                redrive: redrive(random, "dead.fifo"),
                in_flight_max: in_flight_max(random),
                delay: Duration::from_millis(delay),
                ..ordered()
            },
        );
        let side = create("side", plain());
        let fails = random.of_these([0, 0, 4, 16]);
        fault::fail_allocations(fails, random.next());
        Arc::new(Self {
            broker,
            time,
            standard,
            dead,
            fifo,
            dead_fifo,
            side,
            side_sent: AtomicU64::new(0),
            side_deleted: AtomicU64::new(0),
            side_purged: AtomicU64::new(0),
            books: Books::new(WORKERS + 1),
            groups: Groups::new(GROUPS),
            operations: AtomicUsize::new(0),
            retention,
            is_brief: random.once_in(2),
            messages_max: random.of_these([1, 3, u64::MAX, u64::MAX]),
            calls: AtomicU64::new(0),
        })
    }

    /// Moves the clock on.
    pub(crate) fn jump(&self, by: Duration) {
        let five_minutes = limits::DEDUPLICATION_INTERVAL;
        if !self.is_brief || Duration::from_millis(self.time.now().as_millis()) + by < five_minutes {
            self.time.advance(by);
        }
    }

    /// Whether all workers are at a few messages.
    pub(crate) fn is_crowded(&self) -> bool {
        self.messages_max < u64::MAX
    }

    pub(crate) fn queue(&self, place: Place) -> &Queue {
        match place {
            Place::Standard => &self.standard,
            Place::Dead => &self.dead,
            Place::Fifo => &self.fifo,
            Place::DeadFifo => &self.dead_fifo,
        }
    }

    /// By the broker's clock, and by the steps of the exploration.
    pub(crate) fn now(&self) -> Moment {
        Moment {
            ms: self.time.now().as_millis(),
            tick: shuttle::current::context_switches() as u64,
        }
    }

    /// Enters what a receive brought that began at `before`.
    pub(crate) fn enter(&self, got: &[Got], before: Moment, timeout: Duration) {
        let after = self.now();
        let end = before.ms + timeout.as_millis() as u64;
        let leases: Vec<_> = got
            .iter()
            .map(|got| Lease {
                id: got.id,
                receives: got.receives,
                after: after.ms,
                end,
            })
            .collect();
        demand(self.books.lease(&leases));
        let call = self.calls.fetch_add(1, Relaxed);
        for got in got.iter().filter(|got| got.place == Place::Fifo) {
            let delivery = Delivery {
                id: got.id,
                sequence: got.sequence,
                receives: got.receives,
                call,
                before,
                after,
                // What is before the others may lapse in flight, which lets them go.
                end_ms: end.min(got.sent.as_millis() + self.retention.as_millis() as u64),
            };
            demand(self.groups.enter(got.group, delivery));
        }
    }

    /// All workers are gone: everything is received and deleted, the books are closed, and nothing is left.
    pub(crate) fn close(self: Arc<Self>) {
        fault::fail_allocations(0, 0);
        // What is there takes memory that dead letters may need.
        self.side.purge().expect("a queue");
        // Nor can dead letters go anywhere if all memory is taken by messages that become dead letters.
        for queue in [&self.standard, &self.fifo] {
            let config = QueueConfig {
                redrive: None,
                ..queue.config()
            };
            self.broker.configure(queue, config).expect("valid");
        }
        self.drain();
        self.settle();
        let names = self.broker.queue_names();
        names.iter().for_each(|name| {
            self.broker.delete_queue(name).expect("a queue");
        });
        // What a delete leaves to the collector goes with later ones, which bring it on by some steps each.
        for _ in 0..100 {
            if self.broker.memory().used > 0 {
                self.broker
                    .create_queue("last", QueueConfig::default())
                    .expect("valid");
                self.broker.delete_queue("last").expect("a queue");
            }
        }
        let memory = self.broker.memory();
        assert_eq!(memory.used, 0, "memory is left: {memory:?}");
        let budget = self.broker.budget();
        assert_eq!(Arc::strong_count(&self), 1, "a worker is left");
        drop(self);
        assert_eq!(
            budget.read().used,
            0,
            "memory is left behind the broker: {:?}",
            budget.read()
        );
    }

    fn drain(&self) {
        let timeout = Duration::from_secs(10);
        let mut is_dry = false;
        for _ in 0..DRAINS {
            let mut found = 0;
            for place in [Place::Standard, Place::Dead, Place::Fifo, Place::DeadFifo] {
                let queue = self.queue(place);
                loop {
                    let before = self.now();
                    let Ok(messages) = queue.receive(10, timeout) else {
                        break;
                    };
                    let got: Vec<_> = messages.iter().map(|message| got(place, message)).collect();
                    found += got.len();
                    self.enter(&got, before, timeout);
                    for got in &got {
                        if place == Place::Fifo {
                            let now = self.now();
                            self.groups.give_up(got.group, got.id, got.receives, now, now.ms);
                        }
                        let deleted = queue.delete(&got.handle);
                        assert_eq!(deleted, Ok(epoq::Deletion::Deleted), "{got:?} in hand");
                        demand(self.books.deleted(&[(got.id, got.receives)]));
                    }
                    if got.is_empty() {
                        break;
                    }
                }
            }
            if found == 0 && is_dry {
                return;
            }
            // Leases, delays, and dead letters that were put off.
            is_dry = found == 0 && self.books.totals().left == self.lapsed();
            self.time.advance(Duration::from_secs(30));
            // Deduplication ids are forgotten, whose memory dead letters may need.
            self.fifo.advance(self.time.now());
            self.dead_fifo.advance(self.time.now());
        }
    }

    fn lapsed(&self) -> u64 {
        self.all().iter().map(|counts| counts.lapsed).sum()
    }

    fn all(&self) -> [Counts; 4] {
        [&self.standard, &self.dead, &self.fifo, &self.dead_fifo].map(Queue::counts)
    }

    fn settle(&self) {
        let totals = self.books.totals();
        let all = self.all();
        let sum = |of: fn(&Counts) -> u64| all.iter().map(of).sum::<u64>();
        let story = || {
            let (some, memory) = (self.books.some(5), self.broker.memory());
            let queues = [&self.standard, &self.dead, &self.fifo, &self.dead_fifo];
            let insides = queues.map(|queue| (queue.name().to_owned(), queue.counts(), queue.snapshot()));
            format!("{totals:?}, {some}, {memory:?}, {insides:?}")
        };
        let lapsed = sum(|counts| counts.lapsed);
        assert_eq!(totals.left, lapsed, "lost: {}", story());
        assert_eq!(totals.owed, 0, "deliveries are missing: {}", story());
        assert_eq!(sum(|counts| counts.sent), totals.accepted, "sent: {}", story());
        assert_eq!(
            sum(|counts| counts.deleted),
            totals.deleted,
            "deleted: {}",
            story()
        );
        assert_eq!(
            sum(|counts| counts.received),
            totals.leases,
            "received: {}",
            story()
        );
        let moved = (sum(|counts| counts.moved_out), sum(|counts| counts.moved_in));
        assert_eq!(moved.0, moved.1, "moved: {}", story());
        assert_eq!(
            sum(|counts| counts.visible + counts.in_flight + counts.delayed),
            0,
            "left: {}",
            story()
        );
        let side = self.side.counts();
        let left = side.visible + side.in_flight + side.delayed;
        assert_eq!(side.sent, self.side_sent.load(Relaxed), "{side:?}");
        assert_eq!(side.deleted, self.side_deleted.load(Relaxed), "{side:?}");
        assert_eq!(
            side.sent,
            side.deleted + side.purged + side.lapsed + left,
            "{side:?}"
        );
        for queue in [
            &self.standard,
            &self.dead,
            &self.fifo,
            &self.dead_fifo,
            &self.side,
        ] {
            let counts = queue.counts();
            let counted = (counts.visible, counts.in_flight, counts.delayed);
            assert_eq!(queue.census(), counted, "{}, counted one by one", queue.name());
        }
    }
}

/// The body of a message.
pub(crate) fn body_of(id: Id, length: usize) -> Vec<u8> {
    let mut body = id.0.to_le_bytes().to_vec();
    body.resize(8 + length, id.0 as u8 ^ 0x5a);
    body
}

/// What is to be known of a message received.
pub(crate) fn got(place: Place, message: &epoq::Message) -> Got {
    let of = (message.receipt_handle(), message.receive_count());
    let sent = (message.sequence_number(), message.sent_at());
    got_of(place, message.body(), of, message.message_group(), sent)
}

pub(crate) fn got_of(
    place: Place,
    body: &[u8],
    (handle, receives): (epoq::ReceiptHandle, u32),
    group: Option<&str>,
    (sequence, sent): (Option<epoq::SequenceNumber>, Millis),
) -> Got {
    let id = Id(u64::from_le_bytes(*body.first_chunk().expect("a number")));
    assert_eq!(body, body_of(id, body.len() - 8), "not the body that was sent");
    Got {
        id,
        receives,
        handle,
        sequence: sequence.map_or(0, epoq::SequenceNumber::to_u128),
        sent,
        group: group.and_then(|group| group.parse().ok()).unwrap_or(0),
        place,
    }
}

/// A promise was broken: the exploration ends.
pub(crate) fn demand<T>(judgement: Result<T, Broken>) -> T {
    match judgement {
        Ok(value) => value,
        Err(broken) => panic!("{broken}"),
    }
}
