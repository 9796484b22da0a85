//! A message group of a FIFO queue: its messages in order, and the baton that stands for the right to deliver them.
//!
//! ```text
//!   senders ──▶ inbox: newest ▶ … ▶ oldest        a stack; each push is one compare-and-swap
//!                        │ taken and turned round
//!                        ▼
//!               sorted: first ▶ … ▶ last          \
//!                        │ leased                   }  the baton's holder alone
//!                        ▼                         /
//!               window: up to ten that have been received
//! ```
//!
//! What all threads change is one word (`word.rs`): which of the window are in flight and which wait, whether there is more,
//! and whether the baton is out. It is changed by read-modify-write only, so each change that makes the group deliverable is
//! seen by exactly one thread, which then has the baton. A blocked group's baton is nowhere: no receiver ever meets it.
//!
//! *Two that must not miss each other.* A sender pushes, and then notes the arrival in the word. A holder reads the word, then
//! looks into the inbox, and hands the baton back by a compare-and-swap from what it read. Either the arrival is in what it
//! read, and then so is the message in the inbox it looks into; or the word has changed, and it looks again.
//!
//! *Closing.* Who has the baton of an empty group closes its inbox, by a compare-and-swap on the word that senders push by:
//! either a message is in it, and the group stays; or every later sender finds it closed, and makes another group of that
//! name. The baton of a closed group stays out for ever.

pub mod baton;
pub mod laid;
pub mod lease;
pub mod link;
#[cfg(not(loom))]
pub mod names;
pub mod word;

use std::ptr::NonNull;

use compact_str::CompactString;

use self::{
    baton::{After, Baton},
    lease::Ended,
    link::Link,
    word::{Done, Duty, GroupWord, Places, WINDOW},
};
use crate::{
    ledger::{
        partition::Reserved,
        reclaim::Pin,
        segment::Segment,
        state::{Transition, Word},
    },
    sync::{AtomicPtr, AtomicU64, Ordering, UnsafeCell},
};

/// In the inbox: all that was sent has been taken, up to the message of the number that stands above the mark.
pub const TAKEN: usize = 1;
/// In the inbox: nothing is accepted any more.
pub const CLOSED: usize = 2;
/// In the inbox: nothing has been sent yet. Which number comes first is found out by whoever sends first.
pub const FRESH: usize = TAKEN | CLOSED;
// A name in place, and what a sender changes.
const _: () =
    assert!(std::mem::offset_of!(Group, sorted) + std::mem::offset_of!(Sorted, window) <= 64 || cfg!(loom));
/// Width of the marks.
const MARK_BITS: u32 = 2;
// Links are aligned to more than the marks take.
const _: () = assert!(align_of::<Link>() > TAKEN | CLOSED);

/// Messages that lie in a blocked group's inbox before a sender sorts them, so that no receive has to turn a long backlog
/// round at once.
const SORT_AFTER: u64 = if cfg!(shuttle) { 4 } else { 64 };

/// A message group. A sender needs no more of it than its first cache line: a name of up to 24 bytes lies in place.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Group {
    /// The group's word; see `word.rs`.
    pub word: AtomicU64,
    /// The newest message sent that has not been taken, or a mark.
    pub inbox: AtomicPtr<Link>,
    /// The sequence number of the newest message taken from the inbox; before the first one, about where numbers begin. Written
    /// before the mark that says so.
    pub taken: AtomicU64,
    name: CompactString,
    sorted: UnsafeCell<Sorted>,
}

/// What only the baton's holder touches.
#[derive(Debug)]
#[repr(C)]
struct Sorted {
    first: *mut Link,
    last: *mut Link,
    window: [*const Link; WINDOW],
}

// SAFETY: links are followed only under the rules of `Link`, by whoever has the baton, or before they can be retired.
unsafe impl Send for Group {}
// SAFETY: `sorted` is touched by the baton's holder alone; all else is atomic or never changes.
unsafe impl Sync for Group {}

