//! What the messages are: who sent which, and what their bodies must look like when they arrive.
//!
//! ```text
//! body:  | id: u64 | pattern, chosen by seed and id, never rewritten … | tag: u64 = mix(id, seed) |
//! id:    | producer: 16 | sequence: 48 |
//! ```
//!
//! A sender writes only id and tag into a prepared body; a receiver compares length, id and tag of every message, and the
//! whole pattern of a sample. Bodies under 16 bytes get a shorter tag, those under 8 bytes have no room for an id: then messages
//! are only counted, and reports say so ([`Integrity`]).

use crate::target::BATCH_MAX;

/// Which message it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u64);

impl Id {
    const SEQUENCE_BITS: u32 = 48;

    /// Of bodies too short to say whose they are.
    pub const NONE: Self = Self(u64::MAX);

    /// The message number `sequence` of sender `producer`.
    #[inline]
    pub const fn new(producer: u16, sequence: u64) -> Self {
        Self((producer as u64) << Self::SEQUENCE_BITS | sequence)
    }

    /// The `number`-th time that `producer` sends a message again that was sent before; itself it is to be received never.
    #[inline]
    pub const fn echo(producer: u16, number: u64) -> Self {
        Self::new(producer | Self::ECHO, number)
    }

    const ECHO: u16 = 1 << 15;

    /// Whether it is one sent again.
    #[inline]
    pub const fn is_echo(self) -> bool {
        self.producer() & Self::ECHO as usize != 0
    }

    /// Producer and sequence in one.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The one that its sender sends `n` later.
    #[inline]
    pub const fn plus(self, n: u64) -> Self {
        Self(self.0 + n)
    }

    /// Who sent it.
    #[inline]
    pub const fn producer(self) -> usize {
        (self.0 >> Self::SEQUENCE_BITS) as usize
    }

    /// The how-manieth of its sender.
    #[inline]
    pub const fn sequence(self) -> u64 {
        self.0 & ((1 << Self::SEQUENCE_BITS) - 1)
    }
}

impl std::fmt::Debug for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::NONE => f.write_str("a message without id"),
            id => write!(f, "{}:{}", id.producer(), id.sequence()),
        }
    }
}

/// How much of a body can be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// Id, pattern, tag.
    Full,
    /// 8 to 15 bytes: id, and as much of the tag as there is room for.
    ShortTag,
    /// Under 8 bytes: messages are counted, but have no identity.
    CountOnly,
}

impl Integrity {
    /// What a body of this size allows.
    pub const fn of(body_bytes: usize) -> Self {
        match body_bytes {
            0..8 => Self::CountOnly,
            8..16 => Self::ShortTag,
            _ => Self::Full,
        }
    }
}

