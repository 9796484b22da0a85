//! FIFO queues: order within groups and among them. The cases that SQS was recorded with, by name, and a few of our own.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::common::{
    Random, assert_balanced, delete, drain, fifo, fifo_with, manual, ms, release, secs, send_to_groups,
    states, texts,
};
use epoq::{Broker, FifoConfig, Message, Outgoing, Queue, QueueConfig, Redrive};

fn receive(queue: &Queue, max: usize) -> Vec<Message> {
    queue.receive(max, secs(30)).expect("a valid receive")
}

#[test]
fn a_receive_takes_runs_of_groups_and_not_by_time() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    send_to_groups(&queue, &["g1-m1", "g2-m1", "g1-m2", "g1-m3"]);
    assert_eq!(texts(&receive(&queue, 10)), ["g1-m1", "g1-m2", "g1-m3", "g2-m1"]);
}

#[test]
fn the_rest_of_a_group_is_blocked_while_its_first_messages_are_in_flight() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    send_to_groups(&queue, &["g1-m1", "g1-m2", "g1-m3", "g1-m4", "g2-m1"]);
    assert_eq!(texts(&receive(&queue, 2)), ["g1-m1", "g1-m2"]);
    assert_eq!(texts(&receive(&queue, 1)), ["g2-m1"]);
    assert!(receive(&queue, 10).is_empty());
}

#[test]
fn deleting_all_that_was_received_unlocks_the_group_at_once() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    send_to_groups(
        &queue,
        &["g1-m1", "g2-m1", "g1-m2", "g2-m2", "g1-m3", "g1-m4", "g3-m1"],
    );
    let first = receive(&queue, 2);
    assert_eq!(texts(&first), ["g1-m1", "g1-m2"]);
    first.iter().for_each(|message| delete(&queue, message));
    // As AWS was recorded: by when the head of each group was sent.
    assert_eq!(
        texts(&receive(&queue, 10)),
        ["g2-m1", "g2-m2", "g1-m3", "g1-m4", "g3-m1"]
    );
}

#[test]
fn deleting_one_of_two_keeps_the_group_locked() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    send_to_groups(
        &queue,
        &["g1-m1", "g2-m1", "g1-m2", "g2-m2", "g1-m3", "g1-m4", "g3-m1"],
    );
    let first = receive(&queue, 2);
    delete(&queue, &first[0]);
    assert_eq!(texts(&receive(&queue, 10)), ["g2-m1", "g2-m2", "g3-m1"]);
    delete(&queue, &first[1]);
    assert_eq!(texts(&receive(&queue, 10)), ["g1-m3", "g1-m4"]);
}

fn three_in_flight_of_which_one_is_extended(extended: usize) -> Vec<String> {
    let (time, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    send_to_groups(&queue, &["g1-m1", "g1-m2", "g1-m3"]);
    let all = receive(&queue, 10);
    queue
        .change_visibility(&all[extended].receipt_handle(), secs(60))
        .expect("leased");
    time.advance(secs(31));
    texts(&receive(&queue, 10))
        .into_iter()
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_first_extended_blocks_all() {
    assert!(three_in_flight_of_which_one_is_extended(0).is_empty());
}

#[test]
fn the_second_extended_lets_the_first_go() {
    assert_eq!(three_in_flight_of_which_one_is_extended(1), ["g1-m1"]);
}

#[test]
fn the_third_extended_lets_the_first_two_go() {
    assert_eq!(three_in_flight_of_which_one_is_extended(2), ["g1-m1", "g1-m2"]);
}

#[test]
fn a_first_message_released_is_deliverable_alone() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    send_to_groups(&queue, &["g1-m1", "g1-m2", "g1-m3"]);
    let both = receive(&queue, 2);
    release(&queue, &both[0]);
    let again = receive(&queue, 10);
    assert_eq!(texts(&again), ["g1-m1"]);
    assert_eq!(again[0].receive_count(), 2);
    // The second is none the worse for it.
    delete(&queue, &both[1]);
    assert!(receive(&queue, 10).is_empty());
    delete(&queue, &again[0]);
    assert_eq!(texts(&receive(&queue, 10)), ["g1-m3"]);
}

#[test]
fn a_message_sent_to_a_locked_group_stays_blocked() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    send_to_groups(&queue, &["g1-m1"]);
    let first = receive(&queue, 10);
    send_to_groups(&queue, &["g1-m2"]);
    assert!(receive(&queue, 10).is_empty());
    delete(&queue, &first[0]);
    assert_eq!(texts(&receive(&queue, 10)), ["g1-m2"]);
}

