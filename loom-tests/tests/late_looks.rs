//! Looks that come while what they look for moves on. (H10; I1, I7)
#![cfg(loom)]

mod stage;

use epoq::{
    clock::Millis,
    config::SLOTS,
    ledger::{
        partition::{Draft, Entrance, Partition},
        reclaim::Pin,
        tend::Chores,
    },
    sync::Ordering,
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{
    Hand, Held, LATER, Lease, NOW, RETENTION_MS, SENT, Stage, assert_received,
    fifo::{Fifo, HeldGroup},
};

const CHORES: Chores<'static> = Chores {
    retention_ms: RETENTION_MS,
    id: &|_, _, _| [1; 16],
};

/// The message of the head's segment moves to one that is made for it, while the partition is looked at.
fn moves_on(is_drained: fn(&Partition, &Pin<'_>) -> bool) {
    let stage = Stage::new();
    let hand = stage.hand();
    let segment = hand.first();
    hand.send(1);
    {
        let pin = hand.pin();
        let entrance = Entrance {
            sent: SENT,
            delayed_until: None,
            receives: 0,
            first_received: None,
            is_grouped: false,
        };
        for _ in 1..SLOTS {
            let reserved = hand
                .partition
                .reserve_one(Draft::Inline(&[0]), &entrance, NOW, &pin);
            hand.partition.abandon_reserved(reserved.expect("room"), &pin);
        }
    }
    let mover = thread::spawn({
        let hand = stage.hand();
        move || {
            let pin = hand.begin();
            assert!(segment.take_one(0));
            let state = segment.slots[0].state_in_hand();
            assert!(
                hand.partition
                    .move_visible(&segment, 0, state, &CHORES, NOW, &pin)
            );
        }
    });
    assert!(
        !is_drained(&stage.partition, &hand.begin()),
        "a message is overlooked"
    );
    mover.join().unwrap();
    assert_received(&stage.drain(), &[1]);
}

#[test]
fn a_message_moves_on_from_the_last_segment() {
    model("a_message_moves_on_from_the_last_segment", 190, || {
        moves_on(|partition, pin| partition.is_drained(pin));
    });
}

/// How a message is leased.
type Receive = fn(&Hand, HeldGroup) -> Vec<Lease>;

/// A message of a group is received; its lease ends at once, and it is received again. The segment's hint may be low already, for
/// the sake of another message.
fn received_again(receive: Receive, is_low: bool) -> &'static str {
    let mut fifo = Fifo::new();
    let group = fifo.group(0);
    let hand = fifo.hand();
    hand.send_to(group, 1);
    let segment = hand.first();
    if is_low {
        segment.hint().lower(LATER);
    }
    let other = thread::spawn({
        let hand = fifo.hand_at(LATER);
        move || {
            hand.sweep_fifo(segment, LATER);
            let leases = hand.receive_fifo(1);
            leases
                .first()
                .map(|lease| (lease.receives, segment.first_received(lease.place.slot as usize)))
        }
    });
    let here = receive(&hand, group);
    let there = other.join().unwrap();
    match (here.first(), there) {
        (Some(_), None) => "once",
        (Some(first), Some((2, received))) => {
            assert_eq!(received, Some(NOW), "nobody knows when it was received first");
            assert_eq!(first.receives, 1);
            "twice"
        }
        (None, Some((1, received))) => {
            assert_eq!(received, Some(LATER));
            "by the other"
        }
        (here, there) => panic!("{here:?}, {there:?}"),
    }
}

#[test]
fn a_member_is_received_again() {
    let outcomes = Outcomes::new(&["once", "twice", "by the other"], &[]);
    model("a_member_is_received_again", 18, {
        let outcomes = outcomes.clone();
        move || outcomes.record(received_again(|hand, _| hand.receive_fifo(1), false))
    });
    outcomes.assert_complete("a_member_is_received_again");
}

#[test]
fn a_member_is_received_again_where_the_hint_is_low() {
    let outcomes = Outcomes::new(&["once", "twice", "by the other"], &[]);
    model("a_member_is_received_again_where_the_hint_is_low", 28, {
        let outcomes = outcomes.clone();
        move || outcomes.record(received_again(|hand, _| hand.receive_fifo(1), true))
    });
    outcomes.assert_complete("a_member_is_received_again_where_the_hint_is_low");
}

/// The link first, and then what is alive here.
#[test]
fn the_link_is_looked_at_first() {
    twin("the_link_is_looked_at_first", "a message is overlooked", || {
        moves_on(|partition, pin| {
            let first = partition.first(pin);
            let is_last = first.header.next.load(Ordering::Acquire).is_null();
            is_last && first.tally.live.load(Ordering::Acquire) == 1
        });
    });
}

/// The state first.
#[test]
fn a_member_is_leased_before_its_receive_times_are_there() {
    twin(
        "a_member_is_leased_before_its_receive_times_are_there",
        "nobody knows when it was received first",
        || {
            received_again(
                |hand, _| {
                    let pin = hand.begin();
                    let Some((segment, at)) = hand.partition.take_token(false, &pin) else {
                        return Vec::new();
                    };
                    let baton = hand.partition.find_out(segment, at, &pin).expect("a baton");
                    let mut serving = baton.serve();
                    let next = serving.next().expect("a message");
                    serving.take(next);
                    let (after, run) = serving.hand_back(true, &pin);
                    let member = run[0];
                    let slot = &member.segment.slots[member.slot as usize];
                    let due = Some(Millis::new(LATER.as_millis()));
                    let leased = slot.state_in_hand().lease_in_line(due).expect("in line").next;
                    slot.store(leased);
                    member.segment.hint().lower(LATER);
                    slot.set_received(0, SENT, hand.now());
                    hand.follow(after, &pin);
                    let place =
                        Held::of(std::ptr::from_ref(member.segment).cast_mut()).place(member.slot as usize);
                    vec![Lease {
                        place,
                        receives: 1,
                        body: 1,
                    }]
                },
                false,
            );
        },
    );
}
