//! FIFO queues: deduplication, rule by rule, on a clock that stands still.

use std::{sync::Barrier, thread};

use crate::common::{
    LONG, assert_balanced, days, delete, drain, fifo, fifo_with, manual, ms, on_thread, one, secs, states,
    texts,
};
use epoq::{
    Broker, DeduplicationScope, FifoConfig, ManualClock, MessageId, Outgoing, Queue, QueueConfig, SendError,
    SequenceNumber, limits::DEDUPLICATION_INTERVAL,
};

/// What an id is reckoned to take.
const ID_BYTES: u64 = 96;

fn single() -> (ManualClock, Broker, Queue) {
    let (time, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    (time, broker, queue)
}

fn scoped(scope: DeduplicationScope) -> QueueConfig {
    QueueConfig {
        fifo: Some(FifoConfig {
            content_based_deduplication: true,
            deduplication_scope: scope,
            ..FifoConfig::default()
        }),
        ..QueueConfig::default()
    }
}

/// A queue that has memory for so many ids.
fn remembering(broker: &Broker, ids: u64) -> Queue {
    let config = QueueConfig {
        fifo: Some(FifoConfig {
            deduplication_memory: ids * ID_BYTES,
            ..FifoConfig::default()
        }),
        ..QueueConfig::default()
    };
    fifo_with(broker, "q.fifo", config)
}

fn send_to(queue: &Queue, group: &str, id: &str, body: &str) -> (MessageId, Option<SequenceNumber>) {
    let message = Outgoing::new(body.as_bytes())
        .message_group(group)
        .deduplication_id(id);
    let sent = queue.send_message(&message).expect("accepted");
    (sent.message_id(), sent.sequence_number())
}

fn send(queue: &Queue, id: &str, body: &str) -> MessageId {
    send_to(queue, "g", id, body).0
}

fn send_content(queue: &Queue, group: &str, body: &str) -> MessageId {
    queue
        .send_message(&Outgoing::new(body.as_bytes()).message_group(group))
        .expect("accepted")
        .message_id()
}

fn ids(queue: &Queue) -> u64 {
    queue.fifo_metrics().expect("a FIFO queue").deduplication_ids
}

/// Receives and deletes until nothing comes.
fn received(queue: &Queue) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let some = queue.receive(10, LONG).expect("a valid receive");
        if some.is_empty() {
            return all;
        }
        some.iter().for_each(|message| delete(queue, message));
        all.extend(texts(&some).into_iter().map(str::to_owned));
    }
}

// What is the same.

#[test]
fn a_message_of_the_same_id_is_not_accepted_again() {
    let (_, _broker, queue) = single();
    let first = send(&queue, "1", "first");
    assert_eq!(send(&queue, "1", "again"), first);
    assert_ne!(send(&queue, "2", "other"), first);
    assert_eq!((queue.counts().sent, states(&queue)), (2, (2, 0, 0)));
    assert_eq!(received(&queue), ["first", "other"]);
}

#[test]
fn a_repeated_send_is_answered_with_the_originals_id_and_sequence_number() {
    let (time, _broker, queue) = single();
    let first = send_to(&queue, "g", "1", "first");
    send_to(&queue, "g", "2", "second");
    time.advance(secs(10));
    assert_eq!(send_to(&queue, "g", "1", "again"), first);
    let message = one(&queue, LONG);
    assert_eq!((message.message_id(), message.sequence_number()), first);
    assert_eq!(
        (message.body(), message.sent_at().as_millis() + 10_000),
        (&b"first"[..], time.now().as_millis())
    );
}

#[test]
fn the_content_stands_for_the_id_by_its_sha_256() {
    let (_, _broker, queue) = single();
    let known = [
        (
            "abc",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            "a",
            "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
        ),
        (
            "The quick brown fox jumps over the lazy dog",
            "d7a8fbb307d7809469ca9abcb0082e4f8d5651e46d3cdb762d02d0bf37c9e592",
        ),
    ];
    for (body, hash) in known {
        let first = send_content(&queue, "g", body);
        assert_eq!(send_content(&queue, "g", body), first);
        let message = one(&queue, LONG);
        assert_eq!(message.deduplication_id(), Some(hash));
        delete(&queue, &message);
    }
    assert_eq!(queue.counts().sent, 3);
}

