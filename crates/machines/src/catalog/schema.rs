//! The tables, and how older ones become newer ones.

use super::CatalogError;
use super::sql::storage;
use rusqlite::Connection;
use std::path::Path;
use std::time::Duration;

/// Each entry brings the schema from its index to the next version. Entries are never edited once
/// released: add one.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE machines (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, name_folded TEXT NOT NULL, state TEXT NOT NULL,
        body TEXT NOT NULL, settings TEXT NOT NULL);
    CREATE INDEX machines_by_name ON machines (name_folded);
    CREATE TABLE snapshots (
        id TEXT PRIMARY KEY, machine TEXT NOT NULL, parent TEXT, taken BIGINT NOT NULL,
        name TEXT NOT NULL, image TEXT, dir TEXT NOT NULL, body TEXT NOT NULL,
        settings TEXT NOT NULL);
    CREATE INDEX snapshots_by_machine ON snapshots (machine);
    CREATE TABLE layers (
        id TEXT PRIMARY KEY, machine TEXT NOT NULL, path TEXT NOT NULL UNIQUE, format TEXT NOT NULL,
        parent TEXT, frozen INTEGER NOT NULL, ours INTEGER NOT NULL);
    CREATE INDEX layers_by_machine ON layers (machine);
    CREATE TABLE images (
        id TEXT PRIMARY KEY, machine TEXT NOT NULL, path TEXT NOT NULL, bytes BIGINT NOT NULL);
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY, machine TEXT NOT NULL, finished BIGINT, body TEXT NOT NULL);
    CREATE TABLE journal (
        saga TEXT PRIMARY KEY, machine TEXT NOT NULL, step TEXT NOT NULL, plan TEXT NOT NULL);
    CREATE TABLE accounts (
        name_folded TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL,
        verifier TEXT NOT NULL, nt_hash TEXT, created BIGINT NOT NULL);
    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY, at BIGINT NOT NULL, user_name TEXT NOT NULL, peer TEXT NOT NULL,
        verb TEXT NOT NULL, target TEXT NOT NULL, result TEXT NOT NULL);
",
    "
    CREATE TABLE layer_sums (
        layer TEXT PRIMARY KEY, root TEXT NOT NULL, hashed BIGINT NOT NULL);
    CREATE TABLE snapshot_reports (
        snapshot TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (snapshot, kind));
    CREATE TABLE measurements (seq INTEGER PRIMARY KEY, body TEXT NOT NULL);
",
    "ALTER TABLE images ADD COLUMN parent TEXT;",
    "
    CREATE TABLE host_boot (id TEXT NOT NULL);
    CREATE TABLE starts_due (machine TEXT PRIMARY KEY);
",
    "
    CREATE TABLE account_certificates (
        fingerprint TEXT PRIMARY KEY,
        account TEXT NOT NULL REFERENCES accounts (name_folded) ON DELETE CASCADE,
        subject TEXT, not_before BIGINT NOT NULL, not_after BIGINT NOT NULL,
        added BIGINT NOT NULL);
    CREATE INDEX account_certificates_by_account ON account_certificates (account);
",
];

/// Opens the database at `path`, safe against loss of power, with the newest schema.
pub(crate) fn open_connection(path: &Path) -> Result<Connection, CatalogError> {
    let unopenable = |source: rusqlite::Error| CatalogError::Open {
        path: path.to_owned(),
        source: source.into(),
    };
    let mut connection = Connection::open(path).map_err(unopenable)?;
    connection
        .busy_timeout(Duration::from_secs(10))
        .map_err(unopenable)?;
    connection
        .query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))
        .map_err(unopenable)?;
    connection
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
        .map_err(unopenable)?;
    migrate(&mut connection)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), CatalogError> {
    let failed = storage("migrated");
    let known = MIGRATIONS.len() as i64;
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(&failed)?;
    transaction
        .execute_batch("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
        .map_err(&failed)?;
    let found: i64 = transaction
        .query_row(
            "SELECT coalesce(max(version), 0) FROM schema_version",
            [],
            |row| row.get(0),
        )
        .map_err(&failed)?;
    if found > known || found < 0 {
        return Err(CatalogError::TooNew { found, known });
    }
    let done = usize::try_from(found).unwrap_or(0);
    for step in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(step).map_err(&failed)?;
    }
    if found < known {
        transaction
            .execute("DELETE FROM schema_version", [])
            .and_then(|_| {
                transaction.execute("INSERT INTO schema_version (version) VALUES (?1)", [known])
            })
            .map_err(&failed)?;
    }
    transaction.commit().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_catalog_is_durable_and_versioned() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.db");
        let connection = open_connection(&path).unwrap();
        let mode: String = connection
            .query_row("PRAGMA journal_mode", [], |r| r.get(0))
            .unwrap();
        let sync: i64 = connection
            .query_row("PRAGMA synchronous", [], |r| r.get(0))
            .unwrap();
        assert_eq!((mode.as_str(), sync), ("wal", 2));
        drop(connection);
        open_connection(&path).unwrap();
    }

    #[test]
    fn a_catalog_from_the_future_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.db");
        open_connection(&path)
            .unwrap()
            .execute("UPDATE schema_version SET version = 99", [])
            .unwrap();
        assert!(matches!(
            open_connection(&path),
            Err(CatalogError::TooNew { found: 99, .. })
        ));
    }

    #[test]
    fn garbage_is_not_taken_for_a_catalog() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.db");
        std::fs::write(&path, vec![0x5a; 10_000]).unwrap();
        assert!(matches!(
            open_connection(&path),
            Err(CatalogError::Open { .. })
        ));
    }
}
