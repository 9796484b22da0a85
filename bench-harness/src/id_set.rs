//! A set of sequence numbers, one bit each: cheap enough to write down every message of a run at millions per second.

use std::{
    ops::{Deref, DerefMut},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The first ids have small chunks: of many threads each keeps a set for every other one, and most of those get few ids.
const EARLY_WORDS: usize = 64;
const EARLY_IDS: u64 = 1 << 18;
/// Later ids have large ones, which are made seldom; the last is never much larger than the set.
const LATE_WORDS: usize = 8192;

/// A growing bitmap, in chunks of 4096 ids at first, and of half a million beyond; growing never moves a bit.
#[derive(Clone, Debug, Default)]
pub struct IdSet {
    early: Chunks<EARLY_WORDS>,
    late: Chunks<LATE_WORDS>,
}

/// `None` where no id has come yet.
#[derive(Clone, Debug, Default)]
struct Chunks<const WORDS: usize>(Vec<Option<Chunk<WORDS>>>);

/// A part of a set, which counts as the harness's memory.
#[derive(Debug)]
struct Chunk<const WORDS: usize>(Box<[u64; WORDS]>);

static ALL_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Bytes in the chunks of all sets there are: what of a process's memory is not the target's.
pub fn all_bytes() -> usize {
    // Relaxed, as where it changes: a lone sum.
    ALL_BYTES.load(Relaxed)
}

impl<const WORDS: usize> Chunk<WORDS> {
    fn new() -> Self {
        let words = vec![0; WORDS].into_boxed_slice();
        Self::counted(words.try_into().expect("a chunk has WORDS words"))
    }

    fn counted(words: Box<[u64; WORDS]>) -> Self {
        ALL_BYTES.fetch_add(size_of_val(&*words), Relaxed);
        Self(words)
    }
}

impl<const WORDS: usize> Clone for Chunk<WORDS> {
    fn clone(&self) -> Self {
        Self::counted(self.0.clone())
    }
}

impl<const WORDS: usize> Drop for Chunk<WORDS> {
    fn drop(&mut self) {
        ALL_BYTES.fetch_sub(size_of_val(&*self.0), Relaxed);
    }
}

impl<const WORDS: usize> Deref for Chunk<WORDS> {
    type Target = [u64; WORDS];

    #[inline]
    fn deref(&self) -> &[u64; WORDS] {
        &self.0
    }
}

impl<const WORDS: usize> DerefMut for Chunk<WORDS> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u64; WORDS] {
        &mut self.0
    }
}

impl IdSet {
    /// An empty set.
    pub const fn new() -> Self {
        Self {
            early: Chunks(Vec::new()),
            late: Chunks(Vec::new()),
        }
    }

    /// Adds `id`; false when it was there.
    #[inline]
    pub fn insert(&mut self, id: u64) -> bool {
        match id.checked_sub(EARLY_IDS) {
            None => self.early.insert(id),
            Some(id) => self.late.insert(id),
        }
    }

    /// Whether `id` was added.
    #[inline]
    pub fn contains(&self, id: u64) -> bool {
        self.word(id / 64) & (1 << (id % 64)) != 0
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.early.len() + self.late.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory in use, the set's own fields included.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.early.bytes() + self.late.bytes()
    }

    /// 64 ids at once: bit `i` stands for `64 * word + i`.
    #[inline]
    pub(crate) fn word(&self, word: u64) -> u64 {
        match word.checked_sub(EARLY_IDS / 64) {
            None => self.early.word(word),
            Some(word) => self.late.word(word),
        }
    }

    /// No id at or above 64 times this is in the set.
    pub(crate) fn words(&self) -> u64 {
        match self.late.words() {
            0 => self.early.words(),
            late => EARLY_IDS / 64 + late,
        }
    }
}

impl<const WORDS: usize> Chunks<WORDS> {
    #[inline]
    fn insert(&mut self, id: u64) -> bool {
        let (chunk, word) = Self::place(id / 64);
        let bit = 1 << (id % 64);
        if let Some(Some(words)) = self.0.get_mut(chunk) {
            let fresh = words[word] & bit == 0;
            words[word] |= bit;
            fresh
        } else {
            self.grow(chunk)[word] |= bit;
            true
        }
    }

    #[inline]
    fn word(&self, word: u64) -> u64 {
        let (chunk, word) = Self::place(word);
        match self.0.get(chunk) {
            Some(Some(words)) => words[word],
            _ => 0,
        }
    }

    fn words(&self) -> u64 {
        (self.0.len() * WORDS) as u64
    }

    fn len(&self) -> u64 {
        let words = self.0.iter().flatten().flat_map(|words| words.iter());
        words.map(|word| u64::from(word.count_ones())).sum()
    }

    fn bytes(&self) -> usize {
        let chunks = self.0.iter().flatten().count();
        chunks * size_of::<[u64; WORDS]>() + self.0.capacity() * size_of::<Option<Box<u64>>>()
    }

    /// The chunk, and the word in it.
    #[inline]
    const fn place(word: u64) -> (usize, usize) {
        ((word / WORDS as u64) as usize, (word % WORDS as u64) as usize)
    }

    #[cold]
    fn grow(&mut self, chunk: usize) -> &mut [u64; WORDS] {
        if chunk >= self.0.len() {
            self.0.resize_with(chunk + 1, || None);
        }
        self.0[chunk].get_or_insert_with(Chunk::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_across_chunks() {
        const EARLY: u64 = EARLY_WORDS as u64 * 64;
        const LATE: u64 = LATE_WORDS as u64 * 64;
        let mut set = IdSet::new();
        let ids = [
            0,
            1,
            63,
            64,
            EARLY - 1,
            EARLY,
            3 * EARLY + 5,
            EARLY_IDS - 1,
            EARLY_IDS,
            EARLY_IDS + LATE - 1,
            EARLY_IDS + LATE,
            EARLY_IDS + 3 * LATE + 5,
        ];
        for (before, id) in ids.into_iter().enumerate() {
            assert!(!set.contains(id));
            assert!(set.insert(id));
            assert!(!set.insert(id));
            assert!(set.contains(id));
            assert_eq!(set.len(), before as u64 + 1);
            assert!(set.words() > id / 64);
        }
        assert_eq!(set.word(0), 1 << 63 | 0b11);
        assert_eq!(set.word(EARLY_IDS / 64), 1);
        assert_eq!(set.word(set.words()), 0);
        assert!(!set.contains(2 * EARLY) && !set.contains(EARLY_IDS + 2 * LATE));
    }

    #[test]
    fn a_set_for_every_pair_of_threads_costs_little() {
        const THREADS: u64 = 128;
        let ids = |other: u64| [other, 1000 + other, 3000 + other];
        let sets = (0..THREADS).flat_map(|_| 0..THREADS).map(|other| {
            let mut set = IdSet::new();
            assert!(ids(other).into_iter().all(|id| set.insert(id)));
            set
        });
        let bytes: usize = sets.map(|set| set.bytes()).sum();
        assert!(bytes < 16 << 20, "{bytes} bytes");
    }

    #[test]
    fn what_is_reserved_is_in_proportion_to_what_is_there() {
        for ids in [1 << 12, 1 << 18, 1 << 20, 1 << 22] {
            let mut set = IdSet::new();
            (0..ids).for_each(|id| assert!(set.insert(id)));
            let used = ids as usize / 8;
            assert!(set.bytes() <= 3 * used + 1024, "{} of {used} bytes", set.bytes());
        }
    }
}
