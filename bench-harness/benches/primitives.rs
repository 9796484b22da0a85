//! The ledger's primitives, one by one: what a life cycle is made of.
//!
//! `cargo bench -p epoq-bench`, or `cargo bench -p epoq-bench -- pin` for one of them.

use std::{
    cell::Cell,
    hint::black_box,
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use arrayvec::ArrayVec;
use criterion::{Criterion, criterion_group, criterion_main};
use crossbeam_utils::CachePadded;
use epoq::{Broker, Clock, Queue, QueueConfig, ReceiptHandle, Turn, Worker};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VISIBILITY: Duration = Duration::from_secs(3600);
const BODY: [u8; 64] = [7; 64];
/// Messages prepared outside the clock for one measurement: segments enough to see what crossing from one to the next costs.
const PREPARED: u64 = 10_000;

struct Ledger {
    broker: Broker,
    queue: Queue,
    worker: Worker,
}

impl Ledger {
    fn new() -> Self {
        let broker = Broker::builder()
            .partitions(1)
            .memory_limit(8 << 30)
            .build()
            .expect("one partition is allowed");
        let queue = broker
            .create_queue("bench", QueueConfig::default())
            .expect("a new broker has no queues");
        let worker = broker.worker().expect("a home is dealt out");
        Self {
            broker,
            queue,
            worker,
        }
    }

    fn publish(&self, count: u64) {
        for _ in 0..count {
            self.worker
                .begin()
                .send(&self.queue, &BODY)
                .expect("within budget");
        }
    }

    fn publish_ten(&self) {
        let turn = self.worker.begin();
        let sent = turn.send_batch(&self.queue, &[BODY; 10]).map(|_| ());
        sent.expect("within budget");
    }

    fn claim(&self, max: usize) -> Vec<ReceiptHandle> {
        let turn = self.worker.begin();
        let received = turn
            .receive(&self.queue, max, VISIBILITY)
            .expect("valid arguments");
        received
            .iter()
            .map(|delivery| delivery.receipt_handle())
            .collect()
    }

    fn claim_all(&self) -> Vec<ReceiptHandle> {
        let mut handles = Vec::new();
        loop {
            let some = self.claim(10);
            if some.is_empty() {
                return handles;
            }
            handles.extend(some);
        }
    }

    fn delete(&self, handles: &[ReceiptHandle]) {
        for some in handles.chunks(10) {
            let deleted = self
                .worker
                .begin()
                .delete_batch(&self.queue, some)
                .expect("valid handles");
            assert!(deleted.iter().all(Result::is_ok));
        }
    }

    fn empty(&self) {
        self.delete(&self.claim_all());
    }
}

/// `setup` is not timed; `work` is, per message. What `work` leaves behind is swept up by `sweep`, not timed.
fn per_message(
    criterion: &mut Criterion,
    name: &str,
    setup: impl Fn(&Ledger) -> Vec<ReceiptHandle>,
    work: impl Fn(&Ledger, &[ReceiptHandle]),
    sweep: impl Fn(&Ledger, Vec<ReceiptHandle>),
) {
    let ledger = Ledger::new();
    criterion.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut elapsed = Duration::ZERO;
            // Criterion counts messages; they are worked on in rounds of PREPARED.
            for _ in 0..iterations.div_ceil(PREPARED) {
                let handles = setup(&ledger);
                let begin = Instant::now();
                work(&ledger, &handles);
                elapsed += begin.elapsed();
                sweep(&ledger, handles);
            }
            elapsed.mul_f64(iterations as f64 / (iterations.div_ceil(PREPARED) * PREPARED) as f64)
        });
    });
}

fn publish(criterion: &mut Criterion) {
    let nothing = |_: &Ledger| Vec::new();
    per_message(
        criterion,
        "publish/1",
        nothing,
        |ledger, _| ledger.publish(PREPARED),
        |ledger, _| ledger.empty(),
    );
    per_message(
        criterion,
        "publish/10",
        nothing,
        |ledger, _| {
            for _ in 0..PREPARED / 10 {
                ledger.publish_ten();
            }
        },
        |ledger, _| ledger.empty(),
    );
}

