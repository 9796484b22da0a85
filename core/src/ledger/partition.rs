//! One core's part of a queue: the list of segments its senders append to and its receivers take from.
//!
//! ```text
//!            head                                   tail (may lag, is helped)
//!             │                                      │
//!   passed ─▶ segment ──next──▶ segment ──next──▶ segment ──▶ null
//!     ▲
//!     └── returned: words of passed segments that have tokens again
//!
//!   index: number ─▶ segment, and its due hint        pool: spare segments
//! ```

use std::ptr::NonNull;

use crossbeam_utils::CachePadded;

use crate::{
    budget::Budget,
    clock::Millis,
    config::{
        ARENA_BODY_MAX, ARENA_FIRST, ARENA_MAX, ARENA_MIN, ARENA_STEP, BITS, SEGMENT_SPARED, SLOTS,
        TURNED_VISITS, WORDS,
    },
    extras::ExtrasDraft,
    ledger::{
        index::Index,
        pool::Pool,
        published::Published,
        reclaim::{Domain, Pin, Spread},
        returned::Returned,
        segment::{Life, Reservation, Segment},
        slot::Entry,
        state::Word,
        tenants::Tenants,
        tend::Tending,
        traffic::Traffic,
    },
    sync::{Arc, AtomicPtr, AtomicU64, Ordering, Weak, allocation_fails, shares},
};

/// One core's part of a queue.
#[derive(Debug)]
pub struct Partition {
    /// Where senders append; may lag behind the last segment, never behind `head`.
    pub tail: CachePadded<AtomicPtr<Segment>>,
    /// Where receivers take.
    pub head: CachePadded<Head>,
    /// Words to look at again, behind the head.
    pub returned: Returned,
    /// Segments and due hints by number.
    pub index: Index,
    /// When to look for what is due; see `expiry.rs`.
    pub sweep_at: CachePadded<AtomicU64>,
    /// What its memory is counted in.
    pub budget: Arc<Budget>,
    /// Who sends here.
    pub traffic: CachePadded<Traffic>,
    /// When to look for what has lapsed or can move, and from which segment number on; see `tend.rs`.
    pub(crate) tend: CachePadded<Tending>,
    /// Whose messages there are, once there are messages of message groups.
    pub(crate) tenants: Published<Tenants>,
    pool: CachePadded<Pool>,
    /// Whether its segments have links: whether it is a FIFO queue's.
    is_linked: bool,
    /// Where its serials come from, a block at a time.
    pub serials: Arc<Serials>,
    /// The serial taken last.
    serial: AtomicU64,
    /// For closures that wait for the epoch: one that held the partition would keep all its messages while it waits.
    me: Weak<Self>,
    pub(crate) number: u32,
    /// Whose epochs protect what belongs to it.
    pub domain: Domain,
    /// That one, and the shared one; see `domains`.
    domains: [Domain; 2],
}

/// The receivers' line of a partition.
#[derive(Debug)]
pub struct Head {
    /// The first segment that may have tokens never claimed before.
    pub segment: AtomicPtr<Segment>,
    /// About when the oldest message to be received was sent; `NEVER` if a receiver found none, later than in the millisecond
    /// that stands here: a receiver who keeps up with a sender finds nothing again and again, and the sender would have to put
    /// it right each time. Only steers which partition is looked at first, so it may lag either way: an answer of "empty"
    /// never rests on it.
    pub oldest: AtomicU64,
}

/// A body on its way into the ledger.
#[derive(Debug)]
pub enum Draft<'b> {
    /// To be copied into the segment's arena.
    Inline(&'b [u8]),
    /// As before, with extras behind it.
    Extended(&'b [u8], ExtrasDraft<'b>),
    /// In an allocation of its own, already counted in the budget.
    Own(Box<[u8]>),
    /// As before: so many bytes of body, and extras behind them.
    OwnExtended(Box<[u8]>, usize),
}

/// How a message enters that is more than a body sent this instant.
#[derive(Debug, Clone, Copy)]
pub struct Entrance {
    /// When it was sent, here or where it comes from.
    pub sent: Millis,
    /// Until when it is not to be received.
    pub delayed_until: Option<Millis>,
    /// How often it was received where it comes from.
    pub receives: u32,
    /// When it was first received there.
    pub first_received: Option<Millis>,
    /// Whether it is of a message group.
    pub is_grouped: bool,
}

/// A slot reserved and written, which nobody can see before it is published.
#[must_use = "reserved slots have to be published or abandoned"]
#[derive(Debug, Clone, Copy)]
pub struct Reserved<'p> {
    /// The segment it is in.
    pub segment: &'p Segment,
    /// The slot.
    pub slot: usize,
}

/// The ledger has no room, or the system has no memory: nothing more was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Where a queue's partitions take their segments' serials from: in blocks, so that a partition made where another one was
/// before begins beyond all that one's.
#[derive(Debug)]
pub struct Serials(AtomicU64);

/// Serials of a block: some 264 million messages. In explorations few, so that partitions take new ones.
const SERIAL_BLOCK: u64 = if cfg!(shuttle) { 4 } else { 1 << 20 };
// 2^28 blocks: a partition opened every second wraps them after eight years, full traffic after 228.
const _: () = assert!(cfg!(shuttle) || SERIAL_BLOCK << 28 == 1 << crate::config::SERIAL_BITS);