#[test]
fn the_content_is_the_body_only() {
    let (_, _broker, queue) = single();
    let attributes = [epoq::Attribute::string("kind", "fruit")];
    let plain = Outgoing::new(b"m").message_group("g");
    let first = queue.send_message(&plain).expect("accepted").message_id();
    let again = plain.attributes(&attributes).trace_header("Root=1");
    assert_eq!(queue.send_message(&again).expect("accepted").message_id(), first);
    assert_eq!(one(&queue, LONG).attributes().count(), 0);
}

#[test]
fn an_explicit_id_wins_over_the_content() {
    let (_, _broker, queue) = single();
    send(&queue, "1", "same");
    send(&queue, "2", "same");
    send_content(&queue, "g", "same");
    assert_eq!(states(&queue), (3, 0, 0));
    let messages = drain(&queue);
    assert_eq!(messages[0].deduplication_id(), Some("1"));
    assert_eq!(messages[1].deduplication_id(), Some("2"));
}

#[test]
fn an_explicit_id_that_is_anothers_hash_is_a_duplicate() {
    let (_, _broker, queue) = single();
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let first = send_content(&queue, "g", "abc");
    assert_eq!(send(&queue, hash, "quite another body"), first);
    let hash_of_a = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
    let second = send(&queue, hash_of_a, "another body");
    assert_eq!(send_content(&queue, "g", "a"), second);
    assert_eq!(received(&queue), ["abc", "another body"]);
}

#[test]
fn ids_are_told_apart_by_case() {
    let (_, _broker, queue) = single();
    assert_ne!(send(&queue, "a", "1"), send(&queue, "A", "2"));
}

#[test]
fn two_entries_of_a_batch_with_one_id_are_one_message() {
    let (_, _broker, queue) = single();
    let entry = |id, body: &'static [u8]| Outgoing::new(body).message_group("g").deduplication_id(id);
    let results = queue
        .send_messages(&[entry("1", b"first"), entry("2", b"second"), entry("1", b"third")])
        .expect("valid");
    let sent: Vec<_> = results
        .iter()
        .map(|result| {
            let sent = result.as_ref().expect("successful");
            (sent.message_id(), sent.sequence_number())
        })
        .collect();
    assert_eq!(sent[0], sent[2]);
    assert_ne!(sent[0], sent[1]);
    assert_eq!(received(&queue), ["first", "second"]);
}

// How long.

#[test]
fn an_id_is_remembered_for_five_minutes() {
    let (time, _broker, queue) = single();
    assert_eq!(DEDUPLICATION_INTERVAL, secs(300));
    let first = send(&queue, "1", "first");
    time.advance(secs(300) - ms(1));
    assert_eq!(send(&queue, "1", "again"), first);
    time.advance(ms(1));
    assert_ne!(send(&queue, "1", "anew"), first);
    assert_eq!(received(&queue), ["first", "anew"]);
}

#[test]
fn repeated_sends_do_not_extend_the_five_minutes() {
    let (time, _broker, queue) = single();
    let first = send(&queue, "1", "first");
    for wait in [2, 100, 190] {
        time.advance(secs(wait));
        assert_eq!(send(&queue, "1", "again"), first);
    }
    time.advance(secs(8));
    let second = send(&queue, "1", "anew");
    assert_ne!(second, first);
    // And they begin anew with that.
    time.advance(secs(299));
    assert_eq!(send(&queue, "1", "again"), second);
    time.advance(secs(1));
    assert_ne!(send(&queue, "1", "once more"), second);
}

#[test]
fn a_send_after_six_minutes_with_a_duplicate_in_between_is_accepted() {
    let (time, _broker, queue) = single();
    let first = send_content(&queue, "g", "m");
    time.advance(secs(2));
    assert_eq!(send_content(&queue, "g", "m"), first);
    time.advance(secs(358));
    assert_ne!(send_content(&queue, "g", "m"), first);
    assert_eq!(states(&queue), (2, 0, 0));
}

