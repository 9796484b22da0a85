//! One message's place: its state word and its entry. The only place that reads or writes an entry or a body.

use crate::{
    clock::Millis,
    config::VISIBILITY_MAX,
    extras::Extras,
    ledger::{group::Group, state::Word},
    sync::{AtomicU64, Ordering, UnsafeCell, reads_bytes},
};

/// One message's place in a segment: 32 bytes.
///
/// Access rules:
/// 1. `entry` and the body it points to are written by the sender that reserved the slot, before it sets the slot's
///    ready bit; never again until the segment is reused after its grace period.
/// 2. They are read by whoever took the slot's token (the claim's Acquire pairs with the publish's Release), by whoever
///    was handed the slot by such a one, and by whoever has loaded a state with Acquire that is neither Empty nor Dead
///    (`look.rs`, `tend.rs`), for as long as the epoch is pinned.
/// 3. `state` is written as `state.rs` says of each transition.
/// 4. `received` is written by the token's holder, before the state word that makes the receive known.
#[derive(Debug)]
#[repr(C, align(32))]
pub struct Slot {
    state: AtomicU64,
    received: AtomicU64,
    entry: UnsafeCell<Entry>,
}

/// What a sender writes about a message, once.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The body's first byte, in the segment's arena or in an allocation of its own.
    body: *const u8,
    /// `own allocation:1 | extras:1 | length:21 | sent_ms:41`; the length is the body's alone.
    meta: u64,
}

const SENT_BITS: u32 = 41;
const LENGTH_BITS: u32 = 21;
const OWN_ALLOCATION: u64 = 1 << 63;
const EXTRAS: u64 = 1 << 62;

// The longest body's length fits, and the clock's last moment.
const _: () = assert!(crate::config::BODY_MAX < 1 << LENGTH_BITS);
const _: () = assert!(Millis::MAX.as_millis() < 1 << SENT_BITS);
// The figure the memory budget of the README rests on.
const _: () = assert!(crate::config::TINY || size_of::<Slot>() == 32);

impl Entry {
    /// An entry for a body of `length` bytes at `body`; `own` if the body has an allocation of its own.
    #[inline]
    pub fn new(body: *const u8, length: usize, own: bool, sent: Millis) -> Self {
        debug_assert!(length < 1 << LENGTH_BITS);
        let own = if own { OWN_ALLOCATION } else { 0 };
        Self {
            body,
            meta: own | (length as u64) << SENT_BITS | sent.as_millis(),
        }
    }

    /// As it is, with a block of extras right behind the body.
    #[must_use]
    pub fn with_extras(self) -> Self {
        Self {
            meta: self.meta | EXTRAS,
            ..self
        }
    }

    /// What was laid in the slot, if no message is in it: a group, and a note; see `group/laid.rs`.
    ///
    /// # Safety
    /// The state says that something was laid, and the caller may read the entry.
    pub unsafe fn laid(self) -> (*const Group, usize) {
        (self.body.cast(), self.length())
    }

    /// Whether body and extras are no more than bytes in the arena: no extras, and no allocation to free.
    #[inline]
    pub fn is_plain(self) -> bool {
        self.meta & (OWN_ALLOCATION | EXTRAS) == 0
    }

    /// The body's length in bytes.
    #[inline]
    pub fn length(self) -> usize {
        (self.meta >> SENT_BITS) as usize & ((1 << LENGTH_BITS) - 1)
    }

    /// When the message was sent.
    #[inline]
    pub fn sent(self) -> Millis {
        Millis::new(self.meta & ((1 << SENT_BITS) - 1))
    }

    /// The allocation of its own that body and extras have, if they have one.
    ///
    /// # Safety
    /// As for [`Entry::body`].
    #[inline]
    pub unsafe fn own_allocation(self) -> Option<*mut [u8]> {
        if self.meta & OWN_ALLOCATION == 0 {
            return None;
        }
        // SAFETY: the caller's promise.
        let extras = unsafe { self.extras() }.map_or(0, <[u8]>::len);
        Some(std::ptr::slice_from_raw_parts_mut(
            self.body.cast_mut(),
            self.length() + extras,
        ))
    }

    /// The body and what is right behind it.
    ///
    /// # Safety
    /// As for [`Entry::body`].
    pub unsafe fn body_and_extras<'p>(self) -> &'p [u8] {
        // SAFETY: as in `body` and `extras`: both were written, one behind the other, in one allocation.
        unsafe {
            let extras = self.extras().map_or(0, <[u8]>::len);
            std::slice::from_raw_parts(self.body, self.length() + extras)
        }
    }

