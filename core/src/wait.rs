//! Waiting for something to happen to a queue, without missing it and without polling.
//!
//! ```text
//! publisher                              waiter
//!   set token            (RMW)             waiting += 1          (RMW)
//!   fence SeqCst                           listen, fence SeqCst
//!   waiting != 0 ?       (load)            look for a message    -> sleep if there is none
//!     yes: notify
//! ```
//!
//! Two cases: one of the two fences comes first. If it is the publisher's, the waiter's look, which comes after its own, finds the
//! token. Otherwise the publisher sees that somebody is waiting and notifies; the waiter listened before it looked, so the
//! notification is for it or for somebody who listened before. What makes the token findable (a partition made, a segment linked, a
//! word brought back, the span raised) is found too: it was done by the publisher, or by somebody it has acquired it from, so it
//! comes before the publisher's fence as the token does, in whatever ordering it was written. The publisher's fence is free on x86,
//! where its read-modify-write is one ([`sync::fence_behind_rmw`]); nothing here rests on SeqCst accesses, which loom takes for AcqRel.
//!
//! *Time* is kept by the waiters themselves: one of them has its alarm set to the earliest moment at which a lease or a delay
//! is over, `wake_by`. Whoever makes a lease that ends earlier sees so by the same argument (the segment's due hint takes the
//! token's place) and wakes one waiter, which sets its alarm earlier. A waiter that leaves with its alarm set wakes another one
//! to take over.
//!
//! *The crowd* are those who wait because too many messages are in flight. What they look at is a sum of counters, each written by
//! plain stores of one worker, and what they raise is a count of their own, `crowded`, so that others pay nothing while there is
//! no crowd. Whoever ends leases stores its counter, fences, and loads `crowded`; whoever joins the crowd raises it, fences, and
//! sums up. Of the two fences one is first: either the sum has the counter in it, or `crowded` is seen raised. A delete's fence
//! is the read-modify-write that counts the slot dead ([`sync::fence_behind_rmw`]), the others', who are slow anyway, is one of its own.
//!
//! *Order and cancellation* are the event's: the one who has listened longest is notified first, and a listener that is
//! dropped after it was notified passes the notification on.

#![cfg_attr(
    not(loom),
    allow(unreachable_pub, reason = "public to the models only, see lib.rs")
)]

use crate::{
    clock::Millis,
    sync::{self, Arc, AtomicU32, AtomicU64, Event, EventListener, Ordering, fence},
};

/// Who waits for a queue.
#[derive(Debug)]
pub struct Waiters {
    /// How many there are, or are about to be.
    pub waiting: AtomicU32,
    /// When the earliest alarm goes off that one of them has set; `NEVER` if none has.
    pub wake_by: AtomicU64,
    /// How many wait because too many messages are in flight.
    pub crowded: AtomicU32,
    event: Arc<Event>,
}

impl Default for Waiters {
    fn default() -> Self {
        Self {
            waiting: AtomicU32::new(0),
            wake_by: AtomicU64::new(Millis::NEVER.0),
            crowded: AtomicU32::new(0),
            event: Arc::new(Event::new()),
        }
    }
}

impl Waiters {
    /// `messages` have been made visible, by read-modify-writes of the caller: wakes as many waiters. Returns whether anybody was
    /// waiting.
    #[inline(always)]
    pub fn wake(&self, messages: usize) -> bool {
        sync::fence_behind_rmw();
        // Relaxed: behind the fence, which comes before or after the waiter's.
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.notify(messages);
        true
    }

    /// As [`Waiters::wake`], where the messages were counted after they had been made visible: the crowd has to see the count too.
    pub fn wake_counted(&self, messages: usize) {
        // SeqCst: see above. The tokens came before the count.
        fence(Ordering::SeqCst);
        // Relaxed: behind the fence, as in `wake`.
        if self.waiting.load(Ordering::Relaxed) != 0 {
            self.notify(messages);
        }
    }

    /// `leases` have ended with their messages, which the caller has counted, and done a read-modify-write since then: the crowd
    /// may receive now.
    #[inline(always)]
    pub fn wake_crowded(&self, leases: u64) {
        sync::fence_behind_rmw();
        // Relaxed: behind the fence, as in `wake`.
        if self.crowded.load(Ordering::Relaxed) != 0 {
            self.wake(usize::try_from(leases).unwrap_or(usize::MAX));
        }
    }

    /// A lease or delay that ends at `due` has been noted in its segment's hint, by a read-modify-write.
    #[inline(always)]
    pub fn wake_by(&self, due: impl FnOnce() -> Millis) {
        sync::fence_behind_rmw();
        // Relaxed, both: behind the fence. If it comes after a waiter's, both are as new as that waiter knew them then, or newer.
        if self.waiting.load(Ordering::Relaxed) != 0 && due().0 < self.wake_by.load(Ordering::Relaxed) {
            self.notify(1);
        }
    }

    /// Whether anybody waits. An old answer is corrected by whoever comes next.
    pub fn is_anyone(&self) -> bool {
        // Relaxed: a hint.
        self.waiting.load(Ordering::Relaxed) != 0
    }

    /// Something has changed that all of them have to look at.
    pub fn wake_all(&self) {
        // Notifying begins with a SeqCst fence, and listening ends with one.
        self.event.notify_additional(usize::MAX);
    }

