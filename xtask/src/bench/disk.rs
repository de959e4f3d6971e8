//! The disk: what files take on it, when they are safe on it, and what it can do at best.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::{Failure, Outcome};

/// One write; direct writes must be aligned to pages in memory.
const BLOCK: usize = 4 << 20;
const PAGE: usize = 4096;
const MIB: f64 = 1_048_576.0;

/// Sequential writes past the cache, made durable.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DirectWrites {
    pub bytes: u64,
    /// How long each took, in milliseconds.
    pub each_ms: Vec<f64>,
}

impl DirectWrites {
    /// MiB/s of the best; none without a measurement.
    pub fn best_mib_per_second(&self) -> Option<f64> {
        let best = self.each_ms.iter().copied().reduce(f64::min)?;
        Some(self.bytes as f64 / MIB / (best / 1000.0))
    }

    /// Writes so many bytes into a file in `folder`, and removes it.
    pub fn measure(&mut self, folder: &Path) -> Outcome {
        let file = folder.join("direct");
        let took = write_directly(&file, self.bytes);
        fs::remove_file(&file)?;
        self.each_ms.push(took?);
        Ok(())
    }
}

fn write_directly(path: &Path, bytes: u64) -> Result<f64, Failure> {
    let memory = noise(BLOCK + PAGE);
    let start = memory.as_ptr().align_offset(PAGE);
    let block = memory
        .get(start..start + BLOCK)
        .ok_or("no aligned memory")?;
    let direct = i32::from_ne_bytes(OFlags::DIRECT.bits().to_ne_bytes());
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .custom_flags(direct)
        .open(path)?;
    let began = Instant::now();
    for _ in 0..bytes.div_ceil(BLOCK as u64) {
        file.write_all(block)?;
    }
    file.sync_all()?;
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}

/// Bytes that no disk can make smaller.
fn noise(length: usize) -> Vec<u8> {
    let words = (0..length.div_ceil(8))
        .flat_map(|number| xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes()).to_le_bytes());
    words.take(length).collect()
}

/// Bytes that a folder takes on its disk.
pub fn allocated_bytes(folder: &Path) -> Result<u64, Failure> {
    let mut sum = 0;
    each_file(folder, &mut |_, metadata| {
        sum += metadata.blocks() * 512;
        Ok(())
    })?;
    Ok(sum)
}

/// Returns when everything in the files of a folder is on the disk.
pub fn sync_files(folder: &Path) -> Outcome {
    each_file(folder, &mut |path, metadata| {
        if !metadata.is_file() {
            return Ok(());
        }
        match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            file => Ok(file?.sync_all()?),
        }
    })
}

/// Returns when everything that any program has written to the folder's file system is on the disk.
pub fn sync_all(folder: &Path) -> Outcome {
    rustix::fs::syncfs(File::open(folder)?)?;
    Ok(())
}

/// What can still be written to a folder, in bytes.
pub fn free_bytes(folder: &Path) -> Result<u64, Failure> {
    let space = rustix::fs::statvfs(folder)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// Files and folders that go away meanwhile are left out.
fn each_file(folder: &Path, action: &mut dyn FnMut(&Path, &fs::Metadata) -> Outcome) -> Outcome {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.is_dir() {
            each_file(&path, action)?;
        } else {
            action(&path, &metadata)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direct_writes_are_timed_and_leave_nothing() {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let mut writes = DirectWrites {
            bytes: 5 << 20,
            each_ms: Vec::new(),
        };
        writes.measure(folder.path()).expect("written");
        assert!(
            writes
                .best_mib_per_second()
                .is_some_and(|speed| speed > 0.0)
        );
        assert_eq!(allocated_bytes(folder.path()).expect("read"), 0);
    }

    #[test]
    fn files_in_folders_count() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("a")).expect("made");
        fs::write(folder.path().join("a/file"), noise(10_000)).expect("written");
        sync_files(folder.path()).expect("synced");
        assert!(allocated_bytes(folder.path()).expect("read") >= 10_000);
    }
}
