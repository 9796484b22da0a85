//! What the operations do: SQS's rules and texts around the ledger's operations. No I/O here but sleeping.

mod address;
mod attributes;
mod batch;
mod caller;
mod digest;
mod message;
mod moves;
mod policy;
mod queues;
mod receive;
mod registry;
mod room;

use std::{fmt, net::SocketAddr, sync::Arc};

use epoq::{Broker, MoveTask, Worker};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    error::{Kind, ServiceError},
    protocol::{Answer, Input, Protocol, input::Text},
};
use registry::{Entry, Registry};

pub(crate) use address::{ACCOUNT_DEFAULT, REGION_DEFAULT, is_region};
pub(crate) use caller::Caller;
pub(crate) use digest::hex;

/// Purges and deletions at a time. More wait.
const FREEING_MAX: usize = 8;
/// Counts and lists of queues at a time, and whatever else looks at much and frees nothing. More wait, but not for purges.
const LOOKING_MAX: usize = 8;
/// What is done apart, at a time.
pub(crate) const APART_MAX: usize = FREEING_MAX + LOOKING_MAX;

/// What a service does beyond the rules that all share.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// The account of all queues: twelve digits.
    pub(crate) account: String,
    /// Whether a deleted queue's name rests for a minute, and a queue after a purge.
    pub(crate) cooldowns: bool,
    /// The most queues there may be.
    pub(crate) queues_max: usize,
    /// The most bytes that all queues' tags and attributes may take.
    pub(crate) beside_max: usize,
}

/// SQS, in this process.
#[derive(Debug)]
pub(crate) struct Service {
    registry: Arc<Registry>,
    rules: Rules,
    /// Under which the handles of move tasks are sealed.
    task_key: [u8; 32],
    /// To whoever drives move tasks. Bounded by how many may run.
    moves: mpsc::UnboundedSender<MoveTask>,
    slots: Slots,
}

/// Of what is done apart. Who waits for one has left with its request: a runtime's own list of jobs would keep it.
#[derive(Debug)]
struct Slots {
    /// For what may take seconds: purges and deletions of queues that are full.
    freeing: Arc<Semaphore>,
    looking: Arc<Semaphore>,
}

/// Who asks, and how to answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) origin: Origin<'a>,
    /// The region of ARNs.
    pub(crate) region: &'a str,
    pub(crate) request_id: &'a str,
    /// The header `X-Amzn-Trace-Id`.
    pub(crate) trace: Option<&'a str>,
}

/// Scheme, host and port, as the client sees them: what queue URLs begin with. A text only for those who write one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin<'a> {
    /// All of it.
    Url(&'a str),
    /// The scheme, and what the client calls the server.
    Host(&'static str, &'a str),
    /// The scheme, and where the server listens.
    Address(&'static str, SocketAddr),
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::Host(scheme, host) => write!(f, "{scheme}://{host}"),
            Self::Address(scheme, address) => write!(f, "{scheme}://{address}"),
        }
    }
}

