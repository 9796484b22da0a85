//! A set of sequence numbers, one bit each: cheap enough to write down every message of a run at millions per second.

const WORDS: usize = 8192;
const CHUNK_IDS: u64 = WORDS as u64 * 64;

type Chunk = Box<[u64; WORDS]>;

/// A growing bitmap in chunks of half a million; growing never moves what is there.
#[derive(Clone, Debug, Default)]
pub struct IdSet {
    chunks: Vec<Option<Chunk>>,
}

impl IdSet {
    /// An empty set.
    pub const fn new() -> Self {
        Self { chunks: Vec::new() }
    }

    /// Adds `id`; false when it was there.
    #[inline]
    pub fn insert(&mut self, id: u64) -> bool {
        let (chunk, word, bit) = place(id);
        if let Some(Some(words)) = self.chunks.get_mut(chunk) {
            let fresh = words[word] & bit == 0;
            words[word] |= bit;
            fresh
        } else {
            self.grow(chunk)[word] |= bit;
            true
        }
    }

    /// Whether `id` was added.
    #[inline]
    pub fn contains(&self, id: u64) -> bool {
        let (chunk, word, bit) = place(id);
        matches!(self.chunks.get(chunk), Some(Some(words)) if words[word] & bit != 0)
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.chunks
            .iter()
            .flatten()
            .flat_map(|words| words.iter())
            .map(|word| u64::from(word.count_ones()))
            .sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// 64 ids at once: bit `i` stands for `64 * word + i`.
    pub(crate) fn word(&self, word: u64) -> u64 {
        let (chunk, word, _) = place(word * 64);
        self.chunks
            .get(chunk)
            .and_then(|words| words.as_ref())
            .map_or(0, |words| words[word])
    }

    /// No id at or above 64 times this is in the set.
    pub(crate) fn words(&self) -> u64 {
        self.chunks.len() as u64 * WORDS as u64
    }

    #[cold]
    fn grow(&mut self, chunk: usize) -> &mut Chunk {
        if chunk >= self.chunks.len() {
            self.chunks.resize_with(chunk + 1, || None);
        }
        self.chunks[chunk].get_or_insert_with(|| {
            let words = vec![0; WORDS].into_boxed_slice();
            words.try_into().expect("a chunk has WORDS words")
        })
    }
}

#[inline]
const fn place(id: u64) -> (usize, usize, u64) {
    let chunk = id / CHUNK_IDS;
    let word = id / 64 % WORDS as u64;
    (chunk as usize, word as usize, 1 << (id % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_across_chunks() {
        let mut set = IdSet::new();
        let ids = [0, 1, 63, 64, CHUNK_IDS - 1, CHUNK_IDS, 3 * CHUNK_IDS + 5];
        for id in ids {
            assert!(!set.contains(id));
            assert!(set.insert(id));
            assert!(!set.insert(id));
            assert!(set.contains(id));
        }
        assert_eq!(set.len(), ids.len() as u64);
        assert_eq!(set.word(0), 1 << 63 | 0b11);
        assert_eq!(set.word(set.words()), 0);
        assert!(!set.contains(2 * CHUNK_IDS));
    }
}
