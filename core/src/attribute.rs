//! Message attributes: what they are, which ones SQS accepts, which ones a receiver asked for.

use std::{error::Error, fmt};

use crate::config::ATTRIBUTES_MAX;

/// Longest name in characters (SQS).
const NAME_MAX: usize = 256;
/// Longest data type in bytes, label included (SQS).
const TYPE_MAX: usize = 256;
/// Longest message group id in characters (SQS).
const GROUP_MAX: usize = 128;
/// Most significant digits of a number (SQS).
const DIGITS_MAX: usize = 38;
/// A number other than 0 is at least ten to this power (SQS) …
const POWER_MIN: i64 = -128;
/// … and at most ten to this one.
const POWER_MAX: i64 = 126;

/// A name and a typed value that travel with a message, next to its body.
///
/// The rules are those of SQS's `MessageAttributeValue`; they are checked when the message is sent, not here:
///
/// * at most [`ATTRIBUTES_MAX`](crate::limits::ATTRIBUTES_MAX) a message;
/// * a name has 1 to 256 characters: letters and digits (of any script, as SQS itself accepts them), `_`, `-` and `.`,
///   no `.` at either end, no two in a row; it is unique in its message, and does not begin with `AWS.` or `Amazon.` in
///   any case of letters;
/// * a data type is `String`, `Number` or `Binary`, if need be with a label after a dot (`Number.int`), of at most 256
///   bytes in all;
/// * a value has at least one byte. The text of a `String` keeps to the characters of XML 1.0; a `Number` has at most 38
///   significant digits and is 0 or of a magnitude of 10^-128 to 10^126. Either is kept as it was sent.
///
/// ```
/// use epoq::{Attribute, AttributeValue};
///
/// const SHOP: Attribute<'_> = Attribute::string("shop", "Oslo");
/// let count = Attribute::number("count", "42").with_type("Number.int");
/// assert_eq!(count.data_type, "Number.int");
/// assert_eq!(count.value, AttributeValue::Text("42"));
/// assert_eq!(SHOP.size(), "shop".len() + "String".len() + "Oslo".len());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The name, 1 to 256 characters, case-sensitive.
    pub name: &'a str,
    /// `String`, `Number` or `Binary`, and perhaps a label after a dot; at most 256 bytes.
    pub data_type: &'a str,
    /// The value, of the kind that the data type says.
    pub value: AttributeValue<'a>,
}

