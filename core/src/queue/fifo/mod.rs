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
mod places;
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
            Group, Heard,
            baton::{After, Baton, Next, Serving},
            laid::Laid,
            names::Groups,
        },
        look::Seen,
        partition::Partition,
        segment::Segment,
    },
    message::SEQUENCE,
    sync::{Arc, AtomicU64, Ordering, fence},
    turn::Turn,
};

/// What an era of a FIFO queue has besides.
#[derive(Debug)]
pub(crate) struct Fifo {
    pub(crate) groups: Groups,
    deduplication: Deduplication,
    attempts: Attempts,
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
    /// Which sequence number the present era began after.
    sequence: AtomicU64,
}

/// Batons that are to be put off, and until when, for which there was no room.
type Held<'t> = Vec<(Baton<'t>, Millis)>;

const CONTENT_BASED: u64 = 1;
const BY_GROUP: u64 = 2;

/// Sequence numbers that an era may use in a millisecond, so that those of the next one are greater.
const SEQUENCES_PER_MS: u64 = 1 << 18;
/// The same, for eras that begin in one millisecond.
const SEQUENCES_AT_ONCE: u64 = 1 << 32;
// The clock's last moment leaves room.
const _: () = assert!(Millis::MAX.as_millis() < SEQUENCE / SEQUENCES_PER_MS);

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

    /// Which sequence number an era is to begin after that begins at `now`: they go on growing over a purge, whatever is still
    /// being sent to the era before.
    fn next_sequence(&self, now: Millis) -> u64 {
        let after = |last: u64| (last + SEQUENCES_AT_ONCE).max(now.as_millis() * SEQUENCES_PER_MS);
        let relaxed = Ordering::Relaxed;
        // A number on its own.
        match self
            .sequence
            .fetch_update(relaxed, relaxed, |last| Some(after(last)))
        {
            Ok(last) | Err(last) => after(last),
        }
    }
}

impl Fifo {
    fn new(queue: &super::Inner) -> Self {
        let key = [queue.shared.seed, u64::from(queue.id.number())];
        Self {
            groups: Groups::new(
                key,
                queue.fifo_settings.next_sequence(queue.shared.clock.now()),
                Arc::clone(&queue.budget),
            ),
            deduplication: Deduplication::new(key, Arc::clone(&queue.budget)),
            attempts: Attempts::new(key, Arc::clone(&queue.budget)),
        }
    }
}

impl super::Inner {
    /// What a new era of the queue has, if it is a FIFO queue.
    pub(super) fn fifo(&self) -> Option<Box<Fifo>> {
        self.is_fifo.then(|| Box::new(Fifo::new(self)))
    }
}

impl Queue {
    /// A FIFO queue's own figures; `None` of a standard queue.
    #[must_use]
    pub fn fifo_metrics(&self) -> Option<FifoMetrics> {
        self.in_passing(|turn| {
            let fifo = self.era(turn.pin())?.fifo(turn.pin())?;
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
                if let Some(fifo) = era.fifo(turn.pin()) {
                    fifo.groups.leave(group, turn.pin());
                }
            }
            Err(after) => self.follow(era, turn, after),
        }
    }

