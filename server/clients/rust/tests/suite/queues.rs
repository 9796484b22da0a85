//! Queues themselves: names, attributes, tags, policies, and those that are not there.

use std::collections::HashSet;
use std::time::Duration;

use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, QueueAttributeName};

use crate::queue::Queue;
use crate::refusal::{Refusal, refused};
use crate::server::Server;

#[tokio::test]
async fn queues_are_created_and_found() {
    let server = Server::start();
    let timeout = QueueAttributeName::VisibilityTimeout;
    let queue = server.queue("jobs", [(timeout.clone(), "40")]).await;
    assert_eq!(queue.url(), format!("{}/000000000000/jobs", server.url()));
    let found = server.sqs().get_queue_url().queue_name("jobs");
    assert_eq!(found.send().await.unwrap().queue_url(), Some(queue.url()));
    // The same again is the same.
    assert_eq!(server.queue("jobs", []).await.url(), queue.url());
    assert_eq!(
        server.queue("jobs", [(timeout.clone(), "40")]).await.url(),
        queue.url()
    );
    let other = server.sqs().create_queue().queue_name("jobs");
    let refusal = refused(other.attributes(timeout, "41").send().await);
    assert!(refusal.error.is_queue_name_exists(), "{refusal:?}");
    assert_eq!(
        (refusal.status, refusal.text()),
        (
            400,
            "A queue already exists with the same name and a different value for attribute VisibilityTimeout"
        )
    );
    for name in ["a b", "a.b", "a.fifo", &"x".repeat(81)] {
        let refusal = refused(server.sqs().create_queue().queue_name(name).send().await);
        assert_eq!(refusal.code(), "InvalidParameterValue", "{refusal:?}");
    }
    // By its bare name, and by AWS's URL.
    for url in ["jobs", "https://sqs.us-east-1.amazonaws.com/123456789012/jobs"] {
        let send = server.sqs().send_message().queue_url(url).message_body("a");
        send.send().await.unwrap();
    }
    assert_eq!(queue.counts().await, [2, 0, 0]);
}

#[tokio::test]
async fn queues_are_listed_by_pages() {
    let server = Server::start();
    let mut urls = Vec::new();
    for number in 0..5 {
        let queue = server.queue(&format!("jobs-{number}"), []).await;
        urls.push(queue.url().to_owned());
    }
    server.queue("other", []).await;
    let list = |prefix: &str| server.sqs().list_queues().queue_name_prefix(prefix);
    let listed = list("jobs").send().await.unwrap();
    assert_eq!((listed.queue_urls(), listed.next_token()), (&*urls, None));
    let pages = list("jobs").into_paginator().page_size(2).items().send();
    assert_eq!(pages.collect::<Result<Vec<_>, _>>().await.unwrap(), urls);
    assert_eq!(list("nothing").send().await.unwrap().queue_urls, None);
    let refusal = refused(list("jobs").max_results(1_001).send().await);
    assert_eq!(refusal.code(), "InvalidParameterValue");
    let refusal = refused(list("jobs").max_results(1).next_token("?").send().await);
    assert_eq!(refusal.code(), "InvalidParameterValue");
}

#[tokio::test]
async fn attributes_are_shown_and_set() {
    let server = Server::start();
    let queue = server.queue("jobs", []).await;
    let shown = queue.attributes().await;
    let common = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueAttributeName::CreatedTimestamp,
        QueueAttributeName::DelaySeconds,
        QueueAttributeName::LastModifiedTimestamp,
        QueueAttributeName::MaximumMessageSize,
        QueueAttributeName::MessageRetentionPeriod,
        QueueAttributeName::QueueArn,
        QueueAttributeName::ReceiveMessageWaitTimeSeconds,
        QueueAttributeName::SqsManagedSseEnabled,
        QueueAttributeName::VisibilityTimeout,
    ];
    assert_eq!(
        shown.keys().collect::<HashSet<_>>(),
        common.iter().collect::<HashSet<_>>()
    );
    assert_eq!(
        shown[&QueueAttributeName::QueueArn],
        "arn:aws:sqs:us-east-1:000000000000:jobs"
    );
    assert_eq!(shown[&QueueAttributeName::MaximumMessageSize], "1048576");
    assert_eq!(shown[&QueueAttributeName::MessageRetentionPeriod], "345600");

    let get = || server.sqs().get_queue_attributes().queue_url(queue.url());
    assert_eq!(get().send().await.unwrap().attributes, None);
    let unknown = get().attribute_names(QueueAttributeName::from("Foobar"));
    let refusal = refused(unknown.send().await);
    assert!(refusal.error.is_invalid_attribute_name(), "{refusal:?}");
    assert_eq!(refusal.text(), "Unknown Attribute Foobar.");

    // All or nothing.
    let set = || {
        let set = server.sqs().set_queue_attributes().queue_url(queue.url());
        set.attributes(QueueAttributeName::VisibilityTimeout, "7")
    };
    let refusal = refused(
        set()
            .attributes(QueueAttributeName::DelaySeconds, "x")
            .send()
            .await,
    );
    assert!(refusal.error.is_invalid_attribute_value(), "{refusal:?}");
    assert_eq!(refusal.text(), "Invalid value for the parameter DelaySeconds.");
    assert_eq!(
        queue.attributes().await[&QueueAttributeName::VisibilityTimeout],
        "30"
    );
    set()
        .attributes(QueueAttributeName::DelaySeconds, "3")
        .send()
        .await
        .unwrap();
    let shown = queue.attributes().await;
    assert_eq!(shown[&QueueAttributeName::VisibilityTimeout], "7");
    assert_eq!(shown[&QueueAttributeName::DelaySeconds], "3");
}

