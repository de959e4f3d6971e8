//! What readers see: published copies of machines, settings, snapshots and jobs.

use crate::ids::{DeviceId, JobId, LayerId, MachineId, SnapshotId};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A point in time, in microseconds since 1970-01-01T00:00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The present.
    pub fn now() -> Timestamp {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// How long ago it was; no time at all, if the clock was set back.
    pub fn elapsed(self) -> Duration {
        let micros = Timestamp::now().0.saturating_sub(self.0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }
}

/// The state of a machine. The transitional ones last as long as their job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum State {
    /// Turned off (Hyper-V: Disabled).
    Off,
    /// Running (Hyper-V: Enabled).
    Running,
    /// Standing still in memory (Hyper-V: Paused).
    Paused,
    /// Its memory is on disk (Hyper-V: Suspended).
    Saved,
    Starting,
    Stopping,
    Saving,
    Pausing,
    Resuming,
}

/// What is being done to a machine besides changing its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Activity {
    CreatingSnapshot,
    ApplyingSnapshot,
    DeletingSnapshot,
    MergingDisks,
}

/// Whether a machine can go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// Nothing is wrong.
    Ok,
    /// It stands still because of something outside (a full disk); the sentence says what.
    Critical(String),
}

/// A machine, as last published by its owner.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its identity: the `Name` of its `Msvm_ComputerSystem`.
    pub id: MachineId,
    /// Its state.
    pub state: State,
    /// The state that a running change leads to.
    pub requested: Option<State>,
    /// What else is being done to it.
    pub activity: Option<Activity>,
    /// Whether it can go on.
    pub health: Health,
    /// When it was defined.
    pub created: Timestamp,
    /// When `state` last changed.
    pub state_changed: Timestamp,
    /// When the guest was last started, while it runs.
    pub started: Option<Timestamp>,
    /// Settings that are not part of a snapshot.
    pub global: GlobalSettings,
    /// The active configuration.
    pub settings: Arc<Settings>,
    /// The snapshot that the running state descends from.
    pub parent: Option<SnapshotId>,
    /// The snapshot applied last, while it exists.
    pub last_applied: Option<SnapshotId>,
    /// Its snapshots, oldest first.
    pub snapshots: Vec<Arc<Snapshot>>,
    /// While it has a process: what runs it.
    pub process: Option<Process>,
    /// While it has a process that was started from a saved state: how that went.
    pub restored: Option<Restoration>,
}

/// The process behind a running machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id of QEMU.
    pub pid: u32,
    /// `kvm` or `tcg`, and why.
    pub accelerator: (String, String),
    /// How guest memory is backed (`hugetlb`, `transparent huge pages`), and why.
    pub memory_backing: (String, String),
}

/// How a machine was started from a saved state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoration {
    /// When it was asked for.
    pub since: Option<Timestamp>,
    /// Why all memory was loaded before the guest ran, if it was.
    pub whole_because: Option<String>,
    /// Until the guest ran.
    pub running: Option<Duration>,
    /// Until the guest first gave a sign of life; nothing, where it has no way to give one.
    pub first_heartbeat: Option<Duration>,
    /// Until all of its memory was there.
    pub resident: Option<Duration>,
    /// Pages that the guest had to ask for.
    pub requests: Option<u64>,
    /// The sum of the times that such pages took. Processors that wait at the same time are
    /// counted each.
    pub waited: Option<Duration>,
}

/// Settings of a machine that a snapshot does not hold (`Msvm_VirtualSystemGlobalSettingData`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalSettings {
    /// V1: 0 none, 1 restart if previously running, 2 always.
    pub automatic_startup_action: u16,
    /// Delay before an automatic start, in microseconds.
    pub automatic_startup_delay_micros: u64,
    /// V1: 0 turn off, 1 save, 2 shut down.
    pub automatic_shutdown_action: u16,
    /// V1: 0 none, 1 restart, 2 revert to snapshot.
    pub automatic_recovery_action: u16,
    /// Where the configuration lives; set at definition only. Absolute.
    pub external_data_root: Option<PathBuf>,
    /// Where later snapshots go. Absolute.
    pub snapshot_data_root: Option<PathBuf>,
    /// Authorization scope; stored, not interpreted.
    pub scope_of_residence: Option<String>,
    /// Whether debugging of the machine is on; stored, not interpreted.
    pub debug_channel_id: Option<u32>,
}

/// A configuration: one is active, and each snapshot has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Name of the machine, or of the snapshot.
    pub name: String,
    /// Free text; lines end in LF.
    pub notes: String,
    /// When this configuration was made.
    pub created: Timestamp,
    /// Four distinct entries: 0 floppy, 1 CD, 2 IDE disk, 3 PXE network (V1 `BootOrder`).
    pub boot_order: [u16; 4],
    /// Whether Num Lock is on at boot.
    pub bios_num_lock: bool,
    /// SMBIOS UUID, braces and case as printed by [`MachineId`].
    pub bios_guid: MachineId,
    /// SMBIOS serial numbers and tag.
    pub bios_serial_number: String,
    /// SMBIOS base board serial number.
    pub base_board_serial_number: String,
    /// SMBIOS chassis serial number.
    pub chassis_serial_number: String,
    /// SMBIOS chassis asset tag.
    pub chassis_asset_tag: String,
    /// Memory.
    pub memory: MemorySettings,
    /// Processors.
    pub processor: ProcessorSettings,
    /// Whether the guest has a channel for the guest agent. It sees the device, so what was started
    /// or saved without stays without; a machine that starts anew gets it.
    #[serde(default)]
    pub agent_channel: bool,
    /// Every other device, in Hyper-V's order (`recorded-facts` 18 and 19).
    pub devices: Vec<Device>,
}

