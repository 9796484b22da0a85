//! Those who receive: they delete, release, extend, put aside, forget, and stop in the middle of it.

use std::{
    future::pending,
    pin::pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use epoq::{
    ChangeVisibilityError, DeleteError, Deletion, Message, Queue, ReceiptHandle, ReceiveError,
    SequenceNumber, Turn, VisibilityChange, Worker,
};

use epoq_judge::{Broken, Delivery, Groups, Id, Lease, Moment};

use crate::{
    senders::read_body,
    stage::{Random, Stage},
};

/// One message in so many is given up each time it is received, until it is a dead letter.
const POISON: u64 = 1_009;

/// A message in hand.
#[derive(Clone, Copy, Debug)]
struct Held {
    id: Id,
    receives: u32,
    handle: ReceiptHandle,
    group: Option<usize>,
    sequence: u128,
}

/// One who receives from one queue.
#[derive(Debug)]
pub(crate) struct Receiver<'s> {
    stage: &'s Stage,
    queue: &'s Queue,
    /// Where the order of its groups is judged.
    groups: Option<&'s Groups>,
    has_dead_letters: bool,
    /// The last receive got nothing.
    is_dry: bool,
    aside: Vec<Held>,
}

impl<'s> Receiver<'s> {
    pub(crate) fn new(stage: &'s Stage, queue: &'s Queue, groups: Option<&'s Groups>) -> Self {
        Self {
            stage,
            queue,
            groups,
            is_dry: false,
            has_dead_letters: queue.config().redrive.is_some(),
            aside: Vec::new(),
        }
    }

    /// Receives until `end`, and then is gone with what it has in hand.
    pub(crate) fn run(&mut self, random: &mut Random, end: u64) {
        let stage = self.stage;
        let worker = random
            .once_in(2)
            .then(|| stage.broker.worker().expect("a worker"));
        while !stage.is_over() && stage.now() < end {
            let max = if random.once_in(8) {
                1 + random.below(10)
            } else {
                10
            } as usize;
            // Short ones run out in all hands whenever the process is stopped.
            let timeout = random.millis(100, 3_000);
            self.is_dry = match &worker {
                Some(worker) if !self.is_dry && !random.once_in(8) => {
                    self.receive_in_turn(worker, max, timeout, random)
                }
                _ => self.receive(max, timeout, random),
            };
            self.look_at_what_is_aside(random);
            if self.is_dry {
                thread::sleep(random.millis(0, 2));
            }
        }
    }

    /// All in one turn.
    fn receive_in_turn(
        &mut self,
        worker: &Worker,
        max: usize,
        timeout: Duration,
        random: &mut Random,
    ) -> bool {
        let before = self.stage.moment();
        worker.turn(|turn| {
            let held: Vec<_> = match turn.receive(self.queue, max, timeout) {
                Ok(received) => received
                    .iter()
                    .filter_map(|delivery| {
                        let of = (delivery.receipt_handle(), delivery.receive_count());
                        self.hold(
                            delivery.body(),
                            of,
                            delivery.message_group(),
                            delivery.sequence_number(),
                        )
                    })
                    .collect(),
                Err(error) => self.receive_failed(&error),
            };
            self.enter(&held, before, timeout);
            if random.once_in(500_000) {
                // With all memory of the broker that waits for the epoch.
                self.stage.events.parked_in_turn.fetch_add(1, Relaxed);
                thread::sleep(random.millis(100, 800));
            }
            self.deal_with(held, Some(turn), random)
        })
    }

    fn receive(&mut self, max: usize, timeout: Duration, random: &mut Random) -> bool {
        if random.once_in(2_000) {
            return self.hoard(random);
        }
        let before = self.stage.moment();
        // Where there is nothing to wait for, waiting is only tried.
        let received = match random.below(if self.is_dry { 4 } else { 500 }) {
            0 => {
                self.stage.events.waited.fetch_add(1, Relaxed);
                self.queue.receive_wait(max, timeout, random.millis(1, 200))
            }
            1 => self.cancelled(max, timeout, random),
            _ => self.queue.receive(max, timeout),
        };
        let messages = received.unwrap_or_else(|error| self.receive_failed(&error));
        let held: Vec<_> = messages.iter().filter_map(|message| self.take(message)).collect();
        self.enter(&held, before, timeout);
        if !held.is_empty() && random.once_in(50_000) {
            self.stage.events.parked.fetch_add(1, Relaxed);
            thread::sleep(random.millis(500, 4_000));
        }
        self.deal_with(held, None, random)
    }

