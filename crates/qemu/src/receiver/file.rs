//! The file: space for it, direct writes, then durable, then named.

use super::{ReceiveError, Received, Shared, Timings};
use ::memory_image::Header;
use ::memory_image::builder::Counts;
use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Beyond what was reserved at first, space is reserved in these steps.
const STEP: u64 = 256 << 20;
/// Without direct I/O, the cache is emptied as often, so that the end does not take long.
const SYNC_EVERY: u64 = 128 << 20;

/// A file whose bytes are durable under its temporary name.
pub struct Written {
    pub target: Arc<Target>,
    pub header: Header,
    pub counts: Counts,
}

/// Gives the file its name, durably.
pub fn publish(
    shared: &Shared,
    written: Written,
    mut timings: Timings,
) -> Result<Received, ReceiveError> {
    let config = &shared.config;
    let bytes = written.header.file_length();
    let failed = |action, path: &Path, cause: io::Error| {
        discard(&config.temporary);
        ReceiveError::File {
            action,
            path: path.into(),
            bytes,
            cause: cause.into(),
        }
    };
    let metadata = written.target.file.metadata();
    let metadata = metadata.map_err(|e| failed("Looking at", &config.temporary, e))?;
    std::fs::rename(&config.temporary, &config.path)
        .map_err(|e| failed("Renaming to", &config.path, e))?;
    let folder = config.path.parent().unwrap_or(Path::new("/"));
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| {
        // A name that may be lost again is not a published file.
        discard(&config.path);
        failed("Syncing the folder", folder, e)
    })?;
    timings.durable = shared.began.elapsed();
    let (ring_high_water, stalled) = shared.ring.give_back();
    shared.writes.give_back();
    tracing::debug!(
        first_byte = ?timings.first_byte, received = ?timings.received, written = ?timings.written,
        durable = ?timings.durable, ring_mib = ring_high_water >> 20, ?stalled, "a stream was taken",
    );
    Ok(Received {
        header: written.header,
        counts: written.counts,
        received_bytes: shared.received.load(Ordering::Relaxed),
        stored_bytes: metadata.blocks().saturating_mul(512),
        timings,
        ring_high_water,
        stalled,
    })
}

/// Removes the temporary file, if it is there.
pub fn discard(temporary: &Path) {
    match std::fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %temporary.display(), %error, "a temporary file stays");
        }
        _ => {}
    }
}

/// The temporary file while it is written, by any number of threads.
pub struct Target {
    file: File,
    direct: bool,
    /// How far space is reserved; `u64::MAX` where it cannot be.
    reserved: Mutex<u64>,
    unsynced: AtomicU64,
}

impl Target {
    pub fn create(shared: &Shared) -> Result<Target, ReceiveError> {
        let path = &shared.config.temporary;
        // Not through a link that somebody else may have put there.
        discard(path);
        let open = |flags: OFlags| {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .custom_flags(i32::from_ne_bytes(flags.bits().to_ne_bytes()))
                .open(path)
        };
        let (file, direct) = match open(OFlags::DIRECT) {
            Ok(file) => (Ok(file), true),
            // The file system has no direct I/O; some leave the file behind when they say so.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                discard(path);
                (open(OFlags::empty()), false)
            }
            Err(error) => (Err(error), false),
        };
        let target = Target {
            file: file.map_err(|cause| failed(shared, "Making the file", cause))?,
            direct,
            reserved: Mutex::new(0),
            unsynced: AtomicU64::new(0),
        };
        // Direct writes into space that is there already run beside each other.
        let expected = shared.config.expected.max(::memory_image::PAGE as u64);
        target.reserve(shared, expected, expected)?;
        Ok(target)
    }

    /// Writes whole pages.
    pub fn write(&self, shared: &Shared, offset: u64, bytes: &[u8]) -> Result<(), ReceiveError> {
        let length = bytes.len() as u64;
        self.reserve(shared, offset.saturating_add(length), STEP)?;
        let result = self.file.write_all_at(bytes, offset);
        result.map_err(|cause| failed(shared, "Writing", cause))?;
        if !self.direct {
            let unsynced = self.unsynced.fetch_add(length, Ordering::Relaxed) + length;
            if unsynced >= SYNC_EVERY {
                self.unsynced.store(0, Ordering::Relaxed);
                let result = self.file.sync_data();
                result.map_err(|cause| failed(shared, "Syncing", cause))?;
            }
        }
        Ok(())
    }

    /// Makes sure that there is space up to `end`: a full disk is found before it is written to.
    fn reserve(&self, shared: &Shared, end: u64, step: u64) -> Result<(), ReceiveError> {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        while *reserved < end {
            let missing = end - *reserved;
            let result = self.allocate(&mut reserved, missing.max(step));
            // There may be room for what is needed, though not for a whole step.
            let result = match result {
                Err(Errno::NOSPC) => self.allocate(&mut reserved, missing),
                other => other,
            };
            match result {
                Ok(()) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => *reserved = u64::MAX,
                Err(Errno::INTR) => {}
                Err(error) => {
                    return Err(failed(shared, "Reserving space for", error.into()));
                }
            }
        }
        Ok(())
    }

    fn allocate(&self, reserved: &mut u64, length: u64) -> Result<(), Errno> {
        rustix::fs::fallocate(&self.file, FallocateFlags::empty(), *reserved, length)?;
        *reserved = reserved.saturating_add(length);
        Ok(())
    }

    /// The right length, and everything durable.
    pub fn finish(&self, shared: &Shared, header: &Header) -> Result<(), ReceiveError> {
        let set = self.file.set_len(header.file_length());
        set.map_err(|cause| failed(shared, "Cutting", cause))?;
        let synced = self.file.sync_all();
        synced.map_err(|cause| failed(shared, "Syncing", cause))
    }
}

fn failed(shared: &Shared, action: &'static str, cause: io::Error) -> ReceiveError {
    ReceiveError::File {
        action,
        path: shared.config.temporary.clone(),
        bytes: shared.written.load(Ordering::Relaxed),
        cause: cause.into(),
    }
}
