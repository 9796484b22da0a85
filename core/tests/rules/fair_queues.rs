//! Fair queues (standard queues with message groups), rule by rule, on the manual clock.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::common::{
    LONG, delete, drain, empty, manual, ms, number_of, numbered, one, queue, queue_with, release, secs,
    states,
};
use epoq::{
    Broker, Deletion, ManualClock, Message, Outgoing, PeekFilter, Queue, QueueConfig, Redrive, TenantConfig,
    TenantError, TenantMetrics, limits::TENANTS_MAX,
};

fn send(queue: &Queue, group: &str, number: u64) {
    let body = numbered(number, 16);
    let message = Outgoing::new(&body);
    let message = if group.is_empty() {
        message
    } else {
        message.message_group(group)
    };
    queue.send_message(&message).expect("room");
}

fn send_many(queue: &Queue, group: &str, count: u64) {
    (0..count).for_each(|number| send(queue, group, number));
}

/// Whose the messages are: "" for those without a group.
fn groups(messages: &[Message]) -> Vec<&str> {
    messages
        .iter()
        .map(|message| message.message_group().unwrap_or(""))
        .collect()
}

fn receive(queue: &Queue, max: usize) -> Vec<Message> {
    queue.receive(max, LONG).expect("valid")
}

/// One at a time, so many.
fn hold(queue: &Queue, count: usize) -> Vec<Message> {
    (0..count).map(|_| one(queue, LONG)).collect()
}

fn tenant(queue: &Queue, group: &str) -> TenantMetrics {
    let mut tenants = queue.tenants();
    tenants.retain(|tenant| tenant.group == group);
    assert_eq!(tenants.len(), 1, "{group}");
    tenants.remove(0)
}

fn fair(partitions: usize) -> (ManualClock, Broker, Queue) {
    let (time, broker) = manual(partitions);
    let queue = queue(&broker, "fair");
    (time, broker, queue)
}

/// A queue where tenant "n" has 30 messages in flight and a backlog, and is noisy.
fn noisy(backlog: u64) -> (ManualClock, Broker, Queue, Vec<Message>) {
    let (time, broker, queue) = fair(1);
    send_many(&queue, "n", 30 + backlog);
    let held = hold(&queue, 30);
    assert!(tenant(&queue, "n").is_noisy);
    (time, broker, queue, held)
}

#[test]
fn quiet_tenants_come_first_whenever_there_are_any() {
    let (_time, _broker, queue, _held) = noisy(100);
    send_many(&queue, "q", 3);
    assert_eq!(groups(&receive(&queue, 3)), ["q"; 3]);
    assert_eq!(tenant(&queue, "n").in_line, 100);
    send(&queue, "q", 3);
    assert_eq!(groups(&receive(&queue, 2)), ["q", "n"]);
}

#[test]
fn messages_without_a_group_are_always_quiet() {
    let (_time, _broker, queue, _held) = noisy(100);
    // However many of them are in flight.
    send_many(&queue, "", 500);
    for _ in 0..27 {
        assert!(tenant(&queue, "n").is_noisy);
        assert_eq!(groups(&receive(&queue, 10)), [""; 10]);
    }
    // By now the tenant's share is a tenth, and not more: it takes turns with them.
    assert!(!tenant(&queue, "n").is_noisy);
    assert_eq!(groups(&receive(&queue, 1)), ["n"]);
    assert_eq!(drain(&queue).len(), 329);
}

#[test]
fn noisy_messages_come_when_no_quiet_one_waits() {
    let (_time, _broker, queue, held) = noisy(300);
    let rest = drain(&queue);
    assert_eq!(rest.len(), 300, "nothing is dropped, throttled or delayed");
    let numbers: Vec<u64> = held.iter().chain(&rest).map(|m| number_of(m.body())).collect();
    assert_eq!(numbers, (0..330).collect::<Vec<_>>(), "in order within a tenant");
    assert_eq!(states(&queue), (0, 330, 0));
    for message in held.iter().chain(&rest) {
        delete(&queue, message);
    }
    let n = tenant(&queue, "n");
    assert_eq!((n.messages, n.in_flight, n.in_line, n.is_noisy), (0, 0, 0, false));
}

