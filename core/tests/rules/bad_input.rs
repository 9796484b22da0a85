//! Bad input and faults: each has a typed answer, none panics, and none costs another message.

use std::{error::Error, thread, time::Duration};

use crate::common::{LONG, bodies, days, drain, empty, hours, manual, manual_with, ms, one, queue, secs};
use epoq::{
    Attribute, BatchError, Broker, BuildError, ChangeVisibilityError, ConfigError, CreateQueueError,
    DeleteError, Deletion, HandleError, ManualClock, MessageId, Millis, NoSuchQueue, Outgoing, Queue,
    QueueConfig, ReceiptHandle, ReceiveError, SendError, VisibilityChange, WorkerError,
    limits::{BATCH_MAX, BODY_MAX, DELAY_MAX, NAME_MAX, PARTITIONS_MAX, VISIBILITY_MAX},
};

/// A queue with two messages that have nothing to do with what goes wrong: one visible, one in flight.
struct Scene {
    time: ManualClock,
    broker: Broker,
    queue: Queue,
    held: ReceiptHandle,
}

const HELD: &[u8] = b"held by a bystander";
const WAITING: &[u8] = b"waiting for a bystander";

fn scene() -> Scene {
    scene_with(Broker::builder().min_width(usize::MAX).partitions(2))
}

fn scene_with(builder: epoq::Builder) -> Scene {
    let (time, broker) = manual_with(builder);
    let queue = queue(&broker, "scene");
    queue.send(HELD).expect("room");
    let held = one(&queue, LONG).receipt_handle();
    queue.send(WAITING).expect("room");
    Scene {
        time,
        broker,
        queue,
        held,
    }
}

impl Scene {
    /// A message of the test's own, in flight; the bystanders stay as they are.
    fn leased(&self, body: &[u8], timeout: Duration) -> ReceiptHandle {
        self.queue.send(body).expect("room");
        let all = self.queue.receive(10, timeout).expect("valid");
        let mut handle = None;
        for message in all {
            if message.body() == body {
                handle = Some(message.receipt_handle());
            } else if timeout > Duration::ZERO {
                let released = self
                    .queue
                    .change_visibility(&message.receipt_handle(), Duration::ZERO);
                assert_eq!(released, Ok(VisibilityChange::Changed));
            }
        }
        handle.expect("the message just sent")
    }

    /// Both bystanders are as they were, and nothing else is left.
    fn assert_unharmed(self) {
        let waiting = drain(&self.queue);
        assert_eq!(bodies(&waiting), [WAITING.to_vec()].into());
        assert_eq!(waiting.len(), 1);
        assert_eq!(self.queue.census(), (0, 2, 0));
        let counts = self.queue.counts();
        assert_eq!((counts.visible, counts.in_flight), (0, 2));
        assert_eq!(self.queue.delete(&self.held), Ok(Deletion::Deleted));
        assert_eq!(
            self.queue.delete(&waiting[0].receipt_handle()),
            Ok(Deletion::Deleted)
        );
    }
}

#[test]
fn receive_of_none_or_of_more_than_ten() {
    let scene = scene();
    let worker = scene.broker.worker().expect("a worker");
    for given in [0, 11, 12, usize::MAX] {
        let refused = ReceiveError::Max {
            given,
            limit: BATCH_MAX,
        };
        assert_eq!(scene.queue.receive(given, LONG), Err(refused));
        worker.turn(|turn| {
            assert_eq!(turn.receive(&scene.queue, given, LONG).map(|_| ()), Err(refused));
        });
    }
    scene.assert_unharmed();
}

#[test]
fn receive_with_a_timeout_beyond_twelve_hours() {
    let scene = scene();
    for given in [
        VISIBILITY_MAX + Duration::from_nanos(1),
        VISIBILITY_MAX + ms(1),
        days(1),
        Duration::MAX,
    ] {
        let limit = VISIBILITY_MAX;
        assert_eq!(
            scene.queue.receive(1, given),
            Err(ReceiveError::VisibilityTimeout { given, limit })
        );
    }
    assert_eq!(scene.queue.counts().received, 1);
    scene.assert_unharmed();
}

#[test]
fn change_to_a_timeout_beyond_twelve_hours() {
    let scene = scene();
    let handle = scene.leased(b"mine", secs(30));
    for given in [VISIBILITY_MAX + Duration::from_nanos(1), Duration::MAX] {
        let refused = ChangeVisibilityError::VisibilityTimeout {
            given,
            limit: VISIBILITY_MAX,
        };
        assert_eq!(scene.queue.change_visibility(&handle, given), Err(refused));
        let batch = scene
            .queue
            .change_visibility_batch(&[(handle, given), (handle, secs(30))])
            .expect("the entries are judged one by one");
        assert_eq!(&batch[..], [Err(refused), Ok(VisibilityChange::Changed)]);
    }
    assert_eq!(scene.queue.delete(&handle), Ok(Deletion::Deleted));
    scene.assert_unharmed();
}

#[test]
fn a_change_that_would_exceed_twelve_hours_in_all() {
    let scene = scene();
    let handle = scene.leased(b"mine", hours(12));
    scene.time.advance(secs(1));
    let refused = ChangeVisibilityError::TotalTooLong {
        limit: VISIBILITY_MAX,
    };
    assert_eq!(scene.queue.change_visibility(&handle, hours(12)), Err(refused));
    // The lease is as it was.
    assert_eq!(
        scene.queue.change_visibility(&handle, hours(12) - secs(1)),
        Ok(VisibilityChange::Changed)
    );
    assert_eq!(scene.queue.delete(&handle), Ok(Deletion::Deleted));
    scene.assert_unharmed();
}

