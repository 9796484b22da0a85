//! A fixed run of slots with their ready words, live count and arena: what is reserved, published, claimed, passed and
//! retired as one.
//!
//! ```text
//!  sender's line    reserve: slots:32 | bytes:32     next     (and what only senders look at: arena, when it was opened; and by whom)
//!  receivers' line  ready[0..4]: PASSED:1 | tokens:63
//!  deleters' line   live: slots not dead + 1 while a list holds the segment + 1 per node on `returned`
//!  nobody's line    serial, number, partition, where its due hint and its links are
//!                   slots[0..252], 32 bytes each
//!                   links[0..252], 32 bytes each, in FIFO queues only
//!                   arena: bodies, one after the other
//! ```
//!
//! Three hand-overs meet here, each on one word that both sides change by read-modify-write:
//!
//! * *Publish and passing* on a ready word. The head may go past a segment once each word was read with `PASSED` set
//!   and without a token. A publisher learns from its own addition whether `PASSED` was there before; then the head
//!   may be gone, and it brings the word back on `returned` itself. (H1)
//! * *Reserve and seal* on `reserve`. A reservation that overflows slots or bytes seals; exactly one sender sees the
//!   last value within bounds, and it alone accounts for the slots nobody will use. (H5)
//! * *Bury and hold* on `live`. Who brings it to zero retires the segment, and nobody can take a hold any more. (H6)

use std::{
    alloc::{Layout, alloc, dealloc},
    ops::Deref,
    ptr::NonNull,
};

use crossbeam_utils::CachePadded;

use crate::{
    clock::Millis,
    config::{ARENA_FIRST, BITS, SEGMENT_ROUND, SEGMENT_SPARED, SLOTS, TINY, WORDS},
    extras::ExtrasDraft,
    ledger::{
        group::link::Link,
        hint::Hint,
        slot::{Entry, Slot},
    },
    sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering, allocation_fails, reads_bytes, writes_bytes},
};

/// The mark in a ready word that the partition's head has gone by, or is about to.
pub const PASSED: u64 = 1 << 63;
/// The tokens of a ready word.
pub const TOKENS: u64 = (1 << BITS) - 1;

/// How large bodies may be on average for [`Segment::take_lines`]. With 2 KiB a pipeline gains by it wherever the cores lie, with
/// 4 KiB it gains or loses some per cent, with 8 KiB it loses.
const LINES_BODY_MAX: usize = 2 * 1024;

/// Bytes of a cache line, on most processors; where they are larger some are written to twice.
const LINE: usize = 64;

const BYTES_BITS: u32 = 32;
const BYTES_MASK: u64 = (1 << BYTES_BITS) - 1;

/// A fixed run of slots.
#[derive(Debug)]
#[repr(C)]
pub struct Segment {
    /// The sender's line, and what is written only while one thread owns the segment.
    pub header: CachePadded<Header>,
    /// The receivers' line: a token per visible message, and `PASSED`.
    pub ready: CachePadded<Ready>,
    /// The deleters' line.
    pub tally: Tally,
    /// Nobody's line.
    fixed: Fixed,
    /// The messages' places.
    pub slots: [Slot; SLOTS],
}

/// What a sender touches.
#[derive(Debug)]
pub struct Header {
    /// `slots:32 | bytes:32` claimed so far; beyond either capacity the segment is sealed.
    pub reserve: AtomicU64,
    /// The segment after this one in the partition's list.
    pub next: AtomicPtr<Segment>,
    /// When it was put to use: no message in it was sent earlier.
    pub opened: Millis,
    /// Which worker put it to use, and so has probably sent most of its messages, or 0; see [`Segment::take_lines`].
    opener: u32,
    arena: *mut u8,
    arena_capacity: u32,
    layout: Layout,
}

/// What does not change between reuse and retirement, and is looked at by receivers and deleters: apart from what senders
/// write, so that a receiver who keeps up with its sender does not take that line from it with each message.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Fixed {
    /// Which of the partition's segments this is: never reused, guards against old handles.
    pub serial: u64,
    /// See [`Segment::number`].
    number: u32,
    /// The partition it belongs to.
    pub partition: u32,
    hint: NonNull<Hint>,
    /// Null unless the segment is of a FIFO queue.
    links: *mut Link,
    /// Stands for all that is plain memory here and in the header: loom knows of none but atomics and its own cells.
    #[cfg(loom)]
    opening: crate::sync::UnsafeCell<()>,
}

/// What receivers touch, and publishers.
#[derive(Debug)]
pub struct Ready {
    words: [AtomicU64; WORDS],
    /// What is special about some of the messages here: `RETURNED`, `GROUPED`. Set before the token of the first such
    /// message, so whoever takes that token sees it.
    marks: AtomicU32,
    /// No message here was sent earlier. When the segment was opened, or earlier for the sake of messages that come from
    /// another queue or segment. Lowered before such a message's token is set.
    oldest: AtomicU64,
}

