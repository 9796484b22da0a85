//! `disruptor`, a ring of preallocated events: hand-over only, no lease. With one sender it is the ring that is made for that, with
//! several the general one.
//!
//! Bodies are copied into buffers that the ring keeps, so nothing is allocated, and looked at in place; deleting is nothing, since
//! the place was given back when the receive was over. Batches go both ways: a batch is published whole or not at all, and a receive takes up to ten events at once.
//!
//! What it does not do: a disruptor shows *every* event to *every* consumer. Receivers that share the work have one consumer
//! between them here, behind a mutex, which one receiver never waits for and several do. The ring is bounded: a full one refuses.
//!
//! A disruptor is meant to be emptied at once: each look at it goes through all that has been published, bit by bit. So a look takes
//! many events, receives are served from them, ten at a time, and their places are given back together when the last one was.

use std::{
    fmt,
    ptr::NonNull,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ::disruptor::{
    BusySpin, EventGuard, EventPoller, MultiProducer, MultiProducerBarrier, Polling, Producer,
    SingleConsumerBarrier, SingleProducer, SingleProducerBarrier, build_multi_producer,
    build_single_producer,
};

use super::hand_over::HandedOver;
use crate::target::{
    Calls, Counts, Done, Handles, Inspect, Refusal, Session, Target, TargetConfig, drop_all,
};

/// A ring of either kind.
pub struct Disruptor(Kind);

enum Kind {
    /// Whoever sends first takes its producer, until its session is over.
    One(Ring<Option<One>, SingleProducerBarrier>),
    /// Each session's producer is made from this one.
    Many(Ring<Many, MultiProducerBarrier>),
}

type One = SingleProducer<Vec<u8>, SingleConsumerBarrier>;
type Many = MultiProducer<Vec<u8>, SingleConsumerBarrier>;

/// A ring's producer and its one consumer. `B` is how it is told which places have been filled.
struct Ring<P, B: 'static> {
    producer: Mutex<P>,
    consumer: Mutex<Consumer<B>>,
}

impl<P, B> Ring<P, B>
where
    EventPoller<Vec<u8>, B>: Poll<B>,
{
    fn new(producer: P, poller: EventPoller<Vec<u8>, B>) -> Self {
        Self {
            producer: Mutex::new(producer),
            consumer: Mutex::new(Consumer::new(poller)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What pollers of both kinds can do: the bound under which they do it is not public.
trait Poll<B> {
    fn look(&mut self, max: u64) -> Result<EventGuard<'_, Vec<u8>, B>, Polling>;
    fn has_any(&self) -> bool;
}

impl Poll<SingleProducerBarrier> for EventPoller<Vec<u8>, SingleProducerBarrier> {
    #[inline(always)]
    fn look(&mut self, max: u64) -> Result<EventGuard<'_, Vec<u8>, SingleProducerBarrier>, Polling> {
        self.take(max)
    }

    fn has_any(&self) -> bool {
        self.has_available()
    }
}

impl Poll<MultiProducerBarrier> for EventPoller<Vec<u8>, MultiProducerBarrier> {
    #[inline(always)]
    fn look(&mut self, max: u64) -> Result<EventGuard<'_, Vec<u8>, MultiProducerBarrier>, Polling> {
        self.take(max)
    }

    fn has_any(&self) -> bool {
        self.has_available()
    }
}

/// The one consumer, with what it has taken.
struct Consumer<B: 'static> {
    /// Borrows `poller`: there is no other use of it while this is some, and this ends first.
    taken: Option<EventGuard<'static, Vec<u8>, B>>,
    /// From a box, whose owner this is.
    poller: NonNull<EventPoller<Vec<u8>, B>>,
}

// SAFETY: it owns the poller, which may be sent, and the guard, which is a reference to that.
unsafe impl<B> Send for Consumer<B> where EventPoller<Vec<u8>, B>: Send {}

impl<B> Consumer<B>
where
    EventPoller<Vec<u8>, B>: Poll<B>,
{
    fn new(poller: EventPoller<Vec<u8>, B>) -> Self {
        Self {
            taken: None,
            poller: NonNull::from(Box::leak(Box::new(poller))),
        }
    }

    /// Shows up to `max` events; how many there were.
    #[inline(always)]
    fn show(&mut self, max: usize, mut each: impl FnMut(&[u8])) -> Result<usize, Refusal> {
        let mut shown = 0;
        while shown < max {
            let taken = match &mut self.taken {
                Some(taken) => taken,
                None => {
                    // SAFETY: the box lives as long as this, and nobody else has a reference to what is in it: there is no guard.
                    let poller: &'static mut EventPoller<_, _> = unsafe { self.poller.as_mut() };
                    match poller.look(Disruptor::TAKEN as u64) {
                        Ok(taken) => self.taken.insert(taken),
                        Err(Polling::NoEvents) => break,
                        Err(Polling::Shutdown) => return Err(Refusal("disconnected")),
                    }
                }
            };
            let mut events = taken;
            for body in (&mut events).take(max - shown) {
                shown += 1;
                each(body);
            }
            if events.len() == 0 {
                // Gives the places back.
                self.taken = None;
            }
        }
        Ok(shown)
    }

    fn has_any(&mut self) -> bool {
        // One of which nothing is left is not kept.
        // SAFETY: the box lives as long as this, and there is no guard when it is looked into.
        self.taken.is_some() || unsafe { self.poller.as_ref() }.has_any()
    }
}

impl<B> Drop for Consumer<B> {
    fn drop(&mut self) {
        self.taken = None;
        // SAFETY: it is from a box, and the guard, the only reference into it, is gone.
        drop(unsafe { Box::from_raw(self.poller.as_ptr()) });
    }
}

/// A producer, and the ring, borrowed.
pub struct DisruptorSession<'t> {
    producer: Own,
    queue: &'t Disruptor,
}

