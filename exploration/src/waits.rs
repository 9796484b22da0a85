//! Waits: each receiver waits until it has been told to go home by a message of its own, and no clock helps. A wake that is lost
//! leaves everybody asleep, which shuttle tells.

use std::{
    collections::BTreeMap,
    future::{Future, ready},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use epoq::{Deletion, Outgoing, SendError, VisibilityChange};
use epoq_judge::Id;
use shuttle::thread;

use crate::{
    random::Random,
    stage::{GROUPS, Got, Place, Stage, body_of, demand, got},
};

const LONG: Duration = Duration::from_secs(12 * 3_600);
/// What tells a receiver to go home: longer than any other body.
const HOME: usize = 50;
/// The sender's number of whoever deletes late.
const LATE: usize = 3;

/// Messages that were released last, and whether they tell somebody to go home. Never locked where the scheduler can step in.
type Released = Mutex<BTreeMap<Id, (Got, bool)>>;

/// Says how many operations there were.
pub(crate) fn play(random: &mut Random) -> usize {
    let stage = Stage::new(random);
    // Whoever waits for room would wait for ever.
    epoq::fault::fail_allocations(0, 0);
    let place = random.of_these([Place::Dead, Place::DeadFifo]);
    let receivers = 1 + random.below(3);
    let senders = 1 + random.below(2);
    let messages = random.of_these([0, 0, 2, 5, 20]);
    let released = Arc::new(Released::default());
    // Beside late deletes messages are released all the time, most of them when nobody else is there.
    let deletes_late = place == Place::Dead && random.once_in(2);
    let mut hands = Vec::new();
    for number in 0..receivers {
        let (stage, released, random) = (Arc::clone(&stage), Arc::clone(&released), random.branch());
        hands.push(thread::spawn(move || {
            receive(&stage, place, number, &released, deletes_late, random);
        }));
    }
    if deletes_late {
        let (stage, released, random) = (Arc::clone(&stage), Arc::clone(&released), random.branch());
        hands.push(thread::spawn(move || {
            delete_late(&stage, place, &released, random);
        }));
    }
    let is_told = Arc::new(AtomicBool::new(false));
    if random.once_in(2) {
        let (stage, is_told, random) = (Arc::clone(&stage), Arc::clone(&is_told), random.branch());
        hands.push(thread::spawn(move || give_up(&stage, place, &is_told, random)));
    }
    let senders: Vec<_> = (0..senders)
        .map(|number| {
            let (stage, mut random) = (Arc::clone(&stage), random.branch());
            thread::spawn(move || {
                for _ in 0..messages {
                    send(&stage, place, number, 0, &mut random);
                }
            })
        })
        .collect();
    for sender in senders {
        sender.join().expect("no panic");
    }
    for _ in 0..receivers {
        send(&stage, place, 0, HOME, random);
    }
    is_told.store(true, Relaxed);
    for hand in hands {
        hand.join().expect("no panic");
    }
    let operations = stage.operations.load(Relaxed);
    stage.close();
    operations
}

fn send(stage: &Stage, place: Place, number: usize, length: usize, random: &mut Random) {
    stage.operations.fetch_add(1, Relaxed);
    let id = stage.books.begin(number, 1).next().expect("one");
    let body = body_of(id, length);
    let group = random.below(GROUPS).to_string();
    let message = Outgoing::new(&body);
    let message = if place == Place::DeadFifo {
        message.message_group(&group)
    } else {
        message
    };
    loop {
        match stage.queue(place).send_message(&message) {
            Ok(_) => return,
            Err(SendError::OverBudget { .. }) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Receives one at a time, until one says that it is time to go home. Releases some.
fn receive(
    stage: &Stage,
    place: Place,
    number: usize,
    released: &Released,
    deletes_late: bool,
    mut random: Random,
) {
    let queue = stage.queue(place);
    loop {
        stage.operations.fetch_add(1, Relaxed);
        let before = stage.now();
        let received = queue
            .receive_wait(1, LONG, Duration::from_secs(20))
            .expect("valid");
        assert_eq!(
            received.len(),
            1,
            "{number} was sent away, though no time went by"
        );
        let got: Vec<_> = received.iter().map(|message| got(place, message)).collect();
        stage.enter(&got, before, LONG);
        let got = &got[0];
        let is_home = received[0].body().len() == 8 + HOME;
        locked(released).remove(&got.id);
        let is_released = if deletes_late {
            !random.once_in(12)
        } else {
            random.once_in(8)
        };
        if is_released {
            stage.books.give_up(got.id, got.receives, stage.now().ms);
            let changed = queue.change_visibility(&got.handle, Duration::ZERO);
            assert_eq!(changed, Ok(VisibilityChange::Changed));
            locked(released).insert(got.id, (got.clone(), is_home));
            continue;
        }
        assert_eq!(queue.delete(&got.handle), Ok(Deletion::Deleted));
        demand(stage.books.deleted(&[(got.id, got.receives)]));
        if is_home {
            return;
        }
    }
}

fn locked(released: &Released) -> MutexGuard<'_, BTreeMap<Id, (Got, bool)>> {
    released.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Deletes what was released, unless somebody receives it first: then it may have had the message in hand for a moment, which nobody
/// may miss because of that.
fn delete_late(stage: &Stage, place: Place, released: &Released, mut random: Random) {
    for _ in 0..1_000 {
        let one = {
            let released = locked(released);
            released
                .values()
                .nth(random.below(released.len().max(1)))
                .cloned()
        };
        let Some((got, is_home)) = one else {
            thread::yield_now();
            continue;
        };
        stage.operations.fetch_add(1, Relaxed);
        match stage.queue(place).delete(&got.handle) {
            Ok(Deletion::Deleted) => {
                demand(stage.books.deleted(&[(got.id, got.receives)]));
                locked(released).remove(&got.id);
                if is_home {
                    send(stage, place, LATE, HOME, &mut random);
                }
            }
            Ok(Deletion::ReceivedAgain | Deletion::Gone) => {}
            Err(error) => panic!("{error}"),
        }
        thread::yield_now();
    }
}

/// Waits and gives up, again and again until all has been sent: its notifications have to go to others.
fn give_up(stage: &Stage, place: Place, is_told: &AtomicBool, mut random: Random) {
    let queue = stage.queue(place);
    for _ in 0..500 {
        if is_told.load(Relaxed) {
            return;
        }
        stage.operations.fetch_add(1, Relaxed);
        let before = stage.now();
        let mut future = pin!(queue.receive_async(1, LONG, Duration::from_secs(20), |_| ready(())));
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(received) = future.as_mut().poll(&mut context) {
            // It came too early for a wait: back it goes.
            for message in received.expect("valid") {
                let got = got(place, &message);
                stage.enter(std::slice::from_ref(&got), before, LONG);
                stage.books.give_up(got.id, got.receives, stage.now().ms);
                let changed = queue.change_visibility(&got.handle, Duration::ZERO);
                assert_eq!(changed, Ok(VisibilityChange::Changed));
            }
        }
        for _ in 0..random.of_these([1, 2, 20]) {
            thread::yield_now();
        }
    }
}
