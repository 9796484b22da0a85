//! What a message carries besides its body: one block of bytes that stands behind the body, for messages that need one.
//!
//! ```text
//! length:32 │ tenant:32 │ flags:8 │ group? │ deduplication id? │ trace header? │ moved? │ attribute …
//!
//! field       length:32 │ bytes                                    group, both ids, and every field below
//! moved       id:128 │ at:64 │ source: field
//! attribute   name: field │ data type: field │ 1 text, 2 binary:8 │ value: field
//! ```
//!
//! Numbers are little endian. The length counts the whole block, itself included: who has only a pointer to the block
//! finds its end. The attributes stand last and are copied as they are when a message moves to another queue.
//!
//! Lengths of 32 bits are plenty for a message of 1 MiB. Reading is total: bytes that are no block read as nothing.

#![cfg_attr(
    not(loom),
    allow(unreachable_pub, reason = "public to the models only, see lib.rs")
)]

use std::io::Write;

use crate::{
    attribute::{Attribute, AttributeValue},
    clock::Millis,
};

/// Bytes that every block has: length, tenant, flags.
const FIXED: usize = Extras::HEADER + 4 + 1;
/// Bytes of a field before its content.
const FIELD: usize = 4;

const GROUP: u8 = 1 << 0;
const TRACE: u8 = 1 << 1;
const MOVED: u8 = 1 << 2;
const DEDUPLICATION: u8 = 1 << 3;
const MOVED_HERE: u8 = 1 << 4;

const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// What is to be written into a block. Borrows everything; the caller has checked it against SQS's limits.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExtrasDraft<'a> {
    /// The message attributes.
    pub attributes: Carried<'a>,
    /// The message group id.
    pub group: Option<&'a str>,
    /// The number of the tenant among those of the queue; 0 for a message that is of no tenant.
    pub tenant: u32,
    /// The message deduplication id (FIFO queues).
    pub deduplication: Option<&'a str>,
    /// The system attribute `AWSTraceHeader`.
    pub trace_header: Option<&'a str>,
    /// Where it comes from, if it has moved.
    pub moved: Option<Moved<'a>>,
    /// Whether it comes from another queue, dead letter or not (FIFO queues).
    pub moved_here: bool,
}

/// Attributes as a sender gives them, or as another block has them.
#[derive(Debug, Clone, Copy)]
pub enum Carried<'a> {
    /// As a sender gives them.
    Given(&'a [Attribute<'a>]),
    /// The end of a block, from the first attribute on; see [`Extras::draft`].
    Encoded(&'a [u8]),
}

/// Where a message came from when it was moved, and what it keeps from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved<'a> {
    /// The message id it was sent under, which it keeps.
    pub id: [u8; 16],
    /// The name of the queue it was dead-lettered from; empty if it was only moved within its queue.
    pub source: &'a str,
    /// When it was moved.
    pub at: Millis,
}

impl Default for Carried<'_> {
    fn default() -> Self {
        Self::Given(&[])
    }
}

impl<'a> From<&'a [Attribute<'a>]> for Carried<'a> {
    fn from(attributes: &'a [Attribute<'a>]) -> Self {
        Self::Given(attributes)
    }
}

impl Carried<'_> {
    fn is_empty(&self) -> bool {
        match self {
            Self::Given(attributes) => attributes.is_empty(),
            Self::Encoded(bytes) => bytes.is_empty(),
        }
    }

    fn encoded_len(&self) -> usize {
        match self {
            Self::Given(attributes) => attributes.iter().map(|a| 3 * FIELD + 1 + a.size()).sum(),
            Self::Encoded(bytes) => bytes.len(),
        }
    }

    fn write(&self, rest: &mut &mut [u8]) {
        match self {
            Self::Given(attributes) => {
                for attribute in *attributes {
                    let (kind, value) = match attribute.value {
                        AttributeValue::Text(text) => (TEXT, text.as_bytes()),
                        AttributeValue::Binary(bytes) => (BINARY, bytes),
                    };
                    put_field(rest, attribute.name.as_bytes());
                    put_field(rest, attribute.data_type.as_bytes());
                    put(rest, &[kind]);
                    put_field(rest, value);
                }
            }
            Self::Encoded(bytes) => put(rest, bytes),
        }
    }
}

