//! Receiving from a FIFO queue: from one group after another, from each what it has at its front.

use arrayvec::ArrayVec;

use super::Held;
use crate::{
    clock::Millis,
    config::{BATCH_MAX, DECISIONS_MAX, PUT_OFF_MS},
    ledger::{
        group::{
            baton::{After, Baton, Next, Run},
            link::Member,
        },
        lease::{Claims, Terms},
        partition::Partition,
        reclaim::Domain,
    },
    queue::{Queue, dead_letter::Fate, era::Era, receive::GRAVES_IN_PASSING, stats::Stripe, steal},
    turn::Turn,
};

/// Messages that a sweep in passing makes visible at most before the receive goes on.
const SWEPT_IN_PASSING: u32 = 1_000;
/// Segments that a receive with empty hands looks after.
const TENDED_IN_PASSING: u32 = 16;

/// One receive in the making.
struct FifoReceive<'r, 't, 'w> {
    queue: &'t Queue,
    era: &'t Era,
    turn: &'t Turn<'w>,
    stripe: Option<&'t Stripe>,
    terms: &'r Terms<'r>,
    max: usize,
    claims: &'r mut Claims<'t>,
    /// Leased by their groups' words, and still to be leased by their own.
    runs: Run<'t>,
    /// Batons of groups that have been received from without leases: offered only when all is done, or this very receive
    /// would come upon the same messages again. At most one for each message.
    shown: ArrayVec<Baton<'t>, BATCH_MAX>,
    /// Batons and messages looked at that brought nothing.
    in_vain: usize,
    /// Batons found.
    found: usize,
    /// Whether anything may have become visible meanwhile.
    has_swept: bool,
    /// Batons that could not be put off.
    held: Held<'t>,
}

impl Queue {
    /// Receives up to `max` messages.
    pub(in crate::queue) fn receive_fifo<'t>(
        &'t self,
        era: &'t Era,
        turn: &'t Turn<'_>,
        stripe: Option<&'t Stripe>,
        terms: &Terms<'_>,
        max: usize,
        claims: &mut Claims<'t>,
    ) {
        // A limit on messages in flight leaves the others where they are (SQS).
        let Ok(max) = self.allow(era, turn, stripe, terms, max) else {
            return;
        };
        let first = self.first(era, turn, stripe, max, terms.round);
        let mut receive = FifoReceive {
            queue: self,
            era,
            turn,
            stripe,
            terms,
            max,
            claims,
            runs: Run::new(),
            shown: ArrayVec::new(),
            in_vain: 0,
            found: 0,
            has_swept: false,
            held: Held::new(),
        };
        receive.run(first);
    }

    /// Whether as many messages are in flight as may be.
    pub(in crate::queue) fn is_at_limit(&self) -> bool {
        self.in_passing(|turn| {
            self.era(turn.pin()).is_some_and(|era| {
                let limit = self.inner.hot.settings.in_flight_max();
                limit.is_some_and(|limit| era.stats.in_flight() >= limit)
            })
        })
    }

    /// Messages that have never been received and are not to be yet: in a FIFO queue the delay is the queue's as it is now.
    /// O(messages) if there is one.
    pub(in crate::queue) fn count_delayed(&self, era: &Era, turn: &Turn<'_>) -> u64 {
        let delay_ms = self.inner.hot.settings.delay_ms();
        if delay_ms == 0 {
            return 0;
        }
        let now = turn.now();
        era.all(turn.pin())
            .flat_map(|partition| partition.glance(turn.pin()))
            .flat_map(crate::ledger::look::Glance::messages)
            .filter(|seen| self.delayed_until(seen, now).is_some())
            .count() as u64
    }
}

