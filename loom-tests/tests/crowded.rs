//! Who waits because too many messages are in flight, and who ends leases: no end is missed. A wake that is missed is a
//! deadlock. (H8)
//!
//! What is counted are the counters that ship, one worker's each and written by plain stores; the limit is one message.
#![cfg(loom)]

mod stage;

use epoq::{
    ledger::{lease::DeletedFrom, reclaim::Pin},
    queue::{
        round::Round,
        stats::{Stats, Stripe},
    },
    sync::{Arc, Ordering},
    wait::{Waiters, Waiting},
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Lease, Stage, assert_received};

/// The worker that has the one message leased, and the one that would have another.
const HOLDER: u32 = 0;
const WAITER: u32 = 1;
/// Most messages in flight.
const LIMIT: u64 = 1;

/// What several threads share: who waits, and the counters.
#[derive(Clone)]
struct Shared {
    waiters: Arc<Waiters>,
    stats: Arc<Stats>,
}

/// How the lease ends.
type End = fn(&Hand, &Shared, &Lease);

fn stripe(shared: &Shared, worker: u32) -> &Stripe {
    shared.stats.of(worker).expect("a stripe")
}

/// One message in flight, counted.
fn leased(stage: &Stage) -> (Shared, Lease) {
    let shared = Shared {
        waiters: Arc::new(Waiters::default()),
        stats: Arc::new(Stats::new()),
    };
    let hand = stage.hand();
    hand.send(1);
    let lease = hand.receive().expect("just sent");
    stripe(&shared, HOLDER).leased.add(1);
    // The stripes of both, before the race.
    stripe(&shared, WAITER);
    (shared, lease)
}

/// As `Queue::delete` does it.
const DELETE: End = |hand, shared, lease| {
    delete_by(hand, lease, |round, pin| {
        round.end(|| Some(stripe(shared, HOLDER)), &shared.waiters, pin);
    });
};

fn delete_by(hand: &Hand, lease: &Lease, end: impl for<'p> FnOnce(Round<'p>, &'p Pin<'_>)) {
    let pin = hand.begin();
    let mut round = Round::new();
    let deleted = hand
        .partition
        .delete(lease.place, lease.receives, &pin, &mut round.graves);
    assert_eq!(deleted, Ok(DeletedFrom::InFlight));
    round.in_flight += 1;
    end(round, &pin);
}

/// As `Queue::change_visibility` does it.
const RELEASE: End = |hand, shared, lease| {
    hand.release(lease);
    stripe(shared, HOLDER).released.add(1);
    shared.waiters.wake_counted(1);
};

/// Waits until it may receive, as a long poll does. Whether it slept.
fn wait(shared: &Shared, looks_again: bool) -> bool {
    let (mut waiting, mut crowded, mut slept) = (None::<Waiting<'_>>, None, false);
    // Progress: each turn but the first two sleeps until it is woken, and one lease ends.
    loop {
        if let Some(waiting) = &mut waiting {
            waiting.listen();
        }
        if shared.stats.grant(stripe(shared, WAITER), Some(LIMIT)).is_ok() {
            return slept;
        }
        let is_known = waiting.is_some();
        crowded.get_or_insert_with(|| shared.waiters.join_crowd());
        let waiting = waiting.get_or_insert_with(|| shared.waiters.enter());
        if !is_known && looks_again {
            continue;
        }
        if waiting.listener().is_none() {
            waiting.listen();
        }
        slept = true;
        waiting.take_listener().expect("listening").wait();
    }
}

/// One ends the only lease there may be, and another one waits for that.
fn one_ends(end: End, looks_again: bool) -> (Stage, &'static str) {
    let stage = Stage::new();
    let (shared, lease) = leased(&stage);
    let waiter = thread::spawn({
        let shared = shared.clone();
        move || wait(&shared, looks_again)
    });
    end(&stage.hand(), &shared, &lease);
    let slept = waiter.join().unwrap();
    assert_eq!(shared.waiters.crowded.load(Ordering::Relaxed), 0);
    assert_eq!(shared.waiters.waiting.load(Ordering::Relaxed), 0);
    (stage, if slept { "slept" } else { "found at once" })
}

#[test]
fn a_delete_and_a_waiter_of_the_crowd() {
    let outcomes = Outcomes::new(&["slept", "found at once"], &[]);
    model("a_delete_and_a_waiter_of_the_crowd", 26, {
        let outcomes = outcomes.clone();
        move || {
            let (stage, outcome) = one_ends(DELETE, true);
            assert_received(&stage.drain(), &[]);
            outcomes.record(outcome);
        }
    });
    outcomes.assert_complete("a_delete_and_a_waiter_of_the_crowd");
}

#[test]
fn a_release_and_a_waiter_of_the_crowd() {
    let outcomes = Outcomes::new(&["slept", "found at once"], &[]);
    model("a_release_and_a_waiter_of_the_crowd", 22, {
        let outcomes = outcomes.clone();
        move || {
            let (stage, outcome) = one_ends(RELEASE, true);
            assert_received(&stage.drain(), &[1]);
            outcomes.record(outcome);
        }
    });
    outcomes.assert_complete("a_release_and_a_waiter_of_the_crowd");
}

/// Nothing but a read-modify-write of another word stands between the count and the look.
#[test]
fn a_deleter_without_a_fence() {
    twin("a_deleter_without_a_fence", "deadlock", || {
        one_ends(
            |hand, shared, lease| {
                delete_by(hand, lease, |mut round, pin| {
                    stripe(shared, HOLDER).deleted_in_flight.add(1);
                    round.graves.fill(pin);
                    if shared.waiters.crowded.load(Ordering::SeqCst) != 0 {
                        shared.waiters.wake(1);
                    }
                });
            },
            true,
        );
    });
}

/// The fence, and then the count.
#[test]
fn a_deleter_looks_before_it_counts() {
    twin("a_deleter_looks_before_it_counts", "deadlock", || {
        one_ends(
            |hand, shared, lease| {
                delete_by(hand, lease, |mut round, pin| {
                    round.graves.fill(pin);
                    shared.waiters.wake_crowded(1);
                    stripe(shared, HOLDER).deleted_in_flight.add(1);
                });
            },
            true,
        );
    });
}

/// Whoever is there is woken when the token is set, and the count comes after that.
#[test]
fn a_release_is_counted_after_the_wake() {
    twin("a_release_is_counted_after_the_wake", "deadlock", || {
        one_ends(
            |hand, shared, lease| {
                hand.release(lease);
                shared.waiters.wake(1);
                stripe(shared, HOLDER).released.add(1);
            },
            true,
        );
    });
}

/// Joins the crowd, and sleeps without having counted again.
#[test]
fn a_waiter_does_not_count_again() {
    twin("a_waiter_does_not_count_again", "deadlock", || {
        one_ends(DELETE, false);
    });
}
