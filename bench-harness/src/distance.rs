//! How far two cores are from each other: what a cache line takes from one to the other and back.
//!
//! On a virtual machine that changes while one looks: the hypervisor moves a virtual core elsewhere, and from then on a hand-over
//! takes six times as long. Nothing else that the system tells shows it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use crossbeam_utils::CachePadded;

use crate::cores::Cores;

/// Spells of a measurement, of which the shortest counts, and round trips of a spell.
const SPELLS: usize = 9;
const TRIPS: u64 = 300;
/// Cores that have done nothing are slow at first.
const WARM_UP: Duration = Duration::from_millis(10);
/// Looks at the line until the other thread is given up; a machine that busy has no distances.
const LOOKS_MAX: u64 = 1 << 26;
/// What the ball is when no more trips follow.
const OVER: u64 = u64::MAX;

/// Nanoseconds of a round trip between the cores of two threads of a run; `None` if they share one, or if one of them does not
/// come to run.
pub fn round_trip_ns(first: usize, second: usize) -> Option<f64> {
    if !Cores::of_process().are_apart(first, second) {
        return None;
    }
    let ball = CachePadded::new(AtomicU64::new(0));
    let ball = &*ball;
    thread::scope(|scope| {
        let there = scope.spawn(move || {
            Cores::of_process().pin(first);
            let shortest = shortest_spell(ball);
            ball.store(OVER, Ordering::Release);
            shortest
        });
        scope.spawn(move || {
            Cores::of_process().pin(second);
            for trip in (1..).step_by(2) {
                if comes_to(ball, trip) != Some(trip) {
                    return;
                }
                ball.store(trip + 1, Ordering::Release);
            }
        });
        there.join().ok().flatten()
    })
}

fn shortest_spell(ball: &AtomicU64) -> Option<f64> {
    let begin = Instant::now();
    let (mut trip, mut measured) = (1, 0);
    let mut shortest = f64::INFINITY;
    while measured < SPELLS {
        let is_warm = begin.elapsed() >= WARM_UP;
        let spell = Instant::now();
        for _ in 0..TRIPS {
            // Release and Acquire: as a queue hands things over.
            ball.store(trip, Ordering::Release);
            comes_to(ball, trip + 1)?;
            trip += 2;
        }
        if is_warm {
            shortest = shortest.min(spell.elapsed().as_nanos() as f64 / TRIPS as f64);
            measured += 1;
        }
    }
    Some(shortest)
}

/// Waits for the ball, or for the end of the game; says which it is, unless neither comes.
fn comes_to(ball: &AtomicU64, trip: u64) -> Option<u64> {
    (0..LOOKS_MAX).find_map(|look| {
        if look % 4096 == 4095 {
            thread::yield_now();
        }
        let here = ball.load(Ordering::Acquire);
        (here == trip || here == OVER).then_some(here)
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
