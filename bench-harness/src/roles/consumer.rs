//! Receive and delete: the other side of `pipeline` and `steal`.

use crate::{
    hand::Hand,
    target::{Calls, Session},
};

/// Receives until told to stop.
pub(crate) fn run<S: Session>(hand: &mut Hand<'_, S::Handle>, session: &mut S) {
    if hand.plan.batch == 1 {
        run_sized::<true, S>(hand, session)
    } else {
        run_sized::<false, S>(hand, session)
    }
}

fn run_sized<const ONE: bool, S: Session>(hand: &mut Hand<'_, S::Handle>, session: &mut S) {
    let calls_in_turn = hand.plan.turn;
    let open_loop = hand.plan.rate.is_some();
    while hand.goes_on() {
        let found = match calls_in_turn {
            None => receive_chunk::<ONE, _, _>(hand, session, Hand::<S::Handle>::CHUNK, open_loop),
            Some(length) => receive_chunk::<ONE, _, _>(hand, &mut session.turn(), length, open_loop),
        };
        if !found {
            hand.note_empty();
            hand.idle();
        }
    }
}

/// Receives and deletes up to `calls_max` batches; false when a receive came back empty.
fn receive_chunk<const ONE: bool, H, C: Calls<Handle = H>>(
    hand: &mut Hand<'_, H>,
    calls: &mut C,
    calls_max: usize,
    open_loop: bool,
) -> bool {
    for _ in 0..calls_max {
        if hand.receive(calls, hand.batch::<ONE>()) == 0 {
            return false;
        }
        // Closed loop: until received; open loop: until deleted.
        if open_loop {
            hand.delete_timed::<ONE, C>(calls);
        } else {
            let sent_ns = hand.sent_ns();
            if !sent_ns.is_empty() {
                hand.record_since(&sent_ns);
            }
            hand.delete::<ONE, C>(calls);
        }
    }
    true
}
