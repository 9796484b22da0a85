//! What names the messages: group names and deduplication ids, made outside the calls.

use std::str;

use crate::workload::Id;

/// The names of groups, all of one length, one after the other.
#[derive(Debug)]
pub struct Names(String);

impl Names {
    const LENGTH: usize = 14;

    /// Of so many groups.
    pub fn new(groups: usize) -> Self {
        Self::with_prefix("group", groups)
    }

    /// Of so many others.
    pub fn new_blocked(groups: usize) -> Self {
        Self::with_prefix("block", groups)
    }

    fn with_prefix(prefix: &str, groups: usize) -> Self {
        use std::fmt::Write;
        let mut names = String::with_capacity(groups * Self::LENGTH);
        for group in 0..groups {
            // Writing to a string cannot fail.
            let _ = write!(names, "{prefix}-{group:08}");
        }
        Self(names)
    }

    /// Of one of them.
    #[inline]
    pub fn of(&self, group: u32) -> &str {
        let at = group as usize * Self::LENGTH;
        &self.0[at..at + Self::LENGTH]
    }
}

/// A deduplication id: a message's id in 16 hexadecimal digits.
#[derive(Clone, Copy, Debug)]
pub struct IdText([u8; 16]);

impl IdText {
    /// Of a message.
    #[inline]
    pub fn new(id: Id) -> Self {
        let (high, low) = ((id.bits() >> 32) as u32, id.bits() as u32);
        let mut text = [0; 16];
        text[..8].copy_from_slice(&digits(high));
        text[8..].copy_from_slice(&digits(low));
        Self(text)
    }

    /// As text.
    #[inline]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Eight hexadecimal digits, all at once.
#[inline]
fn digits(number: u32) -> [u8; 8] {
    let mut spread = u64::from(number);
    spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = ((spread + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    (spread + 0x3030_3030_3030_3030 + letters * 39).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_their_digits() {
        for id in [Id::new(0, 0), Id::new(3, 0x1234_89ab_cdef), Id::new(0xf0a9, 77)] {
            assert_eq!(IdText::new(id).as_str(), format!("{:016x}", id.bits()));
        }
    }

    #[test]
    fn names_are_told_apart() {
        let names = Names::new(12);
        assert_eq!((names.of(0), names.of(11)), ("group-00000000", "group-00000011"));
    }
}
