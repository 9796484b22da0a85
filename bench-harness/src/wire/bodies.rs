//! Bodies that say which message they are, as text that needs no escaping, and so cheap to make and to check that the client's part stays
//! small.
//!
//! ```text
//! | token: 16 hexadecimal digits | letters, from a place in a fixed text that the token chooses … |
//! ```

use crate::scenarios::desk::Random;

/// What every body of one run is made of.
#[derive(Clone, Debug)]
pub(super) struct Bodies {
    letters: Vec<u8>,
    length: usize,
}

impl Bodies {
    /// Digits of a token.
    pub(super) const DIGITS: usize = 16;
    /// Places at which a body's letters can begin.
    const PLACES: usize = 64;

    /// Bodies of `length` bytes, [`Self::DIGITS`] at least.
    pub(super) fn new(length: usize, seed: u64) -> Self {
        let length = length.max(Self::DIGITS);
        let mut random = Random::new(seed, 0);
        let letters = (0..length - Self::DIGITS + Self::PLACES)
            .map(|_| b'a' + random.below(26) as u8)
            .collect();
        Self { letters, length }
    }

    /// Bytes of each.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Writes the body of a message; `body` has [`Self::length`] bytes.
    pub(super) fn write(&self, token: u64, body: &mut [u8]) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let (digits, letters) = body.split_at_mut(Self::DIGITS);
        for (at, digit) in digits.iter_mut().enumerate() {
            *digit = HEX[(token >> (60 - 4 * at)) as usize & 15];
        }
        letters.copy_from_slice(self.letters_of(token));
    }

    /// Whose body it is; `None` if it is not exactly as it was written.
    pub(super) fn read(&self, body: &[u8]) -> Option<u64> {
        if body.len() != self.length {
            return None;
        }
        let (digits, letters) = body.split_at(Self::DIGITS);
        let mut token = 0;
        for &digit in digits {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            token = token << 4 | u64::from(value);
        }
        (letters == self.letters_of(token)).then_some(token)
    }

    fn letters_of(&self, token: u64) -> &[u8] {
        let place = token as usize % Self::PLACES;
        &self.letters[place..place + self.length - Self::DIGITS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts() {
        for length in [0, 16, 17, 64, 1000] {
            let bodies = Bodies::new(length, 1);
            let mut body = vec![0; bodies.length()];
            for token in [0, 77, u64::MAX] {
                bodies.write(token, &mut body);
                assert_eq!(bodies.read(&body), Some(token));
                for at in 0..body.len() {
                    let mut damaged = body.clone();
                    damaged[at] ^= 1;
                    assert_ne!(bodies.read(&damaged), Some(token), "byte {at}");
                }
                assert_eq!(bodies.read(&body[1..]), None);
            }
        }
    }
}
