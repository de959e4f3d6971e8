//! V2: what can be done with machines, and what their management service can do. Both are the same on
//! every host that runs this service.

use crate::host::Host;
use crate::subject::{
    MANAGEMENT_CAPABILITIES, MANAGEMENT_CAPABILITIES_ID, SYSTEM_CAPABILITIES,
    SYSTEM_CAPABILITIES_ID,
};
use cim::{CimError, Instance};

/// Characters in the longest name that a machine may have.
const LONGEST_NAME: u16 = 100;
/// `RequestedState` that RequestStateChange of a machine takes: enabled, disabled, shut down, offline,
/// quiesce, reboot, reset.
const STATES: [u16; 7] = [2, 3, 4, 6, 9, 10, 11];
/// DefineSystem, ModifyResourceSettings, ModifySystemSettings, RemoveResourceSettings,
/// AddResourceSettings, GetVirtualSystemThumbnailImage, GetSummaryInformation, FormatError.
const AT_ONCE: [u16; 8] = [2, 5, 6, 7, 10, 32782, 32784, 32788];
/// DestroySystem, and snapshots by the snapshot service.
const BY_JOBS: [u16; 2] = [3, 9];
/// Of jobs and of machines.
const INDICATIONS: [u16; 2] = [3, 4];

impl Host {
    pub(super) fn system_capabilities(&self) -> Result<Instance, CimError> {
        let caption = "Virtual System Capabilities";
        self.named(SYSTEM_CAPABILITIES, |new| {
            new.set("InstanceID", SYSTEM_CAPABILITIES_ID)
                .set("Caption", caption)
                .set("ElementName", caption)
                .set("Description", "What can be done with a virtual machine")
                .set("ElementNameEditSupported", true)
                .set("MaxElementNameLen", LONGEST_NAME)
                .set("RequestedStatesSupported", STATES)
        })
    }

    pub(super) fn management_capabilities(&self) -> Result<Instance, CimError> {
        let caption = "Virtual System Management Capabilities";
        self.named(MANAGEMENT_CAPABILITIES, |new| {
            new.set("InstanceID", MANAGEMENT_CAPABILITIES_ID)
                .set("Caption", caption)
                .set("ElementName", caption)
                .set("Description", "What the management service can do")
                .set("ElementNameEditSupported", false)
                .set(
                    "VirtualSystemTypesSupported",
                    ["Microsoft:Hyper-V:System:Realized"],
                )
                .set("SynchronousMethodsSupported", AT_ONCE)
                .set("AsynchronousMethodsSupported", BY_JOBS)
                .set("IndicationsSupported", INDICATIONS)
        })
    }
}
