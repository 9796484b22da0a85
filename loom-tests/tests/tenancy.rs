//! Tenants that come, go, wait for room and are served from their lines. (H8; I1)
#![cfg(loom)]

mod stage;

use epoq::{
    clock::{Clock, ManualClock, Millis},
    config::TENANT_IDLE_MS,
    ledger::{
        published::Published,
        reclaim::Pin,
        tenants::{self, Tenant, Tenants},
    },
    sync::{Arc, Event, Ordering, fence},
    wait::Waiters,
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Held, NOW, Stage};

/// The first tenant that comes.
const TENANT: u32 = 1;
/// When a tenant that came at `NOW` has been idle for long enough to lose its place.
const IDLE: Millis = Millis::new(NOW.as_millis() + TENANT_IDLE_MS);

fn table(stage: &Stage, event: &Arc<Event>) -> Arc<Tenants> {
    let clock = Clock::from(&ManualClock::new());
    let budget = Arc::clone(&stage.partition.budget);
    Arc::new(Tenants::new([1, 2], 0, clock, Arc::clone(event), budget))
}

fn enter(hand: &Hand, tenants: &Tenants, name: &str, now: Millis) -> Option<u32> {
    tenants.enter(name, now, &hand.begin(), |_| ())
}

/// One takes the place of a tenant that is idle, which comes back at that moment.
fn place_changes_hands() -> &'static str {
    let stage = Stage::new();
    let tenants = table(&stage, &Arc::new(Event::new()));
    let hand = stage.hand();
    let names = ["tenant", "other"];
    // Both places are taken, and stay so; the first tenant's has no messages.
    let idle = enter(&hand, &tenants, names[0], NOW).expect("a place");
    tenants.leave(idle, &hand.pin());
    let busy = enter(&hand, &tenants, "busy", IDLE).expect("a place");
    assert_ne!(idle, busy);
    let newcomer = thread::spawn({
        let (hand, tenants) = (stage.hand(), Arc::clone(&tenants));
        move || enter(&hand, &tenants, "other", IDLE)
    });
    let back = enter(&hand, &tenants, names[0], IDLE);
    let new = newcomer.join().unwrap();
    let pin = hand.pin();
    for (name, number) in names.into_iter().zip([back, new]) {
        let Some(number) = number else { continue };
        let tenant = tenants.get(number, &pin).expect("it is there");
        assert_eq!(tenant.name(&pin), Some(name), "entered as somebody else");
        assert_eq!(tenant.messages(), 1, "messages of {name}");
    }
    match (back, new) {
        (Some(_), None) => "came back",
        (None, Some(_)) => "gave way",
        (None, None) => "neither",
        (Some(_), Some(_)) => panic!("two in one place"),
    }
}

#[test]
fn a_place_changes_hands() {
    let outcomes = Outcomes::new(&["came back", "gave way"], &["neither"]);
    model("a_place_changes_hands", 46, {
        let outcomes = outcomes.clone();
        move || outcomes.record(place_changes_hands())
    });
    outcomes.assert_complete("a_place_changes_hands");
}

/// Two bring a tenant that nobody knows, and somebody asks for it.
#[test]
fn a_tenant_comes_twice_and_is_asked_for() {
    model("a_tenant_comes_twice_and_is_asked_for", 691, || {
        let stage = Stage::new();
        let tenants = table(&stage, &Arc::new(Event::new()));
        let other = thread::spawn({
            let (hand, tenants) = (stage.hand(), Arc::clone(&tenants));
            move || enter(&hand, &tenants, "tenant", NOW)
        });
        let hand = stage.hand();
        if let Some(tenant) = tenants.find("tenant", &hand.begin()) {
            assert!(tenant.messages() <= 1);
        }
        let here = enter(&hand, &tenants, "tenant", NOW);
        assert_eq!(here, other.join().unwrap(), "one tenant in two places");
        let number = here.expect("a place");
        assert_eq!(
            tenants.get(number, &hand.pin()).expect("it is there").messages(),
            2
        );
    });
}

