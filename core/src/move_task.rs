//! Message move tasks: messages go back from a dead-letter queue to where they came from, or to a queue of choice.
//!
//! A task is plain state. It has no thread; whoever calls [`Broker::advance`] or [`MoveTask::step`] drives it, and it goes
//! on where its last step ended.

use std::{collections::VecDeque, error::Error, fmt, sync::PoisonError, time::Duration};

use crate::{
    broker::{Broker, Names},
    clock::Millis,
    config::{
        BATCH_MAX, MOVE_RATE_MAX, MOVE_STEP_MAX, MOVE_TIME_MAX, MOVES_LISTED_MAX, MOVES_MAX, PUT_OFF_MS,
    },
    queue::{Queue, Relocated, Stop},
    receipt::QueueId,
    sync::{Arc, Mutex, MutexGuard, Weak},
};

/// A message move task's identity: unique in its broker's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MoveId(u64);

impl MoveId {
    /// The id of this number, to find a task whose number somebody has kept.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number, counted from 1.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for MoveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a message move task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MoveStatus {
    /// It moves messages when it is stepped.
    Running,
    /// Nothing visible was left in the source.
    Completed,
    /// It has been cancelled while a step was under way in another thread, which is about to end.
    Cancelling,
    /// It has been cancelled. What it had moved stays moved.
    Cancelled,
    /// It could not go on. What it had moved stays moved, the other messages are in the source.
    Failed(MoveFailure),
}

impl MoveStatus {
    const fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::Cancelling)
    }
}

/// Why a message move task could not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MoveFailure {
    /// A message is to go back to where it came from, and it was sent right here.
    CouldNotDetermineMessageSource,
    /// The destination has been deleted, or the queue that a message came from.
    DestinationDeleted,
    /// The source has been deleted.
    SourceDeleted,
    /// It took longer than `limit`.
    TookTooLong {
        /// The longest a task runs.
        limit: Duration,
    },
}

/// What there is to know about a message move task.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MoveReport {
    /// Its id.
    pub id: MoveId,
    /// The dead-letter queue that it empties.
    pub source: String,
    /// Where the messages go; `None` if each goes back to the queue it came from.
    pub destination: Option<String>,
    /// The most messages that it moves per second; `None` for as fast as it is stepped.
    pub rate: Option<u32>,
    /// How it stands.
    pub status: MoveStatus,
    /// Messages moved so far.
    pub moved: u64,
    /// Visible messages in the source when it was started (SQS's `ApproximateNumberOfMessagesToMove`).
    pub to_move: u64,
    /// When it was started.
    pub started_at: Millis,
}

/// Why a message move task was not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartMoveError {
    /// There is no queue of the source's name.
    NoSuchSource,
    /// There is no queue of the destination's name.
    NoSuchDestination,
    /// No queue has the source as its dead-letter queue.
    NotADeadLetterQueue,
    /// Source and destination are the same queue.
    SameQueue,
    /// Source and destination are both FIFO queues or both standard queues (SQS).
    QueueType,
    /// The rate is 1..=`limit` messages per second.
    Rate {
        /// What was asked for.
        given: u32,
        /// The highest there is.
        limit: u32,
    },
    /// A task of this source is running.
    AlreadyRunning,
    /// `limit` tasks of this broker are running.
    TooManyRunning {
        /// How many may run.
        limit: usize,
    },
}

/// Why message move tasks were not listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListMovesError {
    /// There is no queue of that name.
    NoSuchSource,
    /// A list has 1..=`limit` entries.
    Max {
        /// What was asked for.
        given: usize,
        /// The most there are.
        limit: usize,
    },
}

/// The message move task has ended, or has been cancelled before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoveNotRunning;

impl fmt::Display for MoveFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CouldNotDetermineMessageSource => {
                f.write_str("a message in the source queue did not come from another queue")
            }
            Self::DestinationDeleted => f.write_str("the destination queue has been deleted"),
            Self::SourceDeleted => f.write_str("the source queue has been deleted"),
            Self::TookTooLong { limit } => write!(f, "the task took longer than {limit:?}"),
        }
    }
}

impl fmt::Display for StartMoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchSource => f.write_str("the source queue does not exist"),
            Self::NoSuchDestination => f.write_str("the destination queue does not exist"),
            Self::NotADeadLetterQueue => f.write_str("the source queue is no queue's dead-letter queue"),
            Self::SameQueue => f.write_str("source and destination are the same queue"),
            Self::QueueType => f.write_str("source and destination are not of the same type"),
            Self::Rate { given, limit } => write!(f, "{given} messages per second: must be 1 to {limit}"),
            Self::AlreadyRunning => f.write_str("a move task of the source queue is running"),
            Self::TooManyRunning { limit } => {
                write!(f, "{limit} move tasks are running, the most there can be")
            }
        }
    }
}

