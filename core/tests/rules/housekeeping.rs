//! What goes on beside sends and receives: lapsed messages go, survivors move together, memory goes back.

use crate::common;
use std::{collections::HashMap, time::Duration};

use crate::common::{
    LONG, days, drain, fifo, hours, manual, manual_with, number_of, numbered, one, queue, secs,
};
use epoq::{Attribute, Broker, Deletion, ManualClock, MessageId, Outgoing, Queue, QueueConfig};

/// Sends `count` messages, every `every`-th of them delayed by `delay`, and deletes the others.
fn leave_survivors(
    queue: &Queue,
    count: u64,
    every: u64,
    delay: Duration,
    body: usize,
) -> HashMap<u64, MessageId> {
    let mut ids = HashMap::new();
    for number in 0..count {
        let body = numbered(number, body);
        let message = Outgoing::new(&body);
        if number % every == 0 {
            let attributes = [Attribute::string("kind", "survivor")];
            let sent = queue
                .send_message(&message.delay(delay).attributes(&attributes))
                .expect("room");
            ids.insert(number, sent.message_id());
        } else {
            queue.send_message(&message).expect("room");
        }
    }
    loop {
        let received = queue.receive(10, LONG).expect("valid");
        if received.is_empty() {
            return ids;
        }
        for message in received {
            assert_eq!(queue.delete(&message.receipt_handle()), Ok(Deletion::Deleted));
        }
    }
}

/// Of large bodies few fit into a segment: a full one is not a nearly empty one.
#[test]
fn a_backlog_of_large_bodies_stays_where_it_is() {
    let (time, broker) = manual(1);
    let queue = queue(&broker, "large");
    for number in 0..200 {
        queue.send(&numbered(number, 16_000)).expect("room");
    }
    pass(&time, &queue, &broker, 200);
    assert_eq!(queue.metrics().evacuated, 0);
    let numbers: Vec<_> = (0..200).map(|_| number_of(one(&queue, LONG).body())).collect();
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
}

/// Two of the sixteen in a segment, which receives have passed by and come back to: each has its hold on the segment besides.
#[test]
fn two_survivors_of_a_segment_of_large_bodies_move() {
    let (time, broker) = manual(1);
    let queue = queue(&broker, "large");
    for number in 0..200 {
        queue.send(&numbered(number, 16_000)).expect("room");
    }
    let received = drain(&queue);
    let before = queue.memory().used;
    for message in &received {
        let number = number_of(message.body());
        if number % 8 == 3 {
            common::release(&queue, message);
        } else {
            common::delete(&queue, message);
        }
    }
    // Handles are good for twelve hours.
    time.advance(hours(12));
    pass(&time, &queue, &broker, 200);
    let after = queue.memory().used;
    assert!(queue.metrics().evacuated >= 20, "{:?}", queue.metrics());
    assert!(after < before / 3, "{after} bytes of {before}");
    let numbers: std::collections::BTreeSet<_> = drain(&queue)
        .iter()
        .map(|message| number_of(message.body()))
        .collect();
    assert_eq!(numbers, (0..200).filter(|number| number % 8 == 3).collect());
}

/// Time passes, and somebody drives.
fn pass(time: &ManualClock, queue: &Queue, broker: &Broker, seconds: u64) {
    for _ in 0..seconds {
        time.advance(secs(1));
        queue.advance(broker.now());
    }
}

fn long(broker: &Broker) -> Queue {
    let config = QueueConfig {
        long_delays: true,
        in_flight_max: None,
        ..QueueConfig::default()
    };
    broker.create_queue("long", config).expect("valid")
}

