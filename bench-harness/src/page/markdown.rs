//! The same as a summary in Markdown, for a README or a comment on a change.

use std::fmt::Write;

use super::{headlines, html, method, words::Table};
use crate::suite::results::Results;

/// The whole summary; `page` is where the plots are.
pub fn summary(results: &Results, page: &str) -> String {
    let mut text = format!("# epoq, measured: the {} suite\n\n", results.name);
    let _ = writeln!(
        text,
        "{}, {} cores, {}; {}; commit {}, {}, seed {}. Plots: [{page}]({page}).\n",
        results.machine_text("cpu"),
        results.cores(),
        results.machine_text("kernel"),
        results.machine_text("rustc"),
        results.commit,
        results.started,
        results.seed
    );
    text.push_str("Limits:\n\n");
    if results.is_unfinished() {
        let _ = writeln!(
            text,
            "* Interrupted: {} of {} points were measured.",
            results.points(),
            results.points_planned
        );
    }
    if !results.verified {
        text.push_str("* **Not verified: no figure below means anything.**\n");
        for finding in results.findings() {
            let _ = writeln!(text, "  * {finding}");
        }
    }
    for limit in html::limits(results) {
        let _ = writeln!(text, "* {limit}");
    }
    let _ = writeln!(
        text,
        "\nMake it again:\n\n```sh\ncargo run --release -p epoq-bench -- {}\n```\n",
        results.command.trim_start_matches("epoq-bench ")
    );
    let headlines = headlines::of(results);
    if !headlines.is_empty() {
        let _ = writeln!(text, "## Aims\n\n{}\n", headlines::tally(&headlines));
        text.push_str("| What | Over | Median | Range | 95 % interval | Cores apart | Aim | Met | Command |\n|---|---|---|---|---|---|---|---|---|\n");
        for headline in &headlines {
            let _ = writeln!(
                text,
                "| {} | {} | **{}** | {} | {} | {} | {} | {} | {} |",
                headline.what,
                if headline.over.is_empty() {
                    "–"
                } else {
                    &headline.over
                },
                headline.median_words(),
                headline.range_words().unwrap_or_else(|| "–".into()),
                headline.interval_words().unwrap_or_else(|| "–".into()),
                headline.apart_words().unwrap_or_else(|| "–".into()),
                headline.aim_words(),
                headline.met().word(),
                headline
                    .command
                    .split("; ")
                    .map(|command| format!("`{command}`"))
                    .collect::<Vec<_>>()
                    .join(", ")
            );
        }
    }
    let _ = writeln!(text, "\n## How it was measured\n\n{}\n", html::lines(results));
    for (what, words) in method::items(results) {
        let _ = writeln!(text, "* *{what}.* {words}");
    }
    for section in html::sections(results) {
        let _ = writeln!(text, "\n## {}\n\n{}\n", section.title, section.settings);
        let _ = writeln!(text, "{}\n", section.sentences.join(" "));
        table(&mut text, &section.table);
    }
    text
}

/// A table.
pub fn table(text: &mut String, table: &Table) {
    let _ = writeln!(text, "| {} |", table.heads.join(" | "));
    let _ = writeln!(
        text,
        "|---{}|",
        "|--:".repeat(table.heads.len().saturating_sub(1))
    );
    for row in &table.rows {
        let cells: Vec<String> = row
            .cells
            .iter()
            .enumerate()
            .map(|(index, cell)| {
                let mark = if row.is_over && index == 0 { " \\*" } else { "" };
                let range = cell
                    .range
                    .as_ref()
                    .map_or(String::new(), |range| format!(" ({range})"));
                format!("{}{mark}{range}", cell.text)
            })
            .collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_all_curves() {
        let results = Results::sample();
        let text = summary(&results, "index.html");
        for section in html::sections(&results) {
            assert!(
                text.contains(&format!("## {}", section.title)),
                "{}",
                section.title
            );
        }
        assert!(text.find("Limits:").unwrap() < text.find("## Aims").unwrap());
        assert!(text.contains("## How it was measured") && text.contains("* *Warm-up.* "));
        assert!(!text.contains("NaN"));
    }
}
