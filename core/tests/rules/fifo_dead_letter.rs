//! FIFO queues: dead letters, and message move tasks back. Rule by rule, on a clock that stands still.

use std::{thread, time::Duration};

use crate::common::{
    LONG, assert_balanced, delete, fifo, fifo_with, manual, ms, one, queue, release, secs, send_to_groups,
    states, texts,
};
use epoq::{
    Attribute, Broker, ConfigError, CreateQueueError, DeleteError, Deletion, FifoConfig, ManualClock,
    MoveFailure, MoveStatus, Outgoing, Queue, QueueConfig, Redrive, StartMoveError,
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
    pair_with(1, max_receives, QueueConfig::default())
}

fn pair_with(partitions: usize, max_receives: u32, dead: QueueConfig) -> Pair {
    let (time, broker) = manual(partitions);
    let dead = fifo_with(&broker, "dead.fifo", dead);
    let source = fifo_with(&broker, "source.fifo", redriving("dead.fifo", max_receives));
    Pair {
        time,
        broker,
        source,
        dead,
    }
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

/// Lets all that is in a queue with a limit of one go to its dead-letter queue.
fn fail_all(queue: &Queue) {
    for _ in 0..10_000 {
        queue.receive(10, Duration::ZERO).expect("valid");
        if queue.counts().visible == 0 {
            return;
        }
    }
    panic!("{queue:?}");
}

// When, and what becomes of the group.

#[test]
fn the_move_happens_on_the_receive_after_max_receives_deliveries() {
    for max_receives in [1, 2, 3, 1000] {
        let pair = pair(max_receives);
        send_to_groups(&pair.source, &["g-1"]);
        for count in 1..=max_receives {
            assert_eq!(one(&pair.source, secs(1)).receive_count(), count);
            assert_eq!(states(&pair.dead), (0, 0, 0));
            pair.time.advance(secs(1) + ms(1));
        }
        pair.source.advance(pair.broker.now());
        assert_eq!(states(&pair.source), (1, 0, 0), "not when the lease is over");
        assert_eq!(pair.source.receive(10, LONG), Ok(vec![]));
        assert_eq!(states(&pair.source), (0, 0, 0));
        assert_eq!(states(&pair.dead), (1, 0, 0));
    }
}

#[test]
fn the_group_goes_on_with_its_next_message_in_the_same_receive() {
    let pair = pair(2);
    send_to_groups(&pair.source, &["g-1", "g-2", "g-3", "h-1"]);
    for _ in 0..2 {
        release(&pair.source, &one(&pair.source, LONG));
        // The other group is first now: it goes to the back again.
        release(&pair.source, &one(&pair.source, LONG));
    }
    let both = pair.source.receive(10, LONG).expect("valid");
    assert_eq!(texts(&both), ["g-2", "g-3"]);
    assert_eq!(received(&pair.dead), ["g-1", "h-1"]);
    both.iter().for_each(|message| delete(&pair.source, message));
    send_to_groups(&pair.source, &["g-4", "h-2"]);
    assert_eq!(received(&pair.source), ["g-4", "h-2"]);
    assert_balanced(&pair.source);
}

#[test]
fn a_message_that_goes_unblocks_its_group_whatever_stood_with_it() {
    let pair = pair(1);
    send_to_groups(&pair.source, &["g-1", "g-2", "g-3"]);
    let both = pair.source.receive(2, LONG).expect("valid");
    release(&pair.source, &both[0]);
    // The first goes; the second is in flight and stands before the third.
    assert_eq!(pair.source.receive(10, LONG), Ok(vec![]));
    assert_eq!((states(&pair.source), states(&pair.dead)), ((1, 1, 0), (1, 0, 0)));
    delete(&pair.source, &both[1]);
    assert_eq!(received(&pair.source), ["g-3"]);
    assert_eq!(received(&pair.dead), ["g-1"]);
}

#[test]
fn releases_and_timeouts_of_zero_count_too() {
    let pair = pair(2);
    send_to_groups(&pair.source, &["g-1"]);
    one(&pair.source, Duration::ZERO);
    release(&pair.source, &one(&pair.source, LONG));
    assert_eq!(pair.source.receive(1, Duration::ZERO), Ok(vec![]));
    assert_eq!(received(&pair.dead), ["g-1"]);
}

#[test]
fn a_receive_goes_on_to_the_next_group() {
    for max in [1, 3, 10] {
        let pair = pair(1);
        let worn: Vec<String> = (0..30).map(|n| format!("w{}-{n}", n % 6)).collect();
        send_to_groups(&pair.source, &worn.iter().map(String::as_str).collect::<Vec<_>>());
        for _ in 0..3 {
            assert_eq!(pair.source.receive(10, secs(1)).expect("valid").len(), 10);
        }
        pair.time.advance(secs(2));
        send_to_groups(&pair.source, &["fresh-1"]);
        assert_eq!(
            texts(&pair.source.receive(max, LONG).expect("valid")),
            ["fresh-1"]
        );
        assert_eq!(pair.source.receive(10, LONG), Ok(vec![]));
        assert_eq!(
            (states(&pair.source), states(&pair.dead)),
            ((0, 1, 0), (30, 0, 0))
        );
        // In each group in its order.
        let mut all = received(&pair.dead);
        let number = |text: &String| {
            text.split_once('-')
                .expect("a group")
                .1
                .parse::<u32>()
                .expect("a number")
        };
        for group in 0..6 {
            let of_group: Vec<_> = all
                .iter()
                .filter(|text| text.starts_with(&format!("w{group}-")))
                .map(number)
                .collect();
            assert!(of_group.is_sorted() && of_group.len() == 5, "{of_group:?}");
        }
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 30);
    }
}

