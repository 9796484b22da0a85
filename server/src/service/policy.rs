//! `AddPermission` and `RemovePermission`: statements of a queue's policy. They are kept and shown, and bind nobody: who may call is for
//! the access keys to say.

use serde_json::{Map, Value, json};

use super::{Context, Service, address::arn, attributes::POLICY_MAX, receive::check_whole, required};
use crate::{
    error::{Kind, ServiceError, cut},
    protocol::input::Permission,
};

/// Actions of one statement: SQS's limit.
const ACTIONS_MAX: usize = 7;
/// Statements of a policy: SQS's limit.
const STATEMENTS_MAX: usize = 20;
/// Principals of a policy: SQS's limit.
const PRINCIPALS_MAX: usize = 50;
/// Longest label in characters: SQS's limit.
const LABEL_MAX: usize = 80;
/// Actions that can be granted. A batch goes with its single operation.
const GRANTED: &[&str] = &[
    "*",
    "ChangeMessageVisibility",
    "DeleteMessage",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListDeadLetterSourceQueues",
    "PurgeQueue",
    "ReceiveMessage",
    "SendMessage",
];
/// Actions that are the owner's alone.
const OWNERS: &[&str] = &[
    "AddPermission",
    "CreateQueue",
    "DeleteQueue",
    "ListQueues",
    "ListQueueTags",
    "RemovePermission",
    "SetQueueAttributes",
    "TagQueue",
    "UntagQueue",
    "StartMessageMoveTask",
    "CancelMessageMoveTask",
    "ListMessageMoveTasks",
];

impl Service {
    pub(super) fn add_permission(
        &self,
        input: &Permission<'_>,
        context: &Context<'_>,
    ) -> Result<(), ServiceError> {
        let entry = self.queue(input.queue_url.as_ref())?;
        let label = label(input)?;
        let accounts = input
            .account_ids
            .as_ref()
            .filter(|accounts| accounts.total > 0)
            .ok_or_else(|| ServiceError::missing("AWSAccountIds"))?;
        let actions = input
            .actions
            .as_ref()
            .filter(|actions| actions.total > 0)
            .ok_or_else(|| ServiceError::missing("Actions"))?;
        if actions.total > ACTIONS_MAX {
            return Err(ServiceError::new(
                Kind::OverLimit,
                format!(
                    "{} Actions were found, maximum allowed is {ACTIONS_MAX}.",
                    actions.total
                ),
            ));
        }
        check_whole(Some(accounts))?;
        for action in &actions.items {
            let refuse = |reason| {
                let name = format!("SQS:{}", cut(action));
                Err(ServiceError::invalid_value(name, "ActionName", reason))
            };
            if OWNERS.contains(&&**action) {
                return refuse("Only the queue owner is allowed to invoke this action.");
            }
            if !GRANTED.contains(&&**action) {
                return refuse("Please refer to the appropriate WSDL for a list of valid actions.");
            }
        }
        for account in &accounts.items {
            if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(ServiceError::invalid_value(
                    cut(account),
                    "PrincipalId",
                    "Unable to verify.",
                ));
            }
        }

        let queue_arn = arn(context.region, &self.rules.account, entry.queue.name());
        let one_or_all = |mut all: Vec<String>| {
            if all.len() == 1 {
                json!(all.remove(0))
            } else {
                json!(all)
            }
        };
        let granted_to = accounts
            .items
            .iter()
            .map(|account| format!("arn:aws:iam::{}:root", &**account));
        let actions = actions.items.iter().map(|action| format!("SQS:{}", &**action));
        let statement = json!({
            "Sid": label,
            "Effect": "Allow",
            "Principal": { "AWS": one_or_all(granted_to.collect()) },
            "Action": one_or_all(actions.collect()),
            "Resource": queue_arn,
        });

