//! What else went on while a scenario was performed: without it nobody can tell news from a neighbour's work.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use crate::{
    distance, environment,
    noise::Noise,
    suite::usage::{Meter, OtherWork},
};

/// What was seen of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// Work of others in the meantime; `None` where the system does not tell, or where there was too little time.
    pub other_work: Option<OtherWork>,
    /// Nanoseconds that a cache line took from one core to another and back, the least and the most of all looks; `None` where there is
    /// one core, or one too busy to answer.
    pub apart_ns: Option<[f64; 2]>,
    /// Two cores were near each other at one time and far apart at another.
    pub has_moved: bool,
}

impl Surroundings {
    /// Whether they cast doubt on the figures.
    pub fn is_loud(&self) -> bool {
        self.has_moved || self.other_work.is_some_and(|work| work.is_loud())
    }

    /// In words; `None` if nothing is known.
    pub fn describe(&self) -> Option<String> {
        let mut words = Vec::new();
        if let Some(work) = self.other_work {
            words.push(format!(
                "other work, the system's own included, used {:.2} cores on average, and the hypervisor took {:.2}",
                work.cores_used_by_others, work.cores_stolen
            ));
        }
        if let Some([near, far]) = self.apart_ns {
            words.push(format!(
                "a cache line took {near:.0} to {far:.0} ns from core to core and back"
            ));
        }
        let mark = if self.is_loud() { "NOISE: " } else { "" };
        (!words.is_empty()).then(|| format!("{mark}{}", words.join("; ")))
    }
}

/// Watches them.
#[derive(Debug)]
pub struct Watch {
    meter: Meter,
    /// By the second core of the pair, in the order in which threads are pinned; the first is always the first.
    apart_ns: Mutex<BTreeMap<usize, [f64; 2]>>,
}

impl Watch {
    /// From now on.
    pub fn begin() -> Self {
        let watch = Self {
            meter: Meter::begin(),
            apart_ns: Mutex::new(BTreeMap::new()),
        };
        watch.look();
        watch
    }

    /// Measures how far the first core and the last are apart, which takes both of them for some ten milliseconds.
    fn look(&self) {
        let last = environment::cores().saturating_sub(1);
        self.take_in(last, distance::round_trip_ns(0, last).map(|now| [now, now]));
    }

    /// Looks from the first thread's core to that of thread `second`, if others made any; more threads than cores share them in turn.
    pub fn take_in(&self, second: usize, looks: Option<[f64; 2]>) {
        if let Some(looks) = looks {
            self.note(second % environment::cores().max(1), looks);
        }
    }

    fn note(&self, second: usize, [near, far]: [f64; 2]) {
        let mut all = self.apart_ns.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = all.entry(second).or_insert([near, far]);
        *pair = [pair[0].min(near), pair[1].max(far)];
    }

    /// Until now.
    pub fn read(&self) -> Surroundings {
        self.look();
        let all = self.apart_ns.lock().unwrap_or_else(PoisonError::into_inner);
        Surroundings {
            other_work: self.meter.read(),
            apart_ns: all
                .values()
                .copied()
                .reduce(|[near, far], [a, b]| [near.min(a), far.max(b)]),
            has_moved: all.values().any(|[near, far]| *far > near * Noise::MOVED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_casts_doubt_is_noise() {
        let work = |cores_used_by_others, cores_stolen| {
            Some(OtherWork {
                cores_used_by_others,
                cores_stolen,
            })
        };
        let quiet = Surroundings {
            other_work: work(0.01, 0.0),
            apart_ns: Some([52.0, 60.0]),
            has_moved: false,
        };
        let words = quiet.describe().unwrap();
        assert!(
            words.starts_with("other work")
                && words.contains("used 0.01 cores")
                && words.contains("52 to 60 ns"),
            "{words}"
        );
        for loud in [
            Surroundings {
                other_work: work(0.0, 0.5),
                ..quiet
            },
            Surroundings {
                other_work: work(0.5, 0.0),
                ..quiet
            },
            Surroundings {
                has_moved: true,
                ..quiet
            },
        ] {
            assert!(loud.describe().unwrap().starts_with("NOISE: "), "{loud:?}");
        }
        assert_eq!(Surroundings::default().describe(), None);
    }

    #[test]
    fn only_a_pair_that_was_elsewhere_before_has_moved() {
        let watch = Watch {
            meter: Meter::begin(),
            apart_ns: Mutex::default(),
        };
        // Cores of one cache, and of two.
        watch.note(10_001, [40.0, 45.0]);
        watch.note(10_002, [190.0, 200.0]);
        watch.take_in(0, None);
        let read = |watch: &Watch| {
            let all = watch.apart_ns.lock().unwrap().clone();
            (all, watch.read())
        };
        let (pairs, seen) = read(&watch);
        assert_eq!((pairs.len(), seen.has_moved), (2, false));
        let [near, far] = seen.apart_ns.unwrap();
        assert!(near <= 40.0 && far >= 200.0);
        watch.note(10_001, [44.0, 150.0]);
        let (pairs, seen) = read(&watch);
        assert_eq!((pairs[&10_001], seen.has_moved), ([40.0, 150.0], true));
    }
}
