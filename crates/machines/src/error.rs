//! Why a request or a job failed: one variant for each cause, with its data.
//!
//! What each cause is called on the wires (return codes, CIM status) is decided above, in one
//! table. Here each says what happened, why, and what to do.

use crate::ids::{DeviceId, JobId, MachineId, SnapshotId};
use crate::model::State;

/// A cause. Extended by its crate as causes are found; every variant has a stable
/// [`code`](Error::code).
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
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
    #[error("The virtual machine is {state:?}, which does not allow this.")]
    WrongState { state: State, verb: &'static str },
    #[error("The virtual machine is already {state:?}.")]
    AlreadyInState { state: State },
    #[error("Another operation is under way on the virtual machine.")]
    Busy { running: &'static str },
}
