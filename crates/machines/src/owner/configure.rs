//! Requests that are done before they are answered: names, settings, devices.

use super::launch::{drive_name, iso_layer};
use super::record::Record;
use super::work::{Work, blocking};
use crate::catalog::Layer;
use crate::error::Error;
use crate::ids::{DeviceId, LayerId, SnapshotId};
use crate::model::{Device, DeviceKind, Settings, Snapshot, State};
use crate::request::{GlobalChange, NewDevice, ResourceChange, SettingsChange};
use crate::settings::devices::{self, Medium, check_plug, image_path};
use crate::settings::{change, limits};
use std::path::PathBuf;
use std::sync::Arc;

/// Files taken for a request; given back if it comes to nothing.
struct Found {
    medium: Medium,
    layer: Option<Layer>,
}

/// Changes the global settings, and the name that goes with them.
pub(crate) async fn global(work: &mut Work, change: &GlobalChange) -> Result<(), Error> {
    let mut new = work.record.clone();
    new.body.global = change::global(&new.body.global, change, false)?;
    check_roots(&new.body.global).await?;
    if let Some(name) = &change.name {
        limits::check_name(name)?;
        new.set_settings(|settings| settings.name = name.clone());
    }
    work.commit(new, Vec::new()).await
}

/// The roots must be folders that are there.
pub(crate) async fn check_roots(global: &crate::model::GlobalSettings) -> Result<(), Error> {
    let roots: Vec<PathBuf> = [&global.external_data_root, &global.snapshot_data_root]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    blocking(
        move || match roots.into_iter().find(|root| !root.is_dir()) {
            Some(root) => Err(Error::NotADirectory(root)),
            None => Ok(()),
        },
    )
    .await
}

/// Changes the active configuration.
pub(crate) async fn settings(work: &mut Work, change: &SettingsChange) -> Result<(), Error> {
    let state = State::from(work.record.body.state);
    let mut new = work.record.clone();
    new.settings = Arc::new(change::settings(&new.settings, change, state)?);
    work.commit(new, Vec::new()).await
}

/// Changes the active configuration and what is outside of it, or neither.
pub(crate) async fn system(
    work: &mut Work,
    settings: &SettingsChange,
    global: &GlobalChange,
) -> Result<(), Error> {
    let state = State::from(work.record.body.state);
    let mut new = work.record.clone();
    new.body.global = change::global(&new.body.global, global, false)?;
    check_roots(&new.body.global).await?;
    new.settings = Arc::new(change::settings(&new.settings, settings, state)?);
    work.commit(new, Vec::new()).await
}

/// Changes name and notes of a snapshot.
pub(crate) async fn snapshot(
    work: &mut Work,
    id: SnapshotId,
    change: &SettingsChange,
) -> Result<(), Error> {
    let mut new = work.record.clone();
    let row = new
        .snapshots
        .iter_mut()
        .find(|row| row.snapshot.id == id)
        .ok_or(Error::NoSuchSnapshot(id))?;
    let settings = change::snapshot(&row.snapshot.settings, change)?;
    row.snapshot = Arc::new(Snapshot {
        settings: Arc::new(settings),
        ..row.snapshot.as_ref().clone()
    });
    work.commit(new, Vec::new()).await?;
    super::snapshot_remove::rewrite_manifests(work).await
}

/// Adds devices, all or none; answers their ids in the order given.
pub(crate) async fn add(work: &mut Work, new: &[NewDevice]) -> Result<Vec<DeviceId>, Error> {
    let mut found = Vec::new();
    let added = match find_all(work, new, &mut found).await {
        Ok(()) => add_found(work, new, &found).await,
        Err(cause) => Err(cause),
    };
    give_back(work, found.iter().filter_map(|f| f.as_ref()));
    added
}

async fn find_all(
    work: &Work,
    new: &[NewDevice],
    found: &mut Vec<Option<Found>>,
) -> Result<(), Error> {
    for device in new {
        check_plug(device.kind, work.record.body.state.into())?;
        found.push(find(work, device.kind, &device.connection).await?);
    }
    Ok(())
}

async fn add_found(
    work: &mut Work,
    new: &[NewDevice],
    found: &[Option<Found>],
) -> Result<Vec<DeviceId>, Error> {
    let mut record = work.record.clone();
    let mut settings = record.settings.as_ref().clone();
    let mut ids = Vec::new();
    for (device, found) in new.iter().zip(found) {
        let medium = found.as_ref().map(|f| f.medium.clone());
        ids.push(devices::add(&mut settings, device, medium)?);
    }
    for found in found.iter().flatten() {
        attach(&mut record, found);
    }
    let old = work.record.settings.clone();
    record.settings = Arc::new(settings);
    check_apart(work, &record)?;
    change_media(work, &old, &record.settings).await?;
    work.commit(record, Vec::new()).await?;
    Ok(ids)
}

