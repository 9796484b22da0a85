//! Message move tasks, rule by rule (SQS's redrive).

use crate::common;
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::common::{bodies, drain, empty, hours, manual, ms, one, queue, secs};
use epoq::{
    Attribute, Broker, ListMovesError, ManualClock, MoveFailure, MoveNotRunning, MoveStatus, Outgoing, Queue,
    QueueConfig, Redrive, StartMoveError,
};

/// A queue whose messages go to `target` when they are received a second time.
fn source_of(broker: &Broker, name: &str, target: &str) -> Queue {
    let config = QueueConfig {
        redrive: Some(Redrive::new(target, 1)),
        ..QueueConfig::default()
    };
    broker.create_queue(name, config).expect("a valid queue")
}

/// Sends messages to `queue` and lets them go to its dead-letter queue.
fn fail(queue: &Queue, bodies: &[&[u8]]) {
    for body in bodies {
        queue.send(body).expect("room");
    }
    for _ in bodies {
        one(queue, Duration::ZERO);
    }
    while !queue.receive(10, Duration::ZERO).expect("a receive").is_empty() {}
    assert_eq!(queue.counts().visible, 0);
}

fn with_dead_letters(partitions: usize) -> (ManualClock, Broker, Queue, Queue) {
    let (time, broker) = manual(partitions);
    let letters = queue(&broker, "letters");
    let orders = source_of(&broker, "orders", "letters");
    (time, broker, orders, letters)
}

#[test]
fn messages_go_back_to_the_queue_they_came_from() {
    let (_time, broker, orders, letters) = with_dead_letters(2);
    let parcels = source_of(&broker, "parcels", "letters");
    fail(&orders, &[b"o1", b"o2"]);
    fail(&parcels, &[b"p1"]);
    assert_eq!(letters.counts().visible, 3);
    let task = broker.start_message_move("letters", None, None).expect("a task");
    assert_eq!(
        (task.status().status, task.status().to_move),
        (MoveStatus::Running, 3)
    );
    broker.advance(broker.now());
    let report = task.status();
    assert_eq!((report.status, report.moved), (MoveStatus::Completed, 3));
    assert_eq!((report.source.as_str(), report.destination), ("letters", None));
    assert_eq!(
        bodies(&drain(&orders)),
        BTreeSet::from([b"o1".to_vec(), b"o2".to_vec()])
    );
    assert_eq!(bodies(&drain(&parcels)), BTreeSet::from([b"p1".to_vec()]));
    assert_eq!(letters.counts().moved_out, 3);
    assert_eq!((orders.counts().moved_in, parcels.counts().moved_in), (2, 1));
    assert_eq!(letters.census(), (0, 0, 0));
}

#[test]
fn messages_go_to_a_queue_of_choice_even_if_they_came_from_none() {
    let (_time, broker, orders, letters) = with_dead_letters(2);
    let other = queue(&broker, "other");
    fail(&orders, &[b"failed"]);
    letters.send(b"sent here").expect("room");
    let task = broker
        .start_message_move("letters", Some("other"), None)
        .expect("a task");
    broker.advance(broker.now());
    assert_eq!(
        (task.status().status, task.status().moved),
        (MoveStatus::Completed, 2)
    );
    assert_eq!(task.status().destination.as_deref(), Some("other"));
    assert_eq!(empty(&other), 2);
}

#[test]
fn moved_messages_are_new_messages() {
    let (time, broker, orders, letters) = with_dead_letters(1);
    let attributes = [Attribute::string("kind", "fruit")];
    let message = Outgoing::new(b"apples")
        .attributes(&attributes)
        .message_group("tenant-7")
        .trace_header("Root=1");
    let sent = orders.send_message(&message).expect("room").message_id();
    one(&orders, Duration::ZERO);
    assert!(orders.receive(1, None).expect("a receive").is_empty());
    let letter = one(&letters, Duration::ZERO);
    assert_eq!((letter.message_id(), letter.receive_count()), (sent, 2));
    let old = letter.receipt_handle();
    time.advance(secs(5));
    let task = broker.start_message_move("letters", None, None).expect("a task");
    assert_eq!(task.step(broker.now()), None);
    let moved = one(&orders, secs(30));
    assert_ne!(moved.message_id(), sent);
    assert_eq!((moved.receive_count(), moved.dead_letter_source()), (1, None));
    assert_eq!(
        (moved.sent_at(), moved.first_received_at()),
        (broker.now(), broker.now())
    );
    assert_eq!(
        (moved.body(), moved.message_group()),
        (&b"apples"[..], Some("tenant-7"))
    );
    assert_eq!(
        (moved.trace_header(), moved.attributes().next()),
        (Some("Root=1"), Some(attributes[0]))
    );
    assert_eq!(letters.delete(&old), Ok(epoq::Deletion::Gone));
}

