//! The classes of the namespace, from the MOF files of this crate.

use cim::mof::Repository;
use cim::{CimError, CimStatus};

/// The sources in the order in which they build on each other.
const SOURCES: &[(&str, &str)] = &[
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

/// Compiles the classes of `root\virtualization`.
pub fn repository() -> Result<Repository, CimError> {
    Repository::compile(SOURCES).map_err(|error| {
        CimError::new(
            CimStatus::Failed,
            format!("The classes of this service cannot be read: {error}. Please report this as a defect."),
        )
    })
}
