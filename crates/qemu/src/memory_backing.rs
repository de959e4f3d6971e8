//! Chooses what a guest's memory is made of.
//!
//! On 2 MiB pages of the host's pool a live snapshot is many times quicker and its pause shorter,
//! so they are used whenever the pool has, or can quickly be given, enough of them. Growing it
//! takes memory from everybody else, so there is a limit; and it can be slow, when the host's
//! memory is fragmented or not yet backed itself, so there is a time limit as well. What cannot be
//! had is no error: there are always transparent huge pages, with the reason.
//!
//! How the pool is grown, and why what was grown is given back whoever is killed: `pool`. What keeps
//! transparent huge pages whole: [`healing`].

pub mod healing;
mod pool;

pub use pool::Pool;

use crate::spec::Backing;
use pool::{Hold, Host};
use std::str::FromStr;
use std::time::Duration;

/// What a machine's memory is to be made of, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The choice.
    pub backing: Backing,
    /// Why, in a sentence for people.
    pub reason: String,
}

/// How far the host's pool of huge pages may be grown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolLimit {
    /// Not at all; pages that are there and free are used.
    Off,
    /// To three quarters of the host's memory in all, as long as an eighth of it (2 GiB at least)
    /// stays available.
    #[default]
    Auto,
    /// To this many MiB in all, as long as 1 GiB of the host's memory stays available.
    Mib(u64),
}

/// What was given is no limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is neither auto nor off nor a number of MiB")]
pub struct BadLimit {
    given: String,
}

impl FromStr for PoolLimit {
    type Err = BadLimit;

    fn from_str(text: &str) -> Result<PoolLimit, BadLimit> {
        match text.trim() {
            "auto" => Ok(PoolLimit::Auto),
            "off" | "0" => Ok(PoolLimit::Off),
            number => number.parse().map(PoolLimit::Mib).map_err(|_| BadLimit {
                given: text.to_owned(),
            }),
        }
    }
}

impl PoolLimit {
    /// The most MiB that the pool may have on a host with `total_mib` of memory.
    fn most_mib(self, total_mib: u64) -> u64 {
        match self {
            PoolLimit::Off => 0,
            PoolLimit::Auto => total_mib - total_mib / 4,
            PoolLimit::Mib(most) => most,
        }
    }

    /// How many MiB must stay available for everything else.
    fn head_room_mib(self, total_mib: u64) -> u64 {
        match self {
            PoolLimit::Off | PoolLimit::Mib(_) => 1024,
            PoolLimit::Auto => (total_mib / 8).max(2048),
        }
    }
}

/// How far the host's pool of huge pages may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How far it may be grown.
    pub limit: PoolLimit,
    /// How long growing may take.
    pub patience: Duration,
}

impl Policy {
    /// The usual patience.
    pub fn new(limit: PoolLimit) -> Policy {
        Policy {
            limit,
            patience: Duration::from_secs(5),
        }
    }
}

/// A decision, and the pool until a process has taken its pages: keep it until the process is
/// ready, then [`Prepared::taken`] (dropping it does the same).
#[must_use = "the pool is not to be given back before the process has its pages"]
#[derive(Debug)]
pub struct Prepared {
    /// The decision.
    pub decision: Decision,
    hold: Option<Hold>,
}

impl Prepared {
    /// The process has its pages (or does not want them any more): what was grown and is not used
    /// goes back at once, and what is used goes back when its process has ended. Blocks briefly.
    pub fn taken(self) {
        drop(self.hold);
    }

    /// No huge pages after all, because of this; what was grown is given back. Blocks briefly.
    pub fn fall_back(self, reason: String) -> Decision {
        drop(self.hold);
        Decision {
            backing: Backing::Transparent,
            reason,
        }
    }
}

/// Decides for a machine with `ram_mib` of memory, growing the pool if the policy allows, by
/// exactly what is missing. Blocks for little more than the policy's patience, and while other
/// machines of this host are being started.
pub fn prepare(ram_mib: u64, policy: Policy) -> Prepared {
    Host::default().prepare(ram_mib, policy)
}

/// Gives back what a service that was killed while it started a machine had added to the pool.
/// To be called when a service starts. Blocks briefly.
pub fn settle() {
    // There is nothing to settle where the pool cannot be held: nobody here has grown it.
    if let Err(reason) = Host::default().hold() {
        tracing::debug!(%reason, "the host's pool of huge pages is left as it is");
    }
}

impl Host {
    fn prepare(&self, ram_mib: u64, policy: Policy) -> Prepared {
        match self.huge_pages(ram_mib, policy) {
            Ok((hold, reason)) => Prepared {
                decision: Decision {
                    backing: Backing::Hugetlb,
                    reason,
                },
                hold: Some(hold),
            },
            Err(reason) => Prepared {
                decision: Decision {
                    backing: Backing::Transparent,
                    reason,
                },
                hold: None,
            },
        }
    }

    /// Makes sure of enough huge pages; in both cases, the reason.
    fn huge_pages(&self, ram_mib: u64, policy: Policy) -> Result<(Hold, String), String> {
        if ram_mib == 0 || !ram_mib.is_multiple_of(2) {
            return Err(format!(
                "{ram_mib} MiB are not a whole number of 2 MiB pages."
            ));
        }
        self.pool()
            .map_err(|error| format!("The host has no pool of 2 MiB pages ({error})."))?;
        let mut hold = self.hold()?;
        let needed = ram_mib / 2;
        let pool = self
            .pool()
            .map_err(|error| format!("The host's pool of huge pages cannot be read ({error})."))?;
        let missing = needed.saturating_sub(pool.available);
        if missing == 0 {
            let available = pool.available;
            let reason = format!(
                "The host's pool has {available} free huge pages, and {needed} are needed."
            );
            return Ok((hold, reason));
        }
        self.may_grow(pool, needed, missing, policy.limit)?;
        let took = hold.grow(pool, missing, policy.patience)?;
        let reason = format!(
            "The host's pool was grown by {missing} huge pages, in {} ms, until the machine ends.",
            took.as_millis()
        );
        Ok((hold, reason))
    }

    /// Whether the policy and the host's memory allow it.
    fn may_grow(
        &self,
        pool: Pool,
        needed: u64,
        missing: u64,
        limit: PoolLimit,
    ) -> Result<(), String> {
        let free = pool.available;
        if limit == PoolLimit::Off {
            return Err(format!(
                "The host's pool has {free} free huge pages, {needed} are needed, and the service \
                 may not grow it (huge-pages-limit is off)."
            ));
        }
        let (total, available) = self.memory_mib();
        let most = limit.most_mib(total);
        let grown = pool.pages.saturating_add(missing).saturating_mul(2);
        if grown > most {
            return Err(format!(
                "The host's pool has {free} free huge pages, {needed} are needed, and it may not be \
                 grown beyond {most} MiB."
            ));
        }
        let head_room = limit.head_room_mib(total);
        if available.saturating_sub(missing.saturating_mul(2)) < head_room {
            return Err(format!(
                "The host has {available} MiB of memory available; growing the pool by {} MiB would \
                 leave it less than {head_room} MiB.",
                missing.saturating_mul(2)
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
