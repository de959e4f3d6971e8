//! The steps of a live snapshot, and of saving, on the guest's side.
//!
//! The order is what makes memory, devices and disks show one instant:
//!
//! 1. make the overlays, [`Process::add_overlay`] each, listen with a
//!    [`crate::receiver::Receiver`], [`Process::prepare_background_snapshot`], [`Receiver::ready`],
//!    [`PauseWatch::new`]
//! 2. [`Process::stop`] (it flushes the disks)
//! 3. [`Process::switch_overlays`], all disks in one transaction
//! 4. [`Process::begin_background_snapshot`]
//! 5. [`Process::wait_until_captured`]: not until QEMU calls itself `active`, which it does before
//!    it has stopped the guest and armed its write tracking, but until pages are counted
//! 6. [`Process::cont`]: the guest stood still from 2 to here
//! 7. [`Process::wait_migration`], [`PauseWatch::judge`], then publish what was received
//!
//! [`Process::freeze`] does 2 to 5 in one go: QEMU does not wait for us between them;
//! [`Process::freeze_and_go_on`] does 6 as well, before everything else on the host, and with commands
//! that QEMU has read beforehand. A guest that stood still already skips 2 and 6. [`capture`] runs all of it; a caller with a journal calls
//! the steps.

mod freezing;
mod loading;
mod ports;
mod urgency;

pub use freezing::Frozen;
pub use urgency::Pause;
pub(crate) use urgency::defer;

use crate::command_line::block_node;
use crate::process::{Process, lacking};
use crate::qmp::{Event, Qmp, QmpError, Recorder};
use crate::receiver::{self, ReceiveError, Received, Receiver};
use crate::spec::{Id, Layer, SpecError, check_path, check_socket_path};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::sync::broadcast;

/// One disk's step to a new active layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The node that is frozen.
    pub node: Id,
    /// The node that is written from now on; added with [`Process::add_overlay`].
    pub overlay: Id,
}

/// How far a migration (memory leaving or entering the process) has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Where it stands.
    pub status: MigrationStatus,
    /// Bytes sent so far.
    pub transferred: u64,
    /// Guest memory in bytes.
    pub total: u64,
    /// Pages handled so far, those of one repeated byte included.
    pub pages: u64,
}

/// Where a migration stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MigrationStatus {
    None,
    Setup,
    Active,
    Device,
    Cancelling,
    Cancelled,
    Completed,
    /// The guest runs, or may, while its memory comes.
    PostcopyActive,
    /// Memory has ceased to come; what is there is kept.
    PostcopyPaused,
    /// Memory is about to come again.
    PostcopyRecover,
    Failed {
        description: String,
    },
    /// A status that this crate does not know.
    Unknown(String),
}

/// Why a step of a live snapshot did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum LiveError {
    #[error(transparent)]
    Qmp(#[from] QmpError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error("QEMU could not transfer the guest's memory: {description}")]
    MigrationFailed { description: String },
    #[error("Transferring the guest's memory was cancelled.")]
    MigrationCancelled,
    #[error("The guest's memory was not transferred within {millis} ms.")]
    MigrationTimedOut { millis: u128 },
    #[error(
        "The guest ran between the freezing of its disks and of its memory (QEMU reports {events}); \
         the snapshot would be torn and is refused."
    )]
    Torn { events: String },
}

/// Watches how often the guest stands still; make it before [`Process::stop`].
pub struct PauseWatch {
    recorder: Recorder,
}

impl PauseWatch {
    /// Starts watching.
    pub fn new(qmp: &Qmp) -> PauseWatch {
        PauseWatch {
            recorder: qmp.record(),
        }
    }

    /// How long the guest stood still, by QEMU's own clock; `None` if it did not run before.
    ///
    /// To be called after the migration has completed. Refuses a torn snapshot: anything but one
    /// STOP and one RESUME (none, if the guest did not run). Stops that QEMU explains by a failed
    /// write or the guest's own end come after the instant and do no harm.
    pub async fn judge(&self, was_running: bool) -> Result<Option<Duration>, LiveError> {
        if was_running {
            let resumed =
                |events: &[Event]| events.iter().any(|e| e.name == "RESUME").then_some(());
            let patience = Duration::from_secs(5);
            self.recorder.wait_for("RESUME", patience, resumed).await?;
        }
        judge(&self.recorder.events()?, was_running)
    }
}

