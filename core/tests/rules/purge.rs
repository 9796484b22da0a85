//! Purging a queue and deleting it: everything at one instant, in whatever state, also under load.

use std::{thread, time::Duration};

use crate::common::{
    LONG, assert_balanced, drain, empty, manual, manual_with, ms, number_of, numbered, one, queue,
    queue_with, release, secs, states,
};
use epoq::{
    Broker, ChangeVisibilityError, Deletion, Millis, NoSuchQueue, Outgoing, Queue, QueueConfig, ReceiveError,
    Redrive, SendError,
};

/// Visible, in flight, in flight with its lease over unnoticed, delayed, released.
fn in_every_state(queue: &Queue, time: &epoq::ManualClock) -> Vec<epoq::Message> {
    queue.send(b"lease over").expect("room");
    let over = one(queue, ms(1));
    queue.send(b"in flight").expect("room");
    let held = one(queue, LONG);
    queue.send(b"released").expect("room");
    let released = one(queue, LONG);
    release(queue, &released);
    queue.send(b"visible").expect("room");
    queue
        .send_message(&Outgoing::new(b"delayed").delay(secs(60)))
        .expect("room");
    time.advance(ms(2));
    vec![over, held, released]
}

#[test]
fn a_purge_removes_messages_in_every_state() {
    let (time, broker) = manual(1);
    let queue = queue(&broker, "q");
    in_every_state(&queue, &time);
    assert_eq!(queue.purge(), Ok(5));
    assert_eq!(states(&queue), (0, 0, 0));
    assert_eq!(queue.counts().purged, 5);
    time.advance(secs(100_000));
    assert_eq!(queue.advance(Millis::MAX), None, "nothing is due any more");
    assert_eq!(queue.receive(10, LONG), Ok(vec![]));
}

#[test]
fn a_purge_reaches_every_partition() {
    let (_time, broker) = manual(8);
    let queue = queue(&broker, "wide");
    for home in 0..8 {
        let worker = broker.worker_at(home).expect("a worker");
        worker.turn(|turn| turn.send(&queue, b"m").map(|_| ()).expect("room"));
    }
    assert_eq!(queue.purge(), Ok(8));
    assert_eq!(states(&queue), (0, 0, 0));
}

#[test]
fn what_is_sent_after_a_purge_stays() {
    let (_time, broker) = manual(1);
    let queue = queue(&broker, "q");
    for round in 0..20 {
        queue.send(&numbered(round, 16)).expect("room");
        assert_eq!(queue.purge(), Ok(1));
        queue.send(&numbered(round + 100, 16)).expect("room");
        let message = one(&queue, LONG);
        assert_eq!(number_of(message.body()), round + 100);
        assert_eq!(queue.delete(&message.receipt_handle()), Ok(Deletion::Deleted));
    }
    assert_eq!(states(&queue), (0, 0, 0));
    assert_eq!(queue.counts().purged, 20);
}

#[test]
fn purged_handles_are_answered_as_deleted() {
    let (time, broker) = manual(1);
    let queue = queue(&broker, "q");
    let messages = in_every_state(&queue, &time);
    queue.purge().expect("there");
    // Their places are taken by others.
    for number in 0..2000 {
        queue.send(&numbered(number, 16)).expect("room");
    }
    for message in &messages {
        let text = queue.encode_handle(&message.receipt_handle()).to_string();
        let handle = queue.decode_handle(&text).expect("still one of this queue");
        for _ in 0..2 {
            assert_eq!(queue.delete(&handle), Ok(Deletion::Gone));
        }
        for timeout in [Duration::ZERO, secs(60)] {
            assert_eq!(
                queue.change_visibility(&handle, timeout),
                Err(ChangeVisibilityError::Gone)
            );
        }
    }
    assert_eq!(states(&queue), (2000, 0, 0), "nobody else's message was touched");
}

#[test]
fn purging_an_empty_queue() {
    let (_time, broker) = manual(1);
    let queue = queue(&broker, "q");
    assert_eq!(queue.purge(), Ok(0));
    assert_eq!(queue.purge(), Ok(0));
    assert_eq!(states(&queue), (0, 0, 0));
}

