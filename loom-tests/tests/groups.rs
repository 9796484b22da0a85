//! Message groups: senders, receivers and the baton between them. (I1, I2, I8)
//!
//! A sender pushes, and then notes the arrival in the group's word; a holder of the baton reads the word, looks into the inbox, and
//! hands the baton back by a compare-and-swap from what it read.
#![cfg(loom)]

mod stage;

use epoq::ledger::{
    group::{
        CLOSED, FRESH, Group, TAKEN,
        baton::{After, Baton, Run},
        link::Link,
        mark_of,
        word::{Done, Duty, GroupWord},
    },
    reclaim::Pin,
};
use epoq::sync::{Arc, AtomicU64, Ordering};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{
    Hand, NOW,
    fifo::{Fifo, HAND_BACK, HandBack, HeldGroup, Written},
};

/// The second part of a send. Says which number the message has got.
type Join = fn(&Hand, HeldGroup, Written) -> u64;

const JOIN: Join = |hand, group, written| hand.join(group, written).expect("open");

/// Two send to an empty group.
fn two_send(join: Join) -> &'static str {
    let mut fifo = Fifo::new();
    let group = fifo.group(0);
    let hand = fifo.hand();
    let (first, second) = (hand.write(0), hand.write(1));
    let other = thread::spawn({
        let hand = fifo.hand();
        move || join(&hand, group, second)
    });
    let here = join(&hand, group, first);
    let there = other.join().unwrap();
    assert_eq!(here.min(there), 1, "the messages are numbered {here} and {there}");
    assert_eq!(here.max(there), 2, "the messages are numbered {here} and {there}");
    let (order, outcome): ([u8; 2], _) = if here == 1 {
        ([0, 1], "first, second")
    } else {
        ([1, 0], "second, first")
    };
    fifo.assert_left(&[group], NOW, &order);
    outcome
}

/// One message is received and deleted, which may empty the group; another one is sent.
fn send_and_empty(join: Join, hand_back: HandBack) -> &'static str {
    let mut fifo = Fifo::new();
    let group = fifo.group(0);
    let hand = fifo.hand();
    hand.send_to(group, 0);
    let second = hand.write(1);
    let sender = thread::spawn({
        let hand = fifo.hand();
        move || join(&hand, group, second)
    });
    let leases = hand.receive_fifo_by(10, hand_back);
    for lease in &leases {
        hand.delete_fifo(lease).expect("leased");
    }
    assert_eq!(sender.join().unwrap(), 2, "its number");
    let bodies: Vec<u8> = leases.iter().map(|lease| lease.body).collect();
    let (rest, outcome): (&[u8], _) = match bodies[..] {
        [0] => (&[1], "one"),
        [0, 1] => (&[], "both"),
        _ => panic!("received {bodies:?}"),
    };
    fifo.assert_left(&[group], NOW, rest);
    outcome
}

/// Two receive one message each, of two groups with one message each.
fn two_receive(receive: fn(&Hand) -> Vec<u8>) -> &'static str {
    let mut fifo = Fifo::new();
    let groups = [fifo.group(0), fifo.group(0)];
    let hand = fifo.hand();
    hand.send_to(groups[0], 0);
    hand.send_to(groups[1], 1);
    let other = thread::spawn({
        let hand = fifo.hand();
        move || receive(&hand)
    });
    let here = receive(&hand);
    let there = other.join().unwrap();
    fifo.assert_batons(&groups);
    match (&here[..], &there[..]) {
        ([0], [1]) => "in order",
        ([1], [0]) => "the other way round",
        _ => panic!("received {here:?} and {there:?}"),
    }
}

/// Two receive one message each, of a group of two: while the first is in flight nobody has the second.
fn two_receive_of_one_group(hand_back: HandBack) -> &'static str {
    let mut fifo = Fifo::new();
    let group = fifo.group(0);
    let hand = fifo.hand();
    hand.send_to(group, 0);
    hand.send_to(group, 1);
    let other = thread::spawn({
        let hand = fifo.hand();
        move || hand.receive_fifo_by(1, hand_back)
    });
    let here = hand.receive_fifo_by(1, hand_back);
    let there = other.join().unwrap();
    let all = || here.iter().chain(&there);
    assert!(
        all().all(|lease| lease.body == 0),
        "message 1 was received while message 0 is in flight"
    );
    assert_eq!(all().count(), 1, "received once");
    for lease in all() {
        hand.delete_fifo(lease).expect("leased");
    }
    fifo.assert_left(&[group], NOW, &[1]);
    if here.is_empty() { "there" } else { "here" }
}

