//! The stage of the models: a real partition, and the hands that act on it, one per thread.
//!
//! Under loom a segment has two ready words of one token each, and the collector is a graveyard: what is retired is
//! counted and stays readable until the model is over.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary has its own copy, and uses its part of it"
)]
#![allow(clippy::modulo_one, reason = "words of one token")]

pub mod fifo;

use std::ops::Deref;

use epoq::{
    Broker, Queue, QueueConfig, Worker,
    budget::Budget,
    clock::{Clock, ManualClock, Millis, Reading},
    config::{BITS, SLOTS, WORDS},
    ledger::{
        expiry::Swept,
        lease::{Claim, DeletedFrom, Graves, One, Place, Terms},
        partition::{Draft, Partition, Passing},
        reclaim::{Collector, Local, Pin},
        segment::{Reservation, Segment, TOKENS},
        state::{Phase, Refusal},
    },
    sync::{Arc, AtomicU64, Ordering},
};

/// When every message is sent: late enough that no moment reckoned back from here meets the beginning of time.
pub const SENT: Millis = Millis::new(1 << 30);
/// The time during a race.
pub const NOW: Millis = Millis::new(SENT.as_millis() + 10);
/// A reading that was taken a moment before, and is still in use.
pub const EARLIER: Millis = Millis::new(NOW.as_millis() - 1);
/// When the leases taken at `NOW` are over.
pub const LATER: Millis = Millis::new(NOW.as_millis() + 10);
/// When a lease taken at `LATER` is over.
pub const LAST: Millis = Millis::new(LATER.as_millis() + 10);
/// How long messages last: longer than any model.
pub const RETENTION_MS: u64 = 1 << 32;
/// How long leases last; a claim rounds up by one.
pub const VISIBILITY_MS: u64 = 9;

/// A partition with its budget and its collector: built before the race, checked after it.
pub struct Stage {
    pub partition: Arc<Partition>,
    operations: Arc<AtomicU64>,
    budget: Arc<Budget>,
    // Last: it runs what was retired when it is dropped.
    collector: Collector,
}

/// What one thread acts with.
///
/// Each operation begins by counting itself, so that two operations meet on one word even if their first steps are loads.
/// loom reorders only accesses that it takes to depend on each other, and compares an access with the last one before it:
/// a load by one thread is not tried after another thread's read-modify-write if that thread itself loaded the word before.
/// The count is Relaxed and orders nothing.
pub struct Hand {
    pub partition: Arc<Partition>,
    operations: Arc<AtomicU64>,
    local: Local,
    clock: Clock,
}

// SAFETY: a hand is used by one thread at a time, and what it has of the epoch crate keeps nothing of the thread that made it.
#[cfg(crossbeam_loom)]
unsafe impl Send for Hand {}

/// Something that is handed to another thread of loom's, all of which run on one of the system's.
pub struct Handed<T>(pub T);
// SAFETY: see above; used by one of loom's threads at a time.
unsafe impl<T> Send for Handed<T> {}

impl<T> Handed<T> {
    pub fn take(self) -> T {
        self.0
    }
}

/// A queue of one partition, and two workers.
pub fn queue_and_workers(clock: &ManualClock) -> (Broker, Queue, [Worker; 2]) {
    let broker = Broker::builder()
        .partitions(1)
        .clock(clock)
        .build()
        .expect("a broker");
    let queue = broker
        .create_queue("queue", QueueConfig::default())
        .expect("a queue");
    let workers = [(); 2].map(|()| broker.worker().expect("a worker"));
    (broker, queue, workers)
}

/// A claimed message, as a receipt handle names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub place: Place,
    pub receives: u32,
    /// Which message it is.
    pub body: u8,
}

/// A segment of the stage.
#[derive(Clone, Copy)]
pub struct Held(*mut Segment);

// SAFETY: a segment is shared between threads anyway; see `deref` for its life.
unsafe impl Send for Held {}
// SAFETY: as above.
unsafe impl Sync for Held {}

