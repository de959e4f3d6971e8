//! The statements behind [`super::Change`] and [`super::Contents`].

use super::boots;
use super::integrity;
use super::rows::SnapshotBody;
use super::{AuditLine, CatalogError, Change, Contents};
use super::{Image, JobRow, JournalRow, Layer, MachineRow, SnapshotRow};
use crate::model::{Settings, Timestamp};
use rusqlite::{Connection, Row, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

pub(super) fn storage(doing: &'static str) -> impl Fn(rusqlite::Error) -> CatalogError {
    move |source| CatalogError::Storage {
        doing,
        source: source.into(),
    }
}

fn damaged(table: &'static str, reason: impl ToString) -> CatalogError {
    CatalogError::Damaged {
        table,
        reason: reason.to_string(),
    }
}

/// Applies all changes, or none.
pub(super) fn apply(transaction: &mut Transaction, changes: &[Change]) -> Result<(), CatalogError> {
    let failed = storage("written");
    let savepoint = transaction.savepoint().map_err(&failed)?;
    for change in changes {
        apply_one(&savepoint, change)?;
    }
    savepoint.commit().map_err(failed)
}

fn apply_one(db: &Connection, change: &Change) -> Result<(), CatalogError> {
    match change {
        Change::PutMachine(row) => put_machine(db, row),
        Change::DeleteMachine(id) => {
            boots::delete_start(db, *id)?;
            run(db, "DELETE FROM machines WHERE id = ?1", [id.to_string()])
        }
        Change::PutSnapshot(row) => put_snapshot(db, row),
        Change::DeleteSnapshot(id) => {
            integrity::delete_reports(db, *id)?;
            run(db, "DELETE FROM snapshots WHERE id = ?1", [id.to_string()])
        }
        Change::PutLayer(layer) => put_layer(db, layer),
        Change::DeleteLayer(id) => {
            integrity::delete_sums(db, *id)?;
            run(db, "DELETE FROM layers WHERE id = ?1", [id.to_string()])
        }
        Change::PutImage(image) => put_image(db, image),
        Change::DeleteImage(id) => run(db, "DELETE FROM images WHERE id = ?1", [id.to_string()]),
        Change::PutJob(job) => put_job(db, job),
        Change::DeleteJob(id) => run(db, "DELETE FROM jobs WHERE id = ?1", [id.to_string()]),
        Change::PutJournal(row) => integrity::forget_merging(db, row).and_then(|()| {
            run(
                db,
                "INSERT INTO journal (saga, machine, step, plan) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (saga) DO UPDATE SET machine = excluded.machine, step = excluded.step,
                plan = excluded.plan",
                params![
                    row.saga.to_string(),
                    row.machine.to_string(),
                    row.step,
                    row.plan
                ],
            )
        }),
        Change::DeleteJournal(id) => {
            run(db, "DELETE FROM journal WHERE saga = ?1", [id.to_string()])
        }
        Change::Audit(line) => run(
            db,
            "INSERT INTO audit (at, user_name, peer, verb, target, result)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                line.at.0,
                line.user,
                line.peer,
                line.verb,
                line.target,
                line.result
            ],
        ),
        Change::PutSums(_)
        | Change::DeleteSums(_)
        | Change::PutReport(..)
        | Change::Measured(_) => integrity::apply(db, change),
        Change::PutBoot(_) | Change::PutStart(_) | Change::DeleteStart(_) => {
            boots::apply(db, change)
        }
    }
}

