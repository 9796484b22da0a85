//! A history, sorted by what it is about.

use foldhash::{HashMap, HashMapExt as _};

use crate::{
    event::{Action, Answer, Event, Outcome, Received, Sent},
    history::History,
    rules::Rules,
};

/// An operation by a handle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Use {
    /// Of its event.
    pub(super) at: usize,
    pub(super) worker: u16,
    pub(super) invoke: u64,
    pub(super) back: u64,
    pub(super) outcome: Outcome,
    /// Of a change; `None` of a delete.
    pub(super) visibility: Option<u64>,
}

/// One receive of a message, and what was done with its handle.
#[derive(Debug, Clone)]
pub(super) struct Claim<'h> {
    pub(super) at: usize,
    pub(super) worker: u16,
    pub(super) invoke: u64,
    pub(super) back: u64,
    pub(super) receive: &'h Received,
    /// The lease certainly did not end before.
    pub(super) end: u64,
    /// In the order of their beginning.
    pub(super) uses: Vec<Use>,
}

/// All that is known of one id.
#[derive(Debug, Default)]
pub(super) struct Message<'h> {
    /// The sends that were told it.
    pub(super) sends: Vec<usize>,
    /// The send whose body it has, as far as can be told.
    pub(super) original: Option<usize>,
    pub(super) claims: Vec<Claim<'h>>,
}

pub(super) struct Index<'h> {
    history: &'h History,
    pub(super) events: &'h [Event],
    pub(super) messages: HashMap<u128, Message<'h>>,
    /// The send of each token.
    pub(super) tokens: HashMap<u64, usize>,
    /// Those done and those that may have been: begin and return, the latter never if it got no answer.
    pub(super) purges: Vec<Purge>,
    /// Receives without an answer, when they began; sorted.
    pub(super) lost_receives: Vec<u64>,
    /// The last reading of the clock.
    pub(super) last: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Purge {
    pub(super) at: usize,
    pub(super) invoke: u64,
    pub(super) back: u64,
    pub(super) is_certain: bool,
}

impl<'h> Index<'h> {
    pub(super) fn new(history: &'h History, rules: &Rules) -> Self {
        let events = &history.events[..];
        let mut index = Self {
            history,
            events,
            messages: HashMap::new(),
            tokens: HashMap::new(),
            purges: Vec::new(),
            lost_receives: Vec::new(),
            last: events.iter().map(|event| event.back).max().unwrap_or(0),
        };
        // With the receives that their handles are of.
        let mut uses: Vec<(usize, Use)> = Vec::new();
        for (at, event) in events.iter().enumerate() {
            let &Event { invoke, back, .. } = event;
            match &event.action {
                Action::Send(send) => {
                    index.tokens.insert(send.token, at);
                    if let Answer::Accepted(id) = send.answer {
                        index.messages.entry(id).or_default().sends.push(at);
                    }
                }
                Action::LostReceive => index.lost_receives.push(invoke),
                &Action::Delete { lease, outcome } => {
                    if let Some(receive) = history.find(lease) {
                        uses.push((
                            receive,
                            Use {
                                at,
                                worker: history.name(at).worker,
                                invoke,
                                back,
                                outcome,
                                visibility: None,
                            },
                        ));
                    }
                }
                &Action::Change {
                    lease,
                    visibility,
                    outcome,
                } => {
                    if let Some(receive) = history.find(lease) {
                        uses.push((
                            receive,
                            Use {
                                at,
                                worker: history.name(at).worker,
                                invoke,
                                back,
                                outcome,
                                visibility: Some(visibility),
                            },
                        ));
                    }
                }
                Action::Purge { outcome } => match outcome {
                    Outcome::Done | Outcome::Unknown => index.purges.push(Purge {
                        at,
                        invoke,
                        back: if *outcome == Outcome::Done { back } else { u64::MAX },
                        is_certain: *outcome == Outcome::Done,
                    }),
                    _ => {}
                },
                Action::Receive(_) | Action::Memory { .. } => {}
            }
        }
        index.lost_receives.sort_unstable();
        uses.sort_unstable_by_key(|(receive, one)| (*receive, one.invoke, one.back, one.at));
        let mut all_uses = &uses[..];
        for (at, event) in events.iter().enumerate() {
            let Action::Receive(receive) = &event.action else {
                continue;
            };
            let mine = all_uses.iter().take_while(|(receive, _)| *receive == at).count();
            let uses: Vec<_> = all_uses[..mine].iter().map(|(_, one)| *one).collect();
            all_uses = &all_uses[mine..];
            let mut claim = Claim {
                at,
                worker: history.name(at).worker,
                invoke: event.invoke,
                back: event.back,
                receive,
                end: end_of_lease(event.invoke.saturating_add(receive.visibility), &uses),
                uses,
            };
            if receive.lane == 0 {
                // Whoever purges ends leases too.
                for purge in &index.purges {
                    if purge.back >= claim.invoke {
                        claim.end = claim.end.min(purge.invoke);
                    }
                }
            }
            claim.end = claim.end.saturating_sub(rules.tolerance);
            let message = index.messages.entry(receive.id).or_default();
            if message.original.is_none() {
                message.original = receive.token.and_then(|token| index.tokens.get(&token).copied());
            }
            message.claims.push(claim);
        }
        for message in index.messages.values_mut() {
            message.sends.sort_by_key(|&at| events[at].back);
        }
        index
    }