#[test]
fn fewer_than_thirty_in_flight_are_not_noisy() {
    let (_time, _broker, queue) = fair(1);
    send_many(&queue, "n", 100);
    send_many(&queue, "q", 1);
    hold(&queue, 29);
    assert!(!tenant(&queue, "n").is_noisy);
    assert_eq!(groups(&receive(&queue, 1)), ["n"], "plain order");
    assert!(tenant(&queue, "n").is_noisy);
    assert_eq!(groups(&receive(&queue, 1)), ["q"]);
}

#[test]
fn a_tenth_of_what_is_in_flight_is_not_noisy() {
    for (others, is_noisy) in [(270, false), (269, true)] {
        let (_time, _broker, queue) = fair(1);
        send_many(&queue, "", others);
        assert_eq!(drain(&queue).len() as u64, others);
        send_many(&queue, "n", 31);
        hold(&queue, 30);
        assert_eq!(tenant(&queue, "n").is_noisy, is_noisy);
        send(&queue, "q", 0);
        let first = if is_noisy { "q" } else { "n" };
        assert_eq!(groups(&receive(&queue, 1)), [first]);
    }
}

#[test]
fn of_several_noisy_tenants_the_one_with_the_fewest_in_flight_goes_first() {
    let (_time, _broker, queue) = fair(1);
    for (group, count) in [("a", 50), ("b", 40), ("c", 30)] {
        send_many(&queue, group, count);
        assert_eq!(receive_all(&queue, count), count);
    }
    for group in ["a", "b", "c"] {
        send_many(&queue, group, 30);
    }
    // c up to 40, then both, until they have as many as a; then all three.
    let mut order = String::new();
    for _ in 0..33 {
        order += groups(&receive(&queue, 1))[0];
    }
    assert_eq!(&order[..10], "cccccccccc");
    let count = |group| order[10..30].matches(group).count();
    assert_eq!((count("a"), count("b"), count("c")), (0, 10, 10), "{order}");
    assert_eq!(order[30..].matches('a').count(), 1, "{order}");
}

fn receive_all(queue: &Queue, count: u64) -> u64 {
    (0..count).map(|_| receive(queue, 1).len() as u64).sum()
}

#[test]
fn more_than_a_tenth_of_the_processing_time_is_noisy() {
    let (time, _broker, queue) = fair(1);
    // One consumer, never more than one in flight: a takes a second each, ten others take a tenth of that.
    for number in 0..10 {
        send(&queue, "a", number);
        for other in 0..10 {
            send(&queue, &format!("q{other}"), number);
        }
    }
    for _ in 0..110 {
        let message = one(&queue, LONG);
        time.advance(ms(if message.message_group() == Some("a") {
            1000
        } else {
            100
        }));
        delete(&queue, &message);
    }
    assert!(tenant(&queue, "a").is_noisy);
    assert!(!tenant(&queue, "q0").is_noisy, "5 %");
    send(&queue, "a", 0);
    send(&queue, "q0", 0);
    assert_eq!(groups(&receive(&queue, 2)), ["q0", "a"]);
}

#[test]
fn processing_time_counts_for_a_minute_at_most() {
    let (time, _broker, queue) = fair(1);
    send(&queue, "a", 0);
    let message = one(&queue, LONG);
    time.advance(secs(1));
    delete(&queue, &message);
    assert!(tenant(&queue, "a").is_noisy);
    time.advance(secs(29));
    assert!(tenant(&queue, "a").is_noisy);
    time.advance(secs(31));
    send(&queue, "a", 1);
    assert!(!tenant(&queue, "a").is_noisy);
}

#[test]
fn messages_without_a_group_take_processing_time_too() {
    let (time, _broker, queue) = fair(1);
    for number in 0..95 {
        send(&queue, if number % 19 == 0 { "a" } else { "" }, number);
    }
    while let Some(message) = queue.receive(1, LONG).expect("valid").pop() {
        time.advance(ms(100));
        delete(&queue, &message);
    }
    assert!(!tenant(&queue, "a").is_noisy, "it has a nineteenth");
}

#[test]
fn priority_ends_when_the_shares_are_back_at_quiet_level() {
    let (_time, _broker, queue, held) = noisy(50);
    send(&queue, "q", 0);
    assert_eq!(groups(&receive(&queue, 1)), ["q"]);
    assert_eq!(tenant(&queue, "n").in_line, 50);
    delete(&queue, &held[0]);
    assert!(!tenant(&queue, "n").is_noisy);
    // Its messages in line are older than what came after.
    send(&queue, "q", 1);
    assert_eq!(groups(&receive(&queue, 1)), ["n"]);
    assert_eq!(groups(&receive(&queue, 1)), ["q"], "30 again");
}

