//! Runner of the loom models: `model` explores one, `twin` demands that a broken one fails, `Outcomes` compares what the
//! executions led to with what they may lead to. See `README.md` for the table of models.
//!
//! The crate is empty without `--cfg loom`, which is why the names above are no links. `cargo xtask loom [FILTER]
//! [--bound N]` runs the models.
//!
//! ```text
//!  test process                                       child process, one per twin
//!
//!  model ── explore ── count, print, >= minimum
//!
//!  twin ─── current_exe --exact TEST ───────────────► twin ── explore
//!           EPOQ_LOOM_TWIN=NAME                         │  panics: hook prints execution and message
//!           verdict ◄──── stdout and stderr ────────────┴─ passes: prints "survived"
//! ```
//!
//! A twin has its own process because loom does not always survive the failure it finds: a deadlock, or a panic while
//! loom's own types are dropped during an unwind, aborts the process and would take the other tests with it.
//!
//! Every line the runner prints goes to the stdout handle itself, which the test harness does not capture: the counts of a
//! run are visible without `--nocapture`.

#![cfg(loom)]

use std::collections::BTreeMap;
use std::env;
use std::fmt::{self, Display};
use std::io::{self, Read, Write};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::process::{self, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Preemptions explored per execution, unless `LOOM_MAX_PREEMPTIONS` says otherwise. The minima of the models hold from
/// this bound upwards; after touching an ordering, run with 3.
pub const DEFAULT_BOUND: usize = 2;

/// Branches per execution, unless `LOOM_MAX_BRANCHES` says otherwise. Loom's own 1,000 is short for a model that pins an
/// epoch; a spin that never yields still runs into this limit within a second.
const DEFAULT_MAX_BRANCHES: usize = 10_000;

/// How long a twin may take before it counts as hung.
pub const TWIN_TIMEOUT: Duration = Duration::from_secs(600);

/// Tells the child process which twin it is to run.
const TWIN_VARIABLE: &str = "EPOQ_LOOM_TWIN";

/// Opens each line the child prints for its parent.
const TWIN_MARK: &str = "epoq-loom-twin:";

/// Explores all executions of `f` within the preemption bound, prints their number and returns it.
///
/// `f` is run once per execution and builds its state anew each time; the thread that runs it is one of the racers.
///
/// ```
/// use loom::sync::Arc;
/// use loom::sync::atomic::{AtomicUsize, Ordering};
///
/// epoq_loom::model("two_increments_both_count", 2, || {
///     let count = Arc::new(AtomicUsize::new(0));
///     let other = loom::thread::spawn({
///         let count = count.clone();
///         move || count.fetch_add(1, Ordering::Relaxed)
///     });
///     count.fetch_add(1, Ordering::Relaxed);
///     other.join().unwrap();
///     assert_eq!(count.load(Ordering::Relaxed), 2);
/// });
/// ```
///
/// # Panics
///
/// When an execution panics, races on a loom cell, deadlocks or leaks, as loom does; and when there were fewer than
/// `min_executions`, because a model that explores too little passes whatever the code does. The minimum is not asked
/// for below [`DEFAULT_BOUND`].
pub fn model<F>(name: &str, min_executions: usize, f: F) -> usize
where
    F: Fn() + Send + Sync + 'static,
{
    assert!(
        min_executions > 0,
        "model {name}: a minimum of 0 executions refuses nothing"
    );
    let bound = preemption_bound();
    let counter = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    explore(bound, &counter, f);
    let executions = counter.load(Ordering::Relaxed);
    say_explored(name, executions, bound, start.elapsed());
    assert_explored(name, executions, min_executions, bound);
    executions
}

/// The line that `cargo xtask loom --table` reads.
fn say_explored(name: &str, executions: usize, bound: usize, elapsed: Duration) {
    let elapsed_ms = elapsed.as_millis();
    say(format_args!(
        "model {name}: {executions} executions, bound {bound}, {elapsed_ms} ms"
    ));
}

fn assert_explored(name: &str, executions: usize, min_executions: usize, bound: usize) {
    assert!(
        executions >= min_executions || bound < DEFAULT_BOUND,
        "model {name}: {executions} executions at bound {bound}, fewer than the expected {min_executions}: \
         the race it is about is no longer explored"
    );
}

/// As [`model`], for a thread that stops for good in the middle of what it does: `f` is explored with each number of steps
/// that the thread makes, from none on, until it is not stopped any more in any execution. Returns how many executions there
/// were in all. The stop is a preemption that does not end, and so one fewer of others is explored.
///
/// `f` is given the number of steps and says whether the thread was stopped.
///
/// # Panics
///
/// As [`model`]; and when the thread was never stopped.
pub fn stops<F>(name: &str, min_executions: usize, f: F) -> usize
where
    F: Fn(usize) -> bool + Send + Sync + 'static,
{
    let (bound, start) = (preemption_bound(), Instant::now());
    let counter = Arc::new(AtomicUsize::new(0));
    let steps = explore_stops(bound, &counter, f);
    let executions = counter.load(Ordering::Relaxed);
    say_explored(name, executions, bound, start.elapsed());
    say(format_args!("model {name}: stopped after each of {steps} steps"));
    assert!(steps > 0, "model {name}: the thread is never stopped");
    assert_explored(name, executions, min_executions, bound);
    executions
}

/// The exploration of [`stops`], for a twin to fail in. Says how many steps the thread makes.
fn explore_stops<F>(bound: usize, counter: &Arc<AtomicUsize>, f: F) -> usize
where
    F: Fn(usize) -> bool + Send + Sync + 'static,
{
    let f = Arc::new(f);
    for steps in 0.. {
        let stopped = Arc::new(AtomicBool::new(false));
        explore(bound.saturating_sub(1), counter, {
            let (f, stopped) = (Arc::clone(&f), Arc::clone(&stopped));
            move || {
                // Relaxed: as the counter.
                stopped.fetch_or(f(steps), Ordering::Relaxed);
            }
        });
        if !stopped.load(Ordering::Relaxed) {
            return steps;
        }
    }
    unreachable!("some number of steps is enough")
}

/// Runs a broken twin of a model in a child process and demands that it fails, with `expected` in the message of its first
/// panic.
///
/// To be called from a `#[test]` which does nothing else, except for calling further twins: the child process runs the
/// same test up to this call.
///
/// ```no_run
/// // #[test]
/// fn lost_update() {
///     epoq_loom::twin("lost_update", "an increment was lost", || {
///         // the model with its error
///     });
/// }
/// ```
///
/// # Panics
///
/// When the twin survives, fails with another message, ends without a panic, or takes longer than [`TWIN_TIMEOUT`].
pub fn twin<F>(name: &str, expected: &str, f: F)
where
    F: Fn() + Send + Sync + 'static,
{
    twin_within(TWIN_TIMEOUT, name, expected, f);
}

/// [`twin`] of a model of [`stops`].
///
/// # Panics
///
/// As [`twin`].
pub fn stops_twin<F>(name: &str, expected: &str, f: F)
where
    F: Fn(usize) -> bool + Send + Sync + 'static,
{
    run_twin(TWIN_TIMEOUT, name, expected, |counter| {
        explore_stops(preemption_bound(), counter, f);
    });
}

/// [`twin`] with another time limit.
///
/// # Panics
///
/// As [`twin`].
pub fn twin_within<F>(timeout: Duration, name: &str, expected: &str, f: F)
where
    F: Fn() + Send + Sync + 'static,
{
    run_twin(timeout, name, expected, |counter| {
        explore(preemption_bound(), counter, f);
    });
}

fn run_twin(timeout: Duration, name: &str, expected: &str, exploration: impl FnOnce(&Arc<AtomicUsize>)) {
    assert!(!expected.is_empty(), "twin {name}: say which failure is expected");
    match env::var(TWIN_VARIABLE) {
        Ok(wanted) if wanted == name => explore_twin(exploration),
        // A child on its way to another twin of the same test.
        Ok(_) => return,
        Err(_) => {}
    }

    let report = run_child(&current_test(), name, timeout);
    let output = report.output.trim();
    match report.verdict() {
        Verdict::TimedOut => panic!("twin {name}: no verdict within {timeout:?}\n{output}"),
        Verdict::NotRun => {
            panic!("twin {name}: the child process passed without running it\n{output}")
        }
        Verdict::Survived { executions } => panic!(
            "twin {name} survived {executions} executions, bound {}: the model does not see the error it is there for",
            preemption_bound()
        ),
        Verdict::Died { status } => {
            panic!("twin {name}: ended without a panic, {status}\n{output}")
        }
        Verdict::Panicked { message, .. } if !message.contains(expected) => {
            panic!("twin {name}: failed otherwise than expected, no {expected:?} in: {message}\n{output}")
        }
        Verdict::Panicked { executions, message } => {
            let line = message.lines().next().unwrap_or_default();
            say(format_args!(
                "twin {name}: failed as it must after {executions} executions: {line}"
            ));
        }
    }
}

/// What the executions of a model led to, compared with what they may lead to.
///
/// Clones share what they record. A recorded outcome that is not among the legal ones fails its execution at once, so that
/// a twin can be told by it; after the model, [`assert_complete`](Self::assert_complete) demands each legal one, because
/// an outcome that never came up means a race that is not explored.
///
/// ```
/// let outcomes = epoq_loom::Outcomes::new(&["nothing", "value"], &["torn"]);
/// epoq_loom::model("store_is_seen_or_not", 2, {
///     let outcomes = outcomes.clone();
///     move || {
///         use loom::sync::Arc;
///         use loom::sync::atomic::{AtomicUsize, Ordering};
///
///         let word = Arc::new(AtomicUsize::new(0));
///         let writer = loom::thread::spawn({
///             let word = word.clone();
///             move || word.store(0xFFFF, Ordering::Release)
///         });
///         outcomes.record(match word.load(Ordering::Acquire) {
///             0 => "nothing",
///             0xFFFF => "value",
///             _ => "torn",
///         });
///         writer.join().unwrap();
///     }
/// });
/// outcomes.assert_complete("store_is_seen_or_not");
/// ```
#[derive(Clone, Debug)]
pub struct Outcomes {
    legal: &'static [&'static str],
    forbidden: &'static [&'static str],
    /// Executions per outcome. A std mutex adds no branches, and is held over no operation of loom's: a switch to another
    /// loom thread while it is locked would block the one thread that runs them all.
    seen: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Outcomes {
    /// The outcomes that must come up, and the ones that must not. What is in neither list is refused as well; naming the
    /// forbidden ones says which error the model looks for.
    #[must_use]
    pub fn new(legal: &'static [&'static str], forbidden: &'static [&'static str]) -> Self {
        for outcome in legal {
            assert!(
                !forbidden.contains(outcome),
                "outcome {outcome} is both legal and forbidden"
            );
        }
        Self {
            legal,
            forbidden,
            seen: Arc::default(),
        }
    }

    /// Records the outcome of one execution.
    ///
    /// # Panics
    ///
    /// When the outcome is forbidden or unforeseen.
    pub fn record(&self, outcome: impl Display) {
        let outcome = outcome.to_string();
        assert!(
            !self.forbidden.contains(&outcome.as_str()),
            "forbidden outcome: {outcome}"
        );
        assert!(
            self.legal.contains(&outcome.as_str()),
            "unforeseen outcome: {outcome}"
        );
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen.entry(outcome).or_insert(0) += 1;
    }

    /// Prints the outcomes with their numbers of executions.
    ///
    /// # Panics
    ///
    /// When a legal outcome never came up. Not asked for below [`DEFAULT_BOUND`].
    pub fn assert_complete(&self, name: &str) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let counts: Vec<String> = seen
            .iter()
            .map(|(outcome, count)| format!("{outcome} × {count}"))
            .collect();
        say(format_args!("model {name}: outcomes: {}", counts.join(", ")));
        let missing: Vec<&str> = self
            .legal
            .iter()
            .copied()
            .filter(|&legal| !seen.contains_key(legal))
            .collect();
        assert!(
            missing.is_empty() || preemption_bound() < DEFAULT_BOUND,
            "model {name}: legal outcomes never seen: {}",
            missing.join(", ")
        );
    }
}

