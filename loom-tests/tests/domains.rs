//! Domains of epochs: who looks where, who retires where, with the epoch crate itself. (H7; I6)
//!
//! Built with `--cfg crossbeam_loom`, as `reclaim.rs`. There is one thing to be found. Whoever takes it away retires its memory, which is
//! written to in the end: a look that is not protected meets that write.
#![cfg(all(loom, crossbeam_loom))]

use epoq::{
    ledger::reclaim::{Collector, Domain, Local, Pin, Spread},
    sync::{Arc, AtomicU64, Ordering, UnsafeCell},
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;

const HERE: Domain = Spread::APART.domain(0);
const THERE: Domain = Spread::APART.domain(1);

/// Something that can be found, and its memory.
struct Place {
    is_there: AtomicU64,
    /// Whether it has been used again.
    cell: UnsafeCell<bool>,
}

// SAFETY: loom watches the cell.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

impl Place {
    fn find(&self) -> bool {
        // Acquire: as the doors to a partition's segments load theirs.
        self.is_there.load(Ordering::Acquire) == 1
    }

    fn look(&self) {
        // SAFETY: loom checks that nobody writes.
        let is_another = self.cell.with(|cell| unsafe { *cell });
        assert!(!is_another, "looked at what was used again");
    }
}

/// A registration that is handed to another thread of loom's, all of which run on one of the system's.
struct Handed(Local);
// SAFETY: used by one of loom's threads at a time.
unsafe impl Send for Handed {}

/// Looks for the thing, and at it; whether it was there.
type Look = fn(&Local, &Place) -> bool;
/// Retires the thing's memory, which nobody can find any more.
type Retire = fn(&Pin<'_>, Arc<Place>);

fn use_again(place: &Place) {
    // SAFETY: whoever retires it says that nobody looks; loom checks it.
    place.cell.with_mut(|cell| unsafe { *cell = true });
}

/// One looks, the other, who is pinned in `from`, takes away. `made` are the domains that there are before.
fn look_and_take_away(made: &[Domain], from: Domain, look: Look, retire: Retire) -> &'static str {
    let collector = Collector::new();
    let place = Arc::new(Place {
        is_there: AtomicU64::new(1),
        cell: UnsafeCell::new(false),
    });
    let mine = collector.register();
    made.iter().for_each(|&domain| mine.pin().enter(domain));
    let looker = thread::spawn({
        let (place, local) = (Arc::clone(&place), Handed(collector.register()));
        move || {
            let local = local;
            look(&local.0, &place)
        }
    });
    mine.expect(from);
    let pin = mine.pin();
    place.is_there.swap(0, Ordering::AcqRel);
    retire(&pin, Arc::clone(&place));
    drop(pin);
    mine.settle();
    if looker.join().unwrap() { "found" } else { "gone" }
}

/// Begins in one domain, enters others, and then looks.
fn look(local: &Local, place: &Place, begin: Domain, enter: &[Domain]) -> bool {
    local.expect(begin);
    let pin = local.pin();
    enter.iter().for_each(|&domain| pin.enter(domain));
    let found = place.find();
    if found {
        place.look();
    }
    found
}

/// As an operation does that comes to a partition which is not the one it began at.
const LOOK_THERE: Look = |local, place| look(local, place, HERE, &[THERE]);

/// As an operation does at its beginning, before it knows which partition it will come to.
const LOOK_FIRST: Look = |local, place| look(local, place, HERE, &[]);

/// As an operation does that begins where it stays.
const LOOK_AT_HOME: Look = |local, place| look(local, place, THERE, &[]);

/// As who serves a tenant's line.
const LOOK_SHARED: Look = |local, place| look(local, place, HERE, &[Domain::SHARED]);

/// As `Partition::retire`.
const RETIRE_THERE: Retire = |pin, place| {
    pin.defer_segment(&[THERE], 1, move || use_again(&place));
    pin.flush();
};

/// As `Published::replace`.
const RETIRE_EVERYWHERE: Retire = |pin, place| pin.defer_everywhere(1, move || use_again(&place));

/// As `Partition::retire`, where there are messages of message groups.
const RETIRE_IN_BOTH: Retire = |pin, place| {
    pin.defer_segment(&[THERE, Domain::SHARED], 1, move || use_again(&place));
    pin.flush();
};

const ALL: &[Domain] = &[HERE, THERE, Domain::SHARED];

#[test]
fn a_partition_is_come_to_second() {
    let outcomes = Outcomes::new(&["found", "gone"], &[]);
    model("a_partition_is_come_to_second", 16600, {
        let outcomes = outcomes.clone();
        move || outcomes.record(look_and_take_away(ALL, THERE, LOOK_THERE, RETIRE_THERE))
    });
    outcomes.assert_complete("a_partition_is_come_to_second");
}

#[test]
fn what_is_found_first_is_retired_everywhere() {
    let outcomes = Outcomes::new(&["found", "gone"], &[]);
    model("what_is_found_first_is_retired_everywhere", 12600, {
        let outcomes = outcomes.clone();
        move || {
            outcomes.record(look_and_take_away(
                &[HERE, THERE],
                THERE,
                LOOK_FIRST,
                RETIRE_EVERYWHERE,
            ))
        }
    });
    outcomes.assert_complete("what_is_found_first_is_retired_everywhere");
}

#[test]
fn a_domain_is_made_while_something_is_retired_everywhere() {
    let outcomes = Outcomes::new(&["found", "gone"], &[]);
    model("a_domain_is_made_while_something_is_retired_everywhere", 6000, {
        let outcomes = outcomes.clone();
        move || outcomes.record(look_and_take_away(&[HERE], HERE, LOOK_AT_HOME, RETIRE_EVERYWHERE))
    });
    outcomes.assert_complete("a_domain_is_made_while_something_is_retired_everywhere");
}

#[test]
fn two_come_to_a_domain_that_is_not_made() {
    let outcomes = Outcomes::new(&["found", "gone"], &[]);
    model("two_come_to_a_domain_that_is_not_made", 109000, {
        let outcomes = outcomes.clone();
        move || outcomes.record(look_and_take_away(&[HERE], THERE, LOOK_AT_HOME, RETIRE_THERE))
    });
    outcomes.assert_complete("two_come_to_a_domain_that_is_not_made");
}

#[test]
fn a_line_leads_to_a_segment() {
    let outcomes = Outcomes::new(&["found", "gone"], &[]);
    model("a_line_leads_to_a_segment", 10800, {
        let outcomes = outcomes.clone();
        move || outcomes.record(look_and_take_away(ALL, THERE, LOOK_SHARED, RETIRE_IN_BOTH))
    });
    outcomes.assert_complete("a_line_leads_to_a_segment");
}

#[test]
fn a_partitions_domain_is_not_entered() {
    twin(
        "a_partitions_domain_is_not_entered",
        "Causality violation",
        || {
            look_and_take_away(ALL, THERE, LOOK_FIRST, RETIRE_THERE);
        },
    );
}

#[test]
fn a_partitions_domain_is_entered_behind_the_look() {
    twin(
        "a_partitions_domain_is_entered_behind_the_look",
        "looked at what was used again",
        || {
            look_and_take_away(
                ALL,
                THERE,
                |local, place| {
                    local.expect(HERE);
                    let pin = local.pin();
                    let found = place.find();
                    pin.enter(THERE);
                    if found {
                        place.look();
                    }
                    found
                },
                RETIRE_THERE,
            );
        },
    );
}

#[test]
fn what_is_found_first_is_retired_at_home() {
    twin(
        "what_is_found_first_is_retired_at_home",
        "Causality violation",
        || {
            look_and_take_away(&[HERE, THERE], THERE, LOOK_FIRST, RETIRE_THERE);
        },
    );
}

#[test]
fn a_segment_in_a_line_is_retired_at_home() {
    twin(
        "a_segment_in_a_line_is_retired_at_home",
        "Causality violation",
        || {
            look_and_take_away(ALL, THERE, LOOK_SHARED, RETIRE_THERE);
        },
    );
}