impl<'t> FifoReceive<'_, 't, '_> {
    fn run(&mut self, first: usize) {
        self.take(first);
        let span = self.queue.inner.hot.width.route().span();
        if span > 1 && self.room() > 0 {
            self.steal(first, span);
        }
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            self.queue.put_back(self.era, self.turn, held);
        }
        if self.is_empty() {
            // In passing, a little of what purged queues have left.
            self.queue.inner.shared.graveyard.work(GRAVES_IN_PASSING);
            self.turn.worker().found_nothing(Domain::SHARED);
        }
        if self.terms.visibility_ms > 0 {
            self.lease();
        }
        for baton in self.shown.take() {
            self.queue.follow(self.era, self.turn, After::Baton(baton));
        }
        self.count();
    }

    fn room(&self) -> usize {
        self.max - self.runs.len() - self.claims.len()
    }

    fn is_empty(&self) -> bool {
        self.room() == self.max
    }

    /// As in standard queues: with something in hand one random victim may fill it up, with nothing all are looked at.
    fn steal(&mut self, first: usize, span: usize) {
        if !self.is_empty() {
            return self.visit(steal::other_than(first, self.turn.worker(), span));
        }
        let seeker = self.queue.seeker(self.turn, self.stripe, self.terms.round);
        let back = seeker.back(first, |number| self.era.glance(number, self.turn.pin()));
        let others =
            steal::all(self.turn.worker(), span).filter(|&victim| victim != first && Some(victim) != back);
        for victim in back.into_iter().chain(others) {
            self.visit(victim);
            if !self.is_empty() {
                seeker.goes_on_at(victim);
                return;
            }
        }
        if !self.has_swept {
            return;
        }
        // A message that has come back to its group there makes the group's baton come up elsewhere: at home, or where the
        // group's next message is. That partition may have been looked at before.
        for number in 0..span {
            if let Some(partition) = self.era.partition(number, self.turn.pin()) {
                self.serve(partition);
            }
            if !self.is_empty() {
                return;
            }
        }
    }

    fn visit(&mut self, number: usize) {
        if let Some(stripe) = self.stripe {
            stripe.steals.add(1);
        }
        self.take(number);
    }

    fn take(&mut self, number: usize) {
        let Some(partition) = self.era.partition(number, self.turn.pin()) else {
            return;
        };
        self.serve(partition);
        let now = self.turn.now();
        self.turn.worker().saw(now);
        // Bounded: each turn makes something visible that was due at `now`; others may take it, hence the loop.
        while partition.is_sweep_due(now) && self.sweep(now) {
            let in_hand = !self.is_empty();
            self.serve(partition);
            if in_hand || !self.is_empty() {
                break;
            }
        }
        if self.is_empty() && partition.is_tending_due(now) {
            // A message in flight blocks its group, and if it has lapsed nobody else may notice.
            self.queue
                .tend(self.era, partition, self.turn, now, TENDED_IN_PASSING);
            self.has_swept = true;
            self.serve(partition);
        }
        // Not where there is more to be thrown away than one receive does: behind that there may be messages.
        if self.is_empty() && self.in_vain < DECISIONS_MAX && partition.note_empty(now) {
            self.serve(partition);
        }
    }

    /// Sweeps all partitions where that is due, so that messages of one group which lie in several come back together. Says whether
    /// anything may have become visible.
    fn sweep(&mut self, now: Millis) -> bool {
        let (mut swept, mut tended) = (0, false);
        for partition in self.era.all(self.turn.pin()) {
            if partition.is_sweep_due(now) {
                // What has lapsed in flight is looked after in passing, and blocks its group no more.
                tended |= partition.is_tending_due(now);
                swept += self
                    .queue
                    .sweep(self.turn, self.era, partition, now, SWEPT_IN_PASSING);
            }
        }
        let may_have = swept > 0 || tended;
        self.has_swept |= may_have;
        may_have
    }

    /// Takes batons from a partition while there is room.
    fn serve(&mut self, partition: &'t Partition) {
        let pin = self.turn.pin();
        let returned_first = self.terms.round % 2 == 1;
        while self.room() > 0 && self.in_vain < DECISIONS_MAX {
            let Some((segment, at)) = partition.take_token(returned_first, pin) else {
                return;
            };
            if let Some(baton) = partition.find_out(segment, at, pin) {
                self.deliver(partition, baton);
            }
        }
        if self.in_vain >= DECISIONS_MAX && self.held.is_empty() {
            // Enough for one receive: somebody else shall go on.
            self.queue.wake(1);
        }
    }

    /// Takes what a group has at its front.
    fn deliver(&mut self, partition: &'t Partition, baton: Baton<'t>) {
        let pin = self.turn.pin();
        let now = self.turn.now();
        let delay_ms = self.queue.inner.hot.settings.delay_ms();
        let mut serving = baton.serve();
        self.found += 1;
        // A group of which some are left goes to the back: only one that has very many to throw away.
        let most = self.in_vain + DECISIONS_MAX;
        let mut put_off = None;
        while serving.run().len() < self.room()
            && self.in_vain < most
            && let Some(next) = serving.next()
        {
            let member = next.member;
            if self.terms.has_lapsed(member.sent(), now) {
                self.queue.discard(self.era, self.turn, &mut serving, next);
                if let Some(stripe) = self.stripe {
                    stripe.lapsed_visible.add(1);
                }
                self.in_vain += 1;
                continue;
            }
            if let Some(due) = self.delayed_until(&next) {
                put_off = Some(due);
                break;
            }
            if member.place().state_in_hand().receives() >= self.terms.max_receives {
                match self.queue.bury_fifo_letter(&next.member, self.turn) {
                    Fate::Moved => {
                        self.queue.discard(self.era, self.turn, &mut serving, next);
                        if let Some(stripe) = self.stripe {
                            stripe.moved_out.add(1);
                        }
                        self.in_vain += 1;
                        continue;
                    }
                    Fate::PutOff => {
                        put_off = Some(now.after(PUT_OFF_MS));
                        break;
                    }
                    Fate::Stays => {}
                }
            }
            serving.take(next);
        }
        if serving.run().is_empty() {
            self.in_vain += 1;
            let baton = serving.keep();
            match put_off {
                Some(due) => {
                    self.queue
                        .put_off(self.era, self.turn, baton, due, delay_ms, &mut self.held);
                }
                None => self.queue.follow(self.era, self.turn, After::Baton(baton)),
            }
            return;
        }
        let leases = self.terms.visibility_ms > 0;
        if !leases {
            // Their states first: once the baton is back somebody else may receive them.
            for &member in serving.run() {
                self.claims.extend(partition.lease_member(member, None, now));
            }
        }
        let (after, run) = serving.hand_back(leases, pin);
        if leases {
            self.runs.extend(run);
        } else if let After::Baton(baton) = after {
            self.shown.push(baton);
            return;
        }
        self.queue.follow(self.era, self.turn, after);
    }

    fn delayed_until(&self, next: &Next<'t>) -> Option<Millis> {
        if !next.is_new || self.queue.inner.hot.settings.delay_ms() == 0 {
            return None;
        }
        let seen = next.member.look()?;
        self.queue.delayed_until(&seen, self.turn.now())
    }

    /// Stores the leases of what has been taken: all with one reading of the clock, which is later than the last taking.
    fn lease(&mut self) {
        if self.found > 1 {
            self.turn.reading().forget();
        }
        let now = self.turn.now();
        let due = now.after(self.terms.visibility_ms + 1);
        let mut last: Option<Member<'t>> = None;
        for member in self.runs.take() {
            let Some(partition) = self
                .era
                .partition(member.segment.fixed().partition as usize, self.turn.pin())
            else {
                debug_assert!(false, "a message in a partition that is closed");
                continue;
            };
            self.claims.extend(partition.lease_member(member, Some(due), now));
            if let Some(last) = last
                && !std::ptr::eq(last.segment, member.segment)
            {
                self.set_alarm(last, due);
            }
            last = Some(member);
        }
        if let Some(last) = last {
            self.set_alarm(last, due);
        }
    }

    fn set_alarm(&self, member: Member<'t>, due: Millis) {
        let number = member.segment.fixed().partition as usize;
        if let Some(partition) = self.era.partition(number, self.turn.pin()) {
            partition.set_alarm(member.segment, due);
        }
    }

    fn count(&self) {
        let count = self.claims.len();
        let Some(stripe) = self.stripe else { return };
        if self.terms.visibility_ms > 0 {
            stripe.leased.add(count as u64);
            if count > 0 {
                self.queue
                    .wake_by(|| self.turn.now().after(self.terms.visibility_ms));
            }
        } else {
            stripe.glimpsed.add(count as u64);
        }
    }
}
