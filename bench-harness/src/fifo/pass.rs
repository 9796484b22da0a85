//! One pass over a new FIFO queue: the same course as [`run`](crate::run::pass), shorter.

use std::{
    sync::{
        Barrier, OnceLock,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use crossbeam_utils::CachePadded;

use super::{
    FifoSession, FifoSetup, FifoTarget,
    clerk::{Clerk, Closed, Duty, Office},
    order::{Lanes, Order},
    parcels::Names,
};
use crate::{
    check::{Settlement, Withheld, Wrong, settle},
    distance, environment, memory,
    noise::Noise,
    run::{AbortOnPanic, pin},
    scenarios::desk::Random,
    suite::stop,
    target::Counts,
};

/// What a pass does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FifoPlan {
    /// Message groups; where there are fewer than threads, all send to all of them.
    pub groups: usize,
    /// Threads, each of which sends, receives and deletes.
    pub threads: usize,
    /// Messages per call, 1 to 10.
    pub batch: usize,
    /// Life cycles in one turn; `None`: each call is a turn of its own.
    pub turn: Option<usize>,
    /// Messages of each group that are queued before the clock starts.
    pub depth: u64,
    /// Of a hundred sends, so many send a message again that was sent before.
    pub duplicates: u64,
    /// How many messages of its own a sender goes back for that at most.
    pub back: u64,
    /// How long to measure.
    pub duration: Duration,
    /// How long to run before measuring.
    pub warm_up: Duration,
    /// The measuring ends when so many messages were sent: their ids are remembered for five minutes.
    pub messages_max: u64,
    /// For bodies, the order of groups and whatever is random in the target.
    pub seed: u64,
}

impl FifoPlan {
    /// What an id may take in a target, with the message that has it for a while; for the question how many fit into memory.
    pub const ROUGH_BYTES_PER_ID: u64 = 320;
}

/// What one pass measured and found.
#[derive(Clone, Debug)]
pub struct FifoPass {
    /// The target's name.
    pub target: &'static str,
    /// Messages deleted while measuring.
    pub messages: u64,
    /// Messages sent while measuring, those sent again included.
    pub sends: u64,
    /// From the first thread's start to the last one's end.
    pub seconds: f64,
    /// What the books say.
    pub settlement: Settlement,
    /// Messages sent again, in the whole pass.
    pub again: u64,
    /// Receives that found nothing.
    pub empty_receives: u64,
    /// Ids that the target remembered in the end.
    pub ids: u64,
    /// What the target itself counts as used in the end.
    pub target_bytes: Option<u64>,
    /// The measuring ended early, for want of memory for more ids.
    pub is_cut_short: bool,
    /// Nanoseconds that a cache line took from the first thread's core to the last one's and back: the less and the more of the looks
    /// before and after.
    pub apart_ns: Option<[f64; 2]>,
}

impl FifoPass {
    /// What Ctrl-C left of one that had not begun.
    fn unmeasured(target: &'static str) -> Self {
        Self {
            target,
            messages: 0,
            sends: 0,
            seconds: 0.0,
            settlement: Settlement::default(),
            again: 0,
            empty_receives: 0,
            ids: 0,
            target_bytes: None,
            is_cut_short: false,
            apart_ns: None,
        }
    }

    /// Whether it has figures: without, they are not numbers.
    pub fn is_measured(&self) -> bool {
        self.seconds > 0.0
    }

    /// Life cycles per second, all threads together.
    pub fn messages_per_second(&self) -> f64 {
        self.messages as f64 / self.seconds
    }

    /// Sends per second, all threads together.
    pub fn sends_per_second(&self) -> f64 {
        self.sends as f64 / self.seconds
    }

    /// Nothing was found wrong.
    pub fn verified(&self) -> bool {
        self.settlement.findings.is_empty()
    }
}

const WARM_UP: u8 = 0;
const MEASURE: u8 = 1;
const STOP: u8 = 2;

/// Counters of one thread, for the others.
#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
}

struct Course {
    phase: CachePadded<AtomicU8>,
    measuring: AtomicUsize,
    is_cut_short: AtomicU8,
    counters: Vec<CachePadded<Counters>>,
    barrier: Barrier,
    failure: OnceLock<String>,
}

impl Course {
    fn outstanding(&self) -> u64 {
        let sum = |counter: fn(&Counters) -> &AtomicU64| {
            self.counters
                .iter()
                .map(|counters| counter(counters).load(Relaxed))
                .sum::<u64>()
        };
        sum(|counters| &counters.sent).saturating_sub(sum(|counters| &counters.received))
    }
}

