//! The ledger against a naive sequential model, on a clock that moves only when told to.
//!
//! The model is a list of messages with a state each, and finds everything by looking at all of them. Whatever an
//! operation answers must be what the model says; where the ledger may choose (which visible messages a receive gets),
//! its choice must be one that the model allows.
#![cfg(not(loom))]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests drive the ledger from outside"
)]

mod common;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use common::{days, hours, manual_with, ms, number_of, numbered, secs};
use epoq::{
    Broker, ChangeVisibilityError, DeleteError, Deletion, ManualClock, Message, MessageId, Millis, Queue,
    QueueConfig, ReceiptHandle, Turn, VisibilityChange, Worker, limits,
    limits::{BATCH_MAX, VISIBILITY_MAX},
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestError, TestRunner},
};

/// What can be done.
#[derive(Debug, Clone)]
enum Op {
    Send { length: usize },
    SendBatch { lengths: Vec<usize> },
    Receive { max: usize, timeout: Duration },
    Delete(Pick),
    DeleteBatch(Vec<Pick>),
    Change(Pick, Duration),
    ChangeBatch(Vec<(Pick, Duration)>),
}

/// Which handle: of all ever given, or of the last few.
#[derive(Debug, Clone, Copy)]
enum Pick {
    Recent(usize),
    Any(usize),
    /// Of a message that waits for its next receive or has it, but the one before the newest.
    Stale(usize),
}

#[derive(Debug, Clone)]
enum Step {
    /// Some operations in one turn of a worker, or called on the queue one by one by the worker registered last.
    Work {
        worker: Option<usize>,
        ops: Vec<Op>,
    },
    Pass(Duration),
    /// Sweeps as if it were so much later: nothing may end early.
    Advance(Duration),
    /// A worker leaves and another one comes.
    Replace {
        worker: usize,
        home: usize,
    },
}

#[derive(Debug, Clone)]
struct Script {
    partitions: usize,
    homes: Vec<usize>,
    steps: Vec<Step>,
    /// Whether the queue is emptied in the end, or dropped with what it holds.
    drains: bool,
}

// Strategies.

fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![
        6 => 8..40usize,
        4 => 40..1000usize,
        1 => Just(1024usize),
        1 => Just(1025usize),
        1 => 1025..6000usize,
    ]
}

fn timeouts() -> impl Strategy<Value = Duration> {
    prop_oneof![
        4 => Just(Duration::ZERO),
        8 => (1..100u64).prop_map(ms),
        6 => (1..120u64).prop_map(secs),
        2 => (1..12u64).prop_map(hours),
        1 => Just(VISIBILITY_MAX - ms(1)),
        2 => Just(VISIBILITY_MAX),
        1 => Just(Duration::from_nanos(1)),
        1 => (1..1_000_000_000u64).prop_map(Duration::from_nanos),
    ]
}

fn changes() -> impl Strategy<Value = Duration> {
    prop_oneof![9 => timeouts(), 1 => Just(VISIBILITY_MAX + ms(1))]
}

fn picks() -> impl Strategy<Value = Pick> {
    prop_oneof![
        6 => (0..12usize).prop_map(Pick::Recent),
        3 => any::<usize>().prop_map(Pick::Any),
        2 => any::<usize>().prop_map(Pick::Stale),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => lengths().prop_map(|length| Op::Send { length }),
        4 => vec(lengths(), 1..=BATCH_MAX).prop_map(|lengths| Op::SendBatch { lengths }),
        6 => (1..=BATCH_MAX, timeouts()).prop_map(|(max, timeout)| Op::Receive { max, timeout }),
        5 => picks().prop_map(Op::Delete),
        2 => vec(picks(), 1..=BATCH_MAX).prop_map(Op::DeleteBatch),
        4 => (picks(), changes()).prop_map(|(pick, timeout)| Op::Change(pick, timeout)),
        1 => vec((picks(), changes()), 1..=BATCH_MAX).prop_map(Op::ChangeBatch),
    ]
}

