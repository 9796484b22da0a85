//! FIFO queues against a naive sequential model, on a clock that moves only when told to.
//!
//! The model keeps each group as a list of its messages in order, with a state each, and finds everything by walking along the
//! list. SQS's rule is written down once, in [`Model::run`]: a group delivers its messages from the front on, up to the first
//! that is in flight or delayed.
//!
//! What the ledger does in its own time, the model leaves open: when it notices that a lease is over, when it removes what has
//! lapsed, and which worn-out messages a receive meets and moves. With several partitions it may also choose among the groups;
//! with one, groups come in the order in which their first messages became available, as long as the ledger has not gone on to
//! its next segment.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{
    DEAD, Handle, Oracle, SOURCE, Via, change, change_batch, choose_batch, choose_change, choose_option,
    choose_pass, choose_queue, choose_steps, choose_timeout, delete, delete_batch, whole_ms,
};
use crate::common::{assert_balanced, days, empty, fifo_with, hours, manual_with, ms, secs};
use arbitrary::Unstructured;
use epoq::{
    Broker, ChangeVisibilityError, DeduplicationScope, DeleteError, Deletion, FifoConfig, ManualClock,
    Message, MessageId, Millis, MoveStatus, Outgoing, PeekFilter, Peeked, Queue, QueueConfig, ReceiveError,
    Redrive, Sent, SequenceNumber, VisibilityChange, Worker,
    limits::{BATCH_MAX, RETENTION_MAX, VISIBILITY_MAX},
};
use proptest::{collection::vec, prelude::*};
use sha2::{Digest, Sha256};

/// What can be done.
#[derive(Debug, Clone)]
enum Op {
    Send(Parcel),
    SendBatch(Vec<Parcel>),
    Receive {
        from: usize,
        max: usize,
        timeout: Option<Duration>,
    },
    Attempt {
        id: usize,
        max: usize,
        timeout: Duration,
    },
    Delete(Pick),
    DeleteBatch(Vec<Pick>),
    Change(Pick, Duration),
    ChangeBatch(Vec<(Pick, Duration)>),
    Purge(usize),
    Configure(Change),
    MoveBack,
}

/// A message to be sent.
#[derive(Debug, Clone, Copy)]
struct Parcel {
    group: usize,
    id: Id,
    is_large: bool,
}

/// By what it is known again.
#[derive(Debug, Clone, Copy)]
enum Id {
    /// An id of its own.
    Unique,
    /// One of a few ids.
    Given(u8),
    /// One of a few bodies.
    Content(u8),
    /// The id that one of those bodies has, with another body.
    HashOf(u8),
}

/// What is changed about the first queue.
#[derive(Debug, Clone)]
enum Change {
    Delay(Duration),
    /// Never to be longer than before: what has been removed meanwhile is not known.
    Retention(Duration),
    MaxReceives(Option<u32>),
    Scope(DeduplicationScope),
}

/// Which handle: of all ever given, or of the last few.
#[derive(Debug, Clone, Copy)]
enum Pick {
    Recent(usize),
    Any(usize),
}

#[derive(Debug, Clone)]
enum Step {
    /// Some operations in one turn of a worker, or called on the queue one by one by the worker registered last.
    Work {
        worker: Option<usize>,
        ops: Vec<Op>,
    },
    Pass(Duration),
    Advance,
    /// A worker leaves and another one comes.
    Replace {
        worker: usize,
        home: usize,
    },
}

/// Workers are counted from the first on again where there are fewer, and so are the partitions they are at home in.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    partitions: usize,
    homes: Vec<usize>,
    steps: Vec<Step>,
    /// Whether the queue is emptied in the end, or dropped with what it holds.
    drains: bool,
}

// Strategies.

const PARTITIONS: usize = 4;
const WORKERS: usize = 3;

const GROUPS: usize = 4;

fn timeouts() -> impl Strategy<Value = Duration> {
    prop_oneof![
        4 => Just(Duration::ZERO),
        8 => (1..100u64).prop_map(ms),
        8 => (1..120u64).prop_map(secs),
        1 => (1..12u64).prop_map(hours),
        1 => Just(VISIBILITY_MAX),
        1 => Just(Duration::from_nanos(1)),
    ]
}

fn changes() -> impl Strategy<Value = Duration> {
    prop_oneof![4 => Just(Duration::ZERO), 12 => timeouts(), 1 => Just(VISIBILITY_MAX + ms(1))]
}

fn picks() -> impl Strategy<Value = Pick> {
    prop_oneof![
        5 => (0..12usize).prop_map(Pick::Recent),
        2 => any::<usize>().prop_map(Pick::Any),
    ]
}

fn parcels() -> impl Strategy<Value = Parcel> {
    let id = prop_oneof![
        6 => Just(Id::Unique),
        2 => (0..6u8).prop_map(Id::Given),
        2 => (0..4u8).prop_map(Id::Content),
        1 => (0..4u8).prop_map(Id::HashOf),
    ];
    // Most in few groups, so that runs are long.
    let group = prop_oneof![3 => Just(0), 4 => 0..GROUPS];
    (group, id, proptest::bool::weighted(0.05)).prop_map(|(group, id, is_large)| Parcel {
        group,
        id,
        is_large,
    })
}

