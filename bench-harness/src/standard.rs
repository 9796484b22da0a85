//! The standard run: what `epoq-bench` does when it is asked for nothing in particular, in four minutes.

use crate::{
    compare::Experiment,
    environment, memory,
    plan::{Plan, Wishes},
    scenario::Scenario,
    targets::TargetName,
};

/// All experiments in their order. `pace` stretches (or, under 1, shortens) every measurement and fill.
pub fn experiments(pace: f64) -> Result<Vec<Experiment>, String> {
    use TargetName::{CrossbeamChannel, Epoq, Locked, LockedSharded, LockedSlab};
    let all = [Epoq, Locked, LockedSlab, LockedSharded, CrossbeamChannel];
    let leasing = [Epoq, Locked, LockedSlab, LockedSharded];
    let cores = environment::cores();
    let many = scaled(Plan::MANY, pace);
    let backlog =
        scaled(10_000_000, pace).min(memory::available_bytes().map_or(u64::MAX, |bytes| bytes / 2 / 320));
    let base = Wishes {
        seconds: Some(0.4 * pace),
        ..Wishes::default()
    };
    let one = Wishes {
        threads: Some(1),
        ..base
    };
    let longer = Wishes {
        seconds: Some(1.5 * pace),
        ..Wishes::default()
    };
    let mut experiments = Vec::new();
    let mut add = |scenario, wishes, targets: &[TargetName], passes| {
        let plan = Plan::new(scenario, wishes)?;
        experiments.push(Experiment {
            plan,
            targets: targets.to_vec(),
            passes,
        });
        Ok::<_, String>(())
    };

    // First, while resident memory is nothing but what this adds.
    add(
        Scenario::Backlog,
        Wishes {
            backlog: Some(backlog),
            ..longer
        },
        &[Epoq],
        1,
    )?;
    add(
        Scenario::Flood,
        Wishes {
            backlog: Some(many),
            batch: Some(10),
            ..longer
        },
        &[Epoq],
        1,
    )?;
    for threads in [1, cores.max(2)] {
        let threads = Some(threads);
        add(Scenario::Lifecycle, Wishes { threads, ..base }, &all, 3)?;
        add(
            Scenario::Lifecycle,
            Wishes {
                threads,
                turn: Some(64),
                ..base
            },
            &all,
            3,
        )?;
        add(
            Scenario::Lifecycle,
            Wishes {
                threads,
                batch: Some(10),
                ..base
            },
            &all,
            3,
        )?;
    }
    add(
        Scenario::Inflight,
        Wishes {
            in_flight: Some(many),
            ..one
        },
        &leasing,
        3,
    )?;
    add(
        Scenario::Inflight,
        Wishes {
            in_flight: Some(many),
            batch: Some(10),
            ..one
        },
        &leasing,
        3,
    )?;
    add(
        Scenario::Pipeline,
        Wishes {
            batch: Some(10),
            ..base
        },
        &all,
        3,
    )?;
    add(
        Scenario::Steal,
        Wishes {
            batch: Some(10),
            ..base
        },
        &all,
        3,
    )?;
    add(Scenario::Redelivery, base, &leasing, 3)?;
    add(
        Scenario::Lifecycle,
        Wishes {
            rate: Some(1e6),
            ..longer
        },
        &all,
        1,
    )?;
    Ok(experiments)
}

fn scaled(n: u64, pace: f64) -> u64 {
    ((n as f64 * pace.min(1.0)) as u64).max(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_in_it() {
        use clap::ValueEnum;
        let experiments = experiments(0.01).unwrap();
        for &scenario in Scenario::value_variants() {
            assert!(
                experiments
                    .iter()
                    .any(|experiment| experiment.plan.scenario == scenario),
                "{scenario:?}"
            );
        }
        for experiment in &experiments {
            assert!(
                experiment
                    .targets
                    .iter()
                    .all(|target| target.check(&experiment.plan).is_ok())
            );
        }
    }
}
