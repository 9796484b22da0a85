//! FIFO queues on the machine's clock, with more threads than cores and leases that end under their holders' hands: no message
//! is lost, none comes while one before it in its group is in flight, and each comes for the first time in its turn.
//!
//! Threads only keep a log, as in `stress.rs`; [`verify`] judges all logs together afterwards. What a log says has bounds that
//! hold whatever the scheduler did: a delivery happened between the beginning and the end of its receive, and a lease has
//! certainly been running from the end of its receive until its timeout after that receive's beginning, unless its holder, or a
//! purge, began to end it before.
#![cfg(not(loom))]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests drive the ledger from outside"
)]

mod common;

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::{Random, assert_balanced, fifo_with, ms, on_thread, secs, wait_until};
use epoq::{
    Broker, ChangeVisibilityError, DeleteError, Deletion, Message, Outgoing, Queue, QueueConfig,
    ReceiptHandle, Redrive, VisibilityChange,
};

/// A moment by the broker's clock and by the machine's.
#[derive(Debug, Clone, Copy)]
struct Moment {
    ms: u64,
    ns: u64,
}

/// One delivery, and what its receiver did with it.
#[derive(Debug, Clone)]
struct Delivery {
    /// In the dead-letter queue.
    is_dead: bool,
    group: String,
    /// The message's number in its group, by its sender.
    number: u64,
    sequence: u128,
    receives: u32,
    /// Of all receives.
    call: u64,
    /// At which place in its answer.
    at: usize,
    before: Moment,
    after: Moment,
    /// The lease did not end before this.
    end: Moment,
    is_deleted: bool,
}

/// A purge began then, and ended then.
type Purge = (Moment, Moment);

/// The judgement on all deliveries of all threads.
fn verify(deliveries: &[Delivery], purges: &[Purge]) -> Result<(), String> {
    let mut by_group: HashMap<(bool, &str), Vec<&Delivery>> = HashMap::new();
    let mut by_message: HashMap<(&str, u64), Vec<&Delivery>> = HashMap::new();
    for delivery in deliveries {
        let Delivery {
            is_dead,
            group,
            number,
            ..
        } = delivery;
        by_group.entry((*is_dead, group)).or_default().push(delivery);
        by_message.entry((group, *number)).or_default().push(delivery);
    }
    for deliveries in by_message.values_mut() {
        deliveries.sort_by_key(|delivery| delivery.receives);
        let counts = deliveries.iter().map(|delivery| delivery.receives);
        if !counts.eq(1..=deliveries.len() as u32) {
            return Err(format!("receive counts with gaps or repeats: {deliveries:#?}"));
        }
        if !deliveries.is_sorted_by_key(|delivery| delivery.is_dead) {
            return Err(format!("back from the dead: {deliveries:#?}"));
        }
        let (last, rest) = deliveries.split_last().expect("one");
        if rest.iter().any(|delivery| delivery.is_deleted) {
            return Err(format!("received after its delete: {rest:#?} {last:#?}"));
        }
    }
    for deliveries in by_group.values_mut() {
        // The group's order; numbers tell it too where messages are sent, and a message keeps its place.
        deliveries.sort_by_key(|delivery| (delivery.sequence, delivery.receives));
        for pair in deliveries.windows(2) {
            let (one, next) = (pair[0], pair[1]);
            if (one.sequence == next.sequence) != (one.number == next.number)
                || !one.is_dead && one.number > next.number
            {
                return Err(format!("sequence numbers out of order: {pair:#?}"));
            }
        }
        if purges.is_empty() {
            check_first(deliveries)?;
        }
        check_leases(deliveries, purges)?;
    }
    Ok(())
}

/// The first delivery of each message comes after those of all before it. Sorted by the group's order.
fn check_first(deliveries: &[&Delivery]) -> Result<(), String> {
    let mut earliest: Option<&Delivery> = None;
    for &delivery in deliveries.iter().rev() {
        if let Some(later) = earliest
            && (later.after.ns < delivery.before.ns || later.call == delivery.call && later.at < delivery.at)
            && is_first(delivery, deliveries)
        {
            return Err(format!("overtaken: {delivery:#?} by {later:#?}"));
        }
        if is_first(delivery, deliveries) && earliest.is_none_or(|other| delivery.after.ns < other.after.ns) {
            earliest = Some(delivery);
        }
    }
    Ok(())
}

