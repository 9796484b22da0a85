//! Sizes, characters and ranges.

use aws_sdk_sqs::types::{MessageAttributeValue, QueueAttributeName};

use crate::queue::sent;
use crate::refusal::refused;
use crate::server::Server;

/// Of a message, and of a batch's messages together.
const BYTES_MAX: usize = 1_048_576;

#[tokio::test]
async fn a_message_may_have_a_mebibyte() {
    let server = Server::start();
    let queue = server.queue("jobs", []).await;
    // Bytes are counted, not characters.
    for body in ["x".repeat(BYTES_MAX), "\u{1f600}".repeat(BYTES_MAX / 4)] {
        queue.send(&body).await;
        let message = queue.receive().await.remove(0);
        assert!(message.body() == Some(&*body), "a body came back otherwise");
        queue.delete(&message).await;
        let refusal = refused(queue.sending(body + "x").send().await);
        assert_eq!(
            (refusal.status, refusal.code(), refusal.text()),
            (
                400,
                "InvalidParameterValue",
                "One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes."
            )
        );
    }
    // Names, types and values of attributes are part of it.
    let attribute = MessageAttributeValue::builder().data_type("String");
    let attribute = attribute.string_value("value").build().unwrap();
    let body = "x".repeat(BYTES_MAX - "name".len() - "String".len() - "value".len());
    sent(queue.sending(&body).message_attributes("name", attribute.clone())).await;
    let refusal = refused(
        queue
            .sending(body + "x")
            .message_attributes("name", attribute)
            .send()
            .await,
    );
    assert_eq!(refusal.code(), "InvalidParameterValue");
}

#[tokio::test]
async fn a_queue_may_take_less() {
    let server = Server::start();
    let queue = server
        .queue("jobs", [(QueueAttributeName::MaximumMessageSize, "1024")])
        .await;
    queue.send(&"x".repeat(1_024)).await;
    let refusal = refused(queue.sending("x".repeat(1_025)).send().await);
    assert_eq!(
        refusal.text(),
        "One or more parameters are invalid. Reason: Message must be shorter than 1024 bytes."
    );
}

#[tokio::test]
async fn characters() {
    let server = Server::start();
    let queue = server.queue("jobs", []).await;
    for body in [
        "\"<&>'\\/",
        "\t\r\n",
        "\u{1f600} \u{2028} \u{d7ff} \u{e000} \u{fffd} \u{10ffff}",
        "\u{7f}\u{80}\u{9f}",
        "e\u{301} is not \u{e9}",
        " ",
    ] {
        queue.send(body).await;
        let message = queue.receive().await.remove(0);
        assert_eq!(message.body(), Some(body));
        queue.delete(&message).await;
    }
    for body in ["\0", "\u{b}", "\u{1f}", "a\u{fffe}", "\u{ffff}"] {
        let refusal = refused(queue.sending(body).send().await);
        assert!(
            refusal.error.is_invalid_message_contents(),
            "{body:?}: {refusal:?}"
        );
        assert_eq!(refusal.status, 400);
    }
    let refusal = refused(queue.sending("").send().await);
    assert_eq!(
        (refusal.code(), refusal.text()),
        (
            "MissingParameter",
            "The request must contain the parameter MessageBody."
        )
    );
    assert_eq!(queue.counts().await, [0, 0, 0]);
}

#[tokio::test]
async fn ranges() {
    let server = Server::start();
    let queue = server.queue("jobs", []).await;
    let receive = || queue.receiving();
    for (receive, parameter, value, reason) in [
        (
            receive().max_number_of_messages(0),
            "MaxNumberOfMessages",
            0,
            "Must be between 1 and 10, if provided.",
        ),
        (
            receive().max_number_of_messages(11),
            "MaxNumberOfMessages",
            11,
            "Must be between 1 and 10, if provided.",
        ),
        (
            receive().wait_time_seconds(21),
            "WaitTimeSeconds",
            21,
            "Must be >= 0 and <= 20, if provided.",
        ),
        (
            receive().wait_time_seconds(-1),
            "WaitTimeSeconds",
            -1,
            "Must be >= 0 and <= 20, if provided.",
        ),
        (
            receive().visibility_timeout(43_201),
            "VisibilityTimeout",
            43_201,
            "Must be >= 0 and <= 43200, if provided.",
        ),
        (
            receive().visibility_timeout(i32::MIN),
            "VisibilityTimeout",
            i32::MIN,
            "Must be >= 0 and <= 43200, if provided.",
        ),
    ] {
        let refusal = refused(receive.send().await);
        let text = format!("Value {value} for parameter {parameter} is invalid. Reason: {reason}");
        assert_eq!(
            (refusal.status, refusal.code(), refusal.text()),
            (400, "InvalidParameterValue", &*text)
        );
    }
    for delay_s in [901, -1] {
        let refusal = refused(queue.sending("x").delay_seconds(delay_s).send().await);
        assert_eq!(refusal.code(), "InvalidParameterValue");
    }
}
