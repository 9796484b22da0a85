//! When something in a segment is due, as far as anybody needs to know.

use crate::{
    clock::Millis,
    sync::{AtomicU64, Ordering},
};

/// The earliest moment at which something in the segment may be due; `NEVER` if nothing is.
///
/// May be too low (costs one sweep), never too high but for a claimer or sweeper that has not finished (I5).
#[derive(Debug)]
pub struct Hint(AtomicU64);

impl Default for Hint {
    fn default() -> Self {
        Self(AtomicU64::new(Millis::NEVER.0))
    }
}

impl Hint {
    /// Lowers the hint to `due`. A claimer does it after it stored its leases, always: looking first whether the hint
    /// is low enough already would lose the deadline to a sweep that has taken the hint and passed our slot. (H4)
    #[inline]
    pub fn lower(&self, due: Millis) {
        // Release: the sweep which takes this hint sees our leases; pairs with `take`. An RMW also for the look for somebody's
        // alarm that follows, see `wait.rs`.
        self.0.fetch_min(due.0, Ordering::Release);
    }

    /// Takes the hint off, before looking at the leases; what remains is put back with [`Hint::lower`].
    pub fn take(&self) -> Millis {
        // Acquire: sees the leases of every claimer that lowered it before; pairs with `lower`. A claimer that lowers it later
        // rests on nothing that we did before.
        Millis(self.0.swap(Millis::NEVER.0, Ordering::Acquire))
    }

    /// The hint as it stands.
    #[inline]
    pub fn look(&self) -> Millis {
        // Relaxed: only says where to look; `take` synchronises.
        Millis(self.0.load(Ordering::Relaxed))
    }
}
