//! Runs the mutants, each against the models that reach its site, the likeliest killer first.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::model::{Ending, Model};
use crate::mutant::Mutant;
use crate::site::{Kind, Site};
use crate::state::{Measures, Sources, State, Verdict};

/// A model with a mutant may have more to explore than without; it is given so many times as long, and a while.
const PATIENCE: u32 = 8;
const PATIENCE_AT_LEAST: Duration = Duration::from_secs(20);

/// A model is slow that takes more than one part in so many of all models' time.
const SLOW_SHARE: u32 = 30;
/// One that takes more than one part in so many is met with `--slow` only.
const SLOWEST_SHARE: u32 = 8;
/// Where fewer models reach a site, and if it is a hand-over, its mutants meet the slow ones too.
const FEW: usize = 20;

pub(crate) struct Campaign<'c> {
    pub(crate) sites: &'c [Site],
    pub(crate) models: &'c [Model],
    pub(crate) sources: &'c Sources,
    pub(crate) bound: &'c str,
    pub(crate) logs: &'c Path,
    pub(crate) jobs: usize,
    /// Whether every mutant meets the slow models too.
    pub(crate) slow: bool,
}

/// A mutant with its verdict.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    pub(crate) mutant: Mutant,
    pub(crate) verdict: Verdict,
    pub(crate) seconds: f64,
}

/// What the threads share.
struct Progress {
    state: State,
    kills: Kills,
    done: usize,
    all: usize,
}

/// How often a model killed a mutant of a function, and of a file.
#[derive(Default)]
struct Kills(HashMap<(String, String), usize>);

impl Kills {
    fn note(&mut self, site: &Site, model: &str) {
        for place in [site.file.clone(), format!("{} {}", site.file, site.function)] {
            *self.0.entry((place, model.to_owned())).or_insert(0) += 1;
        }
    }

    fn of(&self, site: &Site, model: &str) -> (usize, usize) {
        let count = |place: String| self.0.get(&(place, model.to_owned())).copied().unwrap_or(0);
        (
            count(format!("{} {}", site.file, site.function)),
            count(site.file.clone()),
        )
    }
}

/// Measures all models, without a mutant, but for those whose measures are known; tests that explore none are left out.
pub(crate) fn measure(
    models: Vec<Model>,
    measures: Measures,
    bound: &str,
    logs: &Path,
    jobs: usize,
) -> Result<Vec<Model>> {
    let measures = Mutex::new(measures);
    let measured = in_parallel(&models, jobs, |model, _| {
        let known = lock(&measures).of(model);
        if let Some(known) = known {
            return Ok(known);
        }
        let measured = model.measure(logs, bound)?;
        lock(&measures).note(model, measured.clone())?;
        Ok(measured)
    })?;
    let models = models.into_iter().zip(measured);
    Ok(models
        .filter_map(|(model, measured)| model.with(measured))
        .collect())
}