#[test]
fn empty_batches() {
    let scene = scene();
    let none: [&[u8]; 0] = [];
    assert_eq!(scene.queue.send_batch(&none).map(|_| ()), Err(BatchError::Empty));
    assert_eq!(scene.queue.send_messages(&[]).map(|_| ()), Err(BatchError::Empty));
    assert_eq!(scene.queue.delete_batch(&[]).map(|_| ()), Err(BatchError::Empty));
    assert_eq!(
        scene.queue.change_visibility_batch(&[]).map(|_| ()),
        Err(BatchError::Empty)
    );
    scene.assert_unharmed();
}

#[test]
fn batches_of_more_than_ten_do_nothing() {
    let scene = scene();
    for entries in [11, 12, 1000] {
        let refused = BatchError::TooMany {
            entries,
            limit: BATCH_MAX,
        };
        assert_eq!(
            scene.queue.send_batch(&vec![b"x"; entries]).map(|_| ()),
            Err(refused)
        );
        assert_eq!(
            scene
                .queue
                .send_messages(&vec![Outgoing::new(b"x"); entries])
                .map(|_| ()),
            Err(refused)
        );
        assert_eq!(
            scene.queue.delete_batch(&vec![scene.held; entries]).map(|_| ()),
            Err(refused)
        );
        assert_eq!(
            scene
                .queue
                .change_visibility_batch(&vec![(scene.held, Duration::ZERO); entries])
                .map(|_| ()),
            Err(refused)
        );
    }
    scene.assert_unharmed();
}

#[test]
fn empty_body() {
    let scene = scene();
    assert_eq!(scene.queue.send(b"").map(|_| ()), Err(SendError::Empty));
    // In a batch the entry fails alone.
    let batch: [&[u8]; 3] = [b"one", b"", b"three"];
    let sent = scene.queue.send_batch(&batch).expect("a valid batch");
    assert_eq!(sent.len(), 3);
    assert!(sent[0].is_ok() && sent[2].is_ok());
    assert_eq!(sent[1].map(|_| ()), Err(SendError::Empty));
    let ids = [0, 2].map(|at| sent[at].expect("sent").message_id());
    let mine: Vec<_> = drain(&scene.queue)
        .into_iter()
        .filter(|message| message.body() != WAITING)
        .collect();
    assert_eq!(bodies(&mine), [b"one".to_vec(), b"three".to_vec()].into());
    for message in mine {
        // The results belong to the entries whose place they are in.
        let at = usize::from(message.body() == b"three");
        assert_eq!(message.message_id(), ids[at]);
        assert_eq!(
            scene.queue.delete(&message.receipt_handle()),
            Ok(Deletion::Deleted)
        );
    }
    assert_eq!(scene.queue.census(), (0, 2, 0));
    scene.time.advance(LONG + ms(1));
    assert_eq!(empty(&scene.queue), 2);
}

#[test]
fn body_beyond_one_mebibyte() {
    let scene = scene();
    for length in [BODY_MAX + 1, 2 * BODY_MAX] {
        let refused = SendError::TooLong {
            length,
            limit: BODY_MAX,
        };
        assert_eq!(scene.queue.send(&vec![b'x'; length]).map(|_| ()), Err(refused));
    }
    // The longest there may be comes back whole.
    let longest: Vec<u8> = (0..BODY_MAX).map(|at| (at % 251) as u8).collect();
    let handle = scene.leased(&longest, LONG);
    assert_eq!(scene.queue.delete(&handle), Ok(Deletion::Deleted));
    scene.assert_unharmed();
}

#[test]
fn body_beyond_the_queues_own_limit() {
    let scene = scene();
    for limit in [1, 100, 1024, 5000] {
        let config = QueueConfig {
            max_message_bytes: limit,
            ..QueueConfig::default()
        };
        let small = scene
            .broker
            .create_queue(&format!("small-{limit}"), config)
            .expect("valid");
        let (fits, not) = (vec![b'f'; limit], vec![b'n'; limit + 1]);
        let refused = SendError::TooLong {
            length: limit + 1,
            limit,
        };
        assert_eq!(small.send(&not).map(|_| ()), Err(refused));
        let sent = small.send_batch(&[&not, &fits, &not]).expect("valid");
        let outcomes: Vec<_> = sent.iter().map(|entry| entry.map(|_| ())).collect();
        assert_eq!(outcomes, [Err(refused), Ok(()), Err(refused)]);
        assert_eq!(bodies(&drain(&small)), [fits].into());
    }
    scene.assert_unharmed();
}

#[test]
fn batch_beyond_one_mebibyte_together() {
    let scene = scene();
    let part = vec![b'x'; BODY_MAX / 4];
    let over: [&[u8]; 5] = [&part, &part, &part, &part, b"y"];
    let refused = BatchError::TooLong {
        length: BODY_MAX + 1,
        limit: BODY_MAX,
    };
    assert_eq!(scene.queue.send_batch(&over).map(|_| ()), Err(refused));
    assert_eq!(scene.queue.counts().sent, 2);
    // As much as there may be is accepted.
    let sent = scene.queue.send_batch(&over[..4]).expect("valid");
    assert!(sent.iter().all(Result::is_ok));
    let mut waiting = 0;
    for message in drain(&scene.queue) {
        if message.body() == WAITING {
            waiting += 1;
            continue;
        }
        assert_eq!(message.body(), part);
        let deleted = scene.queue.delete(&message.receipt_handle());
        assert_eq!(deleted, Ok(Deletion::Deleted));
    }
    assert_eq!(waiting, 1);
    assert_eq!(scene.queue.counts().deleted, 4);
    assert_eq!(scene.queue.delete(&scene.held), Ok(Deletion::Deleted));
}