impl fmt::Display for ListMovesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchSource => f.write_str("the source queue does not exist"),
            Self::Max { given, limit } => write!(f, "a list of {given} move tasks: must be 1 to {limit}"),
        }
    }
}

impl fmt::Display for MoveNotRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the move task is not running")
    }
}

impl Error for MoveFailure {}
impl Error for StartMoveError {}
impl Error for ListMovesError {}
impl Error for MoveNotRunning {}

/// A message move task (SQS's redrive). Cheap to clone; clones are the same task. Any thread may use it.
///
/// It goes on only while somebody calls [`Broker::advance`] or [`MoveTask::step`]; dropped, it stays its broker's task.
///
/// Each message is first published in its destination and then killed in the source, where nobody can receive it in the
/// meantime: at no moment is it in neither queue or can it be received from both. If the process stops between two steps
/// nothing is half done.
#[derive(Debug, Clone)]
pub struct MoveTask {
    task: Arc<Task>,
}

#[derive(Debug)]
struct Task {
    id: MoveId,
    source: QueueId,
    source_name: Box<str>,
    destination_name: Option<Box<str>>,
    rate: Option<u32>,
    to_move: u64,
    started_at: Millis,
    /// To find the queues that messages came from. Weak: the broker has us.
    names: Weak<Names>,
    /// Control plane: held to look and to note, never while messages move.
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    status: MoveStatus,
    moved: u64,
    /// The next message may go then, in microseconds of the clock.
    next_us: u64,
    /// A step is under way.
    is_stepping: bool,
    /// `None` once the task has ended.
    ends: Option<Ends>,
}

#[derive(Debug, Clone)]
struct Ends {
    source: Queue,
    destination: Option<Queue>,
}

/// How far a task that was not stepped in time may catch up, in microseconds.
const CATCH_UP_US: u64 = 100_000;

impl Progress {
    /// How many messages may go at `now_us`.
    fn allowance(&mut self, rate: Option<u32>, now_us: u64) -> usize {
        let Some(rate) = rate else {
            return if self.next_us <= now_us { MOVE_STEP_MAX } else { 0 };
        };
        self.next_us = self.next_us.max(now_us.saturating_sub(CATCH_UP_US));
        let Some(credit) = now_us.checked_sub(self.next_us) else {
            return 0;
        };
        let allowance = 1 + credit / interval_us(rate);
        MOVE_STEP_MAX.min(usize::try_from(allowance).unwrap_or(usize::MAX))
    }

    /// When it wants to be stepped next.
    fn next(&self, now: Millis) -> Millis {
        now.max(Millis::new(self.next_us.div_ceil(1000)))
    }

    /// Puts it down as ended. What it returns is to be dropped without the lock: it may be the last of a queue.
    fn end(&mut self, status: MoveStatus) -> Option<Ends> {
        self.status = status;
        self.ends.take()
    }
}

/// Time between two messages, rounded up: the rate is never exceeded.
fn interval_us(rate: u32) -> u64 {
    1_000_000u64.div_ceil(u64::from(rate.max(1)))
}

impl MoveTask {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> MoveId {
        self.task.id
    }

    /// How it stands. O(1).
    #[must_use]
    pub fn status(&self) -> MoveReport {
        let task = &*self.task;
        let progress = task.progress();
        MoveReport {
            id: task.id,
            source: task.source_name.to_string(),
            destination: task.destination_name.as_ref().map(ToString::to_string),
            rate: task.rate,
            status: progress.status,
            moved: progress.moved,
            to_move: task.to_move,
            started_at: task.started_at,
        }
    }

    /// Cancels the task, and says how many messages it had moved by then. What is moved stays moved. A step that is under way
    /// in another thread may still move what it has in hand, at most 10 messages. O(1).
    ///
    /// # Errors
    /// [`MoveNotRunning`] if it has ended, or has been cancelled before (SQS).
    pub fn cancel(&self) -> Result<u64, MoveNotRunning> {
        let mut progress = self.task.progress();
        if progress.status != MoveStatus::Running {
            return Err(MoveNotRunning);
        }
        let moved = progress.moved;
        let ends = if progress.is_stepping {
            progress.status = MoveStatus::Cancelling;
            None
        } else {
            progress.end(MoveStatus::Cancelled)
        };
        drop(progress);
        drop(ends);
        Ok(moved)
    }