#[test]
fn retention_begins_anew_for_moved_messages() {
    let (time, broker, orders, _letters) = with_dead_letters(1);
    fail(&orders, &[b"1"]);
    time.advance(common::days(3));
    broker.start_message_move("letters", None, None).expect("a task");
    broker.advance(broker.now());
    time.advance(common::days(4) - ms(1));
    assert_eq!(one(&orders, Duration::ZERO).body(), b"1");
    time.advance(ms(1));
    assert_eq!(orders.receive(1, None), Ok(vec![]));
    assert_eq!(orders.counts().lapsed, 1);
}

#[test]
fn moved_messages_can_fail_again() {
    let (_time, broker, orders, letters) = with_dead_letters(1);
    fail(&orders, &[b"1"]);
    for _ in 0..3 {
        broker.start_message_move("letters", None, None).expect("a task");
        broker.advance(broker.now());
        assert_eq!((orders.counts().visible, letters.counts().visible), (1, 0));
        assert_eq!(one(&orders, Duration::ZERO).receive_count(), 1);
        assert_eq!(orders.receive(1, None), Ok(vec![]));
        let letter = one(&letters, Duration::ZERO);
        assert_eq!(
            (letter.receive_count(), letter.dead_letter_source()),
            (2, Some("orders"))
        );
    }
}

#[test]
fn a_report_says_what_was_asked_for_and_what_there_was_to_move() {
    let (time, broker, orders, letters) = with_dead_letters(1);
    let other = queue(&broker, "other");
    fail(&orders, &[b"1", b"2"]);
    time.advance(secs(7));
    let task = broker
        .start_message_move("letters", Some("other"), Some(1))
        .expect("a task");
    letters.send(b"came later").expect("room");
    let started = broker.now();
    for moved in 1..=3 {
        task.step(broker.now());
        let report = task.status();
        assert_eq!(
            (report.source.as_str(), report.destination.as_deref(), report.rate),
            ("letters", Some("other"), Some(1))
        );
        assert_eq!((report.started_at, report.to_move), (started, 2));
        assert_eq!(report.moved, moved);
        let listed = broker.message_moves("letters", 1, 0).expect("a list");
        assert_eq!(listed, [report]);
        time.advance(secs(1));
    }
    assert_eq!(task.status().status, MoveStatus::Completed);
    assert_eq!(empty(&other), 3);
}

#[test]
fn large_bodies_move_whole() {
    let (_time, broker, orders, letters) = with_dead_letters(2);
    let large = common::numbered(7, 100_000);
    fail(&orders, &[&large, b"small"]);
    let task = broker.start_message_move("letters", None, None).expect("a task");
    broker.advance(broker.now());
    assert_eq!(task.status().status, MoveStatus::Completed);
    assert_eq!(
        bodies(&drain(&orders)),
        BTreeSet::from([large, b"small".to_vec()])
    );
    assert_eq!(letters.census(), (0, 0, 0));
}

