//! Claiming messages, and what a lease's holder may do with them.

use arrayvec::ArrayVec;

use crate::{
    clock::{Millis, Reading},
    config::{
        BATCH_MAX, BITS, PASSED_OVER, RETURNED_VISITS, TIDY_VISITS, TURNED_LOOKS, VISIBILITY_MAX, WORDS,
    },
    extras::Extras,
    ledger::{
        partition::{Partition, Passing},
        reclaim::Pin,
        segment::{Segment, lowest},
        slot::{Entry, Slot},
        state::{By, Phase, Refusal, Transition, Word},
        tenants::Tenants,
    },
    sync::{Arc, Ordering},
};

/// One claimed message.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'p> {
    /// The segment it is in.
    pub segment: &'p Segment,
    /// Its slot.
    pub slot: u32,
    /// Its receive count, this claim included.
    pub receives: u32,
}

/// The claims of one receive.
pub type Claims<'p> = ArrayVec<Claim<'p>, BATCH_MAX>;

/// What a receive asks for, and by which rules it takes.
#[derive(Debug)]
pub struct Terms<'r> {
    /// How long to lease in milliseconds; 0 receives without leasing: the caller owes [`Partition::unhand`] for each claim.
    pub visibility_ms: u64,
    /// Messages sent so long ago are not delivered any more.
    pub retention_ms: u64,
    /// Messages received so often are not delivered any more; never zero for a receive. With zero, and a hand that sets
    /// everything aside, nothing is leased.
    pub max_receives: u32,
    /// Which of its worker's receives from the queue it is.
    pub round: u32,
    /// The receive's moment.
    pub reading: &'r Reading<'r>,
}

/// A message whose token was taken, but which is not to be delivered just like that. Its token is the caller's.
#[must_use = "whoever holds a token has to store the slot's next state"]
#[derive(Debug, Clone, Copy)]
pub struct Aside<'p> {
    /// The segment it is in.
    pub segment: &'p Segment,
    /// Its slot.
    pub slot: u32,
    /// What is special about it.
    pub why: Special,
}

/// What is special about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// Its retention period is over.
    Lapsed,
    /// It has been received as often as the queue allows.
    TooOften,
    /// It is of a message group.
    Grouped,
}

/// Where a receive puts its claims: many, or one, for which the compiler can leave out all that only many need.
pub trait Hand<'p> {
    /// How many more it takes, of `want` in all.
    fn room(&self, want: usize) -> usize;
    /// Takes one more; never more than were asked for.
    fn put(&mut self, claim: Claim<'p>);
    /// Takes a message to be looked at twice; counts against the room.
    fn set_aside(&mut self, aside: Aside<'p>);
    /// Gives back a message to be looked at twice, the first first.
    fn take_aside(&mut self) -> Option<Aside<'p>>;
    /// Whether every message is to be set aside, whatever the terms say. Known to the compiler: a receive pays nothing for it.
    #[inline(always)]
    fn sets_all_aside(&self) -> bool {
        false
    }
    /// How many are to be delivered.
    fn claimed(&self) -> usize;
    /// Shows each of those.
    fn each(&self, show: impl FnMut(&Claim<'p>));
}

/// Messages set aside by one pass of a receive.
pub type Asides<'p> = ArrayVec<Aside<'p>, BATCH_MAX>;

/// The hand of a receive of many.
#[derive(Debug)]
pub struct Many<'h, 'p> {
    /// What is to be delivered.
    pub claims: &'h mut Claims<'p>,
    /// What is to be looked at twice.
    pub asides: Asides<'p>,
}

/// The hand of a receive of one.
#[derive(Debug)]
pub struct One<'p> {
    /// What is to be delivered.
    pub claim: Option<Claim<'p>>,
    /// What is to be looked at twice.
    pub aside: Option<Aside<'p>>,
}

impl<'p> Hand<'p> for Many<'_, 'p> {
    #[inline(always)]
    fn room(&self, want: usize) -> usize {
        want.saturating_sub(self.claims.len() + self.asides.len())
    }

    #[inline]
    fn put(&mut self, claim: Claim<'p>) {
        let full = self.claims.try_push(claim).is_err();
        debug_assert!(!full, "claimed more than was asked for");
    }

    fn set_aside(&mut self, aside: Aside<'p>) {
        let full = self.asides.try_push(aside).is_err();
        debug_assert!(!full, "claimed more than was asked for");
    }

    fn take_aside(&mut self) -> Option<Aside<'p>> {
        self.asides.pop_at(0)
    }

    fn claimed(&self) -> usize {
        self.claims.len()
    }

    fn each(&self, show: impl FnMut(&Claim<'p>)) {
        self.claims.iter().for_each(show);
    }
}

impl<'p> Hand<'p> for One<'p> {
    #[inline(always)]
    fn room(&self, _one: usize) -> usize {
        usize::from(self.claim.is_none() && self.aside.is_none())
    }

    #[inline]
    fn put(&mut self, claim: Claim<'p>) {
        debug_assert!(self.claim.is_none(), "claimed more than was asked for");
        self.claim = Some(claim);
    }

    fn set_aside(&mut self, aside: Aside<'p>) {
        debug_assert!(self.aside.is_none(), "claimed more than was asked for");
        self.aside = Some(aside);
    }

    fn take_aside(&mut self) -> Option<Aside<'p>> {
        self.aside.take()
    }

    fn claimed(&self) -> usize {
        usize::from(self.claim.is_some())
    }

    fn each(&self, show: impl FnMut(&Claim<'p>)) {
        self.claim.iter().for_each(show);
    }
}

/// Where a handle says that its message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The segment's number in the partition's index.
    pub number: u32,
    /// The segment's serial, never reused.
    pub serial: u64,
    /// The slot.
    pub slot: u32,
}