/// A session's producer.
enum Own {
    /// The only one, if this session has it.
    One(Option<One>),
    Many(Many),
}

/// Puts one body in.
#[inline(always)]
fn publish(producer: &mut impl Producer<Vec<u8>>, body: &[u8]) -> Result<(), Refusal> {
    let write = |event: &mut Vec<u8>| {
        event.clear();
        event.extend_from_slice(body);
    };
    match producer.try_publish(write) {
        Ok(_) => Ok(()),
        Err(_) => Err(Refusal("the ring is full")),
    }
}

/// Puts all of them in, or none.
#[inline(always)]
fn publish_batch(producer: &mut impl Producer<Vec<u8>>, bodies: &[Vec<u8>]) -> Done {
    let published = producer.try_batch_publish(bodies.len(), |events| {
        for (event, body) in events.zip(bodies) {
            event.clear();
            event.extend_from_slice(body);
        }
    });
    if published.is_ok() {
        Done::all(bodies.len())
    } else {
        Done(0)
    }
}

/// The only producer, in the hands of who sends.
#[inline(always)]
fn only<'p>(own: &'p mut Option<One>, queue: &Disruptor) -> Option<&'p mut One> {
    if own.is_none()
        && let Kind::One(ring) = &queue.0
    {
        *own = lock(&ring.producer).take();
    }
    own.as_mut()
}

impl Drop for DisruptorSession<'_> {
    fn drop(&mut self) {
        if let (Kind::One(ring), Own::One(own)) = (&self.queue.0, &mut self.producer)
            && own.is_some()
        {
            *lock(&ring.producer) = own.take();
        }
    }
}

impl Disruptor {
    /// Events in the ring: a power of two, above what is outstanding between producers and consumers unless more is asked for.
    pub const CAPACITY: usize = 1 << 17;
    /// Events that one look takes at most: enough to make little of its cost, and few beside the ring.
    const TAKEN: usize = 1 << 14;
    /// Events that may be queued: places that were taken come back together.
    pub const QUEUED_MAX: usize = Self::CAPACITY - Self::TAKEN;
    /// What a buffer has room for before it has to grow.
    const BODY_BYTES: usize = 64;
}

impl fmt::Debug for Disruptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disruptor").finish_non_exhaustive()
    }
}

impl fmt::Debug for DisruptorSession<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DisruptorSession").finish_non_exhaustive()
    }
}

impl Target for Disruptor {
    const NAME: &'static str = "disruptor";
    const LEASES: bool = false;
    type Session<'t> = DisruptorSession<'t>;

    fn build(config: &TargetConfig) -> anyhow::Result<Self> {
        let buffer = || Vec::with_capacity(Self::BODY_BYTES);
        Ok(Self(if config.senders == 1 {
            let builder = build_single_producer(Self::CAPACITY, buffer, BusySpin);
            let (poller, builder) = builder.new_event_poller();
            Kind::One(Ring::new(Some(builder.build()), poller))
        } else {
            let builder = build_multi_producer(Self::CAPACITY, buffer, BusySpin);
            let (poller, builder) = builder.new_event_poller();
            Kind::Many(Ring::new(builder.build(), poller))
        }))
    }

    fn session(&self, _: usize) -> anyhow::Result<DisruptorSession<'_>> {
        let producer = match &self.0 {
            Kind::One(_) => Own::One(None),
            Kind::Many(ring) => Own::Many(lock(&ring.producer).clone()),
        };
        Ok(DisruptorSession {
            producer,
            queue: self,
        })
    }

    fn counts(&self) -> Counts {
        let has_any = match &self.0 {
            Kind::One(ring) => lock(&ring.consumer).has_any(),
            Kind::Many(ring) => lock(&ring.consumer).has_any(),
        };
        // It does not tell how many there are, only whether there are any.
        Counts {
            visible: u64::from(has_any),
            in_flight: 0,
        }
    }
}

