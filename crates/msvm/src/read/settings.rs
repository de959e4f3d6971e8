//! Configurations (active and of snapshots) and global settings.

use super::{datetime, texts};
use crate::host::Host;
use crate::subject::{Configuration, GLOBAL_SETTINGS, SETTINGS, Subject, global_id};
use crate::version::Version;
use cim::instance::InstanceBuilder;
use cim::{CimError, DateTime, Instance, Value};
use machines::model::{Machine, State};
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
            let new = new
                .set("Description", description)
                .set("InstanceID", of.instance_id())
                .set("ElementName", settings.name.as_str())
                .set("CreationTime", datetime(created))
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
                .set("Parent", parent);
            match self.version {
                Version::V1 => new
                    .set("Caption", "Virtual Machine")
                    .set("SettingType", setting_type)
                    .set("SystemName", of.machine().id.to_string())
                    .set("VirtualSystemType", VIRTUAL_SYSTEM_TYPE)
                    .set("Notes", settings.notes.as_str()),
                Version::V2 => self.fill_settings_v2(of, new),
            }
        })
    }

    /// What only V2 says, and what V1 says of the machine in its global settings.
    fn fill_settings_v2<'a>(
        &self,
        of: &Configuration,
        new: InstanceBuilder<'a>,
    ) -> InstanceBuilder<'a> {
        let machine = of.machine();
        let global = &machine.global;
        let own = self.default_root();
        let root = |path: &Option<PathBuf>| {
            let path = path.as_deref().unwrap_or(&own);
            path.display().to_string()
        };
        let delay = Duration::from_micros(global.automatic_startup_delay_micros);
        let (system_type, guid, saved) = match of {
            Configuration::Active(machine) => (
                "Microsoft:Hyper-V:System:Realized",
                machine.id.to_string(),
                machine.state == State::Saved,
            ),
            Configuration::Snapshot(_, snapshot) => (
                "Microsoft:Hyper-V:Snapshot:Realized",
                snapshot.id.to_string(),
                snapshot.has_memory,
            ),
        };
        let action = |number| self.version.action(number);
        new.set("Caption", "Virtual Machine Settings")
            .set("VirtualSystemIdentifier", machine.id.to_string())
            .set("VirtualSystemType", system_type)
            .set("VirtualSystemSubType", "Microsoft:Hyper-V:SubType:1")
            .set("Notes", texts(of.settings().notes.lines()))
            .set("ConfigurationID", guid)
            .set("ConfigurationDataRoot", root(&global.external_data_root))
            .set("SnapshotDataRoot", root(&global.snapshot_data_root))
            .set("SuspendDataRoot", root(&global.external_data_root))
            .set("LogDataRoot", root(&global.external_data_root))
            .set("SwapFileDataRoot", root(&global.external_data_root))
            .set(
                "AutomaticStartupAction",
                action(global.automatic_startup_action),
            )
            .set("AutomaticStartupActionDelay", DateTime::from(delay))
            .set(
                "AutomaticShutdownAction",
                action(global.automatic_shutdown_action),
            )
            .set(
                "AutomaticRecoveryAction",
                action(global.automatic_recovery_action),
            )
            .set("DebugChannelId", global.debug_channel_id)
            .set("IsSaved", saved)
            .set("IsAutomaticSnapshot", false)
            .set("AutomaticSnapshotsEnabled", false)
            // Snapshots of the machine as it stands, without the guest's doing.
            .set("UserSnapshotType", 5u16)
            .set("Architecture", "x64")
            .set("AllowFullSCSICommandSet", false)
            .set("AllowReducedFcRedundancy", false)
            .set("DebugPortEnabled", 0u16)
            .set("IncrementalBackupEnabled", false)
            .set("VirtualNumaEnabled", false)
            .set("PauseAfterBootFailure", false)
            .set("GuestControlledCacheTypes", false)
            .set("LockOnDisconnect", false)
            .set("SecureBootEnabled", false)
            // A machine whose disk has no room stands still until there is some.
            .set("AutomaticCriticalErrorAction", 1u16)
            .set("ConsoleMode", 0u16)
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
