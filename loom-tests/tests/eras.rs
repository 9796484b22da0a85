//! A purge, and what is under way then: one era is as if it had never been, and the next one is whole. And what is configured
//! while workers go by it: limits, from one era to the next. (H8; I12)
//!
//! An era is here what a queue's is made of: a partition, and counters, found by one pointer.
#![cfg(loom)]

mod stage;

use epoq::{
    ledger::{lease::DeletedFrom, partition::Partition, published::Published, reclaim::Pin},
    queue::stats::{Stats, Stripe},
    sync::{Arc, AtomicU64, Ordering, fence},
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Lease, SENT, Stage};

/// The worker that sends, or leases.
const WORKER: u32 = 0;

/// What a queue's messages live in until the next purge.
struct Era {
    partition: Arc<Partition>,
    stats: Stats,
}

type Eras = Published<Era>;
/// Sends message 1 in the present era.
type Send = fn(&Hand, &Eras);

/// As `Queue::send` does it: whatever it needs of an era it takes from the one it found first.
const SEND: Send = |hand, eras| {
    let pin = hand.begin();
    let era = eras.get(&pin).expect("there is one");
    send_to(hand, &era.partition, &pin);
    count(era).sent.add(1);
};

fn send_to(_: &Hand, partition: &Partition, pin: &Pin<'_>) {
    partition.append_one(&[1], SENT, pin).expect("room");
}

fn count(era: &Era) -> &Stripe {
    era.stats.of(WORKER).expect("a stripe")
}

fn era(partition: Arc<Partition>) -> Arc<Era> {
    let era = Era {
        partition,
        stats: Stats::new(),
    };
    count(&era);
    Arc::new(era)
}

/// A partition of the same queue as the stage's: serials go on.
fn another(stage: &Stage) -> Arc<Partition> {
    let (budget, serials) = (
        Arc::clone(&stage.partition.budget),
        Arc::clone(&stage.partition.serials),
    );
    Partition::new(0, budget, serials, false, SENT).expect("room")
}

/// What is received from a partition.
fn received(hand: &mut Hand, partition: &Arc<Partition>) -> Vec<Lease> {
    hand.partition = Arc::clone(partition);
    std::iter::from_fn(|| hand.receive()).collect()
}

/// A message is sent while the queue is purged, and one after that by whoever has purged it.
fn purged_and_sent(send: Send) -> &'static str {
    let stage = Stage::new();
    let first = era(Arc::clone(&stage.partition));
    let second = era(another(&stage));
    let eras = Arc::new(Eras::new(Arc::clone(&first)));
    let sender = thread::spawn({
        let (hand, eras) = (stage.hand(), Arc::clone(&eras));
        move || send(&hand, &eras)
    });
    let mut hand = stage.hand();
    eras.replace(Some(Arc::clone(&second)), &hand.begin(), drop);
    {
        let pin = hand.begin();
        let present = eras.get(&pin).expect("there is one");
        assert!(std::ptr::eq(present, &*second), "sent to an era that is over");
    }
    sender.join().unwrap();
    let gone = received(&mut hand, &first.partition);
    let present = received(&mut hand, &second.partition);
    assert_eq!(gone.len() + present.len(), 1, "sent once");
    for (era, leases) in [(&first, &gone), (&second, &present)] {
        assert_eq!(count(era).sent.read(), leases.len() as u64, "counted elsewhere");
    }
    if let Some(old) = gone.first() {
        // A handle of the era that is over names nothing in this one.
        hand.partition = Arc::clone(&second.partition);
        assert!(hand.delete(old).is_err(), "a handle of another era");
        return "purged";
    }
    assert_eq!(hand.delete(&present[0]), Ok(DeletedFrom::InFlight));
    "there"
}

#[test]
fn a_purge_and_a_send() {
    let outcomes = Outcomes::new(&["purged", "there"], &[]);
    model("a_purge_and_a_send", 18, {
        let outcomes = outcomes.clone();
        move || outcomes.record(purged_and_sent(SEND))
    });
    outcomes.assert_complete("a_purge_and_a_send");
}

