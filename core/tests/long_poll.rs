//! Long polls, rule by rule. As futures polled by hand, so that nothing hangs on timing; and as sleeping threads.
#![cfg(not(loom))]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests drive the ledger from outside"
)]

mod common;

use std::{
    collections::BTreeSet,
    future::{Future, pending},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use common::{
    LONG, delete, drain, manual, ms, number_of, numbered, one, queue, queue_with, release, secs, states,
};
use epoq::{
    Broker, ManualClock, Message, Outgoing, Queue, QueueConfig, ReceiveError, Redrive, limits::WAIT_MAX,
};

type Answer = Result<Vec<Message>, ReceiveError>;

/// A long poll in our hands: it goes on when we say, and we see whether it has been woken.
struct Task<'q> {
    future: Option<Pin<Box<dyn Future<Output = Answer> + 'q>>>,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<'q> Task<'q> {
    fn new(future: impl Future<Output = Answer> + 'q) -> Self {
        Self {
            future: Some(Box::pin(future)),
            woken: Arc::new(Woken(AtomicBool::new(false))),
        }
    }

    fn poll(&mut self) -> Poll<Answer> {
        self.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.woken));
        let future = self.future.as_mut().expect("not over yet");
        let answer = future.as_mut().poll(&mut Context::from_waker(&waker));
        if answer.is_ready() {
            self.future = None;
        }
        answer
    }

    fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::Relaxed)
    }

    /// It has been woken, and has a message.
    fn brings(&mut self, body: &[u8]) -> Message {
        assert!(self.is_woken(), "nobody woke it");
        match self.poll() {
            Poll::Ready(Ok(mut messages)) => {
                assert_eq!(messages.len(), 1, "{messages:?}");
                assert_eq!(messages[0].body(), body);
                messages.remove(0)
            }
            other => panic!("{other:?}"),
        }
    }

    /// If it has been woken, it goes on sleeping.
    fn sleeps(&mut self) {
        assert!(!self.is_woken() || self.poll().is_pending(), "it is over");
    }
}

/// A long poll of one message that has gone to sleep.
fn asleep(queue: &Queue) -> Task<'_> {
    asleep_for(queue, 1, WAIT_MAX)
}

