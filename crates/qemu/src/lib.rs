//! Runs virtual machines on QEMU: processes, their QMP monitors, disk images, and the files that
//! hold a guest's memory.
//!
//! It knows processes and files, one at a time. It does not know what a snapshot tree, a catalog
//! or a job is, keeps no journal and decides no policy: the crate above does, and calls the steps
//! offered here in the order that its journal needs.
//!
//! Where to start: [`Installation`] finds the programs, [`LaunchSpec`] says what a machine is made
//! of, [`Process`] is a running one with its verbs. A live snapshot is made of [`live`] (the steps
//! on the guest's side), [`receiver`] (takes the memory stream from QEMU) and [`memory_image`]
//! (the file that comes out, and how to start from it). [`img`] wraps `qemu-img`, [`merge`]
//! shortens chains of layers, [`memory_backing`] chooses between kinds of guest memory. [`agent`] talks
//! to a program in the guest, [`console`] shows its screen and presses its keys. `nbd` serves disks in
//! formats that would keep a guest's memory in.

pub mod accelerator;
pub mod agent;
pub mod blocks;
mod command_line;
pub mod console;
pub mod identity;
pub mod img;
pub mod installation;
pub mod live;
pub mod memory_backing;
pub mod memory_image;
pub mod merge;
mod nbd;
pub mod postcopy;
mod proc_stat;
pub mod process;
pub mod processor_time;
pub mod qmp;
#[allow(unsafe_code)]
mod raw;
pub mod receiver;
pub mod spec;
pub mod stall;
pub mod throttle;
pub mod wakefulness;

pub use installation::Installation;
pub use process::Process;
pub use spec::LaunchSpec;
