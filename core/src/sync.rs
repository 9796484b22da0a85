//! The one door to concurrency primitives.
//!
//! Everything else in the crate takes its atomics, tracked cells and entropy from here, so that the very code that
//! ships is what loom checks: `--cfg loom` swaps the primitives and nothing else. loom's interface is the reference
//! and std imitates it ([`UnsafeCell::with`]). `--cfg lines` has each access noted, for `cargo xtask lines`.

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
    sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence},
};
#[cfg(not(loom))]
pub use std::sync::atomic::Ordering;

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
    AtomicU32 holds u32;
    AtomicU64 holds u64;
    AtomicPtr<T> holds *mut T;
}

/// What is done with atomics, noted first: these come before what [`Deref`](std::ops::Deref) leads to.
#[cfg(lines)]
mod noted {
    use super::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
    use crate::lines;

    macro_rules! noted {
        ($([$($of:ident)?] $name:ty, $value:ty;)*) => {$(
            #[allow(missing_docs, dead_code, reason = "as in std, and whether or not the ledger uses it")]
            impl $(<$of>)? $name {
                #[track_caller]
                pub fn load(&self, order: Ordering) -> $value {
                    lines::read(self);
                    self.0.load(order)
                }

                #[track_caller]
                pub fn store(&self, value: $value, order: Ordering) {
                    lines::write(self);
                    self.0.store(value, order);
                }

                #[track_caller]
                pub fn swap(&self, value: $value, order: Ordering) -> $value {
                    lines::write(self);
                    self.0.swap(value, order)
                }

                #[track_caller]
                pub fn compare_exchange(
                    &self,
                    present: $value,
                    next: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    lines::write(self);
                    self.0.compare_exchange(present, next, success, failure)
                }

                #[track_caller]
                pub fn compare_exchange_weak(
                    &self,
                    present: $value,
                    next: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    lines::write(self);
                    self.0.compare_exchange_weak(present, next, success, failure)
                }

                #[track_caller]
                pub fn fetch_update(
                    &self,
                    set: Ordering,
                    fetch: Ordering,
                    f: impl FnMut($value) -> Option<$value>,
                ) -> Result<$value, $value> {
                    lines::write(self);
                    self.0.fetch_update(set, fetch, f)
                }
            }
        )*};
    }

    macro_rules! noted_numbers {
        ($($name:ty, $value:ty: $($operation:ident)*;)*) => {$(
            #[allow(missing_docs, dead_code, reason = "as in std, and whether or not the ledger uses it")]
            impl $name {$(
                #[track_caller]
                pub fn $operation(&self, value: $value, order: Ordering) -> $value {
                    lines::write(self);
                    self.0.$operation(value, order)
                }
            )*}
        )*};
    }

    noted! {
        [] AtomicU32, u32;
        [] AtomicU64, u64;
        [T] AtomicPtr<T>, *mut T;
    }
    noted_numbers! {
        AtomicU32, u32: fetch_add fetch_sub fetch_and fetch_or fetch_max fetch_min;
        AtomicU64, u64: fetch_add fetch_sub fetch_and fetch_or fetch_max fetch_min;
    }
}

/// Notes that plain memory is read, in the build that counts lines: of what `place` points to, so many bytes.
#[inline(always)]
#[cfg_attr(lines, track_caller)]
pub fn reads_bytes(place: *const u8, bytes: usize) {
    #[cfg(lines)]
    crate::lines::read_bytes(place, bytes);
    #[cfg(not(lines))]
    let _ = (place, bytes);
}

/// Notes that plain memory is written; as [`reads_bytes`].
#[inline(always)]
#[cfg_attr(lines, track_caller)]
pub fn writes_bytes(place: *const u8, bytes: usize) {
    #[cfg(lines)]
    crate::lines::write_bytes(place, bytes);
    #[cfg(not(lines))]
    let _ = (place, bytes);
}

/// Notes that a share of `counted` is about to be taken or given up: a write to its counts, which lie in front of it.
#[inline(always)]
#[cfg_attr(lines, track_caller)]
pub fn shares<T>(counted: *const T) {
    #[cfg(lines)]
    crate::lines::write_bytes(
        counted
            .cast::<u8>()
            .wrapping_sub(16_usize.next_multiple_of(align_of::<T>())),
        16,
    );
    #[cfg(not(lines))]
    let _ = counted;
}

/// `std::sync::atomic::fence`, under a name of our own as the atomics are.
#[cfg(not(loom))]
#[inline(always)]
pub fn fence(order: Ordering) {
    std::sync::atomic::fence(order);
}

