//! `crossfire::mpmc::unbounded_blocking`: hand-over only, no lease.
//!
//! A variant of `SegQueue` with a look for who waits, and no batches. Its back-off is set for this machine, as its authors ask for.

use ::crossfire::{BlockingRxTrait, MRx, MTx, detect_backoff_cfg, mpmc};

use super::hand_over::hand_over_calls;
use crate::target::{Counts, Refusal, Target, TargetConfig};

/// An unbounded channel of boxed bodies, one allocation and one copy per message.
#[derive(Debug)]
pub struct Crossfire {
    sender: MTx<mpmc::List<Box<[u8]>>>,
    receiver: MRx<mpmc::List<Box<[u8]>>>,
}

/// Both ends, borrowed.
#[derive(Debug)]
pub struct CrossfireSession<'t>(&'t Crossfire);

impl Target for Crossfire {
    const NAME: &'static str = "crossfire";
    const LEASES: bool = false;
    type Session<'t> = CrossfireSession<'t>;

    fn build(_: &TargetConfig) -> anyhow::Result<Self> {
        detect_backoff_cfg();
        let (sender, receiver) = mpmc::unbounded_blocking();
        Ok(Self { sender, receiver })
    }

    fn session(&self, _: usize) -> anyhow::Result<CrossfireSession<'_>> {
        Ok(CrossfireSession(self))
    }

    fn counts(&self) -> Counts {
        Counts {
            visible: self.receiver.len() as u64,
            in_flight: 0,
        }
    }
}

impl CrossfireSession<'_> {
    #[inline(always)]
    fn push(&self, body: Box<[u8]>) -> Result<(), Refusal> {
        self.0.sender.send(body).map_err(|_| Refusal("disconnected"))
    }

    #[inline(always)]
    fn pop(&self) -> Option<Box<[u8]>> {
        self.0.receiver.try_recv().ok()
    }
}

hand_over_calls!(CrossfireSession);
