//! What the object model promises, shown through its public interface.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should fail there"
)]

mod datetime;
mod instance;
mod mof;
mod path;
mod seeds;
mod value;
mod wql;
