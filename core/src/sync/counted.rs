//! A cell that counts who is at it: two who must not be there at a time are found out, whether or not it does harm.

use std::{
    fmt,
    sync::atomic::{AtomicIsize, Ordering},
};

/// A cell that only one may write at a time, while nobody reads.
pub struct UnsafeCell<T> {
    value: std::cell::UnsafeCell<T>,
    /// Who reads, or -1 while somebody writes.
    present: AtomicIsize,
}

impl<T> UnsafeCell<T> {
    /// A new cell.
    pub const fn new(value: T) -> Self {
        Self {
            value: std::cell::UnsafeCell::new(value),
            present: AtomicIsize::new(0),
        }
    }

    /// Gives a pointer to read through.
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        // Relaxed, throughout: an exploration has one thread of the machine.
        let before = self.present.fetch_add(1, Ordering::Relaxed);
        assert!(before >= 0, "read while another thread writes");
        yield_point!();
        let result = f(self.value.get());
        self.present.fetch_sub(1, Ordering::Relaxed);
        result
    }

    /// Gives a pointer to write through.
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        let before = self.present.swap(-1, Ordering::Relaxed);
        assert_eq!(before, 0, "written while another thread is there");
        yield_point!();
        let result = f(self.value.get());
        self.present.store(0, Ordering::Relaxed);
        result
    }
}

impl<T> fmt::Debug for UnsafeCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnsafeCell")
    }
}
