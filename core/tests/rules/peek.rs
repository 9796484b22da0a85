//! Looking without receiving.

use crate::common;
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::common::{drain, manual, ms, number_of, numbered, one, queue, secs};
use epoq::{Attribute, Broker, MessageState, Millis, Outgoing, PeekFilter, Queue, QueueConfig, Redrive};

fn filter(state: Option<MessageState>, max: usize) -> PeekFilter {
    PeekFilter {
        state,
        max,
        ..PeekFilter::default()
    }
}

fn numbers(queue: &Queue, state: Option<MessageState>, max: usize) -> Vec<u64> {
    let seen = queue.peek(&filter(state, max));
    seen.iter().map(|seen| number_of(seen.body())).collect()
}

#[test]
fn peeking_changes_nothing() {
    let (_time, broker) = manual(1);
    let queue = queue(&broker, "q");
    queue.send(b"hello").expect("room");
    let (counts, memory) = (queue.counts(), queue.memory());
    for _ in 0..3 {
        assert_eq!(queue.peek(&PeekFilter::default()).len(), 1);
    }
    assert_eq!(
        (queue.counts(), queue.memory(), queue.census()),
        (counts, memory, (1, 0, 0))
    );
    let message = one(&queue, secs(30));
    assert_eq!(message.receive_count(), 1);
    assert_eq!(
        queue.peek(&PeekFilter::default())[0].message_id(),
        message.message_id()
    );
}

#[test]
fn a_peek_shows_all_there_is_to_know() {
    let (time, broker) = manual(1);
    let queue = queue(&broker, "q");
    time.advance(ms(5));
    let attributes = [
        Attribute::string("kind", "fruit"),
        Attribute::binary("raw", b"\0"),
    ];
    let apples = Outgoing::new(b"apples")
        .attributes(&attributes)
        .message_group("tenant-7")
        .trace_header("Root=1");
    let sent = queue.send_message(&apples).expect("room").message_id();
    time.advance(ms(5));
    queue
        .send_message(&Outgoing::new(b"later").delay(secs(60)))
        .expect("room");
    time.advance(ms(5));
    queue.send(b"plain").expect("room");
    let received = one(&queue, secs(30));
    time.advance(ms(1));

    let seen = queue.peek(&PeekFilter::default());
    assert_eq!(seen.len(), 3);
    assert_eq!(
        (seen[0].message_id(), seen[0].state()),
        (sent, MessageState::InFlight)
    );
    assert_eq!((seen[0].body(), seen[0].body_length()), (&b"apples"[..], 6));
    assert_eq!((seen[0].sent_at(), seen[0].receive_count()), (Millis::new(5), 1));
    assert_eq!(seen[0].first_received_at(), Some(received.first_received_at()));
    assert_eq!(seen[0].due(), Some(Millis::new(15 + 30_001)));
    assert!(seen[0].attributes().eq(attributes));
    assert_eq!(
        (seen[0].message_group(), seen[0].trace_header()),
        (Some("tenant-7"), Some("Root=1"))
    );
    assert_eq!(
        (seen[1].body(), seen[1].state()),
        (&b"later"[..], MessageState::Delayed)
    );
    assert_eq!(
        (seen[1].due(), seen[1].first_received_at()),
        (Some(Millis::new(10 + 60_001)), None)
    );
    assert_eq!(
        (seen[2].body(), seen[2].state()),
        (&b"plain"[..], MessageState::Visible)
    );
    assert_eq!((seen[2].due(), seen[2].receive_count()), (None, 0));
    assert_eq!(
        (seen[2].attributes().count(), seen[2].dead_letter_source()),
        (0, None)
    );
}

#[test]
fn bodies_are_copied_as_far_as_asked_for() {
    let (_time, broker) = manual(1);
    let queue = queue(&broker, "q");
    let large = numbered(1, 5000);
    queue.send(&large).expect("room");
    for body_bytes in [0, 1, 1024, 5000, usize::MAX] {
        let seen = queue.peek(&PeekFilter {
            body_bytes,
            ..PeekFilter::default()
        });
        assert_eq!(seen[0].body(), &large[..body_bytes.min(5000)]);
        assert_eq!(seen[0].body_length(), 5000);
    }
}

