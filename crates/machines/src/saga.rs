//! Sagas: work in several steps that ends done or undone, whatever dies in between.
//!
//! Before a step's effect, the step and the saga's `Plan` are in the journal; the row goes in the
//! same commit that makes the outcome true. Steps between two journalled ones (the ones that happen
//! while the guest stands still) are told apart on recovery by asking QEMU, which is the truth
//! about its own disks.

use crate::catalog::{Image, JournalRow, Layer};
use crate::error::Error;
use crate::ids::{DeviceId, ImageId, JobId, LayerId, MachineId, SnapshotId};
use crate::model::{Consistency, Process, Restoration, Timestamp};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Every point at which the service can be made to die by [`CRASH_VARIABLE`], by verb, in the order
/// in which they are reached. Points of `create` that hold a guest are not reached when the machine
/// is off or saved; those of a merge only when there is something to merge.
pub const STEPS: &[(&str, &[&str])] = &[
    (
        "create",
        &[
            "create.intent",
            "create.overlays",
            "create.attach",
            "create.freeze",
            "create.stopped",
            "create.switched",
            "create.sending",
            "create.captured",
            "create.receiving",
            "create.received",
            "create.manifest",
            "create.written",
            "create.undoing",
            "create.undo",
            "create.done",
        ],
    ),
    // With `create`, for a snapshot of consistency `Application` only.
    (
        "quiesce",
        &["create.quiesce", "create.quiesced", "create.thawed"],
    ),
    (
        "apply",
        &[
            "apply.intent",
            "apply.overlays",
            "apply.sweep",
            "apply.swept",
            "apply.done",
        ],
    ),
    (
        "remove",
        &[
            "remove.intent",
            "remove.sweep",
            "remove.swept",
            "remove.merge",
            "remove.pulled",
            "remove.merged",
            "remove.renamed",
            "remove.placed",
            "remove.done",
        ],
    ),
    (
        "start",
        &[
            "start.launch",
            "start.launched",
            "start.run",
            "start.running",
            "start.done",
        ],
    ),
    (
        "save",
        &[
            "save.stop",
            "save.sending",
            "save.received",
            "save.quit",
            "save.done",
        ],
    ),
    ("restore", &["restore.resident"]),
    ("turn_off", &["turn_off.quit", "turn_off.done"]),
    ("change_state", &["state.change"]),
    (
        "shut_down",
        &[
            "shut_down.ask",
            "shut_down.asked",
            "shut_down.quit",
            "shut_down.ended",
        ],
    ),
    (
        "destroy",
        &["destroy.intent", "destroy.sweep", "destroy.done"],
    ),
    (
        "shorten_image",
        &["image.rename", "image.renamed", "image.recorded"],
    ),
    ("rehearse", &["rehearse.launched", "rehearse.running"]),
];

/// Test hook: an environment variable naming one of [`STEPS`]. The service kills itself (SIGKILL)
/// when it gets there. Read once, when the service opens.
pub const CRASH_VARIABLE: &str = "ROOTVIRT_CRASH_POINT";

/// Where the service is to die, if anywhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct CrashPoint(Option<String>);

impl CrashPoint {
    pub fn from_environment() -> CrashPoint {
        let point = std::env::var(CRASH_VARIABLE).ok().filter(|p| !p.is_empty());
        if let Some(point) = &point {
            tracing::warn!(%point, "this service will kill itself at a crash point (test hook)");
        }
        CrashPoint(point)
    }

    pub fn reach(&self, name: &'static str) {
        tracing::debug!(step = name, "reached");
        if self.0.as_deref() == Some(name) {
            let _ = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
        }
    }
}