/// More dead letters than one receive moves: it may come back empty, but the next ones do the rest.
#[test]
fn any_number_of_dead_letters_before_a_fresh_message() {
    let pair = pair(1);
    let worn: Vec<String> = (0..1000).map(|n| format!("w{}-{n}", n % 100)).collect();
    send_to_groups(&pair.source, &worn.iter().map(String::as_str).collect::<Vec<_>>());
    for _ in 0..100 {
        assert_eq!(pair.source.receive(10, secs(1)).expect("valid").len(), 10);
    }
    pair.time.advance(secs(2));
    send_to_groups(&pair.source, &["w99-fresh"]);
    let found = (0..100).find(|_| !pair.source.receive(1, LONG).expect("valid").is_empty());
    assert!(found.is_some(), "{:?}", pair.source);
    assert_eq!(
        (states(&pair.source), states(&pair.dead)),
        ((0, 1, 0), (1000, 0, 0))
    );
}

#[test]
fn a_limit_set_later_applies_to_messages_already_there() {
    let pair = pair(1000);
    send_to_groups(&pair.source, &["g-1"]);
    for _ in 0..5 {
        one(&pair.source, Duration::ZERO);
    }
    let config = QueueConfig {
        fifo: pair.source.config().fifo,
        ..redriving("dead.fifo", 3)
    };
    pair.broker.configure(&pair.source, config).expect("valid");
    assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
    assert_eq!(one(&pair.dead, LONG).receive_count(), 6);
}

// What survives.

