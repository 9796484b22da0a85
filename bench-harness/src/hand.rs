//! One thread's tools during a run: prepared bodies, books, samples, and the steps of a life cycle made of a target's calls.

use std::{
    ops::Range,
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use arrayvec::ArrayVec;
use hdrhistogram::Histogram;

use crate::{
    check::{Received, Rule, Sent, Withheld, Wrong},
    counters::{self, Counters, HardwareCounts},
    environment,
    latency::Recorder,
    noise::ThreadReading,
    plan::Plan,
    schedule::Schedule,
    shared::{Looks, Phase, Shared},
    target::{BATCH_MAX, Calls, Done, Handles, Refusal},
    topology::Seat,
    workload::{Id, Templates, Verifier},
};

/// The part of a run that counts, as one thread saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) start: Instant,
    pub(crate) end: Instant,
    pub(crate) messages: u64,
    /// Messages of its own that were due in it, with a schedule.
    pub(crate) due: Option<f64>,
    /// What the kernel says of the thread in it.
    pub(crate) thread: ThreadReading,
    pub(crate) counts: Option<HardwareCounts>,
}

/// How things stood when a thread began to count.
#[derive(Clone, Copy, Debug)]
struct Start {
    at: Instant,
    deleted: u64,
    due: Option<f64>,
    thread: ThreadReading,
}

/// What a thread hands back.
#[derive(Debug)]
pub(crate) struct Record<'r> {
    pub(crate) sent: Sent,
    pub(crate) received: Received<'r>,
    pub(crate) samples: Histogram<u64>,
    pub(crate) window: Option<Window>,
    pub(crate) empty_receives: u64,
    pub(crate) drained: u64,
    pub(crate) fill: Range<Instant>,
    pub(crate) drain: Range<Instant>,
}

/// One thread's tools; `H` is the target's receipt handle.
pub(crate) struct Hand<'r, H> {
    pub(crate) plan: &'r Plan,
    pub(crate) shared: &'r Shared,
    pub(crate) seat: Seat,
    pub(crate) recorder: Recorder,
    pub(crate) book: Received<'r>,
    batch: usize,
    visibility: Duration,
    templates: Templates,
    sent: Sent,
    handles: Handles<H>,
    /// Received before the clock started, and deleted at the very end.
    held: Vec<(Id, H)>,
    /// Life cycles until the next one is timed.
    until_sample: u32,
    /// Sent minus received: what this thread could not find again, or took from others.
    owed: i64,
    /// Where messages come back: life cycles until the next extra receive.
    until_extra: u64,
    empty_receives: u64,
    drained: u64,
    schedule: Option<Schedule>,
    started: Option<Start>,
    /// When it stopped sending, by the recorder's clock.
    stopped_ns: u64,
    counters: Option<Counters>,
    window: Option<Window>,
    /// Of the machine: a pinned thread is told of one only.
    cores: usize,
    more_threads_than_cores: bool,
}

impl<'r, H> Hand<'r, H> {
    /// Calls (or life cycles) between two looks at the phase.
    pub(crate) const CHUNK: usize = 64;
    /// One life cycle in this many is timed.
    const SAMPLE: u32 = 128;
    /// A withheld message that has not come back after this and twice its lease is lost.
    const PATIENCE: Duration = Duration::from_secs(3);

    pub(crate) fn new(
        plan: &'r Plan,
        shared: &'r Shared,
        withheld: &'r Withheld,
        seat: Seat,
        clock_cost_ns: u64,
    ) -> Self {
        let verifier = Verifier::new(plan.body_bytes, plan.seed);
        let cores = environment::cores();
        Self {
            plan,
            shared,
            seat,
            recorder: Recorder::new(clock_cost_ns),
            book: Received::new(plan.rule(), verifier, withheld, plan.topology.threads()),
            batch: plan.batch,
            visibility: plan.visibility,
            templates: Templates::new(plan.body_bytes, plan.seed),
            sent: Sent::new(seat.index as u16),
            handles: Handles::new(),
            held: Vec::new(),
            until_sample: 0,
            owed: 0,
            until_extra: Plan::WITHHELD_ONE_IN,
            empty_receives: 0,
            drained: 0,
            schedule: None,
            started: None,
            stopped_ns: 0,
            counters: None,
            window: None,
            cores,
            more_threads_than_cores: plan.topology.threads() > cores,
        }
    }

    /// For the thread that calls, once it is where it stays.
    pub(crate) fn open_counters(&mut self) {
        if counters::missing().is_none() {
            self.counters = Counters::open().ok();
        }
    }