/// Whether anybody has kept house meanwhile or not.
#[test]
fn an_id_is_free_again_however_long_nobody_was_here() {
    for idle in [1, 6, 11, 24, 25, 30, 49, 50, 60, 90, 400] {
        let (time, _broker, queue) = single();
        let first = send(&queue, "x", "m");
        time.advance(days(idle));
        let second = send(&queue, "x", "m");
        assert_ne!(first, second, "after {idle} days");
        assert_eq!(send(&queue, "x", "m"), second);
        assert_eq!(ids(&queue), 1, "after {idle} days");
    }
}

/// What is old is looked for once in five days by whoever comes; what is not is remembered, whatever moment that is.
#[test]
fn an_id_is_known_across_the_days_on_which_all_are_looked_through() {
    let (time, _broker, queue) = single();
    // So that the five days are over between the two sends of an id.
    time.advance(secs(3_400));
    for day in 0..40 {
        for hour in 0..24 {
            let id = format!("{day}-{hour}");
            let first = send(&queue, &id, "m");
            time.advance(secs(250));
            assert_eq!(send(&queue, &id, "m"), first, "day {day}, hour {hour}");
            time.advance(secs(3_600 - 250));
        }
    }
}

/// The same where others send all the time, too few to make it leave.
#[test]
fn an_id_is_free_again_where_few_are_sent() {
    let (time, _broker, queue) = single();
    let many: Vec<String> = (0..1_000).map(|n| format!("many-{n}")).collect();
    let first: Vec<_> = many.iter().map(|id| send(&queue, id, "m")).collect();
    for day in 0..30 {
        time.advance(days(1));
        send(&queue, &day.to_string(), "m");
    }
    for (id, first) in many.iter().zip(first) {
        assert_ne!(send(&queue, id, "m"), first);
    }
}

#[test]
fn deduplication_goes_on_after_the_original_was_received_and_deleted() {
    let (time, broker, queue) = single();
    let first = send_to(&queue, "g", "1", "first");
    let message = one(&queue, secs(30));
    assert_eq!(send_to(&queue, "g", "1", "while in flight"), first);
    delete(&queue, &message);
    assert_eq!(send_to(&queue, "g", "1", "when deleted"), first);
    // Long after the group is gone, and the segment with it.
    for _ in 0..4 {
        time.advance(secs(60));
        broker.advance(broker.now());
        assert_eq!(send_to(&queue, "g", "1", "when gone"), first);
    }
    assert_eq!(states(&queue), (0, 0, 0));
    time.advance(secs(60));
    assert_ne!(send_to(&queue, "g", "1", "anew"), first);
    assert_eq!(received(&queue), ["anew"]);
}

#[test]
fn deduplication_goes_on_after_the_original_has_lapsed() {
    let (time, broker) = manual(1);
    let config = QueueConfig {
        retention: secs(60),
        ..QueueConfig::default()
    };
    let queue = fifo_with(&broker, "q.fifo", config);
    let first = send(&queue, "1", "first");
    time.advance(secs(61));
    queue.advance(broker.now());
    assert_eq!((queue.counts().lapsed, states(&queue)), (1, (0, 0, 0)));
    assert_eq!(send(&queue, "1", "again"), first);
    assert_eq!(states(&queue), (0, 0, 0));
}

#[test]
fn a_purge_forgets_all_ids() {
    let (_, _broker, queue) = single();
    let first = send(&queue, "1", "first");
    assert_eq!(queue.purge(), Ok(1));
    assert_eq!(ids(&queue), 0);
    let second = send(&queue, "1", "second");
    assert_ne!(second, first);
    assert_eq!(send(&queue, "1", "again"), second);
    assert_eq!(received(&queue), ["second"]);
}

#[test]
fn a_queue_of_the_same_name_remembers_nothing() {
    let (_, broker, queue) = single();
    send(&queue, "1", "first");
    broker.delete_queue("q.fifo").expect("there is one");
    let queue = fifo(&broker, "q.fifo");
    send(&queue, "1", "second");
    assert_eq!(received(&queue), ["second"]);
}

