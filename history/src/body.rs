//! Bodies that tell their token, and whether a byte of them is wrong.

/// Hexadecimal digits of a token.
const DIGITS: usize = 16;

/// A body of this token, of at least 16 bytes; as a text, so that it can travel in any protocol.
#[must_use]
pub fn body_of(token: u64, length: usize) -> String {
    let mut body = format!("{token:0DIGITS$x}");
    let mut state = token;
    while body.len() < length {
        state = mix(state);
        body.push(char::from(b'a' + (state % 26) as u8));
    }
    body
}

/// The token of such a body; `None` if it is not exactly as it was made.
#[must_use]
pub fn token_of(body: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(body.get(..DIGITS)?).ok()?;
    let token = u64::from_str_radix(digits, 16).ok()?;
    (body_of(token, body.len()).as_bytes() == body).then_some(token)
}

/// A message id from what a protocol calls it: the number that a UUID is, or a hash of any other text.
#[must_use]
pub fn id_of(text: &str) -> u128 {
    // FNV-1a.
    uuid_of(text.as_bytes()).unwrap_or_else(|| {
        text.bytes()
            .fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
                (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
            })
    })
}

/// The number that a UUID is, wherever its hyphens stand.
fn uuid_of(text: &[u8]) -> Option<u128> {
    const BYTES: usize = 36;
    if text.len() != BYTES {
        return None;
    }
    let (mut id, mut digits) = (0, 0);
    for &byte in text {
        let digit = match byte {
            b'-' => continue,
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return None,
        };
        id = id << 4 | u128::from(digit);
        digits += 1;
    }
    (digits == 32).then_some(id)
}

/// The next of a stream of numbers that look random: SplitMix64.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Repeatable choices, a stream per seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Below `below`, or zero.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.next().checked_rem(below).unwrap_or(0)
    }

    /// True `percent` times in a hundred.
    pub(crate) fn percent(&mut self, percent: u8) -> bool {
        self.below(100) < u64::from(percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts() {
        for length in [0, 16, 17, 200] {
            let body = body_of(77, length).into_bytes();
            assert_eq!(body.len(), length.max(16));
            assert_eq!(token_of(&body), Some(77));
            for at in 0..body.len() {
                let mut damaged = body.clone();
                damaged[at] ^= 1;
                assert_ne!(token_of(&damaged), Some(77), "byte {at}");
            }
        }
        assert_eq!(token_of(b"short"), None);
        assert_eq!(token_of("+000000000000001".as_bytes()), None);
    }

    #[test]
    fn ids_of_texts() {
        assert_eq!(id_of("00000000-0000-0000-0000-0000000000ff"), 255);
        assert_eq!(id_of("F0000000-0000-0000-0000-00000000000A"), 15 << 124 | 10);
        // As long as a UUID, and none.
        for text in [
            "+0000000-0000-0000-0000-0000000000ff",
            "000000000-0000-0000-0000-0000000000ff",
        ] {
            assert!(id_of(text) > 255, "{text}");
        }
        assert_ne!(id_of("one"), id_of("two"));
        assert_eq!(id_of("one"), id_of("one"));
    }
}
