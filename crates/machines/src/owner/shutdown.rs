//! Asking a guest to shut down, and waiting for it.
//!
//! Nobody tells whether a guest has heard: one that still starts misses the request, some ignore it,
//! and others need minutes. So the machine is held for it only as long as nobody wants otherwise.
//! While it is waited for, the guest can be asked again, and the machine be reset or turned off: the
//! later request takes the place of the earlier ([`Owner::stop_awaiting`]). A guest that follows when
//! it is not waited for any more is seen by the watch (`guest_watch`).

use super::state_verbs::{kill, quit, turned_off};
use super::work::Work;
use super::{Happening, Owner, Request, finished, guest_watch, quiesce};
use crate::catalog::JournalRow;
use crate::error::Error;
use crate::jobs::JobHandle;
use crate::model::{JobKind, State};
use crate::request::StateRequest;
use crate::saga::Plan;
use qemu::process::RunState;
use qemu::qmp::Event;
use std::time::Duration;
use tokio::sync::broadcast;

/// The step before the process of a guest that has shut down is ended.
const QUIT: &str = "shut_down.quit";

/// Asks the guest to shut down and waits for it: by its agent, if one listens, which a guest obeys
/// whoever is logged on to it; where none does or it refuses, by the power button.
pub(super) async fn shut_down(work: &mut Work, job: &JobHandle) -> Result<(), Error> {
    work.show_state(State::Stopping, State::Off);
    work.begin(job, "shut_down.ask", &Plan::Momentary).await?;
    job.set_cancellable(true);
    let process = work.process()?;
    let mut events = process.events();
    let agent = tokio::select! {
        taken = quiesce::shut_down(&process, work.record.id) => taken,
        () = job.wait_cancelled() => return Err(Error::ShutdownNotAwaited),
    };
    if !agent {
        process
            .powerdown()
            .await
            .map_err(Error::qemu("Pressing the power button"))?;
    }
    work.reach("shut_down.asked");
    let patience = work.host.shutdown_patience;
    tokio::select! {
        biased;
        () = ended(&process, &mut events) => {}
        () = job.wait_cancelled() => return Err(Error::ShutdownNotAwaited),
        () = tokio::time::sleep(patience) => {
            return Err(Error::GuestIgnoredShutdown { seconds: patience.as_secs() });
        }
    }
    job.set_cancellable(false);
    // From here on, a process that is gone is one that we have ended.
    work.step(job.id(), QUIT, &Plan::Momentary).await?;
    quit(work).await;
    work.reach("shut_down.ended");
    let new = turned_off(&work.record);
    work.shown = Default::default();
    work.finish(new, job).await
}

/// The guest has shut down.
async fn ended(process: &qemu::Process, events: &mut broadcast::Receiver<Event>) {
    loop {
        tokio::select! {
            () = process.exited() => return,
            event = events.recv() => match event {
                Ok(event) if event.name != "SHUTDOWN" => {}
                Ok(_) => return,
                // Events were lost, or none come any more: what it said is told by how it is.
                Err(_) => {
                    if matches!(process.status().await, Ok(RunState::Shutdown)) {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            },
        }
    }
}

/// What became of a shutdown that an earlier service was waiting for. Answers the machine's record if
/// the guest has followed.
pub(crate) async fn settle(
    work: &mut Work,
    row: &JournalRow,
) -> Result<super::record::Record, Error> {
    let status = match work.process() {
        Ok(process) => process.status_unless_ended().await,
        Err(_) => Ok(None),
    };
    let followed = match status {
        Ok(Some(status)) => status == RunState::Shutdown,
        Ok(None) => qemu::Process::ended_in_order(&work.host.run_dir(work.record.id)),
        Err(_) => false,
    };
    if row.step != QUIT && !followed {
        return Err(Error::ShutdownNotAwaited);
    }
    kill(work).await;
    Ok(turned_off(&work.record))
}

/// Whether a journalled step is one of a shutdown's.
pub(crate) fn is_step(step: &str) -> bool {
    step.starts_with("shut_down.")
}

impl Owner {
    /// Gives up waiting for the guest to shut down, if that is what is done and the request is one that
    /// goes before it.
    pub(super) async fn stop_awaiting(&mut self, request: &Request) {
        let goes_before = matches!(
            request,
            Request::State(StateRequest::ShutDown | StateRequest::Reset | StateRequest::TurnOff)
        );
        if !goes_before || !self.end_awaiting() {
            return;
        }
        let outcome = finished(&mut self.running).await;
        if !self.take_back(outcome).await {
            return;
        }
        self.stop_tidying().await;
        // It may have followed just now, and what is asked for then is another matter.
        if let Some(work) = &mut self.work {
            guest_watch::handle(work, Happening::Look).await;
            work.publish();
        }
    }

    /// Tells a shutdown that it is waited for no more. Answers whether one is under way.
    pub(super) fn end_awaiting(&self) -> bool {
        let job = self.running.as_ref().map(|running| &running.job);
        let Some(job) = job.filter(|job| job.job().kind == JobKind::ShutDown) else {
            return false;
        };
        self.host.jobs.stop(job.id());
        true
    }
}
