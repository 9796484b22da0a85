//! What is remembered for five minutes, under a key: deduplication ids, receive attempts.
//!
//! A concurrent map made by others, and lists of its keys in the order in which they came, by which they leave. Nothing is
//! forgotten early: where there is no room nothing is entered. A list is behind a lock that is only ever tried; a thread that
//! finds it taken goes to the next one.

use std::{
    collections::VecDeque,
    hash::{BuildHasherDefault, Hash, Hasher},
};

use crossbeam_utils::CachePadded;
use papaya::{HashMap, OccupiedError};
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::{
    clock::Millis,
    sync::{AtomicU64, Mutex, Ordering},
};

/// A key: a keyed hash of 128 bits of what it stands for. Two different ones are the same once in 2^64 keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(u128);

impl Fingerprint {
    /// Of several texts, one after the other.
    pub(super) fn of(key: [u64; 2], parts: &[&str]) -> Self {
        let mut hasher = SipHasher13::new_with_keys(key[0], key[1]);
        for part in parts {
            hasher.write(part.as_bytes());
            // No text has a byte like this.
            hasher.write_u8(0xff);
        }
        Self(hasher.finish128().as_u128())
    }
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0 as u64);
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

/// Lists of keys.
const LISTS: usize = 8;
/// Keys that each entering checks for whether they can leave.
const LEAVING: usize = 2;
/// The same, of every list, if there is no room.
const LEAVING_FULL: usize = 64;

/// Keys in the order in which they were entered, and when.
type Leaving = VecDeque<(Fingerprint, Millis)>;

/// Values that are remembered for a while.
#[derive(Debug)]
pub(super) struct Recent<V> {
    map: HashMap<Fingerprint, (Millis, V), BuildHasherDefault<AsIs>>,
    leaving: [CachePadded<Mutex<Leaving>>; LISTS],
    /// Entered and not left, or about to be entered.
    count: AtomicU64,
    interval_ms: u64,
}

/// What came of entering a value.
#[derive(Debug)]
pub(super) enum Entering<R> {
    /// It is remembered from now on.
    Entered,
    /// Another one is, of this key; what was to be known of it.
    Known(R),
    /// There is no room.
    Full,
}

impl<V: Send + Sync> Recent<V> {
    pub(super) fn new(interval_ms: u64) -> Self {
        Self {
            map: HashMap::default(),
            leaving: std::array::from_fn(|_| CachePadded::new(Mutex::new(VecDeque::new()))),
            count: AtomicU64::new(0),
            interval_ms,
        }
    }

    /// How many values are remembered.
    pub(super) fn len(&self) -> u64 {
        // Relaxed: a count.
        self.count.load(Ordering::Relaxed)
    }

    fn is_over(&self, at: Millis, now: Millis) -> bool {
        at.0 + self.interval_ms <= now.0
    }

    /// Reads the value of a key.
    pub(super) fn read<R>(&self, key: Fingerprint, now: Millis, read: impl FnOnce(&V) -> R) -> Option<R> {
        let map = self.map.pin();
        let (at, value) = map.get(&key)?;
        (!self.is_over(*at, now)).then(|| read(value))
    }

    /// Remembers a value, unless one of that key is remembered, or `most` are. `left` is told of how many others have been
    /// forgotten meanwhile.
    pub(super) fn enter<R>(
        &self,
        key: Fingerprint,
        value: V,
        now: Millis,
        most: u64,
        hint: usize,
        read: impl Fn(&V) -> R,
    ) -> Entering<R> {
        self.forget(LEAVING, now, hint);
        let map = self.map.pin();
        if !self.count_in(most) {
            if let Some((at, present)) = map.get(&key)
                && !self.is_over(*at, now)
            {
                return Entering::Known(read(present));
            }
            if !self.has_room(most, now) || !self.count_in(most) {
                return Entering::Full;
            }
        }
        let mut entry = (now, value);
        // Progress: each turn more means that one which was over has been taken out, by us or by somebody else.
        loop {
            match map.try_insert(key, entry) {
                Ok(_) => break,
                Err(OccupiedError {
                    current: (at, present),
                    not_inserted,
                }) => {
                    if !self.is_over(*at, now) {
                        self.count.fetch_sub(1, Ordering::Relaxed);
                        return Entering::Known(read(present));
                    }
                    self.take_out(&map, key, *at);
                    entry = not_inserted;
                }
            }
        }
        // Bounded in practice: each list is held for a few steps only, and there are eight.
        let mut list = hint;
        loop {
            if let Some(leaving) = self.leaving.get(list % LISTS)
                && let Ok(mut leaving) = leaving.try_lock()
            {
                leaving.push_back((key, now));
                return Entering::Entered;
            }
            list += 1;
        }
    }

    /// Whether there is room for one more.
    pub(super) fn has_room(&self, most: u64, now: Millis) -> bool {
        if self.len() < most {
            return true;
        }
        // Those whose time is over may be in other lists than that of whoever asks.
        (0..LISTS).for_each(|list| self.forget(LEAVING_FULL, now, list));
        self.len() < most
    }

    /// Counts one more that is about to be entered, if there is room.
    fn count_in(&self, most: u64) -> bool {
        // Relaxed: a count.
        let is_room = self.count.fetch_add(1, Ordering::Relaxed) < most;
        if !is_room {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        is_room
    }

    /// Forgets what is entered under a key, whenever that was.
    pub(super) fn withdraw(&self, key: Fingerprint) {
        if self.map.pin().remove(&key).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn take_out<G: papaya::Guard>(
        &self,
        map: &papaya::HashMapRef<'_, Fingerprint, (Millis, V), BuildHasherDefault<AsIs>, G>,
        key: Fingerprint,
        entered: Millis,
    ) {
        if let Ok(Some(_)) = map.remove_if(&key, |_, (at, _)| *at == entered) {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Forgets up to `most` of those whose time is over.
    pub(super) fn forget(&self, most: usize, now: Millis, hint: usize) {
        let Some(leaving) = self.leaving.get(hint % LISTS) else {
            return;
        };
        // Taken: somebody else is at it.
        let Ok(mut leaving) = leaving.try_lock() else {
            return;
        };
        let mut map = None;
        for _ in 0..most {
            let Some(&(key, at)) = leaving.front() else { return };
            if !self.is_over(at, now) {
                return;
            }
            leaving.pop_front();
            self.take_out(map.get_or_insert_with(|| self.map.pin()), key, at);
        }
        // Memory of a rush goes back.
        let capacity = leaving.capacity();
        if leaving.len() < capacity / 4 {
            leaving.shrink_to(capacity / 2);
        }
    }

    /// Forgets all whose time is over.
    pub(super) fn forget_all(&self, now: Millis) {
        (0..LISTS).for_each(|list| self.forget(usize::MAX, now, list));
    }
}
