//! Send only: one side of `pipeline` and `steal`.

use crate::{
    hand::Hand,
    target::{Calls, Session},
};

/// Sends until told to stop.
pub(crate) fn run<S: Session>(hand: &mut Hand<'_, S::Handle>, session: &mut S) {
    match (hand.plan.rate, hand.plan.batch) {
        (Some(_), _) => on_schedule(hand, session),
        (None, 1) => within_bound::<true, S>(hand, session),
        (None, _) => within_bound::<false, S>(hand, session),
    }
}

/// As fast as it goes, with at most the plan's backlog outstanding.
fn within_bound<const ONE: bool, S: Session>(hand: &mut Hand<'_, S::Handle>, session: &mut S) {
    let turn_length = hand.plan.turn;
    let mut looks = hand.looks();
    let mut allowance = 0;
    while hand.goes_on() {
        if allowance < Hand::<S::Handle>::CHUNK as u64 && looks.is_due() {
            allowance = allowed(hand);
        }
        let chunk = allowance.min(Hand::<S::Handle>::CHUNK as u64);
        if chunk == 0 {
            hand.idle();
            continue;
        }
        allowance -= chunk;
        match turn_length {
            None => (0..chunk).for_each(|_| send::<ONE, _, _>(hand, session)),
            Some(length) => {
                let mut rest = chunk as usize;
                while rest > 0 {
                    let calls = rest.min(length);
                    let mut turn = session.turn();
                    (0..calls).for_each(|_| send::<ONE, _, _>(hand, &mut turn));
                    rest -= calls;
                }
            }
        }
    }
}

/// How many calls this producer may make before it has to ask again: its share of what is not outstanding.
fn allowed<H>(hand: &Hand<'_, H>) -> u64 {
    let sent = hand.shared.sum(|seat| &seat.sent);
    let outstanding = sent.saturating_sub(hand.shared.sum(|seat| &seat.received));
    let share = hand.plan.backlog.saturating_sub(outstanding) / hand.plan.topology.senders() as u64;
    share / hand.plan.batch as u64
}

/// Sends one batch; if one of its messages is sampled, notes the time before.
#[inline(always)]
fn send<const ONE: bool, H, C: Calls<Handle = H>>(hand: &mut Hand<'_, H>, calls: &mut C) {
    let stamps = &hand.shared.stamps[hand.seat.index];
    if let Some(id) = stamps.sampled(hand.next_id(), hand.batch::<ONE>()) {
        stamps.put(id, hand.recorder.now_ns());
    }
    hand.send::<ONE, C>(calls);
}

/// A batch whenever the schedule says so; its messages carry the intended time.
fn on_schedule<S: Session>(hand: &mut Hand<'_, S::Handle>, session: &mut S) {
    let mut looks = hand.looks();
    let mut allowance = 0;
    hand.begin_schedule();
    while hand.goes_on() {
        if allowance == 0 && looks.is_due() {
            allowance = allowed(hand);
        }
        let arrival = if allowance > 0 { hand.arrival() } else { None };
        let Some(intended_ns) = arrival else {
            hand.wait_a_little();
            continue;
        };
        allowance -= 1;
        hand.stamp(intended_ns);
        hand.send::<false, S>(session);
    }
}
