//! One thread's tools at a FIFO queue: the draft of the next call, the books, and the steps of a life cycle.

use arrayvec::ArrayVec;

use super::{
    FifoCalls, Parcel,
    order::Order,
    parcels::{IdText, Names},
};
use crate::{
    check::{Received, Rule, Sent, Withheld, Wrong},
    scenarios::desk::{LONG, Random},
    suite::stop,
    target::{BATCH_MAX, Delivery, Done, Handles, Inspect, Refusal},
    workload::{Id, Templates, Verifier},
};

/// Bytes of every body.
pub(crate) const BODY_BYTES: usize = 64;

/// What all clerks of a queue share.
#[derive(Debug)]
pub(crate) struct Office {
    pub(crate) order: Order,
    pub(crate) names: Names,
    pub(crate) withheld: Withheld,
    pub(crate) seed: u64,
}

impl Office {
    pub(crate) fn book(&self) -> Book<'_> {
        let verifier = Verifier::new(BODY_BYTES, self.seed);
        let producers = self.order.lanes().producers();
        Book {
            received: Received::new(Rule::Exclusive, verifier, &self.withheld, producers),
            order: &self.order,
            holder: 0,
        }
    }
}

/// A receiver's book, and the order of groups.
#[derive(Debug)]
pub(crate) struct Book<'o> {
    pub(crate) received: Received<'o>,
    order: &'o Order,
    holder: u16,
}

impl Inspect for Book<'_> {
    #[inline(always)]
    fn inspect<D: Delivery>(&mut self, delivery: &D) -> bool {
        let delete = self.received.inspect(delivery);
        if let Some(&id) = self.received.to_delete().last()
            && let Some(wrong) = self.order.received(id, self.holder)
        {
            self.received.found(wrong, format_args!("{id:?}"));
        }
        delete
    }
}

impl Book<'_> {
    /// Receives and checks up to `max`; answers how many came.
    #[inline(always)]
    pub(crate) fn receive<C: FifoCalls>(
        &mut self,
        calls: &mut C,
        max: usize,
        handles: &mut Handles<C::Handle>,
    ) -> usize {
        match calls.receive(max, LONG, handles, self) {
            Ok(received) => {
                self.received.answered(received, max);
                received
            }
            Err(Refusal(reason)) => {
                self.received.found(Wrong::Refused, reason);
                0
            }
        }
    }

    /// Deletes what was received.
    #[inline(always)]
    pub(crate) fn delete<const ONE: bool, C: FifoCalls>(
        &mut self,
        calls: &mut C,
        handles: &mut Handles<C::Handle>,
    ) {
        for &id in self.received.to_delete() {
            self.order.deleting(id);
        }
        let done = if ONE || handles.len() <= 1 {
            let Some(deleted) = calls.delete_last(handles) else {
                return;
            };
            Done(u16::from(deleted))
        } else {
            calls.delete_batch(handles)
        };
        self.received.deleted(done);
    }

    /// Receives and deletes all there is, when nobody else is at it; answers how many.
    pub(crate) fn drain<C: FifoCalls>(&mut self, calls: &mut C) -> u64 {
        let before = self.received.deleted_count();
        let mut handles = Handles::new();
        let mut empty_in_a_row = 0;
        while empty_in_a_row < 2 {
            if self.receive(calls, BATCH_MAX, &mut handles) == 0 {
                empty_in_a_row += 1;
                continue;
            }
            empty_in_a_row = 0;
            self.delete::<false, C>(calls, &mut handles);
        }
        self.received.deleted_count() - before
    }
}

/// What a clerk does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Duty {
    /// Messages per call, 1 to 10.
    pub(crate) batch: usize,
    /// Of a hundred sends, so many are of messages sent before.
    pub(crate) duplicates: u64,
    /// How many messages back they go at most.
    pub(crate) back: u64,
}

/// The next call's groups and ids, made ahead: a target that reads a text right after it was written would wait for the
/// processor, and that wait would be the harness's doing.
#[derive(Clone, Debug, Default)]
struct Drafts {
    entries: ArrayVec<Draft, BATCH_MAX>,
    originals: usize,
}

#[derive(Clone, Copy, Debug)]
struct Draft {
    group: u32,
    id: IdText,
    is_again: bool,
}

/// What a thread hands back.
#[derive(Debug)]
pub(crate) struct Closed<'o> {
    pub(crate) sent: Sent,
    pub(crate) received: Received<'o>,
    /// Sent again.
    pub(crate) again: u64,
    /// Receives that found nothing.
    pub(crate) empty: u64,
}

/// One thread's tools; `H` is the target's receipt handle.
#[derive(Debug)]
pub(crate) struct Clerk<'o, H> {
    office: &'o Office,
    duty: Duty,
    seat: u16,
    pub(crate) book: Book<'o>,
    pub(crate) sent: Sent,
    /// Sent again.
    pub(crate) again: u64,
    /// Receives that found nothing.
    pub(crate) empty: u64,
    /// Sent less received: what others have got, or what is still there.
    owed: i64,
    drafts: Drafts,
    bodies: Templates,
    bodies_again: Templates,
    random: Random,
    handles: Handles<H>,
}

impl<'o, H> Clerk<'o, H> {
    /// Life cycles between two looks at the phase.
    pub(crate) const CHUNK: usize = 64;
    /// A clerk that has sent so many calls' messages more than it received sends no more for now.
    const AHEAD: i64 = 64;

