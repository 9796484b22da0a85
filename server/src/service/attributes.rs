//! Queue attributes: SQS's texts on one side, the ledger's configuration and a few settings of the server's on the other.

use std::time::Duration;

use epoq::{ConfigError, DeduplicationScope, FifoConfig, QueueConfig, Redrive, RedriveAllow};
use serde_json::Value;

use super::{
    address::{Arn, arn},
    registry::Entry,
};
use crate::{
    error::{Kind, ServiceError, cut},
    protocol::input::Texts,
};

/// Longest policy in bytes: SQS's limit.
pub(crate) const POLICY_MAX: usize = 8_192;
/// Longest name of a KMS key that is kept. KMS's ARNs are shorter.
const KMS_KEY_MAX: usize = 2_048;

/// What a queue has beyond the ledger's configuration. Kept and shown; nothing here is acted upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) policy: Option<String>,
    /// As it was given.
    pub(crate) redrive_policy: Option<String>,
    /// As it was given.
    pub(crate) redrive_allow_policy: Option<String>,
    pub(crate) kms_key: Option<String>,
    pub(crate) kms_reuse_s: u64,
    pub(crate) managed_sse: bool,
    pub(crate) throughput_per_group: bool,
}

impl Settings {
    /// What it takes beside its own size.
    pub(crate) fn bytes(&self) -> usize {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        // The ledger keeps the names in these as well.
        let redrive = length(&self.redrive_policy) + length(&self.redrive_allow_policy);
        length(&self.policy) + length(&self.kms_key) + 2 * redrive
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: None,
            redrive_policy: None,
            redrive_allow_policy: None,
            kms_key: None,
            kms_reuse_s: 300,
            managed_sse: true,
            throughput_per_group: false,
        }
    }
}

/// Attributes that a queue is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) config: QueueConfig,
    pub(crate) settings: Settings,
}

/// All names, in the order in which `All` gives them.
const NAMES: &[&str] = &[
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
    "ContentBasedDeduplication",
    "CreatedTimestamp",
    "DeduplicationScope",
    "DelaySeconds",
    "FifoQueue",
    "FifoThroughputLimit",
    "KmsDataKeyReusePeriodSeconds",
    "KmsMasterKeyId",
    "LastModifiedTimestamp",
    "MaximumMessageSize",
    "MessageRetentionPeriod",
    "Policy",
    "QueueArn",
    "ReceiveMessageWaitTimeSeconds",
    "RedriveAllowPolicy",
    "RedrivePolicy",
    "SqsManagedSseEnabled",
    "VisibilityTimeout",
];

/// The attributes that are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    names: &'a [&'a str],
}

impl<'a> Asked<'a> {
    /// Those of these names, which have to be known.
    pub(crate) fn of(names: &'a [&'a str]) -> Result<Self, ServiceError> {
        match names.iter().find(|name| **name != "All" && !NAMES.contains(name)) {
            Some(unknown) => Err(unknown_attribute(unknown)),
            None => Ok(Self { names }),
        }
    }

    /// Whether messages have to be counted.
    pub(crate) fn counts(&self) -> bool {
        NAMES
            .iter()
            .any(|name| name.starts_with("Approximate") && self.has(name))
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|asked| *asked == "All" || *asked == name)
    }

    /// In the order of [`NAMES`], without those that the queue does not have. Refused if it was deleted.
    pub(crate) fn shown(
        &self,
        entry: &Entry,
        region: &str,
        account: &str,
    ) -> Result<Vec<(&'static str, String)>, ServiceError> {
        let counts = self.counts().then(|| entry.queue.counts());
        let draft = Draft::of(entry)?;
        let (created, modified) = {
            let meta = entry.meta()?;
            (meta.created, meta.modified)
        };
        let value = |name: &str| match name {
            "ApproximateNumberOfMessages" => counts.map(|counts| counts.visible.to_string()),
            "ApproximateNumberOfMessagesDelayed" => counts.map(|counts| counts.delayed.to_string()),
            "ApproximateNumberOfMessagesNotVisible" => counts.map(|counts| counts.in_flight.to_string()),
            "CreatedTimestamp" => Some(created.to_string()),
            "LastModifiedTimestamp" => Some(modified.to_string()),
            "QueueArn" => Some(arn(region, account, entry.queue.name())),
            name => draft.get(name),
        };
        Ok(NAMES
            .iter()
            .filter(|name| self.has(name))
            .filter_map(|name| Some((*name, value(name)?)))
            .collect())
    }
}