#[test]
fn each_queue_has_ids_of_its_own() {
    let (_, broker, queue) = single();
    let other = fifo(&broker, "other.fifo");
    assert_ne!(send(&queue, "1", "here"), send(&other, "1", "there"));
    assert_eq!(
        (received(&queue), received(&other)),
        (vec!["here".into()], vec!["there".into()])
    );
}

// Scopes.

#[test]
fn an_id_is_unique_in_the_queue() {
    let (_, broker) = manual(1);
    let queue = fifo_with(&broker, "q.fifo", scoped(DeduplicationScope::Queue));
    let first = send_to(&queue, "a", "1", "first");
    assert_eq!(send_to(&queue, "b", "1", "second"), first);
    let content = send_content(&queue, "a", "m");
    assert_eq!(send_content(&queue, "b", "m"), content);
    assert_eq!(states(&queue), (2, 0, 0));
}

#[test]
fn or_an_id_is_unique_in_its_message_group() {
    let (_, broker) = manual(1);
    let queue = fifo_with(&broker, "q.fifo", scoped(DeduplicationScope::MessageGroup));
    let (a, b) = (send_to(&queue, "a", "1", "a"), send_to(&queue, "b", "1", "b"));
    assert_ne!(a.0, b.0);
    assert_eq!(send_to(&queue, "a", "1", "again"), a);
    assert_eq!(send_to(&queue, "b", "1", "again"), b);
    assert_ne!(send_content(&queue, "a", "m"), send_content(&queue, "b", "m"));
    assert_eq!(states(&queue), (4, 0, 0));
    // Group and id are not run together.
    assert_ne!(
        send_to(&queue, "x", "yz", "1").0,
        send_to(&queue, "xy", "z", "2").0
    );
}

#[test]
fn a_change_of_scope_applies_at_once() {
    let (_, broker) = manual(1);
    let queue = fifo_with(&broker, "q.fifo", scoped(DeduplicationScope::Queue));
    let first = send_to(&queue, "a", "1", "first");
    broker
        .configure(&queue, scoped(DeduplicationScope::MessageGroup))
        .expect("valid");
    let (of_a, of_b) = (send_to(&queue, "a", "2", "a"), send_to(&queue, "b", "2", "b"));
    assert_ne!(of_a.0, of_b.0);
    assert_ne!(send_to(&queue, "b", "1", "of another group").0, first.0);
    broker
        .configure(&queue, scoped(DeduplicationScope::Queue))
        .expect("valid");
    // What was sent under this scope before is remembered still.
    assert_eq!(send_to(&queue, "b", "1", "again"), first);
    let third = send_to(&queue, "a", "3", "third");
    assert_eq!(send_to(&queue, "b", "3", "again"), third);
}

#[test]
fn content_based_deduplication_can_be_switched() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    let first = send_content(&queue, "g", "m");
    let without = QueueConfig {
        fifo: Some(FifoConfig::default()),
        ..QueueConfig::default()
    };
    broker.configure(&queue, without).expect("valid");
    let message = Outgoing::new(b"m").message_group("g");
    assert_eq!(
        queue.send_message(&message).map(|_| ()),
        Err(SendError::MissingDeduplicationId)
    );
    broker
        .configure(&queue, scoped(DeduplicationScope::Queue))
        .expect("valid");
    assert_eq!(send_content(&queue, "g", "m"), first);
}

// Refused sends.

#[test]
fn a_refused_send_leaves_no_id_behind() {
    let (_, broker) = manual(1);
    let config = QueueConfig {
        memory_limit: Some(128 << 10),
        ..QueueConfig::default()
    };
    let queue = fifo_with(&broker, "q.fifo", config);
    send(&queue, "0", "small");
    let large = "x".repeat(200_000);
    let message = Outgoing::new(large.as_bytes())
        .message_group("g")
        .deduplication_id("1");
    for _ in 0..10 {
        assert!(matches!(
            queue.send_message(&message).map(|_| ()),
            Err(SendError::OverBudget { .. })
        ));
    }
    assert_eq!((ids(&queue), queue.counts().sent), (1, 1));
    send(&queue, "1", "small enough");
    assert_eq!(received(&queue), ["small", "small enough"]);
}

