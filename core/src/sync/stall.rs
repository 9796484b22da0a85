//! Stalls: a thread is held up now and then between two atomic steps, as an interrupt, a page fault or another process would.

use std::{
    cell::Cell,
    hint,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

/// One step in so many is followed by some spinning, a yield, or a sleep.
const SPINS: u64 = 1 << 8;
const YIELDS: u64 = 1 << 12;
const SLEEPS: u64 = 1 << 17;
/// Longest spinning, in turns.
const SPIN_TURNS: u64 = 1 << 10;
/// Longest sleep in microseconds.
const SLEEP_US: u64 = 3_000;

thread_local! {
    static RANDOM: Cell<u64> = Cell::new(seed());
}

/// Another stream of random numbers for each thread, the same ones each time for a program that makes its threads in turn.
fn seed() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(1);
    // Relaxed: a counter.
    THREADS
        .fetch_add(1, Ordering::Relaxed)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        | 1
}

/// Holds the thread up now and then.
#[inline]
pub fn step() {
    // Not while the thread is being torn down.
    let random = RANDOM.try_with(|random| {
        // Xorshift.
        let mut x = random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        random.set(x);
        x
    });
    if let Ok(random) = random
        && random % SPINS == 0
    {
        stall(random);
    }
}

#[cold]
fn stall(random: u64) {
    let length = random >> 32;
    if random.is_multiple_of(SLEEPS) {
        thread::sleep(Duration::from_micros(length % SLEEP_US));
    } else if random.is_multiple_of(YIELDS) {
        thread::yield_now();
    } else {
        (0..length % SPIN_TURNS).for_each(|_| hint::spin_loop());
    }
}
