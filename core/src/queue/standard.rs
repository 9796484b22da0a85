//! The operations of a standard queue.

use std::time::Duration;

use super::{Deletion, Queue, VisibilityChange, stats::Stripe, steal};
use crate::{
    batch::Batch,
    clock::Millis,
    config::{ARENA_BODY_MAX, BATCH_MAX, BODY_MAX, VISIBILITY_MAX},
    delivery::{Delivery, Received},
    error::{BatchError, ChangeVisibilityError, DeleteError, ReceiveError, SendError},
    ledger::{
        lease::{Claim, DeletedFrom, Graves, Hand},
        partition::{Draft, Partition},
        segment::Segment,
        state::Refusal,
    },
    message::Sent,
    receipt::ReceiptHandle,
    sync::Arc,
    turn::Turn,
    worker::WorkerCore,
};

impl Queue {
    /// Refuses calls on a deleted queue, and turns of another broker's worker, whose pin would protect nothing here.
    #[inline(always)]
    fn admit<E>(&self, turn: &Turn<'_>, deleted: E, foreign: E) -> Result<(), E> {
        if !turn.worker().is_of(&self.inner.shared) {
            return Err(foreign);
        }
        if self.is_deleted() { Err(deleted) } else { Ok(()) }
    }

    #[inline(always)]
    fn stripe(&self, turn: &Turn<'_>) -> Option<&Stripe> {
        self.inner.stats.of(turn.worker().number)
    }

    #[inline(always)]
    pub(crate) fn send_in(&self, turn: &Turn<'_>, body: &[u8]) -> Result<Sent<'_>, SendError> {
        self.admit(turn, SendError::QueueDeleted, SendError::ForeignTurn)?;
        if (1..=ARENA_BODY_MAX.min(self.inner.config.max_message_bytes)).contains(&body.len()) {
            let Ok((segment, slot)) = self
                .home(turn)
                .and_then(|home| home.append_one(body, turn.now(), turn.pin()))
            else {
                self.inner.shared.trim(turn.pin());
                return Err(self.over_budget());
            };
            if let Some(stripe) = self.stripe(turn) {
                stripe.sent.add(1);
            }
            return Ok(Sent::new(self, segment, slot));
        }
        self.send_large(turn, body)
    }

    #[cold]
    #[inline(never)]
    fn send_large(&self, turn: &Turn<'_>, body: &[u8]) -> Result<Sent<'_>, SendError> {
        let mut draft = [self.draft(turn, body)?];
        let lengths = [draft[0].arena_bytes()];
        let mut sent = None;
        self.append(
            turn,
            &lengths,
            |_| draft[0].take(),
            |message| sent = Some(message),
        );
        self.give_up(&mut draft);
        sent.ok_or_else(|| self.over_budget())
    }

    pub(crate) fn send_batch_in<B: AsRef<[u8]>>(
        &self,
        turn: &Turn<'_>,
        bodies: &[B],
    ) -> Result<Batch<Result<Sent<'_>, SendError>>, BatchError> {
        Batch::<()>::check(bodies.len())?;
        self.admit(turn, BatchError::QueueDeleted, BatchError::ForeignTurn)?;
        // Asked once each, before anything is done: it is foreign code, which may panic, or answer differently next time.
        let bodies: Bodies<'_> = bodies.iter().take(BATCH_MAX).map(AsRef::as_ref).collect();
        self.send_bodies(turn, &bodies)
    }

    fn send_bodies(
        &self,
        turn: &Turn<'_>,
        bodies: &[&[u8]],
    ) -> Result<Batch<Result<Sent<'_>, SendError>>, BatchError> {
        let length = bodies
            .iter()
            .fold(0usize, |sum, body| sum.saturating_add(body.len()));
        if length > BODY_MAX {
            return Err(BatchError::TooLong {
                length,
                limit: BODY_MAX,
            });
        }
        let small = 1..=ARENA_BODY_MAX.min(self.inner.config.max_message_bytes);
        if bodies.iter().all(|body| small.contains(&body.len())) {
            return Ok(self.send_small(turn, bodies));
        }
        Ok(self.send_mixed(turn, bodies))
    }

