//! Fuzzing with libFuzzer, which a stable compiler can serve: the instrumentation is LLVM's, and its flags are stable.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{Workspace, append_flags, run, shown, succeeds};
use crate::sanitize::Rustc;
use crate::steps::Outcome;

/// The binaries of `fuzz/`.
pub(crate) const TARGETS: &[&str] = &["handle", "standard", "fifo", "json", "query"];
/// How long each runs if nobody says.
pub(crate) const SECONDS: u64 = 10;

/// What fuzzing of the server's parsers begins with besides: requests, for hardly any bytes would come to be one by chance. The first byte
/// of those in JSON says which operation it is.
fn examples(target: &str) -> &'static [&'static str] {
    match target {
        "json" => &[
            concat!(
                "\x11",
                r#"{"QueueUrl":"q","MessageBody":"h\u00e9","DelaySeconds":1,"MessageAttributes":{"a":{"DataType":"Binary","BinaryValue":"AAE="}}}"#
            ),
            concat!(
                "\x12",
                r#"{"QueueUrl":"q","Entries":[{"Id":"a","MessageBody":"b","MessageGroupId":"g"}]}"#
            ),
            concat!(
                "\x0f",
                r#"{"QueueUrl":"q","AttributeNames":["All"],"MaxNumberOfMessages":10,"WaitTimeSeconds":"1"}"#
            ),
            concat!(
                "\x04",
                r#"{"QueueName":"q","Attributes":{"DelaySeconds":"0"},"tags":{"k":"v"}}"#
            ),
        ],
        "query" => &[
            "Action=SendMessageBatch&QueueUrl=q&SendMessageBatchRequestEntry.1.Id=a&SendMessageBatchRequestEntry.1.MessageBody=%C3%A9\
             &SendMessageBatchRequestEntry.1.MessageAttribute.1.Name=x&SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.DataType=Binary\
             &SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.BinaryValue=AAE%3D&SendMessageBatchRequestEntry.1.DelaySeconds=1",
            "Action=ReceiveMessage\nAttributeName.1=All&MessageAttributeName.1=a.*&MaxNumberOfMessages=10&WaitTimeSeconds=x",
            "Action=CreateQueue&QueueName=q&Attribute.1.Name=DelaySeconds&Attribute.1.Value=0&Tag.1.Key=k&Tag.1.Value=v",
            "Action=DeleteMessageBatch&DeleteMessageBatchRequestEntry.1.Id=a&DeleteMessageBatchRequestEntry.1.ReceiptHandle=h",
            "Action=AddPermission&Label=l&AWSAccountId.1=123456789012&ActionName.1=SendMessage&QueueUrl=q",
            "Action=StartMessageMoveTask&SourceArn=arn:aws:sqs:r:1:q&MaxNumberOfMessagesPerSecond=5",
            "Action=UntagQueue&TagKey.1=k",
        ],
        _ => &[],
    }
}

/// As cargo-fuzz passes them: counters on edges, and what is compared with what.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// Some hundred operations. Longer inputs find no more, and take longer.
const BYTES_MAX: usize = 2048;
/// What fuzzing begins with where there is no corpus: so many inputs of noise, each longer by so much than the one before.
const SEEDS: usize = 8;
const SEED_STEP: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) target: Option<String>,
    pub(crate) seconds: u64,
}

impl Options {
    pub(crate) fn title(&self) -> String {
        let Self { target, seconds } = self;
        match target {
            Some(target) => format!("fuzz {target}, {seconds} s"),
            None => format!("fuzz, {seconds} s each of {}", TARGETS.join(", ")),
        }
    }
}