#[test]
fn survivors_of_nearly_empty_segments_move_together() {
    for (every, body) in [(252, 64), (2000, 64), (252, 3000), (50, 1000)] {
        let (time, broker) = manual_with(Broker::builder().partitions(1).memory_limit(8 << 30));
        let queue = long(&broker);
        let ids = leave_survivors(&queue, every * 300, every, hours(1), body);
        let before = queue.memory();
        pass(&time, &queue, &broker, 70);
        let after = queue.memory();
        let each = after.used / ids.len() as u64;
        // A slot, the body, the id and its attribute; the rest of some segments.
        let bound = 2 * (32 + body as u64 + 120) + 110_000 / ids.len() as u64;
        assert!(
            each < bound,
            "{} bytes a survivor before, {each} after, bound {bound}, 1 in {every} of {body}",
            before.used / ids.len() as u64
        );
        assert_eq!(queue.census(), (0, 0, ids.len() as u64));
        let counts = queue.counts();
        assert_eq!(
            (counts.visible, counts.in_flight, counts.delayed),
            (0, 0, ids.len() as u64)
        );
        // Not one of them early, and each as it was.
        assert_eq!(queue.receive(10, LONG).expect("valid").len(), 0);
        time.advance(hours(1));
        let survivors = drain(&queue);
        assert_eq!(survivors.len(), ids.len());
        for message in survivors {
            let number = number_of(message.body());
            assert_eq!(message.body(), numbered(number, body));
            assert_eq!(message.message_id(), ids[&number]);
            assert_eq!(message.receive_count(), 1);
            assert_eq!(
                message.attributes().next(),
                Some(Attribute::string("kind", "survivor"))
            );
            assert_eq!(message.dead_letter_source(), None);
            assert_eq!(message.sent_at().as_millis(), 0);
            assert_eq!(queue.delete(&message.receipt_handle()), Ok(Deletion::Deleted));
        }
        assert_eq!(queue.census(), (0, 0, 0));
        assert_eq!(queue.counts().deleted, every * 300);
    }
}

#[test]
fn a_visible_survivor_moves_and_keeps_its_id_and_its_age() {
    let (time, broker) = manual(1);
    let queue = long(&broker);
    let ids = leave_survivors(&queue, 252 * 40, 252, secs(10), 64);
    let before = queue.memory().used;
    pass(&time, &queue, &broker, 75);
    assert!(
        queue.memory().used < before / 4,
        "{} of {before}",
        queue.memory().used
    );
    assert_eq!(queue.census(), (ids.len() as u64, 0, 0));
    for message in drain(&queue) {
        assert_eq!(message.message_id(), ids[&number_of(message.body())]);
        assert_eq!((message.sent_at().as_millis(), message.receive_count()), (0, 1));
    }
}

#[test]
fn a_handle_deletes_its_message_for_twelve_hours_wherever_it_lies() {
    let (time, broker) = manual(1);
    let queue = long(&broker);
    let mut handles = Vec::new();
    for number in 0..252 * 40u64 {
        queue.send(&numbered(number, 64)).expect("room");
    }
    for message in drain(&queue) {
        if number_of(message.body()).is_multiple_of(252) {
            assert!(
                queue
                    .change_visibility(&message.receipt_handle(), Duration::ZERO)
                    .is_ok()
            );
            handles.push(message.receipt_handle());
        } else {
            assert_eq!(queue.delete(&message.receipt_handle()), Ok(Deletion::Deleted));
        }
    }
    let (early, late) = handles.split_at(20);
    time.advance(hours(11));
    pass(&time, &queue, &broker, 5);
    for handle in early {
        assert_eq!(queue.delete(handle), Ok(Deletion::Deleted));
    }
    let before = queue.memory().used;
    time.advance(hours(2));
    pass(&time, &queue, &broker, 5);
    assert!(
        queue.memory().used < before / 2,
        "{} of {before}",
        queue.memory().used
    );
    // They have moved: the old handles find nothing, and the messages are still there.
    for handle in late {
        assert_eq!(queue.delete(handle), Ok(Deletion::Gone));
    }
    let messages = drain(&queue);
    assert_eq!(messages.len(), late.len());
    assert!(messages.iter().all(|message| message.receive_count() == 2));
}

#[test]
fn retention_ends_messages_in_every_state() {
    let (time, broker) = manual(1);
    let config = QueueConfig {
        retention: secs(60),
        ..QueueConfig::default()
    };
    let queue = broker.create_queue("brief", config).expect("valid");
    queue.send(b"in flight").expect("room");
    let held = one(&queue, LONG);
    queue.send(b"visible").expect("room");
    queue
        .send_message(&Outgoing::new(&[7; 5000]).delay(secs(300)))
        .expect("room");
    time.advance(secs(59));
    queue.advance(broker.now());
    assert_eq!(queue.census(), (1, 1, 1));
    time.advance(secs(2));
    queue.advance(broker.now());
    assert_eq!(queue.census(), (0, 0, 0));
    let counts = queue.counts();
    assert_eq!((counts.visible, counts.in_flight, counts.delayed), (0, 0, 0));
    assert_eq!((counts.sent, counts.lapsed), (3, 3));
    // A later delete succeeds silently.
    assert_eq!(queue.delete(&held.receipt_handle()), Ok(Deletion::Gone));
}

