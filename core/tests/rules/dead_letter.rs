//! Dead-letter queues, rule by rule, on a clock that stands still.

use std::{collections::BTreeSet, thread, time::Duration};

use crate::common::{
    LONG, bodies, delete, drain, empty, manual, manual_with, ms, number_of, numbered, one, queue, queue_with,
    release, secs, states,
};
use epoq::{
    Attribute, Broker, ChangeVisibilityError, ConfigError, DeleteError, Deletion, ManualClock, Millis,
    Outgoing, Queue, QueueConfig, Redrive, RedriveAllow, VisibilityChange,
};

fn redriving(target: &str, max_receives: u32) -> QueueConfig {
    QueueConfig {
        redrive: Some(Redrive::new(target, max_receives)),
        ..QueueConfig::default()
    }
}

struct Pair {
    time: ManualClock,
    broker: Broker,
    source: Queue,
    dead: Queue,
}

fn pair(max_receives: u32) -> Pair {
    pair_with(max_receives, QueueConfig::default())
}

fn pair_with(max_receives: u32, dead: QueueConfig) -> Pair {
    let (time, broker) = manual(1);
    let dead = queue_with(&broker, "dead", dead);
    let source = queue_with(&broker, "source", redriving("dead", max_receives));
    Pair {
        time,
        broker,
        source,
        dead,
    }
}

/// Receives a message without a lease until it has been received `times` times.
fn wear_out(queue: &Queue, times: u32) {
    for count in 1..=times {
        assert_eq!(one(queue, Duration::ZERO).receive_count(), count);
    }
}

// When.

#[test]
fn the_move_happens_on_the_receive_after_max_receives_deliveries() {
    for max_receives in [1, 2, 3, 1000] {
        let pair = pair(max_receives);
        pair.source.send(b"m").expect("room");
        for count in 1..=max_receives {
            let message = one(&pair.source, secs(1));
            assert_eq!(message.receive_count(), count);
            assert_eq!(states(&pair.dead), (0, 0, 0));
            pair.time.advance(secs(1) + ms(1));
        }
        pair.source.advance(Millis::MAX);
        assert_eq!(states(&pair.source), (1, 0, 0), "not when the lease is over");
        assert_eq!(pair.source.receive(10, LONG), Ok(vec![]));
        assert_eq!(states(&pair.source), (0, 0, 0));
        assert_eq!(states(&pair.dead), (1, 0, 0));
    }
}

#[test]
fn releases_and_timeouts_of_zero_count_too() {
    let pair = pair(2);
    pair.source.send(b"m").expect("room");
    one(&pair.source, Duration::ZERO);
    release(&pair.source, &one(&pair.source, LONG));
    assert_eq!(pair.source.receive(1, Duration::ZERO), Ok(vec![]));
    assert_eq!(one(&pair.dead, LONG).body(), b"m");
}

#[test]
fn extensions_do_not_count() {
    let pair = pair(2);
    pair.source.send(b"m").expect("room");
    for _ in 0..2 {
        let message = one(&pair.source, secs(10));
        for _ in 0..5 {
            pair.time.advance(secs(9));
            assert_eq!(
                pair.source.change_visibility(&message.receipt_handle(), secs(10)),
                Ok(VisibilityChange::Changed)
            );
        }
        pair.time.advance(secs(10) + ms(1));
    }
    assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
    assert_eq!(one(&pair.dead, LONG).receive_count(), 3);
}

#[test]
fn a_message_deleted_in_time_is_not_moved() {
    let pair = pair(1);
    pair.source.send(b"m").expect("room");
    let message = one(&pair.source, secs(1));
    pair.time.advance(secs(2));
    delete(&pair.source, &message);
    assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
    assert_eq!(pair.dead.counts().moved_in, 0);
}

#[test]
fn a_receive_goes_on_to_the_next_candidate() {
    for max in [1, 3, 10] {
        let pair = pair(1);
        for number in 0..7 {
            pair.source.send(&numbered(number, 8)).expect("room");
        }
        assert_eq!(pair.source.receive(7, Duration::ZERO).expect("valid").len(), 7);
        pair.source.send(b"fresh").expect("room");
        let mut found = Vec::new();
        for _ in 0..10 {
            found.extend(pair.source.receive(max, LONG).expect("valid"));
        }
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].body(), b"fresh");
        assert_eq!(bodies(&drain(&pair.dead)).len(), 7);
    }
}

