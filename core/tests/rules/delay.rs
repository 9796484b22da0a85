//! Delays, rule by rule, on a clock that stands still.

use std::time::Duration;

use crate::common::{
    LONG, days, delete, drain, manual, ms, number_of, numbered, one, queue, queue_with, release, secs, states,
};
use epoq::{Broker, ManualClock, Millis, Outgoing, Queue, QueueConfig, SendError, limits::DELAY_MAX};

fn delaying(delay: Duration) -> (ManualClock, Broker, Queue) {
    let (time, broker) = manual(1);
    let config = QueueConfig {
        delay,
        ..QueueConfig::default()
    };
    let queue = queue_with(&broker, "delaying", config);
    (time, broker, queue)
}

fn send(queue: &Queue, body: &[u8], delay: Duration) {
    queue
        .send_message(&Outgoing::new(body).delay(delay))
        .expect("room");
}

#[test]
fn a_delayed_message_is_not_received_before_its_delay_is_over() {
    let (time, _broker, queue) = delaying(Duration::ZERO);
    send(&queue, b"m", secs(10));
    for _ in 0..10 {
        assert_eq!(queue.receive(10, LONG), Ok(vec![]));
        time.advance(secs(1));
    }
    // Rounded up, as leases are: never shorter than asked for, and at most a millisecond longer.
    assert_eq!(queue.receive(10, LONG), Ok(vec![]));
    time.advance(ms(1));
    assert_eq!(one(&queue, LONG).receive_count(), 1, "waiting is no receive");
}

#[test]
fn a_delay_below_a_millisecond_is_rounded_up() {
    let (time, _broker, queue) = delaying(Duration::ZERO);
    send(&queue, b"m", Duration::from_nanos(1));
    assert_eq!(states(&queue), (0, 0, 1), "that is not zero");
    time.advance(ms(2));
    one(&queue, LONG);
}

#[test]
fn a_message_without_a_delay_takes_the_queue_delay() {
    let (time, _broker, queue) = delaying(secs(5));
    let large = vec![b'x'; 5000];
    queue.send(b"alone").expect("room");
    queue.send(&large).expect("room");
    queue.send_message(&Outgoing::new(b"outgoing")).expect("room");
    assert!(
        queue
            .send_batch(&[&b"1"[..], &large])
            .expect("valid")
            .iter()
            .all(Result::is_ok)
    );
    let messages = [Outgoing::new(b"3"), Outgoing::new(b"4").message_group("g")];
    assert!(
        queue
            .send_messages(&messages)
            .expect("valid")
            .iter()
            .all(Result::is_ok)
    );
    assert_eq!(states(&queue), (0, 0, 7));
    time.advance(secs(5));
    assert_eq!(queue.receive(10, LONG), Ok(vec![]));
    time.advance(ms(1));
    assert_eq!(drain(&queue).len(), 7);
}

#[test]
fn a_message_delay_of_zero_overrides_the_queue_delay() {
    let (_time, _broker, queue) = delaying(secs(5));
    send(&queue, b"at once", Duration::ZERO);
    queue.send(b"later").expect("room");
    assert_eq!(states(&queue), (1, 0, 1));
    assert_eq!(one(&queue, LONG).body(), b"at once");
}

#[test]
fn a_message_delay_overrides_the_queue_delay_both_ways() {
    let (time, _broker, queue) = delaying(secs(5));
    send(&queue, b"longer", secs(9));
    send(&queue, b"shorter", secs(2));
    time.advance(secs(2) + ms(1));
    assert_eq!(one(&queue, LONG).body(), b"shorter");
    time.advance(secs(3));
    assert_eq!(queue.receive(10, LONG), Ok(vec![]));
    time.advance(secs(4));
    assert_eq!(one(&queue, LONG).body(), b"longer");
}

#[test]
fn changing_the_queue_delay_does_not_touch_messages_already_queued() {
    let (time, broker, queue) = delaying(secs(5));
    queue.send(b"old").expect("room");
    for delay in [secs(100), Duration::ZERO] {
        let config = QueueConfig {
            delay,
            ..QueueConfig::default()
        };
        broker.configure(&queue, config).expect("valid");
        assert_eq!(queue.receive(10, LONG), Ok(vec![]));
    }
    // The new value is for what comes from now on.
    queue.send(b"new").expect("room");
    assert_eq!(one(&queue, LONG).body(), b"new");
    time.advance(secs(5) + ms(1));
    assert_eq!(one(&queue, LONG).body(), b"old");
}

#[test]
fn a_new_queue_delay_is_in_force_at_once() {
    let (time, broker, queue) = delaying(Duration::ZERO);
    queue.send(b"before").expect("room");
    let config = QueueConfig {
        delay: secs(5),
        ..QueueConfig::default()
    };
    broker.configure(&queue, config).expect("valid");
    queue.send(b"after").expect("room");
    assert!(
        queue
            .send_batch(&[b"after", b"after"])
            .expect("valid")
            .iter()
            .all(Result::is_ok)
    );
    assert_eq!(states(&queue), (1, 0, 3));
    assert_eq!(drain(&queue).len(), 1);
    time.advance(secs(5) + ms(1));
    assert_eq!(drain(&queue).len(), 3);
}

#[test]
fn delayed_messages_count_only_as_delayed() {
    let (time, _broker, queue) = delaying(Duration::ZERO);
    for delay in 1..=3 {
        send(&queue, b"m", secs(delay));
    }
    assert_eq!(states(&queue), (0, 0, 3));
    assert_eq!(queue.counts().sent, 3);
    time.advance(secs(1) + ms(1));
    assert_eq!(states(&queue), (0, 0, 3), "nobody has noticed yet");
    queue.advance(Millis::MAX);
    assert_eq!(states(&queue), (1, 0, 2));
    one(&queue, LONG);
    assert_eq!(states(&queue), (0, 1, 2));
    time.advance(secs(9));
    queue.advance(Millis::MAX);
    assert_eq!(states(&queue), (2, 1, 0));
    assert_eq!(queue.counts().expired, 0, "a delay is no lease");
}

