//! Many threads, more than cores, on the machine's clock: nothing is lost, and no two leases of a message overlap.
//!
//! Threads only keep a log; the history checker judges all logs together afterwards.
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
    collections::HashSet,
    ops::Range,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::{LONG, Random, drain, ms, number_of, numbered, on_thread, queue, secs};
use epoq::{
    Broker, ChangeVisibilityError, DeleteError, Deletion, Message, Queue, QueueConfig, ReceiptHandle,
    ReceiveError, SendError, VisibilityChange, limits::BODY_MAX,
};
use epoq_history::{Lease, Outcome, Received, Rules, Seen};
use log::{Log, Moment, judge};

/// What is done, and by how many.
#[derive(Debug, Clone)]
struct Scenario {
    partitions: usize,
    producers: usize,
    consumers: usize,
    queues: usize,
    messages: u64,
    body: Range<usize>,
    /// One in so many bodies is large.
    large: u64,
    timeout_ms: Range<u64>,
    /// One in so many deliveries is put aside, to be dealt with later or never.
    aside: u64,
    /// One in so many deliveries is released at once.
    release: u64,
    /// Whether what was put aside may be forgotten for good.
    forgets: bool,
    memory: u64,
    /// Whether all send to partition 0, and nobody who receives is at home there.
    steals: bool,
}

const BASE: Scenario = Scenario {
    partitions: 4,
    producers: 4,
    consumers: 8,
    queues: 1,
    messages: 60_000,
    body: 8..200,
    large: 50,
    timeout_ms: 12 * 3_600_000..12 * 3_600_000 + 1,
    aside: 10,
    release: 20,
    forgets: false,
    memory: 1 << 30,
    steals: false,
};

struct Stage {
    scenario: Scenario,
    broker: Broker,
    queues: Vec<Queue>,
    began: Instant,
    deadline: Instant,
    sent: AtomicU64,
    refused: AtomicU64,
    deleted: AtomicU64,
    producing: AtomicU64,
    logs: AtomicU16,
}

struct Held {
    number: u64,
    handle: ReceiptHandle,
    lease: Lease,
}

impl Stage {
    fn new(scenario: Scenario) -> Self {
        let broker = Broker::builder()
            .min_width(usize::MAX)
            .partitions(scenario.partitions)
            .memory_limit(scenario.memory)
            .build()
            .expect("valid");
        let queues = (0..scenario.queues)
            .map(|number| queue(&broker, &format!("queue-{number}")))
            .collect();
        let began = Instant::now();
        Self {
            broker,
            queues,
            began,
            // Many times what it takes, with a sanitizer and beside other work too: it is for what hangs.
            deadline: began + secs(600) * (scenario.messages / 100_000 + 1) as u32,
            sent: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
            producing: AtomicU64::new(scenario.producers as u64),
            logs: AtomicU16::new(0),
            scenario,
        }
    }

    fn now(&self) -> Moment {
        Moment::now(&self.broker, self.began)
    }

    /// The log of one more thread.
    fn log(&self) -> Log {
        Log::new(self.logs.fetch_add(1, Ordering::Relaxed))
    }

    /// Which queue a message is for.
    fn queue_of(&self, number: u64) -> &Queue {
        &self.queues[number as usize % self.queues.len()]
    }

    fn is_over(&self) -> bool {
        // Acquire: see the last sends before seeing their senders gone.
        self.producing.load(Ordering::Acquire) == 0
            && self.deleted.load(Ordering::Relaxed) == self.sent.load(Ordering::Relaxed)
    }

    fn check_deadline(&self) {
        assert!(
            Instant::now() < self.deadline,
            "stuck: {} sent, {} refused, {} deleted, {:?}, {:?}, census {:?}",
            self.sent.load(Ordering::Relaxed),
            self.refused.load(Ordering::Relaxed),
            self.deleted.load(Ordering::Relaxed),
            self.broker.memory(),
            self.queues,
            self.queues.iter().map(Queue::census).collect::<Vec<_>>(),
        );
    }

