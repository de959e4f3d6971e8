//! DefineVirtualSystem, ModifyVirtualSystem, DestroyVirtualSystem.

use super::arguments::{Given, instance, instances};
use super::resources::{Change, Resources};
use super::{Answer, Outcome, Refusal};
use crate::host::Host;
use crate::subject::{
    Configuration, GLOBAL_SETTINGS, InstanceId, SETTINGS, Subject, single_backslashes,
};
use crate::version::Version;
use cim::{Instance, ObjectPath};
use cim_broker::Arguments;
use machines::MachineId;
use machines::model::Machine;
use machines::request::{Actor, GlobalChange, SettingsChange};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file root is given back as it was shown by clients that change something else.
fn root(given: &Given<'_>, name: &str, shown: Option<&Path>) -> Result<Option<PathBuf>, Refusal> {
    Ok(given
        .file(name)?
        .filter(|path| Some(path.as_path()) != shown))
}

impl Host {
    fn action(&self, given: &Given<'_>, name: &str) -> Result<Option<u16>, Refusal> {
        let Some(number) = given.number16(name)? else {
            return Ok(None);
        };
        match self.version.action_from(number) {
            Some(number) => Ok(Some(number)),
            None => Err(Refusal::invalid(format!("{name}: {number} is no action."))),
        }
    }

    /// What V1 has in its global settings and V2 in the settings of the system.
    pub(super) fn global_change(&self, given: &Given<'_>) -> Result<GlobalChange, Refusal> {
        let (data_root, shown) = match self.version {
            Version::V1 => ("ExternalDataRoot", None),
            Version::V2 => ("ConfigurationDataRoot", Some(self.default_root())),
        };
        Ok(GlobalChange {
            name: given.text("ElementName")?,
            automatic_startup_action: self.action(given, "AutomaticStartupAction")?,
            automatic_startup_delay_micros: given.interval("AutomaticStartupActionDelay")?,
            automatic_shutdown_action: self.action(given, "AutomaticShutdownAction")?,
            automatic_recovery_action: self.action(given, "AutomaticRecoveryAction")?,
            external_data_root: root(given, data_root, shown.as_deref())?,
            snapshot_data_root: root(given, "SnapshotDataRoot", shown.as_deref())?,
            scope_of_residence: given.text("ScopeOfResidence")?,
            debug_channel_id: given.number32("DebugChannelId")?,
        })
    }

    pub(super) fn settings_change(&self, given: &Given<'_>) -> Result<SettingsChange, Refusal> {
        let notes = match self.version {
            Version::V1 => given.text("Notes")?,
            Version::V2 => given.texts("Notes")?.map(|lines| lines.join("\n")),
        };
        Ok(SettingsChange {
            name: given.text("ElementName")?,
            notes,
            boot_order: given.boot_order()?,
            bios_num_lock: given.flag("BIOSNumLock")?,
            bios_guid: given.text("BIOSGUID")?,
            bios_serial_number: given.text("BIOSSerialNumber")?,
            base_board_serial_number: given.text("BaseBoardSerialNumber")?,
            chassis_serial_number: given.text("ChassisSerialNumber")?,
            chassis_asset_tag: given.text("ChassisAssetTag")?,
        })
    }

    pub(super) async fn define(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let system = instance(arguments, "SystemSettingData")?;
        if !system.class.is(GLOBAL_SETTINGS) {
            return Err(Refusal::invalid(format!(
                "SystemSettingData is a {}; a new machine is described by a {GLOBAL_SETTINGS}.",
                system.class
            )));
        }
        let global = self.global_change(&Given(system))?;
        let resources = self.resources_of_new(arguments, "ResourceSettingData")?;
        let copy_of = self.source_of_settings(arguments, "SourceSetting")?;
        let settings = SettingsChange::default();
        let machine = self
            .define_machine(actor, global, settings, resources, copy_of)
            .await?;
        Ok(Answer::completed().with("DefinedSystem", machine))
    }

    /// The path of the new machine.
    pub(super) async fn define_machine(
        &self,
        actor: &Actor,
        global: GlobalChange,
        settings: SettingsChange,
        resources: Resources,
        copy_of: Option<MachineId>,
    ) -> Result<ObjectPath, Refusal> {
        let (changes, devices) = (resources.changes, resources.devices);
        let id = self
            .machines
            .define(actor, global, settings, changes, devices, copy_of)
            .await?;
        let machine = self.machines.machine(id);
        let machine = machine.ok_or(machines::Error::NoSuchMachine(id))?;
        Ok(self.path(&Subject::Machine(machine)))
    }

