//! Deduplication: which ids messages were sent under in the last five minutes, and where those messages were put.

use super::recent::{Entering, Fingerprint, Recent};
use crate::{
    budget::Budget,
    clock::Millis,
    config::DEDUPLICATION_INTERVAL,
    ledger::partition::Full,
    message::SentPlace,
    sync::{Arc, AtomicU64, Ordering},
};

/// Bytes that an id is reckoned to take: its entry in the map and in the list by which it leaves, measured with a million of
/// them.
pub(super) const BYTES: u64 = 96;

/// Ids that are counted in the budget at a time.
const CHARGE: u64 = 64;

/// Ids that messages were sent under.
#[derive(Debug)]
pub(super) struct Deduplication {
    /// Where the message is that was sent under an id.
    recent: Recent<SentPlace>,
    /// Ids that are counted in the budget.
    charged: AtomicU64,
    key: [u64; 2],
    budget: Arc<Budget>,
}

impl Deduplication {
    pub(super) fn new(key: [u64; 2], budget: Arc<Budget>) -> Self {
        Self {
            recent: Recent::new(DEDUPLICATION_INTERVAL.as_millis() as u32),
            charged: AtomicU64::new(0),
            key,
            budget,
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

    /// Whether there is room for one more, as far as can be said before it is entered.
    pub(super) fn has_room(&self, memory: u64, now: Millis) -> bool {
        self.recent.has_room(memory / BYTES, now)
    }

    /// Has a message sent by `send`, unless there is one of that id already.
    ///
    /// # Errors
    /// [`Full`]: there would be room among the ids, but there is none in the budget.
    pub(super) fn enter(
        &self,
        id: Fingerprint,
        now: Millis,
        memory: u64,
        hint: usize,
        send: impl FnOnce() -> SentPlace,
    ) -> Result<Entering<SentPlace>, Full> {
        if !self.charge() {
            return self.original(id, now).map(Entering::Known).ok_or(Full);
        }
        Ok(self
            .recent
            .enter(id, now, memory / BYTES, hint, send, |&place| place))
    }

    pub(super) fn forget_all(&self, now: Millis) {
        self.recent.forget_all(now);
        self.settle();
    }

    /// Makes sure that one more id is counted in the budget: many at a time, so that senders seldom meet there.
    fn charge(&self) -> bool {
        // Relaxed, throughout: counts. Senders that come together may be counted together, a few bytes too low for a moment.
        if self.recent.len() < self.charged.load(Ordering::Relaxed) {
            return true;
        }
        let took = self.budget.take((CHARGE * BYTES) as usize);
        if took {
            self.charged.fetch_add(CHARGE, Ordering::Relaxed);
        }
        took
    }

    /// Gives back what is counted for ids that have left.
    fn settle(&self) {
        let charged = self.charged.load(Ordering::Relaxed);
        let keep = self.recent.len() + CHARGE;
        if charged > keep + CHARGE
            && self
                .charged
                .compare_exchange(charged, keep, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.budget.give_back(((charged - keep) * BYTES) as usize);
        }
    }
}

impl Drop for Deduplication {
    fn drop(&mut self) {
        // Relaxed: `&mut self`.
        let charged = self.charged.load(Ordering::Relaxed);
        self.budget.give_back((charged * BYTES) as usize);
    }
}
