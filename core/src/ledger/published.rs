//! A shared value that can be made, replaced and taken away under its readers' eyes.
//!
//! Readers are pinned: what they found stays alive until their pin ends, whatever has become of the place.

use std::{fmt, marker::PhantomData};

use crate::{
    ledger::reclaim::Pin,
    sync::{Arc, AtomicPtr, Ordering},
};

/// A place for one shared value, or none.
pub struct Published<T>(pub AtomicPtr<T>, PhantomData<Arc<T>>);

// SAFETY: it hands out `&T` and `Arc<T>` to whoever has it, as an `Arc<T>` does.
unsafe impl<T: Send + Sync> Send for Published<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Published<T> {}

impl<T> Published<T> {
    /// Nothing in it.
    pub fn empty() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()), PhantomData)
    }

    /// A place that holds `value`.
    pub fn new(value: Arc<T>) -> Self {
        Self(AtomicPtr::new(Arc::into_raw(value).cast_mut()), PhantomData)
    }

    /// The value, if there is one.
    #[inline(always)]
    pub fn get<'p>(&'p self, _pin: &'p Pin<'_>) -> Option<&'p T> {
        // Acquire: see the value as made; pairs with the Release of `get_or_try` and `replace`.
        let value = self.0.load(Ordering::Acquire);
        // SAFETY: what was published is given up only through the epoch (`replace`), or by the owner of the place, whom
        // 'p keeps from doing so.
        unsafe { value.as_ref() }
    }

    /// Whether there is a value.
    #[inline(always)]
    pub fn is_some(&self) -> bool {
        // Relaxed: who wants the value gets it by `get`.
        !self.0.load(Ordering::Relaxed).is_null()
    }

    /// A share in the value, if there is one.
    pub fn share(&self, pin: &Pin<'_>) -> Option<Arc<T>> {
        let value: *const T = self.get(pin)?;
        // SAFETY: made by `Arc::into_raw`, and the place's share is not given up before the pin ends.
        unsafe {
            Arc::increment_strong_count(value);
            Some(Arc::from_raw(value))
        }
    }

    /// The value, made now if there is none; if two make one, the second is dropped.
    pub fn get_or_try<'p, E>(
        &'p self,
        pin: &'p Pin<'_>,
        make: impl FnOnce() -> Result<Arc<T>, E>,
    ) -> Result<&'p T, E> {
        if let Some(value) = self.get(pin) {
            return Ok(value);
        }
        let made = Arc::into_raw(make()?).cast_mut();
        // Release: publishes the value. Acquire on failure: sees the winner's.
        let value =
            match self
                .0
                .compare_exchange(std::ptr::null_mut(), made, Ordering::Release, Ordering::Acquire)
            {
                Ok(_) => made,
                Err(winner) => {
                    // SAFETY: made above and shown to nobody.
                    drop(unsafe { Arc::from_raw(made) });
                    winner
                }
            };
        // SAFETY: as in `get`.
        Ok(unsafe { &*value })
    }

    /// Takes the value out, for the owner of the place, who is alone with it.
    pub fn take(&mut self) -> Option<Arc<T>> {
        // Relaxed: `&mut self`, nobody else is here.
        let old = self.0.swap(std::ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: made by `Arc::into_raw`; whoever found it here had a share in the place, or was pinned before we came to
        // own it.
        (!old.is_null()).then(|| unsafe { Arc::from_raw(old) })
    }

    /// Puts another value in, or none. Once nobody can be looking at the old one any more, `free` is given it; that runs
    /// inside some operation's pin and must be short.
    pub fn replace(
        &self,
        value: Option<Arc<T>>,
        pin: &Pin<'_>,
        free: impl FnOnce(Arc<T>) + Send + 'static,
    ) -> bool
    where
        T: Send + Sync + 'static,
    {
        let value = value.map_or(std::ptr::null_mut(), |value| Arc::into_raw(value).cast_mut());
        // AcqRel: Release publishes the value, Acquire sees the old one as made.
        let old = self.0.swap(value, Ordering::AcqRel);
        if old.is_null() {
            return false;
        }
        // SAFETY: made by `Arc::into_raw`, and taken out by us alone. Readers may still look: hence the epoch.
        let old = unsafe { Arc::from_raw(old) };
        pin.defer_everywhere(size_of::<T>(), move || free(old));
        true
    }
}

impl<T> Drop for Published<T> {
    fn drop(&mut self) {
        // Relaxed: `&mut self`, nobody else is here.
        let value = self.0.load(Ordering::Relaxed);
        if !value.is_null() {
            // SAFETY: ours, made by `Arc::into_raw`.
            drop(unsafe { Arc::from_raw(value) });
        }
    }
}

impl<T> fmt::Debug for Published<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published").finish_non_exhaustive()
    }
}
