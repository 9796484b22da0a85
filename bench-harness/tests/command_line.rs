//! The binary as a stranger meets it: what it prints, and how it exits.

use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_epoq-bench"));
    command
        .args(arguments.split_whitespace())
        .output()
        .expect("the binary starts")
}

/// Runs it and expects exactly one JSON object on stdout.
fn json(arguments: &str) -> Value {
    let output = bench(arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{arguments}: {}\n{errors}",
        output.status
    );
    let value: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments}: {error}\n{text}"));
    assert!(value.is_object());
    value
}

fn check_run(run: &Value) {
    for field in ["scenario", "target", "commit"] {
        assert!(run[field].is_string(), "{field}: {run}");
    }
    for field in ["threads", "batch", "body_bytes", "messages", "seed"] {
        assert!(run[field].is_u64(), "{field}: {run}");
    }
    for field in [
        "seconds",
        "messages_per_second",
        "ns_per_message_per_thread",
        "harness_overhead_ns",
    ] {
        assert!(
            run[field].as_f64().is_some_and(|value| value >= 0.0),
            "{field}: {run}"
        );
    }
    assert_eq!(run["verified"], true, "{run}");
    for quantile in ["p50", "p90", "p99", "p99.9", "p99.99", "max"] {
        assert!(run["latency_ns"].get(quantile).is_some(), "{quantile}: {run}");
    }
    assert!(
        run["machine"]["cpu"].is_string() && run["machine"]["cores"].is_u64(),
        "{run}"
    );
    let (messages, seconds) = (
        run["messages"].as_f64().unwrap(),
        run["seconds"].as_f64().unwrap(),
    );
    let rate = run["messages_per_second"].as_f64().unwrap();
    assert!(
        messages > 0.0 && (messages / seconds / rate - 1.0).abs() < 1e-6,
        "{run}"
    );
}

#[test]
fn run_prints_one_object_for_every_target_and_scenario() {
    let small = "--seconds 0.05 --json";
    for target in ["epoq", "locked", "crossbeam-channel", "seg-queue"] {
        for scenario in [
            "lifecycle --threads 1",
            "pipeline --threads 2",
            "steal --threads 2 --batch 10",
            "backlog --backlog 20000",
        ] {
            let run = json(&format!("run {scenario} --target {target} {small}"));
            check_run(&run);
            assert_eq!(run["target"], target);
            assert_eq!(run["leases"], target == "epoq" || target == "locked");
        }
    }
    for target in ["epoq", "locked"] {
        for scenario in [
            "inflight --in-flight 20000",
            "redelivery --visibility-ms 20",
            "flood --backlog 20000 --batch 10",
        ] {
            check_run(&json(&format!("run {scenario} --target {target} {small}")));
        }
    }
}

#[test]
fn options_arrive() {
    let run = json(
        "run lifecycle --target epoq --threads 2 --batch 5 --body 100 --turn 8 --partitions 3 --seed 9 --seconds 0.2 --json",
    );
    check_run(&run);
    for (field, value) in [
        ("threads", 2),
        ("batch", 5),
        ("body_bytes", 100),
        ("turn", 8),
        ("partitions", 3),
        ("seed", 9),
    ] {
        assert_eq!(run[field], value, "{field}");
    }
    let run = json("run pipeline --producers 1 --consumers 2 --rate 20000 --seconds 0.2 --json");
    check_run(&run);
    assert_eq!(
        (&run["producers"], &run["consumers"], &run["threads"]),
        (&1.into(), &2.into(), &3.into())
    );
    assert!(
        run["latency_of"]
            .as_str()
            .unwrap()
            .contains("coordinated omission"),
        "{run}"
    );
}

#[test]
fn a_backlog_reports_bytes_per_message() {
    let run = json("run backlog --backlog 100000 --target locked --threads 1 --seconds 0.05 --json");
    assert!(run["bytes_per_message_beyond_body"].is_number(), "{run}");
}

