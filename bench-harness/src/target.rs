//! What a queue must offer to be driven: [`Target`] is the queue, [`Session`] one thread's handle on it, [`Calls`] the operations.
//!
//! Everything is statically dispatched: a scenario is compiled once per target, so that the harness adds no indirect call to what
//! it measures. `--target` chooses at the outermost level ([`crate::targets`]).

use std::time::Duration;

use arrayvec::ArrayVec;

/// The largest batch, as in SQS.
pub const BATCH_MAX: usize = 10;

/// The receipt handles of the messages that a thread has received and means to delete.
pub type Handles<H> = ArrayVec<H, BATCH_MAX>;

/// What a target is built from.
#[derive(Clone, Debug)]
pub struct TargetConfig {
    /// Partitions, for targets that have them; `None` leaves it to the target.
    pub partitions: Option<usize>,
    /// Queues, for targets that can have several.
    pub queues: usize,
    /// Threads that send, for targets that gain by its being one.
    pub senders: usize,
    /// Threads that receive while it is measured, for targets that gain by its being one; afterwards, others may look for what is left.
    pub receivers: usize,
    /// For whatever is random inside the target.
    pub seed: u64,
    /// What the target may use at most, for targets that keep a budget.
    pub memory_limit_bytes: u64,
}

#[cfg(test)]
impl TargetConfig {
    pub(crate) fn for_test() -> Self {
        Self {
            partitions: None,
            queues: 1,
            senders: 1,
            receivers: 1,
            seed: 7,
            memory_limit_bytes: u64::MAX,
        }
    }
}

/// A queue under test.
pub trait Target: Sized + Send + Sync {
    /// The name on the command line and in reports.
    const NAME: &'static str;
    /// Whether a received message is leased: kept until deleted, and back when it was not. Otherwise receiving is the end of it,
    /// and what is measured is hand-over only.
    const LEASES: bool;

    /// One thread's handle.
    type Session<'t>: Session
    where
        Self: 't;

    /// Makes an empty queue.
    fn build(config: &TargetConfig) -> anyhow::Result<Self>;

    /// Registers the calling thread, whose home is partition `home` (modulo their number).
    fn session(&self, home: usize) -> anyhow::Result<Self::Session<'_>>;

    /// What the target itself believes to hold. Exact when nobody is using it.
    fn counts(&self) -> Counts;

    /// How many partitions there are, for targets that have them.
    fn partitions(&self) -> Option<usize> {
        None
    }

    /// What the target itself believes to use, for targets that count it.
    fn memory_bytes(&self) -> Option<u64> {
        None
    }
}

