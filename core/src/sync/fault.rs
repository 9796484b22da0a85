//! What goes wrong on purpose in explorations: steps of the ledger that are done wrong, to show that this is noticed, and
//! allocations that fail.

use std::cell::Cell;

/// A step done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A lease given up sets no token.
    TokenForgotten,
    /// A sweep takes a segment's due hint after it has looked at the slots.
    HintTakenLate,
    /// A publisher looks for `PASSED` before it sets its token.
    PassedByLoad,
    /// A node taken off `returned` drops two holds.
    HoldDroppedTwice,
    /// A waiter that goes keeps its notification.
    WakeKept,
    /// A waiter looks first, and listens then.
    ListensLate,
    /// Who hands a group's baton back does not look into the inbox.
    InboxIgnored,
    /// A large body that is freed is not given back to the budget.
    BudgetForgotten,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::TokenForgotten,
        Self::HintTakenLate,
        Self::PassedByLoad,
        Self::HoldDroppedTwice,
        Self::WakeKept,
        Self::ListensLate,
        Self::InboxIgnored,
        Self::BudgetForgotten,
    ];
}

// An exploration is one thread of the machine.
thread_local! {
    static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
    /// One allocation in so many fails; 0: none. And the state of the random numbers that say which.
    static ALLOCATIONS: Cell<(u64, u64)> = const { Cell::new((0, 1)) };
}

/// What is done wrong by this thread's explorations from now on.
pub fn set(fault: Option<Fault>) {
    FAULT.set(fault);
}

/// Has one allocation in `one_in` fail from now on, which ones depending on the seed; none if it is zero.
pub fn fail_allocations(one_in: u64, seed: u64) {
    ALLOCATIONS.set((one_in, seed | 1));
}

/// Whether this step is done wrong.
pub(crate) fn is(fault: Fault) -> bool {
    FAULT.get() == Some(fault)
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
