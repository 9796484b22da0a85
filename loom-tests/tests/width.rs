//! A queue's width: nobody sends to where nobody looks, and no partition is taken away with a message in it. (H10; I1)
//!
//! The epoch is a count of those who are pinned. What is deferred runs when the count is zero, by whoever brings it there: then
//! everybody has unpinned who was pinned at the deferral, and who pins later comes after it.
#![cfg(loom)]

mod stage;

use std::sync::Mutex;

use epoq::{
    ledger::{partition::Partition, published::Published, reclaim::Pin, tend::Chores},
    queue::route::{Route, Routes, Settling},
    sync::{Arc, AtomicU64, Ordering},
    wait::Waiters,
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Held, LATER, Lease, NOW, RETENTION_MS, SENT, Stage, assert_received};

const CHORES: Chores<'static> = Chores {
    retention_ms: RETENTION_MS,
    id: &|_, _, _| [1; 16],
};

/// Set while something is deferred; below it, how many are pinned.
const DEFERRED: u64 = 1 << 32;

/// Stands for the epoch.
#[derive(Default)]
struct Epoch {
    pinned: Count,
    // A std mutex adds no branches, and is held over no operation of loom's.
    deferred: Mutex<Option<Settling>>,
}

struct Count(AtomicU64);

impl Default for Count {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Epoch {
    fn pin(&self) {
        // AcqRel, in all three: what was done before a deferral is seen by who pins after it, and what was done before an
        // unpinning by what is deferred.
        self.pinned.0.fetch_add(1, Ordering::AcqRel);
    }

    fn unpin(&self) {
        if self.pinned.0.fetch_sub(1, Ordering::AcqRel) == DEFERRED + 1 {
            self.run();
        }
    }

    fn defer(&self, settling: Settling) {
        *self.deferred.lock().unwrap() = Some(settling);
        if self.pinned.0.fetch_or(DEFERRED, Ordering::AcqRel) == 0 {
            self.run();
        }
    }

    fn run(&self) {
        // The mark stays; what was deferred runs once.
        let deferred = self.deferred.lock().unwrap().take();
        if let Some(settling) = deferred {
            settling.settle();
        }
    }
}

/// A queue of two partitions.
struct Queue {
    stage: Stage,
    routes: Arc<Routes>,
    places: Arc<[Published<Partition>; 2]>,
    epoch: Arc<Epoch>,
}

/// What one thread acts with.
struct Party {
    hand: Hand,
    routes: Arc<Routes>,
    places: Arc<[Published<Partition>; 2]>,
    epoch: Arc<Epoch>,
}

fn partition(hand: &Hand, number: u32) -> Arc<Partition> {
    let budget = Arc::clone(&hand.partition.budget);
    let partition = Partition::new(number, budget, Arc::default(), false, SENT).expect("room");
    // At rest, as the stage's own.
    partition.head.oldest.store(SENT.as_millis(), Ordering::Relaxed);
    partition.sweep_at.store(0, Ordering::Relaxed);
    partition
}

impl Queue {
    /// Senders use `width` partitions, and there are two.
    fn new(width: usize) -> Self {
        let stage = Stage::new();
        let second = partition(&stage.hand(), 1);
        Self {
            places: Arc::new([
                Published::new(Arc::clone(&stage.partition)),
                Published::new(second),
            ]),
            routes: Arc::new(Routes::new(width, width)),
            epoch: Arc::default(),
            stage,
        }
    }

    /// One that was narrowed to one partition, as everybody has seen; the second is still there.
    fn narrowed() -> Self {
        let queue = Self::new(2);
        let settling = queue.routes.narrow(queue.routes.now()).expect("narrowed");
        settling.settle();
        queue
    }

    fn party(&self) -> Party {
        Party {
            hand: self.stage.hand(),
            routes: Arc::clone(&self.routes),
            places: Arc::clone(&self.places),
            epoch: Arc::clone(&self.epoch),
        }
    }

    /// A hand at the second partition.
    fn second(&self) -> Hand {
        let mut hand = self.stage.hand();
        let partition = self.places[1].share(&hand.pin());
        hand.partition = partition.expect("there");
        hand
    }

