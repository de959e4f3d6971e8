//! Resource settings: the devices, memory and processors of every configuration, and the templates
//! that clients copy new ones from.

use super::texts;
use crate::host::Host;
use crate::resource_types::{Bound, Pool, Resource, ResourceType};
use crate::subject::{Configuration, Part, Subject, template_id};
use crate::version::Version;
use cim::instance::InstanceBuilder;
use cim::{CimError, Instance, Value};
use machines::model::{Device, DeviceKind, MemorySettings, ProcessorSettings, Settings};

/// "Virtualized", which only memory and processors say.
const VIRTUALIZED: u16 = 3;
/// The largest processor reservation and limit: all of every processor.
const WHOLE_PROCESSORS: u64 = 100_000;
/// The largest share of memory or of processors.
const LARGEST_WEIGHT: u32 = 10_000;

/// What settings and templates of a type have in common.
fn common<'a>(
    version: Version,
    row: &ResourceType,
    new: InstanceBuilder<'a>,
) -> InstanceBuilder<'a> {
    let naming = row.naming(version);
    new.set("Caption", row.caption)
        .set("Description", row.description)
        .set("ElementName", row.caption)
        .set("ResourceType", naming.number)
        .set("OtherResourceType", naming.other_type)
        .set("ResourceSubType", naming.sub_type)
        .set("PoolID", row.pool.as_ref().map(|pool| pool.id))
        .set("AllocationUnits", row.units)
        .set("AutomaticAllocation", true)
        .set("AutomaticDeallocation", true)
}

/// How much there is, and what is reserved.
struct Amount {
    quantity: u64,
    reservation: u64,
    limit: u64,
    weight: u32,
}

impl Amount {
    const fn each(quantity: u64) -> Self {
        Amount {
            quantity,
            reservation: quantity,
            limit: quantity,
            weight: 0,
        }
    }

    fn fill(self, new: InstanceBuilder<'_>) -> InstanceBuilder<'_> {
        new.set("VirtualQuantity", self.quantity)
            .set("Reservation", self.reservation)
            .set("Limit", self.limit)
            .set("Weight", self.weight)
    }
}

fn fill_memory<'a>(memory: &MemorySettings, new: InstanceBuilder<'a>) -> InstanceBuilder<'a> {
    let amount = Amount {
        quantity: memory.quantity_mib,
        reservation: memory.reservation_mib,
        limit: memory.limit_mib,
        weight: memory.weight,
    };
    amount
        .fill(new)
        .set("ConsumerVisibility", VIRTUALIZED)
        .set_if_declared("IsVirtualized", true)
        .set("DynamicMemoryEnabled", memory.dynamic_memory)
        .set("TargetMemoryBuffer", memory.target_buffer)
}

fn fill_processor<'a>(
    processor: &ProcessorSettings,
    new: InstanceBuilder<'a>,
) -> InstanceBuilder<'a> {
    let amount = Amount {
        quantity: processor.count.into(),
        reservation: processor.reservation,
        limit: processor.limit,
        weight: processor.weight,
    };
    amount
        .fill(new)
        .set("ConsumerVisibility", VIRTUALIZED)
        .set_if_declared("IsVirtualized", true)
        .set_if_declared("ProcessorsPerSocket", 1u16)
        .set_if_declared("SocketCount", 1u16)
        .set("LimitCPUID", processor.limit_cpuid)
        .set("LimitProcessorFeatures", processor.limit_features)
}

impl Host {
    pub(crate) fn resource_instance(
        &self,
        of: &Configuration,
        part: Part,
    ) -> Result<Instance, CimError> {
        let row = of.part_type(part);
        let id = format!("{}\\{}", of.instance_id(), of.part_id(part));
        self.named(row.naming(self.version).class.name(), |new| {
            let new = common(self.version, row, new).set("InstanceID", id);
            let settings = of.settings();
            match part {
                Part::Memory => fill_memory(&settings.memory, new),
                Part::Processor => fill_processor(&settings.processor, new),
                Part::Device(index) => self.fill_device(of, settings, index, new),
                Part::Connection(index) => self.fill_connection(of, settings, index, new),
            }
        })
    }

