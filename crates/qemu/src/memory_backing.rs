//! Chooses what a guest's memory is made of.
//!
//! On 2 MiB pages of the host's pool a live snapshot is many times quicker and its pause shorter,
//! so the pool is used whenever it has, or can quickly be given, enough free pages. Growing it
//! takes the memory from everybody else, so there is a limit; and it can be slow, when the host's
//! memory is fragmented or not yet backed itself, so there is a time limit as well.

use crate::spec::Backing;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";
/// Pages asked for at once, so that the time limit can be kept.
const STEP: u64 = 64;
/// Left to the host whatever happens.
const LEFT_TO_HOST_MIB: u64 = 1024;

/// Two that grow the pool at once would each count the other's pages.
static GROWING: Mutex<()> = Mutex::new(());

/// What a machine's memory is to be made of, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The choice.
    pub backing: Backing,
    /// Why, in a sentence for people.
    pub reason: String,
}

/// How far the host's pool of huge pages may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The pool may be grown up to this many MiB in all (0: it is never grown).
    pub pool_limit_mib: u64,
    /// How long growing it may take.
    pub patience: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            pool_limit_mib: 0,
            patience: Duration::from_secs(2),
        }
    }
}

/// The host's pool of 2 MiB pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// All pages.
    pub pages: u64,
    /// Pages that can still be had.
    pub available: u64,
}

impl Pool {
    /// The pool now; an error if the host has none.
    pub fn read() -> io::Result<Pool> {
        Host::default().pool()
    }
}

/// Decides for a machine with `ram_mib` of memory, growing the pool if the policy allows.
/// Blocks for little more than the policy's patience. The pages are not reserved: launch soon, and
/// one machine after the other.
pub fn decide(ram_mib: u64, policy: Policy) -> Decision {
    let _one_at_a_time = GROWING.lock().unwrap_or_else(PoisonError::into_inner);
    Host::default().decide(ram_mib, policy)
}

/// Gives pages that nobody uses back to the host, until the pool has `keep_mib` (what it had
/// before we grew it). To be called when a process on huge pages has ended. Returns the pages
/// given back.
pub fn give_back(keep_mib: u64) -> io::Result<u64> {
    let _one_at_a_time = GROWING.lock().unwrap_or_else(PoisonError::into_inner);
    Host::default().give_back(keep_mib)
}

/// Where the kernel shows its memory.
struct Host {
    pool: PathBuf,
    meminfo: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Host {
            pool: POOL.into(),
            meminfo: "/proc/meminfo".into(),
        }
    }
}

