//! Sending messages, deleting them, and changing how long they stay invisible.

use std::time::Duration;

use epoq::{
    Attribute, AttributeError, AttributeValue, BatchError, ChangeVisibilityError, DeleteError, HandleError,
    Outgoing, Queue, ReceiptHandle, SendError, Worker,
};

use super::{Context, Service, batch, digest, required};
use crate::{
    error::{Kind, ServiceError, cut},
    protocol::{
        Answer, INVALID_CHARACTERS,
        input::{AttributeInput, HandleBatch, Int, MESSAGE_ATTRIBUTES, OfHandle, Pairs, Send, SendBatch},
    },
};

/// The one message system attribute that can be sent.
pub(super) const TRACE_HEADER: &str = "AWSTraceHeader";
/// Bytes in the messages of one batch: SQS's limit.
const BATCH_BYTES_MAX: usize = 1_048_576;
const OTHER_QUEUE_TYPE: &str = "The request include parameter that is not valid for this queue type.";
const EXPIRED: &str = "The receipt handle has expired.";
const HANDLE: &str = "ReceiptHandle";
/// What an answer says of a message that was sent, about.
const SENT_BYTES: usize = 128;

/// A message as the request has it, checked as far as the ledger does not.
struct Prepared<'a> {
    input: &'a Send<'a>,
    attributes: Vec<Attribute<'a>>,
    trace: Option<&'a str>,
}

impl<'a> Prepared<'a> {
    /// `body` says what a missing body is called.
    fn new(
        input: &'a Send<'a>,
        body: impl FnOnce() -> String,
        header: Option<&'a str>,
    ) -> Result<Self, ServiceError> {
        let text = input.message_body.as_deref().unwrap_or_default();
        if text.is_empty() {
            return Err(ServiceError::missing(&body()));
        }
        if !is_xml_text(text) {
            return Err(ServiceError::new(
                Kind::InvalidMessageContents,
                INVALID_CHARACTERS,
            ));
        }
        Ok(Self {
            input,
            attributes: attributes(input.message_attributes.as_ref())?,
            trace: trace_header(input.message_system_attributes.as_ref())?.or(header),
        })
    }

