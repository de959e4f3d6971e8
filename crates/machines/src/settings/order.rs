//! The order in which clients see the devices of a configuration: the board's devices as they are
//! on every machine; drives and media on IDE between the serial ports and the IDE controllers;
//! then, for each SCSI controller, the drives on it and the controller; network ports last.

use crate::model::{Device, DeviceKind};

/// Brings the devices into that order; devices of one place stay in the order they were added in.
pub(crate) fn arrange(devices: &mut [Device]) {
    let scsi: Vec<_> = devices
        .iter()
        .filter(|d| d.kind == DeviceKind::ScsiController)
        .map(|d| d.id.clone())
        .collect();
    let controller = |device: &Device| {
        // A medium's id and a drive's begin with their controller's.
        scsi.iter().position(|c| {
            let (own, all) = (device.id.0.as_bytes(), c.0.as_bytes());
            own.len() > all.len()
                && own
                    .get(..all.len())
                    .is_some_and(|p| p.eq_ignore_ascii_case(all))
                && own.get(all.len()) == Some(&b'\\')
        })
    };
    let keys: Vec<_> = devices
        .iter()
        .map(|device| place(device, controller(device), &scsi))
        .collect();
    let mut keyed: Vec<_> = keys.into_iter().zip(devices.iter().cloned()).collect();
    keyed.sort_by_key(|(key, _)| *key);
    for (slot, (_, device)) in devices.iter_mut().zip(keyed) {
        *slot = device;
    }
}

/// Where a device stands: group, controller within the group, drives before their controller.
fn place(
    device: &Device,
    on_scsi: Option<usize>,
    scsi: &[crate::ids::DeviceId],
) -> (u8, usize, u8) {
    match device.kind {
        DeviceKind::Keyboard
        | DeviceKind::Ps2Mouse
        | DeviceKind::S3Display
        | DeviceKind::DisketteDrive
        | DeviceKind::DisketteController
        | DeviceKind::SerialController
        | DeviceKind::SerialPort => (0, 0, 0),
        DeviceKind::DiskDrive
        | DeviceKind::DvdDrive
        | DeviceKind::HardDiskImage
        | DeviceKind::IsoImage => match on_scsi {
            None => (1, 0, 0),
            Some(at) => (3, at, 0),
        },
        DeviceKind::IdeController | DeviceKind::SyntheticMouse | DeviceKind::SyntheticDisplay => {
            (2, 0, 0)
        }
        DeviceKind::ScsiController => {
            let at = scsi.iter().position(|c| *c == device.id).unwrap_or(0);
            (3, at, 1)
        }
        DeviceKind::EthernetPort => (4, 0, 0),
    }
}
