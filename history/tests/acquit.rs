//! A queue that is right is acquitted: on many seeds, on threads, on both clocks, with answers that get lost.

mod common;

use common::{Reference, Unreliable, WINDOW};
use epoq_history::{
    ManualTime, Queue, RealTime, Rules, Seen, Time, Verdict, check,
    drive::{Workload, drive},
};

fn judge<Q: Queue, T: Time>(queue: &Q, time: &T, workload: &Workload, rules: &Rules) -> Seen {
    let history = drive(queue, time, workload).expect("a history");
    let verdict: Verdict = check(&history, rules);
    assert!(verdict.is_acquitted(), "{workload:?}\n{verdict}");
    verdict.seen()
}

fn workloads(seed: u64, fifo: bool) -> Workload {
    let workload = if fifo {
        Workload::fifo(seed, 1 + (seed % 7) as u32)
    } else {
        Workload::standard(seed)
    };
    Workload {
        threads: 1 + (seed % 5) as u16,
        purges: if seed.is_multiple_of(4) { 3 } else { 0 },
        ..workload
    }
}

#[test]
fn standard_on_the_manual_clock() {
    let mut seen = Seen::default();
    for seed in 0..60 {
        let time = ManualTime::new();
        let queue = Reference::new(&time);
        let one = judge(&queue, &time, &workloads(seed, false), &Rules::standard());
        seen.redelivered += one.redelivered;
        seen.stale += one.stale;
    }
    assert!(seen.redelivered > 1_000 && seen.stale > 100, "{seen:?}");
}

#[test]
fn fifo_on_the_manual_clock() {
    let mut seen = Seen::default();
    for seed in 0..60 {
        let time = ManualTime::new();
        let queue = Reference::new(&time);
        let one = judge(&queue, &time, &workloads(seed, true), &Rules::fifo(WINDOW));
        seen.redelivered += one.redelivered;
        seen.duplicates += one.duplicates;
    }
    assert!(seen.redelivered > 1_000 && seen.duplicates > 1_000, "{seen:?}");
}

#[test]
fn without_counts_and_sequence_numbers() {
    for seed in 0..40 {
        let time = ManualTime::new();
        judge(
            &Reference::new(&time).silent(),
            &time,
            &workloads(seed, false),
            &Rules::standard(),
        );
        let time = ManualTime::new();
        judge(
            &Reference::new(&time).silent(),
            &time,
            &workloads(seed, true),
            &Rules::fifo(WINDOW),
        );
    }
}

#[test]
fn deletes_that_tell_nothing() {
    for seed in 0..40 {
        for fifo in [false, true] {
            let rules = if fifo {
                Rules::fifo(WINDOW)
            } else {
                Rules::standard()
            };
            let time = ManualTime::new();
            let queue = Reference::new(&time).vague();
            let queue = if seed % 2 == 0 { queue } else { queue.silent() };
            judge(&queue, &time, &workloads(seed, fifo), &rules.deletes_not_told());
        }
    }
}

#[test]
fn answers_that_get_lost() {
    let mut unanswered = 0;
    for seed in 0..60 {
        for fifo in [false, true] {
            let rules = if fifo {
                Rules::fifo(WINDOW)
            } else {
                Rules::standard()
            };
            let time = ManualTime::new();
            let queue = Unreliable::new(Reference::new(&time), seed);
            unanswered += judge(&queue, &time, &workloads(seed, fifo), &rules).unanswered;
            let time = ManualTime::new();
            let queue = Unreliable::new(Reference::new(&time).silent(), seed);
            judge(&queue, &time, &workloads(seed, fifo), &rules);
        }
    }
    assert!(unanswered > 1_000);
}

#[test]
fn on_the_machines_clock() {
    for seed in 0..4 {
        for fifo in [false, true] {
            let rules = if fifo {
                Rules::fifo(WINDOW)
            } else {
                Rules::standard()
            };
            let time = RealTime::new();
            judge(&Reference::new(&time), &time, &workloads(seed, fifo), &rules);
        }
    }
}
