//! What operations are given, as both protocols give it: borrowed from the request where it stands there as it is.
//!
//! Everything is optional here. What has to be there, and within which limits, the operations say: SQS has its own texts for that.
//! Lists keep as many elements as can ever be of use and count the others, so a request takes memory in proportion to its length.

use std::{borrow::Cow, fmt, marker::PhantomData, ops::Deref};

use super::Action;
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// Entries of a batch that are kept: as many as it may have.
pub const ENTRIES: usize = 10;
/// Message attributes that are kept: one more than a message may have.
pub const MESSAGE_ATTRIBUTES: usize = 11;
/// Names, queue attributes, tags and the like that are kept.
pub const NAMES: usize = 256;

/// Base64 as SDKs write it, with or without padding.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

const NO_STRUCTURE: &str = "Start of structure or map found where not expected.";
const NO_LIST: &str = "Start of list found where not expected";

/// A text.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text<'a>(pub Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

/// A whole number. Numbers beyond 64 bits are brought within: no limit is that far out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Int(pub i64);

impl Int {
    /// The number that a text stands for.
    ///
    /// # Errors
    /// The text that SQS has for it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let digits = text.trim();
        match digits.parse::<i128>() {
            Ok(number) => Ok(Self::clamp(number)),
            Err(_) => Err("STRING_VALUE can not be converted to an Integer"),
        }
    }

    fn clamp(number: i128) -> Self {
        Self(i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX }))
    }
}

/// Bytes, in Base64 on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl Blob {
    /// The bytes that a text stands for.
    ///
    /// # Errors
    /// A text for the client.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        BASE64
            .decode(text)
            .map(Self)
            .map_err(|_| "BinaryValue is not valid Base64")
    }
}

/// A list: its first `N` elements, and how many there were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T, const N: usize> {
    /// The first elements.
    pub items: Vec<T>,
    /// How many elements the request had.
    pub total: usize,
}

impl<T, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            total: 0,
        }
    }
}

impl<T, const N: usize> List<T, N> {
    /// Lists of so few elements get the room for all of them with the first one.
    const AT_ONCE: usize = 16;

    /// Adds an element, or counts it.
    pub(crate) fn push(&mut self, item: T) {
        self.total += 1;
        if self.items.is_empty() && N <= Self::AT_ONCE {
            self.items.reserve_exact(N);
        }
        if self.items.len() < N {
            self.items.push(item);
        }
    }
}

impl<T, const N: usize> FromIterator<T> for List<T, N> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut list = Self::default();
        items.into_iter().for_each(|item| list.push(item));
        list
    }
}

/// A map, as a list of pairs in the order of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairs<'a, V, const N: usize>(pub List<(Text<'a>, V), N>);

impl<V, const N: usize> Default for Pairs<'_, V, N> {
    fn default() -> Self {
        Self(List::default())
    }
}

impl<'a, V, const N: usize> Deref for Pairs<'a, V, N> {
    type Target = List<(Text<'a>, V), N>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// Names.
pub type Names<'a> = List<Text<'a>, NAMES>;
/// Texts by name.
pub type Texts<'a> = Pairs<'a, Text<'a>, NAMES>;

/// A message attribute's value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AttributeInput<'a> {
    /// `String`, `Number` or `Binary`, with a label if need be.
    #[serde(borrow)]
    pub data_type: Option<Text<'a>>,
    /// The value of a `String` or a `Number`.
    #[serde(borrow)]
    pub string_value: Option<Text<'a>>,
    /// The value of a `Binary`.
    pub binary_value: Option<Blob>,
    /// Not implemented by SQS either.
    pub string_list_values: Option<Lost>,
    /// Not implemented by SQS either.
    pub binary_list_values: Option<Lost>,
}

/// A list of which only the length counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost(pub usize);

/// `CreateQueue`. Of its members one is in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs, reason = "SQS's names, described in its reference")]
pub struct CreateQueue<'a> {
    #[serde(borrow)]
    pub queue_name: Option<Text<'a>>,
    #[serde(borrow)]
    pub attributes: Option<Texts<'a>>,
    #[serde(borrow, alias = "tags")]
    pub tags: Option<Texts<'a>>,
}

