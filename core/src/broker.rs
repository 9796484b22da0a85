//! A broker: names to queues, and what all its queues share: epochs, clock, memory budget, keys.

use std::collections::{HashMap, HashSet};

use crate::{
    budget::{Budget, MemoryUse},
    clock::{Clock, Millis},
    config::{FIFO_SUFFIX, MEMORY_LIMIT_DEFAULT, NAME_MAX, PARTITIONS_MAX, QueueConfig, RedriveAllow},
    error::{BuildError, ConfigError, CreateQueueError, NoSuchQueue, WorkerError},
    ledger::{
        graveyard::Graveyard,
        reclaim::{Collector, Pin},
    },
    move_task::Moves,
    queue::{self, Queue},
    receipt::{QueueId, Seal},
    sync::{self, Arc, AtomicU32, AtomicU64, Mutex, Ordering, Weak},
    worker::Worker,
};

/// A set of named queues that share a clock, a memory budget and a collector. Cheap to clone; clones are the same
/// broker. Any thread may use it.
///
/// A thread's first call registers it. The registration lasts until the thread ends, or calls another broker when nobody
/// can use this one any more; until then what that thread has retired last (some 256 KiB) may stay allocated.
///
/// ```
/// use std::time::Duration;
/// use epoq::{Broker, QueueConfig};
///
/// let broker = Broker::new();
/// let orders = broker.create_queue("orders", QueueConfig::default())?;
/// orders.send(b"42 apples")?;
/// let received = orders.receive(1, Duration::from_secs(30))?;
/// assert_eq!(received[0].body(), b"42 apples");
/// orders.delete(&received[0].receipt_handle())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Broker {
    shared: Arc<Shared>,
    names: Arc<Names>,
    _user: Arc<()>,
}

#[derive(Debug)]
pub(crate) struct Names {
    /// Control plane: taken to create, find and delete queues only.
    queues: Mutex<HashMap<Box<str>, Queue>>,
    /// Names of dead-letter queues, some of them past: only for these a new queue's name is looked for in all configurations.
    targets: Mutex<HashSet<Box<str>>>,
    next: AtomicU32,
    pub(crate) moves: Moves,
}

impl Names {
    pub(crate) fn queues(&self) -> sync::MutexGuard<'_, HashMap<Box<str>, Queue>> {
        self.queues
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Times that one who has run short of memory frees a thousand segments of what purged queues have left.
const GRAVES_WHEN_SHORT: u32 = 8;

/// Milliseconds between two times that housekeeping frees all it can.
const CLEAR_EVERY_MS: u64 = 1_000;

/// What queues and workers keep of their broker.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) collector: Collector,
    pub(crate) clock: Clock,
    pub(crate) budget: Arc<Budget>,
    pub(crate) seal: Seal,
    pub(crate) partitions: usize,
    /// Queues start with so many of them, and keep them.
    pub(crate) min_width: usize,
    pub(crate) seed: u64,
    /// Held by brokers and queues, not by workers: tells whether anybody can still use a worker.
    pub(crate) users: Arc<()>,
    number: u32,
    next_home: AtomicU32,
    /// When housekeeping is to free all it can.
    clear_at: AtomicU64,
    /// When somebody is to look after domains in which nothing happens.
    settle_at: AtomicU64,
    workers: Mutex<WorkerNumbers>,
    /// Every queue there is, to find spare segments when memory runs short.
    all: Mutex<Vec<Weak<queue::Inner>>>,
    /// What purged and deleted queues have left to be freed.
    /// Apart, because closures that wait in the collector hold it.
    pub(crate) graveyard: Arc<Graveyard>,
}

#[derive(Debug, Default)]
struct WorkerNumbers {
    next: u32,
    free: Vec<u32>,
}

impl Shared {
    /// Homes are dealt out in turn.
    pub(crate) fn next_home(&self) -> usize {
        // Relaxed: a counter.
        self.next_home.fetch_add(1, Ordering::Relaxed) as usize % self.partitions
    }

    pub(crate) fn take_worker_number(&self) -> u32 {
        let mut workers = self
            .workers
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        workers.free.pop().unwrap_or_else(|| {
            workers.next += 1;
            workers.next - 1
        })
    }

    /// Workers registered at the moment.
    pub(crate) fn workers(&self) -> u32 {
        let workers = self
            .workers
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        workers
            .next
            .saturating_sub(u32::try_from(workers.free.len()).unwrap_or(u32::MAX))
    }

