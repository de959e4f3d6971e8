//! The file that holds a guest's memory and device state: its format, reading it through its
//! parents, making one out of QEMU's migration stream, and the way back.
//!
//! It does input and output on files only: it knows no QEMU process, no socket and no catalog, and
//! starts no thread. Where the files lie and which image is whose parent, the caller says; how the
//! bytes of a new one get to the disk, too (`qemu::receiver` does it with direct I/O).
//!
//! Where to start: [`header`] describes the format, [`MemoryImage`] reads it, [`stream`]
//! takes a migration stream apart, [`builder`] makes an image out of it.

pub mod builder;
mod error;
mod file;
mod flatten;
pub mod header;
mod image;
mod index;
mod restream;
pub mod stream;

pub use error::{HeaderError, ImageError};
pub use header::{Compression, FORMAT_VERSION, HEADER_LENGTH, Header, ImageId, Origin, Version};
pub use image::{MemoryImage, PageRun, RunKind, StoredPage, no_parents};
pub use index::RamBlock;

/// Guest pages, and the unit of everything in a file, in bytes.
pub const PAGE: usize = 4096;