fn judge(events: &[Event], was_running: bool) -> Result<Option<Duration>, LiveError> {
    let mut pause = None;
    let mut stopped_at = None;
    let mut explained = false;
    let mut torn = false;
    for event in events {
        match event.name.as_str() {
            "BLOCK_IO_ERROR" | "SHUTDOWN" | "GUEST_PANICKED" => explained = true,
            "STOP" if pause.is_none() => {
                torn |= stopped_at.is_some();
                stopped_at = Some(event.timestamp_micros);
            }
            "STOP" => {
                torn |= !explained;
                explained = false;
            }
            "RESUME" => match stopped_at.take() {
                Some(at) => {
                    let micros = event.timestamp_micros.saturating_sub(at);
                    pause = Some(Duration::from_micros(u64::try_from(micros).unwrap_or(0)));
                }
                // A guest that an error stopped may be let run again.
                None => torn |= pause.is_none(),
            },
            _ => {}
        }
    }
    if torn || was_running != pause.is_some() {
        let names: Vec<&str> = events
            .iter()
            .map(|e| e.name.as_str())
            .filter(|n| matches!(*n, "STOP" | "RESUME" | "BLOCK_IO_ERROR"))
            .collect();
        let events = match names.is_empty() {
            true => "no pause at all".into(),
            false => names.join(", "),
        };
        return Err(LiveError::Torn { events });
    }
    Ok(pause)
}

const MAX_BANDWIDTH: i64 = i64::MAX / 1024;

/// What the next migration is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The memory of one instant, while the guest runs on.
    Background,
    /// The memory of a guest that stands still.
    Stopped,
    /// Memory that comes on demand.
    Destination,
}

impl Process {
    /// Opens an overlay (made by [`crate::img::Img::create_overlay`]) without attaching it. What
    /// it stands on is decided by [`Process::switch_overlays`].
    pub async fn add_overlay(&self, overlay: &Layer) -> Result<(), LiveError> {
        check_path(&overlay.path)?;
        let mut node = block_node(overlay, false);
        node["backing"] = Value::Null;
        self.qmp().execute("blockdev-add", node).await?;
        Ok(())
    }

    /// Puts an overlay on each of the disks: on all of them at one instant, or on none.
    pub async fn switch_overlays(&self, switches: &[Switch]) -> Result<(), LiveError> {
        if switches.is_empty() {
            return Ok(());
        }
        self.qmp()
            .execute("transaction", freezing::transaction(switches))
            .await?;
        Ok(())
    }

    /// Closes a node that nothing uses.
    pub async fn remove_node(&self, node: &Id) -> Result<(), QmpError> {
        let arguments = json!({"node-name": node.as_str()});
        self.qmp()
            .execute("blockdev-del", arguments)
            .await
            .map(drop)
    }

    /// Readies QEMU for [`Process::begin_background_snapshot`], which would otherwise do it while
    /// the guest stands still.
    pub async fn prepare_background_snapshot(&self) -> Result<(), LiveError> {
        self.prepare(Mode::Background).await?;
        // No limit: our receiver takes it as fast as it comes.
        let arguments = json!({"max-bandwidth": MAX_BANDWIDTH});
        self.qmp()
            .execute("migrate-set-parameters", arguments)
            .await?;
        Ok(())
    }

    /// Starts to send the guest's memory of this instant to `socket`.
    pub async fn begin_background_snapshot(&self, socket: &Path) -> Result<(), LiveError> {
        self.begin(Mode::Background, socket).await
    }

    /// Starts to send a stopped guest's memory and devices to `socket`. When the migration has
    /// completed and what came is published, the process has done its work ([`Process::quit`]);
    /// after a failure or a cancel it can go on ([`Process::cont`]).
    pub async fn begin_save(&self, socket: &Path) -> Result<(), LiveError> {
        let arguments = json!({"max-bandwidth": MAX_BANDWIDTH});
        self.qmp()
            .execute("migrate-set-parameters", arguments)
            .await?;
        self.begin(Mode::Stopped, socket).await
    }

    async fn begin(&self, mode: Mode, socket: &Path) -> Result<(), LiveError> {
        check_socket_path(socket)?;
        self.prepare(mode).await?;
        self.migrate("migrate", freezing::address(socket)).await
    }

    pub(crate) async fn migrate(&self, verb: &str, address: Value) -> Result<(), LiveError> {
        let channel = json!({"channel-type": "main", "addr": address});
        self.qmp()
            .execute(verb, json!({"channels": [channel]}))
            .await?;
        Ok(())
    }

