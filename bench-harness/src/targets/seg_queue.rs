//! `crossbeam_queue::SegQueue`: hand-over only, no lease. It has no batches.

use super::hand_over::hand_over_calls;
use crate::target::{Counts, Refusal, Target, TargetConfig};

/// An unbounded lock-free queue of boxed bodies, one allocation and one copy per message.
#[derive(Debug)]
pub struct SegQueue(crossbeam_queue::SegQueue<Box<[u8]>>);

/// The queue, borrowed.
#[derive(Debug)]
pub struct SegQueueSession<'t>(&'t SegQueue);

impl Target for SegQueue {
    const NAME: &'static str = "seg-queue";
    const LEASES: bool = false;
    type Session<'t> = SegQueueSession<'t>;

    fn build(_: &TargetConfig) -> anyhow::Result<Self> {
        Ok(Self(crossbeam_queue::SegQueue::new()))
    }

    fn session(&self, _: usize) -> anyhow::Result<SegQueueSession<'_>> {
        Ok(SegQueueSession(self))
    }

    fn counts(&self) -> Counts {
        Counts {
            visible: self.0.len() as u64,
            in_flight: 0,
        }
    }
}

impl SegQueueSession<'_> {
    #[inline(always)]
    fn push(&self, body: Box<[u8]>) -> Result<(), Refusal> {
        self.0.0.push(body);
        Ok(())
    }

    #[inline(always)]
    fn pop(&self) -> Option<Box<[u8]>> {
        self.0.0.pop()
    }
}

hand_over_calls!(SegQueueSession);