/// `SendMessage`, and an entry of `SendMessageBatch`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs, reason = "SQS's names, described in its reference")]
pub struct Send<'a> {
    #[serde(borrow)]
    pub queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    #[serde(borrow)]
    pub message_body: Option<Text<'a>>,
    pub delay_seconds: Option<Int>,
    #[serde(borrow)]
    pub message_attributes: Option<Pairs<'a, AttributeInput<'a>, MESSAGE_ATTRIBUTES>>,
    #[serde(borrow)]
    pub message_system_attributes: Option<Pairs<'a, AttributeInput<'a>, MESSAGE_ATTRIBUTES>>,
    #[serde(borrow)]
    pub message_deduplication_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub message_group_id: Option<Text<'a>>,
}

/// `DeleteMessage`, `ChangeMessageVisibility`, and an entry of their batches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs, reason = "SQS's names, described in its reference")]
pub struct OfHandle<'a> {
    #[serde(borrow)]
    pub queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    #[serde(borrow)]
    pub receipt_handle: Option<Text<'a>>,
    pub visibility_timeout: Option<Int>,
}

/// `ReceiveMessage`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs, reason = "SQS's names, described in its reference")]
pub struct ReceiveMessage<'a> {
    #[serde(borrow)]
    pub queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    pub attribute_names: Option<Names<'a>>,
    #[serde(borrow)]
    pub message_system_attribute_names: Option<Names<'a>>,
    #[serde(borrow)]
    pub message_attribute_names: Option<Names<'a>>,
    pub max_number_of_messages: Option<Int>,
    pub visibility_timeout: Option<Int>,
    pub wait_time_seconds: Option<Int>,
    #[serde(borrow)]
    pub receive_request_attempt_id: Option<Text<'a>>,
}

/// `ListQueues`, `ListDeadLetterSourceQueues`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs, reason = "SQS's names, described in its reference")]
pub struct ListOfQueues<'a> {
    #[serde(borrow)]
    pub queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    pub queue_name_prefix: Option<Text<'a>>,
    pub max_results: Option<Int>,
    #[serde(borrow)]
    pub next_token: Option<Text<'a>>,
}

/// `StartMessageMoveTask`, `ListMessageMoveTasks`, `CancelMessageMoveTask`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs, reason = "SQS's names, described in its reference")]
pub struct MessageMove<'a> {
    #[serde(borrow)]
    pub source_arn: Option<Text<'a>>,
    #[serde(borrow)]
    pub destination_arn: Option<Text<'a>>,
    pub max_number_of_messages_per_second: Option<Int>,
    pub max_results: Option<Int>,
    #[serde(borrow)]
    pub task_handle: Option<Text<'a>>,
}

/// `GetQueueUrl`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs, reason = "SQS's names, described in its reference")]
pub struct GetQueueUrl<'a> {
    #[serde(borrow)]
    pub queue_name: Option<Text<'a>>,
    #[serde(borrow, rename = "QueueOwnerAWSAccountId")]
    pub queue_owner_account_id: Option<Text<'a>>,
}

/// `GetQueueAttributes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs, reason = "SQS's names, described in its reference")]
pub struct GetQueueAttributes<'a> {
    #[serde(borrow)]
    pub queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    pub attribute_names: Option<Names<'a>>,
}

/// `SetQueueAttributes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs, reason = "SQS's names, described in its reference")]
pub struct SetQueueAttributes<'a> {
    #[serde(borrow)]
    pub queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    pub attributes: Option<Texts<'a>>,
}

/// `DeleteQueue`, `PurgeQueue`, `ListQueueTags`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs, reason = "SQS's names, described in its reference")]
pub struct OfQueue<'a> {
    #[serde(borrow)]
    pub queue_url: Option<Text<'a>>,
}

/// `SendMessageBatch`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs, reason = "SQS's names, described in its reference")]
pub struct SendBatch<'a> {
    #[serde(borrow)]
    pub queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    pub entries: Option<List<Send<'a>, ENTRIES>>,
}

/// `DeleteMessageBatch`, `ChangeMessageVisibilityBatch`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs, reason = "SQS's names, described in its reference")]
pub struct HandleBatch<'a> {
    #[serde(borrow)]
    pub queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    pub entries: Option<List<OfHandle<'a>, ENTRIES>>,
}