    /// The next worker of this number goes on with its counters: the lock orders the two.
    pub(crate) fn give_worker_number_back(&self, number: u32) {
        self.workers
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .free
            .push(number);
    }

    /// Lists a new queue.
    pub(crate) fn list(&self, queue: Weak<queue::Inner>) {
        let mut all = self.all.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Only when it is full, and then it is made twice as large as what is left: O(1) for each, taken together.
        if all.len() == all.capacity() {
            all.retain(|queue| queue.strong_count() > 0);
            let room = 2 * all.len().max(8);
            all.shrink_to(room);
            let more = room - all.len();
            all.reserve_exact(more);
        }
        all.push(queue);
    }

    /// Memory has run short: spare segments of all queues go back to the system, once the epoch has passed.
    #[cold]
    pub(crate) fn trim(&self, pin: &Pin<'_>) {
        // If the list is taken, somebody else is at it. Let go before the work, so that nobody waits for that.
        let all: Vec<_> = match self.all.try_lock() {
            Ok(all) => all.iter().filter_map(Queue::upgrade).collect(),
            Err(_) => Vec::new(),
        };
        // Through the queues and the eras they are in: what has left an era is the graveyard's, and nobody else's.
        all.iter().for_each(|queue| queue.trim(pin));
        pin.settle();
        // Enough for whoever has run short, and those after him.
        for _ in 0..GRAVES_WHEN_SHORT {
            if !self.graveyard.work(1024) {
                return;
            }
        }
    }

    /// Whether a second has passed since this was last asked and answered with yes.
    pub(crate) fn is_clearing_due(&self) -> bool {
        Self::is_due(&self.clear_at, self.clock.now())
    }

    /// The same, of another second.
    pub(crate) fn is_settling_due(&self, now: Millis) -> bool {
        Self::is_due(&self.settle_at, now)
    }

    fn is_due(at: &AtomicU64, now: Millis) -> bool {
        // Relaxed, both: only paces housekeeping.
        let due = at.load(Ordering::Relaxed);
        let next = now.as_millis() + CLEAR_EVERY_MS;
        now.as_millis() >= due
            && at
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Whether only workers are left of this broker.
    pub(crate) fn is_unused(&self) -> bool {
        Arc::strong_count(&self.users) == 1
    }
}

impl Default for Broker {
    fn default() -> Self {
        Self::new()
    }
}

impl Broker {
    /// A broker with a partition per core, the machine's clock and a memory budget of 1 GiB.
    #[must_use]
    pub fn new() -> Self {
        Builder::default().make()
    }

    /// A broker to be configured.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Creates a queue, or returns the existing one of that name and configuration (SQS).
    ///
    /// # Errors
    /// [`CreateQueueError`] if the name or the configuration is invalid, or the name is taken by a queue that is
    /// configured otherwise.
    pub fn create_queue(&self, name: &str, config: QueueConfig) -> Result<Queue, CreateQueueError> {
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let stem = match config.fifo {
            Some(_) => name
                .strip_suffix(FIFO_SUFFIX)
                .ok_or(CreateQueueError::InvalidName)?,
            None => name,
        };
        if stem.is_empty() || name.len() > NAME_MAX || !stem.chars().all(valid) {
            return Err(CreateQueueError::InvalidName);
        }
        config.check()?;
        let mut queues = self.queues();
        if let Some(queue) = queues.get(name) {
            return if queue.config() == config {
                Ok(queue.clone())
            } else {
                Err(CreateQueueError::Exists)
            };
        }
        let target = dead_letter_target(&queues, name, &config)?;
        // Relaxed: a counter.
        let number = self.names.next.fetch_add(1, Ordering::Relaxed);
        let id = QueueId(u64::from(self.shared.number) << 32 | u64::from(number));
        self.note_target(&queues, &config);
        let queue = Queue::new(id, name, config, target.as_ref(), &self.shared);
        self.shared.list(queue.downgrade());
        queues.insert(name.into(), queue.clone());
        // It may take the place of a dead-letter queue that was deleted.
        self.link_sources(&queues, name);
        Ok(queue)
    }

    /// Those queues that name this one as their dead-letter queue have it from now on, as far as it lets them.
    fn link_sources(&self, queues: &HashMap<Box<str>, Queue>, name: &str) {
        if !self.targets().contains(name) {
            return;
        }
        for (source, of) in queues {
            let config = of.config();
            if config
                .redrive
                .as_ref()
                .is_some_and(|redrive| redrive.target == name)
                && let Ok(target) = dead_letter_target(queues, source, &config)
            {
                of.set_target(target);
            }
        }
    }