/// Tokens of messages received before have been set here.
const RETURNED: u32 = 1;
/// Messages of message groups have been sent here.
const GROUPED: u32 = 2;

impl Ready {
    fn new() -> Self {
        Self {
            words: std::array::from_fn(|_| AtomicU64::new(0)),
            marks: AtomicU32::new(0),
            oldest: AtomicU64::new(0),
        }
    }

    /// Whether there may be tokens of messages received before.
    #[inline]
    pub fn has_returned(&self) -> bool {
        // Relaxed: decides which of two orders to look in, both of which find everything.
        self.marks.load(Ordering::Relaxed) & RETURNED != 0
    }

    /// Whether there may be messages that a receive has to look at twice: received before, or of a message group. What
    /// the holder of a token reads here is true of that token's message.
    #[inline]
    pub fn is_special(&self) -> bool {
        // Relaxed: the token's Acquire came after the mark, which came before the token's Release.
        self.marks.load(Ordering::Relaxed) != 0
    }

    /// Says that there are tokens of messages received before.
    pub fn note_returned(&self) {
        self.mark(RETURNED);
    }

    /// Whether there may be messages of message groups.
    #[inline]
    pub fn has_groups(&self) -> bool {
        // Relaxed: whoever has acquired the state of such a message has acquired the mark.
        self.marks.load(Ordering::Relaxed) & GROUPED != 0
    }

    /// Says that there are messages of message groups.
    pub fn note_groups(&self) {
        self.mark(GROUPED);
    }

    fn mark(&self, mark: u32) {
        // Relaxed, both: see `is_special`. Looked at first, so as not to take the line from its readers for nothing; a
        // mark, once set, stays until the segment is reused.
        if self.marks.load(Ordering::Relaxed) & mark == 0 {
            self.marks.fetch_or(mark, Ordering::Relaxed);
        }
    }

    /// No message here was sent earlier: true of every message whose token the caller holds.
    #[inline]
    pub fn oldest(&self) -> Millis {
        // Relaxed: as in `is_special`.
        Millis(self.oldest.load(Ordering::Relaxed))
    }
}

impl Deref for Ready {
    type Target = [AtomicU64; WORDS];
    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.words
    }
}

/// What deleters touch, and the pool. Of 128 bytes, which is what some processors fetch at a time, the other half is [`Fixed`],
/// which nobody writes.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Tally {
    /// Slots not dead, plus holds. Zero retires.
    pub live: AtomicU32,
    /// The next one in the pool, while this one is pooled. Apart from header and `Fixed`, because a thread that lost
    /// the race for a pooled segment may still read it while the winner rewrites those.
    pub pooled_next: AtomicPtr<Segment>,
}

/// What came of a reservation.
#[must_use = "reserved slots have to be published or buried"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reservation {
    /// `count` slots from `first` on, and their bodies' place in the arena from `offset` on.
    Taken {
        /// First slot.
        first: usize,
        /// How many slots; fewer than asked for if they did not all fit.
        count: usize,
        /// First byte in the arena.
        offset: usize,
        /// Slots that nobody will use: the caller sealed the segment and must bury them.
        unused: u32,
    },
    /// Nothing: the segment was sealed before.
    Sealed,
}

/// Whether the caller has to retire the segment.
#[must_use = "a segment whose live count is zero has to be retired by whoever brought it there"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Somebody else still counts on it.
    Goes,
    /// The caller brought `live` to zero.
    Over,
}

impl Segment {
    /// Bytes of an allocation that has room for `arena` bytes of bodies.
    #[must_use]
    pub const fn footprint(arena: usize) -> usize {
        let bytes = size_of::<Self>() + arena + SEGMENT_SPARED;
        // A small one is the only one of a queue with hardly any traffic: not rounded to a page.
        let round = if TINY || arena > ARENA_FIRST {
            SEGMENT_ROUND
        } else {
            SEGMENT_ROUND / 8
        };
        bytes.next_multiple_of(round) - SEGMENT_SPARED
    }

    /// Bytes of the links in front of the arena, in a segment of a FIFO queue.
    pub const LINKS: usize = SLOTS * size_of::<Link>();

