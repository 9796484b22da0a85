//! `crossbeam_channel::unbounded`: hand-over only, no lease. It has no batches.

use ::crossbeam_channel::{Receiver, Sender, unbounded};

use super::hand_over::{Body, Channel};
use crate::target::Refusal;

/// Both ends.
#[derive(Debug)]
pub struct CrossbeamChannel {
    sender: Sender<Body>,
    receiver: Receiver<Body>,
}

impl Channel for CrossbeamChannel {
    const NAME: &'static str = "crossbeam-channel";

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
