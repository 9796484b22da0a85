//! The proof that comes with every number: nothing lost, nothing twice, nothing altered.
//!
//! Each thread keeps its own books while it runs, without sharing: [`Sent`] knows which ids it gave out, [`Received`] which it got.
//! After the run, when everything was drained, [`settle`] lays them side by side:
//!
//! - **Conservation**: every id that was sent was deleted, by exactly one thread, exactly once, and no other id ever turned up.
//! - **No double lease**: when leases outlast the run ([`Rule::Exclusive`]), no id is received twice – by one thread, which its
//!   own book shows at once, or by two, which shows when the books are intersected.
//! - **Not before the lease is over**: when leases run out on purpose ([`Rule::ComesBack`]), the first receiver of a withheld
//!   message writes down when its lease ends ([`Withheld`]), and the next one compares.
//! - **Integrity**: the body is what was sent ([`Verifier`]).
//! - **Order**, in FIFO queues: of a group, no message after a later one, and none while another thread has one in hand
//!   ([`Order`](crate::fifo::order::Order)).
//! - **Accepted once**, in FIFO queues: what is sent again under its deduplication id says so in its body ([`Id::echo`]), and must never
//!   be received.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arrayvec::ArrayVec;
use quanta::Clock;

use crate::{
    id_set::IdSet,
    target::{BATCH_MAX, Delivery, Done, Inspect},
    workload::{Corrupt, Id, Integrity, Verifier},
};

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// Sent, and never received although everything was drained.
    Lost,
    /// Received twice while a lease of it should have been live, or handed over twice.
    DoubleLease,
    /// Received after it was deleted.
    Resurrected,
    /// Two deletions succeeded.
    DeletedTwice,
    /// Came back before its lease was over.
    Early,
    /// Not the body that was sent.
    Corrupt,
    /// Received, but never sent.
    Unknown,
    /// A delete with a live lease was refused.
    DeleteRefused,
    /// The target refused a call for another reason than that it is full.
    Refused,
    /// More messages answered than asked for, or fewer shown than answered.
    Miscounted,
    /// The target believes to hold messages after everything was deleted.
    LeftOver,
    /// Received more or less often than its count of receives says.
    WrongCount,
    /// Came from a queue that it should not have been in.
    Misplaced,
    /// More memory in use than the budget allows.
    OverBudget,
    /// Received after a later one of its group.
    OutOfOrder,
    /// Received while somebody else had messages of its group in hand.
    GroupInFlight,
    /// Sent again under its deduplication id, and accepted again.
    AcceptedTwice,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::DoubleLease => "leased twice at a time",
            Self::Resurrected => "received after deletion",
            Self::DeletedTwice => "deleted twice",
            Self::Early => "came back before its lease was over",
            Self::Corrupt => "corrupt",
            Self::Unknown => "received but never sent",
            Self::DeleteRefused => "delete refused under a live lease",
            Self::Refused => "call refused",
            Self::Miscounted => "miscounted",
            Self::LeftOver => "left over after everything was deleted",
            Self::WrongCount => "received another number of times than counted",
            Self::Misplaced => "in a queue where it should not be",
            Self::OverBudget => "more memory in use than the budget allows",
            Self::OutOfOrder => "received after a later one of its group",
            Self::GroupInFlight => "received while its group was in flight",
            Self::AcceptedTwice => "sent again and accepted again",
        })
    }
}

/// What was found wrong: how often, with the first example of each kind.
#[derive(Clone, Debug, Default)]
pub struct Findings(BTreeMap<Wrong, (u64, String)>);

impl Findings {
    /// Notes one case.
    #[cold]
    pub fn add(&mut self, wrong: Wrong, example: impl fmt::Display) {
        self.add_many(wrong, 1, example);
    }

    /// Notes `count` cases.
    #[cold]
    pub fn add_many(&mut self, wrong: Wrong, count: u64, example: impl fmt::Display) {
        self.0.entry(wrong).or_insert_with(|| (0, example.to_string())).0 += count;
    }

    /// Takes over what another thread found.
    pub fn merge(&mut self, other: Self) {
        for (wrong, (count, example)) in other.0 {
            self.add_many(wrong, count, example);
        }
    }

    /// As [`merge`](Self::merge), saying where it was found.
    pub fn merge_with(&mut self, other: Self, place: &str) {
        for (wrong, (count, example)) in other.0 {
            self.add_many(wrong, count, format_args!("{place}: {example}"));
        }
    }

