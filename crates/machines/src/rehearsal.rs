//! Rehearsing a snapshot: it is started as a clone apart from everything, looked at, and thrown
//! away. So it is known to run before it is needed.
//!
//! The clone stands on the snapshot's layers with fresh overlays in a folder of its own
//! (`DATA/rehearsals`), gets its memory as a machine that is restored does, all of it before it is
//! thrown away (so every page has been read and compared with its hash), has its own sockets, writes its serial ports to files there, and no network
//! card of any machine here has a connection. Nothing of the machine or the snapshot is written.
//! Whatever the service dies of, the next start ends the clone and deletes the folder (`sweep`).

use crate::catalog::{Image, Layer};
use crate::error::Error;
use crate::files;
use crate::host::Host;
use crate::ids::{LayerId, MachineId, SnapshotId};
use crate::jobs::JobHandle;
use crate::model::{DeviceKind, Settings, Timestamp};
use crate::owner::images;
use crate::owner::launch;
use crate::owner::quiesce;
use crate::owner::record::Record;
use crate::owner::snapshot_create::with_layers;
use crate::owner::work::{Work, blocking};
use crate::saga::NewLayer;
use qemu::postcopy::{Asked, PageServer, PostcopyError};
use qemu::process::{Process, RunState};
use qemu::qmp::Event;
use qemu::spec::{Backing, Format, Start};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::broadcast;
use uuid::Uuid;

/// The folder of the clones' files, in the data directory.
const FOLDER: &str = "rehearsals";
/// What the clones' run folders begin with, among those of machines.
const PREFIX: &str = "rehearsal-";
/// Names the machine that a clone was made of, in its folder.
const MACHINE: &str = "machine";
/// Memory that must be left to the host beside a clone's, in MiB.
const HOST_RESERVE_MIB: u64 = 64;
/// Room for what the clone writes to its disks.
const ROOM: u64 = 256 << 20;
/// How often the clone is looked at.
const TICK: Duration = Duration::from_millis(20);
/// How long loading memory may take.
const LOAD_PATIENCE: Duration = Duration::from_secs(600);
/// The longest wait for a sign of life.
pub const LONGEST: Duration = Duration::from_secs(600);
/// The usual one.
pub const USUAL: Duration = Duration::from_secs(20);

/// What a rehearsal came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// It ran, and the guest gave a sign of life.
    Lived,
    /// It ran; the guest neither wrote to a serial port nor used a disk within the time given.
    Ran,
    /// It did not start, or did not go on running.
    Failed,
}

impl Outcome {
    /// A word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Lived => "lived",
            Outcome::Ran => "ran",
            Outcome::Failed => "failed",
        }
    }
}

/// What was seen of a clone. All times from the beginning, in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// Of which snapshot.
    pub snapshot: SnapshotId,
    /// When it began.
    pub begun: Timestamp,
    /// What it came to.
    pub outcome: Outcome,
    /// In a sentence.
    pub what: String,
    /// When all of its memory was there, or the empty machine stood ready.
    pub loaded_micros: Option<u64>,
    /// When its processors ran.
    pub running_micros: Option<u64>,
    /// When the guest gave its first sign of life.
    pub sign_micros: Option<u64>,
    /// What that was.
    pub sign: Option<String>,
    /// Processor time that its processors used.
    pub processor_micros: u64,
    /// All of it, throwing away included.
    pub took_micros: u64,
}

/// Everything that a rehearsal needs, decided while nothing else is done with the machine.
pub(crate) struct Plan {
    snapshot: SnapshotId,
    /// The machine as it was, on overlays that are not made yet.
    record: Record,
    overlays: Vec<(PathBuf, PathBuf, Format)>,
    image: Option<Image>,
    folder: PathBuf,
    run_dir: PathBuf,
    serial_files: Vec<PathBuf>,
    /// Its file systems are at rest, and must go on.
    owes_thaw: bool,
    patience: Duration,
}