#[test]
fn a_send_refused_for_lack_of_memory_can_be_repeated_when_there_is_room() {
    let (time, broker) = manual(1);
    let config = QueueConfig {
        memory_limit: Some(512 << 10),
        ..QueueConfig::default()
    };
    let queue = fifo_with(&broker, "q.fifo", config);
    let large = "x".repeat(100_000);
    let send = |id: usize| {
        let id = id.to_string();
        let message = Outgoing::new(large.as_bytes())
            .message_group("g")
            .deduplication_id(&id);
        queue.send_message(&message).map(|sent| sent.message_id())
    };
    let full = (0..100).find(|&id| send(id).is_err()).expect("no room some time");
    assert!(full > 2, "{full}");
    let first = one(&queue, secs(30));
    delete(&queue, &first);
    // What has been deleted is freed by and by.
    let again = (0..10).find_map(|_| {
        time.advance(secs(1));
        queue.advance(broker.now());
        send(full).ok()
    });
    let again = again.expect("room");
    assert_eq!(send(full), Ok(again));
    assert_eq!(queue.counts().sent, full as u64 + 1);
}

// Bounded memory.

#[test]
fn ids_are_never_forgotten_early_but_sends_are_refused() {
    let (time, broker) = manual(1);
    let queue = remembering(&broker, 100);
    let sent: Vec<_> = (0..100).map(|n| send(&queue, &n.to_string(), "m")).collect();
    let message = Outgoing::new(b"m").message_group("g").deduplication_id("another");
    for wait in [0, 100, 199] {
        time.advance(secs(wait));
        queue.advance(broker.now());
        assert_eq!(
            queue.send_message(&message).map(|_| ()),
            Err(SendError::DeduplicationFull {
                limit: 100 * ID_BYTES
            })
        );
        assert_eq!(ids(&queue), 100);
        for (n, id) in sent.iter().enumerate() {
            assert_eq!(send(&queue, &n.to_string(), "again"), *id);
        }
    }
    assert_eq!(states(&queue), (100, 0, 0));
    time.advance(secs(1));
    assert!(queue.send_message(&message).is_ok());
    for n in 0..99 {
        send(&queue, &n.to_string(), "anew");
    }
    assert_eq!(states(&queue), (200, 0, 0));
    assert_eq!(
        queue
            .send_message(&Outgoing::new(b"m").message_group("g").deduplication_id("more"))
            .map(|_| ()),
        Err(SendError::DeduplicationFull {
            limit: 100 * ID_BYTES
        })
    );
}

/// Whoever filled the memory: each thread has a list of its own by which ids leave.
#[test]
fn there_is_room_after_five_minutes_for_other_threads_too() {
    let (time, broker) = manual(1);
    let queue = remembering(&broker, 50);
    for n in 0..50 {
        send(&queue, &n.to_string(), "m");
    }
    for round in 0..4 {
        time.advance(secs(300));
        let queue = queue.clone();
        on_thread(move || {
            for n in 0..50 {
                send(&queue, &format!("{round}-{n}"), "m");
            }
        });
    }
    assert_eq!(states(&queue), (250, 0, 0));
    assert_eq!(ids(&queue), 50);
}

#[test]
fn the_memory_of_ids_can_be_changed() {
    let (_, broker) = manual(1);
    let queue = remembering(&broker, 10);
    for n in 0..10 {
        send(&queue, &n.to_string(), "m");
    }
    let message = Outgoing::new(b"m").message_group("g").deduplication_id("more");
    assert!(queue.send_message(&message).is_err());
    let config = |ids: u64| QueueConfig {
        fifo: Some(FifoConfig {
            deduplication_memory: ids * ID_BYTES,
            ..FifoConfig::default()
        }),
        ..QueueConfig::default()
    };
    broker.configure(&queue, config(11)).expect("valid");
    assert!(queue.send_message(&message).is_ok());
    broker.configure(&queue, config(5)).expect("valid");
    // None is forgotten for that.
    assert_eq!(ids(&queue), 11);
    assert_eq!(send(&queue, "0", "again"), send(&queue, "0", "again"));
    assert_eq!(queue.counts().sent, 11);
}