    /// How many cases of one kind.
    pub fn count(&self, wrong: Wrong) -> u64 {
        self.0.get(&wrong).map_or(0, |&(count, _)| count)
    }

    /// Nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One line for each kind.
    pub fn lines(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|(wrong, (count, example))| format!("{wrong}: {count} (first: {example})"))
            .collect()
    }
}

/// A sender's book.
#[derive(Clone, Debug)]
pub struct Sent {
    producer: u16,
    next: u64,
    refused: IdSet,
    refusals: u64,
}

impl Sent {
    /// For the thread that sends as `producer`.
    pub fn new(producer: u16) -> Self {
        Self {
            producer,
            next: 0,
            refused: IdSet::new(),
            refusals: 0,
        }
    }

    /// The id of the next message.
    #[inline]
    pub fn next(&self) -> Id {
        Id::new(self.producer, self.next)
    }

    /// `n` messages from [`next`](Self::next) on were offered; these were taken.
    #[inline]
    pub fn offered(&mut self, n: usize, taken: Done) {
        if taken != Done::all(n) {
            self.note_refused(n, taken);
        }
        self.next += n as u64;
    }

    /// How many the target took.
    #[inline]
    pub fn count(&self) -> u64 {
        self.next - self.refusals
    }

    /// How many it did not take.
    pub fn refusals(&self) -> u64 {
        self.refusals
    }

    #[cold]
    fn note_refused(&mut self, n: usize, taken: Done) {
        for offset in (0..n).filter(|&offset| !taken.succeeded(offset)) {
            self.refused.insert(self.next + offset as u64);
            self.refusals += 1;
        }
    }

    /// Which of the 64 ids of a word the target took.
    fn word(&self, word: u64) -> u64 {
        let offered = match self.next.saturating_sub(word * 64) {
            rest @ 0..64 => (1 << rest) - 1,
            _ => u64::MAX,
        };
        offered & !self.refused.word(word)
    }
}

/// What leases do during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// They outlast it: a second delivery is an error, and a delete always succeeds.
    Exclusive,
    /// They are short, and every so-manieth message of a sender is not deleted when first received.
    ComesBack {
        /// One in this many is withheld.
        one_in: u64,
        /// How long a lease lasts.
        visibility: Duration,
    },
}

/// Who received a withheld message first writes here when its lease will be over; shared by all threads, one word for each
/// withheld message.
#[derive(Debug)]
pub struct Withheld {
    producers: Vec<[OnceLock<Box<[AtomicU64]>>; Self::CHUNKS]>,
}

impl Withheld {
    const CHUNKS: usize = 4096;
    const CHUNK: u64 = 1 << 16;

    /// A table for so many senders.
    pub fn new(producers: usize) -> Self {
        Self {
            producers: (0..producers)
                .map(|_| [const { OnceLock::new() }; Self::CHUNKS])
                .collect(),
        }
    }

    /// The word of the `index`-th withheld message of a producer; `None` beyond 268 million.
    fn cell(&self, producer: usize, index: u64) -> Option<&AtomicU64> {
        let chunk = self
            .producers
            .get(producer)?
            .get(usize::try_from(index / Self::CHUNK).ok()?)?;
        let words = chunk.get_or_init(|| (0..Self::CHUNK).map(|_| AtomicU64::new(0)).collect());
        words.get((index % Self::CHUNK) as usize)
    }
}

/// A receiver's book: checks every message as it arrives.
#[derive(Debug)]
pub struct Received<'w> {
    rule: Rule,
    verifier: Verifier,
    /// By producer: what was received (`Exclusive`) or deleted (`ComesBack`).
    seen: Vec<IdSet>,
    /// What was received last and is to be deleted, in the order of the handles.
    to_delete: ArrayVec<Id, BATCH_MAX>,
    received: u64,
    deleted: u64,
    /// Of those received, how many the answers of the target spoke of.
    accounted: u64,
    withheld: &'w Withheld,
    back: Back,
    findings: Findings,
}

/// What came back.
#[derive(Clone, Debug)]
struct Back {
    clock: Clock,
    /// Before any receive since [`Received::mark_time`]: a lease begun since cannot end earlier than this plus its length.
    before_ns: u64,
    withheld: u64,
    returned: u64,
    unjudged: u64,
    expired: u64,
}