/// What state a message was in when it was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletedFrom {
    /// Its lease was still running, or nobody had noticed that it was over.
    InFlight,
    /// It was visible again, or in its tenant's line.
    Visible,
    /// It was visible again, and has been put off.
    Delayed,
}

impl DeletedFrom {
    fn of(state: Word) -> Self {
        if state.is(Phase::InFlight) {
            Self::InFlight
        } else if state.is(Phase::Delayed) {
            Self::Delayed
        } else {
            Self::Visible
        }
    }
}

/// Dead slots of one segment, to be counted with one RMW.
#[derive(Debug)]
pub struct Graves<'p> {
    segment: Option<(&'p Partition, &'p Segment)>,
    slots: u32,
}

impl Terms<'_> {
    /// When a lease taken at `now` ends: rounded up by one, so that errors only lengthen it. (H11)
    #[inline(always)]
    fn due(&self, now: Millis) -> Option<Millis> {
        (self.visibility_ms > 0).then(|| now.after(self.visibility_ms + 1))
    }

    /// A number that differs from round to round, and not in step with anything that is done every so many rounds.
    fn lot(&self) -> usize {
        // Fibonacci hashing: the upper half of a multiple of 2^64 over the golden ratio.
        (u64::from(self.round).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize
    }

    /// Whether the retention period of a message sent at `sent` is over.
    pub fn has_lapsed(&self, sent: Millis, now: Millis) -> bool {
        sent.0.saturating_add(self.retention_ms) <= now.0
    }
}

impl Segment {
    /// Whether messages here have to be looked at one by one before they are delivered.
    #[inline(always)]
    fn is_to_be_judged(&self, now: Millis, terms: &Terms<'_>) -> bool {
        self.ready.is_special() || terms.has_lapsed(self.ready.oldest(), now)
    }
}

impl Claim<'_> {
    /// Its slot.
    #[inline]
    pub fn place(&self) -> &Slot {
        self.segment.slot(self.slot)
    }
}

/// Where the budget counts bodies that wait, of whatever partition.
const BODIES: u32 = 0;

impl<'p> Graves<'p> {
    /// None dug yet.
    #[inline]
    pub const fn new() -> Self {
        Self {
            segment: None,
            slots: 0,
        }
    }

