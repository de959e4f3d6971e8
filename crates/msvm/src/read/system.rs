//! Computer systems (the machines and the host), the management service, a machine's BIOS.

use super::{datetime, micros_between, now, texts};
use crate::host::Host;
use crate::subject::{self, BIOS_NAME, BIOS_STATE, BIOS_VERSION, COMPUTER_SYSTEM, SERVICE};
use cim::{CimError, Instance, Value};
use machines::model::{Activity, Health, Machine};

/// What `OperationalStatus`, `StatusDescriptions` and `HealthState` say of a machine.
pub(crate) struct StateView {
    pub operational_status: Vec<u16>,
    pub descriptions: Vec<String>,
    pub health: u16,
}

impl StateView {
    pub(crate) fn of(machine: &Machine) -> Self {
        let (mut first, mut health) = ((2, "OK".to_owned()), 5);
        if let Health::Critical(reason) = &machine.health {
            first = (3, reason.clone());
            health = 25;
        }
        // Disks are merged while other requests are taken (2, interruptible); the rest holds the
        // machine (11, in service).
        let second = machine.activity.map(|activity| match activity {
            Activity::CreatingSnapshot => (32768, "Creating Snapshot"),
            Activity::ApplyingSnapshot => (32769, "Applying Snapshot"),
            Activity::DeletingSnapshot => (32770, "Deleting Snapshot"),
            Activity::MergingDisks => (32772, "Merging Disks"),
        });
        if second.is_some_and(|(status, _)| status != 32772) && health == 5 {
            first = (11, "In service".to_owned());
        }
        let mut view = StateView {
            operational_status: vec![first.0],
            descriptions: vec![first.1],
            health,
        };
        if let Some((status, description)) = second {
            view.operational_status.push(status);
            view.descriptions.push(description.to_owned());
        }
        view
    }
}

/// How long the guest has run, in milliseconds; 0 while it does not.
pub(crate) fn up_time_millis(machine: &Machine) -> u64 {
    machine
        .started
        .map_or(0, |started| micros_between(started, now()) / 1000)
}

impl Host {
    pub(super) fn machine_instance(&self, machine: &Machine) -> Result<Instance, CimError> {
        let view = StateView::of(machine);
        self.named(COMPUTER_SYSTEM, |new| {
            new.set("Caption", "Virtual Machine")
                .set("Description", "Microsoft Virtual Computer System")
                .set("ElementName", machine.settings.name.as_str())
                .set("InstallDate", datetime(machine.created))
                .set("OperationalStatus", view.operational_status)
                .set("StatusDescriptions", texts(view.descriptions))
                .set("HealthState", view.health)
                .set("EnabledState", self.version.enabled_state(machine.state))
                .set(
                    "RequestedState",
                    machine
                        .requested
                        .map_or(12, |state| self.version.enabled_state(state)),
                )
                .set("TimeOfLastStateChange", datetime(machine.state_changed))
                .set("Name", machine.id.to_string())
                .set("Dedicated", vec![0u16])
                .set("ResetCapability", 1u16)
                .set("EnabledDefault", 2u16)
                .set("CreationClassName", COMPUTER_SYSTEM)
                .set("OnTimeInMilliseconds", up_time_millis(machine))
                .set(
                    "ProcessID",
                    machine.process.as_ref().map(|process| process.pid),
                )
        })
    }

    pub(super) fn host_instance(&self) -> Result<Instance, CimError> {
        self.named(COMPUTER_SYSTEM, |new| {
            new.set("Caption", "Hosting Computer System")
                .set("Description", "Microsoft Hosting Computer System")
                .set("ElementName", self.name.as_str())
                .set("OperationalStatus", vec![2u16])
                .set("StatusDescriptions", texts(["OK"]))
                .set("HealthState", 5u16)
                .set("EnabledState", 2u16)
                .set("RequestedState", 12u16)
                .set("Name", self.name.as_str())
                .set("Dedicated", vec![0u16])
                .set("ResetCapability", 1u16)
                .set("EnabledDefault", 2u16)
                .set("CreationClassName", COMPUTER_SYSTEM)
        })
    }

    pub(super) fn service_instance(&self) -> Result<Instance, CimError> {
        self.named(SERVICE, |new| {
            new.set("Caption", "Virtual System Management Service")
                .set(
                    "Description",
                    "Service for creating, manipulating, and managing virtual systems",
                )
                .set("ElementName", "Virtual System Management Service")
                .set("OperationalStatus", vec![2u16])
                .set("HealthState", 5u16)
                .set("EnabledState", 2u16)
                .set("SystemCreationClassName", COMPUTER_SYSTEM)
                .set("SystemName", self.name.as_str())
                .set("CreationClassName", SERVICE)
                .set("Name", subject::SERVICE_NAME)
                .set("Started", true)
                .set(
                    "StatusDescriptions",
                    texts(["The service is running normally"]),
                )
                .set("RequestedState", 12u16)
                .set("EnabledDefault", 2u16)
        })
    }

    pub(super) fn system_snapshot_service_instance(&self) -> Result<Instance, CimError> {
        self.named(subject::SYSTEM_SNAPSHOT_SERVICE, |new| {
            new.set("Caption", "Hyper-V Virtual System Snapshot Service")
                .set(
                    "Description",
                    "Service for creating, destroying, and applying virtual machine snapshots",
                )
                .set("ElementName", "Hyper-V Virtual System Snapshot Service")
                .set("OperationalStatus", vec![2u16])
                .set(
                    "StatusDescriptions",
                    texts(["The service is running normally"]),
                )
                .set("HealthState", 5u16)
                .set("EnabledState", 2u16)
                .set("RequestedState", 12u16)
                .set("EnabledDefault", 2u16)
                .set("SystemCreationClassName", COMPUTER_SYSTEM)
                .set("SystemName", self.name.as_str())
                .set("CreationClassName", subject::SYSTEM_SNAPSHOT_SERVICE)
                .set("Name", subject::SYSTEM_SNAPSHOT_SERVICE_NAME)
                .set("Started", true)
        })
    }

    pub(super) fn service_settings_instance(&self) -> Result<Instance, CimError> {
        let root = self.machines.data_dir().display().to_string();
        self.named(subject::SERVICE_SETTINGS, |new| {
            new.set("Caption", "Virtual System Management Service")
                .set(
                    "Description",
                    "Settings for the Virtual System Management Service",
                )
                .set("ElementName", "Virtual System Management Service")
                .set("InstanceID", subject::service_settings_id(&self.name))
                .set("DefaultExternalDataRoot", root.as_str())
                // The range that network ports get their addresses from.
                .set("MinimumMacAddress", "00155D000000")
                .set("MaximumMacAddress", "00155DFFFFFF")
        })
    }

    pub(super) fn bios_instance(&self, machine: &Machine) -> Result<Instance, CimError> {
        let settings = &machine.settings;
        self.named(subject::BIOS, |new| {
            new.set("Caption", BIOS_NAME)
                .set("Description", "Microsoft Virtual BIOS")
                .set("ElementName", BIOS_NAME)
                .set("OperationalStatus", vec![2u16])
                .set("StatusDescriptions", texts(["OK"]))
                .set("HealthState", 5u16)
                .set("Name", BIOS_NAME)
                .set("Version", BIOS_VERSION)
                .set("SoftwareElementState", BIOS_STATE)
                .set("SoftwareElementID", format!("Microsoft:{}", machine.id))
                .set("TargetOperatingSystem", 0u16)
                .set("PrimaryBIOS", true)
                .set("SerialNumber", settings.bios_serial_number.as_str())
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
        })
    }
}
