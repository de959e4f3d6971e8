//! The host's pool of 2 MiB pages, and how it is grown for one machine.
//!
//! The pool has pages that the administrator keeps in it, and *surplus* ones, which the kernel
//! gives back to the host by itself as soon as nobody uses them. So what a machine lacks is added
//! to the pool, the machine is started, and then the pool is told its old size again: the kernel
//! makes surplus of the pages that the machine has, and they go when its process goes, whoever was
//! killed before. Nothing needs to be remembered for as long as the machine runs.
//!
//! Only between growing and telling the old size a killed service would leave a pool that is too
//! large. Therefore the old size is recorded first, in a file that also is the lock that makes all
//! services of this host do this one at a time; whoever has the lock next settles it. If the pool
//! has another size by then than we gave it, somebody else has decided, and it is left alone.

use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use uuid::Uuid;

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";
/// Pages asked for at once, so that the time limit can be kept.
const STEP: u64 = 64;
/// How long others may have the pool, who start machines of their own.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
/// How often the lock is tried meanwhile.
const LOCK_LOOK: Duration = Duration::from_millis(5);
/// More than a record takes.
const LONGEST_RECORD: u64 = 4096;

/// The host's pool of 2 MiB pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// All pages, surplus ones included.
    pub pages: u64,
    /// Pages that can still be had.
    pub available: u64,
    /// Those that go back to the host when nobody uses them any more.
    pub surplus: u64,
}

impl Pool {
    /// The pool now; an error if the host has none.
    pub fn read() -> io::Result<Pool> {
        Host::default().pool()
    }

    /// The pages that stay in the pool when nobody uses them.
    pub fn kept(&self) -> u64 {
        self.pages.saturating_sub(self.surplus)
    }
}

/// Where the kernel shows its memory, and where we keep our record.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub pool: PathBuf,
    pub meminfo: PathBuf,
    pub record: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        let user = rustix::process::geteuid().as_raw();
        Host {
            pool: POOL.into(),
            meminfo: "/proc/meminfo".into(),
            // Neither outlives a boot of the host, and nor does the pool.
            record: match user {
                0 => "/run/rootvirt-huge-pages".into(),
                user => format!("/tmp/rootvirt-{user}-huge-pages").into(),
            },
        }
    }
}

/// How large the pool is to be again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    boot: Uuid,
    /// What the pool kept before it was grown.
    kept: u64,
    /// What it keeps if our last step did nothing, ...
    from: u64,
    /// ... and if it was done.
    to: u64,
}

/// The lock on the pool. Dropping it tells the pool its old size and lets the next have it.
#[derive(Debug)]
pub(super) struct Hold {
    host: Host,
    file: File,
}

fn read_number(path: &Path) -> io::Result<u64> {
    let text = std::fs::read_to_string(path)?;
    let number = text.trim().parse();
    number.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

fn boot_id() -> Uuid {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let id = text.ok().and_then(|text| text.trim().parse().ok());
    id.unwrap_or(Uuid::nil())
}

impl Host {
    pub fn pool(&self) -> io::Result<Pool> {
        let number = |name| read_number(&self.pool.join(name));
        let free = number("free_hugepages")?;
        Ok(Pool {
            pages: number("nr_hugepages")?,
            available: free.saturating_sub(number("resv_hugepages")?),
            surplus: number("surplus_hugepages")?,
        })
    }

    fn keep(&self, pages: u64) -> io::Result<()> {
        std::fs::write(self.pool.join("nr_hugepages"), pages.to_string())
    }

    /// All memory, and what could be had now.
    pub fn memory_mib(&self) -> (u64, u64) {
        let text = std::fs::read_to_string(&self.meminfo).unwrap_or_default();
        let value = |key| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let mib = |key| value(key).unwrap_or(0) / 1024;
        (mib("MemTotal:"), mib("MemAvailable:"))
    }

    /// Takes the lock, waiting for others, and settles what one that was killed has left.
    pub fn hold(&self) -> Result<Hold, String> {
        let path = self.record.display();
        let file = self
            .open_record()
            .map_err(|error| format!("The pool's record {path} cannot be opened ({error})."))?;
        let began = Instant::now();
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) if began.elapsed() < LOCK_PATIENCE => {
                    std::thread::sleep(LOCK_LOOK);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let seconds = LOCK_PATIENCE.as_secs();
                    return Err(format!(
                        "Other machines were being started for more than {seconds} s."
                    ));
                }
                Err(error) => return Err(format!("The record {path} cannot be locked ({error}).")),
            }
        }
        let mut hold = Hold {
            host: self.clone(),
            file,
        };
        hold.settle();
        Ok(hold)
    }

    fn open_record(&self) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file: File = rustix::fs::open(&self.record, flags, Mode::RUSR | Mode::WUSR)?.into();
        let found = file.metadata()?;
        // The folder may be everybody's.
        if !found.is_file() || found.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it is somebody else's",
            ));
        }
        Ok(file)
    }
}