/// How a borrowed baton is used: by a sender that sorts the inbox of a blocked group.
type Sort = for<'p> fn(&Hand, Baton<'p>, &'p Pin<'_>) -> After<'p>;

/// A group is blocked by a message in flight, which is deleted; a sender sorts those behind it.
fn sort_and_delete(sort: Sort) -> &'static str {
    let mut fifo = Fifo::new();
    let group = fifo.group(0);
    let hand = fifo.hand();
    hand.send_to(group, 0);
    let lease = hand.receive_fifo(1)[0];
    hand.send_to(group, 1);
    let sender = thread::spawn({
        let hand = fifo.hand();
        move || {
            let pin = hand.begin();
            let borrowed = group.borrow(&pin);
            let is_lent = borrowed.is_some();
            if let Some(baton) = borrowed {
                hand.follow(sort(&hand, baton, &pin), &pin);
            }
            is_lent
        }
    });
    hand.delete_fifo(&lease).expect("leased");
    let is_lent = sender.join().unwrap();
    fifo.assert_left(&[group], NOW, &[1]);
    if is_lent { "lent" } else { "offered before" }
}

/// Takes the baton of a blocked group.
type Borrow = for<'p> fn(&'p Group, &'p Pin<'_>) -> Option<Baton<'p>>;

/// Two senders sort the inbox of a blocked group, and another message is pushed, whose arrival is noted late.
fn two_sort(borrow: Borrow) -> &'static str {
    let mut fifo = Fifo::new();
    let group = fifo.group(0);
    let hand = fifo.hand();
    hand.send_to(group, 0);
    let lease = hand.receive_fifo(1)[0];
    hand.send_to(group, 1);
    let sort = move |hand: &Hand| {
        let pin = hand.begin();
        let borrowed = borrow(&group, &pin);
        let is_lent = borrowed.is_some();
        if let Some(baton) = borrowed {
            hand.follow(baton.sort_and_hand_back(&pin), &pin);
        }
        is_lent
    };
    let other = thread::spawn({
        let hand = fifo.hand();
        move || sort(&hand)
    });
    let third = hand.write(2);
    let sender = thread::spawn({
        let hand = fifo.hand();
        move || {
            let pin = hand.begin();
            group
                .push(&third.reserved(), 0, || group.last_taken(), &pin)
                .expect("open")
        }
    });
    let here = sort(&hand);
    let there = other.join().unwrap();
    assert_eq!(sender.join().unwrap(), 3, "its number");
    {
        let pin = hand.pin();
        hand.follow(group.arrive(&pin), &pin);
    }
    hand.delete_fifo(&lease).expect("leased");
    fifo.assert_left(&[group], NOW, &[1, 2]);
    match (here, there) {
        (true, true) => "both",
        (true, false) => "here",
        (false, true) => "there",
        (false, false) => panic!("lent to nobody"),
    }
}

