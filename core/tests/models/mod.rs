//! The ledger beside naive models of it, and what the models share: a vocabulary of handles, two ways to call, what was seen.
//!
//! A script says what happens, drawn by proptest or read from bytes; `play` does it to the ledger and to the model, and
//! panics where the two disagree.
#![allow(dead_code, reason = "each test file uses one model")]

use std::{env, fmt, thread, time::Duration};

use crate::common::{days, hours, ms, secs};
use arbitrary::Unstructured;
use epoq::{
    ChangeVisibilityError, DeleteError, Deletion, MemoryUse, Message, Outgoing, Queue, ReceiptHandle,
    ReceiveError, SendError, Sent, Turn, VisibilityChange,
    limits::{BATCH_MAX, VISIBILITY_MAX},
};
use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngSeed, TestError, TestRunner},
};

/// What a model has come across: a test that never sees a case says nothing about it.
macro_rules! seen {
    ($($kind:ident)*) => {
        #[derive(Debug, Clone, Copy)]
        enum Seen { $($kind),* }
        const KINDS: &[Seen] = &[$(Seen::$kind),*];
        static SEEN: [AtomicU64; KINDS.len()] = [const { AtomicU64::new(0) }; KINDS.len()];

        fn tally(seen: Seen) {
            SEEN[seen as usize].fetch_add(1, Ordering::Relaxed);
        }

        /// Each case and how often it was met.
        pub(crate) fn seen() -> impl Iterator<Item = (String, u64)> {
            KINDS.iter().map(|&kind| {
                let count = SEEN[kind as usize].load(Ordering::Relaxed);
                (format!("{kind:?}"), count)
            })
        }
    };
}

pub(crate) mod fifo;
pub(crate) mod handles;
pub(crate) mod standard;

/// The queue that is sent to.
pub(crate) const SOURCE: usize = 0;
/// Its dead-letter queue.
pub(crate) const DEAD: usize = 1;

/// A timeout as the ledger counts it.
fn whole_ms(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_nanos().div_ceil(1_000_000)).expect("small")
}

/// A handle that a receive gave, and what the model knows of it.
#[derive(Debug, Clone, Copy)]
struct Handle {
    receipt: ReceiptHandle,
    message: usize,
    receives: u32,
    queue: usize,
    at: u64,
}

/// Two ways to say the same.
enum Via<'a> {
    Turn(&'a Turn<'a>),
    Queue,
}

impl Via<'_> {
    /// One message alone, several as a batch.
    fn send<'q>(&self, queue: &'q Queue, messages: &[Outgoing<'_>]) -> Vec<Result<Sent<'q>, SendError>> {
        if let [message] = messages {
            return vec![match self {
                Self::Turn(turn) => turn.send_message(queue, message),
                Self::Queue => queue.send_message(message),
            }];
        }
        let sent = match self {
            Self::Turn(turn) => turn.send_messages(queue, messages),
            Self::Queue => queue.send_messages(messages),
        };
        let sent: Vec<_> = sent.expect("a valid batch").into_iter().collect();
        assert_eq!(sent.len(), messages.len());
        sent
    }

    fn receive(
        &self,
        queue: &Queue,
        max: usize,
        timeout: Option<Duration>,
    ) -> Result<Vec<Message>, ReceiveError> {
        match self {
            Self::Turn(turn) => {
                let received = turn.receive(queue, max, timeout)?;
                Ok(received.iter().map(|delivery| delivery.to_message()).collect())
            }
            Self::Queue => queue.receive(max, timeout),
        }
    }

    fn delete(&self, queue: &Queue, handle: &ReceiptHandle) -> Result<Deletion, DeleteError> {
        match self {
            Self::Turn(turn) => turn.delete(queue, handle),
            // The long way round, as a handle from outside comes.
            Self::Queue => {
                let text = queue.encode_handle(handle);
                queue.delete(&queue.decode_handle(&text).expect("ours"))
            }
        }
    }

    fn delete_batch(&self, queue: &Queue, handles: &[ReceiptHandle]) -> Vec<Result<Deletion, DeleteError>> {
        let deleted = match self {
            Self::Turn(turn) => turn.delete_batch(queue, handles),
            Self::Queue => queue.delete_batch(handles),
        };
        deleted.expect("a valid batch").to_vec()
    }

    fn change(
        &self,
        queue: &Queue,
        handle: &ReceiptHandle,
        timeout: Duration,
    ) -> Result<VisibilityChange, ChangeVisibilityError> {
        match self {
            Self::Turn(turn) => turn.change_visibility(queue, handle, timeout),
            Self::Queue => queue.change_visibility(handle, timeout),
        }
    }

    fn change_batch(
        &self,
        queue: &Queue,
        changes: &[(ReceiptHandle, Duration)],
    ) -> Vec<Result<VisibilityChange, ChangeVisibilityError>> {
        let changed = match self {
            Self::Turn(turn) => turn.change_visibility_batch(queue, changes),
            Self::Queue => queue.change_visibility_batch(changes),
        };
        changed.expect("a valid batch").to_vec()
    }
}

