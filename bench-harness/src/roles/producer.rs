//! Send only: one side of `pipeline` and `steal`.

use std::sync::atomic::Ordering::Relaxed;

use crate::{
    hand::Hand,
    target::{Calls, Session},
};

/// Sends until told to stop.
pub(crate) fn run<S: Session>(hand: &mut Hand<'_, S::Handle>, session: &mut S) {
    match (hand.plan.interval_ns(), hand.plan.batch) {
        (Some(interval_ns), _) => on_schedule(hand, session, interval_ns),
        (None, 1) => within_bound::<true, S>(hand, session),
        (None, _) => within_bound::<false, S>(hand, session),
    }
}

/// As fast as it goes, with at most the plan's backlog outstanding.
fn within_bound<const ONE: bool, S: Session>(hand: &mut Hand<'_, S::Handle>, session: &mut S) {
    let turn_length = hand.plan.turn;
    let mut allowance = 0;
    while hand.goes_on() {
        if allowance < Hand::<S::Handle>::CHUNK as u64 {
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
        stamps.cell(id).store(hand.recorder.now_ns(), Relaxed);
    }
    hand.send::<ONE, C>(calls);
}

/// A batch whenever the schedule says so; its messages carry the intended time.
fn on_schedule<S: Session>(hand: &mut Hand<'_, S::Handle>, session: &mut S, interval_ns: f64) {
    let origin_ns = hand.recorder.now_ns();
    let batch = hand.plan.batch;
    let mut arrivals = 0_u64;
    while hand.goes_on() {
        let intended_ns = origin_ns + (arrivals as f64 * interval_ns) as u64;
        if hand.recorder.now_ns() < intended_ns || allowed(hand) == 0 {
            hand.wait_a_little();
            continue;
        }
        arrivals += 1;
        let stamps = &hand.shared.stamps[hand.seat.index];
        let first = hand.next_id();
        let mut from = 0;
        while let Some(id) = stamps.sampled(first.plus(from as u64), batch - from) {
            stamps.cell(id).store(intended_ns, Relaxed);
            from = (id.sequence() - first.sequence()) as usize + 1;
        }
        hand.send::<false, S>(session);
    }
}
