//! Several tokens in one ready word, which share publishers' additions, claims and nodes. (H1, H2, H3; I1, I2, I4, I6)
//!
//! Built with `--cfg crossbeam_loom`, as `reclaim.rs`: there a segment has one word of two tokens, elsewhere two of one.
#![cfg(all(loom, crossbeam_loom))]

mod stage;

use epoq::{
    config::{BATCH_MAX, BITS, SLOTS},
    ledger::{
        lease::{Asides, Claims, Many},
        segment::{Reservation, TOKENS},
        state::Phase,
    },
    sync::Ordering,
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Held, LATER, Lease, SENT, Stage, assert_received};

const _: () = assert!(BITS == 2 && SLOTS == 2);

/// Sets tokens of a segment's word.
type Publish = fn(&Hand, Held, u64);
/// Takes tokens of a segment's word.
type Take = fn(Held, usize) -> u64;

const PUBLISH: Publish = |hand, segment, tokens| {
    hand.partition.publish(&segment, 0, tokens, &hand.pin());
};
const TAKE: Take = |segment, want| segment.take(0, u64::MAX, want);

/// In a segment that the head does not pass, and without a pin, the ends of which would be tried in every order.
const PUBLISH_AT_HEAD: Publish = |_, segment, tokens| {
    assert!(!segment.publish(0, tokens), "nobody passes");
};

/// Reserves the slots of a segment and writes messages 1 and 2, unpublished.
fn reserve_both(segment: Held) {
    let Reservation::Taken {
        first: 0,
        count: SLOTS,
        offset,
        ..
    } = segment.reserve(&[1; SLOTS])
    else {
        panic!("an empty segment");
    };
    for slot in 0..SLOTS {
        // SAFETY: reserved just now, and published only afterwards.
        unsafe { segment.write_inline(slot, offset + slot, &[slot as u8 + 1], SENT) };
        let place = &segment.slots[slot];
        place.store(place.state_in_hand().publish(None).expect("an empty slot").next);
    }
}

fn receive_many(hand: &Hand, want: usize) -> Vec<Lease> {
    let pin = hand.pin();
    let reading = hand.reading();
    let mut claims = Claims::new();
    let mut many = Many {
        claims: &mut claims,
        asides: Asides::new(),
    };
    assert!(want <= BATCH_MAX);
    hand.partition.claim(want, &hand.terms(&reading), &pin, &mut many);
    claims.iter().map(Lease::of).collect()
}

/// Leases what `take` takes, of a segment that is there for as long as the model lasts.
fn lease_taken(segment: Held, take: Take, want: usize) -> Vec<Lease> {
    let tokens = take(segment, want);
    let slots = (0..SLOTS).filter(|slot| tokens & 1 << slot != 0);
    slots
        .map(|slot| {
            let place = &segment.slots[slot];
            let state = place.state_in_hand();
            let next = state.claim(Some(LATER)).expect("visible").next;
            place.store(next);
            // SAFETY: its token was taken; nothing is freed.
            let body = unsafe { place.entry().body() }[0];
            Lease {
                place: segment.place(slot),
                receives: next.receives(),
                body,
            }
        })
        .collect()
}

/// Two publishers, each of one message of a word; a receiver that takes what there is.
fn two_publishers(publish: Publish, take: Take) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    reserve_both(segment);
    let publishers = [1, 2].map(|token| {
        let hand = stage.hand();
        thread::spawn(move || publish(&hand, segment, token))
    });
    let mut leases = lease_taken(segment, take, 2);
    for publisher in publishers {
        publisher.join().unwrap();
    }
    let during = leases.len();
    leases.extend(receive_many(&hand, 2));
    assert_received(&leases, &[1, 2]);
    ["none", "one", "both"][during]
}

/// Two receivers of one word, one of which would take both of its messages.
fn two_receivers(take: Take) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    reserve_both(segment);
    PUBLISH(&hand, segment, 0b11);
    let other = thread::spawn(move || lease_taken(segment, take, 1));
    let here = lease_taken(segment, take, 2);
    let there = other.join().unwrap();
    let all: Vec<Lease> = here.iter().chain(&there).copied().collect();
    assert_received(&all, &[1, 2]);
    if here.len() == 2 {
        "both by one"
    } else {
        "one by each"
    }
}