    /// The resources that a new machine is to have besides the default ones. Memory and processor
    /// are there in every machine, so these change what it starts with.
    pub(super) fn resources_of_new(
        &self,
        arguments: &Arguments,
        parameter: &str,
    ) -> Result<Resources, Refusal> {
        let mut resources = Resources::default();
        for given in instances(arguments, parameter)? {
            match self.change_in_new(given)? {
                Change::Resource(change) => resources.changes.push(change),
                Change::Device(device) => resources.devices.push(device),
            }
        }
        Ok(resources)
    }

    /// The machine whose settings a new one copies.
    pub(super) fn source_of_settings(
        &self,
        arguments: &Arguments,
        parameter: &str,
    ) -> Result<Option<MachineId>, Refusal> {
        if arguments.get(parameter).is_null() {
            return Ok(None);
        }
        match self.subject(arguments, parameter)? {
            Subject::Settings(Configuration::Active(machine)) => Ok(Some(machine.id)),
            Subject::Settings(Configuration::Snapshot(..)) => Err(Refusal::unsupported(
                "A machine cannot be defined from a snapshot's settings; name the active ones.",
            )),
            other => Err(Refusal::invalid(format!(
                "{parameter} names a {}, not a {SETTINGS}.",
                other.class(self.version)
            ))),
        }
    }

    pub(super) async fn modify_system(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let machine = self.machine(arguments, "ComputerSystem")?;
        let given = instance(arguments, "SystemSettingData")?;
        let target = self.settings_to_modify(&machine, given)?;
        match &target {
            Subject::Global(_) => {
                let change = self.global_change(&Given(given))?;
                self.machines
                    .modify_global(actor, machine.id, change)
                    .await?;
            }
            Subject::Settings(Configuration::Snapshot(_, snapshot)) => {
                let change = self.settings_change(&Given(given))?;
                self.machines
                    .modify_snapshot(actor, snapshot.id, change)
                    .await?;
            }
            _ => {
                let change = self.settings_change(&Given(given))?;
                self.machines
                    .modify_settings(actor, machine.id, change)
                    .await?;
            }
        }
        // Done at once and without a job: clients read ModifiedSettingData by position and would
        // take it for the job of a 4096.
        Ok(Answer::completed().with("ModifiedSettingData", self.path(&target)))
    }

    /// What an embedded instance stands for: the configuration that its `InstanceID` names, or,
    /// without one, the machine's own of its class.
    fn settings_to_modify(
        &self,
        machine: &Arc<Machine>,
        given: &Instance,
    ) -> Result<Subject, Refusal> {
        let global = given.class.is(GLOBAL_SETTINGS);
        if !global && !given.class.is(SETTINGS) {
            return Err(Refusal::invalid(format!(
                "SystemSettingData is a {}, neither a {SETTINGS} nor a {GLOBAL_SETTINGS}.",
                given.class
            )));
        }
        let active = || {
            if global {
                Subject::Global(machine.clone())
            } else {
                Subject::Settings(Configuration::Active(machine.clone()))
            }
        };
        let Some(id) = Given(given)
            .text("InstanceID")?
            .filter(|id| !id.trim().is_empty())
        else {
            return Ok(active());
        };
        let id = single_backslashes(&id);
        let (guid, rest) = match InstanceId::parse(&id) {
            Some(InstanceId::Configuration(guid)) => (guid, ""),
            Some(InstanceId::Within(guid, rest)) => (guid, rest),
            _ => return Err(Refusal::invalid(format!("There are no settings {id}."))),
        };
        let of = self
            .configuration(guid)
            .ok_or_else(|| Refusal::invalid(format!("There are no settings {id}.")))?;
        if of.machine().id != machine.id {
            return Err(Refusal::invalid(format!(
                "The settings {id} belong to another virtual machine."
            )));
        }
        match (&of, global) {
            (Configuration::Active(_), true) if rest.eq_ignore_ascii_case("Global") => Ok(active()),
            (_, false) if rest.is_empty() => Ok(Subject::Settings(of)),
            _ => Err(Refusal::invalid(format!(
                "{id} does not name a {}.",
                given.class
            ))),
        }
    }

    pub(super) async fn destroy(
        &self,
        actor: &Actor,
        arguments: &Arguments,
        parameter: &str,
    ) -> Outcome {
        let machine = self.machine(arguments, parameter)?;
        let job = self.machines.destroy(actor, machine.id).await?;
        Ok(self.started(job))
    }
}
