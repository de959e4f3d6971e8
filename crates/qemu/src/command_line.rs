//! Turns a checked [`LaunchSpec`] into QEMU's arguments.
//!
//! Devices and block nodes are given as JSON, so that no name or path can be read as an option.
//! PCI slots are fixed: 2 the display, 4 to 11 SCSI controllers, 12 to 27 network cards, 28 the
//! guest agent's channel.

use crate::agent;
use crate::nbd::Export;
use crate::process::{LOADING_SOCKET_NAMES, SOCKET_NAMES};
use crate::spec::*;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const DISPLAY_SLOT: u8 = 2;
const FIRST_SCSI_SLOT: u8 = 4;
const FIRST_NIC_SLOT: u8 = 12;
/// The last, so that a guest that gains the channel finds all else where it was.
const CHANNEL_SLOT: u8 = 28;

/// The name of the guest's memory block, which memory images refer to.
pub(crate) const MEMORY_ID: &str = "memory";

/// What QEMU may not do: start programs, gain privileges, change its own scheduling.
pub(crate) const SANDBOX: &str =
    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// The arguments for a valid spec.
pub(crate) fn arguments(spec: &LaunchSpec, sandbox: bool) -> Vec<OsString> {
    let mut line = Line::default();
    line.add(
        "-name",
        format!("guest={},debug-threads=on", escaped(&spec.name)),
    );
    line.add("-uuid", spec.uuid.to_string());
    line.flag("-no-user-config");
    line.flag("-nodefaults");
    line.add("-display", "none");
    line.add(
        "-machine",
        format!("{MACHINE_TYPE},usb=off,dump-guest-core=off,memory-backend={MEMORY_ID}"),
    );
    line.add("-accel", spec.accelerator.as_str());
    line.add("-cpu", escaped(&spec.cpu_model));
    line.add("-smp", spec.vcpus.to_string());
    line.add("-m", format!("{}M", spec.memory.mib));
    line.add("-object", memory_backend(spec.memory).to_string());
    line.add("-rtc", "base=utc");
    line.add("-msg", "timestamp=on");
    if sandbox {
        line.add("-sandbox", SANDBOX);
    }
    smbios(&mut line, &spec.smbios, spec);
    for name in SOCKET_NAMES.into_iter().chain(LOADING_SOCKET_NAMES) {
        let path = escaped(&spec.run_dir.join(name).to_string_lossy());
        line.add("-qmp", format!("unix:{path},server=on,wait=off"));
    }
    // The guest takes its first step only after we have seen that the process is the right one.
    line.flag("-S");
    if spec.start == Start::Incoming {
        line.add("-incoming", "defer");
    }
    line.add(
        "-device",
        json!({"driver": "VGA", "id": "display", "addr": slot(DISPLAY_SLOT, 0)}).to_string(),
    );
    serial_ports(&mut line, &spec.serial_ports);
    let mut boot = BootOrder::of(spec);
    drives(&mut line, spec, &mut boot);
    nics(&mut line, &spec.nics, &mut boot);
    if spec.agent_channel {
        agent_channel(&mut line, spec);
    }
    line.0
        .extend(spec.test_arguments.iter().map(OsString::from));
    line.0
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.into());
    }

    fn add(&mut self, option: &str, value: impl Into<OsString>) {
        self.0.push(option.into());
        self.0.push(value.into());
    }
}

/// QEMU's option syntax: a doubled comma is a comma.
fn escaped(text: &str) -> String {
    text.replace(',', ",,")
}

fn slot(base: u8, index: u8) -> String {
    format!("0x{:x}", base.saturating_add(index))
}

fn memory_backend(memory: Memory) -> Value {
    let size = memory.mib.saturating_mul(1 << 20);
    match memory.backing {
        // "reserve" is what a mapping without "prealloc" relies on: a page that is not there when
        // the guest touches it would end QEMU.
        Backing::Hugetlb => json!({
            "qom-type": "memory-backend-memfd", "id": MEMORY_ID, "size": size,
            "hugetlb": true, "hugetlbsize": 2 << 20, "share": true, "reserve": true,
            "prealloc": memory.prealloc, "prealloc-threads": prealloc_threads(memory),
        }),
        Backing::Transparent => json!({
            "qom-type": "memory-backend-ram", "id": MEMORY_ID, "size": size,
        }),
    }
}

/// Filling memory is bound by the processors up to a point, and each thread wants something to do.
fn prealloc_threads(memory: Memory) -> u64 {
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    processors.min(16).min(memory.mib / 256).max(1)
}

