//! Disk image files, through `qemu-img`.

use crate::installation::Installation;
use crate::spec::{Format, Layer};
use std::path::{Path, PathBuf};

/// Runs `qemu-img`.
#[derive(Clone, Debug)]
pub struct Img {
    #[allow(dead_code)]
    program: PathBuf,
}

/// What is known of an image file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// Size of the disk that the guest sees, in bytes.
    pub virtual_size: u64,
    /// Bytes that the file takes.
    pub actual_size: u64,
    /// The file below, as resolved by `qemu-img`, with its format if the header names it.
    pub backing: Option<(PathBuf, Option<Format>)>,
    /// Whether it was not closed properly (qcow2).
    pub dirty: bool,
    /// Whether it is marked as damaged (qcow2).
    pub corrupt: bool,
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ImgError {
    #[error("The disk image {path} does not exist.")]
    Missing { path: PathBuf },
    #[error("The disk image {path} cannot be opened: {cause}.")]
    Unreadable {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("{path} is not a file.")]
    NotAFile { path: PathBuf },
    #[error("The disk image {path} exists already.")]
    Exists { path: PathBuf },
    #[error("The disk image {path} is in use by another process.")]
    InUse { path: PathBuf },
    #[error("The disk image {path} is damaged: {detail}")]
    Corrupt { path: PathBuf, detail: String },
    #[error("The name of {path} says {by_name}, its content {by_content}.")]
    FormatMismatch {
        path: PathBuf,
        by_name: Format,
        by_content: Format,
    },
    #[error("There is no space left for {path}.")]
    NoSpace { path: PathBuf },
    #[error("qemu-img {operation} on {path} failed: {said}")]
    Failed {
        operation: &'static str,
        path: PathBuf,
        said: String,
    },
    #[error("qemu-img {operation} on {path} did not end within {seconds} s.")]
    TimedOut {
        operation: &'static str,
        path: PathBuf,
        seconds: u64,
    },
    #[error("qemu-img cannot be run: {cause}.")]
    NotRunnable {
        #[source]
        cause: std::io::Error,
    },
    #[error("qemu-img {operation} gave an answer that cannot be understood ({lacking}).")]
    BadAnswer {
        operation: &'static str,
        lacking: &'static str,
    },
}

#[allow(clippy::todo, unused_variables)]
impl Img {
    /// Uses this installation's `qemu-img`.
    pub fn new(installation: &Installation) -> Img {
        Img {
            program: installation.img.clone(),
        }
    }
    /// Decides the format of a file that a client wants to attach, by its name and first bytes.
    /// Decide once and store the answer: a raw disk's guest can write any first bytes later.
    pub async fn detect_format(&self, path: &Path) -> Result<Format, ImgError> {
        todo!()
    }
    /// What is known of an image; does not open its backing files.
    pub async fn info(&self, path: &Path, format: Format) -> Result<Info, ImgError> {
        todo!()
    }
    /// The whole chain, the given file first. Formats come from the headers.
    pub async fn chain(&self, path: &Path, format: Format) -> Result<Vec<Info>, ImgError> {
        todo!()
    }
    /// A new empty qcow2 overlay on `backing` (128 KiB clusters, extended L2), durable.
    pub async fn create_overlay(
        &self,
        path: &Path,
        backing: &Path,
        backing_format: Format,
    ) -> Result<(), ImgError> {
        todo!()
    }
    /// A new empty disk.
    pub async fn create(&self, path: &Path, format: Format, bytes: u64) -> Result<(), ImgError> {
        todo!()
    }
    /// Looks for damage.
    pub async fn check(&self, path: &Path, format: Format) -> Result<(), ImgError> {
        todo!()
    }
    /// Off-line: merges `child`'s parent into `child`, which then stands on `new_backing` (`None`:
    /// on nothing).
    pub async fn pull(
        &self,
        child: &Path,
        new_backing: Option<(&Path, Format)>,
    ) -> Result<(), ImgError> {
        todo!()
    }
    /// Off-line: merges `child` (qcow2) down into its parent `parent`; `child` can be deleted after.
    pub async fn commit(&self, child: &Layer, parent: &Path) -> Result<(), ImgError> {
        todo!()
    }
}
