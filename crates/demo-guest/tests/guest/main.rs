//! The demo guest in real machines, and what a host can tell from its memory and disks.

mod boots;
mod machine;
mod readings;
