//! Queues without leases: a received body is its own receipt, and deleting is dropping it.

use std::time::Duration;

use crate::target::{
    Calls, Counts, Delivery, Done, Handles, Inspect, Refusal, Session, Target, TargetConfig,
};

/// One allocation and one copy per message.
pub(super) type Body = Box<[u8]>;

/// An unbounded queue that hands over and no more. Neither call waits.
pub trait Channel: Sized + Send + Sync {
    /// The name on the command line and in reports.
    const NAME: &'static str;

    /// An empty queue.
    fn unbounded() -> Self;

    /// Puts a body in.
    fn push(&self, body: Body) -> Result<(), Refusal>;

    /// Takes one out, if there is one.
    fn pop(&self) -> Option<Body>;

    /// How many there are.
    fn len(&self) -> usize;
}

/// Such a queue under test.
#[derive(Debug)]
pub struct HandOver<C>(C);

/// The queue, borrowed.
#[derive(Debug)]
pub struct HandOverSession<'t, C>(&'t C);

impl<C: Channel> Target for HandOver<C> {
    const NAME: &'static str = C::NAME;
    const LEASES: bool = false;
    type Session<'t>
        = HandOverSession<'t, C>
    where
        Self: 't;

    fn build(_: &TargetConfig) -> anyhow::Result<Self> {
        Ok(Self(C::unbounded()))
    }

    fn session(&self, _: usize) -> anyhow::Result<HandOverSession<'_, C>> {
        Ok(HandOverSession(&self.0))
    }

    fn counts(&self) -> Counts {
        Counts {
            visible: self.0.len() as u64,
            in_flight: 0,
        }
    }
}

impl<C: Channel> Calls for HandOverSession<'_, C> {
    type Handle = Body;

    #[inline(always)]
    fn send(&mut self, body: &[u8]) -> Result<(), Refusal> {
        self.0.push(body.into())
    }

    #[inline(always)]
    fn send_batch(&mut self, bodies: &[Vec<u8>]) -> Done {
        let taken = bodies
            .iter()
            .take_while(|body| self.0.push(body.as_slice().into()).is_ok())
            .count();
        Done::all(taken)
    }

    #[inline(always)]
    fn receive<I: Inspect>(
        &mut self,
        max: usize,
        _: Duration,
        handles: &mut Handles<Body>,
        inspector: &mut I,
    ) -> Result<usize, Refusal> {
        let mut received = 0;
        while received < max {
            let Some(body) = self.0.pop() else { break };
            received += 1;
            if inspector.inspect(&HandedOver(&body)) {
                handles.push(body);
            }
        }
        Ok(received)
    }

    #[inline(always)]
    fn delete(&mut self, body: Body) -> bool {
        drop(body);
        true
    }

    #[inline(always)]
    fn delete_batch(&mut self, bodies: &mut Handles<Body>) -> Done {
        let done = Done::all(bodies.len());
        bodies.clear();
        done
    }
}

impl<C: Channel> Session for HandOverSession<'_, C> {
    type Turn<'s>
        = &'s mut Self
    where
        Self: 's;

    #[inline(always)]
    fn turn(&mut self) -> &mut Self {
        self
    }
}

/// A body that has left its queue.
pub(super) struct HandedOver<'b>(pub(super) &'b [u8]);

impl Delivery for HandedOver<'_> {
    #[inline(always)]
    fn body(&self) -> &[u8] {
        self.0
    }

    #[inline(always)]
    fn receives(&self) -> u32 {
        0
    }
}
