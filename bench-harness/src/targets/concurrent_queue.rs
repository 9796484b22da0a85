//! `concurrent_queue::ConcurrentQueue`, unbounded: hand-over only, no lease. It has no batches.

use super::hand_over::{Body, Channel};
use crate::target::Refusal;

/// An unbounded lock-free queue.
#[derive(Debug)]
pub struct ConcurrentQueue(concurrent_queue::ConcurrentQueue<Body>);

impl Channel for ConcurrentQueue {
    const NAME: &'static str = "concurrent-queue";

    fn unbounded() -> Self {
        Self(concurrent_queue::ConcurrentQueue::unbounded())
    }

    #[inline(always)]
    fn push(&self, body: Body) -> Result<(), Refusal> {
        self.0.push(body).map_err(|_| Refusal("closed"))
    }

    #[inline(always)]
    fn pop(&self) -> Option<Body> {
        self.0.pop().ok()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}