#[test]
fn a_dead_letter_keeps_what_it_was_and_goes_on_counting() {
    let pair = pair(2);
    let attributes = [Attribute::string("kind", "fruit")];
    let message = Outgoing::new(b"apples")
        .attributes(&attributes)
        .message_group("orders")
        .deduplication_id("original")
        .trace_header("Root=1");
    let sent = pair.source.send_message(&message).expect("accepted").message_id();
    let sent_at = pair.broker.now();
    pair.time.advance(secs(5));
    let old = one(&pair.source, secs(1));
    pair.time.advance(secs(5));
    one(&pair.source, secs(1));
    pair.time.advance(secs(5));
    let moved_at = pair.broker.now();
    assert_eq!(pair.source.receive(1, LONG), Ok(vec![]));
    pair.time.advance(secs(5));

    let letter = one(&pair.dead, LONG);
    assert_eq!(
        (letter.body(), letter.message_group()),
        (&b"apples"[..], Some("orders"))
    );
    assert_eq!(letter.attributes().next(), Some(attributes[0]));
    assert_eq!(letter.trace_header(), Some("Root=1"));
    assert_eq!(letter.message_id(), sent);
    assert_eq!(letter.receive_count(), 3);
    assert_eq!(letter.dead_letter_source(), Some("source.fifo"));
    // The id by which it is told apart is the message's, and the time of sending begins anew.
    assert_eq!(letter.deduplication_id(), Some(sent.to_string().as_str()));
    assert_eq!(letter.sent_at(), moved_at);
    assert_ne!(letter.sent_at(), sent_at);
    // Nor has it been received before it was sent.
    assert_eq!(letter.first_received_at(), moved_at);
    // It has a number of that queue.
    assert!(letter.sequence_number().is_some());
    assert_eq!(pair.dead.oldest_sent(), Some(moved_at));
    // The handle of before is good for nothing.
    assert_eq!(pair.source.delete(&old.receipt_handle()), Ok(Deletion::Gone));
    assert_eq!(pair.dead.delete(&old.receipt_handle()), Err(DeleteError::Foreign));
    delete(&pair.dead, &letter);
}

#[test]
fn a_dead_letter_is_not_dropped_as_a_duplicate() {
    let pair = pair(1);
    let message = |body| Outgoing::new(body).message_group("g").deduplication_id("1");
    pair.dead.send_message(&message(b"sent here")).expect("accepted");
    pair.source
        .send_message(&message(b"moved here"))
        .expect("accepted");
    fail_all(&pair.source);
    assert_eq!(states(&pair.dead), (2, 0, 0));
    assert_eq!(received(&pair.dead), ["sent here", "moved here"]);
    // Nor is what is sent here afterwards, under that id.
    pair.source
        .send_message(&Outgoing::new(b"x").message_group("g").deduplication_id("2"))
        .expect("accepted");
    fail_all(&pair.source);
    pair.dead
        .send_message(&Outgoing::new(b"y").message_group("g").deduplication_id("2"))
        .expect("accepted");
    assert_eq!(received(&pair.dead), ["x", "y"]);
}

#[test]
fn dead_letters_of_several_sources_keep_to_their_groups_order() {
    let pair = pair(1);
    let other = fifo_with(&pair.broker, "other.fifo", redriving("dead.fifo", 1));
    send_to_groups(&pair.source, &["g-1", "g-2"]);
    fail_all(&pair.source);
    send_to_groups(&other, &["g-3"]);
    fail_all(&other);
    let all = pair.dead.receive(10, LONG).expect("valid");
    assert_eq!(texts(&all), ["g-1", "g-2", "g-3"]);
    let sources: Vec<_> = all
        .iter()
        .map(|letter| letter.dead_letter_source().expect("one"))
        .collect();
    assert_eq!(sources, ["source.fifo", "source.fifo", "other.fifo"]);
    let numbers: Vec<_> = all.iter().map(epoq::Message::sequence_number).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b));
}

#[test]
fn retention_of_a_dead_letter_begins_with_the_move() {
    let dead = QueueConfig {
        retention: secs(100),
        ..QueueConfig::default()
    };
    let pair = pair_with(1, 1, dead);
    send_to_groups(&pair.source, &["g-1"]);
    pair.time.advance(secs(90));
    fail_all(&pair.source);
    pair.time.advance(secs(100) - ms(1));
    assert_eq!(one(&pair.dead, Duration::ZERO).body(), b"g-1");
    pair.time.advance(ms(1));
    assert_eq!(pair.dead.receive(1, LONG), Ok(vec![]));
    assert_eq!(pair.dead.counts().lapsed, 1);
}