    /// Receives all that is to be found, and says whether the second partition is there.
    fn drain(&self) -> (Vec<Lease>, bool) {
        let leases = self.party().look(self.routes.now());
        let is_there = self.places[1].is_some();
        (leases, is_there)
    }
}

type ReadRoute = fn(&Routes) -> Route;
const READ: ReadRoute = |routes| routes.now();

impl Party {
    /// Sends by the mask, as a worker does whose home is partition 1. Returns to where.
    fn send(&self, body: u8, read: ReadRoute) -> usize {
        self.epoch.pin();
        let pin = self.hand.begin();
        let number = 1 & read(&self.routes).mask();
        let partition = self.places[number]
            .get_or_try(&pin, || Ok::<_, ()>(partition(&self.hand, number as u32)))
            .expect("room");
        partition.append_one(&[body], SENT, &pin).expect("room");
        drop(pin);
        self.epoch.unpin();
        number
    }

    /// Receives all there is below the span.
    fn look(&mut self, route: Route) -> Vec<Lease> {
        let mut leases = Vec::new();
        for place in &self.places[..route.span()] {
            let partition = place.share(&self.hand.pin());
            if let Some(partition) = partition {
                self.hand.partition = partition;
                leases.extend(std::iter::from_fn(|| self.hand.receive()));
            }
        }
        leases
    }

    fn narrow(&self) {
        if let Some(settling) = self.routes.narrow(self.routes.now()) {
            self.epoch.defer(settling);
        }
    }

    fn widen(&self) -> bool {
        self.routes.widen(self.routes.now(), 2)
    }

    /// As `Queue::close_one`.
    fn close(&self) -> bool {
        let pin = self.hand.begin();
        self.routes.close_last(
            self.routes.now(),
            |last| self.drained(last, is_drained, &pin),
            |place| take_away(place, &pin),
        )
    }

    fn drained(&self, last: usize, is_drained: IsDrained, pin: &Pin<'_>) -> Option<&Published<Partition>> {
        let place = &self.places[last];
        place
            .get(pin)
            .is_none_or(|partition| is_drained(partition, pin))
            .then_some(place)
    }
}

type IsDrained = fn(&Partition, &Pin<'_>) -> bool;

fn is_drained(partition: &Partition, pin: &Pin<'_>) -> bool {
    partition.is_drained(pin)
}

fn take_away(place: &Published<Partition>, pin: &Pin<'_>) {
    place.replace(None, pin, drop);
}

const CLOSE: fn(&Party) -> bool = Party::close;
const WIDEN: fn(&Party) -> bool = Party::widen;
const SETTLE: fn(Settling, &Routes, Route) = |settling, _, _| settling.settle();

/// One who would take the second partition away.
fn closer(queue: &Queue, close: fn(&Party) -> bool) -> thread::JoinHandle<bool> {
    let party = queue.party();
    thread::spawn(move || close(&party))
}

/// The queue is narrowed, and its second partition taken away, while somebody sends who may have seen the old mask.
fn late_sender(narrow_and_close: fn(&Party)) -> String {
    let queue = Queue::new(2);
    let narrower = thread::spawn({
        let party = queue.party();
        move || narrow_and_close(&party)
    });
    let number = queue.party().send(1, READ);
    narrower.join().unwrap();
    let (leases, is_there) = queue.drain();
    assert_received(&leases, &[1]);
    format!("to {number}, {}", if is_there { "kept" } else { "closed" })
}

const NARROW_AND_CLOSE: fn(&Party) = |party| {
    party.narrow();
    party.close();
};

/// One takes the second partition away, another one widens the queue, a third sends.
fn closing_and_widening(
    close: fn(&Party) -> bool,
    widen: fn(&Party) -> bool,
    read: ReadRoute,
) -> &'static str {
    let queue = Queue::narrowed();
    let second = queue.second().partition;
    let widener = thread::spawn({
        let party = queue.party();
        move || widen(&party)
    });
    let sender = thread::spawn({
        let party = queue.party();
        move || party.send(1, read)
    });
    let closed = close(&queue.party());
    let widened = widener.join().unwrap();
    let number = sender.join().unwrap();
    let (leases, _) = queue.drain();
    assert_received(&leases, &[1]);
    let route = queue.routes.now();
    assert!(!route.is_closing());
    assert_eq!(route.span(), if widened { 2 } else { 1 + usize::from(!closed) });
    let is_same = queue.places[1]
        .share(&queue.stage.hand().pin())
        .is_some_and(|now| Arc::ptr_eq(&now, &second));
    assert_eq!(is_same, !closed);
    match (closed, widened, number) {
        (true, false, _) => "closed",
        (true, true, 0) => "closed, widened after that",
        (true, true, _) => "closed, widened after that, sent there",
        (false, true, 0) => "widened",
        (false, true, _) => "widened, sent there",
        (false, false, _) => "neither",
    }
}

/// The second partition is narrowed away; its first segment, which the head has passed, has one message in flight.
fn in_flight_behind_the_head() -> (Queue, Hand, Held, Lease) {
    let queue = Queue::narrowed();
    let hand = queue.second();
    let segment = hand.first();
    for body in 1..=3 {
        hand.send(body);
    }
    let leases = [(); 3].map(|()| hand.receive().expect("just sent"));
    for gone in &leases[1..] {
        hand.delete(gone).expect("there");
    }
    assert!(!segment.is(hand.first().as_ptr()), "passed");
    (queue, hand, segment, leases[0])
}

/// Its lease ends, by a sweep, while somebody would take the partition away.
fn closing_and_a_sweep(close: fn(&Party) -> bool) -> &'static str {
    let (queue, hand, segment, _) = in_flight_behind_the_head();
    let closer = closer(&queue, close);
    assert_eq!(hand.sweep(segment, LATER).expired, 1);
    let closed = closer.join().unwrap();
    let (leases, _) = queue.drain();
    assert_received(&leases, &[1]);
    if closed { "closed" } else { "kept" }
}