impl Hold {
    /// Adds `missing` pages. After a failure the pool is as it was before.
    pub fn grow(
        &mut self,
        before: Pool,
        missing: u64,
        patience: Duration,
    ) -> Result<Duration, String> {
        let began = Instant::now();
        let grown = self.try_grow(before, missing, patience, began);
        match grown {
            Ok(()) => Ok(began.elapsed()),
            Err(reason) => {
                self.settle();
                Err(reason)
            }
        }
    }

    fn try_grow(
        &mut self,
        before: Pool,
        missing: u64,
        patience: Duration,
        began: Instant,
    ) -> Result<(), String> {
        let target = before.pages.saturating_add(missing);
        // The kernel first makes kept pages of the surplus ones; that needs no memory.
        let mut from = before.kept();
        let mut to = before.pages;
        while from < target {
            to = target.min(to.saturating_add(STEP));
            let record = Record {
                boot: boot_id(),
                kept: before.kept(),
                from,
                to,
            };
            self.write(Some(&record))
                .map_err(|error| format!("The pool's record cannot be written ({error})."))?;
            let grown = self.host.keep(to).and_then(|()| self.host.pool());
            let found = grown.map_err(|error| match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    format!("The service has no right to grow the host's pool ({error}).")
                }
                _ => format!("The host's pool cannot be grown ({error})."),
            })?;
            if found.pages < to {
                let got = found.pages.saturating_sub(before.pages);
                return Err(format!(
                    "The host found only {got} of {missing} more huge pages; its memory is \
                     fragmented or taken."
                ));
            }
            from = to;
            if began.elapsed() > patience && from < target {
                return Err(format!(
                    "Growing the host's pool by {missing} huge pages takes more than {} ms.",
                    patience.as_millis()
                ));
            }
        }
        Ok(())
    }

    /// Tells the pool the size it had before the step on record, unless somebody else has told it
    /// another size since.
    fn settle(&mut self) {
        let Some(record) = self.read().filter(|record| record.boot == boot_id()) else {
            return;
        };
        let outcome = self.host.pool().and_then(|pool| {
            let ours = (record.from..=record.to).contains(&pool.kept());
            match ours && pool.kept() > record.kept {
                true => self.host.keep(record.kept),
                false => Ok(()),
            }
        });
        let settled = outcome.and_then(|()| self.write(None));
        if let Err(error) = settled {
            tracing::warn!(%error, "the host's pool of huge pages stays larger than it was");
        }
    }

    fn read(&mut self) -> Option<Record> {
        let mut text = Vec::new();
        self.file.rewind().ok()?;
        let mut file = (&self.file).take(LONGEST_RECORD);
        file.read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn write(&mut self, record: Option<&Record>) -> io::Result<()> {
        let mut text = match record {
            Some(record) => serde_json::to_vec(record)?,
            None => Vec::new(),
        };
        // One write, shorter texts padded: a reader after a kill finds the old one or the new one.
        text.resize(text.len().max(256), b' ');
        self.file.rewind()?;
        self.file.write_all(&text)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.settle();
        // Closing the file gives up the lock.
    }
}
