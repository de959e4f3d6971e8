//! Taking the memory that QEMU sends: the receiver for it, following it to its end, and what it means
//! when it does not come.

use super::images;
use super::snapshot_create::SLACK;
use super::work::Work;
use crate::error::Error;
use crate::files;
use crate::host::MEMORY_SOCKET;
use crate::ids::ImageId;
use crate::jobs::JobHandle;
use qemu::live::MigrationStatus;
use qemu::memory_image::{Compression, Origin};
use qemu::receiver::{Config, RING_LIMIT, ReceiveError, Receiver};
use qemu::spec::MACHINE_TYPE;
use std::path::Path;
use std::time::Duration;

/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(50);

/// Cancels the memory's way out of QEMU, if it is under way.
pub(crate) async fn stop_sending(process: &qemu::Process) {
    let under_way = match process.migration().await {
        Ok(migration) => matches!(
            migration.status,
            MigrationStatus::Setup
                | MigrationStatus::Active
                | MigrationStatus::Device
                | MigrationStatus::Cancelling
                | MigrationStatus::Unknown(_)
        ),
        // It has no monitor to cancel with, either.
        Err(_) => false,
    };
    if under_way && let Err(cause) = process.cancel_migration().await {
        tracing::warn!(%cause, "QEMU does not stop sending memory");
    }
}

/// Of an image with a parent, this part of the guest's memory is reserved on the disk beforehand, and
/// more when it is needed. That there is room for all of it has been checked; but space that is taken
/// and given back again keeps the file system busy, and with it the guest's own writes.
const EXPECTED_CHANGE: u64 = 16;

/// A receiver for the machine's memory, to be written to `path`.
pub(crate) async fn listen(work: &Work, image: ImageId, path: &Path) -> Result<Receiver, Error> {
    let socket = work.host.run_dir(work.record.id).join(MEMORY_SOCKET);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(files::TEMPORARY);
    let parent = images::below(work).await;
    let ram = work.record.settings.memory.quantity_mib << 20;
    let expected = match parent {
        None => ram,
        Some(_) => ram / EXPECTED_CHANGE,
    };
    let receiver = Receiver::listen(Config {
        socket,
        temporary: temporary.into(),
        path: path.to_owned(),
        origin: Origin {
            qemu: work.host.installation.version.into(),
            machine_type: MACHINE_TYPE.to_owned(),
            ram_mib: work.record.settings.memory.quantity_mib,
        },
        ring_limit: RING_LIMIT,
        id: images::in_file(image),
        parent,
        compression: Compression::None,
        expected,
    })
    .map_err(Error::qemu("Listening for the guest's memory"))?;
    receiver
        .ready()
        .await
        .map_err(|cause| receive_failure(path, cause))?;
    Ok(receiver)
}

/// Follows the memory until QEMU has sent all of it.
pub(crate) async fn wait_for_memory(
    process: &qemu::Process,
    receiver: &Receiver,
    path: &Path,
    job: &JobHandle,
) -> Result<(), Error> {
    let mut events = process.events();
    loop {
        // Its event makes the end seen at once; looking now and then makes it sure.
        tokio::select! {
            () = job.wait_cancelled() => return Err(Error::Cancelled),
            cause = receiver.failed() => return Err(receive_failure(path, cause)),
            () = process.exited() => return Err(Error::GuestDied { log: process.log_tail() }),
            () = qemu::live::migration_changed(&mut events) => {}
            () = tokio::time::sleep(TICK) => {}
        }
        let migration = process
            .migration()
            .await
            .map_err(Error::qemu("Following the guest's memory"))?;
        match migration.status {
            MigrationStatus::Completed => return Ok(()),
            MigrationStatus::Failed { description } => {
                // QEMU only sees that nobody takes its stream any more.
                if let Some(cause) = receiver.failure() {
                    return Err(receive_failure(path, cause));
                }
                return Err(Error::qemu("Capturing the guest's memory")(
                    qemu::live::LiveError::MigrationFailed { description },
                ));
            }
            MigrationStatus::Cancelled | MigrationStatus::Cancelling => {
                return Err(Error::qemu("Capturing the guest's memory")(
                    qemu::live::LiveError::MigrationCancelled,
                ));
            }
            _ => {}
        }
        let written = receiver.progress().written;
        let share = migration.pages.saturating_mul(4096).max(1);
        let expected = u128::from(written) * u128::from(migration.total) / u128::from(share);
        job.progress(written, u64::try_from(expected).unwrap_or(u64::MAX));
    }
}

pub(super) fn receive_failure(path: &Path, cause: ReceiveError) -> Error {
    if cause.raw_os_error() == Some(rustix::io::Errno::NOSPC.raw_os_error()) {
        return Error::InsufficientSpace {
            path: path.to_owned(),
            needed: SLACK,
            there: files::free_space(path).unwrap_or(0),
        };
    }
    match (&cause, cause.raw_os_error()) {
        // The host's disk, and not QEMU.
        (ReceiveError::File { path, .. }, Some(code)) => {
            Error::io("Writing the memory image", path)(std::io::Error::from_raw_os_error(code))
        }
        _ => Error::qemu("Writing the memory image")(cause),
    }
}
