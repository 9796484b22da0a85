//! Texts that pretend to be receipt handles, and all that may come of them.
//!
//! The model is a list of the handles that receives gave, with the text of each. A text of the list is its handle, at its own
//! queue; any other text is refused, and for which reason can be told from its letters. What a handle does is done to its own
//! message at most.

use std::{collections::BTreeSet, time::Duration};

use super::{assert_freed, choose_batch, choose_option, choose_steps, choose_timeout};
use crate::common::{fifo, manual_with, one, queue, secs};
use arbitrary::Unstructured;
use epoq::{
    Broker, DeleteError, HandleError, ManualClock, MessageId, PeekFilter, Peeked, Queue, ReceiptHandle,
    Worker,
};
use proptest::{collection::vec, prelude::*};

/// Digits of a handle's text.
const DIGITS: usize = 56;
/// The queues: three of one broker, the second of them FIFO, and one of another broker.
const QUEUES: usize = 4;
const OTHER_BROKERS: usize = 3;

/// How a text is made; numbers of handles, digits and bits begin anew where there are fewer.
#[derive(Debug, Clone)]
enum Text {
    Any(String),
    /// As a handle's, by its letters.
    WellFormed(String),
    /// A handle's own.
    Own(usize),
    /// A handle's own, with these bits of it turned over.
    Flipped(usize, Vec<usize>),
    /// The beginning of one, and the end of another one.
    Spliced(usize, usize, usize),
    /// Only so much of it.
    Cut(usize, usize),
    /// More behind it.
    Longer(usize, String),
}

/// What is done with a text, at one of the queues.
#[derive(Debug, Clone)]
struct Attempt {
    text: Text,
    at: usize,
    /// Deletes, or changes the visibility to this.
    change: Option<Duration>,
}

#[derive(Debug, Clone)]
pub(crate) struct Script(Vec<Attempt>);

impl Script {
    /// One text as it is, at each queue.
    fn of_text(text: &str) -> Self {
        let attempt = |at| Attempt {
            text: Text::Any(text.to_owned()),
            at,
            change: None,
        };
        Self((0..QUEUES).map(attempt).collect())
    }
}

/// What these bytes choose. After an even byte the rest is one text, after an odd one it chooses texts and what is done with
/// them.
pub(crate) fn from_bytes(bytes: &[u8]) -> arbitrary::Result<Script> {
    let mut bytes = Unstructured::new(bytes);
    if bytes.arbitrary::<u8>()?.is_multiple_of(2) {
        return Ok(Script::of_text(&String::from_utf8_lossy(bytes.take_rest())));
    }
    Ok(Script(choose_steps(&mut bytes, choose_attempt)?))
}

