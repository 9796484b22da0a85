//! Very many groups that are blocked – a message in flight under a long lease, and another one waiting behind it – beside a few that are
//! busy: what do they cost the busy ones, and how much memory do they take?
//!
//! Two queues of each target in one run, one without blocked groups and one with more and more of them, are given the same life cycles in
//! turns, a few hundredths of a second each. In the end every lease must still be good, and every message that waited must come.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use arrayvec::ArrayVec;
use clap::Args;
use serde::Serialize;
use serde_json::{Map, json};

use super::{
    Sheet, Stage, Trial,
    desk::{LONG, Random},
    fifo::{fit, no_target_twice},
    scaled,
    sheet::{Aim, Unit},
};
use crate::{
    check::{Findings, Withheld, Wrong, settle},
    compare::{there_and_back, thousands},
    fifo::{
        FifoCalls, FifoSetup, FifoTarget, Parcel,
        clerk::{BODY_BYTES, Clerk, Duty, Office},
        order::{Lanes, Order},
        parcels::{IdText, Names},
    },
    id_set::IdSet,
    memory::{self, Kept, Meter},
    ratio::median,
    target::{BATCH_MAX, Calls, Counts, Delivery, Done, Handles, Inspect},
    targets::{EpoqFifo, FifoTargetName, LockedFifo},
    workload::{Id, Templates, Verifier},
};

/// `epoq-bench fifo-blocked`
#[derive(Clone, Debug, Args, Serialize)]
pub struct FifoBlocked {
    /// Blocked groups, more and more
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000, 1_000_000], value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub blocked: Vec<u64>,
    /// Groups that are busy
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = crate::cli::count::<1_000_000>)]
    pub groups: usize,
    /// Messages per call
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 10], value_parser = crate::cli::count::<10>)]
    pub batch: Vec<usize>,
    /// How often all queues are measured for each point of the curve, in turns
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: u16,
    /// How long each of these lasts
    #[arg(long, value_name = "MS", default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub slice_ms: u64,
    /// The queues under test; the first is compared with each other
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_values = ["epoq", "locked-fifo"])]
    pub targets: Vec<FifoTargetName>,
}

impl Trial for FifoBlocked {
    const NAME: &'static str = "fifo-blocked";

    fn scale(&mut self, pace: f64) {
        for blocked in &mut self.blocked {
            *blocked = scaled(*blocked, pace);
        }
        self.slice_ms = scaled(self.slice_ms, pace);
    }

    fn check(&self) -> Result<(), String> {
        no_target_twice(&self.targets)?;
        if !self.blocked.is_sorted() {
            return Err("--blocked: more and more, in this order".into());
        }
        let most = self.blocked.iter().max().copied().unwrap_or_default();
        fit(most.saturating_mul(4 * self.targets.len() as u64), "--blocked")
    }

