//! Epoch reclamation: collector, per-worker registration, pin, retire. The only file that names the epoch crate.
//!
//! One collector per broker, so that no other crate's pins can hold our memory back. What is retired must be
//! unreachable from every root (head, tail, returned, index) *before* it is handed over here; it is then freed or
//! reused once every thread pinned at that time has unpinned. (I6)
//!
//! Under loom the collector is a graveyard: it frees nothing before the model is over. The hand-overs that decide
//! *when* something is retired are what most models explore. With `--cfg crossbeam_loom` besides, it is the real one, for those
//! that are about what happens to it then.

#[cfg(any(not(loom), crossbeam_loom))]
mod imp {
    use std::cell::Cell;

    use crate::sync::{Arc, AtomicU32, Ordering};

    /// Retired bytes that a worker keeps to itself at most before it hands them to the collector.
    const FLUSH_BYTES: usize = 256 * 1024;
    /// The same where there are segments among them, which are wanted back soon: four of 24 KiB, or one large one. Each one
    /// at once would cost cores at home 5 % of their speed, for the flush meets other workers' lines; many more would
    /// come back cold.
    const SEGMENTS_BYTES: usize = 96 * 1024;
    /// Registered workers per retirement between two flushes: a flush walks over all of them.
    const LOCALS_PER_RETIRE: u32 = 32;

    /// One broker's epochs.
    #[derive(Debug, Clone, Default)]
    pub struct Collector {
        epochs: crossbeam_epoch::Collector,
        locals: Arc<AtomicU32>,
        registered: Arc<AtomicU32>,
        #[cfg(lines)]
        lines: Arc<crate::lines::Epochs>,
    }

    /// One worker's registration with a collector.
    #[derive(Debug)]
    pub struct Local {
        handle: crossbeam_epoch::LocalHandle,
        number: u32,
        locals: Arc<AtomicU32>,
        retired: Cell<u32>,
        bytes: Cell<usize>,
        #[cfg(lines)]
        lines: (Arc<crate::lines::Epochs>, crate::lines::Participant),
    }

    /// While it lives, nothing that was reachable when it was made is freed or reused.
    #[derive(Debug)]
    pub struct Pin<'l> {
        guard: crossbeam_epoch::Guard,
        local: &'l Local,
    }

    impl Collector {
        /// New epochs.
        #[must_use]
        pub fn new() -> Self {
            Self::default()
        }

        /// Registers the calling thread's worker.
        #[must_use]
        pub fn register(&self) -> Local {
            // Relaxed: a count for the flush rule; an old value flushes a little too often or too seldom.
            self.locals.fetch_add(1, Ordering::Relaxed);
            Local {
                handle: self.epochs.register(),
                // Relaxed: a counter.
                number: self.registered.fetch_add(1, Ordering::Relaxed).wrapping_add(1),
                locals: Arc::clone(&self.locals),
                retired: Cell::new(0),
                bytes: Cell::new(0),
                #[cfg(lines)]
                lines: (Arc::clone(&self.lines), self.lines.register()),
            }
        }
    }

    impl Local {
        /// Pins the epoch; 3 to 5 ns, 2 if this worker is pinned already.
        #[inline]
        #[must_use]
        pub fn pin(&self) -> Pin<'_> {
            #[cfg(lines)]
            self.lines.0.pin(&self.lines.1);
            Pin {
                guard: self.handle.pin(),
                local: self,
            }
        }
    }

    impl Drop for Local {
        fn drop(&mut self) {
            // Relaxed: see `register`.
            self.locals.fetch_sub(1, Ordering::Relaxed);
            #[cfg(lines)]
            self.lines.0.leave(&self.lines.1);
        }
    }

    #[cfg(lines)]
    impl Drop for Pin<'_> {
        fn drop(&mut self) {
            self.local.lines.0.unpin(&self.local.lines.1);
        }
    }

    impl Pin<'_> {
        /// Which registration's it is; they are counted from 1.
        #[inline]
        #[must_use]
        pub fn worker(&self) -> u32 {
            self.local.number
        }

        /// Runs `free` once no thread pinned now is pinned any more. `bytes` is what it will free.
        ///
        /// `free` must be short, for it runs inside some other operation's pin: the longest writes to each line of a segment, some 16 µs
        /// for a quarter of a mebibyte, and 60 where it is a core far away that has read them (reckoned from 4 and 15 ns a line).
        #[inline]
        pub fn defer(&self, bytes: usize, free: impl FnOnce() + Send + 'static) {
            #[cfg(lines)]
            self.local.lines.0.defer(&self.local.lines.1);
            self.guard.defer(free);
            let bytes = self.local.bytes.get() + bytes;
            self.local.bytes.set(bytes);
            if bytes >= FLUSH_BYTES {
                self.flush();
            }
        }

        /// As [`Pin::defer`], for a segment: it is wanted back soon.
        ///
        /// crossbeam keeps up to 64 closures in a bag of the thread's own. Unflushed, 64 dead segments would stay hidden
        /// there and every new one would come cold from the system. A flush hands on a whole bag, 2 KiB, however few
        /// closures are in it, and walks over all workers: too dear for anything smaller than a segment.
        pub fn defer_segment(&self, bytes: usize, free: impl FnOnce() + Send + 'static) {
            self.defer(bytes, free);
            let retired = self.local.retired.get() + 1;
            self.local.retired.set(retired);
            // Relaxed: see `register`.
            if self.local.bytes.get() >= SEGMENTS_BYTES
                && retired > self.local.locals.load(Ordering::Relaxed) / LOCALS_PER_RETIRE
            {
                self.flush();
            }
        }

        /// Lets go and pins anew, unless this worker has another pin.
        pub fn repin(&mut self) {
            self.guard.repin();
        }

        /// Hands what this worker has retired to the collector, and frees what is ripe.
        #[cold]
        #[inline(never)]
        pub fn flush(&self) {
            self.local.bytes.set(0);
            self.local.retired.set(0);
            #[cfg(lines)]
            self.local.lines.0.flush(&self.local.lines.1);
            self.guard.flush();
        }
    }
}

#[cfg(all(loom, not(crossbeam_loom)))]
mod imp {
    use std::{fmt, marker::PhantomData};

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

        /// How many things were retired so far.
        #[must_use]
        pub fn retired(&self) -> usize {
            self.graves.0.lock().map_or(0, |graves| graves.len())
        }
    }

    impl Local {
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

        /// Keeps `free` for the end of the model.
        pub fn defer(&self, _bytes: usize, free: impl FnOnce() + Send + 'static) {
            if let Ok(mut graves) = self.collector.graves.0.lock() {
                graves.push(Box::new(free));
            }
        }

        /// As [`Pin::defer`].
        pub fn defer_segment(&self, bytes: usize, free: impl FnOnce() + Send + 'static) {
            self.defer(bytes, free);
        }

        /// Nothing to do.
        pub fn repin(&mut self) {}

        /// Nothing to do.
        pub fn flush(&self) {}
    }

    impl fmt::Debug for Collector {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "Collector({} retired)", self.retired())
        }
    }
}

pub use imp::{Collector, Local, Pin};
