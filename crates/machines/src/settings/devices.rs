//! Adding, changing and removing devices of a configuration.

use super::limits;
use super::order::arrange;
use crate::error::Error;
use crate::ids::{DeviceId, LayerId};
use crate::model::{Device, DeviceKind, Settings, State};
use crate::request::NewDevice;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// A file that an image device is to stand for, looked at before.
#[derive(Clone, Debug)]
pub(crate) struct Medium {
    /// As the client wrote it.
    pub given: String,
    /// Hard disk images: the layer that stands for the file.
    pub layer: Option<LayerId>,
}

/// Checks `kind` against the state: what may be plugged while the machine is not off.
pub(crate) fn check_plug(kind: DeviceKind, state: State) -> Result<(), Error> {
    let change_of_medium = kind == DeviceKind::IsoImage && state == State::Running;
    if state == State::Off || change_of_medium {
        return Ok(());
    }
    Err(Error::NoHotPlug { kind, state })
}

/// Adds a device and answers its id. `medium` is given for image devices.
pub(crate) fn add(
    settings: &mut Settings,
    new: &NewDevice,
    medium: Option<Medium>,
) -> Result<DeviceId, Error> {
    let id = match new.kind {
        DeviceKind::ScsiController => add_scsi_controller(settings, new)?,
        DeviceKind::DiskDrive | DeviceKind::DvdDrive => add_drive(settings, new)?,
        DeviceKind::HardDiskImage | DeviceKind::IsoImage => add_image(settings, new, medium)?,
        DeviceKind::EthernetPort => add_ethernet_port(settings, new)?,
        other => return Err(Error::NotAddable(other)),
    };
    arrange(&mut settings.devices);
    Ok(id)
}

/// Removes devices, all or none; answers what was removed.
pub(crate) fn remove(settings: &mut Settings, ids: &[DeviceId]) -> Result<Vec<Device>, Error> {
    for id in ids {
        let device = find(settings, id)?;
        if is_board(device.kind) {
            return Err(Error::NotRemovable(device.id.clone()));
        }
        let child = settings
            .devices
            .iter()
            .find(|d| d.parent.as_ref() == Some(id) && !ids.contains(&d.id));
        if let Some(child) = child {
            return Err(Error::HasChildren {
                device: id.clone(),
                child: child.id.clone(),
            });
        }
    }
    let (gone, kept) = std::mem::take(&mut settings.devices)
        .into_iter()
        .partition(|d| ids.contains(&d.id));
    settings.devices = kept;
    Ok(gone)
}

/// The device with this id.
pub(crate) fn find<'a>(settings: &'a Settings, id: &DeviceId) -> Result<&'a Device, Error> {
    settings
        .devices
        .iter()
        .find(|d| d.id == *id)
        .ok_or_else(|| Error::NoSuchDevice(id.clone()))
}

/// Whether every machine has these devices, none may be added and none removed.
pub(crate) fn is_board(kind: DeviceKind) -> bool {
    !matches!(
        kind,
        DeviceKind::ScsiController
            | DeviceKind::DiskDrive
            | DeviceKind::DvdDrive
            | DeviceKind::HardDiskImage
            | DeviceKind::IsoImage
            | DeviceKind::EthernetPort
    )
}

/// The one file that an image device names: absolute, and of a length we keep.
pub(crate) fn image_path(kind: DeviceKind, connection: &[String]) -> Result<PathBuf, Error> {
    let [path] = connection else {
        return Err(Error::OneFile(kind));
    };
    let trimmed = path.trim();
    if trimmed.is_empty() {
        return Err(Error::OneFile(kind));
    }
    if trimmed.len() > limits::LONGEST_CONNECTION || trimmed.contains('\0') {
        return Err(Error::InvalidValue {
            field: "Connection",
            reason: "it is too long for a path or holds a zero byte".into(),
        });
    }
    let path = Path::new(trimmed);
    if !path.is_absolute() {
        return Err(Error::PathNotAbsolute(path.to_owned()));
    }
    Ok(path.to_owned())
}