fn choose_attempt(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Attempt> {
    let own = |bytes: &mut Unstructured<'_>| Ok(usize::from(bytes.arbitrary::<u16>()?));
    Ok(Attempt {
        text: match bytes.int_in_range(0..=6u8)? {
            0 => Text::Any(bytes.arbitrary()?),
            1 => {
                let digit = |bytes: &mut Unstructured<'_>| bytes.choose(b"0123456789abcdef").copied();
                let digits = (0..DIGITS).map(|_| digit(bytes).map(char::from));
                Text::WellFormed(digits.collect::<Result<_, _>>()?)
            }
            2 => Text::Own(own(bytes)?),
            3 => Text::Flipped(own(bytes)?, choose_batch(bytes, own)?),
            4 => Text::Spliced(own(bytes)?, own(bytes)?, own(bytes)?),
            5 => Text::Cut(own(bytes)?, own(bytes)?),
            _ => Text::Longer(own(bytes)?, bytes.arbitrary()?),
        },
        at: bytes.int_in_range(0..=QUEUES - 1)?,
        change: choose_option(bytes, choose_timeout)?,
    })
}

fn texts() -> impl Strategy<Value = Text> {
    let own = || any::<u16>().prop_map(usize::from);
    prop_oneof![
        1 => "\\PC{0,70}".prop_map(Text::Any),
        1 => "[0-9a-fA-F-]{30,60}".prop_map(Text::Any),
        1 => "[0-9a-f]{56}".prop_map(Text::WellFormed),
        4 => own().prop_map(Text::Own),
        4 => (own(), vec(own(), 1..=3)).prop_map(|(own, bits)| Text::Flipped(own, bits)),
        2 => (own(), own(), own()).prop_map(|(head, tail, at)| Text::Spliced(head, tail, at)),
        1 => (own(), own()).prop_map(|(own, length)| Text::Cut(own, length)),
        1 => (own(), "\\PC{1,3}").prop_map(|(own, more)| Text::Longer(own, more)),
    ]
}

pub(crate) fn scripts() -> impl Strategy<Value = Script> {
    let change = proptest::option::of((0..100u64).prop_map(secs));
    let attempt = (texts(), 0..QUEUES, change).prop_map(|(text, at, change)| Attempt { text, at, change });
    vec(attempt, 1..20).prop_map(Script)
}

/// A handle that a receive gave.
#[derive(Debug)]
struct Known {
    queue: usize,
    message: MessageId,
    handle: ReceiptHandle,
    text: String,
}

struct Scene {
    brokers: [Broker; 2],
    /// All calls go by them, so that nothing is left with the thread when they are gone.
    workers: [Worker; 2],
    queues: [Queue; QUEUES],
    known: Vec<Known>,
}

impl Scene {
    /// In each queue a message that waits, and of others the handles of: a lease, one that is over, one that was followed by
    /// another one, one whose message is deleted.
    fn new() -> Self {
        let (time, ours) = manual_with(Broker::builder());
        let theirs = Broker::builder().clock(&time).seed(8).build().expect("valid");
        let workers = [&ours, &theirs].map(|broker| broker.worker().expect("room"));
        let queues = [
            queue(&ours, "orders"),
            fifo(&ours, "orders.fifo"),
            queue(&ours, "mails"),
            queue(&theirs, "orders"),
        ];
        let mut scene = Self {
            workers,
            brokers: [ours, theirs],
            queues,
            known: Vec::new(),
        };
        for at in 0..QUEUES {
            scene.fill(at, &time);
        }
        scene
    }

    fn fill(&mut self, at: usize, time: &ManualClock) {
        let queue = &self.queues[at];
        let send = |body: &str| {
            let message = epoq::Outgoing::new(body.as_bytes());
            let message = if at == 1 {
                message.message_group(&body[..1])
            } else {
                message
            };
            queue.send_message(&message).expect("room");
        };
        let mut received = Vec::new();
        send("deleted");
        received.push(one(queue, secs(10)));
        queue.delete(&received[0].receipt_handle()).expect("there");
        send("received again");
        received.push(one(queue, secs(1)));
        time.advance(secs(2));
        received.push(one(queue, secs(1_000)));
        send("over");
        received.push(one(queue, secs(1)));
        time.advance(secs(2));
        send("leased");
        received.extend(queue.receive(2, secs(1_000)).expect("valid"));
        send("waits");
        for message in received {
            let handle = message.receipt_handle();
            self.known.push(Known {
                queue: at,
                message: message.message_id(),
                handle,
                text: queue.encode_handle(&handle).to_string(),
            });
        }
    }

    fn text(&self, text: &Text) -> String {
        let own = |which: &usize| self.known[which % self.known.len()].text.as_str();
        match text {
            Text::Any(text) | Text::WellFormed(text) => text.clone(),
            Text::Own(which) => own(which).to_owned(),
            Text::Flipped(which, bits) => {
                let mut bytes = own(which).as_bytes().to_vec();
                // The highest bit would not leave it a text.
                for bit in bits.iter().map(|bit| bit % (7 * DIGITS)) {
                    bytes[bit / 7] ^= 1 << (bit % 7);
                }
                String::from_utf8(bytes).expect("ASCII")
            }
            Text::Spliced(head, tail, at) => {
                let at = at % DIGITS;
                format!("{}{}", &own(head)[..at], &own(tail)[at..])
            }
            Text::Cut(which, length) => own(which)[..length % DIGITS].to_owned(),
            Text::Longer(which, more) => format!("{}{more}", own(which)),
        }
    }

    /// What decoding a text at a queue has to come to.
    fn decoded(&self, text: &str, at: usize) -> Result<&Known, HandleError> {
        match self.known.iter().find(|known| known.text == text) {
            Some(known) if known.queue == at => Ok(known),
            Some(known) if (known.queue == OTHER_BROKERS) == (at == OTHER_BROKERS) => {
                Err(HandleError::Foreign)
            }
            Some(_) => Err(HandleError::Forged),
            None => {
                let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                let is_well_formed = text.len() == DIGITS && text.bytes().all(is_digit);
                Err(if is_well_formed {
                    HandleError::Forged
                } else {
                    HandleError::Malformed
                })
            }
        }
    }

    /// What is in each queue.
    fn look(&self) -> [BTreeSet<MessageId>; QUEUES] {
        let everything = PeekFilter {
            max: usize::MAX,
            body_bytes: 0,
            ..PeekFilter::default()
        };
        self.queues
            .each_ref()
            .map(|queue| queue.peek(&everything).iter().map(Peeked::message_id).collect())
    }

    fn attempt(&self, attempt: &Attempt) {
        let Attempt { at, change, .. } = *attempt;
        let text = self.text(&attempt.text);
        // A message id has one text too.
        if let Ok(id) = text.parse::<MessageId>() {
            assert_eq!(id.to_string(), text);
        }
        let expected = self.decoded(&text, at);
        let decoded = self.queues[at].decode_handle(&text);
        assert_eq!(decoded, expected.map(|known| known.handle), "{text:?}");
        let (Ok(handle), Ok(known)) = (decoded, expected) else {
            return;
        };
        assert_eq!(self.queues[at].encode_handle(&handle).as_str(), text);

        let before = self.look();
        for (other, queue) in self.queues.iter().enumerate() {
            if other != at {
                assert_eq!(queue.delete(&handle), Err(DeleteError::Foreign));
            }
        }
        assert_eq!(self.look(), before);
        // Whatever it answers: it is about that message.
        match change {
            Some(timeout) => drop(self.queues[at].change_visibility(&handle, timeout)),
            None => drop(self.queues[at].delete(&handle)),
        }
        let mut after = self.look();
        if change.is_none() && before[at].contains(&known.message) {
            after[at].insert(known.message);
        }
        assert_eq!(after, before);
    }
}

pub(crate) fn play(script: &Script) {
    let scene = Scene::new();
    for attempt in &script.0 {
        scene.attempt(attempt);
    }
    let budgets = scene.brokers.each_ref().map(Broker::budget);
    drop(scene);
    for budget in budgets {
        assert_freed(budget.read());
    }
}