/// It is deleted, while somebody takes the partition away.
fn closing_and_a_delete(close: fn(&Party) -> bool) -> &'static str {
    let (queue, hand, _, lease) = in_flight_behind_the_head();
    let closer = closer(&queue, close);
    assert!(hand.delete(&lease).is_ok());
    let closed = closer.join().unwrap();
    assert!(closed || close(&queue.party()), "kept for ever");
    assert!(!queue.places[1].is_some());
    if closed { "closed" } else { "closed later" }
}

/// A message moves from the segment at the head to the tail's, while somebody would take the partition away.
fn closing_and_an_evacuation(close: fn(&Party) -> bool) -> &'static str {
    let queue = Queue::narrowed();
    let hand = queue.second();
    let segment = hand.first();
    hand.send(1);
    hand.send(2);
    let leases = [(); 2].map(|()| hand.receive().expect("just sent"));
    hand.delete(&leases[1]).expect("there");
    hand.grow(segment);
    hand.release(&leases[0]);
    let closer = closer(&queue, close);
    let pin = hand.begin();
    assert!(segment.take_one(0));
    let state = segment.slot(0).state_in_hand();
    let moved = hand
        .partition
        .move_visible(&segment, 0, state, &CHORES, NOW, &pin);
    assert!(moved, "there is room");
    let closed = closer.join().unwrap();
    let (leases, _) = queue.drain();
    assert_received(&leases, &[1]);
    if closed { "closed" } else { "kept" }
}