#[test]
fn the_limit_of_a_batch_does_not_depend_on_the_queues_limit_of_a_message() {
    let scene = scene();
    let config = QueueConfig {
        max_message_bytes: 1024,
        ..QueueConfig::default()
    };
    let small = scene.broker.create_queue("small", config).expect("valid");
    let sent = small.send_batch(&[[b'x'; 1024]; 10]).expect("ten times as much");
    assert!(sent.iter().all(Result::is_ok));
    // Beyond what a batch may have it is refused as a whole, whatever its entries would have been told.
    let over = vec![b'x'; BODY_MAX];
    assert_eq!(
        small.send_batch(&[&b"fits"[..], &over]).map(|_| ()),
        Err(BatchError::TooLong {
            length: BODY_MAX + 4,
            limit: BODY_MAX
        })
    );
    assert_eq!(empty(&small), 10);
    scene.assert_unharmed();
}

#[test]
fn bad_entries_of_a_batch_fail_alone() {
    let scene = scene();
    let config = QueueConfig {
        max_message_bytes: 1024,
        ..QueueConfig::default()
    };
    let small = scene.broker.create_queue("small", config).expect("valid");
    let unnamed = [Attribute::string("", "v")];
    let messages = [
        Outgoing::new(b"first"),
        Outgoing::new(b""),
        Outgoing::new(&[b'x'; 1025]),
        Outgoing::new(b"m").delay(DELAY_MAX + ms(1)),
        Outgoing::new(b"m").attributes(&unnamed),
        Outgoing::new(b"m").message_group("a b"),
        Outgoing::new(b"last"),
    ];
    let sent = small.send_messages(&messages).expect("valid");
    assert!(sent[0].is_ok() && sent[6].is_ok());
    assert_eq!(sent[1].map(|_| ()), Err(SendError::Empty));
    assert!(matches!(sent[2], Err(SendError::TooLong { length: 1025, .. })));
    assert!(matches!(sent[3], Err(SendError::Delay { .. })));
    assert!(matches!(sent[4], Err(SendError::Attribute(_))));
    assert_eq!(sent[5].map(|_| ()), Err(SendError::MessageGroup));
    assert_eq!(
        bodies(&drain(&small)),
        [b"first".to_vec(), b"last".to_vec()].into()
    );
    scene.assert_unharmed();
}

#[test]
fn a_message_group_that_is_none() {
    let scene = scene();
    let longest = "g".repeat(128);
    for group in ["", " ", "a b", "a\n", "ä", &"g".repeat(129)] {
        let message = Outgoing::new(b"m").message_group(group);
        assert_eq!(
            scene.queue.send_message(&message).map(|_| ()),
            Err(SendError::MessageGroup),
            "{group:?}"
        );
    }
    let groups = queue(&scene.broker, "groups");
    let marks = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
    for group in ["a", "Z9", marks, &longest] {
        let message = Outgoing::new(b"m").message_group(group);
        groups.send_message(&message).expect("valid");
        assert_eq!(one(&groups, LONG).message_group(), Some(group));
    }
    scene.assert_unharmed();
}

#[test]
fn over_budget_sends_are_refused_and_the_rest_goes_on() {
    const LIMIT: u64 = 1 << 20;
    let (_time, broker) = manual_with(
        Broker::builder()
            .min_width(usize::MAX)
            .partitions(1)
            .memory_limit(LIMIT),
    );
    let queue = queue(&broker, "tight");
    for length in [10, 1000, 10_000] {
        let body = vec![b'x'; length];
        let mut sent = 0;
        let refusal = loop {
            match queue.send(&body) {
                Ok(_) => sent += 1,
                Err(refusal) => break refusal,
            }
            assert!(sent * length as u64 <= LIMIT, "the budget does not bind");
        };
        let SendError::OverBudget { used, limit } = refusal else {
            panic!("{refusal:?}");
        };
        assert_eq!(limit, LIMIT);
        assert!(used <= LIMIT + 64 * 1024, "{used}");
        // A batch across the edge is accepted as far as it fits, and says so entry by entry.
        let batch = queue.send_batch(&[&body[..]; 10]).expect("valid");
        for entry in batch.iter() {
            match entry {
                Ok(_) => sent += 1,
                Err(error) => assert!(matches!(error, SendError::OverBudget { .. }), "{error:?}"),
            }
        }
        assert_eq!(queue.counts().visible, sent);
        // Nothing accepted is lost, and receives and deletes do not mind.
        assert_eq!(empty(&queue) as u64, sent);
        // Memory comes back by itself: no more than a few refusals after everything was deleted.
        let tries = (1..=10).find(|_| queue.send(b"again").is_ok());
        assert!(
            tries.is_some_and(|tries| tries <= 4),
            "{tries:?}: {:?}",
            broker.memory()
        );
        assert_eq!(empty(&queue), 1);
    }
}

#[test]
fn a_budget_too_small_for_anything() {
    for limit in [0, 1, 1000, 9_000] {
        let (_time, broker) = manual_with(
            Broker::builder()
                .min_width(usize::MAX)
                .partitions(2)
                .memory_limit(limit),
        );
        let queue = queue(&broker, "starved");
        let result = queue.send(b"x").map(|_| ());
        assert!(
            matches!(result, Err(SendError::OverBudget { limit: l, .. }) if l == limit),
            "{result:?}"
        );
        let result = queue.send(&[b'x'; 5000]).map(|_| ());
        assert!(matches!(result, Err(SendError::OverBudget { .. })), "{result:?}");
        let batch = queue.send_batch(&[&[b'x'; 5000][..], b"y", b""]).expect("valid");
        assert!(matches!(batch[0], Err(SendError::OverBudget { .. })));
        assert!(matches!(batch[1], Err(SendError::OverBudget { .. })));
        assert!(matches!(batch[2], Err(SendError::Empty)));
        assert_eq!(queue.receive(10, LONG), Ok(vec![]));
        assert_eq!(broker.memory().used, 0, "refused sends leave nothing behind");
    }
}

