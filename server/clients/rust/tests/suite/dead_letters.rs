//! Dead letters, and their way back.

use std::time::Duration;

use aws_sdk_sqs::types::{
    ListMessageMoveTasksResultEntry, Message, MessageSystemAttributeName, QueueAttributeName,
};
use serde_json::{Value, json};

use crate::queue::{Queue, bodies, received};
use crate::refusal::refused;
use crate::server::Server;

fn policy(dead_arn: &str) -> String {
    json!({ "deadLetterTargetArn": dead_arn, "maxReceiveCount": 1 }).to_string()
}

async fn source(server: &Server, dead: &Queue) -> Queue {
    let policy = policy(&dead.arn().await);
    server
        .queue("jobs", [(QueueAttributeName::RedrivePolicy, &policy)])
        .await
}

async fn tasks(server: &Server, source_arn: &str) -> Vec<ListMessageMoveTasksResultEntry> {
    let list = server.sqs().list_message_move_tasks().source_arn(source_arn);
    list.send().await.unwrap().results.unwrap_or_default()
}

/// Received once and let go, which is once too few to stay.
async fn fail(queue: &Queue) -> Message {
    let message = received(queue.receiving().visibility_timeout(0)).await.remove(0);
    assert_eq!(queue.bodies().await, [""; 0]);
    message
}

#[tokio::test]
async fn dead_letters_and_their_way_back() {
    let server = Server::start();
    let dead = server.queue("failed", []).await;
    let queue = source(&server, &dead).await;
    let (arn, dead_arn) = (queue.arn().await, dead.arn().await);
    let shown: Value =
        serde_json::from_str(&queue.attributes().await[&QueueAttributeName::RedrivePolicy]).unwrap();
    assert_eq!(
        shown,
        json!({ "deadLetterTargetArn": dead_arn, "maxReceiveCount": 1 })
    );

    let sent = queue.send("bad").await;
    fail(&queue).await;
    let all = MessageSystemAttributeName::All;
    let letter = dead.receiving().message_system_attribute_names(all);
    let letter = received(letter.visibility_timeout(0)).await.remove(0);
    assert_eq!(letter.message_id(), sent.message_id());
    let attributes = letter.attributes().unwrap();
    assert_eq!(
        attributes[&MessageSystemAttributeName::ApproximateReceiveCount],
        "2"
    );
    assert_eq!(
        attributes[&MessageSystemAttributeName::DeadLetterQueueSourceArn],
        arn
    );

    let list = server
        .sqs()
        .list_dead_letter_source_queues()
        .queue_url(dead.url());
    let sources = list.into_paginator().items().send();
    assert_eq!(
        sources.collect::<Result<Vec<_>, _>>().await.unwrap(),
        [queue.url()]
    );
    let list = server
        .sqs()
        .list_dead_letter_source_queues()
        .queue_url(queue.url());
    assert_eq!(list.send().await.unwrap().queue_urls(), [""; 0]);

    let start = server.sqs().start_message_move_task().source_arn(&dead_arn);
    let handle = start.send().await.unwrap().task_handle.unwrap();
    let back = received(queue.receiving().wait_time_seconds(5)).await;
    assert_eq!(bodies(&back), ["bad"]);
    let listed = &tasks(&server, &dead_arn).await[0];
    assert_eq!(listed.status(), Some("COMPLETED"));
    assert_eq!(listed.approximate_number_of_messages_moved(), 1);
    assert_eq!(listed.source_arn(), Some(&*dead_arn));

    let cancel = server.sqs().cancel_message_move_task().task_handle(handle);
    let refusal = refused(cancel.send().await);
    assert!(refusal.error.is_resource_not_found_exception(), "{refusal:?}");
    assert_eq!(refusal.status, 404);
    let start = server.sqs().start_message_move_task().source_arn(&arn);
    assert_eq!(
        refused(start.send().await).text(),
        "Source queue must be configured as a Dead Letter Queue."
    );
    let start = server.sqs().start_message_move_task().source_arn(arn + "x");
    let refusal = refused(start.send().await);
    assert!(refusal.error.is_resource_not_found_exception(), "{refusal:?}");
    assert_eq!(
        (refusal.status, refusal.text()),
        (
            404,
            "The resource that you specified for the SourceArn parameter doesn't exist."
        )
    );
}

#[tokio::test]
async fn a_move_task_is_cancelled() {
    let server = Server::start();
    let dead = server.queue("failed", []).await;
    source(&server, &dead).await;
    let target = server.queue("target", []).await;
    for body in ["0", "1", "2", "3", "4"] {
        dead.send(body).await;
    }
    let (dead_arn, target_arn) = (dead.arn().await, target.arn().await);
    let start = server.sqs().start_message_move_task().source_arn(&dead_arn);
    let start = start
        .destination_arn(&target_arn)
        .max_number_of_messages_per_second(1);
    let handle = start.clone().send().await.unwrap().task_handle.unwrap();
    assert_eq!(refused(start.send().await).code(), "InvalidParameterValue");
    let running = &tasks(&server, &dead_arn).await[0];
    assert_eq!(
        (running.status(), running.task_handle()),
        (Some("RUNNING"), Some(&*handle))
    );
    assert_eq!(running.destination_arn(), Some(&*target_arn));
    let cancel = server.sqs().cancel_message_move_task().task_handle(&handle);
    let cancelled = cancel.send().await.unwrap();
    assert!(
        cancelled.approximate_number_of_messages_moved() < 5,
        "{cancelled:?}"
    );
    let mut all = tasks(&server, &dead_arn).await;
    // A step of it may be under way.
    for _ in 0..100 {
        if all[0].status() != Some("CANCELLING") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        all = tasks(&server, &dead_arn).await;
    }
    let cancelled = &all[0];
    assert_eq!(
        (cancelled.status(), cancelled.task_handle()),
        (Some("CANCELLED"), None)
    );
    // None is lost, and none moves any more.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let ([left, ..], [moved, ..]) = (dead.counts().await, target.counts().await);
    assert_eq!(left + moved, 5);
    assert!(left > 0, "all were moved");
}

#[tokio::test]
async fn policies_that_cannot_be() {
    let server = Server::start();
    let queue = server.queue("jobs", []).await;
    let fifo = server
        .queue("jobs.fifo", [(QueueAttributeName::FifoQueue, "true")])
        .await;
    let guarded = server
        .queue(
            "guarded",
            [(
                QueueAttributeName::RedriveAllowPolicy,
                r#"{"redrivePermission":"denyAll"}"#,
            )],
        )
        .await;
    let set = async |policy: &str| {
        let set = server.sqs().set_queue_attributes().queue_url(queue.url());
        set.attributes(QueueAttributeName::RedrivePolicy, policy)
            .send()
            .await
    };
    let nothing = queue.arn().await.replace("jobs", "nothing");
    for (target, reason) in [
        (nothing, Some("Dead letter target does not exist.")),
        (
            fifo.arn().await,
            Some("Dead-letter queue must be same type of queue as the source.."),
        ),
        (guarded.arn().await, None),
    ] {
        let refusal = refused(set(&policy(&target)).await);
        assert_eq!(refusal.code(), "InvalidParameterValue");
        if let Some(reason) = reason {
            assert!(refusal.text().ends_with(reason), "{refusal:?}");
        }
    }
    let open = server.queue("open", []).await;
    set(&policy(&open.arn().await)).await.unwrap();
    set("").await.unwrap();
    assert!(
        !queue
            .attributes()
            .await
            .contains_key(&QueueAttributeName::RedrivePolicy)
    );
}