    #[cold]
    #[inline(never)]
    fn notify(&self, messages: usize) {
        // One for each message, however many have been notified before and not come yet: each of them may be one who finds
        // that somebody else has taken its message.
        self.event.notify_additional(messages);
    }

    /// What wakes all waiters whenever it is notified: for a clock that moves by hand.
    pub fn event(&self) -> &Arc<Event> {
        &self.event
    }

    /// Joins the crowd; who sleeps in it joins the others too, and listens and sums up anew after both.
    pub fn join_crowd(&self) -> Crowded<'_> {
        // Relaxed: see above; the fence of `listen` comes between this and the sum.
        self.crowded.fetch_add(1, Ordering::Relaxed);
        Crowded(self)
    }

    /// Joins them.
    pub fn enter(&self) -> Waiting<'_> {
        // Acquire: whoever has gone took his alarm off before, and a lessee whose fence comes after ours does not see it any more;
        // pairs with `drop`. For the rest see above: the fence of `listen` comes between this and the look.
        self.waiting.fetch_add(1, Ordering::Acquire);
        Waiting {
            waiters: self,
            listener: None,
            alarm: None,
            is_awake: false,
        }
    }
}

/// One of the crowd.
#[derive(Debug)]
pub struct Crowded<'w>(&'w Waiters);

impl Drop for Crowded<'_> {
    fn drop(&mut self) {
        // Relaxed: whoever is still there is counted in whatever value comes after its own addition.
        self.0.crowded.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One who waits. Dropped, it is gone without a trace: a notification it had passes on, and so does its alarm.
#[derive(Debug)]
pub struct Waiting<'w> {
    waiters: &'w Waiters,
    listener: Option<EventListener>,
    /// When its alarm goes off, if it has set one.
    pub alarm: Option<Millis>,
    /// Between `listen` and `keep_time`: it may be the one that others rely on to set the alarm.
    is_awake: bool,
}

impl Waiting<'_> {
    /// Listens. What happens from now on wakes it; what happened before has to be looked for now.
    pub fn listen(&mut self) {
        self.disarm();
        self.is_awake = true;
        // The old listener goes first: if it was notified in vain, it passes that on to somebody else.
        self.listener = None;
        self.listener = Some(self.waiters.event.listen());
        // SeqCst: see above; `waiting` was raised before, and the look comes after. Behind `listen`: a notifier looks without the
        // event's lock whether there is anybody in its list.
        fence(Ordering::SeqCst);
    }

    /// Having found nothing: sets the alarm to when something is due next, unless somebody else's goes off before. Returns
    /// until when to sleep at most.
    ///
    /// One look is enough: who makes something due earlier after it finds this alarm, or a later one, or none, and in each
    /// case wakes somebody who looks again.
    pub fn keep_time(&mut self, next_due: impl FnOnce() -> Option<Millis>) -> Option<Millis> {
        // Relaxed: who has set the alarm that we rely on will see us waiting when he goes. Otherwise he went before we came (`enter`
        // has acquired his `drop`), had taken it off before that, and we do not find it. For the rest see above, with the hint in
        // the token's place: what `next_due` has not seen was lowered by one who has seen that we are waiting.
        self.alarm =
            next_due().filter(|due| self.waiters.wake_by.fetch_min(due.0, Ordering::Relaxed) > due.0);
        self.is_awake = false;
        self.alarm
    }

    /// The listener, to be waited for.
    pub fn listener(&mut self) -> Option<&mut EventListener> {
        self.listener.as_mut()
    }

    /// The listener, to be waited for by this thread; [`Waiting::listen`] makes another.
    pub fn take_listener(&mut self) -> Option<EventListener> {
        self.listener.take()
    }

    /// Takes the alarm off. Says whether one was set.
    fn disarm(&mut self) -> bool {
        let Some(alarm) = self.alarm.take() else {
            return false;
        };
        // Relaxed: see `keep_time`. A failure means that somebody has set an earlier one.
        let _ = self.waiters.wake_by.compare_exchange(
            alarm.0,
            Millis::NEVER.0,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        true
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Awake, it may have been woken to set its alarm earlier than whoever keeps the time has: then nobody knows yet.
        let kept_time = self.disarm() || self.is_awake;
        // Release: our alarm was taken off before; pairs with `enter`.
        let others = self.waiters.waiting.fetch_sub(1, Ordering::Release) > 1;
        // Passes a notification on, if there was one; in front of the one below, which is not for us.
        self.listener = None;
        if kept_time && others {
            // Somebody else has to set the alarm.
            self.waiters.notify(1);
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle, stalls))))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sync::Listener;

    /// A waiter that was woken to set its alarm earlier finds a message and leaves: somebody else has to set it.
    #[test]
    fn an_earlier_end_is_passed_on_by_a_waiter_that_leaves() {
        let waiters = Waiters::default();
        let mut first = waiters.enter();
        first.listen();
        assert_eq!(first.keep_time(|| None), None);
        let mut keeper = waiters.enter();
        keeper.listen();
        assert_eq!(keeper.keep_time(|| Some(Millis(1_000))), Some(Millis(1_000)));
        waiters.wake_by(|| Millis(10));
        let woken = first.take_listener().expect("it listens");
        assert!(woken.wait_timeout(Duration::from_secs(10)).is_some());
        first.listen();
        drop(first);
        let told = keeper.take_listener().expect("it listens");
        assert!(told.wait_timeout(Duration::from_secs(10)).is_some());
    }
}