    /// To be asked between chunks: publishes the counters, begins and ends the window, answers whether to go on.
    pub(crate) fn goes_on(&mut self) -> bool {
        self.publish();
        self.book.mark_time();
        match self.shared.phase() {
            Phase::WarmUp => true,
            Phase::Measure => {
                if self.started.is_none() {
                    self.recorder.reset();
                    // Relaxed: the coordinator waits for the number only.
                    self.shared.measuring.fetch_add(1, Relaxed);
                    let thread = ThreadReading::now();
                    if let Some(counters) = &mut self.counters {
                        counters.start();
                    }
                    self.started = Some(Start {
                        at: Instant::now(),
                        deleted: self.book.deleted_count(),
                        due: self.due(),
                        thread,
                    });
                }
                true
            }
            Phase::Stop => {
                let (end, due) = (Instant::now(), self.due());
                let counts = self.counters.as_mut().and_then(Counters::stop);
                let thread = ThreadReading::now();
                self.stopped_ns = self.recorder.now_ns();
                self.record_pending();
                self.window = self.started.map(|start| Window {
                    start: start.at,
                    end,
                    messages: self.book.deleted_count() - start.deleted,
                    due: due.zip(start.due).map(|(all, before)| all - before),
                    thread: thread.since(start.thread),
                    counts,
                });
                false
            }
        }
    }

    /// Messages of this thread that were due until now, with a schedule.
    fn due(&self) -> Option<f64> {
        let arrivals = self.schedule.as_ref()?.due_by(self.recorder.now_ns());
        Some(arrivals * self.batch as f64)
    }