#[test]
fn each_way_out_of_flight_lowers_the_share() {
    let (time, _broker, queue, held) = noisy(0);
    let mut left = 30;
    let in_flight = |left| assert_eq!(tenant(&queue, "n").in_flight, left);
    delete(&queue, &held[0]);
    left -= 1;
    in_flight(left);
    release(&queue, &held[1]);
    left -= 1;
    in_flight(left);
    queue
        .change_visibility(&held[2].receipt_handle(), secs(1))
        .expect("running");
    time.advance(secs(2));
    queue.advance(time.now());
    left -= 1;
    in_flight(left);
    assert_eq!(states(&queue), (2, left, 0));
    assert_eq!(drain(&queue).len(), 2);
    in_flight(left + 2);
    // Retention over while in flight.
    time.advance(Duration::from_secs(5 * 24 * 3600));
    queue.advance(time.now());
    in_flight(0);
    assert_eq!(tenant(&queue, "n").messages, 0);
}

#[test]
fn a_tenant_for_whom_nothing_was_sent_in_five_minutes_is_quiet() {
    let (time, _broker, queue, _held) = noisy(20);
    time.advance(secs(299));
    assert!(tenant(&queue, "n").is_noisy);
    time.advance(secs(1));
    assert!(!tenant(&queue, "n").is_noisy);
    send(&queue, "q", 0);
    assert_eq!(groups(&receive(&queue, 1)), ["n"], "plain order");
}

#[test]
fn quiet_messages_behind_a_large_backlog_come_after_a_bounded_part_of_it() {
    let (_time, _broker, queue, _held) = noisy(10_000);
    send(&queue, "q", 0);
    let mut before = 0;
    while !groups(&receive(&queue, 10)).contains(&"q") {
        before += 10;
    }
    // Each receive gets past a hundred at least.
    assert!(before <= 1_000, "{before}");
    assert_eq!(drain(&queue).len() as u64 + before + 10, 10_001);
}

#[test]
fn receives_of_one_do_the_same() {
    let (_time, _broker, queue, _held) = noisy(200);
    send(&queue, "q", 0);
    let position = (0..).find(|_| groups(&receive(&queue, 1)) == ["q"]);
    assert!(position.is_some_and(|position| position <= 2), "{position:?}");
}

#[test]
fn a_group_has_no_effect_on_delivery_or_deduplication() {
    let (_time, _broker, queue) = fair(1);
    for _ in 0..3 {
        send(&queue, "same", 7);
    }
    let messages = receive(&queue, 10);
    assert_eq!(groups(&messages), ["same"; 3]);
}

#[test]
fn messages_of_a_batch_are_each_of_their_own_tenant() {
    let (_time, _broker, queue, _held) = noisy(10);
    let batch = [
        Outgoing::new(b"1").message_group("n"),
        Outgoing::new(b"2"),
        Outgoing::new(b"3").message_group("q"),
        Outgoing::new(b"4").message_group("n"),
    ];
    let sent = queue.send_messages(&batch).expect("valid");
    assert!(sent.iter().all(Result::is_ok));
    assert_eq!(groups(&receive(&queue, 3)), ["", "q", "n"]);
    assert_eq!(tenant(&queue, "n").messages, 42);
    assert_eq!(tenant(&queue, "q").messages, 1);
}

#[test]
fn a_tenant_whose_backlog_is_drained_holds_nobody_up_and_is_quiet_when_it_is_done() {
    let (_time, _broker, queue, held) = noisy(5);
    let rest = drain(&queue);
    assert_eq!(groups(&rest), ["n"; 5]);
    held.iter().for_each(|message| delete(&queue, message));
    assert!(!tenant(&queue, "n").is_noisy);
    send(&queue, "n", 0);
    send(&queue, "q", 0);
    assert_eq!(groups(&receive(&queue, 2)), ["n", "q"], "plain order");
}

#[test]
fn a_message_in_line_counts_as_visible_and_is_seen_by_peeks() {
    let (_time, _broker, queue, _held) = noisy(20);
    send(&queue, "q", 0);
    receive(&queue, 1);
    assert_eq!(tenant(&queue, "n").in_line, 20);
    assert_eq!(states(&queue), (20, 31, 0));
    let visible = PeekFilter {
        state: Some(epoq::MessageState::Visible),
        max: 100,
        ..PeekFilter::default()
    };
    assert_eq!(queue.peek(&visible).len(), 20);
    assert_eq!(queue.metrics().noisy_groups, 1);
}

