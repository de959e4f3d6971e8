//! Hyper-V's WMI classes over the machines of this host: `root\virtualization`.
//!
//! The classes themselves are MOF files (`mof/`), compiled by [`schema`].

#![forbid(unsafe_code)]

pub mod errors;
pub mod schema;
