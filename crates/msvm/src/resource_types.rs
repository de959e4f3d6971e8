//! The kinds of resources a configuration is made of, as Hyper-V's classes show them: one table,
//! with the names and numbers that a kind has in each version.
//!
//! Names, types, units and pool identities of the rows that have templates are those that a real
//! host answers; the others have no pool and no template, because nothing of their kind can be
//! added to a virtual machine.

use crate::version::Version;
use machines::model::DeviceKind;

/// The class that shows resources of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResourceClass {
    Generic,
    Memory,
    Processor,
    EthernetPort,
    /// V2 only, as all that follow.
    Storage,
    SyntheticDisplay,
    EthernetConnection,
}

impl ResourceClass {
    /// The classes of a version, in the order in which their resources are listed. Clients that
    /// ask for the generic class stop at the first resource of another one, so it stands first
    /// among those that V2 split from it.
    pub(crate) const fn all(version: Version) -> &'static [ResourceClass] {
        match version {
            Version::V1 => &[
                ResourceClass::Memory,
                ResourceClass::Processor,
                ResourceClass::Generic,
                ResourceClass::EthernetPort,
            ],
            Version::V2 => &[
                ResourceClass::Memory,
                ResourceClass::Processor,
                ResourceClass::Generic,
                ResourceClass::Storage,
                ResourceClass::SyntheticDisplay,
                ResourceClass::EthernetPort,
                ResourceClass::EthernetConnection,
            ],
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            ResourceClass::Generic => "Msvm_ResourceAllocationSettingData",
            ResourceClass::Memory => "Msvm_MemorySettingData",
            ResourceClass::Processor => "Msvm_ProcessorSettingData",
            ResourceClass::EthernetPort => "Msvm_SyntheticEthernetPortSettingData",
            ResourceClass::Storage => "Msvm_StorageAllocationSettingData",
            ResourceClass::SyntheticDisplay => "Msvm_SyntheticDisplayControllerSettingData",
            ResourceClass::EthernetConnection => "Msvm_EthernetPortAllocationSettingData",
        }
    }

    pub(crate) fn from_name(version: Version, name: &str) -> Option<Self> {
        Self::all(version)
            .iter()
            .copied()
            .find(|class| class.name().eq_ignore_ascii_case(name))
    }

    /// The class that a resource has in a version.
    const fn of(version: Version, resource: Resource) -> Self {
        match (version, resource) {
            (_, Resource::Memory) => ResourceClass::Memory,
            (_, Resource::Processor) => ResourceClass::Processor,
            (_, Resource::Device(DeviceKind::EthernetPort)) => ResourceClass::EthernetPort,
            (_, Resource::EthernetConnection) => ResourceClass::EthernetConnection,
            (Version::V2, Resource::Device(DeviceKind::HardDiskImage | DeviceKind::IsoImage)) => {
                ResourceClass::Storage
            }
            (Version::V2, Resource::Device(DeviceKind::SyntheticDisplay)) => {
                ResourceClass::SyntheticDisplay
            }
            _ => ResourceClass::Generic,
        }
    }
}

/// What a resource type stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Memory,
    Processor,
    /// A disk of the host handed through. It can be named but not added.
    PhysicalDisk,
    /// V2: where a network port leads. In V1 it is a property of the port.
    EthernetConnection,
    Device(DeviceKind),
}

/// Which of a type's four templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Default,
    Minimum,
    Maximum,
    Increment,
}

impl Bound {
    /// In the order in which a host lists them.
    pub(crate) const ALL: [Bound; 4] = [
        Bound::Default,
        Bound::Minimum,
        Bound::Maximum,
        Bound::Increment,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Bound::Default => "Default",
            Bound::Minimum => "Minimum",
            Bound::Maximum => "Maximum",
            Bound::Increment => "Increment",
        }
    }

    /// `ValueRole` and `ValueRange` of Msvm_SettingsDefineCapabilities: default or supported, and
    /// point, minimums, maximums, increments.
    pub(crate) const fn role_and_range(self) -> (u16, u16) {
        match self {
            Bound::Default => (0, 0),
            Bound::Minimum => (3, 1),
            Bound::Maximum => (3, 2),
            Bound::Increment => (3, 3),
        }
    }
}