    /// Takes many before it deals with any: if the process is stopped now, all of them run out at one time.
    fn hoard(&mut self, random: &mut Random) -> bool {
        let mut hoard = Vec::new();
        for _ in 0..100 {
            let (before, timeout) = (self.stage.moment(), random.millis(500, 3_000));
            let received = self.queue.receive(10, timeout);
            let messages = received.unwrap_or_else(|error| self.receive_failed(&error));
            if messages.is_empty() {
                break;
            }
            let held: Vec<_> = messages.iter().filter_map(|message| self.take(message)).collect();
            self.enter(&held, before, timeout);
            hoard.extend(held);
        }
        thread::sleep(random.millis(0, 300));
        let is_empty = hoard.is_empty();
        for held in hoard.chunks(10) {
            self.deal_with(held.to_vec(), None, random);
        }
        is_empty
    }

    /// A wait that is given up soon.
    fn cancelled(
        &self,
        max: usize,
        timeout: Duration,
        random: &mut Random,
    ) -> Result<Vec<Message>, ReceiveError> {
        let wait = Duration::from_secs(20);
        let mut future = pin!(self.queue.receive_async(max, timeout, wait, |_| pending()));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..1 + random.below(3) {
            if let Poll::Ready(received) = future.as_mut().poll(&mut context) {
                return received;
            }
            thread::sleep(random.millis(0, 3));
        }
        self.stage.events.cancelled.fetch_add(1, Relaxed);
        Ok(Vec::new())
    }

    fn receive_failed<T>(&self, error: &ReceiveError) -> Vec<T> {
        if !matches!(error, ReceiveError::TooManyInFlight { .. }) {
            self.stage
                .convict(Broken(format!("a receive was refused: {error}")));
        }
        Vec::new()
    }

    fn take(&self, message: &Message) -> Option<Held> {
        let of = (message.receipt_handle(), message.receive_count());
        self.hold(
            message.body(),
            of,
            message.message_group(),
            message.sequence_number(),
        )
    }

    fn hold(
        &self,
        body: &[u8],
        (handle, receives): (ReceiptHandle, u32),
        group: Option<&str>,
        sequence: Option<SequenceNumber>,
    ) -> Option<Held> {
        match read_body(body) {
            Ok(id) => Some(Held {
                id,
                receives,
                handle,
                group: group.and_then(|group| group.parse().ok()),
                sequence: sequence.map_or(0, SequenceNumber::to_u128),
            }),
            Err(broken) => {
                self.stage.convict(broken);
                None
            }
        }
    }

    fn enter(&self, held: &[Held], before: Moment, timeout: Duration) {
        if held.is_empty() {
            return;
        }
        let after = self.stage.moment();
        let end_ms = before.ms + timeout.as_millis() as u64;
        let leases: Vec<_> = held
            .iter()
            .map(|held| Lease {
                id: held.id,
                receives: held.receives,
                after: after.ms,
                end: end_ms,
            })
            .collect();
        self.stage.judge(self.stage.books.lease(&leases));
        let Some(groups) = self.groups else { return };
        let call = self.stage.calls.fetch_add(1, Relaxed);
        for held in held {
            let Some(group) = held.group else {
                self.stage
                    .convict(Broken(format!("a message without a group: {held:?}")));
                continue;
            };
            let delivery = Delivery {
                id: held.id,
                sequence: held.sequence,
                receives: held.receives,
                call,
                before,
                after,
                end_ms,
            };
            self.stage.judge(groups.enter(group, delivery));
        }
    }

    /// Says whether there was nothing.
    fn deal_with(&mut self, held: Vec<Held>, turn: Option<&Turn<'_>>, random: &mut Random) -> bool {
        let is_empty = held.is_empty();
        let mut done = Vec::with_capacity(held.len());
        for held in held {
            if random.once_in(500) {
                self.aside.push(held);
            } else if self.cannot_do(held.id) || random.once_in(300) {
                self.change(&held, Duration::ZERO);
            } else {
                done.push(held);
            }
        }
        self.delete(&done, turn);
        is_empty
    }

