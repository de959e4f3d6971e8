//! The boot of the host that the service last ran in, and the machines that are to be started
//! because there has been another one.

use super::sql::{parsed, rows, run, value};
use super::{Catalog, CatalogError, Change};
use crate::ids::MachineId;
use rusqlite::{Connection, params};

pub(super) fn apply(db: &Connection, change: &Change) -> Result<(), CatalogError> {
    match change {
        Change::PutBoot(id) => {
            run(db, "DELETE FROM host_boot", [])?;
            run(db, "INSERT INTO host_boot (id) VALUES (?1)", params![id])
        }
        Change::PutStart(machine) => run(
            db,
            "INSERT INTO starts_due (machine) VALUES (?1) ON CONFLICT (machine) DO NOTHING",
            [machine.to_string()],
        ),
        Change::DeleteStart(machine) => delete_start(db, *machine),
        _ => Ok(()),
    }
}

pub(super) fn delete_start(db: &Connection, machine: MachineId) -> Result<(), CatalogError> {
    run(
        db,
        "DELETE FROM starts_due WHERE machine = ?1",
        [machine.to_string()],
    )
}

impl Catalog {
    /// The boot of the host that was recorded last.
    pub(crate) async fn boot(&self) -> Result<Option<String>, CatalogError> {
        self.read(|db| {
            let sql = "SELECT id FROM host_boot";
            let mut all = rows(db, "host_boot", sql, |r| value(r, "host_boot", 0))?;
            Ok(all.pop())
        })
        .await
    }

    /// Machines that are to be started, in the order in which they were recorded.
    pub(crate) async fn starts_due(&self) -> Result<Vec<MachineId>, CatalogError> {
        self.read(|db| {
            let sql = "SELECT machine FROM starts_due ORDER BY rowid";
            rows(db, "starts_due", sql, |r| parsed(r, "starts_due", 0))
        })
        .await
    }
}
