//! From the stop of the guest to the moment at which it may run on: what decides the pause.
//!
//! QEMU gets all commands in one piece and runs them in order, so that no scheduling of our threads
//! lies between them; on a busy host that was most of the pause. A command that fails does not keep
//! the next ones from running: memory that is sent without its disks is thrown away by the caller.

use super::{LiveError, Migration, Switch};
use crate::process::Process;
use crate::qmp::{Qmp, QmpError};
use crate::spec::check_socket_path;
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How many questions QEMU gets one after the other, before there is a pause between them.
const EAGER_POLLS: u32 = 500;

/// How far [`Process::freeze`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frozen {
    /// The guest stands still and its disks are flushed.
    Stopped,
    /// All disks have their new layers.
    Switched,
    /// Memory is being sent.
    Sending,
    /// The instant is fixed: the guest may run on.
    Captured,
}

/// The arguments of the command that puts all overlays on.
pub(super) fn transaction(switches: &[Switch]) -> Value {
    let actions: Vec<Value> = switches
        .iter()
        .map(|s| {
            json!({"type": "blockdev-snapshot",
                   "data": {"node": s.node.as_str(), "overlay": s.overlay.as_str()}})
        })
        .collect();
    json!({"actions": actions})
}

/// Where memory is sent.
pub(super) fn address(socket: &Path) -> Value {
    json!({"transport": "socket", "type": "unix", "path": socket.to_string_lossy()})
}

/// Makes what has been written to files durable. Blocks.
pub(super) fn flush_files(paths: &[PathBuf]) -> io::Result<()> {
    for path in paths {
        File::open(path)?.sync_data()?;
    }
    Ok(())
}

impl Process {
    /// Stops the guest (if it runs), puts the overlays on, starts to send memory to `socket`, and
    /// waits until the instant is fixed. [`Process::prepare_background_snapshot`] must come before,
    /// [`Process::cont`] after it, also after a failure. `reached` is told of each step.
    ///
    /// After a failure memory may be being sent: [`Process::cancel_migration`], and nothing that
    /// was received may be kept.
    pub async fn freeze(
        &self,
        running: bool,
        switches: &[Switch],
        socket: &Path,
        patience: Duration,
        reached: impl FnMut(Frozen),
    ) -> Result<(), LiveError> {
        freeze(self.qmp(), running, switches, socket, patience, reached).await
    }

    /// Waits until the instant is fixed, so that the guest may run on.
    pub async fn wait_until_captured(&self, patience: Duration) -> Result<(), LiveError> {
        wait_until_captured(self.qmp(), patience).await
    }
}

/// [`Process::freeze`], over any of the process's monitors.
pub(super) async fn freeze(
    qmp: &Qmp,
    running: bool,
    switches: &[Switch],
    socket: &Path,
    patience: Duration,
    mut reached: impl FnMut(Frozen),
) -> Result<(), LiveError> {
    check_socket_path(socket)?;
    let channel = json!({"channel-type": "main", "addr": address(socket)});
    let mut steps = Vec::new();
    if running {
        steps.push((Frozen::Stopped, ("stop", json!({}))));
    }
    if !switches.is_empty() {
        steps.push((Frozen::Switched, ("transaction", transaction(switches))));
    }
    let migrate = ("migrate", json!({"channels": [channel]}));
    steps.push((Frozen::Sending, migrate));
    let (points, requests): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
    let began = Instant::now();
    let send = async {
        for (point, pending) in points.into_iter().zip(qmp.submit(&requests).await?) {
            pending.reply().await?;
            reached(point);
        }
        Ok::<(), QmpError>(())
    };
    let millis = patience.as_millis();
    tokio::time::timeout(patience, send)
        .await
        .map_err(|_| LiveError::MigrationTimedOut { millis })??;
    wait_until_captured(qmp, patience.saturating_sub(began.elapsed())).await?;
    reached(Frozen::Captured);
    Ok(())
}

pub(super) async fn wait_until_captured(qmp: &Qmp, patience: Duration) -> Result<(), LiveError> {
    let began = Instant::now();
    let mut polls = 0u32;
    loop {
        let migration = Migration::query(qmp).await?;
        if migration.pages > 0 || migration.ended()? {
            return Ok(());
        }
        if began.elapsed() > patience {
            let millis = patience.as_millis();
            return Err(LiveError::MigrationTimedOut { millis });
        }
        // The guest stands still: ask again at once, at first. No event tells of it.
        polls += 1;
        if polls > EAGER_POLLS {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
