//! From the catalog's rows to settled machines.

use crate::catalog::{Change, Contents, Image, JobRow, JournalRow, Layer, SnapshotRow};
use crate::error::Error;
use crate::host::Host;
use crate::ids::{JobId, MachineId};
use crate::jobs::JobHandle;
use crate::model::{Health, JobError, JobState, Timestamp};
use crate::owner::record::Record;
use crate::owner::work::Work;
use crate::{automatic, orphans, recovery};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Reads the catalog and answers every machine, settled.
pub(crate) async fn open(host: &Arc<Host>) -> Result<Vec<Work>, Error> {
    let mut contents = host.catalog.load().await?;
    let jobs = restore_jobs(host, std::mem::take(&mut contents.jobs));
    let mut journal: HashMap<MachineId, Vec<JournalRow>> = HashMap::new();
    for row in std::mem::take(&mut contents.journal) {
        journal.entry(row.machine).or_default().push(row);
    }
    let records = records_of(contents);
    automatic::note_boot(host, &records).await?;
    for record in &records {
        host.directory.publish(record.publish(Default::default()));
        host.disks.replace(
            record.id,
            std::iter::empty(),
            record.layers.values().map(|l| &l.path),
        );
    }
    let mut all = Vec::with_capacity(records.len());
    for record in records {
        let rows = journal.remove(&record.id).unwrap_or_default();
        let mut work = Work::new(host.clone(), record);
        match recovery::settle(&mut work, rows, &jobs).await {
            Ok(()) => all.push(work),
            // The others are served. This one gets no owner: nobody touches it until the next
            // start, which tries again.
            Err(cause) => {
                tracing::error!(machine = %work.record.id, %cause, "a machine cannot be settled");
                let mut shown = work.record.publish(Default::default());
                shown.health = Health::Critical(format!(
                    "The service could not find out how this virtual machine is: {cause}"
                ));
                host.directory.publish(shown);
            }
        }
    }
    for row in journal.into_values().flatten() {
        recovery::finish_destroyed(host, &row, jobs.get(&row.saga)).await?;
    }
    end_forgotten_jobs(host, &jobs).await?;
    orphans::sweep(host, &all).await;
    Ok(all)
}

fn restore_jobs(host: &Host, rows: Vec<JobRow>) -> HashMap<JobId, JobHandle> {
    rows.into_iter()
        .map(|row| (row.id, host.jobs.restore(row)))
        .collect()
}

/// Jobs that were under way without a saga: they had not begun.
async fn end_forgotten_jobs(host: &Host, jobs: &HashMap<JobId, JobHandle>) -> Result<(), Error> {
    let now = Timestamp::now();
    let end = JobState::Failed(JobError::from(&Error::ServiceRestarted));
    let mut changes: Vec<Change> = host.jobs.expire(now);
    let open: Vec<_> = jobs
        .values()
        .filter(|j| j.job().finished.is_none())
        .collect();
    changes.extend(open.iter().map(|job| job.ended_row(&end, now)));
    if !changes.is_empty() {
        host.catalog.commit(changes).await?;
    }
    for job in open {
        job.end(end.clone(), now);
    }
    Ok(())
}

/// Sorts the rows by machine, in one pass.
pub(crate) fn records_of(contents: Contents) -> Vec<Record> {
    let mut snapshots: HashMap<MachineId, Vec<SnapshotRow>> = HashMap::new();
    for row in contents.snapshots {
        snapshots.entry(row.snapshot.machine).or_default().push(row);
    }
    let mut layers: HashMap<MachineId, Vec<Layer>> = HashMap::new();
    for layer in contents.layers {
        layers.entry(layer.machine).or_default().push(layer);
    }
    let mut images: HashMap<MachineId, Vec<Image>> = HashMap::new();
    for image in contents.images {
        images.entry(image.machine).or_default().push(image);
    }
    contents
        .machines
        .into_iter()
        .map(|row| Record {
            id: row.id,
            body: row.body,
            settings: row.settings,
            snapshots: snapshots.remove(&row.id).unwrap_or_default(),
            layers: by_id(layers.remove(&row.id), |l: &Layer| l.id),
            images: by_id(images.remove(&row.id), |i: &Image| i.id),
        })
        .collect()
}

fn by_id<K: Ord, V>(values: Option<Vec<V>>, id: impl Fn(&V) -> K) -> BTreeMap<K, V> {
    let values = values.unwrap_or_default().into_iter();
    values.map(|v| (id(&v), v)).collect()
}
