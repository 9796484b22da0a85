//! Looking into a queue without receiving from it.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashSet},
    fmt,
};

use super::{Queue, era::Era};
use crate::{
    attribute::Attribute,
    clock::Millis,
    config::PEEK_MAX,
    extras::Extras,
    ledger::{
        look::{Glance, Seen},
        reclaim::Pin,
        state::Phase,
    },
    receipt::MessageId,
};

/// Receives after which a message no longer counts for [`Queue::oldest_sent`] (SQS).
const POISON_RECEIVES: u32 = 3;

/// Where a message is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageState {
    /// To be received.
    Visible,
    /// Leased.
    InFlight,
    /// Not to be received yet.
    Delayed,
}

/// What a peek is to show. The default: ten messages of any state, with up to 1 KiB of body each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeekFilter {
    /// Only messages of this state; `None` for all.
    pub state: Option<MessageState>,
    /// How many messages at most, 0..=1,000; more counts as 1,000.
    pub max: usize,
    /// How many bytes of each body are copied at most.
    pub body_bytes: usize,
}

impl Default for PeekFilter {
    fn default() -> Self {
        Self {
            state: None,
            max: 10,
            body_bytes: 1024,
        }
    }
}

/// A message as a peek saw it.
#[derive(Clone, PartialEq, Eq)]
pub struct Peeked {
    id: MessageId,
    state: MessageState,
    sent: Millis,
    first_received: Option<Millis>,
    receives: u32,
    due: Option<Millis>,
    body: Box<[u8]>,
    body_length: usize,
    extras: Box<[u8]>,
}

impl Peeked {
    /// The message's id.
    #[must_use]
    pub fn message_id(&self) -> MessageId {
        self.id
    }

    /// Its state. A lease or delay whose end has come shows as such until a receive or sweep notices.
    #[must_use]
    pub fn state(&self) -> MessageState {
        self.state
    }

    /// When it was sent.
    #[must_use]
    pub fn sent_at(&self) -> Millis {
        self.sent
    }

    /// When it was first received, if it was.
    #[must_use]
    pub fn first_received_at(&self) -> Option<Millis> {
        self.first_received
    }

    /// How often it has been received.
    #[must_use]
    pub fn receive_count(&self) -> u32 {
        self.receives
    }

    /// When its lease or its delay ends, if it has one.
    #[must_use]
    pub fn due(&self) -> Option<Millis> {
        self.due
    }

    /// The body, as much of it as was asked for.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The length of the whole body in bytes.
    #[must_use]
    pub fn body_length(&self) -> usize {
        self.body_length
    }

    /// The message attributes, in the order they were given.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'_>> + Clone {
        self.extras().attributes()
    }

    /// The message group, if it was sent with one.
    #[must_use]
    pub fn message_group(&self) -> Option<&str> {
        self.extras().group()
    }

    /// The system attribute `AWSTraceHeader`, if it was sent with one.
    #[must_use]
    pub fn trace_header(&self) -> Option<&str> {
        self.extras().trace_header()
    }

    /// The name of the queue it was moved from because it had been received too often.
    #[must_use]
    pub fn dead_letter_source(&self) -> Option<&str> {
        self.extras().moved()?.dead_letter_source()
    }

    fn extras(&self) -> Extras<'_> {
        Extras::new(&self.extras)
    }
}

impl fmt::Debug for Peeked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peeked")
            .field("message_id", &self.id)
            .field("state", &self.state)
            .field("sent_at", &self.sent)
            .field("receives", &self.receives)
            .field("bytes", &self.body_length)
            .finish_non_exhaustive()
    }
}

impl MessageState {
    fn of(phase: Phase) -> Option<Self> {
        match phase {
            Phase::Visible | Phase::InLine => Some(Self::Visible),
            Phase::InFlight => Some(Self::InFlight),
            Phase::Delayed => Some(Self::Delayed),
            Phase::Empty | Phase::Dead | Phase::Baton | Phase::BatonLater => None,
        }
    }
}

/// Something that has a moment, and a number among those of the same moment; orders by both.
struct Timed<T> {
    at: Millis,
    number: u64,
    what: T,
}

impl<T> Ord for Timed<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<T> PartialOrd for Timed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Timed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Timed<T> {}

/// The segments of all partitions, those with the oldest messages first. O(segments), and O(log segments) for each taken.
fn oldest_first<'t>(era: &'t Era, pin: &'t Pin<'_>) -> impl Iterator<Item = (Millis, Glance<'t>)> {
    let all: Vec<_> = era
        .all(pin)
        .flat_map(|partition| partition.glance(pin))
        .map(|glance| {
            std::cmp::Reverse(Timed {
                at: glance.oldest(),
                number: glance.serial(),
                what: glance,
            })
        })
        .collect();
    let mut heap = BinaryHeap::from(all);
    std::iter::from_fn(move || heap.pop().map(|next| (next.0.at, next.0.what)))
}

