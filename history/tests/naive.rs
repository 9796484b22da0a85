//! The judge against one that tries every pair, on histories that nobody would call likely.

use epoq_history::{Answer, End, History, Received, Recorder, Rule, Rules, Sent, check};
use proptest::prelude::*;

/// A receive: of which message, when, for how long.
#[derive(Debug, Clone)]
struct Taken {
    message: usize,
    invoke: u64,
    back: u64,
    visibility: u64,
    call: u32,
    place: u16,
}

#[derive(Debug, Clone)]
struct Case {
    sends: Vec<(u64, u64)>,
    taken: Vec<Taken>,
    has_sequence: bool,
}

/// Few moments, so that many are equal; calls of one to three messages.
fn cases() -> impl Strategy<Value = Case> {
    let interval = |longest: u64| (0..40u64, 0..longest).prop_map(|(from, span)| (from, from + span));
    let sends = prop::collection::vec(interval(6), 1..6);
    let call = (interval(12), prop::collection::vec((0..6usize, 0..30u64), 1..4));
    (sends, prop::collection::vec(call, 1..8), any::<bool>()).prop_map(|(mut sends, calls, has_sequence)| {
        if has_sequence {
            // Then they are in the order of the sends.
            sends.sort_unstable();
        }
        let mut taken = Vec::new();
        for (call, ((from, to), messages)) in (1..).zip(calls) {
            let mut seen = Vec::new();
            for (message, visibility) in messages {
                let message = message % sends.len();
                if seen.contains(&message) {
                    continue;
                }
                taken.push(Taken {
                    message,
                    // After all sends.
                    invoke: 50 + from,
                    back: 50 + to,
                    visibility,
                    call,
                    place: seen.len() as u16,
                });
                seen.push(message);
            }
        }
        Case {
            sends,
            taken,
            has_sequence,
        }
    })
}

impl Case {
    /// By sequence numbers, which are those of the list, or by the times of the sends.
    fn is_before(&self, one: usize, other: usize) -> bool {
        if self.has_sequence {
            return one < other;
        }
        self.sends[one].1 < self.sends[other].0
    }

    fn history(&self) -> History {
        let mut recorders = Vec::new();
        for (at, &(invoke, back)) in self.sends.iter().enumerate() {
            let mut recorder = Recorder::new(1 + at as u16, 1);
            recorder.send(
                invoke,
                back,
                Sent {
                    token: at as u64,
                    answer: Answer::Accepted(at as u128),
                    delay: 0,
                    group: Some(0),
                    deduplication: None,
                },
            );
            recorders.push(recorder);
        }
        let mut recorder = Recorder::new(0, 8);
        for taken in &self.taken {
            let received = Received {
                token: Some(taken.message as u64),
                id: taken.message as u128,
                receives: None,
                visibility: taken.visibility,
                group: Some(0),
                sequence: self.has_sequence.then_some(1 + taken.message as u128),
                call: taken.call,
                place: taken.place,
                lane: 0,
            };
            recorder.receive(taken.invoke, taken.back, received);
        }
        recorders.push(recorder);
        History::merge(recorders, End::Unknown).expect("well formed")
    }

    fn pairs(&self) -> impl Iterator<Item = (&Taken, &Taken)> {
        let pair = move |at: usize| {
            let others = self
                .taken
                .iter()
                .enumerate()
                .filter(move |(other, _)| *other != at);
            others.map(move |(_, other)| (&self.taken[at], other))
        };
        (0..self.taken.len()).flat_map(pair)
    }

    fn breaks_exclusive(&self) -> bool {
        self.pairs().any(|(one, other)| {
            one.message == other.message
                && other.back < one.invoke + one.visibility
                && one.back < other.invoke + other.visibility
        })
    }

    fn breaks_blocked(&self) -> bool {
        self.pairs().any(|(lease, other)| {
            self.is_before(lease.message, other.message)
                && lease.back < other.invoke
                && other.back < lease.invoke + lease.visibility
        })
    }

    fn breaks_ordered(&self) -> bool {
        self.pairs().any(|(later, one)| {
            // `later` is received after `one`, before which it stands.
            if !self.is_before(later.message, one.message) {
                return false;
            }
            if later.call == one.call {
                return later.place > one.place;
            }
            let is_in_answer = self
                .taken
                .iter()
                .any(|other| other.message == later.message && other.call == one.call);
            later.invoke > one.back && !is_in_answer
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_verdict_as_by_every_pair(case in cases()) {
        let verdict = check(&case.history(), &Rules::fifo(1_000));
        prop_assert_eq!(verdict.count(Rule::Exclusive) > 0, case.breaks_exclusive(), "{}", verdict);
        prop_assert_eq!(verdict.count(Rule::Blocked) > 0, case.breaks_blocked(), "{}", verdict);
        prop_assert_eq!(verdict.count(Rule::Ordered) > 0, case.breaks_ordered(), "{}", verdict);
        prop_assert_eq!(verdict.count(Rule::Sequenced), 0, "{}", verdict);
    }
}
