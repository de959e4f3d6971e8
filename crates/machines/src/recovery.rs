//! Opening: finds running guests again, and settles every unfinished saga forward or back before
//! anything is asked of its machine.
//!
//! What QEMU says about its own disks is the truth; the journal says what we meant.

use crate::catalog::{Change, DurableState, JournalRow};
use crate::error::Error;
use crate::ids::{JobId, MachineId};
use crate::jobs::{JobHandle, end_of};
use crate::model::{Health, JobKind, JobState, Timestamp};
use crate::owner::record::Record;
use crate::owner::state_verbs::{kill, turned_off, undo_save};
use crate::owner::work::{Guest, Work};
use crate::owner::{
    guest_watch, merge, quiesce, receiving, restore, shorten, shutdown, snapshot_apply,
    snapshot_create, snapshot_remove, stall, state_verbs,
};
use crate::request::Actor;
use crate::saga::{CreatePlan, MergePlan, Plan, StartPlan};
use qemu::process::{ProcessError, RunState};
use std::collections::HashMap;
use std::sync::Arc;

/// Brings one machine into a settled state.
pub(crate) async fn settle(
    work: &mut Work,
    journal: Vec<JournalRow>,
    jobs: &HashMap<JobId, JobHandle>,
) -> Result<(), Error> {
    if may_run(work, &journal) {
        let serving = rescue(work, &journal).await;
        find_guest(work).await?;
        if let Some(guest) = &mut work.guest {
            guest.memory = serving;
        }
        quiesce::see_to_thaw(work);
    }
    for row in journal {
        let job = jobs.get(&row.saga).cloned();
        let job = job.unwrap_or_else(|| forgotten(work, &row));
        tracing::info!(machine = %row.machine, step = %row.step, "settling an unfinished saga");
        let outcome = settle_saga(work, &row, &job).await;
        if work.unsettled {
            // The journal keeps the saga, for the next start.
            return outcome;
        }
        if let Err(cause) = &outcome {
            tracing::info!(machine = %row.machine, %cause, "the saga was undone");
        }
        let (state, at) = match work.ended.take() {
            Some(end) => end,
            None => {
                let (state, now) = (end_of(&outcome), Timestamp::now());
                let changes = vec![Change::DeleteJournal(row.saga), job.ended_row(&state, now)];
                work.host.catalog.commit(changes).await?;
                (state, now)
            }
        };
        job.end(state, at);
    }
    reconcile(work).await
}

/// Machines that are off by all we know are not looked for: there may be thousands.
fn may_run(work: &Work, journal: &[JournalRow]) -> bool {
    let runs = matches!(
        work.record.body.state,
        DurableState::Running | DurableState::Paused
    );
    runs || !journal.is_empty() || work.host.run_dir(work.record.id).exists()
}

/// Goes on with memory that was on its way to the guest.
async fn rescue(work: &Work, journal: &[JournalRow]) -> Option<restore::Serving> {
    let body = &work.record.body;
    if let (Some(image), Some(process)) = (body.serving, &body.process) {
        return restore::rescue(work, image, process).await;
    }
    for row in journal {
        if let Ok(Plan::Start(StartPlan {
            image: Some(image),
            launched: Some(launched),
        })) = Plan::read(row)
            && launched.on_demand
        {
            return restore::rescue(work, image, &launched.process).await;
        }
    }
    None
}

async fn find_guest(work: &mut Work) -> Result<(), Error> {
    let run_dir = work.host.run_dir(work.record.id);
    match qemu::Process::reconnect(&run_dir, work.record.id.0).await {
        Ok(process) => {
            work.guest = Some(Guest::new(process));
            Ok(())
        }
        // A start that was broken off may have left something that holds its disks open.
        Err(ProcessError::NotRunning) => qemu::Process::kill_leftover(&run_dir)
            .await
            .map_err(Error::qemu("Ending what a start has left")),
        Err(cause) => Err(Error::qemu("Finding the running guest")(cause)),
    }
}

/// A saga whose job is not known: a merge for tidiness, or a job that has expired.
fn forgotten(work: &Work, row: &JournalRow) -> JobHandle {
    let actor = Actor {
        user: String::new(),
        peer: "local".into(),
    };
    let job = work
        .host
        .jobs
        .begin(JobKind::RemoveSnapshot, row.machine, None, &actor);
    work.host.jobs.forget(job.id());
    job
}

