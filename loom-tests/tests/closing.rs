//! Message groups that have become empty: closed, or found to have a message after all. (I1)
//!
//! Who has the baton of an empty group closes its inbox, by a compare-and-swap on the word that senders push by. The baton of a closed
//! group stays out for ever, so that an arrival noted late, of a message that others have received and deleted, does nothing.
#![cfg(loom)]

mod stage;

use epoq::{
    ledger::{
        group::{
            CLOSED, FRESH, Group, TAKEN,
            baton::After,
            closed, mark_of,
            word::{Done, GroupWord},
        },
        lease::Graves,
        reclaim::Pin,
        state::Phase,
    },
    sync::{Arc, AtomicU64, Ordering},
};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{
    Hand, Held, NOW,
    fifo::{Close, Fifo, HeldGroup, LINGERS, Written},
};

const CLOSE: Close = |group, pin| group.close(pin);

/// `Queue::close`. Whether the group is closed.
fn close_by(hand: &Hand, group: HeldGroup, close: Close) -> bool {
    let pin = hand.begin();
    match close(&group, &pin) {
        Ok(()) => true,
        Err(after) => {
            hand.follow(after, &pin);
            false
        }
    }
}

/// `Queue::join`: says whether the message is in `group`, and not in the other one of that name.
fn join(hand: &Hand, group: HeldGroup, another: HeldGroup, written: Written) -> bool {
    let pin = hand.begin();
    if hand.join_in(group, written, &pin).is_ok() {
        return true;
    }
    let sequence = hand
        .join_in(another, written, &pin)
        .expect("nobody closes that one");
    assert!(sequence > group.last_taken(), "its numbers go on");
    false
}

/// An empty group is closed; a message is sent.
fn close_and_send(close: Close) -> &'static str {
    let mut fifo = Fifo::new();
    let groups = [fifo.group(0), fifo.group(1)];
    let hand = fifo.hand();
    let written = hand.write(1);
    let sender = thread::spawn({
        let hand = fifo.hand();
        move || join(&hand, groups[0], groups[1], written)
    });
    let closed = close_by(&hand, groups[0], close);
    let stays = sender.join().unwrap();
    fifo.assert_left(&groups, NOW, &[1]);
    assert!(stays != closed, "closed exactly if the message is elsewhere");
    if closed { "closed" } else { "stays" }
}

/// `Hand::delete_fifo`, with a group that has become empty closed at once, as for want of room.
fn delete_and_close(hand: &Hand, lease: &stage::Lease, close: Close) -> bool {
    let pin = hand.begin();
    let mut graves = Graves::new();
    let ended = hand
        .partition
        .delete_leased(lease.place, lease.receives, hand.now(), &pin, &mut graves)
        .expect("leased")
        .expect("a segment with links");
    let closed = follow_and_close(hand, ended.group.go(ended.places, &pin), &pin, close);
    graves.fill(&pin);
    closed
}

fn follow_and_close<'p>(hand: &Hand, after: After<'p>, pin: &'p Pin<'_>, close: Close) -> bool {
    let closed = std::cell::Cell::new(false);
    let mut after = Some(after);
    while let Some(now) = after.take() {
        let empty = std::cell::Cell::new(None);
        hand.follow_by(now, pin, |group| empty.set(Some(group)));
        if let Some(group) = empty.take() {
            assert!(
                mark_of(group.inbox.load(Ordering::Acquire)) != CLOSED,
                "a closed group is to be closed again"
            );
            match close(group, pin) {
                Ok(()) => closed.set(true),
                Err(left) => after = Some(left),
            }
        }
    }
    closed.get()
}

