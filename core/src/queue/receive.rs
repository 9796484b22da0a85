//! Receiving: which partitions are looked at in which order, and what becomes of messages that are not to be delivered.

use std::time::Duration;

use super::{
    Queue,
    dead_letter::Fate,
    era::Era,
    fair::Standing,
    stats::Stripe,
    steal::{self, Seeker},
};
#[cfg(not(loom))]
use crate::ledger::lease::Claims;
use crate::{
    clock::{self, Millis},
    config::{BATCH_MAX, DECISIONS_MAX, SLOTS, VISIBILITY_MAX},
    delivery::{Delivery, Received},
    error::ReceiveError,
    ledger::{
        lease::{Aside, Asides, Claim, Hand, Many, One, Special, Terms},
        partition::Partition,
        tend::Chores,
    },
    turn::Turn,
};

/// Segments that a sweep looks after besides.
const TENDED_IN_PASSING: u32 = 16;
/// Segments of purged queues that a receive frees which comes away with nothing.
pub(super) const GRAVES_IN_PASSING: usize = 4;

impl Queue {
    /// Refuses calls on a deleted queue, and turns of another broker's worker, whose pin would protect nothing here.
    #[inline(always)]
    pub(crate) fn admit<'t, E>(&'t self, turn: &'t Turn<'_>, deleted: E, foreign: E) -> Result<&'t Era, E> {
        if !turn.worker().is_of(&self.inner.shared) {
            return Err(foreign);
        }
        self.era(turn.pin()).ok_or(deleted)
    }

    #[inline(always)]
    pub(crate) fn receive_in<'t>(
        &'t self,
        turn: &'t Turn<'_>,
        max: usize,
        visibility_timeout: Option<Duration>,
    ) -> Result<Received<'t>, ReceiveError> {
        Self::check_max(max)?;
        let era = self.admit(turn, ReceiveError::QueueDeleted, ReceiveError::ForeignTurn)?;
        let stripe = Self::stripe(era, turn);
        let terms = self.terms(stripe, turn, visibility_timeout)?;
        #[cfg(not(loom))]
        if era.fifo(turn.pin()).is_some() {
            let mut received = Received::new(self);
            self.receive_fifo(era, turn, stripe, &terms, max, received.claims());
            return Ok(received);
        }
        let max = self.allow(era, turn, stripe, &terms, max)?;
        let first = self.first(era, turn, stripe, max, terms.round);
        let mut received = Received::new(self);
        let mut hand = Many {
            claims: received.claims(),
            asides: Asides::new(),
        };
        let mut receive = Receive {
            queue: self,
            era,
            turn,
            stripe,
            max,
            terms: &terms,
            hand: &mut hand,
            fair: None,
        };
        if era.is_fair() {
            receive.run_fairly(first);
        } else {
            receive.run(first);
        }
        Ok(received)
    }

    #[inline(always)]
    pub(crate) fn receive_one_in<'t>(
        &'t self,
        turn: &'t Turn<'_>,
        visibility_timeout: Option<Duration>,
    ) -> Result<Option<Delivery<'t>>, ReceiveError> {
        let era = self.admit(turn, ReceiveError::QueueDeleted, ReceiveError::ForeignTurn)?;
        let stripe = Self::stripe(era, turn);
        let terms = self.terms(stripe, turn, visibility_timeout)?;
        #[cfg(not(loom))]
        if era.fifo(turn.pin()).is_some() {
            let mut claims = Claims::new();
            self.receive_fifo(era, turn, stripe, &terms, 1, &mut claims);
            return Ok(claims.pop().map(|claim| Delivery::new(claim, self)));
        }
        self.allow(era, turn, stripe, &terms, 1)?;
        let (worker, pin) = (turn.worker(), turn.pin());
        let first = self.first(era, turn, stripe, 1, terms.round);
        if !era.is_fair()
            && let Some(partition) = era.partition(first, pin)
            && partition.returned.is_empty(pin)
            && let Some(claim) = partition.claim_first(&terms, pin)
        {
            let now = turn.now();
            worker.saw(now);
            if partition.is_sweep_due(now) {
                self.sweep(turn, era, partition, now, 1);
            }
            let claim = Some(claim);
            let hand = One { claim, aside: None };
            self.settle(era, turn, stripe, &terms, &hand);
            return Ok(claim.map(|claim| Delivery::new(claim, self)));
        }
        Ok(self
            .search(era, turn, stripe, &terms, first)
            .map(|claim| Delivery::new(claim, self)))
    }

    /// Receives one message from wherever there is one.
    #[cold]
    #[inline(never)]
    fn search<'t>(
        &'t self,
        era: &'t Era,
        turn: &'t Turn<'_>,
        stripe: Option<&'t Stripe>,
        terms: &Terms<'_>,
        first: usize,
    ) -> Option<Claim<'t>> {
        let mut hand = One {
            claim: None,
            aside: None,
        };
        let mut receive = Receive {
            queue: self,
            era,
            turn,
            stripe,
            max: 1,
            terms,
            hand: &mut hand,
            fair: None,
        };
        if era.is_fair() {
            receive.run_fairly(first);
        } else {
            receive.run(first);
        }
        hand.claim
    }

    #[inline(always)]
    pub(super) fn terms<'t>(
        &'t self,
        stripe: Option<&Stripe>,
        turn: &'t Turn<'_>,
        visibility_timeout: Option<Duration>,
    ) -> Result<Terms<'t>, ReceiveError> {
        let settings = &self.inner.hot.settings;
        Ok(Terms {
            visibility_ms: self.visibility_ms(visibility_timeout)?,
            retention_ms: settings.retention_ms(),
            max_receives: settings.max_receives(),
            // Counted per worker and queue: what is done every second or seventh time must not fall in step with how a
            // worker goes round its queues.
            round: stripe.map_or(1, |stripe| stripe.rounds.next() as u32),
            reading: turn.reading(),
        })
    }

    #[inline(always)]
    pub(super) fn check_max(max: usize) -> Result<(), ReceiveError> {
        if (1..=BATCH_MAX).contains(&max) {
            return Ok(());
        }
        Err(ReceiveError::Max {
            given: max,
            limit: BATCH_MAX,
        })
    }

    /// How long a receive is to lease: for as long as was asked for, or as the queue says.
    #[inline(always)]
    pub(super) fn visibility_ms(&self, visibility_timeout: Option<Duration>) -> Result<u64, ReceiveError> {
        match visibility_timeout {
            Some(given) => clock::ceil_ms(given)
                .filter(|&ms| ms <= VISIBILITY_MAX.as_millis() as u64)
                .ok_or(ReceiveError::VisibilityTimeout {
                    given,
                    limit: VISIBILITY_MAX,
                }),
            None => Ok(self.inner.hot.settings.visibility_ms()),
        }
    }

    /// How many messages the worker may lease now, of `max` it asks for.
    #[inline(always)]
    pub(super) fn allow(
        &self,
        era: &Era,
        turn: &Turn<'_>,
        stripe: Option<&Stripe>,
        terms: &Terms<'_>,
        max: usize,
    ) -> Result<usize, ReceiveError> {
        match stripe {
            Some(stripe) if stripe.leased.read() + max as u64 > stripe.leased_until.read() => {
                self.grant(era, turn, stripe, terms, max)
            }
            _ => Ok(max),
        }
    }

    #[cold]
    #[inline(never)]
    fn grant(
        &self,
        era: &Era,
        turn: &Turn<'_>,
        stripe: &Stripe,
        terms: &Terms<'_>,
        max: usize,
    ) -> Result<usize, ReceiveError> {
        if terms.visibility_ms == 0 {
            return Ok(max);
        }
        loop {
            let settings = &self.inner.hot.settings;
            let (granted, limit) = era.stats.grant_within(stripe, || settings.in_flight_max());
            match granted {
                Ok(granted) => return Ok(max.min(usize::try_from(granted).unwrap_or(max))),
                // Leases that are over count until somebody notices: nobody else may, if all receives end here.
                Err(_) if self.sweep_any(era, turn, max as u32) => {}
                Err(in_flight) => {
                    return Err(ReceiveError::TooManyInFlight {
                        in_flight,
                        limit: limit.unwrap_or(u64::MAX),
                    });
                }
            }
        }
    }

    /// Sweeps partitions where that is due until `enough` messages became visible, and looks after what has lapsed. Says whether
    /// any lease has ended by that.
    fn sweep_any<'t>(&'t self, era: &'t Era, turn: &'t Turn<'_>, enough: u32) -> bool {
        let now = turn.now();
        let mut swept = 0;
        let lapsed = || era.stats.sum(|c| &c.lapsed_in_flight);
        let before = lapsed();
        for partition in era.glances(turn.pin()) {
            if swept < enough && partition.is_sweep_due(now) {
                swept += self.sweep(turn, era, partition, now, enough - swept);
            }
            // Nor need any lease be over soon where the retention of what is leased is.
            if partition.is_tending_due(now) {
                self.tend(era, partition, turn, now, u32::MAX);
            }
        }
        // The claims that follow must not count from it.
        turn.reading().forget();
        swept > 0 || lapsed() > before
    }

    /// The partition to look at first.
    #[inline(always)]
    pub(super) fn first(
        &self,
        era: &Era,
        turn: &Turn<'_>,
        stripe: Option<&Stripe>,
        max: usize,
        round: u32,
    ) -> usize {
        let pin = turn.pin();
        self.seeker(turn, stripe, round)
            .first(max, pin, |number| era.glance(number, pin))
    }

    /// The worker of a turn, about to receive here.
    #[inline(always)]
    pub(super) fn seeker<'t>(
        &self,
        turn: &'t Turn<'_>,
        stripe: Option<&'t Stripe>,
        receive: u32,
    ) -> Seeker<'t> {
        let route = self.inner.hot.width.route();
        Seeker {
            worker: turn.worker(),
            home: turn.worker().home & route.mask(),
            stripe,
            partitions: route.span(),
            receive,
        }
    }

    /// Counts what was claimed; without leases, makes it visible again.
    #[inline(always)]
    fn settle<'t>(
        &self,
        era: &Era,
        turn: &Turn<'_>,
        stripe: Option<&Stripe>,
        terms: &Terms<'_>,
        hand: &impl Hand<'t>,
    ) {
        let count = hand.claimed();
        if let Some(stripe) = stripe {
            let counter = if terms.visibility_ms > 0 {
                &stripe.leased
            } else {
                &stripe.glimpsed
            };
            counter.add(count as u64);
        }
        if terms.visibility_ms > 0 {
            if count > 0 {
                self.wake_by(|| turn.now().after(terms.visibility_ms));
            }
        } else {
            self.unhand(era, turn, hand);
        }
    }

    #[cold]
    #[inline(never)]
    fn unhand<'t>(&self, era: &Era, turn: &Turn<'_>, hand: &impl Hand<'t>) {
        hand.each(|claim| {
            if let Some(partition) = era.partition(claim.segment.fixed().partition as usize, turn.pin()) {
                partition.unhand(claim, turn.pin());
            }
        });
        self.wake(hand.claimed());
    }

    /// Sweeps one partition until `enough` messages became visible; counts them and says how many.
    pub(crate) fn sweep<'t>(
        &'t self,
        turn: &'t Turn<'_>,
        era: &'t Era,
        partition: &'t Partition,
        now: Millis,
        enough: u32,
    ) -> u32 {
        turn.pin().enter(partition.domain);
        let mut all = Vec::new();
        let swept = partition.sweep(now, enough, turn.pin(), &mut |heard| all.push(heard));
        #[cfg(not(loom))]
        self.hear(era, turn, partition, all, 0);
        if let Some(stripe) = Self::stripe(era, turn) {
            stripe.expired.add(u64::from(swept.expired));
            stripe.ripened.add(u64::from(swept.ripe));
        }
        if partition.is_tending_due(now) {
            self.tend(era, partition, turn, now, TENDED_IN_PASSING);
        }
        let total = swept.expired + swept.ripe + swept.batons;
        if total > 0 {
            self.wake_counted(total as usize);
        }
        total
    }
}

