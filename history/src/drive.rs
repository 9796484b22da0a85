//! A workload for any queue: random, repeatable choices on several threads, and a drain at the end, so that loss is decidable.
//!
//! ```text
//! threads:  send │ receive → delete, keep, release, extend, forget │ use what was kept │ let time pass
//! drain:    let every lease and delay end, receive and delete until nothing comes
//! ```

use std::{ops::Range, thread, time::Duration};

use crate::{
    body::{Random, body_of, token_of},
    event::{Lease, Outcome, Received, Sent},
    history::{End, History, MergeError},
    queue::{Delivery, Outgoing, Queue},
    recorder::Recorder,
    time::Time,
};

/// What is done, and how often. Percentages are of operations or deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Which choices are made. With one thread and a manual clock all of them are repeatable.
    pub seed: u64,
    /// Threads at work.
    pub threads: u16,
    /// Operations of each thread.
    pub operations: u32,
    /// Of the operations, how many are sends; the others are receives.
    pub sends: u8,
    /// Bytes of a body.
    pub body: Range<usize>,
    /// Messages that a receive asks for at most.
    pub batch: usize,
    /// How long a lease is.
    pub visibility: Range<Duration>,
    /// How long a message is delayed, if it is.
    pub delay: Range<Duration>,
    /// Of the sends, how many are delayed.
    pub delayed: u8,
    /// Of the deliveries, how many are released at once.
    pub released: u8,
    /// … extended, and kept.
    pub extended: u8,
    /// … kept, and dealt with later.
    pub kept: u8,
    /// … forgotten. The others are deleted at once.
    pub forgotten: u8,
    /// How much time passes between two operations, now and then.
    pub pause: Range<Duration>,
    /// After how many operations it does.
    pub paused: u8,
    /// Purges in all; the first thread makes them.
    pub purges: u32,
    /// Message groups; zero for a standard queue.
    pub groups: u32,
    /// Of the sends to groups, how many repeat an earlier deduplication id of their thread.
    pub repeated: u8,
    /// How long the queue is given to end all leases and delays, beyond the longest of them, before it counts as empty.
    pub slack: Duration,
}

impl Workload {
    /// A few hundred operations on each of four threads, with leases of 10 to 30 ms.
    #[must_use]
    pub const fn standard(seed: u64) -> Self {
        const fn ms(ms: u64) -> Duration {
            Duration::from_millis(ms)
        }
        Self {
            seed,
            threads: 4,
            operations: 400,
            sends: 45,
            body: 16..80,
            batch: 10,
            visibility: ms(10)..ms(30),
            delay: ms(1)..ms(20),
            delayed: 20,
            released: 10,
            extended: 5,
            kept: 20,
            forgotten: 10,
            pause: ms(1)..ms(10),
            paused: 10,
            purges: 0,
            groups: 0,
            repeated: 0,
            slack: ms(50),
        }
    }

    /// The same, with so many groups, and each fifth send a duplicate.
    #[must_use]
    pub const fn fifo(seed: u64, groups: u32) -> Self {
        let Self { seed, .. } = Self::standard(seed);
        Self {
            groups,
            repeated: 20,
            delayed: 0,
            ..Self::standard(seed)
        }
    }
}

/// A delivery in hand.
struct Held<H> {
    handle: H,
    lease: Lease,
}

/// One thread at work.
struct Driver<'d, Q: Queue, T> {
    queue: &'d Q,
    time: &'d T,
    workload: &'d Workload,
    random: Random,
    recorder: Recorder,
    held: Vec<Held<Q::Handle>>,
    received: Vec<Delivery<Q::Handle>>,
    sends: u64,
    /// Deduplication ids in use, and their groups.
    keys: Vec<(u64, u32)>,
}