#[test]
fn an_abandoned_backlog_goes_with_its_retention() {
    let (time, broker) = manual_with(Broker::builder().partitions(1).memory_limit(64 << 20));
    let queue = queue(&broker, "abandoned");
    for number in 0..100_000 {
        queue.send(&numbered(number, 64)).expect("room");
    }
    assert!(broker.memory().used > 8 << 20);
    time.advance(days(4));
    pass(&time, &queue, &broker, 3);
    assert_eq!(queue.counts().lapsed, 100_000);
    assert!(broker.memory().used < 1 << 20, "{:?}", broker.memory());
}

#[test]
fn senders_make_room_of_what_has_lapsed() {
    let (time, broker) = manual_with(Broker::builder().partitions(1).memory_limit(2 << 20));
    let queue = queue(&broker, "full");
    while queue.send(&[7; 64]).is_ok() {}
    time.advance(days(5));
    assert!((0..100).any(|_| queue.send(b"new").is_ok()));
    assert_eq!(drain(&queue).len(), 1);
}

#[test]
fn an_idle_queue_costs_less_than_16_kib() {
    const QUEUES: u64 = 1000;
    let (time, broker) = manual_with(Broker::builder().partitions(64));
    let queues: Vec<_> = (0..QUEUES)
        .map(|number| queue(&broker, &format!("q{number}")))
        .collect();
    assert_eq!(broker.memory().used, 0, "nothing before the first message");
    for queue in &queues {
        queue.send(b"hello").expect("room");
        let message = one(queue, LONG);
        assert_eq!(queue.delete(&message.receipt_handle()), Ok(Deletion::Deleted));
    }
    time.advance(secs(10));
    let each = broker.memory().used / QUEUES;
    assert!(each < 16 * 1024, "{each}");
}

/// Messages move while others claim, delete, release and let leases end.
#[test]
fn nothing_is_lost_while_survivors_move() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (time, broker) = manual_with(Broker::builder().partitions(2).memory_limit(8 << 30));
    let queue = long(&broker);
    let ids = leave_survivors(&queue, 252 * 400, 120, secs(55), 64);
    let over = AtomicBool::new(false);
    let mut all: Vec<u64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let (queue, over) = (&queue, &over);
                scope.spawn(move || {
                    let (mut mine, mut round) = (Vec::new(), 0u64);
                    while !over.load(Ordering::Relaxed) {
                        for message in queue.receive(3, secs(2)).expect("valid") {
                            round += 1;
                            let handle = message.receipt_handle();
                            if !round.is_multiple_of(3) {
                                let _ = queue.change_visibility(&handle, Duration::ZERO);
                            } else if queue.delete(&handle) == Ok(Deletion::Deleted) {
                                mine.push(number_of(message.body()));
                            }
                        }
                    }
                    mine
                })
            })
            .collect();
        let mut steps = 0;
        while queue.counts().deleted < 252 * 400 && steps < 20_000 {
            steps += 1;
            time.advance(common::ms(50));
            queue.advance(broker.now());
        }
        over.store(true, Ordering::Relaxed);
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("no panic"))
            .collect()
    });
    all.sort_unstable();
    let mut expected: Vec<_> = ids.keys().copied().collect();
    expected.sort_unstable();
    assert_eq!(all, expected, "each deleted once");
    assert_eq!(queue.census(), (0, 0, 0));
}

/// However many leases and delays are over: whoever receives one message does not pay for all.
#[test]
fn a_receive_makes_a_bounded_number_visible() {
    const MESSAGES: u64 = 3_000;
    let (time, broker) = manual(1);
    let leased = queue(&broker, "leased");
    let delayed = queue(&broker, "delayed");
    let grouped = fifo(&broker, "grouped.fifo");
    for number in 0..MESSAGES {
        let body = numbered(number, 16);
        let message = Outgoing::new(&body);
        leased.send_message(&message).expect("room");
        delayed.send_message(&message.delay(secs(20))).expect("room");
        let group = number.to_string();
        let message = message.message_group(&group).deduplication_id(&group);
        grouped.send_message(&message).expect("room");
    }
    for queue in [&leased, &grouped] {
        let mut received = 0;
        while received < MESSAGES {
            received += queue.receive(10, secs(20)).expect("valid").len() as u64;
        }
    }
    time.advance(secs(21));
    for (queue, most) in [(&leased, 252), (&delayed, 252), (&grouped, 1_252)] {
        one(queue, LONG);
        let counts = queue.counts();
        let visible = counts.visible + 1;
        assert!((1..=most).contains(&visible), "{}: {counts:?}", queue.name());
    }
    // All of them come.
    for queue in [&leased, &delayed, &grouped] {
        assert_eq!(drain(queue).len() as u64, MESSAGES - 1);
    }
}
