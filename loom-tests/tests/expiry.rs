//! The end of a lease against what its holder and other sweepers do about it. (I2, I3, I4, I5)
//!
//! InFlight is left by CAS from the very word that was judged, so of expiry, extension, release and another sweep's expiry
//! exactly one happens; whoever made the slot Visible sets its token.
#![cfg(loom)]

mod stage;

use epoq::ledger::state::{Phase, Refusal};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{EARLIER, Hand, Held, LAST, LATER, Lease, NOW, Stage, VISIBILITY_MS, assert_received};

/// What the holder does with its lease; true if it is told that it succeeded.
type Change = fn(&Hand, Held, &Lease) -> bool;

fn change(hand: &Hand, lease: &Lease, visibility_ms: u64) -> bool {
    let changed = hand.partition.change_visibility(
        lease.place,
        lease.receives,
        visibility_ms,
        &hand.reading(),
        &hand.begin(),
    );
    match changed {
        Ok(_) => true,
        Err(Refusal::Visible | Refusal::LeaseOver | Refusal::ReceivedAgain) => false,
        Err(refusal) => panic!("refused as {refusal:?}"),
    }
}

const EXTEND: Change = |hand, _, lease| change(hand, lease, 2 * VISIBILITY_MS + 1);
const RELEASE: Change = |hand, _, lease| change(hand, lease, 0);

fn leased(stage: &Stage) -> (Held, Lease) {
    let hand = stage.hand();
    hand.send(1);
    (hand.first(), hand.receive().expect("the message"))
}

/// The holder goes by a reading from before the claim, the sweeper's clock says `LATER`, when the lease is over: either may
/// be first.
fn extension(extend: Change) -> &'static str {
    let stage = Stage::new();
    let (segment, lease) = leased(&stage);
    let sweeper = thread::spawn({
        let hand = stage.hand_at(LATER);
        move || {
            hand.sweep(segment, LATER);
            hand.receive()
        }
    });
    let hand = stage.hand_at(EARLIER);
    let extended = extend(&hand, segment, &lease);
    let again = sweeper.join().unwrap();

    assert_ne!(extended, again.is_some(), "two leases at once, or none");
    if extended {
        let hint = stage
            .partition
            .index
            .hint(segment.number())
            .expect("a hint")
            .look();
        assert!(hint <= LAST, "the deadline was lost");
        assert_eq!(hand.sweep(segment, LAST).expired, 1);
        assert_received(&stage.drain(), &[1]);
        "extended"
    } else {
        assert_received(&stage.drain(), &[]);
        "expired"
    }
}

/// Both make the message visible, but only one of them sets its token.
fn release(release: Change) -> &'static str {
    let stage = Stage::new();
    let (segment, lease) = leased(&stage);
    let sweeper = thread::spawn({
        let hand = stage.hand_at(LATER);
        move || hand.sweep(segment, LATER).expired == 1
    });
    let receiver = thread::spawn({
        let hand = stage.hand();
        move || hand.receive()
    });
    let hand = stage.hand();
    let released = release(&hand, segment, &lease);
    let mut leases = Vec::from_iter(receiver.join().unwrap());
    let expired = sweeper.join().unwrap();

    leases.extend(stage.drain());
    let receives: Vec<u32> = leases.iter().map(|lease| lease.receives).collect();
    match (released, expired) {
        // Released, received again, and that lease expired as well, before or after it was received for the third time.
        (true, true) => assert_eq!(receives, [2, 3], "claims"),
        (true, false) | (false, true) => assert_eq!(receives, [2], "claims"),
        (false, false) => panic!("neither released nor expired"),
    }
    match (released, expired) {
        (true, true) => "both, one after the other",
        (true, false) => "released",
        _ => "expired",
    }
}

