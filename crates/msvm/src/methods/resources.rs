//! Add-, Modify- and RemoveVirtualSystemResources, and how embedded resource settings become
//! requests.

use super::arguments::{Given, instances, references};
use super::{Answer, Outcome, Refusal};
use crate::host::Host;
use crate::resource_types::{Resource, ResourceClass, ResourceType};
use crate::subject::{Configuration, InstanceId, Part, Subject, single_backslashes};
use cim::{Instance, ObjectPath, Value};
use cim_broker::Arguments;
use machines::model::{DeviceKind, Machine};
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
fn resource_type(given: &Instance) -> Result<&'static ResourceType, Refusal> {
    let of_class = match ResourceClass::from_name(given.class.as_str()) {
        Some(ResourceClass::Memory) => Some(Resource::Memory),
        Some(ResourceClass::Processor) => Some(Resource::Processor),
        Some(ResourceClass::EthernetPort) => Some(Resource::Device(DeviceKind::EthernetPort)),
        Some(ResourceClass::Generic) => None,
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
    let row = ResourceType::named(sub_type.as_deref(), other_type.as_deref());
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
fn parent(given: &Given<'_>, machine: Option<MachineId>) -> Result<Option<DeviceId>, Refusal> {
    let Some(text) = given.text("Parent")?.filter(|text| !text.trim().is_empty()) else {
        return Ok(None);
    };
    let no_parent = |why: &str| Refusal::invalid(format!("Parent {text}: {why}."));
    let path = ObjectPath::parse(&text).map_err(|error| no_parent(&error.to_string()))?;
    if ResourceClass::from_name(path.class.as_str()).is_none() {
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

fn new_device(
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
        Resource::Memory | Resource::Processor => {
            return Err(Refusal::invalid(
                "Every virtual machine has memory and processors already; modify those.",
            ));
        }
    };
    let given = Given(given);
    let host_resource = given.texts("HostResource")?.unwrap_or_default();
    if host_resource.iter().any(|path| !path.trim().is_empty()) {
        return Err(Refusal::unsupported(
            "Devices of the host cannot be handed to a virtual machine.",
        ));
    }
    // InstanceID still names the template that the client copied; a new one is made.
    Ok(NewDevice {
        kind,
        name: given.text("ElementName")?,
        parent: parent(&given, machine)?,
        address: given.text("Address")?,
        connection: given.texts("Connection")?.unwrap_or_default(),
        static_mac: given.flag("StaticMacAddress")?,
        identifiers: given.texts("VirtualSystemIdentifiers")?.unwrap_or_default(),
    })
}

impl Host {
    /// A setting that goes with a new machine.
    pub(super) fn change_in_new(&self, given: &Instance) -> Result<Change, Refusal> {
        let row = resource_type(given)?;
        Ok(match row.resource {
            Resource::Memory => Change::Resource(memory_change(&Given(given))?),
            Resource::Processor => Change::Resource(processor_change(&Given(given))?),
            _ => Change::Device(new_device(given, row, None)?),
        })
    }

    pub(super) async fn add_resources(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let machine = self.machine(arguments, "TargetSystem")?;
        let settings = instances(arguments, "ResourceSettingData")?;
        if settings.is_empty() {
            return Err(Refusal::invalid("ResourceSettingData is missing."));
        }
        let devices = settings
            .into_iter()
            .map(|given| new_device(given, resource_type(given)?, Some(machine.id)))
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
        let paths = added
            .into_iter()
            .map(|id| {
                let part = of
                    .find_device(&id)
                    .ok_or(machines::Error::NoSuchDevice(id))?;
                Ok(self.path(&Subject::Resource(of.clone(), part)).into())
            })
            .collect::<Result<Vec<Value>, Refusal>>()?;
        Ok(Answer::completed().with("NewResources", Value::Array(paths)))
    }

    pub(super) async fn modify_resources(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let machine = self.machine(arguments, "ComputerSystem")?;
        let settings = instances(arguments, "ResourceSettingData")?;
        if settings.is_empty() {
            return Err(Refusal::invalid("ResourceSettingData is missing."));
        }
        let changes = settings
            .into_iter()
            .map(|given| self.change_in_machine(&machine, given))
            .collect::<Result<Vec<_>, _>>()?;
        self.machines
            .modify_resources(actor, machine.id, changes)
            .await?;
        Ok(Answer::completed())
    }

    fn change_in_machine(
        &self,
        machine: &Arc<Machine>,
        given: &Instance,
    ) -> Result<ResourceChange, Refusal> {
        let properties = Given(given);
        let id = properties.text("InstanceID")?.ok_or_else(|| {
            Refusal::invalid("InstanceID says which resource is meant; it is missing.")
        })?;
        let found = self.resolve_instance_id(given.class.as_str(), &id);
        let (of, part) = match found {
            Some(Subject::Resource(of @ Configuration::Active(_), part)) => (of, part),
            Some(Subject::Resource(Configuration::Snapshot(..), _)) => {
                return Err(Refusal::invalid(format!(
                    "{id} belongs to a snapshot, whose resources do not change."
                )));
            }
            _ => {
                return Err(Refusal::invalid(format!(
                    "There is no {} {id}.",
                    given.class
                )));
            }
        };
        if of.machine().id != machine.id {
            return Err(Refusal::invalid(format!(
                "{id} belongs to another virtual machine."
            )));
        }
        match part {
            Part::Memory => memory_change(&properties),
            Part::Processor => processor_change(&properties),
            Part::Device(index) => {
                let device = of
                    .device(index)
                    .ok_or_else(|| Refusal::invalid(format!("There is no {id}.")))?;
                Ok(ResourceChange::Device {
                    id: device.id.clone(),
                    name: properties.text("ElementName")?,
                    parent: parent(&properties, Some(machine.id))?,
                    address: properties.text("Address")?,
                    connection: properties.texts("Connection")?,
                    static_mac: properties.flag("StaticMacAddress")?,
                })
            }
        }
    }

    pub(super) async fn remove_resources(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let machine = self.machine(arguments, "TargetSystem")?;
        let paths = references(arguments, "ResourceSettingData")?.unwrap_or_default();
        if paths.is_empty() {
            return Err(Refusal::invalid("ResourceSettingData is missing."));
        }
        let devices = paths
            .iter()
            .map(|path| self.device_to_remove(&machine, path))
            .collect::<Result<Vec<_>, _>>()?;
        self.machines
            .remove_devices(actor, machine.id, devices)
            .await?;
        Ok(Answer::completed())
    }

    fn device_to_remove(
        &self,
        machine: &Arc<Machine>,
        path: &ObjectPath,
    ) -> Result<DeviceId, Refusal> {
        let refused = |why: &str| Refusal::invalid(format!("{}: {why}.", path.relpath()));
        match self.resolve(path) {
            Some(Subject::Resource(of @ Configuration::Active(_), part)) => {
                if of.machine().id != machine.id {
                    return Err(refused("it belongs to another virtual machine"));
                }
                match part {
                    Part::Device(index) => of
                        .device(index)
                        .map(|device| device.id.clone())
                        .ok_or_else(|| refused("there is no such resource")),
                    Part::Memory | Part::Processor => {
                        Err(refused("memory and processors cannot be removed"))
                    }
                }
            }
            Some(Subject::Resource(Configuration::Snapshot(..), _)) => Err(refused(
                "it belongs to a snapshot, whose resources do not change",
            )),
            _ => Err(refused("there is no such resource")),
        }
    }
}
