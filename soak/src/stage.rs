//! What is stressed: queues of both kinds with their dead letters, and what all threads share.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use epoq::{Broker, FifoConfig, Queue, QueueConfig, Redrive};

use epoq_judge::{Books, Broken, Groups, Moment};

/// Memory of a standard queue: some three hundred thousand messages, so that senders meet its end all the time.
const QUEUE_BYTES: u64 = 32 << 20;
/// Memory of all: what waits for the epoch while a thread is parked in a turn is in it too.
const BROKER_BYTES: u64 = 224 << 20;
/// Memory of a FIFO queue's deduplication ids: the rate of its senders, for none is forgotten within five minutes.
const IDS_BYTES: u64 = 32 << 20;
/// Deliveries before a message is a dead letter.
const RECEIVES_MAX: u32 = 3;
const STANDARD: usize = 3;
const FIFO: usize = 2;
/// Message groups of a FIFO queue.
pub(crate) const GROUPS: usize = 64;

/// What goes wrong on purpose, and what is refused for it.
#[derive(Debug, Default)]
pub(crate) struct Events {
    pub(crate) refused: AtomicU64,
    pub(crate) ids_full: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) extended: AtomicU64,
    pub(crate) parked: AtomicU64,
    pub(crate) parked_in_turn: AtomicU64,
    pub(crate) died: AtomicU64,
    pub(crate) waited: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) purges: AtomicU64,
}

/// A FIFO queue, and the order of its groups.
#[derive(Debug)]
pub(crate) struct Fifo {
    pub(crate) queue: Queue,
    pub(crate) groups: Groups,
}

/// What all threads share.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) broker: Broker,
    pub(crate) standard: Vec<Queue>,
    pub(crate) dead: Queue,
    pub(crate) fifo: Vec<Fifo>,
    pub(crate) dead_fifo: Queue,
    /// One that is purged again and again.
    pub(crate) side: Queue,
    pub(crate) side_accepted: AtomicU64,
    pub(crate) side_deleted: AtomicU64,
    /// Purges of it that are over.
    pub(crate) side_purged: AtomicU64,
    pub(crate) books: Books,
    pub(crate) events: Events,
    /// Numbers receives.
    pub(crate) calls: AtomicU64,
    /// Nothing more is sent.
    pub(crate) is_closing: AtomicBool,
    /// All is over.
    pub(crate) is_over: AtomicBool,
    /// Senders take a rest, so that queues run empty.
    pub(crate) is_ebb: AtomicBool,
    broken: Mutex<Vec<Broken>>,
    began: Instant,
}

impl Stage {
    pub(crate) fn new(senders: usize, seed: u64) -> Result<Self> {
        let broker = Broker::builder().memory_limit(BROKER_BYTES).seed(seed).build()?;
        let fifo = FifoConfig {
            deduplication_memory: IDS_BYTES,
            ..FifoConfig::default()
        };
        let plain = || QueueConfig {
            in_flight_max: None,
            ..QueueConfig::default()
        };
        let dead = broker.create_queue("dead", plain())?;
        let dead_fifo = broker.create_queue(
            "dead.fifo",
            QueueConfig {
                fifo: Some(fifo),
                ..plain()
            },
        )?;
        let standard = (0..STANDARD).map(|number| {
            let config = QueueConfig {
                memory_limit: Some(QUEUE_BYTES),
                redrive: Some(Redrive::new("dead", RECEIVES_MAX)),
                // One of them has a limit that its receivers meet.
                in_flight_max: (number == 0).then_some(2_000),
                ..plain()
            };
            broker.create_queue(&format!("standard-{number}"), config)
        });
        let standard = standard.collect::<Result<_, _>>()?;
        let fifo = (0..FIFO).map(|number| {
            let config = QueueConfig {
                redrive: Some(Redrive::new("dead.fifo", RECEIVES_MAX)),
                fifo: Some(fifo),
                ..plain()
            };
            let queue = broker.create_queue(&format!("ordered-{number}.fifo"), config)?;
            Ok(Fifo {
                queue,
                groups: Groups::new(GROUPS),
            })
        });
        let fifo = fifo.collect::<Result<_>>()?;
        let side = broker.create_queue(
            "side",
            QueueConfig {
                memory_limit: Some(QUEUE_BYTES),
                ..plain()
            },
        )?;
        Ok(Self {
            broker,
            standard,
            dead,
            fifo,
            dead_fifo,
            side,
            side_accepted: AtomicU64::new(0),
            side_deleted: AtomicU64::new(0),
            side_purged: AtomicU64::new(0),
            books: Books::new(senders),
            events: Events::default(),
            calls: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            is_ebb: AtomicBool::new(false),
            broken: Mutex::default(),
            began: Instant::now(),
        })
    }

    pub(crate) fn now(&self) -> u64 {
        self.broker.now().as_millis()
    }

    /// The same, with the machine's nanoseconds.
    pub(crate) fn moment(&self) -> Moment {
        Moment {
            ms: self.now(),
            tick: self.began.elapsed().as_nanos() as u64,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// All queues, with their names.
    pub(crate) fn queues(&self) -> impl Iterator<Item = &Queue> {
        let fifo = self.fifo.iter().map(|fifo| &fifo.queue);
        let others = [&self.dead, &self.dead_fifo, &self.side];
        self.standard.iter().chain(fifo).chain(others)
    }

    /// A promise was broken: all stop.
    pub(crate) fn convict(&self, broken: Broken) {
        eprintln!("BROKEN: {broken}");
        self.broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(broken);
        self.is_closing.store(true, Relaxed);
        self.is_over.store(true, Relaxed);
    }

    pub(crate) fn judge<T>(&self, judgement: Result<T, Broken>) {
        if let Err(broken) = judgement {
            self.convict(broken);
        }
    }

    pub(crate) fn broken(&self) -> Vec<Broken> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }
}

/// SplitMix64: repeatable choices, a stream for each seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.next() % below
    }

    /// True once in `n` times.
    pub(crate) fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Milliseconds from a range.
    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}
