//! What the integration tests share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use epoq::{
    Broker, Builder, FifoConfig, ManualClock, Message, Outgoing, Queue, QueueConfig, limits::VISIBILITY_MAX,
};

/// Long enough that no lease ends while a test runs on the machine's clock.
pub(crate) const LONG: Duration = VISIBILITY_MAX;

/// A broker on a clock that stands still.
pub(crate) fn manual(partitions: usize) -> (ManualClock, Broker) {
    manual_with(Broker::builder().min_width(usize::MAX).partitions(partitions))
}

pub(crate) fn manual_with(builder: Builder) -> (ManualClock, Broker) {
    let time = ManualClock::new();
    let broker = builder.clock(&time).seed(7).build().expect("a valid broker");
    (time, broker)
}

pub(crate) fn queue(broker: &Broker, name: &str) -> Queue {
    broker
        .create_queue(name, QueueConfig::default())
        .expect("a valid queue")
}

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) const fn hours(hours: u64) -> Duration {
    Duration::from_secs(3600 * hours)
}

pub(crate) const fn days(days: u64) -> Duration {
    hours(24 * days)
}

/// Receives one message that must be there.
pub(crate) fn one(queue: &Queue, timeout: Duration) -> Message {
    let mut messages = queue.receive(1, timeout).expect("a valid receive");
    assert_eq!(messages.len(), 1, "{queue:?}");
    messages.remove(0)
}

/// Receives until nothing comes, leasing each message.
pub(crate) fn drain(queue: &Queue) -> Vec<Message> {
    let mut all = Vec::new();
    loop {
        let some = queue.receive(10, LONG).expect("a valid receive");
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

/// Receives and deletes until nothing comes.
pub(crate) fn empty(queue: &Queue) -> usize {
    let all = drain(queue);
    for message in &all {
        assert_eq!(
            queue.delete(&message.receipt_handle()),
            Ok(epoq::Deletion::Deleted)
        );
    }
    all.len()
}

pub(crate) fn bodies(messages: &[Message]) -> BTreeSet<Vec<u8>> {
    messages.iter().map(|message| message.body().to_vec()).collect()
}

/// Runs `f` on a thread of its own and waits for all of it, thread-local destructors included.
pub(crate) fn on_thread<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    match thread::spawn(f).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// SplitMix64: repeatable choices, a stream per seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.next() % below
    }

    /// True once in `n` times.
    pub(crate) fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A body that tells its number and shows if a byte of it is wrong: the number, then a pattern made from it.
pub(crate) fn numbered(number: u64, length: usize) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    let pattern = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    body.extend(pattern.iter().cycle().take(length.saturating_sub(8)));
    body
}

/// The number of such a body; fails if it is not whole.
pub(crate) fn number_of(body: &[u8]) -> u64 {
    let number = u64::from_le_bytes(body[..8].try_into().expect("eight bytes"));
    assert!(
        body == numbered(number, body.len()),
        "the body of message {number} is damaged"
    );
    number
}

/// Waits for `done` by polling; fails after `limit`, saying what `what` says.
pub(crate) fn wait_until(limit: Duration, what: impl Fn() -> String, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < limit, "waited {limit:?} in vain: {}", what());
        thread::sleep(ms(1));
    }
}

pub(crate) fn queue_with(broker: &Broker, name: &str, config: QueueConfig) -> Queue {
    broker.create_queue(name, config).expect("a valid queue")
}

/// Gives a lease up that is running.
pub(crate) fn release(queue: &Queue, message: &Message) {
    assert_eq!(
        queue.change_visibility(&message.receipt_handle(), Duration::ZERO),
        Ok(epoq::VisibilityChange::Changed)
    );
}

/// Deletes a message that is there.
pub(crate) fn delete(queue: &Queue, message: &Message) {
    assert_eq!(
        queue.delete(&message.receipt_handle()),
        Ok(epoq::Deletion::Deleted)
    );
}

/// Visible, in flight, delayed: as counted by the operations, which has to be what is there.
pub(crate) fn states(queue: &Queue) -> (u64, u64, u64) {
    let counts = queue.counts();
    let states = (counts.visible, counts.in_flight, counts.delayed);
    assert_eq!(
        queue.census(),
        states,
        "counted by looking, and by the operations"
    );
    assert_balanced(queue);
    states
}

/// Whatever came in is still there or has left for one of the known causes (I9).
pub(crate) fn assert_balanced(queue: &Queue) {
    let counts = queue.counts();
    assert_eq!(
        counts.sent + counts.moved_in,
        counts.visible
            + counts.in_flight
            + counts.delayed
            + counts.deleted
            + counts.lapsed
            + counts.moved_out
            + counts.purged,
        "{counts:?}"
    );
}

/// A FIFO queue that takes deduplication ids from the content.
pub(crate) fn fifo(broker: &Broker, name: &str) -> Queue {
    fifo_with(broker, name, QueueConfig::default())
}

/// As `fifo`, configured otherwise.
pub(crate) fn fifo_with(broker: &Broker, name: &str, config: QueueConfig) -> Queue {
    let fifo = FifoConfig {
        content_based_deduplication: true,
        ..FifoConfig::default()
    };
    let config = QueueConfig {
        fifo: config.fifo.or(Some(fifo)),
        ..config
    };
    broker.create_queue(name, config).expect("a valid FIFO queue")
}

/// Sends bodies like `g1-m2`, each to the group that stands before the hyphen.
pub(crate) fn send_to_groups(queue: &Queue, bodies: &[&str]) {
    for body in bodies {
        let (group, _) = body.split_once('-').expect("a group");
        queue
            .send_message(&Outgoing::new(body.as_bytes()).message_group(group))
            .expect("accepted");
    }
}

/// The bodies of messages, in their order.
pub(crate) fn texts(messages: &[Message]) -> Vec<&str> {
    messages
        .iter()
        .map(|message| str::from_utf8(message.body()).expect("a text"))
        .collect()
}
