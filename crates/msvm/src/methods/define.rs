//! DefineVirtualSystem, ModifyVirtualSystem, DestroyVirtualSystem.

use super::arguments::{Given, instance, instances};
use super::resources::{Change, Resources};
use super::{Answer, Outcome, Refusal};
use crate::host::Host;
use crate::subject::{
    Configuration, GLOBAL_SETTINGS, InstanceId, SETTINGS, Subject, single_backslashes,
};
use cim::Instance;
use cim_broker::Arguments;
use machines::MachineId;
use machines::model::Machine;
use machines::request::{Actor, GlobalChange, SettingsChange};
use std::sync::Arc;

fn global_change(given: &Given<'_>) -> Result<GlobalChange, Refusal> {
    Ok(GlobalChange {
        name: given.text("ElementName")?,
        automatic_startup_action: given.number16("AutomaticStartupAction")?,
        automatic_startup_delay_micros: given.interval("AutomaticStartupActionDelay")?,
        automatic_shutdown_action: given.number16("AutomaticShutdownAction")?,
        automatic_recovery_action: given.number16("AutomaticRecoveryAction")?,
        external_data_root: given.file("ExternalDataRoot")?,
        snapshot_data_root: given.file("SnapshotDataRoot")?,
        scope_of_residence: given.text("ScopeOfResidence")?,
        debug_channel_id: given.number32("DebugChannelId")?,
    })
}

fn settings_change(given: &Given<'_>) -> Result<SettingsChange, Refusal> {
    Ok(SettingsChange {
        name: given.text("ElementName")?,
        notes: given.text("Notes")?,
        boot_order: given.boot_order()?,
        bios_num_lock: given.flag("BIOSNumLock")?,
        bios_guid: given.text("BIOSGUID")?,
        bios_serial_number: given.text("BIOSSerialNumber")?,
        base_board_serial_number: given.text("BaseBoardSerialNumber")?,
        chassis_serial_number: given.text("ChassisSerialNumber")?,
        chassis_asset_tag: given.text("ChassisAssetTag")?,
    })
}

impl Host {
    pub(super) async fn define(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let system = instance(arguments, "SystemSettingData")?;
        if !system.class.is(GLOBAL_SETTINGS) {
            return Err(Refusal::invalid(format!(
                "SystemSettingData is a {}; a new machine is described by a {GLOBAL_SETTINGS}.",
                system.class
            )));
        }
        let global = global_change(&Given(system))?;
        let resources = self.resources_of_new(arguments)?;
        let copy_of = self.source_of_settings(arguments)?;
        let id = self
            .machines
            .define(
                actor,
                global,
                SettingsChange::default(),
                resources.changes,
                resources.devices,
                copy_of,
            )
            .await?;
        let machine = self
            .machines
            .machine(id)
            .ok_or(machines::Error::NoSuchMachine(id))?;
        let path = self.path(&Subject::Machine(machine));
        Ok(Answer::completed().with("DefinedSystem", path))
    }

    /// The resources that a new machine is to have besides the default ones. Memory and processor
    /// are there in every machine, so these change what it starts with.
    fn resources_of_new(&self, arguments: &Arguments) -> Result<Resources, Refusal> {
        let mut resources = Resources::default();
        for given in instances(arguments, "ResourceSettingData")? {
            match self.change_in_new(given)? {
                Change::Resource(change) => resources.changes.push(change),
                Change::Device(device) => resources.devices.push(device),
            }
        }
        Ok(resources)
    }

    /// The machine whose settings a new one copies.
    fn source_of_settings(&self, arguments: &Arguments) -> Result<Option<MachineId>, Refusal> {
        if arguments.get("SourceSetting").is_null() {
            return Ok(None);
        }
        match self.subject(arguments, "SourceSetting")? {
            Subject::Settings(Configuration::Active(machine)) => Ok(Some(machine.id)),
            Subject::Settings(Configuration::Snapshot(..)) => Err(Refusal::unsupported(
                "A machine cannot be defined from a snapshot's settings; name the active ones.",
            )),
            other => Err(Refusal::invalid(format!(
                "SourceSetting names a {}, not a {SETTINGS}.",
                other.class()
            ))),
        }
    }

    pub(super) async fn modify_system(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let machine = self.machine(arguments, "ComputerSystem")?;
        let given = instance(arguments, "SystemSettingData")?;
        let target = self.settings_to_modify(&machine, given)?;
        match &target {
            Subject::Global(_) => {
                let change = global_change(&Given(given))?;
                self.machines
                    .modify_global(actor, machine.id, change)
                    .await?;
            }
            Subject::Settings(Configuration::Snapshot(_, snapshot)) => {
                let change = settings_change(&Given(given))?;
                self.machines
                    .modify_snapshot(actor, snapshot.id, change)
                    .await?;
            }
            _ => {
                let change = settings_change(&Given(given))?;
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

    pub(super) async fn destroy(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let machine = self.machine(arguments, "ComputerSystem")?;
        let job = self.machines.destroy(actor, machine.id).await?;
        Ok(self.started(job))
    }
}