/// Whether it is the message's first delivery in its queue.
fn is_first(delivery: &Delivery, deliveries: &[&Delivery]) -> bool {
    let at = deliveries.partition_point(|other| other.sequence < delivery.sequence);
    std::ptr::eq(deliveries[at], delivery)
}

/// No message comes while it, or one before it, is certainly in flight. Sorted by the group's order.
fn check_leases(deliveries: &[&Delivery], purges: &[Purge]) -> Result<(), String> {
    // By when it begins to be certain, and until when.
    let mut leases: Vec<_> = deliveries
        .iter()
        .map(|&lease| {
            let mut end = lease.end;
            for (before, after) in purges {
                if after.ns >= lease.before.ns && before.ns < end.ns {
                    end = *before;
                }
            }
            (lease, end)
        })
        .filter(|(lease, end)| end.ns > lease.after.ns && end.ms > lease.after.ms)
        .collect();
    leases.sort_by_key(|(lease, _)| lease.after.ns);
    let longest = leases.iter().map(|(lease, end)| end.ns - lease.after.ns).max();
    for &delivery in deliveries {
        // Those that began to be certain before it began, the latest first.
        let until = leases.partition_point(|(lease, _)| lease.after.ns <= delivery.before.ns);
        for (lease, end) in leases[..until].iter().rev() {
            if lease.after.ns + longest.unwrap_or(0) < delivery.before.ns {
                break;
            }
            let is_running = delivery.after.ns + TOLERANCE_NS < end.ns && delivery.after.ms < end.ms;
            if is_running && lease.sequence <= delivery.sequence && lease.call != delivery.call {
                return Err(format!("{delivery:#?} came during {lease:#?}, until {end:?}"));
            }
        }
    }
    Ok(())
}

/// Clocks may disagree a little about how fast time goes.
const TOLERANCE_NS: u64 = 2_000_000;

#[test]
fn the_judge_notices_violations() {
    let at = |ms| Moment {
        ms,
        ns: ms * 1_000_000,
    };
    let delivery = |number: u64, receives, call, before, end| Delivery {
        is_dead: false,
        group: "g".into(),
        number,
        sequence: u128::from(number),
        receives,
        call,
        at: number as usize,
        before: at(before),
        after: at(before + 1),
        end: at(end),
        is_deleted: false,
    };
    let good = [
        delivery(1, 1, 1, 10, 20),
        delivery(2, 1, 1, 10, 30),
        delivery(1, 2, 2, 20, 40),
        delivery(2, 2, 3, 39, 50),
    ];
    assert_eq!(verify(&good, &[]), Ok(()));
    let deleted = |delivery| Delivery {
        is_deleted: true,
        ..delivery
    };
    let bad: [(&str, Vec<Delivery>); 7] = [
        ("gaps", vec![delivery(1, 2, 1, 10, 20)]),
        ("gaps", vec![delivery(1, 1, 1, 10, 20), delivery(1, 1, 2, 30, 40)]),
        (
            "during",
            vec![delivery(1, 1, 1, 10, 30), delivery(1, 2, 2, 20, 40)],
        ),
        (
            "during",
            vec![delivery(1, 1, 1, 10, 30), delivery(2, 1, 2, 20, 40)],
        ),
        (
            "overtaken",
            vec![delivery(1, 1, 2, 20, 30), delivery(2, 1, 1, 10, 15)],
        ),
        (
            "after its delete",
            vec![deleted(delivery(1, 1, 1, 10, 15)), delivery(1, 2, 2, 20, 30)],
        ),
        (
            "out of order",
            vec![
                delivery(1, 1, 1, 10, 15),
                Delivery {
                    sequence: 0,
                    ..delivery(2, 1, 2, 20, 30)
                },
            ],
        ),
    ];
    for (why, deliveries) in bad {
        let verdict = verify(&deliveries, &[]);
        assert!(
            verdict.as_ref().is_err_and(|error| error.contains(why)),
            "{why}: {verdict:?}"
        );
    }
    // What stands before may be received while something behind it is in flight, and after a purge anything.
    assert_eq!(
        verify(
            &[
                delivery(1, 1, 1, 10, 15),
                delivery(2, 1, 1, 10, 60),
                delivery(1, 2, 2, 20, 30)
            ],
            &[]
        ),
        Ok(())
    );
    let purged = [delivery(1, 1, 1, 10, 30), delivery(2, 1, 2, 20, 40)];
    assert_eq!(verify(&purged, &[(at(12), at(13))]), Ok(()));
}