    /// The segment of a handle: one after another in a batch, mostly the same, and what has been found under this pin stays
    /// found.
    #[inline(always)]
    pub(super) fn find(&self, partition: &Partition, place: Place, pin: &'p Pin<'_>) -> Option<&'p Segment> {
        match self.segment {
            Some((at, segment)) if std::ptr::eq(at, partition) && segment.fixed().serial == place.serial => {
                Some(segment)
            }
            _ => partition.find(place, pin),
        }
    }

    /// Whether nothing is left to be counted.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.segment.is_none()
    }

    #[inline]
    pub(super) fn dig(&mut self, partition: &'p Partition, segment: &'p Segment, pin: &Pin<'_>) {
        if let Some((_, last)) = self.segment
            && !std::ptr::eq(last, segment)
        {
            self.fill(pin);
        }
        self.segment = Some((partition, segment));
        self.slots += 1;
    }

    /// Counts what is left. Must be called before the pin ends; forgotten slots would keep their segment for ever.
    #[inline]
    pub fn fill(&mut self, pin: &Pin<'_>) {
        if let Some((partition, segment)) = self.segment.take() {
            let slots = std::mem::take(&mut self.slots);
            partition.after(segment.bury(slots), segment, pin);
        }
    }
}

impl Partition {
    /// Claims messages until `claims` is `want` long or nothing more is found: from the words that came back first in odd
    /// rounds, from the head first in even ones, then from the other.
    #[inline(always)]
    pub fn claim<'p>(&self, want: usize, terms: &Terms<'_>, pin: &'p Pin<'_>, claims: &mut impl Hand<'p>) {
        let returned_first = terms.round % 2 == 1;
        if returned_first && !self.returned.is_empty(pin) {
            self.claim_returned(want, terms, pin, claims);
        }
        if !returned_first && self.first(pin).ready.has_returned() {
            self.claim_new(want, terms, pin, claims);
            self.claim_from(terms.lot(), want, terms, pin, claims);
        }
        self.claim_head(want, terms, pin, claims);
        if !self.returned.is_empty(pin) {
            if claims.room(want) > 0 {
                self.claim_returned(want, terms, pin, claims);
            } else {
                self.tidy_returned(TIDY_VISITS, pin);
            }
        }
    }

    /// Claims from the head, which moves on past segments without tokens.
    #[inline(always)]
    pub fn claim_head<'p>(
        &self,
        want: usize,
        terms: &Terms<'_>,
        pin: &'p Pin<'_>,
        claims: &mut impl Hand<'p>,
    ) {
        // Progress: each turn but the last moves the head on, or finds a token that another thread has just set.
        while claims.room(want) > 0 {
            let segment = self.first(pin);
            for word in 0..WORDS {
                if segment.tokens(word) == 0 {
                    continue;
                }
                let tokens = segment.take(word, u64::MAX, claims.room(want));
                if tokens == 0 {
                    continue;
                }
                self.lease(segment, word, tokens, terms, claims);
                if claims.room(want) == 0 {
                    return;
                }
            }
            if self.pass(segment, pin) == Passing::End {
                return;
            }
        }
    }

    /// Claims messages never received before. The head moves on past segments that have no others left, and those of them
    /// that can be received are brought back on `returned`: so that messages that come back again and again do not keep
    /// those behind them from being received.
    #[cold]
    #[inline(never)]
    pub fn claim_new<'p>(
        &self,
        want: usize,
        terms: &Terms<'_>,
        pin: &'p Pin<'_>,
        claims: &mut impl Hand<'p>,
    ) {
        for _ in 0..PASSED_OVER {
            let segment = self.first(pin);
            for word in 0..WORDS {
                let new = segment.new_tokens(word);
                let tokens = segment.take(word, new, claims.room(want));
                if tokens != 0 {
                    self.lease(segment, word, tokens, terms, claims);
                }
                if claims.room(want) == 0 {
                    return;
                }
            }
            if self.pass_over(segment, pin) == Passing::End {
                return;
            }
        }
    }

    /// Claims from the head's segment from its `turn`-th token on, counted round and round: where messages are received and
    /// released again and again, each of them is first in its turn.
    #[cold]
    #[inline(never)]
    pub fn claim_from<'p>(
        &self,
        turn: usize,
        want: usize,
        terms: &Terms<'_>,
        pin: &'p Pin<'_>,
        claims: &mut impl Hand<'p>,
    ) {
        let segment = self.first(pin);
        let tokens: [u64; WORDS] = std::array::from_fn(|word| segment.tokens(word));
        let count: u32 = tokens.iter().map(|word| word.count_ones()).sum();
        if count == 0 {
            return;
        }
        let mut before = (turn % count as usize) as u32;
        for (word, mut among) in tokens.into_iter().enumerate() {
            let skipped = before.min(among.count_ones());
            before -= skipped;
            (0..skipped).for_each(|_| among &= among - 1);
            if among == 0 {
                continue;
            }
            let tokens = segment.take(word, among, claims.room(want));
            if tokens != 0 {
                self.lease(segment, word, tokens, terms, claims);
            }
            if claims.room(want) == 0 {
                return;
            }
        }
    }

    /// Strikes names off the nodes at the front of `returned` whose tokens went another way, through the head or by old
    /// handles, and takes off the nodes that are done; at most `visits` of them, up to the first that is not.
    ///
    /// Without it a message released in a loop, and claimed each time through a head that cannot pass because of it,
    /// would leave a node each time.
    #[cold]
    #[inline(never)]
    pub fn tidy_returned(&self, visits: usize, pin: &Pin<'_>) {
        for _ in 0..visits {
            let Some(node) = self.returned.peek(pin) else {
                return;
            };
            let segment = node.segment(pin);
            // Acquire: the tokens named were set before the node was pushed, so a look that comes after this load and
            // finds one clear comes after its claim. Set once more, it has a node of its own.
            let named = node.tokens.load(Ordering::Acquire);
            let gone = named & !segment.tokens(node.word);
            // Acquire: as in `claim_returned`.
            if named != 0 && node.tokens.fetch_and(!gone, Ordering::Acquire) & !gone != 0 {
                return;
            }
            if self.returned.pop(node, pin) {
                self.after(segment.bury(1), segment, pin);
            }
        }
    }

    /// As [`Partition::tidy_returned`], and goes on behind nodes that are not done: they go to the back, where one behind them
    /// is done, until that one's turn has come.
    #[cold]
    #[inline(never)]
    pub fn turn_returned(&self, visits: usize, pin: &Pin<'_>) {
        // Only as far as there is something to take off: a node put to the back is made anew, and the old one waits for the
        // epoch. Those put to the back here are not looked at again.
        let nodes = self
            .returned
            .nodes(pin)
            .zip(1..=visits.max(TURNED_LOOKS))
            // Relaxed: only says how far to go; `turn_front` judges each node anew.
            .filter(|(node, _)| {
                node.tokens.load(Ordering::Relaxed) & node.segment(pin).tokens(node.word) == 0
            })
            .last()
            .map_or(0, |(_, number)| visits.min(number));
        self.turn_front(nodes, pin);
    }

    /// Strikes names off the first so many nodes of `returned`, takes off those that are done, and puts the others to the back.
    pub fn turn_front(&self, nodes: usize, pin: &Pin<'_>) {
        for node in 0..nodes {
            self.tidy_returned(nodes - node, pin);
            let Some(node) = self.returned.peek(pin) else {
                return;
            };
            // Relaxed: the node is acquired; an old value is more names than there are, and stale ones at the back.
            let named = node.tokens.load(Ordering::Relaxed);
            if named == 0 {
                // Somebody else has just finished it; the next turn takes it off.
                continue;
            }
            // At the back first: no name may be missing for a moment. Those that are there twice are stale in one place.
            self.bring_back(node.segment(pin), node.word, named, pin);
            // Release: whoever finds no name left here finds those at the back; pairs with `claim_returned`. Nothing is acquired: if
            // it misses a node behind this one, it turns less far.
            if node.tokens.fetch_and(!named, Ordering::Release) & !named == 0 && self.returned.pop(node, pin)
            {
                let segment = node.segment(pin);
                self.after(segment.bury(1), segment, pin);
            }
        }
    }

    /// Claims through the nodes of `returned`, taking off those that are done.
    #[cold]
    #[inline(never)]
    pub fn claim_returned<'p>(
        &self,
        want: usize,
        terms: &Terms<'_>,
        pin: &'p Pin<'_>,
        claims: &mut impl Hand<'p>,
    ) {
        // With empty hands it goes on to the end: each turn strikes names or takes a node off, and to answer "empty" with
        // something visible behind stale nodes would be wrong. With something in hand a bounded share of the work will do.
        let mut visits = 0;
        while claims.room(want) > 0 && (visits < RETURNED_VISITS || claims.room(want) == want) {
            visits += 1;
            let Some(node) = self.returned.peek(pin) else {
                return;
            };
            let segment = node.segment(pin);
            // Acquire: tokens named by the node were set before it was pushed.
            let named = node.tokens.load(Ordering::Acquire);
            if named != 0 {
                let asked = lowest(named, claims.room(want));
                let tokens = segment.take(node.word, asked, claims.room(want));
                if tokens != 0 {
                    self.lease(segment, node.word, tokens, terms, claims);
                }
                // Those that were not there went another way, and if they come again they bring a node of their own.
                // Acquire: whoever finds no name left finds what a turn of the queue has put to the back before it struck the
                // others; pairs with `turn_front`, whose release goes on through these. Nothing is released: a name struck says
                // nothing but that its token is to be looked for elsewhere, if anywhere.
                if node.tokens.fetch_and(!asked, Ordering::Acquire) & !asked != 0 {
                    continue;
                }
            }
            if self.returned.pop(node, pin) {
                self.after(segment.bury(1), segment, pin);
            }
        }
    }

    /// Takes the first token named on `returned` that is there, taking off nodes that are done.
    #[cold]
    #[inline(never)]
    pub fn take_named<'p>(&self, pin: &'p Pin<'_>) -> Option<(&'p Segment, u32)> {
        // Progress: each turn but the last strikes names or takes a node off.
        loop {
            let node = self.returned.peek(pin)?;
            let segment = node.segment(pin);
            // Acquire, here and below: as in `claim_returned`.
            let named = node.tokens.load(Ordering::Acquire);
            let mut token = 0;
            if named != 0 {
                let asked = lowest(named, 1);
                token = segment.take(node.word, asked, 1);
                if node.tokens.fetch_and(!asked, Ordering::Acquire) & !asked != 0 {
                    if token != 0 {
                        return Some((segment, (node.word * BITS) as u32 + token.trailing_zeros()));
                    }
                    continue;
                }
            }
            let at = (node.word * BITS) as u32 + token.trailing_zeros();
            if self.returned.pop(node, pin) {
                self.after(segment.bury(1), segment, pin);
            }
            if token != 0 {
                return Some((segment, at));
            }
        }
    }

    /// Claims one message from the segment at the head, if it is as simple as that: what most receives of one message
    /// come to. `None` says nothing about whether there is one.
    #[inline(always)]
    pub fn claim_first<'p>(&self, terms: &Terms<'_>, pin: &'p Pin<'_>) -> Option<Claim<'p>> {
        let segment = self.first(pin);
        if segment.ready.is_special() {
            return None;
        }
        for word in 0..WORDS {
            let tokens = segment.take(word, u64::MAX, 1);
            if tokens != 0 {
                let at = word * BITS + tokens.trailing_zeros() as usize;
                // As in `lease`.
                let now = terms.reading.now();
                if segment.is_to_be_judged(now, terms) {
                    // Off the straight way: the next look takes the long one.
                    self.publish_again(segment, word, tokens, pin);
                    return None;
                }
                let due = terms.due(now);
                let (claim, sent) = self.lease_slot(segment, at, due, now)?;
                self.note_leases(segment, due, sent);
                return Some(claim);
            }
        }
        None
    }

    /// Stores the leases of tokens just taken, and sets the alarm. Cannot panic, allocate or call foreign code: a
    /// message whose token is lost here would be lost for good. (H12)
    #[inline(always)]
    fn lease<'p>(
        &self,
        segment: &'p Segment,
        word: usize,
        tokens: u64,
        terms: &Terms<'_>,
        claims: &mut impl Hand<'p>,
    ) {
        // After the claim: errors only lengthen the lease. (H11)
        let now = terms.reading.now();
        if claims.sets_all_aside() || segment.is_to_be_judged(now, terms) {
            return self.judge(segment, word, tokens, now, terms, claims);
        }
        let due = terms.due(now);
        let mut last = Millis(0);
        let mut rest = tokens;
        while rest != 0 {
            let at = word * BITS + rest.trailing_zeros() as usize;
            rest &= rest - 1;
            if let Some((claim, sent)) = self.lease_slot(segment, at, due, now) {
                last = sent;
                claims.put(claim);
            }
        }
        self.note_leases(segment, due, last);
    }

    /// As `lease`, for segments whose messages have to be looked at one by one: those that may be delivered are leased, the
    /// others set aside with their tokens. The same restrictions hold.
    #[cold]
    #[inline(never)]
    fn judge<'p>(
        &self,
        segment: &'p Segment,
        word: usize,
        tokens: u64,
        now: Millis,
        terms: &Terms<'_>,
        claims: &mut impl Hand<'p>,
    ) {
        let due = terms.due(now);
        let mut last = None;
        let mut rest = tokens;
        while rest != 0 {
            let at = word * BITS + rest.trailing_zeros() as usize;
            rest &= rest - 1;
            let Some(slot) = segment.slots.get(at) else {
                continue;
            };
            // SAFETY: we hold the token.
            let entry = unsafe { slot.entry() };
            let why = if terms.has_lapsed(entry.sent(), now) {
                Some(Special::Lapsed)
            } else if slot.state_in_hand().receives() >= terms.max_receives {
                Some(Special::TooOften)
            // SAFETY: as above; the pin lasts longer than this.
            } else if unsafe { entry.extras() }.is_some_and(|extras| Extras::new(extras).tenant() != 0) {
                Some(Special::Grouped)
            } else {
                None
            };
            if let Some(why) = why {
                // Who noted meanwhile that there is nothing was wrong, should there be more behind it.
                self.note_oldest(entry.sent());
                let slot = at as u32;
                claims.set_aside(Aside { segment, slot, why });
            } else if let Some((claim, sent)) = self.lease_slot(segment, at, due, now) {
                last = Some(sent);
                claims.put(claim);
            }
        }
        if let Some(sent) = last {
            self.note_leases(segment, due, sent);
        }
    }

    /// Leases a message that was set aside, after all.
    pub fn lease_aside<'p>(&self, aside: Aside<'p>, terms: &Terms<'_>) -> Option<Claim<'p>> {
        let now = terms.reading.now();
        let due = terms.due(now);
        let (claim, sent) = self.lease_slot(aside.segment, aside.slot as usize, due, now)?;
        self.note_leases(aside.segment, due, sent);
        Some(claim)
    }

    /// Does away with a message that was set aside. The caller counts it.
    pub fn discard_aside(&self, aside: Aside<'_>, pin: &Pin<'_>) {
        let slot = aside.segment.slot(aside.slot);
        let Ok(Transition { next, .. }) = slot.state_in_hand().discard() else {
            debug_assert!(false, "a token on a slot that is not visible");
            return;
        };
        // SAFETY: we hold the token.
        let entry = unsafe { slot.entry() };
        slot.store(next);
        self.take_leave(entry, slot, false, pin);
        self.bury_one(aside.segment, entry, pin);
    }

    /// A message is dead that was in flight or not: if it is a tenant's, the tenant has one less.
    pub fn take_leave(&self, entry: Entry, slot: &Slot, was_in_flight: bool, pin: &Pin<'_>) {
        if let Some((tenants, tenant)) = self.tenant_of(entry, pin) {
            if was_in_flight {
                tenants.end(tenant, |now| slot.received().last(now), pin);
            }
            tenants.leave(tenant, pin);
        }
    }

    /// The lease of a message is over, and it goes on.
    #[cold]
    pub fn end_lease(&self, entry: Entry, slot: &Slot, pin: &Pin<'_>) {
        if let Some((tenants, tenant)) = self.tenant_of(entry, pin) {
            tenants.end(tenant, |now| slot.received().last(now), pin);
        }
    }

    /// Whose a message is whose entry the caller has read by one of the rules of `Slot` under this pin.
    fn tenant_of<'p>(&'p self, entry: Entry, pin: &'p Pin<'_>) -> Option<(&'p Tenants, u32)> {
        // SAFETY: the caller's promise. Extras lie in the segment, or in a body which is freed only after the pin.
        let extras = unsafe { entry.extras() }?;
        let tenant = Extras::new(extras).tenant();
        // Without a table (of an era that has one a message can come only by way of `reserve`) there is nothing to count.
        (tenant != 0).then_some((self.tenants.get(pin)?, tenant))
    }

    /// Keeps a message that was set aside from being received for `ms` milliseconds.
    pub fn put_aside_off(&self, aside: Aside<'_>, ms: u64, reading: &Reading<'_>) {
        let slot = aside.segment.slot(aside.slot);
        let due = reading.now().after(ms + 1);
        let Ok(Transition { next, .. }) = slot.state_in_hand().put_off(due) else {
            debug_assert!(false, "a token on a slot that is not visible");
            return;
        };
        slot.store(next);
        self.set_alarm(aside.segment, due);
    }

    /// Gives the token of a message that was set aside back.
    pub fn give_aside_back(&self, aside: Aside<'_>, pin: &Pin<'_>) {
        let slot = aside.slot as usize;
        self.publish_again(aside.segment, slot / BITS, 1 << (slot % BITS), pin);
    }

    /// Frees the body of a message just made dead, and counts its slot.
    pub fn bury_one(&self, segment: &Segment, entry: Entry, pin: &Pin<'_>) {
        // SAFETY: the caller made it dead, having read the entry before; pinned.
        if let Some(body) = unsafe { entry.own_allocation() } {
            self.retire_body(body, pin);
        }
        self.after(segment.bury(1), segment, pin);
    }

    /// Stores the lease of one slot whose token we hold; also says when its message was sent.
    #[inline(always)]
    fn lease_slot<'p>(
        &self,
        segment: &'p Segment,
        at: usize,
        due: Option<Millis>,
        now: Millis,
    ) -> Option<(Claim<'p>, Millis)> {
        let slot = segment.slots.get(at)?;
        let state = slot.state_in_hand();
        let Ok(Transition { next, .. }) = state.claim(due) else {
            debug_assert!(false, "a token on a slot that is {state:?}");
            return None;
        };
        // SAFETY: we hold the token.
        let sent = unsafe { slot.entry() }.sent();
        slot.set_received(state.receives(), sent, now);
        slot.store(next);
        Some((
            Claim {
                segment,
                slot: at as u32,
                receives: next.receives(),
            },
            sent,
        ))
    }

    /// After leases were stored: sets the alarm, and notes about how old the partition's oldest message is.
    #[inline(always)]
    fn note_leases(&self, segment: &Segment, due: Option<Millis>, sent: Millis) {
        if let Some(due) = due {
            self.set_alarm(segment, due);
        }
        self.note_oldest(sent);
    }

    /// Makes a message that was claimed without a lease visible again.
    pub fn unhand(&self, claim: &Claim<'_>, pin: &Pin<'_>) {
        let slot = claim.slot as usize;
        self.publish_again(claim.segment, slot / BITS, 1 << (slot % BITS), pin);
    }

    /// Deletes a message by the handle of its receive number `receives`.
    #[inline(always)]
    pub fn delete<'p>(
        &'p self,
        place: Place,
        receives: u32,
        pin: &'p Pin<'_>,
        graves: &mut Graves<'p>,
    ) -> Result<DeletedFrom, Refusal> {
        let segment = graves.find(self, place, pin).ok_or(Refusal::Dead)?;
        let slot = segment.slots.get(place.slot as usize).ok_or(Refusal::Dead)?;
        let state = slot.state();
        // Nearly always: the lease is running, and nobody else has a hand in it.
        let from =
            if state.is(Phase::InFlight) && slot.swap_state(state, state.delete(receives)?.next).is_ok() {
                DeletedFrom::InFlight
            } else {
                self.delete_otherwise(segment, place.slot as usize, slot, receives, pin)?
            };
        // SAFETY: the handle comes from a receiver that held the token; the state we saw was stored after that, with
        // Release, and we read it with Acquire. Pinned, and the slot is not buried yet.
        let entry = unsafe { slot.entry() };
        if !entry.is_plain() {
            self.clear_up(entry, slot, from, pin);
        }
        graves.dig(self, segment, pin);
        Ok(from)
    }

    /// Clears up behind a message just deleted that was more than bytes in the arena.
    #[cold]
    #[inline(never)]
    fn clear_up(&self, entry: Entry, slot: &Slot, from: DeletedFrom, pin: &Pin<'_>) {
        self.take_leave(entry, slot, from == DeletedFrom::InFlight, pin);
        // SAFETY: as in `delete`.
        if let Some(body) = unsafe { entry.own_allocation() } {
            self.retire_body(body, pin);
        }
    }

    /// As `delete`, of a message in whatever state. The caller frees the body and counts the slot.
    #[cold]
    #[inline(never)]
    fn delete_otherwise(
        &self,
        segment: &Segment,
        at: usize,
        slot: &Slot,
        receives: u32,
        pin: &Pin<'_>,
    ) -> Result<DeletedFrom, Refusal> {
        let mut state = slot.state();
        // Progress: each turn more means that another thread changed the message's state.
        loop {
            let transition = state.delete(receives)?;
            match transition.by {
                By::Cas | By::Reservation | By::Baton => match slot.swap_state(state, transition.next) {
                    Ok(()) => return Ok(DeletedFrom::of(state)),
                    Err(newer) => state = newer,
                },
                By::Token => {
                    // Its lease is over but nobody received it again. Only the token's holder may leave Visible: a
                    // CAS could hit between a claimer's win and its store. (H2)
                    if !segment.take_one(at) {
                        // In another hand: being received again, or deleted by this very handle elsewhere.
                        return Err(Refusal::ReceivedAgain);
                    }
                    // It may have been claimed and have expired again between our look and our win.
                    return match slot.state_in_hand().delete(receives) {
                        Ok(Transition { next, .. }) => {
                            slot.store(next);
                            Ok(DeletedFrom::Visible)
                        }
                        Err(refusal) => {
                            self.publish_again(segment, at / BITS, 1 << (at % BITS), pin);
                            Err(refusal)
                        }
                    };
                }
            }
        }
    }

    /// Moves the end of a lease to `visibility_ms` from now, or gives it up if that is zero.
    ///
    /// Returns when the lease ends now. Fails with [`Refusal::TooLong`] if it would last longer than 12 hours in all; the moment is
    /// the latest end it can have.
    pub fn change_visibility(
        &self,
        place: Place,
        receives: u32,
        visibility_ms: u64,
        reading: &Reading<'_>,
        pin: &Pin<'_>,
    ) -> Result<Millis, Refusal> {
        let segment = self.find(place, pin).ok_or(Refusal::Dead)?;
        let slot = segment.slots.get(place.slot as usize).ok_or(Refusal::Dead)?;
        let now = reading.now();
        let mut state = slot.state();
        let due = now.after(visibility_ms + 1);
        // Progress: each turn more means that another thread changed the message's state.
        loop {
            let transition = if visibility_ms == 0 {
                state.release(receives, now)?
            } else {
                let transition = state.extend(receives, due, now)?;
                // The receive times are of this lease or a later one; if a later one, the CAS below fails.
                let latest = slot
                    .received()
                    .last(now)
                    .after(VISIBILITY_MAX.as_millis() as u64 + 1);
                if due > latest {
                    return Err(Refusal::TooLong(latest));
                }
                transition
            };
            match slot.swap_state(state, transition.next) {
                Ok(()) => break,
                Err(newer) => state = newer,
            }
        }
        if visibility_ms == 0 {
            if segment.ready.has_groups() {
                // SAFETY: as in `delete`: the lease was the caller's, and we are pinned.
                self.end_lease(unsafe { slot.entry() }, slot, pin);
            }
            let at = place.slot as usize;
            self.publish_again(segment, at / BITS, 1 << (at % BITS), pin);
        } else {
            self.set_alarm(segment, due);
        }
        Ok(due)
    }

    /// Lowers the segment's due hint, after the leases were stored, and the partition's next look if need be.
    #[inline]
    pub fn set_alarm(&self, segment: &Segment, due: Millis) {
        segment.hint().lower(due);
        self.look_by(due);
    }

    #[inline]
    pub(super) fn find<'p>(&self, place: Place, pin: &'p Pin<'_>) -> Option<&'p Segment> {
        debug_assert!(pin.is_in(self.domain));
        let segment = self.index.find(place.number, pin)?;
        (segment.fixed().serial == place.serial).then_some(segment)
    }

    /// Frees a dead message's body of its own once nobody can be reading it.
    #[cold]
    pub(crate) fn retire_body(&self, body: *mut [u8], pin: &Pin<'_>) {
        /// A body in the hands of an epoch closure.
        struct Retired(*mut [u8]);
        // SAFETY: it owns the body, whose message is dead.
        unsafe impl Send for Retired {}
        let bytes = body.len();
        self.budget.enter_limbo(BODIES, bytes);
        // The budget alone: a closure that held the partition would keep all its messages while it waits.
        let (body, budget) = (Retired(body), Arc::clone(&self.budget));
        pin.defer(self.domains(), bytes, move || {
            let body = body;
            let bytes = body.0.len();
            // SAFETY: made by `Box::into_raw`; the one who made its message dead retired it, once.
            drop(unsafe { Box::from_raw(body.0) });
            budget.leave_limbo(BODIES, bytes);
            budget.give_back(bytes);
        });
        if self.budget.is_tight() {
            pin.flush();
        }
    }
}