#[test]
fn large_bodies_that_are_refused_leave_the_budget() {
    let (_time, broker) = manual_with(
        Broker::builder()
            .min_width(usize::MAX)
            .partitions(1)
            .memory_limit(1 << 20),
    );
    let queue = queue(&broker, "large");
    let body = vec![b'x'; 300_000];
    let sent = queue.send_batch(&[&body[..]; 3]).expect("valid");
    assert!(sent.iter().all(Result::is_ok));
    let before = broker.memory().used;
    for _ in 0..10 {
        assert!(queue.send(&body).is_err());
        let batch = queue.send_batch(&[&body[..]; 3]).expect("valid");
        assert!(batch.iter().all(Result::is_err));
        assert_eq!(broker.memory().used, before);
    }
    assert_eq!(empty(&queue), 3);
}

#[test]
fn garbage_handles() {
    let scene = scene();
    let euro = "€".repeat(56);
    let mixed = format!("{}€", "a".repeat(53));
    assert_eq!(mixed.len(), 56);
    for garbage in [
        "",
        "garbage",
        " ",
        "0",
        &"0".repeat(55),
        &"0".repeat(57),
        &"g".repeat(56),
        &"A".repeat(56),
        &"\0".repeat(56),
        &"-".repeat(56),
        &euro,
        &mixed,
        &"a".repeat(1024),
        &"a".repeat(1 << 20),
    ] {
        assert_eq!(
            scene.queue.decode_handle(garbage),
            Err(HandleError::Malformed),
            "{:.60}",
            garbage
        );
        assert_eq!(
            garbage.parse::<MessageId>(),
            Err(HandleError::Malformed),
            "{:.60}",
            garbage
        );
    }
    for well_formed in [
        "0".repeat(56),
        "f".repeat(56),
        "0123456789abcdef".repeat(4)[..56].to_string(),
    ] {
        assert_eq!(scene.queue.decode_handle(&well_formed), Err(HandleError::Forged));
    }
    scene.assert_unharmed();
}

#[test]
fn truncated_and_tampered_handles() {
    let scene = scene();
    let text = scene.queue.encode_handle(&scene.held).to_string();
    assert_eq!(scene.queue.decode_handle(&text), Ok(scene.held));
    for length in 0..text.len() {
        assert_eq!(
            scene.queue.decode_handle(&text[..length]),
            Err(HandleError::Malformed)
        );
    }
    assert_eq!(
        scene.queue.decode_handle(&format!("{text}0")),
        Err(HandleError::Malformed)
    );
    assert_eq!(
        scene.queue.decode_handle(&text.to_uppercase()),
        Err(HandleError::Malformed)
    );
    for at in 0..text.len() {
        for digit in "0123456789abcdef".chars() {
            let mut forged: Vec<char> = text.chars().collect();
            if forged[at] == digit {
                continue;
            }
            forged[at] = digit;
            let forged: String = forged.into_iter().collect();
            assert_eq!(
                scene.queue.decode_handle(&forged),
                Err(HandleError::Forged),
                "{at}"
            );
        }
    }
    scene.assert_unharmed();
}

#[test]
fn handles_of_another_queue() {
    let scene = scene();
    let other = queue(&scene.broker, "other");
    other.send(b"other's").expect("room");
    let foreign = one(&other, LONG).receipt_handle();
    assert_eq!(scene.queue.delete(&foreign), Err(DeleteError::Foreign));
    assert_eq!(
        scene.queue.change_visibility(&foreign, Duration::ZERO),
        Err(ChangeVisibilityError::Foreign)
    );
    let text = other.encode_handle(&foreign);
    assert_eq!(scene.queue.decode_handle(&text), Err(HandleError::Foreign));
    // In a batch the entry fails alone.
    let mine = scene.leased(b"mine", LONG);
    let batch = scene.queue.delete_batch(&[foreign, mine]).expect("valid");
    assert_eq!(&batch[..], [Err(DeleteError::Foreign), Ok(Deletion::Deleted)]);
    assert_eq!(other.delete(&foreign), Ok(Deletion::Deleted), "it was left alone");
    scene.assert_unharmed();
}

#[test]
fn handles_of_another_broker() {
    let scene = scene();
    let elsewhere = Broker::builder()
        .min_width(usize::MAX)
        .partitions(2)
        .build()
        .expect("valid");
    // The same name, the same number, the same place.
    let other = queue(&elsewhere, "scene");
    other.send(b"other's").expect("room");
    let foreign = one(&other, LONG).receipt_handle();
    assert_eq!(scene.queue.delete(&foreign), Err(DeleteError::Foreign));
    assert_eq!(
        scene.queue.change_visibility(&foreign, Duration::ZERO),
        Err(ChangeVisibilityError::Foreign)
    );
    let text = other.encode_handle(&foreign);
    assert_eq!(scene.queue.decode_handle(&text), Err(HandleError::Forged));
    assert_eq!(other.delete(&foreign), Ok(Deletion::Deleted));
    scene.assert_unharmed();
}

#[test]
fn handles_of_a_queue_deleted_and_made_anew() {
    let scene = scene();
    let old = queue(&scene.broker, "again");
    old.send(b"old").expect("room");
    let handle = one(&old, LONG).receipt_handle();
    let text = old.encode_handle(&handle);
    assert_eq!(scene.broker.delete_queue("again"), Ok(()));
    let new = queue(&scene.broker, "again");
    new.send(b"new").expect("room");
    let held = one(&new, LONG).receipt_handle();
    assert_eq!(new.delete(&handle), Err(DeleteError::Foreign));
    assert_eq!(new.decode_handle(&text), Err(HandleError::Foreign));
    assert_eq!(old.delete(&handle), Err(DeleteError::QueueDeleted));
    assert_eq!(new.delete(&held), Ok(Deletion::Deleted));
    scene.assert_unharmed();
}