/// Runs loom over `f` and counts the executions, the failing one included.
fn explore<F>(bound: usize, counter: &Arc<AtomicUsize>, f: F)
where
    F: Fn() + Send + Sync + 'static,
{
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    // The minima and the legal outcomes stand for the whole exploration: no limit may end it early and call it passed.
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.log = false;
    if env::var_os("LOOM_MAX_BRANCHES").is_none() {
        builder.max_branches = DEFAULT_MAX_BRANCHES;
    }
    let counter = counter.clone();
    builder.check(move || {
        // Relaxed: loom runs all its threads on this one. A std atomic, so that counting adds no branch.
        counter.fetch_add(1, Ordering::Relaxed);
        f();
    });
}

/// The preemption bound in force.
fn preemption_bound() -> usize {
    match env::var("LOOM_MAX_PREEMPTIONS") {
        Ok(bound) => bound
            .parse()
            .expect("LOOM_MAX_PREEMPTIONS must be a number of preemptions"),
        Err(_) => DEFAULT_BOUND,
    }
}

/// Prints one line past the capture of the test harness, in one piece.
fn say(line: fmt::Arguments<'_>) {
    let line = format!("{line}\n");
    // A closed stdout must not fail a model.
    let _ = io::stdout().lock().write_all(line.as_bytes());
}