    /// A batch whose bodies all go into the arena.
    #[inline]
    fn send_small(&self, turn: &Turn<'_>, bodies: &[&[u8]]) -> Batch<Result<Sent<'_>, SendError>> {
        let mut lengths = [0; BATCH_MAX];
        for (length, body) in lengths.iter_mut().zip(bodies) {
            *length = body.len() as u32;
        }
        let mut results = Batch::new();
        let lengths = &lengths[..bodies.len().min(BATCH_MAX)];
        self.append(
            turn,
            lengths,
            |at| Draft::Inline(bodies[at]),
            |sent| results.push(Ok(sent)),
        );
        while results.len() < bodies.len() {
            results.push(Err(self.over_budget()));
        }
        results
    }

    /// A batch with large bodies, or bad ones.
    #[cold]
    #[inline(never)]
    fn send_mixed(&self, turn: &Turn<'_>, bodies: &[&[u8]]) -> Batch<Result<Sent<'_>, SendError>> {
        // Bad entries fail alone, the others go on together.
        let mut refused = [None; BATCH_MAX];
        let mut drafts = arrayvec::ArrayVec::<_, BATCH_MAX>::new();
        let mut lengths = [0; BATCH_MAX];
        for (body, refusal) in bodies.iter().zip(&mut refused) {
            match self.draft(turn, body) {
                Ok(draft) => {
                    if let Some(length) = lengths.get_mut(drafts.len()) {
                        *length = draft.arena_bytes();
                    }
                    let full = drafts.try_push(draft).is_err();
                    debug_assert!(!full, "checked above");
                }
                Err(error) => *refusal = Some(error),
            }
        }
        let mut accepted = arrayvec::ArrayVec::<_, BATCH_MAX>::new();
        let count = drafts.len();
        self.append(
            turn,
            &lengths[..count],
            |at| drafts[at].take(),
            |sent| {
                let full = accepted.try_push(sent).is_err();
                debug_assert!(!full, "more accepted than drafted");
            },
        );
        self.give_up(&mut drafts);
        let mut accepted = accepted.into_iter();
        let mut results = Batch::new();
        for refusal in refused.into_iter().take(bodies.len()) {
            results.push(match refusal {
                Some(error) => Err(error),
                None => accepted.next().ok_or_else(|| self.over_budget()),
            });
        }
        results
    }

    /// Checks a body, and gives it an allocation of its own if it is large.
    #[inline]
    fn draft<'b>(&self, turn: &Turn<'_>, body: &'b [u8]) -> Result<Draft<'b>, SendError> {
        let limit = self.inner.config.max_message_bytes;
        match body.len() {
            0 => Err(SendError::Empty),
            length if length > limit => Err(SendError::TooLong { length, limit }),
            length if length <= ARENA_BODY_MAX => Ok(Draft::Inline(body)),
            _ => self.draft_large(turn, body),
        }
    }

    #[cold]
    #[inline(never)]
    fn draft_large<'b>(&self, turn: &Turn<'_>, body: &[u8]) -> Result<Draft<'b>, SendError> {
        let budget = &self.inner.shared.budget;
        if !budget.take(body.len()) {
            self.inner.shared.trim(turn.pin());
            if !budget.take(body.len()) {
                return Err(self.over_budget());
            }
        }
        let mut copy = Vec::new();
        if copy.try_reserve_exact(body.len()).is_err() {
            budget.give_back(body.len());
            return Err(self.over_budget());
        }
        copy.extend_from_slice(body);
        Ok(Draft::Own(copy.into_boxed_slice()))
    }

    /// Appends drafts at home, as many as there is memory for; `accepted` is told each.
    #[inline]
    fn append<'q, 'b>(
        &'q self,
        turn: &Turn<'_>,
        lengths: &[u32],
        draft: impl FnMut(usize) -> Draft<'b>,
        mut accepted: impl FnMut(Sent<'q>),
    ) {
        let mut count = 0;
        let placed = |segment: &Segment, slot: usize| {
            count += 1;
            accepted(Sent::new(self, segment, slot));
        };
        // What was not accepted for want of memory, the callers see by its missing.
        if self
            .home(turn)
            .and_then(|home| home.append(lengths, draft, turn.now(), turn.pin(), placed))
            .is_err()
        {
            self.inner.shared.trim(turn.pin());
        }
        if let Some(stripe) = self.stripe(turn) {
            stripe.sent.add(count);
        }
    }

    /// Large bodies that were not accepted leave the budget.
    #[cold]
    fn give_up(&self, drafts: &mut [Draft<'_>]) {
        for draft in drafts {
            if let Draft::Own(body) = draft.take() {
                self.inner.shared.budget.give_back(body.len());
            }
        }
    }

    #[cold]
    fn over_budget(&self) -> SendError {
        let memory = self.inner.shared.budget.read();
        SendError::OverBudget {
            used: memory.used,
            limit: memory.limit,
        }
    }

    #[inline]
    pub(crate) fn receive_in<'t>(
        &'t self,
        turn: &'t Turn<'_>,
        max: usize,
        visibility_timeout: Duration,
    ) -> Result<Received<'t>, ReceiveError> {
        if !(1..=BATCH_MAX).contains(&max) {
            return Err(ReceiveError::Max {
                given: max,
                limit: BATCH_MAX,
            });
        }
        let visibility_ms = self.admit_receive(turn, visibility_timeout)?;
        let round = self.next_round(turn);
        let first = self.first(turn.worker(), max, round);
        let mut received = Received::new(self);
        Receive {
            queue: self,
            turn,
            max,
            visibility_ms,
            round,
            claims: received.claims(),
        }
        .run(first);
        Ok(received)
    }