fn claim(criterion: &mut Criterion) {
    for max in [1, 10] {
        let handles: Cell<Vec<ReceiptHandle>> = Cell::default();
        per_message(
            criterion,
            &format!("claim/{max}"),
            |ledger| {
                ledger.publish(PREPARED);
                Vec::new()
            },
            |ledger, _| {
                let mut kept = Vec::with_capacity(PREPARED as usize);
                for _ in 0..PREPARED / max {
                    let turn = ledger.worker.begin();
                    let received = turn
                        .receive(&ledger.queue, max as usize, VISIBILITY)
                        .expect("valid arguments");
                    kept.extend(received.iter().map(|delivery| delivery.receipt_handle()));
                }
                handles.set(kept);
            },
            |ledger, _| {
                ledger.delete(&handles.take());
                ledger.empty();
            },
        );
    }
}

fn delete(criterion: &mut Criterion) {
    let in_flight = |ledger: &Ledger| {
        ledger.publish(PREPARED);
        ledger.claim_all()
    };
    per_message(
        criterion,
        "delete/1",
        in_flight,
        |ledger, handles| {
            for handle in handles {
                black_box(ledger.worker.begin().delete(&ledger.queue, handle)).expect("a valid handle");
            }
        },
        |ledger, _| ledger.empty(),
    );
    per_message(criterion, "delete/10", in_flight, Ledger::delete, |ledger, _| {
        ledger.empty()
    });
}

fn empty_receive(criterion: &mut Criterion) {
    let ledger = Ledger::new();
    criterion.bench_function("receive/empty", |bencher| bencher.iter(|| ledger.claim(1)));
}

fn pin(criterion: &mut Criterion) {
    let ledger = Ledger::new();
    criterion.bench_function("pin", |bencher| {
        bencher.iter(|| drop(black_box(ledger.worker.begin())))
    });
}

fn clock(criterion: &mut Criterion) {
    let clock = Clock::monotonic();
    criterion.bench_function("clock", |bencher| bencher.iter(|| black_box(&clock).now()));
    let ledger = Ledger::new();
    criterion.bench_function("pin and clock", |bencher| {
        bencher.iter(|| ledger.worker.begin().now())
    });
    assert!(ledger.broker.now() <= ledger.broker.now());
}

fn handle(criterion: &mut Criterion) {
    let ledger = Ledger::new();
    ledger.publish(1);
    let handle = ledger.claim(1)[0];
    let text = ledger.queue.encode_handle(&handle);
    criterion.bench_function("handle/encode", |bencher| {
        bencher.iter(|| ledger.queue.encode_handle(black_box(&handle)))
    });
    criterion.bench_function("handle/decode", |bencher| {
        bencher.iter(|| ledger.queue.decode_handle(black_box(text.as_str())))
    });
    criterion.bench_function("handle/decode forged", |bencher| {
        let mut forged = text.as_str().to_owned();
        let last = if forged.ends_with('A') { "B" } else { "A" };
        forged.replace_range(forged.len() - 1.., last);
        bencher.iter(|| ledger.queue.decode_handle(black_box(&forged)).is_err());
    });
}

fn message_id(criterion: &mut Criterion) {
    let ledger = Ledger::new();
    criterion.bench_function("message id", |bencher| {
        ledger.publish(1);
        let turn = ledger.worker.begin();
        let received = turn
            .receive(&ledger.queue, 1, VISIBILITY)
            .expect("valid arguments");
        let delivery = received.get(0).expect("one was sent");
        bencher.iter(|| black_box(&delivery).message_id());
    });
}

/// Send, receive and delete of one message in a turn.
fn cycle(ledger: &Ledger, turn: &Turn<'_>) {
    turn.send(&ledger.queue, &BODY).expect("within budget");
    let received = turn
        .receive_one(&ledger.queue, VISIBILITY)
        .expect("valid arguments");
    let delivery = received.expect("just sent");
    black_box(delivery.body());
    black_box(turn.delete(&ledger.queue, &delivery.receipt_handle())).expect("a valid handle");
}

