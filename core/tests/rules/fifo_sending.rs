//! FIFO queues: what they are, and what is accepted. Rule by rule, on a clock that stands still.

use crate::common;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::common::{fifo, fifo_with, manual, ms, queue, secs, send_to_groups, states, texts};
use epoq::{
    Attribute, BatchError, Broker, ConfigError, CreateQueueError, DeduplicationScope, FifoConfig, Outgoing,
    Queue, QueueConfig, SendError,
};

/// Letters, digits and all punctuation of ASCII.
const ALPHABET: &str =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// Texts that are no ids: of a wrong length, or with a character that is not of the alphabet.
fn no_ids() -> Vec<String> {
    let mut texts = vec![String::new(), "x".repeat(129)];
    texts.extend([" ", "a b", "a\t", "\n", "\u{7f}", "\0", "é", "a\u{2019}"].map(str::to_owned));
    texts
}

/// A FIFO queue that takes no ids from the content.
fn strict(broker: &Broker) -> Queue {
    let config = QueueConfig {
        fifo: Some(FifoConfig::default()),
        ..QueueConfig::default()
    };
    broker.create_queue("strict.fifo", config).expect("a valid queue")
}

const fn fifo_config() -> FifoConfig {
    FifoConfig {
        content_based_deduplication: true,
        deduplication_scope: DeduplicationScope::Queue,
        deduplication_memory: 1 << 20,
    }
}

fn valid<'a>(body: &'a str) -> Outgoing<'a> {
    Outgoing::new(body.as_bytes()).message_group("g")
}

// What a FIFO queue is.

#[test]
fn the_name_and_the_type_go_together() {
    let (_, broker) = manual(1);
    let config = |fifo| QueueConfig {
        fifo,
        ..QueueConfig::default()
    };
    let invalid = Some(CreateQueueError::InvalidName);
    assert_eq!(broker.create_queue("q.fifo", config(None)).err(), invalid);
    assert_eq!(
        broker.create_queue("q", config(Some(fifo_config()))).err(),
        invalid
    );
    for name in [".fifo", "q.fifo.fifo", "q.FIFO", "q.x.fifo", "q fifo"] {
        assert_eq!(
            broker.create_queue(name, config(Some(fifo_config()))).err(),
            invalid,
            "{name}"
        );
    }
    let queue = broker
        .create_queue("q.fifo", config(Some(fifo_config())))
        .expect("valid");
    assert!(queue.is_fifo() && queue.fifo_metrics().is_some());
    let standard = broker.create_queue("q", config(None)).expect("valid");
    assert!(!standard.is_fifo() && standard.fifo_metrics().is_none());
}

#[test]
fn the_ending_counts_in_the_eighty_characters_of_a_name() {
    let (_, broker) = manual(1);
    let config = QueueConfig {
        fifo: Some(fifo_config()),
        ..QueueConfig::default()
    };
    let longest = format!("{}.fifo", "x".repeat(75));
    assert!(broker.create_queue(&longest, config.clone()).is_ok());
    let longer = format!("{}.fifo", "x".repeat(76));
    assert_eq!(
        broker.create_queue(&longer, config).err(),
        Some(CreateQueueError::InvalidName)
    );
}

#[test]
fn the_type_is_fixed_for_life() {
    let (_, broker) = manual(1);
    let (ordered, standard) = (fifo(&broker, "q.fifo"), queue(&broker, "q"));
    assert_eq!(
        broker.configure(&ordered, QueueConfig::default()),
        Err(ConfigError::TypeFixed)
    );
    let config = QueueConfig {
        fifo: Some(fifo_config()),
        ..QueueConfig::default()
    };
    assert_eq!(broker.configure(&standard, config), Err(ConfigError::TypeFixed));
    assert!(ordered.config().fifo.is_some() && standard.config().fifo.is_none());
}

