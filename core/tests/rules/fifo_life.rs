//! FIFO queues: delay, retention, limits, long polls, and the life of groups. Rule by rule, on a clock that stands still.

use std::{
    collections::HashSet,
    future::{Future, pending},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use crate::common::{
    LONG, assert_balanced, delete, fifo, fifo_with, manual, manual_with, ms, one, release, secs,
    send_to_groups, states, texts,
};
use epoq::{
    Broker, Counts, Deletion, Heartbeat, ManualClock, Message, MessageState, Outgoing, PeekFilter, Queue,
    QueueConfig, ReceiveError, Redrive, limits::WAIT_MAX,
};

fn single() -> (ManualClock, Broker, Queue) {
    let (time, broker) = manual(1);
    let queue = fifo(&broker, "q.fifo");
    (time, broker, queue)
}

fn with(config: QueueConfig) -> (ManualClock, Broker, Queue) {
    let (time, broker) = manual(1);
    let queue = fifo_with(&broker, "q.fifo", config);
    (time, broker, queue)
}

fn delayed(delay: Duration) -> QueueConfig {
    QueueConfig {
        delay,
        ..QueueConfig::default()
    }
}

fn kept(retention: Duration) -> QueueConfig {
    QueueConfig {
        retention,
        ..QueueConfig::default()
    }
}

fn capped(limit: u64) -> QueueConfig {
    QueueConfig {
        in_flight_max: Some(limit),
        ..QueueConfig::default()
    }
}

fn configure(broker: &Broker, queue: &Queue, config: QueueConfig) {
    let config = QueueConfig {
        fifo: queue.config().fifo,
        ..config
    };
    broker.configure(queue, config).expect("valid");
}

fn receive(queue: &Queue, max: usize) -> Vec<Message> {
    queue.receive(max, secs(30)).expect("a valid receive")
}

/// Receives and deletes until nothing comes.
fn received(queue: &Queue) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let some = queue.receive(10, LONG).expect("a valid receive");
        if some.is_empty() {
            return all;
        }
        some.iter().for_each(|message| delete(queue, message));
        all.extend(texts(&some).into_iter().map(str::to_owned));
    }
}

/// Visible, in flight, delayed.
fn counted(queue: &Queue) -> (u64, u64, u64) {
    let Counts {
        visible,
        in_flight,
        delayed,
        ..
    } = queue.counts();
    assert_balanced(queue);
    (visible, in_flight, delayed)
}

fn groups(queue: &Queue) -> usize {
    queue.fifo_metrics().expect("a FIFO queue").groups
}

// Delay.

#[test]
fn the_queues_delay_holds_all_messages_back() {
    let (time, _broker, queue) = with(delayed(secs(10)));
    send_to_groups(&queue, &["a-1", "b-1"]);
    for _ in 0..2 {
        assert!(receive(&queue, 10).is_empty());
        assert_eq!(counted(&queue), (0, 0, 2));
        time.advance(secs(5));
    }
    time.advance(ms(1));
    assert_eq!(counted(&queue), (2, 0, 0));
    assert_eq!(texts(&receive(&queue, 10)), ["a-1", "b-1"]);
    assert_eq!(counted(&queue), (0, 2, 0));
}

#[test]
fn a_delayed_message_blocks_those_behind_it() {
    let (time, _broker, queue) = with(delayed(secs(10)));
    send_to_groups(&queue, &["a-1", "b-1"]);
    time.advance(secs(4));
    send_to_groups(&queue, &["a-2"]);
    time.advance(secs(6) + ms(1));
    let first = receive(&queue, 10);
    assert_eq!(texts(&first), ["a-1", "b-1"]);
    assert_eq!(counted(&queue), (0, 2, 1));
    first.iter().for_each(|message| delete(&queue, message));
    assert!(receive(&queue, 10).is_empty());
    time.advance(secs(4));
    assert_eq!(texts(&receive(&queue, 10)), ["a-2"]);
}

#[test]
fn a_shorter_delay_is_for_messages_already_there() {
    let (time, broker, queue) = with(delayed(secs(900)));
    send_to_groups(&queue, &["a-1", "a-2", "b-1"]);
    // Looked at once, and once not.
    assert!(receive(&queue, 10).is_empty());
    send_to_groups(&queue, &["c-1"]);
    time.advance(secs(10));
    configure(&broker, &queue, delayed(secs(20)));
    assert!(receive(&queue, 10).is_empty());
    assert_eq!(counted(&queue), (0, 0, 4));
    time.advance(secs(10) + ms(1));
    assert_eq!(texts(&receive(&queue, 10)), ["a-1", "a-2", "b-1", "c-1"]);
}

#[test]
fn with_no_delay_any_more_all_is_there_at_once() {
    let (_, broker, queue) = with(delayed(secs(900)));
    send_to_groups(&queue, &["a-1"]);
    assert!(receive(&queue, 10).is_empty());
    configure(&broker, &queue, QueueConfig::default());
    assert_eq!(counted(&queue), (1, 0, 0));
    assert_eq!(texts(&receive(&queue, 10)), ["a-1"]);
}