    /// A new segment of `footprint` bytes in all, with links or without, or `None` if the system has no memory.
    ///
    /// It belongs to the caller; [`Segment::open`] puts it to use and [`Segment::free`] gives it back.
    ///
    /// # Safety
    /// `hint` outlives the segment.
    pub unsafe fn allocate(
        footprint: usize,
        is_linked: bool,
        partition: u32,
        number: u32,
        hint: NonNull<Hint>,
    ) -> Option<NonNull<Self>> {
        let before_arena = size_of::<Self>() + if is_linked { Self::LINKS } else { 0 };
        debug_assert!(footprint >= before_arena);
        let layout = Layout::from_size_align(footprint, align_of::<Self>()).ok()?;
        if allocation_fails() {
            return None;
        }
        // SAFETY: the layout's size is not zero.
        let memory = NonNull::new(unsafe { alloc(layout) })?;
        let segment = memory.cast::<Self>();
        // SAFETY: in bounds of the allocation, which is at least as large.
        let (behind, arena) = unsafe {
            (
                memory.as_ptr().add(size_of::<Self>()).cast::<Link>(),
                memory.as_ptr().add(before_arena),
            )
        };
        let header = Header {
            reserve: AtomicU64::new(0),
            next: AtomicPtr::new(std::ptr::null_mut()),
            opened: Millis(0),
            opener: 0,
            arena,
            arena_capacity: u32::try_from(footprint - before_arena).unwrap_or(u32::MAX),
            layout,
        };
        let fixed = Fixed {
            serial: 0,
            number,
            partition,
            hint,
            links: if is_linked { behind } else { std::ptr::null_mut() },
            #[cfg(loom)]
            opening: crate::sync::UnsafeCell::new(()),
        };
        // SAFETY: aligned by the layout, large enough, and nobody else knows of it. Field by field, so that no
        // segment ever lies on the stack.
        unsafe {
            let this = segment.as_ptr();
            (&raw mut (*this).header).write(CachePadded::new(header));
            (&raw mut (*this).ready).write(CachePadded::new(Ready::new()));
            (&raw mut (*this).tally).write(Tally {
                live: AtomicU32::new(0),
                pooled_next: AtomicPtr::new(std::ptr::null_mut()),
            });
            (&raw mut (*this).fixed).write(fixed);
            let slots = (&raw mut (*this).slots).cast::<Slot>();
            for slot in 0..SLOTS {
                slots.add(slot).write(Slot::new());
                if is_linked {
                    behind.add(slot).write(Link::new(this));
                }
            }
        }
        Some(segment)
    }

    /// Gives a segment back to the system.
    ///
    /// # Safety
    /// `segment` came from [`Segment::allocate`], and nobody can reach it any more.
    pub unsafe fn free(segment: NonNull<Self>) {
        // SAFETY: allocated with this layout by `allocate`, and ours alone.
        unsafe {
            let layout = segment.as_ref().header.layout;
            segment.drop_in_place();
            dealloc(segment.as_ptr().cast(), layout);
        }
    }

