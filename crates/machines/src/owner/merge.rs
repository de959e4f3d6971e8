//! Making chains of layers shorter. A layer that a snapshot refers to is never merged into.
//!
//! - While the guest runs, what lies directly under the active layer is pulled up into it: however
//!   that breaks off, every layer still shows what it showed.
//! - While it does not, the active layer goes down into the one below, or a frozen one goes down
//!   into the one below, which then takes its name: so a snapshot's layer keeps its identity.
//! - A disk given by a client takes back what lies over it only while the machine is off.

use super::record::Record;
use super::snapshot_create::{point, stop_sending};
use super::work::{Work, block_job, blocking, node};
use crate::catalog::{Change, Layer};
use crate::error::Error;
use crate::files;
use crate::ids::{DeviceId, JobId, LayerId};
use crate::saga::{CreatePlan, MergeKind, MergePlan, NewLayer, Plan, Sweep, SweepPlan};
use std::time::Duration;

/// How long one merge may take.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// The guest stands still while a layer that a failed snapshot left is folded back; a layer that
/// has grown beyond this is kept instead.
const LARGEST_FOLD: u64 = 64 << 20;

/// The next merge that makes a chain shorter, if there is one.
pub(crate) fn next(record: &Record, running: bool) -> Option<MergePlan> {
    let active = record.active_layers();
    let snapshots = record.snapshot_layers();
    let free = |id: LayerId| {
        !snapshots.contains(&id) && !active.contains(&id) && !record.body.detached.contains(&id)
    };
    let children = |id: LayerId| {
        let all: Vec<_> = record
            .layers
            .values()
            .filter(|l| l.parent == Some(id))
            .map(|l| l.id)
            .collect();
        all
    };
    for upper in &active {
        let lower = record.layers.get(upper).and_then(|l| l.parent);
        let Some(lower) = lower.and_then(|id| record.layers.get(&id)) else {
            continue;
        };
        // A detached disk or a snapshot of this very layer would lose what it stands on.
        let alone = children(lower.id) == [*upper]
            && children(*upper).is_empty()
            && !snapshots.contains(upper);
        if free(lower.id) && alone && (!running || (lower.ours && lower.parent.is_some())) {
            return Some(MergePlan {
                kind: if running {
                    MergeKind::PullUp
                } else {
                    MergeKind::ActiveDown
                },
                lower: lower.id,
                upper: *upper,
            });
        }
    }
    if running {
        return None;
    }
    let lower = record.layers.values().find(|lower| {
        let only = children(lower.id);
        lower.ours
            && lower.parent.is_some()
            && free(lower.id)
            && matches!(only.as_slice(), [upper] if !active.contains(upper))
    })?;
    Some(MergePlan {
        kind: MergeKind::FrozenDown,
        lower: lower.id,
        upper: children(lower.id).first().copied()?,
    })
}

/// Does one merge, journalled under `saga`.
pub(crate) async fn run(work: &mut Work, saga: JobId, plan: &MergePlan) -> Result<(), Error> {
    work.step(saga, "remove.merge", &Plan::Merge(plan.clone()))
        .await?;
    match plan.kind {
        MergeKind::PullUp => pull_up(work, plan).await?,
        MergeKind::ActiveDown => commit_down(work, plan).await?,
        MergeKind::FrozenDown => {
            commit_down(work, plan).await?;
            work.reach("remove.merged");
            take_name(work, plan).await?;
            work.reach("remove.renamed");
        }
    }
    if plan.kind != MergeKind::FrozenDown {
        work.reach("remove.merged");
    }
    record_merged(work, saga, plan).await
}

