//! While the guest stands still for a snapshot, nothing else of the host is more urgent.
//!
//! Some dozen turns of QEMU's threads and ours lie between stop and go. On a busy host each of them
//! waits some milliseconds for a processor, and that is nearly all of the pause. So for this time
//! those threads get a real-time priority, and our part is done on a thread of its own, with a
//! monitor of its own. Threads that run the guest are left as they are. Without the right to it
//! everything works as well, only slower on a busy host.

use super::freezing::flush_files;
use super::loading::Steps;
use super::{Frozen, LiveError, Switch};
use crate::process::{Process, SOCKET_NAMES};
use crate::qmp::{Qmp, QmpError};
use crate::raw;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long QEMU may take to greet on the second monitor; while it does, the guest runs.
const GREETING_PATIENCE: Duration = Duration::from_secs(2);

/// What came of [`Process::freeze_and_go_on`].
#[derive(Debug)]
pub struct Pause {
    /// Whether the instant was fixed; see [`Process::freeze`].
    pub frozen: Result<(), LiveError>,
    /// Whether the guest was let go on.
    pub resumed: Result<(), QmpError>,
}

/// All threads of a process but those that run a guest.
fn threads(pid: u32) -> impl Iterator<Item = i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    tasks.filter_map(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        let runs_guest = name.starts_with("CPU ") || name.starts_with("ALL CPU");
        let id = task.file_name().to_str()?.parse().ok()?;
        (!runs_guest).then_some(id)
    })
}

/// QEMU's threads, preferred for as long as this lives.
struct Preferred(u32);

impl Preferred {
    fn new(pid: u32) -> Preferred {
        for thread in threads(pid) {
            if let Err(error) = raw::prefer_thread(thread) {
                tracing::debug!(pid, %error, "a thread of QEMU keeps its priority");
            }
        }
        Preferred(pid)
    }
}

impl Drop for Preferred {
    fn drop(&mut self) {
        defer(self.0);
    }
}

/// Gives threads of QEMU their ordinary priority back; also for one that died before it could.
pub(crate) fn defer(pid: u32) {
    for thread in threads(pid) {
        // One that has ended meanwhile needs nothing.
        let _ = raw::defer_thread(thread);
    }
}

/// The order of one pause, with all that the thread needs.
struct Order {
    process: Process,
    switches: Vec<Switch>,
    written: Vec<PathBuf>,
    socket: PathBuf,
    patience: Duration,
}

/// Samples of each GiB of memory: QEMU's most, about eight of each huge page.
const SAMPLES: u64 = 4096;
/// The shortest time between the two looks at a sample, in milliseconds.
const BETWEEN_LOOKS: u64 = 50;

impl Process {
    /// Lets QEMU look at samples of all the guest's memory, in a thread of its own, while the guest
    /// runs; does not wait for it. A snapshot begins with QEMU touching every huge page once, with
    /// the guest stopped already. Where the host itself is a virtual machine, the first touch after a
    /// while can cost tens of microseconds; this lets it happen before the stop. (QEMU does it to
    /// estimate the rate at which memory changes.)
    pub async fn look_at_memory(&self) -> Result<(), QmpError> {
        let arguments = serde_json::json!({
            "calc-time": BETWEEN_LOOKS, "calc-time-unit": "millisecond", "sample-pages": SAMPLES,
        });
        let qmp = self.qmp();
        qmp.execute("calc-dirty-rate", arguments).await.map(drop)
    }

    /// [`Process::freeze`] of a guest that runs, and [`Process::cont`] after it in any case, as fast
    /// as the host can. Once begun it comes to its end, even if the future is dropped. `written` are
    /// the files that the guest writes to: they are flushed just before, because the stop flushes
    /// them with the guest standing still already, and then finds little to do.
    pub async fn freeze_and_go_on(
        &self,
        switches: &[Switch],
        written: &[PathBuf],
        socket: &std::path::Path,
        patience: Duration,
        mut reached: impl FnMut(Frozen),
    ) -> Pause {
        let order = Order {
            process: self.clone(),
            switches: switches.to_vec(),
            written: written.to_vec(),
            socket: socket.to_owned(),
            patience,
        };
        let (steps, mut told) = mpsc::unbounded_channel();
        let (done, outcome) = tokio::sync::oneshot::channel();
        let started = std::thread::Builder::new()
            .name("freeze".into())
            .spawn(move || {
                // An error only says that the caller has gone.
                let _ = done.send(order.carry_out(&steps));
            });
        if let Err(error) = started {
            tracing::warn!(%error, "a guest is frozen without a thread for it");
            let frozen = self.freeze(true, switches, socket, patience, reached).await;
            let resumed = self.cont().await;
            return Pause { frozen, resumed };
        }
        while let Some(step) = told.recv().await {
            reached(step);
        }
        match outcome.await {
            Ok(Some(pause)) => pause,
            // No runtime could be made, so nothing was begun.
            Ok(None) | Err(_) => {
                let frozen = self.freeze(true, switches, socket, patience, reached).await;
                let resumed = self.cont().await;
                Pause { frozen, resumed }
            }
        }
    }
}

impl Order {
    fn carry_out(self, told: &mpsc::UnboundedSender<Frozen>) -> Option<Pause> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .inspect_err(|error| tracing::warn!(%error, "no runtime for a thread"))
            .ok()?;
        if let Err(error) = raw::prefer_this_thread() {
            tracing::debug!(%error, "the freezing thread keeps its ordinary priority");
        }
        Some(runtime.block_on(async {
            // The usual monitor is served by threads that we share with everybody.
            let path = self.process.run_dir().join(SOCKET_NAMES[1]);
            let own = Qmp::connect(&path, GREETING_PATIENCE).await;
            let own = own.inspect_err(|error| {
                tracing::debug!(%error, "the spare monitor is taken");
            });
            let qmp = own.as_ref().unwrap_or(self.process.qmp());
            let run_dir = self.process.run_dir();
            let steps = Steps::load(qmp, run_dir, &self.switches, &self.socket).await;
            let steps = steps.inspect_err(|error| {
                tracing::debug!(%error, "commands are given to QEMU when their time has come");
            });
            let reached = |step| {
                // Nobody may listen any more.
                let _ = told.send(step);
            };
            if let Err(error) = flush_files(&self.written) {
                tracing::warn!(%error, "the guest's pause may be longer");
            }
            let _preferred = Preferred::new(self.process.pid());
            match steps {
                Ok(steps) => steps.carry_out(qmp, self.patience, reached).await,
                Err(_) => self.say_all(qmp, reached).await,
            }
        }))
    }

    /// For a process without monitors on which commands can wait.
    async fn say_all(&self, qmp: &Qmp, reached: impl FnMut(Frozen)) -> Pause {
        let (switches, socket) = (&self.switches, &self.socket);
        let frozen =
            super::freezing::freeze(qmp, true, switches, socket, self.patience, reached).await;
        let resumed = qmp.execute("cont", serde_json::json!({})).await.map(drop);
        Pause { frozen, resumed }
    }
}
