//! Tiny histories by hand: for each rule what is just allowed, and what is just forbidden.

use epoq_history::{
    Answer, End, History, Lease, MergeError, Outcome, Received, Recorder, Rule, Rules, Sent, Verdict, check,
};

/// A recorder that fills in what a test does not care about.
struct Notes(Recorder);

const ID: u128 = 0xa0;

fn received(token: u64, receives: u32) -> Received {
    Received {
        token: Some(token),
        id: ID + u128::from(token),
        receives: (receives > 0).then_some(receives),
        visibility: 100,
        group: None,
        sequence: None,
        call: 0,
        place: 0,
        lane: 0,
    }
}

fn sent(token: u64) -> Sent {
    Sent {
        token,
        answer: Answer::Accepted(ID + u128::from(token)),
        delay: 0,
        group: None,
        deduplication: None,
    }
}

impl Notes {
    fn send(&mut self, invoke: u64, back: u64, sent: Sent) {
        self.0.send(invoke, back, sent);
    }

    /// A receive in a call of its own.
    fn receive(&mut self, invoke: u64, back: u64, received: Received) -> Lease {
        let call = self.0.call();
        self.0.receive(invoke, back, Received { call, ..received })
    }
}

fn judge_with(rules: &Rules, end: End, write: impl FnOnce(&mut Notes)) -> Verdict {
    let mut notes = Notes(Recorder::new(0, 8));
    write(&mut notes);
    check(&History::merge([notes.0], end).expect("well formed"), rules)
}

/// All of a standard queue, while loss is not asked about.
fn judge(write: impl FnOnce(&mut Notes)) -> Verdict {
    judge_with(&Rules::standard(), End::Unknown, write)
}

/// Two threads send one message each, to one group, at these times; what is received is up to `write`.
fn judge_sends(sends: [(u64, u64); 2], write: impl FnOnce(&mut Notes)) -> Verdict {
    let mut other = Recorder::new(1, 1);
    let mut notes = Notes(Recorder::new(0, 8));
    notes.send(sends[0].0, sends[0].1, in_group(sent(1)));
    other.send(sends[1].0, sends[1].1, in_group(sent(2)));
    write(&mut notes);
    let history = History::merge([notes.0, other], End::Unknown).expect("well formed");
    check(&history, &Rules::fifo(1_000))
}

fn judge_fifo(write: impl FnOnce(&mut Notes)) -> Verdict {
    judge_with(&Rules::fifo(1_000), End::Unknown, write)
}

#[track_caller]
fn acquitted(verdict: &Verdict) {
    assert!(verdict.is_acquitted(), "{verdict}");
}

/// This rule, and no other.
#[track_caller]
fn convicted(verdict: &Verdict, rule: Rule) {
    let rules: Vec<_> = verdict.findings().iter().map(|finding| finding.rule).collect();
    assert!(
        !rules.is_empty() && rules.iter().all(|&other| other == rule),
        "{verdict}"
    );
}

#[test]
fn leases_that_touch() {
    // The first lease begins at 10 or later and ends at 110 or later.
    for counts in [[1, 2], [0, 0]] {
        let second_returns_at = |back| {
            judge(|notes| {
                notes.send(0, 1, sent(1));
                notes.receive(10, 20, received(1, counts[0]));
                notes.receive(50, back, received(1, counts[1]));
            })
        };
        convicted(&second_returns_at(109), Rule::Exclusive);
        acquitted(&second_returns_at(110));
    }
}

#[test]
fn leases_of_receives_that_overlap() {
    let both = |counts: [u32; 2], second: u64| {
        judge(|notes| {
            notes.send(0, 1, sent(1));
            notes.receive(10, 110, received(1, counts[0]));
            let visibility = 60;
            notes.receive(
                50,
                second,
                Received {
                    visibility,
                    ..received(1, counts[1])
                },
            );
        })
    };
    // The second one may have been first: its lease ends at 110, when the other one returned.
    acquitted(&both([0, 0], 109));
    // But not by count.
    convicted(&both([1, 2], 109), Rule::Exclusive);
    acquitted(&both([2, 1], 109));
}

