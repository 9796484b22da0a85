//! The message groups of a FIFO queue, by name.

use std::{
    borrow::Borrow,
    hash::{Hash, Hasher},
};

use foldhash::{SharedSeed, quality::SeedableRandomState};
use papaya::HashMap;

use super::Group;
use crate::{
    budget::Budget,
    ledger::{
        partition::Full,
        reclaim::{Domain, Pin},
    },
    sync::{Arc, AtomicU64, Ordering},
};

/// What a group takes besides itself and its name: its share in the map, counters of references.
const OVERHEAD: usize = 128;
/// Names up to here lie in the group itself.
const IN_PLACE: usize = size_of::<compact_str::CompactString>();

/// A group as the key of itself: its name is not kept twice, nor looked for anywhere else.
#[derive(Debug)]
struct ByName(Arc<Group>);

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        self.0.name()
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl Eq for ByName {}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As `str`, which it is looked up by.
        self.0.name().hash(state);
    }
}

/// The groups of one era.
#[derive(Debug)]
pub struct Groups {
    /// Hashed by a key, because names come from outside.
    map: HashMap<ByName, Arc<Group>, SeedableRandomState>,
    /// No sequence number so far, of any group that is closed, is greater.
    closed: AtomicU64,
    budget: Arc<Budget>,
}

fn bytes(name: &str) -> usize {
    let elsewhere = if name.len() > IN_PLACE { name.len() } else { 0 };
    size_of::<Group>() + elsewhere + OVERHEAD
}

impl Groups {
    /// None yet; sequence numbers begin after `sequence`.
    pub fn new(key: [u64; 2], sequence: u64, budget: Arc<Budget>) -> Self {
        Self {
            map: HashMap::with_hasher(SeedableRandomState::with_seed(
                key[0] ^ key[1].rotate_left(32),
                SharedSeed::global_fixed(),
            )),
            closed: AtomicU64::new(sequence),
            budget,
        }
    }

    /// How many there are, empty ones that have not been closed yet included.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// The group of a name; it is made if there is none. With `force` whatever the budget says.
    pub fn enter<'p>(&self, name: &str, force: bool, pin: &'p Pin<'_>) -> Result<&'p Group, Full> {
        let map = self.map.pin();
        if let Some(group) = map.get(name) {
            return Ok(shared(group, pin));
        }
        if force {
            self.budget.force(bytes(name));
        } else if !self.budget.take(bytes(name)) {
            return Err(Full);
        }
        // About where its numbers begin. Another group of the name may come and go before this one is in the map.
        let made = Arc::new(Group::new(name, self.last_closed()));
        match map.try_insert(ByName(Arc::clone(&made)), made) {
            Ok(group) => Ok(shared(group, pin)),
            Err(papaya::OccupiedError { current, .. }) => {
                self.budget.undo(bytes(name));
                Ok(shared(current, pin))
            }
        }
    }

    /// The number that no group that is closed has exceeded, for [`Group::push`] to a group that was found here.
    pub fn last_closed(&self) -> u64 {
        // Relaxed: raised before a closed group leaves the map, whose own order makes that seen by whoever finds the next one.
        self.closed.load(Ordering::Relaxed)
    }

    /// Looks groups up beside each other, before they are entered one by one: what is waited for is memory, and so it is waited for
    /// once.
    pub fn look_ahead<'n>(&self, names: impl Iterator<Item = &'n str>) {
        let map = self.map.pin();
        let mut seen = 0;
        for name in names {
            if let Some(group) = map.get(name) {
                seen ^= group.word.load(Ordering::Relaxed);
            }
        }
        std::hint::black_box(seen);
    }

    /// Takes a group that is closed out.
    pub fn leave(&self, group: &Group, pin: &Pin<'_>) {
        // Relaxed: see `last_closed`.
        self.closed.fetch_max(group.last_taken(), Ordering::Relaxed);
        let map = self.map.pin();
        let is_it = |found: &Arc<Group>| std::ptr::eq(Arc::as_ptr(found), group);
        if let Ok(Some((_, group))) = map.remove_if(group.name(), |_, found| is_it(found)) {
            let (group, budget) = (Arc::clone(group), Arc::clone(&self.budget));
            let bytes = bytes(group.name());
            // Any share of the counter is as good; not all groups the same.
            let share = group.last_taken() as u32;
            self.budget.enter_limbo(share, bytes);
            // Others may have found it before: once they are through with it, it goes.
            pin.defer(&[Domain::SHARED], bytes, move || {
                drop(group);
                budget.leave_limbo(share, bytes);
                budget.give_back(bytes);
            });
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        // Owned: the last reference may go with its thread, when the thread-local half of a plain guard is gone already.
        let all = self
            .map
            .pin_owned()
            .values()
            .map(|group| bytes(group.name()))
            .sum();
        self.budget.give_back(all);
    }
}

fn shared<'p>(found: &Arc<Group>, pin: &'p Pin<'_>) -> &'p Group {
    // SAFETY: found in the map under the pin. It leaves the map only by `leave`, which gives up a share of its own through the
    // epoch, or with the map, which lives in an era that is given up through the epoch too.
    unsafe { Group::pinned(found, pin) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_counted_where_it_has_memory_of_its_own() {
        let least = size_of::<Group>() + OVERHEAD;
        assert_eq!(bytes(""), least);
        assert_eq!(bytes(&"x".repeat(IN_PLACE)), least);
        assert_eq!(bytes(&"x".repeat(IN_PLACE + 1)), least + IN_PLACE + 1);
        assert_eq!(bytes(&"x".repeat(128)), least + 128);
    }

    #[test]
    fn of_two_that_make_a_group_at_once_one_is_second() {
        let map = HashMap::new();
        let map = map.pin();
        let [first, second, other] = ["a", "a", "b"].map(|name| Arc::new(Group::new(name, 0)));
        assert!(map.try_insert(ByName(Arc::clone(&first)), first).is_ok());
        assert!(map.try_insert(ByName(Arc::clone(&second)), second).is_err());
        assert!(map.try_insert(ByName(Arc::clone(&other)), other).is_ok());
        assert_eq!(map.len(), 2);
    }
}
