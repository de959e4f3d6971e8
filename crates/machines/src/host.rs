//! What all owners share: the catalog, the published copies, QEMU, and which file belongs to whom.

use crate::catalog::Catalog;
use crate::console::Screens;
use crate::directory::Directory;
use crate::error::Error;
use crate::feed::Feed;
use crate::files::{self, Places};
use crate::guest_report::GuestReports;
use crate::ids::MachineId;
use crate::integrity::Depth;
use crate::integrity::keeper::Keeper;
use crate::jobs::Jobs;
use crate::lock::DataLock;
use crate::model::GlobalSettings;
use crate::reports::Reports;
use crate::saga::CrashPoint;
use crate::settings::change::HostLimits;
use qemu::img::Img;
use qemu::memory_backing::Policy;
use qemu::memory_backing::healing::{Healer, Health};
use qemu::memory_image::Compression;
use qemu::spec::Accelerator;
use rustix::fs::Mode;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// The part of the service that every owner sees.
#[derive(Debug)]
pub(crate) struct Host {
    pub data_dir: PathBuf,
    pub run_root: PathBuf,
    pub catalog: Catalog,
    pub feed: Feed,
    pub directory: Directory,
    pub jobs: Jobs,
    pub disks: DisksInUse,
    pub keeper: Arc<Keeper>,
    pub reports: Reports,
    pub guests: Arc<GuestReports>,
    pub screens: Screens,
    pub verify_before_apply: Depth,
    /// Held for reading while a memory image is replaced, which no job shows, and for writing by
    /// whoever compares files with rows.
    pub images: tokio::sync::RwLock<()>,
    /// How many memory images are written anew at one time: each takes a thread and a share of the disk.
    pub image_turns: tokio::sync::Semaphore,
    pub installation: qemu::Installation,
    pub img: Img,
    pub accelerator: (Accelerator, String),
    pub huge_pages: Policy,
    pub healers: Healers,
    pub shutdown_patience: Duration,
    pub agent_channel: bool,
    pub agent_patience: Duration,
    pub memory_headroom_mib: u64,
    pub restore_on_demand: bool,
    pub memory_compression: Compression,
    pub crash: CrashPoint,
    pub limits: HostLimits,
    /// Which boot of the host this is, if that is known.
    pub boot: Option<String>,
    /// Last, so that it is released after everything else is closed.
    pub _lock: DataLock,
}

impl Host {
    /// Folder of sockets and pid file of a machine's process.
    pub fn run_dir(&self, machine: MachineId) -> PathBuf {
        self.run_root.join(machine.to_string())
    }

    pub fn places(&self, machine: MachineId, global: &GlobalSettings) -> Places {
        Places::of(&self.data_dir, machine, global)
    }
}

/// The name of the socket that a memory stream goes through, in a machine's run folder.
pub(crate) const MEMORY_SOCKET: &str = "mem.sock";

/// The folder for the run folders of all machines: in the data directory, or, where paths of
/// sockets would become longer than the kernel takes, in the system's folder for such things.
pub(crate) fn run_root(data_dir: &Path) -> Result<PathBuf, Error> {
    let longest = qemu::process::SOCKET_NAMES
        .iter()
        .map(|name| name.len())
        .chain([MEMORY_SOCKET.len()])
        .max()
        .unwrap_or(0);
    // "/", an identity of 36 characters, "/", the socket's name.
    let fits = |root: &Path| root.as_os_str().len() + 38 + longest <= qemu::spec::MAX_SOCKET_PATH;
    let usual = data_dir.join("run");
    if fits(&usual) {
        files::make_folder(&usual)?;
        return Ok(usual);
    }
    let user = rustix::process::geteuid().as_raw();
    let base = if user == 0 { "/run" } else { "/tmp" };
    let hash = xxh3_64(data_dir.as_os_str().as_encoded_bytes());
    let short = Path::new(base).join(format!("rootvirt-{user}-{hash:016x}"));
    match rustix::fs::mkdir(&short, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(e) => return Err(Error::io("Making the folder", &short)(e.into())),
    }
    // The folder's place may be writable by everybody: it must be ours, and no link.
    let found = std::fs::symlink_metadata(&short).map_err(Error::io("Opening", &short))?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
        return Err(Error::ForeignDataDirectory(short));
    }
    Ok(short)
}

/// Who heals the memory of which machine.
#[derive(Debug, Default)]
pub(crate) struct Healers(Mutex<HashMap<MachineId, Arc<Healer>>>);

impl Healers {
    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<MachineId, Arc<Healer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn put(&self, machine: MachineId, healer: Healer) {
        self.map().insert(machine, Arc::new(healer));
    }

    pub fn take(&self, machine: MachineId) -> Option<Arc<Healer>> {
        self.map().remove(&machine)
    }

    pub fn health(&self, machine: MachineId) -> Option<Health> {
        self.map().get(&machine).map(|healer| healer.health())
    }
}

/// Which machine has which disk file, so that no two machines write to one.
#[derive(Debug, Default)]
pub(crate) struct DisksInUse(Mutex<HashMap<PathBuf, MachineId>>);

impl DisksInUse {
    /// Takes a file for a machine; answers who has it already.
    pub fn take(&self, path: &Path, machine: MachineId) -> Result<(), MachineId> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match map.get(path) {
            Some(owner) => Err(*owner),
            None => {
                map.insert(path.to_owned(), machine);
                Ok(())
            }
        }
    }

    pub fn owner(&self, path: &Path) -> Option<MachineId> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.get(path).copied()
    }

    /// Files that a machine does not have any more, and files that it has now.
    pub fn replace<'a>(
        &self,
        machine: MachineId,
        old: impl Iterator<Item = &'a PathBuf>,
        new: impl Iterator<Item = &'a PathBuf>,
    ) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for path in old {
            if map.get(path) == Some(&machine) {
                map.remove(path);
            }
        }
        for path in new {
            map.insert(path.clone(), machine);
        }
    }
}
