//! What callers may ask of [`crate::Machines`], as data. An absent (`None`) field means "not
//! specified": the default when something is made, unchanged when it is modified.

use crate::ids::DeviceId;
use crate::model::DeviceKind;
use std::path::PathBuf;

/// Who asks; for the audit log and a job's owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Account name.
    pub user: String,
    /// Where the request came from: an address, or `local`.
    pub peer: String,
}

/// A state that a caller asks a machine to be brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateRequest {
    /// Start, restore or resume.
    Run,
    /// Turn off, as by pulling the plug.
    TurnOff,
    /// Ask the guest to shut down: by its agent, or else by the ACPI power button.
    ShutDown,
    /// Hard reset.
    Reset,
    /// Stand still in memory.
    Pause,
    /// Memory to disk.
    Save,
}

/// Changes to the global settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct GlobalChange {
    pub name: Option<String>,
    pub automatic_startup_action: Option<u16>,
    pub automatic_startup_delay_micros: Option<u64>,
    pub automatic_shutdown_action: Option<u16>,
    pub automatic_recovery_action: Option<u16>,
    /// Only when a machine is defined.
    pub external_data_root: Option<PathBuf>,
    pub snapshot_data_root: Option<PathBuf>,
    pub scope_of_residence: Option<String>,
    pub debug_channel_id: Option<u32>,
}

/// Changes to a configuration (active or a snapshot's).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SettingsChange {
    pub name: Option<String>,
    pub notes: Option<String>,
    pub boot_order: Option<[u16; 4]>,
    pub bios_num_lock: Option<bool>,
    pub bios_guid: Option<String>,
    pub bios_serial_number: Option<String>,
    pub base_board_serial_number: Option<String>,
    pub chassis_serial_number: Option<String>,
    pub chassis_asset_tag: Option<String>,
}

/// A device to add.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NewDevice {
    pub kind: DeviceKind,
    pub name: Option<String>,
    pub parent: Option<DeviceId>,
    pub address: Option<String>,
    pub connection: Vec<String>,
    pub static_mac: Option<bool>,
    pub identifiers: Vec<String>,
}

/// A change to one resource of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ResourceChange {
    Memory {
        quantity_mib: Option<u64>,
        reservation_mib: Option<u64>,
        limit_mib: Option<u64>,
        weight: Option<u32>,
        dynamic_memory: Option<bool>,
        target_buffer: Option<u32>,
    },
    Processor {
        count: Option<u64>,
        reservation: Option<u64>,
        limit: Option<u64>,
        weight: Option<u32>,
        limit_cpuid: Option<bool>,
        limit_features: Option<bool>,
    },
    Device {
        id: DeviceId,
        name: Option<String>,
        parent: Option<DeviceId>,
        address: Option<String>,
        connection: Option<Vec<String>>,
        static_mac: Option<bool>,
    },
}
