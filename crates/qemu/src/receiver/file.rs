//! The writing thread: blocks from the ring into the temporary file, then durable, then named.

use super::{ReceiveError, Received, Shared, Timings};
use crate::memory_image::{HEADER_LENGTH, Header};
use crate::raw::Block;
use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};
use xxhash_rust::xxh3::Xxh3Default;

/// Direct I/O wants offsets and lengths in these units.
const PAGE: usize = 4096;
/// Space is reserved in these steps.
const RESERVE: u64 = 256 << 20;
/// Without direct I/O, the cache is emptied as often, so that the end does not take long.
const SYNC_EVERY: u64 = 128 << 20;

/// A file whose bytes are durable under its temporary name.
pub struct Written {
    file: File,
    header: Header,
}

/// Writes everything that comes through the ring.
pub fn write(shared: &Shared) -> Result<Written, ReceiveError> {
    let mut target = Target::create(shared)?;
    shared.ring.make_early();
    let mut hash = Xxh3Default::new();
    let mut length = 0u64;
    while let Some((mut block, filled)) = shared.ring.filled_block() {
        // The tail of the last block is cut off again below.
        let padded = filled.next_multiple_of(PAGE).min(block.len());
        if let Some(tail) = block.get_mut(filled..padded) {
            tail.fill(0);
        }
        let bytes = block.get(..padded).unwrap_or(&block);
        target.append(bytes, length)?;
        hash.update(block.get(..filled).unwrap_or(&block));
        length += filled as u64;
        shared.written.store(length, Ordering::Relaxed);
        shared.ring.recycle(block);
    }
    if shared.ring.is_stopped() {
        return Err(shared.failure().unwrap_or(ReceiveError::Cancelled));
    }
    let created = SystemTime::now().duration_since(UNIX_EPOCH);
    let header = Header {
        stream_length: length,
        stream_hash: hash.digest128(),
        origin: shared.config.origin.clone(),
        producer: concat!("rootvirt ", env!("CARGO_PKG_VERSION")).into(),
        created_micros: created.map_or(0, |t| i64::try_from(t.as_micros()).unwrap_or(0)),
    };
    target.finish(&header)?;
    Ok(Written {
        file: target.file,
        header,
    })
}

/// Gives the file its name, durably.
pub fn publish(
    shared: &Shared,
    written: Written,
    mut timings: Timings,
) -> Result<Received, ReceiveError> {
    let config = &shared.config;
    let bytes = written.header.stream_length;
    let failed = |action, path: &Path, cause: io::Error| {
        discard(&config.temporary);
        ReceiveError::File {
            action,
            path: path.into(),
            bytes,
            cause: cause.into(),
        }
    };
    let metadata = written.file.metadata();
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
    Ok(Received {
        header: written.header,
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

struct Target<'a> {
    shared: &'a Shared,
    file: File,
    direct: bool,
    /// How far space is reserved; `u64::MAX` where it cannot be.
    reserved: u64,
    synced: u64,
}

impl<'a> Target<'a> {
    fn create(shared: &'a Shared) -> Result<Target<'a>, ReceiveError> {
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
        let mut target = Target {
            shared,
            file: file.map_err(|cause| failed(shared, "Making the file", cause))?,
            direct,
            reserved: 0,
            synced: 0,
        };
        target.reserve(HEADER_LENGTH as u64)?;
        Ok(target)
    }

    /// Writes whole pages at an offset of the stream.
    fn append(&mut self, bytes: &[u8], offset: u64) -> Result<(), ReceiveError> {
        let at = offset.saturating_add(HEADER_LENGTH as u64);
        let end = at.saturating_add(bytes.len() as u64);
        self.reserve(end)?;
        let result = self.file.write_all_at(bytes, at);
        result.map_err(|cause| self.failed("Writing", cause))?;
        if !self.direct && end.saturating_sub(self.synced) >= SYNC_EVERY {
            let result = self.file.sync_data();
            result.map_err(|cause| self.failed("Syncing", cause))?;
            self.synced = end;
        }
        Ok(())
    }

    /// Makes sure that there is space up to `end`: a full disk is found before it is written to.
    fn reserve(&mut self, end: u64) -> Result<(), ReceiveError> {
        while self.reserved < end {
            let missing = end - self.reserved;
            let reserved = self.allocate(missing.max(RESERVE));
            // There may be room for what is needed, though not for a whole step.
            let reserved = match reserved {
                Err(Errno::NOSPC) => self.allocate(missing),
                other => other,
            };
            match reserved {
                Ok(()) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.reserved = u64::MAX,
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.failed("Reserving space for", error.into())),
            }
        }
        Ok(())
    }

    fn allocate(&mut self, length: u64) -> Result<(), Errno> {
        rustix::fs::fallocate(&self.file, FallocateFlags::empty(), self.reserved, length)?;
        self.reserved = self.reserved.saturating_add(length);
        Ok(())
    }

    /// The right length, the header, and everything durable.
    fn finish(&mut self, header: &Header) -> Result<(), ReceiveError> {
        let set = self.file.set_len(header.file_length());
        set.map_err(|cause| self.failed("Cutting", cause))?;
        let written = Block::map(HEADER_LENGTH).and_then(|mut page| {
            page.copy_from_slice(&header.encode());
            self.file.write_all_at(&page, 0)
        });
        written.map_err(|cause| self.failed("Writing the header of", cause))?;
        let synced = self.file.sync_all();
        synced.map_err(|cause| self.failed("Syncing", cause))
    }

    fn failed(&self, action: &'static str, cause: io::Error) -> ReceiveError {
        failed(self.shared, action, cause)
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