#[test]
fn a_tolerance_shortens_leases() {
    let rules = Rules::standard().tolerance(10);
    let second_returns_at = |back| {
        judge_with(&rules, End::Unknown, |notes| {
            notes.send(0, 1, sent(1));
            notes.receive(10, 20, received(1, 1));
            notes.receive(50, back, received(1, 2));
        })
    };
    convicted(&second_returns_at(99), Rule::Exclusive);
    acquitted(&second_returns_at(100));
}

#[test]
fn leases_that_were_changed() {
    let second_returns_at = |visibility, outcome, back| {
        judge(|notes| {
            notes.send(0, 1, sent(1));
            let lease = notes.receive(10, 20, received(1, 1));
            notes.0.change(30, 35, lease, visibility, outcome);
            notes.receive(36, back, received(1, 2));
        })
    };
    convicted(&second_returns_at(200, Outcome::Done, 229), Rule::Exclusive);
    acquitted(&second_returns_at(200, Outcome::Done, 230));
    acquitted(&second_returns_at(0, Outcome::Done, 36));
    // It may have been extended, or not.
    convicted(&second_returns_at(200, Outcome::Unknown, 109), Rule::Exclusive);
    acquitted(&second_returns_at(200, Outcome::Unknown, 110));
    acquitted(&second_returns_at(0, Outcome::Unknown, 36));
    convicted(&second_returns_at(0, Outcome::Refused, 109), Rule::Exclusive);
}

#[test]
fn counts_in_a_row() {
    let counts = |counts: &[u32]| {
        judge(|notes| {
            notes.send(0, 1, sent(1));
            for (at, &count) in (1..).zip(counts) {
                notes.receive(at * 1_000, at * 1_000 + 1, received(1, count));
            }
        })
    };
    acquitted(&counts(&[1, 2, 3]));
    convicted(&counts(&[2]), Rule::Counted);
    convicted(&counts(&[1, 3]), Rule::Counted);
    convicted(&counts(&[1, 1]), Rule::Counted);
    assert!(counts(&[2, 1]).count(Rule::Counted) > 0);
}

#[test]
fn a_receive_without_an_answer_may_have_counted() {
    let lost = |losses: u64, count| {
        judge(|notes| {
            notes.send(0, 1, sent(1));
            for at in 0..losses {
                notes.0.lost_receive(10 + at, 20 + at);
            }
            notes.receive(1_000, 1_001, received(1, count));
            // Too late for it.
            notes.0.lost_receive(1_002, 1_003);
        })
    };
    acquitted(&lost(1, 2));
    acquitted(&lost(2, 2));
    convicted(&lost(1, 3), Rule::Counted);
}

#[test]
fn counts_of_receives_that_overlap() {
    let visibility = 0;
    let begins_at = |invoke| {
        judge(|notes| {
            notes.send(0, 1, sent(1));
            notes.receive(
                10,
                20,
                Received {
                    visibility,
                    ..received(1, 2)
                },
            );
            notes.receive(
                invoke,
                30,
                Received {
                    visibility,
                    ..received(1, 1)
                },
            );
        })
    };
    acquitted(&begins_at(20));
    assert!(begins_at(21).count(Rule::Counted) > 0);
}

#[test]
fn received_after_its_delete() {
    for outcome in [Outcome::Done, Outcome::Gone] {
        let begins_at = |invoke| {
            judge(|notes| {
                notes.send(0, 1, sent(1));
                let lease = notes.receive(10, 20, received(1, 0));
                let other = notes.receive(
                    10,
                    20,
                    Received {
                        visibility: 0,
                        ..received(1, 0)
                    },
                );
                notes.0.delete(21, 30, other, outcome);
                notes.receive(invoke, 500, received(1, 0));
                // So that it may be gone.
                notes.0.delete(22, 30, lease, Outcome::Unknown);
            })
        };
        acquitted(&begins_at(30));
        convicted(&begins_at(31), Rule::Final);
    }
}

