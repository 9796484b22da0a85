//! Guards that give their lease up, and heartbeats that keep it.

use crate::common;
use std::{
    cell::{Cell, RefCell},
    future::{self, Future},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::common::{hours, manual, ms, one, queue, secs};
use epoq::{Broker, Deletion, Heartbeat, KeepError, Lease, ManualClock, Queue, VisibilityChange};

fn with_message() -> (ManualClock, Broker, Queue) {
    let (time, broker) = manual(2);
    let queue = queue(&broker, "q");
    queue.send(b"hello").expect("room");
    (time, broker, queue)
}

fn lease(queue: &Queue, timeout: Duration) -> Lease {
    let mut leases = queue.receive_leases(1, timeout).expect("a receive");
    assert_eq!(leases.len(), 1);
    leases.remove(0)
}

/// Polls a future `times` times at most.
fn poll<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    (0..times).find_map(|_| match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    })
}

#[test]
fn a_dropped_lease_makes_its_message_visible_at_once() {
    let (_time, _broker, queue) = with_message();
    let guard = lease(&queue, secs(30));
    assert_eq!((guard.body(), guard.receive_count()), (&b"hello"[..], 1));
    assert_eq!((queue.counts().visible, queue.counts().in_flight), (0, 1));
    drop(guard);
    assert_eq!((queue.counts().visible, queue.counts().released), (1, 1));
    assert_eq!(one(&queue, secs(30)).receive_count(), 2);
}

#[test]
fn all_leases_of_a_receive_are_guarded() {
    let (_time, _broker, queue) = with_message();
    queue.send(b"more").expect("room");
    let leases = queue.receive_leases(10, None).expect("a receive");
    assert_eq!(leases.len(), 2);
    drop(leases);
    assert_eq!(queue.counts().visible, 2);
}

#[test]
fn a_deleted_message_stays_deleted() {
    let (_time, _broker, queue) = with_message();
    assert_eq!(lease(&queue, secs(30)).delete(), Ok(Deletion::Deleted));
    assert_eq!((queue.counts().deleted, queue.census()), (1, (0, 0, 0)));
}

#[test]
fn a_message_taken_over_keeps_its_lease() {
    let (time, broker, queue) = with_message();
    let mut heartbeat = Heartbeat::new();
    let guard = lease(&queue, secs(30));
    heartbeat.keep(&guard, secs(30)).expect("it runs");
    let message = guard.into_message();
    assert_eq!((message.body(), message.receive_count()), (&b"hello"[..], 1));
    assert_eq!((queue.counts().in_flight, heartbeat.len()), (1, 0));
    time.advance(secs(31));
    assert_eq!(heartbeat.beat(broker.now()), epoq::Beat::default());
    assert_eq!(one(&queue, secs(30)).receive_count(), 2);
}

#[test]
fn a_panicking_consumer_releases() {
    let (_time, _broker, queue) = with_message();
    let consumer = || {
        let _guard = lease(&queue, secs(30));
        panic!("on purpose");
    };
    assert!(catch_unwind(AssertUnwindSafe(consumer)).is_err());
    assert_eq!(queue.counts().visible, 1);
    // Also on a thread that ends of it.
    let there = queue.clone();
    let thread = std::thread::spawn(move || {
        let _guard = lease(&there, secs(30));
        panic!("on purpose");
    });
    assert!(thread.join().is_err());
    assert_eq!(queue.counts().visible, 1);
}

#[test]
fn a_guard_may_be_dropped_while_its_thread_is_torn_down() {
    thread_local! {
        static LATE: RefCell<Option<Lease>> = const { RefCell::new(None) };
    }
    let (_time, _broker, queue) = with_message();
    let there = queue.clone();
    common::on_thread(move || LATE.with(|late| *late.borrow_mut() = Some(lease(&there, secs(30)))));
    assert_eq!(queue.counts().visible, 1);
}

#[test]
fn a_cancelled_future_releases() {
    let (_time, _broker, queue) = with_message();
    let consumer = async {
        let guard = queue
            .receive_leases_async(1, None, secs(1), |_| future::pending())
            .await
            .expect("a receive")
            .remove(0);
        future::pending::<()>().await;
        guard.delete()
    };
    assert!(poll(consumer, 3).is_none());
    assert_eq!((queue.counts().visible, queue.counts().received), (1, 1));
}

#[test]
fn a_guard_of_a_lease_that_is_over_leaves_the_newer_one_alone() {
    let (time, _broker, queue) = with_message();
    let old = lease(&queue, secs(30));
    assert!(old.ends_at().is_some());
    time.advance(secs(31));
    assert_eq!(old.ends_at(), None);
    let new = lease(&queue, secs(30));
    drop(old);
    assert_eq!((queue.counts().in_flight, new.ends_at().is_some()), (1, true));
    assert_eq!(new.delete(), Ok(Deletion::Deleted));
}

