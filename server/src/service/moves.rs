//! Message move tasks.

use std::sync::Arc;

use base64::Engine as _;
use epoq::{MoveFailure, MoveId, MoveReport, MoveStatus, StartMoveError};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Service, address::Arn, required};
use crate::{
    error::{Kind, ServiceError},
    protocol::{
        Answer,
        input::{BASE64, Int, MessageMove, Text},
    },
};

impl Service {
    pub(super) async fn start_message_move_task(
        &self,
        input: &MessageMove<'_>,
        answer: &mut Answer,
    ) -> Result<(), ServiceError> {
        let (source_arn, source) = self.named(input.source_arn.as_ref(), "SourceArn")?;
        let destination = match &input.destination_arn {
            Some(given) if !given.is_empty() => Some(self.named(Some(given), "DestinationArn")?.1),
            _ => None,
        };
        let rate = input.max_number_of_messages_per_second.map(|Int(rate)| {
            // What does not fit is out of range as well.
            u32::try_from(rate).unwrap_or(0)
        });
        let (registry, moves) = (Arc::clone(&self.registry), self.moves.clone());
        let (source, destination) = (source.to_owned(), destination.map(str::to_owned));
        // Whether it is a dead-letter queue, all queues are asked, and what there is to move is counted.
        let start = move || -> Result<MoveId, StartMoveError> {
            let broker = &registry.broker;
            let task = broker.start_message_move(&source, destination.as_deref(), rate)?;
            let id = task.id();
            // At once, whether somebody waits for the answer or not. Nobody is there to drive it only when the server is about to end.
            let _ = moves.send(task);
            Ok(id)
        };
        let id = Self::apart(&self.slots.looking, start)
            .await?
            .map_err(|error| match error {
                StartMoveError::NoSuchSource => no_resource("SourceArn"),
                StartMoveError::NoSuchDestination => no_resource("DestinationArn"),
                StartMoveError::NotADeadLetterQueue => {
                    ServiceError::invalid("Source queue must be configured as a Dead Letter Queue.")
                }
                StartMoveError::SameQueue => {
                    ServiceError::invalid("Source queue arn and destination queue arn cannot be the same.")
                }
                StartMoveError::QueueType => ServiceError::invalid(
                    "The source queue and destination queue must be of the same queue type.",
                ),
                StartMoveError::Rate { .. } => ServiceError::invalid(
                    "Value for parameter MaxNumberOfMessagesPerSecond is invalid. Reason: You must enter a number that's between 1 and 500.",
                ),
                StartMoveError::AlreadyRunning => ServiceError::invalid(
                    "There is already a task running. Only one active task is allowed for a source queue arn at a given time.",
                ),
                StartMoveError::TooManyRunning { limit } => ServiceError::new(
                    Kind::OverLimit,
                    format!("{limit} message move tasks are running, the most there can be."),
                ),
                error => ServiceError::invalid(error.to_string()),
            })?;
        answer.text("TaskHandle", &self.task_handle(id, source_arn));
        Ok(())
    }

    pub(super) fn cancel_message_move_task(
        &self,
        input: &MessageMove<'_>,
        answer: &mut Answer,
    ) -> Result<(), ServiceError> {
        let handle = required(input.task_handle.as_ref(), "TaskHandle")?;
        let id = self.task_id(handle)?;
        let no_task = || ServiceError::new(Kind::ResourceNotFound, "Task does not exist.");
        let task = id
            .and_then(|id| self.broker().message_move(id))
            .ok_or_else(no_task)?;
        let moved = task.cancel().map_err(|_| no_task())?;
        answer.number("ApproximateNumberOfMessagesMoved", moved);
        Ok(())
    }

    pub(super) fn list_message_move_tasks(
        &self,
        input: &MessageMove<'_>,
        answer: &mut Answer,
    ) -> Result<(), ServiceError> {
        let (source_arn, source) = self.named(input.source_arn.as_ref(), "SourceArn")?;
        let most = epoq::limits::MOVES_LISTED_MAX;
        let max = match input.max_results {
            None => 1,
            Some(Int(given)) => usize::try_from(given)
                .ok()
                .filter(|max| (1..=most).contains(max))
                .ok_or_else(|| {
                    ServiceError::invalid(format!(
                        "Value for parameter MaxResults is invalid. Reason: You must enter a number that's between 1 and {most}."
                    ))
                })?,
        };
        let tasks = self
            .broker()
            .message_moves(source, max, 0)
            .map_err(|_| no_resource("SourceArn"))?;
        answer.structures(
            "Results",
            "ListMessageMoveTasksResultEntry",
            tasks,
            |answer, task| {
                self.write_task(answer, &task, source_arn);
            },
        );
        Ok(())
    }

