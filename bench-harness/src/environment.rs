//! What the figures were measured on and with; without it they mean nothing.

use std::{env, fs, num::NonZero, process::Command, sync::OnceLock, thread};

use serde::Serialize;

use crate::{cores::Cores, memory};

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
    /// Whether a hypervisor is underneath; `None` where nothing tells.
    pub virtual_machine: Option<bool>,
    /// What decides the first core's frequency, where the system says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub governor: Option<String>,
    /// The first core's frequency, before anything was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_mhz: Option<u64>,
    /// The compiler.
    pub rustc: String,
    /// What it compiled for.
    pub target: String,
    /// Optimisation level and extra flags.
    pub flags: String,
    /// The allocator of the binary.
    pub allocator: String,
    /// Whether threads can be pinned to cores here: it was tried.
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
            cpu: cpu(&info, read),
            cores: cores(),
            memory_bytes: memory::total_bytes(),
            kernel: format!("{} {}", env::consts::OS, release.trim())
                .trim()
                .to_owned(),
            virtual_machine: is_guest(&info, read),
            governor: read(&format!("{FREQUENCY}/scaling_governor")),
            frequency_mhz: read(&format!("{FREQUENCY}/scaling_cur_freq"))
                .and_then(|khz| khz.parse::<u64>().ok())
                .map(|khz| khz / 1000),
            rustc: env!("EPOQ_BENCH_RUSTC").to_owned(),
            target: env!("EPOQ_BENCH_TARGET").to_owned(),
            flags: flags.trim().to_owned(),
            allocator: "mimalloc".to_owned(),
            pinned: Cores::of_process().pins(),
        }
    }

    /// The machine in one line.
    pub fn line(&self) -> String {
        let memory = self.memory_bytes.map_or(String::new(), |bytes| {
            format!(", {:.0} GiB", bytes as f64 / f64::from(1 << 30))
        });
        let guest = match self.virtual_machine {
            Some(true) => ", virtual machine",
            Some(false) => "",
            None => ", perhaps a virtual machine",
        };
        let governor = self
            .governor
            .as_ref()
            .map_or(String::new(), |governor| format!(", governor {governor}"));
        let frequency = self
            .frequency_mhz
            .map_or(String::new(), |mhz| format!(", at {mhz} MHz"));
        format!(
            "{}, {} cores{memory}{frequency}{governor}, {}{guest}",
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

/// The commit of the source tree, with `-dirty` when it was changed since, but for results; `unknown` where there is none.
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
    // What runs write down themselves is no change of what they measure.
    let source = ["--", ":/", ":(top,exclude)results", ":(top,exclude)README.md"];
    let status = [&["status", "--porcelain", "--untracked-files=no"][..], &source].concat();
    let dirty = git(&status).is_none_or(|changes| !changes.is_empty());
    if dirty { commit + "-dirty" } else { commit }
}

const FREQUENCY: &str = "/sys/devices/system/cpu/cpu0/cpufreq";

/// A small file of the system's, without what stands around its words.
fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim_matches(|letter: char| letter.is_whitespace() || letter == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// The processor's name; where it has none, who made it and what its cores are called.
fn cpu(info: &str, read: impl Fn(&str) -> Option<String>) -> String {
    if let Some(name) = field(info, "model name").or_else(|| field(info, "cpu model")) {
        return name.to_owned();
    }
    if let (Some(maker), Some(part)) = (field(info, "CPU implementer"), field(info, "CPU part")) {
        let known = match (maker, part) {
            ("0x41", "0xd03") => "ARM Cortex-A53",
            ("0x41", "0xd05") => "ARM Cortex-A55",
            ("0x41", "0xd08") => "ARM Cortex-A72",
            ("0x41", "0xd0b") => "ARM Cortex-A76",
            ("0x41", "0xd0c") => "ARM Neoverse N1",
            ("0x41", "0xd40") => "ARM Neoverse V1",
            ("0x41", "0xd49") => "ARM Neoverse N2",
            ("0x41", "0xd4f") => "ARM Neoverse V2",
            ("0x41", "0xd84") => "ARM Neoverse V3",
            ("0x61", _) => "Apple",
            ("0xc0", _) => "Ampere",
            _ => return format!("CPU implementer {maker}, part {part}"),
        };
        return known.to_owned();
    }
    read("/proc/device-tree/model").unwrap_or_else(|| "unknown".to_owned())
}

/// Whether a hypervisor is underneath: by the processor where it tells, as x86 does; else by what the firmware says that the machine is.
fn is_guest(info: &str, read: impl Fn(&str) -> Option<String>) -> Option<bool> {
    /// How machines that are none begin to name themselves, or their makers.
    const GUESTS: [&str; 19] = [
        "KVM",
        "QEMU",
        "VMware",
        "VMW",
        "VirtualBox",
        "innotek",
        "Xen",
        "Bochs",
        "Parallels",
        "BHYVE",
        "Hyper-V",
        "Virtual Machine",
        "OpenStack",
        "KubeVirt",
        "Amazon EC2",
        "Google",
        "Alibaba Cloud",
        "Apple Virtualization",
        "DigitalOcean",
    ];
    if let Some(flags) = field(info, "flags") {
        return Some(flags.split(' ').any(|flag| flag == "hypervisor"));
    }
    let product = read("/sys/class/dmi/id/product_name");
    // Clouds lend whole machines too, and name those so.
    if product.as_ref().is_some_and(|name| name.contains("metal")) {
        return Some(false);
    }
    let told = [
        product,
        read("/sys/class/dmi/id/sys_vendor"),
        read("/sys/class/dmi/id/board_vendor"),
        read("/sys/class/dmi/id/bios_vendor"),
    ];
    let is_named = told
        .iter()
        .flatten()
        .any(|name| GUESTS.iter().any(|guest| name.starts_with(guest)));
    let is_under = ["/sys/hypervisor/type", "/proc/device-tree/hypervisor/compatible"]
        .iter()
        .any(|path| read(path).is_some());
    (is_named || is_under).then_some(true)
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

    const ARM: &str = "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n";

    #[test]
    fn a_processor_without_a_name_has_one() {
        let none = |_: &str| None;
        assert_eq!(cpu("model name\t: AMD EPYC\n", none), "AMD EPYC");
        assert_eq!(cpu(ARM, none), "ARM Neoverse N1");
        let other = ARM.replace("0xd0c", "0x123");
        assert_eq!(cpu(&other, none), "CPU implementer 0x41, part 0x123");
        let model = |path: &str| path.ends_with("/model").then(|| "Raspberry Pi 5".to_owned());
        assert_eq!(
            (cpu("", model), cpu("", none)),
            ("Raspberry Pi 5".into(), "unknown".into())
        );
    }

    #[test]
    fn a_guest_is_found_out_or_not_known() {
        let says = |path: &'static str, text: &'static str| {
            move |asked: &str| (asked == path).then(|| text.to_owned())
        };
        let none = says("", "");
        assert_eq!(is_guest("flags\t: fpu hypervisor\n", none), Some(true));
        assert_eq!(is_guest("flags\t: fpu\n", none), Some(false));
        assert_eq!(is_guest(ARM, none), None, "nothing tells");
        for (path, text, guest) in [
            ("/sys/class/dmi/id/sys_vendor", "QEMU", Some(true)),
            ("/sys/class/dmi/id/sys_vendor", "Amazon EC2", Some(true)),
            ("/sys/class/dmi/id/product_name", "c7g.metal", Some(false)),
            (
                "/sys/class/dmi/id/product_name",
                "KVM Virtual Machine",
                Some(true),
            ),
            ("/sys/class/dmi/id/product_name", "Altra R272", None),
            ("/sys/hypervisor/type", "xen", Some(true)),
            ("/proc/device-tree/hypervisor/compatible", "linux,kvm", Some(true)),
        ] {
            assert_eq!(is_guest(ARM, says(path, text)), guest, "{path} {text}");
        }
    }

    #[test]
    fn a_machine_in_one_line() {
        let machine = Machine {
            virtual_machine: None,
            governor: Some("powersave".into()),
            frequency_mhz: Some(2400),
            ..Machine::detect()
        };
        let line = machine.line();
        assert!(line.contains(", at 2400 MHz, governor powersave, "), "{line}");
        assert!(line.ends_with("perhaps a virtual machine"), "{line}");
    }

    #[test]
    fn detects_something() {
        let machine = Machine::detect();
        assert!(machine.cores >= 1);
        assert!(machine.rustc.contains("rustc"), "{}", machine.rustc);
        assert!(!commit().is_empty());
    }
}
