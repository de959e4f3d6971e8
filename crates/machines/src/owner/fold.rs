//! Taking the new layers of a snapshot that did not come about out of their chains again.

use super::receiving::stop_sending;
use super::work::{Work, block_job, blocking, node};
use crate::error::Error;
use crate::files;
use crate::ids::JobId;
use crate::saga::{CreatePlan, NewLayer, Plan};
use std::time::Duration;

/// The guest stands still while a layer that a failed snapshot left is folded back; a layer that
/// has grown beyond this is kept instead.
const LARGEST_FOLD: u64 = 64 << 20;

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