/// The slot of the message that was taken last is used again, for a message of the same group, while another one is sent: once it
/// has been taken too the inbox must not look as it did before; with `by_address` it does.
fn a_slot_again(by_address: bool) -> &'static str {
    let mut fifo = Fifo::new();
    let group = fifo.group(0);
    let hand = fifo.hand();
    let first = hand.write(0);
    {
        let pin = hand.begin();
        assert_eq!(
            group.push(&first.reserved(), 0, || group.last_taken(), &pin),
            Ok(1)
        );
        let mut serving = group.borrow(&pin).expect("nobody has it").serve();
        let next = serving.next().expect("pushed");
        hand.partition.discard_next(&mut serving, next, &pin);
        // Nobody comes to close it.
        assert!(matches!(serving.hand_back(true, &pin).0, After::Closing(_)));
    }
    let mark_by_address = {
        let link = first.segment.link(first.slot as u32).expect("links");
        let marked = std::ptr::from_ref(link).cast_mut().map_addr(|addr| addr | TAKEN);
        move |group: &HeldGroup| {
            let present = group.inbox.load(Ordering::Relaxed);
            if by_address && matches!(mark_of(present), TAKEN | FRESH) {
                // Where another one has been pushed already, the mark is gone.
                let _ = group
                    .inbox
                    .compare_exchange(present, marked, Ordering::Release, Ordering::Relaxed);
            }
        }
    };
    mark_by_address(&group);
    let second = hand.write(1);
    let sender = thread::spawn({
        let hand = fifo.hand();
        move || {
            let pin = hand.begin();
            group
                .push(&second.reserved(), 0, || group.last_taken(), &pin)
                .expect("open")
        }
    });
    let here = {
        let pin = hand.begin();
        let here = group
            .push(&first.reserved(), 0, || group.last_taken(), &pin)
            .expect("open");
        let After::Baton(baton) = group.arrive(&pin) else {
            panic!("nobody had it");
        };
        let mut serving = baton.serve();
        let next = serving.next().expect("pushed");
        mark_by_address(&group);
        serving.take(next);
        assert!(matches!(serving.hand_back(true, &pin).0, After::Nothing));
        here
    };
    let there = sender.join().unwrap();
    assert_eq!(here.min(there), 2, "the messages are numbered {here} and {there}");
    assert_eq!(here.max(there), 3, "the messages are numbered {here} and {there}");
    if here == 2 { "here first" } else { "there first" }
}

/// Receives one message without a lease. How often it has been received.
fn glimpse(hand: &Hand, is_late: bool) -> Option<u32> {
    let pin = hand.begin();
    let (segment, at) = hand.partition.take_token(false, &pin)?;
    let Some(baton) = hand.partition.find_out(segment, at, &pin) else {
        panic!("nothing else is there");
    };
    let mut serving = baton.serve();
    let next = serving.next().expect("the baton is out");
    serving.take(next);
    let show = || hand.partition.lease_member(next.member, None, hand.now());
    let shown = if is_late { None } else { show() };
    let (after, _) = serving.hand_back(false, &pin);
    hand.follow(after, &pin);
    shown.or_else(show).map(|claim| claim.receives)
}

/// The only message is received by one without a lease, and by another one with it.
fn glimpse_and_receive(is_late: bool) -> &'static str {
    let mut fifo = Fifo::new();
    let group = fifo.group(0);
    let hand = fifo.hand();
    hand.send_to(group, 0);
    let other = thread::spawn({
        let hand = fifo.hand();
        move || glimpse(&hand, is_late)
    });
    let leases = hand.receive_fifo(1);
    let glimpsed = other.join().unwrap();
    let outcome = match (glimpsed, leases.first().map(|lease| lease.receives)) {
        (Some(1), Some(2)) => "glimpsed, then leased",
        (Some(1), None) => "glimpsed",
        (None, Some(1)) => "leased",
        (glimpsed, leased) => panic!("receives: glimpsed {glimpsed:?}, leased {leased:?}"),
    };
    for lease in &leases {
        hand.delete_fifo(lease).expect("leased");
    }
    fifo.assert_left(&[group], NOW, if leases.is_empty() { &[0] } else { &[] });
    outcome
}

/// Two send under one id at a time. What stands for the map of ids is one word: who enters there first is the one whose message is
/// accepted, and the other gives its slot up.
fn one_id(enter: fn(&AtomicU64) -> bool, abandons: bool) -> &'static str {
    let mut fifo = Fifo::new();
    let group = fifo.group(0);
    let hand = fifo.hand();
    let (first, second) = (hand.write(0), hand.write(1));
    let (segment, id) = (first.segment, Arc::new(AtomicU64::new(0)));
    let accept = move |hand: &Hand, id: &AtomicU64, written: Written| {
        let entered = enter(id);
        if entered {
            hand.join(group, written).expect("open");
        } else if abandons {
            hand.partition.abandon_reserved(written.reserved(), &hand.begin());
        }
        entered
    };
    let other = thread::spawn({
        let (hand, id) = (fifo.hand(), Arc::clone(&id));
        move || accept(&hand, &id, second)
    });
    let here = accept(&hand, &id, first);
    let there = other.join().unwrap();
    assert!(here != there, "accepted twice, or not at all");
    fifo.assert_left(&[group], NOW, &[u8::from(there)]);
    assert!(hand.is_retired(segment), "a slot is kept for ever");
    if here { "here" } else { "there" }
}