#[test]
fn deleted_by_a_handle_that_was_not_the_last() {
    let second = |invoke, back| {
        judge(|notes| {
            notes.send(0, 1, sent(1));
            let lease = notes.receive(10, 20, received(1, 1));
            notes.0.delete(200, 210, lease, Outcome::Done);
            notes.receive(invoke, back, received(1, 2));
        })
    };
    convicted(&second(150, 199), Rule::Stale);
    // While it was being received: before or after, it is wrong.
    convicted(&second(150, 205), Rule::Final);
    convicted(&second(211, 220), Rule::Final);
    let silent = judge(|notes| {
        notes.send(0, 1, sent(1));
        let lease = notes.receive(10, 20, received(1, 0));
        notes.0.delete(200, 210, lease, Outcome::Done);
        notes.receive(20, 220, received(1, 0));
    });
    acquitted(&silent);
}

#[test]
fn queues_whose_old_handles_act() {
    let write = |notes: &mut Notes| {
        notes.send(0, 1, sent(1));
        let lease = notes.receive(10, 20, received(1, 1));
        notes.receive(150, 160, received(1, 2));
        notes.0.delete(200, 210, lease, Outcome::Done);
    };
    convicted(&judge(write), Rule::Stale);
    let rules = Rules::standard();
    acquitted(&judge_with(&rules.clone().stale_handles_act(), End::Empty, write));
    // It says that it was done, and tells nothing by it.
    acquitted(&judge_with(&rules.deletes_not_told(), End::Unknown, write));
}

#[test]
fn deleted_twice() {
    let write = |notes: &mut Notes| {
        notes.send(0, 1, sent(1));
        let lease = notes.receive(10, 20, received(1, 1));
        notes.0.delete(30, 31, lease, Outcome::Done);
        notes.0.delete(32, 33, lease, Outcome::Done);
    };
    convicted(&judge(write), Rule::Final);
    acquitted(&judge_with(
        &Rules::standard().deletes_not_told(),
        End::Empty,
        write,
    ));
}

#[test]
fn handles_that_were_refused() {
    let refused = |outcome, back, others: u32| {
        judge(|notes| {
            notes.send(0, 1, sent(1));
            let lease = notes.receive(10, 20, received(1, 1));
            for count in 0..others {
                notes.receive(110, 115, received(1, 2 + count));
            }
            notes.0.delete(50, back, lease, outcome);
        })
    };
    convicted(&refused(Outcome::Expired, 109, 0), Rule::Honoured);
    acquitted(&refused(Outcome::Expired, 110, 0));
    convicted(&refused(Outcome::Superseded, 110, 0), Rule::Honoured);
    acquitted(&refused(Outcome::Superseded, 110, 1));
    // Received again only after the refusal.
    convicted(&refused(Outcome::Superseded, 109, 1), Rule::Honoured);
    convicted(&refused(Outcome::Gone, 300, 1), Rule::Honoured);
    acquitted(&refused(Outcome::Refused, 60, 0));
    acquitted(&refused(Outcome::Unknown, 60, 0));
}

#[test]
fn gone_because_somebody_deleted_it() {
    let deleted_at = |invoke| {
        judge(|notes| {
            notes.send(0, 1, sent(1));
            let old = notes.receive(10, 20, received(1, 1));
            let new = notes.receive(110, 120, received(1, 2));
            notes.0.delete(130, 140, old, Outcome::Gone);
            notes.0.delete(invoke, 200, new, Outcome::Done);
        })
    };
    acquitted(&deleted_at(140));
    convicted(&deleted_at(141), Rule::Honoured);
}

#[test]
fn delays() {
    let returns_at = |back, rules: &Rules| {
        judge_with(rules, End::Unknown, |notes| {
            notes.send(
                10,
                20,
                Sent {
                    delay: 100,
                    ..sent(1)
                },
            );
            notes.receive(30, back, received(1, 1));
        })
    };
    convicted(&returns_at(109, &Rules::standard()), Rule::Delayed);
    acquitted(&returns_at(110, &Rules::standard()));
    acquitted(&returns_at(109, &Rules::standard().tolerance(1)));
}

