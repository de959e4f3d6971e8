//! Which methods do something, and the role that a caller of each needs.

use crate::subject::{COMPUTER_SYSTEM, JOB, SERVICE, SNAPSHOT_SERVICE, SYSTEM_SNAPSHOT_SERVICE};
use crate::version::Version;
use cim::Name;
use cim_broker::Role;

/// What is behind a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Define,
    ModifySystem,
    Destroy,
    AddResources,
    ModifyResources,
    RemoveResources,
    CreateSnapshot,
    ApplySnapshot,
    ApplySnapshotEx,
    RemoveSnapshot,
    RemoveSnapshotTree,
    DefineV2,
    ModifySystemV2,
    DestroyV2,
    AddResourcesV2,
    ModifyResourcesV2,
    RemoveResourcesV2,
    CreateSnapshotV2,
    ApplySnapshotV2,
    DestroySnapshot,
    ClearSnapshot,
    Summary,
    FormatError,
    SystemState,
    JobState,
    GetError,
    GetErrorEx,
    Shutdown,
    Reboot,
    PressKey,
    ReleaseKey,
    TypeKey,
    TypeText,
    TypeScanCodes,
    ControlAltDelete,
    Thumbnail,
    CheckSnapshot,
    CreatePrepared,
    VerifySnapshot,
    RehearseSnapshot,
}

type Row = (&'static str, &'static str, Role, Verb);

/// Methods that both versions have under one name and with the same parameters.
const BOTH: &[Row] = &[
    (
        SERVICE,
        "GetSummaryInformation",
        Role::Viewer,
        Verb::Summary,
    ),
    (SERVICE, "FormatError", Role::Viewer, Verb::FormatError),
    (
        COMPUTER_SYSTEM,
        "RequestStateChange",
        Role::Operator,
        Verb::SystemState,
    ),
    (JOB, "RequestStateChange", Role::Operator, Verb::JobState),
    (JOB, "GetError", Role::Viewer, Verb::GetError),
    (JOB, "GetErrorEx", Role::Viewer, Verb::GetErrorEx),
    (
        "Msvm_ShutdownComponent",
        "InitiateShutdown",
        Role::Operator,
        Verb::Shutdown,
    ),
    (
        SNAPSHOT_SERVICE,
        "CheckSnapshot",
        Role::Viewer,
        Verb::CheckSnapshot,
    ),
    (
        SNAPSHOT_SERVICE,
        "CreateSnapshot",
        Role::Operator,
        Verb::CreatePrepared,
    ),
    (
        SNAPSHOT_SERVICE,
        "VerifySnapshot",
        Role::Operator,
        Verb::VerifySnapshot,
    ),
    (
        SNAPSHOT_SERVICE,
        "RehearseSnapshot",
        Role::Operator,
        Verb::RehearseSnapshot,
    ),
    ("Msvm_Keyboard", "PressKey", Role::Operator, Verb::PressKey),
    (
        "Msvm_Keyboard",
        "ReleaseKey",
        Role::Operator,
        Verb::ReleaseKey,
    ),
    ("Msvm_Keyboard", "TypeKey", Role::Operator, Verb::TypeKey),
    ("Msvm_Keyboard", "TypeText", Role::Operator, Verb::TypeText),
    (
        "Msvm_Keyboard",
        "TypeScancodes",
        Role::Operator,
        Verb::TypeScanCodes,
    ),
    (
        "Msvm_Keyboard",
        "TypeCtrlAltDel",
        Role::Operator,
        Verb::ControlAltDelete,
    ),
    (
        SERVICE,
        "GetVirtualSystemThumbnailImage",
        Role::Viewer,
        Verb::Thumbnail,
    ),
];

