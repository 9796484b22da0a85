//! Queues without leases: a received body is its own receipt, and deleting is dropping it.

use std::time::Duration;

use crate::target::{
    Calls, Counts, Delivery, Done, Handles, Inspect, Refusal, Session, Target, TargetConfig, drop_all,
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

/// One thread's ends of a queue that hands over.
pub trait Ends {
    /// Puts a body in.
    fn push(&mut self, body: Body) -> Result<(), Refusal>;

    /// Fetches up to `max` that are then taken out, for queues that give several at once.
    #[inline(always)]
    fn fetch(&mut self, max: usize) {
        let _ = max;
    }

    /// Takes one out, if there is one.
    fn pop(&mut self) -> Option<Body>;
}

/// For a queue whose ends every thread may use.
impl<C: Channel> Ends for &C {
    #[inline(always)]
    fn push(&mut self, body: Body) -> Result<(), Refusal> {
        C::push(self, body)
    }

    #[inline(always)]
    fn pop(&mut self) -> Option<Body> {
        C::pop(self)
    }
}

/// A channel under test.
#[derive(Debug)]
pub struct HandOver<C>(C);

/// The ends that a thread has.
#[derive(Debug)]
pub struct HandOverSession<E>(pub(super) E);

impl<C: Channel> Target for HandOver<C> {
    const NAME: &'static str = C::NAME;
    const LEASES: bool = false;
    type Session<'t>
        = HandOverSession<&'t C>
    where
        Self: 't;

    fn build(_: &TargetConfig) -> anyhow::Result<Self> {
        Ok(Self(C::unbounded()))
    }

    fn session(&self, _: usize) -> anyhow::Result<HandOverSession<&C>> {
        Ok(HandOverSession(&self.0))
    }

    fn counts(&self) -> Counts {
        Counts {
            visible: self.0.len() as u64,
            in_flight: 0,
        }
    }
}

impl<E: Ends> Calls for HandOverSession<E> {
    type Handle = Body;

    #[inline(always)]
    fn send(&mut self, body: &[u8]) -> Result<(), Refusal> {
        self.0.push(body.into())
    }

    #[inline(always)]
    fn receive<I: Inspect>(
        &mut self,
        max: usize,
        _: Duration,
        handles: &mut Handles<Body>,
        inspector: &mut I,
    ) -> Result<usize, Refusal> {
        self.0.fetch(max);
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
        drop_all(bodies)
    }
}

impl<E: Ends> Session for HandOverSession<E> {
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
