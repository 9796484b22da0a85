//! How many partitions a queue uses follows its traffic.

use crate::common;
use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::common::{LONG, manual_with, ms, numbered, queue, secs};
use epoq::{Broker, Queue, QueueConfig};

/// A queue that starts with one of `partitions`.
fn narrow(partitions: usize) -> (epoq::ManualClock, Broker, Queue) {
    let (time, broker) = manual_with(Broker::builder().partitions(partitions));
    let queue = queue(&broker, "q");
    (time, broker, queue)
}

/// Two workers send in turn, so that they meet, `messages` each in every millisecond for `for_ms`.
fn meet(time: &epoq::ManualClock, broker: &Broker, queue: &Queue, messages: usize, for_ms: u64) {
    let workers = [0, 1].map(|home| broker.worker_at(home % broker.partitions()).expect("a worker"));
    for _ in 0..for_ms {
        for _ in 0..messages / 64 {
            for worker in &workers {
                worker.turn(|turn| {
                    for _ in 0..64 {
                        turn.send(queue, b"x").expect("room");
                    }
                });
            }
        }
        while !queue
            .receive(10, LONG)
            .expect("valid")
            .iter()
            .map(|m| queue.delete(&m.receipt_handle()))
            .collect::<Vec<_>>()
            .is_empty()
        {}
        time.advance(ms(1));
    }
}

#[test]
fn starts_at_one_whatever_the_machine() {
    let (_time, broker, queue) = narrow(16);
    assert_eq!((queue.width(), broker.partitions()), (1, 16));
    for home in 0..16 {
        let worker = broker.worker_at(home).expect("a worker");
        worker.turn(|turn| {
            turn.send(&queue, &numbered(home as u64, 8))
                .map(drop)
                .expect("room")
        });
    }
    assert_eq!(queue.width(), 1);
    // All in one partition: in the order sent.
    let order: Vec<_> = common::drain(&queue)
        .iter()
        .map(|m| common::number_of(m.body()))
        .collect();
    assert_eq!(order, (0..16).collect::<Vec<_>>());
}

#[test]
fn widens_where_workers_meet_and_narrows_when_they_have_gone() {
    let (time, broker, queue) = narrow(4);
    meet(&time, &broker, &queue, 1024, 100);
    assert_eq!(queue.width(), 2, "two workers of homes 0 and 1 meet no more");
    let wide = broker.memory().used;
    // Little to do for a while: it narrows, and what the second partition had goes back.
    for _ in 0..20 {
        time.advance(secs(1));
        queue.send(b"x").expect("room");
        let message = common::one(&queue, LONG);
        assert_eq!(
            queue.delete(&message.receipt_handle()),
            Ok(epoq::Deletion::Deleted)
        );
        queue.advance(broker.now());
    }
    assert_eq!(queue.width(), 1);
    assert!(
        broker.memory().used < wide,
        "{:?}, {wide} before",
        broker.memory()
    );
    // And again.
    meet(&time, &broker, &queue, 1024, 100);
    assert_eq!(queue.width(), 2);
}

#[test]
fn one_worker_alone_widens_nothing() {
    let (time, broker, queue) = narrow(4);
    let worker = broker.worker_at(3).expect("a worker");
    for _ in 0..100 {
        worker.turn(|turn| {
            for _ in 0..2000 {
                turn.send(&queue, b"x").expect("room");
            }
        });
        time.advance(ms(1));
    }
    assert_eq!(queue.width(), 1);
}

#[test]
fn workers_that_meet_seldom_widen_nothing() {
    let (time, broker, queue) = narrow(4);
    // 128 messages a millisecond and worker are 128,000 a second each, 10 times less here.
    for _ in 0..30 {
        meet(&time, &broker, &queue, 64, 1);
        time.advance(ms(10));
    }
    assert_eq!(queue.width(), 1);
}

#[test]
fn messages_left_beyond_the_mask_are_received_and_their_partition_goes() {
    let (time, broker, queue) = narrow(4);
    meet(&time, &broker, &queue, 1024, 100);
    assert_eq!(queue.width(), 2);
    let worker = broker.worker_at(1).expect("a worker");
    worker.turn(|turn| {
        for number in 0..600 {
            turn.send(&queue, &numbered(number, 64)).expect("room");
        }
    });
    for _ in 0..20 {
        time.advance(secs(1));
        queue.advance(broker.now());
    }
    assert_eq!(queue.width(), 1);
    let messages = common::drain(&queue);
    assert_eq!(messages.len(), 600);
    let handles: Vec<_> = messages.iter().map(|message| message.receipt_handle()).collect();
    for handle in &handles {
        assert_eq!(queue.delete(handle), Ok(epoq::Deletion::Deleted));
    }
    for _ in 0..5 {
        time.advance(secs(1));
        queue.advance(broker.now());
    }
    // The partition has gone; its handles say so.
    for handle in &handles {
        assert_eq!(queue.delete(handle), Ok(epoq::Deletion::Gone));
    }
    assert_eq!(queue.census(), (0, 0, 0));
    // Its number is used again, and its old handles touch nothing new.
    meet(&time, &broker, &queue, 1024, 100);
    assert_eq!(queue.width(), 2);
    worker.turn(|turn| turn.send(&queue, b"new").map(drop).expect("room"));
    for handle in &handles {
        assert_eq!(queue.delete(handle), Ok(epoq::Deletion::Gone));
    }
    assert_eq!(common::one(&queue, LONG).body(), b"new");
}

