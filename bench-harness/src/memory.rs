//! Resident memory, as the kernel counts it, and allocated memory, as the allocator does.

use std::{
    alloc::{GlobalAlloc, Layout},
    fs,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering::Relaxed},
    },
};

static PURGE: OnceLock<fn()> = OnceLock::new();

/// Says how to make the allocator give back what it keeps; to be called once, by the binary, which chose the allocator.
pub fn set_purge(purge: fn()) {
    // A second call loses; the first one was as good.
    let _ = PURGE.set(purge);
}

/// Makes the allocator give back what it keeps, so that resident memory speaks of what is in use.
pub fn purge() {
    if let Some(purge) = PURGE.get() {
        purge();
    }
}

static KEEPING: OnceLock<fn(bool)> = OnceLock::new();

/// Says how to make the allocator keep what is freed, or not any more; to be called once, by the binary, which chose the allocator.
pub fn set_keeping(keeping: fn(bool)) {
    // As above.
    let _ = KEEPING.set(keeping);
}

/// As long as there is one, memory that is freed stays with the process: what is measured over and over on new queues that grow is
/// then not how fast the system clears pages. One at a time.
#[derive(Debug)]
pub struct Kept(());

impl Kept {
    /// From now on.
    pub fn begin() -> Self {
        if let Some(keeping) = KEEPING.get() {
            keeping(true);
        }
        Self(())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(keeping) = KEEPING.get() {
            keeping(false);
        }
        purge();
    }
}

/// Resident bytes of this process; `None` where `/proc` does not say.
pub fn resident_bytes() -> Option<u64> {
    field_bytes("/proc/self/status", "VmRSS:")
}

/// Bytes that could be used without swapping; `None` where `/proc` does not say.
pub fn available_bytes() -> Option<u64> {
    field_bytes("/proc/meminfo", "MemAvailable:")
}

/// Bytes of the machine; `None` where `/proc` does not say.
pub fn total_bytes() -> Option<u64> {
    field_bytes("/proc/meminfo", "MemTotal:")
}

fn field_bytes(path: &str, field: &str) -> Option<u64> {
    parse_field(&fs::read_to_string(path).ok()?, field)
}

/// The value of a line like `VmRSS:      1234 kB`.
fn parse_field(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

static INSTALLED: AtomicBool = AtomicBool::new(false);
/// Meters there are.
static COUNTING: AtomicU32 = AtomicU32::new(0);
static ASKED: AtomicI64 = AtomicI64::new(0);
static TAKEN: AtomicI64 = AtomicI64::new(0);

/// An allocator that counts bytes asked for and not given back, and those of the blocks they are in, while a [`Meter`] wants to know;
/// otherwise it costs a load and a branch that is always predicted.
#[derive(Clone, Copy, Debug)]
pub struct Counting<A> {
    /// Which does the work.
    pub allocator: A,
    /// Bytes of the block at an address that it gave out.
    pub block_bytes: unsafe fn(*const u8) -> usize,
}

impl<A> Counting<A> {
    #[inline(always)]
    fn count(&self, memory: *const u8, asked: usize, sign: i64) {
        // Relaxed, all: lone sums.
        if COUNTING.load(Relaxed) != 0 && !memory.is_null() {
            // SAFETY: the allocator's, and not given back yet.
            let taken = unsafe { (self.block_bytes)(memory) };
            ASKED.fetch_add(sign * asked as i64, Relaxed);
            TAKEN.fetch_add(sign * taken as i64, Relaxed);
        }
    }
}

// SAFETY: everything is left to the allocator inside; counting allocates nothing.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, passed on.
        let memory = unsafe { self.allocator.alloc(layout) };
        self.count(memory, layout.size(), 1);
        memory
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        self.count(memory, layout.size(), -1);
        // SAFETY: as above.
        unsafe { self.allocator.dealloc(memory, layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let memory = unsafe { self.allocator.alloc_zeroed(layout) };
        self.count(memory, layout.size(), 1);
        memory
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.count(memory, layout.size(), -1);
        // SAFETY: as above.
        let moved = unsafe { self.allocator.realloc(memory, layout, size) };
        if moved.is_null() {
            self.count(memory, layout.size(), 1);
        }
        self.count(moved, size, 1);
        moved
    }
}

/// Says that the program's allocator is a [`Counting`] one; to be called once, by the binary, which chose it.
pub fn set_counting() {
    INSTALLED.store(true, Relaxed);
}

/// Whether allocations can be counted; otherwise a [`Meter`] goes by resident memory.
pub fn is_counting() -> bool {
    INSTALLED.load(Relaxed)
}

/// Counts what is allocated from its beginning on, all threads together.
#[derive(Debug)]
pub struct Meter {
    asked: i64,
    taken: i64,
}

impl Meter {
    /// Begins to count.
    pub fn begin() -> Self {
        if !is_counting() {
            purge();
        }
        COUNTING.fetch_add(1, Relaxed);
        Self {
            asked: Self::reading(&ASKED),
            taken: Self::reading(&TAKEN),
        }
    }

    /// Bytes asked for since, less those given back.
    pub fn bytes(&self) -> i64 {
        Self::reading(&ASKED) - self.asked
    }

    /// Those of the blocks they are in, which the allocator makes of certain sizes only.
    pub fn block_bytes(&self) -> i64 {
        Self::reading(&TAKEN) - self.taken
    }

    fn reading(sum: &AtomicI64) -> i64 {
        if is_counting() {
            sum.load(Relaxed)
        } else {
            resident_bytes().unwrap_or(0) as i64
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        COUNTING.fetch_sub(1, Relaxed);
    }
}

/// Memory around a fill.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resident {
    /// Before anything was sent.
    pub before_bytes: u64,
    /// With everything queued.
    pub full_bytes: u64,
    /// After everything was deleted and the allocator was asked to give back.
    pub after_bytes: u64,
    /// The blocks that were allocated during the fill and not given back, where that is counted.
    pub allocated_bytes: Option<i64>,
}

impl Resident {
    /// What a queued message takes beyond its body: of what was allocated, where that is counted, for what is resident goes by what
    /// the allocator had left of earlier passes.
    pub fn bytes_per_message_beyond_body(&self, messages: u64, body_bytes: usize) -> Option<f64> {
        let resident = self.full_bytes as f64 - self.before_bytes as f64;
        let grown = self.allocated_bytes.map_or(resident, |bytes| bytes as f64);
        (messages > 0).then(|| grown / messages as f64 - body_bytes as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_status_lines() {
        assert_eq!(
            parse_field("Name:\tx\nVmRSS:\t   12 kB\n", "VmRSS:"),
            Some(12 * 1024)
        );
        assert_eq!(parse_field("VmRSS:\t garbage", "VmRSS:"), None);
        assert_eq!(parse_field("", "VmRSS:"), None);
    }

    #[test]
    fn beyond_the_body() {
        let resident = Resident {
            before_bytes: 1000,
            full_bytes: 11_000,
            after_bytes: 0,
            allocated_bytes: None,
        };
        assert_eq!(resident.bytes_per_message_beyond_body(100, 64), Some(36.0));
        assert_eq!(resident.bytes_per_message_beyond_body(0, 64), None);
        let counted = Resident {
            allocated_bytes: Some(8_000),
            ..resident
        };
        assert_eq!(counted.bytes_per_message_beyond_body(100, 64), Some(16.0));
    }
}
