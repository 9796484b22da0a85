//! The one door to concurrency primitives.
//!
//! Everything else in the crate takes its atomics, tracked cells and entropy from here, so that the very code that
//! ships is what loom checks: `--cfg loom` swaps the primitives and nothing else. loom's interface is the reference
//! and std imitates it ([`UnsafeCell::with`]).
//!
//! Before each atomic step stands a `yield_point!()`: nothing at all in the build that ships. With `--cfg shuttle` the scheduler of
//! an exploration may have another thread go on there; with `--cfg stalls` the thread is held up now and then, for up to milliseconds.
//!
//! `--cfg lines` has each access noted, for `cargo xtask lines`.

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
    sync::atomic::{Ordering, fence},
};
#[cfg(not(loom))]
pub use std::sync::atomic::Ordering;

/// Between two atomic steps.
#[cfg(not(any(shuttle, stalls)))]
macro_rules! yield_point {
    () => {};
}
/// Between two atomic steps.
#[cfg(any(shuttle, stalls))]
macro_rules! yield_point {
    () => {
        $crate::sync::step()
    };
}

// In the build that ships it is nothing: a call of anything that could hold a thread up would not be a constant.
#[cfg(not(any(shuttle, stalls)))]
const _: () = {
    yield_point!();
};

// Behind the macro, which they use.
#[cfg(shuttle)]
mod counted;
#[cfg(all(any(shuttle, stalls), not(loom)))]
mod event;
#[cfg(shuttle)]
pub mod fault;
#[cfg(shuttle)]
mod map;
#[cfg(all(stalls, not(shuttle)))]
mod stall;

/// Another thread may go on here.
#[cfg(shuttle)]
#[inline]
pub fn step() {
    // Not while a failed exploration is being cleared away.
    if !std::thread::panicking() {
        shuttle_engine::runtime::thread::switch_if_not_stopping();
    }
}

#[cfg(all(stalls, not(shuttle)))]
pub use self::stall::step;

/// loom's atomics, each of whose accesses a model can make the last one of its thread; see [`stop`].
#[cfg(loom)]
macro_rules! atomics {
    ($($name:ident $(<$of:ident>)? holds $value:ty;)*) => {$(
        #[doc = concat!("`loom::sync::atomic::", stringify!($name), "`.")]
        #[derive(Debug, Default)]
        pub struct $name $(<$of>)? (loom::sync::atomic::$name $(<$of>)?);

        impl $(<$of>)? $name $(<$of>)? {
            /// A new atomic.
            #[track_caller]
            pub fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }
        }

        impl $(<$of>)? std::ops::Deref for $name $(<$of>)? {
            type Target = loom::sync::atomic::$name $(<$of>)?;
            fn deref(&self) -> &Self::Target {
                stop::step();
                &self.0
            }
        }
    )*};
}

/// An access to an atomic, which is a write unless it is a load.
#[cfg(lines)]
macro_rules! note {
    (load, $atomic:expr) => {
        $crate::lines::read($atomic)
    };
    ($method:ident, $atomic:expr) => {
        $crate::lines::write($atomic)
    };
}

/// std's atomics under names of our own, so that clippy can refuse std's everywhere else, and with a point to yield at before
/// each step.
#[cfg(not(loom))]
macro_rules! atomics {
    ($($name:ident $(<$of:ident>)? holds $value:ty { $($method:ident($($argument:ident: $type:ty),*) -> $result:ty;)* })*) => {$(
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

            $(
                #[doc = concat!("As std's `", stringify!($method), "`.")]
                #[inline(always)]
                #[cfg_attr(lines, track_caller)]
                pub fn $method(&self, $($argument: $type),*) -> $result {
                    yield_point!();
                    #[cfg(lines)]
                    note!($method, self);
                    self.0.$method($($argument),*)
                }
            )*
        }
    )*};
}

#[cfg(loom)]
atomics! {
    AtomicU32 holds u32;
    AtomicU64 holds u64;
    AtomicPtr<T> holds *mut T;
}