    fn body(&self) -> &'a [u8] {
        self.input
            .message_body
            .as_deref()
            .map_or(b"", |body| body.as_bytes())
    }

    fn outgoing(&'a self, queue: &Queue) -> Result<Outgoing<'a>, ServiceError> {
        let mut message = Outgoing::new(self.body()).attributes(&self.attributes);
        if let Some(Int(given)) = self.input.delay_seconds {
            let delay = u64::try_from(given).ok().map(Duration::from_secs);
            let delay = delay
                .filter(|delay| *delay <= epoq::limits::DELAY_MAX)
                .ok_or_else(|| {
                    ServiceError::invalid_value(
                        given,
                        "DelaySeconds",
                        "DelaySeconds must be >= 0 and <= 900.",
                    )
                })?;
            // SQS passes over a zero in a FIFO queue: the queue's own delay applies.
            if !(queue.is_fifo() && delay.is_zero()) {
                message = message.delay(delay);
            }
        }
        if let Some(group) = self.input.message_group_id.as_deref() {
            message = message.message_group(group);
        }
        if let Some(id) = self.input.message_deduplication_id.as_deref() {
            message = message.deduplication_id(id);
        }
        if let Some(trace) = self.trace {
            message = message.trace_header(trace);
        }
        Ok(message)
    }

    fn write(&self, sent: &epoq::Sent<'_>, answer: &mut Answer) {
        answer.plain("MessageId", &sent.message_id());
        answer.text("MD5OfMessageBody", digest::of_body(self.body()).as_str());
        if !self.attributes.is_empty() {
            let digest = digest::of_attributes(&self.attributes);
            answer.text("MD5OfMessageAttributes", digest.as_str());
        }
        // Of those in the request only, as for the other digest.
        let given = self.input.message_system_attributes.as_ref();
        let is_given = given.is_some_and(|given| !given.items.is_empty());
        if let (true, Some(trace)) = (is_given, self.trace) {
            let attribute = Attribute::string(TRACE_HEADER, trace);
            answer.text(
                "MD5OfMessageSystemAttributes",
                digest::of_attributes(&[attribute]).as_str(),
            );
        }
        if let Some(number) = sent.sequence_number() {
            answer.plain("SequenceNumber", &number);
        }
    }

    /// The ledger's refusal in SQS's words, which differ a little for entries of batches.
    fn refusal(&self, error: SendError, in_batch: bool) -> ServiceError {
        let id = |parameter: &str, value: Option<&str>| {
            let reason = format!(
                "{parameter} can only include alphanumeric and punctuation characters. 1 to 128 in length"
            );
            if in_batch {
                ServiceError::invalid(reason)
            } else {
                ServiceError::invalid_value(cut(value.unwrap_or_default()), parameter, &(reason + "."))
            }
        };
        let other_type = |parameter: &str, value: &str| {
            if in_batch {
                ServiceError::invalid(OTHER_QUEUE_TYPE.trim_end_matches('.'))
            } else {
                ServiceError::invalid_value(cut(value), parameter, OTHER_QUEUE_TYPE)
            }
        };
        let deduplication = self.input.message_deduplication_id.as_deref();
        match error {
            SendError::TooLong { limit, .. } => ServiceError::invalid(format!(
                "One or more parameters {}. Reason: Message must be shorter than {limit} bytes.",
                if in_batch {
                    "cannot be validated"
                } else {
                    "are invalid"
                }
            )),
            SendError::Attribute(error) => attribute_refusal(error, &self.attributes),
            SendError::MessageGroup => id("MessageGroupId", self.input.message_group_id.as_deref()),
            SendError::DeduplicationId => id("MessageDeduplicationId", deduplication),
            SendError::MissingMessageGroup if in_batch => {
                ServiceError::invalid("The request must contain the parameter MessageGroupId.")
            }
            SendError::MissingMessageGroup => ServiceError::missing("MessageGroupId"),
            SendError::MissingDeduplicationId => ServiceError::invalid(
                "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly",
            ),
            SendError::DeduplicationNotAllowed => {
                other_type("MessageDeduplicationId", deduplication.unwrap_or_default())
            }
            SendError::DelayNotAllowed => {
                let delay = self.input.delay_seconds.map_or(0, |delay| delay.0);
                other_type("DelaySeconds", &delay.to_string())
            }
            SendError::OverBudget { .. } => ServiceError::new(
                Kind::RequestThrottled,
                "The memory for messages is used up. Try again when some have been received and deleted.",
            ),
            SendError::DeduplicationFull { .. } => ServiceError::new(
                Kind::RequestThrottled,
                "The memory for deduplication ids is used up. Try again when some are older than five minutes.",
            ),
            SendError::QueueDeleted => ServiceError::no_queue(),
            error => ServiceError::invalid(error.to_string()),
        }
    }
}

impl Service {
    pub(super) fn send_message(
        &self,
        worker: &Worker,
        input: &Send<'_>,
        context: &Context<'_>,
        answer: &mut Answer,
    ) -> Result<(), ServiceError> {
        let entry = self.queue(input.queue_url.as_ref())?;
        let message = Prepared::new(input, || "MessageBody".to_owned(), context.trace)?;
        let outgoing = message.outgoing(&entry.queue)?;
        worker.turn(|turn| match turn.send_message(&entry.queue, &outgoing) {
            Ok(sent) => {
                message.write(&sent, answer);
                Ok(())
            }
            Err(error) => Err(message.refusal(error, false)),
        })
    }