    #[inline(always)]
    pub(crate) fn receive_one_in<'t>(
        &'t self,
        turn: &'t Turn<'_>,
        visibility_timeout: Duration,
    ) -> Result<Option<Delivery<'t>>, ReceiveError> {
        let visibility_ms = self.admit_receive(turn, visibility_timeout)?;
        let (worker, pin) = (turn.worker(), turn.pin());
        let round = self.next_round(turn);
        let first = self.first(worker, 1, round);
        if let Some(partition) = self.partition(first)
            && partition.returned.is_empty(pin)
            && let Some(claim) = partition.claim_first(visibility_ms, turn.reading(), pin)
        {
            let now = turn.now();
            worker.saw(now);
            if partition.is_sweep_due(now) {
                self.sweep(turn, partition, now, 1);
            }
            self.settle(turn, visibility_ms, 1, &Some(claim));
            return Ok(Some(Delivery::new(claim, self)));
        }
        Ok(self
            .search(turn, visibility_ms, first, round)
            .map(|claim| Delivery::new(claim, self)))
    }

    /// Receives one message from wherever there is one.
    #[cold]
    #[inline(never)]
    fn search<'t>(
        &'t self,
        turn: &'t Turn<'_>,
        visibility_ms: u64,
        first: usize,
        round: u32,
    ) -> Option<Claim<'t>> {
        let mut claim = None;
        Receive {
            queue: self,
            turn,
            max: 1,
            visibility_ms,
            round,
            claims: &mut claim,
        }
        .run(first);
        claim
    }

    /// Counts this worker's receives from this queue, and no other: what is done every second or seventh time must not
    /// fall in step with how a worker goes round its queues.
    #[inline]
    fn next_round(&self, turn: &Turn<'_>) -> u32 {
        self.stripe(turn).map_or(1, |stripe| stripe.rounds.next() as u32)
    }

    /// The partition to look at first.
    #[inline]
    fn first(&self, worker: &WorkerCore, max: usize, round: u32) -> usize {
        let partitions = self.inner.partitions.len();
        steal::first(worker, partitions, max, round, |number| {
            self.partition(number).map(|p| &**p)
        })
    }

    /// Counts what was claimed; without leases, makes it visible again.
    #[inline(always)]
    fn settle<'t>(&self, turn: &Turn<'_>, visibility_ms: u64, count: usize, claims: &impl Hand<'t>) {
        if let Some(stripe) = self.stripe(turn) {
            let counter = if visibility_ms > 0 {
                &stripe.leased
            } else {
                &stripe.glimpsed
            };
            counter.add(count as u64);
        }
        if visibility_ms == 0 {
            claims.each(|claim| {
                if let Some(partition) = self.partition(claim.segment.header.partition as usize) {
                    partition.unhand(claim, turn.pin());
                }
            });
        }
    }

    #[inline(always)]
    fn admit_receive(&self, turn: &Turn<'_>, visibility_timeout: Duration) -> Result<u64, ReceiveError> {
        self.admit(turn, ReceiveError::QueueDeleted, ReceiveError::ForeignTurn)?;
        visibility_ms(visibility_timeout).ok_or(ReceiveError::VisibilityTimeout {
            given: visibility_timeout,
            limit: VISIBILITY_MAX,
        })
    }

    /// Sweeps one partition until `enough` messages became visible; counts them and says how many.
    pub(crate) fn sweep(&self, turn: &Turn<'_>, partition: &Arc<Partition>, now: Millis, enough: u32) -> u32 {
        let swept = partition.sweep(now, enough, turn.pin());
        if let Some(stripe) = self.stripe(turn) {
            stripe.expired.add(u64::from(swept.expired));
            stripe.ripened.add(u64::from(swept.ripe));
        }
        swept.expired + swept.ripe
    }

    #[inline(always)]
    pub(crate) fn delete_in(&self, turn: &Turn<'_>, handle: &ReceiptHandle) -> Result<Deletion, DeleteError> {
        self.admit(turn, DeleteError::QueueDeleted, DeleteError::ForeignTurn)?;
        let mut round = Round::new();
        let result = self.delete_one(turn, handle, &mut round);
        self.end_round(turn, round);
        result
    }

    pub(crate) fn delete_batch_in(
        &self,
        turn: &Turn<'_>,
        handles: &[ReceiptHandle],
    ) -> Result<Batch<Result<Deletion, DeleteError>>, BatchError> {
        Batch::<()>::check(handles.len())?;
        self.admit(turn, BatchError::QueueDeleted, BatchError::ForeignTurn)?;
        let (mut results, mut round) = (Batch::new(), Round::new());
        for handle in handles {
            results.push(self.delete_one(turn, handle, &mut round));
        }
        self.end_round(turn, round);
        Ok(results)
    }

    #[inline(always)]
    fn delete_one<'t>(
        &'t self,
        turn: &'t Turn<'_>,
        handle: &ReceiptHandle,
        round: &mut Round<'t>,
    ) -> Result<Deletion, DeleteError> {
        let partition = self.of_handle(handle).ok_or(DeleteError::Foreign)?;
        match partition.delete(handle.place(), handle.receives(), turn.pin(), &mut round.graves) {
            Ok(DeletedFrom::InFlight) => {
                round.in_flight += 1;
                Ok(Deletion::Deleted)
            }
            Ok(DeletedFrom::Visible) => {
                round.visible += 1;
                Ok(Deletion::Deleted)
            }
            Err(Refusal::Dead) => Ok(Deletion::Gone),
            Err(Refusal::ReceivedAgain) => Ok(Deletion::ReceivedAgain),
            Err(_) => Err(DeleteError::Foreign),
        }
    }

    #[inline(always)]
    fn end_round<'t>(&'t self, turn: &'t Turn<'_>, mut round: Round<'t>) {
        round.graves.fill(turn.pin());
        if let Some(stripe) = self.stripe(turn) {
            if round.in_flight > 0 {
                stripe.deleted_in_flight.add(round.in_flight);
            }
            if round.visible > 0 {
                stripe.deleted_visible.add(round.visible);
            }
        }
    }

    /// The partition a handle leads to, if it is of this queue.
    #[inline(always)]
    fn of_handle(&self, handle: &ReceiptHandle) -> Option<&Arc<Partition>> {
        if handle.queue != self.inner.id {
            None
        } else {
            self.partition(handle.partition())
        }
    }

    pub(crate) fn change_visibility_in(
        &self,
        turn: &Turn<'_>,
        handle: &ReceiptHandle,
        visibility_timeout: Duration,
    ) -> Result<VisibilityChange, ChangeVisibilityError> {
        let limit = VISIBILITY_MAX;
        let Some(visibility_ms) = visibility_ms(visibility_timeout) else {
            return Err(ChangeVisibilityError::VisibilityTimeout {
                given: visibility_timeout,
                limit,
            });
        };
        self.admit(
            turn,
            ChangeVisibilityError::QueueDeleted,
            ChangeVisibilityError::ForeignTurn,
        )?;
        let partition = self.of_handle(handle).ok_or(ChangeVisibilityError::Foreign)?;
        match partition.change_visibility(
            handle.place(),
            handle.receives(),
            visibility_ms,
            turn.reading(),
            turn.pin(),
        ) {
            Ok(()) => {
                if visibility_ms == 0
                    && let Some(stripe) = self.stripe(turn)
                {
                    stripe.released.add(1);
                }
                Ok(VisibilityChange::Changed)
            }
            Err(Refusal::Visible | Refusal::LeaseOver) => Ok(VisibilityChange::LeaseOver),
            Err(Refusal::Dead) => Err(ChangeVisibilityError::Gone),
            Err(Refusal::ReceivedAgain) => Err(ChangeVisibilityError::ReceivedAgain),
            Err(Refusal::TooLong(_)) => Err(ChangeVisibilityError::TotalTooLong { limit }),
            Err(_) => Err(ChangeVisibilityError::Foreign),
        }
    }

    pub(crate) fn change_visibility_batch_in(
        &self,
        turn: &Turn<'_>,
        changes: &[(ReceiptHandle, Duration)],
    ) -> Result<Batch<Result<VisibilityChange, ChangeVisibilityError>>, BatchError> {
        Batch::<()>::check(changes.len())?;
        self.admit(turn, BatchError::QueueDeleted, BatchError::ForeignTurn)?;
        let mut results = Batch::new();
        for (handle, visibility_timeout) in changes {
            results.push(self.change_visibility_in(turn, handle, *visibility_timeout));
        }
        Ok(results)
    }
}

