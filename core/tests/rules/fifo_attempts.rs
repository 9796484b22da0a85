//! FIFO queues: receives that can be repeated, rule by rule, on a clock that stands still.

use std::{
    collections::HashSet,
    pin::pin,
    sync::Barrier,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use crate::common::{
    delete, fifo, hours, manual, ms, one, queue, release, secs, send_to_groups, states, texts,
};
use epoq::{Broker, ManualClock, Message, Queue, ReceiptHandle, ReceiveError, limits::ATTEMPTS_MAX};

fn with_messages(bodies: &[&str]) -> (ManualClock, Broker, Queue) {
    let (time, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    send_to_groups(&queue, bodies);
    (time, broker, queue)
}

fn attempt(queue: &Queue, id: &str, max: usize) -> Vec<Message> {
    queue.receive_attempt(id, max, secs(30)).expect("valid")
}

fn handles(messages: &[Message]) -> Vec<ReceiptHandle> {
    messages.iter().map(Message::receipt_handle).collect()
}

const NOT_VALID: Result<Vec<Message>, ReceiveError> = Err(ReceiveError::AttemptNotValid);

#[test]
fn the_same_attempt_gives_the_same_messages_under_the_same_handles() {
    let (time, _broker, queue) = with_messages(&["a-1", "a-2", "b-1", "c-1"]);
    let first = attempt(&queue, "x", 3);
    assert_eq!(texts(&first), ["a-1", "a-2", "b-1"]);
    for _ in 0..3 {
        time.advance(secs(10));
        let again = attempt(&queue, "x", 3);
        assert_eq!(again, first);
        assert!(again.iter().all(|message| message.receive_count() == 1));
    }
    assert_eq!((queue.counts().received, states(&queue)), (3, (1, 3, 0)));
    first.iter().for_each(|message| delete(&queue, message));
}

#[test]
fn the_visibility_timeout_begins_anew() {
    let (time, _broker, queue) = with_messages(&["a-1"]);
    let first = attempt(&queue, "x", 1);
    time.advance(secs(20));
    attempt(&queue, "x", 1);
    time.advance(secs(30));
    assert_eq!(queue.receive(1, secs(30)), Ok(vec![]));
    delete(&queue, &first[0]);
}

#[test]
fn a_repeated_attempt_may_ask_for_another_timeout() {
    let (time, _broker, queue) = with_messages(&["a-1"]);
    attempt(&queue, "x", 1);
    assert_eq!(queue.receive_attempt("x", 1, secs(100)).expect("valid").len(), 1);
    time.advance(secs(100));
    assert_eq!(queue.receive(1, secs(30)), Ok(vec![]));
    time.advance(ms(1));
    assert_eq!(one(&queue, secs(30)).receive_count(), 2);
}

/// The lease as a whole lasts no longer than 12 hours, which is no reason to refuse.
#[test]
fn a_repeated_attempt_keeps_to_12_hours_in_all() {
    let (time, _broker, queue) = with_messages(&["a-1"]);
    let first = queue.receive_attempt("x", 1, hours(12)).expect("valid");
    time.advance(secs(10));
    assert_eq!(queue.receive_attempt("x", 1, hours(12)), Ok(first.clone()));
    time.advance(secs(10));
    assert_eq!(queue.receive_attempt("x", 1, hours(12)), Ok(first.clone()));
    time.advance(hours(12) - secs(20));
    assert_eq!(queue.receive(1, secs(30)), Ok(vec![]));
    delete(&queue, &first[0]);
}

#[test]
fn another_attempt_is_another_receive() {
    let (_, _broker, queue) = with_messages(&["a-1", "a-2", "b-1"]);
    assert_eq!(texts(&attempt(&queue, "x", 1)), ["a-1"]);
    assert_eq!(texts(&attempt(&queue, "y", 1)), ["b-1"]);
    assert!(attempt(&queue, "z", 1).is_empty());
    assert_eq!(texts(&attempt(&queue, "x", 1)), ["a-1"]);
    assert_eq!(queue.receive(10, secs(30)), Ok(vec![]));
}

#[test]
fn an_attempt_is_not_repeated_after_a_message_was_deleted() {
    for deleted in [0, 1] {
        let (_, _broker, queue) = with_messages(&["a-1", "a-2"]);
        let first = attempt(&queue, "x", 10);
        delete(&queue, &first[deleted]);
        for _ in 0..2 {
            assert_eq!(queue.receive_attempt("x", 10, secs(30)), NOT_VALID);
        }
        // The other one is as it was.
        assert_eq!(states(&queue), (0, 1, 0));
        delete(&queue, &first[1 - deleted]);
        assert_eq!(queue.receive_attempt("x", 10, secs(30)), NOT_VALID);
    }
}

#[test]
fn an_attempt_is_not_repeated_after_a_lease_was_changed() {
    for timeout in [Duration::ZERO, secs(10), secs(60)] {
        let (time, _broker, queue) = with_messages(&["a-1", "a-2"]);
        let first = attempt(&queue, "x", 10);
        time.advance(secs(1));
        queue
            .change_visibility(&first[1].receipt_handle(), timeout)
            .expect("leased");
        assert_eq!(queue.receive_attempt("x", 10, secs(30)), NOT_VALID, "{timeout:?}");
        assert_eq!(queue.counts().received, 2);
    }
}

#[test]
fn an_attempt_is_not_repeated_after_a_message_was_received_again() {
    let (_, _broker, queue) = with_messages(&["a-1", "a-2"]);
    let first = attempt(&queue, "x", 10);
    release(&queue, &first[0]);
    assert_eq!(one(&queue, secs(30)).receive_count(), 2);
    assert_eq!(queue.receive_attempt("x", 10, secs(30)), NOT_VALID);
    delete(&queue, &first[1]);
}

#[test]
fn an_attempt_whose_leases_are_over_is_a_receive_like_any_other() {
    let (time, _broker, queue) = with_messages(&["a-1", "b-1"]);
    let first = attempt(&queue, "x", 1);
    time.advance(secs(31));
    let again = attempt(&queue, "x", 10);
    assert_eq!(texts(&again), ["b-1", "a-1"]);
    assert_eq!(again[1].receive_count(), 2);
    // And that one can be repeated.
    assert_eq!(handles(&attempt(&queue, "x", 10)), handles(&again));
    assert_ne!(first[0].receipt_handle(), again[1].receipt_handle());
    delete(&queue, &again[1]);
    assert_eq!(queue.receive_attempt("x", 1, secs(30)), NOT_VALID);
}

#[test]
fn an_attempt_that_received_nothing_receives_what_has_come() {
    let (_, _broker, queue) = with_messages(&[]);
    assert!(attempt(&queue, "x", 10).is_empty());
    send_to_groups(&queue, &["a-1"]);
    let received = attempt(&queue, "x", 10);
    assert_eq!(texts(&received), ["a-1"]);
    assert_eq!(attempt(&queue, "x", 10), received);
}

#[test]
fn an_attempt_can_be_repeated_for_five_minutes() {
    let (time, _broker, queue) = with_messages(&["a-1", "b-1"]);
    let first = queue.receive_attempt("x", 1, hours(1)).expect("valid");
    time.advance(secs(300) - ms(1));
    assert_eq!(queue.receive_attempt("x", 1, hours(1)), Ok(first));
    time.advance(ms(1));
    // Over: a receive like any other.
    let second = queue.receive_attempt("x", 1, hours(1)).expect("valid");
    assert_eq!(texts(&second), ["b-1"]);
    assert_eq!(states(&queue), (0, 2, 0));
}

#[test]
fn an_attempt_that_began_anew_can_be_repeated_for_five_minutes_again() {
    let (time, _broker, queue) = with_messages(&["a-1", "b-1"]);
    queue.receive_attempt("x", 1, secs(30)).expect("valid");
    time.advance(secs(290));
    let anew = queue.receive_attempt("x", 1, hours(1)).expect("valid");
    time.advance(secs(300) - ms(1));
    assert_eq!(queue.receive_attempt("x", 1, hours(1)), Ok(anew.clone()));
    time.advance(ms(1));
    assert_ne!(queue.receive_attempt("x", 1, hours(1)), Ok(anew));
}

#[test]
fn attempts_count_in_the_budget_until_they_are_forgotten() {
    let (time, broker, queue) = with_messages(&["a-1"]);
    attempt(&queue, "first", 1);
    let before = queue.memory().used;
    for number in 0..1_000 {
        attempt(&queue, &number.to_string(), 1);
        // Refused, and not remembered.
        let refused = queue.receive_attempt(&format!("refused-{number}"), 1, hours(13));
        assert!(refused.is_err());
    }
    let used = queue.memory().used - before;
    assert!((300_000..1_200_000).contains(&used), "{used} bytes");
    for _ in 0..3 {
        time.advance(secs(301));
        queue.advance(broker.now());
    }
    let used = queue.memory().used;
    assert!(used < before + 1_000, "{used} bytes, {before} before");
}

#[test]
fn an_attempt_without_a_lease_shows_the_messages_again() {
    let (_, _broker, queue) = with_messages(&["a-1"]);
    for count in 1..4 {
        let shown = queue.receive_attempt("x", 1, Duration::ZERO).expect("valid");
        assert_eq!((texts(&shown), shown[0].receive_count()), (vec!["a-1"], count));
    }
}

#[test]
fn attempt_ids_have_the_alphabet_of_group_ids() {
    let (_, _broker, queue) = with_messages(&["a-1"]);
    let long = "x".repeat(129);
    for id in ["", " ", "a b", "é", "\n", &long] {
        assert_eq!(
            queue.receive_attempt(id, 1, secs(30)),
            Err(ReceiveError::AttemptId),
            "{id:?}"
        );
    }
    assert_eq!(states(&queue), (1, 0, 0));
    let punctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~aZ0";
    assert_eq!(attempt(&queue, punctuation, 1).len(), 1);
    assert!(attempt(&queue, &long[1..], 1).is_empty());
}

#[test]
fn an_attempt_with_a_bad_argument_is_not_remembered() {
    let (_, _broker, queue) = with_messages(&["a-1"]);
    assert!(matches!(
        queue.receive_attempt("x", 0, secs(30)),
        Err(ReceiveError::Max { .. })
    ));
    assert!(matches!(
        queue.receive_attempt("x", 1, hours(13)),
        Err(ReceiveError::VisibilityTimeout { .. })
    ));
    assert_eq!(texts(&attempt(&queue, "x", 1)), ["a-1"]);
}

#[test]
fn a_standard_queue_ignores_attempts() {
    let (_, broker) = manual(1);
    let queue = queue(&broker, "q");
    queue.send(b"one").expect("room");
    queue.send(b"two").expect("room");
    let first = queue.receive_attempt("x", 1, secs(30)).expect("valid");
    let second = queue.receive_attempt("x", 1, secs(30)).expect("valid");
    assert_eq!((texts(&first), texts(&second)), (vec!["one"], vec!["two"]));
}

#[test]
fn a_purge_forgets_attempts() {
    let (_, _broker, queue) = with_messages(&["a-1"]);
    attempt(&queue, "x", 1);
    queue.purge().expect("a queue");
    assert!(attempt(&queue, "x", 1).is_empty());
    send_to_groups(&queue, &["a-2"]);
    assert_eq!(texts(&attempt(&queue, "x", 1)), ["a-2"]);
}

#[test]
fn a_deleted_queue_refuses_attempts() {
    let (_, broker, queue) = with_messages(&["a-1"]);
    attempt(&queue, "x", 1);
    broker.delete_queue("q.fifo").expect("there is one");
    assert_eq!(
        queue.receive_attempt("x", 1, secs(30)),
        Err(ReceiveError::QueueDeleted)
    );
}

#[test]
fn attempts_are_remembered_up_to_a_limit_and_none_is_forgotten_early() {
    let (time, _broker, queue) = with_messages(&["a-1"]);
    let first = attempt(&queue, "first", 1);
    for number in 1..ATTEMPTS_MAX {
        assert!(attempt(&queue, &number.to_string(), 1).is_empty());
    }
    let too_many = Err(ReceiveError::TooManyAttempts { limit: ATTEMPTS_MAX });
    assert_eq!(queue.receive_attempt("more", 1, secs(30)), too_many);
    // Those that are known can be repeated still.
    assert_eq!(attempt(&queue, "first", 1), first);
    assert!(attempt(&queue, "1", 1).is_empty());
    time.advance(secs(300));
    assert_eq!(attempt(&queue, "more", 1).len(), 1);
}

#[test]
fn of_two_that_attempt_at_once_none_gets_what_the_other_has() {
    for round in 0..500 {
        let (_, _broker, queue) = with_messages(&["a-1", "a-2", "b-1"]);
        let barrier = Barrier::new(2);
        let ids = ["x", if round % 2 == 0 { "x" } else { "y" }];
        let received: Vec<Vec<Message>> = thread::scope(|scope| {
            let workers = ids.map(|id| {
                let (queue, barrier) = (&queue, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    attempt(queue, id, 2)
                })
            });
            workers
                .into_iter()
                .map(|worker| worker.join().expect("no panic"))
                .collect()
        });
        if ids[0] == ids[1] {
            // The same, or nothing: the other one was under way.
            let both: HashSet<_> = received
                .iter()
                .filter(|some| !some.is_empty())
                .map(|some| texts(some))
                .collect();
            assert_eq!(both, HashSet::from([vec!["a-1", "a-2"]]));
            assert_eq!(queue.counts().in_flight, 2);
        } else {
            let all: Vec<_> = received.iter().flat_map(|some| texts(some)).collect();
            let unique: HashSet<_> = all.iter().collect();
            assert_eq!(all.len(), unique.len());
        }
    }
}

#[test]
fn an_attempt_that_waits_hears_of_messages_and_can_be_repeated() {
    let (time, _broker, queue) = with_messages(&[]);
    let mut waiting =
        pin!(queue.receive_attempt_async("x", 1, secs(30), secs(20), |_| std::future::pending::<()>()));
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    send_to_groups(&queue, &["a-1"]);
    let Poll::Ready(Ok(received)) = waiting.as_mut().poll(&mut context) else {
        panic!("it goes on waiting")
    };
    assert_eq!(texts(&received), ["a-1"]);
    time.advance(secs(10));
    assert_eq!(attempt(&queue, "x", 1), received);
    // Nothing to wait for, or an id that is none.
    for (id, wait, expected) in [
        ("y", Duration::ZERO, Ok(vec![])),
        ("", secs(1), Err(ReceiveError::AttemptId)),
    ] {
        let mut over =
            pin!(queue.receive_attempt_async(id, 1, secs(30), wait, |_| std::future::pending::<()>()));
        assert_eq!(over.as_mut().poll(&mut context), Poll::Ready(expected));
    }
}
