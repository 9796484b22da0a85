//! What is remembered for five minutes, under a key: deduplication ids, receive attempts.
//!
//! A concurrent map made by others, and lists of its keys in the order in which they came, by which they leave. Nothing is
//! forgotten early: where there is no room nothing is entered. A list is behind a lock that is only ever tried; a thread that
//! finds it taken goes to the next one.
//!
//! The map has a lock for each of its shards, held while a key is entered, found or taken out: some tens of nanoseconds, but for
//! the moments at which a shard grows. A map that never locks was tried, and took four times as long, most of it growing: its
//! entries lie apart, and each has to be visited.

use std::{
    collections::VecDeque,
    hash::{BuildHasherDefault, Hash, Hasher},
};

use crossbeam_utils::CachePadded;
use siphasher::sip128::{Hasher128, SipHasher13};

use super::places::{NoPlace, Place, Places};
use crate::{
    clock::Millis,
    config::TINY,
    sync::{AtomicU64, DashMap, Entry, Mutex, Ordering},
};

/// A key: 96 bits of a keyed hash of what it stands for. Among a thousand million of them two different ones are the same with a
/// chance of one in 10^11. In words of 32 bits, so that an entry is one half of a cache line and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([u32; 3]);

/// When something was entered: the lowest bits of the moment, which tell moments apart that are less than 24 days apart. Nothing
/// stays for as long; see `Recent::catch_up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entered(u32);

impl Entered {
    fn at(now: Millis) -> Self {
        Self(now.as_millis() as u32)
    }

    /// Whether it was `interval_ms` ago, or longer. An operation that read the clock earlier than another one entered takes that
    /// for just now.
    fn is_over(self, now: Millis, interval_ms: u32) -> bool {
        let ago = Self::at(now).0.wrapping_sub(self.0);
        ago >= interval_ms && ago < u32::MAX / 2
    }
}

impl Fingerprint {
    /// Of several texts, one after the other.
    pub(super) fn of(key: [u64; 2], parts: &[&str]) -> Self {
        let mut hasher = SipHasher13::new_with_keys(key[0], key[1]);
        for part in parts {
            hasher.write(part.as_bytes());
            // No text has a byte like this.
            hasher.write_u8(0xff);
        }
        let hash = hasher.finish128();
        Self([hash.h1 as u32, (hash.h1 >> 32) as u32, hash.h2 as u32])
    }
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.0[1]) << 32 | u64::from(self.0[0]));
    }
}

/// A fingerprint is a hash already.
#[derive(Debug, Default)]
pub(super) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// Shards of the map: one sender in so many meets another one there.
const SHARDS: usize = 64;
/// Lists of keys.
pub(super) const LISTS: usize = if TINY { 2 } else { 8 };
/// Places that the map keeps whatever it holds.
const KEPT: usize = 4_096;
/// Keys that each entering checks for whether they can leave.
const LEAVING: usize = 2;
/// The same, of every list, if there is no room.
const LEAVING_FULL: usize = 64;

/// Time after which all lists are looked through, in milliseconds: five days, whoever else has looked after them.
const CATCH_UP_MS: u64 = 5 * 24 * 60 * 60 * 1_000;

/// Keys in the order in which they were entered, or nearly so, and when.
///
/// Each key in the map is in one list, once: one that is entered anew stays where it is, and goes to the back once its turn to
/// leave has come.
type Leaving = VecDeque<(Fingerprint, Entered)>;

/// Values that are remembered for a while.
#[derive(Debug)]
pub(super) struct Recent<V> {
    map: DashMap<Fingerprint, (Entered, V), BuildHasherDefault<AsIs>>,
    leaving: [CachePadded<Mutex<Leaving>>; LISTS],
    places: Places,
    /// When all lists were looked through last.
    caught_up: AtomicU64,
    /// Of whoever does that.
    catching_up: Mutex<()>,
    interval_ms: u32,
}

/// What came of entering a value.
#[derive(Debug)]
pub(super) enum Entering<T, R> {
    /// It is remembered from now on; what else came of making it.
    Entered(T),
    /// Another one is, of this key; what was to be known of it.
    Known(R),
}

impl<V: Send + Sync> Recent<V> {
    pub(super) fn new(interval_ms: u32, places: Places) -> Self {
        Self {
            map: DashMap::with_hasher_and_shard_amount(BuildHasherDefault::default(), SHARDS),
            leaving: std::array::from_fn(|_| CachePadded::new(Mutex::new(VecDeque::new()))),
            places,
            caught_up: AtomicU64::new(0),
            catching_up: Mutex::new(()),
            interval_ms,
        }
    }

