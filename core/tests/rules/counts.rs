//! Counts by state and by cause (I9), and the limit on messages in flight.

use std::{sync::Barrier, thread, time::Duration};

use crate::common::{
    LONG, Random, assert_balanced, delete, drain, manual, ms, numbered, one, queue, queue_with, release,
    secs, states,
};
use epoq::{Broker, ManualClock, Millis, Outgoing, Queue, QueueConfig, ReceiveError, Redrive};

fn capped(in_flight_max: impl Into<Option<u64>>) -> (ManualClock, Broker, Queue) {
    let (time, broker) = manual(1);
    let queue = queue_with(&broker, "capped", caps(in_flight_max));
    (time, broker, queue)
}

fn caps(in_flight_max: impl Into<Option<u64>>) -> QueueConfig {
    QueueConfig {
        in_flight_max: in_flight_max.into(),
        ..QueueConfig::default()
    }
}

fn fill(queue: &Queue, messages: u64) {
    for number in 0..messages {
        queue.send(&numbered(number, 16)).expect("room");
    }
}

fn too_many(in_flight: u64, limit: u64) -> Result<Vec<epoq::Message>, ReceiveError> {
    Err(ReceiveError::TooManyInFlight { in_flight, limit })
}

// By cause.

/// One message for each way out, and one for each state.
#[test]
fn every_message_is_counted_by_what_became_of_it() {
    let (time, broker) = manual(1);
    let dead = queue(&broker, "dead");
    let config = QueueConfig {
        redrive: Some(Redrive::new("dead", 2)),
        retention: secs(60),
        ..QueueConfig::default()
    };
    let queue = queue_with(&broker, "q", config);
    queue.send(b"lapses").expect("room");
    time.advance(secs(60));
    assert_eq!(queue.receive(1, LONG), Ok(vec![]));
    queue.send(b"purged").expect("room");
    assert_eq!(queue.purge(), Ok(1));
    queue.send(b"deleted in flight").expect("room");
    delete(&queue, &one(&queue, LONG));
    queue.send(b"deleted visible").expect("room");
    let message = one(&queue, Duration::ZERO);
    delete(&queue, &message);
    queue.send(b"moved").expect("room");
    release(&queue, &one(&queue, LONG));
    one(&queue, secs(1));
    time.advance(secs(2));
    assert_eq!(queue.receive(1, LONG), Ok(vec![]));
    queue.send(b"in flight").expect("room");
    one(&queue, LONG);
    queue
        .send_message(&Outgoing::new(b"delayed").delay(secs(9)))
        .expect("room");
    queue.send(b"visible").expect("room");

    assert_eq!(states(&queue), (1, 1, 1));
    let counts = queue.counts();
    assert_eq!(counts.sent, 8);
    assert_eq!(counts.received, 5);
    assert_eq!((counts.lapsed, counts.purged, counts.deleted), (1, 1, 2));
    assert_eq!((counts.moved_out, counts.moved_in), (1, 0));
    assert_eq!((counts.released, counts.expired), (1, 1));
    assert_eq!(states(&dead), (1, 0, 0));
    assert_eq!((dead.counts().sent, dead.counts().moved_in), (0, 1));
}

