//! Who touched which cache line last: a model of coherence traffic, in the build with `--cfg lines` alone.
//!
//! The shim notes each access to an atomic or a tracked cell, and the ledger the plain memory that others look at (bodies, a
//! segment's header). The model is one of caches without bounds: a line is held by everybody who has touched it since it
//! was last written, and by its writer. So
//!
//! * a *remote read* is a read by a worker that does not hold a line which others do: another one wrote it since, or it is new here,
//! * a *remote write* is a write (any read-modify-write, also one that fails) to a line that another one holds.
//!
//! A line nobody has touched before is remote to nobody. Everything is the calling thread's own: workers are simulated, by one
//! thread that says whose turn it is ([`act_as`]). What waits for a line is not seen, nor what a failed compare-and-swap repeats.
//!
//! The epoch crate's lines are not the shim's to see. `Epochs` repeats what crossbeam-epoch 0.9 does with them, pin by pin.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    panic::Location,
    ptr::without_provenance,
    sync::{Mutex, MutexGuard, PoisonError},
};

const LINE_BYTES: usize = 64;
/// Whoever prepares: no worker.
const NOBODY: usize = 127;

/// Most workers that can be simulated.
pub const WORKERS_MAX: usize = NOBODY;

/// What was counted at one place in one operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Reads of lines that another worker held and this one did not.
    pub remote_reads: u64,
    /// Writes to lines that another worker held.
    pub remote_writes: u64,
    /// All accesses noted.
    pub accesses: u64,
}

/// A row of what was counted.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was under way, as told by [`during`].
    pub operation: &'static str,
    /// The file of the access.
    pub file: &'static str,
    /// Its line.
    pub line: u32,
    /// What was counted there.
    pub tally: Tally,
}

#[derive(Default)]
struct Model {
    /// By number: who holds the line, a bit for each worker.
    lines: HashMap<usize, u128, BuildHasherDefault<Spread>>,
    tallies: HashMap<(&'static str, &'static Location<'static>), Tally>,
    worker: Option<usize>,
    operation: &'static str,
}

/// Line numbers need no better hash than to be spread.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_usize(byte.into());
        }
    }

    fn write_usize(&mut self, number: usize) {
        self.0 = (self.0 ^ number as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(26);
    }
}

thread_local! {
    static MODEL: RefCell<Model> = RefCell::default();
}

/// From now on this thread acts as worker `worker`, which is below [`WORKERS_MAX`]; as nobody with `None`.
pub fn act_as(worker: Option<usize>) {
    MODEL.with_borrow_mut(|model| model.worker = worker.map(|worker| worker.min(NOBODY - 1)));
}

/// From now on what is counted counts as part of `operation`.
pub fn during(operation: &'static str) {
    MODEL.with_borrow_mut(|model| model.operation = operation);
}

/// Forgets what was counted, but not who holds what.
pub fn reset() {
    MODEL.with_borrow_mut(|model| model.tallies.clear());
}

/// Forgets everything.
pub fn forget() {
    MODEL.with_borrow_mut(|model| *model = Model::default());
}

