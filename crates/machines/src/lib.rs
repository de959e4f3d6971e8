//! The domain: virtual machines, their settings and devices, snapshots, disk layers, memory
//! images, jobs, accounts, and the catalog that keeps them. It drives `qemu` and knows nothing of
//! CIM, WMI or any wire.
//!
//! Start reading at [`model`] (the words), then [`Machines`] (the verbs). Everything that changes
//! a machine goes through that machine's owner task; readers see published, immutable copies and
//! never wait for it.

#![forbid(unsafe_code)]

pub mod error;
pub mod ids;
pub mod machines;
pub mod model;
pub mod request;

pub use error::Error;
pub use ids::{DeviceId, ImageId, JobId, LayerId, MachineId, SnapshotId};
pub use machines::{Config, Machines};