    fn fill_device<'a>(
        &self,
        of: &Configuration,
        settings: &Settings,
        index: usize,
        new: InstanceBuilder<'a>,
    ) -> InstanceBuilder<'a> {
        let Some(device) = settings.devices.get(index) else {
            return new;
        };
        let parent = device
            .parent
            .as_ref()
            .and_then(|parent| of.find_device(parent))
            .map(|part| self.path(&Subject::Resource(of.clone(), part)).to_string());
        let connection = (!device.connection.is_empty()).then(|| texts(&device.connection));
        let connection = match (self.version, device.kind) {
            (Version::V2, DeviceKind::EthernetPort) => None,
            _ => connection,
        };
        let connection = connection.unwrap_or(Value::Null);
        let identifiers = (!device.identifiers.is_empty()).then(|| texts(&device.identifiers));
        let places = places(self.version, device);
        Amount::each(1)
            .fill(new)
            .set("ElementName", device.name.as_str())
            .set("Address", places.address)
            .set_if_declared("AddressOnParent", places.on_parent)
            .set("Parent", parent)
            .set(places.medium, connection)
            .set_if_declared(
                "VirtualSystemIdentifiers",
                identifiers.unwrap_or(Value::Null),
            )
            .set_if_declared("StaticMacAddress", device.static_mac)
    }

    /// Where a network port leads, which V1 says at the port.
    fn fill_connection<'a>(
        &self,
        of: &Configuration,
        settings: &Settings,
        index: usize,
        new: InstanceBuilder<'a>,
    ) -> InstanceBuilder<'a> {
        let Some(port) = settings.devices.get(index) else {
            return new;
        };
        let parent = Subject::Resource(of.clone(), Part::Device(index));
        Amount::each(1)
            .fill(new)
            .set("ElementName", port.name.as_str())
            .set("Address", port.address.as_deref())
            .set("Parent", self.path(&parent).to_string())
            .set("HostResource", texts(&port.connection))
            .set("EnabledState", 2u16)
    }

    pub(crate) fn template_instance(
        &self,
        row: &ResourceType,
        pool: &Pool,
        bound: Bound,
    ) -> Result<Instance, CimError> {
        self.named(row.naming(self.version).class.name(), |new| {
            let new = common(self.version, row, new).set("InstanceID", template_id(pool, bound));
            match row.resource {
                Resource::Memory => fill_memory(&memory_template(pool, bound), new),
                Resource::Processor => fill_processor(&processor_template(pool, bound), new),
                Resource::PhysicalDisk | Resource::EthernetConnection | Resource::Device(_) => {
                    device_template(row, pool, bound, new)
                }
            }
        })
    }
}

/// Which properties say where a device is, and what is in it.
struct Places<'a> {
    address: Option<&'a str>,
    /// V2 only.
    on_parent: Option<&'a str>,
    /// Of the file, or of where a port leads.
    medium: &'static str,
}

/// V2 calls the slot of what sits on something `AddressOnParent`, and what the host gives to a
/// device `HostResource`; where a network port leads is shown by a resource of its own.
fn places(version: Version, device: &Device) -> Places<'_> {
    let address = device.address.as_deref();
    let (address, on_parent, medium) = match (version, device.kind) {
        (Version::V1, _) => (address, None, "Connection"),
        (_, DeviceKind::HardDiskImage | DeviceKind::IsoImage) => (None, address, "HostResource"),
        (_, _) if device.parent.is_some() => (None, address, "Connection"),
        (_, _) => (address, None, "Connection"),
    };
    Places {
        address,
        on_parent,
        medium,
    }
}

/// A bound of a range: the default is `default`.
fn at(bound: Bound, default: u64, (least, most, step): (u64, u64, u64)) -> u64 {
    match bound {
        Bound::Default => default,
        Bound::Minimum => least,
        Bound::Maximum => most,
        Bound::Increment => step,
    }
}

fn weight_at(bound: Bound, default: u32) -> u32 {
    match bound {
        Bound::Default => default,
        Bound::Minimum | Bound::Increment => 1,
        Bound::Maximum => LARGEST_WEIGHT,
    }
}

fn memory_template(pool: &Pool, bound: Bound) -> MemorySettings {
    let (least, most, step) = pool.range;
    let range = (least, most.unwrap_or_else(host_memory_mib), step);
    let mib = at(bound, 512, range);
    MemorySettings {
        quantity_mib: mib,
        reservation_mib: mib,
        limit_mib: mib,
        weight: weight_at(bound, 5000),
        dynamic_memory: false,
        target_buffer: 20,
    }
}

fn processor_template(pool: &Pool, bound: Bound) -> ProcessorSettings {
    let (least, most, step) = pool.range;
    let count = at(bound, 1, (least, most.unwrap_or(1), step));
    let share = |default| at(bound, default, (0, WHOLE_PROCESSORS, 1));
    ProcessorSettings {
        count: u32::try_from(count).unwrap_or(u32::MAX),
        reservation: share(0),
        limit: share(WHOLE_PROCESSORS),
        weight: weight_at(bound, 100),
        limit_cpuid: false,
        limit_features: false,
    }
}

fn device_template<'a>(
    row: &ResourceType,
    pool: &Pool,
    bound: Bound,
    new: InstanceBuilder<'a>,
) -> InstanceBuilder<'a> {
    let (least, most, step) = pool.range;
    let amount = Amount::each(at(bound, 1, (least, most.unwrap_or(1), step)));
    let new = amount.fill(new);
    match row.resource {
        Resource::Device(DeviceKind::EthernetPort) => new.set("StaticMacAddress", false),
        _ => new,
    }
}

/// Memory of this computer; what a machine can have at most.
pub(super) fn host_memory_mib() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    info.lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse::<u64>().ok())
        .map_or(0, |kib| kib / 1024)
}

/// Whether the medium in the drive can be written.
pub(super) const fn is_read_only(kind: DeviceKind) -> bool {
    matches!(kind, DeviceKind::IsoImage)
}