/// The full name of the running test, which is the name the test harness gives to its thread.
fn current_test() -> String {
    let name = thread::current().name().unwrap_or_default().to_owned();
    assert!(
        !name.is_empty() && name != "main",
        "a twin must be called on the thread of its own #[test]"
    );
    name
}

/// The child's half of a twin: explores it, tells the parent what became of it, and ends the process.
fn explore_twin(exploration: impl FnOnce(&Arc<AtomicUsize>)) -> ! {
    let counter = Arc::new(AtomicUsize::new(0));
    let print_panic = panic::take_hook();
    panic::set_hook(Box::new({
        let counter = counter.clone();
        move |info| {
            // Told from the hook, because after an abort nobody is left to tell it.
            tell_parent(&Told::Panic {
                executions: counter.load(Ordering::Relaxed),
                message: &message_of(info),
            });
            print_panic(info);
        }
    }));
    let explored = panic::catch_unwind(AssertUnwindSafe(|| exploration(&counter)));
    if explored.is_ok() {
        tell_parent(&Told::Survival {
            executions: counter.load(Ordering::Relaxed),
        });
    }
    // Not back to the test harness: what it makes of the result (`should_panic`) is the parent's concern.
    process::exit(if explored.is_ok() { 0 } else { 101 })
}

fn message_of(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("(a panic without a message)").to_owned()
}

