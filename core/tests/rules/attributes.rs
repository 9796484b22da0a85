//! Message attributes, group and trace header: what was sent is what is received.

use std::time::Duration;

use crate::common::{LONG, delete, manual, on_thread, one, queue, queue_with, secs, states};
use epoq::{
    Attribute, AttributeError, AttributeFilter, AttributeValue, BatchError, Broker, ManualClock, Outgoing,
    Queue, QueueConfig, SendError,
    limits::{ATTRIBUTES_MAX, BODY_MAX},
};

fn single() -> (ManualClock, Broker, Queue) {
    let (time, broker) = manual(1);
    let queue = queue(&broker, "q");
    (time, broker, queue)
}

const SOME: [Attribute<'_>; 4] = [
    Attribute::string("city", "Zürich \u{1f600}\t\r\n"),
    Attribute::number("b", "0012.500e-3").with_type("Number.float"),
    Attribute::binary("a.b-c_d", &[0, 255, 1, 0]),
    Attribute::string("Ähre", "x").with_type("String.label.with.dots"),
];

#[test]
fn attributes_come_back_as_they_were_sent_in_their_order() {
    // In the arena, at its edge, and in an allocation of their own.
    for length in [1, 8, 500, 900, 1000, 1023, 1024, 1025, 20_000] {
        let (_time, broker, queue) = single();
        let body = vec![b'x'; length];
        let message = Outgoing::new(&body)
            .attributes(&SOME)
            .message_group("a-group!~")
            .trace_header("Root=1");
        let id = queue.send_message(&message).expect("room").message_id();
        // Each redelivery brings them, copied or borrowed.
        for count in 1..=3 {
            let received = one(&queue, Duration::ZERO);
            assert_eq!((received.message_id(), received.receive_count()), (id, count));
            assert_eq!(received.body(), body);
            assert!(received.attributes().eq(SOME));
            assert_eq!(received.message_group(), Some("a-group!~"));
            assert_eq!(received.trace_header(), Some("Root=1"));
            assert_eq!(received.dead_letter_source(), None);
            assert_eq!(received.clone().into_body()[..], body);
        }
        let worker = broker.worker().expect("a worker");
        worker.turn(|turn| {
            let received = turn.receive_one(&queue, LONG).expect("valid").expect("there");
            assert_eq!(received.body(), body);
            assert!(received.attributes().eq(SOME));
            assert_eq!(received.message_group(), Some("a-group!~"));
            assert_eq!(received.trace_header(), Some("Root=1"));
        });
    }
}

#[test]
fn each_of_the_extras_comes_alone() {
    let (_time, _broker, queue) = single();
    let attribute = [Attribute::number("n", "0")];
    let bare = Outgoing::new(b"m");
    for message in [
        bare,
        bare.attributes(&attribute),
        bare.message_group("g"),
        bare.trace_header("t"),
    ] {
        queue.send_message(&message).expect("room");
        let received = one(&queue, LONG);
        let got = (
            received.attributes().count(),
            received.message_group().is_some(),
            received.trace_header().is_some(),
        );
        let body = received.body();
        assert_eq!(body, b"m");
        assert!(got.0 + usize::from(got.1) + usize::from(got.2) <= 1, "{got:?}");
    }
    assert_eq!(states(&queue), (0, 4, 0));
}

