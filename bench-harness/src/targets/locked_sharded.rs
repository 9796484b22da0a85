//! The obvious improvement of the textbook: one mutex per core, each around a queue of its own as in [`LockedSlab`](super::LockedSlab).
//!
//! A session sends to its home shard. It receives from there first; what is missing it takes from a random other shard, and only
//! if it still has nothing does it go through all of them, so that "empty" means that each was seen empty. A handle names the shard, so a delete goes
//! straight to it. Shards stand on cache lines of their own, and everything that `LockedSlab` does outside its lock is done outside here.
//!
//! What it does not do: keep the order across shards, or put back a lease that has run out in a shard where nobody looks while
//! there is something at home; a holder that is preempted stops its shard.

use std::{cell::Cell, time::Duration};

use crossbeam_utils::CachePadded;

use super::{
    guarded::{Guarded, LeaseQueue},
    locked_slab::{Receipt, State},
    slab::Ticks,
};
use crate::{
    environment,
    target::{BATCH_MAX, Calls, Counts, Done, Handles, Inspect, Refusal, Session, Target, TargetConfig},
};

/// A mutex per core.
#[derive(Debug)]
pub struct LockedSharded {
    shards: Box<[CachePadded<Guarded<State>>]>,
    ticks: Ticks,
    seed: u64,
}

/// The shards, borrowed, and which of them is home.
#[derive(Debug)]
pub struct LockedShardedSession<'t> {
    queue: &'t LockedSharded,
    home: usize,
    random: Cell<u64>,
}

/// Which shard, and the receipt there.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardReceipt {
    shard: u32,
    receipt: Receipt,
}

impl Target for LockedSharded {
    const NAME: &'static str = "locked-sharded";
    const LEASES: bool = true;
    type Session<'t> = LockedShardedSession<'t>;

    fn build(config: &TargetConfig) -> anyhow::Result<Self> {
        let shards = config.partitions.unwrap_or_else(environment::cores);
        Ok(Self {
            shards: (0..shards).map(|_| CachePadded::default()).collect(),
            ticks: Ticks::default(),
            seed: config.seed,
        })
    }

    fn session(&self, home: usize) -> anyhow::Result<LockedShardedSession<'_>> {
        Ok(LockedShardedSession {
            queue: self,
            home: home % self.shards.len(),
            // Odd: xorshift must not start at zero.
            random: Cell::new((self.seed ^ (home as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1),
        })
    }

    fn counts(&self) -> Counts {
        self.shards.iter().fold(Counts::default(), |sum, shard| {
            let counts = shard.lock().counts();
            Counts {
                visible: sum.visible + counts.visible,
                in_flight: sum.in_flight + counts.in_flight,
            }
        })
    }

    fn partitions(&self) -> Option<usize> {
        Some(self.shards.len())
    }
}

impl LockedShardedSession<'_> {
    /// A shard that is not home, if there is one.
    fn victim(&self) -> Option<usize> {
        let others = self.queue.shards.len() - 1;
        if others == 0 {
            return None;
        }
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        let other = ((u128::from(x) * others as u128) >> 64) as usize;
        Some(other + usize::from(other >= self.home))
    }

    /// What is missing, from a random shard; only who has nothing yet looks at all of them.
    #[inline(never)]
    fn receive_elsewhere<I: Inspect>(
        &self,
        found_at_home: usize,
        max: usize,
        visibility: Duration,
        handles: &mut Handles<ShardReceipt>,
        inspector: &mut I,
    ) -> usize {
        let Some(victim) = self.victim() else { return 0 };
        let shards = self.queue.shards.len();
        let mut received = 0;
        for step in 0..shards {
            if step > 0 && found_at_home + received > 0 {
                break;
            }
            let shard = (victim + step) % shards;
            received = self.receive_from(shard, max - found_at_home, visibility, handles, inspector);
        }
        received
    }