/// A MAC address as twelve upper-case hexadecimal digits.
pub(crate) fn normal_mac(given: &str) -> Result<String, Error> {
    let digits: String = given
        .chars()
        .filter(|c| !matches!(c, ':' | '-' | '.' | ' '))
        .collect::<String>()
        .to_ascii_uppercase();
    let refused = || Error::InvalidMac {
        given: given.chars().take(64).collect(),
    };
    if digits.len() != 12 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(refused());
    }
    let first = digits.get(..2).and_then(|t| u8::from_str_radix(t, 16).ok());
    match first {
        Some(byte) if byte & 1 == 0 => Ok(digits),
        _ => Err(refused()),
    }
}

/// A new MAC address of the kind that Hyper-V hands out: its maker's prefix and random digits.
pub(crate) fn new_mac() -> String {
    let random = Uuid::new_v4();
    let mut mac = String::from("00155D");
    for byte in random.as_bytes().iter().take(3) {
        mac.push_str(&format!("{byte:02X}"));
    }
    mac
}

fn add_scsi_controller(settings: &mut Settings, new: &NewDevice) -> Result<DeviceId, Error> {
    check_count(settings, new.kind, limits::MOST_SCSI_CONTROLLERS)?;
    let guid = chosen_guid(settings, new);
    let id = DeviceId(format!("{}\\0", upper(guid)));
    push(settings, new, &id, "SCSI Controller", None, None, guid);
    Ok(id)
}

fn add_ethernet_port(settings: &mut Settings, new: &NewDevice) -> Result<DeviceId, Error> {
    check_count(settings, new.kind, limits::MOST_ETHERNET_PORTS)?;
    let given = new
        .address
        .as_deref()
        .map(str::trim)
        .filter(|a| !a.is_empty());
    let fixed = new.static_mac.unwrap_or(given.is_some());
    let mac = match given {
        Some(address) if fixed => normal_mac(address)?,
        _ => new_mac(),
    };
    let guid = chosen_guid(settings, new);
    let id = DeviceId(upper(guid));
    push(settings, new, &id, "Ethernet Port", None, Some(mac), guid);
    if let Some(port) = settings.devices.last_mut() {
        port.static_mac = fixed;
        port.connection = checked_connection(&new.connection)?;
    }
    Ok(id)
}

fn add_drive(settings: &mut Settings, new: &NewDevice) -> Result<DeviceId, Error> {
    let parent = parent_of(settings, new)?;
    let slots = match parent.kind {
        DeviceKind::IdeController => limits::IDE_SLOTS,
        DeviceKind::ScsiController => limits::SCSI_SLOTS,
        other => return Err(wrong_parent(new.kind, parent, other)),
    };
    let parent = parent.id.clone();
    let slot = match new.address.as_deref().map(str::trim) {
        None | Some("") => (0..slots)
            .find(|slot| on_slot(settings, &parent, *slot).is_none())
            .ok_or_else(|| Error::NoFreeSlot(parent.clone()))?,
        Some(text) => free_slot(settings, &parent, text, slots)?,
    };
    let name = match new.kind {
        DeviceKind::DvdDrive => "DVD Drive",
        _ => "Hard Drive",
    };
    let id = DeviceId(format!("{parent}\\{slot}\\D"));
    let address = Some(slot.to_string());
    push(
        settings,
        new,
        &id,
        name,
        Some(parent),
        address,
        Uuid::new_v4(),
    );
    Ok(id)
}

fn add_image(
    settings: &mut Settings,
    new: &NewDevice,
    medium: Option<Medium>,
) -> Result<DeviceId, Error> {
    let parent = parent_of(settings, new)?;
    let (wanted, name) = match new.kind {
        DeviceKind::IsoImage => (DeviceKind::DvdDrive, "ISO Disk Image"),
        _ => (DeviceKind::DiskDrive, "Hard Disk Image"),
    };
    if parent.kind != wanted {
        return Err(wrong_parent(new.kind, parent, parent.kind));
    }
    let parent = parent.id.clone();
    let address = new.address.as_deref().map(str::trim).unwrap_or("");
    if !address.is_empty() {
        free_slot(settings, &parent, address, 1)?;
    }
    if let Some(other) = settings
        .devices
        .iter()
        .find(|d| d.parent.as_ref() == Some(&parent))
    {
        return Err(Error::SlotTaken {
            parent,
            slot: 0,
            taken_by: other.id.clone(),
        });
    }
    let medium = medium.ok_or(Error::OneFile(new.kind))?;
    let place = parent.0.strip_suffix("\\D").unwrap_or(&parent.0);
    let id = DeviceId(format!("{place}\\L"));
    push(settings, new, &id, name, Some(parent), None, Uuid::new_v4());
    if let Some(image) = settings.devices.last_mut() {
        image.connection = vec![medium.given];
        image.layer = medium.layer;
    }
    Ok(id)
}

