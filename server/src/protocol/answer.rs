//! What operations answer, written once for both protocols: a JSON object, or an XML document.

use std::{fmt, io::Write as _};

use base64::Engine as _;

use super::{Protocol, action::Action, input::BASE64};
use crate::error::{Kind, ServiceError};

const NAMESPACE: &str = "http://queue.amazonaws.com/doc/2012-11-05/";

/// An answer under way: bytes, and what it takes to go on.
#[derive(Debug)]
pub struct Answer {
    protocol: Protocol,
    bytes: Vec<u8>,
    /// Whether the next member of an object has another one before it.
    follows: bool,
}

impl Answer {
    /// The beginning of an operation's answer.
    #[must_use]
    pub fn begin(protocol: Protocol, action: Action) -> Self {
        let mut answer = Self {
            protocol,
            bytes: Vec::with_capacity(512),
            follows: false,
        };
        match protocol {
            Protocol::Json => answer.raw("{"),
            Protocol::Query => {
                answer.raw("<?xml version=\"1.0\"?><");
                answer.raw(action.name());
                answer.raw("Response xmlns=\"");
                answer.raw(NAMESPACE);
                answer.raw("\">");
                if action.has_result() {
                    answer.raw("<");
                    answer.raw(action.name());
                    answer.raw("Result>");
                }
            }
        }
        answer
    }

    /// The whole answer.
    #[must_use]
    pub fn end(mut self, action: Action, request_id: &str) -> Vec<u8> {
        match self.protocol {
            // Operations without a result have an empty body.
            Protocol::Json if !action.has_result() => self.bytes.clear(),
            Protocol::Json => self.raw("}"),
            Protocol::Query => {
                if action.has_result() {
                    self.raw("</");
                    self.raw(action.name());
                    self.raw("Result>");
                }
                self.raw("<ResponseMetadata><RequestId>");
                self.raw(request_id);
                self.raw("</RequestId></ResponseMetadata></");
                self.raw(action.name());
                self.raw("Response>");
            }
        }
        self.bytes
    }

    /// A refusal.
    #[must_use]
    pub fn error(protocol: Protocol, error: &ServiceError, request_id: &str) -> Vec<u8> {
        let mut answer = Self {
            protocol,
            bytes: Vec::with_capacity(256),
            follows: false,
        };
        let kind = error.kind;
        match protocol {
            Protocol::Json => {
                answer.raw("{\"__type\":\"");
                answer.raw(kind.namespace());
                answer.raw("#");
                answer.raw(kind.shape());
                answer.raw("\",\"message\":");
                answer.json_text(&error.message);
                answer.raw("}");
            }
            // This one SQS says in a word.
            Protocol::Query if kind == Kind::UnknownOperation => answer.raw("<UnknownOperationException/>"),
            Protocol::Query => {
                answer.raw("<?xml version=\"1.0\"?><ErrorResponse xmlns=\"");
                answer.raw(NAMESPACE);
                answer.raw("\"><Error><Type>");
                answer.raw(if kind.status() < 500 { "Sender" } else { "Receiver" });
                answer.raw("</Type><Code>");
                answer.raw(kind.code());
                answer.raw("</Code><Message>");
                match kind {
                    Kind::QueueDoesNotExist => {
                        answer.raw("The specified queue does not exist for this wsdl version.");
                    }
                    _ => answer.xml_text(&error.message),
                }
                answer.raw("</Message><Detail/></Error><RequestId>");
                answer.raw(request_id);
                answer.raw("</RequestId></ErrorResponse>");
            }
        }
        answer.bytes
    }

    /// A member that is a text.
    pub fn text(&mut self, name: &str, text: &str) {
        self.open(name);
        match self.protocol {
            Protocol::Json => self.json_text(text),
            Protocol::Query => self.xml_text(text),
        }
        self.close(name);
    }

    /// A member that is a text of letters, digits and hyphens, which nothing of has to be escaped.
    pub fn plain(&mut self, name: &str, text: &impl fmt::Display) {
        self.open(name);
        let quotes = if self.protocol == Protocol::Json { "\"" } else { "" };
        self.raw(quotes);
        // Writing to memory does not fail.
        let _ = write!(self.bytes, "{text}");
        self.raw(quotes);
        self.close(name);
    }

    /// Room for so many bytes more, so that a long answer does not move while it grows.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// A member that is a number.
    pub fn number(&mut self, name: &str, number: u64) {
        self.open(name);
        // As above.
        let _ = write!(self.bytes, "{number}");
        self.close(name);
    }

    /// A member that is true or false.
    pub fn boolean(&mut self, name: &str, value: bool) {
        self.open(name);
        self.raw(if value { "true" } else { "false" });
        self.close(name);
    }