impl<'w> Received<'w> {
    /// Two clocks, the target's and the harness's, may differ by this much over one lease.
    const TOLERANCE: Duration = Duration::from_micros(100);

    /// For a thread that receives bodies like `verifier`'s from so many producers.
    pub fn new(rule: Rule, verifier: Verifier, withheld: &'w Withheld, producers: usize) -> Self {
        let clock = Clock::new();
        let before_ns = nanoseconds(&clock);
        Self {
            rule,
            verifier,
            seen: vec![IdSet::new(); producers],
            to_delete: ArrayVec::new(),
            received: 0,
            deleted: 0,
            accounted: 0,
            withheld,
            back: Back {
                clock,
                before_ns,
                withheld: 0,
                returned: 0,
                unjudged: 0,
                expired: 0,
            },
            findings: Findings::default(),
        }
    }

    /// Reads the clock where leases are timed. To be called before a turn, and now and then between calls: a lease is taken to
    /// have begun at the last reading, so that seldom reading loosens the check, but never convicts the innocent.
    #[inline]
    pub fn mark_time(&mut self) {
        if self.rule != Rule::Exclusive {
            self.back.before_ns = nanoseconds(&self.back.clock);
        }
    }

    /// A receive answered `n` messages where at most `max` were asked for: every one must have been shown.
    #[inline]
    pub fn answered(&mut self, n: usize, max: usize) {
        let shown = self.received - self.accounted;
        if shown != n as u64 || n > max {
            self.findings.add(
                Wrong::Miscounted,
                format_args!("{n} answered, {shown} shown, {max} asked for"),
            );
        }
        self.accounted = self.received;
    }

    /// What was received last and is to be deleted, in the order of the handles.
    #[inline]
    pub fn to_delete(&self) -> &[Id] {
        &self.to_delete
    }

    /// Takes the ids out, for messages whose handles are kept instead of being deleted now.
    pub fn take_to_delete(&mut self) -> ArrayVec<Id, BATCH_MAX> {
        self.to_delete.take()
    }

    /// Everything to be deleted was given to the target, with this outcome.
    #[inline]
    pub fn deleted(&mut self, done: Done) {
        let asked = self.to_delete.len();
        if self.rule == Rule::Exclusive && done == Done::all(asked) {
            self.deleted += asked as u64;
            self.to_delete.clear();
        } else {
            for (index, id) in self.to_delete.take().into_iter().enumerate() {
                self.deleted_one(id, done.succeeded(index));
            }
        }
    }

    /// One message was given to the target to delete.
    pub fn deleted_one(&mut self, id: Id, success: bool) {
        self.deleted += u64::from(success);
        match (self.rule, success) {
            (Rule::Exclusive, true) => {}
            (Rule::Exclusive, false) => self.findings.add(Wrong::DeleteRefused, format_args!("{id:?}")),
            // The thread was held up for longer than the lease: lawful, and somebody will receive the message again.
            (Rule::ComesBack { .. }, false) => self.back.expired += 1,
            (Rule::ComesBack { .. }, true) => {
                if id == Id::NONE {
                    return;
                }
                if !self.seen[id.producer()].insert(id.sequence()) {
                    self.findings.add(Wrong::DeletedTwice, format_args!("{id:?}"));
                }
            }
        }
    }

    /// Notes something the caller found wrong.
    pub fn found(&mut self, wrong: Wrong, example: impl fmt::Display) {
        self.findings.add(wrong, example);
    }

    /// Whether anything was found wrong so far.
    pub fn is_wrong(&self) -> bool {
        !self.findings.is_empty()
    }

    /// How many were received.
    #[inline]
    pub fn received_count(&self) -> u64 {
        self.received
    }

    /// How many were deleted.
    #[inline]
    pub fn deleted_count(&self) -> u64 {
        self.deleted
    }

    /// How many were not deleted on purpose when first received.
    pub fn withheld_count(&self) -> u64 {
        self.back.withheld
    }

    /// How many of those were seen to come back.
    pub fn returned_count(&self) -> u64 {
        self.back.returned
    }

    /// How many leases ran out although nobody meant them to: the thread was held up between receive and delete.
    pub fn expired_count(&self) -> u64 {
        self.back.expired
    }