impl Service {
    /// A service without queues, and the move tasks that it starts, which somebody has to drive.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub(crate) fn new(
        broker: Broker,
        rules: Rules,
    ) -> Result<(Self, mpsc::UnboundedReceiver<MoveTask>), getrandom::Error> {
        let mut task_key = [0; 32];
        // Whoever knew it could make handles of tasks that others started.
        getrandom::fill(&mut task_key)?;
        let (moves, started) = mpsc::unbounded_channel();
        let service = Self {
            registry: Arc::new(Registry::new(broker, rules.beside_max)),
            rules,
            task_key,
            moves,
            slots: Slots {
                freeing: Arc::new(Semaphore::new(FREEING_MAX)),
                looking: Arc::new(Semaphore::new(LOOKING_MAX)),
            },
        };
        Ok((service, started))
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.registry.broker
    }

    /// All queues, for metrics.
    pub(crate) fn queues(&self) -> Vec<epoq::Queue> {
        self.registry
            .all()
            .iter()
            .map(|entry| entry.queue.clone())
            .collect()
    }

    /// Does what is asked. A receive that waits ends early, with nothing, as [`Caller`] says.
    pub(crate) async fn call(
        &self,
        worker: &Worker,
        context: &Context<'_>,
        input: &Input<'_>,
        caller: impl Caller,
    ) -> Result<Vec<u8>, ServiceError> {
        let action = input.action();
        let mut answer = Answer::begin(context.protocol, action);
        match input {
            Input::AddPermission(input) => self.add_permission(input, context)?,
            Input::CancelMessageMoveTask(input) => self.cancel_message_move_task(input, &mut answer)?,
            Input::ChangeMessageVisibility(input) => self.change_message_visibility(worker, input)?,
            Input::ChangeMessageVisibilityBatch(input) => {
                self.change_message_visibility_batch(worker, input, &mut answer)?;
            }
            Input::CreateQueue(input) => self.create_queue(input, context, &mut answer)?,
            Input::DeleteMessage(input) => self.delete_message(worker, input)?,
            Input::DeleteMessageBatch(input) => self.delete_message_batch(worker, input, &mut answer)?,
            Input::DeleteQueue(input) => self.delete_queue(input).await?,
            Input::GetQueueAttributes(input) => {
                self.get_queue_attributes(input, context, &mut answer).await?;
            }
            Input::GetQueueUrl(input) => self.get_queue_url(input, context, &mut answer)?,
            Input::ListDeadLetterSourceQueues(input) => {
                self.list_dead_letter_source_queues(input, context, &mut answer)
                    .await?;
            }
            Input::ListMessageMoveTasks(input) => self.list_message_move_tasks(input, &mut answer)?,
            Input::ListQueueTags(input) => self.list_queue_tags(input, &mut answer)?,
            Input::ListQueues(input) => self.list_queues(input, context, &mut answer).await?,
            Input::PurgeQueue(input) => self.purge_queue(input).await?,
            Input::ReceiveMessage(input) => {
                self.receive_message(worker, input, context, &mut answer, caller)
                    .await?;
            }
            Input::RemovePermission(input) => self.remove_permission(input)?,
            Input::SendMessage(input) => self.send_message(worker, input, context, &mut answer)?,
            Input::SendMessageBatch(input) => self.send_message_batch(worker, input, &mut answer)?,
            Input::SetQueueAttributes(input) => self.set_queue_attributes(input)?,
            Input::StartMessageMoveTask(input) => self.start_message_move_task(input, &mut answer).await?,
            Input::TagQueue(input) => self.tag_queue(input)?,
            Input::UntagQueue(input) => self.untag_queue(input)?,
        }
        Ok(answer.end(action, context.request_id))
    }

    /// The queue that a `QueueUrl` means.
    fn queue(&self, url: Option<&Text<'_>>) -> Result<Arc<Entry>, ServiceError> {
        let url = required(url, "QueueUrl")?;
        let name = address::queue_name(url)?;
        self.registry.get(name).ok_or_else(ServiceError::no_queue)
    }

    /// Does on a thread of its own what, with millions of messages or many queues, takes longer than others on a serving thread should
    /// wait. Once begun it is done, whether somebody waits for it or not.
    async fn apart<T: Send + 'static>(
        slots: &Arc<Semaphore>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ServiceError> {
        let cut_off = || ServiceError::new(Kind::ServiceUnavailable, "The operation was cut off.");
        let slot = Arc::clone(slots).acquire_owned().await.map_err(|_| cut_off())?;
        // What comes of it takes memory too: the slot is held until that is fetched, or nobody wants it.
        let (done, _slot) = tokio::task::spawn_blocking(move || (work(), slot))
            .await
            .map_err(|_| cut_off())?;
        Ok(done)
    }

    fn url(&self, context: &Context<'_>, name: &str) -> String {
        format!("{}/{}/{name}", context.origin, self.rules.account)
    }
}

