//! Workers and turns: many operations under one pin, and which worker a call uses.

use std::{cell::RefCell, collections::BTreeSet, sync::mpsc, thread, time::Duration};

use crate::common::{LONG, drain, empty, manual, ms, number_of, numbered, on_thread, one, queue, secs};
use epoq::{Deletion, Millis, Queue, VisibilityChange};

#[test]
fn a_turn_does_all_that_a_queue_does() {
    let (time, broker) = manual(2);
    let queue = queue(&broker, "all");
    let worker = broker.worker().expect("a worker");
    time.advance(ms(5));
    worker.turn(|turn| {
        assert_eq!(turn.now(), Millis::new(5));
        let sent = turn.send(&queue, b"one").expect("room");
        let batch = turn
            .send_batch(&queue, &[b"two", b"three" as &[u8]])
            .expect("valid");
        let ids: BTreeSet<_> = [sent, batch[0].expect("room"), batch[1].expect("room")]
            .iter()
            .map(|sent| sent.message_id())
            .collect();
        let received = turn.receive(&queue, 10, secs(30)).expect("valid");
        assert_eq!((received.len(), received.is_empty()), (3, false));
        assert_eq!(received.iter().len(), 3);
        let got: BTreeSet<_> = received.iter().map(|delivery| delivery.message_id()).collect();
        assert_eq!(got, ids);
        assert!(received.get(3).is_none());
        let handles: Vec<_> = received.iter().map(|d| d.receipt_handle()).collect();
        for delivery in received.iter() {
            assert_eq!(delivery.receive_count(), 1);
            assert_eq!(delivery.sent_at(), Millis::new(5));
            assert_eq!(delivery.first_received_at(), Millis::new(5));
            let owned = delivery.to_message();
            assert_eq!(owned.body(), delivery.body());
            assert_eq!(owned.receipt_handle(), delivery.receipt_handle());
        }
        assert_eq!(
            turn.change_visibility(&queue, &handles[0], secs(60)),
            Ok(VisibilityChange::Changed)
        );
        let changes = [(handles[1], Duration::ZERO), (handles[2], secs(1))];
        let changed = turn.change_visibility_batch(&queue, &changes).expect("valid");
        assert_eq!(&changed[..], [Ok(VisibilityChange::Changed); 2]);
        assert_eq!(turn.delete(&queue, &handles[0]), Ok(Deletion::Deleted));
        let deleted = turn.delete_batch(&queue, &handles[1..]).expect("valid");
        assert_eq!(&deleted[..], [Ok(Deletion::Deleted); 2]);
    });
    assert_eq!(queue.census(), (0, 0, 0));
}

#[test]
fn a_turn_keeps_its_moment_until_it_is_refreshed() {
    let (time, broker) = manual(1);
    let queue = queue(&broker, "moment");
    let worker = broker.worker().expect("a worker");
    let mut turn = worker.begin();
    // The clock is read when first needed.
    time.advance(ms(10));
    assert_eq!(turn.now(), Millis::new(10));
    time.advance(ms(10));
    assert_eq!(turn.now(), Millis::new(10));
    turn.send(&queue, b"m").expect("room");
    let handle = {
        let received = turn.receive(&queue, 1, ms(5)).expect("valid");
        let delivery = received.get(0).expect("one");
        assert_eq!(delivery.sent_at(), Millis::new(10));
        delivery.receipt_handle()
    };
    // For this turn no time has passed, although the lease is over for everybody else.
    assert!(turn.receive(&queue, 1, ms(5)).expect("valid").is_empty());
    turn.refresh();
    assert_eq!(turn.now(), Millis::new(20));
    let received = turn.receive(&queue, 1, ms(5)).expect("valid");
    assert_eq!(received.get(0).expect("it came back").receive_count(), 2);
    assert_eq!(turn.delete(&queue, &handle), Ok(Deletion::ReceivedAgain));
}

