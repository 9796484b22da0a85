//! Senders at the end of a segment: who seals it, and who accounts for the slots nobody uses. (H5; I6)
//!
//! A reservation is one addition. Exactly one of those that overflow saw the last value within bounds: it has sealed the
//! segment and buries the unused slots. A slot reserved but not yet published keeps `live` above zero.
#![cfg(loom)]

mod stage;

use epoq::{
    config::SLOTS,
    ledger::segment::{Reservation, Segment},
    sync::Ordering,
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Held, SENT, Stage, assert_received};

type Reserve = fn(&Segment, u32) -> Reservation;

const SOUND: Reserve = |segment, length| segment.reserve(&[length]);

/// Bytes in a segment's arena.
fn capacity(segment: Held) -> u32 {
    (segment.bytes() - size_of::<Segment>()) as u32
}

/// A send into `segment` and nowhere else, that looks around between reserving and publishing.
fn send_slowly(hand: &Hand, segment: Held, body: u8, length: u32, reserve: Reserve) -> &'static str {
    let pin = hand.begin();
    match reserve(&segment, length) {
        Reservation::Taken {
            first,
            count: 1,
            offset,
            ..
        } => {
            let slot = &segment.slots[first];
            let visible = slot.state_in_hand().publish(None).expect("an empty slot");
            // SAFETY: reserved just now (or so the broken twins believe).
            unsafe { segment.write_inline(first, offset, &vec![body; length as usize], SENT) };
            slot.store(visible.next);
            assert!(!hand.is_retired(segment), "retired under a sender");
            hand.publish(segment, first);
            "taken"
        }
        Reservation::Taken { unused, .. } => {
            assert!(!hand.is_retired(segment), "retired under a sender");
            hand.partition.after(segment.bury(unused), &segment, &pin);
            "crossed"
        }
        Reservation::Sealed => "sealed",
    }
}

/// One slot is taken and few bytes are left: of two senders one crosses the end, and the other finds it sealed.
fn two_cross_the_end(reserve: Reserve) {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    hand.send_batch(1, &[capacity(segment) as usize - 4]);
    let other = thread::spawn({
        let hand = stage.hand();
        move || send_slowly(&hand, segment, 2, 8, reserve)
    });
    let results = [send_slowly(&hand, segment, 3, 8, reserve), other.join().unwrap()];

    assert_eq!(segment.live(), 2, "live: one message and the list's hold");
    assert!(
        matches!(results, ["crossed", "sealed"] | ["sealed", "crossed"]),
        "{results:?}"
    );
    retire_all(&stage, segment, &[1]);
}

/// Two senders of which only one finds room, and a receiver that deletes and goes on to the next segment, which is there
/// already, as after a third sender.
fn one_takes_one_crosses(reserve: Reserve) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    let half = capacity(segment) / 2 + 1;
    hand.grow(segment);
    let senders = [1, 2].map(|body| {
        let hand = stage.hand();
        thread::spawn(move || send_slowly(&hand, segment, body, half, reserve))
    });
    let early = hand.receive();
    if let Some(lease) = early {
        hand.delete(&lease).expect("deleted");
        hand.receive();
    }
    let retired = hand.is_retired(segment);
    let results = senders.map(|sender| sender.join().unwrap());

    let sent = match results {
        ["taken", "crossed"] => 1,
        ["crossed", "taken"] => 2,
        _ => panic!("{results:?}"),
    };
    match early {
        Some(lease) => {
            assert_eq!(lease.body, sent);
            retire_all(&stage, segment, &[]);
        }
        None => retire_all(&stage, segment, &[sent]),
    }
    match (early, retired) {
        (None, _) => "received later",
        (_, false) => "received meanwhile",
        (_, true) => "retired meanwhile",
    }
}

/// Two batches, the second of which has to be split wherever it comes to lie.
fn batches(send: fn(&Hand, u8, &[usize])) -> &'static str {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    let other = thread::spawn({
        let hand = stage.hand();
        move || send(&hand, 1, &[1])
    });
    send(&hand, 2, &[1, 1]);
    other.join().unwrap();

    let live = segment.live() as usize;
    assert_eq!(live, SLOTS + 1, "live: both messages and the list's hold");
    let bodies: Vec<u8> = stage.drain().iter().map(|lease| lease.body).collect();
    match bodies[..] {
        [2, 2, 1] => "whole",
        [1, 2, 2] => "split",
        _ => panic!("received {bodies:?}"),
    }
}

/// The same with whole sends, single and batched, which go on to the next segment.
fn sends_beyond_the_arena(send: fn(&Hand, u8, usize)) {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    hand.send_long(1, capacity(segment) as usize - 4);
    let other = thread::spawn({
        let hand = stage.hand();
        move || send(&hand, 2, 8)
    });
    hand.send_batch(3, &[8]);
    other.join().unwrap();

    assert_eq!(segment.live(), 2, "live: one message and the list's hold");
    let leases = stage.drain();
    assert_received(&leases, &[1, 2, 3]);
    for lease in &leases {
        hand.delete(lease).expect("deleted");
    }
    assert!(hand.is_retired(segment));
}

