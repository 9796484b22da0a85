//! Receiving messages, with what was asked for of each.

use std::{future::poll_fn, task::Poll, time::Duration};

use epoq::{
    Attribute, AttributeFilter, AttributeValue, Delivery, Message, MessageId, Millis, Queue, ReceiptHandle,
    ReceiveError, SequenceNumber, Worker,
};

use super::{Caller, Context, Service, address, digest, message::TRACE_HEADER};
use crate::{
    error::{Kind, ServiceError, cut},
    protocol::{
        Answer,
        input::{Int, Names, ReceiveMessage},
    },
};

/// What a receive asks for of each message beside its body.
struct Wanted {
    all: bool,
    system: Vec<&'static str>,
    /// None: no message attributes.
    attributes: Option<AttributeFilter>,
}

/// In the order in which they are given.
const SYSTEM_ATTRIBUTES: &[&str] = &[
    "SenderId",
    "SentTimestamp",
    "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp",
    "SequenceNumber",
    "MessageDeduplicationId",
    "MessageGroupId",
    TRACE_HEADER,
    "DeadLetterQueueSourceArn",
];

impl Wanted {
    fn new(input: &ReceiveMessage<'_>) -> Result<Self, ServiceError> {
        let lists = [
            &input.attribute_names,
            &input.message_system_attribute_names,
            &input.message_attribute_names,
        ];
        if lists.iter().any(|list| is_cut(list.as_ref())) {
            return Err(ServiceError::invalid("The request has too many attribute names."));
        }
        let names = || {
            let lists = [&input.attribute_names, &input.message_system_attribute_names];
            lists.into_iter().flatten().flat_map(|list| &list.items)
        };
        let attributes: Vec<&str> = input
            .message_attribute_names
            .iter()
            .flat_map(|list| list.items.iter().map(|name| &**name))
            .collect();
        Ok(Self {
            all: names().any(|name| &**name == "All"),
            // Names that there are not are passed over.
            system: SYSTEM_ATTRIBUTES
                .iter()
                .copied()
                .filter(|known| names().any(|name| &**name == *known))
                .collect(),
            attributes: (!attributes.is_empty()).then(|| AttributeFilter::new(&attributes)),
        })
    }

    fn system(&self, name: &str) -> bool {
        self.all || self.system.contains(&name)
    }
}

fn is_cut(list: Option<&Names<'_>>) -> bool {
    list.is_some_and(|list| list.total > list.items.len())
}

/// Refuses a list of which only a part is kept.
pub(super) fn check_whole(list: Option<&Names<'_>>) -> Result<(), ServiceError> {
    if is_cut(list) {
        return Err(ServiceError::invalid(
            "The request has too many entries in a list.",
        ));
    }
    Ok(())
}

/// A received message, borrowed from the ledger or a copy.
struct View<'a> {
    id: MessageId,
    handle: ReceiptHandle,
    body: &'a [u8],
    attributes: Vec<Attribute<'a>>,
    receives: u32,
    sent: Millis,
    first_received: Millis,
    sequence: Option<SequenceNumber>,
    deduplication: Option<&'a str>,
    group: Option<&'a str>,
    trace: Option<&'a str>,
    source: Option<&'a str>,
}

macro_rules! view {
    ($message:expr, $wanted:expr) => {{
        let message = $message;
        View {
            id: message.message_id(),
            handle: message.receipt_handle(),
            body: message.body(),
            attributes: match &$wanted.attributes {
                None => Vec::new(),
                Some(filter) => message
                    .attributes()
                    .filter(|attribute| filter.matches(attribute.name))
                    .collect(),
            },
            receives: message.receive_count(),
            sent: message.sent_at(),
            first_received: message.first_received_at(),
            sequence: message.sequence_number(),
            deduplication: message.deduplication_id(),
            group: message.message_group(),
            trace: message.trace_header(),
            source: message.dead_letter_source(),
        }
    }};
}

impl<'a> View<'a> {
    fn of_delivery(delivery: &Delivery<'a>, wanted: &Wanted) -> Self {
        view!(delivery, wanted)
    }

    fn of_message(message: &'a Message, wanted: &Wanted) -> Self {
        view!(message, wanted)
    }
}

/// What an answer says of a message received beside its body, about.
const RECEIVED_BYTES: usize = 224;

