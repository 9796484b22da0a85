//! A thread's registration with a broker: home partition, epoch handle, random numbers.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use crate::{
    broker::Shared,
    clock::{Millis, Reading},
    error::WorkerError,
    ledger::reclaim::{Domain, Local, Spread},
    sync::{self, Arc},
    turn::Turn,
};

/// One thread's registration with a [`Broker`](crate::Broker).
///
/// A worker has a home partition: the one its sends go to, and where its receives look first if there is something. Made with
/// [`Broker::worker`](crate::Broker::worker) (homes are dealt out in turn) or
/// [`Broker::worker_at`](crate::Broker::worker_at) (a fixed home: for a thread pinned to a core). It stays on the thread
/// that made it, and while it lives calls on [`Queue`](crate::Queue) from that thread use it too. Threads that never
/// register are registered by their first call.
///
/// ```
/// use std::time::Duration;
/// use epoq::{Broker, QueueConfig};
///
/// let broker = Broker::new();
/// let queue = broker.create_queue("events", QueueConfig::default())?;
/// let worker = broker.worker()?;
/// let done = worker.turn(|turn| {
///     turn.send(&queue, b"one")?;
///     let received = turn.receive(&queue, 10, Duration::from_secs(30))?;
///     for delivery in received.iter() {
///         assert_eq!(delivery.body(), b"one");
///         turn.delete(&queue, &delivery.receipt_handle())?;
///     }
///     Ok::<_, Box<dyn std::error::Error>>(received.len())
/// })?;
/// assert_eq!(done, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Worker {
    core: Rc<WorkerCore>,
}

/// What a worker is made of; shared with the thread's list of workers.
#[derive(Debug)]
pub(crate) struct WorkerCore {
    local: Local,
    shared: Arc<Shared>,
    /// Unique among the broker's living workers.
    pub(crate) number: u32,
    pub(crate) home: usize,
    random: Cell<u64>,
    last_seen: Cell<Millis>,
}

sync::thread_local! {
    /// This thread's workers, the one registered last at the end.
    static WORKERS: RefCell<Vec<Rc<WorkerCore>>> = const { RefCell::new(Vec::new()) };
}

impl Worker {
    pub(crate) fn register(shared: &Arc<Shared>, home: Option<usize>) -> Result<Self, WorkerError> {
        let partitions = shared.partitions;
        let home = match home {
            Some(given) if given >= partitions => {
                return Err(WorkerError::NoSuchPartition { given, partitions });
            }
            Some(home) => home,
            None => shared.next_home(),
        };
        let core = Rc::new(WorkerCore::new(shared, home));
        // While the thread is being torn down it has no list; then this worker is used explicitly only.
        let _ = WORKERS.try_with(|workers| workers.borrow_mut().push(Rc::clone(&core)));
        Ok(Self { core })
    }

    /// The home partition, counted from 0.
    #[must_use]
    pub fn home(&self) -> usize {
        self.core.home
    }

    /// Runs many operations under one pin and one reading of the clock: what an event loop does per wake-up, and the
    /// fastest way to use the ledger.
    ///
    /// The turn's clock is read when first needed, kept, and read again after some hundred operations: visibility
    /// timeouts count from the last reading. While a turn lasts,
    /// no retired memory of the partitions it has come to, and of the one that the thread came to last before, can be freed, nor what
    /// partitions share (what a purge leaves, for one); keep it to some microseconds, or see [`Turn::refresh`].
    #[inline]
    pub fn turn<R>(&self, f: impl FnOnce(&Turn<'_>) -> R) -> R {
        f(&self.begin())
    }

    /// As [`Worker::turn`], ended by dropping the turn.
    #[inline]
    #[must_use]
    pub fn begin(&self) -> Turn<'_> {
        self.core.begin()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = WORKERS.try_with(|workers| {
            // Taken out first: dropping a worker may free memory, which must not happen inside the borrow.
            let mut workers = workers.try_borrow_mut().ok()?;
            let at = workers.iter().position(|core| Rc::ptr_eq(core, &self.core))?;
            Some(workers.remove(at))
        });
    }
}