#[test]
fn a_batch_whose_leases_end_comes_again_in_its_order() {
    let (time, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    let bodies: Vec<String> = (1..=9).map(|n| format!("g1-m{n}")).collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    send_to_groups(&queue, &bodies);
    for count in 1..4 {
        let all = receive(&queue, 10);
        assert_eq!(texts(&all), bodies);
        assert!(all.iter().all(|message| message.receive_count() == count));
        time.advance(secs(31));
    }
    assert_eq!(states(&queue), (0, 9, 0));
}

#[test]
fn groups_come_in_the_order_in_which_their_heads_became_available() {
    let (time, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    send_to_groups(&queue, &["g1-m1", "g1-m2", "g1-m3", "g1-m4", "g2-m1", "g3-m1"]);
    assert_eq!(
        texts(&receive(&queue, 5)),
        ["g1-m1", "g1-m2", "g1-m3", "g1-m4", "g2-m1"]
    );
    time.advance(secs(31));
    assert_eq!(
        texts(&receive(&queue, 10)),
        ["g3-m1", "g1-m1", "g1-m2", "g1-m3", "g1-m4", "g2-m1"]
    );
}

#[test]
fn groups_received_without_a_lease_go_to_the_back() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    send_to_groups(&queue, &["g1-m1", "g1-m2", "g2-m1", "g2-m2", "g3-m1"]);
    let shown = queue.receive(3, Duration::ZERO).expect("a valid receive");
    assert_eq!(texts(&shown), ["g1-m1", "g1-m2", "g2-m1"]);
    let again = receive(&queue, 10);
    assert_eq!(texts(&again), ["g3-m1", "g1-m1", "g1-m2", "g2-m1", "g2-m2"]);
    let counts: Vec<_> = again.iter().map(Message::receive_count).collect();
    assert_eq!(counts, [1, 2, 2, 2, 1]);
}

#[test]
fn a_receive_without_a_lease_shows_each_message_once() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    send_to_groups(&queue, &["g1-m1", "g2-m1", "g1-m2"]);
    for count in 1..4 {
        let shown = queue.receive(10, Duration::ZERO).expect("a valid receive");
        assert_eq!(texts(&shown), ["g1-m1", "g1-m2", "g2-m1"]);
        assert!(shown.iter().all(|message| message.receive_count() == count));
    }
}

#[test]
fn a_group_whose_first_message_was_released_comes_after_those_that_were_there() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    send_to_groups(&queue, &["g1-m1", "g2-m1"]);
    let first = receive(&queue, 1);
    release(&queue, &first[0]);
    assert_eq!(texts(&receive(&queue, 10)), ["g2-m1", "g1-m1"]);
}

#[test]
fn a_lease_that_ends_in_another_partition_is_noticed_by_the_first_receive() {
    for home in 0..4 {
        let (time, broker) = manual(4);
        let queue = fifo(&broker, "q.fifo");
        let away = broker.worker_at((home + 1) % 4).expect("a partition");
        send_to_groups(&queue, &["g1-m1"]);
        assert_eq!(receive(&queue, 10).len(), 1);
        drop(away);
        let _here = broker.worker_at(home).expect("a partition");
        send_to_groups(&queue, &["g2-m1"]);
        let second = receive(&queue, 1);
        delete(&queue, &second[0]);
        for _ in 0..20 {
            time.advance(secs(31));
            assert_eq!(texts(&receive(&queue, 10)), ["g1-m1"]);
        }
    }
}

