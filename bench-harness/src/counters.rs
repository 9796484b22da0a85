//! Hardware counters of a thread through `perf_event_open`, where the machine has them and lets this process read them.

use std::sync::OnceLock;

/// What a thread's core counted, user mode only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardwareCounts {
    /// Processor cycles.
    pub cycles: u64,
    /// Instructions retired.
    pub instructions: u64,
    /// Misses of the last level of cache.
    pub cache_misses: u64,
}

impl HardwareCounts {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cycles: self.cycles + other.cycles,
            instructions: self.instructions + other.instructions,
            cache_misses: self.cache_misses + other.cache_misses,
        }
    }
}

/// Why there are none, if there are none: asked once.
pub fn missing() -> Option<&'static str> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    MISSING.get_or_init(|| Counters::open().err()).as_deref()
}

/// The counters of the thread that opened them.
#[derive(Debug)]
pub struct Counters(imp::Counters);

impl Counters {
    /// Opens them, still; the error is for people.
    pub fn open() -> Result<Self, String> {
        imp::Counters::open().map(Self)
    }

    /// Begins to count.
    pub fn start(&mut self) {
        self.0.start();
    }

    /// Ends; `None` if the kernel did not have the counters free for this thread for half of the time at least. Of more, the whole is
    /// reckoned from the part.
    pub fn stop(&mut self) -> Option<HardwareCounts> {
        self.0.stop()
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use perf_event::{Builder, Counter, Group, events::Hardware};

    use super::HardwareCounts;

    pub(super) struct Counters {
        group: Group,
        cycles: Counter,
        instructions: Counter,
        cache_misses: Counter,
    }

    impl std::fmt::Debug for Counters {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Counters").finish_non_exhaustive()
        }
    }

    impl Counters {
        pub(super) fn open() -> Result<Self, String> {
            let words = |error: std::io::Error| error.to_string();
            let mut group = Group::new().map_err(words)?;
            let mut add = |event| group.add(&Builder::new(event)).map_err(words);
            Ok(Self {
                cycles: add(Hardware::CPU_CYCLES)?,
                instructions: add(Hardware::INSTRUCTIONS)?,
                cache_misses: add(Hardware::CACHE_MISSES)?,
                group,
            })
        }

        pub(super) fn start(&mut self) {
            // A failure shows when they are read.
            let _ = self.group.reset().and_then(|()| self.group.enable());
        }

        pub(super) fn stop(&mut self) -> Option<HardwareCounts> {
            self.group.disable().ok()?;
            let data = self.group.read().ok()?;
            // Where others want the counters too, they counted for a part of the time only.
            let (enabled, running) = (data.time_enabled()?, data.time_running()?);
            let share = running.as_secs_f64() / enabled.as_secs_f64();
            // Less than half is a guess.
            if share.is_nan() || share < 0.5 {
                return None;
            }
            let whole = |counted: u64| (counted as f64 / share) as u64;
            let value = |counter| data.get(counter).map(|entry| whole(entry.value()));
            let counts = HardwareCounts {
                cycles: value(&self.cycles)?,
                instructions: value(&self.instructions)?,
                cache_misses: value(&self.cache_misses)?,
            };
            (counts.cycles > 0).then_some(counts)
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    #[derive(Debug)]
    pub(super) struct Counters;

    impl Counters {
        pub(super) fn open() -> Result<Self, String> {
            Err("only on Linux".into())
        }

        pub(super) fn start(&mut self) {}

        pub(super) fn stop(&mut self) -> Option<super::HardwareCounts> {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_count_or_say_why_not() {
        match Counters::open() {
            Ok(mut counters) => {
                counters.start();
                let spent: u64 = std::hint::black_box((0..10_000_u64).map(std::hint::black_box).sum());
                let counts = counters.stop();
                assert!(spent > 0 && counts.is_none_or(|counts| counts.instructions > 10_000));
                assert_eq!(missing(), None);
            }
            Err(why) => assert!(!why.is_empty() && missing().is_some()),
        }
    }
}