#[test]
fn the_delay_of_the_dead_letter_queue_is_not_for_dead_letters() {
    let dead = QueueConfig {
        delay: secs(100),
        ..QueueConfig::default()
    };
    let pair = pair_with(1, 1, dead);
    send_to_groups(&pair.source, &["g-1"]);
    fail_all(&pair.source);
    let counts = pair.dead.counts();
    assert_eq!((counts.visible, counts.delayed), (1, 0));
    assert_eq!(one(&pair.dead, LONG).body(), b"g-1");
}

#[test]
fn a_dead_letter_wakes_who_waits_for_it() {
    let broker = Broker::builder().partitions(2).build().expect("a broker");
    let dead = fifo(&broker, "dead.fifo");
    let source = fifo_with(&broker, "source.fifo", redriving("dead.fifo", 1));
    send_to_groups(&source, &["g-1"]);
    one(&source, Duration::ZERO);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| dead.receive_wait(1, LONG, secs(20)));
        thread::sleep(ms(20));
        assert_eq!(source.receive(1, LONG), Ok(vec![]));
        let letters = waiter.join().expect("no panic").expect("valid");
        assert_eq!(texts(&letters), ["g-1"]);
    });
}

// Targets.

#[test]
fn the_dead_letter_queue_is_of_the_same_type() {
    let (_, broker) = manual(1);
    let (ordered, standard) = (fifo(&broker, "dead.fifo"), queue(&broker, "dead"));
    let fifo_config = ordered.config().fifo;
    let to_standard = QueueConfig {
        fifo: fifo_config,
        ..redriving("dead", 1)
    };
    let refused = Some(CreateQueueError::Config(ConfigError::TargetType));
    assert_eq!(broker.create_queue("q.fifo", to_standard.clone()).err(), refused);
    assert_eq!(broker.create_queue("q", redriving("dead.fifo", 1)).err(), refused);
    assert_eq!(
        broker.configure(&ordered, to_standard),
        Err(ConfigError::TargetType)
    );
    assert_eq!(
        broker.configure(&standard, redriving("dead.fifo", 1)),
        Err(ConfigError::TargetType)
    );
}

#[test]
fn without_room_in_the_target_nothing_is_lost_and_the_group_is_put_off() {
    let dead = QueueConfig {
        memory_limit: Some(64 << 10),
        ..QueueConfig::default()
    };
    let pair = pair_with(1, 1, dead);
    let large = "x".repeat(100_000);
    pair.source
        .send_message(&Outgoing::new(large.as_bytes()).message_group("g"))
        .expect("room");
    send_to_groups(&pair.source, &["g-2", "h-1"]);
    one(&pair.source, Duration::ZERO);
    // The group stays in its order, and the other one goes on.
    assert_eq!(texts(&pair.source.receive(10, LONG).expect("valid")), ["h-1"]);
    for _ in 0..3 {
        assert_eq!(pair.source.receive(10, LONG), Ok(vec![]));
        assert_eq!((states(&pair.source), states(&pair.dead)), ((2, 1, 0), (0, 0, 0)));
        pair.time.advance(secs(1) + ms(1));
    }
    let config = QueueConfig {
        fifo: pair.dead.config().fifo,
        ..QueueConfig::default()
    };
    pair.broker.configure(&pair.dead, config).expect("valid");
    assert_eq!(texts(&pair.source.receive(10, LONG).expect("valid")), ["g-2"]);
    assert_eq!(received(&pair.dead), [large]);
    assert_balanced(&pair.source);
}

#[test]
fn with_its_target_deleted_a_message_goes_on_being_delivered() {
    let pair = pair(1);
    send_to_groups(&pair.source, &["g-1", "g-2"]);
    one(&pair.source, Duration::ZERO);
    pair.broker.delete_queue("dead.fifo").expect("there is one");
    for count in 2..5 {
        let both = pair.source.receive(10, secs(1)).expect("valid");
        assert_eq!(texts(&both), ["g-1", "g-2"]);
        assert_eq!(both[0].receive_count(), count);
        pair.time.advance(secs(2));
    }
    assert_eq!(states(&pair.source), (0, 2, 0));
}