    /// Makes a segment nobody can reach ready for use: empty, unsealed, held by the list it is about to join.
    ///
    /// The slots' words are left as they are: `Empty`, or `Dead` of the message before, which mean the same.
    ///
    /// # Safety
    /// The caller has just allocated the segment or taken it from a pool, and has not shown it to anybody.
    pub unsafe fn open(segment: NonNull<Self>, serial: u64, opened: Millis, opener: u32) {
        // SAFETY: both are the caller's alone; whoever may still look at the segment from the pool's side looks at `tally`
        // only. `CachePadded` has its content at its own address.
        let (header, fixed) = unsafe {
            (
                &mut *(&raw mut (*segment.as_ptr()).header).cast::<Header>(),
                &mut (*segment.as_ptr()).fixed,
            )
        };
        writes_bytes((&raw const *header).cast(), size_of::<Header>());
        writes_bytes((&raw const *fixed).cast(), size_of::<Fixed>());
        #[cfg(loom)]
        fixed.opening.with_mut(|_| ());
        fixed.serial = serial;
        header.opened = opened;
        header.opener = opener;
        // Relaxed, all of them: the segment is published by a Release afterwards (index, then `next`).
        header.reserve.store(0, Ordering::Relaxed);
        header.next.store(std::ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: only atomics are touched through this reference.
        let this = unsafe { segment.as_ref() };
        for word in this.ready.iter() {
            word.store(0, Ordering::Relaxed);
        }
        this.ready.marks.store(0, Ordering::Relaxed);
        this.ready.oldest.store(opened.0, Ordering::Relaxed);
        this.tally.live.store(SLOTS as u32 + 1, Ordering::Relaxed);
    }

    /// The worker that put it to use; 0 for a partition's first one.
    #[inline]
    pub fn opener(&self) -> u32 {
        #[cfg(loom)]
        self.fixed.opening.with(|_| ());
        self.header.opener
    }

    /// Writes to each line of the arena that was given out, of a segment whose messages were probably received by another core than
    /// sent them; unless they were so large that copying them is what takes the time. At most 4,032 lines.
    ///
    /// Those lines were written by their sender and read by receivers, so both cores have them. The sender's first store to each,
    /// in the segment's next life, would wait until the other core has given its copy up, with nothing to ask for that ahead of time, for a
    /// prefetcher sees no miss; and the next locked instruction would wait for the store. Lines that the other core has written
    /// to come as any stream of misses does, ahead of the stores. On an EPYC guest that is 3 ns a line in place of 18, or of
    /// 74 when the cores lie far apart; a pipeline is four times as fast for it there.
    ///
    /// # Safety
    /// The segment is the caller's alone.
    pub unsafe fn take_lines(segment: NonNull<Self>) {
        // SAFETY: the caller's.
        let this = unsafe { segment.as_ref() };
        if this.bytes_per_message() > LINES_BODY_MAX {
            return;
        }
        let header = &this.header;
        // Relaxed: ours alone.
        let used = (header.reserve.load(Ordering::Relaxed) & BYTES_MASK) as usize;
        for at in (0..used.min(header.arena_capacity as usize)).step_by(LINE) {
            let line = header.arena.wrapping_add(at);
            writes_bytes(line, 1);
            // SAFETY: within the arena, which is the caller's, and whose bytes mean nothing any more.
            unsafe { line.write(0) };
        }
    }

    /// Its number in the partition's index, which it keeps from life to life.
    #[inline]
    pub fn number(&self) -> u32 {
        self.fixed.number
    }

    /// Whether it is of a FIFO queue.
    #[inline]
    pub fn is_linked(&self) -> bool {
        !self.fixed.links.is_null()
    }

    /// The link of a slot, in a segment of a FIFO queue.
    #[inline]
    pub fn link(&self, slot: u32) -> Option<&Link> {
        if !self.is_linked() || slot as usize >= SLOTS {
            return None;
        }
        // SAFETY: `allocate` wrote as many links as there are slots; they live as long as the segment, and are only shared.
        Some(unsafe { &*self.fixed.links.add(slot as usize) })
    }

    /// The slot whose link this is, which is one of the segment's.
    #[inline]
    pub(super) fn number_of(&self, link: &Link) -> u32 {
        let bytes = std::ptr::from_ref(link).addr() - self.fixed.links.addr();
        (bytes / size_of::<Link>()) as u32
    }

    /// The tokens of a word whose messages look as if nobody had received them yet.
    pub fn new_tokens(&self, word: usize) -> u64 {
        let tokens = self.tokens(word);
        let (mut new, mut rest) = (0, tokens);
        while rest != 0 {
            let at = word * BITS + rest.trailing_zeros() as usize;
            let token = rest & rest.wrapping_neg();
            rest ^= token;
            if self
                .slots
                .get(at)
                .is_some_and(|slot| slot.state().receives() == 0)
            {
                new |= token;
            }
        }
        new
    }

    /// Whether there is one; looks at as many slots as that takes.
    pub fn has_new_token(&self, word: usize) -> bool {
        let mut rest = self.tokens(word);
        while rest != 0 {
            let slot = self.slots.get(word * BITS + rest.trailing_zeros() as usize);
            if slot.is_some_and(|slot| slot.state().receives() == 0) {
                return true;
            }
            rest &= rest - 1;
        }
        false
    }

    /// What does not change between reuse and retirement.
    #[inline(always)]
    #[cfg_attr(lines, track_caller)]
    pub fn fixed(&self) -> &Fixed {
        reads_bytes((&raw const self.fixed).cast(), size_of::<Fixed>());
        #[cfg(loom)]
        self.fixed.opening.with(|_| ());
        &self.fixed
    }

    /// Notes that a message is about to be published here that was sent at `sent`.
    #[inline]
    pub fn note_oldest(&self, sent: Millis) {
        // Nearly never, and asked of the sender's own line: the receivers' is theirs until the token is set.
        #[cfg(loom)]
        self.fixed.opening.with(|_| ());
        if sent < self.header.opened {
            // Relaxed: as in `mark`.
            self.ready.oldest.fetch_min(sent.0, Ordering::Relaxed);
        }
    }

    /// When something in it is due; lies in the partition's index.
    #[inline]
    pub fn hint(&self) -> &Hint {
        // SAFETY: outlives the segment, as promised to `allocate`.
        unsafe { self.fixed().hint.as_ref() }
    }

    /// Bytes of the whole allocation.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.header.layout.size()
    }

    /// Bytes its arena has room for.
    pub fn arena_bytes(&self) -> usize {
        self.header.arena_capacity as usize
    }

    /// Whether a body of so many bytes would seal it, unless somebody else does before.
    pub fn is_sealed_by(&self, bytes: usize) -> bool {
        // Relaxed: an old value is more room than there is.
        let reserve = self.header.reserve.load(Ordering::Relaxed);
        self.in_bounds(reserve) && (reserve & BYTES_MASK) as usize + bytes > self.arena_bytes()
    }

    /// Slots reserved so far.
    pub fn reserved(&self) -> usize {
        // Relaxed: a sweep that came here by a claimer's due hint, which it acquired, sees at least that claimer's slot:
        // its reservation came before.
        SLOTS.min((self.header.reserve.load(Ordering::Relaxed) >> BYTES_BITS) as usize)
    }

    /// Bytes of the arena per message asked for here, rounded up.
    pub fn bytes_per_message(&self) -> usize {
        // Relaxed: only sizes the next segment, and says whether lines are worth taking. Both counts go on beyond the bounds together: messages that found no slot any more
        // are among those whose bytes are counted.
        let reserve = self.header.reserve.load(Ordering::Relaxed);
        (reserve & BYTES_MASK).div_ceil((reserve >> BYTES_BITS).max(1)) as usize
    }

