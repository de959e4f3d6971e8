//! Why a request or a job failed: one variant for each cause, with its data.
//!
//! What each cause is called on the wires (return codes, CIM status) is decided above, in one
//! table keyed by [`Error::code`]. Here each says what happened ([`Error::what`]), why
//! ([`Error::why`]) and what to do ([`Error::remedy`]).

use crate::catalog::CatalogError;
use crate::ids::{DeviceId, JobId, LayerId, MachineId, SnapshotId};
use crate::model::{DeviceKind, JobError, State};
use std::path::PathBuf;

/// A cause. Every variant has a stable [`code`](Error::code).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Error {
    // Things that are not there.
    #[error("There is no virtual machine {0}.")]
    NoSuchMachine(MachineId),
    #[error("There is no snapshot {0}.")]
    NoSuchSnapshot(SnapshotId),
    #[error("There is no job {0}.")]
    NoSuchJob(JobId),
    #[error("The virtual machine has no device {0}.")]
    NoSuchDevice(DeviceId),
    #[error("The snapshot {snapshot} belongs to another virtual machine than {machine}.")]
    ForeignSnapshot {
        snapshot: SnapshotId,
        machine: MachineId,
    },

    // States.
    #[error("The virtual machine is {state:?}, which does not allow it to {verb}.")]
    WrongState { state: State, verb: &'static str },
    #[error("The virtual machine is already {state:?}.")]
    AlreadyInState { state: State },
    #[error("Another operation is under way on the virtual machine: {running}.")]
    Busy { running: &'static str },
    #[error("The job {0} has already ended.")]
    JobEnded(JobId),
    #[error("The job {0} cannot be cancelled at this point.")]
    NotCancellable(JobId),
    #[error("The operation was cancelled.")]
    Cancelled,
    #[error("The service stopped while the operation was under way.")]
    ServiceRestarted,
    #[error("The service is shutting down.")]
    ServiceStopping,
    #[error("The virtual machine {0} was left by an earlier service in a state that is not known.")]
    Unsettled(MachineId),

    // Values.
    #[error("The name is not acceptable: {reason}.")]
    InvalidName { reason: &'static str },
    #[error("{mib} MiB of memory is not acceptable: it must be {least} to {most} MiB.")]
    InvalidMemory { mib: u64, least: u64, most: u64 },
    #[error("{count} processors is not acceptable: it must be 1 to {most}.")]
    InvalidProcessorCount { count: u64, most: u64 },
    #[error("The boot order must hold the four entries 0, 1, 2 and 3, each once.")]
    InvalidBootOrder,
    #[error("The value for {field} is not acceptable: {reason}.")]
    InvalidValue { field: &'static str, reason: String },
    #[error("{field} cannot be changed here.")]
    NotChangeable {
        field: &'static str,
        reason: &'static str,
    },
    #[error("Dynamic memory is not supported.")]
    DynamicMemory,
    #[error("The request changes the same resource twice: {0}.")]
    ChangedTwice(String),

    // The guest's agent.
    #[error("The guest cannot be prepared for a snapshot. {reason}")]
    NoGuestAgent { reason: String },
    #[error("The guest's file systems were not brought to rest: {reason}.")]
    GuestNotQuiesced { reason: String },

    // Devices.
    #[error("A {0:?} cannot be added to a virtual machine.")]
    NotAddable(DeviceKind),
    #[error("The device {0} belongs to every virtual machine and cannot be removed.")]
    NotRemovable(DeviceId),
    #[error("A {kind:?} needs a parent device.")]
    NoParent { kind: DeviceKind },
    #[error("A {kind:?} cannot sit on the device {parent}, a {parent_kind:?}.")]
    WrongParent {
        kind: DeviceKind,
        parent: DeviceId,
        parent_kind: DeviceKind,
    },
    #[error("Slot {slot} of the device {parent} does not exist: it has the slots 0 to {last}.")]
    NoSuchSlot {
        parent: DeviceId,
        slot: String,
        last: u32,
    },
    #[error("Slot {slot} of the device {parent} is taken by the device {taken_by}.")]
    SlotTaken {
        parent: DeviceId,
        slot: u32,
        taken_by: DeviceId,
    },
    #[error("Every slot of the device {0} is taken.")]
    NoFreeSlot(DeviceId),
    #[error("The device {device} still carries the device {child}.")]
    HasChildren { device: DeviceId, child: DeviceId },
    #[error("The virtual machine cannot have more than {most} devices of the kind {kind:?}.")]
    TooManyDevices { kind: DeviceKind, most: usize },
    #[error(
        "A {kind:?} cannot be added, changed or removed while the virtual machine is {state:?}."
    )]
    NoHotPlug { kind: DeviceKind, state: State },
    #[error("The address {given:?} is not a MAC address.")]
    InvalidMac { given: String },

    // Files.
    #[error("A {0:?} needs the path of exactly one file.")]
    OneFile(DeviceKind),
    #[error("The path {} is not absolute.", .0.display())]
    PathNotAbsolute(PathBuf),
    #[error("The file {} does not exist.", .0.display())]
    FileNotFound(PathBuf),
    #[error("{} is not a regular file.", .0.display())]
    NotAFile(PathBuf),
    #[error("{} is not a directory.", .0.display())]
    NotADirectory(PathBuf),
    #[error("The disk image {} cannot be read: {reason}.", .path.display())]
    UnreadableImage { path: PathBuf, reason: String },
    #[error("The disk {} is in use by the virtual machine {name}.", .path.display())]
    DiskInUse {
        path: PathBuf,
        machine: MachineId,
        name: String,
    },
    #[error("{}: there are {there} bytes free, {needed} are needed.", .path.display())]
    InsufficientSpace {
        path: PathBuf,
        needed: u64,
        there: u64,
    },
    #[error("The host has {there} MiB of memory available, {needed} MiB are needed.")]
    InsufficientMemory { needed: u64, there: u64 },
    #[error("{doing} {}: {source}", .path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },

    // Snapshots.
    #[error("There is no disk layer {0}.")]
    NoSuchLayer(LayerId),
    #[error("The file {} of a disk is missing.", .0.display())]
    LayerFileMissing(PathBuf),
    #[error("The memory of the virtual machine cannot be captured: {reason}.")]
    NotCapturable { reason: String },
    #[error("The virtual machine already has {limit} snapshots.")]
    TooManySnapshots { limit: usize },
    #[error("The snapshot was refused because the guest ran on between its disks and its memory.")]
    TornSnapshot,
    #[error("The guest stands still and cannot be captured: {reason}")]
    GuestStandsStill { reason: String },
    #[error("QEMU does not write to {}, but to {:?}.", .recorded.display(), .actual)]
    ChainDiffers {
        recorded: PathBuf,
        actual: Vec<PathBuf>,
    },
    #[error("The memory image {} is missing or damaged: {reason}.", .path.display())]
    DamagedImage { path: PathBuf, reason: String },
    #[error("The manifest {} is not usable: {reason}.", .path.display())]
    DamagedManifest { path: PathBuf, reason: String },
    #[error("The snapshot {snapshot} is not whole: {findings}.")]
    DamagedSnapshot {
        snapshot: SnapshotId,
        findings: String,
    },
    #[error("The file of hashes {} is not usable: {reason}.", .path.display())]
    DamagedSums { path: PathBuf, reason: String },
    #[error("The disk layer {} changes.", .0.display())]
    LayerChanging(PathBuf),
    #[error("The snapshot did not run when it was rehearsed: {reason}.")]
    RehearsalFailed { reason: String },

    // The guest and QEMU.
    #[error("The virtual machine's process ended: {log}")]
    GuestDied { log: String },
    #[error("The guest did not shut down within {seconds} seconds.")]
    GuestIgnoredShutdown { seconds: u64 },
    #[error("The guest has been asked to shut down, and is not waited for any more.")]
    ShutdownNotAwaited,
    #[error("{doing} failed: {source}")]
    Qemu {
        doing: &'static str,
        source: QemuError,
    },
    #[error(transparent)]
    NoQemu(#[from] qemu::installation::InstallationError),

    // The service.
    #[error("The virtual machine's owner did not answer within {millis} ms.")]
    NoAnswer { millis: u128 },
    #[error("The data directory {} is in use by the process {pid}.", .path.display())]
    Locked { path: PathBuf, pid: u32 },
    #[error("The data directory {} holds snapshots, but no catalog.", .0.display())]
    CatalogLost(PathBuf),
    #[error("The data directory {} has a catalog already.", .0.display())]
    CatalogThere(PathBuf),
    #[error("The data directory {} belongs to another user.", .0.display())]
    ForeignDataDirectory(PathBuf),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// What the layer below says, in its own words.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
#[allow(missing_docs)]
pub enum QemuError {
    Qmp(#[from] qemu::qmp::QmpError),
    Process(#[from] qemu::process::ProcessError),
    Live(#[from] qemu::live::LiveError),
    Image(#[from] qemu::memory_image::ImageError),
    Restore(#[from] qemu::memory_image::RestoreError),
    Postcopy(#[from] qemu::postcopy::PostcopyError),
    Receive(#[from] qemu::receiver::ReceiveError),
    Screen(#[from] qemu::console::ScreenError),
    Merge(#[from] qemu::merge::MergeError),
    Img(#[from] qemu::img::ImgError),
    Name(#[from] qemu::spec::BadId),
}

impl Error {
    /// Names what was being done when the layer below failed.
    pub(crate) fn qemu<E: Into<QemuError>>(doing: &'static str) -> impl FnOnce(E) -> Error {
        move |source| Error::Qemu {
            doing,
            source: source.into(),
        }
    }

    /// Names what was being done to which file.
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io {
            doing,
            path,
            source,
        }
    }

    /// The stable name of the cause: the key of the table that maps causes to return codes.
    pub fn code(&self) -> &'static str {
        self.explain().0
    }

    /// What happened, in a sentence.
    pub fn what(&self) -> String {
        self.to_string()
    }

    /// Why, in a sentence.
    pub fn why(&self) -> String {
        self.explain().1.into()
    }

    /// What to do, in a sentence.
    pub fn remedy(&self) -> String {
        self.explain().2.into()
    }

    /// Code, why, remedy.
    fn explain(&self) -> (&'static str, &'static str, &'static str) {
        self.explain_absence()
            .or_else(|| self.explain_state())
            .or_else(|| self.explain_value())
            .or_else(|| self.explain_device())
            .or_else(|| self.explain_file())
            .unwrap_or_else(|| self.explain_service())
    }

    fn explain_absence(&self) -> Option<(&'static str, &'static str, &'static str)> {
        Some(match self {
            Error::NoSuchMachine(_) => (
                "NoSuchMachine",
                "No virtual machine has this identity; it may have been destroyed.",
                "List the virtual machines and use the identity shown there.",
            ),
            Error::NoSuchSnapshot(_) => (
                "NoSuchSnapshot",
                "No snapshot has this identity; it may have been removed.",
                "List the snapshots of the virtual machine.",
            ),
            Error::NoSuchJob(_) => (
                "NoSuchJob",
                "No job has this identity; jobs are forgotten some minutes after their end.",
                "List the jobs; look at the virtual machine itself for the outcome.",
            ),
            Error::NoSuchDevice(_) => (
                "NoSuchDevice",
                "No device of the configuration has this identity; it may have been removed.",
                "List the resource settings of the virtual machine.",
            ),
            Error::ForeignSnapshot { .. } => (
                "ForeignSnapshot",
                "A snapshot can only be used with the virtual machine it was taken of.",
                "Name a snapshot of this virtual machine.",
            ),
            _ => return None,
        })
    }

    fn explain_state(&self) -> Option<(&'static str, &'static str, &'static str)> {
        Some(match self {
            Error::WrongState { .. } => (
                "WrongState",
                "The request is legal only in other states of the virtual machine.",
                "Bring the virtual machine to a state that allows this, then repeat the request.",
            ),
            Error::AlreadyInState { .. } => (
                "AlreadyInState",
                "The virtual machine already is what the request asks for.",
                "Nothing needs to be done.",
            ),
            Error::Busy { .. } => (
                "Busy",
                "A virtual machine does one operation on its disks or memory at a time.",
                "Wait for the running job to end, or cancel it, and repeat the request.",
            ),
            Error::JobEnded(_) => (
                "JobEnded",
                "A job that has ended cannot change any more.",
                "Read the job's result.",
            ),
            Error::NotCancellable(_) => (
                "NotCancellable",
                "The step being done cannot be undone safely, and will end soon.",
                "Wait for the job to end.",
            ),
            Error::Cancelled => (
                "Cancelled",
                "The job was asked to stop; what it had done was undone.",
                "Repeat the request if it is still wanted.",
            ),
            Error::ServiceRestarted => (
                "ServiceRestarted",
                "What had been begun was undone when the service started again.",
                "Repeat the request.",
            ),
            Error::Unsettled(_) => (
                "Unsettled",
                "When the service started, it could not find out how far an unfinished operation \
                 had come; the machine's health and the service's log say why.",
                "Remove the cause and start the service again.",
            ),
            Error::ServiceStopping => (
                "ServiceStopping",
                "The service has been asked to end and takes no more requests.",
                "Repeat the request when the service runs again.",
            ),
            _ => return None,
        })
    }

    fn explain_value(&self) -> Option<(&'static str, &'static str, &'static str)> {
        Some(match self {
            Error::InvalidName { .. } => (
                "InvalidName",
                "A name has 1 to 100 characters, none of them a control character.",
                "Choose another name.",
            ),
            Error::InvalidMemory { .. } => (
                "InvalidMemory",
                "The size must be a multiple of 2 MiB between the least a machine boots with and \
                 what this host has.",
                "Choose a size within the limits.",
            ),
            Error::InvalidProcessorCount { .. } => (
                "InvalidProcessorCount",
                "The number of virtual processors is limited.",
                "Choose a number within the limits.",
            ),
            Error::InvalidBootOrder => (
                "InvalidBootOrder",
                "Each kind of boot device has exactly one place: 0 floppy, 1 CD, 2 hard disk, \
                 3 network.",
                "Give all four entries, each once.",
            ),
            Error::InvalidValue { .. } => (
                "InvalidValue",
                "The value is outside of what the field can hold.",
                "Correct the value.",
            ),
            Error::NotChangeable { reason, .. } => (
                "NotChangeable",
                reason,
                "Leave the field out, or give its present value.",
            ),
            Error::DynamicMemory => (
                "DynamicMemory",
                "The memory of a virtual machine has a fixed size here.",
                "Set DynamicMemoryEnabled to false.",
            ),
            Error::ChangedTwice(_) => (
                "ChangedTwice",
                "One request may name each resource once, so that its outcome does not depend on \
                 the order.",
                "Combine the changes, or make two requests.",
            ),
            _ => return None,
        })
    }

    fn explain_device(&self) -> Option<(&'static str, &'static str, &'static str)> {
        Some(match self {
            Error::NotAddable(_) => (
                "NotAddable",
                "Every virtual machine has a fixed set of devices of this kind.",
                "Modify the device that is there.",
            ),
            Error::NotRemovable(_) => (
                "NotRemovable",
                "The device is part of the machine's board.",
                "Remove what sits on it instead.",
            ),
            Error::NoParent { .. } => (
                "NoParent",
                "A drive sits on a controller, and an image in a drive.",
                "Give the parent's path.",
            ),
            Error::WrongParent { .. } => (
                "WrongParent",
                "Drives sit on IDE or SCSI controllers, hard disk images in disk drives, ISO \
                 images in DVD drives.",
                "Give a parent of the right kind.",
            ),
            Error::NoSuchSlot { .. } => (
                "NoSuchSlot",
                "An IDE controller has 2 slots, a SCSI controller 64, a drive 1.",
                "Give a slot that exists, as a number.",
            ),
            Error::SlotTaken { .. } => (
                "SlotTaken",
                "A slot holds one device.",
                "Choose a free slot, or remove the device that holds this one.",
            ),
            Error::NoFreeSlot(_) => (
                "NoFreeSlot",
                "Each slot holds one device.",
                "Add another controller, or remove a drive.",
            ),
            Error::HasChildren { .. } => (
                "HasChildren",
                "A device can be removed only after the devices on it.",
                "Remove the child too, in the same request or before.",
            ),
            Error::TooManyDevices { .. } => (
                "TooManyDevices",
                "The number of devices of a kind is limited.",
                "Use the devices that are there.",
            ),
            Error::NoHotPlug { .. } => (
                "NoHotPlug",
                "Devices of this kind cannot be plugged while the guest's state is held in memory \
                 or in a saved state.",
                "Turn the virtual machine off first.",
            ),
            Error::InvalidMac { .. } => (
                "InvalidMac",
                "A MAC address has twelve hexadecimal digits and is not a group address.",
                "Correct the address, or leave it out to have one made.",
            ),
            _ => return None,
        })
    }

    fn explain_file(&self) -> Option<(&'static str, &'static str, &'static str)> {
        Some(match self {
            Error::OneFile(_) => (
                "OneFile",
                "An image device stands for one file.",
                "Give one path in Connection.",
            ),
            Error::PathNotAbsolute(_) => (
                "PathNotAbsolute",
                "The service has no working directory that a client could know.",
                "Give the full path, beginning with a slash.",
            ),
            Error::FileNotFound(_) => (
                "FileNotFound",
                "The path names nothing on the host that the service can see.",
                "Check the path and its permissions on the host.",
            ),
            Error::NotAFile(_) => (
                "NotAFile",
                "Only regular files can be used as images.",
                "Give the path of an image file.",
            ),
            Error::NotADirectory(_) => (
                "NotADirectory",
                "The place for a machine's files must be a directory that is there.",
                "Make the directory, or give another.",
            ),
            Error::UnreadableImage { .. } => (
                "UnreadableImage",
                "QEMU does not accept the file as an image of a format it knows.",
                "Check the file with qemu-img check, and who may read it.",
            ),
            Error::DiskInUse { .. } => (
                "DiskInUse",
                "Two virtual machines writing to one disk would destroy its file systems.",
                "Use another disk, or take it away from the other virtual machine first.",
            ),
            Error::InsufficientSpace { .. } => (
                "InsufficientSpace",
                "There must be room for all of the guest's memory before it is touched.",
                "Free space on the file system, or choose another SnapshotDataRoot.",
            ),
            Error::InsufficientMemory { .. } => (
                "InsufficientMemory",
                "The guest's memory must fit into the host's.",
                "Turn another virtual machine off, or give this one less memory.",
            ),
            Error::Io { .. } => (
                "Io",
                "The host's file system refused the operation.",
                "Look at the host's file system: permissions, space, errors in its log.",
            ),
            _ => return None,
        })
    }

    fn explain_service(&self) -> (&'static str, &'static str, &'static str) {
        match self {
            Error::TooManySnapshots { .. } => (
                "TooManySnapshots",
                "Every snapshot makes the chain of disk layers longer.",
                "Remove a snapshot first.",
            ),
            Error::NoSuchLayer(_) => (
                "NoSuchLayer",
                "The catalog does not know a disk layer that it refers to.",
                "Restore the data directory from a backup.",
            ),
            Error::LayerFileMissing(_) => (
                "LayerFileMissing",
                "Every file of a disk's chain must be there; this one was moved or deleted, or its \
                 file system is not mounted.",
                "Put the file back where it was.",
            ),
            Error::NotCapturable { .. } => (
                "NotCapturable",
                "QEMU keeps a machine's memory in while it has such a device.",
                "Turn the virtual machine off first, or remove the device.",
            ),
            Error::DamagedImage { .. } => (
                "DamagedImage",
                "The file is not what was recorded when it was written.",
                "Restore the file from a backup, or discard the saved state by turning the \
                 virtual machine off.",
            ),
            Error::GuestStandsStill { .. } => (
                "GuestStandsStill",
                "A guest that waits for its disk or has crashed has requests under way that are in \
                 neither its memory nor its disks.",
                "Remove the cause; the guest goes on by itself when its disk can be written again. \
                 A crashed guest can be reset.",
            ),
            Error::ChainDiffers { .. } => (
                "ChainDiffers",
                "The files that the machine's QEMU has open are not the ones that the catalog \
                 records; a snapshot would freeze the wrong ones.",
                "Turn the machine off and start it again, or restart the service, which compares \
                 the two.",
            ),
            Error::NoGuestAgent { .. } => (
                "NoGuestAgent",
                "A snapshot of consistency Application needs the QEMU guest agent, which brings the \
                 guest's file systems to rest; none answers.",
                "Install and start the agent in the guest (package qemu-guest-agent), or ask for a \
                 snapshot of consistency Crash.",
            ),
            Error::GuestNotQuiesced { .. } => (
                "GuestNotQuiesced",
                "A snapshot of consistency Application is taken only when the guest's agent shows \
                 that file systems were at rest for all of it; everything was undone.",
                "Look at what the agent logs in the guest and repeat the request, or ask for a \
                 snapshot of consistency Crash.",
            ),
            Error::TornSnapshot => (
                "TornSnapshot",
                "More than one stop of the guest was seen, so its disks and memory may not show \
                 one instant; everything was undone.",
                "Repeat the request.",
            ),
            Error::DamagedManifest { .. } => (
                "DamagedManifest",
                "The file is not what was recorded when it was written.",
                "Restore the file from a backup.",
            ),
            Error::DamagedSnapshot { .. } => (
                "DamagedSnapshot",
                "Its files are not what they were when it was taken; nothing was changed by looking.",
                "Restore the named files from a backup, or use another snapshot. A manifest alone is \
                 written again from the catalog when the snapshot is renamed; a file of hashes can be \
                 deleted, and the layer is hashed again as it is.",
            ),
            Error::DamagedSums { .. } => (
                "DamagedSums",
                "The file that holds a layer's hashes is not what was written.",
                "Restore the file from a backup, or delete it: the layer, which may be whole, is then \
                 hashed again as it is.",
            ),
            Error::LayerChanging(_) => (
                "LayerChanging",
                "A layer that is frozen is written by nobody but a merge.",
                "Find out who else writes to the file.",
            ),
            Error::RehearsalFailed { .. } => (
                "RehearsalFailed",
                "A clone of the snapshot was started apart from the virtual machine, and thrown \
                 away; neither the snapshot nor the virtual machine was changed.",
                "Verify the snapshot; if its files are whole, look at what the guest wrote to its \
                 serial port.",
            ),
            Error::GuestDied { .. } => (
                "GuestDied",
                "QEMU ended by itself; its last words are in the message.",
                "Read the message and the virtual machine's log; start the virtual machine again.",
            ),
            Error::GuestIgnoredShutdown { .. } => (
                "GuestIgnoredShutdown",
                "It was asked by its agent, or else by the power button, and has not followed: a guest \
                 that still starts misses the request, others ignore it or need longer.",
                "The virtual machine runs on, and is off once the guest does follow. Ask again when \
                 the guest has started; else shut it down from within, or turn it off.",
            ),
            Error::ShutdownNotAwaited => (
                "ShutdownNotAwaited",
                "The job was cancelled, a later request took its place, or the service ended.",
                "Look at the virtual machine's state: the guest may still follow. If it runs on, ask \
                 it again, or turn it off.",
            ),
            Error::NoQemu(_) => (
                "NoQemu",
                "Virtual machines run on QEMU, which is missing or too old.",
                "Install QEMU as the message says.",
            ),
            Error::Qemu { .. } => (
                "Qemu",
                "QEMU refused or failed; its own words are in the message.",
                "Read the message and the virtual machine's log.",
            ),
            Error::NoAnswer { .. } => (
                "NoAnswer",
                "It is held up by its files or by QEMU. The request was withdrawn; if it was \
                 already being looked at, it may still be carried out.",
                "Look at the virtual machine and its jobs, then repeat the request.",
            ),
            Error::Locked { .. } => (
                "Locked",
                "One service at a time may use a data directory.",
                "Stop the other service, or use another directory.",
            ),
            Error::CatalogLost(_) => (
                "CatalogLost",
                "The database file is gone; going on without it would take the snapshots' files \
                 for leftovers.",
                "Restore the file from a backup.",
            ),
            Error::CatalogThere(_) => (
                "CatalogThere",
                "A catalog is rebuilt only where there is none.",
                "Move the catalog's files away first, if they are really of no use.",
            ),
            Error::ForeignDataDirectory(_) => (
                "ForeignDataDirectory",
                "The directory holds verifiers of passwords and must belong to the service's own \
                 user.",
                "Run the service as the directory's owner, or use another directory.",
            ),
            Error::Catalog(cause) => cause.explain(),
            _ => (
                "Unknown",
                "The cause is described by the message.",
                "Read the message.",
            ),
        }
    }
}

impl From<&Error> for JobError {
    fn from(cause: &Error) -> JobError {
        JobError {
            code: cause.code().to_owned(),
            what: cause.what(),
            why: cause.why(),
            remedy: cause.remedy(),
        }
    }
}
