//! FIFO queues: groups and duplicates.

use std::time::Duration;

use aws_sdk_sqs::operation::send_message::builders::SendMessageFluentBuilder;
use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry};

use crate::queue::{Queue, bodies, received, sent};
use crate::refusal::refused;
use crate::server::Server;

async fn by_content(server: &Server) -> Queue {
    let attributes = [
        (QueueAttributeName::FifoQueue, "true"),
        (QueueAttributeName::ContentBasedDeduplication, "true"),
    ];
    server.queue("jobs.fifo", attributes).await
}

async fn by_id(server: &Server) -> Queue {
    server
        .queue("jobs.fifo", [(QueueAttributeName::FifoQueue, "true")])
        .await
}

fn sending(queue: &Queue, group: &str, body: &str) -> SendMessageFluentBuilder {
    queue.sending(body).message_group_id(group)
}

#[tokio::test]
async fn groups_are_in_order_and_locked() {
    let server = Server::start();
    let queue = by_content(&server).await;
    let mut numbers = Vec::new();
    for (group, body) in [("1", "a"), ("2", "x"), ("1", "b"), ("1", "c")] {
        let answer = sent(sending(&queue, group, body)).await;
        let number = answer.sequence_number.unwrap();
        assert_eq!(number.len(), 20);
        numbers.push(number);
    }
    assert!(numbers.is_sorted(), "{numbers:?}");

    let first = received(queue.receiving().max_number_of_messages(2)).await;
    assert_eq!(bodies(&first), ["a", "b"]);
    assert_eq!(queue.bodies().await, ["x"]);
    assert_eq!(queue.bodies().await, [""; 0]);
    for message in &first {
        queue.delete(message).await;
    }
    let all = MessageSystemAttributeName::All;
    let last = queue.receiving().message_system_attribute_names(all);
    let last = received(last.wait_time_seconds(2)).await.remove(0);
    assert_eq!(last.body(), Some("c"));
    let attributes = last.attributes().unwrap();
    assert_eq!(attributes[&MessageSystemAttributeName::MessageGroupId], "1");
    // SHA-256 of the body.
    assert_eq!(
        attributes[&MessageSystemAttributeName::MessageDeduplicationId],
        "2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6"
    );
    assert_eq!(
        Some(&attributes[&MessageSystemAttributeName::SequenceNumber]),
        numbers.last()
    );
}

#[tokio::test]
async fn what_comes_back_comes_back_in_order() {
    let server = Server::start();
    let queue = by_content(&server).await;
    for body in ["a", "b", "c"] {
        sent(sending(&queue, "g", body)).await;
    }
    let brief = || queue.receiving().visibility_timeout(1);
    let all = received(brief()).await;
    assert_eq!(bodies(&all), ["a", "b", "c"]);
    let again = received(brief().visibility_timeout(3).wait_time_seconds(5)).await;
    assert_eq!(bodies(&again), ["a", "b", "c"]);
    // What comes after a message in flight waits, and what comes before does not.
    let change = server.sqs().change_message_visibility().queue_url(queue.url());
    let change = change.receipt_handle(again[1].receipt_handle().unwrap());
    change.visibility_timeout(60).send().await.unwrap();
    let first = received(queue.receiving().wait_time_seconds(5)).await;
    assert_eq!(bodies(&first), ["a"]);
}

#[tokio::test]
async fn duplicates_are_not_accepted_twice() {
    let server = Server::start();
    let queue = by_id(&server).await;
    let first = sent(sending(&queue, "g", "a").message_deduplication_id("1")).await;
    let again = sent(sending(&queue, "h", "b").message_deduplication_id("1")).await;
    assert_eq!(again.message_id(), first.message_id());
    let message = queue.receive().await.remove(0);
    assert_eq!(message.body(), Some("a"));
    queue.delete(&message).await;
    sent(sending(&queue, "g", "a").message_deduplication_id("1")).await;
    assert_eq!(queue.bodies().await, [""; 0]);
    sent(sending(&queue, "g", "a").message_deduplication_id("2")).await;
    assert_eq!(queue.bodies().await, ["a"]);
}

#[tokio::test]
async fn what_a_fifo_queue_asks_for() {
    let server = Server::start();
    let queue = by_id(&server).await;
    let no_group = "The request must contain the parameter MessageGroupId.";
    let no_id = "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided \
                 explicitly";
    let refusal = refused(queue.sending("a").send().await);
    assert_eq!((refusal.code(), refusal.text()), ("MissingParameter", no_group));
    let refusal = refused(sending(&queue, "g", "a").send().await);
    assert_eq!((refusal.code(), refusal.text()), ("InvalidParameterValue", no_id));
    let delayed = sending(&queue, "g", "a").message_deduplication_id("1");
    let refusal = refused(delayed.delay_seconds(2).send().await);
    assert_eq!(
        (refusal.code(), refusal.text()),
        (
            "InvalidParameterValue",
            "Value 2 for parameter DelaySeconds is invalid. Reason: The request include parameter that is not valid for \
             this queue type."
        )
    );
    // One bad entry, and none is sent.
    let entry = |id: &str| SendMessageBatchRequestEntry::builder().id(id).message_body("a");
    let good = entry("1").message_group_id("g").message_deduplication_id("1");
    let batch = server.sqs().send_message_batch().queue_url(queue.url());
    let batch = batch
        .entries(good.build().unwrap())
        .entries(entry("2").build().unwrap());
    assert_eq!(refused(batch.send().await).text(), no_group);
    assert_eq!(queue.counts().await, [0, 0, 0]);
}

#[tokio::test]
async fn an_expired_handle_deletes_nothing() {
    let server = Server::start();
    let queue = by_content(&server).await;
    sent(sending(&queue, "g", "a")).await;
    let message = received(queue.receiving().visibility_timeout(1)).await.remove(0);
    let handle = message.receipt_handle().unwrap();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let delete = server.sqs().delete_message().queue_url(queue.url());
    let refusal = refused(delete.receipt_handle(handle).send().await);
    assert_eq!(refusal.code(), "InvalidParameterValue");
    assert_eq!(
        refusal.text(),
        format!(
            "Value {handle} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."
        )
    );
    assert_eq!(queue.bodies().await, ["a"]);
}

#[tokio::test]
async fn receive_attempts_are_repeated() {
    let server = Server::start();
    let queue = by_content(&server).await;
    sent(sending(&queue, "g", "a")).await;
    let attempt = queue.receiving().receive_request_attempt_id("try-1");
    let first = received(attempt.clone()).await;
    assert_eq!(bodies(&first), ["a"]);
    assert_eq!(received(attempt.clone()).await, first);
    queue.delete(&first[0]).await;
    assert_eq!(refused(attempt.send().await).code(), "InvalidParameterValue");
}

#[tokio::test]
async fn throughput_needs_the_scope() {
    let server = Server::start();
    let create = server.sqs().create_queue().queue_name("jobs.fifo");
    let create = create
        .attributes(QueueAttributeName::FifoQueue, "true")
        .attributes(QueueAttributeName::FifoThroughputLimit, "perMessageGroupId");
    let refusal = refused(create.clone().send().await);
    assert_eq!(refusal.code(), "InvalidParameterValue");
    let create = create.attributes(QueueAttributeName::DeduplicationScope, "messageGroup");
    let url = create.send().await.unwrap().queue_url.unwrap();
    let queue = Queue::new(server.sqs().clone(), url);
    let first = sent(sending(&queue, "g", "a").message_deduplication_id("1")).await;
    let second = sent(sending(&queue, "h", "a").message_deduplication_id("1")).await;
    assert_ne!(first.message_id(), second.message_id());
}