#[test]
fn an_old_handle_deletes_a_message_in_line() {
    let (_time, _broker, queue, held) = noisy(20);
    send(&queue, "q", 0);
    // It stays noisy by what is in its backlog being received.
    for message in &held[..10] {
        release(&queue, message);
    }
    let more = hold(&queue, 11);
    assert!(tenant(&queue, "n").is_noisy, "{more:?}");
    send(&queue, "q", 1);
    while !groups(&receive(&queue, 1)).contains(&"q") {}
    let in_line = tenant(&queue, "n").in_line;
    let deleted = held[..10]
        .iter()
        .filter(|message| queue.delete(&message.receipt_handle()) == Ok(Deletion::Deleted))
        .count() as u64;
    assert!(deleted > 0);
    let (visible, _, _) = states(&queue);
    assert_eq!(drain(&queue).len() as u64, visible);
    assert!(in_line >= deleted && tenant(&queue, "n").in_line == 0);
}

#[test]
fn messages_in_line_lapse() {
    let (time, _broker, queue, _held) = noisy(200);
    send(&queue, "q", 0);
    while !groups(&receive(&queue, 1)).contains(&"q") {}
    assert!(tenant(&queue, "n").in_line > 100);
    time.advance(Duration::from_secs(5 * 24 * 3600));
    assert!(drain(&queue).is_empty());
    queue.advance(time.now());
    assert_eq!(states(&queue), (0, 0, 0));
    let n = tenant(&queue, "n");
    assert_eq!((n.messages, n.in_flight), (0, 0));
}

/// Nobody serves the line of a tenant that may have nothing in flight; its memory comes back all the same.
#[test]
fn memory_of_lapsed_messages_of_a_stopped_tenant_comes_back() {
    let (time, broker) = manual(1);
    let config = QueueConfig {
        retention: secs(60),
        memory_limit: Some(1 << 20),
        ..QueueConfig::default()
    };
    let queue = queue_with(&broker, "q", config);
    let stopped = TenantConfig {
        in_flight_max: Some(0),
        ..TenantConfig::default()
    };
    queue.set_tenant("stopped", stopped).expect("valid");
    for _ in 0..100 {
        send_many(&queue, "stopped", 500);
        assert_eq!(receive(&queue, 10).len(), 0);
        assert!(tenant(&queue, "stopped").in_line > 0);
        time.advance(secs(61));
        queue.advance(broker.now());
        assert_eq!(states(&queue), (0, 0, 0));
        assert_eq!(tenant(&queue, "stopped").in_line, 0);
    }
}

#[test]
fn a_purge_empties_the_lines() {
    let (_time, _broker, queue, held) = noisy(200);
    receive(&queue, 10);
    assert!(tenant(&queue, "n").in_line > 0);
    assert_eq!(queue.purge(), Ok(230));
    assert!(queue.tenants().is_empty() && drain(&queue).is_empty());
    assert_eq!(queue.delete(&held[0].receipt_handle()), Ok(Deletion::Gone));
    send(&queue, "n", 0);
    assert_eq!(groups(&receive(&queue, 10)), ["n"]);
}

#[test]
fn dead_letters_of_tenants_are_tenants_of_the_other_queue() {
    let (_time, broker) = manual(1);
    let letters = queue(&broker, "letters");
    let config = QueueConfig {
        redrive: Some(Redrive::new("letters", 1)),
        ..QueueConfig::default()
    };
    let source = queue_with(&broker, "source", config);
    send_many(&source, "n", 100);
    for message in hold(&source, 40) {
        release(&source, &message);
    }
    let mut left = 0;
    while left < 60 {
        left += receive(&source, 10).len();
    }
    assert!(receive(&source, 10).is_empty());
    assert_eq!(states(&source), (0, 60, 0));
    assert_eq!(tenant(&source, "n").messages, 60);
    assert_eq!(tenant(&letters, "n").messages, 40);
    assert_eq!(drain(&letters).len(), 40);
}