/// The part that counts, as one thread saw it.
#[derive(Clone, Copy, Debug)]
struct Window {
    start: Instant,
    end: Instant,
    messages: u64,
    sends: u64,
}

/// What a thread has done.
struct Record<'o> {
    closed: Closed<'o>,
    window: Option<Window>,
}

/// Runs `plan` once on a new `T`. Ctrl-C ends it early; it is checked like any other, and has figures if half of its time was over.
pub fn pass<T: FifoTarget>(plan: &FifoPlan) -> anyhow::Result<FifoPass> {
    if stop::is_asked_for() {
        return Ok(FifoPass::unmeasured(T::NAME));
    }
    let setup = FifoSetup {
        seed: plan.seed,
        memory_limit_bytes: memory::total_bytes().unwrap_or(u64::MAX / 2),
    };
    let target = T::build(&setup).with_context(|| format!("{} could not be built", T::NAME))?;
    let lanes = Lanes::new(plan.groups, plan.threads, plan.seed);
    let office = Office {
        names: Names::new(lanes.groups()),
        order: Order::new(lanes),
        withheld: Withheld::new(0),
        seed: plan.seed,
    };
    let course = Course {
        phase: CachePadded::new(AtomicU8::new(WARM_UP)),
        measuring: AtomicUsize::new(0),
        is_cut_short: AtomicU8::new(0),
        counters: (0..plan.threads).map(|_| CachePadded::default()).collect(),
        barrier: Barrier::new(plan.threads + 1),
        failure: OnceLock::new(),
    };
    let apart = || distance::round_trip_ns(0, plan.threads - 1);
    let before = apart();
    let records = thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads)
            .map(|seat| {
                let (target, office, course) = (&target, &office, &course);
                scope.spawn(move || occupy(target, office, course, plan, seat))
            })
            .collect();
        coordinate(plan, &course);
        threads
            .into_iter()
            .filter_map(|thread| thread.join().expect("threads abort on panic"))
            .collect::<Vec<_>>()
    });
    if let Some(failure) = course.failure.get() {
        return Err(anyhow!("{}: {failure}", T::NAME));
    }
    let noise = Noise::default().with_distances(before, apart());
    let windows: Vec<Window> = records.iter().filter_map(|record| record.window).collect();
    let start = windows.iter().map(|window| window.start).min();
    let end = windows.iter().map(|window| window.end).max();
    let seconds = match start.zip(end) {
        Some((start, end)) => end.duration_since(start).as_secs_f64(),
        None if stop::is_asked_for() => 0.0,
        None => return Err(anyhow!("no thread came to run within the measured time")),
    };
    let is_cut_short = course.is_cut_short.into_inner() != 0;
    let is_measured = !stop::is_asked_for() || is_cut_short || seconds >= plan.duration.as_secs_f64() / 2.0;
    let figure = |of: fn(&Window) -> u64| windows.iter().filter(|_| is_measured).map(of).sum();
    let (mut senders, mut books) = (Vec::new(), Vec::new());
    let (mut again, mut empty_receives) = (0, 0);
    for record in records {
        again += record.closed.again;
        empty_receives += record.closed.empty;
        senders.push(record.closed.sent);
        books.push(record.closed.received);
    }
    let mut rest = office.book();
    rest.drain(&mut target.session(0)?);
    books.push(rest.received);
    let mut settlement = settle(senders, books, super::clerk::BODY_BYTES);
    let Counts { visible, in_flight } = target.counts();
    if visible + in_flight > 0 {
        settlement.findings.add_many(
            Wrong::LeftOver,
            visible + in_flight,
            format_args!("{visible} visible, {in_flight} in flight"),
        );
    }
    let ids = target.ids();
    if ids != settlement.sent {
        settlement.findings.add(
            Wrong::Miscounted,
            format_args!("{} ids sent, {ids} remembered", settlement.sent),
        );
    }
    Ok(FifoPass {
        target: T::NAME,
        messages: figure(|window| window.messages),
        sends: figure(|window| window.sends),
        seconds: if is_measured { seconds } else { 0.0 },
        settlement,
        again,
        empty_receives,
        ids,
        target_bytes: target.memory_bytes(),
        is_cut_short,
        apart_ns: noise.apart_ns,
    })
}