#[test]
fn a_turn_without_need_of_time_does_not_read_the_clock() {
    let (time, broker) = manual(1);
    let queue = queue(&broker, "timeless");
    queue.send(b"m").expect("room");
    let handle = one(&queue, secs(1)).receipt_handle();
    let worker = broker.worker().expect("a worker");
    worker.turn(|turn| {
        assert_eq!(turn.delete(&queue, &handle), Ok(Deletion::Deleted));
        time.advance(secs(9));
        assert_eq!(turn.now(), Millis::new(9000));
    });
}

#[test]
fn calls_on_the_queue_within_a_turn() {
    let (time, broker) = manual(2);
    let queue = queue(&broker, "nested");
    let worker = broker.worker().expect("a worker");
    worker.turn(|turn| {
        turn.send(&queue, b"outer").expect("room");
        queue.send(b"inner").expect("room");
        let outer = turn.receive(&queue, 1, secs(1)).expect("valid");
        let inner = one(&queue, secs(1));
        assert_ne!(outer.get(0).expect("one").body(), inner.body());
        // The inner call reads the clock anew.
        time.advance(secs(2));
        assert!(turn.receive(&queue, 10, secs(1)).expect("valid").is_empty());
        assert_eq!(queue.receive(10, secs(1)).expect("valid").len(), 2);
        // A turn within the turn, of the same worker.
        worker.turn(|deeper| {
            assert_eq!(deeper.now(), Millis::new(2000));
            assert!(deeper.receive(&queue, 10, secs(1)).expect("valid").is_empty());
        });
        assert_eq!(outer.get(0).expect("still there").body(), b"outer");
    });
    time.advance(secs(5));
    assert_eq!(empty(&queue), 2);
}

#[test]
fn two_workers_of_one_thread_can_have_turns_at_once() {
    let (_time, broker) = manual(2);
    let queue = queue(&broker, "two");
    let (one, two) = (
        broker.worker_at(0).expect("a worker"),
        broker.worker_at(1).expect("a worker"),
    );
    let (first, second) = (one.begin(), two.begin());
    first.send(&queue, b"zero").expect("room");
    second.send(&queue, b"one").expect("room");
    // Each finds its own first.
    assert_eq!(
        first
            .receive(&queue, 1, LONG)
            .expect("valid")
            .get(0)
            .expect("one")
            .body(),
        b"zero"
    );
    assert_eq!(
        second
            .receive(&queue, 1, LONG)
            .expect("valid")
            .get(0)
            .expect("one")
            .body(),
        b"one"
    );
    drop(first);
    assert!(second.receive(&queue, 1, LONG).expect("valid").is_empty());
}

/// Bodies are readable to the turn's end, whatever becomes of their messages and their memory.
#[test]
fn bodies_outlive_their_messages_within_the_turn() {
    let (_time, broker) = manual(1);
    let queue = queue(&broker, "bodies");
    let worker = broker.worker().expect("a worker");
    for length in [8, 64, 1024, 1025, 100_000] {
        for number in 0..300 {
            queue.send(&numbered(number, length)).expect("room");
        }
        worker.turn(|turn| {
            let mut held = Vec::new();
            for _ in 0..30 {
                held.push(turn.receive(&queue, 10, LONG).expect("valid"));
            }
            for received in &held {
                for delivery in received.iter() {
                    let deleted = turn.delete(&queue, &delivery.receipt_handle());
                    assert_eq!(deleted, Ok(Deletion::Deleted));
                }
            }
            // Another thread presses for the memory to be used again.
            let (queue, broker) = (&queue, &broker);
            thread::scope(|threads| {
                let pressure = threads.spawn(move || {
                    let worker = broker.worker().expect("a worker");
                    for round in 0..200 {
                        worker.turn(|turn| {
                            for number in 0..10 {
                                let body = numbered(1_000_000 + round * 10 + number, length);
                                turn.send(queue, &body).expect("room");
                            }
                            for delivery in turn.receive(queue, 10, LONG).expect("valid").iter() {
                                assert!(number_of(delivery.body()) >= 1_000_000);
                                turn.delete(queue, &delivery.receipt_handle()).expect("valid");
                            }
                        });
                    }
                });
                pressure.join().expect("no panic");
            });
            let numbers: BTreeSet<_> = held
                .iter()
                .flat_map(|received| received.iter().map(|d| number_of(d.body())).collect::<Vec<_>>())
                .collect();
            assert_eq!(numbers, (0..300).collect());
        });
        assert_eq!(empty(&queue), 0);
    }
}