#[test]
fn one_receive_fills_up_from_one_group_after_another() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    let bodies: Vec<String> = (0..25).map(|n| format!("g{}-m{n:02}", n % 5)).collect();
    send_to_groups(&queue, &bodies.iter().map(String::as_str).collect::<Vec<_>>());
    let all: Vec<_> = [(); 3].into_iter().map(|()| receive(&queue, 10)).collect();
    assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
    let groups: Vec<_> = all[0]
        .iter()
        .map(|m| m.message_group().unwrap().to_owned())
        .collect();
    assert_eq!(groups, [vec!["g0"; 5], vec!["g1"; 5]].concat());
}

#[test]
fn a_long_group_is_received_ten_at_a_time_in_order() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    let bodies: Vec<String> = (0..2_000).map(|n| format!("g-{n}")).collect();
    send_to_groups(&queue, &bodies.iter().map(String::as_str).collect::<Vec<_>>());
    let mut seen = Vec::new();
    loop {
        let some = receive(&queue, 10);
        if some.is_empty() {
            break;
        }
        assert!(receive(&queue, 10).is_empty());
        seen.extend(texts(&some).into_iter().map(str::to_owned));
        some.iter().for_each(|message| delete(&queue, message));
    }
    assert_eq!(seen, bodies);
    assert_eq!(states(&queue), (0, 0, 0));
}