/// How much a receive asks for.
#[derive(Clone, Copy)]
struct Asked {
    max: usize,
    timeout: Option<Duration>,
}

impl Service {
    pub(super) async fn receive_message(
        &self,
        worker: &Worker,
        input: &ReceiveMessage<'_>,
        context: &Context<'_>,
        answer: &mut Answer,
        caller: impl Caller,
    ) -> Result<(), ServiceError> {
        let entry = self.queue(input.queue_url.as_ref())?;
        let queue = &entry.queue;
        let wanted = Wanted::new(input)?;
        let asked = Asked {
            max: match input.max_number_of_messages {
                None => 1,
                Some(Int(given)) => usize::try_from(given)
                    .ok()
                    .filter(|max| (1..=epoq::limits::BATCH_MAX).contains(max))
                    .ok_or_else(|| {
                        ServiceError::invalid_value(
                            given,
                            "MaxNumberOfMessages",
                            "Must be between 1 and 10, if provided.",
                        )
                    })?,
            },
            timeout: seconds(
                input.visibility_timeout,
                epoq::limits::VISIBILITY_MAX,
                "VisibilityTimeout",
            )?,
        };
        let wait = seconds(input.wait_time_seconds, epoq::limits::WAIT_MAX, "WaitTimeSeconds")?;
        let attempt = input
            .receive_request_attempt_id
            .as_deref()
            .filter(|_| queue.is_fifo());

        let messages = match attempt {
            Some(attempt) => {
                let waiting =
                    queue.receive_attempt_async(attempt, asked.max, asked.timeout, wait, tokio::time::sleep);
                // Boxed, so that no other request has to have room for it.
                self.unless_over(Box::pin(waiting), &caller, Some(attempt))
                    .await?
            }
            None => {
                // What is there is written from where it lies. Only who has to wait gets copies.
                match self.receive_now(worker, queue, asked, &wanted, context, answer) {
                    Ok(true) => return Ok(()),
                    // Without one of its own it is for the queue to say, below.
                    Ok(false) if wait == Some(Duration::ZERO) => return Ok(()),
                    Ok(false) => {}
                    // A long poll waits until some are deleted.
                    Err(ReceiveError::TooManyInFlight { .. }) => {}
                    Err(error) => return Err(refusal(error, None)),
                }
                let waiting = queue.receive_async(asked.max, asked.timeout, wait, tokio::time::sleep);
                self.unless_over(Box::pin(waiting), &caller, None).await?
            }
        };
        let views: Vec<_> = messages
            .iter()
            .map(|message| View::of_message(message, &wanted))
            .collect();
        self.write_messages(queue, views, &wanted, context, answer);
        Ok(())
    }

    /// Whether there was anything.
    fn receive_now(
        &self,
        worker: &Worker,
        queue: &Queue,
        asked: Asked,
        wanted: &Wanted,
        context: &Context<'_>,
        answer: &mut Answer,
    ) -> Result<bool, ReceiveError> {
        worker.turn(|turn| {
            let received = turn.receive(queue, asked.max, asked.timeout)?;
            let bytes = received
                .iter()
                .map(|delivery| RECEIVED_BYTES + delivery.body().len());
            answer.reserve(bytes.sum());
            let views = received
                .iter()
                .map(|delivery| View::of_delivery(&delivery, wanted));
            self.write_messages(queue, views, wanted, context, answer);
            Ok(!received.is_empty())
        })
    }

