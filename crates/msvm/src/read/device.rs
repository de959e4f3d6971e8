//! Logical devices of machines that run. What a class always shows stands in one table; the rest
//! comes from the machine.

use super::resource::is_read_only;
use super::{datetime, texts};
use crate::host::Host;
use crate::subject::{COMPUTER_SYSTEM, Logical, VIDEO_HEAD, logical_class, logical_id};
use cim::instance::InstanceBuilder;
use cim::{CimError, Instance, Value};
use machines::model::{Device, Machine};

/// A value that does not depend on the machine.
#[derive(Clone, Copy)]
enum Fixed {
    Number(u64),
    Flag(bool),
    Text(&'static str),
    Numbers(&'static [u16]),
    Texts(&'static [&'static str]),
}

use Fixed::{Flag, Number, Numbers, Text, Texts};

impl From<Fixed> for Value {
    fn from(fixed: Fixed) -> Value {
        match fixed {
            Number(number) => number.into(),
            Flag(flag) => flag.into(),
            Text(text) => text.into(),
            Numbers(numbers) => numbers.into(),
            Texts(items) => texts(items),
        }
    }
}

/// What a class of devices always shows.
struct Kind {
    class: &'static str,
    caption: &'static str,
    description: &'static str,
    /// `EnabledState`: 2 enabled, 5 not applicable.
    enabled: u16,
    fixed: &'static [(&'static str, Fixed)],
}

/// `Availability` 6, "not applicable", where the class says anything.
const AVAILABILITY: (&str, Fixed) = ("Availability", Number(6));
const DISPLAY: [(&str, Fixed); 7] = [
    ("ProtocolSupported", Number(1)),
    ("MaxNumberControlled", Number(1)),
    ("ProtocolDescription", Text("Video")),
    ("VideoMemoryType", Number(2)),
    ("RequestedState", Number(2)),
    ("AcceleratorCapabilities", Numbers(&[2])),
    ("CapabilityDescriptions", Texts(&["Graphics Accelerator"])),
];

