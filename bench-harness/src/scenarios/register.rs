//! The books of the scenarios in which messages are delayed, come back, move and are delivered often: one entry for each
//! message, shared by all threads, so that a wrong delivery is seen when it happens.
//!
//! ```text
//! entry:  | deliveries counted by the ledger: 16 | not to be received before, in µs: 48 |   one word, only ever raised
//!         | seen deliveries, sent, refused, deleted                                     |
//!         | a moment of the sender's choosing: when it should have arrived              |
//! ```
//!
//! A delivery carries the ledger's own count of receives, which goes up by one each time. So of two threads that write down two
//! deliveries of one message the entry keeps the later one, in whatever order they come to write; a count seen twice is two
//! deliveries at a time; and in the end as many deliveries must have been seen as were counted. What is compared with the clock
//! is lenient by [`TOLERANCE_US`] and never convicts the innocent: the moment before which a message must not come is reckoned from a
//! reading taken *before* the call that delayed or leased it, and compared with one taken *after* the call that returned it.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{
    check::{Findings, Wrong},
    workload::Id,
};

/// Two clocks, the ledger's and the harness's, may differ by this much.
pub const TOLERANCE_US: u64 = 100;

const SENT: u64 = 1;
const REFUSED: u64 = 2;
const DELETED: u64 = 4;
const DELIVERY: u64 = 1 << 8;

const US_BITS: u32 = 48;
const US_MASK: u64 = (1 << US_BITS) - 1;

/// All that is known of one message.
#[derive(Debug, Default)]
struct Entry {
    counted_until: AtomicU64,
    fate: AtomicU64,
    moment_ns: AtomicU64,
}

// Relaxed throughout: each word is read-modify-written on its own, the ledger orders a message's sender and receivers, and joining the
// threads orders the settlement.

/// The entries of all messages, by sender.
#[derive(Debug)]
pub struct Register {
    producers: Vec<[OnceLock<Box<[Entry]>>; Self::CHUNKS]>,
}

/// What the register knows of a message that has just been received.
#[derive(Clone, Copy, Debug)]
pub struct Booked {
    /// Before this it was not to be received: the end of its delay or of its last lease.
    pub due_us: u64,
    /// What its sender wrote down.
    pub moment_ns: u64,
    /// Deliveries seen before this one.
    pub seen_before: u64,
}

/// What became of all messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Taken by the ledger.
    pub sent: u64,
    /// Deliveries seen.
    pub delivered: u64,
    /// Deleted.
    pub deleted: u64,
}

impl Register {
    const CHUNKS: usize = 2048;
    const CHUNK: u64 = 1 << 16;

    /// For so many senders.
    pub fn new(producers: usize) -> Self {
        Self {
            producers: (0..producers)
                .map(|_| [const { OnceLock::new() }; Self::CHUNKS])
                .collect(),
        }
    }

    /// Makes room for the first messages of one sender, so that it is not made while something is measured.
    pub fn prepare(&self, producer: u16, messages: u64) {
        for chunk in 0..messages.div_ceil(Self::CHUNK) {
            self.entry(Id::new(producer, chunk * Self::CHUNK));
        }
    }

    fn entry(&self, id: Id) -> Option<&Entry> {
        let chunk = usize::try_from(id.sequence() / Self::CHUNK).ok()?;
        let chunk = self.producers.get(id.producer())?.get(chunk)?;
        let entries = chunk.get_or_init(|| (0..Self::CHUNK).map(|_| Entry::default()).collect());
        entries.get((id.sequence() % Self::CHUNK) as usize)
    }

    /// A message is about to be sent, not to be received before `due_us`. False when the register is full.
    #[inline]
    pub fn sending(&self, id: Id, due_us: u64, moment_ns: u64) -> bool {
        let Some(entry) = self.entry(id) else { return false };
        entry.counted_until.store(due_us, Relaxed);
        entry.moment_ns.store(moment_ns, Relaxed);
        // Not stored: of a message that was refused and is sent again it stays known what was seen of it.
        entry.fate.fetch_and(!REFUSED, Relaxed);
        entry.fate.fetch_or(SENT, Relaxed);
        true
    }

