//! Taking a snapshot: settings, one frozen layer per disk and, of a machine that runs, its memory,
//! all of one instant.
//!
//! The order while the machine runs is what makes the instant one: stop; switch all disks; start
//! sending memory; wait until memory is captured; go on. Nothing in between waits for a disk.

use super::fold;
use super::images;
use super::quiesce;
use super::receiving::{listen, receive_failure, stop_sending, wait_for_memory};
use super::record::{Record, layers_of};
use super::restore;
use super::stall;
use super::tidy;
use super::work::{Work, blocking, node, qemu_layer};
use crate::catalog::{Change, DurableState, Image, Layer, SnapshotRow};
use crate::error::Error;
use crate::files;
use crate::ids::{DeviceId, ImageId, JobId, LayerId, SnapshotId};
use crate::jobs::JobHandle;
use crate::manifest::Manifest;
use crate::model::{Activity, Consistency, Settings, Snapshot, State, Timestamp};
use crate::saga::{Captured, CreatePlan, NewLayer, Plan, Sweep};
use crate::settings::limits;
use qemu::live::{Frozen, Pause, PauseWatch, Switch};
use qemu::receiver::RING_LIMIT;
use qemu::spec::Format;
use qemu::wakefulness::Awake;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long fixing the instant may take before the guest runs on without a snapshot.
const CAPTURE_PATIENCE: Duration = Duration::from_secs(30);
/// How long QEMU may take for a question that it answers from memory.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// How often, and after which pause, taking a snapshot back is tried.
const UNDO_ATTEMPTS: u32 = 3;
const UNDO_PAUSE: Duration = Duration::from_secs(1);
/// How many disk layers are made at the same time.
const LAYERS_AT_ONCE: usize = 4;
/// From this size on, looking at memory before the pause is worth while.
const LARGE_MIB: u64 = 2048;
/// Room that must be left for anything but memory.
pub(super) const SLACK: u64 = 64 << 20;

/// Takes a snapshot.
pub(crate) async fn create(
    work: &mut Work,
    job: &JobHandle,
    consistency: Consistency,
) -> Result<(), Error> {
    let begun = Instant::now();
    job.set_cancellable(true);
    check(work).await?;
    job.check()?;
    restore::wait_until_resident(work, job).await?;
    tidy::shorten(work, job).await?;
    let mut plan = plan(work, consistency);
    work.show_activity(Some(Activity::CreatingSnapshot));
    work.begin(job, "create.intent", &Plan::Create(plan.clone()))
        .await?;
    let outcome = match capture(work, job, &mut plan, begun).await {
        Ok(()) => complete(work, job, &plan).await,
        Err(cause) => Err(cause),
    };
    job.set_cancellable(false);
    if outcome.is_ok() {
        measure(work, plan.snapshot).await;
    } else if work.ended.is_none() {
        job.unlink();
        // Without waiting for what is to be undone.
        quiesce::see_to_thaw(work);
        undo(work, job.id(), &mut plan).await;
    }
    outcome
}

/// Remembers what the snapshot cost, for what is expected of the next one.
async fn measure(work: &Work, snapshot: SnapshotId) {
    let row = work.record.snapshot(snapshot);
    let measured = row.and_then(|row| super::snapshot_check::measurement(work, &row.snapshot));
    if let Some(measured) = measured {
        let host = &work.host;
        host.reports.measured(&host.catalog, measured).await;
    }
}

/// What can be refused before anything is touched.
pub(super) async fn check(work: &Work) -> Result<(), Error> {
    check_runs(work).await?;
    check_room(work)?;
    check_layers(work).await?;
    check_chains(work).await?;
    check_capturable(work).await
}

/// Whether the guest goes on, if it should. First of all: one that waits for space is not to be told
/// about space alone.
pub(super) async fn check_runs(work: &Work) -> Result<(), Error> {
    match work.record.body.state {
        DurableState::Running => stall::check_runs(work).await,
        _ => Ok(()),
    }
}