#[test]
fn stale_handles() {
    let scene = scene();
    let stale = scene.leased(b"mine", ms(10));
    scene.time.advance(ms(11));
    let again = drain(&scene.queue)
        .into_iter()
        .find(|message| message.body() == b"mine")
        .expect("it came back");
    assert_eq!(again.receive_count(), 2);
    assert_eq!(scene.queue.delete(&stale), Ok(Deletion::ReceivedAgain));
    for timeout in [Duration::ZERO, secs(1), VISIBILITY_MAX] {
        assert_eq!(
            scene.queue.change_visibility(&stale, timeout),
            Err(ChangeVisibilityError::ReceivedAgain)
        );
    }
    assert_eq!(
        scene.queue.receive(10, LONG),
        Ok(vec![]),
        "the newer lease was left alone"
    );
    assert_eq!(scene.queue.delete(&again.receipt_handle()), Ok(Deletion::Deleted));
    assert_eq!(scene.queue.delete(&stale), Ok(Deletion::Gone));
    assert_eq!(
        scene.queue.change_visibility(&stale, secs(1)),
        Err(ChangeVisibilityError::Gone)
    );
    assert_eq!(scene.queue.delete(&scene.held), Ok(Deletion::Deleted));
    scene.time.advance(LONG + ms(1));
    assert_eq!(bodies(&drain(&scene.queue)), [WAITING.to_vec()].into());
}

/// The place of a message that is gone is used again, by another segment's life: its handle must not hit the newcomer.
#[test]
fn handles_whose_place_is_used_again() {
    let (_time, broker) = manual(1);
    let queue = queue(&broker, "reused");
    let mut old = Vec::new();
    for round in 0..40u32 {
        // A segment and more a round, so that memory is retired and comes back.
        let mut current = Vec::new();
        for number in 0..300u32 {
            queue.send(&(round * 1000 + number).to_le_bytes()).expect("room");
        }
        for message in drain(&queue) {
            current.push(message.receipt_handle());
        }
        assert_eq!(current.len(), 300);
        for handle in &old {
            assert_eq!(queue.delete(handle), Ok(Deletion::Gone));
            assert_eq!(
                queue.change_visibility(handle, Duration::ZERO),
                Err(ChangeVisibilityError::Gone)
            );
        }
        for handle in &current {
            assert_eq!(queue.delete(handle), Ok(Deletion::Deleted));
        }
        old.extend(current.into_iter().step_by(7));
    }
    assert!(broker.memory().used < 4 << 20, "{:?}", broker.memory());
}

#[test]
fn double_delete() {
    let scene = scene();
    let handle = scene.leased(b"mine", LONG);
    let other = scene.leased(b"mine too", LONG);
    let batch = scene
        .queue
        .delete_batch(&[handle, other, handle, other])
        .expect("valid");
    assert_eq!(
        &batch[..],
        [
            Deletion::Deleted,
            Deletion::Deleted,
            Deletion::Gone,
            Deletion::Gone
        ]
        .map(Ok)
    );
    for _ in 0..3 {
        assert_eq!(scene.queue.delete(&handle), Ok(Deletion::Gone));
    }
    assert_eq!(scene.queue.counts().deleted, 2);
    scene.assert_unharmed();
}

/// The count stops at what a slot's word can hold; the message stays receivable and can be deleted.
#[test]
fn a_message_received_more_often_than_can_be_counted() {
    const MOST: u32 = (1 << 20) - 1;
    let (_time, broker) = manual(1);
    let queue = queue(&broker, "poison");
    queue.send(b"poison").expect("room");
    let worker = broker.worker().expect("a worker");
    for count in 1..=MOST + 10 {
        worker.turn(|turn| {
            let received = turn.receive(&queue, 1, Duration::ZERO).expect("valid");
            assert_eq!(received.get(0).expect("one").receive_count(), count.min(MOST));
        });
    }
    let leased = one(&queue, secs(1));
    assert_eq!(queue.receive(1, LONG), Ok(vec![]));
    assert_eq!(queue.delete(&leased.receipt_handle()), Ok(Deletion::Deleted));
    assert_eq!(queue.delete(&leased.receipt_handle()), Ok(Deletion::Gone));
    assert_eq!(queue.census(), (0, 0, 0));
}

#[test]
fn calls_on_a_deleted_queue() {
    let scene = scene();
    let doomed = queue(&scene.broker, "doomed");
    let clone = doomed.clone();
    doomed.send(b"in flight").expect("room");
    let handle = one(&doomed, LONG).receipt_handle();
    doomed.send(b"visible").expect("room");
    assert_eq!(scene.broker.delete_queue("doomed"), Ok(()));
    assert_eq!(scene.broker.delete_queue("doomed"), Err(NoSuchQueue));
    assert_eq!(scene.broker.delete_queue("never was"), Err(NoSuchQueue));
    assert!(scene.broker.queue("doomed").is_none());
    for queue in [&doomed, &clone] {
        assert_eq!(queue.send(b"x").map(|_| ()), Err(SendError::QueueDeleted));
        assert_eq!(
            queue.send_batch(&[b"x"]).map(|_| ()),
            Err(BatchError::QueueDeleted)
        );
        assert_eq!(queue.receive(1, LONG), Err(ReceiveError::QueueDeleted));
        assert_eq!(queue.delete(&handle), Err(DeleteError::QueueDeleted));
        assert_eq!(
            queue.delete_batch(&[handle]).map(|_| ()),
            Err(BatchError::QueueDeleted)
        );
        assert_eq!(
            queue.change_visibility(&handle, secs(1)),
            Err(ChangeVisibilityError::QueueDeleted)
        );
        assert_eq!(
            queue.change_visibility_batch(&[(handle, secs(1))]).map(|_| ()),
            Err(BatchError::QueueDeleted)
        );
        // Looking is harmless.
        assert_eq!(queue.name(), "doomed");
        let _ = (queue.counts(), queue.next_due(), queue.advance(Millis::MAX));
    }
    // A new one of that name starts empty.
    let anew = queue(&scene.broker, "doomed");
    assert_eq!(anew.receive(10, LONG), Ok(vec![]));
    assert_eq!(anew.counts().sent, 0);
    scene.assert_unharmed();
}