/// Fuzzes one target or all of them. What was found to reach new code is kept for the next time, beside the build; an input
/// that fails too.
pub(crate) fn fuzz(workspace: &Workspace, options: &Options) -> Result<Outcome> {
    if !has_cpp() {
        return Ok(Outcome::Skipped(
            "libFuzzer is C++, and there is no c++ compiler".to_owned(),
        ));
    }
    // It has a few crates that nothing else here has.
    let mut fetch = workspace.cargo(&[
        "fetch",
        "--quiet",
        "--locked",
        "--manifest-path",
        "fuzz/Cargo.toml",
    ]);
    if !succeeds(&mut fetch)? {
        return Ok(Outcome::Skipped("cargo cannot fetch libfuzzer-sys".to_owned()));
    }
    let host = Rustc::ask()?.host;
    let folder = workspace.target().join("fuzz");
    let mut build = workspace.cargo(&["build", "--release", "--manifest-path", "fuzz/Cargo.toml"]);
    build.args(["--target", &host]);
    build.arg("--target-dir").arg(&folder);
    append_flags(&mut build, "RUSTFLAGS", COVERAGE);
    run(&mut build)?;

    let targets = TARGETS.iter().copied();
    let (mut figures, mut failed) = (Vec::new(), Vec::new());
    for target in targets.filter(|target| options.target.as_deref().is_none_or(|asked| asked == *target)) {
        let corpus = folder.join("corpus").join(target);
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(folder.join("artifacts"))?;
        if fs::read_dir(&corpus)?.next().is_none() {
            for (at, example) in examples(target).iter().enumerate() {
                fs::write(corpus.join(format!("example-{at}")), example)?;
            }
            for at in 1..=SEEDS {
                fs::write(
                    corpus.join(format!("seed-{at}")),
                    noise(at as u64, at * SEED_STEP),
                )?;
            }
        }
        let log = folder.join(format!("{target}.log"));
        let mut fuzzer = Command::new(folder.join(&host).join("release").join(target));
        fuzzer
            .arg(format!("-max_total_time={}", options.seconds))
            .arg(format!("-max_len={BYTES_MAX}"))
            .arg(format!(
                "-artifact_prefix={}/{target}-",
                folder.join("artifacts").display()
            ))
            .args(["-len_control=0", "-timeout=60", "-print_final_stats=1"])
            .arg(&corpus)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        println!("    {}", shown(&fuzzer));
        let status = fuzzer.status().context("the fuzzer does not start")?;
        let text = fs::read_to_string(&log)?;
        let found = Figures::of(&text).with_context(|| format!("no figures in {}", log.display()))?;
        println!("    {target}: {found}");
        if !status.success() {
            println!("    {target} FAILED: see {}", log.display());
            failed.push(target);
        }
        figures.push(found.executions);
    }
    ensure!(!figures.is_empty(), "no target is called {:?}", options.target);
    if !failed.is_empty() {
        bail!("{} failed", failed.join(", "));
    }
    let executions: u64 = figures.iter().sum();
    Ok(Outcome::Did(format!("{executions} executions")))
}

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
struct Figures {
    executions: u64,
    /// Edges reached, of all in the binary.
    reached: u64,
    edges: u64,
    /// Inputs that reach something of their own.
    inputs: u64,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            executions,
            reached,
            edges,
            inputs,
        } = self;
        write!(
            f,
            "{executions} executions, {reached} of {edges} edges, {inputs} inputs"
        )
    }
}

impl Figures {
    /// From what libFuzzer prints.
    fn of(log: &str) -> Option<Self> {
        let number = |text: &str| {
            let digits = text.trim_start();
            let end = digits
                .find(|char: char| !char.is_ascii_digit())
                .unwrap_or(digits.len());
            digits[..end].parse::<u64>().ok()
        };
        let last = |mark: &str| number(log.rsplit_once(mark)?.1);
        Some(Self {
            executions: last("stat::number_of_executed_units:")?,
            reached: last(" cov:").unwrap_or(0),
            edges: number(log.split_once("PC tables (")?.1)?,
            inputs: last(" corp:").unwrap_or(0),
        })
    }
}

fn has_cpp() -> bool {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let version = Command::new(compiler)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

/// Repeatable noise: SplitMix64.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_log() {
        let log = "INFO: Loaded 1 PC tables (25016 PCs): 25016 [0x1,0x2),\n\
            #8\tINITED cov: 120 ft: 130 corp: 3/1Kb exec/s: 0\n\
            #200\tNEW    cov: 4755 ft: 20589 corp: 157/103Kb lim: 2048 exec/s: 18\n\
            stat::number_of_executed_units: 14414\n\
            stat::average_exec_per_sec:     1310\n";
        let figures = Figures {
            executions: 14414,
            reached: 4755,
            edges: 25016,
            inputs: 157,
        };
        assert_eq!(Figures::of(log), Some(figures));
        assert_eq!(Figures::of("error: no such file"), None);
    }
}
