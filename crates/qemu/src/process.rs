//! A running QEMU process and its verbs.

use crate::installation::Installation;
use crate::qmp::{Event, Qmp, QmpError};
use crate::spec::{Id, LaunchSpec, Layer, SpecError};
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

/// The Unix sockets in a run folder: the monitor we use, and a spare for when that one is taken.
pub const SOCKET_NAMES: [&str; 2] = ["qmp.sock", "spare.sock"];

/// A running QEMU process. Clones share it. Dropping it leaves the guest running.
#[derive(Clone)]
pub struct Process {
    qmp: Qmp,
}

/// Why a process was not started or not found again.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ProcessError {
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Qmp(#[from] QmpError),
    #[error("{action} {path} failed: {cause}.")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("The machine runs already, as process {pid}.")]
    AlreadyRunning { pid: u32 },
    #[error("QEMU ended at start ({status}). It says: {said}")]
    LaunchFailed { status: String, said: String },
    #[error("QEMU was not ready within {seconds} s. It says: {said}")]
    LaunchTimedOut { seconds: u64, said: String },
    #[error("No process runs the machine.")]
    NotRunning,
    #[error("The process at {run_dir} is another machine: {found} instead of {expected}.")]
    WrongMachine {
        run_dir: PathBuf,
        expected: Uuid,
        found: Uuid,
    },
}

/// Whether the guest runs, in QEMU's words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RunState {
    Running,
    Paused,
    Prelaunch,
    InMigrate,
    PostMigrate,
    FinishMigrate,
    RestoreVm,
    SaveVm,
    IoError,
    InternalError,
    GuestPanicked,
    Shutdown,
    Suspended,
    Watchdog,
    Debug,
    Colo,
    /// A state that this crate does not know.
    Unknown(String),
}

/// A block device, with the files below it right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDevice {
    /// The drive's id.
    pub drive: Id,
    /// The chain, oldest first; empty for an empty CD drive. `node` is QEMU's name of the node.
    pub layers: Vec<BlockNode>,
}

/// A node of QEMU's block graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockNode {
    /// Its name.
    pub node: String,
    /// QEMU's driver.
    pub driver: String,
    /// The file.
    pub path: PathBuf,
    /// Whether it is read-only now.
    pub read_only: bool,
}

#[allow(clippy::todo, unused_variables, missing_docs)]
impl Process {
    /// Starts a process and waits until it is ready. The guest then runs, or not, as `spec.start`
    /// says.
    pub async fn launch(
        installation: &Installation,
        spec: &LaunchSpec,
    ) -> Result<Process, ProcessError> {
        todo!()
    }
    /// Finds the process that runs the machine `uuid` with its files in `run_dir`.
    pub async fn reconnect(run_dir: &Path, uuid: Uuid) -> Result<Process, ProcessError> {
        todo!()
    }
    pub fn pid(&self) -> u32 {
        todo!()
    }
    pub fn uuid(&self) -> Uuid {
        todo!()
    }
    pub fn run_dir(&self) -> &Path {
        todo!()
    }
    pub fn qmp(&self) -> &Qmp {
        &self.qmp
    }
    pub fn is_alive(&self) -> bool {
        todo!()
    }
    /// Waits until the process has ended.
    pub async fn exited(&self) {
        todo!()
    }
    /// SIGKILL, and waits until it is gone.
    pub async fn kill(&self) -> Result<(), ProcessError> {
        todo!()
    }
    pub async fn stop(&self) -> Result<(), QmpError> {
        todo!()
    }
    pub async fn cont(&self) -> Result<(), QmpError> {
        todo!()
    }
    pub async fn status(&self) -> Result<RunState, QmpError> {
        todo!()
    }
    pub async fn reset(&self) -> Result<(), QmpError> {
        todo!()
    }
    pub async fn powerdown(&self) -> Result<(), QmpError> {
        todo!()
    }
    /// Ends the process; kills it if it has not ended after `patience`.
    pub async fn quit(&self, patience: Duration) -> Result<(), ProcessError> {
        todo!()
    }
    pub async fn eject(&self, drive: &Id) -> Result<(), QmpError> {
        todo!()
    }
    pub async fn insert(&self, drive: &Id, layer: &Layer) -> Result<(), ProcessError> {
        todo!()
    }
    /// What each drive stands on right now: the truth after a crash.
    pub async fn block_devices(&self) -> Result<Vec<BlockDevice>, QmpError> {
        todo!()
    }
    /// A picture of the screen, as a PPM file.
    pub async fn screendump(&self, path: &Path) -> Result<(), QmpError> {
        todo!()
    }
    /// Processor time used so far by all virtual processors together.
    pub fn cpu_time(&self) -> Option<Duration> {
        todo!()
    }
    pub fn uptime(&self) -> Option<Duration> {
        todo!()
    }
    /// The end of what QEMU wrote to its log.
    pub fn log_tail(&self) -> String {
        todo!()
    }
    pub fn events(&self) -> tokio::sync::broadcast::Receiver<Event> {
        self.qmp.subscribe()
    }
}