#[test]
fn a_longer_delay_is_for_messages_already_there() {
    let (time, broker, queue) = single();
    send_to_groups(&queue, &["a-1", "b-1"]);
    let held = receive(&queue, 1);
    time.advance(secs(10));
    configure(&broker, &queue, delayed(secs(60)));
    // What has been received is not new.
    assert_eq!(counted(&queue), (0, 1, 1));
    release(&queue, &held[0]);
    assert_eq!(counted(&queue), (1, 0, 1));
    assert_eq!(texts(&receive(&queue, 10)), ["a-1"]);
    time.advance(secs(50) + ms(1));
    assert_eq!(texts(&receive(&queue, 10)), ["b-1", "a-1"]);
}

#[test]
fn a_delay_made_longer_counts_from_the_send() {
    let (time, broker, queue) = with(delayed(secs(10)));
    send_to_groups(&queue, &["a-1"]);
    assert!(receive(&queue, 10).is_empty());
    time.advance(secs(5));
    configure(&broker, &queue, delayed(secs(30)));
    time.advance(secs(20));
    assert!(receive(&queue, 10).is_empty());
    time.advance(secs(5) + ms(1));
    assert_eq!(texts(&receive(&queue, 10)), ["a-1"]);
}

#[test]
fn a_delay_is_no_lease_and_adds_to_no_count() {
    let (time, _broker, queue) = with(delayed(secs(10)));
    send_to_groups(&queue, &["a-1"]);
    for _ in 0..20 {
        assert!(receive(&queue, 10).is_empty());
        time.advance(ms(500));
    }
    time.advance(ms(1));
    let message = one(&queue, secs(30));
    assert_eq!(message.receive_count(), 1);
    assert_eq!(message.sent_at().as_millis() + 10_001, time.now().as_millis());
    // It is not delayed a second time.
    release(&queue, &message);
    assert_eq!(one(&queue, secs(30)).receive_count(), 2);
}

// Retention.

#[test]
fn retention_ends_messages_in_every_state() {
    for by_receive in [false, true] {
        let (time, broker, queue) = with(kept(secs(60)));
        // In flight, blocked behind that, visible.
        send_to_groups(&queue, &["a-1", "a-2", "a-3", "b-1"]);
        let held = queue.receive(1, LONG).expect("valid");
        assert_eq!(states(&queue), (3, 1, 0));
        time.advance(secs(60) - ms(1));
        queue.advance(broker.now());
        assert_eq!(states(&queue), (3, 1, 0));
        // Not of the same age.
        send_to_groups(&queue, &["a-4", "c-1"]);
        time.advance(secs(1));
        if by_receive {
            // A receive looks after what blocks a group, with empty hands or because a sweep is due: here one that finds nothing.
            assert_eq!(texts(&receive(&queue, 10)), ["c-1", "a-4"]);
            assert_eq!(states(&queue), (0, 2, 0));
        } else {
            queue.advance(broker.now());
            assert_eq!(states(&queue), (2, 0, 0));
        }
        assert_eq!(queue.counts().lapsed, 4);
        assert_eq!(queue.delete(&held[0].receipt_handle()), Ok(Deletion::Gone));
    }
}

#[test]
fn retention_ends_messages_that_were_released_or_whose_lease_is_over() {
    let (time, broker, queue) = with(kept(secs(60)));
    send_to_groups(&queue, &["a-1", "a-2", "b-1", "b-2"]);
    let all = receive(&queue, 10);
    release(&queue, &all[0]);
    queue
        .change_visibility(&all[2].receipt_handle(), LONG)
        .expect("leased");
    time.advance(secs(61));
    queue.advance(broker.now());
    assert_eq!(states(&queue), (0, 0, 0));
    assert_eq!(queue.counts().lapsed, 4);
}

#[test]
fn retention_ends_delayed_messages() {
    let config = QueueConfig {
        delay: secs(900),
        ..kept(secs(60))
    };
    for is_looked_at in [false, true] {
        let (time, broker, queue) = with(config.clone());
        send_to_groups(&queue, &["a-1", "a-2"]);
        if is_looked_at {
            assert!(receive(&queue, 10).is_empty());
        }
        time.advance(secs(59));
        queue.advance(broker.now());
        assert_eq!(counted(&queue), (0, 0, 2));
        time.advance(secs(1));
        queue.advance(broker.now());
        assert_eq!(states(&queue), (0, 0, 0));
        assert_eq!(queue.counts().lapsed, 2);
    }
}

#[test]
fn a_change_of_retention_is_for_messages_already_there() {
    for delay in [Duration::ZERO, secs(900)] {
        let (time, broker, queue) = with(delayed(delay));
        send_to_groups(&queue, &["a-1", "a-2"]);
        receive(&queue, 1);
        time.advance(secs(100));
        configure(
            &broker,
            &queue,
            QueueConfig {
                delay,
                ..kept(secs(60))
            },
        );
        time.advance(secs(1));
        queue.advance(broker.now());
        assert_eq!(states(&queue), (0, 0, 0));
        assert_eq!(queue.counts().lapsed, 2);
    }
    let (time, broker, queue) = with(kept(secs(60)));
    send_to_groups(&queue, &["a-1"]);
    time.advance(secs(59));
    configure(&broker, &queue, kept(secs(120)));
    time.advance(secs(60));
    assert_eq!(receive(&queue, 1).len(), 1);
}

