//! FIFO queues under test: message groups in order, and deduplication.
//!
//! [`FifoTarget`] is the queue; receiving and deleting are those of every target ([`Calls`]), sending needs a group and a
//! deduplication id ([`Parcel`]). A [`pass`](pass::pass) drives one as [`run`](crate::run) does the others, with the same books, and with one
//! table more: [`order`], which knows for each group who has messages of it in hand, and which of them is next.
//!
//! ```text
//! message:  producer, number  ──Lanes──▶  group, number in the group     (nothing but the id is in the body)
//! sender:   draft of the next call: groups, deduplication ids, bodies; made before the call before it returns to the clock
//! ```

pub(crate) mod clerk;
pub mod order;
pub mod parcels;
pub mod pass;

use crate::target::{Calls, Counts, Done, Refusal};

/// A message to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Parcel<'p> {
    /// The body.
    pub body: &'p [u8],
    /// The message group.
    pub group: &'p str,
    /// The deduplication id.
    pub id: &'p str,
}

/// What a FIFO target is built from.
#[derive(Clone, Debug)]
pub struct FifoSetup {
    /// For whatever is random inside the target.
    pub seed: u64,
    /// What the target may use at most, for targets that keep a budget.
    pub memory_limit_bytes: u64,
}

/// A FIFO queue under test.
pub trait FifoTarget: Sized + Send + Sync {
    /// The name on the command line and in reports.
    const NAME: &'static str;

    /// One thread's handle.
    type Session<'t>: FifoSession
    where
        Self: 't;

    /// Makes an empty queue.
    fn build(setup: &FifoSetup) -> anyhow::Result<Self>;

    /// Registers the calling thread, whose home is partition `home` (modulo their number).
    fn session(&self, home: usize) -> anyhow::Result<Self::Session<'_>>;

    /// What the target itself believes to hold. Exact when nobody is using it.
    fn counts(&self) -> Counts;

    /// How many deduplication ids it remembers.
    fn ids(&self) -> u64;

    /// What the target itself believes to use, for targets that count it.
    fn memory_bytes(&self) -> Option<u64> {
        None
    }
}

/// The operations of a FIFO queue. [`Calls::send`] and [`Calls::send_batch`], which name no group, are refused there.
pub trait FifoCalls: Calls {
    /// Sends one message; one whose id was sent before is answered like any other (SQS).
    fn send_to(&mut self, parcel: &Parcel<'_>) -> Result<(), Refusal>;

    /// Sends 1 to 10 messages in one call, in this order.
    fn send_batch_to(&mut self, parcels: &[Parcel<'_>]) -> Done;
}

/// One thread's handle on a FIFO target.
pub trait FifoSession: FifoCalls {
    /// As [`Session::Turn`](crate::target::Session::Turn).
    type Turn<'s>: FifoCalls<Handle = Self::Handle>
    where
        Self: 's;

    /// Begins a turn; dropping it ends it.
    fn turn_to(&mut self) -> Self::Turn<'_>;
}

/// So that a target without turns can lend its session as one.
impl<C: FifoCalls> FifoCalls for &mut C {
    #[inline(always)]
    fn send_to(&mut self, parcel: &Parcel<'_>) -> Result<(), Refusal> {
        (**self).send_to(parcel)
    }

    #[inline(always)]
    fn send_batch_to(&mut self, parcels: &[Parcel<'_>]) -> Done {
        (**self).send_batch_to(parcels)
    }
}
