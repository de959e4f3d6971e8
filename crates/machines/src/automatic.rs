//! Machines that start with the host (`AutomaticStartupAction`).
//!
//! The first service of a new boot of the host records in one commit which boot it is and which
//! machines are to be started because of it; a service that dies before it has started them leaves
//! that to the next. Guests outlive the service, so a service that only starts again starts nothing.

use crate::catalog::{Change, DurableState};
use crate::error::Error;
use crate::host::Host;
use crate::ids::MachineId;
use crate::machines::Machines;
use crate::model::{GlobalSettings, JobState};
use crate::owner::record::Record;
use crate::request::{Actor, StateRequest};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Machines that are started at the same time; the others wait for their turn.
const AT_ONCE: usize = 4;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// `AutomaticStartupAction`: nothing, only what ran when the host went down, in any case.
const NOTHING: u16 = 0;
const IF_IT_RAN: u16 = 1;

/// Which boot of the host this is, by the kernel; nothing if it does not say.
pub(crate) fn boot_of_host() -> Option<String> {
    let text = std::fs::read_to_string(Path::new(BOOT_ID)).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Records a new boot of the host with the machines to be started for it. To be called before the
/// machines are settled: what the catalog says then is what ran when the host went down.
pub(crate) async fn note_boot(host: &Host, records: &[Record]) -> Result<(), Error> {
    let Some(now) = &host.boot else {
        return Ok(());
    };
    let last = host.catalog.boot().await?;
    if last.as_ref() == Some(now) {
        return Ok(());
    }
    let mut changes = vec![Change::PutBoot(now.clone())];
    // Nothing is known of what ran before the first record.
    if last.is_some() {
        let due = records.iter().filter(|record| {
            let ran = record.body.state == DurableState::Running;
            is_due(&record.body.global, ran)
        });
        changes.extend(due.map(|record| Change::PutStart(record.id)));
    }
    host.catalog.commit(changes).await?;
    Ok(())
}

fn is_due(global: &GlobalSettings, ran: bool) -> bool {
    match global.automatic_startup_action {
        NOTHING => false,
        IF_IT_RAN => ran,
        _ => true,
    }
}

/// Starts the machines that are due, each after its delay, without waiting for them.
pub(crate) async fn begin(machines: &Arc<Machines>) -> Result<(), Error> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    for id in machines.host().catalog.starts_due().await? {
        // Whoever closes the service does not wait for this.
        tokio::spawn(start(Arc::downgrade(machines), id, turns.clone()));
    }
    Ok(())
}

async fn start(machines: Weak<Machines>, id: MachineId, turns: Arc<Semaphore>) {
    let delay = match machines.upgrade().and_then(|all| all.machine(id)) {
        Some(machine) => Duration::from_micros(machine.global.automatic_startup_delay_micros),
        None => Duration::ZERO,
    };
    tokio::time::sleep(delay).await;
    let Ok(_turn) = turns.acquire().await else {
        return;
    };
    let Some(machines) = machines.upgrade() else {
        return;
    };
    match start_now(&machines, id).await {
        Ok(()) => tracing::info!(machine = %id, "started with the host"),
        // It is due still, for the next service.
        Err(Error::ServiceStopping) => return,
        Err(cause) => tracing::error!(machine = %id, %cause, "not started with the host"),
    }
    let done = vec![Change::DeleteStart(id)];
    if let Err(cause) = machines.host().catalog.commit(done).await {
        tracing::error!(machine = %id, %cause, "an automatic start is not recorded");
    }
}

async fn start_now(machines: &Machines, id: MachineId) -> Result<(), Error> {
    let machine = machines.machine(id).ok_or(Error::NoSuchMachine(id))?;
    // It may have been told otherwise during the delay.
    if machine.global.automatic_startup_action == NOTHING {
        return Ok(());
    }
    let actor = Actor {
        user: String::new(),
        peer: "start of the host".into(),
    };
    let run = machines.request_state(&actor, id, StateRequest::Run);
    let job = match run.await {
        Ok(job) => machines.wait(job).await?,
        Err(Error::AlreadyInState { .. }) => return Ok(()),
        Err(cause) => return Err(cause),
    };
    match &job.state {
        JobState::Failed(error) => {
            tracing::error!(machine = %id, cause = ?error, "not started with the host");
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::defaults;

    #[test]
    fn the_action_decides() {
        let with = |action| GlobalSettings {
            automatic_startup_action: action,
            ..defaults::global()
        };
        for (action, if_it_ran, if_not) in [(0, false, false), (1, true, false), (2, true, true)] {
            let global = with(action);
            assert_eq!(is_due(&global, true), if_it_ran, "{action}");
            assert_eq!(is_due(&global, false), if_not, "{action}");
        }
    }
}
