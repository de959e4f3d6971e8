//! [`Machines`]: the entry to the domain.
//!
//! The bodies arrive with the owner tasks; the signatures are what the layers above build on.

use crate::error::Error;
use crate::ids::{DeviceId, JobId, MachineId, SnapshotId};
use crate::model::{Job, Machine, Snapshot};
use crate::request::{
    Actor, GlobalChange, NewDevice, ResourceChange, SettingsChange, StateRequest,
};
use std::path::PathBuf;
use std::sync::Arc;

/// How the domain is opened.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data directory; made with mode 0700 when it is missing.
    pub data_dir: PathBuf,
    /// Which accelerator machines run on.
    pub accelerator: String,
}

/// Every machine of this host. Cheap to share; dropped or killed, the guests run on.
#[derive(Debug)]
pub struct Machines {}

#[allow(clippy::unimplemented, missing_docs, unused_variables)]
impl Machines {
    /// Takes the data directory's lock, opens the catalog, finds running guests again and settles
    /// every unfinished saga before it returns.
    pub async fn open(config: Config) -> Result<Arc<Machines>, Error> {
        unimplemented!()
    }
    // Readers: published copies, never waiting.
    pub fn all(&self) -> Vec<Arc<Machine>> {
        unimplemented!()
    }
    pub fn machine(&self, id: MachineId) -> Option<Arc<Machine>> {
        unimplemented!()
    }
    /// By `ElementName`, ignoring case; from an index.
    pub fn by_name(&self, name: &str) -> Vec<Arc<Machine>> {
        unimplemented!()
    }
    /// From an index.
    pub fn snapshot(&self, id: SnapshotId) -> Option<(Arc<Machine>, Arc<Snapshot>)> {
        unimplemented!()
    }
    /// All jobs: running, and finished less than five minutes ago.
    pub fn jobs(&self) -> Vec<Arc<Job>> {
        unimplemented!()
    }
    pub fn job(&self, id: JobId) -> Option<Arc<Job>> {
        unimplemented!()
    }
    pub fn jobs_of(&self, machine: MachineId) -> Vec<Arc<Job>> {
        unimplemented!()
    }
    // Verbs. Those that answer a JobId go on by themselves.
    pub async fn define(
        &self,
        actor: &Actor,
        global: GlobalChange,
        settings: SettingsChange,
        resources: Vec<ResourceChange>,
        devices: Vec<NewDevice>,
        copy_settings_of: Option<MachineId>,
    ) -> Result<MachineId, Error> {
        unimplemented!()
    }
    pub async fn destroy(&self, actor: &Actor, id: MachineId) -> Result<JobId, Error> {
        unimplemented!()
    }
    pub async fn modify_global(
        &self,
        actor: &Actor,
        id: MachineId,
        change: GlobalChange,
    ) -> Result<(), Error> {
        unimplemented!()
    }
    pub async fn modify_settings(
        &self,
        actor: &Actor,
        id: MachineId,
        change: SettingsChange,
    ) -> Result<(), Error> {
        unimplemented!()
    }
    /// Name and notes only; anything else is refused.
    pub async fn modify_snapshot(
        &self,
        actor: &Actor,
        id: SnapshotId,
        change: SettingsChange,
    ) -> Result<(), Error> {
        unimplemented!()
    }
    /// All or nothing; answers the new devices in the order given.
    pub async fn add_devices(
        &self,
        actor: &Actor,
        id: MachineId,
        devices: Vec<NewDevice>,
    ) -> Result<Vec<DeviceId>, Error> {
        unimplemented!()
    }
    /// All or nothing.
    pub async fn modify_resources(
        &self,
        actor: &Actor,
        id: MachineId,
        changes: Vec<ResourceChange>,
    ) -> Result<(), Error> {
        unimplemented!()
    }
    /// All or nothing.
    pub async fn remove_devices(
        &self,
        actor: &Actor,
        id: MachineId,
        devices: Vec<DeviceId>,
    ) -> Result<(), Error> {
        unimplemented!()
    }
    pub async fn request_state(
        &self,
        actor: &Actor,
        id: MachineId,
        request: StateRequest,
    ) -> Result<JobId, Error> {
        unimplemented!()
    }
    pub async fn create_snapshot(&self, actor: &Actor, id: MachineId) -> Result<JobId, Error> {
        unimplemented!()
    }
    /// As a job; a caller that must wait awaits [`Machines::wait`].
    pub async fn apply_snapshot(
        &self,
        actor: &Actor,
        id: MachineId,
        snapshot: SnapshotId,
    ) -> Result<JobId, Error> {
        unimplemented!()
    }
    pub async fn remove_snapshot(
        &self,
        actor: &Actor,
        snapshot: SnapshotId,
    ) -> Result<JobId, Error> {
        unimplemented!()
    }
    /// The snapshot and all its descendants.
    pub async fn remove_snapshot_tree(
        &self,
        actor: &Actor,
        snapshot: SnapshotId,
    ) -> Result<JobId, Error> {
        unimplemented!()
    }
    /// Asks a job to stop and undo what it did; returns when it has ended or cannot be cancelled.
    pub async fn cancel(&self, actor: &Actor, job: JobId) -> Result<(), Error> {
        unimplemented!()
    }
    /// Waits until the job has ended.
    pub async fn wait(&self, job: JobId) -> Result<Arc<Job>, Error> {
        unimplemented!()
    }
}
