//! The one source of time: a monotonic clock for use, a manual clock for tests.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the clock itself"
)]
#![cfg_attr(
    not(loom),
    allow(unreachable_pub, reason = "public to the models only, see lib.rs")
)]

use std::{
    cell::Cell,
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::sync::{Arc, Event, Mutex, Weak};

/// A moment: whole milliseconds since the broker's clock began.
///
/// 41 bits of it fit a slot's word: 69 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub(crate) u64);

impl Millis {
    /// The last moment a clock can show: 49 days before the last that a slot's word can name, so that every lease ends
    /// after it began. There time stands still.
    pub const MAX: Self = Self((1 << 41) - (1 << 32));
    /// "Never", as a deadline hint: later than any moment.
    #[doc(hidden)]
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `ms` milliseconds after the clock began, at most [`Millis::MAX`].
    #[must_use]
    pub const fn new(ms: u64) -> Self {
        if ms > Self::MAX.0 { Self::MAX } else { Self(ms) }
    }

    /// Milliseconds since the clock began.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This moment and `ms` milliseconds more, which are few against the 49 days that [`Millis::MAX`] leaves.
    #[must_use]
    pub(crate) const fn after(self, ms: u64) -> Self {
        debug_assert!(self.0 <= Self::MAX.0 && ms < 1 << 32);
        Self(self.0 + ms)
    }

    /// How long it is from `earlier` to here; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A duration in milliseconds, rounded up, if it is not too long for that.
#[inline]
pub(crate) fn ceil_ms(duration: Duration) -> Option<u64> {
    duration
        .as_secs()
        .checked_mul(1000)?
        .checked_add(u64::from(duration.subsec_nanos().div_ceil(1_000_000)))
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// Where a broker takes its time from.
///
/// The monotonic clock reads the CPU's time-stamp counter where that is invariant (8 to 10 ns) and the operating
/// system's monotonic clock elsewhere. Neither goes backwards.
#[derive(Debug, Clone)]
pub struct Clock {
    source: Source,
    began_unix_ms: u64,
}

#[derive(Debug, Clone)]
enum Source {
    Monotonic {
        clock: quanta::Clock,
        began: u64,
        scale: Scale,
    },
    Manual(ManualClock),
}

/// How long a step of the machine's counter is, in 2^-64 ms: what moment it is is the upper half of one product. By way of
/// nanoseconds it is two, and a division.
///
/// Rounded down, so it is slower than `quanta` takes the counter to be, by 20 ns a day at most with counters of up to 4 GHz. How
/// fast the counter is `quanta` has measured, to some millionths.
#[derive(Debug, Clone, Copy)]
struct Scale(u64);

impl Scale {
    const STEPS_BITS: u32 = 52;

    fn of(clock: &quanta::Clock) -> Self {
        let nanos = clock.delta_as_nanos(0, 1 << Self::STEPS_BITS);
        let scale = (u128::from(nanos) << (64 - Self::STEPS_BITS)) / 1_000_000;
        // Below 2^57 whatever it is, and right for counters of 250 kHz and more, whose 2^52 steps are nanoseconds that a word holds.
        Self(scale as u64)
    }

    #[inline]
    fn millis(self, steps: u64) -> Millis {
        Millis::new(((u128::from(steps) * u128::from(self.0)) >> 64) as u64)
    }
}

impl Clock {
    /// The machine's monotonic clock, beginning now.
    #[must_use]
    pub fn monotonic() -> Self {
        let clock = quanta::Clock::new();
        let scale = Scale::of(&clock);
        let began = clock.raw();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            source: Source::Monotonic { clock, began, scale },
            began_unix_ms: u64::try_from(unix.as_millis()).unwrap_or(0),
        }
    }

    /// The present moment, rounded down to the millisecond.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Millis {
        match &self.source {
            // No counter runs backwards, but those of two sockets may differ.
            Source::Monotonic { clock, began, scale } => scale.millis(clock.raw().saturating_sub(*began)),
            Source::Manual(manual) => manual.now(),
        }
    }

    #[cfg(not(loom))]
    /// When a thread that sleeps has to be woken for `moment` to have come; `None` with a clock that moves by hand.
    pub(crate) fn instant(&self, moment: Millis) -> Option<std::time::Instant> {
        match &self.source {
            Source::Monotonic { .. } => {
                // One millisecond more: the present moment was rounded down.
                Some(std::time::Instant::now() + moment.since(self.now()) + Duration::from_millis(1))
            }
            Source::Manual(_) => None,
        }
    }

    #[cfg(not(loom))]
    /// When `ms` milliseconds from now are over for certain.
    pub(crate) fn in_ms(&self, ms: u64) -> Millis {
        match &self.source {
            // The present moment was rounded down.
            Source::Monotonic { .. } if ms > 0 => self.now().after(ms + 1),
            _ => self.now().after(ms),
        }
    }

    #[cfg(not(loom))]
    pub(crate) const fn is_manual(&self) -> bool {
        matches!(self.source, Source::Manual(_))
    }

    /// Has `event` notified whenever the clock is moved by hand.
    pub(crate) fn tell(&self, event: &Arc<Event>) {
        if let Source::Manual(manual) = &self.source {
            let mut told = manual.told();
            told.retain(|event| event.strong_count() > 0);
            told.push(Arc::downgrade(event));
        }
    }

    /// `moment` as milliseconds since the Unix epoch, as SQS stamps messages.
    ///
    /// A manual clock begins at the Unix epoch.
    #[must_use]
    pub const fn unix_millis(&self, moment: Millis) -> u64 {
        self.began_unix_ms.saturating_add(moment.0)
    }
}

impl From<&ManualClock> for Clock {
    fn from(manual: &ManualClock) -> Self {
        Self {
            source: Source::Manual(manual.clone()),
            began_unix_ms: 0,
        }
    }
}

/// A clock that moves only when told to; clones show the same time.
///
/// ```
/// use std::time::Duration;
/// use epoq::{Broker, ManualClock, QueueConfig};
///
/// let time = ManualClock::new();
/// let broker = Broker::builder().clock(&time).build()?;
/// let queue = broker.create_queue("jobs", QueueConfig::default())?;
/// queue.send(b"job")?;
/// assert_eq!(queue.receive(1, Duration::from_secs(30))?.len(), 1);
/// assert!(queue.receive(1, Duration::from_secs(30))?.is_empty()); // in flight
/// time.advance(Duration::from_secs(31));
/// assert_eq!(queue.receive(1, Duration::from_secs(30))?.len(), 1); // visible again
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ManualClock {
    // A std atomic, even under loom: setting the time is not a race of ours.
    now_ms: Arc<AtomicU64>,
    /// Who waits for time to pass.
    told: Arc<Mutex<Vec<Weak<Event>>>>,
}

impl ManualClock {
    /// A clock that stands at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves time on by `by`, in whole milliseconds, at most to [`Millis::MAX`].
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        // Relaxed: a lone counter; whoever needs an order between setting and reading brings it along.
        let _ = self
            .now_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                Some(Millis::new(now.saturating_add(by)).0)
            });
        let told: Vec<_> = self.told().iter().filter_map(Weak::upgrade).collect();
        told.iter().for_each(|event| {
            event.notify_additional(usize::MAX);
        });
    }

    fn told(&self) -> crate::sync::MutexGuard<'_, Vec<Weak<Event>>> {
        self.told
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The time it shows.
    #[must_use]
    pub fn now(&self) -> Millis {
        // Relaxed: see `advance`.
        Millis(self.now_ms.load(Ordering::Relaxed))
    }
}