#[test]
fn dead_letter_queues_may_be_chained() {
    let (_, broker) = manual(1);
    let last = fifo(&broker, "last.fifo");
    let middle = fifo_with(&broker, "middle.fifo", redriving("last.fifo", 3));
    let first = fifo_with(&broker, "first.fifo", redriving("middle.fifo", 1));
    let sent = first
        .send_message(&Outgoing::new(b"m").message_group("g"))
        .expect("accepted")
        .message_id();
    fail_all(&first);
    // It has been received once there; twice more here.
    assert_eq!(one(&middle, Duration::ZERO).receive_count(), 2);
    assert_eq!(one(&middle, Duration::ZERO).receive_count(), 3);
    assert_eq!(middle.receive(1, LONG), Ok(vec![]));
    let letter = one(&last, LONG);
    assert_eq!((letter.receive_count(), letter.message_id()), (4, sent));
    assert_eq!(letter.dead_letter_source(), Some("middle.fifo"));
}

// Moving back.

fn moved_back(broker: &Broker, destination: Option<&str>) -> u64 {
    let task = broker
        .start_message_move("dead.fifo", destination, None)
        .expect("a task");
    for _ in 0..1000 {
        broker.advance(broker.now());
        if task.status().status != MoveStatus::Running {
            break;
        }
    }
    assert_eq!(task.status().status, MoveStatus::Completed);
    task.status().moved
}

#[test]
fn messages_go_back_to_the_queues_they_came_from_in_the_order_of_their_groups() {
    for partitions in [1, 3] {
        let pair = pair_with(partitions, 1, QueueConfig::default());
        let other = fifo_with(&pair.broker, "other.fifo", redriving("dead.fifo", 1));
        let bodies: Vec<String> = (0..60).map(|n| format!("g{}-{n:02}", n % 4)).collect();
        send_to_groups(
            &pair.source,
            &bodies.iter().map(String::as_str).collect::<Vec<_>>(),
        );
        fail_all(&pair.source);
        send_to_groups(&other, &["x-1", "x-2"]);
        fail_all(&other);
        assert_eq!(states(&pair.dead), (62, 0, 0));
        assert_eq!(moved_back(&pair.broker, None), 62);
        assert_eq!(states(&pair.dead), (0, 0, 0));
        assert_eq!((states(&pair.source), states(&other)), ((60, 0, 0), (2, 0, 0)));
        let back = received(&pair.source);
        for group in 0..4 {
            let of_group: Vec<_> = back
                .iter()
                .filter(|text| text.starts_with(&format!("g{group}-")))
                .collect();
            assert!(of_group.is_sorted() && of_group.len() == 15, "{of_group:?}");
        }
        assert_eq!(received(&other), ["x-1", "x-2"]);
        assert_balanced(&pair.dead);
        assert_balanced(&pair.source);
    }
}

#[test]
fn moved_messages_are_new_messages() {
    let pair = pair(1);
    let attributes = [Attribute::string("kind", "fruit")];
    let message = Outgoing::new(b"apples")
        .attributes(&attributes)
        .message_group("g")
        .deduplication_id("1")
        .trace_header("Root=1");
    let sent = pair.source.send_message(&message).expect("accepted").message_id();
    fail_all(&pair.source);
    let old = one(&pair.dead, Duration::ZERO);
    pair.time.advance(secs(5));
    // Although its id was sent less than five minutes ago.
    assert_eq!(moved_back(&pair.broker, None), 1);
    let back = one(&pair.source, LONG);
    assert_ne!(back.message_id(), sent);
    assert_eq!((back.receive_count(), back.dead_letter_source()), (1, None));
    assert_eq!(
        (back.sent_at(), back.first_received_at()),
        (pair.broker.now(), pair.broker.now())
    );
    assert_eq!((back.body(), back.message_group()), (&b"apples"[..], Some("g")));
    assert_eq!(
        (back.trace_header(), back.attributes().next()),
        (Some("Root=1"), Some(attributes[0]))
    );
    assert!(back.sequence_number().is_some());
    assert_eq!(pair.dead.delete(&old.receipt_handle()), Ok(Deletion::Gone));
}