/// What a sweep or housekeeping has come upon in a FIFO queue, for the queue to deal with.
#[derive(Debug)]
pub enum Heard<'p> {
    /// A lease is over: the group is to be told.
    CameBack(Ended<'p>),
    /// A message in flight is gone: the group is to be told.
    Went(Ended<'p>),
    /// It is time to close a group, if it is empty.
    Closing(&'p Group),
    /// A token, in hand now: of a message at the front of its group that has lapsed, or of a baton laid down.
    Token(&'p Segment, u32),
}

/// The group's inbox is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

/// The marks of what an inbox held.
#[inline]
pub fn mark_of(link: *mut Link) -> usize {
    link.addr() & FRESH
}

/// What an inbox holds that nothing is accepted in any more.
pub const fn closed() -> *mut Link {
    std::ptr::without_provenance_mut(CLOSED)
}

/// What an inbox holds that nothing has been pushed to yet.
#[inline]
pub const fn fresh() -> *mut Link {
    std::ptr::without_provenance_mut(FRESH)
}

/// What an inbox holds whose newest message, of this number, has been taken. By its number and not by its address: a message in
/// the slot that it has left may be of the same group, and after that is taken the inbox must not look as it did before.
#[inline]
pub const fn taken_up_to(sequence: u64) -> *mut Link {
    // On 32 bits: the lowest ones of the number, enough to tell it from those before.
    std::ptr::without_provenance_mut((sequence as usize) << MARK_BITS | TAKEN)
}

impl Group {
    /// A group without messages, whose first one has a sequence number greater than `sequence`.
    pub fn new(name: &str, sequence: u64) -> Self {
        Self {
            word: AtomicU64::new(GroupWord::default().to_bits()),
            inbox: AtomicPtr::new(fresh()),
            taken: AtomicU64::new(sequence),
            name: name.into(),
            sorted: UnsafeCell::new(Sorted {
                first: std::ptr::null_mut(),
                last: std::ptr::null_mut(),
                window: [std::ptr::null(); WINDOW],
            }),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A group that was found where groups are kept until they are retired, for as long as the pin lasts.
    ///
    /// # Safety
    /// It was found under this pin, and whoever takes it out from there gives up the last share in it through the epoch only.
    #[cfg(not(loom))]
    unsafe fn pinned<'p>(found: &crate::sync::Arc<Self>, _pin: &'p Pin<'_>) -> &'p Self {
        // SAFETY: as promised.
        unsafe { &*crate::sync::Arc::as_ptr(found) }
    }

    /// The word as it looks at the moment.
    #[cfg(loom)]
    pub fn word(&self) -> GroupWord {
        // Relaxed: shown to somebody.
        GroupWord::from_bits(self.word.load(Ordering::Relaxed))
    }

    /// The sequence number of the newest message taken from the inbox.
    pub fn last_taken(&self) -> u64 {
        // Relaxed: for whoever has closed the group, which is after all of them.
        self.taken.load(Ordering::Relaxed)
    }

    /// Changes the word.
    #[inline]
    pub fn change<R>(&self, change: impl Fn(GroupWord) -> (GroupWord, R)) -> R {
        // Acquire: the change rests on what others did before they changed it.
        let mut present = self.word.load(Ordering::Acquire);
        // Progress: a failed CAS means that another thread changed it.
        loop {
            let (next, result) = change(GroupWord::from_bits(present));
            // AcqRel: what was done to the group's messages before comes before what whoever changes it next does; with the
            // baton goes all that its holders did.
            match self.word.compare_exchange_weak(
                present,
                next.to_bits(),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return result,
                Err(newer) => present = newer,
            }
        }
    }

    /// Puts a message that was sent, or that comes from elsewhere and has been received `receives` times there, in the inbox;
    /// returns its sequence number. The caller then owes [`Group::arrive`].
    ///
    /// The first message's number is the one after `last`, which no earlier group of the name has exceeded: it is asked for once
    /// the group has been found, when they are all gone.
    pub fn push(
        &self,
        reserved: &Reserved<'_>,
        receives: u32,
        last: impl Fn() -> u64,
        _pin: &Pin<'_>,
    ) -> Result<u64, Closed> {
        let slot = &reserved.segment.slots[reserved.slot];
        let Some(link) = reserved.segment.link(reserved.slot as u32) else {
            debug_assert!(false, "a segment without links in a FIFO queue");
            return Err(Closed);
        };
        link.set_group(self);
        let mine = std::ptr::from_ref(link).cast_mut();
        // Acquire: the sequence number of what is on top; pairs with the CASes below and in `sort`.
        let mut top = self.inbox.load(Ordering::Acquire);
        // Before anybody can find it. It is the caller's alone so far, also if the group is found closed.
        match slot.state_in_hand().queue_up(receives) {
            Ok(Transition { next, .. }) if mark_of(top) != CLOSED => slot.store(next),
            Ok(_) => return Err(Closed),
            Err(refusal) => debug_assert!(false, "reserved a slot that is {refusal:?}"),
        }
        // Progress: a failed CAS means that another thread pushed, or took what there was.
        loop {
            let (below, before) = match mark_of(top) {
                // SAFETY: it was in the inbox when we looked, so its message was alive, and we are pinned.
                0 => (top, unsafe { (*top).sequence() }),
                // Relaxed: written before the mark that we have acquired. Should it be of a later taking, the CAS fails: each
                // taking leaves another mark.
                TAKEN => (std::ptr::null_mut(), self.taken.load(Ordering::Relaxed)),
                FRESH => (std::ptr::null_mut(), last()),
                _ => {
                    slot.store(Word::DEAD);
                    return Err(Closed);
                }
            };
            link.set_sequence(before + 1);
            link.set_next(below);
            // Release: the message, with what is below it, to whoever takes the inbox. RMWs only, so that one sender's
            // release survives another's. Acquired already: `top` cannot come back. A message is pushed once in its life, and
            // its slot is not used again before our pin has ended; and no number is taken twice.
            match self
                .inbox
                .compare_exchange_weak(top, mine, Ordering::Release, Ordering::Acquire)
            {
                Ok(_) => return Ok(before + 1),
                Err(newer) => top = newer,
            }
        }
    }

    /// Notes that a message was pushed.
    #[inline]
    pub fn arrive<'p>(&'p self, pin: &'p Pin<'_>) -> After<'p> {
        self.after(self.change(GroupWord::arrive), pin)
    }

    /// The caller has entered the group and pushes nothing: if it is empty somebody has to close it.
    #[cold]
    pub fn forgo<'p>(&'p self, pin: &'p Pin<'_>) -> After<'p> {
        self.after(self.change(GroupWord::settle), pin)
    }

    /// Messages in flight have come back: their slots say `InLine`.
    #[inline]
    pub fn come_back<'p>(&'p self, places: Places, pin: &'p Pin<'_>) -> After<'p> {
        self.after(self.change(|word| word.come_back(places)), pin)
    }

    /// Messages in flight are gone: their slots say `Dead`.
    #[inline]
    pub fn go<'p>(&'p self, places: Places, pin: &'p Pin<'_>) -> After<'p> {
        self.after(self.change(|word| word.go(places)), pin)
    }

    /// What is to be done by whoever changed the word.
    #[inline]
    pub fn after<'p>(&'p self, duty: Duty, pin: &'p Pin<'_>) -> After<'p> {
        match duty {
            Duty::None => After::Nothing,
            // SAFETY: the word was changed so that the baton is ours.
            Duty::Baton => After::Baton(unsafe { Baton::pick_up(self, pin) }),
            Duty::Closing => After::Closing(self),
        }
    }

    /// Whether so many messages lie in the inbox that somebody should sort them.
    pub fn is_unsorted(&self, sequence: u64) -> bool {
        // Relaxed: a lag only makes it sooner or later.
        sequence.saturating_sub(self.taken.load(Ordering::Relaxed)) >= SORT_AFTER
    }

    /// Takes the baton if it is not out, of a group that has nothing to deliver.
    pub fn borrow<'p>(&'p self, pin: &'p Pin<'_>) -> Option<Baton<'p>> {
        let borrowed = self.change(|word| match word.borrow() {
            Some(next) => (next, true),
            None => (word, false),
        });
        // SAFETY: taken just now.
        borrowed.then(|| unsafe { Baton::pick_up(self, pin) })
    }

    /// Closes the group if there is nothing in it. `Err` says what is to be done instead.
    pub fn close<'p>(&'p self, pin: &'p Pin<'_>) -> Result<(), After<'p>> {
        if !self.change(GroupWord::come_to_close) {
            return Err(After::Nothing);
        }
        // Relaxed: only a mark is looked at. Only its holder takes and closes, and that is us.
        let top = self.inbox.load(Ordering::Relaxed);
        // Relaxed, both: who finds it closed reads nothing of the group but `taken`, which comes with its mark's Release, and that
        // goes on through this read-modify-write. A failure means that a message has come.
        if matches!(mark_of(top), TAKEN | FRESH)
            && self
                .inbox
                .compare_exchange(top, closed(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            return Ok(());
        }
        let duty = self.hand_back(Done::Within { leased: 0, gone: 0 }, false);
        Err(self.after(duty, pin))
    }

    /// Hands the baton back, or keeps it.
    fn hand_back(&self, done: Done, keep: bool) -> Duty {
        let sorted = self.has_sorted();
        self.change(|word| {
            // Relaxed: the word was read before, with Acquire, and brings the push of each arrival in it; see the module.
            let arrived = || mark_of(self.inbox.load(Ordering::Relaxed)) == 0;
            let more = sorted || arrived();
            if keep {
                (word.keep(done, more), Duty::Baton)
            } else {
                word.hand_back(done, more)
            }
        })
    }

    /// Whether there are sorted messages. Of the baton's holder.
    pub fn has_sorted(&self) -> bool {
        // SAFETY: the caller has the baton, so nobody else is here.
        !self.sorted.with(|sorted| unsafe { (*sorted).first }).is_null()
    }

    /// Takes what is in the inbox, and puts it behind what is sorted. By the baton's holder.
    fn sort(&self) {
        // Acquire: the messages; pairs with `push`.
        let mut top = self.inbox.load(Ordering::Acquire);
        // Progress: a failed CAS means that another thread pushed.
        loop {
            if mark_of(top) != 0 {
                return;
            }
            // SAFETY: in the inbox: alive, because only a holder of the baton makes its messages dead.
            let sequence = unsafe { (*top).sequence() };
            self.taken.store(sequence, Ordering::Relaxed);
            // Release tells of `taken`. Acquired already: `top` cannot come back, as in `push`.
            match self.inbox.compare_exchange_weak(
                top,
                taken_up_to(sequence),
                Ordering::Release,
                Ordering::Acquire,
            ) {
                Ok(_) => break,
                Err(newer) => top = newer,
            }
        }
        let (mut newer, mut link) = (std::ptr::null_mut::<Link>(), top);
        // Bounded by what was in the inbox.
        while let Some(this) = NonNull::new(link) {
            // SAFETY: as above.
            let this = unsafe { this.as_ref() };
            let below = this.next();
            this.set_next(newer);
            newer = link;
            link = below;
        }
        // SAFETY: the baton's holder is alone here; `last` was sorted and not taken yet, for `first` is not null.
        self.sorted.with_mut(|sorted| unsafe {
            let sorted = &mut *sorted;
            if sorted.first.is_null() {
                sorted.first = newer;
            } else {
                (*sorted.last).set_next(newer);
            }
            sorted.last = top;
        });
    }
}
