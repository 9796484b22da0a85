//! The Query protocol: an `Action` and its parameters, flattened into a form or a query string.
//!
//! `Entries[0].MessageAttributes["a"].DataType` travels as `SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.DataType`, with
//! `SendMessageBatchRequestEntry.1.MessageAttribute.1.Name` beside it. The parameters are put into a tree by their dots first; each
//! operation then picks what it knows.

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    action::Action,
    input::{
        AttributeInput, Blob, CreateQueue, GetQueueAttributes, GetQueueUrl, HandleBatch, Input, Int, List,
        ListOfQueues, Lost, MessageMove, Names, OfHandle, OfQueue, Pairs, Permission, ReceiveMessage, Send,
        SendBatch, SetQueueAttributes, TagQueue, Text, Texts, UntagQueue,
    },
};
use crate::error::{Kind, ServiceError};

/// Parameters of one request. A batch of ten with ten attributes each has some 500.
const PARAMETERS_MAX: usize = 4_096;
/// Dots in a parameter's name: `SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.StringListValue.1` has 6.
const DOTS_MAX: usize = 8;

/// The parameters of a request, by the parts of their names.
#[derive(Debug, Default)]
pub struct Parameters<'a>(Node<'a>);

#[derive(Debug, Default)]
struct Node<'a> {
    value: Option<Cow<'a, str>>,
    children: BTreeMap<Cow<'a, str>, Node<'a>>,
}

impl<'a> Parameters<'a> {
    /// The parameters of a query string, and of a form. What is in both is taken from the form.
    ///
    /// # Errors
    /// `MalformedInput` if there are more of them, or nested deeper, than any operation has.
    pub fn read(query: &'a str, form: &'a [u8]) -> Result<Self, ServiceError> {
        for text in [query.as_bytes(), form] {
            // `form_urlencoded` puts replacement characters in the place of what is not UTF-8.
            if percent_encoding::percent_decode(text).decode_utf8().is_err() {
                return Err(ServiceError::new(
                    Kind::InvalidMessageContents,
                    "The request contains characters that are not UTF-8.",
                ));
            }
        }
        let mut root = Node::default();
        let all = form_urlencoded::parse(query.as_bytes()).chain(form_urlencoded::parse(form));
        for (number, (name, value)) in all.enumerate() {
            if number == PARAMETERS_MAX {
                return Err(ServiceError::malformed("The request has too many parameters."));
            }
            if name.matches('.').count() > DOTS_MAX {
                return Err(ServiceError::malformed("A parameter's name has too many parts."));
            }
            root.at(name).value = Some(value);
        }
        Ok(Self(root))
    }