#[test]
fn a_receive_of_one_goes_on_to_the_next_candidate() {
    let pair = pair(1);
    pair.source.send(b"worn out").expect("room");
    one(&pair.source, Duration::ZERO);
    pair.source.send(b"fresh").expect("room");
    let worker = pair.broker.worker().expect("a worker");
    worker.turn(|turn| {
        let found = turn
            .receive_one(&pair.source, LONG)
            .expect("valid")
            .expect("there is one");
        assert_eq!(found.body(), b"fresh");
        assert!(turn.receive_one(&pair.source, LONG).expect("valid").is_none());
    });
    assert_eq!(states(&pair.dead), (1, 0, 0));
}

/// More dead letters than one receive moves: it may come back empty, but the next ones do the rest.
#[test]
fn any_number_of_dead_letters_before_a_fresh_message() {
    let pair = pair(1);
    for number in 0..1000 {
        pair.source.send(&numbered(number, 16)).expect("room");
    }
    for _ in 0..100 {
        pair.source.receive(10, secs(1)).expect("valid");
    }
    pair.time.advance(secs(2));
    pair.source.send(b"fresh").expect("room");
    let found = (0..1001).find(|_| !pair.source.receive(1, LONG).expect("valid").is_empty());
    assert!(found.is_some(), "{:?}", pair.source);
    while states(&pair.source).0 > 0 {
        assert_eq!(pair.source.receive(10, LONG), Ok(vec![]));
    }
    assert_eq!(bodies(&drain(&pair.dead)).len(), 1000);
}

// Changes of the configuration.

#[test]
fn a_limit_set_later_applies_to_messages_already_there() {
    let pair = pair(1000);
    pair.source.send(b"m").expect("room");
    wear_out(&pair.source, 5);
    pair.broker
        .configure(&pair.source, redriving("dead", 3))
        .expect("valid");
    assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
    assert_eq!(one(&pair.dead, LONG).receive_count(), 6);
}

#[test]
fn the_first_receive_under_a_new_policy_can_move() {
    let (_time, broker) = manual(1);
    let (source, dead) = (queue(&broker, "source"), queue(&broker, "dead"));
    source.send(b"m").expect("room");
    wear_out(&source, 2);
    broker.configure(&source, redriving("dead", 2)).expect("valid");
    assert_eq!(source.receive(1, LONG), Ok(vec![]));
    assert_eq!(one(&dead, LONG).body(), b"m");
}

#[test]
fn without_the_policy_messages_are_delivered_on() {
    let pair = pair(1);
    pair.source.send(b"m").expect("room");
    wear_out(&pair.source, 1);
    pair.broker
        .configure(&pair.source, QueueConfig::default())
        .expect("valid");
    assert_eq!(one(&pair.source, LONG).receive_count(), 2);
    assert_eq!(states(&pair.dead), (0, 0, 0));
}

#[test]
fn a_new_target_gets_what_comes_from_now_on() {
    let pair = pair(1);
    let other = queue(&pair.broker, "other");
    for target in ["dead", "other"] {
        pair.broker
            .configure(&pair.source, redriving(target, 1))
            .expect("valid");
        pair.source.send(target.as_bytes()).expect("room");
        wear_out(&pair.source, 1);
        assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
    }
    assert_eq!(one(&pair.dead, LONG).body(), b"dead");
    assert_eq!(one(&other, LONG).body(), b"other");
}

// What survives the move.

#[test]
fn receive_count_goes_on_in_the_dead_letter_queue() {
    let pair = pair(1);
    pair.source.send(b"m").expect("room");
    wear_out(&pair.source, 1);
    assert_eq!(
        pair.source.receive(1, LONG),
        Ok(vec![]),
        "this one does not count"
    );
    assert_eq!(one(&pair.dead, Duration::ZERO).receive_count(), 2);
    assert_eq!(one(&pair.dead, Duration::ZERO).receive_count(), 3);
}

#[test]
fn message_id_stays_in_the_dead_letter_queue() {
    let pair = pair(1);
    let id = pair.source.send(b"m").expect("room").message_id();
    wear_out(&pair.source, 1);
    assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
    for _ in 0..2 {
        assert_eq!(one(&pair.dead, Duration::ZERO).message_id(), id);
    }
}