    /// Moves what may be moved at `now`, at most 100 messages, and says when to call again; `None` once the task has ended. A
    /// `now` that the broker's clock has not reached counts as the clock's. If another thread is in a step of this task,
    /// this call leaves it to that one.
    ///
    /// With a rate, messages go at even intervals. Who calls late catches up, at most a tenth of a second's worth: in
    /// `t` seconds at most 1 + rate × (t + 0.1) messages go, and at most 1 + rate × t from the start on.
    ///
    /// O(partitions) for ten messages, and O(segments) to find that nothing is left.
    pub fn step(&self, now: Millis) -> Option<Millis> {
        let Begun {
            stepping,
            ends,
            now,
            allowance,
        } = match self.begin(now) {
            Ok(begun) => begun,
            Err(next) => return next,
        };
        let mut left = allowance;
        let mut known = Known::new(&self.task, ends.destination.as_ref());
        let mut stop = None;
        // Bounded in any case: what a batch takes may all be past its retention, and moves nothing.
        for _ in 0..MOVE_STEP_MAX {
            if left == 0 || stop.is_some() {
                break;
            }
            let batch = ends
                .source
                .relocate(left.min(BATCH_MAX), |source| known.route(source));
            left -= left.min(usize::try_from(batch.moved).unwrap_or(left));
            stop = batch.stop;
            if !self.note(batch) {
                break;
            }
        }
        // So that a task with a low rate need not wait for its next turn to learn that it is done.
        if stop.is_none() && !ends.source.has_visible() {
            stop = Some(Stop::Empty);
        }
        drop(stepping);
        self.conclude(stop, now)
    }

    /// Takes the step, or says when there will be one to take.
    fn begin(&self, now: Millis) -> Result<Begun<'_>, Option<Millis>> {
        let task = &*self.task;
        let mut progress = task.progress();
        let Some(ends) = progress.ends.clone() else {
            return Err(None);
        };
        let now = now.min(ends.source.clock_now());
        if progress.status != MoveStatus::Running {
            return Err(None);
        }
        if progress.is_stepping {
            return Err(Some(progress.next(now)));
        }
        if now.since(task.started_at) >= MOVE_TIME_MAX {
            let reason = MoveFailure::TookTooLong { limit: MOVE_TIME_MAX };
            let gone = progress.end(MoveStatus::Failed(reason));
            drop(progress);
            drop(gone);
            return Err(None);
        }
        let allowance = progress.allowance(task.rate, now.as_millis() * 1000);
        if allowance == 0 {
            return Err(Some(progress.next(now)));
        }
        progress.is_stepping = true;
        Ok(Begun {
            stepping: Stepping(task),
            ends,
            now,
            allowance,
        })
    }

    /// Notes what a batch has moved. Says whether to go on.
    fn note(&self, batch: Relocated) -> bool {
        let mut progress = self.task.progress();
        progress.moved += batch.moved;
        if let Some(rate) = self.task.rate {
            progress.next_us += batch.moved * interval_us(rate);
        }
        progress.status == MoveStatus::Running
    }

    fn conclude(&self, stop: Option<Stop>, now: Millis) -> Option<Millis> {
        let mut progress = self.task.progress();
        let mut gone = None;
        if progress.status == MoveStatus::Running {
            let failed = |why| Some(MoveStatus::Failed(why));
            let ended = match stop {
                None => None,
                Some(Stop::Full) => {
                    let later = (now.as_millis() + PUT_OFF_MS) * 1000;
                    progress.next_us = progress.next_us.max(later);
                    None
                }
                Some(Stop::Empty) => Some(MoveStatus::Completed),
                Some(Stop::NoSource) => failed(MoveFailure::CouldNotDetermineMessageSource),
                Some(Stop::NoTarget) => failed(MoveFailure::DestinationDeleted),
                Some(Stop::Deleted) => failed(MoveFailure::SourceDeleted),
            };
            if let Some(status) = ended {
                gone = progress.end(status);
            }
        }
        let next = (progress.status == MoveStatus::Running).then(|| progress.next(now));
        drop(progress);
        drop(gone);
        next
    }
}

impl Task {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_active(&self) -> bool {
        self.progress().status.is_active()
    }
}

/// A step to be made.
struct Begun<'t> {
    stepping: Stepping<'t>,
    ends: Ends,
    /// The step's moment, which the clock has reached.
    now: Millis,
    allowance: usize,
}

