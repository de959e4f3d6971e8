//! Starting, stopping, pausing, saving: the jobs behind a requested state.

use super::images;
use super::memory;
use super::receiving::{listen, stop_sending, wait_for_memory};
use super::record::Record;
use super::restore;
use super::snapshot_create;
use super::work::{Work, blocking};
use crate::catalog::{DurableState, Image};
use crate::error::Error;
use crate::files;
use crate::ids::ImageId;
use crate::jobs::JobHandle;
use crate::model::{Health, Restoration, State, Timestamp};
use crate::saga::{Launched, Plan, SavePlan, StartPlan, Sweep};
use qemu::postcopy::expect_first;
use qemu::spec::Start;
use qemu::wakefulness::Awake;
use std::time::Duration;

/// How long QEMU may take to end when asked to.
const QUIT_PATIENCE: Duration = Duration::from_secs(5);
/// Room that must be left beside a saved state.
const SLACK: u64 = 64 << 20;

/// Starts the machine, from its saved state if it has one.
pub(crate) async fn start(work: &mut Work, job: &JobHandle) -> Result<(), Error> {
    let plan = StartPlan {
        image: work.record.body.saved_image,
        launched: None,
    };
    work.show_state(State::Starting, State::Running);
    let _awake = Awake::hold();
    give_channel(work).await?;
    work.begin(job, "start.launch", &Plan::Start(plan.clone()))
        .await?;
    let outcome = launch_and_run(work, job, plan).await;
    if outcome.is_err() && work.ended.is_none() {
        // The record has not changed: the machine is off, or saved, as it was.
        kill(work).await;
    }
    outcome
}

/// A guest that starts anew has a channel for its agent, or none, as the service is set, whatever it
/// had before; one that is restored finds the devices that it was saved with.
async fn give_channel(work: &mut Work) -> Result<(), Error> {
    let wanted = work.host.agent_channel;
    if work.record.body.saved_image.is_some() || work.record.settings.agent_channel == wanted {
        return Ok(());
    }
    let mut new = work.record.clone();
    new.set_settings(|settings| settings.agent_channel = wanted);
    work.commit(new, Vec::new()).await
}

async fn launch_and_run(
    work: &mut Work,
    job: &JobHandle,
    mut plan: StartPlan,
) -> Result<(), Error> {
    let since = Timestamp::now();
    // QEMU would say it too, in its own words and with a command line around them.
    snapshot_create::check_layers(work).await?;
    // Meanwhile QEMU comes up.
    let opening = plan.image.map(|id| {
        let record = work.record.clone();
        let asked = work.asked.clone();
        tokio::spawn(async move {
            let image = record.images.get(&id).cloned();
            let image = image.ok_or_else(|| Error::DamagedImage {
                path: Default::default(),
                reason: "the catalog does not know it".into(),
            })?;
            let opened = images::open(&record, &image).await?;
            let first = opened.clone();
            // It does not have to end before the guest is given its memory.
            tokio::task::spawn_blocking(move || expect_first(first.as_ref(), &asked));
            Ok::<_, Error>(opened)
        })
    });
    let start = match plan.image {
        Some(_) => Start::Incoming,
        None => Start::Paused,
    };
    let process = memory::launch(work, start).await?;
    work.reach("start.launched");
    job.percent(50);
    let restored = match opening {
        None => None,
        Some(opening) => {
            let opened = opening.await.map_err(|_| Error::ServiceStopping)??;
            let backing = restore::backing_of(&process);
            Some(restore::load(work, opened, backing).await?)
        }
    };
    job.percent(80);
    let launched = Launched {
        process,
        on_demand: restored.as_ref().is_some_and(|r| r.whole_because.is_none()),
        restored: restored.map(|restored| Restoration {
            since: Some(since),
            ..restored
        }),
        written: restore::marks(&work.record),
    };
    plan.launched = Some(launched.clone());
    // The claim on the saved state is given up only when the guest runs. Should we die before that
    // is recorded, the next start finds out whether it has.
    work.step(job.id(), "start.run", &Plan::Start(plan.clone()))
        .await?;
    let ran = async {
        work.process()?
            .cont()
            .await
            .map_err(Error::qemu("Letting the guest run"))?;
        work.reach("start.running");
        let (new, sweep) = running(&work.record, plan.image, launched.clone());
        work.shown = Default::default();
        work.finish(new, job).await?;
        Ok(sweep)
    };
    let sweep = match ran.await {
        Ok(sweep) => sweep,
        Err(cause) => {
            has_it_run(work, &launched).await;
            return Err(cause);
        }
    };
    work.reach("start.done");
    // What cannot be deleted now goes with the next sweep; the guest runs.
    if let Err(cause) = work.sweep(&sweep).await {
        tracing::error!(%cause, "a used saved state could not be deleted");
    }
    Ok(())
}