impl Default for Serials {
    fn default() -> Self {
        // Explorations begin where they are about to wrap.
        const BLOCKS: u64 = (1 << crate::config::SERIAL_BITS) / SERIAL_BLOCK;
        Self(AtomicU64::new(if cfg!(shuttle) { BLOCKS - 3 } else { 0 }))
    }
}

impl Serials {
    fn block(&self) -> u64 {
        // Relaxed: a counter.
        self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(SERIAL_BLOCK)
            & ((1 << crate::config::SERIAL_BITS) - 1)
    }
}

/// The longest of some bodies, in bytes.
fn longest(lengths: &[u32]) -> usize {
    lengths.iter().copied().max().unwrap_or(0) as usize
}

/// A segment in the hands of an epoch closure.
struct Retired(NonNull<Segment>);
// SAFETY: it stands for a segment nobody else can reach once the closure runs.
unsafe impl Send for Retired {}

// SAFETY: all that is shared goes through atomics, and the raw pointers lead to segments reclaimed by epochs.
unsafe impl Send for Partition {}
// SAFETY: as above.
unsafe impl Sync for Partition {}

impl Draft<'_> {
    /// The draft, leaving an empty one.
    #[inline]
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Inline(&[]))
    }

    /// A body with extras, in an allocation of its own if both are large. `None` if there is no room.
    #[must_use]
    pub fn extended<'b>(body: &'b [u8], extras: ExtrasDraft<'b>, budget: &Budget) -> Option<Draft<'b>> {
        let behind = if extras.is_empty() {
            0
        } else {
            extras.encoded_len()
        };
        let length = body.len() + behind;
        let draft = if behind == 0 {
            Draft::Inline(body)
        } else {
            Draft::Extended(body, extras)
        };
        if length <= budget.arena_body_max() {
            return Some(draft);
        }
        draft.copied(budget)
    }

    /// In an allocation of its own, if it is not small and there is room for that; otherwise as it is.
    #[must_use]
    pub fn apart(self, budget: &Budget) -> Self {
        if self.arena_bytes() as usize <= ARENA_MIN {
            return self;
        }
        self.copied(budget).unwrap_or(self)
    }

    /// A copy in an allocation of its own, of a draft that has none. `None` if there is no room.
    fn copied<'b>(&self, budget: &Budget) -> Option<Draft<'b>> {
        let (body, extras) = match self {
            Self::Inline(body) => (*body, None),
            Self::Extended(body, extras) => (*body, Some(extras)),
            Self::Own(_) | Self::OwnExtended(..) => return None,
        };
        let length = self.arena_bytes() as usize;
        if !budget.take(length) {
            return None;
        }
        let mut copy = Vec::new();
        if allocation_fails() || copy.try_reserve_exact(length).is_err() {
            budget.undo(length);
            return None;
        }
        copy.extend_from_slice(body);
        let Some(extras) = extras else {
            return Some(Draft::Own(copy.into_boxed_slice()));
        };
        copy.resize(length, 0);
        if let Some(rest) = copy.get_mut(body.len()..) {
            extras.encode(rest);
        }
        Some(Draft::OwnExtended(copy.into_boxed_slice(), body.len()))
    }

    /// Does without it after all.
    pub fn give_up(self, budget: &Budget) {
        if let Self::Own(bytes) | Self::OwnExtended(bytes, _) = self {
            budget.undo(bytes.len());
        }
    }

    /// Bytes it takes of the arena.
    #[inline]
    pub fn arena_bytes(&self) -> u32 {
        match self {
            Self::Inline(body) => body.len() as u32,
            Self::Extended(body, extras) => (body.len() + extras.encoded_len()) as u32,
            Self::Own(_) | Self::OwnExtended(..) => 0,
        }
    }
}

impl Partition {
    /// A partition with one empty segment.
    pub fn new(
        number: u32,
        budget: Arc<Budget>,
        serials: Arc<Serials>,
        is_linked: bool,
        now: Millis,
    ) -> Result<Arc<Self>, Full> {
        // First of all: what is given back when a partition goes would wake those who wait for room.
        let footprint = Self::footprint_of(ARENA_FIRST, is_linked);
        if !budget.take(footprint) {
            return Err(Full);
        }
        let domain = Spread::of(is_linked).domain(number);
        let mut partition = Self {
            me: Weak::new(),
            tail: CachePadded::new(AtomicPtr::new(std::ptr::null_mut())),
            head: CachePadded::new(Head {
                segment: AtomicPtr::new(std::ptr::null_mut()),
                oldest: AtomicU64::new(Millis::NEVER.0),
            }),
            returned: Returned::new(domain, Arc::clone(&budget)),
            index: Index::new(),
            sweep_at: CachePadded::new(AtomicU64::new(Millis::NEVER.0)),
            budget,
            traffic: CachePadded::new(Traffic::default()),
            tend: CachePadded::new(Tending::default()),
            tenants: Published::empty(),
            pool: CachePadded::new(Pool::new()),
            is_linked,
            serial: AtomicU64::new(serials.block()),
            serials,
            number,
            domain,
            domains: [domain, Domain::SHARED],
        };
        let first = partition.allocate_counted(footprint)?;
        // SAFETY: just allocated.
        unsafe { Segment::open(first, partition.serial.load(Ordering::Relaxed), now, 0) };
        // SAFETY: ours, and only read.
        partition
            .index
            .enter(first.as_ptr(), unsafe { first.as_ref() }.number());
        *partition.tail = AtomicPtr::new(first.as_ptr());
        partition.head.segment = AtomicPtr::new(first.as_ptr());
        Ok(Arc::new_cyclic(|me| {
            partition.me = Weak::clone(me);
            partition
        }))
    }

