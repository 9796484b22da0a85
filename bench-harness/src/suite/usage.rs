//! Who else used the processors while a suite ran; without it nobody can tell noise from news.

use std::{fs, time::Instant};

use serde::{Deserialize, Serialize};

/// What other work there was, in cores on average.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OtherWork {
    /// Cores that other processes of this machine used.
    pub cores_used_by_others: f64,
    /// Cores that the hypervisor took away.
    pub cores_stolen: f64,
}

/// A reading of the system's counters, in ticks of which there are a hundred a second.
#[derive(Clone, Copy, Debug)]
struct Reading {
    busy: u64,
    idle: u64,
    stolen: u64,
    own: u64,
}

/// Since when to count.
#[derive(Clone, Debug)]
pub struct Meter {
    begin: Option<Reading>,
    since: Instant,
    children: Vec<u32>,
}

impl OtherWork {
    /// In cores: figures made beside more than that have to be doubted.
    const LOUD: f64 = 0.1;

    /// Whether figures made beside it have to be doubted.
    pub fn is_loud(&self) -> bool {
        self.cores_used_by_others + self.cores_stolen > Self::LOUD
    }
}

impl Meter {
    /// From now on.
    pub fn begin() -> Self {
        Self::begin_with(&[])
    }

    /// From now on; what these processes do is none of the others' work.
    pub fn begin_with(children: &[u32]) -> Self {
        Self {
            begin: Reading::take(children),
            since: Instant::now(),
            children: children.to_vec(),
        }
    }

    /// Until now; `None` where the system does not tell, or too little time has passed.
    pub fn read(&self) -> Option<OtherWork> {
        const SECONDS_MIN: f64 = 0.2;
        (self.since.elapsed().as_secs_f64() >= SECONDS_MIN)
            .then(|| Reading::take(&self.children)?.since(self.begin?))
            .flatten()
    }
}

impl Reading {
    fn take(children: &[u32]) -> Option<Self> {
        let mut reading = Self::parse(
            &fs::read_to_string("/proc/stat").ok()?,
            &fs::read_to_string("/proc/self/stat").ok()?,
        )?;
        for child in children {
            // One that has ended has nothing to add.
            let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            reading.own += own_ticks(&stat).unwrap_or(0);
        }
        Some(reading)
    }

    fn parse(system: &str, own: &str) -> Option<Self> {
        let all: Vec<u64> = system
            .lines()
            .next()?
            .strip_prefix("cpu ")?
            .split_whitespace()
            .map_while(|field| field.parse().ok())
            .collect();
        // user nice system idle iowait irq softirq steal; guests are in user already.
        let at = |index: usize| all.get(index).copied().unwrap_or(0);
        Some(Self {
            busy: at(0) + at(1) + at(2) + at(5) + at(6),
            idle: at(3) + at(4),
            stolen: at(7),
            own: own_ticks(own)?,
        })
    }

    fn since(self, begin: Self) -> Option<OtherWork> {
        let busy = self.busy.saturating_sub(begin.busy);
        let stolen = self.stolen.saturating_sub(begin.stolen);
        let all = busy + stolen + self.idle.saturating_sub(begin.idle);
        let others = busy.saturating_sub(self.own.saturating_sub(begin.own));
        let cores = crate::environment::cores() as f64;
        (all > 0).then(|| OtherWork {
            cores_used_by_others: cores * others as f64 / all as f64,
            cores_stolen: cores * stolen as f64 / all as f64,
        })
    }
}

/// Ticks that a process has taken so far, its threads that have ended included, by its line in `/proc`.
pub(crate) fn own_ticks(stat: &str) -> Option<u64> {
    // After the name, which may have blanks in it: state is field 3, user and system time are 14 and 15.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let mut next = || times.next()?.parse::<u64>().ok();
    next()?.checked_add(next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_told_from_oneself() {
        let own = |ticks| format!("12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 {ticks} 0 0 0");
        let begin = Reading::parse("cpu  100 0 0 900 0 0 0 0 0 0\n", &own(50)).unwrap();
        let end = Reading::parse("cpu  180 0 0 920 0 0 0 0 0 0\n", &own(90)).unwrap();
        let cores = crate::environment::cores() as f64;
        let work = end.since(begin).unwrap();
        assert!((work.cores_used_by_others - 0.4 * cores).abs() < 1e-9, "{work:?}");
        assert_eq!(work.cores_stolen, 0.0);
    }

    #[test]
    fn what_is_not_told_is_not_made_up() {
        assert!(Reading::parse("", "").is_none());
        assert!(Reading::parse("cpu  1 2 3 4", "no parenthesis").is_none());
    }
}
