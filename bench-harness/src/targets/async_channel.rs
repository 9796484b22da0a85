//! `async_channel::unbounded`: hand-over only, no lease.
//!
//! `concurrent_queue` with a look for who waits at every send and receive. Only what does not wait is called here, so no executor is
//! needed. It has no batches.

use ::async_channel::{Receiver, Sender, unbounded};

use super::hand_over::hand_over_calls;
use crate::target::{Counts, Refusal, Target, TargetConfig};

/// An unbounded channel of boxed bodies, one allocation and one copy per message.
#[derive(Debug)]
pub struct AsyncChannel {
    sender: Sender<Box<[u8]>>,
    receiver: Receiver<Box<[u8]>>,
}

/// Both ends, borrowed.
#[derive(Debug)]
pub struct AsyncChannelSession<'t>(&'t AsyncChannel);

impl Target for AsyncChannel {
    const NAME: &'static str = "async-channel";
    const LEASES: bool = false;
    type Session<'t> = AsyncChannelSession<'t>;

    fn build(_: &TargetConfig) -> anyhow::Result<Self> {
        let (sender, receiver) = unbounded();
        Ok(Self { sender, receiver })
    }

    fn session(&self, _: usize) -> anyhow::Result<AsyncChannelSession<'_>> {
        Ok(AsyncChannelSession(self))
    }

    fn counts(&self) -> Counts {
        Counts {
            visible: self.receiver.len() as u64,
            in_flight: 0,
        }
    }
}

impl AsyncChannelSession<'_> {
    #[inline(always)]
    fn push(&self, body: Box<[u8]>) -> Result<(), Refusal> {
        self.0.sender.try_send(body).map_err(|_| Refusal("disconnected"))
    }

    #[inline(always)]
    fn pop(&self) -> Option<Box<[u8]>> {
        self.0.receiver.try_recv().ok()
    }
}

hand_over_calls!(AsyncChannelSession);
