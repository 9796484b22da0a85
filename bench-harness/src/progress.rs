//! How a run shows that it is alive: on stderr, so that stdout stays clean.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::suite::stop;

/// Told by the coordinator of a pass how it goes.
pub trait Progress: Sync {
    /// A new pass begins.
    fn begin(&self, _title: &str) {}
    /// A phase of a pass begins.
    fn phase(&self, _name: &str) {}
    /// Measuring: how much of the time is over, and messages per second so far.
    fn tick(&self, _part: f64, _messages_per_second: f64) {}
    /// Measuring, as `tick`: time since the measuring began, messages deleted since, and how to ask the target for its memory.
    fn reading(&self, _elapsed: Duration, _messages: u64, _target_bytes: &dyn Fn() -> Option<u64>) {}
    /// Whether to measure no more. A pass that is running ends early, and is checked like any other.
    fn is_stopped(&self) -> bool {
        false
    }
    /// A line that stays.
    fn line(&self, _line: &str) {}
    /// All passes are done.
    fn end(&self) {}
}

/// Shows nothing.
#[derive(Clone, Copy, Debug)]
pub struct Quiet;

impl Progress for Quiet {}

/// A bar on a terminal; where stderr is none, the lines only.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
}

impl Bar {
    const STEPS: u64 = 1000;

    /// A bar that appears with the first pass.
    pub fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(Self::STEPS), ProgressDrawTarget::stderr_with_hz(10));
        let style = ProgressStyle::with_template("{spinner} {prefix:46} [{bar:24}] {wide_msg}");
        bar.set_style(
            style
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("━╸ "),
        );
        Self { bar }
    }
}

impl Default for Bar {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for Bar {
    fn begin(&self, title: &str) {
        self.bar.set_position(0);
        self.bar.set_prefix(title.to_owned());
        self.bar.tick();
    }

    fn phase(&self, name: &str) {
        self.bar.set_message(name.to_owned());
        self.bar.tick();
    }

    fn tick(&self, part: f64, messages_per_second: f64) {
        self.bar.set_position((part * Self::STEPS as f64) as u64);
        if messages_per_second > 0.0 {
            self.bar
                .set_message(format!("{:.2} M/s", messages_per_second / 1e6));
        }
    }

    fn is_stopped(&self) -> bool {
        stop::is_asked_for()
    }

    fn line(&self, line: &str) {
        if self.bar.is_hidden() {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// A duration for people: `1.5 s`, `20 ms`, `3.1 µs`.
pub fn human(duration: Duration) -> String {
    let ns = duration.as_nanos() as f64;
    match ns {
        1e9.. => format!("{:.2} s", ns / 1e9),
        1e6.. => format!("{:.2} ms", ns / 1e6),
        1e3.. => format!("{:.2} µs", ns / 1e3),
        _ => format!("{ns:.0} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_for_people() {
        assert_eq!(human(Duration::from_nanos(12)), "12 ns");
        assert_eq!(human(Duration::from_nanos(1_500)), "1.50 µs");
        assert_eq!(human(Duration::from_millis(20)), "20.00 ms");
        assert_eq!(human(Duration::from_millis(1_234)), "1.23 s");
    }
}
