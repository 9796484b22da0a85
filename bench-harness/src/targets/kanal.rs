//! `kanal::unbounded`: hand-over only, no lease.
//!
//! A short spin lock around a deque. It has no receive of up to ten: `drain_into` takes all there is, which a batch must not, so a
//! batch is as many calls.

use ::kanal::{Receiver, Sender, unbounded};

use super::hand_over::{Body, Channel};
use crate::target::Refusal;

/// Both ends.
#[derive(Debug)]
pub struct Kanal {
    sender: Sender<Body>,
    receiver: Receiver<Body>,
}

impl Channel for Kanal {
    const NAME: &'static str = "kanal";

    fn unbounded() -> Self {
        let (sender, receiver) = unbounded();
        Self { sender, receiver }
    }

    #[inline(always)]
    fn push(&self, body: Body) -> Result<(), Refusal> {
        self.sender.send(body).map_err(|_| Refusal("disconnected"))
    }

    #[inline(always)]
    fn pop(&self) -> Option<Body> {
        self.receiver.try_recv().ok().flatten()
    }

    fn len(&self) -> usize {
        self.receiver.len()
    }
}