#[test]
fn messages_in_line_are_moved_to_the_dead_letter_queue_and_back() {
    let (_time, broker) = manual(1);
    let letters = queue(&broker, "letters");
    let source = queue(&broker, "source");
    send_many(&source, "n", 60);
    for message in hold(&source, 30) {
        release(&source, &message);
    }
    hold(&source, 30);
    send(&source, "q", 0);
    while !groups(&receive(&source, 1)).contains(&"q") {}
    let in_line = tenant(&source, "n").in_line;
    assert!(in_line > 0);
    let config = QueueConfig {
        redrive: Some(Redrive::new("letters", 1)),
        ..QueueConfig::default()
    };
    broker.configure(&source, config).expect("valid");
    let (mut received, mut idle) = (0, 0);
    while idle < 3 {
        let count = receive(&source, 10).len();
        received += count;
        idle += usize::from(count == 0);
    }
    let moved = letters.counts().visible;
    assert!(moved > 0);
    let (visible, in_flight, _) = states(&source);
    assert_eq!((visible, in_flight + moved), (0, 61), "{received}");
    // Some of the letters in line, then all of them back.
    broker.configure(&source, QueueConfig::default()).expect("valid");
    send_many(&letters, "x", 50);
    while states(&letters).0 > 30 {
        receive(&letters, 1);
    }
    broker.start_message_move("letters", Some("source"), None).ok();
}

#[test]
fn a_move_task_takes_what_is_in_line() {
    let (time, broker) = manual(1);
    let letters = queue(&broker, "letters");
    let config = QueueConfig {
        redrive: Some(Redrive::new("letters", 3)),
        ..QueueConfig::default()
    };
    queue_with(&broker, "source", config);
    let other = queue(&broker, "other");
    send_many(&letters, "n", 100);
    hold(&letters, 30);
    send(&letters, "q", 0);
    assert_eq!(groups(&receive(&letters, 1)), ["q"]);
    assert_eq!(tenant(&letters, "n").in_line, 70);
    broker
        .start_message_move("letters", Some("other"), None)
        .expect("a task");
    for _ in 0..100 {
        broker.advance(broker.now());
        time.advance(secs(1));
    }
    assert_eq!(states(&letters).0, 0);
    assert_eq!((tenant(&other, "n").messages, drain(&other).len()), (70, 70));
}

#[test]
fn receives_without_a_lease_put_noisy_tenants_behind_too() {
    let (_time, _broker, queue, _held) = noisy(20);
    send(&queue, "q", 0);
    let zero = queue.receive(3, Duration::ZERO).expect("valid");
    assert_eq!(groups(&zero)[0], "q");
    assert_eq!(tenant(&queue, "n").in_flight, 30);
    // Twice in one receive would be wrong.
    let mut ids: Vec<_> = zero.iter().map(Message::message_id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), zero.len());
}

#[test]
fn a_tenant_has_no_more_in_flight_than_its_limit() {
    let (_time, _broker, queue) = fair(1);
    let limit = |max| TenantConfig {
        in_flight_max: max,
        ..TenantConfig::default()
    };
    queue.set_tenant("a", limit(Some(3))).expect("valid");
    send_many(&queue, "a", 10);
    send_many(&queue, "b", 2);
    let first = receive(&queue, 10);
    assert_eq!(groups(&first), ["a", "a", "a", "b", "b"]);
    assert!(receive(&queue, 10).is_empty());
    assert_eq!(tenant(&queue, "a").in_line, 7);
    delete(&queue, &first[0]);
    assert_eq!(groups(&receive(&queue, 10)), ["a"]);
    release(&queue, &first[1]);
    assert_eq!(groups(&receive(&queue, 10)), ["a"]);
    queue.set_tenant("a", limit(Some(5))).expect("valid");
    assert_eq!(groups(&receive(&queue, 10)), ["a", "a"]);
    queue.purge().expect("there");
    send_many(&queue, "a", 10);
    assert_eq!(receive(&queue, 10).len(), 5, "survives a purge");
    queue.set_tenant("a", None).expect("valid");
    assert_eq!(receive(&queue, 10).len(), 5);
}

#[test]
fn a_weight_moves_the_line_at_which_a_tenant_is_noisy() {
    let (_time, _broker, queue) = fair(1);
    let heavy = TenantConfig {
        weight: 2,
        ..TenantConfig::default()
    };
    queue.set_tenant("n", heavy).expect("valid");
    send_many(&queue, "n", 100);
    hold(&queue, 59);
    assert!(!tenant(&queue, "n").is_noisy);
    hold(&queue, 1);
    assert!(tenant(&queue, "n").is_noisy);
    queue
        .set_tenant("n", TenantConfig { weight: 10, ..heavy })
        .expect("valid");
    hold(&queue, 40);
    assert!(!tenant(&queue, "n").is_noisy, "ten tenths are never too much");
}

