//! Tenants of a fair queue: how many messages one has in flight, and places that change hands. (H8, I9)
#![cfg(loom)]

mod stage;

use epoq::{
    clock::{Clock, ManualClock, Millis},
    config::TENANT_IDLE_MS,
    ledger::{reclaim::Pin, tenants::Tenants},
    sync::{Arc, Event, Ordering},
    wait::Waiters,
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, NOW, Stage};

/// When a tenant that sent at `NOW` counts as gone.
const MUCH_LATER: Millis = Millis::new(NOW.as_millis() + TENANT_IDLE_MS);

fn tenants(stage: &Stage, event: &Arc<Event>) -> Arc<Tenants> {
    let clock = Clock::from(&ManualClock::new());
    let budget = Arc::clone(&stage.partition.budget);
    Arc::new(Tenants::new([1, 2], 0, clock, Arc::clone(event), budget))
}

/// Takes a message of a tenant in flight.
type Begin = fn(&Tenants, u32, &Pin<'_>) -> bool;
const BEGIN: Begin = |tenants, tenant, pin| tenants.begin(tenant, pin);

/// Two take a message in flight of a tenant that may have one.
fn two_begin(begin: Begin, max: u64) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let tenants = tenants(&stage, &Arc::new(Event::new()));
    let pin = hand.pin();
    let tenant = tenants.enter("tenant", NOW, &pin, |tenant| tenant.set_limits(1, max));
    let tenant = tenant.expect("a place");
    let other = thread::spawn({
        let (hand, tenants) = (stage.hand(), Arc::clone(&tenants));
        move || begin(&tenants, tenant, &hand.begin())
    });
    let here = begin(&tenants, tenant, &hand.begin());
    let there = other.join().unwrap();
    let in_flight = tenants.get(tenant, &pin).expect("there").in_flight();
    assert!(in_flight <= 1, "{in_flight} in flight: over the tenant's limit");
    assert_eq!(
        in_flight,
        u64::from(here) + u64::from(there),
        "as many as were taken"
    );
    if here { "here" } else { "there" }
}

/// A tenant has as many in flight as it may; one of its leases ends while somebody waits for that.
fn end_and_wait(looks_first: bool) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let waiters = Arc::new(Waiters::default());
    let tenants = tenants(&stage, waiters.event());
    let pin = hand.pin();
    let tenant = tenants.enter("tenant", NOW, &pin, |tenant| tenant.set_limits(1, 1));
    let tenant = tenant.expect("a place");
    assert!(tenants.begin(tenant, &pin));
    let waiter = thread::spawn({
        let (hand, tenants) = (stage.hand(), Arc::clone(&tenants));
        move || {
            let pin = hand.begin();
            let (mut waiting, mut answer) = (waiters.enter(), "at once");
            // Progress: each turn but the last sleeps until it is woken.
            loop {
                if !looks_first {
                    waiting.listen();
                }
                if tenants.begin(tenant, &pin) {
                    return answer;
                }
                if looks_first {
                    waiting.listen();
                }
                answer = "slept";
                waiting.take_listener().expect("listening").wait();
            }
        }
    });
    tenants.end(tenant, |now| now, &hand.begin());
    let answer = waiter.join().unwrap();
    assert_eq!(tenants.get(tenant, &pin).expect("there").in_flight(), 1);
    answer
}