/// The delivery outlives the queue for the turn, and the next call is refused.
#[test]
fn queue_deleted_under_a_receiver() {
    let scene = scene();
    let doomed = queue(&scene.broker, "doomed");
    doomed.send(b"small").expect("room");
    doomed.send(&[b'l'; 5000]).expect("room");
    let worker = scene.broker.worker().expect("a worker");
    worker.turn(|turn| {
        let received = turn.receive(&doomed, 10, LONG).expect("valid");
        assert_eq!(received.len(), 2);
        thread::scope(|threads| {
            threads.spawn(|| scene.broker.delete_queue("doomed").expect("it is there"));
        });
        assert_eq!(received.get(0).expect("two").body(), b"small");
        assert_eq!(received.get(1).expect("two").body(), [b'l'; 5000]);
        for delivery in received.iter() {
            assert_eq!(
                turn.delete(&doomed, &delivery.receipt_handle()),
                Err(DeleteError::QueueDeleted)
            );
        }
        assert_eq!(
            turn.receive(&doomed, 1, LONG).map(|_| ()),
            Err(ReceiveError::QueueDeleted)
        );
    });
    let before = scene.broker.memory().used;
    drop(doomed);
    assert!(scene.broker.memory().used <= before);
    scene.assert_unharmed();
}

#[test]
fn a_thread_that_ends_holding_deliveries() {
    let scene = scene();
    for number in 0..20u8 {
        scene.queue.send(&[number]).expect("room");
    }
    for panics in [false, true] {
        let queue = scene.queue.clone();
        let broker = scene.broker.clone();
        let died = thread::spawn(move || {
            let worker = broker.worker().expect("a worker");
            let turn = worker.begin();
            let received = turn.receive(&queue, 10, secs(30)).expect("valid");
            assert_eq!(received.len(), 10);
            // Quietly: the message of a panic made on purpose would only confuse.
            if panics {
                std::panic::resume_unwind(Box::new("on purpose"));
            }
        })
        .join();
        assert_eq!(died.is_err(), panics);
    }
    assert_eq!(scene.queue.counts().in_flight, 21);
    scene.time.advance(secs(31));
    let back = drain(&scene.queue);
    assert_eq!(back.len(), 21);
    assert_eq!(bodies(&back).len(), 21);
    assert_eq!(
        back.iter().filter(|message| message.receive_count() == 2).count(),
        20
    );
    assert_eq!(scene.queue.delete(&scene.held), Ok(Deletion::Deleted));
}

/// The one way to keep an epoch from ever ending: memory waits, but nothing breaks and nothing is lost.
#[test]
fn a_thread_that_forgets_its_turn() {
    let scene = scene();
    let broker = scene.broker.clone();
    thread::spawn(move || std::mem::forget(broker.worker().expect("a worker").begin()))
        .join()
        .expect("no panic");
    let mut bystanders = Vec::new();
    for _ in 0..3 {
        for number in 0..600u32 {
            scene.queue.send(&number.to_le_bytes()).expect("room");
        }
        for message in drain(&scene.queue) {
            if message.body() == WAITING {
                bystanders.push(message);
            } else {
                let deleted = scene.queue.delete(&message.receipt_handle());
                assert_eq!(deleted, Ok(Deletion::Deleted));
            }
        }
    }
    assert_eq!(bystanders.len(), 1);
    assert!(scene.broker.memory().limbo > 0, "{:?}", scene.broker.memory());
    let back = scene
        .queue
        .change_visibility(&bystanders[0].receipt_handle(), Duration::ZERO);
    assert_eq!(back, Ok(VisibilityChange::Changed));
    scene.assert_unharmed();
}

#[test]
fn a_clock_that_jumps_forward() {
    for jump in [days(1), days(3), days(20), days(365), days(365 * 30)] {
        let scene = scene();
        let mine = scene.leased(b"mine", secs(30));
        scene.time.advance(jump);
        // Every lease is over; none is lost within the retention period, and each comes once.
        assert_eq!(
            scene.queue.change_visibility(&mine, secs(30)),
            Ok(VisibilityChange::LeaseOver)
        );
        let all = drain(&scene.queue);
        if jump < QueueConfig::default().retention {
            assert_eq!(all.len(), 3, "after {jump:?}");
            assert_eq!(bodies(&all).len(), 3);
            assert_eq!(scene.queue.delete(&mine), Ok(Deletion::ReceivedAgain));
        } else {
            assert_eq!(all.len(), 0, "after {jump:?}");
            assert_eq!(scene.queue.counts().lapsed, 3);
            assert_eq!(scene.queue.delete(&mine), Ok(Deletion::Gone));
        }
        // And the ledger goes on from there.
        scene.queue.send(b"later").expect("room");
        let later = one(&scene.queue, secs(30));
        assert_eq!(later.sent_at(), Millis::new(jump.as_millis() as u64));
        assert_eq!(scene.queue.receive(10, LONG), Ok(vec![]));
        scene.time.advance(secs(31));
        assert_eq!(one(&scene.queue, LONG).body(), b"later");
    }
}

/// A message may lie for as long as its retention lets it, and its lease works like any other.
#[test]
fn leases_of_messages_that_lay_for_days() {
    for age in [days(1), days(4), days(13)] {
        let (time, broker) = manual(1);
        let config = QueueConfig {
            retention: days(14),
            ..QueueConfig::default()
        };
        let queue = broker.create_queue("old", config).expect("a valid queue");
        queue.send(b"old").expect("room");
        time.advance(age);
        let received = one(&queue, secs(30));
        assert_eq!(received.sent_at(), Millis::new(0));
        assert_eq!(
            queue.change_visibility(&received.receipt_handle(), secs(60)),
            Ok(VisibilityChange::Changed),
            "at the age of {age:?}"
        );
        assert_eq!(
            received.first_received_at(),
            Millis::new(age.as_millis() as u64),
            "at the age of {age:?}"
        );
    }
}

