//! From a configuration to what QEMU is launched with. Everything a guest can see follows from the
//! configuration alone, so that a saved state finds the machine that it was taken from.

use super::record::Record;
use super::work::qemu_layer;
use crate::error::Error;
use crate::host::Host;
use crate::ids::DeviceId;
use crate::model::{Device, DeviceKind, Settings};
use qemu::spec::{
    Backing, BootClass, Chain, Drive, Format, Id, IdeDrive, LaunchSpec, Medium, Nic,
    ScsiController, ScsiDrive, SerialConnection, SerialPort, Smbios, Start,
};
use std::path::PathBuf;

/// What the machine is launched with.
pub(crate) fn spec(
    record: &Record,
    host: &Host,
    backing: Backing,
    start: Start,
) -> Result<LaunchSpec, Error> {
    let settings = record.settings.as_ref();
    let mut spec = LaunchSpec::new(
        printable(&settings.name),
        record.id.0,
        host.run_dir(record.id),
    );
    spec.accelerator = host.accelerator.0;
    spec.cpu_model = match spec.accelerator {
        qemu::spec::Accelerator::Kvm => "host".into(),
        qemu::spec::Accelerator::Tcg => "qemu64".into(),
    };
    spec.memory.mib = settings.memory.quantity_mib;
    spec.memory.backing = backing;
    // Memory that comes from elsewhere would only be filled twice.
    spec.memory.prealloc = start != Start::Incoming;
    spec.vcpus = settings.processor.count;
    spec.smbios = Smbios {
        serial_number: settings.bios_serial_number.clone(),
        base_board_serial_number: settings.base_board_serial_number.clone(),
        chassis_serial_number: settings.chassis_serial_number.clone(),
        chassis_asset_tag: settings.chassis_asset_tag.clone(),
        ..Smbios::default()
    };
    spec.boot_order = settings
        .boot_order
        .iter()
        .filter_map(|entry| match entry {
            1 => Some(BootClass::Cd),
            2 => Some(BootClass::Disk),
            3 => Some(BootClass::Network),
            _ => None,
        })
        .collect();
    spec.agent_channel = settings.agent_channel;
    spec.start = start;
    spec.serial_ports = serial_ports(settings);
    for drive in settings.devices.iter().filter(|d| is_drive(d.kind)) {
        let place = place_of(settings, drive)?;
        // An empty disk drive has nothing that a guest could see.
        let Some(medium) = medium_of(record, drive)? else {
            continue;
        };
        let drive = Drive {
            id: place.id()?,
            medium,
        };
        match place {
            Place::Ide { channel, unit } => spec.ide.push(IdeDrive {
                channel,
                unit,
                drive,
            }),
            Place::Scsi { controller, lun } => {
                let index = usize::from(controller);
                while spec.scsi.len() <= index {
                    spec.scsi.push(scsi_controller(spec.scsi.len())?);
                }
                if let Some(controller) = spec.scsi.get_mut(index) {
                    controller.drives.push(ScsiDrive { lun, drive });
                }
            }
        }
    }
    let controllers = of_kind(settings, DeviceKind::ScsiController).count();
    while spec.scsi.len() < controllers {
        spec.scsi.push(scsi_controller(spec.scsi.len())?);
    }
    for (index, port) in of_kind(settings, DeviceKind::EthernetPort).enumerate() {
        spec.nics.push(Nic {
            id: name(format!("nic{index}"))?,
            index: u8::try_from(index).unwrap_or(u8::MAX),
            mac: mac(port)?,
        });
    }
    Ok(spec)
}

/// The name in QEMU of the drive `id`.
pub(crate) fn drive_name(settings: &Settings, id: &DeviceId) -> Result<Id, Error> {
    place_of(settings, crate::settings::devices::find(settings, id)?)?.id()
}

/// The image in a DVD drive, as QEMU wants it.
pub(crate) fn iso_layer(drive: &Id, path: PathBuf) -> Result<qemu::spec::Layer, Error> {
    Ok(qemu::spec::Layer {
        node: name(format!("iso-{drive}"))?,
        format: Format::Raw,
        path,
    })
}