/// The rows after a merge, and the file that is left over.
pub(crate) async fn record_merged(
    work: &mut Work,
    saga: JobId,
    plan: &MergePlan,
) -> Result<(), Error> {
    let (lower, upper) = both(&work.record, plan)?;
    let mut new = work.record.clone();
    let mut sweep = Sweep::default();
    match plan.kind {
        MergeKind::ActiveDown => {
            new.layers.remove(&upper.id);
            if let Some(layer) = new.layers.get_mut(&lower.id) {
                layer.frozen = false;
            }
            let device = device_of(&new, upper.id);
            new.set_settings(|settings| {
                if let Some(device) = &device {
                    point(settings, device, &lower);
                }
            });
            sweep.files.push(upper.path.clone());
        }
        MergeKind::PullUp | MergeKind::FrozenDown => {
            new.layers.remove(&lower.id);
            if let Some(layer) = new.layers.get_mut(&upper.id) {
                layer.parent = lower.parent;
            }
            // A frozen layer's file has become its upper's; there is nothing left over.
            if plan.kind == MergeKind::PullUp {
                sweep.files.push(lower.path.clone());
            }
        }
    }
    let then = Plan::Remove(SweepPlan {
        sweep: sweep.clone(),
    });
    let row = then.row(saga, work.record.id, "remove.sweep")?;
    work.commit(new, vec![Change::PutJournal(row)]).await?;
    work.sweep(&sweep).await?;
    super::snapshot_remove::rewrite_manifests(work).await
}

async fn pull_up(work: &Work, plan: &MergePlan) -> Result<(), Error> {
    let process = work.process()?;
    let (lower, upper) = both(&work.record, plan)?;
    let base = lower.parent.map(node).transpose()?;
    let merge = process
        .pull(&block_job(upper.id)?, &node(upper.id)?, base.as_ref())
        .await
        .map_err(Error::qemu("Merging disk layers"))?;
    merge
        .wait(PATIENCE)
        .await
        .map_err(Error::qemu("Merging disk layers"))?;
    work.reach("remove.pulled");
    close_pulled(&process, lower.id).await
}

/// Lets QEMU close a layer that is out of its chain, so that its space is free once its file is
/// deleted, and what lies under it can go one day. Where that fails, the merge is done all the
/// same.
pub(crate) async fn close_pulled(process: &qemu::Process, lower: LayerId) -> Result<(), Error> {
    if let Err(cause) = process.remove_node(&node(lower)?).await {
        tracing::warn!(%cause, layer = %lower, "QEMU does not close a merged layer");
    }
    Ok(())
}

async fn commit_down(work: &Work, plan: &MergePlan) -> Result<(), Error> {
    let (lower, upper) = both(&work.record, plan)?;
    work.host
        .img
        .commit(&upper.path, &lower.path)
        .await
        .map_err(Error::qemu("Merging disk layers"))
}

/// The merged file takes the upper layer's name, at once.
async fn take_name(work: &Work, plan: &MergePlan) -> Result<(), Error> {
    let (lower, upper) = both(&work.record, plan)?;
    blocking(move || {
        std::fs::rename(&lower.path, &upper.path).map_err(Error::io("Renaming", &lower.path))?;
        match upper.path.parent() {
            Some(folder) => files::sync_folder(folder),
            None => Ok(()),
        }
    })
    .await
}

fn both(record: &Record, plan: &MergePlan) -> Result<(Layer, Layer), Error> {
    let layer = |id: LayerId| {
        record
            .layers
            .get(&id)
            .cloned()
            .ok_or(Error::NoSuchLayer(id))
    };
    Ok((layer(plan.lower)?, layer(plan.upper)?))
}

fn device_of(record: &Record, layer: LayerId) -> Option<DeviceId> {
    let devices = &record.settings.devices;
    devices
        .iter()
        .find(|d| d.layer == Some(layer))
        .map(|d| d.id.clone())
}

