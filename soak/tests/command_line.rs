//! What `epoq-soak` makes of what it is told.

use std::process::{Command, Output};

fn soak(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_epoq-soak"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn three_seconds_are_judged_and_reported() {
    let folder = std::env::temp_dir().join(format!("epoq-soak-{}", std::process::id()));
    let out = folder.to_str().unwrap();
    // Alone: a process that is stopped now and then takes several times as long.
    let output = soak(&["--minutes", "0.05", "--seed", "7", "--alone", "--out", out]);
    assert!(output.status.success(), "{output:?}");
    let report = std::fs::read_to_string(folder.join("soak.json")).unwrap();
    let text = std::fs::read_to_string(folder.join("soak.md")).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(
        (&report["verdict"], &report["seed"]),
        (&"verified".into(), &7.into())
    );
    assert!(
        report["deliveries"].as_u64() >= report["messages"].as_u64(),
        "{report}"
    );
    assert!(report["messages"].as_u64() > Some(1000), "{report}");
    assert!(text.contains("deliveries, each judged"), "{text}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for arguments in [
        ["--minutes", "nan"],
        ["--minutes", "0"],
        ["--minutes", "-1"],
        ["--minutes", "1e9"],
        ["--minutes", "long"],
        ["--threads", "0"],
        ["--threads", "1025"],
        ["--messages", "-1"],
        ["--seconds", "5"],
    ] {
        let output = soak(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    }
}
