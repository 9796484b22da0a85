//! Memory of requests and answers under way: bounded over all connections together.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

/// How many bytes are held, and how many may be.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            limit,
        }
    }

    /// A share of no bytes.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share {
            budget: Arc::clone(self),
            bytes: 0,
        }
    }
}

/// A part of the budget, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

// Relaxed throughout: a count that nothing else rests on.
impl Share {
    /// Takes more, unless that is more than there is.
    pub(super) fn try_grow(&mut self, bytes: usize) -> bool {
        let used = self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        used.saturating_add(bytes) <= self.budget.limit
    }

    /// Whether there is room for so many beside all that is held.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.budget.used.load(Ordering::Relaxed).saturating_add(bytes) <= self.budget.limit
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// An answer's body, which holds its share until the last of its bytes is sent.
#[derive(Debug)]
pub(super) struct Reply {
    body: Full<Bytes>,
}

/// Bytes with their share: hyper lets go of a body before its bytes are sent, but not of the bytes.
struct Counted {
    bytes: Vec<u8>,
    _share: Share,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes that are counted as long as they live, even if that is more than there should be: then others wait.
pub(super) fn counted(bytes: Vec<u8>, budget: &Arc<Budget>) -> Bytes {
    let mut share = budget.share();
    share.try_grow(bytes.len());
    Bytes::from_owner(Counted { bytes, _share: share })
}

impl Reply {
    /// Of bytes that are few, or counted already.
    pub(super) fn new(bytes: impl Into<Bytes>) -> Self {
        Self {
            body: Full::new(bytes.into()),
        }
    }

    /// One that is counted.
    pub(super) fn counted(bytes: Vec<u8>, budget: &Arc<Budget>) -> Self {
        Self::new(counted(bytes, budget))
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_back() {
        let budget = Arc::new(Budget::new(10));
        let mut one = budget.share();
        assert!(one.try_grow(6) && one.try_grow(4));
        assert!(one.has_room(0) && !one.has_room(1));
        assert!(!budget.share().try_grow(1));
        drop(one);
        assert!(budget.share().try_grow(10));
    }

    #[test]
    fn an_answer_is_counted_as_long_as_its_bytes_live() {
        let budget = Arc::new(Budget::new(10));
        let reply = Reply::counted(vec![0; 11], &budget);
        let bytes = reply.body.clone();
        drop(reply);
        assert!(!budget.share().try_grow(0));
        drop(bytes);
        assert!(budget.share().try_grow(10));
    }
}