impl AtomicU64 {
    /// As std's `fetch_update`; in models too, where loom's own would look at the newest value and at no other.
    #[inline(always)]
    #[cfg_attr(lines, track_caller)]
    pub fn fetch_update(
        &self,
        set: Ordering,
        fetch: Ordering,
        mut next: impl FnMut(u64) -> Option<u64>,
    ) -> Result<u64, u64> {
        let mut present = self.load(fetch);
        // Progress: a failed CAS means that another thread changed it.
        while let Some(next) = next(present) {
            match self.compare_exchange_weak(present, next, set, fetch) {
                Ok(before) => return Ok(before),
                Err(newer) => present = newer,
            }
        }
        Err(present)
    }
}

#[cfg(not(loom))]
atomics! {
    AtomicU32 holds u32 {
        load(order: Ordering) -> u32;
        store(value: u32, order: Ordering) -> ();
        compare_exchange_weak(old: u32, new: u32, success: Ordering, failure: Ordering) -> Result<u32, u32>;
        fetch_add(value: u32, order: Ordering) -> u32;
        fetch_sub(value: u32, order: Ordering) -> u32;
        fetch_or(value: u32, order: Ordering) -> u32;
        swap(value: u32, order: Ordering) -> u32;
    }
    AtomicU64 holds u64 {
        load(order: Ordering) -> u64;
        store(value: u64, order: Ordering) -> ();
        compare_exchange(old: u64, new: u64, success: Ordering, failure: Ordering) -> Result<u64, u64>;
        compare_exchange_weak(old: u64, new: u64, success: Ordering, failure: Ordering) -> Result<u64, u64>;
        fetch_add(value: u64, order: Ordering) -> u64;
        fetch_sub(value: u64, order: Ordering) -> u64;
        fetch_and(value: u64, order: Ordering) -> u64;
        fetch_or(value: u64, order: Ordering) -> u64;
        fetch_min(value: u64, order: Ordering) -> u64;
        fetch_max(value: u64, order: Ordering) -> u64;
        swap(value: u64, order: Ordering) -> u64;
    }
    AtomicPtr<T> holds *mut T {
        load(order: Ordering) -> *mut T;
        store(value: *mut T, order: Ordering) -> ();
        compare_exchange(old: *mut T, new: *mut T, success: Ordering, failure: Ordering) -> Result<*mut T, *mut T>;
        compare_exchange_weak(old: *mut T, new: *mut T, success: Ordering, failure: Ordering) -> Result<*mut T, *mut T>;
        swap(value: *mut T, order: Ordering) -> *mut T;
    }
}

/// Threads that stop for good in the middle of an operation, in models. (I10)
#[cfg(loom)]
pub mod stop {
    use std::{cell::Cell, panic};

    use loom::thread::{self, ThreadId};

    std::thread_local! {
        /// Who is to stop, and after how many accesses more. loom runs all its threads on one of the system's.
        static NEXT: Cell<Option<(ThreadId, usize)>> = const { Cell::new(None) };
    }

    /// What the stopped thread's operation unwinds with.
    struct Stopped;

    /// Runs `operation`, of which only the first `accesses` accesses to atomics are made. `None` if there were more.
    pub fn after<R>(accesses: usize, operation: impl FnOnce() -> R) -> Option<R> {
        NEXT.set(Some((thread::current().id(), accesses)));
        let result = panic::catch_unwind(panic::AssertUnwindSafe(operation));
        NEXT.set(None);
        match result {
            Ok(result) => Some(result),
            Err(stopped) if stopped.is::<Stopped>() => None,
            Err(failure) => panic::resume_unwind(failure),
        }
    }

