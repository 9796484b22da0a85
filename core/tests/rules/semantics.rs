//! What a standard queue of SQS does, rule by rule, on a clock that stands still.

use crate::common;
use std::{collections::BTreeSet, time::Duration};

use crate::common::{LONG, bodies, drain, empty, hours, manual, ms, number_of, numbered, one, queue, secs};
use epoq::{
    Broker, ChangeVisibilityError, DeleteError, Deletion, ManualClock, Millis, Queue, VisibilityChange,
    limits::VISIBILITY_MAX,
};

fn single() -> (ManualClock, Broker, Queue) {
    let (time, broker) = manual(1);
    let queue = queue(&broker, "standard");
    (time, broker, queue)
}

fn release(queue: &Queue, message: &epoq::Message) {
    assert_eq!(
        queue.change_visibility(&message.receipt_handle(), Duration::ZERO),
        Ok(VisibilityChange::Changed)
    );
}

fn delete(queue: &Queue, message: &epoq::Message) {
    assert_eq!(queue.delete(&message.receipt_handle()), Ok(Deletion::Deleted));
}

// Visibility timeout.

#[test]
fn a_received_message_is_invisible_until_its_timeout_is_over() {
    let (time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let first = one(&queue, secs(30));
    for _ in 0..30 {
        assert_eq!(queue.receive(10, secs(30)), Ok(vec![]));
        time.advance(secs(1));
    }
    // Rounded up: a lease is never shorter than asked for, and at most a millisecond longer.
    assert_eq!(queue.receive(10, secs(30)), Ok(vec![]));
    time.advance(ms(1));
    let second = one(&queue, secs(30));
    assert_eq!(second.message_id(), first.message_id());
    assert_ne!(second.receipt_handle(), first.receipt_handle());
}

#[test]
fn timeouts_below_a_millisecond_are_rounded_up() {
    let (time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let message = one(&queue, Duration::from_nanos(1));
    assert_eq!(queue.receive(1, LONG), Ok(vec![]), "that is not zero");
    time.advance(ms(2));
    assert_eq!(one(&queue, LONG).receive_count(), 2);
    assert_eq!(
        queue.delete(&message.receipt_handle()),
        Ok(Deletion::ReceivedAgain)
    );
}

#[test]
fn receive_with_timeout_zero_leaves_the_message_visible() {
    let (_time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let first = one(&queue, Duration::ZERO);
    assert_eq!(first.receive_count(), 1);
    assert_eq!(queue.counts().visible, 1);
    let second = one(&queue, Duration::ZERO);
    assert_eq!(second.receive_count(), 2);
    assert_ne!(second.receipt_handle(), first.receipt_handle());
    assert_eq!(second.message_id(), first.message_id());
    // The newest handle deletes it, although it never had a lease.
    assert_eq!(queue.delete(&first.receipt_handle()), Ok(Deletion::ReceivedAgain));
    delete(&queue, &second);
    assert_eq!(queue.receive(1, LONG), Ok(vec![]));
}

#[test]
fn receive_with_timeout_zero_gives_each_message_once_per_receive() {
    let (_time, _broker, queue) = single();
    for number in 0..4 {
        queue.send(&numbered(number, 8)).expect("room");
    }
    for count in 1..5 {
        let all = queue.receive(10, Duration::ZERO).expect("valid");
        assert_eq!(all.len(), 4);
        assert_eq!(bodies(&all).len(), 4);
        assert!(all.iter().all(|message| message.receive_count() == count));
    }
}

#[test]
fn a_change_counts_from_the_call_and_does_not_add() {
    let (time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let message = one(&queue, secs(30));
    time.advance(secs(10));
    assert_eq!(
        queue.change_visibility(&message.receipt_handle(), secs(5)),
        Ok(VisibilityChange::Changed)
    );
    time.advance(secs(5));
    assert_eq!(queue.receive(1, LONG), Ok(vec![]));
    time.advance(ms(1));
    assert_eq!(one(&queue, LONG).receive_count(), 2);
}

#[test]
fn a_change_beyond_the_first_timeout_keeps_the_message() {
    let (time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let message = one(&queue, secs(10));
    for _ in 0..100 {
        time.advance(secs(9));
        assert_eq!(queue.receive(1, LONG), Ok(vec![]));
        assert_eq!(
            queue.change_visibility(&message.receipt_handle(), secs(10)),
            Ok(VisibilityChange::Changed)
        );
    }
    delete(&queue, &message);
}

#[test]
fn a_change_lasts_for_this_receive_only() {
    let (time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let first = one(&queue, secs(10));
    assert_eq!(
        queue.change_visibility(&first.receipt_handle(), hours(1)),
        Ok(VisibilityChange::Changed)
    );
    time.advance(hours(1) + ms(1));
    one(&queue, secs(10));
    time.advance(secs(10) + ms(1));
    assert_eq!(one(&queue, secs(10)).receive_count(), 3);
}

#[test]
fn a_change_to_zero_makes_the_message_receivable_at_once() {
    let (_time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let first = one(&queue, secs(30));
    release(&queue, &first);
    let second = one(&queue, secs(30));
    assert_eq!(second.receive_count(), 2);
    assert_eq!(second.message_id(), first.message_id());
    assert_eq!(queue.counts().released, 1, "given up by its holder, not run out");
    assert_eq!(queue.counts().expired, 0);
}

#[test]
fn a_change_after_the_lease_is_over_does_nothing() {
    let (time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let message = one(&queue, secs(30));
    time.advance(secs(30) + ms(1));
    // Before anybody has noticed that the lease is over, and after.
    for _ in 0..2 {
        for timeout in [Duration::ZERO, secs(60), VISIBILITY_MAX] {
            assert_eq!(
                queue.change_visibility(&message.receipt_handle(), timeout),
                Ok(VisibilityChange::LeaseOver)
            );
        }
        queue.advance(Millis::MAX);
        assert_eq!(queue.counts().visible, 1);
    }
    assert_eq!(one(&queue, LONG).receive_count(), 2);
}

#[test]
fn a_change_after_a_release_does_nothing() {
    let (_time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let message = one(&queue, secs(30));
    release(&queue, &message);
    for timeout in [Duration::ZERO, secs(60)] {
        assert_eq!(
            queue.change_visibility(&message.receipt_handle(), timeout),
            Ok(VisibilityChange::LeaseOver)
        );
    }
    assert_eq!(queue.counts().visible, 1);
}

#[test]
fn a_change_after_a_receive_without_a_lease_does_nothing() {
    let (_time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let message = one(&queue, Duration::ZERO);
    for timeout in [Duration::ZERO, secs(60)] {
        assert_eq!(
            queue.change_visibility(&message.receipt_handle(), timeout),
            Ok(VisibilityChange::LeaseOver)
        );
        assert_eq!(queue.counts().visible, 1);
    }
    assert_eq!(one(&queue, LONG).receive_count(), 2);
}

#[test]
fn a_change_is_no_receive() {
    let (time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let message = one(&queue, secs(10));
    for _ in 0..5 {
        time.advance(secs(1));
        assert_eq!(
            queue.change_visibility(&message.receipt_handle(), secs(10)),
            Ok(VisibilityChange::Changed)
        );
    }
    release(&queue, &message);
    assert_eq!(one(&queue, LONG).receive_count(), 2);
}

#[test]
fn a_change_of_a_deleted_message_is_refused() {
    let (_time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let message = one(&queue, secs(30));
    delete(&queue, &message);
    assert_eq!(
        queue.change_visibility(&message.receipt_handle(), secs(1)),
        Err(ChangeVisibilityError::Gone)
    );
}

#[test]
fn a_change_with_an_old_handle_is_refused() {
    // Where SQS lets an old handle act on a newer lease, we do not (invariant I3).
    let (time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let first = one(&queue, secs(1));
    time.advance(secs(2));
    let second = one(&queue, secs(30));
    assert_eq!(
        queue.change_visibility(&first.receipt_handle(), Duration::ZERO),
        Err(ChangeVisibilityError::ReceivedAgain)
    );
    assert_eq!(queue.receive(1, LONG), Ok(vec![]));
    delete(&queue, &second);
}

#[test]
fn a_lease_lasts_at_most_twelve_hours_in_all() {
    let (time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let message = one(&queue, hours(1));
    let handle = message.receipt_handle();
    let too_long = Err(ChangeVisibilityError::TotalTooLong {
        limit: VISIBILITY_MAX,
    });
    time.advance(ms(1));
    assert_eq!(queue.change_visibility(&handle, hours(12)), too_long);
    assert_eq!(
        queue.change_visibility(&handle, hours(12) - ms(1)),
        Ok(VisibilityChange::Changed)
    );
    time.advance(hours(11));
    assert_eq!(queue.change_visibility(&handle, hours(1)), too_long);
    assert_eq!(
        queue.change_visibility(&handle, hours(1) - ms(1)),
        Ok(VisibilityChange::Changed)
    );
    time.advance(hours(1) - ms(1));
    // At the twelfth hour only giving up is left.
    assert_eq!(queue.change_visibility(&handle, ms(1)), too_long);
    time.advance(ms(1));
    let again = one(&queue, secs(10));
    // A new receive starts a new twelve hours.
    assert_eq!(
        queue.change_visibility(&again.receipt_handle(), hours(12)),
        Ok(VisibilityChange::Changed)
    );
}

#[test]
fn twelve_hours_in_all_count_from_the_receive_whatever_its_timeout() {
    for timeout in [ms(1), secs(30), hours(6), hours(12)] {
        let (time, _broker, queue) = single();
        queue.send(b"m").expect("room");
        time.advance(hours(5));
        let handle = one(&queue, timeout).receipt_handle();
        assert_eq!(
            queue.change_visibility(&handle, hours(12)),
            Ok(VisibilityChange::Changed),
            "nothing of them has passed"
        );
        time.advance(hours(11));
        for given in [hours(1) + secs(1), hours(12)] {
            assert_eq!(
                queue.change_visibility(&handle, given),
                Err(ChangeVisibilityError::TotalTooLong {
                    limit: VISIBILITY_MAX
                })
            );
        }
        assert_eq!(queue.receive(1, LONG), Ok(vec![]), "a refusal leaves the lease");
        assert_eq!(
            queue.change_visibility(&handle, hours(1)),
            Ok(VisibilityChange::Changed)
        );
        time.advance(hours(1));
        assert_eq!(queue.receive(1, LONG), Ok(vec![]));
        time.advance(ms(1));
        one(&queue, LONG);
    }
}

// Receipt handles and deletes.

#[test]
fn delete_while_the_lease_runs() {
    let (time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let message = one(&queue, secs(30));
    time.advance(secs(29));
    delete(&queue, &message);
    time.advance(hours(24));
    assert_eq!(queue.receive(1, LONG), Ok(vec![]));
    assert_eq!(queue.census(), (0, 0, 0));
}

#[test]
fn delete_after_the_lease_is_over_and_before_a_new_receive() {
    for noticed in [false, true] {
        let (time, _broker, queue) = single();
        queue.send(b"m").expect("room");
        let message = one(&queue, secs(1));
        time.advance(hours(1));
        if noticed {
            queue.advance(Millis::MAX);
            assert_eq!(queue.counts().visible, 1);
        }
        delete(&queue, &message);
        assert_eq!(queue.receive(1, LONG), Ok(vec![]));
        assert_eq!(queue.counts().visible, 0);
        assert_eq!(queue.counts().in_flight, 0);
    }
}

#[test]
fn delete_after_a_release() {
    let (_time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let message = one(&queue, secs(1));
    release(&queue, &message);
    delete(&queue, &message);
    assert_eq!(queue.receive(1, LONG), Ok(vec![]));
}

#[test]
fn delete_with_an_old_handle_after_a_new_receive() {
    // "Might not be deleted", says SQS; here it is not (invariant I3).
    let (time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let first = one(&queue, secs(1));
    time.advance(secs(2));
    let second = one(&queue, secs(1));
    assert_eq!(queue.delete(&first.receipt_handle()), Ok(Deletion::ReceivedAgain));
    time.advance(secs(2));
    // Not even when the newer lease is over as well.
    assert_eq!(queue.delete(&first.receipt_handle()), Ok(Deletion::ReceivedAgain));
    queue.advance(Millis::MAX);
    assert_eq!(queue.delete(&first.receipt_handle()), Ok(Deletion::ReceivedAgain));
    assert_eq!(queue.counts().visible, 1, "the token was put back");
    delete(&queue, &second);
    assert_eq!(queue.delete(&first.receipt_handle()), Ok(Deletion::Gone));
}

#[test]
fn delete_after_an_extension_beyond_the_first_timeout() {
    let (time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let message = one(&queue, secs(1));
    assert_eq!(
        queue.change_visibility(&message.receipt_handle(), secs(60)),
        Ok(VisibilityChange::Changed)
    );
    time.advance(secs(30));
    delete(&queue, &message);
}

#[test]
fn each_receive_gives_a_handle_of_its_own() {
    let (time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let mut handles = BTreeSet::new();
    for round in 0..100 {
        let timeout = if round % 2 == 0 { Duration::ZERO } else { secs(1) };
        let message = one(&queue, timeout);
        assert!(handles.insert(queue.encode_handle(&message.receipt_handle()).to_string()));
        time.advance(secs(2));
    }
}

#[test]
fn deleting_again_is_no_error() {
    let (_time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let message = one(&queue, secs(1));
    delete(&queue, &message);
    for _ in 0..2 {
        assert_eq!(queue.delete(&message.receipt_handle()), Ok(Deletion::Gone));
    }
}

#[test]
fn each_entry_of_a_batch_is_judged_alone() {
    let (time, broker, queue) = single();
    let elsewhere = common::queue(&broker, "elsewhere");
    elsewhere.send(b"m").expect("room");
    let foreign = one(&elsewhere, LONG).receipt_handle();
    let lease = |timeout| {
        queue.send(b"m").expect("room");
        one(&queue, timeout).receipt_handle()
    };
    let (stale, over) = (lease(secs(1)), lease(secs(9)));
    time.advance(secs(2));
    let newer = one(&queue, LONG).receipt_handle();
    let (running, gone) = (lease(LONG), lease(LONG));
    assert_eq!(queue.delete(&gone), Ok(Deletion::Deleted));
    time.advance(secs(8));

    let handles = [stale, over, foreign, gone, running];
    let changed = queue.change_visibility_batch(&handles.map(|handle| (handle, secs(60))));
    assert_eq!(
        changed.expect("valid")[..],
        [
            Err(ChangeVisibilityError::ReceivedAgain),
            Ok(VisibilityChange::LeaseOver),
            Err(ChangeVisibilityError::Foreign),
            Err(ChangeVisibilityError::Gone),
            Ok(VisibilityChange::Changed)
        ]
    );
    assert_eq!(
        queue.delete_batch(&handles).expect("valid")[..],
        [
            Ok(Deletion::ReceivedAgain),
            Ok(Deletion::Deleted),
            Err(DeleteError::Foreign),
            Ok(Deletion::Gone),
            Ok(Deletion::Deleted)
        ]
    );
    assert_eq!(queue.delete(&newer), Ok(Deletion::Deleted));
    assert_eq!(elsewhere.delete(&foreign), Ok(Deletion::Deleted));
    assert_eq!((queue.census(), elsewhere.census()), ((0, 0, 0), (0, 0, 0)));
}

#[test]
fn handles_live_on_as_text() {
    let (time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    let first = queue
        .encode_handle(&one(&queue, secs(1)).receipt_handle())
        .to_string();
    time.advance(secs(2));
    let second = queue
        .encode_handle(&one(&queue, secs(1)).receipt_handle())
        .to_string();
    assert_ne!(first, second);
    assert!(first.len() <= 1024);
    let first = queue.decode_handle(&first).expect("ours");
    let second = queue.decode_handle(&second).expect("ours");
    assert_eq!(queue.delete(&first), Ok(Deletion::ReceivedAgain));
    assert_eq!(queue.delete(&second), Ok(Deletion::Deleted));
}

// Counters and timestamps.

#[test]
fn sent_and_first_received_stay_and_the_count_grows() {
    let (time, broker, queue) = single();
    time.advance(ms(17));
    let id = queue.send(b"m").expect("room").message_id();
    time.advance(secs(5));
    for count in 1..=10 {
        let message = one(&queue, secs(1));
        assert_eq!(message.message_id(), id);
        assert_eq!(message.receive_count(), count);
        assert_eq!(message.sent_at(), Millis::new(17));
        assert_eq!(message.first_received_at(), Millis::new(5017));
        // A manual clock begins at the Unix epoch.
        assert_eq!(broker.unix_millis(message.sent_at()), 17);
        time.advance(secs(2));
    }
}

#[test]
fn message_ids_are_unique_across_queues_and_partitions() {
    let (_time, broker) = manual(3);
    let mut ids = BTreeSet::new();
    for name in ["a", "b"] {
        let queue = queue(&broker, name);
        for home in 0..3 {
            let worker = broker.worker_at(home).expect("a worker");
            worker.turn(|turn| {
                for _ in 0..600 {
                    assert!(ids.insert(turn.send(&queue, b"x").expect("room").message_id()));
                }
            });
        }
        let received: BTreeSet<_> = drain(&queue).iter().map(|m| m.message_id()).collect();
        assert_eq!(received.len(), 1800);
        assert!(received.is_subset(&ids));
    }
}

#[test]
fn message_ids_are_uuids_of_at_most_a_hundred_characters() {
    let (_time, _broker, queue) = single();
    for _ in 0..100 {
        let text = queue.send(b"m").expect("room").message_id().to_string();
        let groups: Vec<_> = text.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{text}");
        assert!(text.chars().all(|c| c == '-' || c.is_ascii_hexdigit()), "{text}");
        let received = one(&queue, LONG);
        assert_eq!(text.parse(), Ok(received.message_id()));
    }
}

#[test]
fn counts_follow_the_states() {
    let (time, _broker, queue) = single();
    let state = |queue: &Queue| {
        let counts = queue.counts();
        assert_eq!(queue.census(), (counts.visible, counts.in_flight, counts.delayed));
        (counts.visible, counts.in_flight)
    };
    assert_eq!(state(&queue), (0, 0));
    for number in 0..5 {
        queue.send(&numbered(number, 8)).expect("room");
    }
    assert_eq!(state(&queue), (5, 0));
    let leased = queue.receive(3, secs(10)).expect("valid");
    assert_eq!(state(&queue), (2, 3));
    release(&queue, &leased[0]);
    assert_eq!(state(&queue), (3, 2));
    delete(&queue, &leased[0]);
    assert_eq!(state(&queue), (2, 2));
    delete(&queue, &leased[1]);
    assert_eq!(state(&queue), (2, 1));
    time.advance(secs(11));
    assert_eq!(state(&queue), (2, 1), "nobody has noticed yet");
    assert_eq!(queue.advance(Millis::MAX), None);
    assert_eq!(state(&queue), (3, 0));
    let counts = queue.counts();
    assert_eq!((counts.sent, counts.received, counts.deleted), (5, 3, 2));
    assert_eq!((counts.released, counts.expired), (1, 1));
}

// Due moments.

#[test]
fn next_due_is_not_later_than_the_next_lease_end() {
    let (time, _broker, queue) = single();
    assert_eq!(queue.next_due(), None);
    for number in 0..3 {
        queue.send(&numbered(number, 8)).expect("room");
    }
    assert_eq!(queue.next_due(), None);
    one(&queue, secs(30));
    one(&queue, secs(10));
    one(&queue, secs(20));
    for done in 0..3 {
        let due = queue.next_due().expect("a lease runs");
        assert_eq!(due, Millis::new((done + 1) * 10_000 + 1));
        time.advance(due.since(time.now()) - ms(1));
        queue.advance(Millis::MAX);
        assert_eq!(queue.counts().visible, done, "not a millisecond early");
        time.advance(ms(1));
        queue.advance(due);
        assert_eq!(queue.counts().visible, done + 1);
    }
    assert_eq!(queue.next_due(), None);
}

#[test]
fn advance_ends_no_lease_early() {
    let (time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    one(&queue, secs(30));
    time.advance(secs(29));
    assert_eq!(queue.advance(Millis::MAX), Some(Millis::new(30_001)));
    assert_eq!(queue.counts().in_flight, 1);
    time.advance(secs(2));
    // Nor later than asked to look.
    assert_eq!(queue.advance(Millis::new(30_000)), Some(Millis::new(30_001)));
    assert_eq!(queue.counts().in_flight, 1);
    assert_eq!(queue.advance(Millis::new(30_001)), None);
    assert_eq!(queue.counts().visible, 1);
}

// Order and fairness.

#[test]
fn one_partition_delivers_in_the_order_sent() {
    let (_time, _broker, queue) = single();
    for number in 0..2000 {
        queue.send(&numbered(number, 8)).expect("room");
    }
    let order: Vec<_> = drain(&queue)
        .iter()
        .map(|message| number_of(message.body()))
        .collect();
    assert_eq!(order, (0..2000).collect::<Vec<_>>());
}

#[test]
fn a_batch_keeps_its_order() {
    let (_time, _broker, queue) = single();
    for batch in 0..100u64 {
        let bodies: Vec<_> = (0..10).map(|at| numbered(batch * 10 + at, 40)).collect();
        let sent = queue.send_batch(&bodies).expect("valid");
        assert!(sent.iter().all(Result::is_ok));
    }
    let order: Vec<_> = drain(&queue)
        .iter()
        .map(|message| number_of(message.body()))
        .collect();
    assert_eq!(order, (0..1000).collect::<Vec<_>>());
}

#[test]
fn a_receive_brings_as_many_as_asked_for_and_never_more() {
    let (_time, _broker, queue) = single();
    for number in 0..600 {
        queue.send(&numbered(number, 16)).expect("room");
    }
    let all = drain(&queue);
    for number in 600..625 {
        queue.send(&numbered(number, 16)).expect("room");
    }
    // Some of them behind the head.
    all.iter()
        .step_by(20)
        .for_each(|message| release(&queue, message));
    let mut seen = BTreeSet::new();
    for max in 1..=10 {
        let received = queue.receive(max, LONG).expect("valid");
        assert_eq!(received.len(), max);
        seen.extend(bodies(&received));
    }
    assert_eq!(seen.len(), 55);
    assert_eq!(queue.receive(10, LONG), Ok(vec![]));
}

#[test]
fn a_receive_from_many_partitions_never_brings_more_than_asked_for() {
    for max in 1..=10 {
        let (_time, broker) = manual(8);
        let queue = queue(&broker, "wide");
        for home in 0..8 {
            let worker = broker.worker_at(home).expect("a worker");
            worker.turn(|turn| {
                for _ in 0..7 {
                    turn.send(&queue, b"m").expect("room");
                }
            });
        }
        let mut left = 56;
        while left > 0 {
            let received = queue.receive(max, LONG).expect("valid").len();
            assert!((1..=max).contains(&received), "{received} of {left}");
            left -= received;
        }
    }
}

#[test]
fn an_empty_answer_means_that_every_partition_was_looked_at() {
    for home in 0..8 {
        for target in 0..8 {
            let (_time, broker) = manual(8);
            let queue = queue(&broker, "wide");
            let sender = broker.worker_at(target).expect("a worker");
            sender.turn(|turn| turn.send(&queue, b"m").map(|_| ()).expect("room"));
            let receiver = broker.worker_at(home).expect("a worker");
            receiver.turn(|turn| {
                let received = turn.receive(&queue, 1, LONG).expect("valid");
                assert_eq!(received.len(), 1, "sent to {target}, received at {home}");
                assert!(turn.receive(&queue, 10, LONG).expect("valid").is_empty());
            });
        }
    }
}

#[test]
fn leases_end_on_partitions_that_nobody_calls_home() {
    let (time, broker) = manual(8);
    let queue = queue(&broker, "wide");
    for home in 0..8 {
        let worker = broker.worker_at(home).expect("a worker");
        worker.turn(|turn| {
            turn.send(&queue, &numbered(home as u64, 8)).expect("room");
            assert_eq!(turn.receive(&queue, 1, secs(1)).expect("valid").len(), 1);
        });
    }
    let receiver = broker.worker_at(0).expect("a worker");
    assert_eq!(receiver.home(), 0);
    assert_eq!(queue.receive(10, LONG), Ok(vec![]));
    time.advance(secs(2));
    assert_eq!(bodies(&drain(&queue)).len(), 8);
}

#[test]
fn the_older_partition_is_served_too() {
    // A worker whose own partition never runs dry must not let another one's messages lie for ever.
    let (time, broker) = manual(2);
    let queue = queue(&broker, "two");
    let there = broker.worker_at(1).expect("a worker");
    there.turn(|turn| turn.send(&queue, b"old").map(|_| ()).expect("room"));
    drop(there);
    let here = broker.worker_at(0).expect("a worker");
    for max in [1, 10] {
        time.advance(secs(1));
        let found = (0..1000).find(|_| {
            time.advance(ms(1));
            for _ in 0..max {
                queue.send(b"new").expect("room");
            }
            let received = queue.receive(max, LONG).expect("valid");
            assert!(!received.is_empty());
            received.iter().any(|message| {
                if message.body() == b"old" {
                    release(&queue, message);
                    return true;
                }
                delete(&queue, message);
                false
            })
        });
        assert!(found.is_some_and(|receives| receives <= 64), "{found:?}");
    }
    assert_eq!(here.home(), 0);
}

/// Where the next message comes from: each says who has sent it.
fn sender_of_next(queue: &Queue) -> u64 {
    let message = one(queue, LONG);
    delete(queue, &message);
    number_of(message.body())
}

fn send_from(broker: &Broker, queue: &Queue, home: usize, messages: usize) {
    let worker = broker.worker_at(home).expect("a worker");
    worker.turn(|turn| {
        for _ in 0..messages {
            turn.send(queue, &numbered(home as u64, 8)).expect("room");
        }
    });
}

#[test]
fn who_has_nothing_at_home_goes_on_where_it_found_something() {
    let (_time, broker) = manual(8);
    let queue = queue(&broker, "wide");
    for home in 0..6 {
        send_from(&broker, &queue, home, 100);
    }
    let consumer = broker.worker_at(7).expect("a worker");
    let mut senders: Vec<_> = (0..600).map(|_| sender_of_next(&queue)).collect();
    senders.dedup();
    // Now and then it begins at home, to be sure, and goes on where it was.
    assert_eq!(senders.len(), 6, "{senders:?}");
    assert_eq!(queue.receive(1, LONG), Ok(vec![]));
    assert_eq!(consumer.home(), 7);
}

/// Not because leases elsewhere may be over, nor because something came back now and then.
#[test]
fn who_has_gone_elsewhere_stays_there_while_there_is_something() {
    for max in [1, 10] {
        let (time, broker) = manual(8);
        let queue = queue(&broker, "wide");
        for home in 0..8 {
            send_from(&broker, &queue, home, 1);
        }
        // All partitions are swept from now on.
        for _ in 0..8 {
            one(&queue, secs(1));
        }
        time.advance(secs(2));
        for _ in 0..8 {
            delete(&queue, &one(&queue, LONG));
        }
        let consumer = broker.worker_at(7).expect("a worker");
        for home in 0..6 {
            send_from(&broker, &queue, home, 600 * max);
        }
        let mut senders = Vec::new();
        while senders.len() < 500 * max {
            if senders.len() % (100 * max) == 0 {
                time.advance(ms(3));
            }
            for message in queue.receive(max, LONG).expect("valid") {
                senders.push(number_of(message.body()));
                if senders.len() % (40 * max) == 0 {
                    release(&queue, &message);
                } else {
                    delete(&queue, &message);
                }
            }
        }
        senders.dedup();
        assert!(senders.len() <= 40, "{max} at a time: {senders:?}");
        assert_eq!(consumer.home(), 7);
    }
}

/// Workers that send, receive and delete at home, each a step behind the one before: one who comes by at another one's home now and then takes
/// a message there, so that its owner has to look elsewhere, and so on. That is over when somebody takes the one left behind.
#[test]
fn who_is_at_home_stays_there() {
    let (time, broker) = manual(16);
    let queue = queue(&broker, "wide");
    let workers: Vec<_> = (0..16)
        .map(|home| broker.worker_at(home).expect("a worker"))
        .collect();
    let mut received: Vec<Vec<_>> = (0..16).map(|_| Vec::new()).collect();
    let (mut all, mut of_others) = (0, 0);
    for step in 0..30_000 {
        for (home, worker) in workers.iter().enumerate() {
            match (step + 3 - home % 3) % 3 {
                _ if step < home % 3 => {}
                0 => worker.turn(|turn| {
                    turn.send(&queue, &numbered(home as u64, 8)).expect("room");
                }),
                1 => worker.turn(|turn| {
                    for delivery in turn.receive(&queue, 1, LONG).expect("valid").iter() {
                        all += 1;
                        of_others += usize::from(number_of(delivery.body()) != home as u64);
                        received[home].push(delivery.receipt_handle());
                    }
                }),
                _ => worker.turn(|turn| {
                    for handle in received[home].drain(..) {
                        assert_eq!(turn.delete(&queue, &handle), Ok(Deletion::Deleted));
                    }
                }),
            }
        }
        if step % 100 == 0 {
            time.advance(ms(1));
        }
    }
    assert!(all > 150_000, "{all}");
    drop(workers);
    assert!(of_others * 20 < all, "{of_others} of {all}");
}

#[test]
fn who_has_gone_elsewhere_comes_home_for_a_message() {
    let (_time, broker) = manual(8);
    let queue = queue(&broker, "wide");
    send_from(&broker, &queue, 0, 100);
    let consumer = broker.worker_at(7).expect("a worker");
    for _ in 0..10 {
        assert_eq!(sender_of_next(&queue), 0);
        send_from(&broker, &queue, 7, 2);
        assert_eq!(sender_of_next(&queue), 7);
        assert_eq!(sender_of_next(&queue), 7);
    }
    assert_eq!(consumer.home(), 7);
}

#[test]
fn who_has_gone_elsewhere_comes_home_for_a_lease_that_is_over() {
    let (time, broker) = manual(8);
    let queue = queue(&broker, "wide");
    let consumer = broker.worker_at(7).expect("a worker");
    queue.send(&numbered(7, 8)).expect("room");
    assert_eq!(queue.receive(1, secs(1)).expect("valid").len(), 1);
    time.advance(ms(10));
    assert_eq!(queue.receive(1, LONG), Ok(vec![]));
    send_from(&broker, &queue, 0, 100);
    assert_eq!(sender_of_next(&queue), 0);
    time.advance(secs(2));
    // The one that notices the time, and the next.
    let next: Vec<_> = (0..2).map(|_| sender_of_next(&queue)).collect();
    assert!(next.contains(&7), "{next:?}");
    assert_eq!(consumer.home(), 7);
}

#[test]
fn who_has_gone_elsewhere_goes_to_the_older_partition() {
    let (time, broker) = manual(3);
    let queue = queue(&broker, "three");
    let consumer = broker.worker_at(2).expect("a worker");
    for round in 0..20 {
        let (old, new) = (round % 2, 1 - round % 2);
        // Gone to where the new ones will be.
        send_from(&broker, &queue, new, 1);
        assert_eq!(sender_of_next(&queue), new as u64);
        send_from(&broker, &queue, old, 50);
        time.advance(ms(20));
        send_from(&broker, &queue, new, 100);
        let mut senders: Vec<_> = (0..150).map(|_| sender_of_next(&queue)).collect();
        let first = senders.iter().position(|&sender| sender == old as u64);
        assert!(first.is_some_and(|first| first <= 64), "{first:?}");
        senders.dedup();
        assert!(
            senders.len() <= 6,
            "it stays until nothing older is left: {senders:?}"
        );
    }
    assert_eq!(consumer.home(), 2);
}

#[test]
fn who_has_gone_elsewhere_leaves_what_only_comes_back() {
    for (max, bound) in [(1, 2_000), (10, 200)] {
        let (time, broker) = manual(3);
        let queue = queue(&broker, "three");
        let consumer = broker.worker_at(2).expect("a worker");
        send_from(&broker, &queue, 1, 20);
        time.advance(ms(20));
        send_from(&broker, &queue, 0, 200);
        let mut left = 200;
        let receives = (0..100_000).position(|_| {
            for message in queue.receive(max, LONG).expect("valid") {
                if number_of(message.body()) == 1 {
                    release(&queue, &message);
                } else {
                    delete(&queue, &message);
                    left -= 1;
                }
            }
            left == 0
        });
        assert!(receives.is_some_and(|receives| receives <= bound), "{receives:?}");
        assert_eq!(consumer.home(), 2);
    }
}

/// A consumer with few receives and much to receive where it is comes to the others' older messages with one in so many as there are
/// partitions, also if it receives from another queue in the same turn.
#[test]
fn who_has_gone_elsewhere_and_receives_seldom_looks_around_each_time() {
    let (time, broker) = manual(16);
    let both = ["wide", "besides"].map(|name| queue(&broker, name));
    let queue = &both[0];
    let consumer = broker.worker_at(15).expect("a worker");
    let sender_of_next = || {
        consumer.turn(|turn| {
            let next = both.each_ref().map(|queue| {
                let delivery = turn.receive_one(queue, LONG).expect("valid").expect("a message");
                let number = number_of(delivery.body());
                let deleted = turn.delete(queue, &delivery.receipt_handle());
                assert_eq!(deleted, Ok(Deletion::Deleted));
                number
            });
            next[0]
        })
    };
    send_from(&broker, &both[1], 0, 20_000);
    let mut receives = 0;
    for home in 1..11 {
        send_from(&broker, queue, 0, 1);
        assert_eq!(sender_of_next(), 0);
        send_from(&broker, queue, home, 1);
        time.advance(ms(20));
        send_from(&broker, queue, 0, 1_000);
        let found = (0..1_000).position(|_| {
            time.advance(ms(100));
            sender_of_next() == home as u64
        });
        receives += found.expect("one of so many");
        queue.purge().expect("there");
    }
    // On average 15 each.
    assert!(receives <= 300, "{receives}");
    assert_eq!(consumer.home(), 15);
}

/// How many receives of one message each it takes until `wanted` comes; everything else is deleted.
fn receives_until(queue: &Queue, wanted: &[u8]) -> usize {
    for receives in 1..=100_000 {
        let message = one(queue, LONG);
        let found = message.body() == wanted;
        delete(queue, &message);
        if found {
            return receives;
        }
    }
    panic!("it never came");
}

#[test]
fn a_redelivery_does_not_wait_behind_the_backlog() {
    for (partitions, bound) in [(1, 4), (2, 130)] {
        let (time, broker) = manual(partitions);
        let queue = queue(&broker, "backlog");
        let there = broker.worker_at(partitions - 1).expect("a worker");
        queue.send(b"redelivered").expect("room");
        one(&queue, secs(1));
        drop(there);
        let here = broker.worker_at(0).expect("a worker");
        for number in 0..10_000 {
            queue.send(&numbered(number, 16)).expect("room");
        }
        // The head leaves the segment that the leased message is in.
        for _ in 0..600 {
            delete(&queue, &one(&queue, LONG));
        }
        time.advance(secs(2));
        let receives = receives_until(&queue, b"redelivered");
        assert!(
            receives <= bound,
            "{receives} receives on {partitions} partitions"
        );
        assert_eq!(here.home(), 0);
        assert!(queue.counts().visible > 9000);
    }
}

/// Nobody is at home where the redelivery and its backlog are: one comes by now and again, and finds both.
#[test]
fn a_redelivery_on_another_partition_does_not_wait_behind_the_backlog_there() {
    let (time, broker) = manual(2);
    let queue = queue(&broker, "backlog");
    let there = broker.worker_at(1).expect("a worker");
    queue.send(b"redelivered").expect("room");
    one(&queue, secs(1));
    for number in 0..10_000 {
        queue.send(&numbered(number, 16)).expect("room");
    }
    for _ in 0..600 {
        delete(&queue, &one(&queue, LONG));
    }
    drop(there);
    time.advance(secs(2));
    let here = broker.worker_at(0).expect("a worker");
    for number in 0..30_000 {
        queue.send(&numbered(number, 16)).expect("room");
    }
    let receives = receives_until(&queue, b"redelivered");
    assert!(receives <= 130, "{receives} receives");
    assert_eq!(here.home(), 0);
}

#[test]
fn a_release_does_not_wait_behind_the_backlog() {
    let (_time, _broker, queue) = single();
    queue.send(b"released").expect("room");
    let message = one(&queue, LONG);
    for number in 0..10_000 {
        queue.send(&numbered(number, 16)).expect("room");
    }
    for _ in 0..600 {
        delete(&queue, &one(&queue, LONG));
    }
    release(&queue, &message);
    let receives = receives_until(&queue, b"released");
    assert!(receives <= 4, "{receives} receives");
}

#[test]
fn many_redeliveries_do_not_block_the_backlog() {
    let (time, _broker, queue) = single();
    for number in 0..2000 {
        queue.send(&numbered(number, 16)).expect("room");
    }
    for _ in 0..100 {
        queue.receive(10, secs(1)).expect("valid");
    }
    time.advance(secs(2));
    queue.send(b"new").expect("room");
    // A thousand came back, a thousand wait before the new one: they take turns.
    let receives = receives_until(&queue, b"new");
    assert!(receives <= 2001, "{receives}");
}

/// Handles one message at a time: `poison` fails at once and is released, everything else is deleted. How many receives
/// it takes until all the others are done.
fn work_around_poison(queue: &Queue, others: usize, limit: usize) -> Option<usize> {
    let mut done = 0;
    for receives in 1..=limit {
        let message = one(queue, secs(30));
        if message.body() == b"poison" {
            release(queue, &message);
        } else {
            delete(queue, &message);
            done += 1;
        }
        if done == others {
            return Some(receives);
        }
    }
    None
}

#[test]
fn a_poison_message_behind_the_head_does_not_block() {
    let (_time, _broker, queue) = single();
    queue.send(b"poison").expect("room");
    let poison = one(&queue, LONG);
    for number in 0..3000 {
        queue.send(&numbered(number, 16)).expect("room");
    }
    for _ in 0..1000 {
        delete(&queue, &one(&queue, LONG));
    }
    release(&queue, &poison);
    let receives = work_around_poison(&queue, 2000, 10_000);
    assert!(receives.is_some_and(|receives| receives <= 4100), "{receives:?}");
}

#[test]
fn a_poison_message_at_the_head_does_not_block() {
    let (_time, _broker, queue) = single();
    queue.send(b"poison").expect("room");
    for number in 0..20 {
        queue.send(&numbered(number, 16)).expect("room");
    }
    let receives = work_around_poison(&queue, 20, 2000);
    assert!(
        receives.is_some(),
        "2000 receives of one message brought nothing but the poison: {:?}",
        queue.counts()
    );
}

#[test]
fn poison_whose_lease_runs_out_does_not_block() {
    let (time, _broker, queue) = single();
    queue.send(b"poison").expect("room");
    for number in 0..20 {
        queue.send(&numbered(number, 16)).expect("room");
    }
    let mut done = 0;
    for _ in 0..100 {
        let all = queue.receive(1, secs(30)).expect("valid");
        for message in all {
            if message.body() != b"poison" {
                delete(&queue, &message);
                done += 1;
            }
        }
        time.advance(secs(10));
    }
    assert_eq!(done, 20);
    // And the poison is still there.
    time.advance(secs(31));
    assert_eq!(one(&queue, LONG).body(), b"poison");
}

/// Handles that were given up and then used leave nothing between a receiver and what is visible.
#[test]
fn visible_messages_are_found_behind_any_number_of_stale_returns() {
    for stale in [0, 1, 31, 32, 33, 64, 65, 128, 129, 1000] {
        let (_time, _broker, queue) = single();
        // Several segments, so that the head passes those of the messages at hand.
        for number in 0..1300 {
            queue.send(&numbered(number, 16)).expect("room");
        }
        let all = drain(&queue);
        queue.send(b"far ahead").expect("room");
        delete(&queue, &one(&queue, LONG));
        for message in &all[..stale] {
            release(&queue, message);
            delete(&queue, message);
        }
        release(&queue, &all[stale]);
        assert_eq!(queue.counts().visible, 1);
        let found = queue.receive(1, LONG).expect("valid");
        assert_eq!(
            found.len(),
            1,
            "with {stale} stale returns before it, nothing came"
        );
        assert_eq!(found[0].message_id(), all[stale].message_id());
        for message in &all[stale + 1..] {
            delete(&queue, message);
        }
    }
}

#[test]
fn bodies_of_every_size_come_back_whole() {
    let (_time, _broker, queue) = single();
    let lengths = [
        8,
        9,
        15,
        16,
        17,
        63,
        64,
        65,
        255,
        1023,
        1024,
        1025,
        4096,
        65_536,
        1 << 20,
    ];
    for (number, &length) in lengths.iter().cycle().take(300).enumerate() {
        queue.send(&numbered(number as u64, length)).expect("room");
    }
    let all = drain(&queue);
    assert_eq!(all.len(), 300);
    for message in &all {
        let number = number_of(message.body());
        assert_eq!(message.body().len(), lengths[number as usize % lengths.len()]);
    }
    queue.send(b"x").expect("room");
    assert_eq!(one(&queue, LONG).into_body()[..], *b"x", "a single byte too");
    for message in &all {
        delete(&queue, message);
    }
}

#[test]
fn queues_of_one_broker_do_not_mix() {
    let (_time, broker) = manual(2);
    let queues: Vec<_> = (0..5).map(|n| queue(&broker, &format!("queue-{n}"))).collect();
    for number in 0..500 {
        queues[number as usize % 5]
            .send(&numbered(number, 16))
            .expect("room");
    }
    for (at, queue) in queues.iter().enumerate() {
        let all = drain(queue);
        assert_eq!(all.len(), 100);
        assert!(all.iter().all(|m| number_of(m.body()) as usize % 5 == at));
    }
}

#[test]
fn a_queue_outlives_its_broker() {
    let (_time, broker) = manual(2);
    let queue = queue(&broker, "orphan");
    drop(broker);
    queue.send(b"m").expect("room");
    assert_eq!(empty(&queue), 1);
}

/// A worker that goes round several queues gives each of them all its turns: what happens every second or seventh time
/// must not fall in step with the round.
#[test]
fn a_worker_with_many_queues_finds_what_came_back_in_each() {
    for queues in 1..=8 {
        let (time, broker) = manual(1);
        let all: Vec<Queue> = (0..queues).map(|n| queue(&broker, &format!("q{n}"))).collect();
        for queue in &all {
            queue.send(b"came back").expect("room");
            one(queue, secs(1));
            for number in 0..1000 {
                queue.send(&numbered(number, 16)).expect("room");
            }
            // The head leaves the segment of the one that comes back.
            for _ in 0..600 {
                delete(queue, &one(queue, LONG));
            }
        }
        time.advance(secs(2));
        let mut found = vec![false; queues];
        for _ in 0..10 {
            for (queue, found) in all.iter().zip(&mut found) {
                *found |= one(queue, LONG).body() == b"came back";
            }
        }
        assert!(found.iter().all(|&found| found), "{queues} queues: {found:?}");
    }
}

/// Messages received and released again and again share the receives among them.
#[test]
fn one_poison_message_does_not_block_another() {
    let (_time, _broker, queue) = single();
    for number in 0..20 {
        queue.send(&numbered(number, 16)).expect("room");
    }
    let all = drain(&queue);
    all.iter().for_each(|message| release(&queue, message));
    let mut seen = BTreeSet::new();
    for _ in 0..2000 {
        let message = one(&queue, LONG);
        seen.insert(number_of(message.body()));
        release(&queue, &message);
    }
    assert_eq!(seen.len(), 20, "{seen:?}");
}
