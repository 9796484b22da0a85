//! Messages of standard queues.

use std::time::{Duration, Instant, SystemTime};

use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{
    MessageAttributeValue, MessageSystemAttributeName, MessageSystemAttributeNameForSends,
    MessageSystemAttributeValue, QueueAttributeName,
};

use crate::queue::{bodies, received, sent};
use crate::refusal::refused;
use crate::server::Server;

fn text(data_type: &str, value: &str) -> MessageAttributeValue {
    let attribute = MessageAttributeValue::builder().data_type(data_type);
    attribute.string_value(value).build().unwrap()
}

fn binary(bytes: &[u8]) -> MessageAttributeValue {
    let attribute = MessageAttributeValue::builder().data_type("Binary");
    attribute.binary_value(Blob::new(bytes)).build().unwrap()
}

#[tokio::test]
async fn a_message_lives_and_ends() {
    let server = Server::start();
    let queue = server.queue("jobs", []).await;
    let sent = queue.send("héllo wörld ✓").await;
    assert_eq!(
        sent.md5_of_message_body(),
        Some("aa0c8a307a4488bfe0cb56530da19bc3")
    );
    assert_eq!(sent.sequence_number(), None);
    assert_eq!(queue.counts().await, [1, 0, 0]);

    let all = MessageSystemAttributeName::All;
    let messages = received(queue.receiving().message_system_attribute_names(all)).await;
    let [message] = &*messages else {
        panic!("{messages:?}")
    };
    assert_eq!(message.body(), Some("héllo wörld ✓"));
    assert_eq!(message.message_id(), sent.message_id());
    let attributes = message.attributes().unwrap();
    assert_eq!(
        attributes[&MessageSystemAttributeName::ApproximateReceiveCount],
        "1"
    );
    assert!(attributes.contains_key(&MessageSystemAttributeName::SenderId));
    let sent_at: u64 = attributes[&MessageSystemAttributeName::SentTimestamp]
        .parse()
        .unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let sent_at = Duration::from_millis(sent_at);
    assert!(now.abs_diff(sent_at) < Duration::from_secs(30), "{sent_at:?}");

    let nothing = queue.receiving().send().await.unwrap();
    assert_eq!(nothing.messages, None);
    assert_eq!(queue.counts().await, [0, 1, 0]);
    queue.delete(message).await;
    queue.delete(message).await;
    assert_eq!(queue.counts().await, [0, 0, 0]);
}

#[tokio::test]
async fn visibility_ends_and_is_changed() {
    let server = Server::start();
    let queue = server
        .queue("jobs", [(QueueAttributeName::VisibilityTimeout, "2")])
        .await;
    let change = |handle: Option<&str>, seconds| {
        let change = server.sqs().change_message_visibility().queue_url(queue.url());
        change
            .receipt_handle(handle.unwrap())
            .visibility_timeout(seconds)
            .send()
    };
    queue.send("a").await;
    let first = queue.receive().await.remove(0);
    assert_eq!(queue.bodies().await, [""; 0]);
    let count = MessageSystemAttributeName::ApproximateReceiveCount;
    let again = queue.receiving().wait_time_seconds(5);
    let second = received(again.message_system_attribute_names(count.clone()))
        .await
        .remove(0);
    assert_eq!(second.attributes().unwrap()[&count], "2");
    assert_ne!(first.receipt_handle(), second.receipt_handle());

    change(second.receipt_handle(), 0).await.unwrap();
    let third = received(queue.receiving().visibility_timeout(60)).await.remove(0);
    let refusal = refused(change(third.receipt_handle(), 43_200).await);
    assert_eq!(refusal.code(), "InvalidParameterValue");
    let limit = "Total VisibilityTimeout for the message is beyond the limit [43200 seconds].";
    assert!(refusal.text().contains(limit), "{refusal:?}");
    // Longer than the queue's.
    change(third.receipt_handle(), 120).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    assert_eq!(queue.counts().await, [0, 1, 0]);
    queue.delete(&third).await;
    assert_eq!(queue.counts().await, [0, 0, 0]);
}

