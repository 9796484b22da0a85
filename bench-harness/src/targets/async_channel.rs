//! `async_channel::unbounded`: hand-over only, no lease.
//!
//! `concurrent_queue` with a look for who waits at every send and receive. Only what does not wait is called here, so no executor is
//! needed. It has no batches.

use ::async_channel::{Receiver, Sender, unbounded};

use super::hand_over::{Body, Channel};
use crate::target::Refusal;

/// Both ends.
#[derive(Debug)]
pub struct AsyncChannel {
    sender: Sender<Body>,
    receiver: Receiver<Body>,
}

impl Channel for AsyncChannel {
    const NAME: &'static str = "async-channel";

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
