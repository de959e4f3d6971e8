//! The CIM object manager: namespaces, classes, providers, associations, queries, access.
//!
//! A wire hands [`Broker`] a request with the caller's [`Context`]; a [`Provider`] answers the
//! part that only it can know (which instances there are, what a method does). Everything else is
//! done once, here: partial keys, case, deep inheritance, WQL, associators and references from one
//! table, parameter checks, who may do what. The same request gives the same answer on every wire.
//!
//! Not here: bytes and protocols (the wires), virtual machines (`msvm`).
//!
//! Start reading at [`Broker`], then [`provider`].

#![forbid(unsafe_code)]

pub mod access;
pub mod broker;
pub mod provider;

pub use access::{Context, Role};
pub use broker::{
    AssociatorFilter, Broker, ClassOptions, InvokeResult, QueryResult, ReferenceFilter,
};
pub use provider::{
    ArgumentFault, ArgumentFaultKind, Arguments, Association, Equality, MethodOutcome, Provider,
};