fn smbios(line: &mut Line, smbios: &Smbios, spec: &LaunchSpec) {
    let mut table = |number: u8, fixed: String, fields: &[(&str, &String)]| {
        let mut text = format!("type={number}{fixed}");
        for (name, value) in fields.iter().filter(|(_, v)| !v.is_empty()) {
            text.push_str(&format!(",{name}={}", escaped(value)));
        }
        line.add("-smbios", text);
    };
    table(
        1,
        format!(",uuid={}", spec.uuid),
        &[
            ("manufacturer", &smbios.manufacturer),
            ("product", &smbios.product),
            ("version", &smbios.version),
            ("serial", &smbios.serial_number),
        ],
    );
    if !smbios.base_board_serial_number.is_empty() {
        table(
            2,
            String::new(),
            &[("serial", &smbios.base_board_serial_number)],
        );
    }
    table(
        3,
        String::new(),
        &[
            ("serial", &smbios.chassis_serial_number),
            ("asset", &smbios.chassis_asset_tag),
        ],
    );
}

fn serial_ports(line: &mut Line, ports: &[SerialPort]) {
    for port in ports {
        let id = format!("serial{}", port.index);
        let path = |p: &Path| escaped(&p.to_string_lossy());
        let backend = match &port.connection {
            SerialConnection::Nothing => format!("null,id={id}"),
            SerialConnection::Socket(p) => {
                format!("socket,id={id},path={},server=on,wait=off", path(p))
            }
            SerialConnection::File(p) => format!("file,id={id},path={},append=on", path(p)),
        };
        line.add("-chardev", backend);
        let device = json!({"driver": "isa-serial", "index": port.index, "chardev": id});
        line.add("-device", device.to_string());
    }
}

fn drives(line: &mut Line, spec: &LaunchSpec, boot: &mut BootOrder) {
    let exports = crate::nbd::exports(spec);
    for ide in &spec.ide {
        blocks(line, &ide.drive.medium, &exports);
        let mut device = drive("ide", &ide.drive, boot);
        device["bus"] = json!(format!("ide.{}", ide.channel));
        device["unit"] = json!(ide.unit);
        line.add("-device", device.to_string());
    }
    for controller in &spec.scsi {
        let device = json!({
            "driver": "virtio-scsi-pci", "id": controller.id.as_str(),
            "addr": slot(FIRST_SCSI_SLOT, controller.index),
        });
        line.add("-device", device.to_string());
        for scsi in &controller.drives {
            blocks(line, &scsi.drive.medium, &exports);
            let mut device = drive("scsi", &scsi.drive, boot);
            device["bus"] = json!(format!("{}.0", controller.id));
            device["channel"] = json!(0);
            device["scsi-id"] = json!(0);
            device["lun"] = json!(scsi.lun);
            line.add("-device", device.to_string());
        }
    }
}

/// The device without its place. A failed write stops the guest instead of failing in it (a full
/// disk is no damage: the write is repeated on `cont`); a failed read is the guest's to handle,
/// unless it may be the server of the disk that has failed, and can be started again.
fn drive(bus: &str, drive: &Drive, boot: &mut BootOrder) -> Value {
    let served = |layer: &Layer| crate::nbd::is_served(layer.format);
    let rerror = match drive.medium.layers().iter().any(served) {
        true => "stop",
        false => "report",
    };
    let mut device = json!({
        "id": drive.id.as_str(), "rerror": rerror, "werror": "stop", "write-cache": "on",
    });
    let (kind, class) = match &drive.medium {
        Medium::Disk(_) => ("hd", BootClass::Disk),
        Medium::Cd(_) => ("cd", BootClass::Cd),
    };
    device["driver"] = json!(format!("{bus}-{kind}"));
    if let Some(layer) = drive.medium.layers().last() {
        device["drive"] = json!(layer.node.as_str());
    }
    if let Some(index) = boot.next(class) {
        device["bootindex"] = json!(index);
    }
    device
}

fn blocks(line: &mut Line, medium: &Medium, exports: &[Export]) {
    let mut below: Option<&Layer> = None;
    let layers = medium.layers();
    for (at, layer) in layers.iter().enumerate() {
        let active = matches!(medium, Medium::Disk(_)) && at + 1 == layers.len();
        let mut node = match exports.iter().find(|e| e.node == layer.node) {
            Some(export) => served_node(export),
            None => block_node(layer, !active),
        };
        // Said even where there is nothing below, or QEMU would follow the header's name.
        if layer.format == Format::Qcow2 {
            node["backing"] = json!(below.map(|b| b.node.as_str()));
        }
        line.add("-blockdev", node.to_string());
        below = Some(layer);
    }
}

