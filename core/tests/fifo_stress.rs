//! FIFO queues on the machine's clock, with more threads than cores and leases that end under their holders' hands: no message
//! is lost, none comes while one before it in its group is in flight, and each comes for the first time in its turn.
//!
//! Threads only keep a log, as in `stress.rs`; the history checker judges all logs together afterwards.
#![cfg(not(loom))]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests drive the ledger from outside"
)]

mod common;
#[path = "common/log.rs"]
mod log;

use std::{
    ops::Range,
    sync::{
        Arc, Barrier,
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
use epoq_history::{Lease, Outcome, Received, Rules, Seen};
use log::{Log, Moment, judge};

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
    sent: AtomicU64,
    deleted: AtomicU64,
    producing: AtomicU64,
}

/// A delivery in hand.
struct Held {
    handle: ReceiptHandle,
    lease: Lease,
    /// Of its queue.
    lane: u8,
}

/// A message's number of all, from its sender, the sender's group and its number there.
fn token_of(thread: u64, group: u64, number: u64) -> u64 {
    thread << 48 | group << 32 | number
}

/// What the body says: the token, and a number for the group.
fn read(message: &Message) -> (u64, u32) {
    let text = str::from_utf8(message.body()).expect("a text");
    let (name, number) = text.split_once(' ').expect("a number");
    assert_eq!(message.message_group(), Some(name));
    let (thread, group) = name.split_once('-').expect("a group");
    let parse = |text: &str| text.parse::<u64>().expect("a number");
    let token = token_of(parse(thread), parse(group), parse(number));
    (token, (token >> 32) as u32)
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
            // Many times what it takes, with a sanitizer and beside other work too: it is for what hangs.
            deadline: began + secs(600) * (scenario.messages / 100_000 + 1) as u32,
            sent: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
            producing: AtomicU64::new(scenario.producers),
            scenario,
        }
    }

    fn now(&self) -> Moment {
        Moment::now(&self.broker, self.began)
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

    fn produce(&self, thread: u64, log: &mut Log) {
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
                let first = *number + 1;
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
                let mut note = |before, number, id| {
                    let token = token_of(thread, group, number);
                    log.sent(before, self.now(), token, id, Some((token >> 32) as u32));
                };
                match &worker {
                    Some(worker) if random.once_in(2) => {
                        let before = self.now();
                        let ids: Vec<_> = worker.turn(|turn| {
                            let sent = turn.send_messages(queue, &outgoing).expect("valid");
                            sent.iter()
                                .map(|sent| sent.as_ref().expect("room").message_id())
                                .collect()
                        });
                        assert_eq!(ids.len(), outgoing.len());
                        for (number, id) in (first..).zip(ids) {
                            note(before, number, id);
                        }
                    }
                    _ => {
                        for (number, message) in (first..).zip(&outgoing) {
                            let before = self.now();
                            let id = queue.send_message(message).expect("room").message_id();
                            note(before, number, id);
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

    fn purge(&self, log: &mut Log) {
        while !self.is_over() {
            self.check_deadline();
            thread::sleep(ms(150));
            let before = self.now();
            let purged = self.queues[0].purge().expect("there");
            let after = self.now();
            self.deleted.fetch_add(purged, Ordering::Relaxed);
            log.purged(before, after);
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

    fn consume(&self, thread: u64, log: &mut Log) {
        let scenario = &self.scenario;
        let mut random = Random(thread ^ 0xf1_f0);
        let worker = random.once_in(2).then(|| self.broker.worker().expect("a worker"));
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
            check_runs(&messages);
            let call = log.call();
            let mut received = Vec::new();
            for (place, message) in messages.iter().enumerate() {
                let (token, group) = read(message);
                let noted = Received {
                    token: Some(token),
                    id: log::number(message.message_id()),
                    receives: Some(message.receive_count()),
                    visibility: 0,
                    group: Some(group),
                    sequence: Some(message.sequence_number().expect("a FIFO queue").to_u128()),
                    call,
                    place: place as u16,
                    lane: at as u8,
                };
                received.push(Held {
                    handle: message.receipt_handle(),
                    lease: log.received(before, after, timeout_ms, noted),
                    lane: at as u8,
                });
            }
            if timeout_ms == 0 {
                continue;
            }
            if random.once_in(100) {
                // Long enough for what is in hand to end.
                thread::sleep(ms(timeout.end));
            }
            let mut now = Vec::new();
            for held in received {
                if random.once_in(scenario.release) {
                    self.change(queue, &held, 0, log);
                } else if random.once_in(scenario.extend) {
                    self.change(queue, &held, timeout_ms, log);
                    aside.push(held);
                } else if !random.once_in(scenario.forget) {
                    now.push(held);
                }
            }
            if random.once_in(2) {
                now.reverse();
            }
            if random.once_in(2) {
                self.delete(queue, &now, log);
            } else {
                now.iter()
                    .for_each(|held| self.delete(queue, std::slice::from_ref(held), log));
            }
            if !aside.is_empty() && random.once_in(2) {
                let held = aside.swap_remove(random.below(aside.len() as u64) as usize);
                let queue = &self.queues[usize::from(held.lane)];
                self.delete(queue, &[held], log);
            }
        }
    }

    fn delete(&self, queue: &Queue, held: &[Held], log: &mut Log) {
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
            let outcome = match result {
                Ok(Deletion::Deleted) => Outcome::Done,
                Ok(Deletion::Gone) => Outcome::Gone,
                Err(DeleteError::Expired) => Outcome::Expired,
                other => panic!("{other:?}"),
            };
            log.deleted(before, after, held.lease, outcome);
            if outcome == Outcome::Done {
                self.deleted.fetch_add(1, Ordering::Relaxed);
                // Twice is once.
                assert_eq!(queue.delete(&held.handle), Ok(Deletion::Gone));
            }
        }
    }

    fn change(&self, queue: &Queue, held: &Held, timeout_ms: u64, log: &mut Log) {
        let before = self.now();
        let result = queue.change_visibility(&held.handle, ms(timeout_ms));
        let after = self.now();
        let outcome = match result {
            Ok(VisibilityChange::Changed) => Outcome::Done,
            Err(ChangeVisibilityError::Expired) => Outcome::Expired,
            Err(ChangeVisibilityError::Gone) => Outcome::Gone,
            other => panic!("{other:?}"),
        };
        log.changed(before, after, held.lease, timeout_ms, outcome);
    }

    /// The verdict on what all threads did. Nothing must be left: neither messages nor groups.
    fn close(self, logs: Vec<Log>) -> Seen {
        // Of duplicates other tests tell: here ids are those of the content, and no content comes twice but on purpose.
        let seen = judge(logs, &Rules::fifo(u64::MAX));
        let counts = self.queues.each_ref().map(Queue::counts);
        for queue in &self.queues {
            assert_eq!(queue.census(), (0, 0, 0));
            assert_balanced(queue);
        }
        let [source, dead] = counts;
        assert_eq!(source.moved_out, dead.moved_in);
        assert_eq!(source.received + dead.received, seen.received);
        assert_eq!(source.deleted + dead.deleted, seen.deleted);
        if !self.scenario.purges {
            let Scenario {
                messages, producers, ..
            } = self.scenario;
            // Each producer has as many.
            let sent = messages / producers * producers;
            assert_eq!((source.sent, seen.deleted), (sent, sent));
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
        seen
    }
}

/// What one receive gave: each group's messages one after the other, in order.
fn check_runs(messages: &[Message]) {
    let mut ended = Vec::new();
    for pair in messages.windows(2) {
        if pair[0].message_group() == pair[1].message_group() {
            assert!(
                pair[0].sequence_number() < pair[1].sequence_number(),
                "{messages:#?}"
            );
        } else {
            ended.push(pair[0].message_group());
            assert!(!ended.contains(&pair[1].message_group()), "{messages:#?}");
        }
    }
}

/// Plays a scenario to its end on threads of its own, and judges it.
fn play(scenario: Scenario) -> Seen {
    let (producers, consumers) = (scenario.producers, scenario.consumers);
    let threads = producers + consumers + 1 + u64::from(scenario.purges);
    let stage = Arc::new(Stage::new(scenario));
    let start = Arc::new(Barrier::new(threads as usize));
    let logs = (0..threads)
        .map(|number| {
            let (stage, start) = (Arc::clone(&stage), Arc::clone(&start));
            thread::spawn(move || {
                let mut log = Log::new(number as u16);
                start.wait();
                if number < producers {
                    stage.produce(number, &mut log);
                } else if number < producers + consumers {
                    stage.consume(number, &mut log);
                } else if number == producers + consumers {
                    stage.tend();
                } else {
                    stage.purge(&mut log);
                }
                log
            })
        })
        // All at work before the first is waited for.
        .collect::<Vec<_>>()
        .into_iter()
        .map(|thread| match thread.join() {
            Ok(log) => log,
            Err(panic) => std::panic::resume_unwind(panic),
        })
        .collect();
    let stage = Arc::into_inner(stage).expect("all threads are done");
    let budget = stage.broker.budget();
    // On a thread of its own: one that lives on would keep its registration, and with it what waits for the epoch.
    let seen = on_thread(move || stage.close(logs));
    assert_eq!(budget.read().used, 0, "queues and threads are gone");
    seen
}

fn short_leases(messages: u64) {
    let seen = play(Scenario { messages, ..BASE });
    assert!(seen.redelivered > 500);
}

/// Leases of a millisecond or two: they end while their holders look at them.
fn tiny_leases(messages: u64) {
    let seen = play(Scenario {
        messages,
        timeout_ms: 1..4,
        forget: 10,
        ..BASE
    });
    assert!(seen.redelivered > 500);
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
    let seen = play(Scenario {
        messages,
        max_receives: Some(2),
        timeout_ms: 2..15,
        release: 4,
        forget: 8,
        ..BASE
    });
    assert!(seen.dead > 100);
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