    /// It was refused after all.
    #[cold]
    pub fn refused(&self, id: Id) {
        if let Some(entry) = self.entry(id) {
            entry.fate.fetch_and(!SENT, Relaxed);
            entry.fate.fetch_or(REFUSED, Relaxed);
        }
    }

    /// It was received, for the `count`-th time as the ledger says, by a call that returned before `after_us`; its lease lasts
    /// until `until_us` at least.
    #[inline]
    pub fn received(
        &self,
        id: Id,
        count: u32,
        after_us: u64,
        until_us: u64,
        findings: &mut Findings,
    ) -> Option<Booked> {
        let Some(entry) = self.entry(id).filter(|entry| entry.fate.load(Relaxed) != 0) else {
            findings.add(Wrong::Unknown, format_args!("{id:?}"));
            return None;
        };
        let count = u64::from(count).min(u64::MAX >> US_BITS);
        let fate = entry.fate.fetch_add(DELIVERY, Relaxed);
        if fate & DELETED != 0 {
            // A delete that succeeds ends the message: whoever received it before could only be refused afterwards.
            findings.add(Wrong::Resurrected, format_args!("{id:?}"));
        }
        let word = count << US_BITS | until_us & US_MASK;
        let before = entry.counted_until.fetch_max(word, Relaxed);
        let (counted, due_us) = (before >> US_BITS, before & US_MASK);
        if counted == count {
            findings.add(Wrong::DoubleLease, format_args!("{id:?}, delivery {count}"));
        } else if counted + 1 == count && after_us + TOLERANCE_US < due_us {
            let wrong = if counted == 0 {
                Wrong::Early
            } else {
                Wrong::DoubleLease
            };
            findings.add(wrong, format_args!("{id:?} by {} µs", due_us - after_us));
        }
        Some(Booked {
            // If somebody else's delivery in between is not written down yet, there is nothing to compare with.
            due_us: if counted + 1 == count { due_us } else { after_us },
            moment_ns: entry.moment_ns.load(Relaxed),
            seen_before: fate / DELIVERY,
        })
    }

    /// The holder of its `count`-th lease is about to give it up.
    pub fn releasing(&self, id: Id, count: u32, now_us: u64) {
        let Some(entry) = self.entry(id) else { return };
        let _ = entry.counted_until.fetch_update(Relaxed, Relaxed, |word| {
            (word >> US_BITS == u64::from(count)).then_some(u64::from(count) << US_BITS | now_us & US_MASK)
        });
    }

    /// Whether its `count`-th lease may be over at `now_us`.
    pub fn may_be_over(&self, id: Id, count: u32, now_us: u64) -> bool {
        self.entry(id).is_none_or(|entry| {
            let word = entry.counted_until.load(Relaxed);
            word >> US_BITS > u64::from(count) || word & US_MASK <= now_us
        })
    }

    /// It was deleted.
    #[inline]
    pub fn deleted(&self, id: Id, findings: &mut Findings) {
        let Some(entry) = self.entry(id) else { return };
        if entry.fate.fetch_or(DELETED, Relaxed) & DELETED != 0 {
            findings.add(Wrong::DeletedTwice, format_args!("{id:?}"));
        }
    }

    /// What became of all messages, each of which must have been deleted.
    pub fn settle(&self, findings: &mut Findings) -> Sums {
        let mut sums = Sums::default();
        for (producer, chunks) in self.producers.iter().enumerate() {
            for (chunk, entries) in chunks.iter().enumerate() {
                for (place, entry) in entries.get().into_iter().flatten().enumerate() {
                    let id = Id::new(producer as u16, chunk as u64 * Self::CHUNK + place as u64);
                    settle_entry(id, entry, &mut sums, findings);
                }
            }
        }
        sums
    }
}