pub(crate) fn unknown_attribute(name: &str) -> ServiceError {
    ServiceError::new(
        Kind::InvalidAttributeName,
        format!("Unknown Attribute {}.", cut(name)),
    )
}

fn invalid_value(name: &str) -> ServiceError {
    ServiceError::new(
        Kind::InvalidAttributeValue,
        format!("Invalid value for the parameter {name}."),
    )
}

fn invalid_because(name: &str, reason: &str) -> ServiceError {
    ServiceError::new(
        Kind::InvalidAttributeValue,
        format!("Invalid value for the parameter {name}. Reason: {reason}"),
    )
}

impl Draft {
    /// What a queue of this name has that is to be created once more: what it has already, and type and name agree as in a new one.
    pub(crate) fn again(entry: &Entry, attributes: &Texts<'_>) -> Result<Self, ServiceError> {
        // Without `FifoQueue` the name is that of a queue of either type.
        if is_fifo(attributes)? {
            check_name(entry.queue.name(), true)?;
        }
        Self::of(entry)
    }

    /// A queue's attributes as they are.
    pub(crate) fn of(entry: &Entry) -> Result<Self, ServiceError> {
        Ok(Self {
            config: entry.queue.config(),
            settings: entry.meta()?.settings.clone(),
        })
    }

    /// What a new queue of this name has, unless it is given others. `FifoQueue` among the attributes says which type it is, and has to
    /// agree with the name.
    pub(crate) fn new(name: &str, attributes: &Texts<'_>) -> Result<Self, ServiceError> {
        let is_fifo = is_fifo(attributes)?;
        check_name(name, is_fifo)?;
        Ok(Self {
            config: QueueConfig {
                fifo: is_fifo.then(FifoConfig::default),
                ..QueueConfig::default()
            },
            settings: Settings::default(),
        })
    }