/// Does `work` for each item on `jobs` threads; the results are in the items' order.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    jobs: usize,
    work: impl Fn(&T, usize) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let queue: Mutex<VecDeque<usize>> = Mutex::new((0..items.len()).collect());
    let results: Mutex<Vec<Option<Result<R>>>> = Mutex::new(items.iter().map(|_| None).collect());
    thread::scope(|scope| {
        for job in 0..jobs {
            let (queue, results, work) = (&queue, &results, &work);
            scope.spawn(move || {
                loop {
                    let next = lock(queue).pop_front();
                    let Some(at) = next else { break };
                    let result = work(&items[at], job);
                    let failed = result.is_err();
                    lock(results)[at] = Some(result);
                    if failed {
                        lock(queue).clear();
                    }
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_iter().flatten().collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Campaign<'_> {
    /// Judges all, what is known already from the state.
    pub(crate) fn run(&self, mutants: &[Mutant], state: State) -> Result<Vec<Judged>> {
        let progress = Mutex::new(Progress {
            state,
            kills: Kills::default(),
            done: 0,
            all: mutants.len(),
        });
        let by_site: Vec<&[Mutant]> = mutants.chunk_by(|one, other| one.site == other.site).collect();
        let judged = in_parallel(&by_site, self.jobs, |of_site, job| {
            self.judge_site(of_site, &progress, job)
        })?;
        Ok(judged.into_iter().flatten().collect())
    }

    /// Judges the mutants of one site, the weakest first: if that one survives, so do the others, for whatever they allow it
    /// allows too.
    fn judge_site(&self, mutants: &[Mutant], progress: &Mutex<Progress>, job: usize) -> Result<Vec<Judged>> {
        let mut judged: Vec<Judged> = Vec::new();
        for mutant in mutants.iter().rev() {
            let site = &self.sites[mutant.site];
            let key = mutant.key.to_string();
            let known = lock(progress)
                .state
                .known(&key, site, &mutant.orders, self.sources)
                // Of fewer models than are run now.
                .filter(|(verdict, _)| match verdict {
                    Verdict::Survived { models } => *models >= self.reaching(mutant.site).count(),
                    _ => true,
                });
            let is_new = known.is_none();
            let implied = judged
                .first()
                .filter(|weakest| matches!(weakest.verdict, Verdict::Survived { .. } | Verdict::Unreached));
            let (verdict, seconds) = match (known, implied) {
                (Some(known), _) => known,
                (None, Some(weakest)) => (weakest.verdict.clone(), 0.0),
                (None, None) => {
                    let start = Instant::now();
                    let verdict = self.judge(mutant, progress, job)?;
                    (verdict, start.elapsed().as_secs_f64())
                }
            };
            let mut progress = lock(progress);
            progress.done += 1;
            if let Verdict::Killed { model, .. } = &verdict {
                progress.kills.note(site, model);
            }
            if is_new {
                let shown = match &verdict {
                    Verdict::Killed { model, .. } => format!("killed by {model}"),
                    Verdict::Survived { models } => format!("SURVIVED {models} models"),
                    Verdict::Unreached => "REACHED by no model".to_owned(),
                    Verdict::TimedOut { model, message } => format!("TIMED OUT in {model}: {message}"),
                };
                println!(
                    "    {:3}/{} {seconds:6.1} s  {key}  {shown}",
                    progress.done, progress.all
                );
                progress
                    .state
                    .note(key, site, &mutant.orders, self.sources, verdict.clone(), seconds)?;
            }
            judged.push(Judged {
                mutant: mutant.clone(),
                verdict,
                seconds,
            });
        }
        judged.reverse();
        Ok(judged)
    }

    /// The models that a mutant of the site meets.
    fn reaching(&self, site: usize) -> impl Iterator<Item = &Model> {
        let reach = move |model: &&Model| model.reached.contains(&site);
        let quick = self
            .models
            .iter()
            .filter(reach)
            .filter(|model| !self.is_slow(model, SLOW_SHARE))
            .count();
        let is_hand_over = matches!(self.sites[site].kind, Kind::HandOver { .. });
        let share = if is_hand_over || quick < FEW {
            SLOWEST_SHARE
        } else {
            SLOW_SHARE
        };
        self.models
            .iter()
            .filter(reach)
            .filter(move |model| self.slow || !self.is_slow(model, share))
    }

    fn is_slow(&self, model: &Model, share: u32) -> bool {
        let together: Duration = self.models.iter().map(|model| model.time).sum();
        model.time > together / share
    }

    fn judge(&self, mutant: &Mutant, progress: &Mutex<Progress>, job: usize) -> Result<Verdict> {
        let site = &self.sites[mutant.site];
        let mut models: Vec<&Model> = self.reaching(mutant.site).collect();
        if models.is_empty() {
            return Ok(Verdict::Unreached);
        }
        {
            let progress = lock(progress);
            models.sort_by_key(|model| {
                let (function, file) = progress.kills.of(site, &model.name);
                (std::cmp::Reverse(function), std::cmp::Reverse(file), model.time)
            });
        }
        let log: PathBuf = self.logs.join(format!("job-{job}.log"));
        let mut endless = None;
        for model in &models {
            let limit = PATIENCE_AT_LEAST.max(model.time * PATIENCE);
            match model.run(&mutant.orders, &log, self.bound, limit)? {
                Ending::Passed => {}
                Ending::Failed(message) => {
                    return Ok(Verdict::Killed {
                        model_file: model.file.clone(),
                        model: model.name.clone(),
                        message,
                    });
                }
                Ending::NoEnd(message) => endless = Some((model.name.clone(), message)),
            }
        }
        Ok(match endless {
            Some((model, message)) => Verdict::TimedOut { model, message },
            None => Verdict::Survived { models: models.len() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_an_error_ends_all() {
        let doubled = in_parallel(&[1, 2, 3, 4, 5], 2, |item, _| Ok(item * 2)).expect("no error");
        assert_eq!(doubled, [2, 4, 6, 8, 10]);
        let failed = in_parallel(&[1, 2, 3], 2, |item, _| {
            anyhow::ensure!(*item != 2, "two");
            Ok(())
        });
        assert_eq!(failed.expect_err("an error").to_string(), "two");
    }
}
