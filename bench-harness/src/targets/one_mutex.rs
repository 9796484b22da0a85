//! A whole queue behind one mutex: the target that [`Locked`](super::Locked) and [`LockedSlab`](super::LockedSlab) are, each with a queue
//! of its own.

use std::time::Duration;

use super::guarded::{Guarded, StandardQueue};
use crate::target::{Calls, Counts, Done, Handles, Inspect, Refusal, Session, Target, TargetConfig};

/// The queue and its clock.
#[derive(Debug)]
pub struct OneMutex<Q: StandardQueue> {
    queue: Guarded<Q>,
    clock: Q::Clock,
}

/// The same, borrowed.
#[derive(Debug)]
pub struct OneMutexSession<'t, Q: StandardQueue>(&'t OneMutex<Q>);

impl<Q: StandardQueue> Target for OneMutex<Q> {
    const NAME: &'static str = Q::NAME;
    const LEASES: bool = true;
    type Session<'t>
        = OneMutexSession<'t, Q>
    where
        Self: 't;

    fn build(_: &TargetConfig) -> anyhow::Result<Self> {
        Ok(Self {
            queue: Guarded::default(),
            clock: Q::Clock::default(),
        })
    }

    fn session(&self, _: usize) -> anyhow::Result<OneMutexSession<'_, Q>> {
        Ok(OneMutexSession(self))
    }

    fn counts(&self) -> Counts {
        self.queue.lock().counts()
    }
}

impl<Q: StandardQueue> Calls for OneMutexSession<'_, Q> {
    type Handle = Q::Receipt;

    #[inline(always)]
    fn send(&mut self, body: &[u8]) -> Result<(), Refusal> {
        self.0.queue.send(body);
        Ok(())
    }

    fn send_batch(&mut self, bodies: &[Vec<u8>]) -> Done {
        self.0.queue.send_batch(bodies)
    }

    fn receive<I: Inspect>(
        &mut self,
        max: usize,
        visibility: Duration,
        handles: &mut Handles<Q::Receipt>,
        inspector: &mut I,
    ) -> Result<usize, Refusal> {
        let OneMutex { queue, clock } = self.0;
        let mut keep = |receipt| handles.push(receipt);
        Ok(queue.receive(clock, max, visibility, &mut keep, inspector))
    }

    #[inline(always)]
    fn delete(&mut self, receipt: Q::Receipt) -> bool {
        self.0.queue.delete(receipt)
    }

    fn delete_batch(&mut self, handles: &mut Handles<Q::Receipt>) -> Done {
        self.0.queue.delete_batch(handles)
    }
}

impl<Q: StandardQueue> Session for OneMutexSession<'_, Q> {
    type Turn<'s>
        = &'s mut Self
    where
        Self: 's;

    #[inline(always)]
    fn turn(&mut self) -> &mut Self {
        self
    }
}