#[test]
fn memory_of_ids_counts_in_the_budget_and_goes_back() {
    let (time, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    send(&queue, "first", "m");
    received(&queue);
    let before = queue.memory().used;
    for n in 0..10_000 {
        send(&queue, &n.to_string(), "m");
        received(&queue);
    }
    let metrics = queue.fifo_metrics().expect("a FIFO queue");
    assert_eq!(metrics.deduplication_ids, 10_001);
    assert!(queue.memory().used >= before + 10_000 * ID_BYTES);
    time.advance(secs(300));
    queue.advance(broker.now());
    assert_eq!(ids(&queue), 0);
    for _ in 0..3 {
        time.advance(secs(2));
        queue.advance(broker.now());
    }
    assert!(
        queue.memory().used < before + (64 << 10),
        "{} -> {}",
        before,
        queue.memory().used
    );
}

/// A budget full of ids alone: sends are refused as over budget, and five minutes later there is room without anybody keeping house.
#[test]
fn a_budget_full_of_ids_has_room_again_after_five_minutes() {
    let (time, broker) = manual(1);
    let config = QueueConfig {
        memory_limit: Some(256 << 10),
        ..QueueConfig::default()
    };
    let queue = fifo_with(&broker, "q.fifo", config);
    let try_send = |id: &str| {
        let message = Outgoing::new(b"m").message_group("g").deduplication_id(id);
        queue.send_message(&message).map(|_| ())
    };
    let mut refused = None;
    for n in 0..100_000 {
        match try_send(&n.to_string()) {
            Ok(()) => _ = received(&queue),
            Err(error) => {
                refused = Some((n, error));
                break;
            }
        }
    }
    let (count, error) = refused.expect("no room some time");
    assert!(matches!(error, SendError::OverBudget { .. }), "{error:?}");
    assert!(count > 200, "{count}");
    assert!(ids(&queue) >= 200);
    time.advance(secs(300));
    let accepted = (0..3).any(|n| try_send(&format!("anew-{n}")).is_ok());
    assert!(accepted, "{queue:?} {:?}", queue.memory());
}

// At the same time.

#[test]
fn of_two_threads_that_send_one_id_at_once_one_sends_the_message() {
    const ROUNDS: usize = 3_000;
    const THREADS: usize = 2;
    let broker = Broker::builder().partitions(2).build().expect("a broker");
    let queue = fifo(&broker, "q.fifo");
    let barrier = Barrier::new(THREADS);
    let mut sent: Vec<Vec<MessageId>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (queue, barrier) = (&queue, &barrier);
                scope.spawn(move || {
                    (0..ROUNDS)
                        .map(|round| {
                            barrier.wait();
                            let id = round.to_string();
                            // In one group, or each in its own.
                            let group = format!("g{}", (round % 2) * thread);
                            send_to(queue, &group, &id, &id).0
                        })
                        .collect()
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic"))
            .collect()
    });
    let second = sent.pop();
    assert_eq!(sent.pop(), second);
    assert_eq!(queue.counts().sent, ROUNDS as u64);
    let mut bodies: Vec<usize> = received(&queue)
        .into_iter()
        .map(|text| text.parse().expect("a number"))
        .collect();
    bodies.sort_unstable();
    assert_eq!(bodies, (0..ROUNDS).collect::<Vec<_>>());
    assert_eq!(states(&queue), (0, 0, 0));
    assert_balanced(&queue);
}

#[test]
fn threads_at_the_limit_of_memory_never_send_a_message_twice() {
    const IDS: u64 = 64;
    for round in 0..50 {
        let (_, broker) = manual(2);
        let queue = remembering(&broker, IDS);
        thread::scope(|scope| {
            for _ in 0..3 {
                let queue = &queue;
                scope.spawn(move || {
                    for n in 0..2 * IDS {
                        let id = format!("{round}-{n}");
                        let message = Outgoing::new(b"m").message_group("g").deduplication_id(&id);
                        match queue.send_message(&message) {
                            Ok(_) | Err(SendError::DeduplicationFull { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
        });
        assert!(queue.counts().sent <= IDS, "{:?}", queue.counts());
        assert_eq!(ids(&queue), queue.counts().sent);
    }
}