impl<'a> Moved<'a> {
    /// The queue it was dead-lettered from, unless it was only moved within its queue.
    pub fn dead_letter_source(&self) -> Option<&'a str> {
        (!self.source.is_empty()).then_some(self.source)
    }
}

impl ExtrasDraft<'_> {
    /// Whether the message needs no block at all.
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty()
            && self.group.is_none()
            && self.tenant == 0
            && self.deduplication.is_none()
            && self.trace_header.is_none()
            && self.moved.is_none()
            && !self.moved_here
    }

    /// The length of the block in bytes, of an empty one too.
    pub fn encoded_len(&self) -> usize {
        FIXED
            + self.group.map_or(0, |group| FIELD + group.len())
            + self.deduplication.map_or(0, |id| FIELD + id.len())
            + self.trace_header.map_or(0, |header| FIELD + header.len())
            + self.moved.map_or(0, |moved| 16 + 8 + FIELD + moved.source.len())
            + self.attributes.encoded_len()
    }

    /// Writes the block to the front of `into`, which has room for [`encoded_len`](Self::encoded_len) bytes.
    pub fn encode(&self, into: &mut [u8]) {
        debug_assert!(into.len() >= self.encoded_len(), "no room for the extras");
        self.write(into);
    }

    /// Writes as much of the block as there is room for. The length in front never leads beyond `into`.
    fn write(&self, mut into: &mut [u8]) {
        let length = u32::try_from(self.encoded_len().min(into.len())).unwrap_or(u32::MAX);
        let rest = &mut into;
        let flag = |flag: u8, is: bool| if is { flag } else { 0 };
        let flags = flag(GROUP, self.group.is_some())
            | flag(TRACE, self.trace_header.is_some())
            | flag(DEDUPLICATION, self.deduplication.is_some())
            | flag(MOVED, self.moved.is_some())
            | flag(MOVED_HERE, self.moved_here);
        let mut fixed = [0; FIXED];
        fixed[..4].copy_from_slice(&length.to_le_bytes());
        fixed[4..8].copy_from_slice(&self.tenant.to_le_bytes());
        fixed[8] = flags;
        put(rest, &fixed);
        let texts = [self.group, self.deduplication, self.trace_header];
        for text in texts.into_iter().flatten() {
            put_field(rest, text.as_bytes());
        }
        if let Some(moved) = self.moved {
            put(rest, &moved.id);
            put(rest, &moved.at.as_millis().to_le_bytes());
            put_field(rest, moved.source.as_bytes());
        }
        self.attributes.write(rest);
    }
}

/// Writing into a slice does not fail: it stops at the end.
fn put(rest: &mut &mut [u8], bytes: &[u8]) {
    let _written = rest.write(bytes);
}

fn put_length(rest: &mut &mut [u8], length: usize) {
    put(rest, &u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_field(rest: &mut &mut [u8], bytes: &[u8]) {
    put_length(rest, bytes.len());
    put(rest, bytes);
}

/// A block, read in place. Every reading walks over the parts in front of what it wants: a few lengths.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extras<'a> {
    /// From the tenant on, to the end that the length says.
    content: &'a [u8],
}

/// A block taken apart, but for the tenant; what is missing or cut off is `None`, and so is what comes after it.
#[derive(Default)]
struct Parts<'a> {
    group: Option<&'a [u8]>,
    deduplication: Option<&'a [u8]>,
    trace_header: Option<&'a [u8]>,
    moved: Option<MovedParts<'a>>,
    attributes: &'a [u8],
}

struct MovedParts<'a> {
    id: [u8; 16],
    at: u64,
    source: &'a [u8],
}

impl<'a> Extras<'a> {
    /// Bytes at the front of a block from which its [length](Self::length) can be told.
    pub const HEADER: usize = 4;

    /// The length of the block that begins with these bytes, itself included.
    pub fn length(header: [u8; Extras::HEADER]) -> usize {
        u32::from_le_bytes(header) as usize
    }

    /// The block at the front of `block`. Without a byte, that of a message that carries nothing.
    pub fn new(block: &'a [u8]) -> Self {
        let Some((header, behind)) = block.split_first_chunk() else {
            return Self::default();
        };
        let length = Self::length(*header).saturating_sub(Self::HEADER);
        Self {
            content: behind.get(..length).unwrap_or(behind),
        }
    }