#[test]
fn the_oldest_messages_go_first() {
    let (time, broker, orders, letters) = with_dead_letters(2);
    // One after another, on the home partitions of two threads.
    for number in 0..20u64 {
        let (orders, time) = (orders.clone(), time.clone());
        let send = move || {
            time.advance(ms(20));
            fail(&orders, &[&common::numbered(number, 8)]);
        };
        if number % 2 == 0 {
            common::on_thread(send)
        } else {
            send()
        }
    }
    assert_eq!(letters.counts().visible, 20);
    let task = broker
        .start_message_move("letters", None, Some(1))
        .expect("a task");
    let mut order = Vec::new();
    while task.step(broker.now()).is_some() {
        time.advance(secs(1));
        order.extend(
            drain(&orders)
                .iter()
                .map(|message| common::number_of(message.body())),
        );
    }
    order.extend(
        drain(&orders)
            .iter()
            .map(|message| common::number_of(message.body())),
    );
    assert_eq!(order.len(), 20);
    // Roughly.
    for (at, &number) in order.iter().enumerate() {
        assert!(number.abs_diff(at as u64) <= 2, "{order:?}");
    }
}

#[test]
fn one_partition_is_moved_in_its_order() {
    let (_time, broker, orders, letters) = with_dead_letters(1);
    let all: Vec<_> = (0..600).map(|number| common::numbered(number, 8)).collect();
    fail(&orders, &all.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let task = broker.start_message_move("letters", None, None).expect("a task");
    while task.step(broker.now()).is_some() {}
    assert_eq!(letters.census(), (0, 0, 0));
    let moved: Vec<_> = drain(&orders)
        .iter()
        .map(|message| message.body().to_vec())
        .collect();
    assert_eq!(moved, all);
}

#[test]
fn four_messages_at_one_a_second_take_three_seconds() {
    let (time, broker, orders, _letters) = with_dead_letters(2);
    fail(&orders, &[b"1", b"2", b"3", b"4"]);
    let task = broker
        .start_message_move("letters", None, Some(1))
        .expect("a task");
    let began = broker.now();
    let mut calls = 0;
    while let Some(next) = task.step(broker.now()) {
        assert!(task.status().moved <= 1 + broker.now().since(began).as_secs());
        // However often it is stepped.
        time.advance(next.since(broker.now()).min(ms(100)));
        calls += 1;
        assert!(calls < 100);
    }
    assert_eq!(
        (task.status().status, task.status().moved),
        (MoveStatus::Completed, 4)
    );
    assert_eq!(broker.now().since(began), secs(3));
}

#[test]
fn the_rate_is_kept_by_whoever_calls_seldom_and_by_whoever_calls_often() {
    for (rate, pause) in [(500, 2), (500, 50), (500, 1000), (7, 1), (30, 100), (1, 5000)] {
        let (time, broker, orders, _letters) = with_dead_letters(1);
        let many: Vec<_> = (0..200u64).map(|number| number.to_le_bytes()).collect();
        let many: Vec<&[u8]> = many.iter().map(<[u8; 8]>::as_slice).collect();
        fail(&orders, &many);
        let task = broker
            .start_message_move("letters", None, Some(rate))
            .expect("a task");
        let began = broker.now();
        let mut steps = 0;
        let mut before = 0;
        while task.step(broker.now()).is_some() && steps < 500 {
            let (moved, passed) = (task.status().moved, broker.now().since(began).as_millis() as u64);
            assert!(
                moved <= 1 + u64::from(rate) * passed / 1000,
                "{rate} {pause}: {moved} in {passed}"
            );
            // Never more than a tenth of a second's worth at once.
            assert!(moved - before <= 1 + u64::from(rate) * (pause + 100) / 1000);
            assert!(moved - before <= 1 + u64::from(rate) / 10);
            before = moved;
            time.advance(ms(pause));
            steps += 1;
        }
        if rate == 500 && pause <= 50 {
            let took = broker.now().since(began);
            assert!(took <= ms(500), "{took:?}");
        }
    }
}

#[test]
fn a_step_moves_a_bounded_number_and_the_next_goes_on() {
    let (_time, broker, orders, letters) = with_dead_letters(2);
    let many: Vec<_> = (0..250u64).map(|number| number.to_le_bytes()).collect();
    let many: Vec<&[u8]> = many.iter().map(<[u8; 8]>::as_slice).collect();
    fail(&orders, &many);
    let task = broker.start_message_move("letters", None, None).expect("a task");
    for moved in [100, 200] {
        assert_eq!(task.step(broker.now()), Some(broker.now()));
        assert_eq!(
            (task.status().status, task.status().moved),
            (MoveStatus::Running, moved)
        );
        assert_eq!(letters.counts().visible, 250 - moved);
    }
    assert_eq!(task.step(broker.now()), None);
    assert_eq!(
        (task.status().status, task.status().moved),
        (MoveStatus::Completed, 250)
    );
    assert_eq!(empty(&orders), 250);
}

#[test]
fn the_source_must_be_somebodys_dead_letter_queue() {
    let (_time, broker) = manual(1);
    queue(&broker, "plain");
    let start = |source, destination, rate| broker.start_message_move(source, destination, rate).err();
    assert_eq!(
        start("plain", None, None),
        Some(StartMoveError::NotADeadLetterQueue)
    );
    assert_eq!(start("nowhere", None, None), Some(StartMoveError::NoSuchSource));
    source_of(&broker, "orders", "plain");
    assert_eq!(
        start("plain", Some("nowhere"), None),
        Some(StartMoveError::NoSuchDestination)
    );
    assert_eq!(
        start("plain", Some("plain"), None),
        Some(StartMoveError::SameQueue)
    );
    for given in [0, 501, u32::MAX] {
        assert_eq!(
            start("plain", None, Some(given)),
            Some(StartMoveError::Rate { given, limit: 500 })
        );
    }
    assert_eq!(broker.message_moves("plain", 10, 0).expect("a list"), []);
    assert_eq!(start("plain", None, Some(500)), None);
}

#[test]
fn one_task_runs_per_source() {
    let (_time, broker, _orders, _letters) = with_dead_letters(1);
    let first = broker.start_message_move("letters", None, None).expect("a task");
    let again = broker.start_message_move("letters", None, None);
    assert_eq!(again.err(), Some(StartMoveError::AlreadyRunning));
    assert_eq!(first.step(broker.now()), None);
    broker
        .start_message_move("letters", None, None)
        .expect("the first has completed");
}

#[test]
fn a_hundred_tasks_run_per_broker() {
    let (_time, broker) = manual(1);
    for number in 0..=100 {
        queue(&broker, &format!("letters-{number}"));
        source_of(&broker, &format!("orders-{number}"), &format!("letters-{number}"));
    }
    for number in 0..100 {
        broker
            .start_message_move(&format!("letters-{number}"), None, None)
            .expect("a task");
    }
    let one_more = || broker.start_message_move("letters-100", None, None);
    assert_eq!(
        one_more().err(),
        Some(StartMoveError::TooManyRunning { limit: 100 })
    );
    broker.advance(broker.now());
    one_more().expect("the others have completed");
}

#[test]
fn a_message_from_nowhere_fails_a_task_without_destination() {
    let (time, broker, orders, letters) = with_dead_letters(1);
    fail(&orders, &[b"failed"]);
    time.advance(ms(1));
    letters.send(b"sent here").expect("room");
    let task = broker.start_message_move("letters", None, None).expect("a task");
    assert_eq!(task.step(broker.now()), None);
    let failed = MoveStatus::Failed(MoveFailure::CouldNotDetermineMessageSource);
    assert_eq!((task.status().status, task.status().moved), (failed, 1));
    assert_eq!(one(&letters, secs(30)).body(), b"sent here");
    assert_eq!(empty(&orders), 1);
}

#[test]
fn a_task_fails_when_its_destination_is_deleted() {
    let (time, broker, orders, letters) = with_dead_letters(1);
    let other = queue(&broker, "other");
    fail(&orders, &[b"1", b"2"]);
    let task = broker
        .start_message_move("letters", Some("other"), Some(1))
        .expect("a task");
    assert!(task.step(broker.now()).is_some());
    assert_eq!(empty(&other), 1);
    broker.delete_queue("other").expect("it is there");
    // Another one of that name is not the destination.
    let namesake = queue(&broker, "other");
    time.advance(secs(1));
    assert_eq!(task.step(broker.now()), None);
    assert_eq!(
        task.status().status,
        MoveStatus::Failed(MoveFailure::DestinationDeleted)
    );
    assert_eq!((letters.counts().visible, namesake.counts().visible), (1, 0));
    assert_eq!(empty(&letters), 1);
}

#[test]
fn a_task_fails_when_the_queue_a_message_came_from_is_deleted() {
    let (_time, broker, orders, letters) = with_dead_letters(1);
    source_of(&broker, "parcels", "letters");
    fail(&orders, &[b"1"]);
    broker.delete_queue("orders").expect("it is there");
    let task = broker.start_message_move("letters", None, None).expect("a task");
    broker.advance(broker.now());
    assert_eq!(
        task.status().status,
        MoveStatus::Failed(MoveFailure::DestinationDeleted)
    );
    assert_eq!(empty(&letters), 1);
}

#[test]
fn a_task_fails_when_its_source_is_deleted() {
    let (_time, broker, orders, _letters) = with_dead_letters(1);
    fail(&orders, &[b"1"]);
    let task = broker.start_message_move("letters", None, None).expect("a task");
    broker.delete_queue("letters").expect("it is there");
    assert_eq!(
        broker.message_moves("letters", 1, 0),
        Err(ListMovesError::NoSuchSource)
    );
    broker.advance(broker.now());
    assert_eq!(
        task.status().status,
        MoveStatus::Failed(MoveFailure::SourceDeleted)
    );
}

#[test]
fn a_full_destination_is_tried_again_and_nothing_is_lost() {
    let (time, broker, orders, letters) = with_dead_letters(1);
    let config = QueueConfig {
        memory_limit: Some(128 * 1024),
        ..QueueConfig::default()
    };
    let small = broker.create_queue("small", config).expect("a queue");
    let many: Vec<_> = (0..30).map(|number| common::numbered(number, 20_000)).collect();
    let many: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
    fail(&orders, &many);
    let task = broker
        .start_message_move("letters", Some("small"), None)
        .expect("a task");
    let mut received = BTreeSet::new();
    let mut met_full = false;
    for round in 0..200 {
        let Some(next) = task.step(broker.now()) else {
            break;
        };
        assert_eq!(task.status().status, MoveStatus::Running);
        assert_eq!(letters.counts().visible + small.counts().moved_in, 30);
        met_full |= next > broker.now();
        assert!(next.since(broker.now()) <= secs(1));
        if round % 3 == 2 {
            for message in drain(&small) {
                assert!(received.insert(common::number_of(message.body())), "moved twice");
                small.delete(&message.receipt_handle()).expect("deleted");
            }
        }
        time.advance(secs(1));
    }
    assert!(met_full);
    assert_eq!(task.status().status, MoveStatus::Completed);
    received.extend(
        drain(&small)
            .iter()
            .map(|message| common::number_of(message.body())),
    );
    assert_eq!(received, (0..30).collect());
}

#[test]
fn a_task_runs_for_thirty_six_hours_at_most() {
    let (time, broker, orders, letters) = with_dead_letters(1);
    fail(&orders, &[b"1", b"2"]);
    let task = broker
        .start_message_move("letters", None, Some(1))
        .expect("a task");
    assert!(task.step(broker.now()).is_some());
    time.advance(hours(36));
    assert_eq!(task.step(broker.now()), None);
    let reason = MoveFailure::TookTooLong { limit: hours(36) };
    assert_eq!(
        (task.status().status, task.status().moved),
        (MoveStatus::Failed(reason), 1)
    );
    assert_eq!(empty(&letters), 1);
}

#[test]
fn cancelling_leaves_what_is_moved_where_it_is() {
    let (time, broker, orders, letters) = with_dead_letters(1);
    fail(&orders, &[b"1", b"2", b"3"]);
    let task = broker
        .start_message_move("letters", None, Some(1))
        .expect("a task");
    broker.advance(broker.now());
    let same = broker.message_move(task.id()).expect("it is remembered");
    assert_eq!(same.cancel(), Ok(1));
    assert_eq!(task.status().status, MoveStatus::Cancelled);
    assert_eq!(task.cancel(), Err(MoveNotRunning));
    time.advance(secs(10));
    broker.advance(broker.now());
    assert_eq!((task.status().moved, letters.counts().visible), (1, 2));
    assert_eq!(empty(&orders), 1);
    broker
        .start_message_move("letters", None, None)
        .expect("it no longer runs");
    let done = broker.start_message_move("letters", None, None);
    assert_eq!(done.err(), Some(StartMoveError::AlreadyRunning));
}

#[test]
fn only_running_tasks_can_be_cancelled() {
    let (_time, broker, _orders, _letters) = with_dead_letters(1);
    let task = broker.start_message_move("letters", None, None).expect("a task");
    broker.advance(broker.now());
    assert_eq!(
        (task.status().status, task.cancel()),
        (MoveStatus::Completed, Err(MoveNotRunning))
    );
}

#[test]
fn tasks_are_listed_newest_first_and_ten_are_remembered() {
    let (time, broker, _orders, _letters) = with_dead_letters(1);
    let mut ids = Vec::new();
    for _ in 0..15 {
        time.advance(secs(1));
        let task = broker.start_message_move("letters", None, None).expect("a task");
        ids.insert(0, task.id());
        broker.advance(broker.now());
    }
    let list = |max, skip| broker.message_moves("letters", max, skip);
    let listed = |max, skip| -> Vec<_> {
        list(max, skip)
            .expect("a list")
            .iter()
            .map(|report| report.id)
            .collect()
    };
    assert_eq!(listed(10, 0), ids[..10]);
    assert_eq!(listed(3, 0), ids[..3]);
    assert_eq!(listed(3, 8), ids[8..10]);
    assert_eq!(listed(1, 10), []);
    assert_eq!(list(0, 0), Err(ListMovesError::Max { given: 0, limit: 10 }));
    assert_eq!(list(11, 0), Err(ListMovesError::Max { given: 11, limit: 10 }));
    let newest = list(1, 0).expect("a list").remove(0);
    assert_eq!((newest.started_at, newest.to_move), (broker.now(), 0));
    assert!(broker.message_move(ids[14]).is_none());
    assert_eq!(broker.message_move(ids[9]).map(|task| task.id()), Some(ids[9]));
}

#[test]
fn leased_and_delayed_messages_stay() {
    let (time, broker, orders, letters) = with_dead_letters(1);
    fail(&orders, &[b"1", b"2"]);
    let leased = one(&letters, secs(30));
    letters
        .send_message(&Outgoing::new(b"later").delay(secs(60)))
        .expect("room");
    let task = broker.start_message_move("letters", None, None).expect("a task");
    broker.advance(broker.now());
    assert_eq!(
        (task.status().status, task.status().moved),
        (MoveStatus::Completed, 1)
    );
    assert_eq!(letters.census(), (0, 1, 1));
    // A lease that is over counts as visible, whoever notices.
    time.advance(secs(31));
    let task = broker.start_message_move("letters", None, None).expect("a task");
    task.step(broker.now());
    assert_eq!(task.status().moved, 1);
    assert_eq!(letters.delete(&leased.receipt_handle()), Ok(epoq::Deletion::Gone));
}

#[test]
fn messages_past_their_retention_are_not_moved() {
    let (time, broker, orders, letters) = with_dead_letters(1);
    fail(&orders, &[b"1"]);
    time.advance(common::days(4));
    let task = broker.start_message_move("letters", None, None).expect("a task");
    task.step(broker.now());
    assert_eq!(
        (task.status().status, task.status().moved),
        (MoveStatus::Completed, 0)
    );
    assert_eq!((letters.counts().lapsed, orders.counts().moved_in), (1, 0));
}

#[test]
fn a_task_wakes_who_waits_at_the_destination() {
    let broker = Broker::builder().partitions(2).build().expect("a broker");
    let _letters = queue(&broker, "letters");
    let orders = source_of(&broker, "orders", "letters");
    fail(&orders, &[b"again"]);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| orders.receive_wait(1, None, secs(20)));
        thread::sleep(ms(50));
        broker.start_message_move("letters", None, None).expect("a task");
        broker.advance(broker.now());
        let received = waiter.join().expect("no panic").expect("a queue");
        assert_eq!(received[0].body(), b"again");
    });
}