#[tokio::test]
async fn handles_are_of_their_queue() {
    let server = Server::start();
    let (queue, other) = (server.queue("one", []).await, server.queue("other", []).await);
    queue.send("a").await;
    let message = queue.receive().await.remove(0);
    let handle = message.receipt_handle().unwrap();
    for (url, handle, text) in [
        (
            other.url(),
            handle,
            format!("The receipt handle \"{handle}\" is not valid for this queue."),
        ),
        (
            queue.url(),
            "garbage",
            "The input receipt handle \"garbage\" is not a valid receipt handle.".to_owned(),
        ),
    ] {
        let delete = server.sqs().delete_message().queue_url(url);
        let refusal = refused(delete.receipt_handle(handle).send().await);
        assert!(refusal.error.is_receipt_handle_is_invalid(), "{refusal:?}");
        assert_eq!((refusal.status, refusal.text()), (404, &*text));
        let change = server.sqs().change_message_visibility().queue_url(url);
        let refusal = refused(change.receipt_handle(handle).visibility_timeout(1).send().await);
        assert!(refusal.error.is_receipt_handle_is_invalid(), "{refusal:?}");
    }
    assert_eq!(queue.counts().await, [0, 1, 0]);
}

#[tokio::test]
async fn a_long_poll_wakes_for_a_send_and_for_a_delay() {
    let server = Server::start();
    let queue = server.queue("jobs", []).await;
    for delay_s in [0, 1] {
        let began = Instant::now();
        let (messages, _) = tokio::join!(received(queue.receiving().wait_time_seconds(10)), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            sent(queue.sending("late").delay_seconds(delay_s)).await
        });
        let took = began.elapsed();
        assert_eq!(bodies(&messages), ["late"]);
        let delay = Duration::from_secs(delay_s.try_into().unwrap());
        assert!(took > delay + Duration::from_millis(200), "{took:?}");
        assert!(took < Duration::from_secs(6), "{took:?}");
    }
    let began = Instant::now();
    let nothing = received(queue.receiving().wait_time_seconds(1)).await;
    assert_eq!(nothing, []);
    assert!(began.elapsed() > Duration::from_millis(900));
}

#[tokio::test]
async fn delays() {
    let server = Server::start();
    let queue = server
        .queue("jobs", [(QueueAttributeName::DelaySeconds, "900")])
        .await;
    queue.send("late").await;
    sent(queue.sending("now").delay_seconds(0)).await;
    assert_eq!(queue.bodies().await, ["now"]);
    assert_eq!(queue.counts().await, [0, 1, 1]);
}

#[tokio::test]
async fn message_attributes_and_their_filters() {
    let server = Server::start();
    let queue = server.queue("jobs", []).await;
    let hello = [("Hello", "There"), ("Help.Me", "Me"), ("General", "Kenobi")];
    let mut send = queue.sending("a");
    for (name, value) in hello {
        send = send.message_attributes(name, text("String", value));
    }
    let answer = sent(send).await;
    assert_eq!(
        answer.md5_of_message_attributes(),
        Some("4c360f3fdafd970e05fae2f149d997f5")
    );
    let filters: [(&[&str], Option<&str>, &[&str]); 5] = [
        (
            &["All"],
            Some("4c360f3fdafd970e05fae2f149d997f5"),
            &["General", "Hello", "Help.Me"],
        ),
        (
            &["Hel.*"],
            Some("83fee93c1bcd8b9a5a923ffacdc636c7"),
            &["Hello", "Help.Me"],
        ),
        (
            &["Hello", "nothing"],
            Some("a311262e065454b75da111d535b8dacd"),
            &["Hello"],
        ),
        (&["hello"], None, &[]),
        (&[], None, &[]),
    ];
    for (names, md5, shown) in filters {
        let mut receive = queue.receiving().visibility_timeout(0);
        for name in names {
            receive = receive.message_attribute_names(*name);
        }
        let message = received(receive).await.remove(0);
        assert_eq!(message.md5_of_message_attributes(), md5);
        let mut found: Vec<_> = message
            .message_attributes()
            .into_iter()
            .flatten()
            .map(|(name, _)| name)
            .collect();
        found.sort();
        assert_eq!(found, shown);
    }
}