    /// The attributes in the order in which they were given. Linear in their bytes: the texts are checked to be such.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes {
            rest: self.parts().attributes,
        }
    }

    /// The message group id.
    pub fn group(&self) -> Option<&'a str> {
        self.parts().group.and_then(text)
    }

    /// The message deduplication id.
    pub fn deduplication(&self) -> Option<&'a str> {
        self.parts().deduplication.and_then(text)
    }

    /// The number of the tenant; 0 for a message that is of none.
    pub fn tenant(&self) -> u32 {
        let tenant = self.content.first_chunk();
        tenant.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    /// The system attribute `AWSTraceHeader`.
    pub fn trace_header(&self) -> Option<&'a str> {
        self.parts().trace_header.and_then(text)
    }

    /// Whether it comes from another queue, dead letter or not (FIFO queues).
    pub fn has_moved_here(&self) -> bool {
        let flags = self.content.get(size_of::<u32>());
        flags.is_some_and(|flags| flags & MOVED_HERE != 0)
    }

    /// Where the message came from, if it has been moved.
    pub fn moved(&self) -> Option<Moved<'a>> {
        let moved = self.parts().moved?;
        Some(Moved {
            id: moved.id,
            source: text(moved.source)?,
            at: Millis::new(moved.at),
        })
    }

    /// The draft of this very block, from which one with another `moved` or tenant is made; the attributes are copied
    /// without being looked at.
    pub fn draft(&self) -> ExtrasDraft<'a> {
        ExtrasDraft {
            attributes: Carried::Encoded(self.parts().attributes),
            group: self.group(),
            tenant: self.tenant(),
            deduplication: self.deduplication(),
            trace_header: self.trace_header(),
            moved: self.moved(),
            moved_here: self.has_moved_here(),
        }
    }

    fn parts(&self) -> Parts<'a> {
        let mut parts = Parts::default();
        // A block that ends too early leaves the parts from there on as they are: absent.
        let _complete = parts.read(self.content);
        parts
    }
}

impl<'a> Parts<'a> {
    fn read(&mut self, mut rest: &'a [u8]) -> Option<()> {
        let [_, _, _, _, flags] = array(&mut rest)?;
        if flags & GROUP != 0 {
            self.group = Some(field(&mut rest)?);
        }
        if flags & DEDUPLICATION != 0 {
            self.deduplication = Some(field(&mut rest)?);
        }
        if flags & TRACE != 0 {
            self.trace_header = Some(field(&mut rest)?);
        }
        if flags & MOVED != 0 {
            self.moved = Some(MovedParts {
                id: array(&mut rest)?,
                at: u64::from_le_bytes(array(&mut rest)?),
                source: field(&mut rest)?,
            });
        }
        self.attributes = rest;
        Some(())
    }
}

/// The attributes of a block; ends at the first that is cut off.
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        // Left empty unless there is a whole attribute: the end stays the end.
        let mut rest = std::mem::take(&mut self.rest);
        let name = text(field(&mut rest)?)?;
        let data_type = text(field(&mut rest)?)?;
        let value = match array(&mut rest)? {
            [TEXT] => AttributeValue::Text(text(field(&mut rest)?)?),
            [BINARY] => AttributeValue::Binary(field(&mut rest)?),
            _ => return None,
        };
        self.rest = rest;
        Some(Attribute {
            name,
            data_type,
            value,
        })
    }
}

fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (array, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*array)
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(array(rest)?) as usize;
    rest.split_off(..length)
}