/// Memory of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemorySettings {
    /// Size in MiB.
    pub quantity_mib: u64,
    /// Reserved, in MiB.
    pub reservation_mib: u64,
    /// Upper limit in MiB.
    pub limit_mib: u64,
    /// Share against other machines; 5000 by default.
    pub weight: u32,
    /// Stored; dynamic memory is refused when it is asked for.
    pub dynamic_memory: bool,
    /// Percent; 20 by default.
    pub target_buffer: u32,
}

/// Processors of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessorSettings {
    /// How many.
    pub count: u32,
    /// 0..=100000.
    pub reservation: u64,
    /// 0..=100000.
    pub limit: u64,
    /// Share against other machines; 100 by default.
    pub weight: u32,
    /// Limit CPUID for old guests.
    pub limit_cpuid: bool,
    /// Limit processor features for migration.
    pub limit_features: bool,
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum DeviceKind {
    Keyboard,
    Ps2Mouse,
    S3Display,
    DisketteDrive,
    DisketteController,
    SerialController,
    SerialPort,
    IdeController,
    ScsiController,
    DiskDrive,
    DvdDrive,
    HardDiskImage,
    IsoImage,
    SyntheticMouse,
    SyntheticDisplay,
    EthernetPort,
}

/// A device of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Its identity within the machine.
    pub id: DeviceId,
    /// What it is.
    pub kind: DeviceKind,
    /// `ElementName`.
    pub name: String,
    /// The device it sits on: a drive on its controller, an image in its drive.
    pub parent: Option<DeviceId>,
    /// Slot on the parent, controller number, or MAC address, as text (`Address`).
    pub address: Option<String>,
    /// Hard disk and ISO images: the file. Serial ports: where the port leads.
    pub connection: Vec<String>,
    /// Hard disk images: the layer that `connection` names.
    pub layer: Option<LayerId>,
    /// Ethernet ports: whether `address` was chosen by the client.
    pub static_mac: bool,
    /// `VirtualSystemIdentifiers`, as given or minted.
    pub identifiers: Vec<String>,
}

/// How the guest was prepared for a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Consistency {
    /// Not at all: memory and disks are of one instant, and the disks alone look as after a loss of
    /// power.
    #[default]
    Crash,
    /// By its agent: its file systems were at rest, so the disks alone are clean, too.
    Application,
}

/// A snapshot of a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Its identity.
    pub id: SnapshotId,
    /// Whose it is.
    pub machine: MachineId,
    /// The snapshot it descends from.
    pub parent: Option<SnapshotId>,
    /// The one instant it shows.
    pub taken: Timestamp,
    /// The settings of that instant; `name` and `notes` are the snapshot's own.
    pub settings: Arc<Settings>,
    /// Whether it holds memory and device state.
    pub has_memory: bool,
    /// How long the guest stood still; `None` if it did not run.
    pub pause: Option<Duration>,
    /// How the guest was prepared.
    pub consistency: Consistency,
    /// How long the guest's file systems were at rest for it; `None` if they were not.
    pub at_rest: Option<Duration>,
    /// The memory is that of a guest whose file systems are at rest: whoever starts it lets them go
    /// on.
    pub owes_thaw: bool,
    /// From the call to durable.
    pub durable: Duration,
    /// Bytes on disk that only this snapshot's memory image takes.
    pub stored_bytes: u64,
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum JobKind {
    Start,
    Restore,
    TurnOff,
    ShutDown,
    Reset,
    Pause,
    Resume,
    Save,
    Destroy,
    CreateSnapshot,
    ApplySnapshot,
    RemoveSnapshot,
    RemoveSnapshotTree,
    VerifySnapshot,
    RehearseSnapshot,
    /// Layers of disks become one, after snapshots were removed or many were taken.
    MergeDisks,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JobState {
    /// Under way (from birth on).
    Running,
    /// Done.
    Completed,
    /// Failed, and everything undone.
    Failed(JobError),
    /// Cancelled on request, and everything undone.
    Cancelled(JobError),
}

/// Why a job failed: the typed cause by its stable name, and the three sentences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// Stable name of the cause ([`crate::Error::code`]), the key of the table of errors.
    pub code: String,
    /// What happened.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

/// A job, as last published.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its identity.
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// The machine it works on; it may be gone.
    pub machine: MachineId,
    /// CreateSnapshot: the new snapshot, once it exists. Apply, remove: the snapshot.
    pub snapshot: Option<SnapshotId>,
    /// Where it stands.
    pub state: JobState,
    /// 0 to 100, never falling; 100 only with `Completed`.
    pub percent: u8,
    /// Bytes written so far, and how many are expected.
    pub bytes: (u64, u64),
    /// How long the guest stood still, once known.
    pub pause: Option<Duration>,
    /// How long the guest's file systems were at rest, once known.
    pub at_rest: Option<Duration>,
    /// Whether it can be cancelled now.
    pub cancellable: bool,
    /// The account that asked for it.
    pub owner: String,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
}