impl Deref for Held {
    type Target = Segment;
    fn deref(&self) -> &Segment {
        // SAFETY: the graveyard frees nothing before the model is over.
        unsafe { &*self.0 }
    }
}

impl Held {
    pub fn is(self, other: *const Segment) -> bool {
        self.0.cast_const() == other
    }

    pub fn of(segment: *mut Segment) -> Self {
        Self(segment)
    }

    pub fn as_ptr(self) -> *mut Segment {
        self.0
    }

    /// The place of one of its slots.
    pub fn place(self, slot: usize) -> Place {
        Place {
            number: self.number(),
            serial: self.fixed().serial,
            slot: slot as u32,
        }
    }

    pub fn phase(self, slot: usize) -> Phase {
        self.slots[slot].state().phase()
    }

    /// When the message in a slot was received first.
    pub fn first_received(self, slot: usize) -> Option<Millis> {
        self.slots[slot].received().first(SENT)
    }

    pub fn live(self) -> u32 {
        self.tally.live.load(Ordering::Acquire)
    }

    pub fn has_tokens(self) -> bool {
        (0..WORDS).any(|word| self.ready[word].load(Ordering::Acquire) & TOKENS != 0)
    }
}

impl Stage {
    /// A partition with one empty segment.
    pub fn new() -> Self {
        Self::of(false)
    }

    /// The same, of a FIFO queue if `is_linked`.
    pub fn of(is_linked: bool) -> Self {
        let budget = Arc::new(Budget::new(1 << 20));
        let partition =
            Partition::new(0, Arc::clone(&budget), Arc::default(), is_linked, SENT).expect("room");
        // Hints that only say where and when to look: at rest, so that no model explores them beside its own race.
        partition.head.oldest.store(SENT.as_millis(), Ordering::Relaxed);
        partition.sweep_at.store(0, Ordering::Relaxed);
        Self {
            partition,
            operations: Arc::new(AtomicU64::new(0)),
            budget,
            collector: Collector::new(),
        }
    }

    /// A hand at the time of the race.
    pub fn hand(&self) -> Hand {
        self.hand_at(NOW)
    }

    /// A hand whose clock stands at `now`.
    pub fn hand_at(&self, now: Millis) -> Hand {
        let time = ManualClock::new();
        time.advance(now.since(Millis::new(0)));
        Hand {
            partition: Arc::clone(&self.partition),
            operations: Arc::clone(&self.operations),
            local: self.collector.register(),
            clock: Clock::from(&time),
        }
    }

    /// How many segments were retired so far, each counted as often as it was.
    pub fn segments_retired(&self) -> usize {
        // Nodes of `returned` do not count as limbo, these models retire no bodies, and all segments have the same size.
        let (segment, bytes) = (Segment::footprint(2 * SLOTS), self.budget.read().limbo as usize);
        assert_eq!(bytes % segment, 0);
        bytes / segment
    }

    /// Claims what there is, through the head and through `returned`.
    pub fn drain(&self) -> Vec<Lease> {
        let hand = self.hand();
        std::iter::from_fn(|| hand.receive()).collect()
    }
}

