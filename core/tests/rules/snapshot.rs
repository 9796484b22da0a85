//! Snapshots and metrics agree with what was done.

use crate::common;
use std::time::Duration;

use crate::common::{empty, manual, ms, numbered, one, queue, secs};
use epoq::{Outgoing, Queue, QueueConfig, Redrive, SegmentSnapshot};

fn segments(queue: &Queue) -> Vec<SegmentSnapshot> {
    let partitions = queue.snapshot().partitions;
    partitions
        .iter()
        .flat_map(|partition| partition.segments.clone())
        .collect()
}

#[test]
fn slots_are_counted_by_state() {
    let (_time, broker) = manual(1);
    let queue = queue(&broker, "q");
    assert_eq!(queue.snapshot().partitions, []);
    for number in 0..10 {
        queue.send(&numbered(number, 8)).expect("room");
    }
    queue
        .send_message(&Outgoing::new(b"later").delay(secs(60)))
        .expect("room");
    let leased = queue.receive(4, secs(30)).expect("a receive");
    queue.delete(&leased[0].receipt_handle()).expect("deleted");
    let [segment] = segments(&queue)[..] else {
        panic!("one segment")
    };
    let slots = segment.slots;
    assert_eq!(
        (slots.visible, slots.in_flight, slots.delayed, slots.dead),
        (6, 3, 1, 1)
    );
    assert_eq!((slots.empty, slots.in_line), (252 - 11, 0));
    assert_eq!((segment.tokens, segment.live), (6, 252));
    assert!(!segment.is_sealed && !segment.is_passed);
    assert_eq!(segment.due_hint.map(|due| due.as_millis()), Some(30_001));
    let partition = &queue.snapshot().partitions[0];
    assert_eq!((partition.number, partition.returned), (0, 0));
    assert!(partition.oldest_hint.is_some() && partition.sweep_hint.is_some());
}

#[test]
fn segments_are_shown_oldest_first_and_go_when_they_are_empty() {
    let (time, broker) = manual(1);
    let queue = queue(&broker, "q");
    for number in 0..1000 {
        queue.send(&numbered(number, 64)).expect("room");
        time.advance(ms(1));
    }
    let shown = segments(&queue);
    assert!(shown.len() >= 4);
    assert!(shown.is_sorted_by_key(|segment| (segment.serial, segment.opened_at)));
    assert_eq!(
        shown.iter().map(|segment| segment.slots.visible).sum::<u32>(),
        1000
    );
    let last = shown.len() - 1;
    assert!(shown[..last].iter().all(|segment| segment.is_sealed) && !shown[last].is_sealed);
    let bytes: usize = shown.iter().map(|segment| segment.bytes).sum();
    assert!(queue.memory().used >= bytes as u64);
    assert_eq!(empty(&queue), 1000);
    assert_eq!(segments(&queue).len(), 1);
}

#[test]
fn messages_that_came_back_behind_the_head_show_as_nodes() {
    let (_time, broker) = manual(1);
    let queue = queue(&broker, "q");
    for number in 0..600 {
        queue.send(&numbered(number, 64)).expect("room");
    }
    let all = common::drain(&queue);
    assert_eq!(queue.snapshot().partitions[0].returned, 0);
    assert!(segments(&queue)[0].is_passed);
    for message in &all[..5] {
        queue
            .change_visibility(&message.receipt_handle(), Duration::ZERO)
            .expect("a lease");
    }
    let partition = &queue.snapshot().partitions[0];
    assert_eq!(partition.returned, 5);
    assert_eq!(
        (partition.segments[0].tokens, partition.segments[0].slots.visible),
        (5, 5)
    );
}

#[test]
fn a_queues_metrics_are_those_of_its_parts() {
    let (_time, broker) = manual(2);
    let queue = queue(&broker, "q");
    assert_eq!(
        (queue.metrics().partitions_open, queue.metrics().counts),
        (0, queue.counts())
    );
    queue.send(b"one").expect("room");
    let there = queue.clone();
    common::on_thread(move || there.send(b"two").expect("room").message_id());
    let metrics = queue.metrics();
    assert_eq!((metrics.counts, metrics.memory), (queue.counts(), queue.memory()));
    assert_eq!(metrics.counts.visible, 2);
    assert!((1..=2).contains(&metrics.width) && (1..=2).contains(&metrics.partitions_open));
    assert_eq!(metrics.partitions_open, queue.snapshot().partitions.len());
    broker.delete_queue("q").expect("it is there");
    assert_eq!(queue.metrics().partitions_open, 0);
    assert_eq!(queue.snapshot(), epoq::QueueSnapshot::default());
}

#[test]
fn dead_letters_put_off_are_counted() {
    let (_time, broker) = manual(1);
    let full = QueueConfig {
        memory_limit: Some(1),
        ..QueueConfig::default()
    };
    broker.create_queue("letters", full).expect("a queue");
    let config = QueueConfig {
        redrive: Some(Redrive::new("letters", 1)),
        ..QueueConfig::default()
    };
    let orders = broker.create_queue("orders", config).expect("a queue");
    broker.start_message_move("letters", None, None).expect("a task");
    assert_eq!(broker.metrics().moves_running, 1);
    orders.send(b"poison").expect("room");
    one(&orders, Duration::ZERO);
    assert!(orders.receive(1, None).expect("a receive").is_empty());
    assert_eq!((orders.metrics().put_off, orders.counts().delayed), (1, 1));
}

#[test]
fn a_brokers_metrics_are_sums() {
    let (_time, broker) = manual(2);
    let (first, second) = (queue(&broker, "first"), queue(&broker, "second"));
    first.send(b"one").expect("room");
    first.send(b"two").expect("room");
    second.send(b"three").expect("room");
    one(&second, secs(30));
    second.purge().expect("a queue");
    second.send(b"four").expect("room");
    let metrics = broker.metrics();
    assert_eq!((metrics.queues, metrics.workers, metrics.partitions), (2, 1, 2));
    assert_eq!(
        (
            metrics.counts.sent,
            metrics.counts.visible,
            metrics.counts.in_flight
        ),
        (4, 3, 0)
    );
    assert_eq!((metrics.counts.purged, metrics.counts.received), (1, 1));
    assert_eq!((metrics.memory, metrics.moves_running), (broker.memory(), 0));
    // A thread that has ended, with its destructors, is registered no more.
    let there = first.clone();
    common::on_thread(move || there.send(b"five").expect("room").message_id());
    assert_eq!(broker.metrics().workers, 1);
    broker.delete_queue("first").expect("it is there");
    assert_eq!((broker.metrics().queues, broker.metrics().counts.sent), (1, 2));
}