/// A batch of two is published late in a segment that the head is passing.
fn late_batch(publish: Publish) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    reserve_both(segment);
    hand.grow(segment);
    let publisher = thread::spawn({
        let hand = stage.hand();
        move || publish(&hand, segment, 0b11)
    });
    let mut leases = receive_many(&hand, 2);
    publisher.join().unwrap();
    let during = leases.len();
    leases.extend(receive_many(&hand, 2));
    assert_received(&leases, &[1, 2]);
    ["behind the head", "one", "by the head"][during]
}

/// How a receiver goes on with a node of two names.
type Visit = fn(&Hand) -> Option<Lease>;

const VISIT: Visit = |hand| hand.receive_returned();

/// Both messages of a passed word have come back, by one sweep and so in one node: two receive one each and delete it.
fn one_node(visit: Visit) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    for body in 1..=3 {
        hand.send(body);
    }
    let leases: Vec<Lease> = (0..3).map(|_| hand.receive().expect("just sent")).collect();
    assert!(!segment.is(hand.first().as_ptr()), "passed");
    assert_eq!(hand.sweep(segment, LATER).expired, 2);
    assert_eq!(stage.partition.returned.count(9, &hand.pin()), 1);
    assert_eq!(segment.live(), 3, "two messages and a node");
    let run = move |hand: &Hand| {
        let lease = visit(hand);
        if let Some(lease) = &lease {
            hand.delete(lease).expect("its lease is running");
        }
        lease
    };
    let other = thread::spawn({
        let hand = stage.hand();
        move || run(&hand)
    });
    let here = run(&hand);
    let there = other.join().unwrap();
    let mut all: Vec<Lease> = here.iter().chain(&there).copied().collect();
    let during = all.len();
    while let Some(lease) = run(&hand) {
        all.push(lease);
    }
    assert_received(&all, &[1, 2]);
    assert!((0..SLOTS).all(|slot| segment.phase(slot) == Phase::Dead));
    assert_eq!(segment.live(), 0, "live");
    assert!(hand.is_retired(segment));
    hand.delete(&leases[2]).expect("its lease is running");
    ["none", "one", "both"][during]
}

/// How a receiver comes by message 2, which a node names behind a name that is stale.
type Find = fn(&Hand) -> Option<u8>;

const FIND: Find = |hand| hand.receive_returned().map(|lease| lease.body);

/// As `Queue::receive` of FIFO queues takes a token.
const FIND_NAMED: Find = |hand| {
    let pin = hand.begin();
    let (_, slot) = hand.partition.take_named(&pin)?;
    Some(slot as u8 + 1)
};

/// Both messages of a passed word have come back in one node, and the first one was deleted by its old handle: the queue is turned,
/// and somebody receives.
fn turned_and_received(find: Find) {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    for body in 1..=3 {
        hand.send(body);
    }
    let leases: Vec<Lease> = (0..3).map(|_| hand.receive().expect("just sent")).collect();
    assert_eq!(hand.sweep(segment, LATER).expired, 2);
    hand.delete(&leases[0]).expect("nobody has received it again");
    let other = thread::spawn({
        let hand = stage.hand();
        move || hand.partition.turn_front(1, &hand.begin())
    });
    let found = find(&hand);
    other.join().unwrap();
    assert_eq!(found, Some(2), "a message is hidden");
}

#[test]
fn two_publishers_of_one_word() {
    let outcomes = Outcomes::new(&["none", "one", "both"], &[]);
    model("two_publishers_of_one_word", 5325, {
        let outcomes = outcomes.clone();
        move || outcomes.record(two_publishers(PUBLISH_AT_HEAD, TAKE))
    });
    outcomes.assert_complete("two_publishers_of_one_word");
}

#[test]
fn two_receivers_of_one_word() {
    let outcomes = Outcomes::new(&["both by one", "one by each"], &[]);
    model("two_receivers_of_one_word", 6, {
        let outcomes = outcomes.clone();
        move || outcomes.record(two_receivers(TAKE))
    });
    outcomes.assert_complete("two_receivers_of_one_word");
}