#[test]
fn two_senders_to_an_empty_group() {
    let outcomes = Outcomes::new(&["first, second", "second, first"], &[]);
    model("two_senders_to_an_empty_group", 97, {
        let outcomes = outcomes.clone();
        move || outcomes.record(two_send(JOIN))
    });
    outcomes.assert_complete("two_senders_to_an_empty_group");
}

#[test]
fn a_sender_and_a_receiver_that_empties_the_group() {
    let outcomes = Outcomes::new(&["one", "both"], &[]);
    model("a_sender_and_a_receiver_that_empties_the_group", 51, {
        let outcomes = outcomes.clone();
        move || outcomes.record(send_and_empty(JOIN, HAND_BACK))
    });
    outcomes.assert_complete("a_sender_and_a_receiver_that_empties_the_group");
}

#[test]
fn two_receivers_and_two_groups() {
    let outcomes = Outcomes::new(&["in order", "the other way round"], &[]);
    model("two_receivers_and_two_groups", 20, {
        let outcomes = outcomes.clone();
        move || outcomes.record(two_receive(RECEIVE_ONE))
    });
    outcomes.assert_complete("two_receivers_and_two_groups");
}

#[test]
fn two_receivers_and_one_group() {
    let outcomes = Outcomes::new(&["here", "there"], &[]);
    model("two_receivers_and_one_group", 12, {
        let outcomes = outcomes.clone();
        move || outcomes.record(two_receive_of_one_group(HAND_BACK))
    });
    outcomes.assert_complete("two_receivers_and_one_group");
}

#[test]
fn a_sender_that_sorts_and_a_delete() {
    let outcomes = Outcomes::new(&["lent", "offered before"], &[]);
    model("a_sender_that_sorts_and_a_delete", 21, {
        let outcomes = outcomes.clone();
        move || outcomes.record(sort_and_delete(|_, baton, pin| baton.sort_and_hand_back(pin)))
    });
    outcomes.assert_complete("a_sender_that_sorts_and_a_delete");
}

#[test]
fn two_senders_that_sort() {
    let outcomes = Outcomes::new(&["both", "here", "there"], &[]);
    model("two_senders_that_sort", 678, {
        let outcomes = outcomes.clone();
        move || outcomes.record(two_sort(|group, pin| group.borrow(pin)))
    });
    outcomes.assert_complete("two_senders_that_sort");
}

#[test]
fn a_slot_used_again_for_the_same_group() {
    let outcomes = Outcomes::new(&["here first", "there first"], &[]);
    model("a_slot_used_again_for_the_same_group", 72, {
        let outcomes = outcomes.clone();
        move || outcomes.record(a_slot_again(false))
    });
    outcomes.assert_complete("a_slot_used_again_for_the_same_group");
}

#[test]
fn a_mark_that_is_an_address() {
    twin("a_mark_that_is_an_address", "are numbered 2 and 2", || {
        a_slot_again(true);
    });
}

#[test]
fn a_glimpse_and_a_receiver() {
    let outcomes = Outcomes::new(&["glimpsed, then leased", "glimpsed", "leased"], &[]);
    model("a_glimpse_and_a_receiver", 23, {
        let outcomes = outcomes.clone();
        move || outcomes.record(glimpse_and_receive(false))
    });
    outcomes.assert_complete("a_glimpse_and_a_receiver");
}

#[test]
fn two_senders_under_one_id() {
    let outcomes = Outcomes::new(&["here", "there"], &[]);
    model("two_senders_under_one_id", 7, {
        let outcomes = outcomes.clone();
        move || outcomes.record(one_id(ENTER, true))
    });
    outcomes.assert_complete("two_senders_under_one_id");
}

const RECEIVE_ONE: fn(&Hand) -> Vec<u8> =
    |hand| hand.receive_fifo(1).iter().map(|lease| lease.body).collect();

const ENTER: fn(&AtomicU64) -> bool = |id| {
    id.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire)
        .is_ok()
};