    #[inline(always)]
    fn receive_from<I: Inspect>(
        &self,
        shard: usize,
        max: usize,
        visibility: Duration,
        handles: &mut Handles<ShardReceipt>,
        inspector: &mut I,
    ) -> usize {
        let LockedSharded { shards, ticks, .. } = self.queue;
        let mut keep = |receipt| {
            handles.push(ShardReceipt {
                shard: shard as u32,
                receipt,
            });
        };
        shards[shard].receive(ticks, max, visibility, &mut keep, inspector)
    }
}

impl Calls for LockedShardedSession<'_> {
    type Handle = ShardReceipt;

    #[inline(always)]
    fn send(&mut self, body: &[u8]) -> Result<(), Refusal> {
        self.queue.shards[self.home].send(body);
        Ok(())
    }

    fn send_batch(&mut self, bodies: &[Vec<u8>]) -> Done {
        self.queue.shards[self.home].send_batch(bodies)
    }

    fn receive<I: Inspect>(
        &mut self,
        max: usize,
        visibility: Duration,
        handles: &mut Handles<ShardReceipt>,
        inspector: &mut I,
    ) -> Result<usize, Refusal> {
        let received = self.receive_from(self.home, max, visibility, handles, inspector);
        if received == max {
            return Ok(received);
        }
        Ok(received + self.receive_elsewhere(received, max, visibility, handles, inspector))
    }

    #[inline(always)]
    fn delete(&mut self, ShardReceipt { shard, receipt }: ShardReceipt) -> bool {
        self.queue.shards[shard as usize].delete(receipt)
    }

    fn delete_batch(&mut self, handles: &mut Handles<ShardReceipt>) -> Done {
        let mut bodies: [Option<Box<[u8]>>; BATCH_MAX] = Default::default();
        let mut rest = bodies.iter_mut().zip(handles.iter()).peekable();
        // Handles of one shard follow each other, so each run of them takes its lock once.
        while let Some((_, first)) = rest.peek() {
            let shard = first.shard;
            let mut state = self.queue.shards[shard as usize].lock();
            while let Some((body, handle)) = rest.next_if(|(_, handle)| handle.shard == shard) {
                *body = state.delete(handle.receipt);
            }
        }
        handles.clear();
        bodies.iter().map(Option::is_some).collect()
    }
}

impl Session for LockedShardedSession<'_> {
    type Turn<'s>
        = &'s mut Self
    where
        Self: 's;

    #[inline(always)]
    fn turn(&mut self) -> &mut Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Bodies;

    #[test]
    fn what_is_in_any_shard_is_found_and_deleted_by_its_handle() {
        let config = TargetConfig {
            partitions: Some(5),
            ..TargetConfig::for_test()
        };
        let queue = LockedSharded::build(&config).unwrap();
        let mut receiver = queue.session(0).unwrap();
        for home in 0..5 {
            queue.session(home).unwrap().send(b"one").unwrap();
            let mut handles = Handles::new();
            let received =
                receiver.receive(10, Duration::from_secs(60), &mut handles, &mut Bodies::default());
            assert_eq!((received, handles[0].shard as usize), (Ok(1), home));
            assert_eq!(queue.counts().in_flight, 1);
            assert!(receiver.delete(handles[0]) && !receiver.delete(handles[0]));
        }
        assert_eq!(queue.counts(), Counts::default());
    }

    #[test]
    fn a_lease_that_runs_out_comes_back_to_its_shard() {
        let config = TargetConfig {
            partitions: Some(3),
            ..TargetConfig::for_test()
        };
        let queue = LockedSharded::build(&config).unwrap();
        queue.session(2).unwrap().send(b"one").unwrap();
        let mut receiver = queue.session(1).unwrap();
        let mut handles = Handles::new();
        assert_eq!(
            receiver.receive(1, Duration::ZERO, &mut handles, &mut Bodies::default()),
            Ok(1)
        );
        assert_eq!(
            receiver.receive(1, Duration::from_secs(60), &mut handles, &mut Bodies::default()),
            Ok(1)
        );
        assert_eq!(receiver.delete_batch(&mut handles), Done(0b10));
    }
}
