//! The guest as a libvirt domain: the same machine that the others run.

use std::path::PathBuf;

use super::{Accelerator, MACHINE_TYPE, emulator};
use crate::Failure;
use crate::bench::guest::Guest;

/// Its name.
pub const DOMAIN: &str = "bench";
/// Its disks: the guest's boot disk and its data disk.
pub const DISKS: [&str; 2] = ["hda", "hdb"];

/// Its definition.
pub fn definition(guest: &Guest) -> Result<String, Failure> {
    let emulator = emulator()?;
    let (kind, cpu) = match guest.accelerator {
        Accelerator::Kvm => ("kvm", "<cpu mode='host-passthrough'/>"),
        Accelerator::Tcg => (
            "qemu",
            "<cpu mode='custom' match='exact' check='none'><model>qemu64</model></cpu>",
        ),
    };
    let disk = |file: PathBuf, place: &str| {
        format!(
            "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>\
             <source file='{}'/><target dev='{place}' bus='ide'/></disk>\n",
            file.display()
        )
    };
    let instruments: String = guest
        .instruments()
        .iter()
        .map(|argument| format!("<qemu:arg value='{argument}'/>"))
        .collect();
    Ok(format!(
        "<domain type='{kind}' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>{DOMAIN}</name>
<memory unit='MiB'>{ram}</memory>
<vcpu>1</vcpu>
<os><type arch='x86_64' machine='{MACHINE_TYPE}'>hvm</type></os>
<features><acpi/></features>
{cpu}
<devices>
<emulator>{emulator}</emulator>
{boot}{data}<serial type='unix'><source mode='bind' path='{serial}'/><target port='0'/></serial>
<controller type='usb' model='none'/>
<memballoon model='none'/>
</devices>
<qemu:commandline>{instruments}</qemu:commandline>
</domain>
",
        ram = guest.ram_mib,
        boot = disk(guest.boot_disk(), DISKS[0]),
        data = disk(guest.data_disk(), DISKS[1]),
        serial = guest.serial().display(),
    ))
}
