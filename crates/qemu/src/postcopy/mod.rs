//! Restoring a guest in a time that does not grow with its memory: we are the source of a postcopy
//! migration, QEMU is its destination.
//!
//! QEMU gets the device state of a memory image at once and lets the guest run without its memory.
//! Pages that it is known to want first are sent before it runs. A page that it touches before it has
//! come is asked for and sent at once; the others are pushed meanwhile, neighbours of what was asked
//! for first. When all are there the migration ends,
//! and the guest is like one that was never away: it can be captured in the background again.
//!
//! [`PageServer::start`] begins, and returns when QEMU has taken the devices: the guest then waits
//! for [`Process::cont`](crate::Process::cont). If the connection breaks after that (most likely
//! because this process has died) QEMU holds on to what it has; a guest that needs more stands still
//! until [`PageServer::recover`] goes on. Until [`PageServer::resident`] the image must stay.
//!
//! `wire` is what we send, `return_path` what QEMU answers, `pages` what has still to be sent,
//! `ahead` what will be read soon, `remembered` what guests asked for before, `devices` the part of
//! an image that is sent first, `server` the threads that do it, and `lifeline` what lets a later
//! service go on even if QEMU answers nobody for want of memory.

mod ahead;
mod devices;
mod image;
mod lifeline;
mod pages;
mod remembered;
pub mod return_path;
mod server;
mod wire;

pub use ahead::expect_first;
pub use devices::{DevicesError, sections as device_sections};
pub use remembered::Asked;
pub use server::{PageServer, PostcopyError, Progress, Residency};

/// Where the guest's memory and devices come from. It is read by one thread, which may block, and told by
/// another what will be read.
pub trait PageSource: Send + Sync + 'static {
    /// The memory blocks (name and length in bytes), in QEMU's order.
    fn blocks(&self) -> Vec<(String, u64)>;
    /// The recorded stream between its version and its first section.
    fn configuration(&self) -> &[u8];
    /// The recorded stream behind memory.
    fn devices(&self) -> &[u8];
    /// How QEMU numbered the stream's memory section.
    fn ram_section(&self) -> RamSection;
    /// Whether a page of the guest holds nothing but zeros.
    fn is_zero(&self, block: usize, page: u64) -> bool;
    /// Reads whole pages of the guest, from `first` on; else, what went wrong, in a sentence.
    fn read(&self, block: usize, first: u64, buffer: &mut [u8]) -> Result<(), String>;
    /// Pages of the guest that are not zero.
    fn data_pages(&self) -> u64;
    /// Pages that the guest is likely to want first, at most `most`: block and number, the likeliest
    /// first.
    fn wanted_first(&self, most: usize) -> Vec<(usize, u64)> {
        let _ = most;
        Vec::new()
    }
    /// Told that these pages will soon be read. It may block, but not until they are there.
    fn expect(&self, block: usize, first: u64, pages: u64) {
        let _ = (block, first, pages);
    }
}

/// The memory section of a stream, as QEMU numbered it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RamSection {
    /// Section number.
    pub id: u32,
    /// Instance.
    pub instance: u32,
    /// Version of its format.
    pub version: u32,
    /// Whether sections end in footers.
    pub footers: bool,
}

/// A memory block, as the destination has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceBlock {
    /// QEMU's name of it.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
    /// Bytes that the destination places at once: a page of the host.
    pub page_size: u64,
}