/// A step under way; over when it is dropped, however that comes.
struct Stepping<'t>(&'t Task);

impl Drop for Stepping<'_> {
    fn drop(&mut self) {
        let mut progress = self.0.progress();
        progress.is_stepping = false;
        let gone = if progress.status == MoveStatus::Cancelling {
            progress.end(MoveStatus::Cancelled)
        } else {
            None
        };
        drop(progress);
        drop(gone);
    }
}

/// Where messages go, as far as this step has found out.
struct Known<'t> {
    task: &'t Task,
    destination: Option<&'t Queue>,
    /// The source met last: mostly the next message came from there too.
    last: Option<Queue>,
}

impl<'t> Known<'t> {
    fn new(task: &'t Task, destination: Option<&'t Queue>) -> Self {
        Self {
            task,
            destination,
            last: None,
        }
    }

    fn route(&mut self, source: Option<&str>) -> Result<Queue, Stop> {
        if let Some(destination) = self.destination {
            return Ok(destination.clone());
        }
        let source = source.ok_or(Stop::NoSource)?;
        if let Some(last) = self.last.as_ref().filter(|last| last.name() == source) {
            return Ok(last.clone());
        }
        let names = self.task.names.upgrade().ok_or(Stop::NoTarget)?;
        let found = names.queues().get(source).cloned().ok_or(Stop::NoTarget)?;
        self.last = Some(found.clone());
        Ok(found)
    }
}

/// A broker's message move tasks, the newest first.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// Control plane. Taken after the lock of the names where both are.
    tasks: Mutex<Started>,
}

#[derive(Debug, Default)]
struct Started {
    last: u64,
    tasks: VecDeque<MoveTask>,
}

impl Moves {
    fn lock(&self) -> MutexGuard<'_, Started> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn active(&self) -> Vec<MoveTask> {
        let started = self.lock();
        let active = started.tasks.iter().filter(|task| task.task.is_active());
        active.cloned().collect()
    }

    /// How many are running.
    pub(crate) fn running(&self) -> usize {
        let started = self.lock();
        started.tasks.iter().filter(|task| task.task.is_active()).count()
    }
}

impl Started {
    /// Forgets ended tasks of queues that are gone, and all but the newest few of `source`.
    fn forget(&mut self, source: QueueId, exists: impl Fn(&Task) -> bool) {
        let mut of_source = 0;
        self.tasks.retain(|task| {
            let task = &*task.task;
            of_source += usize::from(task.source == source);
            // One more is about to come.
            let is_old = task.source == source && of_source >= MOVES_LISTED_MAX;
            task.is_active() || (!is_old && exists(task))
        });
    }
}

