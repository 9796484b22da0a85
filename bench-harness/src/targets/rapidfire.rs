//! `rapidfire::unbounded`: hand-over only, no lease.
//!
//! Blocks of 63 messages. Only what does not wait is called here, so no executor is needed. Its batches are for channels with a
//! single receiver only, so a batch is as many calls.

use ::rapidfire::{Receiver, Sender, unbounded};

use super::hand_over::{Body, Channel};
use crate::target::Refusal;

/// Both ends.
#[derive(Debug)]
pub struct Rapidfire {
    sender: Sender<Body>,
    receiver: Receiver<Body>,
}

impl Channel for Rapidfire {
    const NAME: &'static str = "rapidfire";

    fn unbounded() -> Self {
        let (sender, receiver) = unbounded();
        Self { sender, receiver }
    }

    #[inline(always)]
    fn push(&self, body: Body) -> Result<(), Refusal> {
        self.sender.try_send(body).map_err(|_| Refusal("disconnected"))
    }

    #[inline(always)]
    fn pop(&self) -> Option<Body> {
        self.receiver.try_recv().ok()
    }

    fn len(&self) -> usize {
        self.receiver.len()
    }
}