#[test]
fn compare_reports_ratios_of_the_first_over_each_other() {
    let comparison = json(
        "compare lifecycle --targets epoq,locked,crossbeam-channel --threads 1 --batch 10 --passes 3 --seconds 0.05 --json",
    );
    assert_eq!(comparison["scenario"], "lifecycle");
    assert_eq!(comparison["passes"], 3);
    for target in ["epoq", "locked", "crossbeam-channel"] {
        check_run(&comparison["targets"][target]);
    }
    let ratios = comparison["ratios"].as_object().unwrap();
    assert_eq!(
        ratios.keys().collect::<Vec<_>>(),
        ["epoq/locked", "epoq/crossbeam-channel"]
    );
    for ratio in ratios.values() {
        let (min, median, max) = (
            ratio["min"].as_f64(),
            ratio["median"].as_f64(),
            ratio["max"].as_f64(),
        );
        assert!(min <= median && median <= max && min > Some(0.0), "{ratio}");
    }
}

#[test]
fn tables_say_what_was_verified_and_what_has_no_lease() {
    let output = bench("compare lifecycle --targets locked,seg-queue --passes 1 --threads 65 --seconds 0.1");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for words in [
        "verified",
        "hand-over only, no lease",
        "locked/seg-queue",
        "for 65 threads",
    ] {
        assert!(text.contains(words), "{words} is missing:\n{text}");
    }
}

#[test]
fn the_ledgers_own_scenarios_print_one_object() {
    let list = json("list --json");
    let own: Vec<&Value> = list["scenarios"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|scenario| scenario["short"].is_array())
        .collect();
    assert_eq!(own.len(), 13);
    for scenario in own {
        let name = scenario["name"].as_str().unwrap();
        // The queue that was wide takes its five seconds.
        let patience = if name == "width" { "--patience-s 0.1" } else { "" };
        let run = json(&format!("run {name} --pace 0.02 --seed 3 {patience} --json"));
        assert_eq!((&run["scenario"], &run["seed"]), (&name.into(), &3.into()));
        assert_eq!(run["verified"], true, "{run}");
        for field in ["messages", "seconds", "messages_per_second"] {
            assert!(
                run[field].as_f64().is_some_and(|value| value > 0.0),
                "{field}: {run}"
            );
        }
        for field in ["settings", "machine", "books", "figures", "latency_ns"] {
            assert!(run[field].is_object(), "{field}: {run}");
        }
        assert!(run["commit"].is_string(), "{run}");
    }
}

#[test]
fn all_of_them_come_with_a_short_table() {
    let output = bench("queue --pace 0.02 --json");
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema"], 1);
    assert_eq!(report["scenarios"].as_array().unwrap().len(), 13);
    assert_eq!(report["verified"], true);
    let table = String::from_utf8(output.stderr).unwrap();
    for name in ["| delay ", "| straggler ", "| width "] {
        assert!(table.contains(name), "{name}:\n{table}");
    }
}

#[test]
fn help_of_the_fifo_scenarios_has_examples() {
    for name in ["fifo", "fifo-dedup", "fifo-blocked"] {
        let text = String::from_utf8(bench(&format!("{name} --help")).stdout).unwrap();
        assert!(text.contains(&format!("  epoq-bench {name} --")), "{text}");
    }
}

#[test]
fn list_names_everything() {
    let text = String::from_utf8(bench("list").stdout).unwrap();
    for name in [
        "lifecycle",
        "pipeline",
        "steal",
        "backlog",
        "inflight",
        "redelivery",
        "flood",
        "delay",
        "poison",
        "longpoll",
        "burst",
        "straggler",
        "expiry",
        "idle-queues",
        "fair",
        "overload",
        "width",
        "fifo",
        "fifo-dedup",
        "fifo-blocked",
    ] {
        assert!(text.contains(name), "{name}");
    }
    for name in ["epoq", "locked", "crossbeam-channel", "seg-queue", "locked-fifo"] {
        assert!(text.contains(name), "{name}");
    }
}

