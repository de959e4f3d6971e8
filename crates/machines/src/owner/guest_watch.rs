//! Watching a guest while nothing else is done to its machine: it may shut down, die, or stand
//! still because of something outside.

use super::record::Record;
use super::state_verbs::turned_off;
use super::work::{Guest, Work};
use crate::catalog::DurableState;
use crate::error::Error;
use crate::files;
use crate::model::Health;
use qemu::process::RunState;
use qemu::qmp::Event;
use std::time::Duration;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// How often a guest that waits for space is looked at.
const SPACE_TICK: Duration = Duration::from_secs(1);
/// Free space at which a guest that waited for some goes on.
const ENOUGH_SPACE: u64 = 64 << 20;
/// How long QEMU may take to end after the guest has shut down.
const QUIT_PATIENCE: Duration = Duration::from_secs(5);

/// Something that happened to a guest.
pub(crate) enum Happening {
    Event(Event),
    /// Events were missed, or it is time to look.
    Look,
    Exited,
}

/// The next thing that happens; never, without a guest.
pub(crate) async fn next(work: Option<&mut Work>) -> Happening {
    let Some(Work {
        guest: Some(guest),
        record,
        ..
    }) = work
    else {
        return std::future::pending().await;
    };
    let waits = matches!(record.body.health, Health::Critical(_));
    let process = guest.process.clone();
    tokio::select! {
        () = process.exited() => Happening::Exited,
        event = guest.events.recv() => match event {
            Ok(event) => Happening::Event(event),
            Err(RecvError::Lagged(_)) => Happening::Look,
            Err(RecvError::Closed) => {
                process.exited().await;
                Happening::Exited
            }
        },
        () = process.server_ended(), if !waits => Happening::Look,
        () = tokio::time::sleep(SPACE_TICK), if waits => Happening::Look,
    }
}

/// Brings the record in line with what happened.
pub(crate) async fn handle(work: &mut Work, happening: Happening) {
    let outcome = match happening {
        Happening::Exited => ended(work).await,
        Happening::Look => look(work).await,
        Happening::Event(event) => match event.name.as_str() {
            "SHUTDOWN" => shut_down(work).await,
            "BLOCK_IO_ERROR" => disk_failed(work, &event).await,
            "STOP" | "RESUME" | "GUEST_PANICKED" | "WATCHDOG" => look(work).await,
            _ => Ok(()),
        },
    };
    if let Err(cause) = outcome {
        tracing::error!(%cause, machine = %work.record.id, "a change of the guest was not recorded");
    }
}

/// After an operation: what became of the guest meanwhile.
pub(crate) async fn settle(work: &mut Work) {
    let runs = matches!(
        work.record.body.state,
        DurableState::Running | DurableState::Paused
    );
    let outcome = match &work.guest {
        Some(guest) if !guest.process.is_alive() => ended(work).await,
        None if runs => ended(work).await,
        _ => Ok(()),
    };
    if let Err(cause) = outcome {
        tracing::error!(%cause, machine = %work.record.id, "a change of the guest was not recorded");
    }
}

/// The process is gone: after a shutdown, or by itself.
async fn ended(work: &mut Work) -> Result<(), Error> {
    let Some(mut guest) = work.guest.take() else {
        return commit(work, turned_off(&work.record)).await;
    };
    // Its disks may be closing still.
    guest.process.exited().await;
    let mut new = turned_off(&work.record);
    if !saw_shutdown(&mut guest) {
        let log = guest.process.log_tail();
        tracing::error!(machine = %work.record.id, %log, "QEMU ended by itself");
        new.body.health = Health::Critical(format!(
            "The virtual machine's process ended by itself. {}",
            log.trim()
        ));
    }
    commit(work, new).await
}

fn saw_shutdown(guest: &mut Guest) -> bool {
    loop {
        match guest.events.try_recv() {
            Ok(event) if event.name == "SHUTDOWN" => return true,
            Ok(_) | Err(TryRecvError::Lagged(_)) => {}
            Err(_) => return false,
        }
    }
}

/// The guest has shut itself down.
async fn shut_down(work: &mut Work) -> Result<(), Error> {
    if let Some(guest) = work.guest.take()
        && let Err(cause) = guest.process.quit(QUIT_PATIENCE).await
    {
        tracing::warn!(%cause, "QEMU did not end after the guest's shutdown");
        let _ = guest.process.kill().await;
    }
    commit(work, turned_off(&work.record)).await
}

/// A disk could not be read or written, and QEMU has stopped the guest for it.
async fn disk_failed(work: &mut Work, event: &Event) -> Result<(), Error> {
    let text = |key: &str| {
        let value = event.data.get(key).and_then(|v| v.as_str());
        value.unwrap_or("unknown").to_owned()
    };
    if text("action") != "stop" {
        return Ok(());
    }
    let nospace = event.data.get("nospace").and_then(|v| v.as_bool()) == Some(true);
    let sentence = if nospace {
        "The host has no space left for what the guest writes to its disk. The guest stands still \
         and goes on by itself when there is space."
            .to_owned()
    } else {
        format!(
            "The host could not {} the guest's disk: {}. The guest stands still.",
            text("operation"),
            text("reason")
        )
    };
    let mut new = work.record.clone();
    new.body.health = Health::Critical(sentence);
    commit(work, new).await
}

/// Asks QEMU how the guest is.
async fn look(work: &mut Work) -> Result<(), Error> {
    let Ok(process) = work.process() else {
        return Ok(());
    };
    let status = process
        .status()
        .await
        .map_err(Error::qemu("Asking for the guest's state"))?;
    let mut new = work.record.clone();
    if let Err(cause) = process.revive_servers(&work.host.installation).await {
        new.body.health = Health::Critical(cause.to_string());
        return commit(work, new).await;
    }
    match status {
        RunState::Running => {
            new.enter(DurableState::Running);
            new.body.health = Health::Ok;
        }
        RunState::Paused if new.body.state == DurableState::Running => {
            new.enter(DurableState::Paused);
        }
        RunState::Shutdown => return shut_down(work).await,
        RunState::IoError => {
            if new.body.health == Health::Ok {
                new.body.health = Health::Critical(
                    "A disk of the guest could not be read or written. The guest stands still."
                        .into(),
                );
            } else if enough_space(&work.record) {
                process
                    .cont()
                    .await
                    .map_err(Error::qemu("Letting the guest go on"))?;
            }
        }
        RunState::InternalError => {
            new.body.health = Health::Critical("QEMU met an internal error.".into());
        }
        RunState::GuestPanicked => {
            new.body.health = Health::Critical("The guest's system has crashed.".into());
        }
        _ => {}
    }
    commit(work, new).await
}

fn enough_space(record: &Record) -> bool {
    record
        .active_layers()
        .iter()
        .filter_map(|id| record.layers.get(id))
        .all(|layer| files::free_space(&layer.path).is_ok_and(|free| free >= ENOUGH_SPACE))
}

async fn commit(work: &mut Work, new: Record) -> Result<(), Error> {
    if new.body == work.record.body {
        return Ok(());
    }
    work.commit(new, Vec::new()).await
}
