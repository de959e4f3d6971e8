//! The steps of a live snapshot and of saving, on the guest's side.

use crate::process::Process;
use crate::qmp::{Qmp, QmpError, Recorder};
use crate::spec::{Id, Layer, SpecError};
use std::path::Path;
use std::time::Duration;

/// One disk's step to a new active layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The node that is frozen.
    pub node: Id,
    /// The node that is written from now on; added with [`Process::add_overlay`].
    pub overlay: Id,
}

/// How far a migration (memory leaving or entering the process) has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Where it stands.
    pub status: MigrationStatus,
    /// Bytes sent so far.
    pub transferred: u64,
    /// Guest memory in bytes.
    pub total: u64,
    /// Pages handled so far (`normal + duplicate`).
    pub pages: u64,
}

/// Where a migration stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MigrationStatus {
    None,
    Setup,
    Active,
    Device,
    Cancelling,
    Cancelled,
    Completed,
    Failed { description: String },
    Unknown(String),
}

/// Why a step of a live snapshot did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum LiveError {
    #[error(transparent)]
    Qmp(#[from] QmpError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error("QEMU could not send the guest's memory: {description}")]
    MigrationFailed { description: String },
    #[error("Sending the guest's memory was cancelled.")]
    MigrationCancelled,
    #[error("The guest's memory was not captured within {seconds} s.")]
    MigrationTimedOut { seconds: u64 },
    #[error(
        "The guest ran between the freezing of its disks and of its memory (QEMU reports {events}); \
         the snapshot would be torn and is refused."
    )]
    Torn { events: String },
}

/// Watches how often the guest stands still; make it before [`Process::stop`].
pub struct PauseWatch {
    #[allow(dead_code)]
    recorder: Recorder,
}

#[allow(clippy::todo, unused_variables)]
impl PauseWatch {
    /// Starts watching.
    pub fn new(qmp: &Qmp) -> PauseWatch {
        todo!()
    }
    /// How long the guest stood still; `None` if it did not run before. Refuses a torn snapshot:
    /// anything but exactly one STOP and one RESUME (none, if it did not run).
    pub async fn judge(&self, was_running: bool) -> Result<Option<Duration>, LiveError> {
        todo!()
    }
}

#[allow(clippy::todo, unused_variables)]
impl Process {
    /// Opens an overlay (made by [`crate::img::Img::create_overlay`]) without attaching it.
    pub async fn add_overlay(&self, overlay: &Layer) -> Result<(), LiveError> {
        todo!()
    }
    /// All disks at one instant, or none.
    pub async fn switch_overlays(&self, switches: &[Switch]) -> Result<(), LiveError> {
        todo!()
    }
    /// Closes a node that nothing uses.
    pub async fn remove_node(&self, node: &Id) -> Result<(), QmpError> {
        todo!()
    }
    /// Starts to send the guest's memory of this instant to `socket`.
    pub async fn begin_background_snapshot(&self, socket: &Path) -> Result<(), LiveError> {
        todo!()
    }
    /// Starts to send a stopped guest's memory and devices to `socket`.
    pub async fn begin_save(&self, socket: &Path) -> Result<(), LiveError> {
        todo!()
    }
    /// Waits until the instant is fixed, so that the guest may run on.
    pub async fn wait_until_captured(&self, patience: Duration) -> Result<(), LiveError> {
        todo!()
    }
    /// How far the migration has come.
    pub async fn migration(&self) -> Result<Migration, QmpError> {
        todo!()
    }
    /// Waits until the migration has completed; its failure is an error.
    pub async fn wait_migration(&self, patience: Duration) -> Result<Migration, LiveError> {
        todo!()
    }
    /// Cancels the migration and waits until it is gone. The guest runs on.
    pub async fn cancel_migration(&self) -> Result<(), LiveError> {
        todo!()
    }
}