    /// Appends messages in order, as many as there is memory for: `lengths` says how much of the arena each takes, `draft`
    /// is asked for each in turn, `placed` is told each one's segment and slot.
    #[inline]
    pub fn append<'p, 'b>(
        &self,
        lengths: &[u32],
        mut draft: impl FnMut(usize) -> Draft<'b>,
        sent: Millis,
        pin: &'p Pin<'_>,
        mut placed: impl FnMut(&'p Segment, usize),
    ) -> Result<(), Full> {
        debug_assert!(pin.is_in(self.domain));
        let mut done = 0;
        // Progress: each turn reserves at least one slot, or seals a segment, or goes on from a sealed one.
        while done < lengths.len() {
            // Acquire: see the segment as opened; pairs with the Release in `grow`.
            // SAFETY: reached from `tail` under the pin; a segment is retired only after `tail` went past it.
            let segment: &'p Segment = unsafe { &*self.tail.load(Ordering::Acquire) };
            self.check_room(segment, longest(&lengths[done..]))?;
            match segment.reserve(&lengths[done..]) {
                Reservation::Taken {
                    first,
                    count,
                    mut offset,
                    unused,
                } => {
                    for (at, &length) in lengths[done..].iter().enumerate().take(count) {
                        // SAFETY: slot and bytes were reserved by us, and are published only below.
                        unsafe { Self::write(segment, first + at, offset, draft(done + at), sent) };
                        Self::make_visible(segment, first + at);
                        offset += length as usize;
                        placed(segment, first + at);
                    }
                    // Earlier than the segment was opened, if our turn has gone on for long.
                    segment.note_oldest(sent);
                    self.publish_run(segment, first, count, pin);
                    if unused > 0 {
                        self.after(segment.bury(unused), segment, pin);
                    }
                    done += count;
                }
                Reservation::Sealed => self.grow(segment, longest(lengths), sent, pin)?,
            }
        }
        self.note_sent(sent);
        Ok(())
    }

    /// Appends one message whose body goes into the arena: [`Partition::append`] without what only batches need.
    #[inline(always)]
    pub fn append_one<'p>(
        &self,
        body: &[u8],
        sent: Millis,
        pin: &'p Pin<'_>,
    ) -> Result<(&'p Segment, usize), Full> {
        debug_assert!(pin.is_in(self.domain));
        // Progress: as in `append`.
        loop {
            // Acquire, SAFETY: as in `append`.
            let segment: &'p Segment = unsafe { &*self.tail.load(Ordering::Acquire) };
            self.check_room(segment, body.len())?;
            match segment.reserve(&[body.len() as u32]) {
                Reservation::Taken {
                    first,
                    count: 1,
                    offset,
                    ..
                } => {
                    // As in `append`.
                    segment.note_oldest(sent);
                    // SAFETY: slot and bytes were reserved by us, and are published only below.
                    unsafe { segment.write_inline(first, offset, body, sent) };
                    Self::make_visible(segment, first);
                    self.publish(segment, first / BITS, 1 << (first % BITS), pin);
                    self.note_sent(sent);
                    return Ok((segment, first));
                }
                Reservation::Taken { unused, .. } => self.after(segment.bury(unused), segment, pin),
                Reservation::Sealed => self.grow(segment, body.len(), sent, pin)?,
            }
        }
    }

    /// # Safety
    /// The caller has reserved the slot and the arena bytes, and has not published them.
    #[inline]
    unsafe fn write(segment: &Segment, slot: usize, offset: usize, draft: Draft<'_>, sent: Millis) {
        match draft {
            // SAFETY: the caller's promise.
            Draft::Inline(body) => unsafe { segment.write_inline(slot, offset, body, sent) },
            // SAFETY: as above.
            Draft::Extended(body, extras) => unsafe {
                segment.write_extended(slot, offset, body, &extras, sent);
            },
            Draft::Own(body) => {
                let length = body.len();
                let start = Box::into_raw(body).cast::<u8>();
                // SAFETY: the caller's promise.
                unsafe { segment.slots[slot].write(Entry::new(start, length, true, sent)) };
            }
            Draft::OwnExtended(bytes, length) => {
                let start = Box::into_raw(bytes).cast::<u8>();
                // SAFETY: the caller's promise.
                unsafe { segment.slots[slot].write(Entry::new(start, length, true, sent).with_extras()) };
            }
        }
    }