#[test]
fn bad_configurations_of_tenants_are_refused() {
    let (_time, broker, queue) = fair(1);
    let weight = |weight| TenantConfig {
        weight,
        ..TenantConfig::default()
    };
    for group in ["", "a b", &"x".repeat(129)] {
        assert_eq!(queue.set_tenant(group, weight(1)), Err(TenantError::MessageGroup));
    }
    for given in [0, 1_001] {
        let error = queue.set_tenant("a", weight(given)).expect_err("out of range");
        assert_eq!(error, TenantError::Weight { given, limit: 1_000 });
        assert_eq!(error.to_string(), format!("weight {given}: must be 1 to 1000"));
    }
    for number in 0..TENANTS_MAX {
        queue.set_tenant(&format!("t{number}"), weight(2)).expect("room");
    }
    let full = Err(TenantError::TooMany { limit: TENANTS_MAX });
    assert_eq!(queue.set_tenant("one-more", weight(2)), full);
    queue.set_tenant("t0", None).expect("room");
    queue.set_tenant("one-more", weight(2)).expect("room");
    broker.delete_queue("fair").expect("there");
    assert_eq!(queue.set_tenant("t0", None), Err(TenantError::QueueDeleted));
}

#[test]
fn tenants_beyond_the_table_are_quiet_and_places_are_given_on() {
    let (time, _broker, queue) = fair(1);
    let group = |number| format!("tenant-{number}");
    for number in 0..3 * TENANTS_MAX as u64 {
        send(&queue, &group(number), number);
    }
    let known = queue.tenants().len();
    assert!((TENANTS_MAX / 2..=TENANTS_MAX).contains(&known), "{known}");
    assert_eq!(empty(&queue), 3 * TENANTS_MAX);
    assert!(
        queue
            .tenants()
            .iter()
            .all(|tenant| tenant.messages == 0 && tenant.in_flight == 0)
    );
    // Not before five minutes.
    time.advance(secs(299));
    send(&queue, "new-0", 0);
    time.advance(secs(2));
    for number in 0..100 {
        send(&queue, &format!("new-{number}"), number);
    }
    let new = |tenant: &TenantMetrics| tenant.group.starts_with("new-");
    assert!(queue.tenants().into_iter().filter(new).count() >= 99);
    assert_eq!(queue.tenants().len(), known.max(queue.tenants().len()));
    assert_eq!(empty(&queue), 101);
}

#[test]
fn memory_of_lines_returns() {
    let (_time, broker, queue, held) = noisy(20_000);
    let before = broker.memory().used;
    send(&queue, "q", 0);
    while !groups(&receive(&queue, 1)).contains(&"q") {}
    let lined = tenant(&queue, "n").in_line;
    assert!(lined >= 9_000, "{lined}");
    let per_message = (broker.memory().used - before) / 20_000;
    assert!(per_message <= 64, "{per_message} bytes a message in line");
    held.iter().for_each(|message| delete(&queue, message));
    empty(&queue);
    queue.purge().expect("there");
    let left = broker.memory().used;
    assert!(left < 64 * 1024, "{left}");
}

/// Long polls sleep while a tenant is at its limit, and wake when it has room.
#[test]
fn room_for_a_tenant_wakes_who_waits() {
    let broker = Broker::builder().partitions(1).build().expect("valid");
    let queue = queue(&broker, "fair");
    let limit = TenantConfig {
        in_flight_max: Some(1),
        ..TenantConfig::default()
    };
    queue.set_tenant("a", limit).expect("valid");
    send_many(&queue, "a", 3);
    let mut held = one(&queue, LONG);
    for step in 0..2 {
        held = thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let began = Instant::now();
                let got = queue.receive_wait(1, LONG, secs(20)).expect("valid");
                (got, began.elapsed())
            });
            thread::sleep(ms(50));
            if step == 0 {
                delete(&queue, &held);
            } else {
                release(&queue, &held);
            }
            let (mut got, took) = waiter.join().expect("no panic");
            assert!(took < secs(10), "{took:?}");
            got.pop().expect("a message")
        });
    }
    assert_eq!(held.message_group(), Some("a"));
}

