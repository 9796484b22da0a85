//! Receipt handles and message ids: what they are made of, how they are sealed into text, how forged ones are refused.
//!
//! ```text
//! handle, 24 bytes in memory          queue:64 │ serial:48 slot:8 0:8 │ index:24 partition:12 receives:20 0:8
//! handle, 56 hexadecimal characters   AES-128(serial … receives) │ queue number:32 ^ tag │ SipHash tag:64
//! message id, 128 bits                AES-128(queue number:32 partition:12 0:28 │ serial:48 slot:8 0:8)
//! ```
//!
//! Both are computed from where the message is, so neither takes storage, and a permutation of unique places is unique.
//! The tag is over the place and the queue: a text that this broker did not make passes once in 2^64 tries.

use std::{fmt, hash::Hasher, str::FromStr};

use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use arrayvec::ArrayString;
use siphasher::sip::SipHasher24;

use crate::{
    config::{INDEX_BITS, PARTITION_BITS, SERIAL_BITS, SLOT_BITS},
    error::HandleError,
    ledger::{lease::Place, state::RECEIVES_MAX},
};

const RECEIVES_BITS: u32 = RECEIVES_MAX.count_ones();
const SERIAL_SHIFT: u32 = 64 - SERIAL_BITS;
const SLOT_SHIFT: u32 = SERIAL_SHIFT - SLOT_BITS;
const INDEX_SHIFT: u32 = 64 - INDEX_BITS;
const PARTITION_SHIFT: u32 = INDEX_SHIFT - PARTITION_BITS;
const RECEIVES_SHIFT: u32 = PARTITION_SHIFT - RECEIVES_BITS;

// The fields fit their words.
const _: () = assert!(SERIAL_BITS + SLOT_BITS <= 64);
const _: () = assert!(INDEX_BITS + PARTITION_BITS + RECEIVES_BITS <= 64);
// As drawn: one beside the other, and eight bits of nothing below.
const _: () = assert!(SLOT_SHIFT == 8 && RECEIVES_SHIFT == 8);

/// Characters of a handle's text.
const TEXT: usize = 2 * (16 + 4 + 8);

/// The right to delete, extend or release one lease of one message.
///
/// Each receive of a message gives a new handle; an older one cannot touch a newer lease. In memory it is a 24-byte
/// value that only a receive or [`Queue::decode_handle`](crate::Queue::decode_handle) makes; as text it is opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReceiptHandle {
    pub(crate) queue: QueueId,
    words: [u64; 2],
}

/// A queue within the process: `broker:32 | queue:32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct QueueId(pub(crate) u64);

impl QueueId {
    pub(crate) fn number(self) -> u32 {
        self.0 as u32
    }
}

const fn field(word: u64, shift: u32, bits: u32) -> u64 {
    (word >> shift) & ((1 << bits) - 1)
}

impl ReceiptHandle {
    #[inline]
    pub(crate) fn new(queue: QueueId, partition: u32, place: Place, receives: u32) -> Self {
        let first = place.serial << SERIAL_SHIFT | u64::from(place.slot) << SLOT_SHIFT;
        let second = u64::from(place.number) << INDEX_SHIFT
            | u64::from(partition) << PARTITION_SHIFT
            | u64::from(receives) << RECEIVES_SHIFT;
        Self {
            queue,
            words: [first, second],
        }
    }

    #[inline]
    pub(crate) fn partition(&self) -> usize {
        field(self.words[1], PARTITION_SHIFT, PARTITION_BITS) as usize
    }

    #[inline]
    pub(crate) fn receives(&self) -> u32 {
        field(self.words[1], RECEIVES_SHIFT, RECEIVES_BITS) as u32
    }

    #[inline]
    pub(crate) fn place(&self) -> Place {
        Place {
            number: field(self.words[1], INDEX_SHIFT, INDEX_BITS) as u32,
            serial: field(self.words[0], SERIAL_SHIFT, SERIAL_BITS),
            slot: field(self.words[0], SLOT_SHIFT, SLOT_BITS) as u32,
        }
    }
}

/// A receipt handle as text: 56 hexadecimal characters, well within SQS's 1,024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandleText(ArrayString<TEXT>);

