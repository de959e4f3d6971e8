//! The guest that every contender runs: the same disks, instruments and load.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use demo_guest::serial::SerialClient;

use super::contender::Accelerator;
use crate::{Failure, Outcome, process};

/// For everything the guest is to say or do; generous, since it may be emulated.
const LIMIT: Duration = Duration::from_secs(180);
const PAGE: u64 = 4096;

/// What the guest does to its memory while it is measured. It also writes its counter to the data
/// disk, synchronously, 200 times a second.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Load {
    /// All that the guest's program holds: noise, the ring that it counts in, what it dirties.
    pub filled_mib: u64,
    pub dirty_mib_per_second: u64,
    pub dirty_region_mib: u64,
}

impl Load {
    /// Half of the memory full, 20 MiB/s dirtied.
    pub const fn half(ram_mib: u64) -> Self {
        Self {
            filled_mib: ram_mib / 2,
            dirty_mib_per_second: 20,
            dirty_region_mib: ram_mib / 16,
        }
    }
}

/// A guest to be: fresh disks, and where its sockets are to be.
pub struct Guest {
    pub folder: PathBuf,
    pub ram_mib: u64,
    pub accelerator: Accelerator,
}

impl Guest {
    /// Makes the disks, both qcow2: internal snapshots need that.
    pub fn create(
        folder: PathBuf,
        boot_disk: &Path,
        ram_mib: u64,
        accelerator: Accelerator,
    ) -> Result<Self, Failure> {
        fs::create_dir_all(&folder)?;
        let guest = Self {
            folder,
            ram_mib,
            accelerator,
        };
        process::quiet(
            Command::new("qemu-img")
                .args(["convert", "-f", "raw", "-O", "qcow2"])
                .arg(boot_disk)
                .arg(guest.boot_disk()),
        )?;
        process::quiet(
            Command::new("qemu-img")
                .args(["create", "-f", "qcow2"])
                .arg(guest.data_disk())
                .arg("64M"),
        )?;
        Ok(guest)
    }

    pub fn boot_disk(&self) -> PathBuf {
        self.folder.join("boot.qcow2")
    }

    pub fn data_disk(&self) -> PathBuf {
        self.folder.join("data.qcow2")
    }

    pub fn serial(&self) -> PathBuf {
        self.folder.join("serial")
    }

    pub fn monitor(&self) -> PathBuf {
        self.folder.join("monitor")
    }

    pub fn heartbeat(&self) -> PathBuf {
        self.folder.join("heartbeat")
    }

    /// What QEMU needs on top of what the contender gives it, so that we can watch.
    pub fn instruments(&self) -> [String; 6] {
        let listening = |path: PathBuf| format!("{},server=on,wait=off", path.display());
        [
            "-qmp".to_owned(),
            format!("unix:{}", listening(self.monitor())),
            "-chardev".to_owned(),
            format!("socket,id=beats,path={}", listening(self.heartbeat())),
            "-device".to_owned(),
            "isa-debugcon,iobase=0xe9,chardev=beats".to_owned(),
        ]
    }

    /// Waits until the started guest counts, and puts it under load.
    pub fn settle(&self, load: Load) -> Result<SerialClient, Failure> {
        let mut serial = SerialClient::connect(&self.serial(), LIMIT)?;
        let ring_mib = serial.wait_ready(LIMIT)?.ring.saturating_mul(PAGE) >> 20;
        let noise_mib = load
            .filled_mib
            .saturating_sub(ring_mib.saturating_add(load.dirty_region_mib));
        serial.fill(noise_mib, LIMIT)?;
        serial.dirty(
            Some(load.dirty_mib_per_second),
            load.dirty_region_mib,
            LIMIT,
        )?;
        serial.set_heartbeat(true, LIMIT)?;
        Ok(serial)
    }

    /// The guest must have come through it whole.
    pub fn check(serial: &mut SerialClient) -> Outcome {
        let report = serial.report(LIMIT)?;
        if report.is_consistent() {
            Ok(())
        } else {
            Err(format!("the guest was damaged: {report}").into())
        }
    }

    /// Waits for so many of the guest's seconds.
    pub fn let_run(serial: &mut SerialClient, seconds: u32) -> Outcome {
        for _ in 0..seconds {
            serial.next_tick(LIMIT)?;
        }
        Ok(())
    }
}

/// Bytes that a folder takes on its disk.
pub fn allocated_bytes(folder: &Path) -> Result<u64, Failure> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        sum += if metadata.is_dir() {
            allocated_bytes(&entry.path())?
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(sum)
}
