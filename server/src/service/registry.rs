//! The queues of a server: the ledger's, and what SQS keeps of a queue that the ledger has no use for.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use epoq::{Broker, Queue};

use super::{
    attributes::Settings,
    room::{Held, Room},
};
use crate::error::ServiceError;

/// How long a name rests after its queue was deleted, and a queue after a purge, where that is enforced: SQS's rule.
pub(crate) const COOLDOWN: Duration = Duration::from_secs(60);
/// Names of deleted queues that are remembered, where that is enforced.
const DELETED_MAX: usize = 100_000;
/// What a tag takes beside its key and its value, about.
const TAG_BYTES: usize = 96;

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
    pub(crate) settings_held: Held,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) tags_held: Held,
    /// In seconds since the Unix epoch.
    pub(crate) created: u64,
    /// In seconds since the Unix epoch.
    pub(crate) modified: u64,
    /// When the last purge began, where that is enforced.
    pub(crate) purged: Option<Instant>,
    /// Deleted: there is nothing here any more, nor is anything put here.
    is_gone: bool,
}

impl Meta {
    /// What a new queue has.
    pub(crate) fn new(
        room: &Arc<Room>,
        settings: Settings,
        tags: BTreeMap<String, String>,
    ) -> Result<Self, ServiceError> {
        let now = unix_seconds();
        Ok(Self {
            settings_held: room.hold(settings.bytes())?,
            settings,
            tags_held: room.hold(tags_bytes(&tags))?,
            tags,
            created: now,
            modified: now,
            purged: None,
            is_gone: false,
        })
    }

    pub(crate) fn set_policy(&mut self, policy: Option<String>) -> Result<(), ServiceError> {
        let length = |policy: &Option<String>| policy.as_ref().map_or(0, String::len);
        let others = self
            .settings
            .bytes()
            .saturating_sub(length(&self.settings.policy));
        self.settings_held = self.settings_held.instead(others + length(&policy))?;
        self.settings.policy = policy;
        self.modified = unix_seconds();
        Ok(())
    }

    /// Lets go of what the queue need not have any more.
    fn clear(&mut self) {
        self.is_gone = true;
        (self.settings, self.tags) = Default::default();
        for held in [&mut self.settings_held, &mut self.tags_held] {
            held.give_back();
        }
    }

    pub(crate) fn set_tags(&mut self, tags: BTreeMap<String, String>) -> Result<(), ServiceError> {
        self.tags_held = self.tags_held.instead(tags_bytes(&tags))?;
        self.tags = tags;
        Ok(())
    }
}

fn tags_bytes(tags: &BTreeMap<String, String>) -> usize {
    tags.iter()
        .map(|(key, value)| TAG_BYTES + key.len() + value.len())
        .sum()
}

impl Entry {
    pub(crate) fn new(queue: Queue, meta: Meta) -> Self {
        let meta = Mutex::new(meta);
        Self { queue, meta }
    }

    /// Refused once the queue was deleted, which may be after it was looked up.
    pub(crate) fn meta(&self) -> Result<MutexGuard<'_, Meta>, ServiceError> {
        let meta = self.lock();
        if meta.is_gone {
            return Err(ServiceError::no_queue());
        }
        Ok(meta)
    }

    fn lock(&self) -> MutexGuard<'_, Meta> {
        self.meta.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All queues, by name. Looking one up takes no lock.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) broker: Broker,
    queues: papaya::HashMap<String, Arc<Entry>>,
    /// For what is kept of all of them.
    pub(crate) room: Arc<Room>,
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
    pub(crate) fn new(broker: Broker, beside_max: usize) -> Self {
        Self {
            broker,
            room: Room::new(beside_max),
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
        let queues = self.queues.pin();
        let removed = queues.remove(name);
        if let Some(entry) = removed {
            // The map lets go of it at some later time.
            entry.lock().clear();
            // It is in the ledger if it was here.
            let _ = self.broker.delete_queue(name);
            control.add(name, Instant::now());
        }
        removed.is_some()
    }
}

/// The time in seconds since the Unix epoch.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