/// Messages in a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// To be received.
    pub visible: u64,
    /// Received, and neither deleted nor back.
    pub in_flight: u64,
}

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal(pub &'static str);

/// What came of a batch: bit `i` says that entry `i` succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done(pub u16);

impl Done {
    /// The first `n` entries succeeded.
    #[inline]
    pub const fn all(n: usize) -> Self {
        Self((1 << n) - 1)
    }

    /// Whether entry `index` succeeded.
    #[inline]
    pub const fn succeeded(self, index: usize) -> bool {
        self.0 & (1 << index) != 0
    }

    /// How many succeeded of `n`.
    #[inline]
    pub const fn count_of(self, n: usize) -> usize {
        // The common case by a comparison: counting bits takes a dozen instructions where the processor's own may not be assumed.
        if self.0 == Self::all(n).0 {
            n
        } else {
            self.0.count_ones() as usize
        }
    }
}

/// Of a batch's entries, in their order.
impl FromIterator<bool> for Done {
    #[inline(always)]
    fn from_iter<T: IntoIterator<Item = bool>>(succeeded: T) -> Self {
        let bit = |(index, succeeded)| u16::from(succeeded) << index;
        Self(
            succeeded
                .into_iter()
                .enumerate()
                .map(bit)
                .fold(0, |done, bit| done | bit),
        )
    }
}

/// What a batch of deletes comes to where receiving is the end of it: the handles are dropped, and all succeeded.
#[inline(always)]
pub fn drop_all<H>(handles: &mut Handles<H>) -> Done {
    let done = Done::all(handles.len());
    handles.clear();
    done
}

/// A message as it is received: looked at in place, before the call returns.
pub trait Delivery {
    /// The body, wherever the target keeps it.
    fn body(&self) -> &[u8];
    /// How many times it was received, this time included; 0 where the target does not count.
    fn receives(&self) -> u32;
}

/// Who looks at received messages.
pub trait Inspect {
    /// Checks one message. Answers whether it is to be deleted; if not, its handle is dropped and the lease runs out.
    fn inspect<D: Delivery>(&mut self, delivery: &D) -> bool;
}

/// Has every message deleted, and keeps what was in it.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Bodies(pub(crate) Vec<Vec<u8>>);

#[cfg(test)]
impl Inspect for Bodies {
    fn inspect<D: Delivery>(&mut self, delivery: &D) -> bool {
        self.0.push(delivery.body().to_vec());
        true
    }
}

/// The operations, through a session (each in a turn of its own) or within a turn.
pub trait Calls {
    /// A receipt handle.
    type Handle;

    /// Sends one message.
    fn send(&mut self, body: &[u8]) -> Result<(), Refusal>;

    /// Sends 1 to 10 messages in one call; for targets without batches, one after the other until one is refused.
    #[inline(always)]
    fn send_batch(&mut self, bodies: &[Vec<u8>]) -> Done {
        let taken = bodies.iter().take_while(|body| self.send(body).is_ok()).count();
        Done::all(taken)
    }

    /// Receives up to `max` messages in one call, shows each to `inspector`, and keeps the handles of those that are to be
    /// deleted, in the order of inspection. Answers how many were received.
    fn receive<I: Inspect>(
        &mut self,
        max: usize,
        visibility: Duration,
        handles: &mut Handles<Self::Handle>,
        inspector: &mut I,
    ) -> Result<usize, Refusal>;

    /// Deletes one message; false when the handle no longer could.
    fn delete(&mut self, handle: Self::Handle) -> bool;

    /// The same of the last of `handles`, if there is one; a target that deletes by a reference need not move it.
    #[inline(always)]
    fn delete_last(&mut self, handles: &mut Handles<Self::Handle>) -> Option<bool> {
        handles.pop().map(|handle| self.delete(handle))
    }

    /// Deletes 1 to 10 messages in one call, emptying `handles`.
    fn delete_batch(&mut self, handles: &mut Handles<Self::Handle>) -> Done;
}

/// One thread's handle on a target.
pub trait Session: Calls {
    /// Many operations under one pin and one reading of the clock, where the target has such a thing.
    type Turn<'s>: Calls<Handle = Self::Handle>
    where
        Self: 's;

    /// Begins a turn; dropping it ends it.
    fn turn(&mut self) -> Self::Turn<'_>;
}

/// So that a target without turns can lend its session as one.
impl<C: Calls> Calls for &mut C {
    type Handle = C::Handle;

    #[inline(always)]
    fn send(&mut self, body: &[u8]) -> Result<(), Refusal> {
        (**self).send(body)
    }

    #[inline(always)]
    fn send_batch(&mut self, bodies: &[Vec<u8>]) -> Done {
        (**self).send_batch(bodies)
    }

    #[inline(always)]
    fn receive<I: Inspect>(
        &mut self,
        max: usize,
        visibility: Duration,
        handles: &mut Handles<Self::Handle>,
        inspector: &mut I,
    ) -> Result<usize, Refusal> {
        (**self).receive(max, visibility, handles, inspector)
    }

    #[inline(always)]
    fn delete(&mut self, handle: Self::Handle) -> bool {
        (**self).delete(handle)
    }

    #[inline(always)]
    fn delete_batch(&mut self, handles: &mut Handles<Self::Handle>) -> Done {
        (**self).delete_batch(handles)
    }
}