async fn settle_saga(work: &mut Work, row: &JournalRow, job: &JobHandle) -> Result<(), Error> {
    match Plan::read(row)? {
        Plan::Start(plan) => settle_start(work, job, row, plan).await,
        Plan::TurnOff => {
            kill(work).await;
            let mut new = turned_off(&work.record);
            let sweep = snapshot_remove::sweep_of(new.collect_garbage());
            end(work, job, row, new).await?;
            work.sweep(&sweep).await
        }
        Plan::Save(_) if row.step == "save.quit" => {
            kill(work).await;
            let same = work.record.clone();
            end(work, job, row, same).await
        }
        Plan::Save(plan) => {
            if let Ok(process) = work.process() {
                receiving::stop_sending(&process).await;
            }
            undo_save(work, &plan).await;
            Err(Error::ServiceRestarted)
        }
        Plan::Momentary if shutdown::is_step(&row.step) => {
            let new = shutdown::settle(work, row).await?;
            end(work, job, row, new).await
        }
        Plan::Momentary => Err(Error::ServiceRestarted),
        Plan::Create(plan) => settle_create(work, job, row, plan).await,
        Plan::Apply(plan) if row.step == "apply.sweep" => {
            snapshot_apply::finish(work, job, &plan).await
        }
        Plan::Apply(plan) => {
            snapshot_apply::undo(work, &plan).await;
            Err(Error::ServiceRestarted)
        }
        Plan::Remove(_) if row.step == "remove.intent" => Err(Error::ServiceRestarted),
        Plan::Remove(plan) => {
            snapshot_remove::clean_up(work, &plan.sweep).await?;
            let same = work.record.clone();
            end(work, job, row, same).await
        }
        // The file says whether it has been replaced.
        Plan::Shorten(plan) => {
            shorten::settle(work, row.saga, plan.image).await?;
            let same = work.record.clone();
            end(work, job, row, same).await
        }
        Plan::Merge(plan) => {
            settle_merge(work, row.saga, &plan).await?;
            let same = work.record.clone();
            end(work, job, row, same).await
        }
        // With the rows still there, nothing has been done yet.
        Plan::Destroy(_) => Err(Error::ServiceRestarted),
    }
}

/// Ends a saga well. The journal's row goes under the saga's own identity.
async fn end(work: &mut Work, job: &JobHandle, row: &JournalRow, new: Record) -> Result<(), Error> {
    if job.id() == row.saga {
        return work.finish(new, job).await;
    }
    work.commit(new, vec![Change::DeleteJournal(row.saga)])
        .await?;
    work.ended = Some((JobState::Completed, Timestamp::now()));
    Ok(())
}

async fn settle_start(
    work: &mut Work,
    job: &JobHandle,
    row: &JournalRow,
    plan: StartPlan,
) -> Result<(), Error> {
    let launched = match (row.step.as_str(), &plan.launched) {
        ("start.run", Some(launched)) => launched.clone(),
        _ => {
            kill(work).await;
            return Err(Error::ServiceRestarted);
        }
    };
    if work.process().is_err() {
        work.guest = None;
        if launched.written == restore::marks(&work.record) {
            // The guest has not run, or not written anything: the saved state fits its disks.
            return Err(Error::ServiceRestarted);
        }
        let mut new = turned_off(&work.record);
        new.body.health = Health::Critical(
            "The virtual machine's process ended while the service was away.".into(),
        );
        restore::release(work, new).await?;
        return Err(Error::ServiceRestarted);
    }
    let (new, sweep) = state_verbs::running(&work.record, plan.image, launched);
    end(work, job, row, new).await?;
    if let Err(cause) = work.sweep(&sweep).await {
        tracing::error!(%cause, "a used saved state could not be deleted");
    }
    // What is left is the same as without a saga: its memory must come, and it must run.
    Ok(())
}

async fn settle_create(
    work: &mut Work,
    job: &JobHandle,
    row: &JournalRow,
    mut plan: CreatePlan,
) -> Result<(), Error> {
    let whole = plan.captured.is_some()
        && row.step == "create.manifest"
        && plan.memory.as_ref().is_none_or(|i| i.path.exists());
    if whole {
        match snapshot_create::complete(work, job, &plan).await {
            Ok(()) => return Ok(()),
            Err(cause) => tracing::error!(%cause, "a captured snapshot could not be completed"),
        }
        job.unlink();
    }
    if let Err(cause) = snapshot_create::try_undo(work, row.saga, &mut plan).await {
        work.unsettled = true;
        return Err(cause);
    }
    Err(Error::ServiceRestarted)
}

