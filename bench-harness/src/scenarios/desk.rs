//! Where a thread of a scenario deals with the ledger: every call goes through a [`Desk`], which writes down what happened, and can be
//! told to commit a [`Fault`], so that tests see each check convict.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

use anyhow::anyhow;
use arrayvec::ArrayVec;
use epoq::{
    Broker, Builder, Deletion, ManualClock, Message, Outgoing, Queue, QueueConfig, ReceiptHandle, SendError,
    VisibilityChange, Worker,
};
use quanta::Clock;
use serde_json::{Map, Value, json};

use super::{register::Register, surroundings::Watch};
use crate::{
    check::{Findings, Wrong},
    progress::Progress,
    run::{AbortOnPanic, pin},
    target::BATCH_MAX,
    workload::{Corrupt, Id, Templates, Verifier},
};

/// A lease that outlasts every run.
pub const LONG: Duration = Duration::from_secs(12 * 3600);
/// Bytes of every body.
pub const BODY_BYTES: usize = 64;

/// What can go wrong between a scenario and the ledger, for tests of the checks. Each strikes once, at the [`Stage::UNLUCKY`]-th
/// occasion, except where it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A message is taken and thrown away.
    LosesOne,
    /// A send is said to be refused, and is not.
    RefusesButKeeps,
    /// A delivery is made twice.
    DeliversTwice,
    /// A delete says that it did, and does nothing.
    ForgetsDelete,
    /// A body changes under way.
    Corrupts,
    /// No message is delayed, ever.
    ForgetsDelays,
    /// Leases are half as long as asked for, always.
    EndsLeasesEarly,
    /// One delivery too many is counted.
    CountsWrong,
    /// A dead letter is thrown away.
    LosesLetter,
    /// A message that was to be given up is deleted instead.
    DeletesInstead,
}

/// What all threads of a scenario share.
pub struct Stage<'p> {
    /// For everything random.
    pub seed: u64,
    /// Who is told how it goes.
    pub progress: &'p dyn Progress,
    /// Without a message in this time, those that are missing are given up as lost.
    pub patience_ns: u64,
    /// Who looks at the machine meanwhile; for scenarios of many passes, to look between them.
    pub watch: Watch,
    fault: Option<Fault>,
    occasions: AtomicU64,
    clock: Clock,
    skipped_ns: AtomicU64,
}

impl std::fmt::Debug for Stage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage")
            .field("seed", &self.seed)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

impl<'p> Stage<'p> {
    /// The occasion on which a fault strikes.
    pub const UNLUCKY: u64 = 100;

    /// A stage without faults.
    pub fn new(seed: u64, progress: &'p dyn Progress) -> Self {
        Self {
            seed,
            progress,
            patience_ns: 5_000_000_000,
            watch: Watch::begin(),
            fault: None,
            occasions: AtomicU64::new(0),
            clock: Clock::new(),
            skipped_ns: AtomicU64::new(0),
        }
    }

