//! Which process is meant, so that a number given to another process later is never mistaken for
//! it: the process id together with the time the process started.

use crate::proc_stat::{Stat, ticks};
use rustix::process::{PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

/// The file in a run folder that names its process.
pub const PID_FILE: &str = "process.json";

/// A process, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Process id.
    pub pid: u32,
    /// Start, in ticks since the host was booted.
    pub started: u64,
    /// The boot of the host, because the other two start again with it.
    pub boot: Uuid,
    /// The machine that it runs.
    pub machine: Uuid,
}

impl Identity {
    /// The process that has the number `pid` now.
    pub fn of(pid: u32, machine: Uuid) -> Option<Identity> {
        Some(Identity {
            pid,
            started: Stat::read(format!("/proc/{pid}/stat"))?.started,
            boot: boot_id()?,
            machine,
        })
    }

    /// Reads the pid file of a run folder; `None` if there is none that can be read.
    pub fn read(run_dir: &Path) -> Option<Identity> {
        let text = std::fs::read(run_dir.join(PID_FILE)).ok()?;
        serde_json::from_slice(text.get(..text.len().min(4096))?).ok()
    }

    /// Writes the pid file.
    pub fn write(&self, run_dir: &Path) -> io::Result<()> {
        let temporary = run_dir.join("process.json.new");
        std::fs::write(&temporary, serde_json::to_vec(self)?)?;
        std::fs::rename(temporary, run_dir.join(PID_FILE))
    }

    /// A handle on the process, if it still runs.
    pub fn open(&self) -> Option<OwnedFd> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Only now: the handle keeps the number from being given to another process unseen.
        self.is_alive().then_some(handle)
    }

    /// Whether it still runs (a dead child that nobody waited for does not).
    pub fn is_alive(&self) -> bool {
        boot_id() == Some(self.boot)
            && Stat::read(format!("/proc/{}/stat", self.pid))
                .is_some_and(|s| s.started == self.started && !matches!(s.state, 'Z' | 'X'))
    }

    /// How long it has run.
    pub fn uptime(&self) -> Option<Duration> {
        let text = std::fs::read_to_string("/proc/uptime").ok()?;
        let since_boot: f64 = text.split_whitespace().next()?.parse().ok()?;
        let since_boot = Duration::try_from_secs_f64(since_boot).ok()?;
        Some(since_boot.saturating_sub(ticks(self.started)))
    }

    /// Processor time of the threads that run virtual processors.
    pub fn cpu_time(&self) -> Option<Duration> {
        let mut sum = Duration::ZERO;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid)).ok()? {
            let path = thread.ok()?.path().join("stat");
            // A thread may end while we look.
            let stat = Stat::read(&path);
            let runs_guest = |s: &Stat| s.name.starts_with("CPU ") || s.name.starts_with("ALL CPU");
            if let Some(stat) = stat.filter(runs_guest) {
                sum += ticks(stat.used);
            }
        }
        Some(sum)
    }
}

/// Ends the process at once.
pub fn kill(handle: &OwnedFd) -> io::Result<()> {
    signal(handle, Signal::KILL)
}

/// Asks the process to end in order.
pub(crate) fn terminate(handle: &OwnedFd) -> io::Result<()> {
    signal(handle, Signal::TERM)
}

fn signal(handle: &OwnedFd, signal: Signal) -> io::Result<()> {
    match rustix::process::pidfd_send_signal(handle, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn boot_id() -> Option<Uuid> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_is_alive_and_a_later_one_of_the_same_number_is_not() {
        let own = Identity::of(std::process::id(), Uuid::nil()).unwrap();
        assert!(own.is_alive() && own.open().is_some());
        let other = Identity {
            started: own.started + 1,
            ..own
        };
        assert!(!other.is_alive() && other.open().is_none());
        let before_boot = Identity {
            boot: Uuid::nil(),
            ..own
        };
        assert!(!before_boot.is_alive());
    }
}
