//! A queue, with the calls that most tests make. What is sent and received through it has the right digests.

use std::collections::HashMap;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::operation::receive_message::builders::ReceiveMessageFluentBuilder;
use aws_sdk_sqs::operation::send_message::SendMessageOutput;
use aws_sdk_sqs::operation::send_message::builders::SendMessageFluentBuilder;
use aws_sdk_sqs::types::{Message, QueueAttributeName};

use crate::digest;

pub(crate) struct Queue {
    sqs: Client,
    url: String,
}

impl Queue {
    pub(crate) fn new(sqs: Client, url: String) -> Self {
        Self { sqs, url }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// All that it has.
    pub(crate) async fn attributes(&self) -> HashMap<QueueAttributeName, String> {
        let get = self.sqs.get_queue_attributes().queue_url(&self.url);
        let shown = get.attribute_names(QueueAttributeName::All).send().await;
        shown.unwrap().attributes.unwrap()
    }

    pub(crate) async fn arn(&self) -> String {
        self.attributes().await[&QueueAttributeName::QueueArn].clone()
    }

    /// How many messages are visible, in flight and delayed.
    pub(crate) async fn counts(&self) -> [u64; 3] {
        let attributes = self.attributes().await;
        [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ]
        .map(|name| attributes[&name].parse().unwrap())
    }

    pub(crate) fn sending(&self, body: impl Into<String>) -> SendMessageFluentBuilder {
        self.sqs.send_message().queue_url(&self.url).message_body(body)
    }

    pub(crate) async fn send(&self, body: &str) -> SendMessageOutput {
        sent(self.sending(body)).await
    }

    /// Of up to ten messages.
    pub(crate) fn receiving(&self) -> ReceiveMessageFluentBuilder {
        let receive = self.sqs.receive_message().queue_url(&self.url);
        receive.max_number_of_messages(10)
    }

    pub(crate) async fn receive(&self) -> Vec<Message> {
        received(self.receiving()).await
    }

    pub(crate) async fn bodies(&self) -> Vec<String> {
        bodies(&self.receive().await)
    }

    pub(crate) async fn delete(&self, message: &Message) {
        let handle = message.receipt_handle().unwrap();
        let delete = self.sqs.delete_message().queue_url(&self.url);
        delete.receipt_handle(handle).send().await.unwrap();
    }
}

/// What a send that succeeds answers.
pub(crate) async fn sent(send: SendMessageFluentBuilder) -> SendMessageOutput {
    let body = send.get_message_body().clone().unwrap();
    let attributes = send.get_message_attributes().clone().unwrap_or_default();
    let answer = send.send().await.unwrap();
    assert_eq!(answer.md5_of_message_body(), Some(&*digest::of_body(&body)));
    assert_eq!(
        answer.md5_of_message_attributes(),
        digest::of_attributes(&attributes).as_deref()
    );
    answer
}

/// What a receive that succeeds answers.
pub(crate) async fn received(receive: ReceiveMessageFluentBuilder) -> Vec<Message> {
    let messages = receive.send().await.unwrap().messages.unwrap_or_default();
    for message in &messages {
        let attributes = message.message_attributes().cloned().unwrap_or_default();
        assert_eq!(
            message.md5_of_body(),
            Some(&*digest::of_body(message.body().unwrap()))
        );
        assert_eq!(
            message.md5_of_message_attributes(),
            digest::of_attributes(&attributes).as_deref()
        );
    }
    messages
}

pub(crate) fn bodies(messages: &[Message]) -> Vec<String> {
    messages
        .iter()
        .map(|message| message.body().unwrap().to_owned())
        .collect()
}
