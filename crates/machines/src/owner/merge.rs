//! Making chains of layers shorter. A layer that a snapshot refers to is never merged into.
//!
//! - While the guest runs, what lies directly under the active layer is pulled up into it: however
//!   that breaks off, every layer still shows what it showed. Pulled up in the same way, but left
//!   where they are, are layers that only snapshots need ([`MergeKind::Skip`]).
//! - While it does not, the active layer goes down into the lowest that nothing refers to.
//! - A frozen layer goes down, whether the guest runs or not, and the merged file then takes its
//!   name: so a snapshot's layer keeps its identity.
//!
//! A merge is stopped at once by whatever comes in between, and goes on afterwards; what has been
//! copied is not lost. Which merge comes next is decided in [`merge_choice`](super::merge_choice),
//! who runs them in [`tidy`](super::tidy).

use super::merge_choice::new_base;
use super::record::Record;
use super::snapshot_create::point;
use super::work::{Work, block_job, blocking, node, qemu_layer};
use crate::catalog::{Change, Layer};
use crate::error::Error;
use crate::files;
use crate::ids::{DeviceId, JobId, LayerId};
use crate::saga::{MergeKind, MergePlan, Plan, Sweep, SweepPlan};
use qemu::img::{Follow, ImgError};
use qemu::merge::{MergeError, MergeProgress};
use std::pin::Pin;

/// What happens to a file system when it is full is worse than a long chain.
const SLACK: u64 = 64 << 20;
const DOING: &str = "Merging disk layers";

