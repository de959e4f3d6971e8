//! What a value may be.

use crate::error::Error;

/// The least memory that firmware and a boot loader start with.
pub(crate) const LEAST_MEMORY_MIB: u64 = 8;
/// Memory comes in pages of this size.
pub(crate) const MEMORY_STEP_MIB: u64 = 2;
/// The most processors of a machine.
pub(crate) const MOST_PROCESSORS: u64 = 64;
/// The longest name, in characters.
pub(crate) const LONGEST_NAME: usize = 100;
/// The longest notes, in bytes.
pub(crate) const LONGEST_NOTES: usize = 64 * 1024;
/// The longest SMBIOS string, in bytes.
pub(crate) const LONGEST_SMBIOS_TEXT: usize = 64;
/// The most snapshots of a machine.
pub(crate) const MOST_SNAPSHOTS: usize = 100;
/// Slots of an IDE controller.
pub(crate) const IDE_SLOTS: u32 = 2;
/// Slots of a SCSI controller.
pub(crate) const SCSI_SLOTS: u32 = 64;
/// The most SCSI controllers of a machine.
pub(crate) const MOST_SCSI_CONTROLLERS: usize = 4;
/// The most network ports of a machine.
pub(crate) const MOST_ETHERNET_PORTS: usize = 8;
/// The longest path or other connection text, in bytes.
pub(crate) const LONGEST_CONNECTION: usize = 4096;

/// Checks the name of a machine or snapshot.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let reason = if name.trim().is_empty() {
        "it is empty"
    } else if name.chars().count() > LONGEST_NAME {
        "it is longer than 100 characters"
    } else if name.chars().any(char::is_control) {
        "it holds a control character"
    } else {
        return Ok(());
    };
    Err(Error::InvalidName { reason })
}

/// Checks a size of memory against what the host has.
pub(crate) fn check_memory(mib: u64, host_mib: u64) -> Result<(), Error> {
    if (LEAST_MEMORY_MIB..=host_mib).contains(&mib) && mib.is_multiple_of(MEMORY_STEP_MIB) {
        return Ok(());
    }
    Err(Error::InvalidMemory {
        mib,
        least: LEAST_MEMORY_MIB,
        most: host_mib,
    })
}

/// Checks a boot order: 0, 1, 2 and 3, each once.
pub(crate) fn check_boot_order(order: [u16; 4]) -> Result<(), Error> {
    let mut sorted = order;
    sorted.sort_unstable();
    if sorted == [0, 1, 2, 3] {
        Ok(())
    } else {
        Err(Error::InvalidBootOrder)
    }
}

/// Checks a text that the guest's firmware shows.
pub(crate) fn check_smbios_text(field: &'static str, text: &str) -> Result<(), Error> {
    if text.len() <= LONGEST_SMBIOS_TEXT && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::InvalidValue {
        field,
        reason: format!(
            "it is longer than {LONGEST_SMBIOS_TEXT} bytes or holds a control character"
        ),
    })
}

/// Checks a number against a range.
pub(crate) fn check_range(field: &'static str, value: u64, most: u64) -> Result<(), Error> {
    if value <= most {
        return Ok(());
    }
    Err(Error::InvalidValue {
        field,
        reason: format!("{value} is not within 0 to {most}"),
    })
}
