//! Configurations (active and of snapshots) and global settings.

use super::datetime;
use crate::host::Host;
use crate::subject::{Configuration, GLOBAL_SETTINGS, SETTINGS, Subject, global_id};
use cim::{CimError, DateTime, Instance, Value};
use machines::model::Machine;
use std::path::PathBuf;
use std::time::Duration;

/// The only type of virtual system there is.
const VIRTUAL_SYSTEM_TYPE: u16 = 301;

impl Configuration {
    /// The snapshot that this configuration descends from.
    pub(crate) fn parent(&self) -> Option<Configuration> {
        let machine = self.machine();
        let id = match self {
            Configuration::Active(machine) => machine.parent,
            Configuration::Snapshot(_, snapshot) => snapshot.parent,
        }?;
        let parent = machine
            .snapshots
            .iter()
            .find(|snapshot| snapshot.id == id)?;
        Some(Configuration::Snapshot(machine.clone(), parent.clone()))
    }

    /// The configurations that descend from this one, the active one first.
    pub(crate) fn children(&self) -> Vec<Configuration> {
        let Configuration::Snapshot(machine, this) = self else {
            return Vec::new();
        };
        let active =
            (machine.parent == Some(this.id)).then(|| Configuration::Active(machine.clone()));
        let snapshots = machine
            .snapshots
            .iter()
            .filter(|snapshot| snapshot.parent == Some(this.id))
            .map(|snapshot| Configuration::Snapshot(machine.clone(), snapshot.clone()));
        active.into_iter().chain(snapshots).collect()
    }
}

impl Host {
    pub(crate) fn settings_instance(&self, of: &Configuration) -> Result<Instance, CimError> {
        let settings = of.settings();
        let (setting_type, description, created) = match of {
            Configuration::Active(_) => (
                3u16,
                "Active settings for the virtual machine",
                settings.created,
            ),
            Configuration::Snapshot(_, snapshot) => (
                5,
                "Snapshot settings for the virtual machine",
                snapshot.taken,
            ),
        };
        // The same text as `__PATH` of the parent: clients compare the two as they stand.
        let parent = of
            .parent()
            .map(|parent| self.path(&Subject::Settings(parent)).to_string());
        self.named(SETTINGS, |new| {
            new.set("Caption", "Virtual Machine")
                .set("Description", description)
                .set("SettingType", setting_type)
                .set("SystemName", of.machine().id.to_string())
                .set("InstanceID", of.instance_id())
                .set("ElementName", settings.name.as_str())
                .set("CreationTime", datetime(created))
                .set("VirtualSystemType", VIRTUAL_SYSTEM_TYPE)
                .set("Notes", settings.notes.as_str())
                .set("BIOSGUID", format!("{{{}}}", settings.bios_guid))
                .set("BIOSSerialNumber", settings.bios_serial_number.as_str())
                .set(
                    "BaseBoardSerialNumber",
                    settings.base_board_serial_number.as_str(),
                )
                .set(
                    "ChassisSerialNumber",
                    settings.chassis_serial_number.as_str(),
                )
                .set("ChassisAssetTag", settings.chassis_asset_tag.as_str())
                .set("BIOSNumLock", settings.bios_num_lock)
                .set("BootOrder", Value::from(settings.boot_order))
                .set("Parent", parent)
        })
    }

    pub(crate) fn global_instance(&self, machine: &Machine) -> Result<Instance, CimError> {
        let global = &machine.global;
        let root = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let delay = Duration::from_micros(global.automatic_startup_delay_micros);
        self.named(GLOBAL_SETTINGS, |new| {
            new.set("Caption", "Global Virtual Machine Settings")
                .set("Description", "Global settings for the virtual machine")
                .set("SystemName", machine.id.to_string())
                .set("InstanceID", global_id(machine.id))
                .set("ElementName", machine.settings.name.as_str())
                .set("VirtualSystemType", VIRTUAL_SYSTEM_TYPE)
                .set("CreationTime", datetime(machine.created))
                .set("ExternalDataRoot", root(&global.external_data_root))
                .set("SettingType", 32768u16)
                .set("SnapshotDataRoot", root(&global.snapshot_data_root))
                .set("AutomaticStartupAction", global.automatic_startup_action)
                .set("AutomaticStartupActionDelay", DateTime::from(delay))
                .set("AutomaticShutdownAction", global.automatic_shutdown_action)
                .set("AutomaticRecoveryAction", global.automatic_recovery_action)
                .set("ScopeOfResidence", global.scope_of_residence.as_deref())
                .set("DebugChannelId", global.debug_channel_id)
                .set("AllowFullSCSICommandSet", false)
        })
    }
}
