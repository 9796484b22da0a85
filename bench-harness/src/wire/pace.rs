//! Open loop: waiting to the microsecond until a request is due.

use std::{
    io,
    time::{Duration, Instant},
};

pub(super) use crate::schedule::Schedule;

/// An alarm clock that is exact to some microseconds: tokio's own knows only milliseconds.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(super) struct Alarm {
    timer: tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>,
}

#[cfg(target_os = "linux")]
impl Alarm {
    /// Within a runtime.
    pub(super) fn new() -> io::Result<Self> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // SAFETY: an `OwnedFd` is open as long as it lives and never stands for another file; the `AsyncFd` owns it, and nothing here
        // takes it out.
        let timer = unsafe {
            tokio::io::unix::AsyncFd::register_with_interest(timer, tokio::io::Interest::READABLE)?
        };
        Ok(Self { timer })
    }

    /// Waits until that moment.
    pub(super) async fn wait(&self, until: Instant) -> io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        let wait = until.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            return Ok(());
        }
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let once = Itimerspec {
            it_interval: zero,
            it_value: wait.try_into().unwrap_or(zero),
        };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.timer.readable().await?;
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?));
            match read {
                Ok(read) => return read.map(|_| ()),
                // It was not the timer.
                Err(_would_block) => {}
            }
        }
    }

    /// What is to be said about its precision.
    pub(super) const fn caveat() -> Option<&'static str> {
        None
    }
}

/// An alarm clock by tokio's milliseconds.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(super) struct Alarm;

#[cfg(not(target_os = "linux"))]
impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self)
    }

    /// Waits until that moment.
    pub(super) async fn wait(&self, until: Instant) -> io::Result<()> {
        tokio::time::sleep_until(until.into()).await;
        Ok(())
    }

    /// What is to be said about its precision.
    pub(super) const fn caveat() -> Option<&'static str> {
        Some("open loop: this system's timers are exact to a millisecond only, which is part of each latency")
    }
}

/// How much later than asked for alarms ring here: the part of each latency that is the harness's.
pub(super) async fn lateness(rounds: usize) -> io::Result<Duration> {
    let alarm = Alarm::new()?;
    let mut late = Vec::with_capacity(rounds);
    for _ in 0..rounds.max(1) {
        let until = Instant::now() + Duration::from_micros(500);
        alarm.wait(until).await?;
        late.push(until.elapsed());
    }
    late.sort_unstable();
    Ok(late[late.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_do_not_ring_early() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let alarm = Alarm::new().unwrap();
            for micros in [0, 50, 3_000] {
                let until = Instant::now() + Duration::from_micros(micros);
                alarm.wait(until).await.unwrap();
                assert!(Instant::now() >= until);
            }
            lateness(3).await.unwrap();
        });
    }
}