#[test]
fn a_group_goes_on_when_what_blocked_it_has_lapsed() {
    let (time, broker, queue) = with(kept(secs(60)));
    send_to_groups(&queue, &["a-1"]);
    queue.receive(1, LONG).expect("valid");
    time.advance(secs(30));
    send_to_groups(&queue, &["a-2"]);
    assert!(receive(&queue, 1).is_empty());
    time.advance(secs(31));
    queue.advance(broker.now());
    assert_eq!(texts(&receive(&queue, 1)), ["a-2"]);
}

/// Also if the look after what has lapsed came with a sweep that found nothing.
#[test]
fn a_receive_that_sweeps_in_vain_finds_what_goes_on() {
    let (time, broker) = manual(1);
    let queue = fifo_with(&broker, "q.fifo", kept(secs(60)));
    send_to_groups(&queue, &["a-1"]);
    queue.receive(1, LONG).expect("valid");
    send_to_groups(&queue, &["b-1"]);
    let [other] = &queue.receive(1, secs(50)).expect("valid")[..] else {
        panic!("b-1");
    };
    assert_eq!(queue.delete(&other.receipt_handle()), Ok(Deletion::Deleted));
    time.advance(secs(30));
    assert!(queue.receive(1, LONG).expect("valid").is_empty());
    time.advance(secs(31));
    send_to_groups(&queue, &["a-2"]);
    assert_eq!(texts(&queue.receive(1, LONG).expect("valid")), ["a-2"]);
}

/// A receive that comes upon a long backlog which has lapsed leaves some of it to others.
#[test]
fn a_receive_throws_away_only_so_many() {
    let (time, broker, queue) = with(kept(secs(60)));
    for number in 0..50_000 {
        send_to_groups(&queue, &[&format!("g-{number}")]);
    }
    time.advance(secs(60));
    send_to_groups(&queue, &["g-fresh"]);
    received(&queue);
    let (left, ..) = states(&queue);
    assert!((40_000..50_000).contains(&left), "{left}");
    let fresh = (0..500).find_map(|_| queue.receive(1, LONG).expect("valid").pop());
    assert_eq!(fresh.expect("it is found").body(), b"g-fresh");
    assert_eq!(states(&queue), (0, 1, 0));
    // Housekeeping leaves nothing.
    for number in 0..50_000 {
        send_to_groups(&queue, &[&format!("h-{number}")]);
    }
    time.advance(secs(60));
    queue.advance(broker.now());
    assert_eq!(states(&queue), (0, 0, 0));
}

// Purge and end.

#[test]
fn a_purge_removes_messages_in_every_state() {
    let (_, broker, queue) = single();
    send_to_groups(&queue, &["a-1", "a-2", "b-1"]);
    let held = receive(&queue, 1);
    configure(&broker, &queue, delayed(secs(100)));
    send_to_groups(&queue, &["c-1"]);
    assert!(receive(&queue, 10).is_empty());
    assert_eq!(queue.purge(), Ok(4));
    assert_eq!(states(&queue), (0, 0, 0));
    assert_eq!((queue.counts().purged, groups(&queue)), (4, 0));
    assert_eq!(queue.delete(&held[0].receipt_handle()), Ok(Deletion::Gone));
    // Nor is a group blocked by what was in flight.
    configure(&broker, &queue, QueueConfig::default());
    send_to_groups(&queue, &["a-3"]);
    assert_eq!(texts(&receive(&queue, 10)), ["a-3"]);
}

#[test]
fn sequence_numbers_go_on_after_a_purge() {
    let (_, _broker, queue) = single();
    let mut last = None;
    for round in 0..5 {
        for number in 0..10 {
            let body = format!("{round}-{number}");
            let sent = queue
                .send_message(&Outgoing::new(body.as_bytes()).message_group("g"))
                .expect("accepted");
            assert!(sent.sequence_number() > last);
            last = sent.sequence_number();
        }
        queue.purge().expect("a queue");
    }
}

#[test]
fn a_deleted_queue_takes_its_messages_along() {
    let (_, broker, queue) = single();
    send_to_groups(&queue, &["a-1", "a-2"]);
    receive(&queue, 1);
    broker.delete_queue("q.fifo").expect("there is one");
    assert_eq!(queue.receive(1, secs(30)), Err(ReceiveError::QueueDeleted));
    assert!(queue.purge().is_err());
    assert_eq!(broker.memory().used, 0);
    let again = fifo(&broker, "q.fifo");
    assert_eq!(states(&again), (0, 0, 0));
}

// Counts and limits.

#[test]
fn blocked_messages_count_as_visible() {
    let (_, _broker, queue) = single();
    send_to_groups(&queue, &["a-1", "a-2", "a-3", "b-1"]);
    let first = receive(&queue, 1);
    assert_eq!(states(&queue), (3, 1, 0));
    assert_eq!(texts(&receive(&queue, 10)), ["b-1"]);
    assert_eq!(states(&queue), (2, 2, 0));
    delete(&queue, &first[0]);
    assert_eq!(states(&queue), (2, 1, 0));
}

#[test]
fn as_many_in_flight_as_may_be_is_an_empty_answer_and_no_error() {
    let (time, _broker, queue) = with(capped(3));
    send_to_groups(&queue, &["a-1", "a-2", "b-1", "b-2", "c-1"]);
    let first = receive(&queue, 10);
    assert_eq!(texts(&first), ["a-1", "a-2", "b-1"]);
    for _ in 0..3 {
        assert!(receive(&queue, 10).is_empty());
    }
    // One without a lease is not in flight.
    assert_eq!(texts(&queue.receive(1, Duration::ZERO).expect("valid")), ["c-1"]);
    delete(&queue, &first[2]);
    assert_eq!(texts(&receive(&queue, 10)), ["b-2"]);
    assert!(receive(&queue, 10).is_empty());
    time.advance(secs(31));
    assert_eq!(receive(&queue, 10).len(), 3);
    assert_eq!(states(&queue).1, 3);
}

