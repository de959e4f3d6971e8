//! The client commands: each a few CIM calls that any WMI client could make.

pub mod account;
mod certificate;
pub mod generic;
pub mod job;
pub mod snapshot;
pub mod snapshot_service;
pub mod text;
pub mod vm;