    fn produce(&self, thread: u64, log: &mut Log) {
        let mut random = Random(thread);
        let scenario = &self.scenario;
        // Some register, some do not.
        let worker = match scenario.steals {
            true => Some(self.broker.worker_at(0).expect("a partition")),
            false => random.once_in(2).then(|| self.broker.worker().expect("a worker")),
        };
        let mut sent = HashSet::new();
        let mut number = thread;
        while number < scenario.messages {
            self.check_deadline();
            let queue = self.queue_of(number);
            let batch = 1 + random.below(10);
            // All of one batch are for one queue.
            let stride = scenario.producers as u64 * self.queues.len() as u64;
            let numbers: Vec<_> = (0..batch)
                .map(|at| number + at * stride)
                .filter(|&number| number < scenario.messages)
                .collect();
            let bodies: Vec<_> = numbers
                .iter()
                .map(|&number| {
                    let body = &scenario.body;
                    let mut length = body.start + random.below((body.end - body.start) as u64) as usize;
                    if random.once_in(scenario.large) {
                        length += 1025 + random.below(4000) as usize;
                    }
                    numbered(number, length)
                })
                .collect();
            let mut note = |before, number, id| {
                assert!(sent.insert(number));
                log.sent(before, self.now(), number, id, None);
                self.sent.fetch_add(1, Ordering::Relaxed);
            };
            let mut again = Vec::new();
            let before = self.now();
            let results: Vec<_> = match &worker {
                Some(worker) if random.once_in(2) => worker.turn(|turn| {
                    let sent = turn.send_batch(queue, &bodies).expect("valid");
                    sent.iter()
                        .map(|sent| sent.map(|sent| sent.message_id()))
                        .collect()
                }),
                _ => {
                    let sent = queue.send_batch(&bodies).expect("valid");
                    sent.iter()
                        .map(|sent| sent.map(|sent| sent.message_id()))
                        .collect()
                }
            };
            for ((&number, body), result) in numbers.iter().zip(bodies).zip(results) {
                match result {
                    Ok(id) => note(before, number, id),
                    Err(_) => again.push((number, body)),
                }
            }
            for (number, body) in again {
                loop {
                    let before = self.now();
                    match queue.send(&body) {
                        Ok(sent) => break note(before, number, sent.message_id()),
                        Err(SendError::OverBudget { .. }) => {
                            self.refused.fetch_add(1, Ordering::Relaxed);
                            self.check_deadline();
                            thread::yield_now();
                        }
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }
            // The next of this producer's numbers that no batch has had.
            while sent.contains(&number) {
                number += scenario.producers as u64;
            }
        }
        // Release: see `is_over`.
        self.producing.fetch_sub(1, Ordering::Release);
    }

    fn consume(&self, thread: u64, log: &mut Log, mut calls: u64) {
        let mut random = Random(thread ^ 0xc0_0c);
        let scenario = &self.scenario;
        let homes = scenario.partitions as u64;
        let worker = match scenario.steals {
            true => Some(self.broker.worker_at(1 + random.below(homes - 1) as usize)),
            false => random.once_in(2).then(|| self.broker.worker()),
        }
        .map(|worker| worker.expect("a worker"));
        let mut aside: Vec<Held> = Vec::new();
        while calls > 0 && !self.is_over() {
            calls -= 1;
            self.check_deadline();
            let at = random.below(self.queues.len() as u64);
            let queue = &self.queues[at as usize];
            let timeout = &scenario.timeout_ms;
            let timeout_ms = timeout.start + random.below(timeout.end - timeout.start);
            let max = 1 + random.below(10) as usize;
            let before = self.now();
            let (messages, deleted): (Vec<Message>, bool) = match &worker {
                Some(worker) if random.once_in(2) => worker.turn(|turn| {
                    let received = turn.receive(queue, max, ms(timeout_ms)).expect("valid");
                    (
                        received.iter().map(|delivery| delivery.to_message()).collect(),
                        false,
                    )
                }),
                _ => (queue.receive(max, ms(timeout_ms)).expect("valid"), false),
            };
            assert!(!deleted);
            let after = self.now();
            if messages.is_empty() {
                thread::yield_now();
            } else if scenario.forgets && random.once_in(100) {
                // Long enough for the leases in hand to end.
                thread::sleep(ms(timeout.end.min(100)));
            }
            let call = log.call();
            let mut received = Vec::new();
            for (place, message) in messages.iter().enumerate() {
                let number = number_of(message.body());
                assert_eq!(
                    number % self.queues.len() as u64,
                    at,
                    "a message of another queue"
                );
                let noted = Received {
                    token: Some(number),
                    id: log::number(message.message_id()),
                    receives: Some(message.receive_count()),
                    visibility: 0,
                    group: None,
                    sequence: None,
                    call,
                    place: place as u16,
                    lane: 0,
                };
                received.push(Held {
                    number,
                    handle: message.receipt_handle(),
                    lease: log.received(before, after, timeout_ms, noted),
                });
            }
            let mut now = Vec::new();
            for held in received {
                if random.once_in(scenario.aside) {
                    aside.push(held);
                } else if random.once_in(scenario.release) {
                    self.change(queue, &held, 0, log);
                } else {
                    now.push(held);
                }
            }
            self.delete(queue, &now, log);
            // Something put aside earlier; its lease may well be over by now.
            for _ in 0..2 {
                if aside.len() > 20 || (!aside.is_empty() && random.once_in(4)) {
                    let held = aside.swap_remove(random.below(aside.len() as u64) as usize);
                    let queue = self.queue_of(held.number);
                    match random.below(4) {
                        0 if scenario.forgets => {}
                        1 => self.change(queue, &held, 0, log),
                        2 => {
                            self.change(queue, &held, timeout_ms, log);
                            aside.push(held);
                        }
                        _ => self.delete(queue, &[held], log),
                    }
                }
            }
            if !scenario.forgets && messages.is_empty() {
                // Nobody else may have what we hold: deal with all of it.
                for held in aside.drain(..) {
                    let queue = self.queue_of(held.number);
                    self.delete(queue, &[held], log);
                }
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
            let outcome = match result.expect("a handle of this queue") {
                Deletion::Deleted => Outcome::Done,
                Deletion::Gone => Outcome::Gone,
                Deletion::ReceivedAgain => Outcome::Superseded,
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
            Ok(VisibilityChange::LeaseOver) => Outcome::Expired,
            Err(ChangeVisibilityError::ReceivedAgain) => Outcome::Superseded,
            Err(ChangeVisibilityError::Gone) => Outcome::Gone,
            // Extended from a moment after the receive, to the longest there is.
            Err(ChangeVisibilityError::TotalTooLong { .. }) if timeout_ms == LONG.as_millis() as u64 => {
                Outcome::Refused
            }
            other => panic!("{other:?}"),
        };
        log.changed(before, after, held.lease, timeout_ms, outcome);
    }

    /// The verdict on what all threads did, and on what is left. Nothing must hold the memory in the end.
    fn close(self, logs: Vec<Log>) -> Seen {
        let seen = judge(logs, &Rules::standard());
        assert_eq!(seen.deleted, self.scenario.messages);
        let mut totals = (0, 0);
        for queue in &self.queues {
            assert_eq!(queue.census(), (0, 0, 0));
            let counts = queue.counts();
            assert_eq!((counts.visible, counts.in_flight), (0, 0));
            assert_eq!(counts.sent, counts.deleted);
            totals.0 += counts.sent;
            totals.1 += counts.received;
        }
        assert_eq!(totals, (seen.accepted, seen.received));
        seen
    }
}

/// Plays a scenario to its end on threads of its own, and judges it.
fn play(scenario: Scenario) -> Seen {
    let threads = (scenario.producers + scenario.consumers) as u64;
    let producers = scenario.producers as u64;
    let stage = Arc::new(Stage::new(scenario));
    let start = Arc::new(Barrier::new(threads as usize));
    let logs = (0..threads)
        .map(|number| {
            let (stage, start) = (Arc::clone(&stage), Arc::clone(&start));
            thread::spawn(move || {
                let mut log = stage.log();
                start.wait();
                if number < producers {
                    stage.produce(number, &mut log);
                } else {
                    stage.consume(number, &mut log, u64::MAX);
                }
                log
            })
        })
        // All at work before the first is waited for.
        .collect::<Vec<_>>()
        .into_iter()
        .map(join)
        .collect();
    let stage = Arc::into_inner(stage).expect("all threads are done");
    let budget = stage.broker.budget();
    // On a thread of its own: one that lives on would keep its registration, and with it what waits for the epoch.
    let seen = on_thread(move || stage.close(logs));
    assert_eq!(budget.read().used, 0, "queues and threads are gone");
    seen
}

fn join<R>(thread: thread::JoinHandle<R>) -> R {
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// No lease ends by itself: any second receive must follow a release.
fn long_leases(messages: u64) {
    let seen = play(Scenario { messages, ..BASE });
    assert!(seen.redelivered > 100, "nothing was ever released");
}

fn short_leases(messages: u64) {
    let seen = play(Scenario {
        messages,
        timeout_ms: 20..50,
        aside: 4,
        release: 10,
        forgets: true,
        consumers: 10,
        ..BASE
    });
    assert!(seen.redelivered > 1000);
    assert!(seen.stale > 0, "no delete ever came too late");
}

/// Leases of a millisecond or two: they end while their holders look at them.
fn tiny_leases(messages: u64) {
    let seen = play(Scenario {
        messages,
        timeout_ms: 1..4,
        aside: 3,
        release: 5,
        forgets: true,
        consumers: 10,
        ..BASE
    });
    assert!(seen.redelivered > 1000);
}

fn steal_heavy(messages: u64) {
    play(Scenario {
        messages,
        partitions: 8,
        producers: 2,
        consumers: 10,
        steals: true,
        ..BASE
    });
}

fn several_queues(messages: u64) {
    play(Scenario {
        messages,
        queues: 5,
        timeout_ms: 20..50,
        forgets: true,
        ..BASE
    });
}

/// One partition, where everybody meets everybody.
fn one_partition(messages: u64) {
    play(Scenario {
        messages,
        partitions: 1,
        producers: 6,
        consumers: 10,
        body: 8..9,
        large: 1_000_000,
        timeout_ms: 5..30,
        forgets: true,
        ..BASE
    });
}

/// Messages come back into segments that the head is about to leave.
fn returns_at_the_head(messages: u64) {
    play(Scenario {
        messages,
        partitions: 1,
        producers: 2,
        consumers: 6,
        body: 8..9,
        large: 1_000_000,
        aside: 1_000_000,
        release: 2,
        ..BASE
    });
}

fn large_bodies(messages: u64) {
    play(Scenario {
        messages,
        large: 2,
        timeout_ms: 20..50,
        forgets: true,
        ..BASE
    });
}

#[test]
fn long_leases_never_overlap() {
    long_leases(60_000);
}

#[test]
fn short_leases_never_overlap() {
    short_leases(20_000);
}

#[test]
fn leases_of_a_millisecond_never_overlap() {
    tiny_leases(20_000);
}

#[test]
fn all_sent_by_one_and_received_by_others() {
    steal_heavy(60_000);
}

#[test]
fn several_queues_of_one_broker() {
    several_queues(40_000);
}

#[test]
fn everybody_on_one_partition() {
    one_partition(40_000);
}

#[test]
fn messages_come_back_while_the_head_moves_on() {
    returns_at_the_head(100_000);
}

#[test]
fn large_bodies_among_small_ones() {
    large_bodies(20_000);
}

#[test]
#[ignore = "minutes; run it after a change of the ledger"]
fn all_of_it_for_long() {
    for _ in 0..5 {
        long_leases(2_000_000);
        short_leases(500_000);
        tiny_leases(300_000);
        steal_heavy(2_000_000);
        several_queues(500_000);
        one_partition(1_000_000);
        large_bodies(500_000);
        returns_at_the_head(2_000_000);
    }
}

/// Threads that live for a few receives and end with deliveries in hand.
#[test]
fn threads_that_come_and_go() {
    let scenario = Scenario {
        messages: 10_000,
        timeout_ms: 10..40,
        aside: 3,
        forgets: true,
        producers: 2,
        ..BASE
    };
    let stage = Arc::new(Stage::new(scenario));
    let producers: Vec<_> = (0..2)
        .map(|number| {
            let stage = Arc::clone(&stage);
            thread::spawn(move || {
                let mut log = stage.log();
                stage.produce(number, &mut log);
                log
            })
        })
        .collect();
    let mut logs = Vec::new();
    let mut generation = 0;
    while !stage.is_over() {
        generation += 1;
        let consumers: Vec<_> = (0..8)
            .map(|number| {
                let stage = Arc::clone(&stage);
                thread::spawn(move || {
                    let mut log = stage.log();
                    stage.consume(generation * 8 + number, &mut log, 20);
                    log
                })
            })
            .collect();
        logs.extend(consumers.into_iter().map(join));
    }
    logs.extend(producers.into_iter().map(join));
    assert!(generation > 5, "{generation} generations only");
    let seen = Arc::into_inner(stage).expect("all threads are done").close(logs);
    assert!(seen.redelivered > 100);
}

#[test]
fn producers_against_a_tight_budget() {
    against_the_budget(Scenario {
        messages: 200_000,
        partitions: 2,
        body: 8..100,
        large: 20,
        ..BASE
    });
}

/// Spare segments of one queue and partition are what another one needs.
#[test]
fn producers_of_several_queues_against_a_tight_budget() {
    against_the_budget(Scenario {
        messages: 60_000,
        partitions: 3,
        queues: 3,
        body: 8..1000,
        ..BASE
    });
}

/// Producers at full speed against a budget that is too small for all they have.
fn against_the_budget(scenario: Scenario) {
    const LIMIT: u64 = 6 << 20;
    let scenario = Scenario {
        producers: 6,
        consumers: 4,
        memory: LIMIT,
        ..scenario
    };
    let producers = scenario.producers as u64;
    let stage = Arc::new(Stage::new(scenario));
    let filled = Arc::new(AtomicBool::new(false));
    let watcher = {
        let (stage, filled) = (Arc::clone(&stage), Arc::clone(&filled));
        thread::spawn(move || {
            let mut most = 0;
            while !stage.is_over() {
                let memory = stage.broker.memory();
                // Each producer may have one request under way that is about to be refused; nodes of messages that
                // came back are not refused at all.
                let slack = producers * 10 * 5200 + 512 * 1024;
                assert!(memory.used <= LIMIT + slack, "{memory:?}");
                most = most.max(memory.used);
                if memory.used > LIMIT / 10 * 9 && stage.refused.load(Ordering::Relaxed) > 0 {
                    filled.store(true, Ordering::Relaxed);
                }
                stage.check_deadline();
                thread::yield_now();
            }
            most
        })
    };
    let mut threads = Vec::new();
    for number in 0..producers {
        let stage = Arc::clone(&stage);
        threads.push(thread::spawn(move || {
            let mut log = stage.log();
            stage.produce(number, &mut log);
            log
        }));
    }
    // Nobody consumes before the budget binds.
    common::wait_until(
        secs(60),
        || format!("{:?}", stage.broker.memory()),
        || filled.load(Ordering::Relaxed),
    );
    for number in 0..4 {
        let stage = Arc::clone(&stage);
        threads.push(thread::spawn(move || {
            let mut log = stage.log();
            stage.consume(100 + number, &mut log, u64::MAX);
            log
        }));
    }
    let logs = threads.into_iter().map(join).collect();
    let most = join(watcher);
    assert!(most > LIMIT / 10 * 9);
    let stage = Arc::into_inner(stage).expect("all threads are done");
    assert!(stage.refused.load(Ordering::Relaxed) > 0);
    stage.close(logs);
}

/// A queue is deleted and made anew while all use it. Nothing of the old one shows in the new one.
#[test]
fn a_queue_deleted_and_made_anew_in_use() {
    const THREADS: u64 = 12;
    let broker = Broker::builder()
        .min_width(usize::MAX)
        .partitions(3)
        .build()
        .expect("valid");
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|seed| {
            let (broker, stop, seen) = (broker.clone(), Arc::clone(&stop), Arc::clone(&seen));
            thread::spawn(move || {
                let mut random = Random(seed);
                'queues: while !stop.load(Ordering::Relaxed) {
                    let Some(queue) = broker.queue("doomed") else {
                        thread::yield_now();
                        continue;
                    };
                    let mut mine = None;
                    loop {
                        let length = 16 + random.below(3000) as usize;
                        match queue.send(&numbered(generation_of(&queue), length)) {
                            Ok(_) => {}
                            Err(error) => {
                                assert_eq!(error, SendError::QueueDeleted);
                                continue 'queues;
                            }
                        }
                        let timeout = ms(random.below(5));
                        match queue.receive(1 + random.below(10) as usize, timeout) {
                            Ok(messages) => {
                                for message in messages {
                                    assert_eq!(number_of(message.body()), generation_of(&queue));
                                    seen.fetch_add(1, Ordering::Relaxed);
                                    mine = Some(message.receipt_handle());
                                    let deleted = queue.delete(&message.receipt_handle());
                                    if random.once_in(3) && deleted == Err(DeleteError::QueueDeleted) {
                                        continue 'queues;
                                    }
                                }
                            }
                            Err(error) => {
                                assert_eq!(error, ReceiveError::QueueDeleted);
                                continue 'queues;
                            }
                        }
                        if let Some(handle) = mine
                            && let Err(error) = queue.change_visibility(&handle, Duration::ZERO)
                        {
                            assert!(
                                matches!(
                                    error,
                                    ChangeVisibilityError::QueueDeleted
                                        | ChangeVisibilityError::Gone
                                        | ChangeVisibilityError::ReceivedAgain
                                ),
                                "{error:?}"
                            );
                        }
                    }
                }
            })
        })
        .collect();
    // On a busy machine it takes longer until they have met.
    let is_over = |generation| generation >= 200 && seen.load(Ordering::Relaxed) > 1000;
    for generation in (0..20_000).take_while(|&generation| !is_over(generation)) {
        let config = QueueConfig {
            max_message_bytes: BODY_MAX - generation,
            ..QueueConfig::default()
        };
        broker.create_queue("doomed", config).expect("valid");
        thread::sleep(ms(5));
        broker.delete_queue("doomed").expect("it is there");
    }
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(join);
    let seen = seen.load(Ordering::Relaxed);
    assert!(seen > 1000, "{seen} messages only");
    let budget = broker.budget();
    drop(broker);
    assert_eq!(budget.read().used, 0);
}

/// Which of the queues of that name it is: each is made with a limit of its own.
fn generation_of(queue: &Queue) -> u64 {
    (BODY_MAX - queue.config().max_message_bytes) as u64
}

/// Long turns on some threads while others retire memory under them: bodies stay whole.
#[test]
fn bodies_stay_whole_under_long_turns() {
    let broker = Broker::builder()
        .min_width(usize::MAX)
        .partitions(2)
        .build()
        .expect("valid");
    let queue = queue(&broker, "long-turns");
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..12u64)
        .map(|seed| {
            let (broker, queue, stop) = (broker.clone(), queue.clone(), Arc::clone(&stop));
            thread::spawn(move || {
                let mut random = Random(seed);
                let worker = broker.worker().expect("a worker");
                let (mut sent, mut deleted) = (0u64, 0u64);
                while !stop.load(Ordering::Relaxed) {
                    worker.turn(|turn| {
                        let mut held = Vec::new();
                        for _ in 0..random.below(40) {
                            let length = match random.below(4) {
                                0 => 1025 + random.below(3000),
                                _ => 8 + random.below(500),
                            };
                            let body = numbered(random.next(), length as usize);
                            sent += u64::from(turn.send(&queue, &body).is_ok());
                            let received = turn
                                .receive(&queue, 1 + random.below(3) as usize, LONG)
                                .expect("valid");
                            for delivery in received.iter() {
                                // Deleted at once, by its thread or through another one's pin; read later.
                                let gone = turn.delete(&queue, &delivery.receipt_handle());
                                assert_eq!(gone, Ok(Deletion::Deleted));
                                deleted += 1;
                            }
                            held.push(received);
                        }
                        if random.once_in(20) {
                            thread::sleep(ms(1));
                        }
                        for received in &held {
                            for delivery in received.iter() {
                                number_of(delivery.body());
                            }
                        }
                    });
                }
                (sent, deleted)
            })
        })
        .collect();
    thread::sleep(ms(1500));
    stop.store(true, Ordering::Relaxed);
    let (mut sent, mut deleted) = (0, 0);
    for thread in threads {
        let (more_sent, more_deleted) = join(thread);
        sent += more_sent;
        deleted += more_deleted;
    }
    deleted += drain(&queue).len() as u64;
    assert_eq!(sent, deleted);
    assert!(sent > 1_000, "{sent} only");
}
