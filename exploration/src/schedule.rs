//! Who goes on at each step: shuttle's own random and PCT schedulers, and one that lets a worker go on for a while and holds
//! some up, for a while or until nobody else can go on.

use shuttle::scheduler::{PctScheduler, RandomScheduler, Schedule, Scheduler, Task, TaskId};

use crate::random::Random;

/// Schedules of one seed's episode, where PCT makes them.
const PCT: usize = 4;

/// How the steps of one seed's episode interleave.
pub(crate) struct Interleaving {
    scheduler: Box<dyn Scheduler>,
}

impl Interleaving {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::of(!seed);
        let scheduler: Box<dyn Scheduler> = match random.below(8) {
            0 => Box::new(RandomScheduler::new_from_seed(seed, 1)),
            // The first one goes in turn, and tells how many steps there are.
            1 | 2 => Box::new(PctScheduler::new_from_seed(seed, 2 + random.below(4), PCT)),
            _ => Box::new(Stalls::new(random)),
        };
        Self { scheduler }
    }
}

impl Scheduler for Interleaving {
    fn new_execution(&mut self) -> Option<Schedule> {
        self.scheduler.new_execution()
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        self.scheduler.next_task(runnable, current, is_yielding)
    }

    fn next_u64(&mut self) -> u64 {
        self.scheduler.next_u64()
    }
}

/// A worker goes on for some steps, then another one does; now and then one is held up where it is.
struct Stalls {
    random: Random,
    has_begun: bool,
    /// One step in so many is followed by another worker's.
    switch: usize,
    /// One switch in so many holds the worker up.
    stall: usize,
    /// For how many steps at most.
    length: usize,
    steps: usize,
    /// Who is held up, and until which step.
    held_up: Vec<(TaskId, usize)>,
}

impl Stalls {
    fn new(mut random: Random) -> Self {
        Self {
            has_begun: false,
            switch: random.of_these([2, 4, 8, 16, 32, 64]),
            stall: random.of_these([4, 16, 64, 256]),
            length: random.of_these([50, 500, 5_000, 1_000_000]),
            steps: 0,
            held_up: Vec::new(),
            random,
        }
    }
}

impl Scheduler for Stalls {
    fn new_execution(&mut self) -> Option<Schedule> {
        (!std::mem::replace(&mut self.has_begun, true)).then(|| Schedule::new(0))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        self.steps += 1;
        let is_runnable = |id: TaskId| runnable.iter().any(|task| task.id() == id);
        let stays = current.filter(|&current| {
            !is_yielding && is_runnable(current) && !self.held_up.iter().any(|&(id, _)| id == current)
        });
        if let Some(current) = stays {
            if !self.random.once_in(self.switch) {
                return Some(current);
            }
            if self.random.once_in(self.stall) {
                let until = self.steps + 1 + self.random.below(self.length);
                self.held_up.push((current, until));
            }
        }
        let steps = self.steps;
        self.held_up.retain(|&(_, until)| until > steps);
        let free: Vec<_> = runnable
            .iter()
            .map(|task| task.id())
            .filter(|&id| !self.held_up.iter().any(|&(held_up, _)| held_up == id))
            .collect();
        if free.is_empty() {
            // Whoever has been held up longest goes on.
            let first = self.held_up.iter().position(|&(id, _)| is_runnable(id))?;
            return Some(self.held_up.remove(first).0);
        }
        Some(free[self.random.below(free.len())])
    }

    fn next_u64(&mut self) -> u64 {
        self.random.next()
    }
}
