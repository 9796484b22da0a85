//! The ledger itself, driven through the trait: standard and FIFO, on the machine's clock and on a manual one.

use std::{sync::Mutex, time::Duration};

use epoq::{
    Broker, ChangeVisibilityError, DeleteError, Deletion, FifoConfig, ManualClock, QueueConfig, Redrive,
    VisibilityChange,
};
use epoq_history::{
    Answer, Delivery, Outcome, Outgoing, Queue, RealTime, Rules, Seen, Time, check,
    drive::{Workload, drive},
};

/// A queue of the ledger, and its dead-letter queue.
struct Ledger {
    broker: Broker,
    lanes: [epoq::Queue; 2],
    /// Receives go to the dead-letter queue now and then.
    calls: Mutex<u64>,
}

impl Ledger {
    fn new(broker: Broker, fifo: bool, redrive: bool) -> Self {
        let config = QueueConfig {
            fifo: fifo.then(FifoConfig::default),
            ..QueueConfig::default()
        };
        let names = if fifo {
            ["dead.fifo", "q.fifo"]
        } else {
            ["dead", "q"]
        };
        let dead = broker.create_queue(names[0], config.clone()).expect("valid");
        let config = QueueConfig {
            redrive: redrive.then(|| Redrive::new(names[0], 2)),
            ..config
        };
        let queue = broker.create_queue(names[1], config).expect("valid");
        Self {
            broker,
            lanes: [queue, dead],
            calls: Mutex::new(0),
        }
    }
}

type Handle = (u8, epoq::ReceiptHandle);

impl Queue for Ledger {
    type Handle = Handle;

    fn send(&self, message: &Outgoing<'_>) -> Answer {
        let mut outgoing = epoq::Outgoing::new(message.body.as_bytes());
        if !message.delay.is_zero() {
            outgoing = outgoing.delay(message.delay);
        }
        if let Some(group) = message.group {
            outgoing = outgoing.message_group(group);
        }
        if let Some(id) = message.deduplication {
            outgoing = outgoing.deduplication_id(id);
        }
        match self.lanes[0].send_message(&outgoing) {
            Ok(sent) => Answer::Accepted(u128::from_be_bytes(*sent.message_id().as_bytes())),
            Err(_) => Answer::Refused,
        }
    }

    fn receive(&self, max: usize, visibility: Duration, into: &mut Vec<Delivery<Handle>>) -> bool {
        let mut calls = self.calls.lock().expect("no panic");
        *calls += 1;
        let first = usize::from(calls.is_multiple_of(3));
        drop(calls);
        // The other one if there is nothing, so that nothing is overlooked.
        for lane in [first, 1 - first] {
            for message in self.lanes[lane].receive(max, visibility).expect("valid") {
                into.push(Delivery {
                    handle: (lane as u8, message.receipt_handle()),
                    id: u128::from_be_bytes(*message.message_id().as_bytes()),
                    receives: Some(message.receive_count()),
                    group: message.message_group().map(str::to_owned),
                    sequence: message.sequence_number().map(epoq::SequenceNumber::to_u128),
                    lane: lane as u8,
                    body: message.into_body().into_vec(),
                });
            }
            if !into.is_empty() {
                break;
            }
        }
        true
    }

    fn delete(&self, (lane, handle): &Handle) -> Outcome {
        match self.lanes[usize::from(*lane)].delete(handle) {
            Ok(Deletion::Deleted) => Outcome::Done,
            Ok(Deletion::Gone) => Outcome::Gone,
            Ok(Deletion::ReceivedAgain) => Outcome::Superseded,
            Err(DeleteError::Expired) => Outcome::Expired,
            Err(error) => panic!("{error}"),
        }
    }

    fn change_visibility(&self, (lane, handle): &Handle, visibility: Duration) -> Outcome {
        match self.lanes[usize::from(*lane)].change_visibility(handle, visibility) {
            Ok(VisibilityChange::Changed) => Outcome::Done,
            Ok(VisibilityChange::LeaseOver) | Err(ChangeVisibilityError::Expired) => Outcome::Expired,
            Err(ChangeVisibilityError::ReceivedAgain) => Outcome::Superseded,
            Err(ChangeVisibilityError::Gone) => Outcome::Gone,
            Err(error) => panic!("{error}"),
        }
    }

