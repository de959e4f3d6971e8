//! Destroying a machine: its rows, our layers and images. Disk files given by path stay.

use super::work::Work;
use crate::catalog::Change;
use crate::error::Error;
use crate::files;
use crate::jobs::JobHandle;
use crate::model::{JobState, Timestamp};
use crate::saga::{Plan, Sweep, SweepPlan};
use std::path::Path;

/// Destroys a machine that is off or saved.
pub(crate) async fn destroy(work: &mut Work, job: &JobHandle) -> Result<(), Error> {
    work.begin(job, "destroy.intent", &Plan::Destroy(SweepPlan::default()))
        .await?;
    let sweep = files_of(work);
    let plan = Plan::Destroy(SweepPlan {
        sweep: sweep.clone(),
    });
    let row = plan.row(job.id(), work.record.id, "destroy.sweep")?;
    let mut changes = work.record.deletions();
    changes.push(Change::PutJournal(row));
    work.host.catalog.commit(changes).await?;
    work.gone = true;
    work.host.disks.replace(
        work.record.id,
        work.record.layers.values().map(|l| &l.path),
        std::iter::empty(),
    );
    work.host.directory.remove(work.record.id);
    work.reach("destroy.sweep");
    if let Err(cause) = work.sweep(&sweep).await {
        tracing::error!(%cause, "files of a destroyed machine could not be deleted");
    }
    let now = Timestamp::now();
    let end = vec![
        Change::DeleteJournal(job.id()),
        job.ended_row(&JobState::Completed, now),
    ];
    work.host.catalog.commit(end).await?;
    work.ended = Some((JobState::Completed, now));
    work.reach("destroy.done");
    Ok(())
}

fn files_of(work: &Work) -> Sweep {
    let record = &work.record;
    let mut files: Vec<_> = record
        .snapshots
        .iter()
        .map(|s| s.dir.join(files::MANIFEST))
        .collect();
    files.extend(record.images.values().map(|i| i.path.clone()));
    let ours = record.layers.values().filter(|l| l.ours);
    files.extend(ours.map(|l| l.path.clone()));
    let snapshots = work.places().snapshots().to_owned();
    let sums = record.layers.keys();
    files.extend(sums.map(|id| crate::integrity::sums::path_of(&snapshots, *id)));
    let run_dir = work.host.run_dir(record.id);
    files.extend(run_files(&run_dir));
    let mut folders: Vec<_> = record.snapshots.iter().map(|s| s.dir.clone()).collect();
    // An image whose snapshot is gone lies where its snapshot was.
    let images = record.images.values();
    folders.extend(images.filter_map(|i| i.path.parent().map(Path::to_owned)));
    folders.extend(work.places().folders());
    folders.push(run_dir);
    Sweep { files, folders }
}

/// What a process left in its run folder.
fn run_files(run_dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(run_dir).into_iter().flatten().flatten();
    entries
        .filter(|e| e.file_type().is_ok_and(|t| !t.is_dir()))
        .map(|e| e.path())
        .collect()
}
