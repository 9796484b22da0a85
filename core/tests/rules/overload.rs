//! A full ledger: what senders are told, and those who would rather wait.

use crate::common;
use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::common::{LONG, drain, manual_with, one, queue, secs};
use epoq::{Broker, Deletion, Outgoing, Queue, QueueConfig, SendError};

const SMALL: u64 = 1 << 20;

/// A broker with so much memory, and a queue full of messages of so many bytes.
fn full(limit: u64, length: usize) -> (Broker, Queue) {
    let broker = Broker::builder()
        .partitions(1)
        .memory_limit(limit)
        .build()
        .expect("valid");
    let queue = queue(&broker, "q");
    fill(&queue, length);
    (broker, queue)
}

fn fill(queue: &Queue, length: usize) {
    let body = vec![7; length];
    while queue.send(&body).is_ok() {}
}

#[test]
fn a_queue_has_a_budget_of_its_own_within_the_brokers() {
    let (_time, broker) = manual_with(Broker::builder().partitions(1).memory_limit(64 << 20));
    let config = QueueConfig {
        memory_limit: Some(SMALL),
        ..QueueConfig::default()
    };
    let small = broker.create_queue("small", config.clone()).expect("valid");
    let other = queue(&broker, "other");
    let refused = loop {
        if let Err(error) = small.send(&[7; 500]) {
            break error;
        }
    };
    assert!(
        matches!(refused, SendError::OverBudget { limit: SMALL, used } if used <= SMALL),
        "{refused}"
    );
    assert!(small.memory().used <= SMALL && small.memory().used > SMALL / 2);
    other.send(&[7; 500]).expect("the broker has room");
    // More for it, and it goes on; less, and what is there stays.
    let more = QueueConfig {
        memory_limit: Some(2 * SMALL),
        ..config.clone()
    };
    broker.configure(&small, more).expect("valid");
    small.send(&[7; 500]).expect("room");
    let less = QueueConfig {
        memory_limit: Some(1),
        ..config
    };
    broker.configure(&small, less).expect("valid");
    assert!(!drain(&small).is_empty());
}

#[test]
fn who_waits_for_room_is_told_when_it_came_too_late() {
    let (_broker, queue) = full(SMALL, 500);
    let began = Instant::now();
    let refused = queue
        .send_wait(&Outgoing::new(&[7; 500]), Duration::from_millis(30))
        .map(drop);
    assert!(
        matches!(refused, Err(SendError::OverBudget { .. })),
        "{refused:?}"
    );
    assert!(began.elapsed() >= Duration::from_millis(30));
    // Other errors are told at once.
    let began = Instant::now();
    assert_eq!(
        queue.send_wait(&Outgoing::new(b""), secs(100)).map(drop),
        Err(SendError::Empty)
    );
    assert!(began.elapsed() < secs(10));
}

#[test]
fn who_waits_for_room_gets_it_when_messages_are_deleted() {
    let (_broker, queue) = full(SMALL, 500);
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| queue.send_wait(&Outgoing::new(b"waited"), secs(60)).map(drop)))
            .collect();
        for message in drain(&queue) {
            queue.delete(&message.receipt_handle()).expect("there");
        }
        for waiter in waiters {
            assert_eq!(waiter.join().expect("no panic"), Ok(()));
        }
    });
    let mut left = drain(&queue);
    left.retain(|message| message.body() == b"waited");
    assert!(left.len() <= 3);
}

#[test]
fn a_purge_makes_room_for_who_waits() {
    let (_broker, queue) = full(SMALL, 500);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| queue.send_wait(&Outgoing::new(b"waited"), secs(60)).map(drop));
        thread::sleep(Duration::from_millis(5));
        queue.purge().expect("there");
        assert_eq!(waiter.join().expect("no panic"), Ok(()));
    });
    assert_eq!(one(&queue, LONG).body(), b"waited");
}

