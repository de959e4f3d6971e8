//! Add-, Modify- and RemoveVirtualSystemResources, and how embedded resource settings become
//! requests.

use super::arguments::{Given, instances, references};
use super::{Answer, Outcome, Refusal};
use crate::host::Host;
use crate::resource_types::{Resource, ResourceClass, ResourceType};
use crate::subject::{Configuration, InstanceId, Part, Subject, single_backslashes};
use crate::version::Version;
use cim::{Instance, ObjectPath, Value};
use cim_broker::Arguments;
use machines::model::{Device, DeviceKind, Machine};
use machines::request::{Actor, NewDevice, ResourceChange};
use machines::{DeviceId, MachineId};
use std::sync::Arc;

/// Requests that settings were read as.
#[derive(Default)]
pub(super) struct Resources {
    pub changes: Vec<ResourceChange>,
    pub devices: Vec<NewDevice>,
}

/// One of them.
pub(super) enum Change {
    Resource(ResourceChange),
    Device(NewDevice),
}

/// What kind of resource a setting is about: by its class where that says it, else by its types.
pub(super) fn resource_type(
    version: Version,
    given: &Instance,
) -> Result<&'static ResourceType, Refusal> {
    let of_class = match ResourceClass::from_name(version, given.class.as_str()) {
        Some(ResourceClass::Memory) => Some(Resource::Memory),
        Some(ResourceClass::Processor) => Some(Resource::Processor),
        Some(ResourceClass::EthernetPort) => Some(Resource::Device(DeviceKind::EthernetPort)),
        Some(ResourceClass::EthernetConnection) => Some(Resource::EthernetConnection),
        Some(ResourceClass::SyntheticDisplay) => {
            Some(Resource::Device(DeviceKind::SyntheticDisplay))
        }
        Some(ResourceClass::Generic | ResourceClass::Storage) => None,
        None => {
            return Err(Refusal::unsupported(format!(
                "Resources of the class {} are not supported.",
                given.class
            )));
        }
    };
    if let Some(resource) = of_class {
        return Ok(ResourceType::of(resource));
    }
    let sub_type = Given(given).text("ResourceSubType")?;
    let other_type = Given(given).text("OtherResourceType")?;
    let row = ResourceType::named(version, sub_type.as_deref(), other_type.as_deref());
    row.ok_or_else(|| {
        Refusal::invalid(format!(
            "ResourceSubType {} names no kind of resource.",
            sub_type
                .or(other_type)
                .unwrap_or_else(|| "(none)".to_owned())
        ))
    })
}

fn memory_change(given: &Given<'_>) -> Result<ResourceChange, Refusal> {
    Ok(ResourceChange::Memory {
        quantity_mib: given.number("VirtualQuantity")?,
        reservation_mib: given.number("Reservation")?,
        limit_mib: given.number("Limit")?,
        weight: given.number32("Weight")?,
        dynamic_memory: given.flag("DynamicMemoryEnabled")?,
        target_buffer: given.number32("TargetMemoryBuffer")?,
    })
}

fn processor_change(given: &Given<'_>) -> Result<ResourceChange, Refusal> {
    Ok(ResourceChange::Processor {
        count: given.number("VirtualQuantity")?,
        reservation: given.number("Reservation")?,
        limit: given.number("Limit")?,
        weight: given.number32("Weight")?,
        limit_cpuid: given.flag("LimitCPUID")?,
        limit_features: given.flag("LimitProcessorFeatures")?,
    })
}

/// The device that `Parent` names, within `machine`. Whether it is there is the domain's to say:
/// it may come to be in the same request.
pub(super) fn parent(
    version: Version,
    given: &Given<'_>,
    machine: Option<MachineId>,
) -> Result<Option<DeviceId>, Refusal> {
    let Some(text) = given.text("Parent")?.filter(|text| !text.trim().is_empty()) else {
        return Ok(None);
    };
    let no_parent = |why: &str| Refusal::invalid(format!("Parent {text}: {why}."));
    let path = ObjectPath::parse(&text).map_err(|error| no_parent(&error.to_string()))?;
    if ResourceClass::from_name(version, path.class.as_str()).is_none() {
        return Err(no_parent("it names no resource"));
    }
    let id = path.key_str("InstanceID").map(single_backslashes);
    match id.as_deref().and_then(InstanceId::parse) {
        Some(InstanceId::Within(guid, device)) => {
            if machine.is_some_and(|machine| machine.0 != guid) {
                return Err(no_parent("it belongs to another configuration"));
            }
            Ok(Some(DeviceId(device.to_owned())))
        }
        _ => Err(no_parent("it names no resource of a virtual machine")),
    }
}