    /// Reserves a slot for one message, and writes all but its state.
    ///
    /// # Errors
    /// The draft, if there is no room.
    #[expect(
        clippy::result_large_err,
        reason = "the draft goes back to whoever borrowed it"
    )]
    pub fn reserve_one<'p, 'b>(
        &self,
        mut draft: Draft<'b>,
        entrance: &Entrance,
        now: Millis,
        pin: &'p Pin<'_>,
    ) -> Result<Reserved<'p>, Draft<'b>> {
        debug_assert!(pin.is_in(self.domain));
        let length = draft.arena_bytes();
        // Progress: as in `append`.
        loop {
            // Acquire, SAFETY: as in `append`.
            let segment: &'p Segment = unsafe { &*self.tail.load(Ordering::Acquire) };
            if self.check_room(segment, length as usize).is_err() {
                return Err(draft);
            }
            match segment.reserve(&[length]) {
                Reservation::Taken {
                    first: slot,
                    count: 1,
                    offset,
                    ..
                } => {
                    // SAFETY: slot and bytes were reserved by us, and are published only afterwards.
                    unsafe {
                        Self::write(segment, slot, offset, draft.take(), entrance.sent);
                        segment.slots[slot].write_first_received(entrance.first_received, entrance.sent);
                    }
                    // Before the token or the state: whoever sees either sees these.
                    segment.note_oldest(entrance.sent);
                    if entrance.is_grouped {
                        segment.ready.note_groups();
                    }
                    if entrance.receives > 0 {
                        segment.ready.note_returned();
                    }
                    return Ok(Reserved { segment, slot });
                }
                Reservation::Taken { unused, .. } => self.after(segment.bury(unused), segment, pin),
                Reservation::Sealed => {
                    if let Err(Full) = self.grow(segment, length as usize, now, pin) {
                        return Err(draft);
                    }
                }
            }
        }
    }

    /// As [`Partition::reserve_one`], of a message sent just now whose body and extras go into the arena.
    #[inline]
    pub fn reserve_extended<'p>(
        &self,
        body: &[u8],
        extras: &ExtrasDraft<'_>,
        sent: Millis,
        pin: &'p Pin<'_>,
    ) -> Result<Reserved<'p>, Full> {
        debug_assert!(pin.is_in(self.domain));
        let length = (body.len() + extras.encoded_len()) as u32;
        // Progress: as in `append`.
        loop {
            // Acquire, SAFETY: as in `append`.
            let segment: &'p Segment = unsafe { &*self.tail.load(Ordering::Acquire) };
            self.check_room(segment, length as usize)?;
            match segment.reserve(&[length]) {
                Reservation::Taken {
                    first: slot,
                    count: 1,
                    offset,
                    ..
                } => {
                    // SAFETY: slot and bytes were reserved by us, and are published only afterwards.
                    unsafe { segment.write_extended(slot, offset, body, extras, sent) };
                    segment.note_oldest(sent);
                    return Ok(Reserved { segment, slot });
                }
                Reservation::Taken { unused, .. } => self.after(segment.bury(unused), segment, pin),
                Reservation::Sealed => self.grow(segment, length as usize, sent, pin)?,
            }
        }
    }

    /// Publishes what was reserved: from now on it is a message.
    pub fn publish_reserved(&self, reserved: Reserved<'_>, entrance: &Entrance, pin: &Pin<'_>) {
        let Reserved { segment, slot } = reserved;
        let place = &segment.slots[slot];
        let Ok(transition) = place
            .state_in_hand()
            .admit(entrance.receives, entrance.delayed_until)
        else {
            debug_assert!(false, "reserved a slot that is taken");
            return;
        };
        place.store(transition.next);
        match entrance.delayed_until {
            Some(due) => self.set_alarm(segment, due),
            None => {
                self.publish(segment, slot / BITS, 1 << (slot % BITS), pin);
                self.note_sent(entrance.sent);
            }
        }
    }

    /// Gives up what was reserved: nobody has seen it.
    pub fn abandon_reserved(&self, reserved: Reserved<'_>, pin: &Pin<'_>) {
        // SAFETY: reserved and written by the caller.
        let entry = unsafe { reserved.segment.slots[reserved.slot].entry() };
        self.bury_one(reserved.segment, entry, pin);
    }

    /// Stores the state of a slot reserved by the caller, whose entry is written and which is about to be published.
    #[inline]
    fn make_visible(segment: &Segment, slot: usize) {
        let slot = &segment.slots[slot];
        match slot.state_in_hand().publish(None) {
            Ok(transition) => slot.store(transition.next),
            Err(refusal) => debug_assert!(false, "reserved a slot that is {refusal:?}"),
        }
    }

    /// There is something to receive again, if a receiver had noted that there is not.
    #[inline]
    pub(crate) fn note_sent(&self, sent: Millis) {
        // Relaxed: a hint; see `Head::oldest`.
        if self.head.oldest.load(Ordering::Relaxed) == Millis::NEVER.0 {
            self.head.oldest.store(sent.0, Ordering::Relaxed);
        }
    }

    /// Notes about how old the oldest message is that is to be received here: what was taken last was sent at `sent`.
    #[inline(always)]
    pub(crate) fn note_oldest(&self, sent: Millis) {
        // Relaxed, both: a hint, see `Head::oldest`. Written at most once a millisecond, so that those who look at it
        // from other cores seldom find the line taken.
        if self.head.oldest.load(Ordering::Relaxed) != sent.0 {
            self.head.oldest.store(sent.0, Ordering::Relaxed);
        }
    }

    /// Sets the tokens of `count` slots from `first` on.
    #[inline]
    fn publish_run(&self, segment: &Segment, first: usize, count: usize, pin: &Pin<'_>) {
        let (mut from, end) = (first, first + count);
        while from < end {
            let word = from / BITS;
            let to = end.min((word + 1) * BITS);
            let tokens = (u64::MAX >> (64 - (to - from))) << (from % BITS);
            self.publish(segment, word, tokens, pin);
            from = to;
        }
    }

    /// As [`Partition::publish`], for messages that have been published before: receivers are told to look out for newer
    /// ones too.
    pub fn publish_again(&self, segment: &Segment, word: usize, tokens: u64, pin: &Pin<'_>) {
        segment.ready.note_returned();
        self.publish(segment, word, tokens, pin);
        // However young: where a receiver has noted that there is nothing, somebody shall come and look. Behind the token: a receiver
        // that notes it once more in between looks once more.
        self.note_sent(Millis(0));
    }

    /// Sets tokens in one word, and brings the word back if the head may have passed. Every way into Visible ends here.
    #[inline]
    pub fn publish(&self, segment: &Segment, word: usize, tokens: u64, pin: &Pin<'_>) {
        if segment.publish(word, tokens) {
            self.bring_back(segment, word, tokens, pin);
        }
    }

    /// Brings a passed word back on `returned`, unless nothing in the segment is alive.
    #[cold]
    #[inline(never)]
    pub fn bring_back(&self, segment: &Segment, word: usize, tokens: u64, pin: &Pin<'_>) {
        // Without a hold to be had nothing in the segment is alive: our messages were received through the head,
        // which had not gone by yet, and deleted.
        if segment.hold() {
            self.returned.push(segment, word, tokens, pin);
        }
    }

    /// Whether a body may be put in, or into the segment that has to follow: a large one that is going to be refused is not to seal a
    /// segment that has room for small ones.
    #[inline(always)]
    fn check_room(&self, segment: &Segment, bytes: usize) -> Result<(), Full> {
        if bytes > ARENA_MIN && segment.is_sealed_by(bytes) && !self.may_grow(bytes) {
            return Err(Full);
        }
        Ok(())
    }

    /// Whether there seems to be memory for a segment with such an arena. What is spare does not count: it may be of another size.
    #[cold]
    #[inline(never)]
    fn may_grow(&self, least: usize) -> bool {
        self.budget.has_room(self.footprint(least))
    }

    /// Goes on from a sealed segment: installs the next one, unless somebody has, and moves the tail. The one it makes has an
    /// arena of `least` bytes or more; one that somebody else makes has room for whatever was asked for in the sealed one, if
    /// memory is not short.
    #[cold]
    #[inline(never)]
    pub fn grow(&self, sealed: &Segment, least: usize, now: Millis, pin: &Pin<'_>) -> Result<(), Full> {
        // Acquire: see the next segment as opened; pairs with the CAS below.
        let mut next = sealed.header.next.load(Ordering::Acquire);
        let mut unused = None;
        if next.is_null() {
            let fresh = self.fresh(sealed, least, now, pin)?;
            // Release: publishes the segment as opened. Acquire on failure: sees the winner's.
            match sealed.header.next.compare_exchange(
                std::ptr::null_mut(),
                fresh.as_ptr(),
                Ordering::Release,
                Ordering::Acquire,
            ) {
                Ok(_) => next = fresh.as_ptr(),
                Err(winner) => {
                    next = winner;
                    unused = Some(fresh);
                }
            }
        }
        self.help_tail(sealed, next);
        if let Some(unused) = unused {
            // SAFETY: no list has it; the index shows it, hence the way through the epoch.
            self.retire(unsafe { unused.as_ref() }, pin);
        }
        Ok(())
    }

    fn next_serial(&self) -> u64 {
        // Relaxed, throughout: a counter.
        let mut last = self.serial.load(Ordering::Relaxed);
        // Progress: a failed CAS means that another thread took a serial.
        loop {
            let next = match (last + 1) % SERIAL_BLOCK {
                0 => self.serials.block(),
                _ => last + 1,
            };
            match self
                .serial
                .compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return next,
                Err(newer) => last = newer,
            }
        }
    }

    /// Moves the tail from `sealed` to `next`, if it is still there.
    #[inline]
    pub fn help_tail(&self, sealed: &Segment, next: *mut Segment) {
        let sealed = std::ptr::from_ref(sealed).cast_mut();
        // Release: hands on the segment that we acquired or opened. Relaxed: a failure means the tail is past it.
        let _ = self
            .tail
            .compare_exchange(sealed, next, Ordering::Release, Ordering::Relaxed);
    }

    /// A segment to follow `sealed`, entered in the index, with an arena of `least` bytes or more.
    pub fn fresh(
        &self,
        sealed: &Segment,
        least: usize,
        now: Millis,
        pin: &Pin<'_>,
    ) -> Result<NonNull<Segment>, Full> {
        // What a full segment of bodies like the last ones would take; but one large body makes no large segment yet.
        let step = (ARENA_STEP * sealed.arena_bytes()).max(2 * ARENA_BODY_MAX);
        let least = least.max(ARENA_MIN);
        // And a little less, so that 64 bytes each make 24 KiB, and not 28.
        let arena = (sealed.bytes_per_message() * SLOTS)
            .saturating_sub(SEGMENT_SPARED)
            .min(step)
            .clamp(least, ARENA_MAX);
        let footprint = self.footprint(arena);
        let segment = match self.pooled(footprint, pin) {
            Some(segment) => segment,
            None => self.allocate(arena).or_else(|full| {
                // Over the budget: what waits for the epoch may be ripe, and a smaller one may fit.
                pin.flush_in(self.domain);
                self.pooled(footprint, pin)
                    .or_else(|| {
                        [arena / 8, least]
                            .into_iter()
                            .filter(|&less| (least..arena).contains(&less))
                            .find_map(|less| self.allocate(less).ok())
                    })
                    .ok_or(full)
            })?,
        };
        // SAFETY: allocated or taken from the pool, and nobody has seen it.
        unsafe { Segment::open(segment, self.next_serial(), now, pin.worker()) };
        // SAFETY: as above. In the index before in the list: a handle made from the list must find it.
        self.index
            .enter(segment.as_ptr(), unsafe { segment.as_ref() }.number());
        Ok(segment)
    }

    /// A spare segment of about the right size. Others on the way go back to the system: traffic has changed.
    fn pooled(&self, footprint: usize, pin: &Pin<'_>) -> Option<NonNull<Segment>> {
        debug_assert!(pin.is_in(self.domain));
        // Bounded by what is in the pool.
        while let Some(segment) = self.pool.take(pin) {
            // SAFETY: taken from the pool, ours.
            let bytes = unsafe { segment.as_ref() }.bytes();
            self.budget.leave_pool(self.number, bytes);
            if (footprint..=2 * footprint).contains(&bytes) {
                return Some(segment);
            }
            // SAFETY: as above.
            let number = unsafe { segment.as_ref() }.number();
            self.index.give_number_back(number);
            // Through the epoch: another taker may still be reading its link.
            self.budget.enter_limbo(self.number, bytes);
            let (budget, segment) = (Arc::clone(&self.budget), Retired(segment));
            pin.defer_segment(self.domains(), bytes, move || {
                let segment = segment;
                // SAFETY: ours since we took it, and past the grace period of those who looked.
                unsafe { free_from_limbo(segment.0, &budget) };
            });
        }
        None
    }

    /// Gives back what it does not need, because memory has run short: segments that only stale nodes of `returned` hold,
    /// and spare ones.
    pub(crate) fn trim(&self, pin: &Pin<'_>) {
        self.turn_returned(TURNED_VISITS, pin);
        self.empty_pool(pin);
    }

    /// The serial of the segment opened last.
    pub(crate) fn last_serial(&self) -> u64 {
        // Relaxed: a counter.
        self.serial.load(Ordering::Relaxed)
    }

    /// Where those may be who look at its segments and bodies: lines lead to them too, once there are messages of message groups.
    pub(crate) fn domains(&self) -> &[Domain] {
        // The shared one last. Relaxed: who retires a message of a group has seen the message, and it was published after this was
        // set.
        let apart = usize::from(self.tenants.is_some() && self.domain != Domain::SHARED);
        &self.domains[..=apart]
    }

    /// Gives the spare segments back to the system.
    pub(crate) fn empty_pool(&self, pin: &Pin<'_>) {
        let none = self.pooled(usize::MAX / 2, pin);
        debug_assert!(none.is_none(), "no segment is that large");
    }

    fn footprint(&self, arena: usize) -> usize {
        Self::footprint_of(arena, self.is_linked)
    }

    const fn footprint_of(arena: usize, is_linked: bool) -> usize {
        let links = if is_linked { Segment::LINKS } else { 0 };
        Segment::footprint(arena + links)
    }

    fn allocate(&self, arena: usize) -> Result<NonNull<Segment>, Full> {
        let footprint = self.footprint(arena);
        if !self.budget.take(footprint) {
            return Err(Full);
        }
        self.allocate_counted(footprint)
    }

    /// As `allocate`, of memory that has been taken from the budget.
    fn allocate_counted(&self, footprint: usize) -> Result<NonNull<Segment>, Full> {
        let segment = self.index.take_number(&self.budget).and_then(|number| {
            let hint = NonNull::from(self.index.hint(number)?);
            // SAFETY: hints live as long as the index, and segments are freed before it.
            unsafe { Segment::allocate(footprint, self.is_linked, self.number, number, hint) }.or_else(|| {
                self.index.give_number_back(number);
                None
            })
        });
        segment.ok_or_else(|| {
            self.budget.undo(footprint);
            Full
        })
    }

    /// Moves the head past a segment without tokens, if the tail has gone on from it.
    ///
    /// With tokens found on the way the head stays.
    pub fn pass(&self, segment: &Segment, pin: &Pin<'_>) -> Passing {
        self.pass_by(segment, |_, _| false, pin)
    }

    /// As [`Partition::pass`], but tokens do not keep the head: they are brought back on `returned`.
    ///
    /// A token that was there before the mark is named by every passer that finds it, before it moves the head; one that
    /// comes after the mark, by its publisher. So whoever moves the head has seen to all of them, and nothing depends on
    /// another passer finishing. What is named twice leaves a stale name.
    #[cold]
    #[inline(never)]
    pub fn pass_over(&self, segment: &Segment, pin: &Pin<'_>) -> Passing {
        self.pass_by(
            segment,
            |word, tokens| {
                self.bring_back(segment, word, tokens, pin);
                true
            },
            pin,
        )
    }

    /// Moves the head past a segment, if the tail has gone on from it and `goes` agrees to each word with tokens.
    #[inline(always)]
    fn pass_by(&self, segment: &Segment, goes: impl Fn(usize, u64) -> bool, pin: &Pin<'_>) -> Passing {
        // The tail must not stay behind on a segment that may be retired, so the head stays behind it (H6). What is published behind
        // this segment was published by somebody who found the tail there. Nor does it take a look at the segment's own words,
        // which a sender writes with each message; the tail moves once in a segment.
        // Relaxed: an old tail only delays the passing; and having seen it moved, we have told of it whoever hears of us.
        if std::ptr::eq(self.tail.load(Ordering::Relaxed), segment) {
            return Passing::End;
        }
        // Acquire: see the next segment as opened; pairs with `grow`.
        let next = segment.header.next.load(Ordering::Acquire);
        if next.is_null() {
            return Passing::End;
        }
        for word in 0..WORDS {
            let tokens = segment.pass(word);
            if tokens != 0 && !goes(word, tokens) {
                return Passing::Blocked;
            }
        }
        let here = std::ptr::from_ref(segment).cast_mut();
        // Release: hands on the next segment that we acquired; pairs with the Acquire of whoever reads `head`.
        // Relaxed: a failure means that somebody else passed it.
        if self
            .head
            .segment
            .compare_exchange(here, next, Ordering::Release, Ordering::Relaxed)
            .is_ok()
        {
            // The list's hold is the winner's to drop.
            self.after(segment.bury(1), segment, pin);
        }
        Passing::Gone
    }

    /// Moves the head past segments without tokens, as receives do.
    pub fn pass_empty(&self, pin: &Pin<'_>) {
        // Progress: each turn moves the head on, or finds that somebody has.
        loop {
            let first = self.first(pin);
            if (0..WORDS).any(|word| first.tokens(word) != 0) || self.pass(first, pin) != Passing::Gone {
                return;
            }
        }
    }

    /// Whether nothing is in it that is not dead. If nobody can send to it any more, that stays so. O(segments).
    ///
    /// Segments that the head has passed may have messages in flight, delayed or come back; the index has them until they are
    /// retired. The head's segment is looked at last: what has moved out of a segment while we looked has gone there, or
    /// beyond it.
    pub fn is_drained(&self, pin: &Pin<'_>) -> bool {
        self.pass_empty(pin);
        let first = self.first(pin);
        self.has_only(first, pin) && first.is_bare()
    }

    /// Whether all other segments have been retired; what moved out of them is seen where it went.
    pub fn has_only(&self, segment: &Segment, pin: &Pin<'_>) -> bool {
        debug_assert!(pin.is_in(self.domain));
        (0..self.index.numbers()).all(|number| {
            self.index
                .find(number, pin)
                .is_none_or(|other| std::ptr::eq(other, segment))
        })
    }

    /// The segment at the head.
    #[inline]
    pub fn first<'p>(&self, pin: &'p Pin<'_>) -> &'p Segment {
        debug_assert!(pin.is_in(self.domain));
        // Acquire: see the segment as opened; pairs with the Release in `pass`.
        // SAFETY: reached from `head` under the pin; a segment is retired only after `head` went past it.
        unsafe { &*self.head.segment.load(Ordering::Acquire) }
    }

    /// Retires a segment if its life is over.
    #[inline]
    pub fn after(&self, life: Life, segment: &Segment, pin: &Pin<'_>) {
        if life == Life::Over {
            self.retire(segment, pin);
        }
    }

    /// Retires a segment that no list has and in which nothing is alive: once, by whoever brought `live` to zero.
    #[cold]
    #[inline(never)]
    pub fn retire(&self, segment: &Segment, pin: &Pin<'_>) {
        // Whoever frees it relies on us for what was done to it: in models, a look at what its senders wrote.
        #[cfg(loom)]
        segment
            .slots
            .iter()
            .for_each(crate::ledger::slot::Slot::is_acquired);
        self.index.leave(segment.number());
        let bytes = segment.bytes();
        self.budget.enter_limbo(self.number, bytes);
        let (partition, budget) = (Weak::clone(&self.me), Arc::clone(&self.budget));
        shares(std::ptr::from_ref(self));
        shares(Arc::as_ptr(&budget));
        let has_moved = segment.opener() != pin.worker();
        let segment = Retired(NonNull::from(segment));
        pin.defer_segment(self.domains(), bytes, move || {
            let segment = segment;
            shares(partition.as_ptr());
            shares(Arc::as_ptr(&budget));
            match partition.upgrade() {
                Some(partition) => partition.recycle(segment.0, has_moved),
                // SAFETY: retired once, unreachable, past its grace period: ours. The partition, gone before, has left
                // it alone, because it was not in the index any more.
                None => unsafe { free_from_limbo(segment.0, &budget) },
            }
        });
        if self.budget.is_tight() {
            pin.flush();
        }
    }

    /// A segment's grace period is over: into the pool with it, or back to the system. O(1), and O(bytes) if `has_moved`: if another
    /// worker retired it than opened it.
    fn recycle(&self, segment: NonNull<Segment>, has_moved: bool) {
        // SAFETY: retired once, unreachable, past its grace period: ours.
        let (bytes, number) = unsafe { (segment.as_ref().bytes(), segment.as_ref().number()) };
        // While it still counts as waiting: whoever waits for room is told below, and then the segment is to be had at once.
        if has_moved && self.pool.has_room(bytes) {
            // SAFETY: as above.
            unsafe { Segment::take_lines(segment) };
        }
        self.budget.leave_limbo(self.number, bytes);
        self.budget.enter_pool(self.number, bytes);
        // SAFETY: as above, and we come from the epoch.
        if let Err(segment) = unsafe { self.pool.put(segment) } {
            self.budget.leave_pool(self.number, bytes);
            // SAFETY: as above; it was not put.
            unsafe { Segment::free(segment) };
            self.index.give_number_back(number);
            self.budget.give_back(bytes);
        }
    }

    /// About how many spare segments it keeps.
    pub(crate) fn spare(&self) -> u32 {
        self.pool.count()
    }

    /// Segments entered at the moment, for diagnosis and tests: counts of slots by phase. O(segments).
    pub fn census(&self, pin: &Pin<'_>, mut each: impl FnMut(Word)) {
        debug_assert!(pin.is_in(self.domain));
        for number in 0..self.index.numbers() {
            if let Some(segment) = self.index.find(number, pin) {
                let slots = segment.reserved();
                segment
                    .slots
                    .iter()
                    .take(slots)
                    .for_each(|slot| each(slot.state()));
            }
        }
    }
}

