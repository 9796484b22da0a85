//! SQS's two wire protocols, without any I/O: bytes to [`Input`], [`Answer`] to bytes.

mod action;
mod answer;
pub mod input;
pub mod json;
pub mod query;

pub use action::Action;
pub use answer::Answer;
pub use input::Input;

use crate::error::{Kind, ServiceError};

/// What SQS says of texts that XML 1.0 cannot carry.
pub(crate) const INVALID_CHARACTERS: &str = "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF";

/// A protocol of SQS's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// AWS JSON 1.0, which current SDKs speak.
    Json,
    /// Query with XML answers, which older ones do, and people with `curl`.
    Query,
}

impl Protocol {
    /// The content type of its answers.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-amz-json-1.0",
            Self::Query => "text/xml",
        }
    }
}

/// What of a request's head the protocols look at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Head<'a> {
    /// The path.
    pub path: &'a str,
    /// The query string, without `?`.
    pub query: &'a str,
    /// The header `X-Amz-Target`.
    pub target: Option<&'a str>,
    /// The header `Content-Type`.
    pub content_type: Option<&'a str>,
}

impl Head<'_> {
    /// Which protocol the request is in: JSON if it has a target or says so by its content type.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        let says_json = |kind: &str| kind.trim_start().starts_with("application/x-amz-json");
        if self.target.is_some() || self.content_type.is_some_and(says_json) {
            Protocol::Json
        } else {
            Protocol::Query
        }
    }
}

/// Reads a request.
///
/// # Errors
/// What SQS answers to requests that are none of its operations, or cannot be read.
pub fn parse<'a>(head: &Head<'a>, body: &'a [u8]) -> Result<(Action, Input<'a>), ServiceError> {
    match head.protocol() {
        Protocol::Json => {
            let action = head
                .target
                .and_then(|target| target.strip_prefix("AmazonSQS."))
                .and_then(Action::parse)
                .ok_or_else(|| {
                    ServiceError::new(
                        Kind::UnknownOperation,
                        "The operation is not one of this service's.",
                    )
                })?;
            Ok((action, json::parse(action, body)?))
        }
        Protocol::Query => {
            let is_form = head.content_type.is_none_or(|kind| {
                kind.trim_start()
                    .to_ascii_lowercase()
                    .starts_with("application/x-www-form-urlencoded")
            });
            let parameters = query::Parameters::read(head.query, if is_form { body } else { b"" })?;
            if parameters.get("Action").is_none() {
                return Err(ServiceError::new(
                    Kind::UnknownOperation,
                    "The request names no action.",
                ));
            }
            let input = parameters.input(Some(head.path).filter(|path| is_queue_path(path)))?;
            Ok((input.action(), input))
        }
    }
}

/// Whether a path can be the address of a queue, rather than the service's own `/`.
fn is_queue_path(path: &str) -> bool {
    path.trim_matches('/').contains('/')
}