fn steps(workers: usize, partitions: usize) -> impl Strategy<Value = Step> {
    let pass = prop_oneof![
        2 => Just(Duration::ZERO),
        6 => (1..100u64).prop_map(ms),
        5 => (1..120u64).prop_map(secs),
        2 => (1..13u64).prop_map(hours),
        1 => (1..3u64).prop_map(days),
        1 => (1..3u64).prop_map(days),
    ];
    prop_oneof![
        12 => (proptest::option::weighted(0.8, 0..workers), vec(ops(), 1..6))
            .prop_map(|(worker, ops)| Step::Work { worker, ops }),
        4 => pass.prop_map(Step::Pass),
        1 => timeouts().prop_map(Step::Advance),
        1 => (0..workers, 0..partitions).prop_map(|(worker, home)| Step::Replace { worker, home }),
    ]
}

fn scripts() -> impl Strategy<Value = Script> {
    (1..5usize, 1..4usize).prop_flat_map(|(partitions, workers)| {
        (
            vec(0..partitions, workers),
            prop_oneof![
                3 => vec(steps(workers, partitions), 1..80),
                1 => vec(steps(workers, partitions), 80..400),
            ],
            any::<bool>(),
        )
            .prop_map(move |(homes, steps, drains)| Script {
                partitions,
                homes,
                steps,
                drains,
            })
    })
}

// The model.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Visible,
    InFlight { due: u64 },
    Deleted,
}

#[derive(Debug)]
struct Known {
    id: MessageId,
    length: usize,
    sent: u64,
    first_received: u64,
    last_received: u64,
    receives: u32,
    state: State,
}

impl Known {
    fn is_visible(&self, now: u64) -> bool {
        match self.state {
            State::Visible => true,
            State::InFlight { due } => due <= now,
            State::Deleted => false,
        }
    }
}

#[derive(Debug, Default)]
struct Model {
    now: u64,
    messages: Vec<Known>,
    by_id: HashMap<MessageId, usize>,
    /// Every handle given, with its message and the number of its receive.
    handles: Vec<(ReceiptHandle, usize, u32)>,
    /// When each of them was given.
    received_at: Vec<u64>,
    received: u64,
    released: u64,
}

/// A timeout as the ledger counts it.
fn whole_ms(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_nanos().div_ceil(1_000_000)).expect("small")
}

impl Model {
    fn visible(&self) -> usize {
        self.messages
            .iter()
            .filter(|known| known.is_visible(self.now))
            .count()
    }

    /// In flight, and not over at this moment.
    fn leased(&self) -> usize {
        let is_leased = |known: &&Known| matches!(known.state, State::InFlight { due } if due > self.now);
        self.messages.iter().filter(is_leased).count()
    }

    fn deleted(&self) -> usize {
        let is_deleted = |known: &&Known| known.state == State::Deleted;
        self.messages.iter().filter(is_deleted).count()
    }

    fn next_due(&self) -> Option<u64> {
        let due = |known: &Known| match known.state {
            State::InFlight { due } => Some(due),
            _ => None,
        };
        self.messages.iter().filter_map(due).min()
    }

    fn pick(&self, pick: Pick) -> Option<(ReceiptHandle, usize, u32)> {
        if self.handles.is_empty() {
            return None;
        }
        let count = self.handles.len();
        let at = match pick {
            Pick::Recent(back) => count - 1 - back.min(count - 1),
            Pick::Any(at) => at % count,
            Pick::Stale(from) => (0..count).map(|step| (from % count + step) % count).find(|&at| {
                let (_, message, receives) = self.handles[at];
                let known = &self.messages[message];
                known.state != State::Deleted && known.receives > receives
            })?,
        };
        let handle = self.handles[at];
        let known = &self.messages[handle.1];
        // Older ones are void: they may find their message, or not if it has moved. SQS refuses them.
        let is_void =
            known.state != State::Deleted && self.received_at[at] + whole_ms(VISIBILITY_MAX) <= self.now;
        (!is_void).then_some(handle)
    }