    /// How many values are remembered.
    pub(super) fn len(&self) -> u64 {
        self.places.taken()
    }

    fn is_over(&self, at: Entered, now: Millis) -> bool {
        at.is_over(now, self.interval_ms)
    }

    /// Sees to it that nothing stays for so long that its moment could be taken for one to come, where nobody keeps house and few
    /// enter. To be done before moments are compared.
    #[inline]
    fn catch_up(&self, now: Millis) {
        // Acquire: what was cleared away; pairs with the Release in `clear_away`.
        let caught_up = self.caught_up.load(Ordering::Acquire);
        if now.as_millis().saturating_sub(caught_up) >= CATCH_UP_MS {
            self.clear_away(now);
        }
    }

    #[cold]
    fn clear_away(&self, now: Millis) {
        // Once in five days. Who comes meanwhile waits: what it enters must not be taken for old. A poisoned lock guards nothing.
        let _alone = self.catching_up.lock();
        // Relaxed: written under the lock.
        let ms = now
            .as_millis()
            .saturating_sub(self.caught_up.load(Ordering::Relaxed));
        if ms < CATCH_UP_MS {
            return;
        }
        // Nobody was here for five days or more: all there is is over, however its moment looks.
        let is_all_over = ms >= 2 * CATCH_UP_MS;
        for (list, leaving) in self.leaving.iter().enumerate() {
            let Ok(mut leaving) = leaving.lock() else { continue };
            if is_all_over {
                let keys = leaving.drain(..);
                let left = keys.filter(|(key, _)| self.map.remove(key).is_some()).count();
                self.places.give_back(list, left as u64);
            } else {
                self.leave(&mut leaving, usize::MAX, now, list);
            }
        }
        // Release: see `catch_up`.
        self.caught_up.store(now.as_millis(), Ordering::Release);
    }

    /// Reads the value of a key.
    pub(super) fn read<R>(&self, key: Fingerprint, now: Millis, read: impl FnOnce(&V) -> R) -> Option<R> {
        self.catch_up(now);
        let found = self.map.get(&key)?;
        let (at, value) = found.value();
        (!self.is_over(*at, now)).then(|| read(value))
    }

