//! Where batons lie: on the token of a message never received, where the head may go by; or in slots of their own. (I1, I4, H1)
#![cfg(loom)]

mod stage;

use epoq::{
    clock::Millis,
    ledger::{
        group::{
            baton::{After, Baton, Run},
            laid::Laid,
            word::GroupWord,
        },
        reclaim::Pin,
        segment::Reservation,
        slot::Entry,
        state::Phase,
    },
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{
    Hand, Held, LATER, NOW,
    fifo::{Fifo, HAND_BACK, HeldGroup},
};

/// Offers a baton.
type Offer = for<'p> fn(&Hand, Baton<'p>, &'p Pin<'_>) -> Option<After<'p>>;

const OFFER: Offer = |hand, baton, pin| hand.offer(baton, pin);

/// A message is sent whose segment the head is about to pass; a receiver, and perhaps another one that has found the head before.
fn send_and_pass(offer: Offer, is_another_there: bool) -> &'static str {
    let mut fifo = Fifo::new();
    let group = fifo.group(0);
    let hand = fifo.hand();
    let written = hand.write(1);
    let segment = written.segment;
    hand.partition
        .abandon_reserved(hand.write(0).reserved(), &hand.pin());
    hand.grow(segment);
    let sender = thread::spawn({
        let hand = fifo.hand();
        move || {
            let pin = hand.begin();
            group
                .push(&written.reserved(), 0, || group.last_taken(), &pin)
                .expect("open");
            let After::Baton(baton) = group.arrive(&pin) else {
                panic!("the group's only message");
            };
            if let Some(after) = offer(&hand, baton, &pin) {
                hand.follow(after, &pin);
            }
        }
    });
    let other = is_another_there.then(|| {
        let hand = fifo.hand();
        thread::spawn(move || {
            let pin = hand.begin();
            let mut runs = Run::new();
            if let Some(at) = segment.take_any() {
                hand.serve_token(&segment, at, 1, HAND_BACK, &pin, &mut runs);
            }
            hand.lease_all(runs)
        })
    });
    let mut leases = hand.receive_fifo(1);
    sender.join().unwrap();
    let more = other.map_or_else(Vec::new, |other| other.join().unwrap());
    let there = more.len();
    leases.extend(more);
    assert!(leases.len() <= 1, "received twice");
    for lease in &leases {
        hand.delete_fifo(lease).expect("leased");
    }
    fifo.assert_left(&[group], NOW, if leases.is_empty() { &[1] } else { &[] });
    assert!(hand.is_retired(segment), "kept for ever");
    match (leases.len(), there) {
        (0, _) => "later",
        (_, 0) => "here",
        _ => "there",
    }
}

/// A message that has been received is handed in, and its group's baton is laid down; a receiver.
fn lay_and_receive(lay: fn(&Hand, HeldGroup, &Pin<'_>)) -> &'static str {
    let mut fifo = Fifo::new();
    let group = fifo.group(0);
    let hand = fifo.hand();
    hand.send_to(group, 0);
    let lease = hand.receive_fifo(1)[0];
    let other = thread::spawn({
        let hand = fifo.hand();
        move || {
            let pin = hand.begin();
            let ended = hand
                .partition
                .hand_in(lease.place, lease.receives, hand.now(), &pin)
                .expect("leased")
                .expect("links");
            let After::Baton(_baton) = group.come_back(ended.places, &pin) else {
                panic!("the group's only message");
            };
            lay(&hand, group, &pin);
        }
    });
    let leases = hand.receive_fifo(1);
    other.join().unwrap();
    for lease in &leases {
        assert_eq!(lease.receives, 2);
        hand.delete_fifo(lease).expect("leased");
    }
    fifo.assert_left(&[group], NOW, if leases.is_empty() { &[0] } else { &[] });
    if leases.is_empty() { "later" } else { "here" }
}

const LAY: fn(&Hand, HeldGroup, &Pin<'_>) = |hand, group, pin| {
    hand.partition
        .lay(&group, Laid::Baton, None, NOW, pin)
        .expect("room");
};

/// A baton that was put off is due: a sweep, a recall of all that are put off, and a receiver.
fn due_and_receive(sweep: fn(&Hand, Held)) -> &'static str {
    let mut fifo = Fifo::new();
    let group = fifo.group(0);
    let hand = fifo.hand();
    let segment = hand.send_to(group, 0).segment;
    {
        let pin = hand.pin();
        let (at, slot) = hand.partition.take_token(false, &pin).expect("the message's");
        let Some(baton) = hand.partition.find_out(at, slot, &pin) else {
            panic!("a baton");
        };
        let home = &*hand.partition;
        let left = baton.put_off(LATER, Some(home), NOW, &pin);
        assert!(left.is_ok(), "room");
    }
    assert_eq!(segment.phase(1), Phase::BatonLater);
    let sweeper = thread::spawn({
        let hand = fifo.hand();
        move || sweep(&hand, segment)
    });
    let recaller = thread::spawn({
        let hand = fifo.hand();
        move || hand.partition.recall(&hand.begin())
    });
    // Whose lease is not over when the sweep comes by.
    let hand = fifo.hand_at(LATER);
    let leases = hand.receive_fifo(1);
    sweeper.join().unwrap();
    recaller.join().unwrap();
    for lease in &leases {
        hand.delete_fifo(lease).expect("leased");
    }
    fifo.assert_left(&[group], NOW, if leases.is_empty() { &[0] } else { &[] });
    if leases.is_empty() { "later" } else { "here" }
}

const SWEEP: fn(&Hand, Held) = |hand, segment| {
    hand.sweep_fifo(segment, LATER);
};

/// Puts a baton in hand off, where it was found.
type PutOff = for<'p> fn(&Hand, Baton<'p>, &'p Pin<'_>);