#[test]
fn what_was_never_sent() {
    let one = |received: Received, answer| {
        judge(|notes| {
            notes.send(20, 30, Sent { answer, ..sent(1) });
            notes.receive(10, 20, received);
        })
    };
    let accepted = Answer::Accepted(ID + 1);
    // Received before its send returned, but not before it began.
    acquitted(&one(received(1, 1), accepted));
    acquitted(&one(received(1, 1), Answer::Unknown));
    convicted(&one(received(1, 1), Answer::Refused), Rule::Authentic);
    convicted(&one(received(2, 1), accepted), Rule::Authentic);
    convicted(
        &one(
            Received {
                token: None,
                ..received(1, 1)
            },
            accepted,
        ),
        Rule::Authentic,
    );
    convicted(
        &one(
            Received {
                id: 7,
                ..received(1, 1)
            },
            accepted,
        ),
        Rule::Authentic,
    );
    convicted(
        &one(
            Received {
                group: Some(1),
                ..received(1, 1)
            },
            accepted,
        ),
        Rule::Authentic,
    );
    let early = judge(|notes| {
        notes.send(21, 30, sent(1));
        notes.receive(10, 20, received(1, 1));
    });
    convicted(&early, Rule::Authentic);
    let twins = judge(|notes| {
        notes.send(0, 1, sent(1));
        notes.send(
            2,
            3,
            Sent {
                answer: accepted,
                ..sent(2)
            },
        );
    });
    convicted(&twins, Rule::Authentic);
}

#[test]
fn what_is_left() {
    let ends = |end, outcome: Option<Outcome>| {
        judge_with(&Rules::standard(), end, |notes| {
            notes.send(0, 1, sent(1));
            let lease = notes.receive(10, 20, received(1, 1));
            if let Some(outcome) = outcome {
                notes.0.delete(30, 31, lease, outcome);
            }
        })
    };
    let (there, done, unknown) = (ID + 1, Some(Outcome::Done), Some(Outcome::Unknown));
    acquitted(&ends(End::Empty, done));
    acquitted(&ends(End::Empty, unknown));
    convicted(&ends(End::Empty, None), Rule::Kept);
    convicted(&ends(End::Empty, Some(Outcome::Refused)), Rule::Kept);
    acquitted(&ends(End::Unknown, None));
    acquitted(&ends(End::Holds(vec![there]), None));
    acquitted(&ends(End::Holds(vec![there]), unknown));
    convicted(&ends(End::Holds(vec![there]), done), Rule::Final);
    convicted(&ends(End::Holds(vec![there, 7]), None), Rule::Authentic);
    acquitted(&ends(End::HoldsSome(1), None));
    acquitted(&ends(End::HoldsSome(0), unknown));
    acquitted(&ends(End::HoldsSome(1), unknown));
    convicted(&ends(End::HoldsSome(0), None), Rule::Kept);
    convicted(&ends(End::HoldsSome(1), done), Rule::Final);
    convicted(&ends(End::HoldsSome(2), None), Rule::Final);
}

#[test]
fn what_may_have_lapsed() {
    let rules = Rules::standard().retention(100);
    let looked_at = |moment| {
        judge_with(&rules, End::Empty, |notes| {
            notes.send(10, 20, sent(1));
            notes.0.memory(moment, moment, 1, 1);
        })
    };
    convicted(&looked_at(109), Rule::Kept);
    acquitted(&looked_at(110));
}

#[test]
fn purges() {
    let purged = |from, until, outcome, receive: Option<u64>| {
        judge_with(&Rules::standard(), End::Empty, |notes| {
            notes.send(10, 20, sent(1));
            notes.0.purge(from, until, outcome);
            if let Some(invoke) = receive {
                let lease = notes.receive(invoke, invoke + 1, received(1, 1));
                notes.0.delete(invoke + 2, invoke + 3, lease, Outcome::Done);
            }
        })
    };
    // Lost with a purge, unless it was over before the send began.
    acquitted(&purged(5, 10, Outcome::Done, None));
    convicted(&purged(5, 9, Outcome::Done, None), Rule::Kept);
    acquitted(&purged(5, 9, Outcome::Unknown, None));
    convicted(&purged(30, 40, Outcome::Refused, None), Rule::Kept);
    // Received after it, unless it began before the send was over.
    convicted(&purged(21, 40, Outcome::Done, Some(41)), Rule::Final);
    acquitted(&purged(20, 40, Outcome::Done, Some(41)));
    acquitted(&purged(21, 40, Outcome::Done, Some(40)));
    acquitted(&purged(21, 40, Outcome::Unknown, Some(41)));
}

