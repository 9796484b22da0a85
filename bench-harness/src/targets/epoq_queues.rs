//! The ledger with many queues in one broker: each thread goes round all of them, a life cycle at each.

use std::time::Duration;

use epoq::{Broker, Queue, ReceiptHandle, Worker};

use super::epoq::{EpoqTurn, broker, unlimited};
use crate::target::{
    BATCH_MAX, Calls, Counts, Done, Handles, Inspect, Refusal, Session, Target, TargetConfig,
};

/// A broker with as many queues as the plan asks for, each of which has had messages.
#[derive(Debug)]
pub struct EpoqQueues {
    broker: Broker,
    queues: Vec<Queue>,
}

/// A worker and where it is on its way round.
#[derive(Debug)]
pub struct EpoqQueuesSession<'t> {
    worker: Worker,
    queues: &'t [Queue],
    at: usize,
}

/// A turn on the queues.
#[derive(Debug)]
pub struct EpoqQueuesTurn<'s> {
    inner: EpoqTurn<'s>,
    queues: &'s [Queue],
    at: &'s mut usize,
}

/// A receipt handle and its queue's place.
type PlacedHandle = (u32, ReceiptHandle);

impl Target for EpoqQueues {
    const NAME: &'static str = "epoq";
    const LEASES: bool = true;
    type Session<'t> = EpoqQueuesSession<'t>;

    fn build(config: &TargetConfig) -> anyhow::Result<Self> {
        let broker = broker(config)?;
        let create = |number| {
            broker
                .create_queue(&format!("bench-{number}"), unlimited())
                .map_err(|error| anyhow::anyhow!("{error:?}"))
        };
        let queues = (0..config.queues.max(1))
            .map(create)
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { broker, queues })
    }

    fn session(&self, home: usize) -> anyhow::Result<EpoqQueuesSession<'_>> {
        let partitions = self.broker.partitions();
        let home = home % partitions;
        let worker = self
            .broker
            .worker_at(home)
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        // One life cycle at each, before the clock starts: a queue's first message makes its first segment, which is not what is measured.
        for queue in &self.queues {
            let turn = worker.begin();
            turn.send(queue, b"first")
                .map_err(|error| anyhow::anyhow!("{error:?}"))?;
            // Perhaps another thread's, which then gets this one: each sends before it receives, so there is one for each.
            let mut is_done = false;
            while !is_done {
                let received = turn
                    .receive_one(queue, Duration::from_secs(60))
                    .map_err(|error| anyhow::anyhow!("{error:?}"))?;
                if let Some(handle) = received.map(|delivery| delivery.receipt_handle()) {
                    is_done = turn.delete(queue, &handle).is_ok();
                }
            }
        }
        Ok(EpoqQueuesSession {
            worker,
            queues: &self.queues,
            // Spread over the way round, so that threads are seldom at the same queue where there are many.
            at: home * self.queues.len() / partitions,
        })
    }

    fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for counts in self.queues.iter().map(Queue::counts) {
            sum.visible += counts.visible;
            sum.in_flight += counts.in_flight;
        }
        sum
    }

    fn partitions(&self) -> Option<usize> {
        Some(self.broker.partitions())
    }

    fn memory_bytes(&self) -> Option<u64> {
        Some(self.broker.memory().used)
    }
}

impl<'s> EpoqQueuesTurn<'s> {
    #[inline(always)]
    fn go_to(&mut self, at: usize) {
        *self.at = at;
        self.inner.queue = &self.queues[at];
    }

    #[inline(always)]
    fn go_on(&mut self) {
        let next = *self.at + 1;
        self.go_to(if next == self.queues.len() { 0 } else { next });
    }
}

