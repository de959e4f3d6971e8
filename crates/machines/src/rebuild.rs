//! A lost catalog, made again from the manifests of the snapshots.

use crate::catalog::{Catalog, Change, DurableState, FILE_NAME, Layer, MachineBody};
use crate::error::Error;
use crate::files::{LAYER, MANIFEST, Places};
use crate::ids::{LayerId, MachineId};
use crate::manifest::Manifest;
use crate::model::{Health, Settings, Timestamp};
use crate::owner::record::{Record, layers_of};
use crate::owner::snapshot_create::point;
use crate::owner::work::blocking;
use qemu::img::Img;
use qemu::process::ProcessError;
use qemu::spec::Format;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Refuses to go on as if a data directory that has lost its catalog were new.
pub(crate) fn refuse_lost(data_dir: &Path) -> Result<(), Error> {
    if data_dir.join(FILE_NAME).exists() || manifests_in(data_dir).is_empty() {
        return Ok(());
    }
    Err(Error::CatalogLost(data_dir.to_owned()))
}

/// Writes a new catalog.
pub(crate) async fn rebuild(data_dir: &Path) -> Result<(), Error> {
    if data_dir.join(FILE_NAME).exists() {
        return Err(Error::CatalogThere(data_dir.to_owned()));
    }
    let installation = qemu::Installation::find().await?;
    let img = Img::new(&installation);
    let folder = data_dir.to_owned();
    let found = blocking(move || Ok(read_all(&folder))).await?;
    let mut changes = Vec::new();
    for (id, manifests) in found {
        let mut record = record_of(id, &manifests);
        let places = Places::of(data_dir, id, &record.body.global);
        find_active_layers(&mut record, &places, &img).await;
        let run_dir = crate::host::run_root(data_dir)?.join(id.to_string());
        record.body.state = match qemu::Process::reconnect(&run_dir, id.0).await {
            Err(ProcessError::NotRunning) => DurableState::Off,
            // Whatever its disks are now: opening finds out. It must not be taken for a leftover.
            _ => DurableState::Running,
        };
        changes.push(Change::PutMachine(Box::new(record.row())));
        changes.extend(record.layers.values().cloned().map(Change::PutLayer));
        changes.extend(record.images.values().cloned().map(Change::PutImage));
        changes.extend(record.snapshots.iter().cloned().map(Change::PutSnapshot));
    }
    let catalog = Catalog::open(data_dir).await?;
    Ok(catalog.commit(changes).await?)
}

/// The folders that hold a manifest.
fn manifests_in(data_dir: &Path) -> Vec<PathBuf> {
    let machines = folders_in(&data_dir.join("machines"));
    let snapshots = machines
        .iter()
        .flat_map(|m| folders_in(&m.join("snapshots")));
    snapshots.filter(|s| s.join(MANIFEST).is_file()).collect()
}

fn folders_in(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|e| e.path()).filter(|p| p.is_dir()).collect()
}

/// All manifests that can be read, by machine, oldest snapshot first.
fn read_all(data_dir: &Path) -> BTreeMap<MachineId, Vec<(PathBuf, Manifest)>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for dir in manifests_in(data_dir) {
        match Manifest::read(&dir) {
            Ok(manifest) => found
                .entry(manifest.machine)
                .or_default()
                .push((dir, manifest)),
            Err(cause) => tracing::error!(%cause, "a snapshot cannot be rebuilt"),
        }
    }
    for manifests in found.values_mut() {
        manifests.sort_by_key(|(_, manifest)| (manifest.taken, manifest.id));
    }
    found
}

fn record_of(id: MachineId, manifests: &[(PathBuf, Manifest)]) -> Record {
    let mut record = Record {
        id,
        body: MachineBody {
            state: DurableState::Off,
            created: Timestamp::now(),
            state_changed: Timestamp::now(),
            started: None,
            global: crate::settings::defaults::global(),
            parent: None,
            last_applied: None,
            saved_image: None,
            serving: None,
            restored: None,
            owes_thaw: false,
            health: Health::Ok,
            process: None,
            detached: Vec::new(),
        },
        settings: Arc::new(crate::settings::defaults::settings(
            id,
            "",
            Timestamp::now(),
        )),
        snapshots: Vec::new(),
        layers: BTreeMap::new(),
        images: BTreeMap::new(),
    };
    for (dir, manifest) in manifests {
        for layer in &manifest.layers {
            record.layers.insert(layer.id, layer.clone());
        }
        for image in manifest.image.iter().chain(&manifest.images_below) {
            record.images.insert(image.id, image.clone());
        }
        record.snapshots.push(manifest.row(dir));
        record.body.parent = Some(manifest.id);
        record.body.global = manifest.global.clone();
        record.settings = Arc::new(Settings {
            name: manifest.machine_name.clone(),
            notes: String::new(),
            ..manifest.settings.clone()
        });
    }
    record
}

/// The newest file that lies on a disk of the newest snapshot is what the machine wrote to last. A
/// disk without one has no medium: the snapshot can be applied, which makes a new layer.
async fn find_active_layers(record: &mut Record, places: &Places, img: &Img) {
    let tops: Vec<LayerId> = layers_of(&record.settings).collect();
    let mut candidates = Vec::new();
    for path in avhd_files(&places.disks()) {
        let Some(id) = layer_id(&path) else { continue };
        if record.layers.contains_key(&id) {
            continue;
        }
        if let Ok(info) = img.info(&path, Format::Qcow2).await {
            let written = std::fs::metadata(&path).and_then(|m| m.modified()).ok();
            candidates.push((written, id, path, info.backing.map(|b| b.path)));
        }
    }
    candidates.sort();
    let mut settings = record.settings.as_ref().clone();
    for top in tops {
        let Some(below) = record.layers.get(&top).cloned() else {
            continue;
        };
        let device = settings.devices.iter().find(|d| d.layer == Some(top));
        let Some(device) = device.map(|d| d.id.clone()) else {
            continue;
        };
        let newest = candidates
            .iter()
            .rev()
            .find(|(_, _, _, backing)| backing.as_ref() == Some(&below.path));
        match newest {
            Some((_, id, path, _)) => {
                let layer = Layer {
                    id: *id,
                    machine: record.id,
                    path: path.clone(),
                    format: Format::Qcow2,
                    parent: Some(below.id),
                    frozen: false,
                    ours: true,
                };
                point(&mut settings, &device, &layer);
                record.layers.insert(layer.id, layer);
            }
            None => settings.devices.retain(|d| d.id != device),
        }
    }
    record.settings = Arc::new(settings);
}

fn avhd_files(disks: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(disks).into_iter().flatten().flatten();
    entries
        .map(|e| e.path())
        .filter(|p| layer_id(p).is_some())
        .collect()
}

fn layer_id(path: &Path) -> Option<LayerId> {
    let name = path.file_name()?.to_str()?.strip_suffix(LAYER)?;
    name.rsplit_once('_')?.1.parse().ok()
}