#[test]
fn next_due_tells_when_a_delay_is_over() {
    let (time, _broker, queue) = delaying(Duration::ZERO);
    for delay in [30, 10, 20] {
        send(&queue, b"m", secs(delay));
    }
    for done in 0..3 {
        let due = queue.next_due().expect("a delay runs");
        assert_eq!(due, Millis::new((done + 1) * 10_000 + 1));
        time.advance(due.since(time.now()) - ms(1));
        queue.advance(Millis::MAX);
        assert_eq!(states(&queue), (done, 0, 3 - done), "not a millisecond early");
        time.advance(ms(1));
        queue.advance(due);
        assert_eq!(states(&queue), (done + 1, 0, 2 - done));
    }
    assert_eq!(queue.next_due(), None);
}

#[test]
fn delays_end_in_their_own_order() {
    let (time, _broker, queue) = delaying(Duration::ZERO);
    for number in 0..600u64 {
        send(&queue, &numbered(number, 16), secs(600 - number));
    }
    for number in (0..600u64).rev() {
        time.advance(secs(1));
        if number == 599 {
            time.advance(ms(1));
        }
        let message = one(&queue, LONG);
        assert_eq!(number_of(message.body()), number);
        delete(&queue, &message);
    }
    assert_eq!(states(&queue), (0, 0, 0));
}

#[test]
fn each_entry_of_a_batch_has_its_own_delay() {
    let (time, _broker, queue) = delaying(secs(3));
    let messages = [
        Outgoing::new(b"queue"),
        Outgoing::new(b"zero").delay(Duration::ZERO),
        Outgoing::new(b"seven").delay(secs(7)),
        Outgoing::new(b"too long").delay(DELAY_MAX + ms(1)),
    ];
    let sent = queue.send_messages(&messages).expect("valid");
    let accepted: Vec<_> = sent.iter().map(Result::is_ok).collect();
    assert_eq!(accepted, [true, true, true, false], "a bad entry fails alone");
    assert_eq!(one(&queue, LONG).body(), b"zero");
    time.advance(secs(3) + ms(1));
    assert_eq!(one(&queue, LONG).body(), b"queue");
    time.advance(secs(4));
    assert_eq!(one(&queue, LONG).body(), b"seven");
}

#[test]
fn the_longest_delay_is_fifteen_minutes() {
    let (time, _broker, queue) = delaying(Duration::ZERO);
    let limit = secs(900);
    for given in [limit + Duration::from_nanos(1), days(1), Duration::MAX] {
        assert_eq!(
            queue.send_message(&Outgoing::new(b"m").delay(given)).map(|_| ()),
            Err(SendError::Delay { given, limit })
        );
    }
    send(&queue, b"m", limit);
    time.advance(limit);
    assert_eq!(queue.receive(10, LONG), Ok(vec![]));
    time.advance(ms(1));
    one(&queue, LONG);
}

#[test]
fn long_delays_last_up_to_fourteen_days() {
    let (time, broker) = manual(1);
    let config = QueueConfig {
        long_delays: true,
        retention: days(14),
        ..QueueConfig::default()
    };
    let queue = queue_with(&broker, "long", config);
    let limit = days(14);
    assert_eq!(
        queue
            .send_message(&Outgoing::new(b"m").delay(limit + ms(1)))
            .map(|_| ()),
        Err(SendError::Delay {
            given: limit + ms(1),
            limit
        })
    );
    send(&queue, b"m", days(13));
    time.advance(days(13));
    assert_eq!(queue.receive(10, LONG), Ok(vec![]));
    time.advance(ms(1));
    assert_eq!(one(&queue, LONG).body(), b"m");
}

#[test]
fn a_delayed_message_was_sent_when_it_was_accepted() {
    let (time, _broker, queue) = delaying(secs(60));
    time.advance(ms(17));
    let id = queue.send(b"m").expect("room").message_id();
    time.advance(secs(61));
    let message = one(&queue, LONG);
    assert_eq!(message.message_id(), id);
    assert_eq!(message.sent_at(), Millis::new(17));
    assert_eq!(message.first_received_at(), Millis::new(61_017));
}

#[test]
fn what_comes_back_is_not_delayed_again() {
    let (time, _broker, queue) = delaying(secs(60));
    queue.send(b"m").expect("room");
    time.advance(secs(60) + ms(1));
    release(&queue, &one(&queue, LONG));
    one(&queue, secs(1));
    time.advance(secs(1) + ms(1));
    assert_eq!(one(&queue, Duration::ZERO).receive_count(), 3);
    assert_eq!(one(&queue, LONG).receive_count(), 4);
}

#[test]
fn delays_end_on_partitions_that_nobody_calls_home() {
    let (time, broker) = manual(8);
    let queue = queue(&broker, "wide");
    for home in 0..8 {
        let worker = broker.worker_at(home).expect("a worker");
        worker.turn(|turn| {
            let body = numbered(home as u64, 8);
            turn.send_message(&queue, &Outgoing::new(&body).delay(secs(1)))
                .expect("room");
        });
    }
    let receiver = broker.worker_at(0).expect("a worker");
    assert_eq!(receiver.home(), 0);
    assert_eq!(queue.receive(10, LONG), Ok(vec![]));
    time.advance(secs(2));
    assert_eq!(drain(&queue).len(), 8);
}
