//! What the harness itself costs: the same life cycles over a target that does next to nothing.
//!
//! [`Null`] keeps up to sixteen bodies in a thread's own ring. The harness's cost is the time of a checked life cycle over it less
//! that of the bare calls ([`harness_ns`]). No figure in a report has it taken off. Over a real target the processor overlaps
//! part of it with waiting, so the true share is rather smaller.
//!
//! It is the figure of one thread in a closed loop. Not in it is what threads cost each other (counters that the others of
//! `pipeline`, `steal` and `--share` read now and then, see [`Looks`](crate::shared), and bitmaps for many senders, which the
//! caches no longer hold), and not what an open loop adds (drawing arrivals, stamping them, and a clock reading for each sample).

use std::{
    hint::black_box,
    sync::OnceLock,
    time::{Duration, Instant},
};

use quanta::Clock;

use crate::{
    plan::Plan,
    progress::Quiet,
    run,
    scenario::Scenario,
    target::{
        Calls, Counts, Delivery, Done, Handles, Inspect, Refusal, Session, Target, TargetConfig, drop_all,
    },
    topology::Topology,
};

/// A target that does next to nothing, for one thread.
#[derive(Debug)]
pub struct Null;

/// A ring of bodies.
#[derive(Debug, Default)]
pub struct NullSession {
    bodies: [Vec<u8>; Self::CAPACITY],
    sent: usize,
    received: usize,
}

impl NullSession {
    const CAPACITY: usize = 16;
}

impl Target for Null {
    const NAME: &'static str = "null";
    const LEASES: bool = false;
    type Session<'t> = NullSession;

    fn build(_: &TargetConfig) -> anyhow::Result<Self> {
        Ok(Self)
    }

    fn session(&self, _: usize) -> anyhow::Result<NullSession> {
        Ok(NullSession::default())
    }

    fn counts(&self) -> Counts {
        Counts::default()
    }
}

struct Seen<'b>(&'b [u8]);

impl Delivery for Seen<'_> {
    fn body(&self) -> &[u8] {
        self.0
    }
    fn receives(&self) -> u32 {
        1
    }
}

impl Calls for NullSession {
    type Handle = ();

    #[inline(always)]
    fn send(&mut self, body: &[u8]) -> Result<(), Refusal> {
        if self.sent - self.received == Self::CAPACITY {
            return Err(Refusal("full"));
        }
        let place = &mut self.bodies[self.sent % Self::CAPACITY];
        place.clear();
        place.extend_from_slice(body);
        self.sent += 1;
        Ok(())
    }

    #[inline(always)]
    fn receive<I: Inspect>(
        &mut self,
        max: usize,
        _: Duration,
        handles: &mut Handles<()>,
        inspector: &mut I,
    ) -> Result<usize, Refusal> {
        let n = max.min(self.sent - self.received);
        for _ in 0..n {
            let body = &self.bodies[self.received % Self::CAPACITY];
            if inspector.inspect(&Seen(body)) {
                handles.push(());
            }
            self.received += 1;
        }
        Ok(n)
    }

    #[inline(always)]
    fn delete(&mut self, (): ()) -> bool {
        true
    }

    #[inline(always)]
    fn delete_batch(&mut self, handles: &mut Handles<()>) -> Done {
        drop_all(handles)
    }
}

impl Session for NullSession {
    type Turn<'s> = &'s mut Self;

    #[inline(always)]
    fn turn(&mut self) -> &mut Self {
        self
    }
}

/// Nanoseconds per message that the harness takes for `plan`'s bodies and batches: making, checking and accounting, by one thread in a
/// closed loop of life cycles whatever the plan's threads do. Each part is the best of three short runs.
pub fn harness_ns(plan: &Plan) -> anyhow::Result<f64> {
    let plan = Plan {
        scenario: Scenario::Lifecycle,
        topology: Topology::Alike { threads: 1 },
        duration: Duration::from_millis(40),
        warm_up: Duration::from_millis(10),
        backlog: 0,
        in_flight: 0,
        rate: None,
        share: None,
        queues: 1,
        visibility: Duration::from_secs(3600),
        ..plan.clone()
    };
    let mut checked_ns = f64::INFINITY;
    let mut bare_ns = f64::INFINITY;
    for _ in 0..3 {
        let pass = run::pass::<Null>(&plan, &Quiet)?;
        anyhow::ensure!(
            pass.verified(),
            "the harness convicts itself: {:?}",
            pass.settlement.findings.lines()
        );
        checked_ns = checked_ns.min(1e9 / pass.messages_per_second());
        bare_ns = bare_ns.min(bare_calls_ns(&plan));
    }
    Ok((checked_ns - bare_ns).max(0.0))
}

/// Nanoseconds per message of the calls alone, over [`Null`].
fn bare_calls_ns(plan: &Plan) -> f64 {
    let mut session = NullSession::default();
    let mut handles = Handles::new();
    let bodies = vec![vec![7; plan.body_bytes]; plan.batch];
    let mut cycles = 0_u64;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(20) {
        for _ in 0..256 {
            if let [body] = bodies.as_slice() {
                let _ = black_box(session.send(black_box(body)));
            } else {
                black_box(session.send_batch(black_box(&bodies)));
            }
            let _ = black_box(session.receive(plan.batch, plan.visibility, &mut handles, &mut Glance));
            if let Some(()) = handles.pop() {
                black_box(session.delete(()));
                black_box(session.delete_batch(&mut handles));
            }
        }
        cycles += 256;
    }
    begin.elapsed().as_nanos() as f64 / (cycles * plan.batch as u64) as f64
}

/// Looks at nothing but that there is a body.
struct Glance;

impl Inspect for Glance {
    #[inline(always)]
    fn inspect<D: Delivery>(&mut self, delivery: &D) -> bool {
        black_box(delivery.body());
        true
    }
}

/// What two readings of the clock, one right after the other, differ by; taken off timed life cycles.
pub fn clock_cost_ns() -> u64 {
    static COST: OnceLock<u64> = OnceLock::new();
    *COST.get_or_init(|| {
        let clock = Clock::new();
        let pair = |_| clock.delta_as_nanos(clock.raw(), clock.raw());
        let mut pairs: Vec<u64> = (0..10_000).map(pair).collect();
        let (_, median, _) = pairs.select_nth_unstable(5_000);
        *median
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Wishes;

    #[test]
    fn the_harness_is_measured_and_acquits_itself() {
        for (batch, turn, body) in [(1, None, 64), (1, Some(64), 64), (10, None, 1), (7, None, 100)] {
            let wishes = Wishes {
                batch: Some(batch),
                turn,
                body_bytes: Some(body),
                ..Wishes::default()
            };
            let plan = Plan::new(Scenario::Lifecycle, wishes).unwrap();
            let ns = harness_ns(&plan).unwrap();
            assert!((0.0..100_000.0).contains(&ns), "{ns} ns per message");
        }
        assert!(clock_cost_ns() < 100_000);
    }
}
