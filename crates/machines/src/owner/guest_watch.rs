//! Watching a guest while nothing else is done to its machine: it may shut down, die, or stand
//! still because of something outside.

use super::quiesce;
use super::record::Record;
use super::restore::{self, News};
use super::state_verbs::{quit, turned_off};
use super::work::{Guest, Work};
use crate::catalog::DurableState;
use crate::error::Error;
use crate::model::Health;
use qemu::process::RunState;
use qemu::qmp::Event;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// Something that happened to a guest.
pub(crate) enum Happening {
    Event(Event),
    /// Events were missed, or it is time to look.
    Look,
    Exited,
    /// To memory that is on its way.
    Memory(News),
    /// Its file systems go on.
    Thawed,
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
    let tick = guest.stall.next_look();
    tokio::select! {
        () = process.exited() => Happening::Exited,
        news = restore::news(guest.memory.as_mut()) => Happening::Memory(news),
        () = quiesce::thawed(guest.thawing.as_mut()) => Happening::Thawed,
        event = guest.events.recv() => match event {
            Ok(event) => Happening::Event(event),
            Err(RecvError::Lagged(_)) => Happening::Look,
            Err(RecvError::Closed) => {
                process.exited().await;
                Happening::Exited
            }
        },
        () = process.server_ended(), if !waits => Happening::Look,
        () = tokio::time::sleep(tick), if waits => Happening::Look,
    }
}

/// Brings the record in line with what happened.
pub(crate) async fn handle(work: &mut Work, happening: Happening) {
    let outcome = match happening {
        Happening::Exited => ended(work).await,
        Happening::Look => look(work).await,
        Happening::Thawed => quiesce::settle(work).await,
        Happening::Memory(news) => match restore::handle(work, news).await {
            Ok(()) => {
                super::memory::heal(work).await;
                Ok(())
            }
            failed => failed,
        },
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
    // What it said before we listened to it is told by how it has ended.
    let said = saw_shutdown(&mut guest);
    if !said && !qemu::Process::ended_in_order(guest.process.run_dir()) {
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
    quit(work).await;
    commit(work, turned_off(&work.record)).await
}

/// A disk could not be read or written, and QEMU stops the guest for it.
async fn disk_failed(work: &mut Work, event: &Event) -> Result<(), Error> {
    let text = |key: &str| event.data.get(key).and_then(|v| v.as_str());
    if text("action") != Some("stop") {
        return Ok(());
    }
    if let (Some(guest), Some(reason)) = (&mut work.guest, text("reason")) {
        guest.stall.note(reason);
    }
    look(work).await
}

/// Asks QEMU how the guest is.
pub(crate) async fn look(work: &mut Work) -> Result<(), Error> {
    let Ok(process) = work.process() else {
        return Ok(());
    };
    let memory = work.guest.as_ref().and_then(|guest| guest.memory.as_ref());
    match memory {
        // It stands still until its memory can be read, which is told.
        Some(serving) if serving.held || serving.is_troubled() => return Ok(()),
        None if work.record.body.serving.is_some() => return restore::try_again(work).await,
        _ => {}
    }
    let status = process
        .status()
        .await
        .map_err(Error::qemu("Asking for the guest's state"))?;
    let mut new = work.record.clone();
    match process.revive_servers(&work.host.installation).await {
        Ok(true) => {
            if let Some(guest) = &mut work.guest {
                guest.stall.cause_removed();
            }
        }
        Ok(false) => {}
        Err(cause) => {
            new.body.health = Health::Critical(cause.to_string());
            return commit(work, new).await;
        }
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
        RunState::IoError => new.body.health = super::stall::attend(work).await?,
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

async fn commit(work: &mut Work, new: Record) -> Result<(), Error> {
    if new.body == work.record.body {
        return Ok(());
    }
    if new.body.serving != work.record.body.serving {
        return restore::release(work, new).await;
    }
    work.commit(new, Vec::new()).await
}