    /// Whether every slot reserved so far is dead, and nothing but the list holds the segment.
    pub fn is_bare(&self) -> bool {
        // Acquire: what buried the slots came before, the link to where a message has moved included. A look at two words; they
        // agree for good only if nobody sends.
        let live = self.tally.live.load(Ordering::Acquire) as usize;
        // Who has sealed it has buried what was not used. Relaxed, all: only compared, after the above.
        let unused = if self.is_sealed() {
            0
        } else {
            SLOTS - self.reserved()
        };
        self.header.next.load(Ordering::Relaxed).is_null() && live == unused + 1
    }

    /// Whether no sender can reserve here any more.
    #[inline]
    pub fn is_sealed(&self) -> bool {
        // Relaxed: sealed once, sealed for ever; an old value only delays the passing.
        !self.in_bounds(self.header.reserve.load(Ordering::Relaxed))
    }

    #[inline]
    fn in_bounds(&self, reserve: u64) -> bool {
        (reserve >> BYTES_BITS) < SLOTS as u64
            && (reserve & BYTES_MASK) <= u64::from(self.header.arena_capacity)
    }

    /// Reserves slots for bodies that take `lengths` bytes of the arena each, as many of them as fit.
    #[inline]
    pub fn reserve(&self, lengths: &[u32]) -> Reservation {
        let bytes: u64 = lengths.iter().copied().map(u64::from).sum();
        // The look before keeps the counters from running over while many senders meet a sealed segment: at most one
        // addition per thread goes beyond the bounds. A sealed segment stays sealed, so an old value costs an RMW.
        if self.is_sealed() {
            return Reservation::Sealed;
        }
        // Relaxed: only divides slots and bytes among senders; their content is published by the ready words.
        let before = self
            .header
            .reserve
            .fetch_add((lengths.len() as u64) << BYTES_BITS | bytes, Ordering::Relaxed);
        if !self.in_bounds(before) {
            return Reservation::Sealed;
        }
        let (first, offset) = ((before >> BYTES_BITS) as usize, (before & BYTES_MASK) as usize);
        let slots_left = SLOTS - first;
        #[cfg(loom)]
        self.fixed.opening.with(|_| ());
        let bytes_left = u64::from(self.header.arena_capacity) - offset as u64;
        if lengths.len() <= slots_left && bytes <= bytes_left {
            return Reservation::Taken {
                first,
                count: lengths.len(),
                offset,
                unused: 0,
            };
        }
        // The last value within bounds: this sender sealed the segment.
        self.cross(lengths, first, offset)
    }

    /// A slot by its number, which must be one.
    #[inline]
    pub fn slot(&self, number: u32) -> &Slot {
        debug_assert!((number as usize) < SLOTS);
        &self.slots[(number as usize).min(SLOTS - 1)]
    }

    /// What of a reservation that sealed the segment still fits.
    #[cold]
    #[inline(never)]
    fn cross(&self, lengths: &[u32], first: usize, offset: usize) -> Reservation {
        let slots_left = SLOTS - first;
        #[cfg(loom)]
        self.fixed.opening.with(|_| ());
        let bytes_left = u64::from(self.header.arena_capacity) - offset as u64;
        let mut count = 0;
        let mut used = 0;
        for &length in lengths.iter().take(slots_left) {
            used += u64::from(length);
            if used > bytes_left {
                break;
            }
            count += 1;
        }
        Reservation::Taken {
            first,
            count,
            offset,
            unused: (slots_left - count) as u32,
        }
    }

    /// Copies a body into the arena and writes its slot's entry.
    ///
    /// # Safety
    /// The caller reserved `slot` and the arena bytes from `offset` on for this body, and has not published it.
    #[inline]
    pub unsafe fn write_inline(&self, slot: usize, offset: usize, body: &[u8], sent: Millis) {
        debug_assert!(offset + body.len() <= self.header.arena_capacity as usize);
        // SAFETY: the reservation gave these bytes of the arena, and this slot, to the caller alone.
        unsafe {
            let place = self.header.arena.add(offset);
            copy(body, place);
            self.slots[slot].write(Entry::new(place, body.len(), false, sent));
        }
    }

    /// As [`Segment::write_inline`], with extras behind the body.
    ///
    /// # Safety
    /// As for [`Segment::write_inline`]; the bytes reserved are those of body and extras together.
    pub unsafe fn write_extended(
        &self,
        slot: usize,
        offset: usize,
        body: &[u8],
        extras: &ExtrasDraft<'_>,
        sent: Millis,
    ) {
        let length = extras.encoded_len();
        debug_assert!(offset + body.len() + length <= self.header.arena_capacity as usize);
        // SAFETY: the reservation gave these bytes of the arena, and this slot, to the caller alone. The arena's bytes may
        // never have been written: zeroes first, so that a slice of them may be made.
        unsafe {
            let place = self.header.arena.add(offset);
            copy(body, place);
            let behind = place.add(body.len());
            behind.write_bytes(0, length);
            extras.encode(std::slice::from_raw_parts_mut(behind, length));
            self.slots[slot].write(Entry::new(place, body.len(), false, sent).with_extras());
        }
    }

