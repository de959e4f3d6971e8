//! Files: where they are, how they become durable, how they go.

use crate::error::Error;
use crate::ids::{ImageId, LayerId, MachineId, SnapshotId};
use crate::model::GlobalSettings;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The name of a snapshot's manifest.
pub(crate) const MANIFEST: &str = "manifest.json";
/// The name of a live snapshot's memory image.
pub(crate) const MEMORY: &str = "memory.img";
/// What names of unfinished files end in.
pub(crate) const TEMPORARY: &str = ".tmp";
/// What names of memory images that will replace another end in.
pub(crate) const FLAT: &str = ".flat";
/// What names of our layers end in.
pub(crate) const LAYER: &str = ".avhd";

/// The places of one machine's files.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The machine's own folder.
    pub root: PathBuf,
    snapshots: PathBuf,
}

impl Places {
    pub fn of(data_dir: &Path, machine: MachineId, global: &GlobalSettings) -> Places {
        let name = machine.to_string();
        let root = match &global.external_data_root {
            Some(root) => root.join(&name),
            None => data_dir.join("machines").join(&name),
        };
        let snapshots = match &global.snapshot_data_root {
            Some(root) => root.join(&name).join("snapshots"),
            None => root.join("snapshots"),
        };
        Places { root, snapshots }
    }

    pub fn disks(&self) -> PathBuf {
        self.root.join("disks")
    }

    pub fn saved(&self) -> PathBuf {
        self.root.join("saved")
    }

    pub fn saved_image(&self, image: ImageId) -> PathBuf {
        self.saved().join(format!("{image}.img"))
    }

    pub fn snapshots(&self) -> &Path {
        &self.snapshots
    }

    pub fn snapshot(&self, snapshot: SnapshotId) -> PathBuf {
        self.snapshots.join(snapshot.to_string())
    }

    /// Where a new layer over the file `below` goes.
    pub fn layer(&self, below: &Path, layer: LayerId) -> PathBuf {
        let stem = below.file_stem().and_then(|s| s.to_str()).unwrap_or("disk");
        // A layer over a layer keeps the first file's stem, not a chain of identities.
        let stem = match stem.rsplit_once('_') {
            Some((first, id)) if !first.is_empty() && id.parse::<LayerId>().is_ok() => first,
            _ => stem,
        };
        let stem: String = stem.chars().take(100).collect();
        self.disks().join(format!("{stem}_{layer}{LAYER}"))
    }

    /// Every folder that can hold files of the machine, the innermost first.
    pub fn folders(&self) -> Vec<PathBuf> {
        let sums = self.snapshots.join(crate::integrity::sums::FOLDER);
        let mut folders = vec![self.disks(), self.saved(), sums, self.snapshots.clone()];
        if !self.snapshots.starts_with(&self.root) {
            folders.extend(self.snapshots.parent().map(Path::to_owned));
        }
        folders.push(self.root.clone());
        folders
    }
}

/// Makes a folder (mode 0700) and its missing parents, durably.
pub(crate) fn make_folder(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    // Each one's name must be durable in the one above, not only the last one's.
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        other => other.map_err(Error::io("Making the folder", path))?,
    }
    match path.parent() {
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::io("Syncing the folder", path))
}

/// Writes a small file: all of it durably under its name, or the file as it was.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY);
    let temporary = PathBuf::from(name);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if let Err(source) = written {
        let _ = fs::remove_file(&temporary);
        return Err(Error::io("Writing", path)(source));
    }
    match path.parent() {
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

/// Deletes a file; that it is gone already is fine.
pub(crate) fn delete(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("Deleting", path)(e)),
        _ => Ok(()),
    }
}

/// Removes a folder if it is empty.
pub(crate) fn delete_empty_folder(path: &Path) {
    let _ = fs::remove_dir(path);
}

/// Bytes that we may still write on the file system of `path` (or of its nearest parent that is
/// there).
pub(crate) fn free_space(path: &Path) -> Result<u64, Error> {
    let mut there = path;
    while !there.exists() {
        match there.parent() {
            Some(parent) => there = parent,
            None => break,
        }
    }
    let stat = rustix::fs::statvfs(there)
        .map_err(|e| Error::io("Asking for the free space of", there)(e.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Bytes that we may still write on the file system of `path`, and its size.
pub(crate) fn space(path: &Path) -> Result<(u64, u64), Error> {
    let stat = rustix::fs::statvfs(path)
        .map_err(|e| Error::io("Asking for the free space of", path)(e.into()))?;
    Ok((
        stat.f_bavail.saturating_mul(stat.f_frsize),
        stat.f_blocks.saturating_mul(stat.f_frsize),
    ))
}

/// Bytes that a file takes on disk.
pub(crate) fn stored_bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.blocks().saturating_mul(512))
}

/// Memory of the host in MiB: all of it, and what could be had now.
pub(crate) fn host_memory_mib() -> (u64, u64) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.trim().strip_suffix("kB"))
            .and_then(|number| number.trim().parse::<u64>().ok())
            .map_or(0, |kib| kib / 1024)
    };
    (value("MemTotal:"), value("MemAvailable:"))
}