#[tokio::test]
async fn message_attributes_of_all_types() {
    let server = Server::start();
    let queue = server.queue("jobs", []).await;
    let given = [
        ("text", text("String", "héllo ✓ \u{1f600}")),
        ("número", text("Number.int", "42")),
        ("bytes", binary(&[0, 255, 16])),
        ("image", {
            let png = MessageAttributeValue::builder().data_type("Binary.png");
            png.binary_value(Blob::new([137, 80])).build().unwrap()
        }),
    ];
    let given = given.map(|(name, value)| (name.to_owned(), value)).into();
    sent(queue.sending("a").set_message_attributes(Some(given))).await;
    let message = received(queue.receiving().message_attribute_names("All"))
        .await
        .remove(0);
    let shown = message.message_attributes().unwrap();
    assert_eq!(shown["text"], text("String", "héllo ✓ \u{1f600}"));
    assert_eq!(shown["número"], text("Number.int", "42"));
    assert_eq!(shown["bytes"], binary(&[0, 255, 16]));
    assert_eq!(shown["image"].data_type(), "Binary.png");
    assert_eq!(shown.len(), 4);

    for (name, bad) in [
        ("a", text("Text", "x")),
        ("a", text("String", "")),
        ("a", text("Number", "x")),
        ("AWS.x", text("String", "x")),
    ] {
        let refusal = refused(queue.sending("x").message_attributes(name, bad).send().await);
        assert_eq!(refusal.code(), "InvalidParameterValue", "{refusal:?}");
    }
    let eleven = (0..11)
        .map(|number| (number.to_string(), text("String", "x")))
        .collect();
    let many = queue.sending("x").set_message_attributes(Some(eleven));
    assert_eq!(refused(many.send().await).code(), "InvalidParameterValue");
}

#[tokio::test]
async fn trace_headers() {
    let server = Server::start();
    let queue = server.queue("jobs", []).await;
    let header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
    let value = MessageSystemAttributeValue::builder().data_type("String");
    let value = value.string_value(header).build().unwrap();
    let name = MessageSystemAttributeNameForSends::AwsTraceHeader;
    let answer = sent(queue.sending("a").message_system_attributes(name, value)).await;
    assert_eq!(
        answer.md5_of_message_system_attributes(),
        Some("5ae4d5d7636402d80f4eb6d213245a88")
    );
    let name = MessageSystemAttributeName::AwsTraceHeader;
    let message = received(queue.receiving().message_system_attribute_names(name.clone()))
        .await
        .remove(0);
    let attributes = message.attributes().unwrap();
    assert_eq!(attributes[&name], header);
    assert_eq!(attributes.len(), 1);
}

#[tokio::test]
async fn fair_queues_take_groups() {
    let server = Server::start();
    let queue = server.queue("jobs", []).await;
    let answer = sent(queue.sending("a").message_group_id("tenant")).await;
    assert_eq!(answer.sequence_number(), None);
    let name = MessageSystemAttributeName::MessageGroupId;
    let message = received(queue.receiving().message_system_attribute_names(name.clone()))
        .await
        .remove(0);
    assert_eq!(message.attributes().unwrap()[&name], "tenant");
    let refusal = refused(queue.sending("a").message_deduplication_id("x").send().await);
    assert_eq!(
        (refusal.code(), refusal.text()),
        (
            "InvalidParameterValue",
            "Value x for parameter MessageDeduplicationId is invalid. Reason: The request include parameter that is not \
             valid for this queue type."
        )
    );
}