#[test]
fn the_oldest_come_first_over_all_partitions() {
    let (time, broker) = manual(4);
    let queue = queue(&broker, "q");
    for number in 0..2000u64 {
        if number % 500 == 0 {
            time.advance(ms(1));
        }
        let (there, time) = (queue.clone(), time.clone());
        let send = move || {
            time.advance(ms(1));
            there.send(&numbered(number, 16)).expect("room");
        };
        // Mostly from here, now and then from another partition.
        if number % 100 == 3 {
            common::on_thread(send)
        } else {
            send()
        }
    }
    assert!(queue.snapshot().partitions.len() > 1);
    assert_eq!(numbers(&queue, None, 600), (0..600).collect::<Vec<_>>());
    assert_eq!(numbers(&queue, None, 1), [0]);
    assert_eq!(numbers(&queue, None, 0), []);
    assert_eq!(numbers(&queue, None, usize::MAX).len(), 1000);
    // The rest, once those before are gone.
    for message in (0..60).flat_map(|_| queue.receive(10, common::LONG).expect("a receive")) {
        if number_of(message.body()) < 300 {
            queue.delete(&message.receipt_handle()).expect("deleted");
        }
    }
    let rest = numbers(&queue, None, 1000);
    assert!(rest.is_sorted() && rest[0] >= 50, "{}", rest[0]);
}

#[test]
fn a_peek_shows_the_state_asked_for() {
    let (time, broker) = manual(2);
    let queue = queue(&broker, "q");
    for number in 0..300 {
        time.advance(ms(1));
        let body = numbered(number, 16);
        let delay = secs(if number % 3 == 0 { 60 } else { 0 });
        queue
            .send_message(&Outgoing::new(&body).delay(delay))
            .expect("room");
    }
    let leased: BTreeSet<_> = (0..5)
        .flat_map(|_| queue.receive(10, secs(30)).expect("a receive"))
        .map(|message| number_of(message.body()))
        .collect();
    let of = |state| numbers(&queue, Some(state), 1000);
    assert_eq!(of(MessageState::Delayed), (0..300).step_by(3).collect::<Vec<_>>());
    assert_eq!(
        of(MessageState::InFlight),
        leased.iter().copied().collect::<Vec<_>>()
    );
    let visible: Vec<_> = (0..300)
        .filter(|number| number % 3 > 0 && !leased.contains(number))
        .collect();
    assert_eq!(of(MessageState::Visible), visible);
    assert_eq!(numbers(&queue, None, 1000).len(), 300);
}

#[test]
fn deleted_messages_are_not_shown() {
    let (_time, broker) = manual(1);
    let queue = queue(&broker, "q");
    let nothing = || queue.peek(&PeekFilter::default()).is_empty();
    assert!(nothing());
    for round in 0..3 {
        for number in 0..600 {
            queue.send(&numbered(number + round, 64)).expect("room");
        }
        assert_eq!(numbers(&queue, None, 1000).len(), 600);
        common::empty(&queue);
        assert!(nothing());
        queue.send(b"purged").expect("room");
        queue.purge().expect("a queue");
        assert!(nothing());
    }
    broker.delete_queue("q").expect("it is there");
    assert!(nothing());
    assert_eq!(queue.oldest_sent(), None);
}

fn with_dead_letters() -> (epoq::ManualClock, Broker, Queue, Queue) {
    let (time, broker) = manual(1);
    let letters = queue(&broker, "letters");
    let config = QueueConfig {
        redrive: Some(Redrive::new("letters", 5)),
        ..QueueConfig::default()
    };
    let orders = broker.create_queue("orders", config).expect("a queue");
    (time, broker, orders, letters)
}

#[test]
fn dead_letters_show_where_they_came_from_and_what_they_were() {
    let (time, _broker, orders, letters) = with_dead_letters();
    let id = orders.send(b"poison").expect("room").message_id();
    time.advance(secs(1));
    for _ in 0..5 {
        one(&orders, Duration::ZERO);
    }
    assert!(orders.receive(1, None).expect("a receive").is_empty());
    let seen = letters.peek(&PeekFilter::default()).remove(0);
    assert_eq!(
        (seen.message_id(), seen.dead_letter_source()),
        (id, Some("orders"))
    );
    assert_eq!((seen.receive_count(), seen.sent_at()), (5, Millis::new(0)));
    assert_eq!(seen.first_received_at(), Some(Millis::new(1000)));
}

