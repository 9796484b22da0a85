//! Clocks for driving queues.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Where the moments of a history come from, and how time is made to pass.
pub trait Time: Sync {
    /// Nanoseconds since some beginning; never less than any reading that was finished before.
    fn now(&self) -> u64;

    /// Lets so much time pass.
    fn pass(&self, time: Duration);
}

/// The machine's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct RealTime(Instant);

impl RealTime {
    /// A clock that begins now.
    #[must_use]
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Default for RealTime {
    fn default() -> Self {
        Self::new()
    }
}

impl Time for RealTime {
    fn now(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }

    fn pass(&self, time: Duration) {
        thread::sleep(time);
    }
}

/// A clock that moves by hand, and by a nanosecond each time it is read, so that readings are in the order of what they frame.
#[derive(Debug, Default)]
pub struct ManualTime(AtomicU64);

impl ManualTime {
    /// A clock that stands at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What it shows, without moving it: for the queue under test.
    #[must_use]
    pub fn peek(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Time for ManualTime {
    fn now(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn pass(&self, time: Duration) {
        self.0.fetch_add(time.as_nanos() as u64, Ordering::SeqCst);
    }
}
