//! The ledger against a naive sequential model, on a clock that moves only when told to.
//!
//! The model is a list of messages with a state each, and finds everything by looking at all of them. Whatever an
//! operation answers must be what the model says; where the ledger may choose (which visible messages a receive gets),
//! its choice must be one that the model allows.
//!
//! There are two queues, the second being the dead-letter queue of the first. What the ledger does in its own time, the model
//! leaves open: when a message whose retention is over is removed, and which of those received too often a receive meets and
//! moves. For the latter it asks by their handles.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{
    DEAD, Handle, Oracle, SOURCE, Via, change, change_batch, choose_batch, choose_change, choose_option,
    choose_pass, choose_queue, choose_steps, choose_timeout, delete, delete_batch, whole_ms,
};
use crate::common::{assert_balanced, days, hours, manual_with, ms, number_of, numbered, queue_with, secs};
use arbitrary::Unstructured;
use epoq::{
    Attribute, Broker, ChangeVisibilityError, DeleteError, Deletion, ManualClock, Message, MessageId, Millis,
    Outgoing, PeekFilter, Peeked, Queue, QueueConfig, ReceiveError, Redrive, SendError, VisibilityChange,
    Worker,
    limits::{BATCH_MAX, DELAY_MAX, RETENTION_MAX, VISIBILITY_MAX},
};
use proptest::{collection::vec, prelude::*};

/// What can be done.
#[derive(Debug, Clone)]
enum Op {
    Send {
        length: usize,
    },
    SendBatch {
        lengths: Vec<usize>,
    },
    SendMessages(Vec<Parcel>),
    Receive {
        from: usize,
        max: usize,
        timeout: Option<Duration>,
    },
    Purge(usize),
    Configure(Change),
    Delete(Pick),
    DeleteBatch(Vec<Pick>),
    Change(Pick, Duration),
    ChangeBatch(Vec<(Pick, Duration)>),
}

/// A message to be sent that may be more than a body.
#[derive(Debug, Clone, Copy)]
struct Parcel {
    length: usize,
    delay: Option<Duration>,
    /// Which extras: a bit each for attributes, group and trace header.
    extras: u8,
}