    /// An access is about to be made.
    pub(super) fn step() {
        let Some((thread, left)) = NEXT.get() else {
            return;
        };
        if thread::current().id() != thread {
            return;
        }
        NEXT.set(left.checked_sub(1).map(|left| (thread, left)));
        if left == 0 {
            // Without a message: it is no failure.
            panic::resume_unwind(Box::new(Stopped));
        }
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
    yield_point!();
    std::sync::atomic::fence(order);
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

#[cfg(all(any(shuttle, stalls), not(loom)))]
pub use self::event::{Event, EventListener, Listener};
/// Sleeping and waking, made by others. Its list has a lock of its own, taken only where somebody sleeps or is about to.
#[cfg(not(any(loom, shuttle, stalls)))]
pub use event_listener::{Event, EventListener, Listener};
#[cfg(loom)]
pub use stand_in::{Event, EventListener};

/// What stands for `event-listener` in models: the same promises (first come, first notified; a listener dropped after it was
/// notified passes that on), kept under one lock. Like it, a notifier looks first, without the lock and behind a fence of its own,
/// whether anybody listens; the fence that the crate has at the end of listening is left out, for ours stands there.
#[cfg(loom)]
mod stand_in {
    use std::{collections::VecDeque, fmt};

    use loom::sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering, fence},
    };

    /// A place to listen at.
    #[derive(Clone)]
    pub struct Event(Arc<Shared>);

    struct Shared {
        state: Mutex<State>,
        changed: Condvar,
        /// How many listen and have not been notified; written under the lock.
        unnotified: AtomicUsize,
    }

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
            Self(Arc::new(Shared {
                state: Mutex::new(State::default()),
                changed: Condvar::new(),
                unnotified: AtomicUsize::new(0),
            }))
        }

        /// Listens from now on.
        #[must_use]
        pub fn listen(&self) -> EventListener {
            let mut state = self.state();
            let number = state.next;
            state.next += 1;
            state.listeners.push_back((number, false));
            self.tell(state);
            EventListener {
                event: self.clone(),
                number,
            }
        }

        /// Notifies up to `count` of those who have not been.
        pub fn notify_additional(&self, count: usize) {
            fence(Ordering::SeqCst);
            if self.0.unnotified.load(Ordering::Acquire) != 0 {
                self.notify(count);
            }
        }

        fn notify(&self, count: usize) {
            let mut state = self.state();
            state
                .listeners
                .iter_mut()
                .filter(|(_, notified)| !notified)
                .take(count)
                .for_each(|(_, notified)| *notified = true);
            self.tell(state);
            self.0.changed.notify_all();
        }

        /// Has those who look without the lock know how many have not been notified, and lets go of it.
        fn tell(&self, state: loom::sync::MutexGuard<'_, State>) {
            let unnotified = state.listeners.iter().filter(|(_, notified)| !notified);
            self.0.unnotified.store(unnotified.count(), Ordering::Release);
        }

        fn state(&self) -> loom::sync::MutexGuard<'_, State> {
            self.0
                .state
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
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
                state = match self.event.0.changed.wait(state) {
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
            self.event.tell(state);
            if passed {
                self.event.notify(1);
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

#[cfg(shuttle)]
pub use shuttle::sync::{Mutex, MutexGuard};
/// Control plane only: names to queues, worker numbers (a thread's first call), the list of queues (when one is made, and tried,
/// never waited for, where memory has run short).
#[cfg(not(any(sanitize_thread, shuttle)))]
pub use std::sync::{Mutex, MutexGuard};
#[cfg(sanitize_thread)]
pub use told::{Mutex, MutexGuard};

/// std's lock for ThreadSanitizer, which does not see into its slow path: what one who unlocks hands over to the next is said once
/// more, by a word that is seen.
#[cfg(sanitize_thread)]
mod told {
    use std::{
        ops::{Deref, DerefMut},
        sync::{
            self, LockResult, PoisonError, TryLockError, TryLockResult,
            atomic::{AtomicBool, Ordering},
        },
    };

    /// A lock.
    #[derive(Debug, Default)]
    pub struct Mutex<T> {
        lock: sync::Mutex<T>,
        told: AtomicBool,
    }

    /// A lock that is held.
    #[derive(Debug)]
    pub struct MutexGuard<'m, T> {
        guard: sync::MutexGuard<'m, T>,
        told: &'m AtomicBool,
    }

    impl<T> Mutex<T> {
        /// Not held.
        pub const fn new(value: T) -> Self {
            Self {
                lock: sync::Mutex::new(value),
                told: AtomicBool::new(false),
            }
        }

        /// Waits for it.
        pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            match self.lock.lock() {
                Ok(guard) => Ok(self.hear(guard)),
                Err(poisoned) => Err(PoisonError::new(self.hear(poisoned.into_inner()))),
            }
        }

        /// Does not wait for it.
        pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
            match self.lock.try_lock() {
                Ok(guard) => Ok(self.hear(guard)),
                Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
                Err(TryLockError::Poisoned(poisoned)) => {
                    Err(PoisonError::new(self.hear(poisoned.into_inner())).into())
                }
            }
        }

        /// Whoever has it alone needs no lock.
        pub fn get_mut(&mut self) -> LockResult<&mut T> {
            // Acquire: pairs with the store of whoever held it last.
            self.told.load(Ordering::Acquire);
            self.lock.get_mut()
        }

        fn hear<'m>(&'m self, guard: sync::MutexGuard<'m, T>) -> MutexGuard<'m, T> {
            // Acquire: pairs with the store of whoever held it before.
            self.told.load(Ordering::Acquire);
            MutexGuard {
                guard,
                told: &self.told,
            }
        }
    }

    impl<T> Drop for MutexGuard<'_, T> {
        fn drop(&mut self) {
            // Release: pairs with the load of whoever holds it next; the lock itself is let go of after this.
            self.told.store(true, Ordering::Release);
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            &self.guard
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.guard
        }
    }
}

