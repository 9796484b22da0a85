//! Epoch reclamation: collector, domains, per-worker registration, pin, retire. The only file that names the epoch crate.
//!
//! One collector per broker, so that no other crate's pins can hold our memory back. It has up to 64 *domains*, with epochs of their
//! own: partition 3 of each standard queue is in domain 3, partition 67 too, and what partitions share is in the last. A worker at
//! home pins its partition's domain and no other: so whoever moves that domain's epoch on, as each 128th pin tries to, reads no line
//! that other workers at home write to. With one domain for all it reads one of each worker.
//!
//! A pin begins in the domain it is likely to need, and [enters](Pin::enter) others as it comes to their partitions. Two rules make
//! that safe. What belongs to a partition is looked at by those who have entered its domain, and retired [there](Pin::defer).
//! What can be found without having entered any particular domain (eras, routes, tables) is retired
//! [everywhere](Pin::defer_everywhere): a pin of any domain protects it.
//!
//! What is retired must be unreachable from every root (head, tail, returned, index) *before* it is handed over here; it is
//! then freed or reused once every thread pinned there at that time has unpinned. (I6)
//!
//! Under loom the collector is a graveyard: it frees nothing before the model is over. The hand-overs that decide
//! *when* something is retired are what most models explore. With `--cfg crossbeam_loom` besides, it is the real one, for those
//! that are about what happens to it then.

use crate::config::DOMAINS;

/// Whose epochs protect a partition's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Domain(u32);

impl Domain {
    /// Of what the partitions of a queue share: tenants' lines, and all that a FIFO queue has. The last one; where there are so
    /// many cores, a partition of each standard queue is in it too.
    pub const SHARED: Self = Self(DOMAINS as u32 - 1);
}

/// Which domains a queue's partitions are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    mask: u32,
    base: u32,
}

impl Spread {
    /// Each in its own.
    pub const APART: Self = Self {
        mask: DOMAINS as u32 - 1,
        base: 0,
    };
    /// All in the shared one.
    pub const TOGETHER: Self = Self {
        mask: 0,
        base: Domain::SHARED.0,
    };

    /// Of a queue, which may be a FIFO queue.
    #[must_use]
    pub const fn of(is_fifo: bool) -> Self {
        if is_fifo { Self::TOGETHER } else { Self::APART }
    }

    /// Where the partition of this number is. No look at the partition: that would be one more line, and one more wait for it.
    #[inline]
    #[must_use]
    pub const fn domain(self, partition: u32) -> Domain {
        Domain(partition & self.mask | self.base)
    }
}

const _: () = assert!(DOMAINS.is_power_of_two());

#[cfg(any(not(loom), crossbeam_loom))]
mod imp {
    use std::{
        cell::{Cell, OnceCell},
        fmt,
        ptr::NonNull,
        rc::Rc,
    };

    use super::Domain;
    #[cfg(any(test, loom))]
    use super::Spread;
    use crate::{
        config::{DOMAINS, SEGMENT_SPARED},
        sync::{Arc, AtomicPtr, AtomicU32, Mutex, Ordering, fence},
    };

    /// Retired bytes that a worker keeps to itself at most before it hands them to the collector.
    const FLUSH_BYTES: usize = 256 * 1024;
    /// The same where there are segments among them, which are wanted back soon: four of 24 KiB, or one large one. Each one
    /// at once would cost cores at home 5 % of their speed, for the flush meets other workers' lines; many more would
    /// come back cold.
    const SEGMENTS_BYTES: usize = 4 * (24 * 1024 - SEGMENT_SPARED);
    /// Workers registered in a domain per retirement between two flushes: a flush walks over all of them.
    const LOCALS_PER_RETIRE: u32 = 32;
    /// Pins in which a closure is run that nobody is pinned against: as many steps as it is away from that, and one.
    const STEPS: usize = 4;
    /// Occasions on which another domain is looked after once.
    const OCCASIONS: u32 = 16;
    /// Closures in a full bag of the epoch crate's: the next one hands it over.
    const BAG: u32 = 64;
    /// Domains by number, as bits.
    type Set = u64;
    const _: () = assert!(DOMAINS <= Set::BITS as usize);

    /// One broker's epochs.
    #[derive(Debug, Clone)]
    pub struct Collector {
        domains: Arc<Domains>,
    }