    /// The value of a parameter whose name has no dots.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)
    }

    /// Reads the operation and what it is given. `queue_path` is the request's path if that is the address of a queue: it takes the
    /// place of a missing `QueueUrl`.
    ///
    /// # Errors
    /// `InvalidAction`, `MissingParameter` for a missing `Action`, or `MalformedInput`.
    pub fn input(&self, queue_path: Option<&'a str>) -> Result<Input<'a>, ServiceError> {
        let name = self
            .get("Action")
            .ok_or_else(|| ServiceError::missing("Action"))?;
        let action = Action::parse(name)
            // These two are no queue's.
            .filter(|action| {
                queue_path.is_none() || !matches!(action, Action::CreateQueue | Action::ListQueues)
            })
            .ok_or_else(|| {
                ServiceError::new(
                    Kind::InvalidAction,
                    format!("The action {} is not valid for this endpoint.", shown(name)),
                )
            })?;
        let given = &self.0;
        let queue_url = || {
            given
                .text("QueueUrl")
                .or(queue_path.map(|path| Text(path.into())))
        };
        Ok(match action {
            Action::AddPermission => Input::AddPermission(given.permission(queue_url())),
            Action::CancelMessageMoveTask => Input::CancelMessageMoveTask(given.message_move()?),
            Action::ChangeMessageVisibility => Input::ChangeMessageVisibility(given.of_handle(queue_url())?),
            Action::ChangeMessageVisibilityBatch => Input::ChangeMessageVisibilityBatch(
                given.handle_batch(queue_url(), "ChangeMessageVisibilityBatchRequestEntry")?,
            ),
            Action::CreateQueue => Input::CreateQueue(CreateQueue {
                queue_name: given.text("QueueName"),
                attributes: given.texts("Attribute", "Name"),
                tags: given.texts("Tag", "Key"),
            }),
            Action::DeleteMessage => Input::DeleteMessage(given.of_handle(queue_url())?),
            Action::DeleteMessageBatch => {
                Input::DeleteMessageBatch(given.handle_batch(queue_url(), "DeleteMessageBatchRequestEntry")?)
            }
            Action::DeleteQueue => Input::DeleteQueue(OfQueue {
                queue_url: queue_url(),
            }),
            Action::GetQueueAttributes => Input::GetQueueAttributes(GetQueueAttributes {
                queue_url: queue_url(),
                attribute_names: given.names(&["AttributeName"]),
            }),
            Action::GetQueueUrl => Input::GetQueueUrl(GetQueueUrl {
                queue_name: given.text("QueueName"),
                queue_owner_account_id: given.text("QueueOwnerAWSAccountId"),
            }),
            Action::ListDeadLetterSourceQueues => {
                Input::ListDeadLetterSourceQueues(given.list_of_queues(queue_url())?)
            }
            Action::ListMessageMoveTasks => Input::ListMessageMoveTasks(given.message_move()?),
            Action::ListQueueTags => Input::ListQueueTags(OfQueue {
                queue_url: queue_url(),
            }),
            Action::ListQueues => Input::ListQueues(given.list_of_queues(None)?),
            Action::PurgeQueue => Input::PurgeQueue(OfQueue {
                queue_url: queue_url(),
            }),
            Action::ReceiveMessage => Input::ReceiveMessage(ReceiveMessage {
                queue_url: queue_url(),
                attribute_names: given.names(&["AttributeName"]),
                message_system_attribute_names: given.names(&["MessageSystemAttributeName"]),
                message_attribute_names: given.names(&["MessageAttributeName"]),
                max_number_of_messages: given.int("MaxNumberOfMessages")?,
                visibility_timeout: given.int("VisibilityTimeout")?,
                wait_time_seconds: given.int("WaitTimeSeconds")?,
                receive_request_attempt_id: given.text("ReceiveRequestAttemptId"),
            }),
            Action::RemovePermission => Input::RemovePermission(given.permission(queue_url())),
            Action::SendMessage => Input::SendMessage(given.send(queue_url())?),
            Action::SendMessageBatch => Input::SendMessageBatch(SendBatch {
                queue_url: queue_url(),
                entries: Some(
                    given
                        .list("SendMessageBatchRequestEntry", |entry| entry.send(None))?
                        .unwrap_or_default(),
                ),
            }),
            Action::SetQueueAttributes => Input::SetQueueAttributes(SetQueueAttributes {
                queue_url: queue_url(),
                attributes: given.texts("Attribute", "Name"),
            }),
            Action::StartMessageMoveTask => Input::StartMessageMoveTask(given.message_move()?),
            Action::TagQueue => Input::TagQueue(TagQueue {
                queue_url: queue_url(),
                tags: given.texts("Tag", "Key"),
            }),
            Action::UntagQueue => Input::UntagQueue(UntagQueue {
                queue_url: queue_url(),
                tag_keys: given.names(&["TagKey"]),
            }),
        })
    }
}

/// So much of a name as an answer repeats.
fn shown(name: &str) -> &str {
    name.char_indices().nth(128).map_or(name, |(end, _)| &name[..end])
}