    /// The send of a message, if that was answered: then it was accepted before the thread's next one.
    pub(super) fn original_of(&self, message: &Message<'_>) -> Option<usize> {
        let at = message.original?;
        matches!(self.send(at)?.answer, Answer::Accepted(_)).then_some(at)
    }

    /// Whose event it is.
    pub(super) fn worker(&self, at: usize) -> u16 {
        self.history.name(at).worker
    }

    pub(super) fn send(&self, at: usize) -> Option<&'h Sent> {
        match &self.events[at].action {
            Action::Send(send) => Some(send),
            _ => None,
        }
    }

    /// Between which moments a message was accepted: after its own send began, and before any of its sends returned.
    pub(super) fn sent(&self, message: &Message<'_>) -> Option<(u64, u64)> {
        let begins = message.sends.iter().map(|&at| self.events[at].invoke);
        let begin = match message.original {
            Some(at) => self.events[at].invoke,
            None => begins.min()?,
        };
        // By their return, see `new`.
        let back = message.sends.first().map_or(u64::MAX, |&at| self.events[at].back);
        Some((begin, back))
    }

    /// Whether there was a purge that may have taken a message sent from `invoke` on and not after `until`.
    pub(super) fn may_be_purged(&self, invoke: u64, until: u64) -> bool {
        self.purges
            .iter()
            .any(|purge| purge.back >= invoke && purge.invoke <= until)
    }
}

impl Use {
    /// Whether this was over when the other one began. One thread does one thing at a time, also if its clock stands still.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        self.back < other.invoke
            || self.back == other.invoke && self.worker == other.worker && self.at < other.at
    }
}

/// Before when a lease did certainly not end, that would end at `end` or later if nobody used its handle.
pub(super) fn end_of_lease(mut end: u64, uses: &[Use]) -> u64 {
    // What may come late: deletes and changes without an answer.
    let mut cap = u64::MAX;
    // The change that came back last.
    let mut last: Option<&Use> = None;
    for one in uses {
        let until = match (one.outcome, one.visibility) {
            (Outcome::Done | Outcome::Gone, None) => {
                // It may have ended with this; whatever else is said of it comes too late.
                end = end.min(one.invoke);
                cap = cap.min(one.invoke);
                continue;
            }
            (Outcome::Gone, Some(_)) => continue,
            (Outcome::Unknown, visibility) => {
                cap = cap.min(one.invoke.saturating_add(visibility.unwrap_or(0)));
                continue;
            }
            (Outcome::Done, Some(visibility)) => one.invoke.saturating_add(visibility),
            (Outcome::Superseded | Outcome::Expired | Outcome::Refused, _) => continue,
        };
        // Of two changes at a time either may be the last.
        end = match last {
            Some(last) if !last.is_before(one) => end.min(until),
            _ => until,
        };
        if last.is_none_or(|last| last.back <= one.back) {
            last = Some(one);
        }
    }
    end.min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(invoke: u64, back: u64, visibility: u64, outcome: Outcome) -> Use {
        Use {
            at: 0,
            worker: 0,
            invoke,
            back,
            outcome,
            visibility: Some(visibility),
        }
    }

    fn delete(invoke: u64, outcome: Outcome) -> Use {
        Use {
            visibility: None,
            ..change(invoke, invoke + 1, 0, outcome)
        }
    }

    #[test]
    fn leases_end_where_their_last_change_says() {
        use Outcome::{Done, Expired, Refused};
        assert_eq!(end_of_lease(100, &[]), 100);
        assert_eq!(end_of_lease(100, &[change(10, 20, 200, Done)]), 210);
        assert_eq!(end_of_lease(100, &[change(10, 20, 0, Done)]), 10);
        assert_eq!(
            end_of_lease(100, &[change(10, 20, 200, Done), change(30, 40, 20, Done)]),
            50
        );
        // Either of them may have been the last.
        assert_eq!(
            end_of_lease(100, &[change(10, 30, 20, Done), change(30, 40, 200, Done)]),
            30
        );
        assert_eq!(end_of_lease(100, &[change(10, 20, 200, Refused)]), 100);
        assert_eq!(end_of_lease(100, &[change(10, 20, 200, Expired)]), 100);
    }

    #[test]
    fn what_got_no_answer_may_come_late() {
        use Outcome::{Done, Unknown};
        assert_eq!(end_of_lease(100, &[change(10, 20, 0, Unknown)]), 10);
        assert_eq!(end_of_lease(100, &[change(10, 20, 200, Unknown)]), 100);
        let late = [change(10, 20, 50, Unknown), change(30, 40, 200, Done)];
        assert_eq!(end_of_lease(100, &late), 60);
        assert_eq!(end_of_lease(100, &[delete(40, Unknown)]), 40);
        assert_eq!(end_of_lease(100, &[delete(40, Done)]), 40);
        assert_eq!(end_of_lease(100, &[delete(40, Outcome::Superseded)]), 100);
    }
}