/// V1's own.
const V1: &[Row] = &[
    (
        SERVICE,
        "DefineVirtualSystem",
        Role::Administrator,
        Verb::Define,
    ),
    (
        SERVICE,
        "ModifyVirtualSystem",
        Role::Administrator,
        Verb::ModifySystem,
    ),
    (
        SERVICE,
        "DestroyVirtualSystem",
        Role::Administrator,
        Verb::Destroy,
    ),
    (
        SERVICE,
        "AddVirtualSystemResources",
        Role::Administrator,
        Verb::AddResources,
    ),
    (
        SERVICE,
        "ModifyVirtualSystemResources",
        Role::Administrator,
        Verb::ModifyResources,
    ),
    (
        SERVICE,
        "RemoveVirtualSystemResources",
        Role::Administrator,
        Verb::RemoveResources,
    ),
    (
        SERVICE,
        "CreateVirtualSystemSnapshot",
        Role::Operator,
        Verb::CreateSnapshot,
    ),
    (
        SERVICE,
        "ApplyVirtualSystemSnapshot",
        Role::Operator,
        Verb::ApplySnapshot,
    ),
    (
        SERVICE,
        "ApplyVirtualSystemSnapshotEx",
        Role::Operator,
        Verb::ApplySnapshotEx,
    ),
    (
        SERVICE,
        "RemoveVirtualSystemSnapshot",
        Role::Administrator,
        Verb::RemoveSnapshot,
    ),
    (
        SERVICE,
        "RemoveVirtualSystemSnapshotTree",
        Role::Administrator,
        Verb::RemoveSnapshotTree,
    ),
];

/// V2's own.
const V2: &[Row] = &[
    (
        "Msvm_ShutdownComponent",
        "InitiateReboot",
        Role::Operator,
        Verb::Reboot,
    ),
    (SERVICE, "DefineSystem", Role::Administrator, Verb::DefineV2),
    (
        SERVICE,
        "ModifySystemSettings",
        Role::Administrator,
        Verb::ModifySystemV2,
    ),
    (
        SERVICE,
        "DestroySystem",
        Role::Administrator,
        Verb::DestroyV2,
    ),
    (
        SERVICE,
        "AddResourceSettings",
        Role::Administrator,
        Verb::AddResourcesV2,
    ),
    (
        SERVICE,
        "ModifyResourceSettings",
        Role::Administrator,
        Verb::ModifyResourcesV2,
    ),
    (
        SERVICE,
        "RemoveResourceSettings",
        Role::Administrator,
        Verb::RemoveResourcesV2,
    ),
    (
        SYSTEM_SNAPSHOT_SERVICE,
        "CreateSnapshot",
        Role::Operator,
        Verb::CreateSnapshotV2,
    ),
    (
        SYSTEM_SNAPSHOT_SERVICE,
        "ApplySnapshot",
        Role::Operator,
        Verb::ApplySnapshotV2,
    ),
    (
        SYSTEM_SNAPSHOT_SERVICE,
        "DestroySnapshot",
        Role::Administrator,
        Verb::DestroySnapshot,
    ),
    (
        SYSTEM_SNAPSHOT_SERVICE,
        "DestroySnapshotTree",
        Role::Administrator,
        Verb::RemoveSnapshotTree,
    ),
    (
        SYSTEM_SNAPSHOT_SERVICE,
        "ClearSnapshotState",
        Role::Administrator,
        Verb::ClearSnapshot,
    ),
];

pub(super) fn find(version: Version, class: &Name, method: &Name) -> Option<(Role, Verb)> {
    let own = match version {
        Version::V1 => V1,
        Version::V2 => V2,
    };
    BOTH.iter()
        .chain(own)
        .find(|(on, name, ..)| class.is(on) && method.is(name))
        .map(|(.., role, verb)| (*role, *verb))
}

/// The role a caller needs. A method that does nothing here is refused as unsupported to anyone
/// who may read.
pub(crate) fn required_role(version: Version, class: &Name, method: &Name) -> Role {
    find(version, class, method).map_or(Role::Viewer, |(role, _)| role)
}
