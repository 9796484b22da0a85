//! What else went on while a scenario was performed: without it nobody can tell news from a neighbour's work.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::{
    distance, environment,
    suite::usage::{Meter, OtherWork},
};

/// Beyond this share of all cores, or this factor between looks, it is said aloud.
const LOUD_SHARE: f64 = 0.02;
const LOUD_FACTOR: f64 = 2.0;

/// What was seen of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Surroundings {
    /// Work of others in the meantime; `None` where the system does not tell, or where there was too little time.
    pub other_work: Option<OtherWork>,
    /// Nanoseconds that a cache line took from the first core to the last and back, and between those of the threads where passes look
    /// for themselves: the least and the most of all looks; `None` where there is one core, or one too busy to answer.
    pub apart_ns: Option<[f64; 2]>,
}

impl Surroundings {
    /// In words, and whether they cast doubt on the figures; `None` if nothing is known.
    pub fn describe(&self) -> Option<String> {
        let mut words = Vec::new();
        let mut is_loud = false;
        if let Some(work) = self.other_work {
            let most = work.cores_used_by_others.max(work.cores_stolen);
            is_loud |= most > LOUD_SHARE * environment::cores() as f64;
            words.push(format!(
                "others used {:.2} cores on average, the hypervisor took {:.2}",
                work.cores_used_by_others, work.cores_stolen
            ));
        }
        if let Some([near, far]) = self.apart_ns {
            is_loud |= far > near * LOUD_FACTOR;
            words.push(format!(
                "a cache line took {near:.0} to {far:.0} ns from core to core and back"
            ));
        }
        let mark = if is_loud { "NOISE: " } else { "" };
        (!words.is_empty()).then(|| format!("{mark}{}", words.join("; ")))
    }
}

/// Watches them.
#[derive(Debug)]
pub struct Watch {
    meter: Meter,
    apart_ns: Mutex<Option<[f64; 2]>>,
}

impl Watch {
    /// From now on.
    pub fn begin() -> Self {
        let watch = Self {
            meter: Meter::begin(),
            apart_ns: Mutex::new(None),
        };
        watch.look();
        watch
    }

    /// Measures how far the cores are apart, which takes both of them for some ten milliseconds.
    fn look(&self) {
        let last = environment::cores().saturating_sub(1);
        self.take_in(distance::round_trip_ns(0, last).map(|now| [now, now]));
    }

    /// Looks that others made, if they made any.
    pub fn take_in(&self, looks: Option<[f64; 2]>) {
        let mut all = self.apart_ns.lock().unwrap_or_else(PoisonError::into_inner);
        *all = match (*all, looks) {
            (Some([near, far]), Some([a, b])) => Some([near.min(a), far.max(b)]),
            (one, other) => one.or(other),
        };
    }

    /// Until now.
    pub fn read(&self) -> Surroundings {
        self.look();
        Surroundings {
            other_work: self.meter.read(),
            apart_ns: *self.apart_ns.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(others: f64, stolen: f64) -> Option<OtherWork> {
        Some(OtherWork {
            cores_used_by_others: others,
            cores_stolen: stolen,
        })
    }

    #[test]
    fn only_what_casts_doubt_is_noise() {
        let quiet = Surroundings {
            other_work: work(0.01, 0.0),
            apart_ns: Some([52.0, 60.0]),
        };
        let words = quiet.describe().unwrap();
        assert!(
            words.starts_with("others used 0.01 cores") && words.contains("52 to 60 ns"),
            "{words}"
        );
        let half = environment::cores() as f64 / 2.0;
        for loud in [
            Surroundings {
                other_work: work(0.0, half),
                ..quiet
            },
            Surroundings {
                other_work: work(half, 0.0),
                ..quiet
            },
            Surroundings {
                apart_ns: Some([52.0, 300.0]),
                ..quiet
            },
        ] {
            assert!(loud.describe().unwrap().starts_with("NOISE: "), "{loud:?}");
        }
        assert_eq!(Surroundings::default().describe(), None);
    }

    #[test]
    fn every_look_counts() {
        let watch = Watch::begin();
        watch.take_in(Some([0.5, 1e8]));
        watch.take_in(None);
        watch.take_in(Some([1.0, 1e9]));
        assert_eq!(watch.read().apart_ns, Some([0.5, 1e9]));
    }
}