#[test]
fn bodies_outlive_their_queue_within_the_turn() {
    let (_time, broker) = manual(1);
    let worker = broker.worker().expect("a worker");
    for length in [8, 1024, 5000] {
        let doomed = queue(&broker, "doomed");
        for number in 0..10 {
            doomed.send(&numbered(number, length)).expect("room");
        }
        worker.turn(|turn| {
            let received = turn.receive(&doomed, 10, LONG).expect("valid");
            let name = doomed.name().to_string();
            on_thread({
                let broker = broker.clone();
                move || broker.delete_queue(&name).expect("it is there")
            });
            let numbers: BTreeSet<_> = received.iter().map(|d| number_of(d.body())).collect();
            assert_eq!(numbers, (0..10).collect());
        });
    }
}

#[test]
fn calls_on_a_queue_use_the_threads_worker_registered_last() {
    let (_time, broker) = manual(4);
    let queue = queue(&broker, "homes");
    let first = broker.worker_at(0).expect("a worker");
    let second = broker.worker_at(3).expect("a worker");
    // Whoever calls that partition home finds the message before any other.
    let is_found_at_home_by = |worker: &epoq::Worker, body: &[u8]| {
        worker.turn(|turn| {
            turn.send(&queue, b"decoy").expect("room");
            let received = turn.receive(&queue, 1, LONG).expect("valid");
            received.get(0).expect("two are there").body() == body
        })
    };
    queue.send(b"at 3").expect("room");
    assert!(!is_found_at_home_by(&first, b"at 3"));
    assert!(is_found_at_home_by(&second, b"at 3"));
    drain(&queue);
    // When it goes, the one before is used again.
    drop(second);
    queue.send(b"at 0").expect("room");
    assert!(is_found_at_home_by(&first, b"at 0"));
    // And other threads have nothing to do with it.
    let there = queue.clone();
    on_thread(move || there.send(b"elsewhere").map(|_| ()).expect("room"));
    assert_eq!(drain(&queue).len(), 2);
}

#[test]
fn what_may_go_to_other_threads() {
    fn may<T: Send + Sync + 'static>() {}
    may::<epoq::Broker>();
    may::<Queue>();
    may::<epoq::Message>();
    may::<epoq::ReceiptHandle>();
    may::<epoq::MessageId>();
    may::<epoq::ManualClock>();
    may::<epoq::SendError>();
    may::<epoq::BatchError>();
    may::<epoq::Clock>();
    may::<epoq::Heartbeat>();

    fn may_go<T: Send>(_: T) {}
    let (_time, broker) = manual(1);
    let queue = queue(&broker, "q");
    let sleep = |_| std::future::ready(());
    may_go(queue.receive_async(1, LONG, Duration::ZERO, sleep));
    may_go(queue.send_async(&epoq::Outgoing::new(b"m"), Duration::ZERO, sleep));
}

