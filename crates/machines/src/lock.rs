//! One service at a time per data directory.

use crate::error::Error;
use crate::files;
use rustix::fs::FlockOperation;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

const FILE_NAME: &str = "lock";

/// Held while the service has the data directory; the kernel releases it when the process ends.
#[derive(Debug)]
pub(crate) struct DataLock {
    _file: File,
}

/// Makes the data directory if needed and sees to its mode and owner.
pub(crate) fn prepare(data_dir: &Path) -> Result<(), Error> {
    if !data_dir.is_absolute() {
        return Err(Error::PathNotAbsolute(data_dir.to_owned()));
    }
    files::make_folder(data_dir)?;
    let failed = || Error::io("Opening the data directory", data_dir);
    let metadata = std::fs::metadata(data_dir).map_err(failed())?;
    if !metadata.is_dir() {
        return Err(Error::NotADirectory(data_dir.to_owned()));
    }
    let us = rustix::process::geteuid();
    if metadata.uid() != us.as_raw() {
        return Err(Error::ForeignDataDirectory(data_dir.to_owned()));
    }
    if metadata.mode() & 0o077 != 0 {
        std::fs::set_permissions(data_dir, std::fs::Permissions::from_mode(0o700))
            .map_err(failed())?;
    }
    Ok(())
}

/// How long a service that is just ending may keep the lock (or a program that it is just
/// starting, which inherits it for a moment).
const PATIENCE: Duration = Duration::from_secs(1);

/// Takes the lock as soon as it is free, or tells who has it.
pub(crate) async fn take_soon(data_dir: &Path) -> Result<DataLock, Error> {
    let began = Instant::now();
    loop {
        match take(data_dir) {
            Err(Error::Locked { .. }) if began.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => return other,
        }
    }
}

/// Takes the lock, or tells who has it.
fn take(data_dir: &Path) -> Result<DataLock, Error> {
    let path = data_dir.join(FILE_NAME);
    let failed = || Error::io("Locking", &path);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed())?;
    if let Err(cause) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if cause != rustix::io::Errno::WOULDBLOCK {
            return Err(failed()(cause.into()));
        }
        let mut text = String::new();
        let _ = (&mut file).take(32).read_to_string(&mut text);
        return Err(Error::Locked {
            path: data_dir.to_owned(),
            pid: text.trim().parse().unwrap_or(0),
        });
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| write!(file, "{}", std::process::id()))
        .map_err(failed())?;
    Ok(DataLock { _file: file })
}
