//! `concurrent_queue::ConcurrentQueue`, unbounded: hand-over only, no lease. It has no batches.

use super::hand_over::hand_over_calls;
use crate::target::{Counts, Refusal, Target, TargetConfig};

/// An unbounded lock-free queue of boxed bodies, one allocation and one copy per message.
#[derive(Debug)]
pub struct ConcurrentQueue(concurrent_queue::ConcurrentQueue<Box<[u8]>>);

/// The queue, borrowed.
#[derive(Debug)]
pub struct ConcurrentQueueSession<'t>(&'t ConcurrentQueue);

impl Target for ConcurrentQueue {
    const NAME: &'static str = "concurrent-queue";
    const LEASES: bool = false;
    type Session<'t> = ConcurrentQueueSession<'t>;

    fn build(_: &TargetConfig) -> anyhow::Result<Self> {
        Ok(Self(concurrent_queue::ConcurrentQueue::unbounded()))
    }

    fn session(&self, _: usize) -> anyhow::Result<ConcurrentQueueSession<'_>> {
        Ok(ConcurrentQueueSession(self))
    }

    fn counts(&self) -> Counts {
        Counts {
            visible: self.0.len() as u64,
            in_flight: 0,
        }
    }
}

impl ConcurrentQueueSession<'_> {
    #[inline(always)]
    fn push(&self, body: Box<[u8]>) -> Result<(), Refusal> {
        self.0.0.push(body).map_err(|_| Refusal("closed"))
    }

    #[inline(always)]
    fn pop(&self) -> Option<Box<[u8]>> {
        self.0.0.pop().ok()
    }
}

hand_over_calls!(ConcurrentQueueSession);