    fn write_task(&self, answer: &mut Answer, task: &MoveReport, source_arn: &str) {
        if task.status == MoveStatus::Running {
            answer.text("TaskHandle", &self.task_handle(task.id, source_arn));
        }
        answer.text(
            "Status",
            match task.status {
                MoveStatus::Running => "RUNNING",
                MoveStatus::Completed => "COMPLETED",
                MoveStatus::Cancelling => "CANCELLING",
                MoveStatus::Cancelled => "CANCELLED",
                _ => "FAILED",
            },
        );
        answer.text("SourceArn", source_arn);
        if let Some(destination) = &task.destination {
            // The source's ARN up to the name: of the same region and account.
            let prefix = source_arn.rsplit_once(':').map_or("", |(prefix, _)| prefix);
            answer.text("DestinationArn", &format!("{prefix}:{destination}"));
        }
        if let Some(rate) = task.rate {
            answer.number("MaxNumberOfMessagesPerSecond", u64::from(rate));
        }
        answer.number("ApproximateNumberOfMessagesMoved", task.moved);
        answer.number("ApproximateNumberOfMessagesToMove", task.to_move);
        if let MoveStatus::Failed(failure) = task.status {
            answer.text(
                "FailureReason",
                &match failure {
                    MoveFailure::CouldNotDetermineMessageSource => {
                        "CouldNotDetermineMessageSource".to_owned()
                    }
                    MoveFailure::DestinationDeleted | MoveFailure::SourceDeleted => {
                        Kind::QueueDoesNotExist.code().to_owned()
                    }
                    failure => failure.to_string(),
                },
            );
        }
        answer.number("StartedTimestamp", self.broker().unix_millis(task.started_at));
    }

    /// The ARN given, and the name in it.
    fn named<'a>(
        &self,
        given: Option<&'a Text<'_>>,
        parameter: &str,
    ) -> Result<(&'a str, &'a str), ServiceError> {
        let text = required(given, parameter)?;
        let arn = Arn::parse(text).filter(|arn| arn.service == "sqs").ok_or_else(|| {
            ServiceError::invalid(format!(
                "You must use this format to specify the {parameter}: arn:<partition>:<service>:<region>:<account-id>:<resource-id>"
            ))
        })?;
        // A longer one can be no queue's, and is not worth a copy.
        if arn.account != self.rules.account || arn.resource.len() > epoq::limits::NAME_MAX {
            return Err(no_resource(parameter));
        }
        Ok((text, arn.resource))
    }

    /// As AWS's look: Base64 of a task id in the form of a UUID, and the source. The second half of the id is a seal over the first.
    fn task_handle(&self, id: MoveId, source_arn: &str) -> String {
        let (number, seal) = (id.number(), self.task_seal(id));
        let uuid = format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            number >> 32,
            number >> 16 & 0xffff,
            number & 0xffff,
            seal >> 48,
            seal & 0xffff_ffff_ffff
        );
        BASE64.encode(json!({ "taskId": uuid, "sourceArn": source_arn }).to_string())
    }

    /// The task of a handle; none if it is well-formed, but of no task of this server's.
    fn task_id(&self, handle: &str) -> Result<Option<MoveId>, ServiceError> {
        let invalid = || ServiceError::invalid("Value for parameter TaskHandle is invalid.");
        let json = BASE64.decode(handle).map_err(|_| invalid())?;
        let json: Value = serde_json::from_slice(&json).map_err(|_| invalid())?;
        let field = |name| json.get(name).and_then(Value::as_str).ok_or_else(invalid);
        let (uuid, source) = (field("taskId")?, field("sourceArn")?);
        Arn::parse(source).ok_or_else(invalid)?;
        let digits: String = uuid.chars().filter(|c| *c != '-').collect();
        let half = |digits: Option<&str>| {
            digits
                .and_then(|digits| u64::from_str_radix(digits, 16).ok())
                .ok_or_else(invalid)
        };
        let id = MoveId::new(half(digits.get(..16))?);
        let seal = half(digits.get(16..))?;
        Ok((self.task_seal(id) == seal).then_some(id))
    }

    fn task_seal(&self, id: MoveId) -> u64 {
        // Keys of any length are taken.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.task_key) else {
            return 0;
        };
        mac.update(&id.number().to_be_bytes());
        let bytes = mac.finalize().into_bytes();
        bytes.first_chunk().copied().map_or(0, u64::from_be_bytes)
    }
}

fn no_resource(parameter: &str) -> ServiceError {
    ServiceError::new(
        Kind::ResourceNotFound,
        format!("The resource that you specified for the {parameter} parameter doesn't exist."),
    )
}

#[cfg(test)]
mod tests {
    use epoq::Broker;

    use super::*;
    use crate::service::Rules;

    #[test]
    fn a_handle_is_of_the_service_that_made_it() {
        let service = || {
            // Such as an embedding program may do, and whoever guesses the seed.
            fastrand::seed(7);
            let rules = Rules {
                account: "000000000000".to_owned(),
                cooldowns: false,
                queues_max: 1,
                beside_max: 0,
            };
            Service::new(Broker::builder().build().unwrap(), rules).unwrap().0
        };
        let (one, other) = (service(), service());
        let id = MoveId::new(1);
        let handle = one.task_handle(id, "arn:aws:sqs:us-east-1:000000000000:q");
        assert_eq!(one.task_id(&handle), Ok(Some(id)));
        assert_eq!(other.task_id(&handle), Ok(None));
    }
}