#[test]
fn a_late_batch_in_one_word_and_passing() {
    let outcomes = Outcomes::new(&["behind the head", "by the head"], &["one"]);
    model("a_late_batch_in_one_word_and_passing", 58, {
        let outcomes = outcomes.clone();
        move || outcomes.record(late_batch(PUBLISH))
    });
    outcomes.assert_complete("a_late_batch_in_one_word_and_passing");
}

#[test]
fn two_receivers_at_a_node_of_two_names() {
    let outcomes = Outcomes::new(&["both"], &["none", "one"]);
    model("two_receivers_at_a_node_of_two_names", 2540, {
        let outcomes = outcomes.clone();
        move || outcomes.record(one_node(VISIT))
    });
    outcomes.assert_complete("two_receivers_at_a_node_of_two_names");
}

#[test]
fn a_turn_and_a_receiver_of_the_last_name() {
    model("a_turn_and_a_receiver_of_the_last_name", 560, || {
        turned_and_received(FIND)
    });
}

#[test]
fn a_turn_and_a_taker_of_the_last_name() {
    model("a_turn_and_a_taker_of_the_last_name", 560, || {
        turned_and_received(FIND_NAMED);
    });
}

/// As `Partition::take_named`, with nothing acquired by whoever finds no name left.
#[test]
fn the_last_name_is_struck_relaxed() {
    twin("the_last_name_is_struck_relaxed", "a message is hidden", || {
        turned_and_received(|hand| {
            let pin = hand.begin();
            loop {
                let node = hand.partition.returned.peek(&pin)?;
                let segment = Held::of(node.segment.cast_mut());
                let named = node.tokens.load(Ordering::Acquire);
                let asked = named & named.wrapping_neg();
                let token = segment.take(node.word, asked, 1);
                let left = node.tokens.fetch_and(!asked, Ordering::Relaxed) & !asked;
                if left == 0 && hand.partition.returned.pop(node, &pin) {
                    hand.partition.after(segment.bury(1), &segment, &pin);
                }
                if token != 0 {
                    return Some(token.trailing_zeros() as u8 + 1);
                }
            }
        });
    });
}

#[test]
fn tokens_of_one_word_are_set_by_a_store() {
    twin("tokens_of_one_word_are_set_by_a_store", "was lost", || {
        two_publishers(
            |_, segment, tokens| {
                let before = segment.ready[0].load(Ordering::Acquire);
                // A store in effect; loom would misplace one among read-modify-writes.
                segment.ready[0].swap(before | tokens, Ordering::AcqRel);
            },
            // Looks once, so that nothing taken is set again.
            |_, _| 0,
        );
    });
}

#[test]
fn tokens_of_one_word_are_taken_by_a_store() {
    twin(
        "tokens_of_one_word_are_taken_by_a_store",
        "was received 2 times",
        || {
            two_receivers(|segment, want| {
                let present = segment.ready[0].load(Ordering::Acquire);
                let first = present & present.wrapping_neg();
                let tokens = if want == 1 { first } else { present & TOKENS };
                // As above.
                segment.ready[0].swap(present & !tokens, Ordering::AcqRel);
                tokens
            });
        },
    );
}

/// As `Partition::publish`, with a node that names the first token alone.
#[test]
fn a_late_batch_names_its_first_token() {
    twin("a_late_batch_names_its_first_token", "message 2 was lost", || {
        late_batch(|hand, segment, tokens| {
            let pin = hand.pin();
            if segment.publish(0, tokens) {
                hand.partition.bring_back(&segment, 0, 1, &pin);
            }
        });
    });
}

/// As `Partition::claim_returned`, with a node that is taken off by whoever has taken one token.
#[test]
fn a_node_goes_with_its_first_token() {
    twin("a_node_goes_with_its_first_token", "was lost", || {
        one_node(|hand| {
            let pin = hand.pin();
            let node = hand.partition.returned.peek(&pin)?;
            let segment = Held::of(node.segment.cast_mut());
            let lease = lease_taken(segment, TAKE, 1).pop()?;
            if hand.partition.returned.pop(node, &pin) {
                hand.partition.after(segment.bury(1), &segment, &pin);
            }
            Some(lease)
        });
    });
}
