//! Bringing a guest's file systems to rest for a snapshot, by the agent in the guest, and letting
//! them go on.
//!
//! That they may be at rest is recorded before the agent is asked to
//! ([`MachineBody::owes_thaw`](crate::catalog::MachineBody)), and goes from the record when the agent
//! has shown that they are not: whoever has the machine until then, after whatever failure or end
//! of the service, lets them go on ([`see_to_thaw`]). A guest that is restored from such memory owes it,
//! too.
//!
//! The agent is the guest's own and is not believed: it must name a number of file systems, say that
//! they are at rest, before the guest is stopped and after it runs again, and then have as many to
//! let go on: a thaw that finds fewer tells of file systems that were written to in between.

use super::work::Work;
use crate::catalog::DurableState;
use crate::error::Error;
use crate::ids::MachineId;
use crate::jobs::JobHandle;
use crate::model::Consistency;
use crate::saga::{CreatePlan, Plan};
use qemu::agent::{AgentError, Session};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How long the agent may take for a question, and to let file systems go on.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to be there again for a thaw, before it is tried anew.
const THAW_PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to refuse a shutdown, which it does not answer otherwise.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);
/// Between two tries: at first, and at most.
const SOON: Duration = Duration::from_millis(200);
const LATER: Duration = Duration::from_secs(10);

/// A guest whose file systems are at rest, and the conversation with its agent.
pub(super) struct AtRest<'a> {
    session: Session<'a>,
    file_systems: u32,
    since: Instant,
}

/// File systems that are being let go on. Ends with the guest.
#[derive(Debug)]
pub(crate) struct Thawing(JoinHandle<()>);

impl Drop for Thawing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Refuses at once what cannot be: nobody prepares a guest that does not run, or has no agent.
pub(super) async fn check(work: &Work, consistency: Consistency) -> Result<(), Error> {
    if consistency == Consistency::Crash {
        return Ok(());
    }
    if work.record.body.state != DurableState::Running {
        return Err(Error::WrongState {
            state: work.record.body.state.into(),
            verb: "have a snapshot of consistency Application taken",
        });
    }
    match work.process()?.agent_listens().await {
        Ok(true) => Ok(()),
        Ok(false) => Err(no_agent(AgentError::Absent)),
        Err(cause) => Err(no_agent(cause)),
    }
}

fn no_agent(cause: AgentError) -> Error {
    Error::NoGuestAgent {
        reason: cause.to_string(),
    }
}

fn not_quiesced(cause: AgentError) -> Error {
    not_at_rest(cause.to_string().trim_end_matches('.').to_owned())
}

fn not_at_rest(reason: String) -> Error {
    Error::GuestNotQuiesced { reason }
}

/// Brings the guest's file systems to rest, if the snapshot wants that.
pub(super) async fn begin<'a>(
    work: &mut Work,
    job: &JobHandle,
    plan: &CreatePlan,
    process: &'a qemu::Process,
) -> Result<Option<AtRest<'a>>, Error> {
    if plan.consistency == Consistency::Crash {
        return Ok(None);
    }
    let patience = work.host.agent_patience;
    wait_for_thaw(work, job, patience).await?;
    let listening = process.talk_to_agent(patience.min(ANSWER_PATIENCE));
    let mut session = unless_cancelled(job, listening).await?.map_err(no_agent)?;
    // What is at rest already is somebody else's: it would not be let go on when we think.
    let status = session.is_frozen(ANSWER_PATIENCE);
    if unless_cancelled(job, status).await?.map_err(not_quiesced)? {
        return Err(not_at_rest("somebody else has them at rest already".into()));
    }
    let mut new = work.record.clone();
    new.body.owes_thaw = true;
    work.commit_step(new, job.id(), "create.quiesce", &Plan::Create(plan.clone()))
        .await?;
    let since = Instant::now();
    let file_systems = unless_cancelled(job, session.freeze(patience)).await?;
    let file_systems = file_systems.map_err(not_quiesced)?;
    if file_systems == 0 {
        return Err(not_at_rest(
            "the guest has no file system that can be, or its agent may not do it".into(),
        ));
    }
    work.reach("create.quiesced");
    Ok(Some(AtRest {
        session,
        file_systems,
        since,
    }))
}

/// Makes sure, just before the guest is stopped, that they still are at rest.
pub(super) async fn confirm(guest: &mut Option<AtRest<'_>>, job: &JobHandle) -> Result<(), Error> {
    let Some(guest) = guest else {
        return Ok(());
    };
    let status = guest.session.is_frozen(ANSWER_PATIENCE);
    match unless_cancelled(job, status).await?.map_err(not_quiesced)? {
        true => Ok(()),
        false => Err(not_at_rest("they went on before the snapshot".into())),
    }
}