/// Drives a queue, drains it, and says what happened. The queue must be empty at the beginning, and nobody else may use it.
///
/// # Errors
/// [`MergeError`], if the clock goes backwards.
///
/// # Panics
/// If the queue does.
pub fn drive<Q: Queue, T: Time>(queue: &Q, time: &T, workload: &Workload) -> Result<History, MergeError> {
    let mut recorders: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..workload.threads)
            .map(|worker| {
                scope.spawn(move || {
                    let mut driver = Driver::new(queue, time, workload, worker);
                    driver.work();
                    driver.recorder
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| match thread.join() {
                Ok(recorder) => recorder,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    let mut drain = Driver::new(queue, time, workload, workload.threads);
    let end = drain.drain();
    recorders.push(drain.recorder);
    History::merge(recorders, end)
}

impl<'d, Q: Queue, T: Time> Driver<'d, Q, T> {
    fn new(queue: &'d Q, time: &'d T, workload: &'d Workload, worker: u16) -> Self {
        // Some operations make several events: deliveries, and what is done with them.
        let capacity = workload.operations as usize * 4;
        Self {
            queue,
            time,
            workload,
            random: Random::new(workload.seed.wrapping_mul(0x1_0001) ^ u64::from(worker) << 48),
            recorder: Recorder::new(worker, capacity),
            held: Vec::new(),
            received: Vec::new(),
            sends: 0,
            keys: Vec::new(),
        }
    }

    fn between(&mut self, range: &Range<Duration>) -> Duration {
        let span = range.end.saturating_sub(range.start);
        range.start + Duration::from_nanos(self.random.below(nanos(span)))
    }

    fn work(&mut self) {
        for operation in 0..self.workload.operations {
            if self.random.percent(self.workload.sends) {
                self.send();
            } else {
                self.receive();
            }
            if !self.held.is_empty() && (self.held.len() > 20 || self.random.percent(30)) {
                self.deal_with_held();
            }
            if self.random.percent(self.workload.paused) {
                let pause = self.between(&self.workload.pause.clone());
                self.time.pass(pause);
            }
            let purges = u64::from(self.workload.purges);
            let every = u64::from(self.workload.operations) / (purges + 1);
            if self.recorder.worker == 0
                && purges > 0
                && operation > 0
                && u64::from(operation).is_multiple_of(every.max(1))
                && u64::from(operation) <= purges * every.max(1)
            {
                let invoke = self.time.now();
                let outcome = self.queue.purge();
                self.recorder.purge(invoke, self.time.now(), outcome);
            }
            if operation.is_multiple_of(16) {
                let invoke = self.time.now();
                if let Some((used, limit)) = self.queue.memory() {
                    self.recorder.memory(invoke, self.time.now(), used, limit);
                }
            }
        }
    }

    fn send(&mut self) {
        self.sends += 1;
        let token = u64::from(self.recorder.worker) << 40 | self.sends;
        let lengths = &self.workload.body;
        let length = lengths.start + self.random.below(lengths.len() as u64) as usize;
        let body = body_of(token, length);
        let mut delay = Duration::ZERO;
        if self.random.percent(self.workload.delayed) {
            delay = self.between(&self.workload.delay.clone());
        }
        let mut key = None;
        if self.workload.groups > 0 {
            let known = self.random.below(self.keys.len() as u64) as usize;
            if !self.keys.is_empty() && self.random.percent(self.workload.repeated) {
                key = Some(self.keys[known]);
            } else {
                let group = self.random.below(u64::from(self.workload.groups)) as u32;
                // Some ids are used by all threads.
                let number = if self.random.percent(self.workload.repeated) {
                    self.random.below(20)
                } else {
                    token
                };
                key = Some((number, group));
                self.keys.push((number, group));
            }
        }
        let (group, id) = (
            key.map(|(_, group)| format!("group-{group}")),
            key.map(|(number, _)| format!("id-{number}")),
        );
        let outgoing = Outgoing {
            body: &body,
            delay,
            group: group.as_deref(),
            deduplication: id.as_deref(),
        };
        let invoke = self.time.now();
        let answer = self.queue.send(&outgoing);
        let back = self.time.now();
        let send = Sent {
            token,
            answer,
            delay: nanos(delay),
            group: key.map(|(_, group)| group),
            deduplication: key.map(|(number, _)| number),
        };
        self.recorder.send(invoke, back, send);
    }

    /// One receive call; what it gave is in `held` from the returned place on. And whether that is all.
    fn receive_some(&mut self, max: usize, visibility: Duration) -> (usize, bool) {
        self.received.clear();
        let invoke = self.time.now();
        let is_all = self.queue.receive(max, visibility, &mut self.received);
        let back = self.time.now();
        if !is_all {
            self.recorder.lost_receive(invoke, back);
        }
        let call = self.recorder.call();
        let first = self.held.len();
        for (place, delivery) in self.received.drain(..).enumerate() {
            let number = |group: &str| {
                group
                    .strip_prefix("group-")
                    .and_then(|number| number.parse().ok())
            };
            let receive = Received {
                token: token_of(&delivery.body),
                id: delivery.id,
                receives: delivery.receives,
                visibility: nanos(visibility),
                // A group of another name is none of ours, and shows as such.
                group: delivery.group.map(|group| number(&group).unwrap_or(u32::MAX)),
                sequence: delivery.sequence,
                call,
                place: place as u16,
                lane: delivery.lane,
            };
            let lease = self.recorder.receive(invoke, back, receive);
            self.held.push(Held {
                handle: delivery.handle,
                lease,
            });
        }
        (first, is_all)
    }

    fn receive(&mut self) {
        let max = 1 + self.random.below(self.workload.batch as u64) as usize;
        let visibility = self.between(&self.workload.visibility.clone());
        let (first, _) = self.receive_some(max, visibility);
        let Workload {
            released,
            extended,
            kept,
            forgotten,
            ..
        } = *self.workload;
        for held in self.held.split_off(first) {
            let choice = self.random.below(100) as u8;
            let mut until = released;
            if choice < until {
                self.change(&held, Duration::ZERO);
                // Its handle is used once more in a while.
                if self.random.percent(30) {
                    self.held.push(held);
                }
                continue;
            }
            until = until.saturating_add(extended);
            if choice < until {
                self.change(&held, visibility);
                self.held.push(held);
                continue;
            }
            until = until.saturating_add(kept);
            if choice < until {
                self.held.push(held);
            } else if choice >= until.saturating_add(forgotten) {
                self.delete(&held);
                // Again: it must say that it is gone, or nothing new.
                if self.random.percent(5) {
                    self.delete(&held);
                }
            }
        }
    }

    fn deal_with_held(&mut self) {
        let at = self.random.below(self.held.len() as u64) as usize;
        let held = self.held.swap_remove(at);
        match self.random.below(6) {
            0 => self.change(&held, Duration::ZERO),
            1 => {
                let visibility = self.between(&self.workload.visibility.clone());
                self.change(&held, visibility);
                self.held.push(held);
            }
            _ => {
                self.delete(&held);
            }
        }
    }

    fn delete(&mut self, held: &Held<Q::Handle>) -> Outcome {
        let invoke = self.time.now();
        let outcome = self.queue.delete(&held.handle);
        self.recorder.delete(invoke, self.time.now(), held.lease, outcome);
        outcome
    }

    fn change(&mut self, held: &Held<Q::Handle>, visibility: Duration) {
        let invoke = self.time.now();
        let outcome = self.queue.change_visibility(&held.handle, visibility);
        self.recorder
            .change(invoke, self.time.now(), held.lease, nanos(visibility), outcome);
    }

    /// Receives and deletes all that is there.
    ///
    /// A queue that gives messages for ever is given up after a while: what it does wrong, other rules see.
    fn drain(&mut self) -> End {
        let longest = self.workload.visibility.end.max(self.workload.delay.end) + self.workload.slack;
        self.time.pass(longest);
        let rounds = u64::from(self.workload.operations) * u64::from(self.workload.threads) * 10 + 1_000;
        let mut is_empty = false;
        for _ in 0..rounds {
            let (first, is_all) = self.receive_some(self.workload.batch.max(1), longest);
            let held = self.held.split_off(first);
            held.iter().for_each(|held| {
                self.delete(held);
            });
            if !held.is_empty() || !is_all {
                is_empty = false;
            } else if is_empty {
                // Twice, with time between for whatever deletes did not get.
                return End::Empty;
            } else {
                self.time.pass(longest + self.workload.slack);
                is_empty = true;
            }
        }
        End::Unknown
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