    fn purge(&self) -> Outcome {
        self.lanes[0].purge().map_or(Outcome::Refused, |_| Outcome::Done)
    }

    fn memory(&self) -> Option<(u64, u64)> {
        let memory = self.broker.memory();
        Some((memory.used, memory.limit))
    }
}

/// Nanoseconds made of the ledger's milliseconds, so that a history has the time that the ledger has; and a count within the
/// millisecond, so that readings have an order.
#[derive(Default)]
struct LedgerTime {
    clock: ManualClock,
    last: Mutex<(u64, u64)>,
}

impl Time for LedgerTime {
    fn now(&self) -> u64 {
        let mut last = self.last.lock().expect("no panic");
        let ms = self.clock.now().as_millis();
        *last = if last.0 == ms { (ms, last.1 + 1) } else { (ms, 0) };
        ms * 1_000_000 + last.1
    }

    fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }
}

/// Deduplication ids are known for five minutes.
const WINDOW: u64 = 300_000_000_000;

#[derive(Clone, Copy)]
struct Kind {
    fifo: bool,
    redrive: bool,
    purges: u32,
}

const fn kind(fifo: bool, redrive: bool, purges: u32) -> Kind {
    Kind {
        fifo,
        redrive,
        purges,
    }
}

const KINDS: [Kind; 6] = [
    kind(false, false, 0),
    kind(false, true, 0),
    kind(false, false, 4),
    kind(true, false, 0),
    kind(true, true, 0),
    kind(true, false, 4),
];

fn workload(kind: Kind, seed: u64) -> Workload {
    let workload = if kind.fifo {
        Workload::fifo(seed, 4)
    } else {
        Workload::standard(seed)
    };
    Workload {
        purges: kind.purges,
        ..workload
    }
}

fn judge(kind: Kind, builder: epoq::Builder, time: &impl Time, workload: &Workload, tolerance: u64) -> Seen {
    let broker = builder
        .min_width(usize::MAX)
        .partitions(3)
        .build()
        .expect("valid");
    let ledger = Ledger::new(broker, kind.fifo, kind.redrive);
    let history = drive(&ledger, time, workload).expect("a history");
    let rules = if kind.fifo {
        Rules::fifo(WINDOW)
    } else {
        Rules::standard()
    };
    let verdict = check(&history, &rules.tolerance(tolerance));
    assert!(
        verdict.is_acquitted(),
        "FIFO {}, redrive {}, {workload:?}\n{verdict}",
        kind.fifo,
        kind.redrive
    );
    verdict.seen()
}

#[test]
fn on_a_manual_clock() {
    for kind in KINDS {
        let mut seen = Seen::default();
        for seed in 0..12 {
            let time = LedgerTime::default();
            let workload = Workload {
                threads: 1 + (seed % 4) as u16,
                ..workload(kind, seed)
            };
            // Moments are whole milliseconds; what a reading adds to them is less than one.
            let one = judge(
                kind,
                Broker::builder().clock(&time.clock).seed(seed),
                &time,
                &workload,
                1_000_000,
            );
            seen.redelivered += one.redelivered;
            seen.deleted += one.deleted;
            seen.dead += one.dead;
        }
        assert!(seen.redelivered > 100 && seen.deleted > 1_000, "{seen:?}");
        assert_eq!(kind.redrive, seen.dead > 10, "{seen:?}");
    }
}

#[test]
fn on_the_machines_clock() {
    for kind in KINDS {
        for seed in 0..2 {
            let workload = Workload {
                threads: 6,
                slack: Duration::from_millis(200),
                ..workload(kind, seed)
            };
            // Two clocks may disagree a little about how fast time goes.
            let seen = judge(kind, Broker::builder(), &RealTime::new(), &workload, 2_000_000);
            assert!(seen.received > 100, "{seen:?}");
        }
    }
}
