//! Retention, rule by rule, on a clock that stands still.

use std::time::Duration;

use crate::common::{
    LONG, days, delete, drain, hours, manual, ms, numbered, one, queue, queue_with, release, secs, states,
};
use epoq::{
    Broker, ChangeVisibilityError, Deletion, ManualClock, Millis, Outgoing, Queue, QueueConfig, Redrive,
    limits::{DELAY_MAX, VISIBILITY_MAX},
};

fn keeping(retention: Duration) -> (ManualClock, Broker, Queue) {
    let (time, broker) = manual(1);
    let queue = queue_with(&broker, "keeping", keeps(retention));
    (time, broker, queue)
}

fn keeps(retention: Duration) -> QueueConfig {
    QueueConfig {
        retention,
        ..QueueConfig::default()
    }
}

#[test]
fn a_message_is_received_until_its_retention_is_over_and_not_then() {
    for (kept, received) in [(secs(60) - ms(1), 1), (secs(60), 0), (secs(61), 0)] {
        let (time, _broker, queue) = keeping(secs(60));
        queue.send(b"m").expect("room");
        time.advance(kept);
        assert_eq!(
            queue.receive(10, LONG).expect("valid").len(),
            received,
            "after {kept:?}"
        );
        assert_eq!(queue.counts().lapsed, 1 - received as u64);
        states(&queue);
    }
}

#[test]
fn retention_is_four_days_unless_told_otherwise() {
    let (time, broker) = manual(1);
    let queue = queue(&broker, "default");
    queue.send(b"lapses").expect("room");
    time.advance(ms(1));
    queue.send(b"stays").expect("room");
    time.advance(days(4) - ms(1));
    assert_eq!(one(&queue, LONG).body(), b"stays");
    assert_eq!(states(&queue), (0, 1, 0));
}

#[test]
fn retention_counts_from_the_send_not_from_the_receive() {
    let (time, _broker, queue) = keeping(hours(1));
    queue.send(b"m").expect("room");
    for _ in 0..3 {
        time.advance(hours(1) / 4);
        release(&queue, &one(&queue, LONG));
    }
    time.advance(hours(1) / 4);
    assert_eq!(queue.receive(1, LONG), Ok(vec![]));
    assert_eq!(queue.counts().lapsed, 1);
}

#[test]
fn a_delay_does_not_prolong_the_retention() {
    let (time, _broker, queue) = keeping(secs(60));
    queue
        .send_message(&Outgoing::new(b"never").delay(DELAY_MAX))
        .expect("room");
    queue
        .send_message(&Outgoing::new(b"just").delay(secs(59)))
        .expect("room");
    time.advance(secs(59) + ms(1));
    assert_eq!(one(&queue, LONG).body(), b"just");
    time.advance(DELAY_MAX);
    assert_eq!(queue.receive(10, LONG), Ok(vec![]));
}

#[test]
fn a_lease_that_ends_after_the_retention_brings_nothing_back() {
    let (time, _broker, queue) = keeping(secs(60));
    queue.send(b"m").expect("room");
    one(&queue, secs(90));
    time.advance(secs(91));
    assert_eq!(queue.receive(1, LONG), Ok(vec![]));
    assert_eq!(states(&queue), (0, 0, 0));
    assert_eq!(queue.counts().lapsed, 1);
}

#[test]
fn old_messages_do_not_hide_younger_ones() {
    let (time, _broker, queue) = keeping(secs(60));
    for number in 0..1000 {
        queue.send(&numbered(number, 16)).expect("room");
    }
    time.advance(secs(59));
    queue.send(b"young").expect("room");
    time.advance(secs(1));
    let found = (0..1001).find_map(|_| queue.receive(1, LONG).expect("valid").pop());
    assert_eq!(found.expect("it is there").body(), b"young");
}

