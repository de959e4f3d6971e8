//! The durable truth about one machine, and the questions that its rows answer: which layers are
//! needed, which files nothing refers to, what differs from what is stored.

use crate::catalog::{Change, DurableState, Image, Layer, MachineBody, MachineRow, SnapshotRow};
use crate::ids::{ImageId, LayerId, MachineId, SnapshotId};
use crate::model::{Activity, Machine, Settings, State};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Everything the catalog knows about one machine.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub id: MachineId,
    pub body: MachineBody,
    pub settings: Arc<Settings>,
    /// Oldest first.
    pub snapshots: Vec<SnapshotRow>,
    pub layers: BTreeMap<LayerId, Layer>,
    pub images: BTreeMap<ImageId, Image>,
}

/// What readers see beyond the record while something is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    pub state: Option<State>,
    pub requested: Option<State>,
    pub activity: Option<Activity>,
}

/// Files that nothing refers to any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Garbage {
    pub layers: Vec<PathBuf>,
    pub images: Vec<PathBuf>,
}

impl From<DurableState> for State {
    fn from(state: DurableState) -> State {
        match state {
            DurableState::Off => State::Off,
            DurableState::Running => State::Running,
            DurableState::Paused => State::Paused,
            DurableState::Saved => State::Saved,
        }
    }
}

impl Record {
    /// The copy that readers get.
    pub fn publish(&self, shown: Shown) -> Machine {
        let body = &self.body;
        Machine {
            id: self.id,
            state: shown.state.unwrap_or(body.state.into()),
            requested: shown.requested,
            activity: shown.activity,
            health: body.health.clone(),
            created: body.created,
            state_changed: body.state_changed,
            started: body.started,
            global: body.global.clone(),
            settings: self.settings.clone(),
            parent: body.parent,
            last_applied: body.last_applied,
            snapshots: self.snapshots.iter().map(|s| s.snapshot.clone()).collect(),
            process: body.process.clone(),
            restored: body.restored.clone(),
        }
    }

    pub fn row(&self) -> MachineRow {
        MachineRow {
            id: self.id,
            body: self.body.clone(),
            settings: self.settings.clone(),
        }
    }

    pub fn snapshot(&self, id: SnapshotId) -> Option<&SnapshotRow> {
        self.snapshots.iter().find(|s| s.snapshot.id == id)
    }

    /// The layers of a disk, the oldest first. Stops at a layer that is not recorded, and cannot
    /// run in circles.
    pub fn chain(&self, top: LayerId) -> Vec<&Layer> {
        let mut chain = Vec::new();
        let mut next = Some(top);
        while let Some(layer) = next.and_then(|id| self.layers.get(&id)) {
            if chain.len() > self.layers.len() {
                break;
            }
            chain.push(layer);
            next = layer.parent;
        }
        chain.reverse();
        chain
    }

    /// Whether a drive of the process stands on exactly the layers of a disk.
    pub fn is_open_in(&self, devices: &[qemu::blocks::BlockDevice], top: LayerId) -> bool {
        let known: Vec<_> = self.chain(top).iter().map(|l| &l.path).collect();
        let mut open = devices.iter().map(|d| d.layers.iter().map(|l| &l.path));
        open.any(|paths| paths.eq(known.iter().copied()))
    }

    /// A layer that two disks of the active settings stand on: one of them would change what the
    /// other shows.
    pub fn shared_layer(&self) -> Option<&Layer> {
        let mut seen = BTreeSet::new();
        let mut chains = layers_of(&self.settings).flat_map(|top| self.chain(top));
        chains.find(|layer| !seen.insert(layer.id))
    }

    /// Layers that the active settings write to.
    pub fn active_layers(&self) -> BTreeSet<LayerId> {
        layers_of(&self.settings).collect()
    }

    /// Layers that a snapshot refers to by itself (not only through a newer layer).
    pub fn snapshot_layers(&self) -> BTreeSet<LayerId> {
        self.snapshots
            .iter()
            .flat_map(|s| layers_of(&s.snapshot.settings))
            .collect()
    }

    /// Every layer that the active settings, a snapshot or a detached disk stands on.
    fn needed_layers(&self) -> BTreeSet<LayerId> {
        let mut needed = BTreeSet::new();
        let roots = self
            .active_layers()
            .into_iter()
            .chain(self.snapshot_layers())
            .chain(self.body.detached.iter().copied());
        for root in roots {
            needed.extend(self.chain(root).iter().map(|l| l.id));
        }
        needed
    }

