//! The ledger itself, through its fast path: a worker for each thread, bodies looked at where they lie.

use std::time::Duration;

use epoq::{
    BatchError, Broker, DeleteError, Deletion, Queue, QueueConfig, ReceiptHandle, ReceiveError, SendError,
    Turn, Worker,
};

use crate::target::{
    Calls, Counts, Delivery, Done, Handles, Inspect, Refusal, Session, Target, TargetConfig,
};

/// A broker with one queue.
#[derive(Debug)]
pub struct Epoq {
    broker: Broker,
    queue: Queue,
}

/// A worker and the queue. Each call is a turn of its own.
#[derive(Debug)]
pub struct EpoqSession {
    worker: Worker,
    queue: Queue,
}

/// A turn on the queue.
#[derive(Debug)]
pub struct EpoqTurn<'s> {
    pub(super) turn: Turn<'s>,
    pub(super) queue: &'s Queue,
}

/// A broker as the run wants it, with no queue yet.
pub(super) fn broker(config: &TargetConfig) -> anyhow::Result<Broker> {
    let mut builder = Broker::builder()
        .memory_limit(config.memory_limit_bytes)
        .seed(config.seed);
    if let Some(partitions) = config.partitions {
        builder = builder.partitions(partitions);
    }
    builder.build().map_err(|error| anyhow::anyhow!("{error:?}"))
}

/// SQS's limit of 120,000 in flight is not what is measured: the rivals have none.
pub(super) fn unlimited() -> QueueConfig {
    QueueConfig {
        in_flight_max: None,
        ..QueueConfig::default()
    }
}

impl Epoq {
    /// A broker with a queue of that name and those settings.
    pub(super) fn with_queue(config: &TargetConfig, name: &str, queue: QueueConfig) -> anyhow::Result<Self> {
        let broker = broker(config)?;
        let queue = broker
            .create_queue(name, queue)
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        Ok(Self { broker, queue })
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }
}

impl Target for Epoq {
    const NAME: &'static str = "epoq";
    const LEASES: bool = true;
    type Session<'t> = EpoqSession;

    fn build(config: &TargetConfig) -> anyhow::Result<Self> {
        Self::with_queue(config, "bench", unlimited())
    }

    fn session(&self, home: usize) -> anyhow::Result<EpoqSession> {
        let worker = self
            .broker
            .worker_at(home % self.broker.partitions())
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        Ok(EpoqSession {
            worker,
            queue: self.queue.clone(),
        })
    }

    fn counts(&self) -> Counts {
        let counts = self.queue.counts();
        Counts {
            visible: counts.visible,
            in_flight: counts.in_flight,
        }
    }

    fn partitions(&self) -> Option<usize> {
        Some(self.broker.partitions())
    }

    fn memory_bytes(&self) -> Option<u64> {
        Some(self.broker.memory().used)
    }
}

struct Lent<'t>(epoq::Delivery<'t>);

impl Delivery for Lent<'_> {
    #[inline(always)]
    fn body(&self) -> &[u8] {
        self.0.body()
    }

    #[inline(always)]
    fn receives(&self) -> u32 {
        self.0.receive_count()
    }
}

