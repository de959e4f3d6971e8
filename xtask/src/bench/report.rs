//! Results: a table for people, one line of JSON for programs.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::contender::NAMES;
use super::guest::Load;
use super::host::Host;
use super::snapshot::Sample;
use super::statistics::Series;
use crate::Failure;

const MIB: f64 = 1_048_576.0;

/// A contender's samples.
#[derive(Debug)]
pub struct Row {
    pub contender: &'static str,
    pub samples: Vec<Sample>,
}

/// Everything a run found out.
pub struct Report {
    pub host: Host,
    pub ram_mib: u64,
    pub load: Load,
    pub rows: Vec<Row>,
}

/// Something that is compared: its key in JSON, its name in the table, where it comes from.
struct Measure {
    key: &'static str,
    title: &'static str,
    of: fn(&Sample) -> Option<f64>,
}

const PAUSE: Measure = Measure {
    key: "pause_ms",
    title: "pause by QEMU's events, ms",
    of: |sample| Some(sample.pause_ms),
};
const SILENCE: Measure = Measure {
    key: "silence_ms",
    title: "longest silence of the heartbeat, ms",
    of: |sample| Some(sample.silence_ms),
};
const TOTAL: Measure = Measure {
    key: "total_ms",
    title: "command from start to end, ms",
    of: |sample| Some(sample.command_ms),
};
const GROWN: Measure = Measure {
    key: "grown_mib",
    title: "growth on the disk, MiB",
    of: |sample| Some(sample.grown_bytes / MIB),
};
const MEASURES: &[Measure] = &[
    PAUSE,
    Measure {
        key: "stops",
        title: "times the guest was stopped",
        of: |sample| Some(sample.stops),
    },
    SILENCE,
    Measure {
        key: "idle_silence_ms",
        title: "the same without a snapshot, ms",
        of: |sample| Some(sample.idle_silence_ms),
    },
    TOTAL,
    GROWN,
    Measure {
        key: "own_pause_ms",
        title: "pause as it says itself, ms",
        of: |sample| sample.claims.pause_ms,
    },
    Measure {
        key: "own_durable_ms",
        title: "time to durable as it says itself, ms",
        of: |sample| sample.claims.durable_ms,
    },
    Measure {
        key: "own_stored_mib",
        title: "bytes stored as it says itself, MiB",
        of: |sample| Some(sample.claims.stored_bytes? / MIB),
    },
];

/// Of these, ours divided by each peer's: less than 1 is better than the peer.
const RATIOS: &[(&str, &Measure)] = &[
    ("pause_ratio", &PAUSE),
    ("silence_ratio", &SILENCE),
    ("total_ratio", &TOTAL),
    ("size_ratio", &GROWN),
];

impl Row {
    pub const fn new(contender: &'static str) -> Self {
        Self {
            contender,
            samples: Vec::new(),
        }
    }

    /// None if a sample lacks it.
    fn series(&self, measure: &Measure) -> Option<Series> {
        let each: Option<Vec<f64>> = self.samples.iter().map(measure.of).collect();
        Series::of(each?)
    }
}

impl Report {
    /// A table with every round, and the ratios.
    pub fn table(&self) -> String {
        let Host {
            processor,
            cores,
            ram_mib,
            kernel,
            qemu,
            libvirt,
            accelerator,
            load_average,
            ..
        } = &self.host;
        let mut text = format!(
            "{cores} cores ({processor}), {ram_mib} MiB, Linux {kernel}\n\
             QEMU {qemu}, {accelerator:?}; libvirt {libvirt}; load average before {load_average}\n\
             guest of {} MiB, {} MiB filled, {} MiB/s dirtied, a disk written to; \
             first snapshot of a fresh guest each time\n",
            self.ram_mib, self.load.filled_mib, self.load.dirty_mib_per_second,
        );
        for measure in MEASURES {
            for row in &self.rows {
                let Some(series) = row.series(measure) else {
                    continue;
                };
                let each: Vec<String> = series.each.iter().map(|x| format!("{x:.1}")).collect();
                let Series { p50, worst, .. } = series;
                text += &format!(
                    "\n{:<38} {:<15} p50 {p50:>9.1}  worst {worst:>9.1}  each {}",
                    measure.title,
                    row.contender,
                    each.join(" ")
                );
            }
        }
        for (name, ratio) in self.ratios() {
            text += &format!("\n{name:<38} {ratio}");
        }
        text
    }