    /// Commits `fault`.
    #[must_use]
    pub fn with_fault(self, fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            patience_ns: 500_000_000,
            ..self
        }
    }

    #[inline]
    fn strikes(&self, fault: Fault) -> bool {
        self.fault == Some(fault) && self.occasions.fetch_add(1, Relaxed) == Self::UNLUCKY
    }

    #[inline]
    fn always(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Nanoseconds of the clock that all moments of a scenario are told in.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        // Relaxed: time is skipped while nothing else goes on.
        self.clock.delta_as_nanos(0, self.clock.raw()) + self.skipped_ns.load(Relaxed)
    }

    /// Lets time pass at once, for the ledger and for the books: nobody sits through 12 hours.
    pub fn skip(&self, clock: &ManualClock, time: Duration) {
        clock.advance(time);
        self.skipped_ns.fetch_add(time.as_nanos() as u64, Relaxed);
    }

    /// Waits until `moment_ns`: sleeps through the most of it, and looks at the clock for the rest.
    pub fn wait_until(&self, moment_ns: u64) {
        const COARSE_NS: u64 = 300_000;
        loop {
            match moment_ns.saturating_sub(self.now_ns()) {
                0 => return,
                rest @ COARSE_NS.. => thread::sleep(Duration::from_nanos(rest - COARSE_NS / 2)),
                _ => thread::yield_now(),
            }
        }
    }

    /// Random numbers that depend on the seed and on who draws them.
    pub fn random(&self, who: u64) -> Random {
        Random::new(self.seed, who)
    }

    /// A broker whose messages may take `memory_limit` bytes.
    pub fn broker(&self, memory_limit: u64) -> anyhow::Result<Broker> {
        self.build(Broker::builder().memory_limit(memory_limit))
    }

    /// A broker whose time passes only by [`Stage::skip`].
    pub fn broker_by_hand(&self) -> anyhow::Result<(Broker, ManualClock)> {
        let clock = ManualClock::new();
        let broker = self.build(Broker::builder().memory_limit(u64::MAX / 2).clock(&clock))?;
        Ok((broker, clock))
    }

    fn build(&self, builder: Builder) -> anyhow::Result<Broker> {
        builder
            .seed(self.seed)
            .build()
            .map_err(|error| anyhow!("{error:?}"))
    }
}

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers that depend on a seed and on who draws them.
    pub const fn new(seed: u64, who: u64) -> Self {
        Self(seed ^ who.wrapping_mul(0xd605_bbb5_8c8a_bd2d))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(limit)) >> 64) as u64
    }
}

/// How far a scenario has come: what its threads wait for.
#[derive(Debug, Default)]
pub struct Course {
    /// Messages taken by the ledger.
    pub sent: AtomicU64,
    /// Messages that are through.
    pub ended: AtomicU64,
    /// Nothing more is sent.
    pub all_sent: AtomicBool,
}

impl Course {
    /// Whether everything that was sent is through.
    pub fn is_over(&self) -> bool {
        // Relaxed: exact once nothing more is sent, which is all that is asked of it.
        self.all_sent.load(Relaxed) && self.ended.load(Relaxed) >= self.sent.load(Relaxed)
    }

    /// Calls `step`, which says whether it did anything, until everything sent is through, or nothing has been done for so long
    /// after the last send that the rest must be lost.
    pub fn pursue(&self, stage: &Stage<'_>, mut step: impl FnMut() -> bool) {
        let mut last_ns = stage.now_ns();
        while !self.is_over() {
            if step() || !self.all_sent.load(Relaxed) {
                last_ns = stage.now_ns();
            } else if stage.now_ns() - last_ns > stage.patience_ns {
                return;
            } else {
                thread::yield_now();
            }
        }
    }
}

/// What one thread of a scenario does.
pub type Job<'a, R> = Box<dyn FnOnce() -> anyhow::Result<R> + Send + 'a>;

/// Does all jobs at once, each on a thread of its own and on the core it names, and meanwhile watches; what came of the jobs, in
/// their order.
pub fn crew<R: Send, W>(
    jobs: Vec<(usize, Job<'_, R>)>,
    watch: impl FnOnce() -> W,
) -> anyhow::Result<(Vec<R>, W)> {
    thread::scope(|scope| {
        let threads: Vec<_> = jobs
            .into_iter()
            .map(|(core, job)| {
                scope.spawn(move || {
                    // The others would wait for it for ever.
                    let _guard = AbortOnPanic;
                    pin(core);
                    job()
                })
            })
            .collect();
        let watched = watch();
        let results = threads
            .into_iter()
            .map(|thread| thread.join().expect("threads abort on panic"))
            .collect::<anyhow::Result<Vec<_>>>()?;
        Ok((results, watched))
    })
}

/// A queue without SQS's limit of what is in flight.
pub fn unlimited() -> QueueConfig {
    QueueConfig {
        in_flight_max: None,
        ..QueueConfig::default()
    }
}

/// What is special about a message to be sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Post<'a> {
    /// Its own delay.
    pub delay: Option<Duration>,
    /// Its message group.
    pub group: Option<&'a str>,
    /// When it should have arrived; when it is sent unless it says.
    pub moment_ns: Option<u64>,
}