/// What is done, and by how many.
#[derive(Debug, Clone)]
struct Scenario {
    partitions: usize,
    producers: u64,
    consumers: u64,
    messages: u64,
    /// Groups of each producer, which it goes round.
    groups: u64,
    /// So many messages it sends to one before it goes on.
    burst: Range<u64>,
    /// Time from one burst to the next.
    pause: Duration,
    timeout_ms: Range<u64>,
    /// One in so many deliveries is released, extended, forgotten.
    release: u64,
    extend: u64,
    forget: u64,
    max_receives: Option<u32>,
    purges: bool,
    /// Messages that may be there before producers wait.
    backlog: u64,
}

const BASE: Scenario = Scenario {
    partitions: 4,
    producers: 4,
    consumers: 8,
    messages: 20_000,
    groups: 5,
    burst: 1..40,
    pause: Duration::ZERO,
    timeout_ms: 5..50,
    release: 10,
    extend: 20,
    forget: 30,
    max_receives: None,
    purges: false,
    backlog: 2_000,
};

struct Stage {
    scenario: Scenario,
    broker: Broker,
    /// And the dead-letter queue.
    queues: [Queue; 2],
    began: Instant,
    deadline: Instant,
    calls: AtomicU64,
    sent: AtomicU64,
    deleted: AtomicU64,
    producing: AtomicU64,
    purges: Mutex<Vec<Purge>>,
}

/// A delivery in hand.
struct Held {
    handle: ReceiptHandle,
    delivery: usize,
}

impl Stage {
    fn new(scenario: Scenario) -> Self {
        let broker = Broker::builder()
            .min_width(usize::MAX)
            .partitions(scenario.partitions)
            .build()
            .expect("valid");
        let dead = fifo_with(&broker, "dead.fifo", QueueConfig::default());
        let config = QueueConfig {
            redrive: scenario.max_receives.map(|max| Redrive::new("dead.fifo", max)),
            ..QueueConfig::default()
        };
        let source = fifo_with(&broker, "stress.fifo", config);
        let began = Instant::now();
        Self {
            broker,
            queues: [source, dead],
            began,
            // Many times what it takes.
            deadline: began + secs(60) * (scenario.messages / 100_000 + 1) as u32,
            calls: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
            producing: AtomicU64::new(scenario.producers),
            purges: Mutex::new(Vec::new()),
            scenario,
        }
    }

    fn now(&self) -> Moment {
        Moment {
            ms: self.broker.now().as_millis(),
            ns: self.began.elapsed().as_nanos() as u64,
        }
    }

    /// A lease of so long that began at `before` or later.
    fn ending(before: Moment, timeout_ms: u64) -> Moment {
        Moment {
            ms: before.ms + timeout_ms + 1,
            ns: before.ns + timeout_ms * 1_000_000,
        }
    }

    fn present(&self) -> u64 {
        let present = |queue: &Queue| {
            let counts = queue.counts();
            counts.visible + counts.in_flight
        };
        self.queues.iter().map(present).sum()
    }

    fn is_over(&self) -> bool {
        // Acquire: see the last sends before seeing their senders gone.
        self.producing.load(Ordering::Acquire) == 0
            && if self.scenario.purges {
                self.queues.iter().all(|queue| queue.census() == (0, 0, 0))
            } else {
                self.deleted.load(Ordering::Relaxed) == self.sent.load(Ordering::Relaxed)
            }
    }

