//! All threads' notes together.

use std::{collections::HashMap, error::Error, fmt};

use foldhash::{HashSet, HashSetExt as _};

use crate::{
    event::{Action, Event, Lease},
    recorder::Recorder,
};

/// What is known of the queue after the last event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum End {
    /// Nothing: loss is not judged.
    #[default]
    Unknown,
    /// It was found empty after all leases and delays were over.
    Empty,
    /// It holds the messages of these ids, and no others.
    Holds(Vec<u128>),
    /// It holds so many messages; which ones is not known.
    HoldsSome(u64),
}

/// The notes of all workers, found to be well formed.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub(crate) events: Vec<Event>,
    /// Each worker's first event, and how many there are.
    starts: HashMap<u16, (u32, u32)>,
    /// First events and their workers, in the order of the events; workers without any are left out.
    blocks: Vec<(u32, u16)>,
    pub(crate) end: End,
}

/// Notes that do not make a history: the fault of the recording, not of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MergeError {
    /// Two recorders have the same number.
    WorkerTwice {
        /// The number.
        worker: u16,
    },
    /// There are more events than 32 bits can count.
    TooMany,
    /// An event of this worker ended before it began.
    Backwards {
        /// The worker.
        worker: u16,
        /// Which of its events, from 0.
        at: u32,
    },
    /// Two sends have the same token.
    TokenTwice {
        /// The token.
        token: u64,
    },
    /// A delete or change names a lease that is none of this history, or that began after it.
    NoSuchLease {
        /// The lease.
        lease: Lease,
    },
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WorkerTwice { worker } => write!(f, "two recorders have the number {worker}"),
            Self::TooMany => f.write_str("more events than 32 bits can count"),
            Self::Backwards { worker, at } => write!(f, "event {worker}.{at} ended before it began"),
            Self::TokenTwice { token } => write!(f, "two sends have the token {token}"),
            Self::NoSuchLease { lease } => {
                write!(f, "lease {lease} is none of this history, or began too late")
            }
        }
    }
}

impl Error for MergeError {}

impl History {
    /// All notes together, and what is in the queue afterwards.
    ///
    /// # Errors
    /// [`MergeError`], if the notes contradict themselves.
    pub fn merge(recorders: impl IntoIterator<Item = Recorder>, end: End) -> Result<Self, MergeError> {
        let mut history = Self {
            end,
            ..Self::default()
        };
        for recorder in recorders {
            let Recorder { worker, events, .. } = recorder;
            let start = history.events.len();
            let (Ok(start), Ok(count)) = (u32::try_from(start), u32::try_from(events.len())) else {
                return Err(MergeError::TooMany);
            };
            if history.starts.insert(worker, (start, count)).is_some() {
                return Err(MergeError::WorkerTwice { worker });
            }
            if count > 0 {
                history.blocks.push((start, worker));
            }
            for (at, event) in events.iter().enumerate() {
                if event.back < event.invoke {
                    return Err(MergeError::Backwards {
                        worker,
                        at: at as u32,
                    });
                }
            }
            history.events.extend(events);
        }
        if u32::try_from(history.events.len()).is_err() {
            return Err(MergeError::TooMany);
        }
        let mut tokens = HashSet::new();
        for event in &history.events {
            match &event.action {
                Action::Send(send) if !tokens.insert(send.token) => {
                    return Err(MergeError::TokenTwice { token: send.token });
                }
                &Action::Delete { lease, .. } | &Action::Change { lease, .. } => {
                    let receive = history.find(lease).map(|at| &history.events[at]);
                    let is_good = receive.is_some_and(|receive| {
                        matches!(receive.action, Action::Receive(_)) && receive.back <= event.invoke
                    });
                    if !is_good {
                        return Err(MergeError::NoSuchLease { lease });
                    }
                }
                _ => {}
            }
        }
        Ok(history)
    }

    /// Where the receive is that began a lease.
    pub(crate) fn find(&self, lease: Lease) -> Option<usize> {
        let &(start, count) = self.starts.get(&lease.worker)?;
        (lease.at < count).then(|| (start + lease.at) as usize)
    }

    /// Which worker's an event is, and which of its events.
    pub(crate) fn name(&self, at: usize) -> Lease {
        let block = self.blocks.partition_point(|&(start, _)| start as usize <= at);
        let (start, worker) = block.checked_sub(1).map_or((0, 0), |block| self.blocks[block]);
        Lease {
            worker,
            at: at as u32 - start,
        }
    }

    /// All events, worker by worker.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// What is in the queue afterwards.
    #[must_use]
    pub fn end(&self) -> &End {
        &self.end
    }

    /// All events in the order of their beginning: to be read by people.
    #[must_use]
    pub fn sorted(&self) -> Vec<&Event> {
        let mut events: Vec<_> = self.events.iter().collect();
        events.sort_by_key(|event| (event.invoke, event.back));
        events
    }
}