#[test]
fn a_purge_keeps_the_configuration() {
    let (_time, broker) = manual(1);
    let dead = queue(&broker, "dead");
    let config = QueueConfig {
        redrive: Some(Redrive::new("dead", 1)),
        visibility_timeout: Duration::ZERO,
        ..QueueConfig::default()
    };
    let queue = queue_with(&broker, "q", config.clone());
    queue.purge().expect("there");
    assert_eq!(queue.config(), config);
    queue.send(b"m").expect("room");
    assert_eq!(queue.receive(1, None).expect("valid").len(), 1);
    assert_eq!(queue.receive(1, None), Ok(vec![]));
    assert_eq!(states(&dead), (1, 0, 0));
}

#[test]
fn a_purge_leaves_other_queues_alone() {
    let (_time, broker) = manual(1);
    let (one_queue, other) = (queue(&broker, "one"), queue(&broker, "other"));
    one_queue.send(b"m").expect("room");
    other.send(b"m").expect("room");
    assert_eq!(one_queue.purge(), Ok(1));
    assert_eq!(states(&other), (1, 0, 0));
}

#[test]
fn what_happened_before_a_purge_stays_counted() {
    let (time, broker) = manual(1);
    let queue = queue(&broker, "q");
    for _ in 0..3 {
        let messages = in_every_state(&queue, &time);
        assert_eq!(queue.delete(&messages[1].receipt_handle()), Ok(Deletion::Deleted));
        assert_eq!(queue.purge(), Ok(4));
    }
    let counts = queue.counts();
    assert_eq!((counts.sent, counts.received, counts.released), (15, 9, 3));
    assert_eq!((counts.deleted, counts.purged), (3, 12));
    states(&queue);
}

#[test]
fn a_purge_gives_the_memory_back() {
    let (_time, broker) = manual(1);
    let queue = queue(&broker, "q");
    for number in 0..2000 {
        queue
            .send(&numbered(number, 1 + 900 * (number as usize % 4)))
            .expect("room");
    }
    queue.receive(10, LONG).expect("valid");
    assert!(broker.memory().used > 1_000_000);
    queue.purge().expect("there");
    assert!(broker.memory().used < 100_000, "{:?}", broker.memory());
}

#[test]
fn deliveries_outlive_a_purge_for_their_turn() {
    let (_time, broker) = manual(1);
    let queue = queue(&broker, "q");
    for number in 0..10 {
        queue
            .send(&numbered(number, if number % 2 == 0 { 100 } else { 5000 }))
            .expect("room");
    }
    let worker = broker.worker().expect("a worker");
    worker.turn(|turn| {
        let received = turn.receive(&queue, 10, LONG).expect("valid");
        thread::scope(|scope| {
            scope.spawn(|| queue.purge().expect("there"));
        });
        queue.send(&numbered(77, 5000)).expect("room");
        let numbers: Vec<_> = received
            .iter()
            .map(|delivery| number_of(delivery.body()))
            .collect();
        assert_eq!(numbers, (0..10).collect::<Vec<_>>());
        for delivery in received.iter() {
            assert_eq!(
                turn.delete(&queue, &delivery.receipt_handle()),
                Ok(Deletion::Gone)
            );
        }
    });
    assert_eq!(states(&queue), (1, 0, 0));
}

/// What a purge has left is nobody's but the graveyard's, also while memory is short.
#[test]
fn memory_that_runs_short_after_a_purge_is_not_looked_for_in_what_it_left() {
    let (time, broker) = manual_with(Broker::builder().partitions(1).memory_limit(4 << 20));
    let queue = queue(&broker, "q");
    for round in 0..20 {
        // Messages that have come back behind the head, so that much is named in the list of those.
        for number in 0..2_000 {
            queue.send(&numbered(number, 200)).expect("room");
        }
        while !queue.receive(10, ms(1)).expect("valid").is_empty() {}
        time.advance(ms(5));
        queue.advance(Millis::MAX);
        let worker = broker.worker_at(0).expect("a worker");
        worker.turn(|_| {
            // This turn keeps the era from being buried now: it is left to those who come by.
            thread::scope(|scope| {
                scope.spawn(|| queue.purge().expect("there"));
            });
        });
        for _ in 0..3 {
            let _ = queue.receive(1 + round % 3, LONG);
        }
        // Until there is no more room, and it is looked for everywhere.
        let mut number = 0;
        while queue.send(&numbered(number, 20_000)).is_ok() {
            number += 1;
        }
        assert!(number > 100, "{number}");
        empty(&queue);
    }
}