static KINDS: [Kind; 21] = [
    Kind {
        class: "Msvm_Memory",
        caption: "Memory",
        description: "Memory",
        enabled: 5,
        fixed: &[
            ("RequestedState", Number(5)),
            ("DataOrganization", Number(2)),
            ("Purpose", Text("System Memory")),
            ("Access", Number(3)),
            ("IsBasedOnUnderlyingRedundancy", Flag(false)),
            ("SequentialAccess", Flag(false)),
            ("ExtentStatus", Numbers(&[2])),
            ("NoSinglePointOfFailure", Flag(false)),
            ("DataRedundancy", Number(1)),
            ("PackageRedundancy", Number(0)),
            ("DeltaReservation", Number(0)),
            ("Primordial", Flag(false)),
            ("NameFormat", Number(0)),
            ("NameNamespace", Number(0)),
            ("Volatile", Flag(true)),
            ("StartingAddress", Number(0)),
            ("BlockSize", Number(MIB)),
        ],
    },
    Kind {
        class: "Msvm_Processor",
        caption: "Processor",
        description: "Microsoft Virtual Processor",
        enabled: 5,
        fixed: &[
            AVAILABILITY,
            ("RequestedState", Number(5)),
            ("EnabledDefault", Number(5)),
            ("Role", Text("Virtual Processor")),
            ("UpgradeMethod", Number(6)),
            ("CPUStatus", Number(1)),
        ],
    },
    Kind {
        class: "Msvm_ShutdownComponent",
        caption: "Shutdown",
        description: "Microsoft Shutdown Service",
        enabled: 2,
        fixed: &[("EnabledDefault", Number(7))],
    },
    Kind {
        class: "Msvm_HeartbeatComponent",
        caption: "Heartbeat",
        description: "Microsoft Heartbeat Service",
        enabled: 2,
        fixed: &[("EnabledDefault", Number(7))],
    },
    Kind {
        class: "Msvm_KvpExchangeComponent",
        caption: "Key-Value Pair Exchange",
        description: "Microsoft Key-Value Pair Exchange Component",
        enabled: 2,
        fixed: &[("EnabledDefault", Number(7))],
    },
    Kind {
        class: "Msvm_Keyboard",
        caption: "Keyboard",
        description: "Microsoft Virtual Keyboard",
        enabled: 5,
        fixed: &[
            ("IsLocked", Flag(false)),
            ("Layout", Text("00000409")),
            ("NumberOfFunctionKeys", Number(12)),
            ("Password", Number(5)),
        ],
    },
    Kind {
        class: "Msvm_Ps2Mouse",
        caption: "Mouse",
        description: "Microsoft Emulated Mouse",
        enabled: 2,
        fixed: &[
            ("IsLocked", Flag(false)),
            ("PointingType", Number(3)),
            ("NumberOfButtons", Number(5)),
            ("Handedness", Number(2)),
            ("AbsoluteCoordinates", Flag(false)),
        ],
    },
    Kind {
        class: "Msvm_SyntheticMouse",
        caption: "Mouse",
        description: "Microsoft Synthetic Mouse",
        enabled: 2,
        fixed: &[
            ("IsLocked", Flag(false)),
            ("PointingType", Number(3)),
            ("NumberOfButtons", Number(5)),
            ("Handedness", Number(2)),
            ("AbsoluteCoordinates", Flag(true)),
        ],
    },
    Kind {
        class: "Msvm_S3DisplayController",
        caption: "Display Controller",
        description: "Microsoft Emulated Display Controller",
        enabled: 2,
        fixed: &DISPLAY,
    },
    Kind {
        class: "Msvm_SyntheticDisplayController",
        caption: "Display Controller",
        description: "Microsoft Synthetic Display Controller",
        enabled: 2,
        fixed: &DISPLAY,
    },
    Kind {
        class: VIDEO_HEAD,
        caption: "Video Head",
        description: "Microsoft Virtual Video Head",
        enabled: 2,
        fixed: &[AVAILABILITY],
    },
    Kind {
        class: "Msvm_DisketteDrive",
        caption: "Diskette Drive",
        description: "Microsoft Virtual Diskette Drive",
        enabled: 5,
        fixed: &[
            AVAILABILITY,
            ("CompressionMethod", Text("Not Compressed")),
            ("DefaultBlockSize", Number(512)),
            ("MaxBlockSize", Number(512)),
            ("MinBlockSize", Number(512)),
            ("NeedsCleaning", Flag(false)),
            ("Security", Number(3)),
            ("NumberOfMediaSupported", Number(1)),
            ("MediaIsLocked", Flag(false)),
            ("MaxMediaSize", Number(1440)),
        ],
    },
    Kind {
        class: "Msvm_DisketteController",
        caption: "Diskette Controller",
        description: "Microsoft Virtual Diskette Controller",
        enabled: 5,
        fixed: &[
            AVAILABILITY,
            ("ProtocolSupported", Number(7)),
            ("MaxNumberControlled", Number(1)),
            ("ProtocolDescription", Text("Diskette Protocol")),
        ],
    },
    Kind {
        class: "Msvm_SerialController",
        caption: "Serial Controller",
        description: "Microsoft Virtual Serial Controller",
        enabled: 5,
        fixed: &[
            ("ProtocolSupported", Number(26)),
            ("MaxNumberControlled", Number(2)),
            ("Capabilities", Numbers(&[5])),
            ("CapabilitiesDescriptions", Texts(&["16550 compatible"])),
            ("Security", Number(3)),
            ("MaxBaudRate", Number(115_200)),
        ],
    },
    Kind {
        class: "Msvm_SerialPort",
        caption: "Serial Port",
        description: "Microsoft Virtual Serial Port",
        enabled: 5,
        fixed: &[
            ("Speed", Number(115_200)),
            ("MaxSpeed", Number(115_200)),
            ("RequestedSpeed", Number(115_200)),
            ("UsageRestriction", Number(4)),
            ("PortType", Number(1)),
            ("OtherPortType", Text("Serial Port")),
        ],
    },
    Kind {
        class: "Msvm_IDEController",
        caption: "IDE Controller",
        description: "Microsoft Emulated IDE Controller",
        enabled: 5,
        fixed: &[AVAILABILITY, ("MaxNumberControlled", Number(2))],
    },
    Kind {
        class: "Msvm_SCSIProtocolController",
        caption: "SCSI Controller",
        description: "Microsoft Virtual SCSI Controller",
        enabled: 5,
        fixed: &[
            AVAILABILITY,
            ("MaxUnitsControlled", Number(64)),
            ("NameFormat", Number(0)),
        ],
    },
    Kind {
        class: "Msvm_DiskDrive",
        caption: "Disk Drive",
        description: "Microsoft Virtual Hard Drive",
        enabled: 5,
        fixed: &[
            AVAILABILITY,
            ("CompressionMethod", Text("Not Compressed")),
            ("DefaultBlockSize", Number(512)),
            ("MaxBlockSize", Number(512)),
            ("MinBlockSize", Number(512)),
            ("NeedsCleaning", Flag(false)),
            ("Security", Number(3)),
            ("NumberOfMediaSupported", Number(1)),
            ("MediaIsLocked", Flag(true)),
        ],
    },
    Kind {
        class: "Msvm_DVDDrive",
        caption: "DVD Drive",
        description: "Microsoft Virtual DVD Drive",
        enabled: 5,
        fixed: &[
            AVAILABILITY,
            ("CompressionMethod", Text("Not Compressed")),
            ("DefaultBlockSize", Number(2048)),
            ("MaxBlockSize", Number(2048)),
            ("MinBlockSize", Number(2048)),
            ("NeedsCleaning", Flag(false)),
            ("Security", Number(3)),
            ("NumberOfMediaSupported", Number(1)),
            ("MediaIsLocked", Flag(false)),
            ("MaxMediaSize", Number(9_400_000)),
        ],
    },
    Kind {
        class: "Msvm_LogicalDisk",
        caption: "Hard Disk Image",
        description: "Hard Disk Image",
        enabled: 5,
        fixed: &[
            AVAILABILITY,
            ("DataOrganization", Number(2)),
            ("ConsumableBlocks", Number(0)),
            ("IsBasedOnUnderlyingRedundancy", Flag(false)),
            ("ExtentStatus", Numbers(&[2])),
            ("NoSinglePointOfFailure", Flag(false)),
            ("DataRedundancy", Number(0)),
            ("PackageRedundancy", Number(0)),
            ("DeltaReservation", Number(0)),
            ("Primordial", Flag(false)),
            ("NameFormat", Number(12)),
            ("NameNamespace", Number(8)),
        ],
    },
    Kind {
        class: "Msvm_SyntheticEthernetPort",
        caption: "Ethernet Port",
        description: "Microsoft Synthetic Ethernet Port",
        enabled: 5,
        fixed: &[
            AVAILABILITY,
            ("MaxSpeed", Number(GIGABIT)),
            ("RequestedSpeed", Number(GIGABIT)),
            ("Speed", Number(GIGABIT)),
            ("PortNumber", Number(0)),
            ("FullDuplex", Flag(true)),
            ("AutoSense", Flag(true)),
            ("SupportedMaximumTransmissionUnit", Number(1500)),
            ("ActiveMaximumTransmissionUnit", Number(1500)),
            ("UsageRestriction", Number(4)),
            ("OtherPortType", Text("Virtual Ethernet")),
            ("LinkTechnology", Number(2)),
            ("PortType", Number(1)),
            ("MaxDataSize", Number(1500)),
        ],
    },
];

