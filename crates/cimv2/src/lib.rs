//! `root\cimv2`: the few classes on the host itself that clients of Hyper-V ask for before they turn
//! to the machines: operating system, computer, product, processors, disks; and the counters of
//! virtual processors.
//!
//! What is told is what this computer is, read when it is asked for. One thing is not:
//! `Version` and `BuildNumber` of `Win32_OperatingSystem`. Clients take from them which management
//! interface the host has, so they name the Windows release whose interface is served
//! ([`WINDOWS_VERSION`]); `Caption` names the system that is there.
//!
//! Not here: virtual machines, and everything of `root\cimv2` that would be about Windows.
//!
//! Start reading at [`register`], then `provider`; `computer` reads the kernel's files.

#![forbid(unsafe_code)]

mod computer;
mod counters;
mod provider;

pub use counters::{VirtualProcessor, VirtualProcessors};

use cim::mof::Repository;
use cim::{CimError, CimStatus, Namespace};
use cim_broker::Broker;
use std::sync::Arc;

/// The namespace.
pub const NAMESPACE: &str = "root\\cimv2";

/// The Windows release as which the host answers: the one that had both versions of Hyper-V's
/// namespace (Windows Server 2012).
pub const WINDOWS_VERSION: &str = "6.2.9200";

const MOF: [(&str, &str); 2] = [
    ("cimv2.mof", include_str!("../mof/cimv2.mof")),
    ("counters.mof", include_str!("../mof/counters.mof")),
];

/// Puts the namespace into `broker`. `host_name` is `__SERVER` and the name of the computer; it must
/// be the broker's. `virtual_processors` tells of the machines, which this crate does not know.
pub fn register(
    broker: &mut Broker,
    host_name: &str,
    virtual_processors: VirtualProcessors,
) -> Result<(), CimError> {
    let repository = Repository::compile(&MOF).map_err(|error| {
        CimError::new(
            CimStatus::Failed,
            format!("The classes of {NAMESPACE} cannot be read: {error}. Please report this as a defect."),
        )
    })?;
    let host = Arc::new(provider::Host::new(
        &repository,
        host_name,
        virtual_processors,
    ));
    let namespace = Namespace::new(NAMESPACE);
    broker.add_namespace(namespace.clone(), repository);
    broker.add_provider(&namespace, host.clone());
    broker.add_associations(&namespace, provider::associations(&host));
    Ok(())
}
