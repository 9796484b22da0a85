//! `crossbeam_channel::unbounded`: hand-over only, no lease. It has no batches.

use ::crossbeam_channel::{Receiver, Sender, unbounded};

use super::hand_over::hand_over_calls;
use crate::target::{Counts, Refusal, Target, TargetConfig};

/// An unbounded channel of boxed bodies, one allocation and one copy per message.
#[derive(Debug)]
pub struct CrossbeamChannel {
    sender: Sender<Box<[u8]>>,
    receiver: Receiver<Box<[u8]>>,
}

/// Both ends, borrowed.
#[derive(Debug)]
pub struct CrossbeamChannelSession<'t>(&'t CrossbeamChannel);

impl Target for CrossbeamChannel {
    const NAME: &'static str = "crossbeam-channel";
    const LEASES: bool = false;
    type Session<'t> = CrossbeamChannelSession<'t>;

    fn build(_: &TargetConfig) -> anyhow::Result<Self> {
        let (sender, receiver) = unbounded();
        Ok(Self { sender, receiver })
    }

    fn session(&self, _: usize) -> anyhow::Result<CrossbeamChannelSession<'_>> {
        Ok(CrossbeamChannelSession(self))
    }

    fn counts(&self) -> Counts {
        Counts {
            visible: self.receiver.len() as u64,
            in_flight: 0,
        }
    }
}

impl CrossbeamChannelSession<'_> {
    #[inline(always)]
    fn push(&self, body: Box<[u8]>) -> Result<(), Refusal> {
        self.0.sender.send(body).map_err(|_| Refusal("disconnected"))
    }

    #[inline(always)]
    fn pop(&self) -> Option<Box<[u8]>> {
        self.0.receiver.try_recv().ok()
    }
}

hand_over_calls!(CrossbeamChannelSession);
