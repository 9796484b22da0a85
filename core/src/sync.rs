//! The one door to concurrency primitives.
//!
//! Everything else in the crate takes its atomics, tracked cells and entropy from here, so that the very code that
//! ships is what loom checks: `--cfg loom` swaps the primitives and nothing else. loom's interface is the reference
//! and std imitates it ([`UnsafeCell::with`]).

#![cfg_attr(
    not(loom),
    allow(unreachable_pub, reason = "public to the models only, see lib.rs")
)]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the shim itself"
)]

#[cfg(loom)]
pub use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence},
};
#[cfg(not(loom))]
pub use std::sync::atomic::{Ordering, fence};

/// std's atomics under names of our own, so that clippy can refuse std's everywhere else.
#[cfg(not(loom))]
macro_rules! atomics {
    ($($name:ident $(<$of:ident>)? holds $value:ty;)*) => {$(
        #[doc = concat!("`std::sync::atomic::", stringify!($name), "`.")]
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub struct $name $(<$of>)? (std::sync::atomic::$name $(<$of>)?);

        impl $(<$of>)? $name $(<$of>)? {
            /// A new atomic.
            #[inline(always)]
            pub const fn new(value: $value) -> Self {
                Self(std::sync::atomic::$name::new(value))
            }
        }

        impl $(<$of>)? std::ops::Deref for $name $(<$of>)? {
            type Target = std::sync::atomic::$name $(<$of>)?;
            #[inline(always)]
            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }
    )*};
}

#[cfg(not(loom))]
atomics! {
    AtomicBool holds bool;
    AtomicU32 holds u32;
    AtomicU64 holds u64;
    AtomicPtr<T> holds *mut T;
}

/// Stands between a read-modify-write and a load that must not overtake it, both SeqCst, of two words: nothing is to be done
/// then. loom takes SeqCst accesses for AcqRel, and is given the fence that says the same.
#[inline(always)]
pub fn after_rmw() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// Sleeping and waking, made by others. Its list has a lock of its own, taken only where somebody sleeps or is about to.
#[cfg(not(loom))]
pub use event_listener::{Event, EventListener, Listener};

/// Shared ownership is reference counting made by others: not a hand-over of ours, so loom need not explore it.
pub use std::sync::{Arc, Weak};

/// Control plane only: names to queues, worker numbers (a thread's first call), the list of partitions (a queue's first
/// send on a core, and tried, never waited for, where memory has run short).
pub use std::sync::Mutex;

/// A cell whose accesses loom tracks; outside loom a plain `std::cell::UnsafeCell`.
#[cfg(not(loom))]
#[derive(Debug)]
#[repr(transparent)]
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    /// A new cell.
    pub const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Gives a pointer to read through.
    #[inline(always)]
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    /// Gives a pointer to write through.
    #[inline(always)]
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// How many cores the machine offers this process; 2 under loom.
pub fn cores() -> usize {
    #[cfg(loom)]
    return 2;
    #[cfg(not(loom))]
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// 128 bits from the system for keys and seeds nobody chose; a constant under loom.
pub fn entropy() -> [u64; 2] {
    #[cfg(loom)]
    return [1, 2];
    #[cfg(not(loom))]
    {
        use std::hash::{BuildHasher, RandomState};
        // RandomState keys SipHash with entropy of the operating system, once per thread, and counts up from there.
        [RandomState::new().hash_one(1), RandomState::new().hash_one(2)]
    }
}
