//! The domain: virtual machines, their settings and devices, snapshots, disk layers, memory
//! images, jobs, accounts, and the catalog that keeps them. It drives `qemu` and knows nothing of
//! CIM, WMI or any wire.
//!
//! Start reading at [`model`] (the words), then [`Machines`] (the verbs). Everything that changes
//! a machine goes through that machine's owner task; readers see published, immutable copies and
//! never wait for it.

#![forbid(unsafe_code)]

pub mod accounts;
mod automatic;
pub mod catalog;
pub mod check;
pub mod console;
mod directory;
pub mod error;
pub mod feed;
mod files;
pub mod forecast;
pub mod guest_report;
mod host;
pub mod ids;
pub mod integrity;
mod jobs;
mod lock;
pub mod machines;
mod manifest;
pub mod model;
mod opening;
mod orphans;
mod owner;
mod rebuild;
mod recovery;
pub mod rehearsal;
mod reports;
pub mod request;
pub mod saga;
mod settings;

pub use accounts::{Account, AccountError, Accounts, Role};
pub use error::Error;
pub use ids::{DeviceId, ImageId, JobId, LayerId, MachineId, SnapshotId};
pub use machines::{Config, Machines};
pub use owner::transitions;
