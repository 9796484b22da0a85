//! The ledger's FIFO queues, through its fast path.

use arrayvec::ArrayVec;
use epoq::{FifoConfig, Outgoing, QueueConfig};

use super::epoq::{Epoq, EpoqSession, EpoqTurn, outcome, refusal_of_send};
use crate::{
    fifo::{FifoCalls, FifoSession, FifoSetup, FifoTarget, Parcel},
    target::{BATCH_MAX, Counts, Done, Refusal, Session, Target, TargetConfig},
};

/// A broker with one FIFO queue.
#[derive(Debug)]
pub struct EpoqFifo(Epoq);

impl FifoTarget for EpoqFifo {
    const NAME: &'static str = Epoq::NAME;
    type Session<'t> = EpoqSession;

    fn build(setup: &FifoSetup) -> anyhow::Result<Self> {
        let config = TargetConfig {
            partitions: None,
            queues: 1,
            senders: 1,
            receivers: 1,
            seed: setup.seed,
            memory_limit_bytes: setup.memory_limit_bytes,
        };
        // What is measured is neither SQS's limit of what is in flight nor the one on ids: the rival has none.
        let queue = QueueConfig {
            in_flight_max: None,
            fifo: Some(FifoConfig {
                deduplication_memory: setup.memory_limit_bytes,
                ..FifoConfig::default()
            }),
            ..QueueConfig::default()
        };
        Epoq::with_queue(&config, "bench.fifo", queue).map(Self)
    }

    fn session(&self, home: usize) -> anyhow::Result<EpoqSession> {
        self.0.session(home)
    }

    fn counts(&self) -> Counts {
        self.0.counts()
    }

    fn ids(&self) -> u64 {
        let metrics = self.0.queue().fifo_metrics();
        metrics.map_or(0, |metrics| metrics.deduplication_ids)
    }

    fn memory_bytes(&self) -> Option<u64> {
        self.0.memory_bytes()
    }
}

#[inline(always)]
fn outgoing<'p>(parcel: &Parcel<'p>) -> Outgoing<'p> {
    Outgoing::new(parcel.body)
        .message_group(parcel.group)
        .deduplication_id(parcel.id)
}

impl FifoCalls for EpoqTurn<'_> {
    #[inline(always)]
    fn send_to(&mut self, parcel: &Parcel<'_>) -> Result<(), Refusal> {
        match self.turn.send_message(self.queue, &outgoing(parcel)) {
            Ok(_) => Ok(()),
            Err(error) => Err(refusal_of_send(error)),
        }
    }

    #[inline(always)]
    fn send_batch_to(&mut self, parcels: &[Parcel<'_>]) -> Done {
        let messages: ArrayVec<Outgoing<'_>, BATCH_MAX> = parcels.iter().map(outgoing).collect();
        outcome(&self.turn.send_messages(self.queue, &messages), |sent| {
            sent.is_ok()
        })
    }
}

impl FifoCalls for EpoqSession {
    #[inline(always)]
    fn send_to(&mut self, parcel: &Parcel<'_>) -> Result<(), Refusal> {
        self.turn().send_to(parcel)
    }

    #[inline(always)]
    fn send_batch_to(&mut self, parcels: &[Parcel<'_>]) -> Done {
        self.turn().send_batch_to(parcels)
    }
}

impl FifoSession for EpoqSession {
    type Turn<'s> = EpoqTurn<'s>;

    #[inline(always)]
    fn turn_to(&mut self) -> EpoqTurn<'_> {
        self.turn()
    }
}