    pub(super) fn send_message_batch(
        &self,
        worker: &Worker,
        input: &SendBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), ServiceError> {
        const NAME: &str = "SendMessageBatchRequestEntry";
        let entry = self.queue(input.queue_url.as_ref())?;
        let queue = &entry.queue;
        let entries = batch::entries(input.entries.as_ref(), |entry| entry.id.as_ref(), NAME, NAME)?;
        let size: usize = entries.iter().map(size).fold(0, usize::saturating_add);
        if size > BATCH_BYTES_MAX {
            return Err(ServiceError::new(
                Kind::BatchRequestTooLong,
                format!(
                    "Batch requests cannot be longer than {BATCH_BYTES_MAX} bytes. You have sent {size} bytes."
                ),
            ));
        }
        let mut failed = Vec::new();
        let mut prepared = Vec::with_capacity(entries.len());
        // One that is refused is the end of the whole batch on a FIFO queue.
        let mut fail = |id, error| {
            if queue.is_fifo() {
                return Err(error);
            }
            failed.push((id, error));
            Ok(())
        };
        for (at, input) in entries.iter().enumerate() {
            let id = input.id.as_deref().unwrap_or_default();
            match Prepared::new(input, || format!("{NAME}.{}.MessageBody", at + 1), None) {
                Ok(message) => prepared.push((id, message)),
                Err(error) => fail(id, error)?,
            }
        }
        let mut outgoing = Vec::with_capacity(prepared.len());
        let mut sending = Vec::with_capacity(prepared.len());
        for (id, message) in &prepared {
            match message.outgoing(queue) {
                Ok(ready) => {
                    outgoing.push(ready);
                    sending.push((*id, message));
                }
                Err(error) => fail(*id, error)?,
            }
        }
        if outgoing.is_empty() {
            batch::write_failed(answer, &failed);
            return Ok(());
        }
        worker.turn(|turn| {
            let results = turn
                .send_messages(queue, &outgoing)
                .map_err(|error| match error {
                    BatchError::Entry { at, error } => match sending.get(at) {
                        Some((_, message)) => message.refusal(error, true),
                        None => ServiceError::invalid(error.to_string()),
                    },
                    BatchError::QueueDeleted => ServiceError::no_queue(),
                    error => ServiceError::invalid(error.to_string()),
                })?;
            let mut done = Vec::with_capacity(sending.len());
            for ((id, message), result) in sending.iter().zip(&results) {
                match result {
                    Ok(sent) => done.push((id, message, sent)),
                    Err(error) => failed.push((*id, message.refusal(*error, true))),
                }
            }
            answer.reserve(done.len() * SENT_BYTES);
            answer.structures(
                "Successful",
                "SendMessageBatchResultEntry",
                done,
                |answer, (id, message, sent)| {
                    answer.text("Id", id);
                    message.write(sent, answer);
                },
            );
            batch::write_failed(answer, &failed);
            Ok(())
        })
    }

    pub(super) fn delete_message(&self, worker: &Worker, input: &OfHandle<'_>) -> Result<(), ServiceError> {
        let entry = self.queue(input.queue_url.as_ref())?;
        let text = required(input.receipt_handle.as_ref(), HANDLE)?;
        let handle = handle(&entry.queue, text)?;
        worker
            .turn(|turn| turn.delete(&entry.queue, &handle))
            .map(|_| ())
            .map_err(|error| match error {
                DeleteError::Expired => ServiceError::invalid_value(cut(text), HANDLE, EXPIRED),
                error => delete_refusal(error, text),
            })
    }

    pub(super) fn delete_message_batch(
        &self,
        worker: &Worker,
        input: &HandleBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), ServiceError> {
        const NAME: &str = "DeleteMessageBatchRequestEntry";
        let entry = self.queue(input.queue_url.as_ref())?;
        let entries = batch::entries(input.entries.as_ref(), |entry| entry.id.as_ref(), NAME, NAME)?;
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        worker.turn(|turn| {
            for input in entries {
                let id = input.id.as_deref().unwrap_or_default();
                let deleted = required(input.receipt_handle.as_ref(), HANDLE).and_then(|text| {
                    let handle = handle(&entry.queue, text)?;
                    turn.delete(&entry.queue, &handle)
                        .map_err(|error| delete_refusal(error, text))
                });
                match deleted {
                    Ok(_) => done.push(id),
                    Err(error) if error.kind == Kind::QueueDoesNotExist => return Err(error),
                    Err(error) => failed.push((id, error)),
                }
            }
            Ok(())
        })?;
        batch::write_done(answer, "DeleteMessageBatchResultEntry", &done);
        batch::write_failed(answer, &failed);
        Ok(())
    }