/// The pool that resources of a type come from, and its templates.
#[derive(Debug)]
pub(crate) struct Pool {
    /// The type's GUID, as it stands in the templates' `InstanceID`.
    pub guid: &'static str,
    /// `PoolID` of the pool and of everything allocated from it.
    pub id: &'static str,
    /// Name of the pool.
    pub name: &'static str,
    /// Smallest, largest and step of `VirtualQuantity`. `None`: what the host has.
    pub range: (u64, Option<u64>, u64),
}

/// What a type is called in one version.
#[derive(Debug)]
pub(crate) struct Naming {
    pub class: ResourceClass,
    pub number: u16,
    pub sub_type: Option<&'static str>,
    pub other_type: Option<&'static str>,
}

/// One row of the table.
#[derive(Debug)]
pub(crate) struct ResourceType {
    pub resource: Resource,
    v1: Naming,
    v2: Naming,
    /// Whether the type does not exist in V1.
    only_v2: bool,
    /// `Caption`, and `ElementName` of templates.
    pub caption: &'static str,
    pub description: &'static str,
    pub units: Option<&'static str>,
    pub pool: Option<Pool>,
}

const fn naming(
    version: Version,
    resource: Resource,
    (number, sub_type): (u16, &'static str),
) -> Naming {
    Naming {
        class: ResourceClass::of(version, resource),
        number,
        sub_type: Some(sub_type),
        other_type: None,
    }
}

/// What all board devices without a pool have in common.
const fn board(
    kind: DeviceKind,
    v1: (u16, &'static str),
    v2: (u16, &'static str),
    caption: &'static str,
    description: &'static str,
) -> ResourceType {
    let resource = Resource::Device(kind);
    ResourceType {
        resource,
        v1: naming(Version::V1, resource, v1),
        v2: naming(Version::V2, resource, v2),
        only_v2: false,
        caption,
        description,
        units: None,
        pool: None,
    }
}

/// A type that can be added, with its pool.
const fn pooled(
    resource: Resource,
    v1: (u16, &'static str),
    v2: (u16, &'static str),
    texts: (&'static str, &'static str, &'static str),
    pool: Pool,
) -> ResourceType {
    ResourceType {
        resource,
        v1: naming(Version::V1, resource, v1),
        v2: naming(Version::V2, resource, v2),
        only_v2: matches!(resource, Resource::EthernetConnection),
        caption: texts.0,
        description: texts.1,
        units: Some(texts.2),
        pool: Some(pool),
    }
}

/// Every type. Templates are listed in this order.
pub(crate) static TYPES: [ResourceType; 20] = [
    pooled(
        Resource::Memory,
        (4, "Microsoft Virtual Machine Memory"),
        (4, "Microsoft:Hyper-V:Memory"),
        (
            "Memory",
            "Settings for Microsoft Virtual Machine Memory.",
            "MB",
        ),
        Pool {
            guid: "4764334D-E001-4176-82EE-5594EC9B530E",
            id: "15129609-B465-4916-AA13-0CF4B109ADB0",
            name: "Memory Resource Pool",
            range: (8, None, 2),
        },
    ),
    pooled(
        Resource::Processor,
        (3, "Microsoft Processor"),
        (3, "Microsoft:Hyper-V:Processor"),
        (
            "Processor",
            "Settings for Microsoft Virtual Processor.",
            "Processor Cores",
        ),
        Pool {
            guid: "B637F346-6A0E-4DEC-AF52-BD70CB80A21D",
            id: "A4F3C4E4-5E15-4018-A713-96C2CFB4C9B8",
            name: "Processor Resource Pool",
            range: (1, Some(64), 1),
        },
    ),
    pooled(
        Resource::Device(DeviceKind::ScsiController),
        (6, "Microsoft Synthetic SCSI Controller"),
        (6, "Microsoft:Hyper-V:Synthetic SCSI Controller"),
        (
            "SCSI Controller",
            "Settings for the Microsoft Synthetic SCSI Controller.",
            "Controllers",
        ),
        Pool {
            guid: "BDE5D4D6-E450-46D2-B925-976CA3E989B4",
            id: "Microsoft:bde5d4d6-e450-46d2-b925-976ca3e989b4\\Root",
            name: "SCSI Controller Resource Pool",
            range: (0, Some(4), 1),
        },
    ),
    pooled(
        Resource::Device(DeviceKind::DiskDrive),
        (22, "Microsoft Synthetic Disk Drive"),
        (17, "Microsoft:Hyper-V:Synthetic Disk Drive"),
        (
            "Hard Drive",
            "Settings for the Microsoft Virtual Hard Drive.",
            "Hard Drives",
        ),
        Pool {
            guid: "118C3BE5-0D31-4804-85F0-5C6074ABEA8F",
            id: "Microsoft:118C3BE5-0D31-4804-85F0-5C6074ABEA8F\\Root",
            name: "Hard Drive Resource Pool",
            // Two IDE controllers of two slots, four SCSI controllers of 64.
            range: (0, Some(260), 1),
        },
    ),
    pooled(
        Resource::Device(DeviceKind::HardDiskImage),
        (21, "Microsoft Virtual Hard Disk"),
        (31, "Microsoft:Hyper-V:Virtual Hard Disk"),
        (
            "Hard Disk Image",
            "Settings for the Microsoft Hard Disk Image.",
            "Disks",
        ),
        Pool {
            guid: "70BB60D2-A9D3-46AA-B654-3DE53004B4F8",
            id: "Microsoft:70BB60D2-A9D3-46aa-B654-3DE53004B4F8\\Root",
            name: "Hard Disk Image Resource Pool",
            range: (0, Some(260), 1),
        },
    ),
    pooled(
        Resource::PhysicalDisk,
        (22, "Microsoft Physical Disk Drive"),
        (17, "Microsoft:Hyper-V:Physical Disk Drive"),
        (
            "Hard Drive",
            "Settings for the Microsoft Physical Hard Drive.",
            "Hard Drives",
        ),
        Pool {
            guid: "353B3BE8-310C-4CF4-839E-4E1B14616136",
            id: "Microsoft:353B3BE8-310C-4cf4-839E-4E1B14616136\\Root",
            name: "Physical Hard Drive Resource Pool",
            // A disk of the host cannot be frozen in a snapshot, so none can be allocated.
            range: (0, Some(0), 1),
        },
    ),
    pooled(
        Resource::Device(DeviceKind::DvdDrive),
        (16, "Microsoft Synthetic DVD Drive"),
        (16, "Microsoft:Hyper-V:Synthetic DVD Drive"),
        (
            "DVD Drive",
            "Settings for the Microsoft Virtual DVD Drive.",
            "DVD Drives",
        ),
        Pool {
            guid: "7951A5ED-8DC5-42D7-AA8C-9F14C54CEB84",
            id: "Microsoft:7951A5ED-8DC5-42d7-AA8C-9F14C54CEB84\\Root",
            name: "DVD Drive Resource Pool",
            range: (0, Some(260), 1),
        },
    ),
    pooled(
        Resource::Device(DeviceKind::IsoImage),
        (21, "Microsoft Virtual CD/DVD Disk"),
        (31, "Microsoft:Hyper-V:Virtual CD/DVD Disk"),
        (
            "ISO Disk Image",
            "Settings for the Microsoft ISO Disk Image.",
            "Disks",
        ),
        Pool {
            guid: "D92D268E-9AA8-49DD-8C7D-821CEFB5F597",
            id: "Microsoft:D92D268E-9AA8-49dd-8C7D-821CEFB5F597\\Root",
            name: "ISO Disk Image Resource Pool",
            range: (0, Some(260), 1),
        },
    ),
    pooled(
        Resource::Device(DeviceKind::EthernetPort),
        (10, "Microsoft Synthetic Ethernet Port"),
        (10, "Microsoft:Hyper-V:Synthetic Ethernet Port"),
        (
            "Ethernet Port",
            "Settings for the Microsoft Synthetic Ethernet Port.",
            "Ports",
        ),
        Pool {
            guid: "6A45335D-4C3A-44B7-B61F-C9808BBDF8ED",
            id: "Microsoft:6A45335D-4C3A-44b7-B61F-C9808BBDF8ED\\Root",
            name: "Ethernet Port Resource Pool",
            range: (0, Some(8), 1),
        },
    ),
    pooled(
        Resource::EthernetConnection,
        (33, "Microsoft:Hyper-V:Ethernet Connection"),
        (33, "Microsoft:Hyper-V:Ethernet Connection"),
        (
            "Ethernet Switch Port",
            "Settings for the connection of an Ethernet port.",
            "Ports",
        ),
        Pool {
            guid: "72027ECE-E44A-446E-AF2B-8D8C4B8A2279",
            id: "Microsoft:72027ECE-E44A-446E-AF2B-8D8C4B8A2279\\Root",
            name: "Ethernet Connection Resource Pool",
            range: (0, Some(8), 1),
        },
    ),
    board(
        DeviceKind::Keyboard,
        (13, "Microsoft Virtual Keyboard"),
        (13, "Microsoft:Hyper-V:Virtual Keyboard"),
        "Keyboard",
        "Settings for the Microsoft Virtual Keyboard.",
    ),
    board(
        DeviceKind::Ps2Mouse,
        (13, "Microsoft Virtual PS2 Mouse"),
        (13, "Microsoft:Hyper-V:Virtual PS2 Mouse"),
        "Mouse",
        "Settings for the Microsoft Virtual PS2 Mouse.",
    ),
    board(
        DeviceKind::S3Display,
        (20, "Microsoft S3 Display Controller"),
        (24, "Microsoft:Hyper-V:S3 Display Controller"),
        "Display Controller",
        "Settings for the Microsoft S3 Display Controller.",
    ),
    board(
        DeviceKind::DisketteDrive,
        (14, "Microsoft Synthetic Diskette Drive"),
        (14, "Microsoft:Hyper-V:Synthetic Diskette Drive"),
        "Diskette Drive",
        "Settings for the Microsoft Virtual Diskette Drive.",
    ),
    ResourceType {
        resource: Resource::Device(DeviceKind::DisketteController),
        v1: Naming {
            class: ResourceClass::Generic,
            number: 1,
            sub_type: None,
            other_type: Some("Microsoft Virtual Diskette Controller"),
        },
        v2: Naming {
            class: ResourceClass::Generic,
            number: 1,
            sub_type: None,
            other_type: Some("Microsoft:Hyper-V:Virtual Diskette Controller"),
        },
        only_v2: false,
        caption: "Diskette Controller",
        description: "Settings for the Microsoft Virtual Diskette Controller.",
        units: None,
        pool: None,
    },
    board(
        DeviceKind::SerialController,
        (17, "Microsoft Serial Controller"),
        (21, "Microsoft:Hyper-V:Serial Controller"),
        "Serial Controller",
        "Settings for the Microsoft Serial Controller.",
    ),
    board(
        DeviceKind::SerialPort,
        (17, "Microsoft Serial Port"),
        (21, "Microsoft:Hyper-V:Serial Port"),
        "Serial Port",
        "Settings for the Microsoft Serial Port.",
    ),
    board(
        DeviceKind::IdeController,
        (5, "Microsoft Emulated IDE Controller"),
        (5, "Microsoft:Hyper-V:Emulated IDE Controller"),
        "IDE Controller",
        "Settings for the Microsoft Emulated IDE Controller.",
    ),
    board(
        DeviceKind::SyntheticMouse,
        (13, "Microsoft Synthetic Mouse"),
        (13, "Microsoft:Hyper-V:Synthetic Mouse"),
        "Mouse",
        "Settings for the Microsoft Synthetic Mouse.",
    ),
    board(
        DeviceKind::SyntheticDisplay,
        (20, "Microsoft Synthetic Display Controller"),
        (24, "Microsoft:Hyper-V:Synthetic Display Controller"),
        "Display Controller",
        "Settings for the Microsoft Synthetic Display Controller.",
    ),
];

impl ResourceType {
    /// The row of a device.
    pub(crate) fn of_device(kind: DeviceKind) -> &'static ResourceType {
        Self::of(Resource::Device(kind))
    }

    /// The row of a resource.
    pub(crate) fn of(resource: Resource) -> &'static ResourceType {
        TYPES
            .iter()
            .find(|row| row.resource == resource)
            // The test below walks every kind.
            .unwrap_or(&TYPES[0])
    }

    /// The rows that a version has with a pool and templates.
    pub(crate) fn pooled(
        version: Version,
    ) -> impl Iterator<Item = (&'static ResourceType, &'static Pool)> {
        TYPES
            .iter()
            .filter(move |row| row.exists(version))
            .filter_map(|row| row.pool.as_ref().map(|pool| (row, pool)))
    }

    fn exists(&self, version: Version) -> bool {
        version == Version::V2 || !self.only_v2
    }

    /// What the type is called in a version.
    pub(crate) const fn naming(&self, version: Version) -> &Naming {
        match version {
            Version::V1 => &self.v1,
            Version::V2 => &self.v2,
        }
    }

    /// The row that a client's setting names: by sub type where there is one, else by the
    /// free-text type.
    pub(crate) fn named(
        version: Version,
        sub_type: Option<&str>,
        other_type: Option<&str>,
    ) -> Option<&'static ResourceType> {
        let given = |text: Option<&str>| {
            text.map(str::trim)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        let by = |name: &str, own: fn(&Naming) -> Option<&'static str>| {
            TYPES.iter().find(|row| {
                row.exists(version)
                    && own(row.naming(version)).is_some_and(|own| own.eq_ignore_ascii_case(name))
            })
        };
        match (given(sub_type), given(other_type)) {
            (Some(name), _) => by(&name, |naming| naming.sub_type),
            (None, Some(name)) => by(&name, |naming| naming.other_type),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_device_has_a_row() {
        use DeviceKind::*;
        for kind in [
            Keyboard,
            Ps2Mouse,
            S3Display,
            DisketteDrive,
            DisketteController,
            SerialController,
            SerialPort,
            IdeController,
            ScsiController,
            DiskDrive,
            DvdDrive,
            HardDiskImage,
            IsoImage,
            SyntheticMouse,
            SyntheticDisplay,
            EthernetPort,
        ] {
            let row = ResourceType::of_device(kind);
            assert_eq!(row.resource, Resource::Device(kind));
        }
        for resource in [
            Resource::Memory,
            Resource::Processor,
            Resource::PhysicalDisk,
            Resource::EthernetConnection,
        ] {
            assert_eq!(ResourceType::of(resource).resource, resource);
        }
    }

    #[test]
    fn a_setting_names_its_row_by_either_type() {
        let by_name =
            |sub, other| ResourceType::named(Version::V1, sub, other).map(|row| row.resource);
        assert_eq!(
            by_name(Some("microsoft synthetic disk drive"), None),
            Some(Resource::Device(DeviceKind::DiskDrive))
        );
        assert_eq!(
            by_name(Some(""), Some("Microsoft Virtual Diskette Controller")),
            Some(Resource::Device(DeviceKind::DisketteController))
        );
        assert_eq!(by_name(Some("Microsoft Teapot"), None), None);
        assert_eq!(by_name(None, None), None);
    }
    #[test]
    fn a_version_knows_its_own_names_alone() {
        let drive = "Microsoft:Hyper-V:Synthetic Disk Drive";
        let of = |version, name| ResourceType::named(version, Some(name), None).is_some();
        assert!(of(Version::V2, drive) && !of(Version::V1, drive));
        assert!(of(Version::V2, "Microsoft:Hyper-V:Ethernet Connection"));
        assert!(!of(Version::V1, "Microsoft:Hyper-V:Ethernet Connection"));
        assert!(!of(Version::V2, "Microsoft Synthetic Disk Drive"));
    }
}
