//! An episode: four workers, who do whatever can be done with the queues; now and then one dies, with what it has in hand, and
//! another one takes its place.

use std::{
    future::{Future, ready},
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Waker},
    time::Duration,
};

use epoq::{
    ChangeVisibilityError, DeleteError, Deletion, Outgoing, ReceiveError, SendError, Turn, VisibilityChange,
    Worker,
};
use shuttle::thread;

use crate::{
    random::Random,
    stage::{GROUPS, Got, Place, Stage, WORKERS, body_of, demand, got, got_of},
};

/// Lease times; time mostly stands still.
const TIMEOUTS: [u64; 4] = [5, 50, 1_000, 30_000];
/// How far the clock jumps.
const JUMPS: [u64; 8] = [1, 1, 5, 10, 60, 1_000, 5_000, 61_000];

/// Says how many operations there were.
pub(crate) fn play(random: &mut Random) -> usize {
    let stage = Stage::new(random);
    let operations = if stage.is_crowded() {
        random.of_these([8, 20, 60, 150])
    } else {
        random.of_these([20, 60, 150])
    };
    let workers: Vec<_> = (0..WORKERS)
        .map(|number| {
            let (stage, mut random) = (Arc::clone(&stage), random.branch());
            thread::spawn(move || live(stage, number, operations, &mut random))
        })
        .collect();
    for worker in workers {
        worker.join().expect("no panic");
    }
    let operations = stage.operations.load(Relaxed);
    stage.close();
    operations
}

/// The lives of one place's workers, one after the other.
fn live(stage: Arc<Stage>, number: usize, mut operations: usize, random: &mut Random) {
    while operations > 0 {
        let life = operations.min(1 + random.below(100));
        operations -= life;
        let (stage, mut random) = (Arc::clone(&stage), random.branch());
        thread::spawn(move || {
            let worker = random
                .once_in(2)
                .then(|| stage.broker.worker().expect("a worker"));
            let mut hand = Hand {
                stage: &stage,
                number,
                worker,
                held: Vec::new(),
            };
            for _ in 0..life {
                hand.act(&mut random);
            }
        })
        .join()
        .expect("no panic");
    }
}

/// One worker.
struct Hand<'s> {
    stage: &'s Stage,
    number: usize,
    worker: Option<Worker>,
    held: Vec<Got>,
}

impl<'s> Hand<'s> {
    fn act(&mut self, random: &mut Random) {
        self.stage.operations.fetch_add(1, Relaxed);
        let is_full = self.stage.books.totals().left >= self.stage.messages_max;
        match random.below(100) {
            // Where there is little to do, its leases end soon.
            0..10 if is_full => self.stage.jump(random.millis([1, 5, 60])),
            10..35 if is_full => self.deal_with_one(random),
            0..20 => self.send(random),
            20..35 => self.send_fifo(random),
            35..60 => self.receive(random),
            60..82 => self.deal_with_one(random),
            82..89 => self.stage.jump(random.millis(JUMPS)),
            89..92 => self.wait_in_vain(random),
            92..97 => self.side(random),
            97 => {
                self.queue(random).1.advance(self.stage.time.now());
            }
            _ => self.look(random),
        }
    }

    fn queue(&self, random: &mut Random) -> (Place, &'s epoq::Queue) {
        let dead = if self.stage.is_crowded() {
            [Place::Standard; 2]
        } else {
            [Place::Dead, Place::DeadFifo]
        };
        let place = random.of_these([
            Place::Standard,
            Place::Standard,
            Place::Fifo,
            Place::Fifo,
            dead[0],
            dead[1],
        ]);
        (place, self.stage.queue(place))
    }

    fn timeout(&self, random: &mut Random) -> Duration {
        if self.stage.is_crowded() {
            random.millis([1, 5, 50])
        } else {
            random.millis(TIMEOUTS)
        }
    }