#[test]
fn advance_also_ends_leases_and_says_when_to_come_again() {
    let (time, broker, orders, letters) = with_dead_letters(2);
    assert_eq!(broker.advance(broker.now()), None);
    fail(&orders, &[b"1", b"2"]);
    orders.send(b"3").expect("room");
    one(&orders, secs(30));
    broker
        .start_message_move("letters", None, Some(1))
        .expect("a task");
    assert_eq!(
        broker.advance(broker.now()).map(|next| next.since(broker.now())),
        Some(secs(1))
    );
    time.advance(secs(1));
    // The lease of message 3.
    let next = broker.advance(broker.now()).expect("a lease");
    assert!((secs(28)..=ms(29_002)).contains(&next.since(broker.now())));
    assert_eq!(letters.counts().visible, 0);
    time.advance(secs(40));
    broker.advance(broker.now());
    assert_eq!(orders.counts().visible, 3);
}

#[test]
fn moments_that_the_clock_has_not_reached_count_as_the_clocks() {
    let (_time, broker, orders, _letters) = with_dead_letters(1);
    fail(&orders, &[b"1", b"2", b"3"]);
    let task = broker
        .start_message_move("letters", None, Some(1))
        .expect("a task");
    for moment in [epoq::Millis::MAX, epoq::Millis::NEVER, epoq::Millis::new(0)] {
        task.step(moment);
        broker.advance(moment);
    }
    assert_eq!(
        (task.status().status, task.status().moved),
        (MoveStatus::Running, 1)
    );
}