    async fn unless_over(
        &self,
        waiting: impl Future<Output = Result<Vec<Message>, ReceiveError>>,
        caller: &impl Caller,
        attempt: Option<&str>,
    ) -> Result<Vec<Message>, ServiceError> {
        // Many that were admitted long ago may be woken at once. Looked at whenever they are, and before they take anything: what is
        // received and given back counts as received, until it is a dead letter that nobody has seen.
        let full = poll_fn(|_| match caller.is_full() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        });
        tokio::select! {
            biased;
            // Whoever has left is not to take what comes.
            () = caller.gone() => Ok(Vec::new()),
            () = full => Err(ServiceError::overloaded()),
            received = waiting => received.map_err(|error| refusal(error, attempt)),
            () = caller.closing() => Ok(Vec::new()),
        }
    }

    fn write_messages<'a>(
        &self,
        queue: &Queue,
        views: impl IntoIterator<Item = View<'a>>,
        wanted: &Wanted,
        context: &Context<'_>,
        answer: &mut Answer,
    ) {
        answer.structures("Messages", "Message", views, |answer, view| {
            answer.plain("MessageId", &view.id);
            answer.text("ReceiptHandle", &queue.encode_handle(&view.handle));
            answer.text("MD5OfBody", digest::of_body(view.body).as_str());
            match str::from_utf8(view.body) {
                Ok(body) => answer.text("Body", body),
                // It came in as text, so that does not happen.
                Err(_) => answer.text("Body", &String::from_utf8_lossy(view.body)),
            }
            let names = SYSTEM_ATTRIBUTES.iter().filter(|name| wanted.system(name));
            let values = names.filter_map(|name| Some((name, self.system_attribute(&view, name, context)?)));
            answer.text_map("Attributes", "Attribute", "Name", values);
            if view.attributes.is_empty() {
                return;
            }
            let digest = digest::of_attributes(&view.attributes);
            answer.text("MD5OfMessageAttributes", digest.as_str());
            let attributes = view
                .attributes
                .iter()
                .map(|attribute| (attribute.name, attribute));
            answer.map(
                "MessageAttributes",
                "MessageAttribute",
                "Name",
                attributes,
                |answer, name, attribute| {
                    answer.structure(name, |answer| {
                        match attribute.value {
                            AttributeValue::Text(text) => answer.text("StringValue", text),
                            AttributeValue::Binary(bytes) => answer.blob("BinaryValue", bytes),
                        }
                        answer.text("DataType", attribute.data_type);
                    });
                },
            );
        });
    }

    fn system_attribute(&self, view: &View<'_>, name: &str, context: &Context<'_>) -> Option<String> {
        let moment = |moment| Some(self.broker().unix_millis(moment).to_string());
        let text = |text: Option<&str>| text.map(str::to_owned);
        match name {
            "SenderId" => Some(self.rules.account.clone()),
            "SentTimestamp" => moment(view.sent),
            "ApproximateReceiveCount" => Some(view.receives.to_string()),
            "ApproximateFirstReceiveTimestamp" => moment(view.first_received),
            "SequenceNumber" => view.sequence.map(|number| number.to_string()),
            "MessageDeduplicationId" => text(view.deduplication),
            "MessageGroupId" => text(view.group),
            TRACE_HEADER => text(view.trace),
            "DeadLetterQueueSourceArn" => view
                .source
                .map(|source| address::arn(context.region, &self.rules.account, source)),
            _ => None,
        }
    }
}

fn seconds(given: Option<Int>, most: Duration, parameter: &str) -> Result<Option<Duration>, ServiceError> {
    let Some(Int(given)) = given else { return Ok(None) };
    let duration = u64::try_from(given).ok().map(Duration::from_secs);
    let duration = duration.filter(|duration| *duration <= most).ok_or_else(|| {
        let reason = format!("Must be >= 0 and <= {}, if provided.", most.as_secs());
        ServiceError::invalid_value(given, parameter, &reason)
    })?;
    Ok(Some(duration))
}

fn refusal(error: ReceiveError, attempt: Option<&str>) -> ServiceError {
    let invalid_attempt = |reason: &str| {
        let attempt = cut(attempt.unwrap_or_default());
        ServiceError::invalid_value(attempt, "ReceiveRequestAttemptId", reason)
    };
    match error {
        ReceiveError::TooManyInFlight { .. } => ServiceError::new(
            Kind::OverLimit,
            "Too many messages have been received without being deleted. Please delete your received messages or let them timeout before receiving more.",
        ),
        ReceiveError::AttemptId => invalid_attempt(
            "ReceiveRequestAttemptId can only include alphanumeric and punctuation characters. 1 to 128 in length.",
        ),
        ReceiveError::AttemptNotValid => invalid_attempt(
            "The receiveRequestAttemptId is not valid anymore since the receive call is not retryable.",
        ),
        ReceiveError::TooManyAttempts { .. } => ServiceError::new(
            Kind::RequestThrottled,
            "Too many receive request attempt ids are remembered. Try again later.",
        ),
        ReceiveError::QueueDeleted => ServiceError::no_queue(),
        error => ServiceError::invalid(error.to_string()),
    }
}