/// Producers at full speed against a full ledger: memory stays where it is, consumers go on, nothing is lost.
#[test]
fn producers_against_a_full_ledger() {
    const LIMIT: u64 = 4 << 20;
    let broker = Broker::builder()
        .partitions(2)
        .memory_limit(LIMIT)
        .build()
        .expect("valid");
    let queue = queue(&broker, "q");
    let (over, sent, refused) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    match queue.send(&[7; 300]) {
                        Ok(_) => sent.fetch_add(1, Ordering::Relaxed),
                        Err(_) => refused.fetch_add(1, Ordering::Relaxed),
                    };
                }
            });
        }
        let began = Instant::now();
        let (mut deleted, mut peak) = (0u64, 0);
        while began.elapsed() < Duration::from_millis(500) {
            for message in queue.receive(10, LONG).expect("valid") {
                assert_eq!(queue.delete(&message.receipt_handle()), Ok(Deletion::Deleted));
                deleted += 1;
            }
            peak = peak.max(broker.memory().used);
        }
        over.store(true, Ordering::Relaxed);
        // What each producer asks for in vain shows for a moment: a segment of 252 messages.
        assert!(peak <= LIMIT + 2 * 96 * 1024, "{peak}");
        assert!(deleted > 1000, "{deleted} deleted by a consumer among producers");
    });
    let left = drain(&queue).len() as u64;
    assert_eq!(queue.counts().deleted + left, sent.load(Ordering::Relaxed));
    assert!(refused.load(Ordering::Relaxed) > 0);
}

/// A broker's queue, full of messages that have come back.
fn full_of_returned(limit: u64) -> (Broker, Queue) {
    let (broker, queue) = full(limit, 900);
    for message in drain(&queue) {
        common::release(&queue, &message);
    }
    fill(&queue, 900);
    (broker, queue)
}

#[test]
fn refused_sends_take_no_memory_while_somebody_stays_pinned() {
    let (broker, queue) = full_of_returned(SMALL / 4);
    let before = broker.memory().used;
    broker.worker().expect("a worker").turn(|_| {
        thread::scope(|scope| {
            scope.spawn(|| (0..20_000).for_each(|_| assert!(queue.send(&[7; 900]).is_err())));
        });
    });
    let after = broker.memory().used;
    assert!(after <= before + 64 * 1024, "{before} before, {after} after");
}

/// What a send that waits takes and gives back must not wake it: it would never sleep, and a future never yield.
#[test]
fn a_future_that_waits_for_room_sleeps() {
    use std::{future, pin::pin, task};
    let own = |limit| {
        let broker = Broker::builder().partitions(1).build().expect("valid");
        let config = QueueConfig {
            memory_limit: Some(limit),
            ..QueueConfig::default()
        };
        let queue = broker.create_queue("q", config).expect("valid");
        fill(&queue, 900);
        (broker, queue)
    };
    for ((_broker, queue), length) in [
        (own(64 * 1024), 900),
        (full(SMALL / 4, 900), 900),
        (full(SMALL / 4, 900), 1_100),
        (full_of_returned(SMALL / 4), 900),
    ] {
        let body = vec![7; length];
        let message = Outgoing::new(&body);
        let mut send = pin!(queue.send_async(&message, secs(10), |_| future::pending()));
        let mut context = task::Context::from_waker(task::Waker::noop());
        let began = Instant::now();
        for _ in 0..5 {
            assert!(send.as_mut().poll(&mut context).is_pending());
        }
        assert!(began.elapsed() < secs(5), "polls of {:?}", began.elapsed());
    }
}

#[test]
fn who_waits_for_room_hears_of_a_higher_limit_and_of_the_queue_s_end() {
    let broker = Broker::builder().partitions(1).build().expect("valid");
    let limited = |limit| QueueConfig {
        memory_limit: Some(limit),
        ..QueueConfig::default()
    };
    for is_raised in [true, false] {
        let queue = broker.create_queue("q", limited(64 * 1024)).expect("valid");
        fill(&queue, 900);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| queue.send_wait(&Outgoing::new(&[7; 900]), secs(60)).map(drop));
            thread::sleep(Duration::from_millis(50));
            let expected = if is_raised {
                broker.configure(&queue, limited(SMALL)).expect("valid");
                Ok(())
            } else {
                broker.delete_queue("q").expect("there");
                Err(SendError::QueueDeleted)
            };
            let began = Instant::now();
            assert_eq!(waiter.join().expect("no panic"), expected);
            assert!(began.elapsed() < secs(10));
        });
        if is_raised {
            broker.delete_queue("q").expect("there");
        }
    }
}