#[test]
fn a_receive_gives_at_most_ten() {
    let (_, _broker, queue) = single();
    let bodies: Vec<String> = (0..30).map(|n| format!("g{}-{n}", n % 3)).collect();
    send_to_groups(&queue, &bodies.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(receive(&queue, 10).len(), 10);
    for max in [0, 11, usize::MAX] {
        assert_eq!(
            queue.receive(max, secs(30)),
            Err(ReceiveError::Max {
                given: max,
                limit: 10
            })
        );
    }
}

// Long polls.

type Answer = Result<Vec<Message>, ReceiveError>;

/// A long poll in our hands: it goes on when we say, and we see whether it has been woken.
struct Task<'q> {
    future: Pin<Box<dyn Future<Output = Answer> + 'q>>,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<'q> Task<'q> {
    /// One that has gone to sleep.
    fn asleep(queue: &'q Queue) -> Self {
        let mut task = Self {
            // With a clock that moves by hand, moving it wakes.
            future: Box::pin(queue.receive_async(10, LONG, WAIT_MAX, |_| pending::<()>())),
            woken: Arc::new(Woken(AtomicBool::new(false))),
        };
        assert!(task.poll().is_pending(), "there was something");
        task
    }

    fn poll(&mut self) -> Poll<Answer> {
        self.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.woken));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// It has been woken, and has these.
    fn brings(mut self, bodies: &[&str]) -> Vec<Message> {
        assert!(self.woken.0.load(Ordering::Relaxed), "nobody woke it");
        match self.poll() {
            Poll::Ready(Ok(messages)) => {
                assert_eq!(texts(&messages), bodies);
                messages
            }
            other => panic!("{other:?}"),
        }
    }

    /// If it has been woken, it goes on sleeping.
    fn sleeps(&mut self) {
        assert!(
            !self.woken.0.load(Ordering::Relaxed) || self.poll().is_pending(),
            "it is over"
        );
    }
}

#[test]
fn a_long_poll_wakes_for_a_send() {
    let (_, _broker, queue) = single();
    let task = Task::asleep(&queue);
    send_to_groups(&queue, &["a-1"]);
    task.brings(&["a-1"]);
}

#[test]
fn a_long_poll_wakes_when_a_delete_unlocks_a_group() {
    let (_, _broker, queue) = single();
    send_to_groups(&queue, &["a-1", "a-2", "a-3"]);
    let both = receive(&queue, 2);
    let mut task = Task::asleep(&queue);
    delete(&queue, &both[0]);
    task.sleeps();
    delete(&queue, &both[1]);
    task.brings(&["a-3"]);
}

#[test]
fn a_long_poll_wakes_when_a_batch_of_deletes_unlocks_groups() {
    let (_, _broker, queue) = single();
    send_to_groups(&queue, &["a-1", "b-1", "a-2", "b-2"]);
    let all = [receive(&queue, 1), receive(&queue, 1)].concat();
    assert_eq!(texts(&all), ["a-1", "b-1"]);
    let task = Task::asleep(&queue);
    let handles: Vec<_> = all.iter().map(Message::receipt_handle).collect();
    let deleted = queue.delete_batch(&handles).expect("valid");
    assert!(deleted.iter().all(Result::is_ok));
    task.brings(&["a-2", "b-2"]);
}

#[test]
fn a_long_poll_wakes_for_a_release() {
    let (_, _broker, queue) = single();
    send_to_groups(&queue, &["a-1", "a-2"]);
    let both = receive(&queue, 2);
    let mut task = Task::asleep(&queue);
    release(&queue, &both[1]);
    task.sleeps();
    release(&queue, &both[0]);
    task.brings(&["a-1", "a-2"]);
}

#[test]
fn a_long_poll_wakes_when_a_lease_is_over() {
    let (time, _broker, queue) = single();
    send_to_groups(&queue, &["a-1", "a-2"]);
    queue.receive(2, secs(10)).expect("valid");
    let mut task = Task::asleep(&queue);
    time.advance(secs(10));
    task.sleeps();
    time.advance(ms(1));
    task.brings(&["a-1", "a-2"]);
}

#[test]
fn a_long_poll_wakes_when_a_delay_is_over() {
    for is_there in [true, false] {
        let (time, _broker, queue) = with(delayed(secs(10)));
        if is_there {
            send_to_groups(&queue, &["a-1"]);
        }
        let mut task = Task::asleep(&queue);
        if !is_there {
            send_to_groups(&queue, &["a-1"]);
        }
        task.sleeps();
        time.advance(secs(10));
        task.sleeps();
        time.advance(ms(1));
        task.brings(&["a-1"]);
    }
}

