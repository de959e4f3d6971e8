//! The verbs that V2 calls otherwise, or gives other parameters: taken apart here, done by the same
//! code as V1's.

use super::arguments::{Given, instances};
use super::resources::{some_instances, some_references};
use super::{Answer, Outcome, Refusal};
use crate::host::Host;
use crate::subject::{Configuration, InstanceId, SETTINGS, Subject, single_backslashes};
use cim::{Instance, Value};
use cim_broker::Arguments;
use machines::DeviceId;
use machines::model::{Consistency, Machine};
use machines::request::{Actor, GlobalChange, ResourceChange, SettingsChange};
use std::sync::Arc;

/// The only kind of virtual machine there is: a PC with a BIOS.
const SUB_TYPE: &str = "Microsoft:Hyper-V:SubType:1";
/// What `SnapshotSettings` of CreateSnapshot holds.
const SNAPSHOT_SETTINGS: &str = "Msvm_VirtualSystemSnapshotSettingData";
/// `SnapshotType` of CreateSnapshot: disks, and memory if there is any.
const FULL: u16 = 2;
/// `SnapshotType`: disks without memory.
const DISKS: u16 = 3;

/// What settings ask for that no machine here has.
fn check_offered(given: &Given<'_>) -> Result<(), Refusal> {
    match given.text("VirtualSystemSubType")?.as_deref() {
        None | Some("" | SUB_TYPE) => {}
        Some(other) => {
            return Err(Refusal::unsupported(format!(
                "VirtualSystemSubType {other}: there are only machines with a BIOS ({SUB_TYPE}). \
                 Leave VirtualSystemSubType out."
            )));
        }
    }
    if given.flag("SecureBootEnabled")? == Some(true) {
        return Err(Refusal::unsupported(
            "SecureBootEnabled: machines with a BIOS have no secure boot. Leave it out.",
        ));
    }
    Ok(())
}

impl Host {
    pub(super) async fn define_v2(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let (global, settings) = match instances(arguments, "SystemSettings")?.as_slice() {
            [] => (GlobalChange::default(), SettingsChange::default()),
            [given] => self.system_change(given)?,
            _ => {
                return Err(Refusal::invalid(
                    "SystemSettings holds more than one instance.",
                ));
            }
        };
        let resources = self.resources_of_new(arguments, "ResourceSettings")?;
        let copy_of = self.source_of_settings(arguments, "ReferenceConfiguration")?;
        let machine = self
            .define_machine(actor, global, settings, resources, copy_of)
            .await?;
        Ok(Answer::completed().with("ResultingSystem", machine))
    }

    /// The settings of a system: V1 has them in two classes.
    fn system_change(&self, given: &Instance) -> Result<(GlobalChange, SettingsChange), Refusal> {
        if !given.class.is(SETTINGS) {
            return Err(Refusal::invalid(format!(
                "SystemSettings is a {}, not a {SETTINGS}.",
                given.class
            )));
        }
        let given = Given(given);
        check_offered(&given)?;
        Ok((self.global_change(&given)?, self.settings_change(&given)?))
    }

    /// The configuration that settings name with their `InstanceID`.
    fn named_configuration(&self, given: &Instance) -> Result<Configuration, Refusal> {
        let id = Given(given).text("InstanceID")?.ok_or_else(|| {
            Refusal::invalid("InstanceID says which settings are meant; it is missing.")
        })?;
        let id = single_backslashes(&id);
        let found = match InstanceId::parse(&id) {
            Some(InstanceId::Configuration(guid)) => self.configuration(guid),
            _ => None,
        };
        found.ok_or_else(|| Refusal::invalid(format!("There are no settings {id}.")))
    }

    pub(super) async fn modify_system_v2(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let given = super::arguments::instance(arguments, "SystemSettings")?;
        let (global, settings) = self.system_change(given)?;
        match self.named_configuration(given)? {
            Configuration::Active(machine) => {
                self.machines
                    .modify_system(actor, machine.id, settings, global)
                    .await?;
            }
            Configuration::Snapshot(_, snapshot) => {
                self.machines
                    .modify_snapshot(actor, snapshot.id, settings)
                    .await?;
            }
        }
        Ok(Answer::completed())
    }

    /// The machine whose active configuration an argument names, by the configuration or by itself.
    fn machine_of_configuration(
        &self,
        arguments: &Arguments,
        name: &str,
    ) -> Result<Arc<Machine>, Refusal> {
        match self.subject(arguments, name)? {
            Subject::Settings(Configuration::Active(machine)) | Subject::Machine(machine) => {
                Ok(machine)
            }
            Subject::Settings(Configuration::Snapshot(..)) => Err(Refusal::invalid(format!(
                "{name} names a snapshot, whose resources do not change."
            ))),
            other => Err(Refusal::invalid(format!(
                "{name} names a {}, not a {SETTINGS}.",
                other.class(self.version)
            ))),
        }
    }

    pub(super) async fn add_resources_v2(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let machine = self.machine_of_configuration(arguments, "AffectedConfiguration")?;
        let settings = some_instances(arguments, "ResourceSettings")?;
        let connections = settings
            .iter()
            .filter(|given| self.is_connection(given))
            .count();
        let paths = match connections {
            0 => self.add_devices(actor, &machine, settings).await?,
            _ if connections == settings.len() => {
                self.connect_ports(actor, &machine, settings).await?
            }
            _ => {
                return Err(Refusal::invalid(
                    "ResourceSettings holds connections and other resources; add the connections \
                     in a call of their own.",
                ));
            }
        };
        Ok(Answer::completed().with("ResultingResourceSettings", Value::Array(paths)))
    }