/// Where a drive is plugged in.
enum Place {
    Ide { channel: u8, unit: u8 },
    Scsi { controller: u8, lun: u16 },
}

impl Place {
    fn id(&self) -> Result<Id, Error> {
        name(match self {
            Place::Ide { channel, unit } => format!("ide{channel}-{unit}"),
            Place::Scsi { controller, lun } => format!("scsi{controller}-{lun}"),
        })
    }
}

fn place_of(settings: &Settings, drive: &Device) -> Result<Place, Error> {
    let missing = || Error::NoParent { kind: drive.kind };
    let parent = drive.parent.as_ref().ok_or_else(missing)?;
    let slot: u16 = drive
        .address
        .as_deref()
        .and_then(|a| a.parse().ok())
        .ok_or_else(missing)?;
    let controller = crate::settings::devices::find(settings, parent)?;
    let index = of_kind(settings, controller.kind)
        .position(|d| d.id == controller.id)
        .and_then(|i| u8::try_from(i).ok())
        .ok_or_else(missing)?;
    match controller.kind {
        DeviceKind::IdeController => Ok(Place::Ide {
            channel: index,
            unit: u8::try_from(slot).unwrap_or(u8::MAX),
        }),
        _ => Ok(Place::Scsi {
            controller: index,
            lun: slot,
        }),
    }
}

fn medium_of(record: &Record, drive: &Device) -> Result<Option<Medium>, Error> {
    let devices = &record.settings.devices;
    let image = devices
        .iter()
        .find(|d| d.parent.as_ref() == Some(&drive.id));
    if drive.kind == DeviceKind::DvdDrive {
        let id = drive_name(&record.settings, &drive.id)?;
        let path = image.and_then(|i| i.connection.first()).map(PathBuf::from);
        let layer = path.map(|path| iso_layer(&id, path)).transpose()?;
        return Ok(Some(Medium::Cd(layer)));
    }
    let Some(top) = image.and_then(|i| i.layer) else {
        return Ok(None);
    };
    let layers: Result<Vec<_>, Error> = record.chain(top).into_iter().map(qemu_layer).collect();
    Ok(Some(Medium::Disk(Chain { layers: layers? })))
}

fn scsi_controller(index: usize) -> Result<ScsiController, Error> {
    Ok(ScsiController {
        id: name(format!("scsi{index}"))?,
        index: u8::try_from(index).unwrap_or(u8::MAX),
        drives: Vec::new(),
    })
}

fn serial_ports(settings: &Settings) -> Vec<SerialPort> {
    of_kind(settings, DeviceKind::SerialPort)
        .zip(0u8..)
        .map(|(port, index)| SerialPort {
            index,
            connection: match port.connection.first().map(String::as_str) {
                None | Some("") => SerialConnection::Nothing,
                Some(text) => match text.strip_prefix("unix:") {
                    Some(path) => SerialConnection::Socket(PathBuf::from(path)),
                    None => SerialConnection::File(PathBuf::from(
                        text.strip_prefix("file:").unwrap_or(text),
                    )),
                },
            },
        })
        .collect()
}

fn of_kind(settings: &Settings, kind: DeviceKind) -> impl Iterator<Item = &Device> {
    settings.devices.iter().filter(move |d| d.kind == kind)
}

fn is_drive(kind: DeviceKind) -> bool {
    matches!(kind, DeviceKind::DiskDrive | DeviceKind::DvdDrive)
}

fn mac(port: &Device) -> Result<[u8; 6], Error> {
    let text = port.address.as_deref().unwrap_or("");
    let mut mac = [0u8; 6];
    for (at, byte) in mac.iter_mut().enumerate() {
        *byte = text
            .get(at * 2..at * 2 + 2)
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            .ok_or_else(|| Error::InvalidMac { given: text.into() })?;
    }
    Ok(mac)
}

fn name(text: String) -> Result<Id, Error> {
    Id::new(text).map_err(Error::qemu("Naming a device"))
}

/// A name without what QEMU's command line cannot carry.
fn printable(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars().filter(|c| !c.is_control()) {
        if text.len() + c.len_utf8() > 255 {
            break;
        }
        text.push(c);
    }
    text
}