/// As `Group::push`, with orderings of its own, or by a store.
fn push_by(group: HeldGroup, written: Written, order: Ordering, stores: bool, _pin: &Pin<'_>) -> u64 {
    let slot = &written.segment.slots[written.slot];
    let link = written.segment.link(written.slot as u32).expect("links");
    link.set_group(&group);
    let mine = std::ptr::from_ref(link).cast_mut();
    let mut top = group.inbox.load(Ordering::Acquire);
    slot.store(slot.state_in_hand().queue_up(0).expect("reserved").next);
    loop {
        let (below, before) = match mark_of(top) {
            // SAFETY: as in `Group::push`.
            0 => (top, unsafe { (*top).sequence() }),
            TAKEN | FRESH => (std::ptr::null_mut::<Link>(), group.taken.load(Ordering::Relaxed)),
            CLOSED => panic!("nobody closes"),
            mark => panic!("marked {mark}"),
        };
        link.set_sequence(before + 1);
        link.set_next(below);
        if stores {
            group.inbox.store(mine, Ordering::Release);
            return before + 1;
        }
        match group.inbox.compare_exchange(top, mine, order, Ordering::Acquire) {
            Ok(_) => return before + 1,
            Err(newer) => top = newer,
        }
    }
}

/// The handwritten send that the twins share is itself sound.
#[test]
fn send_step_by_step() {
    model("send_step_by_step", 51, || {
        send_and_empty(
            |hand, group, written| {
                let pin = hand.begin();
                let sequence = push_by(group, written, Ordering::AcqRel, false, &pin);
                hand.follow(group.arrive(&pin), &pin);
                sequence
            },
            HAND_BACK,
        );
    });
}

#[test]
fn a_message_is_pushed_relaxed() {
    twin(
        "a_message_is_pushed_relaxed",
        "self.in_flight() & places == places",
        || {
            send_and_empty(
                |hand, group, written| {
                    let pin = hand.begin();
                    let sequence = push_by(group, written, Ordering::Relaxed, false, &pin);
                    hand.follow(group.arrive(&pin), &pin);
                    sequence
                },
                HAND_BACK,
            );
        },
    );
}

#[test]
fn a_message_is_pushed_by_a_store() {
    twin(
        "a_message_is_pushed_by_a_store",
        "the messages are numbered 1 and 1",
        || {
            two_send(|hand, group, written| {
                let pin = hand.begin();
                let sequence = push_by(group, written, Ordering::AcqRel, true, &pin);
                hand.follow(group.arrive(&pin), &pin);
                sequence
            });
        },
    );
}

/// The message is announced, and then pushed.
#[test]
fn an_arrival_before_its_message() {
    twin("an_arrival_before_its_message", "message 0 was lost", || {
        two_send(|hand, group, written| {
            let pin = hand.begin();
            hand.follow(group.arrive(&pin), &pin);
            push_by(group, written, Ordering::AcqRel, false, &pin)
        });
    });
}

#[test]
fn an_arrival_is_noted_by_load_and_store() {
    twin(
        "an_arrival_is_noted_by_load_and_store",
        "Causality violation",
        || {
            two_send(|hand, group, written| {
                let pin = hand.begin();
                let sequence = group
                    .push(&written.reserved(), 0, || group.last_taken(), &pin)
                    .expect("open");
                let (next, duty) = GroupWord::from_bits(group.word.load(Ordering::Acquire)).arrive();
                group.word.store(next.to_bits(), Ordering::Release);
                hand.follow(group.after(duty, &pin), &pin);
                sequence
            });
        },
    );
}

/// The word is the same after an arrival if there was one before.
#[test]
fn an_arrival_is_not_counted() {
    twin("an_arrival_is_not_counted", "message 1 was lost", || {
        send_and_empty(
            |hand, group, written| {
                let pin = hand.begin();
                let sequence = group
                    .push(&written.reserved(), 0, || group.last_taken(), &pin)
                    .expect("open");
                let duty = group.change(|word| {
                    let (next, duty) = word.arrive();
                    let count = word.to_bits() >> 32 << 32;
                    let bits = count | next.to_bits() & u64::from(u32::MAX);
                    (GroupWord::from_bits(bits), duty)
                });
                hand.follow(group.after(duty, &pin), &pin);
                sequence
            },
            HAND_BACK,
        );
    });
}

#[test]
fn the_inbox_is_looked_at_before_the_word() {
    twin(
        "the_inbox_is_looked_at_before_the_word",
        "message 1 was lost",
        || {
            send_and_empty(JOIN, |_, serving, pin| {
                let (group, done) = (serving.group(), serving.settle(true));
                let more = group.has_sorted() || mark_of(group.inbox.load(Ordering::Acquire)) == 0;
                let duty = group.change(|word| word.hand_back(done, more));
                (group.after(duty, pin), serving.run().clone())
            });
        },
    );
}

