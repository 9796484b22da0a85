//! What a FIFO queue's slot has besides: the message's place in its group.
//!
//! Written by the sender before it tells the group, and then by the holder of the group's baton alone. Whoever ends the
//! message's lease reads it: the state word that tells of the lease was stored after it.

use crate::{
    clock::Millis,
    ledger::{
        group::Group,
        lease::{Aside, Special},
        look::Seen,
        segment::Segment,
        slot::Slot,
    },
    sync::{AtomicPtr, AtomicU64, Ordering},
};

/// Width of a message's place in its group's window.
const PLACE_BITS: u32 = 4;

/// A FIFO message's links: 32 bytes a slot.
#[derive(Debug)]
#[repr(C)]
pub struct Link {
    /// In the group's inbox the message sent before it; once sorted, the one sent after it.
    next: AtomicPtr<Link>,
    group: AtomicPtr<Group>,
    /// `sequence:60 | place:4`.
    tag: AtomicU64,
    /// The segment it belongs to, and thereby the slot.
    segment: *const Segment,
}

// SAFETY: `segment` never changes and is the segment the link is a part of; all else is atomic.
unsafe impl Send for Link {}
// SAFETY: as above.
unsafe impl Sync for Link {}

impl Link {
    /// The link of a slot of `segment` that has no message yet.
    pub fn new(segment: *const Segment) -> Self {
        Self {
            next: AtomicPtr::new(std::ptr::null_mut()),
            group: AtomicPtr::new(std::ptr::null_mut()),
            tag: AtomicU64::new(0),
            segment,
        }
    }

    // Relaxed, all below: what a sender writes is published by its push (Release) and read by whoever has taken the inbox
    // (Acquire); what the baton's holder writes goes on with the baton, or with the state word (Release) to whoever ends the
    // lease (Acquire).

    pub(super) fn next(&self) -> *mut Self {
        self.next.load(Ordering::Relaxed)
    }

    /// Names the message before it, or after it.
    pub fn set_next(&self, next: *mut Self) {
        self.next.store(next, Ordering::Relaxed);
    }

    /// The message's group.
    ///
    /// # Safety
    /// 1. The link was read under a pin that lasts for `'p`.
    /// 2. Its message was alive under that pin: the caller holds its group's baton, or has seen it in flight. A group is
    ///    retired only after all its messages are dead.
    #[inline]
    pub unsafe fn group<'p>(&self) -> &'p Group {
        // SAFETY: written by the sender before anybody else could see the message, and never null since; alive as promised.
        unsafe { &*self.group.load(Ordering::Relaxed) }
    }

    /// Says which group the message is of; by its sender.
    pub fn set_group(&self, group: &Group) {
        self.group
            .store(std::ptr::from_ref(group).cast_mut(), Ordering::Relaxed);
    }

    /// The message's number in its group's order; never 0 for a message that has been sent.
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.tag.load(Ordering::Relaxed) >> PLACE_BITS
    }

    /// The message's place in its group's window, once it has been received.
    #[inline]
    pub fn place(&self) -> u32 {
        (self.tag.load(Ordering::Relaxed) & ((1 << PLACE_BITS) - 1)) as u32
    }

    /// Gives the message its number; by its sender.
    pub fn set_sequence(&self, sequence: u64) {
        self.tag.store(sequence << PLACE_BITS, Ordering::Relaxed);
    }

    /// Gives the message its place in the window; by the holder of its group's baton.
    pub fn set_place(&self, place: u32) {
        self.tag.store(
            self.sequence() << PLACE_BITS | u64::from(place),
            Ordering::Relaxed,
        );
    }

    /// The segment, and which of its slots the message is in.
    ///
    /// # Safety
    /// As for [`Link::group`], the segment being kept by the message.
    #[inline]
    pub unsafe fn slot<'p>(&self) -> (&'p Segment, u32) {
        // SAFETY: the link is a part of the segment, which is kept as promised.
        let segment: &'p Segment = unsafe { &*self.segment };
        (segment, segment.number_of(self))
    }
}

/// A message in its group, whose slot and segment the holder of the group's baton may use while pinned.
#[derive(Debug, Clone, Copy)]
pub struct Member<'p> {
    /// Its link.
    pub link: &'p Link,
    /// Its segment.
    pub segment: &'p Segment,
    /// Its slot's number.
    pub slot: u32,
}

impl<'p> Member<'p> {
    /// # Safety
    /// As for [`Link::slot`], `link` being one.
    pub(super) unsafe fn of(link: *const Link) -> Self {
        // SAFETY: the caller's promise.
        let link: &'p Link = unsafe { &*link };
        // SAFETY: as above.
        let (segment, slot) = unsafe { link.slot() };
        Self { link, segment, slot }
    }

    /// When it was sent.
    pub fn sent(&self) -> Millis {
        // SAFETY: in the hands of the baton's holder, or leased by it: alive, and written before it was pushed.
        unsafe { self.place().entry() }.sent()
    }

    /// What there is to see of it.
    pub fn look(&self) -> Option<Seen<'p>> {
        Aside {
            segment: self.segment,
            slot: self.slot,
            why: Special::Grouped,
        }
        .look()
    }

    /// Its slot.
    #[inline]
    pub fn place(&self) -> &'p Slot {
        self.segment.slot(self.slot)
    }
}
