//! `crossbeam_queue::SegQueue`: hand-over only, no lease. It has no batches.

use super::hand_over::{Body, Channel};
use crate::target::Refusal;

/// An unbounded lock-free queue.
#[derive(Debug)]
pub struct SegQueue(crossbeam_queue::SegQueue<Body>);

impl Channel for SegQueue {
    const NAME: &'static str = "seg-queue";

    fn unbounded() -> Self {
        Self(crossbeam_queue::SegQueue::new())
    }

    #[inline(always)]
    fn push(&self, body: Body) -> Result<(), Refusal> {
        self.0.push(body);
        Ok(())
    }

    #[inline(always)]
    fn pop(&self) -> Option<Body> {
        self.0.pop()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}
