//! What is said over the wire: requests from templates, and what of the answers matters. AWS JSON 1.0; no I/O.

use std::{borrow::Cow, ops::Range};

use arrayvec::ArrayVec;
use bytes::Bytes;
use epoq_history::id_of;
use hyper::{
    HeaderMap,
    header::{self, HeaderName, HeaderValue},
};
use serde::{Deserialize, Serialize};

use super::bodies::Bodies;
use crate::target::BATCH_MAX;

/// How long a lease lasts, in seconds: longer than any pass, so that a message that comes twice is a fault.
pub(super) const VISIBILITY_S: u64 = 3_600;

/// An operation of the life cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Operation {
    /// `SendMessage` or `SendMessageBatch`.
    Send,
    /// `ReceiveMessage`.
    Receive,
    /// `DeleteMessage` or `DeleteMessageBatch`.
    Delete,
}

impl Operation {
    /// In the order of a life cycle.
    pub(super) const ALL: [Self; 3] = [Self::Send, Self::Receive, Self::Delete];

    /// The header `X-Amz-Target`.
    pub(super) const fn target(self, batch: usize) -> &'static str {
        match (self, batch) {
            (Self::Send, 1) => "AmazonSQS.SendMessage",
            (Self::Send, _) => "AmazonSQS.SendMessageBatch",
            (Self::Receive, _) => "AmazonSQS.ReceiveMessage",
            (Self::Delete, 1) => "AmazonSQS.DeleteMessage",
            (Self::Delete, _) => "AmazonSQS.DeleteMessageBatch",
        }
    }

    /// For people.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Delete => "delete",
        }
    }
}

/// The headers of a request: as many as an SDK sends, with a signature that nobody made.
pub(super) fn headers(host: &str, target: &'static str) -> Result<HeaderMap, header::InvalidHeaderValue> {
    const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=epoq/20260101/us-east-1/sqs/aws4_request, \
        SignedHeaders=content-type;host;x-amz-date;x-amz-target, \
        Signature=0000000000000000000000000000000000000000000000000000000000000000";
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::HOST, HeaderValue::from_str(host)?);
    for (name, value) in [
        (header::CONTENT_TYPE, "application/x-amz-json-1.0"),
        (HeaderName::from_static("x-amz-target"), target),
        (HeaderName::from_static("x-amz-date"), "20260101T000000Z"),
        (header::AUTHORIZATION, AUTHORIZATION),
        (
            header::USER_AGENT,
            concat!("epoq-bench/", env!("CARGO_PKG_VERSION")),
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(headers)
}

/// The requests of one queue.
#[derive(Clone, Debug)]
pub(super) struct Dialect {
    batch: usize,
    bodies: Bodies,
    send: Vec<u8>,
    /// Where in `send` the bodies stand.
    places: Vec<Range<usize>>,
    receive: Bytes,
    drain: Bytes,
    /// The beginning of a delete.
    delete: Vec<u8>,
}

/// A message received.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) id: u128,
    pub(super) handle: String,
    /// `None` if its body is damaged.
    pub(super) token: Option<u64>,
}

/// An answer that cannot be understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub(super) String);

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SendAnswer<'a> {
    #[serde(borrow)]
    message_id: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BatchAnswer<'a> {
    #[serde(borrow, default)]
    successful: Option<Vec<Successful<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Successful<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    message_id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ReceiveAnswer<'a> {
    #[serde(borrow, default)]
    messages: Option<Vec<MessageAnswer<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MessageAnswer<'a> {
    #[serde(borrow)]
    message_id: Cow<'a, str>,
    #[serde(borrow)]
    receipt_handle: Cow<'a, str>,
    #[serde(borrow)]
    body: Cow<'a, str>,
}

impl Dialect {
    /// For a queue, calls of `batch` messages, and these bodies.
    pub(super) fn new(queue_url: &str, batch: usize, bodies: Bodies) -> Self {
        let batch = batch.clamp(1, BATCH_MAX);
        let url = json_text(queue_url);
        let mut send = format!("{{\"QueueUrl\":{url},").into_bytes();
        let mut places = Vec::with_capacity(batch);
        let mut place = |send: &mut Vec<u8>| {
            let begin = send.len();
            send.resize(begin + bodies.length(), b'0');
            places.push(begin..send.len());
        };
        if batch == 1 {
            send.extend_from_slice(b"\"MessageBody\":\"");
            place(&mut send);
            send.extend_from_slice(b"\"}");
        } else {
            send.extend_from_slice(b"\"Entries\":[");
            for at in 0..batch {
                let comma = if at == 0 { "" } else { "," };
                send.extend_from_slice(format!("{comma}{{\"Id\":\"{at}\",\"MessageBody\":\"").as_bytes());
                place(&mut send);
                send.extend_from_slice(b"\"}");
            }
            send.extend_from_slice(b"]}");
        }
        let receive = |max: usize| {
            Bytes::from(format!(
                "{{\"QueueUrl\":{url},\"MaxNumberOfMessages\":{max},\"VisibilityTimeout\":{VISIBILITY_S},\"WaitTimeSeconds\":0}}"
            ))
        };
        let delete = if batch == 1 {
            format!("{{\"QueueUrl\":{url},\"ReceiptHandle\":")
        } else {
            format!("{{\"QueueUrl\":{url},\"Entries\":[")
        };
        Self {
            batch,
            bodies,
            send,
            places,
            receive: receive(batch),
            drain: receive(BATCH_MAX),
            delete: delete.into_bytes(),
        }
    }