#[test]
fn dead_letters() {
    let lanes = |counts: [u32; 2], second: u64| {
        judge(|notes| {
            notes.send(0, 1, sent(1));
            notes.receive(
                10,
                20,
                Received {
                    lane: 1,
                    visibility: 0,
                    ..received(1, counts[0])
                },
            );
            notes.receive(
                second,
                30,
                Received {
                    visibility: 0,
                    ..received(1, counts[1])
                },
            );
        })
    };
    acquitted(&lanes([2, 1], 15));
    acquitted(&lanes([0, 0], 20));
    convicted(&lanes([0, 0], 21), Rule::Moved);
    convicted(&lanes([1, 2], 15), Rule::Moved);
}

#[test]
fn memory() {
    let used = |used| judge(|notes| notes.0.memory(1, 2, used, 100));
    acquitted(&used(100));
    convicted(&used(101), Rule::Bounded);
}

fn in_group(sent: Sent) -> Sent {
    Sent {
        group: Some(5),
        ..sent
    }
}

fn of_group(received: Received) -> Received {
    Received {
        group: Some(5),
        visibility: 10,
        ..received
    }
}

#[test]
fn overtaking() {
    let second_is_sent_at = |invoke| {
        judge_fifo(|notes| {
            notes.send(0, 10, in_group(sent(1)));
            notes.send(invoke, 20, in_group(sent(2)));
            notes.receive(30, 31, of_group(received(2, 1)));
            notes.receive(60, 61, of_group(received(1, 1)));
        })
    };
    convicted(&second_is_sent_at(11), Rule::Ordered);
    // Sent at the same time, either may be first.
    acquitted(&second_is_sent_at(10));
    let receives = |first: u64| {
        judge_fifo(|notes| {
            notes.send(0, 1, in_group(sent(1)));
            notes.send(2, 3, in_group(sent(2)));
            notes.receive(30, 40, of_group(received(2, 1)));
            notes.receive(first, 61, of_group(received(1, 1)));
        })
    };
    acquitted(&receives(40));
    convicted(&receives(41), Rule::Ordered);
}

#[test]
fn overtaking_of_what_came_back() {
    // 1 was received before 2, came back, and 2 was given out before it.
    let second = |with_first: bool| {
        judge_fifo(|notes| {
            notes.send(0, 1, in_group(sent(1)));
            notes.send(2, 3, in_group(sent(2)));
            notes.receive(10, 11, of_group(received(1, 1)));
            let call = notes.0.call();
            if with_first {
                notes.0.receive(
                    30,
                    31,
                    Received {
                        call,
                        ..of_group(received(1, 2))
                    },
                );
            }
            notes.0.receive(
                30,
                31,
                Received {
                    call,
                    place: 1,
                    ..of_group(received(2, 1))
                },
            );
            let count = if with_first { 3 } else { 2 };
            notes.receive(50, 51, of_group(received(1, count)));
        })
    };
    acquitted(&second(true));
    convicted(&second(false), Rule::Ordered);
}

#[test]
fn order_within_an_answer() {
    let places = |first, second, sent_at| {
        judge_fifo(|notes| {
            notes.send(0, 10, in_group(sent(1)));
            notes.send(sent_at, 20, in_group(sent(2)));
            let call = notes.0.call();
            notes.0.receive(
                30,
                31,
                Received {
                    call,
                    place: first,
                    ..of_group(received(1, 1))
                },
            );
            notes.0.receive(
                30,
                31,
                Received {
                    call,
                    place: second,
                    ..of_group(received(2, 1))
                },
            );
        })
    };
    acquitted(&places(0, 1, 11));
    convicted(&places(1, 0, 11), Rule::Ordered);
    acquitted(&places(1, 0, 10));
}