#[cfg(shuttle)]
pub use shuttle::thread_local;
/// A variable of each thread; of each of an exploration's threads, which are coroutines of one.
#[cfg(not(shuttle))]
pub use std::thread_local;

#[cfg(shuttle)]
pub use self::map::{DashMap, Entry};
/// A concurrent map made by others, whose locks are held while an entry is being made.
#[cfg(not(any(loom, shuttle)))]
pub use dashmap::{DashMap, Entry};

/// A cell whose accesses loom tracks, and explorations count; outside of both a plain `std::cell::UnsafeCell`.
#[cfg(not(any(loom, shuttle)))]
#[derive(Debug)]
#[repr(transparent)]
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);
#[cfg(shuttle)]
pub use self::counted::UnsafeCell;

#[cfg(not(any(loom, shuttle)))]
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

/// Whether an allocation is to fail that would not: in explorations, now and then.
#[inline(always)]
pub fn allocation_fails() -> bool {
    #[cfg(shuttle)]
    return fault::allocation_fails();
    #[cfg(not(shuttle))]
    false
}

/// How many cores the machine offers this process; 2 in models and explorations.
pub fn cores() -> usize {
    #[cfg(any(loom, shuttle))]
    return 2;
    #[cfg(not(any(loom, shuttle)))]
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A number for a broker that no other one of this process has. In explorations, which have one at a time, always the same: what
/// depends on it has to come out the same when a schedule is gone through again.
pub fn broker_number() -> u32 {
    // A plain static: under loom an atomic of loom's cannot be one, and this is a counter of brokers.
    static BROKERS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    if cfg!(shuttle) {
        return 1;
    }
    // Relaxed: a counter.
    BROKERS.fetch_add(1, Ordering::Relaxed)
}

/// 128 bits from the system for keys and seeds nobody chose; a constant in models and explorations.
pub fn entropy() -> [u64; 2] {
    #[cfg(any(loom, shuttle))]
    return [1, 2];
    #[cfg(not(any(loom, shuttle)))]
    {
        use std::hash::{BuildHasher, RandomState};
        // RandomState keys SipHash with entropy of the operating system, once per thread, and counts up from there.
        [RandomState::new().hash_one(1), RandomState::new().hash_one(2)]
    }
}