/// What a model says of the operations with a handle.
trait Oracle {
    /// How a script names a handle.
    type Pick: Copy;

    /// The handle meant, unless there is none that says anything.
    fn pick(&self, pick: Self::Pick) -> Option<Handle>;

    /// The ledger has said whether the message is gone. One whose retention is over may be.
    fn learn(&mut self, handle: Handle, is_gone: bool);

    /// A delete happens: what it has to answer.
    fn deleted_by(&mut self, handle: Handle) -> Result<Deletion, DeleteError>;

    /// A change of visibility happens: what it has to answer.
    fn changed_by(
        &mut self,
        handle: Handle,
        timeout: Duration,
    ) -> Result<VisibilityChange, ChangeVisibilityError>;

    /// A call has deleted, or an entry of one has changed the visibility.
    fn settled(&mut self) {}
}

/// Deletes a message of either queue.
fn delete<O: Oracle>(oracle: &mut O, queues: &[Queue; 2], via: &Via<'_>, pick: O::Pick) {
    let Some(handle) = oracle.pick(pick) else { return };
    let deleted = via.delete(&queues[handle.queue], &handle.receipt);
    oracle.learn(handle, deleted == Ok(Deletion::Gone));
    assert_eq!(deleted, oracle.deleted_by(handle));
    oracle.settled();
}

/// Deletes messages, in a batch for each queue.
fn delete_batch<O: Oracle>(oracle: &mut O, queues: &[Queue; 2], via: &Via<'_>, picks: &[O::Pick]) {
    let handles: Vec<_> = picks.iter().filter_map(|&pick| oracle.pick(pick)).collect();
    for (at, queue) in queues.iter().enumerate() {
        let handles: Vec<_> = handles.iter().filter(|handle| handle.queue == at).collect();
        if handles.is_empty() {
            continue;
        }
        let bare: Vec<_> = handles.iter().map(|handle| handle.receipt).collect();
        let deleted = via.delete_batch(queue, &bare);
        assert_eq!(deleted.len(), handles.len());
        for (deleted, &&handle) in deleted.iter().zip(&handles) {
            oracle.learn(handle, *deleted == Ok(Deletion::Gone));
            assert_eq!(*deleted, oracle.deleted_by(handle));
        }
        oracle.settled();
    }
}

/// Changes the visibility of a message of either queue.
fn change<O: Oracle>(
    oracle: &mut O,
    queues: &[Queue; 2],
    via: &Via<'_>,
    (pick, timeout): (O::Pick, Duration),
) {
    let Some(handle) = oracle.pick(pick) else { return };
    let changed = via.change(&queues[handle.queue], &handle.receipt, timeout);
    oracle.learn(handle, changed == Err(ChangeVisibilityError::Gone));
    assert_eq!(changed, oracle.changed_by(handle, timeout));
    oracle.settled();
}

/// Changes the visibility of messages, in a batch for each queue.
fn change_batch<O: Oracle>(
    oracle: &mut O,
    queues: &[Queue; 2],
    via: &Via<'_>,
    changes: &[(O::Pick, Duration)],
) {
    let changes: Vec<_> = changes
        .iter()
        .filter_map(|&(pick, timeout)| Some((oracle.pick(pick)?, timeout)))
        .collect();
    for (at, queue) in queues.iter().enumerate() {
        let changes: Vec<_> = changes.iter().filter(|(handle, _)| handle.queue == at).collect();
        if changes.is_empty() {
            continue;
        }
        let bare: Vec<_> = changes
            .iter()
            .map(|(handle, timeout)| (handle.receipt, *timeout))
            .collect();
        let changed = via.change_batch(queue, &bare);
        assert_eq!(changed.len(), changes.len());
        for (changed, &&(handle, timeout)) in changed.iter().zip(&changes) {
            oracle.learn(handle, *changed == Err(ChangeVisibilityError::Gone));
            assert_eq!(*changed, oracle.changed_by(handle, timeout));
            oracle.settled();
        }
    }
}

/// What is left of a broker that has gone.
fn assert_freed(memory: MemoryUse) {
    assert_eq!(
        (memory.used, memory.limbo, memory.pooled),
        (0, 0, 0),
        "all memory was freed, and once"
    );
}

