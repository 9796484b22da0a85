//! A group's baton in hand: what its holder may do with the group's messages, and how it goes on.

use std::ptr::NonNull;

use arrayvec::ArrayVec;

use super::{
    Group,
    laid::Laid,
    link::{Link, Member},
    word::{Done, Duty, GroupWord, Places, WINDOW},
};
use crate::{
    clock::Millis,
    config::{BATCH_MAX, BITS},
    ledger::{partition::Partition, reclaim::Pin},
    sync::Ordering,
};

/// What has to be done after a group's word was changed.
#[must_use = "a baton forgotten strands its group"]
#[derive(Debug)]
pub enum After<'p> {
    /// Nothing.
    Nothing,
    /// The group has something to deliver, and its baton is in the caller's hand.
    Baton(Baton<'p>),
    /// The group is empty: somebody is to come and close it in a while.
    Closing(&'p Group),
}

/// A group's baton in hand.
///
/// Forgotten, it would strand the group: it ends by being handed back, offered or put off.
#[must_use = "a baton forgotten strands its group"]
#[derive(Debug)]
pub struct Baton<'p>(&'p Group);

/// A delivery in the making, by whoever has the group's baton.
#[must_use = "a baton forgotten strands its group"]
#[derive(Debug)]
pub struct Serving<'p> {
    group: &'p Group,
    word: GroupWord,
    /// The next place to look at; beyond the window: the sorted ones.
    place: usize,
    leased: Places,
    gone: Places,
    has_new: bool,
    run: Run<'p>,
}

/// Messages to be delivered together, in order.
pub type Run<'p> = ArrayVec<Member<'p>, BATCH_MAX>;

/// The message that a group delivers next.
#[derive(Debug, Clone, Copy)]
pub struct Next<'p> {
    /// It.
    pub member: Member<'p>,
    /// Whether it has never been received.
    pub is_new: bool,
}

impl<'p> Baton<'p> {
    /// Begins to use a baton.
    ///
    /// # Safety
    /// It is in the caller's hand: by a [`Duty::Baton`], or by a token taken, under this pin.
    #[inline]
    pub unsafe fn pick_up(group: &'p Group, _pin: &'p Pin<'_>) -> Self {
        Self(group)
    }

    /// Whose it is.
    #[cfg(loom)]
    pub fn group(&self) -> &'p Group {
        self.0
    }

    /// Begins to deliver.
    #[inline]
    pub fn serve(self) -> Serving<'p> {
        Serving {
            group: self.0,
            // Acquire: what became of the window's messages.
            word: GroupWord::from_bits(self.0.word.load(Ordering::Acquire)),
            place: 0,
            leased: 0,
            gone: 0,
            has_new: false,
            run: Run::new(),
        }
    }

    /// Offers the baton to whoever receives next. Of a message never received, it is put on that message's own token: there it is
    /// found in the order of sending. Otherwise it is laid down at the tail of `home`, behind what can be received already.
    ///
    /// Returns what is left to do, if there was nothing to deliver after all; `None` if it was offered.
    pub fn offer<'h>(
        self,
        home: Option<&Partition>,
        find: impl Fn(u32) -> Option<&'h Partition>,
        now: Millis,
        pin: &'p Pin<'_>,
    ) -> Option<After<'p>> {
        let group = self.0;
        let mut serving = self.serve();
        let Some(Next { member, is_new }) = serving.next() else {
            return Some(serving.hand_back(true, pin).0);
        };
        let Member { segment, slot, .. } = member;
        let (word, token) = (slot as usize / BITS, 1 << (slot as usize % BITS));
        let Some(own) = find(segment.fixed().partition) else {
            debug_assert!(false, "a message in a partition that is closed");
            return None;
        };
        let sent = member.sent();
        if is_new && !segment.is_passed(slot) {
            // The hint behind the token, see `publish_again`.
            let is_passed = segment.publish(word, token);
            own.note_sent(sent);
            if !is_passed {
                return None;
            }
            // The head has gone by meanwhile. If the token is still there the baton is in our hand again; if not, somebody
            // has found it.
            if !segment.take_one(slot as usize) {
                return None;
            }
        }
        let lay = |home: &Partition| home.lay_noting(group, Laid::Baton, sent, None, now, pin);
        if home.is_some_and(|home| lay(home).is_ok()) {
            return None;
        }
        // No room: by the message's own token after all, which takes none.
        own.publish_again(segment, word, token, pin);
        None
    }

    /// Lays the baton down, to be picked up from `due` on.
    ///
    /// # Errors
    /// There is no room for that: it still is in the caller's hand.
    pub fn put_off(
        self,
        due: Millis,
        home: Option<&Partition>,
        now: Millis,
        pin: &Pin<'_>,
    ) -> Result<(), Self> {
        let sent = self.peek().map_or(now, |next| next.member.sent());
        let lay = |home: &Partition| home.lay_noting(self.0, Laid::Baton, sent, Some(due), now, pin);
        if home.is_some_and(|home| lay(home).is_ok()) {
            Ok(())
        } else {
            Err(self)
        }
    }

    /// Puts the baton on the token of what the group delivers next, which takes no room, although that is not to be delivered
    /// before `due`: somebody shall look then. Returns what is left to do, if there was nothing to deliver after all.
    #[cold]
    pub fn put_off_in_place<'h>(
        self,
        due: Millis,
        find: impl Fn(u32) -> Option<&'h Partition>,
        pin: &'p Pin<'_>,
    ) -> Option<After<'p>> {
        let mut serving = self.serve();
        let Some(Next { member, .. }) = serving.next() else {
            return Some(serving.hand_back(true, pin).0);
        };
        let Member { segment, slot, .. } = member;
        let Some(own) = find(segment.fixed().partition) else {
            debug_assert!(false, "a message in a partition that is closed");
            return None;
        };
        own.set_alarm(segment, due);
        own.give_token_back(segment, slot, pin);
        None
    }

    /// Sorts what is in the inbox, and hands the baton back.
    pub fn sort_and_hand_back(self, pin: &'p Pin<'_>) -> After<'p> {
        self.0.sort();
        self.serve().hand_back(true, pin).0
    }

    /// What the group delivers next.
    pub fn peek(&self) -> Option<Next<'p>> {
        Self(self.0).serve().next()
    }
}

