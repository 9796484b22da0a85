//! What can go wrong with a request: SQS's errors, with the names and statuses that each protocol gives them.

use std::{borrow::Cow, error::Error, fmt};

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $space:ident $shape:literal, $code:literal, $status:literal;)*) => {
        /// An error of SQS's: its shape in the JSON protocol, its code in the Query protocol, its HTTP status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All of them.
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The name after the `#` of the JSON protocol's `__type`.
            #[must_use]
            pub const fn shape(self) -> &'static str {
                match self { $(Self::$kind => $shape,)* }
            }

            /// The code of the Query protocol, of `x-amzn-query-error`, and of failed entries of batches.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$kind => $code,)* }
            }

            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$kind => $status,)* }
            }

            /// The namespace before the `#` of the JSON protocol's `__type`.
            #[must_use]
            pub const fn namespace(self) -> &'static str {
                match self { $(Self::$kind => kinds!(@$space),)* }
            }
        }
    };
    (@sqs) => { "com.amazonaws.sqs" };
    (@coral) => { "com.amazon.coral.service" };
}

kinds! {
    /// Two entries of a batch have one id.
    BatchEntryIdsNotDistinct: sqs "BatchEntryIdsNotDistinct", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", 400;
    /// The messages of a batch are too long together.
    BatchRequestTooLong: sqs "BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong", 400;
    /// A batch without entries.
    EmptyBatchRequest: sqs "EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest", 400;
    /// The id of a batch's entry has other characters than it may have.
    InvalidBatchEntryId: sqs "InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId", 400;
    /// A batch of more than ten entries.
    TooManyEntriesInBatchRequest: sqs "TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest", 400;
    /// A second purge within a minute.
    PurgeQueueInProgress: sqs "PurgeQueueInProgress", "AWS.SimpleQueueService.PurgeQueueInProgress", 403;
    /// A queue of that name was deleted within the last minute.
    QueueDeletedRecently: sqs "QueueDeletedRecently", "AWS.SimpleQueueService.QueueDeletedRecently", 400;
    /// There is no such queue.
    QueueDoesNotExist: sqs "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", 400;
    /// The name is taken by a queue with other attributes.
    QueueNameExists: sqs "QueueNameExists", "QueueAlreadyExists", 400;
    /// Something that SQS does not do.
    UnsupportedOperation: sqs "UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation", 400;
    /// There is no such attribute, or not on such a queue.
    InvalidAttributeName: sqs "InvalidAttributeName", "InvalidAttributeName", 400;
    /// The attribute cannot have that value.
    InvalidAttributeValue: sqs "InvalidAttributeValue", "InvalidAttributeValue", 400;
    /// Characters that a message cannot carry.
    InvalidMessageContents: sqs "InvalidMessageContents", "InvalidMessageContents", 400;
    /// Not a receipt handle, or of another queue.
    ReceiptHandleIsInvalid: sqs "ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", 404;
    /// A limit is reached.
    OverLimit: sqs "OverLimit", "OverLimit", 403;
    /// There is no such queue or task (message move tasks).
    ResourceNotFound: sqs "ResourceNotFoundException", "ResourceNotFoundException", 404;
    /// Not the address of a queue.
    InvalidAddress: sqs "InvalidAddress", "InvalidAddress", 404;
    /// Too much at a time; the request can be repeated later.
    RequestThrottled: sqs "RequestThrottled", "RequestThrottled", 403;
    /// A value that a parameter cannot have.
    InvalidParameterValue: coral "InvalidParameterValueException", "InvalidParameterValue", 400;
    /// A parameter is missing.
    MissingParameter: coral "MissingRequiredParameterException", "MissingParameter", 400;
    /// There is no such action (Query protocol).
    InvalidAction: coral "InvalidAction", "InvalidAction", 400;
    /// There is no such operation.
    UnknownOperation: coral "UnknownOperationException", "UnknownOperationException", 404;
    /// The request cannot be read.
    Serialization: coral "SerializationException", "MalformedInput", 400;
    /// The request is longer than the server takes.
    RequestEntityTooLarge: coral "RequestEntityTooLargeException", "RequestEntityTooLarge", 413;
    /// The request took too long to come.
    RequestTimeout: coral "RequestTimeoutException", "RequestTimeout", 408;
    /// No signature.
    MissingAuthenticationToken: coral "MissingAuthenticationTokenException", "MissingAuthenticationToken", 403;
    /// A signature that lacks a part.
    IncompleteSignature: coral "IncompleteSignatureException", "IncompleteSignature", 400;
    /// An access key that the server does not know.
    InvalidClientTokenId: coral "UnrecognizedClientException", "InvalidClientTokenId", 403;
    /// The signature is not that of the request.
    SignatureDoesNotMatch: coral "InvalidSignatureException", "SignatureDoesNotMatch", 403;
    /// Not for whoever asks.
    AccessDenied: coral "AccessDeniedException", "AccessDenied", 403;
    /// The signature is of another time.
    RequestExpired: coral "RequestExpired", "RequestExpired", 400;
    /// The server cannot answer now: it is about to end, or has no memory left.
    ServiceUnavailable: coral "ServiceUnavailableException", "ServiceUnavailable", 503;
}

/// An error with the text that tells about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceError {
    /// Which one.
    pub kind: Kind,
    /// The text, without secrets: it goes to the client.
    pub message: Cow<'static, str>,
}

impl ServiceError {
    /// An error of this kind and text.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// A value that a parameter cannot have.
    #[must_use]
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::InvalidParameterValue, message)
    }

    /// `Value X for parameter Y is invalid. Reason: Z`.
    #[must_use]
    pub fn invalid_value(value: impl fmt::Display, parameter: &str, reason: &str) -> Self {
        Self::invalid(format!(
            "Value {value} for parameter {parameter} is invalid. Reason: {reason}"
        ))
    }

    /// The request lacks a parameter.
    #[must_use]
    pub fn missing(parameter: &str) -> Self {
        Self::new(
            Kind::MissingParameter,
            format!("The request must contain the parameter {parameter}."),
        )
    }

    /// There is no such queue.
    #[must_use]
    pub fn no_queue() -> Self {
        Self::new(Kind::QueueDoesNotExist, "The specified queue does not exist.")
    }

    /// The requests and answers under way hold all that they may.
    #[must_use]
    pub fn overloaded() -> Self {
        Self::new(
            Kind::ServiceUnavailable,
            "Too many long requests and answers are under way. Try again.",
        )
    }

    /// The request cannot be read.
    #[must_use]
    pub fn malformed(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Serialization, message)
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.code(), self.message)
    }
}

impl Error for ServiceError {}

/// So much of something a client sent as an answer repeats.
pub(crate) fn cut(text: &str) -> &str {
    const MAX: usize = 1_024;
    match text.char_indices().find(|(at, _)| *at >= MAX) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_end_in_shapes_where_sqs_has_them_so() {
        for kind in Kind::ALL {
            let code = kind.code();
            if let Some(name) = code.strip_prefix("AWS.SimpleQueueService.") {
                assert!(name == kind.shape() || *kind == Kind::QueueDoesNotExist, "{code}");
            }
            assert!((400..600).contains(&kind.status()));
        }
    }

    #[test]
    fn what_is_repeated_is_cut_between_characters() {
        assert_eq!(cut("é"), "é");
        assert_eq!(cut(&"é".repeat(1_000_000)).len(), 1_024);
        assert_eq!(cut(&format!("x{}", "é".repeat(1_000_000))).len(), 1_025);
    }
}