#[test]
fn a_baton_goes_back_by_a_store() {
    twin("a_baton_goes_back_by_a_store", "message 1 was lost", || {
        send_and_empty(JOIN, |_, serving, pin| {
            let (group, done) = (serving.group(), serving.settle(true));
            let word = GroupWord::from_bits(group.word.load(Ordering::Acquire));
            let more = group.has_sorted() || mark_of(group.inbox.load(Ordering::Acquire)) == 0;
            let (next, duty) = word.hand_back(done, more);
            // A store in effect; loom would misplace one among read-modify-writes.
            group.word.swap(next.to_bits(), Ordering::AcqRel);
            (group.after(duty, pin), serving.run().clone())
        });
    });
}

/// What was taken is put in flight only once the baton is back.
#[test]
fn a_baton_goes_back_before_its_messages_are_in_flight() {
    twin(
        "a_baton_goes_back_before_its_messages_are_in_flight",
        "while message 0 is in flight",
        || {
            two_receive_of_one_group(|hand, serving, pin| {
                let (group, done) = (serving.group(), serving.settle(true));
                let nothing = Done::Within { leased: 0, gone: 0 };
                let duty = group.change(|word| word.hand_back(nothing, true));
                hand.follow(group.after(duty, pin), pin);
                group.change(|word| (word.keep(done, true), ()));
                (After::Nothing, serving.run().clone())
            });
        },
    );
}

/// The token of the first message is taken by load and store.
#[test]
fn a_baton_is_taken_by_a_store() {
    twin("a_baton_is_taken_by_a_store", "Causality violation", || {
        two_receive(|hand| {
            let pin = hand.begin();
            let segment = hand.first();
            let mut runs = Run::new();
            for word in 0..2 {
                let present = segment.ready[word].load(Ordering::Acquire);
                if present & 1 != 0 {
                    segment.ready[word].store(present & !1, Ordering::Release);
                    hand.serve_token(&segment, word as u32, 1, HAND_BACK, &pin, &mut runs);
                    break;
                }
            }
            hand.lease_all(runs).iter().map(|lease| lease.body).collect()
        });
    });
}

/// Handed back as it was borrowed: nobody looks whether the group can be received from meanwhile.
#[test]
fn a_borrowed_baton_goes_back_unseen() {
    twin("a_borrowed_baton_goes_back_unseen", "stranded", || {
        sort_and_delete(|_, baton, _| {
            let out = GroupWord::default().borrow().expect("not out").to_bits();
            baton
                .group()
                .change(|word| (GroupWord::from_bits(word.to_bits() & !out), After::Nothing))
        });
    });
}

/// The state is stored once the baton is back, and others may be receiving the message.
#[test]
fn a_glimpse_is_noted_late() {
    twin("a_glimpse_is_noted_late", "receives", || {
        glimpse_and_receive(true);
    });
}

#[test]
fn an_id_is_entered_by_load_and_store() {
    twin("an_id_is_entered_by_load_and_store", "accepted twice", || {
        one_id(
            |id| {
                let entered = id.load(Ordering::Acquire) == 0;
                id.store(1, Ordering::Release);
                entered
            },
            true,
        );
    });
}

#[test]
fn a_slot_that_lost_its_id_is_forgotten() {
    twin(
        "a_slot_that_lost_its_id_is_forgotten",
        "a slot is kept for ever",
        || {
            one_id(ENTER, false);
        },
    );
}

/// As `Group::borrow`.
#[test]
fn a_baton_is_borrowed_by_load_and_store() {
    twin(
        "a_baton_is_borrowed_by_load_and_store",
        "Causality violation",
        || {
            two_sort(|group, pin| {
                let next = GroupWord::from_bits(group.word.load(Ordering::Acquire)).borrow()?;
                // A store in effect; loom would misplace one among read-modify-writes.
                group.word.swap(next.to_bits(), Ordering::AcqRel);
                match group.after(Duty::Baton, pin) {
                    After::Baton(baton) => Some(baton),
                    other => panic!("{other:?}"),
                }
            });
        },
    );
}