/// What came into the source is in exactly one of the queues at each moment, whoever receives, deletes, steps and cancels.
#[test]
fn nothing_is_lost_or_doubled_while_everybody_works() {
    let (_time, broker) = manual(3);
    let letters = queue(&broker, "letters");
    let orders = source_of(&broker, "orders", "letters");
    let many: Vec<_> = (0..3000u64).map(|number| number.to_le_bytes()).collect();
    let many: Vec<&[u8]> = many.iter().map(<[u8; 8]>::as_slice).collect();
    for part in many.chunks(500) {
        let (orders, part) = (
            orders.clone(),
            part.iter().map(|body| body.to_vec()).collect::<Vec<_>>(),
        );
        common::on_thread(move || {
            fail(&orders, &part.iter().map(Vec::as_slice).collect::<Vec<_>>());
        });
    }
    assert_eq!(letters.counts().visible, 3000);
    let done = AtomicBool::new(false);
    let mut received = Vec::new();
    thread::scope(|scope| {
        let movers: Vec<_> = (0..2)
            .map(|mover| {
                let (broker, done) = (&broker, &done);
                scope.spawn(move || {
                    let mut turns = 0;
                    while !done.load(Ordering::Relaxed) {
                        if let Ok(task) = broker.start_message_move("letters", None, None) {
                            turns += 1;
                            if turns % 3 == mover {
                                let _ = task.cancel();
                            }
                        }
                        broker.advance(broker.now());
                    }
                })
            })
            .collect();
        let consumers: Vec<_> = [&letters, &orders]
            .map(|queue| {
                let done = &done;
                scope.spawn(move || {
                    let mut received = Vec::new();
                    while !done.load(Ordering::Relaxed) {
                        for message in queue.receive(3, common::LONG).expect("a receive") {
                            let number = u64::from_le_bytes(message.body().try_into().expect("eight"));
                            assert_eq!(
                                queue.delete(&message.receipt_handle()),
                                Ok(epoq::Deletion::Deleted)
                            );
                            received.push(number);
                        }
                    }
                    received
                })
            })
            .into();
        let all_deleted = || letters.counts().deleted + orders.counts().deleted == 3000;
        common::wait_until(secs(60), || format!("{letters:?} {orders:?}"), all_deleted);
        done.store(true, Ordering::Relaxed);
        movers
            .into_iter()
            .for_each(|mover| mover.join().expect("no panic"));
        for consumer in consumers {
            received.extend(consumer.join().expect("no panic"));
        }
    });
    received.sort_unstable();
    assert_eq!(received, (0..3000).collect::<Vec<_>>());
    for queue in [&letters, &orders] {
        assert_eq!(queue.census(), (0, 0, 0));
    }
    assert_eq!(letters.counts().moved_out, orders.counts().moved_in);
}