pub(super) fn run(
    db: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<(), CatalogError> {
    db.prepare_cached(sql)
        .and_then(|mut statement| statement.execute(values))
        .map(|_| ())
        .map_err(storage("written"))
}

fn put_machine(db: &Connection, row: &MachineRow) -> Result<(), CatalogError> {
    run(
        db,
        "INSERT INTO machines (id, name, name_folded, state, body, settings)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, name_folded = excluded.name_folded,
            state = excluded.state, body = excluded.body, settings = excluded.settings",
        params![
            row.id.to_string(),
            row.settings.name,
            row.settings.name.to_lowercase(),
            format!("{:?}", row.body.state),
            to_json("machines", &row.body)?,
            to_json("machines", row.settings.as_ref())?,
        ],
    )
}

fn put_snapshot(db: &Connection, row: &SnapshotRow) -> Result<(), CatalogError> {
    let snapshot = &row.snapshot;
    run(
        db,
        "INSERT INTO snapshots (id, machine, parent, taken, name, image, dir, body, settings)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (id) DO UPDATE SET machine = excluded.machine, parent = excluded.parent,
            taken = excluded.taken, name = excluded.name, image = excluded.image,
            dir = excluded.dir, body = excluded.body, settings = excluded.settings",
        params![
            snapshot.id.to_string(),
            snapshot.machine.to_string(),
            snapshot.parent.map(|p| p.to_string()),
            snapshot.taken.0,
            snapshot.settings.name,
            row.image.map(|i| i.to_string()),
            path_text("snapshots", &row.dir)?,
            to_json("snapshots", &SnapshotBody::of(snapshot))?,
            to_json("snapshots", snapshot.settings.as_ref())?,
        ],
    )
}

fn put_layer(db: &Connection, layer: &Layer) -> Result<(), CatalogError> {
    if !layer.frozen {
        // It is going to be written.
        integrity::delete_sums(db, layer.id)?;
    }
    run(
        db,
        "INSERT INTO layers (id, machine, path, format, parent, frozen, ours)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (id) DO UPDATE SET machine = excluded.machine, path = excluded.path,
            format = excluded.format, parent = excluded.parent, frozen = excluded.frozen,
            ours = excluded.ours",
        params![
            layer.id.to_string(),
            layer.machine.to_string(),
            path_text("layers", &layer.path)?,
            layer.format.driver(),
            layer.parent.map(|p| p.to_string()),
            layer.frozen,
            layer.ours,
        ],
    )
}

fn put_image(db: &Connection, image: &Image) -> Result<(), CatalogError> {
    run(
        db,
        "INSERT INTO images (id, machine, path, bytes, parent) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (id) DO UPDATE SET machine = excluded.machine, path = excluded.path,
            bytes = excluded.bytes, parent = excluded.parent",
        params![
            image.id.to_string(),
            image.machine.to_string(),
            path_text("images", &image.path)?,
            i64::try_from(image.bytes).unwrap_or(i64::MAX),
            image.parent.map(|id| id.to_string()),
        ],
    )
}

fn put_job(db: &Connection, job: &JobRow) -> Result<(), CatalogError> {
    run(
        db,
        "INSERT INTO jobs (id, machine, finished, body) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET machine = excluded.machine, finished = excluded.finished,
            body = excluded.body",
        params![
            job.id.to_string(),
            job.machine.to_string(),
            job.finished.map(|t| t.0),
            to_json("jobs", job)?,
        ],
    )
}

fn to_json(table: &'static str, value: &impl Serialize) -> Result<String, CatalogError> {
    serde_json::to_string(value).map_err(|e| damaged(table, e))
}

pub(super) fn path_text<'a>(
    table: &'static str,
    path: &'a std::path::Path,
) -> Result<&'a str, CatalogError> {
    path.to_str()
        .ok_or_else(|| damaged(table, "a path is not UTF-8"))
}

/// Reads all tables.
pub(super) fn load(db: &Connection) -> Result<Contents, CatalogError> {
    Ok(Contents {
        machines: rows(
            db,
            "machines",
            "SELECT id, body, settings FROM machines",
            |r| {
                Ok(MachineRow {
                    id: parsed(r, "machines", 0)?,
                    body: json(r, "machines", 1)?,
                    settings: Arc::new(json::<Settings>(r, "machines", 2)?),
                })
            },
        )?,
        snapshots: rows(
            db,
            "snapshots",
            "SELECT id, machine, parent, taken, image, body, settings, dir FROM snapshots
             ORDER BY taken, id",
            snapshot_of,
        )?,
        layers: rows(
            db,
            "layers",
            "SELECT id, machine, path, format, parent, frozen, ours FROM layers",
            layer_of,
        )?,
        images: rows(
            db,
            "images",
            "SELECT id, machine, path, bytes, parent FROM images",
            |r| {
                Ok(Image {
                    id: parsed(r, "images", 0)?,
                    machine: parsed(r, "images", 1)?,
                    path: PathBuf::from(value::<String>(r, "images", 2)?),
                    bytes: u64::try_from(value::<i64>(r, "images", 3)?).unwrap_or(0),
                    parent: parsed_or_null(r, "images", 4)?,
                })
            },
        )?,
        jobs: rows(db, "jobs", "SELECT body FROM jobs", |r| json(r, "jobs", 0))?,
        journal: rows(
            db,
            "journal",
            "SELECT saga, machine, step, plan FROM journal",
            |r| {
                Ok(JournalRow {
                    saga: parsed(r, "journal", 0)?,
                    machine: parsed(r, "journal", 1)?,
                    step: value(r, "journal", 2)?,
                    plan: value(r, "journal", 3)?,
                })
            },
        )?,
    })
}

