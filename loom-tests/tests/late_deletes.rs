//! A handle whose lease is over deletes, and finds with the token in its hand that the message has been received again since. It
//! gives the token back; whoever looked for a message meanwhile, and went to sleep, is woken. A wake that is missed is a deadlock.
//! (H2, H8)
#![cfg(loom)]

mod stage;

use std::time::Duration;

use epoq::{Deletion, ManualClock, Worker, ledger::state::Refusal, sync::Arc, wait::Waiters};
use epoq_loom::{Outcomes, model, twin};
use loom::thread;
use stage::{Hand, Handed, LATER, Lease, Stage, queue_and_workers};

const DELETED: &str = "deleted";
const SLEPT: &str = "slept while it was in the deleter's hand";
const AGAIN: &str = "received again";

/// What a late delete does about those who wait.
type Delete = fn(&Hand, &Waiters, &Lease) -> Result<(), Refusal>;

/// As `Queue::delete` does it.
const DELETE: Delete = |hand, waiters, lease| {
    let deleted = hand.delete(lease);
    if deleted == Err(Refusal::ReceivedAgain) {
        waiters.wake(1);
    }
    deleted.map(|_| ())
};

/// A message whose lease is over is deleted by the lease's handle, while another receives it, gives it up and waits for it.
fn late(delete: Delete) -> &'static str {
    let stage = Stage::new();
    let waiters = Arc::new(Waiters::default());
    let hand = stage.hand();
    let segment = hand.first();
    hand.send(1);
    let lease = hand.receive().expect("just sent");
    assert_eq!(hand.sweep(segment, LATER).expired, 1);
    let deleter = thread::spawn({
        let (hand, waiters) = (stage.hand_at(LATER), Arc::clone(&waiters));
        move || delete(&hand, &waiters, &lease)
    });
    let hand = stage.hand_at(LATER);
    let Some(again) = hand.receive() else {
        // Deleted, or about to be: the deleter has seen its own receive in the message, or will.
        deleter.join().unwrap().expect("nobody received it since");
        return DELETED;
    };
    hand.release(&again);
    waiters.wake_counted(1);
    let (mut waiting, mut slept) = (waiters.enter(), false);
    // Progress: each turn but the last sleeps until it is woken, which the deleter does once.
    let last = loop {
        waiting.listen();
        if let Some(lease) = hand.receive() {
            break lease;
        }
        slept = true;
        waiting.take_listener().expect("listening").wait();
    };
    assert_eq!((last.body, last.receives), (1, 3));
    assert_eq!(deleter.join().unwrap(), Err(Refusal::ReceivedAgain));
    if slept { SLEPT } else { AGAIN }
}

#[test]
fn a_late_delete_and_a_waiter() {
    let outcomes = Outcomes::new(&[DELETED, SLEPT, AGAIN], &[]);
    model("a_late_delete_and_a_waiter", 541, {
        let outcomes = outcomes.clone();
        move || outcomes.record(late(DELETE))
    });
    outcomes.assert_complete("a_late_delete_and_a_waiter");
}

/// Gives the token back, and tells nobody.
#[test]
fn a_late_delete_is_silent() {
    twin("a_late_delete_is_silent", "deadlock", || {
        late(|hand, _, lease| hand.delete(lease).map(|_| ()));
    });
}

const VISIBILITY: Duration = Duration::from_millis(10);

/// As [`late`], of a queue as it ships.
fn late_in_a_queue() -> &'static str {
    let clock = ManualClock::new();
    let (_broker, queue, [here, there]) = queue_and_workers(&clock);
    let receive = |worker: &Worker| {
        worker.turn(|turn| {
            let received = turn.receive(&queue, 1, VISIBILITY).expect("a queue");
            received.get(0).map(|message| message.receipt_handle())
        })
    };
    let release = |handle| {
        here.turn(|turn| turn.change_visibility(&queue, &handle, Duration::ZERO))
            .expect("a lease");
    };
    here.turn(|turn| turn.send(&queue, b"1").map(|_| ()))
        .expect("room");
    // Visible, and its handle deletes it until it is received again.
    let handle = receive(&here).expect("just sent");
    release(handle);
    let deleter = thread::spawn({
        let (queue, worker) = (queue.clone(), Handed(there));
        move || {
            let worker = worker.take();
            let deleted = worker.turn(|turn| turn.delete(&queue, &handle));
            (deleted.expect("a handle of this queue"), Handed(worker))
        }
    });
    let Some(again) = receive(&here) else {
        assert_eq!(deleter.join().unwrap().0, Deletion::Deleted);
        return DELETED;
    };
    release(again);
    let (mut waiting, mut slept) = (queue.waiters().enter(), false);
    // Progress: as in `late`.
    loop {
        waiting.listen();
        if receive(&here).is_some() {
            break;
        }
        slept = true;
        waiting.take_listener().expect("listening").wait();
    }
    assert_eq!(deleter.join().unwrap().0, Deletion::ReceivedAgain);
    if slept { SLEPT } else { AGAIN }
}

#[test]
fn a_late_delete_from_a_queue_and_a_waiter() {
    let outcomes = Outcomes::new(&[DELETED, SLEPT, AGAIN], &[]);
    model("a_late_delete_from_a_queue_and_a_waiter", 507, {
        let outcomes = outcomes.clone();
        move || outcomes.record(late_in_a_queue())
    });
    outcomes.assert_complete("a_late_delete_from_a_queue_and_a_waiter");
}