/// Nor does a receive go round and round where there is no memory left to note until when.
#[test]
fn a_long_poll_sleeps_through_a_delay_without_memory() {
    let config = QueueConfig {
        memory_limit: Some(256 << 10),
        ..delayed(secs(10))
    };
    let (time, _broker, queue) = with(config);
    let mut sent = 0;
    let accepted = |sent| {
        let (group, id) = (format!("group-{sent}"), format!("{sent}"));
        let message = Outgoing::new(b"m").message_group(&group).deduplication_id(&id);
        queue.send_message(&message).is_ok()
    };
    while accepted(sent) {
        sent += 1;
    }
    assert!(sent > 100, "{sent}");
    let mut task = Task::asleep(&queue);
    time.advance(secs(10));
    task.sleeps();
    time.advance(ms(1));
    assert!(matches!(task.poll(), Poll::Ready(Ok(messages)) if messages.len() == 10));
    assert_eq!(received(&queue).len(), sent - 10);
}

#[test]
fn a_long_poll_wakes_when_the_delay_is_made_shorter() {
    let (time, broker, queue) = with(delayed(secs(900)));
    send_to_groups(&queue, &["a-1"]);
    time.advance(secs(20));
    let task = Task::asleep(&queue);
    configure(&broker, &queue, delayed(secs(10)));
    task.brings(&["a-1"]);
}

#[test]
fn a_long_poll_waits_while_too_many_are_in_flight() {
    let (_, _broker, queue) = with(capped(2));
    send_to_groups(&queue, &["a-1", "a-2", "b-1"]);
    let both = receive(&queue, 2);
    let mut task = Task::asleep(&queue);
    send_to_groups(&queue, &["c-1"]);
    task.sleeps();
    delete(&queue, &both[0]);
    task.brings(&["b-1"]);
}

#[test]
fn a_long_poll_with_nothing_ends_empty() {
    let (time, _broker, queue) = single();
    send_to_groups(&queue, &["a-1", "a-2"]);
    queue.receive(1, LONG).expect("valid");
    let mut task = Task::asleep(&queue);
    time.advance(WAIT_MAX);
    assert!(matches!(task.poll(), Poll::Ready(Ok(messages)) if messages.is_empty()));
    // A wait of zero is a receive like any other.
    assert_eq!(queue.receive_wait(1, LONG, Duration::ZERO), Ok(vec![]));
}

#[test]
fn threads_that_wait_share_groups_as_they_are_unlocked() {
    const MESSAGES: usize = 300;
    let broker = Broker::builder().partitions(2).build().expect("a broker");
    let queue = fifo(&broker, "q.fifo");
    let (queue, done) = (&queue, &AtomicBool::new(false));
    let mut all: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(move || {
                    let mut mine = Vec::new();
                    while !done.load(Ordering::Relaxed) {
                        let some = queue.receive_wait(1, LONG, ms(500)).expect("valid");
                        some.iter().for_each(|message| delete(queue, message));
                        mine.extend(texts(&some).into_iter().map(str::to_owned));
                        if queue.counts().deleted == MESSAGES as u64 {
                            done.store(true, Ordering::Relaxed);
                        }
                    }
                    mine
                })
            })
            .collect();
        for number in 0..MESSAGES {
            send_to_groups(queue, &[&format!("g{}-{number}", number % 2)]);
        }
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("no panic"))
            .collect()
    });
    all.sort();
    all.dedup();
    assert_eq!(all.len(), MESSAGES);
    assert_eq!(states(queue), (0, 0, 0));
}

// Looking in.

#[test]
fn a_peek_shows_messages_and_their_states() {
    let (time, broker, queue) = single();
    send_to_groups(&queue, &["a-1", "a-2", "b-1"]);
    one(&queue, secs(30));
    configure(&broker, &queue, delayed(secs(100)));
    time.advance(secs(100));
    send_to_groups(&queue, &["c-1"]);
    let shown = |state| -> Vec<(String, MessageState)> {
        let filter = PeekFilter {
            state,
            ..PeekFilter::default()
        };
        queue
            .peek(&filter)
            .iter()
            .map(|seen| {
                let text = str::from_utf8(seen.body()).expect("a text");
                assert_eq!(seen.message_group(), text.split_once('-').map(|(group, _)| group));
                (text.to_owned(), seen.state())
            })
            .collect()
    };
    let all = [
        ("a-1".to_owned(), MessageState::InFlight),
        ("a-2".to_owned(), MessageState::Delayed),
        ("b-1".to_owned(), MessageState::Delayed),
        ("c-1".to_owned(), MessageState::Delayed),
    ];
    // To the millisecond: delays are rounded up.
    assert_eq!(shown(None), all);
    time.advance(ms(1));
    assert_eq!(
        shown(Some(MessageState::Visible))
            .into_iter()
            .map(|(text, _)| text)
            .collect::<Vec<_>>(),
        ["a-2", "b-1"]
    );
    assert_eq!(shown(Some(MessageState::Delayed)), all[3..]);
    let filter = PeekFilter {
        state: Some(MessageState::Delayed),
        ..PeekFilter::default()
    };
    let due = queue.peek(&filter)[0].due().expect("delayed");
    assert_eq!(due.as_millis(), time.now().as_millis() + 100_000);
    // Nothing has changed by it.
    assert_eq!(counted(&queue), (2, 1, 1));
    assert_eq!(queue.counts().received, 1);
}