/// The value of an [`Attribute`].
///
/// ```
/// use epoq::{Attribute, AttributeValue};
/// assert_eq!(Attribute::binary("thumbnail", &[0, 1]).value, AttributeValue::Binary(&[0, 1]));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttributeValue<'a> {
    /// The value of a `String` or a `Number`.
    Text(&'a str),
    /// The value of a `Binary`.
    Binary(&'a [u8]),
}

impl<'a> AttributeValue<'a> {
    const fn bytes(&self) -> &'a [u8] {
        match *self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

impl<'a> Attribute<'a> {
    /// An attribute of type `String`.
    #[must_use]
    pub const fn string(name: &'a str, value: &'a str) -> Self {
        Self {
            name,
            data_type: "String",
            value: AttributeValue::Text(value),
        }
    }

    /// An attribute of type `Number`. The text stays as it is: `1.0` is not made `1`.
    #[must_use]
    pub const fn number(name: &'a str, text: &'a str) -> Self {
        Self {
            name,
            data_type: "Number",
            value: AttributeValue::Text(text),
        }
    }

    /// An attribute of type `Binary`.
    #[must_use]
    pub const fn binary(name: &'a str, bytes: &'a [u8]) -> Self {
        Self {
            name,
            data_type: "Binary",
            value: AttributeValue::Binary(bytes),
        }
    }

    /// The same attribute with another data type, which is how a label is given: `Number.int`.
    #[must_use]
    pub const fn with_type(mut self, data_type: &'a str) -> Self {
        self.data_type = data_type;
        self
    }

    /// What the attribute counts towards the size of its message, in bytes: name, data type (label included) and value
    /// (SQS). O(1).
    #[must_use]
    pub const fn size(&self) -> usize {
        self.name.len() + self.data_type.len() + self.value.bytes().len()
    }
}

/// Why the attributes of a message were refused. An `index` is the attribute's place in what was given, from 0.
///
/// The rules are listed at [`Attribute`].
///
/// ```
/// use epoq::AttributeError;
/// let error = AttributeError::ValueEmpty { index: 2 };
/// assert_eq!(error.to_string(), "attribute 2: a value has at least 1 byte");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttributeError {
    /// A message has at most `limit` attributes.
    TooMany {
        /// How many were given.
        given: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A name has at least one character.
    NameEmpty {
        /// Which attribute.
        index: usize,
    },
    /// A name has at most `limit` characters.
    NameTooLong {
        /// Which attribute.
        index: usize,
        /// The name's length in characters.
        length: usize,
        /// The limit in characters.
        limit: usize,
    },
    /// A name begins with `AWS.` or `Amazon.`, in whatever case.
    NameReserved {
        /// Which attribute.
        index: usize,
    },
    /// A name has another character than letters, digits, `_`, `-` and `.`, or a `.` at an end or after another.
    NameInvalid {
        /// Which attribute.
        index: usize,
    },
    /// An attribute before this one has the same name.
    NameTwice {
        /// Which attribute: the later of the two.
        index: usize,
    },
    /// A data type has at most `limit` bytes.
    TypeTooLong {
        /// Which attribute.
        index: usize,
        /// The data type's length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A data type is `String`, `Number` or `Binary`, alone or with a label after a dot.
    TypeInvalid {
        /// Which attribute.
        index: usize,
    },
    /// The value is text and the data type `Binary`, or the other way round.
    ValueKind {
        /// Which attribute.
        index: usize,
    },
    /// A value has at least one byte.
    ValueEmpty {
        /// Which attribute.
        index: usize,
    },
    /// A text has a character that XML 1.0 cannot carry.
    ValueCharacter {
        /// Which attribute.
        index: usize,
    },
    /// The text of a `Number` is not a decimal number.
    NotANumber {
        /// Which attribute.
        index: usize,
    },
    /// A number has at most `limit` significant digits.
    NumberTooPrecise {
        /// Which attribute.
        index: usize,
        /// How many it has.
        digits: usize,
        /// How many it may have.
        limit: usize,
    },
    /// A number is 0 or of a magnitude of 10^-128 to 10^126.
    NumberOutOfRange {
        /// Which attribute.
        index: usize,
    },
}

impl fmt::Display for AttributeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { given, limit } => write!(f, "{given} attributes: the limit is {limit}"),
            Self::NameEmpty { index } => write!(f, "attribute {index}: a name has at least 1 character"),
            Self::NameTooLong { index, length, limit } => {
                write!(
                    f,
                    "attribute {index}: a name of {length} characters: the limit is {limit}"
                )
            }
            Self::NameReserved { index } => {
                write!(
                    f,
                    "attribute {index}: names that begin with \"AWS.\" or \"Amazon.\" are reserved"
                )
            }
            Self::NameInvalid { index } => write!(
                f,
                "attribute {index}: a name has letters, digits, underscores, hyphens and single dots inside"
            ),
            Self::NameTwice { index } => {
                write!(f, "attribute {index}: an attribute before it has the same name")
            }
            Self::TypeTooLong { index, length, limit } => {
                write!(
                    f,
                    "attribute {index}: a data type of {length} bytes: the limit is {limit}"
                )
            }
            Self::TypeInvalid { index } => write!(
                f,
                "attribute {index}: a data type is String, Number or Binary, alone or with a label after a dot"
            ),
            Self::ValueKind { index } => {
                write!(
                    f,
                    "attribute {index}: the value is not of the kind that the data type says"
                )
            }
            Self::ValueEmpty { index } => write!(f, "attribute {index}: a value has at least 1 byte"),
            Self::ValueCharacter { index } => {
                write!(
                    f,
                    "attribute {index}: the text has a character outside of XML 1.0"
                )
            }
            Self::NotANumber { index } => write!(f, "attribute {index}: the text is not a decimal number"),
            Self::NumberTooPrecise { index, digits, limit } => {
                write!(
                    f,
                    "attribute {index}: a number of {digits} digits: the limit is {limit}"
                )
            }
            Self::NumberOutOfRange { index } => {
                write!(
                    f,
                    "attribute {index}: a number is 0 or between 10^-128 and 10^126"
                )
            }
        }
    }
}