    fn sent(&mut self, id: MessageId, length: usize) {
        assert!(
            self.by_id.insert(id, self.messages.len()).is_none(),
            "an id given twice"
        );
        self.messages.push(Known {
            id,
            length,
            sent: self.now,
            first_received: 0,
            last_received: 0,
            receives: 0,
            state: State::Visible,
        });
        tally(Seen::Sent);
        if self.messages.len() == 600 {
            tally(Seen::SeveralSegments);
        }
        if length > 1024 {
            tally(Seen::SentLarge);
        }
    }

    fn received(&mut self, max: usize, timeout: Duration, messages: &[Message]) {
        assert!(messages.len() <= max);
        assert_eq!(
            messages.is_empty(),
            self.visible() == 0,
            "{} messages came, {} were visible",
            messages.len(),
            self.visible()
        );
        let now = self.now;
        for message in messages {
            let at = number_of(message.body()) as usize;
            let known = &mut self.messages[at];
            // A message that comes twice in one receive fails here or by its receive count.
            assert!(known.is_visible(now), "{known:?} was received at {now}");
            if matches!(known.state, State::InFlight { .. }) {
                tally(Seen::ReceivedAfterExpiry);
            }
            known.receives += 1;
            if known.receives == 1 {
                known.first_received = now;
            }
            known.last_received = now;
            known.state = match whole_ms(timeout) {
                0 => State::Visible,
                timeout => State::InFlight {
                    due: now + timeout + 1,
                },
            };
            assert_eq!(message.receive_count(), known.receives);
            assert_eq!(message.message_id(), known.id);
            assert_eq!(message.body().len(), known.length);
            assert_eq!(message.sent_at(), Millis::new(known.sent));
            assert_eq!(message.first_received_at(), Millis::new(known.first_received));
            let receives = known.receives;
            self.handles.push((message.receipt_handle(), at, receives));
            self.received_at.push(now);
            tally(match (receives, timeout.is_zero()) {
                (1, false) => Seen::Received,
                (1, true) => Seen::Glimpsed,
                (_, false) => Seen::ReceivedAgain,
                (_, true) => Seen::GlimpsedAgain,
            });
        }
        if messages.is_empty() {
            tally(Seen::ReceivedNothing);
        } else if messages.len() == max {
            tally(Seen::ReceivedAll);
        }
        // Twice in one receive with a timeout of zero would pass the count.
        let mut ids: Vec<_> = messages.iter().map(Message::message_id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), messages.len(), "a message twice in one receive");
        self.received += messages.len() as u64;
    }

    fn deleted_by(&mut self, (_, message, receives): (ReceiptHandle, usize, u32)) -> Deletion {
        let known = &mut self.messages[message];
        if known.state == State::Deleted {
            tally(Seen::DeleteGone);
            return Deletion::Gone;
        }
        if known.receives != receives {
            tally(Seen::DeleteStale);
            return Deletion::ReceivedAgain;
        }
        tally(match known.state {
            State::InFlight { due } if due <= self.now => Seen::DeleteExpired,
            State::InFlight { .. } => Seen::DeleteLeased,
            _ => Seen::DeleteVisible,
        });
        known.state = State::Deleted;
        Deletion::Deleted
    }

    fn changed_by(
        &mut self,
        (_, message, receives): (ReceiptHandle, usize, u32),
        timeout: Duration,
    ) -> Result<VisibilityChange, ChangeVisibilityError> {
        let limit = VISIBILITY_MAX;
        if timeout > limit {
            tally(Seen::ChangeRefused);
            return Err(ChangeVisibilityError::VisibilityTimeout {
                given: timeout,
                limit,
            });
        }
        let now = self.now;
        let known = &mut self.messages[message];
        if known.state == State::Deleted {
            tally(Seen::ChangeGone);
            return Err(ChangeVisibilityError::Gone);
        }
        if known.receives != receives {
            tally(Seen::ChangeStale);
            return Err(ChangeVisibilityError::ReceivedAgain);
        }
        if known.is_visible(now) {
            tally(Seen::ChangeLeaseOver);
            return Ok(VisibilityChange::LeaseOver);
        }
        let timeout = whole_ms(timeout);
        if timeout == 0 {
            tally(Seen::Released);
            self.released += 1;
            known.state = State::Visible;
        } else if now + timeout > known.last_received + whole_ms(limit) {
            tally(Seen::ChangeTotalTooLong);
            return Err(ChangeVisibilityError::TotalTooLong { limit });
        } else {
            tally(Seen::Extended);
            known.state = State::InFlight {
                due: now + timeout + 1,
            };
        }
        Ok(VisibilityChange::Changed)
    }
}