#[test]
fn timestamps_stay_in_the_dead_letter_queue() {
    let pair = pair(1);
    pair.time.advance(ms(17));
    pair.source.send(b"m").expect("room");
    pair.time.advance(ms(20));
    wear_out(&pair.source, 1);
    pair.time.advance(secs(9));
    assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
    pair.time.advance(secs(9));
    let message = one(&pair.dead, LONG);
    assert_eq!(message.sent_at(), Millis::new(17));
    assert_eq!(message.first_received_at(), Millis::new(37));
}

#[test]
fn attributes_group_and_trace_header_stay_in_the_dead_letter_queue() {
    for length in [1, 100, 1000, 1025, 100_000] {
        let pair = pair(1);
        let body = vec![b'x'; length];
        let attributes = [
            Attribute::string("kind", "fruit"),
            Attribute::number("weight", "1.50").with_type("Number.kg"),
            Attribute::binary("picture", &[0, 255, 7]),
        ];
        let message = Outgoing::new(&body)
            .attributes(&attributes)
            .message_group("tenant-7")
            .trace_header("Root=1-5759e988-bd862e3fe1be46a994272793");
        pair.source.send_message(&message).expect("room");
        wear_out(&pair.source, 1);
        assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
        let moved = one(&pair.dead, LONG);
        assert_eq!(moved.body(), body);
        assert!(moved.attributes().eq(attributes));
        assert_eq!(moved.message_group(), Some("tenant-7"));
        assert_eq!(
            moved.trace_header(),
            Some("Root=1-5759e988-bd862e3fe1be46a994272793")
        );
        assert_eq!(moved.dead_letter_source(), Some("source"));
    }
}

#[test]
fn the_source_is_named_in_the_dead_letter_queue_only() {
    let pair = pair(1);
    pair.source.send(b"m").expect("room");
    assert_eq!(one(&pair.source, Duration::ZERO).dead_letter_source(), None);
    assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
    assert_eq!(one(&pair.dead, LONG).dead_letter_source(), Some("source"));
    pair.dead.send(b"sent here").expect("room");
    assert_eq!(one(&pair.dead, LONG).dead_letter_source(), None);
}

#[test]
fn the_delay_of_the_dead_letter_queue_is_not_for_moved_messages() {
    let delay = QueueConfig {
        delay: secs(60),
        ..QueueConfig::default()
    };
    let pair = pair_with(1, delay);
    pair.source.send(b"m").expect("room");
    wear_out(&pair.source, 1);
    assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
    assert_eq!(one(&pair.dead, LONG).body(), b"m");
}

#[test]
fn the_size_limit_of_the_dead_letter_queue_is_not_for_moved_messages() {
    let small = QueueConfig {
        max_message_bytes: 1,
        ..QueueConfig::default()
    };
    let pair = pair_with(1, small);
    pair.source.send(b"larger").expect("room");
    wear_out(&pair.source, 1);
    assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
    assert_eq!(one(&pair.dead, LONG).body(), b"larger");
}

// Handles.

#[test]
fn old_handles_are_answered_as_deleted_after_the_move() {
    let pair = pair(1);
    pair.source.send(b"m").expect("room");
    let old = one(&pair.source, Duration::ZERO).receipt_handle();
    assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
    for _ in 0..2 {
        assert_eq!(pair.source.delete(&old), Ok(Deletion::Gone));
        assert_eq!(
            pair.source.change_visibility(&old, secs(1)),
            Err(ChangeVisibilityError::Gone)
        );
        assert_eq!(states(&pair.dead), (1, 0, 0), "no effect on the copy");
    }
    assert_eq!(pair.dead.delete(&old), Err(DeleteError::Foreign));
    let moved = one(&pair.dead, LONG);
    assert_ne!(moved.receipt_handle(), old);
    delete(&pair.dead, &moved);
}

#[test]
fn a_moved_message_lives_like_any_other() {
    let pair = pair(1);
    pair.source.send(b"m").expect("room");
    wear_out(&pair.source, 1);
    assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
    let moved = one(&pair.dead, secs(1));
    assert_eq!(
        pair.dead.change_visibility(&moved.receipt_handle(), secs(60)),
        Ok(VisibilityChange::Changed)
    );
    pair.time.advance(secs(59));
    assert_eq!(pair.dead.receive(1, LONG), Ok(vec![]));
    release(&pair.dead, &moved);
    delete(&pair.dead, &one(&pair.dead, LONG));
    assert_eq!(states(&pair.dead), (0, 0, 0));
}

