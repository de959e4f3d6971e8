//! Tests of the V1 namespace through the crate's public interface: a broker with the namespace
//! registered over real machines in a temporary data directory. None needs a guest.

mod calls;
mod fixture;
mod reads;
mod rights;
mod schema;
mod snapshots;