/// What a child tells its parent.
enum Told<'a> {
    Panic { executions: usize, message: &'a str },
    Survival { executions: usize },
}

/// Prints `told` in lines that open with the mark. The line before may be unfinished: the test harness's own.
fn tell_parent(told: &Told<'_>) {
    match told {
        Told::Survival { executions } => say(format_args!("\n{TWIN_MARK} survived {executions}")),
        Told::Panic { executions, message } => {
            let lines: String = message
                .lines()
                .map(|line| format!("\n{TWIN_MARK} | {line}"))
                .collect();
            say(format_args!("\n{TWIN_MARK} panicked {executions}{lines}"));
        }
    }
}

/// What became of a twin.
enum Verdict {
    TimedOut,
    NotRun,
    Survived { executions: usize },
    Died { status: ExitStatus },
    Panicked { executions: usize, message: String },
}

/// How a child process ended, and all it printed.
struct Report {
    /// None when it was killed at the time limit.
    status: Option<ExitStatus>,
    output: String,
}

impl Report {
    fn verdict(&self) -> Verdict {
        let Some(status) = self.status else {
            return Verdict::TimedOut;
        };
        let mut told = self
            .output
            .lines()
            .filter_map(|line| line.strip_prefix(TWIN_MARK))
            .map(str::trim_start);
        let Some(first) = told.next() else {
            return if status.success() {
                Verdict::NotRun
            } else {
                Verdict::Died { status }
            };
        };
        // Only the first panic counts: those after it come from unwinding out of a half finished execution.
        let (word, executions) = first.split_once(' ').expect("the child tells a word and a count");
        let executions = executions.parse().expect("the child tells a count");
        if word == "survived" {
            return Verdict::Survived { executions };
        }
        let message: Vec<&str> = told
            .map_while(|line| line.strip_prefix("| ").or(line.strip_prefix('|')))
            .collect();
        Verdict::Panicked {
            executions,
            message: message.join("\n"),
        }
    }
}

/// Runs one test of this test binary in a child process, told to run the twin `name`.
fn run_child(test: &str, name: &str, timeout: Duration) -> Report {
    let (mut reader, writer) = io::pipe().expect("a pipe for the output of the twin");
    let mut command = Command::new(env::current_exe().expect("the path of this test binary"));
    command
        .args([
            test,
            "--exact",
            "--include-ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(TWIN_VARIABLE, name)
        .env("RUST_BACKTRACE", "0")
        .stdin(process::Stdio::null())
        .stdout(writer.try_clone().expect("a second end of the pipe"))
        .stderr(writer);
    let mut child = command.spawn().expect("this test binary starts once more");
    // The command holds the parent's writing ends; without them the pipe ends with the child.
    drop(command);

    let (sender, receiver) = mpsc::channel();
    let collector = thread::spawn(move || {
        let mut output = Vec::new();
        let result = reader.read_to_end(&mut output);
        // Nobody listens any more after the time limit.
        let _ = sender.send(());
        result.expect("the output of the twin");
        String::from_utf8_lossy(&output).into_owned()
    });
    let ended = receiver.recv_timeout(timeout).is_ok();
    if !ended {
        child.kill().expect("the twin can be killed");
    }
    let status = child.wait().expect("the twin ends");
    let output = collector.join().expect("the output of the twin");
    Report {
        status: ended.then_some(status),
        output,
    }
}
