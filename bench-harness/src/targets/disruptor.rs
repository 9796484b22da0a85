//! `disruptor`, a ring of preallocated events with many producers: hand-over only, no lease.
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
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ::disruptor::{
    BusySpin, EventGuard, EventPoller, MultiProducer, MultiProducerBarrier, Polling, Producer,
    SingleConsumerBarrier, build_multi_producer,
};

use super::hand_over::HandedOver;
use crate::target::{
    Calls, Counts, Done, Handles, Inspect, Refusal, Session, Target, TargetConfig, drop_all,
};

/// A ring, its one consumer, and the producer that each session's is made from.
pub struct Disruptor {
    producer: Mutex<MultiProducer<Vec<u8>, SingleConsumerBarrier>>,
    consumer: Mutex<Consumer>,
}

type Poller = EventPoller<Vec<u8>, MultiProducerBarrier>;

/// The one consumer, with what it has taken.
struct Consumer {
    /// Borrows `poller`: there is no other use of it while this is some, and this ends first.
    taken: Option<EventGuard<'static, Vec<u8>, MultiProducerBarrier>>,
    /// From a box, whose owner this is.
    poller: NonNull<Poller>,
}

// SAFETY: it owns the poller, which may be sent, and the guard, which is a reference to that.
unsafe impl Send for Consumer where Poller: Send {}

impl Consumer {
    fn new(poller: Poller) -> Self {
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
                    let poller: &'static mut Poller = unsafe { self.poller.as_mut() };
                    match poller.take(Disruptor::TAKEN as u64) {
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
        self.taken.is_some() || unsafe { self.poller.as_ref() }.has_available()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.taken = None;
        // SAFETY: it is from a box, and the guard, the only reference into it, is gone.
        drop(unsafe { Box::from_raw(self.poller.as_ptr()) });
    }
}

/// A producer, and the consumer, borrowed.
pub struct DisruptorSession<'t> {
    producer: MultiProducer<Vec<u8>, SingleConsumerBarrier>,
    queue: &'t Disruptor,
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

    fn build(_: &TargetConfig) -> anyhow::Result<Self> {
        let buffer = || Vec::with_capacity(Self::BODY_BYTES);
        let builder = build_multi_producer(Self::CAPACITY, buffer, BusySpin);
        let (poller, builder) = builder.new_event_poller();
        Ok(Self {
            producer: Mutex::new(builder.build()),
            consumer: Mutex::new(Consumer::new(poller)),
        })
    }

    fn session(&self, _: usize) -> anyhow::Result<DisruptorSession<'_>> {
        let producer = self
            .producer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Ok(DisruptorSession {
            producer,
            queue: self,
        })
    }

    fn counts(&self) -> Counts {
        let mut consumer = self.consumer.lock().unwrap_or_else(PoisonError::into_inner);
        // It does not tell how many there are, only whether there are any.
        let visible = u64::from(consumer.has_any());
        Counts {
            visible,
            in_flight: 0,
        }
    }
}

impl Calls for DisruptorSession<'_> {
    type Handle = ();

    #[inline(always)]
    fn send(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let write = |event: &mut Vec<u8>| {
            event.clear();
            event.extend_from_slice(body);
        };
        match self.producer.try_publish(write) {
            Ok(_) => Ok(()),
            Err(_) => Err(Refusal("the ring is full")),
        }
    }

    #[inline(always)]
    fn send_batch(&mut self, bodies: &[Vec<u8>]) -> Done {
        let published = self.producer.try_batch_publish(bodies.len(), |events| {
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

    #[inline(always)]
    fn receive<I: Inspect>(
        &mut self,
        max: usize,
        _: Duration,
        handles: &mut Handles<()>,
        inspector: &mut I,
    ) -> Result<usize, Refusal> {
        let mut consumer = self.queue.consumer.lock().unwrap_or_else(PoisonError::into_inner);
        consumer.show(max, |body| {
            if inspector.inspect(&HandedOver(body)) {
                handles.push(());
            }
        })
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
        let queue = Disruptor::build(&TargetConfig::for_test()).unwrap();
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
        let queue = Disruptor::build(&TargetConfig::for_test()).unwrap();
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
