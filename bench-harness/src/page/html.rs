//! The page: the machine and its limits first, then how to make it again, then the figures with aims, then the curves.

use maud::{DOCTYPE, Markup, html};

use super::{
    curves::{self, Section},
    headlines::{self, Headline},
    method, plot, scaling,
    words::{self, Table},
};
use crate::suite::{
    axis::{Vary, bytes, short},
    results::Results,
};

/// The whole page.
pub fn page(results: &Results) -> String {
    let title = format!("epoq: {} suite on {} cores", results.name, results.cores());
    let headlines = headlines::of(results);
    let sections = sections(results);
    let body = html! {
        header {
            h1 { "epoq, measured" }
            p.lead {
                "epoq is an in-memory message ledger with the semantics of Amazon SQS. Here it is measured against a textbook queue behind one mutex, against "
                "what that can be made, and against bare channels. What is counted are life cycles: one message sent, received and deleted. A message that was received is leased: nobody "
                "else receives it until it is deleted or its time is over. "
                @if results.verified {
                    "Every point of every curve is made of passes that each settled their books: nothing was lost, altered, or leased twice at a time."
                }
            }
            nav {
                a href="#machine" { "Machine and limits" }
                a href="#again" { "Make it again" }
                @if !headlines.is_empty() { a href="#aims" { "Aims" } }
                a href="#method" { "How it was measured" }
                @for section in &sections { a href=(format!("#{}", section.id)) { (section.title) } }
            }
        }
        (machine(results))
        (again(results))
        h2 { "In short" }
        (tiles(results))
        @if !headlines.is_empty() { (aims(&headlines)) }
        h2 id="method" { "How it was measured" }
        dl { @for (what, text) in method::items(results) { dt { (what) } dd { (text) } } }
        h2 id="curves" { "Curves" }
        p {
            (lines(results)) " Points are the medians of the passes; bands and bars go from the slowest pass to the fastest. Point at a marker for its figures. "
            "Where rows are marked with *, there were more threads than cores."
        }
        @for section in &sections { (render(section)) }
        footer {
            p {
                "Made by " code { (results.command) } " at commit " (results.commit) ", " (results.started) ", from results.json of schema "
                (results.schema) ". No script, no font, no image is loaded by this page."
            }
        }
    };
    document(&title, &body)
}

/// A document with the style of all pages.
pub fn document(title: &str, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (plot::style()) }
            }
            body { main { (body) } }
        }
    }
    .into_string()
}

/// All sections in the order of [`Vary::ALL`], whatever the order of measuring was; a law after the curve it is fitted to.
pub fn sections(results: &Results) -> Vec<Section> {
    let mut sections = Vec::new();
    let mut curves: Vec<_> = results.curves.iter().collect();
    curves.sort_by_key(|curve| Vary::ALL.iter().position(|&vary| vary == curve.vary));
    for curve in curves {
        sections.push(curves::section(curve, results));
        sections.extend(scaling::section(curve, results));
    }
    sections
}

fn tiles(results: &Results) -> Markup {
    let ledger = |id: &str| results.curve(id).and_then(|curve| curve.line("epoq"));
    let rate = |id: &str, x: f64| Some(words::rate(ledger(id)?.at(x)?.rate()?.median));
    let bytes_each = || {
        let point = ledger("backlog")?
            .points
            .iter()
            .rev()
            .find(|point| point.bytes_per_message().is_some())?;
        Some((
            format!("{:.0} B", point.bytes_per_message()?),
            point.label.clone(),
        ))
    };
    let over_locked = || {
        let curve = results.curve("threads")?;
        let x = results.cores() as f64;
        let over = curve.line("epoq")?.at(x)?.over(curve.line("locked")?.at(x)?)?;
        // What the table does not state, the tile does not either.
        over.is_meaningful().then(|| words::ratio(over.median))
    };
    html! {
        div.tiles {
            @if let Some(rate) = rate("threads", 1.0) {
                div.tile { b { (rate) } span { "life cycles on one thread, one message per call" } }
            }
            @if let Some(rate) = rate("threads-batch-10", results.cores() as f64) {
                div.tile { b { (rate) } span { "life cycles on " (results.cores()) " threads, batches of ten" } }
            }
            @if let Some(over) = over_locked() {
                div.tile { b { (over) } span { "as fast as the queue behind one mutex, on " (results.cores()) " threads" } }
            }
            @if let Some((each, queued)) = bytes_each() {
                div.tile { b { (each) } span { "of memory for each message beyond its body, " (queued) " queued" } }
            }
        }
    }
}