    /// Each is made when the first worker comes to it: it takes 3 KiB.
    struct Domains {
        all: [AtomicPtr<Epochs>; DOMAINS],
        registered: AtomicU32,
    }

    /// The epochs of one domain. Two lines apart from others: the processor fetches lines in pairs.
    #[derive(Debug, Default)]
    #[repr(align(128))]
    struct Epochs {
        collector: crossbeam_epoch::Collector,
        locals: AtomicU32,
        /// Closures that were handed over and have not run yet: not those a worker has kept to itself so far, which nobody else can run.
        /// Too low or too high by less than a bag, until the worker fills or hands over the next one, where the collector's own closures
        /// are in it too: they make a bag full before we count it, and after that the rest is counted though the worker keeps it.
        waiting: AtomicU32,
        #[cfg(lines)]
        lines: crate::lines::Epochs,
    }

    /// One worker's registration with a collector.
    pub struct Local {
        /// Each is made when the worker first comes to the domain, and stays where it is.
        places: Rc<[OnceCell<Place>; DOMAINS]>,
        domains: Arc<Domains>,
        /// That of the domain it has entered last, where the next pin begins: kept ready, for the pin waits for it.
        last: Cell<NonNull<Place>>,
        /// Domains to whose closures it has added since it handed them over.
        filled: Cell<Set>,
        /// The domain looked after last for others.
        cared: Cell<u32>,
        /// Looks after the next one so far, and those in vain in a row.
        looks: Cell<u32>,
        in_vain: Cell<usize>,
        number: u32,
        retired: Cell<u32>,
        bytes: Cell<usize>,
        /// Counts the occasions to look after another domain, and which.
        occasions: Cell<u32>,
    }

    /// One worker's registration in one domain.
    struct Place {
        domain: u32,
        handle: crossbeam_epoch::LocalHandle,
        /// Held while any pin of the worker is in the domain that did not begin there.
        guard: Cell<Option<crossbeam_epoch::Guard>>,
        /// How many those are. As wide as never to come round again, even if every turn was forgotten.
        pins: Cell<u64>,
        /// Closures added since it handed them over.
        kept: Cell<u32>,
        #[cfg(lines)]
        lines: crate::lines::Participant,
    }

