//! Where queues are: their URLs and ARNs.

use crate::error::{Kind, ServiceError, cut};

/// The account that all queues are of, unless configured otherwise.
pub(crate) const ACCOUNT_DEFAULT: &str = "000000000000";
/// The region of ARNs where a request names none.
pub(crate) const REGION_DEFAULT: &str = "us-east-1";

/// The name of the queue that a `QueueUrl` means. Any host will do: a server behind a proxy, or in a container, is known by
/// many names. What counts is the last segment of the path; a bare name is one too.
pub(crate) fn queue_name(url: &str) -> Result<&str, ServiceError> {
    let url = url.trim_end_matches('/');
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map(|(_, path)| path),
        None => Some(url),
    };
    let name = path
        .and_then(|path| path.rsplit('/').next())
        .filter(|name| !name.is_empty());
    name.ok_or_else(|| {
        ServiceError::new(
            Kind::InvalidAddress,
            format!("The address {} is not valid for this endpoint.", cut(url)),
        )
    })
}

/// The ARN of a queue.
pub(crate) fn arn(region: &str, account: &str, name: &str) -> String {
    format!("arn:aws:sqs:{region}:{account}:{name}")
}

/// Characters of a partition: `aws-us-gov` has ten.
const PARTITION_MAX: usize = 32;

/// An ARN, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arn<'a> {
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
    pub(crate) account: &'a str,
    pub(crate) resource: &'a str,
}

impl<'a> Arn<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let (arn, partition) = (parts.next()?, parts.next()?);
        let (service, region) = (parts.next()?, parts.next()?);
        let (account, resource) = (parts.next()?, parts.next()?);
        let complete = [partition, service, region, account, resource]
            .iter()
            .all(|part| !part.is_empty());
        // It is repeated in answers.
        let is_short = partition.len() <= PARTITION_MAX && is_region(region);
        (arn == "arn" && complete && is_short).then_some(Self {
            service,
            region,
            account,
            resource,
        })
    }
}

/// Whether a text can be a region: it ends up in ARNs.
pub(crate) fn is_region(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_all_forms_name_a_queue() {
        for url in [
            "q",
            "/000000000000/q",
            "http://localhost:9324/000000000000/q",
            "https://sqs.eu-west-1.amazonaws.com/123456789012/q/",
            "http://localhost/queue/q",
            "http://[::1]:9324/queue/us-east-1/1/q",
        ] {
            assert_eq!(queue_name(url), Ok("q"), "{url}");
        }
        for url in ["", "/", "http://localhost:9324", "http://localhost:9324/"] {
            assert_eq!(queue_name(url).unwrap_err().kind, Kind::InvalidAddress, "{url}");
        }
    }

    #[test]
    fn arns_are_taken_apart() {
        let text = arn("us-east-1", "1", "q");
        let arn = Arn::parse(&text).unwrap();
        assert_eq!((arn.service, arn.account, arn.resource), ("sqs", "1", "q"));
        for text in [
            "",
            "q",
            "arn:aws:sqs:us-east-1:1",
            "arn:aws:sqs::1:q",
            "x:aws:sqs:r:1:q",
        ] {
            assert_eq!(Arn::parse(text), None, "{text}");
        }
    }
}