impl<'p> Serving<'p> {
    /// The next message to be delivered after those taken; `None` if there is none, or one in flight stands before it.
    #[inline]
    pub fn next(&mut self) -> Option<Next<'p>> {
        while self.place < WINDOW {
            let place = 1 << self.place;
            if self.word.in_flight() & place != 0 {
                return None;
            }
            if self.word.waiting() & place != 0 {
                // SAFETY: we have the baton; a message that waits is alive, and only we can make it dead.
                let member = self
                    .group
                    .sorted
                    .with(|sorted| unsafe { Member::of((*sorted).window[self.place]) });
                return Some(Next {
                    member,
                    is_new: false,
                });
            }
            self.place += 1;
        }
        let mut first = self.first();
        if first.is_null() {
            self.group.sort();
            first = self.first();
        }
        let first = NonNull::new(first)?;
        Some(Next {
            // SAFETY: as above, for what is sorted.
            member: unsafe { Member::of(first.as_ptr()) },
            is_new: true,
        })
    }

    fn first(&self) -> *mut Link {
        // SAFETY: we have the baton.
        self.group.sorted.with(|sorted| unsafe { (*sorted).first })
    }

    /// Delivers what [`Serving::next`] gave.
    #[inline]
    pub fn take(&mut self, next: Next<'p>) {
        if self.run.try_push(next.member).is_err() {
            debug_assert!(false, "more than a window");
            return;
        }
        if next.is_new {
            self.has_new = true;
            self.step_on(next.member.link);
        } else {
            self.leased |= 1 << self.place;
            self.place += 1;
        }
    }

    /// What [`Serving::next`] gave is gone: the caller has made it dead, and has not buried it yet.
    pub fn drop_next(&mut self, next: Next<'p>) {
        if next.is_new {
            self.step_on(next.member.link);
        } else {
            self.gone |= 1 << self.place;
            self.place += 1;
        }
    }

    /// The first of those sorted is not behind the window any more.
    fn step_on(&self, link: &Link) {
        // SAFETY: we have the baton.
        self.group
            .sorted
            .with_mut(|sorted| unsafe { (*sorted).first = link.next() });
    }

    /// What was done to the window, and writes down who is in it now.
    pub fn settle(&self, leases: bool) -> Done {
        if !self.has_new {
            // Received without a lease, they wait where they were.
            let leased = if leases { self.leased } else { 0 };
            return Done::Within {
                leased,
                gone: self.gone,
            };
        }
        // All of the window were taken or are gone, none is in flight: nobody else knows of their places.
        // SAFETY: we have the baton.
        self.group.sorted.with_mut(|sorted| unsafe {
            for (place, member) in self.run.iter().enumerate() {
                (*sorted).window[place] = std::ptr::from_ref(member.link);
                member.link.set_place(place as u32);
            }
        });
        if leases {
            Done::Leased(self.run.len())
        } else {
            Done::Shown(self.run.len())
        }
    }

    /// Hands the baton back and leases what was taken, if `leases`: those messages are in flight for everybody, and the caller
    /// stores their states now. Without leases their states have been stored before.
    #[inline]
    pub fn hand_back(self, leases: bool, pin: &'p Pin<'_>) -> (After<'p>, Run<'p>) {
        let done = self.settle(leases);
        let duty = self.group.hand_back(done, false);
        (self.group.after(duty, pin), self.run)
    }

    /// Keeps the baton, with nothing taken: what is gone is gone for everybody.
    pub fn keep(self) -> Baton<'p> {
        debug_assert!(self.run.is_empty(), "taken, and kept");
        if self.gone != 0 {
            let duty = self.group.hand_back(self.settle(true), true);
            debug_assert_eq!(duty, Duty::Baton);
        }
        Baton(self.group)
    }

    /// Whose baton it is.
    #[cfg(loom)]
    pub fn group(&self) -> &'p Group {
        self.group
    }

    /// What was taken so far.
    #[inline]
    pub fn run(&self) -> &Run<'p> {
        &self.run
    }
}