    /// While it lives, nothing is freed or reused that was reachable in a domain when it entered that.
    pub struct Pin<'l> {
        guard: crossbeam_epoch::Guard,
        entered: Entered<'l>,
    }

    /// The domains a pin is in. Apart from its guard, which stays in registers where nobody is handed the pin.
    struct Entered<'l> {
        /// Where it began.
        first: u32,
        /// The others.
        others: Cell<Set>,
        local: &'l Local,
    }

    /// Runs a closure when its last share is dropped.
    struct Last<F: FnOnce()>(Mutex<Option<F>>);

    impl<F: FnOnce()> Drop for Last<F> {
        fn drop(&mut self) {
            let free = self
                .0
                .get_mut()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .take();
            if let Some(free) = free {
                free();
            }
        }
    }

    impl Collector {
        /// New epochs.
        #[must_use]
        pub fn new() -> Self {
            Self {
                domains: Arc::new(Domains {
                    all: std::array::from_fn(|_| AtomicPtr::new(std::ptr::null_mut())),
                    registered: AtomicU32::new(0),
                }),
            }
        }

        /// Registers the calling thread's worker.
        #[cfg(any(test, loom))]
        #[must_use]
        pub fn register(&self) -> Local {
            self.register_in(Spread::APART.domain(0))
        }

        /// Registers the calling thread's worker, whose first pin is to begin in this domain.
        #[must_use]
        pub fn register_in(&self, domain: Domain) -> Local {
            let places = Rc::new([const { OnceCell::new() }; DOMAINS]);
            let first = places[domain.0 as usize].get_or_init(|| self.domains.place(domain.0));
            Local {
                domains: Arc::clone(&self.domains),
                last: Cell::new(NonNull::from(first)),
                places,
                filled: Cell::new(0),
                cared: Cell::new(0),
                looks: Cell::new(0),
                in_vain: Cell::new(0),
                // Relaxed: a counter.
                number: self
                    .domains
                    .registered
                    .fetch_add(1, Ordering::Relaxed)
                    .wrapping_add(1),
                retired: Cell::new(0),
                bytes: Cell::new(0),
                occasions: Cell::new(0),
            }
        }
    }

    impl Default for Collector {
        fn default() -> Self {
            Self::new()
        }
    }

    impl Domains {
        /// One that is there.
        fn find(&self, domain: u32) -> Option<&Epochs> {
            // Acquire: see it as made; pairs with the Release of `make`.
            let epochs = self.all[domain as usize].load(Ordering::Acquire);
            // SAFETY: made by `make` from a box, and freed with `self`.
            unsafe { epochs.as_ref() }
        }

        /// One that is made now if it is not there.
        fn get(&self, domain: u32) -> &Epochs {
            self.find(domain).unwrap_or_else(|| self.make(domain))
        }

        #[cold]
        fn make(&self, domain: u32) -> &Epochs {
            let made = Box::into_raw(Box::<Epochs>::default());
            // Release: publishes it. Acquire on failure: see another one's.
            let epochs = match self.all[domain as usize].compare_exchange(
                std::ptr::null_mut(),
                made,
                Ordering::Release,
                Ordering::Acquire,
            ) {
                Ok(_) => made,
                Err(other) => {
                    // SAFETY: made above, and shown to nobody.
                    drop(unsafe { Box::from_raw(made) });
                    other
                }
            };
            // SAFETY: as in `find`.
            unsafe { &*epochs }
        }

        /// Those there are, with their numbers.
        fn made(&self) -> impl Iterator<Item = (u32, &Epochs)> {
            (0..DOMAINS as u32).filter_map(|domain| Some((domain, self.find(domain)?)))
        }

        /// Another worker's registration in a domain.
        #[cold]
        #[inline(never)]
        fn place(&self, domain: u32) -> Place {
            let epochs = self.get(domain);
            // Relaxed: a count for the flush rule; an old value flushes a little too often or too seldom.
            epochs.locals.fetch_add(1, Ordering::Relaxed);
            Place {
                domain,
                handle: epochs.collector.register(),
                guard: Cell::new(None),
                pins: Cell::new(0),
                kept: Cell::new(0),
                #[cfg(lines)]
                lines: epochs.lines.register(),
            }
        }
    }

    impl Drop for Domains {
        fn drop(&mut self) {
            for epochs in &self.all {
                // Relaxed: `&mut self`, nobody else is here.
                let epochs = epochs.load(Ordering::Relaxed);
                if !epochs.is_null() {
                    // SAFETY: made by `make` from a box, and nobody else is here. The collector is taken out first: closures that it
                    // runs now still count beside where it was, of which no reference is made before they all have. Then the box
                    // goes, in the collector's place a new one.
                    unsafe {
                        drop((&raw mut (*epochs).collector).replace(crossbeam_epoch::Collector::new()));
                        drop(Box::from_raw(epochs));
                    }
                }
            }
        }
    }

    impl Epochs {
        /// How many closures wait for somebody to move the epoch on.
        fn waiting(&self) -> u32 {
            // Relaxed: who looks for something to be done sees an old value a little longer.
            let waiting = self.waiting.load(Ordering::Relaxed);
            waiting.cast_signed().max(0).cast_unsigned()
        }

        /// Puts `free` into the worker's bag, which has been counted if it is full.
        fn defer(&self, place: &Place, guard: &crossbeam_epoch::Guard, free: impl FnOnce() + Send + 'static) {
            place.kept.set(place.kept.get() + 1);
            let waiting = Waiting(NonNull::from(&self.waiting));
            guard.defer(move || {
                free();
                let waiting = waiting;
                // Relaxed: see `waiting`.
                // SAFETY: closures are run by the collector's registrations, and by the last of them or the collector itself, when
                // that goes. All registrations are a `Local`'s, which gives its share in the domains up behind them, or made and
                // dropped under one; the collector is dropped before the count beside it.
                unsafe { waiting.0.as_ref() }.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }

    /// A domain's count in the hands of a closure.
    struct Waiting(NonNull<AtomicU32>);
    // SAFETY: an atomic.
    unsafe impl Send for Waiting {}

    impl Local {
        /// Pins the epoch of the domain that was entered last; 3 to 5 ns, 2 if this worker is pinned there already.
        #[inline]
        #[must_use]
        pub fn pin(&self) -> Pin<'_> {
            // SAFETY: one of `places`, which are never cleared or moved, and live as long as this does.
            let place = unsafe { self.last.get().as_ref() };
            Pin {
                guard: self.pin_at(place),
                entered: Entered {
                    first: place.domain,
                    others: Cell::new(0),
                    local: self,
                },
            }
        }

        /// Has the next pin begin in this domain.
        #[inline]
        pub fn expect(&self, domain: Domain) {
            // SAFETY: as in `pin`.
            if unsafe { self.last.get().as_ref() }.domain != domain.0 {
                self.last.set(NonNull::from(self.place(domain.0)));
            }
        }

        /// Its registration in a domain, made now if there is none.
        #[inline]
        fn place(&self, domain: u32) -> &Place {
            self.places[domain as usize].get_or_init(|| self.domains.place(domain))
        }

        #[inline]
        fn pin_at(&self, place: &Place) -> crossbeam_epoch::Guard {
            #[cfg(lines)]
            self.domains.get(place.domain).lines.pin(&place.lines);
            place.handle.pin()
        }

        /// Hands over what this worker has retired, and has all that waits in any domain go through the epochs as far as other
        /// workers let it; and this one, if it is in a turn: then an epoch moves one step at most, and a closure waits for two.
        /// O(domains + workers of those in which something waits).
        pub fn settle(&self) {
            self.drive_all(STEPS);
        }

        fn drive_all(&self, steps: usize) {
            self.bytes.set(0);
            self.retired.set(0);
            let filled = self.filled.take();
            for (domain, epochs) in self.domains.made() {
                if filled & 1 << domain != 0 || epochs.waiting() > 0 {
                    // Registered for good, should it not have been here before. A registration is garbage of its domain afterwards,
                    // some 4 KiB with its last bag: one for each look would heap up where somebody keeps the epoch still.
                    let place = self.place(domain);
                    (0..steps).for_each(|_| self.flush_in(place));
                }
            }
        }

        /// An occasion to look after domains in which nothing may happen any more: each sixteenth looks at one of those there are, one
        /// after the other, but for those that are flushed anyway. Where something waits, each occasion goes on there until nothing does
        /// any more, or four times in a row nothing has become less, or sixteen times at most. Each one all the time would bring back the
        /// reads of others' lines that domains are there to save.
        pub fn look_after_others(&self, flushed: Set) {
            let occasion = self.occasions.get().wrapping_add(1);
            self.occasions.set(occasion);
            if occasion.is_multiple_of(OCCASIONS) {
                self.look_after_another(flushed);
            }
        }

        #[cold]
        #[inline(never)]
        fn look_after_another(&self, flushed: Set) {
            let cared = self.cared.get();
            let next = (1..=DOMAINS as u32)
                .map(|steps| (cared + steps) % DOMAINS as u32)
                .find_map(|domain| Some((domain, self.domains.find(domain)?)));
            let Some((domain, epochs)) = next else { return };
            let before = epochs.waiting();
            if before > 0 && flushed & 1 << domain == 0 {
                let place = self.place(domain);
                let told = self.tell(place);
                self.flush_in(place);
                let after = epochs.waiting();
                // A closure waits for two steps of the epoch: at first nothing becomes less.
                let in_vain = if after < before + told {
                    0
                } else {
                    self.in_vain.get() + 1
                };
                let looks = self.looks.get() + 1;
                if after > 0 && in_vain < STEPS && looks < OCCASIONS {
                    self.looks.set(looks);
                    self.in_vain.set(in_vain);
                    self.occasions.set(self.occasions.get().wrapping_sub(1));
                    return;
                }
            }
            self.looks.set(0);
            self.in_vain.set(0);
            self.cared.set(domain);
        }

        /// Hands over what it has added to a domain's closures, and has what waits there go a step through the epochs.
        fn flush_in(&self, place: &Place) {
            let domain = place.domain;
            self.filled.set(self.filled.get() & !(1 << domain));
            self.tell(place);
            #[cfg(lines)]
            self.domains.get(domain).lines.flush(&place.lines);
            place.handle.pin().flush();
        }

        /// Counts what it is about to hand over, and says how much.
        fn tell(&self, place: &Place) -> u32 {
            let kept = place.kept.take();
            if kept > 0 {
                // Relaxed: see `Epochs::waiting`.
                let waiting = &self.domains.get(place.domain).waiting;
                waiting.fetch_add(kept, Ordering::Relaxed);
            }
            kept
        }
    }

    impl Drop for Local {
        fn drop(&mut self) {
            for place in self.places.iter().filter_map(OnceCell::get) {
                // With its registration, a worker's bag goes to the collector.
                self.tell(place);
                let epochs = self.domains.get(place.domain);
                // Relaxed: see `Domains::place`.
                epochs.locals.fetch_sub(1, Ordering::Relaxed);
                #[cfg(lines)]
                epochs.lines.leave(&place.lines);
            }
        }
    }

    impl Entered<'_> {
        /// As [`Entered::add`]; the next pin is to begin there.
        #[cold]
        #[inline(never)]
        fn come_to(&self, domain: u32) {
            self.add(domain);
            self.local.last.set(NonNull::from(self.local.place(domain)));
        }

        #[inline(never)]
        fn add(&self, domain: u32) {
            let others = self.others.get();
            if domain == self.first || others & 1 << domain != 0 {
                return;
            }
            let place = self.local.place(domain);
            let pins = place.pins.get();
            if pins == 0 {
                place.guard.set(Some(self.local.pin_at(place)));
            }
            place.pins.set(pins + 1);
            self.others.set(others | 1 << domain);
        }

        #[cold]
        #[inline(never)]
        fn leave(&self) {
            let mut others = self.others.take();
            while others != 0 {
                let domain = others.trailing_zeros();
                others &= others - 1;
                let place = self.local.place(domain);
                let pins = place.pins.get() - 1;
                place.pins.set(pins);
                if pins == 0 {
                    drop(place.guard.take());
                    #[cfg(lines)]
                    self.local.unpin_lines(domain);
                }
            }
        }
    }

    impl Drop for Entered<'_> {
        #[inline]
        fn drop(&mut self) {
            if self.others.get() != 0 {
                self.leave();
            }
            #[cfg(lines)]
            self.local.unpin_lines(self.first);
        }
    }

    #[cfg(lines)]
    impl Local {
        fn unpin_lines(&self, domain: u32) {
            self.domains.get(domain).lines.unpin(&self.place(domain).lines);
        }
    }

    impl Pin<'_> {
        /// Which registration's it is; they are counted from 1.
        #[inline]
        #[must_use]
        pub fn worker(&self) -> u32 {
            self.entered.local.number
        }

        /// Protects what is found in this domain from now on.
        #[inline(always)]
        pub fn enter(&self, domain: Domain) {
            // Where a turn has been before, the next pin need not begin.
            if !self.is_in(domain) {
                self.entered.come_to(domain.0);
            }
        }

        /// As [`Pin::enter`], of a domain that is come to besides: the next pin does not begin there.
        #[inline]
        pub fn enter_besides(&self, domain: Domain) {
            self.entered.add(domain.0);
        }

        /// As [`Pin::enter_besides`], of all there are: so that nothing is run on the way in where the caller is about to take a lock.
        #[cold]
        pub fn enter_everywhere(&self) {
            for (domain, _) in self.entered.local.domains.made() {
                self.entered.add(domain);
            }
        }

        /// Whether it has entered this domain.
        #[inline]
        #[must_use]
        pub fn is_in(&self, domain: Domain) -> bool {
            domain.0 == self.entered.first || self.entered.others.get() & 1 << domain.0 != 0
        }

        /// Runs `free` once no thread that is in one of `domains` now is so any more. `bytes` is what it will free.
        ///
        /// `free` must be short, for it runs inside some other operation's pin. The longest of a queue in use writes to each line of a
        /// segment, some 16 µs for a quarter of a mebibyte, and 60 where it is a core far away that has read them (reckoned from 4 and
        /// 15 ns a line). Longer ones are of partitions that are taken away, with what they keep spare.
        #[inline]
        pub fn defer(&self, domains: &[Domain], bytes: usize, free: impl FnOnce() + Send + 'static) {
            match domains {
                &[domain] => self.hand_over(domain.0, free),
                _ => {
                    let last = Arc::new(Last(Mutex::new(Some(free))));
                    for domain in domains {
                        let share = Arc::clone(&last);
                        self.hand_over(domain.0, move || drop(share));
                    }
                }
            }
            let bytes = self.entered.local.bytes.get() + bytes;
            self.entered.local.bytes.set(bytes);
            if bytes >= FLUSH_BYTES {
                self.flush();
            }
        }

        #[inline]
        fn hand_over(&self, domain: u32, free: impl FnOnce() + Send + 'static) {
            // Who retires need not have been there before.
            self.entered.add(domain);
            let (local, epochs) = (self.entered.local, self.entered.local.domains.get(domain));
            #[cfg(lines)]
            epochs.lines.defer(&local.place(domain).lines);
            local.filled.set(local.filled.get() | 1 << domain);
            let place = local.place(domain);
            if place.kept.get() == BAG {
                local.tell(place);
            }
            if domain == self.entered.first {
                epochs.defer(place, &self.guard, free);
            } else {
                // Pinned already: no more than a count.
                epochs.defer(place, &place.handle.pin(), free);
            }
        }

        /// As [`Pin::defer`], for a segment: it is wanted back soon.
        ///
        /// crossbeam keeps up to 64 closures in a bag of the thread's own. Unflushed, 64 dead segments would stay hidden
        /// there and every new one would come cold from the system. A flush hands on a whole bag, 2 KiB, however few
        /// closures are in it, and walks over all workers of the domain: too dear for anything smaller than a segment.
        pub fn defer_segment(&self, domains: &[Domain], bytes: usize, free: impl FnOnce() + Send + 'static) {
            self.defer(domains, bytes, free);
            let retired = self.entered.local.retired.get() + 1;
            self.entered.local.retired.set(retired);
            let all = &self.entered.local.domains;
            // Relaxed: see `Domains::place`.
            let locals = |domain: &Domain| all.get(domain.0).locals.load(Ordering::Relaxed);
            let locals = domains.iter().map(locals).max().unwrap_or(0);
            if self.entered.local.bytes.get() >= SEGMENTS_BYTES && retired > locals / LOCALS_PER_RETIRE {
                self.flush();
            }
        }

        /// Runs `free` once no thread that is pinned now, in whatever domain, is so any more. For what is found without entering
        /// any particular one. Flushes nothing, for the caller may hold a lock; any pin may run closures, and so those take none of
        /// the locks under which something is retired. They wake those who wait for room, whose wakers are not ours: see
        /// [`Pin::enter_everywhere`]. O(domains), all of which are entered.
        #[cold]
        pub fn defer_everywhere(&self, bytes: usize, free: impl FnOnce() + Send + 'static) {
            let last = Arc::new(Last(Mutex::new(Some(free))));
            // SeqCst: a domain that is made after this is pinned after it, with a fence of the pin's own, and whoever is in it finds
            // gone what is being retired. Those made before are seen here.
            fence(Ordering::SeqCst);
            let local = self.entered.local;
            for (domain, _) in local.domains.made() {
                let share = Arc::clone(&last);
                self.hand_over(domain, move || drop(share));
            }
            local.bytes.set(local.bytes.get() + bytes);
        }

        /// Lets go and pins anew, where it began.
        pub fn repin(&mut self) {
            self.entered.leave();
            self.guard.repin();
        }

        /// Hands what this worker has retired to the collector, and frees what is ripe there and where it began.
        #[cold]
        #[inline(never)]
        pub fn flush(&self) {
            self.flush_all(1 << self.entered.first);
        }

        /// As [`Pin::flush`], for what is ripe in a domain that it is in.
        #[cold]
        #[inline(never)]
        pub fn flush_in(&self, domain: Domain) {
            self.flush_all(1 << domain.0);
        }

        fn flush_all(&self, ripe: Set) {
            self.entered.local.bytes.set(0);
            self.entered.local.retired.set(0);
            let local = self.entered.local;
            let mut domains = local.filled.get() | ripe;
            local.look_after_others(domains);
            while domains != 0 {
                let domain = domains.trailing_zeros();
                domains &= domains - 1;
                local.flush_in(local.place(domain));
            }
        }

        /// As [`Local::settle`], one step of it: those who are short of memory come again.
        #[cold]
        pub fn settle(&self) {
            self.entered.local.drive_all(1);
        }
    }

    impl fmt::Debug for Domains {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_list().entries(self.made()).finish()
        }
    }

    impl fmt::Debug for Local {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "Local({})", self.number)
        }
    }

    impl fmt::Debug for Pin<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "Pin({:?})", self.entered.local)
        }
    }

    #[cfg(all(test, not(any(loom, shuttle, stalls))))]
    mod tests {
        use super::*;

        /// Retires some closures that add one each to a count.
        fn retire(local: &Local, domain: u32, closures: u32, freed: &Arc<AtomicU32>) {
            let pin = local.pin();
            for _ in 0..closures {
                let freed = Arc::clone(freed);
                pin.defer(&[Domain(domain)], 0, move || {
                    freed.fetch_add(1, Ordering::Relaxed);
                });
            }
        }

        /// The same, handed over, and ripe as soon as somebody moves the epoch on.
        fn leave(collector: &Collector, domain: u32, closures: u32, freed: &Arc<AtomicU32>) {
            let (local, other) = (collector.register(), collector.register_in(Domain(domain)));
            let pin = other.pin();
            retire(&local, domain, closures, freed);
            local.settle();
            assert_eq!(freed.load(Ordering::Relaxed), 0);
            drop(pin);
        }

        #[test]
        fn full_bags_count_as_waiting() {
            let (collector, freed) = (Collector::new(), Arc::default());
            let (local, other) = (collector.register(), collector.register());
            let pin = other.pin();
            retire(&local, 0, 200, &freed);
            assert_eq!(collector.domains.get(0).waiting(), 3 * BAG);
            drop(pin);
            other.settle();
            assert_eq!(freed.load(Ordering::Relaxed), 3 * BAG, "whoever looks sees them");
            local.settle();
            assert_eq!(freed.load(Ordering::Relaxed), 200);
            assert_eq!(collector.domains.get(0).waiting(), 0);
        }

        #[test]
        fn who_looks_after_a_domain_stays_while_that_helps() {
            let (collector, freed) = (Collector::new(), Arc::default());
            leave(&collector, 2, 10, &freed);
            let caring = collector.register();
            let occasions = (1..1_000).find(|_| {
                caring.look_after_others(0);
                freed.load(Ordering::Relaxed) == 10
            });
            // The sixteenth, and one or two more.
            assert!(
                occasions.is_some_and(|occasions| (OCCASIONS..OCCASIONS + 3).contains(&occasions)),
                "{occasions:?}"
            );
        }

        /// Occasions until somebody has done with the domain it came to first.
        fn occasions_at_one(collector: &Collector) -> u32 {
            let caring = collector.register();
            let occasions = (1..1_000).find(|_| {
                caring.look_after_others(0);
                caring.cared.get() == 1
            });
            occasions.expect("it goes on")
        }

        #[test]
        fn what_is_flushed_anyway_is_not_looked_after() {
            let (collector, freed) = (Collector::new(), Arc::default());
            leave(&collector, 1, 10, &freed);
            let caring = collector.register();
            for _ in 0..10 * OCCASIONS {
                caring.look_after_others(1 << 1);
            }
            assert_eq!(freed.load(Ordering::Relaxed), 0);
        }

        #[test]
        fn who_looks_after_a_domain_in_vain_goes_on() {
            let (collector, freed) = (Collector::new(), Arc::default());
            let stuck = collector.register_in(Domain(1));
            let pin = stuck.pin();
            let adding = collector.register();
            retire(&adding, 1, 10, &freed);
            adding.settle();
            assert_eq!(occasions_at_one(&collector), OCCASIONS + STEPS as u32 - 1);
            drop(pin);
        }

        #[test]
        fn who_looks_after_a_domain_with_much_to_do_goes_on() {
            let (collector, freed) = (Collector::new(), Arc::default());
            let stuck = collector.register_in(Domain(1));
            let pin = stuck.pin();
            let adding = collector.register();
            // A flush frees eight bags.
            for _ in 0..1_000 {
                retire(&adding, 1, 1, &freed);
                adding.flush_in(adding.place(1));
            }
            drop(pin);
            assert_eq!(occasions_at_one(&collector), 2 * OCCASIONS - 1);
            let freed = freed.load(Ordering::Relaxed);
            assert!(freed > 0 && freed < 1_000, "{freed}");
        }

        #[test]
        fn a_flush_frees_what_others_left_in_that_domain() {
            let (collector, freed) = (Collector::new(), Arc::default());
            let (_, local) = (leave(&collector, 1, 10, &freed), collector.register());
            (0..STEPS).for_each(|_| local.pin().flush());
            assert_eq!(freed.load(Ordering::Relaxed), 0, "elsewhere");
            for _ in 0..STEPS {
                local.expect(Domain(0));
                let pin = local.pin();
                pin.enter(Domain(1));
                pin.flush_in(Domain(1));
            }
            assert_eq!(freed.load(Ordering::Relaxed), 10);
        }
    }
}

