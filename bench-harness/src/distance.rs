//! How far two cores are from each other: what a cache line takes from one to the other and back.
//!
//! On a virtual machine that changes while one looks: the hypervisor moves a virtual core elsewhere, and from then on a hand-over
//! takes six times as long. Nothing else that the system tells shows it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use crossbeam_utils::CachePadded;

use crate::cores::Cores;

/// Round trips of a measurement, in spells, of which the middle one counts.
const SPELLS: usize = 9;
const TRIPS: u64 = 300;
/// Looks at the line until the other thread is given up; a machine that busy has no distances.
const LOOKS_MAX: u64 = 1 << 26;

/// Nanoseconds of a round trip between the cores of two threads of a run; `None` if they share one, or if one of them does not
/// come to run.
pub fn round_trip_ns(first: usize, second: usize) -> Option<f64> {
    if !Cores::of_process().are_apart(first, second) {
        return None;
    }
    let ball = CachePadded::new(AtomicU64::new(0));
    let ball = &*ball;
    let end = SPELLS as u64 * TRIPS;
    thread::scope(|scope| {
        let there = scope.spawn(move || {
            Cores::of_process().pin(first);
            let mut spells = Vec::with_capacity(SPELLS);
            for spell in 0..SPELLS as u64 {
                let begin = Instant::now();
                for trip in spell * TRIPS..(spell + 1) * TRIPS {
                    // Release and Acquire: as a queue hands things over.
                    ball.store(2 * trip + 1, Ordering::Release);
                    if !comes_to(ball, 2 * trip + 2) {
                        return None;
                    }
                }
                spells.push(begin.elapsed().as_nanos() as f64 / TRIPS as f64);
            }
            spells.sort_by(f64::total_cmp);
            spells.get(SPELLS / 2).copied()
        });
        scope.spawn(move || {
            Cores::of_process().pin(second);
            for trip in 0..end {
                if !comes_to(ball, 2 * trip + 1) {
                    return;
                }
                ball.store(2 * trip + 2, Ordering::Release);
            }
        });
        there.join().ok().flatten()
    })
}

/// Waits for the ball; false if it does not come.
fn comes_to(ball: &AtomicU64, trip: u64) -> bool {
    (0..LOOKS_MAX).any(|look| {
        if look % 4096 == 4095 {
            thread::yield_now();
        }
        ball.load(Ordering::Acquire) == trip
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_has_no_distance_from_itself() {
        assert_eq!(round_trip_ns(0, 0), None);
    }

    #[test]
    fn two_cores_are_some_nanoseconds_apart() {
        if Cores::of_process().are_apart(0, 1) {
            let apart = round_trip_ns(0, 1).expect("both come to run");
            assert!((5.0..10_000_000.0).contains(&apart), "{apart} ns");
        }
    }
}