/// A group's messages are received and deleted, and the group closed; another message is sent, whose arrival may be noted after
/// all that. With `is_pushed` it is in the inbox already, and nobody knows of it.
fn close_before_the_arrival(close: Close, is_pushed: bool) -> &'static str {
    let mut fifo = Fifo::new();
    let groups = [fifo.group(0), fifo.group(2)];
    let hand = fifo.hand();
    hand.send_to(groups[0], 0);
    let written = hand.write(1);
    let push = move |pin: &Pin<'_>| {
        groups[0]
            .push(&written.reserved(), 0, || groups[0].last_taken(), pin)
            .is_ok()
    };
    assert!(!is_pushed || push(&hand.pin()));
    let sender = thread::spawn({
        let hand = fifo.hand();
        move || {
            let pin = hand.begin();
            if is_pushed || push(&pin) {
                let closed = follow_and_close(&hand, groups[0].arrive(&pin), &pin, CLOSE);
                return (true, closed);
            }
            assert_eq!(
                groups[0].last_taken(),
                1,
                "where the numbers of the next group of that name begin"
            );
            hand.join_in(groups[1], written, &pin)
                .expect("nobody closes that one");
            (false, false)
        }
    });
    let leases = hand.receive_fifo(10);
    let mut closed = false;
    for lease in &leases {
        closed |= delete_and_close(&hand, lease, close);
    }
    let (stays, closed_there) = sender.join().unwrap();
    assert!(!closed || !closed_there, "closed twice");
    let bodies: Vec<u8> = leases.iter().map(|lease| lease.body).collect();
    let (rest, outcome): (&[u8], _) = match (&bodies[..], stays, closed, closed_there) {
        ([0, 1], true, true, false) => (&[], "both, closed by the receiver"),
        ([0, 1], true, false, true) => (&[], "both, closed by the sender"),
        ([0], true, false, false) => (&[1], "one"),
        ([0], false, true, false) => (&[1], "one, closed before the other"),
        _ => panic!("received {bodies:?}, stays {stays}, closed {closed}, closed there {closed_there}"),
    };
    let is_closed = mark_of(groups[0].inbox.load(Ordering::Acquire)) == CLOSED;
    assert_eq!(is_closed, closed || closed_there, "closed by one of them");
    fifo.assert_left(&groups, NOW, rest);
    outcome
}

/// A sweep finds the reminder to close a group due, to which a message is sent.
fn remind_and_send(close: Close) -> &'static str {
    let mut fifo = Fifo::new();
    let groups = [fifo.group(0), fifo.group(1)];
    let hand = fifo.hand();
    let segment = hand.send_to(groups[0], 0).segment;
    for lease in hand.receive_fifo(1) {
        hand.delete_fifo(&lease).expect("leased");
    }
    assert!(groups[0].word().lingers());
    let written = hand.write(1);
    let sender = thread::spawn({
        let hand = fifo.hand();
        move || join(&hand, groups[0], groups[1], written)
    });
    hand.sweep_fifo_by(segment, LINGERS, close);
    let leases = hand.receive_fifo(1);
    let stays = sender.join().unwrap();
    for lease in &leases {
        hand.delete_fifo(lease).expect("leased");
    }
    let is_closed = mark_of(groups[0].inbox.load(Ordering::Acquire)) == CLOSED;
    assert!(stays != is_closed, "closed exactly if the message is elsewhere");
    fifo.assert_left(&groups, NOW, if leases.is_empty() { &[1] } else { &[] });
    match (stays, leases.is_empty()) {
        (true, true) => "stays",
        (true, false) => "stays, received",
        (false, _) => "closed",
    }
}

#[test]
fn a_reminder_and_a_send() {
    let outcomes = Outcomes::new(&["stays", "stays, received", "closed"], &[]);
    model("a_reminder_and_a_send", 44, {
        let outcomes = outcomes.clone();
        move || outcomes.record(remind_and_send(CLOSE))
    });
    outcomes.assert_complete("a_reminder_and_a_send");
}

#[test]
fn closing_and_a_send() {
    let outcomes = Outcomes::new(&["closed", "stays"], &[]);
    model("closing_and_a_send", 34, {
        let outcomes = outcomes.clone();
        move || outcomes.record(close_and_send(CLOSE))
    });
    outcomes.assert_complete("closing_and_a_send");
}