// Where it cannot go on as usual.

#[test]
fn a_full_dead_letter_queue_loses_nothing() {
    let full = QueueConfig {
        memory_limit: Some(0),
        ..QueueConfig::default()
    };
    let pair = pair_with(1, full);
    pair.source.send(b"m").expect("room");
    let old = one(&pair.source, Duration::ZERO).receipt_handle();
    for _ in 0..5 {
        assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
        assert_eq!(states(&pair.source), (0, 0, 1), "put off for a second");
        assert_eq!(states(&pair.dead), (0, 0, 0));
        pair.time.advance(secs(1) + ms(1));
        pair.source.advance(Millis::MAX);
        assert_eq!(states(&pair.source), (1, 0, 0));
    }
    pair.broker
        .configure(&pair.dead, QueueConfig::default())
        .expect("valid");
    assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
    assert_eq!(one(&pair.dead, LONG).receive_count(), 2);
    assert_eq!(pair.source.delete(&old), Ok(Deletion::Gone));
}

#[test]
fn a_message_put_off_can_be_deleted_by_its_newest_handle() {
    let full = QueueConfig {
        memory_limit: Some(0),
        ..QueueConfig::default()
    };
    let pair = pair_with(1, full);
    pair.source.send(b"m").expect("room");
    let newest = one(&pair.source, Duration::ZERO).receipt_handle();
    assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
    assert_eq!(
        pair.source.change_visibility(&newest, secs(1)),
        Ok(VisibilityChange::LeaseOver)
    );
    assert_eq!(pair.source.delete(&newest), Ok(Deletion::Deleted));
    assert_eq!(states(&pair.source), (0, 0, 0));
}

/// The broker's budget binds as well.
#[test]
fn a_full_broker_loses_no_dead_letters() {
    let (time, broker) = manual_with(Broker::builder().partitions(1).memory_limit(1 << 20));
    let dead = queue(&broker, "dead");
    let source = queue_with(&broker, "source", redriving("dead", 1));
    let ballast = queue(&broker, "ballast");
    for number in 0..40 {
        ballast.send(&numbered(number, 5000)).expect("room");
    }
    let mut sent = 0;
    while source.send(&numbered(sent, 5000)).is_ok() {
        sent += 1;
    }
    assert!(sent > 100, "{sent}");
    let mut worn_out = 0;
    while worn_out < sent {
        worn_out += source.receive(10, secs(1)).expect("valid").len() as u64;
    }
    for _ in 0..3 {
        time.advance(secs(2));
        while states(&source).0 > 0 || states(&source).1 > 0 {
            assert_eq!(source.receive(10, LONG), Ok(vec![]));
        }
        assert_eq!((states(&source), states(&dead)), ((0, 0, sent), (0, 0, 0)));
    }
    ballast.purge().expect("there");
    let mut arrived = BTreeSet::new();
    for _ in 0..1000 {
        assert_eq!(source.receive(10, LONG), Ok(vec![]));
        // Whoever gets there and is deleted makes room for the next ones.
        for message in drain(&dead) {
            assert!(arrived.insert(number_of(message.body())), "it came twice");
            delete(&dead, &message);
        }
        time.advance(secs(2));
        if arrived.len() as u64 == sent {
            break;
        }
    }
    assert_eq!(arrived.len() as u64, sent, "{source:?}");
    assert!(source.counts().moved_out == sent, "{source:?}");
}

#[test]
fn a_deleted_dead_letter_queue_loses_nothing() {
    let pair = pair(1);
    pair.source.send(b"m").expect("room");
    wear_out(&pair.source, 1);
    assert_eq!(pair.broker.delete_queue("dead"), Ok(()));
    for count in 2..10 {
        assert_eq!(one(&pair.source, Duration::ZERO).receive_count(), count);
    }
    // The policy names a queue by its name: one made anew under it takes its place.
    let anew = queue(&pair.broker, "dead");
    assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
    assert_eq!(one(&anew, LONG).receive_count(), 10);
}

