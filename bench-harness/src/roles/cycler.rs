//! Send, receive, delete: the scenarios `lifecycle`, `backlog`, `inflight` and `redelivery`.

use crate::{hand::Hand, plan::Plan, target::Session};

/// Runs life cycles until told to stop.
pub(crate) fn run<S: Session>(hand: &mut Hand<'_, S::Handle>, session: &mut S) {
    if hand.plan.batch == 1 {
        run_sized::<true, S>(hand, session)
    } else {
        run_sized::<false, S>(hand, session)
    }
}

fn run_sized<const ONE: bool, S: Session>(hand: &mut Hand<'_, S::Handle>, session: &mut S) {
    if let Some(share) = hand.plan.share_of(&hand.seat) {
        return unevenly::<ONE, S>(hand, session, share);
    }
    match (hand.plan.interval_ns(), hand.plan.turn) {
        (Some(interval_ns), _) => on_schedule::<ONE, S>(hand, session, interval_ns),
        (None, Some(cycles)) => in_turns::<ONE, S>(hand, session, cycles),
        (None, None) => one_by_one::<ONE, S>(hand, session),
    }
}

/// Each call is a turn of its own.
fn one_by_one<const ONE: bool, S: Session>(hand: &mut Hand<'_, S::Handle>, session: &mut S) {
    while hand.goes_on() {
        for _ in 0..Hand::<S::Handle>::CHUNK {
            hand.cycle::<ONE, _>(session);
        }
    }
}

/// `cycles` life cycles to a turn.
fn in_turns<const ONE: bool, S: Session>(hand: &mut Hand<'_, S::Handle>, session: &mut S, cycles: usize) {
    let turns = (Hand::<S::Handle>::CHUNK / cycles).max(1);
    while hand.goes_on() {
        for _ in 0..turns {
            let mut turn = session.turn();
            for _ in 0..cycles {
                hand.cycle::<ONE, _>(&mut turn);
            }
        }
    }
}

/// Sends its share of all messages, and receives what it can get.
fn unevenly<const ONE: bool, S: Session>(hand: &mut Hand<'_, S::Handle>, session: &mut S, share: f64) {
    let chunk = Hand::<S::Handle>::CHUNK;
    let batch = hand.batch::<ONE>();
    while hand.goes_on() {
        let received = hand.shared.sum(|seat| &seat.received);
        // So much may be outstanding that nobody waits for a thread that is off its core for a moment.
        let allowed = (share * (received + Plan::OUTSTANDING) as f64) as u64;
        let allowed = allowed.saturating_sub(hand.sent_count()) as usize / batch;
        let sends = allowed.min(2 * chunk);
        for _ in 0..sends {
            hand.send::<ONE, S>(session);
        }
        let mut received = false;
        for _ in 0..chunk {
            if hand.receive(session, batch) == 0 {
                hand.note_empty();
                break;
            }
            received = true;
            hand.delete::<ONE, S>(session);
        }
        if !received && sends == 0 {
            hand.idle();
        }
    }
}

/// A life cycle whenever the schedule says so, however long the last one took.
fn on_schedule<const ONE: bool, S: Session>(
    hand: &mut Hand<'_, S::Handle>,
    session: &mut S,
    interval_ns: f64,
) {
    let origin_ns = hand.recorder.now_ns();
    let mut arrivals = 0_u64;
    while hand.goes_on() {
        let intended_ns = origin_ns + (arrivals as f64 * interval_ns) as u64;
        if hand.recorder.now_ns() < intended_ns {
            hand.wait_a_little();
            continue;
        }
        arrivals += 1;
        hand.cycle_untimed::<ONE, _>(session);
        let now_ns = hand.recorder.now_ns();
        hand.recorder.record(now_ns.saturating_sub(intended_ns));
    }
}