/// What is changed about the first queue.
#[derive(Debug, Clone)]
enum Change {
    Delay(Duration),
    VisibilityTimeout(Duration),
    /// Never to be longer than before: what has been removed meanwhile is not known.
    Retention(Duration),
    MaxReceives(Option<u32>),
    InFlightMax(Option<u64>),
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

fn delays() -> impl Strategy<Value = Duration> {
    prop_oneof![
        3 => Just(Duration::ZERO),
        6 => (1..100u64).prop_map(ms),
        6 => (1..900u64).prop_map(secs),
        1 => Just(DELAY_MAX),
        2 => Just(DELAY_MAX + ms(1)),
        1 => Just(Duration::from_nanos(1)),
    ]
}

fn parcels() -> impl Strategy<Value = Parcel> {
    (lengths(), proptest::option::of(delays()), 0..8u8).prop_map(|(length, delay, extras)| Parcel {
        length,
        delay,
        extras,
    })
}

fn changes_of_settings() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => delays().prop_map(|delay| Change::Delay(delay.min(DELAY_MAX))),
        3 => timeouts().prop_map(Change::VisibilityTimeout),
        1 => prop_oneof![Just(days(4)), Just(hours(2)), Just(secs(60))].prop_map(Change::Retention),
        4 => proptest::option::of(1..5u32).prop_map(Change::MaxReceives),
        4 => proptest::option::of(0..40u64).prop_map(Change::InFlightMax),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    let from = prop_oneof![5 => Just(SOURCE), 1 => Just(DEAD)];
    prop_oneof![
        4 => vec(parcels(), 1..=BATCH_MAX).prop_map(Op::SendMessages),
        1 => prop_oneof![4 => Just(SOURCE), 1 => Just(DEAD)].prop_map(Op::Purge),
        2 => changes_of_settings().prop_map(Op::Configure),
        3 => lengths().prop_map(|length| Op::Send { length }),
        4 => vec(lengths(), 1..=BATCH_MAX).prop_map(|lengths| Op::SendBatch { lengths }),
        8 => (from, 1..=BATCH_MAX, proptest::option::weighted(0.8, timeouts()))
            .prop_map(|(from, max, timeout)| Op::Receive { from, max, timeout }),
        5 => picks().prop_map(Op::Delete),
        2 => vec(picks(), 1..=BATCH_MAX).prop_map(Op::DeleteBatch),
        4 => (picks(), changes()).prop_map(|(pick, timeout)| Op::Change(pick, timeout)),
        1 => vec((picks(), changes()), 1..=BATCH_MAX).prop_map(Op::ChangeBatch),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let pass = prop_oneof![
        2 => Just(Duration::ZERO),
        6 => (1..100u64).prop_map(ms),
        5 => (1..120u64).prop_map(secs),
        2 => (1..13u64).prop_map(hours),
        1 => (1..3u64).prop_map(days),
        1 => (1..2u64).prop_map(days),
    ];
    prop_oneof![
        12 => (proptest::option::weighted(0.8, 0..WORKERS), vec(ops(), 1..6))
            .prop_map(|(worker, ops)| Step::Work { worker, ops }),
        4 => pass.prop_map(Step::Pass),
        1 => timeouts().prop_map(Step::Advance),
        1 => (0..WORKERS, 0..PARTITIONS).prop_map(|(worker, home)| Step::Replace { worker, home }),
    ]
}

pub(crate) fn scripts() -> impl Strategy<Value = Script> {
    (
        1..=PARTITIONS,
        vec(0..PARTITIONS, 1..=WORKERS),
        prop_oneof![
            3 => vec(steps(), 1..80),
            1 => vec(steps(), 80..400),
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
        10 => Step::Advance(choose_timeout(bytes)?),
        _ => Step::Replace {
            worker: bytes.int_in_range(0..=WORKERS - 1)?,
            home: bytes.int_in_range(0..=PARTITIONS - 1)?,
        },
    })
}

fn choose_op(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Op> {
    let change = |bytes: &mut Unstructured<'_>| Ok((choose_pick(bytes)?, choose_change(bytes)?));
    Ok(match bytes.int_in_range(0..=12u8)? {
        0 => Op::Send {
            length: choose_length(bytes)?,
        },
        1 => Op::SendBatch {
            lengths: choose_batch(bytes, choose_length)?,
        },
        2 => Op::SendMessages(choose_batch(bytes, choose_parcel)?),
        3..=5 => Op::Receive {
            from: choose_queue(bytes)?,
            max: bytes.int_in_range(1..=BATCH_MAX)?,
            timeout: choose_option(bytes, choose_timeout)?,
        },
        6 => Op::Purge(choose_queue(bytes)?),
        7 => Op::Configure(choose_setting(bytes)?),
        8 | 9 => Op::Delete(choose_pick(bytes)?),
        10 => Op::DeleteBatch(choose_batch(bytes, choose_pick)?),
        11 => change(bytes).map(|(pick, timeout)| Op::Change(pick, timeout))?,
        _ => Op::ChangeBatch(choose_batch(bytes, change)?),
    })
}

fn choose_length(bytes: &mut Unstructured<'_>) -> arbitrary::Result<usize> {
    Ok(match bytes.int_in_range(0..=3u8)? {
        0 | 1 => bytes.int_in_range(8..=40)?,
        2 => bytes.int_in_range(1_000..=1_030)?,
        _ => bytes.int_in_range(8..=6_000)?,
    })
}

fn choose_delay(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Duration> {
    Ok(match bytes.int_in_range(0..=3u8)? {
        0 => Duration::ZERO,
        1 => ms(bytes.int_in_range(1..=100)?),
        2 => secs(bytes.int_in_range(1..=900)?),
        _ => DELAY_MAX + ms(bytes.int_in_range(0..=1)?),
    })
}

fn choose_parcel(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Parcel> {
    Ok(Parcel {
        length: choose_length(bytes)?,
        delay: choose_option(bytes, choose_delay)?,
        extras: bytes.int_in_range(0..=7)?,
    })
}

fn choose_pick(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Pick> {
    Ok(match bytes.int_in_range(0..=3u8)? {
        0 | 1 => Pick::Recent(bytes.int_in_range(0..=12)?),
        2 => Pick::Any(bytes.arbitrary::<u16>()?.into()),
        _ => Pick::Stale(bytes.arbitrary::<u16>()?.into()),
    })
}

fn choose_setting(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Change> {
    Ok(match bytes.int_in_range(0..=4u8)? {
        0 => Change::Delay(choose_delay(bytes)?.min(DELAY_MAX)),
        1 => Change::VisibilityTimeout(choose_timeout(bytes)?),
        2 => Change::Retention(*bytes.choose(&[days(4), hours(2), secs(60)])?),
        3 => Change::MaxReceives(choose_option(bytes, |bytes| bytes.int_in_range(1..=4))?),
        _ => Change::InFlightMax(choose_option(bytes, |bytes| bytes.int_in_range(0..=40))?),
    })
}

// The model.

/// So many messages to be moved or removed a receive gets past, whatever lies behind them (the documents say: a hundred).
const PASSED: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Visible,
    InFlight {
        due: u64,
    },
    Delayed {
        due: u64,
    },
    Deleted,
    Purged,
    /// Its retention was over, and it has been seen to be gone.
    Lapsed,
}

#[derive(Debug)]
struct Known {
    id: MessageId,
    parcel: Parcel,
    sent: u64,
    first_received: u64,
    last_received: u64,
    receives: u32,
    state: State,
    /// Where it is.
    queue: usize,
}

#[derive(Debug)]
struct Model {
    now: u64,
    /// Of the first queue; the other one keeps everything for the longest time there is.
    config: QueueConfig,
    messages: Vec<Known>,
    by_id: HashMap<MessageId, usize>,
    /// Every handle given.
    handles: Vec<Handle>,
    received: [u64; 2],
    released: [u64; 2],
    moved: u64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            now: 0,
            config: QueueConfig {
                retention: RETENTION_MAX,
                in_flight_max: None,
                ..QueueConfig::default()
            },
            messages: Vec::new(),
            by_id: HashMap::new(),
            handles: Vec::new(),
            received: [0; 2],
            released: [0; 2],
            moved: 0,
        }
    }
}

/// What is in one queue.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    visible: u64,
    in_flight: u64,
    delayed: u64,
    /// Of those whose retention is over, and who may have been removed or not.
    open: u64,
}

/// The extras that a parcel of this number has.
fn extras_of(number: u64, extras: u8) -> (Option<String>, Option<String>, Option<String>) {
    let has = |bit: u8, text: String| (extras & bit != 0).then_some(text);
    (
        has(1, format!("{}", number * 31)),
        has(2, format!("group-{}", number % 5)),
        has(4, format!("Root={number:x}")),
    )
}

impl Model {
    fn retention(&self, queue: usize) -> u64 {
        if queue == SOURCE {
            whole_ms(self.config.retention)
        } else {
            whole_ms(RETENTION_MAX)
        }
    }

    fn is_there(&self, known: &Known) -> bool {
        matches!(
            known.state,
            State::Visible | State::InFlight { .. } | State::Delayed { .. }
        )
    }

    /// Whether its retention is over, so that it may be gone, and is not to be received in any case.
    fn is_open(&self, known: &Known) -> bool {
        self.is_there(known) && known.sent + self.retention(known.queue) <= self.now
    }

    fn is_visible(&self, known: &Known) -> bool {
        match known.state {
            State::Visible => true,
            State::InFlight { due } | State::Delayed { due } => due <= self.now,
            _ => false,
        }
    }

    /// Whether a receive would move it.
    fn is_worn_out(&self, known: &Known) -> bool {
        let redrive = self.config.redrive.as_ref();
        known.queue == SOURCE && redrive.is_some_and(|redrive| known.receives >= redrive.max_receives)
    }

    fn is_deliverable(&self, known: &Known) -> bool {
        self.is_visible(known) && !self.is_open(known) && !self.is_worn_out(known)
    }

    fn within(&self, queue: usize) -> impl Iterator<Item = &Known> {
        self.messages
            .iter()
            .filter(move |known| known.queue == queue && self.is_there(known))
    }

    fn tally(&self, queue: usize) -> Tally {
        let mut tally = Tally::default();
        for known in self.within(queue) {
            if self.is_open(known) {
                tally.open += 1;
            } else if self.is_visible(known) {
                tally.visible += 1;
            } else if matches!(known.state, State::InFlight { .. }) {
                tally.in_flight += 1;
            } else {
                tally.delayed += 1;
            }
        }
        tally
    }

    fn count(&self, state: State) -> u64 {
        self.messages.iter().filter(|known| known.state == state).count() as u64
    }

    fn next_due(&self, queue: usize) -> Option<u64> {
        self.within(queue)
            .filter(|known| !self.is_open(known))
            .filter_map(|known| match known.state {
                State::InFlight { due } | State::Delayed { due } => Some(due),
                _ => None,
            })
            .min()
    }

    /// Whether it is so old that it may find its message, or not if that has been put elsewhere. SQS refuses it.
    fn is_void(&self, handle: Handle) -> bool {
        self.is_there(&self.messages[handle.message]) && handle.at + whole_ms(VISIBILITY_MAX) <= self.now
    }

    fn sent(&mut self, id: MessageId, parcel: Parcel) {
        assert!(
            self.by_id.insert(id, self.messages.len()).is_none(),
            "an id given twice"
        );
        let delay = parcel.delay.unwrap_or(self.config.delay);
        let state = match whole_ms(delay) {
            0 => State::Visible,
            delay => State::Delayed {
                due: self.now + delay + 1,
            },
        };
        self.messages.push(Known {
            id,
            parcel,
            sent: self.now,
            first_received: 0,
            last_received: 0,
            receives: 0,
            state,
            queue: SOURCE,
        });
        tally(Seen::Sent);
        if state != State::Visible {
            tally(Seen::SentDelayed);
        }
        if self.messages.len() == 600 {
            tally(Seen::SeveralSegments);
        }
        if parcel.length > 1024 {
            tally(Seen::SentLarge);
        }
    }

    /// Whether a receive may be refused for too many messages in flight, and whether it must.
    fn is_crowded(&self, queue: usize, timeout: u64) -> (bool, bool) {
        let limit = self
            .config
            .in_flight_max
            .filter(|_| queue == SOURCE && timeout > 0);
        let Some(limit) = limit else { return (false, false) };
        let is_leased = |known: &&Known| matches!(known.state, State::InFlight { due } if due > self.now);
        let at_most = self.within(queue).filter(is_leased).count() as u64;
        let at_least = self.tally(queue).in_flight;
        (at_most >= limit, at_least >= limit)
    }

    fn received(
        &mut self,
        queue: usize,
        max: usize,
        timeout: Option<Duration>,
        answer: Result<Vec<Message>, ReceiveError>,
    ) {
        let timeout = whole_ms(timeout.unwrap_or(if queue == SOURCE {
            self.config.visibility_timeout
        } else {
            QueueConfig::default().visibility_timeout
        }));
        let (may, must) = self.is_crowded(queue, timeout);
        let messages = match answer {
            Ok(messages) => {
                assert!(!must, "more are in flight than may be");
                messages
            }
            Err(error) => {
                assert!(
                    matches!(error, ReceiveError::TooManyInFlight { .. }) && may,
                    "{error}"
                );
                tally(Seen::ReceiveRefused);
                return;
            }
        };
        assert!(messages.len() <= max);
        let (mut deliverable, mut passed) = (0, 0);
        for known in self.within(queue).filter(|known| self.is_visible(known)) {
            if self.is_deliverable(known) {
                deliverable += 1;
            } else {
                passed += 1;
            }
        }
        assert!(messages.len() <= deliverable);
        if passed <= PASSED {
            assert_eq!(
                messages.is_empty(),
                deliverable == 0,
                "{} messages came, {deliverable} could",
                messages.len(),
            );
        }
        for message in &messages {
            self.delivered(queue, timeout, message);
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
        self.received[queue] += messages.len() as u64;
        if let Some(limit) = self.config.in_flight_max
            && queue == SOURCE
            && timeout > 0
            && !messages.is_empty()
        {
            assert!(self.tally(queue).in_flight <= limit, "it took more than it may");
        }
    }

    fn delivered(&mut self, queue: usize, timeout: u64, message: &Message) {
        let now = self.now;
        let at = number_of(message.body()) as usize;
        let known = &self.messages[at];
        // A message that comes twice in one receive fails here or by its receive count.
        assert!(self.is_deliverable(known), "{known:?} was received at {now}");
        assert_eq!(known.queue, queue, "{known:?}");
        match known.state {
            State::InFlight { .. } => tally(Seen::ReceivedAfterExpiry),
            State::Delayed { .. } => tally(Seen::ReceivedAfterDelay),
            _ => {}
        }
        if queue == DEAD {
            tally(Seen::ReceivedDead);
        }
        let known = &mut self.messages[at];
        known.receives += 1;
        if known.receives == 1 {
            known.first_received = now;
        }
        known.last_received = now;
        known.state = match timeout {
            0 => State::Visible,
            timeout => State::InFlight {
                due: now + timeout + 1,
            },
        };
        assert_eq!(message.receive_count(), known.receives);
        assert_eq!(message.message_id(), known.id);
        assert_eq!(message.body().len(), known.parcel.length);
        assert_eq!(message.sent_at(), Millis::new(known.sent));
        assert_eq!(message.first_received_at(), Millis::new(known.first_received));
        let (value, group, trace) = extras_of(at as u64, known.parcel.extras);
        let attribute = value.as_deref().map(|value| Attribute::number("n", value));
        assert!(message.attributes().eq(attribute));
        assert_eq!(message.message_group(), group.as_deref());
        assert_eq!(message.trace_header(), trace.as_deref());
        assert_eq!(message.dead_letter_source(), (queue == DEAD).then_some("model"));
        let receives = known.receives;
        self.handles.push(Handle {
            receipt: message.receipt_handle(),
            message: at,
            receives,
            queue,
            at: now,
        });
        tally(match (receives, timeout) {
            (1, 0) => Seen::Glimpsed,
            (1, _) => Seen::Received,
            (_, 0) => Seen::GlimpsedAgain,
            (_, _) => Seen::ReceivedAgain,
        });
    }

    /// The newest handles of the messages that a receive from the first queue may have moved.
    fn perhaps_moved(&self) -> Vec<Handle> {
        let mut newest = HashMap::new();
        for handle in &self.handles {
            newest.insert(handle.message, *handle);
        }
        self.messages
            .iter()
            .enumerate()
            .filter(|(_, known)| self.is_visible(known) && self.is_worn_out(known) && !self.is_open(known))
            .map(|(at, _)| newest[&at])
            .collect()
    }

    fn has_moved(&mut self, handle: Handle) {
        let known = &mut self.messages[handle.message];
        known.queue = DEAD;
        known.state = State::Visible;
        self.moved += 1;
        tally(Seen::Moved);
    }

    fn purged(&mut self, queue: usize, answer: u64) {
        let tally_before = self.tally(queue);
        let certain = tally_before.visible + tally_before.in_flight + tally_before.delayed;
        assert!(
            (certain..=certain + tally_before.open).contains(&answer),
            "{answer}"
        );
        for at in 0..self.messages.len() {
            let known = &self.messages[at];
            if known.queue == queue && self.is_there(known) {
                self.messages[at].state = if self.is_open(known) {
                    State::Lapsed
                } else {
                    tally(Seen::Purged);
                    State::Purged
                };
            }
        }
    }
}

impl Oracle for Model {
    type Pick = Pick;

    fn pick(&self, pick: Self::Pick) -> Option<Handle> {
        if self.handles.is_empty() {
            return None;
        }
        let count = self.handles.len();
        let at = match pick {
            Pick::Recent(back) => count - 1 - back.min(count - 1),
            Pick::Any(at) => at % count,
            Pick::Stale(from) => (0..count).map(|step| (from % count + step) % count).find(|&at| {
                let handle = self.handles[at];
                let known = &self.messages[handle.message];
                self.is_there(known) && known.receives > handle.receives
            })?,
        };
        let handle = self.handles[at];
        (!self.is_void(handle)).then_some(handle)
    }

    fn learn(&mut self, handle: Handle, is_gone: bool) {
        let known = &self.messages[handle.message];
        if known.queue == handle.queue && self.is_open(known) && is_gone {
            self.messages[handle.message].state = State::Lapsed;
            tally(Seen::HandleLapsed);
        }
    }

    fn deleted_by(&mut self, handle: Handle) -> Result<Deletion, DeleteError> {
        let now = self.now;
        let known = &mut self.messages[handle.message];
        if known.queue != handle.queue || !matches!(known.state, State::Visible | State::InFlight { .. }) {
            tally(Seen::DeleteGone);
            return Ok(Deletion::Gone);
        }
        if known.receives != handle.receives {
            tally(Seen::DeleteStale);
            return Ok(Deletion::ReceivedAgain);
        }
        tally(match known.state {
            State::InFlight { due } if due <= now => Seen::DeleteExpired,
            State::InFlight { .. } => Seen::DeleteLeased,
            _ => Seen::DeleteVisible,
        });
        known.state = State::Deleted;
        Ok(Deletion::Deleted)
    }

    fn changed_by(
        &mut self,
        handle: Handle,
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
        let known = &self.messages[handle.message];
        if known.queue != handle.queue || !self.is_there(known) {
            tally(Seen::ChangeGone);
            return Err(ChangeVisibilityError::Gone);
        }
        if known.receives != handle.receives {
            tally(Seen::ChangeStale);
            return Err(ChangeVisibilityError::ReceivedAgain);
        }
        if self.is_visible(known) {
            tally(Seen::ChangeLeaseOver);
            return Ok(VisibilityChange::LeaseOver);
        }
        let known = &mut self.messages[handle.message];
        let timeout = whole_ms(timeout);
        if timeout == 0 {
            tally(Seen::Released);
            self.released[handle.queue] += 1;
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

struct Pair {
    time: ManualClock,
    broker: Broker,
    queues: [Queue; 2],
    workers: Vec<Worker>,
    model: Model,
}

impl Pair {
    fn new(script: &Script) -> Self {
        let (time, broker) = manual_with(Broker::builder().partitions(script.partitions));
        let model = Model::default();
        let keeps = QueueConfig {
            retention: RETENTION_MAX,
            in_flight_max: None,
            ..QueueConfig::default()
        };
        let dead = queue_with(&broker, "dead", keeps);
        let queues = [queue_with(&broker, "model", model.config.clone()), dead];
        let workers = script
            .homes
            .iter()
            .map(|&home| broker.worker_at(home % script.partitions).expect("a partition"))
            .collect();
        Self {
            time,
            broker,
            queues,
            workers,
            model,
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
                self.model.now += by.as_millis() as u64;
                tally(Seen::Passed);
            }
            Step::Advance(ahead) => {
                let now = self.model.now;
                for (at, queue) in self.queues.iter().enumerate() {
                    let next = queue.advance(Millis::new(now + whole_ms(*ahead)));
                    assert_eq!(next, queue.next_due());
                    // What was due is visible now, so no hint lies in the past.
                    assert!(
                        next.is_none_or(|next| next > Millis::new(now)),
                        "{next:?} at {now}"
                    );
                    let (counts, tally) = (queue.counts(), self.model.tally(at));
                    let exactly =
                        |count: u64, certain: u64| (certain..=certain + tally.open).contains(&count);
                    assert!(exactly(counts.visible, tally.visible), "{counts:?}, {tally:?}");
                    assert!(
                        exactly(counts.in_flight, tally.in_flight),
                        "{counts:?}, {tally:?}"
                    );
                    assert!(exactly(counts.delayed, tally.delayed), "{counts:?}, {tally:?}");
                }
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
                tally(Seen::Replaced);
            }
        }
        self.check();
    }

    fn work(model: &mut Model, broker: &Broker, queues: &[Queue; 2], via: &Via<'_>, op: &Op) {
        let queue = &queues[SOURCE];
        match op {
            Op::Send { length } => {
                let body = numbered(model.messages.len() as u64, *length);
                let sent = match via {
                    Via::Turn(turn) => turn.send(queue, &body),
                    Via::Queue => queue.send(&body),
                };
                model.sent(sent.expect("room").message_id(), plain(*length));
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
                    model.sent(sent.expect("room").message_id(), plain(length));
                }
            }
            Op::SendMessages(parcels) => Self::send_parcels(model, queue, via, parcels),
            Op::Receive { from, max, timeout } => {
                let queue = &queues[*from];
                let answer = via.receive(queue, *max, *timeout);
                model.received(*from, *max, *timeout, answer);
                if *from == SOURCE {
                    Self::find_moved(model, queue);
                }
            }
            Op::Delete(pick) => delete(model, queues, via, *pick),
            Op::DeleteBatch(picks) => delete_batch(model, queues, via, picks),
            Op::Change(pick, timeout) => change(model, queues, via, (*pick, *timeout)),
            Op::ChangeBatch(changes) => change_batch(model, queues, via, changes),
            Op::Purge(which) => {
                let purged = queues[*which].purge().expect("there");
                model.purged(*which, purged);
            }
            Op::Configure(change) => {
                let config = &mut model.config;
                match change.clone() {
                    Change::Delay(delay) => config.delay = delay,
                    Change::VisibilityTimeout(timeout) => config.visibility_timeout = timeout,
                    Change::Retention(retention) => config.retention = config.retention.min(retention),
                    Change::MaxReceives(max) => config.redrive = max.map(|max| Redrive::new("dead", max)),
                    Change::InFlightMax(max) => config.in_flight_max = max,
                }
                broker.configure(queue, config.clone()).expect("valid");
                assert_eq!(queue.config(), *config);
                tally(Seen::Configured);
            }
        }
    }

    fn send_parcels(model: &mut Model, queue: &Queue, via: &Via<'_>, parcels: &[Parcel]) {
        // The numbers of those that are accepted follow each other.
        let mut next = model.messages.len() as u64;
        let contents: Vec<_> = parcels
            .iter()
            .map(|parcel| {
                let number = next;
                next += u64::from(is_accepted(parcel));
                (numbered(number, parcel.length), extras_of(number, parcel.extras))
            })
            .collect();
        let attributes: Vec<Vec<_>> = contents
            .iter()
            .map(|(_, (value, ..))| value.iter().map(|value| Attribute::number("n", value)).collect())
            .collect();
        let messages: Vec<_> = contents
            .iter()
            .zip(&attributes)
            .zip(parcels)
            .map(|(((body, (_, group, trace)), attributes), parcel)| {
                let mut message = Outgoing::new(body).attributes(attributes);
                if let Some(delay) = parcel.delay {
                    message = message.delay(delay);
                }
                if let Some(group) = group {
                    message = message.message_group(group);
                }
                if let Some(trace) = trace {
                    message = message.trace_header(trace);
                }
                message
            })
            .collect();
        for (sent, parcel) in via.send(queue, &messages).into_iter().zip(parcels) {
            match sent {
                Ok(sent) => {
                    assert!(is_accepted(parcel), "{parcel:?}");
                    model.sent(sent.message_id(), *parcel);
                }
                Err(error) => {
                    assert!(matches!(error, SendError::Delay { .. }), "{error}");
                    assert!(!is_accepted(parcel), "{parcel:?}");
                    tally(Seen::SendRefused);
                }
            }
        }
    }

    /// Asks which messages a receive has moved: of one that is still there, the newest handle says that its lease is over,
    /// unless the handle is so old that it is void.
    fn find_moved(model: &mut Model, queue: &Queue) {
        let everything = PeekFilter {
            max: usize::MAX,
            body_bytes: 0,
            ..PeekFilter::default()
        };
        let there: HashSet<_> = queue.peek(&everything).iter().map(Peeked::message_id).collect();
        for handle in model.perhaps_moved() {
            let is_there = there.contains(&model.messages[handle.message].id);
            match queue.change_visibility(&handle.receipt, Duration::ZERO) {
                Ok(VisibilityChange::LeaseOver) => assert!(is_there),
                Err(ChangeVisibilityError::Gone) if is_there => assert!(model.is_void(handle)),
                Err(ChangeVisibilityError::Gone) => model.has_moved(handle),
                other => panic!("{other:?}"),
            }
        }
    }

    /// What must hold between any two steps.
    fn check(&self) {
        let model = &self.model;
        for (at, queue) in self.queues.iter().enumerate() {
            let (counts, tally) = (queue.counts(), model.tally(at));
            // Leases and delays that are over but unnoticed count as before, and only those may.
            let Tally {
                visible,
                in_flight,
                delayed,
                open,
            } = tally;
            assert!(counts.visible <= visible + open, "{counts:?}, {tally:?}");
            assert!(
                counts.in_flight >= in_flight && counts.delayed >= delayed,
                "{counts:?}, {tally:?}"
            );
            let present = counts.visible + counts.in_flight + counts.delayed;
            let certain = visible + in_flight + delayed;
            assert!(
                (certain..=certain + open).contains(&present),
                "{counts:?}, {tally:?}"
            );
            assert_eq!(
                queue.census(),
                (counts.visible, counts.in_flight, counts.delayed),
                "counted by operations, and by looking"
            );
            assert_balanced(queue);
            assert_eq!(counts.received, model.received[at]);
            assert_eq!(counts.released, model.released[at]);
            let next = queue.next_due();
            if let Some(due) = model.next_due(at)
                // If the sweep has made it visible, there is nothing left to be due.
                && due > model.now
            {
                assert!(
                    next.is_some_and(|next| next <= Millis::new(due)),
                    "something is due at {due}, and the queue would look at {next:?}"
                );
            }
            if counts.in_flight + counts.delayed > in_flight + delayed + open {
                assert!(
                    next.is_some_and(|next| next <= Millis::new(model.now)),
                    "{next:?}"
                );
            }
        }
        let [source, dead] = self.queues.each_ref().map(Queue::counts);
        assert_eq!(source.sent, model.messages.len() as u64);
        assert_eq!((source.moved_out, dead.moved_in), (model.moved, model.moved));
        assert_eq!(source.deleted + dead.deleted, model.count(State::Deleted));
        assert!(source.purged + dead.purged >= model.count(State::Purged));
        let memory = self.broker.memory();
        assert!(memory.used >= memory.limbo + memory.pooled, "{memory:?}");
    }

    /// Everything that is left comes once more, and then there is nothing.
    fn drain(&mut self) {
        let model = &mut self.model;
        self.time.advance(days(1));
        model.now += days(1).as_millis() as u64;
        let lift = Op::Configure(Change::InFlightMax(None));
        Self::work(model, &self.broker, &self.queues, &Via::Queue, &lift);
        for from in [SOURCE, DEAD] {
            // Bounded: each receive delivers, moves or removes something.
            while self.queues[from].census() != (0, 0, 0) {
                let before = model.handles.len();
                let receive = Op::Receive {
                    from,
                    max: 10,
                    timeout: Some(VISIBILITY_MAX),
                };
                Self::work(model, &self.broker, &self.queues, &Via::Queue, &receive);
                for handle in model.handles.clone().split_off(before) {
                    let deleted = self.queues[from].delete(&handle.receipt);
                    assert_eq!(deleted, model.deleted_by(handle));
                    assert_eq!(deleted, Ok(Deletion::Deleted));
                }
            }
        }
        let left = model.messages.iter().filter(|known| model.is_there(known));
        assert!(left.clone().all(|known| model.is_open(known)), "lost: {left:?}");
        self.check_drained();
    }

    fn check_drained(&self) {
        self.check();
        // Hints of leases that are no more are gone at the latest when their time has come.
        self.time.advance(days(1));
        for queue in &self.queues {
            assert_eq!(queue.advance(Millis::MAX), None);
        }
    }
}

/// A body and nothing else.
fn plain(length: usize) -> Parcel {
    Parcel {
        length,
        delay: None,
        extras: 0,
    }
}

fn is_accepted(parcel: &Parcel) -> bool {
    parcel.delay.is_none_or(|delay| delay <= DELAY_MAX)
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
    SentDelayed
    SendRefused
    ReceivedAfterDelay
    ReceivedDead
    ReceiveRefused
    Moved
    Purged
    HandleLapsed
    Configured
}
