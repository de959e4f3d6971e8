//! The file that holds a guest's memory and device state.

use crate::installation::Version;
use crate::live::LiveError;
use crate::process::Process;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the header of a memory image says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where the stream starts.
    pub stream_offset: u64,
    /// Its length.
    pub stream_length: u64,
    /// xxh3-128 of it.
    pub stream_hash: u128,
    /// What the image was taken from.
    pub origin: Origin,
    /// Program and version that wrote the file.
    pub producer: String,
    /// When, in microseconds since 1970.
    pub created_micros: i64,
}

/// What a memory image was taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// QEMU's version.
    pub qemu: Version,
    /// Machine type.
    pub machine_type: String,
    /// Guest memory in MiB.
    pub ram_mib: u64,
}

/// A memory image with a valid header and the right length.
#[derive(Clone, Debug)]
pub struct MemoryImage {
    path: PathBuf,
    header: Header,
}

/// Why a memory image cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ImageError {
    #[error("The memory image {path} cannot be read at offset {offset}: {cause}.")]
    Io {
        path: PathBuf,
        offset: u64,
        #[source]
        cause: std::io::Error,
    },
    #[error("{path} is not a memory image.")]
    NotAnImage { path: PathBuf },
    #[error("The memory image {path} has format version {found}; this program knows version 1.")]
    UnknownVersion { path: PathBuf, found: u32 },
    #[error("The header of the memory image {path} is damaged ({what}, at offset {offset}).")]
    BadHeader {
        path: PathBuf,
        offset: u64,
        what: &'static str,
    },
    #[error("The memory image {path} has {found} bytes; its header says {expected}.")]
    WrongLength {
        path: PathBuf,
        expected: u64,
        found: u64,
    },
    #[error(
        "The memory image {path} is damaged: the bytes from offset {offset} on do not match its hash."
    )]
    WrongHash { path: PathBuf, offset: u64 },
    #[error(transparent)]
    Live(#[from] LiveError),
}

#[allow(clippy::todo, unused_variables)]
impl MemoryImage {
    /// Reads and checks the header and the file's length (blocking, short).
    pub fn open(path: &Path) -> Result<MemoryImage, ImageError> {
        todo!()
    }
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Its header.
    pub fn header(&self) -> &Header {
        &self.header
    }
    /// Reads the whole file and compares it with its hash.
    pub async fn verify(&self) -> Result<(), ImageError> {
        todo!()
    }
    /// Loads the image into a process launched with [`crate::spec::Start::Incoming`]; the guest
    /// then stands still until [`Process::cont`].
    pub async fn restore_into(
        &self,
        process: &Process,
        patience: Duration,
    ) -> Result<(), ImageError> {
        todo!()
    }
}
