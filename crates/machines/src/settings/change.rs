//! Changing what is there: global settings, the configuration itself, and single resources.

use super::devices::{Medium, checked_connection, find, new_mac, normal_mac};
use super::limits;
use crate::error::Error;
use crate::ids::{DeviceId, MachineId};
use crate::model::{Device, DeviceKind, GlobalSettings, Settings, State};
use crate::request::{GlobalChange, ResourceChange, SettingsChange};
use std::path::Path;

/// What the host allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostLimits {
    /// Memory of the host.
    pub memory_mib: u64,
}

/// Changes the global settings; `defining` allows what can be set only at definition.
pub(crate) fn global(
    now: &GlobalSettings,
    change: &GlobalChange,
    defining: bool,
) -> Result<GlobalSettings, Error> {
    let mut new = now.clone();
    set_action(
        "AutomaticStartupAction",
        &mut new.automatic_startup_action,
        change.automatic_startup_action,
    )?;
    set_action(
        "AutomaticShutdownAction",
        &mut new.automatic_shutdown_action,
        change.automatic_shutdown_action,
    )?;
    set_action(
        "AutomaticRecoveryAction",
        &mut new.automatic_recovery_action,
        change.automatic_recovery_action,
    )?;
    if let Some(delay) = change.automatic_startup_delay_micros {
        new.automatic_startup_delay_micros = delay;
    }
    if let Some(root) = &change.external_data_root {
        if !defining && now.external_data_root.as_ref() != Some(root) {
            return Err(Error::NotChangeable {
                field: "ExternalDataRoot",
                reason: "A machine's place is chosen when it is defined.",
            });
        }
        new.external_data_root = checked_root(root)?;
    }
    if let Some(root) = &change.snapshot_data_root {
        new.snapshot_data_root = checked_root(root)?;
    }
    if let Some(scope) = &change.scope_of_residence {
        if scope.len() > 1024 {
            return Err(Error::InvalidValue {
                field: "ScopeOfResidence",
                reason: "it is longer than 1024 bytes".into(),
            });
        }
        new.scope_of_residence = Some(scope.clone());
    }
    if let Some(id) = change.debug_channel_id {
        new.debug_channel_id = Some(id);
    }
    Ok(new)
}

fn set_action(field: &'static str, value: &mut u16, change: Option<u16>) -> Result<(), Error> {
    if let Some(new) = change {
        limits::check_range(field, new.into(), 2)?;
        *value = new;
    }
    Ok(())
}

/// An empty path means the default.
fn checked_root(root: &Path) -> Result<Option<std::path::PathBuf>, Error> {
    if root.as_os_str().is_empty() {
        return Ok(None);
    }
    if !root.is_absolute() {
        return Err(Error::PathNotAbsolute(root.to_owned()));
    }
    if root.as_os_str().len() > limits::LONGEST_CONNECTION || root.to_str().is_none() {
        return Err(Error::InvalidValue {
            field: "data root",
            reason: "it is too long or not UTF-8".into(),
        });
    }
    Ok(Some(root.to_owned()))
}

/// Changes the configuration itself. Firmware values change only while the machine is off.
pub(crate) fn settings(
    now: &Settings,
    change: &SettingsChange,
    state: State,
) -> Result<Settings, Error> {
    let mut new = now.clone();
    names(&mut new, change)?;
    if let Some(order) = change.boot_order {
        limits::check_boot_order(order)?;
        new.boot_order = order;
    }
    if let Some(on) = change.bios_num_lock {
        new.bios_num_lock = on;
    }
    if let Some(guid) = &change.bios_guid {
        new.bios_guid = guid
            .trim()
            .parse::<MachineId>()
            .map_err(|_| Error::InvalidValue {
                field: "BIOSGUID",
                reason: "it is not a GUID".into(),
            })?;
    }
    set_text(
        "BIOSSerialNumber",
        &mut new.bios_serial_number,
        &change.bios_serial_number,
    )?;
    set_text(
        "BaseBoardSerialNumber",
        &mut new.base_board_serial_number,
        &change.base_board_serial_number,
    )?;
    set_text(
        "ChassisSerialNumber",
        &mut new.chassis_serial_number,
        &change.chassis_serial_number,
    )?;
    set_text(
        "ChassisAssetTag",
        &mut new.chassis_asset_tag,
        &change.chassis_asset_tag,
    )?;
    let firmware_changed = {
        let renamed = Settings {
            name: now.name.clone(),
            notes: now.notes.clone(),
            ..new.clone()
        };
        renamed != *now
    };
    if firmware_changed && state != State::Off {
        return Err(Error::WrongState {
            state,
            verb: "change its firmware settings",
        });
    }
    Ok(new)
}