impl Queue {
    /// Shows messages without receiving them, the oldest first by their time of sending, over all partitions. Nothing changes:
    /// no lease, no receive count.
    ///
    /// Each message is shown as it was at one moment; those of several messages may differ if others operate meanwhile. O(segments)
    /// and the messages of as many segments as it takes to find `max`: of all segments, if few messages are of the state that
    /// is asked for.
    ///
    /// ```
    /// use epoq::{Broker, MessageState, PeekFilter, QueueConfig};
    /// let queue = Broker::new().create_queue("q", QueueConfig::default())?;
    /// queue.send(b"one")?;
    /// queue.send(b"two")?;
    /// queue.receive(1, None)?;
    /// let filter = PeekFilter { state: Some(MessageState::Visible), ..PeekFilter::default() };
    /// let seen = queue.peek(&filter);
    /// assert_eq!((seen.len(), seen[0].body(), seen[0].receive_count()), (1, &b"two"[..], 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn peek(&self, filter: &PeekFilter) -> Vec<Peeked> {
        let max = filter.max.min(PEEK_MAX);
        if max == 0 {
            return Vec::new();
        }
        self.in_passing(|turn| {
            let Some(era) = self.era(turn.pin()) else {
                return Vec::new();
            };
            // The newest on top, to make room for older ones.
            let mut found = BinaryHeap::new();
            for (oldest, glance) in oldest_first(era, turn.pin()) {
                if found.len() == max && found.peek().is_some_and(|newest: &Timed<_>| newest.at < oldest) {
                    break;
                }
                for seen in glance.messages() {
                    let state = self.state_of(&seen, turn.now()).map(|(state, _)| state);
                    if state.is_none() || (filter.state.is_some() && filter.state != state) {
                        continue;
                    }
                    let (_, place) = seen.place();
                    found.push(Timed {
                        at: seen.sent(),
                        // Serials have 48 bits, slots 8.
                        number: place.serial << 8 | u64::from(place.slot),
                        what: seen,
                    });
                    if found.len() > max {
                        found.pop();
                    }
                }
            }
            let found = found.into_sorted_vec();
            let mut shown: Vec<_> = found
                .iter()
                .filter_map(|found| self.copy_out(&found.what, filter.body_bytes, turn.now()))
                .collect();
            // One that housekeeping is moving within the queue may have been seen in both places.
            let mut ids = HashSet::new();
            shown.retain(|seen| ids.insert(seen.id));
            shown
        })
    }

    /// A message's state, and when that ends if it does by itself.
    fn state_of(&self, seen: &Seen<'_>, now: Millis) -> Option<(MessageState, Option<Millis>)> {
        // In a FIFO queue it depends on the queue's delay at the moment.
        #[cfg(not(loom))]
        if self.is_fifo()
            && let Some(due) = self.delayed_until(seen, now)
        {
            return Some((MessageState::Delayed, Some(due)));
        }
        #[cfg(loom)]
        let _ = now;
        let state = MessageState::of(seen.state().phase())?;
        let due = (state != MessageState::Visible).then(|| seen.state().due());
        Some((state, due))
    }

    fn copy_out(&self, seen: &Seen<'_>, body_bytes: usize, now: Millis) -> Option<Peeked> {
        let (word, body) = (seen.state(), seen.body());
        let (state, due) = self.state_of(seen, now)?;
        let extras = seen.extras();
        let (partition, place) = seen.place();
        Some(Peeked {
            id: self.message_id(extras.map(Extras::new), partition, place.serial, place.slot),
            state,
            sent: seen.sent(),
            first_received: seen.first_received(),
            receives: word.receives(),
            due,
            body: body.get(..body_bytes).unwrap_or(body).into(),
            body_length: body.len(),
            extras: extras.unwrap_or_default().into(),
        })
    }

    /// When the oldest message was sent that is there, in whatever state; of messages moved here from a queue that has this one as
    /// its dead-letter queue, when they were moved. Messages received three times or more do not count, except dead letters, which mostly
    /// have been. (SQS's `ApproximateAgeOfOldestMessage` is the time since then.)
    ///
    /// O(segments), and the messages of the oldest segment; of several if all messages there have been received that often, or were
    /// moved.
    #[must_use]
    pub fn oldest_sent(&self) -> Option<Millis> {
        self.in_passing(|turn| {
            let era = self.era(turn.pin())?;
            let mut oldest: Option<Millis> = None;
            for (bound, glance) in oldest_first(era, turn.pin()) {
                if oldest.is_some_and(|oldest| oldest <= bound) {
                    break;
                }
                let here = glance
                    .messages()
                    .filter(|seen| {
                        seen.state().receives() < POISON_RECEIVES || seen.dead_lettered().is_some()
                    })
                    .filter(|seen| MessageState::of(seen.state().phase()).is_some())
                    .map(|seen| seen.dead_lettered().map_or(seen.sent(), |(_, at)| at))
                    .min();
                oldest = oldest.into_iter().chain(here).min();
            }
            oldest
        })
    }
}