#[test]
fn behind_one_in_flight() {
    let second = |invoke, back| {
        judge_fifo(|notes| {
            notes.send(0, 1, in_group(sent(1)));
            notes.send(2, 3, in_group(sent(2)));
            let lease = notes.receive(
                10,
                20,
                Received {
                    visibility: 100,
                    ..of_group(received(1, 1))
                },
            );
            notes.receive(invoke, back, of_group(received(2, 1)));
            notes.0.delete(120, 121, lease, Outcome::Unknown);
        })
    };
    convicted(&second(21, 109), Rule::Blocked);
    acquitted(&second(21, 110));
    // It may have been received before.
    acquitted(&second(20, 109));
    // What stands before may be received.
    let first = judge_fifo(|notes| {
        notes.send(0, 1, in_group(sent(1)));
        notes.send(2, 3, in_group(sent(2)));
        let call = notes.0.call();
        notes.0.receive(
            10,
            11,
            Received {
                call,
                ..of_group(received(1, 1))
            },
        );
        notes.0.receive(
            10,
            11,
            Received {
                call,
                place: 1,
                visibility: 500,
                ..of_group(received(2, 1))
            },
        );
        notes.receive(30, 31, of_group(received(1, 2)));
    });
    acquitted(&first);
}

#[test]
fn sequence_numbers() {
    let numbers = |sequences: [u128; 3], second_is_sent_at| {
        judge_sends([(0, 10), (second_is_sent_at, 20)], |notes| {
            let [one, again, two] = sequences.map(Some);
            notes.receive(
                30,
                31,
                Received {
                    sequence: one,
                    ..of_group(received(1, 1))
                },
            );
            let lease = notes.receive(
                50,
                51,
                Received {
                    sequence: again,
                    ..of_group(received(1, 2))
                },
            );
            notes.0.delete(52, 53, lease, Outcome::Done);
            notes.receive(
                70,
                71,
                Received {
                    sequence: two,
                    ..of_group(received(2, 1))
                },
            );
        })
    };
    acquitted(&numbers([1, 1, 2], 11));
    convicted(&numbers([1, 3, 2], 11), Rule::Sequenced);
    convicted(&numbers([2, 2, 2], 11), Rule::Sequenced);
    convicted(&numbers([2, 2, 1], 11), Rule::Sequenced);
    // Sends that overlap may have any; but then they are received in that order.
    convicted(&numbers([2, 2, 1], 10), Rule::Ordered);
    // Those of one thread do not overlap, whatever its clock says.
    let batch = |first: u128, second: u128| {
        judge_fifo(|notes| {
            notes.send(0, 10, in_group(sent(1)));
            notes.send(0, 10, in_group(sent(2)));
            let call = notes.0.call();
            let place = |place, sequence: u128| Received {
                sequence: Some(sequence),
                call,
                place,
                ..of_group(received(u64::from(place) + 1, 1))
            };
            notes.0.receive(30, 31, place(0, first));
            notes.0.receive(30, 31, place(1, second));
        })
    };
    acquitted(&batch(1, 2));
    convicted(&batch(2, 1), Rule::Sequenced);
    // They tell the order of sends that overlap.
    let order = |numbers: [u128; 2]| {
        judge_sends([(0, 10), (10, 20)], |notes| {
            let [one, two] = numbers.map(Some);
            notes.receive(
                30,
                31,
                Received {
                    sequence: two,
                    ..of_group(received(2, 1))
                },
            );
            notes.receive(
                60,
                61,
                Received {
                    sequence: one,
                    ..of_group(received(1, 1))
                },
            );
        })
    };
    convicted(&order([1, 2]), Rule::Ordered);
    acquitted(&order([2, 1]));
}

fn with_key(sent: Sent) -> Sent {
    Sent {
        deduplication: Some(9),
        ..in_group(sent)
    }
}

