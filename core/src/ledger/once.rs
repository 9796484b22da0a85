//! A place for one boxed value, filled at most once, by whoever comes first, without anybody waiting.

use std::{fmt, marker::PhantomData};

use crate::sync::{AtomicPtr, Ordering};

/// Empty, or a value for good. Shared and sent as the value may be.
pub struct Once<T>(pub AtomicPtr<T>, PhantomData<T>);

impl<T> Once<T> {
    /// Nothing in it.
    pub fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()), PhantomData)
    }

    /// The value, if it is there.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // Acquire: see the value as made; pairs with the Release in `get_or_try`.
        let value = self.0.load(Ordering::Acquire);
        // SAFETY: once set, never changed before the place itself is dropped.
        (!value.is_null()).then(|| unsafe { &*value })
    }

    /// The value, made now if it is not there; if two make one, the second is dropped.
    pub fn get_or_try<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        if let Some(value) = self.get() {
            return Ok(value);
        }
        let made = Box::into_raw(Box::new(make()?));
        // AcqRel: Release publishes the value; Acquire on failure sees the winner's.
        let value =
            match self
                .0
                .compare_exchange(std::ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => made,
                Err(winner) => {
                    // SAFETY: made above and shown to nobody.
                    drop(unsafe { Box::from_raw(made) });
                    winner
                }
            };
        // SAFETY: as in `get`.
        Ok(unsafe { &*value })
    }
}

impl<T> Drop for Once<T> {
    fn drop(&mut self) {
        // Relaxed: `&mut self`, nobody else is here.
        let value = self.0.load(Ordering::Relaxed);
        if !value.is_null() {
            // SAFETY: ours, made by `Box::into_raw`.
            drop(unsafe { Box::from_raw(value) });
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Once<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Once").field(&self.get()).finish()
    }
}