    fn perform(&self, stage: &Stage<'_>) -> anyhow::Result<Sheet> {
        let mut sheet = Sheet::default();
        let mut books = Map::new();
        let _kept = Kept::begin();
        let most = self.blocked.last().copied().unwrap_or_default();
        let grounds = self
            .targets
            .iter()
            .map(|target| {
                Ok::<Box<dyn Grounds>, anyhow::Error>(match target {
                    FifoTargetName::Epoq => Box::new(Queues::<EpoqFifo>::new(self.groups, stage.seed)?),
                    FifoTargetName::LockedFifo => {
                        Box::new(Queues::<LockedFifo>::new(self.groups, stage.seed)?)
                    }
                })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut contenders = grounds
            .iter()
            .map(|grounds| grounds.contender(most, stage.seed))
            .collect::<anyhow::Result<Vec<_>>>()?;
        for level in std::iter::once(0).chain(self.blocked.iter().copied()) {
            for (contender, target) in contenders.iter_mut().zip(&self.targets) {
                stage
                    .progress
                    .begin(&format!("{} blocked groups: {}", thousands(level), target.name()));
                contender.block(level);
            }
            for &batch in &self.batch {
                stage
                    .progress
                    .begin(&format!("{} blocked groups: batch {batch}", thousands(level)));
                self.measure(level, batch, &mut contenders, &mut sheet);
            }
        }
        for (contender, target) in contenders.into_iter().zip(&self.targets) {
            let closed = contender.close(&mut sheet.findings);
            let title = format!(
                "bytes per blocked group of {}, {}",
                thousands(most),
                target.name()
            );
            sheet
                .figure(title, closed.bytes as f64 / most.max(1) as f64, Unit::Bytes)
                .in_short();
            books.insert(
                target.name().to_owned(),
                json!({"sent_and_deleted": closed.sent, "blocked_groups": most}),
            );
        }
        sheet.books = books.into();
        sheet.notes.push(format!(
            "time per life cycle over that of a queue without blocked groups, in {} rounds of {} ms each; \"none blocked over none\" compares two queues without any; \
             one target over another is life cycles per second, in the same rounds",
            self.rounds, self.slice_ms
        ));
        sheet.notes.push(format!(
            "the time is a round's median stretch of {} life cycles, which leaves out what a growing map of ids takes; figures \"with growth\" are of the mean: all 64 parts \
             of such a map grow within some tens of thousands of sends, which takes longer than a round and comes to a queue without blocked groups too",
            Clerk::<()>::CHUNK
        ));
        sheet.notes.push(
            "bytes per blocked group: the group, a message in flight and one waiting, of 64 bytes each, and their two deduplication ids"
                .into(),
        );
        Ok(sheet)
    }
}

impl FifoBlocked {
    /// All queues of all targets in turn, every second round backwards.
    fn measure(
        &self,
        level: u64,
        batch: usize,
        contenders: &mut [Box<dyn Contender + '_>],
        sheet: &mut Sheet,
    ) {
        // Of each target: without blocked groups, and with them.
        let mut slices: Vec<[Vec<Slice>; 2]> = vec![Default::default(); contenders.len()];
        for round in 0..self.rounds {
            for place in there_and_back(2 * contenders.len(), round.into()) {
                let (index, side) = (place / 2, place % 2);
                let slice = contenders[index].slice(side, batch, Duration::from_millis(self.slice_ms));
                if self.targets[index] == FifoTargetName::Epoq {
                    sheet.messages += slice.messages;
                    sheet.seconds += slice.seconds;
                }
                slices[index][side].push(slice);
            }
        }
        let what = if level == 0 {
            "none".into()
        } else {
            thousands(level)
        };
        // The ends of the curve, where the rival's figures stand beside ours.
        let is_end = level == 0 || Some(&level) == self.blocked.last();
        for (target, [without, with]) in self.targets.iter().zip(&slices) {
            let is_judged = *target == FifoTargetName::Epoq && level > 0;
            let title = format!("{}, batch {batch}, {what} blocked over none", target.name());
            let figure = sheet.figure_of(title.clone(), over(with, without, Slice::typical), Unit::Ratio);
            if is_judged {
                figure.aim(Aim::AtMost(1.3));
            }
            let title = format!("{title}, with growth");
            sheet
                .figure_of(title, over(with, without, Slice::mean), Unit::Ratio)
                .in_short = is_judged;
            let title = format!("{}, batch {batch}, {what} blocked", target.name());
            let rates = with.iter().map(|slice| 1.0 / slice.typical).collect();
            sheet.figure_of(title, rates, Unit::PerSecond).in_short = is_end;
        }
        let (first, [_, ours]) = (self.targets[0], &slices[0]);
        for (other, [_, theirs]) in self.targets.iter().zip(&slices).skip(1) {
            let title = format!(
                "batch {batch}, {what} blocked, {} over {}",
                first.name(),
                other.name()
            );
            // Less time is more life cycles.
            let each = over(theirs, ours, Slice::typical);
            sheet.figure_of(title.clone(), each, Unit::Ratio).in_short = is_end;
            let each = over(theirs, ours, Slice::mean);
            sheet
                .figure_of(format!("{title}, with growth"), each, Unit::Ratio)
                .in_short = is_end;
        }
    }
}

/// What life cycles took in one round at one queue.
#[derive(Clone, Copy, Debug)]
struct Slice {
    /// Seconds per message, of the stretch in the middle.
    typical: f64,
    messages: u64,
    seconds: f64,
}

impl Slice {
    fn typical(&self) -> f64 {
        self.typical
    }

    fn mean(&self) -> f64 {
        self.seconds / self.messages as f64
    }
}

/// One's time over the other's, round by round.
fn over(ones: &[Slice], others: &[Slice], time: fn(&Slice) -> f64) -> Vec<f64> {
    let rounds = ones.iter().zip(others);
    rounds.map(|(one, other)| time(one) / time(other)).collect()
}

/// A target under test, whichever it is.
trait Contender {
    /// Blocks groups of its second queue until so many are.
    fn block(&mut self, until: u64);

    /// Life cycles for a while, at its first queue or its second.
    fn slice(&mut self, side: usize, batch: usize, duration: Duration) -> Slice;

    /// Lets the blocked groups go, and settles the books.
    fn close(self: Box<Self>, findings: &mut Findings) -> Tally;
}

/// What a contender did.
struct Tally {
    /// Messages that came and went in life cycles.
    sent: u64,
    /// Allocated for all blocked groups.
    bytes: i64,
}

/// What a contender lives on.
trait Grounds {
    fn contender(&self, most: u64, seed: u64) -> anyhow::Result<Box<dyn Contender + '_>>;
}

/// The queues of a target, and for each who is busy there.
struct Queues<T>([(T, Office); 2]);

impl<T: FifoTarget> Queues<T> {
    fn new(groups: usize, seed: u64) -> anyhow::Result<Self> {
        let setup = FifoSetup {
            seed,
            memory_limit_bytes: memory::total_bytes().unwrap_or(u64::MAX / 2),
        };
        let office = || Office {
            names: Names::new(groups),
            order: Order::new(Lanes::new(groups, 1, seed)),
            withheld: Withheld::new(0),
            seed,
        };
        Ok(Self([
            (T::build(&setup)?, office()),
            (T::build(&setup)?, office()),
        ]))
    }
}

impl<T: FifoTarget> Grounds for Queues<T> {
    fn contender(&self, most: u64, seed: u64) -> anyhow::Result<Box<dyn Contender + '_>> {
        let [free, laden] = &self.0;
        Ok(Box::new(Pair {
            sides: [
                Side::new(&free.0, &free.1, seed)?,
                Side::new(&laden.0, &laden.1, seed)?,
            ],
            crowd: Crowd::<T>::new(most, seed),
            bytes: 0,
        }))
    }
}

/// A queue without blocked groups, one with them, and the groups.
struct Pair<'o, T: FifoTarget + 'o> {
    sides: [Side<'o, T>; 2],
    crowd: Crowd<'o, T>,
    bytes: i64,
}

impl<T: FifoTarget> Contender for Pair<'_, T> {
    fn block(&mut self, until: u64) {
        self.bytes += self.crowd.grow(&mut self.sides[1].session, until);
    }

    fn slice(&mut self, side: usize, batch: usize, duration: Duration) -> Slice {
        self.sides[side].slice(batch, duration)
    }

    fn close(mut self: Box<Self>, findings: &mut Findings) -> Tally {
        self.crowd.disperse(&mut self.sides[1].session);
        findings.merge(self.crowd.findings);
        let sent = self.sides.into_iter().map(|side| side.close(findings)).sum();
        Tally {
            sent,
            bytes: self.bytes,
        }
    }
}

/// One queue, and who is busy at it.
struct Side<'o, T: FifoTarget + 'o> {
    target: &'o T,
    session: T::Session<'o>,
    clerk: Clerk<'o, <T::Session<'o> as Calls>::Handle>,
}

impl<'o, T: FifoTarget> Side<'o, T> {
    fn new(target: &'o T, office: &'o Office, seed: u64) -> anyhow::Result<Self> {
        let duty = Duty {
            batch: 1,
            duplicates: 0,
            back: 1,
        };
        Ok(Self {
            target,
            session: target.session(0)?,
            clerk: Clerk::new(office, 0, duty, Random::new(seed, 0)),
        })
    }

    /// Life cycles for a while.
    fn slice(&mut self, batch: usize, duration: Duration) -> Slice {
        self.clerk.set_batch(batch);
        let before = self.clerk.book.received.deleted_count();
        let begin = Instant::now();
        let mut last = (before, begin);
        // Seconds per message, of each stretch.
        let mut stretches = Vec::new();
        loop {
            for _ in 0..Clerk::<()>::CHUNK {
                if batch == 1 {
                    self.clerk.cycle::<true, _>(&mut self.session);
                } else {
                    self.clerk.cycle::<false, _>(&mut self.session);
                }
            }
            let now = Instant::now();
            let deleted = self.clerk.book.received.deleted_count();
            // A queue that gives nothing is to be found out, not to be divided by.
            let seconds = (now - last.1).as_secs_f64();
            stretches.push(seconds / (deleted - last.0).max(1) as f64);
            last = (deleted, now);
            let elapsed = now - begin;
            if elapsed >= duration {
                return Slice {
                    typical: median(&stretches),
                    messages: (deleted - before).max(1),
                    seconds: elapsed.as_secs_f64(),
                };
            }
        }
    }

    /// Answers how many messages it sent.
    fn close(mut self, findings: &mut Findings) -> u64 {
        self.clerk.book.drain(&mut self.session);
        let closed = self.clerk.close();
        let settlement = settle(vec![closed.sent], vec![closed.received], BODY_BYTES);
        findings.merge(settlement.findings);
        let counts = self.target.counts();
        if counts != Counts::default() {
            findings.add(Wrong::LeftOver, format_args!("{}: {counts:?}", T::NAME));
        }
        settlement.sent
    }
}

/// Which of its two messages of a group, as the producer that its id names. Nobody who is busy is called so.
const IN_FLIGHT: u16 = 1;
const WAITING: u16 = 2;

/// The blocked groups.
struct Crowd<'t, T: FifoTarget + 't> {
    names: Names,
    bodies: Templates,
    verifier: Verifier,
    blocked: u64,
    held: VecDeque<(Id, <T::Session<'t> as Calls>::Handle)>,
    findings: Findings,
}

/// Whom the messages that are received are said to be from.
struct Roll<'r> {
    verifier: &'r mut Verifier,
    producer: u16,
    seen: IdSet,
    ids: ArrayVec<Id, BATCH_MAX>,
    findings: &'r mut Findings,
}

impl Inspect for Roll<'_> {
    fn inspect<D: Delivery>(&mut self, delivery: &D) -> bool {
        let id = self.verifier.read(delivery.body()).unwrap_or(Id::NONE);
        if id == Id::NONE {
            self.findings.add(Wrong::Corrupt, "a message of a blocked group");
        } else if id.producer() != usize::from(self.producer) {
            self.findings.add(Wrong::GroupInFlight, format_args!("{id:?}"));
        } else if !self.seen.insert(id.sequence()) {
            self.findings.add(Wrong::DoubleLease, format_args!("{id:?}"));
        }
        // More than a batch holds is convicted by its number.
        let _ = self.ids.try_push(id);
        true
    }
}

impl<'t, T: FifoTarget> Crowd<'t, T> {
    fn new(most: u64, seed: u64) -> Self {
        Self {
            names: Names::new_blocked(most as usize),
            bodies: Templates::new(BODY_BYTES, seed),
            verifier: Verifier::new(BODY_BYTES, seed),
            blocked: 0,
            held: VecDeque::with_capacity(most as usize),
            findings: Findings::default(),
        }
    }