/// One widens the queue, another one sends, a third waits for the message.
fn widening_and_a_waiter(widen: fn(&Party) -> bool, is_early: bool) -> &'static str {
    let queue = Queue::new(1);
    let waiters = Arc::new(Waiters::default());
    let widener = (!is_early).then(|| {
        let party = queue.party();
        thread::spawn(move || widen(&party))
    });
    let sender = thread::spawn({
        let (party, waiters) = (queue.party(), Arc::clone(&waiters));
        move || {
            // One thread less, for the twin's sake.
            if is_early {
                widen(&party);
            }
            let number = party.send(1, READ);
            waiters.wake(1);
            number
        }
    });
    let mut party = queue.party();
    let mut waiting = waiters.enter();
    // Progress: each turn but the last sleeps until it is woken, and one message is sent.
    loop {
        let early = queue.routes.now();
        // A meeting with the sender's operation: see `Hand`.
        drop(party.hand.begin());
        waiting.listen();
        let route = if is_early { early } else { queue.routes.now() };
        let leases = party.look(route);
        if !leases.is_empty() {
            assert_received(&leases, &[1]);
            break;
        }
        waiting.take_listener().expect("listening").wait();
    }
    drop(waiting);
    if let Some(widener) = widener {
        widener.join().unwrap();
    }
    ["to 0", "to 1"][sender.join().unwrap()]
}

/// A queue was narrowed, widened and narrowed again; what was deferred runs in either order.
fn settled_in_either_order(settle: fn(Settling, &Routes, Route)) -> &'static str {
    let queue = Queue::new(2);
    let narrow = || {
        let settling = queue.routes.narrow(queue.routes.now()).expect("narrowed");
        (settling, queue.routes.now())
    };
    let first = narrow();
    assert!(queue.routes.widen(queue.routes.now(), 2));
    let second = narrow();
    let other = thread::spawn({
        let routes = Arc::clone(&queue.routes);
        move || settle(first.0, &routes, first.1)
    });
    settle(second.0, &queue.routes, second.1);
    let closed = queue.party().close();
    other.join().unwrap();
    assert!(closed || queue.party().close(), "kept for ever");
    if closed { "closed" } else { "closed later" }
}

#[test]
fn narrowing_and_a_late_sender() {
    let outcomes = Outcomes::new(&["to 0, closed", "to 0, kept", "to 1, kept"], &["to 1, closed"]);
    model("narrowing_and_a_late_sender", 30, {
        let outcomes = outcomes.clone();
        move || outcomes.record(late_sender(NARROW_AND_CLOSE))
    });
    outcomes.assert_complete("narrowing_and_a_late_sender");
}

#[test]
fn widening_while_a_partition_is_taken_away() {
    let outcomes = Outcomes::new(
        &[
            "closed",
            "closed, widened after that",
            "closed, widened after that, sent there",
            "widened",
            "widened, sent there",
        ],
        &["neither"],
    );
    model("widening_while_a_partition_is_taken_away", 234, {
        let outcomes = outcomes.clone();
        move || outcomes.record(closing_and_widening(CLOSE, WIDEN, READ))
    });
    outcomes.assert_complete("widening_while_a_partition_is_taken_away");
}

#[test]
fn a_lease_behind_the_head_keeps_its_partition() {
    let outcomes = Outcomes::new(&["kept"], &["closed"]);
    model("a_lease_behind_the_head_keeps_its_partition", 3, {
        let outcomes = outcomes.clone();
        move || outcomes.record(closing_and_a_sweep(CLOSE))
    });
    outcomes.assert_complete("a_lease_behind_the_head_keeps_its_partition");
}

#[test]
fn the_last_message_is_deleted() {
    let outcomes = Outcomes::new(&["closed", "closed later"], &[]);
    model("the_last_message_is_deleted", 9, {
        let outcomes = outcomes.clone();
        move || outcomes.record(closing_and_a_delete(CLOSE))
    });
    outcomes.assert_complete("the_last_message_is_deleted");
}

#[test]
fn a_message_that_moves_keeps_its_partition() {
    let outcomes = Outcomes::new(&["kept"], &["closed"]);
    model("a_message_that_moves_keeps_its_partition", 34, {
        let outcomes = outcomes.clone();
        move || outcomes.record(closing_and_an_evacuation(CLOSE))
    });
    outcomes.assert_complete("a_message_that_moves_keeps_its_partition");
}

#[test]
fn widening_sending_and_a_waiter() {
    let outcomes = Outcomes::new(&["to 0", "to 1"], &[]);
    model("widening_sending_and_a_waiter", 227, {
        let outcomes = outcomes.clone();
        move || outcomes.record(widening_and_a_waiter(WIDEN, false))
    });
    outcomes.assert_complete("widening_sending_and_a_waiter");
}

