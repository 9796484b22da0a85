//! How figures were measured, as far as results tell, and what they do not tell.

use super::words;
use crate::{
    compare::Ratio,
    suite::{
        axis::{Vary, many, short},
        results::{Circumstances, Curve, PassRecord, Point, Results},
    },
};

/// A part of the method: what it is about, and what there is to say.
pub type Item = (&'static str, String);

/// All of it.
pub fn items(results: &Results) -> Vec<Item> {
    vec![
        ("Unit", unit()),
        ("Passes", passes(results)),
        ("Cores", cores(results)),
        ("Warm-up", warm_up(results)),
        ("Other work", other_work(results)),
        ("Distance of cores", distance(results)),
        ("The harness itself", harness(results)),
        ("Ratios", ratios()),
        ("Hardware counters", hardware(results)),
        ("Proof", proof(results)),
        (
            "Not recorded",
            "How fast the processor's clock ran while passes were measured, how warm it was, what other guests of the same host did to caches and memory, and which \
             pages of memory were large ones."
                .into(),
        ),
    ]
}

fn points(results: &Results) -> impl Iterator<Item = (&Curve, &Point)> {
    results.curves.iter().flat_map(|curve| {
        let points = curve.lines.iter().flat_map(|line| line.all_points());
        points.map(move |point| (curve, point))
    })
}

fn records(results: &Results) -> impl Iterator<Item = &PassRecord> {
    points(results).flat_map(|(_, point)| &point.passes)
}

fn circumstances(results: &Results) -> Vec<Circumstances> {
    records(results).filter_map(|pass| pass.circumstances).collect()
}

/// The least and the most of some figures.
fn extent(figures: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    figures.fold(None, |extent, figure| {
        let (low, high) = extent.unwrap_or((figure, figure));
        Some((low.min(figure), high.max(figure)))
    })
}

fn range((low, high): (f64, f64)) -> String {
    let (low, high) = (short(words::three_digits(low)), short(words::three_digits(high)));
    if low == high {
        low
    } else {
        format!("{low} to {high}")
    }
}

fn unit() -> String {
    "A life cycle is one message sent, received and deleted; for queues that only hand messages over it ends with the receive. Rates are life cycles \
     per second of all threads together, from the begin of the first to the end of the last; k, M and G stand for thousand, million and a thousand million."
        .into()
}

fn passes(results: &Results) -> String {
    let of_points = points(results).filter(|(curve, _)| curve.vary != Vary::Time);
    let Some(count) = extent(of_points.map(|(_, point)| point.passes.len() as f64)) else {
        return "Only the long run was measured, once for each target.".into();
    };
    let seconds = extent(results.curves.iter().filter_map(|curve| curve.setting("seconds")));
    let seconds = seconds.map_or_else(String::new, |seconds| format!(" of {} s", range(seconds)));
    let mut text = format!(
        "Each point is {} passes{seconds} of each target, all in one process. A curve is measured in rounds through all of its points and \
         all targets of a point, every second round backwards, so that a machine which changes its speed changes it for all of them.",
        range(count)
    );
    if results.curves.iter().any(|curve| curve.vary == Vary::Load) {
        text.push_str(
            " On the latency curve each target has arrivals of its own; results that give no range of its capacity are from when that curve went \
             point by point, one target after the other.",
        );
    }
    text
}

fn cores(results: &Results) -> String {
    match results.machine.get("pinned").and_then(serde_json::Value::as_bool) {
        Some(true) => {}
        Some(false) => return "Threads were not pinned to cores: this system does not allow it.".into(),
        None => return "Whether threads were pinned to cores is not recorded in these results.".into(),
    }
    let order = results
        .machine
        .get("topology")
        .and_then(serde_json::Value::as_str);
    format!(
        "Every thread was pinned to a core: one to a physical core as far as they go, those that share a last-level cache first, then those of \
         the same memory node, second hardware threads of a core last. {}",
        order.map_or_else(
            || "Which cores those were is not recorded in these results.".to_owned(),
            |order| format!("Found: {order}.")
        )
    )
}

fn warm_up(results: &Results) -> String {
    let recorded = circumstances(results);
    let told = match extent(recorded.iter().map(|it| it.warm_up_seconds)) {
        None => "How long that took, and whether it succeeded, is not recorded in these results.".to_owned(),
        Some(seconds) => {
            let unsteady = recorded.iter().filter(|it| !it.steady).count();
            format!(
                "That took {} s; {} of {} passes that tell had not come to a steady speed when the clock started.",
                range(seconds),
                if unsteady == 0 {
                    "none".to_owned()
                } else {
                    unsteady.to_string()
                },
                recorded.len()
            )
        }
    };
    let fifo = if results.curves.iter().any(|curve| curve.vary == Vary::Groups) {
        " Passes of FIFO queues warm up for a fixed time instead, of a fifth of the pass and at most 0.1 s."
    } else {
        ""
    };
    format!(
        "Before the clock starts, threads run for a fifth of the pass, at most 0.2 s, and then until the speeds of three spells in a row differ by less \
         than 5 %, for four times as long at most. {told}{fifo}"
    )
}

fn other_work(results: &Results) -> String {
    let whole = results.other_work.map_or_else(
        || "This system does not tell what other processes took.".to_owned(),
        |work| {
            format!(
                "On average over the whole suite, other processes took {} cores and the hypervisor {}.",
                short(words::three_digits(work.cores_used_by_others)),
                short(words::three_digits(work.cores_stolen))
            )
        },
    );
    let recorded = circumstances(results);
    if recorded.is_empty() {
        return format!(
            "{whole} How often threads lost their core in a single pass, and what the hypervisor took of it, is not recorded in these results."
        );
    }
    // Threads that take turns wait for each other, which is no noise.
    let (mut waited, mut stolen): (f64, f64) = (0.0, 0.0);
    let (mut preemptions, mut alone) = (0, 0);
    for (_, point) in points(results) {
        for pass in point.passes.iter().filter_map(|pass| pass.circumstances) {
            stolen = stolen.max(pass.stolen);
            if !point.oversubscribed {
                waited = waited.max(pass.waited);
                preemptions += pass.preemptions;
                alone += 1;
            }
        }
    }
    let own = if alone == 0 {
        String::new()
    } else {
        format!(
            " In {alone} passes that had a core for each thread, threads lost it {preemptions} times, and waited for it {} of their time in the worst pass.",
            words::percent(words::three_digits(waited))
        )
    };
    format!(
        "{whole} The hypervisor took {} of the machine in the worst pass.{own}",
        words::percent(words::three_digits(stolen))
    )
}

fn distance(results: &Results) -> String {
    let Some((near, far)) = extent(records(results).filter_map(|pass| pass.apart_ns).flatten()) else {
        return "How far cores are from each other is not recorded in these results.".into();
    };
    // All lines of a point have the same count.
    let repeated: usize = results
        .curves
        .iter()
        .filter_map(|curve| curve.lines.first())
        .flat_map(|line| &line.points)
        .map(|point| point.repeated)
        .sum();
    let rounds = match repeated {
        0 => "No round had".to_owned(),
        1 => "One round had".to_owned(),
        n => format!("{n} rounds had"),
    };
    format!(
        "Before and after passes of several threads, a cache line took {near:.0} to {far:.0} ns from one thread's core to another's and back. {rounds} to be \
         made anew because that had doubled within it; those of FIFO queues are kept as they are."
    )
}

fn harness(results: &Results) -> String {
    let of_points = || points(results).map(|(_, point)| point.harness_ns);
    let Some((low, high)) = extent(of_points().flatten()) else {
        return "What of each message's time is the harness's is not recorded in these results.".into();
    };
    let missing = if of_points().any(|known| known.is_none()) {
        " Of FIFO queues it is not measured."
    } else {
        ""
    };
    format!(
        "Making bodies, checking them and keeping the books takes {low:.1} to {high:.1} ns per message by the points of this page, more for longer \
         bodies, measured over a target that does next to nothing. It is the difference of two times that both copy the body, and of long ones not good to \
         more than some hundredths of that copy. It is the same for all targets and is not subtracted from any rate, so ratios are nearer to 1 than those of \
         the queues alone.{missing}"
    )
}

fn ratios() -> String {
    format!(
        "Formed round by round between passes that were made in turn. Beside the median stand the range of the passes and, for aims, the 95 % interval by \
         Student's t on the logarithms. A ratio of fewer than three passes is not stated, nor one whose interval spans more than a factor of {}. An aim is met if \
         all of the interval meets it, missed if none of it does, and otherwise not clear; what has no interval, bytes, is judged as it is. Intervals hold for \
         where the hypervisor had put the cores in that hour: another run, with the cores nearer to each other or farther, may lie beyond them.",
        Ratio::SPREAD_MAX
    )
}

fn hardware(results: &Results) -> String {
    let recorded = circumstances(results);
    let counts: Vec<_> = recorded.iter().filter_map(|it| it.hardware).collect();
    match (recorded.is_empty(), counts.is_empty()) {
        (true, _) => "Not recorded in these results.".into(),
        (false, true) => {
            "None: this machine has no counters, or does not let the harness read them; nothing is known of cycles and cache misses.".into()
        }
        (false, false) => {
            let each = |figure: fn(&crate::suite::results::Hardware) -> f64| {
                extent(counts.iter().map(figure)).map_or_else(String::new, range)
            };
            format!(
                "For each message, user mode only, over {} passes: {} cycles, {} instructions, {} misses of the last cache. Those of each pass are in results.json.",
                counts.len(),
                each(|it| it.cycles),
                each(|it| it.instructions),
                each(|it| it.cache_misses)
            )
        }
    }
}

fn proof(results: &Results) -> String {
    let (mut count, mut sent, mut deleted) = (0, 0, 0);
    for pass in records(results) {
        count += 1;
        sent += pass.sent;
        deleted += pass.deleted;
    }
    let many = |messages: u64| many(words::three_digits(messages as f64));
    format!(
        "The books of each pass were settled when its queue had been emptied. In {count} passes, {} messages were sent and {} deleted; {}.",
        many(sent),
        many(deleted),
        if results.verified {
            "none was lost, altered, or leased twice at a time"
        } else {
            "something was wrong, as said above"
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(results: &Results, name: &str) -> String {
        let items = items(results);
        let found = items.iter().find(|item| item.0 == name);
        found.unwrap().1.clone()
    }

    #[test]
    fn old_results_say_what_they_do_not_tell() {
        let results = Results::sample();
        for name in ["Cores", "Warm-up", "Other work", "Hardware counters"] {
            let text = item(&results, name);
            assert!(text.contains("ot recorded in these results"), "{name}: {text}");
        }
        assert!(
            item(&results, "Passes").starts_with("Each point is 3 passes of 0.05 to 0.1 s of each target")
        );
        for (name, text) in items(&results) {
            assert!(!text.contains("NaN") && text.ends_with('.'), "{name}: {text}");
        }
    }

    #[test]
    fn what_went_on_in_passes_is_told() {
        let mut results = Results::sample();
        results.machine.insert(
            "topology".into(),
            "2 physical cores, pinned to 0, 1 in this order".into(),
        );
        let mut is_first = true;
        for point in results
            .curves
            .iter_mut()
            .flat_map(|curve| &mut curve.lines)
            .flat_map(|line| &mut line.points)
        {
            for pass in &mut point.passes {
                pass.circumstances = Some(Circumstances {
                    warm_up_seconds: 0.25,
                    steady: !is_first,
                    waited: if is_first { 0.25 } else { 0.0 },
                    preemptions: if is_first { 17 } else { 0 },
                    stolen: if is_first { 0.125 } else { 0.0 },
                    hardware: None,
                });
                is_first = false;
            }
        }
        assert!(item(&results, "Cores").contains("pinned to 0, 1 in this order"));
        let warm_up = item(&results, "Warm-up");
        assert!(
            warm_up.contains("took 0.25 s; 1 of ") && !warm_up.contains("recorded"),
            "{warm_up}"
        );
        let other = item(&results, "Other work");
        for words in ["12.5 % of the machine", "lost it 17 times", "25 % of their time"] {
            assert!(other.contains(words), "{words}: {other}");
        }
        assert!(item(&results, "Hardware counters").starts_with("None"));
    }
}