impl Hand {
    pub fn pin(&self) -> Pin<'_> {
        self.local.pin()
    }

    /// Begins an operation.
    pub fn begin(&self) -> Pin<'_> {
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.pin()
    }

    pub fn reading(&self) -> Reading<'_> {
        Reading::new(&self.clock)
    }

    /// The segment at the head.
    pub fn first(&self) -> Held {
        Held(self.partition.head.segment.load(Ordering::Acquire))
    }

    /// The segment after `segment`.
    pub fn next(&self, segment: Held) -> Held {
        let next = segment.header.next.load(Ordering::Acquire);
        assert!(!next.is_null());
        Held(next)
    }

    pub fn send(&self, body: u8) {
        self.send_long(body, 1);
    }

    /// Sends a body of `length` bytes that begins with `body`.
    pub fn send_long(&self, body: u8, length: usize) {
        self.partition
            .append_one(&vec![body; length], SENT, &self.begin())
            .expect("room");
    }

    /// Sends bodies that all begin with `body` and have these lengths, as one batch.
    pub fn send_batch(&self, body: u8, lengths: &[usize]) {
        self.send_all(lengths.iter().map(|&length| vec![body; length]).collect());
    }

    /// Sends bodies of one byte each, as one batch.
    pub fn send_bodies(&self, bodies: &[u8]) {
        self.send_all(bodies.iter().map(|&body| vec![body]).collect());
    }

    fn send_all(&self, bodies: Vec<Vec<u8>>) {
        let lengths: Vec<u32> = bodies.iter().map(|body| body.len() as u32).collect();
        let draft = |at: usize| Draft::Inline(&bodies[at]);
        self.partition
            .append(&lengths, draft, SENT, &self.begin(), |_, _| ())
            .expect("room");
    }

    /// The first half of a send: reserves a slot and writes the message, unpublished.
    pub fn reserve(&self, segment: Held, body: u8) -> usize {
        let Reservation::Taken {
            first,
            count: 1,
            offset,
            unused: 0,
        } = segment.reserve(&[1])
        else {
            panic!("no slot left");
        };
        // SAFETY: reserved just now, published only by `publish`.
        unsafe { segment.write_inline(first, offset, &[body], SENT) };
        let slot = &segment.slots[first];
        slot.store(slot.state_in_hand().publish(None).expect("an empty slot").next);
        first
    }

    /// The second half of a send, and of whatever else makes a slot's message visible.
    pub fn publish(&self, segment: Held, slot: usize) {
        self.partition
            .publish(&segment, slot / BITS, 1 << (slot % BITS), &self.begin());
    }

    /// Installs the segment after a sealed one.
    pub fn grow(&self, sealed: Held) -> Held {
        self.partition
            .grow(&sealed, 0, SENT, &self.begin())
            .expect("room");
        self.next(sealed)
    }

    /// Receives one message from wherever there is one, as a queue's receive of one message does.
    pub fn receive(&self) -> Option<Lease> {
        self.receive_by(|hand, terms, pin| match self.partition.claim_first(terms, pin) {
            Some(claim) => hand.claim = Some(claim),
            None => self.partition.claim(1, terms, pin, hand),
        })
    }

    /// Receives one message through the head.
    pub fn receive_head(&self) -> Option<Lease> {
        self.receive_by(|hand, terms, pin| self.partition.claim_head(1, terms, pin, hand))
    }

    /// Receives one message through `returned`.
    pub fn receive_returned(&self) -> Option<Lease> {
        self.receive_by(|hand, terms, pin| self.partition.claim_returned(1, terms, pin, hand))
    }

    /// Receives one message that nobody has received yet, from the head on.
    pub fn receive_new(&self) -> Option<Lease> {
        self.receive_by(|hand, terms, pin| self.partition.claim_new(1, terms, pin, hand))
    }

    /// Receives one message from the head's segment, from slot `start` on.
    pub fn receive_from(&self, start: usize) -> Option<Lease> {
        self.receive_by(|hand, terms, pin| self.partition.claim_from(start, 1, terms, pin, hand))
    }

    /// Gives a lease up: its message is visible at once.
    pub fn release(&self, lease: &Lease) {
        let pin = self.begin();
        self.partition
            .change_visibility(lease.place, lease.receives, 0, &self.reading(), &pin)
            .expect("its lease is running");
    }

    /// Clears the front of `returned` away, as a receive does that took nothing through it.
    pub fn tidy(&self, visits: usize) {
        self.partition.tidy_returned(visits, &self.begin());
    }

    /// Goes on by an epoch, if others let it, and frees what is ripe. What an operation has retired, and handed to the collector
    /// while it was pinned, is ripe then unless somebody was pinned before.
    pub fn flush(&self) {
        self.pin().flush();
    }

    fn receive_by(&self, claim: impl for<'p> FnOnce(&mut One<'p>, &Terms<'_>, &'p Pin<'p>)) -> Option<Lease> {
        let pin = self.begin();
        let reading = self.reading();
        let mut hand = One {
            claim: None,
            aside: None,
        };
        claim(&mut hand, &self.terms(&reading), &pin);
        assert!(hand.aside.is_none(), "nothing here is special");
        hand.claim.as_ref().map(Lease::of)
    }

    /// The terms of a receive from a queue without limits.
    pub fn terms<'r>(&self, reading: &'r Reading<'r>) -> Terms<'r> {
        Terms {
            visibility_ms: VISIBILITY_MS,
            retention_ms: RETENTION_MS,
            max_receives: u32::MAX,
            round: 0,
            reading,
        }
    }

    pub fn delete(&self, lease: &Lease) -> Result<DeletedFrom, Refusal> {
        let pin = self.begin();
        let mut graves = Graves::new();
        let result = self
            .partition
            .delete(lease.place, lease.receives, &pin, &mut graves);
        graves.fill(&pin);
        result
    }

    /// Makes visible what is due in one segment when the time is `now`.
    pub fn sweep(&self, segment: Held, now: Millis) -> Swept {
        let mut swept = Swept::default();
        self.partition
            .sweep_segment(segment.number(), now, &mut swept, &self.begin(), &mut |_| ());
        swept
    }

    /// Receives one message through the head, with a passing of its own.
    pub fn receive_passing_by(&self, pass: fn(&Hand, Held, &Pin<'_>) -> Passing) -> Option<Lease> {
        let pin = self.begin();
        loop {
            let segment = self.first();
            if segment.has_tokens() {
                return self.receive_head();
            }
            if pass(self, segment, &pin) != Passing::Blocked {
                return None;
            }
        }
    }

    /// The last step of a passing: moves the head, and drops the list's hold.
    pub fn move_head(&self, segment: Held, pin: &Pin<'_>) -> Passing {
        let next = segment.header.next.load(Ordering::Acquire);
        let moved = self.partition.head.segment.compare_exchange(
            segment.as_ptr(),
            next,
            Ordering::Release,
            Ordering::Relaxed,
        );
        if moved.is_ok() {
            self.partition.after(segment.bury(1), &segment, pin);
        }
        Passing::Gone
    }

    /// Whether a segment was retired; then no root leads to it any more. (I6)
    ///
    /// The look at the index acquires what the retirement released, as a later pin does.
    pub fn is_retired(&self, segment: Held) -> bool {
        let pin = self.pin();
        let retired = self.partition.index.find(segment.number(), &pin).is_none();
        if retired {
            let head = self.partition.head.segment.load(Ordering::Acquire);
            assert!(!segment.is(head), "retired while reachable from head");
            let tail = self.partition.tail.load(Ordering::Acquire);
            assert!(!segment.is(tail), "retired while reachable from tail");
            let front = self.partition.returned.peek(&pin);
            assert!(
                !front.is_some_and(|front| segment.is(front.segment)),
                "retired while on returned"
            );
        }
        retired
    }
}

impl Lease {
    pub fn of(claim: &Claim<'_>) -> Self {
        let slot = claim.place();
        // SAFETY: just claimed; nothing is freed before the model is over.
        let body = unsafe { slot.entry().body() };
        Self {
            place: Place {
                number: claim.segment.number(),
                serial: claim.segment.fixed().serial,
                slot: claim.slot,
            },
            receives: claim.receives,
            body: body[0],
        }
    }
}

/// Demands that exactly these messages were received, each once.
pub fn assert_received(leases: &[Lease], expected: &[u8]) {
    let mut bodies: Vec<u8> = leases.iter().map(|lease| lease.body).collect();
    bodies.sort_unstable();
    for body in expected {
        let times = bodies.iter().filter(|&other| other == body).count();
        assert!(times > 0, "message {body} was lost");
        assert!(times == 1, "message {body} was received {times} times");
    }
    assert_eq!(bodies.len(), expected.len(), "received {bodies:?}");
}