/// Changes resources, all or none.
pub(crate) async fn resources(work: &mut Work, changes: &[ResourceChange]) -> Result<(), Error> {
    let mut found = Vec::new();
    let changed = match find_changed(work, changes, &mut found).await {
        Ok(()) => change_found(work, changes, &found).await,
        Err(cause) => Err(cause),
    };
    give_back(work, found.iter().map(|(_, f)| f));
    changed
}

async fn find_changed(
    work: &Work,
    changes: &[ResourceChange],
    found: &mut Vec<(DeviceId, Found)>,
) -> Result<(), Error> {
    for change in changes {
        let ResourceChange::Device {
            id,
            connection: Some(connection),
            ..
        } = change
        else {
            continue;
        };
        let now = devices::find(&work.record.settings, id)?;
        if *connection == now.connection {
            continue;
        }
        check_plug_of_image(now, work.record.body.state.into())?;
        if let Some(there) = find(work, now.kind, connection).await? {
            found.push((id.clone(), there));
        }
    }
    Ok(())
}

fn check_plug_of_image(device: &Device, state: State) -> Result<(), Error> {
    match device.kind {
        DeviceKind::HardDiskImage | DeviceKind::IsoImage => check_plug(device.kind, state),
        _ => Ok(()),
    }
}

async fn change_found(
    work: &mut Work,
    changes: &[ResourceChange],
    found: &[(DeviceId, Found)],
) -> Result<(), Error> {
    let state = work.record.body.state.into();
    let mut record = work.record.clone();
    let old = record.settings.clone();
    let settings = change::resources(&old, changes, state, work.host.limits, |id| {
        let there = found.iter().find(|(other, _)| other == id);
        there.map(|(_, f)| f.medium.clone())
    })?;
    record.settings = Arc::new(settings);
    for (id, found) in found {
        if let Ok(device) = devices::find(&old, id) {
            detach(&mut record, device);
        }
        attach(&mut record, found);
    }
    check_apart(work, &record)?;
    change_media(work, &old, &record.settings).await?;
    work.commit(record, Vec::new()).await
}

/// Removes devices, all or none.
pub(crate) async fn remove(work: &mut Work, ids: &[DeviceId]) -> Result<(), Error> {
    let state = work.record.body.state.into();
    let mut record = work.record.clone();
    let old = record.settings.clone();
    let mut settings = old.as_ref().clone();
    let gone = devices::remove(&mut settings, ids)?;
    for device in &gone {
        check_plug(device.kind, state)?;
        detach(&mut record, device);
    }
    record.settings = Arc::new(settings);
    change_media(work, &old, &record.settings).await?;
    work.commit(record, Vec::new()).await
}

/// Gives a machine that is not in the catalog yet its settings and devices, all at once.
pub(crate) async fn define(
    work: &mut Work,
    change: &SettingsChange,
    changes: &[ResourceChange],
    new: &[NewDevice],
) -> Result<(), Error> {
    check_roots(&work.record.body.global).await?;
    let settings = change::settings(&work.record.settings, change, State::Off)?;
    let settings = change::resources(&settings, changes, State::Off, work.host.limits, |_| None)?;
    work.record.settings = Arc::new(settings);
    let mut found = Vec::new();
    let defined = match find_all(work, new, &mut found).await {
        Ok(()) => add_found(work, new, &found).await.map(|_| ()),
        Err(cause) => Err(cause),
    };
    give_back(work, found.iter().filter_map(|f| f.as_ref()));
    defined
}

/// Looks at the file that an image device names, and takes it for the machine.
async fn find(
    work: &Work,
    kind: DeviceKind,
    connection: &[String],
) -> Result<Option<Found>, Error> {
    if !matches!(kind, DeviceKind::HardDiskImage | DeviceKind::IsoImage) {
        return Ok(None);
    }
    let given = image_path(kind, connection)?;
    let asked = given.clone();
    let path = blocking(move || real_file(asked)).await?;
    let given = given.to_string_lossy().into_owned();
    let machine = work.record.id;
    let in_use = |by| in_use(work, &path, by);
    if kind == DeviceKind::IsoImage {
        if let Some(by) = work.host.disks.owner(&path) {
            return Err(in_use(by));
        }
        let medium = Medium { given, layer: None };
        return Ok(Some(Found {
            medium,
            layer: None,
        }));
    }
    let detached = work.record.body.detached.iter();
    let known = detached
        .filter_map(|id| work.record.layers.get(id))
        .find(|layer| layer.path == path);
    if let Some(layer) = known {
        let medium = Medium {
            given,
            layer: Some(layer.id),
        };
        return Ok(Some(Found {
            medium,
            layer: Some(layer.clone()),
        }));
    }
    work.host.disks.take(&path, machine).map_err(in_use)?;
    let looked = look(work, &path).await;
    let format = match looked {
        Ok(format) => format,
        Err(cause) => {
            work.host
                .disks
                .replace(machine, std::iter::once(&path), std::iter::empty());
            return Err(cause);
        }
    };
    let layer = Layer {
        id: LayerId::new(),
        machine,
        path,
        format,
        parent: None,
        frozen: false,
        ours: false,
    };
    Ok(Some(Found {
        medium: Medium {
            given,
            layer: Some(layer.id),
        },
        layer: Some(layer),
    }))
}