    fn check_deadline(&self) {
        assert!(
            Instant::now() < self.deadline,
            "stuck: {} sent, {} deleted, {:?}, census {:?}, {:?}",
            self.sent.load(Ordering::Relaxed),
            self.deleted.load(Ordering::Relaxed),
            self.queues,
            self.queues.each_ref().map(Queue::census),
            self.queues.each_ref().map(Queue::fifo_metrics),
        );
    }

    fn produce(&self, thread: u64) {
        let scenario = &self.scenario;
        let mut random = Random(thread);
        let worker = random.once_in(2).then(|| self.broker.worker().expect("a worker"));
        let queue = &self.queues[0];
        let mut numbers = vec![0u64; scenario.groups as usize];
        let (mut left, mut round) = (scenario.messages / scenario.producers, 0);
        let mut next_burst = Instant::now();
        while left > 0 {
            self.check_deadline();
            if self.present() > scenario.backlog {
                // Receivers that are to keep up are not given time to sleep in.
                if scenario.backlog < 100 {
                    thread::yield_now();
                } else {
                    thread::sleep(ms(1));
                }
                continue;
            }
            let group = round % scenario.groups;
            round += 1;
            let name = format!("{thread}-{group}");
            let burst = scenario.burst.start + random.below(scenario.burst.end - scenario.burst.start);
            let mut burst = burst.min(left);
            left -= burst;
            while burst > 0 {
                let count = (1 + random.below(10)).min(burst);
                burst -= count;
                let number = &mut numbers[group as usize];
                let bodies: Vec<_> = (0..count)
                    .map(|_| {
                        *number += 1;
                        format!("{name} {number}")
                    })
                    .collect();
                let outgoing: Vec<_> = bodies
                    .iter()
                    .map(|body| Outgoing::new(body.as_bytes()).message_group(&name))
                    .collect();
                match &worker {
                    Some(worker) if random.once_in(2) => worker.turn(|turn| {
                        let sent = turn.send_messages(queue, &outgoing).expect("valid");
                        assert!(sent.iter().all(Result::is_ok));
                    }),
                    _ => {
                        for message in &outgoing {
                            queue.send_message(message).expect("room");
                        }
                    }
                }
                self.sent.fetch_add(count, Ordering::Relaxed);
                if !scenario.purges && random.once_in(20) {
                    // Once more: it is the same message, wherever that is by now.
                    let again = queue.send_message(&outgoing[0]).expect("known");
                    let twice = queue.send_message(&outgoing[0]).expect("known");
                    assert_eq!(again.message_id(), twice.message_id());
                }
            }
            if !scenario.pause.is_zero() {
                next_burst += scenario.pause * (90 + random.below(21) as u32) / 100;
                thread::sleep(next_burst.saturating_duration_since(Instant::now()));
            }
        }
        // Release: see `is_over`.
        self.producing.fetch_sub(1, Ordering::Release);
    }

    fn purge(&self) {
        while !self.is_over() {
            self.check_deadline();
            thread::sleep(ms(150));
            let before = self.now();
            let purged = self.queues[0].purge().expect("there");
            let after = self.now();
            self.deleted.fetch_add(purged, Ordering::Relaxed);
            self.purges.lock().expect("no panic").push((before, after));
        }
    }

    /// Does what is due all the time, so that it is done at the moment it is due.
    fn tend(&self) {
        while !self.is_over() {
            self.check_deadline();
            for queue in &self.queues {
                queue.advance(self.broker.now());
            }
            thread::sleep(ms(1));
        }
    }