/// What the lines of all curves are called, and what that is.
pub fn lines(results: &Results) -> String {
    let named = |name: &str| {
        results
            .curves
            .iter()
            .flat_map(|curve| &curve.lines)
            .any(|line| line.target == name)
    };
    let mut known = Vec::new();
    for (name, what) in [
        ("epoq", "epoq is the ledger"),
        ("locked", "locked the textbook queue behind one mutex"),
        ("locked-slab", "locked-slab the same without hashing and trees"),
        (
            "locked-sharded",
            "locked-sharded one of those for each core, which share their work",
        ),
        ("locked-fifo", "locked-fifo its FIFO queue"),
    ] {
        if named(name) {
            known.push(what.to_owned());
        }
    }
    let mut bare: Vec<String> = Vec::new();
    for line in results.curves.iter().flat_map(|curve| &curve.lines) {
        if !line.leases && !bare.contains(&line.target) {
            bare.push(line.target.clone());
        }
    }
    let mut text = if known.is_empty() {
        String::new()
    } else {
        format!("{}.", words::list(&known))
    };
    if !bare.is_empty() {
        let (are, have) = if bare.len() == 1 {
            ("hands", "has")
        } else {
            ("hand", "have")
        };
        text.push_str(&format!(
            " {} only {are} messages over and {have} no lease, no redelivery and nothing to delete: a life cycle there is a send and a receive.",
            words::list(&bare)
        ));
    }
    text.trim().to_owned()
}

/// What a reader has to know before any figure.
pub fn limits(results: &Results) -> Vec<String> {
    let mut limits = Vec::new();
    let cores = results.cores();
    if cores < 8 {
        limits.push(format!(
            "{cores} core{}: nothing here says what sixteen or sixty-four will do. Whatever is said about more is a prediction and marked as one.",
            if cores == 1 { "" } else { "s" }
        ));
    }
    let is_guest = results
        .machine
        .get("virtual_machine")
        .and_then(serde_json::Value::as_bool);
    match is_guest {
        Some(false) => {}
        None => limits.push("Nothing tells whether this is a virtual machine; if it is, read ratios rather than speeds.".into()),
        Some(true) => limits.push(
            "A virtual machine: its cores may be the two halves of one, its clock and its caches are shared with guests that nobody here can see. \
             Read ratios, whose two sides ran in turn, rather than speeds."
                .into(),
        ),
    }
    match results.other_work {
        Some(work) if work.cores_used_by_others + work.cores_stolen >= 0.05 => limits.push(format!(
            "The machine had other work: while the suite ran, other processes took {} of {cores} cores on average and the hypervisor {}. \
             Figures are lower and ranges wider than on a quiet machine.",
            short(words::three_digits(work.cores_used_by_others)),
            short(words::three_digits(work.cores_stolen))
        )),
        Some(_) => limits.push("No other work to speak of: less than a twentieth of a core while the suite ran.".into()),
        None => limits.push("This system does not tell whether there was other work.".into()),
    }
    if results.machine.get("pinned").and_then(serde_json::Value::as_bool) == Some(false) {
        limits.push("Threads could not be pinned to cores here.".into());
    }
    let shortest = results
        .curves
        .iter()
        .filter_map(|curve| curve.setting("seconds"))
        .fold(f64::INFINITY, f64::min);
    if shortest < 0.5 {
        limits.push(format!(
            "Passes are short, from {} s each: good for the shape of a curve, not for the last five percent. The full suite and a larger --pace measure longer.",
            short(shortest)
        ));
    }
    limits
}

fn machine(results: &Results) -> Markup {
    let memory = results.machine_number("memory_bytes").map(bytes);
    let known = [
        "cpu",
        "cores",
        "memory_bytes",
        "kernel",
        "virtual_machine",
        "rustc",
        "target",
        "flags",
        "allocator",
        "pinned",
        "physical_cores",
        "topology",
    ];
    let findings = results.findings();
    html! {
        h2 id="machine" { "The machine, and its limits" }
        @if results.is_unfinished() {
            div.note { p { strong { "Interrupted: " } (results.points()) " of " (results.points_planned) " points were measured before it was stopped." } }
        }
        @if results.verified {
            div.note { ul { @for limit in limits(results) { li { (limit) } } } }
        } @else {
            div class="note wrong" {
                p { strong { "Not verified." } " Messages were lost, altered or leased twice; no figure below means anything." }
                ul { @for finding in findings.iter().take(20) { li { (finding) } } }
            }
        }
        dl {
            dt { "Processor" } dd { (results.machine_text("cpu")) ", " (results.cores()) " cores" @if let Some(physical) = results.machine_number("physical_cores") { " (" (physical) " physical)" } @if let Some(memory) = memory { ", " (memory) } }
            dt { "System" } dd { (results.machine_text("kernel")) @if results.machine.get("virtual_machine") == Some(&true.into()) { ", virtual machine" } }
            dt { "Build" } dd { (results.machine_text("rustc")) " for " (results.machine_text("target")) ", " (results.machine_text("flags")) ", " (results.machine_text("allocator")) }
            dt { "Source" } dd { "commit " (results.commit) ", seed " (results.seed) }
            dt { "Run" } dd { (results.started) ", took " (words::duration(results.seconds)) ", " (results.points()) " points" }
            @for (name, value) in &results.machine {
                @if !known.contains(&name.as_str()) && !value.is_null() && !value.is_object() && !value.is_array() {
                    dt { (name.replace('_', " ")) } dd { (value.as_str().map_or_else(|| value.to_string(), str::to_owned)) }
                }
            }
        }
    }
}

