//! FIFO queues: message groups, in order, and deduplication. The protocol of groups is the ledger's (`ledger/group/`); here is
//! what SQS asks of it.
//!
//! A message waits in its group, and a receive comes to it by the group's baton: the token of the group's first message, or of
//! a slot in which the baton was laid. Both lie in the ready words of the partitions, so receives look for them, steal them
//! and wait for them as in standard queues. The order of batons in a partition is SQS's order of groups: a group whose first
//! message was never received is where that message was sent, and one whose first message has come back is behind all that
//! was there at that moment.

mod attempt;
mod deduplication;
pub(super) mod handle;
mod receive;
mod recent;
mod relocate;
mod send;

use self::{attempt::Attempts, deduplication::Deduplication};
use super::{Queue, era::Era};
use crate::{
    clock::Millis,
    config::{DeduplicationScope, GROUP_LINGERS_MS, QueueConfig},
    ledger::{
        group::{
            Group,
            baton::{After, Baton, Next, Serving},
            laid::{Found, Laid},
            lease::Ended,
            names::Groups,
        },
        look::Seen,
        partition::Partition,
        segment::Segment,
    },
    sync::{Arc, AtomicU64, Ordering},
    turn::Turn,
};

/// What an era of a FIFO queue has besides.
#[derive(Debug)]
pub(crate) struct Fifo {
    pub(crate) groups: Groups,
    deduplication: Deduplication,
    attempts: Attempts,
    /// No sequence number of an era before is greater.
    after: u64,
}

/// A FIFO queue's own figures; see [`Queue::fifo_metrics`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FifoMetrics {
    /// Message groups; one that has become empty stays for a second or two.
    pub groups: usize,
    /// Deduplication ids that are remembered.
    pub deduplication_ids: u64,
    /// Bytes they are reckoned to take.
    pub deduplication_bytes: u64,
}

/// The part of the settings that only FIFO queues have. Relaxed throughout, as the others.
#[derive(Debug, Default)]
pub(crate) struct FifoSettings {
    /// `content-based:1 | scope is the message group:1`.
    flags: AtomicU64,
    memory: AtomicU64,
}

/// Batons that are to be put off, and until when, for which there was no room.
type Held<'t> = Vec<(Baton<'t>, Millis)>;

/// More sends than can be under way, not counted yet, at the end of an era.
const UNDER_WAY: u64 = 1 << 20;

const CONTENT_BASED: u64 = 1;
const BY_GROUP: u64 = 2;

impl FifoSettings {
    pub(crate) fn set(&self, config: &QueueConfig) {
        let Some(fifo) = config.fifo else { return };
        let flag = |flag: u64, is: bool| if is { flag } else { 0 };
        let by_group = fifo.deduplication_scope == DeduplicationScope::MessageGroup;
        self.flags.store(
            flag(CONTENT_BASED, fifo.content_based_deduplication) | flag(BY_GROUP, by_group),
            Ordering::Relaxed,
        );
        self.memory.store(fifo.deduplication_memory, Ordering::Relaxed);
    }

    fn is_content_based(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & CONTENT_BASED != 0
    }

    fn is_by_group(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & BY_GROUP != 0
    }

    fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }
}

impl Fifo {
    fn new(queue: &super::Inner, after: u64) -> Self {
        let key = [queue.shared.seed, u64::from(queue.id.number())];
        Self {
            groups: Groups::new(key, after, Arc::clone(&queue.budget)),
            deduplication: Deduplication::new(key, Arc::clone(&queue.budget)),
            attempts: Attempts::new(key),
            after,
        }
    }
}

impl super::Inner {
    /// What a new era of the queue has, if it is a FIFO queue.
    pub(super) fn fifo(&self, before: Option<&Era>) -> Option<Box<Fifo>> {
        let after = || {
            let fifo = before?.fifo()?;
            // A message's number is by one greater than that of another one, or than the era began with: of the eras before
            // none has come further than by one a message.
            let counts = before?.stats.read();
            Some(fifo.after + counts.sent + counts.moved_in + UNDER_WAY)
        };
        self.is_fifo
            .then(|| Box::new(Fifo::new(self, after().unwrap_or(0))))
    }
}