#[test]
fn sequence_numbers_have_twenty_digits_and_grow_in_the_order_of_delivery() {
    let (time, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    let mut last = None;
    for round in 0..5 {
        let sent = queue
            .send_message(&Outgoing::new(format!("m{round}").as_bytes()).message_group("g"))
            .expect("accepted");
        let number = sent.sequence_number().expect("a FIFO queue");
        assert_eq!(number.to_string().len(), 20);
        assert!(last < Some(number), "{last:?} {number}");
        last = Some(number);
        let received = receive(&queue, 1);
        assert_eq!(received[0].sequence_number(), last);
        delete(&queue, &received[0]);
        // Long enough that the group is gone, every other time.
        time.advance(ms(1_500 * (round % 2)));
        queue.advance(broker.now());
    }
}

#[test]
fn groups_whose_messages_are_refused_do_not_stay() {
    let (time, broker) = manual(1);
    let config = QueueConfig {
        fifo: Some(FifoConfig {
            deduplication_memory: 0,
            ..FifoConfig::default()
        }),
        ..QueueConfig::default()
    };
    let queue = fifo_with(&broker, "q.fifo", config);
    for number in 0..100 {
        let name = format!("g{number}");
        let message = Outgoing::new(b"x").message_group(&name).deduplication_id(&name);
        assert!(queue.send_message(&message).is_err());
    }
    for _ in 0..2 {
        time.advance(secs(2));
        queue.advance(broker.now());
    }
    assert_eq!(queue.fifo_metrics().expect("a FIFO queue").groups, 0);
}

#[test]
fn dead_letters_are_not_delayed_by_the_queue_they_come_to() {
    let (_, broker) = manual(1);
    let delayed = QueueConfig {
        delay: secs(60),
        ..QueueConfig::default()
    };
    let dead = fifo_with(&broker, "dead.fifo", delayed);
    let config = QueueConfig {
        redrive: Some(Redrive::new("dead.fifo", 1)),
        ..QueueConfig::default()
    };
    let queue = fifo_with(&broker, "q.fifo", config);
    send_to_groups(&queue, &["g-m1"]);
    release(&queue, &receive(&queue, 1)[0]);
    assert!(receive(&queue, 1).is_empty());
    let counts = dead.counts();
    assert_eq!((counts.visible, counts.delayed), (1, 0));
    assert_eq!(texts(&receive(&dead, 1)), ["g-m1"]);
}

#[test]
fn sequence_numbers_go_on_over_a_purge() {
    let (_, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    let mut last = None;
    for round in 0..10 {
        let body = format!("m{}", round / 2);
        let message = Outgoing::new(body.as_bytes()).message_group("g");
        let number = queue.send_message(&message).expect("accepted").sequence_number();
        assert!(last < number, "{last:?} {number:?}");
        last = number;
        queue.purge().expect("there");
    }
}

/// Not in the square of them, which would be seconds here.
#[test]
fn many_leases_that_end_at_once_come_back_to_their_groups_at_once() {
    const GROUPS: usize = 100_000;
    let (time, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    let bodies: Vec<String> = (0..GROUPS).map(|n| format!("g{n}-m")).collect();
    send_to_groups(&queue, &bodies.iter().map(String::as_str).collect::<Vec<_>>());
    let took = (0..2).map(|_| {
        let mut received = 0;
        while received < GROUPS {
            received += receive(&queue, 10).len();
        }
        time.advance(secs(31));
        let began = std::time::Instant::now();
        queue.advance(broker.now());
        began.elapsed()
    });
    // Of the two, for the machine may have been busy with something else.
    let took = took.min().expect("two rounds");
    assert!(took < secs(2), "{took:?}");
    assert_eq!(states(&queue), (GROUPS as u64, 0, 0));
}

/// Group and number of a body like `3 14`.
fn numbers(message: &Message) -> (usize, u64) {
    let text = str::from_utf8(message.body()).expect("a text");
    let (group, number) = text.split_once(' ').expect("two numbers");
    (
        group.parse().expect("a number"),
        number.parse().expect("a number"),
    )
}

/// Workers that send to groups, receive, delete, release and let leases end, at the same time: each group's messages are first
/// received in the order in which they were sent, and no message while one before it in its group is in flight.
#[test]
fn order_holds_under_many_workers() {
    const GROUPS: u64 = 7;
    const MESSAGES: u64 = 3_000;
    for (workers, seed) in [(2, 1), (4, 2), (8, 3)] {
        let broker = Broker::builder()
            .partitions(4)
            .min_width(4)
            .seed(seed)
            .build()
            .expect("a broker");
        let queue = fifo(&broker, "q.fifo");
        // What was received last, and what is in flight, of each group.
        let groups: Vec<_> = (0..GROUPS)
            .map(|_| Mutex::new((0u64, HashMap::<u64, bool>::new())))
            .collect();
        let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for group in 0..GROUPS {
                let queue = &queue;
                scope.spawn(move || {
                    let name = format!("group-{group}");
                    for number in 1..=MESSAGES {
                        let body = format!("{group} {number}");
                        queue
                            .send_message(&Outgoing::new(body.as_bytes()).message_group(&name))
                            .expect("room");
                    }
                });
            }
            for worker in 0..workers {
                let (queue, groups, done, stop) = (&queue, &groups, &done, &stop);
                scope.spawn(move || {
                    let mut random = Random(seed * 100 + worker);
                    while !stop.load(Ordering::Relaxed) {
                        let received = queue
                            .receive(1 + random.below(10) as usize, secs(600))
                            .expect("a valid receive");
                        // Nothing that was not received together with it is in flight before it.
                        for message in &received {
                            let (group, number) = numbers(message);
                            let state = groups[group].lock().expect("no panic");
                            let before = |(&other, &flies): (&u64, &bool)| flies && other < number;
                            assert!(
                                !state.1.iter().any(before),
                                "{number} of {group} while {:?} are there",
                                state.1
                            );
                        }
                        for message in &received {
                            let (group, number) = numbers(message);
                            let mut state = groups[group].lock().expect("no panic");
                            if message.receive_count() == 1 {
                                assert_eq!(number, state.0 + 1, "of group {group}");
                                state.0 = number;
                            }
                            assert_ne!(state.1.insert(number, true), Some(true), "leased twice");
                        }
                        // The last first, so that nothing is released that stands before what is still in flight here.
                        for message in received.iter().rev() {
                            let (group, number) = numbers(message);
                            let mut state = groups[group].lock().expect("no panic");
                            if random.once_in(4) {
                                state.1.insert(number, false);
                                drop(state);
                                release(queue, message);
                            } else {
                                state.1.remove(&number);
                                drop(state);
                                delete(queue, message);
                                if done.fetch_add(1, Ordering::Relaxed) + 1 == GROUPS * MESSAGES {
                                    stop.store(true, Ordering::Relaxed);
                                }
                            }
                        }
                    }
                });
            }
        });
        assert!(drain(&queue).is_empty());
        assert_balanced(&queue);
        assert_eq!(queue.counts().deleted, GROUPS * MESSAGES);
    }
}
