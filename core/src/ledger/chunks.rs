//! A table that grows in chunks and never moves: look-up is two loads, growing is one compare-and-swap.

use std::{fmt, marker::PhantomData};

use crate::sync::{AtomicPtr, Ordering};

/// Elements of the first chunk; each further chunk doubles the table.
const FIRST: usize = if crate::config::TINY { 2 } else { 8 };
const FIRST_LOG2: u32 = FIRST.trailing_zeros();
const CHUNKS: usize = 22;

/// Numbers that a table can hold.
pub const CHUNKS_CAPACITY: usize = FIRST << (CHUNKS - 1);

// Every index number of a partition fits.
const _: () = assert!(crate::config::TINY || CHUNKS_CAPACITY >= 1 << crate::config::INDEX_BITS);

/// A growing table of `T`, each element made by `T::default` with its whole chunk.
pub struct Chunks<T> {
    /// The chunks' first elements; null while there is none.
    pub chunks: [AtomicPtr<T>; CHUNKS],
    elements: PhantomData<*mut T>,
}

// SAFETY: it owns its elements.
unsafe impl<T: Send> Send for Chunks<T> {}
// SAFETY: sharing the table shares the elements, and sends them too: one thread may make them, and another drop them.
unsafe impl<T: Send + Sync> Sync for Chunks<T> {}

/// Chunk 0 has the numbers below FIRST, chunk c > 0 those from FIRST << (c - 1) to twice that.
#[inline]
const fn place(number: usize) -> (usize, usize) {
    if number < FIRST {
        return (0, number);
    }
    let log2 = number.ilog2();
    ((log2 - FIRST_LOG2 + 1) as usize, number - (1 << log2))
}

const fn length(chunk: usize) -> usize {
    if chunk == 0 { FIRST } else { FIRST << (chunk - 1) }
}

impl<T: Default> Chunks<T> {
    /// An empty table; it allocates nothing.
    pub fn new() -> Self {
        Self {
            chunks: std::array::from_fn(|_| AtomicPtr::new(std::ptr::null_mut())),
            elements: PhantomData,
        }
    }

    /// The element of `number`, if its chunk exists.
    #[inline]
    pub fn get(&self, number: usize) -> Option<&T> {
        // The first chunk apart: nearly all there is to counters, and less to reckon.
        let (chunk, at) = if number < FIRST {
            (0, number)
        } else {
            place(number)
        };
        // Acquire: see the elements as made; pairs with the Release in `grow`.
        let first = self.chunks.get(chunk)?.load(Ordering::Acquire);
        // SAFETY: a chunk, once there, has `length(chunk) > at` elements and lives as long as the table.
        (!first.is_null()).then(|| unsafe { &*first.add(at) })
    }

    /// The element of `number`, whose chunk is made if need be; `None` beyond the table's capacity.
    /// `bytes` is told how much memory a new chunk takes.
    #[inline]
    pub fn get_or_grow(&self, number: usize, bytes: impl FnOnce(usize)) -> Option<&T> {
        match self.get(number) {
            Some(element) => Some(element),
            None => self.grow(number, bytes),
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&self, number: usize, bytes: impl FnOnce(usize)) -> Option<&T> {
        let (chunk, _) = place(number);
        let root = self.chunks.get(chunk)?;
        let made: Box<[T]> = (0..length(chunk)).map(|_| T::default()).collect();
        let first = Box::into_raw(made).cast::<T>();
        // Release: publishes the elements to `get`. Relaxed: who fails gets the winner's by `get`.
        match root.compare_exchange(std::ptr::null_mut(), first, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => bytes(length(chunk) * size_of::<T>()),
            // SAFETY: made above with this length, and nobody saw it.
            Err(_) => drop(unsafe { Self::from_raw(chunk, first) }),
        }
        self.get(number)
    }

    /// The elements of every chunk there is, with the number of each chunk's first.
    pub fn chunks(&self) -> impl Iterator<Item = (usize, &[T])> {
        self.chunks.iter().enumerate().filter_map(|(chunk, root)| {
            // Acquire: as in `get`.
            let first = root.load(Ordering::Acquire);
            let number = if chunk == 0 { 0 } else { length(chunk) };
            (!first.is_null()).then(|| {
                // SAFETY: as in `get`.
                (number, unsafe {
                    std::slice::from_raw_parts(first, length(chunk))
                })
            })
        })
    }

    /// Memory of all chunks, in bytes.
    pub fn bytes(&self) -> usize {
        self.chunks().map(|(_, elements)| size_of_val(elements)).sum()
    }
}

impl<T> Chunks<T> {
    /// # Safety
    /// `first` is a chunk's own pointer, given up by whoever held it.
    unsafe fn from_raw(chunk: usize, first: *mut T) -> Box<[T]> {
        // SAFETY: it was made by `Box::into_raw` with this length.
        unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(first, length(chunk))) }
    }
}

impl<T> Drop for Chunks<T> {
    fn drop(&mut self) {
        for (chunk, root) in self.chunks.iter().enumerate() {
            // Relaxed: `&mut self`, nobody else is here.
            let first = root.load(Ordering::Relaxed);
            if !first.is_null() {
                // SAFETY: the table's own, and nobody can look any more.
                drop(unsafe { Self::from_raw(chunk, first) });
            }
        }
    }
}

impl<T> fmt::Debug for Chunks<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunks").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::AtomicU64;

    #[test]
    fn places_are_dense_and_unique() {
        let mut next = 0;
        for chunk in 0..8 {
            for at in 0..length(chunk) {
                assert_eq!(place(next), (chunk, at));
                next += 1;
            }
        }
    }

    #[test]
    fn elements_stay_where_they_are() {
        let table = Chunks::<AtomicU64>::new();
        assert!(table.get(5).is_none());
        let mut grown = 0;
        for number in 0..1000 {
            table
                .get_or_grow(number, |bytes| grown += bytes)
                .expect("room")
                .store(number as u64, Ordering::Relaxed);
        }
        assert_eq!(grown, 1024 * 8);
        assert_eq!(table.bytes(), grown);
        let all: Vec<u64> = table
            .chunks()
            .flat_map(|(first, elements)| {
                elements.iter().enumerate().map(move |(at, e)| {
                    let value = e.load(Ordering::Relaxed);
                    assert!(value == 0 || value == (first + at) as u64);
                    value
                })
            })
            .collect();
        assert_eq!(all[..1000], (0..1000).collect::<Vec<u64>>());
        assert!(table.get_or_grow(CHUNKS_CAPACITY, |_| ()).is_none());
    }
}
