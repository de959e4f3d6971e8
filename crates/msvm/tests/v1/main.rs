//! Tests of the V1 namespace through the crate's public interface: a broker with the namespace
//! registered over real machines in a temporary data directory. Some run QEMU, none needs a guest.

mod calls;
mod events;
mod fixture;
mod reads;
mod rights;
mod running;
mod schema;
mod snapshot_service;
mod snapshots;