/// Where a setting says that a device is: V2 has a property of its own for the slot on a parent.
fn address(version: Version, given: &Given<'_>) -> Result<Option<String>, Refusal> {
    if version == Version::V2
        && let Some(slot) = given.text("AddressOnParent")?
    {
        return Ok(Some(slot));
    }
    given.text("Address")
}

/// Which property names the file of a medium.
fn medium(version: Version, kind: DeviceKind) -> &'static str {
    match (version, kind) {
        (Version::V2, DeviceKind::HardDiskImage | DeviceKind::IsoImage) => "HostResource",
        _ => "Connection",
    }
}

fn new_device(
    version: Version,
    given: &Instance,
    row: &ResourceType,
    machine: Option<MachineId>,
) -> Result<NewDevice, Refusal> {
    let kind = match row.resource {
        Resource::Device(kind) => kind,
        Resource::PhysicalDisk => {
            return Err(Refusal::unsupported(
                "A disk of the host cannot be handed to a virtual machine: snapshots could not \
                 hold it.",
            ));
        }
        Resource::EthernetConnection => {
            return Err(Refusal::invalid(
                "A connection is made at a port that is there; add the port first.",
            ));
        }
        Resource::Memory | Resource::Processor => {
            return Err(Refusal::invalid(
                "Every virtual machine has memory and processors already; modify those.",
            ));
        }
    };
    let given = Given(given);
    let medium = medium(version, kind);
    let host_resource = given.texts("HostResource")?.unwrap_or_default();
    if medium != "HostResource" && host_resource.iter().any(|path| !path.trim().is_empty()) {
        return Err(Refusal::unsupported(
            "Devices of the host cannot be handed to a virtual machine.",
        ));
    }
    // InstanceID still names the template that the client copied; a new one is made.
    Ok(NewDevice {
        kind,
        name: given.text("ElementName")?,
        parent: parent(version, &given, machine)?,
        address: address(version, &given)?,
        connection: given.texts(medium)?.unwrap_or_default(),
        static_mac: given.flag("StaticMacAddress")?,
        identifiers: given.texts("VirtualSystemIdentifiers")?.unwrap_or_default(),
    })
}

impl Host {
    /// A setting that goes with a new machine.
    pub(super) fn change_in_new(&self, given: &Instance) -> Result<Change, Refusal> {
        let row = resource_type(self.version, given)?;
        Ok(match row.resource {
            Resource::Memory => Change::Resource(memory_change(&Given(given))?),
            Resource::Processor => Change::Resource(processor_change(&Given(given))?),
            _ => Change::Device(new_device(self.version, given, row, None)?),
        })
    }

    pub(super) async fn add_resources(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let machine = self.machine(arguments, "TargetSystem")?;
        let settings = some_instances(arguments, "ResourceSettingData")?;
        let paths = self.add_devices(actor, &machine, settings).await?;
        Ok(Answer::completed().with("NewResources", Value::Array(paths)))
    }