    /// An attribute that can be set, as text; `None` if the queue does not have it.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let (config, settings) = (&self.config, &self.settings);
        let seconds = |duration: Duration| Some(duration.as_secs().to_string());
        let flag = |value: bool| Some(value.to_string());
        match name {
            "DelaySeconds" => seconds(config.delay),
            "MaximumMessageSize" => Some(config.max_message_bytes.to_string()),
            "MessageRetentionPeriod" => seconds(config.retention),
            "ReceiveMessageWaitTimeSeconds" => seconds(config.wait),
            "VisibilityTimeout" => seconds(config.visibility_timeout),
            "Policy" => settings.policy.clone(),
            "RedrivePolicy" => settings.redrive_policy.clone(),
            "RedriveAllowPolicy" => settings.redrive_allow_policy.clone(),
            "KmsMasterKeyId" => settings.kms_key.clone(),
            "KmsDataKeyReusePeriodSeconds" => settings
                .kms_key
                .as_ref()
                .map(|_| settings.kms_reuse_s.to_string()),
            "SqsManagedSseEnabled" => flag(settings.managed_sse),
            "FifoQueue" => config.fifo.and_then(|_| flag(true)),
            "ContentBasedDeduplication" => config
                .fifo
                .and_then(|fifo| flag(fifo.content_based_deduplication)),
            "DeduplicationScope" => config.fifo.map(|fifo| {
                match fifo.deduplication_scope {
                    DeduplicationScope::Queue => "queue",
                    DeduplicationScope::MessageGroup => "messageGroup",
                }
                .to_owned()
            }),
            "FifoThroughputLimit" => config.fifo.map(|_| {
                if settings.throughput_per_group {
                    "perMessageGroupId"
                } else {
                    "perQueue"
                }
                .to_owned()
            }),
            _ => None,
        }
    }

    /// Whether an attribute is the same in both: policies by what they say, all others by their texts.
    pub(crate) fn agrees(&self, other: &Self, name: &str) -> bool {
        match name {
            "RedrivePolicy" => self.config.redrive == other.config.redrive,
            "RedriveAllowPolicy" => self.config.redrive_allow == other.config.redrive_allow,
            "Policy" => {
                let read = |draft: &Self| {
                    draft
                        .settings
                        .policy
                        .as_deref()
                        .map(serde_json::from_str::<Value>)
                };
                match (read(self), read(other)) {
                    (Some(Ok(mine)), Some(Ok(theirs))) => mine == theirs,
                    (mine, theirs) => mine.is_none() == theirs.is_none(),
                }
            }
            "KmsDataKeyReusePeriodSeconds" => self.settings.kms_reuse_s == other.settings.kms_reuse_s,
            name => self.get(name) == other.get(name),
        }
    }

    /// Takes what is given; nothing of it counts if any is refused. Whether the queues that it names are there, the ledger says.
    pub(crate) fn take(&mut self, attributes: &Texts<'_>, account: &str) -> Result<(), ServiceError> {
        if attributes.total > attributes.items.len() {
            return Err(ServiceError::invalid("The request has too many attributes."));
        }
        for (name, value) in &attributes.items {
            self.set(name, value, account)?;
        }
        let given = |name: &str| attributes.items.iter().rfind(|(given, _)| &**given == name);
        let key = given("KmsMasterKeyId").is_some_and(|(_, key)| !key.is_empty());
        let sse = given("SqsManagedSseEnabled").is_some_and(|(_, sse)| sse.eq_ignore_ascii_case("true"));
        if key && sse {
            return Err(ServiceError::new(
                Kind::InvalidAttributeName,
                "You can use one type of server-side encryption (SSE) at one time. You can either enable KMS SSE or SQS SSE.",
            ));
        }
        let per_queue = self
            .config
            .fifo
            .is_some_and(|fifo| fifo.deduplication_scope == DeduplicationScope::Queue);
        if self.settings.throughput_per_group && per_queue {
            return Err(ServiceError::invalid(
                "The perMessageGroupId value is allowed only when the value for DeduplicationScope is messageGroup",
            ));
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str, account: &str) -> Result<(), ServiceError> {
        let (config, settings) = (&mut self.config, &mut self.settings);
        let number = |least: u64, most: u64| {
            value
                .parse::<u64>()
                .ok()
                .filter(|number| (least..=most).contains(number))
                .ok_or_else(|| invalid_value(name))
        };
        let seconds = |least: Duration, most: Duration| {
            number(least.as_secs(), most.as_secs()).map(Duration::from_secs)
        };
        match name {
            "DelaySeconds" => config.delay = seconds(Duration::ZERO, epoq::limits::DELAY_MAX)?,
            "MaximumMessageSize" => {
                let most = epoq::limits::BODY_MAX;
                let bytes = number(1_024, most as u64)?;
                config.max_message_bytes = usize::try_from(bytes).unwrap_or(most);
            }
            "MessageRetentionPeriod" => {
                config.retention = seconds(epoq::limits::RETENTION_MIN, epoq::limits::RETENTION_MAX)?;
            }
            "ReceiveMessageWaitTimeSeconds" => config.wait = seconds(Duration::ZERO, epoq::limits::WAIT_MAX)?,
            "VisibilityTimeout" => {
                config.visibility_timeout = seconds(Duration::ZERO, epoq::limits::VISIBILITY_MAX)?;
            }
            "Policy" => {
                let is_object = || matches!(serde_json::from_str(value), Ok(Value::Object(_)));
                if !value.is_empty() && (value.len() > POLICY_MAX || !is_object()) {
                    return Err(invalid_value(name));
                }
                settings.policy = some(value);
            }
            "RedrivePolicy" | "RedriveAllowPolicy" if value.len() > POLICY_MAX => {
                return Err(invalid_value(name));
            }
            "RedrivePolicy" => {
                config.redrive = redrive(value, account)?;
                settings.redrive_policy = some(value);
            }
            "RedriveAllowPolicy" => {
                config.redrive_allow = redrive_allow(value)?;
                settings.redrive_allow_policy = some(value);
            }
            "KmsMasterKeyId" => {
                if value.len() > KMS_KEY_MAX {
                    return Err(invalid_value(name));
                }
                settings.kms_key = some(value);
                settings.managed_sse &= value.is_empty();
            }
            "KmsDataKeyReusePeriodSeconds" => settings.kms_reuse_s = number(60, 86_400)?,
            "SqsManagedSseEnabled" => {
                settings.managed_sse = boolean(name, value)?;
                if settings.managed_sse {
                    settings.kms_key = None;
                }
            }
            "FifoQueue" => {
                if config.fifo.is_none() {
                    return Err(unknown_attribute(name));
                }
                if !boolean(name, value)? {
                    return Err(invalid_because(name, "Modifying queue type is not supported."));
                }
            }
            "ContentBasedDeduplication" => {
                let fifo = config.fifo.as_mut().ok_or_else(|| unknown_attribute(name))?;
                fifo.content_based_deduplication = boolean(name, value)?;
            }
            "DeduplicationScope" => {
                let fifo = config.fifo.as_mut().ok_or_else(|| fifo_only(name))?;
                fifo.deduplication_scope = match value {
                    "queue" => DeduplicationScope::Queue,
                    "messageGroup" => DeduplicationScope::MessageGroup,
                    _ => return Err(invalid_value(name)),
                };
            }
            "FifoThroughputLimit" => {
                if config.fifo.is_none() {
                    return Err(fifo_only(name));
                }
                settings.throughput_per_group = match value {
                    "perQueue" => false,
                    "perMessageGroupId" => true,
                    _ => return Err(invalid_value(name)),
                };
            }
            _ => return Err(unknown_attribute(name)),
        }
        Ok(())
    }

    /// What the ledger says against it, in SQS's words.
    pub(crate) fn refusal(&self, error: ConfigError) -> ServiceError {
        let redrive = |reason: &str| {
            let value = self.settings.redrive_policy.as_deref().unwrap_or_default();
            ServiceError::invalid_value(cut(value), "RedrivePolicy", reason)
        };
        match error {
            ConfigError::NoSuchTarget => redrive("Dead letter target does not exist."),
            ConfigError::TargetType => {
                redrive("Dead-letter queue must be same type of queue as the source..")
            }
            ConfigError::OwnTarget => redrive("A queue cannot be its own dead-letter queue."),
            ConfigError::TargetRefuses => {
                redrive("The dead-letter queue's redrive allow policy does not permit this source queue.")
            }
            ConfigError::QueueDeleted => ServiceError::no_queue(),
            error => ServiceError::invalid(error.to_string()),
        }
    }
}

