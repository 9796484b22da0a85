//! Counters of a queue: written by one worker each, summed when read.

#![cfg_attr(
    not(loom),
    allow(unreachable_pub, reason = "public to the models only, see lib.rs")
)]

use crossbeam_utils::CachePadded;

use crate::{
    ledger::chunks::Chunks,
    sync::{Arc, AtomicU64, Mutex, Ordering, fence},
};

/// What a worker did to a queue, and how often. Lines of the worker's own, so nobody else writes here.
#[derive(Debug, Default)]
pub struct Stripe(CachePadded<Counters>);

/// The first line has what each life cycle touches.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Counters {
    /// Accepted, visible at once.
    pub sent: Counter,
    /// Visible to in flight.
    pub leased: Counter,
    /// How far `leased` may go before the messages in flight are counted again.
    pub leased_until: Counter,
    /// Receives asked for, to take turns by.
    pub rounds: Counter,
    /// In flight to dead, by its handle.
    pub deleted_in_flight: Counter,
    /// Received without a lease (visibility timeout zero).
    pub glimpsed: Counter,
    /// In flight to visible, by the lease's holder.
    pub released: Counter,
    /// Not a count: one more than the partition where receives found something last, or seemed to, that is not the home; zero for none.
    pub elsewhere: Counter,
    _first_line: [u64; 8],
    /// In flight to visible, by the lease's end.
    pub expired: Counter,
    /// Accepted, delayed.
    pub sent_delayed: Counter,
    /// Delayed to visible.
    pub ripened: Counter,
    /// Visible to delayed: the dead-letter queue had no room.
    pub put_off: Counter,
    /// Visible to dead, by its handle.
    pub deleted_visible: Counter,
    /// Delayed to dead, by its handle.
    pub deleted_delayed: Counter,
    /// Visible to dead: retention over.
    pub lapsed_visible: Counter,
    /// In flight to dead: retention over.
    pub lapsed_in_flight: Counter,
    /// Delayed to dead: retention over.
    pub lapsed_delayed: Counter,
    /// Moved to another queue.
    pub moved_out: Counter,
    /// Come from another queue.
    pub moved_in: Counter,
    /// Survivors moved out of nearly empty segments.
    pub evacuated: Counter,
    /// Looks at another partition because the one looked at first had too little.
    pub steals: Counter,
    /// Not a count: what `elsewhere` was before that.
    pub before: Counter,
    /// Not a count: the millisecond of the last receive before a worker that is elsewhere last looked around.
    pub looked_at: Counter,
}

/// A counter with a single writer.
#[derive(Debug)]
pub struct Counter(AtomicU64);

impl Default for Counter {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Counter {
    /// Adds to it. By the one worker it belongs to: hence no RMW.
    #[inline]
    pub fn add(&self, count: u64) {
        // Relaxed, both: a lone counter; readers at rest are ordered by whatever told them that all is at rest.
        self.0
            .store(self.0.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    /// Adds one, and returns what it has come to.
    #[inline]
    pub fn next(&self) -> u64 {
        self.add(1);
        self.read()
    }

    /// Sets it. By its worker; by another one only where a lost race does no harm.
    pub fn set(&self, value: u64) {
        // Relaxed: see `add`.
        self.0.store(value, Ordering::Relaxed);
    }

    /// What it has come to.
    #[inline]
    pub fn read(&self) -> u64 {
        // Relaxed: see `add`.
        self.0.load(Ordering::Relaxed)
    }
}

impl std::ops::Deref for Stripe {
    type Target = Counters;
    #[inline]
    fn deref(&self) -> &Counters {
        &self.0
    }
}

/// How many messages a queue has, by state, and what has happened to them so far, by cause.
///
/// Exact when nothing runs: [`sent`](Self::sent) + [`moved_in`](Self::moved_in) = [`visible`](Self::visible) +
/// [`in_flight`](Self::in_flight) + [`delayed`](Self::delayed) + [`deleted`](Self::deleted) + [`lapsed`](Self::lapsed) +
/// [`moved_out`](Self::moved_out) + [`purged`](Self::purged). While operations run each figure may lag behind by those
/// operations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Messages to be received now (SQS's `ApproximateNumberOfMessages`).
    pub visible: u64,
    /// Messages leased (SQS's `ApproximateNumberOfMessagesNotVisible`). A lease whose end has come counts here until a
    /// receive or sweep notices.
    pub in_flight: u64,
    /// Messages not to be received yet (SQS's `ApproximateNumberOfMessagesDelayed`).
    pub delayed: u64,
    /// Messages accepted so far.
    pub sent: u64,
    /// Deliveries made so far.
    pub received: u64,
    /// Leases that ended by themselves so far.
    pub expired: u64,
    /// Leases given up by their holders so far.
    pub released: u64,
    /// Messages deleted by their handles so far.
    pub deleted: u64,
    /// Messages removed so far because their retention period was over.
    pub lapsed: u64,
    /// Messages moved to other queues so far: dead letters, and those a move task took away.
    pub moved_out: u64,
    /// Messages that came from other queues so far.
    pub moved_in: u64,
    /// Messages purged so far.
    pub purged: u64,
}

impl Counts {
    pub(crate) fn present(&self) -> u64 {
        self.visible + self.in_flight + self.delayed
    }

