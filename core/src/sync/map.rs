//! What stands for `dashmap` in explorations: the same promises (a shard is locked while an entry of it is made, found or taken out),
//! with locks whose waiting the scheduler sees. Threads that wait for dashmap's own would stop all of an exploration.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, Hash},
};

use super::{Mutex, MutexGuard};

/// Shards: few, so that threads meet.
const SHARDS: usize = 2;

type Shard<K, V, S> = HashMap<K, V, S>;

/// A concurrent map.
pub struct DashMap<K, V, S> {
    shards: [Mutex<Shard<K, V, S>>; SHARDS],
    hasher: S,
}

/// A key's place, with its shard locked.
pub enum Entry<'m, K, V, S> {
    /// It has a value.
    Occupied(Place<'m, K, V, S>),
    /// It has none.
    Vacant(Vacant<'m, K, V, S>),
}

/// A place without a value.
pub struct Vacant<'m, K, V, S>(Place<'m, K, V, S>);

/// A key's place, with its shard locked.
pub struct Place<'m, K, V, S> {
    shard: MutexGuard<'m, Shard<K, V, S>>,
    key: K,
}

impl<K: Hash + Eq + Copy, V, S: BuildHasher + Clone> DashMap<K, V, S> {
    /// An empty map; it has as many shards as it likes.
    pub fn with_hasher_and_shard_amount(hasher: S, _shards: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(HashMap::with_hasher(hasher.clone()))),
            hasher,
        }
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, Shard<K, V, S>> {
        lock(&self.shards[self.hasher.hash_one(key) as usize % SHARDS])
    }

    /// The place of a key.
    pub fn entry(&self, key: K) -> Entry<'_, K, V, S> {
        let shard = self.shard(&key);
        let is_there = shard.contains_key(&key);
        let place = Place { shard, key };
        if is_there {
            Entry::Occupied(place)
        } else {
            Entry::Vacant(Vacant(place))
        }
    }

    /// The place of a key that has a value.
    pub fn get(&self, key: &K) -> Option<Place<'_, K, V, S>> {
        match self.entry(*key) {
            Entry::Occupied(place) => Some(place),
            Entry::Vacant(_) => None,
        }
    }

    /// The same.
    pub fn get_mut(&self, key: &K) -> Option<Place<'_, K, V, S>> {
        self.get(key)
    }

    /// Takes a key out.
    pub fn remove(&self, key: &K) -> Option<(K, V)> {
        self.shard(key).remove_entry(key)
    }

    /// Takes a key out, if its value is such a one.
    pub fn remove_if(&self, key: &K, is_such: impl FnOnce(&K, &V) -> bool) -> Option<(K, V)> {
        let mut shard = self.shard(key);
        let found = shard.get(key)?;
        if is_such(key, found) {
            shard.remove_entry(key)
        } else {
            None
        }
    }

    /// How many keys have a value.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// How many there is room for.
    pub fn capacity(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).capacity()).sum()
    }

    /// Gives back what is not needed.
    pub fn shrink_to_fit(&self) {
        self.shards.iter().for_each(|shard| lock(shard).shrink_to_fit());
    }
}

impl<K: Hash + Eq + Copy, V, S: BuildHasher> Vacant<'_, K, V, S> {
    /// Puts a value there.
    pub fn insert(mut self, value: V) {
        self.0.insert(value);
    }
}

impl<K: Hash + Eq + Copy, V, S: BuildHasher> Place<'_, K, V, S> {
    /// The value.
    pub fn value(&self) -> &V {
        &self.shard[&self.key]
    }

    /// The value.
    pub fn get(&self) -> &V {
        self.value()
    }

    /// Puts a value there.
    pub fn insert(&mut self, value: V) {
        self.shard.insert(self.key, value);
    }
}

impl<K: Hash + Eq, V, S: BuildHasher> std::ops::Deref for Place<'_, K, V, S> {
    type Target = V;
    fn deref(&self) -> &V {
        &self.shard[&self.key]
    }
}

impl<K: Hash + Eq, V, S: BuildHasher> std::ops::DerefMut for Place<'_, K, V, S> {
    fn deref_mut(&mut self) -> &mut V {
        match self.shard.get_mut(&self.key) {
            Some(value) => value,
            None => unreachable!("it was there, and the shard has been locked since"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl<K, V, S> fmt::Debug for DashMap<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DashMap")
    }
}
