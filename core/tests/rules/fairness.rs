//! Who gets what when messages come back again and again: nobody waits for ever behind them.

use std::{collections::BTreeMap, time::Duration};

use crate::common::{LONG, manual, manual_with, ms, number_of, numbered, on_thread, one, queue, secs};
use epoq::{Broker, Deletion, Message, Queue, VisibilityChange};

fn release(queue: &Queue, message: &Message) {
    assert_eq!(
        queue.change_visibility(&message.receipt_handle(), Duration::ZERO),
        Ok(VisibilityChange::Changed)
    );
}

fn delete(queue: &Queue, message: &Message) {
    assert_eq!(queue.delete(&message.receipt_handle()), Ok(Deletion::Deleted));
}

/// One message that fails each time, and steady traffic behind it: it is received by a consumer that handles one message
/// at a time, in `receives` receives for each message sent. Returns how many of `others` were handled.
fn traffic_behind_poison(others: u64, receives: usize, glimpse: bool) -> (u64, Queue) {
    let (_time, broker) = manual(1);
    let queue = queue(&broker, "standard");
    queue.send(b"poison").expect("room");
    let mut done = 0;
    for number in 0..others {
        queue.send(&numbered(number, 16)).expect("room");
        for _ in 0..receives {
            let timeout = if glimpse { Duration::ZERO } else { secs(30) };
            let Some(message) = queue.receive(1, timeout).expect("valid").pop() else {
                break;
            };
            if message.body() != b"poison" {
                delete(&queue, &message);
                done += 1;
            } else if !glimpse {
                release(&queue, &message);
            }
        }
    }
    (done, queue)
}

#[test]
fn one_poison_message_does_not_stop_the_traffic_behind_it() {
    let (done, queue) = traffic_behind_poison(10_000, 3, false);
    assert!(done > 9_900, "{done} of 10000 handled: {:?}", queue.counts());
}

#[test]
fn one_glimpsed_message_does_not_stop_the_traffic_behind_it() {
    let (done, queue) = traffic_behind_poison(10_000, 3, true);
    assert!(done > 9_900, "{done} of 10000 handled: {:?}", queue.counts());
}

/// A consumer that can handle nothing at the moment gives every message back: each of them goes round.
#[test]
fn messages_given_back_share_the_receives_across_segments() {
    for count in [20, 252, 600, 3000] {
        let (_time, broker) = manual(1);
        let queue = queue(&broker, "standard");
        for number in 0..count {
            queue.send(&numbered(number, 16)).expect("room");
        }
        let mut received = BTreeMap::<u64, u32>::new();
        for _ in 0..count * 40 {
            let message = one(&queue, LONG);
            *received.entry(number_of(message.body())).or_default() += 1;
            release(&queue, &message);
        }
        let often = received.values().filter(|&&times| times > 1).count();
        assert_eq!(
            (received.len(), often),
            (count as usize, count as usize),
            "of {count} messages in {} receives: (ever received, more than once)",
            count * 40
        );
    }
}

/// Poison in another core's partition, a full receive of it, does not keep a worker from its own messages.
#[test]
fn poison_elsewhere_does_not_keep_batches_from_home() {
    let (time, broker) = manual(2);
    let queue = queue(&broker, "standard");
    on_thread({
        let (broker, queue) = (broker.clone(), queue.clone());
        move || {
            let _there = broker.worker_at(1).expect("a partition");
            for number in 0..20 {
                queue.send(&numbered(number, 16)).expect("room");
            }
        }
    });
    time.advance(secs(1));
    let _here = broker.worker_at(0).expect("a partition");
    for number in 0..100 {
        queue.send(&numbered(1000 + number, 16)).expect("room");
    }
    let mut done = 0;
    for _ in 0..20_000 {
        for message in queue.receive(10, secs(30)).expect("valid") {
            if number_of(message.body()) < 1000 {
                release(&queue, &message);
            } else {
                delete(&queue, &message);
                done += 1;
            }
        }
        time.advance(ms(1));
    }
    assert_eq!(done, 100, "in 20000 receives of ten: {:?}", queue.counts());
}

/// The same the other way round: poison at home, good messages elsewhere, where nobody is at home.
#[test]
fn poison_at_home_does_not_keep_batches_from_elsewhere() {
    let (time, broker) = manual(2);
    let queue = queue(&broker, "standard");
    let _here = broker.worker_at(1).expect("a partition");
    for number in 0..20 {
        queue.send(&numbered(number, 16)).expect("room");
    }
    time.advance(secs(1));
    on_thread({
        let (broker, queue) = (broker.clone(), queue.clone());
        move || {
            let _there = broker.worker_at(0).expect("a partition");
            for number in 0..100 {
                queue.send(&numbered(1000 + number, 16)).expect("room");
            }
        }
    });
    let mut done = 0;
    for receives in 1..=20_000 {
        for message in queue.receive(10, secs(30)).expect("valid") {
            if number_of(message.body()) < 1000 {
                release(&queue, &message);
            } else {
                delete(&queue, &message);
                done += 1;
            }
        }
        if done == 100 {
            assert!(receives <= 1000, "{receives} receives");
            return;
        }
        time.advance(ms(1));
    }
    panic!("{done} of 100: {:?}", queue.counts());
}

/// Messages that come back in another core's partition share the receives that go there, whichever slots they have.
#[test]
fn poison_elsewhere_shares_the_receives_that_go_there() {
    let (time, broker) = manual(2);
    let queue = queue(&broker, "standard");
    on_thread({
        let (broker, queue) = (broker.clone(), queue.clone());
        move || {
            let _there = broker.worker_at(1).expect("a partition");
            for number in 0..21 {
                queue.send(&numbered(number, 16)).expect("room");
            }
        }
    });
    time.advance(secs(1));
    let _here = broker.worker_at(0).expect("a partition");
    let mut times = BTreeMap::<u64, u32>::new();
    for number in 0..100_000 {
        queue.send(&numbered(1000 + number, 16)).expect("room");
        let message = one(&queue, secs(30));
        if number_of(message.body()) < 1000 {
            *times.entry(number_of(message.body())).or_default() += 1;
            release(&queue, &message);
        } else {
            delete(&queue, &message);
        }
        time.advance(ms(1));
    }
    let least = (0..21)
        .map(|number| times.get(&number).copied().unwrap_or(0))
        .min();
    assert!(least > Some(100), "{times:?}");
}

/// A refused send gives back what only stale names hold, also behind a name that is not stale.
#[test]
fn stale_returns_behind_a_live_one_give_their_memory_back() {
    let (time, broker) = manual_with(Broker::builder().partitions(1).memory_limit(2 << 20));
    let queue = queue(&broker, "standard");
    let body = vec![b'x'; 1000];
    let mut count = 0;
    while queue.send(&body).is_ok() {
        count += 1;
    }
    let all: Vec<Message> = drain_with(&queue, secs(1));
    assert_eq!(all.len(), count);
    // All leases end, and nobody receives; the consumers that are late delete all but the first by their old handles.
    time.advance(secs(2));
    queue.advance(broker.now());
    for message in all.iter().skip(1) {
        delete(&queue, message);
    }
    let mut refused = 0;
    while queue.send(&body).is_err() {
        refused += 1;
        assert!(
            refused < 1000,
            "one message is left of {count}, and 1000 sends were refused: {:?}",
            broker.memory()
        );
    }
}

fn drain_with(queue: &Queue, timeout: Duration) -> Vec<Message> {
    let mut all = Vec::new();
    loop {
        let some = queue.receive(10, timeout).expect("valid");
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}