#[test]
fn a_clock_at_the_end_of_time() {
    let scene = scene();
    let mine = scene.leased(b"mine", secs(30));
    scene.time.advance(Duration::MAX);
    assert_eq!(scene.broker.now(), Millis::MAX);
    assert_eq!(
        scene.queue.change_visibility(&mine, secs(30)),
        Ok(VisibilityChange::LeaseOver)
    );
    // What was there has lapsed; what is leased now is leased until somebody deletes it, for time stands still.
    for body in [&b"sent at the end"[..], b"and", b"after", b"it"] {
        scene.queue.send(body).expect("room");
    }
    let received = drain(&scene.queue);
    assert_eq!(bodies(&received).len(), received.len(), "twice in one receive");
    assert_eq!(received.len(), 4);
    scene.time.advance(days(1));
    scene.queue.advance(Millis::MAX);
    assert_eq!(scene.queue.receive(10, LONG), Ok(vec![]));
    let handle = received[0].receipt_handle();
    assert_eq!(
        scene.queue.change_visibility(&handle, secs(30)),
        Ok(VisibilityChange::Changed)
    );
    assert_eq!(
        scene.queue.change_visibility(&handle, Duration::ZERO),
        Ok(VisibilityChange::Changed)
    );
    let again = one(&scene.queue, LONG);
    assert_eq!(again.body(), received[0].body());
    for message in received[1..].iter().chain([&again]) {
        assert_eq!(
            scene.queue.delete(&message.receipt_handle()),
            Ok(Deletion::Deleted)
        );
    }
    assert_eq!(scene.queue.census(), (0, 0, 0));
}

#[test]
fn a_turn_on_a_queue_of_another_broker() {
    let scene = scene();
    let handle = scene.leased(b"mine", LONG);
    let (_, elsewhere) = manual(2);
    let worker = elsewhere.worker().expect("a worker");
    worker.turn(|turn| {
        let queue = &scene.queue;
        assert_eq!(turn.send(queue, b"x").map(|_| ()), Err(SendError::ForeignTurn));
        assert_eq!(
            turn.send_batch(queue, &[b"x"]).map(|_| ()),
            Err(BatchError::ForeignTurn)
        );
        assert_eq!(
            turn.receive(queue, 1, LONG).map(|_| ()),
            Err(ReceiveError::ForeignTurn)
        );
        assert_eq!(turn.delete(queue, &handle), Err(DeleteError::ForeignTurn));
        assert_eq!(
            turn.delete_batch(queue, &[handle]).map(|_| ()),
            Err(BatchError::ForeignTurn)
        );
        assert_eq!(
            turn.change_visibility(queue, &handle, secs(1)),
            Err(ChangeVisibilityError::ForeignTurn)
        );
        assert_eq!(
            turn.change_visibility_batch(queue, &[(handle, secs(1))])
                .map(|_| ()),
            Err(BatchError::ForeignTurn)
        );
    });
    assert_eq!(scene.queue.delete(&handle), Ok(Deletion::Deleted));
    scene.assert_unharmed();
}

#[test]
fn partitions_out_of_range() {
    for given in [0, PARTITIONS_MAX + 1, usize::MAX] {
        let limit = PARTITIONS_MAX;
        let refused = Broker::builder()
            .min_width(usize::MAX)
            .partitions(given)
            .build()
            .map(|_| ());
        assert_eq!(refused, Err(BuildError::Partitions { given, limit }));
    }
    // As many as there may be work, the last one too.
    let (_time, broker) = manual(PARTITIONS_MAX);
    let queue = queue(&broker, "wide");
    let worker = broker.worker_at(PARTITIONS_MAX - 1).expect("the last one");
    worker.turn(|turn| turn.send(&queue, b"far out").map(|_| ()).expect("room"));
    drop(worker);
    let near = broker.worker_at(0).expect("the first one");
    let message = one(&queue, LONG);
    assert_eq!(message.body(), b"far out");
    let text = queue.encode_handle(&message.receipt_handle());
    assert_eq!(queue.decode_handle(&text), Ok(message.receipt_handle()));
    assert_eq!(
        near.turn(|turn| turn.delete(&queue, &message.receipt_handle())),
        Ok(Deletion::Deleted)
    );
}

#[test]
fn workers_of_partitions_that_are_not_there() {
    let scene = scene();
    for given in [2, 3, usize::MAX] {
        let refused = scene.broker.worker_at(given).map(|_| ());
        assert_eq!(
            refused,
            Err(WorkerError::NoSuchPartition { given, partitions: 2 })
        );
    }
    assert_eq!(scene.broker.worker_at(1).map(|worker| worker.home()), Ok(1));
    scene.assert_unharmed();
}

#[test]
fn names_that_are_none() {
    let scene = scene();
    let longest = "n".repeat(NAME_MAX);
    for name in [
        "",
        " ",
        "a b",
        "a.b",
        "a/b",
        "naïve",
        "名前",
        "a\0",
        "a\n",
        "orders.fifo",
        &"n".repeat(NAME_MAX + 1),
        &"n".repeat(100_000),
    ] {
        assert_eq!(
            scene
                .broker
                .create_queue(name, QueueConfig::default())
                .map(|_| ()),
            Err(CreateQueueError::InvalidName),
            "{name:.100}"
        );
        assert!(scene.broker.queue(name).is_none());
        assert_eq!(scene.broker.delete_queue(name), Err(NoSuchQueue));
    }
    for name in ["a", "0", "-", "_", "AZaz09-_", &longest] {
        assert_eq!(queue(&scene.broker, name).name(), name);
    }
    scene.assert_unharmed();
}

