//! What the figures were measured on and with; without it they mean nothing.

use std::{env, fs, num::NonZero, process::Command, sync::OnceLock, thread};

use serde::Serialize;

use crate::memory;

/// The machine and the build.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: usize,
    /// Memory of the machine.
    pub memory_bytes: Option<u64>,
    /// Operating system and kernel release.
    pub kernel: String,
    /// Whether a hypervisor is underneath.
    pub virtual_machine: bool,
    /// The compiler.
    pub rustc: String,
    /// What it compiled for.
    pub target: String,
    /// Optimisation level and extra flags.
    pub flags: String,
    /// The allocator of the binary.
    pub allocator: String,
    /// Whether threads can be pinned to cores here.
    pub pinned: bool,
}

impl Machine {
    /// Looks around.
    pub fn detect() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let flags = format!(
            "opt-level={} debug-assertions={} {}",
            env!("EPOQ_BENCH_OPT_LEVEL"),
            if cfg!(debug_assertions) { "on" } else { "off" },
            env!("EPOQ_BENCH_RUSTFLAGS")
        );
        Self {
            cpu: field(&info, "model name").unwrap_or("unknown").to_owned(),
            cores: cores(),
            memory_bytes: memory::total_bytes(),
            kernel: format!("{} {}", env::consts::OS, release.trim())
                .trim()
                .to_owned(),
            virtual_machine: field(&info, "flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            rustc: env!("EPOQ_BENCH_RUSTC").to_owned(),
            target: env!("EPOQ_BENCH_TARGET").to_owned(),
            flags: flags.trim().to_owned(),
            allocator: "mimalloc".to_owned(),
            pinned: core_affinity::get_core_ids().is_some_and(|cores| !cores.is_empty()),
        }
    }

    /// The machine in one line.
    pub fn line(&self) -> String {
        let memory = self.memory_bytes.map_or(String::new(), |bytes| {
            format!(", {:.0} GiB", bytes as f64 / f64::from(1 << 30))
        });
        let guest = if self.virtual_machine {
            ", virtual machine"
        } else {
            ""
        };
        format!(
            "{}, {} cores{memory}, {}{guest}",
            self.cpu, self.cores, self.kernel
        )
    }

    /// The build in one line.
    pub fn build_line(&self) -> String {
        let pinned = if self.pinned {
            "threads pinned"
        } else {
            "threads not pinned"
        };
        format!(
            "{} for {}, {}, {}, {pinned}",
            self.rustc, self.target, self.flags, self.allocator
        )
    }
}

/// Cores this process may use.
pub fn cores() -> usize {
    // Asked once: a pinned thread has one core.
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| thread::available_parallelism().map_or(1, NonZero::get))
}

/// The commit of the source tree, with `-dirty` when it was changed since; `unknown` where there is none.
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(env!("CARGO_MANIFEST_DIR"))
            .args(arguments)
            .output()
            .ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]).filter(|commit| !commit.is_empty()) else {
        return "unknown".to_owned();
    };
    let dirty =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|changes| !changes.is_empty());
    if dirty { commit + "-dirty" } else { commit }
}

/// The value of the first line `name : value`.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cpuinfo() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu hypervisor\n";
        assert_eq!(field(text, "model name"), Some("AMD EPYC"));
        assert_eq!(field(text, "bogus"), None);
    }

    #[test]
    fn detects_something() {
        let machine = Machine::detect();
        assert!(machine.cores >= 1);
        assert!(machine.rustc.contains("rustc"), "{}", machine.rustc);
        assert!(!commit().is_empty());
    }
}