#[test]
fn each_message_of_a_batch_has_its_own_attributes() {
    let (_time, _broker, queue) = single();
    let texts: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    let attributes: Vec<[Attribute<'_>; 1]> =
        texts.iter().map(|text| [Attribute::number("n", text)]).collect();
    let messages: Vec<_> = texts
        .iter()
        .zip(&attributes)
        .map(|(text, attributes)| Outgoing::new(text.as_bytes()).attributes(attributes))
        .collect();
    assert!(
        queue
            .send_messages(&messages)
            .expect("valid")
            .iter()
            .all(Result::is_ok)
    );
    let received = queue.receive(10, LONG).expect("valid");
    assert_eq!(received.len(), 10);
    for message in &received {
        let text = std::str::from_utf8(message.body()).expect("digits");
        assert!(message.attributes().eq([Attribute::number("n", text)]));
    }
}

#[test]
fn a_message_has_at_most_ten_attributes() {
    let (_time, _broker, queue) = single();
    let names: Vec<String> = (0..=ATTRIBUTES_MAX).map(|n| format!("name-{n}")).collect();
    let all: Vec<_> = names.iter().map(|name| Attribute::string(name, "v")).collect();
    assert_eq!(
        queue
            .send_message(&Outgoing::new(b"m").attributes(&all))
            .map(|_| ()),
        Err(SendError::Attribute(AttributeError::TooMany {
            given: 11,
            limit: 10
        }))
    );
    queue
        .send_message(&Outgoing::new(b"m").attributes(&all[..10]))
        .expect("room");
    assert!(one(&queue, LONG).attributes().eq(all[..10].iter().copied()));
}

#[test]
fn attributes_count_towards_the_size_of_a_message_and_the_trace_header_does_not() {
    let (_time, broker) = manual(1);
    let attributes = [
        Attribute::string("name", "value"),
        Attribute::binary("b", &[0; 7]).with_type("Binary.png"),
    ];
    let size =
        "body".len() + "name".len() + "String".len() + "value".len() + "b".len() + "Binary.png".len() + 7;
    for (limit, fits) in [(size, true), (size - 1, false)] {
        let config = QueueConfig {
            max_message_bytes: limit,
            ..QueueConfig::default()
        };
        let queue = queue_with(&broker, &format!("limit-{limit}"), config);
        let message = Outgoing::new(b"body")
            .attributes(&attributes)
            .message_group("does-not-count")
            .trace_header("does not count either");
        let sent = queue.send_message(&message).map(|_| ());
        if fits {
            assert_eq!(sent, Ok(()));
        } else {
            assert_eq!(sent, Err(SendError::TooLong { length: size, limit }));
        }
    }
}

#[test]
fn the_largest_message_may_be_all_attributes_but_one_byte() {
    let (_time, _broker, queue) = single();
    let overhead = "m".len() + "n".len() + "String".len();
    let value = "v".repeat(BODY_MAX - overhead);
    let attribute = [Attribute::string("n", &value)];
    queue
        .send_message(&Outgoing::new(b"m").attributes(&attribute))
        .expect("room");
    assert!(one(&queue, LONG).attributes().eq(attribute));
    assert_eq!(
        queue
            .send_message(&Outgoing::new(b"mm").attributes(&attribute))
            .map(|_| ()),
        Err(SendError::TooLong {
            length: BODY_MAX + 1,
            limit: BODY_MAX
        })
    );
}

#[test]
fn attributes_count_towards_the_size_of_a_batch() {
    let (_time, _broker, queue) = single();
    let value = vec![7; BODY_MAX / 2 - 8];
    let half = [Attribute::binary("n", &value)];
    let messages = [
        Outgoing::new(b"1").attributes(&half),
        Outgoing::new(b"2").attributes(&half),
    ];
    assert!(
        queue
            .send_messages(&messages)
            .expect("just fits")
            .iter()
            .all(Result::is_ok)
    );
    let messages = [messages[0], Outgoing::new(b"22").attributes(&half)];
    assert_eq!(
        queue.send_messages(&messages).map(|_| ()),
        Err(BatchError::TooLong {
            length: BODY_MAX + 1,
            limit: BODY_MAX
        })
    );
    assert_eq!(states(&queue), (2, 0, 0));
}

#[test]
fn numbers_stay_as_they_were_written() {
    let (_time, _broker, queue) = single();
    for text in ["1493147359900", "+007.50", "1e126", "-1E-128", "0.0"] {
        queue
            .send_message(&Outgoing::new(b"m").attributes(&[Attribute::number("n", text)]))
            .expect("valid");
        let received = one(&queue, LONG);
        assert_eq!(
            received.attributes().map(|attribute| attribute.value).next(),
            Some(AttributeValue::Text(text))
        );
    }
}

#[test]
fn filters_choose_by_name_prefix_or_all() {
    let (_time, _broker, queue) = single();
    let attributes = ["Hello", "Help.Me", "hello", "Other"].map(|name| Attribute::string(name, "v"));
    queue
        .send_message(&Outgoing::new(b"m").attributes(&attributes))
        .expect("room");
    let received = one(&queue, LONG);
    for (asked, expected) in [
        (&[][..], &[][..]),
        (&["Hello"], &["Hello"]),
        (&["Hel.*"], &["Hello", "Help.Me"]),
        (&["All"], &["Hello", "Help.Me", "hello", "Other"]),
        (&[".*"], &["Hello", "Help.Me", "hello", "Other"]),
        (&["*"], &["Hello", "Help.Me", "hello", "Other"]),
        (&["AWS.", "..foo", "none", "Other"], &["Other"]),
    ] {
        let filter = AttributeFilter::new(asked);
        let names: Vec<_> = received
            .attributes()
            .map(|attribute| attribute.name)
            .filter(|name| filter.matches(name))
            .collect();
        assert_eq!(names, expected, "{asked:?}");
    }
}

#[test]
fn attributes_wait_out_a_delay_with_their_message() {
    let (time, _broker, queue) = single();
    queue
        .send_message(&Outgoing::new(b"m").attributes(&SOME).delay(secs(5)))
        .expect("room");
    time.advance(secs(6));
    assert!(one(&queue, LONG).attributes().eq(SOME));
}

#[test]
fn deleted_messages_free_their_attributes() {
    // A thread's last garbage goes when the thread ends.
    let budget = on_thread(|| {
        let (_time, broker, queue) = single();
        let value = vec![1; 50_000];
        let large = [Attribute::binary("n", &value)];
        for _ in 0..200 {
            queue
                .send_message(&Outgoing::new(b"m").attributes(&large))
                .expect("room");
            delete(&queue, &one(&queue, LONG));
        }
        assert!(broker.memory().used < 4 << 20, "{:?}", broker.memory());
        broker.budget()
    });
    assert_eq!(budget.read().used, 0);
}
