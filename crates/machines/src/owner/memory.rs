//! Launching a machine's process on the best memory that can be had.
//!
//! Huge pages come from the host's pool, which is held from the decision until the process has its
//! pages. Nothing about them is a reason not to start: if QEMU does not come up on them, it is
//! launched again without, and the machine shows why.
//!
//! What is on transparent huge pages is healed between operations: a snapshot splits them.

use super::launch;
use super::work::{Guest, Work, blocking};
use crate::error::Error;
use crate::files;
use crate::model::Process;
use qemu::memory_backing::{Decision, Prepared, prepare};
use qemu::process::ProcessError;
use qemu::spec::{Backing, Start};

/// Memory that must be left to the host beside a guest's.
const HOST_RESERVE_MIB: u64 = 64;

/// Launches QEMU; the guest stands still.
pub(super) async fn launch(work: &mut Work, start: Start) -> Result<Process, Error> {
    let mib = work.record.settings.memory.quantity_mib;
    let policy = work.host.huge_pages;
    let prepared = blocking(move || Ok(prepare(mib, policy))).await?;
    work.reach("start.memory");
    let (process, decision) = match prepared.decision.backing {
        Backing::Hugetlb => on_huge_pages(work, prepared, start).await?,
        Backing::Transparent => {
            let process = without(work, mib, start).await?;
            (process, prepared.decision)
        }
    };
    let shown = Process {
        pid: process.pid(),
        accelerator: (
            work.host.accelerator.0.as_str().into(),
            work.host.accelerator.1.clone(),
        ),
        memory_backing: (decision.backing.as_str().into(), decision.reason),
    };
    work.guest = Some(Guest::new(process));
    Ok(shown)
}

/// Nothing works on the guest any more: its huge pages may be made whole.
pub(super) async fn heal(work: &Work) {
    let Some(process) = healable(work) else {
        return;
    };
    let healer = match process.memory_place().await {
        Ok(Some(place)) => process.heal(place),
        Ok(None) => return,
        Err(cause) => {
            tracing::warn!(%cause, machine = %work.record.id, "guest memory was not found");
            return;
        }
    };
    match healer {
        Ok(healer) => work.host.healers.put(work.record.id, healer),
        Err(cause) => {
            tracing::warn!(%cause, machine = %work.record.id, "guest memory is not healed");
        }
    }
}

/// Something is about to work on the guest.
pub(super) async fn stop_healing(work: &Work) {
    if let Some(healer) = work.host.healers.take(work.record.id) {
        healer.stop().await;
    }
}

/// The process, if its memory can be split.
fn healable(work: &Work) -> Option<qemu::Process> {
    let process = work.process().ok()?;
    let shown = work.record.body.process.as_ref()?;
    let splits = shown.memory_backing.0 == Backing::Transparent.as_str();
    // QEMU keeps memory that is on its way in small pages.
    (splits && work.record.body.serving.is_none()).then_some(process)
}

async fn on_huge_pages(
    work: &Work,
    prepared: Prepared,
    start: Start,
) -> Result<(qemu::Process, Decision), Error> {
    match launch_on(work, Backing::Hugetlb, start).await? {
        Ok(process) => {
            let decision = prepared.decision.clone();
            // Blocks for the time that the kernel takes to give back what was not used.
            blocking(move || {
                prepared.taken();
                Ok(())
            })
            .await?;
            Ok((process, decision))
        }
        Err(cause @ (ProcessError::LaunchFailed { .. } | ProcessError::LaunchTimedOut { .. })) => {
            let reason = format!("QEMU did not start on huge pages. {cause}");
            tracing::warn!(machine = %work.record.id, %reason, "starting without huge pages");
            let decision = blocking(move || Ok(prepared.fall_back(reason))).await?;
            let mib = work.record.settings.memory.quantity_mib;
            Ok((without(work, mib, start).await?, decision))
        }
        Err(cause) => Err(Error::qemu("Starting QEMU")(cause)),
    }
}

async fn without(work: &Work, mib: u64, start: Start) -> Result<qemu::Process, Error> {
    let (_, there) = files::host_memory_mib();
    let needed = mib.saturating_add(HOST_RESERVE_MIB);
    if there < needed {
        return Err(Error::InsufficientMemory { needed, there });
    }
    launch_on(work, Backing::Transparent, start)
        .await?
        .map_err(Error::qemu("Starting QEMU"))
}

async fn launch_on(
    work: &Work,
    backing: Backing,
    start: Start,
) -> Result<Result<qemu::Process, ProcessError>, Error> {
    let spec = launch::spec(&work.record, &work.host, backing, start)?;
    Ok(qemu::Process::launch(&work.host.installation, &spec).await)
}
