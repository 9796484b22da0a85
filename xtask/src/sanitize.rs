//! The ledger's tests under a sanitizer of the compiler.
//!
//! The flag is unstable, and `RUSTC_BOOTSTRAP` lets a stable compiler take it, here and nowhere else. The runtimes come with
//! the standard library of the targets that have them; the standard library itself is not instrumented.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::cargo::{Workspace, append_flags, run_counted};
use crate::steps::Outcome;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sanitizer {
    /// Memory that is used after it was freed, beyond its end, or never freed.
    Address,
    /// Two accesses that nothing orders, one of them a write.
    Thread,
}

/// Which tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tests {
    All,
    /// Those that share memory among threads and free it under load: a minute or two.
    Quick,
    /// Those whose name contains this.
    Named(String),
}

/// Of a quick run with AddressSanitizer.
const ADDRESS_QUICK: &[&str] = &["fifo_stress", "memory"];

/// With ThreadSanitizer: the tests with threads, the others have nothing for it to see.
const THREAD_ALL: &[&str] = &["stress", "fifo_stress", "long_poll"];
const THREAD_QUICK: &[&str] = &["stress"];

/// They leak on purpose: what a thread holds that forgets its turn, or a lease, is never freed.
const LEAKING: &[&str] = &["a_thread_that_forgets_its_turn", "the_timeout_is_the_backstop"];

/// They demand to be in time, and nothing is under ThreadSanitizer.
const HURRIED: &[&str] = &[
    "a_thread_wakes_when_a_lease_or_a_delay_is_over_on_the_machines_clock",
    "many_threads_wait_and_none_is_forgotten",
];

/// Of tests with cases made by chance.
const CASES: &str = "200";

impl Sanitizer {
    pub(crate) const ALL: [Self; 2] = [Self::Address, Self::Thread];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sanitizer| sanitizer.name() == name)
    }

    /// The directory of its build is called the same.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Thread => "thread",
        }
    }

    pub(crate) fn title(self, tests: &Tests) -> String {
        let name = match self {
            Self::Address => "AddressSanitizer",
            Self::Thread => "ThreadSanitizer",
        };
        match tests {
            Tests::All => name.to_owned(),
            Tests::Quick => format!("{name}, some tests"),
            Tests::Named(filter) => format!("{name}, tests with {filter:?}"),
        }
    }

    /// As in the name of its runtime.
    fn runtime(self) -> &'static str {
        match self {
            Self::Address => "asan",
            Self::Thread => "tsan",
        }
    }

    /// Test targets; all of them if there are none.
    fn targets(self, tests: &Tests) -> &'static [&'static str] {
        match (self, tests) {
            (Self::Address, Tests::Quick) => ADDRESS_QUICK,
            (Self::Address, _) => &[],
            (Self::Thread, Tests::Quick) => THREAD_QUICK,
            (Self::Thread, _) => THREAD_ALL,
        }
    }

    pub(crate) fn run(self, workspace: &Workspace, tests: &Tests) -> Result<Outcome> {
        let rustc = Rustc::ask()?;
        if let Some(reason) = self.is_missing_in(&rustc) {
            return Ok(Outcome::Skipped(reason));
        }
        let mut cargo = workspace.cargo(&["test", "--package", "epoq", "--no-fail-fast"]);
        // With a target of its own, build scripts and macros are built without the flag.
        cargo.args(["--target", &rustc.host]);
        cargo
            .arg("--target-dir")
            .arg(workspace.target().join(self.name()));
        match self.targets(tests) {
            [] => drop(cargo.args(["--lib", "--tests"])),
            targets => drop(cargo.args(targets.iter().flat_map(|target| ["--test", target]))),
        }
        if let Tests::Named(filter) = tests {
            cargo.arg(filter);
        }
        append_flags(
            &mut cargo,
            "RUSTFLAGS",
            &[&format!("-Zsanitizer={}", self.name())],
        );
        if self == Self::Thread {
            // The standard library is not instrumented, and this one minds: what happens inside it is not seen. See
            // `core/src/sync.rs`, and the suppressions.
            let flags = [
                "-Cunsafe-allow-abi-mismatch=sanitizer",
                "--cfg",
                "sanitize_thread",
            ];
            append_flags(&mut cargo, "RUSTFLAGS", &flags);
        }
        cargo.env("RUSTC_BOOTSTRAP", "1");
        // Suppressions go by the whole names of functions, and with line tables only an inlined function's is short.
        cargo.env("CARGO_PROFILE_TEST_DEBUG", "full");
        cargo.env("CARGO_PROFILE_DEV_DEBUG", "full");
        // The models take minutes without a sanitizer, and many times that with one.
        cargo.env("PROPTEST_CASES", CASES);
        cargo.arg("--");
        match self {
            Self::Address => {
                cargo.args(LEAKING.iter().flat_map(|test| ["--skip", test]));
                cargo.env("ASAN_OPTIONS", "detect_leaks=1")
            }
            Self::Thread => {
                let suppressions = workspace.root().join("xtask/thread-sanitizer.supp");
                let shown = suppressions.display();
                cargo.args(HURRIED.iter().flat_map(|test| ["--skip", test]));
                cargo.env(
                    "TSAN_OPTIONS",
                    format!("suppressions={shown} halt_on_error=0 history_size=4"),
                )
            }
        };
        let counted = run_counted(&mut cargo)?;
        ensure!(counted.passed > 0, "no test ran");
        Ok(Outcome::Did(counted.to_string()))
    }

    /// Why it cannot be used here.
    fn is_missing_in(self, rustc: &Rustc) -> Option<String> {
        let library = Path::new(&rustc.sysroot)
            .join("lib/rustlib")
            .join(&rustc.host)
            .join("lib");
        let suffix = format!(".{}.a", self.runtime());
        let has_runtime = fs::read_dir(&library).is_ok_and(|files| {
            let mut files = files.flatten();
            files.any(|file| file.file_name().to_string_lossy().ends_with(&suffix))
        });
        if !has_runtime {
            let (host, name) = (&rustc.host, self.name());
            return Some(format!(
                "this toolchain has no {name} sanitizer runtime for {host}"
            ));
        }
        let takes = Command::new("rustc")
            .env("RUSTC_BOOTSTRAP", "1")
            .args([&format!("-Zsanitizer={}", self.name()), "--print", "cfg"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let is_taken = takes.is_ok_and(|status| status.success());
        (!is_taken).then(|| format!("this compiler does not take -Zsanitizer={}", self.name()))
    }
}

/// What the compiler says of itself.
#[derive(Debug)]
pub(crate) struct Rustc {
    pub(crate) host: String,
    sysroot: String,
}

impl Rustc {
    pub(crate) fn ask() -> Result<Self> {
        let answer = |arguments: &[&str]| {
            let output = Command::new("rustc").args(arguments).output();
            let output = output.context("rustc does not start")?;
            ensure!(output.status.success(), "rustc {}", output.status);
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let version = answer(&["-vV"])?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        Ok(Self {
            host: host.context("rustc -vV names no host")?.to_owned(),
            sysroot: answer(&["--print", "sysroot"])?,
        })
    }
}
