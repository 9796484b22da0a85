//! `disruptor`, a ring of preallocated events with many producers: hand-over only, no lease.
//!
//! Bodies are copied into buffers that the ring keeps, so nothing is allocated, and looked at in place; deleting is nothing, since
//! the place was given back when the receive was over. Batches go both ways: a batch is published whole or not at all, and a receive takes up to ten events at once.
//!
//! What it does not do: a disruptor shows *every* event to *every* consumer. Receivers that share the work have one consumer
//! between them here, behind a mutex, which one receiver never waits for and several do. The ring is bounded: a full one refuses.
//! And a receive of at most ten looks through all that has been published behind them before it takes them, bit by bit: it is meant to be
//! emptied at once. With a deep backlog, as in `pipeline`, that is what its time goes to.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ::disruptor::{
    BusySpin, EventPoller, MultiProducer, MultiProducerBarrier, Polling, Producer, SingleConsumerBarrier,
    build_multi_producer,
};

use super::hand_over::HandedOver;
use crate::target::{Calls, Counts, Done, Handles, Inspect, Refusal, Session, Target, TargetConfig};

/// A ring, its one consumer, and the producer that each session's is made from.
pub struct Disruptor {
    producer: Mutex<MultiProducer<Vec<u8>, SingleConsumerBarrier>>,
    poller: Mutex<EventPoller<Vec<u8>, MultiProducerBarrier>>,
}

/// A producer, and the consumer, borrowed.
pub struct DisruptorSession<'t> {
    producer: MultiProducer<Vec<u8>, SingleConsumerBarrier>,
    queue: &'t Disruptor,
}

impl Disruptor {
    /// Events in the ring: a power of two, above what is outstanding between producers and consumers unless more is asked for.
    pub const CAPACITY: usize = 1 << 17;
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
            poller: Mutex::new(poller),
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
        let poller = self.poller.lock().unwrap_or_else(PoisonError::into_inner);
        // It does not tell how many there are, only whether there are any.
        let visible = u64::from(poller.has_available());
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
        let mut poller = self.queue.poller.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events = match poller.take(max as u64) {
            Ok(events) => events,
            Err(Polling::NoEvents) => return Ok(0),
            Err(Polling::Shutdown) => return Err(Refusal("disconnected")),
        };
        let mut received = 0;
        for body in &mut events {
            received += 1;
            if inspector.inspect(&HandedOver(body)) {
                handles.push(());
            }
        }
        Ok(received)
    }

    #[inline(always)]
    fn delete(&mut self, (): ()) -> bool {
        true
    }

    #[inline(always)]
    fn delete_batch(&mut self, handles: &mut Handles<()>) -> Done {
        let done = Done::all(handles.len());
        handles.clear();
        done
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