#[test]
fn a_guard_outlives_its_queue() {
    let (_time, broker, queue) = with_message();
    let guard = lease(&queue, secs(30));
    let mut heartbeat = Heartbeat::new();
    heartbeat.keep(&guard, secs(30)).expect("it runs");
    broker.delete_queue("q").expect("it is there");
    assert_eq!((guard.body(), guard.ends_at()), (&b"hello"[..], None));
    assert_eq!(heartbeat.keep(&guard, secs(30)), Err(KeepError::QueueDeleted));
    drop(guard);
}

#[test]
fn the_timeout_is_the_backstop() {
    let (time, _broker, queue) = with_message();
    std::mem::forget(lease(&queue, secs(30)));
    time.advance(ms(30_001));
    assert_eq!(one(&queue, secs(30)).receive_count(), 2);
}

#[test]
fn extend_and_release_act_on_the_lease() {
    let (time, broker, queue) = with_message();
    let guard = lease(&queue, secs(30));
    assert_eq!(guard.ends_at(), Some(epoq::Millis::new(30_001)));
    time.advance(secs(20));
    assert_eq!(guard.extend(secs(30)), Ok(VisibilityChange::Changed));
    assert_eq!(guard.ends_at(), Some(epoq::Millis::new(50_001)));
    time.advance(secs(20));
    queue.advance(broker.now());
    assert_eq!(queue.counts().in_flight, 1);
    assert_eq!(guard.release(), Ok(VisibilityChange::Changed));
    assert_eq!((queue.counts().visible, queue.counts().released), (1, 1));
    let again = lease(&queue, secs(1));
    time.advance(secs(2));
    assert_eq!(again.release(), Ok(VisibilityChange::LeaseOver));
}

#[test]
fn a_receive_that_waits_gives_guards() {
    let broker = Broker::new();
    let queue = queue(&broker, "q");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let leases = queue.receive_leases_wait(10, None, secs(20)).expect("a receive");
            assert_eq!(leases[0].body(), b"hello");
        });
        queue.send(b"hello").expect("room");
        waiter.join().expect("no panic");
    });
    assert_eq!(queue.counts().visible, 1);
}

#[test]
fn a_heartbeat_keeps_leases_while_their_guards_live() {
    let (time, broker, queue) = with_message();
    queue.send(b"more").expect("room");
    let mut leases = queue.receive_leases(2, secs(10)).expect("a receive");
    let mut heartbeat = Heartbeat::new();
    assert_eq!((heartbeat.next_due(), heartbeat.is_empty()), (None, true));
    for guard in &leases {
        heartbeat.keep(guard, secs(10)).expect("it runs");
    }
    for _ in 0..20 {
        let next = heartbeat.next_due().expect("two leases");
        let pause = next.since(broker.now());
        assert!((ms(4_000)..=ms(5_001)).contains(&pause), "{pause:?}");
        if pause > ms(1) {
            time.advance(pause - ms(1));
            assert_eq!(heartbeat.beat(broker.now()).extended, 0);
            time.advance(ms(1));
        }
        let beat = heartbeat.beat(next);
        assert_eq!((beat.extended, beat.lost), (2, vec![]));
    }
    queue.advance(broker.now());
    assert_eq!((queue.counts().in_flight, queue.counts().expired), (2, 0));
    drop(leases.pop());
    assert_eq!((queue.counts().visible, heartbeat.len()), (1, 1));
    time.advance(secs(5));
    time.advance(ms(1));
    assert_eq!(heartbeat.beat(broker.now()).extended, 1);
    drop(leases);
    assert_eq!((heartbeat.next_due(), heartbeat.is_empty()), (None, true));
    assert_eq!(heartbeat.beat(broker.now()), epoq::Beat::default());
    assert_eq!(queue.counts().visible, 2);
}

#[test]
fn a_heartbeat_lengthens_a_lease_shorter_than_its_step() {
    let (time, broker, queue) = with_message();
    let guard = lease(&queue, secs(1));
    let mut heartbeat = Heartbeat::new();
    heartbeat.keep(&guard, secs(60)).expect("it runs");
    assert!(heartbeat.next_due().is_some_and(|next| next <= broker.now()));
    assert_eq!(heartbeat.beat(broker.now()).extended, 1);
    time.advance(secs(20));
    assert!(guard.ends_at().is_some());
}

#[test]
fn a_heartbeat_shortens_no_lease() {
    let (time, broker, queue) = with_message();
    let guard = lease(&queue, secs(10));
    let mut heartbeat = Heartbeat::new();
    heartbeat.keep(&guard, secs(10)).expect("it runs");
    guard.extend(hours(1)).expect("it runs");
    let end = guard.ends_at();
    time.advance(secs(10));
    assert!(heartbeat.beat(broker.now()).lost.is_empty());
    assert_eq!(guard.ends_at(), end);
}

