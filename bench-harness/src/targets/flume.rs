//! `flume::unbounded`: hand-over only, no lease.
//!
//! A mutex around a deque, and a list of those who wait. It has no receive of up to ten: `drain` takes all there is, which a batch
//! must not, so a batch is as many calls.

use ::flume::{Receiver, Sender, unbounded};

use super::hand_over::hand_over_calls;
use crate::target::{Counts, Refusal, Target, TargetConfig};

/// An unbounded channel of boxed bodies, one allocation and one copy per message.
#[derive(Debug)]
pub struct Flume {
    sender: Sender<Box<[u8]>>,
    receiver: Receiver<Box<[u8]>>,
}

/// Both ends, borrowed.
#[derive(Debug)]
pub struct FlumeSession<'t>(&'t Flume);

impl Target for Flume {
    const NAME: &'static str = "flume";
    const LEASES: bool = false;
    type Session<'t> = FlumeSession<'t>;

    fn build(_: &TargetConfig) -> anyhow::Result<Self> {
        let (sender, receiver) = unbounded();
        Ok(Self { sender, receiver })
    }

    fn session(&self, _: usize) -> anyhow::Result<FlumeSession<'_>> {
        Ok(FlumeSession(self))
    }

    fn counts(&self) -> Counts {
        Counts {
            visible: self.receiver.len() as u64,
            in_flight: 0,
        }
    }
}

impl FlumeSession<'_> {
    #[inline(always)]
    fn push(&self, body: Box<[u8]>) -> Result<(), Refusal> {
        self.0.sender.send(body).map_err(|_| Refusal("disconnected"))
    }

    #[inline(always)]
    fn pop(&self) -> Option<Box<[u8]>> {
        self.0.receiver.try_recv().ok()
    }
}

hand_over_calls!(FlumeSession);