    /// Changes a queue's configuration. It applies from now on; messages already delayed or leased stay so, but for those that the
    /// delay of a FIFO queue holds back.
    ///
    /// # Errors
    /// [`ConfigError`] if it is not valid or the queue has been deleted; nothing was changed.
    pub fn configure(&self, queue: &Queue, config: QueueConfig) -> Result<(), ConfigError> {
        config.check()?;
        // Under the lock of the names, so that neither queue is deleted meanwhile.
        let queues = self.queues();
        if queues
            .get(queue.name())
            .is_none_or(|found| found.id() != queue.id())
        {
            return Err(ConfigError::QueueDeleted);
        }
        if config.fifo.is_some() != queue.is_fifo() {
            return Err(ConfigError::TypeFixed);
        }
        let old = queue.config();
        // A dead-letter queue that is named already may have been deleted or have closed itself since: whoever changes something else
        // is not to hear of that, and all stays as it is.
        let target = match dead_letter_target(&queues, queue.name(), &config) {
            Err(error) if config.redrive != old.redrive => return Err(error),
            target => target.ok(),
        };
        self.note_target(&queues, &config);
        let opens = config.redrive_allow != old.redrive_allow;
        queue.apply(config, target);
        if opens {
            self.link_sources(&queues, queue.name());
        }
        Ok(())
    }

    /// The names of the queues that have this one as their dead-letter queue, in alphabetical order.
    #[must_use]
    pub fn dead_letter_sources(&self, name: &str) -> Vec<String> {
        let mut sources: Vec<_> = self
            .queues()
            .iter()
            .filter(|(_, queue)| {
                queue
                    .config()
                    .redrive
                    .is_some_and(|redrive| redrive.target == name)
            })
            .map(|(source, _)| source.to_string())
            .collect();
        sources.sort_unstable();
        sources
    }

    /// The names of all queues, in alphabetical order.
    #[must_use]
    pub fn queue_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.queues().keys().map(ToString::to_string).collect();
        names.sort_unstable();
        names
    }

    /// The queue of that name, if there is one.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<Queue> {
        self.queues().get(name).cloned()
    }

    /// Deletes a queue with all its messages. Calls on it are refused from now on, also by clones at hand, and whoever waits
    /// for a message there is told; bodies borrowed from it stay readable until their turn ends. Queues that had it as their
    /// dead-letter queue go on delivering. The caller frees its memory; what other threads may
    /// still be looking at is left to the operations that follow.
    ///
    /// # Errors
    /// [`NoSuchQueue`].
    pub fn delete_queue(&self, name: &str) -> Result<(), NoSuchQueue> {
        let queue = self.queues().remove(name).ok_or(NoSuchQueue)?;
        queue.end();
        Ok(())
    }

    /// Registers the calling thread; homes are dealt out in turn.
    ///
    /// # Errors
    /// None at present; see [`Broker::worker_at`].
    pub fn worker(&self) -> Result<Worker, WorkerError> {
        Worker::register(&self.shared, None)
    }

    /// Registers the calling thread with a fixed home partition, for threads pinned to cores.
    ///
    /// # Errors
    /// [`WorkerError::NoSuchPartition`] unless `home` is below [`Broker::partitions`].
    pub fn worker_at(&self, home: usize) -> Result<Worker, WorkerError> {
        Worker::register(&self.shared, Some(home))
    }

    /// The most partitions that a queue of this broker can have.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.shared.partitions
    }

    /// The memory that messages take at the moment, all queues together.
    #[must_use]
    pub fn memory(&self) -> MemoryUse {
        self.shared.budget.read()
    }

    /// The counters behind [`Broker::memory`], which outlive the broker. For tests: all is zero in the end.
    #[doc(hidden)]
    #[must_use]
    pub fn budget(&self) -> Arc<Budget> {
        Arc::clone(&self.shared.budget)
    }

    /// The broker's clock: milliseconds since it began.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.shared.clock.now()
    }

    /// `moment` in milliseconds since the Unix epoch: SQS's `SentTimestamp` for [`Delivery::sent_at`](crate::Delivery::sent_at).
    #[must_use]
    pub fn unix_millis(&self, moment: Millis) -> u64 {
        self.shared.clock.unix_millis(moment)
    }

    pub(crate) fn names(&self) -> &Arc<Names> {
        &self.names
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    fn queues(&self) -> sync::MutexGuard<'_, HashMap<Box<str>, Queue>> {
        self.names.queues()
    }

    fn targets(&self) -> sync::MutexGuard<'_, HashSet<Box<str>>> {
        self.names
            .targets
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Remembers the name of a dead-letter queue; forgets those that nobody names any more, when they are many.
    fn note_target(&self, queues: &HashMap<Box<str>, Queue>, config: &QueueConfig) {
        let Some(redrive) = &config.redrive else { return };
        let mut targets = self.targets();
        if targets.len() > 2 * queues.len() {
            let named = queues.values().filter_map(|queue| queue.config().redrive);
            *targets = named.map(|redrive| redrive.target.into()).collect();
        }
        targets.insert(redrive.target.as_str().into());
    }
}

