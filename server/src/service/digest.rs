//! The MD5 digests by which SDKs check what they sent and received.

use std::fmt;

use epoq::{Attribute, AttributeValue};
use md5::{Digest, Md5};

/// A digest in lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hex([u8; 32]);

impl Hex {
    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The MD5 of a body.
pub(crate) fn of_body(body: &[u8]) -> Hex {
    Hex(digits(Md5::digest(body).into()))
}

/// The MD5 of attributes: in the order of their names, name, type, kind and value, each with its length before it.
pub(crate) fn of_attributes(attributes: &[Attribute<'_>]) -> Hex {
    let mut sorted: Vec<_> = attributes.iter().collect();
    sorted.sort_unstable_by_key(|attribute| attribute.name);
    let mut digest = Md5::new();
    let mut part = |bytes: &[u8], kind: Option<u8>| {
        if let Some(kind) = kind {
            digest.update([kind]);
        }
        // At most the length of a request, so it has room.
        digest.update(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        digest.update(bytes);
    };
    for attribute in sorted {
        part(attribute.name.as_bytes(), None);
        part(attribute.data_type.as_bytes(), None);
        match attribute.value {
            AttributeValue::Text(text) => part(text.as_bytes(), Some(1)),
            AttributeValue::Binary(bytes) => part(bytes, Some(2)),
        }
    }
    Hex(digits(digest.finalize().into()))
}

const DIGITS: [u8; 16] = *b"0123456789abcdef";

fn pair(byte: u8) -> [u8; 2] {
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

fn digits(bytes: [u8; 16]) -> [u8; 32] {
    let mut digits = [0; 32];
    for (digits, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        digits.copy_from_slice(&pair(byte));
    }
    digits
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for &byte in bytes {
        text.extend(pair(byte).map(char::from));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        for (body, md5) in [
            ("test", "098f6bcd4621d373cade4e832627b4f6"),
            ("message", "78e731027d8fd50ed642340b7c9a63b3"),
            ("foobar", "3858f62230ac3c915f300c664312c63f"),
            ("héllo wörld ✓", "aa0c8a307a4488bfe0cb56530da19bc3"),
        ] {
            assert_eq!(of_body(body.as_bytes()).as_str(), md5);
        }
    }

    #[test]
    fn attributes() {
        let general = Attribute::string("General", "Kenobi");
        let hello = Attribute::string("Hello", "There");
        let help = Attribute::string("Help.Me", "Me");
        let trace = b"traceparent\x1e00-774062d6c37081a5a0b9b5b88e30627c-2d2482211f6489da-01";
        let header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        let cases: &[(&[Attribute<'_>], &str)] = &[
            (
                &[Attribute::string("Foo", "Bar")],
                "ae7155c6026991b6d54b11589678bf9c",
            ),
            (&[Attribute::string("k", "x")], "a45daa70926828a2f0a1db3418e6feb4"),
            (
                &[Attribute::string("MyAttribute", "foobar")],
                "adb59cd4678ea5a855436b949cd07ab6",
            ),
            (
                &[Attribute::number("timestamp", "1493147359900")],
                "235c5c510d26fb653d073faed50ae77c",
            ),
            (
                &[Attribute::binary("attr1", trace)],
                "8cbe4db156db8a94db8b801b7addb984",
            ),
            (
                &[Attribute::binary("bin", &[0, 1, 2])],
                "6a64fe1652436ab8bf8c6e61d79f45b8",
            ),
            (&[Attribute::number("n", "1")], "ef88bdc4583394a9f2bcdc6a6f0ccbfe"),
            (
                &[Attribute::number("n", "1").with_type("Number.int")],
                "750ab39764677e6976a138b26d56e5e8",
            ),
            (&[hello, help, general], "4c360f3fdafd970e05fae2f149d997f5"),
            (&[hello, general], "fca026605781cb4126a1e9044df24232"),
            (&[hello], "a311262e065454b75da111d535b8dacd"),
            (&[hello, help], "83fee93c1bcd8b9a5a923ffacdc636c7"),
            (
                &[
                    Attribute::number("a", "42").with_type("Number.int"),
                    Attribute::string("_z", "é"),
                    Attribute::binary("B", &[0, 255, 16]).with_type("Binary.png"),
                    Attribute::string("A", "x"),
                ],
                "6231cbf2d981cf57bb765342b1b22a20",
            ),
            (
                &[Attribute::string("AWSTraceHeader", header)],
                "5ae4d5d7636402d80f4eb6d213245a88",
            ),
        ];
        for (attributes, md5) in cases {
            assert_eq!(of_attributes(attributes).as_str(), *md5, "{attributes:?}");
        }
    }
}