/// Plays so many scripts, or as many as `PROPTEST_CASES` says, on as many threads as there are cores, eight at most. Each case must have been seen more than once in `rarity`
/// scripts, if they were not fewer.
pub(crate) fn run<R: Strategy<Value: fmt::Debug>>(
    cases: u32,
    scripts: impl Fn() -> R + Sync,
    play: impl Fn(&R::Value) + Sync,
    seen: impl Iterator<Item = (String, u64)>,
    rarity: u32,
) {
    let asked = env::var("PROPTEST_CASES")
        .ok()
        .and_then(|asked| asked.parse().ok());
    let played = asked.unwrap_or(cases);
    let threads = thread::available_parallelism().map_or(1, |cores| cores.get().min(8) as u32);
    // A script is sequential; the scripts have nothing to do with each other.
    let share = |thread: u32| {
        let config = Config::default();
        let rng_seed = match config.rng_seed {
            RngSeed::Fixed(seed) => RngSeed::Fixed(seed.wrapping_add(thread.into())),
            RngSeed::Random => RngSeed::Random,
        };
        let mut runner = TestRunner::new(Config {
            cases: played / threads + u32::from(thread < played % threads),
            max_shrink_iters: 20_000,
            failure_persistence: None,
            rng_seed,
            ..config
        });
        let result = runner.run(&scripts(), |script| {
            play(&script);
            Ok(())
        });
        match result {
            Ok(()) => None,
            Err(TestError::Fail(reason, script)) => Some(format!("{reason}\nby {script:#?}")),
            Err(error) => Some(error.to_string()),
        }
    };
    let failed = thread::scope(|scope| {
        let share = &share;
        let running: Vec<_> = (0..threads).map(|at| scope.spawn(move || share(at))).collect();
        running
            .into_iter()
            .find_map(|thread| thread.join().expect("a failed script is caught"))
    });
    if let Some(failed) = failed {
        panic!("{failed}");
    }
    for (kind, count) in seen {
        println!("{kind}: {count}");
        assert!(
            count > u64::from(played / rarity) || played < cases,
            "{kind} was hardly ever seen: {count}"
        );
    }
}

// Scripts from bytes, as a fuzzer makes them: each choice takes a few, and where none are left takes the first.

/// More steps than a fuzzer's script may have; the strategies' are shorter.
const STEPS_MAX: usize = 400;

/// Steps as long as there are bytes.
fn choose_steps<'b, T>(
    bytes: &mut Unstructured<'b>,
    mut step: impl FnMut(&mut Unstructured<'b>) -> arbitrary::Result<T>,
) -> arbitrary::Result<Vec<T>> {
    let mut steps = Vec::new();
    while !bytes.is_empty() && steps.len() < STEPS_MAX {
        steps.push(step(bytes)?);
    }
    Ok(steps)
}

/// One to ten of something.
fn choose_batch<'b, T>(
    bytes: &mut Unstructured<'b>,
    mut entry: impl FnMut(&mut Unstructured<'b>) -> arbitrary::Result<T>,
) -> arbitrary::Result<Vec<T>> {
    let count = bytes.int_in_range(1..=BATCH_MAX)?;
    (0..count).map(|_| entry(bytes)).collect()
}

/// One time in seven nothing.
fn choose_option<'b, T>(
    bytes: &mut Unstructured<'b>,
    some: impl FnOnce(&mut Unstructured<'b>) -> arbitrary::Result<T>,
) -> arbitrary::Result<Option<T>> {
    Ok(if bytes.ratio(6u8, 7)? {
        Some(some(bytes)?)
    } else {
        None
    })
}

/// A visibility timeout that is allowed.
fn choose_timeout(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Duration> {
    Ok(match bytes.int_in_range(0..=6u8)? {
        0 => Duration::ZERO,
        1 => ms(bytes.int_in_range(1..=100)?),
        2 | 3 => secs(bytes.int_in_range(1..=120)?),
        4 => hours(bytes.int_in_range(1..=11)?),
        5 => VISIBILITY_MAX - ms(bytes.int_in_range(0..=1)?),
        _ => Duration::from_nanos(bytes.int_in_range(1..=1_000_000_000)?),
    })
}

/// A visibility timeout, allowed or not.
fn choose_change(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Duration> {
    if bytes.ratio(1u8, 16)? {
        return Ok(VISIBILITY_MAX + ms(1));
    }
    choose_timeout(bytes)
}

/// How long nothing happens.
fn choose_pass(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Duration> {
    Ok(match bytes.int_in_range(0..=5u8)? {
        0 => ms(bytes.int_in_range(0..=1)?),
        1 => ms(bytes.int_in_range(1..=1_200)?),
        2 => secs(bytes.int_in_range(1..=120)?),
        3 => secs(bytes.int_in_range(290..=310)?),
        4 => hours(bytes.int_in_range(1..=12)?),
        _ => days(bytes.int_in_range(1..=2)?),
    })
}

/// One queue or the other, the first one more often.
fn choose_queue(bytes: &mut Unstructured<'_>) -> arbitrary::Result<usize> {
    Ok(if bytes.ratio(1u8, 7)? { DEAD } else { SOURCE })
}
