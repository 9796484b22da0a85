//! Who has which message: the books of all messages that are not gone yet, one for each sender.
//!
//! A delivery is entered by the thread that received it, which may be stopped before it comes to that, for longer than the lease
//! lasts. So what is entered has bounds that hold whatever the scheduler did: the lease began before `after`, and did not end before
//! `end`, unless its holder gave it up. Entries may come in any order; a message leaves the books only when it is gone *and* each of
//! its receives has been entered.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::BuildHasherDefault,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::Broken;

/// A message: its sender's number in the upper bits, a running number in the lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub u64);

const NUMBER_BITS: u32 = 56;

impl Id {
    fn new(sender: usize, number: u64) -> Self {
        Self((sender as u64) << NUMBER_BITS | number)
    }

    /// Its sender's number.
    #[must_use]
    pub fn sender(self) -> usize {
        (self.0 >> NUMBER_BITS) as usize
    }

    fn number(self) -> u64 {
        self.0 & ((1 << NUMBER_BITS) - 1)
    }
}

/// One delivery of a message, in milliseconds of the broker's clock.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// The message.
    pub id: Id,
    /// Its receive count.
    pub receives: u32,
    /// The receive had returned by then.
    pub after: u64,
    /// The lease does not end before this by itself.
    pub end: u64,
}

/// What is known of a message that is not gone, or not all of whose receives have been entered.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// Receives that have been entered: bit `n` for the one with count `n + 1`, up to 64 of them.
    entered: u64,
    /// The one of the greatest count.
    latest: u32,
    after: u64,
    end: u64,
    /// The count of the handle that deleted it; 0 if nobody has.
    deleted_by: u32,
}

/// Messages are numbered one after the other: a multiplication spreads them well enough.
#[derive(Debug, Default)]
struct Hash(u64);

impl std::hash::Hasher for Hash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
    }
}

/// One sender's messages.
#[derive(Debug, Default)]
struct Book {
    next: u64,
    records: HashMap<u64, Record, BuildHasherDefault<Hash>>,
    accepted: u64,
    deleted: u64,
    leases: u64,
}

/// The books of all senders.
#[derive(Debug)]
pub struct Books(Vec<Mutex<Book>>);

/// What the books add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages sent, and not refused.
    pub accepted: u64,
    /// Those deleted.
    pub deleted: u64,
    /// Deliveries.
    pub leases: u64,
    /// Messages that are not gone.
    pub left: u64,
    /// Messages that are gone, and not all of whose receives have been entered.
    pub owed: u64,
}

impl Books {
    /// Empty ones, for so many senders.
    #[must_use]
    pub fn new(senders: usize) -> Self {
        Self((0..senders).map(|_| Mutex::default()).collect())
    }

    /// Makes room for so many messages of a sender that are not gone, so that it does not look as if the queues grew.
    pub fn make_room(&self, sender: usize, messages: usize) {
        self.book(sender).records.reserve(messages);
    }

    fn book(&self, sender: usize) -> MutexGuard<'_, Book> {
        self.0[sender].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers for `count` messages that are about to be sent: they may be received from now on.
    pub fn begin(&self, sender: usize, count: usize) -> impl Iterator<Item = Id> + Clone + use<> {
        let mut book = self.book(sender);
        let first = book.next;
        book.next += count as u64;
        for number in first..book.next {
            book.records.insert(number, Record::default());
        }
        book.accepted += count as u64;
        (first..book.next).map(move |number| Id::new(sender, number))
    }

    /// The queue refused a message.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn refused(&self, id: Id) -> Result<(), Broken> {
        let mut book = self.book(id.sender());
        book.accepted -= 1;
        match book.records.remove(&id.number()) {
            Some(record) if record.latest == 0 => Ok(()),
            record => Err(Broken(format!("{id:?} was refused, and received: {record:?}"))),
        }
    }

    /// Enters deliveries of one receive.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn lease(&self, leases: &[Lease]) -> Result<(), Broken> {
        for leases in leases.chunk_by(|one, other| one.id.sender() == other.id.sender()) {
            let mut book = self.book(leases[0].id.sender());
            book.leases += leases.len() as u64;
            for lease in leases {
                book.lease(lease)?;
            }
        }
        Ok(())
    }

    /// Its holder is about to end a lease, or to have it end at `now` already.
    pub fn give_up(&self, id: Id, receives: u32, now: u64) {
        self.change(id, receives, |record| record.end = record.end.min(now));
    }

    /// Its holder has extended a lease: it runs until `end` at least.
    pub fn extend(&self, id: Id, receives: u32, end: u64) {
        self.change(id, receives, |record| record.end = end);
    }

    fn change(&self, id: Id, receives: u32, change: impl FnOnce(&mut Record)) {
        let mut book = self.book(id.sender());
        if let Some(record) = book.records.get_mut(&id.number())
            && record.latest == receives
        {
            change(record);
        }
    }

    /// Messages have been deleted, by handles of these counts.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn deleted(&self, messages: &[(Id, u32)]) -> Result<(), Broken> {
        for messages in messages.chunk_by(|(one, _), (other, _)| one.sender() == other.sender()) {
            let mut book = self.book(messages[0].0.sender());
            for &(id, receives) in messages {
                book.delete(id, receives)?;
            }
        }
        Ok(())
    }

    /// The queue answered that a lease, of this count, is over, or that its message is gone; it was `now` after that.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn lost(&self, id: Id, receives: u32, now: u64) -> Result<(), Broken> {
        let book = self.book(id.sender());
        match book.records.get(&id.number()) {
            Some(record) if record.latest == receives && now < record.end => Err(Broken(format!(
                "{id:?} was lost at {now} before its lease ended: {record:?}"
            ))),
            _ => Ok(()),
        }
    }

    /// What they add up to.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for sender in 0..self.0.len() {
            let book = self.book(sender);
            totals.accepted += book.accepted;
            totals.deleted += book.deleted;
            totals.leases += book.leases;
            let owed = book.accepted - book.deleted;
            totals.left += owed;
            totals.owed += book.records.len() as u64 - owed;
        }
        totals
    }

    /// Some messages that are in the books, for a report of what is missing.
    #[must_use]
    pub fn some(&self, most: usize) -> String {
        let mut some = Vec::new();
        for sender in 0..self.0.len() {
            let book = self.book(sender);
            some.extend(
                book.records
                    .iter()
                    .take(most - some.len())
                    .map(|(&number, record)| format!("{:?} {record:?}", Id::new(sender, number))),
            );
        }
        some.join("; ")
    }
}