impl Queue {
    /// Looks after up to `most` segments of a partition; see `ledger/tend.rs`. Says whether the round is over.
    #[cold]
    pub(crate) fn tend<'t>(
        &'t self,
        era: &'t Era,
        partition: &'t Partition,
        turn: &'t Turn<'_>,
        now: Millis,
        most: u32,
    ) -> bool {
        let chores = Chores {
            retention_ms: self.inner.hot.settings.retention_ms(),
            id: &|segment, slot, extras| {
                let fixed = segment.fixed();
                *self
                    .message_id(extras, fixed.partition, fixed.serial, slot)
                    .as_bytes()
            },
        };
        turn.pin().enter(partition.domain);
        let mut all = Vec::new();
        let tended = partition.tend(most, &chores, now, turn.pin(), &mut |heard| all.push(heard));
        #[cfg(not(loom))]
        self.hear(era, turn, partition, all, (most as usize).saturating_mul(SLOTS));
        // As many as there may be messages in the segments looked after.
        era.tidy_lines((most as usize).saturating_mul(SLOTS), turn.pin());
        if let Some(stripe) = Self::stripe(era, turn) {
            stripe.lapsed_visible.add(tended.lapsed_visible);
            stripe.lapsed_in_flight.add(tended.lapsed_in_flight);
            stripe.lapsed_delayed.add(tended.lapsed_delayed);
            stripe.evacuated.add(tended.evacuated);
        }
        let back = tended.evacuated + tended.stayed;
        if back > 0 {
            self.wake(back as usize);
        }
        if tended.lapsed_in_flight > 0 {
            // Those who wait because too many are in flight.
            self.wake_counted(usize::try_from(tended.lapsed_in_flight).unwrap_or(usize::MAX));
        }
        self.check_width(era, turn, now);
        tended.done
    }
}