/// The node of one file, without what is below it.
///
/// The host's page cache is bypassed: a snapshot stops the guest, and that flushes every disk, so
/// what the cache holds then would lengthen the pause; it also would be cached twice. The guest's
/// flushes reach the disk (`no-flush` off). Where the file system has no direct I/O, the cache is
/// used, with the same promise.
pub(crate) fn block_node(layer: &Layer, read_only: bool) -> Value {
    let mut node = json!({
        "node-name": layer.node.as_str(),
        "driver": layer.format.driver(),
        "read-only": read_only,
        "auto-read-only": false,
        "discard": "unmap",
        "cache": {"direct": can_do_direct_io(&layer.path), "no-flush": false},
        "file": {
            "driver": "file",
            "filename": layer.path.to_string_lossy(),
            "locking": "on",
        },
    });
    if !read_only {
        // Else QEMU opens the file anew, and tries out what it can read, whenever writing to it
        // begins or ends: with the guest standing still, for a snapshot.
        node["file"]["read-only"] = json!(false);
        node["file"]["auto-read-only"] = json!(false);
    }
    node
}

/// For how many seconds the guest's reads and writes wait for a server that has ended to be there
/// again, before they fail (which stops the guest).
const RECONNECT_SECONDS: u32 = 5;

/// The node of a file that another process serves.
fn served_node(export: &Export) -> Value {
    json!({
        "node-name": export.node.as_str(),
        "driver": "nbd",
        "read-only": export.read_only,
        "auto-read-only": false,
        "discard": "unmap",
        "cache": {"direct": false, "no-flush": false},
        "server": {"type": "unix", "path": export.socket.to_string_lossy()},
        "export": "",
        "reconnect-delay": RECONNECT_SECONDS,
    })
}

/// Whether the file system of a file can do without the page cache.
pub(crate) fn can_do_direct_io(path: &Path) -> bool {
    let direct = rustix::fs::OFlags::DIRECT.bits();
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(i32::from_ne_bytes(direct.to_ne_bytes()))
        .open(path);
    opened.is_ok()
}

fn nics(line: &mut Line, nics: &[Nic], boot: &mut BootOrder) {
    for nic in nics {
        let mac = nic.mac.map(|byte| format!("{byte:02x}")).join(":");
        // No option ROM: it would be a block of guest memory whose size depends on the host's
        // packages, and nothing can be booted from an unconnected card.
        let mut device = json!({
            "driver": "virtio-net-pci", "id": nic.id.as_str(), "mac": mac,
            "addr": slot(FIRST_NIC_SLOT, nic.index), "romfile": "",
        });
        if let Some(index) = boot.next(BootClass::Network) {
            device["bootindex"] = json!(index);
        }
        line.add("-device", device.to_string());
    }
}

/// The serial channel on which a guest's agent listens.
fn agent_channel(line: &mut Line, spec: &LaunchSpec) {
    let path = spec.run_dir.join(agent::SOCKET_NAME);
    let path = escaped(&path.to_string_lossy());
    let id = agent::CHARDEV;
    line.add(
        "-chardev",
        format!("socket,id={id},path={path},server=on,wait=off"),
    );
    let controller = json!({
        "driver": "virtio-serial-pci", "id": "channels", "addr": slot(CHANNEL_SLOT, 0),
        "max_ports": 2,
    });
    line.add("-device", controller.to_string());
    let port = json!({
        "driver": "virtserialport", "id": "agent-port", "bus": "channels.0", "nr": 1,
        "chardev": id, "name": agent::PORT_NAME,
    });
    line.add("-device", port.to_string());
}

/// Deals out boot positions: all of the first class, then all of the second.
struct BootOrder(Vec<(BootClass, i32)>);

impl BootOrder {
    /// More than one class can have devices.
    const ROOM: i32 = 1024;

    fn of(spec: &LaunchSpec) -> BootOrder {
        let classes = spec.boot_order.iter();
        BootOrder(
            classes
                .zip(0..)
                .map(|(c, n)| (*c, n * Self::ROOM))
                .collect(),
        )
    }

    fn next(&mut self, class: BootClass) -> Option<i32> {
        let (_, index) = self.0.iter_mut().find(|(c, _)| *c == class)?;
        let given = *index;
        *index += 1;
        Some(given)
    }
}
