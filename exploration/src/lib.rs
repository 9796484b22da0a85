//! Explorations of the whole broker under [shuttle](https://docs.rs/shuttle): one seed says what four workers do and how their
//! steps interleave, so that what went wrong once goes wrong again.
//!
//! ```text
//!   seed ─┬─▶ Schedule: who goes on at each atomic step    random │ PCT │ with workers held up for a while or for good
//!         └─▶ Episode: the queues, and some hundred operations of each worker; clock jumps, allocations that fail, …
//!                          │
//!                          ▼
//!         the broker as it ships, with segments of four slots      ──▶ Books, Groups, and what is left in the end
//! ```
//!
//! Everything here exists with `--cfg shuttle` only.
#![cfg(shuttle)]

mod episode;
mod random;
mod schedule;
mod stage;
mod waits;

use std::{
    any::Any,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use epoq::fault;
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use crate::{random::Random, schedule::Interleaving};

/// Stack of each worker in bytes.
const STACK: usize = 512 * 1024;
/// Steps after which an episode hangs: many times what one takes.
const STEPS_MAX: usize = 20_000_000;

/// What the exploration of a seed came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Explored {
    /// Schedules: the same episode may be gone through several times, each time otherwise.
    pub schedules: usize,
    /// Atomic steps.
    pub steps: usize,
    /// Operations of its workers.
    pub operations: usize,
}

/// Goes through the episode of a seed, some times.
///
/// # Errors
/// What went wrong.
pub fn explore(seed: u64) -> Result<Explored, String> {
    let mut config = Config::new();
    config.stack_size = STACK;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.failure_persistence = FailurePersistence::None;
    config.silence_warnings = true;
    config.ungraceful_shutdown_config.immediately_return_on_panic = true;
    let explored = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let counts = Arc::clone(&explored);
    let run = AssertUnwindSafe(move || {
        let runner = Runner::new(Interleaving::of(seed), config);
        runner.run(move || {
            let mut random = Random::of(seed);
            let operations = if random.once_in(4) {
                waits::play(&mut random)
            } else {
                episode::play(&mut random)
            };
            counts[0].fetch_add(shuttle::current::context_switches(), Relaxed);
            counts[1].fetch_add(operations, Relaxed);
        })
    });
    let result = panic::catch_unwind(run);
    fault::fail_allocations(0, 0);
    match result {
        Ok(schedules) => Ok(Explored {
            schedules,
            steps: explored[0].load(Relaxed),
            operations: explored[1].load(Relaxed),
        }),
        Err(panic) => Err(text_of(&*panic)),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic")
        .to_owned()
}