/// Two sweeps of one segment, one of which comes before a message in it is due, while that message is claimed.
fn sweeps(second: fn(&Hand, Held)) -> &'static str {
    let stage = Stage::new();
    let (segment, _) = leased(&stage);
    stage.hand().send(2);
    let early = thread::spawn({
        let hand = stage.hand();
        move || {
            second(&hand, segment);
        }
    });
    let claimer = thread::spawn({
        let hand = stage.hand();
        move || hand.receive().expect("a message").body
    });
    let hand = stage.hand_at(LATER);
    let expired = hand.sweep(segment, LATER).expired;
    early.join().unwrap();
    let claimed = claimer.join().unwrap();

    // Whatever the first sweep did not find, a later one does.
    let in_flight = (0..2).any(|slot| segment.phase(slot) == Phase::InFlight);
    let hint = stage
        .partition
        .index
        .hint(segment.number())
        .expect("a hint")
        .look();
    assert!(!in_flight || hint <= LAST, "the deadline was lost");
    let rest = if in_flight {
        hand.sweep(segment, LAST).expired
    } else {
        0
    };
    assert!(segment.phase(0) == Phase::Visible && segment.phase(1) == Phase::Visible);
    assert_received(&stage.drain(), &[1, 2]);
    match (claimed, expired, rest) {
        // Never the expired one: whoever takes its token sees that it came back, and looks for new ones first.
        // The early sweep had taken the hint and not yet put it back.
        (_, 0, 2) => "found by neither",
        (_, 1, 1) => "one found",
        (_, 2, 0) => "both found",
        other => panic!("{other:?}"),
    }
}

#[test]
fn extension_and_expiry() {
    let outcomes = Outcomes::new(&["extended", "expired"], &[]);
    model("extension_and_expiry", 31, {
        let outcomes = outcomes.clone();
        move || outcomes.record(extension(EXTEND))
    });
    outcomes.assert_complete("extension_and_expiry");
}

#[test]
fn release_expiry_and_claim() {
    let outcomes = Outcomes::new(&["released", "expired", "both, one after the other"], &[]);
    model("release_expiry_and_claim", 1791, {
        let outcomes = outcomes.clone();
        move || outcomes.record(release(RELEASE))
    });
    outcomes.assert_complete("release_expiry_and_claim");
}

#[test]
fn two_sweeps_and_a_claim() {
    let outcomes = Outcomes::new(&["one found", "both found", "found by neither"], &[]);
    model("two_sweeps_and_a_claim", 934, {
        let outcomes = outcomes.clone();
        move || {
            outcomes.record(sweeps(|hand, segment| {
                hand.sweep(segment, NOW);
            }))
        }
    });
    outcomes.assert_complete("two_sweeps_and_a_claim");
}

/// Judges the word, and stores over whatever is there by then.
fn change_by_store(hand: &Hand, segment: Held, lease: &Lease, due: Option<epoq::clock::Millis>) -> bool {
    let _pin = hand.begin();
    let slot = &segment.slots[0];
    let state = slot.state();
    let transition = match due {
        Some(due) => state.extend(lease.receives, due, NOW),
        None => state.release(lease.receives, NOW),
    };
    let Ok(transition) = transition else {
        return false;
    };
    slot.store(transition.next);
    match due {
        Some(due) => hand.partition.index.hint(0).expect("a hint").lower(due),
        None => hand.publish(segment, 0),
    }
    true
}

#[test]
fn a_lease_is_extended_by_a_store() {
    twin(
        "a_lease_is_extended_by_a_store",
        "two leases at once, or none",
        || {
            extension(|hand, segment, lease| change_by_store(hand, segment, lease, Some(LAST)));
        },
    );
}

#[test]
fn a_lease_is_released_by_a_store() {
    twin("a_lease_is_released_by_a_store", "a token was set twice", || {
        release(|hand, segment, lease| change_by_store(hand, segment, lease, None));
    });
}

/// Puts nothing back of what it did not find due.
#[test]
fn a_sweep_forgets_what_is_not_due_yet() {
    twin(
        "a_sweep_forgets_what_is_not_due_yet",
        "the deadline was lost",
        || {
            sweeps(|hand, segment| {
                let _pin = hand.begin();
                hand.partition
                    .index
                    .hint(segment.number())
                    .expect("a hint")
                    .take();
            });
        },
    );
}