/// A tenant's only message is deleted while it is in flight, and another tenant comes for the place.
fn last_message_goes(go: fn(&Tenants, &Pin<'_>)) -> &'static str {
    let stage = Stage::new();
    let tenants = table(&stage, &Arc::new(Event::new()));
    let hand = stage.hand();
    assert_eq!(enter(&hand, &tenants, "tenant", NOW), Some(TENANT));
    assert!(tenants.begin(TENANT, &hand.pin()));
    enter(&hand, &tenants, "busy", IDLE).expect("a place");
    let newcomer = thread::spawn({
        let (hand, tenants) = (stage.hand(), Arc::clone(&tenants));
        move || {
            let entered = enter(&hand, &tenants, "other", IDLE);
            entered.map(|number| tenants.get(number, &hand.pin()).expect("it is there").in_flight())
        }
    });
    go(&tenants, &hand.begin());
    match newcomer.join().unwrap() {
        None => "no place",
        Some(in_flight) => {
            assert_eq!(in_flight, 0, "a newcomer has messages in flight");
            "gave way"
        }
    }
}

/// Where the limits of tenants are configured: the most messages in flight, for all of them.
type Limits = Published<u64>;
type Settle = fn(&Limits, &Tenant, &Pin<'_>);

/// The limits before, and the new ones.
const LIMITS: [u64; 2] = [1, 2];

fn set_limit(tenant: &Tenant, limit: Option<&u64>) {
    tenant.set_limits(1, *limit.expect("configured"));
}

/// A tenant enters while its limit is configured anew.
fn entered_and_configured(settle: Settle) -> &'static str {
    let stage = Stage::new();
    let tenants = table(&stage, &Arc::new(Event::new()));
    let limits = Arc::new(Limits::new(Arc::new(LIMITS[0])));
    let sender = thread::spawn({
        let (hand, tenants, limits) = (stage.hand(), Arc::clone(&tenants), Arc::clone(&limits));
        move || {
            let pin = hand.begin();
            tenants.enter("tenant", NOW, &pin, |tenant| settle(&limits, tenant, &pin))
        }
    });
    let hand = stage.hand();
    let mut found = false;
    {
        let pin = hand.begin();
        tenants::configure(&limits, Some(Arc::new(LIMITS[1])), &pin, || {
            set_limit(tenants.find("tenant", &pin)?, Some(&LIMITS[1]));
            found = true;
            Some(())
        });
    }
    let number = sender.join().unwrap().expect("a place");
    let pin = hand.pin();
    let (_, limit) = tenants.get(number, &pin).expect("it is there").limits();
    assert_eq!(limit, LIMITS[1], "the limit of before");
    if found { "found" } else { "came later" }
}

/// A tenant may have one message in flight, and has; the lease ends while another message waits for it.
fn room_is_made(listens_first: bool) -> &'static str {
    let stage = Stage::new();
    let waiters = Arc::new(Waiters::default());
    let tenants = table(&stage, waiters.event());
    let hand = stage.hand();
    let number = enter(&hand, &tenants, "tenant", NOW).expect("a place");
    {
        let pin = hand.pin();
        tenants.get(number, &pin).expect("it is there").set_limits(1, 1);
        assert!(tenants.begin(number, &pin));
    }
    let waiter = thread::spawn({
        let (hand, tenants) = (stage.hand(), Arc::clone(&tenants));
        move || {
            let (mut waiting, mut slept) = (waiters.enter(), false);
            // Progress: each turn but the last sleeps until it is notified, and one lease ends.
            loop {
                if listens_first {
                    waiting.listen();
                }
                if tenants.begin(number, &hand.pin()) {
                    return slept;
                }
                if !listens_first {
                    waiting.listen();
                }
                slept = true;
                waiting.take_listener().expect("listening").wait();
            }
        }
    });
    tenants.undo(number, &hand.begin());
    if waiter.join().unwrap() {
        "slept"
    } else {
        "found at once"
    }
}

#[test]
fn room_for_a_tenant_and_a_waiter() {
    let outcomes = Outcomes::new(&["slept", "found at once"], &[]);
    model("room_for_a_tenant_and_a_waiter", 11, {
        let outcomes = outcomes.clone();
        move || outcomes.record(room_is_made(true))
    });
    outcomes.assert_complete("room_for_a_tenant_and_a_waiter");
}

type LineUp = fn(&Hand, &Tenants, &Waiters, Held);

/// A message goes in line, while somebody who serves lines goes to sleep.
fn lined_up_and_a_waiter(line_up: LineUp) -> &'static str {
    let stage = Stage::new();
    let waiters = Arc::new(Waiters::default());
    let tenants = table(&stage, &Arc::new(Event::new()));
    let hand = stage.hand();
    assert_eq!(enter(&hand, &tenants, "tenant", NOW), Some(TENANT));
    hand.send(0);
    let segment = hand.first();
    assert!(segment.take_one(0));
    let waiter = thread::spawn({
        let (hand, waiters, tenants) = (stage.hand(), Arc::clone(&waiters), Arc::clone(&tenants));
        move || {
            let mut waiting = waiters.enter();
            let mut slept = false;
            // Progress: each turn but the last sleeps until it is woken, and one message comes.
            loop {
                waiting.listen();
                let pin = hand.begin();
                let lined = tenants.lined().next();
                let called = lined.and_then(|number| {
                    tenants.call_up(number, &pin, |segment| {
                        hand.partition.after(segment.bury(1), segment, &pin);
                    })
                });
                if called.is_some() {
                    return slept;
                }
                slept = true;
                waiting.take_listener().expect("listening").wait();
            }
        }
    });
    line_up(&hand, &tenants, &waiters, segment);
    if waiter.join().unwrap() {
        "slept"
    } else {
        "found at once"
    }
}