impl HandleText {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::ops::Deref for HandleText {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HandleText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A message's identity: unique in the broker's life, the same on every redelivery. Displayed in the form of a UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId([u8; 16]);

impl MessageId {
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 128 bits.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whole groups at once: a thread that answers requests writes ten of these for each.
        let mut text = [b'-'; 36];
        for (bytes, digits) in [(0..4, 0), (4..6, 9), (6..8, 14), (8..10, 19), (10..16, 24)] {
            let bytes = &self.0[bytes];
            hex(bytes, &mut text[digits..digits + 2 * bytes.len()]);
        }
        f.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}

impl FromStr for MessageId {
    type Err = HandleError;
    fn from_str(text: &str) -> Result<Self, HandleError> {
        let mut digits = ArrayString::<32>::new();
        for (at, digit) in text.char_indices() {
            // Where `Display` puts them: one id, one text.
            let is_hyphen = matches!(at, 8 | 13 | 18 | 23);
            if is_hyphen != (digit == '-') || !is_hyphen && digits.try_push(digit).is_err() {
                return Err(HandleError::Malformed);
            }
        }
        if !digits.is_full() {
            return Err(HandleError::Malformed);
        }
        let mut bytes = [0; 16];
        unhex(digits.as_bytes(), &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// A broker's keys.
pub(crate) struct Seal {
    handles: aes::Aes128,
    ids: aes::Aes128,
    tags: [u8; 16],
}

impl Seal {
    /// Keys drawn from a seed.
    pub(crate) fn new(seed: [u64; 2]) -> Self {
        let draw = |purpose: u64| {
            let mut key = [0; 16];
            for (half, bytes) in key.chunks_exact_mut(8).enumerate() {
                let mut hasher = SipHasher24::new_with_keys(seed[0], seed[1]);
                hasher.write_u64(purpose * 2 + half as u64);
                bytes.copy_from_slice(&hasher.finish().to_le_bytes());
            }
            key
        };
        Self {
            handles: aes::Aes128::new(&draw(0).into()),
            ids: aes::Aes128::new(&draw(1).into()),
            tags: draw(2),
        }
    }

    pub(crate) fn encode(&self, handle: &ReceiptHandle) -> HandleText {
        let tag = self.tag(handle);
        let mut bytes = [0; TEXT / 2];
        bytes[..16].copy_from_slice(&self.crypt(&self.handles, handle.words));
        bytes[16..20].copy_from_slice(&(handle.queue.number() ^ tag as u32).to_le_bytes());
        bytes[20..].copy_from_slice(&tag.to_le_bytes());
        let mut text = [0; TEXT];
        hex(&bytes, &mut text);
        HandleText(ArrayString::from_byte_string(&text).unwrap_or_default())
    }

    /// The handle, if the text is of this broker and of `queue`.
    pub(crate) fn decode(&self, queue: QueueId, text: &str) -> Result<ReceiptHandle, HandleError> {
        if text.len() != TEXT {
            return Err(HandleError::Malformed);
        }
        let mut bytes = [0; TEXT / 2];
        unhex(text.as_bytes(), &mut bytes)?;
        let (block, rest) = bytes.split_at(16);
        let (number, tag) = rest.split_at(4);
        let number = u32::from_le_bytes(number.try_into().unwrap_or_default());
        let tag = u64::from_le_bytes(tag.try_into().unwrap_or_default());
        let mut block: [u8; 16] = block.try_into().unwrap_or_default();
        self.handles.decrypt_block((&mut block).into());
        let (first, second) = block.split_at(8);
        let handle = ReceiptHandle {
            queue: QueueId(queue.0 & !0xffff_ffff | u64::from(number ^ tag as u32)),
            words: [first, second].map(|half| u64::from_le_bytes(half.try_into().unwrap_or_default())),
        };
        if self.tag(&handle) != tag {
            return Err(HandleError::Forged);
        }
        if handle.queue != queue {
            return Err(HandleError::Foreign);
        }
        Ok(handle)
    }

    pub(crate) fn message_id(&self, queue: QueueId, partition: u32, serial: u64, slot: u32) -> MessageId {
        let first = u64::from(queue.number()) << 32 | u64::from(partition);
        let second = serial << SERIAL_SHIFT | u64::from(slot) << SLOT_SHIFT;
        MessageId(self.crypt(&self.ids, [first, second]))
    }

    fn crypt(&self, key: &aes::Aes128, words: [u64; 2]) -> [u8; 16] {
        let mut block = [0; 16];
        block[..8].copy_from_slice(&words[0].to_le_bytes());
        block[8..].copy_from_slice(&words[1].to_le_bytes());
        key.encrypt_block((&mut block).into());
        block
    }

    fn tag(&self, handle: &ReceiptHandle) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.tags);
        hasher.write_u32(handle.queue.number());
        hasher.write_u64(handle.words[0]);
        hasher.write_u64(handle.words[1]);
        hasher.finish()
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(..)")
    }
}

/// The two digits of each byte, one after the other.
const DIGITS: [[u8; 2]; 256] = {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        digits[byte] = [HEX[byte >> 4], HEX[byte & 15]];
        byte += 1;
    }
    digits
};

/// Bytes in hexadecimal, into twice as many.
fn hex(bytes: &[u8], text: &mut [u8]) {
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&DIGITS[usize::from(*byte)]);
    }
}