    /// Every capability off but those wanted. One that stayed on from before would change what is
    /// sent; `multifd` on a source has been seen to end QEMU.
    async fn prepare(&self, mode: Mode) -> Result<(), LiveError> {
        const COMMAND: &str = "query-migrate-capabilities";
        let known = self.qmp().execute(COMMAND, json!({})).await?;
        let known = known
            .as_array()
            .ok_or_else(|| lacking(COMMAND, "the list"))?;
        let mut change = Vec::new();
        for entry in known {
            let name = entry.get("capability").and_then(Value::as_str);
            let name = name.ok_or_else(|| lacking(COMMAND, "a name"))?;
            let wanted = match name {
                "events" => true,
                "background-snapshot" => mode == Mode::Background,
                "postcopy-ram" | "postcopy-blocktime" => mode == Mode::Destination,
                _ => false,
            };
            if entry.get("state").and_then(Value::as_bool) != Some(wanted) {
                change.push(json!({"capability": name, "state": wanted}));
            }
        }
        if !change.is_empty() {
            let arguments = json!({"capabilities": change});
            self.qmp()
                .execute("migrate-set-capabilities", arguments)
                .await?;
        }
        Ok(())
    }

    /// Readies a process that waits for a guest to get its memory on demand.
    pub(crate) async fn prepare_destination(&self) -> Result<(), LiveError> {
        self.prepare(Mode::Destination).await
    }

    /// Why QEMU would refuse to give the guest's memory out, in its own words; nothing if it would
    /// not. Disks in some formats are such a reason, wherever in a chain they stand.
    pub async fn migration_blockers(&self, patience: Duration) -> Result<Vec<String>, QmpError> {
        let qmp = self.qmp();
        let reply = qmp
            .execute_within("query-migrate", json!({}), patience)
            .await?;
        let reasons = reply.get("blocked-reasons").and_then(Value::as_array);
        Ok(reasons
            .into_iter()
            .flatten()
            .filter_map(|reason| reason.as_str().map(str::to_owned))
            .collect())
    }

    /// How far the migration has come.
    pub async fn migration(&self) -> Result<Migration, QmpError> {
        Migration::query(self.qmp()).await
    }

    /// Waits until the migration has completed; its failure is an error.
    pub async fn wait_migration(&self, patience: Duration) -> Result<Migration, LiveError> {
        let mut events = self.events();
        let wait = async {
            loop {
                let migration = self.migration().await?;
                if migration.ended()? {
                    return Ok(migration);
                }
                // The event makes it quick; asking now and then makes it sure.
                let next = migration_changed(&mut events);
                let _ = tokio::time::timeout(Duration::from_millis(50), next).await;
            }
        };
        let millis = patience.as_millis();
        tokio::time::timeout(patience, wait)
            .await
            .unwrap_or(Err(LiveError::MigrationTimedOut { millis }))
    }

    /// Cancels the migration and waits until it is gone. A guest that runs, runs on. One that
    /// ended by itself meanwhile is no error.
    pub async fn cancel_migration(&self) -> Result<(), LiveError> {
        self.qmp().execute("migrate_cancel", json!({})).await?;
        match self.wait_migration(Duration::from_secs(10)).await {
            Err(LiveError::MigrationFailed { .. } | LiveError::MigrationCancelled) => Ok(()),
            other => other.map(drop),
        }
    }
}