    pub(super) fn change_message_visibility(
        &self,
        worker: &Worker,
        input: &OfHandle<'_>,
    ) -> Result<(), ServiceError> {
        let entry = self.queue(input.queue_url.as_ref())?;
        let text = required(input.receipt_handle.as_ref(), HANDLE)?;
        let Int(given) = input
            .visibility_timeout
            .ok_or_else(|| ServiceError::missing("VisibilityTimeout"))?;
        let timeout = visibility(given, "Must be between 0 and 43200.")?;
        let handle = handle(&entry.queue, text)?;
        worker
            .turn(|turn| turn.change_visibility(&entry.queue, &handle, timeout))
            .map(|_| ())
            .map_err(|error| change_refusal(error, text, given))
    }

    pub(super) fn change_message_visibility_batch(
        &self,
        worker: &Worker,
        input: &HandleBatch<'_>,
        answer: &mut Answer,
    ) -> Result<(), ServiceError> {
        const NAME: &str = "ChangeMessageVisibilityBatchRequestEntry";
        let entry = self.queue(input.queue_url.as_ref())?;
        let entries = batch::entries(
            input.entries.as_ref(),
            |entry| entry.id.as_ref(),
            NAME,
            "ChangeMessageVisibilityBatch",
        )?;
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        worker.turn(|turn| {
            for (at, input) in entries.iter().enumerate() {
                let id = input.id.as_deref().unwrap_or_default();
                let changed = required(input.receipt_handle.as_ref(), HANDLE).and_then(|text| {
                    let Int(given) = input.visibility_timeout.ok_or_else(|| {
                        ServiceError::missing(&format!("{NAME}.{}.VisibilityTimeout", at + 1))
                    })?;
                    let timeout =
                        visibility(given, "VisibilityTimeout must be an integer between 0 and 43200.")?;
                    let handle = handle(&entry.queue, text)?;
                    turn.change_visibility(&entry.queue, &handle, timeout)
                        .map_err(|error| match error {
                            ChangeVisibilityError::Expired => expired_in_batch(),
                            error => change_refusal(error, text, given),
                        })
                });
                match changed {
                    Ok(_) => done.push(id),
                    Err(error) if error.kind == Kind::QueueDoesNotExist => return Err(error),
                    Err(error) => failed.push((id, error)),
                }
            }
            Ok(())
        })?;
        batch::write_done(answer, "ChangeMessageVisibilityBatchResultEntry", &done);
        batch::write_failed(answer, &failed);
        Ok(())
    }
}

fn visibility(given: i64, reason: &str) -> Result<Duration, ServiceError> {
    u64::try_from(given)
        .ok()
        .map(Duration::from_secs)
        .filter(|timeout| *timeout <= epoq::limits::VISIBILITY_MAX)
        .ok_or_else(|| ServiceError::invalid_value(given, "VisibilityTimeout", reason))
}

fn handle(queue: &Queue, text: &str) -> Result<ReceiptHandle, ServiceError> {
    queue.decode_handle(text).map_err(|error| match error {
        HandleError::Foreign => foreign(text),
        _ => ServiceError::new(
            Kind::ReceiptHandleIsInvalid,
            format!(
                "The input receipt handle \"{}\" is not a valid receipt handle.",
                cut(text)
            ),
        ),
    })
}

fn foreign(text: &str) -> ServiceError {
    ServiceError::new(
        Kind::ReceiptHandleIsInvalid,
        format!(
            "The receipt handle \"{}\" is not valid for this queue.",
            cut(text)
        ),
    )
}

/// As an entry of a batch has it, which differs from the single call in code and period.
fn expired_in_batch() -> ServiceError {
    ServiceError::new(Kind::ReceiptHandleIsInvalid, EXPIRED.trim_end_matches('.'))
}