    #[inline]
    fn note_exclusive(&mut self, id: Id) {
        let Some(seen) = self.seen.get_mut(id.producer()) else {
            let wrong = if id.is_echo() {
                Wrong::AcceptedTwice
            } else {
                Wrong::Unknown
            };
            return self.findings.add(wrong, format_args!("{id:?}"));
        };
        if !seen.insert(id.sequence()) {
            self.findings.add(Wrong::DoubleLease, format_args!("{id:?}"));
        }
    }

    /// Answers whether the message is to be deleted.
    fn note_comes_back(&mut self, id: Id, receives: u32, one_in: u64, visibility: Duration) -> bool {
        let Some(seen) = self.seen.get(id.producer()) else {
            self.findings.add(Wrong::Unknown, format_args!("{id:?}"));
            return true;
        };
        if seen.contains(id.sequence()) {
            self.findings.add(Wrong::Resurrected, format_args!("{id:?}"));
        }
        if !id.sequence().is_multiple_of(one_in) {
            return true;
        }
        let Some(cell) = self.withheld.cell(id.producer(), id.sequence() / one_in) else {
            return true;
        };
        let now_ns = nanoseconds(&self.back.clock);
        let lease_end_ns = self.back.before_ns + visibility.as_nanos() as u64;
        if receives <= 1 {
            // Relaxed: a receiver that does not see it yet leaves the case unjudged.
            let earlier_ns = cell.swap(lease_end_ns, Relaxed);
            if earlier_ns != 0 {
                self.findings.add(
                    Wrong::DoubleLease,
                    format_args!("{id:?} was received for the first time twice"),
                );
            }
            self.back.withheld += 1;
            return false;
        }
        // Relaxed: only ever compared; 0 means that the first receiver was held up before it could write.
        let earlier_ns = cell.swap(lease_end_ns, Relaxed);
        if earlier_ns == 0 {
            self.back.unjudged += 1;
        } else if now_ns + (Self::TOLERANCE.as_nanos() as u64) < earlier_ns {
            let early = Duration::from_nanos(earlier_ns - now_ns);
            self.findings
                .add(Wrong::Early, format_args!("{id:?} by {early:?}"));
        }
        self.back.returned += 1;
        true
    }
}

impl Inspect for Received<'_> {
    #[inline(always)]
    fn inspect<D: Delivery>(&mut self, delivery: &D) -> bool {
        self.received += 1;
        let id = match self.verifier.read(delivery.body()) {
            Ok(id) => id,
            Err(Corrupt(what)) => {
                self.findings.add(Wrong::Corrupt, what);
                Id::NONE
            }
        };
        let delete = match self.rule {
            _ if id == Id::NONE => true,
            Rule::Exclusive => {
                self.note_exclusive(id);
                true
            }
            Rule::ComesBack { one_in, visibility } => {
                self.note_comes_back(id, delivery.receives(), one_in, visibility)
            }
        };
        if delete && self.to_delete.try_push(id).is_err() {
            self.findings
                .add(Wrong::Miscounted, "more messages than any batch holds");
        }
        delete
    }
}

#[inline]
fn nanoseconds(clock: &Clock) -> u64 {
    clock.delta_as_nanos(0, clock.raw())
}

/// The sum of all books.
#[derive(Clone, Debug, Default)]
pub struct Settlement {
    /// Messages that the target took.
    pub sent: u64,
    /// Messages that it refused.
    pub refusals: u64,
    /// Messages that were deleted.
    pub deleted: u64,
    /// Messages that were withheld when first received.
    pub withheld: u64,
    /// Deliveries of withheld messages after the first.
    pub returned: u64,
    /// Deliveries whose timing could not be judged.
    pub unjudged: u64,
    /// Leases that ran out because a thread was held up.
    pub expired: u64,
    /// What is wrong; nothing, if all is well.
    pub findings: Findings,
}

