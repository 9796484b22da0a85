//! AWS JSON 1.0: the operation in a header, its members in an object.

use serde::Deserialize;

use super::{action::Action, input::Input};
use crate::error::{Kind, ServiceError, cut};

/// Reads the body of a request in the JSON protocol. An empty one counts as an empty object, members that the operation does not
/// have are passed over.
///
/// # Errors
/// `SerializationException` with a text that says where it is not what it should be.
pub fn parse(action: Action, body: &[u8]) -> Result<Input<'_>, ServiceError> {
    let body = match body.trim_ascii_start().first() {
        None => b"{}",
        Some(b'{') => body,
        // Else a list would be taken for the members in their order.
        Some(_) => return Err(ServiceError::malformed("The request is not a JSON object.")),
    };
    Ok(match action {
        Action::AddPermission => Input::AddPermission(read(body)?),
        Action::CancelMessageMoveTask => Input::CancelMessageMoveTask(read(body)?),
        Action::ChangeMessageVisibility => Input::ChangeMessageVisibility(read(body)?),
        Action::ChangeMessageVisibilityBatch => Input::ChangeMessageVisibilityBatch(read(body)?),
        Action::CreateQueue => Input::CreateQueue(read(body)?),
        Action::DeleteMessage => Input::DeleteMessage(read(body)?),
        Action::DeleteMessageBatch => Input::DeleteMessageBatch(read(body)?),
        Action::DeleteQueue => Input::DeleteQueue(read(body)?),
        Action::GetQueueAttributes => Input::GetQueueAttributes(read(body)?),
        Action::GetQueueUrl => Input::GetQueueUrl(read(body)?),
        Action::ListDeadLetterSourceQueues => Input::ListDeadLetterSourceQueues(read(body)?),
        Action::ListMessageMoveTasks => Input::ListMessageMoveTasks(read(body)?),
        Action::ListQueueTags => Input::ListQueueTags(read(body)?),
        Action::ListQueues => Input::ListQueues(read(body)?),
        Action::PurgeQueue => Input::PurgeQueue(read(body)?),
        Action::ReceiveMessage => Input::ReceiveMessage(read(body)?),
        Action::RemovePermission => Input::RemovePermission(read(body)?),
        Action::SendMessage => Input::SendMessage(read(body)?),
        Action::SendMessageBatch => Input::SendMessageBatch(read(body)?),
        Action::SetQueueAttributes => Input::SetQueueAttributes(read(body)?),
        Action::StartMessageMoveTask => Input::StartMessageMoveTask(read(body)?),
        Action::TagQueue => Input::TagQueue(read(body)?),
        Action::UntagQueue => Input::UntagQueue(read(body)?),
    })
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ServiceError> {
    let read = match str::from_utf8(body) {
        // Checked once, instead of each text by itself.
        Ok(text) => serde_json::from_str(text),
        // It says where.
        Err(_) => serde_json::from_slice(body),
    };
    read.map_err(|error| refusal(&error))
}