impl Error for AttributeError {}

/// Whether SQS would accept these as the attributes of one message, up to their size, which counts with the body's.
///
/// The first violation is reported, in the order of the attributes. One walk over the bytes; the limit on attributes
/// comes first and so bounds the comparison of their names.
pub(crate) fn check(attributes: &[Attribute<'_>]) -> Result<(), AttributeError> {
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(AttributeError::TooMany {
            given: attributes.len(),
            limit: ATTRIBUTES_MAX,
        });
    }
    for (index, attribute) in attributes.iter().enumerate() {
        check_name(index, attribute.name)?;
        if attributes
            .iter()
            .take(index)
            .any(|earlier| earlier.name == attribute.name)
        {
            return Err(AttributeError::NameTwice { index });
        }
        check_value(index, attribute)?;
    }
    Ok(())
}

fn check_name(index: usize, name: &str) -> Result<(), AttributeError> {
    if name.is_empty() {
        return Err(AttributeError::NameEmpty { index });
    }
    let length = name.chars().count();
    if length > NAME_MAX {
        return Err(AttributeError::NameTooLong {
            index,
            length,
            limit: NAME_MAX,
        });
    }
    let begins = |prefix: &str| {
        let start = name.as_bytes().get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    if begins("AWS.") || begins("Amazon.") {
        return Err(AttributeError::NameReserved { index });
    }
    // The documents allow ASCII only; SQS has been seen to accept "attr.1øßä".
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !name.chars().all(allowed) || name.split('.').any(str::is_empty) {
        return Err(AttributeError::NameInvalid { index });
    }
    Ok(())
}

fn check_value(index: usize, attribute: &Attribute<'_>) -> Result<(), AttributeError> {
    let data_type = attribute.data_type;
    if data_type.len() > TYPE_MAX {
        return Err(AttributeError::TypeTooLong {
            index,
            length: data_type.len(),
            limit: TYPE_MAX,
        });
    }
    let base = data_type.split_once('.').map_or(data_type, |(base, _label)| base);
    if !matches!(base, "String" | "Number" | "Binary") {
        return Err(AttributeError::TypeInvalid { index });
    }
    if matches!(attribute.value, AttributeValue::Binary(_)) != (base == "Binary") {
        return Err(AttributeError::ValueKind { index });
    }
    if attribute.value.bytes().is_empty() {
        return Err(AttributeError::ValueEmpty { index });
    }
    match attribute.value {
        AttributeValue::Text(text) if base == "Number" => check_number(index, text),
        AttributeValue::Text(text) if !text.chars().all(is_xml) => {
            Err(AttributeError::ValueCharacter { index })
        }
        AttributeValue::Text(_) | AttributeValue::Binary(_) => Ok(()),
    }
}

/// Whether XML 1.0 has the character (its production `Char`), and so SQS takes it in a text. Surrogates are no `char`s.
fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

/// `[+-] digits [. digits] [e [+-] digits]`, with digits before the point, after it, or both.
fn check_number(index: usize, text: &str) -> Result<(), AttributeError> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = whole.bytes().chain(fraction.bytes());
    let exponent = parse_exponent(exponent).ok_or(AttributeError::NotANumber { index })?;
    if whole.len() + fraction.len() == 0 || !digits.clone().all(|digit| digit.is_ascii_digit()) {
        return Err(AttributeError::NotANumber { index });
    }

    // SQS trims zeros at both ends, so they are not significant.
    let significant = |digit: u8| digit != b'0';
    let Some(leading) = digits.clone().position(significant) else {
        return Ok(());
    };
    let trailing = digits.clone().rev().position(significant).unwrap_or_default();
    let length = whole.len() + fraction.len() - leading - trailing;
    if length > DIGITS_MAX {
        return Err(AttributeError::NumberTooPrecise {
            index,
            digits: length,
            limit: DIGITS_MAX,
        });
    }
    // The number is d.ddd times ten to this power, d being the first significant digit.
    let power = (whole.len() as i64 - leading as i64 - 1).saturating_add(exponent);
    let is_power_of_ten = length == 1 && digits.clone().nth(leading) == Some(b'1');
    let fits = (POWER_MIN..POWER_MAX).contains(&power) || power == POWER_MAX && is_power_of_ten;
    if !fits {
        return Err(AttributeError::NumberOutOfRange { index });
    }
    Ok(())
}

