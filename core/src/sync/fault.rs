//! Allocations that fail, in explorations.

use std::cell::Cell;

// An exploration is one thread of the machine.
thread_local! {
    /// One allocation in so many fails; 0: none. And the state of the random numbers that say which.
    static ALLOCATIONS: Cell<(u64, u64)> = const { Cell::new((0, 1)) };
}

/// Has one allocation in `one_in` fail from now on, which ones depending on the seed; none if it is zero.
pub fn fail_allocations(one_in: u64, seed: u64) {
    ALLOCATIONS.set((one_in, seed | 1));
}

pub(crate) fn allocation_fails() -> bool {
    let (one_in, mut x) = ALLOCATIONS.get();
    if one_in == 0 {
        return false;
    }
    // Xorshift.
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    ALLOCATIONS.set((one_in, x));
    (x >> 16).is_multiple_of(one_in)
}