/// The bodies of a batch.
type Bodies<'b> = arrayvec::ArrayVec<&'b [u8], BATCH_MAX>;

/// The deletions of one call.
struct Round<'t> {
    graves: Graves<'t>,
    in_flight: u64,
    visible: u64,
}

impl Round<'_> {
    #[inline]
    const fn new() -> Self {
        Self {
            graves: Graves::new(),
            in_flight: 0,
            visible: 0,
        }
    }
}

/// One receive in the making.
struct Receive<'r, 't, 'w, H> {
    queue: &'t Queue,
    turn: &'t Turn<'w>,
    max: usize,
    visibility_ms: u64,
    /// Which of this worker's receives from this queue it is.
    round: u32,
    claims: &'r mut H,
}

impl<'t, H: Hand<'t>> Receive<'_, 't, '_, H> {
    fn run(&mut self, first: usize) {
        let partitions = self.queue.inner.partitions.len();
        self.take(first);
        if partitions > 1 && self.claims.room(self.max) > 0 {
            self.steal(first, partitions);
        }
        let count = self.max - self.claims.room(self.max);
        self.queue
            .settle(self.turn, self.visibility_ms, count, self.claims);
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.claims.room(self.max) == self.max
    }

    /// With something in hand, one random victim may fill it up; with nothing, every partition is looked at.
    #[cold]
    #[inline(never)]
    fn steal(&mut self, first: usize, partitions: usize) {
        if !self.is_empty() {
            return self.visit(steal::other_than(first, self.turn.worker(), partitions));
        }
        for victim in steal::all(self.turn.worker(), partitions) {
            if victim != first {
                self.visit(victim);
                if !self.is_empty() {
                    return;
                }
            }
        }
    }

    /// Claims from one partition, and sweeps it if time has come.
    #[inline(always)]
    fn take(&mut self, number: usize) {
        let Some(partition) = self.queue.partition(number) else {
            return;
        };
        self.claim(partition);
        // After the claim: see `Reading`.
        let now = self.turn.now();
        self.turn.worker().saw(now);
        if partition.is_sweep_due(now) {
            self.sweep(partition, now);
        }
        if self.is_empty() && partition.note_empty() {
            self.claim_again(partition);
        }
    }

    /// As `take`, for where it need not be inlined.
    #[inline(never)]
    fn visit(&mut self, number: usize) {
        // The reading is of the partition before: the claims here must not count from it.
        self.turn.reading().forget();
        self.take(number);
    }

    /// As `claim`, for where it need not be inlined.
    #[cold]
    #[inline(never)]
    fn claim_again(&mut self, partition: &Arc<Partition>) {
        // As in `visit`.
        self.turn.reading().forget();
        self.claim(partition);
    }

    #[inline(always)]
    fn claim(&mut self, partition: &Arc<Partition>) {
        let turn = self.turn;
        partition.claim(
            self.max,
            self.visibility_ms,
            self.round,
            turn.reading(),
            turn.pin(),
            self.claims,
        );
    }

    /// One segment's worth if there is something in hand already, otherwise until there is.
    #[cold]
    #[inline(never)]
    fn sweep(&mut self, partition: &Arc<Partition>, now: Millis) {
        let in_hand = !self.is_empty();
        // Bounded: each turn makes something visible that was due at `now`; others may take it, hence the loop.
        while self.queue.sweep(self.turn, partition, now, 1) > 0 {
            self.claim_again(partition);
            if in_hand || !self.is_empty() {
                return;
            }
        }
    }
}

/// A visibility timeout in milliseconds, rounded up, if it is within the limit.
#[inline]
fn visibility_ms(timeout: Duration) -> Option<u64> {
    let ms = timeout
        .as_secs()
        .checked_mul(1000)?
        .checked_add(u64::from(timeout.subsec_nanos().div_ceil(1_000_000)))?;
    (ms <= VISIBILITY_MAX.as_millis() as u64).then_some(ms)
}
