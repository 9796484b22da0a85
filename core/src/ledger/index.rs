//! From a segment's number to the segment, and to the hint when something in it is due.

use crate::{
    budget::Budget,
    config::INDEX_BITS,
    ledger::{chunks::Chunks, hint::Hint, reclaim::Pin, segment::Segment},
    sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering},
};

/// A partition's segments by number.
///
/// A number belongs to a segment object for as long as the object exists; the entry is null while the object is
/// retired or pooled. Serials, never reused, tell the object's lives apart. Hints are dense, eight to a cache line, so
/// that finding what is due among 10 million leases is a scan of 40,000 words.
#[derive(Debug)]
pub struct Index {
    segments: Chunks<Place>,
    hints: Chunks<Hint>,
    /// Numbers to be used again.
    pub free: Chunks<FreeNumbers>,
    freed: AtomicU32,
    next: AtomicU32,
    /// Up to where `drain` has come.
    drained: AtomicU32,
}

#[derive(Debug)]
struct Place(AtomicPtr<Segment>);

/// A bit per number that nothing has any more.
#[derive(Debug, Default)]
pub struct FreeNumbers(pub AtomicU64);

impl Default for Place {
    fn default() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }
}

impl Index {
    /// An empty index.
    pub fn new() -> Self {
        Self {
            segments: Chunks::new(),
            hints: Chunks::new(),
            free: Chunks::new(),
            freed: AtomicU32::new(0),
            next: AtomicU32::new(0),
            drained: AtomicU32::new(0),
        }
    }

    /// A number for a new segment object, or `None` if all 16 Mi are taken.
    pub fn take_number(&self, budget: &Budget) -> Option<u32> {
        // Relaxed: a count of what may be found, to skip a vain search.
        if self.freed.load(Ordering::Relaxed) > 0 {
            for (first, words) in self.free.chunks() {
                for (at, word) in words.iter().enumerate() {
                    // Relaxed: the CAS decides, and acquires.
                    let mut present = word.0.load(Ordering::Relaxed);
                    // Progress: a failed CAS means that another thread took or freed a number.
                    while present != 0 {
                        let without = present & (present - 1);
                        match word.0.compare_exchange_weak(
                            present,
                            without,
                            // Acquire: the last entry under the number was nulled before ours is made; pairs with
                            // `give_number_back`, whose releases survive each other and this, all of them RMWs.
                            Ordering::Acquire,
                            Ordering::Relaxed,
                        ) {
                            Ok(_) => {
                                // Relaxed: see above.
                                self.freed.fetch_sub(1, Ordering::Relaxed);
                                return u32::try_from((first + at) * 64)
                                    .ok()
                                    .map(|n| n + present.trailing_zeros());
                            }
                            Err(newer) => present = newer,
                        }
                    }
                }
            }
        }
        // Relaxed: a counter. Whoever lowers this number's hint comes after us, through the segment's link: a waiter that looks
        // for the earliest hint without this one will be seen by him, see `wait.rs`.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if number >> INDEX_BITS != 0 {
            self.next.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.segments
            .get_or_grow(number as usize, |bytes| budget.force(bytes))?;
        self.hints
            .get_or_grow(number as usize, |bytes| budget.force(bytes))?;
        self.free
            .get_or_grow(number as usize / 64, |bytes| budget.force(bytes))?;
        Some(number)
    }

    /// Gives back the number of a segment object that no longer exists.
    pub fn give_number_back(&self, number: u32) {
        if let Some(word) = self.free.get(number as usize / 64) {
            // Release: the new owner comes after all the old one did; pairs with `take_number`.
            word.0.fetch_or(1 << (number % 64), Ordering::Release);
            // Relaxed: see `take_number`.
            self.freed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Makes a segment findable by its number.
    pub fn enter(&self, segment: *const Segment, number: u32) {
        if let Some(place) = self.segments.get(number as usize) {
            // Release: see the segment as opened; pairs with `find`.
            place.0.store(segment.cast_mut(), Ordering::Release);
        }
    }

    /// Makes a segment about to be retired unfindable. Its hint stays as it is: too low costs one sweep, while
    /// resetting it could wipe the next life's.
    pub fn leave(&self, number: u32) {
        if let Some(place) = self.segments.get(number as usize) {
            // Release: who finds nothing here sees where the segment's last messages have moved; pairs with `find`.
            place.0.store(std::ptr::null_mut(), Ordering::Release);
        }
    }

    /// The segment that has this number now.
    #[inline]
    pub fn find<'p>(&self, number: u32, _pin: &'p Pin<'_>) -> Option<&'p Segment> {
        // Acquire: see the segment as opened; pairs with `enter`, and with `leave`.
        let segment = self.segments.get(number as usize)?.0.load(Ordering::Acquire);
        // SAFETY: entered segments are alive; they leave before they are retired, and we are pinned in their domain: `Partition` asks for it.
        (!segment.is_null()).then(|| unsafe { &*segment })
    }

    /// A segment's due hint.
    #[inline]
    pub fn hint(&self, number: u32) -> Option<&Hint> {
        self.hints.get(number as usize)
    }

    /// Numbers in use lie below this.
    pub fn numbers(&self) -> u32 {
        // Relaxed: a segment taken into use this instant has no lease whose sweep could be missed for long.
        self.next.load(Ordering::Relaxed)
    }

    /// The hints from `from` on, in order, with their numbers.
    pub fn hints_from(&self, from: u32) -> impl Iterator<Item = (u32, &Hint)> {
        let (from, end) = (from as usize, self.numbers() as usize);
        self.hints.chunks().flat_map(move |(first, hints)| {
            let (low, high) = (
                from.clamp(first, first + hints.len()),
                end.clamp(first, first + hints.len()),
            );
            hints[low - first..high.max(low) - first]
                .iter()
                .enumerate()
                .map(move |(at, hint)| ((low + at) as u32, hint))
        })
    }

    /// Up to `most` of the segments entered, which are not afterwards. For whoever frees them all.
    pub fn drain(&self, most: usize) -> Vec<*mut Segment> {
        // Relaxed, throughout: nobody else operates here any more; each entry is taken by one.
        let from = self.drained.load(Ordering::Relaxed) as usize;
        let mut taken = Vec::new();
        let places = self.segments.chunks().flat_map(|(first, places)| {
            let begun = from.clamp(first, first + places.len()) - first;
            (first + begun..).zip(&places[begun..])
        });
        for (number, place) in places {
            if taken.len() == most {
                self.drained.store(number as u32, Ordering::Relaxed);
                break;
            }
            let segment = place.0.swap(std::ptr::null_mut(), Ordering::Relaxed);
            if !segment.is_null() {
                taken.push(segment);
            }
        }
        taken
    }

    /// Memory of the tables themselves, in bytes.
    pub fn bytes(&self) -> usize {
        self.segments.bytes() + self.hints.bytes() + self.free.bytes()
    }
}
