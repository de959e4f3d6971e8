//! What can be wrong with a memory image.

use crate::header::{FORMAT_VERSION, ImageId};
use std::io;
use std::path::{Path, PathBuf};

/// What is wrong with a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum HeaderError {
    #[error("it is shorter than a header")]
    TooShort,
    #[error("it does not begin like a memory image")]
    Magic,
    #[error("it has format version {found}, and this program knows {FORMAT_VERSION}")]
    UnknownVersion { found: u32 },
    #[error("the checksum at offset 4080 does not match")]
    Checksum,
    #[error("{what} at offset {offset} makes no sense")]
    Field { what: &'static str, offset: usize },
}

/// Why a memory image cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ImageError {
    #[error("The memory image {path} cannot be {action} at offset {offset}: {cause}.")]
    Io {
        action: &'static str,
        path: PathBuf,
        offset: u64,
        #[source]
        cause: io::Error,
    },
    #[error("{path} cannot be used as a memory image: {cause}.")]
    Header {
        path: PathBuf,
        #[source]
        cause: HeaderError,
    },
    #[error("The memory image {path} is {found} bytes long, and its header says {expected}.")]
    WrongLength {
        path: PathBuf,
        expected: u64,
        found: u64,
    },
    #[error(
        "The memory image {path} is damaged: {section}, {length} bytes from offset {offset} on, \
         does not match its hash."
    )]
    DamagedSection {
        path: PathBuf,
        section: &'static str,
        offset: u64,
        length: u64,
    },
    #[error(
        "The memory image {path} is damaged: page {page} of the guest's memory block {block}, at \
         offset {offset}, does not match its hash."
    )]
    DamagedPage {
        path: PathBuf,
        block: String,
        page: u64,
        offset: u64,
    },
    #[error(
        "The memory image {path} is damaged: the compressed pages at offset {offset} ({length} \
         bytes) do not match their hash."
    )]
    DamagedGroup {
        path: PathBuf,
        offset: u64,
        length: u64,
    },
    #[error("The memory image {path} is damaged: byte {offset} should be unused and is not.")]
    DamagedPadding { path: PathBuf, offset: u64 },
    #[error("The memory image {path} contradicts itself: {what}.")]
    Contradiction { path: PathBuf, what: String },
    #[error("The memory image {path} needs the image {parent} below it, which is not there.")]
    MissingParent { path: PathBuf, parent: ImageId },
    #[error(
        "The memory image {path} stands on {parent}, and that is not the image it was made on: \
         together they do not give the content it says it has."
    )]
    WrongParent { path: PathBuf, parent: PathBuf },
    #[error("The file {path} is the image {found}, and {expected} should be there.")]
    WrongImage {
        path: PathBuf,
        expected: ImageId,
        found: ImageId,
    },
    #[error("The memory image {path} stands on more than {limit} others.")]
    TooDeep { path: PathBuf, limit: usize },
    #[error("There is no memory for the index of the image {path}.")]
    NoMemory { path: PathBuf },
    #[error("Page {page} of block {block} is not in the memory image {path}.")]
    NoSuchPage {
        path: PathBuf,
        block: usize,
        page: u64,
    },
    #[error("The memory image {path} cannot be sent: {cause}.")]
    Stream {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("Cancelled.")]
    Cancelled,
}

impl ImageError {
    /// The file that something is wrong with: the image's, or one that it stands on.
    pub fn path(&self) -> Option<&Path> {
        match self {
            ImageError::Io { path, .. }
            | ImageError::Header { path, .. }
            | ImageError::WrongLength { path, .. }
            | ImageError::DamagedSection { path, .. }
            | ImageError::DamagedPage { path, .. }
            | ImageError::DamagedGroup { path, .. }
            | ImageError::DamagedPadding { path, .. }
            | ImageError::Contradiction { path, .. }
            | ImageError::MissingParent { path, .. }
            | ImageError::WrongParent { path, .. }
            | ImageError::WrongImage { path, .. }
            | ImageError::TooDeep { path, .. }
            | ImageError::NoMemory { path }
            | ImageError::NoSuchPage { path, .. }
            | ImageError::Stream { path, .. } => Some(path),
            ImageError::Cancelled => None,
        }
    }
}