/// Plans a rehearsal, or says why there can be none.
pub(crate) fn plan(work: &Work, snapshot: SnapshotId, patience: Duration) -> Result<Plan, Error> {
    let (record, host) = (&work.record, &work.host);
    let row = record
        .snapshot(snapshot)
        .ok_or(Error::NoSuchSnapshot(snapshot))?;
    let name = format!(
        "{PREFIX}{}",
        Uuid::new_v4().simple().to_string().get(..26).unwrap_or("0")
    );
    let folder = host.data_dir.join(FOLDER).join(&name);
    let settings = row.snapshot.settings.as_ref();
    let needed = settings
        .memory
        .quantity_mib
        .saturating_add(HOST_RESERVE_MIB)
        .saturating_add(host.memory_headroom_mib);
    let (_, there) = files::host_memory_mib();
    if there < needed {
        return Err(Error::InsufficientMemory { needed, there });
    }
    let free = files::free_space(&host.data_dir)?;
    if free < ROOM {
        return Err(Error::InsufficientSpace {
            path: folder,
            needed: ROOM,
            there: free,
        });
    }
    let layers = overlays(record, settings, &folder)?;
    let overlays = layers
        .iter()
        .filter_map(|new| {
            let below = record.layers.get(&new.below)?;
            Some((new.overlay.path.clone(), below.path.clone(), below.format))
        })
        .collect();
    let mut clone = record.clone();
    clone.settings = row.snapshot.settings.clone();
    let mut clone = with_layers(&clone, &layers);
    let mut serial_files = Vec::new();
    clone.set_settings(|settings| {
        let ports = settings.devices.iter_mut();
        for port in ports.filter(|d| d.kind == DeviceKind::SerialPort) {
            let file = folder.join(format!("serial{}.log", serial_files.len()));
            port.connection = vec![format!("file:{}", file.display())];
            serial_files.push(file);
        }
    });
    Ok(Plan {
        snapshot,
        record: clone,
        overlays,
        image: row.image.and_then(|id| record.images.get(&id).cloned()),
        run_dir: host.run_root.join(&name),
        folder,
        serial_files,
        owes_thaw: row.snapshot.owes_thaw,
        patience: patience.clamp(Duration::from_secs(1), LONGEST),
    })
}

/// A layer over each disk of the snapshot, in the clone's folder.
fn overlays(record: &Record, settings: &Settings, folder: &Path) -> Result<Vec<NewLayer>, Error> {
    let mut layers = Vec::new();
    for device in &settings.devices {
        let Some(top) = device.layer else { continue };
        let chain = record.chain(top);
        if chain.is_empty() {
            return Err(Error::NoSuchLayer(top));
        }
        if let Some(missing) = chain.iter().find(|l| !l.path.exists()) {
            return Err(Error::LayerFileMissing(missing.path.clone()));
        }
        let id = LayerId::new();
        layers.push(NewLayer {
            device: device.id.clone(),
            below: top,
            overlay: Layer {
                id,
                machine: record.id,
                path: folder.join(format!("disk{}.qcow2", layers.len())),
                format: Format::Qcow2,
                parent: Some(top),
                frozen: false,
                ours: true,
            },
        });
    }
    Ok(layers)
}

