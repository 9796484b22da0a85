//! The process above: it starts the soak as a process of its own, and stops it for a while now and then, as a machine does that
//! sleeps or a debugger that looks. Meanwhile time goes on and leases run out in all hands.

use std::{
    env,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::stage::Random;

/// Runs the soak with the arguments of this process, and stops it now and then. Returns how it ended.
pub(crate) fn run(seed: u64, duration: Duration) -> Result<bool> {
    let mut child = Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .arg("--alone")
        .spawn()
        .context("the soak does not start")?;
    let mut random = Random(seed);
    let most = (duration / 8).min(Duration::from_secs(30)).as_millis() as u64;
    while !sleep(&mut child, random.millis(most / 4, most))? {
        signal(&child, Signal::STOP)?;
        thread::sleep(random.millis(100, 4_000));
        signal(&child, Signal::CONT)?;
    }
    Ok(child.wait()?.success())
}

/// Has this process, which may be stopped at that moment, end with the one above.
pub(crate) fn end_with_it() -> Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

/// Says whether the process has ended.
fn sleep(child: &mut Child, time: Duration) -> Result<bool> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(false)
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    // It has not been waited for, so the number is still its own.
    kill_process(Pid::from_child(child), signal).context("the soak cannot be stopped")
}