fn push(
    settings: &mut Settings,
    new: &NewDevice,
    id: &DeviceId,
    default_name: &str,
    parent: Option<DeviceId>,
    address: Option<String>,
    guid: Uuid,
) {
    let given = new.name.as_deref().filter(|n| !n.trim().is_empty());
    let identifiers = if new.identifiers.is_empty() {
        vec![format!("{{{}}}", upper(guid))]
    } else {
        new.identifiers.clone()
    };
    settings.devices.push(Device {
        id: id.clone(),
        kind: new.kind,
        name: given.unwrap_or(default_name).chars().take(255).collect(),
        parent,
        address,
        connection: Vec::new(),
        layer: None,
        static_mac: false,
        identifiers,
    });
}

fn parent_of<'a>(settings: &'a Settings, new: &NewDevice) -> Result<&'a Device, Error> {
    match &new.parent {
        None => Err(Error::NoParent { kind: new.kind }),
        Some(parent) => find(settings, parent),
    }
}

fn wrong_parent(kind: DeviceKind, parent: &Device, parent_kind: DeviceKind) -> Error {
    Error::WrongParent {
        kind,
        parent: parent.id.clone(),
        parent_kind,
    }
}

fn free_slot(settings: &Settings, parent: &DeviceId, text: &str, slots: u32) -> Result<u32, Error> {
    let slot = match text.parse::<u32>() {
        Ok(slot) if slot < slots => slot,
        _ => {
            return Err(Error::NoSuchSlot {
                parent: parent.clone(),
                slot: text.chars().take(64).collect(),
                last: slots.saturating_sub(1),
            });
        }
    };
    match on_slot(settings, parent, slot) {
        None => Ok(slot),
        Some(other) => Err(Error::SlotTaken {
            parent: parent.clone(),
            slot,
            taken_by: other.id.clone(),
        }),
    }
}

fn on_slot<'a>(settings: &'a Settings, parent: &DeviceId, slot: u32) -> Option<&'a Device> {
    let slot = slot.to_string();
    settings
        .devices
        .iter()
        .find(|d| d.parent.as_ref() == Some(parent) && d.address.as_deref() == Some(&slot))
}

fn check_count(settings: &Settings, kind: DeviceKind, most: usize) -> Result<(), Error> {
    let there = settings.devices.iter().filter(|d| d.kind == kind).count();
    if there < most {
        return Ok(());
    }
    Err(Error::TooManyDevices { kind, most })
}

/// The first identifier that the client gave, if it is a GUID that no device has yet; else a new
/// one.
fn chosen_guid(settings: &Settings, new: &NewDevice) -> Uuid {
    let given = new
        .identifiers
        .first()
        .and_then(|text| Uuid::parse_str(text.trim()).ok());
    let taken = |guid: Uuid| {
        let text = upper(guid);
        settings
            .devices
            .iter()
            .any(|d| d.id.0.to_ascii_uppercase().starts_with(&text))
    };
    given
        .filter(|g| !g.is_nil() && !taken(*g))
        .unwrap_or_else(Uuid::new_v4)
}

/// A connection that is only stored.
pub(crate) fn checked_connection(connection: &[String]) -> Result<Vec<String>, Error> {
    let fits = connection.len() <= 8
        && connection
            .iter()
            .all(|c| c.len() <= limits::LONGEST_CONNECTION && !c.chars().any(char::is_control));
    if fits {
        return Ok(connection.to_vec());
    }
    Err(Error::InvalidValue {
        field: "Connection",
        reason: "it has more than 8 entries, or one that is too long or holds a control character"
            .into(),
    })
}

fn upper(guid: Uuid) -> String {
    guid.hyphenated().to_string().to_ascii_uppercase()
}