/// A message in hand.
#[derive(Clone, Copy, Debug)]
pub struct Got {
    /// Which one.
    pub id: Id,
    /// How often it has been received, as the ledger says.
    pub receives: u32,
    /// The right to it.
    pub handle: ReceiptHandle,
    /// When the call that brought it had returned.
    pub after_ns: u64,
    /// Before this it was not to be received: the end of its delay or of its last lease.
    pub due_us: u64,
    /// When it should have arrived, or was sent.
    pub moment_ns: u64,
    /// Deliveries seen before this one.
    pub seen_before: u64,
}

/// Up to ten messages in hand.
pub type Gots = ArrayVec<Got, BATCH_MAX>;

/// What one thread did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Messages that were refused for want of memory.
    pub refused: u64,
    /// Messages received.
    pub received: u64,
    /// Receives that found nothing.
    pub empty: u64,
    /// Messages deleted.
    pub deleted: u64,
    /// Leases that ran out because the thread was held up.
    pub expired: u64,
}

/// One thread's place at the ledger.
pub struct Desk<'s> {
    /// What it shares with the others.
    pub stage: &'s Stage<'s>,
    register: &'s Register,
    worker: Worker,
    templates: Templates,
    verifier: Verifier,
    producer: u16,
    next: u64,
    /// What it did.
    pub tally: Tally,
    /// What it found wrong.
    pub findings: Findings,
}

impl std::fmt::Debug for Desk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk")
            .field("producer", &self.producer)
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}

impl<'s> Desk<'s> {
    /// For the calling thread, which sends as `producer` and is at home in that partition.
    pub fn new(
        stage: &'s Stage<'s>,
        register: &'s Register,
        broker: &Broker,
        producer: u16,
    ) -> anyhow::Result<Self> {
        let worker = broker.worker_at(producer as usize % broker.partitions());
        Ok(Self {
            stage,
            register,
            worker: worker.map_err(|error| anyhow!("{error:?}"))?,
            templates: Templates::new(BODY_BYTES, stage.seed),
            verifier: Verifier::new(BODY_BYTES, stage.seed),
            producer,
            next: 0,
            tally: Tally::default(),
            findings: Findings::default(),
        })
    }

    /// Messages sent or tried; the next one has this sequence number.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Sends one message. False when it was refused for want of memory; then the next one is another.
    pub fn send(&mut self, queue: &Queue, post: Post<'_>) -> bool {
        let stage = self.stage;
        let id = Id::new(self.producer, self.next);
        self.next += 1;
        let before_ns = stage.now_ns();
        let due_ns = before_ns + post.delay.map_or(0, |delay| delay.as_nanos() as u64);
        if !self
            .register
            .sending(id, due_ns / 1000, post.moment_ns.unwrap_or(before_ns))
        {
            self.findings
                .add(Wrong::Miscounted, "more messages than the register has room for");
            return false;
        }
        if stage.strikes(Fault::LosesOne) {
            return true;
        }
        let mut message = Outgoing::new(self.templates.one(id));
        if let Some(delay) = post.delay.filter(|_| !stage.always(Fault::ForgetsDelays)) {
            message = message.delay(delay);
        }
        if let Some(group) = post.group {
            message = message.message_group(group);
        }
        let sent = self.worker.begin().send_message(queue, &message).map(|_| ());
        let refused = stage.strikes(Fault::RefusesButKeeps);
        match sent {
            Ok(()) if !refused => true,
            Ok(()) => self.not_taken(id, None),
            Err(error) => self.not_taken(id, Some(error)),
        }
    }