impl WorkerCore {
    fn new(shared: &Arc<Shared>, home: usize) -> Self {
        let number = shared.take_worker_number();
        Self {
            local: shared.collector.register_in(Spread::APART.domain(home as u32)),
            number,
            home,
            // Odd and different for each worker: xorshift must not start at zero.
            random: Cell::new((shared.seed ^ u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1),
            last_seen: Cell::new(Millis::new(0)),
            shared: Arc::clone(shared),
        }
    }

    #[inline]
    pub(crate) fn begin(&self) -> Turn<'_> {
        Turn::new(self.local.pin(), Reading::new(&self.shared.clock), self)
    }

    /// A receive has looked everywhere in vain: the next turn begins where the next one looks first, not where this looked last.
    pub(crate) fn found_nothing(&self, next: Domain) {
        self.local.expect(next);
        self.local.look_after_others(0);
    }

    /// Has the next turn begin where this domain is pinned.
    #[inline]
    pub(crate) fn expect(&self, domain: Domain) {
        self.local.expect(domain);
    }

    /// Whether it is registered with this broker: its pins protect no other's memory.
    #[inline]
    pub(crate) fn is_of(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    /// The moment of the last receive.
    #[inline]
    pub(crate) fn last_seen(&self) -> Millis {
        self.last_seen.get()
    }

    /// Notes the moment of a receive.
    #[inline]
    pub(crate) fn saw(&self, now: Millis) {
        self.last_seen.set(now);
    }

    /// A number below `below`, which is not zero. Xorshift: it only spreads receivers over partitions.
    #[inline]
    pub(crate) fn random_below(&self, below: usize) -> usize {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        ((u128::from(x) * below as u128) >> 64) as usize
    }

    /// Calls `f` with the calling thread's worker of this broker, registering one if there is none.
    #[inline]
    pub(crate) fn of_thread<R>(shared: &Arc<Shared>, f: impl FnOnce(&Self) -> R) -> R {
        let found = WORKERS.try_with(|workers| {
            let workers = workers.borrow();
            workers
                .iter()
                .rev()
                .find(|core| Arc::ptr_eq(&core.shared, shared))
                .map(Rc::clone)
        });
        let core = match found {
            Ok(Some(core)) => core,
            found => Self::adopt(shared, found.is_ok()),
        };
        f(&core)
    }

    /// As [`Self::of_thread`], but a thread without a worker gets one for this call only: for calls that a thread may make
    /// that has nothing else to do with messages.
    pub(crate) fn in_passing<R>(shared: &Arc<Shared>, f: impl FnOnce(&Self) -> R) -> R {
        let has_one = WORKERS.try_with(|workers| {
            workers
                .borrow()
                .iter()
                .any(|core| Arc::ptr_eq(&core.shared, shared))
        });
        if has_one == Ok(true) {
            Self::of_thread(shared, f)
        } else {
            f(&Self::new(shared, 0))
        }
    }

    /// Hands what is retired to the collector, and has it go through the epochs as far as other threads let it.
    pub(crate) fn flush(&self) {
        self.local.settle();
    }

    /// Registers the calling thread, for as long as it lives if it has a list to be put on.
    #[cold]
    fn adopt(shared: &Arc<Shared>, listed: bool) -> Rc<Self> {
        let core = Rc::new(Self::new(shared, shared.next_home()));
        if listed {
            // Workers of brokers that nobody can use any more leave with the occasion, outside the borrow.
            let gone: Vec<_> = WORKERS.with(|workers| {
                let mut workers = workers.borrow_mut();
                let gone = workers.extract_if(.., |core| core.shared.is_unused()).collect();
                workers.push(Rc::clone(&core));
                gone
            });
            drop(gone);
        }
        core
    }
}

impl Drop for WorkerCore {
    fn drop(&mut self) {
        self.shared.give_worker_number_back(self.number);
    }
}