#[test]
fn what_is_in_the_type_can_be_changed() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    let config = QueueConfig {
        fifo: Some(FifoConfig {
            content_based_deduplication: false,
            deduplication_scope: DeduplicationScope::MessageGroup,
            deduplication_memory: 1 << 20,
        }),
        ..QueueConfig::default()
    };
    broker.configure(&queue, config.clone()).expect("valid");
    assert_eq!(queue.config(), config);
    assert_eq!(
        queue.send_message(&valid("m")).map(|_| ()),
        Err(SendError::MissingDeduplicationId)
    );
}

// What a message has to have.

#[test]
fn a_message_has_a_group() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    let missing = Err(SendError::MissingMessageGroup);
    assert_eq!(queue.send(b"m").map(|_| ()), missing);
    assert_eq!(queue.send_message(&Outgoing::new(b"m")).map(|_| ()), missing);
    let with_id = Outgoing::new(b"m").deduplication_id("1");
    assert_eq!(queue.send_message(&with_id).map(|_| ()), missing);
    assert_eq!(states(&queue), (0, 0, 0));
}

#[test]
fn a_message_has_a_deduplication_id_unless_the_queue_takes_the_content() {
    let (_, broker) = manual(1);
    let (strict, lenient) = (strict(&broker), fifo(&broker, "lenient.fifo"));
    assert_eq!(
        strict.send_message(&valid("m")).map(|_| ()),
        Err(SendError::MissingDeduplicationId)
    );
    assert!(strict.send_message(&valid("m").deduplication_id("1")).is_ok());
    assert!(lenient.send_message(&valid("m")).is_ok());
    assert!(lenient.send_message(&valid("n").deduplication_id("1")).is_ok());
    assert_eq!((states(&strict), states(&lenient)), ((1, 0, 0), (2, 0, 0)));
}

#[test]
fn ids_have_1_to_128_letters_digits_and_punctuation_characters() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    let longest = "x".repeat(128);
    for (number, text) in [ALPHABET, "a", &longest].into_iter().enumerate() {
        let body = number.to_string();
        let message = Outgoing::new(body.as_bytes())
            .message_group(text)
            .deduplication_id(text);
        queue.send_message(&message).expect("valid");
        let received = queue.receive(1, secs(30)).expect("valid");
        assert_eq!(received[0].message_group(), Some(text));
        assert_eq!(received[0].deduplication_id(), Some(text));
    }
    for text in no_ids() {
        let group = Outgoing::new(b"m").message_group(&text);
        assert_eq!(
            queue.send_message(&group).map(|_| ()),
            Err(SendError::MessageGroup),
            "{text:?}"
        );
        let id = valid("m").deduplication_id(&text);
        assert_eq!(
            queue.send_message(&id).map(|_| ()),
            Err(SendError::DeduplicationId),
            "{text:?}"
        );
    }
    assert_eq!(queue.counts().sent, 3);
}

#[test]
fn standard_queues_have_no_deduplication_ids() {
    let (_, broker) = manual(1);
    let queue = queue(&broker, "q");
    let message = Outgoing::new(b"m").deduplication_id("1");
    assert_eq!(
        queue.send_message(&message).map(|_| ()),
        Err(SendError::DeduplicationNotAllowed)
    );
    let sent = queue.send(b"m").expect("room");
    assert_eq!(sent.sequence_number(), None);
    let received = queue.receive(1, secs(30)).expect("valid");
    assert_eq!(
        (received[0].sequence_number(), received[0].deduplication_id()),
        (None, None)
    );
}

// The delay.

#[test]
fn a_message_has_no_delay_of_its_own() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    for delay in [ms(1), secs(2), secs(900), secs(901), Duration::MAX] {
        assert_eq!(
            queue.send_message(&valid("m").delay(delay)).map(|_| ()),
            Err(SendError::DelayNotAllowed)
        );
    }
    assert_eq!(queue.counts().sent, 0);
}

#[test]
fn a_delay_of_zero_is_accepted_and_ignored() {
    let (time, broker) = manual(1);
    let config = QueueConfig {
        delay: secs(10),
        ..QueueConfig::default()
    };
    let queue = fifo_with(&broker, "q.fifo", config);
    queue
        .send_message(&valid("m").delay(Duration::ZERO))
        .expect("accepted");
    assert_eq!(queue.receive(1, secs(30)), Ok(vec![]));
    time.advance(secs(10) + ms(1));
    assert_eq!(texts(&queue.receive(1, secs(30)).expect("valid")), ["m"]);
}