#[test]
fn a_heartbeat_keeps_a_lease_for_twelve_hours_and_says_so() {
    let (time, broker, queue) = with_message();
    let guard = lease(&queue, hours(1));
    let mut heartbeat = Heartbeat::new();
    heartbeat.keep(&guard, hours(1)).expect("it runs");
    let mut lost = Vec::new();
    while lost.is_empty() {
        let next = heartbeat.next_due().expect("a lease");
        time.advance(next.since(broker.now()));
        lost = heartbeat.beat(broker.now()).lost;
    }
    let why = KeepError::TotalReached { limit: hours(12) };
    assert_eq!((lost[0].why, lost[0].message_id), (why, guard.message_id()));
    assert_eq!(lost[0].handle, guard.receipt_handle());
    // In time, and not before there was nothing left to extend.
    assert_eq!(guard.ends_at(), Some(epoq::Millis::new(12 * 3_600_000 + 1)));
    assert!(broker.now() < epoq::Millis::new(12 * 3_600_000));
    assert!(heartbeat.is_empty());
    time.advance(hours(1));
    assert_eq!(lease(&queue, secs(1)).receive_count(), 2);
}

#[test]
fn a_heartbeat_reports_leases_it_finds_over() {
    let (time, broker, queue) = with_message();
    let mut heartbeat = Heartbeat::new();
    let mut lost_of = |spoil: &dyn Fn(&Lease)| {
        let guard = lease(&queue, secs(10));
        heartbeat.keep(&guard, secs(10)).expect("it runs");
        spoil(&guard);
        time.advance(secs(10));
        let lost = heartbeat.beat(broker.now()).lost;
        assert!(heartbeat.is_empty());
        lost.first().map(|lost| lost.why)
    };
    // A beat too late.
    assert_eq!(lost_of(&|_| time.advance(secs(10))), Some(KeepError::LeaseOver));
    // Received again since.
    let again = |_: &Lease| {
        time.advance(secs(11));
        one(&queue, Duration::ZERO);
    };
    assert_eq!(lost_of(&again), Some(KeepError::ReceivedAgain));
    // Deleted by somebody who had the handle.
    let delete = |guard: &Lease| {
        let _ = queue.delete(&guard.receipt_handle());
    };
    assert_eq!(lost_of(&delete), Some(KeepError::Gone));
}

#[test]
fn steps_of_a_heartbeat_have_limits() {
    let (time, _broker, queue) = with_message();
    let guard = lease(&queue, secs(30));
    let mut heartbeat = Heartbeat::new();
    for given in [Duration::ZERO, hours(12) + ms(1), Duration::MAX] {
        let error = KeepError::Timeout {
            given,
            limit: hours(12),
        };
        assert_eq!(heartbeat.keep(&guard, given), Err(error));
    }
    assert_eq!(heartbeat.keep(&guard, hours(12)), Ok(()));
    time.advance(secs(31));
    assert_eq!(heartbeat.keep(&guard, secs(30)), Err(KeepError::LeaseOver));
}

/// A sleep that moves the manual clock, as if it had slept.
fn sleeper(time: &ManualClock) -> impl Fn(Duration) -> future::Ready<()> {
    let time = time.clone();
    move |pause| {
        time.advance(pause);
        future::ready(())
    }
}

#[test]
fn work_may_last_longer_than_the_timeout() {
    let (time, broker, queue) = with_message();
    let guard = lease(&queue, secs(30));
    let looks = Cell::new(0);
    let work = future::poll_fn(|_| {
        queue.advance(broker.now());
        assert_eq!(queue.counts().expired, 0);
        looks.set(looks.get() + 1);
        if looks.get() > 50 {
            Poll::Ready(guard.body().len())
        } else {
            Poll::Pending
        }
    });
    let done = poll(guard.while_extending(secs(30), work, sleeper(&time)), 1000);
    assert_eq!(done, Some((5, Ok(()))));
    assert!(broker.now() > epoq::Millis::new(300_000));
    assert_eq!(guard.delete(), Ok(Deletion::Deleted));
}

#[test]
fn work_goes_on_when_the_lease_cannot() {
    let (time, broker, queue) = with_message();
    let guard = lease(&queue, hours(1));
    let end = Cell::new(false);
    let work = future::poll_fn(|_| if end.get() { Poll::Ready(7) } else { Poll::Pending });
    let mut running = pin!(guard.while_extending(hours(1), work, sleeper(&time)));
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..200 {
        assert!(running.as_mut().poll(&mut context).is_pending());
    }
    assert!(broker.now() > epoq::Millis::new(11 * 3_600_000));
    end.set(true);
    let why = KeepError::TotalReached { limit: hours(12) };
    assert_eq!(running.as_mut().poll(&mut context), Poll::Ready((7, Err(why))));
    assert_eq!(guard.ends_at(), Some(epoq::Millis::new(12 * 3_600_000 + 1)));
}

#[test]
fn work_under_a_broken_sleep_still_yields() {
    let (_time, _broker, queue) = with_message();
    let guard = lease(&queue, secs(30));
    // The clock does not move: an executor must get its turn all the same.
    let never = guard.while_extending(secs(30), future::pending::<()>(), |_| future::ready(()));
    assert!(poll(never, 10).is_none());
    drop(guard);
    assert_eq!(queue.counts().visible, 1);
}