/// All causes at once from several threads: at rest nothing is missing and nothing is counted twice.
#[test]
fn counts_are_exact_at_rest_after_a_storm() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 5_000;
    let time = ManualClock::new();
    let broker = Broker::builder()
        .partitions(3)
        .clock(&time)
        .build()
        .expect("valid");
    let dead = queue(&broker, "dead");
    let config = QueueConfig {
        redrive: Some(Redrive::new("dead", 3)),
        retention: secs(60),
        in_flight_max: Some(500),
        ..QueueConfig::default()
    };
    let queue = queue_with(&broker, "storm", config);
    let start = Barrier::new(THREADS as usize);
    let storm = |thread: u64| {
        let mut random = Random(thread);
        start.wait();
        for round in 0..ROUNDS {
            match random.below(20) {
                0..8 => {
                    queue
                        .send(&numbered(round, 8 + random.below(60) as usize))
                        .expect("room");
                }
                8 => {
                    let delay = ms(random.below(50));
                    queue
                        .send_message(&Outgoing::new(b"m").delay(delay))
                        .expect("room");
                }
                9 => {
                    let sent = queue.send_batch(&[b"1", b"2", b"3"]).expect("valid");
                    assert!(sent.iter().all(Result::is_ok));
                }
                10 if random.once_in(20) => {
                    queue.purge().expect("there");
                }
                10 | 11 => time.advance(ms(random.below(40))),
                12 if random.once_in(200) => time.advance(secs(60)),
                _ => {
                    let timeout = if random.once_in(5) {
                        0
                    } else {
                        1 + random.below(60)
                    };
                    let received = match queue.receive(1 + random.below(10) as usize, ms(timeout)) {
                        Ok(received) => received,
                        Err(ReceiveError::TooManyInFlight { .. }) => Vec::new(),
                        Err(error) => panic!("{error}"),
                    };
                    for message in received {
                        let handle = message.receipt_handle();
                        // What it comes to depends on the others.
                        match random.below(4) {
                            0 => drop(queue.change_visibility(&handle, Duration::ZERO)),
                            1 => drop(queue.change_visibility(&handle, ms(random.below(100)))),
                            2 => drop(queue.delete(&handle)),
                            _ => {}
                        }
                    }
                }
            }
        }
    };
    thread::scope(|scope| (0..THREADS).for_each(|thread| drop(scope.spawn(move || storm(thread)))));
    states(&queue);
    let counts = queue.counts();
    for (cause, count) in [
        ("deleted", counts.deleted),
        ("lapsed", counts.lapsed),
        ("moved out", counts.moved_out),
        ("purged", counts.purged),
        ("released", counts.released),
        ("expired", counts.expired),
    ] {
        assert!(count > 0, "nothing was {cause}: {counts:?}");
    }
    states(&dead);
    assert_eq!(
        dead.counts().moved_in,
        counts.moved_out,
        "{counts:?}\n{:?}",
        dead.counts()
    );
    // And when everything has come to an end.
    time.advance(secs(60));
    while states(&queue) != (0, 0, 0) {
        queue.receive(10, LONG).expect("valid");
        queue.advance(Millis::MAX);
    }
    assert_balanced(&queue);
}

// The limit on messages in flight.

#[test]
fn the_limit_is_a_hundred_and_twenty_thousand_unless_told_otherwise() {
    assert_eq!(QueueConfig::default().in_flight_max, Some(120_000));
    let (_time, broker) = manual(1);
    let queue = queue(&broker, "q");
    fill(&queue, 120_010);
    assert_eq!(drain_up_to(&queue, 120_000), 120_000);
    assert_eq!(queue.receive(1, LONG), too_many(120_000, 120_000));
}

fn drain_up_to(queue: &Queue, most: usize) -> usize {
    let mut count = 0;
    while count < most {
        count += queue.receive(10, LONG).expect("below the limit").len();
    }
    count
}

#[test]
fn a_receive_at_the_limit_is_refused() {
    let (_time, _broker, queue) = capped(3);
    fill(&queue, 5);
    assert_eq!(queue.receive(2, LONG).expect("valid").len(), 2);
    // One more may come, and not ten.
    assert_eq!(queue.receive(10, LONG).expect("valid").len(), 1);
    for max in [1, 10] {
        assert_eq!(queue.receive(max, LONG), too_many(3, 3));
    }
    assert_eq!(states(&queue), (2, 3, 0), "nothing happened to the others");
}

#[test]
fn only_messages_in_flight_are_limited() {
    let (_time, _broker, queue) = capped(2);
    for number in 0..5000 {
        queue.send(&numbered(number, 16)).expect("room");
        queue
            .send_message(&Outgoing::new(b"delayed").delay(secs(60)))
            .expect("room");
    }
    assert_eq!(queue.receive(10, LONG).expect("valid").len(), 2);
    assert_eq!(queue.receive(1, LONG), too_many(2, 2));
    fill(&queue, 100);
    assert_eq!(states(&queue), (5098, 2, 5000));
}

#[test]
fn the_limit_is_exact_for_one_thread() {
    for limit in [1, 7, 10, 11, 100, 1000] {
        let (_time, broker, queue) = capped(limit);
        let worker = broker.worker().expect("a worker");
        fill(&queue, limit + 20);
        worker.turn(|turn| {
            let mut in_flight = 0;
            for max in (1..=10).cycle() {
                match turn.receive(&queue, max, LONG) {
                    Ok(received) => in_flight += received.len() as u64,
                    Err(error) => {
                        assert_eq!(error, ReceiveError::TooManyInFlight { in_flight, limit });
                        break;
                    }
                }
            }
            assert_eq!(in_flight, limit);
            assert!(turn.receive_one(&queue, LONG).is_err());
        });
    }
}

#[test]
fn deletes_and_releases_make_room() {
    let (_time, _broker, queue) = capped(2);
    fill(&queue, 4);
    let held = queue.receive(2, LONG).expect("valid");
    assert_eq!(queue.receive(1, LONG), too_many(2, 2));
    delete(&queue, &held[0]);
    one(&queue, LONG);
    assert_eq!(queue.receive(1, LONG), too_many(2, 2));
    release(&queue, &held[1]);
    one(&queue, LONG);
    assert_eq!(queue.receive(1, LONG), too_many(2, 2));
}