/// Frees a segment that waited for the epoch.
///
/// # Safety
/// It is the caller's alone.
unsafe fn free_from_limbo(segment: NonNull<Segment>, budget: &Budget) {
    // SAFETY: the caller's promise.
    let (bytes, partition) = unsafe { (segment.as_ref().bytes(), segment.as_ref().fixed().partition) };
    // SAFETY: as above.
    unsafe { Segment::free(segment) };
    budget.leave_limbo(partition, bytes);
    budget.give_back(bytes);
}

/// What became of an attempt to move the head on.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// The head is past the segment.
    Gone,
    /// Tokens have come up in it: look again.
    Blocked,
    /// Nothing follows it.
    End,
}

impl Partition {
    /// Frees up to `most` segments with what is in them. Says whether those were all.
    ///
    /// # Safety
    /// Nobody operates on the partition any more, nor looks at what it holds; it is good for nothing afterwards but to be
    /// freed further.
    pub unsafe fn free_some(&self, most: usize) -> bool {
        let budget = Arc::clone(&self.budget);
        let entered = self.index.drain(most);
        let done = entered.len() < most;
        for segment in entered.into_iter().filter_map(NonNull::new) {
            // SAFETY: every operation is over, as promised. What was retired is in the index no more: it belongs to the
            // closure that waits for the epoch.
            unsafe {
                let this = segment.as_ref();
                let slots = this.reserved();
                for slot in this.slots.iter().take(slots) {
                    if !matches!(slot.state(), Word::EMPTY | Word::DEAD)
                        && let Some(body) = slot.entry().own_allocation()
                    {
                        budget.give_back(body.len());
                        drop(Box::from_raw(body));
                    }
                }
                budget.give_back(this.bytes());
                Segment::free(segment);
            }
        }
        done
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        // SAFETY: `&mut self`.
        unsafe { self.free_some(usize::MAX) };
        let (budget, pooled) = (Arc::clone(&self.budget), self.pool.drain());
        for segment in pooled {
            // SAFETY: as above.
            unsafe {
                budget.leave_pool(self.number, segment.as_ref().bytes());
                budget.give_back(segment.as_ref().bytes());
                Segment::free(segment);
            }
        }
        budget.give_back(self.index.bytes());
    }
}