// The content.

#[test]
fn a_body_has_a_byte_and_no_more_than_the_queue_allows() {
    let (_, broker) = manual(1);
    let config = QueueConfig {
        max_message_bytes: 1024,
        ..QueueConfig::default()
    };
    let queue = fifo_with(&broker, "q.fifo", config);
    let send = |message: &Outgoing<'_>| queue.send_message(message).map(|_| ());
    assert_eq!(send(&valid("")), Err(SendError::Empty));
    let body = "x".repeat(1025);
    let too_long = Err(SendError::TooLong {
        length: 1025,
        limit: 1024,
    });
    assert_eq!(send(&valid(&body)), too_long);
    assert_eq!(send(&valid(&body[1..])), Ok(()));
    // Attributes count, ids do not.
    let attributes = [Attribute::string("a", "x")];
    let with_attribute = valid(&body[8..]).attributes(&attributes);
    assert_eq!(send(&with_attribute), too_long);
    assert_eq!(send(&valid(&body[9..]).attributes(&attributes)), Ok(()));
    let long_id = "i".repeat(128);
    assert_eq!(send(&valid(&body[1..]).deduplication_id(&long_id)), Ok(()));
}

#[test]
fn a_large_body_comes_as_it_was_sent() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    let body = common::numbered(7, 1 << 20);
    let attributes = [Attribute::number("weight", "1.5")];
    queue
        .send_message(&Outgoing::new(&body).message_group("g").trace_header("Root=1"))
        .expect("accepted");
    queue
        .send_message(&valid("small").attributes(&attributes))
        .expect("accepted");
    let received = queue.receive(10, secs(30)).expect("valid");
    assert_eq!(common::number_of(received[0].body()), 7);
    assert_eq!(received[0].trace_header(), Some("Root=1"));
    assert_eq!(received[1].attributes().next(), Some(attributes[0]));
    received
        .iter()
        .for_each(|message| common::delete(&queue, message));
    assert_eq!(states(&queue), (0, 0, 0));
}

// Batches.

#[test]
fn a_batch_is_enqueued_in_its_order() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    let bodies: Vec<String> = (0..10).map(|n| format!("m{n}")).collect();
    let messages: Vec<_> = bodies.iter().map(|body| valid(body)).collect();
    let results = queue.send_messages(&messages).expect("valid");
    let sent: Vec<_> = results
        .iter()
        .map(|result| result.as_ref().expect("accepted").message_id())
        .collect();
    let numbers: Vec<_> = results
        .iter()
        .map(|result| result.as_ref().expect("accepted").sequence_number())
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b) && numbers[0].is_some());
    let received = queue.receive(10, secs(30)).expect("valid");
    assert_eq!(texts(&received), bodies);
    let ids: Vec<_> = received.iter().map(epoq::Message::message_id).collect();
    assert_eq!(ids, sent);
    assert_eq!(
        received
            .iter()
            .map(epoq::Message::sequence_number)
            .collect::<Vec<_>>(),
        numbers
    );
}

