//! Creating queues, finding them, showing and changing what they are like.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use epoq::CreateQueueError;

use super::{
    Context, Service,
    attributes::{self, Draft, unknown_attribute},
    receive::check_whole,
    registry::{COOLDOWN, Entry, Meta, unix_seconds},
    required,
};
use crate::{
    error::{Kind, ServiceError, cut},
    protocol::{
        Answer,
        input::{
            CreateQueue, GetQueueAttributes, GetQueueUrl, Int, ListOfQueues, OfQueue, SetQueueAttributes,
            TagQueue, Texts, UntagQueue,
        },
    },
};

/// Queues on one page: SQS's limit.
const PAGE_MAX: usize = 1_000;
/// Tags of a queue: what SQS recommends at most.
const TAGS_MAX: usize = 50;
/// Longest key of a tag in characters: SQS's limit.
const TAG_KEY_MAX: usize = 128;
/// Longest value of a tag in characters: SQS's limit.
const TAG_VALUE_MAX: usize = 256;

impl Service {
    pub(super) fn create_queue(
        &self,
        input: &CreateQueue<'_>,
        context: &Context<'_>,
        answer: &mut Answer,
    ) -> Result<(), ServiceError> {
        let name = required(input.queue_name.as_ref(), "QueueName")?;
        let nothing = Texts::default();
        let attributes = input.attributes.as_ref().unwrap_or(&nothing);
        self.create(name, attributes, input.tags.as_ref().unwrap_or(&nothing))?;
        answer.text("QueueUrl", &self.url(context, name));
        Ok(())
    }

    /// Creates a queue, or finds that there is one with these attributes.
    pub(crate) fn create(&self, name: &str, given: &Texts<'_>, tags: &Texts<'_>) -> Result<(), ServiceError> {
        let account = &self.rules.account;
        let mut control = self.registry.control();
        if let Some(existing) = self.registry.get(name) {
            let draft = Draft::again(&existing, given)?;
            let mut asked = draft.clone();
            asked.take(given, account)?;
            let differs = given.items.iter().find(|(name, _)| !draft.agrees(&asked, name));
            return match differs {
                None => Ok(()),
                Some((attribute, _)) => Err(ServiceError::new(
                    Kind::QueueNameExists,
                    format!(
                        "A queue already exists with the same name and a different value for attribute {}",
                        cut(attribute)
                    ),
                )),
            };
        }
        let mut draft = Draft::new(name, given)?;
        draft.take(given, account)?;
        let mut all = BTreeMap::new();
        add_tags(&mut all, tags, name)?;
        if self.rules.cooldowns && control.recently(name, Instant::now()) {
            return Err(ServiceError::new(
                Kind::QueueDeletedRecently,
                "You must wait 60 seconds after deleting a queue before you can create another with the same name.",
            ));
        }
        if self.registry.len() >= self.rules.queues_max {
            return Err(ServiceError::new(
                Kind::OverLimit,
                format!(
                    "The server has {} queues, the most it is configured for.",
                    self.rules.queues_max
                ),
            ));
        }
        let meta = Meta::new(&self.registry.room, draft.settings.clone(), all)?;
        let queue = self
            .registry
            .broker
            .create_queue(name, draft.config.clone())
            .map_err(|error| match error {
                CreateQueueError::Config(error) => draft.refusal(error),
                error => ServiceError::invalid(error.to_string()),
            })?;
        self.registry.insert(&mut control, Entry::new(queue, meta));
        Ok(())
    }

    pub(super) async fn delete_queue(&self, input: &OfQueue<'_>) -> Result<(), ServiceError> {
        let entry = self.queue(input.queue_url.as_ref())?;
        let registry = Arc::clone(&self.registry);
        let delete = move || {
            // Frees what there is before the lock is held, for which serving threads wait. The queue may be gone already, as is told below.
            let _ = entry.queue.purge();
            let mut control = registry.control();
            let name = entry.queue.name();
            // Another of its name may have come since, which is not the one that was meant.
            let is_there = registry
                .get(name)
                .is_some_and(|found| Arc::ptr_eq(&found, &entry));
            is_there && registry.remove(&mut control, name)
        };
        if Self::apart(&self.slots.freeing, delete).await? {
            Ok(())
        } else {
            Err(ServiceError::no_queue())
        }
    }

