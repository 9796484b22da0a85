//! Deduplication: which ids messages were sent under in the last five minutes, and where those messages were put.

use super::{
    places::{NoPlace, Place, Places},
    recent::{Entering, Fingerprint, Recent},
};
use crate::{budget::Budget, clock::Millis, config::DEDUPLICATION_INTERVAL, message::SentPlace, sync::Arc};

/// Bytes that an id is reckoned to take: its entry in the map and in the list by which it leaves, measured with a million of
/// them.
pub(super) const BYTES: u64 = 96;

/// Ids that messages were sent under.
#[derive(Debug)]
pub(super) struct Deduplication {
    /// Where the message is that was sent under an id.
    recent: Recent<SentPlace>,
    key: [u64; 2],
}

impl Deduplication {
    pub(super) fn new(key: [u64; 2], budget: Arc<Budget>) -> Self {
        Self {
            recent: Recent::new(
                DEDUPLICATION_INTERVAL.as_millis() as u32,
                Places::new(budget, BYTES, false),
            ),
            key,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.recent.len()
    }

    /// The key of an id; of one that is unique in its group only, if the group is given.
    pub(super) fn fingerprint(&self, id: &str, group: Option<&str>) -> Fingerprint {
        match group {
            Some(group) => Fingerprint::of(self.key, &[id, group]),
            None => Fingerprint::of(self.key, &[id]),
        }
    }

    /// The message that was sent under an id.
    pub(super) fn original(&self, id: Fingerprint, now: Millis) -> Option<SentPlace> {
        self.recent.read(id, now, |&place| place)
    }

    /// A place for one more id in so many bytes.
    pub(super) fn place(&self, hint: usize, memory: u64, now: Millis) -> Result<Place<'_>, NoPlace> {
        self.recent.place(hint, memory / BYTES, now)
    }

    /// Has a message sent by `send`, unless there is one of that id already.
    pub(super) fn enter<T>(
        &self,
        id: Fingerprint,
        now: Millis,
        place: Place<'_>,
        send: impl FnOnce() -> (SentPlace, T),
    ) -> Entering<T, SentPlace> {
        self.recent.enter(id, now, place, send, |&place| place)
    }

    pub(super) fn forget_all(&self, now: Millis) {
        self.recent.forget_all(now);
    }
}