    pub(crate) fn new(office: &'o Office, seat: u16, duty: Duty, random: Random) -> Self {
        Self {
            office,
            duty,
            seat,
            book: Book {
                holder: seat,
                ..office.book()
            },
            sent: Sent::new(seat),
            again: 0,
            empty: 0,
            owed: 0,
            drafts: Drafts::default(),
            bodies: Templates::new(BODY_BYTES, office.seed),
            bodies_again: Templates::new(BODY_BYTES, office.seed),
            random,
            handles: Handles::new(),
        }
    }

    /// One life cycle of a batch: send, receive as many, delete them.
    #[inline(always)]
    pub(crate) fn cycle<const ONE: bool, C: FifoCalls<Handle = H>>(&mut self, calls: &mut C) {
        let batch = if ONE { 1 } else { self.duty.batch };
        if self.owed < Self::AHEAD * batch as i64 {
            self.owed += self.send(calls, batch) as i64;
        }
        if self.owed > 0 {
            self.take::<ONE, C>(calls, batch);
        }
        if self.owed >= batch as i64 {
            self.take::<ONE, C>(calls, batch);
        }
    }

    /// So many messages per call from now on.
    pub(crate) fn set_batch(&mut self, batch: usize) {
        self.duty.batch = batch;
    }

    /// What is left of it when its thread is done.
    pub(crate) fn close(self) -> Closed<'o> {
        Closed {
            sent: self.sent,
            received: self.book.received,
            again: self.again,
            empty: self.empty,
        }
    }

    /// Whether it waits for messages that others have in hand, or have got.
    pub(crate) fn is_ahead(&self) -> bool {
        self.owed >= Self::AHEAD * self.duty.batch as i64
    }

    /// There are so many messages for each clerk: what it had to do with those before does not matter any more.
    pub(crate) fn reckon(&mut self, share: u64) {
        self.owed = self.owed.min(share as i64);
    }

    #[inline(always)]
    fn take<const ONE: bool, C: FifoCalls<Handle = H>>(&mut self, calls: &mut C, max: usize) {
        let received = self.book.receive(calls, max, &mut self.handles);
        self.empty += u64::from(received == 0);
        self.owed -= received as i64;
        self.book.delete::<ONE, C>(calls, &mut self.handles);
    }

    /// Sends `n` messages in one call; answers how many of them were taken that were not sent before.
    #[inline(always)]
    fn send<C: FifoCalls>(&mut self, calls: &mut C, n: usize) -> usize {
        if self.drafts.entries.len() != n {
            self.draft(n);
        }
        let Drafts { entries, originals } = &self.drafts;
        let originals = *originals;
        let mut bodies = self.bodies.batch(self.sent.next(), originals).iter();
        let again = Id::echo(self.seat, self.again);
        let mut bodies_again = self.bodies_again.batch(again, n - originals).iter();
        let names = &self.office.names;
        let mut parcels = ArrayVec::<Parcel<'_>, BATCH_MAX>::new();
        for entry in entries {
            let body = if entry.is_again {
                bodies_again.next()
            } else {
                bodies.next()
            };
            parcels.push(Parcel {
                body: body.map_or(&[], Vec::as_slice),
                group: names.of(entry.group),
                id: entry.id.as_str(),
            });
        }
        let done = match parcels.as_slice() {
            [one] => Done(u16::from(calls.send_to(one).is_ok())),
            all => calls.send_batch_to(all),
        };
        drop(parcels);
        let taken = if done == Done::all(n) {
            Done::all(originals)
        } else {
            self.refused(done)
        };
        self.sent.offered(originals, taken);
        self.again += (n - originals) as u64;
        self.draft(n);
        taken.count_of(originals)
    }

    /// The part of `done` that is about messages not sent before.
    #[cold]
    fn refused(&mut self, done: Done) -> Done {
        let (mut taken, mut originals) = (0, 0);
        for (at, entry) in self.drafts.entries.iter().enumerate() {
            if !done.succeeded(at) {
                self.book
                    .received
                    .found(Wrong::Refused, format_args!("a send of {:?}", entry.id.as_str()));
            }
            if !entry.is_again {
                taken |= u16::from(done.succeeded(at)) << originals;
                originals += 1;
            }
        }
        Done(taken)
    }

    /// Decides what is sent next.
    #[inline(always)]
    fn draft(&mut self, n: usize) {
        let first = self.sent.next();
        let mut next = first;
        self.drafts.entries.clear();
        for _ in 0..n {
            let is_again = self.duty.duplicates > 0
                && first.sequence() > 0
                && self.random.below(100) < self.duty.duplicates;
            let id = if is_again {
                let back = 1 + self.random.below(first.sequence().min(self.duty.back));
                Id::new(self.seat, first.sequence() - back)
            } else {
                let id = next;
                next = next.plus(1);
                id
            };
            self.drafts.entries.push(Draft {
                group: self.office.order.lanes().place(id).map_or(0, |place| place.group),
                id: IdText::new(id),
                is_again,
            });
        }
        let originals = (next.sequence() - first.sequence()) as usize;
        self.drafts.originals = originals;
        if originals > 0 {
            self.bodies.prepare(first, originals);
        }
        if originals < n {
            self.bodies_again
                .prepare(Id::echo(self.seat, self.again), n - originals);
        }
    }

    /// Queues `count` messages in the largest batches, each group's turn after the other's; fewer, if Ctrl-C ends it.
    pub(crate) fn fill<C: FifoCalls>(&mut self, calls: &mut C, count: u64) {
        let duty = self.duty;
        self.duty.duplicates = 0;
        let mut left = count;
        // To read a flag that nobody writes costs nothing beside ten sends.
        while left > 0 && !stop::is_asked_for() {
            let n = left.min(BATCH_MAX as u64) as usize;
            self.send(calls, n);
            left -= n as u64;
        }
        self.duty = duty;
        self.drafts.entries.clear();
    }
}
