//! The guest that every contender runs: the same disks, instruments and load.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use demo_guest::protocol::Report;
use demo_guest::serial::SerialClient;
use serde::{Deserialize, Serialize};

use super::contender::Accelerator;
use crate::{Failure, Outcome, process};

/// For everything the guest is to say or do; generous, since it may be emulated.
pub const LIMIT: Duration = Duration::from_secs(240);
const PAGE: u64 = 4096;

/// What the guest does to its memory while it is measured. It also writes its counter to the data
/// disk, synchronously, 200 times a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// All that the guest's program holds: noise, the ring that it counts in, what it dirties.
    pub filled_mib: u64,
    pub dirtying: Dirtying,
    pub dirty_region_mib: u64,
}

/// How fast the guest writes to its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dirtying {
    /// Not at all, but for the counter.
    Idle,
    /// MiB a second.
    Rate(u64),
    Unlimited,
}

impl Dirtying {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "idle" => Some(Self::Idle),
            "unlimited" => Some(Self::Unlimited),
            rate => rate.parse().ok().filter(|rate| *rate > 0).map(Self::Rate),
        }
    }
}

impl std::fmt::Display for Dirtying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Idle => f.write_str("idle"),
            Self::Rate(rate) => write!(f, "{rate} MiB/s"),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

impl Load {
    /// Half of the memory full.
    pub const fn half(ram_mib: u64, dirtying: Dirtying) -> Self {
        Self {
            filled_mib: ram_mib / 2,
            dirtying,
            dirty_region_mib: ram_mib / 16,
        }
    }

    /// Bytes of different pages that the guest's program has changed between two of its reports.
    pub fn changed_bytes(&self, before: &Report, after: &Report) -> f64 {
        let dirtied =
            (after.dirtied.saturating_sub(before.dirtied)).min(self.dirty_region_mib) << 20;
        let counted = after.a.saturating_sub(before.a).min(after.ring) * PAGE;
        (dirtied + counted) as f64
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

    /// What QEMU needs on top of what the contender gives it, so that we can watch. It connects to
    /// the heartbeat's socket, so that every beat is heard from the first on.
    pub fn instruments(&self) -> [String; 6] {
        [
            "-qmp".to_owned(),
            format!("unix:{},server=on,wait=off", self.monitor().display()),
            "-chardev".to_owned(),
            format!("socket,id=beats,path={}", self.heartbeat().display()),
            "-device".to_owned(),
            "isa-debugcon,iobase=0xe9,chardev=beats".to_owned(),
        ]
    }

    /// Talks to the guest that runs now.
    pub fn connect(&self) -> Result<SerialClient, Failure> {
        Ok(SerialClient::connect(&self.serial(), LIMIT)?)
    }

    /// Waits until the started guest counts, and puts it under load.
    pub fn settle(&self, load: Load) -> Result<SerialClient, Failure> {
        let mut serial = self.connect()?;
        let ring_mib = serial.wait_ready(LIMIT)?.ring.saturating_mul(PAGE) >> 20;
        let noise_mib = load
            .filled_mib
            .saturating_sub(ring_mib.saturating_add(load.dirty_region_mib));
        serial.fill(noise_mib, LIMIT)?;
        let rate = match load.dirtying {
            Dirtying::Idle => Some(0),
            Dirtying::Rate(rate) => Some(rate),
            Dirtying::Unlimited => None,
        };
        serial.dirty(rate, load.dirty_region_mib, LIMIT)?;
        serial.set_heartbeat(true, LIMIT)?;
        Ok(serial)
    }

    /// What the guest says of itself, which must be that it is whole and of this boot.
    pub fn check(serial: &mut SerialClient, boot: Option<u64>) -> Result<Report, Failure> {
        let report = serial.report(LIMIT)?;
        if !report.is_consistent() {
            return Err(format!("the guest was damaged: {report}").into());
        }
        if boot.is_some_and(|boot| boot != report.boot) {
            return Err(format!("the guest has been started anew, not restored: {report}").into());
        }
        Ok(report)
    }

    /// Waits for so many of the guest's seconds.
    pub fn let_run(serial: &mut SerialClient, seconds: u32) -> Outcome {
        for _ in 0..seconds {
            serial.next_tick(LIMIT)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(a: u64, dirtied: u64) -> Report {
        Report {
            boot: 1,
            a,
            b: a,
            start: 0,
            ring: 100,
            ring_wrong: 0,
            read_errors: 0,
            write_errors: 0,
            dirtied,
            disks: Vec::new(),
        }
    }

    #[test]
    fn a_page_that_was_changed_twice_counts_once() {
        let load = Load::half(1024, Dirtying::Rate(20));
        let mib = 1_048_576.0;
        let page = 4096.0;
        assert_eq!(
            load.changed_bytes(&report(10, 5), &report(12, 8)),
            3.0 * mib + 2.0 * page
        );
        assert_eq!(
            load.changed_bytes(&report(0, 0), &report(999, 999)),
            64.0 * mib + 100.0 * page
        );
    }
}