fn changes_of_settings() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => Just(Change::Delay(Duration::ZERO)),
        2 => prop_oneof![(1..100u64).prop_map(ms), (1..900u64).prop_map(secs)].prop_map(Change::Delay),
        1 => prop_oneof![Just(days(4)), Just(hours(2)), Just(secs(60))].prop_map(Change::Retention),
        4 => proptest::option::of(1..4u32).prop_map(Change::MaxReceives),
        2 => prop_oneof![Just(DeduplicationScope::Queue), Just(DeduplicationScope::MessageGroup)]
            .prop_map(Change::Scope),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    let from = prop_oneof![6 => Just(SOURCE), 1 => Just(DEAD)];
    prop_oneof![
        60 => parcels().prop_map(Op::Send),
        60 => vec(parcels(), 1..=BATCH_MAX).prop_map(Op::SendBatch),
        140 => (from, 1..=BATCH_MAX, proptest::option::weighted(0.9, timeouts()))
            .prop_map(|(from, max, timeout)| Op::Receive { from, max, timeout }),
        20 => (0..3usize, 1..=BATCH_MAX, prop_oneof![1 => Just(0u64), 8 => 1..60_000u64])
            .prop_map(|(id, max, timeout)| Op::Attempt { id, max, timeout: ms(timeout) }),
        80 => picks().prop_map(Op::Delete),
        50 => vec(picks(), 1..=BATCH_MAX).prop_map(Op::DeleteBatch),
        70 => (picks(), changes()).prop_map(|(pick, timeout)| Op::Change(pick, timeout)),
        15 => vec((picks(), changes()), 1..=BATCH_MAX).prop_map(Op::ChangeBatch),
        3 => prop_oneof![4 => Just(SOURCE), 1 => Just(DEAD)].prop_map(Op::Purge),
        12 => changes_of_settings().prop_map(Op::Configure),
        8 => Just(Op::MoveBack),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let pass = prop_oneof![
        2 => Just(Duration::ZERO),
        8 => (1..100u64).prop_map(ms),
        3 => (900..1_200u64).prop_map(ms),
        8 => (1..120u64).prop_map(secs),
        2 => (290..310u64).prop_map(secs),
        1 => Just(secs(300)),
        1 => (1..13u64).prop_map(hours),
        1 => (1..3u64).prop_map(days),
    ];
    prop_oneof![
        12 => (proptest::option::weighted(0.7, 0..WORKERS), vec(ops(), 1..6))
            .prop_map(|(worker, ops)| Step::Work { worker, ops }),
        5 => pass.prop_map(Step::Pass),
        1 => Just(Step::Advance),
        1 => (0..WORKERS, 0..PARTITIONS).prop_map(|(worker, home)| Step::Replace { worker, home }),
    ]
}

pub(crate) fn scripts() -> impl Strategy<Value = Script> {
    (
        prop_oneof![2 => Just(1), 3 => 2..=PARTITIONS],
        vec(0..PARTITIONS, 1..=WORKERS),
        prop_oneof![
            4 => vec(steps(), 1..60),
            1 => vec(steps(), 60..200),
        ],
        any::<bool>(),
    )
        .prop_map(|(partitions, homes, steps, drains)| Script {
            partitions,
            homes,
            steps,
            drains,
        })
}

// From bytes.

/// The script that these bytes choose.
pub(crate) fn from_bytes(bytes: &[u8]) -> arbitrary::Result<Script> {
    let mut bytes = Unstructured::new(bytes);
    let partitions = bytes.int_in_range(1..=PARTITIONS)?;
    let workers = bytes.int_in_range(1..=WORKERS)?;
    let home = |bytes: &mut Unstructured<'_>| bytes.int_in_range(0..=PARTITIONS - 1);
    Ok(Script {
        partitions,
        homes: (0..workers).map(|_| home(&mut bytes)).collect::<Result<_, _>>()?,
        drains: bytes.arbitrary()?,
        steps: choose_steps(&mut bytes, choose_step)?,
    })
}

