//! What a new machine holds.

use crate::ids::{DeviceId, MachineId};
use crate::model::{
    Device, DeviceKind, GlobalSettings, MemorySettings, ProcessorSettings, Settings, Timestamp,
};

/// The two IDE controllers, known to clients by these ids.
pub(crate) const IDE_CONTROLLERS: [&str; 2] = [
    "83F8638B-8DCA-4152-9EDA-2CA8B33039B4\\0",
    "83F8638B-8DCA-4152-9EDA-2CA8B33039B4\\1",
];

/// Memory of a new machine, in MiB.
const MEMORY_MIB: u64 = 512;

/// The devices on the board, in the order in which clients see them. The ids other than those of
/// the IDE controllers are our own choice; they never change.
const BOARD: [(DeviceKind, &str, &str); 12] = [
    (
        DeviceKind::Keyboard,
        "3B6D2A1E-7C64-4F0B-9A51-6C0E8D7B1F01",
        "Keyboard",
    ),
    (
        DeviceKind::Ps2Mouse,
        "3B6D2A1E-7C64-4F0B-9A51-6C0E8D7B1F02",
        "PS2 Mouse",
    ),
    (
        DeviceKind::S3Display,
        "3B6D2A1E-7C64-4F0B-9A51-6C0E8D7B1F03",
        "S3 Display Controller",
    ),
    (
        DeviceKind::DisketteDrive,
        "3B6D2A1E-7C64-4F0B-9A51-6C0E8D7B1F05\\0\\0\\D",
        "Diskette Drive",
    ),
    (
        DeviceKind::DisketteController,
        "3B6D2A1E-7C64-4F0B-9A51-6C0E8D7B1F05\\0",
        "Diskette Controller",
    ),
    (
        DeviceKind::SerialController,
        "3B6D2A1E-7C64-4F0B-9A51-6C0E8D7B1F06",
        "Serial Controller",
    ),
    (
        DeviceKind::SerialPort,
        "3B6D2A1E-7C64-4F0B-9A51-6C0E8D7B1F06\\0",
        "COM 1",
    ),
    (
        DeviceKind::SerialPort,
        "3B6D2A1E-7C64-4F0B-9A51-6C0E8D7B1F06\\1",
        "COM 2",
    ),
    (
        DeviceKind::IdeController,
        IDE_CONTROLLERS[0],
        "IDE Controller 0",
    ),
    (
        DeviceKind::IdeController,
        IDE_CONTROLLERS[1],
        "IDE Controller 1",
    ),
    (
        DeviceKind::SyntheticMouse,
        "3B6D2A1E-7C64-4F0B-9A51-6C0E8D7B1F08",
        "Mouse",
    ),
    (
        DeviceKind::SyntheticDisplay,
        "3B6D2A1E-7C64-4F0B-9A51-6C0E8D7B1F09",
        "Synthetic Display Controller",
    ),
];

/// The settings of a new machine.
pub(crate) fn settings(machine: MachineId, name: &str, now: Timestamp) -> Settings {
    Settings {
        name: name.to_owned(),
        notes: String::new(),
        created: now,
        boot_order: [0, 1, 2, 3],
        bios_num_lock: false,
        bios_guid: machine,
        bios_serial_number: machine.to_string(),
        base_board_serial_number: machine.to_string(),
        chassis_serial_number: machine.to_string(),
        chassis_asset_tag: machine.to_string(),
        memory: MemorySettings {
            quantity_mib: MEMORY_MIB,
            reservation_mib: MEMORY_MIB,
            limit_mib: MEMORY_MIB,
            weight: 5000,
            dynamic_memory: false,
            target_buffer: 20,
        },
        processor: ProcessorSettings {
            count: 1,
            reservation: 0,
            limit: 100_000,
            weight: 100,
            limit_cpuid: false,
            limit_features: false,
        },
        agent_channel: true,
        devices: BOARD.iter().map(board_device).collect(),
    }
}

fn board_device((kind, id, name): &(DeviceKind, &str, &str)) -> Device {
    let (parent, address) = match kind {
        DeviceKind::IdeController => (None, id.rsplit('\\').next().map(str::to_owned)),
        DeviceKind::SerialPort => (
            id.rsplit_once('\\').map(|(p, _)| DeviceId(p.to_owned())),
            id.rsplit('\\').next().map(str::to_owned),
        ),
        DeviceKind::DisketteDrive => (
            id.strip_suffix("\\0\\D").map(|p| DeviceId(p.to_owned())),
            Some("0".to_owned()),
        ),
        _ => (None, None),
    };
    Device {
        id: DeviceId((*id).to_owned()),
        kind: *kind,
        name: (*name).to_owned(),
        parent,
        address,
        connection: Vec::new(),
        layer: None,
        static_mac: false,
        identifiers: Vec::new(),
    }
}

/// The global settings of a new machine.
pub(crate) fn global() -> GlobalSettings {
    GlobalSettings {
        automatic_startup_action: 1,
        automatic_startup_delay_micros: 0,
        automatic_shutdown_action: 1,
        automatic_recovery_action: 1,
        external_data_root: None,
        snapshot_data_root: None,
        scope_of_residence: None,
        debug_channel_id: None,
    }
}