    /// Housekeeping has taken a token: of a message that has lapsed, or of a baton laid down.
    fn attend<'t>(
        &'t self,
        era: &'t Era,
        turn: &'t Turn<'_>,
        partition: &'t Partition,
        segment: &'t Segment,
        at: u32,
        most: &mut usize,
    ) {
        let pin = turn.pin();
        // Where it lies is its place in the order: there it stays, unless what comes first has lapsed.
        let has_lapsed = |next: Next<'_>| self.has_lapsed(next.member.sent(), turn.now());
        if let Some(baton) = partition.laid(segment, at, pin)
            && !baton.peek().is_some_and(has_lapsed)
        {
            partition.give_token_back(segment, at, pin);
            // Somebody may have looked in vain while it was in our hand.
            return self.wake(1);
        }
        if let Some(baton) = partition.find_out(segment, at, pin) {
            let baton = self.clear_front(era, turn, baton, most);
            self.follow(era, turn, After::Baton(baton));
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

    /// Lays a group's baton down at home until `due`, or until its first message lapses. Without room for that it is `held`. `due` was
    /// reckoned with a delay of `delay_ms`.
    fn put_off<'t>(
        &'t self,
        era: &'t Era,
        turn: &'t Turn<'_>,
        baton: Baton<'t>,
        due: Millis,
        delay_ms: u64,
        held: &mut Held<'t>,
    ) {
        let settings = &self.inner.hot.settings;
        let retention_ms = settings.retention_ms();
        let front = baton.peek().map(|next| next.member.sent());
        let due = front.map_or(due, |sent| due.min(sent.after(retention_ms)));
        // At home, as all that is laid: where it was found may be about to be taken away.
        let home = self.home(era, turn).ok();
        match baton.put_off(due, home, turn.now(), turn.pin()) {
            Ok(()) => self.wake_by(|| due),
            Err(baton) => return held.push((baton, due)),
        }
        // SeqCst: pairs with the fence in `Queue::recall`. Whoever has changed the delay or the retention finds what was laid here,
        // or we find that it has been changed.
        fence(Ordering::SeqCst);
        if (settings.delay_ms(), settings.retention_ms()) != (delay_ms, retention_ms) {
            self.recall(era, turn);
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

    /// Does away with what has lapsed at the front of a group, up to `most` messages. What is left has its turn later: whoever comes
    /// upon it goes on.
    fn clear_front<'t>(
        &'t self,
        era: &'t Era,
        turn: &'t Turn<'_>,
        baton: Baton<'t>,
        most: &mut usize,
    ) -> Baton<'t> {
        let mut serving = baton.serve();
        while *most > 0
            && let Some(next) = serving.next()
            && self.has_lapsed(next.member.sent(), turn.now())
        {
            *most -= 1;
            self.discard(era, turn, &mut serving, next);
            if let Some(stripe) = Self::stripe(era, turn) {
                stripe.lapsed_visible.add(1);
            }
        }
        serving.keep()
    }

    /// Does away with a group's next message. The caller counts it.
    fn discard<'t>(&'t self, era: &'t Era, turn: &'t Turn<'_>, serving: &mut Serving<'t>, next: Next<'t>) {
        let number = next.member.segment.fixed().partition as usize;
        match era.partition(number, turn.pin()) {
            Some(partition) => partition.discard_next(serving, next, turn.pin()),
            None => debug_assert!(false, "a message in a partition that is closed"),
        }
    }

    /// Deals with what a sweep or housekeeping has come upon. Groups are told of the leases that are over, those of one group at
    /// once: so that messages which come back together can be received together. O(n log n), and what has lapsed at the front of
    /// groups, up to `most` messages.
    pub(super) fn hear<'t>(
        &'t self,
        era: &'t Era,
        turn: &'t Turn<'_>,
        partition: &'t Partition,
        all: Vec<Heard<'t>>,
        mut most: usize,
    ) {
        let pin = turn.pin();
        let mut came_back = Vec::new();
        for heard in all {
            match heard {
                Heard::CameBack(ended) => came_back.push((came_back.len(), ended)),
                Heard::Went(ended) => {
                    let after = match ended.group.go(ended.places, pin) {
                        // It has lapsed, and so may have those that waited behind it.
                        After::Baton(baton) => After::Baton(self.clear_front(era, turn, baton, &mut most)),
                        after => after,
                    };
                    self.follow(era, turn, after);
                }
                Heard::Closing(group) => self.close(era, turn, group),
                Heard::Token(segment, at) => {
                    self.attend(era, turn, partition, segment, at, &mut most);
                }
            }
        }
        // Those of one group side by side, and together; then the groups as they came.
        came_back.sort_unstable_by_key(|&(at, ended)| (std::ptr::from_ref(ended.group).addr(), at));
        came_back.dedup_by(|(_, later), (_, first)| match first.with(*later) {
            Some(both) => {
                *first = both;
                true
            }
            None => false,
        });
        came_back.sort_unstable_by_key(|&(at, _)| at);
        for (_, ended) in came_back {
            let after = ended.group.come_back(ended.places, pin);
            self.follow(era, turn, after);
        }
    }

    /// The queue's delay or retention has changed, which in a FIFO queue is for messages there too: all that are put off are looked
    /// at again.
    pub(super) fn recall(&self, era: &Era, turn: &Turn<'_>) {
        // SeqCst: pairs with the fence in `Queue::put_off`; see there.
        fence(Ordering::SeqCst);
        for partition in era.all(turn.pin()) {
            partition.recall(turn.pin());
        }
        self.inner.hot.waiters.wake_all();
    }

    /// Forgets what need not be remembered any more.
    pub(super) fn forget(&self, era: &Era, turn: &Turn<'_>) {
        if let Some(fifo) = era.fifo(turn.pin()) {
            fifo.deduplication.forget_all(turn.now());
            fifo.attempts.forget_all(turn.now());
        }
    }
}