/// Changes name and notes of a snapshot; anything else must be what it is.
pub(crate) fn snapshot(now: &Settings, change: &SettingsChange) -> Result<Settings, Error> {
    let mut new = now.clone();
    names(&mut new, change)?;
    let frozen = |field| Error::NotChangeable {
        field,
        reason: "A snapshot shows one instant; only its name and notes can change.",
    };
    let differs =
        |given: &Option<String>, there: &str| given.as_deref().is_some_and(|g| g != there);
    if change.boot_order.is_some_and(|o| o != now.boot_order) {
        return Err(frozen("BootOrder"));
    }
    if change
        .bios_num_lock
        .is_some_and(|on| on != now.bios_num_lock)
    {
        return Err(frozen("BIOSNumLock"));
    }
    if change
        .bios_guid
        .as_deref()
        .is_some_and(|g| g.trim().parse::<MachineId>().ok() != Some(now.bios_guid))
    {
        return Err(frozen("BIOSGUID"));
    }
    for (field, given, there) in [
        (
            "BIOSSerialNumber",
            &change.bios_serial_number,
            &now.bios_serial_number,
        ),
        (
            "BaseBoardSerialNumber",
            &change.base_board_serial_number,
            &now.base_board_serial_number,
        ),
        (
            "ChassisSerialNumber",
            &change.chassis_serial_number,
            &now.chassis_serial_number,
        ),
        (
            "ChassisAssetTag",
            &change.chassis_asset_tag,
            &now.chassis_asset_tag,
        ),
    ] {
        if differs(given, there) {
            return Err(frozen(field));
        }
    }
    Ok(new)
}

fn names(new: &mut Settings, change: &SettingsChange) -> Result<(), Error> {
    if let Some(name) = &change.name {
        limits::check_name(name)?;
        new.name = name.clone();
    }
    if let Some(notes) = &change.notes {
        if notes.len() > limits::LONGEST_NOTES {
            return Err(Error::InvalidValue {
                field: "Notes",
                reason: format!("they are longer than {} bytes", limits::LONGEST_NOTES),
            });
        }
        new.notes = notes.replace("\r\n", "\n");
    }
    Ok(())
}

fn set_text(field: &'static str, value: &mut String, change: &Option<String>) -> Result<(), Error> {
    if let Some(new) = change {
        limits::check_smbios_text(field, new)?;
        new.clone_into(value);
    }
    Ok(())
}

/// Changes resources, all or none. `medium` tells what stands behind the new connection of an
/// image device. Answers the changed configuration.
pub(crate) fn resources(
    now: &Settings,
    changes: &[ResourceChange],
    state: State,
    host: HostLimits,
    medium: impl Fn(&DeviceId) -> Option<Medium>,
) -> Result<Settings, Error> {
    let mut new = now.clone();
    let mut seen: Vec<String> = Vec::new();
    for change in changes {
        let key = match change {
            ResourceChange::Memory { .. } => "memory".to_owned(),
            ResourceChange::Processor { .. } => "processor".to_owned(),
            ResourceChange::Device { id, .. } => id.0.to_ascii_lowercase(),
        };
        if seen.contains(&key) {
            return Err(Error::ChangedTwice(key));
        }
        seen.push(key);
        match change {
            ResourceChange::Memory { .. } => memory(&mut new, change, host)?,
            ResourceChange::Processor { .. } => processor(&mut new, change)?,
            ResourceChange::Device { id, .. } => {
                let changed = device(&new, change, id, state, medium(id))?;
                if let Some(place) = new.devices.iter_mut().find(|d| d.id == *id) {
                    *place = changed;
                }
            }
        }
    }
    let hardware = |s: &Settings| {
        (
            s.memory.quantity_mib,
            s.processor.count,
            s.processor.limit_cpuid,
        )
    };
    if hardware(&new) != hardware(now) && state != State::Off {
        return Err(Error::WrongState {
            state,
            verb: "change its memory or processors",
        });
    }
    Ok(new)
}

fn memory(new: &mut Settings, change: &ResourceChange, host: HostLimits) -> Result<(), Error> {
    let ResourceChange::Memory {
        quantity_mib,
        reservation_mib,
        limit_mib,
        weight,
        dynamic_memory,
        target_buffer,
    } = change
    else {
        return Ok(());
    };
    let memory = &mut new.memory;
    if *dynamic_memory == Some(true) {
        return Err(Error::DynamicMemory);
    }
    if let Some(mib) = *quantity_mib {
        limits::check_memory(mib, host.memory_mib)?;
        // Without dynamic memory the three are one; clients that set only the quantity mean all.
        if mib != memory.quantity_mib {
            memory.reservation_mib = mib;
            memory.limit_mib = mib;
        }
        memory.quantity_mib = mib;
    }
    const MOST_MIB: u64 = 16 * 1024 * 1024;
    if let Some(mib) = *reservation_mib {
        limits::check_range("Reservation", mib, MOST_MIB)?;
        memory.reservation_mib = mib;
    }
    if let Some(mib) = *limit_mib {
        limits::check_range("Limit", mib, MOST_MIB)?;
        memory.limit_mib = mib;
    }
    if let Some(weight) = *weight {
        limits::check_range("Weight", weight.into(), 10_000)?;
        memory.weight = weight;
    }
    if let Some(buffer) = *target_buffer {
        limits::check_range("TargetMemoryBuffer", buffer.into(), 2000)?;
        memory.target_buffer = buffer;
    }
    Ok(())
}