    /// Sends `n` ≤ 10 messages in one call; says how many were taken.
    pub fn send_batch(&mut self, queue: &Queue, n: usize) -> usize {
        let stage = self.stage;
        let first = Id::new(self.producer, self.next);
        self.next += n as u64;
        let before_ns = stage.now_ns();
        let room = (0..n as u64).all(|at| self.register.sending(first.plus(at), before_ns / 1000, before_ns));
        if !room {
            self.findings
                .add(Wrong::Miscounted, "more messages than the register has room for");
            return 0;
        }
        let lost = usize::from(n > 1 && stage.strikes(Fault::LosesOne));
        let bodies = &self.templates.batch(first, n)[..n - lost];
        let turn = self.worker.begin();
        let sent = match turn.send_batch(queue, bodies) {
            Ok(sent) => sent
                .iter()
                .map(|sent| sent.map(|_| ()))
                .collect::<ArrayVec<_, BATCH_MAX>>(),
            Err(error) => {
                drop(turn);
                self.findings
                    .add(Wrong::Refused, format_args!("a batch: {error}"));
                return 0;
            }
        };
        drop(turn);
        let mut taken = lost;
        for (at, result) in sent.into_iter().enumerate() {
            match result {
                Ok(()) => taken += 1,
                Err(error) => {
                    self.not_taken(first.plus(at as u64), Some(error));
                }
            }
        }
        taken
    }

    /// The last `n` messages were refused, all of them: the next ones are the same again.
    pub fn rewind(&mut self, n: usize) {
        self.next -= n as u64;
    }

    #[cold]
    fn not_taken(&mut self, id: Id, error: Option<SendError>) -> bool {
        self.register.refused(id);
        self.tally.refused += 1;
        if let Some(error) = error.filter(|error| !matches!(error, SendError::OverBudget { .. })) {
            self.findings
                .add(Wrong::Refused, format_args!("send of {id:?}: {error}"));
        }
        false
    }

    /// Receives up to `max` messages, each leased for `visibility`.
    pub fn receive(&mut self, queue: &Queue, max: usize, visibility: Duration) -> Gots {
        let stage = self.stage;
        let mut gots = Gots::new();
        let asked = if stage.always(Fault::EndsLeasesEarly) {
            visibility / 2
        } else {
            visibility
        };
        let before_ns = stage.now_ns();
        let turn = self.worker.begin();
        let received = match turn.receive(queue, max, asked) {
            Ok(received) => received,
            Err(error) => {
                self.findings
                    .add(Wrong::Refused, format_args!("receive: {error}"));
                return gots;
            }
        };
        let after_ns = stage.now_ns();
        if received.len() > max {
            self.findings.add(
                Wrong::Miscounted,
                format_args!("{} received, {max} asked for", received.len()),
            );
        }
        let mut book = Book {
            stage,
            register: self.register,
            verifier: &mut self.verifier,
            findings: &mut self.findings,
            before_ns,
            after_ns,
            visibility,
        };
        for delivery in received.iter() {
            let got = book.enter(
                delivery.body(),
                delivery.receipt_handle(),
                delivery.receive_count(),
            );
            gots.extend(got);
        }
        self.tally.received += gots.len() as u64;
        self.tally.empty += u64::from(gots.is_empty());
        gots
    }

    /// As [`Desk::receive`], waiting for a message for up to `wait`.
    pub fn receive_wait(&mut self, queue: &Queue, max: usize, visibility: Duration, wait: Duration) -> Gots {
        let before_ns = self.stage.now_ns();
        let received = queue.receive_wait(max, visibility, wait);
        let after_ns = self.stage.now_ns();
        let received: Vec<Message> = match received {
            Ok(received) => received,
            Err(error) => {
                self.findings
                    .add(Wrong::Refused, format_args!("waiting receive: {error}"));
                return Gots::new();
            }
        };
        let mut book = Book {
            stage: self.stage,
            register: self.register,
            verifier: &mut self.verifier,
            findings: &mut self.findings,
            before_ns,
            after_ns,
            visibility,
        };
        let gots: Gots = received
            .iter()
            .take(BATCH_MAX)
            .filter_map(|message| {
                book.enter(message.body(), message.receipt_handle(), message.receive_count())
            })
            .collect();
        self.tally.received += gots.len() as u64;
        self.tally.empty += u64::from(gots.is_empty());
        gots
    }