/// Nobody else may come to notice that they are over.
#[test]
fn leases_that_are_over_make_room() {
    for partitions in [1, 4] {
        let (time, broker) = manual(partitions);
        let queue = queue_with(&broker, "capped", caps(20));
        for home in 0..partitions {
            let worker = broker.worker_at(home).expect("a worker");
            fill(&queue, 20);
            worker.turn(|turn| {
                for _ in 0..20 / partitions {
                    assert_eq!(turn.receive(&queue, 1, secs(1)).expect("valid").len(), 1);
                }
            });
        }
        assert_eq!(queue.receive(1, LONG), too_many(20, 20));
        time.advance(secs(1));
        assert_eq!(
            queue.receive(1, LONG),
            too_many(20, 20),
            "not a millisecond early"
        );
        time.advance(ms(1));
        assert_eq!(drain_up_to(&queue, 20), 20);
        assert_eq!(queue.receive(1, LONG), too_many(20, 20));
        assert_eq!(queue.counts().expired, 20);
    }
}

#[test]
fn a_purge_makes_room() {
    let (_time, _broker, queue) = capped(2);
    fill(&queue, 3);
    queue.receive(2, LONG).expect("valid");
    assert_eq!(queue.receive(1, LONG), too_many(2, 2));
    queue.purge().expect("there");
    fill(&queue, 3);
    assert_eq!(queue.receive(10, LONG).expect("valid").len(), 2);
}

#[test]
fn receives_without_a_lease_do_not_mind_the_limit() {
    let (_time, _broker, queue) = capped(1);
    fill(&queue, 3);
    one(&queue, LONG);
    assert_eq!(queue.receive(10, Duration::ZERO).expect("valid").len(), 2);
    assert_eq!(queue.receive(1, LONG), too_many(1, 1));
}

#[test]
fn without_a_limit_there_is_none() {
    let (_time, _broker, queue) = capped(None);
    fill(&queue, 121_000);
    assert_eq!(drain(&queue).len(), 121_000);
}

#[test]
fn a_changed_limit_is_in_force_at_once() {
    let (_time, broker, queue) = capped(1000);
    fill(&queue, 100);
    let held = queue.receive(10, LONG).expect("valid");
    for limit in [10, 5, 0] {
        broker.configure(&queue, caps(limit)).expect("valid");
        assert_eq!(queue.receive(1, LONG), too_many(10, limit));
    }
    broker.configure(&queue, caps(11)).expect("valid");
    assert_eq!(queue.receive(10, LONG).expect("valid").len(), 1);
    broker.configure(&queue, caps(None)).expect("valid");
    assert_eq!(queue.receive(10, LONG).expect("valid").len(), 10);
    broker.configure(&queue, caps(20)).expect("valid");
    delete(&queue, &held[0]);
    assert_eq!(queue.receive(10, LONG), too_many(20, 20));
}

/// A worker that was granted some of what was left and has not used it does not come on top.
#[test]
fn what_another_worker_may_still_take_does_not_exceed_the_limit() {
    const LIMIT: u64 = 10_000;
    let (_time, broker) = manual(1);
    let queue = queue_with(&broker, "capped", caps(LIMIT));
    fill(&queue, 2 * LIMIT);
    let other = broker.worker().expect("a worker");
    other.turn(|turn| assert_eq!(turn.receive(&queue, 1, LONG).expect("valid").len(), 1));
    thread::scope(|scope| {
        let rest = scope.spawn(|| drain_up_to(&queue, LIMIT as usize - 1));
        assert_eq!(rest.join().expect("no panic") as u64, LIMIT - 1);
    });
    let refused = other.turn(|turn| turn.receive(&queue, 1, LONG).map(|received| received.len()));
    assert_eq!(
        refused,
        Err(ReceiveError::TooManyInFlight {
            in_flight: LIMIT,
            limit: LIMIT
        })
    );
}

#[test]
fn threads_exceed_the_limit_by_what_they_take_at_a_time_at_most() {
    const LIMIT: u64 = 300;
    const THREADS: u64 = 4;
    for _ in 0..20 {
        let broker = Broker::builder().partitions(2).build().expect("valid");
        let queue = queue_with(&broker, "capped", caps(LIMIT));
        fill(&queue, 2 * LIMIT);
        let start = Barrier::new(THREADS as usize);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    while queue.receive(10, LONG).is_ok() {}
                });
            }
        });
        let (_, in_flight, _) = states(&queue);
        assert!((LIMIT..LIMIT + THREADS * 10).contains(&in_flight), "{in_flight}");
    }
}