#[test]
fn a_line_and_a_waiter() {
    let outcomes = Outcomes::new(&["slept", "found at once"], &[]);
    model("a_line_and_a_waiter", 28, {
        let outcomes = outcomes.clone();
        move || {
            outcomes.record(lined_up_and_a_waiter(|hand, tenants, waiters, segment| {
                assert!(tenants.line_up(TENANT, &segment, 0, &hand.begin()));
                waiters.wake(1);
            }))
        }
    });
    outcomes.assert_complete("a_line_and_a_waiter");
}

#[test]
fn a_tenants_last_message_goes_and_another_comes() {
    let outcomes = Outcomes::new(&["no place", "gave way"], &[]);
    model("a_tenants_last_message_goes_and_another_comes", 8, {
        let outcomes = outcomes.clone();
        move || {
            outcomes.record(last_message_goes(|tenants, pin| {
                tenants.end(TENANT, |now| now, pin);
                tenants.leave(TENANT, pin);
            }))
        }
    });
    outcomes.assert_complete("a_tenants_last_message_goes_and_another_comes");
}

#[test]
fn a_tenant_enters_and_is_configured() {
    let outcomes = Outcomes::new(&["found", "came later"], &[]);
    model("a_tenant_enters_and_is_configured", 70, {
        let outcomes = outcomes.clone();
        move || {
            outcomes.record(entered_and_configured(|limits, tenant, pin| {
                tenants::settle(limits, pin, |limit| set_limit(tenant, limit));
            }))
        }
    });
    outcomes.assert_complete("a_tenant_enters_and_is_configured");
}

/// Out of its place before it is out of flight.
#[test]
fn a_tenants_message_leaves_before_its_lease_ends() {
    twin(
        "a_tenants_message_leaves_before_its_lease_ends",
        "with messages in flight",
        || {
            last_message_goes(|tenants, pin| {
                tenants.leave(TENANT, pin);
                tenants.end(TENANT, |now| now, pin);
            });
        },
    );
}

/// The fence first, then the limit, and a look whether it has changed.
#[test]
fn a_tenant_is_settled_behind_the_fence() {
    twin(
        "a_tenant_is_settled_behind_the_fence",
        "the limit of before",
        || {
            entered_and_configured(|limits, tenant, pin| {
                loop {
                    fence(Ordering::SeqCst);
                    let present = limits.get(pin);
                    set_limit(tenant, present);
                    if present.map(std::ptr::from_ref) == limits.get(pin).map(std::ptr::from_ref) {
                        break;
                    }
                }
            });
        },
    );
}

/// Looks for room first, and listens when there is none.
#[test]
fn room_is_looked_for_before_listening() {
    twin("room_is_looked_for_before_listening", "deadlock", || {
        room_is_made(false);
    });
}

/// Wakes before the message is in line.
#[test]
fn a_waiter_is_woken_before_the_line_is_marked() {
    twin("a_waiter_is_woken_before_the_line_is_marked", "deadlock", || {
        lined_up_and_a_waiter(|hand, tenants, waiters, segment| {
            waiters.wake(1);
            assert!(tenants.line_up(TENANT, &segment, 0, &hand.begin()));
        });
    });
}