fn unhex(text: &[u8], bytes: &mut [u8]) -> Result<(), HandleError> {
    // Judged at the end: digits are as good as random, and a branch for each would be guessed wrongly half of the time.
    let mut all = 0;
    for (pair, byte) in text.chunks_exact(2).zip(bytes) {
        let (high, low) = (VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]);
        all |= high | low;
        *byte = high << 4 | low & 15;
    }
    if all >= NO_DIGIT {
        return Err(HandleError::Malformed);
    }
    Ok(())
}

/// More than any digit's value.
const NO_DIGIT: u8 = 16;

/// What each byte is worth as a digit. Lower case only: one handle, one text.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        values[DIGITS[value][1] as usize] = value as u8;
        value += 1;
    }
    values
};

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{PARTITIONS_MAX, SLOTS};

    const QUEUE: QueueId = QueueId(7 << 32 | 3);

    fn seal() -> Seal {
        Seal::new([1, 2])
    }

    fn any_handle() -> impl Strategy<Value = ReceiptHandle> {
        let place = (0..1u32 << INDEX_BITS, 0..1u64 << SERIAL_BITS, 0..SLOTS as u32);
        (place, 0..PARTITIONS_MAX as u32, 0..=RECEIVES_MAX).prop_map(
            |((number, serial, slot), partition, receives)| {
                let handle = ReceiptHandle::new(QUEUE, partition, Place { number, serial, slot }, receives);
                assert_eq!(handle.place(), Place { number, serial, slot });
                assert_eq!(handle.partition(), partition as usize);
                assert_eq!(handle.receives(), receives);
                handle
            },
        )
    }

    proptest! {
        #[test]
        fn text_round_trips(handle in any_handle()) {
            let text = seal().encode(&handle);
            prop_assert_eq!(text.len(), TEXT);
            prop_assert_eq!(text.to_string(), text.as_str());
            prop_assert_eq!(seal().decode(QUEUE, &text), Ok(handle));
        }

        #[test]
        fn any_changed_character_is_refused(handle in any_handle(), at in 0..TEXT, digit in 0u32..16) {
            let text = seal().encode(&handle);
            let digit = char::from_digit(digit, 16).unwrap_or('0');
            let changed: String = text.chars().enumerate().map(|(i, c)| if i == at { digit } else { c }).collect();
            if changed != text.as_str() {
                prop_assert_eq!(seal().decode(QUEUE, &changed), Err(HandleError::Forged));
            }
        }

        #[test]
        fn garbage_is_refused(text in "\\PC*") {
            prop_assert_eq!(seal().decode(QUEUE, &text), Err(HandleError::Malformed));
        }

        #[test]
        fn well_formed_garbage_is_refused(text in "[0-9a-f]{56}") {
            prop_assert_eq!(seal().decode(QUEUE, &text), Err(HandleError::Forged));
        }

        #[test]
        fn another_queue_and_another_broker_are_told_apart(handle in any_handle()) {
            let text = seal().encode(&handle);
            prop_assert_eq!(seal().decode(QueueId(7 << 32 | 4), &text), Err(HandleError::Foreign));
            prop_assert_eq!(Seal::new([1, 3]).decode(QUEUE, &text), Err(HandleError::Forged));
        }
    }

    #[test]
    fn message_ids_are_unique_and_print_as_uuids() {
        let seal = seal();
        let mut seen = std::collections::HashSet::new();
        for (queue, partition) in [(1, 0), (1, 1), (1, 2), (2, 0), (3, 0)] {
            for serial in [0, 1, 255, 256, (1 << SERIAL_BITS) - 1] {
                for slot in 0..SLOTS as u32 {
                    let id = seal.message_id(QueueId(queue), partition, serial, slot);
                    assert!(seen.insert(id));
                    assert_eq!(id.to_string().parse(), Ok(id));
                    assert_eq!(id.to_string().len(), 36);
                }
            }
        }
    }

    #[test]
    fn keys_are_not_shown() {
        assert_eq!(format!("{:?}", seal()), "Seal(..)");
    }

    #[test]
    fn a_message_id_has_one_text() {
        let text = "00112233-4455-6677-8899-aabbccddeeff";
        let id: MessageId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(format!("{id:?}"), format!("MessageId({text})"));
        for other in [
            "",
            "nonsense",
            "00112233-4455-6677-8899-aabbccddeef",
            "00112233-4455-6677-8899-aabbccddeefff",
            "00112233-4455-6677-8899-aabbccddeeff-",
            "00112233445566778899aabbccddeeff",
            "0-0112233-4455-6677-8899aabbccddeeff",
            "00112233-4455-6677-8899-AABBCCDDEEFF",
            "00112233-4455-6677-8899-aabbccddeeé",
        ] {
            assert_eq!(other.parse::<MessageId>(), Err(HandleError::Malformed), "{other}");
        }
    }
}