    /// Messages per call.
    pub(super) fn batch(&self) -> usize {
        self.batch
    }

    /// A send of messages with the tokens from `first` on.
    pub(super) fn send(&self, first: u64) -> Bytes {
        let mut request = self.send.clone();
        for (token, place) in (first..).zip(&self.places) {
            self.bodies.write(token, &mut request[place.clone()]);
        }
        request.into()
    }

    /// A receive of as many messages as a call may have.
    pub(super) fn receive(&self) -> Bytes {
        self.receive.clone()
    }

    /// A receive of as many messages as there may be in one answer.
    pub(super) fn drain(&self) -> Bytes {
        self.drain.clone()
    }

    /// A delete of these messages, one if calls are of one.
    pub(super) fn delete<'h>(&self, handles: impl Iterator<Item = &'h str>) -> Bytes {
        const ENTRY: &str = "{\"Id\":\"0\",\"ReceiptHandle\":";
        let mut request = Vec::with_capacity(self.delete.len() + self.batch * 256);
        request.extend_from_slice(&self.delete);
        for (at, handle) in handles.enumerate() {
            if self.batch > 1 {
                let digit = request.len() + usize::from(at > 0) + ENTRY.find('0').unwrap_or_default();
                request.extend_from_slice(if at > 0 { b"," } else { b"" });
                request.extend_from_slice(ENTRY.as_bytes());
                request[digit] = b'0' + at as u8;
            }
            // Writing to memory does not fail.
            let _ = serde_json::to_writer(&mut request, handle);
            if self.batch > 1 {
                request.push(b'}');
            }
        }
        request.extend_from_slice(if self.batch > 1 { b"]}" } else { b"}" });
        request.into()
    }

    /// The ids of the messages that a send's answer says were accepted, in the order of their tokens.
    pub(super) fn sent(&self, answer: &[u8]) -> Result<ArrayVec<Option<u128>, BATCH_MAX>, Unreadable> {
        let mut ids = ArrayVec::new();
        if self.batch == 1 {
            let answer: SendAnswer<'_> = serde_json::from_slice(answer)?;
            ids.push(Some(id_of(&answer.message_id)));
            return Ok(ids);
        }
        ids.extend(std::iter::repeat_n(None, self.batch));
        for entry in serde_json::from_slice::<BatchAnswer<'_>>(answer)?
            .successful
            .unwrap_or_default()
        {
            let id = entry.message_id.as_deref().map(id_of);
            *place_of(&mut ids, &entry.id)? = id;
        }
        Ok(ids)
    }

    /// What a receive's answer gives.
    pub(super) fn received(&self, answer: &[u8]) -> Result<Vec<Delivery>, Unreadable> {
        let answer: ReceiveAnswer<'_> = serde_json::from_slice(answer)?;
        let messages = answer.messages.unwrap_or_default().into_iter();
        Ok(messages
            .map(|message| Delivery {
                id: id_of(&message.message_id),
                handle: message.receipt_handle.into_owned(),
                token: self.bodies.read(message.body.as_bytes()),
            })
            .collect())
    }

    /// Which of `count` messages a delete's answer says are deleted.
    pub(super) fn deleted(
        &self,
        answer: &[u8],
        count: usize,
    ) -> Result<ArrayVec<bool, BATCH_MAX>, Unreadable> {
        let mut done = ArrayVec::new();
        done.extend(std::iter::repeat_n(self.batch == 1, count.min(BATCH_MAX)));
        if self.batch > 1 {
            for entry in serde_json::from_slice::<BatchAnswer<'_>>(answer)?
                .successful
                .unwrap_or_default()
            {
                *place_of(&mut done, &entry.id)? = true;
            }
        }
        Ok(done)
    }
}

/// The place of the entry that is called by its number.
fn place_of<'v, T>(values: &'v mut [T], id: &str) -> Result<&'v mut T, Unreadable> {
    id.parse::<usize>()
        .ok()
        .and_then(|at| values.get_mut(at))
        .ok_or_else(|| Unreadable(format!("an entry {id:?} that was not asked for")))
}