/// Whether there is room for one more snapshot: in number, on the disks, in memory.
pub(super) fn check_room(work: &Work) -> Result<(), Error> {
    if work.record.snapshots.len() >= limits::MOST_SNAPSHOTS {
        return Err(Error::TooManySnapshots {
            limit: limits::MOST_SNAPSHOTS,
        });
    }
    let places = work.places();
    for (path, needed) in [
        (places.snapshots().to_owned(), room_for_memory(work)),
        (places.disks(), SLACK),
    ] {
        let there = files::free_space(&path)?;
        if there < needed {
            return Err(Error::InsufficientSpace {
                path,
                needed,
                there,
            });
        }
    }
    let needed = memory_needed_mib(work);
    let (_, there) = files::host_memory_mib();
    if there < needed {
        return Err(Error::InsufficientMemory { needed, there });
    }
    Ok(())
}

/// Bytes that must be free where the memory image goes.
pub(super) fn room_for_memory(work: &Work) -> u64 {
    let memory = match work.record.body.state {
        DurableState::Running => work.record.settings.memory.quantity_mib << 20,
        _ => 0,
    };
    memory.saturating_add(SLACK)
}

/// MiB of host memory that must be available: the stream is taken into memory first, all of it or
/// as much as the receiver holds.
pub(super) fn memory_needed_mib(work: &Work) -> u64 {
    if work.record.body.state != DurableState::Running {
        return 0;
    }
    let ring = u64::try_from(RING_LIMIT).unwrap_or(u64::MAX) >> 20;
    let memory = work.record.settings.memory.quantity_mib.min(ring);
    memory.saturating_add(work.host.memory_headroom_mib)
}

/// Whether every file of the disks' chains is there.
pub(super) async fn check_layers(work: &Work) -> Result<(), Error> {
    let layers = layers_of(&work.record.settings).flat_map(|top| work.record.chain(top));
    for layer in layers {
        if !tokio::fs::try_exists(&layer.path).await.unwrap_or(false) {
            return Err(Error::LayerFileMissing(layer.path.clone()));
        }
    }
    Ok(())
}

/// Whether QEMU writes to the layers that the catalog records: these are what would be frozen.
pub(super) async fn check_chains(work: &Work) -> Result<(), Error> {
    if work.record.body.state != DurableState::Running {
        return Ok(());
    }
    let devices = work
        .process()?
        .block_devices()
        .await
        .map_err(Error::qemu("Asking for the guest's disks"))?;
    for top in layers_of(&work.record.settings) {
        let Some(layer) = work.record.layers.get(&top) else {
            return Err(Error::NoSuchLayer(top));
        };
        if !work.record.is_open_in(&devices, top) {
            let written = devices.iter().filter_map(|d| d.active());
            return Err(Error::ChainDiffers {
                recorded: layer.path.clone(),
                actual: written.map(|node| node.path.clone()).collect(),
            });
        }
    }
    Ok(())
}

/// Whether QEMU would give the memory of a running machine out.
pub(super) async fn check_capturable(work: &Work) -> Result<(), Error> {
    if !matches!(
        work.record.body.state,
        DurableState::Running | DurableState::Paused
    ) {
        return Ok(());
    }
    let blockers = work
        .process()?
        .migration_blockers(ANSWER_PATIENCE)
        .await
        .map_err(Error::qemu("Asking whether memory can be captured"))?;
    if blockers.is_empty() {
        return Ok(());
    }
    Err(Error::NotCapturable {
        reason: blockers.join("; "),
    })
}

fn plan(work: &Work, consistency: Consistency) -> CreatePlan {
    let snapshot = SnapshotId::new();
    let places = work.places();
    let dir = places.snapshot(snapshot);
    let record = &work.record;
    let memory = (record.body.state == DurableState::Running).then(|| Image {
        id: ImageId::new(),
        machine: record.id,
        path: dir.join(files::MEMORY),
        bytes: 0,
        parent: None,
    });
    CreatePlan {
        snapshot,
        name: default_name(&record.settings.name, Timestamp::now()),
        layers: new_layers(work, &record.settings),
        consistency,
        memory,
        shared: record.body.saved_image,
        begun: Timestamp::now(),
        dir,
        freezing: false,
        folded: Vec::new(),
        captured: None,
    }
}