#[test]
fn the_oldest_message_is_the_oldest_that_is_there() {
    let (time, broker) = manual(2);
    let queue = queue(&broker, "q");
    assert_eq!(queue.oldest_sent(), None);
    for at in 0..600 {
        queue.send(&numbered(at, 16)).expect("room");
        time.advance(ms(1));
    }
    assert_eq!(queue.oldest_sent(), Some(Millis::new(0)));
    let all = drain(&queue);
    // Leased ones count too.
    assert_eq!(queue.oldest_sent(), Some(Millis::new(0)));
    for message in &all {
        queue.delete(&message.receipt_handle()).expect("deleted");
        let left = queue.oldest_sent().map(Millis::as_millis);
        let next = number_of(message.body()) + 1;
        assert_eq!(left, (next < 600).then_some(next));
    }
}

#[test]
fn messages_received_three_times_do_not_make_a_queue_old() {
    let (time, broker) = manual(1);
    let queue = queue(&broker, "q");
    queue.send(b"poison").expect("room");
    time.advance(secs(5));
    for _ in 0..2 {
        one(&queue, Duration::ZERO);
    }
    assert_eq!(queue.oldest_sent(), Some(Millis::new(0)));
    one(&queue, Duration::ZERO);
    assert_eq!(queue.oldest_sent(), None);
    queue.send(b"new").expect("room");
    assert_eq!(queue.oldest_sent(), Some(Millis::new(5000)));
}

#[test]
fn the_age_of_a_dead_letter_counts_from_the_move() {
    let (time, _broker, orders, letters) = with_dead_letters();
    orders.send(b"poison").expect("room");
    time.advance(secs(5));
    for _ in 0..5 {
        one(&orders, Duration::ZERO);
    }
    assert!(orders.receive(1, None).expect("a receive").is_empty());
    time.advance(secs(1));
    letters.send(b"younger").expect("room");
    assert_eq!(letters.oldest_sent(), Some(Millis::new(5000)));
}

/// Peeks read what others write, move, delete and reuse: what they show is always a whole message.
#[test]
fn peeks_see_whole_messages_while_everybody_works() {
    let broker = Broker::builder().partitions(2).build().expect("a broker");
    let queue = queue(&broker, "q");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..2u64 {
            let (queue, done) = (&queue, &done);
            scope.spawn(move || {
                let mut number = thread << 32;
                while !done.load(Ordering::Relaxed) {
                    number += 1;
                    // Now and then in an allocation of its own, and with attributes.
                    let body = numbered(number, if number % 5 == 0 { 2000 } else { 40 });
                    let name = number.to_string();
                    let attributes = [Attribute::string("n", &name)];
                    let message = Outgoing::new(&body).attributes(&attributes[..(number % 2) as usize]);
                    queue.send_message(&message).expect("room");
                    for message in queue.receive(2, secs(30)).expect("a receive") {
                        if number % 7 == 0 {
                            // Refused if it has been purged.
                            let _ = queue.change_visibility(&message.receipt_handle(), Duration::ZERO);
                        } else {
                            queue.delete(&message.receipt_handle()).expect("a message");
                        }
                    }
                    if number % 5000 == 0 {
                        queue.purge().expect("a queue");
                    }
                }
            });
        }
        let began = std::time::Instant::now();
        let mut shown = 0;
        while began.elapsed() < ms(700) || shown < 100 {
            let all = PeekFilter {
                max: 50,
                body_bytes: usize::MAX,
                ..PeekFilter::default()
            };
            for seen in queue.peek(&all) {
                let number = number_of(seen.body());
                let attribute = seen.attributes().next().map(|attribute| attribute.value);
                let name = number.to_string();
                let expected = (number % 2 == 1).then_some(epoq::AttributeValue::Text(&name));
                assert_eq!(attribute, expected);
                assert!(seen.sent_at() <= broker.now());
                shown += 1;
            }
            let _ = (queue.oldest_sent(), queue.snapshot());
            assert!(began.elapsed() < secs(60), "nothing to see");
        }
        done.store(true, Ordering::Relaxed);
    });
}