/// As an entry of a batch has it.
fn delete_refusal(error: DeleteError, text: &str) -> ServiceError {
    match error {
        DeleteError::Expired => expired_in_batch(),
        DeleteError::QueueDeleted => ServiceError::no_queue(),
        _ => foreign(text),
    }
}

fn change_refusal(error: ChangeVisibilityError, text: &str, given: i64) -> ServiceError {
    match error {
        ChangeVisibilityError::Foreign => foreign(text),
        ChangeVisibilityError::Gone | ChangeVisibilityError::ReceivedAgain => ServiceError::invalid_value(
            cut(text),
            HANDLE,
            "Message does not exist or is not available for visibility timeout change.",
        ),
        ChangeVisibilityError::Expired => ServiceError::invalid_value(cut(text), HANDLE, EXPIRED),
        ChangeVisibilityError::TotalTooLong { limit } => ServiceError::invalid_value(
            given,
            "VisibilityTimeout",
            &format!(
                "Total VisibilityTimeout for the message is beyond the limit [{} seconds].",
                limit.as_secs()
            ),
        ),
        ChangeVisibilityError::QueueDeleted => ServiceError::no_queue(),
        error => ServiceError::invalid(error.to_string()),
    }
}

/// Whether XML 1.0 can carry it. `str` has no surrogates.
pub(super) fn is_xml_text(text: &str) -> bool {
    // Nearly all texts are of these alone, and bytes are looked at faster than characters.
    let simple = |byte: u8| matches!(byte, 9 | 10 | 13 | 0x20..=0x7f);
    text.bytes().all(simple)
        || text
            .chars()
            .all(|c| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..))
}

/// A message's size as SQS reckons it, before anything of it is checked.
fn size(input: &Send<'_>) -> usize {
    let length = |text: &Option<crate::protocol::input::Text<'_>>| text.as_ref().map_or(0, |text| text.len());
    let attributes = input.message_attributes.iter().flat_map(|all| &all.items);
    attributes.fold(length(&input.message_body), |sum, (name, value)| {
        let binary = value.binary_value.as_ref().map_or(0, |bytes| bytes.0.len());
        sum + name.len() + length(&value.data_type) + length(&value.string_value) + binary
    })
}

type AttributeInputs<'a> = Pairs<'a, AttributeInput<'a>, MESSAGE_ATTRIBUTES>;

fn attributes<'a>(inputs: Option<&'a AttributeInputs<'a>>) -> Result<Vec<Attribute<'a>>, ServiceError> {
    let Some(inputs) = inputs else {
        return Ok(Vec::new());
    };
    if inputs.total > epoq::limits::ATTRIBUTES_MAX {
        return Err(too_many(inputs.total, epoq::limits::ATTRIBUTES_MAX));
    }
    inputs
        .items
        .iter()
        .map(|(name, value)| attribute(name, value))
        .collect()
}

fn attribute<'a>(name: &'a str, input: &'a AttributeInput<'a>) -> Result<Attribute<'a>, ServiceError> {
    let is_given = |list: Option<crate::protocol::input::Lost>| list.is_some_and(|list| list.0 > 0);
    if is_given(input.string_list_values) || is_given(input.binary_list_values) {
        return Err(ServiceError::new(
            Kind::UnsupportedOperation,
            "Message attribute list values in SendMessage operation are not supported.",
        ));
    }
    if name.is_empty() {
        return Err(no_name());
    }
    let shown = cut(name);
    let data_type = input.data_type.as_deref().unwrap_or_default();
    if data_type.is_empty() {
        return Err(ServiceError::invalid(format!(
            "The message (user) attribute '{shown}' must contain a non-empty message attribute type."
        )));
    }
    let binary = data_type == "Binary" || data_type.starts_with("Binary.");
    let value = match (&input.string_value, &input.binary_value) {
        (None, None) => {
            return Err(ServiceError::invalid(format!(
                "The message (user) attribute '{shown}' must contain a non-empty message attribute value."
            )));
        }
        // The value of the kind that the type says, if both are there.
        (_, Some(bytes)) if binary => AttributeValue::Binary(&bytes.0),
        (Some(text), _) => AttributeValue::Text(text),
        (None, Some(bytes)) => AttributeValue::Binary(&bytes.0),
    };
    Ok(Attribute {
        name,
        data_type,
        value,
    })
}