/// A text that has to be there, and not be empty.
fn required<'a>(text: Option<&'a Text<'_>>, parameter: &str) -> Result<&'a str, ServiceError> {
    text.map(|text| &**text)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| ServiceError::missing(parameter))
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::mpsc,
        task::{self, Waker},
    };

    use super::*;
    use crate::protocol::{Action, json};

    struct Nobody;

    impl Caller for Nobody {
        async fn gone(&self) {
            std::future::pending().await
        }
        async fn closing(&self) {
            std::future::pending().await
        }
        fn is_full(&self) -> bool {
            false
        }
    }

    fn service() -> Service {
        let rules = Rules {
            account: ACCOUNT_DEFAULT.to_owned(),
            cooldowns: false,
            queues_max: 10,
            beside_max: 9_600,
        };
        let broker = Broker::builder().build().expect("a broker");
        let service = Service::new(broker, rules).expect("entropy").0;
        service
            .create("q", &Default::default(), &Default::default())
            .expect("a queue");
        service
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .expect("a runtime")
    }

    const CONTEXT: Context<'_> = Context {
        protocol: Protocol::Json,
        origin: Origin::Url("http://a"),
        region: REGION_DEFAULT,
        request_id: "id",
        trace: None,
    };

    /// So that with many queues nobody else on the same thread waits for it.
    #[test]
    fn what_asks_all_queues_leaves_the_thread() {
        let service = service();
        let worker = service.broker().worker().expect("a worker");
        runtime().block_on(async {
            for (action, body) in [
                (Action::ListDeadLetterSourceQueues, r#"{"QueueUrl":"q"}"#),
                (Action::ListQueues, "{}"),
                (
                    Action::StartMessageMoveTask,
                    r#"{"SourceArn":"arn:aws:sqs:us-east-1:000000000000:q"}"#,
                ),
            ] {
                // The other thread is busy, so that what is done there is not done at once.
                let (free, busy) = mpsc::channel::<()>();
                let occupied = tokio::task::spawn_blocking(move || busy.recv());
                let input = json::parse(action, body.as_bytes()).expect("a request");
                let mut call = pin!(service.call(&worker, &CONTEXT, &input, Nobody));
                let mut once = task::Context::from_waker(Waker::noop());
                assert!(call.as_mut().poll(&mut once).is_pending(), "{action}");
                drop(free);
                // Answered or refused.
                let _ = call.await;
                let _ = occupied.await;
            }
        });
    }

    /// Clients that ask and leave, again and again, would otherwise leave ever more work behind.
    #[test]
    fn what_waits_to_be_done_apart_goes_with_its_request() {
        let mut service = service();
        service.rules.cooldowns = true;
        let worker = service.broker().worker().expect("a worker");
        let queue = service.queues().remove(0);
        queue.send(b"a").expect("room");
        runtime().block_on(async {
            let input = json::parse(Action::PurgeQueue, br#"{"QueueUrl":"q"}"#).expect("a request");
            let slots = Arc::clone(&service.slots.freeing);
            let all = u32::try_from(FREEING_MAX).expect("few");
            let taken = slots.acquire_many(all).await.expect("slots");
            for _ in 0..100 {
                let mut call = pin!(service.call(&worker, &CONTEXT, &input, Nobody));
                let mut once = task::Context::from_waker(Waker::noop());
                assert!(call.as_mut().poll(&mut once).is_pending());
            }
            drop(taken);
            // Whatever the runtime had been given before would be done first.
            tokio::task::spawn_blocking(|| ()).await.expect("no panic");
            assert_eq!(queue.counts().visible, 1);
            // Nor does the queue rest from purges that were never begun.
            let answer = service.call(&worker, &CONTEXT, &input, Nobody).await;
            assert!(answer.is_ok());
            let again = service.call(&worker, &CONTEXT, &input, Nobody).await;
            assert_eq!(again.map_err(|error| error.kind), Err(Kind::PurgeQueueInProgress));
            assert_eq!(
                (queue.counts().visible, slots.available_permits()),
                (0, FREEING_MAX)
            );
        });
    }

    /// A few queues that take long to purge are nothing that others should notice.
    #[test]
    fn who_looks_does_not_wait_for_those_who_free() {
        let service = service();
        let worker = service.broker().worker().expect("a worker");
        runtime().block_on(async {
            let all = u32::try_from(FREEING_MAX).expect("few");
            let _taken = service.slots.freeing.acquire_many(all).await.expect("slots");
            for (action, body) in [
                (Action::ListDeadLetterSourceQueues, r#"{"QueueUrl":"q"}"#),
                (Action::ListQueues, "{}"),
                (
                    Action::GetQueueAttributes,
                    r#"{"QueueUrl":"q","AttributeNames":["All"]}"#,
                ),
            ] {
                let input = json::parse(action, body.as_bytes()).expect("a request");
                let answer = service.call(&worker, &CONTEXT, &input, Nobody).await;
                assert!(answer.is_ok(), "{action}");
            }
            for action in [Action::PurgeQueue, Action::DeleteQueue] {
                let input = json::parse(action, br#"{"QueueUrl":"q"}"#).expect("a request");
                let mut call = pin!(service.call(&worker, &CONTEXT, &input, Nobody));
                let mut once = task::Context::from_waker(Waker::noop());
                assert!(call.as_mut().poll(&mut once).is_pending(), "{action}");
            }
        });
    }

    /// What had found it before is not to answer for it as for one that is there, nor to take room for it.
    #[test]
    fn a_queue_that_is_deleted_meanwhile_is_gone() {
        let service = service();
        let worker = service.broker().worker().expect("a worker");
        let entry = service.registry.get("q").expect("a queue");
        runtime().block_on(async {
            let input = br#"{"QueueUrl":"q","AttributeNames":["All"]}"#;
            let input = json::parse(Action::GetQueueAttributes, input).expect("a request");
            let all = u32::try_from(LOOKING_MAX).expect("few");
            let taken = service.slots.looking.acquire_many(all).await.expect("slots");
            let mut shown = pin!(service.call(&worker, &CONTEXT, &input, Nobody));
            let mut once = task::Context::from_waker(Waker::noop());
            assert!(shown.as_mut().poll(&mut once).is_pending());
            let input = json::parse(Action::DeleteQueue, br#"{"QueueUrl":"q"}"#).expect("a request");
            let deleted = service.call(&worker, &CONTEXT, &input, Nobody).await;
            assert!(deleted.is_ok());
            drop(taken);
            assert_eq!(
                shown.await.map_err(|error| error.kind),
                Err(Kind::QueueDoesNotExist)
            );
        });
        let error = entry.meta().expect_err("it is gone");
        assert_eq!(error.kind, Kind::QueueDoesNotExist);
    }

    /// Whatever the way: all that is kept of a queue is counted, and comes back.
    #[test]
    fn tags_and_attributes_have_a_limit_together() {
        let service = service();
        let worker = service.broker().worker().expect("a worker");
        runtime().block_on(async {
            let call = async |action, body: String| {
                let input = json::parse(action, body.as_bytes()).expect("a request");
                let answer = service.call(&worker, &CONTEXT, &input, Nobody).await;
                answer.map(drop).map_err(|error| error.kind)
            };
            let policy = |length| format!(r#"{{\"Id\":\"{}\"}}"#, "x".repeat(length));
            let set = |length| {
                format!(
                    r#"{{"QueueUrl":"q","Attributes":{{"Policy":"{}"}}}}"#,
                    policy(length)
                )
            };
            let tag = |key| format!(r#"{{"QueueUrl":"q","Tags":{{"{key}":"{}"}}}}"#, "x".repeat(256));
            let untag = |key| format!(r#"{{"QueueUrl":"q","TagKeys":["{key}"]}}"#);
            let create = |length| {
                format!(
                    r#"{{"QueueName":"r","Attributes":{{"Policy":"{}"}},"tags":{{"a":"b"}}}}"#,
                    policy(length)
                )
            };
            for _ in 0..3 {
                assert_eq!(call(Action::SetQueueAttributes, set(8_000)).await, Ok(()));
                assert_eq!(
                    call(Action::CreateQueue, create(2_000)).await,
                    Err(Kind::OverLimit)
                );
                assert_eq!(call(Action::CreateQueue, create(1_000)).await, Ok(()));
                assert_eq!(call(Action::TagQueue, tag("a")).await, Ok(()));
                assert_eq!(call(Action::TagQueue, tag("b")).await, Err(Kind::OverLimit));
                let permission =
                    r#"{"QueueUrl":"r","Label":"l","AWSAccountIds":["000000000001"],"Actions":["*"]}"#;
                let added = call(Action::AddPermission, permission.to_owned()).await;
                assert_eq!(added, Err(Kind::OverLimit));
                // Less of something is never refused, nor is what is as long.
                assert_eq!(call(Action::TagQueue, tag("a")).await, Ok(()));
                assert_eq!(call(Action::SetQueueAttributes, set(7_000)).await, Ok(()));
                assert_eq!(call(Action::AddPermission, permission.to_owned()).await, Ok(()));
                assert_eq!(call(Action::UntagQueue, untag("a")).await, Ok(()));
                let (nothing, r) = (
                    r#"{"QueueUrl":"q","Attributes":{"Policy":""}}"#,
                    r#"{"QueueUrl":"r"}"#,
                );
                assert_eq!(call(Action::SetQueueAttributes, nothing.to_owned()).await, Ok(()));
                assert_eq!(call(Action::DeleteQueue, r.to_owned()).await, Ok(()));
            }
        });
    }

    /// They would be copied for the thread that looks.
    #[test]
    fn names_that_no_queue_can_have_are_not_looked_for() {
        let service = service();
        let worker = service.broker().worker().expect("a worker");
        let long = "q".repeat(1_000_000);
        let call = |action, body: String| {
            let input = json::parse(action, body.as_bytes()).expect("a request");
            let mut call = pin!(service.call(&worker, &CONTEXT, &input, Nobody));
            // At once: nothing is done apart, for which there is no runtime here.
            match call.as_mut().poll(&mut task::Context::from_waker(Waker::noop())) {
                task::Poll::Ready(answer) => answer,
                task::Poll::Pending => panic!("{action} waits"),
            }
        };
        let prefix = format!(r#"{{"QueueNamePrefix":"{long}"}}"#);
        assert_eq!(call(Action::ListQueues, prefix).as_deref(), Ok(&b"{}"[..]));
        let arn = format!(r#"{{"SourceArn":"arn:aws:sqs:us-east-1:000000000000:{long}"}}"#);
        for action in [Action::StartMessageMoveTask, Action::ListMessageMoveTasks] {
            let error = call(action, arn.clone()).expect_err("no such queue");
            assert_eq!(error.kind, Kind::ResourceNotFound);
        }
    }
}
