//! Batches, which fail in part or as a whole.

use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, QueueAttributeName,
    SendMessageBatchRequestEntry,
};

use crate::digest;
use crate::refusal::refused;
use crate::server::Server;

fn entry(id: &str, body: impl Into<String>) -> SendMessageBatchRequestEntry {
    let entry = SendMessageBatchRequestEntry::builder().id(id);
    entry.message_body(body).build().unwrap()
}

#[tokio::test]
async fn sends_fail_in_part() {
    let server = Server::start();
    let queue = server
        .queue("jobs", [(QueueAttributeName::MaximumMessageSize, "1024")])
        .await;
    let late = SendMessageBatchRequestEntry::builder().id("late");
    let late = late.message_body("a").delay_seconds(1_000).build().unwrap();
    let send = server.sqs().send_message_batch().queue_url(queue.url());
    let answer = send
        .entries(entry("good", "a"))
        .entries(entry("long", "x".repeat(1_025)))
        .entries(entry("control", "\u{1}"))
        .entries(late)
        .entries(entry("also-good", "x".repeat(1_024)))
        .send()
        .await
        .unwrap();
    let successful: Vec<_> = answer
        .successful()
        .iter()
        .map(|sent| (sent.id(), sent.md5_of_message_body().to_owned()))
        .collect();
    assert_eq!(
        successful,
        [
            ("good", digest::of_body("a")),
            ("also-good", digest::of_body(&"x".repeat(1_024)))
        ]
    );
    // In no order that SQS promises.
    let mut failed = answer.failed().to_vec();
    failed.sort_by(|one, other| one.id().cmp(other.id()));
    let told: Vec<_> = failed
        .iter()
        .map(|failed| (failed.id(), failed.code(), failed.sender_fault()))
        .collect();
    assert_eq!(
        told,
        [
            ("control", "InvalidMessageContents", true),
            ("late", "InvalidParameterValue", true),
            ("long", "InvalidParameterValue", true)
        ]
    );
    assert_eq!(
        failed[2].message(),
        Some("One or more parameters cannot be validated. Reason: Message must be shorter than 1024 bytes.")
    );
    assert_eq!(queue.counts().await, [2, 0, 0]);
}

#[tokio::test]
async fn changes_and_deletes_fail_in_part() {
    let server = Server::start();
    let queue = server.queue("jobs", []).await;
    let send = server.sqs().send_message_batch().queue_url(queue.url());
    let sent = send.entries(entry("0", "a")).entries(entry("1", "b"));
    let sent = sent.send().await.unwrap();
    // SQS leaves out lists with nothing in them; the SDK makes them empty.
    assert_eq!((sent.successful().len(), sent.failed().len()), (2, 0));

    let messages = queue.receive().await;
    let mut handles: Vec<_> = messages
        .iter()
        .map(|message| message.receipt_handle().unwrap())
        .collect();
    handles.push("garbage");
    let mut change = server
        .sqs()
        .change_message_visibility_batch()
        .queue_url(queue.url());
    let mut delete = server.sqs().delete_message_batch().queue_url(queue.url());
    for (at, handle) in handles.into_iter().enumerate() {
        let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(at.to_string());
        let entry = entry.receipt_handle(handle).visibility_timeout(60);
        change = change.entries(entry.build().unwrap());
        let entry = DeleteMessageBatchRequestEntry::builder().id(at.to_string());
        delete = delete.entries(entry.receipt_handle(handle).build().unwrap());
    }
    let changed = change.send().await.unwrap();
    let successful: Vec<_> = changed.successful().iter().map(|entry| entry.id()).collect();
    assert_eq!(successful, ["0", "1"]);
    let failed = changed.failed().iter().map(|failed| (failed.id(), failed.code()));
    assert_eq!(failed.collect::<Vec<_>>(), [("2", "ReceiptHandleIsInvalid")]);
    assert_eq!(queue.counts().await, [0, 2, 0]);

    let deleted = delete.send().await.unwrap();
    let successful: Vec<_> = deleted.successful().iter().map(|entry| entry.id()).collect();
    assert_eq!(successful, ["0", "1"]);
    let failed = deleted.failed().iter().map(|failed| (failed.id(), failed.code()));
    assert_eq!(failed.collect::<Vec<_>>(), [("2", "ReceiptHandleIsInvalid")]);
    assert_eq!(queue.counts().await, [0, 0, 0]);
}

#[tokio::test]
async fn batches_are_refused_as_a_whole() {
    let server = Server::start();
    let queue = server.queue("jobs", []).await;
    let send = async |entries: Vec<SendMessageBatchRequestEntry>| {
        let send = server.sqs().send_message_batch().queue_url(queue.url());
        let refusal = refused(send.set_entries(Some(entries)).send().await);
        assert_eq!(refusal.status, 400);
        refusal
    };
    let refusal = send(vec![]).await;
    assert!(refusal.error.is_empty_batch_request(), "{refusal:?}");
    assert_eq!(
        refusal.text(),
        "There should be at least one SendMessageBatchRequestEntry in the request."
    );
    let refusal = send((0..11).map(|at| entry(&at.to_string(), "a")).collect()).await;
    assert!(
        refusal.error.is_too_many_entries_in_batch_request(),
        "{refusal:?}"
    );
    assert_eq!(
        refusal.text(),
        "Maximum number of entries per request are 10. You have sent 11."
    );
    let refusal = send(vec![entry("a", "a"), entry("b", "b"), entry("a", "c")]).await;
    assert!(refusal.error.is_batch_entry_ids_not_distinct(), "{refusal:?}");
    assert_eq!(refusal.text(), "Id a repeated.");
    let refusal = send(vec![entry("a b", "a")]).await;
    assert!(refusal.error.is_invalid_batch_entry_id(), "{refusal:?}");
    let refusal = send(vec![entry("a", "x".repeat(1_048_576)), entry("b", "x")]).await;
    assert!(refusal.error.is_batch_request_too_long(), "{refusal:?}");
    assert_eq!(
        refusal.text(),
        "Batch requests cannot be longer than 1048576 bytes. You have sent 1048577 bytes."
    );
    assert_eq!(queue.counts().await, [0, 0, 0]);
}
