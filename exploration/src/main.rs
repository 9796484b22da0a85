//! `epoq-exploration`: goes through the episodes of many seeds, or of one. To be called as `cargo xtask explore`.

#[cfg(not(shuttle))]
fn main() {
    eprintln!("explorations need the build with --cfg shuttle: cargo xtask explore");
}

#[cfg(shuttle)]
fn main() -> std::process::ExitCode {
    explorer::main()
}

#[cfg(shuttle)]
mod explorer {
    use std::{
        env,
        process::ExitCode,
        time::{Duration, Instant},
    };

    const USAGE: &str = "epoq-exploration [--seeds N] [--seconds S] [--from SEED] [--replay SEED]";

    pub(crate) fn main() -> ExitCode {
        let (mut seeds, mut seconds, mut from) = (u64::MAX, u64::MAX, 0);
        let mut replay = None;
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let value = arguments.next().unwrap_or_default();
            match (argument.as_str(), value.parse().ok()) {
                ("--seeds", Some(value)) => seeds = value,
                ("--seconds", Some(value)) => seconds = value,
                ("--from", Some(value)) => from = value,
                ("--replay", Some(value)) => replay = Some(value),
                _ => {
                    eprintln!("{USAGE}");
                    return ExitCode::from(2);
                }
            }
        }
        if let Some(seed) = replay {
            (seeds, from) = (1, seed);
        }
        let began = Instant::now();
        let (mut count, mut schedules, mut steps, mut operations) = (0, 0, 0, 0);
        let mut told = began;
        while count < seeds && began.elapsed() < Duration::from_secs(seconds) {
            let seed = from + count;
            match epoq_exploration::explore(seed) {
                Ok(explored) => {
                    schedules += explored.schedules;
                    steps += explored.steps;
                    operations += explored.operations;
                }
                Err(why) => {
                    eprintln!("seed {seed} FAILED: {why}");
                    eprintln!("Again: cargo xtask explore --replay {seed}");
                    return ExitCode::FAILURE;
                }
            }
            count += 1;
            if told.elapsed() > Duration::from_secs(10) {
                told = Instant::now();
                println!("    {count} seeds, {schedules} schedules, {operations} operations, {steps} steps");
            }
        }
        println!(
            "    {count} seeds, {schedules} schedules, {operations} operations, {steps} steps: nothing found"
        );
        ExitCode::SUCCESS
    }
}