/// Does the rehearsal and keeps its report.
pub(crate) async fn rehearse(host: Arc<Host>, plan: Plan, job: JobHandle) -> Result<(), Error> {
    let began = Instant::now();
    let mut report = Rehearsal {
        snapshot: plan.snapshot,
        begun: Timestamp::now(),
        outcome: Outcome::Failed,
        what: String::new(),
        loaded_micros: None,
        running_micros: None,
        sign_micros: None,
        sign: None,
        processor_micros: 0,
        took_micros: 0,
    };
    let mut process = None;
    let outcome = tokio::select! {
        outcome = run(&host, &plan, &job, began, &mut report, &mut process) => outcome,
        () = job.wait_cancelled() => Err(Error::Cancelled),
    };
    throw_away(&plan, process).await;
    report.took_micros = micros(began);
    match &outcome {
        Ok(()) => {}
        Err(Error::Cancelled) => return outcome,
        Err(cause) => report.what = cause.what(),
    }
    host.reports.keep_rehearsal(&host.catalog, report).await;
    outcome
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

async fn run(
    host: &Host,
    plan: &Plan,
    job: &JobHandle,
    began: Instant,
    report: &mut Rehearsal,
    launched: &mut Option<Process>,
) -> Result<(), Error> {
    make_files(host, plan).await?;
    job.percent(10);
    let start = match plan.image {
        Some(_) => Start::Incoming,
        None => Start::Paused,
    };
    // Huge pages are for machines that will be snapshotted.
    let mut spec = launch::spec(&plan.record, host, Backing::Transparent, start)?;
    spec.run_dir = plan.run_dir.clone();
    let process = Process::launch(&host.installation, &spec)
        .await
        .map_err(Error::qemu("Starting QEMU"))?;
    *launched = Some(process.clone());
    host.crash.reach("rehearse.launched");
    job.percent(30);
    let memory = match &plan.image {
        Some(image) => load(host, &process, &plan.record, image).await?,
        None => None,
    };
    if memory.is_none() {
        report.loaded_micros = Some(micros(began));
    }
    job.percent(60);
    let events = process.events();
    let idle = process.cpu_time().unwrap_or_default();
    process
        .cont()
        .await
        .map_err(Error::qemu("Letting the clone run"))?;
    report.running_micros = Some(micros(began));
    host.crash.reach("rehearse.running");
    job.percent(70);
    let name = plan.record.id.to_string();
    let thaw = async {
        if plan.owes_thaw {
            quiesce::until_thawed(&process, &name).await;
        }
        std::future::pending().await
    };
    let watched = async {
        watch(plan, &process, events, idle, began, report).await?;
        if let Some(memory) = &memory {
            let within = tokio::time::timeout(LOAD_PATIENCE, memory.resident()).await;
            let reason = match within {
                Ok(Ok(_)) => None,
                Ok(Err(cause)) => Some(cause.to_string()),
                Err(_) => Some("not all of its memory came in time".into()),
            };
            if let Some(reason) = reason {
                return Err(Error::RehearsalFailed { reason });
            }
            report.loaded_micros = Some(micros(began));
        }
        Ok(())
    };
    let watched = tokio::select! {
        watched = watched => watched,
        unreadable = unreadable(memory.as_ref()) => Err(unreadable),
        never = thaw => never,
    };
    let used = process.cpu_time().unwrap_or_default().saturating_sub(idle);
    report.processor_micros = u64::try_from(used.as_micros()).unwrap_or(u64::MAX);
    watched?;
    (report.outcome, report.what) = match &report.sign {
        Some(sign) => (Outcome::Lived, format!("It ran; the guest {sign}.")),
        None => (
            Outcome::Ran,
            format!(
                "It ran for {} s; the guest neither wrote to a serial port nor used a disk.",
                plan.patience.as_secs()
            ),
        ),
    };
    Ok(())
}

/// The clone's folder with its overlays.
async fn make_files(host: &Host, plan: &Plan) -> Result<(), Error> {
    let (folder, machine) = (plan.folder.clone(), plan.record.id);
    blocking(move || {
        files::make_folder(&folder)?;
        files::write_whole(&folder.join(MACHINE), machine.to_string().as_bytes())
    })
    .await?;
    for (overlay, below, format) in &plan.overlays {
        host.img
            .create_overlay(overlay, below, *format)
            .await
            .map_err(Error::qemu("Making a disk layer"))?;
    }
    Ok(())
}

/// Brings a snapshot's memory into a clone that waits for it: on demand where a restored machine
/// gets it so, and then from what is answered.
async fn load(
    host: &Host,
    process: &Process,
    record: &Record,
    image: &Image,
) -> Result<Option<PageServer>, Error> {
    let opened = images::open(record, image).await?;
    if host.restore_on_demand {
        let backing = Backing::Transparent;
        match PageServer::start(
            process,
            opened.clone(),
            Asked::default(),
            backing,
            LOAD_PATIENCE,
        )
        .await
        {
            Ok(server) => return Ok(Some(server)),
            Err(cause) if cause.lets_load_whole() => {
                tracing::debug!(%cause, "a clone's memory is loaded whole");
            }
            Err(cause @ PostcopyError::Unreadable { .. }) => {
                return Err(Error::RehearsalFailed {
                    reason: cause.to_string(),
                });
            }
            Err(cause) => return Err(Error::qemu("Restoring the saved state")(cause)),
        }
    }
    process
        .load_image(&opened, LOAD_PATIENCE)
        .await
        .map_err(Error::qemu("Restoring the saved state"))?;
    Ok(None)
}

/// Resolves when memory on its way cannot be read.
async fn unreadable(memory: Option<&PageServer>) -> Error {
    let Some(memory) = memory else {
        return std::future::pending().await;
    };
    let mut trouble = memory.trouble();
    let what = trouble.wait_for(Option::is_some).await;
    // The sender lives as long as the server.
    let what = what.ok().and_then(|what| what.clone());
    let what = what.unwrap_or_else(|| "nobody brings it".into());
    Error::RehearsalFailed {
        reason: format!("the guest's memory cannot be read: {what}"),
    }
}

/// Looks at the running clone until the guest has given a sign of life or the time is up.
async fn watch(
    plan: &Plan,
    process: &Process,
    mut events: broadcast::Receiver<Event>,
    idle: Duration,
    began: Instant,
    report: &mut Rehearsal,
) -> Result<(), Error> {
    let failed = |reason: &str| Error::RehearsalFailed {
        reason: reason.to_owned(),
    };
    let deadline = Instant::now() + plan.patience;
    let operations = disk_operations(process).await;
    let mut on_disk = None;
    loop {
        let status = tokio::select! {
            () = process.exited() => return Err(Error::GuestDied { log: process.log_tail() }),
            status = process.status() => status.map_err(Error::qemu("Looking at the clone"))?,
        };
        while let Ok(event) = events.try_recv() {
            match event.name.as_str() {
                "GUEST_PANICKED" => return Err(failed("the guest's kernel panicked")),
                "SHUTDOWN" => return Err(failed("the guest turned itself off")),
                // One that boots may do so; one that was in the middle of something may not.
                "RESET" if plan.image.is_some() => {
                    return Err(failed("the guest reset itself"));
                }
                _ => {}
            }
        }
        match status {
            RunState::Running => {}
            RunState::IoError => return Err(failed("a disk could not be read or written")),
            RunState::InternalError => return Err(failed("QEMU met an internal error")),
            RunState::GuestPanicked => return Err(failed("the guest's kernel panicked")),
            other => return Err(failed(&format!("QEMU shows it as {other:?}"))),
        }
        let printed = plan
            .serial_files
            .iter()
            .position(|file| std::fs::metadata(file).is_ok_and(|found| found.len() > 0));
        if let Some(port) = printed {
            report.sign_micros = Some(micros(began));
            report.sign = Some(format!("wrote to serial port {}", port + 1));
            return Ok(());
        }
        if on_disk.is_none() && disk_operations(process).await > operations {
            on_disk = Some(micros(began));
        }
        if Instant::now() >= deadline {
            // The kernel counts in ticks, so a guest that sleeps may have used none.
            let executed = process.cpu_time().is_some_and(|now| now > idle);
            if !executed && !is_asleep(process).await {
                return Err(failed("its processors execute nothing"));
            }
            report.sign_micros = on_disk;
            report.sign = on_disk.map(|_| "used a disk".into());
            return Ok(());
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Whether every processor of the guest waits for an interrupt, as in an idle guest.
async fn is_asleep(process: &Process) -> bool {
    let arguments = serde_json::json!({"command-line": "info registers -a"});
    let said = process
        .qmp()
        .execute("human-monitor-command", arguments)
        .await
        .ok();
    let text = said.as_ref().and_then(|said| said.as_str());
    let halted: Vec<_> = text
        .unwrap_or_default()
        .split("HLT=")
        .skip(1)
        .map(|rest| rest.starts_with('1'))
        .collect();
    !halted.is_empty() && halted.iter().all(|asleep| *asleep)
}

/// Reads and writes that the guest has done.
async fn disk_operations(process: &Process) -> u64 {
    let reply = process
        .qmp()
        .execute("query-blockstats", serde_json::json!({}))
        .await;
    let devices = reply.ok();
    let devices = devices.as_ref().and_then(|reply| reply.as_array());
    let count = |device: &serde_json::Value, key: &str| {
        let value = device.get("stats").and_then(|stats| stats.get(key));
        value.and_then(serde_json::Value::as_u64).unwrap_or(0)
    };
    let of = |d| count(d, "rd_operations").saturating_add(count(d, "wr_operations"));
    devices
        .into_iter()
        .flatten()
        .map(of)
        .fold(0, u64::saturating_add)
}

/// Ends the clone and deletes everything of it.
async fn throw_away(plan: &Plan, process: Option<Process>) {
    if let Some(process) = process
        && let Err(cause) = process.kill().await
    {
        tracing::error!(%cause, "a rehearsal's clone could not be ended");
    }
    // What a start that was broken off has left.
    end_leftover(&plan.run_dir, Some(plan.record.id)).await;
    delete(plan.run_dir.clone()).await;
    delete(plan.folder.clone()).await;
}

async fn end_leftover(run_dir: &Path, machine: Option<MachineId>) {
    if !run_dir.exists() {
        return;
    }
    // A clone whose launch was broken off has no pid file, but answers.
    if let Some(machine) = machine
        && let Ok(process) = Process::reconnect(run_dir, machine.0).await
        && let Err(cause) = process.kill().await
    {
        tracing::error!(%cause, "a rehearsal's clone could not be ended");
    }
    if let Err(cause) = Process::kill_leftover(run_dir).await {
        tracing::error!(%cause, "a rehearsal's clone could not be ended");
    }
}

async fn delete(folder: PathBuf) {
    let deleted = blocking(move || match std::fs::remove_dir_all(&folder) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("Deleting", &folder)(cause))
        }
        _ => Ok(()),
    });
    if let Err(cause) = deleted.await {
        tracing::error!(%cause, "files of a rehearsal could not be deleted");
    }
}

/// Ends the clones that an earlier service left, and deletes what they left.
pub(crate) async fn sweep(host: &Host) {
    let folders = host.data_dir.join(FOLDER);
    for run_dir in entries(&host.run_root) {
        let name = run_dir.file_name().and_then(|n| n.to_str());
        let Some(name) = name.filter(|n| n.starts_with(PREFIX)) else {
            continue;
        };
        tracing::warn!(%name, "ending a rehearsal that an earlier service began");
        let machine = std::fs::read_to_string(folders.join(name).join(MACHINE));
        let machine = machine.ok().and_then(|text| text.trim().parse().ok());
        end_leftover(&run_dir, machine).await;
        delete(run_dir).await;
    }
    for folder in entries(&folders) {
        delete(folder).await;
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
