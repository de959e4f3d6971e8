//! Takes the memory stream from QEMU into memory and writes it to a file.

use crate::memory_image::{Header, Origin};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a stream comes from and goes to.
#[derive(Clone, Debug)]
pub struct Config {
    /// The Unix socket to listen on; must not exist.
    pub socket: PathBuf,
    /// The file while it is being written; same folder as `path`.
    pub temporary: PathBuf,
    /// The file when it is whole and durable.
    pub path: PathBuf,
    /// Written into the header.
    pub origin: Origin,
    /// Most memory that may hold bytes not yet written.
    pub ring_limit: usize,
}

/// The default of [`Config::ring_limit`].
pub const RING_LIMIT: usize = 1 << 30;

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that came from QEMU.
    pub received: u64,
    /// Bytes written to the file.
    pub written: u64,
}

/// What was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The header of the file.
    pub header: Header,
    /// Bytes that the file takes on disk.
    pub stored_bytes: u64,
    /// From [`Receiver::listen`] to each point.
    pub timings: Timings,
    /// Most bytes that waited in memory.
    pub ring_high_water: usize,
}

/// When things happened, counted from [`Receiver::listen`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Timings {
    pub first_byte: Duration,
    pub received: Duration,
    pub durable: Duration,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ReceiveError {
    #[error("{action} {path} failed after {bytes} bytes: {cause}.")]
    File {
        action: &'static str,
        path: PathBuf,
        bytes: u64,
        #[source]
        cause: std::io::Error,
    },
    #[error("Listening on {path} failed: {cause}.")]
    Listen {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("The stream broke off after {bytes} bytes: {cause}.")]
    Stream {
        bytes: u64,
        #[source]
        cause: std::io::Error,
    },
    #[error("QEMU sent nothing.")]
    Nothing,
    #[error("Receiving was cancelled.")]
    Cancelled,
}

/// Receives one stream. Dropping it cancels.
pub struct Receiver {
    config: Config,
}

#[allow(clippy::todo, unused_variables)]
impl Receiver {
    /// Listens; QEMU may be told to send as soon as this returns.
    pub fn listen(config: Config) -> Result<Receiver, ReceiveError> {
        todo!()
    }
    /// The socket it listens on.
    pub fn socket(&self) -> &Path {
        &self.config.socket
    }
    /// How far it is.
    pub fn progress(&self) -> Progress {
        todo!()
    }
    /// Resolves when receiving has failed (a full disk); never if it succeeds. Watch it beside the
    /// migration.
    pub async fn failed(&self) {
        todo!()
    }
    /// To be called only after QEMU reported the migration completed (an early end of the stream
    /// looks the same as the end): writes the rest, makes the file durable, names it.
    pub async fn publish(self) -> Result<Received, ReceiveError> {
        todo!()
    }
    /// Stops, and removes the temporary file.
    pub async fn cancel(self) {
        todo!()
    }
}