fn processor(new: &mut Settings, change: &ResourceChange) -> Result<(), Error> {
    let ResourceChange::Processor {
        count,
        reservation,
        limit,
        weight,
        limit_cpuid,
        limit_features,
    } = change
    else {
        return Ok(());
    };
    let processor = &mut new.processor;
    if let Some(count) = *count {
        processor.count = u32::try_from(count)
            .ok()
            .filter(|c| (1..=limits::MOST_PROCESSORS).contains(&u64::from(*c)))
            .ok_or(Error::InvalidProcessorCount {
                count,
                most: limits::MOST_PROCESSORS,
            })?;
    }
    if let Some(value) = *reservation {
        limits::check_range("Reservation", value, 100_000)?;
        processor.reservation = value;
    }
    if let Some(value) = *limit {
        limits::check_range("Limit", value, 100_000)?;
        processor.limit = value;
    }
    if let Some(value) = *weight {
        limits::check_range("Weight", value.into(), 10_000)?;
        processor.weight = value;
    }
    processor.limit_cpuid = limit_cpuid.unwrap_or(processor.limit_cpuid);
    processor.limit_features = limit_features.unwrap_or(processor.limit_features);
    Ok(())
}

fn device(
    settings: &Settings,
    change: &ResourceChange,
    id: &DeviceId,
    state: State,
    medium: Option<Medium>,
) -> Result<Device, Error> {
    let now = find(settings, id)?;
    let mut new = now.clone();
    let ResourceChange::Device {
        name,
        parent,
        address,
        connection,
        static_mac,
        ..
    } = change
    else {
        return Ok(new);
    };
    if let Some(name) = name {
        if name.chars().count() > 255 {
            return Err(Error::InvalidName {
                reason: "a device's name is longer than 255 characters",
            });
        }
        new.name = name.clone();
    }
    if parent
        .as_ref()
        .is_some_and(|p| now.parent.as_ref() != Some(p))
    {
        return Err(Error::NotChangeable {
            field: "Parent",
            reason: "A device stays where it was plugged in; remove it and add it elsewhere.",
        });
    }
    ethernet_address(&mut new, now, address.as_deref(), *static_mac)?;
    if let Some(connection) = connection {
        reconnect(&mut new, now, connection, medium)?;
    }
    if new.connection != now.connection && new.kind != DeviceKind::EthernetPort {
        super::devices::check_plug(new.kind, state)?;
    }
    if new.address != now.address && state != State::Off {
        return Err(Error::NoHotPlug {
            kind: new.kind,
            state,
        });
    }
    Ok(new)
}

fn ethernet_address(
    new: &mut Device,
    now: &Device,
    address: Option<&str>,
    static_mac: Option<bool>,
) -> Result<(), Error> {
    if now.kind != DeviceKind::EthernetPort {
        let same = address.is_none_or(|a| a.trim() == now.address.as_deref().unwrap_or(""));
        return if same {
            Ok(())
        } else {
            Err(Error::NotChangeable {
                field: "Address",
                reason: "A device keeps its slot; remove it and add it elsewhere.",
            })
        };
    }
    new.static_mac = static_mac.unwrap_or(now.static_mac);
    if new.static_mac {
        if let Some(address) = address {
            new.address = Some(normal_mac(address)?);
        }
    } else if now.static_mac {
        new.address = Some(new_mac());
    }
    Ok(())
}

fn reconnect(
    new: &mut Device,
    now: &Device,
    connection: &[String],
    medium: Option<Medium>,
) -> Result<(), Error> {
    if connection == now.connection {
        return Ok(());
    }
    match now.kind {
        DeviceKind::HardDiskImage | DeviceKind::IsoImage => {
            let medium = medium.ok_or(Error::OneFile(now.kind))?;
            new.connection = vec![medium.given];
            new.layer = medium.layer;
        }
        DeviceKind::SerialPort => new.connection = serial_connection(connection)?,
        DeviceKind::EthernetPort => new.connection = checked_connection(connection)?,
        _ => {
            return Err(Error::NotChangeable {
                field: "Connection",
                reason: "Only images, serial ports and network ports lead somewhere.",
            });
        }
    }
    Ok(())
}

/// Where a serial port leads: nowhere, `unix:/path` (a socket that the machine listens on), or
/// `file:/path` or just `/path` (appended to).
fn serial_connection(connection: &[String]) -> Result<Vec<String>, Error> {
    let given = match connection {
        [] => return Ok(Vec::new()),
        [one] if one.trim().is_empty() => return Ok(Vec::new()),
        [one] => one.trim(),
        _ => return Err(Error::OneFile(DeviceKind::SerialPort)),
    };
    let path = given
        .strip_prefix("unix:")
        .or_else(|| given.strip_prefix("file:"))
        .unwrap_or(given);
    super::devices::image_path(DeviceKind::SerialPort, &[path.to_owned()])?;
    Ok(vec![given.to_owned()])
}