fn choose_step(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Step> {
    Ok(match bytes.int_in_range(0..=11u8)? {
        0..=6 => Step::Work {
            worker: choose_option(bytes, |bytes| bytes.int_in_range(0..=WORKERS - 1))?,
            ops: {
                let count = bytes.int_in_range(1..=5)?;
                (0..count).map(|_| choose_op(bytes)).collect::<Result<_, _>>()?
            },
        },
        7..=9 => Step::Pass(choose_pass(bytes)?),
        10 => Step::Advance,
        _ => Step::Replace {
            worker: bytes.int_in_range(0..=WORKERS - 1)?,
            home: bytes.int_in_range(0..=PARTITIONS - 1)?,
        },
    })
}

fn choose_op(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Op> {
    let change = |bytes: &mut Unstructured<'_>| Ok((choose_pick(bytes)?, choose_change(bytes)?));
    Ok(match bytes.int_in_range(0..=14u8)? {
        0 => Op::Send(choose_parcel(bytes)?),
        1 | 2 => Op::SendBatch(choose_batch(bytes, choose_parcel)?),
        3..=5 => Op::Receive {
            from: choose_queue(bytes)?,
            max: bytes.int_in_range(1..=BATCH_MAX)?,
            timeout: choose_option(bytes, choose_timeout)?,
        },
        6 => Op::Attempt {
            id: bytes.int_in_range(0..=2)?,
            max: bytes.int_in_range(1..=BATCH_MAX)?,
            timeout: ms(bytes.int_in_range(0..=60_000)?),
        },
        7 | 8 => Op::Delete(choose_pick(bytes)?),
        9 => Op::DeleteBatch(choose_batch(bytes, choose_pick)?),
        10 => change(bytes).map(|(pick, timeout)| Op::Change(pick, timeout))?,
        11 => Op::ChangeBatch(choose_batch(bytes, change)?),
        12 => Op::Purge(choose_queue(bytes)?),
        13 => Op::Configure(choose_setting(bytes)?),
        _ => Op::MoveBack,
    })
}

fn choose_parcel(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Parcel> {
    Ok(Parcel {
        group: bytes.int_in_range(0..=GROUPS - 1)?,
        id: match bytes.int_in_range(0..=5u8)? {
            0..=2 => Id::Unique,
            3 => Id::Given(bytes.int_in_range(0..=5)?),
            4 => Id::Content(bytes.int_in_range(0..=3)?),
            _ => Id::HashOf(bytes.int_in_range(0..=3)?),
        },
        is_large: bytes.ratio(1u8, 16)?,
    })
}

fn choose_pick(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Pick> {
    Ok(match bytes.int_in_range(0..=2u8)? {
        0 | 1 => Pick::Recent(bytes.int_in_range(0..=12)?),
        _ => Pick::Any(bytes.arbitrary::<u16>()?.into()),
    })
}

fn choose_setting(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Change> {
    Ok(match bytes.int_in_range(0..=4u8)? {
        0 => Change::Delay(Duration::ZERO),
        1 => Change::Delay(ms(bytes.int_in_range(1..=900_000)?)),
        2 => Change::Retention(*bytes.choose(&[days(4), hours(2), secs(60)])?),
        3 => Change::MaxReceives(choose_option(bytes, |bytes| bytes.int_in_range(1..=3))?),
        _ => Change::Scope(*bytes.choose(&[DeduplicationScope::Queue, DeduplicationScope::MessageGroup])?),
    })
}

// The model.

/// So many messages to be moved or removed a receive gets past, whatever lies behind them (the documents say: a hundred).
const PASSED: usize = 100;
/// SQS's deduplication interval, and how long a receive can be repeated.
const INTERVAL_MS: u64 = 5 * 60 * 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    InFlight {
        due: u64,
    },
    Deleted,
    Purged,
    Moved,
    /// Its retention was over, and it has been seen to be gone.
    Lapsed,
}

#[derive(Debug, Clone)]
struct Known {
    /// Of a message that a task has moved it is learned when it is received.
    id: Option<MessageId>,
    sequence: Option<SequenceNumber>,
    group: usize,
    body: Vec<u8>,
    deduplication: String,
    sent: u64,
    /// When it was put in its group, in steps of the model.
    tick: u64,
    /// Whether it has been received in this queue.
    is_new: bool,
    first_received: u64,
    last_received: u64,
    receives: u32,
    state: State,
    queue: usize,
}

#[derive(Debug, Clone)]
struct Attempt {
    at: u64,
    /// Handle and end of each lease.
    leases: Vec<(Handle, u64)>,
}

/// How a lease that is over counts as long as the ledger need not have noticed, and a message in flight that has lapsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Both as in flight: what the ledger cannot but deliver if it does not look.
    Least,
    /// The one as over, the other one as in flight: what it cannot but deliver if it has found nothing else.
    Sure,
    /// The one as over, the other one as gone.
    Most,
}

#[derive(Debug)]
struct Model {
    now: u64,
    partitions: usize,
    config: QueueConfig,
    messages: Vec<Known>,
    /// Of each queue and group what is there, in order.
    groups: [[Vec<usize>; GROUPS]; 2],
    handles: Vec<Handle>,
    /// By group, if they are told apart, and id: when and which.
    ids: HashMap<(Option<usize>, String), (u64, usize)>,
    attempts: HashMap<usize, Attempt>,
    last_sequence: [Option<SequenceNumber>; GROUPS],
    sent: u64,
    received: [u64; 2],
    released: [u64; 2],
    deleted: [u64; 2],
    moved_out: [u64; 2],
    /// Whether the order of groups is compared.
    is_orderly: bool,
    tick: u64,
    /// Since when each group of the first queue has something to deliver.
    available: [Option<u64>; GROUPS],
}

fn group_name(group: usize) -> String {
    format!("g{group}")
}

fn hash(body: &[u8]) -> String {
    Sha256::digest(body)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The body of those that are known by it.
fn content(number: u8) -> Vec<u8> {
    format!("content {number}").into_bytes()
}

impl Model {
    fn new(config: QueueConfig, partitions: usize) -> Self {
        Self {
            now: 0,
            partitions,
            config,
            messages: Vec::new(),
            groups: Default::default(),
            handles: Vec::new(),
            ids: HashMap::new(),
            attempts: HashMap::new(),
            last_sequence: [None; GROUPS],
            sent: 0,
            received: [0; 2],
            released: [0; 2],
            deleted: [0; 2],
            moved_out: [0; 2],
            is_orderly: partitions == 1,
            tick: 0,
            available: [None; GROUPS],
        }
    }

    fn step(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    fn retention(&self, queue: usize) -> u64 {
        whole_ms(if queue == SOURCE {
            self.config.retention
        } else {
            RETENTION_MAX
        })
    }

    fn is_there(&self, known: &Known) -> bool {
        matches!(known.state, State::Waiting | State::InFlight { .. })
    }

    /// Whether its retention is over, so that it may be gone, and is not to be received in any case.
    fn is_open(&self, known: &Known) -> bool {
        known.sent + self.retention(known.queue) <= self.now
    }

    fn is_delayed(&self, known: &Known) -> bool {
        let delay = whole_ms(self.config.delay);
        known.queue == SOURCE
            && known.state == State::Waiting
            && known.receives == 0
            // One that a task has moved back is not delayed again; its id is not known yet.
            && known.id.is_some()
            && delay > 0
            && known.sent + delay + 1 > self.now
    }

    fn is_worn_out(&self, known: &Known) -> bool {
        let redrive = self.config.redrive.as_ref();
        known.queue == SOURCE && redrive.is_some_and(|redrive| known.receives >= redrive.max_receives)
    }

    /// What a group has to deliver, in order: SQS's rule.
    fn run(&self, queue: usize, group: usize, reading: Reading) -> Vec<usize> {
        let mut run = Vec::new();
        for &at in &self.groups[queue][group] {
            let known = &self.messages[at];
            if let State::InFlight { due } = known.state {
                let is_over = due <= self.now && reading != Reading::Least;
                let is_gone = self.is_open(known) && reading == Reading::Most;
                if !is_over && !is_gone {
                    break;
                }
            }
            if self.is_open(known) {
                continue;
            }
            if self.is_delayed(known) {
                break;
            }
            if !self.is_worn_out(known) {
                run.push(at);
            }
        }
        run
    }

    /// Whether something stands before a message that is certainly there, and cannot be received.
    fn is_at_front(&self, message: usize) -> bool {
        let known = &self.messages[message];
        let before = self.groups[known.queue][known.group]
            .iter()
            .take_while(|&&at| at != message);
        before.map(|&at| &self.messages[at]).all(|other| {
            self.is_open(other) || !matches!(other.state, State::InFlight { due } if due > self.now)
        })
    }

    fn leave(&mut self, message: usize, state: State) {
        let known = &mut self.messages[message];
        known.state = state;
        self.groups[known.queue][known.group].retain(|&at| at != message);
    }

    /// Groups that have come to have something to deliver, or have it no more.
    fn settle(&mut self) {
        if !self.is_orderly {
            return;
        }
        let laid = self.step();
        for group in 0..GROUPS {
            let head = self.groups[SOURCE][group].first().copied();
            let head = head.filter(|&at| self.messages[at].state == State::Waiting);
            self.available[group] = match (head, self.available[group]) {
                (None, _) => None,
                (Some(_), Some(since)) => Some(since),
                (Some(at), None) => {
                    let known = &self.messages[at];
                    Some(if known.is_new { known.tick } else { laid })
                }
            };
        }
    }

    /// The ledger looks for leases that are over. Only where there is one partition it is known when it does.
    fn notice(&mut self, queue: usize) {
        for group in 0..GROUPS {
            for &at in &self.groups[queue][group] {
                let known = &mut self.messages[at];
                if matches!(known.state, State::InFlight { due } if due <= self.now) {
                    known.state = State::Waiting;
                }
            }
        }
    }

    // Sending.

    /// Body and deduplication id of a parcel, and the id that is to be sent along.
    fn contents(&self, parcel: &Parcel, number: usize) -> (Vec<u8>, String, Option<String>) {
        let mut body = match parcel.id {
            Id::Content(which) => content(which),
            _ => format!("message {number}").into_bytes(),
        };
        if parcel.is_large {
            body.resize(1_500, b'x');
        }
        match parcel.id {
            Id::Unique => {
                let id = format!("unique-{number}");
                (body, id.clone(), Some(id))
            }
            Id::Given(which) => {
                let id = format!("given-{which}");
                (body, id.clone(), Some(id))
            }
            Id::Content(_) => {
                let id = hash(&body);
                (body, id, None)
            }
            Id::HashOf(which) => {
                let id = hash(&content(which));
                (body, id.clone(), Some(id))
            }
        }
    }

    fn sent(&mut self, parcel: &Parcel, body: Vec<u8>, deduplication: String, sent: &Sent<'_>) {
        let group = parcel.group;
        let config = self.config.fifo.expect("a FIFO queue");
        let by_group = config.deduplication_scope == DeduplicationScope::MessageGroup;
        let key = (by_group.then_some(group), deduplication.clone());
        if let Some(&(at, original)) = self.ids.get(&key)
            && self.now < at + INTERVAL_MS
        {
            let original = &self.messages[original];
            assert_eq!(sent.message_id(), original.id.expect("sent"));
            assert_eq!(sent.sequence_number(), original.sequence);
            tally(Seen::Duplicate);
            if !self.is_there(original) {
                tally(Seen::DuplicateOfGone);
            }
            return;
        }
        if let Some(&(at, _)) = self.ids.get(&key) {
            assert!(at + INTERVAL_MS <= self.now);
            tally(Seen::SentAfterInterval);
        }
        let id = sent.message_id();
        assert!(
            self.messages.iter().all(|known| known.id != Some(id)),
            "an id given twice"
        );
        let sequence = sent.sequence_number();
        assert!(sequence > self.last_sequence[group], "sequence numbers grow");
        self.last_sequence[group] = sequence;
        if by_group && self.ids.keys().any(|(_, other)| *other == deduplication) {
            tally(Seen::SameIdInOtherGroup);
        }
        self.ids.insert(key, (self.now, self.messages.len()));
        self.sent += 1;
        let known = Known {
            id: Some(id),
            sequence,
            group,
            body,
            deduplication,
            sent: self.now,
            tick: 0,
            is_new: true,
            first_received: 0,
            last_received: 0,
            receives: 0,
            state: State::Waiting,
            queue: SOURCE,
        };
        if self.groups[SOURCE][group].is_empty() {
            tally(Seen::SentToEmpty);
        } else if self.run(SOURCE, group, Reading::Most).is_empty() {
            tally(Seen::SentToBlocked);
        }
        self.enter(known);
    }

    fn enter(&mut self, known: Known) {
        let tick = self.step();
        self.groups[known.queue][known.group].push(self.messages.len());
        self.messages.push(Known { tick, ..known });
        self.settle();
    }

    // Receiving.

    fn timeout(&self, queue: usize, timeout: Option<Duration>) -> u64 {
        let default = QueueConfig::default().visibility_timeout;
        whole_ms(timeout.unwrap_or(if queue == SOURCE {
            self.config.visibility_timeout
        } else {
            default
        }))
    }

    fn received(&mut self, queue: usize, max: usize, timeout: u64, messages: &[Message]) {
        assert!(messages.len() <= max);
        let orderly = queue == SOURCE && self.is_orderly;
        let done_away_with = |known: &&Known| self.is_open(known) || self.is_worn_out(known);
        let passed = self.within(queue).filter(done_away_with).count();
        if orderly {
            self.check_order(max, messages);
        }
        // Run by run.
        let (mut rest, mut runs) = (messages, Vec::new());
        while let [first, ..] = rest {
            let group = group_of(first);
            assert!(!runs.contains(&group), "two runs of {group} in one receive");
            runs.push(group);
            let count = rest
                .iter()
                .take_while(|message| group_of(message) == group)
                .count();
            let room = max - (messages.len() - rest.len());
            let least = self.run(queue, group, Reading::Least).len().min(room);
            let most = self.run(queue, group, Reading::Most);
            assert!(
                count >= least || passed > PASSED,
                "{count} of {group} came, and {least} must"
            );
            assert!(count <= most.len(), "{count} of {group} came, and {most:?} could");
            for (message, &at) in rest[..count].iter().zip(&most) {
                self.delivered(queue, timeout, message, at);
            }
            if count > 1 {
                tally(Seen::RunOfSeveral);
            }
            rest = &rest[count..];
        }
        if runs.len() > 1 {
            tally(Seen::SeveralRuns);
        }
        if messages.is_empty() {
            tally(Seen::ReceivedNothing);
        }
        // Nothing was left out.
        let is_alone = self.is_alone();
        if (is_alone && messages.len() < max || messages.is_empty()) && passed <= PASSED {
            for group in (0..GROUPS).filter(|group| !runs.contains(group)) {
                let left = self.run(queue, group, Reading::Sure);
                assert!(
                    left.is_empty(),
                    "{} came, and {left:?} of group {group} could",
                    messages.len()
                );
            }
        }
        if is_alone {
            self.notice(queue);
            if orderly {
                self.settle();
            }
        }
        if orderly && timeout == 0 {
            // To the back, in the order in which they came.
            for group in runs {
                self.available[group] = None;
                self.settle();
            }
        }
        self.received[queue] += messages.len() as u64;
    }

    fn is_alone(&self) -> bool {
        self.partitions == 1
    }

    /// With one partition, of which the head has not passed anything that matters here: groups come by when their first messages
    /// became available, and those whose leases nobody had noticed to be over come last.
    fn check_order(&self, max: usize, messages: &[Message]) {
        let key_of = |group: usize| {
            let waits = !self.run(SOURCE, group, Reading::Least).is_empty();
            self.available[group].filter(|_| waits).unwrap_or(u64::MAX)
        };
        let mut groups: Vec<_> = messages.iter().map(group_of).collect();
        groups.dedup();
        let keys: Vec<_> = groups.iter().map(|&group| key_of(group)).collect();
        assert!(keys.is_sorted(), "{groups:?} came, available since {keys:?}");
        let last = keys.last().copied().unwrap_or(0);
        for group in (0..GROUPS).filter(|group| !groups.contains(group)) {
            let key = key_of(group);
            assert!(
                key == u64::MAX || key >= last,
                "{groups:?} of at most {max} came before {group}, available since {key} {keys:?}"
            );
        }
        if groups.len() > 1 {
            tally(Seen::Ordered);
        }
    }

    fn delivered(&mut self, queue: usize, timeout: u64, message: &Message, at: usize) {
        let now = self.now;
        let known = &mut self.messages[at];
        assert_eq!(message.body(), known.body, "in order: {known:?}");
        match known.id {
            Some(id) => assert_eq!(message.message_id(), id),
            None => known.id = Some(message.message_id()),
        }
        if known.sequence.is_none() {
            known.sequence = message.sequence_number();
        }
        assert!(known.sequence.is_some());
        assert_eq!(message.sequence_number(), known.sequence);
        if matches!(known.state, State::InFlight { .. }) {
            tally(Seen::ReceivedAfterExpiry);
        }
        known.receives += 1;
        known.is_new = false;
        if known.receives == 1 {
            known.first_received = now;
        }
        known.last_received = now;
        known.state = match timeout {
            0 => State::Waiting,
            timeout => State::InFlight {
                due: now + timeout + 1,
            },
        };
        assert_eq!(message.receive_count(), known.receives);
        assert_eq!(message.sent_at(), Millis::new(known.sent));
        assert_eq!(message.first_received_at(), Millis::new(known.first_received));
        assert_eq!(message.deduplication_id(), Some(&*known.deduplication));
        assert_eq!(
            message.dead_letter_source(),
            (queue == DEAD).then_some("model.fifo")
        );
        self.handles.push(Handle {
            receipt: message.receipt_handle(),
            message: at,
            receives: known.receives,
            queue,
            at: now,
        });
        tally(match (known.receives, timeout) {
            (1, 0) => Seen::Glimpsed,
            (1, _) => Seen::Received,
            (_, 0) => Seen::GlimpsedAgain,
            (_, _) => Seen::ReceivedAgain,
        });
        if queue == DEAD {
            tally(Seen::ReceivedDead);
        }
    }

    // What a receive moves.

    /// Messages that a receive from the first queue may have moved, with what their group delivers before them.
    fn perhaps_moved(&self) -> Vec<usize> {
        let mut moved = Vec::new();
        for group in &self.groups[SOURCE] {
            for &at in group {
                let known = &self.messages[at];
                if self.is_worn_out(known) {
                    moved.push(at);
                }
            }
        }
        moved
    }

    fn has_moved(&mut self, message: usize) {
        let known = self.messages[message].clone();
        assert!(self.is_at_front(message) && !self.is_open(&known), "{known:?}");
        assert!(
            !matches!(known.state, State::InFlight { due } if due > self.now),
            "{known:?}"
        );
        self.leave(message, State::Moved);
        self.settle();
        self.moved_out[SOURCE] += 1;
        self.enter(Known {
            sent: self.now,
            sequence: None,
            is_new: true,
            // Not before it was sent, which begins anew.
            first_received: self.now,
            // It may have been sent there under its own one lately.
            deduplication: known.id.expect("received").to_string(),
            state: State::Waiting,
            queue: DEAD,
            ..known
        });
        tally(Seen::Moved);
    }

    /// A task has moved a message back, as a new one.
    fn has_moved_back(&mut self, message: usize) {
        let known = self.messages[message].clone();
        assert!(self.is_at_front(message), "{known:?}");
        self.leave(message, State::Moved);
        self.moved_out[DEAD] += 1;
        self.enter(Known {
            id: None,
            sent: self.now,
            sequence: None,
            is_new: true,
            first_received: 0,
            receives: 0,
            state: State::Waiting,
            queue: SOURCE,
            ..known
        });
        tally(Seen::MovedBack);
    }

    // Handles.

    /// Whether a handle's lease is running; `None` if its message is gone.
    fn is_leased(&self, handle: Handle) -> Option<bool> {
        let known = &self.messages[handle.message];
        let is_running = matches!(known.state, State::InFlight { due } if due > self.now);
        self.is_there(known)
            .then_some(is_running && known.receives == handle.receives)
    }

    // Attempts.

    /// What a receive that is repeated must come to: `None` if it begins anew.
    fn repeated(&self, id: usize) -> Option<Result<Vec<Handle>, ReceiveError>> {
        let attempt = self.attempts.get(&id)?;
        if attempt.at + INTERVAL_MS <= self.now {
            return None;
        }
        let (mut running, mut over) = (Vec::new(), 0);
        for &(handle, due) in &attempt.leases {
            let known = &self.messages[handle.message];
            if !self.is_there(known) || known.queue != handle.queue {
                return Some(Err(ReceiveError::AttemptNotValid));
            }
            let ends = match known.state {
                State::InFlight { due } if due > self.now => Some(due),
                _ => None,
            };
            if known.receives != handle.receives {
                over += 1;
            } else if ends == Some(due) {
                running.push(handle);
            } else if ends.is_some() || due > self.now {
                return Some(Err(ReceiveError::AttemptNotValid));
            } else {
                over += 1;
            }
        }
        match (running.is_empty(), over) {
            (true, _) => None,
            (false, 0) => Some(Ok(running)),
            (false, _) => Some(Err(ReceiveError::AttemptNotValid)),
        }
    }

    /// Whether it hangs on whether something that has lapsed is gone.
    fn is_uncertain(&self, id: usize) -> bool {
        self.attempts.get(&id).is_some_and(|attempt| {
            let open = |&(handle, _): &(Handle, u64)| self.is_open(&self.messages[handle.message]);
            attempt.leases.iter().any(open)
        })
    }

    fn purged(&mut self, queue: usize, answer: u64) {
        let (least, most) = self.present(queue);
        assert!((least..=most).contains(&answer), "{answer} of {least} to {most}");
        for group in 0..GROUPS {
            for at in std::mem::take(&mut self.groups[queue][group]) {
                self.messages[at].state = State::Purged;
                tally(Seen::Purged);
            }
        }
        if queue == SOURCE {
            self.ids.clear();
            self.attempts.clear();
            // It begins with a small segment.
            self.is_orderly = false;
        }
    }

    // Counting.

    fn within(&self, queue: usize) -> impl Iterator<Item = &Known> {
        self.groups[queue].iter().flatten().map(|&at| &self.messages[at])
    }

    /// How many are there, at least and at most.
    fn present(&self, queue: usize) -> (u64, u64) {
        let most = self.within(queue).count() as u64;
        let open = self.within(queue).filter(|known| self.is_open(known)).count() as u64;
        (most - open, most)
    }

    fn count(&self, queue: usize, of: impl Fn(&Known) -> bool) -> (u64, u64) {
        let (mut least, mut most) = (0, 0);
        for known in self.within(queue).filter(|known| of(known)) {
            most += 1;
            least += u64::from(!self.is_open(known));
        }
        (least, most)
    }
}

fn group_of(message: &Message) -> usize {
    let name = message.message_group().expect("a group");
    name[1..].parse().expect("a number")
}

impl Oracle for Model {
    type Pick = Pick;

    fn pick(&self, pick: Self::Pick) -> Option<Handle> {
        let count = self.handles.len();
        let at = match pick {
            _ if count == 0 => return None,
            Pick::Recent(back) => count - 1 - back.min(count - 1),
            Pick::Any(at) => at % count,
        };
        Some(self.handles[at])
    }

    fn learn(&mut self, handle: Handle, is_gone: bool) {
        let known = &self.messages[handle.message];
        if is_gone && self.is_there(known) && self.is_open(known) {
            self.leave(handle.message, State::Lapsed);
            self.settle();
            tally(Seen::HandleLapsed);
        }
    }

    fn deleted_by(&mut self, handle: Handle) -> Result<Deletion, DeleteError> {
        match self.is_leased(handle) {
            None => {
                tally(Seen::DeleteGone);
                Ok(Deletion::Gone)
            }
            Some(false) => {
                tally(Seen::DeleteExpired);
                Err(DeleteError::Expired)
            }
            Some(true) => {
                tally(Seen::Deleted);
                self.deleted[handle.queue] += 1;
                self.leave(handle.message, State::Deleted);
                Ok(Deletion::Deleted)
            }
        }
    }

    fn changed_by(
        &mut self,
        handle: Handle,
        timeout: Duration,
    ) -> Result<VisibilityChange, ChangeVisibilityError> {
        let limit = VISIBILITY_MAX;
        if timeout > limit {
            return Err(ChangeVisibilityError::VisibilityTimeout {
                given: timeout,
                limit,
            });
        }
        let (now, timeout) = (self.now, whole_ms(timeout));
        match self.is_leased(handle) {
            None => {
                tally(Seen::ChangeGone);
                return Err(ChangeVisibilityError::Gone);
            }
            Some(false) => {
                tally(Seen::ChangeExpired);
                return Err(ChangeVisibilityError::Expired);
            }
            Some(true) => {}
        }
        let known = &mut self.messages[handle.message];
        if timeout == 0 {
            tally(Seen::Released);
            self.released[handle.queue] += 1;
            known.state = State::Waiting;
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

    fn settled(&mut self) {
        self.settle();
    }
}

// The ledger beside it.

struct Pair {
    time: ManualClock,
    broker: Broker,
    queues: [Queue; 2],
    workers: Vec<Worker>,
    model: Model,
    /// Messages sent, received and deleted before it began.
    before: u64,
}

impl Pair {
    fn new(script: &Script) -> Self {
        let builder = Broker::builder()
            .partitions(script.partitions)
            .min_width(usize::MAX);
        let (time, broker) = manual_with(builder);
        let config = QueueConfig {
            retention: RETENTION_MAX,
            in_flight_max: None,
            ..QueueConfig::default()
        };
        let dead = fifo_with(&broker, "dead.fifo", config.clone());
        let source = fifo_with(&broker, "model.fifo", config);
        let workers = script
            .homes
            .iter()
            .map(|&home| broker.worker_at(home % script.partitions).expect("a partition"))
            .collect();
        // The first segment is small: beyond it the order of groups can be compared for a while.
        let before = 70;
        for number in 0..before {
            let body = format!("before {number}");
            let message = Outgoing::new(body.as_bytes()).message_group("before");
            source.send_message(&message).expect("room");
        }
        let mut left = before;
        while left > 0 {
            left -= empty(&source) as u64;
        }
        Self {
            model: Model::new(source.config(), script.partitions),
            time,
            broker,
            queues: [source, dead],
            workers,
            before,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Work { worker: None, ops } => {
                for op in ops {
                    Self::work(&mut self.model, &self.broker, &self.queues, &Via::Queue, op);
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
                    broker,
                    queues,
                    ..
                } = self;
                workers[*worker % workers.len()].turn(|turn| {
                    for op in ops {
                        Self::work(model, broker, queues, &Via::Turn(turn), op);
                    }
                });
            }
            Step::Pass(by) => {
                self.time.advance(*by);
                let model = &mut self.model;
                model.now += by.as_millis() as u64;
                if model.within(SOURCE).any(|known| model.is_open(known)) {
                    model.is_orderly = false;
                }
            }
            Step::Advance => {
                let model = &mut self.model;
                for (at, queue) in self.queues.iter().enumerate() {
                    let next = queue.advance(Millis::MAX);
                    model.notice(at);
                    assert!(
                        next.is_none_or(|next| next > Millis::new(model.now)),
                        "{next:?} at {}",
                        model.now
                    );
                    let counts = queue.counts();
                    let (least, most) =
                        model.count(at, |known| matches!(known.state, State::InFlight { .. }));
                    assert!(
                        (least..=most).contains(&counts.in_flight),
                        "{counts:?}, {least} to {most} in flight"
                    );
                    // Closed ones are gone, and none was forgotten that has something.
                    let groups = queue.fifo_metrics().expect("a FIFO queue").groups;
                    assert!(groups <= GROUPS + 1, "{groups} groups");
                }
                model.settle();
                tally(Seen::Advanced);
            }
            Step::Replace { worker, home } => {
                let worker = *worker % self.workers.len();
                self.workers.remove(worker);
                let new = self
                    .broker
                    .worker_at(*home % self.broker.partitions())
                    .expect("a partition");
                self.workers.insert(worker, new);
            }
        }
        self.check();
    }

    fn work(model: &mut Model, broker: &Broker, queues: &[Queue; 2], via: &Via<'_>, op: &Op) {
        match op {
            Op::Send(parcel) => Self::send(model, &queues[SOURCE], via, &[*parcel]),
            Op::SendBatch(parcels) => Self::send(model, &queues[SOURCE], via, parcels),
            Op::Receive { from, max, timeout } => {
                let messages = via.receive(&queues[*from], *max, *timeout).expect("valid");
                let timeout = model.timeout(*from, *timeout);
                Self::received(model, queues, *from, *max, timeout, &messages);
            }
            Op::Attempt { id, max, timeout } => Self::attempt(model, queues, *id, *max, *timeout),
            Op::Delete(pick) => delete(model, queues, via, *pick),
            Op::DeleteBatch(picks) => delete_batch(model, queues, via, picks),
            Op::Change(pick, timeout) => change(model, queues, via, (*pick, *timeout)),
            Op::ChangeBatch(changes) => change_batch(model, queues, via, changes),
            Op::Purge(which) => {
                let purged = queues[*which].purge().expect("there");
                model.purged(*which, purged);
            }
            Op::Configure(change) => Self::configure(model, broker, &queues[SOURCE], change),
            Op::MoveBack => Self::move_back(model, broker, queues),
        }
    }

    fn configure(model: &mut Model, broker: &Broker, queue: &Queue, change: &Change) {
        let config = &mut model.config;
        match change.clone() {
            Change::Delay(delay) => {
                config.delay = delay;
                // Batons that were put off lie elsewhere.
                model.is_orderly &= delay.is_zero();
            }
            Change::Retention(retention) => {
                config.retention = config.retention.min(retention);
                model.is_orderly = false;
            }
            Change::MaxReceives(max) => config.redrive = max.map(|max| Redrive::new("dead.fifo", max)),
            Change::Scope(deduplication_scope) => {
                let fifo = config.fifo.expect("a FIFO queue");
                config.fifo = Some(FifoConfig {
                    deduplication_scope,
                    ..fifo
                });
            }
        }
        broker.configure(queue, config.clone()).expect("valid");
    }

    fn send(model: &mut Model, queue: &Queue, via: &Via<'_>, parcels: &[Parcel]) {
        let first = model.messages.len();
        let contents: Vec<_> = parcels
            .iter()
            .enumerate()
            .map(|(at, parcel)| (group_name(parcel.group), model.contents(parcel, first * 100 + at)))
            .collect();
        let messages: Vec<_> = contents
            .iter()
            .map(|(group, (body, _, id))| {
                let message = Outgoing::new(body).message_group(group);
                match id {
                    Some(id) => message.deduplication_id(id),
                    None => message,
                }
            })
            .collect();
        let results = via.send(queue, &messages);
        for ((sent, parcel), (_, (body, id, _))) in results.into_iter().zip(parcels).zip(contents) {
            model.sent(parcel, body, id, &sent.expect("room"));
        }
    }

    fn received(
        model: &mut Model,
        queues: &[Queue; 2],
        from: usize,
        max: usize,
        timeout: u64,
        messages: &[Message],
    ) {
        model.is_orderly = model.is_orderly && !Self::has_gone_on(&queues[SOURCE]);
        model.received(from, max, timeout, messages);
        if from == SOURCE {
            Self::find_moved(model, queues);
        }
    }

    /// Whether the ledger has put another segment to use than the one after the first. What then becomes available in a slot that
    /// the head has gone by comes later.
    fn has_gone_on(queue: &Queue) -> bool {
        let snapshot = queue.snapshot();
        let mut segments = snapshot
            .partitions
            .iter()
            .flat_map(|partition| &partition.segments);
        segments.any(|segment| segment.serial > 1)
    }

    fn attempt(model: &mut Model, queues: &[Queue; 2], id: usize, max: usize, timeout: Duration) {
        if model.is_uncertain(id) {
            return;
        }
        let expected = model.repeated(id);
        let answer = queues[SOURCE].receive_attempt(&format!("attempt-{id}"), max, timeout);
        let timeout = whole_ms(timeout);
        match expected {
            Some(Err(error)) => {
                assert_eq!(answer, Err(error));
                tally(Seen::AttemptNotValid);
            }
            Some(Ok(handles)) => {
                let messages = answer.expect("valid");
                let again: Vec<_> = messages.iter().map(Message::receipt_handle).collect();
                let before: Vec<_> = handles.iter().map(|handle| handle.receipt).collect();
                assert_eq!(again, before);
                let due = model.now + timeout + 1;
                for (message, handle) in messages.iter().zip(&handles) {
                    let known = &mut model.messages[handle.message];
                    assert_eq!(message.receive_count(), known.receives);
                    assert_eq!(message.body(), known.body);
                    if timeout > 0 {
                        known.state = State::InFlight { due };
                    }
                }
                if timeout > 0 {
                    let attempt = model.attempts.get_mut(&id).expect("known");
                    attempt.leases.iter_mut().for_each(|(_, ends)| *ends = due);
                }
                tally(Seen::Repeated);
            }
            None => {
                let first = model.handles.len();
                let messages = answer.expect("valid");
                Self::received(model, queues, SOURCE, max, timeout, &messages);
                let due = if timeout > 0 { model.now + timeout + 1 } else { 0 };
                let leases = model.handles[first..]
                    .iter()
                    .map(|&handle| (handle, due))
                    .collect();
                // Whether it was known or not, its five minutes begin with this receive.
                let at = model.now;
                model.attempts.insert(id, Attempt { at, leases });
            }
        }
    }

    fn look(queue: &Queue) -> HashSet<MessageId> {
        let everything = PeekFilter {
            max: usize::MAX,
            body_bytes: 0,
            ..PeekFilter::default()
        };
        queue.peek(&everything).iter().map(Peeked::message_id).collect()
    }

    /// Looks which messages a receive has moved.
    fn find_moved(model: &mut Model, queues: &[Queue; 2]) {
        let perhaps = model.perhaps_moved();
        if perhaps.is_empty() {
            return;
        }
        let (there, dead) = (Self::look(&queues[SOURCE]), Self::look(&queues[DEAD]));
        for at in perhaps {
            let id = model.messages[at].id.expect("received");
            if dead.contains(&id) {
                assert!(!there.contains(&id), "in both queues");
                model.has_moved(at);
                // Its group may have been looked at before others that came.
                model.is_orderly = false;
            } else if !there.contains(&id) {
                assert!(model.is_open(&model.messages[at]), "in neither queue");
            }
        }
    }

    /// All dead letters that nothing stands before go back where they came from.
    fn move_back(model: &mut Model, broker: &Broker, queues: &[Queue; 2]) {
        let Ok(task) = broker.start_message_move("dead.fifo", None, None) else {
            assert!(model.config.redrive.is_none());
            return;
        };
        for _ in 0..100 {
            if task.step(broker.now()).is_none() {
                break;
            }
        }
        let report = task.status();
        assert_eq!(report.status, MoveStatus::Completed);
        let there = Self::look(&queues[DEAD]);
        let before = model.moved_out[DEAD];
        for group in 0..GROUPS {
            let must = model.run(DEAD, group, Reading::Sure);
            let may = model.run(DEAD, group, Reading::Most);
            let is_gone = |&&at: &&usize| !there.contains(&model.messages[at].id.expect("known"));
            let moved: Vec<_> = may.iter().take_while(is_gone).copied().collect();
            assert!(moved.len() >= must.len(), "{moved:?} moved, and {must:?} could");
            moved.into_iter().for_each(|at| model.has_moved_back(at));
        }
        assert_eq!(report.moved, model.moved_out[DEAD] - before);
        // Which group's went first is not known.
        model.is_orderly &= report.moved == 0;
    }

    /// What must hold between any two steps.
    fn check(&self) {
        let model = &self.model;
        for (at, queue) in self.queues.iter().enumerate() {
            let counts = queue.counts();
            assert_balanced(queue);
            assert_eq!(
                queue.census(),
                (counts.visible + counts.delayed, counts.in_flight, 0),
                "counted by operations, and by looking"
            );
            let before = if at == SOURCE { self.before } else { 0 };
            let present = counts.visible + counts.in_flight + counts.delayed;
            let (least, most) = model.present(at);
            assert!((least..=most).contains(&present), "{counts:?}, {least} to {most}");
            let (least, _) = model.count(
                at,
                |known| matches!(known.state, State::InFlight { due } if due > model.now),
            );
            let (_, most) = model.count(at, |known| matches!(known.state, State::InFlight { .. }));
            assert!(
                (least..=most).contains(&counts.in_flight),
                "{counts:?}, {least} to {most} in flight"
            );
            let (least, most) = model.count(at, |known| model.is_delayed(known));
            assert!(
                (least..=most).contains(&counts.delayed),
                "{counts:?}, {least} to {most} delayed"
            );
            assert_eq!(counts.received, model.received[at] + before);
            assert_eq!(counts.released, model.released[at]);
            assert_eq!(counts.deleted, model.deleted[at] + before);
            assert_eq!(counts.moved_out, model.moved_out[at]);
            assert_eq!(counts.moved_in, model.moved_out[1 - at]);
            assert_eq!(counts.sent, if at == SOURCE { model.sent + before } else { 0 });
        }
        let memory = self.broker.memory();
        assert!(memory.used >= memory.limbo + memory.pooled, "{memory:?}");
    }

    fn pass(&mut self, by: Duration) {
        self.step(&Step::Pass(by));
        self.step(&Step::Advance);
    }

    /// Everything that is left comes once more, and then there is nothing: neither messages nor groups.
    fn drain(&mut self) {
        self.pass(days(1));
        for from in [SOURCE, DEAD] {
            // Bounded: each receive delivers, moves or removes something.
            while self.queues[from].census() != (0, 0, 0) {
                let there = self.queues[from].census();
                let before = self.model.handles.len();
                let receive = Op::Receive {
                    from,
                    max: 10,
                    timeout: Some(VISIBILITY_MAX),
                };
                let moved = self.model.moved_out[from];
                Self::work(&mut self.model, &self.broker, &self.queues, &Via::Queue, &receive);
                let handles = self.model.handles.split_off(before);
                assert!(
                    // One receive does away with so many that have lapsed, and no more.
                    !handles.is_empty()
                        || self.model.moved_out[from] > moved
                        || self.queues[from].census() != there,
                    "stuck: {:?}",
                    self.queues[from]
                );
                for handle in handles {
                    let deleted = self.queues[from].delete(&handle.receipt);
                    assert_eq!(deleted, self.model.deleted_by(handle));
                    assert_eq!(deleted, Ok(Deletion::Deleted));
                }
                self.model.settle();
            }
        }
        self.check();
        for _ in 0..3 {
            self.pass(secs(2));
        }
        for queue in &self.queues {
            assert_eq!(queue.fifo_metrics().expect("a FIFO queue").groups, 0);
        }
        self.pass(days(1));
        for queue in &self.queues {
            assert_eq!(queue.advance(Millis::MAX), None);
            assert_eq!(queue.fifo_metrics().expect("a FIFO queue").deduplication_ids, 0);
        }
    }
}

pub(crate) fn play(script: &Script) {
    let mut pair = Pair::new(script);
    for step in &script.steps {
        pair.step(step);
    }
    if script.drains {
        pair.drain();
    }
    let budget = pair.broker.budget();
    drop(pair);
    super::assert_freed(budget.read());
}

seen! {
    Duplicate
    DuplicateOfGone
    SameIdInOtherGroup
    SentAfterInterval
    SentToEmpty
    SentToBlocked
    Received
    ReceivedAgain
    ReceivedAfterExpiry
    ReceivedNothing
    RunOfSeveral
    SeveralRuns
    Ordered
    Glimpsed
    GlimpsedAgain
    Deleted
    DeleteExpired
    DeleteGone
    Extended
    Released
    ChangeExpired
    ChangeGone
    ChangeTotalTooLong
    AttemptNotValid
    Repeated
    Moved
    ReceivedDead
    MovedBack
    Purged
    HandleLapsed
    Advanced
}