fn read_number(path: &Path) -> io::Result<u64> {
    let text = std::fs::read_to_string(path)?;
    let number = text.trim().parse();
    number.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

impl Host {
    fn pool(&self) -> io::Result<Pool> {
        let number = |name| read_number(&self.pool.join(name));
        let free = number("free_hugepages")?;
        Ok(Pool {
            pages: number("nr_hugepages")?,
            available: free.saturating_sub(number("resv_hugepages")?),
        })
    }

    fn set_pages(&self, pages: u64) -> io::Result<()> {
        std::fs::write(self.pool.join("nr_hugepages"), pages.to_string())
    }

    fn available_mib(&self) -> Option<u64> {
        let text = std::fs::read_to_string(&self.meminfo).ok()?;
        let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib / 1024)
    }

    fn decide(&self, ram_mib: u64, policy: Policy) -> Decision {
        match self.huge_pages(ram_mib, policy) {
            Ok(reason) => Decision {
                backing: Backing::Hugetlb,
                reason,
            },
            Err(reason) => Decision {
                backing: Backing::Transparent,
                reason,
            },
        }
    }

    /// Makes sure of enough huge pages; in both cases, the reason.
    fn huge_pages(&self, ram_mib: u64, policy: Policy) -> Result<String, String> {
        if ram_mib == 0 || !ram_mib.is_multiple_of(2) {
            return Err(format!(
                "{ram_mib} MiB are not a whole number of 2 MiB pages."
            ));
        }
        let needed = ram_mib / 2;
        let pool = self
            .pool()
            .map_err(|error| format!("The host has no pool of 2 MiB pages ({error})."))?;
        if pool.available >= needed {
            let available = pool.available;
            return Ok(format!(
                "The host's pool has {available} free huge pages, and {needed} are needed."
            ));
        }
        let missing = needed - pool.available;
        let limit = policy.pool_limit_mib / 2;
        if pool.pages.saturating_add(missing) > limit {
            return Err(format!(
                "The host's pool has {} free huge pages, {needed} are needed, and it may not be \
                 grown beyond {} MiB.",
                pool.available, policy.pool_limit_mib
            ));
        }
        let available = self.available_mib().unwrap_or(0);
        if available < missing.saturating_mul(2).saturating_add(LEFT_TO_HOST_MIB) {
            return Err(format!(
                "The host has {available} MiB of memory available; growing the pool by {} MiB \
                 would leave it less than {LEFT_TO_HOST_MIB} MiB.",
                missing.saturating_mul(2)
            ));
        }
        self.grow(pool, missing, policy.patience)
    }

    fn grow(&self, before: Pool, missing: u64, patience: Duration) -> Result<String, String> {
        let began = Instant::now();
        let target = before.pages.saturating_add(missing);
        let mut pages = before.pages;
        let outcome = loop {
            if pages >= target {
                let millis = began.elapsed().as_millis();
                return Ok(format!(
                    "The host's pool was grown by {missing} huge pages, in {millis} ms."
                ));
            }
            let next = target.min(pages.saturating_add(STEP));
            let grown = self.set_pages(next).and_then(|()| self.pool());
            match grown {
                Ok(pool) if pool.pages >= next => pages = next,
                Ok(pool) => {
                    break format!(
                        "The host found only {} of {missing} more huge pages; its memory is \
                         fragmented or taken.",
                        pool.pages.saturating_sub(before.pages)
                    );
                }
                Err(error) => break format!("The host's pool cannot be grown ({error})."),
            }
            if began.elapsed() > patience && pages < target {
                break format!(
                    "Growing the host's pool by {missing} huge pages takes more than {} ms.",
                    patience.as_millis()
                );
            }
        };
        if let Err(error) = self.set_pages(before.pages) {
            tracing::warn!(%error, "huge pages stay in the pool");
        }
        Err(outcome)
    }

    fn give_back(&self, keep_mib: u64) -> io::Result<u64> {
        let pool = self.pool()?;
        let used = pool.pages.saturating_sub(pool.available);
        let keep = used.max(keep_mib.div_ceil(2));
        if keep >= pool.pages {
            return Ok(0);
        }
        self.set_pages(keep)?;
        Ok(pool.pages - keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host whose pool takes whatever number is written to it.
    fn host(total: u64, free: u64, memory_mib: u64) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host {
            pool: dir.path().into(),
            meminfo: dir.path().join("meminfo"),
        };
        let write = |name, text: String| std::fs::write(dir.path().join(name), text).unwrap();
        write("nr_hugepages", format!("{total}\n"));
        write("free_hugepages", format!("{free}\n"));
        write("resv_hugepages", "0\n".into());
        write(
            "meminfo",
            format!("MemAvailable: {} kB\n", memory_mib * 1024),
        );
        (dir, host)
    }

    fn policy(pool_limit_mib: u64) -> Policy {
        Policy {
            pool_limit_mib,
            ..Policy::default()
        }
    }

    #[test]
    fn free_pages_are_used_and_missing_ones_are_made_within_the_limit() {
        let (_dir, pool) = host(512, 256, 8192);
        assert_eq!(pool.decide(512, policy(0)).backing, Backing::Hugetlb);
        let too_much = pool.decide(514, policy(0));
        assert_eq!(too_much.backing, Backing::Transparent);
        assert!(too_much.reason.contains("257"), "{}", too_much.reason);
        assert_eq!(
            pool.decide(1024, policy(1534)).backing,
            Backing::Transparent
        );
        assert_eq!(pool.pool().unwrap().pages, 512);
        assert_eq!(pool.decide(1024, policy(1536)).backing, Backing::Hugetlb);
        assert_eq!(pool.pool().unwrap().pages, 768);
    }

    #[test]
    fn the_host_keeps_memory_for_itself() {
        let (_dir, pool) = host(0, 0, 2000);
        let decision = pool.decide(1024, policy(1 << 20));
        assert_eq!(decision.backing, Backing::Transparent);
        assert!(decision.reason.contains("2000 MiB"));
        assert_eq!(
            pool.decide(7, policy(1 << 20)).backing,
            Backing::Transparent
        );
    }

    #[test]
    fn unused_pages_go_back_and_used_ones_stay() {
        let (_dir, pool) = host(1000, 600, 0);
        assert_eq!(pool.give_back(1000).unwrap(), 500);
        assert_eq!(pool.pool().unwrap().pages, 500);
        let (_dir, pool) = host(1000, 600, 0);
        assert_eq!(pool.give_back(0).unwrap(), 600);
        assert_eq!(pool.pool().unwrap().pages, 400);
    }

    #[test]
    fn a_host_without_a_pool_says_so() {
        let host = Host {
            pool: "/nonexistent".into(),
            meminfo: "/nonexistent".into(),
        };
        let decision = host.decide(512, policy(1 << 20));
        assert_eq!(decision.backing, Backing::Transparent);
        assert!(decision.reason.contains("no pool"));
    }
}
