//! A pile of things that nobody is in a hurry for: anyone puts one on it, and whoever comes by takes one off. Nobody ever waits.

use std::{fmt, marker::PhantomData, ptr};

use crate::sync::{AtomicPtr, Ordering, UnsafeCell};

/// Things on top of each other.
pub struct Pile<T> {
    /// The thing put on last; null for an empty pile.
    pub top: AtomicPtr<Layer<T>>,
    things: PhantomData<T>,
}

/// A thing, and what lies below it.
#[derive(Debug)]
pub struct Layer<T> {
    thing: T,
    below: UnsafeCell<*mut Self>,
}

// SAFETY: it owns its things, and lends none.
unsafe impl<T: Send> Send for Pile<T> {}
// SAFETY: to share it is to be able to put a thing on in one thread and to take it off in another: that sends the thing.
unsafe impl<T: Send> Sync for Pile<T> {}

impl<T> Layer<T> {
    /// A layer of its own.
    pub fn alone(thing: T) -> *mut Self {
        Box::into_raw(Box::new(Self {
            thing,
            below: UnsafeCell::new(ptr::null_mut()),
        }))
    }

    /// # Safety
    /// `layer` is the caller's, by [`Pile::take_all`] or [`Layer::alone`], and is given up. What lies below it becomes the caller's.
    pub unsafe fn apart(layer: *mut Self) -> (T, *mut Self) {
        // SAFETY: made by `Box::into_raw`, and nobody else's.
        let Self { thing, below } = *unsafe { Box::from_raw(layer) };
        // SAFETY: ours, as the layer is.
        (thing, below.with(|below| unsafe { *below }))
    }

    /// Puts one pile of layers below another.
    ///
    /// # Safety
    /// Both are the caller's; `layers` is not null.
    unsafe fn lay_below(layers: *mut Self, others: *mut Self) {
        let mut last = layers;
        // Bounded by what is there.
        loop {
            // SAFETY: the caller's, down to the last.
            let cell = unsafe { &(*last).below };
            // SAFETY: as above.
            let below = cell.with(|below| unsafe { *below });
            if below.is_null() {
                // SAFETY: as above.
                cell.with_mut(|below| unsafe { *below = others });
                return;
            }
            last = below;
        }
    }
}

impl<T> Pile<T> {
    /// An empty one; it allocates nothing.
    pub fn new() -> Self {
        Self {
            top: AtomicPtr::new(ptr::null_mut()),
            things: PhantomData,
        }
    }

    /// Puts a thing on top.
    pub fn put(&self, thing: T) {
        let layer = Layer::alone(thing);
        // Relaxed: it is written into the layer and compared, not followed.
        let mut top = self.top.load(Ordering::Relaxed);
        // Progress: each turn more means that another thread has put something on, or taken all.
        loop {
            // SAFETY: nobody else has seen the layer.
            unsafe { (*layer).below.with_mut(|below| *below = top) };
            // Release: hands the thing over, see `take_all`. That the top is the same again after all was taken does no harm: what is
            // below it was put back with it, or is below it now.
            match self
                .top
                .compare_exchange(top, layer, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(newer) => top = newer,
            }
        }
    }

    /// Takes one off, if there is one. Others who come by in the meantime may find nothing: they go on, and come by again.
    pub fn take(&self) -> Option<T> {
        let layers = self.take_all();
        if layers.is_null() {
            return None;
        }
        // SAFETY: taken, ours.
        let (thing, rest) = unsafe { Layer::apart(layers) };
        // SAFETY: ours too.
        unsafe { self.put_back(rest) };
        Some(thing)
    }

    /// All that is there.
    pub fn take_all(&self) -> *mut Layer<T> {
        // Acquire: sees the things as they were put on; pairs with the Release of `put` and `put_back`.
        self.top.swap(ptr::null_mut(), Ordering::Acquire)
    }

    /// Puts layers back.
    ///
    /// # Safety
    /// They are the caller's, by [`Pile::take_all`], or null.
    pub unsafe fn put_back(&self, mut layers: *mut Layer<T>) {
        // Progress: each turn more means that another thread has put something on. That is taken, and put back together with the rest:
        // only who has taken all may write into layers.
        while !layers.is_null() {
            // Release: hands over what others had handed over to us. Relaxed on failure: nothing is followed.
            let back =
                self.top
                    .compare_exchange(ptr::null_mut(), layers, Ordering::Release, Ordering::Relaxed);
            if back.is_ok() {
                return;
            }
            let others = self.take_all();
            if !others.is_null() {
                // SAFETY: both are ours.
                unsafe { Layer::lay_below(others, layers) };
                layers = others;
            }
        }
    }
}

impl<T> Drop for Pile<T> {
    fn drop(&mut self) {
        let mut layers = self.take_all();
        // Bounded by what is there.
        while !layers.is_null() {
            // SAFETY: taken, ours.
            let (thing, below) = unsafe { Layer::apart(layers) };
            drop(thing);
            layers = below;
        }
    }
}

impl<T> Default for Pile<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Pile<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pile")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_is_put_on_comes_off_once() {
        let pile = Pile::new();
        assert_eq!(pile.take(), None);
        (0..5).for_each(|n| pile.put(n));
        let mut off: Vec<i32> = std::iter::from_fn(|| pile.take()).collect();
        off.sort_unstable();
        assert_eq!(off, [0, 1, 2, 3, 4]);
        assert_eq!(pile.take(), None);
    }

    #[test]
    fn what_is_still_on_it_is_dropped_with_it() {
        let thing = Arc::new(());
        let pile = Pile::new();
        (0..3).for_each(|_| pile.put(Arc::clone(&thing)));
        drop(pile.take());
        assert_eq!(Arc::strong_count(&thing), 3);
        drop(pile);
        assert_eq!(Arc::strong_count(&thing), 1);
    }

    #[test]
    fn what_was_put_on_meanwhile_stays() {
        let pile = Pile::new();
        (0..2).for_each(|n| pile.put(n));
        let layers = pile.take_all();
        (2..4).for_each(|n| pile.put(n));
        // SAFETY: just taken.
        unsafe { pile.put_back(layers) };
        assert_eq!(std::iter::from_fn(|| pile.take()).count(), 4);
    }
}
