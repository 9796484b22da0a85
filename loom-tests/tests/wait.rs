//! Who goes to sleep, and who wakes him: no message, no deadline and no wake is missed. A wake that is missed is a deadlock.
#![cfg(loom)]

mod stage;

use epoq::{
    clock::Millis,
    ledger::hint::Hint,
    sync::{Arc, Ordering},
    wait::{Waiters, Waiting},
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, LAST, LATER, NOW, Stage};

/// What a publisher does once its message is there, or what it does instead of all of it.
type Publish = fn(&Hand, &Waiters);

fn publish(hand: &Hand, waiters: &Waiters) {
    hand.send(1);
    waiters.wake(1);
}

/// Receives, asleep while there is nothing.
fn receive(hand: &Hand, waiters: &Waiters, prepare: fn(&mut Waiting<'_>)) -> (u8, bool) {
    let mut waiting = waiters.enter();
    let mut slept = false;
    // Progress: each turn but the last sleeps until it is woken, and one message is sent.
    loop {
        prepare(&mut waiting);
        if let Some(lease) = hand.receive() {
            return (lease.body, slept);
        }
        if waiting.listener().is_none() {
            waiting.listen();
        }
        slept = true;
        waiting.take_listener().expect("listening").wait();
    }
}

/// A publisher, and a waiter going to sleep.
fn one_waits(publish: Publish, prepare: fn(&mut Waiting<'_>)) -> &'static str {
    let stage = Stage::new();
    let waiters = Arc::new(Waiters::default());
    let waiter = thread::spawn({
        let (hand, waiters) = (stage.hand(), Arc::clone(&waiters));
        move || receive(&hand, &waiters, prepare)
    });
    publish(&stage.hand(), &waiters);
    let (body, slept) = waiter.join().unwrap();
    assert_eq!(body, 1);
    assert_eq!(waiters.waiting.load(Ordering::Relaxed), 0);
    if slept { "slept" } else { "found at once" }
}

/// Two listen; one of them goes, notified or not, and the other one has to get the message.
fn one_goes(go: fn(Waiting<'_>)) -> &'static str {
    let stage = Stage::new();
    let waiters = Arc::new(Waiters::default());
    let goer = thread::spawn({
        let waiters = Arc::clone(&waiters);
        move || {
            let mut waiting = waiters.enter();
            waiting.listen();
            // Nobody relies on it for the time: what it passes on is the wake alone.
            waiting.keep_time(|| None);
            go(waiting);
        }
    });
    let waiter = thread::spawn({
        let (hand, waiters) = (stage.hand(), Arc::clone(&waiters));
        move || receive(&hand, &waiters, |waiting| waiting.listen())
    });
    publish(&stage.hand(), &waiters);
    goer.join().unwrap();
    let (body, slept) = waiter.join().unwrap();
    assert_eq!(body, 1);
    if slept { "slept" } else { "found at once" }
}

type KeepTime = fn(&mut Waiting<'_>, &Waiters, &Hint) -> Option<Millis>;

fn due(hint: &Hint) -> Option<Millis> {
    Some(hint.look()).filter(|&due| due != Millis::NEVER)
}

fn keep_time(waiting: &mut Waiting<'_>, _: &Waiters, hint: &Hint) -> Option<Millis> {
    waiting.keep_time(|| due(hint))
}

fn lease(hint: &Hint, waiters: &Waiters) {
    hint.lower(LATER);
    waiters.wake_by(|| LATER);
}

/// Somebody begins a lease that ends at `LATER`, while a waiter sets its alarm by one that ends at `LAST`.
fn earlier_lease(lease: fn(&Hint, &Waiters), keep: KeepTime) -> &'static str {
    let waiters = Arc::new(Waiters::default());
    let hint = Arc::new(Hint::default());
    hint.lower(LAST);
    let lessee = thread::spawn({
        let (hint, waiters) = (Arc::clone(&hint), Arc::clone(&waiters));
        move || lease(&hint, &waiters)
    });
    let mut waiting = waiters.enter();
    waiting.listen();
    let alarm = keep(&mut waiting, &waiters, &hint);
    lessee.join().unwrap();
    let woken = waiting.listener().expect("listening").is_notified();
    assert!(
        woken || alarm.is_some_and(|alarm| alarm <= LATER),
        "the earlier deadline was missed"
    );
    if woken {
        "woken to set it anew"
    } else {
        "set by the earlier one"
    }
}

/// The one whose alarm is set goes, while another one joins: somebody keeps the time afterwards.
fn keeper_goes(go: fn(Waiting<'_>, &Waiters)) -> &'static str {
    let waiters = Arc::new(Waiters::default());
    let keeper = thread::spawn({
        let waiters = Arc::clone(&waiters);
        move || {
            let mut waiting = waiters.enter();
            waiting.listen();
            waiting.keep_time(|| Some(LATER));
            go(waiting, &waiters);
        }
    });
    let mut waiting = waiters.enter();
    waiting.listen();
    let alarm = waiting.keep_time(|| Some(LATER));
    keeper.join().unwrap();
    let woken = waiting.listener().expect("listening").is_notified();
    assert!(woken || alarm.is_some(), "nobody keeps the time");
    if alarm.is_some() {
        "the other keeps it"
    } else {
        "woken to keep it"
    }
}

/// Whose alarm is set, earlier than all else, goes; one begins a lease that ends before any other alarm, and one comes to wait:
/// that one hears of the lease, or finds it.
fn keeper_goes_and_a_lease_begins(go: fn(Waiting<'_>, &Waiters), lease: fn(&Hint, &Waiters)) -> &'static str {
    let waiters = Arc::new(Waiters::default());
    let hint = Arc::new(Hint::default());
    let mut keeper = waiters.enter();
    keeper.listen();
    assert_eq!(keeper.keep_time(|| Some(NOW)), Some(NOW));
    let lessee = thread::spawn({
        let (hint, waiters) = (Arc::clone(&hint), Arc::clone(&waiters));
        move || lease(&hint, &waiters)
    });
    let waiter = thread::spawn({
        let (hint, waiters) = (Arc::clone(&hint), Arc::clone(&waiters));
        move || {
            let mut waiting = waiters.enter();
            let mut slept = false;
            // Progress: each turn but the last sleeps until it is woken; the keeper goes, and a lease begins, once.
            loop {
                waiting.listen();
                if waiting.keep_time(|| due(&hint)) == Some(LATER) {
                    return slept;
                }
                slept = true;
                waiting.take_listener().expect("listening").wait();
            }
        }
    });
    go(keeper, &waiters);
    lessee.join().unwrap();
    if waiter.join().unwrap() {
        "woken to set it"
    } else {
        "set at once"
    }
}

#[test]
fn publisher_and_a_waiter() {
    let outcomes = Outcomes::new(&["slept", "found at once"], &[]);
    model("publisher_and_a_waiter", 45, {
        let outcomes = outcomes.clone();
        move || outcomes.record(one_waits(publish, |waiting| waiting.listen()))
    });
    outcomes.assert_complete("publisher_and_a_waiter");
}

#[test]
fn a_waiter_that_goes_passes_its_wake_on() {
    let outcomes = Outcomes::new(&["slept", "found at once"], &[]);
    model("a_waiter_that_goes_passes_its_wake_on", 696, {
        let outcomes = outcomes.clone();
        move || outcomes.record(one_goes(|waiting| drop(waiting)))
    });
    outcomes.assert_complete("a_waiter_that_goes_passes_its_wake_on");
}

#[test]
fn a_lease_that_ends_before_the_alarm() {
    let outcomes = Outcomes::new(&["woken to set it anew", "set by the earlier one"], &[]);
    model("a_lease_that_ends_before_the_alarm", 28, {
        let outcomes = outcomes.clone();
        move || outcomes.record(earlier_lease(lease, keep_time))
    });
    outcomes.assert_complete("a_lease_that_ends_before_the_alarm");
}

#[test]
fn the_keeper_of_the_time_goes() {
    let outcomes = Outcomes::new(&["the other keeps it", "woken to keep it"], &[]);
    model("the_keeper_of_the_time_goes", 18, {
        let outcomes = outcomes.clone();
        move || outcomes.record(keeper_goes(|waiting, _| drop(waiting)))
    });
    outcomes.assert_complete("the_keeper_of_the_time_goes");
}

#[test]
fn the_keeper_goes_and_a_lease_begins() {
    let outcomes = Outcomes::new(&["woken to set it", "set at once"], &[]);
    model("the_keeper_goes_and_a_lease_begins", 1000, {
        let outcomes = outcomes.clone();
        move || outcomes.record(keeper_goes_and_a_lease_begins(|waiting, _| drop(waiting), lease))
    });
    outcomes.assert_complete("the_keeper_goes_and_a_lease_begins");
}

/// Leaves its alarm set.
#[test]
fn a_keeper_goes_and_its_alarm_stays() {
    twin("a_keeper_goes_and_its_alarm_stays", "deadlock", || {
        keeper_goes_and_a_lease_begins(
            |mut waiting, _| {
                waiting.alarm = None;
            },
            lease,
        );
    });
}

/// Looks for waiters before the token is set.
#[test]
fn a_publisher_looks_before_it_publishes() {
    twin("a_publisher_looks_before_it_publishes", "deadlock", || {
        one_waits(
            |hand, waiters| {
                let anyone = waiters.is_anyone();
                hand.send(1);
                if anyone {
                    waiters.wake_all();
                }
            },
            |waiting| waiting.listen(),
        );
    });
}

/// Nothing keeps the look for waiters behind the token.
#[test]
fn a_publisher_without_an_order() {
    twin("a_publisher_without_an_order", "deadlock", || {
        one_waits(
            |hand, waiters| {
                hand.send(1);
                if waiters.waiting.load(Ordering::Relaxed) != 0 {
                    waiters.wake_all();
                }
            },
            |waiting| waiting.listen(),
        );
    });
}

/// Looks for a message, and listens when it has found none.
#[test]
fn a_waiter_looks_before_it_listens() {
    twin("a_waiter_looks_before_it_listens", "deadlock", || {
        one_waits(publish, |_| ());
    });
}

/// Uses its wake up, and goes without a look.
#[test]
fn a_waiter_takes_its_wake_along() {
    twin("a_waiter_takes_its_wake_along", "deadlock", || {
        one_goes(|mut waiting| {
            if waiting.listener().is_some_and(|listener| listener.is_notified()) {
                waiting.take_listener().expect("listening").wait();
            }
        });
    });
}

/// Looks for an alarm before the hint is lowered.
#[test]
fn a_lessee_looks_before_it_leases() {
    twin(
        "a_lessee_looks_before_it_leases",
        "the earlier deadline was missed",
        || {
            earlier_lease(
                |hint, waiters| {
                    waiters.wake_by(|| LATER);
                    hint.lower(LATER);
                },
                keep_time,
            );
        },
    );
}

/// Takes its alarm off, and tells nobody.
#[test]
fn a_keeper_goes_silently() {
    twin("a_keeper_goes_silently", "nobody keeps the time", || {
        keeper_goes(|mut waiting, waiters| {
            waiting.alarm = None;
            waiters.wake_by.store(Millis::NEVER.as_millis(), Ordering::SeqCst);
        });
    });
}