#[test]
fn two_narrowings_are_settled_in_either_order() {
    let outcomes = Outcomes::new(&["closed"], &[]);
    model("two_narrowings_are_settled_in_either_order", 10, {
        let outcomes = outcomes.clone();
        move || outcomes.record(settled_in_either_order(SETTLE))
    });
    outcomes.assert_complete("two_narrowings_are_settled_in_either_order");
}

// Twins.

/// As `Routes::close_last`, in pieces.
struct Close {
    settled: fn(&Routes, Route) -> bool,
    is_drained: IsDrained,
    /// Whether the partition is looked at before it is known whether everybody has seen the mask.
    is_early: bool,
    /// Whether it is taken away before the span is lowered.
    is_away_first: bool,
}

const STEPS: Close = Close {
    settled: |routes, route| routes.settled.load(Ordering::Acquire) == route.0,
    is_drained,
    is_early: false,
    is_away_first: false,
};

impl Close {
    fn run(&self, party: &Party) -> bool {
        let pin = party.hand.begin();
        let (routes, from) = (&party.routes, party.routes.now());
        let last = from.span() - 1;
        if last <= from.mask() || from.is_closing() {
            return false;
        }
        let early = self.is_early.then(|| party.drained(last, self.is_drained, &pin));
        if !(self.settled)(routes, from) {
            return false;
        }
        let drained = early.unwrap_or_else(|| party.drained(last, self.is_drained, &pin));
        let Some(place) = drained else { return false };
        if self.is_away_first {
            take_away(place, &pin);
        }
        let closing = from.then(from.mask() + 1, last, true);
        if !routes.change(from, closing) {
            return self.is_away_first;
        }
        if !self.is_away_first {
            take_away(place, &pin);
        }
        let closed = closing.then(closing.mask() + 1, last, false);
        routes.settled.fetch_max(closed.0, Ordering::Release);
        routes.change(closing, closed);
        true
    }
}

/// Settled at once, whoever is pinned.
#[test]
fn a_partition_goes_before_the_epoch_has_passed() {
    twin(
        "a_partition_goes_before_the_epoch_has_passed",
        "message 1 was lost",
        || {
            late_sender(|party| {
                let settling = party.routes.narrow(party.routes.now());
                settling.expect("narrowed").settle();
                party.close();
            });
        },
    );
}

/// Who is pinned is asked before the mask is lowered.
#[test]
fn the_epoch_is_asked_before_the_mask_is_lowered() {
    twin(
        "the_epoch_is_asked_before_the_mask_is_lowered",
        "message 1 was lost",
        || {
            late_sender(|party| {
                let nobody = party.epoch.pinned.0.fetch_or(DEFERRED, Ordering::AcqRel) == 0;
                let settling = party.routes.narrow(party.routes.now()).expect("narrowed");
                if nobody {
                    settling.settle();
                } else {
                    *party.epoch.deferred.lock().unwrap() = Some(settling);
                }
                party.close();
            });
        },
    );
}

/// Nobody looks whether it is empty.
#[test]
fn a_partition_goes_without_a_look() {
    twin("a_partition_goes_without_a_look", "message 1 was lost", || {
        late_sender(|party| {
            party.narrow();
            let is_drained: IsDrained = |_, _| true;
            Close { is_drained, ..STEPS }.run(party);
        });
    });
}

/// It is looked at, and then whether everybody has seen the mask.
#[test]
fn a_look_before_the_epoch_has_passed() {
    twin("a_look_before_the_epoch_has_passed", "message 1 was lost", || {
        late_sender(|party| {
            party.narrow();
            let is_early = true;
            Close { is_early, ..STEPS }.run(party);
        });
    });
}

/// That the route is settled acquires nothing.
#[test]
fn settled_is_read_relaxed() {
    twin("settled_is_read_relaxed", "message 1 was lost", || {
        late_sender(|party| {
            party.narrow();
            let settled = |routes: &Routes, route: Route| routes.settled.load(Ordering::Relaxed) == route.0;
            Close { settled, ..STEPS }.run(party);
        });
    });
}