/// The two ages share segments.
#[test]
fn only_what_is_old_goes() {
    let (time, _broker, queue) = keeping(secs(60));
    for number in 0..100 {
        queue.send(&numbered(number, 16)).expect("room");
    }
    time.advance(secs(30));
    for number in 0..100 {
        queue.send(&numbered(number, 16)).expect("room");
    }
    time.advance(secs(30));
    assert_eq!(drain(&queue).len(), 100);
    let counts = queue.counts();
    assert_eq!((counts.lapsed, counts.in_flight), (100, 100));
    states(&queue);
}

// Changes.

#[test]
fn a_shorter_retention_applies_at_once_to_messages_already_there() {
    let (time, broker, queue) = keeping(days(14));
    queue.send(b"old").expect("room");
    time.advance(hours(1));
    queue.send(b"new").expect("room");
    broker.configure(&queue, keeps(hours(1))).expect("valid");
    let left = drain(&queue);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].body(), b"new");
}

#[test]
fn a_shorter_retention_ends_messages_in_flight_and_delayed_ones() {
    let (time, broker, queue) = keeping(days(14));
    queue.send(b"in flight").expect("room");
    let held = one(&queue, LONG);
    queue
        .send_message(&Outgoing::new(b"delayed").delay(DELAY_MAX))
        .expect("room");
    time.advance(secs(100));
    queue.advance(Millis::MAX);
    assert_eq!(states(&queue), (0, 1, 1));
    broker.configure(&queue, keeps(secs(100))).expect("valid");
    // Housekeeping goes round once a second.
    time.advance(secs(1));
    queue.advance(Millis::MAX);
    assert_eq!(states(&queue), (0, 0, 0));
    assert_eq!(queue.counts().lapsed, 2);
    assert_eq!(queue.delete(&held.receipt_handle()), Ok(Deletion::Gone));
}

#[test]
fn a_longer_retention_applies_at_once_to_messages_already_there() {
    let (time, broker, queue) = keeping(secs(60));
    queue.send(b"m").expect("room");
    time.advance(secs(59));
    broker.configure(&queue, keeps(days(14))).expect("valid");
    time.advance(days(13));
    assert_eq!(one(&queue, LONG).body(), b"m");
}

// Handles.

#[test]
fn a_late_delete_after_retention_succeeds() {
    for noticed in [false, true] {
        let (time, _broker, queue) = keeping(secs(60));
        queue.send(b"m").expect("room");
        let message = one(&queue, secs(1));
        time.advance(days(1));
        if noticed {
            assert_eq!(queue.receive(1, LONG), Ok(vec![]));
        }
        let deletion = queue.delete(&message.receipt_handle()).expect("no error");
        assert!(
            matches!(deletion, Deletion::Deleted | Deletion::Gone),
            "{deletion:?}"
        );
        assert_eq!(queue.delete(&message.receipt_handle()), Ok(Deletion::Gone));
        assert_eq!(states(&queue), (0, 0, 0));
    }
}

#[test]
fn a_change_after_retention_was_noticed_is_refused_as_of_a_deleted_message() {
    let (time, _broker, queue) = keeping(secs(60));
    queue.send(b"m").expect("room");
    let message = one(&queue, secs(1));
    time.advance(secs(60));
    assert_eq!(queue.receive(1, LONG), Ok(vec![]));
    assert_eq!(
        queue.change_visibility(&message.receipt_handle(), secs(1)),
        Err(ChangeVisibilityError::Gone)
    );
}

// In every state, noticed by whoever keeps the time.

#[test]
fn retention_ends_a_visible_message() {
    let (time, _broker, queue) = keeping(secs(60));
    queue.send(b"m").expect("room");
    time.advance(secs(60));
    queue.advance(Millis::MAX);
    assert_eq!(states(&queue), (0, 0, 0));
    assert_eq!(queue.counts().lapsed, 1);
}

#[test]
fn retention_ends_a_message_in_flight() {
    let (time, _broker, queue) = keeping(secs(60));
    queue.send(b"m").expect("room");
    let message = one(&queue, LONG);
    time.advance(secs(60));
    queue.advance(Millis::MAX);
    assert_eq!(states(&queue), (0, 0, 0));
    assert_eq!(queue.counts().lapsed, 1);
    assert_eq!(queue.delete(&message.receipt_handle()), Ok(Deletion::Gone));
    assert_eq!(
        queue.change_visibility(&message.receipt_handle(), secs(1)),
        Err(ChangeVisibilityError::Gone)
    );
}

