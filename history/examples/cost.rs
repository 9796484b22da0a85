//! What recording an event costs, and what checking a history does: `cargo run --release -p epoq-history --example cost`.

use std::{hint::black_box, time::Instant};

use epoq_history::{Answer, End, History, Outcome, Received, Recorder, Rules, Sent, check};

/// Of each kind.
const EVENTS: u64 = 300_000;
const PASSES: usize = 9;

/// A life cycle of each message: three events.
fn record(recorder: &mut Recorder) {
    for token in 0..EVENTS {
        let at = black_box(token * 100);
        let id = u128::from(token);
        let (group, deduplication) = (Some(token as u32 % 1_000), Some(token));
        recorder.send(
            at,
            at + 10,
            Sent {
                token,
                answer: Answer::Accepted(id),
                delay: 0,
                group,
                deduplication,
            },
        );
        let call = recorder.call();
        let received = Received {
            token: Some(token),
            id,
            receives: Some(1),
            visibility: 30_000,
            group,
            sequence: Some(id + 1),
            call,
            place: 0,
            lane: 0,
        };
        let lease = recorder.receive(at + 20, at + 30, received);
        recorder.delete(at + 40, at + 50, lease, Outcome::Done);
    }
}

fn main() {
    let mut best = f64::INFINITY;
    let mut recorder = Recorder::new(0, EVENTS as usize * 3);
    for _ in 0..PASSES {
        recorder = Recorder::new(0, EVENTS as usize * 3);
        let began = Instant::now();
        record(&mut recorder);
        best = best.min(began.elapsed().as_nanos() as f64 / (EVENTS * 3) as f64);
    }
    println!("recording: {best:.1} ns an event, the best of {PASSES} passes");
    let history = History::merge([recorder], End::Empty).expect("well formed");
    for (name, rules) in [("standard", Rules::standard()), ("FIFO", Rules::fifo(1_000_000))] {
        let mut best = f64::INFINITY;
        for _ in 0..PASSES {
            let began = Instant::now();
            assert!(check(&history, &rules).is_acquitted());
            best = best.min(began.elapsed().as_nanos() as f64 / (EVENTS * 3) as f64);
        }
        println!("checking, {name}: {best:.0} ns an event, the best of {PASSES} passes");
    }
}