#[test]
fn duplicates() {
    // The window is 1,000.
    let second = |invoke, back, id| {
        judge_fifo(|notes| {
            notes.send(10, 20, with_key(sent(1)));
            notes.send(
                invoke,
                back,
                Sent {
                    answer: Answer::Accepted(ID + id),
                    ..with_key(sent(2))
                },
            );
        })
    };
    convicted(&second(500, 1_009, 2), Rule::Deduplicated);
    acquitted(&second(500, 1_010, 2));
    acquitted(&second(1_020, 1_030, 1));
    convicted(&second(1_021, 1_030, 1), Rule::Forgotten);
    acquitted(&second(12, 1_009, 1));
    let groups = |rules: &Rules, id| {
        judge_with(rules, End::Unknown, |notes| {
            notes.send(10, 20, with_key(sent(1)));
            let answer = Answer::Accepted(ID + id);
            notes.send(
                30,
                40,
                Sent {
                    answer,
                    group: Some(6),
                    ..with_key(sent(2))
                },
            );
        })
    };
    convicted(&groups(&Rules::fifo(1_000), 2), Rule::Deduplicated);
    acquitted(&groups(&Rules::fifo(1_000), 1));
    acquitted(&groups(&Rules::fifo(1_000).deduplicated_per_group(), 2));
    convicted(
        &groups(&Rules::fifo(1_000).deduplicated_per_group(), 1),
        Rule::Authentic,
    );
}

#[test]
fn duplicates_of_what_got_no_answer() {
    // The send at 0 may be what the second one was a duplicate of; then the third one is new.
    let first = |answer| {
        judge_fifo(|notes| {
            notes.send(
                0,
                1,
                Sent {
                    answer,
                    ..with_key(sent(1))
                },
            );
            notes.send(500, 501, with_key(sent(2)));
            notes.send(1_002, 1_003, with_key(sent(3)));
        })
    };
    acquitted(&first(Answer::Unknown));
    convicted(&first(Answer::Refused), Rule::Deduplicated);
}

#[test]
fn a_purge_forgets_duplicates() {
    let purged = |from, until| {
        judge_fifo(|notes| {
            notes.send(10, 20, with_key(sent(1)));
            notes.0.purge(from, until, Outcome::Done);
            notes.send(40, 50, with_key(sent(2)));
        })
    };
    acquitted(&purged(25, 30));
    convicted(&purged(0, 9), Rule::Deduplicated);
    convicted(&purged(51, 60), Rule::Deduplicated);
}

#[test]
fn notes_that_make_no_history() {
    let merge = |write: &dyn Fn(&mut Notes)| {
        let mut notes = Notes(Recorder::new(0, 8));
        write(&mut notes);
        History::merge([notes.0, Recorder::new(1, 0)], End::Unknown).map(|history| history.events().len())
    };
    assert_eq!(merge(&|notes| notes.send(1, 1, sent(1))), Ok(1));
    let backwards = MergeError::Backwards { worker: 0, at: 0 };
    assert_eq!(merge(&|notes| notes.send(2, 1, sent(1))), Err(backwards));
    let twice = merge(&|notes| {
        notes.send(1, 1, sent(1));
        notes.send(2, 2, sent(1));
    });
    assert_eq!(twice, Err(MergeError::TokenTwice { token: 1 }));
    let late = merge(&|notes| {
        let lease = notes.receive(5, 6, received(1, 1));
        notes.0.delete(5, 7, lease, Outcome::Done);
    });
    assert!(matches!(late, Err(MergeError::NoSuchLease { .. })), "{late:?}");
    let foreign = Recorder::new(9, 0).receive(0, 0, received(1, 1));
    let unknown = merge(&|notes| notes.0.delete(5, 7, foreign, Outcome::Done));
    assert_eq!(unknown, Err(MergeError::NoSuchLease { lease: foreign }));
    let workers = History::merge([Recorder::new(3, 0), Recorder::new(3, 0)], End::Unknown);
    assert_eq!(workers.map(|_| ()), Err(MergeError::WorkerTwice { worker: 3 }));
}