fn again(results: &Results) -> Markup {
    html! {
        h2 id="again" { "Make it again" }
        p { "With a stable Rust toolchain and nothing else, in the source tree:" }
        pre { code { "cargo run --release -p epoq-bench -- " (results.command.trim_start_matches("epoq-bench ")) } }
        p { "Each point can be measured alone, too; its command stands under the table of its curve." }
    }
}

fn aims(headlines: &[Headline]) -> Markup {
    html! {
        h2 id="aims" { "Aims" }
        p { (headlines::tally(headlines)) " Ratios are the ledger's throughput over the other's, pass by pass." }
        div.scroll { table {
            thead { tr { th { "what" } th { "median and range" } th { "95 % interval" } th { "cores apart" } th { "aim" } th { "met" } } }
            tbody {
                @for headline in headlines {
                    tr {
                        td.wrap { (headline.what) @if !headline.over.is_empty() { span.range { "over " (headline.over) } } }
                        td {
                            strong { (headline.median_words()) }
                            @if let Some(range) = headline.range_words() { span.range { (range) } }
                        }
                        td { (headline.interval_words().unwrap_or_else(|| "–".into())) }
                        td { (headline.apart_words().unwrap_or_else(|| "–".into())) }
                        td { (headline.aim_words()) }
                        td { span class=[headline.met().known().map(|met| if met { "yes" } else { "no" })] { (headline.met().word()) } }
                    }
                }
            }
        } }
    }
}

/// A section.
pub fn render(section: &Section) -> Markup {
    html! {
        section {
            h3 id=(section.id) { (section.title) span.settings { (section.settings) } }
            @for sentence in &section.sentences { p { (sentence) } }
            @for plot in &section.plots { (plot.draw()) }
            (table(&section.table))
            @if !section.commands.is_empty() {
                details {
                    summary { "Commands that measure one point alone" }
                    pre { code { @for (label, command) in &section.commands { "# " (label) "\n" (command) "\n" } } }
                }
            }
        }
    }
}

/// A table.
pub fn table(table: &Table) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { @for head in &table.heads { th { (head) } } } }
            tbody {
                @for row in &table.rows {
                    tr class=[row.is_over.then_some("over")] {
                        @for cell in &row.cells {
                            td { (cell.text) @if let Some(range) = &cell.range { span.range { (range) } } }
                        }
                    }
                }
            }
        } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_loads_nothing_and_says_its_limits_first() {
        let results = Results::sample();
        let page = page(&results);
        for outside in ["<script", "http://", "https://", "<img", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        let place = |words: &str| {
            page.find(words)
                .unwrap_or_else(|| panic!("no {words} in the page"))
        };
        assert!(place("id=\"machine\"") < place("id=\"again\""));
        assert!(place("id=\"again\"") < place("In short"));
        assert!(place("id=\"again\"") < place("id=\"curves\""));
        assert!(place("id=\"method\"") < place("id=\"curves\""));
        // What a life cycle is stands before the first figure that counts them.
        assert!(place("one message sent, received and deleted") < place("class=\"tiles\""));
        assert!(!page.contains("NaN"));
        assert!(page.contains("took 27 s, ") && !page.contains(" minutes"));
        assert!(page.matches("<svg").count() >= 2 * results.curves.len());
    }

    #[test]
    fn a_machine_that_tells_nothing_may_be_a_guest() {
        let mut results = Results::sample();
        let mut limits_of = |value: serde_json::Value| {
            results.machine.insert("virtual_machine".into(), value);
            limits(&results).join(" ")
        };
        assert!(limits_of(true.into()).contains("A virtual machine:"));
        assert!(!limits_of(false.into()).contains("virtual machine"));
        assert!(limits_of(serde_json::Value::Null).contains("Nothing tells whether"));
    }

    #[test]
    fn a_tile_does_not_state_what_the_table_refuses() {
        let mut results = Results::sample();
        let tile = "as fast as the queue behind one mutex";
        let spread = |results: &mut Results, factor: f64| {
            let curve = results.curve_mut("threads").unwrap();
            for line in curve.lines.iter_mut().filter(|line| line.target == "epoq") {
                for point in &mut line.points {
                    for (index, pass) in point.passes.iter_mut().enumerate() {
                        pass.messages = 1_000_000;
                        pass.seconds = factor.powi(index as i32);
                    }
                }
            }
            for line in curve.lines.iter_mut().filter(|line| line.target == "locked") {
                for pass in line.points.iter_mut().flat_map(|point| &mut point.passes) {
                    (pass.messages, pass.seconds) = (1_000_000, 1.0);
                }
            }
        };
        spread(&mut results, 1.0);
        assert!(page(&results).contains(tile));
        spread(&mut results, 2.0);
        assert!(!page(&results).contains(tile));
    }

    #[test]
    fn a_wrong_answer_is_not_hidden() {
        let mut results = Results::sample();
        results.verified = false;
        results.curves[0].lines[0].points[0]
            .findings
            .push("3 messages lost".into());
        let page = page(&results);
        assert!(page.contains("Not verified") && page.contains("3 messages lost"));
        assert!(!page.contains("nothing was lost"));
    }
}