fn text(bytes: &[u8]) -> Option<&str> {
    str::from_utf8(bytes).ok()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    /// What a draft borrows from.
    #[derive(Debug, Clone)]
    struct Owned {
        attributes: Vec<(String, String, Value)>,
        group: Option<String>,
        tenant: u32,
        deduplication: Option<String>,
        trace_header: Option<String>,
        moved: Option<([u8; 16], String, u64)>,
        moved_here: bool,
    }

    #[derive(Debug, Clone)]
    enum Value {
        Text(String),
        Binary(Vec<u8>),
    }

    impl Owned {
        fn attributes(&self) -> Vec<Attribute<'_>> {
            let borrowed = self.attributes.iter().map(|(name, data_type, value)| Attribute {
                name,
                data_type,
                value: match value {
                    Value::Text(text) => AttributeValue::Text(text),
                    Value::Binary(bytes) => AttributeValue::Binary(bytes),
                },
            });
            borrowed.collect()
        }

        fn draft<'a>(&'a self, attributes: &'a [Attribute<'a>]) -> ExtrasDraft<'a> {
            ExtrasDraft {
                attributes: attributes.into(),
                group: self.group.as_deref(),
                tenant: self.tenant,
                deduplication: self.deduplication.as_deref(),
                trace_header: self.trace_header.as_deref(),
                moved: self.moved.as_ref().map(|(id, source, at)| Moved {
                    id: *id,
                    source,
                    at: Millis::new(*at),
                }),
                moved_here: self.moved_here,
            }
        }
    }

    fn any_owned() -> impl Strategy<Value = Owned> {
        let value = prop_oneof![
            any::<String>().prop_map(Value::Text),
            any::<Vec<u8>>().prop_map(Value::Binary),
        ];
        let attributes = vec((any::<String>(), any::<String>(), value), 0..4);
        let moved = option::of((any::<[u8; 16]>(), any::<String>(), 0..Millis::MAX.as_millis()));
        let text = || option::of(any::<String>());
        let texts = (text(), text(), text());
        (attributes, texts, any::<u32>(), (moved, any::<bool>())).prop_map(
            |(attributes, (group, deduplication, trace_header), tenant, (moved, moved_here))| Owned {
                attributes,
                group,
                tenant,
                deduplication,
                trace_header,
                moved,
                moved_here,
            },
        )
    }

    fn encoded(draft: &ExtrasDraft<'_>) -> Vec<u8> {
        let mut block = vec![0xaa; draft.encoded_len()];
        draft.encode(&mut block);
        block
    }

    /// Reads all there is.
    fn read(extras: Extras<'_>) -> usize {
        let draft = extras.draft();
        draft.encoded_len() + extras.attributes().map(|a| a.size()).sum::<usize>()
    }

    proptest! {
        #[test]
        fn blocks_round_trip(owned in any_owned(), behind in any::<Vec<u8>>()) {
            let attributes = owned.attributes();
            let draft = owned.draft(&attributes);
            let mut block = encoded(&draft);
            let header = *block.first_chunk().unwrap();
            prop_assert_eq!(Extras::length(header), block.len());

            // What stands behind the block is not of it.
            block.extend(behind);
            let extras = Extras::new(&block);
            prop_assert_eq!(extras.attributes().collect::<Vec<_>>(), &attributes[..]);
            prop_assert_eq!(extras.group(), draft.group);
            prop_assert_eq!(extras.tenant(), draft.tenant);
            prop_assert_eq!(extras.trace_header(), draft.trace_header);
            prop_assert_eq!(extras.moved(), draft.moved);
            prop_assert_eq!(extras.draft().is_empty(), draft.is_empty());
        }

        #[test]
        fn a_block_is_encoded_again_as_it_was(owned in any_owned()) {
            let attributes = owned.attributes();
            let block = encoded(&owned.draft(&attributes));
            prop_assert_eq!(encoded(&Extras::new(&block).draft()), block);
        }

        #[test]
        fn a_block_is_encoded_again_with_another_move(owned in any_owned(), tenant in any::<u32>()) {
            let attributes = owned.attributes();
            let draft = owned.draft(&attributes);
            let block = encoded(&draft);
            let moved = Some(Moved { id: [7; 16], source: "orders", at: Millis::new(5) });
            let again = encoded(&ExtrasDraft { moved, tenant, ..Extras::new(&block).draft() });
            prop_assert_eq!(&again, &encoded(&ExtrasDraft { moved, tenant, ..draft }));
            let extras = Extras::new(&again);
            prop_assert_eq!(extras.moved(), moved);
            prop_assert_eq!(extras.attributes().collect::<Vec<_>>(), &attributes[..]);
        }

        #[test]
        fn only_the_blocks_bytes_are_written(owned in any_owned()) {
            let attributes = owned.attributes();
            let draft = owned.draft(&attributes);
            let mut room = vec![0xaa; draft.encoded_len() + 3];
            draft.encode(&mut room);
            prop_assert_eq!(&room[..draft.encoded_len()], encoded(&draft));
            prop_assert_eq!(&room[draft.encoded_len()..], &[0xaa; 3]);
        }

        #[test]
        fn a_cut_block_reads_as_what_is_whole_in_it(owned in any_owned()) {
            let attributes = owned.attributes();
            let draft = owned.draft(&attributes);
            let block = encoded(&draft);
            for length in 0..block.len() {
                let mut short = vec![0xaa; length];
                draft.write(&mut short);
                if let Some(header) = short.first_chunk() {
                    prop_assert_eq!(Extras::length(*header), length);
                }
                for extras in [Extras::new(&short), Extras::new(&block[..length])] {
                    prop_assert!(read(extras) <= read(Extras::new(&block)));
                    prop_assert!(extras.group().is_none() || extras.group() == draft.group);
                    prop_assert!(extras.moved().is_none() || extras.moved() == draft.moved);
                    prop_assert!(attributes.starts_with(&extras.attributes().collect::<Vec<_>>()));
                }
            }
        }

        #[test]
        fn no_bytes_make_reading_panic(block in any::<Vec<u8>>()) {
            read(Extras::new(&block));
        }

        #[test]
        fn no_changed_byte_makes_reading_panic(owned in any_owned(), at in any::<prop::sample::Index>(), byte: u8) {
            let attributes = owned.attributes();
            let mut block = encoded(&owned.draft(&attributes));
            *at.get_mut(&mut block) = byte;
            read(Extras::new(&block));
        }
    }

    #[test]
    fn an_empty_draft_needs_no_block() {
        let draft = ExtrasDraft::default();
        assert!(draft.is_empty());
        let block = encoded(&draft);
        assert_eq!(block, [9, 0, 0, 0, 0, 0, 0, 0, 0]);
        for extras in [Extras::new(&block), Extras::new(&[]), Extras::default()] {
            assert!(extras.draft().is_empty());
            assert_eq!(extras.tenant(), 0);
            assert_eq!(extras.attributes().next(), None);
        }
    }

    #[test]
    fn any_part_makes_a_draft_need_a_block() {
        let attributes = [Attribute::string("a", "x")];
        let moved = Moved {
            id: [0; 16],
            source: "",
            at: Millis::new(0),
        };
        let empty = ExtrasDraft::default();
        for draft in [
            ExtrasDraft {
                attributes: attributes[..].into(),
                ..empty
            },
            ExtrasDraft {
                group: Some("g"),
                ..empty
            },
            ExtrasDraft { tenant: 1, ..empty },
            ExtrasDraft {
                trace_header: Some("Root=1"),
                ..empty
            },
            ExtrasDraft {
                moved: Some(moved),
                ..empty
            },
            ExtrasDraft {
                moved_here: true,
                ..empty
            },
        ] {
            assert!(!draft.is_empty());
            assert!(!Extras::new(&encoded(&draft)).draft().is_empty());
        }
    }

    #[test]
    fn the_layout_is_that_of_the_drawing() {
        let attributes = [Attribute::binary("a", &[9])];
        let draft = ExtrasDraft {
            attributes: attributes[..].into(),
            group: Some("g"),
            tenant: 0x0102_0304,
            ..ExtrasDraft::default()
        };
        let mut expected = vec![35, 0, 0, 0, 4, 3, 2, 1, GROUP, 1, 0, 0, 0, b'g', 1, 0, 0, 0, b'a'];
        expected.extend(b"\x06\0\0\0Binary\x02\x01\0\0\0\x09");
        assert_eq!(encoded(&draft), expected);
    }

    #[test]
    fn text_that_is_none_reads_as_nothing() {
        let draft = ExtrasDraft {
            group: Some("g"),
            trace_header: Some("t"),
            ..ExtrasDraft::default()
        };
        let mut block = encoded(&draft);
        block[FIXED + FIELD] = 0xff;
        let extras = Extras::new(&block);
        assert_eq!((extras.group(), extras.trace_header()), (None, Some("t")));

        let attributes = [Attribute::string("a", "x"), Attribute::string("b", "y")];
        let mut block = encoded(&ExtrasDraft {
            attributes: attributes[..].into(),
            ..ExtrasDraft::default()
        });
        *block.last_mut().unwrap() = 0xff;
        let mut read = Extras::new(&block).attributes();
        assert_eq!(read.next(), Some(attributes[0]));
        assert_eq!((read.next(), read.next()), (None, None));
    }
}
