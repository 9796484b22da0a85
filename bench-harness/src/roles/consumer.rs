//! Receive and delete: the other side of `pipeline` and `steal`.

use std::sync::atomic::Ordering::Relaxed;

use arrayvec::ArrayVec;

use crate::{
    hand::Hand,
    target::{BATCH_MAX, Calls, Session},
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
            let sent_ns = sampled(hand);
            hand.delete::<ONE, C>(calls);
            record(hand, &sent_ns);
        } else {
            let sent_ns = sampled(hand);
            if !sent_ns.is_empty() {
                record(hand, &sent_ns);
            }
            hand.delete::<ONE, C>(calls);
        }
    }
    true
}

/// When the sampled ones among the messages just received were sent.
#[inline(always)]
fn sampled<H>(hand: &Hand<'_, H>) -> ArrayVec<u64, BATCH_MAX> {
    let mut sent_ns = ArrayVec::new();
    for id in hand.book.to_delete() {
        if let Some(stamps) = hand.shared.stamps.get(id.producer())
            && stamps.sampled(*id, 1).is_some()
        {
            sent_ns.push(stamps.cell(*id).load(Relaxed));
        }
    }
    sent_ns
}

fn record<H>(hand: &mut Hand<'_, H>, sent_ns: &[u64]) {
    let now_ns = hand.recorder.now_ns();
    for &sent_ns in sent_ns {
        hand.recorder.record(now_ns.saturating_sub(sent_ns));
    }
}