    /// One line.
    pub fn json(&self) -> Result<String, Failure> {
        let contenders: Map<String, Value> = self
            .rows
            .iter()
            .map(|row| {
                let measures: Map<String, Value> = MEASURES
                    .iter()
                    .filter_map(|measure| Some((measure.key.into(), json!(row.series(measure)?))))
                    .collect();
                (row.contender.into(), Value::Object(measures))
            })
            .collect();
        let mut all = Map::from_iter(self.ratios());
        all.insert("benchmark".into(), json!("snapshot"));
        let now = OffsetDateTime::now_utc().format(&Rfc3339)?;
        all.insert("date".into(), json!(now));
        all.insert("host".into(), json!(self.host));
        all.insert("guest_ram_mib".into(), json!(self.ram_mib));
        all.insert("load".into(), json!(self.load));
        all.insert("contenders".into(), Value::Object(contenders));
        Ok(Value::Object(all).to_string())
    }

    /// Ours divided by the peers': of the middle values, and for the worst case our worst by their
    /// best.
    fn ratios(&self) -> Vec<(String, Value)> {
        let (own, peers): (Vec<&Row>, Vec<&Row>) = self
            .rows
            .iter()
            .partition(|row| NAMES.first() == Some(&row.contender));
        let mut ratios = Vec::new();
        for (own, peer) in own
            .iter()
            .flat_map(|own| peers.iter().map(move |p| (own, p)))
        {
            for (name, measure) in RATIOS {
                let (Some(ours), Some(theirs)) = (own.series(measure), peer.series(measure)) else {
                    continue;
                };
                let name = format!("{name}_{}", peer.contender.replace('-', "_"));
                let worst = rounded(ours.worst / theirs.best);
                ratios.push((name.clone(), rounded(ours.p50 / theirs.p50)));
                ratios.push((format!("{name}_worst"), worst));
            }
        }
        ratios
    }
}

/// To three digits that count.
fn rounded(ratio: f64) -> Value {
    if !ratio.is_finite() || ratio <= 0.0 {
        return Value::Null;
    }
    let scale = 10_f64.powf(2.0 - ratio.log10().floor());
    json!((ratio * scale).round() / scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::contender::{Accelerator, Claims};

    fn row(contender: &'static str, pauses: &[f64]) -> Row {
        let samples = pauses.iter().map(|&pause_ms| Sample {
            pause_ms,
            stops: 1.0,
            silence_ms: pause_ms + 5.0,
            idle_silence_ms: 5.0,
            command_ms: 1000.0,
            grown_bytes: 600.0 * MIB,
            claims: Claims::default(),
        });
        Row {
            contender,
            samples: samples.collect(),
        }
    }

    fn report(rows: Vec<Row>) -> Report {
        Report {
            host: Host {
                processor: "P".into(),
                cores: 2,
                ram_mib: 8,
                kernel: "6".into(),
                qemu: "10".into(),
                libvirt: "11".into(),
                accelerator: Accelerator::Tcg,
                transparent_huge_pages: "madvise".into(),
                load_average: 0.5,
            },
            ram_mib: 1024,
            load: Load::half(1024),
            rows,
        }
    }

    #[test]
    fn the_json_is_one_line_with_the_ratio_of_the_middle_pauses() {
        let rows = vec![
            row("rootvirt", &[10.0, 30.0, 20.0]),
            row("virsh-internal", &[1000.0, 800.0, 1200.0]),
        ];
        let report = report(rows);
        let text = report.json().expect("JSON");
        assert!(!text.contains('\n'));
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["pause_ratio_virsh_internal"], json!(0.02));
        assert_eq!(value["pause_ratio_virsh_internal_worst"], json!(0.0375));
        assert_eq!(value["total_ratio_virsh_internal"], json!(1.0));
        let own = &value["contenders"]["rootvirt"]["pause_ms"];
        assert_eq!(own["each"], json!([10.0, 30.0, 20.0]));
        assert_eq!(value["host"]["accelerator"], json!("tcg"));
        assert!(report.table().contains("p50      20.0  worst      30.0"));
    }

    #[test]
    fn one_contender_alone_has_no_ratios() {
        let value: Value = serde_json::from_str(
            &report(vec![row("virsh-internal", &[1.0])])
                .json()
                .expect("JSON"),
        )
        .expect("JSON");
        assert_eq!(value.get("pause_ratio_virsh_internal"), None);
    }
}