#[tokio::test]
async fn tags() {
    let server = Server::start();
    let create = server.sqs().create_queue().queue_name("jobs").tags("a", "1");
    let url = create.send().await.unwrap().queue_url.unwrap();
    let list = async || {
        let list = server.sqs().list_queue_tags().queue_url(&url);
        list.send().await.unwrap().tags
    };
    let tag = server.sqs().tag_queue().queue_url(&url);
    tag.tags("A", "2 é").tags("a", "3").send().await.unwrap();
    let expected = [("a", "3"), ("A", "2 é")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(list().await, Some(expected.into()));
    let untag = server.sqs().untag_queue().queue_url(&url);
    let untag = untag.tag_keys("a").tag_keys("A").tag_keys("nothing");
    untag.send().await.unwrap();
    assert_eq!(list().await, None);
}

#[tokio::test]
async fn permissions() {
    let server = Server::start();
    let queue = server.queue("jobs", []).await;
    let add = server.sqs().add_permission().queue_url(queue.url()).label("one");
    let add = add.aws_account_ids("123456789012").actions("ReceiveMessage");
    add.clone().send().await.unwrap();
    let policy = &queue.attributes().await[&QueueAttributeName::Policy];
    let policy: serde_json::Value = serde_json::from_str(policy).unwrap();
    assert_eq!(policy["Statement"][0]["Sid"], "one");
    assert_eq!(policy["Statement"][0]["Action"], "SQS:ReceiveMessage");
    let refusal = refused(add.send().await);
    assert_eq!(
        refusal.text(),
        "Value one for parameter Label is invalid. Reason: Already exists."
    );
    let remove = server.sqs().remove_permission().queue_url(queue.url());
    remove.label("one").send().await.unwrap();
    assert!(!queue.attributes().await.contains_key(&QueueAttributeName::Policy));
}

#[tokio::test]
async fn a_purge_takes_all() {
    let server = Server::start();
    let queue = server.queue("jobs", []).await;
    for body in ["a", "b", "c"] {
        queue.send(body).await;
    }
    let taken = queue.receiving().max_number_of_messages(1);
    taken.send().await.unwrap();
    let purge = server.sqs().purge_queue().queue_url(queue.url());
    purge.send().await.unwrap();
    assert_eq!(queue.bodies().await, [""; 0]);
    assert_eq!(queue.counts().await, [0, 0, 0]);
}

/// A queue that is not there is an error of its own type in every operation.
#[tokio::test]
async fn queues_that_do_not_exist() {
    let server = Server::start();
    let sqs = server.sqs();
    let queue = server.queue("jobs", []).await;
    queue.send("a").await;
    let handle = queue.receive().await.remove(0).receipt_handle.unwrap();
    let waiting = async {
        // Nothing comes but the queue's end.
        refused(queue.receiving().wait_time_seconds(20).send().await)
    };
    let deleting = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        sqs.delete_queue().queue_url(queue.url()).send().await.unwrap();
    };
    let (told, ()) = tokio::join!(waiting, deleting);
    assert!(told.error.is_queue_does_not_exist(), "{told:?}");
    missing(&told);

    let get = refused(sqs.get_queue_url().queue_name("jobs").send().await);
    assert!(get.error.is_queue_does_not_exist(), "{get:?}");
    missing(&get);
    let send = refused(queue.sending("a").send().await);
    assert!(send.error.is_queue_does_not_exist(), "{send:?}");
    missing(&send);
    let receive = refused(queue.receiving().send().await);
    assert!(receive.error.is_queue_does_not_exist(), "{receive:?}");
    missing(&receive);
    let delete = sqs.delete_message().queue_url(queue.url());
    let delete = refused(delete.receipt_handle(&handle).send().await);
    assert!(delete.error.is_queue_does_not_exist(), "{delete:?}");
    missing(&delete);
    let entry = DeleteMessageBatchRequestEntry::builder().id("1");
    let entry = entry.receipt_handle(&handle).build().unwrap();
    let batch = sqs.delete_message_batch().queue_url(queue.url());
    let batch = refused(batch.entries(entry).send().await);
    assert!(batch.error.is_queue_does_not_exist(), "{batch:?}");
    missing(&batch);
    let change = sqs.change_message_visibility().queue_url(queue.url());
    let change = refused(change.receipt_handle(&handle).visibility_timeout(1).send().await);
    assert!(change.error.is_queue_does_not_exist(), "{change:?}");
    missing(&change);
    let get = sqs.get_queue_attributes().queue_url(queue.url());
    let get = refused(get.attribute_names(QueueAttributeName::All).send().await);
    assert!(get.error.is_queue_does_not_exist(), "{get:?}");
    missing(&get);
    let purge = refused(sqs.purge_queue().queue_url(queue.url()).send().await);
    assert!(purge.error.is_queue_does_not_exist(), "{purge:?}");
    missing(&purge);
    let delete = refused(sqs.delete_queue().queue_url(queue.url()).send().await);
    assert!(delete.error.is_queue_does_not_exist(), "{delete:?}");
    missing(&delete);

    // Its name is free at once, and the new queue knows nothing of the old.
    let again: Queue = server.queue("jobs", []).await;
    assert_eq!(again.counts().await, [0, 0, 0]);
}

#[track_caller]
fn missing<E: ProvideErrorMetadata>(refusal: &Refusal<E>) {
    assert_eq!(refusal.status, 400);
    assert_eq!(refusal.code(), "AWS.SimpleQueueService.NonExistentQueue");
    assert_eq!(refusal.text(), "The specified queue does not exist.");
}