/// One receive in the making.
pub(super) struct Receive<'r, 't, 'w, H> {
    pub(super) queue: &'t Queue,
    pub(super) era: &'t Era,
    pub(super) turn: &'t Turn<'w>,
    pub(super) stripe: Option<&'t Stripe>,
    pub(super) max: usize,
    pub(super) terms: &'r Terms<'r>,
    pub(super) hand: &'r mut H,
    /// How tenants stand, if there are any.
    pub(super) fair: Option<Standing<'t>>,
}

impl<'t, H: Hand<'t>> Receive<'_, 't, '_, H> {
    #[inline(always)]
    fn run(&mut self, first: usize) {
        self.look(first);
        self.settle();
    }

    #[inline(always)]
    pub(super) fn settle(&mut self) {
        if self.is_empty() {
            // In passing, a little of what purged queues have left.
            self.queue.inner.shared.graveyard.work(GRAVES_IN_PASSING);
            let find = |number| self.era.glance(number, self.turn.pin());
            let next = Seeker {
                receive: self.terms.round.wrapping_add(1),
                ..self.seeker()
            };
            let next = next.base(find);
            self.turn.worker().found_nothing(self.era.domain(next));
        }
        self.queue
            .settle(self.era, self.turn, self.stripe, self.terms, self.hand);
    }

    /// Receives from the ready words.
    #[inline(always)]
    pub(super) fn look(&mut self, first: usize) {
        self.pass(first);
        if let Some(aside) = self.hand.take_aside() {
            self.judge(aside, first);
            if self.fair.is_some() {
                self.serve_anybody();
            }
        }
    }

    #[inline(always)]
    fn pass(&mut self, first: usize) {
        let span = self.queue.inner.hot.width.route().span();
        self.take(first);
        if span > 1 && self.hand.room(self.max) > 0 {
            self.steal(first, span);
        }
    }

    fn seeker(&self) -> Seeker<'_> {
        self.queue.seeker(self.turn, self.stripe, self.terms.round)
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.hand.room(self.max) == self.max
    }

    /// Decides about what was set aside, and goes on looking while that leaves room.
    #[cold]
    #[inline(never)]
    fn judge(&mut self, aside: Aside<'t>, first: usize) {
        let mut next = Some(aside);
        let mut decided = 0;
        while decided < DECISIONS_MAX {
            while let Some(aside) = next.take().or_else(|| self.hand.take_aside()) {
                self.decide(aside, false);
                decided += 1;
            }
            if self.hand.room(self.max) == 0 {
                return;
            }
            self.turn.reading().forget();
            self.pass(first);
            next = self.hand.take_aside();
            if next.is_none() {
                return;
            }
        }
        // Enough for one receive: the last ones go back.
        while let Some(aside) = next.take().or_else(|| self.hand.take_aside()) {
            if let Some(partition) = self.partition_of(aside) {
                partition.give_aside_back(aside, self.turn.pin());
                self.queue.wake(1);
            }
        }
    }

    pub(super) fn partition_of(&self, aside: Aside<'_>) -> Option<&'t Partition> {
        self.era
            .partition(aside.segment.fixed().partition as usize, self.turn.pin())
    }

    /// Decides about a message whose token is in hand; one that was called up from its tenant's line has had its turn. Says
    /// whether it is delivered.
    pub(super) fn decide(&mut self, aside: Aside<'t>, is_called: bool) -> bool {
        let Some(partition) = self.partition_of(aside) else {
            debug_assert!(false, "a message set aside in a partition that is closed");
            return false;
        };
        let delivered = match aside.why {
            Special::Lapsed => {
                partition.discard_aside(aside, self.turn.pin());
                if let Some(stripe) = self.stripe {
                    stripe.lapsed_visible.add(1);
                }
                false
            }
            Special::TooOften => {
                let fate = self.queue.bury_letter(self.era, partition, aside, self.turn);
                matches!(fate, Fate::Stays) && (is_called || self.is_next(aside))
            }
            Special::Grouped => is_called || self.is_next(aside),
        };
        if delivered && let Some(claim) = partition.lease_aside(aside, self.terms) {
            self.hand.put(claim);
        }
        delivered
    }

    /// With something in hand, one random victim may fill it up; with nothing, every partition is looked at, first the one where
    /// it would have begun or has been.
    #[cold]
    #[inline(never)]
    fn steal(&mut self, first: usize, span: usize) {
        if !self.is_empty() {
            return self.visit(steal::other_than(first, self.turn.worker(), span));
        }
        let back = self
            .seeker()
            .back(first, |number| self.era.glance(number, self.turn.pin()));
        let others =
            steal::all(self.turn.worker(), span).filter(|&victim| victim != first && Some(victim) != back);
        for victim in back.into_iter().chain(others) {
            self.visit(victim);
            if !self.is_empty() {
                self.seeker().goes_on_at(victim);
                return;
            }
        }
    }

    /// Claims from one partition, and sweeps it if time has come.
    #[inline(always)]
    fn take(&mut self, number: usize) {
        let Some(partition) = self.era.partition(number, self.turn.pin()) else {
            return;
        };
        self.claim(partition);
        // After the claim: see `Reading`.
        let now = self.turn.now();
        self.turn.worker().saw(now);
        if partition.is_sweep_due(now) {
            self.sweep(partition, now);
        }
        if self.is_empty() && partition.note_empty(now) {
            self.claim_again(partition);
        }
    }

    /// As `take`, for where it need not be inlined.
    #[inline(never)]
    fn visit(&mut self, number: usize) {
        if let Some(stripe) = self.stripe {
            stripe.steals.add(1);
        }
        // The reading is of the partition before: the claims here must not count from it.
        self.turn.reading().forget();
        self.take(number);
    }

    /// As `claim`, for where it need not be inlined.
    #[cold]
    #[inline(never)]
    fn claim_again(&mut self, partition: &'t Partition) {
        // As in `visit`.
        self.turn.reading().forget();
        self.claim(partition);
    }

    #[inline(always)]
    fn claim(&mut self, partition: &'t Partition) {
        partition.claim(self.max, self.terms, self.turn.pin(), self.hand);
    }

    /// One segment's worth if there is something in hand already, otherwise until there is.
    #[cold]
    #[inline(never)]
    fn sweep(&mut self, partition: &'t Partition, now: Millis) {
        let in_hand = !self.is_empty();
        // Bounded: each turn makes something visible that was due at `now`; others may take it, hence the loop.
        while self.queue.sweep(self.turn, self.era, partition, now, 1) > 0 {
            self.claim_again(partition);
            if in_hand || !self.is_empty() {
                return;
            }
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle, stalls))))]
mod tests {
    use std::time::Duration;