impl Calls for DisruptorSession<'_> {
    type Handle = ();

    #[inline(always)]
    fn send(&mut self, body: &[u8]) -> Result<(), Refusal> {
        match &mut self.producer {
            Own::Many(producer) => publish(producer, body),
            Own::One(own) => match only(own, self.queue) {
                Some(producer) => publish(producer, body),
                None => Err(Refusal("another session has the only producer")),
            },
        }
    }

    #[inline(always)]
    fn send_batch(&mut self, bodies: &[Vec<u8>]) -> Done {
        match &mut self.producer {
            Own::Many(producer) => publish_batch(producer, bodies),
            Own::One(own) => {
                only(own, self.queue).map_or(Done(0), |producer| publish_batch(producer, bodies))
            }
        }
    }

    #[inline(always)]
    fn receive<I: Inspect>(
        &mut self,
        max: usize,
        _: Duration,
        handles: &mut Handles<()>,
        inspector: &mut I,
    ) -> Result<usize, Refusal> {
        let each = |body: &[u8]| {
            if inspector.inspect(&HandedOver(body)) {
                handles.push(());
            }
        };
        match &self.queue.0 {
            Kind::One(ring) => lock(&ring.consumer).show(max, each),
            Kind::Many(ring) => lock(&ring.consumer).show(max, each),
        }
    }

    #[inline(always)]
    fn delete(&mut self, (): ()) -> bool {
        true
    }

    #[inline(always)]
    fn delete_batch(&mut self, handles: &mut Handles<()>) -> Done {
        drop_all(handles)
    }
}

impl Session for DisruptorSession<'_> {
    type Turn<'s>
        = &'s mut Self
    where
        Self: 's;

    #[inline(always)]
    fn turn(&mut self) -> &mut Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{BATCH_MAX, Bodies};

    /// Round the ring several times, with many left, so that looks end everywhere.
    #[test]
    fn all_come_in_order_and_places_are_given_back() {
        for senders in [1, 2] {
            come_in_order(senders);
        }
    }

    fn built(senders: usize) -> Disruptor {
        let queue = Disruptor::build(&TargetConfig {
            senders,
            ..TargetConfig::for_test()
        });
        let queue = queue.unwrap();
        assert_eq!(matches!(queue.0, Kind::One(_)), senders == 1);
        queue
    }

    fn come_in_order(senders: usize) {
        let queue = built(senders);
        let mut session = queue.session(0).unwrap();
        let (mut sent, mut received) = (0_u64, 0_u64);
        while received < 3 * Disruptor::CAPACITY as u64 {
            while sent - received < Disruptor::QUEUED_MAX as u64 {
                assert_eq!(session.send(&sent.to_le_bytes()), Ok(()), "{sent}");
                sent += 1;
            }
            for call in 0..3000 {
                let (mut bodies, mut handles) = (Bodies::default(), Handles::new());
                let max = 1 + call % BATCH_MAX;
                let count = session.receive(max, Duration::ZERO, &mut handles, &mut bodies);
                assert_eq!((count, handles.len()), (Ok(max), max));
                for body in bodies.0 {
                    assert_eq!(body, received.to_le_bytes());
                    received += 1;
                }
            }
        }
        let (mut bodies, mut handles) = (Bodies::default(), Handles::new());
        while session.receive(BATCH_MAX, Duration::ZERO, &mut handles, &mut bodies) != Ok(0) {
            handles.clear();
        }
        assert_eq!(
            (received + bodies.0.len() as u64, queue.counts()),
            (sent, Counts::default())
        );
    }

    /// A poller whose events are not all read is dropped after them.
    #[test]
    fn what_is_left_goes_with_the_ring() {
        for senders in [1, 2] {
            let queue = built(senders);
            leave_some(&queue);
        }
    }

    /// The only producer goes from one session to the next.
    #[test]
    fn the_only_producer_comes_back() {
        let queue = built(1);
        for _ in 0..3 {
            let (mut first, mut second) = (queue.session(0).unwrap(), queue.session(0).unwrap());
            assert_eq!(first.send(b"one"), Ok(()));
            assert!(second.send(b"two").is_err());
            drop(first);
            assert_eq!(second.send(b"two"), Ok(()));
        }
    }

    fn leave_some(queue: &Disruptor) {
        let mut session = queue.session(0).unwrap();
        assert_eq!(session.send_batch(&vec![vec![7; 100]; 3]), Done::all(3));
        let (mut bodies, mut handles) = (Bodies::default(), Handles::new());
        assert_eq!(
            session.receive(1, Duration::ZERO, &mut handles, &mut bodies),
            Ok(1)
        );
        assert_eq!(queue.counts().visible, 1);
    }
}