/// A new layer over each disk of a configuration.
pub(crate) fn new_layers(work: &Work, settings: &Settings) -> Vec<NewLayer> {
    let places = work.places();
    let disks = settings
        .devices
        .iter()
        .filter_map(|d| Some((d.id.clone(), work.record.layers.get(&d.layer?)?)));
    disks
        .map(|(device, below)| {
            let id = LayerId::new();
            let overlay = Layer {
                id,
                machine: work.record.id,
                path: places.layer(&below.path, id),
                format: Format::Qcow2,
                parent: Some(below.id),
                frozen: false,
                ours: true,
            };
            NewLayer {
                device,
                below: below.id,
                overlay,
            }
        })
        .collect()
}

/// Makes the files of new layers.
pub(crate) async fn make_layers(work: &Work, layers: &[NewLayer]) -> Result<(), Error> {
    let disks = work.places().disks();
    blocking(move || files::make_folder(&disks)).await?;
    for some in layers.chunks(LAYERS_AT_ONCE) {
        make_at_once(work, some).await?;
    }
    Ok(())
}

/// Each takes two processes, which wait for the disk most of the time. Whatever comes of them, none
/// is under way any more when this returns.
async fn make_at_once(work: &Work, layers: &[NewLayer]) -> Result<(), Error> {
    let mut pairs = Vec::new();
    for new in layers {
        let below = work.record.layers.get(&new.below).cloned();
        let below = below.ok_or_else(|| Error::NoSuchDevice(new.device.clone()))?;
        pairs.push((new.overlay.path.clone(), below));
    }
    let mut making = tokio::task::JoinSet::new();
    for (path, below) in pairs {
        let host = work.host.clone();
        making.spawn(async move {
            let img = &host.img;
            img.create_overlay(&path, &below.path, below.format).await
        });
    }
    let mut outcome = Ok(());
    while let Some(made) = making.join_next().await {
        let made = made.map_err(|_| Error::ServiceStopping)?;
        outcome = outcome.and(made.map_err(Error::qemu("Making a disk layer")));
    }
    outcome
}

async fn capture(
    work: &mut Work,
    job: &JobHandle,
    plan: &mut CreatePlan,
    begun: Instant,
) -> Result<(), Error> {
    if plan.memory.is_some() && work.record.settings.memory.quantity_mib >= LARGE_MIB {
        // It works beside what follows, and is done before the guest is stopped.
        if let Err(cause) = work.process()?.look_at_memory().await {
            tracing::debug!(%cause, "memory is not looked at before the pause");
        }
    }
    let dir = plan.dir.clone();
    blocking(move || files::make_folder(&dir)).await?;
    make_layers(work, &plan.layers).await?;
    work.reach("create.overlays");
    job.check()?;
    let mut captured = Captured {
        taken: Timestamp::now(),
        pause_micros: None,
        at_rest_micros: None,
        durable_micros: 0,
        stored_bytes: 0,
    };
    if plan.memory.is_some() {
        capture_live(work, job, plan, &mut captured).await?;
    }
    job.set_cancellable(false);
    job.percent(95);
    captured.durable_micros = micros(begun.elapsed());
    plan.captured = Some(captured);
    work.step(job.id(), "create.manifest", &Plan::Create(plan.clone()))
        .await
}

