//! Hyper-V's WMI classes over the machines of this host: `root\virtualization`.
//!
//! The classes themselves are MOF files (`mof/`), compiled by [`schema`]. What exists and how it is
//! named is in `subject`; how it is shown in `read`; what leads where in `associations`, one table;
//! what happens to it in `changes`;
//! what can be done in `methods`, one table of rights and one function for each verb. [`errors`]
//! says what each cause of a failure is called on the wires.
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
mod methods;
mod provider;
mod read;
mod resource_types;
pub mod schema;
mod subject;

pub use host::NAMESPACE;

use cim::{CimError, Namespace};
use cim_broker::Broker;
use machines::Machines;
use std::sync::Arc;

/// Puts the namespace, its classes and what answers for them into `broker`. `host_name` is
/// `__SERVER` and the `Name` of the computer system that is the host; it must be the broker's.
pub fn register(
    broker: &mut Broker,
    machines: Arc<Machines>,
    host_name: &str,
) -> Result<(), CimError> {
    let repository = schema::repository()?;
    let classes = repository
        .classes()
        .map(|class| (class.name.clone(), class.clone()))
        .collect();
    let host = Arc::new(host::Host::new(machines, host_name, classes));
    let namespace = Namespace::new(NAMESPACE);
    broker.add_namespace(namespace.clone(), repository);
    broker.add_provider(&namespace, Arc::new(provider::HyperV::new(host.clone())));
    broker.add_associations(&namespace, associations::associations(&host));
    Ok(())
}