    /// Blocks groups until so many are blocked; the bytes that were allocated for it.
    fn grow(&mut self, session: &mut T::Session<'t>, until: u64) -> i64 {
        let more = until.saturating_sub(self.blocked);
        if more == 0 {
            return 0;
        }
        let meter = Meter::begin();
        self.send(session, IN_FLIGHT, until);
        self.receive(session, IN_FLIGHT, more, |held, _, taken| held.extend(taken));
        self.send(session, WAITING, until);
        let bytes = meter.bytes();
        drop(meter);
        self.blocked = until;
        // Now there is nothing to be had.
        self.receive(session, IN_FLIGHT, 0, |held, _, taken| held.extend(taken));
        bytes
    }

    fn send(&mut self, session: &mut T::Session<'t>, producer: u16, until: u64) {
        let mut next = self.blocked;
        while next < until {
            let n = (until - next).min(BATCH_MAX as u64) as usize;
            let first = Id::new(producer, next);
            let ids: ArrayVec<IdText, BATCH_MAX> =
                (0..n).map(|at| IdText::new(first.plus(at as u64))).collect();
            let parcels: ArrayVec<Parcel<'_>, BATCH_MAX> = self
                .bodies
                .batch(first, n)
                .iter()
                .zip(&ids)
                .enumerate()
                .map(|(at, (body, id))| Parcel {
                    body,
                    group: self.names.of((next + at as u64) as u32),
                    id: id.as_str(),
                })
                .collect();
            if session.send_batch_to(&parcels) != Done::all(n) {
                self.findings
                    .add(Wrong::Refused, format_args!("sends from {first:?} on"));
            }
            next += n as u64;
        }
    }