fn asleep_for(queue: &Queue, max: usize, wait: impl Into<Option<Duration>> + 'static) -> Task<'_> {
    // With a clock that moves by hand, moving it wakes.
    let mut task = Task::new(queue.receive_async(max, LONG, wait, |_| pending::<()>()));
    assert!(task.poll().is_pending(), "there was something");
    task
}

fn single() -> (ManualClock, Broker, Queue) {
    let (time, broker) = manual(2);
    let queue = queue(&broker, "q");
    (time, broker, queue)
}

fn capped(limit: u64) -> (ManualClock, Broker, Queue) {
    let (time, broker) = manual(2);
    let config = QueueConfig {
        in_flight_max: Some(limit),
        ..QueueConfig::default()
    };
    let queue = queue_with(&broker, "capped", config);
    (time, broker, queue)
}

// Short and long.

#[test]
fn what_is_there_comes_at_once() {
    let (_time, _broker, queue) = single();
    for number in 0..3 {
        queue.send(&numbered(number, 8)).expect("room");
    }
    let received = queue.receive_wait(10, LONG, WAIT_MAX).expect("valid");
    assert_eq!(received.len(), 3, "it does not wait to fill up");
}

#[test]
fn a_wait_of_zero_forces_a_short_poll() {
    let (_time, broker) = manual(1);
    let config = QueueConfig {
        wait: secs(20),
        ..QueueConfig::default()
    };
    let queue = queue_with(&broker, "q", config);
    assert_eq!(queue.receive_wait(1, None, Duration::ZERO), Ok(vec![]));
    let mut task = Task::new(queue.receive_async(1, None, Duration::ZERO, |_| pending::<()>()));
    assert_eq!(task.poll(), Poll::Ready(Ok(vec![])));
}

#[test]
fn without_a_wait_the_queues_own_is_taken() {
    let (time, broker) = manual(1);
    let short = queue(&broker, "short");
    assert_eq!(short.receive_wait(1, None, None), Ok(vec![]));
    let config = QueueConfig {
        wait: secs(7),
        ..QueueConfig::default()
    };
    let long = queue_with(&broker, "long", config);
    let mut task = asleep_for(&long, 1, None);
    time.advance(secs(7) - ms(1));
    task.sleeps();
    time.advance(ms(1));
    assert!(task.is_woken());
    assert_eq!(task.poll(), Poll::Ready(Ok(vec![])));
}

#[test]
fn a_wait_of_its_own_overrides_the_queues_both_ways() {
    for own in [secs(3), secs(20)] {
        let (time, broker) = manual(1);
        let config = QueueConfig {
            wait: secs(7),
            ..QueueConfig::default()
        };
        let queue = queue_with(&broker, "q", config);
        let mut task = asleep_for(&queue, 1, own);
        time.advance(own - ms(1));
        task.sleeps();
        time.advance(ms(1));
        assert!(task.is_woken());
        assert_eq!(task.poll(), Poll::Ready(Ok(vec![])));
    }
}

#[test]
fn a_changed_wait_is_for_the_polls_that_begin_after_it() {
    let (time, broker) = manual(1);
    let waits = |wait| QueueConfig {
        wait,
        ..QueueConfig::default()
    };
    let queue = queue_with(&broker, "q", waits(secs(10)));
    let mut before = asleep_for(&queue, 1, None);
    broker.configure(&queue, waits(secs(5))).expect("valid");
    before.sleeps();
    let mut after = asleep_for(&queue, 1, None);
    time.advance(secs(5));
    assert_eq!(after.poll(), Poll::Ready(Ok(vec![])));
    before.sleeps();
    time.advance(secs(5));
    assert_eq!(before.poll(), Poll::Ready(Ok(vec![])));
}

#[test]
fn a_long_poll_for_ten_ends_with_the_first_that_comes() {
    let (_time, _broker, queue) = single();
    let mut task = asleep_for(&queue, 10, WAIT_MAX);
    queue.send(b"m").expect("room");
    task.brings(b"m");
}

#[test]
fn a_lease_counts_from_the_end_of_the_wait() {
    let (time, _broker, queue) = single();
    let mut task = Task::new(queue.receive_async(1, secs(30), WAIT_MAX, |_| pending::<()>()));
    assert!(task.poll().is_pending());
    time.advance(secs(19));
    queue.send(b"m").expect("room");
    task.brings(b"m");
    time.advance(secs(30));
    assert_eq!(queue.receive(1, LONG), Ok(vec![]));
    time.advance(ms(1));
    one(&queue, LONG);
}

#[test]
fn a_long_poll_ends_with_nothing_when_its_time_is_over() {
    let (time, _broker, queue) = single();
    let mut task = asleep_for(&queue, 1, secs(20));
    for _ in 0..19 {
        time.advance(secs(1));
        task.sleeps();
    }
    time.advance(secs(1));
    assert!(task.is_woken());
    assert_eq!(task.poll(), Poll::Ready(Ok(vec![])));
}

#[test]
fn what_comes_at_the_last_moment_is_taken() {
    let (time, _broker, queue) = single();
    let mut task = asleep_for(&queue, 1, secs(20));
    time.advance(secs(20));
    queue.send(b"m").expect("room");
    task.brings(b"m");
}

#[test]
fn waits_beyond_twenty_seconds_are_refused() {
    let (_time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    for given in [WAIT_MAX + Duration::from_nanos(1), Duration::MAX] {
        let refused = Err(ReceiveError::Wait {
            given,
            limit: WAIT_MAX,
        });
        assert_eq!(queue.receive_wait(1, LONG, given), refused);
        let mut task = Task::new(queue.receive_async(1, LONG, given, |_| pending::<()>()));
        assert_eq!(task.poll(), Poll::Ready(refused));
    }
    assert_eq!(states(&queue), (1, 0, 0));
}

#[test]
fn a_bad_request_does_not_wait() {
    let (_time, _broker, queue) = single();
    assert_eq!(
        queue.receive_wait(11, LONG, WAIT_MAX),
        Err(ReceiveError::Max { given: 11, limit: 10 })
    );
    let given = LONG + ms(1);
    assert_eq!(
        queue.receive_wait(1, given, WAIT_MAX),
        Err(ReceiveError::VisibilityTimeout { given, limit: LONG })
    );
}

// What wakes.

#[test]
fn a_long_poll_wakes_for_a_send() {
    let (_time, _broker, queue) = single();
    let large = vec![b'x'; 5000];
    let sends: [(&[u8], &dyn Fn()); 6] = [
        (b"m", &|| _ = queue.send(b"m").expect("room")),
        (&large, &|| _ = queue.send(&large).expect("room")),
        (b"o", &|| {
            let message = Outgoing::new(b"o").message_group("g");
            queue.send_message(&message).expect("room");
        }),
        (b"b", &|| {
            assert!(queue.send_batch(&[b"b"]).expect("valid")[0].is_ok())
        }),
        (&large, &|| {
            assert!(queue.send_batch(&[&large]).expect("valid")[0].is_ok())
        }),
        (b"s", &|| {
            assert!(queue.send_messages(&[Outgoing::new(b"s")]).expect("valid")[0].is_ok())
        }),
    ];
    for (body, send) in sends {
        let mut task = asleep(&queue);
        send();
        let message = task.brings(body);
        delete(&queue, &message);
    }
}

#[test]
fn a_long_poll_wakes_for_a_send_to_another_partition() {
    let (_time, broker) = manual(8);
    let queue = queue(&broker, "wide");
    for home in 0..8 {
        let mut task = asleep(&queue);
        thread::scope(|scope| {
            scope.spawn(|| {
                let worker = broker.worker_at(home).expect("a worker");
                worker.turn(|turn| turn.send(&queue, b"m").map(|_| ()).expect("room"));
            });
        });
        task.brings(b"m");
    }
}

#[test]
fn a_long_poll_wakes_when_a_delay_is_over() {
    let (time, _broker, queue) = single();
    queue
        .send_message(&Outgoing::new(b"before").delay(secs(5)))
        .expect("room");
    let mut task = asleep(&queue);
    queue
        .send_message(&Outgoing::new(b"after").delay(secs(3)))
        .expect("room");
    time.advance(secs(3));
    task.sleeps();
    time.advance(ms(1));
    task.brings(b"after");
    let mut task = asleep(&queue);
    time.advance(secs(2));
    task.brings(b"before");
}

#[test]
fn a_long_poll_wakes_when_a_lease_is_over() {
    let (time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let message = one(&queue, secs(5));
    let mut task = asleep(&queue);
    time.advance(secs(5));
    task.sleeps();
    time.advance(ms(1));
    assert_eq!(task.brings(b"m").message_id(), message.message_id());
}

#[test]
fn a_long_poll_wakes_when_a_shortened_lease_is_over() {
    let (time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let message = one(&queue, LONG);
    let mut task = asleep(&queue);
    queue
        .change_visibility(&message.receipt_handle(), secs(2))
        .expect("leased");
    time.advance(secs(2) + ms(1));
    task.brings(b"m");
}

#[test]
fn a_long_poll_wakes_for_a_release() {
    let (_time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let message = one(&queue, LONG);
    let mut task = asleep(&queue);
    release(&queue, &message);
    assert_eq!(task.brings(b"m").receive_count(), 2);
}

#[test]
fn a_long_poll_wakes_for_a_dead_letter() {
    let (_time, broker) = manual(2);
    let dead = queue(&broker, "dead");
    let config = QueueConfig {
        redrive: Some(Redrive::new("dead", 1)),
        ..QueueConfig::default()
    };
    let source = queue_with(&broker, "source", config);
    source.send(b"m").expect("room");
    one(&source, Duration::ZERO);
    let mut task = asleep(&dead);
    assert_eq!(source.receive(1, LONG), Ok(vec![]));
    assert_eq!(task.brings(b"m").dead_letter_source(), Some("source"));
}

#[test]
fn a_long_poll_wakes_for_a_message_moved_back() {
    let (_time, broker) = manual(2);
    let dead = queue(&broker, "dead");
    let config = QueueConfig {
        redrive: Some(Redrive::new("dead", 1)),
        ..QueueConfig::default()
    };
    let source = queue_with(&broker, "source", config);
    source.send(b"m").expect("room");
    one(&source, Duration::ZERO);
    assert_eq!(source.receive(1, LONG), Ok(vec![]));
    assert_eq!(states(&dead), (1, 0, 0));
    let mut task = asleep(&source);
    broker.start_message_move("dead", None, None).expect("a task");
    broker.advance(broker.now());
    assert_eq!(task.brings(b"m").receive_count(), 1);
}

/// What the poll itself moves away does not count as something.
#[test]
fn a_long_poll_that_meets_dead_letters_goes_on_waiting() {
    let (_time, broker) = manual(1);
    let dead = queue(&broker, "dead");
    let config = QueueConfig {
        redrive: Some(Redrive::new("dead", 1)),
        ..QueueConfig::default()
    };
    let source = queue_with(&broker, "source", config);
    source.send(b"worn out").expect("room");
    one(&source, Duration::ZERO);
    let mut task = asleep(&source);
    assert_eq!(states(&dead), (1, 0, 0));
    source.send(b"fresh").expect("room");
    task.brings(b"fresh");
}

#[test]
fn a_long_poll_wakes_for_a_message_put_off() {
    let (time, broker) = manual(1);
    let full = QueueConfig {
        memory_limit: Some(0),
        ..QueueConfig::default()
    };
    queue_with(&broker, "dead", full);
    let config = QueueConfig {
        redrive: Some(Redrive::new("dead", 1)),
        ..QueueConfig::default()
    };
    let source = queue_with(&broker, "source", config);
    source.send(b"m").expect("room");
    one(&source, Duration::ZERO);
    let mut task = asleep(&source);
    broker.configure(&source, QueueConfig::default()).expect("valid");
    task.sleeps();
    time.advance(secs(1) + ms(1));
    task.brings(b"m");
}

#[test]
fn a_long_poll_wakes_for_a_receive_without_a_lease_that_leaves_the_message() {
    let (_time, _broker, queue) = single();
    let (mut first, mut second) = (asleep(&queue), asleep(&queue));
    queue.send(b"m").expect("room");
    // Somebody else was faster, and did not take it away.
    one(&queue, Duration::ZERO);
    first.brings(b"m");
    second.sleeps();
}

#[test]
fn a_long_poll_sees_a_retention_made_longer() {
    let (time, broker) = manual(1);
    let config = |retention| QueueConfig {
        retention,
        ..QueueConfig::default()
    };
    let queue = queue_with(&broker, "q", config(secs(60)));
    let mut task = asleep(&queue);
    time.advance(secs(1));
    broker.configure(&queue, config(secs(600))).expect("valid");
    assert!(task.is_woken(), "there might be something");
    task.sleeps();
    queue.send(b"m").expect("room");
    task.brings(b"m");
}

#[test]
fn a_long_poll_does_not_wake_for_a_purge() {
    let (_time, _broker, queue) = single();
    queue.send(b"purged").expect("room");
    one(&queue, LONG);
    let mut task = asleep(&queue);
    queue.purge().expect("there");
    assert!(!task.is_woken());
    // It waits for what is in the queue now.
    queue.send(b"m").expect("room");
    task.brings(b"m");
}

#[test]
fn a_long_poll_does_not_wake_for_a_delete() {
    let (_time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let message = one(&queue, LONG);
    let task = asleep(&queue);
    delete(&queue, &message);
    assert!(!task.is_woken(), "below the limit there is no need to");
}

#[test]
fn deleting_the_queue_wakes_waiters() {
    let (_time, broker, queue) = single();
    let mut tasks: Vec<_> = (0..3).map(|_| asleep(&queue)).collect();
    broker.delete_queue("q").expect("there");
    for task in &mut tasks {
        assert!(task.is_woken());
        assert_eq!(task.poll(), Poll::Ready(Err(ReceiveError::QueueDeleted)));
    }
    assert_eq!(
        queue.receive_wait(1, LONG, WAIT_MAX),
        Err(ReceiveError::QueueDeleted),
        "and nobody begins to wait"
    );
}

// The limit on messages in flight.

#[test]
fn a_long_poll_at_the_in_flight_cap_waits_until_some_are_freed() {
    type Free = fn(&Queue, &ManualClock, &Message);
    let ways: [Free; 4] = [
        |queue, _, held| delete(queue, held),
        |queue, _, held| {
            let deleted = queue.delete_batch(&[held.receipt_handle()]).expect("valid");
            assert!(deleted[0].is_ok());
        },
        |queue, _, held| release(queue, held),
        |_, time, _| time.advance(secs(10)),
    ];
    for free in ways {
        let (time, _broker, queue) = capped(2);
        for number in 0..3 {
            queue.send(&numbered(number, 8)).expect("room");
        }
        let held = [one(&queue, secs(5)), one(&queue, LONG)];
        let mut task = asleep(&queue);
        free(&queue, &time, &held[0]);
        assert!(task.is_woken());
        let Poll::Ready(Ok(received)) = task.poll() else {
            panic!("still asleep");
        };
        assert_eq!(received.len(), 1);
        assert_eq!(states(&queue).1, 2);
    }
}

#[test]
fn a_long_poll_at_the_in_flight_cap_ends_with_nothing() {
    let (time, _broker, queue) = capped(1);
    queue.send(b"1").expect("room");
    queue.send(b"2").expect("room");
    one(&queue, LONG);
    let mut task = asleep_for(&queue, 1, secs(20));
    time.advance(secs(20));
    assert_eq!(task.poll(), Poll::Ready(Ok(vec![])), "that is no error");
    // A short poll is told, under whatever name.
    let refused = Err(ReceiveError::TooManyInFlight {
        in_flight: 1,
        limit: 1,
    });
    assert_eq!(queue.receive(1, LONG), refused);
    assert_eq!(queue.receive_wait(1, LONG, Duration::ZERO), refused);
    assert_eq!(queue.receive_wait(1, LONG, None), refused);
}

#[test]
fn each_lease_freed_at_the_cap_is_for_one_waiter() {
    let (_time, _broker, queue) = capped(3);
    for number in 0..10 {
        queue.send(&numbered(number, 8)).expect("room");
    }
    let held = queue.receive(3, LONG).expect("valid");
    let mut tasks: Vec<_> = (0..5).map(|_| asleep(&queue)).collect();
    delete(&queue, &held[0]);
    assert_eq!(tasks.iter().filter(|task| task.is_woken()).count(), 1);
    let handles = [held[1].receipt_handle(), held[2].receipt_handle()];
    assert!(
        queue
            .delete_batch(&handles)
            .expect("valid")
            .iter()
            .all(Result::is_ok)
    );
    // Whoever is woken to keep the time from now on goes back to sleep.
    let served = tasks
        .iter_mut()
        .filter_map(|task| task.is_woken().then(|| task.poll().is_ready()));
    assert_eq!(served.filter(|&ready| ready).count(), 3);
    assert_eq!(states(&queue).1, 3);
}

/// One that met the cap and then found the queue empty does not have deletes wake it any more.
#[test]
fn a_waiter_is_not_at_the_cap_for_ever() {
    let (_time, _broker, queue) = capped(2);
    for number in 0..3 {
        queue.send(&numbered(number, 8)).expect("room");
    }
    let held = queue.receive(2, LONG).expect("valid");
    let mut task = asleep(&queue);
    delete(&queue, &held[0]);
    // Somebody else takes the last one, and all but it go.
    let last = one(&queue, LONG);
    delete(&queue, &held[1]);
    task.sleeps();
    delete(&queue, &last);
    assert!(!task.is_woken());
    queue.send(b"m").expect("room");
    task.brings(b"m");
}

#[test]
fn a_limit_lifted_wakes() {
    let (_time, broker, queue) = capped(1);
    queue.send(b"1").expect("room");
    queue.send(b"2").expect("room");
    one(&queue, LONG);
    let mut task = asleep(&queue);
    broker.configure(&queue, QueueConfig::default()).expect("valid");
    task.brings(b"2");
}

// Who is woken.

#[test]
fn waiters_are_served_in_order() {
    let (_time, _broker, queue) = single();
    let mut tasks: Vec<_> = (0..5).map(|_| asleep(&queue)).collect();
    for number in 0..5 {
        queue.send(&numbered(number as u64, 8)).expect("room");
        let woken: Vec<_> = tasks.iter().map(Task::is_woken).collect();
        assert!(woken[number], "{woken:?} at {number}");
        let message = tasks[number].brings(&numbered(number as u64, 8));
        delete(&queue, &message);
    }
}

#[test]
fn as_many_are_woken_as_there_are_messages() {
    let (_time, _broker, queue) = single();
    let mut tasks: Vec<_> = (0..6).map(|_| asleep(&queue)).collect();
    assert!(
        queue
            .send_batch(&[b"1", b"2", b"3"])
            .expect("valid")
            .iter()
            .all(Result::is_ok)
    );
    let woken: Vec<_> = tasks.iter().map(Task::is_woken).collect();
    assert_eq!(woken, [true, true, true, false, false, false]);
    let mut bodies: Vec<_> = tasks[..3]
        .iter_mut()
        .map(|task| match task.poll() {
            Poll::Ready(Ok(received)) => received[0].body().to_vec(),
            other => panic!("{other:?}"),
        })
        .collect();
    bodies.sort();
    assert_eq!(bodies, [b"1", b"2", b"3"]);
    tasks[3..].iter_mut().for_each(Task::sleeps);
}

#[test]
fn one_waiter_may_take_what_is_there_and_the_others_sleep_on() {
    let (_time, _broker, queue) = single();
    let (mut greedy, mut other) = (asleep_for(&queue, 10, WAIT_MAX), asleep(&queue));
    assert!(
        queue
            .send_batch(&[b"1", b"2", b"3"])
            .expect("valid")
            .iter()
            .all(Result::is_ok)
    );
    let Poll::Ready(Ok(received)) = greedy.poll() else {
        panic!("still asleep");
    };
    assert_eq!(received.len(), 3);
    other.sleeps();
    queue.send(b"4").expect("room");
    other.brings(b"4");
}

#[test]
fn a_message_taken_by_another_leaves_the_waiter_asleep() {
    let (time, _broker, queue) = single();
    let mut task = asleep(&queue);
    queue.send(b"taken").expect("room");
    one(&queue, LONG);
    assert!(task.is_woken());
    task.sleeps();
    time.advance(secs(1));
    queue.send(b"m").expect("room");
    task.brings(b"m");
}

#[test]
fn a_dropped_future_takes_no_message() {
    let (_time, _broker, queue) = single();
    drop(queue.receive_async(1, LONG, WAIT_MAX, |_| pending::<()>()));
    let never_woken = asleep(&queue);
    drop(never_woken);
    let woken = asleep(&queue);
    queue.send(b"m").expect("room");
    assert!(woken.is_woken());
    drop(woken);
    assert_eq!(states(&queue), (1, 0, 0));
    assert_eq!(one(&queue, LONG).receive_count(), 1);
}

#[test]
fn a_cancelled_waiter_passes_its_wake_on() {
    let (_time, _broker, queue) = single();
    let first = asleep(&queue);
    let second = asleep(&queue);
    let mut third = asleep(&queue);
    queue.send(b"m").expect("room");
    assert!(first.is_woken() && !second.is_woken());
    drop(first);
    assert!(second.is_woken() && !third.is_woken());
    drop(second);
    third.brings(b"m");
}

#[test]
fn a_cancelled_waiter_at_the_cap_passes_its_wake_on() {
    let (_time, _broker, queue) = capped(1);
    queue.send(b"1").expect("room");
    queue.send(b"2").expect("room");
    let held = one(&queue, LONG);
    let first = asleep(&queue);
    let mut second = asleep(&queue);
    delete(&queue, &held);
    assert!(first.is_woken() && !second.is_woken());
    drop(first);
    second.brings(b"2");
}

/// On the machine's clock the waiters keep the time among themselves: how long each would sleep shows who does.
#[test]
fn whoever_leaves_has_another_one_keep_the_time() {
    enum Leaves {
        BeingDropped,
        AtItsDeadline,
    }
    for leaves in [Leaves::BeingDropped, Leaves::AtItsDeadline] {
        let broker = Broker::builder().partitions(1).build().expect("valid");
        let queue = queue(&broker, "q");
        queue.send(b"m").expect("room");
        one(&queue, secs(10));
        let slept = Mutex::new(Vec::new());
        let asleep = |wait| {
            let sleep = |time| {
                slept.lock().expect("no panic").push(time);
                pending::<()>()
            };
            let mut task = Task::new(queue.receive_async(1, LONG, wait, sleep));
            assert!(task.poll().is_pending());
            task
        };
        let keeper = asleep(ms(500));
        let mut other = asleep(secs(20));
        let last = || *slept.lock().expect("no panic").last().expect("somebody sleeps");
        assert!(last() > secs(15), "it need not look when the lease is over");
        match leaves {
            Leaves::BeingDropped => drop(keeper),
            Leaves::AtItsDeadline => {
                let mut keeper = keeper;
                let deadline = Instant::now() + ms(510);
                while Instant::now() < deadline {
                    thread::yield_now();
                }
                // Our sleep never ends: something else has to have it look.
                queue.send(b"decoy").expect("room");
                one(&queue, secs(12));
                assert!(keeper.poll().is_ready());
            }
        }
        assert!(other.is_woken(), "nobody keeps the time");
        assert!(other.poll().is_pending());
        assert!(last() < secs(11), "{:?}", last());
    }
}

// With threads that sleep.

#[test]
fn a_thread_wakes_for_a_send() {
    let broker = Broker::builder().partitions(2).build().expect("valid");
    let queue = queue(&broker, "q");
    for number in 0..50 {
        thread::scope(|scope| {
            let waiter = scope.spawn(|| queue.receive_wait(1, LONG, WAIT_MAX));
            queue.send(&numbered(number, 16)).expect("room");
            let began = Instant::now();
            let received = waiter.join().expect("no panic").expect("valid");
            assert_eq!(number_of(received[0].body()), number);
            assert!(began.elapsed() < secs(10), "only its deadline woke it");
        });
    }
}

#[test]
fn threads_on_a_clock_moved_by_hand() {
    let (time, _broker, queue) = single();
    queue
        .send_message(&Outgoing::new(b"m").delay(secs(10)))
        .expect("room");
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| queue.receive_wait(1, LONG, WAIT_MAX).expect("valid")))
            .collect();
        // Each begins when it begins: 20 s after that it is over.
        while !waiters.iter().all(thread::ScopedJoinHandle::is_finished) {
            time.advance(secs(1));
            thread::yield_now();
        }
        let received: usize = waiters
            .into_iter()
            .map(|waiter| waiter.join().expect("no panic").len())
            .sum();
        assert!(received <= 1);
    });
}

#[test]
fn a_thread_wakes_when_a_lease_or_a_delay_is_over_on_the_machines_clock() {
    let broker = Broker::builder().partitions(2).build().expect("valid");
    let queue = queue(&broker, "q");
    queue.send(b"leased").expect("room");
    one(&queue, ms(30));
    let began = Instant::now();
    queue
        .send_message(&Outgoing::new(b"delayed").delay(ms(60)))
        .expect("room");
    for body in [&b"leased"[..], b"delayed"] {
        let received = queue.receive_wait(1, LONG, WAIT_MAX).expect("valid");
        assert_eq!(received[0].body(), body);
    }
    assert!(
        began.elapsed() >= ms(55) && began.elapsed() < secs(10),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(queue.receive_wait(1, LONG, ms(20)), Ok(vec![]));
}

/// More threads than messages at a time, and a limit that they run into: all of it gets through, and nobody has to wait
/// for a deadline.
#[test]
fn many_threads_wait_and_none_is_forgotten() {
    const MESSAGES: u64 = 5_000;
    for limit in [None, Some(2)] {
        let broker = Broker::builder().partitions(2).build().expect("valid");
        let config = QueueConfig {
            in_flight_max: limit,
            ..QueueConfig::default()
        };
        let queue = queue_with(&broker, "q", config);
        let began = Instant::now();
        let seen: BTreeSet<u64> = thread::scope(|scope| {
            let waiters: Vec<_> = (0..4)
                .map(|waiter| {
                    let queue = &queue;
                    scope.spawn(move || {
                        let mut seen = Vec::new();
                        loop {
                            for message in queue.receive_wait(1, LONG, WAIT_MAX).expect("valid") {
                                if message.body() == b"over" {
                                    release(queue, &message);
                                    return seen;
                                }
                                // Now and then it goes round once more.
                                let number = number_of(message.body());
                                if message.receive_count() == 1 && number % 7 == waiter {
                                    release(queue, &message);
                                } else {
                                    delete(queue, &message);
                                    seen.push(number);
                                }
                            }
                        }
                    })
                })
                .collect();
            for number in 0..MESSAGES {
                queue.send(&numbered(number, 16)).expect("room");
                if number % 64 == 0 {
                    // They shall catch up, and sleep.
                    while queue.counts().visible > 0 {
                        assert!(began.elapsed() < secs(60), "{queue:?}");
                        thread::yield_now();
                    }
                }
            }
            while queue.counts().deleted < MESSAGES {
                assert!(began.elapsed() < secs(60), "{queue:?}");
                thread::yield_now();
            }
            queue.send(b"over").expect("room");
            waiters
                .into_iter()
                .flat_map(|waiter| waiter.join().expect("no panic"))
                .collect()
        });
        assert_eq!(seen.len() as u64, MESSAGES);
        assert!(began.elapsed() < WAIT_MAX, "somebody slept until its deadline");
        assert_eq!(drain(&queue).len(), 1);
    }
}