impl Calls for EpoqTurn<'_> {
    type Handle = ReceiptHandle;

    #[inline(always)]
    fn send(&mut self, body: &[u8]) -> Result<(), Refusal> {
        match self.turn.send(self.queue, body) {
            Ok(_) => Ok(()),
            Err(error) => Err(refusal_of_send(error)),
        }
    }

    #[inline(always)]
    fn send_batch(&mut self, bodies: &[Vec<u8>]) -> Done {
        outcome(&self.turn.send_batch(self.queue, bodies), |sent| sent.is_ok())
    }

    #[inline(always)]
    fn receive<I: Inspect>(
        &mut self,
        max: usize,
        visibility: Duration,
        handles: &mut Handles<ReceiptHandle>,
        inspector: &mut I,
    ) -> Result<usize, Refusal> {
        if max == 1 {
            return match self.turn.receive_one(self.queue, visibility) {
                Ok(None) => Ok(0),
                Ok(Some(delivery)) => {
                    if inspector.inspect(&Lent(delivery)) {
                        handles.push(delivery.receipt_handle());
                    }
                    Ok(1)
                }
                Err(error) => Err(refusal_of_receive(error)),
            };
        }
        // Looked at where it is: moving it out of the result would copy ten places for one message.
        let received = self.turn.receive(self.queue, max, visibility);
        let received = match &received {
            Ok(received) => received,
            Err(error) => return Err(refusal_of_receive(*error)),
        };
        for delivery in received.iter() {
            if inspector.inspect(&Lent(delivery)) {
                handles.push(delivery.receipt_handle());
            }
        }
        Ok(received.len())
    }

    #[inline(always)]
    fn delete(&mut self, handle: ReceiptHandle) -> bool {
        self.turn.delete(self.queue, &handle) == Ok(Deletion::Deleted)
    }

    #[inline(always)]
    fn delete_last(&mut self, handles: &mut Handles<ReceiptHandle>) -> Option<bool> {
        let deleted = self.turn.delete(self.queue, handles.last()?) == Ok(Deletion::Deleted);
        handles.pop();
        Some(deleted)
    }

    #[inline(always)]
    fn delete_batch(&mut self, handles: &mut Handles<ReceiptHandle>) -> Done {
        let done = outcome(&self.turn.delete_batch(self.queue, handles), is_deleted);
        handles.clear();
        done
    }
}

impl Calls for EpoqSession {
    type Handle = ReceiptHandle;

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
        handles: &mut Handles<ReceiptHandle>,
        inspector: &mut I,
    ) -> Result<usize, Refusal> {
        self.turn().receive(max, visibility, handles, inspector)
    }

    #[inline(always)]
    fn delete(&mut self, handle: ReceiptHandle) -> bool {
        self.turn().delete(handle)
    }

    #[inline(always)]
    fn delete_last(&mut self, handles: &mut Handles<ReceiptHandle>) -> Option<bool> {
        self.turn().delete_last(handles)
    }

    #[inline(always)]
    fn delete_batch(&mut self, handles: &mut Handles<ReceiptHandle>) -> Done {
        self.turn().delete_batch(handles)
    }
}

impl Session for EpoqSession {
    type Turn<'s> = EpoqTurn<'s>;

    #[inline(always)]
    fn turn(&mut self) -> EpoqTurn<'_> {
        EpoqTurn {
            turn: self.worker.begin(),
            queue: &self.queue,
        }
    }
}

/// Which entries of a batch succeeded; none, if the whole batch was refused.
#[inline(always)]
pub(super) fn outcome<T>(
    results: &Result<epoq::Batch<T>, BatchError>,
    succeeded: impl Fn(&T) -> bool,
) -> Done {
    match results {
        Ok(results) => results.iter().map(succeeded).collect(),
        Err(_) => Done(0),
    }
}

#[inline(always)]
fn is_deleted(result: &Result<Deletion, DeleteError>) -> bool {
    *result == Ok(Deletion::Deleted)
}

#[cold]
pub(super) fn refusal_of_send(error: SendError) -> Refusal {
    Refusal(match error {
        SendError::Empty => "the body is empty",
        SendError::TooLong { .. } => "the body is too long",
        SendError::OverBudget { .. } => "the memory budget is used up",
        SendError::DeduplicationFull { .. } => "the memory for deduplication ids is used up",
        SendError::QueueDeleted => "the queue is deleted",
        _ => "refused",
    })
}

#[cold]
fn refusal_of_receive(error: ReceiveError) -> Refusal {
    Refusal(match error {
        ReceiveError::Max { .. } => "wrong number of messages asked for",
        ReceiveError::VisibilityTimeout { .. } => "the visibility timeout is out of range",
        ReceiveError::QueueDeleted => "the queue is deleted",
        _ => "refused",
    })
}