/// Decides a disk's format, once, and that QEMU can read it.
async fn look(work: &Work, path: &std::path::Path) -> Result<qemu::spec::Format, Error> {
    let unreadable = |cause: qemu::img::ImgError| Error::UnreadableImage {
        path: path.to_owned(),
        reason: cause.to_string(),
    };
    let format = work
        .host
        .img
        .detect_format(path)
        .await
        .map_err(unreadable)?;
    let info = work.host.img.info(path, format).await.map_err(unreadable)?;
    if info.corrupt {
        return Err(Error::UnreadableImage {
            path: path.to_owned(),
            reason: "it is marked as damaged".into(),
        });
    }
    if let Some(below) = info.backing {
        // The guest would see nothing where the data is in the file below.
        return Err(Error::UnreadableImage {
            path: path.to_owned(),
            reason: format!(
                "it stands on another image, {}; merge the two first",
                below.path.display()
            ),
        });
    }
    Ok(format)
}

fn in_use(work: &Work, path: &std::path::Path, by: crate::ids::MachineId) -> Error {
    let machine = work.host.directory.machine(by);
    Error::DiskInUse {
        path: path.to_owned(),
        machine: by,
        name: machine.map_or_else(|| by.to_string(), |m| m.settings.name.clone()),
    }
}

/// No two disks stand on one file, however they came to it (a detached layer named twice, or two
/// that lie on the same one).
fn check_apart(work: &Work, record: &Record) -> Result<(), Error> {
    match record.shared_layer() {
        Some(layer) => Err(in_use(work, &layer.path, record.id)),
        None => Ok(()),
    }
}

fn real_file(path: PathBuf) -> Result<PathBuf, Error> {
    let real = match std::fs::canonicalize(&path) {
        Ok(real) => real,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::FileNotFound(path));
        }
        Err(e) => return Err(Error::io("Opening", path)(e)),
    };
    if real.to_str().is_none() {
        return Err(Error::UnreadableImage {
            path: real,
            reason: "its real path is not UTF-8".into(),
        });
    }
    match std::fs::metadata(&real) {
        Ok(metadata) if metadata.is_file() => Ok(real),
        Ok(_) => Err(Error::NotAFile(path)),
        Err(e) => Err(Error::io("Opening", path)(e)),
    }
}

fn attach(record: &mut Record, found: &Found) {
    if let Some(layer) = &found.layer {
        record.body.detached.retain(|id| *id != layer.id);
        record.layers.insert(layer.id, layer.clone());
    }
}

/// A disk leaves the machine. A layer of ours holds the only copy of what was written to it, and
/// is kept until the machine goes.
fn detach(record: &mut Record, device: &Device) {
    let Some(id) = device.layer else {
        return;
    };
    match record.layers.get(&id) {
        Some(layer) if layer.ours => record.body.detached.push(id),
        Some(_) => {
            record.layers.remove(&id);
        }
        None => {}
    }
}

/// Files that the record does not have go back to whoever wants them.
fn give_back<'a>(work: &Work, found: impl Iterator<Item = &'a Found>) {
    let taken: Vec<_> = found
        .filter_map(|f| f.layer.as_ref())
        .map(|l| l.path.clone())
        .collect();
    work.host.disks.replace(
        work.record.id,
        taken.iter(),
        work.record.layers.values().map(|l| &l.path),
    );
}

/// Changes what lies in the DVD drives of a running machine.
async fn change_media(work: &Work, old: &Settings, new: &Settings) -> Result<(), Error> {
    if work.guest.is_none() {
        return Ok(());
    }
    let image_in = |settings: &Settings, drive: &DeviceId| {
        let mut devices = settings.devices.iter();
        let image = devices.find(|d| d.parent.as_ref() == Some(drive));
        image.and_then(|d| d.connection.first()).cloned()
    };
    let drives = new
        .devices
        .iter()
        .filter(|d| d.kind == DeviceKind::DvdDrive);
    for drive in drives {
        let (before, after) = (image_in(old, &drive.id), image_in(new, &drive.id));
        if before == after {
            continue;
        }
        let process = work.process()?;
        let name = drive_name(new, &drive.id)?;
        if before.is_some() {
            process
                .eject(&name)
                .await
                .map_err(Error::qemu("Ejecting the medium"))?;
        }
        if let Some(path) = after {
            let layer = iso_layer(&name, path.into())?;
            process
                .insert(&name, &layer)
                .await
                .map_err(Error::qemu("Inserting the medium"))?;
        }
    }
    Ok(())
}