#[cfg(all(test, not(any(loom, shuttle, stalls))))]
mod tests {
    use super::*;
    use crate::{
        clock::{Clock, ManualClock, Reading},
        ledger::{
            lease::{Asides, Claims, Graves, Many, Place, Terms},
            reclaim::{Collector, Local},
        },
    };

    const BODY: [u8; 64] = [7; 64];

    /// Sends from one worker, receives and deletes from another one, and says what the spare segments' lines begin with.
    fn lines_after(sender: &Local, receiver: &Local) -> Vec<u8> {
        let budget = Arc::new(Budget::new(64 << 20));
        let partition = Partition::new(0, budget, Arc::default(), false, Millis(1)).expect("room");
        for _ in 0..6 * SLOTS {
            partition
                .append_one(&BODY, Millis(1), &sender.pin())
                .expect("room");
        }
        let clock = Clock::from(&ManualClock::new());
        loop {
            let (pin, reading) = (receiver.pin(), Reading::new(&clock));
            let terms = Terms {
                visibility_ms: 1_000,
                retention_ms: u64::MAX,
                max_receives: u32::MAX,
                round: 0,
                reading: &reading,
            };
            let mut claims = Claims::new();
            let mut many = Many {
                claims: &mut claims,
                asides: Asides::new(),
            };
            partition.claim(10, &terms, &pin, &mut many);
            let mut graves = Graves::new();
            for claim in &claims {
                let fixed = claim.segment.fixed();
                let place = Place {
                    number: claim.segment.number(),
                    serial: fixed.serial,
                    slot: claim.slot,
                };
                assert!(partition.delete(place, claim.receives, &pin, &mut graves).is_ok());
            }
            graves.fill(&pin);
            if claims.is_empty() {
                break;
            }
        }
        for _ in 0..8 {
            receiver.pin().flush();
        }
        let pin = receiver.pin();
        let mut lines = Vec::new();
        while let Some(segment) = partition.pool.take(&pin) {
            // SAFETY: taken just now, and full.
            unsafe {
                let segment = segment.as_ref();
                // The partition's first one is nobody's.
                if segment.opener() != 0 {
                    // As many as there was room for.
                    let bodies = SLOTS.min(segment.arena_bytes() / BODY.len());
                    lines.extend((0..bodies).map(|at| segment.slots[at].entry().body()[0]));
                }
            }
            // SAFETY: ours, and not in the index any more.
            unsafe { Segment::free(segment) };
        }
        lines
    }

    #[test]
    fn the_lines_of_a_segment_that_another_worker_emptied_are_taken() {
        let collector = Collector::new();
        let (here, there) = (collector.register(), collector.register());
        let lines = lines_after(&here, &there);
        assert!(lines.len() >= 3 * (SLOTS - 2), "{} lines", lines.len());
        assert!(lines.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_segment_that_stays_with_its_worker_is_left_as_it_is() {
        let collector = Collector::new();
        let here = collector.register();
        let lines = lines_after(&here, &here);
        assert!(lines.len() >= 3 * (SLOTS - 2), "{} lines", lines.len());
        assert!(lines.iter().all(|&byte| byte == 7));
    }
}