#[test]
fn homes_are_dealt_out_in_turn() {
    let (_time, broker) = manual(3);
    let homes: Vec<_> = (0..6)
        .map(|_| broker.worker().expect("a worker").home())
        .collect();
    assert_eq!(homes, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn several_brokers_on_one_thread() {
    let brokers: Vec<_> = (1..=4).map(|partitions| manual(partitions).1).collect();
    let queues: Vec<_> = brokers.iter().map(|broker| queue(broker, "same-name")).collect();
    for round in 0..100 {
        for (at, queue) in queues.iter().enumerate() {
            queue.send(&numbered(round * 4 + at as u64, 16)).expect("room");
        }
    }
    let workers: Vec<_> = brokers
        .iter()
        .map(|broker| broker.worker().expect("a worker"))
        .collect();
    // Turns of different brokers overlap freely.
    let turns: Vec<_> = workers.iter().map(|worker| worker.begin()).collect();
    for (at, (turn, queue)) in turns.iter().zip(&queues).enumerate() {
        let mut count = 0;
        loop {
            let received = turn.receive(queue, 10, LONG).expect("valid");
            if received.is_empty() {
                break;
            }
            for delivery in received.iter() {
                assert_eq!(number_of(delivery.body()) as usize % 4, at);
                assert_eq!(
                    turn.delete(queue, &delivery.receipt_handle()),
                    Ok(Deletion::Deleted)
                );
                count += 1;
            }
        }
        assert_eq!(count, 100);
    }
}

#[test]
fn a_thread_can_outlive_many_brokers() {
    // Registrations of brokers that are gone leave with the next one.
    on_thread(|| {
        for _ in 0..200 {
            let (_time, broker) = manual(2);
            let queue = queue(&broker, "short");
            queue.send(&[1; 2000]).expect("room");
            assert_eq!(empty(&queue), 1);
        }
    });
}

#[test]
fn workers_may_be_dropped_in_any_order() {
    let (_time, broker) = manual(2);
    let queue = queue(&broker, "order");
    let mut workers: Vec<_> = (0..5).map(|_| broker.worker().expect("a worker")).collect();
    for at in [2, 0, 2, 0, 0] {
        queue.send(b"m").expect("room");
        drop(workers.remove(at));
    }
    assert!(workers.is_empty());
    queue.send(b"m").expect("room");
    drop(broker);
    assert_eq!(empty(&queue), 6);
}

#[test]
fn a_worker_outlives_its_broker_and_queue() {
    let (_time, broker) = manual(2);
    let queue = queue(&broker, "gone");
    let worker = broker.worker().expect("a worker");
    worker.turn(|turn| turn.send(&queue, b"m").map(|_| ()).expect("room"));
    let budget = broker.budget();
    drop((queue, broker));
    assert_eq!(worker.turn(|turn| turn.now()), Millis::new(0));
    drop(worker);
    assert_eq!(budget.read().used, 0);
}

/// A queue may be called while the thread is being torn down, when its list of workers is gone already.
#[test]
fn calls_from_thread_local_destructors() {
    struct AtExit(RefCell<Option<(Queue, mpsc::Sender<usize>)>>);
    impl Drop for AtExit {
        fn drop(&mut self) {
            if let Some((queue, done)) = self.0.take() {
                for number in 0..600 {
                    queue.send(&numbered(number, 16)).expect("room");
                }
                done.send(empty(&queue)).expect("somebody waits");
            }
        }
    }
    thread_local! {
        static BEFORE: AtExit = const { AtExit(RefCell::new(None)) };
        static AFTER: AtExit = const { AtExit(RefCell::new(None)) };
    }
    let (_time, broker) = manual(2);
    let (done, results) = mpsc::channel();
    let (before, after) = (queue(&broker, "before"), queue(&broker, "after"));
    on_thread(move || {
        // Registered before and after the thread's list of workers: one of them is dropped when the list is gone.
        BEFORE.with(|exit| *exit.0.borrow_mut() = Some((before.clone(), done.clone())));
        before.send(b"registers this thread").expect("room");
        AFTER.with(|exit| *exit.0.borrow_mut() = Some((after, done)));
    });
    let mut counts: Vec<_> = results.iter().collect();
    counts.sort_unstable();
    assert_eq!(counts, [600, 601]);
}
