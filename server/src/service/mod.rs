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

use std::{fmt, net::SocketAddr, sync::Arc};

use epoq::{Broker, MoveTask, Worker};
use tokio::sync::mpsc;

use crate::{
    error::{Kind, ServiceError},
    protocol::{Answer, Input, Protocol, input::Text},
};
use registry::{Entry, Registry};

pub(crate) use address::{ACCOUNT_DEFAULT, REGION_DEFAULT, is_region};
pub(crate) use caller::Caller;
pub(crate) use digest::hex;

/// What a service does beyond the rules that all share.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// The account of all queues: twelve digits.
    pub(crate) account: String,
    /// Whether a deleted queue's name rests for a minute, and a queue after a purge.
    pub(crate) cooldowns: bool,
    /// The most queues there may be.
    pub(crate) queues_max: usize,
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
            registry: Arc::new(Registry::new(broker)),
            rules,
            task_key,
            moves,
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

    fn url(&self, context: &Context<'_>, name: &str) -> String {
        format!("{}/{}/{name}", context.origin, self.rules.account)
    }
}

/// Does on a thread of its own what, with millions of messages or many queues, takes longer than others on a serving thread should wait.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ServiceError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ServiceError::new(Kind::ServiceUnavailable, "The operation was cut off."))
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
        fn admits(&mut self, _: usize) -> bool {
            true
        }
    }

    /// So that with many queues nobody else on the same thread waits for it.
    #[test]
    fn what_asks_all_queues_leaves_the_thread() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .expect("a runtime");
        let rules = Rules {
            account: ACCOUNT_DEFAULT.to_owned(),
            cooldowns: false,
            queues_max: 10,
        };
        let (service, _moves) =
            Service::new(Broker::builder().build().expect("a broker"), rules).expect("entropy");
        service
            .create("q", &Default::default(), &Default::default())
            .expect("a queue");
        let worker = service.broker().worker().expect("a worker");
        let context = Context {
            protocol: Protocol::Json,
            origin: Origin::Url("http://a"),
            region: REGION_DEFAULT,
            request_id: "id",
            trace: None,
        };
        runtime.block_on(async {
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
                let mut call = pin!(service.call(&worker, &context, &input, Nobody));
                let mut once = task::Context::from_waker(Waker::noop());
                assert!(call.as_mut().poll(&mut once).is_pending(), "{action}");
                drop(free);
                // Answered or refused.
                let _ = call.await;
                let _ = occupied.await;
            }
        });
    }
}