/// The guest runs again: its file systems go on. Answers how long they were at rest, if they were;
/// refuses what cannot have been at rest all the time.
pub(super) async fn end(guest: Option<AtRest<'_>>) -> Result<Option<Duration>, Error> {
    let Some(mut guest) = guest else {
        return Ok(None);
    };
    let frozen = guest.session.is_frozen(ANSWER_PATIENCE).await;
    let thawed = guest.session.thaw(ANSWER_PATIENCE).await;
    let at_rest = guest.since.elapsed();
    let thawed = thawed.map_err(not_quiesced)?;
    if !frozen.map_err(not_quiesced)? || thawed < guest.file_systems {
        return Err(not_at_rest(format!(
            "of {} file systems, only {thawed} still were when the guest ran again",
            guest.file_systems
        )));
    }
    let still = guest.session.is_frozen(ANSWER_PATIENCE).await;
    if still.map_err(not_quiesced)? {
        return Err(not_at_rest("they could not be let go on".into()));
    }
    Ok(Some(at_rest))
}

async fn unless_cancelled<T>(job: &JobHandle, work: impl Future<Output = T>) -> Result<T, Error> {
    tokio::select! {
        done = work => Ok(done),
        () = job.wait_cancelled() => Err(Error::Cancelled),
    }
}

/// What an earlier snapshot has left at rest must go on first.
async fn wait_for_thaw(work: &mut Work, job: &JobHandle, patience: Duration) -> Result<(), Error> {
    if !work.record.body.owes_thaw {
        return Ok(());
    }
    see_to_thaw(work);
    let thawing = work.guest.as_mut().and_then(|guest| guest.thawing.as_mut());
    let thawed = unless_cancelled(job, tokio::time::timeout(patience, thawed(thawing)));
    if thawed.await?.is_err() {
        return Err(not_at_rest(
            "they still are from an earlier snapshot, and the agent does not let them go on".into(),
        ));
    }
    settle(work).await
}

/// Lets a guest's file systems go on that may be at rest, however long its agent takes; nobody waits
/// for it.
pub(crate) fn see_to_thaw(work: &mut Work) {
    if !work.record.body.owes_thaw || work.record.body.state != DurableState::Running {
        return;
    }
    let machine = work.record.id;
    if let Some(guest) = &mut work.guest
        && guest.thawing.is_none()
    {
        let process = guest.process.clone();
        guest.thawing = Some(Thawing(tokio::spawn(async move {
            until_thawed(&process, &machine.to_string()).await;
        })));
    }
}

/// Has the agent shut the guest down; answers whether it was there and did not refuse.
pub(super) async fn shut_down(process: &qemu::Process, machine: MachineId) -> bool {
    let asked = async {
        let mut session = process.talk_to_agent(THAW_PATIENCE).await?;
        session.shut_down(REFUSAL_PATIENCE).await
    };
    match asked.await {
        Ok(()) => true,
        Err(AgentError::Absent | AgentError::NoChannel) => false,
        Err(cause) => {
            tracing::warn!(%machine, %cause, "the power button is pressed instead");
            false
        }
    }
}

/// Lets a guest's file systems go on, and tries again until its agent says that they do.
pub(crate) async fn until_thawed(process: &qemu::Process, machine: &str) {
    let mut pause = SOON;
    loop {
        match thaw(process).await {
            Ok(count) => {
                tracing::info!(machine, count, "the guest's file systems go on");
                return;
            }
            // Nothing was at rest that could be let go on.
            Err(AgentError::NoChannel) => return,
            Err(cause) => {
                tracing::warn!(machine, %cause, "the guest's file systems may still be at rest");
            }
        }
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(LATER);
    }
}

async fn thaw(process: &qemu::Process) -> Result<u32, AgentError> {
    let mut session = process.talk_to_agent(THAW_PATIENCE).await?;
    let count = session.thaw(ANSWER_PATIENCE).await?;
    match session.is_frozen(ANSWER_PATIENCE).await? {
        false => Ok(count),
        true => Err(AgentError::Nonsense {
            command: "guest-fsfreeze-thaw",
        }),
    }
}

/// Resolves when file systems that were at rest go on; never, if none were.
pub(crate) async fn thawed(thawing: Option<&mut Thawing>) {
    match thawing {
        // The task ends by itself only when they do, or with the runtime.
        Some(Thawing(task)) => drop(task.await),
        None => std::future::pending().await,
    }
}

/// Records that file systems go on.
pub(crate) async fn settle(work: &mut Work) -> Result<(), Error> {
    if let Some(guest) = &mut work.guest {
        guest.thawing = None;
    }
    let mut new = work.record.clone();
    new.body.owes_thaw = false;
    work.commit(new, Vec::new()).await
}