/// `TagQueue`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs, reason = "SQS's names, described in its reference")]
pub struct TagQueue<'a> {
    #[serde(borrow)]
    pub queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    pub tags: Option<Texts<'a>>,
}

/// `UntagQueue`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs, reason = "SQS's names, described in its reference")]
pub struct UntagQueue<'a> {
    #[serde(borrow)]
    pub queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    pub tag_keys: Option<Names<'a>>,
}

/// `AddPermission`, `RemovePermission`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs, reason = "SQS's names, described in its reference")]
pub struct Permission<'a> {
    #[serde(borrow)]
    pub queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    pub label: Option<Text<'a>>,
    #[serde(borrow, rename = "AWSAccountIds")]
    pub account_ids: Option<Names<'a>>,
    #[serde(borrow)]
    pub actions: Option<Names<'a>>,
}

/// An operation with what it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "SQS's names, described in its reference")]
pub enum Input<'a> {
    AddPermission(Permission<'a>),
    CancelMessageMoveTask(MessageMove<'a>),
    ChangeMessageVisibility(OfHandle<'a>),
    ChangeMessageVisibilityBatch(HandleBatch<'a>),
    CreateQueue(CreateQueue<'a>),
    DeleteMessage(OfHandle<'a>),
    DeleteMessageBatch(HandleBatch<'a>),
    DeleteQueue(OfQueue<'a>),
    GetQueueAttributes(GetQueueAttributes<'a>),
    GetQueueUrl(GetQueueUrl<'a>),
    ListDeadLetterSourceQueues(ListOfQueues<'a>),
    ListMessageMoveTasks(MessageMove<'a>),
    ListQueueTags(OfQueue<'a>),
    ListQueues(ListOfQueues<'a>),
    PurgeQueue(OfQueue<'a>),
    ReceiveMessage(ReceiveMessage<'a>),
    RemovePermission(Permission<'a>),
    SendMessage(Send<'a>),
    SendMessageBatch(SendBatch<'a>),
    SetQueueAttributes(SetQueueAttributes<'a>),
    StartMessageMoveTask(MessageMove<'a>),
    TagQueue(TagQueue<'a>),
    UntagQueue(UntagQueue<'a>),
}

impl Input<'_> {
    /// The operation.
    #[must_use]
    pub const fn action(&self) -> Action {
        match self {
            Self::AddPermission(_) => Action::AddPermission,
            Self::CancelMessageMoveTask(_) => Action::CancelMessageMoveTask,
            Self::ChangeMessageVisibility(_) => Action::ChangeMessageVisibility,
            Self::ChangeMessageVisibilityBatch(_) => Action::ChangeMessageVisibilityBatch,
            Self::CreateQueue(_) => Action::CreateQueue,
            Self::DeleteMessage(_) => Action::DeleteMessage,
            Self::DeleteMessageBatch(_) => Action::DeleteMessageBatch,
            Self::DeleteQueue(_) => Action::DeleteQueue,
            Self::GetQueueAttributes(_) => Action::GetQueueAttributes,
            Self::GetQueueUrl(_) => Action::GetQueueUrl,
            Self::ListDeadLetterSourceQueues(_) => Action::ListDeadLetterSourceQueues,
            Self::ListMessageMoveTasks(_) => Action::ListMessageMoveTasks,
            Self::ListQueueTags(_) => Action::ListQueueTags,
            Self::ListQueues(_) => Action::ListQueues,
            Self::PurgeQueue(_) => Action::PurgeQueue,
            Self::ReceiveMessage(_) => Action::ReceiveMessage,
            Self::RemovePermission(_) => Action::RemovePermission,
            Self::SendMessage(_) => Action::SendMessage,
            Self::SendMessageBatch(_) => Action::SendMessageBatch,
            Self::SetQueueAttributes(_) => Action::SetQueueAttributes,
            Self::StartMessageMoveTask(_) => Action::StartMessageMoveTask,
            Self::TagQueue(_) => Action::TagQueue,
            Self::UntagQueue(_) => Action::UntagQueue,
        }
    }
}

/// Reads what is derived from objects alone, wherever it stands: serde would also take a list for its members in their order, and repeat
/// at length what is neither.
struct Structured<T>(PhantomData<T>);

impl<T> Structured<T> {
    const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Structured<T> {
    type Value = T;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::deserialize(FromObjects(deserializer))
    }
}

/// A deserializer that has structures of objects alone.
struct FromObjects<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for FromObjects<D> {
    type Error = D::Error;
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(OfObject(visitor))
    }
    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq
        tuple tuple_struct map enum identifier ignored_any
    }
}

/// Passes objects on, and nothing else.
struct OfObject<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for OfObject<V> {
    type Value = V::Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a structure")
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        self.0.visit_map(map)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(de::Error::custom(NO_LIST))
    }
    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Err(E::custom("Unexpected token type STRING_VALUE in structure"))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfText<'a>(PhantomData<&'a str>);
        impl<'de: 'a, 'a> Visitor<'de> for OfText<'a> {
            type Value = Text<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text)))
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
                let name = if value { "TRUE_VALUE" } else { "FALSE_VALUE" };
                Err(E::custom(format_args!("{name} can not be converted to a String")))
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
                Err(E::custom("NUMBER_VALUE can not be converted to a String"))
            }
            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
                Err(E::custom("NUMBER_VALUE can not be converted to a String"))
            }
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
                Err(E::custom("DECIMAL_VALUE can not be converted to a String"))
            }
            fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
                Err(de::Error::custom(NO_STRUCTURE))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
                Err(de::Error::custom(NO_LIST))
            }
        }
        deserializer.deserialize_any(OfText(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfInt;
        impl<'de> Visitor<'de> for OfInt {
            type Value = Int;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Int, E> {
                Ok(Int(number))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Int, E> {
                Ok(Int::clamp(i128::from(number)))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Int, E> {
                if number.fract() == 0.0 {
                    // Casts saturate.
                    Ok(Int(number as i64))
                } else {
                    Err(E::custom("DECIMAL_VALUE can not be converted to an Integer"))
                }
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Int, E> {
                Int::parse(text).map_err(E::custom)
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Int, E> {
                let name = if value { "TRUE_VALUE" } else { "FALSE_VALUE" };
                Err(E::custom(format_args!(
                    "{name} can not be converted to an Integer"
                )))
            }
            fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Int, A::Error> {
                Err(de::Error::custom(NO_STRUCTURE))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Int, A::Error> {
                Err(de::Error::custom(NO_LIST))
            }
        }
        deserializer.deserialize_any(OfInt)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Lost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = List::<IgnoredAny, 0>::deserialize(deserializer)?;
        Ok(Self(list.total))
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for List<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfList<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for OfList<T, N> {
            type Value = List<T, N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut list = List::default();
                while list.items.len() < N {
                    match seq.next_element_seed(Structured::new())? {
                        Some(item) => list.push(item),
                        None => return Ok(list),
                    }
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    list.total += 1;
                }
                Ok(list)
            }
            fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
                Err(de::Error::custom(NO_STRUCTURE))
            }
            fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
                Err(E::custom("Unexpected token type STRING_VALUE in collection"))
            }
        }
        deserializer.deserialize_any(OfList(PhantomData))
    }
}

impl<'de: 'a, 'a, V: Deserialize<'de>, const N: usize> Deserialize<'de> for Pairs<'a, V, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfMap<'a, V, const N: usize>(PhantomData<(&'a str, V)>);
        impl<'de: 'a, 'a, V: Deserialize<'de>, const N: usize> Visitor<'de> for OfMap<'a, V, N> {
            type Value = Pairs<'a, V, N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = List::default();
                while pairs.items.len() < N {
                    match map.next_key()? {
                        Some(key) => pairs.push((key, map.next_value_seed(Structured::new())?)),
                        None => return Ok(Pairs(pairs)),
                    }
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    pairs.total += 1;
                }
                Ok(Pairs(pairs))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
                Err(de::Error::custom(NO_LIST))
            }
            fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
                Err(E::custom("Unexpected token type STRING_VALUE in collection"))
            }
        }
        deserializer.deserialize_any(OfMap(PhantomData))
    }
}