/// What was counted since [`reset`], by operation and place.
#[must_use]
pub fn rows() -> Vec<Row> {
    MODEL.with_borrow(|model| {
        let row =
            |(&(operation, place), &tally): (&(&'static str, &'static Location<'static>), &Tally)| Row {
                operation,
                file: place.file(),
                line: place.line(),
                tally,
            };
        model.tallies.iter().map(row).collect()
    })
}

/// Notes a read of what is at `place`.
#[track_caller]
#[inline]
pub(crate) fn read<T>(place: *const T) {
    note(place.addr(), size_of::<T>(), false, Location::caller());
}

/// Notes a write to what is at `place`.
#[track_caller]
#[inline]
pub(crate) fn write<T>(place: *const T) {
    note(place.addr(), size_of::<T>(), true, Location::caller());
}

/// Notes a read of `length` bytes.
#[track_caller]
#[inline]
pub(crate) fn read_bytes(place: *const u8, length: usize) {
    note(place.addr(), length, false, Location::caller());
}

/// Notes that `length` bytes are written.
#[track_caller]
#[inline]
pub(crate) fn write_bytes(place: *const u8, length: usize) {
    note(place.addr(), length, true, Location::caller());
}

fn note(address: usize, length: usize, is_write: bool, place: &'static Location<'static>) {
    // A thread that is being torn down has no model.
    let _ = MODEL.try_with(|model| {
        let mut model = model.borrow_mut();
        let model = &mut *model;
        let mine = 1_u128 << model.worker.unwrap_or(NOBODY);
        let mut tally = Tally {
            accesses: 1,
            ..Tally::default()
        };
        for line in address / LINE_BYTES..=(address + length.max(1) - 1) / LINE_BYTES {
            let holders = model.lines.entry(line).or_insert(mine);
            if is_write {
                tally.remote_writes += u64::from(*holders & !mine != 0);
                *holders = mine;
            } else {
                tally.remote_reads += u64::from(*holders & mine == 0);
                *holders |= mine;
            }
        }
        if model.worker.is_none() {
            return;
        }
        let sum = model.tallies.entry((model.operation, place)).or_default();
        sum.accesses += tally.accesses;
        sum.remote_reads += tally.remote_reads;
        sum.remote_writes += tally.remote_writes;
    });
}

/// The lines of one collector of crossbeam-epoch 0.9, touched as its `internal.rs` touches them.
///
/// A pin reads the global epoch and writes the participant's own; every 128th and every flush reads all participants' epochs, moves
/// the global one on and takes up to eight bags off a queue; a flush puts its bag on it first, 2 KiB whatever is in it.
#[derive(Debug)]
pub(crate) struct Epochs(Mutex<Global>);

thread_local! {
    /// How many collectors have been made. Of the thread's own, as the model is.
    static MADE: Cell<usize> = const { Cell::new(0) };
}

#[derive(Debug)]
struct Global {
    /// Addresses that stand for memory of another crate begin here: none is a place in a program's memory.
    next: usize,
    epoch: usize,
    head: usize,
    tail: usize,
    /// The line of each participant's epoch.
    participants: Vec<usize>,
    moment: u64,
    /// Bags by when they were sealed: where their nodes begin.
    bags: VecDeque<(u64, usize)>,
    /// The node whose `next` leads to the first bag.
    before: usize,
}

/// One participant of [`Epochs`].
#[derive(Debug)]
pub(crate) struct Participant {
    epoch: usize,
    pins: Cell<u64>,
    nested: Cell<u32>,
    closures: Cell<u32>,
}

impl Global {
    const BAG_BYTES: usize = 2064;

    fn stand_in(&mut self, bytes: usize) -> usize {
        let at = self.next;
        self.next += bytes.next_multiple_of(LINE_BYTES);
        at
    }

    fn push(&mut self) {
        let node = self.stand_in(Self::BAG_BYTES);
        write_bytes(without_provenance(node), Self::BAG_BYTES);
        read_bytes(without_provenance(self.epoch), 8);
        read_bytes(without_provenance(self.tail), 8);
        let last = self.bags.back().map_or(self.before, |&(_, node)| node);
        write_bytes(without_provenance(last), 8);
        write_bytes(without_provenance(self.tail), 8);
        self.bags.push_back((self.moment, node));
    }

    fn collect(&mut self) {
        read_bytes(without_provenance(self.epoch), 8);
        for &epoch in &self.participants {
            read_bytes(without_provenance(epoch), 8);
        }
        write_bytes(without_provenance(self.epoch), 8);
        self.moment += 1;
        for _ in 0..8 {
            read_bytes(without_provenance(self.head), 8);
            read_bytes(without_provenance(self.before), 8);
            let Some(&(sealed, node)) = self.bags.front() else {
                return;
            };
            read_bytes(without_provenance(node), LINE_BYTES);
            if self.moment < sealed + 2 {
                return;
            }
            read_bytes(without_provenance(self.tail), 8);
            write_bytes(without_provenance(self.head), 8);
            read_bytes(without_provenance(node), Self::BAG_BYTES);
            self.before = node;
            self.bags.pop_front();
        }
    }
}

impl Default for Epochs {
    fn default() -> Self {
        let mut global = Global {
            // A stretch of its own for each collector.
            next: (1 << 60) + (MADE.replace(MADE.get() + 1) << 40),
            epoch: 0,
            head: 0,
            tail: 0,
            participants: Vec::new(),
            moment: 0,
            bags: VecDeque::new(),
            before: 0,
        };
        global.epoch = global.stand_in(LINE_BYTES);
        global.head = global.stand_in(LINE_BYTES);
        global.tail = global.stand_in(LINE_BYTES);
        global.before = global.stand_in(Global::BAG_BYTES);
        Self(Mutex::new(global))
    }
}

impl Epochs {
    pub(crate) fn register(&self) -> Participant {
        let mut global = self.lock();
        let epoch = global.stand_in(LINE_BYTES);
        global.participants.push(epoch);
        Participant {
            epoch,
            pins: Cell::new(0),
            nested: Cell::new(0),
            closures: Cell::new(0),
        }
    }

    pub(crate) fn leave(&self, participant: &Participant) {
        self.lock()
            .participants
            .retain(|&epoch| epoch != participant.epoch);
    }

    pub(crate) fn pin(&self, participant: &Participant) {
        let nested = participant.nested.get();
        participant.nested.set(nested + 1);
        if nested > 0 {
            return;
        }
        let mut global = self.lock();
        read_bytes(without_provenance(global.epoch), 8);
        write_bytes(without_provenance(participant.epoch), 8);
        let pins = participant.pins.get();
        participant.pins.set(pins + 1);
        if pins.is_multiple_of(128) {
            global.collect();
        }
    }

    pub(crate) fn unpin(&self, participant: &Participant) {
        let nested = participant.nested.get();
        participant.nested.set(nested - 1);
        if nested == 1 {
            write_bytes(without_provenance(participant.epoch), 8);
        }
    }

    pub(crate) fn defer(&self, participant: &Participant) {
        let closures = participant.closures.get();
        participant.closures.set(closures + 1);
        // A full bag goes by itself.
        if closures == 64 {
            participant.closures.set(1);
            self.lock().push();
        }
    }

    pub(crate) fn flush(&self, participant: &Participant) {
        let mut global = self.lock();
        if participant.closures.replace(0) > 0 {
            global.push();
        }
        global.collect();
    }

    fn lock(&self) -> MutexGuard<'_, Global> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> (u64, u64) {
        rows().iter().fold((0, 0), |(reads, writes), row| {
            (reads + row.tally.remote_reads, writes + row.tally.remote_writes)
        })
    }

    #[test]
    fn a_line_is_remote_once_for_each_time_another_wrote_it() {
        forget();
        let place = crossbeam_utils::CachePadded::new(crate::sync::AtomicU64::new(0));
        let at = |worker| {
            act_as(Some(worker));
            during("test");
        };
        let relaxed = crate::sync::Ordering::Relaxed;
        at(0);
        place.store(1, relaxed);
        place.load(relaxed);
        assert_eq!(remote(), (0, 0), "its own");
        at(1);
        place.load(relaxed);
        place.load(relaxed);
        assert_eq!(remote(), (1, 0), "seen once");
        place.fetch_add(1, relaxed);
        place.fetch_add(1, relaxed);
        assert_eq!(remote(), (1, 1), "taken once");
        at(0);
        place.store(1, relaxed);
        assert_eq!(remote(), (1, 2), "taken back");
        reset();
        assert_eq!(remote(), (0, 0));
        act_as(None);
        place.store(1, relaxed);
        assert_eq!(remote(), (0, 0), "nobody is not counted");
    }

    #[test]
    fn each_pin_touches_its_own_line_and_every_128th_all() {
        forget();
        let epochs = Epochs::default();
        let participants: Vec<_> = (0..4).map(|_| epochs.register()).collect();
        let round = |pins: u64| {
            for _ in 0..pins {
                for (worker, participant) in participants.iter().enumerate() {
                    act_as(Some(worker));
                    epochs.pin(participant);
                    epochs.unpin(participant);
                }
            }
        };
        // The first pin collects, and so does each 128th after it.
        round(1);
        round(2);
        reset();
        round(124);
        assert_eq!(remote(), (0, 0));
        round(2);
        assert!(remote().0 >= 4 * 3, "{:?}", remote());
        act_as(None);
    }
}