fn refusal(error: &serde_json::Error) -> ServiceError {
    let text = error.to_string();
    // What does not fit is told about in words of the request's own.
    if error.is_syntax() && (text.contains("surrogate") || text.contains("hex escape")) {
        // Well-formed JSON of a text that no message can have.
        return ServiceError::new(Kind::InvalidMessageContents, super::INVALID_CHARACTERS);
    }
    // The place in the body says nothing to somebody who has an SDK write it.
    let text = match text.rfind(" at line ") {
        Some(end) if error.is_data() => &text[..end],
        _ => text.as_str(),
    };
    ServiceError::malformed(cut(text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::input::{Int, Text};

    fn send(body: &str) -> Result<Input<'_>, ServiceError> {
        parse(Action::SendMessage, body.as_bytes())
    }

    #[test]
    fn texts_are_borrowed_where_they_stand_as_they_are() {
        let body = r#"{"QueueUrl":"q","MessageBody":"a\nb","DelaySeconds":"5","Unknown":{"x":[1,{}]}}"#;
        let Ok(Input::SendMessage(message)) = send(body) else {
            panic!("not a send")
        };
        assert!(matches!(
            message.queue_url,
            Some(Text(std::borrow::Cow::Borrowed("q")))
        ));
        assert_eq!(message.message_body.as_deref(), Some("a\nb"));
        assert_eq!(message.delay_seconds, Some(Int(5)));
        assert_eq!(message.message_group_id, None);
    }

    #[test]
    fn what_is_not_as_it_should_be_is_refused_with_sqss_texts() {
        for (body, text) in [
            (
                r#"{"MessageBody":{}}"#,
                "Start of structure or map found where not expected.",
            ),
            (r#"{"MessageBody":[]}"#, "Start of list found where not expected"),
            (
                r#"{"MessageBody":5}"#,
                "NUMBER_VALUE can not be converted to a String",
            ),
            (
                r#"{"DelaySeconds":"x"}"#,
                "STRING_VALUE can not be converted to an Integer",
            ),
            (
                r#"{"DelaySeconds":1.5}"#,
                "DECIMAL_VALUE can not be converted to an Integer",
            ),
            (
                r#"{"MessageAttributes":[]}"#,
                "Start of list found where not expected",
            ),
        ] {
            let error = send(body).unwrap_err();
            assert_eq!(
                (error.kind, &*error.message),
                (Kind::Serialization, text),
                "{body}"
            );
        }
        for body in ["{", "[]", "\"x\"", "{\"MessageBody\":\"\u{0}\"}", "{} x", "nul"] {
            assert_eq!(send(body).unwrap_err().kind, Kind::Serialization, "{body}");
        }
        let surrogate = send(r#"{"MessageBody":"\ud800"}"#).unwrap_err();
        assert_eq!(surrogate.kind, Kind::InvalidMessageContents);
    }

    #[test]
    fn structures_are_objects_and_nothing_else_is_one() {
        const NO_LIST: &str = "Start of list found where not expected";
        const NO_TEXT: &str = "Unexpected token type STRING_VALUE in structure";
        let attribute = |value: &str| format!(r#"{{"MessageAttributes":{{"a":{value}}}}}"#);
        let system = |value: &str| format!(r#"{{"MessageSystemAttributes":{{"a":{value}}}}}"#);
        let entries = |value: &str| format!(r#"{{"Entries":[{value}]}}"#);
        let long = format!("{:?}", "surrogate ".repeat(1 << 18));
        for (value, text) in [
            (r#"["q","id","body"]"#, NO_LIST),
            ("[]", NO_LIST),
            (r#""x""#, NO_TEXT),
            (&long, NO_TEXT),
        ] {
            for (action, body) in [
                (Action::SendMessage, attribute(value)),
                (Action::SendMessage, system(value)),
                (Action::SendMessageBatch, entries(value)),
                (Action::DeleteMessageBatch, entries(value)),
                (Action::ChangeMessageVisibilityBatch, entries(value)),
            ] {
                let error = parse(action, body.as_bytes()).unwrap_err();
                assert_eq!((error.kind, &*error.message), (Kind::Serialization, text));
            }
        }
        for value in ["5", "-5", "1.5", "true", "null"] {
            let error = parse(Action::SendMessageBatch, entries(value).as_bytes()).unwrap_err();
            assert_eq!(error.kind, Kind::Serialization);
            assert!(error.message.len() < 100, "{}", error.message);
        }
        let nested = r#"{"Entries":[{"Id":"a","MessageAttributes":{"a":["String","x"]}}]}"#;
        let error = parse(Action::SendMessageBatch, nested.as_bytes()).unwrap_err();
        assert_eq!(error.message, NO_LIST);
    }

    #[test]
    fn null_and_an_empty_body_are_nothing() {
        assert_eq!(send(""), Ok(Input::SendMessage(Default::default())));
        assert_eq!(send(r#"{"MessageBody":null,"DelaySeconds":null}"#), send(" {} "));
    }

    #[test]
    fn numbers_of_any_size_are_brought_within() {
        for (number, value) in [
            ("1e300", i64::MAX),
            ("-99999999999999999999", i64::MIN),
            ("18446744073709551615", i64::MAX),
        ] {
            let body = format!(r#"{{"DelaySeconds":{number}}}"#);
            let Ok(Input::SendMessage(message)) = send(&body) else {
                panic!("{number}")
            };
            assert_eq!(message.delay_seconds, Some(Int(value)));
        }
    }

    #[test]
    fn long_lists_are_counted_and_not_kept() {
        let body = format!(r#"{{"Entries":[{}]}}"#, vec![r#"{"Id":"a"}"#; 10_000].join(","));
        let Ok(Input::SendMessageBatch(batch)) = parse(Action::SendMessageBatch, body.as_bytes()) else {
            panic!("not a batch")
        };
        let entries = batch.entries.unwrap();
        assert_eq!((entries.items.len(), entries.total), (10, 10_000));
    }

    #[test]
    fn nesting_has_an_end() {
        let deep = format!(
            r#"{{"Unknown":{}1{}}}"#,
            "[".repeat(1_000_000),
            "]".repeat(1_000_000)
        );
        // Passed over or refused, but not by running out of stack.
        let _ = send(&deep);
        let deep = format!(r#"{{"MessageAttributes":{}"#, r#"{"a":"#.repeat(1_000_000));
        assert!(send(&deep).is_err());
    }
}