/// One reading of a clock, taken when first asked for and kept for a while.
///
/// A receive asks for the time only after its claim (so that rounding and delay only lengthen a lease), and a turn
/// shares one reading among its operations: the clock is the dearest instruction of a life cycle. After [`USES`] answers
/// it is read anew, so that a turn that goes on does not live in the past.
#[derive(Debug)]
pub struct Reading<'c> {
    clock: &'c Clock,
    taken: Cell<Millis>,
    uses_left: Cell<u32>,
}

/// Answers that one reading serves.
pub const USES: u32 = 256;

impl<'c> Reading<'c> {
    /// A reading not taken yet.
    #[must_use]
    pub const fn new(clock: &'c Clock) -> Self {
        Self {
            clock,
            taken: Cell::new(Millis(0)),
            uses_left: Cell::new(0),
        }
    }

    /// The moment of this reading.
    #[inline]
    pub fn now(&self) -> Millis {
        match self.uses_left.get().checked_sub(1) {
            Some(left) => {
                self.uses_left.set(left);
                self.taken.get()
            }
            None => self.take(),
        }
    }

    #[inline]
    fn take(&self) -> Millis {
        let now = self.clock.now();
        self.taken.set(now);
        self.uses_left.set(USES - 1);
        now
    }

    /// Forgets the reading: the next question reads the clock again.
    pub fn forget(&self) {
        self.uses_left.set(0);
    }
}

#[cfg(all(test, not(any(loom, shuttle, stalls))))]
mod tests {
    use super::{Clock, Millis, Scale};

    /// Of the machine's counter, whatever that is, as the crate that knows it has it.
    #[test]
    fn a_scale_agrees_with_nanoseconds() {
        let clock = quanta::Clock::new();
        let scale = Scale::of(&clock);
        // So few that their nanoseconds fit a word if a step is a microsecond.
        for bits in 0..51 {
            for steps in [1u64 << bits, (1 << bits) + (1 << bits) / 3, (2 << bits) - 1] {
                let nanos = clock.delta_as_nanos(0, steps);
                let millis = scale.millis(steps).as_millis();
                if Millis::new(nanos / 1_000_000) == Millis::MAX {
                    continue;
                }
                // Never fast; slow by a part in three million millions, and what rounding down makes of that.
                assert!(
                    millis <= nanos / 1_000_000,
                    "{steps} steps, {nanos} ns: {millis} ms"
                );
                let slow = nanos.saturating_sub(nanos / 3_000_000_000_000 + 1);
                assert!(
                    millis >= slow / 1_000_000,
                    "{steps} steps, {nanos} ns: {millis} ms"
                );
            }
        }
    }

    #[test]
    fn a_scale_has_no_end() {
        assert_eq!(Scale(1 << 57).millis(u64::MAX), Millis::MAX);
    }

    #[test]
    fn the_clock_goes_as_the_systems_does() {
        let clock = Clock::monotonic();
        let earlier = std::time::Instant::now();
        let began = clock.now();
        let later = std::time::Instant::now();
        let (mut last, slack) = (began, std::time::Duration::from_millis(2));
        while later.elapsed().as_millis() < 200 {
            let least = later.elapsed();
            let now = clock.now();
            let most = earlier.elapsed();
            assert!(last <= now);
            let went = now.since(began);
            assert!(
                least <= went + slack && went <= most + slack,
                "{least:?} {went:?} {most:?}"
            );
            last = now;
        }
    }
}
