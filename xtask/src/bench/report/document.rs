//! Results as a part of `docs/performance.md`, with a chart beside it.

use std::fs;

use super::measures::{
    COMMAND, DELETE, DURABLE, GROWN, Measure, NEXT_SILENCE, PAUSE, RESIDENT, RESTORE, SILENCE,
    STORED_OVER_CHANGED,
};
use super::{chart, digits, machine, p50, summary, title};
use crate::bench::contender;
use crate::bench::results::{Case, Results, Row};
use crate::{Failure, Outcome, workspace};

const DOCUMENT: &str = "docs/performance.md";
const CHART: &str = "docs/performance.svg";
/// Between these two lines, everything is ours.
const BEGIN: &str = "<!-- results of `cargo xtask bench snapshot --write-docs`: begin -->";
const END: &str = "<!-- results: end -->";

/// Writes both.
pub fn write(results: &Results) -> Outcome {
    let path = workspace::root().join(DOCUMENT);
    let text = replace(&fs::read_to_string(&path)?, &part(results))?;
    if let Some(case) = summary::headline(results) {
        fs::write(workspace::root().join(CHART), chart::of(case))?;
    }
    fs::write(path, text)?;
    eprintln!("written: {DOCUMENT}, {CHART}");
    Ok(())
}

fn replace(document: &str, part: &str) -> Result<String, Failure> {
    let missing = || format!("{DOCUMENT} has no lines\n{BEGIN}\n{END}\nto write between");
    let (before, rest) = document.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok(format!("{before}{BEGIN}\n\n{part}\n{END}{after}"))
}

fn part(results: &Results) -> String {
    let mut text = format!(
        "Measured {}.\n\n",
        results.date.split('T').next().unwrap_or_default()
    );
    text += &machine(&results.host).replace('\n', "  \n");
    text += ".\n\n![Pause, time to durable and restore of all contenders](performance.svg)\n";
    for case in &results.cases {
        text += &format!("\n### {}\n\n{}", title(case), case_table(case));
        for row in &case.rows {
            if let Some(memory) = &row.memory {
                text += &format!("\nMemory of `{}`: {memory}\n", row.contender);
            }
            if let Some(failure) = &row.failure {
                let failure = failure.lines().next().unwrap_or_default();
                text += &format!("\n`{}` did not come to its end: {failure}\n", row.contender);
            }
        }
    }
    text + "\n### What follows\n\n"
        + &ratios(results)
        + "\n### Where the program loses\n\n"
        + &losses(results)
}

/// Of each contender, the middle one and the worst.
fn case_table(case: &Case) -> String {
    const COLUMNS: &[(&str, &Measure)] = &[
        ("silence", &SILENCE),
        ("pause by events", &PAUSE),
        ("command", &COMMAND),
        ("durable", &DURABLE),
        ("MiB stored", &GROWN),
        ("stored / changed", &STORED_OVER_CHANGED),
        ("restore", &RESTORE),
        ("resident", &RESIDENT),
        ("silence, restored", &NEXT_SILENCE),
        ("delete", &DELETE),
    ];
    let heads: Vec<&str> = COLUMNS.iter().map(|(head, _)| *head).collect();
    let mut text = format!("| | n | {} |\n|---|---|", heads.join(" | "));
    text += &"---|".repeat(COLUMNS.len());
    text += "\n";
    for row in &case.rows {
        text += &format!("| `{}` | {} |", row.contender, row.snapshots.len());
        for (_, measure) in COLUMNS {
            text += &match measure.series(row) {
                Some(series) if series.each.len() == 1 => format!(" {} |", digits(series.p50)),
                Some(series) => format!(" {} / {} |", digits(series.p50), digits(series.worst)),
                None => " – |".to_owned(),
            };
        }
        text += "\n";
    }
    text
}

fn ratios(results: &Results) -> String {
    let mut text = "| figure | value |\n|---|---|\n".to_owned();
    for (name, value) in summary::of(results) {
        text += &format!("| `{name}` | {} |\n", value.to_string().replace('"', ""));
    }
    text
}

/// Whatever a peer does better, by the middle values.
fn losses(results: &Results) -> String {
    const COMPARED: &[&Measure] = &[
        &SILENCE,
        &PAUSE,
        &COMMAND,
        &DURABLE,
        &GROWN,
        &RESTORE,
        &NEXT_SILENCE,
        &DELETE,
    ];
    let mut text = String::new();
    for case in &results.cases {
        let Some(own) = summary::our_row(case) else {
            continue;
        };
        for measure in COMPARED {
            let Some(ours) = p50(measure.series(own)) else {
                continue;
            };
            let better: Vec<String> = case
                .rows
                .iter()
                .filter_map(|row| better(row, measure, ours))
                .collect();
            if !better.is_empty() {
                text += &format!(
                    "- {} MiB, {}: {}: {} here, {}\n",
                    case.ram_mib,
                    case.load.dirtying,
                    measure.title,
                    digits(ours),
                    better.join(", ")
                );
            }
        }
    }
    if text.is_empty() {
        text = "In none of these figures, by the middle values.\n".into();
    }
    text
}

fn better(row: &Row, measure: &Measure, ours: f64) -> Option<String> {
    let theirs = p50(measure.series(row))?;
    let is_better = !contender::is_ours(&row.contender) && theirs < ours;
    is_better.then(|| format!("{} with `{}`", digits(theirs), row.contender))
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn only_the_part_between_the_two_lines_is_replaced() {
        let document = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = replace(&document, "new\n").expect("replaced");
        assert_eq!(new, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert!(replace("nothing", "new").is_err());
    }

    #[test]
    fn losses_are_told() {
        let text = part(&samples::usual());
        assert!(text.contains("| `rootvirt` | 3 | 30.0 / 40.0 |"), "{text}");
        assert!(
            text.contains("time to durable, ms: 2500 here, 2000 with `qmp`"),
            "{text}"
        );
        assert!(!text.contains("heartbeat, ms: 30.0 here"), "{text}");
    }

    #[test]
    fn the_document_of_this_project_has_a_place_for_results() {
        let document = fs::read_to_string(workspace::root().join(DOCUMENT)).expect("read");
        replace(&document, "new").expect("replaced");
    }
}