/// The dead-letter queue that a configuration names.
fn dead_letter_target(
    queues: &HashMap<Box<str>, Queue>,
    name: &str,
    config: &QueueConfig,
) -> Result<Option<Queue>, ConfigError> {
    let Some(redrive) = &config.redrive else {
        return Ok(None);
    };
    if redrive.target == name {
        return Err(ConfigError::OwnTarget);
    }
    let target = queues
        .get(redrive.target.as_str())
        .ok_or(ConfigError::NoSuchTarget)?;
    if target.is_fifo() != config.fifo.is_some() {
        return Err(ConfigError::TargetType);
    }
    let allowed = match target.config().redrive_allow {
        RedriveAllow::All => true,
        RedriveAllow::Nobody => false,
        RedriveAllow::Queues(names) => names.iter().any(|allowed| allowed == name),
    };
    if allowed {
        Ok(Some(target.clone()))
    } else {
        Err(ConfigError::TargetRefuses)
    }
}

/// Configures a [`Broker`].
#[derive(Debug, Clone, Default)]
pub struct Builder {
    partitions: Option<usize>,
    min_width: Option<usize>,
    memory_limit: Option<u64>,
    clock: Option<Clock>,
    seed: Option<u64>,
}

impl Builder {
    /// The most partitions a queue can have, 1..=4,096; the number of cores unless set. For tests and measurements:
    /// nobody needs to configure it.
    #[must_use]
    pub fn partitions(mut self, partitions: usize) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Partitions that queues start with and keep, instead of one. For tests of what several do.
    #[doc(hidden)]
    #[must_use]
    pub fn min_width(mut self, width: usize) -> Self {
        self.min_width = Some(width);
        self
    }

    /// The memory budget in bytes; 1 GiB unless set. Sends beyond it are refused.
    #[must_use]
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// The clock: [`Clock::monotonic`] unless set, or a [`ManualClock`](crate::ManualClock) for tests.
    #[must_use]
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = Some(clock.into());
        self
    }

    /// Makes all random choices and keys repeatable. For tests: with a seed that others know, handles can be forged.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The broker.
    ///
    /// # Errors
    /// [`BuildError`] if the number of partitions is out of range.
    pub fn build(self) -> Result<Broker, BuildError> {
        match self.partitions {
            Some(given) if !(1..=PARTITIONS_MAX).contains(&given) => Err(BuildError::Partitions {
                given,
                limit: PARTITIONS_MAX,
            }),
            _ => Ok(self.make()),
        }
    }

    fn make(self) -> Broker {
        let keys = self.seed.map_or_else(sync::entropy, |seed| [seed, !seed]);
        let users = Arc::new(());
        let budget = Budget::new(self.memory_limit.unwrap_or(MEMORY_LIMIT_DEFAULT));
        let clock = self.clock.unwrap_or_else(Clock::monotonic);
        clock.tell(budget.room().event());
        Broker {
            shared: Arc::new(Shared {
                collector: Collector::new(),
                clock,
                budget: Arc::new(budget),
                seal: Seal::new(keys),
                partitions: self
                    .partitions
                    .unwrap_or_else(sync::cores)
                    .clamp(1, PARTITIONS_MAX),
                min_width: self.min_width.unwrap_or(1),
                seed: keys[0],
                users: Arc::clone(&users),
                number: sync::broker_number(),
                next_home: AtomicU32::new(0),
                clear_at: AtomicU64::new(0),
                settle_at: AtomicU64::new(0),
                workers: Mutex::new(WorkerNumbers::default()),
                all: Mutex::new(Vec::new()),
                graveyard: Arc::new(Graveyard::default()),
            }),
            names: Arc::new(Names {
                queues: Mutex::new(HashMap::new()),
                targets: Mutex::new(HashSet::new()),
                next: AtomicU32::new(0),
                moves: Moves::default(),
            }),
            _user: users,
        }
    }
}