    /// With so many of the visible ones shown as delayed: FIFO queues count both as visible, for whose turn it is depends on the
    /// queue's delay at the moment.
    #[cfg(not(loom))]
    pub(crate) fn delaying(self, delayed: u64) -> Self {
        Self {
            visible: self.visible.saturating_sub(delayed),
            delayed,
            ..self
        }
    }

    /// Both together, of two queues.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            visible: self.visible + other.visible,
            in_flight: self.in_flight + other.in_flight,
            delayed: self.delayed + other.delayed,
            purged: self.purged + other.purged,
            // What is there in `other` counts as present, not as purged.
            ..self.after(Self {
                visible: 0,
                in_flight: 0,
                delayed: 0,
                ..other
            })
        }
    }

    /// With what happened in an era that is over: what was left in it has been purged.
    fn after(self, past: Self) -> Self {
        Self {
            visible: self.visible,
            in_flight: self.in_flight,
            delayed: self.delayed,
            sent: self.sent + past.sent,
            received: self.received + past.received,
            expired: self.expired + past.expired,
            released: self.released + past.released,
            deleted: self.deleted + past.deleted,
            lapsed: self.lapsed + past.lapsed,
            moved_out: self.moved_out + past.moved_out,
            moved_in: self.moved_in + past.moved_in,
            purged: self.purged + past.purged + past.present(),
        }
    }
}

/// The stripes of one era, by worker number.
#[derive(Debug)]
pub struct Stats(Chunks<Stripe>);

/// Most messages a worker may lease before those in flight are counted again, where there is no limit.
const UNLIMITED_STEP: u64 = 1 << 32;
/// Shares of what may still be leased that one worker is granted at a time, for each worker.
const GRANT_SHARE: u64 = 4;

impl Stats {
    /// None yet.
    pub fn new() -> Self {
        Self(Chunks::new())
    }

    /// The counters of one worker, which is the caller.
    #[inline]
    pub fn of(&self, worker: u32) -> Option<&Stripe> {
        self.0.get_or_grow(worker as usize, |_| ())
    }

    /// The counters of all workers.
    pub fn stripes(&self) -> impl Iterator<Item = &Stripe> {
        self.0.chunks().flat_map(|(_, stripes)| stripes)
    }

    /// One counter of all workers together.
    pub fn sum(&self, counter: fn(&Counters) -> &Counter) -> u64 {
        self.stripes().map(|stripe| counter(stripe).read()).sum()
    }

    /// How many messages are in flight.
    pub fn in_flight(&self) -> u64 {
        // What ends leases first: a lease begun and ended in between must not count twice the wrong way.
        let ended = self.sum(|c| &c.expired)
            + self.sum(|c| &c.released)
            + self.sum(|c| &c.deleted_in_flight)
            + self.sum(|c| &c.lapsed_in_flight);
        self.sum(|c| &c.leased).saturating_sub(ended)
    }

    /// As [`Stats::grant`], with the limit that is in force when it returns, which it returns too. Whoever changes the limit calls
    /// [`Stats::revoke_grants`] after that.
    pub fn grant_within(
        &self,
        mine: &Stripe,
        limit: impl Fn() -> Option<u64>,
    ) -> (Result<u64, u64>, Option<u64>) {
        let mut present = limit();
        loop {
            let granted = self.grant(mine, present);
            // SeqCst: either the new limit is seen here, or what was just granted is seen, and revoked, by whoever has set it.
            fence(Ordering::SeqCst);
            let newer = limit();
            if newer == present {
                return (granted, present);
            }
            // Progress: somebody has changed the limit.
            mine.leased_until.set(0);
            present = newer;
        }
    }

