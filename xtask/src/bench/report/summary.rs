//! What follows from the measurements: this program's figures divided by the best peer's, so that
//! less than 1 is better than every peer.

use serde_json::{Map, Value, json};

use super::measures::{
    DURABLE, Measure, NEXT_SILENCE, PAUSE, RESTORE, SILENCE, STORED_OVER_CHANGED,
};
use super::{p50, rounded};
use crate::bench::contender;
use crate::bench::guest::Dirtying;
use crate::bench::results::{Case, Results, Row};

const MIB: f64 = 1_048_576.0;
/// The case that the ratios are of, if it was measured.
const HEADLINE_RAM_MIB: u64 = 4096;
const HEADLINE_LOAD: Dirtying = Dirtying::Rate(20);

/// By name.
pub fn of(results: &Results) -> Map<String, Value> {
    let mut all = Map::new();
    let Some(case) = headline(results) else {
        return all;
    };
    let case_is = json!({ "ram_mib": case.ram_mib, "dirtying": case.load.dirtying });
    all.insert("ratios_are_of".into(), case_is);
    for comparison in COMPARISONS {
        let against = comparison.best_peer(case);
        let ratio = |ours: Option<f64>| {
            let (_, theirs) = against?;
            Some(rounded(ours? / theirs))
        };
        let own = our_row(case).and_then(|row| comparison.measure.series(row));
        let worst = own.as_ref().map(|own| own.worst);
        let name = comparison.name;
        all.insert(
            format!("{name}_ratio_{}", comparison.of),
            ratio(p50(own)).into(),
        );
        all.insert(
            format!("{name}_worst_ratio_{}", comparison.of),
            ratio(worst).into(),
        );
        all.insert(
            format!("{name}_{}", comparison.of),
            against.map(|(peer, _)| peer).into(),
        );
    }
    let by_ram = |figure: fn(&Case) -> Option<f64>| -> Value {
        let cases = results.cases.iter();
        let cases = cases.filter(|case| case.load.dirtying == HEADLINE_LOAD);
        let figures =
            cases.filter_map(|case| Some((case.ram_mib.to_string(), rounded(figure(case)?))));
        Value::Object(figures.collect())
    };
    let own = |measure: &'static Measure| our_row(case).and_then(|row| measure.series(row));
    let stored = own(&STORED_OVER_CHANGED);
    let worst_stored = stored.as_ref().map(|series| rounded(series.worst));
    all.insert(
        "stored_over_changed".into(),
        p50(stored).map(rounded).into(),
    );
    all.insert("stored_over_changed_worst".into(), worst_stored.into());
    all.insert(
        "event_pause_p50_ms".into(),
        by_ram(|case| p50(PAUSE.series(our_row(case)?))),
    );
    all.insert("disk_write_share".into(), by_ram(disk_write_share));
    all.insert(
        "restore_p50_ms".into(),
        by_ram(|case| p50(RESTORE.series(our_row(case)?))),
    );
    all.insert(
        "restore_growth_1_to_8_gib".into(),
        restore_growth(results).map(rounded).into(),
    );
    let next = p50(own(&NEXT_SILENCE)).zip(p50(own(&SILENCE)));
    let next = next.map(|(after, before)| rounded(after / before));
    all.insert("restored_pause_ratio".into(), next.into());
    all
}

/// Something that this program is to be better at than the best of some peers.
struct Comparison {
    name: &'static str,
    of: &'static str,
    measure: &'static Measure,
    among: fn(&str) -> bool,
}

const COMPARISONS: &[Comparison] = &[
    Comparison {
        name: "pause",
        of: "best_peer",
        measure: &SILENCE,
        among: |_| true,
    },
    Comparison {
        name: "total",
        of: "best_live_peer",
        measure: &DURABLE,
        among: contender::keeps_running,
    },
    Comparison {
        name: "restore",
        of: "best_peer",
        measure: &RESTORE,
        among: |_| true,
    },
];

impl Comparison {
    /// The name, and the middle value.
    fn best_peer<'a>(&self, case: &'a Case) -> Option<(&'a str, f64)> {
        let peers = case
            .rows
            .iter()
            .filter(|row| !contender::is_ours(&row.contender) && (self.among)(&row.contender));
        let figures =
            peers.filter_map(|row| Some((row.contender.as_str(), p50(self.measure.series(row))?)));
        figures.min_by(|one, other| one.1.total_cmp(&other.1))
    }
}

/// The case of the bars, or else the first.
pub fn headline(results: &Results) -> Option<&Case> {
    let is_it =
        |case: &&Case| case.ram_mib == HEADLINE_RAM_MIB && case.load.dirtying == HEADLINE_LOAD;
    let cases = &results.cases;
    cases.iter().find(is_it).or_else(|| cases.first())
}

/// This program's live snapshots.
pub fn our_row(case: &Case) -> Option<&Row> {
    case.rows
        .iter()
        .find(|row| row.contender == contender::OURS)
}

/// How fast the first snapshot, which must write everything, becomes durable, as a share of what the
/// disk can write.
fn disk_write_share(case: &Case) -> Option<f64> {
    let first = our_row(case)?.snapshots.first()?;
    let speed = first.grown_bytes / MIB / (first.durable_ms / 1000.0);
    Some(speed / case.disk.best_mib_per_second()?)
}

fn restore_growth(results: &Results) -> Option<f64> {
    let at = |ram_mib| {
        let mut cases = results.cases.iter();
        let case =
            cases.find(|case| case.ram_mib == ram_mib && case.load.dirtying == HEADLINE_LOAD)?;
        p50(RESTORE.series(our_row(case)?))
    };
    Some(at(8192)? / at(1024)?)
}
