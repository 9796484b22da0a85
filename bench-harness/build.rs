//! Notes the compiler and its settings in the binary, so that every report can name them.

use std::{env, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = Command::new(rustc).arg("--version").output();
    let version = version.ok().filter(|out| out.status.success());
    let version = version.map_or("unknown".into(), |out| {
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    });
    println!("cargo:rustc-env=EPOQ_BENCH_RUSTC={version}");
    for (name, variable) in [
        ("TARGET", "TARGET"),
        ("OPT_LEVEL", "OPT_LEVEL"),
        ("RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"),
    ] {
        let value = env::var(variable).unwrap_or_default().replace('\u{1f}', " ");
        println!("cargo:rustc-env=EPOQ_BENCH_{name}={value}");
    }
}