    /// Adds devices, all or none; answers their paths.
    pub(super) async fn add_devices(
        &self,
        actor: &Actor,
        machine: &Arc<Machine>,
        settings: Vec<&Instance>,
    ) -> Result<Vec<Value>, Refusal> {
        let devices = settings
            .into_iter()
            .map(|given| {
                let row = resource_type(self.version, given)?;
                new_device(self.version, given, row, Some(machine.id))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let added = self
            .machines
            .add_devices(actor, machine.id, devices)
            .await?;
        let machine = self
            .machines
            .machine(machine.id)
            .ok_or(machines::Error::NoSuchMachine(machine.id))?;
        let of = Configuration::Active(machine);
        added
            .into_iter()
            .map(|id| {
                let part = of
                    .find_device(&id)
                    .ok_or(machines::Error::NoSuchDevice(id))?;
                Ok(self.path(&Subject::Resource(of.clone(), part)).into())
            })
            .collect()
    }

    pub(super) async fn modify_resources(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let machine = self.machine(arguments, "ComputerSystem")?;
        let settings = some_instances(arguments, "ResourceSettingData")?;
        let changes = settings
            .into_iter()
            .map(|given| {
                let (of, part) = self.resource_to_modify(given)?;
                if of.machine().id != machine.id {
                    return Err(foreign(given));
                }
                self.change_of(&of, part, given)
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.machines
            .modify_resources(actor, machine.id, changes)
            .await?;
        Ok(Answer::completed())
    }

    /// The resource of an active configuration that a setting is about.
    pub(super) fn resource_to_modify(
        &self,
        given: &Instance,
    ) -> Result<(Configuration, Part), Refusal> {
        let id = Given(given).text("InstanceID")?.ok_or_else(|| {
            Refusal::invalid("InstanceID says which resource is meant; it is missing.")
        })?;
        match self.resolve_instance_id(given.class.as_str(), &id) {
            Some(Subject::Resource(of @ Configuration::Active(_), part)) => Ok((of, part)),
            Some(Subject::Resource(Configuration::Snapshot(..), _)) => Err(Refusal::invalid(
                format!("{id} belongs to a snapshot, whose resources do not change."),
            )),
            _ => Err(Refusal::invalid(format!(
                "There is no {} {id}.",
                given.class
            ))),
        }
    }

    /// The change that a setting asks for in a resource.
    pub(super) fn change_of(
        &self,
        of: &Configuration,
        part: Part,
        given: &Instance,
    ) -> Result<ResourceChange, Refusal> {
        let properties = Given(given);
        match part {
            Part::Memory => memory_change(&properties),
            Part::Processor => processor_change(&properties),
            Part::Device(index) => {
                let device = device_at(of, index)?;
                Ok(ResourceChange::Device {
                    id: device.id.clone(),
                    name: properties.text("ElementName")?,
                    parent: parent(self.version, &properties, Some(of.machine().id))?,
                    address: address(self.version, &properties)?,
                    connection: properties.texts(medium(self.version, device.kind))?,
                    static_mac: properties.flag("StaticMacAddress")?,
                })
            }
            Part::Connection(index) => {
                let connection = properties.texts("HostResource")?;
                Ok(connect(device_at(of, index)?, connection))
            }
        }
    }

    pub(super) async fn remove_resources(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let machine = self.machine(arguments, "TargetSystem")?;
        let devices = some_references(arguments, "ResourceSettingData")?
            .iter()
            .map(|path| {
                let (of, device) = self.device_to_remove(path)?;
                if of.machine().id != machine.id {
                    return Err(Refusal::invalid(format!(
                        "{}: it belongs to another virtual machine.",
                        path.relpath()
                    )));
                }
                Ok(device)
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.machines
            .remove_devices(actor, machine.id, devices)
            .await?;
        Ok(Answer::completed())
    }

    /// The device that a path names, and the configuration it is in.
    pub(super) fn device_to_remove(
        &self,
        path: &ObjectPath,
    ) -> Result<(Configuration, DeviceId), Refusal> {
        let refused = |why: &str| Refusal::invalid(format!("{}: {why}.", path.relpath()));
        match self.resolve(path) {
            Some(Subject::Resource(of @ Configuration::Active(_), part)) => match part {
                Part::Device(index) => {
                    let id = device_at(&of, index)?.id.clone();
                    Ok((of, id))
                }
                Part::Connection(_) => Err(refused("the connection goes with its port")),
                Part::Memory | Part::Processor => {
                    Err(refused("memory and processors cannot be removed"))
                }
            },
            Some(Subject::Resource(Configuration::Snapshot(..), _)) => Err(refused(
                "it belongs to a snapshot, whose resources do not change",
            )),
            _ => Err(refused("there is no such resource")),
        }
    }
}

fn foreign(given: &Instance) -> Refusal {
    let id = given.str("InstanceID").unwrap_or_default();
    Refusal::invalid(format!("{id} belongs to another virtual machine."))
}

pub(super) fn device_at(of: &Configuration, index: usize) -> Result<&Device, Refusal> {
    let device = of.device(index);
    device.ok_or_else(|| Refusal::invalid("There is no such resource."))
}

/// The change that lets a network port lead somewhere.
pub(super) fn connect(port: &Device, connection: Option<Vec<String>>) -> ResourceChange {
    ResourceChange::Device {
        id: port.id.clone(),
        name: None,
        parent: None,
        address: None,
        connection,
        static_mac: None,
    }
}

/// The embedded instances of an argument that must hold some.
pub(super) fn some_instances<'a>(
    arguments: &'a Arguments,
    name: &str,
) -> Result<Vec<&'a Instance>, Refusal> {
    match instances(arguments, name)? {
        none if none.is_empty() => Err(Refusal::invalid(format!("{name} is missing."))),
        some => Ok(some),
    }
}

/// The references of an argument that must hold some.
pub(super) fn some_references(
    arguments: &Arguments,
    name: &str,
) -> Result<Vec<ObjectPath>, Refusal> {
    match references(arguments, name)? {
        Some(paths) if !paths.is_empty() => Ok(paths),
        _ => Err(Refusal::invalid(format!("{name} is missing."))),
    }
}