/// Compares all books after everything was drained.
pub fn settle(senders: Vec<Sent>, receivers: Vec<Received<'_>>, body_bytes: usize) -> Settlement {
    let mut sum = Settlement::default();
    let rule = receivers.first().map_or(Rule::Exclusive, |book| book.rule);
    if Integrity::of(body_bytes) != Integrity::CountOnly {
        for sender in &senders {
            settle_sender(sender, &receivers, rule, &mut sum.findings);
        }
    }
    for sender in &senders {
        sum.sent += sender.count();
        sum.refusals += sender.refusals;
    }
    for book in receivers {
        sum.deleted += book.deleted;
        sum.withheld += book.back.withheld;
        sum.returned += book.back.returned;
        sum.unjudged += book.back.unjudged;
        sum.expired += book.back.expired;
        sum.findings.merge(book.findings);
    }
    if sum.deleted < sum.sent {
        let message = format!("{} sent, {} deleted", sum.sent, sum.deleted);
        if sum.findings.count(Wrong::Lost) == 0 {
            sum.findings
                .add_many(Wrong::Lost, sum.sent - sum.deleted, message);
        }
    } else if sum.deleted > sum.sent && sum.findings.is_empty() {
        let message = format!("{} sent, {} deleted", sum.sent, sum.deleted);
        sum.findings
            .add_many(Wrong::DeletedTwice, sum.deleted - sum.sent, message);
    }
    sum
}