    /// A member that is bytes, in Base64.
    pub fn blob(&mut self, name: &str, bytes: &[u8]) {
        self.open(name);
        if self.protocol == Protocol::Json {
            self.raw("\"");
        }
        let mut text = String::new();
        BASE64.encode_string(bytes, &mut text);
        self.raw(&text);
        if self.protocol == Protocol::Json {
            self.raw("\"");
        }
        self.close(name);
    }

    /// A member that is a structure.
    pub fn structure(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.open(name);
        self.object(write);
        self.close(name);
    }

    /// A list of texts: the member `json` of an object, or elements `xml`. An empty one is left out.
    pub fn texts<T: AsRef<str>>(&mut self, json: &str, xml: &str, texts: impl IntoIterator<Item = T>) {
        self.elements(json, xml, texts, |answer, text| match answer.protocol {
            Protocol::Json => answer.json_text(text.as_ref()),
            Protocol::Query => answer.xml_text(text.as_ref()),
        });
    }

    /// A list of structures: the member `json` of an object, or elements `xml`. An empty one is left out.
    pub fn structures<T>(
        &mut self,
        json: &str,
        xml: &str,
        items: impl IntoIterator<Item = T>,
        write: impl Fn(&mut Self, T),
    ) {
        self.elements(json, xml, items, |answer, item| {
            answer.object(|answer| write(answer, item));
        });
    }

    /// A map: the member `json` of an object, or elements `xml` with their key in `key` and what `write` writes beside it: a member
    /// `Value`, which is what stands by the key in JSON. An empty one is left out.
    pub fn map<K: AsRef<str>, V>(
        &mut self,
        json: &str,
        xml: &str,
        key: &str,
        pairs: impl IntoIterator<Item = (K, V)>,
        write: impl Fn(&mut Self, &str, V),
    ) {
        let mut pairs = pairs.into_iter().peekable();
        if pairs.peek().is_none() {
            return;
        }
        match self.protocol {
            Protocol::Json => {
                self.open(json);
                self.object(|answer| {
                    for (name, value) in pairs {
                        write(answer, name.as_ref(), value);
                    }
                });
                self.close(json);
            }
            Protocol::Query => {
                for (name, value) in pairs {
                    self.open(xml);
                    self.text(key, name.as_ref());
                    write(self, "Value", value);
                    self.close(xml);
                }
            }
        }
    }

    /// A map of texts, as [`Answer::map`].
    pub fn text_map<K: AsRef<str>, V: AsRef<str>>(
        &mut self,
        json: &str,
        xml: &str,
        key: &str,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) {
        self.map(json, xml, key, pairs, |answer, name, value| {
            answer.text(name, value.as_ref());
        });
    }

    fn elements<T>(
        &mut self,
        json: &str,
        xml: &str,
        items: impl IntoIterator<Item = T>,
        write: impl Fn(&mut Self, T),
    ) {
        let mut items = items.into_iter().peekable();
        if items.peek().is_none() {
            return;
        }
        match self.protocol {
            Protocol::Json => {
                self.open(json);
                self.raw("[");
                while let Some(item) = items.next() {
                    write(self, item);
                    if items.peek().is_some() {
                        self.raw(",");
                    }
                }
                self.raw("]");
                self.close(json);
            }
            Protocol::Query => {
                for item in items {
                    self.open(xml);
                    write(self, item);
                    self.close(xml);
                }
            }
        }
    }

    fn object(&mut self, write: impl FnOnce(&mut Self)) {
        if self.protocol == Protocol::Query {
            return write(self);
        }
        let follows = std::mem::replace(&mut self.follows, false);
        self.raw("{");
        write(self);
        self.raw("}");
        self.follows = follows;
    }

    fn open(&mut self, name: &str) {
        match self.protocol {
            Protocol::Json => {
                if std::mem::replace(&mut self.follows, true) {
                    self.raw(",");
                }
                self.json_text(name);
                self.raw(":");
            }
            Protocol::Query => {
                self.raw("<");
                self.raw(name);
                self.raw(">");
            }
        }
    }

    fn close(&mut self, name: &str) {
        match self.protocol {
            Protocol::Json => self.follows = true,
            Protocol::Query => {
                self.raw("</");
                self.raw(name);
                self.raw(">");
            }
        }
    }