    /// Sets tokens in a ready word: the messages can be received from now on.
    ///
    /// Returns whether the head may have passed; the caller must then bring the word back on `returned`.
    #[inline]
    #[must_use = "a word that was passed has to be brought back"]
    pub fn publish(&self, word: usize, tokens: u64) -> bool {
        debug_assert_eq!(tokens & !TOKENS, 0);
        // Release: entry, body and state become visible to the claimer (pairs with the Acquire of `take` and `take_one`). An RMW,
        // so that earlier publishers' releases survive it, so that it and `pass` see each other in one order, and so that the
        // caller's look for waiters comes behind one, see `wait.rs`; never a load before it. An addition, because bits that are
        // clear are set by it just as well, in one instruction that cannot fail, and what was there before comes with it.
        let before = self.ready[word].fetch_add(tokens, Ordering::Release);
        debug_assert_eq!(before & tokens, 0, "a token was set twice");
        before & PASSED != 0
    }

    /// The tokens of a word as they look at the moment.
    #[inline]
    pub fn tokens(&self, word: usize) -> u64 {
        // Relaxed: `take` decides.
        self.ready[word].load(Ordering::Relaxed) & TOKENS
    }

    /// Takes up to `want` of the tokens in `among`; the caller then owns those slots until it stores their states.
    #[inline]
    #[must_use = "whoever holds a token has to store the slot's next state"]
    pub fn take(&self, word: usize, among: u64, want: usize) -> u64 {
        let among = among & TOKENS;
        // Relaxed: the CAS decides.
        let mut present = self.ready[word].load(Ordering::Relaxed);
        // Progress: a failed CAS means that another thread published or claimed in this word.
        while present & among != 0 {
            let tokens = lowest(present & among, want);
            // Acquire: see what the publishers wrote before their Release in `publish`. Nothing is released here; the
            // RMW keeps the publishers' release sequences alive.
            match self.ready[word].compare_exchange_weak(
                present,
                present & !tokens,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return tokens,
                Err(newer) => present = newer,
            }
        }
        0
    }

    /// Takes the first token there is, and says which slot's.
    #[inline]
    #[must_use = "whoever holds a token has to store the slot's next state"]
    pub fn take_any(&self) -> Option<u32> {
        (0..WORDS).find_map(|word| {
            let token = self.take(word, u64::MAX, 1);
            (token != 0).then(|| (word * BITS) as u32 + token.trailing_zeros())
        })
    }

    /// Whether the partition's head has gone by a slot's word. Once it has, it has for good; an old answer says "no".
    #[inline]
    pub fn is_passed(&self, slot: u32) -> bool {
        // Relaxed: whoever sets a token learns it for certain.
        self.ready[slot as usize / BITS].load(Ordering::Relaxed) & PASSED != 0
    }

    /// Takes one slot's token, if it is there.
    #[must_use = "whoever holds a token has to store the slot's next state"]
    pub fn take_one(&self, slot: usize) -> bool {
        let token = 1 << (slot % BITS);
        // Acquire: as in `take`.
        self.ready[slot / BITS].fetch_and(!token, Ordering::Acquire) & token != 0
    }

    /// Marks a ready word as passed; returns the tokens that were in it at that instant. The head may go past only
    /// if there were none: whoever sets one later sees the mark and brings the word back.
    pub fn pass(&self, word: usize) -> u64 {
        // Relaxed: one order with `publish`, which the word itself gives. Tokens seen here are claimed by `take`, which acquires;
        // and the passer's view of the list goes with the head's own CAS.
        self.ready[word].fetch_or(PASSED, Ordering::Relaxed) & TOKENS
    }

    /// Counts `slots` dead, or a hold dropped.
    #[inline]
    pub fn bury(&self, slots: u32) -> Life {
        // AcqRel: Release so that everything done with these slots comes before the retirement, Acquire so that the
        // one who reaches zero has seen it all. Pairs with itself.
        let before = self.tally.live.fetch_sub(slots, Ordering::AcqRel);
        debug_assert!(before >= slots, "a slot was buried twice");
        if before == slots { Life::Over } else { Life::Goes }
    }

    /// Takes a hold that keeps the segment from being retired; `false` if that has been decided already, and then
    /// there is nothing alive in it.
    #[must_use = "without a hold the segment must not be put on a list"]
    pub fn hold(&self) -> bool {
        // Relaxed: the CAS decides.
        let mut live = self.tally.live.load(Ordering::Relaxed);
        // Progress: a failed CAS means that another thread buried or held.
        while live != 0 {
            // Relaxed: taking a hold publishes nothing and rests on nothing but the count; dropping it is AcqRel.
            match self
                .tally
                .live
                .compare_exchange_weak(live, live + 1, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(newer) => live = newer,
            }
        }
        false
    }
}