    /// Receives what is there, which must be `count` messages of that producer; `keep` is given them, ten at most at a time.
    fn receive(
        &mut self,
        session: &mut T::Session<'t>,
        producer: u16,
        count: u64,
        mut keep: impl FnMut(
            &mut VecDeque<(Id, <T::Session<'t> as Calls>::Handle)>,
            &mut T::Session<'t>,
            Vec<(Id, <T::Session<'t> as Calls>::Handle)>,
        ),
    ) {
        let mut handles = Handles::new();
        let mut roll = Roll {
            verifier: &mut self.verifier,
            producer,
            seen: IdSet::new(),
            ids: ArrayVec::new(),
            findings: &mut self.findings,
        };
        let mut received = 0;
        loop {
            match session.receive(BATCH_MAX, LONG, &mut handles, &mut roll) {
                Ok(0) => break,
                Ok(n) => received += n as u64,
                Err(refusal) => {
                    roll.findings.add(Wrong::Refused, refusal.0);
                    break;
                }
            }
            let taken = roll.ids.take().into_iter().zip(handles.take()).collect();
            keep(&mut self.held, session, taken);
        }
        if received != count {
            let wrong = if received < count {
                Wrong::Lost
            } else {
                Wrong::GroupInFlight
            };
            roll.findings.add_many(
                wrong,
                received.abs_diff(count),
                format_args!("{received} of blocked groups received instead of {count}"),
            );
        }
    }

    /// Deletes what is in flight, then receives and deletes what waited behind it.
    fn disperse(&mut self, session: &mut T::Session<'t>) {
        let mut refused = 0;
        for (_, handle) in std::mem::take(&mut self.held) {
            refused += u64::from(!session.delete(handle));
        }
        self.receive(session, WAITING, self.blocked, |_, session, taken| {
            for (_, handle) in taken {
                refused += u64::from(!session.delete(handle));
            }
        });
        if refused > 0 {
            self.findings
                .add_many(Wrong::DeleteRefused, refused, "of a blocked group");
        }
    }
}