    fn send(&self, random: &mut Random) {
        let count = random.of_these([1, 1, 2, 5]);
        let ids: Vec<_> = self.stage.books.begin(self.number, count).collect();
        // Some beyond the arena.
        let bodies: Vec<_> = ids
            .iter()
            .map(|&id| body_of(id, random.of_these([0, 8, 40, 100])))
            .collect();
        let queue = &self.stage.standard;
        let results: Vec<Result<(), SendError>> = if random.once_in(3) {
            let group = random.below(GROUPS).to_string();
            let messages: Vec<_> = bodies
                .iter()
                .map(|body| {
                    let message = Outgoing::new(body);
                    match random.below(3) {
                        0 => message.delay(random.millis([1, 20, 1_000])),
                        1 => message.message_group(&group),
                        _ => message,
                    }
                })
                .collect();
            let sent = queue.send_messages(&messages).expect("a valid batch");
            sent.into_iter().map(|sent| sent.map(drop)).collect()
        } else if let [body] = &bodies[..] {
            vec![queue.send(body).map(drop)]
        } else {
            let sent = queue.send_batch(&bodies).expect("a valid batch");
            sent.into_iter().map(|sent| sent.map(drop)).collect()
        };
        self.settle(&ids, &results);
    }

    fn send_fifo(&self, random: &mut Random) {
        let count = random.of_these([1, 1, 2, 4]);
        let ids: Vec<_> = self.stage.books.begin(self.number, count).collect();
        let bodies: Vec<_> = ids
            .iter()
            .map(|&id| body_of(id, random.of_these([0, 8, 60])))
            .collect();
        let groups: Vec<_> = ids.iter().map(|_| random.below(GROUPS).to_string()).collect();
        let messages: Vec<_> = bodies
            .iter()
            .zip(&groups)
            .map(|(body, group)| Outgoing::new(body).message_group(group))
            .collect();
        let sent = self.stage.fifo.send_messages(&messages).expect("a valid batch");
        let results: Vec<_> = sent.into_iter().map(|sent| sent.map(drop)).collect();
        self.settle(&ids, &results);
        if self.stage.is_brief && results[0].is_ok() && random.once_in(4) {
            // Once more: nothing comes of it.
            let again = self.stage.fifo.send_message(&messages[0]).map(drop);
            assert!(
                matches!(again, Ok(()) | Err(SendError::OverBudget { .. })),
                "{again:?}"
            );
        }
    }