#[test]
fn retention_ends_a_delayed_message() {
    let (time, _broker, queue) = keeping(secs(60));
    queue
        .send_message(&Outgoing::new(b"m").delay(DELAY_MAX))
        .expect("room");
    time.advance(secs(60));
    queue.advance(Millis::MAX);
    assert_eq!(states(&queue), (0, 0, 0));
    assert_eq!(queue.counts().lapsed, 1);
}

#[test]
fn a_lease_prolonged_beyond_the_retention_ends_with_it() {
    let (time, _broker, queue) = keeping(secs(60));
    queue.send(b"m").expect("room");
    let message = one(&queue, secs(30));
    queue
        .change_visibility(&message.receipt_handle(), VISIBILITY_MAX)
        .expect("its lease runs");
    time.advance(secs(60));
    queue.advance(Millis::MAX);
    assert_eq!(states(&queue), (0, 0, 0));
}

#[test]
fn memory_of_lapsed_messages_comes_back_without_a_receive() {
    let (time, broker, queue) = keeping(secs(60));
    for number in 0..1000 {
        queue.send(&numbered(number, 5000)).expect("room");
    }
    let before = broker.memory().used;
    time.advance(secs(60));
    queue.advance(Millis::MAX);
    let memory = broker.memory();
    // Spare segments are kept for what comes next, a mebibyte of them at most.
    assert!(memory.used - memory.pooled < before / 10, "{memory:?}");
    assert!(memory.pooled <= 1 << 20, "{memory:?}");
}

// Dead-letter queues.

#[test]
fn retention_in_a_dead_letter_queue_counts_from_the_first_send() {
    let (time, broker) = manual(1);
    let dead = queue_with(&broker, "dead", keeps(secs(100)));
    let config = QueueConfig {
        redrive: Some(Redrive::new("dead", 1)),
        ..keeps(days(14))
    };
    let source = queue_with(&broker, "source", config);
    for body in [b"too old", b"younger"] {
        source.send(body).expect("room");
        one(&source, secs(60));
        time.advance(secs(61));
        assert_eq!(source.receive(1, LONG), Ok(vec![]), "it moves");
    }
    assert_eq!(dead.counts().moved_in, 2);
    let left = drain(&dead);
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].body(), b"younger");
    time.advance(secs(39));
    delete(&dead, &left[0]);
    assert_eq!(dead.counts().lapsed, 1);
    states(&dead);
}

#[test]
fn what_has_lapsed_is_not_moved() {
    let (time, broker) = manual(1);
    let dead = queue(&broker, "dead");
    let config = QueueConfig {
        redrive: Some(Redrive::new("dead", 1)),
        ..keeps(secs(60))
    };
    let source = queue_with(&broker, "source", config);
    source.send(b"m").expect("room");
    one(&source, Duration::ZERO);
    time.advance(secs(60));
    assert_eq!(source.receive(1, LONG), Ok(vec![]));
    assert_eq!((source.counts().lapsed, source.counts().moved_out), (1, 0));
    assert_eq!(states(&dead), (0, 0, 0));
}

/// Leases of messages whose retention is over do not keep others from being received.
#[test]
fn what_has_lapsed_in_flight_makes_room_for_others() {
    let (time, broker) = manual(1);
    let config = QueueConfig {
        in_flight_max: Some(1),
        retention: secs(60),
        ..QueueConfig::default()
    };
    let queue = queue_with(&broker, "q", config);
    queue.send(b"one").expect("room");
    one(&queue, hours(12));
    time.advance(secs(62));
    queue.send(b"two").expect("room");
    assert_eq!(one(&queue, hours(12)).body(), b"two");
    assert_eq!(states(&queue), (0, 1, 0));
    assert_eq!(queue.counts().lapsed, 1);
}
