//! Both protocols as they stand on the wire: heads, bodies, statuses, texts.

mod common;

use std::{
    thread,
    time::{Duration, Instant},
};

use common::{call, get, ok, query, send, start};
use serde_json::json;

#[test]
fn answers_in_json_have_the_heads_that_sdks_read() {
    let running = start("");
    let at = running.address();
    let created = call(at, "CreateQueue", r#"{"QueueName":"q"}"#);
    assert_eq!(created.status, 200);
    assert_eq!(created.header("content-type"), Some("application/x-amz-json-1.0"));
    let id = created.header("x-amzn-requestid").expect("an id");
    assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'));
    assert_eq!(
        created.json(),
        json!({ "QueueUrl": "http://sqs.test/000000000000/q" })
    );

    let missing = call(at, "GetQueueUrl", r#"{"QueueName":"nothing"}"#);
    assert_eq!(missing.status, 400);
    assert_eq!(
        missing.header("x-amzn-query-error"),
        Some("AWS.SimpleQueueService.NonExistentQueue;Sender")
    );
    assert_eq!(
        missing.json(),
        json!({ "__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "The specified queue does not exist." })
    );
    // Operations with nothing to say say nothing.
    let silent = call(at, "PurgeQueue", r#"{"QueueUrl":"q"}"#);
    assert_eq!((silent.status, silent.body.as_str()), (200, ""));
    running.shutdown();
}

#[test]
fn operations_that_there_are_not() {
    let running = start("");
    for action in ["Nonsense", "", "sendMessage"] {
        let answer = call(running.address(), action, "{}");
        assert_eq!(answer.status, 400);
        assert_eq!(
            answer.json()["__type"],
            "com.amazon.coral.service#UnknownOperationException"
        );
    }
    let answer = query(running.address(), "/", "Action=Nonsense");
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains(
        "<Code>InvalidAction</Code><Message>The action Nonsense is not valid for this endpoint.</Message>"
    ));
    running.shutdown();
}

#[test]
fn the_query_protocol_by_form_and_by_address() {
    let running = start("");
    let at = running.address();
    let created = query(
        at,
        "/",
        "Action=CreateQueue&QueueName=q&Attribute.1.Name=DelaySeconds&Attribute.1.Value=0&Version=2012-11-05",
    );
    assert_eq!(
        (created.status, created.header("content-type")),
        (200, Some("text/xml"))
    );
    assert!(
        created
            .body
            .contains("<QueueUrl>http://sqs.test/000000000000/q</QueueUrl>"),
        "{created:?}"
    );
    let path = "/000000000000/q";
    let sent = query(
        at,
        path,
        "Action=SendMessage&MessageBody=a%0D%22b&MessageAttribute.1.Name=k&MessageAttribute.1.Value.DataType=String\
         &MessageAttribute.1.Value.StringValue=x",
    );
    assert!(
        sent.body
            .contains("<MD5OfMessageAttributes>a45daa70926828a2f0a1db3418e6feb4</MD5OfMessageAttributes>")
    );
    let received = get(
        at,
        &format!("{path}?Action=ReceiveMessage&AttributeName.1=All&MessageAttributeName.1=All"),
    );
    for part in [
        "<Body>a&#xD;&quot;b</Body>",
        "<Attribute><Name>ApproximateReceiveCount</Name><Value>1</Value></Attribute>",
        "<MessageAttribute><Name>k</Name><Value><StringValue>x</StringValue><DataType>String</DataType></Value></MessageAttribute>",
    ] {
        assert!(received.body.contains(part), "{part} in {received:?}");
    }
    let empty = query(at, path, "Action=ReceiveMessage");
    assert!(
        empty
            .body
            .contains("<ReceiveMessageResult></ReceiveMessageResult>"),
        "{empty:?}"
    );

    let missing = query(at, "/000000000000/nothing", "Action=PurgeQueue");
    assert_eq!(missing.status, 400);
    assert!(missing.body.contains(
        "<Error><Type>Sender</Type><Code>AWS.SimpleQueueService.NonExistentQueue</Code>\
         <Message>The specified queue does not exist for this wsdl version.</Message><Detail/></Error>"
    ));
    let handle = query(at, path, "Action=DeleteMessage&ReceiptHandle=garbage");
    assert_eq!(handle.status, 400);
    assert!(
        query(at, path, "Action=ListQueues")
            .body
            .contains("<Code>InvalidAction</Code>")
    );
    assert_eq!(get(at, path).status, 404);
    assert!(get(at, path).body.contains("UnknownOperationException"));
    running.shutdown();
}

#[test]
fn batches_over_the_query_protocol() {
    let running = start("[[queues]]\nname = \"q\"");
    let at = running.address();
    let entry = |n: u8, id: &str| {
        format!(
            "&SendMessageBatchRequestEntry.{n}.Id={id}&SendMessageBatchRequestEntry.{n}.MessageBody=body-{n}"
        )
    };
    let sent = query(
        at,
        "/0/q",
        &format!("Action=SendMessageBatch{}{}", entry(1, "a"), entry(2, "b")),
    );
    assert_eq!(
        sent.body.matches("<SendMessageBatchResultEntry>").count(),
        2,
        "{sent:?}"
    );
    let received = ok(
        at,
        "ReceiveMessage",
        r#"{"QueueUrl":"q","MaxNumberOfMessages":10}"#,
    );
    let handle = received["Messages"][0]["ReceiptHandle"]
        .as_str()
        .expect("a handle");
    let deleted = query(
        at,
        "/0/q",
        &format!(
            "Action=DeleteMessageBatch&DeleteMessageBatchRequestEntry.1.Id=x&DeleteMessageBatchRequestEntry.1.ReceiptHandle={handle}\
             &DeleteMessageBatchRequestEntry.2.Id=y&DeleteMessageBatchRequestEntry.2.ReceiptHandle=garbage"
        ),
    );
    assert!(
        deleted
            .body
            .contains("<DeleteMessageBatchResultEntry><Id>x</Id></DeleteMessageBatchResultEntry>")
    );
    assert!(deleted.body.contains(
        "<BatchResultErrorEntry><Id>y</Id><Code>ReceiptHandleIsInvalid</Code><Message>The input receipt handle \
         &quot;garbage&quot; is not a valid receipt handle.</Message><SenderFault>true</SenderFault></BatchResultErrorEntry>"
    ));
    assert!(
        query(at, "/0/q", "Action=SendMessageBatch")
            .body
            .contains("EmptyBatchRequest")
    );
    running.shutdown();
}

#[test]
fn health_and_metrics() {
    let running = start("[[queues]]\nname = \"q\"");
    let at = running.address();
    ok(at, "SendMessage", r#"{"QueueUrl":"q","MessageBody":"a"}"#);
    call(at, "SendMessage", r#"{"QueueUrl":"nothing","MessageBody":"a"}"#);
    let health = get(at, "/health");
    assert_eq!((health.status, health.json()), (200, json!({ "status": "ok" })));
    let metrics = get(at, "/metrics").body;
    for line in [
        "epoq_request_duration_seconds_count{operation=\"SendMessage\"} 2",
        "epoq_request_errors_total{operation=\"SendMessage\",fault=\"client\"} 1",
        "epoq_queue_messages_visible{queue=\"q\"} 1",
        "epoq_queue_messages_sent_total{queue=\"q\"} 1",
        "# EOF",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    running.shutdown();
}

#[test]
fn a_policy_is_about_so_many_at_most() {
    let running = start("[[queues]]\nname = \"q\"");
    let at = running.address();
    let add = |label: &str, accounts: std::ops::Range<u64>| {
        let accounts: Vec<_> = accounts.map(|number| format!("{number:012}")).collect();
        let body =
            json!({ "QueueUrl": "q", "Label": label, "AWSAccountIds": accounts, "Actions": ["SendMessage"] });
        call(at, "AddPermission", &body.to_string())
    };
    assert_eq!(add("a", 0..49).status, 200);
    assert_eq!(add("b", 0..1).status, 200);
    for (label, accounts) in [("c", 0..1), ("d", 0..51)] {
        let refused = add(label, accounts);
        assert_eq!(refused.status, 403, "{refused:?}");
        assert_eq!(refused.header("x-amzn-query-error"), Some("OverLimit;Sender"));
    }
    running.shutdown();
}

#[test]
fn the_digest_of_system_attributes_is_of_those_that_were_sent() {
    let running = start("[[queues]]\nname = \"q\"");
    let at = running.address();
    let header = r#"{"AWSTraceHeader":{"DataType":"String","StringValue":"Root=1"}}"#;
    for (attributes, has_digest) in [("{}", false), ("null", false), (header, true)] {
        let body = format!(r#"{{"QueueUrl":"q","MessageBody":"a","MessageSystemAttributes":{attributes}}}"#);
        let request = format!(
            "POST / HTTP/1.1\r\nhost: a\r\nx-amz-target: AmazonSQS.SendMessage\r\nx-amzn-trace-id: Root=2\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = send(at, request.as_bytes()).expect("an answer");
        let digest = &answer.json()["MD5OfMessageSystemAttributes"];
        assert_eq!(digest.is_string(), has_digest, "{answer:?}");
    }
    running.shutdown();
}

/// Whether there is a queue of that name or not.
#[test]
fn the_type_of_a_queue_goes_with_its_name() {
    let running =
        start("[[queues]]\nname = \"q\"\n[[queues]]\nname = \"q.fifo\"\nattributes = { FifoQueue = true }");
    let at = running.address();
    for (name, fifo, code, text) in [
        ("q", "true", "InvalidParameterValue", "must end with .fifo suffix"),
        (
            "new",
            "true",
            "InvalidParameterValue",
            "must end with .fifo suffix",
        ),
        (
            "q",
            "false",
            "InvalidAttributeName",
            "Unknown Attribute FifoQueue.",
        ),
        (
            "q.fifo",
            "false",
            "InvalidAttributeName",
            "Unknown Attribute FifoQueue.",
        ),
        (
            "new.fifo",
            "false",
            "InvalidAttributeName",
            "Unknown Attribute FifoQueue.",
        ),
        (
            "q.fifo",
            "x",
            "InvalidAttributeValue",
            "Invalid value for the parameter FifoQueue.",
        ),
    ] {
        let body = json!({ "QueueName": name, "Attributes": { "FifoQueue": fifo } }).to_string();
        let answer = call(at, "CreateQueue", &body);
        let expected = format!("{code};Sender");
        assert_eq!(
            answer.header("x-amzn-query-error"),
            Some(expected.as_str()),
            "{body}"
        );
        assert!(
            answer.json()["message"].as_str().expect("a text").contains(text),
            "{body}"
        );
    }
    for body in [
        r#"{"QueueName":"q"}"#,
        r#"{"QueueName":"q.fifo"}"#,
        r#"{"QueueName":"q.fifo","Attributes":{"FifoQueue":"true"}}"#,
    ] {
        ok(at, "CreateQueue", body);
    }
    running.shutdown();
}

/// SQS has another code for it in batches than in single calls.
#[test]
fn handles_that_have_expired_on_a_fifo_queue() {
    let running = start("[[queues]]\nname = \"q.fifo\"\nattributes = { FifoQueue = true }");
    let at = running.address();
    ok(
        at,
        "SendMessage",
        r#"{"QueueUrl":"q.fifo","MessageBody":"a","MessageGroupId":"g","MessageDeduplicationId":"d"}"#,
    );
    let received = ok(
        at,
        "ReceiveMessage",
        r#"{"QueueUrl":"q.fifo","VisibilityTimeout":0}"#,
    );
    let handle = &received["Messages"][0]["ReceiptHandle"];
    let entry = json!({ "Id": "a", "ReceiptHandle": handle, "VisibilityTimeout": 5 });
    let batch = json!({ "QueueUrl": "q.fifo", "Entries": [entry] }).to_string();
    for action in ["ChangeMessageVisibilityBatch", "DeleteMessageBatch"] {
        assert_eq!(
            ok(at, action, &batch)["Failed"],
            json!([{ "Id": "a", "Code": "ReceiptHandleIsInvalid", "Message": "The receipt handle has expired", "SenderFault": true }]),
            "{action}"
        );
    }
    let single = json!({ "QueueUrl": "q.fifo", "ReceiptHandle": handle, "VisibilityTimeout": 5 });
    let answer = call(at, "ChangeMessageVisibility", &single.to_string());
    assert_eq!(
        answer.header("x-amzn-query-error"),
        Some("InvalidParameterValue;Sender")
    );
    running.shutdown();
}

#[test]
fn want_of_memory_is_not_the_senders_fault() {
    let running = start("memory-mib = 1\n[[queues]]\nname = \"q\"");
    let at = running.address();
    let entries: Vec<_> = (0..10)
        .map(|id| json!({ "Id": id.to_string(), "MessageBody": "x".repeat(100_000) }))
        .collect();
    let batch = json!({ "QueueUrl": "q", "Entries": entries }).to_string();
    let failed = (0..10).find_map(|_| ok(at, "SendMessageBatch", &batch)["Failed"].as_array().cloned());
    for entry in failed.expect("no mebibyte has room for ten") {
        assert_eq!(
            (&entry["Code"], &entry["SenderFault"]),
            (&json!("RequestThrottled"), &json!(false))
        );
    }
    running.shutdown();
}

/// However many ask: what clients that do not read hold on to is bounded.
#[test]
fn metrics_are_made_once_a_second() {
    let running = start("[[queues]]\nname = \"q\"");
    let at = running.address();
    let until = Instant::now() + Duration::from_secs(30);
    // The text that is there was not made before.
    let mut made_after = Instant::now();
    loop {
        let metrics = get(at, "/metrics").body;
        ok(at, "SendMessage", r#"{"QueueUrl":"q","MessageBody":"a"}"#);
        let asked_at = Instant::now();
        let again = get(at, "/metrics").body;
        // On a slow machine it may be another second already.
        if again == metrics {
            break;
        }
        assert!(made_after.elapsed() > Duration::from_millis(900) && made_after < until);
        made_after = asked_at;
        thread::sleep(Duration::from_millis(100));
    }
    thread::sleep(Duration::from_secs(1));
    let metrics = get(at, "/metrics").body;
    assert!(
        !metrics.contains("epoq_queue_messages_sent_total{queue=\"q\"} 0"),
        "{metrics}"
    );
    running.shutdown();
}

#[test]
fn what_json_says_of_members_that_are_missing() {
    let running = start("[[queues]]\nname = \"q\"");
    let at = running.address();
    for (action, body, text) in [
        (
            "SendMessage",
            "{}",
            "The request must contain the parameter QueueUrl.",
        ),
        (
            "SendMessage",
            r#"{"QueueUrl":"q"}"#,
            "The request must contain the parameter MessageBody.",
        ),
        (
            "SendMessageBatch",
            r#"{"QueueUrl":"q"}"#,
            "The request must contain the parameter Entries.",
        ),
        (
            "SendMessageBatch",
            r#"{"QueueUrl":"q","Entries":[{"Id":"a","MessageBody":"a"},{"MessageBody":"b"}]}"#,
            "The request must contain the parameter SendMessageBatchRequestEntry.2.Id.",
        ),
        (
            "DeleteMessage",
            r#"{"QueueUrl":"q"}"#,
            "The request must contain the parameter ReceiptHandle.",
        ),
        (
            "ChangeMessageVisibility",
            r#"{"QueueUrl":"q","ReceiptHandle":"x"}"#,
            "The request must contain the parameter VisibilityTimeout.",
        ),
        (
            "CreateQueue",
            "",
            "The request must contain the parameter QueueName.",
        ),
    ] {
        let answer = call(at, action, body);
        assert_eq!(answer.status, 400, "{action}");
        let json = answer.json();
        assert_eq!(json["message"], text);
        assert_eq!(
            json["__type"],
            "com.amazon.coral.service#MissingRequiredParameterException"
        );
        assert_eq!(
            answer.header("x-amzn-query-error"),
            Some("MissingParameter;Sender")
        );
    }
    running.shutdown();
}