#[test]
fn a_queue_created_twice() {
    let scene = scene();
    let same = queue(&scene.broker, "scene");
    assert_eq!(same.counts(), scene.queue.counts());
    let config = QueueConfig {
        max_message_bytes: 7,
        ..QueueConfig::default()
    };
    assert_eq!(
        scene.broker.create_queue("scene", config).map(|_| ()),
        Err(CreateQueueError::Exists)
    );
    assert_eq!(
        scene.broker.queue("scene").expect("there").config(),
        same.config()
    );
    scene.assert_unharmed();
}

#[test]
fn configurations_out_of_range() {
    let scene = scene();
    for given in [0, BODY_MAX + 1, usize::MAX] {
        let config = QueueConfig {
            max_message_bytes: given,
            ..QueueConfig::default()
        };
        let limit = BODY_MAX;
        for name in ["bad", "scene"] {
            assert_eq!(
                scene.broker.create_queue(name, config.clone()).map(|_| ()),
                Err(CreateQueueError::Config(ConfigError::MaxMessageBytes {
                    given,
                    limit
                }))
            );
        }
    }
    assert!(scene.broker.queue("bad").is_none());
    scene.assert_unharmed();
}

/// Each error says something of its own.
#[test]
fn errors_speak() {
    let limit = VISIBILITY_MAX;
    let errors: Vec<Box<dyn Error>> = vec![
        Box::new(BuildError::Partitions { given: 0, limit: 1 }),
        Box::new(CreateQueueError::InvalidName),
        Box::new(CreateQueueError::Exists),
        Box::new(CreateQueueError::Config(ConfigError::MaxMessageBytes {
            given: 0,
            limit: 1,
        })),
        Box::new(NoSuchQueue),
        Box::new(WorkerError::NoSuchPartition {
            given: 9,
            partitions: 2,
        }),
        Box::new(SendError::Empty),
        Box::new(SendError::TooLong { length: 9, limit: 8 }),
        Box::new(SendError::OverBudget { used: 9, limit: 8 }),
        Box::new(BatchError::Empty),
        Box::new(BatchError::TooMany {
            entries: 11,
            limit: 10,
        }),
        Box::new(BatchError::TooLong {
            length: 99,
            limit: 98,
        }),
        Box::new(ReceiveError::Max { given: 11, limit: 10 }),
        Box::new(HandleError::Malformed),
        Box::new(HandleError::Forged),
        Box::new(HandleError::Foreign),
        Box::new(ChangeVisibilityError::Gone),
        Box::new(ChangeVisibilityError::ReceivedAgain),
        Box::new(ChangeVisibilityError::TotalTooLong { limit }),
        Box::new(ChangeVisibilityError::VisibilityTimeout {
            given: days(1),
            limit,
        }),
    ];
    let mut texts: Vec<_> = errors.iter().map(|error| error.to_string()).collect();
    assert!(texts.iter().all(|text| text.len() > 10), "{texts:?}");
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), errors.len(), "{texts:?}");
    for same in [
        SendError::QueueDeleted.to_string(),
        BatchError::QueueDeleted.to_string(),
        DeleteError::QueueDeleted.to_string(),
    ] {
        assert_eq!(same, ReceiveError::QueueDeleted.to_string());
    }
    assert_eq!(
        SendError::ForeignTurn.to_string(),
        DeleteError::ForeignTurn.to_string()
    );
}

/// Bodies whose length or place changes from one look to the next, or that panic: foreign code in the middle of a send.
#[test]
fn bodies_that_lie() {
    use std::{
        cell::Cell,
        panic::{AssertUnwindSafe, catch_unwind},
    };

    struct Liar<'b> {
        looks: Cell<usize>,
        answers: [&'b [u8]; 2],
    }
    impl AsRef<[u8]> for Liar<'_> {
        fn as_ref(&self) -> &[u8] {
            let look = self.looks.get();
            self.looks.set(look + 1);
            self.answers[look.min(1)]
        }
    }
    struct Panics;
    impl AsRef<[u8]> for Panics {
        fn as_ref(&self) -> &[u8] {
            panic!("a body that panics")
        }
    }

    let scene = scene();
    let long = vec![b'l'; 64 * 1024];
    for answers in [[&b"s"[..], &long[..]], [&long[..], &b"s"[..]]] {
        let liars = [0; 3].map(|looks| Liar {
            looks: Cell::new(looks),
            answers,
        });
        let sent = scene.queue.send_batch(&liars).expect("valid");
        assert!(sent.iter().all(|sent| sent.is_ok()));
        // What the first look showed is what was sent.
        for message in scene.queue.receive(10, LONG).expect("valid") {
            if message.body() != WAITING {
                assert_eq!(message.body(), answers[0]);
                assert_eq!(
                    scene.queue.delete(&message.receipt_handle()),
                    Ok(Deletion::Deleted)
                );
            } else {
                let back = scene
                    .queue
                    .change_visibility(&message.receipt_handle(), Duration::ZERO);
                assert_eq!(back, Ok(VisibilityChange::Changed));
            }
        }
    }
    let panicked = catch_unwind(AssertUnwindSafe(|| scene.queue.send_batch(&[Panics]).map(|_| ())));
    assert!(panicked.is_err());
    let counts = scene.queue.counts();
    assert_eq!(scene.queue.census(), (counts.visible, counts.in_flight, 0));
    scene.assert_unharmed();
}

#[test]
fn a_trace_header_has_a_limit() {
    let broker = Broker::builder().partitions(1).build().expect("valid");
    let queue = broker.create_queue("q", QueueConfig::default()).expect("valid");
    let header = "x".repeat((1 << 20) + 1);
    let send = |length: usize| {
        let message = Outgoing::new(b"body").trace_header(&header[..length]);
        queue.send_message(&message).map(drop)
    };
    assert_eq!(send(1 << 20), Ok(()));
    assert_eq!(
        send((1 << 20) + 1),
        Err(SendError::TooLong {
            length: (1 << 20) + 1,
            limit: 1 << 20,
        })
    );
    assert_eq!(queue.counts().sent, 1);
}
