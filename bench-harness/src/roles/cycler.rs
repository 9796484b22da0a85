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
    match (hand.plan.rate, hand.plan.turn) {
        (Some(_), _) => on_schedule::<ONE, S>(hand, session),
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
    let mut looks = hand.looks();
    let mut all_received = 0;
    let mut is_idle = false;
    while hand.goes_on() {
        if looks.is_due() || is_idle {
            all_received = hand.shared.sum(|seat| &seat.received);
        }
        // So much may be outstanding that nobody waits for a thread that is off its core for a moment.
        let allowed = (share * (all_received + Plan::OUTSTANDING) as f64) as u64;
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
        is_idle = !received && sends == 0;
        if is_idle {
            hand.idle();
        }
    }
}

/// A life cycle whenever the schedule says so, however long the last one took. What counts is how long each message took that was
/// received, whoever sent it and in whichever cycle.
fn on_schedule<const ONE: bool, S: Session>(hand: &mut Hand<'_, S::Handle>, session: &mut S) {
    /// So seldom that those who wait do not stand in the way of those who work.
    const WAITS_TO_A_LOOK: u32 = 64;
    let mut waits = 0;
    hand.begin_schedule();
    while hand.goes_on() {
        if let Some(intended_ns) = hand.arrival() {
            hand.stamp(intended_ns);
            hand.cycle_untimed::<ONE, true, _>(session);
            waits = 0;
        } else {
            waits += 1;
            if waits % WAITS_TO_A_LOOK == 0 {
                hand.look_for_left_over(session);
            }
            hand.wait_a_little();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::{Mutex, MutexGuard},
        time::{Duration, Instant},
    };

    use crate::{
        latency::Measures,
        plan::{Plan, Wishes},
        progress::Quiet,
        run::{self, Pass},
        scenario::Scenario,
        target::{
            BATCH_MAX, Calls, Counts, Delivery, Done, Handles, Inspect, Refusal, Session, Target,
            TargetConfig, drop_all,
        },
        targets::TargetName,
    };

    /// Gives a message out only so long after it was sent, or with 0 only when there is a later one, so that each waits for the next
    /// arrival; all at the end.
    struct Laggard<const MS: u64>(Mutex<VecDeque<(Instant, Vec<u8>)>>);

    struct LaggardSession<'t, const MS: u64>(&'t Laggard<MS>);

    struct Body(Vec<u8>);

    impl Delivery for Body {
        fn body(&self) -> &[u8] {
            &self.0
        }
        fn receives(&self) -> u32 {
            1
        }
    }

    impl<const MS: u64> Target for Laggard<MS> {
        const NAME: &'static str = "laggard";
        const LEASES: bool = false;
        type Session<'t> = LaggardSession<'t, MS>;

        fn build(_: &TargetConfig) -> anyhow::Result<Self> {
            Ok(Self(Mutex::default()))
        }
        fn session(&self, _: usize) -> anyhow::Result<LaggardSession<'_, MS>> {
            Ok(LaggardSession(self))
        }
        fn counts(&self) -> Counts {
            Counts::default()
        }
    }

    impl<const MS: u64> LaggardSession<'_, MS> {
        fn queue(&self) -> MutexGuard<'_, VecDeque<(Instant, Vec<u8>)>> {
            self.0.0.lock().unwrap()
        }
    }

    impl<const MS: u64> Calls for LaggardSession<'_, MS> {
        type Handle = ();

        fn send(&mut self, body: &[u8]) -> Result<(), Refusal> {
            self.queue().push_back((Instant::now(), body.to_vec()));
            Ok(())
        }
        fn receive<I: Inspect>(
            &mut self,
            max: usize,
            _: Duration,
            handles: &mut Handles<()>,
            inspector: &mut I,
        ) -> Result<usize, Refusal> {
            let mut queue = self.queue();
            let ready = match MS {
                _ if max == BATCH_MAX => queue.len(),
                0 => queue.len().saturating_sub(1),
                ms => {
                    let is_ready = |sent: &Instant| sent.elapsed() >= Duration::from_millis(ms);
                    queue.iter().take_while(|(sent, _)| is_ready(sent)).count()
                }
            };
            let count = max.min(ready);
            for (_, body) in queue.drain(..count) {
                if inspector.inspect(&Body(body)) {
                    handles.push(());
                }
            }
            Ok(count)
        }
        fn delete(&mut self, (): ()) -> bool {
            true
        }
        fn delete_batch(&mut self, handles: &mut Handles<()>) -> Done {
            drop_all(handles)
        }
    }

    impl<const MS: u64> Session for LaggardSession<'_, MS> {
        type Turn<'s>
            = &'s mut Self
        where
            Self: 's;

        fn turn(&mut self) -> &mut Self {
            self
        }
    }

    fn open_loop(rate: f64) -> Plan {
        let wishes = Wishes {
            threads: Some(1),
            seconds: Some(0.2),
            rate: Some(rate),
            ..Wishes::default()
        };
        Plan::new(Scenario::Lifecycle, wishes).unwrap()
    }

    #[test]
    fn the_latency_of_an_open_loop_is_each_messages_own() {
        let is_each_messages_own = || {
            let pass = run::pass::<Laggard<0>>(&open_loop(1000.0), &Quiet).unwrap();
            assert!(pass.verified(), "{:?}", pass.settlement.findings.lines());
            assert_eq!(pass.measures, Measures::IntendedToDeleted);
            // Half of the gaps between arrivals are longer than 0.69 ms; the cycles themselves take microseconds.
            let p50 = pass.latency.quantile_ns(0.5).unwrap();
            assert!(p50 > 200_000, "{p50} ns");
            // Each message once, the warm-up's left out: none for cycles that received nothing. And those that were due at the end.
            let samples = pass.latency.samples();
            let pending = (pass.due.unwrap() - pass.messages as f64).max(0.0) as u64;
            let most = pass.messages + pass.drained + pending + 2;
            (pass.messages..=most).contains(&samples)
        };
        // A thread that is off its core when the window begins or ends counts others than it was due; not each time.
        assert!((0..20).any(|_| is_each_messages_own()));
    }

    #[test]
    fn what_is_left_over_does_not_wait_for_the_next_arrival() {
        let p50_ns = || {
            let pass = run::pass::<Laggard<1>>(&open_loop(50.0), &Quiet).unwrap();
            assert!(pass.verified(), "{:?}", pass.settlement.findings.lines());
            pass.latency.quantile_ns(0.5)
        };
        // Arrivals are 20 ms apart; a thread may be off its core for as long, but not each time.
        assert!((0..20).any(|_| p50_ns().is_some_and(|ns| (1_000_000..8_000_000).contains(&ns))));
    }

    #[test]
    fn a_schedule_is_kept_or_it_is_said() {
        let pass = |rate| -> Pass { TargetName::Locked.pass(&open_loop(rate), &Quiet).unwrap() };
        // A thread that is off its core at the end is late; not each time.
        let is_kept = |pass: Pass| {
            let late = pass.due.unwrap() - pass.messages as f64;
            pass.kept_schedule == Some(true) && late.abs() < 4.0
        };
        assert!((0..40).any(|_| is_kept(pass(200.0))));
        let fast = pass(1e9);
        assert_eq!(fast.kept_schedule, Some(false));
        assert!(fast.due.unwrap() > 1.5 * fast.messages as f64);
        // Late from the first arrival on; and what was never sent counts as well.
        assert!(fast.latency.quantile_ns(0.5) > Some(10_000_000));
        let (sampled, counted) = (open_loop(1e9).sample_mask() + 1, fast.latency.samples());
        assert!(
            counted * sampled > fast.messages * 3 / 2,
            "{counted} samples of one in {sampled}"
        );
    }
}