    /// Whether it is one of those that become dead letters.
    fn cannot_do(&self, id: Id) -> bool {
        self.has_dead_letters && id.0 % POISON == 7
    }

    fn look_at_what_is_aside(&mut self, random: &mut Random) {
        if self.aside.len() > 20 || !self.aside.is_empty() && random.once_in(8) {
            let held = self
                .aside
                .swap_remove(random.below(self.aside.len() as u64) as usize);
            match random.below(8) {
                // Forgotten: its lease runs out.
                0 | 1 => {}
                2 => self.change(&held, Duration::ZERO),
                3 => {
                    self.change(&held, random.millis(1, 3_000));
                    self.aside.push(held);
                }
                _ => self.delete(&[held], None),
            }
        }
    }

    fn delete(&self, held: &[Held], turn: Option<&Turn<'_>>) {
        if held.is_empty() {
            return;
        }
        if let Some(groups) = self.groups {
            let now = self.stage.moment();
            for held in held {
                groups.give_up(held.group.unwrap_or(0), held.id, held.receives, now, now.ms);
            }
        }
        let handles: Vec<_> = held.iter().map(|held| held.handle).collect();
        let results: Vec<_> = match turn {
            Some(turn) => turn
                .delete_batch(self.queue, &handles)
                .expect("a valid batch")
                .into_iter()
                .collect(),
            None => self
                .queue
                .delete_batch(&handles)
                .expect("a valid batch")
                .into_iter()
                .collect(),
        };
        let mut deleted = Vec::with_capacity(held.len());
        for (held, result) in held.iter().zip(results) {
            match result {
                Ok(Deletion::Deleted) => deleted.push((held.id, held.receives)),
                Ok(Deletion::Gone | Deletion::ReceivedAgain) | Err(DeleteError::Expired) => self.lost(held),
                Err(error) => self
                    .stage
                    .convict(Broken(format!("a delete was refused: {error}"))),
            }
        }
        if !deleted.is_empty() {
            self.stage.judge(self.stage.books.deleted(&deleted));
        }
    }

    fn lost(&self, held: &Held) {
        self.stage.events.expired.fetch_add(1, Relaxed);
        let now = self.stage.now();
        self.stage
            .judge(self.stage.books.lost(held.id, held.receives, now));
    }

    fn change(&self, held: &Held, timeout: Duration) {
        let now = self.stage.moment();
        let end = now.ms + timeout.as_millis() as u64;
        self.stage.books.give_up(held.id, held.receives, end);
        if let Some(groups) = self.groups {
            groups.give_up(held.group.unwrap_or(0), held.id, held.receives, now, end);
        }
        match self.queue.change_visibility(&held.handle, timeout) {
            Ok(VisibilityChange::Changed) if timeout.is_zero() => {}
            Ok(VisibilityChange::Changed) => {
                self.stage.events.extended.fetch_add(1, Relaxed);
                self.stage.books.extend(held.id, held.receives, end);
            }
            Ok(VisibilityChange::LeaseOver)
            | Err(
                ChangeVisibilityError::Gone
                | ChangeVisibilityError::ReceivedAgain
                | ChangeVisibilityError::Expired,
            ) => self.lost(held),
            Err(error) => self
                .stage
                .convict(Broken(format!("a change was refused: {error}"))),
        }
    }
}

/// Receives from the queue that is purged.
pub(crate) fn side(stage: &Stage, random: &mut Random, end: u64) {
    while !stage.is_over() && stage.now() < end {
        let purged = stage.side_purged.load(Relaxed);
        let messages = stage.side.receive(10, random.millis(50, 500)).expect("no limit");
        let mut handles = Vec::new();
        for message in &messages {
            let round = message
                .body()
                .first_chunk()
                .map(|round| u64::from_le_bytes(*round));
            if round.is_none_or(|round| round < purged) {
                stage.convict(Broken(format!(
                    "of round {round:?}, received after purge {purged}"
                )));
            }
            if !random.once_in(20) {
                handles.push(message.receipt_handle());
            }
        }
        if handles.is_empty() {
            thread::sleep(random.millis(0, 5));
            continue;
        }
        let results = stage.side.delete_batch(&handles).expect("a valid batch");
        let deleted = results
            .iter()
            .filter(|result| **result == Ok(Deletion::Deleted))
            .count();
        stage.side_deleted.fetch_add(deleted as u64, Relaxed);
    }
}