/// The exponent, or the nearest there is to it: beyond 64 bits no number of digits in memory makes up for it.
fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let value = digits.bytes().fold(0i64, |value, digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    Some(if text.starts_with('-') { -value } else { value })
}

/// Whether SQS would accept `id` as a message group id: 1 to 128 ASCII letters, digits and punctuation marks.
pub(crate) fn check_group(id: &str) -> bool {
    (1..=GROUP_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Which attributes a receiver asks for: SQS's `MessageAttributeNames`. Those not asked for stay where they are.
///
/// ```
/// use epoq::AttributeFilter;
/// let filter = AttributeFilter::new(&["shop", "trace.*"]);
/// assert!(filter.matches("shop") && filter.matches("trace.id") && filter.matches("tracer"));
/// assert!(!filter.matches("Shop") && !filter.matches("shops"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttributeFilter {
    /// Every attribute; then nothing else is kept in `wanted`.
    all: bool,
    wanted: Vec<Wanted>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Name(Box<str>),
    Prefix(Box<str>),
}

impl AttributeFilter {
    /// The attributes of these names; what matches any of them is asked for.
    ///
    /// `All`, `*` and `.*` stand for every attribute, `prefix.*` for those whose names begin with `prefix`: as SQS does
    /// it, without a dot after it. Everything else is a name, which is case-sensitive; one that no attribute can have
    /// asks for nothing and is no error. Copies the names: linear in their bytes.
    #[must_use]
    pub fn new(names: &[&str]) -> Self {
        if names.iter().any(|name| matches!(*name, "All" | "*" | ".*")) {
            return Self::all();
        }
        let wanted = names.iter().map(|name| match name.strip_suffix(".*") {
            Some(prefix) => Wanted::Prefix(prefix.into()),
            None => Wanted::Name((*name).into()),
        });
        Self {
            all: false,
            wanted: wanted.collect(),
        }
    }

    /// Every attribute.
    #[must_use]
    pub const fn all() -> Self {
        Self {
            all: true,
            wanted: Vec::new(),
        }
    }

    /// No attribute: what a receive asks for unless told otherwise.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            all: false,
            wanted: Vec::new(),
        }
    }

    /// Whether the attribute of this name is asked for. Linear in the names of the filter.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.all
            || self.wanted.iter().any(|wanted| match wanted {
                Wanted::Name(wanted) => **wanted == *name,
                Wanted::Prefix(prefix) => name.starts_with(&**prefix),
            })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(attribute: Attribute<'_>) -> Option<AttributeError> {
        check(&[Attribute::string("before", "x"), attribute]).err()
    }

    fn name_refusal(name: &str) -> Option<AttributeError> {
        refusal(Attribute::string(name, "x"))
    }

    fn number_refusal(text: &str) -> Option<AttributeError> {
        refusal(Attribute::number("n", text))
    }

    #[test]
    fn at_most_ten() {
        let names: Vec<String> = (0..11).map(|n| format!("n{n}")).collect();
        let attributes: Vec<_> = names.iter().map(|name| Attribute::string(name, "x")).collect();
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&attributes[..10]), Ok(()));
        let error = AttributeError::TooMany { given: 11, limit: 10 };
        assert_eq!(check(&attributes), Err(error));
        assert_eq!(error.to_string(), "11 attributes: the limit is 10");
    }

    #[test]
    fn names_have_1_to_256_characters() {
        assert_eq!(name_refusal(""), Some(AttributeError::NameEmpty { index: 1 }));
        assert_eq!(name_refusal(&"x".repeat(256)), None);
        assert_eq!(name_refusal(&"ø".repeat(256)), None);
        let too_long = AttributeError::NameTooLong {
            index: 1,
            length: 257,
            limit: 256,
        };
        assert_eq!(name_refusal(&"x".repeat(257)), Some(too_long));
        assert_eq!(name_refusal(&"ø".repeat(257)), Some(too_long));
    }

    #[test]
    fn names_have_letters_digits_and_three_marks() {
        for name in ["a", "A-z_0.9", "_", "-", "7", "attr.1øßä", "名前", "a.b.c", "All"] {
            assert_eq!(name_refusal(name), None, "{name}");
        }
        for name in ["a b", "a/b", "a*", "a\0", "a\n", "a:b", "–", "😀", " "] {
            assert_eq!(
                name_refusal(name),
                Some(AttributeError::NameInvalid { index: 1 }),
                "{name:?}"
            );
        }
    }

    #[test]
    fn names_have_single_dots_inside() {
        for name in [".", "..", ".a", "a.", "a..b", "..foo"] {
            assert_eq!(
                name_refusal(name),
                Some(AttributeError::NameInvalid { index: 1 }),
                "{name}"
            );
        }
    }

    #[test]
    fn names_of_amazon_are_reserved() {
        for name in ["AWS.x", "aws.x", "aWs.", "Amazon.x", "AMAZON.x", "amazon.a.b"] {
            assert_eq!(
                name_refusal(name),
                Some(AttributeError::NameReserved { index: 1 }),
                "{name}"
            );
        }
        for name in ["AWS", "AWSx", "Amazon", "Amazonia", "x.AWS.y", "ÄWS.x", "awß.x"] {
            assert_eq!(name_refusal(name), None, "{name}");
        }
    }

    #[test]
    fn names_are_unique() {
        let attributes = ["a", "A", "b", "a"].map(|name| Attribute::string(name, "x"));
        assert_eq!(check(&attributes[..3]), Ok(()));
        assert_eq!(check(&attributes), Err(AttributeError::NameTwice { index: 3 }));
    }

    #[test]
    fn types_are_three_and_may_have_a_label() {
        for data_type in [
            "String",
            "String.x",
            "Number",
            "Number.java.lang.Integer",
            "Number.größe",
        ] {
            assert_eq!(
                refusal(Attribute::string("a", "1").with_type(data_type)),
                None,
                "{data_type}"
            );
        }
        for data_type in ["Binary", "Binary.png"] {
            let attribute = Attribute::binary("a", b"x").with_type(data_type);
            assert_eq!(refusal(attribute), None, "{data_type}");
        }
        for data_type in [
            "",
            "string",
            "Strings",
            ".String",
            "Float",
            "StringList",
            "Str.ing",
            "String ",
        ] {
            let attribute = Attribute::string("a", "1").with_type(data_type);
            let error = Some(AttributeError::TypeInvalid { index: 1 });
            assert_eq!(refusal(attribute), error, "{data_type}");
        }
    }

    #[test]
    fn types_have_at_most_256_bytes() {
        let longest = format!("String.{}", "x".repeat(249));
        assert_eq!(refusal(Attribute::string("a", "1").with_type(&longest)), None);
        let error = AttributeError::TypeTooLong {
            index: 1,
            length: 257,
            limit: 256,
        };
        let longer = longest + "x";
        assert_eq!(
            refusal(Attribute::string("a", "1").with_type(&longer)),
            Some(error)
        );
    }

    #[test]
    fn values_are_of_their_types_kind() {
        let error = Some(AttributeError::ValueKind { index: 1 });
        assert_eq!(refusal(Attribute::string("a", "1").with_type("Binary.x")), error);
        assert_eq!(refusal(Attribute::binary("a", b"1").with_type("String")), error);
        assert_eq!(refusal(Attribute::binary("a", b"1").with_type("Number")), error);
    }

    #[test]
    fn values_are_not_empty() {
        let error = Some(AttributeError::ValueEmpty { index: 1 });
        assert_eq!(refusal(Attribute::string("a", "")), error);
        assert_eq!(refusal(Attribute::number("a", "")), error);
        assert_eq!(refusal(Attribute::binary("a", b"")), error);
    }

    #[test]
    fn texts_keep_to_the_characters_of_xml() {
        for text in [
            "\t\n\r ~",
            "\u{7f}\u{d7ff}\u{e000}\u{fffd}",
            "\u{10000}\u{10ffff}",
            "größe 😀",
        ] {
            assert_eq!(refusal(Attribute::string("a", text)), None, "{text:?}");
        }
        for text in ["\0", "a\u{1}", "\u{b}", "\u{c}", "\u{1f}", "\u{fffe}", "\u{ffff}"] {
            let error = Some(AttributeError::ValueCharacter { index: 1 });
            assert_eq!(refusal(Attribute::string("a", text)), error, "{text:?}");
        }
        assert_eq!(refusal(Attribute::binary("a", &[0, 0xff])), None);
    }

    #[test]
    fn numbers_are_decimal() {
        for text in [
            "0",
            "-1",
            "+1",
            "1493147359900",
            "1.5",
            ".5",
            "5.",
            "1e3",
            "1E-3",
            "-1.5e+07",
            "007",
        ] {
            assert_eq!(number_refusal(text), None, "{text}");
        }
        for text in [
            ".",
            "-",
            "+",
            "e5",
            ".e5",
            "1e",
            "1e+",
            "1e5.0",
            "1.2.3",
            "--1",
            "1-",
            "1_000",
            "0x1f",
            "1 ",
            " 1",
            "٣",
            "NaN",
            "inf",
            "1e5e5",
            "1e99999999999999999999x",
            "0e99999999999999999999x",
            "1,5",
            "1\n",
        ] {
            assert_eq!(
                number_refusal(text),
                Some(AttributeError::NotANumber { index: 1 }),
                "{text:?}"
            );
        }
    }

    #[test]
    fn numbers_have_38_significant_digits() {
        let nines = "9".repeat(38);
        for text in [
            &nines,
            &format!("000{nines}000"),
            &format!("0.00{nines}"),
            &format!("-{nines}.000e3"),
        ] {
            assert_eq!(number_refusal(text), None, "{text}");
        }
        let error = AttributeError::NumberTooPrecise {
            index: 1,
            digits: 39,
            limit: 38,
        };
        let inner_zeros = format!("1{}1", "0".repeat(37));
        for text in [
            &format!("{nines}9"),
            &format!("9.{nines}"),
            &inner_zeros,
            &format!("{inner_zeros}e-5"),
        ] {
            assert_eq!(number_refusal(text), Some(error), "{text}");
        }
    }

    #[test]
    fn numbers_have_a_magnitude_of_minus_128_to_126() {
        let written_out = format!("1{}", "0".repeat(126));
        let smallest_out = format!("0.{}1", "0".repeat(127));
        let huge_but_zero = format!("0.{}e99999999999999999999", "0".repeat(300));
        let long_way_round = format!("0.{}1e400", "0".repeat(399));
        for text in [
            "1e126",
            "-1e126",
            "0.1e127",
            "10e125",
            "9.99e125",
            "1e-128",
            "9e-128",
            "10e-129",
            "0.01e-126",
            "0e999",
            "-0.0",
            &written_out,
            &smallest_out,
            &huge_but_zero,
            &long_way_round,
        ] {
            assert_eq!(number_refusal(text), None, "{text}");
        }
        let beyond = format!("{written_out}0");
        let below = format!("0.{}9", "0".repeat(128));
        for text in [
            "2e126",
            "1.1e126",
            "1e127",
            "-1e127",
            "1e-129",
            "9.9e-129",
            "1e99999999999999999999",
            "1e-99999999999999999999",
            &beyond,
            &below,
        ] {
            assert_eq!(
                number_refusal(text),
                Some(AttributeError::NumberOutOfRange { index: 1 }),
                "{text}"
            );
        }
    }

    #[test]
    fn every_refusal_says_which_attribute() {
        let (index, length, limit) = (3, 300, 256);
        let errors = [
            AttributeError::NameEmpty { index },
            AttributeError::NameTooLong { index, length, limit },
            AttributeError::NameReserved { index },
            AttributeError::NameInvalid { index },
            AttributeError::NameTwice { index },
            AttributeError::TypeTooLong { index, length, limit },
            AttributeError::TypeInvalid { index },
            AttributeError::ValueKind { index },
            AttributeError::ValueEmpty { index },
            AttributeError::ValueCharacter { index },
            AttributeError::NotANumber { index },
            AttributeError::NumberTooPrecise {
                index,
                digits: 39,
                limit: 38,
            },
            AttributeError::NumberOutOfRange { index },
        ];
        let texts: std::collections::HashSet<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), errors.len());
        assert!(texts.iter().all(|text| text.starts_with("attribute 3: ")));
    }

    #[test]
    fn sizes_count_name_type_and_value() {
        assert_eq!(Attribute::string("ä", "ö").size(), 2 + 6 + 2);
        assert_eq!(
            Attribute::binary("a", &[0; 100]).with_type("Binary.png").size(),
            1 + 10 + 100
        );
    }

    #[test]
    fn groups_have_1_to_128_letters_digits_and_marks() {
        let every: String = ('!'..='~').collect();
        for id in ["a", "customer-7", &every, &"x".repeat(128)] {
            assert!(check_group(id), "{id}");
        }
        for id in ["", "a b", "a\t", "ä", "\u{7f}", "\0", &"x".repeat(129)] {
            assert!(!check_group(id), "{id:?}");
        }
    }

    #[test]
    fn filters_by_exact_name() {
        let filter = AttributeFilter::new(&["Hello", "Help.Me"]);
        assert!(filter.matches("Hello") && filter.matches("Help.Me"));
        assert!(!filter.matches("hello") && !filter.matches("Hell") && !filter.matches("Hello2"));
    }

    #[test]
    fn filters_by_prefix_without_a_dot() {
        let filter = AttributeFilter::new(&["Hel.*"]);
        assert!(filter.matches("Hello") && filter.matches("Help.Me") && filter.matches("Hel"));
        assert!(!filter.matches("hello") && !filter.matches("He"));
    }

    #[test]
    fn filters_for_all() {
        for names in [&["All"][..], &[".*"], &["*"], &["x", "All"], &["..foo", "*"]] {
            let filter = AttributeFilter::new(names);
            assert!(filter.matches("Hello") && filter.matches("x.y"));
            assert_eq!(filter, AttributeFilter::all());
        }
        assert!(!AttributeFilter::new(&["all"]).matches("Hello"));
    }

    #[test]
    fn filters_for_none() {
        assert!(!AttributeFilter::none().matches("Hello"));
        assert_eq!(AttributeFilter::new(&[]), AttributeFilter::none());
        assert_eq!(AttributeFilter::default(), AttributeFilter::none());
    }

    #[test]
    fn names_no_attribute_can_have_ask_for_nothing() {
        let filter = AttributeFilter::new(&["AWS.", "..foo", "", "Hel*", "**", "nobody"]);
        assert!(!filter.matches("Hello") && !filter.matches("foo") && !filter.matches("Help.Me"));
        assert!(AttributeFilter::new(&["..foo", "Hello"]).matches("Hello"));
    }

    proptest! {
        #[test]
        fn nothing_makes_a_check_panic(name in any::<String>(), data_type in any::<String>(), text in any::<String>()) {
            let attribute = Attribute::string(&name, &text).with_type(&data_type);
            let numeric = Attribute::number(&name, &text);
            let _ = (check(&[attribute]), check(&[numeric]), check_group(&name));
            // By itself, by its prefix, or because it asks for all.
            prop_assert!(AttributeFilter::new(&[&name]).matches(&name));
        }

        #[test]
        fn what_is_accepted_as_a_number_is_one(text in "[+-]?[0-9]{0,3}\\.?[0-9]{0,3}(e[+-]?[0-9]{0,2})?") {
            prop_assert_eq!(number_refusal(&text).is_none(), text.parse::<f64>().is_ok(), "{}", text);
        }
    }
}