    /// Lets `mine` lease some more messages, at most `limit` being in flight in all. Says how many are, if that is too many.
    ///
    /// A worker is granted a share of what is left, so that it seldom has to count; near the limit it counts each time.
    #[cold]
    #[inline(never)]
    pub fn grant(&self, mine: &Stripe, limit: Option<u64>) -> Result<u64, u64> {
        let leased = mine.leased.read();
        let Some(limit) = limit else {
            mine.leased_until.set(leased + UNLIMITED_STEP);
            return Ok(UNLIMITED_STEP);
        };
        let in_flight = self.in_flight();
        let left = limit.saturating_sub(in_flight);
        // What other workers have been granted and not used is still theirs, unless there is nothing else left.
        let (mut others, mut workers) = (0, 0);
        for stripe in self.stripes() {
            if !std::ptr::eq(stripe, mine) {
                let until = stripe.leased_until.read();
                others += until.saturating_sub(stripe.leased.read());
            }
            workers += u64::from(stripe.rounds.read() > 0);
        }
        let share = left.saturating_sub(others) / (GRANT_SHARE * workers.max(1));
        if share >= crate::config::BATCH_MAX as u64 {
            mine.leased_until.set(leased + share);
            return Ok(share);
        }
        // Too near: everybody has to count each time, or what they were granted would come on top of what is taken here.
        self.take_grants();
        mine.leased_until.set(leased);
        match left {
            0 => Err(in_flight),
            left => Ok(left.min(crate::config::BATCH_MAX as u64)),
        }
    }

    /// The limit has been changed: lets nobody lease any more without counting anew. `present` are the counters in use, which are
    /// looked for behind the fence: whoever uses newer ones sees the new limit.
    pub fn revoke_grants<'s>(present: impl FnOnce() -> Option<&'s Self>) {
        // SeqCst: see `grant_within`.
        fence(Ordering::SeqCst);
        if let Some(stats) = present() {
            stats.take_grants();
        }
    }

    /// The limit has come near.
    fn take_grants(&self) {
        self.stripes().for_each(|stripe| {
            // Lines of others: not written without need.
            if stripe.leased_until.read() > 0 {
                stripe.leased_until.set(0);
            }
        });
    }

    /// All of it.
    pub fn read(&self) -> Counts {
        let sum = |counter| self.sum(counter);
        let (sent, sent_delayed) = (sum(|c| &c.sent), sum(|c| &c.sent_delayed));
        let (leased, glimpsed) = (sum(|c| &c.leased), sum(|c| &c.glimpsed));
        let (expired, released, ripened) = (sum(|c| &c.expired), sum(|c| &c.released), sum(|c| &c.ripened));
        let put_off = sum(|c| &c.put_off);
        let deleted_in_flight = sum(|c| &c.deleted_in_flight);
        let (deleted_visible, deleted_delayed) = (sum(|c| &c.deleted_visible), sum(|c| &c.deleted_delayed));
        let (lapsed_visible, lapsed_in_flight) = (sum(|c| &c.lapsed_visible), sum(|c| &c.lapsed_in_flight));
        let lapsed_delayed = sum(|c| &c.lapsed_delayed);
        let (moved_out, moved_in) = (sum(|c| &c.moved_out), sum(|c| &c.moved_in));
        Counts {
            visible: (sent + moved_in + expired + released + ripened)
                .saturating_sub(leased + put_off + deleted_visible + lapsed_visible + moved_out),
            in_flight: leased.saturating_sub(expired + released + deleted_in_flight + lapsed_in_flight),
            delayed: (sent_delayed + put_off).saturating_sub(ripened + deleted_delayed + lapsed_delayed),
            sent: sent + sent_delayed,
            received: leased + glimpsed,
            expired,
            released,
            deleted: deleted_in_flight + deleted_visible + deleted_delayed,
            lapsed: lapsed_visible + lapsed_in_flight + lapsed_delayed,
            moved_out,
            moved_in,
            purged: 0,
        }
    }
}

/// What happened in a queue's past eras.
#[derive(Debug, Default)]
pub struct Past(Mutex<Eras>);

#[derive(Debug, Default)]
struct Eras {
    /// Of eras that nobody writes to any more.
    sum: Counts,
    /// Eras in which somebody may still be finishing something.
    closing: Vec<Arc<Stats>>,
}

impl Past {
    /// Adds the era that `end` puts another one in the place of, if there was one. One at a time, and not while somebody
    /// counts: each era is counted once, as the present one or as a past one.
    pub fn add(&self, end: impl FnOnce() -> Option<Arc<Stats>>) -> Option<Arc<Stats>> {
        let mut eras = self.lock();
        eras.fold();
        let stats = end()?;
        eras.closing.push(Arc::clone(&stats));
        Some(stats)
    }

    /// The counts of the present era with those of the past ones.
    pub fn with(&self, present: impl FnOnce() -> Counts) -> Counts {
        let mut eras = self.lock();
        eras.fold();
        eras.closing
            .iter()
            .fold(present().after(eras.sum), |counts, stats| {
                counts.after(stats.read())
            })
    }

    fn lock(&self) -> crate::sync::MutexGuard<'_, Eras> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Eras {
    fn fold(&mut self) {
        let sum = &mut self.sum;
        self.closing.retain_mut(|stats| {
            // Not by `strong_count`, which is Relaxed: what was counted before the other share went has to be seen.
            let over = Arc::get_mut(stats).is_some();
            if over {
                *sum = Counts::default().after(stats.read()).after(*sum);
            }
            !over
        });
    }
}
