//! The published copies of all machines, and the indexes over them. Readers take a lock for as long
//! as it takes to copy a pointer; nobody holds it while waiting.

use crate::feed::{Feed, Update};
use crate::ids::{MachineId, SnapshotId};
use crate::model::{Machine, Snapshot};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

/// All machines.
#[derive(Debug)]
pub(crate) struct Directory {
    inner: RwLock<Inner>,
    feed: Feed,
}

#[derive(Debug, Default)]
struct Inner {
    machines: BTreeMap<MachineId, Arc<Machine>>,
    by_name: HashMap<String, BTreeSet<MachineId>>,
    by_snapshot: HashMap<SnapshotId, MachineId>,
}

impl Directory {
    /// An empty directory, whose changes are told to `feed`.
    pub fn new(feed: Feed) -> Self {
        Directory {
            inner: RwLock::default(),
            feed,
        }
    }

    /// Replaces what readers see of a machine.
    pub fn publish(&self, machine: Machine) {
        let machine = Arc::new(machine);
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let before = inner.machines.insert(machine.id, machine.clone());
        if let Some(before) = &before {
            inner.forget(before, Some(&machine));
        }
        inner
            .by_name
            .entry(folded(&machine.settings.name))
            .or_default()
            .insert(machine.id);
        for snapshot in &machine.snapshots {
            inner.by_snapshot.insert(snapshot.id, machine.id);
        }
        // Under the lock, so that readers are told in the order of publication.
        self.feed.tell(|| Update::Machine {
            before,
            after: Some(machine),
        });
    }

    /// The machine is gone.
    pub fn remove(&self, id: MachineId) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = inner.machines.remove(&id) {
            inner.forget(&before, None);
            self.feed.tell(|| Update::Machine {
                before: Some(before),
                after: None,
            });
        }
    }

    pub fn all(&self) -> Vec<Arc<Machine>> {
        self.read(|inner| inner.machines.values().cloned().collect())
    }

    pub fn machine(&self, id: MachineId) -> Option<Arc<Machine>> {
        self.read(|inner| inner.machines.get(&id).cloned())
    }

    pub fn by_name(&self, name: &str) -> Vec<Arc<Machine>> {
        let name = folded(name);
        self.read(|inner| {
            let ids = inner.by_name.get(&name).into_iter().flatten();
            ids.filter_map(|id| inner.machines.get(id).cloned())
                .collect()
        })
    }

    pub fn snapshot(&self, id: SnapshotId) -> Option<(Arc<Machine>, Arc<Snapshot>)> {
        self.read(|inner| {
            let machine = inner.machines.get(inner.by_snapshot.get(&id)?)?;
            let snapshot = machine.snapshots.iter().find(|s| s.id == id)?;
            Some((machine.clone(), snapshot.clone()))
        })
    }

    fn read<T>(&self, look: impl FnOnce(&Inner) -> T) -> T {
        look(&self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    /// Drops the index entries of `before` that `after` does not have.
    fn forget(&mut self, before: &Machine, after: Option<&Machine>) {
        let name = folded(&before.settings.name);
        if after.is_none_or(|m| folded(&m.settings.name) != name)
            && let Some(ids) = self.by_name.get_mut(&name)
        {
            ids.remove(&before.id);
            if ids.is_empty() {
                self.by_name.remove(&name);
            }
        }
        for snapshot in &before.snapshots {
            let kept = after.is_some_and(|m| m.snapshots.iter().any(|s| s.id == snapshot.id));
            if !kept {
                self.by_snapshot.remove(&snapshot.id);
            }
        }
    }
}

fn folded(name: &str) -> String {
    name.to_lowercase()
}
