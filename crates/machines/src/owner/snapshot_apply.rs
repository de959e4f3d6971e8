//! Going back to a snapshot: fresh layers on the snapshot's own, its settings, and its memory image
//! as the saved state. What the machine was before is lost, as the caller asked.

use super::record::Record;
use super::snapshot_create::{make_layers, new_layers, with_layers};
use super::work::Work;
use crate::catalog::DurableState;
use crate::error::Error;
use crate::ids::{JobId, SnapshotId};
use crate::integrity::{Depth, verify};
use crate::jobs::JobHandle;
use crate::model::{Activity, Settings};
use crate::saga::{ApplyPlan, Plan, Sweep};
use qemu::wakefulness::Awake;
use std::sync::Arc;

/// Applies a snapshot to a machine that is off or saved.
pub(crate) async fn apply(
    work: &mut Work,
    job: &JobHandle,
    snapshot: SnapshotId,
) -> Result<(), Error> {
    let row = work
        .record
        .snapshot(snapshot)
        .cloned()
        .ok_or(Error::NoSuchSnapshot(snapshot))?;
    // The machine is started next, most likely: somebody waits for all of it.
    let _awake = Awake::hold();
    // What can be seen at once is found before anything is recorded.
    let depth = work.host.verify_before_apply;
    if depth != Depth::Off {
        look_at(work, snapshot, Depth::Metadata, job).await?;
    }
    let mut plan = ApplyPlan {
        layers: new_layers(work, &row.snapshot.settings),
        sweep: Sweep::default(),
    };
    work.show_activity(Some(Activity::ApplyingSnapshot));
    work.begin(job, "apply.intent", &Plan::Apply(plan.clone()))
        .await?;
    let whole = match depth {
        Depth::Full => look_at(work, snapshot, depth, job).await,
        Depth::Off | Depth::Metadata => Ok(()),
    };
    let outcome = match whole {
        Ok(()) => switch(work, job.id(), snapshot, &mut plan).await,
        Err(cause) => Err(cause),
    };
    if outcome.is_err() {
        undo(work, &plan).await;
        return outcome;
    }
    finish(work, job, &plan).await
}

/// What is wrong with the snapshot's files is found before anything is given up for it.
async fn look_at(
    work: &Work,
    snapshot: SnapshotId,
    depth: Depth,
    job: &JobHandle,
) -> Result<(), Error> {
    let subject = verify::Subject::of(&work.record, work.places(), snapshot)?;
    job.set_cancellable(true);
    let report = verify::verify(&work.host, subject, depth, Some(job)).await;
    job.set_cancellable(false);
    verify::refuse_bad(&report?)
}

async fn switch(
    work: &mut Work,
    saga: JobId,
    snapshot: SnapshotId,
    plan: &mut ApplyPlan,
) -> Result<(), Error> {
    make_layers(work, &plan.layers).await?;
    work.reach("apply.overlays");
    let (new, sweep) = applied(&work.record, snapshot, plan)?;
    let plan_after = ApplyPlan {
        layers: Vec::new(),
        sweep,
    };
    work.commit_step(new, saga, "apply.sweep", &Plan::Apply(plan_after.clone()))
        .await?;
    *plan = plan_after;
    Ok(())
}

/// The record with the snapshot applied, and the files that nothing needs any more.
fn applied(
    record: &Record,
    snapshot: SnapshotId,
    plan: &ApplyPlan,
) -> Result<(Record, Sweep), Error> {
    let row = record
        .snapshot(snapshot)
        .ok_or(Error::NoSuchSnapshot(snapshot))?;
    let mut back = record.clone();
    // Name and notes are the machine's; the snapshot's settings have its own in their place.
    back.settings = Arc::new(Settings {
        name: record.settings.name.clone(),
        notes: record.settings.notes.clone(),
        created: record.settings.created,
        ..row.snapshot.settings.as_ref().clone()
    });
    let mut new = with_layers(&back, &plan.layers);
    new.body.parent = Some(snapshot);
    new.body.last_applied = Some(snapshot);
    new.body.saved_image = row.image;
    new.enter(match row.image {
        Some(_) => DurableState::Saved,
        None => DurableState::Off,
    });
    new.body.owes_thaw = row.image.is_some() && row.snapshot.owes_thaw;
    new.body.health = crate::model::Health::Ok;
    let garbage = new.collect_garbage();
    let sweep = super::snapshot_remove::sweep_of(garbage);
    Ok((new, sweep))
}

/// The rows are right; deletes what is left over and ends the job.
pub(crate) async fn finish(
    work: &mut Work,
    job: &JobHandle,
    plan: &ApplyPlan,
) -> Result<(), Error> {
    if let Err(cause) = work.sweep(&plan.sweep).await {
        tracing::error!(%cause, "files of the state before could not be deleted");
    }
    work.reach("apply.swept");
    work.shown.activity = None;
    let same = work.record.clone();
    work.finish(same, job).await?;
    work.reach("apply.done");
    Ok(())
}

/// Nothing but new files has come about: deletes them.
pub(crate) async fn undo(work: &mut Work, plan: &ApplyPlan) {
    let sweep = Sweep {
        files: plan.layers.iter().map(|l| l.overlay.path.clone()).collect(),
        folders: Vec::new(),
    };
    if let Err(cause) = work.sweep(&sweep).await {
        tracing::error!(%cause, "new disk layers could not be deleted");
    }
    work.shown.activity = None;
    work.publish();
}
