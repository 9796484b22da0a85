//! The queue of tokens that came back behind the head: expired, released or published late.
//!
//! A Michael-Scott queue whose front can be looked at before it is taken. A node names one ready word and the tokens
//! its publisher set there; every token set in a passed word is named by its own publisher's node, so nothing depends
//! on another thread finishing, and there are never more nodes than such tokens. A receiver claims through the front
//! node and takes it off once all its tokens were seen claimed; tokens that went another way (deleted by an old
//! handle) leave a node that is merely stale.

use std::ptr::NonNull;

use crossbeam_utils::CachePadded;

use crate::{
    budget::Budget,
    ledger::{
        reclaim::{Domain, Pin},
        segment::Segment,
    },
    sync::{Arc, AtomicPtr, AtomicU64, Ordering},
};

/// A peekable queue of words to look at again.
#[derive(Debug)]
pub struct Returned {
    /// The dummy in front of the first node.
    pub head: CachePadded<AtomicPtr<Node>>,
    /// The last node or one before it; may lag, is helped.
    pub tail: CachePadded<AtomicPtr<Node>>,
    /// Where those are who look at it.
    domain: Domain,
    budget: Arc<Budget>,
}

/// Some tokens of one ready word.
#[derive(Debug)]
pub struct Node {
    /// The segment, kept by the hold the node stands for.
    pub segment: *const Segment,
    /// Which ready word of the segment.
    pub word: usize,
    /// Tokens not yet seen claimed through this node.
    pub tokens: AtomicU64,
    /// The node behind it.
    pub next: AtomicPtr<Node>,
}

// SAFETY: a node is moved between threads only by the queue's Release/Acquire pairs; the segment it points to is kept
// by the hold the node stands for.
unsafe impl Send for Node {}
// SAFETY: as above; its fields are atomics or never change.
unsafe impl Sync for Node {}

impl Node {
    /// The segment, which the caller may use while pinned.
    #[inline]
    pub fn segment<'p>(&self, _pin: &'p Pin<'_>) -> &'p Segment {
        // SAFETY: the node was reached under the pin while its hold on the segment stood or was being dropped by
        // another thread; either way the segment is not freed before the pin ends.
        unsafe { &*self.segment }
    }
}

/// A node in the hands of an epoch closure.
struct Retired(NonNull<Node>);
// SAFETY: it owns the node, which is unreachable for everybody else by then.
unsafe impl Send for Retired {}