const MIB: u64 = 1024 * 1024;
const GIGABIT: u64 = 1_000_000_000;

impl Host {
    pub(super) fn device_instance(
        &self,
        machine: &Machine,
        logical: Logical,
    ) -> Result<Instance, CimError> {
        let class = logical_class(machine, logical);
        let kind = KINDS.iter().find(|kind| kind.class == class);
        let items = match logical {
            Logical::KeyValues => self.intrinsic_items(machine.id)?,
            _ => Value::Null,
        };
        self.named(class, |new| {
            let mut new = identify(machine, logical, class, new);
            if let Some(kind) = kind {
                new = new
                    .set("Caption", kind.caption)
                    .set("Description", kind.description)
                    .set("ElementName", kind.caption)
                    .set("Name", kind.caption)
                    .set("EnabledState", kind.enabled);
                for (name, value) in kind.fixed {
                    // V2 has not kept all of them.
                    new = new.set_if_declared(name, *value);
                }
            }
            match logical {
                Logical::Memory => memory(machine, new),
                Logical::Processor(_) | Logical::Shutdown => new,
                Logical::VideoHead(_) => self.with_resolution(machine, new),
                Logical::Heartbeat => self.with_contact(machine.id, new),
                Logical::KeyValues => self
                    .with_contact(machine.id, new)
                    .set("GuestExchangeItems", Value::Array(Vec::new()))
                    .set("GuestIntrinsicExchangeItems", items),
                Logical::Device(index) => match machine.settings.devices.get(index) {
                    Some(device) => configured(machine, device, new),
                    None => new,
                },
            }
        })
    }
}

