//! The queues of a server: the ledger's, and what SQS keeps of a queue that the ledger has no use for.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use epoq::{Broker, Queue};

use super::attributes::Settings;

/// How long a name rests after its queue was deleted, and a queue after a purge, where that is enforced: SQS's rule.
pub(crate) const COOLDOWN: Duration = Duration::from_secs(60);
/// Names of deleted queues that are remembered, where that is enforced.
const DELETED_MAX: usize = 100_000;

/// A queue.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) queue: Queue,
    meta: Mutex<Meta>,
}

/// What messages do not depend on.
#[derive(Debug)]
pub(crate) struct Meta {
    pub(crate) settings: Settings,
    pub(crate) tags: BTreeMap<String, String>,
    /// In seconds since the Unix epoch.
    pub(crate) created: u64,
    /// In seconds since the Unix epoch.
    pub(crate) modified: u64,
    pub(crate) purged: Option<Instant>,
}

impl Entry {
    pub(crate) fn new(queue: Queue, settings: Settings, tags: BTreeMap<String, String>) -> Self {
        let now = unix_seconds();
        Self {
            queue,
            meta: Mutex::new(Meta {
                settings,
                tags,
                created: now,
                modified: now,
                purged: None,
            }),
        }
    }

    pub(crate) fn meta(&self) -> MutexGuard<'_, Meta> {
        self.meta.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All queues, by name. Looking one up takes no lock.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) broker: Broker,
    queues: papaya::HashMap<String, Arc<Entry>>,
    /// Held while queues are created, configured and deleted.
    control: Mutex<Deleted>,
}

/// When queues were deleted.
#[derive(Debug, Default)]
pub(crate) struct Deleted(HashMap<String, Instant>);

impl Deleted {
    /// Whether a queue of that name was deleted within the last minute.
    pub(crate) fn recently(&self, name: &str, now: Instant) -> bool {
        self.0
            .get(name)
            .is_some_and(|deleted| now.saturating_duration_since(*deleted) < COOLDOWN)
    }

    fn add(&mut self, name: &str, now: Instant) {
        if self.0.len() >= DELETED_MAX {
            self.0
                .retain(|_, deleted| now.saturating_duration_since(*deleted) < COOLDOWN);
        }
        if self.0.len() < DELETED_MAX {
            self.0.insert(name.to_owned(), now);
        }
    }
}

impl Registry {
    pub(crate) fn new(broker: Broker) -> Self {
        Self {
            broker,
            queues: papaya::HashMap::new(),
            control: Mutex::new(Deleted::default()),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Entry>> {
        self.queues.pin().get(name).map(Arc::clone)
    }

    pub(crate) fn len(&self) -> usize {
        self.queues.len()
    }

    /// All queues, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        self.queues.pin().values().map(Arc::clone).collect()
    }

    /// Names in alphabetical order, of those that begin with `prefix`.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let queues = self.queues.pin();
        let mut names: Vec<_> = queues
            .keys()
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect();
        names.sort_unstable();
        names
    }

    /// The lock under which queues are created, configured and deleted.
    pub(crate) fn control(&self) -> MutexGuard<'_, Deleted> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, _control: &mut Deleted, entry: Entry) {
        let name = entry.queue.name().to_owned();
        self.queues.pin().insert(name, Arc::new(entry));
    }

    /// Whether there was one.
    pub(crate) fn remove(&self, control: &mut Deleted, name: &str) -> bool {
        let existed = self.queues.pin().remove(name).is_some();
        if existed {
            // It is in the ledger if it was here.
            let _ = self.broker.delete_queue(name);
            control.add(name, Instant::now());
        }
        existed
    }
}

/// The time in seconds since the Unix epoch.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
