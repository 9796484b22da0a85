//! Counts of a queue: whatever races with what, at rest they say what is there, and by which cause the rest has gone. (I9)
#![cfg(loom)]

mod stage;

use std::time::Duration;

use epoq::{
    Broker, ManualClock, Queue, ReceiptHandle, Worker,
    ledger::lease::DeletedFrom,
    ledger::state::Phase,
    queue::stats::{Counter, Counters, Stats},
    sync::Arc,
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Handed, LATER, Lease, Stage, queue_and_workers};

const VISIBILITY: Duration = Duration::from_millis(10);

fn assert_counted(queue: &Queue) {
    let counts = queue.counts();
    let census = queue.census();
    assert_eq!(
        (counts.visible, counts.in_flight, counts.delayed),
        census,
        "(visible, in flight, delayed) as counted, and as they are"
    );
    let there = counts.visible + counts.in_flight + counts.delayed;
    let gone = counts.deleted + counts.lapsed + counts.moved_out + counts.purged;
    assert_eq!(counts.sent + counts.moved_in, there + gone);
}

/// A queue with one message, leased by one worker's receive.
fn leased() -> (Queue, ManualClock, [Worker; 2], ReceiptHandle, Broker) {
    let clock = ManualClock::new();
    let (broker, queue, workers) = queue_and_workers(&clock);
    let handle = workers[0].turn(|turn| {
        turn.send(&queue, b"1").expect("room");
        let received = turn.receive(&queue, 1, VISIBILITY).expect("a queue");
        received.get(0).expect("the message").receipt_handle()
    });
    (queue, clock, workers, handle, broker)
}

/// A lease is over; its handle deletes the message, and somebody receives it.
fn delete_and_receive() -> &'static str {
    let (queue, clock, [here, there], handle, _broker) = leased();
    clock.advance(2 * VISIBILITY);
    let deleter = thread::spawn({
        let (queue, worker) = (queue.clone(), Handed(there));
        move || {
            let worker = worker.take();
            worker
                .turn(|turn| turn.delete(&queue, &handle))
                .expect("a handle of this queue");
            Handed(worker)
        }
    });
    let received = here.turn(|turn| turn.receive(&queue, 1, VISIBILITY).expect("a queue").len());
    drop(deleter.join().unwrap());
    assert_counted(&queue);
    let counts = queue.counts();
    match (received, counts.deleted, counts.expired) {
        (1, 0, 1) => "received again",
        (0, 1, 0) => "deleted in flight",
        (0, 1, 1) => "deleted when it was visible",
        other => panic!("{other:?}"),
    }
}

#[test]
fn counts_of_a_delete_and_a_receive() {
    let outcomes = Outcomes::new(
        &[
            "received again",
            "deleted in flight",
            "deleted when it was visible",
        ],
        &[],
    );
    model("counts_of_a_delete_and_a_receive", 108, {
        let outcomes = outcomes.clone();
        move || outcomes.record(delete_and_receive())
    });
    outcomes.assert_complete("counts_of_a_delete_and_a_receive");
}

/// Deletes a message, and says which counter that belongs to.
type Delete = fn(&Hand, &Lease) -> Option<fn(&Counters) -> &Counter>;

const DELETE: Delete = |hand, lease| {
    let from = hand.delete(lease).ok()?;
    Some(match from {
        DeletedFrom::InFlight => |counters| &counters.deleted_in_flight,
        DeletedFrom::Visible => |counters| &counters.deleted_visible,
        DeletedFrom::Delayed => |counters| &counters.deleted_delayed,
    })
};

/// The ledger's part of [`delete_and_receive`], with the counting written out. Each thread has a stripe of its own, or they
/// share one.
fn counted_by_hand(delete: Delete, stripes: [u32; 2]) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let stats = Arc::new(Stats::new());
    let stripe = |number| stats.of(number).expect("room");
    let segment = hand.first();
    hand.send(1);
    let lease = hand.receive().expect("just sent");
    stripe(stripes[0]).sent.add(1);
    stripe(stripes[0]).leased.add(1);
    let deleter = thread::spawn({
        let (hand, stats) = (stage.hand(), Arc::clone(&stats));
        move || {
            let counter = delete(&hand, &lease);
            if let Some(counter) = counter {
                counter(stats.of(stripes[1]).expect("room")).add(1);
            }
            counter.is_some()
        }
    });
    let swept = hand.sweep(segment, LATER);
    stripe(stripes[0]).expired.add(u64::from(swept.expired));
    let received = hand.receive().is_some();
    stripe(stripes[0]).leased.add(u64::from(received));
    let deleted = deleter.join().unwrap();
    let counts = stats.read();
    let are = |phase| u64::from(segment.phase(0) == phase);
    assert_eq!(
        (counts.visible, counts.in_flight, counts.delayed, counts.deleted),
        (are(Phase::Visible), are(Phase::InFlight), 0, are(Phase::Dead)),
        "(visible, in flight, delayed, deleted) as counted, and as they are"
    );
    match (received, deleted, swept.expired) {
        (true, false, 1) => "received again",
        (false, true, 0) => "deleted in flight",
        (false, true, 1) => "deleted when it was visible",
        other => panic!("{other:?}"),
    }
}

#[test]
fn counts_step_by_step() {
    let outcomes = Outcomes::new(
        &[
            "received again",
            "deleted in flight",
            "deleted when it was visible",
        ],
        &[],
    );
    model("counts_step_by_step", 160, {
        let outcomes = outcomes.clone();
        move || outcomes.record(counted_by_hand(DELETE, [0, 1]))
    });
    outcomes.assert_complete("counts_step_by_step");
}

#[test]
fn a_delete_is_counted_by_an_older_look() {
    twin(
        "a_delete_is_counted_by_an_older_look",
        "as counted, and as they are",
        || {
            counted_by_hand(
                |hand, lease| {
                    let is_in_flight = hand.first().phase(0) == Phase::InFlight;
                    hand.delete(lease).ok()?;
                    Some(if is_in_flight {
                        |counters| &counters.deleted_in_flight
                    } else {
                        |counters| &counters.deleted_visible
                    })
                },
                [0, 1],
            );
        },
    );
}

/// Two who count the same on one stripe, whose counters are added to by a load and a store.
#[test]
fn two_workers_count_on_one_stripe() {
    twin("two_workers_count_on_one_stripe", "counted twice is two", || {
        let stats = Arc::new(Stats::new());
        stats.of(0).expect("room");
        let other = thread::spawn({
            let stats = Arc::clone(&stats);
            move || stats.of(0).expect("room").sent.add(1)
        });
        stats.of(0).expect("room").sent.add(1);
        other.join().unwrap();
        assert_eq!(stats.read().sent, 2, "counted twice is two");
    });
}