/// Waits until QEMU says that the migration's state has changed.
pub async fn migration_changed(events: &mut broadcast::Receiver<Event>) {
    loop {
        match events.recv().await {
            Ok(event) if event.name == "MIGRATION" => return,
            // Events were missed, maybe that one.
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            Ok(_) => {}
            // There is nothing to come any more: who waits must look for himself.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Migration {
    async fn query(qmp: &Qmp) -> Result<Migration, QmpError> {
        let reply = qmp.execute("query-migrate", json!({})).await?;
        Ok(Migration::parse(&reply))
    }

    fn parse(reply: &Value) -> Migration {
        let text = |key| reply.get(key).and_then(Value::as_str);
        let ram = |key| {
            let ram = reply.get("ram").and_then(|ram| ram.get(key));
            ram.and_then(Value::as_u64).unwrap_or(0)
        };
        let status = match text("status").unwrap_or("none") {
            "none" => MigrationStatus::None,
            "setup" => MigrationStatus::Setup,
            "active" => MigrationStatus::Active,
            "device" => MigrationStatus::Device,
            "cancelling" => MigrationStatus::Cancelling,
            "cancelled" => MigrationStatus::Cancelled,
            "completed" => MigrationStatus::Completed,
            "postcopy-active" => MigrationStatus::PostcopyActive,
            "postcopy-paused" => MigrationStatus::PostcopyPaused,
            "postcopy-recover" | "postcopy-recover-setup" => MigrationStatus::PostcopyRecover,
            "failed" => MigrationStatus::Failed {
                description: text("error-desc").unwrap_or("QEMU gives no reason").into(),
            },
            other => MigrationStatus::Unknown(other.into()),
        };
        Migration {
            status,
            transferred: ram("transferred"),
            total: ram("total"),
            pages: ram("normal").saturating_add(ram("duplicate")),
        }
    }

    /// Whether it has completed; that it never will is an error.
    fn ended(&self) -> Result<bool, LiveError> {
        match &self.status {
            MigrationStatus::Completed => Ok(true),
            MigrationStatus::Cancelled => Err(LiveError::MigrationCancelled),
            MigrationStatus::Failed { description } => Err(LiveError::MigrationFailed {
                description: description.clone(),
            }),
            _ => Ok(false),
        }
    }
}

/// What [`capture`] made.
#[derive(Clone, Debug)]
pub struct Captured {
    /// How long the guest stood still; `None` if it did not run.
    pub pause: Option<Duration>,
    /// The memory image.
    pub received: Received,
}

/// Why [`capture`] made nothing.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CaptureError {
    #[error(transparent)]
    Live(#[from] LiveError),
    #[error(transparent)]
    Receive(#[from] ReceiveError),
}

impl From<QmpError> for CaptureError {
    fn from(error: QmpError) -> Self {
        CaptureError::Live(error.into())
    }
}

/// A live snapshot of memory, devices and the given disks (each frozen node with the overlay to
/// put on it; the files exist), without a journal.
///
/// After a failure the guest runs as before; overlays that were put on stay. Run it in a task of
/// its own: dropping it half-way can leave the guest standing still.
pub async fn capture(
    process: &Process,
    disks: &[(Id, Layer)],
    config: receiver::Config,
    patience: Duration,
) -> Result<Captured, CaptureError> {
    for (_, overlay) in disks {
        process.add_overlay(overlay).await?;
    }
    let receiver = Receiver::listen(config)?;
    process.prepare_background_snapshot().await?;
    if let Err(error) = receiver.ready().await {
        // What it has made is gone before anybody hears of the failure.
        receiver.cancel().await;
        return Err(error.into());
    }
    let watch = PauseWatch::new(process.qmp());
    let was_running = process.status().await?.is_running();
    let switches: Vec<Switch> = disks
        .iter()
        .map(|(node, overlay)| Switch {
            node: node.clone(),
            overlay: overlay.node.clone(),
        })
        .collect();
    let socket = receiver.socket();
    let fixed = if was_running {
        let pause = process.freeze_and_go_on(&switches, &[], socket, patience, |_| ());
        let pause = pause.await;
        pause.resumed?;
        pause.frozen
    } else {
        let fixed = process.freeze(false, &switches, socket, patience, |_| ());
        fixed.await
    };
    let completed = async {
        fixed?;
        process.wait_migration(patience).await
    };
    let result = tokio::select! {
        result = completed => result,
        error = receiver.failed() => {
            let cancelled = process.cancel_migration().await;
            // What it has made is gone before anybody hears of the failure.
            receiver.cancel().await;
            cancelled?;
            return Err(error.into());
        }
    };
    if let Err(error) = result {
        if matches!(error, LiveError::MigrationTimedOut { .. }) {
            process.cancel_migration().await?;
        }
        let cause = receiver.failure();
        receiver.cancel().await;
        return Err(cause.map_or(error.into(), CaptureError::Receive));
    }
    match watch.judge(was_running).await {
        Ok(pause) => Ok(Captured {
            pause,
            received: receiver.publish().await?,
        }),
        Err(error) => {
            receiver.cancel().await;
            Err(error.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(names: &str) -> Vec<Event> {
        let event = |(at, name): (i64, &str)| Event {
            name: name.into(),
            data: json!({}),
            timestamp_micros: at * 1000,
        };
        (0..).zip(names.split_whitespace()).map(event).collect()
    }

    #[test]
    fn only_one_pause_is_a_snapshot() {
        let whole = |names, running| judge(&events(names), running).ok();
        let one_ms = Some(Some(Duration::from_millis(1)));
        assert_eq!(whole("STOP RESUME", true), one_ms);
        assert_eq!(whole("MIGRATION STOP RESUME MIGRATION", true), one_ms);
        assert_eq!(whole("", false), Some(None));
        assert_eq!(whole("STOP RESUME BLOCK_IO_ERROR STOP", true), one_ms);
        assert_eq!(
            whole("STOP RESUME BLOCK_IO_ERROR STOP RESUME", true),
            one_ms
        );
        for torn in [
            "STOP RESUME STOP RESUME",
            "STOP RESUME STOP",
            "STOP STOP RESUME",
            "RESUME STOP RESUME",
            "STOP",
            "",
            "STOP RESUME BLOCK_IO_ERROR STOP RESUME STOP RESUME",
        ] {
            let error = judge(&events(torn), true);
            assert!(
                matches!(error, Err(LiveError::Torn { .. })),
                "{torn}: {error:?}"
            );
        }
        assert!(judge(&events("STOP RESUME"), false).is_err());
    }
}