impl Retired {
    fn free(self) {
        // SAFETY: made by `Box::into_raw`, unlinked by one thread, past its grace period.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl Returned {
    /// An empty queue.
    pub fn new(domain: Domain, budget: Arc<Budget>) -> Self {
        let dummy = Box::into_raw(Box::new(Node {
            segment: std::ptr::null(),
            word: 0,
            tokens: AtomicU64::new(0),
            next: AtomicPtr::new(std::ptr::null_mut()),
        }));
        budget.force(size_of::<Node>());
        Self {
            head: CachePadded::new(AtomicPtr::new(dummy)),
            tail: CachePadded::new(AtomicPtr::new(dummy)),
            domain,
            budget,
        }
    }

    /// What its nodes are counted in.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Puts some tokens of a word at the back. The caller has taken a hold on the segment for it.
    pub fn push(&self, segment: &Segment, word: usize, tokens: u64, pin: &Pin<'_>) {
        debug_assert!(pin.is_in(self.domain));
        self.budget.force(size_of::<Node>());
        let node = Box::into_raw(Box::new(Node {
            segment,
            word,
            tokens: AtomicU64::new(tokens),
            next: AtomicPtr::new(std::ptr::null_mut()),
        }));
        // Progress: a turn without success means that another thread linked a node.
        loop {
            // Acquire: see the node as made; pairs with the Release CASes below.
            let tail = self.tail.load(Ordering::Acquire);
            // SAFETY: reached from `tail` under the pin; retired only after `tail` went past it.
            let next = unsafe { &(*tail).next };
            // Release: publishes the node to whoever follows the link. Acquire on failure: to swing the tail to a node we have
            // seen as made.
            match next.compare_exchange(std::ptr::null_mut(), node, Ordering::Release, Ordering::Acquire) {
                Ok(_) => {
                    // Release: hands on what we acquired or made; a failure means somebody helped. Relaxed: no use.
                    let _ = self
                        .tail
                        .compare_exchange(tail, node, Ordering::Release, Ordering::Relaxed);
                    return;
                }
                Err(linked) => {
                    // As above: help the thread that linked but has not swung the tail.
                    let _ = self
                        .tail
                        .compare_exchange(tail, linked, Ordering::Release, Ordering::Relaxed);
                }
            }
        }
    }

    /// Whether there is nothing in it.
    #[inline]
    pub fn is_empty(&self, pin: &Pin<'_>) -> bool {
        self.peek(pin).is_none()
    }

    /// The node at the front.
    #[inline]
    pub fn peek<'p>(&self, pin: &'p Pin<'_>) -> Option<&'p Node> {
        debug_assert!(pin.is_in(self.domain));
        // Acquire, twice: see dummy and front as made; pair with the Release CASes of `push` and `pop`.
        let head = self.head.load(Ordering::Acquire);
        // SAFETY: reached from `head` under the pin; retired only after `head` went past it.
        let front = unsafe { (*head).next.load(Ordering::Acquire) };
        // SAFETY: as above; a node is not retired while it is linked behind `head`.
        NonNull::new(front).map(|front| unsafe { front.as_ref() })
    }

    /// The nodes in it, from the front on; goes on for as long as others push.
    pub fn nodes<'p>(&self, pin: &'p Pin<'_>) -> impl Iterator<Item = &'p Node> {
        std::iter::successors(self.peek(pin), |node| {
            // Acquire: see the node as made; pairs with the Release CAS of `push`.
            let next = node.next.load(Ordering::Acquire);
            // SAFETY: links lead from a node to those pushed after it. The node we stand on was linked behind `head` after
            // we were pinned, so it and all that follow are retired, if ever, under our pin.
            NonNull::new(next).map(|next| unsafe { next.as_ref() })
        })
    }

    /// How many nodes are in it, counted up to `most`. For diagnosis. O(nodes).
    pub fn count(&self, most: usize, pin: &Pin<'_>) -> usize {
        // Bounded by `most`, should others go on pushing.
        self.nodes(pin).take(most).count()
    }

    /// Takes `front` off, if it still is the front. Whoever succeeds drops the hold the node stood for.
    #[must_use = "whoever takes a node off has to drop its hold"]
    pub fn pop(&self, front: &Node, pin: &Pin<'_>) -> bool {
        let front: *mut Node = std::ptr::from_ref(front).cast_mut();
        debug_assert!(pin.is_in(self.domain));
        // Acquire: as in `peek`; it may have moved on to a dummy that we have not seen yet.
        let head = self.head.load(Ordering::Acquire);
        // SAFETY: as in `peek`. Relaxed: only compared; `front` was seen as made by `peek`.
        if unsafe { (*head).next.load(Ordering::Relaxed) } != front {
            return false;
        }
        // The tail must not stay behind on a node about to be retired.
        // Release: hands on the node we acquired. Relaxed: a failure means it is past already.
        let _ = self
            .tail
            .compare_exchange(head, front, Ordering::Release, Ordering::Relaxed);
        // Release: hands on the new dummy's `next`, which we acquired. Relaxed: a failure gives up.
        if self
            .head
            .compare_exchange(head, front, Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        // SAFETY: not null, it was the head.
        let retired = Retired(unsafe { NonNull::new_unchecked(head) });
        let budget = Arc::clone(&self.budget);
        pin.defer(&[self.domain], size_of::<Node>(), move || {
            let retired = retired;
            retired.free();
            budget.give_back(size_of::<Node>());
        });
        true
    }
}

impl Drop for Returned {
    fn drop(&mut self) {
        // Relaxed, both: `&mut self`, nobody else is here.
        let mut node = self.head.load(Ordering::Relaxed);
        while !node.is_null() {
            // SAFETY: linked nodes are the queue's own.
            let owned = unsafe { Box::from_raw(node) };
            node = owned.next.load(Ordering::Relaxed);
            self.budget.give_back(size_of::<Node>());
        }
    }
}