/// A guest that was to run, and perhaps did, does so no more. If it has written to its disks, its
/// saved state does not fit them any more.
async fn has_it_run(work: &mut Work, launched: &Launched) {
    kill(work).await;
    if launched.written == restore::marks(&work.record) {
        return;
    }
    let new = turned_off(&work.record);
    if let Err(cause) = restore::release(work, new).await {
        // The journal stays, and the next start looks again.
        tracing::error!(%cause, "the machine's state could not be recorded");
        work.unsettled = true;
    }
}

/// The record of a machine whose guest runs: from now on its disks are not those of the saved state
/// any more. And the files that nothing needs then.
pub(crate) fn running(
    record: &Record,
    image: Option<ImageId>,
    launched: Launched,
) -> (Record, Sweep) {
    let mut new = record.clone();
    new.body.saved_image = None;
    new.body.serving = image.filter(|_| launched.on_demand);
    new.body.restored = launched.restored.map(|restored| {
        let now = restored.since.map(|since| since.elapsed());
        Restoration {
            running: now,
            resident: now.filter(|_| !launched.on_demand),
            ..restored
        }
    });
    new.enter(DurableState::Running);
    new.body.health = Health::Ok;
    new.body.process = Some(launched.process);
    let sweep = super::snapshot_remove::sweep_of(new.collect_garbage());
    (new, sweep)
}

/// Ends the process, whatever it does.
pub(crate) async fn kill(work: &mut Work) {
    if let Some(guest) = work.guest.take()
        && let Err(cause) = guest.process.kill().await
    {
        tracing::error!(%cause, machine = %work.record.id, "QEMU could not be killed");
    }
}

/// The record of a machine that is off.
pub(crate) fn turned_off(record: &Record) -> Record {
    let mut new = record.clone();
    new.body.saved_image = None;
    new.body.health = Health::Ok;
    new.enter(DurableState::Off);
    new
}

/// Pulls the plug; of a saved machine, discards the saved state.
pub(crate) async fn turn_off(work: &mut Work, job: &JobHandle) -> Result<(), Error> {
    work.show_state(State::Stopping, State::Off);
    work.begin(job, "turn_off.quit", &Plan::TurnOff).await?;
    quit(work).await;
    let mut new = turned_off(&work.record);
    let sweep = super::snapshot_remove::sweep_of(new.collect_garbage());
    work.shown = Default::default();
    work.finish(new, job).await?;
    work.reach("turn_off.done");
    // A file that stays behind because we die here is swept at the next start.
    work.sweep(&sweep).await
}

/// Ends a process in order.
pub(super) async fn quit(work: &mut Work) {
    let on_demand = |restored: &Restoration| restored.whole_because.is_none();
    let on_demand = work.record.body.restored.as_ref().is_some_and(on_demand);
    let Some(guest) = work.guest.take() else {
        return;
    };
    if on_demand {
        // QEMU 10.0 frees what its thread for memory on demand still uses when it is told to quit,
        // and may die of that at any point. So it is ended where it has nothing left to do: a guest
        // that stands still has flushed disks. Until then its memory is served.
        let stopped = tokio::time::timeout(QUIT_PATIENCE, guest.process.stop()).await;
        if !matches!(stopped, Ok(Ok(()))) {
            tracing::warn!(machine = %work.record.id, "QEMU did not stop the guest when asked to");
        }
        if let Err(cause) = guest.process.kill().await {
            tracing::error!(%cause, machine = %work.record.id, "QEMU could not be killed");
        }
        return;
    }
    if let Err(cause) = guest.process.quit(QUIT_PATIENCE).await {
        tracing::warn!(%cause, "QEMU did not end when asked to");
        let _ = guest.process.kill().await;
    }
}

/// Presses the reset button. A paused machine runs afterwards.
pub(crate) async fn reset(work: &mut Work, job: &JobHandle) -> Result<(), Error> {
    work.show_state(State::Stopping, State::Running);
    work.begin(job, "state.change", &Plan::Momentary).await?;
    let process = work.process()?;
    process
        .reset()
        .await
        .map_err(Error::qemu("Resetting the guest"))?;
    process
        .cont()
        .await
        .map_err(Error::qemu("Letting the guest run"))?;
    let mut new = work.record.clone();
    new.enter(DurableState::Running);
    new.body.health = Health::Ok;
    new.body.started = Some(Timestamp::now());
    work.shown = Default::default();
    work.finish(new, job).await
}