#[test]
fn bad_input_gets_a_reason_and_exit_status_2() {
    for (arguments, reason) in [
        ("run lifecycle --batch 0", "--batch"),
        ("run lifecycle --batch 11", "1 to 10"),
        ("run lifecycle --threads 0", "--threads"),
        ("run lifecycle --body 0", "--body"),
        ("run lifecycle --body 1048577", "1048576"),
        ("run lifecycle --body 200000 --batch 10", "together"),
        ("run lifecycle --seconds 0", "--seconds"),
        ("run lifecycle --rate -1", "--rate"),
        ("run nonsense", "nonsense"),
        ("run lifecycle --target nonsense", "nonsense"),
        ("run", "SCENARIO"),
        ("nonsense", "nonsense"),
        ("run pipeline --threads 1", "at least 2"),
        ("run lifecycle --producers 1", "--producers"),
        ("run inflight --target crossbeam-channel", "no lease"),
        ("run redelivery --target seg-queue", "no lease"),
        ("run backlog --backlog 1000000000000", "MiB"),
        ("run backlog --backlog 57646075230342349", "MiB"),
        ("run lifecycle --in-flight 18446744073709551615", "MiB"),
        ("compare inflight --targets epoq,crossbeam-channel", "no lease"),
        ("compare lifecycle --targets epoq", "at least two"),
        ("compare lifecycle --targets epoq,epoq", "twice"),
        ("compare lifecycle", "--targets"),
        ("delay --messages 0", "--messages"),
        ("delay --messages 100000001", "100000000"),
        ("delay --spread-ms 900001", "900000"),
        ("delay --rate -1", "more than 0"),
        ("poison --one-in 1", "--one-in"),
        ("longpoll --waiters 0", "1 to 256"),
        ("burst --capacity 5", "--surge"),
        ("straggler --messages 100", "survivors"),
        ("expiry --period-ms 0", "--period-ms"),
        ("idle-queues --queues 0", "--queues"),
        ("fair --consumers 0", "1 to 256"),
        ("overload --memory-mib 0", "--memory-mib"),
        ("width --threads 1025", "1 to 1024"),
        ("fifo --groups 0", "--groups"),
        ("fifo --targets locked", "locked"),
        ("fifo --targets epoq,epoq", "twice"),
        ("fifo --groups 10000000 --depth 100000000", "--depth"),
        ("fifo-dedup --share 96", "--share"),
        ("fifo-blocked --blocked 20,10", "--blocked"),
        ("queue --pace 0", "--pace"),
    ] {
        let output = bench(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {errors}");
        assert!(
            errors.contains(reason),
            "{arguments}: {reason:?} is missing:\n{errors}"
        );
        assert!(output.stdout.is_empty(), "{arguments}: nothing on stdout");
    }
}

#[test]
fn degraded_checks_are_admitted() {
    for (body, words) in [(1, "no room for an id"), (8, "shortened tag")] {
        let run = json(&format!(
            "run lifecycle --target locked --threads 1 --body {body} --seconds 0.05 --json"
        ));
        check_run(&run);
        assert!(run["notes"].to_string().contains(words), "{run}");
    }
}

/// A directory of a test's own, removed when it ends.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("epoq-bench-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_suite_leaves_results_a_page_and_a_summary() {
    let folder = Folder::new("suite");
    let sweep = "name = 'mine'\npasses = 2\nseconds = 0.02\n\
                 [[curve]]\nvary = 'batch'\nvalues = [1, 10]\nthreads = 1\ntargets = ['epoq', 'locked']\n";
    std::fs::write(folder.0.join("mine.toml"), sweep).unwrap();
    let out = folder.path("run");
    let output = bench(&format!(
        "suite --config {} --out {out}",
        folder.path("mine.toml")
    ));
    assert!(output.status.success(), "{output:?}");
    let results: Value = serde_json::from_str(&folder.read("run/results.json")).unwrap();
    assert_eq!(results["schema"], 1);
    assert_eq!(
        (&results["name"], &results["verified"]),
        (&"mine".into(), &true.into())
    );
    assert_eq!(results["curves"][0]["lines"].as_array().unwrap().len(), 2);
    assert!(
        folder.read("run/index.html").contains("<svg")
            && folder.read("run/summary.md").contains("## Batch size")
    );

    // A run is not worse than itself; one that is slower by far is.
    let judged = bench(&format!("report {out} --baseline {out} --threshold 5%"));
    assert!(judged.status.success(), "{judged:?}");
    let mut slow = results.clone();
    for line in slow["curves"][0]["lines"].as_array_mut().unwrap() {
        let times = if line["target"] == "epoq" { 1000.0 } else { 1.0 };
        for point in line["points"].as_array_mut().unwrap() {
            for pass in point["passes"].as_array_mut().unwrap() {
                pass["seconds"] = (pass["seconds"].as_f64().unwrap() * times).into();
            }
        }
    }
    std::fs::create_dir_all(folder.0.join("slow")).unwrap();
    std::fs::write(folder.0.join("slow/results.json"), slow.to_string()).unwrap();
    let judged = bench(&format!(
        "report {} --baseline {out} --threshold 5%",
        folder.path("slow")
    ));
    assert_eq!(judged.status.code(), Some(4), "{judged:?}");
    assert!(String::from_utf8_lossy(&judged.stdout).contains("WORSE"));
    assert!(folder.read("slow/comparison.html").contains("<svg"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_was_measured() {
    use std::{io::BufRead, process::Stdio};
    let folder = Folder::new("interrupted");
    let sweep = "name = 'long'\npasses = 1\nseconds = 0.02\n\
                 [[curve]]\nvary = 'batch'\nvalues = [1]\ntargets = ['epoq']\n\
                 [[curve]]\nvary = 'time'\nvalues = ['10min']\ntargets = ['epoq']\n";
    std::fs::write(folder.0.join("long.toml"), sweep).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_epoq-bench"))
        .args([
            "suite",
            "--config",
            &folder.path("long.toml"),
            "--out",
            &folder.path("run"),
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(child.stderr.take().unwrap()).lines();
    // The first curve is done: the second would take ten minutes.
    assert!(lines.any(|line| line.unwrap().starts_with("batch ")));
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let signalled = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(signalled.success());
    // Read on, so that the process may write.
    lines.for_each(drop);
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{status:?}");
    let results: Value = serde_json::from_str(&folder.read("run/results.json")).unwrap();
    assert_eq!(
        (&results["interrupted"], &results["verified"]),
        (&true.into(), &true.into())
    );
    assert!(
        results["curves"]
            .as_array()
            .is_some_and(|curves| !curves.is_empty())
    );
    assert!(folder.read("run/index.html").contains("Interrupted"));
}

#[test]
fn mistakes_in_a_sweep_are_usage_errors() {
    let folder = Folder::new("mistake");
    std::fs::write(
        folder.0.join("bad.toml"),
        "name = 'x'\n[[curve]]\nvary = 'colour'\ntargets = []\n",
    )
    .unwrap();
    let output = bench(&format!("suite --config {}", folder.path("bad.toml")));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let unknown = bench("suite --only nonsense");
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    let missing = bench("report /nonexistent/results");
    assert_eq!(missing.status.code(), Some(3), "{missing:?}");
}

/// Ctrl-C after the first passes: they are printed, and the exit code says that there are not all.
#[cfg(unix)]
#[test]
fn what_was_compared_until_ctrl_c_is_printed() {
    let arguments =
        "compare lifecycle --targets locked,seg-queue --threads 1 --seconds 0.1 --passes 1000 --json";
    let output = signalled_late_enough(arguments, "-INT", |output| {
        has_entries(&output.stdout, "targets", 2)
    });
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["interrupted"], &report["verified"]),
        (&true.into(), &true.into())
    );
    assert_eq!(
        report["targets"].as_object().map(|targets| targets.len()),
        Some(2),
        "{report}"
    );
}

#[test]
fn a_suites_file_is_printed_and_listed() {
    let printed = String::from_utf8(bench("suite --print-config").stdout).unwrap();
    assert!(printed.contains("[[curve]]"), "{printed}");
    let listed = String::from_utf8(bench("suite full --list").stdout).unwrap();
    assert!(
        listed.contains("threads-batch-10") && listed.contains("points, about"),
        "{listed}"
    );
}

/// Starts it, sends it a signal after a while, and answers how it ended.
#[cfg(unix)]
fn signalled(arguments: &str, signal: &str, after: std::time::Duration) -> Output {
    use std::process::Stdio;
    let process = Command::new(env!("CARGO_BIN_EXE_epoq-bench"))
        .args(arguments.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(after);
    let sent = Command::new("kill")
        .args([signal, &process.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    process.wait_with_output().unwrap()
}

/// As `signalled`, each time later until `is_enough`: how far it comes goes by what else the machine does.
#[cfg(unix)]
fn signalled_late_enough(arguments: &str, signal: &str, is_enough: impl Fn(&Output) -> bool) -> Output {
    let signalled = |seconds| signalled(arguments, signal, std::time::Duration::from_secs(seconds));
    [4, 8, 16]
        .into_iter()
        .map(signalled)
        .find(is_enough)
        .unwrap_or_else(|| signalled(32))
}

/// Whether these are JSON, with so many entries under this name: an object's or a list's.
#[cfg(unix)]
fn has_entries(json: &[u8], name: &str, count: usize) -> bool {
    serde_json::from_slice(json).is_ok_and(|report: Value| match &report[name] {
        Value::Object(entries) => entries.len() == count,
        Value::Array(entries) => entries.len() == count,
        _ => false,
    })
}

#[cfg(unix)]
#[test]
fn what_a_scenario_measured_until_ctrl_c_is_printed() {
    let arguments = "fifo --groups 100 --threads 1 --batch 10 --seconds 0.1 --passes 1000 --json";
    let output = signalled_late_enough(arguments, "-INT", |output| {
        has_entries(&output.stdout, "figures", 3)
    });
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["interrupted"], &report["verified"]),
        (&true.into(), &true.into())
    );
    let figures = report["figures"].as_object().unwrap();
    assert_eq!(figures.len(), 3, "{report}");
    assert!(
        figures
            .values()
            .all(|figure| figure["value"].as_f64() > Some(0.0)),
        "{report}"
    );
}

/// A pass of four minutes is not waited for, nor are those that would follow.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_fifo_pass() {
    let begin = std::time::Instant::now();
    let arguments = "fifo --groups 1,100 --threads 1 --batch 1 --seconds 240 --passes 3";
    let output = signalled(arguments, "-INT", std::time::Duration::from_secs(2));
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing was measured"));
    assert!(output.stdout.is_empty() && begin.elapsed().as_secs() < 120);
}

/// Nobody can say more once it is killed, so the file says it before.
#[cfg(unix)]
#[test]
fn what_a_killed_suite_left_says_that_it_is_not_all() {
    let folder = Folder::new("killed");
    let sweep = "name = 'long'\npasses = 2\nseconds = 0.02\n\
                 [[curve]]\nvary = 'batch'\nvalues = [1]\ntargets = ['epoq']\n\
                 [[curve]]\nvary = 'groups'\nvalues = [1]\nseconds = 200\ntargets = ['epoq']\n";
    std::fs::write(folder.0.join("long.toml"), sweep).unwrap();
    for stale in ["index.html", "summary.md", "comparison.html"] {
        std::fs::create_dir_all(folder.0.join("run")).unwrap();
        std::fs::write(folder.0.join("run").join(stale), "of another run").unwrap();
    }
    let arguments = format!(
        "suite --config {} --out {}",
        folder.path("long.toml"),
        folder.path("run")
    );
    let file = folder.0.join("run/results.json");
    let has_a_curve =
        |_: &Output| std::fs::read(&file).is_ok_and(|results| has_entries(&results, "curves", 1));
    let output = signalled_late_enough(&arguments, "-KILL", has_a_curve);
    assert_eq!(output.status.code(), None, "{output:?}");
    let results: Value = serde_json::from_str(&folder.read("run/results.json")).unwrap();
    assert_eq!(
        (
            &results["interrupted"],
            results["curves"].as_array().map(Vec::len)
        ),
        (&true.into(), Some(1))
    );
    assert!(folder.read("run/index.html").contains("Interrupted"));
    assert!(folder.read("run/summary.md").contains("Interrupted"));
    assert!(!folder.0.join("run/comparison.html").exists());

    // The curve under way is cut short by Ctrl-C, and what was written before stays.
    std::fs::remove_file(&file).unwrap();
    let output = signalled_late_enough(&arguments, "-INT", has_a_curve);
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let results: Value = serde_json::from_str(&folder.read("run/results.json")).unwrap();
    assert_eq!(results["curves"].as_array().map(Vec::len), Some(1), "{results}");
}