/// Several producers, consumers and tenants: nothing is lost, doubled or left in a line, and the tenants' counts are exact.
#[test]
fn nothing_is_lost_in_lines_under_load() {
    const EACH: u64 = 6_000;
    let broker = Broker::builder().partitions(2).build().expect("valid");
    let queue = queue(&broker, "fair");
    let capped = TenantConfig {
        in_flight_max: Some(5),
        ..TenantConfig::default()
    };
    queue.set_tenant("capped", capped).expect("valid");
    let seen = Mutex::new(BTreeMap::<u64, u32>::new());
    let done = AtomicU64::new(0);
    let names = ["n", "capped", "q", ""];
    thread::scope(|scope| {
        for (at, name) in names.iter().enumerate() {
            let queue = &queue;
            scope.spawn(move || {
                for number in 0..EACH {
                    send(queue, name, at as u64 * EACH + number);
                }
            });
        }
        for seat in 0..3 {
            let (queue, seen, done) = (&queue, &seen, &done);
            scope.spawn(move || {
                let mut held: Vec<Message> = Vec::new();
                let mut round = seat;
                while done.load(Ordering::Relaxed) < EACH * names.len() as u64 {
                    round += 1;
                    let some = queue.receive(1 + round % 10, LONG).expect("valid");
                    let found = !some.is_empty();
                    held.extend(some);
                    // Enough held for somebody to be noisy; now and then one goes back.
                    while held.len() > if found { 20 } else { 0 } {
                        let message = held.swap_remove(round % held.len());
                        if round % 7 == 0 && found {
                            release(queue, &message);
                        } else {
                            delete(queue, &message);
                            *seen
                                .lock()
                                .expect("no panic")
                                .entry(number_of(message.body()))
                                .or_default() += 1;
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                        round += 1;
                    }
                }
            });
        }
    });
    let seen = seen.into_inner().expect("no panic");
    assert_eq!(seen.len() as u64, EACH * names.len() as u64);
    assert!(seen.values().all(|&times| times == 1));
    assert_eq!(states(&queue), (0, 0, 0));
    for tenant in queue.tenants() {
        assert_eq!((tenant.messages, tenant.in_flight), (0, 0), "{tenant:?}");
    }
}

/// Leases that end by themselves, are given up, deleted late, and lapse into the dead-letter queue, all at the same time: each
/// of them is counted once.
#[test]
fn tenants_counts_are_exact_after_a_storm() {
    const MESSAGES: u64 = 4_000;
    let broker = Broker::builder().partitions(2).build().expect("valid");
    let letters = queue(&broker, "letters");
    let config = QueueConfig {
        redrive: Some(Redrive::new("letters", 6)),
        ..QueueConfig::default()
    };
    let queue = queue_with(&broker, "fair", config);
    for number in 0..MESSAGES {
        send(&queue, ["n", "n", "n", "q", ""][number as usize % 5], number);
    }
    thread::scope(|scope| {
        for seat in 0..3 {
            let queue = &queue;
            scope.spawn(move || {
                let mut random = 0x9e37_79b9_u64 + seat;
                let mut kept = Vec::new();
                let began = Instant::now();
                while queue.counts().visible + queue.counts().in_flight > 0 && began.elapsed() < secs(60) {
                    for message in queue.receive(10, ms(1 + random % 5)).expect("valid") {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        match random >> 61 {
                            0 | 1 => drop(queue.delete(&message.receipt_handle())),
                            2 => drop(queue.change_visibility(&message.receipt_handle(), Duration::ZERO)),
                            3 => kept.push(message),
                            _ => {}
                        }
                    }
                    // Late: some of their leases are over, and some of the messages received again.
                    if kept.len() > 50 {
                        for message in kept.drain(..) {
                            let _late = queue.delete(&message.receipt_handle());
                        }
                    }
                }
            });
        }
    });
    assert_eq!(states(&queue), (0, 0, 0));
    let counts = queue.counts();
    assert_eq!(counts.deleted + counts.moved_out, MESSAGES);
    assert!(
        counts.moved_out > 0 && counts.expired > 0 && counts.released > 0,
        "{counts:?}"
    );
    for tenant in queue.tenants() {
        assert_eq!(
            (tenant.messages, tenant.in_flight, tenant.in_line),
            (0, 0, 0),
            "{tenant:?}"
        );
    }
    let moved: u64 = letters.tenants().iter().map(|tenant| tenant.messages).sum();
    assert!(moved > 0 && moved <= counts.moved_out);
    assert_eq!(empty(&letters) as u64, counts.moved_out);
}