/// Whatever was accepted was deleted once, or purged once, or is still there; nothing is received after a purge that
/// was sent before it.
#[test]
fn purges_under_load() {
    const PER_THREAD: u64 = 10_000;
    let broker = Broker::builder().partitions(2).build().expect("valid");
    let budget = broker.budget();
    let queue = queue(&broker, "q");
    thread::scope(|scope| {
        let workers: Vec<_> = (0..3u64)
            .map(|thread| {
                let queue = queue.clone();
                scope.spawn(move || {
                    for number in 0..PER_THREAD {
                        let length = if number % 16 == 0 { 2000 } else { 40 };
                        queue
                            .send(&numbered(thread << 32 | number, length))
                            .expect("room");
                        if number % 2 == 0 {
                            continue;
                        }
                        for message in queue.receive(3, LONG).expect("valid") {
                            number_of(message.body());
                            let deletion = queue.delete(&message.receipt_handle()).expect("ours");
                            assert!(matches!(deletion, Deletion::Deleted | Deletion::Gone));
                        }
                    }
                })
            })
            .collect();
        let mut number = 3 << 32;
        while workers.iter().any(|worker| !worker.is_finished()) {
            number += 1;
            let before = queue.send(&numbered(number, 16)).expect("room").message_id();
            queue.purge().expect("there");
            let seen = queue.receive(10, Duration::ZERO).expect("valid");
            assert!(seen.iter().all(|message| message.message_id() != before));
            thread::yield_now();
        }
        // A scope waits for what threads do, but not for what they leave behind at their very end; joining does.
        workers
            .into_iter()
            .for_each(|worker| worker.join().expect("no panic"));
    });
    states(&queue);
    let counts = queue.counts();
    assert!(counts.purged > 0 && counts.deleted > 0, "{counts:?}");
    drain(&queue);
    queue.purge().expect("there");
    assert_eq!(states(&queue), (0, 0, 0));
    drop((queue, broker));
    let memory = budget.read();
    assert_eq!((memory.used, memory.limbo, memory.pooled), (0, 0, 0));
}

/// Each ends an era of its own.
#[test]
fn purges_at_the_same_time_count_every_message_once() {
    const MESSAGES: u64 = 5_000;
    let broker = Broker::builder().partitions(2).build().expect("valid");
    let queue = queue(&broker, "q");
    let purged: u64 = thread::scope(|scope| {
        let purgers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut purged = 0;
                    for number in 0..MESSAGES {
                        queue.send(&numbered(number, 16)).expect("room");
                        if number % 5 == 0 {
                            purged += queue.purge().expect("there");
                        }
                    }
                    purged
                })
            })
            .collect();
        purgers
            .into_iter()
            .map(|purger| purger.join().expect("no panic"))
            .sum()
    });
    let (visible, ..) = states(&queue);
    let counts = queue.counts();
    assert_eq!(counts.sent, 3 * MESSAGES);
    assert_eq!(counts.purged + visible, 3 * MESSAGES);
    assert!(
        purged <= counts.purged,
        "what was sent meanwhile may not be in the answers"
    );
}

/// The figures since the beginning never fall, whatever begins and ends meanwhile.
#[test]
fn a_purge_does_not_show_in_the_figures_since_the_beginning() {
    let broker = Broker::builder().partitions(1).build().expect("valid");
    let queue = queue(&broker, "q");
    thread::scope(|scope| {
        let purger = scope.spawn(|| {
            for number in 0..3_000 {
                queue.send(&numbered(number, 16)).expect("room");
                queue.purge().expect("there");
            }
        });
        let mut last = 0;
        while !purger.is_finished() {
            let sent = queue.counts().sent;
            assert!((last..=3_000).contains(&sent), "{sent} after {last}");
            last = sent;
        }
    });
}