/// A message in flight in a segment that the head has passed keeps its partition.
#[test]
fn a_lease_beyond_the_mask_keeps_its_partition() {
    let (time, broker, queue) = narrow(4);
    meet(&time, &broker, &queue, 1024, 100);
    assert_eq!(queue.width(), 2);
    let worker = broker.worker_at(1).expect("a worker");
    worker.turn(|turn| {
        for number in 0..600 {
            turn.send(&queue, &numbered(number, 64)).expect("room");
        }
    });
    // All are in flight, and all but the first are deleted: the segment with the first one is passed, the tail's is empty.
    for message in common::drain(&queue) {
        if common::number_of(message.body()) != 0 {
            assert_eq!(
                queue.delete(&message.receipt_handle()),
                Ok(epoq::Deletion::Deleted)
            );
        }
    }
    for _ in 0..20 {
        time.advance(secs(1));
        queue.advance(broker.now());
    }
    assert_eq!(queue.width(), 1);
    assert_eq!(queue.census(), (0, 1, 0), "the partition was taken away");
    time.advance(LONG);
    assert_eq!(common::number_of(common::one(&queue, LONG).body()), 0);
}

/// Widening and narrowing all the while, under a load: nothing is lost, nothing comes twice.
#[test]
fn nothing_is_lost_while_the_width_changes() {
    let broker = Broker::builder().partitions(4).build().expect("valid");
    let queue = broker
        .create_queue(
            "q",
            QueueConfig {
                in_flight_max: None,
                ..QueueConfig::default()
            },
        )
        .expect("valid");
    const THREADS: usize = 4;
    let (start, stop, over) = (
        Barrier::new(THREADS + 1),
        AtomicBool::new(false),
        AtomicBool::new(false),
    );
    let logs: Vec<(u64, Vec<u64>)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|home| {
                let (broker, queue, start, stop, over) = (&broker, &queue, &start, &stop, &over);
                scope.spawn(move || {
                    let worker = broker.worker_at(home).expect("a worker");
                    start.wait();
                    let (mut mine, mut sent) = (Vec::new(), 0);
                    loop {
                        let sends = !stop.load(Ordering::Relaxed);
                        if sends {
                            worker.turn(|turn| {
                                for _ in 0..8 {
                                    let number = (home as u64) << 32 | sent;
                                    turn.send(queue, &numbered(number, 16)).expect("room");
                                    sent += 1;
                                }
                            });
                        }
                        let got = worker.turn(|turn| {
                            let received = turn.receive(queue, 10, LONG).expect("valid");
                            for delivery in received.iter() {
                                mine.push(common::number_of(delivery.body()));
                                let deleted = turn.delete(queue, &delivery.receipt_handle());
                                assert_eq!(deleted, Ok(epoq::Deletion::Deleted));
                            }
                            received.len()
                        });
                        if got == 0 && !sends && over.load(Ordering::Relaxed) {
                            return (sent, mine);
                        }
                    }
                })
            })
            .collect();
        start.wait();
        while queue.width_changes() < (30, 30) {
            queue.shake_width();
            thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        // Whoever finds nothing after everybody has stopped sending is done.
        thread::sleep(Duration::from_millis(20));
        over.store(true, Ordering::Relaxed);
        workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic"))
            .collect()
    });
    let mut all: Vec<_> = logs.iter().flat_map(|(_, received)| received).copied().collect();
    all.sort_unstable();
    let sent = logs
        .iter()
        .zip(0u64..)
        .flat_map(|((sent, _), home)| (0..*sent).map(move |n| home << 32 | n));
    assert!(all.iter().copied().eq(sent), "each message once");
    assert_eq!(queue.census(), (0, 0, 0));
}

/// A partition beyond the mask stays until all of its messages are dead, also those in segments that its head has gone by,
/// in whatever state they are.
#[test]
fn a_partition_does_not_go_while_something_lives_behind_its_head() {
    for state in ["delayed", "in flight", "returned"] {
        let (time, broker, queue) = narrow(4);
        while queue.width() < 2 {
            queue.shake_width();
        }
        let worker = broker.worker_at(1).expect("a worker");
        worker.turn(|turn| {
            for number in 0..300 {
                let body = numbered(number, 16);
                let delay = if state == "delayed" { secs(600) } else { secs(0) };
                let message = epoq::Outgoing::new(&body).delay(delay);
                turn.send_message(&queue, &message).map(drop).expect("room");
            }
        });
        let kept = match state {
            "delayed" => Vec::new(),
            _ => common::drain(&queue),
        };
        // The tail has nothing but dead messages.
        worker.turn(|turn| {
            for number in 300..900 {
                turn.send(&queue, &numbered(number, 16)).map(drop).expect("room");
            }
        });
        assert_eq!(common::empty(&queue), 600);
        if state == "returned" {
            kept.iter().for_each(|message| common::release(&queue, message));
        }
        for _ in 0..30 {
            time.advance(secs(1));
            queue.advance(broker.now());
        }
        assert_eq!(queue.width(), 1);
        let there = match state {
            "delayed" => (0, 0, 300),
            "in flight" => (0, 300, 0),
            _ => (300, 0, 0),
        };
        assert_eq!(common::states(&queue), there, "{state}");
        for message in kept.iter().filter(|_| state == "in flight") {
            common::release(&queue, message);
        }
        time.advance(secs(600));
        assert_eq!(common::empty(&queue), 300, "{state}");
        for _ in 0..5 {
            time.advance(secs(1));
            queue.advance(broker.now());
        }
        // Then it goes.
        assert!(
            queue.snapshot().partitions.iter().all(|p| p.number == 0),
            "{state}"
        );
    }
}
