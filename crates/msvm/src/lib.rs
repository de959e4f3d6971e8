//! Hyper-V's WMI classes over the machines of this host: `root\virtualization` (V1) and
//! `root\virtualization\v2` (V2), side by side over the same machines.
//!
//! The classes themselves are MOF files (`mof/`, `mof/v2/`), compiled by [`schema`]. What exists and
//! how it is named is in `subject`; how it is shown in `read`; what leads where in `associations`,
//! one table; what happens to it in `changes`; what the two versions call otherwise in `version`;
//! what can be done in `methods`, one table of rights and one function for each verb. [`errors`]
//! says what each cause of a failure is called on the wires. There is one `host::Host` for each
//! namespace, which knows its version; the rest is written once.
//!
//! Not here: what a virtual machine does (`machines`), queries, paths that are incomplete, access
//! (`cim-broker`), protocols (the wires).
//!
//! Start reading at [`register`], then `subject`.

#![forbid(unsafe_code)]

mod associations;
mod changes;
pub mod errors;
mod host;
mod keys;
mod methods;
mod provider;
mod read;
mod resource_types;
pub mod schema;
mod subject;
mod version;

pub use version::{NAMESPACE, NAMESPACE_V2};

use cim::CimError;
use cim_broker::Broker;
use machines::Machines;
use std::sync::Arc;
use version::Version;

/// Puts both namespaces, their classes and what answers for them into `broker`. `host_name` is
/// `__SERVER` and the `Name` of the computer system that is the host; it must be the broker's.
pub fn register(
    broker: &mut Broker,
    machines: Arc<Machines>,
    host_name: &str,
) -> Result<(), CimError> {
    for version in Version::ALL {
        let repository = schema::of(version)?;
        let classes = repository
            .classes()
            .map(|class| (class.name.clone(), class.clone()))
            .collect();
        let host = host::Host::new(version, machines.clone(), host_name, classes);
        let host = Arc::new(host);
        let namespace = host.namespace.clone();
        broker.add_namespace(namespace.clone(), repository);
        broker.add_provider(&namespace, Arc::new(provider::HyperV::new(host.clone())));
        broker.add_associations(&namespace, associations::associations(&host));
    }
    Ok(())
}