#[test]
fn one_bad_entry_refuses_the_whole_batch() {
    let (_, broker) = manual(1);
    let queue = strict(&broker);
    let good = |id| valid("m").deduplication_id(id);
    let attributes = [Attribute::string("AWS.x", "x")];
    let long = vec![b'x'; 1025];
    let config = QueueConfig {
        max_message_bytes: 1024,
        fifo: Some(FifoConfig::default()),
        ..QueueConfig::default()
    };
    broker.configure(&queue, config).expect("valid");
    let group = Outgoing::new(b"m").deduplication_id("x");
    let bad = [
        (group, SendError::MissingMessageGroup),
        (group.message_group("a b"), SendError::MessageGroup),
        (valid("m"), SendError::MissingDeduplicationId),
        (good("a b"), SendError::DeduplicationId),
        (good("x").delay(secs(2)), SendError::DelayNotAllowed),
        (valid("").deduplication_id("x"), SendError::Empty),
        (
            Outgoing::new(&long).message_group("g").deduplication_id("x"),
            SendError::TooLong {
                length: 1025,
                limit: 1024,
            },
        ),
    ];
    for (entry, error) in bad {
        for at in 0..3 {
            let mut messages = [good("1"), good("2"), good("3")];
            messages[at] = entry;
            assert_eq!(
                queue.send_messages(&messages).map(|_| ()),
                Err(BatchError::Entry { at, error })
            );
        }
    }
    let entry = good("x").attributes(&attributes);
    let refused = queue.send_messages(&[good("1"), entry]).map(|_| ());
    assert!(
        matches!(
            refused,
            Err(BatchError::Entry {
                at: 1,
                error: SendError::Attribute(_)
            })
        ),
        "{refused:?}"
    );
    assert_eq!((queue.counts().sent, states(&queue)), (0, (0, 0, 0)));
    // Nothing of what was refused is remembered.
    let metrics = queue.fifo_metrics().expect("a FIFO queue");
    assert_eq!((metrics.groups, metrics.deduplication_ids), (0, 0));
    let results = queue
        .send_messages(&[good("1"), good("2"), good("3")])
        .expect("valid");
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(states(&queue), (3, 0, 0));
}

#[test]
fn bodies_without_groups_are_refused_as_a_batch() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    let refused = Err(BatchError::Entry {
        at: 0,
        error: SendError::MissingMessageGroup,
    });
    assert_eq!(queue.send_batch(&[b"a", b"b"]).map(|_| ()), refused);
    let plain = [Outgoing::new(b"a"), Outgoing::new(b"b")];
    assert_eq!(queue.send_messages(&plain).map(|_| ()), refused);
}

#[test]
fn a_batch_has_1_to_10_entries_and_a_mebibyte() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    assert_eq!(queue.send_messages(&[]).map(|_| ()), Err(BatchError::Empty));
    assert_eq!(
        queue.send_messages(&[valid("m"); 11]).map(|_| ()),
        Err(BatchError::TooMany {
            entries: 11,
            limit: 10
        })
    );
    let half = "x".repeat(1 << 19);
    let more = "y".repeat((1 << 19) + 1);
    assert_eq!(
        queue.send_messages(&[valid(&half), valid(&more)]).map(|_| ()),
        Err(BatchError::TooLong {
            length: (1 << 20) + 1,
            limit: 1 << 20
        })
    );
    assert_eq!(queue.counts().sent, 0);
    let results = queue
        .send_messages(&[valid(&half), valid(&more[1..])])
        .expect("valid");
    assert!(results.iter().all(Result::is_ok));
}

#[test]
fn once_there_is_no_room_for_one_entry_none_overtakes_it() {
    let (_, broker) = manual(1);
    let config = QueueConfig {
        memory_limit: Some(256 << 10),
        ..QueueConfig::default()
    };
    let queue = fifo_with(&broker, "q.fifo", config);
    let large = "x".repeat(200_000);
    send_to_groups(&queue, &["g-first"]);
    queue.send_message(&valid(&large)).expect("room");
    let other = "y".repeat(200_000);
    let results = queue
        .send_messages(&[valid("before"), valid(&other), valid("behind")])
        .expect("valid");
    let refused = |at: usize| matches!(results[at], Err(SendError::OverBudget { .. }));
    assert!(
        results[0].is_ok() && refused(1) && refused(2),
        "{:?}",
        results[1].as_ref().err()
    );
    let received = queue.receive(10, secs(30)).expect("valid");
    assert_eq!(texts(&received), ["g-first", large.as_str(), "before"]);
}

#[test]
fn a_refused_send_leaves_no_group_and_no_memory_behind() {
    let (_, broker) = manual(1);
    let config = QueueConfig {
        fifo: Some(FifoConfig {
            deduplication_memory: 96,
            ..fifo_config()
        }),
        ..QueueConfig::default()
    };
    let queue = fifo_with(&broker, "q.fifo", config);
    send_to_groups(&queue, &["g-one"]);
    let before = queue.memory().used;
    for number in 0..1_000 {
        let group = format!("group-{number}");
        assert_eq!(
            queue
                .send_message(&Outgoing::new(b"m").message_group(&group))
                .map(|_| ()),
            Err(SendError::DeduplicationFull { limit: 96 })
        );
    }
    assert_eq!(queue.fifo_metrics().expect("a FIFO queue").groups, 1);
    assert_eq!((queue.memory().used, states(&queue)), (before, (1, 0, 0)));
}