#[test]
fn one_made_anew_that_refuses_the_source_gets_nothing() {
    let pair = pair(1);
    pair.source.send(b"m").expect("room");
    assert_eq!(pair.broker.delete_queue("dead"), Ok(()));
    let refusing = QueueConfig {
        redrive_allow: RedriveAllow::Nobody,
        ..QueueConfig::default()
    };
    let anew = queue_with(&pair.broker, "dead", refusing);
    wear_out(&pair.source, 3);
    assert_eq!(anew.receive(1, LONG), Ok(vec![]));
}

/// Until it opens itself to the source.
#[test]
fn one_made_anew_that_lets_the_source_in_later_gets_all_from_then_on() {
    let pair = pair(1);
    pair.source.send(b"m").expect("room");
    assert_eq!(pair.broker.delete_queue("dead"), Ok(()));
    let refusing = QueueConfig {
        redrive_allow: RedriveAllow::Nobody,
        ..QueueConfig::default()
    };
    let anew = queue_with(&pair.broker, "dead", refusing);
    wear_out(&pair.source, 3);
    pair.broker
        .configure(&anew, QueueConfig::default())
        .expect("valid");
    assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
    assert_eq!(one(&anew, LONG).receive_count(), 4);
}

/// Whoever changes something else is not told about a policy that he leaves as it is.
#[test]
fn a_source_whose_dead_letter_queue_is_gone_can_be_configured() {
    let pair = pair(1);
    assert_eq!(pair.broker.delete_queue("dead"), Ok(()));
    let delayed = QueueConfig {
        delay: secs(5),
        ..pair.source.config()
    };
    assert_eq!(pair.broker.configure(&pair.source, delayed.clone()), Ok(()));
    assert_eq!(pair.source.config(), delayed);
    // Another number of receives is a new policy.
    let other = QueueConfig {
        redrive: Some(Redrive::new("dead", 7)),
        ..delayed.clone()
    };
    assert_eq!(
        pair.broker.configure(&pair.source, other),
        Err(ConfigError::NoSuchTarget)
    );
    assert_eq!(pair.source.config(), delayed);
}

/// The policy in force goes on where the dead-letter queue has closed itself: it counts when a policy is set (SQS).
#[test]
fn one_that_has_closed_itself_keeps_its_sources() {
    let pair = pair(1);
    let refusing = QueueConfig {
        redrive_allow: RedriveAllow::Nobody,
        ..QueueConfig::default()
    };
    pair.broker.configure(&pair.dead, refusing).expect("valid");
    let config = pair.source.config();
    assert_eq!(pair.broker.configure(&pair.source, config), Ok(()));
    pair.source.send(b"m").expect("room");
    wear_out(&pair.source, 1);
    assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
    assert_eq!(one(&pair.dead, LONG).body(), b"m");
}

#[test]
fn the_source_may_be_deleted_after_the_move() {
    let pair = pair(1);
    pair.source.send(b"m").expect("room");
    wear_out(&pair.source, 1);
    assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
    assert_eq!(pair.broker.delete_queue("source"), Ok(()));
    drop(pair.source);
    let moved = one(&pair.dead, LONG);
    assert_eq!(
        (moved.body(), moved.dead_letter_source()),
        (&b"m"[..], Some("source"))
    );
}

#[test]
fn two_queues_that_are_each_others_dead_letter_queue() {
    let (_time, broker) = manual(1);
    let left = queue(&broker, "left");
    let right = queue_with(&broker, "right", redriving("left", 1));
    broker.configure(&left, redriving("right", 1)).expect("valid");
    let id = left.send(b"m").expect("room").message_id();
    assert_eq!(one(&left, Duration::ZERO).receive_count(), 1);
    for _ in 0..3 {
        // It goes to and fro, one move a receive, and is always somewhere.
        assert_eq!(left.receive(10, LONG), Ok(vec![]));
        assert_eq!((states(&left), states(&right)), ((0, 0, 0), (1, 0, 0)));
        assert_eq!(right.receive(10, LONG), Ok(vec![]));
        assert_eq!((states(&left), states(&right)), ((1, 0, 0), (0, 0, 0)));
    }
    broker.configure(&left, QueueConfig::default()).expect("valid");
    let back = one(&left, LONG);
    assert_eq!((back.message_id(), back.receive_count()), (id, 2));
    assert_eq!(back.dead_letter_source(), Some("right"));
}