fn settle_entry(id: Id, entry: &Entry, sums: &mut Sums, findings: &mut Findings) {
    let fate = entry.fate.load(Relaxed);
    let seen = fate / DELIVERY;
    sums.sent += u64::from(fate & SENT != 0);
    sums.delivered += seen;
    sums.deleted += u64::from(fate & DELETED != 0);
    if fate & REFUSED != 0 && seen > 0 {
        findings.add(Wrong::Unknown, format_args!("{id:?}, which was refused"));
    }
    if fate & SENT != 0 && fate & DELETED == 0 {
        findings.add(Wrong::Lost, format_args!("{id:?}, {seen} deliveries"));
    }
    let counted = entry.counted_until.load(Relaxed) >> US_BITS;
    if seen != counted {
        findings.add(
            Wrong::WrongCount,
            format_args!("{id:?}: {seen} deliveries, {counted} counted"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        register: Register,
        findings: Findings,
    }

    const ID: Id = Id::new(0, 7);

    impl Case {
        fn sent(due_us: u64) -> Self {
            let register = Register::new(1);
            assert!(register.sending(ID, due_us, 0));
            Self {
                register,
                findings: Findings::default(),
            }
        }

        fn received(&mut self, count: u32, after_us: u64, until_us: u64) {
            self.register
                .received(ID, count, after_us, until_us, &mut self.findings);
        }

        fn end(mut self) -> Findings {
            self.register.settle(&mut self.findings);
            self.findings
        }
    }

    #[test]
    fn a_lawful_life_is_acquitted() {
        let mut case = Case::sent(1_000);
        case.received(1, 1_500, 5_000);
        case.received(2, 5_000, 90_000);
        case.register.releasing(ID, 2, 6_000);
        case.received(3, 6_001, 90_000);
        case.register.deleted(ID, &mut case.findings);
        let findings = case.end();
        assert!(findings.is_empty(), "{:?}", findings.lines());
    }

    #[test]
    fn deliveries_may_be_written_down_out_of_order() {
        let mut case = Case::sent(0);
        case.received(2, 5_000, 9_000);
        case.received(1, 5_001, 4_000);
        case.register.deleted(ID, &mut case.findings);
        assert!(case.end().is_empty());
    }

    #[test]
    fn each_wrong_is_named() {
        let one = |wrong, act: &dyn Fn(&mut Case)| {
            let mut case = Case::sent(1_000);
            act(&mut case);
            let findings = case.end();
            assert_eq!(findings.count(wrong), 1, "{wrong}: {:?}", findings.lines());
        };
        one(Wrong::Early, &|case| case.received(1, 800, 5_000));
        one(Wrong::DoubleLease, &|case| {
            case.received(1, 1_000, 5_000);
            case.received(2, 4_000, 9_000);
        });
        one(Wrong::DoubleLease, &|case| {
            case.received(1, 1_000, 5_000);
            case.received(1, 1_000, 5_000);
        });
        one(Wrong::Lost, &|case| case.received(1, 1_000, 5_000));
        one(Wrong::Lost, &|_| {});
        one(Wrong::WrongCount, &|case| case.received(3, 1_000, 5_000));
        one(Wrong::Resurrected, &|case| {
            case.received(1, 1_000, 1_000);
            case.register.deleted(ID, &mut case.findings);
            case.received(2, 2_000, 3_000);
        });
        one(Wrong::DeletedTwice, &|case| {
            case.register.deleted(ID, &mut case.findings);
            case.register.deleted(ID, &mut case.findings);
        });
        one(Wrong::Unknown, &|case| {
            case.register.refused(ID);
            case.received(1, 1_000, 5_000);
        });
        one(Wrong::Unknown, &|case| {
            let (register, findings) = (&case.register, &mut case.findings);
            assert!(register.received(Id::new(0, 8), 1, 0, 0, findings).is_none());
        });
    }
}
