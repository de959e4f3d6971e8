//! The CIM object manager: namespaces, classes, providers, associations, queries, access.
//!
//! A wire hands [`Broker`] a request with the caller's [`Context`]; a [`Provider`] answers the
//! part that only it can know (which instances there are, what a method does). Everything else is
//! done once, here: partial keys, case, deep inheritance, WQL, associators and references from one
//! table, parameter checks, who may do what. The same request gives the same answer on every wire.
//!
//! ```text
//! broker         the operations, one method each
//!   schema       classes and qualifiers as clients ask for them
//!   resolve      any spelling of a path -> the one instance it means
//!   instances    enumerate and get
//!   links        the association table: instances, associators, references
//!   streams      enumerations and queries whose instances are made as they are taken
//!   query        WQL, and which parts of a filter a provider or the table can answer
//!   invoke       method calls;  arguments: their checks and conversions
//! events         subscriptions to what happens to instances
//! enumeration    open and pull sessions over any of the answers
//! interop        the namespace in which a server describes itself
//! ```
//!
//! Not here: bytes and protocols (the wires), virtual machines (`msvm`).
//!
//! Start reading at [`Broker`], then [`provider`].

#![forbid(unsafe_code)]

pub mod access;
mod arguments;
pub mod broker;
pub mod enumeration;
mod errors;
pub mod events;
mod instances;
pub mod interop;
mod invoke;
mod links;
mod namespaces;
pub mod provider;
mod query;
mod resolve;
mod schema;
mod streams;

pub use access::{Context, Role};
pub use broker::{
    AssociatorFilter, Broker, ClassOptions, InvokeResult, QueryResult, ReferenceFilter, SetupError,
};
pub use events::{NoEvent, Subscription};
pub use provider::{
    ArgumentFault, ArgumentFaultKind, Arguments, Association, Change, Changes, Equality, Instances,
    Interruption, MethodOutcome, Provider,
};
pub use streams::QueryStream;