/// Receives and deletes what is left, and demands that the segment was retired once.
fn retire_all(stage: &Stage, segment: Held, expected: &[u8]) {
    let hand = stage.hand();
    if segment.header.next.load(Ordering::Acquire).is_null() {
        hand.grow(segment);
    }
    let leases = stage.drain();
    assert_received(&leases, expected);
    for lease in &leases {
        assert!(!hand.is_retired(segment), "retired with a message alive in it");
        hand.delete(lease).expect("deleted");
    }
    assert!(hand.is_retired(segment));
    assert_eq!(stage.segments_retired(), 1, "segments retired");
}

#[test]
fn two_senders_cross_the_end() {
    model("two_senders_cross_the_end", 12, || two_cross_the_end(SOUND));
}

#[test]
fn two_sends_beyond_the_arena() {
    model("two_sends_beyond_the_arena", 929, || {
        sends_beyond_the_arena(Hand::send_long);
    });
}

#[test]
fn one_sender_takes_and_one_crosses() {
    let outcomes = Outcomes::new(
        &["received later", "received meanwhile", "retired meanwhile"],
        &[],
    );
    model("one_sender_takes_and_one_crosses", 693, {
        let outcomes = outcomes.clone();
        move || outcomes.record(one_takes_one_crosses(SOUND))
    });
    outcomes.assert_complete("one_sender_takes_and_one_crosses");
}

#[test]
fn two_batches_at_the_end() {
    let outcomes = Outcomes::new(&["whole", "split"], &[]);
    model("two_batches_at_the_end", 12, {
        let outcomes = outcomes.clone();
        move || outcomes.record(batches(Hand::send_batch))
    });
    outcomes.assert_complete("two_batches_at_the_end");
}

/// What became of a reservation that found `before`.
fn judge(segment: &Segment, before: u64, length: u32) -> Reservation {
    let capacity = (segment.bytes() - size_of::<Segment>()) as u64;
    let (first, offset) = ((before >> 32) as usize, before & u64::from(u32::MAX));
    if first >= SLOTS || offset > capacity {
        return Reservation::Sealed;
    }
    let count = usize::from(offset + u64::from(length) <= capacity);
    Reservation::Taken {
        first,
        count,
        offset: offset as usize,
        unused: if count == 1 { 0 } else { (SLOTS - first) as u32 },
    }
}

const fn demand(length: u32) -> u64 {
    1 << 32 | length as u64
}

fn reserve_by_load_and_store(segment: &Segment, length: u32) -> Reservation {
    let before = segment.header.reserve.load(Ordering::Acquire);
    segment
        .header
        .reserve
        .store(before + demand(length), Ordering::Release);
    judge(segment, before, length)
}

/// Adds by a read-modify-write, but takes itself for the one that crossed if the segment was not sealed a moment ago.
fn cross_by_a_look(segment: &Segment, length: u32) -> Reservation {
    let seen = segment.header.reserve.load(Ordering::Acquire);
    segment
        .header
        .reserve
        .fetch_add(demand(length), Ordering::Relaxed);
    judge(segment, seen, length)
}

#[test]
fn a_slot_is_reserved_by_load_and_store() {
    // Both write the same entry.
    twin(
        "a_slot_is_reserved_by_load_and_store",
        "Causality violation: Concurrent write accesses",
        || {
            one_takes_one_crosses(reserve_by_load_and_store);
        },
    );
}

#[test]
fn the_crosser_is_told_by_a_look_before() {
    twin(
        "the_crosser_is_told_by_a_look_before",
        "live: one message",
        || {
            two_cross_the_end(cross_by_a_look);
        },
    );
}

#[test]
fn unused_slots_are_buried_by_whoever_finds_it_sealed() {
    twin(
        "unused_slots_are_buried_by_whoever_finds_it_sealed",
        "live: one message",
        || {
            two_cross_the_end(|segment, length| match segment.reserve(&[length]) {
                Reservation::Sealed => judge(segment, 1 << 32, u32::MAX),
                taken => taken,
            });
        },
    );
}

#[test]
fn the_rest_of_a_batch_is_forgotten() {
    twin("the_rest_of_a_batch_is_forgotten", "received [1, 2]", || {
        batches(|hand, body, lengths| {
            let segment = hand.first();
            let lengths: Vec<u32> = lengths.iter().map(|&length| length as u32).collect();
            match segment.reserve(&lengths) {
                Reservation::Taken {
                    first, count, offset, ..
                } => {
                    for at in 0..count {
                        let slot = segment.slot((first + at) as u32);
                        // SAFETY: reserved just now.
                        unsafe { segment.write_inline(first + at, offset + at, &[body], SENT) };
                        slot.store(slot.state_in_hand().publish(None).expect("an empty slot").next);
                        hand.publish(segment, first + at);
                    }
                }
                Reservation::Sealed => {
                    let lengths: Vec<usize> = lengths.iter().map(|&length| length as usize).collect();
                    hand.send_batch(body, &lengths);
                }
            }
        });
    });
}

#[test]
fn unused_slots_are_forgotten() {
    twin("unused_slots_are_forgotten", "live: one message", || {
        sends_beyond_the_arena(|hand, body, length| {
            let segment = hand.first();
            // Crosses, but does not bury.
            let _ = segment.reserve(&[length as u32]);
            hand.send_long(body, length);
        });
    });
}
