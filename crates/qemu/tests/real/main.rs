//! The crate on real QEMU, under emulation (TCG), with guests that need no operating system.
//!
//! `machine` builds the test machines; the other modules are the tests, by subject.

// A test's helper that cannot go on fails the test.
#![allow(clippy::unwrap_used)]

mod capture;
mod disks;
mod healing;
mod linux;
mod machine;
mod merging;
mod monitor;
mod postcopy;
mod processes;
mod restore_times;
mod serial_ports;
mod served;
