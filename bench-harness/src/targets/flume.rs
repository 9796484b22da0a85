//! `flume::unbounded`: hand-over only, no lease.
//!
//! A mutex around a deque, and a list of those who wait. It has no receive of up to ten: `drain` takes all there is, which a batch
//! must not, so a batch is as many calls.

use ::flume::{Receiver, Sender, unbounded};

use super::hand_over::{Body, Channel};
use crate::target::Refusal;

/// Both ends.
#[derive(Debug)]
pub struct Flume {
    sender: Sender<Body>,
    receiver: Receiver<Body>,
}

impl Channel for Flume {
    const NAME: &'static str = "flume";

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
        self.receiver.try_recv().ok()
    }

    fn len(&self) -> usize {
        self.receiver.len()
    }
}