#[test]
fn closing_and_a_late_arrival() {
    let outcomes = Outcomes::new(
        &[
            "both, closed by the receiver",
            "one",
            "one, closed before the other",
        ],
        &[],
    );
    model("closing_and_a_late_arrival", 137, {
        let outcomes = outcomes.clone();
        move || {
            // More than two preemptions away; see the next model.
            let outcome = close_before_the_arrival(CLOSE, false);
            outcomes.record(outcome.replace("by the sender", "by the receiver"));
        }
    });
    outcomes.assert_complete("closing_and_a_late_arrival");
}

#[test]
fn closing_and_an_arrival_alone() {
    let outcomes = Outcomes::new(
        &["both, closed by the receiver", "both, closed by the sender"],
        &[],
    );
    model("closing_and_an_arrival_alone", 130, {
        let outcomes = outcomes.clone();
        move || outcomes.record(close_before_the_arrival(CLOSE, true))
    });
    outcomes.assert_complete("closing_and_an_arrival_alone");
}

/// Whoever has entered a group gives up what it was to send.
type Forgo = fn(&Hand, HeldGroup);

/// As `Queue::accept`, of a message under an id that is known.
const FORGO: Forgo = |hand, group| {
    let pin = hand.begin();
    hand.follow(group.forgo(&pin), &pin);
};

/// How many reminders to close a group lie somewhere.
fn reminders(fifo: &Fifo) -> usize {
    let mut reminders = 0;
    fifo.partition.census(&fifo.hand().pin(), |state| {
        reminders += usize::from(state.is(Phase::BatonLater));
    });
    reminders
}

/// An empty group is closed in the end, by the one reminder that there is.
fn assert_closed_in_the_end(fifo: &Fifo, group: HeldGroup) {
    assert_eq!(reminders(fifo), 1, "reminders of an empty group");
    let hand = fifo.hand();
    for number in 0..fifo.partition.index.numbers() {
        let pin = hand.pin();
        if let Some(segment) = fifo.partition.index.find(number, &pin) {
            hand.sweep_fifo(Held::of(std::ptr::from_ref(segment).cast_mut()), LINGERS);
        }
    }
    let is_closed = mark_of(group.inbox.load(Ordering::Acquire)) == CLOSED;
    assert!(is_closed, "an empty group that nobody closes");
}

/// Two have entered a new group, and both give up what they were to send.
fn two_forgo(forgo: Forgo) {
    let mut fifo = Fifo::new();
    let group = fifo.group(0);
    let other = thread::spawn({
        let hand = fifo.hand();
        move || forgo(&hand, group)
    });
    forgo(&fifo.hand(), group);
    other.join().unwrap();
    assert_closed_in_the_end(&fifo, group);
}

/// Two have entered a new group; one of them sends.
fn forgo_and_send(forgo: Forgo) -> &'static str {
    let mut fifo = Fifo::new();
    let group = fifo.group(0);
    let hand = fifo.hand();
    let written = hand.write(1);
    let other = thread::spawn({
        let hand = fifo.hand();
        move || forgo(&hand, group)
    });
    hand.join(group, written).expect("nobody closes it");
    other.join().unwrap();
    let before = reminders(&fifo);
    fifo.assert_left(&[group], NOW, &[1]);
    assert_closed_in_the_end(&fifo, group);
    ["sent before", "sent after"][before]
}

#[test]
fn two_sends_that_come_to_nothing() {
    model("two_sends_that_come_to_nothing", 12, || two_forgo(FORGO));
}

#[test]
fn a_send_that_comes_to_nothing_and_another() {
    let outcomes = Outcomes::new(&["sent before", "sent after"], &[]);
    model("a_send_that_comes_to_nothing_and_another", 12, {
        let outcomes = outcomes.clone();
        move || outcomes.record(forgo_and_send(FORGO))
    });
    outcomes.assert_complete("a_send_that_comes_to_nothing_and_another");
}

#[test]
fn whoever_forgoes_a_group_forgets_it() {
    twin(
        "whoever_forgoes_a_group_forgets_it",
        "reminders of an empty group",
        || {
            two_forgo(|_, _| ());
        },
    );
}