#[test]
fn a_send_over_budget_leaves_no_group_and_no_memory_behind() {
    let (_, broker) = manual(1);
    let config = QueueConfig {
        memory_limit: Some(128 << 10),
        ..QueueConfig::default()
    };
    let queue = fifo_with(&broker, "q.fifo", config);
    send_to_groups(&queue, &["g-one"]);
    let before = queue.memory().used;
    let large = "x".repeat(200_000);
    for number in 0..1_000 {
        let group = format!("group-{number}");
        let message = Outgoing::new(large.as_bytes()).message_group(&group);
        assert!(matches!(
            queue.send_message(&message).map(|_| ()),
            Err(SendError::OverBudget { .. })
        ));
    }
    queue.advance(broker.now());
    assert_eq!(queue.fifo_metrics().expect("a FIFO queue").groups, 1);
    assert_eq!(states(&queue), (1, 0, 0));
    // Less, if places for ids that were counted ahead have been given up.
    let after = queue.memory().used;
    assert!(after <= before, "{after} bytes after, {before} before");
    send_to_groups(&queue, &["g-two", "group-1"]);
    assert_eq!(states(&queue), (3, 0, 0));
}

/// Refused sends give up groups that others are about to use: no message of these is lost, and in the end no group is left.
#[test]
fn refused_sends_do_no_harm_to_groups_in_use() {
    const MESSAGES: usize = 2_000;
    let broker = Broker::builder().partitions(2).build().expect("a broker");
    let config = QueueConfig {
        memory_limit: Some(1 << 20),
        ..QueueConfig::default()
    };
    let queue = fifo_with(&broker, "q.fifo", config);
    let large = vec![b'x'; 1 << 20];
    let done = AtomicBool::new(false);
    let mut seen: Vec<String> = thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for number in 0.. {
                    let group = format!("g{}", number % 3);
                    let message = Outgoing::new(&large).message_group(&group);
                    assert!(queue.send_message(&message).is_err());
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        let receiver = scope.spawn(|| {
            let mut seen = Vec::new();
            while seen.len() < MESSAGES {
                let some = queue.receive_wait(10, secs(600), secs(1)).expect("valid");
                some.iter().for_each(|message| common::delete(&queue, message));
                seen.extend(texts(&some).into_iter().map(str::to_owned));
            }
            done.store(true, Ordering::Relaxed);
            seen
        });
        for number in 0..MESSAGES {
            let body = format!("g{}-{number:05}", number % 3);
            let (group, _) = body.split_once('-').expect("a group");
            let message = Outgoing::new(body.as_bytes()).message_group(group);
            while queue.send_message(&message).is_err() {
                thread::yield_now();
            }
        }
        receiver.join().expect("no panic")
    });
    for group in 0..3 {
        let start = format!("g{group}-");
        assert!(seen.iter().filter(|text| text.starts_with(&start)).is_sorted());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), MESSAGES);
    assert_eq!(states(&queue), (0, 0, 0));
    common::wait_until(
        secs(30),
        || format!("{:?}", queue.fifo_metrics()),
        || {
            queue.advance(broker.now());
            queue.fifo_metrics().expect("a FIFO queue").groups == 0
        },
    );
}

#[test]
fn a_deleted_queue_accepts_nothing() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    send_to_groups(&queue, &["g-1"]);
    broker.delete_queue("q.fifo").expect("there is one");
    assert_eq!(
        queue.send_message(&valid("m")).map(|_| ()),
        Err(SendError::QueueDeleted)
    );
    assert_eq!(
        queue.send_messages(&[valid("m")]).map(|_| ()),
        Err(BatchError::QueueDeleted)
    );
}
