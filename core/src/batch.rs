//! Up to ten results, in the order asked for.

use std::ops::Deref;

use arrayvec::ArrayVec;

use crate::{config::BATCH_MAX, error::BatchError};

/// What came of each entry of a batch, in the order given; at most 10, held without allocation.
#[must_use = "each entry has a result of its own: some may have been refused"]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch<T>(ArrayVec<T, BATCH_MAX>);

impl<T> Batch<T> {
    #[inline]
    pub(crate) fn new() -> Self {
        Self(ArrayVec::new())
    }

    /// Whether a batch may have so many entries.
    #[inline]
    pub(crate) fn check(entries: usize) -> Result<(), BatchError> {
        match entries {
            0 => Err(BatchError::Empty),
            1..=BATCH_MAX => Ok(()),
            _ => Err(BatchError::TooMany {
                entries,
                limit: BATCH_MAX,
            }),
        }
    }

    /// Adds a result. Never more than were checked.
    #[inline]
    pub(crate) fn push(&mut self, result: T) {
        let full = self.0.try_push(result).is_err();
        debug_assert!(!full, "a batch has more results than entries");
    }
}

impl<T> Deref for Batch<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> IntoIterator for Batch<T> {
    type Item = T;
    type IntoIter = arrayvec::IntoIter<T, BATCH_MAX>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'b, T> IntoIterator for &'b Batch<T> {
    type Item = &'b T;
    type IntoIter = std::slice::Iter<'b, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
