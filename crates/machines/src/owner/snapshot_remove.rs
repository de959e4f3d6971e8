//! Removing snapshots. The rows go first, in one commit; files that nothing refers to any more are
//! deleted afterwards. Layers that then only stand between others are merged by a job of its own.

use super::record::Garbage;
use super::work::{Work, blocking};
use crate::error::Error;
use crate::files;
use crate::ids::SnapshotId;
use crate::jobs::JobHandle;
use crate::manifest::Manifest;
use crate::model::{Activity, Snapshot};
use crate::saga::{Plan, Sweep, SweepPlan};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Removes snapshots of a machine in any lasting state.
pub(crate) async fn remove(
    work: &mut Work,
    job: &JobHandle,
    ids: &BTreeSet<SnapshotId>,
) -> Result<(), Error> {
    work.show_activity(Some(Activity::DeletingSnapshot));
    work.begin(job, "remove.intent", &Plan::Remove(SweepPlan::default()))
        .await?;
    let (new, sweep) = without(work, ids);
    let plan = Plan::Remove(SweepPlan {
        sweep: sweep.clone(),
    });
    work.commit_step(new, job.id(), "remove.sweep", &plan)
        .await?;
    job.percent(50);
    if let Err(cause) = clean_up(work, &sweep).await {
        // The snapshot is gone; what is left over goes with the next sweep.
        tracing::error!(%cause, "files of removed snapshots could not be deleted");
    }
    work.reach("remove.swept");
    work.shown.activity = None;
    let same = work.record.clone();
    work.finish(same, job).await?;
    work.reach("remove.done");
    Ok(())
}

/// Deletes what a removal has left over, and brings the manifests of the others up to date.
pub(crate) async fn clean_up(work: &mut Work, sweep: &Sweep) -> Result<(), Error> {
    work.sweep(sweep).await?;
    rewrite_manifests(work).await
}

/// The record without these snapshots, and their files.
fn without(work: &Work, ids: &BTreeSet<SnapshotId>) -> (super::record::Record, Sweep) {
    let old = &work.record;
    let mut new = old.clone();
    let survivor = |start: Option<SnapshotId>| {
        let mut at = start;
        while let Some(id) = at.filter(|id| ids.contains(id)) {
            at = old.snapshot(id).and_then(|row| row.snapshot.parent);
        }
        at
    };
    let mut manifests = Vec::new();
    let mut folders = Vec::new();
    new.snapshots.retain(|row| {
        let goes = ids.contains(&row.snapshot.id);
        if goes {
            manifests.push(row.dir.join(files::MANIFEST));
            folders.push(row.dir.clone());
        }
        !goes
    });
    for row in &mut new.snapshots {
        let parent = survivor(row.snapshot.parent);
        if parent != row.snapshot.parent {
            row.snapshot = Arc::new(Snapshot {
                parent,
                ..row.snapshot.as_ref().clone()
            });
        }
    }
    new.body.parent = survivor(new.body.parent);
    new.body.last_applied = new.body.last_applied.filter(|id| !ids.contains(id));
    let garbage = new.collect_garbage();
    let rest = sweep_of(garbage);
    // The manifest goes first: a snapshot without its files must not look like one.
    manifests.extend(rest.files);
    folders.extend(rest.folders);
    let sweep = Sweep {
        files: manifests,
        folders,
    };
    (new, sweep)
}

/// What garbage means in files. The folder of an image goes when it is empty.
pub(crate) fn sweep_of(garbage: Garbage) -> Sweep {
    let folders = garbage
        .images
        .iter()
        .filter_map(|image| image.parent())
        .filter(|folder| {
            let name = folder.file_name().and_then(|n| n.to_str());
            name.is_some_and(|n| n.parse::<SnapshotId>().is_ok())
        })
        .map(|folder| folder.to_owned())
        .collect();
    let mut files = garbage.images;
    files.extend(garbage.layers);
    Sweep { files, folders }
}

/// Writes the manifests that say something else than the rows. The rows are the truth; a manifest
/// only serves when they are lost.
pub(crate) async fn rewrite_manifests(work: &Work) -> Result<(), Error> {
    let wanted: Vec<_> = work
        .record
        .snapshots
        .iter()
        .map(|row| (row.dir.clone(), Manifest::of(&work.record, row)))
        .collect();
    blocking(move || {
        for (dir, manifest) in wanted {
            let same = Manifest::read(&dir).is_ok_and(|there| there == manifest);
            if !same {
                manifest.write(&dir)?;
            }
        }
        Ok(())
    })
    .await
}