/// What a saga is about to do or undo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Plan {
    Start(StartPlan),
    TurnOff,
    Save(SavePlan),
    /// Pause, resume, reset, shut down: nothing to undo but the state itself.
    Momentary,
    Create(CreatePlan),
    Apply(ApplyPlan),
    Remove(SweepPlan),
    Merge(MergePlan),
    Shorten(ShortenPlan),
    Destroy(SweepPlan),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StartPlan {
    /// The saved state that is restored.
    pub image: Option<ImageId>,
    /// From the step on at which the guest may run.
    #[serde(default)]
    pub launched: Option<Launched>,
}

/// A process in which the guest may run from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Launched {
    pub process: Process,
    /// The guest gets its memory on demand; not so without a saved state.
    pub on_demand: bool,
    pub restored: Option<Restoration>,
    /// The files that the guest can write to, as they were before it could. If the process is
    /// gone when this is looked at again and they are as they were, the guest has not run, and the
    /// saved state still fits its disks.
    pub written: Vec<FileMark>,
}

/// What changes when a file is written to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileMark {
    pub path: PathBuf,
    pub inode: u64,
    pub bytes: u64,
    pub blocks: u64,
    /// Seconds and nanoseconds.
    pub modified: (i64, i64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavePlan {
    pub image: ImageId,
    pub path: PathBuf,
    pub was_running: bool,
}

/// A new active layer over a disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NewLayer {
    pub device: DeviceId,
    /// The layer that it lies on.
    pub below: LayerId,
    pub overlay: Layer,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CreatePlan {
    pub snapshot: SnapshotId,
    pub name: String,
    #[serde(default)]
    pub consistency: Consistency,
    pub dir: PathBuf,
    pub layers: Vec<NewLayer>,
    /// A new memory image (the machine runs).
    pub memory: Option<Image>,
    /// A saved state to be shared (the machine is saved).
    pub shared: Option<ImageId>,
    pub begun: Timestamp,
    /// From here on the guest may write to the new layers.
    pub freezing: bool,
    /// New layers that are out of their chains again.
    pub folded: Vec<LayerId>,
    /// Once everything is on disk.
    pub captured: Option<Captured>,
}

/// What was captured: from here on the saga goes forward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Captured {
    pub taken: Timestamp,
    pub pause_micros: Option<u64>,
    #[serde(default)]
    pub at_rest_micros: Option<u64>,
    pub durable_micros: u64,
    pub stored_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ApplyPlan {
    pub layers: Vec<NewLayer>,
    pub sweep: Sweep,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SweepPlan {
    pub sweep: Sweep,
}

/// Files and folders that no row refers to any more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sweep {
    pub files: Vec<PathBuf>,
    /// Removed if they are empty by then, in this order.
    pub folders: Vec<PathBuf>,
}

/// A memory image whose file is replaced by one that stands on fewer others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShortenPlan {
    pub image: ImageId,
}

/// How two layers of a disk become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MergeKind {
    /// The guest runs: the active layer takes up those below, which go.
    PullUp,
    /// The active layer and those below go down into the lowest, which becomes active.
    ActiveDown,
    /// A frozen layer goes down into the one below, which then takes its place and name.
    FrozenDown,
    /// The active layer takes a copy of what lies in those below, which stay for their snapshots.
    Skip,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MergePlan {
    pub kind: MergeKind,
    /// The oldest of the layers that become one (or are skipped).
    pub lower: LayerId,
    /// The newest; what lies between the two goes with them.
    pub upper: LayerId,
}

impl Plan {
    pub fn row(&self, saga: JobId, machine: MachineId, step: &str) -> Result<JournalRow, Error> {
        let plan =
            serde_json::to_string(self).map_err(|cause| crate::catalog::CatalogError::Damaged {
                table: "journal",
                reason: cause.to_string(),
            })?;
        Ok(JournalRow {
            saga,
            machine,
            step: step.to_owned(),
            plan,
        })
    }

    pub fn read(row: &JournalRow) -> Result<Plan, Error> {
        serde_json::from_str(&row.plan).map_err(|cause| {
            Error::Catalog(crate::catalog::CatalogError::Damaged {
                table: "journal",
                reason: cause.to_string(),
            })
        })
    }
}
