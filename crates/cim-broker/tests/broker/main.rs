//! The broker through its public interface, over a small fleet of made-up machines.

#![allow(clippy::unwrap_used)]

mod associations;
mod enumeration;
mod events;
mod fleet;
mod instances;
mod interop;
mod invoke;
mod query;
mod scale;
mod schema;