/// As `Group::forgo`.
fn forgo_by_a_store(hand: &Hand, group: HeldGroup) {
    let pin = hand.begin();
    let (next, duty) = GroupWord::from_bits(group.word.load(Ordering::Acquire)).settle();
    // A store in effect; loom would misplace one among read-modify-writes.
    group.word.swap(next.to_bits(), Ordering::AcqRel);
    hand.follow(group.after(duty, &pin), &pin);
}

#[test]
fn a_group_is_forgone_twice_by_a_store() {
    twin(
        "a_group_is_forgone_twice_by_a_store",
        "reminders of an empty group",
        || {
            two_forgo(forgo_by_a_store);
        },
    );
}

#[test]
fn a_group_is_forgone_by_a_store() {
    twin(
        "a_group_is_forgone_by_a_store",
        "batons that lie somewhere",
        || {
            forgo_and_send(forgo_by_a_store);
        },
    );
}

/// How a handwritten closing differs from `Group::close`.
#[derive(PartialEq)]
enum Wrong {
    Nothing,
    Stores,
    HasNoBaton,
    ForgetsBaton,
}

fn close_wrongly<'p>(group: &'p Group, pin: &'p Pin<'_>, wrong: Wrong) -> Result<(), After<'p>> {
    let mine = group.change(|word| {
        let (next, mine) = word.come_to_close();
        // The mark that the baton is out.
        let bits = next.to_bits() & !(1 << 21);
        let without = GroupWord::from_bits(bits);
        (
            if mine && wrong == Wrong::HasNoBaton {
                without
            } else {
                next
            },
            mine,
        )
    });
    if !mine {
        return Err(After::Nothing);
    }
    let top = group.inbox.load(Ordering::Acquire);
    let closed = closed();
    if matches!(mark_of(top), TAKEN | FRESH) {
        let won = if wrong == Wrong::Stores {
            // A store in effect; loom would misplace one among read-modify-writes.
            group.inbox.swap(closed, Ordering::AcqRel);
            true
        } else {
            group
                .inbox
                .compare_exchange(top, closed, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        };
        if won {
            return Ok(());
        }
    }
    if wrong == Wrong::ForgetsBaton {
        return Err(After::Nothing);
    }
    let duty = group.change(|word| {
        let more = mark_of(group.inbox.load(Ordering::Acquire)) == 0;
        word.hand_back(Done::Within { leased: 0, gone: 0 }, more)
    });
    Err(group.after(duty, pin))
}

/// The handwritten closing that the twins share is itself sound.
#[test]
fn closing_step_by_step() {
    model("closing_step_by_step", 34, || {
        close_and_send(|group, pin| close_wrongly(group, pin, Wrong::Nothing));
    });
}

#[test]
fn a_group_is_closed_by_a_store() {
    twin("a_group_is_closed_by_a_store", "message 1 was lost", || {
        close_and_send(|group, pin| close_wrongly(group, pin, Wrong::Stores));
    });
}

#[test]
fn a_baton_is_forgotten_where_a_message_has_come() {
    twin(
        "a_baton_is_forgotten_where_a_message_has_come",
        "batons that lie somewhere",
        || {
            close_and_send(|group, pin| close_wrongly(group, pin, Wrong::ForgetsBaton));
        },
    );
}

#[test]
fn a_group_is_closed_without_its_baton() {
    twin(
        "a_group_is_closed_without_its_baton",
        "a closed group is to be closed again",
        || {
            close_before_the_arrival(|group, pin| close_wrongly(group, pin, Wrong::HasNoBaton), true);
        },
    );
}

#[test]
fn a_group_is_closed_by_a_store_when_reminded() {
    twin(
        "a_group_is_closed_by_a_store_when_reminded",
        "closed exactly if the message is elsewhere",
        || {
            remind_and_send(|group, pin| close_wrongly(group, pin, Wrong::Stores));
        },
    );
}

/// As [`a_baton_is_forgotten_where_a_message_has_come`], of a message whose arrival is noted later.
#[test]
fn a_baton_is_forgotten_before_an_arrival() {
    twin(
        "a_baton_is_forgotten_before_an_arrival",
        "batons that lie somewhere",
        || {
            close_before_the_arrival(|group, pin| close_wrongly(group, pin, Wrong::ForgetsBaton), false);
        },
    );
}

