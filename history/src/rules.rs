//! What a queue promises: the rules, and how strictly they are meant.

use std::fmt;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// One promise of a queue.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Rule {
            $($(#[$doc])* $name,)*
        }

        impl Rule {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }

        impl fmt::Display for Rule {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$name => $text,)* })
            }
        }
    };
}

rules! {
    /// What is received has been sent: the body is whole, the id and the group are those of its send, which was not refused and
    /// had begun before the receive returned. Two messages do not share an id, unless the second one is a duplicate.
    ///
    /// Cannot see: a body changed into another one that has been sent under the same id.
    Authentic = "nothing is invented or altered",
    /// What is accepted is received until it is deleted. At the end each accepted message has been deleted, is still there, or may
    /// have been purged or have lapsed.
    ///
    /// Cannot see: anything while [`End`](crate::End) is unknown; the loss of a message whose send, or one of whose deletes, got no
    /// answer.
    Kept = "nothing is lost",
    /// A lease is as long as was asked for, and nobody else receives the message meanwhile. With receive counts, a receive must not
    /// have returned before the lease of an earlier one can have ended; without, neither of two receives can have been first.
    ///
    /// Cannot see: a lease that is short by less than the two receives took; leases of receives that got no answer.
    Exclusive = "one lease at a time",
    /// Receive counts are 1, 2, 3 … in the order of the receives; a receive that got no answer may account for one that is
    /// missing.
    ///
    /// Cannot see: an order among receives that overlap; counts that are not told.
    Counted = "each receive counts one up",
    /// What has been deleted, or is said to be gone, is never received again, and was deleted once. A purge too is final for all
    /// that had been accepted when it began.
    ///
    /// Cannot see: a receive that began before the delete returned, unless counts tell that it came later.
    Final = "deleted is deleted",
    /// A handle acts on its own lease only: after a later receive it can neither delete nor change.
    ///
    /// Cannot see: without receive counts, handles of receives that overlap.
    Stale = "an old handle has no effect",
    /// A handle works as long as its lease runs, and is refused as superseded or gone only where somebody received or deleted the
    /// message.
    ///
    /// Cannot see: refusals while another operation on the same lease was under way.
    Honoured = "a good handle works",
    /// Nothing is received before its delay is over.
    ///
    /// Cannot see: a delay that is short by less than the send and the receive took.
    Delayed = "delays are kept",
    /// A message that has come into a dead-letter queue does not come out of the one before any more.
    ///
    /// Cannot see: receives that overlap, unless counts tell their order.
    Moved = "dead letters stay dead",
    /// FIFO: sequence numbers grow in the order of the sends, and each message has one of its own.
    ///
    /// Cannot see: an order among sends of several threads that overlap.
    Sequenced = "sequence numbers follow the sends",
    /// FIFO: when a message is delivered, all that were sent before it to its group are gone, or stand before it in the same
    /// answer. It is known that one was not gone if it is received later.
    ///
    /// Cannot see: without sequence numbers, an order among sends that overlap.
    Ordered = "nothing is overtaken",
    /// FIFO: nothing is delivered while an earlier message of its group is in flight.
    ///
    /// Cannot see: as for leases, ends of which only bounds are known; and without sequence numbers, an order among sends that
    /// overlap.
    Blocked = "a message in flight blocks those behind it",
    /// FIFO: two sends of one deduplication id within the window make one message, and both are told its id.
    ///
    /// Cannot see: sends that got no answer, and those that may be further apart than the window.
    Deduplicated = "duplicates are recognised",
    /// FIFO: two sends of one deduplication id further apart than the window make two messages.
    Forgotten = "duplicates are forgotten in time",
    /// Memory stays within its limit.
    ///
    /// Cannot see: anything between two looks at it.
    Bounded = "memory is bounded",
}

/// Which rules hold for a queue, and with what slack. Ticks are those of the history's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    pub(crate) tolerance: u64,
    pub(crate) retention: Option<u64>,
    pub(crate) exact: bool,
    pub(crate) stale_handles_act: bool,
    pub(crate) fifo: Option<Fifo>,
    pub(crate) off: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fifo {
    pub(crate) window: u64,
    pub(crate) per_group: bool,
}

impl Rules {
    /// A standard queue: all rules that have nothing to do with order.
    #[must_use]
    pub const fn standard() -> Self {
        Self {
            tolerance: 0,
            retention: None,
            exact: true,
            stale_handles_act: false,
            fifo: None,
            off: Vec::new(),
        }
    }

    /// A FIFO queue that knows a deduplication id again for `window` ticks.
    #[must_use]
    pub fn fifo(window: u64) -> Self {
        let mut rules = Self::standard();
        rules.fifo = Some(Fifo {
            window,
            per_group: false,
        });
        rules
    }

    /// Deduplication ids are those of a message's group, not of the queue.
    #[must_use]
    pub fn deduplicated_per_group(mut self) -> Self {
        if let Some(fifo) = &mut self.fifo {
            fifo.per_group = true;
        }
        self
    }

    /// How many ticks the queue's clock may be away from the history's: by rounding, or because they are two. Leases, delays and
    /// windows may be wrong by so much.
    #[must_use]
    pub fn tolerance(mut self, ticks: u64) -> Self {
        self.tolerance = ticks;
        self
    }

    /// Messages may be gone after so many ticks.
    #[must_use]
    pub fn retention(mut self, ticks: u64) -> Self {
        self.retention = Some(ticks);
        self
    }

    /// "Done" of a delete does not tell whether this was the one that deleted the message, or whether its handle was too old: as
    /// SQS answers over HTTP.
    #[must_use]
    pub fn deletes_not_told(mut self) -> Self {
        self.exact = false;
        self
    }

    /// A handle deletes its message although the message has been received again, as with SQS's standard queues.
    #[must_use]
    pub fn stale_handles_act(mut self) -> Self {
        self.stale_handles_act = true;
        self
    }

    /// All but this rule.
    #[must_use]
    pub fn without(mut self, rule: Rule) -> Self {
        self.off.push(rule);
        self
    }
}