    /// Arrivals begin now, if the plan has a rate.
    pub(crate) fn begin_schedule(&mut self) {
        // Another chance in each pass, the same for all targets.
        let seed = self
            .plan
            .seed
            .wrapping_add((self.plan.round as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let schedule = |interval_ns| Schedule::new(1e9 / interval_ns, seed, self.seat.index);
        let schedule = self.plan.interval_ns().map(schedule);
        self.schedule = schedule.map(|schedule| schedule.from(self.recorder.now_ns()));
    }

    /// When the next arrival should have come, once that is past: it has to be sent then.
    #[inline]
    pub(crate) fn arrival(&mut self) -> Option<u64> {
        let now_ns = self.recorder.now_ns();
        self.schedule.as_mut()?.take_due_ns(now_ns)
    }

    /// The next batch should have arrived then; its sampled messages carry it.
    #[inline]
    pub(crate) fn stamp(&self, intended_ns: u64) {
        let stamps = &self.shared.stamps[self.seat.index];
        let first = self.next_id();
        let mut from = 0;
        while let Some(id) = stamps.sampled(first.plus(from as u64), self.batch - from) {
            stamps.put(id, intended_ns);
            from = (id.sequence() - first.sequence()) as usize + 1;
        }
    }

    /// When the sampled ones among the messages just received were sent, or should have been.
    #[inline(always)]
    pub(crate) fn sent_ns(&self) -> ArrayVec<u64, BATCH_MAX> {
        let mut sent_ns = ArrayVec::new();
        for id in self.book.to_delete() {
            if let Some(stamps) = self.shared.stamps.get(id.producer())
                && stamps.sampled(*id, 1).is_some()
            {
                sent_ns.extend(stamps.take(*id));
            }
        }
        sent_ns
    }

    /// Records how long ago that was.
    pub(crate) fn record_since(&mut self, sent_ns: &[u64]) {
        let now_ns = self.recorder.now_ns();
        for &sent_ns in sent_ns {
            self.recorder.record(now_ns.saturating_sub(sent_ns));
        }
    }

    /// As [`delete`](Self::delete), and records how long the sampled messages took from when they should have arrived.
    #[inline(always)]
    pub(crate) fn delete_timed<const ONE: bool, C: Calls<Handle = H>>(&mut self, calls: &mut C) {
        let sent_ns = self.sent_ns();
        self.delete::<ONE, C>(calls);
        self.record_since(&sent_ns);
    }

    /// Between two arrivals: something that was sent has not been found yet.
    pub(crate) fn look_for_left_over<C: Calls<Handle = H>>(&mut self, calls: &mut C) {
        if self.owed > 0 {
            self.owed -= self.receive(calls, self.batch) as i64;
            self.delete_timed::<false, C>(calls);
        }
    }

    /// When to look at all counters; threads beyond the cores are not there at the same time.
    pub(crate) fn looks(&self) -> Looks {
        Looks::new(self.plan.topology.threads().min(self.cores))
    }

    /// Makes this thread's counters visible to the others.
    pub(crate) fn publish(&self) {
        // Relaxed: one writer, and readers want no more than a recent value.
        let counters = &self.shared.seats[self.seat.index];
        counters.sent.store(self.sent.count(), Relaxed);
        counters.received.store(self.book.received_count(), Relaxed);
        counters.deleted.store(self.book.deleted_count(), Relaxed);
    }

    /// Nothing to do at the moment.
    #[cold]
    pub(crate) fn idle(&self) {
        if self.more_threads_than_cores {
            thread::yield_now();
        } else {
            (0..16).for_each(|_| std::hint::spin_loop());
        }
    }

    /// The next arrival is not due yet: a short wait, since what it takes too long counts as latency.
    #[inline]
    pub(crate) fn wait_a_little(&self) {
        if self.more_threads_than_cores {
            thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }

    /// The id of the next message.
    #[inline]
    pub(crate) fn next_id(&self) -> Id {
        self.sent.next()
    }

    /// Messages sent so far.
    pub(crate) fn sent_count(&self) -> u64 {
        self.sent.count()
    }

    /// One life cycle of a batch: send, receive as many, delete them. Timed now and then.
    #[inline(always)]
    pub(crate) fn cycle<const ONE: bool, C: Calls<Handle = H>>(&mut self, calls: &mut C) {
        if self.until_sample == 0 {
            self.until_sample = Self::SAMPLE - 1;
            let start = self.recorder.start();
            self.cycle_untimed::<ONE, false, C>(calls);
            self.recorder.record_since(start);
        } else {
            self.until_sample -= 1;
            self.cycle_untimed::<ONE, false, C>(calls);
        }
    }

    /// A life cycle whose latency the caller measures, or with `OPEN` that of each message.
    #[inline(always)]
    pub(crate) fn cycle_untimed<const ONE: bool, const OPEN: bool, C: Calls<Handle = H>>(
        &mut self,
        calls: &mut C,
    ) {
        let batch = self.batch::<ONE>();
        let sent = self.send_some(calls, batch);
        let received = self.receive(calls, batch);
        if sent != received {
            self.owed += sent as i64 - received as i64;
        }
        if received < batch {
            self.try_again(calls, batch - received);
        }
        if OPEN {
            self.delete_timed::<ONE, C>(calls);
        } else {
            self.delete::<ONE, C>(calls);
        }
        if self.owed >= batch as i64 || self.plan.rule() != Rule::Exclusive {
            self.catch_up::<OPEN, C>(calls);
        }
    }

    /// Another thread was quicker, or the target did not find what is there.
    #[cold]
    #[inline(never)]
    fn try_again<C: Calls<Handle = H>>(&mut self, calls: &mut C, missing: usize) {
        let received = self.receive(calls, missing);
        self.owed -= received as i64;
        self.empty_receives += u64::from(received == 0);
    }

    /// One receive more than sends: for what was missed before, and for withheld messages, which are received twice.
    #[inline(never)]
    fn catch_up<const OPEN: bool, C: Calls<Handle = H>>(&mut self, calls: &mut C) {
        if self.plan.rule() != Rule::Exclusive {
            self.until_extra -= 1;
            if self.until_extra != 0 {
                return;
            }
            self.until_extra = Plan::WITHHELD_ONE_IN;
        }
        self.owed -= self.receive(calls, self.batch) as i64;
        if OPEN {
            self.delete_timed::<false, C>(calls);
        } else {
            self.delete::<false, C>(calls);
        }
    }

    /// Messages per call; `ONE` says at compile time that it is one, so that single operations pay nothing for batches.
    #[inline(always)]
    pub(crate) fn batch<const ONE: bool>(&self) -> usize {
        if ONE { 1 } else { self.batch }
    }

    /// Sends one batch; answers how many were taken.
    #[inline(always)]
    pub(crate) fn send<const ONE: bool, C: Calls<Handle = H>>(&mut self, calls: &mut C) -> usize {
        self.send_some(calls, self.batch::<ONE>())
    }

    #[inline(always)]
    fn send_some<C: Calls<Handle = H>>(&mut self, calls: &mut C, n: usize) -> usize {
        let first = self.sent.next();
        let taken = if n == 1 {
            Done(u16::from(calls.send(self.templates.one(first)).is_ok()))
        } else {
            calls.send_batch(self.templates.batch(first, n))
        };
        self.sent.offered(n, taken);
        self.templates.prepare(self.sent.next(), n);
        taken.count_of(n)
    }

    /// Receives and checks up to `max`; answers how many came.
    #[inline(always)]
    pub(crate) fn receive<C: Calls<Handle = H>>(&mut self, calls: &mut C, max: usize) -> usize {
        match calls.receive(max, self.visibility, &mut self.handles, &mut self.book) {
            Ok(received) => {
                self.book.answered(received, max);
                received
            }
            Err(Refusal(reason)) => {
                self.book.found(Wrong::Refused, reason);
                0
            }
        }
    }

    /// Deletes what was received and is to be deleted.
    #[inline(always)]
    pub(crate) fn delete<const ONE: bool, C: Calls<Handle = H>>(&mut self, calls: &mut C) {
        let done = if ONE || self.handles.len() <= 1 {
            let Some(deleted) = calls.delete_last(&mut self.handles) else {
                return;
            };
            Done(u16::from(deleted))
        } else {
            calls.delete_batch(&mut self.handles)
        };
        self.book.deleted(done);
    }

    /// A receive came back empty.
    #[cold]
    pub(crate) fn note_empty(&mut self) {
        self.empty_receives += 1;
    }

    /// Queues `count` messages, in the largest batches.
    pub(crate) fn fill<C: Calls<Handle = H>>(&mut self, calls: &mut C, count: u64) {
        let mut queued = 0;
        let batch = self.plan.largest_batch() as u64;
        while queued < count {
            let taken = self.send_some(calls, (count - queued).min(batch) as usize);
            if taken == 0 {
                self.book.found(
                    Wrong::Refused,
                    format_args!("fill stopped after {queued} of {count} messages"),
                );
                return;
            }
            queued += taken as u64;
        }
    }

    /// Receives `count` messages and keeps their leases.
    pub(crate) fn hold<C: Calls<Handle = H>>(&mut self, calls: &mut C, count: u64) {
        self.held.reserve(count as usize);
        let mut attempts_left = 1_000_000;
        let batch = self.plan.largest_batch() as u64;
        while (self.held.len() as u64) < count {
            let missing = (count - self.held.len() as u64).min(batch) as usize;
            if self.owed < missing as i64 {
                self.owed += self.send_some(calls, missing) as i64;
            }
            let received = self.receive(calls, missing);
            self.owed -= received as i64;
            self.held
                .extend(self.book.take_to_delete().into_iter().zip(self.handles.drain(..)));
            attempts_left -= i32::from(received == 0);
            if attempts_left == 0 {
                let held = self.held.len();
                self.book.found(
                    Wrong::Refused,
                    format_args!("only {held} of {count} could be brought in flight"),
                );
                return;
            }
        }
    }

    /// After all senders have stopped: receives and deletes what is left.
    pub(crate) fn drain<C: Calls<Handle = H>>(&mut self, calls: &mut C) {
        let before = self.book.deleted_count();
        let mut last_progress = Instant::now();
        let mut empty_in_a_row = 0;
        loop {
            self.book.mark_time();
            if self.receive(calls, BATCH_MAX) > 0 {
                self.record_left_over();
                self.delete::<false, C>(calls);
                self.publish();
                last_progress = Instant::now();
                empty_in_a_row = 0;
                continue;
            }
            empty_in_a_row += 1;
            let over = match self.plan.rule() {
                Rule::Exclusive => empty_in_a_row >= 2,
                Rule::ComesBack { visibility, .. } => {
                    thread::sleep(Duration::from_millis(1));
                    let all_deleted =
                        self.shared.sum(|seat| &seat.deleted) >= self.shared.sum(|seat| &seat.sent);
                    all_deleted || last_progress.elapsed() > Self::PATIENCE + 2 * visibility
                }
            };
            if over {
                break;
            }
        }
        self.drained = self.book.deleted_count() - before;
    }

    /// Of an open loop: what was due and not sent yet at the end has waited at least until then. As much as was sent, at most: of a
    /// schedule that nobody can keep, the rest says no more.
    fn record_pending(&mut self) {
        let Some(schedule) = &mut self.schedule else {
            return;
        };
        let sampled = self.plan.sample_mask() + 1;
        let most = schedule.taken() + 1;
        let mut messages = 0;
        for _ in 0..most {
            let Some(due_ns) = schedule.take_due_ns(self.stopped_ns) else {
                break;
            };
            messages += self.batch as u64;
            for _ in 0..messages / sampled {
                self.recorder.record(self.stopped_ns.saturating_sub(due_ns));
            }
            messages %= sampled;
        }
    }

    /// Of an open loop: what was still there at the end has waited at least until then.
    fn record_left_over(&mut self) {
        if self.plan.rate.is_some() {
            for intended_ns in self.sent_ns() {
                if let Some(age_ns) = self.stopped_ns.checked_sub(intended_ns) {
                    self.recorder.record(age_ns);
                }
            }
        }
    }

    /// Deletes what was held in flight all the time: the leases must still be good.
    pub(crate) fn release<C: Calls<Handle = H>>(&mut self, calls: &mut C) {
        for (id, handle) in std::mem::take(&mut self.held) {
            let success = calls.delete(handle);
            self.book.deleted_one(id, success);
        }
    }

    pub(crate) fn into_record(self, fill: Range<Instant>, drain: Range<Instant>) -> Record<'r> {
        Record {
            sent: self.sent,
            received: self.book,
            samples: self.recorder.into_histogram(),
            window: self.window,
            empty_receives: self.empty_receives,
            drained: self.drained,
            fill,
            drain,
        }
    }
}
