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
            attempts: Attempts::new(key),
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
                    partition.give_token_back(segment, at, pin);
                    // Somebody may have looked for it while it was in our hand, and sleep now.
                    return self.wake(1);
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

    fn has_lapsed(&self, sent: Millis, now: Millis) -> bool {
        sent.as_millis()
            .saturating_add(self.inner.hot.settings.retention_ms())
            <= now.as_millis()
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
    /// received together. O(n log n).
    pub(super) fn hear(&self, era: &Era, turn: &Turn<'_>, ended: &mut Vec<Ended<'_>>, comes_back: bool) {
        let pin = turn.pin();
        // Those of one group side by side, and together; then the groups as they came.
        let mut groups: Vec<_> = ended.drain(..).enumerate().collect();
        groups.sort_unstable_by_key(|&(at, ended)| (std::ptr::from_ref(ended.group).addr(), at));
        groups.dedup_by(|(_, later), (_, first)| match first.with(*later) {
            Some(both) => {
                *first = both;
                true
            }
            None => false,
        });
        groups.sort_unstable_by_key(|&(at, _)| at);
        for (_, all) in groups {
            let after = if comes_back {
                all.group.come_back(all.places, pin)
            } else {
                all.group.go(all.places, pin)
            };
            self.follow(era, turn, after);
        }
    }

    /// The queue's delay has changed, which in a FIFO queue is for messages there too: all that are put off are looked at again.
    pub(super) fn recall(&self, era: &Era, turn: &Turn<'_>) {
        // SeqCst: pairs with the fence in `FifoReceive::put_off`; see there.
        fence(Ordering::SeqCst);
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
