//! Starting a guest from a memory image, by sending the whole of it to QEMU.
//!
//! What an image is, how it is made and read: the crate `memory-image`, which is handed on here.
//! Sending everything takes time that grows with memory; it works wherever QEMU does.

pub use ::memory_image::*;

use crate::live::LiveError;
use crate::process::Process;
use crate::qmp::QmpError;
use crate::spec::check_socket_path;
use serde_json::json;
use std::io::BufWriter;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Bytes that are handed to QEMU at once.
const AT_ONCE: usize = 1 << 20;
/// The socket through which QEMU takes an image, in its folder.
const SOCKET: &str = "restore.sock";

impl From<crate::installation::Version> for Version {
    fn from(version: crate::installation::Version) -> Version {
        Version {
            major: version.major,
            minor: version.minor,
            micro: version.micro,
        }
    }
}

/// Why a guest was not started from an image.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum RestoreError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("QEMU does not accept the memory image {path}. It says: {said}")]
    Rejected { path: PathBuf, said: String },
    #[error(transparent)]
    Live(#[from] LiveError),
}

impl From<QmpError> for RestoreError {
    fn from(error: QmpError) -> Self {
        RestoreError::Live(error.into())
    }
}

impl Process {
    /// Loads an image into a process launched with [`crate::spec::Start::Incoming`]. The guest
    /// then stands still until [`Process::cont`], whatever it did when the image was taken.
    /// After a failure the process is of no use; it may have ended.
    pub async fn load_image(
        &self,
        image: &Arc<MemoryImage>,
        patience: Duration,
    ) -> Result<(), RestoreError> {
        let socket = self.run_dir().join(SOCKET);
        check_socket_path(&socket).map_err(LiveError::from)?;
        let _ = std::fs::remove_file(&socket);
        let address =
            json!({"transport": "socket", "type": "unix", "path": socket.to_string_lossy()});
        let _attended = self.attend_serial_ports().await?;
        self.migrate("migrate-incoming", address).await?;
        let (sender, path) = (image.clone(), socket.clone());
        // It ends by itself: when everything is sent, or when QEMU closes the connection.
        let sent = tokio::task::spawn_blocking(move || send(&sender, &path));
        let loaded = self.wait_migration(patience).await;
        if loaded.is_err() && !sent.is_finished() {
            // A thread that waits for a QEMU that reads no more would wait for ever.
            let _ = self.kill().await;
        }
        let sent = sent.await;
        let _ = std::fs::remove_file(&socket);
        let rejected = |said| RestoreError::Rejected {
            path: image.path().into(),
            said,
        };
        match (loaded, sent) {
            (Ok(_), Ok(Ok(()))) => Ok(()),
            // What is wrong with the image comes before what QEMU makes of it.
            (_, Ok(Err(error))) if !matches!(error, ImageError::Stream { .. }) => Err(error.into()),
            (Err(LiveError::MigrationFailed { description }), _) => Err(rejected(description)),
            // QEMU ends when it cannot read a stream, and says why in its log.
            (Err(LiveError::Qmp(QmpError::Disconnected { .. })), _) | (Ok(_), Ok(Err(_))) => {
                let _ = tokio::time::timeout(Duration::from_secs(10), self.exited()).await;
                Err(rejected(self.log_tail()))
            }
            (Err(error), _) => Err(error.into()),
            (Ok(_), Err(error)) => Err(rejected(error.to_string())),
        }
    }
}

fn send(image: &MemoryImage, socket: &Path) -> Result<(), ImageError> {
    let stream = UnixStream::connect(socket).map_err(|cause| ImageError::Stream {
        path: image.path().into(),
        cause,
    })?;
    image.write_stream(&mut BufWriter::with_capacity(AT_ONCE, stream))
}
