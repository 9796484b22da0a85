//! What the three batch operations have in common.

use crate::{
    error::{Kind, ServiceError, cut},
    protocol::{
        Answer,
        input::{ENTRIES, List, Text},
    },
};

/// The entries of a batch, once they are known to be 1 to 10 with ids that differ.
pub(super) fn entries<'a, T>(
    entries: Option<&'a List<T, ENTRIES>>,
    id_of: impl Fn(&T) -> Option<&Text<'_>>,
    name: &str,
    name_if_empty: &str,
) -> Result<&'a [T], ServiceError> {
    let entries = entries.ok_or_else(|| ServiceError::missing("Entries"))?;
    if entries.total == 0 {
        return Err(ServiceError::new(
            Kind::EmptyBatchRequest,
            format!("There should be at least one {name_if_empty} in the request."),
        ));
    }
    if entries.total > ENTRIES {
        return Err(ServiceError::new(
            Kind::TooManyEntriesInBatchRequest,
            format!(
                "Maximum number of entries per request are {ENTRIES}. You have sent {}.",
                entries.total
            ),
        ));
    }
    for (at, entry) in entries.items.iter().enumerate() {
        let id = id_of(entry).ok_or_else(|| ServiceError::missing(&format!("{name}.{}.Id", at + 1)))?;
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !(1..=80).contains(&id.len()) || !id.bytes().all(valid) {
            return Err(ServiceError::new(
                Kind::InvalidBatchEntryId,
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.",
            ));
        }
        // At most ten: comparing is faster than hashing.
        if entries.items[..at]
            .iter()
            .any(|earlier| id_of(earlier).is_some_and(|earlier| **earlier == **id))
        {
            return Err(ServiceError::new(
                Kind::BatchEntryIdsNotDistinct,
                format!("Id {} repeated.", cut(id)),
            ));
        }
    }
    Ok(&entries.items)
}

/// Writes what has failed, each with its id.
pub(super) fn write_failed(answer: &mut Answer, failed: &[(&str, ServiceError)]) {
    answer.structures(
        "Failed",
        "BatchResultErrorEntry",
        failed,
        |answer, (id, error)| {
            answer.text("Id", id);
            answer.text("Code", error.kind.code());
            answer.text("Message", &error.message);
            // That the server has no room is none of the sender's doing.
            let is_senders = error.kind.status() < 500 && error.kind != Kind::RequestThrottled;
            answer.boolean("SenderFault", is_senders);
        },
    );
}

/// Writes what has succeeded, where there is nothing to say about it but its id.
pub(super) fn write_done(answer: &mut Answer, xml: &str, done: &[&str]) {
    answer.structures("Successful", xml, done, |answer, id| answer.text("Id", id));
}