#[test]
fn the_oldest_message_is_known() {
    let (time, broker, queue) = single();
    assert_eq!(queue.oldest_sent(), None);
    let first = broker.now();
    send_to_groups(&queue, &["a-1"]);
    time.advance(secs(5));
    send_to_groups(&queue, &["a-2"]);
    let message = one(&queue, LONG);
    assert_eq!(queue.oldest_sent(), Some(first));
    delete(&queue, &message);
    assert_eq!(queue.oldest_sent(), Some(broker.now()));
}

// Guards.

#[test]
fn a_dropped_guard_gives_its_message_back_to_its_group() {
    let (_, _broker, queue) = single();
    send_to_groups(&queue, &["a-1", "a-2", "a-3"]);
    let mut leases = queue.receive_leases(2, secs(30)).expect("valid");
    let second = leases.pop().expect("two");
    drop(leases);
    // The first is there again, alone.
    let again = receive(&queue, 10);
    assert_eq!(texts(&again), ["a-1"]);
    assert_eq!(second.delete(), Ok(Deletion::Deleted));
    delete(&queue, &again[0]);
    assert_eq!(received(&queue), ["a-3"]);
}

#[test]
fn dropped_guards_of_a_group_leave_its_order_as_it_was() {
    let (_, _broker, queue) = single();
    send_to_groups(&queue, &["a-1", "a-2", "a-3"]);
    for count in 1..4 {
        let leases = queue.receive_leases(10, secs(30)).expect("valid");
        assert_eq!(leases.len(), 3);
        assert!(leases.iter().all(|lease| lease.receive_count() == count));
        drop(leases);
    }
    assert_eq!(received(&queue), ["a-1", "a-2", "a-3"]);
}

#[test]
fn a_heartbeat_keeps_a_group_locked() {
    let (time, broker, queue) = single();
    send_to_groups(&queue, &["a-1", "a-2"]);
    let lease = queue.receive_leases(1, secs(10)).expect("valid").remove(0);
    let mut heartbeat = Heartbeat::new();
    heartbeat.keep(&lease, secs(10)).expect("it runs");
    for _ in 0..10 {
        time.advance(secs(5));
        assert!(heartbeat.beat(broker.now()).lost.is_empty());
        assert!(receive(&queue, 10).is_empty());
    }
    assert_eq!(lease.delete(), Ok(Deletion::Deleted));
    assert_eq!(received(&queue), ["a-2"]);
}

// Groups.

#[test]
fn a_group_vanishes_a_while_after_it_has_become_empty() {
    let (time, broker, queue) = single();
    send_to_groups(&queue, &["a-1", "b-1"]);
    assert_eq!(groups(&queue), 2);
    let both = receive(&queue, 10);
    delete(&queue, &both[0]);
    time.advance(secs(3));
    queue.advance(broker.now());
    assert_eq!(groups(&queue), 1, "one is in flight");
    delete(&queue, &both[1]);
    time.advance(secs(3));
    queue.advance(broker.now());
    assert_eq!(groups(&queue), 0);
}

#[test]
fn a_group_that_is_used_again_stays() {
    let (time, broker, queue) = single();
    for number in 0..20 {
        send_to_groups(&queue, &[&format!("a-{number}")]);
        assert_eq!(received(&queue).len(), 1);
        time.advance(ms(400));
        queue.advance(broker.now());
        assert!(groups(&queue) <= 1);
    }
    time.advance(secs(3));
    queue.advance(broker.now());
    assert_eq!(groups(&queue), 0);
}

/// What reminds of an empty group lies where a baton would. A change of the delay brings the batons back that were put off.
#[test]
fn a_change_of_the_delay_finds_a_group_that_has_become_empty() {
    for messages in [&[][..], &["a-2"], &["a-2", "a-3"]] {
        let (time, broker, queue) = single();
        send_to_groups(&queue, &["a-1"]);
        assert_eq!(received(&queue), ["a-1"]);
        send_to_groups(&queue, messages);
        configure(&broker, &queue, delayed(secs(2)));
        assert_eq!(receive(&queue, 10), []);
        configure(&broker, &queue, QueueConfig::default());
        assert_eq!(texts(&receive(&queue, 1)), messages[..messages.len().min(1)]);
        assert_eq!(receive(&queue, 10), [], "none, or the first is in flight");
        time.advance(secs(31));
        assert_eq!(received(&queue), messages);
        time.advance(secs(3));
        queue.advance(broker.now());
        assert_eq!(groups(&queue), 0);
    }
}

/// It is to be closed when it has been empty for a while; by then it has been used again.
#[test]
fn a_group_with_a_message_in_flight_is_not_closed() {
    let (time, broker, queue) = single();
    send_to_groups(&queue, &["a-1"]);
    assert_eq!(received(&queue), ["a-1"]);
    send_to_groups(&queue, &["a-2"]);
    let second = one(&queue, LONG);
    time.advance(secs(3));
    queue.advance(broker.now());
    assert_eq!(groups(&queue), 1);
    send_to_groups(&queue, &["a-3"]);
    assert_eq!(receive(&queue, 10), [], "the second is in flight");
    delete(&queue, &second);
    assert_eq!(received(&queue), ["a-3"]);
}