    fn consume(&self, thread: u64) -> Vec<Delivery> {
        let scenario = &self.scenario;
        let mut random = Random(thread ^ 0xf1_f0);
        let worker = random.once_in(2).then(|| self.broker.worker().expect("a worker"));
        let mut log: Vec<Delivery> = Vec::new();
        let mut aside: Vec<Held> = Vec::new();
        while !self.is_over() {
            self.check_deadline();
            let at = usize::from(scenario.max_receives.is_some() && random.once_in(6));
            let queue = &self.queues[at];
            let timeout = &scenario.timeout_ms;
            let mut timeout_ms = timeout.start + random.below(timeout.end - timeout.start);
            if random.once_in(50) {
                timeout_ms = 0;
            }
            let max = 1 + random.below(10) as usize;
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            let before = self.now();
            let messages: Vec<Message> = match &worker {
                Some(worker) if random.once_in(2) => worker.turn(|turn| {
                    let received = turn.receive(queue, max, ms(timeout_ms)).expect("valid");
                    received.iter().map(|delivery| delivery.to_message()).collect()
                }),
                _ if random.once_in(4) => queue.receive_wait(max, ms(timeout_ms), ms(5)).expect("valid"),
                _ => queue.receive(max, ms(timeout_ms)).expect("valid"),
            };
            let after = self.now();
            if messages.is_empty() {
                thread::yield_now();
            }
            let first = log.len();
            for (place, message) in messages.iter().enumerate() {
                let text = str::from_utf8(message.body()).expect("a text");
                let (group, number) = text.split_once(' ').expect("a number");
                assert_eq!(message.message_group(), Some(group));
                log.push(Delivery {
                    is_dead: at == 1,
                    group: group.to_owned(),
                    number: number.parse().expect("a number"),
                    sequence: message.sequence_number().expect("a FIFO queue").to_u128(),
                    receives: message.receive_count(),
                    call,
                    at: place,
                    before,
                    after,
                    end: if timeout_ms > 0 {
                        Self::ending(before, timeout_ms)
                    } else {
                        before
                    },
                    is_deleted: false,
                });
            }
            check_runs(&log[first..]);
            if timeout_ms == 0 {
                continue;
            }
            if random.once_in(100) {
                // Long enough for what is in hand to end.
                thread::sleep(ms(timeout.end));
            }
            let mut now = Vec::new();
            for (place, message) in messages.iter().enumerate() {
                let held = Held {
                    handle: message.receipt_handle(),
                    delivery: first + place,
                };
                if random.once_in(scenario.release) {
                    self.change(queue, &held, 0, &mut log);
                } else if random.once_in(scenario.extend) {
                    self.change(queue, &held, timeout_ms, &mut log);
                    aside.push(held);
                } else if !random.once_in(scenario.forget) {
                    now.push(held);
                }
            }
            if random.once_in(2) {
                now.reverse();
            }
            if random.once_in(2) {
                self.delete(queue, &now, &mut log);
            } else {
                now.iter()
                    .for_each(|held| self.delete(queue, std::slice::from_ref(held), &mut log));
            }
            if !aside.is_empty() && random.once_in(2) {
                let held = aside.swap_remove(random.below(aside.len() as u64) as usize);
                let queue = &self.queues[usize::from(log[held.delivery].is_dead)];
                self.delete(queue, &[held], &mut log);
            }
        }
        log
    }