/// As `Queue::put_back`.
const PUT_OFF: PutOff = |hand, baton, pin| {
    let home = &*hand.partition;
    if let Some(after) = baton.put_off_in_place(LATER, |_| Some(home), pin) {
        hand.follow(after, pin);
    }
};

/// A group's baton is found and put off for want of room elsewhere, while another message of the group is sent; a receiver.
fn put_off_send_and_receive(put_off: PutOff) -> &'static str {
    let mut fifo = Fifo::new();
    let group = fifo.group(0);
    let hand = fifo.hand();
    let segment = hand.send_to(group, 0).segment;
    let written = hand.write(1);
    let holder = thread::spawn({
        let hand = fifo.hand();
        move || {
            let pin = hand.begin();
            let found = hand
                .partition
                .take_token(false, &pin)
                .and_then(|(segment, at)| hand.partition.find_out(segment, at, &pin));
            if let Some(baton) = found {
                put_off(&hand, baton, &pin);
                return true;
            }
            false
        }
    });
    let sender = thread::spawn({
        let hand = fifo.hand();
        move || hand.join(group, written).expect("open")
    });
    let leases = hand.receive_fifo(1);
    let found = holder.join().unwrap();
    sender.join().unwrap();
    assert!(found || !leases.is_empty(), "in neither hand");
    if leases.is_empty() {
        let hint = hand.partition.index.hint(segment.number()).expect("a hint");
        assert!(hint.look() <= LATER, "nobody is to look when it is due");
    }
    for lease in &leases {
        hand.delete_fifo(lease).expect("leased");
    }
    fifo.assert_left(&[group], NOW, if leases.is_empty() { &[0, 1] } else { &[1] });
    match (found, leases.is_empty()) {
        (true, true) => "put off",
        (true, false) => "put off, and received",
        (false, _) => "received",
    }
}

#[test]
fn a_baton_put_off_in_place_a_send_and_a_receiver() {
    let outcomes = Outcomes::new(&["put off", "put off, and received", "received"], &[]);
    model("a_baton_put_off_in_place_a_send_and_a_receiver", 344, {
        let outcomes = outcomes.clone();
        move || outcomes.record(put_off_send_and_receive(PUT_OFF))
    });
    outcomes.assert_complete("a_baton_put_off_in_place_a_send_and_a_receiver");
}

#[test]
fn a_baton_is_put_off_in_place_without_an_alarm() {
    twin(
        "a_baton_is_put_off_in_place_without_an_alarm",
        "nobody is to look when it is due",
        || {
            put_off_send_and_receive(|hand, baton, pin| {
                let member = baton.peek().expect("a message").member;
                hand.partition.give_token_back(member.segment, member.slot, pin);
            });
        },
    );
}

/// Also by the token of its next message, and by the group's word.
#[test]
fn a_baton_is_put_off_in_place_and_handed_back() {
    twin(
        "a_baton_is_put_off_in_place_and_handed_back",
        "assertion failed: self.is_out()",
        || {
            put_off_send_and_receive(|hand, baton, pin| {
                let group = baton.group();
                let member = baton.peek().expect("a message").member;
                hand.partition.set_alarm(member.segment, LATER);
                hand.partition.give_token_back(member.segment, member.slot, pin);
                let without = |word: GroupWord| (GroupWord::from_bits(word.to_bits() & !(1 << 21)), ());
                group.change(without);
            });
        },
    );
}

#[test]
fn an_offer_and_the_head_passing() {
    let outcomes = Outcomes::new(&["later", "here"], &[]);
    model("an_offer_and_the_head_passing", 24, {
        let outcomes = outcomes.clone();
        move || outcomes.record(send_and_pass(OFFER, false))
    });
    outcomes.assert_complete("an_offer_and_the_head_passing");
}

#[test]
fn an_offer_the_head_passing_and_a_receiver() {
    let outcomes = Outcomes::new(&["later", "here", "there"], &[]);
    model("an_offer_the_head_passing_and_a_receiver", 860, {
        let outcomes = outcomes.clone();
        move || outcomes.record(send_and_pass(OFFER, true))
    });
    outcomes.assert_complete("an_offer_the_head_passing_and_a_receiver");
}

