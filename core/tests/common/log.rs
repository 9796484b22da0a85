//! What a thread notes for the history checker: each event by the broker's clock and by the machine's.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::time::Instant;

use epoq::{Broker, MessageId};
use epoq_history::{Answer, End, History, Lease, Outcome, Received, Recorder, Rules, Seen, Sent, check};

/// A moment by both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    ms: u64,
    ns: u64,
}

impl Moment {
    pub(crate) fn now(broker: &Broker, began: Instant) -> Self {
        Self {
            ms: broker.now().as_millis(),
            ns: began.elapsed().as_nanos() as u64,
        }
    }
}

/// Clocks may disagree a little about how fast time goes.
const TOLERANCE_NS: u64 = 2_000_000;

/// One thread's notes.
#[derive(Debug)]
pub(crate) struct Log {
    ms: Recorder,
    ns: Recorder,
}

impl Log {
    /// Notes of the thread of this number.
    pub(crate) fn new(worker: u16) -> Self {
        Self {
            ms: Recorder::new(worker, 0),
            ns: Recorder::new(worker, 0),
        }
    }

    pub(crate) fn sent(
        &mut self,
        before: Moment,
        after: Moment,
        token: u64,
        id: MessageId,
        group: Option<u32>,
    ) {
        let sent = Sent {
            token,
            answer: Answer::Accepted(number(id)),
            delay: 0,
            group,
            deduplication: None,
        };
        self.ms.send(before.ms, after.ms, sent.clone());
        self.ns.send(before.ns, after.ns, sent);
    }

    /// A number for a receive call.
    pub(crate) fn call(&mut self) -> u32 {
        self.ms.call()
    }

    /// A message received for so long; the visibility of `received` is filled in.
    pub(crate) fn received(
        &mut self,
        before: Moment,
        after: Moment,
        timeout_ms: u64,
        received: Received,
    ) -> Lease {
        let visibility = visibility_ms(timeout_ms);
        let by_broker = Received {
            visibility,
            ..received
        };
        let visibility = timeout_ms * 1_000_000;
        let by_machine = Received {
            visibility,
            ..received
        };
        self.ns.receive(before.ns, after.ns, by_machine);
        // The same one in both.
        self.ms.receive(before.ms, after.ms, by_broker)
    }

    pub(crate) fn deleted(&mut self, before: Moment, after: Moment, lease: Lease, outcome: Outcome) {
        self.ms.delete(before.ms, after.ms, lease, outcome);
        self.ns.delete(before.ns, after.ns, lease, outcome);
    }

    pub(crate) fn changed(
        &mut self,
        before: Moment,
        after: Moment,
        lease: Lease,
        timeout_ms: u64,
        outcome: Outcome,
    ) {
        let visibility = visibility_ms(timeout_ms);
        self.ms.change(before.ms, after.ms, lease, visibility, outcome);
        let visibility = timeout_ms * 1_000_000;
        self.ns.change(before.ns, after.ns, lease, visibility, outcome);
    }

    pub(crate) fn purged(&mut self, before: Moment, after: Moment) {
        self.ms.purge(before.ms, after.ms, Outcome::Done);
        self.ns.purge(before.ns, after.ns, Outcome::Done);
    }
}

/// Rounded up: see the crate's page on leases.
fn visibility_ms(timeout_ms: u64) -> u64 {
    if timeout_ms == 0 { 0 } else { timeout_ms + 1 }
}

pub(crate) fn number(id: MessageId) -> u128 {
    u128::from_be_bytes(*id.as_bytes())
}

/// The judgement on what all threads did, by either clock. Nothing must be left in the end.
pub(crate) fn judge(logs: Vec<Log>, rules: &Rules) -> Seen {
    let (by_broker, by_machine): (Vec<_>, Vec<_>) = logs.into_iter().map(|log| (log.ms, log.ns)).unzip();
    let judge = |recorders: Vec<Recorder>, rules: &Rules| {
        let history = History::merge(recorders, End::Empty).expect("well formed");
        let verdict = check(&history, rules);
        assert!(verdict.is_acquitted(), "{verdict}");
        verdict.seen()
    };
    judge(by_broker, rules);
    judge(by_machine, &rules.clone().tolerance(TOLERANCE_NS))
}