/// A merge is done as far as its effect can be seen, and otherwise left to be done again.
async fn settle_merge(work: &mut Work, saga: JobId, plan: &MergePlan) -> Result<(), Error> {
    let layers = &work.record.layers;
    if !layers.contains_key(&plan.lower) || !layers.contains_key(&plan.upper) {
        return Ok(());
    }
    if let Ok(process) = work.process() {
        let adopted = process
            .adopt_merge(&crate::owner::work::block_job(plan.upper)?)
            .await
            .map_err(Error::qemu("Finding the merge again"))?;
        if let Some(merge) = adopted {
            let _ = merge.cancel().await;
        }
    }
    if !merge::is_done(work, plan).await? {
        return Err(Error::ServiceRestarted);
    }
    merge::complete(work, plan).await?;
    merge::record_merged(work, saga, plan).await
}

/// Without a saga under way: the record and the process must agree, and no guest that runs by the
/// record is left standing still.
async fn reconcile(work: &mut Work) -> Result<(), Error> {
    let state = work.record.body.state;
    let Ok(process) = work.process() else {
        return without_process(work).await;
    };
    if matches!(state, DurableState::Off | DurableState::Saved) {
        tracing::warn!(machine = %work.record.id, "ending a process of a machine that is off");
        kill(work).await;
        return Ok(());
    }
    if work.record.body.serving.is_some() && !is_served(work) {
        restore::try_again(work).await?;
        if work.record.body.serving.is_some() && !is_served(work) {
            // The watch tries again.
            return Ok(());
        }
    }
    let status = process
        .status_unless_ended()
        .await
        .map_err(Error::qemu("Asking for the guest's state"))?;
    let Some(status) = status else {
        return without_process(work).await;
    };
    let mut new = work.record.clone();
    match (state, status) {
        (DurableState::Paused, RunState::Running) => new.enter(DurableState::Running),
        (DurableState::Running, RunState::Running) => new.body.health = Health::Ok,
        (DurableState::Running, RunState::Shutdown) => {
            kill(work).await;
            new = turned_off(&work.record);
        }
        // It stands still for a reason of its own, which the guest's watch knows how to handle.
        (DurableState::Running, status) if stall::is_stuck(&status) => {
            return guest_watch::look(work).await;
        }
        (DurableState::Running, _) => snapshot_create::resume(work).await,
        _ => {}
    }
    work.commit(new, Vec::new()).await
}

/// There is no process, whatever the record says. One that has ended in order did because its guest
/// has shut down.
async fn without_process(work: &mut Work) -> Result<(), Error> {
    work.guest = None;
    let state = work.record.body.state;
    if !matches!(state, DurableState::Running | DurableState::Paused) {
        return Ok(());
    }
    let mut new = turned_off(&work.record);
    if !qemu::Process::ended_in_order(&work.host.run_dir(work.record.id)) {
        new.body.health = Health::Critical(
            "The virtual machine's process ended while the service was away.".into(),
        );
    }
    work.commit(new, Vec::new()).await
}

/// Whether the rest of the guest's memory is on its way.
fn is_served(work: &Work) -> bool {
    work.guest.as_ref().is_some_and(|g| g.memory.is_some())
}

/// Sagas of machines whose rows are gone: a destruction that did not get to its end.
pub(crate) async fn finish_destroyed(
    host: &Arc<crate::host::Host>,
    row: &JournalRow,
    job: Option<&JobHandle>,
) -> Result<(), Error> {
    let swept = match Plan::read(row)? {
        Plan::Destroy(plan) => sweep(host, row.machine, plan.sweep).await,
        _ => Ok(()),
    };
    if let Err(cause) = swept {
        tracing::error!(%cause, "files of a destroyed machine could not be deleted");
    }
    let now = Timestamp::now();
    let mut changes = vec![Change::DeleteJournal(row.saga)];
    if let Some(job) = job {
        changes.push(job.ended_row(&JobState::Completed, now));
    }
    host.catalog.commit(changes).await?;
    if let Some(job) = job {
        job.end(JobState::Completed, now);
    }
    Ok(())
}

async fn sweep(
    host: &Arc<crate::host::Host>,
    machine: MachineId,
    sweep: crate::saga::Sweep,
) -> Result<(), Error> {
    tracing::info!(%machine, files = sweep.files.len(), "finishing a destruction");
    let _ = host;
    crate::owner::work::blocking(move || {
        for file in &sweep.files {
            crate::files::delete(file)?;
        }
        for folder in &sweep.folders {
            crate::files::delete_empty_folder(folder);
        }
        Ok(())
    })
    .await
}