#[test]
fn a_purge_does_not_bring_a_deleted_queue_back() {
    for _ in 0..300 {
        let broker = Broker::builder().partitions(1).build().expect("valid");
        let queue = queue(&broker, "q");
        let start = std::sync::Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                while queue.purge().is_ok() {}
            });
            start.wait();
            broker.delete_queue("q").expect("there");
        });
        assert_eq!(queue.send(b"m").map(|_| ()), Err(SendError::QueueDeleted));
    }
}

// Deleting the queue.

#[test]
fn a_deleted_queue_frees_its_memory_at_once() {
    let (_time, broker) = manual(2);
    let doomed = queue(&broker, "doomed");
    for number in 0..3000 {
        doomed
            .send(&numbered(number, 16 + (number as usize % 3) * 2000))
            .expect("room");
    }
    doomed.receive(10, LONG).expect("valid");
    assert!(broker.memory().used > 1_000_000);
    // The clone at hand keeps nothing.
    assert_eq!(broker.delete_queue("doomed"), Ok(()));
    assert!(broker.memory().used < 100_000, "{:?}", broker.memory());
    assert_eq!(doomed.purge(), Err(NoSuchQueue));
    assert_eq!(doomed.census(), (0, 0, 0));
    let counts = doomed.counts();
    assert_eq!((counts.sent, counts.purged), (3000, 3000));
    assert_balanced(&doomed);
}

#[test]
fn a_queue_can_be_made_anew_at_once() {
    let (_time, broker) = manual(1);
    let old = queue(&broker, "q");
    old.send(b"old").expect("room");
    let handle = one(&old, LONG).receipt_handle();
    assert_eq!(broker.delete_queue("q"), Ok(()));
    let config = QueueConfig {
        max_message_bytes: 10,
        ..QueueConfig::default()
    };
    let anew = queue_with(&broker, "q", config);
    assert_eq!(anew.receive(10, LONG), Ok(vec![]));
    assert_eq!(old.send(b"m").map(|_| ()), Err(SendError::QueueDeleted));
    assert_eq!(anew.delete(&handle), Err(epoq::DeleteError::Foreign));
    anew.send(b"new").expect("room");
    assert_eq!(states(&anew), (1, 0, 0));
}

#[test]
fn a_queue_deleted_under_load() {
    for _ in 0..20 {
        let broker = Broker::builder().partitions(2).build().expect("valid");
        let budget = broker.budget();
        let doomed = queue(&broker, "doomed");
        let accepted: u64 = thread::scope(|scope| {
            let workers: Vec<_> = (0..3u64)
                .map(|thread| {
                    let doomed = doomed.clone();
                    scope.spawn(move || {
                        let mut sent = 0;
                        loop {
                            match doomed.send(&numbered(thread << 32 | sent, 40)) {
                                Ok(_) => sent += 1,
                                Err(error) => {
                                    assert_eq!(error, SendError::QueueDeleted);
                                    return sent;
                                }
                            }
                            match doomed.receive(2, LONG) {
                                Ok(messages) => messages.iter().for_each(|message| {
                                    let _ = doomed.delete(&message.receipt_handle());
                                }),
                                Err(error) => assert_eq!(error, ReceiveError::QueueDeleted),
                            }
                        }
                    })
                })
                .collect();
            while doomed.counts().sent < 1000 {
                thread::yield_now();
            }
            assert_eq!(broker.delete_queue("doomed"), Ok(()));
            workers
                .into_iter()
                .map(|worker| worker.join().expect("no panic"))
                .sum()
        });
        assert_eq!(doomed.counts().sent, accepted);
        assert_balanced(&doomed);
        drop((doomed, broker));
        let memory = budget.read();
        assert_eq!((memory.used, memory.limbo, memory.pooled), (0, 0, 0));
    }
}