impl Queue {
    /// A FIFO queue's own figures; `None` of a standard queue.
    #[must_use]
    pub fn fifo_metrics(&self) -> Option<FifoMetrics> {
        self.in_passing(|turn| {
            let fifo = self.era(turn.pin())?.fifo()?;
            let deduplication_ids = fifo.deduplication.len();
            Some(FifoMetrics {
                groups: fifo.groups.len(),
                deduplication_ids,
                deduplication_bytes: deduplication_ids * deduplication::BYTES,
            })
        })
    }

    /// A group has something to deliver, or has become empty, or neither: does what is to be done. Says whether there is something
    /// that a receiver should be woken for.
    pub(super) fn follow(&self, era: &Era, turn: &Turn<'_>, after: After<'_>) {
        let mut after = Some(after);
        // Progress: each turn more means that others have changed the group meanwhile.
        while let Some(now) = after.take() {
            match now {
                After::Nothing => {}
                After::Baton(baton) => after = self.offer(era, turn, baton),
                After::Closing(group) => self.linger(era, turn, group),
            }
        }
    }

    /// Offers a baton to whoever receives next.
    fn offer<'t>(&'t self, era: &'t Era, turn: &'t Turn<'_>, baton: Baton<'t>) -> Option<After<'t>> {
        let home = self.home(era, turn).ok();
        let find = |number: u32| era.partition(number as usize, turn.pin());
        let left = baton.offer(home, find, turn.now(), turn.pin());
        if left.is_none() {
            self.wake(1);
        }
        left
    }

    /// Sees to it that an empty group is closed in a while.
    #[cold]
    fn linger(&self, era: &Era, turn: &Turn<'_>, group: &Group) {
        let now = turn.now();
        let due = now.after(GROUP_LINGERS_MS);
        let laid = self
            .home(era, turn)
            .and_then(|home| home.lay(group, Laid::Closing, Some(due), now, turn.pin()));
        if laid.is_err() {
            // No room: then now.
            self.close(era, turn, group);
        }
    }

    /// Closes a group if it is empty.
    #[cold]
    fn close(&self, era: &Era, turn: &Turn<'_>, group: &Group) {
        match group.close(turn.pin()) {
            Ok(()) => {
                if let Some(fifo) = era.fifo() {
                    fifo.groups.leave(group, turn.pin());
                }
            }
            Err(after) => self.follow(era, turn, after),
        }
    }

    /// Housekeeping has taken a token: of a message that has lapsed, of a baton laid down, or of a reminder.
    pub(super) fn attend<'t>(
        &'t self,
        era: &'t Era,
        turn: &'t Turn<'_>,
        partition: &'t Partition,
        segment: &'t Segment,
        at: u32,
    ) {
        let pin = turn.pin();
        match partition.laid(segment, at, pin) {
            // Where it lies is its place in the order: there it stays, unless something before it has lapsed.
            Some(Found::Baton(baton)) => {
                let lapsed = baton
                    .peek()
                    .is_some_and(|next| self.has_lapsed(next.member.sent(), turn.now()));
                if !lapsed {
                    return partition.give_token_back(segment, at, pin);
                }
            }
            Some(Found::Closing(_)) | None => {}
        }
        match partition.find_out(segment, at, pin) {
            Some(Found::Baton(baton)) => {
                let baton = self.clear_front(era, turn, baton);
                self.follow(era, turn, After::Baton(baton));
            }
            Some(Found::Closing(group)) => self.close(era, turn, group),
            None => {}
        }
    }

    /// When the retention of a message is over.
    fn lapses_at(&self, sent: Millis) -> Millis {
        sent.after(self.inner.hot.settings.retention_ms())
    }

    fn has_lapsed(&self, sent: Millis, now: Millis) -> bool {
        self.lapses_at(sent) <= now
    }

    /// Until when a message is not to be received, if that is to come: in a FIFO queue by the queue's delay as it is now. Rounded
    /// up, as leases are.
    pub(super) fn delayed_until(&self, seen: &Seen<'_>, now: Millis) -> Option<Millis> {
        let delay_ms = self.inner.hot.settings.delay_ms();
        if delay_ms == 0 || !seen.is_waiting_new() {
            return None;
        }
        let due = seen.sent().after(delay_ms + 1);
        (due > now && !seen.has_moved_here()).then_some(due)
    }

    /// Lays a group's baton down until `due`, or until its first message lapses. Without room for that it is `held`.
    fn put_off<'t>(
        &self,
        turn: &'t Turn<'_>,
        home: Option<&Partition>,
        baton: Baton<'t>,
        due: Millis,
        held: &mut Held<'t>,
    ) {
        let front = baton.peek().map(|next| next.member.sent());
        let due = front.map_or(due, |sent| due.min(self.lapses_at(sent)));
        match baton.put_off(due, home, turn.now(), turn.pin()) {
            Ok(()) => self.wake_by(|| due),
            Err(baton) => held.push((baton, due)),
        }
    }

    /// Puts batons back that were held: only when whoever held them looks for no others, who would find them again and again.
    /// Nobody is woken: there is nothing to deliver, and whoever waits has seen them, or will be woken for the send, and notes until
    /// when itself. Woken for this it would look again, and do this again.
    fn put_back<'t>(&'t self, era: &'t Era, turn: &'t Turn<'_>, held: Held<'t>) {
        let pin = turn.pin();
        for (baton, due) in held {
            let find = |number: u32| era.partition(number as usize, pin);
            if let Some(after) = baton.put_off_in_place(due, find, pin) {
                self.follow(era, turn, after);
            }
        }
    }

    /// Does away with what has lapsed at the front of a group.
    fn clear_front<'t>(&'t self, era: &'t Era, turn: &'t Turn<'_>, baton: Baton<'t>) -> Baton<'t> {
        let mut serving = baton.serve();
        // Bounded by what is in the group.
        while let Some(next) = serving.next() {
            if !self.has_lapsed(next.member.sent(), turn.now()) {
                break;
            }
            self.discard(era, turn, &mut serving, next);
            if let Some(stripe) = Self::stripe(era, turn) {
                stripe.lapsed_visible.add(1);
            }
        }
        serving.keep()
    }

    /// Does away with a group's next message. The caller counts it.
    fn discard<'t>(&'t self, era: &'t Era, turn: &'t Turn<'_>, serving: &mut Serving<'t>, next: Next<'t>) {
        let number = next.member.segment.header.partition as usize;
        match era.partition(number, turn.pin()) {
            Some(partition) => partition.discard_next(serving, next, turn.pin()),
            None => debug_assert!(false, "a message in a partition that is closed"),
        }
    }

    /// Tells groups of leases that have ended, those of one group at once: so that messages which come back together can be
    /// received together.
    pub(super) fn hear(&self, era: &Era, turn: &Turn<'_>, ended: &mut Vec<Ended<'_>>, comes_back: bool) {
        let pin = turn.pin();
        for at in 0..ended.len() {
            let Some(&first) = ended.get(at) else { break };
            if first.places == 0 {
                continue;
            }
            let mut all = first;
            for other in ended.iter_mut().skip(at + 1) {
                if let Some(both) = all.with(*other) {
                    all = both;
                    // Told.
                    other.places = 0;
                }
            }
            let after = if comes_back {
                all.group.come_back(all.places, pin)
            } else {
                match all.group.go(all.places, pin) {
                    // They have lapsed, and so may have those that waited behind them.
                    After::Baton(baton) => After::Baton(self.clear_front(era, turn, baton)),
                    after => after,
                }
            };
            self.follow(era, turn, after);
        }
        ended.clear();
    }

    /// The queue's delay or retention has changed, which in a FIFO queue is for messages there too: all that are put off are looked
    /// at again.
    pub(super) fn recall(&self, era: &Era, turn: &Turn<'_>) {
        for partition in era.all(turn.pin()) {
            partition.recall(turn.pin());
        }
        self.inner.hot.waiters.wake_all();
    }

    /// Forgets what need not be remembered any more.
    pub(super) fn forget(&self, era: &Era, turn: &Turn<'_>) {
        if let Some(fifo) = era.fifo() {
            fifo.deduplication.forget_all(turn.now());
            fifo.attempts.forget_all(turn.now());
        }
    }
}