    /// The block of extras behind the body, if there is one.
    ///
    /// # Safety
    /// As for [`Entry::body`].
    #[inline]
    pub unsafe fn extras<'p>(self) -> Option<&'p [u8]> {
        if self.meta & EXTRAS == 0 {
            return None;
        }
        // SAFETY: the sender wrote a block behind the body (rule 1), which begins with its own length.
        unsafe {
            let block = self.body.add(self.length());
            let length = Extras::length(block.cast::<[u8; Extras::HEADER]>().read());
            Some(std::slice::from_raw_parts(block, length))
        }
    }

    /// The body.
    ///
    /// # Safety
    /// 1. The entry was read under rule 2 of [`Slot`].
    /// 2. The caller stays pinned for `'p`.
    #[inline]
    pub unsafe fn body<'p>(self) -> &'p [u8] {
        reads_bytes(self.body, self.length());
        // SAFETY: the sender wrote `length` bytes at `body` before it published (rule 1), the reader saw that (1), and
        // neither arena nor own allocation is freed or reused before every thread pinned now has unpinned (2).
        unsafe { std::slice::from_raw_parts(self.body, self.length()) }
    }
}

/// When a message was received first, and when last.
///
/// `last:26 | first:38`. First in milliseconds after it was sent, plus one, so that zero says never: 8 years. Last as
/// the lowest bits of the moment: it is asked for only while the lease begun then is running, which is less than 12
/// hours, and 26 bits tell moments within 18 hours apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received(u64);

const FIRST_BITS: u32 = 38;
const LAST_BITS: u32 = 26;

// The fields fill the word, and a lease's age fits.
const _: () = assert!(FIRST_BITS + LAST_BITS == 64);
const _: () = assert!(VISIBILITY_MAX.as_millis() + 1 < 1 << LAST_BITS);

impl Received {
    const NEVER: Self = Self(0);
    const FIRST_MASK: u64 = (1 << FIRST_BITS) - 1;

    /// The receive times after one more receive, at `now`.
    #[inline]
    fn again(self, is_first: bool, sent: Millis, now: Millis) -> Self {
        let first = if is_first {
            let after = now.as_millis().saturating_sub(sent.as_millis()) + 1;
            if after < Self::FIRST_MASK {
                after
            } else {
                Self::FIRST_MASK
            }
        } else {
            self.0 & Self::FIRST_MASK
        };
        Self(now.as_millis() << FIRST_BITS | first)
    }

    /// When the message was first received.
    pub fn first(self, sent: Millis) -> Option<Millis> {
        let first = self.0 & Self::FIRST_MASK;
        (first > 0).then(|| Millis::new(sent.as_millis() + first - 1))
    }

    /// When the last lease began, if that is less than 18 hours ago at `now`.
    pub fn last_within(self, now: Millis) -> Millis {
        let age = now.as_millis().wrapping_sub(self.0 >> FIRST_BITS) & ((1 << LAST_BITS) - 1);
        Millis::new(now.as_millis().saturating_sub(age))
    }

    /// When the lease began that is still running at `now`.
    pub fn last(self, now: Millis) -> Millis {
        let age = now.as_millis().wrapping_sub(self.0 >> FIRST_BITS) & ((1 << LAST_BITS) - 1);
        // A reading from before the claim: the difference wraps to more than the age of any lease.
        let age = if age > VISIBILITY_MAX.as_millis() as u64 + 1 {
            0
        } else {
            age
        };
        Millis::new(now.as_millis().saturating_sub(age))
    }
}

impl Slot {
    /// A slot without a message.
    pub fn new() -> Self {
        Self {
            state: AtomicU64::new(Word::EMPTY.to_bits()),
            received: AtomicU64::new(Received::NEVER.0),
            entry: UnsafeCell::new(Entry {
                body: std::ptr::null(),
                meta: 0,
            }),
        }
    }

    /// The state word.
    #[inline]
    pub fn state(&self) -> Word {
        // Acquire: what the writer of this state did before it (the receive times, the entry) is visible to whoever
        // acts on it. Pairs with the Release of `store`, which goes on through the swaps behind it.
        Word::from_bits(self.state.load(Ordering::Acquire))
    }