/// How a merge is watched.
pub(crate) trait Watch: Sync {
    /// Bytes done and bytes expected, of this merge.
    fn progress(&self, done: u64, expected: u64);
    /// Resolves when the merge is to stop; never otherwise.
    fn stopped(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Does one merge, journalled under `saga`. When it was stopped ([`Error::Cancelled`]), the chain
/// is as it was; stopping one that has just ended is no error.
pub(crate) async fn run(
    work: &mut Work,
    saga: JobId,
    plan: &MergePlan,
    watch: &dyn Watch,
) -> Result<(), Error> {
    let pulled = MergePlan {
        kind: MergeKind::PullUp,
        ..plan.clone()
    };
    // The guest has ended just after QEMU had pulled up what would now go down.
    let plan = match plan.kind {
        MergeKind::ActiveDown if is_done(work, &pulled).await? => &pulled,
        _ => plan,
    };
    if is_done(work, plan).await? {
        // An earlier one broke off when only the rest was left, perhaps because QEMU died.
        work.step(saga, "remove.merge", &Plan::Merge(plan.clone()))
            .await?;
        // Once it has its new name, it is durable.
        if is_open(work, plan) && both(&work.record, plan)?.0.path.exists() {
            let flushed = work.process()?.flush_disks().await;
            flushed.map_err(Error::qemu(DOING))?;
        }
        complete(work, plan).await?;
        return record_merged(work, saga, plan).await;
    }
    let plan = &placed(&work.record, plan).await?;
    let expected = expected(&work.record, plan).await?;
    work.step(saga, "remove.merge", &Plan::Merge(plan.clone()))
        .await?;
    let merged = match (plan.kind, is_open(work, plan)) {
        (_, false) => off_line(work, plan, watch, expected).await,
        (_, true) => live(work, plan, watch, expected).await,
    };
    match merged {
        Ok(()) => {}
        Err(Error::Cancelled) if is_done(work, plan).await? => {}
        Err(cause) => return Err(cause),
    }
    work.reach("remove.merged");
    complete(work, plan).await?;
    record_merged(work, saga, plan).await
}

/// Whether QEMU has the layers of a merge open.
fn is_open(work: &Work, plan: &MergePlan) -> bool {
    let active = work.record.active_layers().into_iter();
    let mut open = active.flat_map(|top| work.record.chain(top));
    work.guest.is_some() && open.any(|layer| layer.id == plan.upper)
}

/// Of a chain that is skipped, the place where is chosen by what the files hold.
async fn placed(record: &Record, plan: &MergePlan) -> Result<MergePlan, Error> {
    if plan.kind != MergeKind::Skip {
        return Ok(plan.clone());
    }
    let chain = record.chain(plan.upper);
    let paths: Vec<_> = chain
        .iter()
        .rev()
        .skip(1)
        .rev()
        .map(|l| l.path.clone())
        .collect();
    let bytes = blocking(move || Ok(paths.iter().map(|p| files::stored_bytes(p)).collect()));
    let bytes: Vec<u64> = bytes.await?;
    let lower = chain.get(new_base(&bytes) + 1).map(|layer| layer.id);
    Ok(MergePlan {
        lower: lower.unwrap_or(plan.lower),
        ..plan.clone()
    })
}

/// The layers of a merge from the lowest to the one below the upper.
fn run_of(record: &Record, plan: &MergePlan) -> Vec<Layer> {
    let chain = record.chain(plan.upper).into_iter();
    let run = chain.skip_while(|l| l.id != plan.lower);
    run.filter(|l| l.id != plan.upper).cloned().collect()
}

/// The bytes that a merge moves at most; refused if they have no room.
async fn expected(record: &Record, plan: &MergePlan) -> Result<u64, Error> {
    let (lower, upper) = both(record, plan)?;
    let mut moved = run_of(record, plan);
    let into = match plan.kind {
        MergeKind::PullUp | MergeKind::Skip => upper,
        MergeKind::ActiveDown | MergeKind::FrozenDown => {
            moved.retain(|layer| layer.id != lower.id);
            moved.push(upper);
            lower
        }
    };
    let paths: Vec<_> = moved.into_iter().map(|l| l.path).collect();
    blocking(move || {
        let bytes = paths.iter().map(|p| files::stored_bytes(p));
        let bytes = bytes.fold(0, u64::saturating_add);
        let (needed, there) = (bytes.saturating_add(SLACK), files::free_space(&into.path)?);
        if there < needed {
            return Err(Error::InsufficientSpace {
                path: into.path,
                needed,
                there,
            });
        }
        Ok(bytes)
    })
    .await
}

async fn off_line(
    work: &Work,
    plan: &MergePlan,
    watch: &dyn Watch,
    expected: u64,
) -> Result<(), Error> {
    let (lower, upper) = both(&work.record, plan)?;
    let mut follow = Follow {
        progress: Box::new(|share| {
            let done = u128::from(expected) * u128::from(share) / 10_000;
            watch.progress(u64::try_from(done).unwrap_or(expected), expected);
        }),
        stop: watch.stopped(),
    };
    let img = &work.host.img;
    let merged = match plan.kind {
        MergeKind::PullUp | MergeKind::Skip => {
            let base = lower.parent.and_then(|id| work.record.layers.get(&id));
            let base = base.map(|base| (base.path.as_path(), base.format));
            img.pull_following(&upper.path, base, &mut follow).await
        }
        MergeKind::ActiveDown | MergeKind::FrozenDown => {
            img.commit_following(&upper.path, &lower.path, &mut follow)
                .await
        }
    };
    match merged {
        Err(ImgError::Stopped { .. }) => Err(Error::Cancelled),
        other => other.map_err(Error::qemu(DOING)),
    }
}

async fn live(
    work: &Work,
    plan: &MergePlan,
    watch: &dyn Watch,
    expected: u64,
) -> Result<(), Error> {
    let process = work.process()?;
    let (lower, upper) = both(&work.record, plan)?;
    let job = block_job(upper.id)?;
    let begun = match plan.kind {
        MergeKind::PullUp | MergeKind::Skip => {
            let base = lower.parent.map(node).transpose()?;
            process.pull(&job, &node(upper.id)?, base.as_ref()).await
        }
        MergeKind::ActiveDown | MergeKind::FrozenDown => {
            let (_, active) = above(&work.record, upper.id)?;
            let child = qemu_layer(&upper)?;
            process
                .commit_frozen(&job, &node(active)?, &child, &node(lower.id)?)
                .await
        }
    };
    let merge = begun.map_err(Error::qemu(DOING))?;
    // QEMU counts the whole disk, most of which it only looks at.
    let progress = |now: MergeProgress| {
        let share = u128::from(expected) * u128::from(now.done) / u128::from(now.total.max(1));
        watch.progress(u64::try_from(share).unwrap_or(expected), expected);
    };
    match merge.follow(progress, watch.stopped()).await {
        Ok(()) => {
            work.reach("remove.pulled");
            Ok(())
        }
        Err(MergeError::Cancelled) => Err(Error::Cancelled),
        Err(cause) => Err(Error::qemu(DOING)(cause)),
    }
}

/// The layer above a frozen one in the chain that is open, and the active layer of that chain.
fn above(record: &Record, layer: LayerId) -> Result<(LayerId, LayerId), Error> {
    for active in record.active_layers() {
        let chain = record.chain(active);
        let place = chain.iter().position(|l| l.id == layer);
        if let Some(next) = place.and_then(|place| chain.get(place + 1)) {
            return Ok((next.id, active));
        }
    }
    Err(Error::NoSuchLayer(layer))
}

/// Whether the data of a merge is where it belongs, by what QEMU or the files say.
pub(crate) async fn is_done(work: &Work, plan: &MergePlan) -> Result<bool, Error> {
    let (lower, upper) = both(&work.record, plan)?;
    if !is_open(work, plan) {
        return match plan.kind {
            // Doing it again is never wrong.
            MergeKind::ActiveDown => Ok(false),
            MergeKind::FrozenDown => Ok(!lower.path.exists() && upper.path.exists()),
            MergeKind::PullUp | MergeKind::Skip => {
                let base = lower.parent.and_then(|id| work.record.layers.get(&id));
                let info = work.host.img.info(&upper.path, upper.format).await;
                let info = info.map_err(Error::qemu("Reading a disk layer"))?;
                let backing = info.backing.map(|b| b.path);
                Ok(backing.is_some() && backing.as_ref() == base.map(|b| &b.path))
            }
        };
    }
    let nodes = open_nodes(work, plan).await?;
    let has = |id: LayerId| node(id).is_ok_and(|name| nodes.iter().any(|n| n == name.as_str()));
    Ok(match plan.kind {
        MergeKind::PullUp | MergeKind::Skip => has(upper.id) && !has(lower.id),
        MergeKind::ActiveDown => false,
        // Merged, or merged and put in its place already.
        MergeKind::FrozenDown => {
            (has(lower.id) && !has(upper.id)) || (has(upper.id) && !lower.path.exists())
        }
    })
}

/// The nodes of the open chain that a merge is in, the oldest first.
async fn open_nodes(work: &Work, plan: &MergePlan) -> Result<Vec<String>, Error> {
    let devices = work
        .process()?
        .block_devices()
        .await
        .map_err(Error::qemu("Asking for the guest's disks"))?;
    let active = match above(&work.record, plan.upper) {
        Ok((_, active)) => active,
        Err(_) => plan.upper,
    };
    let active = node(active)?;
    let chains = devices.into_iter().map(|d| d.layers);
    let mut chains = chains.filter(|c| c.iter().any(|n| n.node == active.as_str()));
    let chain = chains.next().unwrap_or_default();
    Ok(chain.into_iter().map(|n| n.node).collect())
}

/// What is left to do once the data is where it belongs. Can be repeated.
pub(crate) async fn complete(work: &Work, plan: &MergePlan) -> Result<(), Error> {
    let open = is_open(work, plan);
    match plan.kind {
        MergeKind::ActiveDown => Ok(()),
        MergeKind::PullUp | MergeKind::Skip if open => close_skipped(work, plan).await,
        MergeKind::PullUp | MergeKind::Skip => Ok(()),
        MergeKind::FrozenDown => {
            if open {
                seal(work, plan).await?;
            }
            take_name(work, plan).await?;
            work.reach("remove.renamed");
            if open {
                put_in_place(work, plan).await?;
                work.reach("remove.placed");
            }
            Ok(())
        }
    }
}

/// Lets QEMU close layers that are out of the open chain, the newest first, so that their space is
/// free once their files are deleted, and what lies under them can go one day. Where that fails,
/// the merge is done all the same.
async fn close_skipped(work: &Work, plan: &MergePlan) -> Result<(), Error> {
    let process = work.process()?;
    let known = process
        .block_nodes()
        .await
        .map_err(Error::qemu("Asking for the guest's disks"))?;
    for layer in run_of(&work.record, plan).iter().rev() {
        let name = node(layer.id)?;
        if !known.iter().any(|n| n.node == name.as_str()) {
            continue;
        }
        if let Err(cause) = process.remove_node(&name).await {
            tracing::warn!(%cause, layer = %layer.id, "QEMU does not close a merged layer");
        }
    }
    Ok(())
}

/// Nobody writes to the merged file any more: for as long as it has the name under which QEMU has it.
async fn seal(work: &Work, plan: &MergePlan) -> Result<(), Error> {
    let (lower, _) = both(&work.record, plan)?;
    let below = lower.parent.ok_or(Error::NoSuchLayer(lower.id))?;
    if !lower.path.exists() {
        return Ok(());
    }
    let process = work.process()?;
    let sealed = process.seal(&qemu_layer(&lower)?, &node(below)?).await;
    sealed.map_err(Error::qemu(DOING))
}

/// The merged file takes the upper layer's name, at once.
async fn take_name(work: &Work, plan: &MergePlan) -> Result<(), Error> {
    let (lower, upper) = both(&work.record, plan)?;
    blocking(move || {
        if !lower.path.exists() {
            return Ok(());
        }
        std::fs::File::open(&lower.path)
            .and_then(|file| file.sync_all())
            .map_err(Error::io("Syncing", &lower.path))?;
        std::fs::rename(&lower.path, &upper.path).map_err(Error::io("Renaming", &lower.path))?;
        match upper.path.parent() {
            Some(folder) => files::sync_folder(folder),
            None => Ok(()),
        }
    })
    .await
}

/// In QEMU, the merged file stands under its old name: it is opened again under the new one.
async fn put_in_place(work: &Work, plan: &MergePlan) -> Result<(), Error> {
    let (lower, upper) = both(&work.record, plan)?;
    let nodes = open_nodes(work, plan).await?;
    let upper_node = node(upper.id)?;
    if nodes.iter().any(|n| n == upper_node.as_str()) {
        return Ok(());
    }
    let process = work.process()?;
    // The nodes between have been closed by nobody yet.
    let known = process
        .block_nodes()
        .await
        .map_err(Error::qemu("Asking for the guest's disks"))?;
    let is_known = |name: &str| known.iter().any(|n| n.node == name);
    let between = run_of(&work.record, plan);
    let between = between.iter().filter(|layer| layer.id != lower.id).rev();
    for name in std::iter::once(Ok(upper_node)).chain(between.map(|layer| node(layer.id))) {
        let name = name?;
        if is_known(name.as_str()) {
            process
                .remove_node(&name)
                .await
                .map_err(Error::qemu("Closing a merged layer"))?;
        }
    }
    let (next, active) = above(&work.record, upper.id)?;
    let next = work
        .record
        .layers
        .get(&next)
        .ok_or(Error::NoSuchLayer(next))?;
    let below = lower.parent.ok_or(Error::NoSuchLayer(lower.id))?;
    process
        .put_in_place(
            &node(lower.id)?,
            &qemu_layer(&upper)?,
            &node(below)?,
            &qemu_layer(next)?,
            next.id == active,
        )
        .await
        .map_err(Error::qemu("Opening a merged layer under its name"))
}

/// The rows after a merge, and the files that are left over.
pub(crate) async fn record_merged(
    work: &mut Work,
    saga: JobId,
    plan: &MergePlan,
) -> Result<(), Error> {
    let (lower, upper) = both(&work.record, plan)?;
    let run = run_of(&work.record, plan);
    let mut new = work.record.clone();
    let mut sweep = Sweep::default();
    let on_lowers_parent = |new: &mut Record| {
        if let Some(layer) = new.layers.get_mut(&upper.id) {
            layer.parent = lower.parent;
        }
    };
    match plan.kind {
        MergeKind::ActiveDown => {
            new.layers.remove(&upper.id);
            sweep.files.push(upper.path.clone());
            for layer in run.iter().filter(|layer| layer.id != lower.id) {
                new.layers.remove(&layer.id);
                sweep.files.push(layer.path.clone());
            }
            if let Some(layer) = new.layers.get_mut(&lower.id) {
                layer.frozen = false;
            }
            let device = device_of(&new, upper.id);
            new.set_settings(|settings| {
                if let Some(device) = &device {
                    point(settings, device, &lower);
                }
            });
        }
        MergeKind::PullUp | MergeKind::FrozenDown => {
            for layer in &run {
                new.layers.remove(&layer.id);
                // The lowest file has become the frozen upper's.
                if plan.kind == MergeKind::PullUp || layer.id != lower.id {
                    sweep.files.push(layer.path.clone());
                }
            }
            on_lowers_parent(&mut new);
        }
        MergeKind::Skip => {
            on_lowers_parent(&mut new);
            sweep.files = new.collect_garbage().layers;
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