impl Book {
    fn lease(&mut self, lease: &Lease) -> Result<(), Broken> {
        let broken = |why: &str, record: &Record| Err(Broken(format!("{why}: {lease:?}, {record:?}")));
        let Entry::Occupied(mut place) = self.records.entry(lease.id.number()) else {
            return Err(Broken(format!(
                "received after it was gone, or never sent: {lease:?}"
            )));
        };
        let record = place.get_mut();
        let bit = 1_u64.checked_shl(lease.receives - 1).unwrap_or(0);
        if lease.receives == 0 || record.entered & bit != 0 || record.latest == lease.receives {
            return broken("a receive count twice", record);
        }
        if record.deleted_by != 0 && lease.receives > record.deleted_by {
            return broken("received after its delete", record);
        }
        if lease.receives > record.latest {
            // The lease before may have ended before this one's receive had returned.
            if record.latest != 0 && lease.after < record.end {
                return broken("two leases at a time", record);
            }
            record.latest = lease.receives;
            record.after = lease.after;
            record.end = lease.end;
        } else if record.after < lease.end {
            // Entered late, by a thread that was stopped.
            return broken("two leases at a time", record);
        }
        record.entered |= bit;
        if record.is_over() {
            place.remove();
        }
        Ok(())
    }

    fn delete(&mut self, id: Id, receives: u32) -> Result<(), Broken> {
        self.deleted += 1;
        let Entry::Occupied(mut place) = self.records.entry(id.number()) else {
            return Err(Broken(format!("{id:?} was deleted twice")));
        };
        let record = place.get_mut();
        if record.deleted_by != 0 || record.latest > receives {
            return Err(Broken(format!(
                "{id:?} was deleted by the handle of receive {receives}: {record:?}"
            )));
        }
        record.deleted_by = receives;
        if record.is_over() {
            place.remove();
        }
        Ok(())
    }
}

impl Record {
    /// Whether nothing more is to come: deleted, and each receive up to then entered.
    fn is_over(&self) -> bool {
        let all = u64::MAX
            .checked_shr(64_u32.saturating_sub(self.deleted_by))
            .unwrap_or(0);
        self.deleted_by != 0 && self.entered == all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: Id, receives: u32, after: u64, end: u64) -> [Lease; 1] {
        [Lease {
            id,
            receives,
            after,
            end,
        }]
    }

    fn one(books: &Books) -> Id {
        books.begin(0, 1).next().expect("one")
    }

    #[test]
    fn a_life_leaves_nothing_behind() {
        let books = Books::new(1);
        let id = one(&books);
        books.lease(&lease(id, 1, 10, 20)).unwrap();
        books.lease(&lease(id, 2, 20, 30)).unwrap();
        books.deleted(&[(id, 2)]).unwrap();
        let totals = books.totals();
        assert_eq!(
            (totals.accepted, totals.deleted, totals.left, totals.owed),
            (1, 1, 0, 0)
        );
    }

    #[test]
    fn entries_may_come_late() {
        let books = Books::new(1);
        let id = one(&books);
        books.lease(&lease(id, 2, 20, 30)).unwrap();
        books.deleted(&[(id, 2)]).unwrap();
        assert_eq!((books.totals().left, books.totals().owed), (0, 1));
        books.lease(&lease(id, 1, 10, 20)).unwrap();
        assert_eq!(books.totals().owed, 0);
    }

    #[test]
    fn broken_promises_are_seen() {
        let sees = |why: &str, of: &dyn Fn(&Books, Id) -> Result<(), Broken>| {
            let books = Books::new(1);
            let id = one(&books);
            books.lease(&lease(id, 1, 10, 20)).unwrap();
            let Err(Broken(broken)) = of(&books, id) else {
                panic!("{why} was not seen");
            };
            assert!(broken.contains(why), "{broken}");
        };
        sees("two leases", &|books, id| books.lease(&lease(id, 2, 19, 30)));
        sees("two leases", &|books, id| {
            books.lease(&lease(id, 3, 40, 50))?;
            books.lease(&lease(id, 2, 30, 41))
        });
        sees("count twice", &|books, id| books.lease(&lease(id, 1, 30, 40)));
        sees("after its delete", &|books, id| {
            books.deleted(&[(id, 2)])?;
            books.lease(&lease(id, 3, 30, 40))
        });
        sees("after it was gone", &|books, id| {
            books.deleted(&[(id, 1)])?;
            books.lease(&lease(id, 2, 30, 40))
        });
        sees("deleted twice", &|books, id| {
            books.deleted(&[(id, 1)])?;
            books.deleted(&[(id, 1)])
        });
        sees("by the handle of receive 1", &|books, id| {
            books.lease(&lease(id, 2, 30, 40))?;
            books.deleted(&[(id, 1)])
        });
        sees("and received", &|books, id| books.refused(id));
        sees("before its lease ended", &|books, id| books.lost(id, 1, 19));
    }
}