    pub(super) fn get_queue_url(
        &self,
        input: &GetQueueUrl<'_>,
        context: &Context<'_>,
        answer: &mut Answer,
    ) -> Result<(), ServiceError> {
        let name = input
            .queue_name
            .as_deref()
            .ok_or_else(|| ServiceError::missing("QueueName"))?;
        if name.is_empty() {
            return Err(ServiceError::invalid(
                "Value for parameter QueueName is invalid. Reason: Must specify a queue name.",
            ));
        }
        let owner = input.queue_owner_account_id.as_deref();
        if owner.is_some_and(|owner| owner != self.rules.account) {
            return Err(ServiceError::no_queue());
        }
        self.registry.get(name).ok_or_else(ServiceError::no_queue)?;
        answer.text("QueueUrl", &self.url(context, name));
        Ok(())
    }

    pub(super) async fn list_queues(
        &self,
        input: &ListOfQueues<'_>,
        context: &Context<'_>,
        answer: &mut Answer,
    ) -> Result<(), ServiceError> {
        let prefix = input.queue_name_prefix.as_deref().unwrap_or_default();
        let names = if prefix.len() > epoq::limits::NAME_MAX {
            Vec::new()
        } else {
            let (registry, prefix) = (Arc::clone(&self.registry), prefix.to_owned());
            Self::apart(&self.slots.looking, move || registry.names(&prefix)).await?
        };
        self.write_page(names, "QueueUrls", input, context, answer)
    }

    pub(super) async fn list_dead_letter_source_queues(
        &self,
        input: &ListOfQueues<'_>,
        context: &Context<'_>,
        answer: &mut Answer,
    ) -> Result<(), ServiceError> {
        let entry = self.queue(input.queue_url.as_ref())?;
        let registry = Arc::clone(&self.registry);
        let names = Self::apart(&self.slots.looking, move || {
            registry.broker.dead_letter_sources(entry.queue.name())
        })
        .await?;
        self.write_page(names, "queueUrls", input, context, answer)
    }

    /// A page of names in alphabetical order. The token that leads to the next one has the last name of this one in it, so queues
    /// that come and go between two pages do no harm.
    fn write_page(
        &self,
        mut names: Vec<String>,
        member: &str,
        input: &ListOfQueues<'_>,
        context: &Context<'_>,
        answer: &mut Answer,
    ) -> Result<(), ServiceError> {
        let limit = match input.max_results {
            None | Some(Int(0)) => None,
            Some(Int(given)) => Some(
                usize::try_from(given)
                    .ok()
                    .filter(|max| (1..=PAGE_MAX).contains(max))
                    .ok_or_else(|| {
                        ServiceError::invalid(
                            "Value for parameter MaxResults is invalid. Reason: MaxResults must be an integer between 1 and 1000.",
                        )
                    })?,
            ),
        };
        if let Some(token) = input.next_token.as_deref().filter(|token| !token.is_empty()) {
            let last = URL_SAFE_NO_PAD
                .decode(token)
                .ok()
                .and_then(|last| String::from_utf8(last).ok())
                .ok_or_else(|| ServiceError::invalid("Invalid or expired next token."))?;
            names.retain(|name| *name > last);
        }
        let has_more = names.len() > limit.unwrap_or(PAGE_MAX);
        names.truncate(limit.unwrap_or(PAGE_MAX));
        answer.texts(
            member,
            "QueueUrl",
            names.iter().map(|name| self.url(context, name)),
        );
        if let (true, Some(_), Some(last)) = (has_more, limit, names.last()) {
            answer.text("NextToken", &URL_SAFE_NO_PAD.encode(last));
        }
        Ok(())
    }

    pub(super) async fn get_queue_attributes(
        &self,
        input: &GetQueueAttributes<'_>,
        context: &Context<'_>,
        answer: &mut Answer,
    ) -> Result<(), ServiceError> {
        let entry = self.queue(input.queue_url.as_ref())?;
        check_whole(input.attribute_names.as_ref())?;
        let names: Vec<&str> = input
            .attribute_names
            .iter()
            .flat_map(|names| names.items.iter().map(|name| &**name))
            .collect();
        let asked = attributes::Asked::of(&names)?;
        if asked.counts() {
            // Leases that have ended unnoticed count as what they are.
            let (queue, now) = (entry.queue.clone(), self.broker().now());
            Self::apart(&self.slots.looking, move || queue.advance(now)).await?;
        }
        let shown = asked.shown(&entry, context.region, &self.rules.account)?;
        answer.text_map("Attributes", "Attribute", "Name", shown);
        Ok(())
    }