/// Whether attributes are those of a FIFO queue to be created: `FifoQueue` says so, and cannot say otherwise.
fn is_fifo(attributes: &Texts<'_>) -> Result<bool, ServiceError> {
    let given = attributes.items.iter().rfind(|(name, _)| &**name == "FifoQueue");
    match given.map(|(_, value)| boolean("FifoQueue", value)).transpose()? {
        None => Ok(false),
        Some(true) => Ok(true),
        Some(false) => Err(unknown_attribute("FifoQueue")),
    }
}

fn check_name(name: &str, is_fifo: bool) -> Result<(), ServiceError> {
    let stem = if is_fifo {
        name.strip_suffix(".fifo")
    } else {
        Some(name)
    };
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if stem.is_some_and(|stem| {
        !stem.is_empty() && name.len() <= epoq::limits::NAME_MAX && stem.chars().all(valid)
    }) {
        return Ok(());
    }
    Err(ServiceError::invalid(if is_fifo {
        "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo suffix and be 1 to 80 in length"
    } else {
        "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
    }))
}

fn some(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn boolean(name: &str, value: &str) -> Result<bool, ServiceError> {
    if value.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if value.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err(invalid_value(name))
    }
}

fn fifo_only(name: &str) -> ServiceError {
    ServiceError::new(
        Kind::InvalidAttributeName,
        format!("You can specify the {name} only when FifoQueue is set to true."),
    )
}

