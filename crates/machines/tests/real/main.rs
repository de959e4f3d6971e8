//! The domain on real QEMU, under emulation (TCG), through its public interface.
//!
//! `site` builds a service with machines whose guests count; the other modules are the tests, by
//! subject.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used)]

mod agent;
mod boots;
mod chains;
mod crashes;
mod huge_pages;
mod images;
mod integrity;
mod lifecycle;
mod linux;
mod refusals;
mod rehearsals;
mod restores;
mod served;
mod shutdowns;
mod site;
mod snapshots;