/// Takes the new layers of a snapshot that did not come about out of the chains again. Answers
/// those that must stay.
///
/// The guest stands still from before a layer is folded until that is in the journal: otherwise it
/// could write to the layer below, everything could end, and nobody could tell afterwards that the
/// upper layer is the older one.
pub(crate) async fn fold_new_layers(
    work: &mut Work,
    saga: JobId,
    plan: &mut CreatePlan,
) -> Result<Vec<NewLayer>, Error> {
    let Ok(process) = work.process() else {
        return Ok(fold_dead(work, plan).await);
    };
    stop_sending(&process).await;
    let before = plan.folded.len();
    let kept = fold_each(&process, plan).await;
    let journal = work
        .step(saga, "create.undo", &Plan::Create(plan.clone()))
        .await;
    if let Err(cause) = journal {
        tracing::error!(%cause, "the journal cannot be written");
        // That the file is gone says the same.
        forget_folded(plan, before).await?;
    }
    kept
}

async fn fold_each(process: &qemu::Process, plan: &mut CreatePlan) -> Result<Vec<NewLayer>, Error> {
    let mut kept = Vec::new();
    let mut stopped = false;
    for new in plan.layers.clone() {
        let overlay = node(new.overlay.id)?;
        if is_active(process, &new).await? {
            let small = files::stored_bytes(&new.overlay.path) <= LARGEST_FOLD;
            if small {
                stopped = stopped || process.stop().await.is_ok();
            }
            if small && stopped {
                fold_live(process, &new).await;
            }
            // Merging can fail after it has taken effect: what QEMU says now counts.
            if is_active(process, &new).await? {
                kept.push(new);
                continue;
            }
        }
        let _ = process.remove_node(&overlay).await;
        if !plan.folded.contains(&new.overlay.id) {
            plan.folded.push(new.overlay.id);
        }
    }
    Ok(kept)
}

/// Whether the guest writes to a new layer.
async fn is_active(process: &qemu::Process, new: &NewLayer) -> Result<bool, Error> {
    let devices = process
        .block_devices()
        .await
        .map_err(Error::qemu("Asking for the guest's disks"))?;
    let overlay = node(new.overlay.id)?;
    Ok(devices
        .iter()
        .filter_map(|d| d.active())
        .any(|l| l.node == overlay.as_str() || l.path == new.overlay.path))
}

/// Deletes the files of folded layers, durably.
async fn forget_folded(plan: &CreatePlan, from: usize) -> Result<(), Error> {
    let folded = plan.folded.get(from..).unwrap_or_default();
    let layers = plan
        .layers
        .iter()
        .filter(|l| folded.contains(&l.overlay.id));
    let files: Vec<_> = layers.map(|l| l.overlay.path.clone()).collect();
    blocking(move || {
        for file in &files {
            files::delete(file)?;
            if let Some(folder) = file.parent() {
                files::sync_folder(folder)?;
            }
        }
        Ok(())
    })
    .await
}

async fn fold_live(process: &qemu::Process, new: &NewLayer) {
    let folded = async {
        let (overlay, below) = (node(new.overlay.id)?, node(new.below)?);
        let merge = process
            .commit(&block_job(new.overlay.id)?, &overlay, &overlay, &below)
            .await
            .map_err(Error::qemu("Folding a disk layer back"))?;
        let ended = merge.wait(Duration::from_secs(30)).await;
        if ended.is_err() {
            // Left alone it would go on, and be in the way of everything that comes.
            let _ = merge.cancel().await;
        }
        ended.map_err(Error::qemu("Folding a disk layer back"))
    };
    if let Err(cause) = folded.await {
        tracing::warn!(%cause, layer = %new.overlay.id, "a disk layer is not folded back");
    }
}

/// The guest is gone: what it wrote goes down into the layer that it wrote to before.
async fn fold_dead(work: &Work, plan: &CreatePlan) -> Vec<NewLayer> {
    let mut kept = Vec::new();
    for new in &plan.layers {
        let Some(below) = work.record.layers.get(&new.below) else {
            continue;
        };
        if plan.folded.contains(&new.overlay.id) || !new.overlay.path.exists() {
            continue;
        }
        let folded = work.host.img.commit(&new.overlay.path, &below.path);
        if let Err(cause) = folded.await {
            tracing::warn!(%cause, layer = %new.overlay.id, "a disk layer is kept");
            kept.push(new.clone());
        }
    }
    kept
}