#[test]
fn a_baton_laid_down_and_a_receiver() {
    let outcomes = Outcomes::new(&["later", "here"], &[]);
    model("a_baton_laid_down_and_a_receiver", 12, {
        let outcomes = outcomes.clone();
        move || outcomes.record(lay_and_receive(LAY))
    });
    outcomes.assert_complete("a_baton_laid_down_and_a_receiver");
}

#[test]
fn a_baton_put_off_a_sweep_a_recall_and_a_receiver() {
    let outcomes = Outcomes::new(&["later", "here"], &[]);
    model("a_baton_put_off_a_sweep_a_recall_and_a_receiver", 207, {
        let outcomes = outcomes.clone();
        move || outcomes.record(due_and_receive(SWEEP))
    });
    outcomes.assert_complete("a_baton_put_off_a_sweep_a_recall_and_a_receiver");
}

/// As `Baton::offer` of a message never received, with what comes after the token is set.
fn offer_new<'p>(
    hand: &Hand,
    baton: Baton<'p>,
    pin: &'p Pin<'_>,
    passed: impl Fn(Held, usize) -> bool,
    looks_first: bool,
) -> Option<After<'p>> {
    let group = baton.group();
    let member = baton.serve().next().expect("just sent").member;
    let segment = Held::of(std::ptr::from_ref(member.segment).cast_mut());
    let slot = member.slot as usize;
    if !segment.is_passed(member.slot) {
        // A word has one token.
        let gone = segment.publish(slot, 1);
        if !gone || looks_first {
            return None;
        }
        if !passed(segment, slot) {
            return None;
        }
    }
    hand.partition
        .lay(group, Laid::Baton, None, NOW, pin)
        .expect("room");
    None
}

/// The handwritten offer that the twins share is itself sound.
#[test]
fn offer_step_by_step() {
    model("offer_step_by_step", 860, || {
        send_and_pass(
            |hand, baton, pin| offer_new(hand, baton, pin, |segment, slot| segment.take_one(slot), false),
            true,
        );
    });
}

#[test]
fn an_offer_looks_for_the_mark_first() {
    twin("an_offer_looks_for_the_mark_first", "message 1 was lost", || {
        send_and_pass(
            |hand, baton, pin| offer_new(hand, baton, pin, |_, _| true, true),
            false,
        );
    });
}

/// What was offered is laid down besides, whoever has found it.
#[test]
fn a_baton_is_laid_down_that_was_found() {
    twin(
        "a_baton_is_laid_down_that_was_found",
        "batons that lie somewhere",
        || {
            send_and_pass(
                |hand, baton, pin| {
                    let taken = |segment: Held, slot| {
                        let _found_or_not = segment.take_one(slot);
                        true
                    };
                    offer_new(hand, baton, pin, taken, false)
                },
                true,
            );
        },
    );
}

/// What was offered is laid down besides, and its token stays where it is.
#[test]
fn a_baton_is_laid_down_and_its_token_stays() {
    twin(
        "a_baton_is_laid_down_and_its_token_stays",
        "batons that lie somewhere",
        || {
            send_and_pass(
                |hand, baton, pin| offer_new(hand, baton, pin, |_, _| true, false),
                false,
            );
        },
    );
}

/// As `Partition::lay`, with the token set before what it stands for is written.
#[test]
fn a_baton_is_written_after_its_token() {
    twin(
        "a_baton_is_written_after_its_token",
        "Causality violation",
        || {
            lay_and_receive(|hand, group, pin| {
                let segment = hand.first();
                let Reservation::Taken {
                    first: at, count: 1, ..
                } = segment.reserve(&[0])
                else {
                    panic!("room");
                };
                let slot = &segment.slots[at];
                slot.store(slot.state_in_hand().lay(None).expect("reserved").next);
                hand.partition.publish(&segment, at, 1, pin);
                let address = std::ptr::from_ref(&*group).cast::<u8>();
                // SAFETY: reserved just now. That it is published is the error.
                unsafe { slot.write(Entry::new(address, Laid::Baton as usize, false, NOW)) };
            });
        },
    );
}

fn store_baton(hand: &Hand, segment: Held, due: Millis) {
    let pin = hand.begin();
    let slot = segment.slot(1);
    if let Ok(next) = slot.state().due_at(due) {
        // A store in effect; loom would misplace one among read-modify-writes.
        while slot.swap_state(slot.state(), next.next).is_err() {}
        hand.partition.publish_again(&segment, 1, 1, &pin);
    }
}

#[test]
fn a_baton_becomes_due_by_a_store() {
    twin("a_baton_becomes_due_by_a_store", "a token was set twice", || {
        due_and_receive(|hand, segment| store_baton(hand, segment, LATER));
    });
}