// The ledger beside it.

/// Two ways to say the same.
enum Via<'a> {
    Turn(&'a Turn<'a>),
    Queue,
}

/// A little less than the retention period.
const RETENTION_MS: u64 = QUEUE_RETENTION.as_millis() as u64 - 2 * days(1).as_millis() as u64;
const QUEUE_RETENTION: Duration = limits::RETENTION_MAX;

struct Pair {
    time: ManualClock,
    broker: Broker,
    queue: Queue,
    workers: Vec<Worker>,
    model: Model,
}

impl Pair {
    fn new(script: &Script) -> Self {
        let (time, broker) = manual_with(
            Broker::builder()
                .min_width(usize::MAX)
                .partitions(script.partitions),
        );
        let config = QueueConfig {
            retention: QUEUE_RETENTION,
            ..QueueConfig::default()
        };
        let queue = broker.create_queue("model", config).expect("a valid queue");
        let workers = script
            .homes
            .iter()
            .map(|&home| broker.worker_at(home).expect("a partition"))
            .collect();
        Self {
            time,
            broker,
            queue,
            workers,
            model: Model::default(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Work { worker: None, ops } => {
                for op in ops {
                    Self::work(&mut self.model, &self.queue, &Via::Queue, op);
                    self.check();
                }
            }
            Step::Work {
                worker: Some(worker),
                ops,
            } => {
                let Self {
                    workers,
                    model,
                    queue,
                    ..
                } = self;
                workers[*worker].turn(|turn| {
                    for op in ops {
                        Self::work(model, queue, &Via::Turn(turn), op);
                    }
                });
            }
            // Within the retention period: what happens after it has tests of its own.
            Step::Pass(by) if self.model.now + by.as_millis() as u64 > RETENTION_MS => {}
            Step::Pass(by) => {
                self.time.advance(*by);
                self.model.now += by.as_millis() as u64;
                tally(Seen::Passed);
            }
            Step::Advance(ahead) => {
                let now = self.model.now;
                let next = self.queue.advance(Millis::new(now + whole_ms(*ahead)));
                assert_eq!(next, self.queue.next_due());
                // What was due is visible now, so no hint lies in the past.
                assert!(
                    next.is_none_or(|next| next > Millis::new(now)),
                    "{next:?} at {now}"
                );
                let counts = self.queue.counts();
                assert_eq!(counts.visible, self.model.visible() as u64);
                assert_eq!(counts.in_flight, self.model.leased() as u64);
                tally(Seen::Advanced);
            }
            Step::Replace { worker, home } => {
                self.workers.remove(*worker);
                let new = self.broker.worker_at(*home).expect("a partition");
                self.workers.insert(*worker, new);
                tally(Seen::Replaced);
            }
        }
        self.check();
    }

    fn work(model: &mut Model, queue: &Queue, via: &Via<'_>, op: &Op) {
        match op {
            Op::Send { length } => {
                let body = numbered(model.messages.len() as u64, *length);
                let sent = match via {
                    Via::Turn(turn) => turn.send(queue, &body),
                    Via::Queue => queue.send(&body),
                };
                model.sent(sent.expect("room").message_id(), *length);
            }
            Op::SendBatch { lengths } => {
                let first = model.messages.len();
                let bodies: Vec<_> = lengths
                    .iter()
                    .enumerate()
                    .map(|(at, &length)| numbered((first + at) as u64, length))
                    .collect();
                let sent = match via {
                    Via::Turn(turn) => turn.send_batch(queue, &bodies),
                    Via::Queue => queue.send_batch(&bodies),
                }
                .expect("a valid batch");
                assert_eq!(sent.len(), lengths.len());
                for (sent, &length) in sent.iter().zip(lengths) {
                    model.sent(sent.expect("room").message_id(), length);
                }
            }
            Op::Receive { max, timeout } => {
                let messages = match via {
                    Via::Turn(turn) => {
                        let received = turn.receive(queue, *max, *timeout).expect("valid");
                        received.iter().map(|delivery| delivery.to_message()).collect()
                    }
                    Via::Queue => queue.receive(*max, *timeout).expect("valid"),
                };
                model.received(*max, *timeout, &messages);
            }
            Op::Delete(pick) => {
                let Some(handle) = model.pick(*pick) else { return };
                let deleted = match via {
                    Via::Turn(turn) => turn.delete(queue, &handle.0),
                    // The long way round, as a handle from outside comes.
                    Via::Queue => {
                        let text = queue.encode_handle(&handle.0);
                        queue.delete(&queue.decode_handle(&text).expect("ours"))
                    }
                };
                assert_eq!(deleted, Ok(model.deleted_by(handle)));
            }
            Op::DeleteBatch(picks) => {
                let handles: Vec<_> = picks.iter().filter_map(|&pick| model.pick(pick)).collect();
                if handles.is_empty() {
                    return;
                }
                let bare: Vec<_> = handles.iter().map(|handle| handle.0).collect();
                let deleted = match via {
                    Via::Turn(turn) => turn.delete_batch(queue, &bare),
                    Via::Queue => queue.delete_batch(&bare),
                };
                let expected: Vec<Result<_, DeleteError>> = handles
                    .into_iter()
                    .map(|handle| Ok(model.deleted_by(handle)))
                    .collect();
                assert_eq!(&deleted.expect("valid")[..], expected);
            }
            Op::Change(pick, timeout) => {
                let Some(handle) = model.pick(*pick) else { return };
                let changed = match via {
                    Via::Turn(turn) => turn.change_visibility(queue, &handle.0, *timeout),
                    Via::Queue => queue.change_visibility(&handle.0, *timeout),
                };
                assert_eq!(changed, model.changed_by(handle, *timeout));
            }
            Op::ChangeBatch(changes) => {
                let changes: Vec<_> = changes
                    .iter()
                    .filter_map(|&(pick, timeout)| Some((model.pick(pick)?, timeout)))
                    .collect();
                if changes.is_empty() {
                    return;
                }
                let bare: Vec<_> = changes
                    .iter()
                    .map(|&(handle, timeout)| (handle.0, timeout))
                    .collect();
                let changed = match via {
                    Via::Turn(turn) => turn.change_visibility_batch(queue, &bare),
                    Via::Queue => queue.change_visibility_batch(&bare),
                };
                let expected: Vec<_> = changes
                    .into_iter()
                    .map(|(handle, timeout)| model.changed_by(handle, timeout))
                    .collect();
                assert_eq!(&changed.expect("valid")[..], expected);
            }
        }
    }

    /// What must hold between any two steps.
    fn check(&self) {
        let (queue, model) = (&self.queue, &self.model);
        let counts = queue.counts();
        // Leases that are over but unnoticed count as in flight, and only those may.
        let (visible, leased) = (model.visible() as u64, model.leased() as u64);
        assert!(counts.visible <= visible && counts.in_flight >= leased);
        assert_eq!(counts.visible + counts.in_flight, visible + leased);
        assert_eq!(
            queue.census(),
            (counts.visible, counts.in_flight, counts.delayed),
            "counted by operations, and by looking"
        );
        assert_eq!(counts.sent, model.messages.len() as u64);
        assert_eq!(counts.received, model.received);
        assert_eq!(counts.released, model.released);
        assert_eq!(counts.deleted, model.deleted() as u64);
        let next = queue.next_due();
        if let Some(due) = model.next_due()
            // If the sweep has made it visible, there is nothing left to be due.
            && due > model.now
        {
            assert!(
                next.is_some_and(|next| next <= Millis::new(due)),
                "a lease ends at {due}, and the queue would look at {next:?}"
            );
        }
        if counts.in_flight > leased {
            assert!(
                next.is_some_and(|next| next <= Millis::new(model.now)),
                "{next:?}"
            );
        }
        let memory = self.broker.memory();
        assert!(memory.used >= memory.limbo + memory.pooled, "{memory:?}");
    }

    /// Everything that is left comes once more, and then there is nothing.
    fn drain(&mut self) {
        self.time.advance(days(1));
        self.model.now += days(1).as_millis() as u64;
        loop {
            let messages = self.queue.receive(10, VISIBILITY_MAX).expect("valid");
            self.model.received(10, VISIBILITY_MAX, &messages);
            if messages.is_empty() {
                break;
            }
            for message in &messages {
                let newest = message.receipt_handle();
                let noted = self.model.handles.iter().rev().find(|noted| noted.0 == newest);
                let handle = *noted.expect("just noted");
                let deleted = self.queue.delete(&handle.0);
                assert_eq!(deleted, Ok(self.model.deleted_by(handle)));
                assert_eq!(deleted, Ok(Deletion::Deleted));
            }
        }
        assert_eq!(self.model.deleted(), self.model.messages.len());
        self.check();
        assert_eq!(self.queue.census(), (0, 0, 0));
        // Hints of leases that are no more are gone at the latest when their time has come.
        self.time.advance(days(1));
        assert_eq!(self.queue.advance(Millis::MAX), None);
    }
}

fn play(script: &Script) {
    let mut pair = Pair::new(script);
    for step in &script.steps {
        pair.step(step);
    }
    if script.drains {
        pair.drain();
    }
    let budget = pair.broker.budget();
    drop(pair);
    let memory = budget.read();
    assert_eq!(
        (memory.used, memory.limbo, memory.pooled),
        (0, 0, 0),
        "all memory was freed, and once"
    );
}

// What the runs have come across: a test that never sees a case says nothing about it.

macro_rules! seen {
    ($($kind:ident)*) => {
        #[derive(Debug, Clone, Copy)]
        enum Seen { $($kind),* }
        const KINDS: &[Seen] = &[$(Seen::$kind),*];
        static SEEN: [AtomicU64; KINDS.len()] = [const { AtomicU64::new(0) }; KINDS.len()];
    };
}

seen! {
    Sent
    SentLarge
    SeveralSegments
    Received
    ReceivedAgain
    ReceivedAfterExpiry
    ReceivedAll
    ReceivedNothing
    Glimpsed
    GlimpsedAgain
    DeleteLeased
    DeleteExpired
    DeleteVisible
    DeleteStale
    DeleteGone
    Extended
    Released
    ChangeLeaseOver
    ChangeStale
    ChangeGone
    ChangeTotalTooLong
    ChangeRefused
    Passed
    Advanced
    Replaced
}

fn tally(seen: Seen) {
    SEEN[seen as usize].fetch_add(1, Ordering::Relaxed);
}

fn run(cases: u32) {
    let mut runner = TestRunner::new(Config {
        cases,
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&scripts(), |script| {
        play(&script);
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, script)) => panic!("{reason}\nby {script:#?}"),
        Err(error) => panic!("{error}"),
    }
    for &kind in KINDS {
        let seen = SEEN[kind as usize].load(Ordering::Relaxed);
        println!("{kind:?}: {seen}");
        assert!(
            seen > u64::from(cases) / 20,
            "{kind:?} was hardly ever seen: {seen}"
        );
    }
}

#[test]
fn the_ledger_does_what_the_model_says() {
    run(4000);
}

#[test]
#[ignore = "some minutes; run it after a change of the ledger"]
fn the_ledger_does_what_the_model_says_for_long() {
    run(20_000);
}
