//! A value that is replaced under its readers' eyes: each sees one whole value, and what was taken out is given up once, and
//! not while anybody pinned may look at it. (H3, I6)
//!
//! The value's content is plain memory that loom tracks. Giving it up writes there: done while a reader may look it is a race.
#![cfg(loom)]

use std::sync::Mutex;

use epoq::{
    ledger::{
        published::Published,
        reclaim::{Collector, Pin},
    },
    sync::{Arc, Ordering},
};
use epoq_loom::{Outcomes, model, twin};
use loom::{cell::UnsafeCell, thread};

/// What is written over a value that is given up.
const FREED: u64 = 0;

struct Value {
    content: UnsafeCell<u64>,
}

// SAFETY: written before it is published and after it is given up, and read in between; loom checks it.
unsafe impl Send for Value {}
// SAFETY: as above.
unsafe impl Sync for Value {}

impl Value {
    fn new(number: u64) -> Arc<Self> {
        let value = Self {
            content: UnsafeCell::new(FREED),
        };
        // SAFETY: ours alone; not given to the constructor, so that loom sees a write.
        value.content.with_mut(|content| unsafe { *content = number });
        Arc::new(value)
    }

    fn number(&self) -> u64 {
        // SAFETY: loom checks that nobody writes.
        self.content.with(|content| unsafe { *content })
    }
}

/// The values given up, in a std mutex: no operation of loom's happens while it is locked.
type Freed = Arc<Mutex<Vec<u64>>>;
type Replace = fn(&Published<Value>, Option<Arc<Value>>, &Pin<'_>, &Freed);

fn free(freed: &Freed) -> impl FnOnce(Arc<Value>) + Send + 'static {
    let freed = freed.clone();
    move |value| {
        let number = value.number();
        // SAFETY: whoever gives it up says that nobody looks; loom checks it.
        value.content.with_mut(|content| unsafe { *content = FREED });
        freed.lock().expect("not poisoned").push(number);
    }
}

fn replace(place: &Published<Value>, value: Option<Arc<Value>>, pin: &Pin<'_>, freed: &Freed) {
    place.replace(value, pin, free(freed));
}

/// A reader, one who puts value 2 in the place of value 1, and one who puts value 3 there, or takes the value away.
fn get_and_two_replacements(replace: Replace, last: Option<u64>) -> String {
    let collector = Collector::new();
    let freed = Freed::default();
    let place = Arc::new(Published::new(Value::new(1)));
    let reader = thread::spawn({
        let (place, local) = (Arc::clone(&place), collector.register());
        move || {
            let pin = local.pin();
            let value = place.get(&pin)?;
            let number = value.number();
            // Another look, at whatever is there meanwhile: the first value stays what it was.
            let again = place.get(&pin).map_or(FREED, Value::number);
            assert_eq!(value.number(), number, "a value changed under its reader");
            Some((number, again))
        }
    });
    let other = thread::spawn({
        let (place, local, freed) = (Arc::clone(&place), collector.register(), freed.clone());
        move || replace(&place, Some(Value::new(2)), &local.pin(), &freed)
    });
    let local = collector.register();
    replace(&place, last.map(Value::new), &local.pin(), &freed);
    let seen = reader.join().unwrap();
    other.join().unwrap();

    let present = place.get(&local.pin()).map(Value::number);
    assert!(
        freed.lock().expect("not poisoned").is_empty(),
        "given up while readers may be pinned"
    );
    // The last of the graveyard's handles: what was retired is given up.
    drop(local);
    drop(collector);
    let mut all = freed.lock().expect("not poisoned").clone();
    all.extend(present);
    all.sort_unstable();
    let expected: Vec<u64> = [1, 2].into_iter().chain(last).collect();
    assert_eq!(all, expected, "given up, and present");
    match seen {
        None => "nothing".into(),
        Some((number, again)) if number == again => format!("{number}"),
        Some((number, again)) => format!("{number} {again}"),
    }
}

#[test]
fn get_and_two_replacements_of_a_value() {
    let outcomes = Outcomes::new(&["1", "2", "3", "1 2", "1 3", "2 3", "3 2"], &["0"]);
    model("get_and_two_replacements_of_a_value", 115, {
        let outcomes = outcomes.clone();
        move || outcomes.record(get_and_two_replacements(replace, Some(3)))
    });
    outcomes.assert_complete("get_and_two_replacements_of_a_value");
}

#[test]
fn get_replacement_and_removal_of_a_value() {
    let outcomes = Outcomes::new(&["nothing", "1", "2", "1 2", "1 0", "2 0"], &["0"]);
    model("get_replacement_and_removal_of_a_value", 103, {
        let outcomes = outcomes.clone();
        move || outcomes.record(get_and_two_replacements(replace, None))
    });
    outcomes.assert_complete("get_replacement_and_removal_of_a_value");
}

/// A replacement written out.
fn replace_by(
    place: &Published<Value>,
    value: Option<Arc<Value>>,
    swap: impl Fn(&Published<Value>, *mut Value) -> *mut Value,
    give_up: impl FnOnce(Arc<Value>),
) {
    let value = value.map_or(std::ptr::null_mut(), |value| Arc::into_raw(value).cast_mut());
    let old = swap(place, value);
    if !old.is_null() {
        // SAFETY: made by `Arc::into_raw`; a twin that takes it out twice fails before it matters.
        give_up(unsafe { Arc::from_raw(old) });
    }
}

#[test]
fn a_value_is_given_up_at_once() {
    // The share is kept, as another one might be: it is the giving up that is too early.
    twin("a_value_is_given_up_at_once", "Causality violation", || {
        get_and_two_replacements(
            |place, value, _, freed| {
                let swap = |place: &Published<Value>, new| place.0.swap(new, Ordering::AcqRel);
                replace_by(place, value, swap, |old| {
                    std::mem::forget(Arc::clone(&old));
                    free(freed)(old);
                });
            },
            Some(3),
        );
    });
}

#[test]
fn a_value_is_replaced_relaxed() {
    twin("a_value_is_replaced_relaxed", "Causality violation", || {
        get_and_two_replacements(
            |place, value, pin, freed| {
                let swap = |place: &Published<Value>, new| place.0.swap(new, Ordering::Relaxed);
                let free = free(freed);
                replace_by(place, value, swap, |old| {
                    pin.defer_everywhere(1, move || free(old))
                });
            },
            Some(3),
        );
    });
}

#[test]
fn a_value_is_replaced_by_a_store() {
    twin("a_value_is_replaced_by_a_store", "given up, and present", || {
        get_and_two_replacements(
            |place, value, pin, freed| {
                let swap = |place: &Published<Value>, new| {
                    let old = place.0.load(Ordering::Acquire);
                    place.0.store(new, Ordering::Release);
                    old
                };
                let free = free(freed);
                replace_by(place, value, swap, |old| {
                    // Given up twice, it must not be freed twice as well before the model says so.
                    std::mem::forget(Arc::clone(&old));
                    pin.defer_everywhere(1, move || free(old));
                });
            },
            Some(3),
        );
    });
}

#[test]
fn a_value_is_taken_away_at_once() {
    twin("a_value_is_taken_away_at_once", "Causality violation", || {
        get_and_two_replacements(
            |place, value, _, freed| {
                let swap = |place: &Published<Value>, new| place.0.swap(new, Ordering::AcqRel);
                replace_by(place, value, swap, |old| {
                    std::mem::forget(Arc::clone(&old));
                    free(freed)(old);
                });
            },
            None,
        );
    });
}