/// The route is widened although a partition is about to go.
#[test]
fn a_queue_is_widened_while_a_partition_goes() {
    twin(
        "a_queue_is_widened_while_a_partition_goes",
        "message 1 was lost",
        || {
            closing_and_widening(
                CLOSE_UNWATCHED,
                |party| {
                    let from = party.routes.now();
                    party.routes.change(from, from.then(2, 2, false))
                },
                READ,
            );
        },
    );
}

/// As `Routes::close_last`, without the assertion that nobody has changed the route meanwhile.
const CLOSE_UNWATCHED: fn(&Party) -> bool = |party| STEPS.run(party);

/// The partition first, then the span.
#[test]
fn a_partition_goes_before_the_span_is_lowered() {
    twin(
        "a_partition_goes_before_the_span_is_lowered",
        "message 1 was lost",
        || {
            closing_and_widening(
                |party| {
                    let is_away_first = true;
                    Close {
                        is_away_first,
                        ..STEPS
                    }
                    .run(party)
                },
                WIDEN,
                READ,
            );
        },
    );
}

/// A sender reads the route relaxed, and finds the partition that was taken away.
#[test]
fn a_route_is_read_relaxed() {
    twin("a_route_is_read_relaxed", "message 1 was lost", || {
        closing_and_widening(CLOSE, WIDEN, |routes| Route(routes.route.load(Ordering::Relaxed)));
    });
}

/// The list alone is looked at, which begins at the head.
const IS_DRAINED_BY_THE_LIST: IsDrained = |partition, pin| {
    partition.pass_empty(pin);
    let first = partition.first(pin);
    std::ptr::eq(first, partition.tail.load(Ordering::Acquire)) && first.is_bare()
};

#[test]
fn segments_behind_the_head_are_not_looked_at() {
    twin(
        "segments_behind_the_head_are_not_looked_at",
        "message 1 was lost",
        || {
            closing_and_a_sweep(|party| {
                let is_drained = IS_DRAINED_BY_THE_LIST;
                Close { is_drained, ..STEPS }.run(party)
            });
        },
    );
}

/// The head's segment first, the others after it.
#[test]
fn the_head_is_looked_at_first() {
    twin("the_head_is_looked_at_first", "message 1 was lost", || {
        closing_and_an_evacuation(|party| {
            let is_drained: IsDrained = |partition, pin| {
                partition.pass_empty(pin);
                let first = partition.first(pin);
                first.is_bare() && partition.has_only(first, pin)
            };
            Close { is_drained, ..STEPS }.run(party)
        });
    });
}

/// The mask in one step, the span in a second one.
#[test]
fn the_mask_is_raised_before_the_span() {
    twin("the_mask_is_raised_before_the_span", "deadlock", || {
        widening_and_a_waiter(
            |party| {
                let from = party.routes.now();
                let half = from.then(2, 1, false);
                party.routes.change(from, half) && party.routes.change(half, half.then(2, 2, false))
            },
            false,
        );
    });
}

/// A waiter looks below the span that it read before it listened.
#[test]
fn a_waiter_reads_the_span_before_it_listens() {
    twin("a_waiter_reads_the_span_before_it_listens", "deadlock", || {
        widening_and_a_waiter(WIDEN, true);
    });
}

/// What was deferred last, and runs first, is forgotten.
#[test]
fn a_route_is_settled_by_a_store() {
    twin("a_route_is_settled_by_a_store", "kept for ever", || {
        settled_in_either_order(|_, routes, route| {
            // A swap, which loom orders among other read-modify-writes.
            routes.settled.swap(route.0, Ordering::AcqRel);
        });
    });
}

/// A look at what was ever sent there, instead of at what is there.
#[test]
fn a_partition_that_was_used_is_never_drained() {
    twin(
        "a_partition_that_was_used_is_never_drained",
        "kept for ever",
        || {
            closing_and_a_delete(|party| {
                let is_drained: IsDrained = |partition, pin| partition.first(pin).reserved() == 0;
                Close { is_drained, ..STEPS }.run(party)
            });
        },
    );
}