#[test]
fn chains() {
    let (_time, broker) = manual(1);
    let last = queue(&broker, "last");
    let middle = queue_with(&broker, "middle", redriving("last", 4));
    let first = queue_with(&broker, "first", redriving("middle", 2));
    let id = first.send(b"m").expect("room").message_id();
    wear_out(&first, 2);
    assert_eq!(first.receive(1, LONG), Ok(vec![]));
    // The count goes on across all queues: two more deliveries.
    for count in 3..=4 {
        let message = one(&middle, Duration::ZERO);
        assert_eq!((message.receive_count(), message.message_id()), (count, id));
        assert_eq!(message.dead_letter_source(), Some("first"));
    }
    assert_eq!(middle.receive(1, LONG), Ok(vec![]));
    let message = one(&last, LONG);
    assert_eq!((message.receive_count(), message.message_id()), (5, id));
    assert_eq!(message.dead_letter_source(), Some("middle"));
}

#[test]
fn several_sources_share_a_dead_letter_queue() {
    let (_time, broker) = manual(2);
    let dead = queue(&broker, "dead");
    for name in ["b", "a", "c"] {
        let source = queue_with(&broker, name, redriving("dead", 1));
        source.send(name.as_bytes()).expect("room");
        wear_out(&source, 1);
        assert_eq!(source.receive(1, LONG), Ok(vec![]));
    }
    assert_eq!(broker.dead_letter_sources("dead"), ["a", "b", "c"]);
    for message in drain(&dead) {
        assert_eq!(
            message.dead_letter_source().map(str::as_bytes),
            Some(message.body())
        );
    }
}

#[test]
fn moves_are_counted_on_both_sides() {
    let pair = pair(1);
    for number in 0..5 {
        pair.source.send(&numbered(number, 8)).expect("room");
    }
    assert_eq!(pair.source.receive(3, Duration::ZERO).expect("valid").len(), 3);
    pair.source.receive(10, LONG).expect("valid");
    let (source, dead) = (pair.source.counts(), pair.dead.counts());
    assert_eq!((source.moved_out, dead.moved_in), (3, 3));
    assert_eq!((source.received, source.deleted, source.in_flight), (5, 0, 2));
    assert_eq!((dead.sent, dead.received, dead.visible), (0, 0, 3));
    states(&pair.source);
    states(&pair.dead);
}

/// Each message is in exactly one of the queues, whoever moves and deletes meanwhile.
#[test]
fn no_dead_letter_is_lost_or_doubled_under_load() {
    const MESSAGES: u64 = 4000;
    let broker = Broker::builder().partitions(4).build().expect("valid");
    let dead = queue(&broker, "dead");
    let source = queue_with(&broker, "source", redriving("dead", 2));
    let deleted: Vec<Vec<u64>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..4u64)
            .map(|thread| {
                let source = source.clone();
                scope.spawn(move || {
                    let mut deleted = Vec::new();
                    for number in (thread..MESSAGES).step_by(4) {
                        source.send(&numbered(number, 24)).expect("room");
                        for message in source.receive(3, LONG).expect("valid") {
                            let number = number_of(message.body());
                            if number.is_multiple_of(3) {
                                delete(&source, &message);
                                deleted.push(number);
                            } else {
                                release(&source, &message);
                            }
                        }
                    }
                    deleted
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic"))
            .collect()
    });
    // The rest goes round until it is worn out.
    loop {
        let some = source.receive(10, LONG).expect("valid");
        if some.is_empty() && states(&source).0 == 0 {
            break;
        }
        some.iter().for_each(|message| release(&source, message));
    }
    assert_eq!(states(&source), (0, 0, 0));
    let mut all: Vec<_> = deleted.into_iter().flatten().collect();
    let moved = drain(&dead);
    assert!(moved.iter().all(|message| message.receive_count() == 3));
    all.extend(moved.iter().map(|message| number_of(message.body())));
    all.sort_unstable();
    assert_eq!(all, (0..MESSAGES).collect::<Vec<_>>());
    assert_eq!(source.counts().moved_out, dead.counts().moved_in);
    states(&dead);
    moved.iter().for_each(|message| delete(&dead, message));
    assert_eq!(empty(&dead), 0);
}