    use crate::{Broker, ManualClock, QueueConfig, sync::Listener};

    /// A survivor for which there is no room elsewhere was in hand for a moment, in which another's look was in vain.
    #[test]
    fn a_survivor_that_could_not_move_wakes() {
        let hours = |hours: u64| Duration::from_secs(hours * 60 * 60);
        let clock = ManualClock::new();
        let broker = Broker::builder().partitions(1).clock(&clock).build().unwrap();
        let config = QueueConfig {
            memory_limit: Some(4 << 20),
            ..QueueConfig::default()
        };
        let queue = broker.create_queue("full", config).unwrap();
        for number in 0..500 {
            queue.send(&[u8::from(number % 50 == 25); 2_000]).unwrap();
        }
        let mut survivors = Vec::new();
        loop {
            let received = queue.receive(10, hours(1)).unwrap();
            if received.is_empty() {
                break;
            }
            for message in received {
                match message.body()[0] {
                    0 => drop(queue.delete(&message.receipt_handle())),
                    _ => survivors.push(message.receipt_handle()),
                }
            }
        }
        for handle in &survivors {
            queue.change_visibility(handle, Duration::ZERO).unwrap();
        }
        // Full, with the room of those that are gone.
        for _ in 0..10 {
            clock.advance(Duration::from_secs(1));
            queue.advance(broker.now());
            while queue.send(&[2; 2_000]).is_ok() {}
        }
        // Handles are good for twelve hours.
        clock.advance(hours(13));
        let mut waiting = queue.inner.hot.waiters.enter();
        waiting.listen();
        queue.advance(broker.now());
        let told = waiting.take_listener().unwrap();
        assert!(told.wait_timeout(Duration::ZERO).is_some(), "nobody was told");
        assert_eq!(queue.metrics().evacuated, 0);
    }
}
