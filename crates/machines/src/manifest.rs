//! A snapshot's manifest: a small file beside its memory image that can be read alone and holds
//! what is needed to rebuild the snapshot's rows. It is written last: no manifest, no snapshot.
//!
//! Two lines: a header in JSON (format, version, length and checksum of the rest), then the body in
//! JSON. The header can be read without understanding the body. Hashes of the layers that it names
//! are beside it (`integrity::sums`); it can do without them.

use crate::catalog::{Image, Layer, SnapshotBody, SnapshotRow};
use crate::error::Error;
use crate::files;
use crate::ids::{MachineId, SnapshotId};
use crate::model::{GlobalSettings, Settings, Timestamp};
use crate::owner::record::{Record, layers_of};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// The name of the format.
const FORMAT: &str = "rootvirt-snapshot";
/// The version that is written, and the newest that is read.
const VERSION: u32 = 1;
/// The largest manifest that is read.
const LARGEST: u64 = 16 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
    bytes: u64,
    checksum: String,
}

/// The body of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub id: SnapshotId,
    pub machine: MachineId,
    pub machine_name: String,
    pub global: GlobalSettings,
    pub parent: Option<SnapshotId>,
    pub taken: Timestamp,
    pub body: SnapshotBody,
    pub settings: Settings,
    /// Every layer that the snapshot's disks stand on.
    pub layers: Vec<Layer>,
    pub image: Option<Image>,
    /// The images that it stands on, the nearest first.
    #[serde(default)]
    pub images_below: Vec<Image>,
}

impl Manifest {
    /// What the record says about a snapshot.
    pub fn of(record: &Record, row: &SnapshotRow) -> Manifest {
        let snapshot = &row.snapshot;
        let mut images = row
            .image
            .map(|id| record.image_chain(id))
            .into_iter()
            .flatten();
        let image = images.next().cloned();
        let mut layers = BTreeMap::new();
        for top in layers_of(&snapshot.settings) {
            for layer in record.chain(top) {
                let mut layer = layer.clone();
                layer.frozen = true;
                layers.insert(layer.id, layer);
            }
        }
        Manifest {
            id: snapshot.id,
            machine: snapshot.machine,
            machine_name: record.settings.name.clone(),
            global: record.body.global.clone(),
            parent: snapshot.parent,
            taken: snapshot.taken,
            body: SnapshotBody::of(snapshot),
            settings: snapshot.settings.as_ref().clone(),
            layers: layers.into_values().collect(),
            image,
            images_below: images.cloned().collect(),
        }
    }

    /// The snapshot's row, its manifest lying in `dir`.
    pub fn row(&self, dir: &Path) -> SnapshotRow {
        let snapshot = self.body.clone().into_snapshot(
            self.id,
            self.machine,
            self.parent,
            self.taken,
            Arc::new(self.settings.clone()),
        );
        SnapshotRow {
            snapshot: Arc::new(snapshot),
            image: self.image.as_ref().map(|i| i.id),
            dir: dir.to_owned(),
        }
    }

    /// Writes the manifest durably into `dir`.
    pub fn write(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(files::MANIFEST);
        let broken = |cause: serde_json::Error| Error::DamagedManifest {
            path: path.clone(),
            reason: cause.to_string(),
        };
        let body = serde_json::to_vec_pretty(self).map_err(broken)?;
        let header = Header {
            format: FORMAT.into(),
            version: VERSION,
            bytes: body.len() as u64,
            checksum: format!("{:032x}", xxh3_128(&body)),
        };
        let mut whole = serde_json::to_vec(&header).map_err(broken)?;
        whole.push(b'\n');
        whole.extend(body);
        files::make_folder(dir)?;
        files::write_whole(&path, &whole)
    }

    /// Reads and checks the manifest in `dir`.
    pub fn read(dir: &Path) -> Result<Manifest, Error> {
        let path = dir.join(files::MANIFEST);
        let damaged = |reason: String| Error::DamagedManifest {
            path: path.clone(),
            reason,
        };
        let mut whole = Vec::new();
        std::fs::File::open(&path)
            .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut whole))
            .map_err(Error::io("Reading", &path))?;
        if whole.len() as u64 > LARGEST {
            return Err(damaged("it is too large".into()));
        }
        let mut lines = whole.splitn(2, |b| *b == b'\n');
        let (Some(header), Some(body)) = (lines.next(), lines.next()) else {
            return Err(damaged("it has no header".into()));
        };
        let text = header;
        let header: Header =
            serde_json::from_slice(text).map_err(|e| damaged(format!("its header: {e}")))?;
        // A checksum covers the body; of the header, every byte is as we would write it.
        if serde_json::to_vec(&header).is_ok_and(|own| own != text) {
            return Err(damaged("its header was changed".into()));
        }
        if header.format != FORMAT {
            return Err(damaged("it is of another format".into()));
        }
        if header.version == 0 || header.version > VERSION {
            return Err(damaged(format!("it has version {}", header.version)));
        }
        if header.bytes != body.len() as u64
            || header.checksum != format!("{:032x}", xxh3_128(body))
        {
            return Err(damaged("its length or checksum is wrong".into()));
        }
        serde_json::from_slice(body).map_err(|e| damaged(e.to_string()))
    }
}