/// What `Groups` keeps of one name: the group there is, by number from 1 on, and the number that none of those closed has
/// exceeded. The map's entry is a word here.
struct Name {
    present: AtomicU64,
    closed: AtomicU64,
    groups: [HeldGroup; 3],
}

impl Name {
    /// `Groups::enter`, with a group at hand should there be none.
    fn enter(&self, spare: usize) -> usize {
        let spare = spare as u64 + 1;
        match self.present.load(Ordering::Acquire) {
            0 => match self
                .present
                .compare_exchange(0, spare, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => spare as usize - 1,
                Err(other) => other as usize - 1,
            },
            present => present as usize - 1,
        }
    }

    /// `Groups::leave`.
    fn leave(&self, group: usize) {
        self.closed
            .fetch_max(self.groups[group].last_taken(), Ordering::Relaxed);
        let _ = self
            .present
            .compare_exchange(group as u64 + 1, 0, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// `Groups::last_closed`.
    fn last_closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }
}

/// How a message is sent to a group of the name, with a group at hand. Its number, and the group.
type SendByName = fn(&Hand, &Name, usize, Written) -> (u64, usize);

/// `Queue::join`.
const SEND_BY_NAME: SendByName = |hand, name, spare, written| {
    let pin = hand.begin();
    push_by_name(name, spare, written, || name.last_closed(), &pin)
};

fn push_by_name(
    name: &Name,
    spare: usize,
    written: Written,
    last: impl Fn() -> u64,
    pin: &Pin<'_>,
) -> (u64, usize) {
    let mut group = name.enter(spare);
    // Progress: each turn more means that the group was closed, which happens once.
    loop {
        if let Ok(sequence) = name.groups[group].push(&written.reserved(), 0, &last, pin) {
            return (sequence, group);
        }
        name.leave(group);
        // Another one at hand: the first may be the one that was closed.
        group = name.enter(2);
    }
}

/// A message is sent to a name that has no group; another one was sent a moment before, is received and deleted, and its group
/// closed.
fn a_group_comes_and_goes(send: SendByName) -> &'static str {
    let mut fifo = Fifo::new();
    let name = Arc::new(Name {
        present: AtomicU64::new(0),
        closed: AtomicU64::new(0),
        groups: [fifo.group(0), fifo.group(0), fifo.group(0)],
    });
    let hand = fifo.hand();
    let written = [hand.write(1), hand.write(2)];
    let other = thread::spawn({
        let (hand, name) = (fifo.hand(), Arc::clone(&name));
        move || send(&hand, &name, 0, written[0])
    });
    let (before, group) = SEND_BY_NAME(&hand, &name, 1, written[1]);
    {
        let pin = hand.begin();
        hand.follow(name.groups[group].arrive(&pin), &pin);
    }
    for lease in hand.receive_fifo(1) {
        if delete_and_close(&hand, &lease, CLOSE) {
            name.leave(group);
        }
    }
    let (after, its) = other.join().unwrap();
    assert_ne!(after, before, "two messages have one number");
    if its == group {
        "one group"
    } else {
        "another group"
    }
}

#[test]
fn a_name_whose_group_comes_and_goes() {
    let outcomes = Outcomes::new(&["one group", "another group"], &[]);
    model("a_name_whose_group_comes_and_goes", 600, {
        let outcomes = outcomes.clone();
        move || outcomes.record(a_group_comes_and_goes(SEND_BY_NAME))
    });
    outcomes.assert_complete("a_name_whose_group_comes_and_goes");
}

/// Where the numbers begin is looked up when the group is made, and not when it has been found.
#[test]
fn numbers_begin_where_a_group_is_made() {
    twin(
        "numbers_begin_where_a_group_is_made",
        "two messages have one number",
        || {
            a_group_comes_and_goes(|hand, name, spare, written| {
                let pin = hand.begin();
                let last = name.last_closed();
                push_by_name(name, spare, written, || last, &pin)
            });
        },
    );
}
