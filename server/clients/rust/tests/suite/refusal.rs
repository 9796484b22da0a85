//! What is refused, and how.

use std::fmt::Debug;

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};

/// An error of its operation's type, with the status it came with.
#[derive(Debug)]
pub(crate) struct Refusal<E> {
    pub(crate) error: E,
    pub(crate) status: u16,
}

impl<E: ProvideErrorMetadata> Refusal<E> {
    pub(crate) fn code(&self) -> &str {
        self.error.code().unwrap_or_default()
    }

    pub(crate) fn text(&self) -> &str {
        self.error.message().unwrap_or_default()
    }
}

/// The refusal that the server answered.
#[track_caller]
pub(crate) fn refused<T: Debug, E: Debug>(answer: Result<T, SdkError<E>>) -> Refusal<E> {
    match answer {
        Err(SdkError::ServiceError(refusal)) => Refusal {
            status: refusal.raw().status().as_u16(),
            error: refusal.into_err(),
        },
        other => panic!("not refused: {other:?}"),
    }
}