#[cfg(all(loom, not(crossbeam_loom)))]
mod imp {
    use std::{fmt, marker::PhantomData};

    use super::Domain;
    use crate::sync::{Arc, Mutex};

    type Burial = Box<dyn FnOnce() + Send>;

    /// Keeps what is retired until the last of its handles is gone, at the end of a model.
    #[derive(Clone, Default)]
    pub struct Collector {
        graves: Arc<Graves>,
    }

    #[derive(Default)]
    struct Graves(Mutex<Vec<Burial>>);

    impl Drop for Graves {
        fn drop(&mut self) {
            loop {
                let burials = std::mem::take(
                    self.0
                        .get_mut()
                        .unwrap_or_else(std::sync::PoisonError::into_inner),
                );
                if burials.is_empty() || std::thread::panicking() {
                    break;
                }
                burials.into_iter().for_each(|free| free());
            }
        }
    }

    /// A registration.
    #[derive(Debug)]
    pub struct Local {
        collector: Collector,
    }

    /// A pin.
    #[derive(Debug)]
    pub struct Pin<'l> {
        collector: Collector,
        local: PhantomData<&'l Local>,
    }

    impl Collector {
        /// A new graveyard.
        #[must_use]
        pub fn new() -> Self {
            Self::default()
        }

        /// A registration.
        #[must_use]
        pub fn register(&self) -> Local {
            Local {
                collector: self.clone(),
            }
        }

        /// A registration.
        #[must_use]
        pub fn register_in(&self, _domain: Domain) -> Local {
            self.register()
        }

        /// How many things were retired so far.
        #[must_use]
        pub fn retired(&self) -> usize {
            self.graves.0.lock().map_or(0, |graves| graves.len())
        }
    }

    impl Local {
        /// Nothing to do.
        pub fn expect(&self, _domain: Domain) {}

        /// Nothing to do.
        pub fn settle(&self) {}

        /// Nothing to do.
        pub fn look_after_others(&self, _flushed: u64) {}

        /// A pin.
        #[must_use]
        pub fn pin(&self) -> Pin<'_> {
            Pin {
                collector: self.collector.clone(),
                local: PhantomData,
            }
        }
    }

    impl Pin<'_> {
        /// As if there was one worker.
        #[must_use]
        pub fn worker(&self) -> u32 {
            1
        }

        /// Everything is in one domain.
        pub fn enter(&self, _domain: Domain) {}

        /// Everything is in one domain.
        pub fn enter_besides(&self, _domain: Domain) {}

        /// Everything is in one domain.
        pub fn enter_everywhere(&self) {}

        /// Always.
        #[must_use]
        pub fn is_in(&self, _domain: Domain) -> bool {
            true
        }

        /// Keeps `free` for the end of the model.
        pub fn defer(&self, _domains: &[Domain], _bytes: usize, free: impl FnOnce() + Send + 'static) {
            if let Ok(mut graves) = self.collector.graves.0.lock() {
                graves.push(Box::new(free));
            }
        }

        /// As [`Pin::defer`].
        pub fn defer_segment(&self, domains: &[Domain], bytes: usize, free: impl FnOnce() + Send + 'static) {
            self.defer(domains, bytes, free);
        }

        /// As [`Pin::defer`].
        pub fn defer_everywhere(&self, bytes: usize, free: impl FnOnce() + Send + 'static) {
            self.defer(&[], bytes, free);
        }

        /// Nothing to do.
        pub fn settle(&self) {}

        /// Nothing to do.
        pub fn repin(&mut self) {}

        /// Nothing to do.
        pub fn flush(&self) {}

        /// Nothing to do.
        pub fn flush_in(&self, _domain: Domain) {}
    }

    impl fmt::Debug for Collector {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "Collector({} retired)", self.retired())
        }
    }
}

pub use imp::{Collector, Local, Pin};