    pub(super) fn set_queue_attributes(&self, input: &SetQueueAttributes<'_>) -> Result<(), ServiceError> {
        let entry = self.queue(input.queue_url.as_ref())?;
        let given = input
            .attributes
            .as_ref()
            .filter(|given| given.total > 0)
            .ok_or_else(|| ServiceError::missing("Attribute.Name"))?;
        if let Some((name, _)) = given.items.iter().find(|(name, _)| name.is_empty()) {
            return Err(unknown_attribute(name));
        }
        let _control = self.registry.control();
        let mut draft = Draft::of(&entry)?;
        draft.take(given, &self.rules.account)?;
        let held = entry.meta()?.settings_held.instead(draft.settings.bytes())?;
        self.registry
            .broker
            .configure(&entry.queue, draft.config.clone())
            .map_err(|error| draft.refusal(error))?;
        let mut meta = entry.meta()?;
        (meta.settings, meta.settings_held) = (draft.settings, held);
        meta.modified = unix_seconds();
        Ok(())
    }

    pub(super) async fn purge_queue(&self, input: &OfQueue<'_>) -> Result<(), ServiceError> {
        let entry = self.queue(input.queue_url.as_ref())?;
        let cooldowns = self.rules.cooldowns;
        if cooldowns {
            check_rested(&entry, &*entry.meta()?, Instant::now())?;
        }
        let purge = move || {
            if cooldowns {
                // Not before: what waits to be begun may leave with its request.
                let (mut meta, now) = (entry.meta()?, Instant::now());
                check_rested(&entry, &meta, now)?;
                meta.purged = Some(now);
            }
            entry
                .queue
                .purge()
                .map(drop)
                .map_err(|_| ServiceError::no_queue())
        };
        Self::apart(&self.slots.freeing, purge).await?
    }

    pub(super) fn tag_queue(&self, input: &TagQueue<'_>) -> Result<(), ServiceError> {
        let entry = self.queue(input.queue_url.as_ref())?;
        let tags = input
            .tags
            .as_ref()
            .filter(|tags| tags.total > 0)
            .ok_or_else(|| ServiceError::missing("Tags"))?;
        let mut meta = entry.meta()?;
        let mut all = meta.tags.clone();
        add_tags(&mut all, tags, entry.queue.name())?;
        meta.set_tags(all)
    }

    pub(super) fn untag_queue(&self, input: &UntagQueue<'_>) -> Result<(), ServiceError> {
        let entry = self.queue(input.queue_url.as_ref())?;
        let keys = input
            .tag_keys
            .as_ref()
            .filter(|keys| keys.total > 0)
            .ok_or_else(|| ServiceError::missing("TagKeys"))?;
        check_whole(Some(keys))?;
        let mut meta = entry.meta()?;
        let mut left = meta.tags.clone();
        for key in &keys.items {
            left.remove(&**key);
        }
        meta.set_tags(left)
    }

    pub(super) fn list_queue_tags(
        &self,
        input: &OfQueue<'_>,
        answer: &mut Answer,
    ) -> Result<(), ServiceError> {
        let entry = self.queue(input.queue_url.as_ref())?;
        answer.text_map("Tags", "Tag", "Key", &entry.meta()?.tags);
        Ok(())
    }
}

/// Refuses another purge within a minute.
fn check_rested(entry: &Entry, meta: &Meta, now: Instant) -> Result<(), ServiceError> {
    match meta.purged {
        Some(purged) if now.saturating_duration_since(purged) < COOLDOWN => Err(ServiceError::new(
            Kind::PurgeQueueInProgress,
            format!(
                "Only one PurgeQueue operation on {} is allowed every 60 seconds.",
                entry.queue.name()
            ),
        )),
        _ => Ok(()),
    }
}

fn add_tags(tags: &mut BTreeMap<String, String>, given: &Texts<'_>, queue: &str) -> Result<(), ServiceError> {
    for (key, value) in &given.items {
        let valid = |text: &str| {
            text.chars()
                .all(|c| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c))
        };
        if !(1..=TAG_KEY_MAX).contains(&key.chars().count()) || !valid(key) {
            return Err(ServiceError::invalid(format!("Tag key {} is invalid.", cut(key))));
        }
        if key
            .get(..4)
            .is_some_and(|start| start.eq_ignore_ascii_case("aws:"))
        {
            return Err(ServiceError::invalid(
                "Tag keys beginning with aws: are reserved.",
            ));
        }
        if value.chars().count() > TAG_VALUE_MAX || !valid(value) {
            return Err(ServiceError::invalid(format!(
                "The value of tag {} is invalid.",
                cut(key)
            )));
        }
        tags.insert(key.to_string(), value.to_string());
    }
    if given.total > given.items.len() || tags.len() > TAGS_MAX {
        return Err(ServiceError::invalid(format!(
            "Too many tags added for queue {queue}."
        )));
    }
    Ok(())
}