/// Of single operations, each with a pin of its own.
fn cycle_in_single_operations(ledger: &Ledger) {
    let begin = || ledger.worker.begin();
    begin().send(&ledger.queue, &BODY).expect("within budget");
    let handle = {
        let turn = begin();
        let received = turn
            .receive_one(&ledger.queue, VISIBILITY)
            .expect("valid arguments");
        let delivery = received.expect("just sent");
        black_box(delivery.body());
        delivery.receipt_handle()
    };
    black_box(begin().delete(&ledger.queue, &handle)).expect("a valid handle");
}

fn cycles_in_batches(ledger: &Ledger) {
    ledger.publish_ten();
    let handles: ArrayVec<ReceiptHandle, 10> = {
        let turn = ledger.worker.begin();
        let received = turn
            .receive(&ledger.queue, 10, VISIBILITY)
            .expect("valid arguments");
        received
            .iter()
            .map(|delivery| {
                black_box(delivery.body());
                delivery.receipt_handle()
            })
            .collect()
    };
    ledger.delete(&handles);
}

/// Times are per message.
fn life_cycle(criterion: &mut Criterion) {
    const TURN: u64 = 64;
    let ledger = Ledger::new();
    criterion.bench_function("life cycle/single operations", |bencher| {
        bencher.iter(|| cycle_in_single_operations(&ledger));
    });
    let mut rounds = |name: &str, messages: u64, round: &dyn Fn()| {
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let rounds = iterations.div_ceil(messages);
                let begin = Instant::now();
                (0..rounds).for_each(|_| round());
                let elapsed = begin.elapsed();
                elapsed.mul_f64(iterations as f64 / (rounds * messages) as f64)
            });
        });
    };
    rounds("life cycle/turns of 64", TURN, &|| {
        let turn = ledger.worker.begin();
        (0..TURN).for_each(|_| cycle(&ledger, &turn));
    });
    rounds("life cycle/batches of ten", 10, &|| cycles_in_batches(&ledger));
}

/// One cache line: with nothing between them, as bodies lie.
#[repr(align(64))]
struct Line([AtomicU64; 2]);

/// A store and a locked instruction for each of the lines that are handed to and fro between two cores, which one of them writes
/// and the other only reads, or writes to as well. The other's time is not in it.
fn store(criterion: &mut Criterion) {
    const LINES: usize = 4096;
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let [here, there, ..] = cores[..] else {
        eprintln!("store: skipped, there is one core");
        return;
    };
    for (name, writes) in [("read by another core", false), ("written by another core", true)] {
        criterion.bench_function(&format!("store to a line {name}"), |bencher| {
            bencher.iter_custom(|iterations| {
                let lines: Vec<_> = (0..LINES).map(|_| Line([0; 2].map(AtomicU64::new))).collect();
                let (barrier, last) = (Barrier::new(2), CachePadded::new(AtomicU64::new(0)));
                let rounds = iterations.div_ceil(LINES as u64) + 1;
                let mut taken = Duration::ZERO;
                thread::scope(|scope| {
                    scope.spawn(|| {
                        core_affinity::set_for_current(there);
                        for round in 0..rounds {
                            barrier.wait();
                            for [first, second] in lines.iter().map(|Line(words)| words) {
                                black_box(first.load(Relaxed));
                                if writes {
                                    second.store(round, Relaxed);
                                }
                            }
                            barrier.wait();
                        }
                    });
                    core_affinity::set_for_current(here);
                    for round in 0..rounds {
                        let start = Instant::now();
                        for [first, _] in lines.iter().map(|Line(words)| words) {
                            first.store(round, Relaxed);
                            last.fetch_add(1, Relaxed);
                        }
                        // Not the first, in which nobody else has them yet.
                        if round > 0 {
                            taken += start.elapsed();
                        }
                        barrier.wait();
                        barrier.wait();
                    }
                });
                taken.mul_f64(iterations as f64 / ((rounds - 1) * LINES as u64) as f64)
            });
        });
    }
}

criterion_group!(
    primitives,
    publish,
    claim,
    delete,
    empty_receive,
    pin,
    clock,
    handle,
    message_id,
    life_cycle,
    store
);
criterion_main!(primitives);