    /// Deletes messages in hand; says how many.
    pub fn delete(&mut self, queue: &Queue, gots: &[Got]) -> usize {
        if gots.is_empty() {
            return 0;
        }
        if self.stage.strikes(Fault::ForgetsDelete) {
            gots.iter()
                .for_each(|got| self.register.deleted(got.id, &mut self.findings));
            return gots.len();
        }
        let handles: ArrayVec<ReceiptHandle, BATCH_MAX> = gots.iter().map(|got| got.handle).collect();
        let results = match self.worker.begin().delete_batch(queue, &handles) {
            Ok(results) => results,
            Err(error) => {
                self.findings
                    .add(Wrong::Refused, format_args!("delete of a batch: {error}"));
                return 0;
            }
        };
        let mut deleted = 0;
        for (got, result) in gots.iter().zip(&results) {
            if *result == Ok(Deletion::Deleted) {
                deleted += 1;
                self.register.deleted(got.id, &mut self.findings);
            } else {
                self.refused_under_lease(got, "delete", format_args!("{result:?}"));
            }
        }
        self.tally.deleted += deleted as u64;
        deleted
    }

    /// Gives the lease of a message in hand up: it is visible at once.
    pub fn release(&mut self, queue: &Queue, got: &Got) {
        if self.stage.strikes(Fault::DeletesInstead) {
            // Behind the books' back.
            let _ = self.worker.begin().delete(queue, &got.handle);
            return;
        }
        self.register
            .releasing(got.id, got.receives, self.stage.now_ns() / 1000);
        let result = self
            .worker
            .begin()
            .change_visibility(queue, &got.handle, Duration::ZERO);
        if result != Ok(VisibilityChange::Changed) {
            self.refused_under_lease(got, "release", format_args!("{result:?}"));
        }
    }

    #[cold]
    fn refused_under_lease(&mut self, got: &Got, what: &str, answer: std::fmt::Arguments<'_>) {
        let now_us = self.stage.now_ns() / 1000;
        if what == "delete" && self.register.may_be_over(got.id, got.receives, now_us) {
            // The thread was held up for longer than the lease: lawful, and somebody will receive the message again.
            self.tally.expired += 1;
        } else {
            self.findings.add(
                Wrong::DeleteRefused,
                format_args!("{what} of {:?}: {answer}", got.id),
            );
        }
    }

    /// Receives and deletes all there is in a queue at the moment; says how many.
    pub fn drain(&mut self, queue: &Queue) -> u64 {
        let mut drained = 0;
        loop {
            let gots = self.receive(queue, BATCH_MAX, LONG);
            if gots.is_empty() {
                return drained;
            }
            drained += self.delete(queue, &gots) as u64;
        }
    }

    /// What is left of it when its thread is done.
    pub fn close(self) -> (Tally, Findings) {
        (self.tally, self.findings)
    }
}

/// One receive being written down.
struct Book<'b> {
    stage: &'b Stage<'b>,
    register: &'b Register,
    verifier: &'b mut Verifier,
    findings: &'b mut Findings,
    before_ns: u64,
    after_ns: u64,
    visibility: Duration,
}

impl Book<'_> {
    fn enter(&mut self, body: &[u8], handle: ReceiptHandle, receives: u32) -> Option<Got> {
        let read = if self.stage.strikes(Fault::Corrupts) {
            let mut body = body.to_vec();
            body[3] ^= 0x10;
            self.verifier.read(&body)
        } else {
            self.verifier.read(body)
        };
        let id = match read {
            Ok(id) => id,
            Err(Corrupt(what)) => {
                self.findings.add(Wrong::Corrupt, what);
                return None;
            }
        };
        let receives = receives + u32::from(self.stage.strikes(Fault::CountsWrong));
        let (after_us, until_us) = (
            self.after_ns / 1000,
            (self.before_ns + self.visibility.as_nanos() as u64) / 1000,
        );
        let twice = self.stage.strikes(Fault::DeliversTwice);
        for _ in 0..usize::from(twice) {
            self.register
                .received(id, receives, after_us, until_us, self.findings);
        }
        let booked = self
            .register
            .received(id, receives, after_us, until_us, self.findings)?;
        Some(Got {
            id,
            receives,
            handle,
            after_ns: self.after_ns,
            due_us: booked.due_us,
            moment_ns: booked.moment_ns,
            seen_before: booked.seen_before,
        })
    }
}