    /// All of one machine, because all or none are changed.
    pub(super) async fn modify_resources_v2(
        &self,
        actor: &Actor,
        arguments: &Arguments,
    ) -> Outcome {
        let mut target: Option<Arc<Machine>> = None;
        let mut changes = Vec::new();
        let mut paths = Vec::new();
        for given in some_instances(arguments, "ResourceSettings")? {
            let (of, part) = self.resource_to_modify(given)?;
            let machine = target.get_or_insert_with(|| of.machine().clone());
            if machine.id != of.machine().id {
                return Err(two_machines());
            }
            changes.push(self.change_of(&of, part, given)?);
            paths.push(self.path(&Subject::Resource(of, part)).into());
        }
        if let Some(machine) = target {
            self.machines
                .modify_resources(actor, machine.id, changes)
                .await?;
        }
        Ok(Answer::completed().with("ResultingResourceSettings", Value::Array(paths)))
    }

    pub(super) async fn remove_resources_v2(
        &self,
        actor: &Actor,
        arguments: &Arguments,
    ) -> Outcome {
        let mut target: Option<Arc<Machine>> = None;
        let mut devices: Vec<DeviceId> = Vec::new();
        let mut connections: Vec<ResourceChange> = Vec::new();
        for path in some_references(arguments, "ResourceSettings")? {
            let of = match self.connection_to_remove(&path)? {
                Some((of, change)) => {
                    connections.push(change);
                    of
                }
                None => {
                    let (of, device) = self.device_to_remove(&path)?;
                    devices.push(device);
                    of
                }
            };
            let machine = target.get_or_insert_with(|| of.machine().clone());
            if machine.id != of.machine().id {
                return Err(two_machines());
            }
        }
        if !connections.is_empty() && !devices.is_empty() {
            return Err(Refusal::invalid(
                "ResourceSettings names connections and other resources; remove the connections \
                 in a call of their own.",
            ));
        }
        let Some(machine) = target else {
            return Ok(Answer::completed());
        };
        if connections.is_empty() {
            self.machines
                .remove_devices(actor, machine.id, devices)
                .await?;
        } else {
            self.machines
                .modify_resources(actor, machine.id, connections)
                .await?;
        }
        Ok(Answer::completed())
    }

    /// Always a job, as in V1; the new snapshot is found through it, and `ResultingSnapshot` stays
    /// NULL.
    pub(super) async fn create_snapshot_v2(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let machine = self.machine(arguments, "AffectedSystem")?;
        let kind = arguments.get("SnapshotType");
        match kind.as_u16() {
            Some(FULL) => {}
            None if kind.is_null() => {}
            Some(DISKS) => {
                return Err(Refusal::unsupported(
                    "SnapshotType 3 (disks alone): a snapshot here is of one instant with memory \
                     and all. Ask for type 2.",
                ));
            }
            Some(32768) => {
                return Err(Refusal::unsupported(
                    "SnapshotType 32768 (recovery): there are no recovery snapshots and no \
                     reference points. Ask for type 2.",
                ));
            }
            _ => return Err(Refusal::invalid("SnapshotType is none that there is.")),
        }
        let mut consistency = Consistency::Crash;
        for given in instances(arguments, "SnapshotSettings")? {
            if !given.class.is(SNAPSHOT_SETTINGS) {
                return Err(Refusal::invalid(format!(
                    "SnapshotSettings is a {}, not a {SNAPSHOT_SETTINGS}.",
                    given.class
                )));
            }
            consistency = asked_consistency(&Given(given))?;
        }
        let job = self
            .machines
            .create_snapshot_with(actor, machine.id, consistency)
            .await?;
        Ok(self.started(job))
    }

    /// A snapshot without memory has nothing to clear.
    pub(super) fn clear_snapshot(&self, arguments: &Arguments) -> Outcome {
        let (_, snapshot) = self.snapshot(arguments, "SnapshotSettingData")?;
        if snapshot.has_memory {
            return Err(Refusal::unsupported(
                "The snapshot holds memory, which is part of its one instant and goes with it. \
                 Destroy the snapshot, or take one of the machine while it is off.",
            ));
        }
        Ok(Answer::completed())
    }

    pub(super) async fn apply_snapshot_v2(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let (machine, snapshot) = self.snapshot(arguments, "Snapshot")?;
        let job = self
            .machines
            .apply_snapshot(actor, machine.id, snapshot.id)
            .await?;
        Ok(self.started(job))
    }
}

/// What Msvm_VirtualSystemSnapshotSettingData asks for. Application consistency is given or refused,
/// never weakened.
fn asked_consistency(given: &Given<'_>) -> Result<Consistency, Refusal> {
    match given.number16("ConsistencyLevel")? {
        // Unknown, or as after a power failure.
        None | Some(0 | 2) => Ok(Consistency::Crash),
        Some(1) => Ok(Consistency::Application),
        Some(other) => Err(Refusal::invalid(format!(
            "ConsistencyLevel {other} is none that there is."
        ))),
    }
}

fn two_machines() -> Refusal {
    Refusal::invalid("ResourceSettings are of more than one virtual machine; call once for each.")
}