    /// The state word, for the holder of the token.
    #[inline]
    pub fn state_in_hand(&self) -> Word {
        // Relaxed: the token came by an Acquire RMW on the ready word, from somebody who stored this state before.
        Word::from_bits(self.state.load(Ordering::Relaxed))
    }

    /// Writes a state as reserver or holder of the token.
    #[inline]
    pub fn store(&self, next: Word) {
        // Release: whoever acts on this state sees the receive times stored before it. Pairs with `state`.
        self.state.store(next.to_bits(), Ordering::Release);
    }

    /// Writes `next` if the state still is `present`, which the caller has read by [`Slot::state`]; otherwise says what it is now.
    ///
    /// Who swaps a state passes on what came with it, and adds nothing: receive times and links are written by whoever stores.
    #[inline]
    pub fn swap_state(&self, present: Word, next: Word) -> Result<(), Word> {
        // Relaxed, both. `present` was acquired, and a word that has come back to it since came back by swaps, or by stores of
        // who wrote nothing: a lease raises the receive count, so no word of before it comes again. What was released by a store
        // goes on through this read-modify-write. A newer word that is acted on after a failure is one of the same lease; but for a
        // sweep, which then asks the receive times, perhaps older ones, how long the lease was: a sum that only steers.
        self.state
            .compare_exchange(
                present.to_bits(),
                next.to_bits(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .map(drop)
            .map_err(Word::from_bits)
    }

    /// Takes over when a message was first received in its life before, in another queue or segment.
    ///
    /// # Safety
    /// As for [`Slot::write`], after it.
    pub unsafe fn write_first_received(&self, first: Option<Millis>, sent: Millis) {
        if let Some(first) = first {
            let received = Received::NEVER.again(true, sent, first);
            // Relaxed: as in `write`.
            self.received.store(received.0, Ordering::Relaxed);
        }
    }

    /// Writes the entry of a message about to be published.
    ///
    /// # Safety
    /// The caller has reserved the slot and not yet set its ready bit (rule 1).
    #[inline]
    pub unsafe fn write(&self, entry: Entry) {
        // Relaxed: nobody looks before the publish, whose Release covers it.
        self.received.store(Received::NEVER.0, Ordering::Relaxed);
        // SAFETY: by reservation this thread alone may touch the cell until it publishes.
        self.entry.with_mut(|cell| unsafe { cell.write(entry) });
    }

    /// The entry.
    ///
    /// # Safety
    /// The caller holds or held the slot's token, or was handed the slot by one who did, or has seen it neither Empty nor
    /// Dead, and is still pinned (rule 2).
    #[inline]
    pub unsafe fn entry(&self) -> Entry {
        // SAFETY: written before the publish that the token's Acquire has seen; not written again while pinned.
        self.entry.with(|cell| unsafe { cell.read() })
    }

    /// Demands that whatever was written here happened before this, as whoever frees the slot has to know.
    #[cfg(loom)]
    pub fn is_acquired(&self) {
        self.entry.with(|_| ());
    }

    /// When the message was received so far.
    #[inline]
    pub fn received(&self) -> Received {
        // Relaxed: ordered by the state word; see `set_received`.
        Received(self.received.load(Ordering::Relaxed))
    }

    /// Notes a receive at `now` of a message sent at `sent`; for the holder of the token, before it stores the state.
    #[inline]
    pub fn set_received(&self, receives_before: u32, sent: Millis, now: Millis) {
        let received = self.received().again(receives_before == 0, sent, now);
        // Relaxed: made visible by the Release store of the state word that follows.
        self.received.store(received.0, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn receive_times_survive_packing() {
        let sent = Millis::new(1 << 40);
        let mut received = Received::NEVER;
        assert_eq!(received.first(sent), None);
        let mut now = sent;
        for (count, pause) in [0, 1, 43_200_000, 1 << 26, 1 << 32, 1 << 36]
            .into_iter()
            .enumerate()
        {
            now = Millis::new(now.as_millis() + pause);
            received = received.again(count == 0, sent, now);
            assert_eq!(received.first(sent), Some(sent));
            for age in [0, 1, 1000, 43_200_000] {
                assert_eq!(received.last(Millis::new(now.as_millis() + age)), now);
            }
        }
        let late = Millis::new(sent.as_millis() + (1 << 37));
        assert_eq!(Received::NEVER.again(true, sent, late).first(sent), Some(late));
        // Before it was sent: clocks of two cores may differ by a tick.
        assert_eq!(
            Received::NEVER.again(true, sent, Millis::new(5)).first(sent),
            Some(sent)
        );
    }
}