impl Got {
    /// How long after it was due it came.
    pub fn lateness_ns(&self) -> u64 {
        self.after_ns.saturating_sub(self.due_us * 1000)
    }

    /// How long after it was to arrive it came.
    pub fn dwell_ns(&self) -> u64 {
        self.after_ns.saturating_sub(self.moment_ns)
    }
}

/// Throws dead letters away, if that is the fault.
pub fn lose_letters(stage: &Stage<'_>, gots: &mut Gots) {
    if stage.always(Fault::LosesLetter) && !gots.is_empty() {
        gots.pop();
    }
}

/// All books of a scenario, settled.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// By cause, for the report.
    pub json: Map<String, Value>,
    /// What is wrong.
    pub findings: Findings,
    /// What the threads did, together.
    pub tally: Tally,
    /// Messages sent.
    pub sent: u64,
    /// Messages deleted.
    pub deleted: u64,
}

/// Lays the books side by side after everything was drained: those of the threads, the register's, and what the queues themselves
/// say by cause. Nothing may be left, and every cause must add up.
pub fn settle(register: &Register, desks: Vec<(Tally, Findings)>, queues: &[&Queue]) -> Books {
    let mut books = Books::default();
    for (tally, findings) in desks {
        books.tally.refused += tally.refused;
        books.tally.received += tally.received;
        books.tally.empty += tally.empty;
        books.tally.deleted += tally.deleted;
        books.tally.expired += tally.expired;
        books.findings.merge(findings);
    }
    let findings = &mut books.findings;
    let sums = register.settle(findings);
    (books.sent, books.deleted) = (sums.sent, sums.deleted);
    let (mut sent, mut deleted, mut received, mut out, mut into) = (0, 0, 0, 0, 0);
    let mut by_queue = Map::new();
    for queue in queues {
        let counts = queue.counts();
        let left = counts.visible + counts.in_flight + counts.delayed;
        if left > 0 {
            findings.add_many(
                Wrong::LeftOver,
                left,
                format_args!("{}: {counts:?}", queue.name()),
            );
        }
        let ended = counts.deleted + counts.lapsed + counts.moved_out + counts.purged;
        if counts.sent + counts.moved_in != left + ended || counts.lapsed + counts.purged > 0 {
            findings.add(
                Wrong::Miscounted,
                format_args!("{} does not add up: {counts:?}", queue.name()),
            );
        }
        sent += counts.sent;
        deleted += counts.deleted;
        received += counts.received;
        out += counts.moved_out;
        into += counts.moved_in;
        if queues.len() <= 4 {
            by_queue.insert(
                queue.name().to_owned(),
                json!({
                    "sent": counts.sent, "moved_in": counts.moved_in, "visible": counts.visible, "in_flight": counts.in_flight,
                    "delayed": counts.delayed, "received": counts.received, "expired": counts.expired,
                    "released": counts.released, "deleted": counts.deleted, "lapsed": counts.lapsed,
                    "moved_out": counts.moved_out, "purged": counts.purged,
                }),
            );
        }
    }
    for (what, ours, theirs) in [
        ("sent", sums.sent, sent),
        ("deleted", sums.deleted, deleted),
        ("received", sums.delivered, received),
        ("moved from queue to queue", out, into),
    ] {
        if ours != theirs {
            findings.add(
                Wrong::Miscounted,
                format_args!("{what}: {ours} by the books, {theirs} by the queues"),
            );
        }
    }
    books.json = Map::from_iter([
        ("sent".to_owned(), sums.sent.into()),
        ("refused".to_owned(), books.tally.refused.into()),
        ("delivered".to_owned(), sums.delivered.into()),
        ("deleted".to_owned(), sums.deleted.into()),
        ("leases_that_ran_out".to_owned(), books.tally.expired.into()),
        ("queues".to_owned(), by_queue.into()),
    ]);
    books
}
