//! Campaigns against the whole program: the service as a process of its own, driven by its command
//! line, its guests on real QEMU. What is judged is what a user would see: the service's answers,
//! the files it leaves, and what the guest itself says of its memory and its disks.
//!
//! - [`kills`]: the service dies at every journalled step of the three snapshot verbs
//! - [`deaths`]: the service, QEMU, or both die at any time
//! - [`lockstep`]: memory and disks of live snapshots are of one instant, and torn ones are noticed
//! - [`flips`]: single bits of a snapshot's files change, and are found
//! - [`rehearsals`]: a clone of a snapshot is gone whatever the service dies of
//! - [`disks`]: disks of the host are slow, or fail
//! - [`faults`]: QEMU dies, space runs out, jobs are cancelled, the service restarts
//!
//! [`site`] is a service with its data directory, [`machine`] a machine with the demo guest, and
//! [`invariants`] what must hold whenever the service is ready. The tests need
//! `ROOTVIRT_TEST_GUEST` (`cargo xtask test` sets it). Kills, deaths, flips and lockstep have long forms:
//! `cargo xtask soak`.

#![allow(clippy::unwrap_used)]

mod deaths;
mod disks;
mod faults;
mod faulty_disk;
mod flips;
mod invariants;
mod kills;
mod lockstep;
mod machine;
mod rehearsals;
mod site;
mod small_disk;
mod torn;