/// Lets the guest stand still in memory.
pub(crate) async fn pause(work: &mut Work, job: &JobHandle) -> Result<(), Error> {
    work.show_state(State::Pausing, State::Paused);
    work.begin(job, "state.change", &Plan::Momentary).await?;
    work.process()?
        .stop()
        .await
        .map_err(Error::qemu("Pausing the guest"))?;
    let mut new = work.record.clone();
    new.enter(DurableState::Paused);
    work.shown = Default::default();
    work.finish(new, job).await
}

/// Lets a paused guest go on.
pub(crate) async fn resume(work: &mut Work, job: &JobHandle) -> Result<(), Error> {
    work.show_state(State::Resuming, State::Running);
    work.begin(job, "state.change", &Plan::Momentary).await?;
    work.process()?
        .cont()
        .await
        .map_err(Error::qemu("Letting the guest go on"))?;
    let mut new = work.record.clone();
    new.enter(DurableState::Running);
    work.shown = Default::default();
    work.finish(new, job).await
}

/// Memory to disk, and the process ends.
pub(crate) async fn save(work: &mut Work, job: &JobHandle) -> Result<(), Error> {
    let needed = (work.record.settings.memory.quantity_mib << 20) + SLACK;
    job.set_cancellable(true);
    restore::wait_until_resident(work, job).await?;
    job.set_cancellable(false);
    let places = work.places();
    let there = files::free_space(&places.saved())?;
    if there < needed {
        return Err(Error::InsufficientSpace {
            path: places.saved(),
            needed,
            there,
        });
    }
    let image = ImageId::new();
    let plan = SavePlan {
        image,
        path: places.saved_image(image),
        was_running: work.record.body.state == DurableState::Running,
    };
    work.show_state(State::Saving, State::Saved);
    work.begin(job, "save.stop", &Plan::Save(plan.clone()))
        .await?;
    job.set_cancellable(true);
    let saved = save_memory(work, job, &plan).await;
    job.set_cancellable(false);
    let outcome = match saved {
        Ok(image) => enter_saved(work, job, image).await,
        Err(cause) => Err(cause),
    };
    if outcome.is_err() && work.record.body.state != DurableState::Saved {
        undo_save(work, &plan).await;
    }
    outcome
}

async fn save_memory(work: &mut Work, job: &JobHandle, plan: &SavePlan) -> Result<Image, Error> {
    let process = work.process()?;
    let folder = work.places().saved();
    blocking(move || files::make_folder(&folder)).await?;
    let receiver = listen(work, plan.image, &plan.path).await?;
    let sent = async {
        process
            .stop()
            .await
            .map_err(Error::qemu("Stopping the guest"))?;
        process
            .begin_save(receiver.socket())
            .await
            .map_err(Error::qemu("Saving the guest's memory"))?;
        work.reach("save.sending");
        wait_for_memory(&process, &receiver, &plan.path, job).await
    }
    .await;
    if let Err(cause) = sent {
        stop_sending(&process).await;
        receiver.cancel().await;
        return Err(cause);
    }
    let received = receiver
        .publish()
        .await
        .map_err(Error::qemu("Making the memory image durable"))?;
    work.reach("save.received");
    Ok(Image {
        id: plan.image,
        machine: work.record.id,
        path: plan.path.clone(),
        bytes: received.stored_bytes,
        parent: received.header.parent.map(images::in_catalog),
    })
}

async fn enter_saved(work: &mut Work, job: &JobHandle, image: Image) -> Result<(), Error> {
    let plan = SavePlan {
        image: image.id,
        path: image.path.clone(),
        was_running: true,
    };
    let mut new = work.record.clone();
    new.body.saved_image = Some(image.id);
    new.body.health = Health::Ok;
    new.images.insert(image.id, image);
    new.enter(DurableState::Saved);
    work.commit_step(new, job.id(), "save.quit", &Plan::Save(plan))
        .await?;
    kill(work).await;
    work.shown = Default::default();
    let same = work.record.clone();
    work.finish(same, job).await?;
    work.reach("save.done");
    Ok(())
}

/// The guest goes on as if nothing had been asked.
pub(crate) async fn undo_save(work: &mut Work, plan: &SavePlan) {
    if plan.was_running {
        snapshot_create::resume(work).await;
    }
    let mut temporary = plan.path.as_os_str().to_owned();
    temporary.push(files::TEMPORARY);
    let sweep = Sweep {
        files: vec![plan.path.clone(), temporary.into()],
        folders: Vec::new(),
    };
    if let Err(cause) = work.sweep(&sweep).await {
        tracing::error!(%cause, "files of an undone save could not be deleted");
    }
}