    fn delete(&self, queue: &Queue, held: &[Held], log: &mut [Delivery]) {
        if held.is_empty() {
            return;
        }
        let handles: Vec<_> = held.iter().map(|held| held.handle).collect();
        let before = self.now();
        let results: Vec<_> = match &handles[..] {
            [handle] => vec![queue.delete(handle)],
            handles => queue.delete_batch(handles).expect("valid").into_iter().collect(),
        };
        let after = self.now();
        for (held, result) in held.iter().zip(results) {
            let delivery = &mut log[held.delivery];
            match result {
                Ok(Deletion::Deleted) => {
                    delivery.is_deleted = true;
                    delivery.end = earlier(delivery.end, before);
                    self.deleted.fetch_add(1, Ordering::Relaxed);
                    // Twice is once.
                    assert_eq!(queue.delete(&held.handle), Ok(Deletion::Gone));
                }
                Ok(Deletion::Gone) if self.scenario.purges => {}
                // Received again and deleted, or moved.
                Err(DeleteError::Expired) | Ok(Deletion::Gone) => {
                    assert!(after.ms >= delivery.end.ms, "over too early: {delivery:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn change(&self, queue: &Queue, held: &Held, timeout_ms: u64, log: &mut [Delivery]) {
        let before = self.now();
        let delivery = &mut log[held.delivery];
        match queue.change_visibility(&held.handle, ms(timeout_ms)) {
            Ok(VisibilityChange::Changed) if timeout_ms == 0 => {
                delivery.end = earlier(delivery.end, before);
            }
            Ok(VisibilityChange::Changed) => delivery.end = Self::ending(before, timeout_ms),
            Err(ChangeVisibilityError::Gone) if self.scenario.purges => {}
            Err(ChangeVisibilityError::Expired | ChangeVisibilityError::Gone) => {
                assert!(self.now().ms >= delivery.end.ms, "over too early: {delivery:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    /// The verdict on what all threads did. Nothing must be left: neither messages nor groups.
    fn close(self, deliveries: Vec<Delivery>) -> Vec<Delivery> {
        let purges = self.purges.into_inner().expect("no panic");
        verify(&deliveries, &purges).unwrap_or_else(|why| panic!("{why}"));
        let counts = self.queues.each_ref().map(Queue::counts);
        for queue in &self.queues {
            assert_eq!(queue.census(), (0, 0, 0));
            assert_balanced(queue);
        }
        let [source, dead] = counts;
        assert_eq!(source.moved_out, dead.moved_in);
        assert_eq!(source.received + dead.received, deliveries.len() as u64);
        let deleted = deliveries.iter().filter(|delivery| delivery.is_deleted).count() as u64;
        assert_eq!(source.deleted + dead.deleted, deleted);
        if purges.is_empty() {
            let Scenario {
                messages, producers, ..
            } = self.scenario;
            // Each producer has as many.
            let sent = messages / producers * producers;
            assert_eq!((source.sent, deleted), (sent, sent));
        }
        let groups = || {
            self.queues
                .each_ref()
                .map(|queue| queue.fifo_metrics().expect("FIFO").groups)
        };
        wait_until(
            secs(10),
            || format!("{:?} groups", groups()),
            || {
                self.queues.iter().for_each(|queue| {
                    queue.advance(self.broker.now());
                });
                groups() == [0, 0]
            },
        );
        // Nor is their memory left: but for spare segments, and ids that are to be known again.
        let memory = self.broker.memory();
        let metrics = self
            .queues
            .each_ref()
            .map(|queue| queue.fifo_metrics().expect("FIFO"));
        let ids: u64 = metrics.iter().map(|metrics| metrics.deduplication_bytes).sum();
        let kept = memory.used - memory.pooled - memory.limbo - ids;
        assert!(kept < 2 << 20, "{kept} bytes: {memory:?}");
        deliveries
    }
}

fn earlier(one: Moment, other: Moment) -> Moment {
    Moment {
        ms: one.ms.min(other.ms),
        ns: one.ns.min(other.ns),
    }
}

/// What one receive gave: each group's messages one after the other, in order.
fn check_runs(deliveries: &[Delivery]) {
    let mut ended = Vec::new();
    for pair in deliveries.windows(2) {
        if pair[0].group == pair[1].group {
            assert!(pair[0].sequence < pair[1].sequence, "{deliveries:#?}");
        } else {
            ended.push(&pair[0].group);
            assert!(!ended.contains(&&pair[1].group), "{deliveries:#?}");
        }
    }
}

/// Plays a scenario to its end on threads of its own, and judges it.
fn play(scenario: Scenario) -> Vec<Delivery> {
    let (producers, consumers) = (scenario.producers, scenario.consumers);
    let threads = producers + consumers + 1 + u64::from(scenario.purges);
    let stage = Arc::new(Stage::new(scenario));
    let start = Arc::new(Barrier::new(threads as usize));
    let deliveries = (0..threads)
        .map(|number| {
            let (stage, start) = (Arc::clone(&stage), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                if number < producers {
                    stage.produce(number);
                } else if number < producers + consumers {
                    return stage.consume(number);
                } else if number == producers + consumers {
                    stage.tend();
                } else {
                    stage.purge();
                }
                Vec::new()
            })
        })
        // All at work before the first is waited for.
        .collect::<Vec<_>>()
        .into_iter()
        .flat_map(|thread| match thread.join() {
            Ok(log) => log,
            Err(panic) => std::panic::resume_unwind(panic),
        })
        .collect();
    let stage = Arc::into_inner(stage).expect("all threads are done");
    let budget = stage.broker.budget();
    // On a thread of its own: one that lives on would keep its registration, and with it what waits for the epoch.
    let deliveries = on_thread(move || stage.close(deliveries));
    assert_eq!(budget.read().used, 0, "queues and threads are gone");
    deliveries
}

fn redelivered(deliveries: &[Delivery]) -> usize {
    deliveries.iter().filter(|delivery| delivery.receives > 1).count()
}

fn short_leases(messages: u64) {
    let deliveries = play(Scenario { messages, ..BASE });
    assert!(redelivered(&deliveries) > 500);
}

/// Leases of a millisecond or two: they end while their holders look at them.
fn tiny_leases(messages: u64) {
    let deliveries = play(Scenario {
        messages,
        timeout_ms: 1..4,
        forget: 10,
        ..BASE
    });
    assert!(redelivered(&deliveries) > 500);
}

/// One partition, one group a producer: everybody meets everybody.
fn few_groups(messages: u64) {
    play(Scenario {
        messages,
        partitions: 1,
        groups: 1,
        timeout_ms: 1..10,
        ..BASE
    });
}

/// Receivers keep up: messages arrive while the group's last ones are being received.
fn nearly_empty_groups(messages: u64) {
    play(Scenario {
        messages,
        producers: 6,
        consumers: 4,
        groups: 1,
        burst: 1..4,
        backlog: 12,
        timeout_ms: 50..100,
        release: 100,
        extend: 100,
        forget: 1_000,
        ..BASE
    });
}

fn dead_letters(messages: u64) {
    let deliveries = play(Scenario {
        messages,
        max_receives: Some(2),
        timeout_ms: 2..15,
        release: 4,
        forget: 8,
        ..BASE
    });
    assert!(deliveries.iter().filter(|delivery| delivery.is_dead).count() > 100);
}

fn purges(messages: u64) {
    play(Scenario {
        messages,
        purges: true,
        max_receives: Some(3),
        timeout_ms: 2..30,
        ..BASE
    });
}

/// Each group is sent to about once a second, which is when an empty one is closed.
fn closing_groups(seconds: u64) {
    let groups = 250;
    let scenario = Scenario {
        groups,
        burst: 1..3,
        pause: ms(1_003) / groups as u32,
        timeout_ms: 100..200,
        release: 200,
        extend: 200,
        forget: 200,
        ..BASE
    };
    play(Scenario {
        messages: scenario.producers * groups * seconds * 3 / 2,
        ..scenario
    });
}

#[test]
fn order_holds_with_short_leases() {
    short_leases(10_000);
}

#[test]
fn order_holds_with_tiny_leases() {
    tiny_leases(6_000);
}

#[test]
fn order_holds_in_few_groups() {
    few_groups(4_000);
}

#[test]
fn order_holds_in_nearly_empty_groups() {
    nearly_empty_groups(6_000);
}

#[test]
fn order_holds_with_dead_letters() {
    dead_letters(8_000);
}

#[test]
fn order_holds_with_purges() {
    purges(8_000);
}

#[test]
fn order_holds_where_groups_are_closed() {
    closing_groups(4);
}

#[test]
#[ignore = "a minute or two; run it after a change of FIFO queues"]
fn order_holds_for_long() {
    for _ in 0..5 {
        short_leases(60_000);
        tiny_leases(30_000);
        few_groups(20_000);
        nearly_empty_groups(200_000);
        dead_letters(40_000);
        purges(40_000);
        closing_groups(6);
    }
}
