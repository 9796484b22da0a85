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
    sync::{DashMap, Entry, Mutex},
};

/// A key: 96 bits of a keyed hash of what it stands for. Among a thousand million of them two different ones are the same with a
/// chance of one in 10^11. In words of 32 bits, so that an entry is one half of a cache line and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([u32; 3]);

/// When something was entered: the lowest bits of the moment. Moments five minutes apart are told apart for 49 days.
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

/// Keys in the order in which they were entered, and when.
type Leaving = VecDeque<(Fingerprint, Entered)>;

/// Values that are remembered for a while.
#[derive(Debug)]
pub(super) struct Recent<V> {
    map: DashMap<Fingerprint, (Entered, V), BuildHasherDefault<AsIs>>,
    leaving: [CachePadded<Mutex<Leaving>>; LISTS],
    places: Places,
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

    /// Reads the value of a key.
    pub(super) fn read<R>(&self, key: Fingerprint, now: Millis, read: impl FnOnce(&V) -> R) -> Option<R> {
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
        let mut list = place.list();
        let made = match self.map.entry(key) {
            Entry::Vacant(vacant) => {
                let (value, made) = make();
                vacant.insert((Entered::at(now), value));
                place.fill();
                made
            }
            #[cfg_attr(shuttle, allow(unused_mut, reason = "its stand-in is used up"))]
            Entry::Occupied(mut occupied) => {
                let (at, present) = occupied.get();
                if !self.is_over(*at, now) {
                    return Entering::Known(read(present));
                }
                // In the place of the one before.
                let (value, made) = make();
                occupied.insert((Entered::at(now), value));
                made
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

    /// Forgets what is entered under a key, whenever that was.
    pub(super) fn withdraw(&self, key: Fingerprint) {
        if self.map.remove(&key).is_some() {
            self.places.give_back(0, 1);
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
            // If it is of another time, it has been entered anew.
            let is_it = |_: &Fingerprint, (entered, _): &(Entered, V)| *entered == at;
            left += u64::from(self.map.remove_if(&key, is_it).is_some());
        }
        if left > 0 {
            self.places.give_back(list, left);
        }
    }

    /// Forgets all whose time is over.
    pub(super) fn forget_all(&self, now: Millis) {
        (0..LISTS).for_each(|list| self.forget(usize::MAX, now, list));
        if self.map.capacity() > KEPT + 4 * self.map.len() {
            self.map.shrink_to_fit();
        }
        self.places.reclaim();
    }
}