/// A text in JSON, in its quotes.
pub(super) fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const URL: &str = "http://localhost:1/000000000000/q\"uoted";

    fn dialect(batch: usize) -> Dialect {
        Dialect::new(URL, batch, Bodies::new(32, 1))
    }

    fn parsed(request: &Bytes) -> Value {
        serde_json::from_slice(request).unwrap()
    }

    #[test]
    fn requests_are_json_and_carry_their_tokens() {
        for batch in [1, 10] {
            let dialect = dialect(batch);
            let request = parsed(&dialect.send(7));
            assert_eq!(request["QueueUrl"], URL);
            let bodies: Vec<&Value> = match batch {
                1 => vec![&request["MessageBody"]],
                _ => request["Entries"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .enumerate()
                    .map(|(at, entry)| {
                        assert_eq!(entry["Id"], at.to_string());
                        &entry["MessageBody"]
                    })
                    .collect(),
            };
            let tokens: Vec<_> = bodies
                .iter()
                .map(|body| dialect.bodies.read(body.as_str().unwrap().as_bytes()))
                .collect();
            assert_eq!(tokens, (7..7 + batch as u64).map(Some).collect::<Vec<_>>());
            assert_eq!(parsed(&dialect.receive())["MaxNumberOfMessages"], batch);
            assert_eq!(parsed(&dialect.drain())["MaxNumberOfMessages"], 10);
        }
    }

    #[test]
    fn handles_are_escaped() {
        let request = parsed(&dialect(1).delete(["a\"b"].into_iter()));
        assert_eq!(request, json!({"QueueUrl": URL, "ReceiptHandle": "a\"b"}));
        let request = parsed(&dialect(10).delete(["a\\", "b"].into_iter()));
        let entries = json!([{"Id": "0", "ReceiptHandle": "a\\"}, {"Id": "1", "ReceiptHandle": "b"}]);
        assert_eq!(request, json!({"QueueUrl": URL, "Entries": entries}));
    }

    #[test]
    fn answers_are_read_by_their_entries() {
        let id = |n: u128| format!("00000000-0000-0000-0000-{n:012x}");
        let one = dialect(1);
        let answer = format!(r#"{{"MD5OfMessageBody":"x","MessageId":"{}"}}"#, id(5));
        assert_eq!(one.sent(answer.as_bytes()).unwrap()[..], [Some(5)]);
        assert_eq!(one.deleted(b"", 1).unwrap()[..], [true]);
        let many = dialect(3);
        let answer = format!(
            r#"{{"Failed":[{{"Id":"1","Code":"x","SenderFault":true}}],"Successful":[{{"Id":"2","MessageId":"{}"}},{{"Id":"0","MessageId":"{}"}}]}}"#,
            id(2),
            id(9)
        );
        assert_eq!(
            many.sent(answer.as_bytes()).unwrap()[..],
            [Some(9), None, Some(2)]
        );
        let deleted = many.deleted(br#"{"Successful":[{"Id":"1"}]}"#, 2).unwrap();
        assert_eq!(deleted[..], [false, true]);
        assert!(many.deleted(br#"{"Successful":[{"Id":"2"}]}"#, 2).is_err());
        assert!(many.sent(b"{").is_err() && one.sent(b"{}").is_err());
    }

    #[test]
    fn deliveries_are_checked_byte_by_byte() {
        let dialect = dialect(10);
        let mut body = vec![0; 32];
        dialect.bodies.write(3, &mut body);
        let good = String::from_utf8(body).unwrap();
        let message =
            |body: &str| json!({"MessageId": "m", "ReceiptHandle": "h\u{1}", "Body": body, "MD5OfBody": ""});
        let answer = json!({"Messages": [message(&good), message("something else")]}).to_string();
        let received = dialect.received(answer.as_bytes()).unwrap();
        let tokens: Vec<_> = received.iter().map(|delivery| delivery.token).collect();
        assert_eq!(tokens, [Some(3), None]);
        assert_eq!(
            (received[0].handle.as_str(), received[0].id),
            ("h\u{1}", id_of("m"))
        );
        for empty in ["{}", r#"{"Messages":[]}"#, r#"{"Messages":null}"#] {
            assert_eq!(dialect.received(empty.as_bytes()), Ok(Vec::new()));
        }
    }

    #[test]
    fn heads_are_valid() {
        let headers = headers("127.0.0.1:9324", Operation::Send.target(10)).unwrap();
        assert_eq!(headers["x-amz-target"], "AmazonSQS.SendMessageBatch");
        assert!(super::headers("a\nb", "x").is_err());
    }
}