fn no_name() -> ServiceError {
    ServiceError::invalid("The request must contain non-empty message (user) attribute names.")
}

fn too_many(given: usize, limit: usize) -> ServiceError {
    ServiceError::invalid(format!(
        "Number of message attributes [{given}] exceeds the allowed maximum [{limit}]."
    ))
}

fn attribute_refusal(error: AttributeError, attributes: &[Attribute<'_>]) -> ServiceError {
    let name = |index: usize| attributes.get(index).map_or("", |attribute| cut(attribute.name));
    // `Number.int` is a Number.
    let kind = |index: usize| {
        let data_type = attributes.get(index).map_or("", |attribute| attribute.data_type);
        cut(data_type.split('.').next().unwrap_or_default())
    };
    ServiceError::invalid(match error {
        AttributeError::TooMany { given, limit } => return too_many(given, limit),
        AttributeError::NameEmpty { .. } => return no_name(),
        AttributeError::NameTooLong { .. } => {
            "Message (user) attribute name must be shorter than 256 bytes.".to_owned()
        }
        AttributeError::NameReserved { .. } => "You can't use message attribute names beginning with 'AWS.' or 'Amazon'. These strings are reserved for internal use.".to_owned(),
        AttributeError::NameInvalid { index } => format!(
            "Invalid message (user) attribute name '{}': it can contain letters, digits, underscores, hyphens and single periods inside.",
            name(index)
        ),
        AttributeError::NameTwice { index } => {
            format!("Message (user) attribute name '{}' already exists.", name(index))
        }
        AttributeError::TypeTooLong { .. } => {
            "Message (user) attribute type must be shorter than 256 bytes.".to_owned()
        }
        AttributeError::TypeInvalid { index } => format!(
            "The type of message (user) attribute '{}' is invalid. You must use only the following supported type prefixes: Binary, Number, String.",
            name(index)
        ),
        AttributeError::ValueEmpty { index } | AttributeError::ValueKind { index } => format!(
            "Message (user) attribute '{}' must contain a non-empty value of type '{}'.",
            name(index),
            kind(index)
        ),
        AttributeError::ValueCharacter { .. } => INVALID_CHARACTERS.to_owned(),
        AttributeError::NotANumber { index }
        | AttributeError::NumberTooPrecise { index, .. }
        | AttributeError::NumberOutOfRange { index } => format!(
            "Can't cast the value of message (user) attribute '{}' to a number.",
            name(index)
        ),
        error => error.to_string(),
    })
}

fn trace_header<'a>(inputs: Option<&'a AttributeInputs<'a>>) -> Result<Option<&'a str>, ServiceError> {
    let mut header = None;
    for (name, input) in inputs.iter().flat_map(|inputs| &inputs.items) {
        let name = &**name;
        if name != TRACE_HEADER {
            return Err(ServiceError::invalid(format!(
                "Message system attribute name '{}' is invalid.",
                cut(name)
            )));
        }
        let text = input.string_value.as_deref().unwrap_or_default();
        if input.data_type.as_deref() != Some("String") || text.is_empty() || !is_xml_text(text) {
            return Err(ServiceError::invalid(format!(
                "Message (system) attribute '{TRACE_HEADER}' must contain a non-empty value of type 'String'."
            )));
        }
        header = Some(text);
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_xml() {
        for text in [
            "a\t\n\r",
            "é",
            "\u{d7ff}\u{e000}\u{fffd}\u{10000}\u{10ffff}",
            "\u{7f}",
        ] {
            assert!(is_xml_text(text), "{text:?}");
        }
        for text in ["\0", "a\u{b}", "\u{1f}", "\u{fffe}", "é\u{ffff}"] {
            assert!(!is_xml_text(text), "{text:?}");
        }
    }
}