/// A message of a tenant that has long not sent is sent, while another tenant takes a place. Each says which place it has got.
fn a_place_changes_hands(replace: fn(&Hand, &Tenants) -> Option<u32>) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let tenants = tenants(&stage, &Arc::new(Event::new()));
    let pin = hand.pin();
    let [first, second] = ["first", "second"].map(|name| {
        let place = tenants.enter(name, NOW, &pin, |_| ()).expect("two places");
        tenants.leave(place, &pin);
        place
    });
    // Sends on, so that there is one place to be had.
    let _ = tenants.enter("second", MUCH_LATER, &pin, |_| ());
    let sender = thread::spawn({
        let (hand, tenants) = (stage.hand(), Arc::clone(&tenants));
        move || tenants.enter("first", MUCH_LATER, &hand.begin(), |_| ())
    });
    let here = replace(&hand, &tenants);
    let there = sender.join().unwrap();
    assert!(
        here != Some(second) && there != Some(second),
        "a place with messages was given away"
    );
    let messages = tenants.get(first, &pin).expect("there").messages();
    let entered = u64::from(here.is_some()) + u64::from(there.is_some());
    assert_eq!(
        messages, entered,
        "the tenant's messages are those that were sent"
    );
    assert!(here.is_none() || there.is_none(), "one place of two tenants");
    let owner = tenants.find(if here.is_some() { "third" } else { "first" }, &pin);
    assert!(owner.is_some_and(|tenant| tenant.messages() == 1));
    if here.is_some() { "changed" } else { "kept" }
}

const REPLACE: fn(&Hand, &Tenants) -> Option<u32> =
    |hand, tenants| tenants.enter("third", MUCH_LATER, &hand.begin(), |_| ());

#[test]
fn two_leases_at_a_tenants_limit() {
    let outcomes = Outcomes::new(&["here", "there"], &[]);
    model("two_leases_at_a_tenants_limit", 12, {
        let outcomes = outcomes.clone();
        move || outcomes.record(two_begin(BEGIN, 1))
    });
    outcomes.assert_complete("two_leases_at_a_tenants_limit");
}

#[test]
fn a_tenants_lease_ends_and_a_waiter() {
    let outcomes = Outcomes::new(&["at once", "slept"], &[]);
    model("a_tenants_lease_ends_and_a_waiter", 14, {
        let outcomes = outcomes.clone();
        move || outcomes.record(end_and_wait(false))
    });
    outcomes.assert_complete("a_tenants_lease_ends_and_a_waiter");
}

#[test]
fn a_tenants_place_changes_hands() {
    let outcomes = Outcomes::new(&["changed", "kept"], &[]);
    model("a_tenants_place_changes_hands", 91, {
        let outcomes = outcomes.clone();
        move || outcomes.record(a_place_changes_hands(REPLACE))
    });
    outcomes.assert_complete("a_tenants_place_changes_hands");
}

#[test]
fn a_tenants_limit_is_looked_at_first() {
    twin(
        "a_tenants_limit_is_looked_at_first",
        "over the tenant's limit",
        || {
            two_begin(
                |tenants, tenant, pin| {
                    let room = tenants.get(tenant, pin).expect("there").in_flight() < 1;
                    room && tenants.begin(tenant, pin)
                },
                u64::MAX,
            );
        },
    );
}

#[test]
fn a_waiter_for_a_tenant_looks_before_it_listens() {
    twin(
        "a_waiter_for_a_tenant_looks_before_it_listens",
        "deadlock",
        || {
            end_and_wait(true);
        },
    );
}

/// As `Tenants::replace`, without closing the count to those who are about to enter.
#[test]
fn a_place_is_given_away_open() {
    twin(
        "a_place_is_given_away_open",
        "the tenant's messages are those that were sent",
        || {
            a_place_changes_hands(|hand, tenants| {
                let pin = hand.begin();
                let hash = tenants.hash("third");
                let mut places = (1..).zip(tenants.places.iter());
                let (number, place) = places.find(|(_, place)| {
                    let tenant = place.tenant.get(&pin);
                    tenant.is_some_and(|tenant| tenant.name(&pin) == Some("first"))
                })?;
                let tenant = place.tenant.get(&pin)?;
                if tenant.messages.load(Ordering::Acquire) != 0 {
                    return None;
                }
                place.key.store(hash, Ordering::Release);
                // A store in effect; loom would misplace one among read-modify-writes.
                tenant.messages.swap(1, Ordering::AcqRel);
                Some(number)
            });
        },
    );
}