impl Calls for EpoqQueuesTurn<'_> {
    type Handle = PlacedHandle;

    #[inline(always)]
    fn send(&mut self, body: &[u8]) -> Result<(), Refusal> {
        self.go_on();
        self.inner.send(body)
    }

    #[inline(always)]
    fn send_batch(&mut self, bodies: &[Vec<u8>]) -> Done {
        self.go_on();
        self.inner.send_batch(bodies)
    }

    /// From the queue that was last sent to; if that is empty, from the next that is not.
    #[inline(always)]
    fn receive<I: Inspect>(
        &mut self,
        max: usize,
        visibility: Duration,
        handles: &mut Handles<PlacedHandle>,
        inspector: &mut I,
    ) -> Result<usize, Refusal> {
        let mut own: Handles<ReceiptHandle> = Handles::new();
        for _ in 0..self.queues.len() {
            let received = self.inner.receive(max, visibility, &mut own, inspector)?;
            if received > 0 {
                let at = *self.at as u32;
                handles.extend(own.into_iter().map(|handle| (at, handle)));
                return Ok(received);
            }
            self.go_on();
        }
        Ok(0)
    }

    #[inline(always)]
    fn delete(&mut self, (at, handle): PlacedHandle) -> bool {
        self.inner.queue = &self.queues[at as usize];
        let deleted = self.inner.delete(handle);
        self.inner.queue = &self.queues[*self.at];
        deleted
    }

    /// Each run of handles of one queue in one call.
    #[inline(always)]
    fn delete_batch(&mut self, handles: &mut Handles<PlacedHandle>) -> Done {
        let mut done = 0;
        let mut begun = 0;
        let mut run: Handles<ReceiptHandle> = Handles::new();
        let handles: Handles<PlacedHandle> = handles.take();
        let places: arrayvec::ArrayVec<u32, BATCH_MAX> = handles.iter().map(|&(at, _)| at).collect();
        for (index, (at, handle)) in handles.into_iter().enumerate() {
            run.push(handle);
            if places.get(index + 1) != Some(&at) {
                self.inner.queue = &self.queues[at as usize];
                done |= self.inner.delete_batch(&mut run).0 << begun;
                begun = index + 1;
            }
        }
        self.inner.queue = &self.queues[*self.at];
        Done(done)
    }
}

impl Calls for EpoqQueuesSession<'_> {
    type Handle = PlacedHandle;

    #[inline(always)]
    fn send(&mut self, body: &[u8]) -> Result<(), Refusal> {
        self.turn().send(body)
    }

    #[inline(always)]
    fn send_batch(&mut self, bodies: &[Vec<u8>]) -> Done {
        self.turn().send_batch(bodies)
    }

    #[inline(always)]
    fn receive<I: Inspect>(
        &mut self,
        max: usize,
        visibility: Duration,
        handles: &mut Handles<PlacedHandle>,
        inspector: &mut I,
    ) -> Result<usize, Refusal> {
        self.turn().receive(max, visibility, handles, inspector)
    }

    #[inline(always)]
    fn delete(&mut self, handle: PlacedHandle) -> bool {
        self.turn().delete(handle)
    }

    #[inline(always)]
    fn delete_batch(&mut self, handles: &mut Handles<PlacedHandle>) -> Done {
        self.turn().delete_batch(handles)
    }
}

impl Session for EpoqQueuesSession<'_> {
    type Turn<'s>
        = EpoqQueuesTurn<'s>
    where
        Self: 's;

    #[inline(always)]
    fn turn(&mut self) -> EpoqQueuesTurn<'_> {
        EpoqQueuesTurn {
            inner: EpoqTurn {
                turn: self.worker.begin(),
                queue: &self.queues[self.at],
            },
            queues: self.queues,
            at: &mut self.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::{Plan, Wishes},
        progress::Quiet,
        run,
        scenario::Scenario,
    };

    #[test]
    fn nothing_is_lost_between_many_queues() {
        for (queues, batch, turn) in [(2, 1, None), (7, 10, None), (100, 3, Some(16))] {
            let wishes = Wishes {
                threads: Some(3),
                queues: Some(queues),
                batch: Some(batch),
                turn,
                seconds: Some(0.05),
                ..Wishes::default()
            };
            let plan = Plan::new(Scenario::Lifecycle, wishes).unwrap();
            let pass = run::pass::<EpoqQueues>(&plan, &Quiet).unwrap();
            assert!(pass.verified(), "{:?}", pass.settlement.findings.lines());
            assert!(pass.messages > 0);
        }
    }
}
