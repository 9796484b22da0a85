//! MD5 as SQS takes it, written from AWS's description and not from the server's code.

use std::collections::HashMap;

use aws_sdk_sqs::types::MessageAttributeValue;
use md5::{Digest as _, Md5};

pub(crate) fn of_body(body: &str) -> String {
    hex(&Md5::digest(body))
}

/// None where there are no attributes, for then there is no digest either.
pub(crate) fn of_attributes(attributes: &HashMap<String, MessageAttributeValue>) -> Option<String> {
    if attributes.is_empty() {
        return None;
    }
    let mut sorted: Vec<_> = attributes.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    let mut encoded = Vec::new();
    for (name, attribute) in sorted {
        field(&mut encoded, name.as_bytes());
        field(&mut encoded, attribute.data_type().as_bytes());
        match (attribute.string_value(), attribute.binary_value()) {
            (Some(text), None) => {
                encoded.push(1);
                field(&mut encoded, text.as_bytes());
            }
            (None, Some(bytes)) => {
                encoded.push(2);
                field(&mut encoded, bytes.as_ref());
            }
            both => panic!("{name} has one value: {both:?}"),
        }
    }
    Some(hex(&Md5::digest(encoded)))
}

fn field(encoded: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap();
    encoded.extend(length.to_be_bytes());
    encoded.extend(bytes);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
