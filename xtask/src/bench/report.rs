//! Results, told: a table for people, one line of JSON for programs, a document for readers.

mod chart;
pub mod document;
mod measures;
mod summary;

use serde_json::{Map, Value, json};

use super::host::Host;
use super::results::{Case, Results};
use super::statistics::Series;
use crate::Failure;
use measures::MEASURES;

/// Every measurement, and what follows from them.
pub fn table(results: &Results) -> String {
    let mut text = machine(&results.host);
    text += &format!("\n{}", results.date);
    for case in &results.cases {
        text += &format!("\n\n{}", title(case));
        for measure in MEASURES {
            for row in &case.rows {
                let Some(series) = measure.series(row) else {
                    continue;
                };
                let each: Vec<String> = series.each.iter().map(|x| digits(*x)).collect();
                text += &format!(
                    "\n{:<45} {:<20} p50 {:>8}  worst {:>8}  each {}",
                    measure.title,
                    row.contender,
                    digits(series.p50),
                    digits(series.worst),
                    each.join(" ")
                );
            }
        }
        for row in &case.rows {
            if let Some(memory) = &row.memory {
                text += &format!("\nmemory of {}: {memory}", row.contender);
            }
            if let Some(failure) = &row.failure {
                text += &format!("\n{} did not come to its end: {failure}", row.contender);
            }
        }
    }
    text += "\n";
    for (name, value) in summary::of(results) {
        text += &format!("\n{name:<45} {value}");
    }
    text
}

/// One line. It holds the results themselves, too, so that they can be read again.
pub fn json(results: &Results) -> Result<String, Failure> {
    let mut all = Map::new();
    all.insert("benchmark".into(), json!("snapshot"));
    all.extend(summary::of(results));
    if let Value::Object(everything) = serde_json::to_value(results)? {
        all.extend(everything);
    }
    Ok(Value::Object(all).to_string())
}

fn machine(host: &Host) -> String {
    let Host {
        processor,
        cores,
        ram_mib,
        kernel,
        qemu,
        libvirt,
        accelerator,
        transparent_huge_pages,
        huge_pages,
        load_average,
    } = host;
    format!(
        "{cores} processors ({processor}), {ram_mib} MiB, Linux {kernel}\n\
         QEMU {qemu}, {accelerator:?}; libvirt {libvirt}; transparent huge pages \
         {transparent_huge_pages}, {huge_pages} huge pages in the pool before the run; \
         load average before the run {load_average}"
    )
}

fn title(case: &Case) -> String {
    let direct = case.disk.best_mib_per_second().unwrap_or(0.0);
    format!(
        "Guest of {} MiB, {} MiB of it filled, dirtying: {}; the disk directly writes {direct:.0} MiB/s",
        case.ram_mib, case.load.filled_mib, case.load.dirtying
    )
}

/// Three digits that count.
fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        x if x >= 99.95 => 0,
        x if x >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

/// To three digits that count.
fn rounded(value: f64) -> Value {
    if !value.is_finite() || value <= 0.0 {
        return Value::Null;
    }
    let scale = 10_f64.powf(2.0 - value.log10().floor());
    json!((value * scale).round() / scale)
}

fn p50(series: Option<Series>) -> Option<f64> {
    Some(series?.p50)
}

#[cfg(test)]
pub mod samples {
    //! Results as they could be.

    use super::*;
    use crate::bench::contender::{Accelerator, Claims};
    use crate::bench::disk::DirectWrites;
    use crate::bench::guest::{Dirtying, Load};
    use crate::bench::results::{Restored, Row, Taken};

    const MIB: f64 = 1_048_576.0;

    pub fn row(contender: &str, silences: &[f64], durable_ms: f64, restore_ms: f64) -> Row {
        let snapshots = silences.iter().map(|&silence| Taken {
            pause_ms: Some(silence / 2.0),
            stops: 1,
            silence_ms: Some(silence),
            command_ms: durable_ms * 0.9,
            durable_ms,
            grown_bytes: 2200.0 * MIB,
            changed_bytes: Some(2000.0 * MIB),
            claims: Claims::default(),
        });
        Row {
            contender: contender.to_owned(),
            memory: None,
            idle_silence_ms: 5.0,
            snapshots: snapshots.collect(),
            deletes_ms: vec![20.0],
            restores: vec![Restored {
                first_beat_ms: restore_ms,
                start_to_beat_ms: restore_ms * 0.8,
                command_ms: restore_ms * 1.5,
                resident_ms: None,
            }],
            after_restore: Vec::new(),
            failure: None,
        }
    }

    pub fn results(rows: Vec<Row>) -> Results {
        Results {
            date: "2026-01-02T03:04:05Z".into(),
            host: Host {
                processor: "P".into(),
                cores: 2,
                ram_mib: 8,
                kernel: "6".into(),
                qemu: "10".into(),
                libvirt: "11".into(),
                accelerator: Accelerator::Tcg,
                transparent_huge_pages: "madvise".into(),
                huge_pages: 0,
                load_average: 0.5,
            },
            cases: vec![Case {
                ram_mib: 4096,
                load: Load::half(4096, Dirtying::Rate(20)),
                disk: DirectWrites {
                    bytes: 2048 << 20,
                    each_ms: vec![2500.0, 2000.0],
                },
                rows,
            }],
        }
    }

    pub fn usual() -> Results {
        results(vec![
            row("rootvirt", &[20.0, 40.0, 30.0], 2500.0, 200.0),
            row("virsh-internal", &[8000.0], 8000.0, 11_000.0),
            row(
                "virsh-external-live",
                &[1200.0, 1000.0, 1500.0],
                10_000.0,
                4500.0,
            ),
            row("qmp", &[6500.0], 2000.0, 4000.0),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_one_line_with_the_ratios_to_the_best_peers_and_can_be_read_again() {
        let results = samples::usual();
        let text = json(&results).expect("JSON");
        assert!(!text.contains('\n'));
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["pause_ratio_best_peer"], json!(0.025));
        assert_eq!(value["pause_worst_ratio_best_peer"], json!(0.0333));
        assert_eq!(value["total_ratio_best_live_peer"], json!(0.25));
        assert_eq!(value["restore_ratio_best_peer"], json!(0.05));
        assert_eq!(
            value["cases"][0]["rows"][0]["snapshots"][1]["silence_ms"],
            json!(40.0)
        );
        let again: Results = serde_json::from_str(&text).expect("results");
        assert_eq!(json(&again).expect("JSON"), text);
    }

    #[test]
    fn the_table_names_every_figure() {
        let text = table(&samples::usual());
        assert!(
            text.contains("p50     30.0  worst     40.0  each 20.0 40.0 30.0"),
            "{text}"
        );
        assert!(text.contains("Guest of 4096 MiB"), "{text}");
    }

    #[test]
    fn without_peers_there_are_no_ratios() {
        let alone = samples::results(vec![samples::row("rootvirt", &[1.0], 1.0, 1.0)]);
        let value: Value = serde_json::from_str(&json(&alone).expect("JSON")).expect("JSON");
        assert_eq!(value["pause_ratio_best_peer"], Value::Null);
    }
}
