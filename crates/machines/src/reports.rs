//! Reports on snapshots, as readers see them: what the last verification and the last rehearsal
//! came to, and what earlier snapshots cost. Kept in the catalog, and here so that nobody waits.

use crate::catalog::{Catalog, Change, ReportKind};
use crate::error::Error;
use crate::forecast::Measurement;
use crate::ids::SnapshotId;
use crate::integrity::Verification;
use crate::rehearsal::Rehearsal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many measurements are looked at.
const MEASUREMENTS: usize = 500;

/// The last report of each kind on each snapshot.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    verifications: Mutex<HashMap<SnapshotId, Arc<Verification>>>,
    rehearsals: Mutex<HashMap<SnapshotId, Arc<Rehearsal>>>,
    /// The newest last.
    measurements: Mutex<Vec<Measurement>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reports {
    /// As they were stored. A report that a later version wrote is left out.
    pub async fn load(catalog: &Catalog) -> Result<Reports, Error> {
        let measurements = catalog.measurements().await?;
        let measurements = measurements
            .iter()
            .filter_map(|body| serde_json::from_str(body).ok());
        Ok(Reports {
            verifications: Mutex::new(stored(catalog, ReportKind::Verification).await?),
            rehearsals: Mutex::new(stored(catalog, ReportKind::Rehearsal).await?),
            measurements: Mutex::new(measurements.collect()),
        })
    }

    pub fn verification(&self, snapshot: SnapshotId) -> Option<Arc<Verification>> {
        lock(&self.verifications).get(&snapshot).cloned()
    }

    pub fn rehearsal(&self, snapshot: SnapshotId) -> Option<Arc<Rehearsal>> {
        lock(&self.rehearsals).get(&snapshot).cloned()
    }

    pub fn measurements(&self) -> Vec<Measurement> {
        lock(&self.measurements).clone()
    }

    pub async fn keep_verification(&self, catalog: &Catalog, report: Verification) {
        let (id, body) = (report.snapshot, json(&report));
        lock(&self.verifications).insert(id, Arc::new(report));
        store(
            catalog,
            Change::PutReport(id, ReportKind::Verification, body),
        )
        .await;
    }

    pub async fn keep_rehearsal(&self, catalog: &Catalog, report: Rehearsal) {
        let (id, body) = (report.snapshot, json(&report));
        lock(&self.rehearsals).insert(id, Arc::new(report));
        store(catalog, Change::PutReport(id, ReportKind::Rehearsal, body)).await;
    }

    pub async fn measured(&self, catalog: &Catalog, measurement: Measurement) {
        let body = json(&measurement);
        {
            let mut all = lock(&self.measurements);
            all.push(measurement);
            let surplus = all.len().saturating_sub(MEASUREMENTS);
            all.drain(..surplus);
        }
        store(catalog, Change::Measured(body)).await;
    }

    /// Forgets the reports on snapshots that are gone.
    pub fn retain(&self, there: impl Fn(SnapshotId) -> bool) {
        lock(&self.verifications).retain(|id, _| there(*id));
        lock(&self.rehearsals).retain(|id, _| there(*id));
    }
}

fn json(report: &impl Serialize) -> String {
    serde_json::to_string(report).unwrap_or_default()
}

/// A report that cannot be stored is still shown until the service ends.
async fn store(catalog: &Catalog, change: Change) {
    if let Err(cause) = catalog.commit(vec![change]).await {
        tracing::warn!(%cause, "a report on a snapshot could not be stored");
    }
}

async fn stored<T: DeserializeOwned>(
    catalog: &Catalog,
    kind: ReportKind,
) -> Result<HashMap<SnapshotId, Arc<T>>, Error> {
    let rows = catalog.reports(kind).await?;
    let rows = rows
        .into_iter()
        .filter_map(|(id, body)| Some((id, Arc::new(serde_json::from_str(&body).ok()?))));
    Ok(rows.collect())
}