#[test]
fn a_group_that_loses_its_messages_otherwise_vanishes_too() {
    let (time, broker) = manual(1);
    fifo(&broker, "dead.fifo");
    let config = QueueConfig {
        redrive: Some(Redrive::new("dead.fifo", 1)),
        ..kept(secs(60))
    };
    let queue = fifo_with(&broker, "q.fifo", config);
    // One moves, one lapses where it waits, one in flight.
    send_to_groups(&queue, &["a-1", "b-1", "c-1"]);
    one(&queue, Duration::ZERO);
    assert_eq!(texts(&queue.receive(1, LONG).expect("valid")), ["b-1"]);
    assert_eq!(texts(&queue.receive(1, LONG).expect("valid")), ["c-1"]);
    assert_eq!(queue.receive(1, LONG), Ok(vec![]));
    assert_eq!(queue.counts().moved_out, 1);
    send_to_groups(&queue, &["d-1"]);
    time.advance(secs(61));
    queue.advance(broker.now());
    assert_eq!(states(&queue), (0, 0, 0));
    for _ in 0..2 {
        time.advance(secs(3));
        queue.advance(broker.now());
    }
    assert_eq!(groups(&queue), 0);
}

#[test]
fn sequence_numbers_keep_growing_when_a_group_comes_again() {
    let (time, broker, queue) = single();
    let mut last = None;
    for round in 0..10 {
        for group in ["a", "b"] {
            let body = format!("{group}-{round}");
            let sent = queue
                .send_message(&Outgoing::new(body.as_bytes()).message_group(group))
                .expect("accepted");
            if group == "a" {
                assert!(sent.sequence_number() > last);
                last = sent.sequence_number();
            }
        }
        assert_eq!(received(&queue).len(), 2);
        time.advance(secs(3));
        queue.advance(broker.now());
        assert_eq!(groups(&queue), 0);
    }
}

/// Groups whose delay is over and which nobody receives from lie where they are, however often house is kept.
#[test]
fn batons_that_nobody_picks_up_take_no_more_memory() {
    let (time, broker, queue) = with(delayed(secs(10)));
    for number in 0..600 {
        send_to_groups(&queue, &[&format!("{number}-1")]);
    }
    for _ in 0..20 {
        assert_eq!(queue.receive(10, secs(30)), Ok(vec![]));
    }
    time.advance(secs(11));
    queue.advance(broker.now());
    let before = queue.memory().used;
    for _ in 0..100 {
        time.advance(secs(1));
        queue.advance(broker.now());
    }
    let used = queue.memory().used;
    assert!(used <= before + (64 << 10), "{used} bytes, {before} before");
    assert_eq!(received(&queue).len(), 600);
}

/// Batches of ten to ten groups that are new, a thousand groups a second.
#[test]
fn memory_returns_after_a_million_short_lived_groups() {
    let (time, broker, queue) = single();
    send_to_groups(&queue, &["first-1"]);
    received(&queue);
    let mut most = 0;
    for number in 0..100_000 {
        send_to_new_groups(&queue, number * 10);
        assert_eq!(received(&queue).len(), 10);
        if number % 10 == 0 {
            time.advance(ms(100));
            most = most.max(groups(&queue));
        }
    }
    // They leave in passing: nobody has kept house.
    assert!(most < 20_000, "{most}");
    assert_all_has_returned(&time, &broker, &queue);
}

/// The same, but all are there before the first message is received.
#[test]
fn memory_returns_after_a_million_groups_at_once() {
    let (time, broker) = manual_with(Broker::builder().partitions(1).memory_limit(2 << 30));
    let queue = fifo(&broker, "q.fifo");
    for number in 0..100_000 {
        send_to_new_groups(&queue, number * 10);
    }
    assert_eq!(groups(&queue), 1_000_000);
    for _ in 0..100_000 {
        let some = queue.receive(10, LONG).expect("a valid receive");
        assert_eq!(some.len(), 10);
        some.iter().for_each(|message| delete(&queue, message));
    }
    assert_all_has_returned(&time, &broker, &queue);
}

/// Ten messages from number `first` on, each in a group of its own.
fn send_to_new_groups(queue: &Queue, first: u64) {
    let names: [String; 10] = std::array::from_fn(|n| (first + n as u64).to_string());
    let messages = names
        .each_ref()
        .map(|name| Outgoing::new(b"m").message_group(name).deduplication_id(name));
    let results = queue.send_messages(&messages).expect("a valid batch");
    assert!(results.iter().all(Result::is_ok));
}

/// Nothing is left of groups and ids once their time is over.
fn assert_all_has_returned(time: &ManualClock, broker: &Broker, queue: &Queue) {
    for _ in 0..8 {
        time.advance(secs(301));
        queue.advance(broker.now());
    }
    let metrics = queue.fifo_metrics().expect("a FIFO queue");
    assert_eq!((metrics.groups, metrics.deduplication_ids), (0, 0));
    assert_eq!(states(queue), (0, 0, 0));
    let memory = queue.memory();
    assert!(memory.used < 256 << 10, "{memory:?} {:?}", broker.memory());
}

// Several partitions.