/// Looks for the era once more to count.
#[test]
fn an_era_is_looked_for_twice() {
    twin("an_era_is_looked_for_twice", "counted elsewhere", || {
        purged_and_sent(|hand, eras| {
            let pin = hand.begin();
            send_to(hand, &eras.get(&pin).expect("there is one").partition, &pin);
            count(eras.get(&pin).expect("there is one")).sent.add(1);
        });
    });
}

/// The limit of messages in flight; none if it is `u64::MAX`.
type Limit = AtomicU64;
type Grant = fn(&Stats, &Limit);
type Change = fn(&Eras, &Limit, &Hand);

const NO_LIMIT: u64 = u64::MAX;

fn in_force(limit: &Limit) -> Option<u64> {
    Some(limit.load(Ordering::Relaxed)).filter(|&limit| limit != NO_LIMIT)
}

const GRANT: Grant = |stats, limit| {
    let (granted, _) = stats.grant_within(stats.of(WORKER).expect("a stripe"), || in_force(limit));
    assert!(granted.is_ok(), "nothing is in flight");
};

const CHANGE: Change = |eras, limit, hand| {
    let pin = hand.begin();
    limit.store(1, Ordering::Relaxed);
    Stats::revoke_grants(|| eras.get(&pin).map(|era| &era.stats));
};

/// A worker is granted leases while the limit is lowered to one message: none is left to it that it need not count. It may purge
/// the queue first.
fn limited_and_granted(change: Change, grant: Grant, purges: bool) {
    let stage = Stage::new();
    let first = era(Arc::clone(&stage.partition));
    let second = era(Arc::clone(&stage.partition));
    let eras = Arc::new(Eras::new(Arc::clone(&first)));
    let limit = Arc::new(Limit::new(NO_LIMIT));
    let worker = thread::spawn({
        let (hand, eras, limit) = (stage.hand(), Arc::clone(&eras), Arc::clone(&limit));
        move || {
            let pin = hand.begin();
            if purges {
                eras.replace(Some(second), &pin, drop);
            }
            let present = eras.get(&pin).expect("there is one");
            grant(&present.stats, &limit);
        }
    });
    let hand = stage.hand();
    change(&eras, &limit, &hand);
    worker.join().unwrap();
    let pin = hand.pin();
    let present = eras.get(&pin).expect("there is one");
    assert_eq!(
        count(present).leased_until.read(),
        0,
        "leases granted by the limit of before"
    );
}

#[test]
fn a_grant_and_a_lower_limit() {
    model("a_grant_and_a_lower_limit", 40, || {
        limited_and_granted(CHANGE, GRANT, false);
    });
}

#[test]
fn a_purge_a_grant_and_a_lower_limit() {
    model("a_purge_a_grant_and_a_lower_limit", 60, || {
        limited_and_granted(CHANGE, GRANT, true);
    });
}

/// Whether the limit is still the same is not looked at again.
#[test]
fn a_grant_is_taken_for_good() {
    twin("a_grant_is_taken_for_good", "by the limit of before", || {
        limited_and_granted(
            CHANGE,
            |stats, limit| {
                let mine = stats.of(WORKER).expect("a stripe");
                stats.grant(mine, in_force(limit)).expect("nothing is in flight");
                fence(Ordering::SeqCst);
            },
            false,
        );
    });
}

/// The counters are looked for in front of the fence, and a purge comes between.
#[test]
fn a_limit_is_lowered_in_an_era_that_is_over() {
    twin(
        "a_limit_is_lowered_in_an_era_that_is_over",
        "by the limit of before",
        || {
            limited_and_granted(
                |eras, limit, hand| {
                    let pin = hand.begin();
                    let present = eras.get(&pin);
                    limit.store(1, Ordering::Relaxed);
                    Stats::revoke_grants(|| present.map(|era| &era.stats));
                },
                GRANT,
                true,
            );
        },
    );
}
