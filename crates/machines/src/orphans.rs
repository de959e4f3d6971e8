//! Files of ours that no row refers to: what a crash left between making a file and recording it,
//! or between forgetting it and deleting it.
//!
//! Only files that carry our own names are deleted, and only of machines that the catalog knows: a
//! folder of an unknown machine may be all that is left after the catalog was lost.

use crate::files::{self, FLAT, LAYER, MANIFEST, MEMORY, TEMPORARY};
use crate::host::Host;
use crate::ids::{ImageId, LayerId, SnapshotId};
use crate::integrity::sums;
use crate::owner::record::Record;
use crate::owner::work::{Work, blocking};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Deletes the orphans of all machines.
pub(crate) async fn sweep(host: &Arc<Host>, all: &[Work]) {
    for work in all {
        let (record, places) = (work.record.clone(), work.places());
        let swept = blocking(move || {
            for path in orphans_of(&record, &places) {
                tracing::warn!(path = %path.display(), "deleting a file that nothing refers to");
                files::delete(&path)?;
            }
            for path in stray_sums(&record, &places) {
                files::delete(&path)?;
            }
            for folder in empty_snapshot_folders(&record, places.snapshots()) {
                files::delete_empty_folder(&folder);
            }
            Ok(())
        })
        .await;
        if let Err(cause) = swept {
            tracing::error!(%cause, "orphans could not be deleted");
        }
    }
    let known: HashSet<String> = all.iter().map(|w| w.record.id.to_string()).collect();
    for name in names_in(&host.data_dir.join("machines")) {
        if !known.contains(&name) {
            tracing::warn!(%name, "a folder belongs to no machine of the catalog; left alone");
        }
    }
}

/// Files with our names that the record does not refer to.
pub(crate) fn orphans_of(record: &Record, places: &files::Places) -> Vec<PathBuf> {
    let known: HashSet<&Path> = record
        .layers
        .values()
        .map(|l| l.path.as_path())
        .chain(record.images.values().map(|i| i.path.as_path()))
        .collect();
    let mut orphans = Vec::new();
    for (folder, ours) in [
        (places.disks(), is_layer as fn(&str) -> bool),
        (places.saved(), is_saved_image),
    ] {
        let paths = names_in(&folder)
            .into_iter()
            .filter(|n| ours(n))
            .map(|n| folder.join(n));
        orphans.extend(paths.filter(|p| !known.contains(p.as_path())));
    }
    for name in names_in(places.snapshots()) {
        let Ok(id) = name.parse::<SnapshotId>() else {
            continue;
        };
        let folder = places.snapshots().join(&name);
        let temporary = [MEMORY, MANIFEST].map(|n| folder.join(format!("{n}{TEMPORARY}")));
        let flat = [folder.join(format!("{MEMORY}{FLAT}"))];
        orphans.extend(flat.into_iter().filter(|p| p.exists()));
        orphans.extend(temporary.into_iter().filter(|p| p.exists()));
        let memory = folder.join(MEMORY);
        // A manifest without a row says that rows were lost: leave it and its image.
        let complete = folder.join(MANIFEST).exists();
        let orphan = record.snapshot(id).is_none() && !complete;
        if orphan && memory.exists() && !known.contains(memory.as_path()) {
            orphans.push(memory);
        }
    }
    orphans
}

/// Files of hashes whose layer is gone, or not frozen any more. Only at start: the keeper of hashes
/// makes and deletes them by itself.
fn stray_sums(record: &Record, places: &files::Places) -> Vec<PathBuf> {
    let folder = places.snapshots().join(sums::FOLDER);
    let stray = |name: &String| {
        let id = name.strip_suffix(sums::SUFFIX).map(str::parse::<LayerId>);
        match id {
            Some(Ok(id)) => record.layers.get(&id).is_none_or(|l| !l.frozen),
            _ => name.ends_with(&format!("{}{TEMPORARY}", sums::SUFFIX)),
        }
    };
    let names = names_in(&folder).into_iter().filter(stray);
    names.map(|name| folder.join(name)).collect()
}

fn empty_snapshot_folders(record: &Record, snapshots: &Path) -> Vec<PathBuf> {
    let ids = names_in(snapshots).into_iter();
    ids.filter(|name| {
        name.parse::<SnapshotId>()
            .is_ok_and(|id| record.snapshot(id).is_none())
    })
    .map(|name| snapshots.join(name))
    .collect()
}

fn is_layer(name: &str) -> bool {
    let name = name.strip_suffix(TEMPORARY).unwrap_or(name);
    let id = name.strip_suffix(LAYER).and_then(|n| n.rsplit_once('_'));
    id.is_some_and(|(_, id)| id.parse::<LayerId>().is_ok())
}

fn is_saved_image(name: &str) -> bool {
    let name = name.strip_suffix(TEMPORARY).unwrap_or(name);
    let name = name.strip_suffix(FLAT).unwrap_or(name);
    name.strip_suffix(".img")
        .is_some_and(|id| id.parse::<ImageId>().is_ok())
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|e| e.file_name().into_string().ok())
        .collect()
}