fn snapshot_of(r: &Row) -> Result<SnapshotRow, CatalogError> {
    const TABLE: &str = "snapshots";
    let body: SnapshotBody = json(r, TABLE, 5)?;
    let settings = Arc::new(json::<Settings>(r, TABLE, 6)?);
    let snapshot = body.into_snapshot(
        parsed(r, TABLE, 0)?,
        parsed(r, TABLE, 1)?,
        parsed_or_null(r, TABLE, 2)?,
        Timestamp(value(r, TABLE, 3)?),
        settings,
    );
    Ok(SnapshotRow {
        snapshot: Arc::new(snapshot),
        image: parsed_or_null(r, TABLE, 4)?,
        dir: PathBuf::from(value::<String>(r, TABLE, 7)?),
    })
}

pub(super) fn layer_of(r: &Row) -> Result<Layer, CatalogError> {
    const TABLE: &str = "layers";
    let format: String = value(r, TABLE, 3)?;
    Ok(Layer {
        id: parsed(r, TABLE, 0)?,
        machine: parsed(r, TABLE, 1)?,
        path: PathBuf::from(value::<String>(r, TABLE, 2)?),
        format: qemu::spec::Format::from_driver(&format)
            .ok_or_else(|| damaged(TABLE, format!("format {format}")))?,
        parent: parsed_or_null(r, TABLE, 4)?,
        frozen: value(r, TABLE, 5)?,
        ours: value(r, TABLE, 6)?,
    })
}

/// The newest lines of the audit log, newest first.
pub(super) fn audit_lines(db: &Connection, count: usize) -> Result<Vec<AuditLine>, CatalogError> {
    let sql = format!(
        "SELECT at, user_name, peer, verb, target, result FROM audit ORDER BY seq DESC LIMIT {count}"
    );
    rows(db, "audit", &sql, |r| {
        Ok(AuditLine {
            at: Timestamp(value(r, "audit", 0)?),
            user: value(r, "audit", 1)?,
            peer: value(r, "audit", 2)?,
            verb: value(r, "audit", 3)?,
            target: value(r, "audit", 4)?,
            result: value(r, "audit", 5)?,
        })
    })
}

pub(super) fn rows<T>(
    db: &Connection,
    table: &'static str,
    sql: &str,
    read: impl Fn(&Row) -> Result<T, CatalogError>,
) -> Result<Vec<T>, CatalogError> {
    let failed = |e: rusqlite::Error| damaged(table, e);
    let mut statement = db.prepare(sql).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        all.push(read(row)?);
    }
    Ok(all)
}

pub(super) fn value<T: rusqlite::types::FromSql>(
    row: &Row,
    table: &'static str,
    column: usize,
) -> Result<T, CatalogError> {
    row.get(column).map_err(|e| damaged(table, e))
}

pub(super) fn parsed<T: FromStr>(
    row: &Row,
    table: &'static str,
    column: usize,
) -> Result<T, CatalogError> {
    let text: String = value(row, table, column)?;
    text.parse()
        .map_err(|_| damaged(table, format!("identity {text:?}")))
}

fn parsed_or_null<T: FromStr>(
    row: &Row,
    table: &'static str,
    column: usize,
) -> Result<Option<T>, CatalogError> {
    match value::<Option<String>>(row, table, column)? {
        None => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| damaged(table, format!("identity {text:?}"))),
    }
}

fn json<T: DeserializeOwned>(
    row: &Row,
    table: &'static str,
    column: usize,
) -> Result<T, CatalogError> {
    let text = row
        .get_ref(column)
        .map_err(|e| damaged(table, e))?
        .as_str()
        .map_err(|e| damaged(table, e))?;
    serde_json::from_str(text).map_err(|e| damaged(table, e))
}