/// The screen of a display that nobody has looked at yet: VGA's graphics mode, as the drivers of
/// clients suppose, too.
const VGA: (usize, usize) = (640, 480);

impl Host {
    fn with_resolution<'a>(
        &self,
        machine: &Machine,
        new: InstanceBuilder<'a>,
    ) -> InstanceBuilder<'a> {
        let (width, height) = self.machines.screen_size(machine.id).unwrap_or(VGA);
        let pixels = |side: usize| u32::try_from(side).ok();
        new.set("CurrentHorizontalResolution", pixels(width))
            .set("CurrentVerticalResolution", pixels(height))
    }
}

fn identify<'a>(
    machine: &Machine,
    logical: Logical,
    class: &str,
    new: InstanceBuilder<'a>,
) -> InstanceBuilder<'a> {
    new.set("SystemCreationClassName", COMPUTER_SYSTEM)
        .set("SystemName", machine.id.to_string())
        .set("CreationClassName", class)
        .set("DeviceID", logical_id(machine, logical))
        .set("OperationalStatus", vec![2u16])
        .set("StatusDescriptions", texts(["OK"]))
        .set("HealthState", 5u16)
        .set("RequestedState", 12u16)
        .set("EnabledDefault", 2u16)
        .set("AdditionalAvailability", vec![6u16])
        .set_if_declared("LocationIndicator", 4u16)
        .set("InstallDate", datetime(machine.created))
}

fn memory<'a>(machine: &Machine, new: InstanceBuilder<'a>) -> InstanceBuilder<'a> {
    let mib = machine.settings.memory.quantity_mib;
    new.set("Name", machine.id.to_string())
        .set("NumberOfBlocks", mib)
        .set("ConsumableBlocks", mib)
        .set("EndingAddress", (mib * MIB).saturating_sub(1))
}

/// What the configuration says of the device.
fn configured<'a>(
    machine: &Machine,
    device: &Device,
    new: InstanceBuilder<'a>,
) -> InstanceBuilder<'a> {
    use machines::model::DeviceKind;
    let new = new.set("ElementName", device.name.as_str());
    match device.kind {
        DeviceKind::HardDiskImage | DeviceKind::IsoImage => new
            .set("Caption", device.name.as_str())
            .set("Description", device.name.as_str())
            .set("Name", device.connection.first().map(String::as_str))
            // Readable only, or readable and writable.
            .set("Access", if is_read_only(device.kind) { 1u16 } else { 3 })
            .set("SequentialAccess", false),
        DeviceKind::EthernetPort => {
            let address = device.address.as_deref();
            new.set("PermanentAddress", address).set(
                "NetworkAddresses",
                address
                    .map(|address| texts([address]))
                    .unwrap_or(Value::Null),
            )
        }
        DeviceKind::SerialPort => new.set("Caption", device.name.as_str()),
        DeviceKind::S3Display | DeviceKind::SyntheticDisplay => {
            new.set("TimeOfLastStateChange", datetime(machine.state_changed))
        }
        _ => new,
    }
}