    fn settle(&self, ids: &[epoq_judge::Id], results: &[Result<(), SendError>]) {
        for (&id, result) in ids.iter().zip(results) {
            match result {
                Ok(()) => {}
                Err(SendError::OverBudget { .. }) => demand(self.stage.books.refused(id)),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn receive(&mut self, random: &mut Random) {
        let (place, queue) = self.queue(random);
        let (max, timeout) = (random.of_these([1, 1, 3, 10]), self.timeout(random));
        let before = self.stage.now();
        let turn = self
            .worker
            .as_ref()
            .filter(|_| random.once_in(2))
            .map(Worker::begin);
        let received = match &turn {
            Some(turn) => turn.receive(queue, max, timeout).map(|received| {
                let got = received.iter().map(|delivery| {
                    let of = (delivery.receipt_handle(), delivery.receive_count());
                    let sent = (delivery.sequence_number(), delivery.sent_at());
                    got_of(place, delivery.body(), of, delivery.message_group(), sent)
                });
                got.collect()
            }),
            None => queue.receive(max, timeout).map(|messages| {
                messages
                    .iter()
                    .map(|message| got(place, message))
                    .collect::<Vec<_>>()
            }),
        };
        let received = match received {
            Err(ReceiveError::TooManyInFlight { .. }) => return,
            received => received.expect("valid"),
        };
        self.stage.enter(&received, before, timeout);
        let (now, later): (Vec<_>, Vec<_>) = received.into_iter().partition(|_| random.once_in(2));
        for got in &now {
            self.delete(got, turn.as_ref());
        }
        drop(turn);
        self.held.extend(later);
    }

    fn deal_with_one(&mut self, random: &mut Random) {
        if self.held.is_empty() {
            return self.receive(random);
        }
        let got = self.held.swap_remove(random.below(self.held.len()));
        match random.below(10) {
            // Forgotten.
            0 => {}
            1..4 => {
                self.change(&got, Duration::ZERO);
                // It may be deleted all the same, now or later.
                match random.below(3) {
                    0 => self.held.push(got),
                    1 => self.delete(&got, None),
                    _ => {}
                }
            }
            4 => {
                self.change(&got, self.timeout(random));
                self.held.push(got);
            }
            _ => self.delete(&got, None),
        }
    }

    fn delete(&self, got: &Got, turn: Option<&Turn<'_>>) {
        let (stage, queue) = (self.stage, self.stage.queue(got.place));
        if got.place == Place::Fifo {
            let now = stage.now();
            stage.groups.give_up(got.group, got.id, got.receives, now, now.ms);
        }
        let result = match turn {
            Some(turn) => turn.delete(queue, &got.handle),
            None => queue.delete(&got.handle),
        };
        match result {
            Ok(Deletion::Deleted) => demand(stage.books.deleted(&[(got.id, got.receives)])),
            Ok(Deletion::Gone | Deletion::ReceivedAgain) | Err(DeleteError::Expired) => self.lost(got),
            Err(error) => panic!("{error}"),
        }
    }

    fn change(&self, got: &Got, timeout: Duration) {
        let (stage, queue) = (self.stage, self.stage.queue(got.place));
        let now = stage.now();
        let end = now.ms + timeout.as_millis() as u64;
        stage.books.give_up(got.id, got.receives, end);
        if got.place == Place::Fifo {
            stage.groups.give_up(got.group, got.id, got.receives, now, end);
        }
        match queue.change_visibility(&got.handle, timeout) {
            Ok(VisibilityChange::Changed) if timeout.is_zero() => {}
            Ok(VisibilityChange::Changed) => stage.books.extend(got.id, got.receives, end),
            Ok(VisibilityChange::LeaseOver)
            | Err(
                ChangeVisibilityError::Gone
                | ChangeVisibilityError::ReceivedAgain
                | ChangeVisibilityError::Expired,
            ) => self.lost(got),
            Err(error) => panic!("{error}"),
        }
    }

    fn lost(&self, got: &Got) {
        // What is kept for a minute only may be gone before its lease is over.
        if self.stage.queue(got.place).config().retention > Duration::from_secs(60) {
            demand(self.stage.books.lost(got.id, got.receives, self.stage.now().ms));
        }
    }

    /// A wait that is given up after some looks.
    fn wait_in_vain(&mut self, random: &mut Random) {
        let (place, queue) = self.queue(random);
        let (timeout, wait) = (random.millis(TIMEOUTS), Duration::from_secs(20));
        let mut before = self.stage.now();
        let mut future = pin!(queue.receive_async(3, timeout, wait, |_| ready(())));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..1 + random.below(3) {
            if let std::task::Poll::Ready(received) = future.as_mut().poll(&mut context) {
                let Ok(messages) = received else { return };
                let received: Vec<_> = messages.iter().map(|message| got(place, message)).collect();
                self.stage.enter(&received, before, timeout);
                self.held.extend(received);
                return;
            }
            thread::yield_now();
            before = self.stage.now();
        }
    }

    /// With the queue that is purged: only the first worker sends there, and purges it.
    fn side(&mut self, random: &mut Random) {
        let side = &self.stage.side;
        if self.number == 0 && random.once_in(2) {
            let round = self.stage.side_purged.load(Relaxed);
            let sent = side.send_batch(&[round.to_le_bytes(); 3]).expect("a valid batch");
            let accepted = sent.iter().filter(|sent| sent.is_ok()).count();
            self.stage.side_sent.fetch_add(accepted as u64, Relaxed);
            if random.once_in(2) {
                side.purge().expect("a queue");
                self.stage.side_purged.fetch_add(1, Relaxed);
            }
            return;
        }
        let purged = self.stage.side_purged.load(Relaxed);
        for message in side.receive(3, random.millis(TIMEOUTS)).expect("no limit") {
            let round = u64::from_le_bytes(*message.body().first_chunk().expect("a number"));
            assert!(round >= purged, "of round {round}, received after purge {purged}");
            if random.once_in(2) && side.delete(&message.receipt_handle()) == Ok(Deletion::Deleted) {
                self.stage.side_deleted.fetch_add(1, Relaxed);
            }
        }
    }

    /// Looks that change nothing.
    fn look(&self, random: &mut Random) {
        let (_, queue) = self.queue(random);
        match random.below(4) {
            0 => drop(queue.counts()),
            1 => drop(queue.snapshot()),
            2 => drop(queue.metrics()),
            _ => drop(queue.next_due()),
        }
    }
}