        let _control = self.registry.control();
        let mut meta = entry.meta()?;
        let mut policy = read(meta.settings.policy.as_deref()).unwrap_or_else(|| {
            let mut policy = Map::new();
            policy.insert("Version".to_owned(), json!("2008-10-17"));
            policy.insert("Id".to_owned(), json!(format!("{queue_arn}/SQSDefaultPolicy")));
            policy
        });
        let mut statements = statements(&policy);
        if statements.iter().any(|statement| is_labelled(statement, label)) {
            return Err(ServiceError::invalid_value(label, "Label", "Already exists."));
        }
        statements.push(statement);
        if statements.len() > STATEMENTS_MAX {
            return Err(ServiceError::new(
                Kind::OverLimit,
                format!(
                    "{} Statements were found, maximum allowed is {STATEMENTS_MAX}.",
                    statements.len()
                ),
            ));
        }
        let named = statements.iter().map(principals).fold(0, usize::saturating_add);
        if named > PRINCIPALS_MAX {
            return Err(ServiceError::new(
                Kind::OverLimit,
                format!("{named} Principals were found, maximum allowed is {PRINCIPALS_MAX}."),
            ));
        }
        policy.insert("Statement".to_owned(), Value::Array(statements));
        let text = Value::Object(policy).to_string();
        if text.len() > POLICY_MAX {
            return Err(ServiceError::new(
                Kind::OverLimit,
                "The policy is longer than 8192 bytes.",
            ));
        }
        meta.set_policy(Some(text))
    }

    pub(super) fn remove_permission(&self, input: &Permission<'_>) -> Result<(), ServiceError> {
        let entry = self.queue(input.queue_url.as_ref())?;
        let label = label(input)?;
        let _control = self.registry.control();
        let mut meta = entry.meta()?;
        let mut policy = read(meta.settings.policy.as_deref()).unwrap_or_default();
        let mut statements = statements(&policy);
        let before = statements.len();
        statements.retain(|statement| !is_labelled(statement, label));
        if statements.len() == before {
            let reason = if before == 0 {
                "can't find label."
            } else {
                "can't find label on existing policy."
            };
            return Err(ServiceError::invalid_value(label, "Label", reason));
        }
        let policy = (!statements.is_empty()).then(|| {
            policy.insert("Statement".to_owned(), Value::Array(statements));
            Value::Object(policy).to_string()
        });
        meta.set_policy(policy)
    }
}

fn label<'a>(input: &'a Permission<'_>) -> Result<&'a str, ServiceError> {
    let label = required(input.label.as_ref(), "Label")?;
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if label.len() > LABEL_MAX || !label.bytes().all(valid) {
        return Err(ServiceError::invalid_value(
            cut(label),
            "Label",
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length.",
        ));
    }
    Ok(label)
}

fn read(policy: Option<&str>) -> Option<Map<String, Value>> {
    match serde_json::from_str(policy?) {
        Ok(Value::Object(policy)) => Some(policy),
        _ => None,
    }
}

/// The statements of a policy, of which there may also be one outside of a list.
fn statements(policy: &Map<String, Value>) -> Vec<Value> {
    match policy.get("Statement") {
        Some(Value::Array(statements)) => statements.clone(),
        Some(statement @ Value::Object(_)) => vec![statement.clone()],
        _ => Vec::new(),
    }
}

/// How many a statement is about: `*`, or lists and single ones by their kinds.
fn principals(statement: &Value) -> usize {
    let count = |value: &Value| value.as_array().map_or(1, Vec::len);
    match statement.get("Principal") {
        None => 0,
        Some(Value::Object(kinds)) => kinds.values().map(count).fold(0, usize::saturating_add),
        Some(value) => count(value),
    }
}

fn is_labelled(statement: &Value, label: &str) -> bool {
    statement.get("Sid").and_then(Value::as_str) == Some(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_are_counted_in_all_their_forms() {
        for (statement, count) in [
            (json!({}), 0),
            (json!({ "Principal": "*" }), 1),
            (json!({ "Principal": { "AWS": "a" } }), 1),
            (json!({ "Principal": { "AWS": ["a", "b"], "Service": "c" } }), 3),
        ] {
            assert_eq!(principals(&statement), count, "{statement}");
        }
    }
}
