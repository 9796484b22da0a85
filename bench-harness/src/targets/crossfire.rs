//! `crossfire::mpmc::unbounded_blocking`: hand-over only, no lease.
//!
//! A variant of `SegQueue` with a look for who waits, and no batches. Its back-off is set for this machine, as its authors ask for.

use ::crossfire::{BlockingRxTrait, MRx, MTx, detect_backoff_cfg, mpmc};

use super::hand_over::{Body, Channel};
use crate::target::Refusal;

/// Both ends.
#[derive(Debug)]
pub struct Crossfire {
    sender: MTx<mpmc::List<Body>>,
    receiver: MRx<mpmc::List<Body>>,
}

impl Channel for Crossfire {
    const NAME: &'static str = "crossfire";

    fn unbounded() -> Self {
        detect_backoff_cfg();
        let (sender, receiver) = mpmc::unbounded_blocking();
        Self { sender, receiver }
    }

    #[inline(always)]
    fn push(&self, body: Body) -> Result<(), Refusal> {
        self.sender.send(body).map_err(|_| Refusal("disconnected"))
    }

    #[inline(always)]
    fn pop(&self) -> Option<Body> {
        self.receiver.try_recv().ok()
    }

    fn len(&self) -> usize {
        self.receiver.len()
    }
}