/// Copies a body, without a call where it is small: a call to the system's copy costs more than 64 bytes do.
///
/// # Safety
/// `to` has room for the body and does not overlap it.
#[inline(always)]
unsafe fn copy(body: &[u8], to: *mut u8) {
    let (from, length) = (body.as_ptr(), body.len());
    writes_bytes(to, length);
    // SAFETY: both ends of a range of 16 to 64 bytes are copied in two halves that may overlap each other, each within
    // the range; otherwise as promised by the caller.
    unsafe {
        if (32..=64).contains(&length) {
            to.cast::<[u8; 32]>()
                .write_unaligned(from.cast::<[u8; 32]>().read_unaligned());
            let last = length - 32;
            to.add(last)
                .cast::<[u8; 32]>()
                .write_unaligned(from.add(last).cast::<[u8; 32]>().read_unaligned());
        } else if (16..32).contains(&length) {
            to.cast::<[u8; 16]>()
                .write_unaligned(from.cast::<[u8; 16]>().read_unaligned());
            let last = length - 16;
            to.add(last)
                .cast::<[u8; 16]>()
                .write_unaligned(from.add(last).cast::<[u8; 16]>().read_unaligned());
        } else {
            std::ptr::copy_nonoverlapping(from, to, length);
        }
    }
}