impl Broker {
    /// Starts a message move task: all messages that are visible in the dead-letter queue `source` go to the queue
    /// `destination`, or each back to the queue it came from, oldest first (roughly: one partition after another), at most
    /// `rate` (1..=500) a second. (SQS's `StartMessageMoveTask`.)
    ///
    /// They are new messages there: with a new id and a new time of sending, never received and with no dead-letter source,
    /// but with body, attributes, message group and trace header as they were. The destination's delay does not apply to them.
    /// Messages that are in flight or delayed in the source stay there. The task ends when nothing visible is left, which may
    /// be never if messages keep coming back; it fails after 36 hours. A destination without room is tried again every second;
    /// nothing is lost.
    ///
    /// The task has no thread: it goes on while somebody calls [`Broker::advance`]. O(queues).
    ///
    /// ```
    /// use std::time::Duration;
    /// use epoq::{Broker, MoveStatus, QueueConfig, Redrive};
    /// let broker = Broker::new();
    /// let failed = broker.create_queue("failed", QueueConfig::default())?;
    /// let redrive = Some(Redrive::new("failed", 1));
    /// let orders = broker.create_queue("orders", QueueConfig { redrive, ..QueueConfig::default() })?;
    /// orders.send(b"42 apples")?;
    /// orders.receive(1, Duration::ZERO)?; // and not deleted
    /// assert!(orders.receive(1, None)?.is_empty()); // moved
    ///
    /// let task = broker.start_message_move("failed", None, None)?;
    /// broker.advance(broker.now());
    /// assert_eq!(task.status().status, MoveStatus::Completed);
    /// assert_eq!(orders.receive(1, None)?[0].receive_count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`StartMoveError`]; nothing was started.
    pub fn start_message_move(
        &self,
        source: &str,
        destination: Option<&str>,
        rate: Option<u32>,
    ) -> Result<MoveTask, StartMoveError> {
        if let Some(given) = rate.filter(|rate| !(1..=MOVE_RATE_MAX).contains(rate)) {
            return Err(StartMoveError::Rate {
                given,
                limit: MOVE_RATE_MAX,
            });
        }
        // Before the locks: it may have to look at every message.
        let to_move = self.queue(source).map(|queue| queue.counts().visible);
        let queues = self.names().queues();
        let from = queues.get(source).ok_or(StartMoveError::NoSuchSource)?;
        let to = destination
            .map(|name| queues.get(name).ok_or(StartMoveError::NoSuchDestination))
            .transpose()?;
        if to.is_some_and(|to| to.id() == from.id()) {
            return Err(StartMoveError::SameQueue);
        }
        if to.is_some_and(|to| to.is_fifo() != from.is_fifo()) {
            return Err(StartMoveError::QueueType);
        }
        let is_named = |queue: &Queue| {
            queue
                .config()
                .redrive
                .is_some_and(|redrive| redrive.target == source)
        };
        if !queues.values().any(is_named) {
            return Err(StartMoveError::NotADeadLetterQueue);
        }
        let mut started = self.names().moves.lock();
        let active = |task: &&MoveTask| task.task.is_active();
        if started
            .tasks
            .iter()
            .filter(active)
            .any(|task| task.task.source == from.id())
        {
            return Err(StartMoveError::AlreadyRunning);
        }
        if started.tasks.iter().filter(active).count() >= MOVES_MAX {
            return Err(StartMoveError::TooManyRunning { limit: MOVES_MAX });
        }
        started.forget(from.id(), |task| {
            queues
                .get(&task.source_name)
                .is_some_and(|queue| queue.id() == task.source)
        });
        started.last += 1;
        let started_at = self.now();
        let task = MoveTask {
            task: Arc::new(Task {
                id: MoveId(started.last),
                source: from.id(),
                source_name: source.into(),
                destination_name: destination.map(Into::into),
                rate,
                to_move: to_move.unwrap_or(0),
                started_at,
                names: Arc::downgrade(self.names()),
                progress: Mutex::new(Progress {
                    status: MoveStatus::Running,
                    moved: 0,
                    next_us: started_at.as_millis() * 1000,
                    is_stepping: false,
                    ends: Some(Ends {
                        source: from.clone(),
                        destination: to.cloned(),
                    }),
                }),
            }),
        };
        started.tasks.push_front(task.clone());
        Ok(task)
    }

    /// The message move tasks of the queue `source`, the newest first: `max` (1..=10) of them after the first `skip`. The one that
    /// is running and the nine before it are remembered. O(tasks). (SQS's `ListMessageMoveTasks`.)
    ///
    /// # Errors
    /// [`ListMovesError`].
    pub fn message_moves(
        &self,
        source: &str,
        max: usize,
        skip: usize,
    ) -> Result<Vec<MoveReport>, ListMovesError> {
        if !(1..=MOVES_LISTED_MAX).contains(&max) {
            return Err(ListMovesError::Max {
                given: max,
                limit: MOVES_LISTED_MAX,
            });
        }
        let source = self.queue(source).ok_or(ListMovesError::NoSuchSource)?.id();
        let started = self.names().moves.lock();
        let tasks = started.tasks.iter().filter(|task| task.task.source == source);
        Ok(tasks.skip(skip).take(max).map(MoveTask::status).collect())
    }

    /// A message move task by its id, if it is remembered. O(tasks).
    #[must_use]
    pub fn message_move(&self, id: MoveId) -> Option<MoveTask> {
        let started = self.names().moves.lock();
        started.tasks.iter().find(|task| task.id() == id).cloned()
    }

    /// Does what is due at `now`: steps every running message move task once (see [`MoveTask::step`]) and advances every queue
    /// (see [`Queue::advance`]). Returns when it wants to be called next, which is `now` if a task has more to do at once, and
    /// `None` if nothing is due ever. Messages sent or received afterwards may be due earlier: call it now and then.
    ///
    /// Queues need no such calls to work; message move tasks do. O(queues + segments).
    pub fn advance(&self, now: Millis) -> Option<Millis> {
        let tasks = self.names().moves.active();
        let by_tasks = tasks.iter().filter_map(|task| task.step(now)).min();
        // Apart from their lock, so that nobody waits for it.
        let queues: Vec<_> = self.names().queues().values().cloned().collect();
        let by_queues = queues.iter().filter_map(|queue| queue.advance(now)).min();
        by_tasks.into_iter().chain(by_queues).min()
    }
}