#[test]
fn moved_messages_can_fail_again() {
    let pair = pair(1);
    send_to_groups(&pair.source, &["g-1", "g-2"]);
    for _ in 0..3 {
        fail_all(&pair.source);
        assert_eq!(states(&pair.dead), (2, 0, 0));
        assert_eq!(moved_back(&pair.broker, None), 2);
        assert_eq!((states(&pair.source), states(&pair.dead)), ((2, 0, 0), (0, 0, 0)));
    }
    assert_eq!(received(&pair.source), ["g-1", "g-2"]);
}

#[test]
fn messages_go_to_a_queue_of_choice_of_the_same_type() {
    let pair = pair(1);
    let (other, _standard) = (fifo(&pair.broker, "other.fifo"), queue(&pair.broker, "standard"));
    send_to_groups(&pair.source, &["g-1"]);
    fail_all(&pair.source);
    send_to_groups(&pair.dead, &["g-2"]);
    assert_eq!(
        pair.broker
            .start_message_move("dead.fifo", Some("standard"), None)
            .err(),
        Some(StartMoveError::QueueType)
    );
    assert_eq!(moved_back(&pair.broker, Some("other.fifo")), 2);
    assert_eq!(received(&other), ["g-1", "g-2"]);
}

#[test]
fn a_message_of_unknown_source_stays_and_the_task_fails() {
    let pair = pair(1);
    send_to_groups(&pair.dead, &["g-1", "g-2"]);
    let task = pair
        .broker
        .start_message_move("dead.fifo", None, None)
        .expect("a task");
    pair.broker.advance(pair.broker.now());
    assert!(
        task.status().status == MoveStatus::Failed(MoveFailure::CouldNotDetermineMessageSource),
        "{:?}",
        task.status()
    );
    assert_eq!(states(&pair.dead), (2, 0, 0));
    assert_eq!(received(&pair.dead), ["g-1", "g-2"]);
}

#[test]
fn a_task_whose_destination_was_deleted_fails() {
    let pair = pair(1);
    fifo(&pair.broker, "other.fifo");
    send_to_groups(&pair.source, &["g-1"]);
    fail_all(&pair.source);
    let task = pair
        .broker
        .start_message_move("dead.fifo", Some("other.fifo"), None)
        .expect("a task");
    pair.broker.delete_queue("other.fifo").expect("there is one");
    pair.broker.advance(pair.broker.now());
    let status = task.status().status;
    assert!(
        matches!(status, MoveStatus::Failed(MoveFailure::DestinationDeleted)),
        "{status:?}"
    );
    assert_eq!(received(&pair.dead), ["g-1"]);
}

#[test]
fn what_is_in_flight_stays_and_what_it_blocks() {
    let pair = pair(1);
    send_to_groups(&pair.source, &["g-1", "g-2", "h-1"]);
    fail_all(&pair.source);
    let held = one(&pair.dead, LONG);
    assert_eq!(texts(std::slice::from_ref(&held)), ["g-1"]);
    assert_eq!(moved_back(&pair.broker, None), 1);
    assert_eq!((states(&pair.source), states(&pair.dead)), ((1, 0, 0), (1, 1, 0)));
    delete(&pair.dead, &held);
    assert_eq!(moved_back(&pair.broker, None), 1);
    assert_eq!(received(&pair.source), ["h-1", "g-2"]);
}

#[test]
fn the_rate_of_a_task_is_kept() {
    let pair = pair(1);
    send_to_groups(&pair.source, &["g-1", "g-2", "g-3", "g-4"]);
    fail_all(&pair.source);
    let task = pair
        .broker
        .start_message_move("dead.fifo", None, Some(1))
        .expect("a task");
    let mut moved = Vec::new();
    for _ in 0..4 {
        pair.broker.advance(pair.broker.now());
        moved.push(task.status().moved);
        pair.time.advance(secs(1));
    }
    assert_eq!(moved, [1, 2, 3, 4]);
    assert_eq!(task.status().status, MoveStatus::Completed);
    assert_eq!(received(&pair.source), ["g-1", "g-2", "g-3", "g-4"]);
}