/// The tag of a body: a cheap mix, so that a torn, stale or foreign body does not fit.
#[inline]
fn tag(id: Id, seed: u64) -> u64 {
    let mixed = (id.0 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

/// The patterns between id and tag; consecutive messages get different ones, so that mixed-up bodies show.
#[derive(Clone, Debug)]
struct Patterns {
    bodies: Vec<Vec<u8>>,
    mask: usize,
}

impl Patterns {
    /// Bodies above this size share fewer patterns, to spare memory.
    const LARGE_BYTES: usize = 4096;

    /// `extra` bodies more than patterns, so that any ten consecutive messages are a slice.
    fn new(body_bytes: usize, seed: u64, extra: usize) -> Self {
        let variants: usize = if body_bytes <= Self::LARGE_BYTES { 8 } else { 2 };
        let body = |index| {
            let mut state = seed ^ (index % variants) as u64;
            let byte = |_| {
                // SplitMix64: any generator would do, this one fits on three lines.
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                (mixed >> 32) as u8
            };
            (0..body_bytes).map(byte).collect()
        };
        Self {
            bodies: (0..variants + extra).map(body).collect(),
            mask: variants - 1,
        }
    }

    #[inline(always)]
    fn of(&self, id: Id) -> usize {
        id.0 as usize & self.mask
    }
}

/// A sender's prepared bodies.
///
/// Bodies are stamped one call ahead: a target that copies a body right after two of its words were written would wait for the
/// processor to bring small stores and large loads together, and that wait would be the harness's doing.
#[derive(Clone, Debug)]
pub struct Templates {
    patterns: Patterns,
    seed: u64,
    integrity: Integrity,
    /// These are stamped: so many, from this one on.
    ready: (Id, usize),
}

impl Templates {
    /// Prepares bodies of `body_bytes` ≥ 1.
    pub fn new(body_bytes: usize, seed: u64) -> Self {
        let patterns = Patterns::new(body_bytes, seed, BATCH_MAX - 1);
        Self {
            patterns,
            seed,
            integrity: Integrity::of(body_bytes),
            ready: (Id(0), 0),
        }
    }

    /// The body of one message.
    #[inline(always)]
    pub fn one(&mut self, id: Id) -> &[u8] {
        &self.batch(id, 1)[0]
    }

    /// The bodies of `n` ≤ 10 consecutive messages.
    #[inline(always)]
    pub fn batch(&mut self, first: Id, n: usize) -> &[Vec<u8>] {
        if self.ready != (first, n) {
            self.prepare(first, n);
        }
        let place = self.patterns.of(first);
        &self.patterns.bodies[place..place + n]
    }

    /// Stamps the bodies that will probably be asked for next.
    #[inline(always)]
    pub fn prepare(&mut self, first: Id, n: usize) {
        let place = self.patterns.of(first);
        let bodies = &mut self.patterns.bodies[place..place + n];
        for (offset, body) in bodies.iter_mut().enumerate() {
            stamp(body, first.plus(offset as u64), self.seed, self.integrity);
        }
        self.ready = (first, n);
    }
}

#[inline(always)]
fn stamp(body: &mut [u8], id: Id, seed: u64, integrity: Integrity) {
    if integrity == Integrity::Full
        && let Some(tail) = body.last_chunk_mut::<8>()
    {
        *tail = tag(id, seed).to_le_bytes();
    }
    if let Some(head) = body.first_chunk_mut::<8>() {
        *head = id.0.to_le_bytes();
    }
    if integrity == Integrity::ShortTag {
        // Its upper end, which every bit of the id has a part in.
        let room = body.len() - 8;
        body[8..].copy_from_slice(&tag(id, seed).to_be_bytes()[..room]);
    }
}

/// A body that is not what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt(pub &'static str);

/// A receiver's knowledge of what bodies must look like.
#[derive(Clone, Debug)]
pub struct Verifier {
    body_bytes: usize,
    seed: u64,
    integrity: Integrity,
    until_sample: u32,
    patterns: Patterns,
}

impl Verifier {
    /// One message in this many is compared byte by byte.
    pub const SAMPLE: u32 = 64;

    /// For bodies of `body_bytes` ≥ 1 sent under the same seed.
    pub fn new(body_bytes: usize, seed: u64) -> Self {
        let patterns = Patterns::new(body_bytes, seed, 0);
        Self {
            body_bytes,
            seed,
            integrity: Integrity::of(body_bytes),
            until_sample: 0,
            patterns,
        }
    }

    /// Checks a body and says whose it is: nobody's ([`Id::NONE`]) when bodies of this size have no identity.
    #[inline(always)]
    pub fn read(&mut self, body: &[u8]) -> Result<Id, Corrupt> {
        if body.len() != self.body_bytes {
            return Err(Corrupt("length"));
        }
        if self.integrity != Integrity::Full {
            return self.read_short(body);
        }
        let (Some(head), Some(tail)) = (body.first_chunk(), body.last_chunk()) else {
            return Err(Corrupt("length"));
        };
        let id = Id(u64::from_le_bytes(*head));
        if u64::from_le_bytes(*tail) != tag(id, self.seed) {
            return Err(Corrupt("id and tag disagree"));
        }
        if self.until_sample == 0 {
            self.compare_pattern(body, id)?;
        } else {
            self.until_sample -= 1;
        }
        Ok(id)
    }

    #[cold]
    fn compare_pattern(&mut self, body: &[u8], id: Id) -> Result<(), Corrupt> {
        self.until_sample = Self::SAMPLE - 1;
        let pattern = &self.patterns.bodies[self.patterns.of(id)];
        let inner = 8..self.body_bytes - 8;
        if body[inner.clone()] == pattern[inner] {
            Ok(())
        } else {
            Err(Corrupt("pattern"))
        }
    }

    #[cold]
    fn read_short(&self, body: &[u8]) -> Result<Id, Corrupt> {
        let Some((head, tail)) = body.split_first_chunk::<8>() else {
            let known = self.patterns.bodies.iter().any(|pattern| pattern == body);
            return if known {
                Ok(Id::NONE)
            } else {
                Err(Corrupt("pattern"))
            };
        };
        let id = Id(u64::from_le_bytes(*head));
        let fits = *tail == tag(id, self.seed).to_be_bytes()[..tail.len()];
        if fits {
            Ok(id)
        } else {
            Err(Corrupt("id and tag disagree"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_read() {
        for body_bytes in [1, 7, 8, 9, 15, 16, 17, 64, 1000, 5000] {
            let mut templates = Templates::new(body_bytes, 7);
            let mut verifier = Verifier::new(body_bytes, 7);
            for sequence in 0..200 {
                let id = Id::new(3, sequence);
                let expected = if body_bytes >= 8 { id } else { Id::NONE };
                assert_eq!(
                    verifier.read(templates.one(id)),
                    Ok(expected),
                    "{body_bytes} bytes"
                );
            }
            for (offset, body) in templates.batch(Id::new(1, 95), 10).iter().enumerate() {
                let expected = if body_bytes >= 8 {
                    Id::new(1, 95 + offset as u64)
                } else {
                    Id::NONE
                };
                assert_eq!(verifier.read(body), Ok(expected), "{body_bytes} bytes");
            }
        }
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        for body_bytes in [1, 9, 16, 64] {
            for place in 0..body_bytes {
                let mut body = Templates::new(body_bytes, 7).one(Id::new(3, 5)).to_vec();
                body[place] ^= 0x40;
                // A 1-byte message may by chance be another one's pattern; 0x40 was chosen so that here it is not. A new
                // verifier samples its first message, so that the pattern is looked at as well. A body of 9 bytes has a
                // tag of one byte, which some other id may also have; not with these.
                assert!(
                    Verifier::new(body_bytes, 7).read(&body).is_err(),
                    "byte {place} of {body_bytes}"
                );
            }
        }
    }

    #[test]
    fn another_length_another_seed_another_pattern() {
        let mut templates = Templates::new(32, 7);
        let body = templates.one(Id::new(0, 1)).to_vec();
        assert_eq!(
            Verifier::new(31, 7).read(&body[..31]),
            Err(Corrupt("id and tag disagree"))
        );
        assert_eq!(Verifier::new(32, 7).read(&body[..31]), Err(Corrupt("length")));
        assert!(Verifier::new(32, 8).read(&body).is_err());
        let mut mixed_up = templates.one(Id::new(0, 2)).to_vec();
        mixed_up[8..24].copy_from_slice(&body[8..24]);
        assert_eq!(Verifier::new(32, 7).read(&mixed_up), Err(Corrupt("pattern")));
    }

    #[test]
    fn ids_keep_their_parts() {
        let id = Id::new(u16::MAX, (1 << 48) - 1);
        assert_eq!((id.producer(), id.sequence()), (65535, (1 << 48) - 1));
        assert_eq!(format!("{:?}", Id::new(2, 9)), "2:9");
    }
}
