//! The classes of both namespaces, from the MOF files of this crate.

use crate::version::Version;
use cim::mof::Repository;
use cim::{CimError, CimStatus};

/// The sources of V1, in the order in which they build on each other.
const V1: &[(&str, &str)] = &[
    ("qualifiers.mof", include_str!("../mof/qualifiers.mof")),
    ("cim-core.mof", include_str!("../mof/cim-core.mof")),
    (
        "cim-associations.mof",
        include_str!("../mof/cim-associations.mof"),
    ),
    (
        "cim-virtualization.mof",
        include_str!("../mof/cim-virtualization.mof"),
    ),
    ("cim-devices.mof", include_str!("../mof/cim-devices.mof")),
    ("cim-network.mof", include_str!("../mof/cim-network.mof")),
    (
        "msvm-services.mof",
        include_str!("../mof/msvm-services.mof"),
    ),
    (
        "msvm-settings.mof",
        include_str!("../mof/msvm-settings.mof"),
    ),
    ("msvm-jobs.mof", include_str!("../mof/msvm-jobs.mof")),
    (
        "msvm-resources.mof",
        include_str!("../mof/msvm-resources.mof"),
    ),
    ("msvm-system.mof", include_str!("../mof/msvm-system.mof")),
    ("msvm-storage.mof", include_str!("../mof/msvm-storage.mof")),
    ("msvm-network.mof", include_str!("../mof/msvm-network.mof")),
    ("msvm-devices.mof", include_str!("../mof/msvm-devices.mof")),
    ("rootvirt.mof", include_str!("../mof/rootvirt.mof")),
];

/// One source of V2.
macro_rules! v2 {
    ($name:literal) => {
        (
            concat!("v2/", $name),
            include_str!(concat!("../mof/v2/", $name)),
        )
    };
}

/// The sources of V2.
const V2: &[(&str, &str)] = &[
    ("qualifiers.mof", include_str!("../mof/qualifiers.mof")),
    v2!("cim-indications.mof"),
    v2!("cim-metrics.mof"),
    v2!("cim-core.mof"),
    v2!("cim-jobs.mof"),
    v2!("cim-network.mof"),
    v2!("cim-virtualization-1.mof"),
    v2!("cim-virtualization-2.mof"),
    v2!("cim-associations.mof"),
    v2!("cim-devices-1.mof"),
    v2!("cim-devices-2.mof"),
    v2!("msvm-management.mof"),
    v2!("msvm-snapshots.mof"),
    v2!("msvm-jobs-1.mof"),
    v2!("msvm-jobs-2.mof"),
    v2!("msvm-settings.mof"),
    v2!("msvm-resource-settings.mof"),
    v2!("msvm-components-1.mof"),
    v2!("msvm-components-2.mof"),
    v2!("msvm-switch-features.mof"),
    v2!("msvm-network-1.mof"),
    v2!("msvm-network-2.mof"),
    v2!("msvm-network-3.mof"),
    v2!("msvm-replication-1.mof"),
    v2!("msvm-replication-2.mof"),
    v2!("msvm-collections.mof"),
    v2!("msvm-metrics.mof"),
    v2!("msvm-pools.mof"),
    v2!("msvm-storage-1.mof"),
    v2!("msvm-storage-2.mof"),
    v2!("msvm-system.mof"),
    v2!("msvm-devices-1.mof"),
    v2!("msvm-devices-2.mof"),
    ("rootvirt.mof", include_str!("../mof/rootvirt.mof")),
];

/// Compiles the classes of `root\virtualization`.
pub fn repository() -> Result<Repository, CimError> {
    of(Version::V1)
}

/// Compiles the classes of `root\virtualization\v2`.
pub fn repository_v2() -> Result<Repository, CimError> {
    of(Version::V2)
}

pub(crate) fn of(version: Version) -> Result<Repository, CimError> {
    let sources = match version {
        Version::V1 => V1,
        Version::V2 => V2,
    };
    Repository::compile(sources).map_err(|error| {
        CimError::new(
            CimStatus::Failed,
            format!("The classes of this service cannot be read: {error}. Please report this as a defect."),
        )
    })
}
