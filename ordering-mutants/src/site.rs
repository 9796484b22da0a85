//! The places at which an ordering is written, and what weaker ones are legal there.

use serde::{Deserialize, Serialize};

/// One ordering, or one fence, or one hand-over whose halves can change places.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// Relative to the workspace.
    pub(crate) file: String,
    /// The function it is in, with its type.
    pub(crate) function: String,
    /// What is done to which word, such as `live.fetch_sub`; unique in its function.
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) kind: Kind,
    /// The text of the function, which a verdict is good for.
    pub(crate) function_text: String,
    /// Why no model can reach it; otherwise it is compiled for loom.
    pub(crate) not_compiled: Option<String>,
    /// Where in the file its text stands.
    pub(crate) span: std::ops::Range<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An ordering given to an atomic's method.
    Access(Access, Order),
    /// `fence(order)`.
    Fence(Order),
    /// `fence_behind_rmw()`, which has no ordering to weaken.
    Call(String),
    /// A hand-over, with its text the other way round.
    HandOver {
        swapped: String,
        /// What the text binds for what follows it.
        binds: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Load,
    Store,
    /// A read-modify-write, or the success of a compare-and-swap.
    Rmw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Order {
    Relaxed,
    Acquire,
    Release,
    AcqRel,
    SeqCst,
}

/// What a mutant does to its site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Change {
    Relaxed,
    Acquire,
    Release,
    AcqRel,
    Removed,
    Swapped,
}

impl Order {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "Relaxed" => Self::Relaxed,
            "Acquire" => Self::Acquire,
            "Release" => Self::Release,
            "AcqRel" => Self::AcqRel,
            "SeqCst" => Self::SeqCst,
            _ => return None,
        })
    }
}

impl Kind {
    /// What can be weakened here, the smallest step first.
    pub(crate) fn changes(&self) -> &'static [Change] {
        use Access::{Load, Rmw, Store};
        match self {
            Self::Access(_, Order::Relaxed) => &[],
            Self::Access(Load, Order::SeqCst) => &[Change::Acquire, Change::Relaxed],
            Self::Access(Store, Order::SeqCst) => &[Change::Release, Change::Relaxed],
            Self::Access(Rmw, Order::SeqCst) => {
                &[Change::AcqRel, Change::Acquire, Change::Release, Change::Relaxed]
            }
            Self::Access(Rmw, Order::AcqRel) => &[Change::Acquire, Change::Release, Change::Relaxed],
            Self::Access(..) => &[Change::Relaxed],
            // A fence cannot be Relaxed; Acquire and Release alone lie between AcqRel and none.
            Self::Fence(Order::SeqCst) => &[Change::AcqRel, Change::Removed],
            Self::Fence(_) | Self::Call(_) => &[Change::Removed],
            Self::HandOver { .. } => &[Change::Swapped],
        }
    }

    /// As it is written now.
    pub(crate) fn written(&self) -> &'static str {
        match self {
            Self::Access(_, order) | Self::Fence(order) => match order {
                Order::Relaxed => "Relaxed",
                Order::Acquire => "Acquire",
                Order::Release => "Release",
                Order::AcqRel => "AcqRel",
                Order::SeqCst => "SeqCst",
            },
            Self::Call(_) => "there",
            Self::HandOver { .. } => "in order",
        }
    }
}

impl Change {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Relaxed => "Relaxed",
            Self::Acquire => "Acquire",
            Self::Release => "Release",
            Self::AcqRel => "AcqRel",
            Self::Removed => "removed",
            Self::Swapped => "swapped",
        }
    }

    /// As the injected module reads it.
    pub(crate) fn order(self) -> &'static str {
        match self {
            Self::Removed | Self::Swapped => "gone",
            other => other.name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_weakening_is_illegal_for_its_access() {
        for order in [
            Order::Relaxed,
            Order::Acquire,
            Order::Release,
            Order::AcqRel,
            Order::SeqCst,
        ] {
            let load = Kind::Access(Access::Load, order);
            assert!(!load.changes().contains(&Change::Release) && !load.changes().contains(&Change::AcqRel));
            let store = Kind::Access(Access::Store, order);
            assert!(
                !store.changes().contains(&Change::Acquire) && !store.changes().contains(&Change::AcqRel)
            );
            for access in [Access::Load, Access::Store, Access::Rmw] {
                let kind = Kind::Access(access, order);
                assert!(
                    kind.changes()
                        .iter()
                        .all(|change| change.name() != kind.written())
                );
            }
        }
    }
}
