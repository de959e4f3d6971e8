//! What is known of files beyond where they are: hashes of frozen layers, reports on snapshots, and
//! what taking them cost. Read when asked for, not at start.

use super::sql::{layer_of, parsed, path_text, rows, run, value};
use super::{Catalog, CatalogError, Change, JournalRow, Layer};
use crate::ids::{LayerId, SnapshotId};
use crate::integrity::sums::Sums;
use crate::model::Timestamp;
use rusqlite::{Connection, params};
use std::collections::HashMap;

/// How many measurements are kept.
const KEPT_MEASUREMENTS: i64 = 500;

/// What a report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReportKind {
    /// [`crate::integrity::Verification`].
    Verification,
    /// [`crate::rehearsal::Rehearsal`].
    Rehearsal,
}

impl ReportKind {
    fn as_str(self) -> &'static str {
        match self {
            ReportKind::Verification => "verification",
            ReportKind::Rehearsal => "rehearsal",
        }
    }
}

/// The hash of a frozen layer: which file of sums is the right one.
#[derive(Clone, Debug, PartialEq)]
pub struct SumsRow {
    /// The layer, as it was when it was hashed. The row is only stored while it still is so.
    pub layer: Layer,
    /// The hash over all its segments.
    pub root: u128,
    /// When it was hashed.
    pub hashed: Timestamp,
}

impl SumsRow {
    /// The row for a file of sums.
    pub(crate) fn of(layer: &Layer, sums: &Sums) -> SumsRow {
        SumsRow {
            layer: layer.clone(),
            root: sums.root(),
            hashed: sums.hashed,
        }
    }
}

pub(super) fn apply(db: &Connection, change: &Change) -> Result<(), CatalogError> {
    match change {
        Change::PutSums(row) => put_sums(db, row),
        Change::DeleteSums(id) => delete_sums(db, *id),
        Change::PutReport(snapshot, kind, body) => run(
            db,
            "INSERT INTO snapshot_reports (snapshot, kind, body) SELECT ?1, ?2, ?3
             WHERE EXISTS (SELECT 1 FROM snapshots WHERE id = ?1)
             ON CONFLICT (snapshot, kind) DO UPDATE SET body = excluded.body",
            params![snapshot.to_string(), kind.as_str(), body],
        ),
        Change::Measured(body) => {
            run(
                db,
                "INSERT INTO measurements (body) VALUES (?1)",
                params![body],
            )?;
            run(
                db,
                "DELETE FROM measurements WHERE seq <= (SELECT max(seq) FROM measurements) - ?1",
                params![KEPT_MEASUREMENTS],
            )
        }
        _ => Ok(()),
    }
}

/// Stores the hash of a layer only if the layer still is what was hashed, and no merge is under way
/// on its machine.
fn put_sums(db: &Connection, row: &SumsRow) -> Result<(), CatalogError> {
    let layer = &row.layer;
    run(
        db,
        "INSERT INTO layer_sums (layer, root, hashed) SELECT ?1, ?2, ?3
         WHERE EXISTS (SELECT 1 FROM layers WHERE id = ?1 AND frozen = 1 AND path = ?4
                       AND parent IS ?5)
           AND NOT EXISTS (SELECT 1 FROM journal WHERE machine = ?6 AND plan LIKE '{\"Merge\"%')
         ON CONFLICT (layer) DO UPDATE SET root = excluded.root, hashed = excluded.hashed",
        params![
            layer.id.to_string(),
            format!("{:032x}", row.root),
            row.hashed.0,
            path_text("layers", &layer.path)?,
            layer.parent.map(|p| p.to_string()),
            layer.machine.to_string(),
        ],
    )
}

/// The layers that a merge names are going to be written: their hashes go in the commit that
/// journals it, wherever that is done.
pub(super) fn forget_merging(db: &Connection, row: &JournalRow) -> Result<(), CatalogError> {
    let plan: serde_json::Value = serde_json::from_str(&row.plan).unwrap_or_default();
    let merge = plan.get("Merge").and_then(serde_json::Value::as_object);
    for value in merge.into_iter().flat_map(|merge| merge.values()) {
        if let Some(layer) = value.as_str().and_then(|text| text.parse().ok()) {
            delete_sums(db, layer)?;
        }
    }
    Ok(())
}

pub(super) fn delete_sums(db: &Connection, layer: LayerId) -> Result<(), CatalogError> {
    run(
        db,
        "DELETE FROM layer_sums WHERE layer = ?1",
        [layer.to_string()],
    )
}

pub(super) fn delete_reports(db: &Connection, snapshot: SnapshotId) -> Result<(), CatalogError> {
    run(
        db,
        "DELETE FROM snapshot_reports WHERE snapshot = ?1",
        [snapshot.to_string()],
    )
}

impl Catalog {
    /// Frozen layers that no hash is recorded of.
    pub(crate) async fn layers_without_sums(&self) -> Result<Vec<Layer>, CatalogError> {
        self.read(|db| {
            rows(
                db,
                "layers",
                "SELECT id, machine, path, format, parent, frozen, ours FROM layers
                 WHERE frozen = 1 AND NOT EXISTS
                    (SELECT 1 FROM layer_sums WHERE layer_sums.layer = layers.id)",
                layer_of,
            )
        })
        .await
    }

    /// The recorded hashes of these layers.
    pub(crate) async fn sums_of(
        &self,
        layers: Vec<LayerId>,
    ) -> Result<HashMap<LayerId, u128>, CatalogError> {
        self.read(move |db| {
            let mut found = HashMap::new();
            for layer in layers {
                let sql = format!("SELECT root FROM layer_sums WHERE layer = '{layer}'");
                let roots: Vec<String> =
                    rows(db, "layer_sums", &sql, |r| value(r, "layer_sums", 0))?;
                let root = roots
                    .first()
                    .and_then(|text| u128::from_str_radix(text, 16).ok());
                found.extend(root.map(|root| (layer, root)));
            }
            Ok(found)
        })
        .await
    }

    /// The reports of one kind.
    pub(crate) async fn reports(
        &self,
        kind: ReportKind,
    ) -> Result<Vec<(SnapshotId, String)>, CatalogError> {
        self.read(move |db| {
            let sql = format!(
                "SELECT snapshot, body FROM snapshot_reports WHERE kind = '{}'",
                kind.as_str()
            );
            rows(db, "snapshot_reports", &sql, |r| {
                Ok((
                    parsed(r, "snapshot_reports", 0)?,
                    value(r, "snapshot_reports", 1)?,
                ))
            })
        })
        .await
    }

    /// What was measured of snapshots, the oldest first.
    pub(crate) async fn measurements(&self) -> Result<Vec<String>, CatalogError> {
        self.read(|db| {
            rows(
                db,
                "measurements",
                "SELECT body FROM measurements ORDER BY seq",
                |r| value(r, "measurements", 0),
            )
        })
        .await
    }
}