/// All ids of one sender, 64 at a time.
fn settle_sender(sender: &Sent, receivers: &[Received<'_>], rule: Rule, findings: &mut Findings) {
    let producer = sender.producer as usize;
    let books: Vec<&IdSet> = receivers
        .iter()
        .filter_map(|book| book.seen.get(producer))
        .collect();
    let words = books
        .iter()
        .map(|set| set.words())
        .max()
        .unwrap_or(0)
        .max(sender.next.div_ceil(64));
    let twice_is = if rule == Rule::Exclusive {
        Wrong::DoubleLease
    } else {
        Wrong::DeletedTwice
    };
    let mut note = |wrong, word: u64, bits: u64| {
        if bits != 0 {
            let example = Id::new(sender.producer, word * 64 + u64::from(bits.trailing_zeros()));
            findings.add_many(wrong, u64::from(bits.count_ones()), format_args!("{example:?}"));
        }
    };
    for word in 0..words {
        let sent = sender.word(word);
        let (mut once, mut twice) = (0, 0);
        for book in &books {
            let seen = book.word(word);
            twice |= once & seen;
            once |= seen;
        }
        note(Wrong::Lost, word, sent & !once);
        note(Wrong::Unknown, word, once & !sent);
        note(twice_is, word, twice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Templates;

    struct Shown<'b>(&'b [u8], u32);

    impl Delivery for Shown<'_> {
        fn body(&self) -> &[u8] {
            self.0
        }
        fn receives(&self) -> u32 {
            self.1
        }
    }

    const BODY: usize = 24;

    struct Case<'w> {
        templates: Templates,
        sent: Sent,
        books: Vec<Received<'w>>,
    }

    impl<'w> Case<'w> {
        fn new(rule: Rule, withheld: &'w Withheld) -> Self {
            let book = || Received::new(rule, Verifier::new(BODY, 1), withheld, 1);
            Self {
                templates: Templates::new(BODY, 1),
                sent: Sent::new(0),
                books: vec![book(), book()],
            }
        }

        fn send(&mut self, n: u64) {
            (0..n).for_each(|_| self.sent.offered(1, Done::all(1)));
        }

        /// Book `book` receives message `sequence` for the `receives`-th time and deletes it, if it is to be deleted.
        fn receive(&mut self, book: usize, sequence: u64, receives: u32) -> bool {
            let body = self.templates.one(Id::new(0, sequence)).to_vec();
            let delete = self.books[book].inspect(&Shown(&body, receives));
            self.books[book].answered(1, 1);
            if delete {
                self.books[book].deleted(Done::all(1));
            }
            delete
        }

        fn settle(self) -> Settlement {
            settle(vec![self.sent], self.books, BODY)
        }
    }

    fn comes_back(visibility: Duration) -> Rule {
        Rule::ComesBack {
            one_in: 10,
            visibility,
        }
    }

    #[test]
    fn a_run_without_fault_is_acquitted() {
        let withheld = Withheld::new(1);
        let mut case = Case::new(Rule::Exclusive, &withheld);
        case.send(200);
        case.sent.offered(10, Done(0b11_1111_0111));
        case.send(5);
        for sequence in (0..215).filter(|&sequence| sequence != 203) {
            case.receive((sequence % 2) as usize, sequence, 1);
        }
        let sum = case.settle();
        assert!(sum.findings.is_empty(), "{:?}", sum.findings);
        assert_eq!((sum.sent, sum.refusals, sum.deleted), (214, 1, 214));
    }

    #[test]
    fn a_lost_message_is_named() {
        let withheld = Withheld::new(1);
        let mut case = Case::new(Rule::Exclusive, &withheld);
        case.send(100);
        (0..100).filter(|&sequence| sequence != 70).for_each(|sequence| {
            case.receive(0, sequence, 1);
        });
        assert_eq!(case.settle().findings.lines(), ["lost: 1 (first: 0:70)"]);
    }

    #[test]
    fn a_second_lease_shows_within_a_thread_and_between_two() {
        for other in [0, 1] {
            let withheld = Withheld::new(1);
            let mut case = Case::new(Rule::Exclusive, &withheld);
            case.send(2);
            case.receive(0, 0, 1);
            case.receive(0, 1, 1);
            case.receive(other, 1, 2);
            assert_eq!(case.settle().findings.count(Wrong::DoubleLease), 1);
        }
    }

    #[test]
    fn an_id_that_was_never_sent_or_was_refused_is_unknown() {
        let withheld = Withheld::new(1);
        let mut case = Case::new(Rule::Exclusive, &withheld);
        case.send(1);
        case.sent.offered(1, Done(0));
        (0..=2).for_each(|sequence| {
            case.receive(0, sequence, 1);
        });
        assert_eq!(case.settle().findings.count(Wrong::Unknown), 2);
    }

    #[test]
    fn an_early_return_and_a_lawful_one() {
        for (visibility, early) in [(Duration::from_secs(3600), 1), (Duration::ZERO, 0)] {
            let withheld = Withheld::new(1);
            let mut case = Case::new(comes_back(visibility), &withheld);
            case.send(2);
            assert!(!case.receive(0, 0, 1), "withheld");
            assert!(case.receive(0, 1, 1), "not withheld");
            assert!(case.receive(1, 0, 2), "back");
            let sum = case.settle();
            assert_eq!(sum.findings.count(Wrong::Early), early, "{:?}", sum.findings);
            assert_eq!((sum.withheld, sum.returned, sum.deleted), (1, 1, 2));
            assert_eq!(sum.findings.is_empty(), early == 0);
        }
    }

    #[test]
    fn a_deleted_message_must_stay_away() {
        let withheld = Withheld::new(1);
        let mut case = Case::new(comes_back(Duration::ZERO), &withheld);
        case.send(2);
        case.receive(0, 1, 1);
        case.receive(0, 1, 2);
        let findings = case.settle().findings;
        assert_eq!(findings.count(Wrong::Resurrected), 1);
        assert_eq!(findings.count(Wrong::DeletedTwice), 1);
        assert_eq!(findings.count(Wrong::Lost), 1, "message 0 never came");
    }

    #[test]
    fn a_withheld_message_that_never_comes_back_is_lost() {
        let withheld = Withheld::new(1);
        let mut case = Case::new(comes_back(Duration::ZERO), &withheld);
        case.send(1);
        case.receive(0, 0, 1);
        assert_eq!(case.settle().findings.count(Wrong::Lost), 1);
    }

    #[test]
    fn a_refused_delete_and_a_wrong_count() {
        let withheld = Withheld::new(1);
        let mut case = Case::new(Rule::Exclusive, &withheld);
        case.send(1);
        let body = case.templates.one(Id::new(0, 0)).to_vec();
        case.books[0].inspect(&Shown(&body, 1));
        case.books[0].answered(2, 1);
        case.books[0].deleted(Done(0));
        let findings = case.settle().findings;
        assert_eq!(findings.count(Wrong::DeleteRefused), 1);
        assert_eq!(findings.count(Wrong::Miscounted), 1);
        assert_eq!(findings.count(Wrong::Lost), 1, "not deleted is not accounted for");
    }

    #[test]
    fn bodies_without_id_are_counted() {
        let withheld = Withheld::new(1);
        let book = || Received::new(Rule::Exclusive, Verifier::new(4, 1), &withheld, 1);
        let run = |received: u64| {
            let (mut sent, mut book) = (Sent::new(0), book());
            let body = Templates::new(4, 1).one(Id::new(0, 0)).to_vec();
            (0..10).for_each(|_| sent.offered(1, Done::all(1)));
            for _ in 0..received {
                book.inspect(&Shown(&body, 1));
                book.deleted(Done::all(1));
            }
            settle(vec![sent], vec![book], 4).findings
        };
        assert!(run(10).is_empty());
        assert_eq!(run(9).count(Wrong::Lost), 1);
        assert_eq!(run(11).count(Wrong::DeletedTwice), 1);
    }
}
