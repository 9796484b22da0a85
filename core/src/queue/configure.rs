//! The configuration as operations read it, and how it changes.

use std::time::Duration;

use super::{Queue, dead_letter::DeadLetters, stats::Stats};
use crate::{
    clock,
    config::{QueueConfig, arena_body_max},
    sync::{Arc, AtomicU32, AtomicU64, Ordering},
};

/// The configuration in the form in which operations read it, field by field.
///
/// Relaxed throughout: each is a number on its own. An operation that runs while they change may see some old and some new.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Bodies of 1 to so many bytes, and nothing else about them, take the straight way; 0 if every send has to look
    /// closer.
    plain_max: AtomicU32,
    /// Messages up to so many bytes live in arenas.
    arena_max: AtomicU32,
    /// `u32::MAX` without dead-letter queue.
    max_receives: AtomicU32,
    retention_ms: AtomicU64,
    visibility_ms: AtomicU64,
    delay_ms: AtomicU64,
    delay_max_ms: AtomicU64,
    wait_ms: AtomicU64,
    message_max: AtomicU32,
    /// `u64::MAX` for no limit.
    in_flight_max: AtomicU64,
}

/// Rounded up, as everywhere: what is not zero does not become zero.
fn ms(duration: Duration) -> u64 {
    clock::ceil_ms(duration).unwrap_or(u64::MAX)
}

impl Settings {
    pub(crate) fn new(config: &QueueConfig) -> Self {
        let settings = Self {
            plain_max: AtomicU32::new(0),
            arena_max: AtomicU32::new(0),
            max_receives: AtomicU32::new(u32::MAX),
            retention_ms: AtomicU64::new(0),
            visibility_ms: AtomicU64::new(0),
            delay_ms: AtomicU64::new(0),
            delay_max_ms: AtomicU64::new(0),
            wait_ms: AtomicU64::new(0),
            message_max: AtomicU32::new(0),
            in_flight_max: AtomicU64::new(0),
        };
        settings.set(config);
        settings
    }

    fn set(&self, config: &QueueConfig) {
        let set = |to: &AtomicU64, value| to.store(value, Ordering::Relaxed);
        let arena_max = arena_body_max(config.memory_limit.unwrap_or(u64::MAX));
        self.arena_max.store(arena_max as u32, Ordering::Relaxed);
        let plain_max = if config.delay.is_zero() && config.fifo.is_none() {
            config.max_message_bytes.min(arena_max)
        } else {
            0
        };
        self.plain_max.store(plain_max as u32, Ordering::Relaxed);
        self.message_max
            .store(config.max_message_bytes as u32, Ordering::Relaxed);
        set(&self.retention_ms, ms(config.retention));
        set(&self.visibility_ms, ms(config.visibility_timeout));
        set(&self.delay_ms, ms(config.delay));
        set(&self.delay_max_ms, ms(config.delay_max()));
        set(&self.wait_ms, ms(config.wait));
        set(&self.in_flight_max, config.in_flight_max.unwrap_or(u64::MAX));
    }

    pub(crate) fn set_max_receives(&self, max: Option<u32>) {
        self.max_receives
            .store(max.unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    #[inline(always)]
    pub(crate) fn plain_max(&self) -> usize {
        self.plain_max.load(Ordering::Relaxed) as usize
    }

    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn arena_max(&self) -> usize {
        self.arena_max.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn message_max(&self) -> usize {
        self.message_max.load(Ordering::Relaxed) as usize
    }

    #[inline(always)]
    pub(crate) fn max_receives(&self) -> u32 {
        self.max_receives.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn retention_ms(&self) -> u64 {
        self.retention_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn visibility_ms(&self) -> u64 {
        self.visibility_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn delay_ms(&self) -> u64 {
        self.delay_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn delay_max(&self) -> Duration {
        Duration::from_millis(self.delay_max_ms.load(Ordering::Relaxed))
    }

    #[cfg(not(loom))]
    pub(crate) fn wait(&self) -> Duration {
        Duration::from_millis(self.wait_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn in_flight_max(&self) -> Option<u64> {
        match self.in_flight_max.load(Ordering::Relaxed) {
            u64::MAX => None,
            limit => Some(limit),
        }
    }
}

impl Queue {
    /// The queue's configuration.
    #[must_use]
    pub fn config(&self) -> QueueConfig {
        self.config_lock().clone()
    }

    /// Puts a checked configuration in force; `target` is the queue that its `redrive` names, or nothing if that stays as it is.
    pub(crate) fn apply(&self, config: QueueConfig, target: Option<Option<Self>>) {
        let mut present = self.config_lock();
        #[cfg(not(loom))]
        let puts_off_otherwise = present.delay != config.delay || present.retention != config.retention;
        self.inner.hot.settings.set(&config);
        #[cfg(not(loom))]
        self.inner.fifo_settings.set(&config);
        self.inner.budget.set_limit(config.memory_limit);
        *present = config;
        drop(present);
        if let Some(target) = target {
            self.set_target(target);
        }
        self.in_passing(|turn| {
            Stats::revoke_grants(|| self.era(turn.pin()).map(|era| &*era.stats));
            // Behind the same fence; see `Queue::put_off` of FIFO queues.
            #[cfg(not(loom))]
            if puts_off_otherwise
                && let Some(era) = self.era(turn.pin())
                && era.fifo(turn.pin()).is_some()
            {
                self.recall(era, turn);
            }
        });
        // A retention made longer, a limit lifted: there may be something to receive.
        self.inner.hot.waiters.wake_all();
    }

    /// Sets where messages go that were received too often, by the configuration.
    pub(crate) fn set_target(&self, target: Option<Self>) {
        let max_receives = self
            .config_lock()
            .redrive
            .as_ref()
            .map(|redrive| redrive.max_receives);
        let letters = match (target, max_receives) {
            (Some(target), Some(_)) => Some(Arc::new(DeadLetters::to(&target))),
            _ => None,
        };
        self.in_passing(|turn| self.set_dead_letters(letters, turn.pin()));
        // After the target: a receive that sees the limit finds where to.
        self.inner.hot.settings.set_max_receives(max_receives);
    }

    fn config_lock(&self) -> crate::sync::MutexGuard<'_, QueueConfig> {
        self.inner
            .config
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