/// The lowest `want` bits of `bits`.
#[inline]
pub fn lowest(bits: u64, want: usize) -> u64 {
    if want == 1 {
        return bits & bits.wrapping_neg();
    }
    // At most ten turns; counting the bits first costs more where the compiler may not use an instruction for it.
    let mut rest = bits;
    for _ in 0..want {
        if rest == 0 {
            return bits;
        }
        rest &= rest - 1;
    }
    bits & !rest
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::ARENA_MAX;

    fn with_segment(footprint: usize, test: impl FnOnce(&Segment)) {
        let hint = Hint::default();
        // SAFETY: the hint stands in this frame, the segment is freed below.
        let segment =
            unsafe { Segment::allocate(footprint, false, 0, 0, NonNull::from(&hint)) }.expect("memory");
        // SAFETY: ours alone.
        unsafe { Segment::open(segment, 1, Millis(0), 0) };
        // SAFETY: as above.
        test(unsafe { segment.as_ref() });
        // SAFETY: nobody else knows of it.
        unsafe { Segment::free(segment) };
    }

    #[test]
    fn lowest_takes_from_the_bottom() {
        assert_eq!(lowest(0b1011_0100, 2), 0b0001_0100);
        assert_eq!(lowest(0b1011_0100, 9), 0b1011_0100);
        assert_eq!(lowest(0b1011_0100, 0), 0);
        assert_eq!(lowest(0, 3), 0);
        assert_eq!(lowest(u64::MAX, 64), u64::MAX);
    }

    #[test]
    fn layout_is_what_the_budget_assumes() {
        assert_eq!(size_of::<Segment>(), 3 * 128 + 32 * 252);
        assert!(size_of::<Header>() <= LINE, "a sender's line is one");
        // Arenas begin on a line.
        assert_eq!((size_of::<Segment>() % LINE, Segment::LINKS % LINE), (0, 0));
        // 250 bodies of 64 bytes and their segment fill six pages, with what an allocator adds to align them.
        assert_eq!(Segment::footprint(250 * 64), 24 * 1024 - align_of::<Segment>());
        assert_eq!(SEGMENT_SPARED, align_of::<Segment>());
        assert_eq!(Segment::footprint(ARENA_MAX), 256 * 1024 - SEGMENT_SPARED);
    }

    #[test]
    fn slots_run_out_and_the_last_sender_accounts_for_none() {
        with_segment(Segment::footprint(64 * SLOTS), |segment| {
            for first in 0..SLOTS {
                let taken = Reservation::Taken {
                    first,
                    count: 1,
                    offset: first * 64,
                    unused: 0,
                };
                assert_eq!(segment.reserve(&[64]), taken);
            }
            assert!(segment.is_sealed());
            assert_eq!(segment.reserve(&[64]), Reservation::Sealed);
        });
    }

    #[test]
    fn a_batch_across_the_end_is_split() {
        with_segment(Segment::footprint(64 * SLOTS), |segment| {
            for _ in 0..25 {
                let _ = segment.reserve(&[1; 10]);
            }
            let taken = Reservation::Taken {
                first: 250,
                count: 2,
                offset: 250,
                unused: 0,
            };
            assert_eq!(segment.reserve(&[1; 10]), taken);
            assert_eq!(segment.reserve(&[1]), Reservation::Sealed);
        });
    }

    #[test]
    fn bytes_run_out_and_the_crosser_buries_the_rest() {
        with_segment(Segment::footprint(4096), |segment| {
            let capacity = segment.header.arena_capacity;
            assert_eq!(
                segment.reserve(&[capacity - 10]),
                Reservation::Taken {
                    first: 0,
                    count: 1,
                    offset: 0,
                    unused: 0
                }
            );
            // Three of five bodies fit; two slots are used, the rest are nobody's.
            let taken = Reservation::Taken {
                first: 1,
                count: 3,
                offset: capacity as usize - 10,
                unused: SLOTS as u32 - 4,
            };
            assert_eq!(segment.reserve(&[3, 3, 4, 1, 1]), taken);
            assert!(segment.is_sealed());
            assert_eq!(segment.reserve(&[0]), Reservation::Sealed);
        });
    }

    #[test]
    fn bare_is_what_holds_no_message() {
        with_segment(Segment::footprint(64 * SLOTS), |segment| {
            let length = segment.header.arena_capacity / 200;
            assert!(segment.is_bare());
            for used in 1..=200 {
                let _ = segment.reserve(&[length]);
                assert!(!segment.is_bare(), "{used}");
            }
            let Reservation::Taken { count: 0, unused, .. } = segment.reserve(&[2 * length]) else {
                panic!("two hundred of them fill it");
            };
            assert_eq!(segment.bury(unused), Life::Goes);
            // At some moment as many are alive as there are slots that nobody has used.
            for live in (1..=200).rev() {
                assert!(!segment.is_bare(), "{live}");
                assert_eq!(segment.bury(1), Life::Goes);
            }
            assert!(segment.is_bare());
        });
        with_segment(Segment::footprint(64 * SLOTS), |segment| {
            let half = SLOTS / 2 + 1;
            for _ in 0..half {
                let _ = segment.reserve(&[64]);
            }
            for _ in 0..half {
                assert!(!segment.is_bare());
                assert_eq!(segment.bury(1), Life::Goes);
            }
            assert!(segment.is_bare());
        });
    }

    #[test]
    fn one_byte_of_each_line_of_bodies_is_written_to() {
        with_segment(Segment::footprint(64 * SLOTS), |segment| {
            let body = [7; 100];
            for slot in 0..3 {
                let Reservation::Taken { first, offset, .. } = segment.reserve(&[100]) else {
                    panic!("there is room");
                };
                assert_eq!(first, slot);
                // SAFETY: reserved just now.
                unsafe { segment.write_inline(first, offset, &body, Millis(0)) };
            }
            // SAFETY: nobody else knows of it.
            unsafe { Segment::take_lines(NonNull::from(segment)) };
            // SAFETY: what was written above.
            let bytes = unsafe { std::slice::from_raw_parts(segment.header.arena, 300) };
            let zeroes: Vec<_> = (0..300).filter(|&at| bytes[at] == 0).collect();
            assert_eq!(zeroes, [0, 64, 128, 192, 256]);
        });
    }

    #[test]
    fn no_line_behind_what_was_given_out_is_written_to() {
        with_segment(Segment::footprint(64 * SLOTS), |segment| {
            let _ = segment.reserve(&[128, 128]);
            // SAFETY: the arena has room for it.
            unsafe { segment.header.arena.write_bytes(7, 300) };
            // SAFETY: nobody else knows of it.
            unsafe { Segment::take_lines(NonNull::from(segment)) };
            // SAFETY: what was written above.
            let bytes = unsafe { std::slice::from_raw_parts(segment.header.arena, 300) };
            assert_eq!((bytes[192], bytes[256]), (0, 7));
        });
        // More than there is has been asked for: one line more would be the next allocation's.
        let arena = 2 * 64;
        with_segment(size_of::<Segment>() + arena, |segment| {
            assert_eq!(segment.arena_bytes(), arena);
            let Reservation::Taken { count: 1, .. } = segment.reserve(&[100, 1_000]) else {
                panic!("the first one fits");
            };
            // SAFETY: the arena has that room.
            unsafe { segment.header.arena.write_bytes(7, arena) };
            // SAFETY: nobody else knows of it.
            unsafe { Segment::take_lines(NonNull::from(segment)) };
            // SAFETY: what was written above.
            let bytes = unsafe { std::slice::from_raw_parts(segment.header.arena, arena) };
            assert_eq!((bytes[0], bytes[63], bytes[64], bytes[127]), (0, 7, 0, 7));
        });
    }

    #[test]
    fn lines_of_large_bodies_are_left_alone() {
        for (length, left) in [(LINES_BODY_MAX, 0), (LINES_BODY_MAX + 1, 7)] {
            with_segment(Segment::footprint(16 * 1024), |segment| {
                let _ = segment.reserve(&[length as u32]);
                // SAFETY: the arena has room for it.
                unsafe { segment.header.arena.write(7) };
                // SAFETY: nobody else knows of it.
                unsafe { Segment::take_lines(NonNull::from(segment)) };
                // SAFETY: written above.
                assert_eq!(unsafe { segment.header.arena.read() }, left);
            });
        }
    }

    #[test]
    fn life_ends_once() {
        with_segment(Segment::footprint(64), |segment| {
            assert!(segment.hold());
            assert_eq!(segment.bury(SLOTS as u32), Life::Goes);
            assert_eq!(segment.bury(1), Life::Goes);
            assert_eq!(segment.bury(1), Life::Over);
            assert!(!segment.hold());
        });
    }
}