impl<'a> Node<'a> {
    /// The node of a dotted name, made if need be.
    fn at(&mut self, name: Cow<'a, str>) -> &mut Self {
        let parts: Vec<Cow<'a, str>> = match name {
            Cow::Borrowed(name) => name.split('.').map(Cow::Borrowed).collect(),
            Cow::Owned(name) => name.split('.').map(|part| Cow::Owned(part.to_owned())).collect(),
        };
        parts
            .into_iter()
            .fold(self, |node, part| node.children.entry(part).or_default())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.children.get(name)?.value.as_deref()
    }

    fn text(&self, name: &str) -> Option<Text<'a>> {
        self.children.get(name)?.value.clone().map(Text)
    }

    fn int(&self, name: &str) -> Result<Option<Int>, ServiceError> {
        // An empty value is no value.
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(text) => Int::parse(text).map(Some).map_err(ServiceError::malformed),
        }
    }

    /// The elements `name.1`, `name.2` … in the order of their numbers, whichever there are; `None` if there are none.
    fn elements(&self, name: &str) -> Vec<&Self> {
        let children = self.children.get(name).map(|list| &list.children);
        let mut elements: Vec<(u64, &Self)> = children
            .into_iter()
            .flatten()
            .filter_map(|(number, node)| Some((number.parse().ok()?, node)))
            .collect();
        elements.sort_by_key(|(number, _)| *number);
        elements.into_iter().map(|(_, node)| node).collect()
    }

    fn list<T, const N: usize>(
        &self,
        name: &str,
        read: impl Fn(&Self) -> Result<T, ServiceError>,
    ) -> Result<Option<List<T, N>>, ServiceError> {
        let elements = self.elements(name);
        if elements.is_empty() {
            return Ok(None);
        }
        let items = elements.iter().take(N).map(|element| read(element));
        Ok(Some(List {
            items: items.collect::<Result<_, _>>()?,
            total: elements.len(),
        }))
    }

    fn names(&self, lists: &[&str]) -> Option<Names<'a>> {
        let elements = lists.iter().flat_map(|list| self.elements(list));
        let names: Names<'a> = elements
            .filter_map(|element| element.value.clone().map(Text))
            .collect();
        (names.total > 0).then_some(names)
    }

    /// `name.1.KEY` and `name.1.Value`, and so on.
    fn texts(&self, name: &str, key: &str) -> Option<Texts<'a>> {
        let pairs: List<_, _> = self
            .elements(name)
            .into_iter()
            .map(|pair| {
                (
                    pair.text(key).unwrap_or_default(),
                    pair.text("Value").unwrap_or_default(),
                )
            })
            .collect();
        (pairs.total > 0).then_some(Pairs(pairs))
    }

    fn attributes<const N: usize>(
        &self,
        name: &str,
    ) -> Result<Option<Pairs<'a, AttributeInput<'a>, N>>, ServiceError> {
        let pair = |pair: &Self| {
            let name = pair.text("Name").unwrap_or_default();
            let Some(value) = pair.children.get("Value") else {
                return Ok((name, AttributeInput::default()));
            };
            let lost = |list: &str| {
                let total = value.elements(list).len();
                (total > 0).then_some(Lost(total))
            };
            let binary = value.get("BinaryValue").map(Blob::parse).transpose();
            let value = AttributeInput {
                data_type: value.text("DataType"),
                string_value: value.text("StringValue"),
                binary_value: binary.map_err(ServiceError::malformed)?,
                string_list_values: lost("StringListValue"),
                binary_list_values: lost("BinaryListValue"),
            };
            Ok((name, value))
        };
        Ok(self.list(name, pair)?.map(Pairs))
    }

    fn send(&self, queue_url: Option<Text<'a>>) -> Result<Send<'a>, ServiceError> {
        Ok(Send {
            queue_url,
            id: self.text("Id"),
            message_body: self.text("MessageBody"),
            delay_seconds: self.int("DelaySeconds")?,
            message_attributes: self.attributes("MessageAttribute")?,
            message_system_attributes: self.attributes("MessageSystemAttribute")?,
            message_deduplication_id: self.text("MessageDeduplicationId"),
            message_group_id: self.text("MessageGroupId"),
        })
    }

    fn of_handle(&self, queue_url: Option<Text<'a>>) -> Result<OfHandle<'a>, ServiceError> {
        Ok(OfHandle {
            queue_url,
            id: self.text("Id"),
            receipt_handle: self.text("ReceiptHandle"),
            visibility_timeout: self.int("VisibilityTimeout")?,
        })
    }

    fn handle_batch(
        &self,
        queue_url: Option<Text<'a>>,
        entries: &str,
    ) -> Result<HandleBatch<'a>, ServiceError> {
        Ok(HandleBatch {
            queue_url,
            entries: Some(
                self.list(entries, |entry| entry.of_handle(None))?
                    .unwrap_or_default(),
            ),
        })
    }

    fn list_of_queues(&self, queue_url: Option<Text<'a>>) -> Result<ListOfQueues<'a>, ServiceError> {
        Ok(ListOfQueues {
            queue_url,
            queue_name_prefix: self.text("QueueNamePrefix"),
            max_results: self.int("MaxResults")?,
            next_token: self.text("NextToken"),
        })
    }

    fn message_move(&self) -> Result<MessageMove<'a>, ServiceError> {
        Ok(MessageMove {
            source_arn: self.text("SourceArn"),
            destination_arn: self.text("DestinationArn"),
            max_number_of_messages_per_second: self.int("MaxNumberOfMessagesPerSecond")?,
            max_results: self.int("MaxResults")?,
            task_handle: self.text("TaskHandle"),
        })
    }

    fn permission(&self, queue_url: Option<Text<'a>>) -> Permission<'a> {
        Permission {
            queue_url,
            label: self.text("Label"),
            account_ids: self.names(&["AWSAccountId"]),
            actions: self.names(&["ActionName"]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(query: &str) -> Result<Input<'_>, ServiceError> {
        Parameters::read(query, b"")?.input(None)
    }

    #[test]
    fn a_batch_with_attributes_is_unfolded() {
        let query = "Action=SendMessageBatch&QueueUrl=q\
            &SendMessageBatchRequestEntry.2.Id=b&SendMessageBatchRequestEntry.2.MessageBody=two+words\
            &SendMessageBatchRequestEntry.1.Id=a&SendMessageBatchRequestEntry.1.MessageBody=%C3%A9\
            &SendMessageBatchRequestEntry.1.DelaySeconds=7\
            &SendMessageBatchRequestEntry.1.MessageAttribute.1.Name=x.y\
            &SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.DataType=Binary\
            &SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.BinaryValue=AAE%3D";
        let Ok(Input::SendMessageBatch(batch)) = input(query) else {
            panic!("not a batch")
        };
        let entries = batch.entries.unwrap().items;
        assert_eq!(entries[0].message_body.as_deref(), Some("é"));
        assert_eq!(entries[0].delay_seconds, Some(Int(7)));
        assert_eq!(entries[1].message_body.as_deref(), Some("two words"));
        let (name, value) = &entries[0].message_attributes.as_ref().unwrap().items[0];
        assert_eq!(&**name, "x.y");
        assert_eq!(value.binary_value, Some(Blob(vec![0, 1])));
    }

    #[test]
    fn the_parameter_wins_over_the_path() {
        for (query, url) in [
            ("Action=PurgeQueue&QueueUrl=q", "q"),
            ("Action=PurgeQueue", "/0/p"),
        ] {
            let parameters = Parameters::read(query, b"").unwrap();
            let Ok(Input::PurgeQueue(purge)) = parameters.input(Some("/0/p")) else {
                panic!("not a purge")
            };
            assert_eq!(purge.queue_url.as_deref(), Some(url));
        }
    }

    #[test]
    fn actions_that_are_none_here_are_refused() {
        assert_eq!(input("Action=Nonsense").unwrap_err().kind, Kind::InvalidAction);
        assert_eq!(input("").unwrap_err().kind, Kind::MissingParameter);
        let parameters = Parameters::read("Action=ListQueues", b"").unwrap();
        assert_eq!(
            parameters.input(Some("/0/q")).unwrap_err().kind,
            Kind::InvalidAction
        );
    }

    #[test]
    fn there_is_an_end_to_parameters_and_to_dots() {
        assert!(Parameters::read(&"a=1&".repeat(PARAMETERS_MAX), b"").is_ok());
        assert!(Parameters::read(&"a=1&".repeat(PARAMETERS_MAX + 1), b"").is_err());
        assert!(Parameters::read(&".".repeat(100_000), b"").is_err());
    }
}