    /// Images of snapshots, the saved state, and the one that a guest gets its memory from.
    pub fn named_images(&self) -> BTreeSet<ImageId> {
        let snapshots = self.snapshots.iter().filter_map(|s| s.image);
        let body = &self.body;
        snapshots
            .chain(body.saved_image)
            .chain(body.serving)
            .collect()
    }

    /// These, and every one that they stand on.
    fn needed_images(&self) -> BTreeSet<ImageId> {
        let named = self.named_images().into_iter();
        let chains = named.flat_map(|id| self.image_chain(id));
        chains.map(|image| image.id).collect()
    }

    /// Forgets the layers and images that nothing refers to; answers their files, as far as we
    /// made them.
    pub fn collect_garbage(&mut self) -> Garbage {
        let (layers, images) = (self.needed_layers(), self.needed_images());
        let mut garbage = Garbage::default();
        self.layers.retain(|id, layer| {
            let keep = layers.contains(id);
            if !keep && layer.ours {
                garbage.layers.push(layer.path.clone());
            }
            keep
        });
        self.images.retain(|id, image| {
            let keep = images.contains(id);
            if !keep {
                garbage.images.push(image.path.clone());
            }
            keep
        });
        garbage
    }

    /// The changes that bring the catalog from `old` to this. Removals come first, so that what
    /// moves to another row never collides with the one it leaves.
    pub fn changes_from(&self, old: &Record) -> Vec<Change> {
        let mut gone = Vec::new();
        let mut put = Vec::new();
        if self.body != old.body || !same(&self.settings, &old.settings) {
            put.push(Change::PutMachine(Box::new(self.row())));
        }
        for id in old.layers.keys().filter(|id| !self.layers.contains_key(id)) {
            gone.push(Change::DeleteLayer(*id));
        }
        for (id, layer) in &self.layers {
            if old.layers.get(id) != Some(layer) {
                put.push(Change::PutLayer(layer.clone()));
            }
        }
        for id in old.images.keys().filter(|id| !self.images.contains_key(id)) {
            gone.push(Change::DeleteImage(*id));
        }
        for (id, image) in &self.images {
            if old.images.get(id) != Some(image) {
                put.push(Change::PutImage(image.clone()));
            }
        }
        for row in &old.snapshots {
            if self.snapshot(row.snapshot.id).is_none() {
                gone.push(Change::DeleteSnapshot(row.snapshot.id));
            }
        }
        for row in &self.snapshots {
            let unchanged = old.snapshot(row.snapshot.id).is_some_and(|before| {
                before.image == row.image
                    && (Arc::ptr_eq(&before.snapshot, &row.snapshot)
                        || before.snapshot == row.snapshot)
            });
            if !unchanged {
                put.push(Change::PutSnapshot(row.clone()));
            }
        }
        gone.append(&mut put);
        gone
    }

    /// Everything that must go when the machine goes.
    pub fn deletions(&self) -> Vec<Change> {
        let mut changes = vec![Change::DeleteMachine(self.id)];
        changes.extend(
            self.snapshots
                .iter()
                .map(|s| Change::DeleteSnapshot(s.snapshot.id)),
        );
        changes.extend(self.layers.keys().map(|id| Change::DeleteLayer(*id)));
        changes.extend(self.images.keys().map(|id| Change::DeleteImage(*id)));
        changes
    }

    /// Replaces the active settings.
    pub fn set_settings(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.settings.as_ref().clone();
        change(&mut settings);
        self.settings = Arc::new(settings);
    }

    /// The snapshot and all its descendants.
    pub fn tree(&self, root: SnapshotId) -> BTreeSet<SnapshotId> {
        let mut tree = BTreeSet::from([root]);
        loop {
            let before = tree.len();
            for row in &self.snapshots {
                if row.snapshot.parent.is_some_and(|p| tree.contains(&p)) {
                    tree.insert(row.snapshot.id);
                }
            }
            if tree.len() == before {
                return tree;
            }
        }
    }
}

/// The layers that a configuration's disks write to.
pub(crate) fn layers_of(settings: &Settings) -> impl Iterator<Item = LayerId> + '_ {
    settings.devices.iter().filter_map(|d| d.layer)
}

fn same(a: &Arc<Settings>, b: &Arc<Settings>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}
