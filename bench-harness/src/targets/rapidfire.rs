//! `rapidfire::unbounded`: hand-over only, no lease.
//!
//! Blocks of 63 messages. Only what does not wait is called here, so no executor is needed. Its batches are for channels with a
//! single receiver only, so a batch is as many calls.

use ::rapidfire::{Receiver, Sender, unbounded};

use super::hand_over::hand_over_calls;
use crate::target::{Counts, Refusal, Target, TargetConfig};

/// An unbounded channel of boxed bodies, one allocation and one copy per message.
#[derive(Debug)]
pub struct Rapidfire {
    sender: Sender<Box<[u8]>>,
    receiver: Receiver<Box<[u8]>>,
}

/// Both ends, borrowed.
#[derive(Debug)]
pub struct RapidfireSession<'t>(&'t Rapidfire);

impl Target for Rapidfire {
    const NAME: &'static str = "rapidfire";
    const LEASES: bool = false;
    type Session<'t> = RapidfireSession<'t>;

    fn build(_: &TargetConfig) -> anyhow::Result<Self> {
        let (sender, receiver) = unbounded();
        Ok(Self { sender, receiver })
    }

    fn session(&self, _: usize) -> anyhow::Result<RapidfireSession<'_>> {
        Ok(RapidfireSession(self))
    }

    fn counts(&self) -> Counts {
        Counts {
            visible: self.receiver.len() as u64,
            in_flight: 0,
        }
    }
}

impl RapidfireSession<'_> {
    #[inline(always)]
    fn push(&self, body: Box<[u8]>) -> Result<(), Refusal> {
        self.0.sender.try_send(body).map_err(|_| Refusal("disconnected"))
    }

    #[inline(always)]
    fn pop(&self) -> Option<Box<[u8]>> {
        self.0.receiver.try_recv().ok()
    }
}

hand_over_calls!(RapidfireSession);