/// Memory, devices and disks of a running guest.
async fn capture_live(
    work: &mut Work,
    job: &JobHandle,
    plan: &mut CreatePlan,
    captured: &mut Captured,
) -> Result<(), Error> {
    let process = work.process()?;
    let (image_id, path) = match &plan.memory {
        Some(image) => (image.id, image.path.clone()),
        None => return Ok(()),
    };
    work.step(job.id(), "create.attach", &Plan::Create(plan.clone()))
        .await?;
    let mut switches = Vec::new();
    for new in &plan.layers {
        process
            .add_overlay(&qemu_layer(&new.overlay)?)
            .await
            .map_err(Error::qemu("Attaching a disk layer"))?;
        switches.push(Switch {
            node: node(new.below)?,
            overlay: node(new.overlay.id)?,
        });
    }
    let receiver = listen(work, image_id, &path).await?;
    // The guest waits for one page after the other until all of them are sent.
    let _awake = Awake::hold();
    process
        .prepare_background_snapshot()
        .await
        .map_err(Error::qemu("Preparing QEMU for a snapshot"))?;
    let mut guest = quiesce::begin(work, job, plan, &process).await?;
    plan.freezing = true;
    work.step(job.id(), "create.freeze", &Plan::Create(plan.clone()))
        .await?;
    job.check()?;
    quiesce::confirm(&mut guest, job).await?;
    let watch = PauseWatch::new(process.qmp());
    captured.taken = Timestamp::now();
    let written = written_files(work, plan);
    let pause = freeze(work, &process, &switches, &written, receiver.socket()).await;
    let received = async {
        let fixing = Error::qemu("Freezing the guest's disks and memory");
        pause.frozen.map_err(fixing)?;
        pause
            .resumed
            .map_err(Error::qemu("Letting the guest go on"))?;
        captured.at_rest_micros = quiesce::end(guest).await?.map(micros);
        if captured.at_rest_micros.is_some() {
            work.reach("create.thawed");
        }
        work.reach("create.receiving");
        wait_for_memory(&process, &receiver, &path, job).await
    }
    .await;
    if let Err(cause) = received {
        stop_sending(&process).await;
        receiver.cancel().await;
        return Err(cause);
    }
    let pause = match watch.judge(true).await {
        Ok(pause) => pause,
        Err(qemu::live::LiveError::Torn { events }) => {
            tracing::warn!(%events, "a snapshot is refused: it would be torn");
            receiver.cancel().await;
            // A guest that was stopped for its disk meanwhile: the cause is known.
            stall::check_runs(work).await?;
            return Err(Error::TornSnapshot);
        }
        Err(cause) => {
            receiver.cancel().await;
            return Err(Error::qemu("Judging the guest's pause")(cause));
        }
    };
    let received = receiver
        .publish()
        .await
        .map_err(|cause| receive_failure(&path, cause))?;
    work.reach("create.received");
    captured.pause_micros = pause.map(micros);
    captured.stored_bytes = received.stored_bytes;
    job.set_pause(pause);
    job.set_at_rest(captured.at_rest_micros.map(Duration::from_micros));
    job.progress(received.stored_bytes, received.stored_bytes);
    if let Some(image) = &mut plan.memory {
        image.bytes = received.stored_bytes;
        image.parent = received.header.parent.map(images::in_catalog);
    }
    Ok(())
}

/// The guest stands still in this, and not longer.
async fn freeze(
    work: &Work,
    process: &qemu::Process,
    switches: &[Switch],
    written: &[PathBuf],
    socket: &Path,
) -> Pause {
    let reached = |step| {
        work.reach(match step {
            Frozen::Stopped => "create.stopped",
            Frozen::Switched => "create.switched",
            Frozen::Sending => "create.sending",
            Frozen::Captured => "create.captured",
        });
    };
    process
        .freeze_and_go_on(switches, written, socket, CAPTURE_PATIENCE, reached)
        .await
}

/// The files that the guest writes to until the instant.
fn written_files(work: &Work, plan: &CreatePlan) -> Vec<PathBuf> {
    let below = plan.layers.iter().filter_map(|new| {
        let layer = work.record.layers.get(&new.below)?;
        Some(layer.path.clone())
    });
    below.collect()
}