#[test]
fn a_task_waits_for_a_destination_without_room() {
    let pair = pair(1);
    let large = "x".repeat(100_000);
    pair.source
        .send_message(&Outgoing::new(large.as_bytes()).message_group("g"))
        .expect("room");
    fail_all(&pair.source);
    let limited = |limit| QueueConfig {
        memory_limit: limit,
        fifo: Some(FifoConfig {
            content_based_deduplication: true,
            ..FifoConfig::default()
        }),
        ..redriving("dead.fifo", 1)
    };
    pair.broker
        .configure(&pair.source, limited(Some(64 << 10)))
        .expect("valid");
    let task = pair
        .broker
        .start_message_move("dead.fifo", None, None)
        .expect("a task");
    for _ in 0..3 {
        pair.broker.advance(pair.broker.now());
        assert_eq!(task.status().status, MoveStatus::Running);
        assert_eq!(states(&pair.dead), (1, 0, 0));
        pair.time.advance(secs(2));
    }
    pair.broker.configure(&pair.source, limited(None)).expect("valid");
    pair.broker.advance(pair.broker.now());
    assert_eq!(
        (task.status().status, task.status().moved),
        (MoveStatus::Completed, 1)
    );
    assert_eq!(received(&pair.source), [large]);
}

#[test]
fn the_destinations_delay_is_not_for_moved_messages() {
    let pair = pair(1);
    send_to_groups(&pair.source, &["g-1"]);
    fail_all(&pair.source);
    let config = QueueConfig {
        delay: secs(100),
        fifo: pair.source.config().fifo,
        ..redriving("dead.fifo", 1)
    };
    pair.broker.configure(&pair.source, config).expect("valid");
    assert_eq!(moved_back(&pair.broker, None), 1);
    let counts = pair.source.counts();
    assert_eq!((counts.visible, counts.delayed), (1, 0));
    assert_eq!(one(&pair.source, LONG).body(), b"g-1");
}

#[test]
fn what_is_delayed_in_the_source_of_a_task_stays() {
    let dead = QueueConfig {
        delay: secs(100),
        ..QueueConfig::default()
    };
    let pair = pair_with(1, 1, dead);
    fifo(&pair.broker, "other.fifo");
    send_to_groups(&pair.dead, &["g-delayed"]);
    send_to_groups(&pair.source, &["h-1"]);
    fail_all(&pair.source);
    assert_eq!(moved_back(&pair.broker, Some("other.fifo")), 1);
    let counts = pair.dead.counts();
    assert_eq!((counts.visible, counts.delayed), (0, 1));
    pair.time.advance(secs(100) + ms(1));
    assert_eq!(received(&pair.dead), ["g-delayed"]);
}

/// Receivers that let messages fail and tasks that bring them back, at the same time: none is lost and none is there twice.
#[test]
fn nothing_is_lost_between_two_queues_under_load() {
    const MESSAGES: usize = 400;
    let broker = Broker::builder().partitions(2).build().expect("a broker");
    let dead = fifo(&broker, "dead.fifo");
    let source = fifo_with(&broker, "source.fifo", redriving("dead.fifo", 1));
    let bodies: Vec<String> = (0..MESSAGES).map(|n| format!("g{}-{n}", n % 9)).collect();
    send_to_groups(&source, &bodies.iter().map(String::as_str).collect::<Vec<_>>());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..400 {
                    source.receive(10, Duration::ZERO).expect("valid");
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..200 {
                _ = broker.start_message_move("dead.fifo", None, None);
                broker.advance(broker.now());
            }
        });
    });
    let mut all = received(&source);
    all.extend(received(&dead));
    // Some may have gone to the other queue meanwhile.
    all.extend(received(&dead));
    all.sort();
    let mut expected = bodies;
    expected.sort();
    assert_eq!(all, expected);
    assert_balanced(&source);
    assert_balanced(&dead);
}