/// Groups whose messages lie in all partitions, sent by workers at home in each, are received whole and in order from any.
#[test]
fn groups_over_several_partitions_are_received_from_any() {
    const PARTITIONS: usize = 4;
    let (_, broker) = manual(PARTITIONS);
    let queue = fifo(&broker, "q.fifo");
    let workers: Vec<_> = (0..PARTITIONS)
        .map(|home| broker.worker_at(home).expect("a worker"))
        .collect();
    // A group for each partition, and one over all.
    for number in 0..40 {
        for (home, worker) in workers.iter().enumerate() {
            for group in [format!("own{home}"), "all".to_owned()] {
                let body = format!("{group}-{:03}", number * PARTITIONS + home);
                worker.turn(|turn| {
                    let message = Outgoing::new(body.as_bytes()).message_group(&group);
                    turn.send_message(&queue, &message).expect("accepted");
                });
            }
        }
    }
    let mut seen: Vec<String> = Vec::new();
    let mut empty_handed = 0;
    for round in 0.. {
        let worker = &workers[round % PARTITIONS];
        let got = worker.turn(|turn| {
            let some = turn.receive(&queue, 3, LONG).expect("valid");
            for delivery in some.iter() {
                seen.push(str::from_utf8(delivery.body()).expect("a text").to_owned());
                assert_eq!(
                    turn.delete(&queue, &delivery.receipt_handle()),
                    Ok(Deletion::Deleted)
                );
            }
            some.len()
        });
        empty_handed += usize::from(got == 0);
        if got == 0 {
            break;
        }
    }
    assert_eq!(
        (empty_handed, seen.len()),
        (1, 320),
        "empty only when all is gone"
    );
    for group in ["own0", "own1", "own2", "own3", "all"] {
        let of_group: Vec<_> = seen.iter().filter(|text| text.starts_with(group)).collect();
        assert!(of_group.is_sorted(), "{group}");
    }
    assert_eq!(states(&queue), (0, 0, 0));
}

/// A receive finds what there is wherever it is, also when that has just come back there.
#[test]
fn what_comes_back_in_one_partition_is_received_from_another() {
    for partitions in [2, 3, 8] {
        let (time, broker) = manual(partitions);
        let queue = fifo(&broker, "q.fifo");
        let workers: Vec<_> = (0..partitions)
            .map(|home| broker.worker_at(home).expect("a worker"))
            .collect();
        for (home, worker) in workers.iter().enumerate() {
            worker.turn(|turn| {
                let body = format!("g-{home}");
                let message = Outgoing::new(body.as_bytes()).message_group("g");
                turn.send_message(&queue, &message).expect("accepted");
            });
        }
        for round in 1..20 {
            let worker = &workers[round % partitions];
            worker.turn(|turn| {
                let some = turn.receive(&queue, 10, secs(1)).expect("valid");
                let bodies: Vec<_> = some.iter().map(|delivery| delivery.body().to_vec()).collect();
                assert_eq!(bodies.len(), partitions, "{round} {partitions}");
                assert!(bodies.is_sorted());
                assert!(
                    some.iter()
                        .all(|delivery| delivery.receive_count() == round as u32)
                );
            });
            time.advance(secs(1) + ms(1));
        }
    }
}

#[test]
fn a_receive_of_one_finds_it_in_any_partition() {
    let (time, broker) = manual(4);
    let queue = fifo(&broker, "q.fifo");
    let workers: Vec<_> = (0..4)
        .map(|home| broker.worker_at(home).expect("a worker"))
        .collect();
    workers[0].turn(|turn| {
        for body in ["a-1", "b-1"] {
            let (group, _) = body.split_once('-').expect("a group");
            let message = Outgoing::new(body.as_bytes()).message_group(group);
            turn.send_message(&queue, &message).expect("accepted");
        }
    });
    for count in 1..10 {
        let mut bodies = HashSet::new();
        for worker in [&workers[count % 4], &workers[(count + 1) % 4]] {
            worker.turn(|turn| {
                let delivery = turn
                    .receive_one(&queue, secs(1))
                    .expect("valid")
                    .expect("there is one");
                assert_eq!(delivery.receive_count(), count as u32);
                bodies.insert(delivery.body().to_vec());
            });
        }
        assert_eq!(bodies.len(), 2);
        time.advance(secs(1) + ms(1));
    }
}

/// What a receive throws away at most leaves a partition that looks empty, and is not.
#[test]
fn messages_behind_many_that_have_lapsed_come_though_there_are_others_elsewhere() {
    let (time, broker) = manual(2);
    let config = QueueConfig {
        retention: secs(60),
        ..QueueConfig::default()
    };
    let queue = fifo_with(&broker, "q.fifo", config);
    let send = |home: usize, name: &str, messages: usize| {
        let worker = broker.worker_at(home).expect("a worker");
        for number in 0..messages {
            let group = format!("{name}-{number}");
            let message = Outgoing::new(name.as_bytes()).message_group(&group);
            queue
                .send_message(&message.deduplication_id(&group))
                .expect("room");
        }
        drop(worker);
    };
    let consumer = broker.worker_at(0).expect("a worker");
    // Gone elsewhere, for there is nothing at home.
    send(1, "first", 1);
    assert_eq!(texts(&[one(&queue, LONG)]), ["first"]);
    send(0, "lapsed", 400);
    time.advance(secs(50));
    send(0, "here", 50);
    send(1, "there", 300);
    time.advance(secs(15));
    // Some come back with nothing: each throws away so many at most.
    let receive = |_| queue.receive(1, LONG).expect("valid");
    let received: Vec<_> = (0..20).flat_map(receive).collect();
    let received = texts(&received);
    let here = received.iter().filter(|text| **text == "here").count();
    assert!(here >= 10, "{received:?}");
    assert_eq!(consumer.home(), 0);
}