/// Everything is on disk: the manifest, the rows, the end of the job.
pub(crate) async fn complete(
    work: &mut Work,
    job: &JobHandle,
    plan: &CreatePlan,
) -> Result<(), Error> {
    let new = with_snapshot(&work.record, plan);
    let row = new
        .snapshot(plan.snapshot)
        .ok_or(Error::NoSuchSnapshot(plan.snapshot))?;
    let manifest = Manifest::of(&new, row);
    let dir = plan.dir.clone();
    blocking(move || manifest.write(&dir)).await?;
    work.reach("create.written");
    // The job leads to the snapshot from the moment the snapshot is there.
    job.link(plan.snapshot);
    if let Some(captured) = &plan.captured {
        job.set_pause(captured.pause_micros.map(Duration::from_micros));
        job.set_at_rest(captured.at_rest_micros.map(Duration::from_micros));
    }
    work.shown.activity = None;
    work.finish(new, job).await?;
    work.reach("create.done");
    Ok(())
}

/// The record with the planned snapshot.
fn with_snapshot(record: &Record, plan: &CreatePlan) -> Record {
    let captured = plan.captured.clone().unwrap_or(Captured {
        taken: plan.begun,
        pause_micros: None,
        at_rest_micros: None,
        durable_micros: 0,
        stored_bytes: 0,
    });
    let mut settings = record.settings.as_ref().clone();
    settings.name = plan.name.clone();
    settings.notes = String::new();
    settings.created = captured.taken;
    let image = plan.memory.as_ref().map(|i| i.id).or(plan.shared);
    let snapshot = Snapshot {
        id: plan.snapshot,
        machine: record.id,
        parent: record.body.parent,
        taken: captured.taken,
        settings: Arc::new(settings),
        has_memory: image.is_some(),
        consistency: plan.consistency,
        at_rest: captured.at_rest_micros.map(Duration::from_micros),
        owes_thaw: image.is_some() && record.body.owes_thaw,
        pause: captured.pause_micros.map(Duration::from_micros),
        durable: Duration::from_micros(captured.durable_micros),
        stored_bytes: captured.stored_bytes,
    };
    let mut new = with_layers(record, &plan.layers);
    if let Some(image) = &plan.memory {
        new.images.insert(image.id, image.clone());
    }
    new.snapshots.push(SnapshotRow {
        snapshot: Arc::new(snapshot),
        image,
        dir: plan.dir.clone(),
    });
    new.body.parent = Some(plan.snapshot);
    if captured.at_rest_micros.is_some() {
        // They were let go on as soon as the guest ran.
        new.body.owes_thaw = false;
    }
    new
}

/// The record with new active layers.
pub(crate) fn with_layers(record: &Record, layers: &[NewLayer]) -> Record {
    let mut new = record.clone();
    for layer in layers {
        if let Some(below) = new.layers.get_mut(&layer.below) {
            below.frozen = true;
        }
        new.layers.insert(layer.overlay.id, layer.overlay.clone());
    }
    new.set_settings(|settings| {
        for layer in layers {
            point(settings, &layer.device, &layer.overlay);
        }
    });
    new
}

/// Lets a disk of a configuration stand on another layer.
pub(crate) fn point(settings: &mut Settings, device: &DeviceId, layer: &Layer) {
    if let Some(device) = settings.devices.iter_mut().find(|d| d.id == *device) {
        device.layer = Some(layer.id);
        device.connection = vec![layer.path.to_string_lossy().into_owned()];
    }
}

/// Takes everything back that was done for the snapshot, and tries again where QEMU or the catalog
/// does not let it. If that does not help either, the journal keeps the saga.
async fn undo(work: &mut Work, saga: JobId, plan: &mut CreatePlan) {
    for attempt in 1..=UNDO_ATTEMPTS {
        match try_undo(work, saga, plan).await {
            Ok(()) => return,
            Err(cause) => tracing::error!(%cause, attempt, "a snapshot could not be undone"),
        }
        tokio::time::sleep(UNDO_PAUSE).await;
    }
    work.unsettled = true;
}