/// The queue that an ARN of this account means.
fn queue_of<'a>(
    text: &'a str,
    account: &str,
    refuse: impl Fn(&str) -> ServiceError,
) -> Result<&'a str, ServiceError> {
    let arn =
        Arn::parse(text).ok_or_else(|| refuse("Dead-letter target ARN should be fully qualified ARN."))?;
    if arn.service != "sqs" {
        return Err(refuse(
            "Only SQS queues are valid resources for deadLetterTargetArn.",
        ));
    }
    if arn.account != account {
        return Err(refuse("Dead-letter target owner should be same as the source."));
    }
    Ok(arn.resource)
}

fn redrive(text: &str, account: &str) -> Result<Option<Redrive>, ServiceError> {
    if text.is_empty() {
        return Ok(None);
    }
    let Ok(Value::Object(policy)) = serde_json::from_str(text) else {
        return Err(invalid_because(
            "RedrivePolicy",
            "Redrive policy is not a valid JSON map.",
        ));
    };
    let refuse = |reason: &str| ServiceError::invalid_value(cut(text), "RedrivePolicy", reason);
    if policy
        .keys()
        .any(|key| !matches!(key.as_str(), "deadLetterTargetArn" | "maxReceiveCount"))
    {
        return Err(refuse(
            "Only following attributes are supported: [maxReceiveCount, deadLetterTargetArn].",
        ));
    }
    let mandatory = |key: &str| {
        policy.get(key).ok_or_else(|| {
            refuse(&format!(
                "Redrive policy does not contain mandatory attribute: {key}."
            ))
        })
    };
    let target = mandatory("deadLetterTargetArn")?.as_str().unwrap_or_default();
    let count = match mandatory("maxReceiveCount")? {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let most = epoq::limits::MAX_RECEIVES_LIMIT;
    let max_receives = count
        .parse()
        .ok()
        .filter(|receives| (1..=most).contains(receives))
        .ok_or_else(|| {
            refuse(&format!(
                "Invalid value for maxReceiveCount: {}, valid values are from 1 to {most} both inclusive.",
                cut(&count)
            ))
        })?;
    let target = queue_of(target, account, refuse)?;
    Ok(Some(Redrive::new(target, max_receives)))
}

fn redrive_allow(text: &str) -> Result<RedriveAllow, ServiceError> {
    if text.is_empty() {
        return Ok(RedriveAllow::All);
    }
    let refuse = |reason: &str| invalid_because("RedriveAllowPolicy", reason);
    let unsupported =
        || refuse("Amazon SQS can't create the redrive allow policy, as it’s in an unsupported format.");
    let Ok(Value::Object(policy)) = serde_json::from_str(text) else {
        return Err(unsupported());
    };
    if policy
        .keys()
        .any(|key| !matches!(key.as_str(), "redrivePermission" | "sourceQueueArns"))
    {
        return Err(unsupported());
    }
    let sources = policy.get("sourceQueueArns");
    match policy.get("redrivePermission").and_then(Value::as_str) {
        Some("allowAll" | "denyAll") if sources.is_some() => Err(refuse(
            "To specify one or more source queue ARNs, you must set redrivePermission to byQueue.",
        )),
        Some("allowAll") => Ok(RedriveAllow::All),
        Some("denyAll") => Ok(RedriveAllow::Nobody),
        Some("byQueue") => {
            let sources = sources.map_or(Ok(&[][..]), |sources| {
                sources.as_array().map(Vec::as_slice).ok_or_else(unsupported)
            })?;
            if sources.is_empty() {
                return Err(refuse(
                    "When you specify the byQueue permission type, you must also specify one or more sourceQueueArns values.",
                ));
            }
            if sources.len() > epoq::limits::REDRIVE_SOURCES_MAX {
                return Err(refuse(
                    "The maximum number of source queue ARNs you can specify is 10.",
                ));
            }
            let names = sources.iter().map(|source| {
                let arn = source.as_str().and_then(Arn::parse);
                arn.map(|arn| arn.resource.to_owned()).ok_or_else(unsupported)
            });
            Ok(RedriveAllow::Queues(names.collect::<Result<_, _>>()?))
        }
        _ => Err(unsupported()),
    }
}
