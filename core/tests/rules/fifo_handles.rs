//! FIFO queues: what receipt handles are good for, rule by rule, on a clock that stands still.

use std::time::Duration;

use crate::common::{
    LONG, delete, fifo, fifo_with, hours, manual, ms, one, release, secs, send_to_groups, states, texts,
};
use epoq::{
    Broker, ChangeVisibilityError, DeleteError, Deletion, HandleError, ManualClock, Message, Queue,
    QueueConfig, VisibilityChange,
};

fn single() -> (ManualClock, Broker, Queue) {
    let (time, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    (time, broker, queue)
}

fn deleting(queue: &Queue, message: &Message) -> Result<Deletion, DeleteError> {
    queue.delete(&message.receipt_handle())
}

fn changing(
    queue: &Queue,
    message: &Message,
    timeout: Duration,
) -> Result<VisibilityChange, ChangeVisibilityError> {
    queue.change_visibility(&message.receipt_handle(), timeout)
}

const EXPIRED: Result<Deletion, DeleteError> = Err(DeleteError::Expired);
const NOT_CHANGED: Result<VisibilityChange, ChangeVisibilityError> = Err(ChangeVisibilityError::Expired);
const CHANGED: Result<VisibilityChange, ChangeVisibilityError> = Ok(VisibilityChange::Changed);

// Deleting.

#[test]
fn a_handle_deletes_while_its_lease_is_running() {
    let (time, _broker, queue) = single();
    send_to_groups(&queue, &["g-1"]);
    let message = one(&queue, secs(30));
    time.advance(secs(30));
    assert_eq!(deleting(&queue, &message), Ok(Deletion::Deleted));
    assert_eq!(states(&queue), (0, 0, 0));
}

#[test]
fn a_handle_whose_lease_is_over_does_not_delete() {
    for is_swept in [false, true] {
        let (time, broker, queue) = single();
        send_to_groups(&queue, &["g-1"]);
        let message = one(&queue, secs(30));
        time.advance(secs(30) + ms(1));
        if is_swept {
            queue.advance(broker.now());
            assert_eq!(states(&queue), (1, 0, 0));
        }
        for _ in 0..2 {
            assert_eq!(deleting(&queue, &message), EXPIRED);
        }
        let again = one(&queue, secs(30));
        assert_eq!((again.body(), again.receive_count()), (&b"g-1"[..], 2));
        delete(&queue, &again);
    }
}

#[test]
fn a_handle_does_not_delete_what_was_received_again() {
    let (time, _broker, queue) = single();
    send_to_groups(&queue, &["g-1"]);
    let first = one(&queue, secs(30));
    time.advance(secs(31));
    let second = one(&queue, secs(30));
    assert_ne!(first.receipt_handle(), second.receipt_handle());
    assert_eq!(deleting(&queue, &first), EXPIRED);
    assert_eq!(states(&queue), (0, 1, 0));
    delete(&queue, &second);
}

#[test]
fn a_handle_does_not_delete_what_was_released() {
    let (_, _broker, queue) = single();
    send_to_groups(&queue, &["g-1"]);
    let message = one(&queue, secs(30));
    release(&queue, &message);
    assert_eq!(deleting(&queue, &message), EXPIRED);
    assert_eq!(states(&queue), (1, 0, 0));
}

#[test]
fn a_message_received_without_a_lease_cannot_be_deleted() {
    let (_, _broker, queue) = single();
    send_to_groups(&queue, &["g-1"]);
    let shown = one(&queue, Duration::ZERO);
    assert_eq!(deleting(&queue, &shown), EXPIRED);
    assert_eq!(changing(&queue, &shown, secs(30)), NOT_CHANGED);
    // And it is receivable again at once, counted.
    let message = one(&queue, secs(30));
    assert_eq!(
        (message.message_id(), message.receive_count()),
        (shown.message_id(), 2)
    );
    assert_eq!(deleting(&queue, &shown), EXPIRED);
    delete(&queue, &message);
}

#[test]
fn a_deleted_message_is_gone() {
    let (_, _broker, queue) = single();
    send_to_groups(&queue, &["g-1", "g-2"]);
    let message = one(&queue, secs(30));
    assert_eq!(deleting(&queue, &message), Ok(Deletion::Deleted));
    assert_eq!(deleting(&queue, &message), Ok(Deletion::Gone));
    assert_eq!(
        changing(&queue, &message, secs(30)),
        Err(ChangeVisibilityError::Gone)
    );
    assert_eq!(
        changing(&queue, &message, Duration::ZERO),
        Err(ChangeVisibilityError::Gone)
    );
    assert_eq!(states(&queue), (1, 0, 0));
}

#[test]
fn a_message_extended_beyond_its_first_lease_is_deleted_still() {
    let (time, _broker, queue) = single();
    send_to_groups(&queue, &["g-1"]);
    let message = one(&queue, secs(30));
    time.advance(secs(29));
    assert_eq!(changing(&queue, &message, secs(60)), CHANGED);
    time.advance(secs(60));
    assert_eq!(deleting(&queue, &message), Ok(Deletion::Deleted));
}

#[test]
fn a_shortened_lease_is_over_earlier() {
    let (time, _broker, queue) = single();
    send_to_groups(&queue, &["g-1"]);
    let message = one(&queue, secs(30));
    assert_eq!(changing(&queue, &message, secs(5)), CHANGED);
    time.advance(secs(5) + ms(1));
    assert_eq!(deleting(&queue, &message), EXPIRED);
    assert_eq!(one(&queue, secs(30)).receive_count(), 2);
}

#[test]
fn a_message_past_its_retention_is_gone() {
    let (time, broker) = manual(1);
    let config = QueueConfig {
        retention: secs(60),
        ..QueueConfig::default()
    };
    let queue = fifo_with(&broker, "q.fifo", config);
    send_to_groups(&queue, &["g-1"]);
    let message = one(&queue, hours(1));
    time.advance(secs(61));
    queue.advance(broker.now());
    assert_eq!(deleting(&queue, &message), Ok(Deletion::Gone));
    assert_eq!(
        changing(&queue, &message, secs(1)),
        Err(ChangeVisibilityError::Gone)
    );
}

#[test]
fn a_purged_message_is_gone() {
    let (_, _broker, queue) = single();
    send_to_groups(&queue, &["g-1"]);
    let message = one(&queue, secs(30));
    assert_eq!(queue.purge(), Ok(1));
    assert_eq!(deleting(&queue, &message), Ok(Deletion::Gone));
    assert_eq!(
        changing(&queue, &message, secs(30)),
        Err(ChangeVisibilityError::Gone)
    );
    send_to_groups(&queue, &["g-2"]);
    assert_eq!(deleting(&queue, &message), Ok(Deletion::Gone));
    assert_eq!(states(&queue), (1, 0, 0));
}

#[test]
fn a_batch_of_deletions_has_an_answer_for_each() {
    let (time, broker, queue) = single();
    let other = fifo(&broker, "other.fifo");
    send_to_groups(&other, &["g-1"]);
    let foreign = one(&other, LONG);
    send_to_groups(&queue, &["a-1"]);
    let old = one(&queue, secs(1));
    time.advance(secs(2));
    let again = one(&queue, LONG);
    send_to_groups(&queue, &["b-1", "b-2", "c-1", "c-2"]);
    let more = queue.receive(3, LONG).expect("valid");
    let handles: Vec<_> = [&old, &more[0], &foreign, &more[2], &more[0], &again]
        .iter()
        .map(|message| message.receipt_handle())
        .collect();
    let results = queue.delete_batch(&handles).expect("valid");
    let expected = [
        Err(DeleteError::Expired),
        Ok(Deletion::Deleted),
        Err(DeleteError::Foreign),
        Ok(Deletion::Deleted),
        Ok(Deletion::Gone),
        Ok(Deletion::Deleted),
    ];
    assert_eq!(results.iter().copied().collect::<Vec<_>>(), expected);
    // Of c all that was in flight is gone, of b there is one.
    assert_eq!(texts(&queue.receive(10, LONG).expect("valid")), ["c-2"]);
    delete(&queue, &more[1]);
    assert_eq!(states(&queue), (0, 1, 0));
}

#[test]
fn a_batch_of_deletions_unlocks_each_group_once() {
    let (_, _broker, queue) = single();
    send_to_groups(&queue, &["a-1", "a-2", "b-1", "b-2", "c-1", "c-2"]);
    let all = queue.receive(10, LONG).expect("valid");
    send_to_groups(&queue, &["a-3", "b-3", "c-3"]);
    // Interleaved, so that the groups alternate.
    let handles: Vec<_> = [0, 2, 4, 1, 3, 5]
        .map(|at: usize| all[at].receipt_handle())
        .into();
    let results = queue.delete_batch(&handles).expect("valid");
    assert!(results.iter().all(|result| *result == Ok(Deletion::Deleted)));
    assert_eq!(
        texts(&queue.receive(10, LONG).expect("valid")),
        ["a-3", "b-3", "c-3"]
    );
}

// Changing the lease.

#[test]
fn an_extension_counts_from_now() {
    let (time, _broker, queue) = single();
    send_to_groups(&queue, &["g-1"]);
    let message = one(&queue, secs(30));
    time.advance(secs(20));
    assert_eq!(changing(&queue, &message, secs(30)), CHANGED);
    time.advance(secs(30));
    assert_eq!(queue.receive(1, secs(30)), Ok(vec![]));
    time.advance(ms(1));
    assert_eq!(one(&queue, secs(30)).receive_count(), 2);
}

#[test]
fn a_handle_whose_lease_is_over_changes_nothing() {
    for is_swept in [false, true] {
        for timeout in [Duration::ZERO, secs(60)] {
            let (time, broker, queue) = single();
            send_to_groups(&queue, &["g-1"]);
            let message = one(&queue, secs(30));
            time.advance(secs(30) + ms(1));
            if is_swept {
                queue.advance(broker.now());
            }
            assert_eq!(changing(&queue, &message, timeout), NOT_CHANGED);
            assert_eq!(one(&queue, secs(30)).receive_count(), 2);
        }
    }
}

#[test]
fn a_handle_changes_nothing_of_what_was_received_again() {
    let (time, _broker, queue) = single();
    send_to_groups(&queue, &["g-1"]);
    let first = one(&queue, secs(30));
    time.advance(secs(31));
    let second = one(&queue, secs(30));
    for timeout in [Duration::ZERO, secs(1), secs(60)] {
        assert_eq!(changing(&queue, &first, timeout), NOT_CHANGED);
    }
    time.advance(secs(30));
    delete(&queue, &second);
}

#[test]
fn a_released_message_is_receivable_at_once_and_its_handle_is_over() {
    let (_, _broker, queue) = single();
    send_to_groups(&queue, &["g-1"]);
    let message = one(&queue, secs(30));
    release(&queue, &message);
    assert_eq!(changing(&queue, &message, Duration::ZERO), NOT_CHANGED);
    assert_eq!(states(&queue), (1, 0, 0));
    assert_eq!(queue.counts().released, 1);
    assert_eq!(one(&queue, secs(30)).receive_count(), 2);
}

#[test]
fn a_change_is_for_this_receive_only() {
    let (time, _broker, queue) = single();
    send_to_groups(&queue, &["g-1"]);
    let message = one(&queue, secs(30));
    assert_eq!(changing(&queue, &message, secs(100)), CHANGED);
    time.advance(secs(101));
    assert_eq!(queue.receive(1, None).expect("valid").len(), 1);
    time.advance(secs(30) + ms(1));
    assert_eq!(one(&queue, secs(1)).receive_count(), 3);
}

#[test]
fn a_lease_lasts_at_most_12_hours_from_its_receive() {
    let (time, _broker, queue) = single();
    let too_long = Err(ChangeVisibilityError::TotalTooLong { limit: hours(12) });
    send_to_groups(&queue, &["g-1"]);
    let message = one(&queue, secs(30));
    assert_eq!(changing(&queue, &message, hours(12)), CHANGED);
    time.advance(hours(11));
    assert_eq!(changing(&queue, &message, hours(1) + ms(1)), too_long);
    assert_eq!(changing(&queue, &message, hours(1)), CHANGED);
    time.advance(hours(1));
    assert_eq!(changing(&queue, &message, ms(1)), too_long);
    time.advance(ms(1));
    assert_eq!(deleting(&queue, &message), EXPIRED);
    // A new receive begins another twelve hours.
    let again = one(&queue, secs(30));
    assert_eq!(changing(&queue, &again, hours(12)), CHANGED);
    time.advance(hours(12));
    delete(&queue, &again);
}

#[test]
fn a_timeout_is_at_most_12_hours() {
    let (_, _broker, queue) = single();
    send_to_groups(&queue, &["g-1"]);
    let message = one(&queue, secs(30));
    let given = hours(12) + ms(1);
    assert_eq!(
        changing(&queue, &message, given),
        Err(ChangeVisibilityError::VisibilityTimeout {
            given,
            limit: hours(12)
        })
    );
    assert!(queue.receive(1, given).is_err());
}

#[test]
fn a_batch_of_changes_has_an_answer_for_each() {
    let (time, broker, queue) = single();
    let other = fifo(&broker, "other.fifo");
    send_to_groups(&other, &["g-1"]);
    let foreign = one(&other, LONG);
    send_to_groups(&queue, &["a-1"]);
    let old = one(&queue, secs(1));
    time.advance(secs(2));
    send_to_groups(&queue, &["b-1", "c-1", "c-2"]);
    let messages = queue.receive(10, secs(30)).expect("valid");
    assert_eq!(texts(&messages), ["b-1", "c-1", "c-2", "a-1"]);
    delete(&queue, &messages[0]);
    let changes = [
        (old.receipt_handle(), secs(60)),
        (messages[0].receipt_handle(), secs(60)),
        (messages[1].receipt_handle(), Duration::ZERO),
        (foreign.receipt_handle(), secs(60)),
        (messages[2].receipt_handle(), secs(60)),
        (messages[3].receipt_handle(), hours(13)),
    ];
    let results = queue.change_visibility_batch(&changes).expect("valid");
    let expected = [
        NOT_CHANGED,
        Err(ChangeVisibilityError::Gone),
        CHANGED,
        Err(ChangeVisibilityError::Foreign),
        CHANGED,
        Err(ChangeVisibilityError::VisibilityTimeout {
            given: hours(13),
            limit: hours(12),
        }),
    ];
    assert_eq!(results.iter().copied().collect::<Vec<_>>(), expected);
    assert_eq!(texts(&queue.receive(10, LONG).expect("valid")), ["c-1"]);
}

// Handles of elsewhere.

#[test]
fn a_handle_of_another_queue_is_foreign() {
    let (_, broker, queue) = single();
    let other = fifo(&broker, "other.fifo");
    send_to_groups(&queue, &["g-1"]);
    send_to_groups(&other, &["g-1"]);
    let message = one(&queue, secs(30));
    assert_eq!(deleting(&other, &message), Err(DeleteError::Foreign));
    assert_eq!(
        changing(&other, &message, secs(30)),
        Err(ChangeVisibilityError::Foreign)
    );
    assert_eq!(
        changing(&other, &message, Duration::ZERO),
        Err(ChangeVisibilityError::Foreign)
    );
    let text = queue.encode_handle(&message.receipt_handle()).to_string();
    assert_eq!(queue.decode_handle(&text), Ok(message.receipt_handle()));
    assert_eq!(other.decode_handle(&text), Err(HandleError::Foreign));
    delete(&queue, &message);
}

#[test]
fn garbage_is_no_handle() {
    let (_, _broker, queue) = single();
    send_to_groups(&queue, &["g-1"]);
    let message = one(&queue, secs(30));
    for garbage in ["", "garbage", "é", &"A".repeat(1024)] {
        assert_eq!(queue.decode_handle(garbage), Err(HandleError::Malformed));
    }
    let text = queue.encode_handle(&message.receipt_handle()).to_string();
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(bytes).expect("a text");
        assert!(queue.decode_handle(&forged).is_err(), "{forged}");
    }
    delete(&queue, &message);
}

#[test]
fn each_receive_gives_a_new_handle() {
    let (_, _broker, queue) = single();
    send_to_groups(&queue, &["g-1"]);
    let mut handles = Vec::new();
    for _ in 0..10 {
        let message = one(&queue, secs(30));
        let text = queue.encode_handle(&message.receipt_handle()).to_string();
        assert!(!handles.contains(&text) && text.len() <= 1024);
        handles.push(text);
        release(&queue, &message);
    }
}

#[test]
fn a_handle_means_nothing_after_its_queue_was_made_again() {
    let (_, broker, queue) = single();
    send_to_groups(&queue, &["g-1"]);
    let message = one(&queue, secs(30));
    broker.delete_queue("q.fifo").expect("there is one");
    assert_eq!(deleting(&queue, &message), Err(DeleteError::QueueDeleted));
    assert_eq!(
        changing(&queue, &message, secs(1)),
        Err(ChangeVisibilityError::QueueDeleted)
    );
    let again = fifo(&broker, "q.fifo");
    send_to_groups(&again, &["g-1"]);
    assert_eq!(deleting(&again, &message), Err(DeleteError::Foreign));
}