    /// A place for one more value, of `most` that there may be.
    pub(super) fn place(&self, hint: usize, most: u64, now: Millis) -> Result<Place<'_>, NoPlace> {
        self.places.take(hint, most).or_else(|_| {
            // Those whose time is over may be in other lists than that of whoever asks.
            (0..LISTS).for_each(|list| self.forget(LEAVING_FULL, now, list));
            self.places.take(hint, most)
        })
    }

    /// Remembers the value that `make` makes, unless one of that key is remembered. `make` is called with the key's shard locked,
    /// so whoever looks for the key sees either nothing or all that `make` has done.
    pub(super) fn enter<T, R>(
        &self,
        key: Fingerprint,
        now: Millis,
        place: Place<'_>,
        make: impl FnOnce() -> (V, T),
        read: impl FnOnce(&V) -> R,
    ) -> Entering<T, R> {
        self.catch_up(now);
        let mut list = place.list();
        let made = match self.map.entry(key) {
            Entry::Vacant(vacant) => {
                let (value, made) = make();
                vacant.insert((Entered::at(now), value));
                place.fill();
                made
            }
            Entry::Occupied(mut occupied) => {
                let (at, present) = occupied.get();
                if !self.is_over(*at, now) {
                    return Entering::Known(read(present));
                }
                // It is in a list still, and has a place.
                let (value, made) = make();
                occupied.insert((Entered::at(now), value));
                drop(occupied);
                self.forget(LEAVING, now, list);
                return Entering::Entered(made);
            }
        };
        // Bounded in practice: each list is held for a few steps only, and there are eight.
        loop {
            if let Some(leaving) = self.leaving.get(list % LISTS)
                && let Ok(mut leaving) = leaving.try_lock()
            {
                leaving.push_back((key, Entered::at(now)));
                self.leave(&mut leaving, LEAVING, now, list);
                return Entering::Entered(made);
            }
            list += 1;
        }
    }

    /// The five minutes of a value begin anew.
    pub(super) fn renew(&self, key: Fingerprint, now: Millis) {
        if let Some(mut place) = self.map.get_mut(&key) {
            place.0 = Entered::at(now);
        }
    }

    /// Forgets up to `most` of those whose time is over.
    pub(super) fn forget(&self, most: usize, now: Millis, hint: usize) {
        // Taken: somebody else is at it.
        if let Some(leaving) = self.leaving.get(hint % LISTS)
            && let Ok(mut leaving) = leaving.try_lock()
        {
            self.leave(&mut leaving, most, now, hint);
            // Memory of a rush goes back.
            let capacity = leaving.capacity();
            if leaving.len() < capacity / 4 {
                leaving.shrink_to(capacity / 2);
            }
        }
    }

    /// Forgets up to `most` of a list's.
    fn leave(&self, leaving: &mut Leaving, most: usize, now: Millis, list: usize) {
        let mut left = 0;
        for _ in 0..most {
            let Some(&(key, at)) = leaving.front() else { break };
            if !self.is_over(at, now) {
                break;
            }
            leaving.pop_front();
            let is_over = |_: &Fingerprint, (entered, _): &(Entered, V)| self.is_over(*entered, now);
            if self.map.remove_if(&key, is_over).is_some() {
                left += 1;
            } else if let Some(place) = self.map.get(&key) {
                // It has been entered anew, or renewed.
                leaving.push_back((key, place.0));
            }
        }
        if left > 0 {
            self.places.give_back(list, left);
        }
    }

    /// Forgets all whose time is over.
    pub(super) fn forget_all(&self, now: Millis) {
        self.catch_up(now);
        (0..LISTS).for_each(|list| self.forget(usize::MAX, now, list));
        if self.map.capacity() > KEPT + 4 * self.map.len() {
            self.map.shrink_to_fit();
        }
        self.places.reclaim();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::hash::BuildHasher;

    use super::*;
    use crate::{budget::Budget, sync::Arc};

    #[test]
    fn a_fingerprint_is_96_bits_of_all_parts() {
        let of = |parts: &[&str]| Fingerprint::of([1, 2], parts);
        let all: Vec<_> = (0..1_000).map(|n| of(&[&n.to_string()])).collect();
        for word in 0..3 {
            let mut words: Vec<_> = all.iter().map(|print| print.0[word]).collect();
            words.sort_unstable();
            words.dedup();
            // Of a thousand numbers of 32 bits two are the same once in ten thousand times, and here none are.
            assert_eq!(words.len(), 1_000, "word {word}");
        }
        assert!(
            all.iter()
                .all(|print| print.0[0] != print.0[1] && print.0[1] != print.0[2])
        );
        assert_ne!(of(&["a", "bc"]), of(&["ab", "c"]));
        assert_ne!(of(&["a"]), Fingerprint::of([1, 3], &["a"]));
    }

    #[test]
    fn memory_of_a_rush_goes_back() {
        let places = Places::new(Arc::new(Budget::new(u64::MAX)), 10, false);
        let recent = Recent::new(1_000, places);
        let enter = |n: u64, now| {
            let place = recent.place(0, u64::MAX, now).unwrap();
            let key = Fingerprint::of([1, 2], &[&n.to_string()]);
            let entering = recent.enter(key, now, place, || (n, ()), |_| ());
            assert!(matches!(entering, Entering::Entered(())));
        };
        (0..10_000).for_each(|n| enter(n, Millis::new(0)));
        assert!(recent.map.capacity() >= 10_000);
        let capacity = || -> usize {
            let lists = recent.leaving.iter();
            lists.map(|list| list.lock().unwrap().capacity()).sum()
        };
        assert!(capacity() >= 10_000);
        (10_000..10_100).for_each(|n| enter(n, Millis::new(2_000)));
        for _ in 0..20 {
            recent.forget_all(Millis::new(2_000));
        }
        assert_eq!(recent.len(), 100);
        assert!(capacity() < 1_000, "{}", capacity());
        assert!(recent.map.capacity() < 5_000, "{}", recent.map.capacity());
    }

    #[test]
    fn the_map_goes_by_64_bits_of_it() {
        let hasher = BuildHasherDefault::<AsIs>::default();
        let print = Fingerprint([0x0123_4567, 0x89ab_cdef, 0xffff_ffff]);
        assert_eq!(hasher.hash_one(print), 0x89ab_cdef_0123_4567);
    }
}