/// Takes everything back once. What cannot be taken back while the guest runs (a layer already
/// written to) is kept as a part of the chain, and merged later. Can be repeated.
pub(crate) async fn try_undo(
    work: &mut Work,
    saga: JobId,
    plan: &mut CreatePlan,
) -> Result<(), Error> {
    let kept = take_layers_back(work, saga, plan).await;
    resume(work).await;
    let kept = kept?;
    if !kept.is_empty() {
        // In one commit with the journal: who undoes this again must not touch what is kept.
        let mut rest = plan.clone();
        rest.layers.retain(|l| !kept.contains(l));
        let new = with_layers(&work.record, &kept);
        let row = Plan::Create(rest.clone()).row(saga, work.record.id, "create.undo")?;
        work.commit(new, vec![Change::PutJournal(row)]).await?;
        *plan = rest;
    }
    let mut files: Vec<_> = vec![plan.dir.join(files::MANIFEST)];
    files.extend(plan.layers.iter().map(|l| l.overlay.path.clone()));
    if let Some(image) = &plan.memory {
        files.push(image.path.clone());
        let mut temporary = image.path.as_os_str().to_owned();
        temporary.push(files::TEMPORARY);
        files.push(temporary.into());
    }
    let sweep = Sweep {
        files,
        folders: vec![plan.dir.clone()],
    };
    if let Err(cause) = work.sweep(&sweep).await {
        tracing::error!(%cause, "files of an undone snapshot could not be deleted");
    }
    work.shown.activity = None;
    work.publish();
    Ok(())
}

/// Takes the new layers out of their chains; answers those that must stay.
async fn take_layers_back(
    work: &mut Work,
    saga: JobId,
    plan: &mut CreatePlan,
) -> Result<Vec<NewLayer>, Error> {
    if plan.freezing || plan.captured.is_some() {
        // From here on the saga must not go forward any more, whatever was captured.
        let mut intent = plan.clone();
        intent.captured = None;
        work.step(saga, "create.undoing", &Plan::Create(intent.clone()))
            .await?;
        *plan = intent;
    }
    if plan.memory.is_some() && plan.freezing {
        return fold::fold_new_layers(work, saga, plan).await;
    }
    if let Ok(process) = work.process() {
        for new in &plan.layers {
            if let Ok(node) = node(new.overlay.id) {
                let _ = process.remove_node(&node).await;
            }
        }
    }
    Ok(Vec::new())
}

/// A guest that runs by our books is not left standing still.
pub(crate) async fn resume(work: &Work) {
    if work.record.body.state != DurableState::Running || work.shown.state == Some(State::Stopping)
    {
        return;
    }
    let Ok(process) = work.process() else {
        return;
    };
    match process.status().await {
        Ok(qemu::process::RunState::Running) => {}
        // It would fail again at once, or has nothing to go on with.
        Ok(status) if stall::is_stuck(&status) => {}
        Ok(_) => {
            if let Err(cause) = process.cont().await {
                tracing::error!(%cause, "the guest could not be let go on");
            }
        }
        Err(cause) => tracing::error!(%cause, "the guest's state is not known"),
    }
}

/// `<machine> - (<date> - <time>)`, as Hyper-V names snapshots on an American host, in UTC.
fn default_name(machine: &str, now: Timestamp) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp(now.0.div_euclid(1_000_000))
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let (hour, half) = match time.hour() {
        0 => (12, "AM"),
        h @ 1..=11 => (h, "AM"),
        12 => (12, "PM"),
        h => (h - 12, "PM"),
    };
    let suffix = format!(
        " - ({}/{}/{} - {hour}:{:02}:{:02} {half})",
        u8::from(time.month()),
        time.day(),
        time.year(),
        time.minute(),
        time.second(),
    );
    let room = limits::LONGEST_NAME.saturating_sub(suffix.chars().count());
    let mut name: String = machine.chars().take(room).collect();
    name.push_str(&suffix);
    name
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_name_is_the_machine_and_the_american_time() {
        let at = |seconds: i64| default_name("web01", Timestamp(seconds * 1_000_000));
        assert_eq!(at(1_795_352_730), "web01 - (11/22/2026 - 1:05:30 PM)");
        assert_eq!(at(1_795_305_600), "web01 - (11/22/2026 - 12:00:00 AM)");
        assert_eq!(at(1_795_348_800), "web01 - (11/22/2026 - 12:00:00 PM)");
        let long = default_name(&"x".repeat(100), Timestamp(0));
        assert_eq!(long.chars().count(), 100);
    }
}