    fn raw(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn json_text(&mut self, text: &str) {
        // Looked at without a way out, which the compiler makes many bytes at a time of.
        let is_escaped = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
        if text.bytes().fold(false, |found, byte| found | is_escaped(byte)) {
            // Writing a text to memory does not fail.
            let _ = serde_json::to_writer(&mut self.bytes, text);
        } else {
            self.raw("\"");
            self.raw(text);
            self.raw("\"");
        }
    }

    /// Escaped as SQS does it: a carriage return as a reference, because parsers make a line feed of a plain one, which would spoil
    /// the MD5.
    fn xml_text(&mut self, text: &str) {
        // In UTF-8: U+FFFE and U+FFFF.
        const NO_CHARACTERS: [&[u8]; 2] = [b"\xef\xbf\xbe", b"\xef\xbf\xbf"];
        let bytes = text.as_bytes();
        let mut done = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let (reference, length) = match byte {
                b'&' => ("&amp;", 1),
                b'<' => ("&lt;", 1),
                b'>' => ("&gt;", 1),
                b'"' => ("&quot;", 1),
                b'\r' => ("&#xD;", 1),
                // What XML 1.0 has no way to write; no message has it, but texts that repeat a request may.
                0..=8 | 11 | 12 | 14..=31 => ("\u{fffd}", 1),
                0xef if NO_CHARACTERS.iter().any(|none| bytes[at..].starts_with(none)) => ("\u{fffd}", 3),
                _ => continue,
            };
            self.bytes.extend_from_slice(&bytes[done..at]);
            self.bytes.extend_from_slice(reference.as_bytes());
            done = at + length;
        }
        self.bytes.extend_from_slice(&bytes[done..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol, write: impl Fn(&mut Answer)) -> String {
        let mut answer = Answer::begin(protocol, Action::ListQueues);
        write(&mut answer);
        String::from_utf8(answer.end(Action::ListQueues, "id")).expect("UTF-8")
    }

    #[test]
    fn one_description_two_protocols() {
        let write = |answer: &mut Answer| {
            answer.text("A", "x\"<\r&\u{1}\u{fffe}é");
            answer.texts("Bs", "B", ["1", "2"]);
            answer.plain("P", &"p-1");
            answer.texts("Nones", "None", [""; 0]);
            answer.structures("Cs", "C", [1, 2], |answer, number| {
                answer.number("N", number);
                answer.boolean("Odd", number % 2 == 1);
            });
            answer.map(
                "Ds",
                "D",
                "Name",
                [("k", b"ab"), ("l", b"cd")],
                |answer, name, value| {
                    answer.structure(name, |answer| answer.blob("V", value));
                },
            );
            answer.text_map("Es", "E", "Key", [("k", "v")]);
        };
        assert_eq!(
            written(Protocol::Json, write),
            r#"{"A":"x\"<\r&\u0001"#.to_owned()
                + "\u{fffe}é"
                + r#"","Bs":["1","2"],"P":"p-1","Cs":[{"N":1,"Odd":true},{"N":2,"Odd":false}],"#
                + r#""Ds":{"k":{"V":"YWI="},"l":{"V":"Y2Q="}},"Es":{"k":"v"}}"#
        );
        assert_eq!(
            written(Protocol::Query, write),
            "<?xml version=\"1.0\"?><ListQueuesResponse xmlns=\"http://queue.amazonaws.com/doc/2012-11-05/\">\
             <ListQueuesResult><A>x&quot;&lt;&#xD;&amp;\u{fffd}\u{fffd}é</A><B>1</B><B>2</B><P>p-1</P>\
             <C><N>1</N><Odd>true</Odd></C><C><N>2</N><Odd>false</Odd></C>\
             <D><Name>k</Name><Value><V>YWI=</V></Value></D><D><Name>l</Name><Value><V>Y2Q=</V></Value></D>\
             <E><Key>k</Key><Value>v</Value></E></ListQueuesResult>\
             <ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></ListQueuesResponse>"
        );
    }

    #[test]
    fn operations_without_a_result_say_nothing() {
        let answer = |protocol| {
            let answer = Answer::begin(protocol, Action::DeleteQueue).end(Action::DeleteQueue, "id");
            String::from_utf8(answer).expect("UTF-8")
        };
        assert_eq!(answer(Protocol::Json), "");
        assert!(answer(Protocol::Query).contains("/\"><ResponseMetadata>"));
    }

    #[test]
    fn errors_have_the_form_that_sdks_read() {
        let error = ServiceError::no_queue();
        assert_eq!(
            Answer::error(Protocol::Json, &error, "id"),
            br#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"The specified queue does not exist."}"#
        );
        let xml = String::from_utf8(Answer::error(Protocol::Query, &error, "id")).expect("UTF-8");
        assert!(xml.contains(
            "<Error><Type>Sender</Type><Code>AWS.SimpleQueueService.NonExistentQueue</Code>\
             <Message>The specified queue does not exist for this wsdl version.</Message><Detail/></Error>"
        ));
    }
}
