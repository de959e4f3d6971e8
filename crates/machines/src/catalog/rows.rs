//! What the catalog holds, as types. Settings and other nested documents are stored as JSON of the
//! types of [`crate::model`]; what is searched for has columns of its own.

use crate::ids::{ImageId, JobId, LayerId, MachineId, SnapshotId};
use crate::model::{
    Consistency, GlobalSettings, Health, Job, JobKind, JobState, Process, Restoration, Settings,
    Snapshot, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The states that outlast the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum DurableState {
    Off,
    Running,
    Paused,
    Saved,
}

/// A machine without its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineBody {
    /// Its state.
    pub state: DurableState,
    /// When it was defined.
    pub created: Timestamp,
    /// When `state` last changed.
    pub state_changed: Timestamp,
    /// When the guest was started.
    pub started: Option<Timestamp>,
    /// Settings outside of snapshots.
    pub global: GlobalSettings,
    /// The snapshot that the running state descends from.
    pub parent: Option<SnapshotId>,
    /// The snapshot applied last.
    pub last_applied: Option<SnapshotId>,
    /// While `Saved`: the memory image.
    pub saved_image: Option<ImageId>,
    /// While the guest gets its memory on demand: the memory image that it comes from.
    #[serde(default)]
    pub serving: Option<ImageId>,
    /// How it was last started from a saved state, while it runs since.
    #[serde(default)]
    pub restored: Option<Restoration>,
    /// The guest's file systems may be at rest for a snapshot, and are to be let go on whenever it
    /// runs.
    #[serde(default)]
    pub owes_thaw: bool,
    /// Whether it can go on.
    pub health: Health,
    /// While it has a process.
    pub process: Option<Process>,
    /// Layers of ours whose disk was taken out of the machine: kept until the machine goes, since
    /// they hold the only copy of what was written to that disk.
    #[serde(default)]
    pub detached: Vec<LayerId>,
}

/// A machine.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineRow {
    /// Its identity.
    pub id: MachineId,
    /// All but the settings.
    pub body: MachineBody,
    /// The active settings.
    pub settings: Arc<Settings>,
}

/// A snapshot, and the image it refers to.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotRow {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// Its memory image; may be shared.
    pub image: Option<ImageId>,
    /// The folder of its manifest.
    pub dir: PathBuf,
}

/// The part of a snapshot that has no column of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SnapshotBody {
    pub has_memory: bool,
    pub pause_micros: Option<u64>,
    #[serde(default)]
    pub consistency: Consistency,
    #[serde(default)]
    pub at_rest_micros: Option<u64>,
    #[serde(default)]
    pub owes_thaw: bool,
    pub durable_micros: u64,
    pub stored_bytes: u64,
}

impl SnapshotBody {
    pub fn of(snapshot: &Snapshot) -> SnapshotBody {
        SnapshotBody {
            has_memory: snapshot.has_memory,
            pause_micros: snapshot.pause.map(micros),
            consistency: snapshot.consistency,
            at_rest_micros: snapshot.at_rest.map(micros),
            owes_thaw: snapshot.owes_thaw,
            durable_micros: micros(snapshot.durable),
            stored_bytes: snapshot.stored_bytes,
        }
    }

    pub fn into_snapshot(
        self,
        id: SnapshotId,
        machine: MachineId,
        parent: Option<SnapshotId>,
        taken: Timestamp,
        settings: Arc<Settings>,
    ) -> Snapshot {
        Snapshot {
            id,
            machine,
            parent,
            taken,
            settings,
            has_memory: self.has_memory,
            pause: self.pause_micros.map(Duration::from_micros),
            consistency: self.consistency,
            at_rest: self.at_rest_micros.map(Duration::from_micros),
            owes_thaw: self.owes_thaw,
            durable: Duration::from_micros(self.durable_micros),
            stored_bytes: self.stored_bytes,
        }
    }
}

/// One file of a disk's chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// Its identity.
    pub id: LayerId,
    /// The machine whose disk it belongs to.
    pub machine: MachineId,
    /// The file; absolute.
    pub path: PathBuf,
    /// Decided when the file was attached, never guessed again.
    pub format: qemu::spec::Format,
    /// The layer below.
    pub parent: Option<LayerId>,
    /// A snapshot or a newer layer lies on it: it is never written again.
    pub frozen: bool,
    /// Whether we made the file. Files given by path are never deleted.
    pub ours: bool,
}

/// A memory image: RAM and device state of one instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Its identity.
    pub id: ImageId,
    /// The machine it was taken of.
    pub machine: MachineId,
    /// The file.
    pub path: PathBuf,
    /// Bytes it takes on disk.
    pub bytes: u64,
    /// The image that it stands on: that one holds the pages that this one lacks.
    #[serde(default)]
    pub parent: Option<ImageId>,
}

/// A job, as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRow {
    /// Its identity.
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// The machine it works on.
    pub machine: MachineId,
    /// The snapshot it makes or works on.
    pub snapshot: Option<SnapshotId>,
    /// Where it stands.
    pub state: JobState,
    /// Progress.
    pub percent: u8,
    /// Bytes written, bytes expected.
    pub bytes: (u64, u64),
    /// How long the guest stood still.
    pub pause_micros: Option<u64>,
    /// How long the guest's file systems were at rest.
    #[serde(default)]
    pub at_rest_micros: Option<u64>,
    /// The account that asked for it.
    pub owner: String,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
}

impl From<&Job> for JobRow {
    fn from(job: &Job) -> JobRow {
        JobRow {
            id: job.id,
            kind: job.kind,
            machine: job.machine,
            snapshot: job.snapshot,
            state: job.state.clone(),
            percent: job.percent,
            bytes: job.bytes,
            pause_micros: job.pause.map(micros),
            at_rest_micros: job.at_rest.map(micros),
            owner: job.owner.clone(),
            created: job.created,
            finished: job.finished,
        }
    }
}

impl From<JobRow> for Job {
    fn from(row: JobRow) -> Job {
        Job {
            id: row.id,
            kind: row.kind,
            machine: row.machine,
            snapshot: row.snapshot,
            state: row.state,
            percent: row.percent,
            bytes: row.bytes,
            pause: row.pause_micros.map(Duration::from_micros),
            at_rest: row.at_rest_micros.map(Duration::from_micros),
            cancellable: false,
            owner: row.owner,
            created: row.created,
            finished: row.finished,
        }
    }
}

/// A saga under way: the step it is about to do, and what is needed to undo or finish it. A saga
/// has its job's identity.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalRow {
    /// The saga.
    pub saga: JobId,
    /// The machine it works on.
    pub machine: MachineId,
    /// The step about to be done, from [`crate::saga::STEPS`].
    pub step: String,
    /// The saga's plan, as JSON.
    pub plan: String,
}

/// Everything in the catalog but accounts and audit log.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Contents {
    pub machines: Vec<MachineRow>,
    pub snapshots: Vec<SnapshotRow>,
    pub layers: Vec<Layer>,
    pub images: Vec<Image>,
    pub jobs: Vec<JobRow>,
    pub journal: Vec<JournalRow>,
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