/// The other side of the barriers.
fn coordinate(plan: &FifoPlan, course: &Course) {
    const PATIENCE: Duration = Duration::from_secs(5);
    course.barrier.wait();
    if course.failure.get().is_some() {
        return;
    }
    course.barrier.wait();
    let is_over = || stop::is_asked_for() || course.phase.load(Relaxed) == STOP;
    sleep_unless(is_over, plan.warm_up);
    // A thread may have stopped all of them meanwhile.
    let _stopped = course.phase.compare_exchange(WARM_UP, MEASURE, Relaxed, Relaxed);
    let noticed = Instant::now();
    while course.measuring.load(Relaxed) < plan.threads && noticed.elapsed() < PATIENCE {
        thread::sleep(Duration::from_micros(200));
    }
    sleep_unless(is_over, plan.duration);
    course.phase.store(STOP, Relaxed);
}

/// Sleeps, looking up now and then whether it is to go on.
fn sleep_unless(is_over: impl Fn() -> bool, duration: Duration) {
    const TICK: Duration = Duration::from_millis(5);
    let begin = Instant::now();
    while let Some(rest) = duration.checked_sub(begin.elapsed())
        && !rest.is_zero()
        && !is_over()
    {
        thread::sleep(rest.min(TICK));
    }
}

/// A thread's whole life. `None` when a thread could not begin; then all give up together.
fn occupy<'r, T: FifoTarget>(
    target: &'r T,
    office: &'r Office,
    course: &Course,
    plan: &FifoPlan,
    seat: usize,
) -> Option<Record<'r>> {
    let _guard = AbortOnPanic;
    pin(seat);
    let session = target.session(seat);
    if let Err(error) = &session {
        // Losing the race to another failure is fine: one reason is enough.
        let _ = course
            .failure
            .set(format!("thread {seat} could not register: {error:#}"));
    }
    course.barrier.wait();
    if course.failure.get().is_some() {
        return None;
    }
    let mut session = session.ok()?;
    let duty = Duty {
        batch: plan.batch,
        duplicates: plan.duplicates,
        back: plan.back,
    };
    let mut clerk = Clerk::new(office, seat as u16, duty, Random::new(plan.seed, seat as u64));
    clerk.fill(&mut session, plan.depth * office.order.lanes().of_each());
    course.barrier.wait();
    let window = if plan.batch == 1 {
        work::<true, _>(&mut clerk, &mut session, course, plan, seat)
    } else {
        work::<false, _>(&mut clerk, &mut session, course, plan, seat)
    };
    Some(Record {
        closed: clerk.close(),
        window,
    })
}

/// Life cycles until told to stop.
fn work<const ONE: bool, S: FifoSession>(
    clerk: &mut Clerk<'_, S::Handle>,
    session: &mut S,
    course: &Course,
    plan: &FifoPlan,
    seat: usize,
) -> Option<Window> {
    let messages_max = plan.messages_max / plan.threads as u64;
    let more_threads_than_cores = plan.threads > environment::cores();
    let mut begun: Option<Window> = None;
    loop {
        let counters = &course.counters[seat];
        // Relaxed: one writer, and readers want no more than a recent value.
        counters.sent.store(clerk.sent.count(), Relaxed);
        counters
            .received
            .store(clerk.book.received.received_count(), Relaxed);
        if clerk.sent.count() >= messages_max && course.phase.load(Relaxed) == MEASURE {
            course.is_cut_short.store(1, Relaxed);
            course.phase.store(STOP, Relaxed);
        }
        match course.phase.load(Relaxed) {
            WARM_UP => {}
            MEASURE if begun.is_none() => {
                course.measuring.fetch_add(1, Relaxed);
                let now = Instant::now();
                begun = Some(Window {
                    start: now,
                    end: now,
                    messages: clerk.book.received.deleted_count(),
                    sends: clerk.sent.count() + clerk.again,
                });
            }
            MEASURE => {}
            _ => {
                let end = Instant::now();
                return begun.map(|before| Window {
                    start: before.start,
                    end,
                    messages: clerk.book.received.deleted_count() - before.messages,
                    sends: clerk.sent.count() + clerk.again - before.sends,
                });
            }
        }
        if clerk.is_ahead() {
            clerk.reckon(course.outstanding() / plan.threads as u64);
            if more_threads_than_cores {
                thread::yield_now();
            }
        }
        match plan.turn {
            None => {
                for _ in 0..Clerk::<S::Handle>::CHUNK {
                    clerk.cycle::<ONE, _>(session);
                }
            }
            Some(cycles) => {
                for _ in 0..(Clerk::<S::Handle>::CHUNK / cycles).max(1) {
                    let mut turn = session.turn_to();
                    for _ in 0..cycles {
                        clerk.cycle::<ONE, _>(&mut turn);
                    }
                }
            }
        }
    }
}
