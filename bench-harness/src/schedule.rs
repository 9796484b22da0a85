//! Open loop: when arrivals are due.

use crate::scenarios::desk::Random;

/// When one sender's arrivals are due: at random, as independent clients would send them (a Poisson process).
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    random: Random,
    mean_ns: f64,
    begin_ns: u64,
    /// Since then.
    next_ns: f64,
    taken: u64,
}

impl Schedule {
    /// `rate` arrivals a second on average, above 0; the same ones for the same seed and sender.
    pub(crate) fn new(rate: f64, seed: u64, sender: usize) -> Self {
        let mut schedule = Self {
            random: Random::new(seed, sender as u64 + 1),
            mean_ns: 1e9 / rate,
            begin_ns: 0,
            next_ns: 0.0,
            taken: 0,
        };
        schedule.advance();
        schedule
    }

    /// It begins at that moment of a clock.
    pub(crate) fn from(self, begin_ns: u64) -> Self {
        Self { begin_ns, ..self }
    }

    /// When the next one is due. Whoever asks has to make it.
    pub(crate) fn take_ns(&mut self) -> u64 {
        let due_ns = self.begin_ns + self.next_ns as u64;
        self.taken += 1;
        self.advance();
        due_ns
    }

    /// When the next one was due, if that is now or past. Whoever is told has to make it.
    #[inline]
    pub(crate) fn take_due_ns(&mut self, now_ns: u64) -> Option<u64> {
        let is_due = now_ns.saturating_sub(self.begin_ns) as f64 >= self.next_ns;
        is_due.then(|| self.take_ns())
    }

    /// How many were taken.
    pub(crate) const fn taken(&self) -> u64 {
        self.taken
    }

    /// How many were due by then: those that were taken, and on average so many that are waiting.
    pub(crate) fn due_by(&self, now_ns: u64) -> f64 {
        let late_ns = now_ns.saturating_sub(self.begin_ns) as f64 - self.next_ns;
        let waiting = if late_ns < 0.0 {
            0.0
        } else {
            1.0 + late_ns / self.mean_ns
        };
        self.taken as f64 + waiting
    }

    fn advance(&mut self) {
        // Above 0 and at most 1.
        let uniform = ((self.random.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        self.next_ns -= uniform.ln() * self.mean_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_repeat_and_keep_their_rate() {
        let take = |sender| {
            let mut schedule = Schedule::new(10_000.0, 7, sender);
            let due: Vec<u64> = (0..10_000).map(|_| schedule.take_ns()).collect();
            due
        };
        let due = take(0);
        assert_eq!(due, take(0));
        assert_ne!(due, take(1));
        assert!(due.is_sorted());
        let seconds = *due.last().unwrap() as f64 / 1e9;
        assert!((0.9..1.1).contains(&seconds), "{seconds}");
    }

    #[test]
    fn gaps_are_exponential() {
        let mut schedule = Schedule::new(1000.0, 3, 0);
        let due: Vec<u64> = (0..10_000).map(|_| schedule.take_ns()).collect();
        let over = |ns| due.windows(2).filter(|pair| pair[1] - pair[0] > ns).count() as f64 / 1e4;
        for means in [0.1, 1.0, 3.0] {
            let (found, expected) = (over((means * 1e6) as u64), f64::exp(-means));
            assert!((found - expected).abs() < 0.02, "{found} of {expected}");
        }
    }

    #[test]
    fn what_is_late_is_due() {
        let mut schedule = Schedule::new(1000.0, 1, 0).from(5_000_000);
        assert_eq!(schedule.take_due_ns(5_000_000), None);
        assert_eq!(schedule.due_by(5_000_000), 0.0);
        let late_ns = 5_000_000 + 1_000_000_000;
        let due = schedule.due_by(late_ns);
        assert!((900.0..1100.0).contains(&due), "{due}");
        let mut taken = 0.0;
        while let Some(due_ns) = schedule.take_due_ns(late_ns) {
            assert!((5_000_000..=late_ns).contains(&due_ns));
            taken += 1.0;
        }
        assert_eq!(schedule.due_by(late_ns), taken);
        assert!((850.0..1150.0).contains(&taken), "{taken}");
    }
}