/// Stands between a read-modify-write and a load that must not overtake it, both SeqCst, of two words: nothing is to be done
/// then. loom takes SeqCst accesses for AcqRel, and is given the fence that says the same.
#[inline(always)]
pub fn after_rmw() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// A SeqCst fence right behind a read-modify-write of the same thread, of whatever word and ordering.
///
/// On x86 that is a locked instruction, with which loads and stores are not reordered (Intel SDM 3A, 9.2.3.9): it was the
/// fence, and only the compiler is to be told. Elsewhere it is one.
#[inline(always)]
pub fn fence_behind_rmw() {
    #[cfg(all(any(target_arch = "x86_64", target_arch = "x86"), not(any(loom, miri))))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(all(any(target_arch = "x86_64", target_arch = "x86"), not(any(loom, miri)))))]
    fence(Ordering::SeqCst);
}

/// Sleeping and waking, made by others. Its list has a lock of its own, taken only where somebody sleeps or is about to.
#[cfg(not(loom))]
pub use event_listener::{Event, EventListener, Listener};
#[cfg(loom)]
pub use stand_in::{Event, EventListener};

/// What stands for `event-listener` in models: the same promises (first come, first notified; a listener dropped after it was
/// notified passes that on), kept under one lock. Whoever neither listens nor notifies does not meet it.
#[cfg(loom)]
mod stand_in {
    use std::{collections::VecDeque, fmt};

    use loom::sync::{Arc, Condvar, Mutex};

    /// A place to listen at.
    #[derive(Clone)]
    pub struct Event(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        next: u64,
        /// Who listens, and whether it has been notified.
        listeners: VecDeque<(u64, bool)>,
    }

    /// One who listens.
    pub struct EventListener {
        event: Event,
        number: u64,
    }

    impl Event {
        /// Nobody listens.
        #[must_use]
        pub fn new() -> Self {
            Self(Arc::new((Mutex::new(State::default()), Condvar::new())))
        }

        /// Listens from now on.
        #[must_use]
        pub fn listen(&self) -> EventListener {
            let mut state = self.state();
            let number = state.next;
            state.next += 1;
            state.listeners.push_back((number, false));
            drop(state);
            EventListener {
                event: self.clone(),
                number,
            }
        }

        /// Notifies up to `count` of those who have not been.
        pub fn notify_additional(&self, count: usize) {
            let mut state = self.state();
            state
                .listeners
                .iter_mut()
                .filter(|(_, notified)| !notified)
                .take(count)
                .for_each(|(_, notified)| *notified = true);
            drop(state);
            self.0.1.notify_all();
        }

        fn state(&self) -> loom::sync::MutexGuard<'_, State> {
            self.0.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }

    impl EventListener {
        /// Sleeps until notified.
        pub fn wait(self) {
            let mut state = self.event.state();
            while !state
                .listeners
                .iter()
                .any(|&(number, notified)| number == self.number && notified)
            {
                state = match self.event.0.1.wait(state) {
                    Ok(state) => state,
                    Err(poisoned) => poisoned.into_inner(),
                };
            }
            // Taken: nothing is left to pass on.
            state.listeners.retain(|&(number, _)| number != self.number);
        }

        /// Whether it has been notified.
        #[must_use]
        pub fn is_notified(&self) -> bool {
            let state = self.event.state();
            state
                .listeners
                .iter()
                .any(|&(number, notified)| number == self.number && notified)
        }
    }

    impl Drop for EventListener {
        fn drop(&mut self) {
            if std::thread::panicking() {
                return;
            }
            let mut state = self.event.state();
            let at = state
                .listeners
                .iter()
                .position(|&(number, _)| number == self.number);
            let passed = at
                .and_then(|at| state.listeners.remove(at))
                .is_some_and(|(_, notified)| notified);
            drop(state);
            if passed {
                self.event.notify_additional(1);
            }
        }
    }

    impl fmt::Debug for Event {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Event")
        }
    }

    impl fmt::Debug for EventListener {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "EventListener({})", self.number)
        }
    }
}

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
    #[cfg_attr(lines, track_caller)]
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        #[cfg(lines)]
        crate::lines::read(self.0.get());
        f(self.0.get())
    }

    /// Gives a pointer to write through.
    #[inline(always)]
    #[cfg_attr(lines, track_caller)]
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        #[cfg(lines)]
        crate::lines::write(self.0.get());
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
